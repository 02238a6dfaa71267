/* SPDX-License-Identifier: Apache-2.0 */
/*
 * math.cl: exp, the functions behind the activations, and the exponential of softmax on EV.
 *
 * The polynomials of src/cpu/kernels/math_f32.h, math_f64.h and softmax_exp.h, operation by
 * operation, so that a device whose fma is exact gives the CPU backend's bits; the functions that
 * OpenCL brings may be 16 units off. Only erf and tanh of f64, and logarithms, are those. max() and
 * min() are written so that NaN stays.
 */
#define V(x) SPREAD((E)(x))
/* The second on NaN. */
#define MAX_OF(a, b) SELECT(b, a, (a) > (b))
#define MIN_OF(a, b) SELECT(b, a, (a) < (b))

#if TN_WIDTH == 1
#define AS_INT CAT(as_, E_INT)
#define AS_E CAT(as_, E_NAME)
#define TO_INT CAT(convert_, E_INT)
#else
#define AS_INT CAT(as_, CAT(E_INT, TN_WIDTH))
#define AS_E CAT(as_, CAT(E_NAME, TN_WIDTH))
#define TO_INT CAT(convert_, CAT(E_INT, TN_WIDTH))
#endif
#if TN_SUM == 0
#define FRACTION_BITS 23
#define EXPONENT_BIAS 127
#else
#define FRACTION_BITS 52
#define EXPONENT_BIAS 1023
#endif

/* Products without an epilogue have no use for the rest, and are compiled without it. */
#if !defined(TN_EPILOGUE) || TN_EPILOGUE

/* p * 2^n, rounded once where it is subnormal. */
EV scale_by(EV p, EV n) {
    const IV whole = TO_INT(n), part = whole >> (IV)(1);
    const EV first = AS_E((part + (IV)(EXPONENT_BIAS)) << (IV)(FRACTION_BITS));
    const EV second = AS_E((whole - part + (IV)(EXPONENT_BIAS)) << (IV)(FRACTION_BITS));
    return p * first * second;
}

#if TN_SUM == 0

EV exp_of(EV x) {
    const EV y = MIN_OF(V(90.0f), MAX_OF(V(-104.0f), x));
    const EV magic = V(0x1.8p23f);
    const EV n = fma(y, V(0x1.715476p+0f), magic) - magic;
    EV r = fma(n, V(-0x1.62e400p-1f), y); /* ln 2 in two parts */
    r = fma(n, V(-0x1.7f7d1cp-20f), r);
    EV p = fma(r, V(0x1.6a243ap-10f), V(0x1.1239e0p-7f));
    p = fma(p, r, V(0x1.5558f2p-5f));
    p = fma(p, r, V(0x1.555492p-3f));
    p = fma(p, r, V(0x1.fffffcp-2f));
    p = fma(r * r, p, r);
    /* n of NaN is no number to convert */
    return SELECT(scale_by(p + V(1), SELECT(n, V(0), isnan(x))), x, isnan(x));
}

EV erf_of(EV x) {
    const EV s = x * x, t = MIN_OF(V(4.0f), fabs(x));
    EV q = fma(t, V(-0x1.5e0cdap-17f), V(0x1.4a24f6p-12f));
    q = fma(q, t, V(-0x1.d935eap-9f));
    q = fma(q, t, V(0x1.8435f0p-6f));
    q = fma(q, t, V(-0x1.b2d3c0p-4f));
    q = fma(q, t, V(-0x1.4538aep-1f));
    q = fma(q, t, V(-0x1.0772dep-3f));
    const EV big = V(1) - exp_of(fma(q, t, -t));
    EV p = fma(s, V(0x1.5cd410p-14f), V(-0x1.aa3efep-11f));
    p = fma(p, s, V(0x1.54c7f0p-8f));
    p = fma(p, s, V(-0x1.b80e90p-6f));
    p = fma(p, s, V(0x1.ce2e0ap-4f));
    p = fma(p, s, V(-0x1.812742p-2f));
    p = fma(p, s, V(0x1.06eba8p-3f));
    const EV small = fma(p, x, x);
    return SELECT(copysign(big, x), small, fabs(x) < V(0.925f));
}

