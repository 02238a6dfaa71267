/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_plan_few.c: the arrangements for a few rows: up to how many each is the fastest, and its
 * pieces.
 *
 * Called by cpu_gemm_plan.c. Such products wait for B, so sizes follow from the order in which it
 * is read from memory; with enough rows from the caches, as for larger products.
 */
#include "cpu/cpu_gemm_chooser.h"

/* Rows up to which B is read in place: if its rows are contiguous, the same if they are converted
 * (for every two rows of A anew), and if its columns are. Beyond, a packed panel pays. Zen 3,
 * 2026-11, weights of 4096 x 4096 f32 on two threads: in place 16 rows take 0.74 of the time of
 * packing, 24 rows as long; one thread, columns: 8 rows 23 GFLOP/s in place and 27 packed, 4 rows
 * 22 and 18. */
#define VECTOR_ROWS 20
#define VECTOR_ROWS_CONVERTED 8
#define VECTOR_ROWS_TRANSPOSED 4

/* Of bytes, whose columns are not transposed (as above, s8): in place takes 0.43 of the time of
 * packing at 8 rows, 0.62 at 32. */
#define VECTOR_ROWS_DOTS 32

/* Rows up to which reading in place is faster than copying while multiplying. Zen 3, 2026-11,
 * weights of 4096 x 4096 f32 on two threads: copying, 6 rows take 1.3 times as long, 8 rows 1.2,
 * 12 rows 0.85, 16 rows 0.75. */
#define STREAM_LEAST 8

/* A B of at most so many times a worker's own cache, and more rows than are read in place, is
 * faster packed beforehand than copied between steps. Zen 3, 2026-11, f32 on two threads: packed,
 * 64 x 512 x 512 takes 0.88 of the time, 127 x 1021 x 509 (just below) 0.9 to 0.96,
 * 64 x 1024 x 2048 1.2. */
#define STREAM_LEAST_CACHES 4

/* Bytes of each of B's rows that a task wants to read in place: runs of a quarter of that reach
 * half of the bandwidth (Zen 3, 2026-11, 4096 x 4096 f32, one row on two threads: 7 GFLOP/s from
 * runs of 2 KiB, 11 from 4 KiB, 13 from 8 KiB). */
#define VECTOR_RUN ((size_t)8 << 10)

/* A that is converted at a time by each worker. */
#define VECTOR_CHUNK_BYTES ((size_t)128 << 10)

/* Steps of A that fit into `bytes` for each of m rows, in whole blocks of k. */
static int64_t chunk_of(const chooser *c, size_t bytes) {
    const int64_t steps = (int64_t)bytes / (c->p->m * c->element);
    return tn_min64(steps / TN_GEMM_KC * TN_GEMM_KC, tn_round_up(c->p->k, TN_GEMM_KC));
}

bool tn_gemm_plan_vector(const chooser *c, bool on_stack, tn_gemm_plan *plan) {
    const tn_gemm_operand *a = &c->p->operand[TN_GEMM_A], *b = &c->p->operand[TN_GEMM_B];
    const int64_t m = c->p->m, n = tn_max64(c->p->n, 1), unit = c->tile->nr;
    if (tn_gemm_of_blocks(c->p))
        return false;
    const bool dots = c->vector->type == TENON_S32;
    const int64_t rows_most = b->column != 1 ? dots ? VECTOR_ROWS_DOTS : VECTOR_ROWS_TRANSPOSED
                              : b->dtype == c->tile->type ? VECTOR_ROWS
                                                          : VECTOR_ROWS_CONVERTED;
    if (m < 1 || m > rows_most || c->p->experts > 0 || c->halves > 1 || c->packed || c->factors_a ||
        c->factors_b || !(b_by_rows(c->p) || b->row == 1) || c->p->k == 0 ||
        !c->vector->gemv[b->dtype])
        return false;
    const bool ready = a->dtype == c->tile->type && a->column == 1;
    /* What one column needs: a sum of the block where rows pass, and a sum where C can't hold
     * it. */
    const int64_t column = m * c->element * (b_by_rows(c->p) + !c->in_place);
    const int64_t pieces = tn_ceil_div(tasks_wanted(c), c->members),
                  workers = tn_min64(tn_ceil_div(c->threads, c->members), pieces);
    int64_t run = (int64_t)(VECTOR_RUN / tn_gemm_element(b->dtype));
    plan->kind = TN_GEMM_VECTOR;
    plan->tile = c->vector;
    plan->on_stack = on_stack;
    /* Columns are read in groups of nr and need only balance; rows want to be long, though there be
     * but one task for each worker, and the sums, which wait meanwhile, to stay near. Every worker
     * has as many tasks. */
    if (!b_by_rows(c->p))
        run = 0;
    run = clamp64(run, tn_ceil_div(n, pieces), tn_ceil_div(n, workers));
    run = tn_min64(run, (int64_t)c->caches.l2 / 8 / (m * c->element));
    plan->nc = tn_round_up(tn_ceil_div(n, tn_round_up(tn_ceil_div(n, run), workers)), unit);
    size_t room = VECTOR_CHUNK_BYTES;
    if (on_stack) {
        /* Half for the columns: with more, A is converted in shorter chunks. */
        const int64_t most = (int64_t)(ready ? TN_CPU_STACK : TN_CPU_STACK / 2) - ROUNDING;
        if (column > 0)
            plan->nc = tn_min64(plan->nc, most / column / unit * unit);
        if (plan->nc < unit)
            return false;
        room = TN_CPU_STACK - ROUNDING - (size_t)(column * plan->nc);
    }
    plan->chunk = ready ? 0 : chunk_of(c, room);
    if (!ready && plan->chunk == 0)
        return false;
    plan->a_bytes = tn_round64((size_t)(m * plan->chunk * c->element));
    plan->b_bytes = b_by_rows(c->p) ? tn_round64((size_t)(m * plan->nc * c->element)) : 0;
    plan->sum_bytes = c->in_place ? 0 : sum_bytes(c, m, plan->nc);
    return true;
}

