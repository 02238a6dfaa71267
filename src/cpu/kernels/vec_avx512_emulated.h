/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_avx512_emulated.h: the AVX-512 intrinsics of vec_avx512.h on an AVX2 processor, for tests
 * only.
 *
 * SIMDe has most of them; the rest, which SIMDe 0.7.4 lacks, is made of 256-bit halves here. Never
 * part of the library.
 */
#ifndef TN_VEC_AVX512_EMULATED_H
#define TN_VEC_AVX512_EMULATED_H

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/fma.h>
#include <simde/x86/avx512.h>

#undef __m512
#undef __m512d
#undef __m512i
#undef __mmask16
#undef __mmask8
#define __m512 simde__m512
#define __m512d simde__m512d
#define __m512i simde__m512i
#define __mmask16 simde__mmask16
#define __mmask8 simde__mmask8

/* Views of a vector in memory; copies by memcpy, which the compiler turns into moves. */
#define TN_EMULATED_HALVES(type, half, suffix)                                                     \
    TN_INLINE half tn_low_##suffix(type v) {                                                       \
        half h;                                                                                    \
        memcpy(&h, &v, sizeof h);                                                                  \
        return h;                                                                                  \
    }                                                                                              \
    TN_INLINE half tn_high_##suffix(type v) {                                                      \
        half h;                                                                                    \
        memcpy(&h, (const char *)&v + sizeof h, sizeof h);                                         \
        return h;                                                                                  \
    }                                                                                              \
    TN_INLINE type tn_join_##suffix(half low, half high) {                                         \
        type v;                                                                                    \
        memcpy(&v, &low, sizeof low);                                                              \
        memcpy((char *)&v + sizeof low, &high, sizeof high);                                       \
        return v;                                                                                  \
    }
TN_EMULATED_HALVES(__m512, __m256, ps)
TN_EMULATED_HALVES(__m512d, __m256d, pd)
TN_EMULATED_HALVES(__m512i, __m256i, si)
#undef TN_EMULATED_HALVES

TN_INLINE __m128i tn_high128(__m256i v) {
    return _mm256_extracti128_si256(v, 1);
}

TN_INLINE __m512 tn_emu_maskz_loadu_ps(__mmask16 m, const float *p) {
    float t[16] = {0};
    for (int i = 0; i < 16; i++)
        if (m >> i & 1)
            t[i] = p[i];
    return _mm512_loadu_ps(t);
}
TN_INLINE __m512d tn_emu_maskz_loadu_pd(__mmask8 m, const double *p) {
    double t[8] = {0};
    for (int i = 0; i < 8; i++)
        if (m >> i & 1)
            t[i] = p[i];
    return _mm512_loadu_pd(t);
}
TN_INLINE __m512i tn_emu_maskz_loadu_epi32(__mmask16 m, const int32_t *p) {
    int32_t t[16] = {0};
    for (int i = 0; i < 16; i++)
        if (m >> i & 1)
            t[i] = p[i];
    return _mm512_loadu_si512(t);
}
TN_INLINE void tn_emu_mask_storeu_ps(float *p, __mmask16 m, __m512 v) {
    float t[16];
    memcpy(t, &v, sizeof t);
    for (int i = 0; i < 16; i++)
        if (m >> i & 1)
            p[i] = t[i];
}
TN_INLINE void tn_emu_mask_storeu_pd(double *p, __mmask8 m, __m512d v) {
    double t[8];
    memcpy(t, &v, sizeof t);
    for (int i = 0; i < 8; i++)
        if (m >> i & 1)
            p[i] = t[i];
}
TN_INLINE __m512 tn_emu_cvtph_ps(__m256i h) {
    return tn_join_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(h)), _mm256_cvtph_ps(tn_high128(h)));
}
TN_INLINE __m256i tn_emu_cvtps_ph(__m512 v) {
    const __m128i low = _mm256_cvtps_ph(tn_low_ps(v), 0), high = _mm256_cvtps_ph(tn_high_ps(v), 0);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
TN_INLINE __m512i tn_emu_cvtepi8_epi32(__m128i b) {
    return tn_join_si(_mm256_cvtepi8_epi32(b), _mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)));
}
TN_INLINE __m512i tn_emu_cvtepu8_epi32(__m128i b) {
    return tn_join_si(_mm256_cvtepu8_epi32(b), _mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)));
}
TN_INLINE __m512i tn_emu_cvtepu16_epi32(__m256i h) {
    return tn_join_si(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(h)),
                      _mm256_cvtepu16_epi32(tn_high128(h)));
}
TN_INLINE __m256i tn_emu_cvtepi32_epi16(__m512i v) {
    const __m256i mask = _mm256_set1_epi32(0xffff);
    const __m256i low = _mm256_and_si256(tn_low_si(v), mask),
                  high = _mm256_and_si256(tn_high_si(v), mask);
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
}
TN_INLINE __m512 tn_emu_cvtepi32_ps(__m512i v) {
    return tn_join_ps(_mm256_cvtepi32_ps(tn_low_si(v)), _mm256_cvtepi32_ps(tn_high_si(v)));
}
TN_INLINE __m512d tn_emu_cvtepi32_pd(__m256i v) {
    return tn_join_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(v)),
                      _mm256_cvtepi32_pd(tn_high128(v)));
}
TN_INLINE __m512d tn_emu_cvtps_pd(__m256 v) {
    return tn_join_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(v)),
                      _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
}
TN_INLINE __m256 tn_emu_cvtpd_ps(__m512d v) {
    const __m128 low = _mm256_cvtpd_ps(tn_low_pd(v)), high = _mm256_cvtpd_ps(tn_high_pd(v));
    return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}
