/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_standin_ptx.c: single instructions against the PTX manual, expected values computed in C by
 * other means: bit by bit, in wider integers, by searching a table of all numbers of a format.
 */
#include "snippet.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Integers. */
typedef uint32_t expect32(const uint32_t *a);
static uint32_t e_mulhi(const uint32_t *a) {
    return (uint32_t)((int64_t)(int32_t)a[0] * (int32_t)a[1] / 4294967296LL -
                      (((int64_t)(int32_t)a[0] * (int32_t)a[1]) % 4294967296LL < 0));
}
static uint32_t e_bfe_s(const uint32_t *a) { /* the manual's loop */
    uint32_t pos = a[1] & 0xff, len = a[2] & 0xff, d = 0;
    int msb = 31;
    int sbit = len == 0
                   ? 0
                   : (a[0] >> (pos + len - 1 < (uint32_t)msb ? pos + len - 1 : (uint32_t)msb)) & 1;
    for (uint32_t i = 0; i <= 31; ++i)
        d |= (uint32_t)(i < len && pos + i <= 31 ? (a[0] >> (pos + i) & 1) : (uint32_t)sbit) << i;
    return d;
}
static uint32_t e_bfe_u(const uint32_t *a) {
    uint32_t pos = a[1] & 0xff, len = a[2] & 0xff, d = 0;
    for (uint32_t i = 0; i <= 31; ++i)
        d |= (i < len && pos + i <= 31 ? (a[0] >> (pos + i) & 1) : 0) << i;
    return d;
}
static uint32_t e_bfi(const uint32_t *a) {
    uint32_t pos = a[2] & 0xff, len = a[3] & 0xff, f = a[1];
    for (uint32_t i = 0; i < len && pos + i <= 31; ++i)
        f = (f & ~(1u << (pos + i))) | (a[0] >> i & 1) << (pos + i);
    return f;
}
static uint32_t e_lop3(const uint32_t *a) { /* 0xd8 */
    uint32_t d = 0;
    for (int i = 0; i < 32; ++i)
        d |= (0xd8u >> ((a[0] >> i & 1) * 4 + (a[1] >> i & 1) * 2 + (a[2] >> i & 1)) & 1) << i;
    return d;
}
static uint32_t e_prmt(const uint32_t *a) {
    uint32_t d = 0;
    for (int i = 0; i < 4; ++i) {
        uint32_t s = a[2] >> 4 * i & 15, from = s & 7;
        uint32_t byte = (from < 4 ? a[0] >> 8 * from : a[1] >> 8 * (from - 4)) & 0xff;
        d |= (s & 8 ? (byte >= 128 ? 255u : 0u) : byte) << 8 * i;
    }
    return d;
}
static uint32_t e_shf_l(const uint32_t *a) {
    uint32_t n = a[2] & 31;
    return n ? a[1] << n | a[0] >> (32 - n) : a[1];
}
static uint32_t e_shf_rc(const uint32_t *a) {
    uint32_t n = a[2] > 32 ? 32 : a[2];
    return n == 32 ? a[1] : n ? a[1] << (32 - n) | a[0] >> n : a[0];
}
static uint32_t e_shl(const uint32_t *a) {
    return a[1] > 31 ? 0 : a[0] << a[1];
}
static uint32_t e_shr_s(const uint32_t *a) {
    uint32_t n = a[1] > 31 ? 31 : a[1], d = a[0];
    for (uint32_t i = 0; i < n; ++i)
        d = d >> 1 | (d & 0x80000000);
    return d;
}
static uint32_t e_sad(const uint32_t *a) {
    int64_t d = (int64_t)(int32_t)a[0] - (int32_t)a[1];
    return (uint32_t)(d < 0 ? -d : d) + a[2];
}
static uint32_t e_dp4a(const uint32_t *a) {
    uint32_t s = a[2];
    for (int i = 0; i < 4; ++i)
        s += (uint32_t)((int8_t)(a[0] >> 8 * i) * (int32_t)(uint8_t)(a[1] >> 8 * i));
    return s;
}
static uint32_t e_brev(const uint32_t *a) {
    uint32_t d = 0;
    for (int i = 0; i < 32; ++i)
        d |= (a[0] >> i & 1) << (31 - i);
    return d;
}
static uint32_t e_bfind(const uint32_t *a) {
    for (int i = 31; i >= 0; --i)
        if ((a[0] >> i & 1) != ((int32_t)a[0] < 0))
            return (uint32_t)i;
    return ~0u;
}
static uint32_t e_bfind_shift(const uint32_t *a) {
    const uint32_t at = e_bfind(a);
    return at == 0xffffffff ? at : 31 - at;
}
static uint32_t e_clz(const uint32_t *a) {
    uint32_t n = 0;
    while (n < 32 && !(a[0] >> (31 - n) & 1))
        ++n;
    return n;
}
static uint32_t e_popc(const uint32_t *a) {
    uint32_t n = 0;
    for (uint32_t x = a[0]; x; x &= x - 1)
        ++n;
    return n;
}
static uint32_t e_mad16(const uint32_t *a) {
    return (uint32_t)((int64_t)(int16_t)a[0] * (int16_t)a[1]) + a[2];
}
static uint32_t e_carry(const uint32_t *a) { /* the upper word of a 64-bit sum */
    return (uint32_t)(((((uint64_t)a[1] << 32) | a[0]) + (((uint64_t)a[3] << 32) | a[2])) >> 32);
}
static uint32_t e_mulwide(const uint32_t *a) {
    return (uint32_t)(((int64_t)(int32_t)a[0] * (int32_t)a[1]) >> 32);
}
static uint32_t e_mul64hi(const uint32_t *a) {
    uint64_t x = (uint64_t)a[1] << 32 | a[0], y = (uint64_t)a[3] << 32 | a[2];
    uint64_t lo = (x & 0xffffffff) * (y & 0xffffffff), m1 = (x >> 32) * (y & 0xffffffff),
             m2 = (x & 0xffffffff) * (y >> 32), hi = (x >> 32) * (y >> 32);
    uint64_t mid = (lo >> 32) + (m1 & 0xffffffff) + (m2 & 0xffffffff);
    return (uint32_t)(hi + (m1 >> 32) + (m2 >> 32) + (mid >> 32));
}
static uint32_t e_bfi64(const uint32_t *a) { /* the upper word */
    uint64_t f = (uint64_t)a[3] << 32 | a[2], x = (uint64_t)a[1] << 32 | a[0];
    uint32_t pos = a[4] & 0xff, len = a[5] & 0xff;
    for (uint32_t i = 0; i < len && pos + i <= 63; ++i)
        f = (f & ~(1ull << (pos + i))) | (i < 64 ? x >> i & 1 : 0) << (pos + i);
    return (uint32_t)(f >> 32);
}
static uint32_t e_bfe64(const uint32_t *a) { /* the upper word */
    uint64_t x = (uint64_t)a[1] << 32 | a[0], d = 0;
    uint32_t pos = a[2] & 0xff, len = a[3] & 0xff;
    uint64_t sign = len == 0 ? 0 : x >> (pos + len - 1 < 63 ? pos + len - 1 : 63) & 1;
    for (uint32_t i = 0; i <= 63; ++i)
        d |= (i < len && pos + i <= 63 ? x >> (pos + i) & 1 : sign) << i;
    return (uint32_t)(d >> 32);
}
static uint32_t e_pack_sat(const uint32_t *a) {
    int32_t x = (int32_t)a[0], y = (int32_t)a[1];
    x = x > 127 ? 127 : x < -128 ? -128 : x;
    y = y > 127 ? 127 : y < -128 ? -128 : y;
    return (uint32_t)(x & 255) << 8 | (uint32_t)(y & 255) | a[2] << 16;
}
static uint32_t e_setp(const uint32_t *a) {
    return ((int32_t)a[0] < (int32_t)a[1] && a[2] >= a[3]) ? 5 : 9;
}
static uint32_t e_slct(const uint32_t *a) {
    return (int32_t)a[2] >= 0 ? a[0] : a[1];
}
static uint32_t e_cvt_s8(const uint32_t *a) {
    return (uint32_t)(int32_t)(int8_t)a[0];
}
static uint32_t e_f2i(const uint32_t *a) { /* toward zero, ends and NaN by the manual */
    float f = as_float(a[0]);
    if (f != f)
        return 0;
    if (f >= 2147483648.0f)
        return 0x7fffffff;
    if (f < -2147483648.0f)
        return 0x80000000;
    return (uint32_t)(int32_t)f;
}

