/* SPDX-License-Identifier: Apache-2.0 */
/*
 * number.cuh: numbers of every storage type, one at a time, to and from the type E (float, double)
 * that a kernel computes in. First text of every kernel.
 *
 * Types of operands are arguments (a switch beside a memory access is the same for all lanes)
 * except where an inner loop converts. Conversions as src/cpu/kernels/num_convert.h has them. No
 * header of CUDA's is used: the kernels are compiled from these files alone.
 */
#ifndef TN_NUMBER_CUH
#define TN_NUMBER_CUH

#include <stdint.h>

#define TN_DEVICE static __device__ __forceinline__
#define TN_KERNEL extern "C" __global__ void

/* tenon_dtype */
enum {
    F64 = 1,
    F32 = 2,
    F16 = 3,
    BF16 = 4,
    F8_E4M3 = 5,
    F8_E5M2 = 6,
    S8 = 7,
    U8 = 8,
    S32 = 9,
    S64 = 10
};

#define TN_INFINITY __int_as_float(0x7f800000)
#define TN_NAN __int_as_float(0x7fc00000)

TN_DEVICE int64_t min_of(int64_t a, int64_t b) {
    return a < b ? a : b;
}
TN_DEVICE int64_t max_of(int64_t a, int64_t b) {
    return a > b ? a : b;
}
TN_DEVICE int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* The second on NaN. */
template <class E> TN_DEVICE E larger(E a, E b) {
    return a > b ? a : b;
}
template <class E> TN_DEVICE E smaller(E a, E b) {
    return a < b ? a : b;
}

/* ---- to f32 */

TN_DEVICE float from_f16(uint16_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

TN_DEVICE float from_bf16(uint16_t h) {
    return __int_as_float((int)h << 16);
}

TN_DEVICE float from_e4m3(uint8_t h) { /* as f16, whose exponent is biased by 8 more */
    const float v = from_f16((uint16_t)((h & 0x80) << 8 | (h & 0x7f) << 7)) * 256.0f;
    return (h & 0x7f) == 0x7f ? TN_NAN : v;
}

TN_DEVICE float from_e5m2(uint8_t h) {
    return from_f16((uint16_t)(h << 8));
}

/* ---- from f32: nearest, ties to even */

TN_DEVICE uint16_t to_f16(float x) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}

TN_DEVICE uint16_t to_bf16(float x) {
    const uint32_t u = (uint32_t)__float_as_int(x);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Magnitude bits `a` (finite) in a format of `bits` fraction bits and exponent bias `bias`; the
 * exponent may run past the format's own range, which the callers check. */
TN_DEVICE uint32_t round_magnitude(uint32_t a, int bits, int bias) {
    const int drop = 23 - bits, e = (int)(a >> 23) - 127 + bias;
    if (e >= 1) {
        const uint32_t r = a - ((uint32_t)(127 - bias) << 23);
        return (r + (1u << (drop - 1)) - 1 + (r >> drop & 1)) >> drop;
    }
    const int shift = drop + 1 - e; /* units of the smallest subnormal */
    if (shift > 24 || a < 0x00800000)
        return 0; /* below half of it */
    const uint32_t m = (a & 0x7fffff) | 0x800000, q = m >> shift, rest = m & ((1u << shift) - 1);
    const uint32_t half = 1u << (shift - 1);
    return q + (rest > half || (rest == half && (q & 1)));
}

TN_DEVICE uint8_t to_e4m3(float x) {
    const uint32_t u = (uint32_t)__float_as_int(x), sign = u >> 24 & 0x80, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint8_t)(sign | 0x7f);
    if (a >= 0x43e00000) /* 448, the largest */
        return (uint8_t)(sign | 0x7e);
    return (uint8_t)(sign | round_magnitude(a, 3, 7));
}

TN_DEVICE uint8_t to_e5m2(float x) {
    const uint32_t u = (uint32_t)__float_as_int(x), sign = u >> 24 & 0x80, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint8_t)(sign | 0x7e | (a >> 21 & 3));
    if (a >= 0x47600000) /* 57344, the largest */
        return (uint8_t)(sign | 0x7b);
    return (uint8_t)(sign | round_magnitude(a, 2, 15));
}

