/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long run: eight threads on one pool that is a little too small for them, with everything that
 * pools do mixed, and the invariants checked all along and at the end.
 *
 * TENON_SOAK_OPERATIONS says how many allocations and frees all threads make together: 1 000 000 unless
 * it is set; a release is soaked with 10 000 000.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory_support.h"
#include "pool_invariants.h"
#include "rng.h"
#include "suite.h"

enum { THREADS = 8, HELD = 40, MIB = 1 << 20, CACHE_BYTES = 200000 };

typedef struct soaker {
    pthread_t thread;
    tenon_pool *pool;
    uint64_t seed;
    int index;
    long long operations; /* to do */
    long long refused, checks;
    unsigned char marks[HELD];
    tenon_buffer *buffers[HELD], *views[HELD];
    tn_block blocks[HELD];
    pthread_mutex_t lock; /* of the cache; waited for by nobody who allocates */
    tn_block cache;
    tn_reclaimer reclaimer;
} soaker;

static size_t give_back(void *user, size_t wanted) {
    soaker *s = user;
    (void)wanted;
    if (pthread_mutex_trylock(&s->lock) != 0)
        return 0;
    size_t bytes = s->cache.bytes;
    tn_pool_free(s->pool, &s->cache);
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

/* Sizes that come again and again, and any. */
static size_t some_bytes(rng *r) {
    static const size_t usual[] = {64, 4096, 65536, 10000};
    if (rng_below(r, 2) == 0)
        return usual[rng_below(r, 4)];
    if (rng_below(r, 256) == 0)
        return 700000; /* a segment of its own, if it is to be had */
    return (size_t)rng_below(r, (int64_t)1 << rng_between(r, 3, 17));
}

static bool intact(const unsigned char *at, size_t bytes, unsigned char mark) {
    return bytes == 0 || (at[0] == mark && at[bytes / 2] == mark && at[bytes - 1] == mark);
}

static void stamp(unsigned char *at, size_t bytes, unsigned char mark) {
    if (bytes != 0)
        at[0] = at[bytes / 2] = at[bytes - 1] = mark;
}

/* Frees what is in a slot; false if somebody else has written to it. */
static bool empty_slot(soaker *s, int slot) {
    tenon_buffer *buffer = s->buffers[slot];
    bool fine = true;
    if (buffer != NULL) {
        fine = intact(tenon_buffer_host(buffer), tenon_buffer_size(buffer), s->marks[slot]);
        tenon_buffer_free(buffer); /* the view, if there is one, keeps the block */
        tenon_buffer_free(s->views[slot]);
        s->buffers[slot] = s->views[slot] = NULL;
    } else if (s->blocks[slot].node != NULL) {
        fine = intact(s->blocks[slot].address, s->blocks[slot].bytes, s->marks[slot]);
        tn_pool_free(s->pool, &s->blocks[slot]);
    }
    return fine;
}

static void fill_slot(soaker *s, int slot, rng *r) {
    const size_t bytes = some_bytes(r), alignment = (size_t)1 << rng_below(r, 13);
    s->marks[slot] = (unsigned char)rng_u64(r);
    if (rng_below(r, 2) == 0) {
        if (tn_pool_alloc(s->pool, bytes, alignment, "soak: block", &s->blocks[slot], NULL) ==
            TENON_OK)
            stamp(s->blocks[slot].address, bytes, s->marks[slot]);
        else
            ++s->refused;
        return;
    }
    if (tenon_buffer_alloc_aligned(s->pool, bytes, alignment, "soak: buffer", &s->buffers[slot]) !=
        TENON_OK) {
        ++s->refused;
        return;
    }
    stamp(tenon_buffer_host(s->buffers[slot]), bytes, s->marks[slot]);
    if (rng_below(r, 8) == 0 &&
        tenon_buffer_view(s->buffers[slot], bytes / 3, bytes / 3, &s->views[slot]) != TENON_OK)
        ++s->refused;
}

static void refill_cache(soaker *s) {
    tn_block fresh;
    if (tn_pool_alloc(s->pool, CACHE_BYTES, 64, "soak: cache", &fresh, NULL) != TENON_OK)
        return;
    pthread_mutex_lock(&s->lock);
    tn_pool_free(s->pool, &s->cache);
    s->cache = fresh;
    pthread_mutex_unlock(&s->lock);
}

static void *soak(void *arg) {
    soaker *s = arg;
    rng r = {s->seed};
    const char *wrong = NULL;
    tn_pool_add_reclaimer(s->pool, &s->reclaimer);
    for (long long i = 0; i < s->operations && wrong == NULL; ++i) {
        const int slot = (int)rng_below(&r, HELD);
        if (s->buffers[slot] != NULL || s->blocks[slot].node != NULL) {
            if (!empty_slot(s, slot))
                wrong = "a block was shared";
        } else {
            fill_slot(s, slot, &r);
        }
        if (i % 211 == 0)
            refill_cache(s);
        if (i % 1009 == 0)
            tenon_memory_trim(s->pool, (size_t)rng_below(&r, 3 * MIB));
        if (i % 4999 == 0) {
            wrong = pool_invariants(s->pool);
            ++s->checks;
        }
    }
    tn_pool_remove_reclaimer(s->pool, &s->reclaimer);
    tn_pool_free(s->pool, &s->cache);
    for (int slot = 0; slot < HELD; ++slot)
        if (!empty_slot(s, slot) && wrong == NULL)
            wrong = "a block was shared";
    return (void *)(uintptr_t)wrong;
}

static long long operations(void) {
    const char *text = getenv("TENON_SOAK_OPERATIONS");
    const long long count = text != NULL ? atoll(text) : 0;
    return count > 0 ? count : 1000000;
}

START_TEST(eight_threads_on_one_pool) {
    static const unsigned flags[] = {0, TENON_POOL_FIXED, TENON_POOL_DEBUG};
    static soaker soakers[THREADS];
    rng r = rng_start("soak");
    counted hooks = {0};
    memset(soakers, 0, sizeof soakers);
    /* Debug pools write every byte twice. */
    const long long each = operations() / THREADS / ((flags[_i] & TENON_POOL_DEBUG) != 0 ? 20 : 1);
    tenon_pool_desc desc = {.budget = 3 * MIB,
                            .segment_bytes = flags[_i] == TENON_POOL_FIXED ? 3 * MIB : MIB / 4,
                            .flags = flags[_i],
                            .allocator = counted_hooks(&hooks)};
    tenon_pool *pool;
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_OK);
    for (int i = 0; i < THREADS; ++i) {
        soaker *s = &soakers[i];
        *s = (soaker){.pool = pool, .seed = rng_u64(&r), .index = i, .operations = each};
        s->reclaimer = (tn_reclaimer){.give_back = give_back, .user = s};
        pthread_mutex_init(&s->lock, NULL);
        ck_assert_int_eq(pthread_create(&s->thread, NULL, soak, s), 0);
    }
    long long refused = 0, checks = 0;
    for (int i = 0; i < THREADS; ++i) {
        void *wrong = NULL;
        pthread_join(soakers[i].thread, &wrong);
        ck_assert_msg(wrong == NULL, "%s", (const char *)wrong);
        refused += soakers[i].refused;
        checks += soakers[i].checks;
    }
    const char *wrong = pool_invariants(pool);
    ck_assert_msg(wrong == NULL, "at the end: %s", wrong);
    tenon_memory_info info = {0};
    ck_assert_int_eq(tenon_memory_stats(pool, &info), TENON_OK);
    printf("soak: flags %u, %lld operations of 8 threads, %lld refused, %llu segments given back, "
           "%llu caches dropped, %lld checks\n",
           flags[_i], each * THREADS, refused, (unsigned long long)info.ladder.segments_given,
           (unsigned long long)info.ladder.caches_dropped, checks);
    ck_assert_uint_eq(info.in_use, flags[_i] == TENON_POOL_FIXED ? info.in_use : 0);
    ck_assert_uint_eq(info.damages, 0);
    ck_assert_uint_gt(info.ladder.caches_dropped, 0); /* it was too small indeed */
    wrong = pool_invariants(pool); /* after the statistics have merged what waited */
    ck_assert_msg(wrong == NULL, "after statistics: %s", wrong);
    tenon_pool_destroy(pool);
    ck_assert_int_eq(atomic_load(&hooks.live), 0);
}
END_TEST

