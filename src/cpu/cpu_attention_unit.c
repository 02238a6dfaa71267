/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_attention_unit.c: attention of one unit over one block of keys at a time, and its end.
 *
 * Both products run on the GEMM microkernels: q·k over panels of keys, p·v over panels of v's
 * columns, or, for a unit of one row, on the vector-matrix kernels straight from the cache in
 * memory. Every sum is one chain (over d; over a block's keys), so all of these give the same bits.
 * A panel of keys is packed, and used by all rows, before the next; tiles of rows that see nothing
 * of it don't touch it. Online softmax: Milakov and Gimelshein, 2018; Dao et al., 2022,
 * algorithm 1.
 */
#include "cpu/cpu_attention.h"

#include <math.h>
#include <string.h>

#define BLOCK TN_ATTENTION_BLOCK
/* Farthest apart that rows of v may be to be read in place by the tiles (Zen 3: 512 bytes cost
 * nothing, 16 KB a quarter of the speed). */
#define V_DIRECT_BYTES 1024
/* Units of up to so many tiles wait for memory rather than for arithmetic: they touch keys ahead.
 */
#define TOUCH_TILES 4
/* Keys of v that are packed, or read by the vector-matrix kernels, for all columns before the next:
 * they stay in L1. */
#define V_CHUNK 32

static bool present(const tn_attention_unit *u, tn_attention_role role) {
    return u->p->operand[role].dtype != TENON_DTYPE_NONE;
}

static int64_t real_size(const tn_attention_unit *u) {
    return tn_element_size(u->p->accumulate);
}

int64_t tn_attention_width(const tn_attention_problem *p, const tn_gemm_tile *tile) {
    return (p->dv + tile->nr - 1) / tile->nr * tile->nr;
}

/* ---------------------------------------------------------------- workspace */

static void *take(char *memory, size_t *used, int64_t count, size_t size) {
    char *at = memory ? memory + *used : NULL;
    *used += ((size_t)count * size + 63) & ~(size_t)63;
    return at;
}

size_t tn_attention_worker_layout(const tn_attention_problem *p, const tn_attention_state *s,
                                  char *memory, tn_attention_worker *w) {
    const size_t real = (size_t)tn_element_size(p->accumulate);
    const int64_t mr = s->tile->mr, nr = s->tile->nr, width = tn_attention_width(p, s->tile);
    const int64_t tiles = (s->unit_rows + mr - 1) / mr, v_room = tiles > 1 ? BLOCK : V_CHUNK;
    tn_attention_worker unused;
    size_t used = 0;
    if (!w)
        w = &unused;
    w->q = take(memory, &used, tiles * mr * p->d + TN_GEMM_SLACK, real);
    w->gather = take(memory, &used, tn_max64(tn_max64(mr, nr) * p->d, p->dv), real);
    w->s = take(memory, &used, s->unit_rows * TN_ATTENTION_LD, real);
    w->p = take(memory, &used, mr * BLOCK + TN_GEMM_SLACK, real);
    w->k = take(memory, &used, nr * p->d + TN_GEMM_SLACK, real);
    w->v = take(memory, &used, v_room * width + TN_GEMM_SLACK, real);
    w->o_block = take(memory, &used, mr * width, real);
    w->o = take(memory, &used, s->unit_rows * width, real);
    w->k_scale = take(memory, &used, BLOCK, real);
    w->v_scale = take(memory, &used, BLOCK, real);
    w->scratch = take(memory, &used, BLOCK, real);
    w->dead = take(memory, &used, BLOCK, 1);
    w->parts = take(memory, &used, s->unit_rows, sizeof *w->parts);
    w->block_parts = take(memory, &used, mr, sizeof *w->block_parts);
    w->rows = take(memory, &used, s->unit_rows, sizeof *w->rows);
    return used;
}

/* ---------------------------------------------------------------- addresses */

/* Query and head of a row. */
static int64_t query_of(const tn_attention_unit *u, int64_t row) {
    return (u->first_row + row) / (u->p->heads / u->p->kv_heads);
}

static int64_t head_of(const tn_attention_unit *u, int64_t row) {
    const int64_t group = u->p->heads / u->p->kv_heads;
    return u->kv_head * group + (u->first_row + row) % group;
}

static char *element(const tn_attention_unit *u, tn_attention_role role, int64_t i0, int64_t i1,
                     int64_t i2) {
    const tn_attention_operand *o = &u->p->operand[role];
    return (char *)u->addresses[role] +
           (i0 * o->stride[0] + i1 * o->stride[1] + i2 * o->stride[2]) * tn_element_size(o->dtype);
}

static char *query_element(const tn_attention_unit *u, tn_attention_role role, int64_t row) {
    return element(u, role, u->sequence.q_batch, head_of(u, row),
                   u->sequence.q_start + query_of(u, row));
}

static char *key_element(const tn_attention_unit *u, tn_attention_role role, int64_t j) {
    int64_t outer, row;
    tn_attention_key_row(u->p, u->addresses, &u->sequence, u->b, j, &outer, &row);
    return element(u, role, outer, u->kv_head, row);
}

/* How many of the keys [j, end) lie one row stride apart from j on. */
static int64_t key_run(const tn_attention_unit *u, int64_t j, int64_t end) {
    const int64_t size = u->p->block_size;
    return size > 0 ? tn_min64(end - j, size - j % size) : end - j;
}

static double scalar(const tn_attention_unit *u, tn_attention_role role, const char *at) {
    double d = 0;
    float f = 0;
    const bool wide = u->p->accumulate == TENON_F64;
    u->state->tile->load[u->p->operand[role].dtype](at, 1, 1, wide ? (void *)&d : (void *)&f);
    return wide ? d : (double)f;
}

/* A unit of one row goes without packing where the vector-matrix kernels can walk k (or v) as it
 * lies. */
static bool walks(const tn_attention_unit *u, tn_attention_role role) {
    const tn_attention_operand *x = &u->p->operand[role];
    return u->rows == 1 && u->state->tile->gemv[x->dtype] &&
           (x->stride[2] == 1 || x->stride[3] == 1);
}

/* ---------------------------------------------------------------- rows */

/* First key that a query at position p sees, and the one after the last. */
static int64_t first_seen(const tn_attention_unit *u, int64_t p) {
    const int64_t left = u->p->left;
    return left == TN_UNLIMITED || left >= p ? 0 : tn_min64(p - left, u->sequence.keys);
}

static int64_t end_seen(const tn_attention_unit *u, int64_t p) {
    const int64_t right = u->p->right, keys = u->sequence.keys;
    return right == TN_UNLIMITED || right >= keys - 1 - p ? keys : tn_max64(0, p + right + 1);
}

void tn_attention_unit_range(tn_attention_unit *u) {
    /* Positions ascend with the rows. */
    u->lo = first_seen(u, u->sequence.offset + query_of(u, 0));
    u->hi = end_seen(u, u->sequence.offset + query_of(u, u->rows - 1));
}

static void open_row(const tn_attention_unit *u, int64_t row, tn_score_row *x) {
    const tn_attention_operand *bias = &u->p->operand[TN_ATTENTION_BIAS],
                               *alibi = &u->p->operand[TN_ATTENTION_ALIBI];
    memset(x, 0, sizeof *x);
    x->position = u->sequence.offset + query_of(u, row);
    x->lo = first_seen(u, x->position);
    x->hi = end_seen(u, x->position);
    x->softcap = u->p->softcap;
    if (bias->dtype != TENON_DTYPE_NONE) {
        x->bias = query_element(u, TN_ATTENTION_BIAS, row);
        x->bias_step = bias->stride[3];
        x->bias_size = tn_element_size(bias->dtype);
        x->bias_load = bias->dtype == u->p->accumulate && x->bias_step == 1
                           ? NULL
                           : u->state->tile->load[bias->dtype];
    }
    if (present(u, TN_ATTENTION_MASK)) {
        x->mask = (const uint8_t *)query_element(u, TN_ATTENTION_MASK, row);
        x->mask_step = u->p->operand[TN_ATTENTION_MASK].stride[3];
    }
    if (alibi->dtype != TENON_DTYPE_NONE)
        x->slope = scalar(u, TN_ATTENTION_ALIBI,
                          (const char *)u->addresses[TN_ATTENTION_ALIBI] +
                              (u->b * alibi->stride[0] + head_of(u, row) * alibi->stride[1]) *
                                  tn_element_size(alibi->dtype));
}

void tn_attention_unit_open(tn_attention_unit *u) {
    const tn_attention_operand *q = &u->p->operand[TN_ATTENTION_Q];
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t d = u->p->d, mr = tile->mr, real = real_size(u);

    for (int64_t r = 0; r < u->rows; ++r)
        open_row(u, r, &u->w.rows[r]);
    if (walks(u, TN_ATTENTION_K)) {
        tile->load[q->dtype](query_element(u, TN_ATTENTION_Q, 0), q->stride[3], d, u->w.q);
        tile->ops.scale(u->w.q, u->p->scale, d);
        return;
    }
    for (int64_t first = 0; first < u->rows; first += mr) {
        const int64_t valid = tn_min64(mr, u->rows - first);
        for (int64_t r = 0; r < valid; ++r)
            tile->load[q->dtype](query_element(u, TN_ATTENTION_Q, first + r), q->stride[3], d,
                                 u->w.gather + r * d * real);
        tile->ops.scale(u->w.gather, u->p->scale, valid * d);
        const tn_gemm_pack_args pack = {.src = u->w.gather,
                                        .dst = u->w.q + first * d * real,
                                        .along = d,
                                        .across = 1,
                                        .kc = d,
                                        .valid = (int32_t)valid};
        tile->pack_a[u->p->accumulate](&pack);
    }
}

/* ---------------------------------------------------------------- one block */

typedef struct block_work {
    int64_t first, end; /* keys of the block that exist */
    int64_t a, b;       /* those that the unit sees */
    bool v_packed;
} block_work;

/* Keys of the block that rows [row, row + n) see. */
typedef struct key_range {
    int64_t a, b;
} key_range;

static key_range tile_range(const tn_attention_unit *u, const block_work *t, int64_t row,
                            int64_t n) {
    return (key_range){tn_max64(u->w.rows[row].lo, t->first),
                       tn_min64(u->w.rows[row + n - 1].hi, t->end)};
}

static void load_scales(const tn_attention_unit *u, tn_attention_role role, int64_t a, int64_t b,
                        char *to) {
    const tn_attention_operand *o = &u->p->operand[role];
    const int64_t real = real_size(u);
    for (int64_t j = a; j < b;) {
        const int64_t n = key_run(u, j, b);
        u->state->tile->load[o->dtype](key_element(u, role, j), o->stride[2], n,
                                       to + (j - a) * real);
        j += n;
    }
}

/* Keys [j, j + n) as one panel of k. */
static void pack_k(const tn_attention_unit *u, int64_t j, int64_t n, char *to) {
    const tn_attention_operand *k = &u->p->operand[TN_ATTENTION_K];
    const tn_gemm_tile *tile = u->state->tile;
    tn_gemm_pack_args pack = {.dst = to, .kc = u->p->d, .valid = (int32_t)n};
    if (key_run(u, j, j + n) == n) {
        pack.src = key_element(u, TN_ATTENTION_K, j);
        pack.along = k->stride[2];
        pack.across = k->stride[3];
        tile->pack_b[k->dtype](&pack);
        return;
    }
    for (int64_t i = 0; i < n; ++i)
        tile->load[k->dtype](key_element(u, TN_ATTENTION_K, j + i), k->stride[3], u->p->d,
                             u->w.gather + i * u->p->d * real_size(u));
    pack.src = u->w.gather;
    pack.along = u->p->d;
    pack.across = 1;
    tile->pack_b[u->p->accumulate](&pack);
}

/* Keys [a, b) of v as panels of nr columns, each `room` keys long; key `base` is the first of a
 * panel. */
static void pack_v(const tn_attention_unit *u, int64_t a, int64_t b, int64_t base, int64_t room) {
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t nr = tile->nr, dv = u->p->dv, real = real_size(u);
    for (int64_t j = a, n; j < b; j += n) {
        n = tn_min64(key_run(u, j, b), V_CHUNK);
        const char *src = key_element(u, TN_ATTENTION_V, j);
        for (int64_t c = 0; c < dv; c += nr) {
            const tn_gemm_pack_args pack = {.src =
                                                src + c * v->stride[3] * tn_element_size(v->dtype),
                                            .dst = u->w.v + (c * room + (j - base) * nr) * real,
                                            .along = v->stride[3],
                                            .across = v->stride[2],
                                            .kc = n,
                                            .valid = (int32_t)tn_min64(nr, dv - c)};
            tile->pack_b[v->dtype](&pack);
        }
    }
}

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
            t->line = key_element(u, t->role, t->j);
        __builtin_prefetch(t->line + t->at);
        t->at += 64;
        if (t->at >= t->bytes) {
            t->at = 0;
            ++t->j;
        }
    }
}

