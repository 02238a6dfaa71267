/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an append to a key-value cache means (tenon_kv_append in include/tenon/attention.h): shapes
 * brought to a tn_append_problem, and the check that every new row has its place before any is
 * written. Called by the entry points.
 */
#include "ops/operands.h"
#include "ops/ops.h"

#include <string.h>

/* As in op_attention.c: positions stay far from overflow. */
#define MAX_POSITION (INT64_C(1) << 60)

#define OPERAND(...) TN_OPERAND(tenon_kv_append_desc, __VA_ARGS__)
static const tn_operand operands[TN_APPEND_ROLES] = {
    [TN_APPEND_K] = OPERAND(k, TN_DTYPES_FLOAT, 4, 4, 0),
    [TN_APPEND_V] = OPERAND(v, TN_DTYPES_FLOAT, 4, 4, TN_TENSOR_OPTIONAL),
    [TN_APPEND_K_CACHE] = OPERAND(k_cache, TN_DTYPES_CACHED, 4, 4, TN_TENSOR_OUTPUT),
    [TN_APPEND_V_CACHE] =
        OPERAND(v_cache, TN_DTYPES_CACHED, 4, 4, TN_TENSOR_OUTPUT | TN_TENSOR_OPTIONAL),
    [TN_APPEND_POSITIONS] = OPERAND(positions, TN_DTYPES_INDEX, 1, 1, 0),
    [TN_APPEND_CU] = OPERAND(cu_seqlens, TN_DTYPES_INDEX, 1, 1, TN_TENSOR_OPTIONAL),
    [TN_APPEND_BLOCK_TABLE] = OPERAND(block_table, TN_DTYPES_INDEX, 2, 2, TN_TENSOR_OPTIONAL),
    [TN_APPEND_K_SCALE] = OPERAND(k_scale, TN_DTYPES_FLOAT, 0, 3, TN_TENSOR_OPTIONAL),
    [TN_APPEND_V_SCALE] = OPERAND(v_scale, TN_DTYPES_FLOAT, 0, 3, TN_TENSOR_OPTIONAL),
};
const tn_form tn_append_form = {
    .bytes = sizeof(tenon_kv_append_desc),
    .workspace = offsetof(tenon_kv_append_desc, workspace),
    .operands = TN_COUNT(operands),
    .operand = operands,
};

static tenon_status check_tensors(tn_message *m, tenon_kv_append_desc *d) {
    TN_TRY(tn_operands_check(m, &tn_append_form, d));
    if (tn_tensor_present(&d->v) == tn_tensor_present(&d->v_cache))
        return TENON_OK;
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s is absent (rank is 0), expected it with %s",
                   tn_tensor_present(&d->v) ? "v_cache" : "v",
                   tn_tensor_present(&d->v) ? "v" : "v_cache");
}

/* Rows, sequences, and where a sequence's rows may lie. */
static tenon_status set_shapes(tn_message *m, const tenon_kv_append_desc *d, tn_append_problem *p) {
    const bool ragged = tn_tensor_present(&d->cu_seqlens),
               paged = tn_tensor_present(&d->block_table);
    p->batch = d->positions.shape[0];
    p->kv_heads = d->k.shape[1];
    p->rows = d->k.shape[2];
    p->d = d->k.shape[3];
    p->capacity = d->k_cache.shape[2];
    if (ragged)
        TN_TRY(tn_check_extent(m, "cu_seqlens", &d->cu_seqlens, 0, p->batch + 1,
                               "the length of positions, + 1"));
    TN_TRY(
        tn_check_extent(m, "k", &d->k, 0, ragged ? 1 : p->batch,
                        ragged ? "ragged rows lie in one batch entry" : "the length of positions"));
    TN_TRY(tn_check_extent(m, "k_cache", &d->k_cache, 1, p->kv_heads, "kv_heads of k"));
    TN_TRY(tn_check_extent(m, "k_cache", &d->k_cache, 3, p->d, "d of k"));
    TN_TRY(tn_check_blocks_along(m, "k_cache", &d->k_cache, 3, "d"));
    if (tn_tensor_present(&d->v)) {
        p->dv = d->v.shape[3];
        for (int32_t dim = 0; dim < 3; ++dim) {
            TN_TRY(tn_check_extent(m, "v", &d->v, dim, d->k.shape[dim], "as k"));
            TN_TRY(tn_check_extent(m, "v_cache", &d->v_cache, dim, d->k_cache.shape[dim],
                                   "as k_cache"));
        }
        TN_TRY(tn_check_extent(m, "v_cache", &d->v_cache, 3, p->dv, "dv of v"));
        TN_TRY(tn_check_blocks_along(m, "v_cache", &d->v_cache, 3, "dv"));
    }
    if (!paged)
        return tn_check_extent(m, "k_cache", &d->k_cache, 0, p->batch, "the length of positions");
    TN_TRY(
        tn_check_extent(m, "block_table", &d->block_table, 0, p->batch, "the length of positions"));
    p->blocks = d->k_cache.shape[0];
    p->block_size = d->k_cache.shape[2];
    p->max_blocks = d->block_table.shape[1];
    if (p->block_size < 1)
        return tn_fail(
            m, TENON_ERROR_INVALID_ARGUMENT,
            "k_cache.shape[2] is %lld, expected a block size of at least 1 beside block_table",
            (long long)p->block_size);
    if (p->max_blocks > MAX_POSITION / p->block_size)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "block_table.shape[1] is %lld, expected at most 2^60 rows in blocks of %lld",
                       (long long)p->max_blocks, (long long)p->block_size);
    p->capacity = p->max_blocks * p->block_size;
    return TENON_OK;
}

