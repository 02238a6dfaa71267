/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cuda_blocks.c: products with B of block types on the CUDA device, all types with all kernels:
 * the CPU's bits, exact and with A rounded to bytes, at whose operands memory ends; and what the
 * stand-in driver counts of shared and device memory.
 */
#include "cuda_host.h"
#include "kernel_cases.h"

#include <string.h>

#include "kernel_operand.h"

/* Rows for each kernel: 1, up to 4, up to 8; tiles of 64; tiles of 128 on both multiprocessors. */
static const struct {
    int64_t m, n, k; /* in blocks of 256 */
} sizes[] = {{1, 33, 5}, {3, 40, 1}, {8, 31, 2}, {40, 70, 2}, {70, 35, 1}, {120, 200, 2}};
enum { SIZES = sizeof sizes / sizeof *sizes, TYPES = TENON_NVFP4 - TENON_Q8_0 + 1 };

START_TEST(same_bits) {
    const tenon_dtype type = (tenon_dtype)(TENON_Q8_0 + _i);
    ck_assert(kernel_cases_open(_i % KERNEL_SEEDS, NULL));
    for (int i = 0; i < SIZES * 2; i++) {
        const int64_t m = sizes[i / 2].m, n = sizes[i / 2].n,
                      k = 256 * sizes[i / 2].k + (type < TENON_Q4_K || type > TENON_Q6_K ? 64 : 0);
        const int64_t a_shape[2] = {m, k}, b_shape[2] = {k, n}, c_shape[2] = {m, n};
        const int64_t b_stride[2] = {1, k + (i % 3 == 1 ? 256 : 0)};
        const operand *a = input(i % 3 == 2 ? TENON_F16 : TENON_F32, 2, a_shape, NULL),
                      *b = blocks(type, 2, b_shape, b_stride);
        operand *const c = output(TENON_F32, 2, c_shape, NULL);
        tenon_gemm_desc g = {.a = a->device,
                             .b = b->device,
                             .c = c->device,
                             .compute = i % 2 ? TENON_COMPUTE_FAST : TENON_COMPUTE_EXACT};
        OK(kernel_now.cuda, tenon_gemm(kernel_now.cuda, &g));
        OK(kernel_now.cuda, tenon_sync(kernel_now.cuda));
        const char *const mode = i % 2 ? "fast" : "exact";
        g.a = a->host;
        g.b = b->host;
        exact_by_cpu(mode, c, g);
        compare(mode, c, nothing, NULL);
        ck_assert_msg(!kernel_now.wrong[0], "%s, %d x %d x %d: %s", tenon_dtype_name(type), (int)m,
                      (int)n, (int)k, kernel_now.wrong);
        release();
    }
    for (size_t i = 0; i < standin_count(); i++)
        printf("%s: %s\n", standin_at(i)->kernel, standin_at(i)->text);
    ck_assert_uint_eq(standin_count(), 0);
    kernel_cases_close();
}
END_TEST

typedef struct traffic_case {
    const char *kernel;
    tenon_dtype type;
    tenon_compute compute;
    int64_t m, n, k;
    double wavefronts, sectors; /* at most, of a request, and of the ideal */
} traffic_case;
static const traffic_case traffic_cases[] = {
    {"gemm_blocks_exact_1", TENON_Q4_0, TENON_COMPUTE_EXACT, 1, 64, 4096, 1.005, 1.005},
    {"gemm_blocks_bytes_1", TENON_Q8_0, TENON_COMPUTE_FAST, 1, 64, 4096, 1.005, 1.005},
    {"gemm_blocks_bytes_1", TENON_Q4_K, TENON_COMPUTE_FAST, 1, 64, 4096, 1.005, 1.005},
    {"gemm_blocks_bytes_8", TENON_Q6_K, TENON_COMPUTE_FAST, 8, 64, 4096, 1.005, 1.12},
    {"gemm_blocks_f32", TENON_Q4_K, TENON_COMPUTE_EXACT, 128, 64, 1024, 1.005, 1.02},
    {"gemm_blocks_mma_plain_128", TENON_Q8_0, TENON_COMPUTE_FAST, 256, 128, 1024, 1.005, 1.05},
    {"gemm_blocks_mma_minimum_64", TENON_Q4_K, TENON_COMPUTE_FAST, 64, 128, 1024, 1.005, 1.03},
};

START_TEST(traffic) {
    const traffic_case *x = &traffic_cases[_i];
    ck_assert(kernel_cases_open(0, NULL));
    const int64_t a_shape[2] = {x->m, x->k}, b_shape[2] = {x->k, x->n}, c_shape[2] = {x->m, x->n},
                  b_stride[2] = {1, x->k};
    const operand *a = input(TENON_F32, 2, a_shape, NULL),
                  *b = blocks(x->type, 2, b_shape, b_stride),
                  *c = output(TENON_F32, 2, c_shape, NULL);
    const tenon_gemm_desc g = {
        .a = a->device, .b = b->device, .c = c->device, .compute = x->compute};
    standin_clear();
    OK(kernel_now.cuda, tenon_gemm(kernel_now.cuda, &g));
    OK(kernel_now.cuda, tenon_sync(kernel_now.cuda));
    const standin_counters n = standin_counters_of(x->kernel);
    ck_assert_msg(n.instructions > 0, "%s was not chosen", x->kernel);
    const double wavefronts = (double)n.shared_wavefronts / (double)n.shared_requests,
                 sectors = (double)n.global_sectors / (double)n.global_ideal;
    printf(
        "%s, %s: %.4f wavefronts a request, %.4f of the ideal sectors, %.2f instructions of warps "
        "for 32 products\n",
        x->kernel, tenon_dtype_name(x->type), wavefronts, sectors,
        (double)n.instructions * 32 / (double)(x->m * x->n * x->k));
    ck_assert_msg(wavefronts <= x->wavefronts, "%.4f wavefronts a request", wavefronts);
    ck_assert_msg(sectors <= x->sectors, "%.4f of the ideal sectors", sectors);
    ck_assert_uint_eq(standin_count(), 0);
    release();
    kernel_cases_close();
}
END_TEST

int main(void) {
    Suite *s = suite_create("cuda blocks");
    TCase *t = tcase_create("products");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, same_bits, 0, TYPES);
    tcase_add_loop_test(t, traffic, 0, sizeof traffic_cases / sizeof *traffic_cases);
    suite_add_tcase(s, t);
    return run_suite(s);
}
