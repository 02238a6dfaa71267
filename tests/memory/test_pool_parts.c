/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of segments that go back to the system while blocks around them live: a model of who holds
 * which page, what a budget can promise because of it, and that the pages are really gone.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "memory/pool.h"
#include "memory_support.h"
#include "rng.h"
#include "suite.h"

enum { PAGE = 4096, UNIT = 16 * PAGE };

static tenon_status take(tenon_pool *pool, size_t bytes, tn_block *block) {
    tn_message message;
    return tn_pool_alloc(pool, bytes, 64, "test", block, &message);
}

/* ---- a source that keeps a map of its pages ---- */

enum { SPACE_PAGES = 1 << 19 };

typedef struct space {
    unsigned char there[SPACE_PAGES]; /* 0: gone or never there; else 1 */
    size_t next, pages;               /* addresses are not used again */
    size_t given;                     /* bytes of parts and segments that went */
    bool blind;                       /* only counts: for runs longer than its addresses */
    int refuse;                       /* of that many parts, one is refused; 0: none */
    int parts, refused;
} space;

static bool space_alloc(void *user, size_t bytes, tn_segment_memory *out) {
    space *s = user;
    size_t pages = bytes / PAGE;
    ck_assert_uint_eq(bytes % PAGE, 0);
    s->pages += s->blind ? pages : 0;
    *out = (tn_segment_memory){.handle = s->there, .bytes = bytes};
    if (s->blind)
        return true;
    ck_assert_uint_le(s->next + pages, SPACE_PAGES);
    memset(s->there + s->next, 1, pages);
    *out = (tn_segment_memory){.handle = s->there + s->next, .bytes = bytes};
    s->next += pages;
    s->pages += pages;
    return true;
}

static void take_pages(space *s, const tn_segment_memory *memory, size_t offset, size_t bytes) {
    unsigned char *there = (unsigned char *)memory->handle + offset / PAGE;
    ck_assert_uint_eq(offset % PAGE + bytes % PAGE, 0);
    ck_assert_uint_le(offset + bytes, memory->bytes);
    for (size_t i = 0; i < bytes / PAGE && !s->blind; ++i) {
        ck_assert_int_eq(there[i], 1); /* nothing goes twice */
        there[i] = 0;
    }
    s->pages -= bytes / PAGE;
    s->given += bytes;
}

static void space_free(void *user, const tn_segment_memory *memory) {
    take_pages(user, memory, 0, memory->bytes);
}

static bool space_give_part(void *user, const tn_segment_memory *memory, size_t offset,
                            size_t bytes) {
    space *s = user;
    ++s->parts;
    ck_assert_uint_eq(offset % UNIT, 0);
    ck_assert(bytes % UNIT == 0 || offset + bytes == memory->bytes);
    if (s->refuse != 0 && s->parts % s->refuse == 0) {
        ++s->refused;
        return false;
    }
    take_pages(s, memory, offset, bytes);
    return true;
}

static tenon_pool *open_space(space *s, tenon_pool_desc desc) {
    tn_segment_source source = {.user = s,
                                .alloc = space_alloc,
                                .free = space_free,
                                .granularity = PAGE,
                                .give_part = space_give_part,
                                .part = UNIT};
    tenon_pool *pool;
    tn_message message;
    ck_assert_int_eq(tn_pool_open(&desc, &source, &message, &pool), TENON_OK);
    return pool;
}

static bool all_there(const tn_block *block) {
    const unsigned char *there = block->handle;
    for (size_t page = block->offset / PAGE; page * PAGE < block->offset + block->bytes; ++page)
        if (there[page] != 1)
            return false;
    return true;
}

/* Random traffic under a budget that is nearly all in use: blocks lie in pages that are there, and
 * what the pool says it holds is what it holds. */
