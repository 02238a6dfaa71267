/* SPDX-License-Identifier: Apache-2.0 */
/*
 * softmax.cu: softmax of rows: a warp to each short row, which it keeps in registers, a block of
 * 256 threads to each longer one.
 *
 * Order of sums (docs/NUMERICS.md, 4.1): chunks of 2048 elements, in each 256 sums by j mod 256,
 * joined i and i + 128, i + 64, … i + 1; chunks in ascending order. A warp adds as the block does.
 * A row of one chunk keeps its exponentials, a longer one computes them again when the sum is known
 * (online softmax: Milakov and Gimelshein, 2018).
 */
#include "../cu_attention.h"
#include "math.cuh"

enum { X, Y, BIAS, MASK, ALIBI, SINKS, LSE };
enum {
    CHUNK = TN_CU_SOFTMAX_CHUNK,
    THREADS = 256,
    WARPS = THREADS / 32,
    SHORT = TN_CU_SOFTMAX_SHORT
};

template <class E> struct line {
    const char *x, *bias, *mask;
    char *y, *lse;
    int64_t position, low, high; /* elements [low, high) may take part */
    E slope, sink;
};

template <class E> TN_DEVICE line<E> line_of(const tn_cu_softmax &s, int64_t index) {
    int64_t start[TN_CU_SOFTMAX_OPERANDS] = {};
    line<E> r;
    r.position = s.offset;
#pragma unroll
    for (int d = TN_CU_DIMS - 1; d >= 0; d--)
        if (d < s.rank) {
            const int64_t i = s.extent[d] > 1 ? index % s.extent[d] : 0;
            index = s.extent[d] > 1 ? index / s.extent[d] : index;
#pragma unroll
            for (int role = 0; role < TN_CU_SOFTMAX_OPERANDS; role++)
                start[role] += i * s.row[role][d];
            if (d == s.query_dim)
                r.position += i;
        }
    r.x = (const char *)s.at[X] + start[X];
    r.y = (char *)s.at[Y] + start[Y];
    r.bias = (const char *)s.at[BIAS] + start[BIAS];
    r.mask = (const char *)s.at[MASK] + start[MASK];
    r.lse = (char *)s.at[LSE] + start[LSE];
    r.slope = s.type[ALIBI] ? get<E>((const char *)s.at[ALIBI] + start[ALIBI], s.type[ALIBI]) : 0;
    r.sink = s.type[SINKS] ? get<E>((const char *)s.at[SINKS] + start[SINKS], s.type[SINKS])
                           : (E)-TN_INFINITY;
    r.low = 0;
    r.high = s.length;
    if (s.left != INT64_MAX && s.left < r.position)
        r.low = min_of(r.position - s.left, s.length);
    if (s.right != INT64_MAX && s.right < s.length - 1 - r.position)
        r.high = max_of(0, r.position + s.right + 1);
    return r;
}

/* Score of element j; -inf if it is masked. */
template <class E> TN_DEVICE E score_of(const tn_cu_softmax &s, const line<E> &r, int64_t j) {
    if (j < r.low || j >= r.high || (s.type[MASK] && r.mask[j * s.step[MASK]] == 0))
        return (E)-TN_INFINITY;
    E v = (E)s.scale * get<E>(r.x + j * s.step[X], s.type[X]);
    if (s.softcap > 0)
        v = (E)s.softcap * tanh_of(v / (E)s.softcap);
    if (r.slope != 0) {
        /* from the start of a group of 16, as the CPU backend rounds the distance */
        const int64_t in_group = j & 15;
        const E distance = (E)(r.position - (j - in_group)) - (E)in_group;
        v = fma(-r.slope, distance < 0 ? -distance : distance, v);
    }
    if (s.type[BIAS]) {
        const E b = get<E>(r.bias + j * s.step[BIAS], s.type[BIAS]);
        v = b == (E)-TN_INFINITY ? b : v + b;
    }
    return v;
}