/* Scores of all rows, one packed panel of keys after the other, which stays in L1 meanwhile. */
static void unit_scores(const tn_attention_unit *u, const block_work *t) {
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t nr = tile->nr, mr = tile->mr, d = u->p->d, real = real_size(u);
    const int64_t tiles = tn_ceil_div(u->rows, mr), panels = tn_ceil_div(t->b - t->a, nr);
    key_touch k =
        touch_start(u, TN_ATTENTION_K, d, tn_min64(t->a + nr, u->hi), tn_min64(t->b + nr, u->hi));
    key_touch v = touch_start(u, TN_ATTENTION_V, u->p->dv, t->a, t->b);
    const bool few = tiles <= TOUCH_TILES;
    const int64_t k_lines = few ? tn_ceil_div(nr * tn_ceil_div(k.bytes, 64), tiles) : 0;
    const int64_t v_lines =
        few ? tn_ceil_div((t->b - t->a) * tn_ceil_div(v.bytes, 64), panels * tiles) : 0;
    tn_gemm_ukr_args g = {.b = u->w.k,
                          .kc = d,
                          .ldb = nr,
                          .ldc = TN_ATTENTION_LD,
                          .cols = (int32_t)nr,
                          .meet = TN_GEMM_STORE};

    for (int64_t j = t->first + (t->a - t->first) / nr * nr; j < t->b; j += nr) {
        pack_k(u, j, tn_min64(nr, t->end - j), u->w.k);
        for (int64_t row = 0; row < u->rows; row += mr) {
            const int64_t n = tn_min64(mr, u->rows - row);
            const key_range seen = tile_range(u, t, row, n);
            touch(u, &k, k_lines);
            touch(u, &v, v_lines);
            if (seen.a >= j + nr || seen.b <= j)
                continue;
            g.a = u->w.q + row * d * real;
            g.c = u->w.s + (row * TN_ATTENTION_LD + j - t->first) * real;
            g.rows = (int32_t)n;
            tile->ukr(&g);
        }
    }
}

