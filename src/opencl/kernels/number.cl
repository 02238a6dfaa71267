/* SPDX-License-Identifier: Apache-2.0 */
/*
 * number.cl: numbers of every storage type, one at a time or some side by side, to and from the
 * type that a kernel computes in. First text of every program.
 *
 * Macros: TN_SUM (0: f32; 1: f64; 2: f32 whose sums are exact integers, joined in f64), TN_WIDTH
 * (lanes of a vector; 1 on GPUs), TN_FP64 (whether the device has f64 at all). S is the type of
 * products, E that of sums and of everything after them; SV and EV are vectors of them. The types
 * of operands are arguments: a switch on one is the same for all lanes and costs nothing beside the
 * memory. Conversions as src/cpu/kernels/num_convert.h has them, without vload_half, whose
 * subnormals some devices lose.
 */
#pragma OPENCL FP_CONTRACT OFF
#if TN_FP64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

/* What a kernel consists of but the numbers of its item: drivers of CPUs compile the kernel itself
 * three times over, and what it calls once. (Functions that ask for the item's numbers become part
 * of the kernel.) */
#if TN_FAMILY_CPU
#define APART __attribute__((noinline))
#else
#define APART
#endif

/* tenon_dtype */
#define F64 1
#define F32 2
#define F16 3
#define BF16 4
#define F8_E4M3 5
#define F8_E5M2 6
#define S8 7
#define U8 8
#define S32 9
#define S64 10
#define BOOL 11

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)

#if TN_SUM == 0
typedef float S;
typedef float E;
#define S_NAME float
#define E_NAME float
#define E_INT int
#define E_TYPE F32
#define S_TYPE F32
#elif TN_SUM == 1
typedef double S;
typedef double E;
#define S_NAME double
#define E_NAME double
#define E_INT long
#define E_TYPE F64
#define S_TYPE F64
#else
typedef float S;
typedef double E;
#define S_NAME float
#define E_NAME double
#define E_INT long
#define E_TYPE F64
#define S_TYPE F32
#endif

#if TN_WIDTH == 1
typedef S SV;
typedef E EV;
typedef E_INT IV; /* what a comparison of EV gives */
#define TO_EV CAT(convert_, E_NAME)
#define S_LOAD(p) (*(p))
#define E_LOAD(p) (*(p))
#define S_STORE(v, p) (*(p) = (v))
#define E_STORE(v, p) (*(p) = (v))
#else
typedef CAT(S_NAME, TN_WIDTH) SV;
typedef CAT(E_NAME, TN_WIDTH) EV;
typedef CAT(E_INT, TN_WIDTH) IV;
#define TO_EV CAT(convert_, CAT(E_NAME, TN_WIDTH))
#define S_LOAD(p) CAT(vload, TN_WIDTH)(0, p)
#define E_LOAD(p) CAT(vload, TN_WIDTH)(0, p)
#define S_STORE(v, p) CAT(vstore, TN_WIDTH)(v, 0, p)
#define E_STORE(v, p) CAT(vstore, TN_WIDTH)(v, 0, p)
#endif
/* b where the comparison holds, else a. */
#define SELECT(a, b, comparison) select(a, b, (IV)(comparison))
#define SPREAD(x) ((EV)(x))

/* A number of the caller's in an argument: f64, whose bits travel as an integer, and the f32 next to
 * it. */
typedef struct double_bits {
    long wide;
    float narrow;
    int reserved;
} double_bits;
#if TN_SUM == 0
#define TO_NUMBER(x) ((x).narrow)
#else
#define TO_NUMBER(x) as_double((x).wide)
#endif

typedef __global const uchar *source;
typedef __global uchar *target;

int type_size(int type) {
    switch (type) {
    case F64:
    case S64:
        return 8;
    case F32:
    case S32:
        return 4;
    case F16:
    case BF16:
        return 2;
    default:
        return 1;
    }
}

/* ---- to f32 */

float from_f16(ushort h) {
    const uint sign = (uint)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023;
    const uint special = 0x7f800000 | (m ? 0x400000 : 0) | m << 13;
    /* zero and subnormals: m * 2^-24, exact and normal */
    const uint small = as_uint((float)m * 0x1p-24f), normal = (e + 112) << 23 | m << 13;
    return as_float(sign | (e == 31 ? special : e == 0 ? small : normal));
}

float from_bf16(ushort h) {
    return as_float((uint)h << 16);
}

float from_e4m3(uchar h) {
    const uint sign = (uint)(h & 0x80) << 24, e = (h >> 3) & 15, m = h & 7;
    const uint small = as_uint((float)m * 0x1p-9f), normal = (e + 120) << 23 | m << 20;
    return as_float(sign | ((h & 0x7f) == 0x7f ? 0x7fc00000 : e == 0 ? small : normal));
}

/* ---- from f32: nearest, ties to even */

/* Magnitude bits `a` (finite) in a format of `bits` fraction bits and exponent bias `bias`; the
 * exponent may run past the format's own range, which the callers check. */
