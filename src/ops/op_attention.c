/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an attention means (include/tenon/attention.h): shapes, raggedness, pages and masks brought
 * to a tn_attention_problem, and the check of lengths and tables before anything is written. Called
 * by the entry points; attention_walk.c resolves sequences and pages while running.
 */
#include "ops/operands.h"
#include "ops/ops.h"

#include <math.h>
#include <string.h>

/* Positions stay far from where a sum of a few of them could overflow. */
#define MAX_POSITION (INT64_C(1) << 60)

/* Largest head dimension that the API promises (DeepSeek's MLA: 512 + 64). */
#define MAX_HEAD_DIM 576

#define OPERAND(...) TN_OPERAND(tenon_attention_desc, __VA_ARGS__)
static const tn_operand operands[TN_ATTENTION_ROLES] = {
    [TN_ATTENTION_Q] = OPERAND(q, TN_DTYPES_FLOAT, 4, 4, 0),
    [TN_ATTENTION_K] = OPERAND(k, TN_DTYPES_CACHED, 4, 4, 0),
    [TN_ATTENTION_V] = OPERAND(v, TN_DTYPES_CACHED, 4, 4, 0),
    [TN_ATTENTION_O] = OPERAND(o, TN_DTYPES_FLOAT, 4, 4, TN_TENSOR_OUTPUT),
    [TN_ATTENTION_BIAS] = OPERAND(bias, TN_DTYPES_FLOAT, 0, 4, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_MASK] = OPERAND(mask, TN_DTYPES_BOOL, 0, 4, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_ALIBI] = OPERAND(alibi, TN_DTYPES_FLOAT, 0, 2, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_SINKS] = OPERAND(sinks, TN_DTYPES_FLOAT, 0, 1, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_KEY_LENGTHS] = OPERAND(key_lengths, TN_DTYPES_INDEX, 1, 1, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_QUERY_OFFSETS] =
        OPERAND(query_offsets, TN_DTYPES_INDEX, 1, 1, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_CU_Q] = OPERAND(cu_seqlens_q, TN_DTYPES_INDEX, 1, 1, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_CU_K] = OPERAND(cu_seqlens_k, TN_DTYPES_INDEX, 1, 1, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_BLOCK_TABLE] = OPERAND(block_table, TN_DTYPES_INDEX, 2, 2, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_K_SCALE] = OPERAND(k_scale, TN_DTYPES_FLOAT, 0, 3, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_V_SCALE] = OPERAND(v_scale, TN_DTYPES_FLOAT, 0, 3, TN_TENSOR_OPTIONAL),
    [TN_ATTENTION_LSE] = OPERAND(lse, TN_DTYPES_WIDE, 3, 3, TN_TENSOR_OPTIONAL | TN_TENSOR_OUTPUT),
};
static const tn_defaulted defaults[] = {TN_DEFAULTED(tenon_attention_desc, scale)};
static const uint16_t words[] = {
    TN_HALVES(tenon_attention_desc, causal, reserved),
    TN_HALVES(tenon_attention_desc, window.enabled, window.reserved),
    TN_WORD(tenon_attention_desc, window.left),
    TN_WORD(tenon_attention_desc, window.right),
    TN_WORD(tenon_attention_desc, softcap),
    TN_HALVES(tenon_attention_desc, compute, reserved2),
};
const tn_form tn_attention_form = {
    .bytes = sizeof(tenon_attention_desc),
    .workspace = offsetof(tenon_attention_desc, workspace),
    .operands = TN_COUNT(operands),
    .operand = operands,
    .defaulted = TN_COUNT(defaults),
    .defaults = defaults,
    .words = TN_COUNT(words),
    .word = words,
};

