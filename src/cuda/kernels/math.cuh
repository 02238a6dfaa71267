/* SPDX-License-Identifier: Apache-2.0 */
/*
 * math.cuh: exp, the functions behind the activations, and the exponential of softmax.
 *
 * The polynomials of src/cpu/kernels/math_f32.h, math_f64.h and softmax_exp.h, operation by
 * operation: what CUDA brings is built on approximate instructions. Only erf, tanh and logarithms
 * of f64 are CUDA's. larger() and smaller() are used so that NaN stays.
 */
#ifndef TN_MATH_CUH
#define TN_MATH_CUH

#include "number.cuh"

#define TN_LN2_HIGH -0x1.62e400p-1f /* ln 2 in two parts */
#define TN_LN2_LOW -0x1.7f7d1cp-20f
#define TN_LN2_HIGH_F64 -0x1.62e42fefa0000p-1
#define TN_LN2_LOW_F64 -0x1.cf79abc9e3b3ap-40

/* p * 2^n, rounded once where it is subnormal. */
TN_DEVICE float scale_by(float p, float n) {
    const int all = (int)n, part = all >> 1;
    return p * __int_as_float((part + 127) << 23) * __int_as_float((all - part + 127) << 23);
}
TN_DEVICE double scale_by(double p, double n) {
    const int64_t all = (int64_t)n, part = all >> 1;
    return p * __longlong_as_double((part + 1023) << 52) *
           __longlong_as_double((all - part + 1023) << 52);
}

TN_DEVICE float exp_of(float x) {
    const float y = smaller(90.0f, larger(-104.0f, x)), magic = 0x1.8p23f;
    const float n = fmaf(y, 0x1.715476p+0f, magic) - magic;
    float r = fmaf(n, TN_LN2_HIGH, y);
    r = fmaf(n, TN_LN2_LOW, r);
    float p = fmaf(r, 0x1.6a243ap-10f, 0x1.1239e0p-7f);
    p = fmaf(p, r, 0x1.5558f2p-5f);
    p = fmaf(p, r, 0x1.555492p-3f);
    p = fmaf(p, r, 0x1.fffffcp-2f);
    p = fmaf(r * r, p, r);
    return x != x ? x : scale_by(p + 1.0f, n);
}

TN_DEVICE double exp_of(double x) {
    const double y = smaller(711.0, larger(-746.0, x)), magic = 0x1.8p52;
    const double n = fma(y, 0x1.71547652b82fep+0, magic) - magic;
    double r = fma(n, TN_LN2_HIGH_F64, y);
    r = fma(n, TN_LN2_LOW_F64, r);
    double p = 1.0 / 6227020800.0;
    p = fma(p, r, 1.0 / 479001600.0);
    p = fma(p, r, 1.0 / 39916800.0);
    p = fma(p, r, 1.0 / 3628800.0);
    p = fma(p, r, 1.0 / 362880.0);
    p = fma(p, r, 1.0 / 40320.0);
    p = fma(p, r, 1.0 / 5040.0);
    p = fma(p, r, 1.0 / 720.0);
    p = fma(p, r, 1.0 / 120.0);
    p = fma(p, r, 1.0 / 24.0);
    p = fma(p, r, 1.0 / 6.0);
    p = fma(p, r, 0.5);
    p = fma(r * r, p, r);
    return x != x ? x : scale_by(p + 1.0, n);
}

/* e^x for x <= 0: at most 1 ulp, exactly 0 below 2^-126.5, NaN kept. */
TN_DEVICE float exp_negative(float x) {
    const float magic = 0x1.8p23f + 127.0f; /* rounds, and biases the exponent */
    const float y = larger(-0x1.60cp+6f, x), z = fmaf(y, 0x1.715476p+0f, magic);
    float r = fmaf(z - magic, TN_LN2_HIGH, y);
    r = fmaf(z - magic, TN_LN2_LOW, r);
    float p = fmaf(r, 0x1.6a23d0p-10f, 0x1.123a20p-7f);
    p = fmaf(p, r, 0x1.5558f2p-5f);
    p = fmaf(p, r, 0x1.555492p-3f);
    p = fmaf(p, r, 0x1.fffffcp-2f);
    p = fmaf(p, r * r, r);
    const float power = __int_as_float(__float_as_int(z) << 23);
    return fmaf(p, power, power);
}

