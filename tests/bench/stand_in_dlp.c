/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stand_in_dlp.c: as much of AOCL-DLP's interface as command_test.py races: f32 with B as it lies and reordered, and integers
 * with B as it lies. Answers are wrong until the thread count has been set, and where B is not in the form that it is said to be in.
 */
#include <stddef.h>
#include <stdint.h>

#define EXPORTED __attribute__((visibility("default")))
#define REORDERED 1234

static int64_t threads_set;

EXPORTED void dlp_thread_set_num_threads(int64_t threads);
void dlp_thread_set_num_threads(int64_t threads) {
    threads_set = threads;
}

#define DEFINE_GEMM(name, scalar, a_type, b_type, c_type)                                          \
    EXPORTED void name(char order, char ta, char tb, int64_t m, int64_t n, int64_t k,              \
                       scalar alpha, const a_type *a, int64_t lda, char a_form, const b_type *b,   \
                       int64_t ldb, char b_form, scalar beta, c_type *c, int64_t ldc,              \
                       void *metadata);                                                            \
    void name(char order, char ta, char tb, int64_t m, int64_t n, int64_t k, scalar alpha,         \
              const a_type *a, int64_t lda, char a_form, const b_type *b, int64_t ldb,             \
              char b_form, scalar beta, c_type *c, int64_t ldc, void *metadata) {                  \
        const int reordered = b_form == 'r';                                                       \
        int wrong = order != 'r' || a_form != 'n' || metadata || threads_set < 1;                  \
        if (reordered && *b++ != (b_type)REORDERED)                                                \
            wrong = 1;                                                                             \
        for (int64_t i = 0; i < m; ++i)                                                            \
            for (int64_t j = 0; j < n; ++j) {                                                      \
                c_type sum = (c_type)wrong;                                                        \
                for (int64_t p = 0; p < k; ++p)                                                    \
                    sum += (c_type)(ta == 't' ? a[p * lda + i] : a[i * lda + p]) *                 \
                           (c_type)(reordered   ? b[p * n + j]                                     \
                                    : tb == 't' ? b[j * ldb + p]                                   \
                                                : b[p * ldb + j]);                                 \
                c[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);            \
            }                                                                                      \
    }

DEFINE_GEMM(aocl_gemm_f32f32f32of32, float, float, float, float)
DEFINE_GEMM(aocl_gemm_s8s8s32os32, int32_t, int8_t, int8_t, int32_t)
DEFINE_GEMM(aocl_gemm_u8s8s32os32, int32_t, uint8_t, int8_t, int32_t)

EXPORTED size_t aocl_get_reorder_buf_size_f32f32f32of32(char order, char tb, char which, int64_t k,
                                                        int64_t n, void *metadata);
size_t aocl_get_reorder_buf_size_f32f32f32of32(char order, char tb, char which, int64_t k,
                                               int64_t n, void *metadata) {
    (void)tb;
    return order == 'r' && which == 'B' && !metadata ? ((size_t)(k * n) + 1) * sizeof(float) : 0;
}

EXPORTED void aocl_reorder_f32f32f32of32(char order, char tb, char which, const float *b,
                                         float *reordered, int64_t k, int64_t n, int64_t ldb,
                                         void *metadata);
void aocl_reorder_f32f32f32of32(char order, char tb, char which, const float *b, float *reordered,
                                int64_t k, int64_t n, int64_t ldb, void *metadata) {
    *reordered++ = order == 'r' && which == 'B' && !metadata ? REORDERED : 0;
    for (int64_t p = 0; p < k; ++p)
        for (int64_t j = 0; j < n; ++j)
            reordered[p * n + j] = tb == 't' ? b[j * ldb + p] : b[p * ldb + j];
}