START_TEST(integers) {
    static const struct {
        const char *snippet;
        expect32 *expect;
    } rows[] = {
        {"mul.hi.s32 %d0, %a0, %a1;", e_mulhi},
        {"bfe.s32 %d0, %a0, %a1, %a2;", e_bfe_s},
        {"bfe.u32 %d0, %a0, %a1, %a2;", e_bfe_u},
        {"bfi.b32 %d0, %a0, %a1, %a2, %a3;", e_bfi},
        {"lop3.b32 %d0, %a0, %a1, %a2, 0xd8;", e_lop3},
        {"prmt.b32 %d0, %a0, %a1, %a2;", e_prmt},
        {"shf.l.wrap.b32 %d0, %a0, %a1, %a2;", e_shf_l},
        {"shf.r.clamp.b32 %d0, %a0, %a1, %a2;", e_shf_rc},
        {"shl.b32 %d0, %a0, %a1;", e_shl},
        {"shr.s32 %d0, %a0, %a1;", e_shr_s},
        {"sad.s32 %d0, %a0, %a1, %a2;", e_sad},
        {"dp4a.s32.u32 %d0, %a0, %a1, %a2;", e_dp4a},
        {"brev.b32 %d0, %a0;", e_brev},
        {"bfind.s32 %d0, %a0;", e_bfind},
        {"bfind.shiftamt.s32 %d0, %a0;", e_bfind_shift},
        {"clz.b32 %d0, %a0;", e_clz},
        {"popc.b32 %d0, %a0;", e_popc},
        {"{ .reg .b16 s, t; mov.b32 {s, _}, %a0; cvt.u16.u32 t, %a1; mad.wide.s16 %d0, s, t, %a2; "
         "}",
         e_mad16},
        {"add.cc.u32 %t1, %a0, %a2; addc.u32 %d0, %a1, %a3;", e_carry},
        {"mul.wide.s32 %y0, %a0, %a1; mov.b64 {_, %d0}, %y0;", e_mulwide},
        {"mul.hi.u64 %y0, %x0, %x1; cvt.u32.u64 %d0, %y0;", e_mul64hi},
        {"bfi.b64 %y0, %x0, %x1, %a4, %a5; mov.b64 {_, %d0}, %y0;", e_bfi64},
        {"bfe.s64 %y0, %x0, %a2, %a3; mov.b64 {_, %d0}, %y0;", e_bfe64},
        {"cvt.pack.sat.s8.s32.b32 %d0, %a0, %a1, %a2;", e_pack_sat},
        {"setp.ge.u32 %q1, %a2, %a3; setp.lt.and.s32 %q0, %a0, %a1, %q1; selp.u32 %d0, 5, 9, %q0;",
         e_setp},
        {"slct.u32.s32 %d0, %a0, %a1, %a2;", e_slct},
        {"cvt.s32.s8 %d0, %a0;", e_cvt_s8},
        {"cvt.rzi.s32.f32 %d0, %a0;", e_f2i},
    };
    rng r = rng_start("integers");
    cuda_start(80, 1);
    for (size_t t = 0; t < sizeof rows / sizeof *rows; ++t)
        for (int round = 0; round < ROUNDS; ++round) {
            io in, out;
            snippet_fill(&in, &r);
            snippet_run(80, rows[t].snippet, &in, &out);
            for (int l = 0; l < LANES; ++l)
                ck_assert_msg(out.w[l][0] == rows[t].expect(in.w[l]),
                              "%s of %08x %08x %08x %08x: %08x, not %08x", rows[t].snippet,
                              in.w[l][0], in.w[l][1], in.w[l][2], in.w[l][3], out.w[l][0],
                              rows[t].expect(in.w[l]));
        }
    cuda_expect_clean();
}
END_TEST

