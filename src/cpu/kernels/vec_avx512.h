/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_avx512.h: the vector layer on AVX-512 F, BW, VL and DQ: 16 f32 or 8 f64 lanes. See vec.h for
 * the meaning of each function. With TN_EMULATE_AVX512 (tests only) the same code runs on AVX2
 * through SIMDe.
 */
#ifndef TN_VEC_AVX512_H
#define TN_VEC_AVX512_H

#ifdef TN_EMULATE_AVX512
#include "vec_avx512_emulated.h"
#else
#include <immintrin.h>
#endif

#define VF 16
#define VD 8
typedef __m512 vf;
typedef __m512d vd;
typedef __mmask16 vfm;
typedef __mmask8 vdm;

TN_INLINE vfm vfm_first(int n) {
    return (vfm)((1u << n) - 1);
}
TN_INLINE vdm vdm_first(int n) {
    return (vdm)((1u << n) - 1);
}

TN_INLINE vf vf_zero(void) {
    return _mm512_setzero_ps();
}
TN_INLINE vf vf_set1(float x) {
    return _mm512_set1_ps(x);
}
TN_INLINE vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
TN_INLINE void vf_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
TN_INLINE vf vf_load_n(const float *p, int n) {
    return _mm512_maskz_loadu_ps(vfm_first(n), p);
}
TN_INLINE void vf_store_n(float *p, vf v, int n) {
    _mm512_mask_storeu_ps(p, vfm_first(n), v);
}
TN_INLINE vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
TN_INLINE vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
TN_INLINE vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
TN_INLINE vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
TN_INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
TN_INLINE vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
TN_INLINE vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
TN_INLINE __m512i tn_sign32(void) {
    return _mm512_set1_epi32((int)0x80000000u);
}
TN_INLINE vf vf_neg(vf a) {
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), tn_sign32()));
}
TN_INLINE vf vf_abs(vf a) {
    return _mm512_castsi512_ps(_mm512_andnot_si512(tn_sign32(), _mm512_castps_si512(a)));
}
TN_INLINE vf vf_copysign(vf a, vf s) {
    const __m512i magnitude = _mm512_andnot_si512(tn_sign32(), _mm512_castps_si512(a));
    const __m512i sign = _mm512_and_si512(tn_sign32(), _mm512_castps_si512(s));
    return _mm512_castsi512_ps(_mm512_or_si512(magnitude, sign));
}
TN_INLINE vf vf_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TN_INLINE vfm vf_lt(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
TN_INLINE vfm vf_le(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
TN_INLINE vfm vf_gt(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
TN_INLINE vfm vf_ge(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}
TN_INLINE vfm vf_eq(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
TN_INLINE vfm vf_unord(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
}
TN_INLINE vf vf_select(vfm m, vf a, vf b) {
    return _mm512_mask_blend_ps(m, b, a);
}
TN_INLINE vfm vfm_and(vfm a, vfm b) {
    return a & b;
}
TN_INLINE vfm vfm_or(vfm a, vfm b) {
    return a | b;
}
TN_INLINE vfm vfm_not(vfm a) {
    return (vfm)~a;
}
TN_INLINE int vfm_any(vfm a) {
    return a != 0;
}
TN_INLINE int vfm_all(vfm a) {
    return a == 0xffff;
}
TN_INLINE vf vf_ldexp(vf x, vf n) {
    return _mm512_scalef_ps(x, n);
}

/* 16 halves or 16 bytes, of which the first n are read or written. */
TN_INLINE __m256i tn_load16x16(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
TN_INLINE __m128i tn_load8x16(const void *p) {
    return _mm_loadu_si128((const __m128i *)p);
}
#ifdef TN_EMULATE_AVX512
TN_NOINLINE __m256i tn_load16_n(const uint16_t *p, int n) {
    uint16_t t[16] = {0};
    for (int i = 0; i < n; i++)
        t[i] = p[i];
    return tn_load16x16(t);
}
TN_NOINLINE __m128i tn_load8_n(const void *p, int n) {
    uint8_t t[16] = {0};
    for (int i = 0; i < n; i++)
        t[i] = ((const uint8_t *)p)[i];
    return tn_load8x16(t);
}
TN_NOINLINE void tn_store16_n(uint16_t *p, __m256i v, int n) {
    uint16_t t[16];
    _mm256_storeu_si256((__m256i *)(void *)t, v);
    for (int i = 0; i < n; i++)
        p[i] = t[i];
}
#else
TN_INLINE __m256i tn_load16_n(const uint16_t *p, int n) {
    return _mm256_maskz_loadu_epi16(vfm_first(n), p);
}
TN_INLINE __m128i tn_load8_n(const void *p, int n) {
    return _mm_maskz_loadu_epi8(vfm_first(n), p);
}
TN_INLINE void tn_store16_n(uint16_t *p, __m256i v, int n) {
    _mm256_mask_storeu_epi16(p, vfm_first(n), v);
}
#endif

TN_INLINE vf tn_bf16x16(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
TN_INLINE vf tn_f8e5m2x16(__m128i b) {
    return _mm512_cvtph_ps(_mm256_slli_epi16(_mm256_cvtepu8_epi16(b), 8));
}
TN_INLINE vf tn_f8e4m3x16(__m128i b) {
    /* The bits as an f16 of the wrong bias, times 2^8: exact, subnormals too. 0x7f is the NaN. */
    const __m256i w = _mm256_cvtepu8_epi16(b);
    const __m256i magnitude = _mm256_and_si256(w, _mm256_set1_epi16(0x7f));
    const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(w, _mm256_set1_epi16(0x80)), 8);
    const __m256i nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f));
    const __m256i h =
        _mm256_or_si256(sign, _mm256_or_si256(_mm256_slli_epi16(magnitude, 7),
                                              _mm256_and_si256(nan, _mm256_set1_epi16(0x7e00))));
    const vf v = _mm512_mul_ps(_mm512_cvtph_ps(h), _mm512_set1_ps(256.0f));
    /* The NaN's payload is brought to the one that the plain conversion gives. */
    const vf quiet = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000));
    return vf_select(vf_unord(v, v), vf_copysign(quiet, v), v);
}
TN_INLINE vf tn_s8x16(__m128i b) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b));
}
TN_INLINE vf tn_u8x16(__m128i b) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(b));
}

