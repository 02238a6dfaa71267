/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools: descriptors, budgets to the byte, segments, fixed pools that never enter the system, trim,
 * statistics.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/os.h"
#include "memory/pool.h"
#include "memory_support.h"
#include "rng.h"
#include "suite.h"

static tenon_status take(tenon_pool *pool, size_t bytes, tn_block *block) {
    tn_message message = {{0}};
    tenon_status status = tn_pool_alloc(pool, bytes, 64, "test", block, &message);
    ck_assert_int_eq(status != TENON_OK, message.text[0] != 0);
    ck_assert_int_eq(status == TENON_OK, block->node != NULL);
    return status;
}

START_TEST(descriptors) {
    tenon_pool *pool = (tenon_pool *)1;
    tenon_pool_desc desc = {.flags = 1u << 20};
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(pool);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "flags"));
    desc = (tenon_pool_desc){.device = "cuda:7"};
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_ERROR_NO_DEVICE);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "cuda:7"));
    counted hooks = {0};
    desc = (tenon_pool_desc){.allocator = {.alloc = counted_hooks(&hooks).alloc}};
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_ERROR_INVALID_ARGUMENT);
    desc = (tenon_pool_desc){.struct_size = 3};
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_ERROR_INVALID_ARGUMENT);
    desc = (tenon_pool_desc){.segment_bytes = SIZE_MAX};
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_ERROR_INVALID_ARGUMENT);
    desc = (tenon_pool_desc){.log_level = (tenon_log_level)9};
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_pool_create(&desc, NULL), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_pool_create(NULL, &pool), TENON_OK);
    ck_assert_uint_eq(info_of(pool).reserved, 0); /* nothing taken yet */
    tenon_pool_destroy(pool);
    tenon_pool_destroy(NULL);
    ck_assert_int_eq(tenon_memory_stats(NULL, NULL), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_uint_eq(tenon_memory_trim(NULL, 0), 0);
    ck_assert_uint_eq(tenon_memory_owners(NULL, NULL, 0), 0);
}
END_TEST

START_TEST(blocks_do_not_overlap_and_are_aligned) {
    rng r = rng_start("pool");
    enum { LIVE = 400 };
    static tn_block live[LIVE];
    for (int flags = 0; flags < 16; ++flags) {
        tenon_pool *pool =
            make_pool((tenon_pool_desc){.flags = (unsigned)flags, .segment_bytes = 16 << 20});
        for (int step = 0; step < 1500; ++step) {
            int slot = (int)rng_below(&r, LIVE);
            tn_block *block = &live[slot];
            if (block->node != NULL) {
                const unsigned char *at = block->address;
                bool kept = true;
                for (size_t i = 0; i < block->bytes; i += 61)
                    kept &= at[i] == (unsigned char)slot;
                ck_assert(kept);
                tn_pool_free(pool, block);
                ck_assert_ptr_null(block->node);
                continue;
            }
            size_t bytes = (size_t)rng_below(&r, (int64_t)1 << rng_between(&r, 1, 17));
            size_t alignment = (size_t)1 << rng_below(&r, 13);
            ck_assert_int_eq(tn_pool_alloc(pool, bytes, alignment, NULL, block, NULL), TENON_OK);
            ck_assert_uint_eq((uintptr_t)block->address % alignment, 0);
            ck_assert_uint_eq((uintptr_t)block->address % 64, 0);
            ck_assert_uint_eq(block->bytes, bytes);
            memset(block->address, (unsigned char)slot, bytes);
        }
        tenon_memory_info info = info_of(pool);
        ck_assert_uint_gt(info.blocks, 0);
        for (int slot = 0; slot < LIVE; ++slot)
            tn_pool_free(pool, &live[slot]);
        info = info_of(pool);
        ck_assert_uint_eq(info.in_use, 0);
        ck_assert_uint_eq(info.blocks, 0);
        ck_assert_uint_eq(info.damages, 0);
        ck_assert_uint_eq(info.allocations, info.frees);
        /* Everything is merged: the largest block is a whole segment (less guards). */
        ck_assert_uint_ge(info.largest_free + 128, 16 << 20);
        ck_assert_uint_eq(tenon_memory_trim(pool, 0),
                          (flags & TENON_POOL_FIXED) != 0 ? 0 : info.reserved);
        tenon_pool_destroy(pool);
    }
}
END_TEST