/* To f32 for a further rounding: inexact results of f64 go to the neighbour with an odd last bit,
 * so that rounding them to a narrower type equals doing it at once. */
TN_DEVICE float narrow(float x) {
    return x;
}
TN_DEVICE float narrow(double x) {
    const float y = (float)x;
    if ((double)y == x || x != x)
        return y;
    uint32_t u = (uint32_t)__float_as_int(y);
    if (fabs((double)y) > fabs(x))
        u--; /* towards zero; an infinity from overflow becomes the largest number */
    return __int_as_float((int)(u | 1));
}

/* ---- one number at an address */

template <class E> TN_DEVICE E get(const char *x, int type) {
    switch (type) {
    case F64:
        return (E) * (const double *)x;
    case F32:
        return (E) * (const float *)x;
    case F16:
        return (E)from_f16(*(const uint16_t *)x);
    case BF16:
        return (E)from_bf16(*(const uint16_t *)x);
    case F8_E4M3:
        return (E)from_e4m3(*(const uint8_t *)x);
    case F8_E5M2:
        return (E)from_e5m2(*(const uint8_t *)x);
    case S8:
        return (E) * (const int8_t *)x;
    case U8:
        return (E) * (const uint8_t *)x;
    case S32:
        return (E) * (const int32_t *)x;
    default:
        return (E)0;
    }
}

TN_DEVICE int whole(float x) {
    return __float2int_rn(x);
}
TN_DEVICE int whole(double x) {
    return __double2int_rn(x);
}

template <class E> TN_DEVICE void put(char *x, int type, E v) {
    switch (type) {
    case F64:
        *(double *)x = (double)v;
        break;
    case F32:
        *(float *)x = (float)v;
        break;
    case F16:
        *(uint16_t *)x = to_f16(narrow(v));
        break;
    case BF16:
        *(uint16_t *)x = to_bf16(narrow(v));
        break;
    case F8_E4M3:
        *(uint8_t *)x = to_e4m3(narrow(v));
        break;
    case F8_E5M2:
        *(uint8_t *)x = to_e5m2(narrow(v));
        break;
    case S8:
        *(int8_t *)x = (int8_t)(v != v ? 0 : whole(smaller((E)127, larger((E)-128, v))));
        break;
    case U8:
        *(uint8_t *)x = (uint8_t)(v != v ? 0 : whole(smaller((E)255, larger((E)0, v))));
        break;
    case S32: /* cvt saturates */
        *(int32_t *)x = v != v ? 0 : whole(v);
        break;
    default:
        break;
    }
}

/* An index: s32 or s64. */
TN_DEVICE int64_t get_index(const char *x, int type) {
    return type == S64 ? *(const int64_t *)x : (int64_t) * (const int32_t *)x;
}

/* An integer of any type. */
TN_DEVICE int64_t get_integer(const char *x, int type) {
    return type == S8   ? (int64_t) * (const int8_t *)x
           : type == U8 ? (int64_t) * (const uint8_t *)x
                        : get_index(x, type);
}

/* ---- groups of tiles one after the other */

/*
 * Tile `index` of groups of which group e has count(e): its group, or `groups` if there is none;
 * `index` becomes the tile's place in it. By the lanes of a warp, all of which get the answer; the
 * warp is whole.
 */
template <class Count> TN_DEVICE int64_t find_group(int64_t groups, int64_t &index, Count count) {
    const int lane = threadIdx.x & 31;
    for (int64_t first = 0; first < groups; first += 32) {
        int64_t end = first + lane < groups ? count(first + lane) : 0;
        for (int step = 1; step < 32; step *= 2) {
            const int64_t before = __shfl_up_sync(0xffffffffu, end, step);
            if (lane >= step)
                end += before;
        }
        const unsigned beyond = __ballot_sync(0xffffffffu, end > index);
        if (beyond) {
            const int found = __ffs((int)beyond) - 1;
            const int64_t begin = __shfl_sync(0xffffffffu, end, found ? found - 1 : 0);
            index -= found ? begin : 0;
            return first + found;
        }
        index -= __shfl_sync(0xffffffffu, end, 31);
    }
    return groups;
}

#endif
