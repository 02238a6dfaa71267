/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_shared.c: the arrangement for large products: A and B are packed by all workers and used
 * by all.
 *
 * A pass has two phases: packing some blocks of k, and the product of what is packed. Between them
 * and after them workers wait for each other, so a pass holds as many blocks as the plan's share of
 * the cache: all of k if it can. Within the second phase a task keeps its piece of C from block to
 * block. Not for k = 0.
 */
#include "cpu/cpu_gemm.h"

/* How many blocks of k the pass has. */
static int64_t blocks_of_pass(const tn_gemm_job *job) {
    return tn_ceil_div(tn_min64(job->plan->depth, job->p.k - job->p0), TN_GEMM_KC);
}

/* Steps of block `block` of the pass. */
static int64_t steps_of_block(const tn_gemm_job *job, int64_t block) {
    return tn_min64(TN_GEMM_KC, job->p.k - job->p0 - block * TN_GEMM_KC);
}

/* The packed panel of A whose first row is i. */
static char *panel_of_a(const tn_gemm_job *job, int64_t block, int64_t i) {
    const tn_gemm_tile *tile = job->tile;
    return job->workspace +
           block * tn_ceil_div(job->rows, tile->mr) * tn_gemm_a_bytes(tile, TN_GEMM_KC) +
           i / tile->mr * tn_gemm_a_bytes(tile, steps_of_block(job, block));
}

/* The panel of B whose first column is j, where the pass packs it. */
static char *own_panel_of_b(const tn_gemm_job *job, int64_t block, int half, int64_t j) {
    const tn_gemm_tile *tile = job->tile;
    const int64_t panels = tn_ceil_div(job->cols, tile->nr);
    return job->workspace + job->plan->a_bytes +
           block * job->halves * panels * tn_gemm_b_bytes(tile, TN_GEMM_KC) +
           (half * panels + j / tile->nr) * tn_gemm_b_bytes(tile, steps_of_block(job, block));
}

/* The same, or the caller's packed one. */
static const char *panel_of_b(const tn_gemm_job *job, int64_t block, int half, int64_t j) {
    if (job->p.operand[TN_GEMM_B_PACKED].dtype)
        return tn_gemm_packed_panel(job, &job->member, half, job->j0 + j,
                                    job->p0 + block * TN_GEMM_KC, steps_of_block(job, block));
    return own_panel_of_b(job, block, half, j);
}

/* Rows of A that one task packs. */
static int64_t rows_of_group(const tn_gemm_job *job) {
    return 4 * (int64_t)job->tile->mr;
}

/*
 * An operand that is contiguous along k is packed panel by panel, each through all blocks of the
 * pass, in runs that the hardware follows (1024 rows of f32: 0.8 of the time); else block by block,
 * since neighbouring panels share its lines and pages.
 */
static bool a_along_k(const tn_gemm_job *job) {
    return job->p.operand[TN_GEMM_A].column == 1;
}
static bool b_along_k(const tn_gemm_job *job) {
    return job->p.operand[TN_GEMM_B].row == 1 && job->p.operand[TN_GEMM_B].column != 1;
}

/* Panels of B in a block of k that the pass packs, and tasks that it takes for all blocks. */
static int64_t panels_of_b(const tn_gemm_job *job) {
    return job->p.operand[TN_GEMM_B_PACKED].dtype
               ? 0
               : tn_ceil_div(job->cols, job->tile->nr) * job->halves;
}
static int64_t tasks_of_b(const tn_gemm_job *job) {
    return panels_of_b(job) * (b_along_k(job) ? 1 : blocks_of_pass(job));
}

static void pack_panel_of_b(const tn_gemm_job *job, int64_t index) {
    const int64_t nr = job->tile->nr, panels = tn_ceil_div(job->cols, nr);
    const int64_t item = index % panels_of_b(job), j = item % panels * nr;
    const int half = (int)(item / panels);
    int64_t block = b_along_k(job) ? 0 : index / panels_of_b(job);
    const int64_t end = b_along_k(job) ? blocks_of_pass(job) : block + 1;
    for (; block < end; block++)
        tn_gemm_pack_b(job, &job->member, half, job->j0 + j, tn_min64(nr, job->cols - j),
                       job->p0 + block * TN_GEMM_KC, steps_of_block(job, block),
                       own_panel_of_b(job, block, half, j));
}

static void pack_rows_of_a(const tn_gemm_job *job, int64_t index) {
    const int64_t group = rows_of_group(job), first = index * group,
                  end = tn_min64(first + group, job->rows),
                  some = a_along_k(job) ? job->tile->mr : group;
    for (int64_t i = first; i < end; i += some)
        for (int64_t block = 0; block < blocks_of_pass(job); block++)
            tn_gemm_pack_a(job, &job->member, job->i0 + i, tn_min64(some, end - i),
                           job->p0 + block * TN_GEMM_KC, steps_of_block(job, block),
                           panel_of_a(job, block, i));
}