EV tanh_of(EV x) {
    const EV t = fabs(x), s = x * x;
    const EV e = exp_of(t + t);
    const EV big = V(1) - V(2) / (e + V(1));
    EV p = fma(s, V(-0x1.736332p-8f), V(0x1.519c60p-6f));
    p = fma(p, s, V(-0x1.b827f6p-5f));
    p = fma(p, s, V(0x1.110692p-3f));
    p = fma(p, s, V(-0x1.555530p-2f));
    const EV small = fma(p * s, x, x);
    return SELECT(copysign(big, x), small, t < V(0.625f));
}

/* e^x for x <= 0: at most 1 ulp, exactly 0 below 2^-126.5, NaN kept. */
inline __attribute__((always_inline)) EV exp_negative(EV x) {
    const EV magic = V(0x1.8p23f + 127.0f); /* rounds, and biases the exponent */
    const EV y = MAX_OF(V(-0x1.60cp+6f), x);
    const EV z = fma(y, V(0x1.715476p+0f), magic);
    EV r = fma(z - magic, V(-0x1.62e400p-1f), y);
    r = fma(z - magic, V(-0x1.7f7d1cp-20f), r);
    EV p = fma(r, V(0x1.6a23d0p-10f), V(0x1.123a20p-7f));
    p = fma(p, r, V(0x1.5558f2p-5f));
    p = fma(p, r, V(0x1.555492p-3f));
    p = fma(p, r, V(0x1.fffffcp-2f));
    p = fma(p, r * r, r);
    const EV power = AS_E(AS_INT(z) << (IV)(FRACTION_BITS));
    return fma(p, power, power);
}

#else

EV exp_of(EV x) {
    const EV y = MIN_OF(V(711.0), MAX_OF(V(-746.0), x));
    const EV magic = V(0x1.8p52);
    const EV n = fma(y, V(0x1.71547652b82fep+0), magic) - magic;
    EV r = fma(n, V(-0x1.62e42fefa0000p-1), y);
    r = fma(n, V(-0x1.cf79abc9e3b3ap-40), r);
    EV p = V(1.0 / 6227020800.0);
    p = fma(p, r, V(1.0 / 479001600.0));
    p = fma(p, r, V(1.0 / 39916800.0));
    p = fma(p, r, V(1.0 / 3628800.0));
    p = fma(p, r, V(1.0 / 362880.0));
    p = fma(p, r, V(1.0 / 40320.0));
    p = fma(p, r, V(1.0 / 5040.0));
    p = fma(p, r, V(1.0 / 720.0));
    p = fma(p, r, V(1.0 / 120.0));
    p = fma(p, r, V(1.0 / 24.0));
    p = fma(p, r, V(1.0 / 6.0));
    p = fma(p, r, V(0.5));
    p = fma(r * r, p, r);
    return SELECT(scale_by(p + V(1), SELECT(n, V(0), isnan(x))), x, isnan(x));
}

EV erf_of(EV x) {
    return erf(x);
}

EV tanh_of(EV x) {
    return tanh(x);
}

inline __attribute__((always_inline)) EV exp_negative(EV x) {
    const EV magic = V(0x1.8p52 + 1023.0);
    const EV y = MAX_OF(V(-709.25), x);
    const EV z = fma(y, V(0x1.71547652b82fep+0), magic);
    EV r = fma(z - magic, V(-0x1.62e42fefa0000p-1), y);
    r = fma(z - magic, V(-0x1.cf79abc9e3b3ap-40), r);
    EV p = V(0x1.ad7f7b1096349p-26);
    p = fma(p, r, V(0x1.28ad689e8aee0p-22));
    p = fma(p, r, V(0x1.71df253a08086p-19));
    p = fma(p, r, V(0x1.a0199a16e68edp-16));
    p = fma(p, r, V(0x1.a01a012a69cf4p-13));
    p = fma(p, r, V(0x1.6c16c184266b4p-10));
    p = fma(p, r, V(0x1.1111111127b9bp-7));
    p = fma(p, r, V(0x1.555555555088cp-5));
    p = fma(p, r, V(0x1.55555555554fap-3));
    p = fma(p, r, V(0x1.000000000000ap-1));
    p = fma(p, r, V(1));
    p = fma(p, r, V(1));
    return p * AS_E(AS_INT(z) << (IV)(FRACTION_BITS));
}

#endif

/* 1 / (1 + e^-x), through e^-|x| so that neither tail overflows nor cancels. */
EV sigmoid_of(EV x) {
    const EV e = exp_of(-fabs(x));
    return SELECT(V(1), e, x < V(0)) / (V(1) + e);
}

#endif
