/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_private.c: the arrangement in which a worker packs the panels that it uses, and one
 * piece of C from beginning to end is one task.
 *
 * For a few rows, many members, experts, and whatever has too little workspace for more. A of few
 * rows is packed once for all, in a phase of its own; what lies ahead in B, which comes from memory
 * then, is fetched by the tiles meanwhile.
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

static const char *element_of_b(const tn_gemm_job *job, const tn_gemm_member *x, int64_t p,
                                int64_t j) {
    const tn_gemm_operand *b = &job->p.operand[TN_GEMM_B];
    return x->at[TN_GEMM_B] + (p * b->row + j * b->column) * (int64_t)tn_gemm_element(b->dtype);
}

/* Where B's columns are contiguous, the panel after that of column j, block p of k, is a run of
 * each: too short and too many for the hardware to foresee. */
static tn_gemm_ahead columns_ahead(const tn_gemm_job *job, const tn_gemm_member *x, int64_t j,
                                   int64_t p) {
    const tn_gemm_operand *b = &job->p.operand[TN_GEMM_B];
    const int64_t size = (int64_t)tn_gemm_element(b->dtype),
                  piece = job->tile->nr * (int64_t)job->element;
    tn_gemm_ahead t = {.side = 1, .length = 1, .read = {.on = piece}};
    p += TN_GEMM_KC;
    if (p >= job->p.k) {
        p = 0;
        j += job->tile->nr;
    }
    if (j >= job->p.n)
        return t;
    while (2 * t.length * piece <= tn_min64(TN_GEMM_KC, job->p.k - p) * size)
        t.length *= 2;
    t.from = element_of_b(job, x, p, j);
    t.left = tn_min64(job->tile->nr, job->p.n - j) * t.length;
    t.read.next = b->column * size - (t.length - 1) * piece;
    return t;
}

/* The caller's packed panels follow each other. */
static tn_gemm_ahead packed_ahead(const tn_gemm_job *job, const char *b, int64_t kc) {
    const int64_t bytes = tn_gemm_b_bytes(job->tile, kc),
                  piece = job->tile->nr * (int64_t)job->element;
    return (tn_gemm_ahead){
        .from = b + bytes, .left = bytes / piece, .side = 1, .length = 1, .read = {.next = piece}};
}

/* A piece's panel at columns j ... j + width, block p0 of k. */
static void panel(const tn_gemm_job *job, const tn_gemm_place *at, const tn_gemm_sums *s, int half,
                  int64_t j, int64_t p0, const char *a, char *b_buffer) {
    const int64_t kc = tn_min64(TN_GEMM_KC, job->p.k - p0);
    const int64_t width = tn_min64(job->tile->nr, at->cols - j);
    int64_t ldb;
    const char *b = panel_of_b(job, &at->x, half, at->j0 + j, width, p0, kc, b_buffer, &ldb);
    tn_gemm_ahead ahead = {0};
    if (job->plan->fetch == TN_GEMM_FETCH_COLUMNS && !job->blocks)
        ahead = columns_ahead(job, &at->x, at->j0 + j, p0);
    else if (job->plan->fetch == TN_GEMM_FETCH_PACKED)
        ahead = packed_ahead(job, b, kc);
    tn_gemm_panel_product(job, a, at->rows, b, ldb, kc, tn_gemm_sum_at(job, s, half, 0, j), s->ld,
                          width, p0 == 0, &ahead, ahead.left);
}

/* A piece's columns j0 ... j0 + cols, all of k. */
static void columns(const tn_gemm_job *job, const tn_gemm_place *at, const tn_gemm_sums *s,
                    int64_t j0, int64_t cols, char *own) {
    const int64_t k = job->p.k, nr = job->tile->nr;
    char *b_buffer = own + job->plan->a_bytes;
    if (tn_gemm_block_columns(job, at, s, j0, cols, b_buffer))
        return;
    for (int64_t p0 = 0; p0 < k; p0 += TN_GEMM_KC) {
        const char *a = own;
        if (job->plan->shared_a)
            a = tn_gemm_shared_a(job, at->x.m, at->i0, p0);
        else
            tn_gemm_pack_a(job, &at->x, at->i0, at->rows, p0, tn_min64(TN_GEMM_KC, k - p0), own);
        for (int half = 0; half < job->halves; half++) {
            if (tn_gemm_few_block(job, at, s, half, j0, cols, p0, a, b_buffer))
                continue;
            for (int64_t j = j0; j < j0 + cols; j += nr)
                panel(job, at, s, half, j, p0, a, b_buffer);
        }
    }
}

static void piece(const tn_gemm_job *job, const tn_gemm_place *at, char *own) {
    const tn_gemm_plan *plan = job->plan;
    char *b_buffer = own + plan->a_bytes, *sum_buffer = b_buffer + plan->b_bytes;
    const tn_gemm_sums s = plan->in_place ? tn_gemm_sums_in_c(job, &at->x, at->i0, at->j0)
                                          : tn_gemm_sums_in_buffer(job, sum_buffer, at->cols);

    if (job->p.k == 0)
        tn_gemm_zero_sums(job, &s, at->rows, at->cols);
    for (int64_t j = 0; j < at->cols; j += plan->group)
        columns(job, at, &s, j, tn_min64(plan->group, at->cols - j), own);
    tn_gemm_finish_rows(job, &at->x, &s, at->i0, at->rows, at->j0, at->cols);
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
    if (job->plan->shared_a)
        tn_gemm_pack_shared_a(job, team);
    tn_team_run(team, piece_task, job,
                tn_gemm_pieces_down(job) * tn_ceil_div(job->p.n, job->plan->nc));
}
