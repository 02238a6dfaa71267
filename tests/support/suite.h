/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite.h: the main() of a Check program, for tests that are one suite of cases.
 *
 * `int main(void) { return run_suite(my_suite()); }`. Each test runs in a process of its own unless
 * CK_FORK=no.
 */
#ifndef TEST_SUITE_H
#define TEST_SUITE_H

#include <check.h>
#include <stdlib.h>

/* Under a sanitizer: address space is full of its shadow; a forked child may not start threads
 * (tsan). */
#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#elif defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#elif __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#endif

static inline int run_suite(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
