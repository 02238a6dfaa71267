/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recovery ladder as far as the pool goes, arenas that grow and give way, and threads that
 * share one pool.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tenon/tenon.h>

#include "memory/arena.h"
#include "memory_support.h"
#include "rng.h"
#include "suite.h"

enum { MIB = 1 << 20 };

/* Something that holds a block and gives it up when asked. */
typedef struct cache {
    tn_reclaimer reclaimer;
    tenon_pool *pool;
    tn_block block;
    int asked;
    bool stubborn;
} cache;

static size_t cache_give_back(void *user, size_t wanted) {
    cache *c = user;
    ck_assert_uint_gt(wanted, 0);
    ++c->asked;
    size_t bytes = c->stubborn ? 0 : c->block.bytes;
    if (bytes != 0)
        tn_pool_free(c->pool, &c->block);
    return bytes;
}

static void cache_fill(cache *c, tenon_pool *pool, size_t bytes) {
    c->pool = pool;
    c->reclaimer = (tn_reclaimer){.give_back = cache_give_back, .user = c};
    tn_pool_add_reclaimer(pool, &c->reclaimer);
    ck_assert_int_eq(tn_pool_alloc(pool, bytes, 64, "cache", &c->block, NULL), TENON_OK);
}

START_TEST(rungs_in_order) {
    gathered log = {0};
    tenon_pool *pool = make_pool((tenon_pool_desc){.budget = 8 * MIB,
                                                   .logger = {.user = &log, .log = gathered_log},
                                                   .log_level = TENON_LOG_WARNING});
    static cache caches[3];
    for (int i = 0; i < 3; ++i)
        cache_fill(&caches[i], pool, 2 * MIB);
    caches[1].stubborn = true;
    tn_block a, b;
    tn_message message = {{0}};
    /* Room beside the caches: nobody is asked. */
    ck_assert_int_eq(tn_pool_alloc(pool, 2 * MIB, 64, "a", &a, &message), TENON_OK);
    tn_pool_free(pool, &a);
    ck_assert_int_eq(caches[0].asked + caches[1].asked + caches[2].asked, 0);
    ck_assert_ptr_null(log.bytes);
    /* More than is left and empty: caches go, one after the other, until it fits. */
    ck_assert_int_eq(tn_pool_alloc(pool, 4 * MIB, 64, "a", &a, &message), TENON_OK);
    tenon_memory_info info = info_of(pool);
    ck_assert_uint_eq(info.ladder.caches_dropped, 1);
    ck_assert_uint_eq(info.ladder.segments_given, 2);
    ck_assert_uint_eq(info.ladder.failures, 0);
    ck_assert(gathered_has(&log, "short of 4194304 bytes for 'a'"));
    ck_assert(gathered_has(&log, "then served it"));
    /* More than even that gives: all are asked, then the answer is no, with the figures. */
    ck_assert_int_eq(tn_pool_alloc(pool, 3 * MIB, 64, "b", &b, &message), TENON_ERROR_OVER_BUDGET);
    ck_assert_ptr_null(b.node);
    info = info_of(pool);
    ck_assert_uint_eq(info.ladder.failures, 1);
    ck_assert_uint_eq(info.ladder.caches_dropped, 2);
    ck_assert_int_gt(caches[1].asked, 0);
    static const char *const parts[] = {"3145728",
                                        "'b'",
                                        "in use 6291456",
                                        "budget 8388608",
                                        "largest free block",
                                        "'a' 4194304",
                                        "'cache' 2097152"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; ++i)
        ck_assert_msg(strstr(message.text, parts[i]) != NULL, "'%s' lacks '%s'", message.text,
                      parts[i]);
    ck_assert(gathered_has(&log, "TENON_ERROR_OVER_BUDGET"));
    /* Nothing is spoilt. */
    ck_assert_int_eq(tn_pool_alloc(pool, 2 * MIB, 64, "b", &b, &message), TENON_OK);
    tn_pool_free(pool, &a);
    tn_pool_free(pool, &b);
    for (int i = 0; i < 3; ++i) {
        tn_pool_remove_reclaimer(pool, &caches[i].reclaimer);
        tn_pool_free(pool, &caches[i].block);
    }
    ck_assert_int_eq(tn_pool_alloc(pool, 9 * MIB, 64, "b", &b, &message), TENON_ERROR_OVER_BUDGET);
    tenon_pool_destroy(pool);
    gathered_free(&log);
}
END_TEST

