/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What quantising and dequantising mean (include/tenon/quantize.h): two tensors of the same
 * extents, one of them of blocks along the last dimension, as rows. Both directions are one
 * problem; which it is, their types say. Called by the entry points.
 */
#include "ops/operands.h"
#include "ops/ops.h"

#include <string.h>

enum { NUMBERS = 1 << TENON_F32 | 1 << TENON_F16 | 1 << TENON_BF16 };

#define OPERAND(...) TN_OPERAND(tenon_quantize_desc, __VA_ARGS__)
static const tn_operand to_blocks[TN_QUANTIZE_ROLES] = {
    [TN_QUANTIZE_X] = OPERAND(x, NUMBERS, 1, TENON_MAX_RANK, 0),
    [TN_QUANTIZE_Y] = OPERAND(y, TN_DTYPES_BLOCK, 1, TENON_MAX_RANK, TN_TENSOR_OUTPUT),
};
static const tn_operand from_blocks[TN_QUANTIZE_ROLES] = {
    [TN_QUANTIZE_X] = OPERAND(x, TN_DTYPES_BLOCK, 1, TENON_MAX_RANK, 0),
    [TN_QUANTIZE_Y] = OPERAND(y, NUMBERS, 1, TENON_MAX_RANK, TN_TENSOR_OUTPUT),
};
#define FORM(list)                                                                                 \
    {                                                                                              \
        .bytes = sizeof(tenon_quantize_desc),                                                      \
        .workspace = offsetof(tenon_quantize_desc, workspace), .operands = TN_QUANTIZE_ROLES,      \
        .operand = list                                                                            \
    }
const tn_form tn_quantize_form = FORM(to_blocks), tn_dequantize_form = FORM(from_blocks);

static tenon_status make(const tn_form *form, tenon_quantize_desc *d, tn_quantize_problem *p,
                         tn_message *m) {
    const bool to = form == &tn_quantize_form;
    const int32_t last = d->x.rank - 1;

    memset(p, 0, sizeof *p);
    TN_TRY(tn_operands_check(m, form, d));
    TN_TRY(tn_check_shape(m, "y", &d->y, d->x.rank, d->x.shape, "as x"));
    TN_TRY(tn_check_blocks_along(m, to ? "y" : "x", to ? &d->y : &d->x, last,
                                 "the last dimension"));
    p->rank = last;
    p->n = d->x.shape[last];
    p->rows = 1;
    for (int32_t dim = 0; dim < last; ++dim) {
        p->extent[dim] = d->x.shape[dim];
        p->rows *= d->x.shape[dim];
    }
    for (int role = 0; role < TN_QUANTIZE_ROLES; ++role) {
        const tenon_tensor *t = tn_tensor_in(form, role, d);
        tn_merge_operand *o = &p->operand[role];
        o->dtype = t->dtype;
        memcpy(o->row, t->stride, (size_t)last * sizeof *t->stride);
        o->step = t->stride[last];
    }
    return TENON_OK;
}

tenon_status tn_quantize_problem_make(tenon_quantize_desc *desc, tn_quantize_problem *out,
                                      tn_message *m) {
    return make(&tn_quantize_form, desc, out, m);
}

tenon_status tn_dequantize_problem_make(tenon_quantize_desc *desc, tn_dequantize_problem *out,
                                        tn_message *m) {
    return make(&tn_dequantize_form, desc, out, m);
}

bool tn_quantize_writes_nothing(const tn_quantize_problem *p) {
    return p->rows == 0 || p->n == 0;
}

bool tn_dequantize_writes_nothing(const tn_dequantize_problem *p) {
    return tn_quantize_writes_nothing(p);
}

/* An operation for each element; both operands once. */
void tn_quantize_cost(const tn_quantize_problem *p, double *flops, double *bytes) {
    *flops = (double)p->rows * (double)p->n;
    *bytes = 0;
    for (int role = 0; role < TN_QUANTIZE_ROLES; ++role) {
        const tn_dtype_info *type = tn_dtype_find(p->operand[role].dtype);
        *bytes += *flops / type->elements * type->bytes;
    }
}

void tn_dequantize_cost(const tn_dequantize_problem *p, double *flops, double *bytes) {
    tn_quantize_cost(p, flops, bytes);
}
