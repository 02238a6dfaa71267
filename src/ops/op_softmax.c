/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a softmax means (include/tenon/softmax.h): defaults, shapes and masks brought to a
 * tn_softmax_problem. Called by the entry points; reads no element of any operand.
 */
#include "ops/operands.h"
#include "ops/ops.h"

#include <string.h>

#define OPERAND(...) TN_OPERAND(tenon_softmax_desc, __VA_ARGS__)
static const tn_operand operands[TN_SOFTMAX_ROLES] = {
    [TN_SOFTMAX_X] = OPERAND(x, TN_DTYPES_FLOAT, 1, TENON_MAX_RANK, 0),
    [TN_SOFTMAX_Y] =
        OPERAND(y, TN_DTYPES_FLOAT, 1, TENON_MAX_RANK, TN_TENSOR_OUTPUT, 1 + TN_SOFTMAX_X),
    [TN_SOFTMAX_BIAS] = OPERAND(bias, TN_DTYPES_FLOAT, 0, TENON_MAX_RANK, TN_TENSOR_OPTIONAL),
    [TN_SOFTMAX_MASK] = OPERAND(mask, TN_DTYPES_BOOL, 0, TENON_MAX_RANK, TN_TENSOR_OPTIONAL),
    [TN_SOFTMAX_ALIBI] = OPERAND(alibi, TN_DTYPES_FLOAT, 0, 2, TN_TENSOR_OPTIONAL),
    [TN_SOFTMAX_SINKS] = OPERAND(sinks, TN_DTYPES_FLOAT, 0, 1, TN_TENSOR_OPTIONAL),
    [TN_SOFTMAX_LSE] =
        OPERAND(lse, TN_DTYPES_WIDE, 0, TENON_MAX_RANK, TN_TENSOR_OPTIONAL | TN_TENSOR_OUTPUT),
};
static const tn_defaulted defaults[] = {
    TN_DEFAULTED(tenon_softmax_desc, axis),
    TN_DEFAULTED(tenon_softmax_desc, scale),
};
static const uint16_t words[] = {
    TN_HALVES(tenon_softmax_desc, window.enabled, window.reserved),
    TN_WORD(tenon_softmax_desc, window.left),
    TN_WORD(tenon_softmax_desc, window.right),
    TN_WORD(tenon_softmax_desc, softcap),
    TN_HALVES(tenon_softmax_desc, log, reserved),
};
static const uint16_t halves[] = {TN_HALF(tenon_softmax_desc, causal)};
const tn_form tn_softmax_form = {
    .bytes = sizeof(tenon_softmax_desc),
    .workspace = offsetof(tenon_softmax_desc, workspace),
    .operands = TN_COUNT(operands),
    .operand = operands,
    .defaulted = TN_COUNT(defaults),
    .defaults = defaults,
    .words = TN_COUNT(words),
    .word = words,
    .halves = TN_COUNT(halves),
    .half = halves,
};

/* Splits strides over x's dimensions into those of rows and the one along the axis. */
static void set_operand(tn_softmax_problem *p, tn_softmax_role role, tenon_dtype dtype,
                        const int64_t *stride, int32_t axis) {
    tn_softmax_operand *operand = &p->operand[role];
    operand->dtype = dtype;
    for (int32_t d = 0, row = 0; d <= p->rank; ++d) {
        if (d == axis)
            operand->step = stride[d];
        else
            operand->row[row++] = stride[d];
    }
}

static tenon_status set_broadcast(tn_message *m, tn_softmax_problem *p, tn_softmax_role role,
                                  const tenon_tensor *t, const tenon_tensor *x, int32_t axis) {
    int64_t stride[TENON_MAX_RANK] = {0};
    if (!tn_tensor_present(t))
        return TENON_OK;
    TN_TRY(
        tn_check_broadcast(m, operands[role].name, t, x->rank, x->shape, "the shape of x", stride));
    set_operand(p, role, t->dtype, stride, axis);
    return TENON_OK;
}

