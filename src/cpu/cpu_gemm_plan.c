/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_plan.c: which arrangements of the loops a product may have, how large their pieces are,
 * and what each is predicted to cost.
 *
 * Pieces (after Low et al., Analytical Modeling Is Enough for High-Performance BLIS, 2016): a panel
 * of B, TN_GEMM_KC x nr, stays in L1; the packed rows of A that meet it fill at most half of L2;
 * what all workers share stays within a few MB of L3. Then the same with smaller pieces, for half
 * of that workspace, a quarter and so on, and last an arrangement that lives on the stacks of the
 * workers. Nothing here changes a result, only who computes it when.
 *
 * The prediction counts cycles: multiply-adds at the tile's rate, packing per element and time that
 * it is packed, and the phases that workers wait for each other. Smaller pieces pack more often,
 * so they never look faster. Traffic of caches is not in it.
 */
#include "cpu/cpu_gemm_chooser.h"
#include "cpu/cpu_kernels.h"

#include <assert.h>
#include <math.h>

/* A pass has at least so many rows and columns, if there are: panels of A that are read from the
 * shared cache then meet enough of B, and the reverse. */
#define PASS_LEAST 512

/* A pass's sums kept apart from C. */
#define SUM_ROWS 1024
#define SUM_COLUMNS 2048

/* Cycles of the prediction (Zen 3, two virtual cores, November 2026): an element of A or B that is
 * packed, one that is packed a few steps at a time, and one that tiles copy between their steps; a
 * phase that several workers share; the start of a run of B that is read in place; a sum that waits
 * outside of L2 for the next pass. */
#define PACK_CYCLES 0.35
#define SMALL_PACK_CYCLES 0.8
#define COPY_CYCLES 0.1
#define PHASE_CYCLES 10000
#define RUN_CYCLES 20
#define MEET_CYCLES 0.25
#define CLOCK 3e9

/* Bytes that the packed A, and the packed B, of a pass may take: together half of the cache that
 * all workers share, and no less than a worker's own. */
static int64_t share_of_cache(const chooser *c) {
    return (int64_t)(c->caches.l3 / 4 > c->caches.l2 ? c->caches.l3 / 4 : c->caches.l2);
}

/* ---- the prediction */

/* Predicted seconds. */
static double predict(const chooser *c, const tn_gemm_plan *plan) {
    /* Lanes of f32, and what each arrangement reaches of two multiply-adds a cycle. */
    static const double lanes[TN_CPU_LEVELS] = {0.25, 8, 16};
    static const double reached[] = {
        [TN_GEMM_VECTOR] = 0.5, [TN_GEMM_PRIVATE] = 0.86, [TN_GEMM_STREAM] = 0.88,
        [TN_GEMM_SHARED] = 0.9, [TN_GEMM_SPLIT] = 0.8,    [TN_GEMM_DIRECT] = 0.8,
        [TN_GEMM_SMALL] = 0.75};
    const double rate = c->tile->rate
                            ? c->tile->rate
                            : lanes[c->tile->level] * 4 / (double)c->element * 2 * c->tile->group;
    const double members = c->p->experts > 0 ? 1 : (double)c->members, k = (double)c->p->k;
    const double down = (double)tn_ceil_div(tn_max64(c->p->m, 1), plan->mc ? plan->mc : 8),
                 across = (double)tn_ceil_div(tn_max64(c->p->n, 1), plan->nc);
    const double of_a = members * (double)c->p->m * k,
                 of_b = members * (double)c->p->n * k * (double)c->halves;
    /* Panels of a B that is larger than a worker's caches, its rows contiguous, are short runs. */
    const bool far = b_by_rows(c->p) && !c->packed &&
                     c->p->n * c->element > (int64_t)c->caches.l2 / tn_max64(c->p->k, 1);
    const double panel_runs = far ? of_b * down / c->tile->nr : 0;
    double tasks = members * down * across, phases = 1, packed = 0, runs = 0, met = 0;

    switch (plan->kind) {
    case TN_GEMM_VECTOR:
        packed = plan->chunk ? of_a * across : 0;
        runs = members * (b_by_rows(c->p) ? k * across
                                          : (double)c->p->n *
                                                (plan->chunk ? ceil(k / (double)plan->chunk) : 1));
        break;
    case TN_GEMM_PRIVATE:
        packed =
            of_a * (plan->shared_a ? 1 : across) + (c->packed || plan->direct_b ? 0 : of_b * down);
        phases = plan->shared_a ? 2 : 1;
        runs = plan->direct_b ? 0 : panel_runs;
        break;
    case TN_GEMM_STREAM:
        packed = of_a + of_b * COPY_CYCLES / PACK_CYCLES;
        phases = 2;
        break;
    case TN_GEMM_SHARED:
        packed = of_a * across + (c->packed ? 0 : of_b * down);
        phases = 2 * tasks * ceil(k / (double)plan->depth);
        runs = panel_runs;
        met = plan->depth < c->p->k ? (double)(c->p->m * c->p->n * c->halves) * members *
                                          ceil(k / (double)plan->depth)
                                    : 0;
        tasks *=
            (double)(tn_ceil_div(plan->mc, plan->item_m) * tn_ceil_div(plan->nc, plan->item_n));
        break;
    case TN_GEMM_SPLIT:
        packed = plan->a_bytes ? of_a + (c->packed || plan->direct_b ? 0 : of_b) : 0;
        phases = 2 * members * ceil(k / (double)plan->depth);
        met = members * (double)(c->p->m * c->p->n * c->halves) * k / (double)plan->depth *
              (double)plan->waiting;
        tasks = 1 + ceil((double)plan->waiting / (double)plan->chunk);
        break;
    case TN_GEMM_DIRECT:
        packed = plan->item_n ? of_b * down : 0;
        runs = plan->item_n ? members * down * k * ceil((double)c->p->n / (double)plan->item_n) : 0;
        tasks = ceil(members / (double)plan->chunk) * down * across;
        break;
    case TN_GEMM_SMALL:
        packed =
            of_a * (double)c->halves * (double)tn_ceil_div(tn_max64(c->p->n, 1), plan->item_n) +
            (c->packed ? 0 : of_b * down);
        break;
    }
    const double workers = tasks < c->threads ? tasks : c->threads;
    const double cycles = c->work / (rate * reached[plan->kind]) +
                          packed * (plan->kind == TN_GEMM_SMALL ? SMALL_PACK_CYCLES : PACK_CYCLES) +
                          runs * RUN_CYCLES + met * MEET_CYCLES;
    return (cycles / workers + (c->threads > 1 ? phases * PHASE_CYCLES : 0)) / CLOCK;
}

