/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_blocks.cl: rows of A times B of blocks, which are decoded in registers where they lie, once
 * for TN_ROWS rows: a vector's columns at a time, TN_COLS columns to each work item.
 *
 * Follows gemm_unblock.cl, with TN_MR TN_ROWS and TN_NV 1. TN_FAST 0: chains of values, for as many
 * rows as have their sums in registers. TN_FAST 1: rows rounded to bytes, 32 steps at a time, and
 * sums of integers (docs/NUMERICS.md, 3.8), for any number of rows; what a unit of B decodes to
 * meets all of them. OpenCL C 1.2 has no dot product of bytes: where the compiler is clang for a
 * processor with AVX2, its own functions for vpmaddubsw and vpmaddwd are used, else plain products.
 */
#define UNITS (KC / UNIT)

/* A block of k of A's rows. */
typedef struct lines {
#if TN_FAST
    uint words[TN_ROWS][KC / 4];
    float d[TN_ROWS][UNITS], total[TN_ROWS][UNITS];
#else
    S at[TN_ROWS][KC];
#endif
} lines;

/* Steps p0 ... of row i. */
void read_line(const gemm *g, const member *x, long i, long p0, int steps, S *to) {
    const bool placed = g->type[A] == S_TYPE && g->column[A] == sizeof(S) &&
                        !present(g, A_SCALE) && !present(g, A_ZERO);
    __global const S *from = (__global const S *)(x->at[A] + i * g->row[A] + p0 * g->column[A]);
    if (placed)
        for (int p = 0; p < steps; p += TN_WIDTH)
            S_STORE(S_LOAD(from + p), to + p);
    else
        for (int p = 0; p < steps; p++)
            to[p] = (S)a_of(g, x, i, p0 + p);
}

#if TN_FAST
void round_line(const S *x, int units, uint *words, float *d, float *total) {
    for (int u = 0; u < units; u++, x += UNIT, words += FOURS) {
        float lane[TN_WIDTH], lane_bad[TN_WIDTH], most = 0, bad = 0;
        int q[UNIT], sum = 0;
        SV m = (SV)(0), b = (SV)(0);
        for (int e = 0; e < UNIT; e += TN_WIDTH) {
            const SV v = S_LOAD(x + e);
            m = fmax(m, fabs(v));
            b = fma(v, (SV)(0), b); /* NaN for NaN and infinities */
        }
        S_STORE(m, lane);
        S_STORE(b, lane_bad);
        for (int l = 0; l < TN_WIDTH; l++) {
            most = fmax(most, lane[l]);
            bad += lane_bad[l];
        }
        const rounding r = rounding_of(most, bad);
        for (int e = 0; e < UNIT; e++)
            q[e] = ROUNDED(&r, x[e], as_int);
        for (int e = 0; e < UNIT; e++)
            sum += q[e];
        for (int i = 0; i < FOURS; i++)
            words[i] = (uint)(q[4 * i] & 255) | (uint)(q[4 * i + 1] & 255) << 8 |
                       (uint)(q[4 * i + 2] & 255) << 16 | (uint)q[4 * i + 3] << 24;
        d[u] = r.d;
        total[u] = (float)sum;
    }
}

#if TN_WIDTH == 8 && defined(__clang__) && defined(__AVX2__)
typedef char signed_bytes __attribute__((ext_vector_type(32)));
typedef short two_sums __attribute__((ext_vector_type(16)));

/* Sums of products with the bytes of a, of half a unit. The first factor of vpmaddubsw is unsigned,
 * so b's sign goes to a. `narrow`: b is below 33, and 2 * 4 * 32 * 127 fits into 16 bits. */
