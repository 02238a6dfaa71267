/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_plan.c: which arrangement of the loops a product gets, and how large its pieces are.
 *
 * The model (after Low et al., Analytical Modeling Is Enough for High-Performance BLIS, 2016): a
 * panel of B, TN_GEMM_KC x nr, stays in L1; the packed rows of A that meet it fill at most half of
 * L2; what all workers share stays within a few MB of L3. Nothing here changes a result, only who
 * computes it when. Choices are listed from fast to small.
 */
#include "cpu/cpu_gemm.h"

/* Rows up to which B is read in place, if its rows are contiguous or if its columns are: beyond, a
 * packed panel pays. Zen 3, 2026-11, weights of 4096 x 4096 f32, one thread of a busy machine: 8
 * rows 29 GFLOP/s in place and 25 packed; 8 columns 23 and 27, 4 columns 22 and 18. */
#define VECTOR_ROWS 8
#define VECTOR_ROWS_TRANSPOSED 4

/* Rows up to which A is packed once in whole and every worker packs its own columns of B: no worker
 * then packs anything twice. */
#define FEW_ROWS 256

/* Bytes that the packed A, and the packed B, of one pass may take: an eighth of a common L3 of 32
 * MiB. */
#define SHARED_BYTES (INT64_C(4) << 20)

/* A pass's sums kept apart from C. */
#define SUM_ROWS 1024
#define SUM_COLUMNS 2048

/* Multiply-adds worth waking another worker for: about 2 us of one core, some times the cost of
 * handing a task over. */
#define WORTH_A_TASK 1e5

static const tn_gemm_tile *const tiles[] = {
#define TN_GEMM_TILE(type, mr, nr, level) &tn_gemm_tile_##type##_##level,
#include "cpu/kernels/gemm_tiles.def"
#undef TN_GEMM_TILE
};

const tn_gemm_tile *tn_cpu_gemm_tile(tn_cpu_level level, tenon_dtype accumulate) {
    /* Integer sums are kept in f64, where they are exact up to 2^53. */
    const tenon_dtype type = accumulate == TENON_F32 ? TENON_F32 : TENON_F64;
    const tn_gemm_tile *best = NULL;
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++)
        if (tiles[i]->type == type && tiles[i]->level <= level)
            best = tiles[i]; /* rows are in ascending order of level */
    return best;
}

/* What the chooser knows while it fills one plan. */
typedef struct chooser {
    const tn_gemm_problem *p; /* as computed */
    const tn_gemm_tile *tile;
    tn_cpu_caches caches;
    int threads;
    int64_t element, halves, members;
    double work; /* multiply-adds of the whole */
    bool transposed, in_place, factors_a, factors_b, packed;
} chooser;