/* ---- the arrangements that share what they pack, and the one without workspace */

/* A pass of at most `depth` steps of k; false if its panels' share of the cache then holds too few
 * rows or columns. */
static bool plan_pass(const chooser *c, const piece_most *most, int64_t depth, tn_gemm_plan *plan) {
    const int64_t mr = c->tile->mr, nr = c->tile->nr, k = c->p->k;
    const int64_t kc = tn_min64(depth, c->kc), blocks = depth / TN_GEMM_KC;
    const int64_t share = share_of_cache(c) / blocks;
    int64_t rows = share / tn_gemm_a_bytes(c->tile, kc) * mr,
            cols = share / (c->halves * tn_gemm_b_bytes(c->tile, kc)) * nr;
    plan->kind = TN_GEMM_SHARED;
    plan->depth = depth;
    plan->own_sums = depth >= k;
    if (!c->in_place && !plan->own_sums) {
        rows = tn_min64(rows, SUM_ROWS);
        cols = tn_min64(cols, SUM_COLUMNS / c->halves);
    }
    if (depth > TN_GEMM_KC &&
        (rows < tn_min64(c->p->m, PASS_LEAST) || cols < tn_min64(c->p->n, PASS_LEAST)))
        return false;
    plan->mc = even_part(c->p->m, clamp64(rows, mr, most->rows), mr);
    plan->nc = even_part(c->p->n, clamp64(cols, nr, most->cols), nr);
    plan->item_m = even_part(plan->mc, rows_in_l2(c), mr);
    const int64_t pieces = tn_ceil_div(2 * tasks_wanted(c), tn_ceil_div(plan->mc, plan->item_m));
    /* The piece of C, too, stays in L2 from block to block. */
    const int64_t l2 = (int64_t)c->caches.l2 / 4 / (plan->item_m * c->halves * c->element);
    plan->item_n =
        even_part(plan->nc, clamp64(tn_min64(l2, plan->nc / pieces) / nr * nr, nr, 1024), nr);
    plan->last_n =
        c->threads > 1 ? even_part(plan->item_n, tn_max64(plan->item_n / 4, nr), nr) : plan->item_n;
    plan->a_bytes = (size_t)blocks * a_block_bytes(c, plan->mc, kc);
    plan->b_bytes = c->packed ? 0 : (size_t)(blocks * c->halves) * panel_bytes(c, plan->nc, kc);
    plan->sum_bytes = c->in_place      ? 0
                      : plan->own_sums ? sum_bytes(c, plan->item_m, plan->item_n)
                                       : sum_bytes(c, plan->mc, plan->nc);
    return true;
}

