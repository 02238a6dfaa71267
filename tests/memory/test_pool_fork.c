/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forks while another thread is inside of a shared pool. The moment is held still by what the pool
 * calls: a recording's sink runs under `lock`, an allocation hook under `slow`, a reclaimer is one.
 * The child must never wait: it goes on with the pool, or is told that it is lost.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tenon/tenon.h>

#include "memory/pool.h"
#include "memory_support.h"
#include "suite.h"

enum { MIB = 1 << 20, CHILD_SECONDS = 20 };

/* Lets one thread rest inside of a callback until the test has forked. */
typedef struct rest {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool wanted, inside, over;
} rest;

static rest place = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void rest_here(void) {
    pthread_mutex_lock(&place.lock);
    if (place.wanted) {
        place.wanted = false;
        place.inside = true;
        pthread_cond_broadcast(&place.changed);
        while (!place.over)
            pthread_cond_wait(&place.changed, &place.lock);
    }
    pthread_mutex_unlock(&place.lock);
}

static void rest_begin(void) {
    place.wanted = true;
    place.inside = place.over = false;
}

static void rest_reached(void) {
    pthread_mutex_lock(&place.lock);
    while (!place.inside)
        pthread_cond_wait(&place.changed, &place.lock);
    pthread_mutex_unlock(&place.lock);
}

static void rest_over(void) {
    pthread_mutex_lock(&place.lock);
    place.over = true;
    pthread_cond_broadcast(&place.changed);
    pthread_mutex_unlock(&place.lock);
}

static int resting_sink(void *user, const char *text, size_t bytes) {
    (void)user, (void)text, (void)bytes;
    rest_here();
    return 0;
}

/* Rests where a block is freed. */
static int resting_free_sink(void *user, const char *text, size_t bytes) {
    (void)user;
    if (bytes > 5 && memcmp(text, "free ", 5) == 0)
        rest_here();
    return 0;
}

static void *resting_alloc(void *user, size_t bytes, size_t alignment) {
    (void)user;
    if (bytes >= MIB)
        rest_here();
    void *memory = NULL;
    return posix_memalign(&memory, alignment < 16 ? 16 : alignment, bytes) == 0 ? memory : NULL;
}

static void plain_free(void *user, void *memory, size_t bytes) {
    (void)user, (void)bytes;
    free(memory);
}

static size_t resting_give_back(void *user, size_t wanted) {
    (void)user, (void)wanted;
    rest_here();
    return 0;
}

static void *alloc_one(void *arg) {
    tenon_buffer *buffer = NULL;
    (void)!tenon_buffer_alloc(arg, 3 * MIB, "other thread", &buffer);
    tenon_buffer_free(buffer);
    return NULL;
}

typedef int (*child_fn)(tenon_pool *pool, tenon_buffer *held);