START_TEST(blocks_lie_in_pages_that_are_there) {
    enum { LIVE = 400, STEPS = 40000 };
    rng r = rng_start("pool parts");
    space *s = calloc(1, sizeof *s);
    s->refuse = _i != 0 ? 3 : 0;
    size_t budget = 24 << 20;
    tenon_pool *pool = open_space(s, (tenon_pool_desc){.budget = budget, .segment_bytes = 1 << 20});
    static tn_block live[LIVE];
    memset(live, 0, sizeof live);
    size_t in_use = 0, needless = 0;
    for (int step = 0; step < STEPS && s->next < SPACE_PAGES - 2 * budget / PAGE; ++step) {
        tn_block *block = &live[rng_below(&r, LIVE)];
        if (block->node != NULL) {
            in_use -= block->bytes;
            tn_pool_free(pool, block);
        } else {
            size_t bytes = (size_t)rng_between(&r, 1, rng_below(&r, 4) == 0 ? 2 << 20 : 100 << 10);
            tenon_status status = take(pool, bytes, block);
            if (status == TENON_OK) {
                in_use += bytes;
                ck_assert(all_there(block));
            } else {
                ck_assert_int_eq(status, TENON_ERROR_OVER_BUDGET);
                /* At either end of a block a unit may be shared with others. */
                needless += in_use + bytes + LIVE * 2 * (size_t)UNIT < budget;
            }
        }
        ck_assert_uint_eq(info_of(pool).reserved, s->pages * PAGE);
        ck_assert_uint_le(s->pages * PAGE, budget);
        if (step % 1000 == 0)
            tenon_memory_trim(pool, budget / 2);
    }
    ck_assert_int_eq(s->refuse != 0, s->refused != 0);
    ck_assert_uint_eq(needless, 0);
    gathered text = {0};
    ck_assert_int_eq(tenon_memory_snapshot(pool, gathered_sink, &text), TENON_OK);
    ck_assert(json_valid(text.bytes));
    gathered_free(&text);
    for (int i = 0; i < LIVE; i += _i + 1) /* the second time with blocks in use at the close */
        tn_pool_free(pool, &live[i]);
    if (_i == 0) {
        tenon_memory_trim(pool, 0);
        ck_assert_uint_eq(info_of(pool).reserved, 0);
        ck_assert_uint_eq(info_of(pool).segments, 0);
    }
    s->refuse = 0;
    tenon_pool_destroy(pool);
    ck_assert_uint_eq(s->pages, 0);
    free(s);
}
END_TEST

/* ---- the system's own pages ---- */

static bool mapped(const void *address) {
    return msync((void *)((uintptr_t)address & ~(uintptr_t)(PAGE - 1)), PAGE, MS_ASYNC) == 0 ||
           errno != ENOMEM;
}

/* Half of the budget in use, in such a way that no free block has more than two MiB: a request of
 * the other half is served, and what was there stays. */
START_TEST(scattered_memory_serves_a_large_block) {
    enum { COUNT = 32, MIB = 1 << 20 };
    tenon_pool *pool;
    tenon_pool_desc desc = {.budget = COUNT * MIB,
                            .segment_bytes = COUNT * MIB,
                            .flags = _i != 0 ? TENON_POOL_DEBUG : 0};
    size_t each = _i != 0 ? MIB - 128 : MIB; /* guards */
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_OK);
    tn_block blocks[COUNT], large;
    const unsigned char *freed = NULL;
    for (int i = 0; i < COUNT; ++i) {
        ck_assert_int_eq(take(pool, each, &blocks[i]), TENON_OK);
        memset(blocks[i].address, i, each);
    }
    for (int i = 0; i < COUNT; i += 2) {
        freed = blocks[i].address;
        tn_pool_free(pool, &blocks[i]);
    }
    ck_assert_uint_eq(info_of(pool).largest_free, each);
    ck_assert(mapped(freed + MIB / 2));
    ck_assert_int_eq(take(pool, COUNT / 2 * MIB - 128, &large), TENON_OK);
    ck_assert(!mapped(freed + MIB / 2) || _i != 0); /* the large one may lie there by now */
    memset(large.address, 0x77, large.bytes);
    tenon_memory_info info = info_of(pool);
    ck_assert_uint_le(info.reserved, desc.budget);
    ck_assert_uint_gt(info.ladder.segments_given, 0);
    ck_assert_uint_eq(info.ladder.failures, 0);
    for (int i = 1; i < COUNT; i += 2)
        for (size_t at = 0; at < each; at += 1000)
            ck_assert_int_eq(((unsigned char *)blocks[i].address)[at], i);
    if (_i != 0)
        ck_assert_int_eq(tenon_memory_check(pool), TENON_OK);

    /* One more byte than that is too much: the budget is a budget. */
    tn_block more;
    ck_assert_int_eq(take(pool, MIB, &more), TENON_ERROR_OVER_BUDGET);

    tn_pool_free(pool, &large);
    for (int i = 1; i < COUNT; i += 2)
        tn_pool_free(pool, &blocks[i]);
    ck_assert_uint_eq(tenon_memory_trim(pool, 0), info.reserved);
    ck_assert_uint_eq(info_of(pool).segments, 0);
    tenon_pool_destroy(pool);
}
END_TEST

