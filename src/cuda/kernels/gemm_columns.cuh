/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_columns.cuh: tiles whose columns are those of B, so that the columns of gates lie in the same
 * tile as those that they belong to; from such a tile's sums to C. For gemm_tiles.cuh and
 * gemm_rows.cu.
 */
#ifndef TN_GEMM_COLUMNS_CUH
#define TN_GEMM_COLUMNS_CUH

#include "gemm.cuh"

#define NO_LINE INT64_MIN

/* Column of B for column c of a tile: of gated halves 8 columns of each take turns, so that a
 * thread has an element and its gate. -1: none. */
TN_DEVICE int64_t b_column(const tn_cu_gemm &g, int64_t tile_across, int width, int c) {
    if (g.gated == HALVES) {
        const int64_t j = tile_across * (width / 2) + c / 16 * 8 + c % 8;
        return j < g.n ? (c / 8 % 2) * g.n + j : -1;
    }
    const int64_t j = tile_across * width + c;
    return j < (g.gated ? 2 * g.n : g.n) ? j : -1;
}

TN_DEVICE float after(const tn_cu_gemm &g, const places &x, int64_t i, int64_t j, float sum) {
    return g.scale_after ? scaled(g, x, i, j, (double)sum) : sum;
}

/* The element of C whose sum, and gate, is that of column c of row i of a tile: of floats, … */
TN_DEVICE void end_of(const tn_cu_gemm &g, const places &x, const tile &t, int64_t across,
                      int width, int i, int c, float sum, float gate) {
    const int64_t row = t.i0 + i, own = b_column(g, across, width, c);
    if (own < 0)
        return;
    const int64_t j = g.gated == INTERLEAVED ? own / 2 : own;
    finish<float>(g, x, row, j, after(g, x, row, own, sum),
                  g.gated ? after(g, x, row, column_of(g, 1, j), gate) : 0.0f);
}
/* … and of bytes. */
TN_DEVICE void end_of(const tn_cu_gemm &g, const places &x, const tile &t, int64_t across,
                      int width, int i, int c, int64_t sum, int64_t gate) {
    const int64_t row = t.i0 + i, own = b_column(g, across, width, c);
    if (own < 0)
        return;
    const int64_t j = g.gated == INTERLEAVED ? own / 2 : own;
    if (!g.scale_after)
        finish<double>(g, x, row, j, (double)sum, (double)gate);
    else
        finish<float>(g, x, row, j, scaled(g, x, row, own, (double)sum),
                      g.gated ? scaled(g, x, row, column_of(g, 1, j), (double)gate) : 0.0f);
}

/* Whether column c of a tile is an element's own, not its gate's; where the gate is. */
TN_DEVICE bool is_gate(const tn_cu_gemm &g, int c) {
    return g.gated == HALVES ? c / 8 % 2 : g.gated == INTERLEAVED ? c % 2 : false;
}
TN_DEVICE int gate_of(const tn_cu_gemm &g, int c) {
    return g.gated == HALVES ? c + 8 : g.gated == INTERLEAVED ? c + 1 : c;
}

#endif