START_TEST(the_system_refuses) {
    counted hooks = {.limit = 6 * MIB};
    tenon_pool *pool = make_pool((tenon_pool_desc){.allocator = counted_hooks(&hooks)});
    cache c = {.asked = 0};
    cache_fill(&c, pool, 3 * MIB);
    tn_block a;
    tn_message message;
    ck_assert_int_eq(tn_pool_alloc(pool, 5 * MIB, 64, NULL, &a, &message), TENON_OK);
    ck_assert_int_eq(c.asked, 1);
    tn_block b;
    ck_assert_int_eq(tn_pool_alloc(pool, 5 * MIB, 64, NULL, &b, &message),
                     TENON_ERROR_OUT_OF_MEMORY);
    ck_assert_ptr_nonnull(strstr(message.text, "budget none"));
    tn_pool_free(pool, &a);
    tn_pool_remove_reclaimer(pool, &c.reclaimer);
    tenon_pool_destroy(pool);
    ck_assert_int_eq(atomic_load(&hooks.live), 0);
}
END_TEST

START_TEST(a_tight_free_block_is_found) {
    /* 33 granules more than a class boundary: the constant-time search looks in classes that hold
     * for sure. */
    tenon_pool *pool =
        make_pool((tenon_pool_desc){.segment_bytes = 4 * MIB, .flags = TENON_POOL_FIXED});
    tn_block holes[12], fences[12], b;
    for (int i = 0; i < 12; ++i) {
        ck_assert_int_eq(tn_pool_alloc(pool, 65536 + 64 * (size_t)i, 64, NULL, &holes[i], NULL),
                         TENON_OK);
        ck_assert_int_eq(tn_pool_alloc(pool, 64, 64, NULL, &fences[i], NULL), TENON_OK);
    }
    tn_block rest[4096];
    int count = 0;
    while (tn_pool_alloc(pool, 32768, 64, NULL, &rest[count], NULL) == TENON_OK)
        ++count;
    tn_pool_free(pool,
                 &holes[11]); /* the only one that is large enough, and the last of its list */
    for (int i = 0; i < 11; ++i)
        tn_pool_free(pool, &holes[i]);
    uint64_t before = info_of(pool).ladder.coalesced;
    ck_assert_int_eq(tn_pool_alloc(pool, 65536 + 64 * 11, 64, NULL, &b, NULL), TENON_OK);
    ck_assert_uint_eq(info_of(pool).ladder.coalesced, before + 1);
    tn_pool_free(pool, &b);
    /* What statistics call the largest free block can be had. */
    ck_assert_int_eq(tn_pool_alloc(pool, info_of(pool).largest_free, 64, NULL, &b, NULL), TENON_OK);
    tn_pool_free(pool, &b);
    for (int i = 0; i < 12; ++i)
        tn_pool_free(pool, &fences[i]);
    while (count > 0)
        tn_pool_free(pool, &rest[--count]);
    ck_assert_uint_eq(info_of(pool).largest_free, 4 * MIB);
    tenon_pool_destroy(pool);
}
END_TEST

