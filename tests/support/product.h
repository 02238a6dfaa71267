/* SPDX-License-Identifier: Apache-2.0 */
/*
 * product.h: contexts on devices, calls that must succeed or be refused with a word, and a product
 * with known values in any memory, for tests of backends.
 */
#ifndef TEST_PRODUCT_H
#define TEST_PRODUCT_H

#include <tenon/tenon.h>

#include <check.h>
#include <stdbool.h>
#include <string.h>

static inline tenon_context *open_context(const tenon_context_desc *desc) {
    tenon_context *ctx;
    const tenon_status status = tenon_context_create(desc, &ctx);
    ck_assert_msg(status == TENON_OK, "%s", tenon_error_message(NULL));
    return ctx;
}

static inline tenon_context *context_on(const char *device) {
    const tenon_context_desc desc = {.device = device, .threads = 2};
    return open_context(&desc);
}

#define OK(ctx, call)                                                                              \
    do {                                                                                           \
        const tenon_status status_ = (call);                                                       \
        ck_assert_msg(status_ == TENON_OK, "%s: %s", #call, tenon_error_message(ctx));             \
    } while (0)

#define REFUSED(ctx, status, word, call)                                                           \
    do {                                                                                           \
        const tenon_status status_ = (call);                                                       \
        const char *message_ = tenon_error_message(ctx);                                           \
        ck_assert_msg(status_ == (status), "%s: %s, %s", #call, tenon_status_name(status_),        \
                      message_);                                                                   \
        ck_assert_msg(strstr(message_, word) != NULL, "%s: '%s' has no '%s'", #call, message_,     \
                      word);                                                                       \
    } while (0)

/* A product of small integers, whose result is exact in f32 whatever the order of its sums. */
#ifndef PRODUCT_K
#define PRODUCT_K 300 /* more than one block of the sums */
#endif
enum { M = 13, N = 21, K = PRODUCT_K };

typedef struct product {
    float a[M * K], b[K * N], c[M * N], expected[M * N];
} product;

static inline void product_fill(product *p) {
    for (int i = 0; i < M * K; ++i)
        p->a[i] = (float)(i % 7 - 3);
    for (int i = 0; i < K * N; ++i)
        p->b[i] = (float)(i % 5 - 2);
    for (int i = 0; i < M; ++i)
        for (int j = 0; j < N; ++j) {
            float sum = 0;
            for (int k = 0; k < K; ++k)
                sum += p->a[i * K + k] * p->b[k * N + j];
            p->expected[i * N + j] = sum;
        }
    for (int i = 0; i < M * N; ++i)
        p->c[i] = -777;
}

static inline tenon_gemm_desc product_of(product *p) {
    return (tenon_gemm_desc){.a = tenon_matrix(p->a, TENON_F32, M, K),
                             .b = tenon_matrix(p->b, TENON_F32, K, N),
                             .c = tenon_matrix(p->c, TENON_F32, M, N)};
}

static inline bool is_right(const product *p) {
    return memcmp(p->c, p->expected, sizeof p->c) == 0;
}

static inline bool is_untouched(const product *p) {
    for (int i = 0; i < M * N; ++i)
        if (p->c[i] != -777)
            return false;
    return true;
}

#endif
