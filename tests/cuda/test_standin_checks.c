/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_standin_checks.c: kernels that are wrong (tests/cuda/kernels/faulty.cu, and gemm.cu with
 * BREAK) must be found wrong, with the right kind of finding; and PTX that can't be executed is
 * refused by name.
 */
#include "cuda_test.h"

#include <string.h>

static CUdeviceptr floats(int n) {
    static float x[1024];
    for (int i = 0; i < n; ++i)
        x[i] = (float)i;
    return cuda_upload(x, (size_t)n * 4);
}

/* Runs a kernel whose first argument is an array of n floats. */
static CUresult faulty(const char *name, int n, unsigned threads, unsigned shared) {
    CUfunction f = cuda_function(cuda_module("faulty"), name);
    CUdeviceptr x = floats(n);
    int64_t rest[4] = {n};
    return cuda_run(f, 1, 1, threads, shared, (void *[]){&x, rest, rest});
}

START_TEST(races) {
    for (uint64_t seed = 1; seed < 6; ++seed) { /* by clocks, not by luck */
        cuda_start(80, seed);
        CU(faulty("no_barrier", 128, 128, 0)); /* some readers come before the writers, too */
        ck_assert_uint_gt(standin_count_of(STANDIN_RACE), 0);
        cuda_start(80, seed);
        CU(faulty("no_warp_barrier", 32, 32, 0));
        cuda_expect_only(STANDIN_RACE);
        cuda_start(80, seed);
        CU(faulty("overwritten", 64, 64, 0));
        cuda_expect_only(STANDIN_RACE);
    }
    const standin_finding *f = standin_at(0); /* by name, with the statement */
    ck_assert_str_eq(f->kernel, "overwritten");
    ck_assert_msg(strstr(f->text, ".shared") != NULL, "%s", f->text);
    ck_assert_uint_gt(f->line, 0);
}
END_TEST

START_TEST(bounds) {
    cuda_start(80, 1);
    ck_assert_int_eq(faulty("beyond", 64, 32, 0), CUDA_ERROR_ILLEGAL_ADDRESS);
    cuda_expect_only(STANDIN_BOUNDS);
    CUdeviceptr p; /* the context is gone */
    ck_assert_int_eq(cuMemAlloc(&p, 16), CUDA_ERROR_ILLEGAL_ADDRESS);

    cuda_start(80, 1);
    ck_assert_int_eq(faulty("shared_beyond", 64, 32, 128), CUDA_ERROR_ILLEGAL_ADDRESS);
    cuda_expect_only(STANDIN_BOUNDS);

    cuda_start(80, 1);
    ck_assert_int_eq(faulty("misaligned", 64, 1, 0), CUDA_ERROR_MISALIGNED_ADDRESS);
    cuda_expect_only(STANDIN_MISALIGNED);

    cuda_start(80, 1); /* freed by the time that the stream comes to it */
    CUfunction f = cuda_function(cuda_module("faulty"), "unwritten");
    CUdeviceptr x = floats(64);
    CU(cuMemFree(x));
    ck_assert_int_eq(cuda_run(f, 1, 1, 32, 0, (void *[]){&x}), CUDA_ERROR_ILLEGAL_ADDRESS);
    cuda_expect_only(STANDIN_FREED);
}
END_TEST

START_TEST(uninitialised) {
    cuda_start(80, 1);
    CU(faulty("unwritten", 64, 64, 0));
    cuda_expect_only(STANDIN_UNINITIALISED);
}
END_TEST

START_TEST(lanes_and_barriers) {
    cuda_start(80, 1);
    ck_assert_int_eq(faulty("divergent_barrier", 64, 32, 0), CUDA_ERROR_LAUNCH_FAILED);
    cuda_expect_only(STANDIN_DIVERGENT);
    cuda_start(80, 1);
    ck_assert_int_eq(faulty("missing_arrival", 64, 64, 0), CUDA_ERROR_LAUNCH_TIMEOUT);
    cuda_expect_only(STANDIN_DEADLOCK);
    cuda_start(80, 1);
    CU(faulty("wrong_members", 64, 32, 0));
    cuda_expect_only(STANDIN_USAGE);
    cuda_start(80, 1);
    CUfunction f = cuda_function(cuda_module("faulty"), "spins");
    CUdeviceptr flag = cuda_zeros(4);
    ck_assert_int_eq(cuda_run(f, 1, 1, 32, 0, (void *[]){&flag}), CUDA_ERROR_LAUNCH_TIMEOUT);
    cuda_expect_only(STANDIN_DEADLOCK);
}
END_TEST

