/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_f32.c: the f32 tile family of one level: microkernel, packing from every source type,
 * vector-matrix kernels, epilogue steps.
 *
 * Compiled once per level; exports one constant, tn_gemm_tile_f32_<level>, whose shape is the
 * level's row of gemm_tiles.def.
 */
#include "vec_quads.h"

#include "gemm_kernels.h"
#include "math_f32.h"
#include "ops/blocks.h"

#include <tenon/gemm.h>

#define VEC vf
#define LANES VF
#define REAL float
#define V(op) vf_##op
#define MATH(name) tn_v_##name

#if defined(TN_ISA_AVX512)
#define MR 12
#define NV 2
#define TILE_NAME "gemm_f32_12x32_avx512"
#elif defined(TN_ISA_AVX2)
#define MR 6
#define NV 2
#define UKR_TOGETHER 8
#define UKR_FMA vf_fma_kept
#define TILE_NAME "gemm_f32_6x16_avx2"
#else
#define MR 4
#define NV 4
#define TILE_NAME "gemm_f32_4x4_scalar"
#endif
#define NR (NV * LANES)

#include "gemm_family.inc"

#define SOURCE float
#define TAG f32
#define LOAD vf_load
#define LOAD_N vf_load_n
#define ONE(x) (x)
#include "gemm_source.inc"

#define SOURCE uint16_t
#define TAG f16
#define LOAD vf_load_f16
#define LOAD_N vf_load_f16_n
#define ONE tn_f16_to_f32
#include "gemm_source.inc"

#define SOURCE uint16_t
#define TAG bf16
#define LOAD vf_load_bf16
#define LOAD_N vf_load_bf16_n
#define ONE tn_bf16_to_f32
#include "gemm_source.inc"

#define SOURCE uint8_t
#define TAG f8e4m3
#define LOAD vf_load_f8e4m3
#define LOAD_N vf_load_f8e4m3_n
#define ONE tn_f8e4m3_to_f32
#include "gemm_source.inc"

#define SOURCE uint8_t
#define TAG f8e5m2
#define LOAD vf_load_f8e5m2
#define LOAD_N vf_load_f8e5m2_n
#define ONE tn_f8e5m2_to_f32
#include "gemm_source.inc"

#define SOURCE int8_t
#define TAG s8
#define LOAD vf_load_s8
#define LOAD_N vf_load_s8_n
#define ONE(x) (x)
#include "gemm_source.inc"

#define SOURCE uint8_t
#define TAG u8
#define LOAD vf_load_u8
#define LOAD_N vf_load_u8_n
#define ONE(x) (x)
#include "gemm_source.inc"

#include "block_values.inc"

#include "block_few.inc"
#include "block_rows.inc"

ROW_LOAD(s32, int32_t, , vf_load_s32, vf_load_s32_n)
static void row_load_f64(const void *src_, int64_t stride, int64_t n, void *dst_) {
    const double *src = src_;
    float *dst = dst_;
    for (int64_t i = 0; i < n; i++)
        dst[i] = (float)src[i * stride];
}

ROW_STORE_VECTOR(f32, float, , vf_store, vf_store_n)
ROW_STORE_VECTOR(f16, uint16_t, tn_f32_to_f16, vf_store_f16, vf_store_f16_n)
ROW_STORE_VECTOR(bf16, uint16_t, tn_f32_to_bf16, vf_store_bf16, vf_store_bf16_n)
ROW_STORE(f64, double, )
ROW_STORE(f8e4m3, uint8_t, tn_f32_to_f8e4m3)
ROW_STORE(f8e5m2, uint8_t, tn_f32_to_f8e5m2)
ROW_STORE(s8, int8_t, TO_S8)
ROW_STORE(u8, uint8_t, TO_U8)
ROW_STORE(s32, int32_t, TO_S32)

#define EACH_VECTOR_SOURCE(X)                                                                      \
    X(TENON_F32, f32)                                                                              \
    X(TENON_F16, f16)                                                                              \
    X(TENON_BF16, bf16)                                                                            \
    X(TENON_F8_E4M3, f8e4m3)                                                                       \
    X(TENON_F8_E5M2, f8e5m2)                                                                       \
    X(TENON_S8, s8)                                                                                \
    X(TENON_U8, u8)
#define EACH_SOURCE EACH_VECTOR_SOURCE
#define EACH_ROW(X)                                                                                \
    EACH_SOURCE(X)                                                                                 \
    X(TENON_F64, f64)                                                                              \
    X(TENON_S32, s32)

#define TILE_BLOCKS
#define TILE_FAMILY tn_gemm_tile_f32
#define TILE_TYPE TENON_F32
#include "gemm_table.inc"
