/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_int.h: 32-bit integer vectors, as many lanes as vf, for products of narrow integers.
 *
 * Included after vec.h by the kernels of gemm_dots.def. A lane is an s32 sum, or a slot: two s16 or
 * four bytes that follow each other along k. vi_pairs adds the two products of a slot of s16 to a
 * sum, exactly; vi_quads the four of u8 and s8, which takes an instruction that only some
 * processors have (TN_WITH_VNNI: AVX512_VNNI or AVX_VNNI, by level). Sums wrap: callers bound k.
 */
#ifndef TN_VEC_INT_H
#define TN_VEC_INT_H

#include "vec.h"

/* A variant of a level, with instructions beyond it. */
#ifdef TN_VARIANT
#undef TN_ISA
#define TN_ISA(name) TN_CAT(name, TN_VARIANT)
#endif

#if defined(TN_ISA_SCALAR)

typedef int32_t vi;

TN_INLINE vi vi_zero(void) {
    return 0;
}
TN_INLINE vi vi_set1(int32_t x) {
    return x;
}
TN_INLINE vi vi_load(const void *p) {
    vi v;
    memcpy(&v, p, sizeof v);
    return v;
}
TN_INLINE vi vi_load_n(const int32_t *p, int n) {
    return n > 0 ? *p : 0;
}
TN_INLINE void vi_store(void *p, vi v) { /* any address, as vi_load */
    memcpy(p, &v, sizeof v);
}
TN_INLINE void vi_store_n(int32_t *p, vi v, int n) {
    if (n > 0)
        *p = v;
}
TN_INLINE vi vi_add(vi a, vi b) {
    return (vi)((uint32_t)a + (uint32_t)b);
}
TN_INLINE vi vi_sub(vi a, vi b) {
    return (vi)((uint32_t)a - (uint32_t)b);
}
TN_INLINE vi vi_mul(vi a, vi b) {
    return (vi)((uint32_t)a * (uint32_t)b);
}
TN_INLINE vi vi_pairs(vi a, vi b, vi c) {
    const vi low = (int16_t)a * (int16_t)b, high = (a >> 16) * (b >> 16);
    return vi_add(c, vi_add(low, high));
}
TN_INLINE vi vi_join(vi low, vi high) {
    return (vi)(((uint32_t)low & 0xffff) | (uint32_t)high << 16);
}
TN_INLINE vi vi_wide_s8(const int8_t *p) {
    return *p;
}
TN_INLINE vi vi_wide_u8(const uint8_t *p) {
    return *p;
}
TN_INLINE vi vi_wide_s8_n(const int8_t *p, int n) {
    return n > 0 ? *p : 0;
}
TN_INLINE vi vi_wide_u8_n(const uint8_t *p, int n) {
    return n > 0 ? *p : 0;
}
TN_INLINE vi vi_slots_s8(const int8_t *p) {
    return vi_join(p[0], p[1]);
}
TN_INLINE vi vi_slots_u8(const uint8_t *p) {
    return vi_join(p[0], p[1]);
}
TN_INLINE void vi_rows_s8(const int8_t *p, const int8_t *q, vi *out) {
    out[0] = vi_join(p[0], q[0]);
    out[1] = vi_join(p[1], q[1]);
}
TN_INLINE void vi_rows_u8(const uint8_t *p, const uint8_t *q, vi *out) {
    out[0] = vi_join(p[0], q[0]);
    out[1] = vi_join(p[1], q[1]);
}
TN_INLINE void vi_transpose(vi *r) {
    (void)r;
}
TN_INLINE int32_t vi_sum(vi v) {
    return v;
}

#elif defined(TN_ISA_AVX2)

typedef __m256i vi;

