/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an append to a key-value cache means (tenon_kv_append in include/tenon/attention.h): shapes brought to a tn_append_problem, and the
 * check that every new row has its place before any is written. Called by the entry points.
 */
#include "ops/ops.h"
#include "ops/tensor_check.h"

#include <string.h>

/* As in op_attention.c: positions stay far from overflow. */
#define MAX_POSITION (INT64_C(1) << 60)

static const char *const names[TN_APPEND_ROLES] = {
    "k", "v", "k_cache", "v_cache", "positions", "cu_seqlens", "block_table", "k_scale", "v_scale"};

static void operands_of(tenon_kv_append_desc *d, tenon_tensor *operand[TN_APPEND_ROLES]) {
    operand[TN_APPEND_K] = &d->k;
    operand[TN_APPEND_V] = &d->v;
    operand[TN_APPEND_K_CACHE] = &d->k_cache;
    operand[TN_APPEND_V_CACHE] = &d->v_cache;
    operand[TN_APPEND_POSITIONS] = &d->positions;
    operand[TN_APPEND_CU] = &d->cu_seqlens;
    operand[TN_APPEND_BLOCK_TABLE] = &d->block_table;
    operand[TN_APPEND_K_SCALE] = &d->k_scale;
    operand[TN_APPEND_V_SCALE] = &d->v_scale;
}

static tenon_status read_desc(const tn_check *c, const void *desc, tenon_kv_append_desc *d) {
    return tn_check_struct(c, desc, d, sizeof *d, sizeof *d);
}

static tenon_status check_tensors(const tn_check *c, tenon_kv_append_desc *d) {
    enum { CACHE = TN_DTYPES_FLOAT | TN_DTYPES_F8 | 1 << TENON_S8 };
    static const struct {
        tn_dtypes dtypes;
        int32_t min_rank, max_rank;
        unsigned flags;
    } rule[TN_APPEND_ROLES] = {
        [TN_APPEND_K] = {TN_DTYPES_FLOAT, 4, 4, 0},
        [TN_APPEND_V] = {TN_DTYPES_FLOAT, 4, 4, TN_TENSOR_OPTIONAL},
        [TN_APPEND_K_CACHE] = {CACHE, 4, 4, TN_TENSOR_OUTPUT},
        [TN_APPEND_V_CACHE] = {CACHE, 4, 4, TN_TENSOR_OUTPUT | TN_TENSOR_OPTIONAL},
        [TN_APPEND_POSITIONS] = {TN_DTYPES_INDEX, 1, 1, 0},
        [TN_APPEND_CU] = {TN_DTYPES_INDEX, 1, 1, TN_TENSOR_OPTIONAL},
        [TN_APPEND_BLOCK_TABLE] = {1 << TENON_S32, 2, 2, TN_TENSOR_OPTIONAL},
        [TN_APPEND_K_SCALE] = {TN_DTYPES_FLOAT, 0, 3, TN_TENSOR_OPTIONAL},
        [TN_APPEND_V_SCALE] = {TN_DTYPES_FLOAT, 0, 3, TN_TENSOR_OPTIONAL},
    };
    tenon_tensor *operand[TN_APPEND_ROLES];
    operands_of(d, operand);
    for (int role = 0; role < TN_APPEND_ROLES; ++role)
        TN_TRY(tn_check_tensor(c, names[role], operand[role], rule[role].dtypes,
                               rule[role].min_rank, rule[role].max_rank, rule[role].flags));
    if (tn_tensor_present(&d->v) == tn_tensor_present(&d->v_cache))
        return TENON_OK;
    return tn_fail(c->message, TENON_ERROR_INVALID_ARGUMENT,
                   "%s: %s is absent (rank is 0), expected it with %s", c->op,
                   tn_tensor_present(&d->v) ? "v_cache" : "v",
                   tn_tensor_present(&d->v) ? "v" : "v_cache");
}

