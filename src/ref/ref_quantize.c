/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows into blocks and back, a block at a time, with the plain encoders and decoders of
 * ops/blocks.h: there is no other meaning to compare with.
 */
#include "ops/blocks.h"
#include "ref/ref_convert.h"
#include "ref/ref_ops.h"

void tn_ref_quantize(const tn_quantize_problem *p, void *const *addresses) {
    const tn_merge_operand *x = &p->operand[TN_QUANTIZE_X], *y = &p->operand[TN_QUANTIZE_Y];
    const tn_block_type *type = tn_block_find(y->dtype);
    float values[TN_BLOCK_MOST];
    for (int64_t row = 0; row < p->rows; ++row) {
        const int64_t from = tn_quantize_row_start(p, x, row),
                      to = tn_quantize_row_start(p, y, row);
        for (int64_t i = 0; i < p->n; i += type->elements) {
            for (int64_t e = 0; e < type->elements; ++e)
                values[e] =
                    (float)tn_ref_get(addresses[TN_QUANTIZE_X], x->dtype, from + (i + e) * x->step);
            type->encode(values, (void *)tn_block_at(type, addresses[TN_QUANTIZE_Y], to, i));
        }
    }
}

void tn_ref_dequantize(const tn_quantize_problem *p, void *const *addresses) {
    const tn_merge_operand *x = &p->operand[TN_QUANTIZE_X], *y = &p->operand[TN_QUANTIZE_Y];
    const tn_block_type *type = tn_block_find(x->dtype);
    float values[TN_BLOCK_MOST];
    for (int64_t row = 0; row < p->rows; ++row) {
        const int64_t from = tn_quantize_row_start(p, x, row),
                      to = tn_quantize_row_start(p, y, row);
        for (int64_t i = 0; i < p->n; i += type->elements) {
            type->decode(tn_block_at(type, addresses[TN_QUANTIZE_X], from, i), values);
            for (int64_t e = 0; e < type->elements; ++e)
                tn_ref_put(addresses[TN_QUANTIZE_Y], y->dtype, to + (i + e) * y->step,
                           (double)values[e]);
        }
    }
}
