/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolves the raggedness of an attention: which rows of q and of the caches belong to sequence b, and
 * where its queries stand among its keys. Called by validation (after the lengths themselves have been
 * checked) and by every host backend, so that all of them mean the same by a length, a table and an alignment.
 */
#include "ops/index.h"
#include "ops/problem.h"

/* Element `b` (and `c` along a second dimension) of an index operand that is present. */
static int64_t index_at(const tn_attention_problem *p, void *const *addresses, int role, int64_t b,
                        int64_t c)
{
    const tn_attention_operand *o = &p->operand[role];
    return tn_index_get(addresses[role], o->dtype, b * o->stride[0] + c * o->stride[1]);
}

static int present(const tn_attention_problem *p, int role)
{
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

void tn_attention_sequence_get(const tn_attention_problem *p, void *const *addresses, int64_t b,
                               tn_attention_sequence *out)
{
    if (present(p, TN_ATTENTION_CU_Q)) {
        out->q_batch = 0;
        out->q_start = index_at(p, addresses, TN_ATTENTION_CU_Q, b, 0);
        out->queries = index_at(p, addresses, TN_ATTENTION_CU_Q, b + 1, 0) - out->q_start;
    } else {
        out->q_batch = b;
        out->q_start = 0;
        out->queries = p->queries;
    }

    if (present(p, TN_ATTENTION_CU_K)) {
        out->k_batch = 0;
        out->k_start = index_at(p, addresses, TN_ATTENTION_CU_K, b, 0);
        out->keys = index_at(p, addresses, TN_ATTENTION_CU_K, b + 1, 0) - out->k_start;
    } else {
        out->k_batch = b;
        out->k_start = 0;
        out->keys = present(p, TN_ATTENTION_KEY_LENGTHS)
                        ? index_at(p, addresses, TN_ATTENTION_KEY_LENGTHS, b, 0)
                        : p->keys;
    }

    if (present(p, TN_ATTENTION_QUERY_OFFSETS))
        out->offset = index_at(p, addresses, TN_ATTENTION_QUERY_OFFSETS, b, 0);
    else
        out->offset = p->align_bottom ? out->keys - out->queries : 0;
}

void tn_attention_key_row(const tn_attention_problem *p, void *const *addresses,
                          const tn_attention_sequence *s, int64_t b, int64_t j, int64_t *outer,
                          int64_t *row)
{
    if (p->block_size > 0) {
        *outer = index_at(p, addresses, TN_ATTENTION_BLOCK_TABLE, b, j / p->block_size);
        *row = j % p->block_size;
    } else {
        *outer = s->k_batch;
        *row = s->k_start + j;
    }
}
