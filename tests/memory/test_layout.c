/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Static layouts: nothing alive together overlaps, offsets are aligned, the lower bound is the true
 * one, and easy problems are solved exactly.
 */
#include <check.h>
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

static size_t lay_out(tenon_lifetime *objects, size_t count, size_t *bound) {
    size_t total = 0;
    ck_assert_int_eq(tenon_memory_layout(NULL, objects, count, &total, bound), TENON_OK);
    return total;
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
    ck_assert_uint_eq(lay_out(far, 2, &bound), 64 + 10);
    ck_assert_uint_eq(bound, 30);
}
END_TEST

START_TEST(many_objects) {
    /* More than is improved by further passes, some hundreds alive at once: the index of lifetimes
     * is what finds them. */
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
    ck_assert_uint_lt(total, bound + bound / 2);
    free(objects);
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
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, random_problems);
    tcase_add_test(tcase, exact_where_it_is_easy);
    tcase_add_test(tcase, many_objects);
    tcase_add_test(tcase, refused);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(layout_suite());
}
