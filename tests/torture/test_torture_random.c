/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the system fail at random, at 1 %, 10 % and 50 %, in 10^5 calls (10^6 with
 * TENON_TORTURE=full): every operation in every way on every device, under changing hosts; and on
 * several threads at once that share a pool. After a call that met a failure the same call is made
 * without. The seed is printed; TENON_TEST_SEED sets it.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "rng.h"
#include "suite.h"
#include "torture_world.h"

static const double rates[] = {0.01, 0.1, 0.5};
enum { RATES = sizeof rates / sizeof rates[0] };

/* The sanitizers' slowness is not what is tested. */
static int64_t calls_of_a_rate(void) {
#if defined(TEST_ASAN) || defined(TEST_TSAN)
    return 2000;
#else
    return torture_full() ? 333334 : 33334;
#endif
}

/*
 * The n-th world of a job and its case: whole lives first. What costs much more than the calls is
 * rare: own threads and pools that write to all of their memory in every eighth world, the other
 * devices, the reference among them, for every fourth job.
 */
static bool start(world *w, int kind, int n, torture_case *c) {
    const int others = world_device_count - 1;
    const int device = n < 3 || others == 0 ? 0 : 1 + kind / 4 % others;
    const bool dear = (kind + n) % 8 == 0;
    int host = (2 * kind + 5 * n) % HOSTS;
    if (!dear && (host == HOST_DEBUG || host == HOST_TOUCH))
        host = HOST_HOOKS;
    const world_way way = n == 0 ? WORLD_LIFE : (world_way)((kind + n) % WORLD_LIFE);
    if (n == 3 && kind % 4 != 0)
        return false;
    bool served = world_start(w, kind, host, world_device[device]);
    ck_assert_msg(!w->failed, "%s", w->what);
    if (!served || !world_way_fits(w, way))
        return false;
    if (!dear)
        w->desc.threads = 1;
    *c = world_case(w, way);
    return true;
}

START_TEST(any_call) {
    enum { WORLDS = 256 };
    static world worlds[WORLDS];
    static torture_case cases[WORLDS];
    rng r = rng_start("torture_random");
    int started = 0, count = 0;
    for (int kind = 0; kind < job_kind_count; ++kind)
        for (int n = 0; n < 4; ++n)
            if (start(&worlds[started++], kind, n, &cases[count]))
                ++count;
    torture_chance chance = {
        .probability = rates[_i], .seed = rng_u64(&r) + (uint64_t)_i, .calls = calls_of_a_rate()};
    const char *verdict = torture_random(cases, count, &chance);
    ck_assert_msg(!verdict, "%s", verdict);
    printf("%g %%: %lld calls of %d cases, %lld met failures, %lld answered with one\n",
           100 * chance.probability, (long long)chance.calls, count, (long long)chance.struck,
           (long long)chance.failed);
    ck_assert_int_gt(chance.failed, 0);
    ck_assert_int_gt(chance.struck, chance.failed);
    for (int i = 0; i < started; ++i) {
        ck_assert_int_eq(worlds[i].balance, 0);
        world_end(&worlds[i]);
    }
}
END_TEST

/* ---- threads that share a pool ---- */

enum { THREADS = 4, ROUNDS = 250 };

typedef struct visitor {
    pthread_barrier_t *start;
    world w;
    tenon_pool *pool;
    int64_t failed;
    char bad[256];
} visitor;

static bool ordinary(tenon_status status) {
    return status == TENON_OK || status == TENON_ERROR_OUT_OF_MEMORY ||
           status == TENON_ERROR_OVER_BUDGET;
}

/* A context on the shared pool, a call and a buffer; whatever fails, fails alone. */
static void visit(visitor *v) {
    world *w = &v->w;
    tenon_buffer *buffer = NULL;
    job_prepare(&w->job);
    tenon_status made = tenon_context_create(&w->desc, &w->ctx), called = made;
    if (made == TENON_OK)
        called = world_once(w);
    if (!ordinary(called) || (called == TENON_OK && !job_correct(&w->job)) ||
        (called != TENON_OK && !job_untouched(&w->job)))
        snprintf(v->bad, sizeof v->bad, "%s: %s or wrong outputs", w->what,
                 tenon_status_name(called));
    tenon_status got = tenon_buffer_alloc(v->pool, 70000, "visitor", &buffer);
    if (!ordinary(got) || (got == TENON_OK) != (buffer != NULL))
        snprintf(v->bad, sizeof v->bad, "buffer: %s", tenon_status_name(got));
    if (buffer)
        memset(tenon_buffer_host(buffer), 1, 70000);
    tenon_buffer_free(buffer);
    v->failed += called != TENON_OK || got != TENON_OK;
    tenon_context_destroy(w->ctx);
    w->ctx = NULL;
}

static void *visit_often(void *arg) {
    visitor *v = arg;
    pthread_barrier_wait(v->start);
    for (int i = 0; i < ROUNDS && !v->bad[0]; ++i)
        visit(v);
    return NULL;
}

START_TEST(shared_pool) {
    static visitor visitors[THREADS];
    pthread_t threads[THREADS];
    pthread_barrier_t barrier;
    tenon_pool *pool;
    ck_assert_int_eq(tenon_pool_create(NULL, &pool), TENON_OK); /* what a process takes once */
    tenon_pool_destroy(pool);
    int64_t failed = 0, live = fault_live();
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    const tenon_pool_desc desc = {.budget = (size_t)1 << 20, .segment_bytes = (size_t)128 << 10};
    rng r = rng_start("shared_pool");
    fault_watch(true);
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_OK);
    fault_watch(false);
    for (int t = 0; t < THREADS; ++t) {
        visitor *v = &visitors[t];
        ck_assert(world_start(&v->w, t * 3, HOST_ONE_THREAD, world_device[0]));
        v->w.desc.pool = v->pool = pool;
        v->start = &barrier;
    }
    for (int t = 0; t < THREADS; ++t)
        ck_assert_int_eq(pthread_create(&threads[t], NULL, visit_often, &visitors[t]), 0);
    fault_arm_random(rates[_i], rng_u64(&r));
    pthread_barrier_wait(&barrier);
    for (int t = 0; t < THREADS; ++t)
        pthread_join(threads[t], NULL);
    ck_assert_int_gt(fault_disarm(), 0);

    for (int t = 0; t < THREADS; ++t) {
        visitor *v = &visitors[t];
        ck_assert_msg(!v->bad[0], "%s", v->bad);
        failed += v->failed;
        v->failed = 0;
        visit(v);
        ck_assert_msg(!v->bad[0] && v->failed == 0, "afterwards: %s", v->bad);
    }
    ck_assert_int_gt(failed, 0);
    tenon_memory_info info = {0};
    ck_assert_int_eq(tenon_memory_stats(pool, &info), TENON_OK);
    ck_assert_uint_eq(info.blocks, 0);
    ck_assert_uint_le(info.peak_reserved, desc.budget);
    tenon_pool_destroy(pool);
    ck_assert_int_eq(fault_live(), live);
    for (int t = 0; t < THREADS; ++t)
        world_end(&visitors[t].w);
}
END_TEST

static Suite *random_suite(void) {
    Suite *suite = suite_create("random torture");
    TCase *tc = tcase_create("random");
    tcase_set_timeout(tc, torture_full() ? 1800 : 300);
    tcase_add_loop_test(tc, any_call, 0, RATES);
    tcase_add_loop_test(tc, shared_pool, 0, RATES);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void) {
    torture_tally_open();
    world_devices();
    int result = run_suite(random_suite());
    torture_tally_close("torture_random");
    return result;
}
