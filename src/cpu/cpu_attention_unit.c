/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_attention_unit.c: attention of one unit over one block of keys at a time, and its end:
 * scores, weights, sums, and how a block is joined to what is known so far.
 *
 * Tiles of rows that see nothing of a block don't touch it. Online softmax: Milakov and Gimelshein,
 * 2018; Dao et al., 2022, algorithm 1. The products are in cpu_attention_products.c.
 */
#include "cpu/cpu_attention.h"

#include <math.h>
#include <string.h>

#define BLOCK TN_ATTENTION_BLOCK

/* ---------------------------------------------------------------- scratch */

static void *take(char *memory, size_t *used, int64_t count, size_t size) {
    char *at = memory ? memory + *used : NULL;
    *used += tn_round64((size_t)count * size);
    return at;
}

size_t tn_attention_worker_layout(const tn_attention_problem *p, const tn_attention_state *s,
                                  char *memory, tn_attention_worker *w) {
    const size_t real = (size_t)tn_element_size(p->accumulate);
    const int64_t mr = s->tile->mr, nr = s->tile->nr, rows = s->unit_rows;
    const int64_t tiles = tn_ceil_div(rows, mr);
    const int64_t slack = TN_GEMM_SLACK;
    const bool blocks = tn_attention_blocks(p, TN_ATTENTION_K);
    /* Queries on their way, or keys where a panel of them may lie in two pages, or has to be
     * decoded. */
    const int64_t lines = p->block_size % nr || blocks ? tn_max64(mr, nr) : tn_min64(mr, rows);
    const int64_t gathered = s->walk_k ? 0 : lines * p->d;
    const int64_t group = s->step > 0 ? rows : tn_min64(rows, s->group_rows);
    tn_attention_worker unused;
    size_t used = 0;
    if (!w)
        w = &unused;
    if (s->step > 0) {
        w->q = w->p = take(memory, &used, tiles * mr * s->step + slack, real);
        w->k = w->v = take(memory, &used, nr * s->step + slack, real);
        w->gather = take(memory, &used, lines * tn_min64(s->step, p->d), real);
    } else {
        w->q = take(memory, &used, s->walk_k ? rows * p->d : tiles * mr * p->d + slack, real);
        w->k = take(memory, &used, s->walk_k ? 0 : BLOCK * p->d + slack, real);
        w->gather = take(memory, &used, gathered, real);
        w->p = take(memory, &used, s->walk_v ? 0 : tn_round_up(group, mr) * BLOCK + slack, real);
        w->v = take(memory, &used, s->walk_v || s->direct_v ? 0 : BLOCK * s->columns + slack, real);
    }
    w->o_block = take(memory, &used, group * s->columns, real);
    w->s = take(memory, &used, group * TN_ATTENTION_LD, real);
    w->o = take(memory, &used, rows * s->columns, real);
    w->k_scale = take(memory, &used, p->operand[TN_ATTENTION_K_SCALE].dtype ? BLOCK : 0, real);
    w->v_scale = take(memory, &used, p->operand[TN_ATTENTION_V_SCALE].dtype ? BLOCK : 0, real);
    w->dead = take(memory, &used, BLOCK, 1);
    w->parts = take(memory, &used, rows, sizeof *w->parts);
    w->block_parts = take(memory, &used, rows, sizeof *w->block_parts);
    w->rows = take(memory, &used, rows, sizeof *w->rows);
    return used;
}

static double scalar(const tn_attention_unit *u, tn_attention_role role, const char *at) {
    double d = 0;
    float f = 0;
    const bool wide = u->p->accumulate == TENON_F64;
    u->state->tile->load[u->p->operand[role].dtype](at, 1, 1, wide ? (void *)&d : (void *)&f);
    return wide ? d : (double)f;
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
    u->lo = first_seen(u, u->sequence.offset + tn_attention_query_of(u, 0));
    u->hi = end_seen(u, u->sequence.offset + tn_attention_query_of(u, u->rows - 1));
}

