/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Static layouts: nothing alive together overlaps, offsets are aligned, the lower bound is the true
 * one, and easy problems are solved exactly.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory_support.h"
#include "rng.h"
#include "suite.h"

/* Compares all pairs; returns the end of the highest object. */
static size_t verify(const tenon_lifetime *objects, size_t count) {
    size_t end = 0;
    for (size_t i = 0; i < count; ++i) {
        const tenon_lifetime *a = &objects[i];
        ck_assert(a->offset % (a->alignment != 0 ? a->alignment : 64) == 0);
        if (a->bytes != 0 && a->offset + a->bytes > end)
            end = a->offset + a->bytes;
        for (size_t j = 0; j < i; ++j) {
            const tenon_lifetime *b = &objects[j];
            bool together = a->first <= b->last && b->first <= a->last;
            bool overlap = a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
            if (together && overlap && a->bytes != 0 && b->bytes != 0)
                ck_abort_msg("objects %zu and %zu overlap", j, i);
        }
    }
    return end;
}

/* Compares all pairs of every n-th object: for problems too large for verify. */
static void verify_some(const tenon_lifetime *objects, size_t count, size_t n) {
    tenon_lifetime *some = malloc((count / n + 1) * sizeof *some);
    size_t kept = 0;
    for (size_t i = 0; i < count; i += n)
        some[kept++] = objects[i];
    verify(some, kept);
    free(some);
}

static size_t true_bound(const tenon_lifetime *objects, size_t count) {
    size_t most = 0;
    for (size_t i = 0; i < count; ++i) { /* some object begins at the fullest step */
        size_t alive = 0;
        for (size_t j = 0; j < count; ++j)
            if (objects[j].first <= objects[i].first && objects[i].first <= objects[j].last)
                alive += objects[j].bytes;
        most = alive > most ? alive : most;
    }
    return most;
}

static size_t lay_out_with(tenon_lifetime *objects, size_t count, double effort, size_t enough,
                           size_t *bound) {
    const tenon_layout_options options = {.effort = effort, .enough = enough};
    size_t total = 0;
    ck_assert_int_eq(tenon_memory_layout_with(NULL, objects, count, &options, &total, bound),
                     TENON_OK);
    return total;
}

/* With a little of the default's work, so that tests are quick. */
static size_t lay_out(tenon_lifetime *objects, size_t count, size_t *bound) {
    return lay_out_with(objects, count, 0.02, 0, bound);
}

START_TEST(random_problems) {
    rng r = rng_start("layout");
    static tenon_lifetime objects[600];
    double worst = 0;
    for (int round = 0; round < 40; ++round) {
        size_t count = (size_t)rng_between(&r, 1, 600);
        int64_t steps = rng_between(&r, 1, 400), longest = rng_between(&r, 1, steps);
        for (size_t i = 0; i < count; ++i) {
            int64_t first = rng_below(&r, steps) - 200;
            objects[i] =
                (tenon_lifetime){.bytes = (size_t)rng_below(&r, (int64_t)1 << rng_below(&r, 20)),
                                 .alignment = (size_t)rng_below(&r, 2) << rng_below(&r, 13),
                                 .first = first,
                                 .last = first + rng_below(&r, longest)};
        }
        size_t bound, total = lay_out(objects, count, &bound);
        ck_assert_uint_eq(verify(objects, count), total);
        ck_assert_uint_eq(bound, true_bound(objects, count));
        ck_assert_uint_ge(total, bound);
        if (bound > (1 << 20) && (double)total / (double)bound > worst)
            worst = (double)total / (double)bound;
    }
    printf("layout: worst total over lower bound %.3f\n", worst);
    ck_assert_msg(worst > 0 && worst < 1.5, "%g", worst);
}
END_TEST