uint round_magnitude(uint a, int bits, int bias) {
    const int drop = 23 - bits, e = (int)(a >> 23) - 127 + bias;
    if (e >= 1) {
        const uint r = a - ((uint)(127 - bias) << 23);
        return (r + (1u << (drop - 1)) - 1 + ((r >> drop) & 1)) >> drop;
    }
    const int shift = drop + 1 - e; /* units of the smallest subnormal */
    if (shift > 24 || a < 0x00800000)
        return 0; /* below half of it */
    const uint m = (a & 0x7fffff) | 0x800000, q = m >> shift, rest = m & ((1u << shift) - 1);
    const uint half_ = 1u << (shift - 1);
    return q + (rest > half_ || (rest == half_ && (q & 1)));
}

ushort to_f16(float x) {
    const uint u = as_uint(x), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (ushort)(sign | 0x7e00 | ((a >> 13) & 0x3ff));
    if (a >= 0x477ff000) /* 65520 and up */
        return (ushort)(sign | 0x7c00);
    return (ushort)(sign | round_magnitude(a, 10, 15));
}

ushort to_bf16(float x) {
    const uint u = as_uint(x);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (ushort)(u >> 16 | 0x40);
    return (ushort)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

uchar to_e4m3(float x) {
    const uint u = as_uint(x), sign = (u >> 24) & 0x80, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uchar)(sign | 0x7f);
    if (a >= 0x43e00000) /* 448, the largest */
        return (uchar)(sign | 0x7e);
    return (uchar)(sign | round_magnitude(a, 3, 7));
}

uchar to_e5m2(float x) {
    const uint u = as_uint(x), sign = (u >> 24) & 0x80, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uchar)(sign | 0x7e | ((a >> 21) & 3));
    if (a >= 0x47600000) /* 57344, the largest */
        return (uchar)(sign | 0x7b);
    return (uchar)(sign | round_magnitude(a, 2, 15));
}

#if TN_FP64
/* To f32, inexact results to the neighbour with an odd last bit: a further rounding to a narrower
 * type then equals a direct one. */
float narrow_odd(double x) {
    const float y = (float)x;
    if ((double)y == x || x != x)
        return y;
    uint u = as_uint(y);
    if (fabs((double)y) > fabs(x))
        u--; /* towards zero; an infinity from overflow becomes the largest number */
    return as_float(u | 1);
}
#endif

#if TN_SUM == 0
#define NARROW(x) (x)
#else
#define NARROW(x) narrow_odd(x)
#endif

/* ---- one number at an address */

E get(source x, int type) {
    switch (type) {
#if TN_FP64
    case F64:
        return (E) * (__global const double *)x;
#endif
    case F32:
        return (E) * (__global const float *)x;
    case F16:
        return (E)from_f16(*(__global const ushort *)x);
    case BF16:
        return (E)from_bf16(*(__global const ushort *)x);
    case F8_E4M3:
        return (E)from_e4m3(*x);
    case F8_E5M2:
        return (E)from_f16((ushort)(*x << 8));
    case S8:
        return (E) * (__global const char *)x;
    case U8:
        return (E)*x;
    case S32:
        return (E) * (__global const int *)x;
    default:
        return (E)0;
    }
}

void put(target x, int type, E v) {
    switch (type) {
#if TN_FP64
    case F64:
        *(__global double *)x = (double)v;
        break;
#endif
    case F32:
        *(__global float *)x = (float)v;
        break;
    case F16:
        *(__global ushort *)x = to_f16(NARROW(v));
        break;
    case BF16:
        *(__global ushort *)x = to_bf16(NARROW(v));
        break;
    case F8_E4M3:
        *x = to_e4m3(NARROW(v));
        break;
    case F8_E5M2:
        *x = to_e5m2(NARROW(v));
        break;
    case S8:
        *(__global char *)x = v != v ? (char)0 : convert_char_sat_rte(v);
        break;
    case U8:
        *x = v != v ? (uchar)0 : convert_uchar_sat_rte(v);
        break;
    case S32:
        *(__global int *)x = v != v ? 0 : convert_int_sat_rte(v);
        break;
    default:
        break;
    }
}

/* An index: s32 or s64. */
long get_index(source x, int type) {
    return type == S64 ? *(__global const long *)x : (long)*(__global const int *)x;
}

/* ---- `count` numbers, `step` bytes apart, side by side; the rest of the lanes is 0 */

EV get_some(source x, int type, long step, int count) {
#if TN_WIDTH == 1
    return get(x, type);
#else
    if (step == 0)
        return SPREAD(get(x, type));
    if (type == E_TYPE && step == sizeof(E) && count == TN_WIDTH)
        return E_LOAD((__global const E *)x);
    E t[TN_WIDTH];
    for (int l = 0; l < TN_WIDTH; l++)
        t[l] = l < count ? get(x + l * step, type) : (E)0;
    return E_LOAD(t);
#endif
}

void put_some(target x, int type, long step, int count, EV v) {
#if TN_WIDTH == 1
    put(x, type, v);
#else
    if (type == E_TYPE && step == sizeof(E) && count == TN_WIDTH) {
        E_STORE(v, (__global E *)x);
        return;
    }
    E t[TN_WIDTH];
    E_STORE(v, t);
    for (int l = 0; l < count; l++)
        put(x + l * step, type, t[l]);
#endif
}