/* A control: a damaged pool does not pass. */
START_TEST(damage_is_seen) {
    tenon_pool *pool;
    ck_assert_int_eq(tenon_pool_create(NULL, &pool), TENON_OK);
    tn_block a, b;
    ck_assert_int_eq(tn_pool_alloc(pool, 1000, 64, NULL, &a, NULL), TENON_OK);
    ck_assert_int_eq(tn_pool_alloc(pool, 1000, 64, NULL, &b, NULL), TENON_OK);
    ck_assert_ptr_null(pool_invariants(pool));
    tn_block_record *record = b.node;
    record->node.bytes -= 64;
    ck_assert_ptr_nonnull(pool_invariants(pool));
    record->node.bytes += 64;
    ++pool->info.in_use;
    ck_assert_ptr_nonnull(pool_invariants(pool));
    --pool->info.in_use;
    pool->tlsf.second_map[1] ^= 1;
    ck_assert_ptr_nonnull(pool_invariants(pool));
    pool->tlsf.second_map[1] ^= 1;
    void *lost = tn_records_take(&pool->nodes);
    ck_assert_ptr_nonnull(pool_invariants(pool));
    tn_records_give(&pool->nodes, lost);
    tn_pool_free(pool, &a);
    ck_assert_ptr_null(pool_invariants(pool));
    tn_pool_free(pool, &b);
    ck_assert_ptr_null(pool_invariants(pool));
    tenon_pool_destroy(pool);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pool_soak");
    TCase *tcase = tcase_create("soak");
    tcase_set_timeout(tcase, 1000);
    tcase_add_test(tcase, damage_is_seen);
    tcase_add_loop_test(tcase, eight_threads_on_one_pool, 0, 3);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
