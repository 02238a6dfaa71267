/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_blocks.cl: rows of A times B of blocks, which are decoded in registers where they lie, once
 * for TN_ROWS rows: a vector's columns at a time, TN_COLS columns to each work item.
 *
 * Follows gemm_unblock.cl, with TN_MR TN_ROWS and TN_NV 1. TN_FAST 0: chains of values, for as many
 * rows as have their sums in registers. TN_FAST 1: rows rounded to bytes, 32 steps at a time, and
 * sums of integers (docs/NUMERICS.md, 3.8), for any number of rows; what a unit of B decodes to
 * meets all of them. Products of bytes are added in pairs of 16-bit integers, even bytes and odd
 * ones, which compilers have an instruction for.
 */
#define UNITS (KC / UNIT)

/* A block of k of A's rows. */
typedef struct lines {
#if TN_FAST
    uint even[TN_ROWS][KC / 4], odd[TN_ROWS][KC / 4]; /* bytes 0 and 2, 1 and 3 of each four */
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
void round_line(const S *x, int units, uint *even, uint *odd, float *d, float *total) {
    for (int u = 0; u < units; u++, x += UNIT, even += FOURS, odd += FOURS) {
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
        for (int i = 0; i < FOURS; i++) {
            even[i] = (uint)q[4 * i + 2] << 16 | (uint)(q[4 * i] & 0xffff);
            odd[i] = (uint)q[4 * i + 3] << 16 | (uint)(q[4 * i + 1] & 0xffff);
        }
        d[u] = r.d;
        total[u] = (float)sum;
    }
}

typedef CAT(int, TN_WIDTH) int_lanes;

/* Of both 16-bit integers of each lane, products with those of a, added. */
int_lanes pairs(UV b, uint a) {
#if TN_WIDTH == 8
    const int16 products = convert_int16(as_short16(b)) * convert_int16(as_short16((uint8)(a)));
    return products.even + products.odd;
#elif TN_WIDTH == 4
    const int8 products = convert_int8(as_short8(b)) * convert_int8(as_short8((uint4)(a)));
    return products.even + products.odd;
#else
    const int low = (int)(a << 16) >> 16, high = (int)a >> 16;
    return (U_AS_INT(b << 16) >> 16) * low + (U_AS_INT(b) >> 16) * high;
#endif
}

/* The upper byte of both 16-bit halves of each lane, with its sign. */
UV upper_bytes(UV x) {
#if TN_WIDTH == 8
    return as_uint8(as_short16(x) >> (short16)(8));
#elif TN_WIDTH == 4
    return as_uint4(as_short8(x) >> (short8)(8));
#else
    const UV low = S_AS_U(U_AS_INT(x << 16) >> 24);
    return (low & 0xffff) | (x >> 24 ^ 128) - 128 << 16;
#endif
}
#endif

/* A unit's share of the chains of all rows. */
void meet_unit(const lines *a, int u, int kind, const UV *q, SV s, SV second, SV *chain) {
#if TN_FAST
    UV even[FOURS], odd[FOURS];
#pragma unroll
    for (int i = 0; i < FOURS; i++) {
        even[i] = upper_bytes(q[i] << 8);
        odd[i] = upper_bytes(q[i]);
    }
    for (int row = 0; row < TN_ROWS; row++) {
        const uint *e = a->even[row] + u * FOURS, *o = a->odd[row] + u * FOURS;
        int_lanes sum[2];
#pragma unroll
        for (int half_ = 0; half_ < 2; half_++) {
            sum[half_] = (int_lanes)(0);
#pragma unroll
            for (int i = 4 * half_; i < 4 * half_ + 4; i++)
                sum[half_] += pairs(even[i], e[i]) + pairs(odd[i], o[i]);
        }
        chain[row] = fma((SV)(a->d[row][u]),
                         unit_sum(kind, s, second, I_TO_S(sum[0]), I_TO_S(sum[1]), a->total[row][u]),
                         chain[row]);
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
    const int type = g.type[B], kind = unit_kind(type);
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
            round_line(line, steps / UNIT, rows.even[i], rows.odd[i], rows.d[i],
                       rows.total[i]);
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
                unit_fours(&b, type, r, 0, FOURS, words);
                unit_scales(&b, type, r, &s, &second);
                meet_unit(&rows, u, kind, words, s, second, chain);
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
