/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_gemm_numbers.c: a product in the kernels' numbers: where each operand of each member lies,
 * counted in bytes, which of a B of blocks k steps do not: its row is 0. Called by cl_gemm.c and
 * cl_gemm_packed.c; decides nothing.
 *
 * Members of pointer arrays lie side by side here (core/places.h), those of a packed B where
 * gemm_pack.cl put them, so that kernels see an ordinary batch.
 */
#include "opencl/cl_gemm.h"
#include "ops/blocks.h"

#include <stdio.h>

static bool packed(const tn_gemm_problem *p) {
    return p->operand[TN_GEMM_B_PACKED].dtype != TENON_DTYPE_NONE;
}

/* Bytes from one index of batch dimension d to the next. */
static int64_t step_of(const tn_gemm_problem *p, int role, int32_t d, int64_t b_width) {
    const tn_gemm_operand *o = &p->operand[role];
    if (role != TN_GEMM_B || !packed(p))
        return tn_bytes_of(o->dtype, o->batch[d]);
    if (!tn_cl_packed_differs(p, d))
        return 0;
    int64_t step = tn_cl_packed_member(p, b_width);
    for (int32_t later = d + 1; later < p->batch_rank && p->experts == 0; later++)
        step *= tn_cl_packed_differs(p, later) ? p->batch[later] : 1;
    return step;
}

static void set_members(const tn_gemm_problem *p, const tn_places *places, tn_cl_gemm *g) {
    enum { LAST = TN_CL_GEMM_BATCH - 1 };
    for (int d = 0; d < TN_CL_GEMM_BATCH; d++)
        g->batch[d] = 1;
    if (p->experts > 0) {
        g->batch[LAST] = p->experts;
        for (int role = 0; role < TN_GEMM_OFFSETS; role++)
            g->step[role][LAST] = step_of(p, role, 0, g->b_width);
        return;
    }
    if (p->pointer_array) {
        g->batch[LAST] = p->batch_count;
        for (int role = TN_GEMM_A; role <= TN_GEMM_C; role++)
            g->step[role][LAST] = places->step[role];
        return;
    }
    for (int32_t d = 0; d < p->batch_rank && d < TN_CL_GEMM_BATCH; d++) {
        const int32_t of = p->batch_rank - 1 - d;
        g->batch[LAST - d] = p->batch[of];
        for (int role = 0; role < TN_GEMM_OFFSETS; role++)
            g->step[role][LAST - d] = step_of(p, role, of, g->b_width);
    }
}

/* In place of B and its companions: its elements are converted and scaled already. */
static void set_packed(const tn_gemm_problem *p, tn_cl_gemm *g) {
    g->type[TN_GEMM_B] = (int32_t)tn_cl_packed_type(p);
    g->type[TN_GEMM_B_SCALE] = g->type[TN_GEMM_B_ZERO] = 0;
    g->b_panels = tn_ceil_div(p->n, g->b_width) * (p->gated != TENON_GATED_NONE ? 2 : 1);
}

void tn_cl_gemm_numbers(const tn_gemm_problem *p, const tn_places *places, int64_t b_width,
                        tn_cl_gemm *g) {
    *g = (tn_cl_gemm){.m = p->m,
                      .n = p->n,
                      .k = p->k,
                      .experts = p->experts,
                      .alpha = tn_cl_number_of(p->alpha),
                      .beta = tn_cl_number_of(p->beta),
                      .low = tn_cl_number_of(p->clamp_low),
                      .high = tn_cl_number_of(p->clamp_high),
                      .activation = (int32_t)p->activation,
                      .gated = (int32_t)p->gated,
                      .b_width = b_width};
    for (int i = 0; i < 4; i++)
        g->group[i] = tn_max64(p->group[TN_GEMM_A_SCALE + i], 1);
    for (int role = 0; role < TN_CL_GEMM_OPERANDS; role++) {
        const tn_gemm_operand *o = &p->operand[role];
        g->type[role] = (int32_t)o->dtype;
        g->row[role] = tn_bytes_of(o->dtype, o->row);
        g->column[role] = tn_bytes_of(o->dtype, o->column);
    }
    set_members(p, places, g);
    if (b_width)
        set_packed(p, g);
    else if (packed(p)) /* blocks, one column after the other */
        g->column[TN_GEMM_B] = tn_bytes_of(p->operand[TN_GEMM_B].dtype, p->k);
    tn_cl_gemm_place(p, places, 0, g);
}

int64_t tn_cl_gemm_outer(const tn_gemm_problem *p) {
    int64_t outer = 1;
    for (int32_t d = 0; d + TN_CL_GEMM_BATCH < p->batch_rank && p->experts == 0; d++)
        outer *= p->batch[d];
    return outer;
}

void tn_cl_gemm_place(const tn_gemm_problem *p, const tn_places *places, int64_t outer,
                      tn_cl_gemm *g) {
    for (int role = 0; role < TN_CL_GEMM_OPERANDS; role++) {
        int64_t index = outer;
        g->start[role] = role == TN_GEMM_B && packed(p)
                             ? (int64_t)places->operand[TN_GEMM_B_PACKED].offset + TN_CL_PACKED_HEAD
                             : (int64_t)places->operand[role].offset;
        if (p->experts > 0)
            continue;
        for (int32_t d = p->batch_rank - TN_CL_GEMM_BATCH - 1; d >= 0; d--) {
            g->start[role] += index % p->batch[d] * step_of(p, role, d, g->b_width);
            index /= p->batch[d];
        }
    }
}

/* Types that kernels which read an operand in one place only are specialised for. */
int tn_cl_gemm_special(tenon_dtype type) {
    return type == TENON_F32 || type == TENON_F16 || type == TENON_BF16 || type == TENON_F64
               ? (int)type
               : 0;
}

void tn_cl_gemm_packing(const tn_cl_gemm_state *plan, const tn_gemm_problem *p, char *options) {
    snprintf(options, TN_CL_OPTIONS,
             "-DTN_SUM=%d -DTN_WIDTH=%d -DTN_EPILOGUE=0 -DTN_MR=%d -DTN_NV=%d -DTN_TYPE_A=%d "
             "-DTN_TYPE_B=%d",
             plan->sum, plan->width, plan->mr, plan->nv,
             tn_cl_gemm_special(p->operand[TN_GEMM_A].dtype),
             tn_cl_gemm_special(p->operand[TN_GEMM_B].dtype));
}

void tn_cl_gemm_arguments(tn_cl_launch *launch, const tn_places *places, const tn_place *scratch,
                          bool packed_b, const tn_cl_gemm *numbers) {
    for (int role = 0; role < TN_CL_GEMM_OPERANDS; role++)
        tn_cl_arg_memory(launch,
                         &places->operand[role == TN_GEMM_B && packed_b ? TN_GEMM_B_PACKED : role]);
    tn_cl_arg_memory(launch, scratch);
    tn_cl_arg_bytes(launch, numbers, sizeof *numbers);
}
