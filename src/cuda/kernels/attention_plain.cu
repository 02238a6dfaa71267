/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_plain.cu: attention without tensor cores: any types, strides and masks, head dimensions
 * up to 768; f32 and f64.
 *
 * A block of 256 threads takes a unit of rows through blocks of 256 keys: a thread to a key for the
 * scores, a warp to a row for the weights, a thread to each column (and the 256th from it) for the
 * sums. Order of sums: docs/NUMERICS.md, 5.1, but for the sum of a block's weights, which is that
 * of a CUDA device there. What is not finite in a masked value is never multiplied. (Online
 * softmax: Milakov and Gimelshein, 2018.)
 *
 * Split, each block of keys is a unit's of its own and leaves its part in the workspace;
 * attention_join joins them in ascending order, also those that attention_mma.cu left there.
 */
#include "attention.cuh"

enum { THREADS = 256, BLOCK = TN_CU_BLOCK, COLUMNS = 3 };

template <class E> struct work {
    enum { ROWS = sizeof(E) == 4 ? TN_CU_PLAIN_ROWS : TN_CU_PLAIN_ROWS / 2 };
    E s[ROWS][BLOCK]; /* scores, then weights */
    uint32_t alive[ROWS][BLOCK / 32];
    part<E> own[ROWS];
    E old[ROWS], more[ROWS]; /* factors of the joint */
};

/* The queries times the scale, behind `work`. */
extern __shared__ __align__(16) char dynamic[];

template <class E> TN_DEVICE void load_queries(const tn_cu_attention &a, const unit &u) {
    E *q = (E *)dynamic;
    for (int r = 0; r < u.rows; r++) {
        const row x = row_of(a, u, r);
        const char *at = place(a, Q, u.q_batch, x.head, u.q_start + x.query);
        for (int e = threadIdx.x; e < a.d; e += THREADS)
            q[r * a.d + e] = (E)a.scale * get<E>(at + e * a.stride[Q][3], a.type[Q]);
    }
}

