/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_gemm.c: a planned product as launches: the kernels' numbers and the grids.
 *
 * Decides nothing: cu_gemm_plan.c has. All kernels of a product take the same struct (cu_gemm.h).
 */
#include "cuda/cu_gemm_plan.h"

#include "ops/blocks.h"

_Static_assert(sizeof(tn_cu_gemm_mapped) <= TN_CU_PARAMETER_BYTES, "a kernel's struct");
_Static_assert(sizeof(tn_cu_gemm_blocks) <= TN_CU_PARAMETER_BYTES, "a kernel's struct");
_Static_assert(TN_CU_GEMM_BATCH == TN_GEMM_BATCH_RANK && TN_CU_GEMM_OPERANDS > TN_GEMM_OFFSETS,
               "a kernel's struct holds a problem");

static uint64_t address_of(const tn_gemm_problem *p, const tn_run *run, int role) {
    const tn_place *operand = run->places->operand;
    return role == TN_GEMM_B && p->operand[TN_GEMM_B_PACKED].dtype != TENON_DTYPE_NONE
               ? tn_cu_address(&operand[TN_GEMM_B_PACKED]) + TN_CU_PACKED_HEAD
               : tn_cu_address(&operand[role]);
}

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
        if (o->dtype == TENON_DTYPE_NONE)
            continue;
        g->type[role] = (int32_t)o->dtype;
        g->at[role] = address_of(p, run, role);
        g->row[role] = tn_bytes_of(o->dtype, o->row);
        g->column[role] = tn_bytes_of(o->dtype, o->column);
        for (int d = 0; d < p->batch_rank && p->experts == 0; d++)
            g->step[role][d] = tn_bytes_of(o->dtype, o->batch[d]);
        if (p->experts > 0 && role != TN_GEMM_OFFSETS)
            g->step[role][TN_CU_GEMM_BATCH - 1] = tn_bytes_of(o->dtype, o->batch[0]);
    }
    /* Members of pointer arrays lie side by side here (core/places.h). */
    if (p->pointer_array) {
        g->batch[0] = p->batch_count;
        for (int role = TN_GEMM_A; role <= TN_GEMM_C; role++)
            g->step[role][0] = run->places->step[role];
    }
    g->alpha = p->alpha;
    g->beta = p->beta;
    g->low = p->clamp_low;
    g->high = p->clamp_high;
    g->activation = (int32_t)p->activation;
    g->gated = (int32_t)p->gated;
    g->scale_after = plan->scale_after;
    g->segments = plan->segments;
    g->segment_steps = plan->segment_steps;
    g->tile_rows = plan->rows;
    g->tile_columns = plan->cols;
    g->tiles_down = tn_cu_gemm_tiles_down(p, plan);
    g->tiles_across = tn_cu_gemm_tiles_across(p, plan);
    g->tiles = tn_cu_gemm_tiles(p, plan);
}

/* What copies of 16 bytes need of an address, which only a run knows. */
static int32_t wide_at(int32_t wide, uint64_t address) {
    return address % 16 == 0 ? wide : 0;
}

static tenon_status launch(tn_cu_work *work, const tn_cu_gemm_state *plan, const tn_cu_gemm *g,
                           bool join, tn_message *why) {
    const int64_t blocks = join ? g->tiles : g->tiles * g->segments;
    tn_cu_launch l = {.module = join ? plan->join_module : plan->module,
                      .kernel = join ? plan->join : plan->kernel,
                      .grid = {(unsigned)tn_min64(blocks, plan->blocks)},
                      .group = {join ? 256U : (unsigned)plan->threads},
                      .shared_bytes = join ? 0 : (size_t)plan->shared_bytes,
                      .scratch_only = plan->segments > 1 && !join,
                      .parameter_bytes = sizeof *g};
    memcpy(l.parameters, g, sizeof *g);
    return tn_cu_launch_add(work, &l, why);
}

/* The same tiles by gemm_wgmma.cu, if A and B can be mapped where they lie. */
static tenon_status launch_mapped(tn_cu_work *work, const tn_gemm_problem *p,
                                  const tn_cu_gemm_state *plan, const tn_cu_gemm *g, bool *done,
                                  tn_message *why) {
    tn_cu_gemm_mapped x = {.g = *g};
    tn_cu_launch l = {.module = "gemm_wgmma",
                      .kernel = plan->mapped,
                      .grid = {(unsigned)tn_min64(g->tiles * g->segments, plan->blocks)},
                      .group = {TN_CU_MAPPED_THREADS},
                      .shared_bytes = TN_CU_MAPPED_SHARED,
                      .scratch_only = plan->segments > 1,
                      .parameter_bytes = sizeof x};
    *done = plan->mapped && tn_cu_gemm_map_operands(work, p, &x);
    if (!*done)
        return TENON_OK;
    memcpy(l.parameters, &x, sizeof x);
    return tn_cu_launch_add(work, &l, why);
}

tenon_status tn_cu_gemm_run(tn_cu_work *work, const tn_run *run, tn_message *why) {
    const tn_gemm_problem view = tn_cu_gemm_view(run->problem), *p = &view;
    tn_cu_gemm_state plan;
    tn_cu_gemm g = {0};
    bool mapped;

    memcpy(&plan, run->choice->state, sizeof plan);
    fill(p, &plan, run, &g);
    if (g.tiles == 0)
        return TENON_OK;
    if (tn_cu_gemm_of_blocks(p))
        return tn_cu_gemm_blocks_run(work, run, p, &plan, &g, why);
    g.a_wide = wide_at(plan.a_wide, g.at[TN_GEMM_A]);
    g.b_wide = wide_at(plan.b_wide, g.at[TN_GEMM_B]);
    if (plan.segments > 1) {
        g.parts = tn_cu_address(&run->places->scratch);
        g.part_elements = g.tiles * plan.rows * plan.cols;
    }
    TN_TRY(launch_mapped(work, p, &plan, &g, &mapped, why));
    if (!mapped)
        TN_TRY(launch(work, &plan, &g, false, why));
    return plan.segments > 1 ? launch(work, &plan, &g, true, why) : TENON_OK;
}
