/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_gemm.c: a planned product as launches: the kernels' numbers and the grids.
 *
 * Decides nothing: cu_gemm_plan.c has. All kernels of a product take the same struct (cu_gemm.h).
 */
#include "cuda/cu_gemm_plan.h"

_Static_assert(sizeof(tn_cu_gemm) <= TN_CU_PARAMETER_BYTES, "a kernel's struct");
_Static_assert(TN_CU_GEMM_BATCH == TN_GEMM_BATCH_RANK && TN_CU_GEMM_OPERANDS > TN_GEMM_OFFSETS,
               "a kernel's struct holds a problem");

static void fill(const tn_gemm_problem *p, const tn_cu_gemm_state *plan, const tn_run *run,
                 tn_cu_gemm *g) {
    g->m = p->m;
    g->n = p->n;
    g->k = p->k;
    g->experts = p->experts;
    for (int d = 0; d < TN_CU_GEMM_BATCH; d++)
        g->batch[d] = p->experts == 0 && d < p->batch_rank ? p->batch[d] : 1;
    for (int i = 0; i < 4; i++)
        g->group[i] = tn_max64(p->group[TN_GEMM_A_SCALE + i], 1);
    for (int role = 0; role < TN_CU_GEMM_OPERANDS; role++) {
        const tn_gemm_operand *o = &p->operand[role];
        const int64_t size = tn_element_size(o->dtype);
        if (o->dtype == TENON_DTYPE_NONE)
            continue;
        g->type[role] = (int32_t)o->dtype;
        g->at[role] = tn_cu_address(&run->places->operand[role]);
        g->row[role] = o->row * size;
        g->column[role] = o->column * size;
        for (int d = 0; d < p->batch_rank && p->experts == 0; d++)
            g->step[role][d] = o->batch[d] * size;
        if (p->experts > 0 && role != TN_GEMM_OFFSETS)
            g->step[role][TN_CU_GEMM_BATCH - 1] = o->batch[0] * size;
    }
    g->alpha = p->alpha;
    g->beta = p->beta;
    g->low = p->clamp_low;
    g->high = p->clamp_high;
    g->activation = (int32_t)p->activation;
    g->gated = (int32_t)p->gated;
    g->scale_after = plan->scale_after;
    g->a_wide = plan->a_wide;
    g->b_wide = plan->b_wide;
    g->segments = plan->segments;
    /* Each expert may begin one tile more than its rows fill. */
    g->tiles_down = tn_ceil_div(p->m, plan->rows) + p->experts;
    g->tiles_across = tn_ceil_div(p->n, plan->cols);
    g->tiles = g->tiles_down * g->tiles_across * (p->experts > 0 ? 1 : p->batch_count);
}

tenon_status tn_cu_gemm_run(tn_cu_work *work, const tn_run *run, tn_message *why) {
    const tn_gemm_problem *p = run->problem;
    tn_cu_gemm_state plan;
    tn_cu_gemm g = {0};

    memcpy(&plan, run->choice->state, sizeof plan);
    fill(p, &plan, run, &g);
    if (g.tiles == 0)
        return TENON_OK;
    tn_cu_launch l = {.module = plan.module,
                      .kernel = plan.kernel,
                      .grid = {(unsigned)tn_min64(g.tiles, plan.blocks)},
                      .group = {(unsigned)plan.threads},
                      .shared_bytes = (size_t)plan.shared_bytes,
                      .parameter_bytes = sizeof g};
    memcpy(l.parameters, &g, sizeof g);
    return tn_cu_launch_add(work, &l, why);
}