START_TEST(arenas_grow_in_place_when_they_must) {
    for (int debug = 0; debug < 2; ++debug) {
        tenon_pool *pool = make_pool(
            (tenon_pool_desc){.segment_bytes = 10 * MIB,
                              .flags = TENON_POOL_FIXED | (debug ? TENON_POOL_DEBUG : 0u)});
        tn_arena arena;
        tn_message message = {{0}};
        tn_arena_open(&arena, pool);
        ck_assert_int_eq(tn_arena_reserve(&arena, 0, &message), TENON_OK);
        ck_assert_ptr_null(tn_arena_take(&arena, 0));
        ck_assert_int_eq(tn_arena_reserve(&arena, 2 * MIB, &message), TENON_OK);
        ck_assert_int_eq(tn_arena_reserve(&arena, 4 * MIB, &message), TENON_OK);
        ck_assert_uint_eq(info_of(pool).in_use, 4 * MIB);
        /* 4 + 9 do not fit in 10, but 9 does where 4 was. */
        ck_assert_int_eq(tn_arena_reserve(&arena, 9 * MIB, &message), TENON_OK);
        void *at = tn_arena_take(&arena, 9 * MIB);
        ck_assert_uint_eq((uintptr_t)at % 4096, 0);
        memset(at, 1, 9 * MIB);
        /* 11 fits nowhere: the old block stays. */
        ck_assert_int_eq(tn_arena_reserve(&arena, 11 * MIB, &message), TENON_ERROR_OVER_BUDGET);
        ck_assert_ptr_eq(tn_arena_take(&arena, 9 * MIB), at);
        ck_assert_uint_eq(info_of(pool).in_use, 9 * MIB);
        ck_assert_uint_eq(info_of(pool).blocks, 1);
        ck_assert_int_eq(tn_arena_reserve(&arena, 5, &message), TENON_OK); /* never shrinks */
        ck_assert_ptr_eq(tn_arena_take(&arena, 5), at);
        /* A rule that fails everything fails the exchange too. */
        tenon_fault_rule rule = {.fail_nth = 1, .sticky = 1};
        ck_assert_int_eq(tenon_memory_inject(pool, &rule), TENON_OK);
        ck_assert_int_eq(tn_arena_reserve(&arena, 9 * MIB + 4096, &message),
                         TENON_ERROR_OUT_OF_MEMORY);
        ck_assert_int_eq(tenon_memory_inject(pool, NULL), TENON_OK);
        ck_assert_ptr_eq(tn_arena_take(&arena, 9 * MIB), at);
        ck_assert_uint_eq(tn_arena_drop(&arena), 9 * MIB);
        ck_assert_uint_eq(tn_arena_drop(&arena), 0);
        if (debug)
            ck_assert_int_eq(tenon_memory_check(pool), TENON_OK);
        tn_arena_close(&arena);
        tn_arena_close(&arena);
        ck_assert_uint_eq(info_of(pool).blocks, 0);
        ck_assert_uint_eq(info_of(pool).damages, 0);
        ck_assert_uint_eq(info_of(pool).ladder.failures, 0); /* that is for the context to say */
        tenon_pool_destroy(pool);
    }
}
END_TEST

/* ---- threads ---- */

enum { THREADS = 4, STEPS = 4000, HELD = 12 };

typedef struct worker {
    pthread_t thread;
    tenon_pool *pool;
    int index;
    uint64_t seed;
    int failures;
    pthread_mutex_t lock; /* of the cache, waited for by nobody who allocates */
    cache cache;
} worker;

static size_t worker_give_back(void *user, size_t wanted) {
    worker *w = user;
    (void)wanted;
    if (pthread_mutex_trylock(&w->lock) != 0)
        return 0;
    size_t bytes = w->cache.block.bytes;
    tn_pool_free(w->pool, &w->cache.block);
    pthread_mutex_unlock(&w->lock);
    return bytes;
}

static void *work(void *arg) {
    worker *w = arg;
    rng r = {w->seed};
    tn_block held[HELD] = {{0}};
    w->cache.reclaimer = (tn_reclaimer){.give_back = worker_give_back, .user = w};
    tn_pool_add_reclaimer(w->pool, &w->cache.reclaimer);
    for (int step = 0; step < STEPS; ++step) {
        int slot = (int)rng_below(&r, HELD);
        if (held[slot].node != NULL) {
            unsigned char *at = held[slot].address;
            for (size_t i = 0; i < held[slot].bytes; i += 509)
                if (at[i] != (unsigned char)(w->index * HELD + slot))
                    return "a block was shared";
            tn_pool_free(w->pool, &held[slot]);
        } else {
            size_t bytes = (size_t)rng_below(&r, (int64_t)1 << rng_between(&r, 4, 19));
            if (tn_pool_alloc(w->pool, bytes, 64, "thread", &held[slot], NULL) == TENON_OK)
                memset(held[slot].address, w->index * HELD + slot, bytes);
            else
                ++w->failures;
        }
        if (step % 37 == 0) {
            tn_block fresh;
            if (tn_pool_alloc(w->pool, 100000, 64, "cache", &fresh, NULL) == TENON_OK) {
                pthread_mutex_lock(&w->lock);
                tn_pool_free(w->pool, &w->cache.block);
                w->cache.block = fresh;
                pthread_mutex_unlock(&w->lock);
            }
        }
        if (step % 101 == 0)
            tenon_memory_trim(w->pool, MIB);
        tenon_memory_info info = {0};
        if (step % 11 == 0 && (tenon_memory_stats(w->pool, &info) != TENON_OK ||
                               info.reserved > info.budget || info.in_use > info.reserved))
            return "statistics do not add up";
    }
    tn_pool_remove_reclaimer(w->pool, &w->cache.reclaimer);
    tn_pool_free(w->pool, &w->cache.block);
    for (int i = 0; i < HELD; ++i)
        tn_pool_free(w->pool, &held[i]);
    return NULL;
}