static float random_float(rng *r, int low, int high) {
    float f = ldexpf(1 + (float)rng_unit(r), (int)rng_between(r, low, high));
    uint32_t x = of_float(rng_u64(r) & 1 ? f : -f);
    if (rng_below(r, 3) == 0)
        x &= 0xfffff000; /* ties */
    if (rng_below(r, 6) == 0)
        x &= 0xffff8000;
    return as_float(x);
}

static void check_format(const char *snippet, int arch, format f, bool finite, int shift, int low,
                         int high, rng *r) {
    static const uint32_t corners[] = {0,          0x80000000, 0x7f800000, 0xff800000,
                                       0x7fc00000, 0x00000001, 0x7f7fffff, 0x477fe000,
                                       0x477fefff, 0x477ff000, 0x43e00000, 0x43e80000};
    uint32_t mask = (2u << (f.exponent + f.mantissa)) - 1;
    for (int round = 0; round < ROUNDS; ++round) {
        io in = {0}, out;
        for (int l = 0; l < LANES; ++l)
            in.w[l][0] = round == 0 && l < 12 ? corners[l] : of_float(random_float(r, low, high));
        snippet_run(arch, snippet, &in, &out);
        for (int l = 0; l < LANES; ++l) {
            uint32_t got = out.w[l][0] >> shift & mask,
                     want = format_nearest(f, as_float(in.w[l][0]), finite);
            if (want == UINT32_MAX)
                ck_assert_msg(isnan(format_number(f, got)), "%s of NaN: %x", snippet, got);
            else
                ck_assert_msg(got == want, "%s of %a: %x, not %x", snippet, as_float(in.w[l][0]),
                              got, want);
        }
    }
}

