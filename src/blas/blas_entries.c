/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_entries.c: every name that the overlay exports (libtenon_blas.map has them all).
 *
 * xGEMM and xGEMV for single and double, for Fortran and C, with 32- and 64-bit integers. Names:
 *
 *     sgemm_     cblas_sgemm                        the standard's
 *     sgemm_64_  cblas_sgemm64_   cblas_sgemm_64    64-bit integers: OpenBLAS's suffix; the
 *                                                   reference CBLAS's
 *     scipy_...                                     before any of OpenBLAS's: wheels of NumPy and
 *                                                   SciPy
 *
 * Fortran passes lengths of strings after the last argument, which nobody needs to take.
 */
#include "blas.h"

#define EXPORT __attribute__((visibility("default")))
#define ALIAS(name, of) extern EXPORT __typeof__(of) name __attribute__((alias(#of)))

enum { ROW_MAJOR = 101, COLUMN_MAJOR = 102 };

/* Numbers are real: conjugating them changes nothing. */
static tn_blas_transpose of_letter(char letter) {
    switch (letter) {
    case 'N':
    case 'n':
        return TN_BLAS_PLAIN;
    case 'T':
    case 't':
    case 'C':
    case 'c':
        return TN_BLAS_TRANSPOSED;
    default:
        return TN_BLAS_BAD;
    }
}

static tn_blas_transpose of_number(int number) {
    switch (number) {
    case 111:
    case 114: /* conjugated, not transposed: OpenBLAS has it */
        return TN_BLAS_PLAIN;
    case 112:
    case 113: /* conjugated */
        return TN_BLAS_TRANSPOSED;
    default:
        return TN_BLAS_BAD;
    }
}

static tn_blas_transpose turned(tn_blas_transpose t) {
    return t == TN_BLAS_BAD ? t : t == TN_BLAS_PLAIN ? TN_BLAS_TRANSPOSED : TN_BLAS_PLAIN;
}

#define REAL float
#define DTYPE TENON_F32
#define INT int32_t
#define WIDTH TN_BLAS_32
#define ROUTINE(op) s##op##_32
#define UPPER(op) "S" #op " "
#define PLAIN(op) "cblas_s" #op
#define FORTRAN(op) s##op##_
#define CBLAS(op) cblas_s##op
#define ALSO(op)                                                                                   \
    ALIAS(scipy_s##op##_, s##op##_);                                                               \
    ALIAS(scipy_cblas_s##op, cblas_s##op);
#include "blas_entries.inc"

#define REAL double
#define DTYPE TENON_F64
#define INT int32_t
#define WIDTH TN_BLAS_32
#define ROUTINE(op) d##op##_32
#define UPPER(op) "D" #op " "
#define PLAIN(op) "cblas_d" #op
#define FORTRAN(op) d##op##_
#define CBLAS(op) cblas_d##op
#define ALSO(op)                                                                                   \
    ALIAS(scipy_d##op##_, d##op##_);                                                               \
    ALIAS(scipy_cblas_d##op, cblas_d##op);
#include "blas_entries.inc"

#define REAL float
#define DTYPE TENON_F32
#define INT int64_t
#define WIDTH TN_BLAS_64
#define ROUTINE(op) s##op##_64
#define UPPER(op) "S" #op " "
#define PLAIN(op) "cblas_s" #op
#define FORTRAN(op) s##op##_64_
#define CBLAS(op) cblas_s##op##64_
#define ALSO(op)                                                                                   \
    ALIAS(scipy_s##op##_64_, s##op##_64_);                                                         \
    ALIAS(cblas_s##op##_64, cblas_s##op##64_);                                                     \
    ALIAS(scipy_cblas_s##op##64_, cblas_s##op##64_);
#include "blas_entries.inc"

#define REAL double
#define DTYPE TENON_F64
#define INT int64_t
#define WIDTH TN_BLAS_64
#define ROUTINE(op) d##op##_64
#define UPPER(op) "D" #op " "
#define PLAIN(op) "cblas_d" #op
#define FORTRAN(op) d##op##_64_
#define CBLAS(op) cblas_d##op##64_
#define ALSO(op)                                                                                   \
    ALIAS(scipy_d##op##_64_, d##op##_64_);                                                         \
    ALIAS(cblas_d##op##_64, cblas_d##op##64_);                                                     \
    ALIAS(scipy_cblas_d##op##64_, cblas_d##op##64_);
#include "blas_entries.inc"
