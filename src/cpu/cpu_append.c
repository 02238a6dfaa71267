/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_append.c: writes new rows into a key-value cache, contiguous or paged, converting types.
 *
 * Types without scales go through f32, which holds all of them but f64; with scales the quotient is
 * made in f64, so that it is rounded once, to the cache's type, or to f32 on its way into blocks.
 * Rows pass over the stack, some of their columns at a time.
 */
#include "cpu/cpu_kernels.h"
#include "cpu/cpu_ops.h"
#include "ops/blocks.h"

/* Columns that are converted at a time: twice 4 KiB of f64. */
enum { COLUMNS = 512 };

typedef struct append_state {
    const tn_gemm_tile *tile[2]; /* for keys and values; NULL: copied as they are */
    int64_t grain;               /* tokens of a task */
} append_state;

_Static_assert(sizeof(append_state) <= TN_CHOICE_STATE, "a choice keeps it");

typedef struct append_run {
    const tn_append_problem *p;
    append_state state;
    void *const *addresses;
    bool ragged;
    int64_t tokens;
} append_run;

/* The operands of keys, or of values. */
static const struct append_side {
    tn_append_role rows, cache, scale;
} sides[2] = {{TN_APPEND_K, TN_APPEND_K_CACHE, TN_APPEND_K_SCALE},
              {TN_APPEND_V, TN_APPEND_V_CACHE, TN_APPEND_V_SCALE}};

static int64_t width_of(const tn_append_problem *p, int side) {
    return side == 0 ? p->d : p->dv;
}