START_TEST(threads_share_a_pool) {
    rng r = rng_start("threads");
    static const unsigned flags[] = {0, TENON_POOL_DEBUG, TENON_POOL_FIXED};
    for (int round = 0; round < 3; ++round) {
        counted hooks = {0};
        tenon_pool *pool =
            make_pool((tenon_pool_desc){.budget = 4 * MIB,
                                        .segment_bytes = round == 2 ? 4 * MIB : 128 << 10,
                                        .flags = flags[round],
                                        .allocator = counted_hooks(&hooks)});
        static worker workers[THREADS];
        for (int i = 0; i < THREADS; ++i) {
            workers[i] = (worker){.pool = pool, .index = i, .seed = rng_u64(&r)};
            workers[i].cache.pool = pool;
            pthread_mutex_init(&workers[i].lock, NULL);
            ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
        }
        for (int i = 0; i < THREADS; ++i) {
            void *wrong = NULL;
            pthread_join(workers[i].thread, &wrong);
            ck_assert_msg(wrong == NULL, "%s", (const char *)wrong);
        }
        tenon_memory_info info = info_of(pool);
        ck_assert_uint_eq(info.in_use, 0);
        ck_assert_uint_eq(info.allocations, info.frees);
        ck_assert_uint_eq(info.damages, 0);
        ck_assert_uint_le(info.peak_reserved, 4 * MIB);
        tenon_pool_destroy(pool);
        ck_assert_int_eq(atomic_load(&hooks.live), 0);
    }
}
END_TEST

/*
 * Two threads whose blocks together fit in one segment that is all the budget: neither may be told
 * that it does not fit while the other is fetching the segment.
 */
static void *take_one(void *arg) {
    tn_block block;
    tenon_pool *pool = arg;
    if (tn_pool_alloc(pool, 64, 64, NULL, &block, NULL) != TENON_OK)
        return "refused";
    tn_pool_free(pool, &block);
    return NULL;
}

START_TEST(growing_is_not_shortage) {
    for (int round = 0; round < 300; ++round) {
        tenon_pool *pool = make_pool((tenon_pool_desc){.budget = 2 * MIB});
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; ++i)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, take_one, pool), 0);
        for (int i = 0; i < THREADS; ++i) {
            void *wrong;
            pthread_join(threads[i], &wrong);
            ck_assert_ptr_null(wrong);
        }
        tenon_pool_destroy(pool);
    }
}
END_TEST

/* ---- what is counted and told of an operation ---- */

static size_t count_of(const gathered *t, const char *part) {
    size_t count = 0;
    for (const char *at = t->bytes; at != NULL && (at = strstr(at, part)) != NULL; ++at)
        ++count;
    return count;
}

/* A pool of `budget` and a context on it, which tell `log` together. */
static tenon_context *make_short_context(const char *device, size_t budget, gathered *log,
                                         gathered *record, tenon_pool **pool) {
    const tenon_logger logger = {.user = log, .log = gathered_log};
    *pool = make_pool((tenon_pool_desc){
        .budget = budget, .segment_bytes = 4096, .logger = logger, .log_level = TENON_LOG_WARNING});
    ck_assert_int_eq(tenon_memory_record(*pool, gathered_sink, record), TENON_OK);
    const tenon_context_desc desc = {.device = device,
                                     .threads = 1,
                                     .pool = *pool,
                                     .logger = logger,
                                     .log_level = TENON_LOG_WARNING};
    tenon_context *ctx;
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    return ctx;
}