/* One value, (kv_heads), or broadcastable to the cache's first three dimensions. */
static tenon_status set_scale(tn_message *m, tn_append_problem *p, tn_append_role role,
                              const tenon_tensor *t, const tenon_tensor *cache) {
    tn_attention_operand *x = &p->operand[role];
    int64_t stride[TENON_MAX_RANK] = {0};
    if (!tn_tensor_present(t))
        return TENON_OK;
    x->dtype = t->dtype;
    if (t->rank == 1) {
        TN_TRY(
            tn_check_broadcast(m, operands[role].name, t, 1, &p->kv_heads, "(kv_heads)", stride));
        x->stride[1] = stride[0];
        return TENON_OK;
    }
    TN_TRY(tn_check_broadcast(m, operands[role].name, t, 3, cache->shape,
                              "the cache's (batch or blocks, kv_heads, rows)", stride));
    memcpy(x->stride, stride, 3 * sizeof *stride);
    return TENON_OK;
}

tenon_status tn_append_problem_make(tenon_kv_append_desc *d, tn_append_problem *out,
                                    tn_message *m) {
    memset(out, 0, sizeof *out);
    TN_TRY(check_tensors(m, d));
    TN_TRY(set_shapes(m, d, out));
    for (int role = 0; role <= TN_APPEND_BLOCK_TABLE; ++role) {
        const tenon_tensor *t = tn_tensor_in(&tn_append_form, role, d);
        if (!tn_tensor_present(t))
            continue;
        out->operand[role].dtype = t->dtype;
        memcpy(out->operand[role].stride, t->stride, (size_t)t->rank * sizeof *t->stride);
    }
    TN_TRY(set_scale(m, out, TN_APPEND_K_SCALE, &d->k_scale, &d->k_cache));
    return set_scale(m, out, TN_APPEND_V_SCALE, &d->v_scale,
                     tn_tensor_present(&d->v_cache) ? &d->v_cache : &d->k_cache);
}

bool tn_append_writes_nothing(const tn_append_problem *p) {
    return p->batch == 0 || p->kv_heads == 0 || p->rows == 0;
}

static int64_t index_of(const tn_append_problem *p, void *const *addresses, tn_append_role role,
                        int64_t i) {
    return tn_index_get(addresses[role], p->operand[role].dtype, i * p->operand[role].stride[0]);
}

/* How many new rows sequence b has. */
static int64_t count_of(const tn_append_problem *p, void *const *addresses, int64_t b) {
    if (p->operand[TN_APPEND_CU].dtype == TENON_DTYPE_NONE)
        return p->rows;
    return index_of(p, addresses, TN_APPEND_CU, b + 1) - index_of(p, addresses, TN_APPEND_CU, b);
}

/* Rows `first` to `end` of a sequence's cache are new. */
typedef struct new_rows {
    int64_t first, end;
} new_rows;

static new_rows rows_at(const tn_append_problem *p, void *const *addresses, int64_t b) {
    const int64_t first = index_of(p, addresses, TN_APPEND_POSITIONS, b);
    return (new_rows){first, first + count_of(p, addresses, b)};
}

/*
 * An entry of the block table that new rows go to, and which rows of its block they are. Zeros
 * stand before the first.
 */
typedef struct entry {
    bool started;
    int64_t b, i;
    new_rows sequence;
    int64_t block, from, to;
} entry;

