/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_direct.c: the arrangement for short sums, k at most a block, with alpha and beta alone:
 * A is read where it lies and C written at once. So is B read where that keeps it in L1; else a
 * strip of its columns at a time is packed on the worker's stack.
 *
 * The only arrangement that works on the problem as it was planned instead of a job (cpu_gemm.h):
 * at 4 x 4 x 4 making the job costs more than the product.
 */
#include "cpu/cpu_gemm.h"

/*
 * Whether B, read where it lies, stays in L1 from one tile's rows to the next: in size, and because
 * its rows are not so far apart that the lines of a panel share too few sets (of eight ways).
 */
static bool b_stays_in_l1(const tn_gemm_problem *p, int64_t size, size_t l1) {
    const int64_t page = 4096, ways = 8;
    const int64_t step = p->operand[TN_GEMM_B].row * size;
    const int64_t common = tn_min64(step & -step, page); /* the largest power of two that divides */
    return p->n * p->k <= (int64_t)l1 / size && p->k * common <= ways * page;
}

bool tn_gemm_direct_takes(const tn_gemm_problem *p, const tn_gemm_tile *tile) {
    const tn_gemm_operand *a = &p->operand[TN_GEMM_A], *b = &p->operand[TN_GEMM_B],
                          *c = &p->operand[TN_GEMM_C];
    if (!tile->direct || p->k < 1 || p->k > TN_GEMM_KC || p->experts > 0 ||
        p->gated != TENON_GATED_NONE || p->activation != TENON_ACTIVATION_NONE)
        return false;
    /* Beside A, B and C there is nothing: of the epilogue the kernel knows alpha and beta. */
    for (int r = TN_GEMM_C + 1; r < TN_GEMM_ROLES; r++)
        if (p->operand[r].dtype != TENON_DTYPE_NONE)
            return false;
    return a->dtype == tile->type && b->dtype == tile->type && c->dtype == tile->type &&
           c->column == 1 && p->m > 0 && p->n > 0;
}

bool tn_gemm_direct_in_place(const tn_gemm_problem *p, const tn_gemm_tile *tile, size_t l1) {
    return p->operand[TN_GEMM_B].column == 1 && p->n <= (int64_t)l1 &&
           b_stays_in_l1(p, (int64_t)tn_gemm_element(tile->type), l1);
}

typedef struct direct_job {
    const tn_gemm_problem *p;
    const tn_gemm_plan *plan;
    void *const *address;
    tn_gemm_direct_args args; /* of the whole first member */
    int64_t b_column;
    int a, b;     /* the roles of the kernel's operands */
    int64_t size; /* bytes of an element, in all of them */
} direct_job;

/* The first element of member `index` of an operand. */
static inline char *member_of(const direct_job *job, int role, int64_t index) {
    const tn_gemm_problem *p = job->p;
    const tn_gemm_operand *o = &p->operand[role];
    if (p->pointer_array)
        return ((char *const *)job->address[role])[index];
    const int64_t elements =
        p->batch_rank == 1 ? index * o->batch[0] : tn_gemm_batch_offset(p, o, index);
    return (char *)job->address[role] + elements * job->size;
}

enum { LINE = 64 }; /* of a cache */

/* ---- B in place */

/* Lines of `rows` rows that are read or written after those being worked on. */
static tn_gemm_lines rows_ahead(const direct_job *job, const void *at, int64_t row, int64_t width,
                                int64_t rows) {
    tn_gemm_lines t = {.at = at, .step = row * job->size, .runs = (int32_t)rows};
    while (LINE << t.shift < width * job->size)
        t.shift++;
    return t;
}

/* Steps from which on a tile takes longer than finding out what it is to fetch. */
enum { STEPS_TO_FETCH = 64 };

/* A few rows at a time: A's and C's stay in L1 from one panel of B to the next, and those that
 * follow are fetched meanwhile. */
