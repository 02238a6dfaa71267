/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention.cuh: what all attention kernels share: sequences with their raggedness resolved, rows,
 * which keys a row sees, and what becomes of a score.
 *
 * A row is one query of one of the heads that share a kv head: row r is query r / group of head
 * kv_head * group + r mod group.
 */
#ifndef TN_ATTENTION_CUH
#define TN_ATTENTION_CUH

#include "../cu_attention.h"
#include "math.cuh"

enum {
    Q,
    K,
    VALUES,
    O,
    BIAS,
    MASK,
    ALIBI,
    SINKS,
    KEY_LENGTHS,
    QUERY_OFFSETS,
    CU_Q,
    CU_K,
    BLOCK_TABLE,
    K_SCALE,
    V_SCALE,
    LSE
};

TN_DEVICE bool present(const tn_cu_attention &a, int role) {
    return a.type[role] != 0;
}

TN_DEVICE char *place(const tn_cu_attention &a, int role, int64_t i0, int64_t i1, int64_t i2) {
    return (char *)a.at[role] + i0 * a.stride[role][0] + i1 * a.stride[role][1] +
           i2 * a.stride[role][2];
}

TN_DEVICE int64_t index_at(const tn_cu_attention &a, int role, int64_t i) {
    return get_index((const char *)a.at[role] + i * a.stride[role][0], a.type[role]);
}

/* n / d of numbers that are not negative, by 32 bits where they are that small. */
TN_DEVICE int64_t quotient(int64_t n, int64_t d) {
    return (n | d) >> 32 ? n / d : (int64_t)((uint32_t)n / (uint32_t)d);
}

/* Up to `rows` rows, from first_row on, of kv head kv_head of sequence b. */
struct unit {
    int64_t b, kv_head, group;
    int64_t q_batch, q_start, queries, k_batch, k_start, keys, offset;
    int64_t first_row;
    int rows; /* 0: there is no such unit */
};

/* Unit `index` of the launch, units of `height` rows. Whole warps. */
TN_DEVICE unit unit_of(const tn_cu_attention &a, int64_t index, int height) {
    unit u;
    int64_t tile = index % a.tiles;
    u.group = a.heads / a.kv_heads;
    u.kv_head = index / a.tiles % a.kv_heads;
    u.b = index / a.tiles / a.kv_heads;
    u.rows = 0;
    if (present(a, CU_Q)) {
        u.b = find_group(a.batch, tile, [&](int64_t b) {
            return ceil_div((index_at(a, CU_Q, b + 1) - index_at(a, CU_Q, b)) * u.group, height);
        });
        if (u.b == a.batch)
            return u;
    }
    u.q_batch = u.k_batch = u.b;
    u.q_start = u.k_start = u.offset = 0;
    u.queries = a.queries;
    u.keys = a.keys;
    if (present(a, CU_Q)) {
        u.q_batch = 0;
        u.q_start = index_at(a, CU_Q, u.b);
        u.queries = index_at(a, CU_Q, u.b + 1) - u.q_start;
    }
    if (present(a, CU_K)) {
        u.k_batch = 0;
        u.k_start = index_at(a, CU_K, u.b);
        u.keys = index_at(a, CU_K, u.b + 1) - u.k_start;
    } else if (present(a, KEY_LENGTHS)) {
        u.keys = index_at(a, KEY_LENGTHS, u.b);
    }
    if (present(a, QUERY_OFFSETS))
        u.offset = index_at(a, QUERY_OFFSETS, u.b);
    else if (a.align_bottom)
        u.offset = u.keys - u.queries;
    u.first_row = tile * height;
    u.rows = (int)max_of(0, min_of(height, u.queries * u.group - u.first_row));
    return u;
}

/* One row: the keys [low, high) that its position lets it see, and where its operands lie. */
struct row {
    int64_t query, head, position, low, high;
};

TN_DEVICE row row_of(const tn_cu_attention &a, const unit &u, int r) {
    row x;
    x.query = quotient(u.first_row + r, u.group);
    x.head = u.kv_head * u.group + (u.first_row + r - x.query * u.group);
    x.position = u.offset + x.query;
    x.low = 0;
    x.high = u.keys;
    if (a.left != INT64_MAX && a.left < x.position)
        x.low = min_of(x.position - a.left, u.keys);
    if (a.right != INT64_MAX && a.right < u.keys - 1 - x.position)
        x.high = max_of(0, x.position + a.right + 1);
    return x;
}

/* Where key j lies in k, v and their scales. */
TN_DEVICE void key_place(const tn_cu_attention &a, const unit &u, int64_t j, int64_t &outer,
                         int64_t &line) {
    outer = u.k_batch;
    line = u.k_start + j;
    if (a.block_size > 0) {
        const int64_t page = quotient(j, a.block_size);
        outer = get_index((const char *)a.at[BLOCK_TABLE] + u.b * a.stride[BLOCK_TABLE][0] +
                              page * a.stride[BLOCK_TABLE][1],
                          a.type[BLOCK_TABLE]);
        line = j - page * a.block_size;
    }
}

/* Soft cap, ALiBi, bias and masks of a score: -inf if the row does not see the key. */
template <class E>
TN_DEVICE E seen(const tn_cu_attention &a, const unit &u, const row &x, int64_t key, E score,
                 E slope) {
    if (key < x.low || key >= x.high)
        return (E)-TN_INFINITY;
    if (a.softcap > 0)
        score = (E)a.softcap * tanh_of(score / (E)a.softcap);
    if (present(a, ALIBI)) {
        /* from the start of a group of 16 keys, as the CPU backend rounds the distance */
        const int64_t in_group = key & 15;
        const E distance = (E)(x.position - (key - in_group)) - (E)in_group;
        score = fma(-slope, distance < 0 ? -distance : distance, score);
    }
    if (present(a, BIAS)) {
        const E b =
            get<E>(place(a, BIAS, u.q_batch, x.head, u.q_start + x.query) + key * a.stride[BIAS][3],
                   a.type[BIAS]);
        score = b == (E)-TN_INFINITY ? b : score + b;
    }
    if (present(a, MASK) &&
        place(a, MASK, u.q_batch, x.head, u.q_start + x.query)[key * a.stride[MASK][3]] == 0)
        score = (E)-TN_INFINITY;
    return score;
}

template <class E> TN_DEVICE E slope_of(const tn_cu_attention &a, const unit &u, const row &x) {
    return present(a, ALIBI) ? get<E>(place(a, ALIBI, u.b, x.head, 0), a.type[ALIBI]) : (E)0;
}

/* Joins a row's sink; what its sums have to be multiplied with then. */
template <class E> TN_DEVICE E finish_row(const tn_cu_attention &a, const row &x, part<E> &total) {
    E factor = 1;
    if (present(a, SINKS)) {
        const part<E> sink = {get<E>(place(a, SINKS, 0, x.head, 0), a.type[SINKS]), (E)1};
        if (!(sink.maximum == (E)-TN_INFINITY))
            factor = join(total, sink).old;
    }
    return total.sum == 0 ? (E)0 : factor / total.sum;
}

#endif
