/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_quads.h: lanes of four bytes, for the kernels of block types: a lane is a column, its bytes
 * are four steps of k.
 *
 * Included after vec_int.h. Bytes are masked, shifted within their lane, looked up in tables of 16,
 * and brought to f32 one of the four at a time. vi_bytes8 and vi_bytes4 read lanes where they are
 * not side by side: 32 or 16 bytes from each of VF addresses, transposed in registers.
 */
#ifndef TN_VEC_QUADS_H
#define TN_VEC_QUADS_H

#include "vec_int.h"

/* The byte x in all four places. */
#define VI_BYTES(x) vi_set1((int32_t)(0x01010101u * (uint32_t)(x)))

#if defined(TN_ISA_SCALAR)

TN_INLINE vi vi_and(vi a, vi b) {
    return a & b;
}
TN_INLINE vi vi_or(vi a, vi b) {
    return a | b;
}
TN_INLINE vi vi_xor(vi a, vi b) {
    return a ^ b;
}
/* Bytes without borrow from each other; the highest bits are settled apart. */
TN_INLINE vi vi_sub_bytes(vi a, vi b) {
    const uint32_t x = (uint32_t)a, y = (uint32_t)b, high = 0x80808080u;
    return (vi)(((x | high) - (y & ~high)) ^ ((x ^ ~y) & high));
}
TN_INLINE vi vi_right(vi a, int n) {
    return (vi)((uint32_t)a >> n);
}
TN_INLINE vi vi_left(vi a, int n) {
    return (vi)((uint32_t)a << n);
}
TN_INLINE vi vi_right_signed(vi a, int n) {
    return a >> n;
}
TN_INLINE vi vi_lookup(const int8_t *table, vi index) {
    uint32_t r = 0;
    for (int t = 0; t < 4; t++)
        r |= (uint32_t)(uint8_t)table[(uint32_t)index >> 8 * t & 15] << 8 * t;
    return (vi)r;
}
TN_INLINE vi vi_top_byte(vi a, int t) {
    return (vi)((uint32_t)a << (24 - 8 * t) & 0xff000000u);
}
TN_INLINE vf vi_to_f32(vi a) {
    return (float)a;
}
TN_INLINE vf vi_as_f32(vi a) {
    return tn_f32_bits((uint32_t)a);
}
/* Sum of the products of four u8 and s8, added to c. */
TN_INLINE vi vi_quads(vi a, vi b, vi c) {
    for (int t = 0; t < 4; t++)
        c = vi_add(c, (vi)((uint32_t)a >> 8 * t & 255) * (int8_t)((uint32_t)b >> 8 * t));
    return c;
}
TN_INLINE void vi_bytes4(const uint8_t *const *at, int64_t offset, vi *out) {
    for (int i = 0; i < 4; i++)
        out[i] = vi_load(at[0] + offset + 4 * i);
}
TN_INLINE void vi_bytes8(const uint8_t *const *at, int64_t offset, vi *out) {
    vi_bytes4(at, offset, out);
    vi_bytes4(at, offset + 16, out + 4);
}

#elif defined(TN_ISA_AVX2)

TN_INLINE vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
TN_INLINE vi vi_sub_bytes(vi a, vi b) {
    return _mm256_sub_epi8(a, b);
}
TN_INLINE vi vi_right(vi a, int n) {
    return _mm256_srli_epi32(a, n);
}
TN_INLINE vi vi_left(vi a, int n) {
    return _mm256_slli_epi32(a, n);
}
TN_INLINE vi vi_right_signed(vi a, int n) {
    return _mm256_srai_epi32(a, n);
}
TN_INLINE vi vi_lookup(const int8_t *table, vi index) {
    return _mm256_shuffle_epi8(
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table)), index);
}
/* Where vi_top_byte finds each byte; 0x80 is zero. */
#define TN_TOP_BYTE(t)                                                                             \
    _mm_setr_epi8(-128, -128, -128, t, -128, -128, -128, 4 + t, -128, -128, -128, 8 + t, -128,     \
                  -128, -128, 12 + t)
