/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_small.cl: tiles of C without workspace, for devices whose work items are threads of a CPU:
 * operands are read where they lie if they are of the type of the products and B's rows are
 * contiguous, else panels are packed in private memory.
 *
 * Follows gemm_chain.cl. Small products, batches of them, and large ones where there is no memory:
 * panels are packed again for each tile.
 */

/* A in place: rows beyond the last read the last again. */
void chain_placed(source a, long row, long step, int rows, __global const S *b, long b_step,
                  int steps, bool first, E *sums) {
    __global const S *line[MR];
    chains x;
    chains_clear(&x);
    EACH_ROW line[i] = (__global const S *)(a + min(i, rows - 1) * row);
    CHAINS_STEPS(, line[i][p * step], (b += b_step))
    chains_join(&x, first, sums);
}

void chain_placed_a(source a, long row, long step, int rows, const S *b, int steps, bool first,
                    E *sums) {
    __global const S *line[MR];
    chains x;
    chains_clear(&x);
    EACH_ROW line[i] = (__global const S *)(a + min(i, rows - 1) * row);
    CHAINS_STEPS(, line[i][p * step], (b += NR))
    chains_join(&x, first, sums);
}

void chain_placed_b(const S *a, __global const S *b, long b_step, int steps, bool first, E *sums) {
    chains x;
    chains_clear(&x);
    CHAINS_STEPS(, a[i], (a += MR, b += b_step))
    chains_join(&x, first, sums);
}

void chain_private(const S *a, const S *b, int steps, bool first, E *sums) {
    chains x;
    chains_clear(&x);
    CHAINS_STEPS(, a[i], (a += MR, b += NR))
    chains_join(&x, first, sums);
}

/* Panel q of B: `count` columns from column j0 of it on, `step` apart. */
void small_pack_b(const gemm *g, const member *x, long j0, int step, int count, long p0, int steps,
                  S *to) {
    const bool plain = !present(g, B_SCALE) && !present(g, B_ZERO);
    source from = x->at[B] + p0 * g->row[B] + j0 * g->column[B];
    for (int p = 0; p < steps; p++, from += g->row[B], to += NR)
        for (int w = 0; w < NR; w++)
            to[w] = w >= count ? (S)0
                    : plain    ? (S)get(from + w * step * g->column[B], g->type[B])
                               : (S)b_of(g, x, p0 + p, j0 + w * step);
}

void small_pack_a(const gemm *g, const member *x, long i0, int rows, long p0, int steps, S *to) {
    const bool plain = !present(g, A_SCALE) && !present(g, A_ZERO);
    for (int i = 0; i < rows; i += MR, to += KC * MR)
        for (int p = 0; p < steps; p++)
            for (int w = 0; w < MR; w++)
                to[p * MR + w] =
                    i + w >= rows ? (S)0
                    : plain       ? (S)get(x->at[A] + (i0 + i + w) * g->row[A] +
                                               (p0 + p) * g->column[A],
                                           g->type[A])
                                  : (S)a_of(g, x, i0 + i + w, p0 + p);
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm_small(GEMM_MEMORIES,
                                                                        const gemm g) {
    const row_tile t = rows_of(&g, offsets, get_global_id(1), TN_ROWS, MR);
    if (t.rows <= 0)
        return;
    const member x = MEMBER_OF(&g, g.experts > 0 ? t.member : g.member0 + (long)get_global_id(2));
    const long q0 = (long)get_global_id(0) * (TN_COLS / NR);
    const int panels = (int)min((long)(TN_COLS / NR), g.b_panels - q0);
    const bool gated = g.gated != UNGATED;
    const int step = g.gated == INTERLEAVED ? 2 : 1;
    const bool a_placed = g.type[A] == S_TYPE && !present(&g, A_SCALE) && !present(&g, A_ZERO);
    const bool ready = g.b_width != 0;
    const bool b_placed = g.type[B] == S_TYPE && !present(&g, B_SCALE) && !present(&g, B_ZERO) &&
                          step * g.column[B] == sizeof(S);
    E sums[TN_ROWS * TN_COLS];
    S a_packed[TN_ROWS * KC], b_packed[NR * KC];

    if (g.k == 0)
        for (int i = 0; i < TN_ROWS * TN_COLS; i++)
            sums[i] = 0;
    for (long p = 0; p < g.k; p += KC) {
        const int steps = (int)min((long)KC, g.k - p);
        if (!a_placed)
            small_pack_a(&g, &x, t.first, t.rows, p, steps, a_packed);
        for (int q = 0; q < panels; q++) {
            const long c0 = (gated ? (q0 + q) / 2 : q0 + q) * NR;
            const int count = (int)min((long)NR, g.cols - c0);
            const long j0 = gated ? column_of(&g, (int)((q0 + q) & 1), g.j0 + c0) : g.j0 + c0;
            const bool b_here = ready || (b_placed && count == NR);
            __global const S *b_from =
                ready ? (__global const S *)x.at[B] + p * g.b_panels * NR + (q0 + q) * steps * NR
                      : (__global const S *)(x.at[B] + p * g.row[B] + j0 * g.column[B]);
#if TN_BLOCKS
            unblock_panel(&g, &x, columns_of_panel(&g, q0 + q), p, steps, b_packed);
#else
            if (!b_here)
                small_pack_b(&g, &x, j0, step, count, p, steps, b_packed);
#endif
            for (int i = 0; i < t.rows; i += MR) {
                E *at = sums + i * TN_COLS + q * NR;
                source a_at = x.at[A] + (t.first + i) * g.row[A] + p * g.column[A];
                const S *a_there = a_packed + i * KC;
                const long a_step = g.column[A] / (long)sizeof(S);
                const long b_step = ready ? NR : g.row[B] / (long)sizeof(S);
                if (a_placed && b_here)
                    chain_placed(a_at, g.row[A], a_step, t.rows - i, b_from, b_step, steps, p == 0, at);
                else if (a_placed)
                    chain_placed_a(a_at, g.row[A], a_step, t.rows - i, b_packed, steps, p == 0, at);
                else if (b_here)
                    chain_placed_b(a_there, b_from, b_step, steps, p == 0, at);
                else
                    chain_private(a_there, b_packed, steps, p == 0, at);
            }
        }
    }
    finish_tile(&g, &x, t.first, t.rows, q0, panels, sums);
}