static bool given(const tn_attention_problem *p, tn_attention_role role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

static tenon_status check_attributes(tn_message *m, const tenon_attention_desc *d) {
    if (d->scale)
        TN_TRY(tn_check_finite(m, "scale", *d->scale));
    TN_TRY(tn_check_enum(m, "causal", (int)d->causal, TENON_CAUSAL_BOTTOM_RIGHT));
    TN_TRY(tn_check_enum(m, "reserved", d->reserved, 0));
    TN_TRY(tn_check_window(m, &d->window));
    TN_TRY(tn_check_not_negative(m, "softcap", d->softcap));
    TN_TRY(tn_check_enum(m, "compute", (int)d->compute, TENON_COMPUTE_FAST));
    return tn_check_enum(m, "reserved2", d->reserved2, 0);
}

/* cu_seqlens must hold at least its leading 0. */
static tenon_status check_offsets_shape(tn_message *m, const char *field, const tenon_tensor *t) {
    if (!tn_tensor_present(t) || t->shape[0] >= 1)
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s.shape[0] is 0, expected batch + 1", field);
}

/* How sequences are counted, and which of the ways to describe keys exclude each other. */
static tenon_status set_sequences(tn_message *m, const tenon_attention_desc *d,
                                  tn_attention_problem *p) {
    const bool ragged_q = tn_tensor_present(&d->cu_seqlens_q),
               ragged_k = tn_tensor_present(&d->cu_seqlens_k);
    const bool paged = tn_tensor_present(&d->block_table),
               lengths = tn_tensor_present(&d->key_lengths);
    TN_TRY(check_offsets_shape(m, "cu_seqlens_q", &d->cu_seqlens_q));
    TN_TRY(check_offsets_shape(m, "cu_seqlens_k", &d->cu_seqlens_k));
    p->batch = ragged_q ? d->cu_seqlens_q.shape[0] - 1 : d->q.shape[0];
    if (ragged_q)
        TN_TRY(tn_check_extent(m, "q", &d->q, 0, 1, "ragged queries lie in one batch entry"));
    if (ragged_k && (paged || lengths))
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s.rank is %d beside cu_seqlens_k, expected it to be absent: "
                       "cu_seqlens_k gives the lengths",
                       paged ? "block_table" : "key_lengths", paged ? 2 : 1);
    if (paged && !lengths)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "key_lengths is absent (rank is 0), expected it with block_table");
    if (ragged_k) {
        TN_TRY(tn_check_extent(m, "cu_seqlens_k", &d->cu_seqlens_k, 0, p->batch + 1, "batch + 1"));
        TN_TRY(tn_check_extent(m, "k", &d->k, 0, 1, "ragged keys lie in one batch entry"));
    } else if (paged) {
        TN_TRY(tn_check_extent(m, "block_table", &d->block_table, 0, p->batch, "batch"));
    } else {
        TN_TRY(tn_check_extent(m, "k", &d->k, 0, p->batch, "batch"));
    }
    if (lengths)
        TN_TRY(tn_check_extent(m, "key_lengths", &d->key_lengths, 0, p->batch, "batch"));
    if (tn_tensor_present(&d->query_offsets))
        TN_TRY(tn_check_extent(m, "query_offsets", &d->query_offsets, 0, p->batch, "batch"));
    return TENON_OK;
}

static tenon_status check_head_dim(tn_message *m, const char *field, const tenon_tensor *t) {
    if (t->shape[3] >= 1 && t->shape[3] <= MAX_HEAD_DIM)
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                   "%s.shape[3] is %lld, expected a head dimension of 1 to %d", field,
                   (long long)t->shape[3], MAX_HEAD_DIM);
}

