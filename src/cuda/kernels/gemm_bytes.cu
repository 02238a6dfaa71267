/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_bytes.cu: exact products of s8 and u8 in any mix, with zero points of 8 bits, by tensor
 * cores (sm_80 and up). The bits are those of gemm_plain.cu, as no sum is rounded.
 */
#include "gemm_tiles.cuh"

GEMM_TILES(s8, of_bytes)

TN_KERNEL __launch_bounds__(256) gemm_join_s32(const __grid_constant__ tn_cu_gemm g) {
    gemm_join<of_bytes>(g);
}
