/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block types: the bytes of each as GGUF stores them (ggml-common.h of ggml), what they mean, and
 * one plain function per type that says it in code. docs/NUMERICS.md, section 9, has the same as
 * formulas.
 *
 * Every string of bytes has a value: no field is an index beyond its table, and what a scale may
 * hold beside numbers (infinities, NaN) goes its way by the rules of arithmetic. The kernels of the
 * backends have decoders of their own, held to these.
 */
#ifndef TN_BLOCKS_H
#define TN_BLOCKS_H

#include "ops/numbers.h"

#include <string.h>

/* Most elements of a block. */
#define TN_BLOCK_MOST 256

/*
 * Fields in the order of memory. d, dmin, m are binary16 as bits; nibbles: byte i of qs holds
 * element i in its low half and element i + 16 in its high half, within each run of 32.
 */
typedef struct tn_block_q8_0 {
    uint16_t d;
    int8_t q[32];
} tn_block_q8_0;

typedef struct tn_block_q4_0 {
    uint16_t d;
    uint8_t qs[16];
} tn_block_q4_0;

typedef struct tn_block_q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
} tn_block_q4_1;

/* qh: bit i of the 32, in memory order, is the fifth bit of element i. */
typedef struct tn_block_q5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
} tn_block_q5_0;

typedef struct tn_block_q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
} tn_block_q5_1;

/*
 * Eight runs of 32 with a scale and a minimum of 6 bits each (tn_block_k_scales). Byte i of the
 * 32 bytes number r of qs: low half element i of run 2r, high half element i of run 2r + 1.
 */
typedef struct tn_block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
} tn_block_q4_k;

/* qh: bit r of byte i is the fifth bit of element i of run r. */
typedef struct tn_block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
} tn_block_q5_k;

/*
 * Two halves of 128 elements, each with 64 bytes of ql and 32 of qh; 16 elements share a scale.
 * Elements i, i + 32, i + 64, i + 96 of a half: low four bits in the low halves of ql[i] and
 * ql[i + 32], then in their high halves; upper two bits from the bottom of qh[i] up.
 */
typedef struct tn_block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
} tn_block_q6_k;

typedef struct tn_block_iq4_nl {
    uint16_t d;
    uint8_t qs[16];
} tn_block_iq4_nl;

typedef struct tn_block_mxfp4 {
    uint8_t e; /* E8M0 */
    uint8_t qs[16];
} tn_block_mxfp4;

/* Four runs of 16, each with its scale and 8 bytes: low halves first, as in the others. */
typedef struct tn_block_nvfp4 {
    uint8_t d[4]; /* UE4M3 */
    uint8_t qs[32];
} tn_block_nvfp4;

_Static_assert(sizeof(tn_block_q8_0) == 34 && sizeof(tn_block_q4_0) == 18 &&
                   sizeof(tn_block_q4_1) == 20 && sizeof(tn_block_q5_0) == 22 &&
                   sizeof(tn_block_q5_1) == 24 && sizeof(tn_block_q4_k) == 144 &&
                   sizeof(tn_block_q5_k) == 176 && sizeof(tn_block_q6_k) == 210 &&
                   sizeof(tn_block_iq4_nl) == 18 && sizeof(tn_block_mxfp4) == 17 &&
                   sizeof(tn_block_nvfp4) == 36,
               "blocks have no padding");

/* What the 16 codes stand for. MXFP4 and NVFP4: E2M1 (OCP Microscaling Formats 1.0, 5.3.3) times 2,
 * so that they are integers; their scales below carry the half. Code 8 is +0. */
#define TN_IQ4_NL_VALUES                                                                           \
    { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 }
#define TN_FP4_VALUES                                                                              \
    { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 }

static inline float tn_float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A binary16; exact, NaN stays NaN. */
static inline float tn_half_value(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00)
        return tn_float_of_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13 |
                                (uint32_t)(magnitude > 0x7c00) << 22);
    if (magnitude >= 0x400)
        return tn_float_of_bits(sign | ((magnitude << 13) + ((uint32_t)(127 - 15) << 23)));
    const float tiny = (float)magnitude * 0x1p-24f;
    return sign ? -tiny : tiny;
}

