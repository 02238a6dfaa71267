/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention query by query: one pass over the keys for the maximum, one for the sums (Vaswani et
 * al., 2017, section 3.2.1; sinks: Xiao et al., 2024, section 3). Scores are computed in both
 * passes, so that nothing of the size of the keys is kept. Ragged batches and paged caches are
 * resolved by src/ops/attention_walk.c.
 */
#include "ops/blocks.h"
#include "ref/ref_convert.h"
#include "ref/ref_ops.h"

typedef struct query {
    const tn_attention_problem *p;
    void *const *address;
    tn_attention_sequence sequence;
    int64_t b, head, kv_head;
    int64_t row;      /* in q, o, lse, and in bias and mask */
    int64_t position; /* among the keys */
} query;

static double at(const query *x, tn_attention_role role, int64_t i0, int64_t i1, int64_t i2,
                 int64_t i3, double absent) {
    const tn_attention_operand *o = &x->p->operand[role];
    const int64_t *stride = o->stride;
    if (o->dtype == TENON_DTYPE_NONE)
        return absent;
    return tn_ref_get(x->address[role], o->dtype,
                      i0 * stride[0] + i1 * stride[1] + i2 * stride[2] + i3 * stride[3]);
}

static void put(const query *x, tn_attention_role role, int64_t e, double value) {
    const tn_attention_operand *o = &x->p->operand[role];
    if (o->dtype == TENON_DTYPE_NONE)
        return;
    tn_ref_put(x->address[role], o->dtype,
               x->sequence.q_batch * o->stride[0] + x->head * o->stride[1] + x->row * o->stride[2] +
                   e * o->stride[3],
               value);
}

/* Element e of a key's line of k or v, for e = 0, 1, ...: `block` keeps what was decoded last. */
static double at_key(const query *x, tn_attention_role role, int64_t outer, int64_t row, int64_t e,
                     float block[TN_BLOCK_MOST]) {
    const tn_attention_operand *o = &x->p->operand[role];
    const tn_block_type *type = tn_block_find(o->dtype);
    const int64_t line = outer * o->stride[0] + x->kv_head * o->stride[1] + row * o->stride[2];
    if (!type)
        return tn_ref_get(x->address[role], o->dtype, line + e * o->stride[3]);
    if (e % type->elements == 0)
        type->decode(tn_block_at(type, x->address[role], line, e), block);
    return (double)block[e % type->elements];
}

/* The score of key j; -inf means that it takes no part, and neither k[j] nor v[j] are looked at. */
static double score(const query *x, int64_t j) {
    const tn_attention_problem *p = x->p;
    const int64_t q_batch = x->sequence.q_batch;
    const double bias = at(x, TN_ATTENTION_BIAS, q_batch, x->head, x->row, j, 0);
    const double slope = at(x, TN_ATTENTION_ALIBI, x->b, x->head, 0, 0, 0);
    int64_t outer, row;
    float block[TN_BLOCK_MOST];
    double dot = 0;

    if (!tn_ref_sees(x->position, j, p->left, p->right) ||
        at(x, TN_ATTENTION_MASK, q_batch, x->head, x->row, j, 1) == 0 || bias == -INFINITY)
        return -INFINITY;

    tn_attention_key_row(p, x->address, &x->sequence, x->b, j, &outer, &row);
    for (int64_t e = 0; e < p->d; ++e)
        dot += at(x, TN_ATTENTION_Q, q_batch, x->head, x->row, e, 0) *
               at_key(x, TN_ATTENTION_K, outer, row, e, block);
    dot *= at(x, TN_ATTENTION_K_SCALE, outer, x->kv_head, row, 0, 1);
    return tn_ref_score(p->scale * dot, p->softcap, slope, x->position, j, bias);
}

/* sum[e] += weight · v_scale · v[j,e] */
static void add_value(const query *x, int64_t j, double weight, double *sum) {
    float block[TN_BLOCK_MOST];
    int64_t outer, row;
    tn_attention_key_row(x->p, x->address, &x->sequence, x->b, j, &outer, &row);
    weight *= at(x, TN_ATTENTION_V_SCALE, outer, x->kv_head, row, 0, 1);
    for (int64_t e = 0; e < x->p->dv; ++e)
        sum[e] += weight * at_key(x, TN_ATTENTION_V, outer, row, e, block);
}

static void attend(const query *x, double *sum) {
    const double sink = at(x, TN_ATTENTION_SINKS, 0, x->head, 0, 0, -INFINITY);
    double max = sink, total = 0, lse = -INFINITY;

    for (int64_t e = 0; e < x->p->dv; ++e)
        sum[e] = 0;
    for (int64_t j = 0; j < x->sequence.keys; ++j)
        max = tn_ref_max(max, score(x, j));

    if (max != -INFINITY) {
        total = exp(sink - max);
        for (int64_t j = 0; j < x->sequence.keys; ++j) {
            const double s = score(x, j);
            if (s == -INFINITY)
                continue;
            total += exp(s - max);
            add_value(x, j, exp(s - max), sum);
        }
        lse = max + log(total);
    }
    for (int64_t e = 0; e < x->p->dv; ++e)
        put(x, TN_ATTENTION_O, e, max == -INFINITY ? 0 : sum[e] / total);
    put(x, TN_ATTENTION_LSE, 0, lse);
}

void tn_ref_attention(const tn_attention_problem *p, void *const *addresses, double *sum) {
    query x = {.p = p, .address = addresses};
    for (x.b = 0; x.b < p->batch; ++x.b) {
        tn_attention_sequence_get(p, addresses, x.b, &x.sequence);
        for (x.head = 0; x.head < p->heads; ++x.head) {
            x.kv_head = x.head / (p->heads / p->kv_heads);
            for (int64_t i = 0; i < x.sequence.queries; ++i) {
                x.row = x.sequence.q_start + i;
                x.position = x.sequence.offset + i;
                attend(&x, sum);
            }
        }
    }
}
