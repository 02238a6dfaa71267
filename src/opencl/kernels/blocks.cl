/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.cl: one decoder for each block type, in registers: units of 32 steps of k, of as many
 * columns as a vector has lanes, as words of four signed bytes and one or two scales.
 *
 * Follows number.cl, with TN_SUM 0. A decoder is two functions: four_TYPE(b, r, i), elements 4 i to
 * 4 i + 3 of unit r of a block, and scales_TYPE. A unit's element q then is
 *
 *   UNIT_PLAIN      s q
 *   UNIT_MINIMUM    s q + second, rounded once
 *   UNIT_HALVES     s q in the first 16 steps, second q in the others
 *
 * Layouts and values: src/ops/blocks.h; docs/NUMERICS.md, section 9. TN_STAGED: blocks lie in local
 * memory, else in global. All reads are of bytes, as blocks are aligned to two bytes at most.
 */
#define TN_BLOCKS 1 /* for the texts after this one */

#define Q8_0 64
#define Q4_0 65
#define Q4_1 66
#define Q5_0 67
#define Q5_1 68
#define Q4_K 69
#define Q5_K 70
#define Q6_K 71
#define IQ4_NL 72
#define MXFP4 73
#define NVFP4 74

enum { UNIT = 32, FOURS = 8 };
enum { UNIT_PLAIN, UNIT_MINIMUM, UNIT_HALVES };

#ifdef TN_STAGED
#define BLOCK_SPACE __local
#else
#define BLOCK_SPACE __global
#endif

#if TN_WIDTH == 1
typedef uint UV;
#define U_LOAD(p) (*(p))
#define U_AS_INT(x) ((int)(x))
#define U_TO_S(x) ((S)(x))
#define I_TO_S(x) ((S)(x))
#define U_AS_S(x) as_float(x)
#define S_AS_U(x) as_uint(x)
#else
typedef CAT(uint, TN_WIDTH) UV;
#define U_LOAD(p) CAT(vload, TN_WIDTH)(0, p)
#define U_AS_INT(x) CAT(as_int, TN_WIDTH)(x)
#define U_TO_S(x) CAT(convert_float, TN_WIDTH)(x)
#define I_TO_S(x) CAT(convert_float, TN_WIDTH)(x)
#define U_AS_S(x) CAT(as_float, TN_WIDTH)(x)
#define S_AS_U(x) CAT(as_uint, TN_WIDTH)(x)
#endif

/* The blocks of a vector's columns: the first lane's, and how far from it each lane's is. */
typedef struct blocks {
    BLOCK_SPACE const uchar *at;
    long lane[TN_WIDTH];
} blocks;

int is_block_type(int type) {
    return type >= Q8_0;
}

int block_elements(int type) {
    return type == Q4_K || type == Q5_K || type == Q6_K ? 256 : type == NVFP4 ? 64 : UNIT;
}

int block_bytes(int type) {
    switch (type) {
    case Q8_0:
        return 34;
    case Q4_0:
    case IQ4_NL:
        return 18;
    case Q4_1:
        return 20;
    case Q5_0:
        return 22;
    case Q5_1:
        return 24;
    case Q4_K:
        return 144;
    case Q5_K:
        return 176;
    case Q6_K:
        return 210;
    case MXFP4:
        return 17;
    default:
        return 36;
    }
}

int unit_kind(int type) {
    return type == Q6_K || type == NVFP4 ? UNIT_HALVES
           : type == Q4_1 || type == Q5_1 || type == Q4_K || type == Q5_K ? UNIT_MINIMUM
                                                                          : UNIT_PLAIN;
}

/* ---- fields: the bytes o, o + 1 and so on of every lane's block */

#if TN_WIDTH == 1
#define EACH_LANE(t, value_at)                                                                     \
    BLOCK_SPACE const uchar *x = b->at + o;                                                        \
    t = value_at;
#else
#define EACH_LANE(t, value_at)                                                                     \
    uint lanes[TN_WIDTH];                                                                          \
    _Pragma("unroll") for (int l = 0; l < TN_WIDTH; l++) {                                         \
        BLOCK_SPACE const uchar *x = b->at + b->lane[l] + o;                                       \
        lanes[l] = value_at;                                                                       \
    }                                                                                              \
    t = U_LOAD(lanes);
#endif

