/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Softmax of each row in three passes over its scores: maximum, sum, result (the textbook safe
 * softmax; Milakov and Gimelshein, 2018, algorithm 2), with the masks of include/tenon/softmax.h.
 */
#include "ref/ref_convert.h"
#include "ref/ref_ops.h"

typedef struct row {
    const tn_softmax_problem *p;
    void *const *address;
    int64_t start[TN_SOFTMAX_ROLES]; /* first element of the row in each operand */
    int64_t position;                /* of the query that the row is */
} row;

static double at(const row *r, tn_softmax_role role, int64_t j, double absent) {
    const tn_softmax_operand *o = &r->p->operand[role];
    if (o->dtype == TENON_DTYPE_NONE)
        return absent;
    return tn_ref_get(r->address[role], o->dtype, r->start[role] + j * o->step);
}

static row row_of(const tn_softmax_problem *p, void *const *addresses, int64_t index) {
    row r = {.p = p, .address = addresses};
    for (int32_t d = p->rank - 1; d >= 0; --d) {
        const int64_t i = index % p->extent[d];
        index /= p->extent[d];
        for (int role = 0; role < TN_SOFTMAX_ROLES; ++role)
            r.start[role] += i * p->operand[role].row[d];
        if (d == p->query_dim)
            r.position = i + p->offset;
    }
    return r;
}

/* The score of element j. -inf means that it takes no part; then x[j] is not looked at if a mask
 * says so. */
static double score(const row *r, int64_t j) {
    const tn_softmax_problem *p = r->p;
    const double bias = at(r, TN_SOFTMAX_BIAS, j, 0);

    if (!tn_ref_sees(r->position, j, p->left, p->right) || at(r, TN_SOFTMAX_MASK, j, 1) == 0 ||
        bias == -INFINITY)
        return -INFINITY;
    return tn_ref_score(p->scale * at(r, TN_SOFTMAX_X, j, 0), p->softcap,
                        at(r, TN_SOFTMAX_ALIBI, 0, 0), r->position, j, bias);
}

static void softmax_row(const row *r) {
    const tn_softmax_problem *p = r->p;
    const tn_softmax_operand *y = &p->operand[TN_SOFTMAX_Y];
    const double sink = at(r, TN_SOFTMAX_SINKS, 0, -INFINITY);
    double max = sink, sum = 0, lse = -INFINITY;

    for (int64_t j = 0; j < p->length; ++j)
        max = tn_ref_max(max, score(r, j));

    if (max != -INFINITY) {
        sum = exp(sink - max);
        for (int64_t j = 0; j < p->length; ++j) {
            const double s = score(r, j);
            if (s != -INFINITY)
                sum += exp(s - max);
        }
        lse = max + log(sum);
    }

    for (int64_t j = 0; j < p->length;
         ++j) { /* y may be x: element j is read before it is written */
        const double s = score(r, j);
        double value;
        if (s == -INFINITY)
            value = p->log ? -INFINITY : 0;
        else
            value = p->log ? s - lse : exp(s - max) / sum;
        tn_ref_put(r->address[TN_SOFTMAX_Y], y->dtype, r->start[TN_SOFTMAX_Y] + j * y->step, value);
    }
    if (p->operand[TN_SOFTMAX_LSE].dtype != TENON_DTYPE_NONE)
        tn_ref_put(r->address[TN_SOFTMAX_LSE], p->operand[TN_SOFTMAX_LSE].dtype,
                   r->start[TN_SOFTMAX_LSE], lse);
}

void tn_ref_softmax(const tn_softmax_problem *p, void *const *addresses) {
    for (int64_t index = 0; index < p->rows; ++index) {
        const row r = row_of(p, addresses, index);
        softmax_row(&r);
    }
}
