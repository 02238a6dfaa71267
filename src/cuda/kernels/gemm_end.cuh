/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_end.cuh: from the sums of a tile that tensor cores have formed to C: which columns of B a
 * tile has, where an element's gate is, the end of a tile from shared memory, and the joining of
 * segments of k from the workspace.
 */
#ifndef TN_GEMM_END_CUH
#define TN_GEMM_END_CUH

#include "gemm.cuh"

/* Column of B for column c of a tile: of gated halves the first half of a tile are elements, the
 * second their gates. -1: none. */
TN_DEVICE int64_t b_column(const tn_cu_gemm &g, int64_t tile_across, int width, int c) {
    if (g.gated == HALVES) {
        const int half = width / 2;
        const int64_t j = tile_across * half + c % half;
        return j < g.n ? c / half * g.n + j : -1;
    }
    const int64_t j = tile_across * width + c;
    return j < (g.gated ? 2 * g.n : g.n) ? j : -1;
}

/* Whether column c of a tile is an element's own, not its gate's; where the gate is. */
TN_DEVICE bool is_gate(const tn_cu_gemm &g, int width, int c) {
    return g.gated == HALVES ? c >= width / 2 : g.gated == INTERLEAVED ? c % 2 : false;
}
TN_DEVICE int gate_of(const tn_cu_gemm &g, int width, int c) {
    return g.gated == HALVES ? c + width / 2 : g.gated == INTERLEAVED ? c + 1 : c;
}

TN_DEVICE float after(const tn_cu_gemm &g, const places &x, int64_t i, int64_t j, float sum) {
    return g.scale_after ? scaled(g, x, i, j, (double)sum) : sum;
}

/* The element of C whose sum, and gate, is that of column c of row i of a tile. */
TN_DEVICE void end_of(const tn_cu_gemm &g, const places &x, const tile &t, int64_t across,
                      int width, int i, int c, float sum, float gate) {
    const int64_t row = t.i0 + i, own = b_column(g, across, width, c);
    if (own < 0)
        return;
    const int64_t j = g.gated == INTERLEAVED ? own / 2 : own;
    finish<float>(g, x, row, j, after(g, x, row, own, sum),
                  g.gated ? after(g, x, row, column_of(g, 1, j), gate) : 0.0f);
}

/* The tile `t` from its sums in shared memory, rows `pitch` apart, by THREADS threads. */
template <int WIDTH, int THREADS>
TN_DEVICE void end_of_tile(const tn_cu_gemm &g, const tile &t, int64_t across, const float *sums,
                           int pitch, int thread) {
    const places at = places_of(g, t.member);
#pragma unroll 1
    for (int n = thread; n < t.rows * WIDTH; n += THREADS) {
        const int i = n / WIDTH, c = n % WIDTH;
        if (!is_gate(g, WIDTH, c))
            end_of(g, at, t, across, WIDTH, i, c, sums[i * pitch + c],
                   sums[i * pitch + gate_of(g, WIDTH, c)]);
    }
}

/* The segments' sums of tiles of BM x BN, in ascending order, and the end. */
template <int BM, int BN> TN_DEVICE void gemm_join(const tn_cu_gemm &g) {
    for (int64_t index = blockIdx.x; index < g.tiles; index += gridDim.x) {
        const tile t = tile_of(g, index, BM, BN);
        const int64_t across = index % g.tiles_across;
        if (t.rows <= 0)
            continue;
        const places at = places_of(g, t.member);
        const float *part = (const float *)g.parts + index * (BM * BN);
#pragma unroll 1
        for (int n = threadIdx.x; n < BM * BN; n += 256) {
            const int i = n / BN, c = n % BN;
            if (i >= t.rows || is_gate(g, BN, c))
                continue;
            const int own = i * BN + c, other = i * BN + gate_of(g, BN, c);
            float z = part[own], gate = part[other];
            for (int64_t s = 1; s < g.segments; s++) {
                z = z + part[s * g.part_elements + own];
                gate = gate + part[s * g.part_elements + other];
            }
            end_of(g, at, t, across, BN, i, c, z, gate);
        }
    }
}

#endif
