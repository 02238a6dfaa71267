/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_gemm_blocks.c: products with B of block types: which kernel, and its launches.
 *
 * Whether A is rounded to bytes is a function of the mode and of what scales there are
 * (docs/NUMERICS.md, 3.8); few rows and tiles, with tensor cores and without, give the same bits.
 * Rounded rows wait in the workspace.
 */
#include "cuda/cu_gemm_plan.h"

#include "ops/blocks.h"

enum {
    KC_UNITS = TN_CU_GEMM_KC / TN_CU_UNIT,
    PASS_UNITS = TN_CU_FEW_WARPS * KC_UNITS,
    ROUND_WARPS = 8,       /* of a block of gemm_blocks_round */
    TILE_STATIC = 17 << 10 /* bytes of shared memory that gemm_blocks_f32 declares, at most */
};
#define MOST_BLOCKS ((int64_t)1 << 20)

bool tn_cu_gemm_of_blocks(const tn_gemm_problem *p) {
    return tn_block_find(p->operand[TN_GEMM_B].dtype) != NULL;
}

static bool present(const tn_gemm_problem *p, int role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

static bool b_has_factors(const tn_gemm_problem *p) {
    return present(p, TN_GEMM_B_SCALE) || present(p, TN_GEMM_B_ZERO);
}

/* Whether A is rounded to bytes: asked for, and neither operand has other factors. */
static bool rounds(const tn_gemm_problem *p) {
    return p->compute == TENON_COMPUTE_FAST && !present(p, TN_GEMM_A_SCALE) &&
           !present(p, TN_GEMM_A_ZERO) && !b_has_factors(p);
}

/* ---- sizes */

/* Words from a run of so many units in shared memory to the next: all that it may touch, one that
 * decoders read beside it; odd. */
static int32_t pitch_of(const tn_gemm_problem *p, int64_t units) {
    const int64_t steps = tn_min64(p->k, units * TN_CU_UNIT);
    const int64_t bytes = tn_bytes_of(p->operand[TN_GEMM_B].dtype, steps);
    return (int32_t)(((3 + bytes + 3) / 4 + 1) | 1);
}

static int32_t few_bytes(const tn_gemm_problem *p, int32_t rows, bool fast) {
    const int32_t runs = 2 * TN_CU_FEW_COLUMNS * pitch_of(p, PASS_UNITS) * 4,
                  a = PASS_UNITS * rows * (fast ? TN_CU_RECORD : TN_CU_UNIT * 4),
                  parts = TN_CU_FEW_WARPS * rows * TN_CU_FEW_COLUMNS * 4;
    return runs + a + parts;
}

/* Members of A that are rounded: one for all where none differs. */
static int64_t rounded_members(const tn_gemm_problem *p) {
    const tn_gemm_operand *a = &p->operand[TN_GEMM_A];
    if (p->experts > 0)
        return 1;
    if (p->pointer_array)
        return p->batch_count;
    for (int32_t d = 0; d < p->batch_rank; d++)
        if (a->batch[d] != 0)
            return p->batch_count;
    return 1;
}
static int64_t rounded_bytes(const tn_gemm_problem *p) {
    return p->k / TN_CU_UNIT * p->m * TN_CU_RECORD;
}

/* ---- the plan */

typedef struct costs {
    double adds, bytes, clock, bandwidth;
} costs;

static costs costs_of(const tn_cu_limits *limits, const tn_gemm_problem *p) {
    const double members = p->experts > 0 ? (double)p->experts : (double)p->batch_count,
                 halves = p->gated != TENON_GATED_NONE ? 2 : 1,
                 rows = (double)p->m * (p->experts > 0 ? 1 : members);
    return (costs){
        .adds = rows * (double)p->n * (double)p->k * halves,
        .bytes = halves * (double)p->n * members *
                 (double)tn_bytes_of(p->operand[TN_GEMM_B].dtype, p->k),
        .clock = limits->clock_hz > 0 ? limits->clock_hz : 1.4e9,
        .bandwidth = limits->memory_bytes_per_second > 0 ? limits->memory_bytes_per_second : 3e11};
}

static void offer(const tn_cu_limits *limits, const tn_cu_gemm_state *plan, const char *algorithm,
                  const char *reason, size_t workspace, double seconds, tn_choices *out) {
    tn_choice choice;
    const int32_t declared = plan->rows == TN_CU_BLOCKS_SIDE && !plan->rounds ? TILE_STATIC : 0;
    if ((size_t)(plan->shared_bytes + declared) > limits->group_shared_max)
        return;
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, plan, sizeof *plan);
    choice.algorithm = algorithm;
    choice.kernel = plan->kernel;
    choice.reason = reason;
    choice.workspace = workspace;
    choice.seconds = seconds;
    tn_choices_offer(out, &choice);
}

