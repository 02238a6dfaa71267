/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a running attention finds its way through ragged and paged operands, and what it costs.
 * Backends call the walk for every sequence (and page); lengths and tables have been checked, so
 * nothing here can fail.
 */
#include "ops/ops.h"
#include "ops/tensor_check.h"

static bool given(const tn_attention_problem *p, tn_attention_role role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

static int64_t index_of(const tn_attention_problem *p, void *const *addresses,
                        tn_attention_role role, int64_t i) {
    return tn_index_get(addresses[role], p->operand[role].dtype, i * p->operand[role].stride[0]);
}

void tn_attention_sequence_get(const tn_attention_problem *p, void *const *addresses, int64_t b,
                               tn_attention_sequence *out) {
    *out =
        (tn_attention_sequence){.q_batch = b, .queries = p->queries, .k_batch = b, .keys = p->keys};
    if (given(p, TN_ATTENTION_CU_Q)) {
        out->q_batch = 0;
        out->q_start = index_of(p, addresses, TN_ATTENTION_CU_Q, b);
        out->queries = index_of(p, addresses, TN_ATTENTION_CU_Q, b + 1) - out->q_start;
    }
    if (given(p, TN_ATTENTION_CU_K)) {
        out->k_batch = 0;
        out->k_start = index_of(p, addresses, TN_ATTENTION_CU_K, b);
        out->keys = index_of(p, addresses, TN_ATTENTION_CU_K, b + 1) - out->k_start;
    } else if (given(p, TN_ATTENTION_KEY_LENGTHS)) {
        out->keys = index_of(p, addresses, TN_ATTENTION_KEY_LENGTHS, b);
    }
    if (given(p, TN_ATTENTION_QUERY_OFFSETS))
        out->offset = index_of(p, addresses, TN_ATTENTION_QUERY_OFFSETS, b);
    else if (p->align_bottom)
        out->offset = out->keys - out->queries;
}

void tn_attention_key_row(const tn_attention_problem *p, void *const *addresses,
                          const tn_attention_sequence *s, int64_t b, int64_t j, int64_t *outer,
                          int64_t *row) {
    if (p->block_size == 0) {
        *outer = s->k_batch;
        *row = s->k_start + j;
        return;
    }
    const tn_attention_operand *table = &p->operand[TN_ATTENTION_BLOCK_TABLE];
    *outer = tn_index_get(addresses[TN_ATTENTION_BLOCK_TABLE], table->dtype,
                          b * table->stride[0] + j / p->block_size * table->stride[1]);
    *row = j % p->block_size;
}

/* Σ over i = 0 … n-1 of min(max(i + shift, 0), limit), in closed form: shapes may be absurdly
 * large. */
static double clamped_sum(double n, double shift, double limit) {
    double first = shift < 0 ? -shift : 0;                       /* terms before it are 0 */
    double full = limit - shift > first ? limit - shift : first; /* terms from it on are `limit` */
    if (first > n)
        first = n;
    if (full > n)
        full = n;
    const double rising = full - first;
    return rising * (first + shift) + rising * (rising - 1) / 2 + (n - full) * limit;
}

/* Pairs of query and key that take part in one head, for `queries` and `keys` of one sequence. */
static double visible_pairs(const tn_attention_problem *p, double queries, double keys,
                            double offset) {
    const double upto = p->right == TN_UNLIMITED
                            ? queries * keys
                            : clamped_sum(queries, offset + (double)p->right + 1, keys);
    const double before =
        p->left == TN_UNLIMITED ? 0 : clamped_sum(queries, offset - (double)p->left, keys);
    return upto - before;
}

static double operand_bytes(const tn_attention_operand *x, int32_t rank, const int64_t *extent) {
    const tn_dtype_info *type = tn_dtype_find(x->dtype);
    double size = type ? (double)type->bytes / type->elements : 0;
    for (int32_t d = 0; d < rank; ++d)
        if (extent[d] == 0 || x->stride[d] != 0)
            size *= (double)extent[d];
    return size;
}

void tn_attention_cost(const tn_attention_problem *p, double *flops, double *bytes) {
    const bool ragged = given(p, TN_ATTENTION_CU_Q), ragged_k = given(p, TN_ATTENTION_CU_K),
               paged = p->block_size > 0;
    const bool data_positions = ragged || ragged_k || given(p, TN_ATTENTION_KEY_LENGTHS) ||
                                given(p, TN_ATTENTION_QUERY_OFFSETS);
    const double queries = (double)p->queries, keys = (double)p->keys;
    const double sequences = ragged || ragged_k ? 1 : (double)p->batch;
    double pairs = queries * keys;
    if (!data_positions)
        pairs = visible_pairs(p, queries, keys, p->align_bottom ? keys - queries : 0);
    *flops = sequences * (double)p->heads * pairs * 2 * (double)(p->d + p->dv);

    const int64_t q_batch = ragged ? 1 : p->batch, k_outer = paged      ? p->blocks
                                                             : ragged_k ? 1
                                                                        : p->batch;
    const int64_t k_rows = paged ? p->block_size : p->keys, dims[2] = {p->d, p->dv};
    *bytes = 0;
    for (int role = 0; role < TN_ATTENTION_ROLES; ++role) {
        const bool key_side = role == TN_ATTENTION_K || role == TN_ATTENTION_V ||
                              role == TN_ATTENTION_K_SCALE || role == TN_ATTENTION_V_SCALE;
        const bool mask = role == TN_ATTENTION_BIAS || role == TN_ATTENTION_MASK;
        int64_t extent[4] = {key_side ? k_outer : q_batch, key_side ? p->kv_heads : p->heads,
                             key_side ? k_rows : p->queries,
                             mask ? p->mask_keys
                                  : dims[role == TN_ATTENTION_V || role == TN_ATTENTION_O]};
        int32_t rank = 4;
        if (role == TN_ATTENTION_LSE || role == TN_ATTENTION_K_SCALE ||
            role == TN_ATTENTION_V_SCALE)
            rank = 3;
        if (role == TN_ATTENTION_ALIBI || role == TN_ATTENTION_SINKS ||
            role == TN_ATTENTION_BLOCK_TABLE)
            rank = 2;
        if (role == TN_ATTENTION_BLOCK_TABLE)
            extent[1] = p->max_blocks;
        if (role >= TN_ATTENTION_KEY_LENGTHS && role <= TN_ATTENTION_CU_K)
            rank = 1;
        if (rank <= 2)
            extent[0] = p->batch;
        *bytes += operand_bytes(&p->operand[role], rank, extent);
    }
}
