/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_direct.c: the arrangement for small products, whose operands are read where they lie:
 * one call of the kernel for each member, or each piece of rows of it, and nothing else.
 *
 * The only arrangement that works on the problem as it was planned instead of a job (cpu_gemm.h):
 * at 4 x 4 x 4 making the job costs more than the product.
 */
#include "cpu/cpu_gemm.h"

/*
 * Whether B, read where it lies, stays in L1 from one tile's rows to the next: in size, and because
 * its rows are not so far apart that the lines of a panel share too few sets (of eight ways).
 */
static bool b_stays_in_l1(const tn_gemm_problem *p, int64_t size, size_t l1) {
    const int64_t page = 4096, ways = 8;
    const int64_t step = p->operand[TN_GEMM_B].row * size;
    const int64_t common = tn_min64(step & -step, page); /* the largest power of two that divides */
    return p->n * p->k <= (int64_t)l1 / size && p->k * common <= ways * page;
}

bool tn_gemm_direct_takes(const tn_gemm_problem *p, const tn_gemm_tile *tile, size_t l1) {
    const tn_gemm_operand *a = &p->operand[TN_GEMM_A], *b = &p->operand[TN_GEMM_B],
                          *c = &p->operand[TN_GEMM_C];
    if (!tile->direct || p->k < 1 || p->k > TN_GEMM_KC || p->experts > 0 ||
        p->gated != TENON_GATED_NONE || p->activation != TENON_ACTIVATION_NONE)
        return false;
    /* Beside A, B and C there is nothing: of the epilogue the kernel knows alpha and beta. */
    for (int r = TN_GEMM_C + 1; r < TN_GEMM_ROLES; r++)
        if (p->operand[r].dtype != TENON_DTYPE_NONE)
            return false;
    return a->dtype == tile->type && b->dtype == tile->type && c->dtype == tile->type &&
           b->column == 1 && c->column == 1 && p->m > 0 && p->n > 0 && p->n <= (int64_t)l1 &&
           b_stays_in_l1(p, (int64_t)tn_gemm_element(tile->type), l1);
}

typedef struct direct_job {
    const tn_gemm_problem *p;
    const tn_gemm_plan *plan;
    void *const *address;
    tn_gemm_direct_args args; /* of the whole first member */
    int a, b;                 /* the roles of the kernel's operands */
    int64_t size;             /* bytes of an element, in all of them */
} direct_job;

/* The first element of member `index` of an operand. */
static inline char *member_of(const direct_job *job, int role, int64_t index) {
    const tn_gemm_problem *p = job->p;
    const tn_gemm_operand *o = &p->operand[role];
    if (p->pointer_array)
        return ((char *const *)job->address[role])[index];
    const int64_t elements =
        p->batch_rank == 1 ? index * o->batch[0] : tn_gemm_batch_offset(p, o, index);
    return (char *)job->address[role] + elements * job->size;
}

/* Rows i0 ... i0 + mc of `count` members from `first` on. */
static void direct_members(const direct_job *job, int64_t first, int64_t count, int64_t i0) {
    const tn_gemm_tile *tile = job->plan->tile;
    tn_gemm_direct_args t = job->args;
    const int64_t a_skip = i0 * t.a_row * job->size, c_skip = i0 * t.c_row * job->size;
    t.m = tn_min64(job->plan->mc, t.m - i0);
    for (int64_t i = first; i < first + count; i++) {
        t.a = member_of(job, job->a, i) + a_skip;
        t.b = member_of(job, job->b, i);
        t.c = member_of(job, TN_GEMM_C, i) + c_skip;
        tile->direct(&t);
    }
}

static void direct_task(void *arg, int64_t index, int worker) {
    const direct_job *job = arg;
    const int64_t down = tn_ceil_div(job->args.m, job->plan->mc),
                  first = index / down * job->plan->chunk;
    (void)worker;
    direct_members(job, first, tn_min64(job->plan->chunk, job->p->batch_count - first),
                   index % down * job->plan->mc);
}

void tn_gemm_run_direct(const tn_run *run) {
    const tn_gemm_problem *p = run->problem;
    const tn_gemm_plan *plan = (const tn_gemm_plan *)(const void *)run->choice->state;
    const bool turned = plan->transposed;
    const tn_gemm_operand *a = &p->operand[TN_GEMM_A], *b = &p->operand[TN_GEMM_B],
                          *c = &p->operand[TN_GEMM_C];
    direct_job job = {
        .p = p,
        .plan = plan,
        .address = run->addresses,
        .args = {.m = turned ? p->n : p->m,
                 .n = turned ? p->m : p->n,
                 .k = p->k,
                 .a_row = turned ? b->column : a->row,
                 .a_column = turned ? b->row : a->column,
                 .b_row = turned ? a->column : b->row,
                 .c_row = turned ? c->column : c->row,
                 .alpha = p->alpha,
                 .beta = p->beta},
        .a = turned ? TN_GEMM_B : TN_GEMM_A,
        .b = turned ? TN_GEMM_A : TN_GEMM_B,
        .size = (int64_t)tn_gemm_element(plan->tile->type),
    };
    if (plan->mc >= job.args.m && plan->chunk >= p->batch_count)
        direct_members(&job, 0, p->batch_count, 0);
    else
        tn_team_run(run->team, direct_task, &job,
                    tn_ceil_div(job.args.m, plan->mc) * tn_ceil_div(p->batch_count, plan->chunk));
}
