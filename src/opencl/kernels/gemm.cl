/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm.cl: what all GEMM kernels share: the numbers of a product, where a member of the batch
 * lies, and from sums to elements of C in the one order that include/tenon/gemm.h gives.
 *
 * Follows number.cl and math.cl, and blocks.cl where B is of blocks. struct gemm is filled by
 * src/opencl/cl_gemm.c, which has the same declaration (cl_gemm.h); keep them alike. Everything in
 * it counts bytes unless said otherwise. Order of sums (docs/NUMERICS.md, 3.1): blocks of KC steps
 * of k, each one chain of fused multiply-adds from zero, added in ascending order.
 */
#define KC 256

enum { A, B, C, BIAS, RESIDUAL, A_SCALE, A_ZERO, B_SCALE, B_ZERO, C_SCALE, C_ZERO, OFFSETS, ROLES };
enum { NONE, RELU, GELU, GELU_TANH, SILU, SIGMOID, TANH, CLAMP };
enum { UNGATED, HALVES, INTERLEAVED };

typedef struct gemm {
    long m, n, k;           /* elements; n: columns of C */
    long i0, rows, j0, cols; /* the part of C that this launch makes, in elements */
    long member0;           /* first member of the batch of this launch */
    long batch[3];          /* extents, outermost first; 1 where there are fewer */
    long experts;           /* > 0: grouped */
    long group[4];          /* a_scale, a_zero, b_scale, b_zero: steps of k to one */
    long a_panels, b_panels; /* packed panels of a member */
    long a_packed, b_packed; /* where they begin in the workspace */
    double_bits alpha, beta, low, high;
    long start[ROLES], row[ROLES], column[ROLES], step[ROLES][3];
    int type[ROLES]; /* 0: absent */
    int activation, gated;
    int a_members, b_members; /* packed: 1 of them where all members have the same A, B */
    long a_pieces;            /* work items of gemm_pack.cl for A */
    long b_width;             /* B is packed by the caller, in panels of so many columns; 0: it is not */
} gemm;

/* The operands' memories, by role, and the workspace. */
#define GEMM_MEMORIES                                                                              \
    source a, source b, target c, source bias, source residual, source a_scale, source a_zero,     \
        source b_scale, source b_zero, source c_scale, source c_zero, source offsets, target work

typedef struct member {
    source at[ROLES]; /* C for reading too */
    target c;
} member;

#define present(g, role) ((g)->type[role] != 0)

/* Member `index` of the batch (expert, if there are experts). */
member member_of(const gemm *g, long index, GEMM_MEMORIES) {
    member x;
    const long i2 = index % g->batch[2], i1 = index / g->batch[2] % g->batch[1],
               i0 = index / g->batch[2] / g->batch[1];
#define PLACE(role) (g->start[role] + i0 * g->step[role][0] + i1 * g->step[role][1] + i2 * g->step[role][2])
    x.at[A] = a + PLACE(A);
    x.at[B] = b + PLACE(B);
    x.c = c + PLACE(C);
    x.at[C] = x.c;
    x.at[BIAS] = bias + PLACE(BIAS);
    x.at[RESIDUAL] = residual + PLACE(RESIDUAL);
    x.at[A_SCALE] = a_scale + PLACE(A_SCALE);
    x.at[A_ZERO] = a_zero + PLACE(A_ZERO);
    x.at[B_SCALE] = b_scale + PLACE(B_SCALE);
    x.at[B_ZERO] = b_zero + PLACE(B_ZERO);
    x.at[C_SCALE] = c_scale + PLACE(C_SCALE);
    x.at[C_ZERO] = c_zero + PLACE(C_ZERO);
#undef PLACE
    return x;
}
#define MEMBER_OF(g, index)                                                                        \
    member_of(g, index, a, b, c, bias, residual, a_scale, a_zero, b_scale, b_zero, c_scale,        \
              c_zero, offsets, work)

/* Rows [first, first + rows) of C, of which the packed A begins with panel `panel`. */
typedef struct row_tile {
    long member, first, panel;
    int rows;
} row_tile;

/*
 * The index-th tile of `height` rows of the launch; rows = 0: there is none. Of experts, each has
 * the tiles that its own rows take, one after the other, and panels of `width` rows likewise.
 */
row_tile rows_of(const gemm *g, source offsets, long index, int height, int width) {
    row_tile t = {0, 0, 0, 0};
    if (g->experts == 0) {
        const long first = index * height;
        t.first = g->i0 + first;
        t.panel = first / width;
        t.rows = (int)min((long)height, g->rows - first);
        return t;
    }
    source at = offsets + g->start[OFFSETS];
    for (long e = 0; e < g->experts; e++) {
        const long low = get_index(at + e * g->row[OFFSETS], g->type[OFFSETS]);
        const long high = get_index(at + (e + 1) * g->row[OFFSETS], g->type[OFFSETS]);
        const long tiles = (high - low + height - 1) / height;
        if (index < tiles) {
            t.member = e;
            t.first = low + index * height;
            t.panel += index * height / width;
            t.rows = (int)min((long)height, high - t.first);
            return t;
        }
        index -= tiles;
        t.panel += (high - low + width - 1) / width;
    }
    return t;
}

/* ---- operands of a sum */

