/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_gemm_plan.c: which kernel makes a product, and what that is predicted to cost.
 *
 * How a sum is formed (docs/NUMERICS.md, 3.1, 3.3, 3.9) is a function of the types, the extents of
 * scales and zero points, k, and the device alone; tiles and splits, which follow from everything
 * else, change no bit.
 */
#include "cuda/cu_gemm_plan.h"

#include "ops/dtype.h"

/* Blocks of a launch, at most: the rest is a loop's. */
#define MOST_BLOCKS ((int64_t)1 << 20)

static bool present(const tn_gemm_problem *p, int role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

static tenon_status refuse(const tn_gemm_problem *p, tn_message *why) {
    static const char *const names[] = {"a",        "b",       "c",      "bias",
                                        "residual", "a_scale", "a_zero", "b_scale",
                                        "b_zero",   "c_scale", "c_zero"};
    for (int role = TN_GEMM_A; role <= TN_GEMM_C_ZERO; role++) {
        const tenon_dtype type = p->operand[role].dtype;
        if (type > TENON_BOOL && role != TN_GEMM_B)
            return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s.dtype is %s: not yet on this device",
                           names[role], tenon_dtype_name(type));
    }
    return TENON_OK;
}

/* ---- facts of a product */

static bool integer(tenon_dtype type) {
    return type == TENON_S8 || type == TENON_U8;
}

/* Whether a role is absent, or the same for all of k. */
static bool constant(const tn_gemm_problem *p, int role) {
    return !present(p, role) || p->group[role] >= p->k;
}

/* Whether scales can wait for the sum. */
static bool scales_wait(const tn_gemm_problem *p) {
    return constant(p, TN_GEMM_A_SCALE) && constant(p, TN_GEMM_B_SCALE);
}

static bool zeros_wait(const tn_gemm_problem *p) {
    return constant(p, TN_GEMM_A_ZERO) && constant(p, TN_GEMM_B_ZERO);
}

static bool byte_zero(const tn_gemm_problem *p, int role) {
    return !present(p, role) || integer(p->operand[role].dtype);
}

/* Integers with scales whose sum is exact before they are scaled. */
static bool scaled_integers(const tn_gemm_problem *p) {
    return p->accumulate == TENON_F32 && integer(p->operand[TN_GEMM_A].dtype) &&
           integer(p->operand[TN_GEMM_B].dtype) && scales_wait(p) && byte_zero(p, TN_GEMM_A_ZERO) &&
           byte_zero(p, TN_GEMM_B_ZERO);
}

/* Integers without scales whose zero points, of bytes, are the same for all of k. */
static bool whole_integers(const tn_gemm_problem *p) {
    return p->accumulate == TENON_S32 && byte_zero(p, TN_GEMM_A_ZERO) &&
           byte_zero(p, TN_GEMM_B_ZERO) && zeros_wait(p);
}

/* Multiply-adds. */
static double work_of(const tn_gemm_problem *p) {
    return (double)p->m * (double)p->n * (double)p->k * (p->gated != TENON_GATED_NONE ? 2 : 1) *
           (p->experts > 0 ? 1 : (double)p->batch_count);
}

/* Bytes of operands and result, each once. */
static double bytes_of(const tn_gemm_problem *p) {
    const double members = p->experts > 0 ? (double)p->experts : (double)p->batch_count;
    const double rows = (double)p->m * (p->experts > 0 ? 1 : members);
    const double columns = (double)p->n * (p->gated != TENON_GATED_NONE ? 2 : 1) * members;
    return rows * (double)p->k * (double)tn_element_size(p->operand[TN_GEMM_A].dtype) +
           columns * (double)p->k * (double)tn_element_size(p->operand[TN_GEMM_B].dtype) +
           rows * (double)p->n * (double)tn_element_size(p->operand[TN_GEMM_C].dtype);
}

static void offer(const tn_cu_gemm_state *plan, const char *algorithm, const char *reason,
                  size_t workspace, double seconds, tn_choices *out) {
    tn_choice choice;
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, plan, sizeof *plan);
    choice.algorithm = algorithm;
    choice.kernel = plan->mapped ? plan->mapped : plan->kernel;
    choice.reason = reason;
    choice.workspace = workspace;
    choice.seconds = seconds;
    tn_choices_offer(out, &choice);
}

