/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_small.c: the arrangement without workspace: blocks of C, and a few steps of the panels
 * that they meet, on the stacks of the workers.
 */
#include "cpu/cpu_gemm.h"

/* One block of k, columns j0 ... j0 + cols of one half, into `to`, whose rows are ld apart. */
static void small_product(const tn_gemm_job *job, const tn_gemm_place *at, int half, int64_t j0,
                          int64_t cols, int64_t p0, char *own, char *to, int64_t ld) {
    const tn_gemm_plan *plan = job->plan;
    const tn_gemm_tile *tile = job->tile;
    const int64_t nr = tile->nr, size = (int64_t)job->element, step = tn_gemm_small_step(tile),
                  kc = tn_min64(TN_GEMM_KC, job->p.k - p0);
    const bool packed = job->p.operand[TN_GEMM_B_PACKED].dtype != TENON_DTYPE_NONE;
    char *a = own, *b = own + plan->a_bytes;
    tn_gemm_ukr_args t = {.a = a, .ldb = nr, .ldc = ld};

    for (int64_t q = 0; q < kc; q += step) {
        t.kc = tn_min64(step, kc - q);
        t.meet = q == 0 ? TN_GEMM_STORE : TN_GEMM_CHAIN;
        t.settle = !packed || q + t.kc == kc; /* a packed panel's sums are those of all its steps */
        for (int64_t j = 0; j < cols && !packed; j += nr)
            tn_gemm_pack_b(job, &at->x, half, j0 + j, tn_min64(nr, cols - j), p0 + q, t.kc,
                           b + j / nr * tn_gemm_b_bytes(tile, t.kc));
        for (int64_t i = 0; i < at->rows; i += tile->mr) {
            t.rows = (int32_t)tn_min64(tile->mr, at->rows - i);
            tn_gemm_pack_a(job, &at->x, at->i0 + i, t.rows, p0 + q, t.kc, a);
            for (int64_t j = 0; j < cols; j += nr) {
                t.cols = (int32_t)tn_min64(nr, cols - j);
                const char *panel = packed ? tn_gemm_packed_panel(job, &at->x, half, j0 + j, p0, kc)
                                           : b + j / nr * tn_gemm_b_bytes(tile, t.kc);
                t.b = packed ? panel + tn_gemm_b_steps(tile, q) : panel;
                t.b_tail = panel + tn_gemm_b_steps(tile, packed ? kc : t.kc);
                t.c = to + (i * ld + j) * size;
                tile->ukr(&t);
            }
        }
    }
}

/* Columns j0 ... j0 + cols of a place: at most a block. */
static void small_block(const tn_gemm_job *job, const tn_gemm_place *at, int64_t j0, int64_t cols,
                        char *own) {
    const tn_gemm_plan *plan = job->plan;
    const int64_t k = job->p.k;
    /* Behind the panels: a block of k's sums, where there are several blocks; then all of them. */
    char *block = own + plan->a_bytes + plan->b_bytes,
         *all = block +
                (k > TN_GEMM_KC ? tn_round64((size_t)(plan->mc * plan->item_n) * job->element) : 0);
    const tn_gemm_sums s = plan->in_place ? tn_gemm_sums_in_c(job, &at->x, at->i0, j0)
                                          : tn_gemm_sums_in_buffer(job, all, cols);

    if (k == 0)
        tn_gemm_zero_sums(job, &s, at->rows, cols);
    for (int half = 0; half < job->halves; half++) {
        for (int64_t p0 = 0; p0 < k; p0 += TN_GEMM_KC) {
            if (p0 == 0) {
                small_product(job, at, half, j0, cols, p0, own, tn_gemm_sum_at(job, &s, half, 0, 0),
                              s.ld);
                continue;
            }
            small_product(job, at, half, j0, cols, p0, own, block, plan->item_n);
            for (int64_t i = 0; i < at->rows; i++)
                job->tile->ops.add(tn_gemm_sum_at(job, &s, half, i, 0),
                                   block + (size_t)(i * plan->item_n) * job->element, cols);
        }
    }
    tn_gemm_finish_rows(job, &at->x, &s, at->i0, at->rows, j0, cols);
}

static void small_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    _Alignas(64) char own[TN_CPU_STACK];
    tn_gemm_place at;
    (void)worker;
    tn_gemm_find_place(job, index, &at);
    tn_gemm_begin(job->tile);
    for (int64_t j = 0; j < at.cols; j += job->plan->item_n)
        small_block(job, &at, at.j0 + j, tn_min64(job->plan->item_n, at.cols - j), own);
    tn_gemm_end(job->tile);
}

void tn_gemm_run_small(tn_gemm_job *job, tn_team *team) {
    tn_team_run(team, small_task, job,
                tn_gemm_pieces_down(job) * tn_ceil_div(job->p.n, job->plan->nc));
}
