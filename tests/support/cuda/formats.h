/* SPDX-License-Identifier: Apache-2.0 */
/*
 * formats.h: number formats of tensor instructions and their roundings, as PTX has them.
 *
 * f16, bf16, tf32, e4m3, e5m2; NaN results are the canonical NaN of the PTX ISA (0x7fff, 0x7f, …;
 * "Floating point instructions"). Used by conversions, half arithmetic and matrix products; tests
 * check them against tables computed apart.
 */
#ifndef TEST_FORMATS_H
#define TEST_FORMATS_H

#include "op_lanes.h"

#include <math.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

/* To the nearest double with an odd last bit unless exact, so that a second rounding to at most 51
 * bits is the right one (Boldo and Melquiond, "When double rounding is odd", 2005). */
static inline double add_odd(double a, double b) {
    double s = a + b;
    if (!isfinite(s))
        return s;
    double t = s - a, error = (a - (s - t)) + (b - t);
    u64 bits = of_f64(s);
    if (error != 0 && !(bits & 1)) {
        bool away = (error > 0) == (s > 0);
        if (s == 0)
            return error;
        bits += away ? 1 : ~UINT64_C(0);
    }
    return as_f64(bits);
}

/* The same from double to float. */
static inline float narrow_odd(double x) {
    float f = (float)x;
    if (!isfinite(f) || (double)f == x) {
        if (isinf(f) && isfinite(x)) /* the largest finite number is odd */
            return copysignf(0x1.fffffep127f, f);
        return f;
    }
    u32 bits = of_f32(f);
    if (!(bits & 1)) {
        bool away = fabs(x) > fabs((double)f);
        if (f == 0)
            return copysignf(0x1p-149f, (float)(x > 0 ? 1 : -1));
        bits += away ? 1 : ~UINT32_C(0);
    }
    return as_f32(bits);
}

static inline float f16_to_f32(u32 h) {
#ifdef __F16C__
    return _cvtsh_ss((unsigned short)h);
#else
    u32 sign = (h & 0x8000) << 16, e = h >> 10 & 31, man = h & 0x3ff;
    if (e == 31)
        return as_f32(sign | 0x7f800000 | man << 13);
    if (e == 0) {
        float f = (float)man * 0x1p-24f;
        return sign ? -f : f;
    }
    return as_f32(sign | (e + 112) << 23 | man << 13);
#endif
}

/* Rounding of a finite float to a format of `bits` mantissa bits and least exponent `least`: a
 * multiple of the quantum. toward_zero, else to nearest even. */
static inline double round_to(double x, int bits, int least, bool toward_zero) {
    int e;
    if (x == 0)
        return x;
    frexp(x, &e); /* x = 0.1… * 2^e */
    int q = (e - 1 < least ? least : e - 1) - bits;
    double scaled = ldexp(x, -q);
    return ldexp(toward_zero ? trunc(scaled) : nearbyint(scaled), q);
}

static inline u32 f32_to_f16_general(float x, bool toward_zero, bool satfinite) {
    if (isnan(x))
        return 0x7fff;
    u32 sign = signbit(x) ? 0x8000 : 0;
    double v = isinf(x) ? HUGE_VAL : fabs(round_to(x, 10, -14, toward_zero));
    if (v > 65504)
        return sign | (satfinite || (toward_zero && !isinf(x)) ? 0x7bff : 0x7c00);
    if (v < 0x1p-14)
        return sign | (u32)(v * 0x1p24);
    int e;
    double man = frexp(v, &e);
    return sign | (u32)(e + 14) << 10 | (u32)((man * 2 - 1) * 1024);
}

static inline u32 f32_to_f16(float x) {
#ifdef __F16C__
    u32 h = _cvtss_sh(x, 0);
    return isnan(x) ? 0x7fff : h;
#else
    return f32_to_f16_general(x, false, false);
#endif
}

static inline float bf16_to_f32(u32 h) {
    return as_f32(h << 16);
}

static inline u32 f32_to_bf16(float x) {
    u32 bits = of_f32(x);
    u32 r = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return x != x ? 0x7fff : r;
}

static inline u32 f32_to_bf16_rz(float x) {
    return x != x ? 0x7fff : of_f32(x) >> 16;
}

/* To nearest, ties away from zero. */
static inline u32 f32_to_tf32_rna(float x) {
    u32 bits = of_f32(x);
    if (x != x)
        return 0x7fffffff;
    return isinf(x) ? bits : (bits + 0x1000) & ~UINT32_C(0x1fff);
}
static inline u32 f32_to_tf32_rn(float x) {
    u32 bits = of_f32(x);
    if (x != x)
        return 0x7fffffff;
    return isinf(x) ? bits : (bits + 0xfff + (bits >> 13 & 1)) & ~UINT32_C(0x1fff);
}

static inline float e4m3_to_f32(u32 b) {
    u32 e = b >> 3 & 15, man = b & 7;
    if ((b & 0x7f) == 0x7f)
        return as_f32(0x7fffffff);
    float v = e ? ldexpf((float)(8 + man), (int)e - 10) : (float)man * 0x1p-9f;
    return b & 0x80 ? -v : v;
}
static inline float e5m2_to_f32(u32 b) {
    return f16_to_f32((b & 0xff) << 8);
}

/* .satfinite, to nearest even: beyond the largest finite number, that one; NaN stays NaN. */
static inline u32 f32_to_e4m3(float x) {
    if (isnan(x))
        return 0x7f;
    u32 sign = signbit(x) ? 0x80 : 0;
    double v = isinf(x) ? HUGE_VAL : fabs(round_to(x, 3, -6, false));
    if (v > 448)
        return sign | 0x7e;
    if (v < 0x1p-6)
        return sign | (u32)(v * 512);
    int e;
    double man = frexp(v, &e);
    return sign | (u32)(e + 6) << 3 | (u32)((man * 2 - 1) * 8);
}
static inline u32 f32_to_e5m2(float x) {
    if (isnan(x))
        return 0x7f;
    u32 sign = signbit(x) ? 0x80 : 0;
    double v = isinf(x) ? HUGE_VAL : fabs(round_to(x, 2, -14, false));
    if (v > 57344)
        return sign | 0x7b;
    if (v < 0x1p-14)
        return sign | (u32)(v * 65536);
    int e;
    double man = frexp(v, &e);
    return sign | (u32)(e + 14) << 2 | (u32)((man * 2 - 1) * 4);
}

/* min and max of PTX: a number rather than a NaN, -0 below +0; NaN forms are told apart by name. */
static inline float f32_min(float a, float b) {
    if (a != a)
        return b;
    if (b != b)
        return a;
    if (a == b)
        return signbit(a) ? a : b;
    return a < b ? a : b;
}
static inline float f32_max(float a, float b) {
    if (a != a)
        return b;
    if (b != b)
        return a;
    if (a == b)
        return signbit(a) ? b : a;
    return a > b ? a : b;
}
static inline float f32_min_nan(float a, float b) {
    return a != a || b != b ? as_f32(0x7fffffff) : f32_min(a, b);
}
static inline float f32_max_nan(float a, float b) {
    return a != a || b != b ? as_f32(0x7fffffff) : f32_max(a, b);
}
static inline u32 f32_canonical(float r) {
    return r != r ? 0x7fffffff : of_f32(r);
}

#endif
