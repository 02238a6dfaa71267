/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers that are none, too old, broken, or lack what a device could do without: each is a reason
 * in the device list, and the next look finds another. Every test is a process of its own, as what
 * was opened once stays.
 */
#include "cuda_host.h"

static const char *driver; /* the stand-in */

static void expect_reason(const char *word) {
    tenon_device_info info = {.struct_size = sizeof info};
    tenon_context *ctx;
    const tenon_context_desc desc = {.device = "cuda"};
    OK(NULL, tenon_device_get(0, &info));
    ck_assert_str_eq(info.id, "cuda");
    ck_assert_int_eq(info.usable, 0);
    ck_assert_msg(strstr(info.reason, word) != NULL, "'%s' has no '%s'", info.reason, word);
    REFUSED(NULL, TENON_ERROR_NO_DEVICE, word, tenon_context_create(&desc, &ctx));
    tenon_context *chain = context_on("cuda,cpu");
    ck_assert_str_eq(tenon_context_device(chain, 0), "cpu");
    tenon_context_destroy(chain);
}

static void expect_device(void) {
    product *p = malloc(sizeof *p);
    const tenon_gemm_desc g = product_of(p);
    setenv("TENON_CUDA_LIBRARY", driver, 1);
    tenon_context *ctx = context_on("cuda");
    product_fill(p);
    OK(ctx, tenon_gemm(ctx, &g));
    ck_assert(is_right(p));
    tenon_context_destroy(ctx);
    free(p);
}

START_TEST(libraries_that_are_none) {
    setenv("TENON_CUDA_LIBRARY", "", 1);
    expect_reason("TENON_CUDA_LIBRARY is empty");
    setenv("TENON_CUDA_LIBRARY", "/nowhere/libcuda.so.1", 1);
    expect_reason("could not be loaded");
    setenv("TENON_CUDA_LIBRARY", "/", 1);
    expect_reason("could not be loaded");
    setenv("TENON_CUDA_LIBRARY", "libm.so.6", 1);
    expect_reason("has no cu");
    expect_device();
}
END_TEST

START_TEST(old_drivers) {
    setenv("TENON_CUDA_LIBRARY", driver, 1);
    standin_configure(&(standin_device){.driver_version = 10020});
    expect_reason("CUDA 10.2");
    standin_configure(&(standin_device){.driver_version = 11040});
    expect_device();
}
END_TEST

static const struct broken {
    const char *function, *word;
    int code;
} broken[] = {
    {"cuInit", "CUDA_ERROR_NO_DEVICE", CUDA_ERROR_NO_DEVICE},
    {"cuInit", "(803)", CUDA_ERROR_SYSTEM_DRIVER_MISMATCH},
    {"cuInit", "unknown error", 12345},
    {"cuDeviceGetCount", "cuDeviceGetCount", CUDA_ERROR_UNKNOWN},
    {"cuDeviceGet", "finds no device", CUDA_ERROR_INVALID_DEVICE},
};

START_TEST(broken_drivers) {
    setenv("TENON_CUDA_LIBRARY", driver, 1);
    standin_arm(broken[_i].function, 1, broken[_i].code, true);
    expect_reason(broken[_i].word);
    standin_disarm();
    expect_device(); /* a failure is not remembered */
}
END_TEST

/* A driver without virtual memory, clusters and tensor maps still serves. */
START_TEST(functions_missing) {
    driver = getenv("TENON_CUDA_BARE");
    expect_device();
}
END_TEST

/* And one without a function that nobody can do without is none. */
START_TEST(function_missing) {
    setenv("TENON_CUDA_LIBRARY", getenv("TENON_CUDA_USELESS"), 1);
    expect_reason("has no cuLaunchKernel");
}
END_TEST

int main(void) {
    driver = getenv("TENON_CUDA_LIBRARY");
    Suite *s = suite_create("cuda_library");
    TCase *t = tcase_create("cuda_library");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, libraries_that_are_none);
    tcase_add_test(t, old_drivers);
    tcase_add_loop_test(t, broken_drivers, 0, sizeof broken / sizeof broken[0]);
    tcase_add_test(t, functions_missing);
    tcase_add_test(t, function_missing);
    suite_add_tcase(s, t);
    return run_suite(s);
}