TN_INLINE vf vf_set1_f16(uint16_t h) {
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)h));
}
TN_INLINE vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(tn_load16x16(p));
}
TN_INLINE vf vf_load_f16_n(const uint16_t *p, int n) {
    return _mm512_cvtph_ps(tn_load16_n(p, n));
}
TN_INLINE vf vf_load_bf16(const uint16_t *p) {
    return tn_bf16x16(tn_load16x16(p));
}
TN_INLINE vf vf_load_bf16_n(const uint16_t *p, int n) {
    return tn_bf16x16(tn_load16_n(p, n));
}
TN_INLINE vf vf_load_f8e4m3(const uint8_t *p) {
    return tn_f8e4m3x16(tn_load8x16(p));
}
TN_INLINE vf vf_load_f8e4m3_n(const uint8_t *p, int n) {
    return tn_f8e4m3x16(tn_load8_n(p, n));
}
TN_INLINE vf vf_load_f8e5m2(const uint8_t *p) {
    return tn_f8e5m2x16(tn_load8x16(p));
}
TN_INLINE vf vf_load_f8e5m2_n(const uint8_t *p, int n) {
    return tn_f8e5m2x16(tn_load8_n(p, n));
}
TN_INLINE vf vf_load_s8(const int8_t *p) {
    return tn_s8x16(tn_load8x16(p));
}
TN_INLINE vf vf_load_s8_n(const int8_t *p, int n) {
    return tn_s8x16(tn_load8_n(p, n));
}
TN_INLINE vf vf_load_u8(const uint8_t *p) {
    return tn_u8x16(tn_load8x16(p));
}
TN_INLINE vf vf_load_u8_n(const uint8_t *p, int n) {
    return tn_u8x16(tn_load8_n(p, n));
}
TN_INLINE vf vf_load_s32(const int32_t *p) {
    return _mm512_cvtepi32_ps(_mm512_loadu_si512((const void *)p));
}
TN_INLINE vf vf_load_s32_n(const int32_t *p, int n) {
    return _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(vfm_first(n), p));
}

TN_INLINE __m256i tn_f16_of(vf v) {
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
}
TN_INLINE __m256i tn_bf16_of(vf v) {
    const __m512i u = _mm512_castps_si512(v), top = _mm512_srli_epi32(u, 16);
    const __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    r = _mm512_srli_epi32(r, 16);
    const __m512i quiet = _mm512_or_si512(top, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(vf_unord(v, v), r, quiet));
}
TN_INLINE void vf_store_f16(uint16_t *p, vf v) {
    _mm256_storeu_si256((__m256i *)(void *)p, tn_f16_of(v));
}
TN_INLINE void vf_store_f16_n(uint16_t *p, vf v, int n) {
    tn_store16_n(p, tn_f16_of(v), n);
}
TN_INLINE void vf_store_bf16(uint16_t *p, vf v) {
    _mm256_storeu_si256((__m256i *)(void *)p, tn_bf16_of(v));
}
TN_INLINE void vf_store_bf16_n(uint16_t *p, vf v, int n) {
    tn_store16_n(p, tn_bf16_of(v), n);
}

