/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm.c: runs a planned product: the problem as it is computed, then the plan's arrangement of
 * the loops.
 *
 * The loops are those of Goto and van de Geijn (Anatomy of High-Performance Matrix Multiplication,
 * 2008) in six arrangements (tn_gemm_kind), a file each. In all of them k is cut into blocks of
 * TN_GEMM_KC, a block's sum is one chain per element, and block sums are added in ascending order,
 * in C itself where it has the type of the sums and needs nothing else meanwhile, else in a buffer.
 * So the arrangement never shows in the result.
 */
#include "cpu/cpu_gemm.h"

/* Role of the operand that stands in for `role` in the transposed problem. */
static int other_role(int role) {
    switch (role) {
    case TN_GEMM_A:
        return TN_GEMM_B;
    case TN_GEMM_B:
        return TN_GEMM_A;
    case TN_GEMM_A_SCALE:
        return TN_GEMM_B_SCALE;
    case TN_GEMM_A_ZERO:
        return TN_GEMM_B_ZERO;
    case TN_GEMM_B_SCALE:
        return TN_GEMM_A_SCALE;
    case TN_GEMM_B_ZERO:
        return TN_GEMM_A_ZERO;
    default:
        return role;
    }
}

void tn_gemm_transpose(const tn_gemm_problem *p, tn_gemm_problem *out) {
    *out = *p;
    out->m = p->n;
    out->n = p->m;
    for (int r = 0; r < TN_GEMM_ROLES; r++) {
        const tn_gemm_operand *from = &p->operand[other_role(r)];
        out->operand[r] = *from;
        out->operand[r].row = from->column;
        out->operand[r].column = from->row;
        out->group[r] = p->group[other_role(r)];
    }
}

TN_HOT void tn_cpu_gemm_run(const tn_run *run) {
    const tn_gemm_problem *p = run->problem;
    const tn_gemm_plan *plan = (const tn_gemm_plan *)(const void *)run->choice->state;
    tn_gemm_job job;
    if (plan->kind == TN_GEMM_DIRECT) {
        tn_gemm_run_direct(run);
        return;
    }
    /* Not the problem too, which is written whole: that would be a fifth of the smallest product's
     * time. */
    memset((char *)&job + sizeof job.p, 0, sizeof job - sizeof job.p);
    job.plan = plan;
    job.tile = plan->tile;
    job.finish = plan->finish;
    job.workspace = run->workspace;
    job.element = tn_gemm_element(plan->tile->type);
    job.halves = p->gated != TENON_GATED_NONE ? 2 : 1;
    if (plan->transposed)
        tn_gemm_transpose(p, &job.p);
    else
        job.p = *p;
    /* Packed blocks are no panels yet: the arrangements have panels packed from them. */
    job.blocks = tn_block_find(job.p.operand[TN_GEMM_B].dtype);
    if (job.blocks && job.p.operand[TN_GEMM_B_PACKED].dtype) {
        job.packed_blocks = true;
        job.p.operand[TN_GEMM_B_PACKED].dtype = TENON_DTYPE_NONE;
    }
    for (int r = 0; r < TN_GEMM_ROLES; r++)
        job.address[r] = run->addresses[plan->transposed ? other_role(r) : r];

    switch (plan->kind) {
    case TN_GEMM_DIRECT: /* has no job */
        break;
    case TN_GEMM_VECTOR:
        tn_gemm_run_vector(&job, run->team);
        break;
    case TN_GEMM_PRIVATE:
        tn_gemm_run_private(&job, run->team);
        break;
    case TN_GEMM_STREAM:
        tn_gemm_run_stream(&job, run->team);
        break;
    case TN_GEMM_SHARED:
        tn_gemm_run_shared(&job, run->team);
        break;
    case TN_GEMM_SPLIT:
        tn_gemm_run_split(&job, run->team);
        break;
    case TN_GEMM_SMALL:
        tn_gemm_run_small(&job, run->team);
        break;
    }
}
