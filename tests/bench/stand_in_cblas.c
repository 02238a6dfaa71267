/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stand_in_cblas.c: CBLAS libraries as the wild has them, for command_test.py: a plain one with
 * OpenBLAS's thread setter; one with 64-bit integers and decorated names (STAND_IN_WIDE); and one whose answers are
 * wrong (STAND_IN_WRONG), which the command must notice. Answers are also wrong until the thread count has been set. The
 * plain one has MKL's products with packed B, too.
 */
#include <stddef.h>
#include <stdint.h>

#if defined(STAND_IN_WIDE)
typedef int64_t integer;
#define NAME(name) scipy_##name##64_
#else
typedef int integer;
#define NAME(name) name
#endif
#define EXPORTED __attribute__((visibility("default")))

enum { ROW_MAJOR = 101, TRANSPOSE = 112, PACKED = 151, B_MATRIX = 162 };

static int threads_set;

EXPORTED void NAME(openblas_set_num_threads)(int threads);
void NAME(openblas_set_num_threads)(int threads) {
    threads_set = threads;
}

/* What is added to every answer. */
static int fault(int order) {
#if defined(STAND_IN_WRONG)
    (void)order;
    return 1;
#else
    return order != ROW_MAJOR || threads_set < 1;
#endif
}

#define DEFINE(real, gemm, gemv, gemm_batch_strided)                                               \
    EXPORTED void gemm(int order, int ta, int tb, integer m, integer n, integer k, real alpha,     \
                       const real *a, integer lda, const real *b, integer ldb, real beta, real *c, \
                       integer ldc);                                                               \
    EXPORTED void gemv(int order, int ta, integer m, integer n, real alpha, const real *a,         \
                       integer lda, const real *x, integer dx, real beta, real *y, integer dy);    \
    EXPORTED void gemm_batch_strided(int order, int ta, int tb, integer m, integer n, integer k,   \
                                     real alpha, const real *a, integer lda, integer da,           \
                                     const real *b, integer ldb, integer db, real beta, real *c,   \
                                     integer ldc, integer dc, integer batch);                      \
    void gemm(int order, int ta, int tb, integer m, integer n, integer k, real alpha,              \
              const real *a, integer lda, const real *b, integer ldb, real beta, real *c,          \
              integer ldc) {                                                                       \
        for (integer i = 0; i < m; ++i)                                                            \
            for (integer j = 0; j < n; ++j) {                                                      \
                real sum = (real)fault(order);                                                     \
                for (integer p = 0; p < k; ++p)                                                    \
                    sum += (ta == TRANSPOSE ? a[p * lda + i] : a[i * lda + p]) *                   \
                           (tb == TRANSPOSE ? b[j * ldb + p] : b[p * ldb + j]);                    \
                c[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);            \
            }                                                                                      \
    }                                                                                              \
    void gemv(int order, int ta, integer m, integer n, real alpha, const real *a, integer lda,     \
              const real *x, integer dx, real beta, real *y, integer dy) {                         \
        const integer rows = ta == TRANSPOSE ? n : m, sums = ta == TRANSPOSE ? m : n;              \
        for (integer i = 0; i < rows; ++i) {                                                       \
            real sum = (real)fault(order);                                                         \
            for (integer p = 0; p < sums; ++p)                                                     \
                sum += (ta == TRANSPOSE ? a[p * lda + i] : a[i * lda + p]) * x[p * dx];            \
            y[i * dy] = alpha * sum + (beta == 0 ? 0 : beta * y[i * dy]);                          \
        }                                                                                          \
    }                                                                                              \
    void gemm_batch_strided(int order, int ta, int tb, integer m, integer n, integer k,            \
                            real alpha, const real *a, integer lda, integer da, const real *b,     \
                            integer ldb, integer db, real beta, real *c, integer ldc, integer dc,  \
                            integer batch) {                                                       \
        for (integer i = 0; i < batch; ++i)                                                        \
            gemm(order, ta, tb, m, n, k, alpha, a + i * da, lda, b + i * db, ldb, beta,            \
                 c + i * dc, ldc);                                                                 \
    }

DEFINE(float, NAME(cblas_sgemm), NAME(cblas_sgemv), NAME(cblas_sgemm_batch_strided))
DEFINE(double, NAME(cblas_dgemm), NAME(cblas_dgemv), NAME(cblas_dgemm_batch_strided))

/* Packed: op(B) by rows, and a sign that it is that. */
#define DEFINE_PACKED(real, pack_size, pack, compute)                                              \
    EXPORTED size_t pack_size(int which, integer m, integer n, integer k);                         \
    EXPORTED void pack(int order, int which, int tb, integer m, integer n, integer k, real alpha,  \
                       const real *b, integer ldb, real *packed);                                  \
    EXPORTED void compute(int order, int ta, int tb, integer m, integer n, integer k,              \
                          const real *a, integer lda, const real *b, integer ldb, real beta,       \
                          real *c, integer ldc);                                                   \
    size_t pack_size(int which, integer m, integer n, integer k) {                                 \
        (void)m;                                                                                   \
        return which == B_MATRIX ? ((size_t)n * (size_t)k + 1) * sizeof(real) : 0;                 \
    }                                                                                              \
    void pack(int order, int which, int tb, integer m, integer n, integer k, real alpha,           \
              const real *b, integer ldb, real *packed) {                                          \
        (void)m;                                                                                   \
        *packed++ = (real)(order == ROW_MAJOR && which == B_MATRIX ? PACKED : 0);                  \
        for (integer p = 0; p < k; ++p)                                                            \
            for (integer j = 0; j < n; ++j)                                                        \
                packed[p * n + j] = alpha * (tb == TRANSPOSE ? b[j * ldb + p] : b[p * ldb + j]);   \
    }                                                                                              \
    void compute(int order, int ta, int tb, integer m, integer n, integer k, const real *a,        \
                 integer lda, const real *b, integer ldb, real beta, real *c, integer ldc) {       \
        (void)ldb;                                                                                 \
        const real wrong = (real)(fault(order) || tb != PACKED || *b++ != (real)PACKED);           \
        for (integer i = 0; i < m; ++i)                                                            \
            for (integer j = 0; j < n; ++j) {                                                      \
                real sum = wrong;                                                                  \
                for (integer p = 0; p < k; ++p)                                                    \
                    sum += (ta == TRANSPOSE ? a[p * lda + i] : a[i * lda + p]) * b[p * n + j];     \
                c[i * ldc + j] = sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);                    \
            }                                                                                      \
    }

#if !defined(STAND_IN_WIDE) && !defined(STAND_IN_WRONG)
DEFINE_PACKED(float, cblas_sgemm_pack_get_size, cblas_sgemm_pack, cblas_sgemm_compute)
DEFINE_PACKED(double, cblas_dgemm_pack_get_size, cblas_dgemm_pack, cblas_dgemm_compute)
#endif
