/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_local.cl: tiles of C for GPUs of any vendor: a work-group of TN_GROUP x TN_GROUP items makes
 * a tile of (TN_GROUP * TN_EACH) squared, steps of A and B passing through local memory.
 *
 * Follows gemm.cl, with TN_WIDTH 1. Item (x, y) has every TN_GROUP-th row and column of the tile, so
 * that neighbours read neighbouring local words and write neighbouring elements of C. The chain of a
 * block of KC steps is kept apart from the sum of the blocks before it. Needs no extension and no
 * subgroup. (Tiling through local memory: Nath, Tomov and Dongarra, 2010; CLBlast: Nugteren, 2018.)
 */
#define SIDE (TN_GROUP * TN_EACH)

#if TN_BLOCKS
/* The tile of B from blocks, a word of four steps at a time: neighbours read a column's words. */
void local_blocks(const gemm *g, const member *x, int type, int half_, long j0, long j_end, long p0,
                  long p_end, int item, __local S (*tile)[SIDE + 1]) {
    const int kind = unit_kind(type);
    for (int e = item; e < SIDE * TN_STEP / 4; e += TN_GROUP * TN_GROUP) {
        const int c_ = e / (TN_STEP / 4), p = e % (TN_STEP / 4) * 4;
        if (j0 + c_ >= j_end || p0 + p >= p_end) {
            for (int t = 0; t < 4; t++)
                tile[p + t][c_] = 0;
            continue;
        }
        const long j = g->gated != UNGATED ? column_of(g, half_, j0 + c_) : j0 + c_;
        blocks b;
        SV s, second;
        b.lane[0] = 0;
        const int r = blocks_to(&b, x->at[B] + j * g->column[B], type, p0 + p),
                  i = (int)((p0 + p) % UNIT) / 4;
        const UV four = unit_four(&b, type, r, i);
        unit_scales(&b, type, r, &s, &second);
        for (int t = 0; t < 4; t++)
            tile[p + t][c_] = unit_element(kind, s, second, four, i, t);
    }
}
#endif

__kernel __attribute__((reqd_work_group_size(TN_GROUP, TN_GROUP, 1))) void
gemm_local(GEMM_MEMORIES, const gemm g) {
    /* One more word in a row, for writes along the other direction. */
    __local S a_tile[TN_STEP][SIDE + 1], b_tile[TN_STEP][SIDE + 1];
    const int lx = get_local_id(0), ly = get_local_id(1), item = ly * TN_GROUP + lx;
    const row_tile t = rows_of(&g, offsets, get_group_id(1), SIDE, 1);
    if (t.rows <= 0) /* of all items alike */
        return;
    const member x = MEMBER_OF(&g, g.experts > 0 ? t.member : g.member0 + (long)get_group_id(2));
    const bool gated = g.gated != UNGATED;
    const int type_a = TN_TYPE_A ? TN_TYPE_A : g.type[A], type_b = TN_TYPE_B ? TN_TYPE_B : g.type[B];
    const bool a_plain = !present(&g, A_SCALE) && !present(&g, A_ZERO),
               b_plain = !present(&g, B_SCALE) && !present(&g, B_ZERO);
    const long j0 = g.j0 + (long)get_group_id(0) * SIDE, j_end = g.j0 + g.cols;
    /* Neighbouring items read what lies side by side. */
    const bool a_by_steps = g.column[A] <= g.row[A], b_by_steps = g.row[B] < g.column[B];
    E halves[2][TN_EACH][TN_EACH];

    for (int half_ = 0; half_ < (gated ? 2 : 1); half_++) {
        E sums[TN_EACH][TN_EACH];
        for (int i = 0; i < TN_EACH; i++)
            for (int j = 0; j < TN_EACH; j++)
                sums[i][j] = 0;
        for (long block = 0; block < g.k; block += KC) {
            const long block_end = min(block + KC, g.k);
            S acc[TN_EACH][TN_EACH];
#pragma unroll
            for (int i = 0; i < TN_EACH; i++)
#pragma unroll
                for (int j = 0; j < TN_EACH; j++)
                    acc[i][j] = 0;
            for (long p0 = block; p0 < block_end; p0 += TN_STEP) {
                for (int e = item; e < SIDE * TN_STEP; e += TN_GROUP * TN_GROUP) {
                    const int p = a_by_steps ? e % TN_STEP : e / SIDE;
                    const int r = a_by_steps ? e / TN_STEP : e % SIDE;
                    S v = 0;
                    if (r < t.rows && p0 + p < block_end)
                        v = a_plain ? (S)get(x.at[A] + (t.first + r) * g.row[A] +
                                                 (p0 + p) * g.column[A],
                                             type_a)
                                    : (S)a_of(&g, &x, t.first + r, p0 + p);
                    a_tile[p][r] = v;
                }
#if TN_BLOCKS
                if (b_plain)
                    local_blocks(&g, &x, type_b, half_, j0, j_end, p0, block_end, item, b_tile);
                else
#endif
                for (int e = item; e < SIDE * TN_STEP; e += TN_GROUP * TN_GROUP) {
                    const int p = b_by_steps ? e % TN_STEP : e / SIDE;
                    const int c_ = b_by_steps ? e / TN_STEP : e % SIDE;
                    S v = 0;
                    if (j0 + c_ < j_end && p0 + p < block_end) {
                        const long j = gated ? column_of(&g, half_, j0 + c_) : j0 + c_;
                        v = b_plain ? (S)b_raw(&g, &x, p0 + p, j, type_b)
                                    : (S)b_of(&g, &x, p0 + p, j);
                    }
                    b_tile[p][c_] = v;
                }
                barrier(CLK_LOCAL_MEM_FENCE);
                /* Steps beyond the block's end would add 0 * 0, which changes the sign of a zero. */
                const int steps = (int)min((long)TN_STEP, block_end - p0);
                for (int p = 0; p < steps; p++) {
                    S av[TN_EACH], bv[TN_EACH];
#pragma unroll
                    for (int i = 0; i < TN_EACH; i++) {
                        av[i] = a_tile[p][ly + i * TN_GROUP];
                        bv[i] = b_tile[p][lx + i * TN_GROUP];
                    }
#pragma unroll
                    for (int i = 0; i < TN_EACH; i++)
#pragma unroll
                        for (int j = 0; j < TN_EACH; j++)
                            acc[i][j] = fma(av[i], bv[j], acc[i][j]);
                }
                barrier(CLK_LOCAL_MEM_FENCE);
            }
#pragma unroll
            for (int i = 0; i < TN_EACH; i++)
#pragma unroll
                for (int j = 0; j < TN_EACH; j++)
                    sums[i][j] = block == 0 ? (E)acc[i][j] : sums[i][j] + (E)acc[i][j];
        }
        for (int i = 0; i < TN_EACH; i++)
            for (int j = 0; j < TN_EACH; j++)
                halves[half_][i][j] = sums[i][j];
    }
    for (int i = 0; i < TN_EACH; i++)
        for (int j = 0; j < TN_EACH; j++) {
            const int r = ly + i * TN_GROUP;
            const long c_ = j0 + lx + j * TN_GROUP;
            if (r < t.rows && c_ < j_end)
                finish(&g, &x, t.first + r, c_, 1, halves[0][i][j], halves[gated][i][j]);
        }
}
