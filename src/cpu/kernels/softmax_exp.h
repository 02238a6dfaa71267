/* SPDX-License-Identifier: Apache-2.0 */
/*
 * softmax_exp.h: e^x for x <= 0, the only exponential that softmax and attention need, at half the
 * cost of tn_v_exp.
 *
 * x = n ln2 + r, |r| <= ln2 / 2 (Cody and Waite, 1980), e^r a polynomial that is minimax in
 * relative error (Remez). At most 1 ulp (f64: 1 ulp) for results down to the smallest normal
 * number; results below 2^-126.5 (f64: 2^-1022.5) are exactly 0, so that -inf needs no test of its
 * own: n is clamped to where the biased exponent of 2^n is 0. NaN stays NaN; e^0 is exactly 1.
 */
#ifndef TN_SOFTMAX_EXP_H
#define TN_SOFTMAX_EXP_H

#include "vec.h"

/* The power of two whose biased exponent stands in the low bits of z (z being an integer plus 1.5 *
 * 2^23, or 2^52): 0.0 for exponent 0. */
#if defined(TN_ISA_AVX512)
TN_INLINE vf tn_pow2_low(vf z) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(z), 23));
}
TN_INLINE vd tn_vd_pow2_low(vd z) {
    return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(z), 52));
}
#elif defined(TN_ISA_AVX2)
TN_INLINE vf tn_pow2_low(vf z) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(z), 23));
}
TN_INLINE vd tn_vd_pow2_low(vd z) {
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(z), 52));
}
#else
TN_INLINE vf tn_pow2_low(vf z) {
    return tn_f32_bits(tn_bits_f32(z) << 23);
}
TN_INLINE vd tn_vd_pow2_low(vd z) {
    uint64_t u;
    memcpy(&u, &z, sizeof u);
    u <<= 52;
    memcpy(&z, &u, sizeof z);
    return z;
}
#endif

/*
 * The constants, a vector of each: they are added, or multiplied with, straight from L1. Kept in
 * registers they leave too few for numbers, and a compiler that sees them as constants of a loop
 * moves them there first. So TN_HIDE makes their address one that it knows nothing of.
 */
#if defined(__GNUC__)
#define TN_HIDE(p) __asm__("" : "+r"(p))
#else
#define TN_HIDE(p) ((void)(p))
#endif

enum { EXP_LEAST, EXP_LOG2E, EXP_MAGIC, EXP_LN2_HIGH, EXP_LN2_LOW, EXP_C2 };

#define TN_EXP_LINE(x)                                                                             \
    { (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x) }
/* clang-format off */
_Alignas(64) static const float tn_exp_f32[10][16] = {
    TN_EXP_LINE(-0x1.60cp+6f), /* -88.1875: exponent -127 */
    TN_EXP_LINE(0x1.715476p+0f),
    TN_EXP_LINE(0x1.8p23f + 127.0f), /* rounds, and biases the exponent */
    TN_EXP_LINE(-0x1.62e400p-1f),    /* ln 2 in two parts, the first of 15 bits: exact */
    TN_EXP_LINE(-0x1.7f7d1cp-20f),
    TN_EXP_LINE(0x1.fffffcp-2f), /* of r^2, and so on */
    TN_EXP_LINE(0x1.555492p-3f),
    TN_EXP_LINE(0x1.5558f2p-5f),
    TN_EXP_LINE(0x1.123a20p-7f),
    TN_EXP_LINE(0x1.6a23d0p-10f),
};
/* clang-format on */

/* Replaces x[0 … n) by their exponentials, step by step side by side: one chain of dependent
 * operations alone leaves the multipliers idle (Zen 3 keeps 64 operations waiting, 15 make one
 * exponential). n is a constant where this is called. */
TN_INLINE void tn_v_exp_negative(vf *x, const int n) {
    const float(*c)[16] = tn_exp_f32;
    vf z[4], r[4], p[4];
    TN_HIDE(c);
    TN_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = vf_max(vf_load(c[EXP_LEAST]), x[i]); /* max() returns the second on NaN */
    TN_UNROLL
    for (int i = 0; i < n; i++)
        z[i] = vf_fma(x[i], vf_load(c[EXP_LOG2E]), vf_load(c[EXP_MAGIC]));
    TN_UNROLL
    for (int i = 0; i < n; i++)
        r[i] = vf_sub(z[i], vf_load(c[EXP_MAGIC]));
    TN_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = vf_fma(r[i], vf_load(c[EXP_LN2_HIGH]), x[i]);
    TN_UNROLL
    for (int i = 0; i < n; i++)
        r[i] = vf_fma(r[i], vf_load(c[EXP_LN2_LOW]), x[i]);
    /* 2^n (1 + (r + r^2 (c2 + c3 r + c4 r^2 + c5 r^3 + c6 r^4))) */
    TN_UNROLL
    for (int i = 0; i < n; i++)
        p[i] = vf_fma(r[i], vf_load(c[EXP_C2 + 4]), vf_load(c[EXP_C2 + 3]));
    for (int k = 2; k >= 0; k--) {
        TN_UNROLL
        for (int i = 0; i < n; i++)
            p[i] = vf_fma(p[i], r[i], vf_load(c[EXP_C2 + k]));
    }
    TN_UNROLL
    for (int i = 0; i < n; i++)
        p[i] = vf_fma(p[i], vf_mul(r[i], r[i]), r[i]);
    TN_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = vf_fma(p[i], tn_pow2_low(z[i]), tn_pow2_low(z[i]));
}

TN_INLINE void tn_vd_exp_negative(vd *x, const int n) {
    static const double c[12] = {1.0,
                                 1.0,
                                 0x1.000000000000ap-1,
                                 0x1.55555555554fap-3,
                                 0x1.555555555088cp-5,
                                 0x1.1111111127b9bp-7,
                                 0x1.6c16c184266b4p-10,
                                 0x1.a01a012a69cf4p-13,
                                 0x1.a0199a16e68edp-16,
                                 0x1.71df253a08086p-19,
                                 0x1.28ad689e8aee0p-22,
                                 0x1.ad7f7b1096349p-26};
    const vd magic = vd_set1(0x1.8p52 + 1023.0);
    vd z[4], r[4], p[4];
    TN_UNROLL
    for (int i = 0; i < n; i++) {
        x[i] = vd_max(vd_set1(-709.25), x[i]); /* exponent -1023 */
        z[i] = vd_fma(x[i], vd_set1(0x1.71547652b82fep+0), magic);
        r[i] = vd_fma(vd_sub(z[i], magic), vd_set1(-0x1.62e42fefa0000p-1), x[i]);
        r[i] = vd_fma(vd_sub(z[i], magic), vd_set1(-0x1.cf79abc9e3b3ap-40), r[i]);
        p[i] = vd_set1(c[11]);
    }
    TN_UNROLL
    for (int k = 10; k >= 0; k--) {
        TN_UNROLL
        for (int i = 0; i < n; i++)
            p[i] = vd_fma(p[i], r[i], vd_set1(c[k]));
    }
    TN_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = vd_mul(p[i], tn_vd_pow2_low(z[i]));
}

#endif