SV half_sum(bool narrow, const UV *q, const uint *a) {
    const two_sums ones = (two_sums)(1);
    two_sums two[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const signed_bytes b = __builtin_astype(q[i], signed_bytes),
                           x = __builtin_astype((uint8)(a[i]), signed_bytes);
        two[i] = __builtin_ia32_pmaddubsw256(__builtin_ia32_psignb256(b, b),
                                             __builtin_ia32_psignb256(x, b));
    }
    if (narrow)
        return convert_float8(
            __builtin_ia32_pmaddwd256((two[0] + two[1]) + (two[2] + two[3]), ones));
    return convert_float8((__builtin_ia32_pmaddwd256(two[0], ones) +
                           __builtin_ia32_pmaddwd256(two[1], ones)) +
                          (__builtin_ia32_pmaddwd256(two[2], ones) +
                           __builtin_ia32_pmaddwd256(two[3], ones)));
}
#else
SV half_sum(bool narrow, const UV *q, const uint *a) {
    SV sum = (SV)(0); /* of integers below 2^24, whose order is of no matter */
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int t = 0; t < 4; t++)
            sum = fma((SV)((float)((int)(a[i] << (24 - 8 * t)) >> 24)), byte_of(q[i], t), sum);
    return sum;
}
#endif
#endif

/* A unit's share of the chains of all rows. */
void meet_unit(const lines *a, int u, int type, const UV *q, SV s, SV second, SV *chain) {
    const int kind = unit_kind(type);
#if TN_FAST
    const bool narrow = type != Q8_0 && type != IQ4_NL;
    for (int row = 0; row < TN_ROWS; row++) {
        const uint *words = a->words[row] + u * FOURS;
        const SV z = unit_sum(kind, s, second, half_sum(narrow, q, words),
                              half_sum(narrow, q + 4, words + 4), a->total[row][u]);
        chain[row] = fma((SV)(a->d[row][u]), z, chain[row]);
    }
#else
#pragma unroll
    for (int i = 0; i < FOURS; i++)
#pragma unroll
        for (int t = 0; t < 4; t++) {
            const SV w = unit_element(kind, s, second, q[i], i, t);
#pragma unroll
            for (int row = 0; row < TN_ROWS; row++)
                chain[row] = fma((SV)(a->at[row][u * UNIT + 4 * i + t]), w, chain[row]);
        }
#endif
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm_blocks(GEMM_MEMORIES,
                                                                         const gemm g) {
    const row_tile t = rows_of(&g, offsets, get_global_id(1), TN_ROWS, MR);
    if (t.rows <= 0)
        return;
    const member x = MEMBER_OF(&g, g.experts > 0 ? t.member : g.member0 + (long)get_global_id(2));
    const long q0 = (long)get_global_id(0) * (TN_COLS / NR);
    const int panels = (int)min((long)(TN_COLS / NR), g.b_panels - q0);
    const int type = g.type[B];
    E sums[TN_ROWS * TN_COLS];
    lines rows;

    if (g.k == 0)
        for (int i = 0; i < TN_ROWS * TN_COLS; i++)
            sums[i] = 0;
    for (long p0 = 0; p0 < g.k; p0 += KC) {
        const int steps = (int)min((long)KC, g.k - p0);
        for (int i = 0; i < TN_ROWS; i++) { /* rows beyond the last are the last again */
#if TN_FAST
            S line[KC];
            read_line(&g, &x, t.first + min(i, t.rows - 1), p0, steps, line);
            round_line(line, steps / UNIT, rows.words[i], rows.d[i], rows.total[i]);
#else
            read_line(&g, &x, t.first + min(i, t.rows - 1), p0, steps, rows.at[i]);
#endif
        }
        for (int q = 0; q < panels; q++) {
            blocks b;
            SV chain[TN_ROWS];
            source column = lanes_of(&g, &x, columns_of_panel(&g, q0 + q), 0, &b);
#pragma unroll
            for (int i = 0; i < TN_ROWS; i++)
                chain[i] = (SV)(0);
            for (int u = 0; u < steps / UNIT; u++) {
                UV words[FOURS];
                SV s, second;
                const int r = blocks_to(&b, column, type, p0 + u * UNIT);
                unit_fours(&b, type, r, words);
                unit_scales(&b, type, r, &s, &second);
                meet_unit(&rows, u, type, words, s, second, chain);
            }
#pragma unroll
            for (int i = 0; i < TN_ROWS; i++) {
                E *at = sums + i * TN_COLS + q * NR;
                S_STORE(p0 == 0 ? chain[i] : S_LOAD(at) + chain[i], at);
            }
        }
    }
    finish_tile(&g, &x, t.first, t.rows, q0, panels, sums);
}
