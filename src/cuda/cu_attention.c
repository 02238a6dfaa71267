/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_attention.c: attention on CUDA devices: which kernel, whether the blocks of keys of a unit are
 * shared out, and the numbers that the kernels get.
 *
 * Lengths and tables stay on the device: grids follow from the problem alone, and blocks that find
 * nothing to do return.
 */
#include "cuda/cu_attention.h"
#include "cuda/cu_kernels.h"
#include "ops/numbers.h"

_Static_assert(sizeof(tn_cu_attention) <= TN_CU_PARAMETER_BYTES, "a kernel's struct");
_Static_assert((int)TN_CU_ATTENTION_OPERANDS == (int)TN_ATTENTION_ROLES,
               "a kernel's struct holds a problem");

enum {
    PLAIN_THREADS = 256,
    PLAIN_COLUMNS = 768,    /* columns of v that a block has sums for */
    PLAIN_STATIC = 9 << 10, /* bytes of shared memory that attention_plain.cu declares, at most */
    MMA_THREADS = 128,
    MMA_COLUMNS = 512, /* of v, for which flat kernels have sums */
    MMA_FLAT_ROWS = 16,
    MMA_TILE_ROWS = 64
};
#define MOST_BLOCKS ((int64_t)1 << 20)
/* Most workspace for the results of blocks. */
#define SLOTS_MOST ((size_t)256 << 20)

typedef struct attention_state {
    const char *module;
    int32_t rows, keys; /* of a unit, of a block of keys */
    int32_t f64, split, stages, threads;
    size_t shared_bytes;
    int64_t tiles, units, blocks, run; /* run: blocks of keys that a block takes of a split unit */
} attention_state;

_Static_assert(sizeof(attention_state) <= TN_CHOICE_STATE, "a choice keeps it");

static bool present(const tn_attention_problem *p, int role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

static size_t query_bytes(const tn_attention_problem *p, const attention_state *s) {
    return (size_t)(s->rows * p->d * (s->f64 ? 8 : 4));
}

static tenon_status refuse_types(const tn_attention_problem *p, tn_message *why) {
    static const char *const names[] = {"q", "k", "v", "o"};
    for (int role = TN_ATTENTION_Q; role <= TN_ATTENTION_O; role++)
        if (p->operand[role].dtype > TENON_BOOL)
            return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s.dtype is %s: not yet on this device",
                           names[role], tenon_dtype_name(p->operand[role].dtype));
    return TENON_OK;
}

static double clock_of(const tn_cu_limits *limits) {
    return limits->clock_hz > 0 ? limits->clock_hz : 1.4e9;
}

/* Multiply-adds, were nothing masked. */
static double work_of(const tn_attention_problem *p) {
    return (double)p->heads * (double)p->queries * (double)p->keys * (double)(p->d + p->dv) *
           (present(p, TN_ATTENTION_CU_Q) ? 1 : (double)p->batch);
}

static void count_units(const tn_attention_problem *p, attention_state *s) {
    const bool ragged = present(p, TN_ATTENTION_CU_Q);
    s->tiles =
        tn_ceil_div(p->queries * (p->heads / p->kv_heads), s->rows) + (ragged ? p->batch : 0);
    s->units = s->tiles * p->kv_heads * (ragged ? 1 : p->batch);
    s->blocks = tn_ceil_div(p->keys, s->keys);
    s->run = 1;
}

static size_t slot_bytes(const tn_attention_problem *p, const attention_state *s) {
    const double bytes = (double)s->units * (double)s->blocks * (double)TN_CU_SLOT(p->dv) *
                         (double)s->rows * (s->f64 ? 8 : 4);
    return bytes > 1e15 ? SIZE_MAX : (size_t)bytes;
}

static void offer(const tn_attention_problem *p, const attention_state *s, const char *algorithm,
                  const char *kernel, const char *reason, double seconds, tn_choices *out) {
    tn_choice choice;
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, s, sizeof *s);
    choice.algorithm = algorithm;
    choice.kernel = kernel;
    choice.reason = reason;
    choice.workspace = s->split ? slot_bytes(p, s) : 0;
    choice.seconds = seconds + (s->split ? 8e-6 : 4e-6);
    tn_choices_offer(out, &choice);
}

