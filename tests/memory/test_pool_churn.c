/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long churn of mixed sizes: 16 bytes to 16 MiB, each factor of two as likely as any other, with lifetimes from
 * a few steps to the whole run. What a budget holds must go on to fit, however scattered what is free has become; and
 * pools must not live on calls to the system. Memory is a source's whose pages nobody touches, but for the
 * pools of the system and of hooks.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory_support.h"
#include "pool_invariants.h"
#include "rng.h"
#include "suite.h"

#if defined(TEST_ASAN) || defined(TEST_TSAN)
enum { STEPS = 20000, IN_FULL = false }; /* too few for the rates below: the beginning shows */
#else
enum { STEPS = 200000, IN_FULL = true };
#endif
enum { SLOTS_MOST = 20000, CHECK_EVERY = 4096, PART = 64 << 10 };

/* ---- what happens ---- */

typedef struct step {
    uint16_t slot;
    uint16_t alignment; /* 0: the slot is freed */
    uint32_t bytes;
} step;

static step steps[STEPS];

/* What is asked for: up to `slots` blocks at once, of 16 bytes to 2^log2_most. */
typedef struct kind {
    int slots, log2_most;
    bool aligned; /* up to 4096 instead of 64 */
} kind;

/* Each factor of two is as likely as any other. */
static uint32_t some_bytes(rng *r, int log2_most) {
    const int64_t least = (int64_t)1 << rng_between(r, 4, log2_most - 1);
    return (uint32_t)(least + rng_below(r, least));
}

/* Fills `steps`; returns the most bytes alive at once. Slots of low number change often, those of high number hardly ever. */
static size_t write_steps(uint64_t seed, kind k) {
    static uint32_t held[SLOTS_MOST];
    rng r = {seed};
    size_t live = 0, peak = 0;
    memset(held, 0, sizeof held);
    for (int i = 0; i < STEPS; ++i) {
        const double u = rng_unit(&r);
        const int slot = (int)(k.slots * u * u);
        step *s = &steps[i];
        *s = (step){.slot = (uint16_t)slot};
        if (held[slot] != 0) {
            live -= held[slot];
            held[slot] = 0;
            continue;
        }
        s->bytes = some_bytes(&r, k.log2_most);
        s->alignment = (uint16_t)(k.aligned ? 1 << rng_below(&r, 13) : 64);
        held[slot] = (s->bytes + 63) & ~UINT32_C(63);
        live += held[slot];
        peak = live > peak ? live : peak;
    }
    return peak;
}

/* ---- memory that is only counted ---- */

typedef struct counting {
    uint64_t calls; /* to the system, as it were */
    size_t held;
} counting;

static bool counting_alloc(void *user, size_t bytes, tn_segment_memory *out) {
    counting *c = user;
    ++c->calls;
    c->held += bytes;
    *out = (tn_segment_memory){.handle = user, .bytes = bytes};
    return true;
}

static void counting_free(void *user, const tn_segment_memory *memory) {
    counting *c = user;
    ++c->calls;
    c->held -= memory->bytes;
}

static bool counting_part(void *user, const tn_segment_memory *memory, size_t offset,
                          size_t bytes) {
    counting *c = user;
    ck_assert_uint_le(offset + bytes, memory->bytes);
    ++c->calls;
    c->held -= bytes;
    return true;
}

/* A pool as host memory has it. */
static tenon_pool *counting_pool(counting *c, size_t budget, unsigned flags) {
    const tn_segment_source source = {.user = c,
                                      .alloc = counting_alloc,
                                      .free = counting_free,
                                      .give_part = counting_part,
                                      .granularity = 4096,
                                      .part = PART};
    const tenon_pool_desc desc = {.budget = budget, .flags = flags};
    tn_message message;
    tenon_pool *pool;
    ck_assert_int_eq(tn_pool_open(&desc, &source, &message, &pool), TENON_OK);
    return pool;
}

/* ---- playing ---- */

typedef struct played {
    uint64_t refused, unjust;
} played;

/*
 * A refusal is just if the request does not fit in the budget beside the units (pages, for hooks segments)
 * that hold something alive: what a fresh pool would need as well, if it had to leave the others where they are.
 */
static bool is_just(tenon_pool *pool, const step *s) {
    const tenon_memory_info info = info_of(pool);
    const size_t needed = info.reserved - tn_segments_empty(pool);
    return info.budget != 0 && needed + ((s->bytes + 4095) & ~UINT32_C(4095)) > info.budget;
}

static played play(tenon_pool *pool) {
    static tn_block blocks[SLOTS_MOST];
    played result = {0};
    tn_message message;
    memset(blocks, 0, sizeof blocks);
    for (int i = 0; i < STEPS; ++i) {
        const step *s = &steps[i];
        tn_block *block = &blocks[s->slot];
        if (s->alignment == 0) {
            tn_pool_free(pool, block);
        } else if (tn_pool_alloc(pool, s->bytes, s->alignment, "churn", block, &message) !=
                   TENON_OK) {
            ++result.refused;
            result.unjust += !is_just(pool, s);
        } else {
            ck_assert_uint_eq(block->offset % s->alignment, 0);
        }
        if (i % CHECK_EVERY == 0) {
            const char *wrong = pool_invariants(pool);
            ck_assert_msg(wrong == NULL, "step %d: %s", i, wrong);
        }
    }
    for (int i = 0; i < SLOTS_MOST; ++i)
        tn_pool_free(pool, &blocks[i]);
    const char *wrong = pool_invariants(pool);
    ck_assert_msg(wrong == NULL, "at the end: %s", wrong);
    ck_assert_uint_eq(info_of(pool).in_use, 0);
    tenon_memory_trim(pool, 0);
    ck_assert_uint_eq(info_of(pool).reserved, 0);
    return result;
}