static void open_row(const tn_attention_unit *u, int64_t row, tn_score_row *x) {
    const tn_attention_operand *bias = &u->p->operand[TN_ATTENTION_BIAS],
                               *alibi = &u->p->operand[TN_ATTENTION_ALIBI];
    memset(x, 0, sizeof *x);
    x->position = u->sequence.offset + tn_attention_query_of(u, row);
    x->lo = first_seen(u, x->position);
    x->hi = end_seen(u, x->position);
    x->softcap = u->p->softcap;
    if (bias->dtype != TENON_DTYPE_NONE) {
        x->bias = tn_attention_query(u, TN_ATTENTION_BIAS, row, 0);
        x->bias_step = bias->stride[3];
        x->bias_size = tn_element_size(bias->dtype);
        x->bias_load = bias->dtype == u->p->accumulate && x->bias_step == 1
                           ? NULL
                           : u->state->tile->load[bias->dtype];
    }
    if (tn_attention_has(u, TN_ATTENTION_MASK)) {
        x->mask = (const uint8_t *)tn_attention_query(u, TN_ATTENTION_MASK, row, 0);
        x->mask_step = u->p->operand[TN_ATTENTION_MASK].stride[3];
    }
    if (alibi->dtype != TENON_DTYPE_NONE)
        x->slope =
            scalar(u, TN_ATTENTION_ALIBI,
                   (const char *)u->addresses[TN_ATTENTION_ALIBI] +
                       (u->b * alibi->stride[0] + tn_attention_head_of(u, row) * alibi->stride[1]) *
                           tn_element_size(alibi->dtype));
}

void tn_attention_unit_open(tn_attention_unit *u) {
    for (int64_t r = 0; r < u->rows; ++r)
        open_row(u, r, &u->w.rows[r]);
    tn_attention_queries(u);
}

/* ---------------------------------------------------------------- one block */

static void load_scales(const tn_attention_unit *u, tn_attention_role role, int64_t a, int64_t b,
                        char *to) {
    const tn_attention_operand *o = &u->p->operand[role];
    const int64_t real = tn_attention_real(u);
    for (int64_t j = a; j < b;) {
        const int64_t n = tn_attention_key_run(u, j, b);
        u->state->tile->load[o->dtype](tn_attention_key(u, role, j, 0), o->stride[2], n,
                                       to + (j - a) * real);
        j += n;
    }
}

static void empty_parts(tn_softmax_part *parts, int64_t n) {
    for (int64_t r = 0; r < n; ++r)
        parts[r] = (tn_softmax_part){-INFINITY, 0};
}

/* Scores of rows [row, row + n) to weights, zero for keys of [a, b) that a row does not see; parts
 * of rows that see nothing are empty. */
