/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kernels cost, as the stand-in driver counts it: bank conflicts, sectors of device memory,
 * products. A device of one multiprocessor, so that a small problem already fills it. Products of
 * bf16 are in test_cuda_kernels.c.
 */
#include "cuda_host.h"

#include <string.h>

typedef struct traffic_case {
    const char *kernel;
    int64_t queries, keys, d;
    uint64_t mma; /* instructions of a unit and key block, of which there are `products` */
    int64_t products;
} traffic_case;

/* Each product of 16 rows, 8 columns and 16 steps is an instruction: none for keys that the mask
 * rules out, none twice. */
static const traffic_case cases[] = {
    {"attention_mma_bf16_64", 128, 128, 64, 4 * (8 * 4 + 8 * 4), 3},
    {"attention_mma_bf16_128", 128, 128, 128, 4 * (8 * 8 + 16 * 4), 3},
    {"attention_mma_bf16_256", 64, 64, 256, 4 * (8 * 16 + 32 * 4), 1},
    {"attention_mma_bf16_flat", 1, 192, 128, 8 * 8 + 16 * 4, 3},
};

START_TEST(attention) {
    const traffic_case *x = &cases[_i];
    const standin_device device = {.arch = 80, .multiprocessors = x->queries == 1 ? 0 : 1};
    const int64_t q_shape[4] = {1, 1, x->queries, x->d}, k_shape[4] = {1, 1, x->keys, x->d};
    static uint16_t q[128 * 256], k[192 * 256], v[192 * 256], o[128 * 256];
    standin_configure(&device);
    for (size_t i = 0; i < sizeof k / sizeof *k; ++i)
        k[i] = v[i] = q[i % (128 * 256)] = (uint16_t)(0x3f00 + i * 7 % 0x80); /* 0.5 to 1 */
    tenon_context *ctx = NULL;
    const tenon_context_desc desc = {.device = "cuda"};
    OK(NULL, tenon_context_create(&desc, &ctx));
    const tenon_attention_desc a = {.q = tenon_dense(q, TENON_BF16, 4, q_shape),
                                    .k = tenon_dense(k, TENON_BF16, 4, k_shape),
                                    .v = tenon_dense(v, TENON_BF16, 4, k_shape),
                                    .o = tenon_dense(o, TENON_BF16, 4, q_shape),
                                    .causal = TENON_CAUSAL_BOTTOM_RIGHT};
    OK(ctx, tenon_attention(ctx, &a));
    const standin_counters n = standin_counters_of(x->kernel);
    printf("%s: %llu mma, %.4f wavefronts a request, %.4f of the ideal sectors\n", x->kernel,
           (unsigned long long)n.mma, (double)n.shared_wavefronts / (double)n.shared_requests,
           (double)n.global_sectors / (double)n.global_ideal);
    ck_assert_uint_eq(n.mma, x->mma * (uint64_t)x->products);
    ck_assert_msg((double)n.shared_wavefronts <= 1.02 * (double)n.shared_requests,
                  "%llu wavefronts for %llu requests", (unsigned long long)n.shared_wavefronts,
                  (unsigned long long)n.shared_requests);
    ck_assert_msg((double)n.global_sectors <= 1.005 * (double)n.global_ideal,
                  "%llu sectors, ideally %llu", (unsigned long long)n.global_sectors,
                  (unsigned long long)n.global_ideal);
    ck_assert_uint_eq(standin_count(), 0);
    tenon_context_destroy(ctx);
}
END_TEST

typedef struct product_case {
    const char *kernel;
    tenon_dtype type;
    int64_t m, n, k;
    uint64_t mma;
    double most; /* wavefronts of shared memory to a request */
} product_case;

/* Of bytes that are turned, the sums of a tile go to shared memory in two wavefronts a request, and
 * 16 rows of A come there in two. */
static const product_case products[] = {
    {"gemm_s8_128x128", TENON_S8, 128, 128, 2048, 8 * 16 * 64, 1.04},
    {"gemm_tf32_64x64", TENON_F32, 128, 128, 512, 8 * 16 * 64, 1.01},
    {"gemm_s8_16x128", TENON_S8, 16, 128, 2048, 16 * 64, 1.07},
    {"gemm_rows_32_1", TENON_F32, 1, 256, 2048, 0, 1.005},
    {"gemm_rows_32_8", TENON_F32, 8, 128, 2048, 0, 1.005},
};

START_TEST(gemm) {
    const product_case *x = &products[_i / 4];
    const bool turn_a = _i & 1, turn_b = _i & 2, bytes = x->type == TENON_S8;
    static float a[128 * 512], b[512 * 1024], c[128 * 256];
    standin_configure(&(standin_device){.arch = 80, .multiprocessors = 1});
    memset(a, bytes ? 3 : 0, sizeof a);
    memset(b, bytes ? 5 : 0, sizeof b);
    tenon_context *ctx = NULL;
    OK(NULL, tenon_context_create(&(tenon_context_desc){.device = "cuda"}, &ctx));
    const tenon_gemm_desc g = {.a = turn_a ? tenon_transposed(tenon_matrix(a, x->type, x->k, x->m))
                                           : tenon_matrix(a, x->type, x->m, x->k),
                               .b = turn_b ? tenon_transposed(tenon_matrix(b, x->type, x->n, x->k))
                                           : tenon_matrix(b, x->type, x->k, x->n),
                               .c = tenon_matrix(c, bytes ? TENON_S32 : TENON_F32, x->m, x->n),
                               .compute = strstr(x->kernel, "tf32") ? TENON_COMPUTE_FAST
                                                                    : TENON_COMPUTE_DEFAULT};
    OK(ctx, tenon_gemm(ctx, &g));
    OK(ctx, tenon_sync(ctx));
    const standin_counters n = standin_counters_of(x->kernel);
    printf("%s, layout %d: %llu mma, %.4f wavefronts a request, %.4f of the ideal sectors\n",
           x->kernel, _i % 4, (unsigned long long)n.mma,
           (double)n.shared_wavefronts / (double)n.shared_requests,
           (double)n.global_sectors / (double)n.global_ideal);
    ck_assert_uint_eq(n.mma, x->mma);
    ck_assert_uint_gt(n.global_sectors, 0);
    ck_assert_msg((double)n.shared_wavefronts <= x->most * (double)n.shared_requests,
                  "%llu wavefronts for %llu requests", (unsigned long long)n.shared_wavefronts,
                  (unsigned long long)n.shared_requests);
    ck_assert_msg((double)n.global_sectors <= 1.005 * (double)n.global_ideal,
                  "%llu sectors, ideally %llu", (unsigned long long)n.global_sectors,
                  (unsigned long long)n.global_ideal);
    ck_assert_uint_eq(standin_count(), 0);
    tenon_context_destroy(ctx);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cuda traffic");
    TCase *group = tcase_create("attention");
    tcase_add_loop_test(group, attention, 0, sizeof cases / sizeof *cases);
    suite_add_tcase(s, group);
    group = tcase_create("products");
    tcase_set_timeout(group, 0);
    tcase_add_loop_test(group, gemm, 0, 4 * (int)(sizeof products / sizeof *products));
    suite_add_tcase(s, group);
    return run_suite(s);
}
