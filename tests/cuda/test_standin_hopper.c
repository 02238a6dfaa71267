/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_standin_hopper.c: TMA, mbarriers, wgmma and clusters on the stand-in (kernels/hopper.cu),
 * compared with plain C; and what it must find when the pipeline is wrong.
 */
#include "cuda_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static CUtensorMap map2d(CUtensorMapDataType type, CUdeviceptr p, unsigned size, int columns,
                         int rows, unsigned box_columns, unsigned box_rows,
                         CUtensorMapSwizzle swizzle) {
    CUtensorMap m;
    cuuint64_t dims[] = {(cuuint64_t)columns, (cuuint64_t)rows},
               pitch[] = {(cuuint64_t)columns * size};
    cuuint32_t box[] = {box_columns, box_rows}, step[] = {1, 1};
    CU(cuTensorMapEncodeTiled(&m, type, 2, (void *)p, dims, pitch, box, step,
                              CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                              CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
    return m;
}

static float value(uint16_t h) {
    uint32_t x = (uint32_t)h << 16;
    float f;
    memcpy(&f, &x, 4);
    return f;
}

static CUresult gemm(uint64_t seed, int m, int n, int k, int broken) {
    rng r = {seed};
    cuda_start(90, seed);
    CUfunction f = cuda_function(cuda_module("hopper"), "gemm");
    uint16_t *a = malloc((size_t)m * (size_t)k * 2), *b = malloc((size_t)n * (size_t)k * 2);
    float *c = malloc((size_t)m * (size_t)n * 4);
    for (int i = 0; i < m * k; ++i)
        a[i] = (uint16_t)((rng_u64(&r) & 0x807f) | 0x3f00);
    for (int i = 0; i < n * k; ++i)
        b[i] = (uint16_t)((rng_u64(&r) & 0x807f) | 0x3f00);
    CUdeviceptr da = cuda_upload(a, (size_t)m * (size_t)k * 2),
                db = cuda_upload(b, (size_t)n * (size_t)k * 2),
                dc = cuda_zeros((size_t)m * (size_t)n * 4);
    CUtensorMap ma =
        map2d(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, da, 2, k, m, 64, 64, CU_TENSOR_MAP_SWIZZLE_128B);
    CUtensorMap mb =
        map2d(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, db, 2, k, n, 64, 128, CU_TENSOR_MAP_SWIZZLE_128B);
    CUtensorMap mc =
        map2d(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, dc, 4, n, m, 128, 64, CU_TENSOR_MAP_SWIZZLE_NONE);
    unsigned shared = 4 * (64 + 128) * 64 * 2;
    CU(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)shared));
    CUresult s = cuda_run(f, (unsigned)(n + 127) / 128, (unsigned)(m + 63) / 64, 160, shared,
                          (void *[]){&ma, &mb, &mc, &k, &broken});
    if (s == CUDA_SUCCESS && !broken) {
        cuda_download(c, dc, (size_t)m * (size_t)n * 4);
        for (int i = 0; i < m; ++i)
            for (int j = 0; j < n; ++j) {
                double exact = 0, sizes = 0;
                for (int p = 0; p < k; ++p) {
                    double t = (double)value(a[i * k + p]) * value(b[j * k + p]);
                    exact += t;
                    sizes += fabs(t);
                }
                ck_assert_msg(fabs(c[i * n + j] - exact) <= k * 0x1p-24 * sizes * 1.01,
                              "c[%d][%d] = %g, not %g", i, j, c[i * n + j], exact);
            }
    }
    free(a);
    free(b);
    free(c);
    return s;
}

START_TEST(products) {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
        CU(gemm(seed, 64, 128, 64, 0));
        cuda_expect_clean();
        CU(gemm(seed, 100, 200, 456, 0)); /* all three edges ragged, stages used again */
        cuda_expect_clean();
    }
    ck_assert_uint_gt(standin_counters_of("gemm").mma, 0);
}
END_TEST

START_TEST(broken) {
    for (uint64_t seed = 1; seed <= 3; ++seed) {
        gemm(seed, 64, 128, 640, 1);
        ck_assert_uint_gt(standin_count_of(STANDIN_IN_FLIGHT) + standin_count_of(STANDIN_RACE) +
                              standin_count_of(STANDIN_DEADLOCK),
                          0);
        gemm(seed, 64, 128, 640, 2);
        /* by the clocks, or in the act */
        ck_assert_uint_gt(standin_count_of(STANDIN_IN_FLIGHT) + standin_count_of(STANDIN_RACE), 0);
        gemm(seed, 64, 128, 64, 3);
        cuda_expect_only(STANDIN_RACE);
    }
}
END_TEST

START_TEST(clusters) {
    cuda_start(90, 1);
    CUfunction f = cuda_function(cuda_module("hopper"), "cluster_sum");
    int out[8 * 32];
    CUdeviceptr p = cuda_zeros(sizeof out);
    CU(cuda_run(f, 8, 1, 32, 0, (void *[]){&p}));
    cuda_download(out, p, sizeof out);
    for (int b = 0; b < 8; ++b)
        for (int t = 0; t < 32; ++t)
            ck_assert_int_eq(out[b * 32 + t],
                             4 * t + 100 * (b < 4 ? 0 + 1 + 2 + 3 : 4 + 5 + 6 + 7));
    cuda_expect_clean();
}
END_TEST

static Suite *hopper_suite(void) {
    Suite *s = suite_create("standin_hopper");
    TCase *c = tcase_create("hopper");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, products);
    tcase_add_test(c, broken);
    tcase_add_test(c, clusters);
    suite_add_tcase(s, c);
    return s;
}

int main(void) {
    return run_suite(hopper_suite());
}