START_TEST(exact_where_it_is_easy) {
    /* A chain: each object lives with the next one only. */
    static tenon_lifetime chain[1000];
    for (int i = 0; i < 1000; ++i)
        chain[i] = (tenon_lifetime){.bytes = 4096, .first = i, .last = i + 1};
    size_t bound, total = lay_out(chain, 1000, &bound);
    ck_assert_uint_eq(total, 8192);
    ck_assert_uint_eq(bound, 8192);
    verify(chain, 1000);
    /* All alive at once; and none with another. */
    for (int i = 0; i < 1000; ++i)
        chain[i] = (tenon_lifetime){.bytes = 64 * (size_t)(i + 1), .first = -5, .last = 5};
    ck_assert_uint_eq(lay_out(chain, 1000, &bound), 64 * 500500);
    verify(chain, 1000);
    for (int i = 0; i < 1000; ++i)
        chain[i].first = chain[i].last = i;
    ck_assert_uint_eq(lay_out(chain, 1000, NULL), 64000);
    /* Nothing, and objects of no bytes. */
    ck_assert_uint_eq(lay_out(NULL, 0, &bound), 0);
    ck_assert_uint_eq(bound, 0);
    tenon_lifetime none[2] = {{.bytes = 0}, {.bytes = 0, .last = 9}};
    ck_assert_uint_eq(lay_out(none, 2, &bound), 0);
    /* The ends of the number line. */
    tenon_lifetime far[2] = {{.bytes = 10, .first = INT64_MIN, .last = INT64_MAX},
                             {.bytes = 20, .first = INT64_MAX, .last = INT64_MAX}};
    ck_assert_uint_le(lay_out(far, 2, &bound), 64 + 20);
    verify(far, 2);
    ck_assert_uint_eq(bound, 30);
}
END_TEST

START_TEST(many_objects) {
    /* Some hundreds alive at once: the index of lifetimes is what finds them. */
    enum { MANY = 20000 };
    rng r = rng_start("many");
    tenon_lifetime *objects = malloc(MANY * sizeof *objects);
    for (int i = 0; i < MANY; ++i)
        objects[i] =
            (tenon_lifetime){.bytes = (size_t)rng_between(&r, 1, 1 << 20),
                             .first = i,
                             .last = i + rng_below(&r, rng_below(&r, 50) == 0 ? 4000 : 300)};
    size_t bound, total = lay_out(objects, MANY, &bound);
    ck_assert_uint_ge(total, bound);
    printf("layout: 20000 objects, total over lower bound %.3f\n", (double)total / (double)bound);
    ck_assert_uint_lt(total, bound + bound / 4);
    verify_some(objects, MANY, 4);
    free(objects);
}
END_TEST

START_TEST(crowd) {
    /* So many alive at once that looking for gaps has to end before all are placed. */
    enum { CROWD = 100000 };
    rng r = rng_start("crowd");
    tenon_lifetime *objects = malloc(CROWD * sizeof *objects);
    size_t sum = 0;
    for (int i = 0; i < CROWD; ++i) {
        objects[i] = (tenon_lifetime){.bytes = 64 * (size_t)rng_between(&r, 1, 1 << 14),
                                      .first = -(int64_t)rng_below(&r, 1000),
                                      .last = rng_between(&r, 150, 1000)};
        sum += objects[i].bytes;
    }
    size_t bound, total = lay_out_with(objects, CROWD, -1, 0, &bound);
    ck_assert_uint_eq(bound, sum);
    ck_assert_uint_eq(total, sum);
    verify_some(objects, CROWD, 23);
    /* Not all at once: then some gaps are lost. */
    for (int i = 0; i < CROWD; ++i)
        objects[i].first += rng_below(&r, 1100);
    for (int i = 0; i < CROWD; ++i)
        if (objects[i].last < objects[i].first)
            objects[i].last = objects[i].first;
    total = lay_out_with(objects, CROWD, -1, 0, &bound);
    printf("layout: 100000 objects, total over lower bound %.3f\n", (double)total / (double)bound);
    ck_assert_uint_le(bound, sum);
    ck_assert_uint_ge(total, bound);
    ck_assert_uint_le(total, sum);
    verify_some(objects, CROWD, 23);
    free(objects);
}
END_TEST