START_TEST(failures_are_what_callers_get) {
    enum { N = 256 };
    static float a[N * N], b[N * N], c[N * N];
    gathered log = {0}, record = {0};
    tenon_pool *pool;
    /* A product goes on with less: nobody was refused anything. */
    tenon_context *ctx = make_short_context("cpu", 8192, &log, &record, &pool);
    const tenon_gemm_desc product = {.a = tenon_matrix(a, TENON_F32, N, N),
                                     .b = tenon_matrix(b, TENON_F32, N, N),
                                     .c = tenon_matrix(c, TENON_F32, N, N)};
    ck_assert_int_eq(tenon_gemm(ctx, &product), TENON_OK);
    tenon_ladder_stats ladder = info_of(pool).ladder;
    ck_assert_uint_gt(ladder.smaller_plans, 0);
    ck_assert_uint_eq(ladder.failures, 0);
    ck_assert_uint_eq(count_of(&record, "fail "), 0);
    ck_assert_uint_eq(count_of(&log, "warning: "), ladder.smaller_plans);
    tenon_context_destroy(ctx);
    tenon_pool_destroy(pool);
    gathered_free(&log);
    gathered_free(&record);
    /* The reference device has one algorithm: each call is a failure, told once. */
    ctx = make_short_context("reference", 16, &log, &record, &pool);
    const tenon_attention_desc attention = {.q = tenon_tensor4(a, TENON_F32, 1, 1, 1, 4),
                                            .k = tenon_tensor4(a, TENON_F32, 1, 1, 1, 4),
                                            .v = tenon_tensor4(a, TENON_F32, 1, 1, 1, 4),
                                            .o = tenon_tensor4(c, TENON_F32, 1, 1, 1, 4)};
    for (size_t call = 1; call <= 3; ++call) {
        ck_assert_int_eq(tenon_attention(ctx, &attention), TENON_ERROR_OVER_BUDGET);
        ck_assert_uint_eq(info_of(pool).ladder.failures, call);
        ck_assert_uint_eq(count_of(&record, "fail "), call);
        ck_assert_uint_eq(count_of(&log, "warning: "), call);
        /* The pool's sentence, before which the caller reads the call's name. */
        const char *sentence = tenon_error_message(ctx);
        ck_assert(strncmp(sentence, "tenon_attention: ", 17) == 0);
        ck_assert(gathered_has(&log, sentence + 17));
    }
    tenon_context_destroy(ctx);
    tenon_pool_destroy(pool);
    gathered_free(&log);
    gathered_free(&record);
}
END_TEST

/* ---- a context whose workspace is being taken ---- */

enum { REST_NS = 300000000 };

typedef struct slow_sink {
    atomic_bool resting;
} slow_sink;

/* The user's: takes its time over each free. */
static int rest_in_frees(void *user, const char *text, size_t bytes) {
    slow_sink *s = user;
    if (bytes > 5 && memcmp(text, "free ", 5) == 0) {
        atomic_store(&s->resting, true);
        nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
    }
    return 0;
}

static void *take_everything(void *arg) {
    tenon_pool *pool = arg;
    tenon_buffer *buffer;
    if (tenon_buffer_alloc(pool, MIB, NULL, &buffer) != TENON_OK)
        return "the workspace was not given back";
    tenon_buffer_free(buffer);
    return NULL;
}

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