/* B's bytes are read once for each so many rows; a lane decodes an element in some 4 instructions
 * and adds it to a row in one, or four of them. */
static void offer_few(const tn_cu_limits *limits, const tn_gemm_problem *p, bool fast,
                      size_t workspace, tn_choices *out) {
    static const struct {
        int32_t rows;
        const char *exact, *bytes;
    } kinds[] = {{1, "gemm_blocks_exact_1", "gemm_blocks_bytes_1"},
                 {4, "gemm_blocks_exact_4", "gemm_blocks_bytes_4"},
                 {8, "gemm_blocks_exact_8", "gemm_blocks_bytes_8"}};
    const costs c = costs_of(limits, p);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const int32_t rows = kinds[i].rows;
        const tn_cu_gemm_state plan = {.module = "gemm_blocks",
                                       .kernel = fast ? kinds[i].bytes : kinds[i].exact,
                                       .rows = rows,
                                       .cols = TN_CU_FEW_COLUMNS,
                                       .threads = TN_CU_FEW_WARPS * 32,
                                       .shared_bytes = few_bytes(p, rows, fast),
                                       .segments = 1,
                                       .pitch = pitch_of(p, PASS_UNITS),
                                       .rounds = fast,
                                       .blocks = MOST_BLOCKS};
        const double times = (double)tn_cu_gemm_tiles_down(p, &plan) /
                             (double)(p->experts > 0 ? p->experts : 1),
                     work = c.adds / (double)p->m * times * (4 + rows * (fast ? 0.5 : 1.25));
        offer(limits, &plan, "gemm-blocks-few", "b's blocks are read once for a few rows",
              workspace,
              times * c.bytes / (0.8 * c.bandwidth) +
                  work / (64 * c.clock * limits->multiprocessors) + (fast ? 8e-6 : 4e-6),
              out);
    }
}

/* 64 x 64: about a fifth of the device's multiply-adds of f32. */
static void offer_tile(const tn_cu_limits *limits, const tn_gemm_problem *p, tn_choices *out) {
    const costs c = costs_of(limits, p);
    const tn_cu_gemm_state plan = {.module = "gemm_blocks",
                                   .kernel = "gemm_blocks_f32",
                                   .rows = TN_CU_BLOCKS_SIDE,
                                   .cols = TN_CU_BLOCKS_SIDE,
                                   .threads = 256,
                                   .shared_bytes =
                                       2 * TN_CU_BLOCKS_SIDE * pitch_of(p, KC_UNITS) * 4,
                                   .segments = 1,
                                   .pitch = pitch_of(p, KC_UNITS),
                                   .blocks = MOST_BLOCKS};
    const double rows = (double)tn_cu_gemm_tiles_down(p, &plan) * TN_CU_BLOCKS_SIDE;
    offer(limits, &plan, "gemm-blocks-tile", "tiles of decoded blocks, no workspace", 0,
          c.adds / (double)p->m * rows / (0.2 * 128 * c.clock * limits->multiprocessors) +
              c.bytes / c.bandwidth + 4e-6,
          out);
}

