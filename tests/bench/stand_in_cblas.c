/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stand_in_cblas.c: CBLAS libraries as the wild has them, for command_test.py: a plain one with
 * OpenBLAS's thread setter; one with 64-bit integers and decorated names (STAND_IN_WIDE); and one whose answers are
 * wrong (STAND_IN_WRONG), which the command must notice.
 */
#include <stdint.h>

#if defined(STAND_IN_WIDE)
typedef int64_t integer;
#define NAME(name) scipy_##name##64_
#else
typedef int integer;
#define NAME(name) name
#endif
#if defined(STAND_IN_WRONG)
#define SUM (sum + 1)
#else
#define SUM sum
#endif
#define EXPORTED __attribute__((visibility("default")))

enum { TRANSPOSE = 112 };

EXPORTED void NAME(openblas_set_num_threads)(int threads);
EXPORTED void NAME(cblas_sgemm)(int order, int ta, int tb, integer m, integer n, integer k,
                                float alpha, const float *a, integer lda, const float *b,
                                integer ldb, float beta, float *c, integer ldc);
EXPORTED void NAME(cblas_dgemm)(int order, int ta, int tb, integer m, integer n, integer k,
                                double alpha, const double *a, integer lda, const double *b,
                                integer ldb, double beta, double *c, integer ldc);

void NAME(openblas_set_num_threads)(int threads) {
    (void)threads;
}

void NAME(cblas_sgemm)(int order, int ta, int tb, integer m, integer n, integer k, float alpha,
                       const float *a, integer lda, const float *b, integer ldb, float beta,
                       float *c, integer ldc) {
    (void)order;
    for (integer i = 0; i < m; ++i)
        for (integer j = 0; j < n; ++j) {
            float sum = 0;
            for (integer p = 0; p < k; ++p)
                sum += (ta == TRANSPOSE ? a[p * lda + i] : a[i * lda + p]) *
                       (tb == TRANSPOSE ? b[j * ldb + p] : b[p * ldb + j]);
            c[i * ldc + j] = alpha * SUM + (beta == 0 ? 0 : beta * c[i * ldc + j]);
        }
}

void NAME(cblas_dgemm)(int order, int ta, int tb, integer m, integer n, integer k, double alpha,
                       const double *a, integer lda, const double *b, integer ldb, double beta,
                       double *c, integer ldc) {
    (void)order;
    for (integer i = 0; i < m; ++i)
        for (integer j = 0; j < n; ++j) {
            double sum = 0;
            for (integer p = 0; p < k; ++p)
                sum += (ta == TRANSPOSE ? a[p * lda + i] : a[i * lda + p]) *
                       (tb == TRANSPOSE ? b[j * ldb + p] : b[p * ldb + j]);
            c[i * ldc + j] = alpha * SUM + (beta == 0 ? 0 : beta * c[i * ldc + j]);
        }
}