/* ---- gemm_plain.cu */

static void plan_plain(const tn_cu_limits *limits, const tn_gemm_problem *p, tn_choices *out) {
    tn_cu_gemm_state plan = {.module = "gemm_plain",
                             .rows = TN_CU_PLAIN_WIDE,
                             .cols = TN_CU_PLAIN_WIDE,
                             .threads = 256,
                             .segments = 1,
                             .blocks = MOST_BLOCKS};
    if (p->accumulate == TENON_F64) {
        plan.kernel = "gemm_plain_f64";
    } else if (p->accumulate == TENON_S32) {
        plan.kernel = "gemm_plain_exact";
    } else if (scaled_integers(p)) {
        plan.kernel = "gemm_plain_scaled";
        plan.scale_after = 1;
    } else {
        plan.kernel = "gemm_plain_f32";
        plan.rows = plan.cols = TN_CU_PLAIN_F32;
    }
    /* About a fifth of a device's multiply-adds of f32: 128 lanes to a multiprocessor. */
    const double clock = limits->clock_hz > 0 ? limits->clock_hz : 1.4e9;
    const double bandwidth =
        limits->memory_bytes_per_second > 0 ? limits->memory_bytes_per_second : 3e11;
    const double seconds =
        work_of(p) / (0.2 * 128 * clock * limits->multiprocessors) + bytes_of(p) / bandwidth + 4e-6;
    offer(&plan, "gemm-plain", "any types and strides, no workspace", 0, seconds, out);
}

/* ---- gemm_rows.cu */

/* Whether 16 bytes of an operand can be loaded along k, or else a word along its lines, if its
 * address is a multiple of 16 bytes. */
static int32_t words_of(const tn_gemm_problem *p, int role) {
    const tn_gemm_operand *o = &p->operand[role];
    const int64_t step = role == TN_GEMM_A ? o->column : o->row,
                  line = role == TN_GEMM_A ? o->row : o->column, size = tn_element_size(o->dtype),
                  many = step == 1 ? 16 / size : 4 / size;
    for (int d = 0; d < TN_GEMM_BATCH_RANK; d++)
        if (o->batch[d] % many != 0)
            return 0;
    if (step == 1)
        return line % many == 0;
    const bool own_rows = role == TN_GEMM_A && p->experts > 0 && many > 1; /* begin anywhere */
    const bool halves = role == TN_GEMM_B && p->gated == TENON_GATED_HALVES && p->n % many != 0;
    return line == 1 && step % many == 0 && !own_rows && !halves;
}

/* Few rows, or few columns, of what gemm_plain_f32 forms: the same bits. */
static void plan_rows(const tn_cu_limits *limits, const tn_gemm_problem *p, tn_choices *out) {
    static const char *const kernels[3][2] = {{"gemm_rows_8_1", "gemm_rows_8_8"},
                                              {"gemm_rows_16_1", "gemm_rows_16_8"},
                                              {"gemm_rows_32_1", "gemm_rows_32_8"}};
    const bool of_a = p->m > TN_CU_ROWS_FEW; /* the columns are few, and A is read once */
    const int64_t few = of_a ? p->n : p->m;
    const tenon_dtype type = p->operand[of_a ? TN_GEMM_A : TN_GEMM_B].dtype;
    const int64_t size = tn_element_size(type);
    if (few > TN_CU_ROWS_FEW || (of_a && p->gated != TENON_GATED_NONE) ||
        present(p, TN_GEMM_A_SCALE) || present(p, TN_GEMM_A_ZERO) || present(p, TN_GEMM_B_SCALE) ||
        present(p, TN_GEMM_B_ZERO) ||
        !(type == TENON_F32 || type == TENON_F16 || type == TENON_BF16 || integer(type)))
        return;
    const int32_t lines = (int32_t)(128 / size), others = few > 1 ? TN_CU_ROWS_FEW : 1;
    const tn_cu_gemm_state plan = {.module = "gemm_rows",
                                   .kernel = kernels[size / 2][few > 1],
                                   .rows = of_a ? lines : others,
                                   .cols = of_a ? others : lines,
                                   .threads = 256,
                                   .segments = 1,
                                   .halves_in_tile = 1,
                                   .a_wide = words_of(p, TN_GEMM_A),
                                   .b_wide = words_of(p, TN_GEMM_B),
                                   .blocks = MOST_BLOCKS};
    const double bandwidth =
        limits->memory_bytes_per_second > 0 ? limits->memory_bytes_per_second : 3e11;
    const double places = (double)limits->multiprocessors,
                 tiles = (double)tn_cu_gemm_tiles(p, &plan);
    const double seconds =
        bytes_of(p) / (0.7 * bandwidth) / (tiles < places ? tiles / places : 1) + 4e-6;
    offer(&plan, "gemm-rows", of_a ? "few columns: A is read once" : "few rows: B is read once", 0,
          seconds, out);
}