static void weigh_rows(const tn_attention_unit *u, const tn_attention_keys *t, char *s, int64_t row,
                       int64_t n, int64_t a, int64_t b, tn_softmax_part *parts) {
    const int64_t real = tn_attention_real(u);
    tn_attention_weights x = {
        .k_scale = tn_attention_has(u, TN_ATTENTION_K_SCALE) ? u->w.k_scale : NULL,
        .v_scale = tn_attention_has(u, TN_ATTENTION_V_SCALE) ? u->w.v_scale : NULL,
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

/* The rows of a group, tile by tile, each with what its tile sees; walked values want the same keys
 * for all. */
static void group_weights(const tn_attention_unit *u, const tn_attention_keys *t, int64_t row,
                          int64_t n, tn_softmax_part *parts) {
    const int64_t real = tn_attention_real(u);
    if (tn_attention_walks(u, TN_ATTENTION_V)) {
        weigh_rows(u, t, u->w.s, row, n, t->a, t->b, parts);
        return;
    }
    for (int64_t i = 0; i < n; i += u->state->tile->mr) {
        const int64_t rows = tn_min64(u->state->tile->mr, n - i);
        const tn_attention_range seen = tn_attention_seen(u, t, row + i, rows);
        if (seen.a < seen.b)
            weigh_rows(u, t, u->w.s + i * TN_ATTENTION_LD * real, row + i, rows, seen.a, seen.b,
                       parts + i);
        else
            empty_parts(parts + i, rows);
    }
}

void tn_attention_unit_block(const tn_attention_unit *u, int64_t block, bool apart, char *o_slot,
                             tn_softmax_part *part_slot) {
    const int64_t real = tn_attention_real(u), ld = u->state->columns;
    const int64_t group = u->state->step > 0 ? u->rows : u->state->group_rows;
    tn_attention_keys t = {.first = block * BLOCK};
    t.end = tn_min64(t.first + BLOCK, u->sequence.keys);
    t.a = tn_max64(u->lo, t.first);
    t.b = tn_min64(u->hi, t.end);
    if (t.a >= t.b) {
        if (apart)
            empty_parts(part_slot, u->rows);
        return;
    }
    if (tn_attention_has(u, TN_ATTENTION_K_SCALE))
        load_scales(u, TN_ATTENTION_K_SCALE, t.a, t.b, u->w.k_scale + (t.a - t.first) * real);
    if (tn_attention_has(u, TN_ATTENTION_V_SCALE))
        load_scales(u, TN_ATTENTION_V_SCALE, t.a, t.b, u->w.v_scale + (t.a - t.first) * real);

    for (int64_t row = 0; row < u->rows; row += group) {
        const int64_t n = tn_min64(group, u->rows - row);
        const tn_attention_range seen = tn_attention_seen(u, &t, row, n);
        char *const o = o_slot + row * ld * real, *const o_block = apart ? o : u->w.o_block;
        tn_softmax_part *const parts = apart ? part_slot + row : u->w.block_parts;
        if (seen.a >= seen.b) {
            empty_parts(parts, n);
            continue;
        }
        tn_attention_scores(u, &t, row, n);
        group_weights(u, &t, row, n, parts);
        tn_attention_values(u, &t, row, n, o_block);
        if (!apart)
            u->state->kernels->merge(n, u->cols, ld, o, part_slot + row, o_block, parts);
    }
}

/* ---------------------------------------------------------------- the end */

void tn_attention_clear(const tn_attention_unit *u, char *o, tn_softmax_part *parts) {
    memset(o, 0, (size_t)(u->rows * u->state->columns * tn_attention_real(u)));
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
    u->state->kernels->divide(o, u->cols, &part, sink);
    return part;
}

void tn_attention_unit_close(const tn_attention_unit *u, char *o, tn_softmax_part *parts) {
    const tn_attention_operand *out = &u->p->operand[TN_ATTENTION_O],
                               *sinks = &u->p->operand[TN_ATTENTION_SINKS];
    const int64_t ld = u->state->columns, real = tn_attention_real(u);
    for (int64_t r = 0; r < u->rows; ++r) {
        char *row = o + r * ld * real;
        double sink = -INFINITY;
        if (sinks->dtype != TENON_DTYPE_NONE)
            sink = scalar(
                u, TN_ATTENTION_SINKS,
                tn_attention_element(u, TN_ATTENTION_SINKS, 0, tn_attention_head_of(u, r), 0));
        if (!u->state->kernels->divide(row, u->cols, &parts[r], sink))
            parts[r] = redo_row(u, r, sink, row);
        u->state->tile->store[out->dtype](
            row, u->cols, tn_attention_query(u, TN_ATTENTION_O, r, u->c0), out->stride[3]);
        if (tn_attention_has(u, TN_ATTENTION_LSE) && u->c0 == 0) {
            void *lse = tn_attention_query(u, TN_ATTENTION_LSE, r, 0);
            const double value = parts[r].sum == 0 ? -INFINITY : parts[r].max + log(parts[r].sum);
            if (u->p->operand[TN_ATTENTION_LSE].dtype == TENON_F64)
                *(double *)lse = value;
            else
                *(float *)lse = (float)value;
        }
    }
}