/* Extents of q, k, v, o against each other. */
static tenon_status set_shapes(tn_message *m, const tenon_attention_desc *d,
                               tn_attention_problem *p) {
    p->heads = d->q.shape[1];
    p->queries = d->q.shape[2];
    p->d = d->q.shape[3];
    p->kv_heads = d->k.shape[1];
    p->keys = d->k.shape[2];
    p->dv = d->v.shape[3];
    TN_TRY(check_head_dim(m, "q", &d->q));
    TN_TRY(check_head_dim(m, "v", &d->v));
    TN_TRY(tn_check_extent(m, "k", &d->k, 3, p->d, "d of q"));
    TN_TRY(tn_check_blocks_along(m, "k", &d->k, 3, "d"));
    TN_TRY(tn_check_blocks_along(m, "v", &d->v, 3, "dv"));
    for (int32_t dim = 0; dim < 3; ++dim)
        TN_TRY(tn_check_extent(m, "v", &d->v, dim, d->k.shape[dim], "as k"));
    for (int32_t dim = 0; dim < 3; ++dim)
        TN_TRY(tn_check_extent(m, "o", &d->o, dim, d->q.shape[dim], "as q"));
    TN_TRY(tn_check_extent(m, "o", &d->o, 3, p->dv, "dv of v"));
    if (p->heads > 0 && (p->kv_heads == 0 || p->heads % p->kv_heads != 0))
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "k.shape[1] is %lld, expected a divisor of q's %lld heads",
                       (long long)p->kv_heads, (long long)p->heads);
    if (tn_tensor_present(&d->lse))
        TN_TRY(tn_check_shape(m, "lse", &d->lse, 3, d->q.shape, "batch, heads and queries of q"));
    if (!tn_tensor_present(&d->block_table))
        return TENON_OK;
    p->blocks = d->k.shape[0];
    p->block_size = d->k.shape[2];
    p->max_blocks = d->block_table.shape[1];
    if (p->block_size < 1)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "k.shape[2] is %lld, expected a block size of at least 1 beside block_table",
                       (long long)p->block_size);
    if (p->max_blocks > MAX_POSITION / p->block_size)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "block_table.shape[1] is %lld, expected at most 2^60 keys in blocks of %lld",
                       (long long)p->max_blocks, (long long)p->block_size);
    p->keys = p->max_blocks * p->block_size;
    return TENON_OK;
}

static void set_operand(tn_attention_problem *p, tn_attention_role role, const tenon_tensor *t,
                        const int64_t *stride, int32_t rank) {
    p->operand[role].dtype = t->dtype;
    for (int32_t d = 0; d < rank; ++d)
        p->operand[role].stride[d] = stride[d];
}

static tenon_status set_broadcast(tn_message *m, tn_attention_problem *p, tn_attention_role role,
                                  const tenon_tensor *t, int32_t rank, const int64_t *shape,
                                  const char *meaning) {
    int64_t stride[TENON_MAX_RANK] = {0};
    if (!tn_tensor_present(t))
        return TENON_OK;
    TN_TRY(tn_check_broadcast(m, operands[role].name, t, rank, shape, meaning, stride));
    set_operand(p, role, t, stride, rank);
    return TENON_OK;
}

/*
 * Bias and mask: (batch, heads, queries, keys). Where lengths are data (key_lengths, cu_seqlens_k)
 * the last extent may be any that covers the longest sequence, which is known when running only.
 */
static tenon_status set_mask(tn_message *m, const tenon_attention_desc *d, tn_attention_problem *p,
                             tn_attention_role role, const tenon_tensor *t) {
    const bool data_lengths =
        tn_tensor_present(&d->key_lengths) || tn_tensor_present(&d->cu_seqlens_k);
    const int64_t last = t->rank > 0 ? t->shape[t->rank - 1] : 1;
    const int64_t shape[4] = {d->q.shape[0], p->heads, p->queries,
                              data_lengths && last != 1 ? last : p->keys};
    if (!tn_tensor_present(t))
        return TENON_OK;
    TN_TRY(set_broadcast(m, p, role, t, 4, shape, "(batch, heads, queries, keys)"));
    if (last != 1 && last < p->mask_keys)
        p->mask_keys = last;
    return TENON_OK;
}

/* Scales: one value, (kv_heads), or broadcastable to k's first three dimensions. */
static tenon_status set_scale(tn_message *m, const tenon_attention_desc *d, tn_attention_problem *p,
                              tn_attention_role role, const tenon_tensor *t) {
    int64_t stride[1] = {0};
    if (t->rank != 1)
        return set_broadcast(m, p, role, t, 3, d->k.shape, "k's (batch or blocks, kv_heads, keys)");
    TN_TRY(tn_check_broadcast(m, operands[role].name, t, 1, &p->kv_heads, "(kv_heads)", stride));
    p->operand[role].dtype = t->dtype;
    p->operand[role].stride[1] = stride[0];
    return TENON_OK;
}

