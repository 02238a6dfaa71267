/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_private.c: the arrangement in which a worker packs the panels that it uses, and one
 * piece of C from beginning to end is one task.
 *
 * For a few rows, many members, experts, and whatever has too little workspace for more. A of few
 * rows is packed once for all, in a phase of its own.
 */
#include "cpu/cpu_gemm.h"

/* The panel of B for columns j0 ... j0 + cols: in the caller's packed copy, in B itself, or packed
 * into `buffer`. */
static const char *panel_of_b(const tn_gemm_job *job, const tn_gemm_member *x, int half, int64_t j0,
                              int64_t cols, int64_t p0, int64_t kc, char *buffer, int64_t *ldb) {
    const tn_gemm_operand *b = &job->p.operand[TN_GEMM_B];
    *ldb = job->tile->nr;
    if (job->p.operand[TN_GEMM_B_PACKED].dtype)
        return tn_gemm_packed_panel(job, x, half, j0, p0, kc);
    if (job->plan->direct_b && cols == job->tile->nr) {
        *ldb = b->row;
        return x->at[TN_GEMM_B] +
               (p0 * b->row + half * job->p.n + j0) * (int64_t)tn_gemm_element(b->dtype);
    }
    tn_gemm_pack_b(job, x, half, j0, cols, p0, kc, buffer);
    return buffer;
}

/* A's packed panels of block p0 of k, from row i0 on, where all are packed beforehand. */
static char *shared_a(const tn_gemm_job *job, int64_t rows, int64_t i0, int64_t p0) {
    const tn_gemm_tile *tile = job->tile;
    const int64_t kc = tn_min64(TN_GEMM_KC, job->p.k - p0);
    return job->workspace +
           p0 / TN_GEMM_KC * tn_ceil_div(rows, tile->mr) * tn_gemm_a_bytes(tile, TN_GEMM_KC) +
           i0 / tile->mr * tn_gemm_a_bytes(tile, kc);
}

/* What of B the panel after this one will read: where B's columns are contiguous that is a run of
 * each, too short and too many for the hardware to foresee. */
static tn_gemm_ahead ahead_of(const tn_gemm_job *job, const tn_gemm_member *x, int64_t j,
                              int64_t p) {
    const tn_gemm_operand *b = &job->p.operand[TN_GEMM_B];
    const int64_t size = (int64_t)tn_gemm_element(b->dtype);
    tn_gemm_ahead t = {NULL, 0, 0, 0};
    if (p >= job->p.k) {
        p = 0;
        j += job->tile->nr;
    }
    if (j >= job->p.n)
        return t;
    t.at = x->at[TN_GEMM_B] + (j * b->column + p) * size;
    t.step = b->column * size;
    t.runs = (int32_t)tn_min64(job->tile->nr, job->p.n - j);
    while (128 << t.shift <= tn_min64(TN_GEMM_KC, job->p.k - p) * size)
        t.shift++;
    return t;
}

/* A piece's panel at columns j ... j + width, block p0 of k. */
static void panel(const tn_gemm_job *job, const tn_gemm_place *at, const tn_gemm_sums *s, int half,
                  int64_t j, int64_t p0, const char *a, char *b_buffer) {
    const int64_t kc = tn_min64(TN_GEMM_KC, job->p.k - p0);
    const int64_t width = tn_min64(job->tile->nr, at->cols - j);
    int64_t ldb;
    const char *b = panel_of_b(job, &at->x, half, at->j0 + j, width, p0, kc, b_buffer, &ldb);
    const tn_gemm_ahead ahead =
        job->plan->by_panels ? ahead_of(job, &at->x, at->j0 + j, p0 + kc) : (tn_gemm_ahead){0};
    tn_gemm_panel_product(job, a, at->rows, b, ldb, kc, tn_gemm_sum_at(job, s, half, 0, j), s->ld,
                          width, p0 == 0, ahead.at ? &ahead : NULL);
}

static void piece(const tn_gemm_job *job, const tn_gemm_place *at, char *own) {
    const tn_gemm_plan *plan = job->plan;
    const int64_t k = job->p.k, nr = job->tile->nr;
    char *a_buffer = own, *b_buffer = own + plan->a_bytes, *sum_buffer = b_buffer + plan->b_bytes;
    const tn_gemm_sums s = plan->in_place ? tn_gemm_sums_in_c(job, &at->x, at->i0, at->j0)
                                          : tn_gemm_sums_in_buffer(job, sum_buffer, at->cols);

    if (k == 0)
        tn_gemm_zero_sums(job, &s, at->rows, at->cols);
    for (int64_t j = 0; plan->by_panels && j < at->cols; j += nr)
        for (int64_t p0 = 0; p0 < k; p0 += TN_GEMM_KC)
            panel(job, at, &s, 0, j, p0, shared_a(job, at->x.m, at->i0, p0), b_buffer);
    for (int64_t p0 = 0; !plan->by_panels && p0 < k; p0 += TN_GEMM_KC) {
        const char *a = a_buffer;
        if (plan->shared_a)
            a = shared_a(job, at->x.m, at->i0, p0);
        else
            tn_gemm_pack_a(job, &at->x, at->i0, at->rows, p0, tn_min64(TN_GEMM_KC, k - p0),
                           a_buffer);
        for (int half = 0; half < job->halves; half++)
            for (int64_t j = 0; j < at->cols; j += nr)
                panel(job, at, &s, half, j, p0, a, b_buffer);
    }
    tn_gemm_finish_rows(job, &at->x, &s, at->i0, at->rows, at->j0, at->cols);
}

static void pack_a_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    const int64_t p0 = index * TN_GEMM_KC, kc = tn_min64(TN_GEMM_KC, job->p.k - p0);
    (void)worker;
    tn_gemm_pack_a(job, &job->member, 0, job->member.m, p0, kc,
                   shared_a(job, job->member.m, 0, p0));
}

static void piece_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    tn_gemm_place at;
    tn_gemm_find_place(job, index, &at);
    tn_gemm_begin(job->tile);
    piece(job, &at, tn_gemm_worker_buffer(job, worker));
    tn_gemm_end(job->tile);
}

void tn_gemm_run_private(tn_gemm_job *job, tn_team *team) {
    if (job->plan->shared_a) {
        tn_gemm_batch_member(job, 0, &job->member);
        tn_team_run(team, pack_a_task, job, tn_ceil_div(job->p.k, TN_GEMM_KC));
    }
    tn_team_run(team, piece_task, job,
                tn_gemm_pieces_down(job) * tn_ceil_div(job->p.n, job->plan->nc));
}
