/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_tf32.cu: products of f32 rounded to tf32 by tensor cores (sm_80 and up), where the caller
 * allows it (TENON_COMPUTE_FAST; docs/NUMERICS.md, 3.10).
 */
#include "gemm_tiles.cuh"

GEMM_SMALL_TILES(tf32, of_tf32) /* large ones lack a few registers on sm_120 */
