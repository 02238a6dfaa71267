/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_split.c: the arrangement for long sums of few elements: blocks of k are dealt out, as C
 * has too few pieces for the workers.
 *
 * The order of a sum is a function of k alone (docs/NUMERICS.md, 3.1), so what is dealt out is who
 * computes the blocks, not how they are added. A pass over some blocks has two phases. In the first
 * one task takes those at the pass's beginning and adds each to the total of all before; other
 * tasks compute the rest, each block's sums in a buffer of its own, where they wait. In the second
 * what waits is added to the total in ascending order. Not for k = 0.
 */
#include "cpu/cpu_gemm.h"

static int64_t blocks_of_pass(const tn_gemm_job *job) {
    return tn_ceil_div(tn_min64(job->plan->depth, job->p.k - job->p0), TN_GEMM_KC);
}

/* How many of them wait: in the last pass, too, the same share. Fewer than all. */
static int64_t waiting_of_pass(const tn_gemm_job *job) {
    return blocks_of_pass(job) * job->plan->waiting / (job->plan->depth / TN_GEMM_KC);
}

static bool is_last_pass(const tn_gemm_job *job) {
    return job->p0 + job->plan->depth >= job->p.k;
}

/* Elements from one row of sums to the next: they are dense. */
static int64_t row_of_sums(const tn_gemm_job *job) {
    return job->p.n * job->halves;
}

/* Row i of the total (number 0), or of what waits (1 and up). */
static char *sums_at(const tn_gemm_job *job, int64_t number, int64_t i) {
    return job->workspace + (size_t)number * job->plan->sum_bytes +
           (size_t)(i * row_of_sums(job)) * job->element;
}

/* A worker's panels lie behind all sums. */
static char *panels_of(const tn_gemm_job *job, int worker) {
    const tn_gemm_plan *plan = job->plan;
    return job->workspace + (size_t)(1 + plan->waiting) * plan->sum_bytes +
           (size_t)worker * (plan->a_bytes + plan->b_bytes);
}

/* ---- one block of k */

/* What kc steps from p0 on will read of an operand whose elements of one step lie side by side,
 * `width` of them; `step` elements from one step to the next. */
static tn_gemm_lines ahead_of(const tn_gemm_job *job, int role, int64_t width, int64_t step,
                              int64_t p0, int64_t kc) {
    const int64_t size = (int64_t)job->element, line = 64;
    tn_gemm_lines t = {
        .at = job->member.at[role] + p0 * step * size, .step = step * size, .runs = (int32_t)kc};
    if (step == width) { /* one piece */
        t.step = line;
        t.runs = (int32_t)tn_ceil_div(kc * width * size, line);
    } else {
        while (line << t.shift < width * size)
            t.shift++;
    }
    return t;
}

/*
 * Operands as they lie. Of the next block, whose first step is `next` (of no block: k), what is not
 * read in runs along k is fetched meanwhile: the hardware foresees runs, but not panels that take a
 * line or two of each step.
 */
static void product_in_place(const tn_gemm_job *job, int64_t p0, int64_t kc, int64_t next, bool add,
                             char *to) {
    const tn_gemm_operand *a = &job->p.operand[TN_GEMM_A], *b = &job->p.operand[TN_GEMM_B];
    const int64_t size = (int64_t)job->element, steps = tn_min64(TN_GEMM_KC, job->p.k - next);
    tn_gemm_lines ahead[2] = {{NULL, 0, 0, 0}, {NULL, 0, 0, 0}};
    if (steps > 0)
        ahead[0] = ahead_of(job, TN_GEMM_B, job->p.n, b->row, next, steps);
    if (steps > 0 && a->row == 1 && a->column >= job->p.m)
        ahead[1] = ahead_of(job, TN_GEMM_A, job->p.m, a->column, next, steps);
    const tn_gemm_direct_args t = {
        .a = job->member.at[TN_GEMM_A] + p0 * a->column * size,
        .b = job->member.at[TN_GEMM_B] + p0 * b->row * size,
        .c = to,
        .m = job->p.m,
        .n = job->p.n,
        .k = kc,
        .a_row = a->row,
        .a_column = a->column,
        .b_row = b->row,
        .c_row = row_of_sums(job),
        .alpha = 1,
        .beta = add, /* fma(1, c, sum) is c + sum */
        .ahead = steps > 0 ? ahead : NULL,
    };
    job->tile->direct(&t);
}

