/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec.h: the vector layer that every CPU kernel is written in; one of vec_scalar.h, vec_avx2.h,
 * vec_avx512.h.
 *
 * A kernel source includes this file and nothing of the C library. The build compiles it once per
 * level with TN_ISA_SCALAR, TN_ISA_AVX2 or TN_ISA_AVX512 defined; its external names are wrapped in
 * TN_ISA(name). Everything here is static inline: an external inline compiled with AVX-512 and kept
 * by the linker would crash older processors.
 *
 *   vf, VF   f32 vector and its lanes;  vd, VD   f64 vector and its lanes, 2 * VD == VF except VF
 * == VD == 1 vfm, vdm lane masks of vf and vd vX_load, vX_store            unaligned;  vX_load_n,
 * vX_store_n touch only the first n lanes' memory (0 <= n <= lanes; other lanes load as zero)
 *   vX_fma(a, b, c)              a * b + c, rounded once at every level: all levels give the same
 * bits vX_max(a, b)                 a > b ? a : b, so b where either is NaN; vX_min(a, b) is a < b
 * ? a : b vX_lt le gt ge eq            ordered compare (false on NaN);  vX_unord: either is NaN
 *   vX_select(m, a, b)           m ? a : b
 *   vX_ldexp(x, n)               x * 2^n rounded once; n integral, |n| <= 250 (f32), 2000 (f64);
 * 2^-40 <= |x| <= 2^40 or x NaN; a result out of range becomes zero, subnormal or infinite as it
 * should vX_round(x)                  nearest integer, ties to even; |x| < 2^22 (f32), 2^51 (f64)
 *   vf_load_T, vf_store_T (_n)   T in f16 bf16: converted, rounded to nearest even, NaN kept (see
 * num_convert.h); loads only: f8e4m3 f8e5m2 s8 u8 s32 vd_load_T, vd_store_T (_n)   T = f32; loads
 * only: s8 u8 s32 vf_transpose(r), vd_transpose(r)   r[VF] or r[VD] in place
 */
#ifndef TN_VEC_H
#define TN_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "num_convert.h"

#define TN_CAT_(a, b) a##b
#define TN_CAT(a, b) TN_CAT_(a, b)

/* Loops over vector registers must be unrolled completely, or the arrays live in memory. */
#if defined(TN_EMULATE_AVX512)
#define TN_UNROLL /* emulated vectors live in memory anyway; unrolled they compile for minutes */
#elif defined(__clang__)
#define TN_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define TN_UNROLL _Pragma("GCC unroll 32")
#else
#define TN_UNROLL
#endif

#if defined(__GNUC__)
#define TN_INLINE static inline __attribute__((always_inline, unused))
#define TN_NOINLINE                                                                                \
    static __attribute__((noinline,                                                                \
                          unused)) /* rare paths: inlined they make the kernels slow to compile */
#define TN_PREFETCH(p) __builtin_prefetch((p), 0, 3)
#define TN_PREFETCH_W(p) __builtin_prefetch((p), 1, 3)
#else
#define TN_INLINE static inline
#define TN_NOINLINE static
#define TN_PREFETCH(p) ((void)(p))
#define TN_PREFETCH_W(p) ((void)(p))
#endif

#if defined(TN_ISA_AVX512)
#include "vec_avx512.h"
#define TN_ISA(name) TN_CAT(name, _avx512)
#elif defined(TN_ISA_AVX2)
#include "vec_avx2.h"
#define TN_ISA(name) TN_CAT(name, _avx2)
#elif defined(TN_ISA_SCALAR)
#include "vec_scalar.h"
#define TN_ISA(name) TN_CAT(name, _scalar)
#else
#error "compile kernels with TN_ISA_SCALAR, TN_ISA_AVX2 or TN_ISA_AVX512"
#endif

#endif
