/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_unblock.cl: columns of blocks for kernels whose work items are threads of a CPU: where a
 * vector's lie, and a panel of their values.
 *
 * Follows gemm_chain.cl.
 */

/* The columns of panel q of the launch, `step` apart: how many there are, and the first, of B. */
typedef struct panel_columns {
    long first;
    int count, step;
} panel_columns;

panel_columns columns_of_panel(const gemm *g, long q) {
    const bool gated = g->gated != UNGATED;
    const long c0 = (gated ? q / 2 : q) * NR;
    panel_columns c;
    c.first = gated ? column_of(g, (int)(q & 1), g->j0 + c0) : g->j0 + c0;
    c.count = (int)min((long)NR, g->cols - c0);
    c.step = g->gated == INTERLEAVED ? 2 : 1;
    return c;
}

/* A vector's columns from the `from`-th of a panel; lanes without a column have the panel's last. */
source lanes_of(const gemm *g, const member *x, panel_columns c, int from, blocks *b) {
#pragma unroll
    for (int l = 0; l < TN_WIDTH; l++)
        b->lane[l] = min(from + l, c.count - 1) * c.step * g->column[B];
    return x->at[B] + c.first * g->column[B];
}

/* `steps` steps from p0 on, NR values to each; scaled, if B has scales. */
void unblock_panel(const gemm *g, const member *x, panel_columns c, long p0, int steps, S *to) {
    const int type = g->type[B], kind = unit_kind(type);
    blocks b;
    for (int v = 0; v < NV; v++) {
        source column = lanes_of(g, x, c, v * TN_WIDTH, &b);
        for (int p = 0; p < steps; p += UNIT) {
            UV q[FOURS];
            SV s, second;
            const int r = blocks_to(&b, column, type, p0 + p);
            unit_fours(&b, type, r, q);
            unit_scales(&b, type, r, &s, &second);
            S *at = to + p * NR + v * TN_WIDTH;
#pragma unroll
            for (int i = 0; i < FOURS; i++)
#pragma unroll
                for (int t = 0; t < 4; t++, at += NR)
                    S_STORE(unit_element(kind, s, second, q[i], i, t), at);
        }
    }
    if (present(g, B_SCALE) || present(g, B_ZERO))
        for (int p = 0; p < steps; p++)
            for (int w = 0; w < c.count; w++)
                to[p * NR + w] = (S)dequantised(g, x, B_SCALE, B_ZERO, to[p * NR + w],
                                                c.first + w * c.step, p0 + p);
}