/*
 * alibi and sinks: one value per head (or batch and head); heads are the dimension before queries.
 */
static tenon_status set_per_head(tn_message *m, tn_softmax_problem *p, tn_softmax_role role,
                                 const tenon_tensor *t) {
    static const int64_t no_heads[1] = {1};
    int64_t stride[TENON_MAX_RANK] = {0};
    const int32_t lead = p->rank - 1;
    if (!tn_tensor_present(t))
        return TENON_OK;
    if (lead == 0)
        TN_TRY(tn_check_broadcast(m, operands[role].name, t, 1, no_heads,
                                  "(heads) of an x without heads", stride));
    else
        TN_TRY(tn_check_broadcast(m, operands[role].name, t, lead, p->extent,
                                  "the dimensions of x before queries", stride));
    p->operand[role].dtype = t->dtype;
    memcpy(p->operand[role].row, stride, (size_t)lead * sizeof *stride);
    return TENON_OK;
}

/* Causal, window, ALiBi and sinks: what needs to know which dimensions are queries and keys. */
static tenon_status set_positions(tn_message *m, const tenon_softmax_desc *d, tn_softmax_problem *p,
                                  int32_t axis) {
    const char *wants = tn_tensor_present(&d->sinks)   ? "sinks"
                        : tn_tensor_present(&d->alibi) ? "alibi"
                        : d->window.enabled            ? "window"
                        : d->causal                    ? "causal"
                                                       : NULL;
    p->left = p->right = TN_UNLIMITED;
    p->query_dim = -1;
    if (!wants)
        return TENON_OK;
    if (axis != d->x.rank - 1 || d->x.rank < 2)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s is given while axis is %d of an x of rank %d, expected axis to be "
                       "the last of at least 2",
                       wants, (int)axis, (int)d->x.rank);
    TN_TRY(set_per_head(m, p, TN_SOFTMAX_ALIBI, &d->alibi));
    TN_TRY(set_per_head(m, p, TN_SOFTMAX_SINKS, &d->sinks));
    const int64_t queries = p->extent[p->rank - 1], keys = p->length;
    if (d->window.enabled && d->window.left >= 0)
        p->left = d->window.left;
    if (d->window.enabled && d->window.right >= 0)
        p->right = d->window.right;
    if (d->causal)
        p->right = 0;
    /*
     * Wider than everything is the same as no limit, and lets backends add positions without a
     * thought of overflow.
     */
    if (p->left >= INT64_MAX - queries - keys || p->left >= queries + keys)
        p->left = TN_UNLIMITED;
    if (p->right >= INT64_MAX - queries - keys || p->right >= queries + keys)
        p->right = TN_UNLIMITED;
    if (p->left == TN_UNLIMITED && p->right == TN_UNLIMITED && !tn_tensor_present(&d->alibi))
        return TENON_OK;
    p->query_dim = p->rank - 1;
    p->offset = d->causal == TENON_CAUSAL_TOP_LEFT ? 0 : keys - queries;
    return TENON_OK;
}

static tenon_status set_lse(tn_message *m, const tenon_softmax_desc *d, tn_softmax_problem *p) {
    static const int64_t one[1] = {1};
    if (!tn_tensor_present(&d->lse))
        return TENON_OK;
    /*
     * Without rows a scalar; as one of rank 0 can't be planned without its address, a vector of one
     * is the same.
     */
    if (p->rank > 0 || d->lse.rank == 0)
        TN_TRY(
            tn_check_shape(m, "lse", &d->lse, p->rank, p->extent, "the shape of x without axis"));
    else
        TN_TRY(tn_check_shape(m, "lse", &d->lse, 1, one, "x has one row"));
    p->operand[TN_SOFTMAX_LSE].dtype = d->lse.dtype;
    memcpy(p->operand[TN_SOFTMAX_LSE].row, d->lse.stride, (size_t)p->rank * sizeof *d->lse.stride);
    return TENON_OK;
}

