/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_avx2.h: the vector layer on AVX2, FMA and F16C: 8 f32 or 4 f64 lanes. See vec.h for the
 * meaning of each function.
 */
#ifndef TN_VEC_AVX2_H
#define TN_VEC_AVX2_H

#include <immintrin.h>

#define VF 8
#define VD 4
typedef __m256 vf;
typedef __m256d vd;
typedef __m256 vfm; /* lanes of all ones or all zeros */
typedef __m256d vdm;

/* Lane masks for the first n of 8 or 4 lanes: a window sliding over ones followed by zeros. */
static const int32_t tn_mask_window32[16]
    __attribute__((unused)) = {-1, -1, -1, -1, -1, -1, -1, -1};
static const int64_t tn_mask_window64[8] __attribute__((unused)) = {-1, -1, -1, -1};

TN_INLINE __m256i tn_first32(int n) {
    return _mm256_loadu_si256((const __m256i *)(const void *)(tn_mask_window32 + 8 - n));
}
TN_INLINE __m256i tn_first64(int n) {
    return _mm256_loadu_si256((const __m256i *)(const void *)(tn_mask_window64 + 4 - n));
}

TN_INLINE vf vf_zero(void) {
    return _mm256_setzero_ps();
}
TN_INLINE vf vf_set1(float x) {
    return _mm256_set1_ps(x);
}
TN_INLINE vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
TN_INLINE void vf_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
TN_INLINE vf vf_load_n(const float *p, int n) {
    return _mm256_maskload_ps(p, tn_first32(n));
}
/* In halves, quarters and ones: a masked store takes tens of cycles where it is microcode (AMD). */
TN_INLINE void vf_store_n(float *p, vf v, int n) {
    __m128 left = _mm256_castps256_ps128(v);
    if (n >= VF) {
        _mm256_storeu_ps(p, v);
        return;
    }
    if (n & 4) {
        _mm_storeu_ps(p, left);
        left = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)(void *)p, left);
        left = _mm_movehl_ps(left, left);
        p += 2;
    }
    if (n & 1)
        _mm_store_ss(p, left);
}
TN_INLINE vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
TN_INLINE vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
TN_INLINE vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
TN_INLINE vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
TN_INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
/* The same, in the register of c: in the long loops of the tiles compilers else move sums about
 * until some are in memory. */
TN_INLINE vf vf_fma_kept(vf a, vf b, vf c) {
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return c;
}
TN_INLINE vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
TN_INLINE vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
TN_INLINE vf vf_neg(vf a) {
    return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f));
}
TN_INLINE vf vf_abs(vf a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
TN_INLINE vf vf_copysign(vf a, vf s) {
    return _mm256_or_ps(vf_abs(a), _mm256_and_ps(_mm256_set1_ps(-0.0f), s));
}
TN_INLINE vf vf_round(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TN_INLINE vfm vf_lt(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
TN_INLINE vfm vf_le(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_LE_OQ);
}
TN_INLINE vfm vf_gt(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}
TN_INLINE vfm vf_ge(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_GE_OQ);
}
TN_INLINE vfm vf_eq(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
TN_INLINE vfm vf_unord(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_UNORD_Q);
}
TN_INLINE vf vf_select(vfm m, vf a, vf b) {
    return _mm256_blendv_ps(b, a, m);
}
TN_INLINE vfm vfm_and(vfm a, vfm b) {
    return _mm256_and_ps(a, b);
}
TN_INLINE vfm vfm_or(vfm a, vfm b) {
    return _mm256_or_ps(a, b);
}
TN_INLINE vfm vfm_not(vfm a) {
    return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)));
}
TN_INLINE int vfm_any(vfm a) {
    return _mm256_movemask_ps(a) != 0;
}
TN_INLINE int vfm_all(vfm a) {
    return _mm256_movemask_ps(a) == 255;
}
TN_INLINE vfm vfm_first(int n) {
    return _mm256_castsi256_ps(tn_first32(n));
}
TN_INLINE vf vf_ldexp(vf x, vf n) {
    /* In two steps, so that the first is exact and the second rounds. */
    const __m256 magic = _mm256_set1_ps(0x1.8p23f);
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256 t = _mm256_add_ps(_mm256_mul_ps(n, _mm256_set1_ps(0.5f)), magic);
    const __m256 rest = _mm256_add_ps(_mm256_sub_ps(n, _mm256_sub_ps(t, magic)), magic);
    const __m256i s = _mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(t), bias), 23);
    const __m256i u = _mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(rest), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(s)), _mm256_castsi256_ps(u));
}