/* Element j from e: its score (log) or its exponential below own's maximum. */
template <class E>
TN_DEVICE void finish(const tn_cu_softmax &s, const line<E> &r, int64_t j, E e, E weight, E shift,
                      E log_sum, const part<E> &total) {
    const E masked = s.as_log ? (E)-TN_INFINITY : (E)0;
    E v;
    if (total.sum == 0)
        v = masked;
    else if (total.sum != total.sum)
        v = score_of(s, r, j) == (E)-TN_INFINITY ? masked : (E)TN_NAN;
    else if (s.as_log)
        v = e == (E)-TN_INFINITY ? e : (e - shift) - log_sum;
    else
        v = e * weight;
    put<E>(r.y + j * s.step[Y], s.type[Y], v);
}

template <class E> TN_DEVICE void add_sink(part<E> &total, E sink) {
    const part<E> p = {sink, (E)1};
    if (!(sink == (E)-TN_INFINITY))
        join(total, p);
}

template <class E> TN_DEVICE E lanes_max(E v) {
    for (int w = 16; w >= 1; w /= 2)
        v = larger(__shfl_xor_sync(0xffffffffu, v, w), v);
    return v;
}
template <class E> TN_DEVICE E lanes_sum(E v) {
    for (int w = 16; w >= 1; w /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, w);
    return v;
}
template <class E> TN_DEVICE E shift_of(E maximum) {
    return maximum == (E)-TN_INFINITY ? (E)0 : maximum;
}

/* ---- a warp to a row */

template <class E> TN_DEVICE void short_row(const tn_cu_softmax &s, int64_t index) {
    enum { EACH = SHORT / 32 };
    const int lane = threadIdx.x % 32;
    const line<E> r = line_of<E>(s, index);
    E e[EACH], sums[WARPS];
    part<E> total = {(E)-TN_INFINITY, (E)0}, own;
    own.maximum = (E)-TN_INFINITY;
#pragma unroll
    for (int i = 0; i < EACH; i++)
        e[i] = (E)-TN_INFINITY;
#pragma unroll 1
    for (int i = 0; i < EACH && i * 32 < s.length; i++) {
        const int j = i * 32 + lane;
        const E v = j < s.length ? score_of(s, r, j) : (E)-TN_INFINITY;
        own.maximum = larger(v, own.maximum); /* NaN is passed over: the sum will have it */
#pragma unroll
        for (int n = 0; n < EACH; n++) /* indices of registers are constants */
            e[n] = n == i ? v : e[n];
    }
    own.maximum = lanes_max(own.maximum);
    const E shift = shift_of(own.maximum);
#pragma unroll
    for (int w = 0; w < WARPS; w++)
        sums[w] = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const E v = exp_negative(e[i] - shift);
        sums[i % WARPS] += v;
        if (!s.as_log)
            e[i] = v;
    }
#pragma unroll
    for (int w = WARPS / 2; w >= 1; w /= 2)
#pragma unroll
        for (int i = 0; i < w; i++)
            sums[i] += sums[i + w];
    own.sum = lanes_sum(sums[0]);
    if (!empty_part(own))
        join(total, own);
    add_sink(total, r.sink);
    if (s.type[LSE] && lane == 0)
        put_lse(r.lse, s.type[LSE], total.maximum, total.sum);
    const E log_sum = s.as_log ? (E)log((double)total.sum) : (E)0;
    const E weight =
        s.as_log || empty_part(own) ? (E)0 : exp_negative(own.maximum - total.maximum) / total.sum;
#pragma unroll 1
    for (int i = 0; i < EACH && i * 32 < s.length; i++) {
        E v = e[0];
#pragma unroll
        for (int n = 1; n < EACH; n++)
            v = n == i ? e[n] : v;
        if (i * 32 + lane < s.length)
            finish(s, r, i * 32 + lane, v, weight, shift_of(total.maximum), log_sum, total);
    }
}

/* ---- a block to a row */

template <class E> struct exchange { E lane[WARPS][32]; };

/* The same value for all threads: the largest, or the sum in order. */
template <class E, bool SUM> TN_DEVICE E over_block(exchange<E> &x, E v) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    __syncthreads();
    x.lane[warp][lane] = v;
    __syncthreads();
    E t[WARPS];
#pragma unroll
    for (int i = 0; i < WARPS; i++)
        t[i] = x.lane[i][lane];
#pragma unroll
    for (int w = WARPS / 2; w >= 1; w /= 2)
#pragma unroll
        for (int i = 0; i < w; i++)
            t[i] = SUM ? t[i] + t[i + w] : larger(t[i + w], t[i]);
    return SUM ? lanes_sum(t[0]) : lanes_max(t[0]);
}

