/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_attention_products.c: the two products of a unit with a block of keys: q·k into scores, p·v
 * into sums.
 *
 * Both run on the GEMM microkernels, over panels of keys and over panels of v's columns, or, for a
 * unit of one row, on the vector-matrix kernels straight from the cache in memory. Every sum is one
 * chain (over d; over a block's keys), so all of these give the same bits, and a chain may stop and
 * go on: lean states (cpu_attention.h) pack a few elements of d, or a few keys, at a time.
 */
#include "cpu/cpu_attention.h"

#include <string.h>

#define BLOCK TN_ATTENTION_BLOCK
/* Units of up to so many tiles wait for memory rather than for arithmetic: they touch keys ahead.
 */
#define TOUCH_TILES 4

bool tn_attention_walkable(const tn_attention_problem *p, const tn_gemm_tile *tile,
                           tn_attention_role role) {
    const tn_attention_operand *x = &p->operand[role];
    return tile->gemv[x->dtype] && (x->stride[2] == 1 || x->stride[3] == 1);
}

/* A unit of one row goes without packing where that can be. */
static bool walks(const tn_attention_unit *u, tn_attention_role role) {
    return u->rows == 1 && tn_attention_walkable(u->p, u->state->tile, role);
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

/* Elements [d0, d0 + steps) of the only row's query, scaled. */
static void load_q(const tn_attention_unit *u, int64_t d0, int64_t steps) {
    const tn_attention_operand *q = &u->p->operand[TN_ATTENTION_Q];
    const tn_gemm_tile *tile = u->state->tile;
    tile->load[q->dtype](tn_attention_query(u, TN_ATTENTION_Q, 0, d0), q->stride[3], steps, u->w.q);
    tile->ops.scale(u->w.q, u->p->scale, steps);
}

void tn_attention_queries(const tn_attention_unit *u) {
    const int64_t d = u->p->d, mr = u->state->tile->mr;
    if (u->state->step > 0)
        return;
    if (walks(u, TN_ATTENTION_K)) {
        load_q(u, 0, d);
        return;
    }
    for (int64_t row = 0; row < u->rows; row += mr)
        pack_q(u, row, tn_min64(mr, u->rows - row), 0, d, u->w.q + row * d * tn_attention_real(u));
}

/* Elements [d0, d0 + steps) of keys [j, j + n) as one panel of k. */
static void pack_k(const tn_attention_unit *u, int64_t j, int64_t n, int64_t d0, int64_t steps) {
    const tn_attention_operand *k = &u->p->operand[TN_ATTENTION_K];
    const tn_gemm_tile *tile = u->state->tile;
    tn_gemm_pack_args pack = {.dst = u->w.k, .kc = steps, .valid = (int32_t)n};
    if (tn_attention_key_run(u, j, j + n) == n) {
        pack.src = tn_attention_key(u, TN_ATTENTION_K, j, d0);
        pack.along = k->stride[2];
        pack.across = k->stride[3];
        tile->pack_b[k->dtype](&pack);
        return;
    }
    for (int64_t i = 0; i < n; ++i)
        tile->load[k->dtype](tn_attention_key(u, TN_ATTENTION_K, j + i, d0), k->stride[3], steps,
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
                       .bytes = width * tn_element_size(x->dtype)};
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

/* Elements [d0, d0 + steps) of all rows, one packed panel of keys after the other, which stays in
 * L1 meanwhile. */
static void panel_scores(const tn_attention_unit *u, const tn_attention_keys *t, int64_t d0,
                         int64_t steps) {
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t nr = tile->nr, mr = tile->mr, real = tn_attention_real(u);
    const int64_t tiles = tn_ceil_div(u->rows, mr), panels = tn_ceil_div(t->b - t->a, nr);
    key_touch k = touch_start(u, TN_ATTENTION_K, u->p->d, tn_min64(t->a + nr, u->hi),
                              tn_min64(t->b + nr, u->hi));
    key_touch v = touch_start(u, TN_ATTENTION_V, u->p->dv, t->a, t->b);
    /* Lean units are small where there are many, too: then the keys are in a cache already. */
    const bool alone = u->rows == u->sequence.queries * (u->p->heads / u->p->kv_heads);
    const bool few = tiles <= TOUCH_TILES && d0 == 0 && (alone || u->state->step == 0);
    const int64_t k_lines = few ? tn_ceil_div(nr * tn_ceil_div(k.bytes, 64), tiles) : 0;
    const int64_t v_lines =
        few ? tn_ceil_div((t->b - t->a) * tn_ceil_div(v.bytes, 64), panels * tiles) : 0;
    tn_gemm_ukr_args g = {.b = u->w.k,
                          .kc = steps,
                          .ldb = nr,
                          .ldc = TN_ATTENTION_LD,
                          .cols = (int32_t)nr,
                          .meet = d0 > 0 ? TN_GEMM_CHAIN : TN_GEMM_STORE};

    for (int64_t j = t->first + (t->a - t->first) / nr * nr; j < t->b; j += nr) {
        pack_k(u, j, tn_min64(nr, t->end - j), d0, steps);
        for (int64_t row = 0; row < u->rows; row += mr) {
            const int64_t n = tn_min64(mr, u->rows - row);
            const tn_attention_range seen = tn_attention_seen(u, t, row, n);
            touch(u, &k, k_lines);
            touch(u, &v, v_lines);
            if (seen.a >= j + nr || seen.b <= j)
                continue;
            g.a = u->w.q + row * steps * real;
            g.c = u->w.s + (row * TN_ATTENTION_LD + j - t->first) * real;
            g.rows = (int32_t)n;
            tile->ukr(&g);
        }
    }
}

/* The same for the only row, from k as it lies. */
static void row_scores(const tn_attention_unit *u, const tn_attention_keys *t, int64_t d0,
                       int64_t steps) {
    const tn_attention_operand *k = &u->p->operand[TN_ATTENTION_K];
    for (int64_t j = t->a, n; j < t->b; j += n) {
        n = tn_attention_key_run(u, j, t->b);
        const tn_gemv_args g = {.a = u->w.q,
                                .b = tn_attention_key(u, TN_ATTENTION_K, j, d0),
                                .y = u->w.s + (j - t->first) * tn_attention_real(u),
                                .k = steps,
                                .block = steps,
                                .n = n,
                                .row = k->stride[3],
                                .column = k->stride[2],
                                .chain = d0 > 0};
        u->state->tile->gemv[k->dtype](&g);
    }
}

void tn_attention_scores(const tn_attention_unit *u, const tn_attention_keys *t) {
    const int64_t d = u->p->d, mr = u->state->tile->mr, most = u->state->step;
    const bool row = walks(u, TN_ATTENTION_K);
    int64_t d0 = 0;
    do {
        const int64_t steps = most > 0 ? tn_min64(most, d - d0) : d;
        if (most > 0 && row)
            load_q(u, d0, steps);
        for (int64_t i = 0; i < u->rows && most > 0 && !row; i += mr)
            pack_q(u, i, tn_min64(mr, u->rows - i), d0, steps,
                   u->w.q + i * steps * tn_attention_real(u));
        if (row)
            row_scores(u, t, d0, steps);
        else
            panel_scores(u, t, d0, steps);
        d0 += steps;
    } while (d0 < d);
}

/* ---------------------------------------------------------------- values */

/*
 * Where several tiles share the block its visible part is packed once; a single tile goes through v
 * a few keys at a time, which stay in L1, and goes on with its sums.
 */
static void tile_values(const tn_attention_unit *u, tn_attention_keys *t, const char *s, int64_t n,
                        int64_t a, int64_t b, char *o_block) {
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t nr = tile->nr, mr = tile->mr, real = tn_attention_real(u);
    const bool shared = u->state->unit_rows > mr, direct = u->state->direct_v;
    const int64_t room = shared ? BLOCK : TN_ATTENTION_V_KEYS;
    const tn_gemm_pack_args pack = {.src = s + (a - t->first) * real,
                                    .dst = u->w.p,
                                    .along = TN_ATTENTION_LD,
                                    .across = 1,
                                    .kc = b - a,
                                    .valid = (int32_t)n};
    tn_gemm_ukr_args g = {.ldb = direct ? v->stride[2] : nr,
                          .ldc = u->state->columns,
                          .rows = (int32_t)n,
                          .cols = (int32_t)nr,
                          .meet = TN_GEMM_STORE};
    if (shared && !direct && !t->v_packed) {
        /* Some keys of all columns before the next: they stay in L1. */
        for (int64_t j = t->a; j < t->b; j += TN_ATTENTION_V_KEYS)
            for (int64_t c = 0; c < u->cols; c += nr)
                pack_v(u, j, tn_min64(j + TN_ATTENTION_V_KEYS, t->b), c,
                       u->w.v + (c * room + (j - t->first) * nr) * real);
        t->v_packed = true;
    }
    tile->pack_a[u->p->accumulate](&pack);
    for (int64_t j = a; j < b; j += g.kc) {
        const char *panel = u->w.v + (shared ? j - t->first : 0) * nr * real;
        int64_t panel_size = room * nr * real;
        g.kc = shared ? b - a : tn_min64(TN_ATTENTION_V_KEYS, b - j);
        if (direct) {
            panel = tn_attention_key(u, TN_ATTENTION_V, j, u->c0);
            panel_size = nr * real;
        }
        g.a = u->w.p + (j - a) * mr * real;
        for (int64_t c = 0; c < u->cols; c += nr) {
            if (!shared && !direct)
                pack_v(u, j, j + g.kc, c, u->w.v + c * room * real);
            g.b = panel + c / nr * panel_size;
            g.c = o_block + c * real;
            tile->ukr(&g);
        }
        g.meet = TN_GEMM_CHAIN;
    }
}

static void row_values(const tn_attention_unit *u, const tn_attention_keys *t, const char *s,
                       int64_t a, int64_t b, char *o_block) {
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    for (int64_t j = a, n; j < b; j += n) {
        n = tn_attention_key_run(u, j, b);
        const tn_gemv_args g = {.a = s + (j - t->first) * tn_attention_real(u),
                                .b = tn_attention_key(u, TN_ATTENTION_V, j, u->c0),
                                .y = o_block,
                                .k = n,
                                .block = n,
                                .n = u->cols,
                                .row = v->stride[2],
                                .column = v->stride[3],
                                .chain = j > a};
        u->state->tile->gemv[v->dtype](&g);
    }
}

/* The same chain as the kernels', without the keys that are masked: whatever v holds there stays
 * out. */
static void careful_values(const tn_attention_unit *u, const tn_attention_keys *t, const char *s,
                           int64_t a, int64_t b, char *o_block) {
    enum { SOME = 64 };
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t real = tn_attention_real(u);
    double line[SOME]; /* of the compute type */
    memset(o_block, 0, (size_t)(u->cols * real));
    for (int64_t j = a; j < b; ++j) {
        const char *at = s + (j - t->first) * real;
        const double weight = real == 8 ? *(const double *)(const void *)at
                                        : (double)*(const float *)(const void *)at;
        if (u->w.dead[j - t->first])
            continue;
        for (int64_t c = 0; c < u->cols; c += SOME) {
            const int64_t n = tn_min64(SOME, u->cols - c);
            tile->load[v->dtype](tn_attention_key(u, TN_ATTENTION_V, j, u->c0 + c), v->stride[3], n,
                                 line);
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

void tn_attention_values_lean(const tn_attention_unit *u, const tn_attention_keys *t,
                              char *o_block) {
    for (int64_t j = t->a; j < t->b; j += u->state->step)
        lean_chunk(u, t, j, tn_min64(j + u->state->step, t->b), o_block);
}

void tn_attention_values(const tn_attention_unit *u, tn_attention_keys *t, int64_t row, int64_t n,
                         int64_t a, int64_t b, char *o_block) {
    const char *s = u->w.s + row * TN_ATTENTION_LD * tn_attention_real(u);
    if (u->careful)
        careful_values(u, t, s, a, b, o_block);
    else if (walks(u, TN_ATTENTION_V))
        row_values(u, t, s, a, b, o_block);
    else if (u->state->step > 0)
        tn_attention_values_lean(u, t, o_block);
    else
        tile_values(u, t, s, n, a, b, o_block);
}
