/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.cu: what stands around attention: new rows into a key-value cache, and joining attentions
 * over disjoint sets of keys.
 *
 * Merging (Dao et al., 2022, section 3.1) takes a warp to a row and up to 8 parts at once; more of
 * them pass through the workspace, phase by phase. Weights and sums are f64: there are few.
 */
#include "../cu_attention.h"
#include "math.cuh"

enum { THREADS = 256, PARTS = TN_CU_MERGE_PARTS };

/* ---------------------------------------------------------------- append */

/* rows[x_batch, h, t] / scale[outer, h, slot] to cache[outer, h, slot], an element to a thread. */
template <class E> TN_DEVICE void append_element(const tn_cu_append &a, int64_t index) {
    const int64_t e = index % a.width, t = index / a.width % (a.elements / a.width / a.kv_heads),
                  h = index / a.width / (a.elements / a.width / a.kv_heads);
    const char *cu = (const char *)a.cu;
    int64_t b, in_sequence, slot;
    if (a.cu_type) { /* ragged: the last sequence that begins at or before t */
        int64_t low = 0, high = a.batch;
        if (t >= get_index(cu + a.batch * a.cu_step, a.cu_type))
            return;
        while (high - low > 1) {
            const int64_t middle = low + (high - low) / 2;
            if (get_index(cu + middle * a.cu_step, a.cu_type) <= t)
                low = middle;
            else
                high = middle;
        }
        b = low;
        in_sequence = t - get_index(cu + b * a.cu_step, a.cu_type);
    } else {
        b = t / a.rows;
        in_sequence = t % a.rows;
    }
    slot =
        get_index((const char *)a.positions + b * a.positions_step, a.positions_type) + in_sequence;
    int64_t outer = b;
    if (a.block_size > 0) {
        outer = get_index((const char *)a.table + b * a.table_stride[0] +
                              slot / a.block_size * a.table_stride[1],
                          a.table_type);
        slot %= a.block_size;
    }
    E v = get<E>((const char *)a.x + (a.cu_type ? 0 : b) * a.x_stride[0] + h * a.x_stride[1] +
                     (a.cu_type ? t : in_sequence) * a.x_stride[2] + e * a.x_stride[3],
                 a.x_type);
    if (a.scale_type)
        v /= get<E>((const char *)a.scale + outer * a.scale_stride[0] + h * a.scale_stride[1] +
                        slot * a.scale_stride[2],
                    a.scale_type);
    put<E>((char *)a.cache + outer * a.cache_stride[0] + h * a.cache_stride[1] +
               slot * a.cache_stride[2] + e * a.cache_stride[3],
           a.cache_type, v);
}

TN_KERNEL __launch_bounds__(THREADS) cache_append_f32(const __grid_constant__ tn_cu_append a) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.elements;
         i += (int64_t)gridDim.x * THREADS)
        append_element<float>(a, i);
}
/* A quotient is rounded once, to the cache's type. */
TN_KERNEL __launch_bounds__(THREADS) cache_append_f64(const __grid_constant__ tn_cu_append a) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.elements;
         i += (int64_t)gridDim.x * THREADS)
        append_element<double>(a, i);
}

/* ---------------------------------------------------------------- merge */

TN_DEVICE char *merged_at(const tn_cu_merge &g, const tn_cu_merged &x, int64_t index) {
    int64_t at = 0;
#pragma unroll
    for (int d = TN_CU_DIMS - 1; d >= 0; d--)
        if (d < g.rank) {
            at += index % g.extent[d] * x.row[d];
            index /= g.extent[d];
        }
    return (char *)x.at + at;
}

TN_DEVICE double lse_of(const tn_cu_merge &g, int part, int64_t row) {
    return get<double>(merged_at(g, g.lse_part[part], row), g.lse_part[part].type);
}

/* Maximum of the parts' log-sum-exps, and the total of their exponentials below it. */
TN_DEVICE void weigh(double &maximum, double lse) {
    maximum = lse > maximum || lse != lse ? lse : maximum; /* a NaN comes back in the total */
}
TN_DEVICE void add_total(double &total, double maximum, double lse) {
    if (maximum != -TN_INFINITY && lse != -TN_INFINITY)
        total += exp_of(lse - maximum);
}
/* A part's share of the sum; without keys it may hold anything. */
TN_DEVICE double add_part(const tn_cu_merge &g, int part, int64_t row, int64_t e, double maximum,
                          double total, double sum) {
    const double lse = lse_of(g, part, row);
    if (lse == -TN_INFINITY)
        return sum;
    return fma(exp_of(lse - maximum) / total,
               get<double>(merged_at(g, g.o_part[part], row) + e * g.o_part[part].step,
                           g.o_part[part].type),
               sum);
}

TN_DEVICE void put_row_lse(const tn_cu_merge &g, int64_t row, double maximum, double total) {
    if (g.lse.type)
        put<double>(merged_at(g, g.lse, row), g.lse.type,
                    maximum == -TN_INFINITY ? (double)-TN_INFINITY : maximum + log(total));
}

TN_DEVICE void merge_row(const tn_cu_merge &g, int64_t row) {
    const int lane = threadIdx.x % 32;
    double maximum = -TN_INFINITY, total = 0;
    double *state = (double *)g.state + 2 * row;
    double *sums = (double *)g.sums + row * g.dv;
    if (g.phase == TN_CU_MERGE_WHOLE) {
        for (int i = 0; i < g.parts; i++)
            weigh(maximum, lse_of(g, i, row));
        for (int i = 0; i < g.parts; i++)
            add_total(total, maximum, lse_of(g, i, row));
    } else if (!g.first || g.phase > TN_CU_MERGE_WEIGH) {
        maximum = state[0];
        total = g.phase == TN_CU_MERGE_TOTAL && g.first ? 0 : state[1];
    }
    if (g.phase == TN_CU_MERGE_WEIGH || g.phase == TN_CU_MERGE_TOTAL) {
        for (int i = 0; i < g.parts; i++) {
            if (g.phase == TN_CU_MERGE_WEIGH)
                weigh(maximum, lse_of(g, i, row));
            else
                add_total(total, maximum, lse_of(g, i, row));
        }
        __syncwarp();
        if (lane == 0) {
            state[0] = maximum;
            state[1] = g.phase == TN_CU_MERGE_WEIGH ? 0 : total;
        }
        return;
    }
    for (int64_t first = 0; first < g.dv; first += 32) {
        const int64_t e = first + lane;
        if (e < g.dv) {
            double sum = g.phase == TN_CU_MERGE_WHOLE || (g.phase == TN_CU_MERGE_ADD && g.first)
                             ? 0
                             : sums[e];
            if (g.phase != TN_CU_MERGE_STORE)
                for (int i = 0; i < g.parts; i++)
                    sum = add_part(g, i, row, e, maximum, total, sum);
            if (g.phase == TN_CU_MERGE_ADD)
                sums[e] = sum;
            else /* the result may be the first part, of which this lane has read e */
                put<double>(merged_at(g, g.o, row) + e * g.o.step, g.o.type, sum);
        }
    }
    __syncwarp(); /* and all lanes their lse */
    if (lane == 0 && g.phase != TN_CU_MERGE_ADD)
        put_row_lse(g, row, maximum, total);
}

TN_KERNEL __launch_bounds__(THREADS) cache_merge(const __grid_constant__ tn_cu_merge g) {
    for (int64_t row = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32; row < g.rows;
         row += (int64_t)gridDim.x * (THREADS / 32))
        merge_row(g, row);
}