/* Forks while another thread rests inside of `pool`, and answers the child's exit code. */
static int fork_during(tenon_pool *pool, tenon_buffer *held, child_fn run) {
    pthread_t thread;
    rest_begin();
    ck_assert_int_eq(pthread_create(&thread, NULL, alloc_one, pool), 0);
    rest_reached();
    pid_t child = fork();
    if (child == 0) {
        alarm(CHILD_SECONDS); /* a child that waits for ever fails the test */
        _exit(run(pool, held));
    }
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    rest_over();
    pthread_join(thread, NULL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

/* Every call on a lost pool. */
static int is_lost(tenon_pool *pool, tenon_buffer *held) {
    tenon_buffer *buffer = (tenon_buffer *)1;
    tenon_memory_info info = {0};
    tenon_memory_owner owner;
    for (int round = 0; round < 3; ++round) {
        if (!tn_pool_lost(pool))
            return 1;
        if (tenon_buffer_alloc(pool, 100, NULL, &buffer) != TENON_ERROR_DEVICE_LOST || buffer)
            return 2;
        if (strstr(tenon_error_message(NULL), "forked") == NULL)
            return 3;
        if (tenon_memory_stats(pool, &info) != TENON_ERROR_DEVICE_LOST ||
            tenon_memory_snapshot(pool, resting_sink, NULL) != TENON_ERROR_DEVICE_LOST ||
            tenon_memory_record(pool, NULL, NULL) != TENON_ERROR_DEVICE_LOST ||
            tenon_memory_inject(pool, NULL) != TENON_ERROR_DEVICE_LOST)
            return 4;
        if (tenon_memory_trim(pool, 0) != 0 || tenon_memory_owners(pool, &owner, 1) != 0)
            return 5;
    }
    if (tenon_buffer_view(held, 0, 1, &buffer) != TENON_ERROR_DEVICE_LOST ||
        tenon_buffer_import(pool, TENON_NATIVE_HOST, &info, 1, &buffer) != TENON_ERROR_DEVICE_LOST)
        return 6;
    memset(tenon_buffer_host(held), 2, tenon_buffer_size(held)); /* memory stays where it is */
    tenon_buffer_free(held);
    tenon_pool_destroy(pool);
    /* A new pool is as good as any. */
    if (tenon_pool_create(NULL, &pool) != TENON_OK ||
        tenon_buffer_alloc(pool, MIB, NULL, &buffer) != TENON_OK)
        return 7;
    tenon_buffer_free(buffer);
    tenon_pool_destroy(pool);
    /* And so it is for the children of this one. */
    return 0;
}

/* A pool that the child can use. */
static int goes_on(tenon_pool *pool, tenon_buffer *held) {
    tenon_buffer *buffer;
    tenon_memory_info info = {0};
    if (tn_pool_lost(pool))
        return 1;
    if (tenon_buffer_alloc(pool, 5 * MIB, NULL, &buffer) != TENON_OK)
        return 2;
    memset(tenon_buffer_host(buffer), 1, 5 * MIB);
    tenon_buffer_free(buffer);
    tenon_memory_trim(pool, 0);
    tenon_buffer_free(held);
    if (tenon_memory_stats(pool, &info) != TENON_OK || info.in_use != 0 || info.damages != 0)
        return 3;
    tenon_pool_destroy(pool);
    return 0;
}

static int grandchild_too(tenon_pool *pool, tenon_buffer *held, child_fn run) {
    if (tn_pool_lost(pool) != (run == is_lost))
        return 20;
    pid_t child = fork();
    if (child == 0) {
        alarm(CHILD_SECONDS);
        _exit(run(pool, held));
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (status != 0)
        return 21;
    return run(pool, held);
}

static int family_is_lost(tenon_pool *pool, tenon_buffer *held) {
    return grandchild_too(pool, held, is_lost);
}

static int family_goes_on(tenon_pool *pool, tenon_buffer *held) {
    return grandchild_too(pool, held, goes_on);
}

static tenon_pool *make(tenon_pool_desc desc, tenon_buffer **held) {
    tenon_pool *pool;
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_OK);
    ck_assert_int_eq(tenon_buffer_alloc(pool, 1000, "held", held), TENON_OK);
    return pool;
}

/* In the parent everything goes on. */
static void finish(tenon_pool *pool, tenon_buffer *held) {
    tenon_memory_info info = {0};
    tenon_buffer_free(held);
    ck_assert_int_eq(tenon_memory_stats(pool, &info), TENON_OK);
    ck_assert_uint_eq(info.in_use, 0);
    tenon_pool_destroy(pool);
}

START_TEST(lock_held) {
    tenon_buffer *held;
    tenon_pool *pool = make((tenon_pool_desc){0}, &held);
    ck_assert_int_eq(tenon_memory_record(pool, resting_sink, NULL), TENON_OK);
    ck_assert_int_eq(fork_during(pool, held, family_is_lost), 0);
    ck_assert_int_eq(tenon_memory_record(pool, NULL, NULL), TENON_OK);
    finish(pool, held);
}
END_TEST

START_TEST(growing) {
    tenon_buffer *held;
    tenon_pool *pool =
        make((tenon_pool_desc){.allocator = {.alloc = resting_alloc, .free = plain_free}}, &held);
    ck_assert_int_eq(fork_during(pool, held, family_goes_on), 0);
    finish(pool, held);
}
END_TEST

START_TEST(reclaiming) {
    tenon_buffer *held;
    tenon_pool *pool = make((tenon_pool_desc){.budget = 2 * MIB}, &held);
    tn_reclaimer reclaimer = {.give_back = resting_give_back};
    tn_pool_add_reclaimer(pool, &reclaimer);
    ck_assert_int_eq(fork_during(pool, held, family_is_lost), 0);
    tn_pool_remove_reclaimer(pool, &reclaimer);
    finish(pool, held);
}
END_TEST

/* Nobody inside: as ever, and several threads of the child find out at once. */
static void *child_thread(void *arg) {
    tenon_buffer *buffer;
    for (int i = 0; i < 1000; ++i) {
        if (tenon_buffer_alloc(arg, 1000, NULL, &buffer) != TENON_OK)
            return arg;
        tenon_buffer_free(buffer);
    }
    return NULL;
}

START_TEST(threads_of_the_child) {
    for (int round = 0; round < 50; ++round) {
        tenon_buffer *held;
        tenon_pool *pool = make((tenon_pool_desc){0}, &held);
        pid_t child = fork();
        if (child == 0) {
            alarm(CHILD_SECONDS);
            pthread_t threads[3];
            void *wrong = NULL, *one;
            for (int i = 0; i < 3; ++i)
                if (pthread_create(&threads[i], NULL, child_thread, pool) != 0)
                    _exit(1);
            for (int i = 0; i < 3; ++i) {
                pthread_join(threads[i], &one);
                wrong = one != NULL ? one : wrong;
            }
            _exit(wrong != NULL ? 2 : goes_on(pool, held));
        }
        int status = -1;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
        finish(pool, held);
    }
}
END_TEST

/* A context whose pool is lost: what needs no new memory still runs, what does is told. */
static float x[64];
static tenon_context *shared_ctx;

static int context_of_lost_pool(tenon_pool *pool, tenon_buffer *held) {
    (void)held;
    const tenon_softmax_desc small = {.x = tenon_vector(x, TENON_F32, 64),
                                      .y = tenon_vector(x, TENON_F32, 64)};
    const tenon_status status = tenon_softmax(shared_ctx, &small);
    if (status != TENON_OK && status != TENON_ERROR_DEVICE_LOST)
        return 1;
    tenon_context *ctx = NULL;
    const tenon_context_desc desc = {.device = "cpu", .threads = 1, .pool = pool};
    if (tenon_context_create(&desc, &ctx) == TENON_OK)
        tenon_context_destroy(ctx);
    tenon_context_destroy(shared_ctx);
    return 0;
}

START_TEST(context_of_a_lost_pool) {
    tenon_buffer *held;
    tenon_pool *pool = make((tenon_pool_desc){0}, &held);
    const tenon_context_desc desc = {.device = "reference", .threads = 1, .pool = pool};
    ck_assert_int_eq(tenon_context_create(&desc, &shared_ctx), TENON_OK);
    ck_assert_int_eq(tenon_memory_record(pool, resting_sink, NULL), TENON_OK);
    ck_assert_int_eq(fork_during(pool, held, context_of_lost_pool), 0);
    ck_assert_int_eq(tenon_memory_record(pool, NULL, NULL), TENON_OK);
    tenon_context_destroy(shared_ctx);
    finish(pool, held);
}
END_TEST

/* A context out of which another thread was taking the workspace: nobody can know how far it got. */
static int context_half_reclaimed(tenon_pool *pool, tenon_buffer *held) {
    (void)pool, (void)held;
    for (int i = 0; i < 2; ++i)
        if (tenon_sync(shared_ctx) != TENON_ERROR_DEVICE_LOST ||
            strstr(tenon_error_message(shared_ctx), "forked") == NULL)
            return 1;
    tenon_context_destroy(shared_ctx);
    return 0;
}

START_TEST(context_that_was_giving_back) {
    enum { N = 200 };
    static float a[N * N], c[N * N];
    tenon_buffer *held;
    /* So little that the other thread can't be served by giving free parts of segments back. */
    tenon_pool *pool = make((tenon_pool_desc){.budget = 3 * MIB}, &held);
    const tenon_context_desc desc = {.device = "cpu", .threads = 1, .pool = pool};
    ck_assert_int_eq(tenon_context_create(&desc, &shared_ctx), TENON_OK);
    const tenon_gemm_desc product = {.a = tenon_matrix(a, TENON_F32, N, N),
                                     .b = tenon_matrix(a, TENON_F32, N, N),
                                     .c = tenon_matrix(c, TENON_F32, N, N)};
    ck_assert_int_eq(tenon_gemm(shared_ctx, &product), TENON_OK);
    tenon_memory_owner owners[2];
    size_t holds = tenon_memory_owners(pool, owners, 2);
    ck_assert_msg(holds == 2, "the product takes no workspace from the pool");
    ck_assert_int_eq(tenon_memory_record(pool, resting_free_sink, NULL), TENON_OK);
    ck_assert_int_eq(fork_during(pool, held, context_half_reclaimed), 0);
    ck_assert_int_eq(tenon_memory_record(pool, NULL, NULL), TENON_OK);
    ck_assert_int_eq(tenon_sync(shared_ctx), TENON_OK);
    tenon_context_destroy(shared_ctx);
    finish(pool, held);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pool_fork");
    TCase *tcase = tcase_create("fork");
    tcase_set_timeout(tcase, 100);
#ifndef TEST_TSAN /* which does not support threads after a fork, nor forks of threads */
    tcase_add_test(tcase, lock_held);
    tcase_add_test(tcase, growing);
    tcase_add_test(tcase, reclaiming);
    tcase_add_test(tcase, threads_of_the_child);
    tcase_add_test(tcase, context_of_a_lost_pool);
    tcase_add_test(tcase, context_that_was_giving_back);
#endif
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
