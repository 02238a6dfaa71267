/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_case.h: operands for a call of GEMM or GEMV, and what it has to give.
 *
 * Expected are the very bits of docs/NUMERICS.md, 3.1, computed in plain loops, and beside them the bound
 * (3.2) around a sum in another order, so that a mistake in those loops is found too. What lies
 * between C's columns must not change.
 */
#ifndef TEST_BLAS_CASE_H
#define TEST_BLAS_CASE_H

#include "blas_faces.h"

#include "rng.h"

#include <stddef.h>

/* Memory of one case. c holds what the call begins with, and `c_before` a copy; sizes in elements. */
typedef struct blas_case {
    gemm_call gemm; /* of which gemv fills what it has in common */
    gemv_call gemv;
    bool is_gemv;
    void *a, *b, *c, *c_before;
    int64_t c_elements;
} blas_case;

/* Random operands, of exactly the size that the call's arguments say, between pages that may not be touched. With
 * beta = 0 C is full of NaN, with alpha = 0 so are A and B. */
void gemm_case_make(blas_case *x, rng *r, const gemm_call *call);
void gemv_case_make(blas_case *x, rng *r, const gemv_call *call);

/* Fills C as at first. */
void blas_case_again(blas_case *x);

/* The call itself. */
void blas_case_call(const blas_case *x, face f);

/* NULL if C is as it must be, else a sentence (valid until the next call). */
const char *blas_case_check(const blas_case *x);

/* Frees everything. False if something outside was written. */
bool blas_case_end(blas_case *x);

#endif
