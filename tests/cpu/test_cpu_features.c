/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Levels: which one a mask gives, that detection repeats itself, and that names fit into small
 * buffers.
 */
#include "cpu/cpu_features.h"

#include "suite.h"

#include <string.h>

START_TEST(masks) {
    bool known = false;
    const tn_cpu_level best = tn_cpu_level_best();
    ck_assert_int_eq(tn_cpu_level_choose(NULL, &known), best);
    ck_assert(known);
    ck_assert_int_eq(tn_cpu_level_choose("", NULL), best);
    ck_assert_int_eq(tn_cpu_level_choose("scalar", &known), TN_CPU_SCALAR);
    ck_assert(known);
    ck_assert_int_eq(tn_cpu_level_choose("avx2", NULL), best < TN_CPU_AVX2 ? best : TN_CPU_AVX2);
    ck_assert_int_eq(tn_cpu_level_choose("avx512", NULL), best);
    ck_assert_int_eq(tn_cpu_level_choose("sse9", &known), best);
    ck_assert(!known);
}
END_TEST

/* "plain" leaves the level and takes what is beyond it. */
START_TEST(plain_levels) {
    bool known = false;
    const tn_cpu_isa all = tn_cpu_isa_choose(NULL, &known),
                     plain = tn_cpu_isa_choose("avx512-plain", &known);
    ck_assert(known);
    ck_assert_int_eq(all.level, tn_cpu_level_best());
    ck_assert_int_eq(plain.level, tn_cpu_level_best());
    ck_assert_uint_eq(tn_cpu_features() & ~all.features, 0);
    ck_assert_uint_eq(plain.features, 0);
    ck_assert_int_le(tn_cpu_isa_choose("avx2-plain", NULL).level, TN_CPU_AVX2);
    (void)tn_cpu_isa_choose("scalar-plain", &known);
    ck_assert(!known);
}
END_TEST

/* AMX: with all features and with "amx", not with "avx512" and below. */
START_TEST(tiles) {
    bool known = false;
    const tn_cpu_isa all = tn_cpu_isa_choose(NULL, NULL), amx = tn_cpu_isa_choose("amx", &known),
                     avx512 = tn_cpu_isa_choose("avx512", NULL);
    ck_assert(known);
    ck_assert_int_eq(amx.level, all.level);
    ck_assert_uint_eq(amx.features, all.features);
    ck_assert_uint_eq(avx512.features, all.features & ~(uint32_t)TN_CPU_HAS_AMX);
    ck_assert_uint_eq(tn_cpu_isa_choose("avx512-plain", NULL).features & TN_CPU_HAS_AMX, 0);
#ifdef TN_EMULATE_AVX512
    ck_assert_uint_eq(all.features & TN_CPU_HAS_AMX, TN_CPU_HAS_AMX);
#endif
}
END_TEST

START_TEST(detection) {
    const uint32_t word = tn_cpu_features();
    const tn_cpu_caches caches = tn_cpu_cache_sizes();
    ck_assert(word & TN_CPU_DETECTED);
    ck_assert_uint_eq(word, tn_cpu_features());
    ck_assert_uint_ge(caches.l1d, 16u << 10);
    ck_assert_uint_ge(caches.l2, 128u << 10);
    ck_assert(caches.l3 == 0 || caches.l3 >= caches.l2);
}
END_TEST

START_TEST(names) {
    char text[256], full[256];
    tn_cpu_features_text(~0u, full, sizeof full);
    ck_assert(strstr(full, "avx512_bf16"));
    for (size_t bytes = 1; bytes < sizeof text; bytes++) {
        memset(text, '#', sizeof text);
        ck_assert_uint_lt(strlen(tn_cpu_features_text(~0u, text, bytes)), bytes);
        ck_assert_int_eq(strncmp(text, full, strlen(text)), 0);
        for (size_t i = bytes; i < sizeof text; i++)
            ck_assert_int_eq(text[i], '#');
        memset(text, '#', sizeof text);
        tn_cpu_brand(text, bytes);
        ck_assert_uint_lt(strlen(text), bytes);
        tn_cpu_vendor(text, bytes);
        ck_assert_uint_lt(strlen(text), bytes);
    }
    ck_assert_str_eq(tn_cpu_level_name(TN_CPU_SCALAR), "scalar");
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("cpu features");
    TCase *t = tcase_create("features");
    tcase_add_test(t, masks);
    tcase_add_test(t, plain_levels);
    tcase_add_test(t, tiles);
    tcase_add_test(t, detection);
    tcase_add_test(t, names);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    return run_suite(suite());
}
