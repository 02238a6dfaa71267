/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_blocks_local.cl: tiles of C for GPUs from B of blocks and rows of A rounded to bytes, 32
 * steps of k at a time (docs/NUMERICS.md, 3.8): as gemm_local.cl, with words of four bytes for
 * numbers.
 *
 * Follows gemm_round.cl, with TN_WIDTH 1.
 */
#define SIDE (TN_GROUP * TN_EACH)

__kernel __attribute__((reqd_work_group_size(TN_GROUP, TN_GROUP, 1))) void
gemm_blocks_local(GEMM_MEMORIES, const gemm g) {
    __local S a_at[SIDE][UNIT + 1];
    __local uint a_words[FOURS][SIDE + 1], b_words[FOURS][SIDE + 1];
    __local float a_d[SIDE], a_total[SIDE], b_s[SIDE], b_second[SIDE];
    const int lx = get_local_id(0), ly = get_local_id(1), item = ly * TN_GROUP + lx;
    const row_tile t = rows_of(&g, offsets, get_group_id(1), SIDE, 1);
    if (t.rows <= 0) /* of all items alike */
        return;
    const member x = MEMBER_OF(&g, g.experts > 0 ? t.member : g.member0 + (long)get_group_id(2));
    const bool gated = g.gated != UNGATED, a_by_steps = g.column[A] <= g.row[A];
    const long j0 = g.j0 + (long)get_group_id(0) * SIDE, j_end = g.j0 + g.cols;
    const int type = TN_TYPE_B ? TN_TYPE_B : g.type[B], kind = unit_kind(type);
    E halves[2][TN_EACH][TN_EACH];

    for (int half_ = 0; half_ < (gated ? 2 : 1); half_++) {
        E sums[TN_EACH][TN_EACH], chain[TN_EACH][TN_EACH];
        for (int i = 0; i < TN_EACH; i++)
            for (int j = 0; j < TN_EACH; j++)
                sums[i][j] = chain[i][j] = 0;
        for (long p0 = 0; p0 < g.k; p0 += UNIT) {
            for (int e = item; e < SIDE * UNIT; e += TN_GROUP * TN_GROUP) {
                const int p = a_by_steps ? e % UNIT : e / SIDE, r = a_by_steps ? e / UNIT : e % SIDE;
                a_at[r][p] = r < t.rows ? a_of(&g, &x, t.first + r, p0 + p) : (S)0;
            }
            for (int e = item; e < SIDE * FOURS; e += TN_GROUP * TN_GROUP) {
                const int c_ = e / FOURS, i = e % FOURS;
                const long at = min(j0 + c_, j_end - 1), j = gated ? column_of(&g, half_, at) : at;
                blocks b;
                b.lane[0] = 0;
                const int r = blocks_to(&b, x.at[B] + j * g.column[B], type, p0);
                b_words[i][c_] = unit_four(&b, type, r, i);
                if (i == 0) {
                    SV s, second;
                    unit_scales(&b, type, r, &s, &second);
                    b_s[c_] = s;
                    b_second[c_] = second;
                }
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int r = item; r < SIDE; r += TN_GROUP * TN_GROUP)
                round_unit(a_at[r], &a_words[0][r], SIDE + 1, &a_d[r], &a_total[r]);
            barrier(CLK_LOCAL_MEM_FENCE);
            const bool last = (p0 + UNIT) % KC == 0 || p0 + UNIT == g.k;
#pragma unroll
            for (int i = 0; i < TN_EACH; i++)
#pragma unroll
                for (int j = 0; j < TN_EACH; j++) {
                    const int r = ly + i * TN_GROUP, c_ = lx + j * TN_GROUP;
                    int sum0 = 0, sum1 = 0;
#pragma unroll
                    for (int f = 0; f < 4; f++) {
                        sum0 += dot_of(a_words[f][r], b_words[f][c_]);
                        sum1 += dot_of(a_words[f + 4][r], b_words[f + 4][c_]);
                    }
                    chain[i][j] = fma(a_d[r], unit_sum(kind, b_s[c_], b_second[c_], (S)sum0, (S)sum1,
                                                       a_total[r]),
                                      chain[i][j]);
                    if (last) {
                        sums[i][j] = p0 < KC ? chain[i][j] : sums[i][j] + chain[i][j];
                        chain[i][j] = 0;
                    }
                }
            barrier(CLK_LOCAL_MEM_FENCE);
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
