/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLAS has no status to answer: whatever the system refuses, from any thread and in the child of a fork, the
 * result must be right, to the bit.
 */
#include "blas_case.h"
#include "fault.h"
#include "suite.h"
#include "torture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Large enough for workspace and threads, small enough for the loops without either. */
static const gemm_call product = {.single = true,
                                  .transa = 'N',
                                  .transb = 'T',
                                  .m = 130,
                                  .n = 70,
                                  .k = 300,
                                  .lda = 130,
                                  .ldb = 70,
                                  .ldc = 130,
                                  .alpha = 0.5,
                                  .beta = 2};
static const gemv_call vector = {
    .trans = 'T', .m = 300, .n = 90, .lda = 301, .incx = -2, .incy = -1, .alpha = 0.5, .beta = 2};

static void prepare(void *state) {
    blas_case_again(state);
}

static tenon_status call(void *state) {
    blas_case_call(state, C_64_SCIPY);
    return TENON_OK;
}

static bool correct(void *state) {
    return !blas_case_check(state);
}

/* What one call may leave: its context with all that belongs to it. */
enum { KEPT = 40 };

/* Each request of a process's first call fails, once and with all later ones. */
static void tear_at(blas_case *x) {
    const torture_case c = {.name = "first call",
                            .state = x,
                            .prepare = prepare,
                            .call = call,
                            .correct = correct,
                            .harmless = true};
    int64_t injected = 0;
    const char *bad = torture_cold(&c, KEPT, 60, &injected);
    ck_assert_msg(!bad, "%s", bad);
    printf("%lld requests failed\n", (long long)injected);
    ck_assert_int_gt(injected, 10);
}

START_TEST(first_gemm) {
    rng r = rng_start("first_gemm");
    blas_case x;
    gemm_case_make(&x, &r, &product);
    tear_at(&x);
    ck_assert(blas_case_end(&x));
}
END_TEST

START_TEST(first_gemv) {
    rng r = rng_start("first_gemv");
    blas_case x;
    gemv_case_make(&x, &r, &vector);
    tear_at(&x);
    ck_assert(blas_case_end(&x));
}
END_TEST

/* New shapes, so that plans and workspace are wanted, while every request may fail. */
START_TEST(by_chance) {
    rng r = rng_start("by_chance");
    int64_t injected = 0;
    for (int n = 0; n < 300; n++) {
        gemm_call g = {
            .single = n & 1, .transa = 'N', .transb = 'N', .alpha = -1, .beta = n % 3 ? 0 : 0.5};
        g.m = g.lda = g.ldc = rng_between(&r, 1, 60);
        g.n = rng_between(&r, 1, 60);
        g.k = g.ldb = rng_between(&r, 1, 300);
        blas_case x;
        gemm_case_make(&x, &r, &g);
        fault_arm_random(n % 2 ? 1 : 0.2, rng_u64(&r));
        blas_case_call(&x, FORTRAN_32);
        injected += fault_disarm();
        const char *bad = blas_case_check(&x);
        ck_assert_msg(!bad, "call %d: %s", n, bad);
        ck_assert(blas_case_end(&x));
    }
    ck_assert_int_gt(injected, 100);
}
END_TEST

/* ---- threads and forks ---- */

enum { WORKERS = 12, ROUNDS = 40 };

static _Atomic bool stop;
static _Atomic int wrong_results;

static void *work(void *arg) {
    blas_case *x = arg;
    for (int n = 0; n < ROUNDS; n++) {
        blas_case_again(x);
        blas_case_call(x, (face)(n % FACES));
        if (n % 8 == 0 && blas_case_check(x))
            wrong_results++;
    }
    return NULL;
}

START_TEST(many_threads) {
    rng r = rng_start("many_threads");
    pthread_t thread[WORKERS];
    blas_case x[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        gemm_call g = product;
        g.single = i % 2;
        g.n = 20 + i;
        g.ldb = g.n;
        gemm_case_make(&x[i], &r, &g);
    }
    for (int i = 0; i < WORKERS; i++)
        ck_assert(pthread_create(&thread[i], NULL, work, &x[i]) == 0);
    for (int i = 0; i < WORKERS; i++)
        ck_assert(pthread_join(thread[i], NULL) == 0);
    ck_assert_int_eq(wrong_results, 0);
    for (int i = 0; i < WORKERS; i++)
        ck_assert(blas_case_end(&x[i]));
}
END_TEST

static void *never_ends(void *arg) {
    blas_case *x = arg;
    while (!stop)
        blas_case_call(x, C_32);
    return NULL;
}

/* The child comes while the parent's other thread is inside: its context is lost to the child, which goes on with
 * another one. */
START_TEST(fork_inside) {
    rng r = rng_start("fork_inside");
    pthread_t thread;
    blas_case busy, own;
    gemm_call large = product;
    large.m = large.n = large.lda = large.ldb = large.ldc = 300;
    gemm_case_make(&busy, &r, &large);
    gemm_case_make(&own, &r, &product);
    blas_case_call(&own, C_32);
    ck_assert(pthread_create(&thread, NULL, never_ends, &busy) == 0);
    for (int n = 0; n < 20; n++) {
        int how = 0;
        usleep(500);
        const pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            alarm(30);
            bool good = true;
            for (int k = 0; k < 3; k++) {
                blas_case_again(&own);
                blas_case_call(&own, C_32);
                good = good && !blas_case_check(&own);
            }
            _exit(good ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &how, 0), child);
        ck_assert_msg(how == 0, "child %d ended with %d", n, how);
    }
    stop = true;
    ck_assert(pthread_join(thread, NULL) == 0);
    ck_assert(blas_case_end(&own) && blas_case_end(&busy));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("blas_memory");
    TCase *test = tcase_create("memory");
    tcase_set_timeout(test, 240);
    tcase_add_test(test, first_gemm);
    tcase_add_test(test, first_gemv);
    tcase_add_test(test, by_chance);
    suite_add_tcase(suite, test);
    test = tcase_create("threads");
    tcase_set_timeout(test, 120);
    tcase_add_test(test, many_threads);
#ifndef TEST_TSAN /* forks from a program with threads */
    tcase_add_test(test, fork_inside);
#endif
    suite_add_tcase(suite, test);
    return run_suite(suite);
}
