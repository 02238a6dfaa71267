/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_pack.cl: A and B in the order in which gemm_tile.cl reads them: panels of TN_MR rows, or of
 * TN_NV vectors of columns, element by element along k; converted, with scales and zero points
 * applied, filled up with zeros. One block of one panel of A, or of B_PANELS of B, to each work item.
 *
 * Layout of a member: blocks of KC steps of k one after the other, in each its panels. Of a gated
 * product, panels 2q and 2q + 1 hold the two columns that make column q of C. TN_TYPE_A,
 * TN_TYPE_B: the operands' types, 0: any. Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication,
 * 2008.
 */
#define MR TN_MR
#define NR (TN_NV * TN_WIDTH)
#define B_PANELS 4

/* Lines of one panel: `count` of them, from `first` by `lines` bytes, steps p by `steps` bytes. */
void pack_plain(source first, long lines, long steps, int type, int count, const int width, long p0,
                long p1, __global S *to) {
    source from = first + p0 * steps;
    if (count == width && type == S_TYPE && lines == sizeof(S)) {
        for (long p = p0; p < p1; p++, from += steps, to += width) {
            __global const S *x = (__global const S *)from;
#pragma unroll
            for (int w = 0; w < width; w++)
                to[w] = x[w];
        }
    } else if (count == width && type == S_TYPE && steps == sizeof(S)) {
        for (long p = 0; p < p1 - p0; p++, to += width) {
#pragma unroll
            for (int w = 0; w < width; w++)
                to[w] = ((__global const S *)(from + w * lines))[p];
        }
    } else if (count == width) {
        for (long p = p0; p < p1; p++, from += steps, to += width) {
#pragma unroll
            for (int w = 0; w < width; w++)
                to[w] = (S)get(from + w * lines, type);
        }
    } else {
        for (long p = p0; p < p1; p++, from += steps, to += width)
            for (int w = 0; w < width; w++)
                to[w] = w < count ? (S)get(from + w * lines, type) : (S)0;
    }
}

APART void pack_a(const gemm *g, long panel, long block, long z, GEMM_MEMORIES) {
    const long p0 = block * KC, p1 = min(p0 + KC, g->k);
    const row_tile t = rows_of(g, offsets, panel, MR, MR);
    if (t.rows <= 0)
        return;
    const member x = MEMBER_OF(g, g->experts > 0 ? t.member : g->member0 + z);
    __global S *to = (__global S *)(work + g->a_packed) + z * g->a_panels * MR * g->k +
                     p0 * g->a_panels * MR + t.panel * (p1 - p0) * MR;
    const int type = TN_TYPE_A ? TN_TYPE_A : g->type[A];
    if (!present(g, A_SCALE) && !present(g, A_ZERO)) {
        pack_plain(x.at[A] + t.first * g->row[A], g->row[A], g->column[A], type, t.rows, MR, p0, p1,
                   to);
        return;
    }
    for (long p = p0; p < p1; p++, to += MR)
        for (int w = 0; w < MR; w++)
            to[w] = w < t.rows ? (S)a_of(g, &x, t.first + w, p) : (S)0;
}

/* Whole panels side by side of rows that are ready: they are read through as they lie. */
void pack_b_rows(source from, long row, int steps, __global S *to) {
    for (int p = 0; p < steps; p++, from += row)
#pragma unroll
        for (int q = 0; q < B_PANELS; q++)
#pragma unroll
            for (int w = 0; w < NR; w++)
                to[(q * steps + p) * NR + w] = ((__global const S *)from)[q * NR + w];
}

APART void pack_b(const gemm *g, long first_panel, long block, long z, GEMM_MEMORIES) {
    const long p0 = block * KC, p1 = min(p0 + KC, g->k);
    const member x = MEMBER_OF(g, g->member0 + z);
    const bool gated = g->gated != UNGATED,
               plain = !present(g, B_SCALE) && !present(g, B_ZERO);
    const int step = g->gated == INTERLEAVED ? 2 : 1;
    const int type = TN_TYPE_B ? TN_TYPE_B : g->type[B];
    __global S *to = (__global S *)(work + g->b_packed) + z * g->b_panels * NR * g->k +
                     p0 * g->b_panels * NR + first_panel * (p1 - p0) * NR;
    if (plain && !gated && type == S_TYPE && g->column[B] == sizeof(S) &&
        (first_panel + B_PANELS) * NR <= g->cols) {
        pack_b_rows(x.at[B] + p0 * g->row[B] + (g->j0 + first_panel * NR) * sizeof(S), g->row[B],
                    (int)(p1 - p0), to);
        return;
    }
    for (long panel = first_panel; panel < min(first_panel + B_PANELS, g->b_panels); panel++) {
        /* Columns of C, then of B. */
        const int half_ = gated ? (int)(panel & 1) : 0;
        const long c0 = (gated ? panel / 2 : panel) * NR;
        const int count = (int)min((long)NR, g->cols - c0);
        const long j0 = gated ? column_of(g, half_, g->j0 + c0) : g->j0 + c0;
        if (plain) {
            pack_plain(x.at[B] + j0 * g->column[B], step * g->column[B], g->row[B], type, count, NR,
                       p0, p1, to);
            to += (p1 - p0) * NR;
            continue;
        }
        for (long p = p0; p < p1; p++, to += NR)
            for (int w = 0; w < NR; w++)
                to[w] = w < count ? (S)b_of(g, &x, p, j0 + w * step) : (S)0;
    }
}

/* Global size: pieces of A, then of B; blocks; members. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm_pack(GEMM_MEMORIES,
                                                                       const gemm g) {
    const long piece = get_global_id(0), block = get_global_id(1), z = get_global_id(2);
    if (piece >= g.a_pieces) {
        if (z < g.b_members)
            pack_b(&g, (piece - g.a_pieces) * B_PANELS, block, z, a, b, c, bias, residual, a_scale,
                   a_zero, b_scale, b_zero, c_scale, c_zero, offsets, work);
    } else if (z < g.a_members) {
        pack_a(&g, piece, block, z, a, b, c, bias, residual, a_scale, a_zero, b_scale, b_zero,
               c_scale, c_zero, offsets, work);
    }
}

/* The head of a packed B of the caller's: what the host has to recognise it by. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm_label(target packed, ulong offset,
                                                                        const ulong8 label) {
    vstore8(label, 0, (__global ulong *)(packed + offset));
}
