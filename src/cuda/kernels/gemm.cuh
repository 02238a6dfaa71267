/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm.cuh: what all GEMM kernels share: where a member of the batch lies, which tile a block
 * makes, and from sums to elements of C in the one order that include/tenon/gemm.h gives.
 *
 * E is the type of everything after the sum: float, or double for f64 and exact integers.
 */
#ifndef TN_GEMM_CUH
#define TN_GEMM_CUH

#include "../cu_gemm.h"
#include "math.cuh"

enum { A, B, C, BIAS, RESIDUAL, A_SCALE, A_ZERO, B_SCALE, B_ZERO, C_SCALE, C_ZERO, OFFSETS };
enum { NONE, RELU, GELU, GELU_TANH, SILU, SIGMOID, TANH, CLAMP };
enum { UNGATED, HALVES, INTERLEAVED };

TN_DEVICE bool present(const tn_cu_gemm &g, int role) {
    return g.type[role] != 0;
}

/* One tile of C: rows [i0, i0 + rows) and columns from j0 of a member, or rows of an expert. */
struct tile {
    int64_t member, i0, j0;
    int rows; /* 0: there is no such tile */
};

/* Tile `index` of the launch, tiles `height` rows by `width` columns. Whole warps. */
TN_DEVICE tile tile_of(const tn_cu_gemm &g, int64_t index, int height, int width) {
    tile t;
    int64_t down = index / g.tiles_across;
    t.j0 = index % g.tiles_across * width;
    if (g.experts == 0) {
        t.member = down / g.tiles_down;
        t.i0 = down % g.tiles_down * height;
        t.rows = (int)min_of(height, g.m - t.i0);
        return t;
    }
    const char *offsets = (const char *)g.at[OFFSETS];
    const int64_t step = g.row[OFFSETS];
    const int type = g.type[OFFSETS];
    t.member = find_group(g.experts, down, [=](int64_t e) {
        return ceil_div(get_index(offsets + (e + 1) * step, type) -
                            get_index(offsets + e * step, type),
                        height);
    });
    t.i0 = t.rows = 0;
    if (t.member < g.experts) {
        t.i0 = get_index(offsets + t.member * step, type) + down * height;
        t.rows = (int)min_of(height, get_index(offsets + (t.member + 1) * step, type) - t.i0);
    }
    return t;
}

/* Where the operands of a member begin. */
struct places {
    char *at[TN_CU_GEMM_OPERANDS];
};

TN_DEVICE char *place(const tn_cu_gemm &g, int role, int64_t member) {
    int64_t at = 0;
    if (g.experts > 0)
        at = member * g.step[role][TN_CU_GEMM_BATCH - 1];
    else if (member > 0)
#pragma unroll
        for (int d = TN_CU_GEMM_BATCH - 1; d >= 0; d--)
            if (g.batch[d] > 1) {
                at += member % g.batch[d] * g.step[role][d];
                member /= g.batch[d];
            }
    return (char *)g.at[role] + at;
}

TN_DEVICE places places_of(const tn_cu_gemm &g, int64_t member) {
    places x;
    int64_t at[TN_CU_GEMM_OPERANDS] = {};
    if (g.experts > 0) {
#pragma unroll
        for (int role = 0; role < TN_CU_GEMM_OPERANDS; role++)
            at[role] = member * g.step[role][TN_CU_GEMM_BATCH - 1];
    } else if (member > 0) {
#pragma unroll
        for (int d = TN_CU_GEMM_BATCH - 1; d >= 0; d--)
            if (g.batch[d] > 1) {
                const int64_t i = member % g.batch[d];
                member /= g.batch[d];
#pragma unroll
                for (int role = 0; role < TN_CU_GEMM_OPERANDS; role++)
                    at[role] += i * g.step[role][d];
            }
    }
#pragma unroll
    for (int role = 0; role < TN_CU_GEMM_OPERANDS; role++)
        x.at[role] = (char *)g.at[role] + at[role];
    return x;
}

/* Column of B, bias and B's companions that belongs to column j of C. */
TN_DEVICE int64_t column_of(const tn_cu_gemm &g, int half, int64_t j) {
    return g.gated == INTERLEAVED ? 2 * j + half : half * g.n + j;
}

template <class E>
TN_DEVICE E element(const tn_cu_gemm &g, const places &x, int role, int64_t i, int64_t j) {
    return get<E>(x.at[role] + i * g.row[role] + j * g.column[role], g.type[role]);
}

/* What the scales make of the sum at row i and column j of A and B, where they wait for it. */
TN_DEVICE float scaled(const tn_cu_gemm &g, const places &x, int64_t i, int64_t j, double sum) {
    double factor = 1;
    if (present(g, A_SCALE))
        factor = (double)element<float>(g, x, A_SCALE, i, 0);
    if (present(g, B_SCALE))
        factor *= (double)element<float>(g, x, B_SCALE, 0, j);
    return (float)(sum * factor);
}

/* ---- operands, element by element */

TN_DEVICE float read_as(float, const char *x, int type) {
    return get<float>(x, type);
}
TN_DEVICE double read_as(double, const char *x, int type) {
    return get<double>(x, type);
}
TN_DEVICE int64_t read_as(int64_t, const char *x, int type) {
    return get_integer(x, type);
}