/*
 * A training step of one layer of a Llama-like transformer (4096 wide, 32 heads, 8 of keys and
 * values, 14336 hidden, 2048 tokens, bf16): what each operation writes, and until when it is read.
 * Steps 0 to 11 go forward, 12 to 30 back; f32 statistics are small, gradients of weights stay.
 */
enum { TOKENS = 2048, WIDE = 4096, KV = 1024, HIDDEN = 14336 };

static const tenon_lifetime layer[] = {
    /* forward */
    {.bytes = 2 * TOKENS * WIDE, .first = 0, .last = 30},           /* x, for the norm's gradient */
    {.bytes = 4 * TOKENS, .first = 0, .last = 30},                  /* 1/rms of x */
    {.bytes = 2 * TOKENS * WIDE, .first = 0, .last = 28},           /* normed, for weights */
    {.bytes = 2 * TOKENS * WIDE, .first = 1, .last = 4},            /* q before rotation */
    {.bytes = 2 * TOKENS * KV, .first = 2, .last = 4},              /* k before rotation */
    {.bytes = 2 * TOKENS * KV, .first = 3, .last = 25},             /* v */
    {.bytes = 2 * TOKENS * WIDE, .first = 4, .last = 25},           /* q */
    {.bytes = 2 * TOKENS * KV, .first = 4, .last = 25},             /* k */
    {.bytes = 2 * TOKENS * WIDE, .first = 5, .last = 25},           /* attention's output */
    {.bytes = 4 * TOKENS * 32, .first = 5, .last = 25},             /* its log-sum-exp */
    {.bytes = 2 * TOKENS * WIDE, .first = 6, .last = 7},            /* projected */
    {.bytes = 2 * TOKENS * WIDE, .first = 7, .last = 22},           /* x + attention */
    {.bytes = 4 * TOKENS, .first = 7, .last = 22},                  /* its 1/rms */
    {.bytes = 2 * TOKENS * WIDE, .first = 7, .last = 20},           /* normed */
    {.bytes = 2 * (size_t)TOKENS * HIDDEN, .first = 8, .last = 17}, /* gate */
    {.bytes = 2 * (size_t)TOKENS * HIDDEN, .first = 9, .last = 17}, /* up */
    {.bytes = 2 * (size_t)TOKENS * HIDDEN, .first = 10, .last = 14}, /* silu(gate) * up */
    {.bytes = 2 * TOKENS * WIDE, .first = 11, .last = 12},           /* down: the layer's output */
    /* back */
    {.bytes = 2 * TOKENS * WIDE, .first = 12, .last = 23},           /* gradient of the output */
    {.bytes = 2 * (size_t)TOKENS * HIDDEN, .first = 13, .last = 17}, /* … of silu(gate) * up */
    {.bytes = 2 * (size_t)WIDE * HIDDEN, .first = 14, .last = 40},   /* … of down's weights */
    {.bytes = 2 * (size_t)TOKENS * HIDDEN, .first = 17, .last = 20}, /* … of gate */
    {.bytes = 2 * (size_t)TOKENS * HIDDEN, .first = 17, .last = 20}, /* … of up */
    {.bytes = 2 * (size_t)WIDE * HIDDEN, .first = 18, .last = 40},   /* … of gate's weights */
    {.bytes = 2 * (size_t)WIDE * HIDDEN, .first = 19, .last = 40},   /* … of up's weights */
    {.bytes = 2 * TOKENS * WIDE, .first = 20, .last = 22},           /* … of the norm's output */
    {.bytes = 4 * WIDE, .first = 22, .last = 40},                    /* … of the norm's weights */
    {.bytes = 2 * TOKENS * WIDE, .first = 22, .last = 30},           /* … of x + attention */
    {.bytes = 2 * TOKENS * WIDE, .first = 23, .last = 25},           /* … of attention's output */
    {.bytes = 2 * (size_t)WIDE * WIDE, .first = 24, .last = 40},     /* … of the projection */
    {.bytes = 2 * TOKENS * WIDE, .first = 25, .last = 28},           /* … of q */
    {.bytes = 2 * TOKENS * KV, .first = 25, .last = 28},             /* … of k */
    {.bytes = 2 * TOKENS * KV, .first = 25, .last = 28},             /* … of v */
    {.bytes = 4 * TOKENS * 32, .first = 25, .last = 25},             /* row sums of do · o */
    {.bytes = 2 * (size_t)WIDE * (WIDE + 2 * KV),
     .first = 28,
     .last = 40},                                          /* … of q, k, v's weights */
    {.bytes = 2 * TOKENS * WIDE, .first = 28, .last = 30}, /* … of the norm's output */
    {.bytes = 4 * WIDE, .first = 30, .last = 40},          /* … of the norm's weights */
    {.bytes = 2 * TOKENS * WIDE, .first = 30, .last = 40}, /* … of x */
};