START_TEST(sizes_at_the_edges) {
    static const size_t budgets[] = {0, 1 << 20};
    for (int i = 0; i < 2; ++i) {
        tenon_pool *pool = make_pool((tenon_pool_desc){.budget = budgets[i]});
        tenon_status no = i == 0 ? TENON_ERROR_OUT_OF_MEMORY : TENON_ERROR_OVER_BUDGET;
        tn_block a, b;
        ck_assert_int_eq(take(pool, 0, &a), TENON_OK);
        ck_assert_int_eq(take(pool, 0, &b), TENON_OK);
        ck_assert_ptr_nonnull(a.address);
        ck_assert_ptr_ne(a.address, b.address);
        tn_pool_free(pool, &a);
        tn_pool_free(pool, &b);
        tn_pool_free(pool, &b); /* a zero block is allowed */
        ck_assert_int_eq(take(pool, SIZE_MAX, &a), no);
        ck_assert_int_eq(take(pool, SIZE_MAX - 63, &a), no);
        ck_assert_int_eq(take(pool, SIZE_MAX / 2, &a), no);
        ck_assert_int_eq(take(pool, ((size_t)1 << 47) + 1, &a), no);
        tn_message message;
        static const size_t wrong[] = {3, 65, 8192, SIZE_MAX};
        for (int w = 0; w < 4; ++w)
            ck_assert_int_eq(tn_pool_alloc(pool, 1, wrong[w], NULL, &a, &message),
                             TENON_ERROR_INVALID_ARGUMENT);
        ck_assert_int_eq(take(pool, 100, &a), TENON_OK);
        tn_pool_free(pool, &a);
        tenon_pool_destroy(pool);
    }
}
END_TEST

START_TEST(budget_to_the_byte) {
    counted hooks = {0};
    const size_t budget = 10 * 4096 + 640;
    tenon_pool *pool = make_pool((tenon_pool_desc){
        .budget = budget, .segment_bytes = 4096, .allocator = counted_hooks(&hooks)});
    tn_block whole, one, other;
    ck_assert_int_eq(take(pool, budget, &whole), TENON_OK); /* all of it, exactly */
    ck_assert_uint_eq(info_of(pool).reserved, budget);
    ck_assert_int_eq(take(pool, 1, &one), TENON_ERROR_OVER_BUDGET);
    tn_pool_free(pool, &whole);
    ck_assert_int_eq(take(pool, budget + 1, &whole), TENON_ERROR_OVER_BUDGET);

    /* Two blocks that together are one granule too many: the segment is given back for the second
     * size. */
    ck_assert_int_eq(tenon_memory_trim(pool, 0), budget);
    ck_assert_int_eq(take(pool, budget / 2 / 64 * 64 + 64, &one), TENON_OK);
    ck_assert_int_eq(take(pool, budget / 2 / 64 * 64 + 64, &other), TENON_ERROR_OVER_BUDGET);
    ck_assert_int_eq(take(pool, budget / 2 / 64 * 64 - 64, &other), TENON_OK);
    tn_pool_free(pool, &one);
    tn_pool_free(pool, &other);

    /* Random traffic never holds more of the hooks than the budget, bookkeeping aside. */
    rng r = rng_start("budget");
    static tn_block live[64];
    int refused = 0;
    for (int step = 0; step < 20000; ++step) {
        tn_block *block = &live[rng_below(&r, 64)];
        if (block->node != NULL)
            tn_pool_free(pool, block);
        else
            refused += take(pool, (size_t)rng_below(&r, 5000), block) != TENON_OK;
        tenon_memory_info now = info_of(pool);
        ck_assert(now.reserved <= budget && now.in_use <= now.reserved);
    }
    ck_assert_int_gt(refused, 100);
    tenon_memory_info info = info_of(pool);
    ck_assert_uint_eq(info.ladder.failures, (uint64_t)refused + 3);
    ck_assert_uint_eq(info.peak_reserved, budget);
    for (int i = 0; i < 64; ++i)
        tn_pool_free(pool, &live[i]);
    ck_assert_int_lt(atomic_load(&hooks.most_bytes), (long long)budget + 64 * 1024);
    tenon_pool_destroy(pool);
    ck_assert_int_eq(atomic_load(&hooks.live), 0);
}
END_TEST