START_TEST(in_flight) {
    cuda_start(80, 1);
    CUfunction f = cuda_function(cuda_module("faulty"), "no_wait");
    CUdeviceptr x = floats(128), y = cuda_zeros(512);
    float result[128];
    CU(cuda_run(f, 1, 1, 32, 0, (void *[]){&x, &y}));
    cuda_expect_only(STANDIN_IN_FLIGHT);
    cuda_download(result, y, sizeof result);
    for (int i = 0; i < 32; ++i)
        ck_assert(result[i] != result[i]); /* and what it read is NaN */
}
END_TEST

static CUresult broken_gemm(const char *module, uint64_t seed) {
    static uint16_t a[64 * 256];
    cuda_start(80, seed);
    CUfunction f = cuda_function(cuda_module(module), "gemm_bf16");
    CUdeviceptr da = cuda_upload(a, sizeof a), c = cuda_zeros(60 * 60 * 4);
    int m = 60, n = 60, k = 256;
    int64_t pitch = 512;
    return cuda_run(f, 1, 1, 128, 3 * 2 * 64 * 64,
                    (void *[]){&da, &da, &c, &m, &n, &k, &pitch, &pitch});
}

START_TEST(broken_pipelines) {
    for (uint64_t seed = 1; seed < 4; ++seed) {
        CU(broken_gemm("gemm_break1", seed)); /* no barrier */
        ck_assert_uint_gt(standin_count_of(STANDIN_RACE) + standin_count_of(STANDIN_IN_FLIGHT), 0);
        CU(broken_gemm("gemm_break2", seed)); /* one group too few */
        ck_assert_uint_gt(standin_count_of(STANDIN_IN_FLIGHT), 0);
        ck_assert_int_eq(broken_gemm("gemm_break3", seed), CUDA_ERROR_ILLEGAL_ADDRESS);
        cuda_expect_only(STANDIN_BOUNDS);
    }
    CU(broken_gemm("gemm_break4", 1)); /* right, but slow: rows of a chunk share banks */
    cuda_expect_clean();
    standin_counters c = standin_counters_of("gemm_bf16");
    ck_assert_uint_gt(c.shared_wavefronts, 2 * c.shared_requests);
}
END_TEST

START_TEST(unknown) {
    cuda_start(80, 1);
    CUmodule m;
    CUfunction f;
    CU(cuModuleLoadData(
        &m, ".version 8.0\n.target sm_80\n.address_size 64\n"
            ".visible .entry odd()\n{\n.reg .b32 %r<3>;\nfrobnicate.b32 %r1, %r2;\nret;\n}\n"));
    ck_assert_int_eq(cuModuleGetFunction(&f, m, "odd"), CUDA_ERROR_INVALID_PTX);
    cuda_expect_only(STANDIN_UNKNOWN);
    ck_assert(strstr(standin_at(0)->text, "frobnicate") != NULL);
    ck_assert_uint_eq(standin_at(0)->line, 7);
}
END_TEST

/* The same seed: the same run. */
START_TEST(repeatable) {
    standin_finding first[2];
    for (int run = 0; run < 2; ++run) {
        CU(broken_gemm("gemm_break1", 42));
        ck_assert_uint_gt(standin_count(), 0);
        first[run] = *standin_at(0);
    }
    ck_assert_mem_eq(&first[0], &first[1], sizeof first[0]);
}
END_TEST

START_TEST(options_and_report) {
    cuda_start(80, 1);
    standin_options o = standin_get_options();
    o.check_shared = false;
    standin_set_options(&o);
    CU(faulty("overwritten", 64, 64, 0));
    cuda_expect_clean();
    cuda_start(80, 1); /* on again */
    CU(faulty("overwritten", 64, 64, 0));
    ck_assert(standin_report("standin_findings.txt"));
    char line[512] = "";
    FILE *f = fopen("standin_findings.txt", "r");
    ck_assert(f && fgets(line, sizeof line, f));
    fclose(f);
    remove("standin_findings.txt");
    ck_assert_msg(strncmp(line, "race\toverwritten\t", 17) == 0, "%s", line);
    ck_assert(!standin_report("/no/such/folder/file"));
}
END_TEST

static Suite *checks_suite(void) {
    Suite *s = suite_create("standin_checks");
    TCase *c = tcase_create("checks");
    tcase_set_timeout(c, 300);
    tcase_add_test(c, races);
    tcase_add_test(c, bounds);
    tcase_add_test(c, uninitialised);
    tcase_add_test(c, lanes_and_barriers);
    tcase_add_test(c, in_flight);
    tcase_add_test(c, broken_pipelines);
    tcase_add_test(c, unknown);
    tcase_add_test(c, repeatable);
    tcase_add_test(c, options_and_report);
    suite_add_tcase(s, c);
    return s;
}

int main(void) {
    return run_suite(checks_suite());
}
