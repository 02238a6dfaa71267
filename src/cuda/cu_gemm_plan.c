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

/* Whether scales can wait for the sum: they are the same for all of k. */
static bool scales_wait(const tn_gemm_problem *p) {
    for (int role = TN_GEMM_A_SCALE; role <= TN_GEMM_B_SCALE;
         role += TN_GEMM_B_SCALE - TN_GEMM_A_SCALE)
        if (present(p, role) && p->group[role] < p->k)
            return false;
    return true;
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
    choice.kernel = plan->kernel;
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

/* ---- gemm_mma.cu */

/* What is multiplied: NONE if tensor cores can't form this product within docs/NUMERICS.md, 3.9. */
static tenon_dtype multiplied(const tn_cu_limits *limits, const tn_gemm_problem *p) {
    const tenon_dtype a = p->operand[TN_GEMM_A].dtype, b = p->operand[TN_GEMM_B].dtype;
    if (limits->capability < 80 || limits->code < 80 || p->accumulate != TENON_F32 ||
        !scales_wait(p) || present(p, TN_GEMM_A_ZERO) || present(p, TN_GEMM_B_ZERO))
        return TENON_DTYPE_NONE;
    /* bytes are exact in both types of 16 bits */
    const bool a_byte = tn_element_size(a) == 1, b_byte = tn_element_size(b) == 1;
    const bool a16 = a == TENON_F16 || a == TENON_BF16, b16 = b == TENON_F16 || b == TENON_BF16;
    if (a16 && (b == a || b_byte))
        return a;
    if (b16 && a_byte)
        return b;
    if (a_byte && b_byte && !(integer(a) && integer(b)))
        return TENON_F16;
    return TENON_DTYPE_NONE;
}

/* How an operand reaches shared memory if its address is a multiple of 16 bytes: 1: 16 bytes along
 * k, 2: along lines (rows of A, columns of B), 0: element by element. */
static int32_t wide_of(const tn_gemm_problem *p, int role, tenon_dtype type) {
    const tn_gemm_operand *o = &p->operand[role];
    const int64_t step = role == TN_GEMM_A ? o->column : o->row;
    const int64_t line = role == TN_GEMM_A ? o->row : o->column;
    if (o->dtype != type)
        return 0;
    for (int d = 0; d < TN_GEMM_BATCH_RANK; d++)
        if (o->batch[d] % 8 != 0)
            return 0;
    if (step == 1 && line % 8 == 0)
        return 1;
    const bool own_rows = role == TN_GEMM_A && p->experts > 0; /* begin anywhere */
    const bool halves = role == TN_GEMM_B && p->gated == TENON_GATED_HALVES && p->n % 8 != 0;
    return line == 1 && step % 8 == 0 && !own_rows && !halves ? 2 : 0;
}

/* A tile of gemm_mma.cu. */
typedef struct tile_kind {
    const char *kernels[2], *join; /* of f16, bf16 */
    int32_t rows, cols, threads, stages, resident;
    double share; /* of a multiprocessor's multiply-adds, with all resident: docs/CUDA_KERNELS.md */
} tile_kind;
static const tile_kind tile_kinds[] = {
    {{"gemm_f16_128x128", "gemm_bf16_128x128"}, "gemm_join_128x128", 128, 128, 256, 3, 1, 0.75},
    {{"gemm_f16_64x64", "gemm_bf16_64x64"}, "gemm_join_64x64", 64, 64, 128, 3, 3, 0.5},
    {{"gemm_f16_16x128", "gemm_bf16_16x128"}, "gemm_join_16x128", 16, 128, 128, 4, 2, 0.3}};

static void plan_mma(const tn_cu_limits *limits, const tn_gemm_problem *p, tenon_dtype type,
                     tn_choices *out) {
    const double clock = limits->clock_hz > 0 ? limits->clock_hz : 1.4e9;
    const double bandwidth =
        limits->memory_bytes_per_second > 0 ? limits->memory_bytes_per_second : 3e11;
    /* Multiply-adds of 16-bit floats a clock and multiprocessor: cards for data centres have twice
     * those of others. */
    const double rate =
        limits->capability == 80 || limits->capability == 90 || limits->capability == 100 ? 1024
                                                                                          : 512;
    const int64_t segments = tn_max64(1, tn_ceil_div(p->k, TN_CU_GEMM_SEGMENT));
    for (size_t i = 0; i < sizeof tile_kinds / sizeof *tile_kinds; i++) {
        const tile_kind *t = &tile_kinds[i];
        const int32_t stages = (t->rows + t->cols) * 128 * t->stages,
                      sums = t->rows * (t->cols + 8) * 4;
        tn_cu_gemm_state plan = {.module = "gemm_mma",
                                 .kernel = t->kernels[type == TENON_BF16],
                                 .join = t->join,
                                 .rows = t->rows,
                                 .cols = t->cols,
                                 .threads = t->threads,
                                 .shared_bytes = stages > sums ? stages : sums,
                                 .segments = 1,
                                 .scale_after =
                                     present(p, TN_GEMM_A_SCALE) || present(p, TN_GEMM_B_SCALE),
                                 .halves_in_tile = 1,
                                 .a_wide = wide_of(p, TN_GEMM_A, type),
                                 .b_wide = wide_of(p, TN_GEMM_B, type),
                                 .blocks = MOST_BLOCKS};
        if ((size_t)plan.shared_bytes > limits->group_shared_max)
            continue;
        const double tiles = (double)tn_cu_gemm_tiles(p, &plan);
        const double places = (double)limits->multiprocessors * t->resident;
        /* element by element takes about four times as long */
        const double share = plan.a_wide && plan.b_wide ? t->share : t->share / 4;
        for (int split = 0; split < 2; split++) {
            plan.segments = split ? (int32_t)segments : 1;
            if (split && (segments == 1 || segments > 4096 || tiles >= places))
                break;
            /* Blocks that share a multiprocessor; fewer than have room leave some of it idle. */
            const double blocks = tiles * plan.segments,
                         each = blocks < places
                                    ? (double)(int64_t)((blocks - 1) / limits->multiprocessors) + 1
                                    : t->resident,
                         waves = (double)(int64_t)((blocks + places - 1) / places);
            const double one = (double)t->rows * t->cols * (double)p->k / plan.segments * each /
                               (rate * share * clock) * (each < t->resident ? 1.5 : 1);
            const double parts = split ? tiles * t->rows * t->cols * 4 * (double)segments : 0;
            const double seconds =
                waves * one + (bytes_of(p) + 2 * parts) / bandwidth + (split ? 8e-6 : 4e-6);
            if (parts > 256e6)
                break;
            offer(&plan, "gemm-tensor",
                  split ? "few tiles: segments of k are shared out" : "tensor cores", (size_t)parts,
                  seconds, out);
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
    const tenon_dtype type = multiplied(limits, p);
    if (type != TENON_DTYPE_NONE && p->k > 0)
        plan_mma(limits, p, type, out);
    /* One way of summing a product: gemm_plain.cu's bits are others. */
    if (out->count == 0)
        plan_plain(limits, p, out);
    return TENON_OK;
}
