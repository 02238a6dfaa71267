/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_scalar.h: the vector layer with one lane, in plain C. See vec.h for the meaning of each
 * function.
 *
 * Runs anywhere and is the level that the others are compared with. fma() must be a true fused one:
 * where the compiler has no instruction for it, libm's is used (slow, correct).
 */
#ifndef TN_VEC_SCALAR_H
#define TN_VEC_SCALAR_H

#define VF 1
#define VD 1
typedef float vf;
typedef double vd;
typedef int vfm;
typedef int vdm;

TN_INLINE vf vf_zero(void) {
    return 0.0f;
}
TN_INLINE vf vf_set1(float x) {
    return x;
}
TN_INLINE vf vf_load(const float *p) {
    return *p;
}
TN_INLINE void vf_store(float *p, vf v) {
    *p = v;
}
TN_INLINE vf vf_load_n(const float *p, int n) {
    return n > 0 ? *p : 0.0f;
}
TN_INLINE void vf_store_n(float *p, vf v, int n) {
    if (n > 0)
        *p = v;
}
TN_INLINE vf vf_add(vf a, vf b) {
    return a + b;
}
TN_INLINE vf vf_sub(vf a, vf b) {
    return a - b;
}
TN_INLINE vf vf_mul(vf a, vf b) {
    return a * b;
}
TN_INLINE vf vf_div(vf a, vf b) {
    return a / b;
}
TN_INLINE vf vf_fma(vf a, vf b, vf c) {
    return fmaf(a, b, c);
}
TN_INLINE vf vf_max(vf a, vf b) {
    return a > b ? a : b;
}
TN_INLINE vf vf_min(vf a, vf b) {
    return a < b ? a : b;
}
TN_INLINE vf vf_neg(vf a) {
    return -a;
}
TN_INLINE vf vf_abs(vf a) {
    return tn_f32_bits(tn_bits_f32(a) & 0x7fffffff);
}
TN_INLINE vf vf_copysign(vf a, vf s) {
    return tn_f32_bits((tn_bits_f32(a) & 0x7fffffff) | (tn_bits_f32(s) & 0x80000000));
}
TN_INLINE vf vf_round(vf a) {
    return (a + 0x1.8p23f) - 0x1.8p23f;
}
TN_INLINE vfm vf_lt(vf a, vf b) {
    return a < b;
}
TN_INLINE vfm vf_le(vf a, vf b) {
    return a <= b;
}
TN_INLINE vfm vf_gt(vf a, vf b) {
    return a > b;
}
TN_INLINE vfm vf_ge(vf a, vf b) {
    return a >= b;
}
TN_INLINE vfm vf_eq(vf a, vf b) {
    return a == b;
}
TN_INLINE vfm vf_unord(vf a, vf b) {
    return a != a || b != b;
}
TN_INLINE vf vf_select(vfm m, vf a, vf b) {
    return m ? a : b;
}
TN_INLINE vfm vfm_and(vfm a, vfm b) {
    return a & b;
}
TN_INLINE vfm vfm_or(vfm a, vfm b) {
    return a | b;
}
TN_INLINE vfm vfm_not(vfm a) {
    return !a;
}
TN_INLINE int vfm_any(vfm a) {
    return a;
}
TN_INLINE int vfm_all(vfm a) {
    return a;
}
TN_INLINE vfm vfm_first(int n) {
    return n > 0;
}
TN_INLINE vfm vfm_load_u8(const uint8_t *p) {
    return *p != 0;
}
TN_INLINE vfm vfm_load_u8_n(const uint8_t *p, int n) {
    return n > 0 && *p != 0;
}
TN_INLINE vf vf_ldexp(vf x, vf n) {
    /* In two steps, so that the first is exact and the second rounds. */
    const float t = n * 0.5f + 0x1.8p23f, half = t - 0x1.8p23f, rest = (n - half) + 0x1.8p23f;
    return x * tn_f32_bits((tn_bits_f32(t) + 127) << 23) *
           tn_f32_bits((tn_bits_f32(rest) + 127) << 23);
}

#define TN_VEC_SCALAR_LOAD(name, type, convert)                                                    \
    TN_INLINE vf vf_load_##name(const type *p) {                                                   \
        return convert(*p);                                                                        \
    }                                                                                              \
    TN_INLINE vf vf_load_##name##_n(const type *p, int n) {                                        \
        return n > 0 ? convert(*p) : 0.0f;                                                         \
    }
TN_VEC_SCALAR_LOAD(f16, uint16_t, tn_f16_to_f32)
TN_VEC_SCALAR_LOAD(bf16, uint16_t, tn_bf16_to_f32)
TN_VEC_SCALAR_LOAD(f8e4m3, uint8_t, tn_f8e4m3_to_f32)
TN_VEC_SCALAR_LOAD(f8e5m2, uint8_t, tn_f8e5m2_to_f32)
TN_VEC_SCALAR_LOAD(s8, int8_t, (float))
TN_VEC_SCALAR_LOAD(u8, uint8_t, (float))
TN_VEC_SCALAR_LOAD(s32, int32_t, (float))
#undef TN_VEC_SCALAR_LOAD