/* Of the depths that a pass may have, the one of the least predicted time. */
static bool plan_shared(const chooser *c, const piece_most *most, tn_gemm_plan *plan) {
    const tn_gemm_plan empty = *plan;
    double least = INFINITY;
    if (c->p->experts > 0 || c->p->m <= FEW_ROWS || c->p->n < 4 * c->tile->nr || c->p->k == 0)
        return false;
    if (c->members > 2 * c->threads && c->work / (double)c->members < 1e8)
        return false;
    for (int64_t depth = tn_round_up(tn_min64(c->p->k, most->depth), TN_GEMM_KC);;
         depth = tn_round_up(depth / 2, TN_GEMM_KC)) {
        tn_gemm_plan pass = empty;
        if (plan_pass(c, most, depth, &pass) && predict(c, &pass) < least) {
            least = predict(c, &pass);
            *plan = pass;
        }
        if (depth <= TN_GEMM_KC)
            return true;
    }
}

/*
 * A block of C on the stack: a tile's rows of A and a few panels of B, tn_gemm_small_step steps of
 * each, the sums of the block of k where there are several, and the sums themselves where C can't
 * hold them. Of the shapes that fit, the one that packs least.
 */
static void plan_small(const chooser *c, tn_gemm_plan *plan) {
    const int64_t mr = c->tile->mr, nr = c->tile->nr,
                  step = tn_min64(tn_gemm_small_step(c->tile), c->kc);
    const int64_t sums = (c->p->k > TN_GEMM_KC) + (c->in_place ? 0 : c->halves);
    const size_t a = a_block_bytes(c, mr, step);
    double least = INFINITY;
    plan->kind = TN_GEMM_SMALL;
    plan->on_stack = true;
    for (int64_t cols = nr; cols <= 4 * nr && (cols == nr || cols < c->p->n + nr); cols += nr) {
        const size_t b = c->packed ? 0 : panel_bytes(c, cols, step);
        const int64_t left = (int64_t)TN_CPU_STACK - (int64_t)(a + b) - ROUNDING;
        const int64_t fit = left < 0 ? 0 : sums ? left / (sums * cols * c->element) : FEW_ROWS;
        const int64_t rows = tn_min64(fit / mr * mr, tn_round_up(tn_max64(c->p->m, 1), mr));
        const double cost = 1 / (double)cols + (c->packed ? 0 : 1 / (double)rows);
        if (rows < mr || cost >= least)
            continue;
        least = cost;
        plan->mc = rows;
        plan->item_n = cols;
        plan->a_bytes = a;
        plan->b_bytes = b;
    }
    const size_t block = (size_t)(plan->mc * plan->item_n * c->element);
    plan->sum_bytes = (c->p->k > TN_GEMM_KC ? tn_round64(block) : 0) +
                      (c->in_place ? 0 : tn_round64(block * (size_t)c->halves));
    const int64_t down = tn_ceil_div(tn_max64(c->p->m, 1), plan->mc);
    const int64_t across = tn_ceil_div(tasks_wanted(c), c->members * down);
    plan->nc = tn_round_up(tn_ceil_div(tn_max64(c->p->n, 1), across), plan->item_n);
}

/* ---- */

/* Whether C^T = B^T A^T suits the tiles better: C's columns are contiguous, or C is narrower than a
 * tile, and than half of one where nothing need be packed. */
static bool prefers_transposed(const tn_gemm_problem *p, const tn_gemm_tile *tile, size_t l1) {
    const tn_gemm_operand *c = &p->operand[TN_GEMM_C];
    if (p->gated != TENON_GATED_NONE || p->experts > 0 || tn_gemm_present(p, TN_GEMM_B_PACKED) ||
        tn_gemm_of_blocks(p))
        return false;
    if (p->m == 1 || p->n == 1)
        return p->n == 1 && p->m > 1;
    if (p->n < tile->nr && p->m > 2 * p->n)
        return 2 * p->n < tile->nr || !tn_gemm_direct_takes(p, tile) ||
               !tn_gemm_direct_in_place(p, tile, l1);
    return c->column != 1 && c->row == 1 && p->m >= tile->nr;
}