UV block_word(const blocks *b, int o) {
    UV t;
    EACH_LANE(t, as_uint(vload4(0, x)))
    return t;
}

UV block_two(const blocks *b, int o) {
    UV t;
    EACH_LANE(t, (uint)as_ushort(vload2(0, x)))
    return t;
}

UV block_byte(const blocks *b, int o) {
    UV t;
    EACH_LANE(t, (uint)*x)
    return t;
}

/* A binary16; subnormal ones by way of a number that is not. */
SV block_half(const blocks *b, int o) {
    const UV h = block_two(b, o), magnitude = h & 0x7fff, sign = (h & 0x8000) << 16;
    const UV small = S_AS_U(U_TO_S(magnitude) * (S)0x1p-24f),
             normal = (magnitude << 13) + (112u << 23), special = magnitude << 13 | 0x7f800000;
    return U_AS_S(sign | select(select(normal, small, magnitude < 1024), special,
                                magnitude >= 0x7c00));
}

/* Half of an E8M0 scale, 2^(e - 128); e = 255 is a number like the others. */
SV block_e8m0_half(const blocks *b, int o) {
    const UV e = block_byte(b, o);
    return U_AS_S(select((e - 1) << 23, (UV)0x00200000 << (e & 1), e < 2));
}

/* Half of an unsigned E4M3 scale: the sign bit is ignored, 0x7f alone is 0. */
SV block_ue4m3_half(const blocks *b, int o) {
    const UV d = block_byte(b, o), fraction = d & 7, exponent = d >> 3 & 15;
    const UV small = S_AS_U(U_TO_S(fraction) * (S)0x1p-10f),
             normal = (exponent + 119) << 23 | fraction << 20;
    return U_AS_S(select(select(normal, small, exponent == 0), (UV)0, d == 0x7f));
}

/* ---- four bytes in a word */

#define BYTES(x) ((x)*0x01010101u)

/* Each less `bias`, with its sign; below 128 before. */
UV less(UV bytes, uint bias) {
    return ((bytes | BYTES(0x80u)) - BYTES(bias)) ^ BYTES(0x80u);
}

UV nibbles(UV word, int high) {
    return (high ? word >> 4 : word) & BYTES(15u);
}

/* Bits 4 i to 4 i + 3 of a word, each as the fifth bit of a byte. */
UV fifth(UV word, int i) {
    return ((word >> (4 * i) & 15) * 0x02040810u) & BYTES(16u);
}

/* Bits of bytes moved up, or down; what crosses into a neighbour is masked away later. */
UV moved(UV word, int up) {
    return up >= 0 ? word << up : word >> -up;
}

/* Bytes of ones where bit `bit` of a byte is set. */
UV where_bit(UV bytes, int bit) {
    const UV ones = bytes >> bit & BYTES(1u);
    return (ones << 8) - ones;
}

/* E2M1 times 2: 0 1 2 3 4 6 8 12, with bit 3 for a sign. */
UV fp4_values(UV codes) {
    const UV one = codes & BYTES(1u), two = codes & BYTES(2u), large = codes >> 2 & BYTES(1u);
    const UV both = two >> 1 & large;
    const UV v = (codes & BYTES(7u)) + (one & large) + ((both + (both & one)) << 1);
    const UV sign = codes & BYTES(8u), negative = v & ((sign << 1) - (sign >> 3));
    return (v + BYTES(0x80u) - (negative << 1)) ^ BYTES(0x80u);
}

/* -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113, chosen bit by bit. */
#define EITHER(a, b, mask) ((a) ^ (((a) ^ (b)) & (mask)))
#define OF_TWO(a, b) EITHER(BYTES((a)&255u), BYTES((b)&255u), bit0)
#define OF_FOUR(a, b, c, d) EITHER(OF_TWO(a, b), OF_TWO(c, d), bit1)
UV iq4_nl_values(UV codes) {
    const UV bit0 = where_bit(codes, 0), bit1 = where_bit(codes, 1), bit2 = where_bit(codes, 2);
    const UV low = EITHER(OF_FOUR(-127, -104, -83, -65), OF_FOUR(-49, -35, -22, -10), bit2);
    const UV high = EITHER(OF_FOUR(1, 13, 25, 38), OF_FOUR(53, 69, 89, 113), bit2);
    return EITHER(low, high, where_bit(codes, 3));
}

/* ---- the types */