/* A block that is freed twice after its memory went back is noticed, and nothing is touched. */
START_TEST(second_free_in_a_hole) {
    tenon_pool *pool;
    ck_assert_int_eq(tenon_pool_create(NULL, &pool), TENON_OK);
    tn_block first, keep;
    ck_assert_int_eq(take(pool, 1 << 20, &first), TENON_OK);
    ck_assert_int_eq(take(pool, 64, &keep), TENON_OK);
    tn_block copy = first;
    tn_pool_free(pool, &first);
    ck_assert_uint_gt(tenon_memory_trim(pool, 0), 0);
    tn_pool_free(pool, &copy);
    ck_assert_uint_eq(info_of(pool).damages, 1);
    ck_assert_uint_eq(info_of(pool).blocks, 1);
    tn_pool_free(pool, &keep);
    ck_assert_uint_eq(info_of(pool).blocks, 0);
    tenon_pool_destroy(pool);
}
END_TEST

/* Without a budget too, what is reserved follows what was in use; and a steady state stays out of
 * the system. */
START_TEST(growth_gives_back_what_does_not_serve) {
    space *s = calloc(1, sizeof *s);
    tenon_pool *pool = open_space(s, (tenon_pool_desc){.segment_bytes = 1 << 20});
    enum { COUNT = 24 };
    tn_block blocks[COUNT];
    for (int round = 1; round <= 6; ++round) { /* each round's blocks fit into no hole before */
        size_t bytes = (size_t)round << 23;
        for (int pass = 0; pass < 40; ++pass) {
            for (int i = 0; i < COUNT / round; ++i)
                ck_assert_int_eq(take(pool, bytes, &blocks[i]), TENON_OK);
            tenon_memory_info info = info_of(pool);
            ck_assert_uint_le(info.reserved, info.peak_in_use + info.peak_in_use / 2);
            for (int i = 0; i < COUNT / round; ++i)
                tn_pool_free(pool, &blocks[i]);
        }
    }
    size_t entered = s->next;
    int parts = s->parts;
    for (int i = 0; i < 1000; ++i) {
        ck_assert_int_eq(take(pool, (size_t)(1 + i % 6) << 23, &blocks[0]), TENON_OK);
        tn_pool_free(pool, &blocks[0]);
    }
    ck_assert_uint_eq(s->next, entered);
    ck_assert_int_eq(s->parts, parts);
    tenon_pool_destroy(pool);
    ck_assert_uint_eq(s->pages, 0);
    free(s);
}
END_TEST

/*
 * Sizes mixed for ever: calls to the system stay few, and none where blocks are small; with a budget that leaves room
 * too. Nothing fails for it.
 */
