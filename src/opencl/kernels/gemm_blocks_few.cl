/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_blocks_few.cl: a few rows of A times B of blocks for GPUs: a column to each work item, whose
 * blocks pass through local memory 256 steps of k at a time, so that every byte of B is read once
 * and neighbours read what lies side by side.
 *
 * Follows gemm_round.cl, with TN_WIDTH 1 and TN_STAGED; TN_ROWS rows, TN_GROUP items. Sums as
 * in gemm_blocks.cl, and bytes for TN_FAST likewise.
 */
/* Bytes that the most generous type takes for 256 steps of a column, as an odd number of words, so
 * that neighbours' columns begin in different banks of the local memory. */
#define MOST_BYTES 276
#define UNITS (KC / UNIT)

__kernel __attribute__((reqd_work_group_size(TN_GROUP, 1, 1))) void gemm_blocks_few(GEMM_MEMORIES,
                                                                                   const gemm g) {
    __local uchar staged[TN_GROUP * MOST_BYTES];
    __local S a_at[TN_ROWS][KC];
#if TN_FAST
    __local uint a_words[TN_ROWS][KC / 4];
    __local float a_d[TN_ROWS][UNITS], a_total[TN_ROWS][UNITS];
#endif
    const int item = get_local_id(0), type = g.type[B], kind = unit_kind(type);
    const row_tile t = rows_of(&g, offsets, get_group_id(1), TN_ROWS, 1);
    if (t.rows <= 0) /* of all items alike */
        return;
    const member x = MEMBER_OF(&g, g.experts > 0 ? t.member : g.member0 + (long)get_group_id(2));
    const bool gated = g.gated != UNGATED;
    const long j0 = g.j0 + (long)get_group_id(0) * TN_GROUP;
    const int columns = (int)min((long)TN_GROUP, g.j0 + g.cols - j0);
    E sums[2][TN_ROWS];

    for (int half_ = 0; half_ < 2; half_++)
        for (int i = 0; i < TN_ROWS; i++)
            sums[half_][i] = 0;
    for (int half_ = 0; half_ < (gated ? 2 : 1); half_++)
        for (long p0 = 0; p0 < g.k; p0 += KC) {
            const int steps = (int)min((long)KC, g.k - p0), elements = block_elements(type);
            const int bytes = steps / elements * block_bytes(type), apart = ((bytes + 3) / 4 | 1) * 4;
            const long before = p0 / elements * block_bytes(type);
            E chain[TN_ROWS];
            for (int c_ = 0; c_ < columns; c_++) {
                const long j = gated ? column_of(&g, half_, j0 + c_) : j0 + c_;
                source from = x.at[B] + j * g.column[B] + before;
                for (int i = item; i < bytes; i += TN_GROUP)
                    staged[c_ * apart + i] = from[i];
            }
            for (int e = item; e < TN_ROWS * steps; e += TN_GROUP)
                a_at[e / steps][e % steps] =
                    a_of(&g, &x, t.first + min(e / steps, t.rows - 1), p0 + e % steps);
            barrier(CLK_LOCAL_MEM_FENCE);
#if TN_FAST
            for (int e = item; e < TN_ROWS * (steps / UNIT); e += TN_GROUP) {
                const int r = e / (steps / UNIT), u = e % (steps / UNIT);
                round_unit(a_at[r] + u * UNIT, a_words[r] + u * FOURS, 1, &a_d[r][u],
                           &a_total[r][u]);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
#endif
            for (int i = 0; i < TN_ROWS; i++)
                chain[i] = 0;
            for (int u = 0; u < steps / UNIT && item < columns; u++) {
                blocks b;
                UV q[FOURS];
                SV s, second;
                b.lane[0] = 0;
                const int r = blocks_to(&b, staged + item * apart, type, u * UNIT);
                unit_fours(&b, type, r, q);
                unit_scales(&b, type, r, &s, &second);
#if TN_FAST
                for (int i = 0; i < TN_ROWS; i++) {
                    int sum0 = 0, sum1 = 0;
#pragma unroll
                    for (int f = 0; f < 4; f++) {
                        sum0 += dot_of(a_words[i][u * FOURS + f], q[f]);
                        sum1 += dot_of(a_words[i][u * FOURS + f + 4], q[f + 4]);
                    }
                    chain[i] = fma(a_d[i][u],
                                   unit_sum(kind, s, second, (S)sum0, (S)sum1, a_total[i][u]), chain[i]);
                }
#else
                for (int f = 0; f < FOURS; f++)
                    for (int e = 0; e < 4; e++) {
                        const S w = unit_element(kind, s, second, q[f], f, e);
                        for (int i = 0; i < TN_ROWS; i++)
                            chain[i] = fma(a_at[i][u * UNIT + 4 * f + e], w, chain[i]);
                    }
#endif
            }
            for (int i = 0; i < TN_ROWS; i++)
                sums[half_][i] = p0 == 0 ? chain[i] : sums[half_][i] + chain[i];
            barrier(CLK_LOCAL_MEM_FENCE);
        }
    for (int i = 0; i < t.rows && item < columns; i++)
        finish(&g, &x, t.first + i, j0 + item, 1, sums[0][i], sums[gated][i]);
}