/* Whether panels of v can be read where they lie: whole panels of reals, rows evenly apart and not
 * so far that they compete for cache sets. */
static bool direct_v(const tn_attention_unit *u, const block_work *t) {
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    return v->dtype == u->p->accumulate && v->stride[3] == 1 &&
           u->p->dv % u->state->tile->nr == 0 && v->stride[2] >= 0 &&
           v->stride[2] * real_size(u) <= V_DIRECT_BYTES && key_run(u, t->a, t->b) == t->b - t->a;
}

/*
 * o_block = weights · v over keys [a, b) for the n rows whose weights are at s. Where several tiles
 * share the block its visible part is packed once; a single tile goes through v a few keys at a
 * time, which stay in L1, and goes on with its sums.
 */
static void tile_values(const tn_attention_unit *u, block_work *t, const char *s, int64_t n,
                        int64_t a, int64_t b, char *o_block) {
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t nr = tile->nr, mr = tile->mr, real = real_size(u),
                  width = tn_attention_width(u->p, tile);
    const bool shared = u->state->unit_rows > mr, direct = direct_v(u, t);
    const int64_t room = shared ? BLOCK : V_CHUNK;
    const tn_gemm_pack_args pack = {.src = s + (a - t->first) * real,
                                    .dst = u->w.p,
                                    .along = TN_ATTENTION_LD,
                                    .across = 1,
                                    .kc = b - a,
                                    .valid = (int32_t)n};
    tn_gemm_ukr_args g = {.ldb = direct ? v->stride[2] : nr,
                          .ldc = width,
                          .rows = (int32_t)n,
                          .cols = (int32_t)nr,
                          .meet = TN_GEMM_STORE};
    if (shared && !direct && !t->v_packed) {
        pack_v(u, t->a, t->b, t->first, room);
        t->v_packed = true;
    }
    tile->pack_a[u->p->accumulate](&pack);
    for (int64_t j = a; j < b; j += g.kc) {
        const int64_t base = shared ? t->first : j;
        const char *panel = u->w.v + (j - base) * nr * real;
        int64_t panel_size = room * nr * real;
        g.kc = shared ? b - a : tn_min64(V_CHUNK, b - j);
        if (direct) {
            panel = key_element(u, TN_ATTENTION_V, j);
            panel_size = nr * real;
        } else if (!shared) {
            pack_v(u, j, j + g.kc, base, room);
        }
        g.a = u->w.p + (j - a) * mr * real;
        for (int64_t c = 0; c < width / nr; ++c) {
            g.b = panel + c * panel_size;
            g.c = o_block + c * nr * real;
            tile->ukr(&g);
        }
        g.meet = TN_GEMM_CHAIN;
    }
}