static void product_of_panels(const tn_gemm_job *job, int64_t p0, int64_t kc, bool add, char *to,
                              char *own) {
    const tn_gemm_plan *plan = job->plan;
    const tn_gemm_operand *b = &job->p.operand[TN_GEMM_B];
    const int64_t nr = job->tile->nr, n = job->p.n;
    const bool packed = job->p.operand[TN_GEMM_B_PACKED].dtype != TENON_DTYPE_NONE;
    char *a_panels = own, *b_buffer = own + plan->a_bytes;
    tn_gemm_pack_a(job, &job->member, 0, job->p.m, p0, kc, a_panels);
    for (int half = 0; half < job->halves; half++) {
        for (int64_t j = 0; j < n; j += nr) {
            const int64_t width = tn_min64(nr, n - j);
            const char *panel = b_buffer;
            int64_t ldb = nr;
            if (packed) {
                panel = tn_gemm_packed_panel(job, &job->member, half, j, p0, kc);
            } else if (plan->direct_b && width == nr) {
                panel = job->member.at[TN_GEMM_B] +
                        (p0 * b->row + half * n + j) * (int64_t)tn_gemm_element(b->dtype);
                ldb = b->row;
            } else {
                tn_gemm_pack_b(job, &job->member, half, j, width, p0, kc, b_buffer);
            }
            tn_gemm_panel_product(job, a_panels, job->p.m, panel, ldb, kc,
                                  to + (half * n + j) * (int64_t)job->element, row_of_sums(job),
                                  width, !add, NULL, 0);
        }
    }
}

/* ---- a pass */

/* Task 0 has the blocks at the beginning, the others plan->chunk blocks each. */
static void product_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    const int64_t blocks = blocks_of_pass(job), lead = blocks - waiting_of_pass(job);
    const int64_t from = index == 0 ? 0 : lead + (index - 1) * job->plan->chunk,
                  to = index == 0 ? lead : tn_min64(from + job->plan->chunk, blocks);
    tn_gemm_begin(job->tile);
    for (int64_t block = from; block < to; block++) {
        const int64_t p0 = job->p0 + block * TN_GEMM_KC, kc = tn_min64(TN_GEMM_KC, job->p.k - p0);
        const bool add = index == 0 && p0 > 0;
        char *sums = sums_at(job, index == 0 ? 0 : 1 + block - lead, 0);
        if (job->plan->a_bytes == 0)
            product_in_place(job, p0, kc, block + 1 < to ? p0 + kc : job->p.k, add, sums);
        else
            product_of_panels(job, p0, kc, add, sums, panels_of(job, worker));
    }
    tn_gemm_end(job->tile);
}

static void add_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    const int64_t i0 = index * job->plan->item_m, rows = tn_min64(job->plan->item_m, job->p.m - i0);
    const int64_t waiting = waiting_of_pass(job), count = rows * row_of_sums(job);
    char *total = sums_at(job, 0, i0);
    (void)worker;
    for (int64_t number = 1; number <= waiting; number++)
        job->tile->ops.add(total, sums_at(job, number, i0), count);
    if (is_last_pass(job)) {
        const tn_gemm_sums s = {total, row_of_sums(job), job->p.n};
        tn_gemm_finish_rows(job, &job->member, &s, i0, rows, 0, job->p.n);
    }
}

void tn_gemm_run_split(tn_gemm_job *job, tn_team *team) {
    const tn_gemm_plan *plan = job->plan;
    for (int64_t index = 0; index < job->p.batch_count; index++) {
        tn_gemm_batch_member(job, index, &job->member);
        for (job->p0 = 0; job->p0 < job->p.k; job->p0 += plan->depth) {
            const int64_t waiting = waiting_of_pass(job);
            tn_team_run(team, product_task, job, 1 + tn_ceil_div(waiting, plan->chunk));
            if (waiting > 0 || is_last_pass(job))
                tn_team_run(team, add_task, job, tn_ceil_div(job->p.m, plan->item_m));
        }
    }
}