START_TEST(entering_waits_asleep) {
    tenon_pool *pool = make_pool((tenon_pool_desc){.budget = MIB, .segment_bytes = 4096});
    const tenon_context_desc desc = {.device = "reference", .threads = 1, .pool = pool};
    tenon_context *ctx;
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    static float q[4], o[4];
    const tenon_attention_desc a = {.q = tenon_tensor4(q, TENON_F32, 1, 1, 1, 4),
                                    .k = tenon_tensor4(q, TENON_F32, 1, 1, 1, 4),
                                    .v = tenon_tensor4(q, TENON_F32, 1, 1, 1, 4),
                                    .o = tenon_tensor4(o, TENON_F32, 1, 1, 1, 4)};
    ck_assert_int_eq(tenon_attention(ctx, &a), TENON_OK);
    ck_assert_uint_gt(info_of(pool).in_use, 0);

    slow_sink sink = {false};
    pthread_t thread;
    ck_assert_int_eq(tenon_memory_record(pool, rest_in_frees, &sink), TENON_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, take_everything, pool), 0);
    while (!atomic_load(&sink.resting))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    const int64_t wall = now_ns(CLOCK_MONOTONIC), work = now_ns(CLOCK_THREAD_CPUTIME_ID);
    ck_assert_int_eq(tenon_sync(ctx), TENON_OK); /* not BUSY: the caller has done nothing wrong */
    const int64_t waited = now_ns(CLOCK_MONOTONIC) - wall;
    const int64_t worked = now_ns(CLOCK_THREAD_CPUTIME_ID) - work;
    void *wrong;
    pthread_join(thread, &wrong);
    ck_assert_msg(wrong == NULL, "%s", (const char *)wrong);
    ck_assert_uint_eq(info_of(pool).ladder.caches_dropped, 1);
    ck_assert_int_gt(waited, REST_NS / 4);
    ck_assert_msg(worked < waited / 8, "waited %lld ns, %lld of them awake", (long long)waited,
                  (long long)worked);
    ck_assert_int_eq(tenon_memory_record(pool, NULL, NULL), TENON_OK);
    ck_assert_int_eq(tenon_attention(ctx, &a), TENON_OK);
    tenon_context_destroy(ctx);
    tenon_pool_destroy(pool);
}
END_TEST

/* Keeps the last line that tells a decision. */
static void keep_decision(void *user, tenon_log_level level, const char *line) {
    if (level == TENON_LOG_DISPATCH)
        snprintf(user, 512, "%s", line);
}

/* What was decided while memory was short holds no longer than the shortage did, in calls. */
START_TEST(shortages_are_forgotten) {
    enum { N = 256 };
    static float a[N * N], b[N * N], c[N * N];
    const tenon_gemm_desc product = {.a = tenon_matrix(a, TENON_F32, N, N),
                                     .b = tenon_matrix(b, TENON_F32, N, N),
                                     .c = tenon_matrix(c, TENON_F32, N, N)};
    char decision[512] = "", preferred[512], makeshift[512] = "";
    const tenon_context_desc desc = {.device = "cpu",
                                     .threads = 1,
                                     .logger = {.user = decision, .log = keep_decision},
                                     .log_level = TENON_LOG_DISPATCH};
    const int lasts = _i;
    tenon_context *ctx;
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    ck_assert_int_eq(tenon_gemm(ctx, &product), TENON_OK);
    strcpy(preferred, decision);
    tenon_context_destroy(ctx);
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    ck_assert_int_eq(
        tenon_memory_inject(tenon_context_pool(ctx, 0), &(tenon_fault_rule){.fail_above = 1}),
        TENON_OK);
    for (int i = 0; i < lasts; ++i)
        ck_assert_int_eq(tenon_gemm(ctx, &product), TENON_OK);
    strcpy(makeshift, decision);
    ck_assert_str_ne(makeshift, preferred);
    ck_assert_int_eq(tenon_memory_inject(tenon_context_pool(ctx, 0), NULL), TENON_OK);
    for (int i = 0; i < (lasts < 64 ? lasts : 64); ++i)
        ck_assert_int_eq(tenon_gemm(ctx, &product), TENON_OK);
    ck_assert_str_eq(decision, preferred);
    tenon_context_destroy(ctx);
}
END_TEST

static Suite *ladder_suite(void) {
    Suite *suite = suite_create("pool_ladder");
    TCase *tcase = tcase_create("ladder");
    tcase_set_timeout(tcase, 200);
    tcase_add_test(tcase, rungs_in_order);
    tcase_add_test(tcase, the_system_refuses);
    tcase_add_test(tcase, a_tight_free_block_is_found);
    tcase_add_test(tcase, arenas_grow_in_place_when_they_must);
    tcase_add_test(tcase, threads_share_a_pool);
    tcase_add_test(tcase, growing_is_not_shortage);
    tcase_add_test(tcase, failures_are_what_callers_get);
    tcase_add_test(tcase, entering_waits_asleep);
    tcase_add_loop_test(tcase, shortages_are_forgotten, 1, 80);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(ladder_suite());
}
