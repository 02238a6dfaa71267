/* SPDX-License-Identifier: Apache-2.0 */
/* blas_faces.c: see blas_faces.h. Declares the routines itself: no BLAS header is needed. */
#include "blas_faces.h"

int layout_number(bool rows) {
    return rows ? 101 : 102;
}

int transpose_number(char letter) {
    switch (letter) {
    case 'N':
    case 'n':
        return 111;
    case 'T':
    case 't':
        return 112;
    case 'C':
    case 'c':
        return 113;
    default:
        return letter;
    }
}

#define REAL float
#define N(before, after) before##s##after
#include "blas_faces.inc"

#define REAL double
#define N(before, after) before##d##after
#include "blas_faces.inc"

void face_gemm(face f, const gemm_call *g) {
    (g->single ? sgemm_by : dgemm_by)(f, g);
}

void face_gemv(face f, const gemv_call *g) {
    (g->single ? sgemv_by : dgemv_by)(f, g);
}
