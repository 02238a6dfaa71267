/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_fp8.cu: products of 8-bit floats by tensor cores' own instructions for them (sm_89 and up),
 * which keep few bits of a sum: where the caller allows it (TENON_COMPUTE_FAST; docs/NUMERICS.md,
 * 3.10). gemm_mma.cu multiplies them as f16.
 */
#include "gemm_tiles.cuh"

GEMM_SMALL_TILES(fp8, of_fp8) /* for large ones, of two sets of sums, there are no registers */