/* ---- attention_plain.cu */

static tenon_status plan_plain(const tn_cu_limits *limits, const tn_attention_problem *p,
                               tn_choices *out, tn_message *why) {
    static const char *const kernels[2] = {"attention_plain_f32", "attention_plain_f64"};
    attention_state s = {.module = "attention_plain",
                         .f64 = p->accumulate == TENON_F64,
                         .keys = TN_CU_BLOCK,
                         .threads = PLAIN_THREADS};
    s.rows = s.f64 ? TN_CU_PLAIN_ROWS / 2 : TN_CU_PLAIN_ROWS;
    s.shared_bytes = query_bytes(p, &s);
    if (p->dv > PLAIN_COLUMNS)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "v.shape[3] is %lld: this device takes at most %d", (long long)p->dv,
                       PLAIN_COLUMNS);
    if (s.shared_bytes + PLAIN_STATIC > limits->group_shared_max)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "q.shape[3] is %lld: too many for this device's shared memory",
                       (long long)p->d);
    count_units(p, &s);
    for (s.split = 0; s.split < 2; s.split++) {
        /* two blocks to a multiprocessor; those without one stand idle */
        const double tasks = (double)s.units * (s.split ? (double)s.blocks : 1),
                     places = 2 * (double)limits->multiprocessors,
                     busy = tasks > 0 && tasks < places ? tasks / places : 1;
        if (s.split && (s.blocks < 2 || s.units >= 2 * (int64_t)limits->multiprocessors ||
                        slot_bytes(p, &s) > SLOTS_MOST))
            break;
        offer(p, &s, s.split ? "attention-split" : "attention-plain", kernels[s.f64],
              s.split ? "few queries: blocks of keys are shared out" : "enough queries",
              work_of(p) / (0.1 * 128 * clock_of(limits) * limits->multiprocessors * busy), out);
    }
    return TENON_OK;
}

/* ---- attention_mma.cu */

/* Shared memory of a block: see pass_of there. Results pass through the place of the tiles. */
static size_t mma_shared(const tn_attention_problem *p, const attention_state *s) {
    const bool flat = s->rows == MMA_FLAT_ROWS;
    const int64_t own = TN_CU_MMA_WORK(s->rows) + s->rows * TN_CU_MMA_PITCH(p->d) +
                        (flat ? MMA_FLAT_ROWS * TN_CU_MMA_SCORES * 4 : 0);
    const int64_t tiles =
        s->stages * TN_CU_MMA_KEYS * (TN_CU_MMA_PITCH(p->d) + TN_CU_MMA_PITCH(p->dv) + 12);
    return (size_t)(own + tn_max64(tiles, s->rows * TN_CU_MMA_RESULT(p->dv)));
}

/* What tensor cores multiply (docs/NUMERICS.md, 5.4): NONE if they do not. A function of types,
 * head dimensions and the device: another kernel has other bits. */
static tenon_dtype multiplied(const tn_cu_limits *limits, const tn_attention_problem *p) {
    const tenon_dtype type = p->operand[TN_ATTENTION_Q].dtype;
    const attention_state least = {.rows = MMA_FLAT_ROWS, .stages = 1};
    if (limits->capability < 80 || limits->code < 80 || p->accumulate != TENON_F32 ||
        (type != TENON_F16 && type != TENON_BF16) || p->dv > MMA_COLUMNS ||
        mma_shared(p, &least) > limits->group_shared_max)
        return TENON_DTYPE_NONE;
    for (int role = TN_ATTENTION_K; role <= TN_ATTENTION_V; role++)
        if (p->operand[role].dtype != type && tn_element_size(p->operand[role].dtype) != 1)
            return TENON_DTYPE_NONE;
    /* a weight times a scale may leave the range of f16 */
    return present(p, TN_ATTENTION_V_SCALE) && type == TENON_F16 ? TENON_DTYPE_NONE : type;
}