START_TEST(giving_back_is_paid_for) {
    enum { LIVE = 200, STEPS = 60000, MIB = 1 << 20 };
    rng r = rng_start("pool parts");
    space *s = calloc(1, sizeof *s);
    s->blind = true;
    const bool small = _i % 2 == 0;
    const int64_t most = small ? 600 << 10 : 3 * MIB;
    const size_t budget = _i / 2 != 0 ? (size_t)(LIVE * most / 4 * 3) : TENON_NO_BUDGET;
    tenon_pool *pool = open_space(s, (tenon_pool_desc){.budget = budget});
    static tn_block live[LIVE];
    memset(live, 0, sizeof live);
    size_t allocated = 0, given = 0;
    int parts = 0;
    for (int step = 0; step < STEPS; ++step) {
        tn_block *block = &live[rng_below(&r, LIVE)];
        tn_pool_free(pool, block);
        ck_assert_int_eq(take(pool, (size_t)rng_between(&r, 1, most), block), TENON_OK);
        allocated += block->bytes;
        if (step == STEPS / 4) { /* in the beginning what was ever in use may go once */
            parts = s->parts;
            given = s->given;
            allocated = 0;
        }
    }
    tenon_memory_info info = info_of(pool);
    printf(
        "blocks of up to %d KiB: parts for %.4f of the allocations, %.4f of their bytes; footprint "
        "%.3f\n",
        (int)(most / 1024), (s->parts - parts) / (STEPS * 0.75),
        (double)(s->given - given) / (double)allocated,
        (double)info.peak_reserved / (double)info.peak_in_use);
    ck_assert_int_le(s->parts - parts, small ? 0 : STEPS / 8);
    ck_assert_uint_le(s->given - given, small ? 0 : allocated / 4);
    ck_assert_uint_le(info.peak_reserved, info.peak_in_use + info.peak_in_use / 3);
    for (int i = 0; i < LIVE; ++i)
        tn_pool_free(pool, &live[i]);
    tenon_pool_destroy(pool);
    free(s);
}
END_TEST

/* A pool makes only so many holes. What it could not give for them it does not count on: nothing goes back for a
 * request that would fail all the same. */
START_TEST(holes_end) {
    enum { COUNT = 20000, HOLES = 8192 };
    space *s = calloc(1, sizeof *s);
    tenon_pool *pool = open_space(s, (tenon_pool_desc){.budget = (size_t)COUNT * UNIT,
                                                       .segment_bytes = (size_t)COUNT * UNIT});
    tn_block *blocks = calloc(COUNT, sizeof *blocks), large;
    ck_assert_ptr_nonnull(blocks);
    for (int i = 0; i < COUNT; ++i)
        ck_assert_int_eq(take(pool, UNIT, &blocks[i]), TENON_OK);
    for (int i = 0; i < COUNT; i += 2)
        tn_pool_free(pool, &blocks[i]);
    ck_assert_int_eq(take(pool, (size_t)(HOLES + 1) * UNIT, &large), TENON_ERROR_OVER_BUDGET);
    ck_assert_int_eq(s->parts, 0);
    ck_assert_int_eq(take(pool, (size_t)HOLES * UNIT, &large), TENON_OK);
    ck_assert_int_eq(s->parts, HOLES);
    tn_pool_free(pool, &large); /* a segment of its own, which can go whatever holes there are */
    ck_assert_int_eq(take(pool, (size_t)HOLES / 2 * UNIT, &large), TENON_OK);
    tn_pool_free(pool, &large);
    for (int i = 1; i < COUNT; i += 2)
        tn_pool_free(pool, &blocks[i]);
    free(blocks);
    tenon_pool_destroy(pool);
    ck_assert_uint_eq(s->pages, 0);
    free(s);
}
END_TEST

static Suite *parts_suite(void) {
    Suite *suite = suite_create("pool_parts");
    TCase *tcase = tcase_create("pool_parts");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, blocks_lie_in_pages_that_are_there, 0, 2);
    tcase_add_loop_test(tcase, scattered_memory_serves_a_large_block, 0, 2);
    tcase_add_test(tcase, second_free_in_a_hole);
    tcase_add_test(tcase, growth_gives_back_what_does_not_serve);
    tcase_add_loop_test(tcase, giving_back_is_paid_for, 0, 4);
    tcase_add_test(tcase, holes_end);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(parts_suite());
}