static size_t workspace_of(const chooser *c, const tn_gemm_plan *plan) {
    const size_t each = plan->a_bytes + plan->b_bytes + plan->sum_bytes;
    assert(!plan->on_stack || each <= TN_CPU_STACK);
    if (plan->on_stack)
        return 0;
    if (plan->kind == TN_GEMM_SPLIT)
        return plan->sum_bytes * (size_t)(1 + plan->waiting) +
               (plan->a_bytes + plan->b_bytes) * (size_t)c->threads;
    if (plan->kind == TN_GEMM_SHARED)
        return plan->a_bytes + plan->b_bytes +
               plan->sum_bytes * (size_t)(plan->own_sums ? c->threads : 1);
    return plan->shared_bytes + each * (size_t)c->threads;
}

static void offer(const chooser *c, const tn_gemm_plan *plan, tn_choices *out) {
    static const char *const names[] = {
        [TN_GEMM_VECTOR] = "gemm-vector", [TN_GEMM_PRIVATE] = "gemm-panels",
        [TN_GEMM_STREAM] = "gemm-stream", [TN_GEMM_SHARED] = "gemm-packed",
        [TN_GEMM_SPLIT] = "gemm-split",   [TN_GEMM_DIRECT] = "gemm-direct",
        [TN_GEMM_SMALL] = "gemm-small",
    };
    static const char *const reasons[] = {
        [TN_GEMM_VECTOR] = "a few rows or columns: B is read in place",
        [TN_GEMM_PRIVATE] =
            "few rows, many members or little workspace: each worker packs for itself",
        [TN_GEMM_STREAM] = "few rows: B is copied while it is multiplied",
        [TN_GEMM_SHARED] = "large: packed once by all workers",
        [TN_GEMM_SPLIT] = "long sums of few elements: workers share the blocks of k",
        [TN_GEMM_DIRECT] = "short sums: A is read and C written where they lie",
        [TN_GEMM_SMALL] = "no workspace: panels on the workers' stacks",
    };
    tn_choice choice;
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, plan, sizeof *plan);
    choice.algorithm = names[plan->kind];
    choice.kernel = plan->tile->name;
    choice.reason = reasons[plan->kind];
    choice.workspace = workspace_of(c, plan);
    choice.seconds = predict(c, plan);
    tn_choices_offer(out, &choice);
}

typedef bool arrange_fn(const chooser *c, const piece_most *most, tn_gemm_plan *plan);

/* The arrangement with pieces halved, of rows, columns or steps, whichever costs less for what it
 * saves, until its workspace is at most `limit`. */
static bool fit(const chooser *c, arrange_fn *arrange, size_t limit, const tn_gemm_plan *empty,
                tn_gemm_plan *plan) {
    piece_most most = {INT64_MAX, INT64_MAX, INT64_MAX};
    *plan = *empty;
    if (!arrange(c, &most, plan))
        return false;
    while (workspace_of(c, plan) > limit) {
        const piece_most smaller[] = {
            {tn_round_up(tn_ceil_div(plan->mc, 2), c->tile->mr), most.cols, most.depth},
            {most.rows, tn_round_up(tn_ceil_div(plan->nc, 2), c->tile->nr), most.depth},
            {most.rows, most.cols, tn_max64(plan->depth / 2, 1)}};
        double least = INFINITY;
        tn_gemm_plan best = *plan;
        for (size_t way = 0; way < sizeof smaller / sizeof *smaller; way++) {
            tn_gemm_plan next = *empty;
            if (!arrange(c, &smaller[way], &next) ||
                workspace_of(c, &next) >= workspace_of(c, plan))
                continue;
            const double cost = predict(c, &next) * (double)workspace_of(c, &next);
            if (cost < least) {
                least = cost;
                best = next;
                most = smaller[way];
            }
        }
        if (least == INFINITY)
            return false;
        *plan = best;
    }
    return true;
}

/* What can be done with a half of the preferred workspace, a quarter and so on: the faster of the
 * two arrangements that pack. */
static void offer_less(const chooser *c, const tn_gemm_plan *empty, tn_choices *out) {
    static const size_t parts[] = {2, 4, 10, 30};
    const size_t preferred = out->choice[0].workspace;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        tn_gemm_plan shared, alone;
        const bool together = fit(c, plan_shared, preferred / parts[i], empty, &shared),
                   apart = fit(c, tn_gemm_plan_private, preferred / parts[i], empty, &alone);
        if (together && (!apart || predict(c, &shared) < predict(c, &alone)))
            offer(c, &shared, out);
        else if (apart)
            offer(c, &alone, out);
    }
}

/* Blocks of k shared out, in passes of full length, a quarter and so on. */
static void offer_split(const chooser *c, const tn_gemm_plan *empty, tn_choices *out) {
    piece_most most = {INT64_MAX, INT64_MAX, INT64_MAX};
    for (int length = 0; length < 3; length++) {
        tn_gemm_plan plan = *empty;
        if (!tn_gemm_plan_split(c, &most, &plan))
            return;
        offer(c, &plan, out);
        most.depth = plan.depth / 4;
    }
}

