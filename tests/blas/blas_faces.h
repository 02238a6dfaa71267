/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_faces.h: one way to call GEMM and GEMV by any of the overlay's names.
 *
 * A face is a name: Fortran's or C's, with 32- or 64-bit integers, with or without prefix. Fortran's faces
 * know columns only, so `rows` must be false for them.
 */
#ifndef TEST_BLAS_FACES_H
#define TEST_BLAS_FACES_H

#include <stdbool.h>
#include <stdint.h>

typedef enum face {
    FORTRAN_32,
    FORTRAN_32_SCIPY,
    FORTRAN_64,
    FORTRAN_64_SCIPY,
    C_32,
    C_32_SCIPY,
    C_64,
    C_64_REFERENCE,
    C_64_SCIPY,
    FACES
} face;

static inline bool face_is_fortran(face f) {
    return f < C_32;
}
static inline bool face_is_wide(face f) {
    return f == FORTRAN_64 || f == FORTRAN_64_SCIPY || f >= C_64;
}

/* What a call says; transposes are 'N', 'T', 'C', in capitals or not. */
typedef struct gemm_call {
    bool single, rows;
    char transa, transb;
    int64_t m, n, k, lda, ldb, ldc;
    double alpha, beta;
    const void *a, *b;
    void *c;
} gemm_call;

typedef struct gemv_call {
    bool single, rows;
    char trans;
    int64_t m, n, lda, incx, incy;
    double alpha, beta;
    const void *a, *x;
    void *y;
} gemv_call;

void face_gemm(face f, const gemm_call *g);
void face_gemv(face f, const gemv_call *g);

/* As C sees layouts and transposes; any other letter is passed on as it is, which no routine knows. */
int layout_number(bool rows);
int transpose_number(char letter);

#endif
