/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands around attention: joining parts that saw disjoint sets of keys, and writing rows into
 * a key-value cache. Formulas: include/tenon/attention.h (merging: Dao et al., 2022, section 3.1).
 */
#include "ops/blocks.h"
#include "ops/index.h"
#include "ref/ref_convert.h"
#include "ref/ref_ops.h"

/* ---------------------------------------------------------------- merge */

static double lse_of(const tn_merge_problem *p, void *const *addresses, int64_t part, int64_t row) {
    const tn_merge_operand *x = &p->lse_part[part];
    return tn_ref_get(((void *const *)addresses[TN_MERGE_LSE_PARTS])[part], x->dtype,
                      tn_merge_row_start(p, x, row));
}

static double o_of(const tn_merge_problem *p, void *const *addresses, int64_t part, int64_t row,
                   int64_t e) {
    const tn_merge_operand *x = &p->o_part[part];
    return tn_ref_get(((void *const *)addresses[TN_MERGE_O_PARTS])[part], x->dtype,
                      tn_merge_row_start(p, x, row) + e * x->step);
}

static void merge_row(const tn_merge_problem *p, void *const *addresses, int64_t row) {
    double max = -INFINITY, total = 0;

    for (int64_t i = 0; i < p->count; ++i)
        max = tn_ref_max(max, lse_of(p, addresses, i, row));
    for (int64_t i = 0; i < p->count && max != -INFINITY; ++i)
        total += exp(lse_of(p, addresses, i, row) - max);

    for (int64_t e = 0; e < p->dv;
         ++e) { /* o may be part 0: element e is read before it is written */
        double sum = 0;
        for (int64_t i = 0; i < p->count; ++i) {
            const double lse = lse_of(p, addresses, i, row);
            if (lse != -INFINITY) /* a part that saw nothing may hold anything */
                sum += exp(lse - max) / total * o_of(p, addresses, i, row, e);
        }
        tn_ref_put(addresses[TN_MERGE_O], p->o.dtype,
                   tn_merge_row_start(p, &p->o, row) + e * p->o.step, sum);
    }
    if (p->lse.dtype != TENON_DTYPE_NONE)
        tn_ref_put(addresses[TN_MERGE_LSE], p->lse.dtype, tn_merge_row_start(p, &p->lse, row),
                   max == -INFINITY ? -INFINITY : max + log(total));
}

void tn_ref_merge(const tn_merge_problem *p, void *const *addresses) {
    for (int64_t row = 0; row < p->rows; ++row)
        merge_row(p, addresses, row);
}

/* ---------------------------------------------------------------- append */

/* The operands of keys, or of values. */
typedef struct side {
    int rows, cache, scale;
    int64_t width;
} side;

static int64_t index_of(const tn_append_problem *p, void *const *addresses, int role, int64_t b) {
    return tn_index_get(addresses[role], p->operand[role].dtype, b * p->operand[role].stride[0]);
}

static int64_t block_of(const tn_append_problem *p, void *const *addresses, int64_t b, int64_t i) {
    const tn_attention_operand *table = &p->operand[TN_APPEND_BLOCK_TABLE];
    return tn_index_get(addresses[TN_APPEND_BLOCK_TABLE], table->dtype,
                        b * table->stride[0] + i * table->stride[1]);
}

/* A row of blocks: each of its elements over the scale, rounded to f32. */
static void append_blocks(const tn_append_problem *p, void *const *addresses, const side *s,
                          int64_t from, int64_t to, double scale) {
    const tn_attention_operand *x = &p->operand[s->rows], *y = &p->operand[s->cache];
    const tn_block_type *type = tn_block_find(y->dtype);
    float values[TN_BLOCK_MOST];
    for (int64_t i = 0; i < s->width; i += type->elements) {
        for (int64_t e = 0; e < type->elements; ++e)
            values[e] =
                (float)(tn_ref_get(addresses[s->rows], x->dtype, from + (i + e) * x->stride[3]) /
                        scale);
        type->encode(values, (void *)tn_block_at(type, addresses[s->cache], to, i));
    }
}

/* cache[outer, h, slot] = rows[x_batch, h, t] / scale[outer, h, slot], for every head h */
static void append_row(const tn_append_problem *p, void *const *addresses, const side *s,
                       int64_t x_batch, int64_t t, int64_t outer, int64_t slot) {
    const tn_attention_operand *x = &p->operand[s->rows], *y = &p->operand[s->cache];
    const tn_attention_operand *z = &p->operand[s->scale];

    for (int64_t h = 0; h < p->kv_heads; ++h) {
        const int64_t from = x_batch * x->stride[0] + h * x->stride[1] + t * x->stride[2];
        const int64_t to = outer * y->stride[0] + h * y->stride[1] + slot * y->stride[2];
        double scale = 1;
        if (z->dtype != TENON_DTYPE_NONE)
            scale = tn_ref_get(addresses[s->scale], z->dtype,
                               outer * z->stride[0] + h * z->stride[1] + slot * z->stride[2]);
        if (y->dtype >= TENON_Q8_0) {
            append_blocks(p, addresses, s, from, to, scale);
            continue;
        }
        for (int64_t e = 0; e < s->width; ++e)
            tn_ref_put(addresses[s->cache], y->dtype, to + e * y->stride[3],
                       tn_ref_get(addresses[s->rows], x->dtype, from + e * x->stride[3]) / scale);
    }
}

void tn_ref_append(const tn_append_problem *p, void *const *addresses) {
    const side sides[2] = {
        {TN_APPEND_K, TN_APPEND_K_CACHE, TN_APPEND_K_SCALE, p->d},
        {TN_APPEND_V, TN_APPEND_V_CACHE, TN_APPEND_V_SCALE, p->dv},
    };
    const int ragged = p->operand[TN_APPEND_CU].dtype != TENON_DTYPE_NONE;

    for (int64_t b = 0; b < p->batch; ++b) {
        const int64_t first = ragged ? index_of(p, addresses, TN_APPEND_CU, b) : 0;
        const int64_t end = ragged ? index_of(p, addresses, TN_APPEND_CU, b + 1) : p->rows;
        const int64_t position = index_of(p, addresses, TN_APPEND_POSITIONS, b);

        for (int64_t t = first; t < end; ++t) {
            int64_t outer = b, slot = position + (t - first);
            if (p->block_size > 0) {
                outer = block_of(p, addresses, b, slot / p->block_size);
                slot %= p->block_size;
            }
            for (int i = 0; i < 2; ++i)
                if (p->operand[sides[i].rows].dtype != TENON_DTYPE_NONE)
                    append_row(p, addresses, &sides[i], ragged ? 0 : b, t, outer, slot);
        }
    }
}
