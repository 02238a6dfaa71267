/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_plan_sums.c: the sizes of the arrangements for short sums, whose operands are read where
 * they lie (cpu_gemm_direct.c), and for long sums of few elements (cpu_gemm_split.c).
 *
 * Called by cpu_gemm_plan.c, which predicts what they cost and chooses.
 */
#include "cpu/cpu_gemm_chooser.h"

/* Rows and columns up to which blocks of k are shared out: beyond, C has pieces enough. */
#define SPLIT_MOST 256

/*
 * Rows at a time: all where A and C are in L2, or where sums are short and C is a few tiles wide;
 * else those that stay in half of L1 while columns of tiles pass. (Zen 3, 2026-11: 65536 x 32 x 32
 * takes 0.92 of the time with all, 2048 x 2048 x 4 0.7 with few.)
 */
static int64_t rows_at_once(const chooser *c) {
    const int64_t mr = c->tile->mr, row = (c->p->k + c->p->n) * c->element;
    if (c->p->m <= (int64_t)c->caches.l2 / 2 / row || (c->p->k < 64 && c->p->n <= 4 * c->tile->nr))
        return c->p->m;
    return tn_max64((int64_t)c->caches.l1d / 2 / row / mr, 1) * mr;
}

bool tn_gemm_plan_direct(const chooser *c, tn_gemm_plan *plan) {
    const int64_t m = c->p->m, n = c->p->n, mr = c->tile->mr;
    if (!tn_gemm_direct_takes(c->p, c->tile) ||
        !tn_gemm_direct_in_place(c->p, c->tile, c->caches.l1d))
        return false;
    const int64_t tasks = tasks_wanted(c), pieces = tn_max64(tasks / c->members, 1);
    plan->kind = TN_GEMM_DIRECT;
    plan->on_stack = true;
    plan->chunk = tn_ceil_div(c->members, tasks);
    plan->mc = tn_round_up(tn_ceil_div(m, pieces), mr);
    plan->nc = n;
    plan->item_m = tn_min64(rows_at_once(c), plan->mc);
    plan->at_once = plan->item_m >= m && c->members == 1 && !c->p->pointer_array;
    return true;
}

bool tn_gemm_plan_strips(const chooser *c, tn_gemm_plan *plan) {
    const int64_t m = tn_max64(c->p->m, 1), n = tn_max64(c->p->n, 1), nr = c->tile->nr;
    const int64_t panel = nr * c->p->k * c->element;
    if (!tn_gemm_direct_takes(c->p, c->tile) || panel > (int64_t)TN_CPU_STACK)
        return false;
    const int64_t tasks = tasks_wanted(c), pieces = tn_max64(tasks / c->members, 1);
    plan->kind = TN_GEMM_DIRECT;
    plan->on_stack = true;
    plan->chunk = tn_ceil_div(c->members, tasks);
    plan->item_n = even_part(n, (int64_t)TN_CPU_STACK / panel * nr, nr);
    plan->mc = m;
    plan->nc = n;
    if (n < m)
        plan->mc = tn_round_up(tn_ceil_div(m, pieces), c->tile->mr);
    else
        plan->nc = tn_round_up(tn_ceil_div(n, pieces), nr);
    plan->b_bytes = tn_round64((size_t)(plan->item_n / nr * panel));
    return true;
}

/*
 * Passes over as many blocks of k as have their sums wait in half of the workers' own caches. The
 * first task's part is a little less than a worker's, so that whoever has it is not the last.
 */
bool tn_gemm_plan_split(const chooser *c, const piece_most *most, tn_gemm_plan *plan) {
    const int64_t m = c->p->m, n = c->p->n, others = c->threads - 1;
    const int64_t blocks = tn_ceil_div(c->p->k, TN_GEMM_KC);
    if (m < 1 || m > SPLIT_MOST || n < 1 || n > SPLIT_MOST || blocks < 2 || c->p->experts > 0)
        return false;
    plan->kind = TN_GEMM_SPLIT;
    plan->in_place = false;
    plan->mc = m;
    plan->nc = n;
    plan->sum_bytes = tn_round64((size_t)(m * n * c->halves * c->element));
    int64_t pass = clamp64(most->depth / TN_GEMM_KC, 1, blocks);
    if (others > 0) {
        const int64_t room = c->threads * (int64_t)c->caches.l2 / 2 / (int64_t)plan->sum_bytes;
        pass = tn_min64(pass, tn_max64(room, others) * c->threads / others);
    }
    pass = even_part(blocks, pass, 1);
    plan->depth = pass * TN_GEMM_KC;
    plan->waiting = others > 0 ? pass - clamp64(pass * 7 / (8 * c->threads), 1, pass) : 0;
    plan->chunk = tn_max64(tn_ceil_div(plan->waiting, 4 * tn_max64(others, 1)), 1);
    /* Adding is worth another worker from about a microsecond up. */
    const int64_t adders = clamp64(plan->waiting * m * n * c->halves / (1 << 14), 1, c->threads);
    plan->item_m = tn_ceil_div(m, adders);
    plan->direct_b = b_is_direct(c);
    const bool in_place = plan->direct_b && c->halves == 1 && c->tile->direct && !c->factors_a &&
                          c->p->operand[TN_GEMM_A].dtype == c->tile->type;
    plan->a_bytes = in_place ? 0 : a_block_bytes(c, m, c->kc);
    plan->b_bytes = in_place || c->packed ? 0 : panel_bytes(c, c->tile->nr, c->kc);
    return true;
}