static void row_scores(const tn_attention_unit *u, const block_work *t, int64_t a, int64_t b) {
    const tn_attention_operand *k = &u->p->operand[TN_ATTENTION_K];
    for (int64_t j = a, n; j < b; j += n) {
        n = key_run(u, j, b);
        const tn_gemv_args g = {.a = u->w.q,
                                .b = key_element(u, TN_ATTENTION_K, j),
                                .y = u->w.s + (j - t->first) * real_size(u),
                                .k = u->p->d,
                                .block = u->p->d,
                                .n = n,
                                .row = k->stride[3],
                                .column = k->stride[2]};
        u->state->tile->gemv[k->dtype](&g);
    }
}

static void row_values(const tn_attention_unit *u, const block_work *t, int64_t a, int64_t b,
                       char *o_block) {
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    for (int64_t j = a, n; j < b; j += n) {
        n = key_run(u, j, b);
        const tn_gemv_args g = {.a = u->w.s + (j - t->first) * real_size(u),
                                .b = key_element(u, TN_ATTENTION_V, j),
                                .y = o_block,
                                .k = n,
                                .block = n,
                                .n = u->p->dv,
                                .row = v->stride[2],
                                .column = v->stride[3],
                                .chain = j > a};
        u->state->tile->gemv[v->dtype](&g);
    }
}

