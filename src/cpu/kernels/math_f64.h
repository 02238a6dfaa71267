/* SPDX-License-Identifier: Apache-2.0 */
/*
 * math_f64.h: exp on vd, the same bits at every level; the rarer functions call libm lane by lane.
 *
 * Used by the f64 GEMM epilogue and f64 softmax. See math_f32.h for the rules.
 */
#ifndef TN_MATH_F64_H
#define TN_MATH_F64_H

#include "vec.h"

/* e^x as in math_f32.h, with the Taylor polynomial of degree 13 (remainder 5e-18). At most 1 ulp,
 * except 2 for subnormal results. */
TN_INLINE vd tn_vd_exp(vd x) {
    static const double c[14] = {1.0,
                                 1.0,
                                 1.0 / 2,
                                 1.0 / 6,
                                 1.0 / 24,
                                 1.0 / 120,
                                 1.0 / 720,
                                 1.0 / 5040,
                                 1.0 / 40320,
                                 1.0 / 362880,
                                 1.0 / 3628800,
                                 1.0 / 39916800,
                                 1.0 / 479001600,
                                 1.0 / 6227020800.0};
    const vd y = vd_min(vd_set1(711.0), vd_max(vd_set1(-746.0), x));
    const vd magic = vd_set1(0x1.8p52);
    const vd n = vd_sub(vd_fma(y, vd_set1(0x1.71547652b82fep+0), magic), magic);
    vd r = vd_fma(n, vd_set1(-0x1.62e42fefa0000p-1), y);
    r = vd_fma(n, vd_set1(-0x1.cf79abc9e3b3ap-40), r);
    vd p = vd_set1(c[13]);
    TN_UNROLL
    for (int i = 12; i >= 2; i--)
        p = vd_fma(p, r, vd_set1(c[i]));
    p = vd_fma(vd_mul(r, r), p, r);
    return vd_ldexp(vd_add(p, vd_set1(1.0)), n);
}

TN_INLINE vd tn_vd_sigmoid(vd x) {
    const vd one = vd_set1(1.0);
    const vd e = tn_vd_exp(vd_neg(vd_abs(x)));
    return vd_div(vd_select(vd_lt(x, vd_zero()), e, one), vd_add(one, e));
}

TN_INLINE vd tn_vd_tanh(vd x) {
    double t[VD];
    vd_store(t, x);
    for (int i = 0; i < VD; i++)
        t[i] = tanh(t[i]);
    return vd_load(t);
}

TN_INLINE vd tn_vd_erf(vd x) {
    double t[VD];
    vd_store(t, x);
    for (int i = 0; i < VD; i++)
        t[i] = erf(t[i]);
    return vd_load(t);
}

#endif
