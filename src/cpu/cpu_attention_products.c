/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_attention_products.c: the two products of rows of a unit with a block of keys: q·k into
 * scores, p·v into sums.
 *
 * Both run on the GEMM microkernels: a panel of keys, or of v's columns, stays in L1 while the
 * packed rows of a group pass, as in a GEMM; few rows walk through k and v where they lie. Every
 * sum is one chain (over d; over a block's keys), so all of these give the same bits, and a chain
 * may stop and go on: lean states (cpu_attention.h) pack a few elements of d, or a few keys, at a
 * time.
 */
#include "cpu/cpu_attention.h"

#include <string.h>

#define BLOCK TN_ATTENTION_BLOCK
/* Units of up to so many tiles wait for memory rather than for arithmetic: they touch keys ahead.
 */
#define TOUCH_TILES 4

/* Most keys of one call of a walk, and of those whose addresses it needs to fetch them ahead. */
#define WALK_KEYS 64
#define WALK_LINES (2 * WALK_KEYS)
/* Bytes from what is used to what is fetched: some 500 ns of one core's share of the memory. */
#define WALK_AHEAD 8192

/* ---------------------------------------------------------------- walking */

bool tn_attention_walkable(const tn_attention_problem *p, const tn_softmax_kernels *kernels,
                           tn_attention_role role) {
    const tn_attention_operand *x = &p->operand[role];
    return kernels->walk_scores[x->dtype] && x->stride[3] == 1;
}

/* Few rows go without packing where that can be; one always, but for lean states over block types:
 * they may begin within a block. */
bool tn_attention_walks(const tn_attention_unit *u, tn_attention_role role) {
    const bool all = role == TN_ATTENTION_K ? u->state->walk_k : u->state->walk_v;
    return all || (u->rows == 1 && !(u->state->step > 0 && tn_attention_blocks(u->p, role)) &&
                   tn_attention_walkable(u->p, u->state->kernels, role));
}

/* A block's elements for sums in f64. */
static void load_wide(const tn_block_type *type, const char *line, int64_t column, int64_t n,
                      double *to) {
    float values[TN_BLOCK_MOST];
    for (int64_t i = 0; i < n; ++i) {
        if (i == 0 || (column + i) % type->elements == 0)
            type->decode(tn_block_at(type, line, 0, column + i), values);
        to[i] = (double)values[(column + i) % type->elements];
    }
}

void tn_attention_line(const tn_attention_unit *u, tn_attention_role role, int64_t j,
                       int64_t column, int64_t n, void *to) {
    const tn_attention_operand *x = &u->p->operand[role];
    const tn_gemm_tile *tile = u->state->tile;
    const char *const line = tn_attention_key(u, role, j, column);
    if (!tn_attention_blocks(u->p, role))
        tile->load[x->dtype](line, x->stride[3], n, to);
    else if (u->p->accumulate == TENON_F32)
        tile->load_blocks[x->dtype - TENON_Q8_0](line, column, n, to);
    else
        load_wide(tn_block_find(x->dtype), line, column, n, to);
}

/* The next keys of [j, end) for a walk whose width is set: addresses of their elements `column`,
 * and of those after them that the unit will see. */
static void walk_lines(const tn_attention_unit *u, tn_attention_role role, int64_t j, int64_t end,
                       int64_t column, const void **line, tn_attention_walk *w) {
    const tn_attention_operand *x = &u->p->operand[role];
    const int64_t row = tn_bytes_of(x->dtype, x->stride[2]),
                  bytes = tn_max64(1, tn_bytes_of(x->dtype, w->width));
    const int64_t within = tn_attention_blocks(u->p, role) ? tn_bytes_of(x->dtype, column) : 0;
    int64_t at = 0, count;
    w->keys = tn_min64(end - j, WALK_KEYS);
    w->ahead = tn_min64(tn_max64(WALK_AHEAD / bytes, 8), WALK_KEYS);
    count = tn_min64(w->keys + w->ahead, u->hi - j);
    while (at < count) {
        const int64_t n = tn_attention_key_run(u, j + at, j + count);
        const char *first = tn_attention_key(u, role, j + at, column) + within;
        for (int64_t i = 0; i < n; ++i)
            line[at + i] = first + i * row;
        at += n;
    }
    for (; at < w->keys + w->ahead; ++at)
        line[at] = line[count - 1];
}

/* ---------------------------------------------------------------- packing */

/* Elements [d0, d0 + steps) of rows [row, row + n) of the queries, scaled, as one panel. */
static void pack_q(const tn_attention_unit *u, int64_t row, int64_t n, int64_t d0, int64_t steps,
                   char *to) {
    const tn_attention_operand *q = &u->p->operand[TN_ATTENTION_Q];
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t real = tn_attention_real(u);
    for (int64_t r = 0; r < n; ++r)
        tile->load[q->dtype](tn_attention_query(u, TN_ATTENTION_Q, row + r, d0), q->stride[3],
                             steps, u->w.gather + r * steps * real);
    tile->ops.scale(u->w.gather, u->p->scale, n * steps);
    const tn_gemm_pack_args pack = {.src = u->w.gather,
                                    .dst = to,
                                    .along = steps,
                                    .across = 1,
                                    .kc = steps,
                                    .valid = (int32_t)n};
    tile->pack_a[u->p->accumulate](&pack);
}

/* Elements [d0, d0 + steps) of all rows, scaled, one row after the other. */
static void load_q(const tn_attention_unit *u, int64_t d0, int64_t steps) {
    const tn_attention_operand *q = &u->p->operand[TN_ATTENTION_Q];
    const tn_gemm_tile *tile = u->state->tile;
    for (int64_t r = 0; r < u->rows; ++r)
        tile->load[q->dtype](tn_attention_query(u, TN_ATTENTION_Q, r, d0), q->stride[3], steps,
                             u->w.q + r * steps * tn_attention_real(u));
    tile->ops.scale(u->w.q, u->p->scale, u->rows * steps);
}

void tn_attention_queries(const tn_attention_unit *u) {
    const int64_t d = u->p->d, mr = u->state->tile->mr;
    if (u->state->step > 0)
        return;
    if (tn_attention_walks(u, TN_ATTENTION_K)) {
        load_q(u, 0, d);
        return;
    }
    for (int64_t row = 0; row < u->rows; row += mr)
        pack_q(u, row, tn_min64(mr, u->rows - row), 0, d, u->w.q + row * d * tn_attention_real(u));
}

/* Elements [d0, d0 + steps) of keys [j, j + n) as one panel of k. */
static void pack_k(const tn_attention_unit *u, int64_t j, int64_t n, int64_t d0, int64_t steps,
                   char *to) {
    const tn_attention_operand *k = &u->p->operand[TN_ATTENTION_K];
    const tn_gemm_tile *tile = u->state->tile;
    tn_gemm_pack_args pack = {.dst = to, .kc = steps, .valid = (int32_t)n};
    if (!tn_attention_blocks(u->p, TN_ATTENTION_K) && tn_attention_key_run(u, j, j + n) == n) {
        pack.src = tn_attention_key(u, TN_ATTENTION_K, j, d0);
        pack.along = k->stride[2];
        pack.across = k->stride[3];
        tile->pack_b[k->dtype](&pack);
        return;
    }
    for (int64_t i = 0; i < n; ++i)
        tn_attention_line(u, TN_ATTENTION_K, j + i, d0, steps,
                          u->w.gather + i * steps * tn_attention_real(u));
    pack.src = u->w.gather;
    pack.along = steps;
    pack.across = 1;
    tile->pack_b[u->p->accumulate](&pack);
}

/* Keys [a, b) of columns c ... c + nr of the unit's, as one panel. */
static void pack_v(const tn_attention_unit *u, int64_t a, int64_t b, int64_t c, char *to) {
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t nr = tile->nr, real = tn_attention_real(u);
    if (tn_attention_blocks(u->p, TN_ATTENTION_V)) { /* rows of a panel, decoded where they go */
        const int64_t valid = tn_min64(nr, u->cols - c);
        for (int64_t j = a; j < b; ++j, to += nr * real) {
            tn_attention_line(u, TN_ATTENTION_V, j, u->c0 + c, valid, to);
            memset(to + valid * real, 0, (size_t)((nr - valid) * real));
        }
        return;
    }
    for (int64_t j = a, n; j < b; j += n) {
        n = tn_attention_key_run(u, j, b);
        const tn_gemm_pack_args pack = {.src = tn_attention_key(u, TN_ATTENTION_V, j, u->c0 + c),
                                        .dst = to + (j - a) * nr * real,
                                        .along = v->stride[3],
                                        .across = v->stride[2],
                                        .kc = n,
                                        .valid = (int32_t)tn_min64(nr, u->cols - c)};
        tile->pack_b[v->dtype](&pack);
    }
}

/* ---------------------------------------------------------------- touching */

/*
 * Keys whose lines of k or v are touched on the way, some per tile: what packing and the tiles read
 * in strides, prefetchers then see as a stream, and its latency hides behind the products.
 */
typedef struct key_touch {
    tn_attention_role role;
    int64_t j, end; /* next key, and the one after the last */
    int64_t at, bytes;
    const char *line;
} key_touch;

static key_touch touch_start(const tn_attention_unit *u, tn_attention_role role, int64_t width,
                             int64_t j, int64_t end) {
    const tn_attention_operand *x = &u->p->operand[role];
    return (key_touch){.role = role,
                       .j = j,
                       .end = x->stride[3] == 1 ? end : j,
                       .bytes = tn_bytes_of(x->dtype, width)};
}

static void touch(const tn_attention_unit *u, key_touch *t, int64_t lines) {
    for (; lines > 0 && t->j < t->end; --lines) {
        if (t->at == 0)
            t->line = tn_attention_key(u, t->role, t->j, 0);
        __builtin_prefetch(t->line + t->at);
        t->at += 64;
        if (t->at >= t->bytes) {
            t->at = 0;
            ++t->j;
        }
    }
}

/* ---------------------------------------------------------------- scores */

/* Index of a block's panel that holds key j. */
static int64_t panel_of(const tn_attention_unit *u, const tn_attention_keys *t, int64_t j) {
    return (j - t->first) / u->state->tile->nr;
}

/* Packs the panels of keys that the unit sees. */
static void pack_keys(const tn_attention_unit *u, tn_attention_keys *t) {
    const int64_t nr = u->state->tile->nr, d = u->p->d, real = tn_attention_real(u);
    const int64_t start = t->first + panel_of(u, t, t->a) * nr,
                  panels = tn_ceil_div(t->b - start, nr);
    const bool few = u->rows <= TOUCH_TILES * u->state->tile->mr;
    key_touch k =
        touch_start(u, TN_ATTENTION_K, d, tn_min64(start + nr, u->hi), tn_min64(t->b + nr, u->hi));
    key_touch v = touch_start(u, TN_ATTENTION_V, u->p->dv, t->a, t->b);
    const int64_t k_lines = few ? nr * tn_ceil_div(k.bytes, 64) : 0;
    const int64_t v_lines = few ? tn_ceil_div((t->b - t->a) * tn_ceil_div(v.bytes, 64), panels) : 0;
    for (int64_t j = start; j < t->b; j += nr) {
        touch(u, &k, k_lines);
        touch(u, &v, v_lines);
        pack_k(u, j, tn_min64(nr, t->end - j), 0, d, u->w.k + (j - t->first) * d * real);
    }
    t->k_packed = true;
}

/* One panel of keys, from key j on, and the tiles of rows [row, row + n) that see some of it. `s`:
 * scores of row `row`; `q`: packed steps of all rows. */
static void panel_scores(const tn_attention_unit *u, const tn_attention_keys *t, int64_t row,
                         int64_t n, int64_t j, const char *panel, int64_t steps,
                         tn_gemm_meet meet) {
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t nr = tile->nr, mr = tile->mr, real = tn_attention_real(u);
    tn_gemm_ukr_args g = {.b = panel,
                          .kc = steps,
                          .ldb = nr,
                          .ldc = TN_ATTENTION_LD,
                          .cols = (int32_t)nr,
                          .meet = meet};
    for (int64_t i = 0; i < n; i += mr) {
        const int64_t rows = tn_min64(mr, n - i);
        const tn_attention_range seen = tn_attention_seen(u, t, row + i, rows);
        if (seen.a >= j + nr || seen.b <= j)
            continue;
        g.a = u->w.q + (row + i) * steps * real;
        g.c = u->w.s + (i * TN_ATTENTION_LD + j - t->first) * real;
        g.rows = (int32_t)rows;
        tile->ukr(&g);
    }
}

/* All rows, from k as it lies. */
static void walk_scores(const tn_attention_unit *u, const tn_attention_keys *t, int64_t d0,
                        int64_t steps) {
    const void *line[WALK_LINES];
    tn_attention_walk w = {.line = line,
                           .width = steps,
                           .a = u->w.q,
                           .rows = u->rows,
                           .a_step = steps,
                           .y_step = TN_ATTENTION_LD,
                           .chain = d0 > 0};
    for (int64_t j = t->a; j < t->b; j += w.keys) {
        walk_lines(u, TN_ATTENTION_K, j, t->b, d0, line, &w);
        w.y = u->w.s + (j - t->first) * tn_attention_real(u);
        u->state->kernels->walk_scores[u->p->operand[TN_ATTENTION_K].dtype](&w);
    }
}

/* Lean: some elements of d after the other. */
static void lean_scores(const tn_attention_unit *u, const tn_attention_keys *t) {
    const int64_t d = u->p->d, mr = u->state->tile->mr, nr = u->state->tile->nr;
    const bool walk = tn_attention_walks(u, TN_ATTENTION_K);
    int64_t d0 = 0;
    do {
        const int64_t steps = tn_min64(u->state->step, d - d0);
        if (walk) {
            load_q(u, d0, steps);
            walk_scores(u, t, d0, steps);
        }
        for (int64_t i = 0; i < u->rows && !walk; i += mr)
            pack_q(u, i, tn_min64(mr, u->rows - i), d0, steps,
                   u->w.q + i * steps * tn_attention_real(u));
        for (int64_t j = t->first + panel_of(u, t, t->a) * nr; j < t->b && !walk; j += nr) {
            pack_k(u, j, tn_min64(nr, t->end - j), d0, steps, u->w.k);
            panel_scores(u, t, 0, u->rows, j, u->w.k, steps,
                         d0 > 0 ? TN_GEMM_CHAIN : TN_GEMM_STORE);
        }
        d0 += steps;
    } while (d0 < d);
}

void tn_attention_scores(const tn_attention_unit *u, tn_attention_keys *t, int64_t row, int64_t n) {
    const int64_t d = u->p->d, nr = u->state->tile->nr;
    if (u->state->step > 0) {
        lean_scores(u, t);
        return;
    }
    if (tn_attention_walks(u, TN_ATTENTION_K)) {
        walk_scores(u, t, 0, d);
        return;
    }
    if (!t->k_packed)
        pack_keys(u, t);
    const tn_attention_range seen = tn_attention_seen(u, t, row, n);
    for (int64_t j = t->first + panel_of(u, t, seen.a) * nr; j < seen.b; j += nr)
        panel_scores(u, t, row, n, j, u->w.k + (j - t->first) * d * tn_attention_real(u), d,
                     TN_GEMM_STORE);
}

/* ---------------------------------------------------------------- values */

/* Packs the values that the unit sees, some keys of all columns before the next. */
static void pack_values(const tn_attention_unit *u, tn_attention_keys *t) {
    const int64_t nr = u->state->tile->nr, real = tn_attention_real(u);
    for (int64_t j = t->a; j < t->b; j += TN_ATTENTION_V_KEYS)
        for (int64_t c = 0; c < u->cols; c += nr)
            pack_v(u, j, tn_min64(j + TN_ATTENTION_V_KEYS, t->b), c,
                   u->w.v + (c * BLOCK + (j - t->first) * nr) * real);
    t->v_packed = true;
}

/* The weights of rows [row, row + n), packed, then one panel of v's columns after the other. */
static void group_values(const tn_attention_unit *u, tn_attention_keys *t, int64_t row, int64_t n,
                         char *o_block) {
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t nr = tile->nr, mr = tile->mr, real = tn_attention_real(u);
    const bool direct = u->state->direct_v;
    tn_gemm_ukr_args g = {.ldb = direct ? v->stride[2] : nr,
                          .ldc = u->state->columns,
                          .cols = (int32_t)nr,
                          .meet = TN_GEMM_STORE};
    if (!direct && !t->v_packed)
        pack_values(u, t);
    for (int64_t c = 0; c < u->cols; c += nr)
        for (int64_t i = 0; i < n; i += mr) {
            const int64_t rows = tn_min64(mr, n - i);
            const tn_attention_range seen = tn_attention_seen(u, t, row + i, rows);
            char *weights = u->w.p + i * BLOCK * real;
            if (seen.a >= seen.b)
                continue;
            if (c == 0) {
                const tn_gemm_pack_args pack = {
                    .src = u->w.s + (i * TN_ATTENTION_LD + seen.a - t->first) * real,
                    .dst = weights,
                    .along = TN_ATTENTION_LD,
                    .across = 1,
                    .kc = seen.b - seen.a,
                    .valid = (int32_t)rows};
                tile->pack_a[u->p->accumulate](&pack);
            }
            g.a = weights;
            g.b = direct ? tn_attention_key(u, TN_ATTENTION_V, seen.a, u->c0 + c)
                         : u->w.v + (c * BLOCK + (seen.a - t->first) * nr) * real;
            g.c = o_block + (i * u->state->columns + c) * real;
            g.kc = seen.b - seen.a;
            g.rows = (int32_t)rows;
            tile->ukr(&g);
        }
}

/* All rows, from v as it lies. */
static void walk_values(const tn_attention_unit *u, const tn_attention_keys *t, char *o_block) {
    const void *line[WALK_LINES];
    tn_attention_walk w = {.line = line,
                           .width = u->cols,
                           .y = o_block,
                           .rows = u->rows,
                           .a_step = TN_ATTENTION_LD,
                           .y_step = u->state->columns};
    for (int64_t j = t->a; j < t->b; j += w.keys) {
        walk_lines(u, TN_ATTENTION_V, j, t->b, u->c0, line, &w);
        w.a = u->w.s + (j - t->first) * tn_attention_real(u);
        w.chain = j > t->a;
        u->state->kernels->walk_values[u->p->operand[TN_ATTENTION_V].dtype](&w);
    }
}

/* The only row: the same chain as the kernels', without the keys that are masked: whatever v holds
 * there stays out. */
static void careful_values(const tn_attention_unit *u, const tn_attention_keys *t, char *o_block) {
    enum { SOME = 64 };
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t real = tn_attention_real(u);
    double line[SOME]; /* of the compute type */
    memset(o_block, 0, (size_t)(u->cols * real));
    for (int64_t j = t->a; j < t->b; ++j) {
        const char *at = u->w.s + (j - t->first) * real;
        const double weight = real == 8 ? *(const double *)(const void *)at
                                        : (double)*(const float *)(const void *)at;
        if (u->w.dead[j - t->first])
            continue;
        for (int64_t c = 0; c < u->cols; c += SOME) {
            const int64_t n = tn_min64(SOME, u->cols - c);
            tn_attention_line(u, TN_ATTENTION_V, j, u->c0 + c, n, line);
            tile->ops.axpy(o_block + c * real, weight, line, n);
        }
    }
}

/* A few keys of the block: their weights are packed for all tiles, then panel after panel of v
 * meets all of them. */
static void lean_chunk(const tn_attention_unit *u, const tn_attention_keys *t, int64_t j,
                       int64_t end, char *o_block) {
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t nr = tile->nr, mr = tile->mr, real = tn_attention_real(u), step = u->state->step;
    const bool direct = u->state->direct_v;

    for (int64_t c = 0; c < u->cols; c += nr) {
        if (!direct)
            pack_v(u, j, end, c, u->w.v);
        for (int64_t row = 0; row < u->rows; row += mr) {
            const int64_t n = tn_min64(mr, u->rows - row);
            const tn_attention_range seen = tn_attention_seen(u, t, row, n);
            const int64_t a = tn_max64(seen.a, j), b = tn_min64(seen.b, end);
            char *weights = u->w.p + row * step * real;
            if (a >= b)
                continue;
            if (c == 0) {
                const tn_gemm_pack_args pack = {
                    .src = u->w.s + (row * TN_ATTENTION_LD + a - t->first) * real,
                    .dst = weights,
                    .along = TN_ATTENTION_LD,
                    .across = 1,
                    .kc = b - a,
                    .valid = (int32_t)n};
                tile->pack_a[u->p->accumulate](&pack);
            }
            const tn_gemm_ukr_args g = {.a = weights,
                                        .b = direct
                                                 ? tn_attention_key(u, TN_ATTENTION_V, a, u->c0 + c)
                                                 : u->w.v + (a - j) * nr * real,
                                        .c = o_block + (row * u->state->columns + c) * real,
                                        .kc = b - a,
                                        .ldb = direct ? v->stride[2] : nr,
                                        .ldc = u->state->columns,
                                        .rows = (int32_t)n,
                                        .cols = (int32_t)nr,
                                        .meet = a == seen.a ? TN_GEMM_STORE : TN_GEMM_CHAIN};
            tile->ukr(&g);
        }
    }
}

void tn_attention_values(const tn_attention_unit *u, tn_attention_keys *t, int64_t row, int64_t n,
                         char *o_block) {
    if (u->careful)
        careful_values(u, t, o_block);
    else if (tn_attention_walks(u, TN_ATTENTION_V))
        walk_values(u, t, o_block);
    else if (u->state->step > 0)
        for (int64_t j = t->a; j < t->b; j += u->state->step)
            lean_chunk(u, t, j, tn_min64(j + u->state->step, t->b), o_block);
    else
        group_values(u, t, row, n, o_block);
}