/* Tiles of tensor cores that multiply bytes. */
static void offer_mma(const tn_cu_limits *limits, const tn_gemm_problem *p, size_t workspace,
                      tn_choices *out) {
    enum { PLAIN, MINIMUM, HALVED, KINDS };
    static const struct {
        const char *kernels[KINDS];
        int32_t side, threads, resident;
        double share;
    } tiles[] = {
        {{"gemm_blocks_mma_plain_128", "gemm_blocks_mma_minimum_128", "gemm_blocks_mma_halved_128"},
         128,
         256,
         1,
         0.6},
        {{"gemm_blocks_mma_plain_64", "gemm_blocks_mma_minimum_64", "gemm_blocks_mma_halved_64"},
         64,
         128,
         2,
         0.45}};
    const tenon_dtype b = p->operand[TN_GEMM_B].dtype;
    const int kind = b == TENON_Q6_K || b == TENON_NVFP4 ? HALVED
                     : b == TENON_Q4_1 || b == TENON_Q5_1 || b == TENON_Q4_K || b == TENON_Q5_K
                         ? MINIMUM
                         : PLAIN;
    const costs c = costs_of(limits, p);
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        const int32_t side = tiles[i].side, pitch = pitch_of(p, KC_UNITS),
                      stages = TN_CU_BLOCKS_STAGES * side * TN_CU_RECORD +
                               2 * side * (TN_CU_RECORD + pitch * 4),
                      sums = side * (side + 8) * 4;
        const tn_cu_gemm_state plan = {.module = "gemm_blocks_mma",
                                       .kernel = tiles[i].kernels[kind],
                                       .rows = side,
                                       .cols = side,
                                       .threads = tiles[i].threads,
                                       .shared_bytes = stages > sums ? stages : sums,
                                       .segments = 1,
                                       .halves_in_tile = 1,
                                       .pitch = pitch,
                                       .rounds = 1,
                                       .blocks = MOST_BLOCKS};
        /* Tiles of a multiprocessor, one after the other unless there are as many as it holds. Its
         * additions in f32, three for each element and 32 steps: 1365 multiply-adds a clock. */
        const int64_t each = tn_ceil_div(tn_cu_gemm_tiles(p, &plan), limits->multiprocessors);
        const double share = tiles[i].share * (each < tiles[i].resident ? 0.7 : 1),
                     seconds = (double)each * side * side * (double)p->k / (share * 1365 * c.clock);
        offer(limits, &plan, "gemm-blocks-mma", "tensor cores multiply bytes", workspace,
              seconds + c.bytes / c.bandwidth + 8e-6, out);
    }
}

void tn_cu_gemm_blocks_plan(const tn_cu_limits *limits, const tn_gemm_problem *p, tn_choices *out) {
    const bool fast = rounds(p) && p->k > 0;
    const size_t workspace = fast ? (size_t)(rounded_members(p) * rounded_bytes(p)) : 0;
    if (!b_has_factors(p) && (fast || p->m <= 64))
        offer_few(limits, p, fast, workspace, out);
    if (fast && limits->capability >= 80 && limits->code >= 80)
        offer_mma(limits, p, workspace, out);
    /* Where no multiprocessor holds what bytes need (sm_75: a pass of Q8_0), A is not rounded. */
    if (!fast || out->count == 0)
        offer_tile(limits, p, out);
}

/* ---- the run */

static tenon_status launch(tn_cu_work *work, const tn_cu_gemm_blocks *x, const char *module,
                           const char *kernel, int64_t blocks, int32_t threads, int32_t shared,
                           bool scratch_only, tn_message *why) {
    tn_cu_launch l = {.module = module,
                      .kernel = kernel,
                      .grid = {(unsigned)tn_min64(blocks, MOST_BLOCKS)},
                      .group = {(unsigned)threads},
                      .shared_bytes = (size_t)shared,
                      .scratch_only = scratch_only,
                      .parameter_bytes = sizeof *x};
    memcpy(l.parameters, x, sizeof *x);
    return tn_cu_launch_add(work, &l, why);
}

tenon_status tn_cu_gemm_blocks_run(tn_cu_work *work, const tn_run *run, const tn_gemm_problem *p,
                                   const tn_cu_gemm_state *plan, const tn_cu_gemm *g,
                                   tn_message *why) {
    tn_cu_gemm_blocks x = {.g = *g, .pitch = plan->pitch};
    if (plan->rounds) {
        x.rounded = tn_cu_address(&run->places->scratch);
        x.rounded_members = rounded_members(p);
        x.rounded_step = x.rounded_members > 1 ? rounded_bytes(p) : 0;
        TN_TRY(launch(work, &x, "gemm_blocks", "gemm_blocks_round",
                      tn_ceil_div(x.rounded_members * p->m * (p->k / TN_CU_UNIT), ROUND_WARPS),
                      ROUND_WARPS * 32, 0, true, why));
    }
    return launch(work, &x, plan->module, plan->kernel, g->tiles, plan->threads, plan->shared_bytes,
                  false, why);
}