static void pack_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    const int64_t of_b = tasks_of_b(job);
    (void)worker;
    if (index < of_b)
        pack_panel_of_b(job, index);
    else
        pack_rows_of_a(job, index - of_b);
}

/*
 * A pass's pieces of C: rows of pieces item_m x item_n, but the last row is cut into columns of
 * last_n: all wait for the last task, so the last ones are small.
 */
static int64_t pieces_of_pass(const tn_gemm_job *job) {
    return (tn_ceil_div(job->rows, job->plan->item_m) - 1) *
               tn_ceil_div(job->cols, job->plan->item_n) +
           tn_ceil_div(job->cols, job->plan->last_n);
}

static void find_piece(const tn_gemm_job *job, int64_t index, tn_gemm_place *at) {
    const tn_gemm_plan *plan = job->plan;
    const int64_t down = tn_ceil_div(job->rows, plan->item_m),
                  across = tn_ceil_div(job->cols, plan->item_n);
    const int64_t row = tn_min64(index / across, down - 1);
    const int64_t width = row < down - 1 ? plan->item_n : plan->last_n;
    at->i0 = row * plan->item_m;
    at->j0 = (index - row * across) * width;
    at->rows = tn_min64(plan->item_m, job->rows - at->i0);
    at->cols = tn_min64(width, job->cols - at->j0);
}

/* Where the piece's sums are: C, a buffer of the worker's, or, if passes follow, one of all. */
static tn_gemm_sums sums_of_piece(const tn_gemm_job *job, const tn_gemm_place *at, int worker) {
    const tn_gemm_plan *plan = job->plan;
    char *buffer = job->workspace + plan->a_bytes + plan->b_bytes;
    if (plan->in_place)
        return tn_gemm_sums_in_c(job, &job->member, job->i0 + at->i0, job->j0 + at->j0);
    if (plan->own_sums)
        return tn_gemm_sums_in_buffer(job, buffer + (size_t)worker * plan->sum_bytes, at->cols);
    tn_gemm_sums s = tn_gemm_sums_in_buffer(job, buffer, job->cols);
    s.at = tn_gemm_sum_at(job, &s, 0, at->i0, at->j0);
    return s;
}

static void product_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    const int64_t nr = job->tile->nr, blocks = blocks_of_pass(job);
    tn_gemm_place at;
    find_piece(job, index, &at);
    const tn_gemm_sums s = sums_of_piece(job, &at, worker);

    tn_gemm_begin(job->tile);
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t kc = steps_of_block(job, block);
        const char *a = panel_of_a(job, block, at.i0);
        for (int half = 0; half < job->halves; half++) {
            for (int64_t j = 0; j < at.cols; j += nr)
                tn_gemm_panel_product(job, a, at.rows, panel_of_b(job, block, half, at.j0 + j), nr,
                                      kc, tn_gemm_sum_at(job, &s, half, 0, j), s.ld,
                                      tn_min64(nr, at.cols - j), job->p0 == 0 && block == 0, NULL,
                                      0);
        }
    }
    tn_gemm_end(job->tile);
    if (job->p0 + blocks * TN_GEMM_KC >= job->p.k)
        tn_gemm_finish_rows(job, &job->member, &s, job->i0 + at.i0, at.rows, job->j0 + at.j0,
                            at.cols);
}

static void run_pass(tn_gemm_job *job, tn_team *team) {
    tn_team_run(team, pack_task, job, tasks_of_b(job) + tn_ceil_div(job->rows, rows_of_group(job)));
    tn_team_run(team, product_task, job, pieces_of_pass(job));
}

void tn_gemm_run_shared(tn_gemm_job *job, tn_team *team) {
    const tn_gemm_plan *plan = job->plan;
    const tn_gemm_problem *p = &job->p;
    for (int64_t index = 0; index < p->batch_count; index++) {
        tn_gemm_batch_member(job, index, &job->member);
        for (job->j0 = 0; job->j0 < p->n; job->j0 += plan->nc) {
            job->cols = tn_min64(plan->nc, p->n - job->j0);
            for (job->i0 = 0; job->i0 < p->m; job->i0 += plan->mc) {
                job->rows = tn_min64(plan->mc, p->m - job->i0);
                for (job->p0 = 0; job->p0 < p->k; job->p0 += plan->depth)
                    run_pass(job, team);
            }
        }
    }
}