static bool present(const tn_append_problem *p, tn_append_role role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

static const tn_gemm_tile *choose_tile(const tn_append_problem *p, int side, tn_cpu_level level) {
    const tenon_dtype from = p->operand[sides[side].rows].dtype,
                      to = p->operand[sides[side].cache].dtype;
    if (from == TENON_DTYPE_NONE)
        return NULL;
    if (present(p, sides[side].scale) || from == TENON_F64 || to == TENON_F64)
        return tn_cpu_tile_find(TENON_F64, level);
    if (from == to && p->operand[sides[side].rows].stride[3] == 1 &&
        p->operand[sides[side].cache].stride[3] == 1)
        return NULL;
    return tn_cpu_tile_find(TENON_F32, level);
}

tenon_status tn_cpu_append_plan(const tn_append_problem *p, int threads, tn_cpu_level level,
                                tn_choices *out, tn_message *why) {
    const int64_t elements = p->kv_heads * (p->d + p->dv);
    tn_choice c;
    append_state s = {0};
    (void)why;

    for (int side = 0; side < 2; ++side)
        s.tile[side] = choose_tile(p, side, level);
    s.grain = 1 + 8192 / (1 + elements);
    memset(&c, 0, sizeof c);
    c.algorithm = "append";
    c.kernel = tn_cpu_tile_find(TENON_F32, level)->name;
    c.reason = "the only one";
    c.seconds = (double)p->rows * (double)elements * 1e-9 / threads;
    memcpy(c.state, &s, sizeof s);
    out->count = 0;
    tn_choices_offer(out, &c);
    return TENON_OK;
}

static int64_t index_at(const append_run *r, tn_append_role role, int64_t b, int64_t i) {
    const tn_attention_operand *o = &r->p->operand[role];
    const int64_t element = b * o->stride[0] + i * o->stride[1];
    return o->dtype == TENON_S64 ? ((const int64_t *)r->addresses[role])[element]
                                 : ((const int32_t *)r->addresses[role])[element];
}

static char *element(const append_run *r, tn_append_role role, int64_t i0, int64_t i1, int64_t i2) {
    const tn_attention_operand *o = &r->p->operand[role];
    return (char *)r->addresses[role] +
           tn_bytes_of(o->dtype, i0 * o->stride[0] + i1 * o->stride[1] + i2 * o->stride[2]);
}

/* Columns [c, c + n) of a line of the cache, from numbers of the tile's type. */
static void store(const tn_gemm_tile *tile, const tn_attention_operand *to, const void *row,
                  int64_t c, int64_t n, char *line) {
    const tn_block_type *type = tn_block_find(to->dtype);
    float values[TN_BLOCK_MOST];
    if (!type)
        tile->store[to->dtype](row, n, line + tn_bytes_of(to->dtype, c * to->stride[3]),
                               to->stride[3]);
    for (int64_t i = 0; type && i < n; i += type->elements) {
        tile->store[TENON_F32]((const char *)row + i * tn_element_size(tile->type), type->elements,
                               values, 1);
        type->encode(values, (void *)tn_block_at(type, line, 0, c + i));
    }
}

/* cache[outer, h, slot] = rows[x_batch, h, t] / scale[outer, h, slot] for every head. */
static void append_row(const append_run *r, int side, int64_t x_batch, int64_t t, int64_t outer,
                       int64_t slot) {
    const tn_append_problem *p = r->p;
    const tn_attention_operand *from = &p->operand[sides[side].rows],
                               *to = &p->operand[sides[side].cache];
    const tn_attention_operand *scale = &p->operand[sides[side].scale];
    const tn_gemm_tile *tile = r->state.tile[side];
    const int64_t n = width_of(p, side);

    for (int64_t h = 0; h < p->kv_heads; ++h) {
        const char *src = element(r, sides[side].rows, x_batch, h, t);
        char *dst = element(r, sides[side].cache, outer, h, slot);
        if (!tile) {
            memcpy(dst, src, (size_t)(n * tn_element_size(to->dtype)));
            continue;
        }
        for (int64_t c = 0; c < n; c += COLUMNS) {
            const int64_t some = tn_min64(COLUMNS, n - c);
            double row[COLUMNS], divisor[COLUMNS]; /* of the compute type */
            tile->load[from->dtype](src + c * from->stride[3] * tn_element_size(from->dtype),
                                    from->stride[3], some, row);
            if (scale->dtype != TENON_DTYPE_NONE) {
                tile->load[scale->dtype](element(r, sides[side].scale, outer, h, slot), 0, some,
                                         divisor);
                tile->ops.quotient(row, divisor, some);
            }
            store(tile, to, row, c, some, dst);
        }
    }
}

/* The sequence that ragged token t belongs to: the last that starts at or before it. */
static int64_t sequence_of(const append_run *r, int64_t t) {
    int64_t low = 0, high = r->p->batch;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (index_at(r, TN_APPEND_CU, middle, 0) <= t)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void append_task(void *arg, int64_t index, int worker) {
    const append_run *r = arg;
    const tn_append_problem *p = r->p;
    (void)worker;
    const int64_t first = index * r->state.grain;
    const int64_t end = first + r->state.grain < r->tokens ? first + r->state.grain : r->tokens;

    for (int64_t t = first; t < end; ++t) {
        const int64_t b = r->ragged ? sequence_of(r, t) : t / p->rows;
        const int64_t in_sequence = r->ragged ? t - index_at(r, TN_APPEND_CU, b, 0) : t % p->rows;
        int64_t outer = b, slot = index_at(r, TN_APPEND_POSITIONS, b, 0) + in_sequence;
        if (p->block_size > 0) {
            outer = index_at(r, TN_APPEND_BLOCK_TABLE, b, slot / p->block_size);
            slot %= p->block_size;
        }
        for (int side = 0; side < 2; ++side)
            if (present(p, sides[side].rows))
                append_row(r, side, r->ragged ? 0 : b, r->ragged ? t : in_sequence, outer, slot);
    }
}

void tn_cpu_append_run(const tn_run *run) {
    append_run r = {.p = run->problem, .addresses = run->addresses};
    memcpy(&r.state, run->choice->state, sizeof r.state);
    r.ragged = present(r.p, TN_APPEND_CU);
    r.tokens = r.ragged ? index_at(&r, TN_APPEND_CU, r.p->batch, 0) : r.p->batch * r.p->rows;
    tn_team_run(run->team, append_task, &r, (r.tokens + r.state.grain - 1) / r.state.grain);
}