static bool next_entry(const tn_append_problem *p, void *const *addresses, entry *e) {
    const tn_attention_operand *table = &p->operand[TN_APPEND_BLOCK_TABLE];
    if (e->started && (e->i + 1) * p->block_size < e->sequence.end) {
        ++e->i;
    } else {
        e->b += e->started;
        e->started = true;
        for (;; ++e->b) {
            if (e->b == p->batch)
                return false;
            e->sequence = rows_at(p, addresses, e->b);
            if (e->sequence.first < e->sequence.end)
                break;
        }
        e->i = e->sequence.first / p->block_size;
    }
    const int64_t start = e->i * p->block_size;
    e->block = tn_index_get(addresses[TN_APPEND_BLOCK_TABLE], table->dtype,
                            e->b * table->stride[0] + e->i * table->stride[1]);
    e->from = e->sequence.first > start ? e->sequence.first - start : 0;
    e->to = e->sequence.end - start < p->block_size ? e->sequence.end - start : p->block_size;
    return true;
}

/*
 * A block that an entry names is named by one before it too: an error if they write the same rows.
 */
static tenon_status check_shared(tn_message *m, const tn_append_problem *p, void *const *addresses,
                                 const entry *e) {
    for (entry other = {0}; next_entry(p, addresses, &other);) {
        if (other.b == e->b && other.i == e->i)
            break;
        if (other.block == e->block && other.from < e->to && e->from < other.to)
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "block_table[%lld, %lld] is %lld, which block_table[%lld, %lld] is "
                           "too, and new rows go to both, expected rows of their own",
                           (long long)e->b, (long long)e->i, (long long)e->block,
                           (long long)other.b, (long long)other.i);
    }
    return TENON_OK;
}

/*
 * Entries within the cache, and no row of it written twice. Blocks are ticked off in a map of bits,
 * as many at a time as fit it.
 */
static tenon_status check_blocks(tn_message *m, const tn_append_problem *p,
                                 void *const *addresses) {
    enum { BLOCKS = 1 << 16 }; /* 8 KB of stack; a cache of a million tokens in blocks of 16 */
    uint64_t map[BLOCKS / 64];
    int64_t low = INT64_MAX, high = -1;
    for (entry e = {0}; next_entry(p, addresses, &e);) {
        if (e.block < 0 || e.block >= p->blocks)
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "block_table[%lld, %lld] is %lld, expected 0 to %lld (the blocks of "
                           "k_cache)",
                           (long long)e.b, (long long)e.i, (long long)e.block,
                           (long long)p->blocks - 1);
        low = e.block < low ? e.block : low;
        high = e.block > high ? e.block : high;
    }
    for (; low <= high; low += BLOCKS) {
        const int64_t count = high - low < BLOCKS ? high - low + 1 : BLOCKS;
        memset(map, 0, (size_t)(count + 63) / 64 * sizeof *map);
        for (entry e = {0}; next_entry(p, addresses, &e);) {
            const uint64_t at = (uint64_t)(e.block - low), bit = UINT64_C(1) << at % 64;
            if (at >= (uint64_t)count) /* below `low` too */
                continue;
            if (map[at / 64] & bit)
                TN_TRY(check_shared(m, p, addresses, &e));
            map[at / 64] |= bit;
        }
    }
    return TENON_OK;
}

tenon_status tn_append_check_data(const tn_append_problem *p, void *const *addresses,
                                  tn_message *m) {
    const tn_attention_operand *cu = &p->operand[TN_APPEND_CU];
    if (cu->dtype != TENON_DTYPE_NONE)
        TN_TRY(tn_check_offsets(m, "cu_seqlens", cu->dtype, addresses[TN_APPEND_CU], cu->stride[0],
                                p->batch, p->rows));
    for (int64_t b = 0; b < p->batch; ++b) {
        const int64_t first = index_of(p, addresses, TN_APPEND_POSITIONS, b),
                      rows = count_of(p, addresses, b);
        if (first < 0 || rows > p->capacity || first > p->capacity - rows)
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                           "positions[%lld] is %lld with %lld new rows, expected them "
                           "within 0 to %lld",
                           (long long)b, (long long)first, (long long)rows, (long long)p->capacity);
    }
    return p->block_size > 0 ? check_blocks(m, p, addresses) : TENON_OK;
}

/*
 * One conversion for each element; bytes of the rows that are read and written, not of the whole
 * cache.
 */
void tn_append_cost(const tn_append_problem *p, double *flops, double *bytes) {
    const bool ragged = p->operand[TN_APPEND_CU].dtype != TENON_DTYPE_NONE;
    const double rows = (double)p->kv_heads * (double)p->rows * (ragged ? 1 : (double)p->batch);
    *flops = rows * (double)(p->d + p->dv);
    *bytes = 0;
    for (int role = TN_APPEND_K; role <= TN_APPEND_V_CACHE; ++role) {
        const bool value = role == TN_APPEND_V || role == TN_APPEND_V_CACHE;
        const tn_dtype_info *type = tn_dtype_find(p->operand[role].dtype);
        if (type)
            *bytes += rows * (double)(value ? p->dv : p->d) * type->bytes / type->elements;
    }
}