tenon_status tn_cpu_gemm_plan(tn_cpu_isa isa, const tn_gemm_problem *p, int threads,
                              tn_choices *out, tn_message *why) {
    const tn_gemm_tile *tile = tn_cpu_gemm_tile(isa, p);
    const tenon_dtype a = p->operand[TN_GEMM_A].dtype, b = p->operand[TN_GEMM_B].dtype;
    tn_gemm_problem turned;
    out->count = 0;
    if (!tn_gemm_of_blocks(p) && (b >= TN_GEMM_DTYPES || !tile->pack_b[b]))
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "b.dtype is %s: not yet on this device",
                       tenon_dtype_name(b));
    if (a >= TN_GEMM_DTYPES || !tile->pack_a[a])
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "a.dtype is %s: not on this device",
                       tenon_dtype_name(a));

    chooser c = {.tile = tile,
                 .caches = tn_cpu_cache_sizes(),
                 .threads = threads,
                 .transposed = prefers_transposed(p, tile, tn_cpu_cache_sizes().l1d)};
    if (c.transposed) {
        tn_gemm_transpose(p, &turned);
        tile = c.tile = tn_cpu_gemm_tile(isa, &turned);
    }
    const bool integers = tile->type == TENON_S32;
    c.p = c.transposed ? &turned : p;
    c.vector = integers ? tn_cpu_dot_find(TENON_S32, TN_S16, isa) : tile;
    c.element = (int64_t)tn_gemm_element(tile->type);
    c.kc = clamp64(p->k, 1, TN_GEMM_KC);
    c.halves = p->gated != TENON_GATED_NONE ? 2 : 1;
    c.members = p->experts > 0 ? p->experts : p->batch_count > 0 ? p->batch_count : 1;
    c.work = (double)p->m * (double)p->n * (double)p->k * (double)c.halves *
             (double)(p->experts > 0 ? 1 : c.members);
    const tn_gemm_operand *to = &c.p->operand[TN_GEMM_C];
    c.in_place = to->dtype == tile->type && to->column == 1 && p->beta == 0 && c.halves == 1 &&
                 !tn_gemm_present(p, TN_GEMM_RESIDUAL);
    /* What the arrangement that doesn't pack can't apply. */
    c.factors_a = !tile->scaled &&
                  (tn_gemm_present(c.p, TN_GEMM_A_SCALE) || tn_gemm_present(c.p, TN_GEMM_A_ZERO));
    c.factors_b =
        tile->scaled
            ? tn_gemm_present(c.p, TN_GEMM_B_ZERO) && !tn_gemm_ungrouped(c.p, TN_GEMM_B_ZERO)
            : tn_gemm_present(c.p, TN_GEMM_B_SCALE) || tn_gemm_present(c.p, TN_GEMM_B_ZERO);
    c.packed = tn_gemm_present(p, TN_GEMM_B_PACKED) && !tn_gemm_of_blocks(p);

    const tn_gemm_tile *finish =
        !integers && tile->group == 1
            ? tile
            : tn_cpu_tile_find(p->accumulate == TENON_F32 ? TENON_F32 : TENON_F64, isa.level);
    const tn_gemm_plan empty = {
        .tile = tile, .finish = finish, .transposed = c.transposed, .in_place = c.in_place};
    const piece_most any = {INT64_MAX, INT64_MAX, INT64_MAX};
    tn_gemm_plan plan = empty;
    if (tn_gemm_plan_direct(&c, &plan)) {
        offer(&c, &plan, out);
        return TENON_OK;
    }
    plan = empty;
    if (tn_gemm_plan_strips(&c, &plan))
        offer(&c, &plan, out);
    plan = empty;
    offer_split(&c, &empty, out);
    if (tn_gemm_plan_stream(&c, &plan))
        offer(&c, &plan, out);
    plan = empty;
    if (tn_gemm_plan_vector(&c, false, &plan)) {
        offer(&c, &plan, out);
        plan = empty;
        if (tn_gemm_plan_vector(&c, true, &plan)) {
            offer(&c, &plan, out);
            return TENON_OK;
        }
    } else {
        if (plan_shared(&c, &any, &plan))
            offer(&c, &plan, out);
        plan = empty;
        if (tn_gemm_plan_private(&c, &any, &plan))
            offer(&c, &plan, out);
        offer_less(&c, &empty, out);
    }
    plan = empty;
    plan_small(&c, &plan);
    offer(&c, &plan, out);
    return TENON_OK;
}
