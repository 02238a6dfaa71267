/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_gemm.c: a planned product as launches: the kernels' numbers, macros and work sizes, pass by
 * pass.
 *
 * Decides nothing: cl_gemm_plan.c has. All kernels of a product take the same arguments, the
 * memories of its operands and its numbers (kernels/gemm.cl).
 */
#include "opencl/cl_gemm.h"
#include "opencl/cl_work.h"

#include <stdio.h>

/* Of a work-group of gemm_local.cl: items in each direction, and steps of k in local memory. */
enum { LOCAL_EACH = 4, LOCAL_STEP = 16, PLAIN_COLUMNS = 16 };

typedef struct gemm_run {
    const tn_gemm_problem *p;
    tn_cl_gemm_state plan;
    const tn_run *run;
    tn_cl_work *work;
    tn_message *why;
    tn_cl_gemm numbers; /* of the pass at hand */
    int64_t members;    /* of the pass */
} gemm_run;

static bool present(const tn_gemm_problem *p, int role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

/* Of B as the kernels find it. */
static tenon_dtype b_type(const gemm_run *r) {
    return r->plan.b_width ? tn_cl_packed_type(r->p) : r->p->operand[TN_GEMM_B].dtype;
}

/* Kernels that know only numbers have another program where B is of blocks. */
static const char *program_of(const gemm_run *r, const char *kernel, bool packs) {
    static const char *const of_blocks[][2] = {{"gemm_plain", "gemm_plain_blocks"},
                                               {"gemm_local", "gemm_local_blocks"},
                                               {"gemm_small", "gemm_small_blocks"},
                                               {"gemm_tile", "gemm_tile_blocks"}};
    for (size_t i = 0; r->plan.blocks && !packs && i < sizeof of_blocks / sizeof *of_blocks; i++)
        if (strcmp(kernel, of_blocks[i][0]) == 0)
            return of_blocks[i][1];
    return kernel;
}

static tenon_status launch(gemm_run *r, const char *kernel, int type, int64_t x, int64_t y,
                           int64_t z, bool packs) {
    const tn_cl_gemm_state *plan = &r->plan;
    const tn_gemm_operand *b = &r->p->operand[TN_GEMM_B];
    char options[TN_CL_OPTIONS];
    tn_cl_launch l = {.program = program_of(r, kernel, packs),
                      .kernel = kernel,
                      .options = options,
                      .dims = 3,
                      .global = {(size_t)x, (size_t)y, (size_t)z},
                      .local = {1, 1, 1},
                      .scratch_only = packs};
    const int used =
        snprintf(options, sizeof options, "-DTN_SUM=%d -DTN_WIDTH=%d", plan->sum, plan->width);
    char *at = options + used;
    const size_t left = sizeof options - (size_t)used;
    if (packs)
        tn_cl_gemm_packing(plan, r->p, options);
    else if (plan->kind == TN_CL_GEMM_PLAIN)
        snprintf(at, left, " -DTN_EPILOGUE=%d -DTN_FAST=%d", plan->epilogue, plan->fast);
    else if (plan->kind == TN_CL_GEMM_LOCAL)
        snprintf(at, left,
                 " -DTN_EPILOGUE=%d -DTN_GROUP=%d -DTN_EACH=%d -DTN_STEP=%d -DTN_TYPE_A=%d "
                 "-DTN_TYPE_B=%d",
                 plan->epilogue, plan->rows / LOCAL_EACH, LOCAL_EACH, LOCAL_STEP, type,
                 type ? (int)b_type(r) : 0);
    else if (plan->kind == TN_CL_GEMM_ROWS)
        snprintf(at, left,
                 " -DTN_EPILOGUE=%d -DTN_MR=%d -DTN_NV=1 -DTN_COLS=%d -DTN_TYPE=%d -DTN_TURNED=%d",
                 plan->epilogue, plan->mr, plan->cols, type, b->column != 1);
    else if (plan->kind == TN_CL_GEMM_FEW)
        snprintf(at, left,
                 " -DTN_EPILOGUE=%d -DTN_ROWS=%d -DTN_GROUP=%d -DTN_FAST=%d -DTN_STAGED=1",
                 plan->epilogue, plan->rows, plan->cols, plan->fast);
    else if (plan->kind == TN_CL_GEMM_BLOCKS)
        snprintf(at, left,
                 " -DTN_EPILOGUE=%d -DTN_MR=%d -DTN_NV=1 -DTN_ROWS=%d -DTN_COLS=%d -DTN_FAST=%d",
                 plan->epilogue, plan->rows, plan->rows, plan->cols, plan->fast);
    else
        snprintf(at, left, " -DTN_EPILOGUE=%d -DTN_MR=%d -DTN_NV=%d -DTN_ROWS=%d -DTN_COLS=%d",
                 plan->epilogue, plan->mr, plan->nv, plan->rows, plan->cols);
    if (plan->kind == TN_CL_GEMM_LOCAL)
        l.local[0] = l.local[1] = (size_t)(plan->rows / LOCAL_EACH);
    if (plan->kind == TN_CL_GEMM_FEW)
        l.local[0] = (size_t)plan->cols;
    tn_cl_gemm_arguments(&l, r->run->places, &r->run->places->scratch,
                         present(r->p, TN_GEMM_B_PACKED), &r->numbers);
    return tn_cl_launch_add(r->work, &l, r->why);
}

/* Tiles of `height` rows in the pass; each expert may begin one more. */
static int64_t tiles_down(const gemm_run *r, int64_t height) {
    return tn_ceil_div(r->numbers.rows, height) + r->p->experts;
}

static bool still(const gemm_run *r, int role) {
    for (int d = 0; d < TN_CL_GEMM_BATCH; d++)
        if (present(r->p, role) && r->numbers.batch[d] > 1 && r->numbers.step[role][d] != 0)
            return false;
    return true;
}

/* One pass over rows and columns that are set, all of its members; `again`: A is packed already. */
static tenon_status pass(gemm_run *r, bool again) {
    const tn_cl_gemm_state *plan = &r->plan;
    const tn_gemm_operand *operand = r->p->operand;
    tn_cl_gemm *g = &r->numbers;
    const int64_t members = r->p->experts > 0 ? 1 : r->members;
    const int64_t halves = r->p->gated != TENON_GATED_NONE ? 2 : 1;
    const int64_t nr = plan->nv * plan->width;

    g->a_panels = tiles_down(r, plan->mr);
    if (!plan->b_width)
        g->b_panels = tn_ceil_div(g->cols, nr) * halves;
    switch ((tn_cl_gemm_kind)plan->kind) {
    case TN_CL_GEMM_PLAIN:
        return launch(r, "gemm_plain", 0, tn_ceil_div(g->cols, PLAIN_COLUMNS), tiles_down(r, 1),
                      members, false);
    case TN_CL_GEMM_LOCAL: {
        const bool both =
            tn_cl_gemm_special(operand[TN_GEMM_A].dtype) && tn_cl_gemm_special(b_type(r));
        const int64_t group = plan->rows / LOCAL_EACH;
        return launch(r, plan->fast ? "gemm_blocks_local" : "gemm_local",
                      both ? (int)operand[TN_GEMM_A].dtype : 0,
                      tn_ceil_div(g->cols, plan->cols) * group, tiles_down(r, plan->rows) * group,
                      members, false);
    }
    case TN_CL_GEMM_SMALL:
        return launch(r, "gemm_small", 0, tn_ceil_div(g->b_panels * nr, plan->cols),
                      tiles_down(r, plan->rows), members, false);
    case TN_CL_GEMM_ROWS:
        return launch(r, "gemm_rows", (int)operand[TN_GEMM_B].dtype,
                      tn_ceil_div(g->cols, plan->cols), 1, members, false);
    case TN_CL_GEMM_BLOCKS:
        return launch(r, "gemm_blocks", 0, tn_ceil_div(g->b_panels * nr, plan->cols),
                      tiles_down(r, plan->rows), members, false);
    case TN_CL_GEMM_FEW:
        return launch(r, "gemm_blocks_few", 0, tn_round_up(g->cols, plan->cols),
                      tiles_down(r, plan->rows), members, false);
    case TN_CL_GEMM_TILE:
        break;
    }

    const int64_t blocks = tn_ceil_div(g->k, TN_CL_GEMM_KC), size = plan->sum == 1 ? 8 : 4;
    const bool a_once = r->p->experts > 0 || (still(r, TN_GEMM_A) && still(r, TN_GEMM_A_SCALE) &&
                                              still(r, TN_GEMM_A_ZERO)),
               b_once = r->p->experts == 0 && still(r, TN_GEMM_B) && still(r, TN_GEMM_B_SCALE) &&
                        still(r, TN_GEMM_B_ZERO);
    g->a_members = a_once ? 1 : (int32_t)r->members;
    g->b_members = b_once ? 1 : (int32_t)r->members;
    g->a_packed = (int64_t)r->run->places->scratch.offset;
    g->b_packed =
        g->a_packed + tn_round_up(g->a_members * g->a_panels * plan->mr * g->k * size, 4096);
    g->a_pieces = again ? 0 : g->a_panels;
    if (plan->b_width || plan->blocks)
        g->b_members = 0;
    const int64_t b_pieces = g->b_members ? tn_ceil_div(g->b_panels, TN_CL_PACK_PANELS) : 0;
    if (g->a_pieces + b_pieces > 0)
        TN_TRY(launch(r, "gemm_pack", 0, g->a_pieces + b_pieces, blocks,
                      tn_max64(g->a_members, g->b_members), true));
    return launch(r, "gemm_tile", 0, tn_ceil_div(g->b_panels * nr, plan->cols),
                  tiles_down(r, plan->rows), members, false);
}

static tenon_status all_passes(gemm_run *r) {
    const tn_gemm_problem *p = r->p;
    tn_cl_gemm *g = &r->numbers;
    const int64_t outer = tn_cl_gemm_outer(p),
                  inner = (p->experts > 0 ? p->experts : p->batch_count) / outer;

    for (int64_t o = 0; o < outer; o++) {
        tn_cl_gemm_place(p, r->run->places, o, g);
        const int64_t most = tn_min64(r->plan.members, inner);
        for (g->member0 = 0; g->member0 < inner; g->member0 += most) {
            r->members = tn_min64(most, inner - g->member0);
            for (g->i0 = 0; g->i0 < p->m; g->i0 += r->plan.pass_rows)
                for (g->j0 = 0; g->j0 < p->n; g->j0 += r->plan.pass_cols) {
                    g->rows = tn_min64(r->plan.pass_rows, p->m - g->i0);
                    g->cols = tn_min64(r->plan.pass_cols, p->n - g->j0);
                    TN_TRY(pass(r, g->j0 > 0));
                }
        }
    }
    return TENON_OK;
}

/* A kernel that asks for less of the device and its compiler; false: there is none. */
static bool make_simpler(const tn_gemm_problem *p, tn_cl_gemm_state *plan) {
    if (plan->kind == TN_CL_GEMM_PLAIN)
        return false;
    if (plan->kind == TN_CL_GEMM_LOCAL && plan->rows > TN_CL_GEMM_LOCAL_LEAST)
        plan->rows = plan->cols = TN_CL_GEMM_LOCAL_LEAST;
    else
        *plan = tn_cl_gemm_plain(p, plan->fp64, plan->b_width);
    return true;
}

tenon_status tn_cl_gemm_run(tn_cl_work *work, const tn_run *run, tn_message *why) {
    gemm_run r = {.p = run->problem, .run = run, .work = work, .why = why};

    memcpy(&r.plan, run->choice->state, sizeof r.plan);
    tn_cl_gemm_numbers(r.p, run->places, r.plan.b_width, &r.numbers);
    tenon_status status = all_passes(&r);
    while (status == TENON_ERROR_UNSUPPORTED && make_simpler(r.p, &r.plan)) {
        tn_cl_work_end(work); /* nothing of it has been queued */
        status = all_passes(&r);
    }
    return status;
}