/* Narrow tails go through a zeroed copy: AVX2 has no masked loads below 32 bits. */
TN_NOINLINE __m128i tn_load16_n(const uint16_t *p, int n) {
    uint16_t t[8] = {0};
    for (int i = 0; i < n; i++)
        t[i] = p[i];
    return _mm_loadu_si128((const __m128i *)(const void *)t);
}
TN_NOINLINE void tn_store16_n(uint16_t *p, __m128i v, int n) {
    uint16_t t[8];
    _mm_storeu_si128((__m128i *)(void *)t, v);
    for (int i = 0; i < n; i++)
        p[i] = t[i];
}
TN_NOINLINE __m128i tn_load8_n(const uint8_t *p, int n) {
    uint8_t t[8] = {0};
    for (int i = 0; i < n; i++)
        t[i] = p[i];
    return _mm_loadl_epi64((const __m128i *)(const void *)t);
}
TN_INLINE __m128i tn_load16x8(const void *p) {
    return _mm_loadu_si128((const __m128i *)p);
}
TN_INLINE __m128i tn_load8x8(const void *p) {
    return _mm_loadl_epi64((const __m128i *)p);
}

TN_INLINE vf tn_bf16x8(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
TN_INLINE vf tn_f8e5m2x8(__m128i b) {
    return _mm256_cvtph_ps(_mm_slli_epi16(_mm_cvtepu8_epi16(b), 8));
}
TN_INLINE vf tn_f8e4m3x8(__m128i b) {
    /* The bits as an f16 of the wrong bias, times 2^8: exact, subnormals too. 0x7f is the NaN. */
    const __m128i w = _mm_cvtepu8_epi16(b);
    const __m128i magnitude = _mm_and_si128(w, _mm_set1_epi16(0x7f));
    const __m128i sign = _mm_slli_epi16(_mm_and_si128(w, _mm_set1_epi16(0x80)), 8);
    const __m128i nan = _mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x7f));
    const __m128i h = _mm_or_si128(sign, _mm_or_si128(_mm_slli_epi16(magnitude, 7),
                                                      _mm_and_si128(nan, _mm_set1_epi16(0x7e00))));
    const __m256 v = _mm256_mul_ps(_mm256_cvtph_ps(h), _mm256_set1_ps(256.0f));
    /* The NaN's payload is brought to the one that the plain conversion gives. */
    return vf_select(vf_unord(v, v),
                     vf_copysign(_mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)), v), v);
}
TN_INLINE vf tn_s8x8(__m128i b) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b));
}
TN_INLINE vf tn_u8x8(__m128i b) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b));
}

TN_INLINE vf vf_set1_f16(uint16_t h) {
    return _mm256_cvtph_ps(_mm_set1_epi16((short)h));
}
TN_INLINE vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(tn_load16x8(p));
}
TN_INLINE vf vf_load_f16_n(const uint16_t *p, int n) {
    return _mm256_cvtph_ps(tn_load16_n(p, n));
}
TN_INLINE vf vf_load_bf16(const uint16_t *p) {
    return tn_bf16x8(tn_load16x8(p));
}
TN_INLINE vf vf_load_bf16_n(const uint16_t *p, int n) {
    return tn_bf16x8(tn_load16_n(p, n));
}
TN_INLINE vf vf_load_f8e4m3(const uint8_t *p) {
    return tn_f8e4m3x8(tn_load8x8(p));
}
TN_INLINE vf vf_load_f8e4m3_n(const uint8_t *p, int n) {
    return tn_f8e4m3x8(tn_load8_n(p, n));
}
TN_INLINE vf vf_load_f8e5m2(const uint8_t *p) {
    return tn_f8e5m2x8(tn_load8x8(p));
}
TN_INLINE vf vf_load_f8e5m2_n(const uint8_t *p, int n) {
    return tn_f8e5m2x8(tn_load8_n(p, n));
}
TN_INLINE vf vf_load_s8(const int8_t *p) {
    return tn_s8x8(tn_load8x8(p));
}
TN_INLINE vf vf_load_s8_n(const int8_t *p, int n) {
    return tn_s8x8(tn_load8_n((const uint8_t *)p, n));
}
TN_INLINE vf vf_load_u8(const uint8_t *p) {
    return tn_u8x8(tn_load8x8(p));
}
TN_INLINE vf vf_load_u8_n(const uint8_t *p, int n) {
    return tn_u8x8(tn_load8_n(p, n));
}
TN_INLINE vf vf_load_s32(const int32_t *p) {
    return _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
TN_INLINE vf vf_load_s32_n(const int32_t *p, int n) {
    return _mm256_cvtepi32_ps(_mm256_maskload_epi32(p, tn_first32(n)));
}

TN_INLINE __m128i tn_f16_of(vf v) {
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
}
TN_INLINE __m128i tn_bf16_of(vf v) {
    const __m256i u = _mm256_castps_si256(v), top = _mm256_srli_epi32(u, 16);
    const __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    r = _mm256_srli_epi32(r, 16);
    const __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
    r = _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(vf_unord(v, v)));
    r = _mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0x08);
    return _mm256_castsi256_si128(r);
}
TN_INLINE void vf_store_f16(uint16_t *p, vf v) {
    _mm_storeu_si128((__m128i *)(void *)p, tn_f16_of(v));
}
TN_INLINE void vf_store_f16_n(uint16_t *p, vf v, int n) {
    tn_store16_n(p, tn_f16_of(v), n);
}
TN_INLINE void vf_store_bf16(uint16_t *p, vf v) {
    _mm_storeu_si128((__m128i *)(void *)p, tn_bf16_of(v));
}
TN_INLINE void vf_store_bf16_n(uint16_t *p, vf v, int n) {
    tn_store16_n(p, tn_bf16_of(v), n);
}