typedef struct mma_kind {
    const char *kernels[2]; /* of f16, bf16 */
    int32_t rows, columns;
    int32_t resident; /* blocks of a multiprocessor, by registers */
    double share;     /* of a multiprocessor's multiply-adds: docs/CUDA_KERNELS.md */
} mma_kind;
static const mma_kind mma_kinds[] = {
    {{"attention_mma_f16_64", "attention_mma_bf16_64"}, MMA_TILE_ROWS, 64, 3, 0.35},
    {{"attention_mma_f16_128", "attention_mma_bf16_128"}, MMA_TILE_ROWS, 128, 2, 0.4},
    {{"attention_mma_f16_256", "attention_mma_bf16_256"}, MMA_TILE_ROWS, 256, 2, 0.35},
    {{"attention_mma_f16_flat", "attention_mma_bf16_flat"}, MMA_FLAT_ROWS, MMA_COLUMNS, 2, 0.2}};

static double mma_seconds(const tn_cu_limits *limits, const tn_attention_problem *p,
                          const attention_state *s, const mma_kind *kind) {
    const double bandwidth =
        limits->memory_bytes_per_second > 0 ? limits->memory_bytes_per_second : 3e11;
    const double rate =
        limits->capability == 80 || limits->capability == 90 || limits->capability == 100 ? 1024
                                                                                          : 512;
    const double fits = (double)(limits->multiprocessor_shared / s->shared_bytes),
                 resident = fits < 1                ? 1
                            : fits < kind->resident ? fits
                                                    : kind->resident;
    const double runs = s->split ? (double)tn_ceil_div(s->blocks, s->run) : 1,
                 tasks = (double)s->units * runs,
                 places = resident * (double)limits->multiprocessors,
                 waves = (double)(int64_t)((tasks + places - 1) / places);
    /* blocks that share a multiprocessor */
    const double each =
        tasks < places ? (double)(int64_t)((tasks - 1) / limits->multiprocessors) + 1 : resident;
    const double one = (double)s->rows * (double)s->keys * (double)s->blocks / runs *
                       (double)(p->d + p->dv) * each / (rate * kind->share * clock_of(limits));
    const double bytes = (double)s->units * (double)p->keys *
                             (double)(p->d * tn_element_size(p->operand[TN_ATTENTION_K].dtype) +
                                      p->dv * tn_element_size(p->operand[TN_ATTENTION_V].dtype)) +
                         (s->split ? 2 * (double)slot_bytes(p, s) : 0);
    const double flow = bytes / bandwidth / (tasks < places ? tasks / places : 1);
    const double work = waves * one;
    return work > flow ? work : flow;
}

static void plan_mma(const tn_cu_limits *limits, const tn_attention_problem *p, tenon_dtype type,
                     tn_choices *out) {
    for (size_t i = 0; i < sizeof mma_kinds / sizeof *mma_kinds; i++) {
        const mma_kind *kind = &mma_kinds[i];
        const char *const kernel = kind->kernels[type == TENON_BF16];
        const bool flat = kind->rows == MMA_FLAT_ROWS;
        attention_state s = {.module = "attention_mma",
                             .rows = kind->rows,
                             .keys = TN_CU_MMA_KEYS,
                             .stages = 2,
                             .threads = MMA_THREADS};
        /* one kernel for tiles: that of the fewest columns */
        if (p->dv > kind->columns || (!flat && i > 0 && p->dv <= mma_kinds[i - 1].columns))
            continue;
        /* two blocks of keys at a time if two thread blocks still fit, else one */
        s.shared_bytes = mma_shared(p, &s);
        if (2 * s.shared_bytes > limits->group_shared_max) {
            s.stages = 1;
            s.shared_bytes = mma_shared(p, &s);
        }
        if (s.shared_bytes > limits->group_shared_max)
            continue;
        count_units(p, &s);
        offer(p, &s, "attention-tensor", kernel,
              flat ? "few queries, or wide values" : "tensor cores",
              mma_seconds(limits, p, &s, kind), out);
        s.split = 1;
        s.run = tn_max64(1, s.units * s.blocks / (4 * (int64_t)limits->multiprocessors));
        if (flat && s.run < s.blocks && slot_bytes(p, &s) <= SLOTS_MOST)
            offer(p, &s, "attention-tensor-split", kernel,
                  "few queries: blocks of keys are shared out", mma_seconds(limits, p, &s, kind),
                  out);
    }
}