TN_INLINE __m512 tn_emu_round_ps(__m512 v) {
    return tn_join_ps(_mm256_round_ps(tn_low_ps(v), 8), _mm256_round_ps(tn_high_ps(v), 8));
}
TN_INLINE __m512d tn_emu_round_pd(__m512d v) {
    return tn_join_pd(_mm256_round_pd(tn_low_pd(v), 8), _mm256_round_pd(tn_high_pd(v), 8));
}
TN_INLINE __m512 tn_emu_scalef_ps(__m512 x, __m512 n) {
    float a[16], b[16];
    memcpy(a, &x, sizeof a);
    memcpy(b, &n, sizeof b);
    for (int i = 0; i < 16; i++)
        a[i] = b[i] == b[i] ? ldexpf(a[i], (int)floorf(b[i])) : b[i];
    return _mm512_loadu_ps(a);
}
TN_INLINE __m512d tn_emu_scalef_pd(__m512d x, __m512d n) {
    double a[8], b[8];
    memcpy(a, &x, sizeof a);
    memcpy(b, &n, sizeof b);
    for (int i = 0; i < 8; i++)
        a[i] = b[i] == b[i] ? ldexp(a[i], (int)floor(b[i])) : b[i];
    return _mm512_loadu_pd(a);
}
TN_INLINE __m512 tn_emu_fmadd_ps(__m512 a, __m512 b, __m512 c) {
    return tn_join_ps(_mm256_fmadd_ps(tn_low_ps(a), tn_low_ps(b), tn_low_ps(c)),
                      _mm256_fmadd_ps(tn_high_ps(a), tn_high_ps(b), tn_high_ps(c)));
}
TN_INLINE __m512d tn_emu_fmadd_pd(__m512d a, __m512d b, __m512d c) {
    return tn_join_pd(_mm256_fmadd_pd(tn_low_pd(a), tn_low_pd(b), tn_low_pd(c)),
                      _mm256_fmadd_pd(tn_high_pd(a), tn_high_pd(b), tn_high_pd(c)));
}

TN_INLINE __m512i tn_emu_madd_epi16(__m512i a, __m512i b) {
    return tn_join_si(_mm256_madd_epi16(tn_low_si(a), tn_low_si(b)),
                      _mm256_madd_epi16(tn_high_si(a), tn_high_si(b)));
}

/* vdpbf16ps as Intel's SDM has it: two fused multiply-adds, the odd element first; subnormal
 * operands count as zero, and so do subnormal results. */
TN_INLINE float tn_emu_flush(float x) {
    return tn_f32_bits((tn_bits_f32(x) & 0x7f800000) ? tn_bits_f32(x)
                                                     : tn_bits_f32(x) & 0x80000000);
}
TN_INLINE __m512 tn_emu_dpbf16_ps(__m512 sum, __m512 a, __m512 b) {
    float s[16];
    uint32_t x[16], y[16];
    memcpy(s, &sum, sizeof s);
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 0; i < 16; i++) {
        const float high = fmaf(tn_emu_flush(tn_f32_bits(x[i] & 0xffff0000)),
                                tn_emu_flush(tn_f32_bits(y[i] & 0xffff0000)), tn_emu_flush(s[i]));
        s[i] = tn_emu_flush(fmaf(tn_emu_flush(tn_f32_bits(x[i] << 16)),
                                 tn_emu_flush(tn_f32_bits(y[i] << 16)), tn_emu_flush(high)));
    }
    return _mm512_loadu_ps(s);
}

