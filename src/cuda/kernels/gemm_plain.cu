/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_plain.cu: products without tensor cores: any types, any strides, any edges; f32 and f64 as
 * chains of fused multiply-adds (docs/NUMERICS.md, 3.1), integers exactly.
 *
 * A block of 256 threads makes a tile of 64 x 64 (64-bit sums: 32 x 32), steps of A and B passing
 * through shared memory, converted on the way. Thread (x, y) has every 16th row and column of the
 * tile, so that neighbours read neighbouring words and write neighbouring elements of C. The chain
 * of a block of KC steps is kept apart from the sum of the blocks before it. (Tiling: Nath, Tomov
 * and Dongarra, 2010.)
 */
#include "gemm.cuh"

enum { STEP = 16, ACROSS = 16, THREADS = ACROSS * ACROSS };

/* How sums are formed. S: elements of tiles and chains; E: after the sum; EACH: rows and columns of
 * a thread. */
struct sum_f32 {
    typedef float S;
    typedef float E;
    static const bool exact = false;
    static const int EACH = TN_CU_PLAIN_F32 / ACROSS;
};
struct sum_f64 {
    typedef double S;
    typedef double E;
    static const bool exact = false;
    static const int EACH = TN_CU_PLAIN_WIDE / ACROSS;
};
struct sum_exact {
    typedef int64_t S;
    typedef double E;
    static const bool exact = true;
    static const int EACH = TN_CU_PLAIN_WIDE / ACROSS;
};
struct sum_scaled { /* exact sums of integers; then scales, then f32 */
    typedef int64_t S;
    typedef float E;
    static const bool exact = true;
    static const int EACH = TN_CU_PLAIN_WIDE / ACROSS;
};

TN_DEVICE float step_of(float a, float b, float c) {
    return fmaf(a, b, c);
}
TN_DEVICE double step_of(double a, double b, double c) {
    return fma(a, b, c);
}
TN_DEVICE int64_t step_of(int64_t a, int64_t b, int64_t c) {
    return a * b + c;
}

template <class T> struct tiles {
    typename T::S a[STEP][T::EACH * ACROSS + 1],
        b[STEP][T::EACH * ACROSS + 1]; /* + 1: for writes along k */
};

/* Sums of a tile; column(c): B's column for the tile's c-th, or -1 beyond the edge. */
template <class T, class Column>
TN_DEVICE void tile_sums(const tn_cu_gemm &g, const tile &t, tiles<T> &shared, Column column,
                         typename T::S (&sums)[T::EACH][T::EACH]) {
    typedef typename T::S S;
    const int EACH = T::EACH, SIDE = EACH * ACROSS;
    const int x = threadIdx.x % ACROSS, y = threadIdx.x / ACROSS;
    const side sa = side_of(g, true, t.member), sb = side_of(g, false, t.member);
    /* Neighbouring threads read what lies side by side. */
    const bool a_by_steps = sa.step <= sa.line, b_by_steps = sb.step < sb.line;
#pragma unroll
    for (int i = 0; i < EACH * EACH; i++)
        sums[i / EACH][i % EACH] = 0;
    for (int64_t block = 0; block < g.k; block += TN_CU_GEMM_KC) {
        const int64_t end = min_of(block + TN_CU_GEMM_KC, g.k);
        S acc[EACH][EACH];
#pragma unroll
        for (int i = 0; i < EACH * EACH; i++)
            acc[i / EACH][i % EACH] = 0;
        for (int64_t p0 = block; p0 < end; p0 += STEP) {
            __syncthreads();
            for (int e = threadIdx.x; e < SIDE * STEP; e += THREADS) {
                const int p = a_by_steps ? e % STEP : e / SIDE,
                          r = a_by_steps ? e / STEP : e % SIDE;
                shared.a[p][r] =
                    r < t.rows && p0 + p < end ? operand<S>(sa, t.i0 + r, p0 + p) : (S)0;
            }
            for (int e = threadIdx.x; e < SIDE * STEP; e += THREADS) {
                const int p = b_by_steps ? e % STEP : e / SIDE,
                          c = b_by_steps ? e / STEP : e % SIDE;
                const int64_t j = column(c);
                shared.b[p][c] = j >= 0 && p0 + p < end ? operand<S>(sb, j, p0 + p) : (S)0;
            }
            __syncthreads();
            /* Steps beyond the block's end would add 0 * 0, which changes the sign of a zero. */
            const int steps = (int)min_of(STEP, end - p0);
            for (int p = 0; p < steps; p++) {
                S av[EACH], bv[EACH];
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    av[i] = shared.a[p][y + i * ACROSS];
                    bv[i] = shared.b[p][x + i * ACROSS];
                }
#pragma unroll
                for (int i = 0; i < EACH; i++)
#pragma unroll
                    for (int j = 0; j < EACH; j++)
                        acc[i][j] = step_of(av[i], bv[j], acc[i][j]);
            }
        }
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < EACH; j++)
                sums[i][j] = block == 0 ? acc[i][j] : sums[i][j] + acc[i][j];
    }
}