/* ---- gemm_tiles.cuh */

/* Ways to multiply on tensor cores, each a module's. */
typedef struct tile_family {
    const char *module, *join_module, *join, *kernels[4]; /* of each of tile_kinds, or NULL */
    int32_t size;                                         /* of an element, in bytes */
    double speed;                                         /* multiply-adds, 1 for 16-bit floats */
} tile_family;
#define SMALL_TILES(type) "gemm_" type "_64x64", "gemm_" type "_16x128", "gemm_" type "_128x16"
#define TILES(type)                                                                                \
    { "gemm_" type "_128x128", SMALL_TILES(type) }
static const tile_family
    of_f16 = {"gemm_mma", "gemm_mma", "gemm_join_f32", TILES("f16"), 2, 1},
    of_bf16 = {"gemm_mma", "gemm_mma", "gemm_join_f32", TILES("bf16"), 2, 1},
    of_bytes = {"gemm_bytes", "gemm_bytes", "gemm_join_s32", TILES("s8"), 1, 2},
    of_tf32 = {"gemm_tf32", "gemm_mma", "gemm_join_f32", {NULL, SMALL_TILES("tf32")}, 4, 0.5},
    of_fp8 = {"gemm_fp8", "gemm_mma", "gemm_join_f32", {NULL, SMALL_TILES("fp8")}, 1, 2};

static bool float8(tenon_dtype type) {
    return type == TENON_F8_E4M3 || type == TENON_F8_E5M2;
}

/* What is multiplied: NULL if tensor cores can't form this product within docs/NUMERICS.md, 3.3,
 * 3.9 and 3.10. */
static const tile_family *multiplied(const tn_cu_limits *limits, const tn_gemm_problem *p) {
    const tenon_dtype a = p->operand[TN_GEMM_A].dtype, b = p->operand[TN_GEMM_B].dtype;
    const bool fast = p->compute == TENON_COMPUTE_FAST;
    if (limits->capability < 80 || limits->code < 80)
        return NULL;
    if ((scaled_integers(p) && zeros_wait(p)) || whole_integers(p))
        return &of_bytes;
    if (p->accumulate != TENON_F32 || !scales_wait(p) || present(p, TN_GEMM_A_ZERO) ||
        present(p, TN_GEMM_B_ZERO))
        return NULL;
    /* bytes are exact in both types of 16 bits, and all of these in tf32 */
    const bool a_byte = tn_element_size(a) == 1, b_byte = tn_element_size(b) == 1;
    const bool a16 = a == TENON_F16 || a == TENON_BF16, b16 = b == TENON_F16 || b == TENON_BF16;
    if ((a16 && (b == a || b_byte)) || (b16 && a_byte))
        return a == TENON_F16 || b == TENON_F16 ? &of_f16 : &of_bf16;
    if (fast && float8(a) && float8(b) && limits->capability >= 89 && limits->code >= 89)
        return &of_fp8;
    if (a_byte && b_byte && !(integer(a) && integer(b)))
        return &of_f16;
    if (fast && (a == TENON_F32 || b == TENON_F32))
        return &of_tf32;
    return NULL;
}

/* Steps of k in a segment. Of bytes as many whole stages as sum up within 32 bits, whatever the
 * values and zero points, but where they are shared out. */