START_TEST(segments_follow_requests) {
    tenon_pool *pool = make_pool((tenon_pool_desc){.budget = 8 << 20});
    tn_block small, large;
    ck_assert_int_eq(take(pool, 100, &small), TENON_OK);
    ck_assert_uint_eq(info_of(pool).reserved, 2 << 20);
    ck_assert_int_eq(take(pool, 5 << 20, &large), TENON_OK);
    ck_assert_uint_eq(info_of(pool).segments, 2);
    ck_assert_uint_eq(info_of(pool).reserved, 7 << 20);
    tn_pool_free(pool, &large);
    /* Kept for the next request of that size … */
    uint64_t before = info_of(pool).ladder.segments_given;
    ck_assert_int_eq(take(pool, 5 << 20, &large), TENON_OK);
    ck_assert_uint_eq(info_of(pool).reserved, 7 << 20);
    tn_pool_free(pool, &large);
    /* … and given back when one needs its room. */
    ck_assert_int_eq(take(pool, 6 << 20, &large), TENON_OK);
    ck_assert_uint_eq(info_of(pool).ladder.segments_given, before + 1);
    ck_assert_uint_eq(info_of(pool).reserved, 8 << 20);
    tn_pool_free(pool, &large);
    ck_assert_uint_eq(tenon_memory_trim(pool, 8 << 20), 0);
    ck_assert_uint_eq(tenon_memory_trim(pool, 3 << 20), 6 << 20);
    /* Of the other one, all but the unit that holds the small block. */
    ck_assert_uint_eq(tenon_memory_trim(pool, 0), (2 << 20) - (64 << 10));
    ck_assert_uint_eq(tenon_memory_trim(pool, 0), 0);
    tn_pool_free(pool, &small);
    ck_assert_uint_eq(tenon_memory_trim(pool, 0), 64 << 10);
    ck_assert_uint_eq(info_of(pool).reserved, 0);
    ck_assert_uint_eq(info_of(pool).segments, 0);
    tenon_pool_destroy(pool);

    /* The system has less than the usual segment, but enough for the request. */
    counted hooks = {.limit = 256 << 10};
    pool = make_pool((tenon_pool_desc){.allocator = counted_hooks(&hooks)});
    ck_assert_int_eq(take(pool, 100 << 10, &small), TENON_OK);
    ck_assert_uint_eq(info_of(pool).reserved, 100 << 10);
    ck_assert_int_eq(take(pool, 300 << 10, &large), TENON_ERROR_OUT_OF_MEMORY);
    tn_pool_free(pool, &small);
    ck_assert_int_eq(take(pool, 150 << 10, &large), TENON_OK); /* after giving the first back */
    tn_pool_free(pool, &large);
    tenon_pool_destroy(pool);
    ck_assert_int_eq(atomic_load(&hooks.live), 0);
}
END_TEST