/* Scores of block `first`'s keys. */
template <class E>
TN_DEVICE void block_scores(const tn_cu_attention &a, const unit &u, int64_t first, work<E> &w) {
    enum { ROWS = work<E>::ROWS };
    const E *q = (const E *)dynamic;
    const int64_t key = first + threadIdx.x;
    int64_t outer, line;
    E acc[ROWS] = {};
    if (key < u.keys) {
        key_place(a, u, key, outer, line);
        const char *at = place(a, K, outer, u.kv_head, line);
        for (int e = 0; e < a.d; e++) {
            const E k = get<E>(at + e * a.stride[K][3], a.type[K]);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                acc[r] = r < u.rows ? fma(k, q[r * a.d + e], acc[r]) : acc[r];
        }
        if (present(a, K_SCALE)) {
            const E scale = get<E>(place(a, K_SCALE, outer, u.kv_head, line), a.type[K_SCALE]);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                acc[r] *= scale;
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        w.s[r][threadIdx.x] = acc[r];
    __syncthreads();
#pragma unroll 1
    for (int r = 0; r < u.rows; r++) {
        const row x = row_of(a, u, r);
        w.s[r][threadIdx.x] = seen(a, u, x, key, w.s[r][threadIdx.x], slope_of<E>(a, u, x));
    }
    __syncthreads();
}

/* Scores to weights, with the block's maxima and sums; a warp to a row. */
template <class E>
TN_DEVICE void block_weights(const tn_cu_attention &a, const unit &u, int64_t first, work<E> &w) {
    const int lane = threadIdx.x % 32;
    for (int r = threadIdx.x / 32; r < u.rows; r += THREADS / 32) {
        part<E> own = {(E)-TN_INFINITY, (E)0};
#pragma unroll
        for (int i = 0; i < BLOCK / 32; i++)
            own.maximum = larger(w.s[r][i * 32 + lane], own.maximum);
        for (int step = 16; step >= 1; step /= 2)
            own.maximum = larger(__shfl_xor_sync(0xffffffffu, own.maximum, step), own.maximum);
        const E shift = own.maximum == (E)-TN_INFINITY ? (E)0 : own.maximum;
#pragma unroll 1
        for (int i = 0; i < BLOCK / 32; i++) {
            const E score = w.s[r][i * 32 + lane];
            const uint32_t alive = __ballot_sync(0xffffffffu, !(score == (E)-TN_INFINITY));
            E weight = exp_negative(score - shift);
            own.sum += weight;
            if (present(a, V_SCALE) && first + i * 32 + lane < u.keys) {
                int64_t outer, line;
                key_place(a, u, first + i * 32 + lane, outer, line);
                weight *= get<E>(place(a, V_SCALE, outer, u.kv_head, line), a.type[V_SCALE]);
            }
            w.s[r][i * 32 + lane] = weight;
            if (lane == 0)
                w.alive[r][i] = alive;
        }
        for (int step = 16; step >= 1; step /= 2)
            own.sum += __shfl_xor_sync(0xffffffffu, own.sum, step);
        if (lane == 0)
            w.own[r] = own;
    }
    __syncthreads();
}

/* The block's sums of this thread's columns: chains over its keys. */
template <class E>
TN_DEVICE void block_sums(const tn_cu_attention &a, const unit &u, int64_t first, const work<E> &w,
                          E (&sums)[COLUMNS][work<E>::ROWS]) {
    enum { ROWS = work<E>::ROWS };
    const int keys = (int)min_of(BLOCK, u.keys - first);
#pragma unroll
    for (int n = 0; n < COLUMNS * ROWS; n++)
        sums[n / ROWS][n % ROWS] = 0;
    for (int key = 0; key < keys; key++) {
        int64_t outer, line;
        uint32_t any = 0;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            any |= (r < u.rows ? w.alive[r][key / 32] >> (key % 32) & 1 : 0) << r;
        if (!any)
            continue;
        key_place(a, u, first + key, outer, line);
        const char *at = place(a, VALUES, outer, u.kv_head, line);
#pragma unroll
        for (int n = 0; n < COLUMNS; n++) {
            const int64_t e = n * THREADS + threadIdx.x;
            if (e < a.dv) {
                const E v = get<E>(at + e * a.stride[VALUES][3], a.type[VALUES]);
#pragma unroll
                for (int r = 0; r < ROWS; r++)
                    sums[n][r] = any >> r & 1 ? fma(v, w.s[r][key], sums[n][r]) : sums[n][r];
            }
        }
    }
}

/* Where the workspace has row r of a unit in a block of keys. */
template <class E>
TN_DEVICE E *slot_of(const tn_cu_attention &a, int64_t index, int64_t block, int64_t r) {
    return (E *)a.slots + ((index * a.blocks + block) * a.unit_rows + r) * TN_CU_SLOT(a.dv);
}

/* Joins w.own to thread r's part; everybody gets the factors. */
template <class E> TN_DEVICE void join_rows(const unit &u, work<E> &w, part<E> &total) {
    if ((int)threadIdx.x < u.rows) {
        const part<E> own = w.own[threadIdx.x];
        factors<E> f = {(E)1, (E)0};
        if (!empty_part(own))
            f = join(total, own);
        w.old[threadIdx.x] = f.old;
        w.more[threadIdx.x] = f.more;
    }
    __syncthreads();
}

/* One key block more for the sums so far, as attention_mma.cu does it; an empty one changes
 * nothing. */
template <class E>
TN_DEVICE void join_sums(const unit &u, const work<E> &w, E (&o)[COLUMNS][work<E>::ROWS],
                         const E (&sums)[COLUMNS][work<E>::ROWS]) {
    enum { ROWS = work<E>::ROWS };
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (r < u.rows && !empty_part(w.own[r]))
#pragma unroll
            for (int n = 0; n < COLUMNS; n++)
                o[n][r] = fma(sums[n][r], w.more[r], o[n][r] * w.old[r]);
}

template <class E>
TN_DEVICE void store_rows(const tn_cu_attention &a, const unit &u, work<E> &w, part<E> total,
                          const E (&o)[COLUMNS][work<E>::ROWS]) {
    enum { ROWS = work<E>::ROWS };
    if ((int)threadIdx.x < u.rows) {
        const row x = row_of(a, u, threadIdx.x);
        w.old[threadIdx.x] = finish_row(a, x, total);
        if (present(a, LSE))
            put_lse(place(a, LSE, u.q_batch, x.head, u.q_start + x.query), a.type[LSE],
                    total.maximum, total.sum);
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (r < u.rows) {
            const row x = row_of(a, u, r);
            char *at = place(a, O, u.q_batch, x.head, u.q_start + x.query);
#pragma unroll
            for (int n = 0; n < COLUMNS; n++) {
                const int64_t e = n * THREADS + threadIdx.x;
                if (e < a.dv)
                    put<E>(at + e * a.stride[O][3], a.type[O], o[n][r] * w.old[r]);
            }
        }
    __syncthreads();
}

template <class E> TN_DEVICE void attention_plain(const tn_cu_attention &a) {
    enum { ROWS = work<E>::ROWS };
    __shared__ work<E> w;
    const int64_t each = a.blocks > 0 ? a.blocks : 1, count = a.units * each;
    for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
        const unit u = unit_of(a, index / each, ROWS);
        E o[COLUMNS][ROWS] = {}, sums[COLUMNS][ROWS];
        part<E> total = {(E)-TN_INFINITY, (E)0}; /* thread r: row r's */
        int64_t low = INT64_MAX, high = 0;
        if (u.rows == 0)
            continue;
        for (int r = 0; r < u.rows; r++) {
            const row x = row_of(a, u, r);
            low = x.low < x.high ? min_of(low, x.low) : low;
            high = x.low < x.high ? max_of(high, x.high) : high;
        }
        if (a.blocks > 0) {
            low = max_of(low, index % each * BLOCK);
            high = min_of(high, index % each * BLOCK + BLOCK);
            if (low >= high)
                continue;
        }
        load_queries<E>(a, u);
        __syncthreads();
        for (int64_t block = low / BLOCK; block * BLOCK < high; block++) {
            block_scores(a, u, block * BLOCK, w);
            block_weights(a, u, block * BLOCK, w);
            block_sums(a, u, block * BLOCK, w, sums);
            if (a.blocks > 0)
                break;
            join_rows(u, w, total);
            join_sums(u, w, o, sums);
            __syncthreads();
        }
        if (a.blocks == 0) {
            store_rows(a, u, w, total, o);
            continue;
        }
        E *slot = slot_of<E>(a, index / each, index % each, 0);
        const int64_t pitch = TN_CU_SLOT(a.dv);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (r < u.rows)
#pragma unroll
                for (int n = 0; n < COLUMNS; n++)
                    if (n * THREADS + threadIdx.x < a.dv)
                        slot[r * pitch + n * THREADS + threadIdx.x] = sums[n][r];
        if ((int)threadIdx.x < u.rows) {
            slot[(threadIdx.x + 1) * pitch - 2] = w.own[threadIdx.x].maximum;
            slot[(threadIdx.x + 1) * pitch - 1] = w.own[threadIdx.x].sum;
        }
        __syncthreads();
    }
}

/* The parts that split units left, in ascending order; some of a unit's rows to a block. */
template <class E> TN_DEVICE void attention_join(const tn_cu_attention &a) {
    enum { ROWS = work<E>::ROWS };
    __shared__ work<E> w;
    const int64_t each = ceil_div(a.unit_rows, ROWS), pitch = TN_CU_SLOT(a.dv);
    for (int64_t index = blockIdx.x; index < a.units * each; index += gridDim.x) {
        const int64_t first = index % each * ROWS;
        unit u = unit_of(a, index / each, a.unit_rows);
        E o[COLUMNS][ROWS] = {}, sums[COLUMNS][ROWS];
        part<E> total = {(E)-TN_INFINITY, (E)0};
        int64_t low = INT64_MAX, high = 0;
        u.first_row += first;
        u.rows = (int)max_of(0, min_of(ROWS, u.rows - first));
        if (u.rows == 0)
            continue;
        for (int r = 0; r < u.rows; r++) {
            const row x = row_of(a, u, r);
            low = x.low < x.high ? min_of(low, x.low) : low;
            high = x.low < x.high ? max_of(high, x.high) : high;
        }
        for (int64_t block = low / a.block_keys; block * a.block_keys < high; block++) {
            const E *slot = slot_of<E>(a, index / each, block, first);
            if ((int)threadIdx.x < u.rows) {
                w.own[threadIdx.x].maximum = slot[(threadIdx.x + 1) * pitch - 2];
                w.own[threadIdx.x].sum = slot[(threadIdx.x + 1) * pitch - 1];
            }
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int n = 0; n < COLUMNS; n++)
                    sums[n][r] = r < u.rows && n * THREADS + threadIdx.x < a.dv
                                     ? slot[r * pitch + n * THREADS + threadIdx.x]
                                     : (E)0;
            join_rows(u, w, total);
            join_sums(u, w, o, sums);
            __syncthreads();
        }
        store_rows(a, u, w, total, o);
    }
}

TN_KERNEL __launch_bounds__(THREADS, 2)
    attention_plain_f32(const __grid_constant__ tn_cu_attention a) {
    attention_plain<float>(a);
}
TN_KERNEL __launch_bounds__(THREADS, 2)
    attention_plain_f64(const __grid_constant__ tn_cu_attention a) {
    attention_plain<double>(a);
}
TN_KERNEL __launch_bounds__(THREADS, 2)
    attention_join_f32(const __grid_constant__ tn_cu_attention a) {
    attention_join<float>(a);
}
TN_KERNEL __launch_bounds__(THREADS, 2)
    attention_join_f64(const __grid_constant__ tn_cu_attention a) {
    attention_join<double>(a);
}