TN_INLINE vf vf_set1_f16(uint16_t h) {
    return tn_f16_to_f32(h);
}
TN_INLINE void vf_store_f16(uint16_t *p, vf v) {
    *p = tn_f32_to_f16(v);
}
TN_INLINE void vf_store_bf16(uint16_t *p, vf v) {
    *p = tn_f32_to_bf16(v);
}
TN_INLINE void vf_store_f16_n(uint16_t *p, vf v, int n) {
    if (n > 0)
        *p = tn_f32_to_f16(v);
}
TN_INLINE void vf_store_bf16_n(uint16_t *p, vf v, int n) {
    if (n > 0)
        *p = tn_f32_to_bf16(v);
}
TN_INLINE void vf_transpose(vf *r) {
    (void)r;
}

TN_INLINE vd vd_zero(void) {
    return 0.0;
}
TN_INLINE vd vd_set1(double x) {
    return x;
}
TN_INLINE vd vd_load(const double *p) {
    return *p;
}
TN_INLINE void vd_store(double *p, vd v) {
    *p = v;
}
TN_INLINE vd vd_load_n(const double *p, int n) {
    return n > 0 ? *p : 0.0;
}
TN_INLINE void vd_store_n(double *p, vd v, int n) {
    if (n > 0)
        *p = v;
}
TN_INLINE vd vd_add(vd a, vd b) {
    return a + b;
}
TN_INLINE vd vd_sub(vd a, vd b) {
    return a - b;
}
TN_INLINE vd vd_mul(vd a, vd b) {
    return a * b;
}
TN_INLINE vd vd_div(vd a, vd b) {
    return a / b;
}
TN_INLINE vd vd_fma(vd a, vd b, vd c) {
    return fma(a, b, c);
}
TN_INLINE vd vd_max(vd a, vd b) {
    return a > b ? a : b;
}
TN_INLINE vd vd_min(vd a, vd b) {
    return a < b ? a : b;
}
TN_INLINE vd vd_neg(vd a) {
    return -a;
}
TN_INLINE uint64_t vd_bits_(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
TN_INLINE double vd_from_bits_(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}
TN_INLINE vd vd_abs(vd a) {
    return vd_from_bits_(vd_bits_(a) & ~(UINT64_C(1) << 63));
}
TN_INLINE vd vd_copysign(vd a, vd s) {
    const uint64_t sign = UINT64_C(1) << 63;
    return vd_from_bits_((vd_bits_(a) & ~sign) | (vd_bits_(s) & sign));
}
TN_INLINE vd vd_round(vd a) {
    return (a + 0x1.8p52) - 0x1.8p52;
}
TN_INLINE vdm vd_lt(vd a, vd b) {
    return a < b;
}
TN_INLINE vdm vd_le(vd a, vd b) {
    return a <= b;
}
TN_INLINE vdm vd_gt(vd a, vd b) {
    return a > b;
}
TN_INLINE vdm vd_ge(vd a, vd b) {
    return a >= b;
}
TN_INLINE vdm vd_eq(vd a, vd b) {
    return a == b;
}
TN_INLINE vdm vd_unord(vd a, vd b) {
    return a != a || b != b;
}
TN_INLINE vd vd_select(vdm m, vd a, vd b) {
    return m ? a : b;
}
TN_INLINE vdm vdm_and(vdm a, vdm b) {
    return a & b;
}
TN_INLINE vdm vdm_or(vdm a, vdm b) {
    return a | b;
}
TN_INLINE vdm vdm_not(vdm a) {
    return !a;
}
TN_INLINE int vdm_any(vdm a) {
    return a;
}
TN_INLINE int vdm_all(vdm a) {
    return a;
}
TN_INLINE vdm vdm_first(int n) {
    return n > 0;
}
TN_INLINE vdm vdm_load_u8_n(const uint8_t *p, int n) {
    return n > 0 && *p != 0;
}
TN_INLINE vd vd_ldexp(vd x, vd n) {
    const double t = n * 0.5 + 0x1.8p52, half = t - 0x1.8p52, rest = (n - half) + 0x1.8p52;
    return x * vd_from_bits_((vd_bits_(t) + 1023) << 52) *
           vd_from_bits_((vd_bits_(rest) + 1023) << 52);
}

#define TN_VEC_SCALAR_LOAD(name, type)                                                             \
    TN_INLINE vd vd_load_##name(const type *p) {                                                   \
        return (double)*p;                                                                         \
    }                                                                                              \
    TN_INLINE vd vd_load_##name##_n(const type *p, int n) {                                        \
        return n > 0 ? (double)*p : 0.0;                                                           \
    }
TN_VEC_SCALAR_LOAD(f32, float)
TN_VEC_SCALAR_LOAD(s8, int8_t)
TN_VEC_SCALAR_LOAD(u8, uint8_t)
TN_VEC_SCALAR_LOAD(s32, int32_t)
#undef TN_VEC_SCALAR_LOAD

TN_INLINE void vd_store_f32(float *p, vd v) {
    *p = (float)v;
}
TN_INLINE void vd_store_f32_n(float *p, vd v, int n) {
    if (n > 0)
        *p = (float)v;
}
TN_INLINE void vd_transpose(vd *r) {
    (void)r;
}

#endif
