/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas.h: the parts of the BLAS overlay, libtenon_blas.
 *
 * The walk of a call: an entry point (blas_entries.inc, one for each name, element type and integer
 * width) turns its arguments into a tn_blas_gemm or tn_blas_gemv, which are column-major and 64
 * bits wide; tn_blas_run_gemm and tn_blas_run_gemv check them as the reference BLAS does and make
 * them one tn_blas_product; tn_blas_multiply has it computed by a context, or without any
 * (blas_plain.c) where tenon can't. The overlay stands on tenon's public API alone.
 */
#ifndef TN_BLAS_H
#define TN_BLAS_H

#include <tenon/tenon.h>

#include <stdbool.h>

/* Which integers the caller has, and so which error handlers it may have. */
typedef enum tn_blas_width { TN_BLAS_32, TN_BLAS_64 } tn_blas_width;

/* Who is called, for the error handler: as Fortran writes it, padded to six letters, and in C. */
typedef struct tn_blas_routine {
    const char *fortran, *c;
    tn_blas_width width;
    tenon_dtype dtype; /* TENON_F32 or TENON_F64 */
} tn_blas_routine;

typedef enum tn_blas_transpose {
    TN_BLAS_BAD = -1,
    TN_BLAS_PLAIN,
    TN_BLAS_TRANSPOSED
} tn_blas_transpose;

/* C = alpha op(A) op(B) + beta C, columns contiguous: xGEMM's arguments. */
typedef struct tn_blas_gemm {
    tn_blas_transpose trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc;
    double alpha, beta;
    const void *a, *b;
    void *c;
} tn_blas_gemm;

/* y = alpha op(A) x + beta y: xGEMV's arguments. */
typedef struct tn_blas_gemv {
    tn_blas_transpose trans;
    int64_t m, n, lda, incx, incy;
    double alpha, beta;
    const void *a, *x;
    void *y;
} tn_blas_gemv;

void tn_blas_run_gemm(const tn_blas_routine *routine, const tn_blas_gemm *g);
void tn_blas_run_gemv(const tn_blas_routine *routine, const tn_blas_gemv *g);

/* Element (i, j) of an operand lies i row + j column elements after `at`. C's strides are
 * positive. */
typedef struct tn_blas_matrix {
    void *at;
    int64_t row, column;
} tn_blas_matrix;

/* C (m x n) = alpha A (m x k) B (k x n) + beta C. beta = 0: C is not read; k = 0: A and B are
 * not. */
typedef struct tn_blas_product {
    tenon_dtype dtype;
    int64_t m, n, k;
    double alpha, beta;
    tn_blas_matrix a, b, c;
} tn_blas_product;

/* Cannot fail. */
void tn_blas_multiply(const tn_blas_product *p);

/* Has a context compute a product. Any other status than TENON_OK leaves C as it was. */
tenon_status tn_blas_compute(const tenon_gemm_desc *desc);

/* The same bits in plain loops, which want no memory and take any alpha, beta and address. */
void tn_blas_plain(const tn_blas_product *p);

/* Tells the error handler that the process has, if it has one, and returns if that does.
 * `parameter` counts from 1. */
void tn_blas_report(const tn_blas_routine *routine, int parameter);
void tn_blas_report_c(const tn_blas_routine *routine, int parameter, const char *format, int value);

#endif