/* The same chain as the kernels', without the keys that are masked: whatever v holds there stays
 * out. */
static void careful_values(const tn_attention_unit *u, const block_work *t, int64_t a, int64_t b,
                           char *o_block) {
    const tn_attention_operand *v = &u->p->operand[TN_ATTENTION_V];
    const tn_gemm_tile *tile = u->state->tile;
    const int64_t real = real_size(u);
    memset(o_block, 0, (size_t)(u->p->dv * real));
    for (int64_t j = a; j < b; ++j) {
        const char *weight = u->w.s + (j - t->first) * real;
        if (u->w.dead[j - t->first])
            continue;
        tile->load[v->dtype](key_element(u, TN_ATTENTION_V, j), v->stride[3], u->p->dv,
                             u->w.gather);
        tile->ops.axpy(o_block,
                       real == 8 ? *(const double *)(const void *)weight
                                 : (double)*(const float *)(const void *)weight,
                       u->w.gather, u->p->dv);
    }
}

/* Scores of a tile to weights; parts of rows that see nothing are empty. */
static void tile_weights(const tn_attention_unit *u, const block_work *t, char *s, int64_t row,
                         int64_t n, int64_t a, int64_t b, tn_softmax_part *parts) {
    const int64_t real = real_size(u);
    tn_attention_weights x = {.scratch = u->w.scratch,
                              .k_scale = present(u, TN_ATTENTION_K_SCALE) ? u->w.k_scale : NULL,
                              .v_scale = present(u, TN_ATTENTION_V_SCALE) ? u->w.v_scale : NULL,
                              .dead = u->careful ? u->w.dead : NULL,
                              .first = t->first,
                              .clear_a = a,
                              .clear_b = b};
    for (int64_t r = 0; r < n; ++r) {
        x.row = &u->w.rows[row + r];
        x.s = s + r * TN_ATTENTION_LD * real;
        x.a = tn_max64(x.row->lo, t->first);
        x.b = tn_min64(x.row->hi, t->end);
        if (x.a < x.b) {
            parts[r] = u->state->kernels->weights(&x);
        } else {
            parts[r] = (tn_softmax_part){-INFINITY, 0};
            memset((char *)x.s + (a - t->first) * real, 0, (size_t)((b - a) * real));
        }
    }
}

static void empty_parts(tn_softmax_part *parts, int64_t n) {
    for (int64_t r = 0; r < n; ++r)
        parts[r] = (tn_softmax_part){-INFINITY, 0};
}