UV four_q8_0(const blocks *b, int r, int i) {
    return block_word(b, 2 + 4 * i);
}
void scales_q8_0(const blocks *b, int r, SV *s, SV *second) {
    *s = block_half(b, 0);
}

UV four_q4_0(const blocks *b, int r, int i) {
    return less(nibbles(block_word(b, 2 + i % 4 * 4), i / 4), 8);
}
#define scales_q4_0 scales_q8_0

UV four_q4_1(const blocks *b, int r, int i) {
    return nibbles(block_word(b, 4 + i % 4 * 4), i / 4);
}
void scales_q4_1(const blocks *b, int r, SV *s, SV *second) {
    *s = block_half(b, 0);
    *second = block_half(b, 2);
}

UV four_q5_0(const blocks *b, int r, int i) {
    return less(nibbles(block_word(b, 6 + i % 4 * 4), i / 4) | fifth(block_word(b, 2), i), 16);
}
#define scales_q5_0 scales_q8_0

UV four_q5_1(const blocks *b, int r, int i) {
    return nibbles(block_word(b, 8 + i % 4 * 4), i / 4) | fifth(block_word(b, 4), i);
}
#define scales_q5_1 scales_q4_1

UV four_q4_k(const blocks *b, int r, int i) {
    return nibbles(block_word(b, 16 + r / 2 * 32 + 4 * i), r % 2);
}
/* Six bits each: tn_block_k_scales of src/ops/blocks.h. */
void scales_q4_k(const blocks *b, int r, SV *s, SV *second) {
    UV scale, minimum;
    if (r < 4) {
        scale = block_byte(b, 4 + r) & 63;
        minimum = block_byte(b, 8 + r) & 63;
    } else {
        const UV last = block_byte(b, 8 + r);
        scale = (last & 15) | block_byte(b, r) >> 6 << 4;
        minimum = last >> 4 | block_byte(b, 4 + r) >> 6 << 4;
    }
    *s = block_half(b, 0) * U_TO_S(scale);
    *second = -(block_half(b, 2) * U_TO_S(minimum));
}

UV four_q5_k(const blocks *b, int r, int i) {
    return nibbles(block_word(b, 48 + r / 2 * 32 + 4 * i), r % 2) |
           (moved(block_word(b, 16 + 4 * i), 4 - r) & BYTES(16u));
}
#define scales_q5_k scales_q4_k

UV four_q6_k(const blocks *b, int r, int i) {
    const int half_ = r / 4, quarter = r % 4;
    const UV low = nibbles(block_word(b, half_ * 64 + quarter % 2 * 32 + 4 * i), quarter / 2),
             high = moved(block_word(b, 128 + half_ * 32 + 4 * i), 4 - 2 * quarter);
    return less(low | (high & BYTES(48u)), 32);
}
void scales_q6_k(const blocks *b, int r, SV *s, SV *second) {
    const SV d = block_half(b, 208);
    *s = d * I_TO_S(U_AS_INT(block_byte(b, 192 + 2 * r) << 24) >> 24);
    *second = d * I_TO_S(U_AS_INT(block_byte(b, 193 + 2 * r) << 24) >> 24);
}

UV four_iq4_nl(const blocks *b, int r, int i) {
    return iq4_nl_values(nibbles(block_word(b, 2 + i % 4 * 4), i / 4));
}
#define scales_iq4_nl scales_q8_0

UV four_mxfp4(const blocks *b, int r, int i) {
    return fp4_values(nibbles(block_word(b, 1 + i % 4 * 4), i / 4));
}
void scales_mxfp4(const blocks *b, int r, SV *s, SV *second) {
    *s = block_e8m0_half(b, 0);
}

/* Each half of a unit has 8 bytes, whose low halves come first. */
UV four_nvfp4(const blocks *b, int r, int i) {
    return fp4_values(nibbles(block_word(b, 4 + 16 * r + i / 4 * 8 + i % 2 * 4), i / 2 % 2));
}
void scales_nvfp4(const blocks *b, int r, SV *s, SV *second) {
    *s = block_ue4m3_half(b, 2 * r);
    *second = block_ue4m3_half(b, 2 * r + 1);
}

