/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_gemm_plan.h: what a plan of a product decides (cu_gemm_plan.c) and its run carries out
 * (cu_gemm.c).
 */
#ifndef TN_CU_GEMM_PLAN_H
#define TN_CU_GEMM_PLAN_H

#include "cuda/cu_gemm.h"
#include "cuda/cu_kernels.h"
#include "ops/numbers.h"

/* Kept in a choice. */
typedef struct tn_cu_gemm_state {
    const char *module, *kernel, *join_module, *join;
    const char *mapped;                  /* of gemm_wgmma.cu, where addresses allow; or NULL */
    int32_t rows, cols;                  /* of a block's tile */
    int32_t threads;                     /* of a block */
    int32_t shared_bytes;                /* dynamic */
    int32_t segments;                    /* > 1: split over k, in as many parts, … */
    int64_t segment_steps;               /* … of so many steps */
    int32_t scale_after, halves_in_tile; /* a tile's columns are B's, those of gates included */
    int32_t a_wide, b_wide;
    int32_t pitch, rounds; /* of blocks: as in tn_cu_gemm_blocks; A is rounded to bytes first */
    int64_t blocks;        /* of a launch, at most */
} tn_cu_gemm_state;

/* Tiles of a member, and of all. Each expert may begin one more than its rows fill. */
static inline int64_t tn_cu_gemm_tiles_down(const tn_gemm_problem *p, const tn_cu_gemm_state *s) {
    return tn_ceil_div(p->m, s->rows) + p->experts;
}
static inline int64_t tn_cu_gemm_tiles_across(const tn_gemm_problem *p, const tn_cu_gemm_state *s) {
    const int32_t halves = s->halves_in_tile && p->gated != TENON_GATED_NONE ? 2 : 1;
    return tn_ceil_div(p->n, s->cols / halves);
}
static inline int64_t tn_cu_gemm_tiles(const tn_gemm_problem *p, const tn_cu_gemm_state *s) {
    return tn_cu_gemm_tiles_down(p, s) * tn_cu_gemm_tiles_across(p, s) *
           (p->experts > 0 ? 1 : p->batch_count);
}

/* ---------------------------------------------------------------- operands by tensor maps */

/* An operand as a tensor map sees it. */
typedef struct tn_cu_gemm_box {
    bool turned;       /* rows of A (columns of B) lie side by side, not steps of k */
    int64_t extent[2]; /* elements: what lies side by side, the other way */
    int64_t over[TN_CU_MAP_BATCH], batch[TN_CU_MAP_BATCH]; /* tn_cu_gemm_map's over and extent */
    int64_t stride[1 + TN_CU_MAP_BATCH];                   /* bytes, of all but the first */
} tn_cu_gemm_box;

/* Whether strides and extents of A or B, as elements of `type`, are a tensor map's. */
bool tn_cu_gemm_box_of(const tn_gemm_problem *p, int role, tenon_dtype type, tn_cu_gemm_box *box);

/* Makes the maps of A and B at x->g's addresses; false where one can't be made. */
bool tn_cu_gemm_map_operands(tn_cu_work *work, const tn_gemm_problem *p, tn_cu_gemm_mapped *x);

/* B of a block type (cu_gemm_blocks.c): all choices there are; and a run of one. */
bool tn_cu_gemm_of_blocks(const tn_gemm_problem *p);
void tn_cu_gemm_blocks_plan(const tn_cu_limits *limits, const tn_gemm_problem *p, tn_choices *out);
tenon_status tn_cu_gemm_blocks_run(tn_cu_work *work, const tn_run *run, const tn_gemm_problem *p,
                                   const tn_cu_gemm_state *plan, const tn_cu_gemm *g,
                                   tn_message *why);

/* A packed B (cu_gemm_packed.c) is a plain one: a product's problem as kernels find it; and where
 * its elements begin behind the caller's address. */
enum { TN_CU_PACKED_HEAD = 64 };
tn_gemm_problem tn_cu_gemm_view(const tn_gemm_problem *p);

_Static_assert(sizeof(tn_cu_gemm_state) <= TN_CHOICE_STATE, "a choice keeps it");

#endif