static tenon_status check_attributes(tn_message *m, const tenon_softmax_desc *d) {
    TN_TRY(tn_check_enum(m, "causal", (int)d->causal, TENON_CAUSAL_BOTTOM_RIGHT));
    TN_TRY(tn_check_window(m, &d->window));
    TN_TRY(tn_check_enum(m, "log", d->log, 1));
    TN_TRY(tn_check_enum(m, "reserved", d->reserved, 0));
    TN_TRY(tn_check_not_negative(m, "softcap", d->softcap));
    return d->scale ? tn_check_finite(m, "scale", *d->scale) : TENON_OK;
}

tenon_status tn_softmax_problem_make(tenon_softmax_desc *d, tn_softmax_problem *out,
                                     tn_message *m) {
    memset(out, 0, sizeof *out);
    TN_TRY(tn_operands_check(m, &tn_softmax_form, d));
    TN_TRY(tn_check_shape(m, "y", &d->y, d->x.rank, d->x.shape, "the shape of x"));
    int32_t axis = d->axis ? *d->axis : -1;
    if (axis < -d->x.rank || axis >= d->x.rank)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "axis is %d, expected %d to %d (the rank of x is %d)", (int)axis,
                       (int)-d->x.rank, (int)d->x.rank - 1, (int)d->x.rank);
    if (axis < 0)
        axis += d->x.rank;
    TN_TRY(check_attributes(m, d));

    out->rank = d->x.rank - 1;
    out->rows = 1;
    for (int32_t i = 0, row = 0; i < d->x.rank; ++i) {
        if (i == axis)
            continue;
        out->extent[row++] = d->x.shape[i];
        out->rows *= d->x.shape[i];
    }
    out->length = d->x.shape[axis];
    out->scale = d->scale ? *d->scale : 1;
    out->softcap = d->softcap;
    out->log = d->log;
    out->accumulate = d->x.dtype == TENON_F64 || d->y.dtype == TENON_F64 ? TENON_F64 : TENON_F32;
    set_operand(out, TN_SOFTMAX_X, d->x.dtype, d->x.stride, axis);
    set_operand(out, TN_SOFTMAX_Y, d->y.dtype, d->y.stride, axis);
    TN_TRY(set_broadcast(m, out, TN_SOFTMAX_BIAS, &d->bias, &d->x, axis));
    TN_TRY(set_broadcast(m, out, TN_SOFTMAX_MASK, &d->mask, &d->x, axis));
    TN_TRY(set_positions(m, d, out, axis));
    return set_lse(m, d, out);
}

bool tn_softmax_writes_nothing(const tn_softmax_problem *p) {
    return p->rows == 0 || (p->length == 0 && !p->operand[TN_SOFTMAX_LSE].dtype);
}

/*
 * Scale, maximum, exponential, sum and division: five operations an element, and one for each term
 * added to the scores.
 */
void tn_softmax_cost(const tn_softmax_problem *p, double *flops, double *bytes) {
    const double elements = (double)p->rows * (double)p->length;
    *flops = elements * (5 + (p->operand[TN_SOFTMAX_BIAS].dtype != 0) +
                         2 * (p->operand[TN_SOFTMAX_ALIBI].dtype != 0) + 3 * (p->softcap > 0));
    *bytes = 0;
    for (int role = 0; role < TN_SOFTMAX_ROLES; ++role) {
        const tn_softmax_operand *operand = &p->operand[role];
        const tn_dtype_info *type = tn_dtype_find(operand->dtype);
        double size = type ? type->bytes : 0;
        if (operand->step != 0)
            size *= (double)p->length;
        for (int32_t d = 0; d < p->rank; ++d)
            if (operand->row[d] != 0)
                size *= (double)p->extent[d];
        *bytes += p->rows > 0 ? size : 0;
    }
}