TN_INLINE vi vi_zero(void) {
    return _mm256_setzero_si256();
}
TN_INLINE vi vi_set1(int32_t x) {
    return _mm256_set1_epi32(x);
}
TN_INLINE vi vi_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
TN_INLINE vi vi_load_n(const int32_t *p, int n) {
    return _mm256_maskload_epi32(p, tn_first32(n));
}
TN_INLINE void vi_store(int32_t *p, vi v) {
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}
TN_INLINE void vi_store_n(int32_t *p, vi v, int n) {
    _mm256_maskstore_epi32(p, tn_first32(n), v);
}
TN_INLINE vi vi_add(vi a, vi b) {
    return _mm256_add_epi32(a, b);
}
TN_INLINE vi vi_sub(vi a, vi b) {
    return _mm256_sub_epi32(a, b);
}
TN_INLINE vi vi_mul(vi a, vi b) {
    return _mm256_mullo_epi32(a, b);
}
TN_INLINE vi vi_or(vi a, vi b) {
    return _mm256_or_si256(a, b);
}
TN_INLINE vi vi_xor(vi a, vi b) {
    return _mm256_xor_si256(a, b);
}
#define vi_shift_left(a, n) _mm256_slli_epi32(a, n)
TN_INLINE vi vi_join(vi low, vi high) {
    return _mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xaa);
}
TN_INLINE vi vi_wide_s8(const int8_t *p) {
    return _mm256_cvtepi8_epi32(tn_load8x8(p));
}
TN_INLINE vi vi_wide_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(tn_load8x8(p));
}
TN_INLINE vi vi_wide_s8_n(const int8_t *p, int n) {
    return _mm256_cvtepi8_epi32(tn_load8_n((const uint8_t *)p, n));
}
TN_INLINE vi vi_wide_u8_n(const uint8_t *p, int n) {
    return _mm256_cvtepu8_epi32(tn_load8_n(p, n));
}
TN_INLINE vi vi_slots_s8(const int8_t *p) {
    return _mm256_cvtepi8_epi16(tn_load16x8(p));
}
TN_INLINE vi vi_slots_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi16(tn_load16x8(p));
}
TN_INLINE void vi_rows_s8(const int8_t *p, const int8_t *q, vi *out) {
    const __m128i a = tn_load16x8(p), b = tn_load16x8(q);
    out[0] = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
    out[1] = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b));
}
TN_INLINE void vi_rows_u8(const uint8_t *p, const uint8_t *q, vi *out) {
    const __m128i a = tn_load16x8(p), b = tn_load16x8(q);
    out[0] = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
    out[1] = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
}
TN_INLINE void vi_transpose(vi *r) {
    vf t[8];
    TN_UNROLL
    for (int i = 0; i < 8; i++)
        t[i] = _mm256_castsi256_ps(r[i]);
    vf_transpose(t);
    TN_UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = _mm256_castps_si256(t[i]);
}
TN_INLINE int32_t vi_sum(vi v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

#if defined(TN_WITH_VNNI) && defined(TN_EMULATE_AVX512)
#include <simde/x86/avx512/dpbusd.h>
TN_INLINE vi vi_quads(vi a, vi b, vi c) {
    return simde_mm256_dpbusd_epi32(c, a, b);
}
#elif defined(TN_WITH_VNNI)
TN_INLINE vi vi_quads(vi a, vi b, vi c) {
    return _mm256_dpbusd_avx_epi32(c, a, b);
}
#endif
TN_INLINE vi vi_pairs(vi a, vi b, vi c) {
#if defined(TN_WITH_VNNI) && !defined(TN_EMULATE_AVX512)
    return _mm256_dpwssd_avx_epi32(c, a, b);
#else
    return _mm256_add_epi32(c, _mm256_madd_epi16(a, b));
#endif
}

#else /* TN_ISA_AVX512 */

typedef __m512i vi;

TN_INLINE vi vi_zero(void) {
    return _mm512_setzero_si512();
}
TN_INLINE vi vi_set1(int32_t x) {
    return _mm512_set1_epi32(x);
}
TN_INLINE vi vi_load(const void *p) {
    return _mm512_loadu_si512(p);
}
TN_INLINE void vi_store(int32_t *p, vi v) {
    _mm512_storeu_si512((void *)p, v);
}
TN_INLINE vi vi_load_n(const int32_t *p, int n) {
    return _mm512_maskz_loadu_epi32(vfm_first(n), p);
}
TN_INLINE void vi_store_n(int32_t *p, vi v, int n) {
#ifdef TN_EMULATE_AVX512
    int32_t t[16];
    vi_store(t, v);
    for (int i = 0; i < n; i++)
        p[i] = t[i];
#else
    _mm512_mask_storeu_epi32(p, vfm_first(n), v);
#endif
}
TN_INLINE vi vi_add(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
TN_INLINE vi vi_sub(vi a, vi b) {
    return _mm512_sub_epi32(a, b);
}
TN_INLINE vi vi_mul(vi a, vi b) {
    return _mm512_mullo_epi32(a, b);
}
TN_INLINE vi vi_or(vi a, vi b) {
    return _mm512_or_si512(a, b);
}
TN_INLINE vi vi_xor(vi a, vi b) {
    return _mm512_xor_si512(a, b);
}
#define vi_shift_left(a, n) _mm512_slli_epi32(a, n)
#define vi_shift_right(a, n) _mm512_srli_epi32(a, n)
TN_INLINE vi vi_join(vi low, vi high) {
    return _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi32(0xffff)),
                           _mm512_slli_epi32(high, 16));
}
TN_INLINE __m128i tn_bytes16(const void *p) {
    return _mm_loadu_si128((const __m128i *)p);
}
TN_INLINE __m256i tn_bytes32(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
TN_NOINLINE __m128i tn_bytes16_n(const void *p, int n) {
    uint8_t t[16] = {0};
    for (int i = 0; i < n; i++)
        t[i] = ((const uint8_t *)p)[i];
    return tn_bytes16(t);
}
TN_INLINE vi vi_wide_s8(const int8_t *p) {
    return _mm512_cvtepi8_epi32(tn_bytes16(p));
}
TN_INLINE vi vi_wide_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(tn_bytes16(p));
}
TN_INLINE vi vi_wide_s8_n(const int8_t *p, int n) {
    return _mm512_cvtepi8_epi32(tn_bytes16_n(p, n));
}
TN_INLINE vi vi_wide_u8_n(const uint8_t *p, int n) {
    return _mm512_cvtepu8_epi32(tn_bytes16_n(p, n));
}
#ifdef TN_EMULATE_AVX512
TN_INLINE vi tn_wide16_s8(__m256i b) {
    return tn_join_si(_mm256_cvtepi8_epi16(_mm256_castsi256_si128(b)),
                      _mm256_cvtepi8_epi16(tn_high128(b)));
}
TN_INLINE vi tn_wide16_u8(__m256i b) {
    return tn_join_si(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(b)),
                      _mm256_cvtepu8_epi16(tn_high128(b)));
}
TN_INLINE int32_t vi_sum(vi v) {
    uint32_t t[16], s = 0;
    memcpy(t, &v, sizeof t);
    for (int i = 0; i < 16; i++)
        s += t[i];
    return (int32_t)s;
}
#else
TN_INLINE vi tn_wide16_s8(__m256i b) {
    return _mm512_cvtepi8_epi16(b);
}
TN_INLINE vi tn_wide16_u8(__m256i b) {
    return _mm512_cvtepu8_epi16(b);
}
TN_INLINE int32_t vi_sum(vi v) {
    return _mm512_reduce_add_epi32(v);
}
#endif
TN_INLINE vi vi_slots_s8(const int8_t *p) {
    return tn_wide16_s8(tn_bytes32(p));
}
TN_INLINE vi vi_slots_u8(const uint8_t *p) {
    return tn_wide16_u8(tn_bytes32(p));
}
/* 16 slots of the bytes of two rows. */
TN_INLINE __m256i tn_zip16(const void *p, const void *q) {
    const __m128i a = tn_bytes16(p), b = tn_bytes16(q);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi8(a, b)),
                                   _mm_unpackhi_epi8(a, b), 1);
}
TN_INLINE void vi_rows_s8(const int8_t *p, const int8_t *q, vi *out) {
    out[0] = tn_wide16_s8(tn_zip16(p, q));
    out[1] = tn_wide16_s8(tn_zip16(p + 16, q + 16));
}
TN_INLINE void vi_rows_u8(const uint8_t *p, const uint8_t *q, vi *out) {
    out[0] = tn_wide16_u8(tn_zip16(p, q));
    out[1] = tn_wide16_u8(tn_zip16(p + 16, q + 16));
}
TN_INLINE void vi_transpose(vi *r) {
    vf t[16];
    TN_UNROLL
    for (int i = 0; i < 16; i++)
        t[i] = _mm512_castsi512_ps(r[i]);
    vf_transpose(t);
    TN_UNROLL
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_castps_si512(t[i]);
}
TN_INLINE vi vi_pairs(vi a, vi b, vi c) {
#ifdef TN_WITH_VNNI
    return _mm512_dpwssd_epi32(c, a, b);
#else
    return _mm512_add_epi32(c, _mm512_madd_epi16(a, b));
#endif
}
#ifdef TN_WITH_VNNI
TN_INLINE vi vi_quads(vi a, vi b, vi c) {
    return _mm512_dpbusd_epi32(c, a, b);
}
#endif

#endif

#endif