static const struct churn {
    const char *name;
    kind kind;
    double budget; /* over the most alive; 0: none */
    double
        most_held; /* over the most alive; all three are twice what was measured, or the budget */
    double most_calls;   /* to the system, a step */
    double most_refused; /* of the steps */
} churns[] = {
    {"no budget", {400, 24, false}, 0, 1.1, 0.04, 0},
    {"1.2 of the peak", {400, 24, false}, 1.2, 1.2, 0.04, 0},
    {"1.2 of the peak, alignments to 4096", {400, 24, true}, 1.2, 1.2, 0.07, 0},
    {"1.02 of the peak", {400, 24, false}, 1.02, 1.02, 0.05, 0},
    {"1.02 of the peak, alignments to 4096", {400, 24, true}, 1.02, 1.02, 0.05, 0},
    {"many blocks, 1.2 of the peak", {SLOTS_MOST, 21, false}, 1.2, 1.2, 0.05, 0},
    {"many blocks, 1.02 of the peak", {SLOTS_MOST, 21, false}, 1.02, 1.02, 0.2, 0.002},
    {"small blocks, 1.02 of the peak", {SLOTS_MOST, 15, true}, 1.02, 1.02, 0.002, 0.01},
};

START_TEST(sizes_of_all_kinds) {
    const struct churn *c = &churns[_i];
    rng r = rng_start("churn");
    const size_t peak = write_steps(rng_u64(&r), c->kind);
    counting system = {0};
    tenon_pool *pool = counting_pool(
        &system, c->budget != 0 ? (size_t)((double)peak * c->budget) : TENON_NO_BUDGET, 0);
    const played p = play(pool);
    const tenon_memory_info info = info_of(pool);
    const double calls = (double)system.calls / STEPS, refused = (double)p.refused / STEPS;
    const double held = (double)info.peak_reserved / (double)peak;
    printf("%s: most alive %zu, held %.3f of it; %.4f calls to the system and %.5f refusals a "
           "step, %llu of these unjust\n",
           c->name, peak, held, calls, refused, (unsigned long long)p.unjust);
    ck_assert_uint_eq(p.unjust, 0);
    if (IN_FULL) {
        ck_assert_double_le(held, c->most_held);
        ck_assert_double_le(calls, c->most_calls);
        ck_assert_double_le(refused, c->most_refused);
    }
    tenon_pool_destroy(pool);
    ck_assert_uint_eq(system.held, 0);
}
END_TEST

/* The system's own memory, as a program has it that sets nothing. */
START_TEST(pool_of_the_system) {
    rng r = rng_start("churn of the system");
    const size_t peak = write_steps(rng_u64(&r), (kind){400, 24, true});
    tenon_pool *pool = make_pool((tenon_pool_desc){0});
    const played p = play(pool);
    ck_assert_uint_eq(p.refused, 0);
    printf("the system's: held %.3f of the most alive\n",
           (double)info_of(pool).peak_reserved / (double)peak);
    tenon_pool_destroy(pool);
}
END_TEST

/* Hooks take nothing back but whole segments: more is refused, and never is more taken than the budget. */
START_TEST(pool_of_hooks) {
    rng r = rng_start("churn of hooks");
    const size_t peak = write_steps(rng_u64(&r), (kind){400, 24, false});
    const size_t budget = peak + peak / 5;
    counted hooks = {.blank = true};
    tenon_pool *pool =
        make_pool((tenon_pool_desc){.budget = budget, .allocator = counted_hooks(&hooks)});
    const played p = play(pool);
    const double calls = (double)atomic_load(&hooks.calls) / STEPS;
    printf("hooks, 1.2 of the peak: %.4f calls of alloc and %.5f refusals a step\n", calls,
           (double)p.refused / STEPS);
    if (IN_FULL)
        ck_assert_double_le(calls, 0.002);
    ck_assert_double_le((double)p.refused / STEPS, 0.0001);
    /* Bookkeeping is beside it. */
    ck_assert_int_le(atomic_load(&hooks.most_bytes), (long long)(budget + (1 << 20)));
    tenon_pool_destroy(pool);
    ck_assert_int_eq(atomic_load(&hooks.live), 0);
}
END_TEST

static Suite *churn_suite(void) {
    Suite *suite = suite_create("pool_churn");
    TCase *tcase = tcase_create("churn");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, sizes_of_all_kinds, 0, (int)(sizeof churns / sizeof churns[0]));
    tcase_add_test(tcase, pool_of_the_system);
    tcase_add_test(tcase, pool_of_hooks);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(churn_suite());
}
