/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference's conversions, exhaustively: every bit pattern of the small types, every point half way between two of them, and
 * its two neighbours, for which a conversion that rounds twice (through float) would be wrong.
 */
#include "ref/ref_convert.h"

#include <check.h>
#include <math.h>

#include "number.h"
#include "suite.h"

static const tenon_dtype small[] = {TENON_F16, TENON_BF16, TENON_F8_E4M3, TENON_F8_E5M2};
enum { SMALL = sizeof small / sizeof *small };

static uint32_t put(tenon_dtype dtype, double value) {
    uint16_t wide = 0xbbbb;
    uint8_t narrow = 0xbb;
    if (number_format_of(dtype).bits == 16) {
        tn_ref_put(&wide, dtype, 0, value);
        return wide;
    }
    tn_ref_put(&narrow, dtype, 0, value);
    return narrow;
}

static double get(tenon_dtype dtype, uint32_t bits) {
    const uint16_t wide = (uint16_t)bits;
    const uint8_t narrow = (uint8_t)bits;
    return number_format_of(dtype).bits == 16 ? tn_ref_get(&wide, dtype, 0)
                                              : tn_ref_get(&narrow, dtype, 0);
}

START_TEST(every_pattern) {
    const tenon_dtype dtype = small[_i];
    const number_format f = number_format_of(dtype);
    for (uint32_t bits = 0; bits < 1u << f.bits; ++bits) {
        const double expected = number_of_bits(f, bits), value = get(dtype, bits);
        if (isnan(expected)) {
            ck_assert_msg(isnan(value), "%x", bits);
            continue;
        }
        ck_assert_msg(value == expected && !signbit(value) == !signbit(expected),
                      "%x is %g, expected %g", bits, value, expected);
        if (isfinite(value))
            ck_assert_uint_eq(put(dtype, value), bits);
    }
}
END_TEST

START_TEST(every_midpoint) {
    const tenon_dtype dtype = small[_i];
    const number_format f = number_format_of(dtype);
    const uint32_t sign = 1u << (f.bits - 1);
    for (uint32_t low = 0; isfinite(number_of_bits(f, low + 1)); ++low) {
        const double a = number_of_bits(f, low), b = number_of_bits(f, low + 1),
                     half = a + (b - a) / 2;
        ck_assert_uint_eq(put(dtype, half), low + (low & 1));
        ck_assert_uint_eq(put(dtype, -half), sign | (low + (low & 1)));
        ck_assert_uint_eq(put(dtype, nextafter(half, INFINITY)), low + 1);
        ck_assert_uint_eq(put(dtype, nextafter(half, 0)), low);
        ck_assert_uint_eq(put(dtype, -nextafter(half, INFINITY)), sign | (low + 1));
    }
}
END_TEST

START_TEST(limits) {
    ck_assert_uint_eq(put(TENON_F16, 65519.999), 0x7bff);
    ck_assert_uint_eq(put(TENON_F16, 65520), 0x7c00);
    ck_assert_uint_eq(put(TENON_F16, -1e300), 0xfc00);
    ck_assert_uint_eq(put(TENON_F16, INFINITY), 0x7c00);
    ck_assert_uint_eq(put(TENON_BF16, 0x1.fefffffp127), 0x7f7f);
    ck_assert_uint_eq(put(TENON_BF16, 0x1.ffp127), 0x7f80);
    ck_assert_uint_eq(put(TENON_F8_E4M3, 464), 0x7e);
    ck_assert_uint_eq(put(TENON_F8_E4M3, 1e30), 0x7e);
    ck_assert_uint_eq(put(TENON_F8_E4M3, -INFINITY), 0xfe);
    ck_assert_uint_eq(put(TENON_F8_E5M2, 61440), 0x7b);
    ck_assert_uint_eq(put(TENON_F8_E5M2, INFINITY), 0x7b);
    for (int i = 0; i < SMALL; ++i) {
        ck_assert(isnan(get(small[i], put(small[i], NAN))));
        ck_assert_uint_eq(put(small[i], 0.0), 0);
        ck_assert_uint_eq(put(small[i], -0.0), 1u << (number_format_of(small[i]).bits - 1));
        ck_assert_uint_eq(put(small[i], 0x1p-1074), 0);
    }
}
END_TEST

START_TEST(floats) {
    float f;
    double d;
    tn_ref_put(&f, TENON_F32, 0, 1 + 0x1p-24); /* a tie, to even */
    ck_assert(f == 1);
    tn_ref_put(&f, TENON_F32, 0, 1 + 0x1p-24 + 0x1p-50);
    ck_assert(f == 1 + 0x1p-23f);
    tn_ref_put(&f, TENON_F32, 0, 0x1p-150);
    ck_assert(f == 0);
    tn_ref_put(&f, TENON_F32, 0, 0x1.000001p-150);
    ck_assert(f == 0x1p-149f);
    tn_ref_put(&f, TENON_F32, 0, 1e39);
    ck_assert(isinf(f));
    tn_ref_put(&d, TENON_F64, 0, 0.1);
    ck_assert(d == 0.1 && tn_ref_get(&d, TENON_F64, 0) == 0.1);
}
END_TEST

START_TEST(integers) {
    int8_t s8;
    uint8_t u8;
    int32_t s32;
    for (double x = -300; x <= 300; x += 0.25) {
        double nearest = floor(x + 0.5);
        if (nearest - x == 0.5 && fmod(nearest, 2) != 0)
            nearest -= 1; /* ties to even */
        tn_ref_put(&s8, TENON_S8, 0, x);
        ck_assert_int_eq(s8, (int)(nearest < -128 ? -128 : nearest > 127 ? 127 : nearest));
        tn_ref_put(&u8, TENON_U8, 0, x);
        ck_assert_int_eq(u8, (int)(nearest < 0 ? 0 : nearest > 255 ? 255 : nearest));
        tn_ref_put(&s32, TENON_S32, 0, x);
        ck_assert_int_eq(s32, (int)nearest);
    }
    tn_ref_put(&s32, TENON_S32, 0, 1e10);
    ck_assert_int_eq(s32, INT32_MAX);
    tn_ref_put(&s32, TENON_S32, 0, -INFINITY);
    ck_assert_int_eq(s32, INT32_MIN);
    tn_ref_put(&s32, TENON_S32, 0, NAN);
    ck_assert_int_eq(s32, 0);
    tn_ref_put(&s8, TENON_S8, 0, NAN);
    ck_assert_int_eq(s8, 0);
    u8 = 7;
    ck_assert(tn_ref_get(&u8, TENON_BOOL, 0) == 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reference conversions");
    TCase *tests = tcase_create("conversions");
    tcase_add_loop_test(tests, every_pattern, 0, SMALL);
    tcase_add_loop_test(tests, every_midpoint, 0, SMALL);
    tcase_add_test(tests, limits);
    tcase_add_test(tests, floats);
    tcase_add_test(tests, integers);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