/* One operand of a tile. */
struct side {
    const char *at, *scale, *zero;
    int64_t line, step; /* bytes from row or column to the next, and along k */
    int64_t scale_line, scale_step, zero_line, zero_step;
    int64_t scale_group, zero_group;
    int type, scale_type, zero_type; /* 0: none */
};

TN_DEVICE side side_of(const tn_cu_gemm &g, bool of_a, int64_t member) {
    const int role = of_a ? A : B, scale = of_a ? A_SCALE : B_SCALE, zero = of_a ? A_ZERO : B_ZERO;
    side s;
    s.at = place(g, role, member);
    s.scale = place(g, scale, member);
    s.zero = place(g, zero, member);
    s.line = of_a ? g.row[role] : g.column[role];
    s.step = of_a ? g.column[role] : g.row[role];
    s.scale_line = of_a ? g.row[scale] : g.column[scale];
    s.scale_step = of_a ? g.column[scale] : g.row[scale];
    s.zero_line = of_a ? g.row[zero] : g.column[zero];
    s.zero_step = of_a ? g.column[zero] : g.row[zero];
    s.scale_group = g.group[scale - A_SCALE];
    s.zero_group = g.group[zero - A_SCALE];
    s.type = g.type[role];
    s.scale_type = g.scale_after ? 0 : g.type[scale];
    s.zero_type = g.type[zero];
    return s;
}

/* scale * (v - zero) for v of row or column ij, step p. */
template <class S> TN_DEVICE S adjusted(const side &s, int64_t ij, int64_t p, S v) {
    if (s.zero_type)
        v -= read_as((S)0, s.zero + ij * s.zero_line + p / s.zero_group * s.zero_step, s.zero_type);
    if (s.scale_type)
        v *= read_as((S)0, s.scale + ij * s.scale_line + p / s.scale_group * s.scale_step,
                     s.scale_type);
    return v;
}
template <class S> TN_DEVICE S operand(const side &s, int64_t ij, int64_t p) {
    return adjusted(s, ij, p, read_as((S)0, s.at + ij * s.line + p * s.step, s.type));
}

/* Element e of an array in registers, which no address can reach. */
template <class S, int EACH> TN_DEVICE S pick(const S (&from)[EACH][EACH], int e) {
    S v = from[0][0];
#pragma unroll
    for (int n = 1; n < EACH * EACH; n++)
        v = e == n ? from[n / EACH][n % EACH] : v;
    return v;
}

/* ---- the end */

/* z = alpha z + beta C' + bias, of one half. */
template <class E>
TN_DEVICE E linear(const tn_cu_gemm &g, const places &x, int half, int64_t i, int64_t j, E z) {
    if (g.alpha != 1)
        z = (E)g.alpha * z;
    if (g.beta != 0) {
        E old = element<E>(g, x, C, i, j);
        if (present(g, C_ZERO))
            old -= element<E>(g, x, C_ZERO, i, j);
        if (present(g, C_SCALE))
            old *= element<E>(g, x, C_SCALE, i, j);
        z = fma((E)g.beta, old, z);
    }
    if (present(g, BIAS))
        z += element<E>(g, x, BIAS, i, column_of(g, half, j));
    return z;
}

template <class E> TN_DEVICE E activated(const tn_cu_gemm &g, E z) {
    switch (g.activation) {
    case RELU:
        return larger((E)0, z);
    case GELU:
        return z * (E)0.5 * ((E)1 + erf_of(z * (E)0.70710678118654752440));
    case GELU_TANH: /* x/2 (1 + tanh u) = x / (1 + e^-2u), which does not cancel; 2 sqrt(2 / pi) */
        return z * sigmoid_of((E)1.59576912160573071176 * fma((E)0.044715, z * z * z, z));
    case SILU:
        return z * sigmoid_of(z);
    case SIGMOID:
        return sigmoid_of(z);
    case TANH:
        return tanh_of(z);
    case CLAMP:
        return smaller((E)g.high, larger((E)g.low, z));
    default:
        return z;
    }
}

/* Element (i, j) of C from its sum; gate: that of the second half, if gated. */
template <class E>
TN_DEVICE E value_of(const tn_cu_gemm &g, const places &x, int64_t i, int64_t j, E z, E gate) {
    z = activated(g, linear(g, x, 0, i, j, z));
    if (g.gated)
        z *= linear(g, x, 1, i, j, gate);
    if (present(g, RESIDUAL))
        z += element<E>(g, x, RESIDUAL, i, j);
    if (present(g, C_SCALE))
        z /= element<E>(g, x, C_SCALE, i, j);
    if (present(g, C_ZERO))
        z += element<E>(g, x, C_ZERO, i, j);
    return z;
}

template <class E>
TN_DEVICE void finish(const tn_cu_gemm &g, const places &x, int64_t i, int64_t j, E z, E gate) {
    put<E>(x.at[C] + i * g.row[C] + j * g.column[C], g.type[C], value_of(g, x, i, j, z, gate));
}

#endif