START_TEST(fixed_pools_never_enter_the_system) {
    for (int debug = 0; debug < 2; ++debug) {
        counted hooks = {0};
        tenon_pool *pool = make_pool((tenon_pool_desc){
            .segment_bytes = 1 << 20,
            .flags = TENON_POOL_FIXED | TENON_POOL_TOUCH | (debug ? TENON_POOL_DEBUG : 0u),
            .allocator = counted_hooks(&hooks)});
        long long calls = atomic_load(&hooks.calls);
        ck_assert_uint_eq(info_of(pool).reserved, 1 << 20);
        /* More blocks and handles than were prepared: their bookkeeping comes out of the segment.
         */
        static tenon_buffer *buffers[8000];
        int count = 0;
        while (count < 8000 && tenon_buffer_alloc(pool, 64, "many", &buffers[count]) == TENON_OK)
            ++count;
        ck_assert_int_gt(count, 2000);
        ck_assert_msg(strstr(tenon_error_message(NULL), "fixed size") != NULL, "%s",
                      tenon_error_message(NULL));
        ck_assert_uint_eq(tenon_memory_trim(pool, 0), 0);
        for (int i = 0; i < count; ++i)
            tenon_buffer_free(buffers[i]);
        tenon_buffer *large;
        ck_assert_int_eq(tenon_buffer_alloc(pool, 2 << 20, NULL, &large), TENON_ERROR_OVER_BUDGET);
        ck_assert_ptr_null(large);
        ck_assert_int_eq(tenon_buffer_alloc(pool, 150 << 10, NULL, &large), TENON_OK);
        tenon_buffer_free(large);
        ck_assert_int_eq(atomic_load(&hooks.calls), calls);
        tenon_pool_destroy(pool);
        ck_assert_int_eq(atomic_load(&hooks.live), 0);
    }
    tenon_pool *pool = make_pool((tenon_pool_desc){.budget = 100000, .flags = TENON_POOL_FIXED});
    ck_assert_uint_eq(info_of(pool).reserved, 100000 / tn_os_page_size() * tn_os_page_size());
    tenon_pool_destroy(pool);
    tenon_pool_desc over = {.budget = 1000, .segment_bytes = 2000, .flags = TENON_POOL_FIXED};
    ck_assert_int_eq(tenon_pool_create(&over, &pool), TENON_ERROR_OVER_BUDGET);
    over = (tenon_pool_desc){.segment_bytes = (size_t)1 << 46, .flags = TENON_POOL_FIXED};
    ck_assert_int_eq(tenon_pool_create(&over, &pool), TENON_ERROR_OUT_OF_MEMORY);
}
END_TEST

START_TEST(owners_largest_first) {
    tenon_pool *pool = make_pool((tenon_pool_desc){0});
    static char names[100][24], same[] = "weights";
    static tn_block blocks[100], weights[2];
    ck_assert_int_eq(tn_pool_alloc(pool, 7000, 64, "weights", &weights[0], NULL), TENON_OK);
    ck_assert_int_eq(tn_pool_alloc(pool, 500, 64, same, &weights[1], NULL), TENON_OK);
    for (int i = 0; i < 100; ++i) {
        snprintf(names[i], sizeof names[i], "owner %d", i);
        ck_assert_int_eq(tn_pool_alloc(pool, (size_t)i + 1, 64, names[i], &blocks[i], NULL),
                         TENON_OK);
    }
    tenon_memory_owner owners[100];
    size_t count = tenon_memory_owners(pool, owners, 100);
    ck_assert_uint_eq(count,
                      64); /* 2 slots of equal text are shown as one, and the rest as others */
    ck_assert_str_eq(owners[0].owner, "weights");
    ck_assert_uint_eq(owners[0].bytes, 7500);
    ck_assert_uint_eq(owners[0].blocks, 2);
    ck_assert_str_eq(owners[1].owner, "others");
    size_t bytes = 0, n = 0;
    for (size_t i = 0; i < count; ++i) {
        bytes += owners[i].bytes;
        n += owners[i].blocks;
        ck_assert(i == 0 || owners[i].bytes <= owners[i - 1].bytes);
    }
    ck_assert_uint_eq(bytes, info_of(pool).in_use);
    ck_assert_uint_eq(n, 102);
    tenon_memory_owner one[2] = {{NULL, 0, 0}, {(char *)1, 1, 1}};
    ck_assert_uint_eq(tenon_memory_owners(pool, one, 1), 64);
    ck_assert_ptr_eq((char *)1, one[1].owner);
    /* Names of owners without blocks are not read again: here they are gone. */
    for (int i = 0; i < 100; ++i)
        tn_pool_free(pool, &blocks[i]);
    memset(names, 'x', sizeof names);
    ck_assert_uint_eq(tenon_memory_owners(pool, owners, 100), 1);
    tn_pool_free(pool, &weights[0]);
    tn_pool_free(pool, &weights[1]);
    ck_assert_uint_eq(tenon_memory_owners(pool, owners, 100), 0);
    tenon_pool_destroy(pool);
}
END_TEST