#define EACH_TYPE(DO)                                                                              \
    DO(Q8_0, q8_0)                                                                                 \
    DO(Q4_0, q4_0)                                                                                 \
    DO(Q4_1, q4_1)                                                                                 \
    DO(Q5_0, q5_0)                                                                                 \
    DO(Q5_1, q5_1)                                                                                 \
    DO(Q4_K, q4_k)                                                                                 \
    DO(Q5_K, q5_k)                                                                                 \
    DO(Q6_K, q6_k)                                                                                 \
    DO(IQ4_NL, iq4_nl)                                                                             \
    DO(MXFP4, mxfp4)                                                                               \
    DO(NVFP4, nvfp4)

/* ---- whatever the type */

typedef struct unit {
    UV q[FOURS];
    SV s, second;
} unit;

void unit_scales(const blocks *b, int type, int r, SV *s, SV *second) {
    *second = (SV)(0);
    switch (type) {
#define SCALES(TYPE, name)                                                                         \
    case TYPE:                                                                                     \
        scales_##name(b, r, s, second);                                                            \
        break;
        EACH_TYPE(SCALES)
    }
}

/* Word i of unit r, and all of them: what words share is read once, as nothing is stored between. */
UV unit_four(const blocks *b, int type, int r, int i) {
    switch (type) {
#define FOUR_OF(TYPE, name)                                                                        \
    case TYPE:                                                                                     \
        return four_##name(b, r, i);
        EACH_TYPE(FOUR_OF)
    default:
        return (UV)(0);
    }
}

void unit_fours(const blocks *b, int type, int r, UV *q) {
    UV t[FOURS];
    switch (type) {
#define FOURS_OF(TYPE, name)                                                                       \
    case TYPE:                                                                                     \
        _Pragma("unroll") for (int i = 0; i < FOURS; i++) t[i] = four_##name(b, r, i);             \
        break;
        EACH_TYPE(FOURS_OF)
    }
#pragma unroll
    for (int i = 0; i < FOURS; i++)
        q[i] = t[i];
}

/* Byte t of each word, with its sign. */
SV byte_of(UV four, int t) {
    return I_TO_S(U_AS_INT(four << (24 - 8 * t)) >> 24);
}

/* Element 4 i + t of a unit of which `four` is word i. */
SV unit_element(int kind, SV s, SV second, UV four, int i, int t) {
    const SV q = byte_of(four, t);
    return kind == UNIT_MINIMUM            ? fma(s, q, second)
           : kind == UNIT_HALVES && i >= 4 ? second * q
                                           : s * q;
}

/* Moves to the block of step p of k; returns the unit's number in it. */
int blocks_to(blocks *b, BLOCK_SPACE const uchar *column, int type, long p) {
    const int elements = block_elements(type);
    b->at = column + p / elements * block_bytes(type);
    return (int)(p % elements) / UNIT;
}

#if TN_WIDTH == 1
/* The element of step p of the column that begins there. */
S block_element(BLOCK_SPACE const uchar *column, int type, long p) {
    blocks b;
    SV s, second;
    b.lane[0] = 0;
    const int r = blocks_to(&b, column, type, p), i = (int)(p % UNIT) / 4;
    unit_scales(&b, type, r, &s, &second);
    return unit_element(unit_kind(type), s, second, unit_four(&b, type, r, i), i, (int)(p % 4));
}
#endif

/* ---- A rounded to bytes, a unit of a row at a time: docs/NUMERICS.md, 3.8 */

typedef struct rounding {
    float d, total; /* the step; the sum of the bytes */
    bool zero;      /* all bytes are 0: x is too small, or not finite, and d NaN */
} rounding;

/* From max |x| and from NaN, or 0 if all of x is finite. */
rounding rounding_of(float most, float bad) {
    rounding r;
    const float d = most / 127;
    r.zero = bad != bad || d < 0x1p-126f;
    r.d = r.zero ? bad : d;
    r.total = 0;
    return r;
}

/* To nearest, ties to even: what is left of a number beside 1.5 * 2^23. */
#define ROUNDED(r, x, to_int)                                                                      \
    ((r)->zero ? 0 : to_int((x) / (r)->d + 0x1.8p23f) - 0x4b400000)

/* What a unit adds to a chain, times A's step: of the sums of products of its halves. */
SV unit_sum(int kind, SV s, SV second, SV sum0, SV sum1, float total) {
    if (kind == UNIT_HALVES)
        return fma(sum1, second, sum0 * s);
    const SV z = (sum0 + sum1) * s;
    return kind == UNIT_MINIMUM ? fma((SV)(total), second, z) : z;
}