/* a_scale * (A - a_zero) or b's for one element, `value` being A's or B's. */
E dequantised(const gemm *g, const member *x, int scale, int zero, E value, long ij, long p) {
    /* A's companions step by row and group, B's by group and column. */
    const bool of_a = scale == A_SCALE;
    if (present(g, zero)) {
        const long q = p / g->group[zero - A_SCALE];
        value -= get(x->at[zero] + (of_a ? ij * g->row[zero] + q * g->column[zero]
                                         : q * g->row[zero] + ij * g->column[zero]),
                     g->type[zero]);
    }
    if (present(g, scale)) {
        const long q = p / g->group[scale - A_SCALE];
        value *= get(x->at[scale] + (of_a ? ij * g->row[scale] + q * g->column[scale]
                                          : q * g->row[scale] + ij * g->column[scale]),
                     g->type[scale]);
    }
    return value;
}

E a_of(const gemm *g, const member *x, long i, long p) {
    return dequantised(g, x, A_SCALE, A_ZERO,
                       get(x->at[A] + i * g->row[A] + p * g->column[A], g->type[A]), i, p);
}

/* Element (p, j) of B: where the caller has it, or in its packed form (gemm_pack.cl). */
source b_at(const gemm *g, const member *x, long p, long j) {
    if (g->b_width == 0)
        return x->at[B] + p * g->row[B] + j * g->column[B];
    const bool gated = g->gated != UNGATED;
    const long half_ = g->gated == INTERLEAVED ? j & 1 : gated && j >= g->n;
    const long c = g->gated == INTERLEAVED ? j / 2 : j - half_ * g->n;
    const long panel = c / g->b_width * (gated ? 2 : 1) + half_, block = p / KC * KC;
    const long lines = block * g->b_panels + panel * min((long)KC, g->k - block) + p - block;
    return x->at[B] + (lines * g->b_width + c % g->b_width) * type_size(g->type[B]);
}

/* Its value without scale and zero, of `type`. */
E b_raw(const gemm *g, const member *x, long p, long j, int type) {
#if TN_BLOCKS && TN_WIDTH == 1 && !defined(TN_STAGED)
    if (is_block_type(type))
        return block_element(x->at[B] + j * g->column[B], type, p);
#endif
    return get(b_at(g, x, p, j), type);
}

E b_of(const gemm *g, const member *x, long p, long j) {
    return dequantised(g, x, B_SCALE, B_ZERO, b_raw(g, x, p, j, g->type[B]), j, p);
}

/* Column of B, bias and B's companions that belongs to column j of C. */
long column_of(const gemm *g, int half_, long j) {
    return g->gated == INTERLEAVED ? 2 * j + half_ : half_ * g->n + j;
}

/* ---- the end */

EV element_of(const gemm *g, const member *x, int role, long i, long j, int step, int count) {
    return get_some(x->at[role] + i * g->row[role] + j * g->column[role], g->type[role],
                    step * g->column[role], count);
}

/* z = alpha z + beta C' + bias, of one half. */
EV linear(const gemm *g, const member *x, int half_, long i, long j, int count, EV z) {
    const E alpha = TO_NUMBER(g->alpha), beta = TO_NUMBER(g->beta);
    if (alpha != 1)
        z = V(alpha) * z;
    if (beta != 0) {
        EV old = element_of(g, x, C, i, j, 1, count);
        if (present(g, C_ZERO))
            old -= element_of(g, x, C_ZERO, i, j, 1, count);
        if (present(g, C_SCALE))
            old *= element_of(g, x, C_SCALE, i, j, 1, count);
        z = fma(V(beta), old, z);
    }
    if (present(g, BIAS))
        z += element_of(g, x, BIAS, i, column_of(g, half_, j), g->gated == INTERLEAVED ? 2 : 1,
                        count);
    return z;
}

#if TN_EPILOGUE
EV activated(const gemm *g, EV z) {
    switch (g->activation) {
    case RELU:
        return MAX_OF(V(0), z);
    case GELU:
        return z * V(0.5) * (V(1) + erf_of(z * V(0.70710678118654752440)));
    case GELU_TANH: /* x/2 (1 + tanh u) = x / (1 + e^-2u), which does not cancel; 2 sqrt(2 / pi) */
        return z * sigmoid_of(V(1.59576912160573071176) * fma(V(0.044715), z * z * z, z));
    case SILU:
        return z * sigmoid_of(z);
    case SIGMOID:
        return sigmoid_of(z);
    case TANH:
        return tanh_of(z);
    case CLAMP:
        return MIN_OF(V(TO_NUMBER(g->high)), MAX_OF(V(TO_NUMBER(g->low)), z));
    default:
        return z;
    }
}
#endif

/* Elements (i, j … j + count) of C from their sums; gate: those of the second half, if gated. */
void finish(const gemm *g, const member *x, long i, long j, int count, EV z, EV gate) {
    z = linear(g, x, 0, i, j, count, z);
#if TN_EPILOGUE
    z = activated(g, z);
    if (g->gated != UNGATED)
        z *= linear(g, x, 1, i, j, count, gate);
    if (present(g, RESIDUAL))
        z += element_of(g, x, RESIDUAL, i, j, 1, count);
    if (present(g, C_SCALE))
        z /= element_of(g, x, C_SCALE, i, j, 1, count);
    if (present(g, C_ZERO))
        z += element_of(g, x, C_ZERO, i, j, 1, count);
#endif
    put_some(x->c + i * g->row[C] + j * g->column[C], g->type[C], g->column[C], count, z);
}