/* The 128-bit quarters a[i & 3], a[i >> 2 & 3], b[i >> 4 & 3], b[i >> 6]. */
TN_INLINE __m512 tn_emu_shuffle_f32x4(__m512 a, __m512 b, int i) {
    float x[16], y[16], r[16];
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    memcpy(r, x + 4 * (i & 3), 16);
    memcpy(r + 4, x + 4 * (i >> 2 & 3), 16);
    memcpy(r + 8, y + 4 * (i >> 4 & 3), 16);
    memcpy(r + 12, y + 4 * (i >> 6 & 3), 16);
    return _mm512_loadu_ps(r);
}
TN_INLINE __m512d tn_emu_shuffle_f64x2(__m512d a, __m512d b, int i) {
    __m512 x, y, r;
    __m512d d;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    r = tn_emu_shuffle_f32x4(x, y, i);
    memcpy(&d, &r, sizeof d);
    return d;
}

#undef _mm512_madd_epi16
#undef _mm512_shuffle_f32x4
#undef _mm512_shuffle_f64x2
#undef _mm512_maskz_loadu_ps
#undef _mm512_maskz_loadu_pd
#undef _mm512_maskz_loadu_epi32
#undef _mm512_mask_storeu_ps
#undef _mm512_mask_storeu_pd
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_ph
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi32_epi16
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtepi32_pd
#undef _mm512_cvtps_pd
#undef _mm512_cvtpd_ps
#undef _mm512_roundscale_ps
#undef _mm512_roundscale_pd
#undef _mm512_scalef_ps
#undef _mm512_scalef_pd
#undef _mm512_fmadd_ps
#undef _mm512_fmadd_pd
#define _mm512_madd_epi16(a, b) tn_emu_madd_epi16(a, b)
#define _mm512_shuffle_f32x4(a, b, i) tn_emu_shuffle_f32x4(a, b, i)
#define _mm512_shuffle_f64x2(a, b, i) tn_emu_shuffle_f64x2(a, b, i)
#define _mm512_maskz_loadu_ps(m, p) tn_emu_maskz_loadu_ps(m, p)
#define _mm512_maskz_loadu_pd(m, p) tn_emu_maskz_loadu_pd(m, p)
#define _mm512_maskz_loadu_epi32(m, p) tn_emu_maskz_loadu_epi32(m, p)
#define _mm512_mask_storeu_ps(p, m, v) tn_emu_mask_storeu_ps(p, m, v)
#define _mm512_mask_storeu_pd(p, m, v) tn_emu_mask_storeu_pd(p, m, v)
#define _mm512_cvtph_ps(h) tn_emu_cvtph_ps(h)
#define _mm512_cvtps_ph(v, mode) tn_emu_cvtps_ph(v)
#define _mm512_cvtepi8_epi32(b) tn_emu_cvtepi8_epi32(b)
#define _mm512_cvtepu8_epi32(b) tn_emu_cvtepu8_epi32(b)
#define _mm512_cvtepu16_epi32(h) tn_emu_cvtepu16_epi32(h)
#define _mm512_cvtepi32_epi16(v) tn_emu_cvtepi32_epi16(v)
#define _mm512_cvtepi32_ps(v) tn_emu_cvtepi32_ps(v)
#define _mm512_cvtepi32_pd(v) tn_emu_cvtepi32_pd(v)
#define _mm512_cvtps_pd(v) tn_emu_cvtps_pd(v)
#define _mm512_cvtpd_ps(v) tn_emu_cvtpd_ps(v)
#define _mm512_roundscale_ps(v, mode) tn_emu_round_ps(v)
#define _mm512_roundscale_pd(v, mode) tn_emu_round_pd(v)
#define _mm512_scalef_ps(x, n) tn_emu_scalef_ps(x, n)
#define _mm512_scalef_pd(x, n) tn_emu_scalef_pd(x, n)
#define _mm512_fmadd_ps(a, b, c) tn_emu_fmadd_ps(a, b, c)
#define _mm512_fmadd_pd(a, b, c) tn_emu_fmadd_pd(a, b, c)

#endif