START_TEST(transformer) {
    enum { ONE = sizeof layer / sizeof layer[0], LAYERS = 8, STRIDE = 41 };
    static tenon_lifetime objects[LAYERS * ONE];
    size_t bound, total;
    memcpy(objects, layer, sizeof layer);
    total = lay_out(objects, ONE, &bound);
    ck_assert_uint_eq(verify(objects, ONE), total);
    printf("layout: a transformer layer, total over lower bound %.4f\n",
           (double)total / (double)bound);
    ck_assert_uint_le(total, bound + bound / 200);
    /* A stack of them: forward in order, back in reverse, each layer's own 31 steps split at 12. */
    for (int l = 0; l < LAYERS; ++l)
        for (int i = 0; i < (int)ONE; ++i) {
            tenon_lifetime o = layer[i];
            const int forward = 12 * l, back = 12 * LAYERS + 19 * (LAYERS - 1 - l) - 12;
            o.first += o.first < 12 ? forward : back;
            o.last = o.last >= 40 ? 31 * LAYERS : o.last + (o.last < 12 ? forward : back);
            objects[l * (int)ONE + i] = o;
        }
    total = lay_out(objects, LAYERS * ONE, &bound);
    ck_assert_uint_eq(verify(objects, LAYERS * ONE), total);
    printf("layout: %d layers, total over lower bound %.4f\n", LAYERS,
           (double)total / (double)bound);
    ck_assert_uint_le(total, bound + bound / 200);
}
END_TEST

START_TEST(options) {
    enum { COUNT = 300 };
    rng r = rng_start("options");
    static tenon_lifetime objects[COUNT], again[COUNT];
    for (int i = 0; i < COUNT; ++i) {
        const int64_t first = rng_below(&r, 60);
        objects[i] = (tenon_lifetime){.bytes = (size_t)rng_between(&r, 1, 100000),
                                      .alignment = 1,
                                      .first = first,
                                      .last = first + rng_below(&r, 20)};
    }
    memcpy(again, objects, sizeof objects);
    size_t bound, none = lay_out_with(objects, COUNT, -1, 0, &bound);
    ck_assert_uint_eq(verify(objects, COUNT), none);
    size_t some = lay_out_with(objects, COUNT, 0.05, 0, NULL);
    ck_assert_uint_eq(verify(objects, COUNT), some);
    ck_assert_uint_lt(some, none); /* the search finds something */
    /* The same every time, whatever the offsets were before. */
    ck_assert_uint_eq(lay_out_with(again, COUNT, 0.05, 0, NULL), some);
    ck_assert(memcmp(again, objects, sizeof objects) == 0);
    /* It stops at what is enough, and needs no search where placing is enough. */
    const size_t middle = (none + some) / 2;
    const size_t enough = lay_out_with(objects, COUNT, 0.05, middle, NULL);
    ck_assert_uint_le(enough, middle);
    ck_assert_uint_ge(enough, some);
    ck_assert_uint_eq(lay_out_with(objects, COUNT, 1e300, none, NULL), none);
    /* Wrong ones. */
    size_t total = 5;
    tenon_layout_options o = {.effort = NAN};
    ck_assert_int_eq(tenon_memory_layout_with(NULL, objects, COUNT, &o, &total, NULL),
                     TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "effort"));
    o = (tenon_layout_options){.struct_size = 3};
    ck_assert_int_eq(tenon_memory_layout_with(NULL, objects, COUNT, &o, &total, NULL),
                     TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_uint_eq(total, 5);
    ck_assert_int_eq(tenon_memory_layout_with(NULL, objects, 3, NULL, &total, NULL), TENON_OK);
}
END_TEST