START_TEST(conversions) {
    rng r = rng_start("conversions");
    cuda_start(89, 1);
    check_format("{ .reg .b16 h; cvt.rn.f16.f32 h, %a0; cvt.u32.u16 %d0, h; }", 80, f16, false, 0,
                 -27, 17, &r);
    check_format("cvt.rn.f16x2.f32 %d0, %a0, %a0;", 80, f16, false, 16, -27, 17, &r);
    check_format("cvt.rn.bf16x2.f32 %d0, %a0, %a1;", 80, bf16, false, 16, -100, 100, &r);
    check_format("{ .reg .b16 h; cvt.rn.bf16.f32 h, %a0; cvt.u32.u16 %d0, h; }", 80, bf16, false, 0,
                 -20, 127, &r);
    check_format("{ .reg .b16 h; cvt.rn.satfinite.e4m3x2.f32 h, %a0, %a1; cvt.u32.u16 %d0, h; }",
                 89, e4m3, true, 8, -12, 10, &r);
    check_format("{ .reg .b16 h; cvt.rn.satfinite.e5m2x2.f32 h, %a1, %a0; cvt.u32.u16 %d0, h; }",
                 89, e5m2, true, 0, -19, 17, &r);
    /* and back: every number of the format */
    for (int part = 0; part < 8; ++part) {
        io in = {0}, out;
        for (int l = 0; l < LANES; ++l)
            in.w[l][0] = (uint32_t)(part * 32 + l) * 0x101;
        snippet_run(89,
                    "{ .reg .b16 h, i, j; cvt.u16.u32 h, %a0; cvt.rn.f16x2.e4m3x2 %t1, h; mov.b32 "
                    "{i, j}, %t1;"
                    " cvt.f32.f16 %d0, i; cvt.f32.f16 %d1, j; cvt.rn.f16x2.e5m2x2 %t1, h; mov.b32 "
                    "{i, j}, %t1;"
                    " cvt.f32.f16 %d2, j; }",
                    &in, &out);
        for (int l = 0; l < LANES; ++l) {
            double want = format_number(e4m3, in.w[l][0] & 255),
                   other = format_number(e5m2, in.w[l][0] & 255);
            for (int n = 0; n < 2; ++n)
                ck_assert(as_float(out.w[l][n]) == want ||
                          (want != want && isnan(as_float(out.w[l][n]))));
            ck_assert(as_float(out.w[l][2]) == other ||
                      (other != other && isnan(as_float(out.w[l][2]))));
        }
    }
    /* tf32: a multiple of the 11th significant bit; ties away from zero */
    for (int round = 0; round < ROUNDS; ++round) {
        io in = {0}, out;
        for (int l = 0; l < LANES; ++l)
            in.w[l][0] = of_float(random_float(&r, -60, 60));
        snippet_run(80, "cvt.rna.tf32.f32 %d0, %a0;", &in, &out);
        for (int l = 0; l < LANES; ++l) {
            int e;
            double x = as_float(in.w[l][0]), f = frexp(x, &e);
            ck_assert_float_eq(as_float(out.w[l][0]),
                               (float)ldexp((double)lround(ldexp(f, 11)), e - 11));
        }
    }
    cuda_expect_clean();
}
END_TEST

