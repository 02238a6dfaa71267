/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_vector.c: the arrangement for a few rows, at the speed of memory: B is read in place.
 *
 * Columns of C are dealt out; each task reads its columns of B once, for all rows.
 */
#include "cpu/cpu_gemm.h"

/* Takes A's zeros, bytes, from steps p0 ... p0 + steps of row i, as the integer kernels have it. */
static void take_zeros(const tn_gemm_job *job, const tn_gemm_member *x, int64_t i, int64_t p0,
                       int64_t steps, int16_t *row) {
    const tn_gemm_operand *o = &job->p.operand[TN_GEMM_A_ZERO];
    const int64_t size = job->p.group[TN_GEMM_A_ZERO];
    for (int64_t q = 0; q < steps;) {
        const int64_t group = (p0 + q) / size, end = tn_min64(steps, (group + 1) * size - p0);
        const int32_t zero =
            tn_gemm_byte_at(o->dtype, x->at[TN_GEMM_A_ZERO], i * o->row + group * o->column);
        for (; q < end; q++)
            row[q] = (int16_t)(row[q] - zero);
    }
}

/* B's zeros, bytes, one for each column: sum a (b - y) = sum a b - y sum a, modulo 2^32, of `steps`
 * steps of one row. */
static void take_zeros_of_b(const tn_gemm_job *job, const tn_gemm_member *x, const int16_t *row,
                            int64_t steps, int64_t j0, int64_t cols, uint32_t *sums) {
    const tn_gemm_operand *o = &job->p.operand[TN_GEMM_B_ZERO];
    int64_t sum = 0;
    for (int64_t q = 0; q < steps; q++)
        sum += row[q];
    for (int64_t j = 0; j < cols; j++)
        sums[j] -= (uint32_t)sum *
                   (uint32_t)tn_gemm_byte_at(o->dtype, x->at[TN_GEMM_B_ZERO], (j0 + j) * o->column);
}

/* Columns j0 ... j0 + cols of all rows of a member. A that is not as the kernels read it is
 * converted some blocks of k at a time. */
static void vector_piece(const tn_gemm_job *job, const tn_gemm_member *x, int64_t j0, int64_t cols,
                         char *own) {
    const tn_gemm_problem *p = &job->p;
    const tn_gemm_plan *plan = job->plan;
    const tn_gemm_operand *a = &p->operand[TN_GEMM_A], *b = &p->operand[TN_GEMM_B];
    const int64_t a_size = (int64_t)tn_gemm_element(a->dtype),
                  b_size = (int64_t)tn_gemm_element(b->dtype);
    const int64_t chunk = plan->chunk ? plan->chunk : p->k;
    const tn_gemm_sums s =
        plan->in_place ? tn_gemm_sums_in_c(job, x, 0, j0)
                       : tn_gemm_sums_in_buffer(job, own + plan->a_bytes + plan->b_bytes, cols);

    for (int64_t p0 = 0; p0 < p->k; p0 += chunk) {
        const int64_t steps = tn_min64(chunk, p->k - p0);
        tn_gemv_args t = {
            .a = x->at[TN_GEMM_A],
            .b = x->at[TN_GEMM_B] + (j0 * b->column + p0 * b->row) * b_size,
            .y = s.at,
            .scratch = own + plan->a_bytes,
            .k = steps,
            .block = TN_GEMM_KC,
            .n = cols,
            .row = b->row,
            .column =
                p->n == 1 ? b->row != 1 : b->column, /* a single column's own stride says nothing */
            .rows = p->m,
            .a_step = a->row,
            .y_step = s.ld,
            .add = p0 > 0,
        };
        if (plan->chunk) {
            for (int64_t i = 0; i < p->m; i++) {
                char *row = own + i * chunk * (int64_t)job->element;
                job->tile->load[a->dtype](x->at[TN_GEMM_A] + (i * a->row + p0 * a->column) * a_size,
                                          a->column, steps, row);
                if (p->operand[TN_GEMM_A_ZERO].dtype)
                    take_zeros(job, x, i, p0, steps, (int16_t *)(void *)row);
            }
            t.a = own;
            t.a_step = chunk;
        }
        job->tile->gemv[b->dtype](&t);
        for (int64_t i = 0; i < p->m && p->operand[TN_GEMM_B_ZERO].dtype; i++)
            take_zeros_of_b(job, x, (const int16_t *)(const void *)own + 2 * i * chunk, steps, j0,
                            cols, (uint32_t *)(void *)s.at + i * s.ld);
    }
    tn_gemm_finish_rows(job, x, &s, 0, p->m, j0, cols);
}

static void vector_place(const tn_gemm_job *job, int64_t index, char *own) {
    const int64_t across = tn_ceil_div(job->p.n, job->plan->nc),
                  j0 = index % across * job->plan->nc;
    tn_gemm_member x;
    tn_gemm_batch_member(job, index / across, &x);
    vector_piece(job, &x, j0, tn_min64(job->plan->nc, job->p.n - j0), own);
}

static void vector_task(void *arg, int64_t index, int worker) {
    vector_place(arg, index, tn_gemm_worker_buffer(arg, worker));
}

static void vector_stack_task(void *arg, int64_t index, int worker) {
    _Alignas(64) char own[TN_CPU_STACK];
    (void)worker;
    vector_place(arg, index, own);
}

void tn_gemm_run_vector(tn_gemm_job *job, tn_team *team) {
    tn_team_run(team, job->plan->on_stack ? vector_stack_task : vector_task, job,
                job->p.batch_count * tn_ceil_div(job->p.n, job->plan->nc));
}