START_TEST(statistics_of_an_older_program) {
    tenon_pool *pool = make_pool((tenon_pool_desc){.budget = 12345});
    tenon_memory_info info;
    memset(&info, 0xEE, sizeof info);
    info.struct_size = offsetof(tenon_memory_info, reserved);
    ck_assert_int_eq(tenon_memory_stats(pool, &info), TENON_OK);
    ck_assert_uint_eq(info.struct_size, offsetof(tenon_memory_info, reserved));
    ck_assert_uint_eq(info.budget, 12345);
    ck_assert_uint_eq(info.reserved & 0xFF, 0xEE); /* not written */
    tenon_pool_destroy(pool);
}
END_TEST

/* A device whose memory has handles and offsets, no addresses. */
typedef struct device {
    int live;
    size_t bytes;
} device;

static bool device_alloc(void *user, size_t bytes, tn_segment_memory *out) {
    device *d = user;
    ck_assert_uint_eq(bytes % 4096, 0);
    ++d->live;
    d->bytes += bytes;
    *out = (tn_segment_memory){.handle = (void *)(uintptr_t)(0x1000 + d->live), .bytes = bytes};
    return true;
}

static void device_free(void *user, const tn_segment_memory *memory) {
    device *d = user;
    --d->live;
    d->bytes -= memory->bytes;
}

START_TEST(device_memory_is_never_touched) {
    device d = {0};
    tn_segment_source source = {
        .user = &d, .alloc = device_alloc, .free = device_free, .granularity = 4096};
    tenon_pool_desc desc = {
        .device = "opencl:0", .budget = 64 << 20, .flags = TENON_POOL_DEBUG | TENON_POOL_TOUCH};
    tenon_pool *pool;
    tn_message message;
    ck_assert_int_eq(tn_pool_open(&desc, &source, &message, &pool), TENON_OK);
    tenon_buffer *a, *b;
    ck_assert_int_eq(tenon_buffer_alloc(pool, 1000, NULL, &a), TENON_OK);
    ck_assert_int_eq(tenon_buffer_alloc_aligned(pool, 1000, 4096, NULL, &b), TENON_OK);
    void *native;
    size_t offset;
    ck_assert_int_eq(tenon_buffer_native(b, NULL, &native, &offset), TENON_OK);
    ck_assert_ptr_eq(native, (void *)0x1001);
    ck_assert_uint_eq(offset, 4096);
    ck_assert_ptr_null(tenon_buffer_host(b));
    ck_assert_int_eq(tenon_memory_check(pool), TENON_ERROR_UNSUPPORTED);
    tenon_buffer_free(a);
    tenon_buffer_free(b);
    tenon_pool_destroy(pool);
    ck_assert_int_eq(d.live, 0);
    ck_assert_uint_eq(d.bytes, 0);
}
END_TEST

static Suite *pool_suite(void) {
    Suite *suite = suite_create("pool");
    TCase *tcase = tcase_create("pool");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, descriptors);
    tcase_add_test(tcase, blocks_do_not_overlap_and_are_aligned);
    tcase_add_test(tcase, sizes_at_the_edges);
    tcase_add_test(tcase, budget_to_the_byte);
    tcase_add_test(tcase, segments_follow_requests);
    tcase_add_test(tcase, fixed_pools_never_enter_the_system);
    tcase_add_test(tcase, owners_largest_first);
    tcase_add_test(tcase, statistics_of_an_older_program);
    tcase_add_test(tcase, device_memory_is_never_touched);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(pool_suite());
}
