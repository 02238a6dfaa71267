/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_mma.cu: products of 16-bit floats, and of bytes beside them, by tensor cores (sm_80 and up);
 * and the joining of segments of all products with sums in f32.
 */
#include "gemm_tiles.cuh"

GEMM_TILES(f16, of_f16)
GEMM_TILES(bf16, of_bf16)

TN_KERNEL __launch_bounds__(256) gemm_join_f32(const __grid_constant__ tn_cu_gemm g) {
    gemm_join<of_f16>(g);
}