TN_INLINE vfm tn_true8(__m128i b) {
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_cvtepu8_epi32(b), _mm256_setzero_si256()));
}
TN_INLINE vfm vfm_load_u8(const uint8_t *p) {
    return tn_true8(tn_load8x8(p));
}
TN_INLINE vfm vfm_load_u8_n(const uint8_t *p, int n) {
    return tn_true8(tn_load8_n(p, n));
}

TN_INLINE void vf_transpose(vf *r) {
    vf a[8], b[8];
    TN_UNROLL
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    TN_UNROLL
    for (int h = 0; h < 2; h++) {
        b[4 * h + 0] = _mm256_shuffle_ps(a[4 * h + 0], a[4 * h + 2], 0x44);
        b[4 * h + 1] = _mm256_shuffle_ps(a[4 * h + 0], a[4 * h + 2], 0xee);
        b[4 * h + 2] = _mm256_shuffle_ps(a[4 * h + 1], a[4 * h + 3], 0x44);
        b[4 * h + 3] = _mm256_shuffle_ps(a[4 * h + 1], a[4 * h + 3], 0xee);
    }
    TN_UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

TN_INLINE vd vd_zero(void) {
    return _mm256_setzero_pd();
}
TN_INLINE vd vd_set1(double x) {
    return _mm256_set1_pd(x);
}
TN_INLINE vd vd_load(const double *p) {
    return _mm256_loadu_pd(p);
}
TN_INLINE void vd_store(double *p, vd v) {
    _mm256_storeu_pd(p, v);
}
TN_INLINE vd vd_load_n(const double *p, int n) {
    return _mm256_maskload_pd(p, tn_first64(n));
}
TN_INLINE void vd_store_n(double *p, vd v, int n) {
    __m128d left = _mm256_castpd256_pd128(v);
    if (n >= VD) {
        _mm256_storeu_pd(p, v);
        return;
    }
    if (n & 2) {
        _mm_storeu_pd(p, left);
        left = _mm256_extractf128_pd(v, 1);
        p += 2;
    }
    if (n & 1)
        _mm_store_sd(p, left);
}
TN_INLINE vd vd_add(vd a, vd b) {
    return _mm256_add_pd(a, b);
}
TN_INLINE vd vd_sub(vd a, vd b) {
    return _mm256_sub_pd(a, b);
}
TN_INLINE vd vd_mul(vd a, vd b) {
    return _mm256_mul_pd(a, b);
}
TN_INLINE vd vd_div(vd a, vd b) {
    return _mm256_div_pd(a, b);
}
TN_INLINE vd vd_fma(vd a, vd b, vd c) {
    return _mm256_fmadd_pd(a, b, c);
}
TN_INLINE vd vd_fma_kept(vd a, vd b, vd c) {
    __asm__("vfmadd231pd %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return c;
}
TN_INLINE vd vd_max(vd a, vd b) {
    return _mm256_max_pd(a, b);
}
TN_INLINE vd vd_min(vd a, vd b) {
    return _mm256_min_pd(a, b);
}
TN_INLINE vd vd_neg(vd a) {
    return _mm256_xor_pd(a, _mm256_set1_pd(-0.0));
}
TN_INLINE vd vd_abs(vd a) {
    return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a);
}
TN_INLINE vd vd_copysign(vd a, vd s) {
    return _mm256_or_pd(vd_abs(a), _mm256_and_pd(_mm256_set1_pd(-0.0), s));
}
TN_INLINE vd vd_round(vd a) {
    return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TN_INLINE vdm vd_lt(vd a, vd b) {
    return _mm256_cmp_pd(a, b, _CMP_LT_OQ);
}
TN_INLINE vdm vd_le(vd a, vd b) {
    return _mm256_cmp_pd(a, b, _CMP_LE_OQ);
}
TN_INLINE vdm vd_gt(vd a, vd b) {
    return _mm256_cmp_pd(a, b, _CMP_GT_OQ);
}
TN_INLINE vdm vd_ge(vd a, vd b) {
    return _mm256_cmp_pd(a, b, _CMP_GE_OQ);
}
TN_INLINE vdm vd_eq(vd a, vd b) {
    return _mm256_cmp_pd(a, b, _CMP_EQ_OQ);
}
TN_INLINE vdm vd_unord(vd a, vd b) {
    return _mm256_cmp_pd(a, b, _CMP_UNORD_Q);
}
TN_INLINE vd vd_select(vdm m, vd a, vd b) {
    return _mm256_blendv_pd(b, a, m);
}
TN_INLINE vdm vdm_and(vdm a, vdm b) {
    return _mm256_and_pd(a, b);
}
TN_INLINE vdm vdm_or(vdm a, vdm b) {
    return _mm256_or_pd(a, b);
}
TN_INLINE vdm vdm_not(vdm a) {
    return _mm256_xor_pd(a, _mm256_castsi256_pd(_mm256_set1_epi32(-1)));
}
TN_INLINE int vdm_any(vdm a) {
    return _mm256_movemask_pd(a) != 0;
}
TN_INLINE int vdm_all(vdm a) {
    return _mm256_movemask_pd(a) == 15;
}
TN_INLINE vdm vdm_first(int n) {
    return _mm256_castsi256_pd(tn_first64(n));
}
TN_INLINE __m128i tn_load8x4(const void *p) {
    int32_t t;
    memcpy(&t, p, sizeof t);
    return _mm_cvtsi32_si128(t);
}
TN_INLINE vdm vdm_load_u8_n(const uint8_t *p, int n) {
    const __m256i wide = _mm256_cvtepu8_epi64(tn_load8_n(p, n));
    return _mm256_castsi256_pd(_mm256_cmpgt_epi64(wide, _mm256_setzero_si256()));
}
TN_INLINE vd vd_ldexp(vd x, vd n) {
    const __m256d magic = _mm256_set1_pd(0x1.8p52);
    const __m256i bias = _mm256_set1_epi64x(1023);
    const __m256d t = _mm256_add_pd(_mm256_mul_pd(n, _mm256_set1_pd(0.5)), magic);
    const __m256d rest = _mm256_add_pd(_mm256_sub_pd(n, _mm256_sub_pd(t, magic)), magic);
    const __m256i s = _mm256_slli_epi64(_mm256_add_epi64(_mm256_castpd_si256(t), bias), 52);
    const __m256i u = _mm256_slli_epi64(_mm256_add_epi64(_mm256_castpd_si256(rest), bias), 52);
    return _mm256_mul_pd(_mm256_mul_pd(x, _mm256_castsi256_pd(s)), _mm256_castsi256_pd(u));
}
TN_INLINE vd vd_load_f32(const float *p) {
    return _mm256_cvtps_pd(_mm_loadu_ps(p));
}
TN_INLINE vd vd_load_f32_n(const float *p, int n) {
    return _mm256_cvtps_pd(_mm_maskload_ps(p, _mm256_castsi256_si128(tn_first32(n))));
}
TN_INLINE void vd_store_f32(float *p, vd v) {
    _mm_storeu_ps(p, _mm256_cvtpd_ps(v));
}
TN_INLINE void vd_store_f32_n(float *p, vd v, int n) {
    _mm_maskstore_ps(p, _mm256_castsi256_si128(tn_first32(n)), _mm256_cvtpd_ps(v));
}
TN_INLINE vd vd_load_s8(const int8_t *p) {
    return _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(tn_load8x4(p)));
}
TN_INLINE vd vd_load_s8_n(const int8_t *p, int n) {
    return _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(tn_load8_n((const uint8_t *)p, n)));
}
TN_INLINE vd vd_load_u8(const uint8_t *p) {
    return _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(tn_load8x4(p)));
}
TN_INLINE vd vd_load_u8_n(const uint8_t *p, int n) {
    return _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(tn_load8_n(p, n)));
}
TN_INLINE vd vd_load_s32(const int32_t *p) {
    return _mm256_cvtepi32_pd(tn_load16x8(p));
}
TN_INLINE vd vd_load_s32_n(const int32_t *p, int n) {
    return _mm256_cvtepi32_pd(_mm_maskload_epi32(p, _mm256_castsi256_si128(tn_first32(n))));
}
TN_INLINE void vd_transpose(vd *r) {
    const vd a = _mm256_unpacklo_pd(r[0], r[1]), b = _mm256_unpackhi_pd(r[0], r[1]);
    const vd c = _mm256_unpacklo_pd(r[2], r[3]), d = _mm256_unpackhi_pd(r[2], r[3]);
    r[0] = _mm256_permute2f128_pd(a, c, 0x20);
    r[1] = _mm256_permute2f128_pd(b, d, 0x20);
    r[2] = _mm256_permute2f128_pd(a, c, 0x31);
    r[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

#endif