/* The chunk's exponentials below its maximum (log: scores), 8 of each thread. */
template <class E>
TN_DEVICE part<E> chunk_part(const tn_cu_softmax &s, const line<E> &r, int64_t first,
                             exchange<E> &x, E (&e)[CHUNK / THREADS]) {
    part<E> p;
    p.maximum = (E)-TN_INFINITY;
#pragma unroll 1
    for (int i = 0; i < CHUNK / THREADS; i++) {
        const int64_t j = first + i * THREADS + threadIdx.x;
        const E v = j < s.length ? score_of(s, r, j) : (E)-TN_INFINITY;
        p.maximum = larger(v, p.maximum);
#pragma unroll
        for (int n = 0; n < CHUNK / THREADS; n++)
            e[n] = n == i ? v : e[n];
    }
    p.maximum = over_block<E, false>(x, p.maximum);
    const E shift = shift_of(p.maximum);
    p.sum = 0;
#pragma unroll
    for (int i = 0; i < CHUNK / THREADS; i++) {
        const E v = exp_negative(e[i] - shift);
        p.sum += v;
        if (!s.as_log)
            e[i] = v;
    }
    p.sum = over_block<E, true>(x, p.sum);
    return p;
}

template <class E> TN_DEVICE void long_row(const tn_cu_softmax &s, int64_t index, exchange<E> &x) {
    const line<E> r = line_of<E>(s, index);
    part<E> total = {(E)-TN_INFINITY, (E)0}, own = total;
    E e[CHUNK / THREADS] = {}, weight = 0, log_sum = 0;
    const int64_t chunks = ceil_div(s.length, CHUNK);
    const int64_t passes = chunks == 1 ? 1 : 2 * chunks;
    for (int64_t pass = 0; pass < passes; pass++) {
        const int64_t chunk = pass < chunks ? pass : pass - chunks, first = chunk * CHUNK;
        own = chunk_part(s, r, first, x, e);
        if (pass < chunks && !empty_part(own))
            join(total, own);
        if (pass == chunks - 1) {
            add_sink(total, r.sink);
            if (s.type[LSE] && threadIdx.x == 0)
                put_lse(r.lse, s.type[LSE], total.maximum, total.sum);
            log_sum = s.as_log ? (E)log((double)total.sum) : (E)0;
        }
        if (passes > 1 && pass < chunks)
            continue;
        weight = s.as_log || empty_part(own)
                     ? (E)0
                     : exp_negative(own.maximum - total.maximum) / total.sum;
        /* in place: all of a row's values that share an element have been read */
#pragma unroll 1
        for (int i = 0; i < CHUNK / THREADS; i++) {
            const int64_t j = first + i * THREADS + threadIdx.x;
            E v = e[0];
#pragma unroll
            for (int n = 1; n < CHUNK / THREADS; n++)
                v = n == i ? e[n] : v;
            if (j < s.length)
                finish(s, r, j, v, weight, shift_of(total.maximum), log_sum, total);
        }
    }
}

template <class E> TN_DEVICE void softmax_short(const tn_cu_softmax &s) {
    const int64_t warps = (int64_t)gridDim.x * WARPS;
    for (int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32; row < s.rows; row += warps)
        short_row<E>(s, row);
}

template <class E> TN_DEVICE void softmax_long(const tn_cu_softmax &s) {
    __shared__ exchange<E> x;
    for (int64_t row = blockIdx.x; row < s.rows; row += gridDim.x)
        long_row<E>(s, row, x);
}

TN_KERNEL __launch_bounds__(THREADS) softmax_short_f32(const __grid_constant__ tn_cu_softmax s) {
    softmax_short<float>(s);
}
TN_KERNEL __launch_bounds__(THREADS) softmax_short_f64(const __grid_constant__ tn_cu_softmax s) {
    softmax_short<double>(s);
}
TN_KERNEL __launch_bounds__(THREADS) softmax_long_f32(const __grid_constant__ tn_cu_softmax s) {
    softmax_long<float>(s);
}
TN_KERNEL __launch_bounds__(THREADS) softmax_long_f64(const __grid_constant__ tn_cu_softmax s) {
    softmax_long<double>(s);
}
