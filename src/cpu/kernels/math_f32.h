/* SPDX-License-Identifier: Apache-2.0 */
/*
 * math_f32.h: exp and the activation functions on vf, the same bits at every level.
 *
 * Used by the GEMM epilogue, softmax and attention kernels. Only operations that all levels round
 * alike are used (fma, add, mul, div, a power of two), no approximate reciprocals. Polynomials:
 * minimax by iteratively reweighted least squares (Lawson), coefficients rounded to f32; the
 * maximal error of each, found by tests/cpu/test_math.c, is beside it.
 */
#ifndef TN_MATH_F32_H
#define TN_MATH_F32_H

#include "vec.h"

/* e^x: x = n ln2 + r, |r| <= ln2 / 2 (Cody and Waite, 1980). At most 1 ulp; exactly 0 below -104,
 * infinity above 88.73, subnormal results rounded once more, NaN kept. */
TN_INLINE vf tn_v_exp(vf x) {
    /* -104 and 90 lie beyond the last results that are neither 0 nor infinity. max() and min()
     * return the second on NaN. */
    const vf y = vf_min(vf_set1(90.0f), vf_max(vf_set1(-104.0f), x));
    const vf magic = vf_set1(0x1.8p23f);
    const vf n = vf_sub(vf_fma(y, vf_set1(0x1.715476p+0f), magic), magic);
    vf r = vf_fma(n, vf_set1(-0x1.62e400p-1f),
                  y); /* ln 2 in two parts, the first of 15 bits: n times it is exact */
    r = vf_fma(n, vf_set1(-0x1.7f7d1cp-20f), r);
    vf p = vf_fma(r, vf_set1(0x1.6a243ap-10f), vf_set1(0x1.1239e0p-7f));
    p = vf_fma(p, r, vf_set1(0x1.5558f2p-5f));
    p = vf_fma(p, r, vf_set1(0x1.555492p-3f));
    p = vf_fma(p, r, vf_set1(0x1.fffffcp-2f));
    p = vf_fma(vf_mul(r, r), p, r);
    return vf_ldexp(vf_add(p, vf_set1(1.0f)), n);
}

/* 1 / (1 + e^-x), through e^-|x| so that neither tail overflows nor cancels. */
TN_INLINE vf tn_v_sigmoid(vf x) {
    const vf one = vf_set1(1.0f);
    const vf e = tn_v_exp(vf_neg(vf_abs(x)));
    return vf_div(vf_select(vf_lt(x, vf_zero()), e, one), vf_add(one, e));
}

/* tanh: an odd polynomial below 0.625, 1 - 2 / (e^2|x| + 1) above. */
TN_INLINE vf tn_v_tanh(vf x) {
    const vf one = vf_set1(1.0f), t = vf_abs(x), s = vf_mul(x, x);
    const vf e = tn_v_exp(vf_add(t, t));
    const vf big = vf_sub(one, vf_div(vf_set1(2.0f), vf_add(e, one)));
    vf p = vf_fma(s, vf_set1(-0x1.736332p-8f), vf_set1(0x1.519c60p-6f));
    p = vf_fma(p, s, vf_set1(-0x1.b827f6p-5f));
    p = vf_fma(p, s, vf_set1(0x1.110692p-3f));
    p = vf_fma(p, s, vf_set1(-0x1.555530p-2f));
    const vf small = vf_fma(vf_mul(p, s), x, x);
    return vf_select(vf_lt(t, vf_set1(0.625f)), small, vf_copysign(big, x));
}

/* erf: x + x P(x^2) below 0.925, 1 - exp(-t + t Q(t)) above; the result is 1 from t = 4. */
TN_INLINE vf tn_v_erf(vf x) {
    const vf s = vf_mul(x, x), t = vf_min(vf_set1(4.0f), vf_abs(x));
    vf q = vf_fma(t, vf_set1(-0x1.5e0cdap-17f), vf_set1(0x1.4a24f6p-12f));
    q = vf_fma(q, t, vf_set1(-0x1.d935eap-9f));
    q = vf_fma(q, t, vf_set1(0x1.8435f0p-6f));
    q = vf_fma(q, t, vf_set1(-0x1.b2d3c0p-4f));
    q = vf_fma(q, t, vf_set1(-0x1.4538aep-1f));
    q = vf_fma(q, t, vf_set1(-0x1.0772dep-3f));
    const vf big = vf_sub(vf_set1(1.0f), tn_v_exp(vf_fma(q, t, vf_neg(t))));
    vf p = vf_fma(s, vf_set1(0x1.5cd410p-14f), vf_set1(-0x1.aa3efep-11f));
    p = vf_fma(p, s, vf_set1(0x1.54c7f0p-8f));
    p = vf_fma(p, s, vf_set1(-0x1.b80e90p-6f));
    p = vf_fma(p, s, vf_set1(0x1.ce2e0ap-4f));
    p = vf_fma(p, s, vf_set1(-0x1.812742p-2f));
    p = vf_fma(p, s, vf_set1(0x1.06eba8p-3f));
    const vf small = vf_fma(p, x, x);
    return vf_select(vf_lt(vf_abs(x), vf_set1(0.925f)), small, vf_copysign(big, x));
}

#endif