static void set_positions(const tenon_attention_desc *d, tn_attention_problem *p) {
    p->left = p->right = TN_UNLIMITED;
    if (d->window.enabled && d->window.left >= 0)
        p->left = d->window.left;
    if (d->window.enabled && d->window.right >= 0)
        p->right = d->window.right;
    if (d->causal)
        p->right = 0;
    if (p->left > 2 * MAX_POSITION)
        p->left = TN_UNLIMITED;
    if (p->right > 2 * MAX_POSITION)
        p->right = TN_UNLIMITED;
    p->align_bottom = d->causal != TENON_CAUSAL_TOP_LEFT;
}

static bool any_f64(const tenon_attention_desc *d) {
    return d->q.dtype == TENON_F64 || d->k.dtype == TENON_F64 || d->v.dtype == TENON_F64 ||
           d->o.dtype == TENON_F64;
}

/* Operands whose strides are the problem's as they are. */
static void set_plain(const tenon_attention_desc *d, tn_attention_problem *p) {
    static const tn_attention_role plain[] = {TN_ATTENTION_Q,           TN_ATTENTION_K,
                                              TN_ATTENTION_V,           TN_ATTENTION_O,
                                              TN_ATTENTION_KEY_LENGTHS, TN_ATTENTION_QUERY_OFFSETS,
                                              TN_ATTENTION_CU_Q,        TN_ATTENTION_CU_K,
                                              TN_ATTENTION_BLOCK_TABLE, TN_ATTENTION_LSE};
    for (int i = 0; i < TN_COUNT(plain); ++i) {
        const tenon_tensor *t = tn_tensor_in(&tn_attention_form, (int)plain[i], d);
        if (tn_tensor_present(t))
            set_operand(p, plain[i], t, t->stride, t->rank);
    }
}

tenon_status tn_attention_problem_make(tenon_attention_desc *d, tn_attention_problem *out,
                                       tn_message *m) {
    memset(out, 0, sizeof *out);
    TN_TRY(tn_operands_check(m, &tn_attention_form, d));
    TN_TRY(check_attributes(m, d));
    TN_TRY(set_shapes(m, d, out));
    TN_TRY(set_sequences(m, d, out));

    out->mask_keys = out->keys;
    TN_TRY(set_mask(m, d, out, TN_ATTENTION_BIAS, &d->bias));
    TN_TRY(set_mask(m, d, out, TN_ATTENTION_MASK, &d->mask));
    const int64_t per_head[2] = {out->batch, out->heads};
    TN_TRY(set_broadcast(m, out, TN_ATTENTION_ALIBI, &d->alibi, 2, per_head, "(batch, heads)"));
    TN_TRY(set_broadcast(m, out, TN_ATTENTION_SINKS, &d->sinks, 1, &per_head[1], "(heads)"));
    if (tn_tensor_present(&d->sinks)) { /* stride: (0, head) */
        out->operand[TN_ATTENTION_SINKS].stride[1] = out->operand[TN_ATTENTION_SINKS].stride[0];
        out->operand[TN_ATTENTION_SINKS].stride[0] = 0;
    }
    TN_TRY(set_scale(m, d, out, TN_ATTENTION_K_SCALE, &d->k_scale));
    TN_TRY(set_scale(m, d, out, TN_ATTENTION_V_SCALE, &d->v_scale));
    set_plain(d, out);
    set_positions(d, out);
    out->scale = d->scale ? *d->scale : 1 / sqrt((double)out->d);
    out->softcap = d->softcap;
    out->compute = d->compute;
    out->accumulate = any_f64(d) ? TENON_F64 : TENON_F32;
    return TENON_OK;
}