static inline void rows_in_place(const direct_job *job, tn_gemm_direct_args *t, int64_t rows) {
    const int64_t some = job->plan->item_m;
    tn_gemm_lines ahead[2];
    for (; rows > some; rows -= some) {
        const char *a = (const char *)t->a + some * t->a_row * job->size;
        char *c = (char *)t->c + some * t->c_row * job->size;
        const int64_t next = tn_min64(some, rows - some);
        ahead[0] = rows_ahead(job, c, t->c_row, t->n, next);
        ahead[1] = rows_ahead(job, a, t->a_row, t->a_column == 1 ? t->k : 1, next);
        t->m = some;
        t->ahead = t->k >= STEPS_TO_FETCH ? ahead : NULL;
        job->plan->tile->direct(t);
        t->a = a;
        t->c = c;
    }
    t->m = rows;
    t->ahead = NULL;
    job->plan->tile->direct(t);
}

/* ---- strips of B */

/* Rows of B to fetch before the one that is copied: what is on its way at a time, and no more than
 * the ways of a cache, as rows may be a power of two apart. */
enum { ROWS_AHEAD = 4 };

/* Whole panels of B's columns, by rows: of each all that the strip has of it. */
static void copy_rows(const direct_job *job, const char *b, int64_t cols, char *to) {
    const int64_t k = job->args.k, step = job->args.b_row * job->size,
                  width = job->plan->tile->nr * job->size, bytes = cols * job->size;
    for (int64_t p = 0; p < k; p++, b += step, to += width) {
        if (p + ROWS_AHEAD < k)
            for (int64_t at = 0; at < bytes; at += LINE)
                __builtin_prefetch(b + ROWS_AHEAD * step + at);
        for (int64_t at = 0, panel = 0; at < bytes; at += width, panel += k * width)
            memcpy(to + panel, b + at, (size_t)width);
    }
}

static void pack_strip(const direct_job *job, const char *b, int64_t cols, char *to) {
    const tn_gemm_tile *tile = job->plan->tile;
    const int64_t nr = tile->nr, k = job->args.k;
    if (job->b_column == 1 && cols % nr == 0) {
        copy_rows(job, b, cols, to);
        return;
    }
    tn_gemm_pack_args t = {.along = job->b_column, .across = job->args.b_row, .kc = k};
    for (int64_t j = 0; j < cols; j += nr) {
        t.src = b + j * job->b_column * job->size;
        t.dst = to + j * k * job->size;
        t.valid = (int32_t)tn_min64(nr, cols - j);
        tile->pack_b[tile->type](&t);
    }
}

/* Lines of C that are written soon: rows of one tile, two panels further on. */
static void fetch_c(const direct_job *job, const tn_gemm_direct_args *t) {
    const char *c = (const char *)t->c + 2 * job->plan->tile->nr * job->size;
    for (int64_t i = 0; i < t->m; i++)
        __builtin_prefetch(c + i * t->c_row * job->size, 1);
}

/* By rows of tiles, so that C is written in runs as long as the strip is wide. */
static void strips(const direct_job *job, const tn_gemm_direct_args *whole, char *own) {
    const tn_gemm_plan *plan = job->plan;
    const int64_t mr = plan->tile->mr, nr = plan->tile->nr, size = job->size;
    tn_gemm_direct_args t = *whole;
    t.b_row = nr;
    for (int64_t j = 0; j < whole->n; j += plan->item_n) {
        const int64_t cols = tn_min64(plan->item_n, whole->n - j);
        pack_strip(job, (const char *)whole->b + j * job->b_column * size, cols, own);
        for (int64_t i = 0; i < whole->m; i += mr) {
            t.a = (const char *)whole->a + i * t.a_row * size;
            t.m = tn_min64(mr, whole->m - i);
            for (int64_t q = 0; q < cols; q += nr) {
                t.b = own + q * t.k * size;
                t.c = (char *)whole->c + (i * t.c_row + j + q) * size;
                t.n = tn_min64(nr, cols - q);
                fetch_c(job, &t);
                plan->tile->direct(&t);
            }
        }
    }
}

/* ---- */

/* Rows from i0 and columns from j0 on, at most mc x nc of them, of `count` members from `first`
 * on. */
