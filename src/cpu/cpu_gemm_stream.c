/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_stream.c: the arrangement for some rows and a B whose rows are contiguous: panels of B
 * are copied by the tiles that multiply the ones before, between their steps.
 *
 * A panel of B is a line from each of 256 rows: too short for the hardware to foresee, and where
 * rows are a power of two apart too many in one set for any cache to hold them. So a group of
 * panels is read as it lies, some rows side by side, as evenly over the tiles' steps as can be (a
 * core that asks for many lines at once waits), and only a few lines lie fetched until they are
 * copied. A is packed once for all.
 */
#include "cpu/cpu_gemm.h"

#include <string.h>

/* Rows that are copied side by side: streams for the hardware to follow. A power of two. */
#define SIDE 4

/* Rows from what is copied to what is fetched: 32 lines of a group of 8 panels. */
#define REACH 4

/* Columns j ... j + cols of a place, a block of k from p on; none if steps is 0. */
typedef struct block {
    int64_t j, cols, p, steps;
} block;

static block block_at(const tn_gemm_job *job, const tn_gemm_place *at, int64_t j, int64_t p) {
    return j < at->cols ? (block){j, tn_min64(job->plan->group, at->cols - j), p,
                                  tn_min64(TN_GEMM_KC, job->p.k - p)}
                        : (block){0};
}

static block block_after(const tn_gemm_job *job, const tn_gemm_place *at, const block *b) {
    return b->p + b->steps < job->p.k ? block_at(job, at, b->j, b->p + b->steps)
                                      : block_at(job, at, b->j + b->cols, 0);
}

static const char *element_of_b(const tn_gemm_job *job, const tn_gemm_place *at, int64_t p,
                                int64_t j) {
    return at->x.at[TN_GEMM_B] +
           (p * job->p.operand[TN_GEMM_B].row + at->j0 + j) * (int64_t)job->element;
}

/* Copies a block's steps from `first` on; columns that a last panel lacks stay what they were. */
static void copy(const tn_gemm_job *job, const tn_gemm_place *at, const block *b, int64_t first,
                 char *to) {
    const int64_t nr = job->tile->nr, piece = nr * (int64_t)job->element;
    for (int64_t q = first; q < b->steps; q++)
        for (int64_t j = 0; j < b->cols; j += nr)
            memcpy(to + j / nr * tn_gemm_copied_panel(job->tile) + q * piece,
                   element_of_b(job, at, b->p + q, b->j + j),
                   (size_t)tn_min64(nr, b->cols - j) * job->element);
}

/* What tiles copy of a block: steps by whole SIDEs, if it is a whole group. */
static tn_gemm_ahead ahead_of(const tn_gemm_job *job, const tn_gemm_place *at, const block *b,
                              char *to) {
    const int64_t row = job->p.operand[TN_GEMM_B].row * (int64_t)job->element,
                  piece = job->tile->nr * (int64_t)job->element,
                  panel = tn_gemm_copied_panel(job->tile),
                  length = job->plan->group / job->tile->nr;
    if (b->steps < SIDE || b->cols < job->plan->group)
        return (tn_gemm_ahead){0};
    return (tn_gemm_ahead){
        .from = element_of_b(job, at, b->p, b->j),
        .to = to,
        .left = b->steps / SIDE * SIDE * length,
        .side = SIDE,
        .length = length,
        .reach = REACH * row,
        .read = {row, piece - (SIDE - 1) * row, row - (length - 1) * piece},
        .write = {piece, panel - (SIDE - 1) * piece, piece - (length - 1) * panel},
    };
}

static void product(const tn_gemm_job *job, const tn_gemm_place *at, const block *b,
                    const char *panels, const tn_gemm_sums *s, tn_gemm_ahead *ahead) {
    const tn_gemm_tile *tile = job->tile;
    const int64_t nr = tile->nr, count = tn_ceil_div(b->cols, nr);
    const char *a = tn_gemm_shared_a(job, at->x.m, at->i0, b->p);
    for (int64_t n = 0; n < count; n++)
        tn_gemm_panel_product(job, a, at->rows, panels + n * tn_gemm_copied_panel(tile), nr,
                              b->steps, tn_gemm_sum_at(job, s, 0, 0, b->j + n * nr), s->ld,
                              tn_min64(nr, b->cols - n * nr), b->p == 0, ahead,
                              tn_ceil_div(ahead->left, count - n));
}

static void piece(const tn_gemm_job *job, const tn_gemm_place *at, char *own) {
    const tn_gemm_plan *plan = job->plan;
    const tn_gemm_sums s = plan->in_place
                               ? tn_gemm_sums_in_c(job, &at->x, at->i0, at->j0)
                               : tn_gemm_sums_in_buffer(job, own + plan->b_bytes, at->cols);
    char *now = own, *next = own + plan->b_bytes / 2;
    block b = block_at(job, at, 0, 0);
    copy(job, at, &b, 0, now);
    while (b.steps) {
        const block after = block_after(job, at, &b);
        tn_gemm_ahead ahead = ahead_of(job, at, &after, next);
        const int64_t by_tiles = ahead.to ? after.steps / SIDE * SIDE : 0;
        product(job, at, &b, now, &s, &ahead);
        copy(job, at, &after, by_tiles, next);
        char *const done = now;
        now = next;
        next = done;
        b = after;
    }
    tn_gemm_finish_rows(job, &at->x, &s, at->i0, at->rows, at->j0, at->cols);
}

static void piece_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    tn_gemm_place at;
    tn_gemm_find_place(job, index, &at);
    piece(job, &at, tn_gemm_worker_buffer(job, worker));
}

void tn_gemm_run_stream(tn_gemm_job *job, tn_team *team) {
    tn_gemm_pack_shared_a(job, team);
    tn_team_run(team, piece_task, job, tn_ceil_div(job->p.n, job->plan->nc));
}