TN_DEVICE double exp_negative(double x) {
    const double magic = 0x1.8p52 + 1023.0;
    const double y = larger(-709.25, x), z = fma(y, 0x1.71547652b82fep+0, magic);
    double r = fma(z - magic, TN_LN2_HIGH_F64, y);
    r = fma(z - magic, TN_LN2_LOW_F64, r);
    double p = 0x1.ad7f7b1096349p-26;
    p = fma(p, r, 0x1.28ad689e8aee0p-22);
    p = fma(p, r, 0x1.71df253a08086p-19);
    p = fma(p, r, 0x1.a0199a16e68edp-16);
    p = fma(p, r, 0x1.a01a012a69cf4p-13);
    p = fma(p, r, 0x1.6c16c184266b4p-10);
    p = fma(p, r, 0x1.1111111127b9bp-7);
    p = fma(p, r, 0x1.555555555088cp-5);
    p = fma(p, r, 0x1.55555555554fap-3);
    p = fma(p, r, 0x1.000000000000ap-1);
    p = fma(p, r, 1.0);
    p = fma(p, r, 1.0);
    return p * __longlong_as_double(__double_as_longlong(z) << 52);
}

TN_DEVICE float erf_of(float x) {
    const float s = x * x, t = smaller(4.0f, fabsf(x));
    float q = fmaf(t, -0x1.5e0cdap-17f, 0x1.4a24f6p-12f);
    q = fmaf(q, t, -0x1.d935eap-9f);
    q = fmaf(q, t, 0x1.8435f0p-6f);
    q = fmaf(q, t, -0x1.b2d3c0p-4f);
    q = fmaf(q, t, -0x1.4538aep-1f);
    q = fmaf(q, t, -0x1.0772dep-3f);
    const float big = 1.0f - exp_of(fmaf(q, t, -t));
    float p = fmaf(s, 0x1.5cd410p-14f, -0x1.aa3efep-11f);
    p = fmaf(p, s, 0x1.54c7f0p-8f);
    p = fmaf(p, s, -0x1.b80e90p-6f);
    p = fmaf(p, s, 0x1.ce2e0ap-4f);
    p = fmaf(p, s, -0x1.812742p-2f);
    p = fmaf(p, s, 0x1.06eba8p-3f);
    const float small = fmaf(p, x, x);
    return fabsf(x) < 0.925f ? small : copysignf(big, x);
}
TN_DEVICE double erf_of(double x) {
    return erf(x);
}

TN_DEVICE float tanh_of(float x) {
    const float t = fabsf(x), s = x * x, e = exp_of(t + t);
    const float big = 1.0f - 2.0f / (e + 1.0f);
    float p = fmaf(s, -0x1.736332p-8f, 0x1.519c60p-6f);
    p = fmaf(p, s, -0x1.b827f6p-5f);
    p = fmaf(p, s, 0x1.110692p-3f);
    p = fmaf(p, s, -0x1.555530p-2f);
    const float small = fmaf(p * s, x, x);
    return t < 0.625f ? small : copysignf(big, x);
}
TN_DEVICE double tanh_of(double x) {
    return tanh(x);
}

/* 1 / (1 + e^-x), through e^-|x| so that neither tail overflows nor cancels. */
template <class E> TN_DEVICE E sigmoid_of(E x) {
    const E e = exp_of(x < 0 ? x : -x);
    return (x < 0 ? e : (E)1) / ((E)1 + e);
}

/* maximum + log(sum), or -inf where nothing was summed: by way of f64. */
template <class E> TN_DEVICE void put_lse(char *at, int type, E maximum, E sum) {
    const double value = sum == 0 ? (double)-TN_INFINITY : (double)maximum + log((double)sum);
    put<double>(at, type, value);
}

/* ---- parts of a softmax: a maximum and the sum of exponentials below it */

template <class E> struct part { E maximum, sum; };

template <class E> TN_DEVICE bool empty_part(const part<E> &p) {
    return p.maximum == (E)-TN_INFINITY && p.sum == 0;
}

/* Factors of two parts that are joined: 1 for the one with the larger maximum. NaN where both are
 * infinite, as both weights would be. Neither is empty, or `more` is and its factor is not used. */
template <class E> struct factors { E old, more; };
template <class E> TN_DEVICE factors<E> join(part<E> &a, const part<E> &b) {
    const bool grows = b.maximum > a.maximum;
    const E other = exp_negative(grows ? a.maximum - b.maximum : b.maximum - a.maximum);
    factors<E> f;
    f.old = grows ? other : other == other ? (E)1 : other;
    f.more = grows ? (E)1 : other;
    a.sum = fma(a.sum, f.old, b.sum * f.more);
    a.maximum = grows ? b.maximum : a.maximum;
    return f;
}

#endif
