/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_rows.cl: a few rows of C times a B that is read once, where it lies: the limit is memory.
 * For devices whose work items are threads of a CPU: TN_COLS columns to each work item.
 *
 * Follows gemm_chain.cl, with TN_MR rows, at least as many as C has. B of TN_TYPE without scale or
 * zero point, its rows contiguous (TN_TURNED 0) or its columns (1). The chains of a block run over
 * the columns in turn, a few steps of k at a time, so that sums stay in the first cache and each
 * column keeps its one chain.
 */
#define AHEAD 4

/* TN_WIDTH elements of B, `step` bytes apart. */
inline __attribute__((always_inline)) SV b_vector(source x, long step) {
#if TN_TYPE == F32 && TN_SUM == 0 && !TN_TURNED
    return S_LOAD((__global const S *)x);
#elif TN_TYPE == F64 && !TN_TURNED
    return S_LOAD((__global const S *)x);
#else
    S t[TN_WIDTH];
#pragma unroll
    for (int l = 0; l < TN_WIDTH; l++)
        t[l] = (S)get(x + l * step, TN_TYPE);
    return S_LOAD(t);
#endif
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm_rows(GEMM_MEMORIES,
                                                                       const gemm g) {
    const long c0 = (long)get_global_id(0) * TN_COLS;
    const member x = MEMBER_OF(&g, g.member0 + (long)get_global_id(2));
    const int cols = (int)min((long)TN_COLS, g.cols - c0), rows = (int)g.rows;
    const int vectors = cols / TN_WIDTH, rest = cols % TN_WIDTH;
    const long along = g.column[B], down = g.row[B];
    E sums[MR * TN_COLS];
    S chains_at[MR * TN_COLS], a_at[MR * KC];

    for (int i = 0; i < MR * TN_COLS; i++)
        sums[i] = 0;
    for (long block = 0; block < g.k; block += KC) {
        const int steps = (int)min((long)KC, g.k - block);
        for (int i = 0; i < MR; i++) /* rows beyond the last are the last again */
            for (int p = 0; p < steps; p++)
                a_at[i * KC + p] = (S)a_of(&g, &x, g.i0 + min(i, rows - 1), block + p);
        for (int i = 0; i < MR * TN_COLS; i++)
            chains_at[i] = 0;
        source b_block = x.at[B] + block * down + (g.j0 + c0) * along;
#if TN_TURNED
        for (int v = 0; v < vectors; v++) {
            source from = b_block + v * TN_WIDTH * along;
            SV acc[MR];
            EACH_ROW acc[i] = (SV)(0);
            for (int p = 0; p < steps; p++) {
                const SV bv = b_vector(from + p * down, along);
                EACH_ROW acc[i] = fma((SV)(a_at[i * KC + p]), bv, acc[i]);
            }
            EACH_ROW S_STORE(acc[i], chains_at + i * TN_COLS + v * TN_WIDTH);
        }
#else
        int p = 0;
        for (; p + AHEAD <= steps; p += AHEAD) {
            source from = b_block + p * down;
            for (int v = 0; v < vectors; v++, from += TN_WIDTH * along) {
                SV bv[AHEAD];
#pragma unroll
                for (int q = 0; q < AHEAD; q++)
                    bv[q] = b_vector(from + q * down, along);
                EACH_ROW {
                    S *at = chains_at + i * TN_COLS + v * TN_WIDTH;
                    SV acc = S_LOAD(at);
#pragma unroll
                    for (int q = 0; q < AHEAD; q++)
                        acc = fma((SV)(a_at[i * KC + p + q]), bv[q], acc);
                    S_STORE(acc, at);
                }
            }
        }
        for (; p < steps; p++)
            for (int v = 0; v < vectors; v++) {
                const SV bv = b_vector(b_block + p * down + v * TN_WIDTH * along, along);
                EACH_ROW {
                    S *at = chains_at + i * TN_COLS + v * TN_WIDTH;
                    S_STORE(fma((SV)(a_at[i * KC + p]), bv, S_LOAD(at)), at);
                }
            }
#endif
        for (int l = cols - rest; l < cols; l++)
            for (int p = 0; p < steps; p++) {
                const S b_value = (S)get(b_block + p * down + l * along, TN_TYPE);
                for (int i = 0; i < rows; i++)
                    chains_at[i * TN_COLS + l] =
                        fma(a_at[i * KC + p], b_value, chains_at[i * TN_COLS + l]);
            }
        for (int i = 0; i < MR * TN_COLS; i++)
            sums[i] = block == 0 ? (E)chains_at[i] : sums[i] + (E)chains_at[i];
    }
    for (int i = 0; i < rows; i++)
        for (int l = 0; l < cols; l += TN_WIDTH) {
            const int count = min(TN_WIDTH, cols - l);
            const E *at = sums + i * TN_COLS + l;
            finish(&g, &x, g.i0 + i, g.j0 + c0 + l, count, E_LOAD(at), E_LOAD(at));
        }
}
