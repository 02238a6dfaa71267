/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_chooser.h: what the files that plan the CPU's matrix product share: the product as it is
 * computed with what is known of the machine, and the sizes that follow from both.
 *
 * cpu_gemm_plan.c chooses among all arrangements; cpu_gemm_plan_few.c sizes those for a few rows,
 * cpu_gemm_plan_sums.c those for sums that are short or long beside the rest of the product.
 */
#ifndef TN_CPU_GEMM_CHOOSER_H
#define TN_CPU_GEMM_CHOOSER_H

#include "cpu/cpu_gemm.h"

/* Rows up to which A is packed once in whole and every worker packs its own columns of B: no worker
 * then packs anything twice. */
#define FEW_ROWS 256

/* Multiply-adds worth waking another worker for: about 2 us of one core, some times the cost of
 * handing a task over. */
#define WORTH_A_TASK 1e5

/* What two buffers of a worker may gain by rounding their sizes up to 64. */
#define ROUNDING 128

/* What the chooser knows while it fills one plan. */
typedef struct chooser {
    const tn_gemm_problem *p; /* as computed */
    const tn_gemm_tile *tile,
        *vector; /* of the arrangements that pack, and of the one that doesn't */
    tn_cpu_caches caches;
    int threads;
    int64_t element, halves, members;
    int64_t kc;  /* longest block of k */
    double work; /* multiply-adds of the whole */
    bool transposed, in_place, factors_a, factors_b, packed;
} chooser;

/* Largest pieces that an arrangement may have, in whole tiles. */
typedef struct piece_most {
    int64_t rows, cols, depth;
} piece_most;

static inline int64_t clamp64(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : x > high ? high : x;
}

/* The size, a multiple of `unit`, of each of the fewest equal parts of `total` that are at most
 * `most`. */
static inline int64_t even_part(int64_t total, int64_t most, int64_t unit) {
    const int64_t parts = tn_ceil_div(total > 0 ? total : 1, most);
    return tn_round_up(tn_ceil_div(total > 0 ? total : 1, parts), unit);
}

/* How many tasks are wanted: a few per worker for balance, fewer if each would be tiny. */
static inline int64_t tasks_wanted(const chooser *c) {
    const double most = 1 + c->work / WORTH_A_TASK;
    const int64_t wanted = c->threads > 1 ? 4 * (int64_t)c->threads : 1;
    return most < (double)wanted ? (int64_t)most : wanted;
}

static inline int64_t rows_in_l2(const chooser *c) {
    const int64_t panels = (int64_t)c->caches.l2 / 2 / tn_gemm_a_bytes(c->tile, TN_GEMM_KC);
    return clamp64(panels, 4, 64) * c->tile->mr;
}

static inline size_t a_block_bytes(const chooser *c, int64_t rows, int64_t kc) {
    return (size_t)(tn_ceil_div(rows, c->tile->mr) * tn_gemm_a_bytes(c->tile, kc));
}

static inline size_t panel_bytes(const chooser *c, int64_t cols, int64_t kc) {
    return tn_round64((size_t)(tn_ceil_div(cols, c->tile->nr) * tn_gemm_b_bytes(c->tile, kc)));
}

static inline size_t sum_bytes(const chooser *c, int64_t rows, int64_t cols) {
    return tn_round64((size_t)(rows * c->halves * tn_round_up(cols, c->tile->nr) * c->element));
}

static inline bool b_by_rows(const tn_gemm_problem *p) {
    return p->operand[TN_GEMM_B].column == 1 || p->n == 1;
}

/* Whether a panel of B may be B itself: of the panels' type, rows contiguous, nothing to apply. */
static inline bool b_is_direct(const chooser *c) {
    const tn_gemm_operand *b = &c->p->operand[TN_GEMM_B];
    return b->dtype == c->tile->b_panel && c->tile->group == 1 && b->column == 1 && !c->factors_b &&
           !c->packed && c->p->gated != TENON_GATED_INTERLEAVED;
}

/* ---- cpu_gemm_plan_sums.c: each fills an empty plan or says no */

/* A, B and C where they lie. */
bool tn_gemm_plan_direct(const chooser *c, tn_gemm_plan *plan);

/* The same with B in strips. */
bool tn_gemm_plan_strips(const chooser *c, tn_gemm_plan *plan);

/* Blocks of k shared out, in passes of at most most->depth steps. */
bool tn_gemm_plan_split(const chooser *c, const piece_most *most, tn_gemm_plan *plan);

/* ---- cpu_gemm_plan_few.c: each fills an empty plan or says no */

/* B read in place; on_stack: without workspace. */
bool tn_gemm_plan_vector(const chooser *c, bool on_stack, tn_gemm_plan *plan);

/* Panels of B copied while others are multiplied. */
bool tn_gemm_plan_stream(const chooser *c, tn_gemm_plan *plan);

/* Every worker packs what it uses, in pieces of at most `most`. */
bool tn_gemm_plan_private(const chooser *c, const piece_most *most, tn_gemm_plan *plan);

#endif