/* Rows, sequences, and where a sequence's rows may lie. */
static tenon_status set_shapes(const tn_check *c, const tenon_kv_append_desc *d,
                               tn_append_problem *p) {
    const bool ragged = tn_tensor_present(&d->cu_seqlens),
               paged = tn_tensor_present(&d->block_table);
    p->batch = d->positions.shape[0];
    p->kv_heads = d->k.shape[1];
    p->rows = d->k.shape[2];
    p->d = d->k.shape[3];
    p->capacity = d->k_cache.shape[2];
    if (ragged)
        TN_TRY(tn_check_extent(c, "cu_seqlens", &d->cu_seqlens, 0, p->batch + 1,
                               "the length of positions, + 1"));
    TN_TRY(
        tn_check_extent(c, "k", &d->k, 0, ragged ? 1 : p->batch,
                        ragged ? "ragged rows lie in one batch entry" : "the length of positions"));
    TN_TRY(tn_check_extent(c, "k_cache", &d->k_cache, 1, p->kv_heads, "kv_heads of k"));
    TN_TRY(tn_check_extent(c, "k_cache", &d->k_cache, 3, p->d, "d of k"));
    if (tn_tensor_present(&d->v)) {
        p->dv = d->v.shape[3];
        for (int32_t dim = 0; dim < 3; ++dim) {
            TN_TRY(tn_check_extent(c, "v", &d->v, dim, d->k.shape[dim], "as k"));
            TN_TRY(tn_check_extent(c, "v_cache", &d->v_cache, dim, d->k_cache.shape[dim],
                                   "as k_cache"));
        }
        TN_TRY(tn_check_extent(c, "v_cache", &d->v_cache, 3, p->dv, "dv of v"));
    }
    if (!paged)
        return tn_check_extent(c, "k_cache", &d->k_cache, 0, p->batch, "the length of positions");
    TN_TRY(
        tn_check_extent(c, "block_table", &d->block_table, 0, p->batch, "the length of positions"));
    p->blocks = d->k_cache.shape[0];
    p->block_size = d->k_cache.shape[2];
    p->max_blocks = d->block_table.shape[1];
    if (p->block_size < 1)
        return tn_fail(
            c->message, TENON_ERROR_INVALID_ARGUMENT,
            "%s: k_cache.shape[2] is %lld, expected a block size of at least 1 beside block_table",
            c->op, (long long)p->block_size);
    if (p->max_blocks > MAX_POSITION / p->block_size)
        return tn_fail(
            c->message, TENON_ERROR_INVALID_ARGUMENT,
            "%s: block_table.shape[1] is %lld, expected at most 2^60 rows in blocks of %lld", c->op,
            (long long)p->max_blocks, (long long)p->block_size);
    p->capacity = p->max_blocks * p->block_size;
    return TENON_OK;
}

/* One value, (kv_heads), or broadcastable to the cache's first three dimensions. */
static tenon_status set_scale(const tn_check *c, tn_append_problem *p, tn_append_role role,
                              const tenon_tensor *t, const tenon_tensor *cache) {
    tn_attention_operand *x = &p->operand[role];
    int64_t stride[TENON_MAX_RANK] = {0};
    if (!tn_tensor_present(t))
        return TENON_OK;
    x->dtype = t->dtype;
    if (t->rank == 1) {
        TN_TRY(tn_check_broadcast(c, names[role], t, 1, &p->kv_heads, "(kv_heads)", stride));
        x->stride[1] = stride[0];
        return TENON_OK;
    }
    TN_TRY(tn_check_broadcast(c, names[role], t, 3, cache->shape,
                              "the cache's (batch or blocks, kv_heads, rows)", stride));
    memcpy(x->stride, stride, 3 * sizeof *stride);
    return TENON_OK;
}

tenon_status tn_append_problem_make(const tenon_kv_append_desc *desc, tn_append_problem *out,
                                    tn_message *m) {
    const tn_check c = {"kv_append", m};
    tenon_kv_append_desc d;
    tenon_tensor *operand[TN_APPEND_ROLES];
    memset(out, 0, sizeof *out);
    TN_TRY(read_desc(&c, desc, &d));
    TN_TRY(check_tensors(&c, &d));
    TN_TRY(set_shapes(&c, &d, out));
    operands_of(&d, operand);
    for (int role = 0; role <= TN_APPEND_BLOCK_TABLE; ++role) {
        if (!tn_tensor_present(operand[role]))
            continue;
        out->operand[role].dtype = operand[role]->dtype;
        memcpy(out->operand[role].stride, operand[role]->stride,
               (size_t)operand[role]->rank * sizeof(int64_t));
    }
    TN_TRY(set_scale(&c, out, TN_APPEND_K_SCALE, &d.k_scale, &d.k_cache));
    return set_scale(&c, out, TN_APPEND_V_SCALE, &d.v_scale,
                     tn_tensor_present(&d.v_cache) ? &d.v_cache : &d.k_cache);
}

