/* SPDX-License-Identifier: Apache-2.0 */
/*
 * num_convert.h: single numbers between f32 and the storage types f16, bf16, f8_e4m3, f8_e5m2, s8,
 * u8, s32.
 *
 * Every conversion to a narrower type rounds to nearest, ties to even; NaN stays NaN (quiet, its
 * upper payload bits kept where the type has room). f16 and bf16 overflow to infinity as IEEE 754
 * has it; the f8 types, infinities included, and the integers saturate. NaN to an integer gives 0.
 * The vector headers agree bit for bit. f8 formats: Micikevicius et al., FP8 Formats for Deep
 * Learning, 2022.
 */
#ifndef TN_NUM_CONVERT_H
#define TN_NUM_CONVERT_H

#include <stdint.h>
#include <string.h>

static inline uint32_t tn_bits_f32(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float tn_f32_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float tn_f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023;
    if (e == 31)
        return tn_f32_bits(sign | 0x7f800000 | (m ? 0x400000 : 0) | m << 13);
    if (e == 0) /* zero and subnormals: m * 2^-24, exact */
        return tn_f32_bits(sign | tn_bits_f32((float)m * 0x1p-24f));
    return tn_f32_bits(sign | (e + 112) << 23 | m << 13);
}

/* Rounds the magnitude bits `a` (finite) to a format of `mbits` fraction bits and exponent bias
 * `bias`; the exponent may run past the format's own range, which the callers check. */
static inline uint32_t tn_round_magnitude(uint32_t a, int mbits, int bias) {
    const int drop = 23 - mbits;
    const int e = (int)(a >> 23) - 127 + bias;
    if (e >= 1) {
        const uint32_t r = a - ((uint32_t)(127 - bias) << 23);
        return (r + (1u << (drop - 1)) - 1 + ((r >> drop) & 1)) >> drop;
    }
    const int shift = drop + 1 - e; /* units of the smallest subnormal */
    if (shift > 24 || a < 0x00800000)
        return 0; /* below half of it */
    const uint32_t m = (a & 0x7fffff) | 0x800000, q = m >> shift, rest = m & ((1u << shift) - 1);
    const uint32_t half = 1u << (shift - 1);
    return q + (rest > half || (rest == half && (q & 1)));
}

static inline uint16_t tn_f32_to_f16(float x) {
    const uint32_t u = tn_bits_f32(x), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | ((a >> 13) & 0x3ff));
    if (a >= 0x477ff000) /* 65520 and up */
        return (uint16_t)(sign | 0x7c00);
    return (uint16_t)(sign | tn_round_magnitude(a, 10, 15));
}

static inline float tn_bf16_to_f32(uint16_t h) {
    return tn_f32_bits((uint32_t)h << 16);
}

static inline uint16_t tn_f32_to_bf16(float x) {
    const uint32_t u = tn_bits_f32(x);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

static inline float tn_f8e4m3_to_f32(uint8_t h) {
    const uint32_t sign = (uint32_t)(h & 0x80) << 24, e = (h >> 3) & 15, m = h & 7;
    if ((h & 0x7f) == 0x7f)
        return tn_f32_bits(sign | 0x7fc00000);
    if (e == 0)
        return tn_f32_bits(sign | tn_bits_f32((float)m * 0x1p-9f));
    return tn_f32_bits(sign | (e + 120) << 23 | m << 20);
}

static inline uint8_t tn_f32_to_f8e4m3(float x) {
    const uint32_t u = tn_bits_f32(x), sign = (u >> 24) & 0x80, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint8_t)(sign | 0x7f);
    if (a >= 0x43e00000) /* 448, the largest */
        return (uint8_t)(sign | 0x7e);
    return (uint8_t)(sign | tn_round_magnitude(a, 3, 7));
}

static inline float tn_f8e5m2_to_f32(uint8_t h) {
    return tn_f16_to_f32((uint16_t)(h << 8));
}

static inline uint8_t tn_f32_to_f8e5m2(float x) {
    const uint32_t u = tn_bits_f32(x), sign = (u >> 24) & 0x80, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint8_t)(sign | 0x7e | ((a >> 21) & 3));
    if (a >= 0x47600000) /* 57344, the largest */
        return (uint8_t)(sign | 0x7b);
    return (uint8_t)(sign | tn_round_magnitude(a, 2, 15));
}

/* To f32, inexact results to the neighbour with an odd last bit: a further rounding to a narrower
 * type then equals a direct one. */
static inline float tn_f64_to_f32_odd(double x) {
    const float y = (float)x;
    if ((double)y == x || x != x)
        return y;
    uint32_t u = tn_bits_f32(y);
    const double ay = y < 0 ? -(double)y : (double)y, ax = x < 0 ? -x : x;
    if (ay > ax)
        u--; /* towards zero; an infinity from overflow becomes the largest number */
    return tn_f32_bits(u | 1);
}

#endif
