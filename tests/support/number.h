/* SPDX-License-Identifier: Apache-2.0 */
/*
 * number.h: what the bits of a stored number mean, and bits for a number, for making and reading test data.
 *
 * Written from the formats' definitions and independent of the library's own conversions, which are tested with it. Encoding truncates:
 * test data need to be exact, not nearest.
 */
#ifndef TEST_NUMBER_H
#define TEST_NUMBER_H

#include <tenon/tensor.h>

#include <math.h>
#include <string.h>

typedef struct number_format {
    int bits, mantissa, bias;
    uint32_t infinity, first_nan; /* magnitude bits; infinity 0: none */
} number_format;

static inline number_format number_format_of(tenon_dtype dtype) {
    switch (dtype) {
    case TENON_F16:
        return (number_format){16, 10, 15, 0x7c00, 0x7c01};
    case TENON_BF16:
        return (number_format){16, 7, 127, 0x7f80, 0x7f81};
    case TENON_F8_E4M3:
        return (number_format){8, 3, 7, 0, 0x7f};
    case TENON_F8_E5M2:
        return (number_format){8, 2, 15, 0x7c, 0x7d};
    default:
        return (number_format){0, 0, 0, 0, 0};
    }
}

static inline double number_of_bits(number_format f, uint32_t bits) {
    const uint32_t magnitude = bits & ((1u << (f.bits - 1)) - 1);
    const double sign = magnitude == bits ? 1 : -1;
    const int exponent = (int)(magnitude >> f.mantissa);
    const double fraction = ldexp((double)(magnitude & ((1u << f.mantissa) - 1)), -f.mantissa);
    if (magnitude >= f.first_nan)
        return NAN;
    if (f.infinity && magnitude == f.infinity)
        return sign * INFINITY;
    return sign * (exponent ? ldexp(1 + fraction, exponent - f.bias) : ldexp(fraction, 1 - f.bias));
}

/* Towards zero; NaN and infinity to those of the format (E4M3: infinity to NaN). |value| below the format's overflow. */
static inline uint32_t number_to_bits(number_format f, double value) {
    const uint32_t sign = signbit(value) ? 1u << (f.bits - 1) : 0;
    const double a = fabs(value);
    int e;
    if (isnan(a) || (isinf(a) && !f.infinity))
        return sign | f.first_nan;
    if (isinf(a))
        return sign | f.infinity;
    if (a < ldexp(1, 1 - f.bias))
        return sign | (uint32_t)ldexp(a, f.bias - 1 + f.mantissa);
    (void)frexp(a, &e);
    e -= 1;
    return sign | ((uint32_t)(e + f.bias) << f.mantissa) |
           (uint32_t)ldexp(ldexp(a, -e) - 1, f.mantissa);
}

static inline size_t number_size(tenon_dtype dtype) {
    size_t bytes = 0;
    if (tenon_dtype_block(dtype, NULL, &bytes) != TENON_OK)
        return 0;
    return bytes;
}

static inline double number_get(const void *at, tenon_dtype dtype) {
    union {
        double f64;
        float f32;
        uint16_t u16;
        uint8_t u8;
        int8_t s8;
        int32_t s32;
        int64_t s64;
    } x;
    memcpy(&x, at, number_size(dtype));
    switch (dtype) {
    case TENON_F64:
        return x.f64;
    case TENON_F32:
        return (double)x.f32;
    case TENON_F16:
    case TENON_BF16:
        return number_of_bits(number_format_of(dtype), x.u16);
    case TENON_F8_E4M3:
    case TENON_F8_E5M2:
        return number_of_bits(number_format_of(dtype), x.u8);
    case TENON_S8:
        return x.s8;
    case TENON_U8:
        return x.u8;
    case TENON_S32:
        return x.s32;
    case TENON_S64:
        return (double)x.s64;
    case TENON_BOOL:
        return x.u8 != 0;
    default:
        return NAN;
    }
}

static inline void number_put(void *at, tenon_dtype dtype, double value) {
    const double f64 = value;
    const float f32 = (float)value;
    const int64_t s64 = dtype >= TENON_S8 ? (int64_t)value : 0;
    const int32_t s32 = (int32_t)s64;
    const uint8_t low = (uint8_t)s64;
    uint32_t bits = 0;
    uint16_t u16;
    uint8_t u8;
    if (number_format_of(dtype).bits)
        bits = number_to_bits(number_format_of(dtype), value);
    u16 = (uint16_t)bits;
    u8 = (uint8_t)bits;
    switch (dtype) {
    case TENON_F64:
        memcpy(at, &f64, 8);
        break;
    case TENON_F32:
        memcpy(at, &f32, 4);
        break;
    case TENON_F16:
    case TENON_BF16:
        memcpy(at, &u16, 2);
        break;
    case TENON_F8_E4M3:
    case TENON_F8_E5M2:
        memcpy(at, &u8, 1);
        break;
    case TENON_S64:
        memcpy(at, &s64, 8);
        break;
    case TENON_S32:
        memcpy(at, &s32, 4);
        break;
    default:
        memcpy(at, &low, 1);
        break;
    }
}

#endif