START_TEST(floats) {
    rng r = rng_start("floats");
    cuda_start(80, 1);
    for (int round = 0; round < ROUNDS; ++round) {
        io in = {0}, out;
        for (int l = 0; l < LANES; ++l)
            for (int n = 0; n < 3; ++n)
                in.w[l][n] = of_float(random_float(&r, -8, 8));
        snippet_run(
            80,
            "fma.rn.f32 %d0, %a0, %a1, %a2; add.rz.f32 %d1, %a0, %a1; mul.rp.f32 %d2, %a0, %a1;"
            "ex2.approx.f32 %d3, %a0; rcp.approx.ftz.f32 %d4, %a0; lg2.approx.f32 %d5, %a1;"
            "add.sat.f32 %d6, %a0, %a2; div.full.f32 %d7, %a0, %a1;",
            &in, &out);
        for (int l = 0; l < LANES; ++l) {
            const uint32_t *o = out.w[l];
            float a = as_float(in.w[l][0]), b = as_float(in.w[l][1]), c = as_float(in.w[l][2]);
            /* 24-bit factors: exact in 53 bits; the sum spans less than 64: exact in 80-bit floats */
            ck_assert_float_eq(as_float(o[0]), (float)((long double)a * b + c));
            double sum = (double)a + b, product = (double)a * b;
            float toward = (float)sum;
            if (fabs((double)toward) > fabs(sum))
                toward = nextafterf(toward, 0);
            ck_assert_float_eq(as_float(o[1]), toward);
            float upward = (float)product;
            if ((double)upward < product)
                upward = nextafterf(upward, INFINITY);
            ck_assert_float_eq(as_float(o[2]), upward);
            if (fabsf(a) < 120) /* a normal number */
                ck_assert(fabs(as_float(o[3]) - exp2((double)a)) <= 0x1p-22 * exp2((double)a));
            ck_assert(fabs(as_float(o[4]) - 1.0 / a) <= 0x1p-23 * fabs(1.0 / a));
            double lg = b > 0 ? log2(b) : NAN;
            ck_assert(b < 0 ? isnan(as_float(o[5]))
                            : fabs(as_float(o[5]) - lg) <= 0x1p-22 * fmax(1, fabs(lg)));
            ck_assert_float_eq(as_float(o[6]), fminf(fmaxf(a + c, 0), 1));
            ck_assert(fabs(as_float(o[7]) - (double)a / b) <= 0x1p-22 * fabs((double)a / b));
        }
    }
    /* min and max: numbers win over NaN, or not, and -0 < +0 */
    io in = {0}, out;
    static const uint32_t pairs[][2] = {{0x7fc00000, 0x3f800000},
                                        {0x3f800000, 0x7fc00000},
                                        {0x80000000, 0},
                                        {0, 0x80000000},
                                        {0x7fc00000, 0x7fc00001}};
    for (int l = 0; l < 5; ++l)
        memcpy(in.w[l], pairs[l], 8);
    snippet_run(80, "min.f32 %d0, %a0, %a1; max.f32 %d1, %a0, %a1; min.NaN.f32 %d2, %a0, %a1;", &in,
                &out);
    static const uint32_t expected[][3] = {{0x3f800000, 0x3f800000, 0x7fffffff},
                                           {0x3f800000, 0x3f800000, 0x7fffffff},
                                           {0x80000000, 0, 0x80000000},
                                           {0x80000000, 0, 0x80000000},
                                           {0x7fffffff, 0x7fffffff, 0x7fffffff}};
    for (int l = 0; l < 5; ++l)
        for (int n = 0; n < 3; ++n)
            ck_assert_msg(out.w[l][n] == expected[l][n], "pair %d, result %d: %x", l, n,
                          out.w[l][n]);
    cuda_expect_clean();
}
END_TEST