bool tn_attention_writes_nothing(const tn_attention_problem *p) {
    return p->batch == 0 || p->heads == 0 || p->queries == 0;
}

/* Entries that the length of sequence b covers. */
static tenon_status check_blocks(tn_message *m, const tn_attention_problem *p,
                                 void *const *addresses, int64_t b, int64_t keys) {
    const tn_attention_operand *table = &p->operand[TN_ATTENTION_BLOCK_TABLE];
    for (int64_t i = 0; i * p->block_size < keys; ++i) {
        const int64_t block = tn_index_get(addresses[TN_ATTENTION_BLOCK_TABLE], table->dtype,
                                           b * table->stride[0] + i * table->stride[1]);
        if (block < 0 || block >= p->blocks)
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "block_table[%lld, %lld] is %lld, expected 0 to %lld (the blocks of k)",
                           (long long)b, (long long)i, (long long)block, (long long)p->blocks - 1);
    }
    return TENON_OK;
}

/* The sentence for a sequence with more keys than there are, or than the masks cover. */
static tenon_status too_long(tn_message *m, const tn_attention_problem *p, int64_t b,
                             const tn_attention_sequence *sequence, int64_t most) {
    const bool offsets = given(p, TN_ATTENTION_CU_K);
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                   "%s[%lld] is %lld%s, expected 0 to %lld keys (%s)",
                   offsets ? "cu_seqlens_k" : "key_lengths", (long long)b + offsets,
                   (long long)(sequence->k_start + sequence->keys),
                   offsets ? ", the end of a sequence too long" : "", (long long)most,
                   most < p->keys ? "what bias or mask covers" : "what k holds");
}

tenon_status tn_attention_check_data(const tn_attention_problem *p, void *const *addresses,
                                     tn_message *m) {
    const tn_attention_operand *x = p->operand;
    const bool limited = (given(p, TN_ATTENTION_BIAS) && x[TN_ATTENTION_BIAS].stride[3] != 0) ||
                         (given(p, TN_ATTENTION_MASK) && x[TN_ATTENTION_MASK].stride[3] != 0);
    const bool data_lengths = given(p, TN_ATTENTION_CU_K) || given(p, TN_ATTENTION_KEY_LENGTHS);
    const int64_t most = limited && p->mask_keys < p->keys ? p->mask_keys : p->keys;
    if (given(p, TN_ATTENTION_CU_Q))
        TN_TRY(tn_check_offsets(m, "cu_seqlens_q", x[TN_ATTENTION_CU_Q].dtype,
                                addresses[TN_ATTENTION_CU_Q], x[TN_ATTENTION_CU_Q].stride[0],
                                p->batch, p->queries));
    if (given(p, TN_ATTENTION_CU_K))
        TN_TRY(tn_check_offsets(m, "cu_seqlens_k", x[TN_ATTENTION_CU_K].dtype,
                                addresses[TN_ATTENTION_CU_K], x[TN_ATTENTION_CU_K].stride[0],
                                p->batch, p->keys));
    for (int64_t b = 0; b < p->batch; ++b) {
        if (given(p, TN_ATTENTION_QUERY_OFFSETS)) {
            const tn_attention_operand *offsets = &x[TN_ATTENTION_QUERY_OFFSETS];
            const int64_t offset = tn_index_get(addresses[TN_ATTENTION_QUERY_OFFSETS],
                                                offsets->dtype, b * offsets->stride[0]);
            if (offset < -MAX_POSITION || offset > MAX_POSITION)
                return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                               "query_offsets[%lld] is %lld, expected -2^60 to 2^60", (long long)b,
                               (long long)offset);
        }
        if (!data_lengths)
            continue;
        tn_attention_sequence sequence;
        tn_attention_sequence_get(p, addresses, b, &sequence);
        if (sequence.keys < 0 || sequence.keys > most)
            return too_long(m, p, b, &sequence, most);
        if (p->block_size > 0)
            TN_TRY(check_blocks(m, p, addresses, b, sequence.keys));
    }
    return TENON_OK;
}
