/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_columns.cuh: tiles whose columns are those of B, so that the columns of gates lie in the same
 * tile as those that they belong to; from such a tile's sums to C. For gemm_tiles.cuh,
 * gemm_wgmma.cu, gemm_blocks_mma.cu and gemm_rows.cu.
 */
#ifndef TN_GEMM_COLUMNS_CUH
#define TN_GEMM_COLUMNS_CUH

#include "gemm.cuh"

#define NO_LINE INT64_MIN

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

/* The sum of row i and column j of A and B, scaled if scales wait for it. */
TN_DEVICE float after(const tn_cu_gemm &g, const places &x, int64_t i, int64_t j, float sum) {
    return g.scale_after ? scaled(g, x, i, j, (double)sum) : sum;
}

/* The element of row i of a tile that belongs to column `own` of B, from its sum and its gate's: of
 * floats, … */
TN_DEVICE void end_of(const tn_cu_gemm &g, const places &x, const tile &t, int64_t own, int i,
                      float sum, float gate) {
    const int64_t row = t.i0 + i, j = g.gated == INTERLEAVED ? own / 2 : own;
    finish<float>(g, x, row, j, after(g, x, row, own, sum),
                  g.gated ? after(g, x, row, column_of(g, 1, j), gate) : 0.0f);
}

/* … and of bytes. */
TN_DEVICE void end_of(const tn_cu_gemm &g, const places &x, const tile &t, int64_t own, int i,
                      int64_t sum, int64_t gate) {
    const int64_t row = t.i0 + i, j = g.gated == INTERLEAVED ? own / 2 : own;
    if (!g.scale_after)
        finish<double>(g, x, row, j, (double)sum, (double)gate);
    else
        finish<float>(g, x, row, j, scaled(g, x, row, own, (double)sum),
                      g.gated ? scaled(g, x, row, column_of(g, 1, j), (double)gate) : 0.0f);
}

/* Whether sums only need to be multiplied by alpha and converted, and rows of C can be written 4
 * elements at a time. */
TN_DEVICE bool in_fours(const tn_cu_gemm &g, const places &x) {
    const int size = g.type[C] == F32 ? 4 : 2;
    return (g.type[C] == F32 || g.type[C] == F16 || g.type[C] == BF16) && g.column[C] == size &&
           (g.row[C] | (int64_t)x.at[C]) % (4 * size) == 0 && g.gated == UNGATED &&
           !g.scale_after && g.activation == NONE && g.beta == 0 && !present(g, BIAS) &&
           !present(g, RESIDUAL) && !present(g, C_SCALE) && !present(g, C_ZERO);
}

TN_DEVICE void put4(const tn_cu_gemm &g, char *to, float4 z) {
    if (g.alpha != 1) {
        const float alpha = (float)g.alpha;
        z = make_float4(alpha * z.x, alpha * z.y, alpha * z.z, alpha * z.w);
    }
    if (g.type[C] == F32)
        *(float4 *)to = z;
    else if (g.type[C] == F16)
        *(uint2 *)to = make_uint2(to_f16(z.x) | (uint32_t)to_f16(z.y) << 16,
                                  to_f16(z.z) | (uint32_t)to_f16(z.w) << 16);
    else
        *(uint2 *)to = make_uint2(to_bf16(z.x) | (uint32_t)to_bf16(z.y) << 16,
                                  to_bf16(z.z) | (uint32_t)to_bf16(z.w) << 16);
}

/* The tile `t` from its sums in shared memory, rows `pitch` apart, by THREADS threads: each has one
 * column, or four side by side. A sum is a WHOLE to end_of. */
template <int WIDTH, int THREADS, class WHOLE, class SUM>
TN_DEVICE void end_of_tile(const tn_cu_gemm &g, const tile &t, int64_t across, const SUM *sums,
                           int pitch, int thread) {
    asm volatile("" : "+r"(thread)); /* nothing of what follows is made ready before the sums */
    const places at = places_of(g, t.member);
    if constexpr (sizeof(WHOLE) == sizeof(float)) {
        if (across * WIDTH + WIDTH <= g.n && in_fours(g, at)) {
            const int c = thread % (WIDTH / 4) * 4, first = thread / (WIDTH / 4);
            char *to = at.at[C] + (t.i0 + first) * g.row[C] + (across * WIDTH + c) * g.column[C];
#pragma unroll 1
            for (int i = first; i < t.rows; i += THREADS * 4 / WIDTH) {
                put4(g, to, *(const float4 *)&sums[i * pitch + c]);
                to += THREADS * 4 / WIDTH * g.row[C];
            }
            return;
        }
    }
    const int c = thread % WIDTH, gate = gate_of(g, WIDTH, c);
    const int64_t own = b_column(g, across, WIDTH, c);
    if (own < 0 || is_gate(g, WIDTH, c))
        return;
#pragma unroll 1
    for (int i = thread / WIDTH; i < t.rows; i += THREADS / WIDTH)
        end_of(g, at, t, own, i, (WHOLE)sums[i * pitch + c], (WHOLE)sums[i * pitch + gate]);
}

#endif
