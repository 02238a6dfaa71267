/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_product.c: what GEMM and GEMV mean: which arguments are wrong and in which order that is
 * found, when nothing is to be done, and the one product that is left.
 *
 * Called by the entry points. Follows the reference BLAS (Dongarra et al., ACM TOMS 16(1), 1990,
 * and 14(1), 1988) to the number of the parameter, since programs and test suites rely on it.
 */
#include "blas.h"

static int64_t at_least_1(int64_t x) {
    return x > 1 ? x : 1;
}

static const char *element(const tn_blas_routine *r, const void *base, int64_t index) {
    return (const char *)base + index * (r->dtype == TENON_F32 ? 4 : 8);
}

/* Inputs are not written through. */
static tn_blas_matrix matrix(const void *at, int64_t row, int64_t column) {
    return (tn_blas_matrix){.at = (void *)at, .row = row, .column = column};
}

static int wrong_in_gemm(const tn_blas_gemm *g) {
    if (g->trans_a == TN_BLAS_BAD)
        return 1;
    if (g->trans_b == TN_BLAS_BAD)
        return 2;
    if (g->m < 0)
        return 3;
    if (g->n < 0)
        return 4;
    if (g->k < 0)
        return 5;
    if (g->lda < at_least_1(g->trans_a == TN_BLAS_PLAIN ? g->m : g->k))
        return 8;
    if (g->ldb < at_least_1(g->trans_b == TN_BLAS_PLAIN ? g->k : g->n))
        return 10;
    if (g->ldc < at_least_1(g->m))
        return 13;
    return 0;
}

/* Columns of C are contiguous: C^T = op(B)^T op(A)^T is a product by rows. */
void tn_blas_run_gemm(const tn_blas_routine *r, const tn_blas_gemm *g) {
    const int wrong = wrong_in_gemm(g);
    if (wrong) {
        tn_blas_report(r, wrong);
        return;
    }
    const bool sums = g->alpha != 0 && g->k > 0;
    if (g->m == 0 || g->n == 0 || (!sums && g->beta == 1))
        return;
    const tn_blas_product product = {
        .dtype = r->dtype,
        .m = g->n,
        .n = g->m,
        .k = sums ? g->k : 0,
        .alpha = sums ? g->alpha : 1,
        .beta = g->beta,
        .a = g->trans_b == TN_BLAS_PLAIN ? matrix(g->b, g->ldb, 1) : matrix(g->b, 1, g->ldb),
        .b = g->trans_a == TN_BLAS_PLAIN ? matrix(g->a, g->lda, 1) : matrix(g->a, 1, g->lda),
        .c = matrix(g->c, g->ldc, 1),
    };
    tn_blas_multiply(&product);
}

static int wrong_in_gemv(const tn_blas_gemv *g) {
    if (g->trans == TN_BLAS_BAD)
        return 1;
    if (g->m < 0)
        return 2;
    if (g->n < 0)
        return 3;
    if (g->lda < at_least_1(g->m))
        return 6;
    if (g->incx == 0)
        return 8;
    if (g->incy == 0)
        return 11;
    return 0;
}

/* One row: y^T = x^T op(A)^T. A vector with a negative increment is stored backwards; y itself is
 * walked forwards, and A's rows backwards instead. */
void tn_blas_run_gemv(const tn_blas_routine *r, const tn_blas_gemv *g) {
    const int wrong = wrong_in_gemv(g);
    if (wrong) {
        tn_blas_report(r, wrong);
        return;
    }
    const bool sums = g->alpha != 0, plain = g->trans == TN_BLAS_PLAIN;
    const int64_t rows = plain ? g->m : g->n, length = plain ? g->n : g->m;
    if (rows == 0 || length == 0 || (!sums && g->beta == 1))
        return;
    const int64_t row = plain ? 1 : g->lda, column = plain ? g->lda : 1;
    const bool back = g->incy < 0;
    const tn_blas_product product = {
        .dtype = r->dtype,
        .m = 1,
        .n = rows,
        .k = sums ? length : 0,
        .alpha = sums ? g->alpha : 1,
        .beta = g->beta,
        .a = matrix(g->incx < 0 ? element(r, g->x, (1 - length) * g->incx) : g->x, 1, g->incx),
        .b = matrix(back ? element(r, g->a, (rows - 1) * row) : g->a, column, back ? -row : row),
        .c = matrix(g->y, 1, back ? -g->incy : g->incy),
    };
    tn_blas_multiply(&product);
}

static tenon_tensor tensor(const tn_blas_product *p, const tn_blas_matrix *x, int64_t rows,
                           int64_t columns) {
    const int64_t shape[2] = {rows, columns}, stride[2] = {x->row, x->column};
    return tenon_strided(x->at, p->dtype, 2, shape, stride);
}

void tn_blas_multiply(const tn_blas_product *p) {
    const tenon_gemm_desc desc = {
        .a = tensor(p, &p->a, p->m, p->k),
        .b = tensor(p, &p->b, p->k, p->n),
        .c = tensor(p, &p->c, p->m, p->n),
        .alpha = &p->alpha,
        .beta = p->beta,
    };
    /* What tenon refuses: infinite or NaN alpha and beta, unaligned operands, operands that
     * overlap. */
    if (tn_blas_compute(&desc) != TENON_OK)
        tn_blas_plain(p);
}
