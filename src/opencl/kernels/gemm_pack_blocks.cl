/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_pack_blocks.cl: B of blocks as a caller's packed B: the blocks as they are, one column of B
 * after the other, so that products read them as they read any others. A column to each work item.
 *
 * Follows gemm.cl and blocks.cl.
 */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm_pack_blocks(GEMM_MEMORIES,
                                                                              const gemm g) {
    const long j = get_global_id(0), z = get_global_id(2);
    const member x = MEMBER_OF(&g, g.member0 + z);
    const long bytes = g.k / block_elements(g.type[B]) * block_bytes(g.type[B]);
    source from = x.at[B] + j * g.column[B];
    target to = work + g.b_packed + (z * g.b_panels + j) * bytes;
    for (long i = 0; i < bytes; i++)
        to[i] = from[i];
}
