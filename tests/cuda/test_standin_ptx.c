/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_standin_ptx.c: single instructions against the PTX manual, expected values computed in C by
 * other means: bit by bit, in wider integers, by searching a table of all numbers of a format.
 *
 * A snippet works on registers %a0… (32-bit inputs of the lane), %x0… (pairs of them as 64 bits)
 * and leaves %d0… and %y0….
 */
#include "cuda_test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WORDS = 8, ROUNDS = 8, LANES = 32 };
typedef struct io {
    uint32_t w[LANES][WORDS];
} io;

/* Runs a snippet on one warp. */
static void run_snippet(int arch, const char *snippet, const io *in, io *out) {
    static char text[32768];
    snprintf(text, sizeof text,
             ".version 8.7\n.target sm_%d\n.address_size 64\n"
             ".visible .entry snippet(.param .u64 in, .param .u64 out)\n{\n"
             ".reg .b32 %%a<8>, %%d<8>, %%t<16>;\n.reg .b64 %%x<4>, %%y<4>, %%p<4>;\n"
             ".reg .pred %%q<8>;\n.reg .b16 %%h<16>;\n.shared .align 16 .b8 tile[1024];\n"
             "ld.param.u64 %%p0, [in];\nld.param.u64 %%p1, [out];\nmov.u32 %%t0, %%tid.x;\n"
             "mul.wide.u32 %%p2, %%t0, 32;\nadd.u64 %%p0, %%p0, %%p2;\nadd.u64 %%p1, %%p1, %%p2;\n"
             "ld.global.v4.u32 {%%a0,%%a1,%%a2,%%a3}, [%%p0];\n"
             "ld.global.v4.u32 {%%a4,%%a5,%%a6,%%a7}, [%%p0+16];\n"
             "mov.b64 %%x0, {%%a0,%%a1};\nmov.b64 %%x1, {%%a2,%%a3};\nmov.b64 %%x2, {%%a4,%%a5};\n"
             "mov.b64 %%x3, {%%a6,%%a7};\n"
             "mov.u32 %%d0, 0;\nmov.u32 %%d1, 0;\nmov.u32 %%d2, 0;\nmov.u32 %%d3, 0;\n"
             "mov.u32 %%d4, 0;\nmov.u32 %%d5, 0;\nmov.u32 %%d6, 0;\nmov.u32 %%d7, 0;\n"
             "mov.u64 %%y0, 0;\nmov.u64 %%y1, 0;\n"
             "%s\n"
             "st.global.v4.u32 [%%p1], {%%d0,%%d1,%%d2,%%d3};\n"
             "st.global.v4.u32 [%%p1+16], {%%d4,%%d5,%%d6,%%d7};\nret;\n}\n",
             arch, snippet);
    CUfunction f = cuda_function(cuda_ptx(text), "snippet");
    CUdeviceptr di = cuda_upload(in, sizeof *in), dout = cuda_zeros(sizeof *out);
    CU(cuda_run(f, 1, 1, 32, 0, (void *[]){&di, &dout}));
    cuda_download(out, dout, sizeof *out);
    CU(cuMemFree(di));
    CU(cuMemFree(dout));
}

static float as_float(uint32_t x) {
    float f;
    memcpy(&f, &x, 4);
    return f;
}
static uint32_t of_float(float f) {
    uint32_t x;
    memcpy(&x, &f, 4);
    return x;
}

/* Random bits, with corner values mixed in. */
static void fill(io *in, rng *r) {
    static const uint32_t corners[] = {0,  1,  0xffffffff, 0x80000000, 0x7fffffff,
                                       31, 32, 33,         8,          255};
    for (int l = 0; l < LANES; ++l)
        for (int n = 0; n < WORDS; ++n)
            in->w[l][n] = rng_below(r, 4) == 0 ? corners[rng_below(r, 10)] : (uint32_t)rng_u64(r);
}

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
            fill(&in, &r);
            run_snippet(80, rows[t].snippet, &in, &out);
            for (int l = 0; l < LANES; ++l)
                ck_assert_msg(out.w[l][0] == rows[t].expect(in.w[l]),
                              "%s of %08x %08x %08x %08x: %08x, not %08x", rows[t].snippet,
                              in.w[l][0], in.w[l][1], in.w[l][2], in.w[l][3], out.w[l][0],
                              rows[t].expect(in.w[l]));
        }
    cuda_expect_clean();
}
END_TEST