static inline void direct_members(const direct_job *job, int64_t first, int64_t count, int64_t i0,
                                  int64_t j0, char *own) {
    const tn_gemm_plan *plan = job->plan;
    tn_gemm_direct_args t = job->args;
    const int64_t a_skip = i0 * t.a_row * job->size, b_skip = j0 * job->b_column * job->size,
                  c_skip = (i0 * t.c_row + j0) * job->size;
    const int64_t rows = tn_min64(plan->mc, t.m - i0);
    t.n = tn_min64(plan->nc, t.n - j0);
    for (int64_t i = first; i < first + count; i++) {
        t.a = member_of(job, job->a, i) + a_skip;
        t.b = member_of(job, job->b, i) + b_skip;
        t.c = member_of(job, TN_GEMM_C, i) + c_skip;
        t.m = rows;
        if (own)
            strips(job, &t, own);
        else
            rows_in_place(job, &t, rows);
    }
}

static int64_t pieces_across(const direct_job *job) {
    return tn_ceil_div(job->args.n, job->plan->nc);
}

static int64_t pieces_of_member(const direct_job *job) {
    return tn_ceil_div(job->args.m, job->plan->mc) * pieces_across(job);
}

static void direct_piece(const direct_job *job, int64_t index, char *own) {
    const tn_gemm_plan *plan = job->plan;
    const int64_t pieces = pieces_of_member(job), across = pieces_across(job),
                  first = index / pieces * plan->chunk, piece = index % pieces;
    direct_members(job, first, tn_min64(plan->chunk, job->p->batch_count - first),
                   piece / across * plan->mc, piece % across * plan->nc, own);
}

static void in_place_task(void *arg, int64_t index, int worker) {
    (void)worker;
    direct_piece(arg, index, NULL);
}

static void strip_task(void *arg, int64_t index, int worker) {
    _Alignas(64) char own[TN_CPU_STACK];
    (void)worker;
    direct_piece(arg, index, own);
}

/* The kernel's view of the first member. Tests for each field whether the problem is run transposed
 * would take longer than the smallest products. */
static inline tn_gemm_direct_args args_of(const tn_gemm_problem *p, bool turned,
                                          void *const *address) {
    const tn_gemm_operand *a = &p->operand[TN_GEMM_A], *b = &p->operand[TN_GEMM_B],
                          *c = &p->operand[TN_GEMM_C];
    if (turned)
        return (tn_gemm_direct_args){address[TN_GEMM_B],
                                     address[TN_GEMM_A],
                                     address[TN_GEMM_C],
                                     p->n,
                                     p->m,
                                     p->k,
                                     b->column,
                                     b->row,
                                     a->column,
                                     c->column,
                                     p->alpha,
                                     p->beta,
                                     NULL};
    return (tn_gemm_direct_args){address[TN_GEMM_A],
                                 address[TN_GEMM_B],
                                 address[TN_GEMM_C],
                                 p->m,
                                 p->n,
                                 p->k,
                                 a->row,
                                 a->column,
                                 b->row,
                                 c->row,
                                 p->alpha,
                                 p->beta,
                                 NULL};
}

TN_HOT void tn_gemm_run_direct(const tn_run *run) {
    const tn_gemm_problem *p = run->problem;
    const tn_gemm_plan *plan = (const tn_gemm_plan *)(const void *)run->choice->state;
    const bool turned = plan->transposed;
    const tn_gemm_direct_args args = args_of(p, turned, run->addresses);
    if (plan->at_once) {
        plan->tile->direct(&args);
        return;
    }
    direct_job job = {
        .p = p,
        .plan = plan,
        .address = run->addresses,
        .args = args,
        .b_column = turned ? p->operand[TN_GEMM_A].row : p->operand[TN_GEMM_B].column,
        .a = turned ? TN_GEMM_B : TN_GEMM_A,
        .b = turned ? TN_GEMM_A : TN_GEMM_B,
        .size = (int64_t)tn_gemm_element(plan->tile->type),
    };
    tn_team_run(run->team, plan->item_n ? strip_task : in_place_task, &job,
                pieces_of_member(&job) * tn_ceil_div(p->batch_count, plan->chunk));
}