/* What the tiles fetch, and so how many columns go through all of k before the next. */
static void plan_fetch(const chooser *c, tn_gemm_plan *plan) {
    const tn_gemm_operand *b = &c->p->operand[TN_GEMM_B];
    const int64_t nr = c->tile->nr;
    if (tn_gemm_of_blocks(c->p)) {
        plan->fetch = TN_GEMM_FETCH_COLUMNS;
        plan->group = c->p->m <= TN_GEMM_FEW ? c->tile->few_cols : nr;
    } else if (c->packed) {
        /* One or two tiles take a panel as fast as it comes, and better from the hardware. */
        if (c->p->m > 2 * c->tile->mr)
            plan->fetch = TN_GEMM_FETCH_PACKED;
    } else if (b->row == 1 && b->column != 1 && c->halves == 1) {
        plan->group = nr;
        /* From the cache that all share B comes in time, and a tile that fetches takes more
         * instructions a step (Zen 3, 2026-11, f32 on two threads: without, 8 rows go 1.3 to 1.4
         * times as fast up to 4 MB, 1.1 at 12 MB; level at 16 MB; 0.82 of the speed at 64 MB, from
         * memory). */
        if (c->p->n * c->p->k * (int64_t)tn_gemm_element(b->dtype) > (int64_t)c->caches.l3 / 2)
            plan->fetch = TN_GEMM_FETCH_COLUMNS;
    }
}

bool tn_gemm_plan_private(const chooser *c, const piece_most *most, tn_gemm_plan *plan) {
    const int64_t mr = c->tile->mr, nr = c->tile->nr, m = tn_max64(c->p->m, 1),
                  n = tn_max64(c->p->n, 1);
    const int64_t blocks = tn_ceil_div(c->p->k, TN_GEMM_KC);
    plan->kind = TN_GEMM_PRIVATE;
    plan->mc = even_part(m, tn_min64(rows_in_l2(c), most->rows), mr);
    const int64_t down = tn_ceil_div(m, plan->mc);
    const int64_t pieces = tn_ceil_div(tasks_wanted(c), c->members * down);
    plan->nc = clamp64(tn_round_up(tn_ceil_div(n, pieces), nr), nr, tn_min64(512, most->cols));
    /* A B that stays in cache, or meets one tile only, gains nothing from being packed. */
    plan->direct_b =
        b_is_direct(c) && (m <= mr || n * c->p->k * c->element <= (int64_t)c->caches.l1d);
    plan->even_tiles = true;
    plan->shared_a = c->members == 1 && c->p->experts == 0 && n > plan->nc && c->p->k > 0 &&
                     m <= tn_min64(FEW_ROWS, most->rows) &&
                     (double)blocks * (double)a_block_bytes(c, m, c->kc) < 64e6;
    if (plan->shared_a)
        plan->mc = tn_round_up(m, mr);
    plan->group = plan->nc;
    if (plan->shared_a)
        plan_fetch(c, plan);
    plan->shared_bytes = plan->shared_a ? (size_t)blocks * a_block_bytes(c, m, c->kc) : 0;
    plan->a_bytes = plan->shared_a ? 0 : a_block_bytes(c, plan->mc, c->kc);
    plan->b_bytes = c->packed ? 0 : panel_bytes(c, nr, c->kc);
    if (tn_gemm_of_blocks(c->p)) { /* of experts any may have few rows */
        const size_t few = tn_gemm_few_bytes(c->tile, c->p->operand[TN_GEMM_B].dtype);
        plan->b_bytes = few > plan->b_bytes ? few : plan->b_bytes;
    }
    plan->sum_bytes = c->in_place ? 0 : sum_bytes(c, plan->mc, plan->nc);
    return true;
}

/* A group's columns: two copies of a block of k take five eighths of L2 at most. */
bool tn_gemm_plan_stream(const chooser *c, tn_gemm_plan *plan) {
    const int64_t nr = c->tile->nr, m = c->p->m, n = c->p->n;
    const int64_t panels = (int64_t)c->caches.l2 * 5 / 16 / tn_gemm_copied_panel(c->tile);
    if (!b_is_direct(c) || c->halves > 1 || c->members > 1 || c->p->experts > 0 || c->p->k == 0 ||
        m <= STREAM_LEAST || m > FEW_ROWS)
        return false;
    if (m > VECTOR_ROWS && n * c->p->k * c->element <= STREAM_LEAST_CACHES * (int64_t)c->caches.l2)
        return false;
    plan->kind = TN_GEMM_STREAM;
    plan->even_tiles = true;
    plan->group = nr;
    while (2 * plan->group <= panels * nr)
        plan->group *= 2;
    if (n < 2 * c->threads * plan->group)
        return false;
    plan->mc = tn_round_up(m, c->tile->mr);
    plan->nc = tn_round_up(tn_ceil_div(n, tasks_wanted(c)), plan->group);
    plan->shared_bytes = (size_t)tn_ceil_div(c->p->k, TN_GEMM_KC) * a_block_bytes(c, m, c->kc);
    plan->b_bytes = (size_t)(2 * plan->group / nr * tn_gemm_copied_panel(c->tile));
    plan->sum_bytes = c->in_place ? 0 : sum_bytes(c, m, plan->nc);
    return true;
}