tenon_status tn_append_addresses(const tenon_kv_append_desc *desc, const tn_append_problem *p,
                                 void *addresses[TN_MAX_ADDRESSES], tn_message *m) {
    const tn_check c = {"kv_append", m};
    tenon_kv_append_desc d;
    tenon_tensor *operand[TN_APPEND_ROLES];
    (void)p;
    TN_TRY(read_desc(&c, desc, &d));
    operands_of(&d, operand);
    for (int role = 0; role < TN_APPEND_ROLES; ++role) {
        tn_tensor_fill_strides(operand[role]);
        TN_TRY(tn_check_address(&c, names[role], operand[role], &addresses[role]));
    }
    for (int role = 0; role < TN_APPEND_ROLES; ++role) {
        if (role != TN_APPEND_K_CACHE)
            TN_TRY(tn_check_apart(&c, "k_cache", &d.k_cache, addresses[TN_APPEND_K_CACHE],
                                  names[role], operand[role], addresses[role], false));
        if (role != TN_APPEND_K_CACHE && role != TN_APPEND_V_CACHE)
            TN_TRY(tn_check_apart(&c, "v_cache", &d.v_cache, addresses[TN_APPEND_V_CACHE],
                                  names[role], operand[role], addresses[role], false));
    }
    return TENON_OK;
}

static int64_t index_of(const tn_append_problem *p, void *const *addresses, tn_append_role role,
                        int64_t i) {
    return tn_index_get(addresses[role], p->operand[role].dtype, i * p->operand[role].stride[0]);
}

tenon_status tn_append_check_data(const tn_append_problem *p, void *const *addresses,
                                  tn_message *m) {
    const tn_check c = {"kv_append", m};
    const tn_attention_operand *x = p->operand;
    const bool ragged = x[TN_APPEND_CU].dtype != TENON_DTYPE_NONE;
    const int64_t *stride = x[TN_APPEND_BLOCK_TABLE].stride;
    const int32_t *table = addresses[TN_APPEND_BLOCK_TABLE];
    if (ragged)
        TN_TRY(tn_check_offsets(&c, "cu_seqlens", x[TN_APPEND_CU].dtype, addresses[TN_APPEND_CU],
                                x[TN_APPEND_CU].stride[0], p->batch, p->rows));
    for (int64_t b = 0; b < p->batch; ++b) {
        const int64_t first = index_of(p, addresses, TN_APPEND_POSITIONS, b);
        int64_t rows = p->rows;
        if (ragged)
            rows = index_of(p, addresses, TN_APPEND_CU, b + 1) -
                   index_of(p, addresses, TN_APPEND_CU, b);
        if (first < 0 || rows > p->capacity || first > p->capacity - rows)
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "kv_append: positions[%lld] is %lld with %lld new rows, expected them "
                           "within 0 to %lld",
                           (long long)b, (long long)first, (long long)rows, (long long)p->capacity);
        if (p->block_size == 0 || rows == 0)
            continue;
        for (int64_t i = first / p->block_size; i <= (first + rows - 1) / p->block_size; ++i) {
            const int32_t block = table[b * stride[0] + i * stride[1]];
            if (block < 0 || block >= p->blocks)
                return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                               "kv_append: block_table[%lld, %lld] is %d, expected 0 to %lld (the "
                               "blocks of k_cache)",
                               (long long)b, (long long)i, (int)block, (long long)p->blocks - 1);
        }
    }
    return TENON_OK;
}

/* One conversion for each element; bytes of the rows that are read and written, not of the whole cache. */
void tn_append_cost(const tn_append_problem *p, double *flops, double *bytes) {
    const bool ragged = p->operand[TN_APPEND_CU].dtype != TENON_DTYPE_NONE;
    const double rows = (double)p->kv_heads * (double)p->rows * (ragged ? 1 : (double)p->batch);
    *flops = rows * (double)(p->d + p->dv);
    *bytes = 0;
    for (int role = TN_APPEND_K; role <= TN_APPEND_V_CACHE; ++role) {
        const bool value = role == TN_APPEND_V || role == TN_APPEND_V_CACHE;
        const tn_dtype_info *type = tn_dtype_find(p->operand[role].dtype);
        if (type)
            *bytes += rows * (double)(value ? p->dv : p->d) * type->bytes;
    }
}
