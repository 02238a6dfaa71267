/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One description of a small float format (struct small) serves f16, bf16 and both f8 types in both
 * directions. Formats: IEEE 754-2019, 3.6 (binary16); bfloat16 is the upper half of binary32; OCP
 * 8-bit Floating Point Specification (OFP8) 1.0, tables 1 and 2, conversion in "SatMode".
 */
#include "ref/ref_convert.h"

#include <math.h>
#include <string.h>

/* value = (-1)^sign · 2^(max(e,1) - bias) · ((e > 0) + mantissa/2^mantissa_bits) */
typedef struct small {
    int mantissa_bits, bias;
    uint32_t sign;     /* the sign bit */
    uint32_t infinity; /* bits of +infinity, or 0: the format has none */
    uint32_t nan;      /* what a NaN is written as; every larger magnitude is NaN as well */
    uint32_t largest;  /* bits of the largest finite value */
    int saturate;      /* 1: what is too large becomes `largest` */
} small;

static const small f16 = {10, 15, 0x8000, 0x7c00, 0x7e00, 0x7bff, 0};
static const small bf16 = {7, 127, 0x8000, 0x7f80, 0x7fc0, 0x7f7f, 0};
static const small e4m3 = {3, 7, 0x80, 0, 0x7f, 0x7e, 1};
static const small e5m2 = {2, 15, 0x80, 0x7c, 0x7f, 0x7b, 1};

static double decode(const small *f, uint32_t bits) {
    const uint32_t magnitude = bits & (f->sign - 1);
    const int exponent = (int)(magnitude >> f->mantissa_bits);
    const uint32_t one = (uint32_t)1 << f->mantissa_bits;
    const uint32_t fraction = magnitude & (one - 1);
    double value;

    if (magnitude > (f->infinity ? f->infinity : f->largest))
        value = NAN;
    else if (f->infinity && magnitude == f->infinity)
        value = INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, 1 - f->bias - f->mantissa_bits);
    else
        value = ldexp(one + fraction, exponent - f->bias - f->mantissa_bits);
    return bits & f->sign ? -value : value;
}

static uint32_t encode(const small *f, double value) {
    const uint32_t sign = signbit(value) ? f->sign : 0;
    double magnitude = fabs(value);
    int exponent;

    if (isnan(value))
        return sign | f->nan;

    /* Count in units of the last place of value's binade (or of the smallest numbers): one exact
     * scaling, then the one rounding. A carry into the next binade is right without further care,
     * because consecutive floats have consecutive bit patterns. */
    (void)frexp(magnitude, &exponent); /* magnitude = [0.5, 1) · 2^exponent */
    exponent = exponent - 1 < 1 - f->bias ? 1 - f->bias : exponent - 1;
    if (isinf(value) || exponent > f->bias + 1)
        return sign | (f->saturate ? f->largest : f->infinity);
    magnitude = rint(ldexp(magnitude, f->mantissa_bits - exponent));

    uint32_t bits = (uint32_t)magnitude;
    if (bits >> f->mantissa_bits)
        bits += (uint32_t)(exponent + f->bias - 1) << f->mantissa_bits;
    if (bits > f->largest)
        bits = f->saturate ? f->largest : f->infinity;
    return sign | bits;
}

static double to_integer(double value, double low, double high) {
    if (isnan(value))
        return 0;
    return fmin(fmax(rint(value), low), high);
}

double tn_ref_get(const void *base, tenon_dtype dtype, int64_t index) {
    switch (dtype) {
    case TENON_F64:
        return ((const double *)base)[index];
    case TENON_F32:
        return (double)((const float *)base)[index];
    case TENON_F16:
        return decode(&f16, ((const uint16_t *)base)[index]);
    case TENON_BF16:
        return decode(&bf16, ((const uint16_t *)base)[index]);
    case TENON_F8_E4M3:
        return decode(&e4m3, ((const uint8_t *)base)[index]);
    case TENON_F8_E5M2:
        return decode(&e5m2, ((const uint8_t *)base)[index]);
    case TENON_S8:
        return ((const int8_t *)base)[index];
    case TENON_U8:
        return ((const uint8_t *)base)[index];
    case TENON_S32:
        return ((const int32_t *)base)[index];
    case TENON_S64:
        return (double)((const int64_t *)base)[index];
    case TENON_BOOL:
        return ((const uint8_t *)base)[index] != 0;
    default:
        return NAN;
    }
}

void tn_ref_put(void *base, tenon_dtype dtype, int64_t index, double value) {
    switch (dtype) {
    case TENON_F64:
        ((double *)base)[index] = value;
        break;
    case TENON_F32:
        ((float *)base)[index] = (float)value;
        break;
    case TENON_F16:
        ((uint16_t *)base)[index] = (uint16_t)encode(&f16, value);
        break;
    case TENON_BF16:
        ((uint16_t *)base)[index] = (uint16_t)encode(&bf16, value);
        break;
    case TENON_F8_E4M3:
        ((uint8_t *)base)[index] = (uint8_t)encode(&e4m3, value);
        break;
    case TENON_F8_E5M2:
        ((uint8_t *)base)[index] = (uint8_t)encode(&e5m2, value);
        break;
    case TENON_S8:
        ((int8_t *)base)[index] = (int8_t)to_integer(value, INT8_MIN, INT8_MAX);
        break;
    case TENON_U8:
        ((uint8_t *)base)[index] = (uint8_t)to_integer(value, 0, UINT8_MAX);
        break;
    case TENON_S32:
        ((int32_t *)base)[index] = (int32_t)to_integer(value, INT32_MIN, INT32_MAX);
        break;
    case TENON_S64: /* 2^63 is not an int64, the double before it is */
        ((int64_t *)base)[index] = (int64_t)to_integer(value, -0x1p63, 0x1.fffffffffffffp62);
        break;
    case TENON_BOOL:
        ((uint8_t *)base)[index] = value != 0;
        break;
    default:
        break;
    }
}