static bool present(const tn_gemm_problem *p, int role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

static int64_t clamp64(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : x > high ? high : x;
}

/* The size, a multiple of `unit`, of each of the fewest equal parts of `total` that are at most
 * `most`. */
static int64_t even_part(int64_t total, int64_t most, int64_t unit) {
    const int64_t parts = tn_ceil_div(total > 0 ? total : 1, most);
    return tn_round_up(tn_ceil_div(total > 0 ? total : 1, parts), unit);
}

/* How many tasks are wanted: a few per worker for balance, fewer if each would be tiny. */
static int64_t tasks_wanted(const chooser *c) {
    const double most = 1 + c->work / WORTH_A_TASK;
    const int64_t wanted = c->threads > 1 ? 4 * (int64_t)c->threads : 1;
    return most < (double)wanted ? (int64_t)most : wanted;
}

static int64_t rows_in_l2(const chooser *c) {
    const int64_t rows = (int64_t)c->caches.l2 / 2 / (TN_GEMM_KC * c->element);
    return clamp64(rows / c->tile->mr, 4, 64) * c->tile->mr;
}

static size_t a_block_bytes(const chooser *c, int64_t rows, int64_t kc) {
    return tn_round64(
        (size_t)(tn_ceil_div(rows, c->tile->mr) * tn_gemm_a_stride(c->tile, kc) * c->element));
}

static size_t panel_bytes(const chooser *c, int64_t cols, int64_t kc) {
    return tn_round64((size_t)(tn_round_up(cols, c->tile->nr) * kc * c->element));
}

static size_t sum_bytes(const chooser *c, int64_t rows, int64_t cols) {
    return tn_round64((size_t)(rows * c->halves * tn_round_up(cols, c->tile->nr) * c->element));
}

/* ---- the four arrangements: each fills a plan or says no */

static bool plan_vector(const chooser *c, tn_gemm_plan *plan) {
    const tn_gemm_operand *b = &c->p->operand[TN_GEMM_B];
    const bool rows = b->column == 1 || c->p->n == 1;
    if (c->p->m < 1 || c->p->m > (b->column == 1 ? VECTOR_ROWS : VECTOR_ROWS_TRANSPOSED) ||
        c->p->experts > 0 || c->halves > 1 || c->packed || c->factors_a || c->factors_b ||
        !(rows || b->row == 1) || c->p->k == 0 || !c->tile->gemv[b->dtype])
        return false;
    const int64_t pieces = tn_ceil_div(tasks_wanted(c), c->members);
    const int64_t unit = c->tile->nr;
    plan->kind = TN_GEMM_VECTOR;
    /* The outputs wait in L1 while rows pass; columns are read in groups of nr and need only
     * balance. */
    plan->nc = clamp64(tn_round_up(tn_ceil_div(c->p->n, pieces), unit), unit,
                       b->column == 1 && c->p->m == 1 ? 2048 : 512);
    const tn_gemm_operand *a = &c->p->operand[TN_GEMM_A];
    const bool ready = a->dtype == c->tile->type && a->column == 1;
    plan->a_bytes = ready ? 0 : tn_round64((size_t)(c->p->m * c->p->k * c->element));
    plan->b_bytes = tn_round64((size_t)(c->p->m * plan->nc * c->element));
    plan->sum_bytes = c->in_place ? 0 : sum_bytes(c, c->p->m, plan->nc);
    return true;
}

static bool b_is_direct(const chooser *c) {
    const tn_gemm_operand *b = &c->p->operand[TN_GEMM_B];
    return b->dtype == c->tile->type && b->column == 1 && !c->factors_b && !c->packed &&
           c->p->gated != TENON_GATED_INTERLEAVED;
}

static bool plan_private(const chooser *c, tn_gemm_plan *plan) {
    const int64_t mr = c->tile->mr, nr = c->tile->nr, m = c->p->m > 0 ? c->p->m : 1,
                  n = c->p->n > 0 ? c->p->n : 1;
    const int64_t blocks = tn_ceil_div(c->p->k, TN_GEMM_KC);
    plan->kind = TN_GEMM_PRIVATE;
    plan->mc = even_part(m, rows_in_l2(c), mr);
    const int64_t down = tn_ceil_div(m, plan->mc);
    const int64_t pieces = tn_ceil_div(tasks_wanted(c), c->members * down);
    plan->nc = clamp64(tn_round_up(tn_ceil_div(n, pieces), nr), nr, 512);
    /* A B that stays in cache, or meets one tile only, gains nothing from being packed. */
    plan->direct_b =
        b_is_direct(c) && (m <= mr || n * c->p->k * c->element <= (int64_t)c->caches.l1d);
    plan->shared_a = c->members == 1 && c->p->experts == 0 && n > plan->nc && c->p->k > 0 &&
                     m <= FEW_ROWS &&
                     (double)blocks * (double)a_block_bytes(c, m, TN_GEMM_KC) < 64e6;
    if (plan->shared_a)
        plan->mc = tn_round_up(m, mr);
    plan->shared_bytes = plan->shared_a ? (size_t)blocks * a_block_bytes(c, m, TN_GEMM_KC) : 0;
    plan->a_bytes = plan->shared_a ? 0 : a_block_bytes(c, plan->mc, TN_GEMM_KC);
    plan->b_bytes = c->packed ? 0 : panel_bytes(c, nr, TN_GEMM_KC);
    plan->sum_bytes = c->in_place ? 0 : sum_bytes(c, plan->mc, plan->nc);
    return true;
}

static bool plan_shared(const chooser *c, tn_gemm_plan *plan) {
    const int64_t mr = c->tile->mr, nr = c->tile->nr, m = c->p->m, n = c->p->n;
    const int64_t most = SHARED_BYTES / (TN_GEMM_KC * c->element);
    if (c->p->experts > 0 || m <= FEW_ROWS || n < 4 * nr || c->p->k == 0)
        return false;
    if (c->members > 2 * c->threads && c->work / (double)c->members < 1e8)
        return false;
    plan->kind = TN_GEMM_SHARED;
    plan->mc = even_part(m, c->in_place || most < SUM_ROWS ? most : SUM_ROWS, mr);
    plan->nc =
        even_part(n, (c->in_place || most < SUM_COLUMNS ? most : SUM_COLUMNS) / c->halves, nr);
    plan->item_m = even_part(plan->mc, rows_in_l2(c), mr);
    const int64_t down = tn_ceil_div(plan->mc, plan->item_m);
    /* All wait for the last task of every pass: where cores differ in speed (a busy neighbour)
     * small tasks lose less. */
    const int64_t wanted = 3 * tasks_wanted(c);
    plan->item_n =
        clamp64(tn_round_up(tn_ceil_div(plan->nc, tn_ceil_div(wanted, down)), nr), nr, 1024);
    plan->a_bytes = a_block_bytes(c, plan->mc, TN_GEMM_KC);
    plan->b_bytes = c->packed ? 0 : (size_t)c->halves * panel_bytes(c, plan->nc, TN_GEMM_KC);
    plan->sum_bytes = c->in_place ? 0 : sum_bytes(c, plan->mc, plan->nc);
    return true;
}

static void plan_small(const chooser *c, tn_gemm_plan *plan) {
    plan->kind = TN_GEMM_SMALL;
    plan->in_place = false;
    plan->a_bytes = a_block_bytes(c, c->tile->mr, TN_GEMM_SMALL_STEP);
    plan->b_bytes = panel_bytes(c, c->tile->nr, TN_GEMM_SMALL_STEP);
    plan->sum_bytes = tn_round64((size_t)(c->tile->mr * c->tile->nr * c->element)) +
                      sum_bytes(c, c->tile->mr, c->tile->nr);
}

/* ---- */

/* Whether C^T = B^T A^T suits the tiles better: C's columns are contiguous, or C is narrower than a
 * tile. */
static bool prefers_transposed(const tn_gemm_problem *p, const tn_gemm_tile *tile) {
    const tn_gemm_operand *c = &p->operand[TN_GEMM_C];
    if (p->gated != TENON_GATED_NONE || p->experts > 0 || present(p, TN_GEMM_B_PACKED))
        return false;
    if (p->m == 1 || p->n == 1)
        return p->n == 1 && p->m > 1;
    if (p->n < tile->nr && p->m > 2 * p->n)
        return true;
    return c->column != 1 && c->row == 1 && p->m >= tile->nr;
}

static size_t workspace_of(const tn_gemm_plan *plan, int threads) {
    const size_t each = plan->a_bytes + plan->b_bytes + plan->sum_bytes;
    const bool one = plan->kind == TN_GEMM_SHARED || plan->kind == TN_GEMM_SMALL;
    return plan->shared_bytes + each * (size_t)(one ? 1 : threads);
}

static const char *const algorithm_names[] = {
    [TN_GEMM_VECTOR] = "gemm-vector",
    [TN_GEMM_PRIVATE] = "gemm-panels",
    [TN_GEMM_SHARED] = "gemm-packed",
    [TN_GEMM_SMALL] = "gemm-small",
};

static const char *const algorithm_reasons[] = {
    [TN_GEMM_VECTOR] = "a few rows or columns: B is read in place",
    [TN_GEMM_PRIVATE] = "few rows, or many members: each worker packs for itself",
    [TN_GEMM_SHARED] = "large: packed once by all workers",
    [TN_GEMM_SMALL] = "a few KB of workspace, one worker",
};

/* Adds a plan to the list; the list's last place is kept for the smallest. */
static void add_choice(const chooser *c, const tn_gemm_plan *plan, tn_choices *out) {
    tn_choice *choice = &out->choice[out->count++];
    memset(choice, 0, sizeof *choice);
    memcpy(choice->state, plan, sizeof *plan);
    choice->algorithm = algorithm_names[plan->kind];
    choice->kernel = plan->tile->name;
    choice->reason = algorithm_reasons[plan->kind];
    choice->workspace = workspace_of(plan, c->threads);
    /* Lanes x 2 units at 3 GHz, over what each arrangement reaches of it. */
    static const double lanes[TN_CPU_LEVELS] = {0.25, 8, 16};
    static const double reached[] = {[TN_GEMM_VECTOR] = 0.15,
                                     [TN_GEMM_PRIVATE] = 0.7,
                                     [TN_GEMM_SHARED] = 0.85,
                                     [TN_GEMM_SMALL] = 0.3};
    const double rate =
        lanes[plan->tile->level] * 4 / (double)c->element * 2 * 3e9 * reached[plan->kind];
    const int workers = plan->kind == TN_GEMM_SMALL || c->work < WORTH_A_TASK ? 1 : c->threads;
    choice->seconds = 2e-7 + c->work / (rate * workers);
}

tenon_status tn_cpu_gemm_plan(tn_cpu_level level, const tn_gemm_problem *p, int threads,
                              tn_choices *out, tn_message *why) {
    const tn_gemm_tile *tile = tn_cpu_gemm_tile(level, p->accumulate);
    const tenon_dtype a = p->operand[TN_GEMM_A].dtype, b = p->operand[TN_GEMM_B].dtype;
    tn_gemm_problem turned;
    out->count = 0;
    if (b >= TN_GEMM_DTYPES || !tile->pack_b[b])
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "b.dtype is %s: not yet on this device",
                       tenon_dtype_name(b));
    if (a >= TN_GEMM_DTYPES || !tile->pack_a[a])
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "a.dtype is %s: not on this device",
                       tenon_dtype_name(a));

    chooser c = {.tile = tile,
                 .caches = tn_cpu_cache_sizes(),
                 .threads = threads,
                 .transposed = prefers_transposed(p, tile)};
    if (c.transposed)
        tn_gemm_transpose(p, &turned);
    c.p = c.transposed ? &turned : p;
    c.element = (int64_t)tn_gemm_element(tile->type);
    c.halves = p->gated != TENON_GATED_NONE ? 2 : 1;
    c.members = p->experts > 0 ? p->experts : p->batch_count > 0 ? p->batch_count : 1;
    c.work = (double)p->m * (double)p->n * (double)p->k * (double)c.halves *
             (double)(p->experts > 0 ? 1 : c.members);
    const tn_gemm_operand *to = &c.p->operand[TN_GEMM_C];
    c.in_place = to->dtype == tile->type && to->column == 1 && p->beta == 0 && c.halves == 1 &&
                 !present(p, TN_GEMM_RESIDUAL);
    c.factors_a = present(c.p, TN_GEMM_A_SCALE) || present(c.p, TN_GEMM_A_ZERO);
    c.factors_b = present(c.p, TN_GEMM_B_SCALE) || present(c.p, TN_GEMM_B_ZERO);
    c.packed = present(p, TN_GEMM_B_PACKED);

    const tn_gemm_plan empty = {.tile = tile, .transposed = c.transposed, .in_place = c.in_place};
    tn_gemm_plan plan = empty;
    if (plan_vector(&c, &plan)) {
        add_choice(&c, &plan, out);
    } else {
        if (plan_shared(&c, &plan))
            add_choice(&c, &plan, out);
        plan = empty;
        if (plan_private(&c, &plan) &&
            (!out->count || workspace_of(&plan, threads) < out->choice[0].workspace))
            add_choice(&c, &plan, out);
    }
    plan = empty;
    plan_small(&c, &plan);
    if (workspace_of(&plan, threads) < out->choice[out->count - 1].workspace)
        add_choice(&c, &plan, out);
    return TENON_OK;
}