static int64_t segment_of(const tn_gemm_problem *p, const tile_family *family, bool split) {
    if (family != &of_bytes || split)
        return TN_CU_GEMM_SEGMENT;
    int64_t largest = 1;
    for (int role = TN_GEMM_A; role <= TN_GEMM_B; role++) {
        const bool u8 = p->operand[role].dtype == TENON_U8;
        const int zero_role = role == TN_GEMM_A ? TN_GEMM_A_ZERO : TN_GEMM_B_ZERO;
        const tenon_dtype zero = p->operand[zero_role].dtype;
        /* |X - x0| is largest where X and x0 are at opposite ends of what they can be */
        largest *= zero == TENON_DTYPE_NONE         ? (u8 ? 255 : 128)
                   : zero == p->operand[role].dtype ? 255
                                                    : 128 + 255;
    }
    return INT32_MAX / largest / 128 * 128;
}

/* How an operand reaches shared memory if its address is a multiple of 16 bytes: 1: 16 bytes along
 * k, 2: along lines (rows of A, columns of B), 0: element by element. */
static int32_t wide_of(const tn_gemm_problem *p, int role, const tile_family *family) {
    const tn_gemm_operand *o = &p->operand[role];
    const int64_t step = role == TN_GEMM_A ? o->column : o->row, many = 16 / family->size;
    const int64_t line = role == TN_GEMM_A ? o->row : o->column;
    const bool own = family == &of_f16    ? o->dtype == TENON_F16
                     : family == &of_bf16 ? o->dtype == TENON_BF16
                                          : tn_element_size(o->dtype) == family->size;
    if (!own)
        return 0;
    for (int d = 0; d < TN_GEMM_BATCH_RANK; d++)
        if (o->batch[d] % many != 0)
            return 0;
    if (step == 1 && line % many == 0)
        return 1;
    const bool own_rows = role == TN_GEMM_A && p->experts > 0; /* begin anywhere */
    /* of gated halves a tile has as many columns of each */
    const bool halves =
        role == TN_GEMM_B && p->gated == TENON_GATED_HALVES && (p->n % many != 0 || many > 8);
    return line == 1 && step % many == 0 && !own_rows && !halves ? 2 : 0;
}

/* A tile of gemm_tiles.cuh, or of gemm_wgmma.cu, for which the former's of that size stands in. */
typedef struct tile_kind {
    int32_t kernel; /* of a family's */
    int32_t rows, cols, threads, stages, resident;
    double share; /* of a multiprocessor's multiply-adds, with all resident: docs/CUDA_KERNELS.md */
    bool mapped;
} tile_kind;
static const tile_kind tile_kinds[] = {{0, 128, 128, 256, 3, 1, 1.2, true},
                                       {0, 128, 128, 256, 3, 1, 0.75, false},
                                       {1, 64, 64, 128, 3, 3, 0.5, false},
                                       {2, 16, 128, 128, 4, 2, 0.3, false},
                                       {3, 128, 16, 128, 4, 2, 0.3, false}};

/* gemm_wgmma.cu's kernel for f16 or bf16 by what lies side by side in A and B; NULL where device,
 * build or strides have none. */
static const char *mapped_kernel(const tn_cu_limits *limits, const tn_gemm_problem *p,
                                 const tile_family *family) {
    static const char *const names[2][2][2] = {
        {{"gemm_wgmma_f16_kk", "gemm_wgmma_f16_kn"}, {"gemm_wgmma_f16_mk", "gemm_wgmma_f16_mn"}},
        {{"gemm_wgmma_bf16_kk", "gemm_wgmma_bf16_kn"},
         {"gemm_wgmma_bf16_mk", "gemm_wgmma_bf16_mn"}}};
    tn_cu_gemm_box a, b;
    const tenon_dtype type = family == &of_f16    ? TENON_F16
                             : family == &of_bf16 ? TENON_BF16
                                                  : TENON_DTYPE_NONE;
    if (!limits->hopper || limits->group_shared_max < TN_CU_MAPPED_SHARED ||
        !tn_cu_gemm_box_of(p, TN_GEMM_A, type, &a) || !tn_cu_gemm_box_of(p, TN_GEMM_B, type, &b))
        return NULL;
    return names[type == TENON_BF16][a.turned][b.turned];
}