START_TEST(halves) {
    rng r = rng_start("halves");
    cuda_start(80, 1);
    for (int round = 0; round < ROUNDS; ++round) {
        io in = {0}, out;
        for (int l = 0; l < LANES; ++l)
            for (int n = 0; n < 3; ++n)
                in.w[l][n] = (uint32_t)rng_u64(&r) & 0xbfffbfff; /* f16 below 2, bf16 below 2 too */
        snippet_run(
            80,
            "fma.rn.f16x2 %d0, %a0, %a1, %a2; add.rn.f16x2 %d1, %a0, %a1; mul.rn.f16x2 %d2, %a0, "
            "%a1;"
            "fma.rn.bf16x2 %d3, %a0, %a1, %a2; max.f16x2 %d4, %a0, %a1; neg.f16x2 %d5, %a0;",
            &in, &out);
        for (int l = 0; l < LANES; ++l)
            for (int h = 0; h < 2; ++h) {
                double a = format_number(f16, in.w[l][0] >> 16 * h & 0xffff),
                       b = format_number(f16, in.w[l][1] >> 16 * h & 0xffff),
                       c = format_number(f16, in.w[l][2] >> 16 * h & 0xffff);
                ck_assert_uint_eq(out.w[l][0] >> 16 * h & 0xffff,
                                  format_nearest(f16, a * b + c, false));
                ck_assert_uint_eq(out.w[l][1] >> 16 * h & 0xffff,
                                  format_nearest(f16, a + b, false));
                ck_assert_uint_eq(out.w[l][2] >> 16 * h & 0xffff,
                                  format_nearest(f16, a * b, false));
                ck_assert(format_number(f16, out.w[l][4] >> 16 * h & 0xffff) == fmax(a, b));
                ck_assert(format_number(f16, out.w[l][5] >> 16 * h & 0xffff) == -a);
                a = format_number(bf16, in.w[l][0] >> 16 * h & 0xffff);
                b = format_number(bf16, in.w[l][1] >> 16 * h & 0xffff);
                c = format_number(bf16, in.w[l][2] >> 16 * h & 0xffff);
                if (fabs(c) > 1e-9 && fabs(a * b) > 1e-9) /* else the sum isn't exact in double */
                    ck_assert_uint_eq(out.w[l][3] >> 16 * h & 0xffff,
                                      format_nearest(bf16, a * b + c, false));
            }
    }
    cuda_expect_clean();
}
END_TEST