/* Formats: all numbers of one, as doubles, by its definition. */
typedef struct format {
    int exponent, mantissa, bias;
    bool infinities; /* else: the top exponent holds numbers, but all ones is NaN (e4m3) */
} format;
static const format f16 = {5, 10, 15, true}, bf16 = {8, 7, 127, true}, e4m3 = {4, 3, 7, false},
                    e5m2 = {5, 2, 15, true};

static double number(format f, uint32_t bits) {
    uint32_t e = bits >> f.mantissa & ((1u << f.exponent) - 1), m = bits & ((1u << f.mantissa) - 1);
    double sign = bits >> (f.exponent + f.mantissa) & 1 ? -1 : 1;
    if (e == (1u << f.exponent) - 1 && (f.infinities || m == (1u << f.mantissa) - 1))
        return f.infinities && m == 0 ? sign * INFINITY : NAN;
    return sign * (e ? ldexp(1 + ldexp(m, -f.mantissa), (int)e - f.bias)
                     : ldexp(m, 1 - f.bias - f.mantissa));
}

/* The nearest number, ties to the even one; finite: never beyond the largest. */
static uint32_t nearest(format f, double x, bool finite) {
    uint32_t sign = signbit(x) ? 1u << (f.exponent + f.mantissa) : 0, best = 0;
    double ax = fabs(x), top = 0;
    uint32_t largest = 0;
    if (x != x)
        return UINT32_MAX;
    for (uint32_t b = 0; b < 1u << (f.exponent + f.mantissa); ++b) {
        double v = number(f, b);
        if (!isfinite(v))
            continue;
        if (v > top) {
            top = v;
            largest = b;
        }
        double d = fabs(v - ax), e = fabs(number(f, best) - ax);
        if (d < e || (d == e && b % 2 == 0))
            best = b;
    }
    /* half a step above the largest is where infinity begins */
    double step = top - number(f, largest - 1);
    if (ax >= top + step / 2)
        return sign | (finite ? largest : largest + 1);
    return sign | best;
}

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
        run_snippet(arch, snippet, &in, &out);
        for (int l = 0; l < LANES; ++l) {
            uint32_t got = out.w[l][0] >> shift & mask,
                     want = nearest(f, as_float(in.w[l][0]), finite);
            if (want == UINT32_MAX)
                ck_assert_msg(isnan(number(f, got)), "%s of NaN: %x", snippet, got);
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
        run_snippet(89,
                    "{ .reg .b16 h, i, j; cvt.u16.u32 h, %a0; cvt.rn.f16x2.e4m3x2 %t1, h; mov.b32 "
                    "{i, j}, %t1;"
                    " cvt.f32.f16 %d0, i; cvt.f32.f16 %d1, j; cvt.rn.f16x2.e5m2x2 %t1, h; mov.b32 "
                    "{i, j}, %t1;"
                    " cvt.f32.f16 %d2, j; }",
                    &in, &out);
        for (int l = 0; l < LANES; ++l) {
            double want = number(e4m3, in.w[l][0] & 255), other = number(e5m2, in.w[l][0] & 255);
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
        run_snippet(80, "cvt.rna.tf32.f32 %d0, %a0;", &in, &out);
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
        run_snippet(
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
    run_snippet(80, "min.f32 %d0, %a0, %a1; max.f32 %d1, %a0, %a1; min.NaN.f32 %d2, %a0, %a1;", &in,
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
        run_snippet(
            80,
            "fma.rn.f16x2 %d0, %a0, %a1, %a2; add.rn.f16x2 %d1, %a0, %a1; mul.rn.f16x2 %d2, %a0, "
            "%a1;"
            "fma.rn.bf16x2 %d3, %a0, %a1, %a2; max.f16x2 %d4, %a0, %a1; neg.f16x2 %d5, %a0;",
            &in, &out);
        for (int l = 0; l < LANES; ++l)
            for (int h = 0; h < 2; ++h) {
                double a = number(f16, in.w[l][0] >> 16 * h & 0xffff),
                       b = number(f16, in.w[l][1] >> 16 * h & 0xffff),
                       c = number(f16, in.w[l][2] >> 16 * h & 0xffff);
                ck_assert_uint_eq(out.w[l][0] >> 16 * h & 0xffff, nearest(f16, a * b + c, false));
                ck_assert_uint_eq(out.w[l][1] >> 16 * h & 0xffff, nearest(f16, a + b, false));
                ck_assert_uint_eq(out.w[l][2] >> 16 * h & 0xffff, nearest(f16, a * b, false));
                ck_assert(number(f16, out.w[l][4] >> 16 * h & 0xffff) == fmax(a, b));
                ck_assert(number(f16, out.w[l][5] >> 16 * h & 0xffff) == -a);
                a = number(bf16, in.w[l][0] >> 16 * h & 0xffff);
                b = number(bf16, in.w[l][1] >> 16 * h & 0xffff);
                c = number(bf16, in.w[l][2] >> 16 * h & 0xffff);
                if (fabs(c) > 1e-9 && fabs(a * b) > 1e-9) /* else the sum isn't exact in double */
                    ck_assert_uint_eq(out.w[l][3] >> 16 * h & 0xffff,
                                      nearest(bf16, a * b + c, false));
            }
    }
    cuda_expect_clean();
}
END_TEST

START_TEST(lanes) {
    rng r = rng_start("lanes");
    cuda_start(80, 1);
    io in, out;
    fill(&in, &r);
    for (int l = 0; l < LANES; ++l)
        in.w[l][1] = (uint32_t)rng_below(&r, 32);
    /* widths 32 and 8 as the CUDA manual says what __shfl_*_sync do */
    run_snippet(
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

/* Fragments, by the formulas of the manual's sections for each shape. */
typedef struct shape {
    const char *types; /* as in the opcode */
    int arch, m, k, bits;
} shape;

static int rows_of_a(const shape *s, int lane, int i) { /* element i of A's registers */
    int e = 32 / s->bits, reg = i / e;
    return lane / 4 + (s->m == 16 && reg % 2 ? 8 : 0);
}
static int column_of_a(const shape *s, int lane, int i) {
    int e = 32 / s->bits, reg = i / e, half = s->m == 16 ? reg / 2 : reg;
    return lane % 4 * e + i % e + half * 4 * e;
}

START_TEST(fragments) {
    static const shape shapes[] = {
        {"m16n8k16.row.col.f32.f16.f16.f32", 80, 16, 16, 16},
        {"m16n8k8.row.col.f32.f16.f16.f32", 80, 16, 8, 16},
        {"m16n8k16.row.col.f32.bf16.bf16.f32", 80, 16, 16, 16},
        {"m16n8k8.row.col.f32.tf32.tf32.f32", 80, 16, 8, 32},
        {"m16n8k4.row.col.f32.tf32.tf32.f32", 80, 16, 4, 32},
        {"m16n8k32.row.col.s32.s8.s8.s32", 80, 16, 32, 8},
        {"m16n8k16.row.col.s32.s8.s8.s32", 80, 16, 16, 8},
        {"m8n8k16.row.col.s32.s8.s8.s32", 80, 8, 16, 8},
        {"m16n8k32.row.col.f32.e4m3.e4m3.f32", 89, 16, 32, 8},
        {"m16n8k32.row.col.f32.e5m2.e5m2.f32", 89, 16, 32, 8},
    };
    rng r = rng_start("fragments");
    cuda_start(89, 1);
    for (size_t t = 0; t < sizeof shapes / sizeof *shapes; ++t) {
        const shape *s = &shapes[t];
        int regs_a = s->m * s->k * s->bits / 32 / 32, regs_b = 8 * s->k * s->bits / 32 / 32,
            e = 32 / s->bits;
        int a[16][64], b[64][8], c[16][8];
        for (int i = 0; i < s->m; ++i)
            for (int p = 0; p < s->k; ++p)
                a[i][p] = (int)rng_between(&r, -4, 4);
        for (int p = 0; p < s->k; ++p)
            for (int j = 0; j < 8; ++j)
                b[p][j] = (int)rng_between(&r, -4, 4);
        for (int i = 0; i < s->m; ++i)
            for (int j = 0; j < 8; ++j)
                c[i][j] = (int)rng_between(&r, -9, 9);
        io ab = {0}, cd = {0}, out;
        bool ints = strstr(s->types, "s32") != NULL;
        format f = strstr(s->types, "e4m3")   ? e4m3
                   : strstr(s->types, "e5m2") ? e5m2
                   : strstr(s->types, "bf16") ? bf16
                                              : f16;
        for (int l = 0; l < LANES; ++l) {
            for (int i = 0; i < regs_a * e; ++i) {
                int v = a[rows_of_a(s, l, i)][column_of_a(s, l, i)];
                uint32_t bits = ints            ? (uint32_t)v & 255
                                : s->bits == 32 ? of_float((float)v)
                                                : nearest(f, v, false);
                ab.w[l][i / e] |= bits << i % e * s->bits;
            }
            for (int i = 0; i < regs_b * e; ++i) {
                int v = b[l % 4 * e + i % e + i / e * 4 * e][l / 4];
                uint32_t bits = ints            ? (uint32_t)v & 255
                                : s->bits == 32 ? of_float((float)v)
                                                : nearest(f, v, false);
                ab.w[l][4 + i / e] |= bits << i % e * s->bits;
            }
            for (int i = 0; i < s->m / 4; ++i) {
                int v = c[l / 4 + (i >= 2 ? 8 : 0)][l % 4 * 2 + i % 2];
                cd.w[l][i] = ints ? (uint32_t)v : of_float((float)v);
            }
        }
        /* C is of the same numbers for all: given as immediates of the lane through memory */
        char snippet[1024], ra[64] = "", rb[64] = "", rd[64] = "", rc[64] = "";
        for (int i = 0; i < regs_a; ++i)
            sprintf(ra + strlen(ra), "%s%%a%d", i ? "," : "", i);
        for (int i = 0; i < regs_b; ++i)
            sprintf(rb + strlen(rb), "%s%%a%d", i ? "," : "", 4 + i);
        for (int i = 0; i < s->m / 4; ++i) {
            sprintf(rd + strlen(rd), "%s%%d%d", i ? "," : "", i);
            sprintf(rc + strlen(rc), "%s%%t%d", i ? "," : "", 4 + i);
        }
        CUdeviceptr dc = cuda_upload(&cd, sizeof cd);
        snprintf(snippet, sizeof snippet,
                 "mov.u64 %%p3, 0x%llx; add.u64 %%p3, %%p3, %%p2; ld.global.v4.u32 "
                 "{%%t4,%%t5,%%t6,%%t7}, [%%p3];"
                 "mma.sync.aligned.%s {%s}, {%s}, {%s}, {%s};",
                 (unsigned long long)dc, s->types, rd, ra, rb, rc);
        run_snippet(s->arch, snippet, &ab, &out);
        for (int l = 0; l < LANES; ++l)
            for (int i = 0; i < s->m / 4; ++i) {
                int row = l / 4 + (i >= 2 ? 8 : 0), col = l % 4 * 2 + i % 2, want = c[row][col];
                for (int p = 0; p < s->k; ++p)
                    want += a[row][p] * b[p][col];
                double got = ints ? (int32_t)out.w[l][i] : as_float(out.w[l][i]);
                ck_assert_msg(got == want, "%s: d[%d][%d] is %g, not %d", s->types, row, col, got,
                              want);
            }
    }
    cuda_expect_clean();
}
END_TEST

START_TEST(matrices) {
    rng r = rng_start("matrices");
    cuda_start(90, 1);
    io in, out;
    fill(&in, &r);
    /* lane l writes row l of 16 bytes; four 8x8 matrices */
    run_snippet(90,
                "shl.b32 %t1, %t0, 4; mov.u32 %t2, tile; add.u32 %t1, %t1, %t2;"
                "st.shared.v4.u32 [%t1], {%a0,%a1,%a2,%a3}; bar.sync 0;"
                "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%d0,%d1,%d2,%d3}, [%t1];"
                "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%d4,%d5,%d6,%d7}, [%t1];",
                &in, &out);
    for (int l = 0; l < LANES; ++l)
        for (int m = 0; m < 4; ++m) {
            const uint16_t *row = (const uint16_t *)in.w[8 * m + l / 4];
            uint32_t plain = row[l % 4 * 2] | (uint32_t)row[l % 4 * 2 + 1] << 16;
            uint32_t trans = ((const uint16_t *)in.w[8 * m + l % 4 * 2])[l / 4] |
                             (uint32_t)((const uint16_t *)in.w[8 * m + l % 4 * 2 + 1])[l / 4] << 16;
            ck_assert_uint_eq(out.w[l][m], plain);
            ck_assert_uint_eq(out.w[l][4 + m], trans);
        }
    /* stored and loaded again, transposed twice: the same */
    run_snippet(
        90,
        "shl.b32 %t1, %t0, 4; mov.u32 %t2, tile; add.u32 %t1, %t1, %t2;"
        "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%t1], {%a0,%a1,%a2,%a3}; bar.sync 0;"
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%d0,%d1,%d2,%d3}, [%t1];"
        "movmatrix.sync.aligned.m8n8.trans.b16 %d4, %a0;"
        "movmatrix.sync.aligned.m8n8.trans.b16 %d5, %d4;",
        &in, &out);
    for (int l = 0; l < LANES; ++l) {
        ck_assert_mem_eq(out.w[l], in.w[l], 16);
        ck_assert_uint_eq(out.w[l][5], in.w[l][0]);
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
    tcase_add_test(c, fragments);
    tcase_add_test(c, matrices);
    suite_add_tcase(s, c);
    return s;
}

int main(void) {
    return run_suite(ptx_suite());
}