static void plan_tiles(const tn_cu_limits *limits, const tn_gemm_problem *p,
                       const tile_family *family, tn_choices *out) {
    const double clock = limits->clock_hz > 0 ? limits->clock_hz : 1.4e9;
    const double bandwidth =
        limits->memory_bytes_per_second > 0 ? limits->memory_bytes_per_second : 3e11;
    /* Multiply-adds of 16-bit floats by mma.sync a clock and multiprocessor: cards for data centres
     * have twice those of others. */
    const bool large =
        limits->capability == 80 || limits->capability == 90 || limits->capability == 100;
    const double rate = (large ? 1024 : 512) * family->speed;
    for (size_t i = 0; i < sizeof tile_kinds / sizeof *tile_kinds; i++) {
        const tile_kind *t = &tile_kinds[i];
        const int32_t stages = (t->rows + t->cols) * 128 * t->stages,
                      sums = t->rows * (t->cols + 8) * 4;
        tn_cu_gemm_state plan = {.module = family->module,
                                 .kernel = family->kernels[t->kernel],
                                 .join_module = family->join_module,
                                 .join = family->join,
                                 .rows = t->rows,
                                 .cols = t->cols,
                                 .threads = t->threads,
                                 .shared_bytes = stages > sums ? stages : sums,
                                 .scale_after =
                                     present(p, TN_GEMM_A_SCALE) || present(p, TN_GEMM_B_SCALE),
                                 .halves_in_tile = 1,
                                 .a_wide = wide_of(p, TN_GEMM_A, family),
                                 .b_wide = wide_of(p, TN_GEMM_B, family),
                                 .blocks = MOST_BLOCKS};
        if (!plan.kernel || (size_t)plan.shared_bytes > limits->group_shared_max)
            continue;
        if (t->mapped) {
            plan.mapped = mapped_kernel(limits, p, family);
            plan.blocks = limits->multiprocessors; /* which go from tile to tile */
            if (!plan.mapped)
                continue;
        }
        const double tiles = (double)tn_cu_gemm_tiles(p, &plan);
        const double places = (double)limits->multiprocessors * t->resident;
        /* element by element takes about four times as long */
        const double share = t->mapped || (plan.a_wide && plan.b_wide) ? t->share : t->share / 4;
        for (int split = 0; split < 2; split++) {
            const int64_t steps = segment_of(p, family, split),
                          segments = tn_max64(1, tn_ceil_div(p->k, steps));
            const bool must = family == &of_bytes && segments > 1 && !split; /* one can't hold k */
            if (split && (segments == 1 || segments > 4096 || tiles >= places))
                break;
            plan.segment_steps = steps;
            plan.segments = split || must ? (int32_t)segments : 1;
            /* Blocks that share a multiprocessor; fewer than have room leave some of it idle. */
            const double blocks = tiles * plan.segments,
                         each = blocks < places
                                    ? (double)(int64_t)((blocks - 1) / limits->multiprocessors) + 1
                                    : t->resident,
                         waves = (double)(int64_t)((blocks + places - 1) / places);
            const double one = (double)t->rows * t->cols * (double)p->k / plan.segments * each /
                               (rate * share * clock) * (each < t->resident ? 1.5 : 1);
            const bool parted = plan.segments > 1;
            const double parts = parted ? tiles * t->rows * t->cols * 4 * plan.segments : 0;
            const double seconds =
                waves * one + (bytes_of(p) + 2 * parts) / bandwidth + (parted ? 8e-6 : 4e-6);
            if (parts > 256e6)
                continue;
            offer(&plan, "gemm-tensor",
                  parted ? "few tiles, or long sums: segments of k are shared out" : "tensor cores",
                  (size_t)parts, seconds, out);
        }
    }
}

tenon_status tn_cu_gemm_plan(const tn_cu_limits *limits, const tn_gemm_problem *given,
                             tn_choices *out, tn_message *why) {
    const tn_gemm_problem view = tn_cu_gemm_view(given), *p = &view;
    out->count = 0;
    TN_TRY(refuse(p, why));
    if (tn_cu_gemm_of_blocks(p)) {
        tn_cu_gemm_blocks_plan(limits, p, out);
        return TENON_OK;
    }
    const tile_family *family = multiplied(limits, p);
    if (family && p->k > 0)
        plan_tiles(limits, p, family, out);
    /* One way of summing a product: gemm_plain.cu's bits are others, but for exact sums. */
    if (out->count == 0 || family == &of_bytes)
        plan_plain(limits, p, out);
    if (!family && p->accumulate == TENON_F32 && !scaled_integers(p))
        plan_rows(limits, p, out);
    return TENON_OK;
}