TN_INLINE vi vi_top_byte(vi a, int t) {
    return _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(TN_TOP_BYTE((char)t)));
}
TN_INLINE vf vi_to_f32(vi a) {
    return _mm256_cvtepi32_ps(a);
}
TN_INLINE vf vi_as_f32(vi a) {
    return _mm256_castsi256_ps(a);
}
/* Products of u8 and s8, two and two added in s16: the sums must have room there. */
TN_INLINE vi vi_two_quads(vi a, vi b) {
    return _mm256_maddubs_epi16(a, b);
}
TN_INLINE vi vi_add16(vi a, vi b) {
    return _mm256_add_epi16(a, b);
}
/* |a| of s8, as u8; and a with its sign changed where b's is negative, a > -128. Where b is 0,
 * a or 0. */
TN_INLINE vi vi_abs_bytes(vi a) {
    return _mm256_abs_epi8(a);
}
TN_INLINE vi vi_sign_bytes(vi a, vi b) {
    return _mm256_sign_epi8(a, b);
}
TN_INLINE __m256i tn_two16(const uint8_t *low, const uint8_t *high) {
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)low)),
        _mm_loadu_si128((const __m128i *)(const void *)high), 1);
}
TN_INLINE void vi_bytes4(const uint8_t *const *at, int64_t offset, vi *out) {
    __m256i r[4], t[4];
    TN_UNROLL
    for (int i = 0; i < 4; i++)
        r[i] = tn_two16(at[i] + offset, at[i + 4] + offset);
    t[0] = _mm256_unpacklo_epi32(r[0], r[1]);
    t[1] = _mm256_unpackhi_epi32(r[0], r[1]);
    t[2] = _mm256_unpacklo_epi32(r[2], r[3]);
    t[3] = _mm256_unpackhi_epi32(r[2], r[3]);
    out[0] = _mm256_unpacklo_epi64(t[0], t[2]);
    out[1] = _mm256_unpackhi_epi64(t[0], t[2]);
    out[2] = _mm256_unpacklo_epi64(t[1], t[3]);
    out[3] = _mm256_unpackhi_epi64(t[1], t[3]);
}
TN_INLINE void vi_bytes8(const uint8_t *const *at, int64_t offset, vi *out) {
    vi_bytes4(at, offset, out);
    vi_bytes4(at, offset + 16, out + 4);
}

#else /* TN_ISA_AVX512 */

TN_INLINE vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
#ifdef TN_EMULATE_AVX512
/* What SIMDe lacks, or has only for constants, in halves. */
#define TN_QUADS_HALVES(name, ...)                                                                 \
    {                                                                                              \
        const __m256i x[2] = {tn_low_si(a), tn_high_si(a)};                                        \
        __m256i y[2];                                                                              \
        for (int h = 0; h < 2; h++)                                                                \
            y[h] = name(x[h], __VA_ARGS__);                                                        \
        return tn_join_si(y[0], y[1]);                                                             \
    }