START_TEST(lanes) {
    rng r = rng_start("lanes");
    cuda_start(80, 1);
    io in, out;
    snippet_fill(&in, &r);
    for (int l = 0; l < LANES; ++l)
        in.w[l][1] = (uint32_t)rng_below(&r, 32);
    /* widths 32 and 8 as the CUDA manual says what __shfl_*_sync do */
    snippet_run(
        80,
        "shfl.sync.idx.b32 %d0, %a0, %a1, 0x1f, -1; shfl.sync.up.b32 %d1, %a0, 3, 0x1800, -1;"
        "shfl.sync.down.b32 %d2|%q0, %a0, 5, 0x181f, -1; selp.u32 %d3, 1, 0, %q0;"
        "shfl.sync.bfly.b32 %d4, %a0, 6, 0x1f, -1; setp.lt.s32 %q1, %a0, 0;"
        "vote.sync.ballot.b32 %d5, %q1, -1; redux.sync.add.s32 %d6, %a0, -1;"
        "match.any.sync.b32 %d7, %a1, -1;",
        &in, &out);
    uint32_t sum = 0, negative = 0;
    for (int l = 0; l < LANES; ++l) {
        sum += in.w[l][0];
        negative |= (uint32_t)((int32_t)in.w[l][0] < 0) << l;
    }
    for (int l = 0; l < LANES; ++l) {
        const uint32_t *o = out.w[l];
        uint32_t same = 0;
        for (int k = 0; k < LANES; ++k)
            same |= (uint32_t)(in.w[k][1] == in.w[l][1]) << k;
        ck_assert_uint_eq(o[0], in.w[in.w[l][1]][0]);
        ck_assert_uint_eq(o[1], in.w[l % 8 >= 3 ? l - 3 : l][0]);
        ck_assert_uint_eq(o[2], in.w[l % 8 + 5 < 8 ? l + 5 : l][0]);
        ck_assert_uint_eq(o[3], l % 8 + 5 < 8);
        ck_assert_uint_eq(o[4], in.w[l ^ 6][0]);
        ck_assert_uint_eq(o[5], negative);
        ck_assert_uint_eq(o[6], sum);
        ck_assert_uint_eq(o[7], same);
    }
    cuda_expect_clean();
}
END_TEST

/* %t2 is written in the first turn of a loop and read in all, in text before others that the loop
 * writes: it must keep its place. */
START_TEST(lives) {
    rng r = rng_start("lives");
    cuda_start(80, 1);
    io in, out;
    snippet_fill(&in, &r);
    snippet_run(80,
                "mov.u32 %t1, 0; $LOOP: setp.eq.u32 %q0, %t1, 0; @!%q0 bra $READ;"
                "add.u32 %t2, %a0, 5; $READ: add.u32 %d0, %d0, %t2; add.u32 %t3, %a1, %t1;"
                "xor.b32 %t4, %t3, 85; add.u32 %d1, %d1, %t4; add.u32 %t1, %t1, 1;"
                "setp.lt.u32 %q1, %t1, 3; @%q1 bra $LOOP;",
                &in, &out);
    for (int l = 0; l < LANES; ++l) {
        uint32_t sum = 0;
        for (uint32_t turn = 0; turn < 3; ++turn)
            sum += (in.w[l][1] + turn) ^ 85;
        ck_assert_uint_eq(out.w[l][0], 3 * (in.w[l][0] + 5));
        ck_assert_uint_eq(out.w[l][1], sum);
    }
    cuda_expect_clean();
}
END_TEST

static Suite *ptx_suite(void) {
    Suite *s = suite_create("standin_ptx");
    TCase *c = tcase_create("ptx");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, integers);
    tcase_add_test(c, conversions);
    tcase_add_test(c, floats);
    tcase_add_test(c, halves);
    tcase_add_test(c, lanes);
    tcase_add_test(c, lives);
    suite_add_tcase(s, c);
    return s;
}

int main(void) {
    return run_suite(ptx_suite());
}