/* Parts with nothing alive between them: only the worst is worth a search. */
START_TEST(parts) {
    enum { COUNT = 400 };
    rng r = rng_start("parts");
    static tenon_lifetime objects[COUNT];
    for (int i = 0; i < COUNT; ++i) {
        const int64_t part = i / 40, first = rng_below(&r, 10);
        objects[i] = (tenon_lifetime){.bytes = (size_t)rng_between(&r, 1, part == 7 ? 9000 : 3000),
                                      .alignment = (size_t)1 << rng_below(&r, 8),
                                      .first = 100 * part + first,
                                      .last = 100 * part + first + rng_below(&r, 10)};
    }
    size_t bound, total = lay_out(objects, COUNT, &bound);
    ck_assert_uint_eq(verify(objects, COUNT), total);
    ck_assert_uint_eq(bound, true_bound(objects, COUNT));
    const size_t alone = lay_out(objects + 280, 40, NULL);
    ck_assert_uint_le(total, alone + alone / 20);
}
END_TEST

START_TEST(refused) {
    size_t total = 5;
    tenon_lifetime a[2] = {{.bytes = 1, .first = 2, .last = 1, .offset = 9}, {.bytes = 1}};
    ck_assert_int_eq(tenon_memory_layout(NULL, a, 2, &total, NULL), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "objects[0].last"));
    a[0].last = 2;
    a[1].alignment = 48;
    ck_assert_int_eq(tenon_memory_layout(NULL, a, 2, &total, NULL), TENON_ERROR_INVALID_ARGUMENT);
    a[1].alignment = 0;
    a[0].bytes = SIZE_MAX - 100;
    ck_assert_int_eq(tenon_memory_layout(NULL, a, 2, &total, NULL), TENON_ERROR_INVALID_ARGUMENT);
    a[0].bytes = 1;
    ck_assert_int_eq(tenon_memory_layout(NULL, a, 2, NULL, NULL), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_memory_layout(NULL, NULL, 2, &total, NULL),
                     TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_uint_eq(a[0].offset, 9);
    ck_assert_uint_eq(total, 5);
    ck_assert_int_eq(tenon_memory_layout(NULL, a, 2, &total, NULL), TENON_OK);
    ck_assert_uint_eq(a[0].offset, 0);
}
END_TEST

static Suite *layout_suite(void) {
    Suite *suite = suite_create("layout");
    TCase *tcase = tcase_create("layout");
    tcase_set_timeout(tcase, 200);
    tcase_add_test(tcase, random_problems);
    tcase_add_test(tcase, exact_where_it_is_easy);
    tcase_add_test(tcase, many_objects);
    tcase_add_test(tcase, crowd);
    tcase_add_test(tcase, transformer);
    tcase_add_test(tcase, options);
    tcase_add_test(tcase, parts);
    tcase_add_test(tcase, refused);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(layout_suite());
}
