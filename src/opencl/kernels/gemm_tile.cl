/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_tile.cl: tiles of C from packed operands, for devices whose work items are threads of a CPU:
 * one tile of TN_ROWS x TN_COLS sums to each work item, no local memory, no barrier.
 *
 * Follows gemm_chain.cl; packed by gemm_pack.cl. In each block of k the panel of B stays in the
 * first cache and the tile's part of A in the second: BLIS's loops (Van Zee and van de Geijn, 2015)
 * around one block of C. B of blocks is decoded, a panel at a time, in private memory.
 */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm_tile(GEMM_MEMORIES,
                                                                       const gemm g) {
    const row_tile t = rows_of(&g, offsets, get_global_id(1), TN_ROWS, MR);
    if (t.rows <= 0)
        return;
    const long z = get_global_id(2), index = g.experts > 0 ? t.member : g.member0 + z;
    const long q0 = (long)get_global_id(0) * (TN_COLS / NR);
    const int panels = (int)min((long)(TN_COLS / NR), g.b_panels - q0);
    __global const S *pa =
        (__global const S *)(work + g.a_packed) + (g.a_members == 1 ? 0 : z * g.a_panels * MR * g.k);
    const member x = MEMBER_OF(&g, index);
#if !TN_BLOCKS
    __global const S *pb = g.b_width != 0
                               ? (__global const S *)x.at[B]
                               : (__global const S *)(work + g.b_packed) +
                                     (g.b_members == 1 ? 0 : (index - g.member0) * g.b_panels * NR * g.k);
#endif
    E sums[TN_ROWS * TN_COLS];

    if (g.k == 0)
        for (int i = 0; i < TN_ROWS * TN_COLS; i++)
            sums[i] = 0;
    for (long p = 0; p < g.k; p += KC) {
        const int steps = (int)min((long)KC, g.k - p);
#if TN_BLOCKS
        S b_panel[KC * NR];
        for (int q = 0; q < panels; q++) {
            unblock_panel(&g, &x, columns_of_panel(&g, q0 + q), p, steps, b_panel);
#else
        __global const S *b_panel = pb + p * g.b_panels * NR + q0 * steps * NR;
        for (int q = 0; q < panels; q++, b_panel += steps * NR) {
#endif
            __global const S *a_panel = pa + p * g.a_panels * MR + t.panel * steps * MR;
            for (int i = 0; i < t.rows; i += MR, a_panel += steps * MR)
                chain_packed(a_panel, b_panel, steps, p == 0, sums + i * TN_COLS + q * NR);
        }
    }
    finish_tile(&g, &x, t.first, t.rows, q0, panels, sums);
}