tenon_status tn_cu_attention_plan(const tn_cu_limits *limits, const tn_attention_problem *p,
                                  tn_choices *out, tn_message *why) {
    out->count = 0;
    TN_TRY(refuse_types(p, why));
    const tenon_dtype type = multiplied(limits, p);
    if (type == TENON_DTYPE_NONE)
        return plan_plain(limits, p, out, why);
    plan_mma(limits, p, type, out);
    return TENON_OK;
}

/* ---- run */

/* Whether rows of an operand can be copied 16 bytes at a time. */
static bool wide(const tn_cu_attention *n, int role, tenon_dtype type) {
    const int64_t *stride = n->stride[role];
    return n->type[role] == (int32_t)type && stride[3] == 2 && n->at[role] % 16 == 0 &&
           stride[0] % 16 == 0 && stride[1] % 16 == 0 && stride[2] % 16 == 0;
}

static void fill(const tn_run *run, const attention_state *s, tn_cu_attention *n) {
    const tn_attention_problem *p = run->problem;
    *n = (tn_cu_attention){.batch = p->batch,
                           .heads = p->heads,
                           .kv_heads = p->kv_heads,
                           .queries = p->queries,
                           .keys = p->keys,
                           .d = p->d,
                           .dv = p->dv,
                           .block_size = p->block_size,
                           .left = p->left,
                           .right = p->right,
                           .tiles = s->tiles,
                           .units = s->units,
                           .blocks = s->split ? s->blocks : 0,
                           .run = s->run,
                           .slots = tn_cu_address(&run->places->scratch),
                           .scale = p->scale,
                           .softcap = p->softcap,
                           .align_bottom = p->align_bottom,
                           .unit_rows = s->rows,
                           .block_keys = s->keys,
                           .stages = s->stages};
    for (int role = 0; role < TN_ATTENTION_ROLES; role++) {
        const tn_attention_operand *o = &p->operand[role];
        if (o->dtype == TENON_DTYPE_NONE)
            continue;
        n->type[role] = (int32_t)o->dtype;
        n->at[role] = tn_cu_address(&run->places->operand[role]);
        for (int d = 0; d < 4; d++)
            n->stride[role][d] = o->stride[d] * tn_element_size(o->dtype);
    }
    for (int role = TN_ATTENTION_Q; role <= TN_ATTENTION_O; role++)
        n->wide[role] = wide(n, role, p->operand[TN_ATTENTION_Q].dtype) &&
                        (role != TN_ATTENTION_O || p->dv % 8 == 0);
}

static tenon_status launch(tn_cu_work *work, const attention_state *s, const tn_cu_attention *n,
                           const char *kernel, int64_t blocks, bool scratch_only, tn_message *why) {
    tn_cu_launch l = {.module = s->module,
                      .kernel = kernel,
                      .grid = {(unsigned)tn_min64(blocks, MOST_BLOCKS)},
                      .group = {(unsigned)s->threads},
                      .shared_bytes = s->shared_bytes,
                      .scratch_only = scratch_only,
                      .parameter_bytes = sizeof *n};
    memcpy(l.parameters, n, sizeof *n);
    return tn_cu_launch_add(work, &l, why);
}

tenon_status tn_cu_attention_run(tn_cu_work *work, const tn_run *run, tn_message *why) {
    attention_state s;
    tn_cu_attention n;
    memcpy(&s, run->choice->state, sizeof s);
    fill(run, &s, &n);
    if (s.units == 0)
        return TENON_OK;
    if (!s.split)
        return launch(work, &s, &n, run->choice->kernel, s.units, false, why);
    TN_TRY(launch(work, &s, &n, run->choice->kernel, s.units * tn_ceil_div(s.blocks, s.run), true,
                  why));
    s.module = "attention_plain";
    s.shared_bytes = 0;
    s.threads = PLAIN_THREADS;
    return launch(work, &s, &n, s.f64 ? "attention_join_f64" : "attention_join_f32",
                  s.units * tn_ceil_div(s.rows, s.f64 ? TN_CU_PLAIN_ROWS / 2 : TN_CU_PLAIN_ROWS),
                  false, why);
}