TN_INLINE vfm tn_true8(__m128i b) {
    const __m128i zero = _mm_cmpeq_epi8(b, _mm_setzero_si128());
    return (vfm) ~(unsigned)_mm_movemask_epi8(zero);
}
TN_INLINE vfm vfm_load_u8(const uint8_t *p) {
    return tn_true8(tn_load8x16(p));
}
TN_INLINE vfm vfm_load_u8_n(const uint8_t *p, int n) {
    return tn_true8(tn_load8_n(p, n));
}

TN_INLINE void vf_transpose(vf *r) {
    /* Within 128-bit lanes by 2 and by 4, then the lanes by 2 and by 4. */
    vf a[16], b[16];
    TN_UNROLL
    for (int i = 0; i < 8; i++) {
        a[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    TN_UNROLL
    for (int h = 0; h < 4; h++) {
        b[4 * h + 0] = _mm512_shuffle_ps(a[4 * h + 0], a[4 * h + 2], 0x44);
        b[4 * h + 1] = _mm512_shuffle_ps(a[4 * h + 0], a[4 * h + 2], 0xee);
        b[4 * h + 2] = _mm512_shuffle_ps(a[4 * h + 1], a[4 * h + 3], 0x44);
        b[4 * h + 3] = _mm512_shuffle_ps(a[4 * h + 1], a[4 * h + 3], 0xee);
    }
    TN_UNROLL
    for (int i = 0; i < 4; i++) {
        const vf p = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88),
                 q = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
        const vf s = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
        const vf t = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
        r[i] = _mm512_shuffle_f32x4(p, s, 0x88);
        r[i + 4] = _mm512_shuffle_f32x4(q, t, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(p, s, 0xdd);
        r[i + 12] = _mm512_shuffle_f32x4(q, t, 0xdd);
    }
}

TN_INLINE vd vd_zero(void) {
    return _mm512_setzero_pd();
}
TN_INLINE vd vd_set1(double x) {
    return _mm512_set1_pd(x);
}
TN_INLINE vd vd_load(const double *p) {
    return _mm512_loadu_pd(p);
}
TN_INLINE void vd_store(double *p, vd v) {
    _mm512_storeu_pd(p, v);
}
TN_INLINE vd vd_load_n(const double *p, int n) {
    return _mm512_maskz_loadu_pd(vdm_first(n), p);
}
TN_INLINE void vd_store_n(double *p, vd v, int n) {
    _mm512_mask_storeu_pd(p, vdm_first(n), v);
}
TN_INLINE vd vd_add(vd a, vd b) {
    return _mm512_add_pd(a, b);
}
TN_INLINE vd vd_sub(vd a, vd b) {
    return _mm512_sub_pd(a, b);
}
TN_INLINE vd vd_mul(vd a, vd b) {
    return _mm512_mul_pd(a, b);
}
TN_INLINE vd vd_div(vd a, vd b) {
    return _mm512_div_pd(a, b);
}
TN_INLINE vd vd_fma(vd a, vd b, vd c) {
    return _mm512_fmadd_pd(a, b, c);
}
TN_INLINE vd vd_max(vd a, vd b) {
    return _mm512_max_pd(a, b);
}
TN_INLINE vd vd_min(vd a, vd b) {
    return _mm512_min_pd(a, b);
}
TN_INLINE __m512i tn_sign64(void) {
    return _mm512_set1_epi64((int64_t)(UINT64_C(1) << 63));
}
TN_INLINE vd vd_neg(vd a) {
    return _mm512_castsi512_pd(_mm512_xor_si512(_mm512_castpd_si512(a), tn_sign64()));
}
TN_INLINE vd vd_abs(vd a) {
    return _mm512_castsi512_pd(_mm512_andnot_si512(tn_sign64(), _mm512_castpd_si512(a)));
}
TN_INLINE vd vd_copysign(vd a, vd s) {
    const __m512i magnitude = _mm512_andnot_si512(tn_sign64(), _mm512_castpd_si512(a));
    const __m512i sign = _mm512_and_si512(tn_sign64(), _mm512_castpd_si512(s));
    return _mm512_castsi512_pd(_mm512_or_si512(magnitude, sign));
}
TN_INLINE vd vd_round(vd a) {
    return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TN_INLINE vdm vd_lt(vd a, vd b) {
    return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ);
}
TN_INLINE vdm vd_le(vd a, vd b) {
    return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ);
}
TN_INLINE vdm vd_gt(vd a, vd b) {
    return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ);
}
TN_INLINE vdm vd_ge(vd a, vd b) {
    return _mm512_cmp_pd_mask(a, b, _CMP_GE_OQ);
}
TN_INLINE vdm vd_eq(vd a, vd b) {
    return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ);
}
TN_INLINE vdm vd_unord(vd a, vd b) {
    return _mm512_cmp_pd_mask(a, b, _CMP_UNORD_Q);
}
TN_INLINE vd vd_select(vdm m, vd a, vd b) {
    return _mm512_mask_blend_pd(m, b, a);
}
TN_INLINE vdm vdm_and(vdm a, vdm b) {
    return a & b;
}
TN_INLINE vdm vdm_or(vdm a, vdm b) {
    return a | b;
}
TN_INLINE vdm vdm_not(vdm a) {
    return (vdm)~a;
}
TN_INLINE int vdm_any(vdm a) {
    return a != 0;
}
TN_INLINE int vdm_all(vdm a) {
    return a == 0xff;
}
TN_INLINE vdm vdm_load_u8_n(const uint8_t *p, int n) {
    return (vdm)tn_true8(tn_load8_n(p, n));
}
TN_INLINE vd vd_ldexp(vd x, vd n) {
    return _mm512_scalef_pd(x, n);
}

