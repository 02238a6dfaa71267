/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_plain.cl: a product without workspace, one row of up to COLUMNS elements of C to each work
 * item, straight from the formula; any types, any strides.
 *
 * What always works, and what is taken where nothing else pays. Exact integers (TN_SUM 2) are
 * summed as integers; TN_FAST: B of blocks meets rows of A that are rounded to bytes.
 */
#define COLUMNS 16

#if TN_SUM == 2
long integer_at(source x, int type) {
    switch (type) {
    case S8:
        return *(__global const char *)x;
    case U8:
        return *x;
    case S32:
        return *(__global const int *)x;
    case F32: /* packed */
    case F64:
        return (long)get(x, type);
    default:
        return get_index(x, type);
    }
}

long integer_of(const gemm *g, const member *x, int role, int zero, long ij, long p) {
    const bool of_a = role == A;
    long value = integer_at(of_a ? x->at[A] + ij * g->row[A] + p * g->column[A]
                                 : b_at(g, x, p, ij),
                            g->type[role]);
    if (present(g, zero)) {
        const long q = p / g->group[zero - A_SCALE];
        value -= integer_at(x->at[zero] + (of_a ? ij * g->row[zero] + q * g->column[zero]
                                                : q * g->row[zero] + ij * g->column[zero]),
                            g->type[zero]);
    }
    return value;
}
#endif

#if TN_FAST
/* Of row i rounded to bytes, a unit at a time, by integers: docs/NUMERICS.md, 3.8. */
E rounded_sum(const gemm *g, const member *x, long i, long j) {
    const int type = g->type[B], kind = unit_kind(type);
    E sum = 0, chain = 0;
    for (long p = 0; p < g->k; p += UNIT) {
        float most = 0, bad = 0;
        for (int e = 0; e < UNIT; e++) {
            const float v = a_of(g, x, i, p + e);
            most = fmax(most, fabs(v));
            bad = fma(v, 0.0f, bad);
        }
        const rounding round = rounding_of(most, bad);
        int total = 0, of_half[2] = {0, 0};
        blocks b;
        UV q[FOURS];
        SV s, second;
        b.lane[0] = 0;
        const int r = blocks_to(&b, x->at[B] + j * g->column[B], type, p);
        unit_fours(&b, type, r, q);
        unit_scales(&b, type, r, &s, &second);
        for (int e = 0; e < UNIT; e++) {
            const int v = ROUNDED(&round, a_of(g, x, i, p + e), as_int);
            total += v;
            of_half[e / 16] += v * (int)byte_of(q[e / 4], e % 4);
        }
        chain = fma(round.d, unit_sum(kind, s, second, of_half[0], of_half[1], total), chain);
        if ((p + UNIT) % KC == 0 || p + UNIT == g->k) {
            sum = p < KC ? chain : sum + chain;
            chain = 0;
        }
    }
    return sum;
}
#endif

E plain_sum(const gemm *g, const member *x, long i, long j) {
#if TN_SUM == 2
    long sum = 0;
    for (long p = 0; p < g->k; p++)
        sum += integer_of(g, x, A, A_ZERO, i, p) * integer_of(g, x, B, B_ZERO, j, p);
    return (E)sum;
#elif TN_FAST
    return rounded_sum(g, x, i, j);
#else
    E sum = 0;
    for (long block = 0; block < g->k; block += KC) {
        const long end = min(block + KC, g->k);
        E chain = 0;
        for (long p = block; p < end; p++)
            chain = fma(a_of(g, x, i, p), b_of(g, x, p, j), chain);
        sum = block == 0 ? chain : sum + chain;
    }
    return sum;
#endif
}

__kernel void gemm_plain(GEMM_MEMORIES, const gemm g) {
    const long j0 = g.j0 + (long)get_global_id(0) * COLUMNS;
    row_tile t = rows_of(&g, offsets, get_global_id(1), 1, 1);
    if (t.rows <= 0)
        return;
    const member x =
        MEMBER_OF(&g, g.experts > 0 ? t.member : g.member0 + (long)get_global_id(2));
    const long end = min(j0 + COLUMNS, g.j0 + g.cols);
    for (long j = j0; j < end; j++) {
        const bool gated = g.gated != UNGATED;
        const E z = plain_sum(&g, &x, t.first, gated ? column_of(&g, 0, j) : j);
        const E gate = gated ? plain_sum(&g, &x, t.first, column_of(&g, 1, j)) : (E)0;
        finish(&g, &x, t.first, j, 1, z, gate);
    }
}