/* To nearest, ties to even; overflows to infinity. */
static inline uint16_t tn_half_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= (uint32_t)(127 + 16) << 23)
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < (uint32_t)(127 - 14) << 23) {
        /* Added to 1/2, a multiple of 2^-24 is what is left of it: the hardware's rounding. */
        const float shifted = tn_float_of_bits(magnitude) + 0.5f;
        memcpy(&bits, &shifted, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    const uint32_t even = magnitude >> 13 & 1;
    return (uint16_t)(sign | ((magnitude - ((uint32_t)(127 - 15) << 23) + 0xfff + even) >> 13));
}

/*
 * Half of an E8M0 scale, 2^(e - 128): what MXFP4's doubled values are multiplied with. e = 255,
 * which OCP reads as NaN, is 2^127 as in GGUF.
 */
static inline float tn_e8m0_half(uint8_t e) {
    return tn_float_of_bits(e < 2 ? UINT32_C(0x00200000) << e : (uint32_t)(e - 1) << 23);
}

/*
 * Half of an unsigned E4M3 scale. As in GGUF the sign bit is ignored; 0x7f, NaN elsewhere, is 0,
 * and 0xff, of which the same could be said, 240.
 */
static inline float tn_ue4m3_half(uint8_t d) {
    const int exponent = d >> 3 & 15, fraction = d & 7;
    if (d == 0x7f)
        return 0;
    if (exponent == 0)
        return (float)fraction * 0x1p-10f;
    return tn_float_of_bits((uint32_t)(exponent - 7 - 1 + 127) << 23 | (uint32_t)fraction << 20);
}

/* Scale and minimum of run r (0 to 7) of Q4_K and Q5_K. */
static inline void tn_block_k_scales(const uint8_t packed[12], int r, int *scale, int *minimum) {
    if (r < 4) {
        *scale = packed[r] & 63;
        *minimum = packed[r + 4] & 63;
    } else {
        *scale = (packed[r + 4] & 15) | packed[r - 4] >> 6 << 4;
        *minimum = packed[r + 4] >> 4 | packed[r] >> 6 << 4;
    }
}

/*
 * All elements of a block, as f32: for every type but Q4_1, Q5_1, Q4_K and Q5_K exact, for those
 * rounded once. (MXFP4's largest scales overflow to infinity.)
 */
typedef void tn_block_decode(const void *block, float *out);

/*
 * The block for these elements, all bytes of it. Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and MXFP4 are the
 * gguf package's bit for bit (blocks_encode.c); the others search for scales (blocks_search.c). NaN
 * and infinities make a block whose scale is not finite, or is NaN to readers other than GGUF's.
 */
typedef void tn_block_encode(const float *x, void *block);

typedef struct tn_block_type {
    tenon_dtype dtype;
    int32_t elements, bytes; /* as in the table of dtype.c */
    tn_block_decode *decode;
    tn_block_encode *encode;
} tn_block_type;

tn_block_encode tn_block_encode_q8_0, tn_block_encode_q4_0, tn_block_encode_q4_1,
    tn_block_encode_q5_0, tn_block_encode_q5_1, tn_block_encode_q4_k, tn_block_encode_q5_k,
    tn_block_encode_q6_k, tn_block_encode_iq4_nl, tn_block_encode_mxfp4, tn_block_encode_nvfp4;

/* NULL for what is no block type. */
const tn_block_type *tn_block_find(tenon_dtype dtype);

/* Bytes of `elements` of any type, whole blocks of it; of either sign. */
static inline int64_t tn_bytes_of(tenon_dtype dtype, int64_t elements) {
    const tn_block_type *type = dtype < TENON_Q8_0 ? NULL : tn_block_find(dtype);
    return type ? elements / type->elements * type->bytes : elements * tn_element_size(dtype);
}

/*
 * The block of element `p` of a run of blocks that starts `start` elements after `base`: a multiple
 * of the block's, of either sign, since strides of block tensors count elements.
 */
static inline const void *tn_block_at(const tn_block_type *type, const void *base, int64_t start,
                                      int64_t p) {
    return (const char *)base + (start / type->elements + p / type->elements) * type->bytes;
}

#endif