void tn_attention_unit_block(const tn_attention_unit *u, int64_t block, bool apart, char *o_slot,
                             tn_softmax_part *part_slot) {
    const int64_t mr = u->state->tile->mr, real = real_size(u),
                  width = tn_attention_width(u->p, u->state->tile);
    block_work t = {.first = block * BLOCK};
    t.end = tn_min64(t.first + BLOCK, u->sequence.keys);
    t.a = tn_max64(u->lo, t.first);
    t.b = tn_min64(u->hi, t.end);
    if (t.a >= t.b) {
        if (apart)
            empty_parts(part_slot, u->rows);
        return;
    }
    if (present(u, TN_ATTENTION_K_SCALE))
        load_scales(u, TN_ATTENTION_K_SCALE, t.a, t.b, u->w.k_scale + (t.a - t.first) * real);
    if (present(u, TN_ATTENTION_V_SCALE))
        load_scales(u, TN_ATTENTION_V_SCALE, t.a, t.b, u->w.v_scale + (t.a - t.first) * real);

    if (walks(u, TN_ATTENTION_K))
        row_scores(u, &t, t.a, t.b);
    else
        unit_scores(u, &t);
    for (int64_t row = 0; row < u->rows; row += mr) {
        const int64_t n = tn_min64(mr, u->rows - row);
        const key_range seen = tile_range(u, &t, row, n);
        char *s = u->w.s + row * TN_ATTENTION_LD * real;
        char *o_block = apart ? o_slot + row * width * real : u->w.o_block;
        tn_softmax_part *parts = apart ? part_slot + row : u->w.block_parts;
        if (seen.a >= seen.b) {
            empty_parts(parts, n);
            continue;
        }
        tile_weights(u, &t, s, row, n, seen.a, seen.b, parts);
        if (u->careful)
            careful_values(u, &t, seen.a, seen.b, o_block);
        else if (walks(u, TN_ATTENTION_V))
            row_values(u, &t, seen.a, seen.b, o_block);
        else
            tile_values(u, &t, s, n, seen.a, seen.b, o_block);
        if (!apart)
            u->state->kernels->merge(n, u->p->dv, width, o_slot + row * width * real,
                                     part_slot + row, o_block, parts);
    }
}

/* ---------------------------------------------------------------- the end */

void tn_attention_clear(const tn_attention_unit *u, char *o, tn_softmax_part *parts) {
    memset(o, 0, (size_t)(u->rows * tn_attention_width(u->p, u->state->tile) * real_size(u)));
    empty_parts(parts, u->rows);
}

/* Computes one row again into o, which came out as NaN or infinite: rightly so, or because of a
 * value under a mask. */
static tn_softmax_part redo_row(const tn_attention_unit *u, int64_t row, double sink, char *o) {
    tn_attention_unit one = *u;
    tn_softmax_part part;
    one.first_row += row;
    one.rows = 1;
    one.careful = true;
    tn_attention_unit_range(&one);
    tn_attention_unit_open(&one);
    tn_attention_clear(&one, o, &part);
    for (int64_t block = one.lo / BLOCK; block * BLOCK < one.hi; ++block)
        tn_attention_unit_block(&one, block, false, o, &part);
    u->state->kernels->divide(o, u->p->dv, &part, sink);
    return part;
}

void tn_attention_unit_close(const tn_attention_unit *u, char *o, tn_softmax_part *parts) {
    const tn_attention_operand *out = &u->p->operand[TN_ATTENTION_O],
                               *sinks = &u->p->operand[TN_ATTENTION_SINKS];
    const int64_t width = tn_attention_width(u->p, u->state->tile), real = real_size(u);
    for (int64_t r = 0; r < u->rows; ++r) {
        char *row = o + r * width * real;
        double sink = -INFINITY;
        if (sinks->dtype != TENON_DTYPE_NONE)
            sink =
                scalar(u, TN_ATTENTION_SINKS, element(u, TN_ATTENTION_SINKS, 0, head_of(u, r), 0));
        if (!u->state->kernels->divide(row, u->p->dv, &parts[r], sink))
            parts[r] = redo_row(u, r, sink, row);
        u->state->tile->store[out->dtype](row, u->p->dv, query_element(u, TN_ATTENTION_O, r),
                                          out->stride[3]);
        if (present(u, TN_ATTENTION_LSE)) {
            void *lse = query_element(u, TN_ATTENTION_LSE, r);
            const double value = parts[r].sum == 0 ? -INFINITY : parts[r].max + log(parts[r].sum);
            if (u->p->operand[TN_ATTENTION_LSE].dtype == TENON_F64)
                *(double *)lse = value;
            else
                *(float *)lse = (float)value;
        }
    }
}