template <class T>
TN_DEVICE typename T::E total(const tn_cu_gemm &g, const places &x, int64_t i, int64_t j,
                              typename T::S sum) {
    return T::exact && g.scale_after ? (typename T::E)scaled(g, x, i, j, (double)sum)
                                     : (typename T::E)sum;
}

template <class T> TN_DEVICE void gemm_plain(const tn_cu_gemm &g) {
    typedef typename T::S S;
    typedef typename T::E E;
    const int EACH = T::EACH, SIDE = EACH * ACROSS;
    __shared__ tiles<T> shared;
    const int x = threadIdx.x % ACROSS, y = threadIdx.x / ACROSS;
    for (int64_t index = blockIdx.x; index < g.tiles; index += gridDim.x) {
        const tile t = tile_of(g, index, SIDE, SIDE);
        S z[EACH][EACH] = {}, gate[EACH][EACH];
        if (t.rows <= 0) /* for all threads alike */
            continue;
#pragma unroll 1
        for (int half = g.gated ? 1 : 0; half >= 0; half--) {
#pragma unroll
            for (int e = 0; e < EACH * EACH; e++)
                gate[e / EACH][e % EACH] = z[e / EACH][e % EACH];
            tile_sums<T>(
                g, t, shared,
                [&](int c) {
                    return t.j0 + c >= g.n ? -1 : column_of(g, g.gated ? half : 0, t.j0 + c);
                },
                z);
        }
        const places at = places_of(g, t.member);
#pragma unroll 1
        for (int e = 0; e < EACH * EACH; e++) {
            const int r = y + e / EACH * ACROSS;
            const int64_t row = t.i0 + r, c = t.j0 + x + e % EACH * ACROSS;
            if (r >= t.rows || c >= g.n)
                continue;
            const int64_t first = column_of(g, 0, c);
            const E sum = total<T>(g, at, row, first, pick(z, e));
            const E other =
                g.gated ? total<T>(g, at, row, column_of(g, 1, c), pick(gate, e)) : (E)0;
            finish<E>(g, at, row, c, sum, other);
        }
    }
}

TN_KERNEL __launch_bounds__(THREADS, 2) gemm_plain_f32(const __grid_constant__ tn_cu_gemm g) {
    gemm_plain<sum_f32>(g);
}
TN_KERNEL __launch_bounds__(THREADS, 2) gemm_plain_f64(const __grid_constant__ tn_cu_gemm g) {
    gemm_plain<sum_f64>(g);
}
TN_KERNEL __launch_bounds__(THREADS, 2) gemm_plain_exact(const __grid_constant__ tn_cu_gemm g) {
    gemm_plain<sum_exact>(g);
}
TN_KERNEL __launch_bounds__(THREADS, 2) gemm_plain_scaled(const __grid_constant__ tn_cu_gemm g) {
    gemm_plain<sum_scaled>(g);
}
