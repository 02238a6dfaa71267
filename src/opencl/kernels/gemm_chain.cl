/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_chain.cl: the micro-kernel of devices whose work items are threads of a CPU: one block of k
 * for TN_MR rows and TN_NV vectors of columns, in registers; and how a tile's sums become C.
 *
 * Follows gemm.cl. Sums lie in private memory, TN_COLS to a row. Outer product by broadcasts: Goto
 * and van de Geijn, 2008.
 */
#define MR TN_MR
#define NV TN_NV
#define NR (NV * TN_WIDTH)

#define EACH_ROW _Pragma("unroll") for (int i = 0; i < MR; i++)
#define EACH_VECTOR _Pragma("unroll") for (int j = 0; j < NV; j++)

typedef struct chains {
    SV at[MR][NV];
} chains;

inline __attribute__((always_inline)) void chains_clear(chains *x) {
    EACH_ROW EACH_VECTOR x->at[i][j] = (SV)(0);
}

/* One step: a row of B times the elements of A. */
inline __attribute__((always_inline)) void chains_step(chains *x, const S *a, const SV *b) {
    EACH_ROW EACH_VECTOR x->at[i][j] = fma((SV)(a[i]), b[j], x->at[i][j]);
}

/* A block's sums, or what they add to those of earlier blocks. */
inline __attribute__((always_inline)) void chains_join(const chains *x, bool first, E *sums) {
    EACH_ROW EACH_VECTOR {
        E *at = sums + i * TN_COLS + j * TN_WIDTH;
        const EV v = TO_EV(x->at[i][j]);
        E_STORE(first ? v : E_LOAD(at) + v, at);
    }
}

/* All steps; the address spaces of A and B differ, so no function can do it. A_OF_ROW: A's element of
 * row i; NEXT: moves a and b on; LOOP: a pragma for the loop, or nothing. */
#define CHAINS_STEPS(LOOP, A_OF_ROW, NEXT)                                                         \
    LOOP for (int p = 0; p < steps; p++, NEXT) {                                                   \
        S av[MR];                                                                                  \
        SV bv[NV];                                                                                 \
        EACH_VECTOR bv[j] = S_LOAD(b + j * TN_WIDTH);                                              \
        EACH_ROW av[i] = A_OF_ROW;                                                                 \
        chains_step(&x, av, bv);                                                                   \
    }

/* Packed panels: steps of MR elements, and of NR. Four steps at a time are 5 to 8 % faster than one
 * (Zen 3), eight no more. */
#if TN_BLOCKS
#define PANEL_SPACE __private /* panels are decoded there */
#else
#define PANEL_SPACE __global
#endif
void chain_packed(__global const S *a, PANEL_SPACE const S *b, int steps, bool first, E *sums) {
    chains x;
    chains_clear(&x);
    CHAINS_STEPS(_Pragma("unroll 4"), a[i], (a += MR, b += NR))
    chains_join(&x, first, sums);
}

/* Whether sums are elements of C as they are. */
bool sums_are_c(const gemm *g) {
#if TN_EPILOGUE
    return false;
#else
    return TO_NUMBER(g->alpha) == 1 && TO_NUMBER(g->beta) == 0 && !present(g, BIAS) &&
           g->type[C] == E_TYPE && g->column[C] == sizeof(E);
#endif
}

/* C from the sums of `panels` panels, the first of which is the launch's panel q0. */
void finish_tile(const gemm *g, const member *x, long first_row, int rows, long q0, int panels,
                 const E *sums) {
#if TN_EPILOGUE
    const int halves = g->gated != UNGATED ? 2 : 1;
#else
    const int halves = 1;
#endif
    const long c0 = q0 / halves * NR;
    const int cols = (int)min((long)(panels / halves * NR), g->cols - c0);
    const int copied = sums_are_c(g) ? cols - cols % TN_WIDTH : 0;
    for (int i = 0; i < rows; i++, sums += TN_COLS) {
        target line = x->c + (first_row + i) * g->row[C] + (g->j0 + c0) * g->column[C];
        for (int l = 0; l < copied; l += TN_WIDTH)
            E_STORE(E_LOAD(sums + l), (__global E *)line + l);
        for (int l = copied; l < cols; l += TN_WIDTH) {
            const E *at = sums + l / NR * NR * halves + l % NR;
            finish(g, x, first_row + i, g->j0 + c0 + l, min(TN_WIDTH, cols - l), E_LOAD(at),
                   E_LOAD(at + (halves - 1) * NR));
        }
    }
}
