/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_f64.c: the f64 tile family of one level: microkernel, packing from every source type,
 * vector-matrix kernels, epilogue steps.
 *
 * Compiled once per level; exports one constant, tn_gemm_tile_f64_<level>, whose shape is the
 * level's row of gemm_tiles.def.
 */
#include "vec.h"

#include "gemm_kernels.h"
#include "math_f64.h"

#include <tenon/gemm.h>

#define VEC vd
#define LANES VD
#define REAL double
#define V(op) vd_##op
#define MATH(name) tn_vd_##name

#if defined(TN_ISA_AVX512)
#define MR 12
#define NV 2
#define TILE_NAME "gemm_f64_12x16_avx512"
#elif defined(TN_ISA_AVX2)
#define MR 6
#define NV 2
#define UKR_TOGETHER 8
#define UKR_FMA vd_fma_kept
#define TILE_NAME "gemm_f64_6x8_avx2"
#else
#define MR 4
#define NV 4
#define TILE_NAME "gemm_f64_4x4_scalar"
#endif
#define NR (NV * LANES)

#include "gemm_family.inc"

#define SOURCE double
#define TAG f64
#define LOAD vd_load
#define LOAD_N vd_load_n
#define ONE(x) (x)
#include "gemm_source.inc"

#define SOURCE float
#define TAG f32
#define LOAD vd_load_f32
#define LOAD_N vd_load_f32_n
#define ONE(x) (x)
#include "gemm_source.inc"

#define SOURCE int8_t
#define TAG s8
#define LOAD vd_load_s8
#define LOAD_N vd_load_s8_n
#define ONE(x) (x)
#include "gemm_source.inc"

#define SOURCE uint8_t
#define TAG u8
#define LOAD vd_load_u8
#define LOAD_N vd_load_u8_n
#define ONE(x) (x)
#include "gemm_source.inc"

/* Beside f64 the narrow floats are rare: they are converted one by one. */
#define SOURCE uint16_t
#define TAG f16
#define ONE tn_f16_to_f32
#include "gemm_source_plain.inc"

#define SOURCE uint16_t
#define TAG bf16
#define ONE tn_bf16_to_f32
#include "gemm_source_plain.inc"

#define SOURCE uint8_t
#define TAG f8e4m3
#define ONE tn_f8e4m3_to_f32
#include "gemm_source_plain.inc"

#define SOURCE uint8_t
#define TAG f8e5m2
#define ONE tn_f8e5m2_to_f32
#include "gemm_source_plain.inc"

ROW_LOAD(s32, int32_t, , vd_load_s32, vd_load_s32_n)

/* Through f32 rounded to odd (Boldo and Melquiond, 2008), so that the second rounding is as good as
 * one. */
#define TO_F16(x) tn_f32_to_f16(tn_f64_to_f32_odd(x))
#define TO_BF16(x) tn_f32_to_bf16(tn_f64_to_f32_odd(x))
#define TO_F8E4M3(x) tn_f32_to_f8e4m3(tn_f64_to_f32_odd(x))
#define TO_F8E5M2(x) tn_f32_to_f8e5m2(tn_f64_to_f32_odd(x))
ROW_STORE_VECTOR(f64, double, , vd_store, vd_store_n)
ROW_STORE_VECTOR(f32, float, (float), vd_store_f32, vd_store_f32_n)
ROW_STORE(f16, uint16_t, TO_F16)
ROW_STORE(bf16, uint16_t, TO_BF16)
ROW_STORE(f8e4m3, uint8_t, TO_F8E4M3)
ROW_STORE(f8e5m2, uint8_t, TO_F8E5M2)
ROW_STORE(s8, int8_t, TO_S8)
ROW_STORE(u8, uint8_t, TO_U8)
ROW_STORE(s32, int32_t, TO_S32)

#define EACH_VECTOR_SOURCE(X)                                                                      \
    X(TENON_F64, f64)                                                                              \
    X(TENON_F32, f32)                                                                              \
    X(TENON_S8, s8)                                                                                \
    X(TENON_U8, u8)
#define EACH_SOURCE(X)                                                                             \
    EACH_VECTOR_SOURCE(X)                                                                          \
    X(TENON_F16, f16)                                                                              \
    X(TENON_BF16, bf16)                                                                            \
    X(TENON_F8_E4M3, f8e4m3)                                                                       \
    X(TENON_F8_E5M2, f8e5m2)
#define EACH_ROW(X)                                                                                \
    EACH_SOURCE(X)                                                                                 \
    X(TENON_S32, s32)

#define TILE_FAMILY tn_gemm_tile_f64
#define TILE_TYPE TENON_F64
#include "gemm_table.inc"