TN_INLINE vd vd_load_f32(const float *p) {
    return _mm512_cvtps_pd(_mm256_loadu_ps(p));
}
TN_INLINE vd vd_load_f32_n(const float *p, int n) {
    return _mm512_cvtps_pd(_mm512_castps512_ps256(_mm512_maskz_loadu_ps(vfm_first(n), p)));
}
TN_INLINE void vd_store_f32(float *p, vd v) {
    _mm256_storeu_ps(p, _mm512_cvtpd_ps(v));
}
TN_INLINE void vd_store_f32_n(float *p, vd v, int n) {
    _mm512_mask_storeu_ps(p, vfm_first(n), _mm512_castps256_ps512(_mm512_cvtpd_ps(v)));
}
TN_INLINE __m128i tn_load8x8(const void *p) {
    return _mm_loadl_epi64((const __m128i *)p);
}
TN_INLINE vd tn_s8x8(__m128i b) {
    return _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(b));
}
TN_INLINE vd tn_u8x8(__m128i b) {
    return _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(b));
}
TN_INLINE vd vd_load_s8(const int8_t *p) {
    return tn_s8x8(tn_load8x8(p));
}
TN_INLINE vd vd_load_s8_n(const int8_t *p, int n) {
    return tn_s8x8(tn_load8_n(p, n));
}
TN_INLINE vd vd_load_u8(const uint8_t *p) {
    return tn_u8x8(tn_load8x8(p));
}
TN_INLINE vd vd_load_u8_n(const uint8_t *p, int n) {
    return tn_u8x8(tn_load8_n(p, n));
}
TN_INLINE vd vd_load_s32(const int32_t *p) {
    return _mm512_cvtepi32_pd(tn_load16x16(p));
}
TN_INLINE vd vd_load_s32_n(const int32_t *p, int n) {
    return _mm512_cvtepi32_pd(_mm512_castsi512_si256(_mm512_maskz_loadu_epi32(vfm_first(n), p)));
}
TN_INLINE void vd_transpose(vd *r) {
    vd a[8], b[8];
    TN_UNROLL
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm512_unpacklo_pd(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_pd(r[2 * i], r[2 * i + 1]);
    }
    TN_UNROLL
    for (int h = 0; h < 2; h++) {
        TN_UNROLL
        for (int i = 0; i < 2; i++) {
            b[4 * h + i] = _mm512_shuffle_f64x2(a[4 * h + i], a[4 * h + 2 + i], 0x88);
            b[4 * h + 2 + i] = _mm512_shuffle_f64x2(a[4 * h + i], a[4 * h + 2 + i], 0xdd);
        }
    }
    TN_UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_f64x2(b[i], b[i + 4], 0x88);
        r[i + 4] = _mm512_shuffle_f64x2(b[i], b[i + 4], 0xdd);
    }
}

#endif
