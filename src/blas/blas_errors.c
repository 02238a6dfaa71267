/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_errors.c: who is told that an argument is wrong.
 *
 * The BLAS standard has XERBLA for that, which programs and test suites replace by their own. The
 * overlay has none: it calls the one that the process has (its own, or that of the BLAS behind the
 * overlay, which mostly prints and may end the program), and where there is none the call just does
 * nothing. References are weak, so the dynamic linker finds it before any code runs.
 */
#include "blas.h"

#include <string.h>

#define HANDLER extern __attribute__((weak)) void
HANDLER xerbla_(const char *routine, const int32_t *parameter, size_t length);
HANDLER xerbla_64_(const char *routine, const int64_t *parameter, size_t length);
HANDLER scipy_xerbla_(const char *routine, const int32_t *parameter, size_t length);
HANDLER scipy_xerbla_64_(const char *routine, const int64_t *parameter, size_t length);
HANDLER cblas_xerbla(int32_t parameter, const char *routine, const char *format, ...);
HANDLER cblas_xerbla64_(int64_t parameter, const char *routine, const char *format, ...);
HANDLER scipy_cblas_xerbla(int32_t parameter, const char *routine, const char *format, ...);
HANDLER scipy_cblas_xerbla64_(int64_t parameter, const char *routine, const char *format, ...);

void tn_blas_report(const tn_blas_routine *r, int parameter) {
    const int32_t narrow = parameter;
    const int64_t wide = parameter;
    const size_t length = strlen(r->fortran);
    if (r->width == TN_BLAS_32 && xerbla_)
        xerbla_(r->fortran, &narrow, length);
    else if (r->width == TN_BLAS_32 && scipy_xerbla_)
        scipy_xerbla_(r->fortran, &narrow, length);
    else if (r->width == TN_BLAS_64 && xerbla_64_)
        xerbla_64_(r->fortran, &wide, length);
    else if (r->width == TN_BLAS_64 && scipy_xerbla_64_)
        scipy_xerbla_64_(r->fortran, &wide, length);
}

void tn_blas_report_c(const tn_blas_routine *r, int parameter, const char *format, int value) {
    if (r->width == TN_BLAS_32 && cblas_xerbla)
        cblas_xerbla(parameter, r->c, format, value);
    else if (r->width == TN_BLAS_32 && scipy_cblas_xerbla)
        scipy_cblas_xerbla(parameter, r->c, format, value);
    else if (r->width == TN_BLAS_64 && cblas_xerbla64_)
        cblas_xerbla64_(parameter, r->c, format, value);
    else if (r->width == TN_BLAS_64 && scipy_cblas_xerbla64_)
        scipy_cblas_xerbla64_(parameter, r->c, format, value);
}