TN_INLINE vi vi_sub_bytes(vi a, vi b) {
    return tn_join_si(_mm256_sub_epi8(tn_low_si(a), tn_low_si(b)),
                      _mm256_sub_epi8(tn_high_si(a), tn_high_si(b)));
}
TN_INLINE vi vi_right(vi a,
                      int n){TN_QUADS_HALVES(_mm256_srl_epi32, _mm_cvtsi32_si128(n))} TN_INLINE vi
    vi_left(vi a, int n){TN_QUADS_HALVES(_mm256_sll_epi32, _mm_cvtsi32_si128(n))} TN_INLINE vi
    vi_right_signed(vi a,
                    int n){TN_QUADS_HALVES(_mm256_sra_epi32, _mm_cvtsi32_si128(n))} TN_INLINE vi
    tn_shuffle_bytes(vi a, __m128i to){
        TN_QUADS_HALVES(_mm256_shuffle_epi8, _mm256_broadcastsi128_si256(to))} TN_INLINE vi
    vi_two_quads(vi a, vi b) {
    return tn_join_si(_mm256_maddubs_epi16(tn_low_si(a), tn_low_si(b)),
                      _mm256_maddubs_epi16(tn_high_si(a), tn_high_si(b)));
}
TN_INLINE vi vi_add16(vi a, vi b) {
    return tn_join_si(_mm256_add_epi16(tn_low_si(a), tn_low_si(b)),
                      _mm256_add_epi16(tn_high_si(a), tn_high_si(b)));
}
TN_INLINE vi vi_abs_bytes(vi a) {
    return tn_join_si(_mm256_abs_epi8(tn_low_si(a)), _mm256_abs_epi8(tn_high_si(a)));
}
TN_INLINE vi vi_sign_bytes(vi a, vi b) {
    return tn_join_si(_mm256_sign_epi8(tn_low_si(a), tn_low_si(b)),
                      _mm256_sign_epi8(tn_high_si(a), tn_high_si(b)));
}
TN_INLINE vi vi_lookup(const int8_t *table, vi index) {
    const __m256i t = _mm256_broadcastsi128_si256(tn_bytes16(table));
    return tn_join_si(_mm256_shuffle_epi8(t, tn_low_si(index)),
                      _mm256_shuffle_epi8(t, tn_high_si(index)));
}
#else
TN_INLINE vi vi_sub_bytes(vi a, vi b) {
    return _mm512_sub_epi8(a, b);
}
TN_INLINE vi vi_right(vi a, int n) {
    return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n));
}
TN_INLINE vi vi_left(vi a, int n) {
    return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n));
}
TN_INLINE vi vi_right_signed(vi a, int n) {
    return _mm512_sra_epi32(a, _mm_cvtsi32_si128(n));
}
TN_INLINE vi vi_two_quads(vi a, vi b) {
    return _mm512_maddubs_epi16(a, b);
}
TN_INLINE vi vi_add16(vi a, vi b) {
    return _mm512_add_epi16(a, b);
}
TN_INLINE vi vi_abs_bytes(vi a) {
    return _mm512_abs_epi8(a);
}
TN_INLINE vi vi_sign_bytes(vi a, vi b) {
    return _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(b), _mm512_setzero_si512(), a);
}
TN_INLINE vi tn_shuffle_bytes(vi a, __m128i to) {
    return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(to));
}
TN_INLINE vi vi_lookup(const int8_t *table, vi index) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(tn_bytes16(table)), index);
}
#endif
#define TN_TOP_BYTE(t)                                                                             \
    _mm_setr_epi8(-128, -128, -128, t, -128, -128, -128, 4 + t, -128, -128, -128, 8 + t, -128,     \
                  -128, -128, 12 + t)
TN_INLINE vi vi_top_byte(vi a, int t) {
    return tn_shuffle_bytes(a, TN_TOP_BYTE((char)t));
}
TN_INLINE vf vi_to_f32(vi a) {
    return _mm512_cvtepi32_ps(a);
}
TN_INLINE vf vi_as_f32(vi a) {
    return _mm512_castsi512_ps(a);
}
/* Eight of the sixteen addresses. */
TN_INLINE void tn_half_bytes4(const uint8_t *const *at, int64_t offset, __m256i *out) {
    __m256i r[4], t[4];
    TN_UNROLL
    for (int i = 0; i < 4; i++)
        r[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(tn_bytes16(at[i] + offset)),
                                       tn_bytes16(at[i + 4] + offset), 1);
    t[0] = _mm256_unpacklo_epi32(r[0], r[1]);
    t[1] = _mm256_unpackhi_epi32(r[0], r[1]);
    t[2] = _mm256_unpacklo_epi32(r[2], r[3]);
    t[3] = _mm256_unpackhi_epi32(r[2], r[3]);
    out[0] = _mm256_unpacklo_epi64(t[0], t[2]);
    out[1] = _mm256_unpackhi_epi64(t[0], t[2]);
    out[2] = _mm256_unpacklo_epi64(t[1], t[3]);
    out[3] = _mm256_unpackhi_epi64(t[1], t[3]);
}
TN_INLINE vi tn_join_quads(__m256i low, __m256i high) {
#ifdef TN_EMULATE_AVX512
    return tn_join_si(low, high);
#else
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
#endif
}
TN_INLINE void vi_bytes4(const uint8_t *const *at, int64_t offset, vi *out) {
    __m256i low[4], high[4];
    tn_half_bytes4(at, offset, low);
    tn_half_bytes4(at + 8, offset, high);
    TN_UNROLL
    for (int i = 0; i < 4; i++)
        out[i] = tn_join_quads(low[i], high[i]);
}
TN_INLINE void vi_bytes8(const uint8_t *const *at, int64_t offset, vi *out) {
    vi_bytes4(at, offset, out);
    vi_bytes4(at, offset + 16, out + 4);
}

#endif

#endif
