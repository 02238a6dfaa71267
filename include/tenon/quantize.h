/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/quantize.h: numbers into blocks and back, and blocks from strangers.
 *
 * Block types (TENON_Q8_0 … TENON_NVFP4) are bit-compatible with GGUF; layouts, formulas and what scales of NaN mean are in
 * docs/NUMERICS.md, section 9. Shapes and strides count elements in them as everywhere; blocks lie along the last dimension, whose stride
 * is 1. Example, a weight of n rows of k for use as B of a product, which is (k, n):
 *
 *     tenon_tensor blocks = tenon_matrix(memory, TENON_Q4_0, n, k);            // n · k / 32 · 18 bytes
 *     tenon_quantize(ctx, &(tenon_quantize_desc){.x = tenon_matrix(w, TENON_F32, n, k), .y = blocks});
 *     tenon_gemm(ctx, &(tenon_gemm_desc){.a = a, .b = tenon_transposed(blocks), .c = c});
 */
#ifndef TENON_QUANTIZE_H
#define TENON_QUANTIZE_H

#include <tenon/context.h>
#include <tenon/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * y ← x, both (…, n) with the same extents; n a multiple of the block of the block type. The other one, f32, f16 or bf16, may have any
 * strides. y must not overlap x.
 */
typedef struct tenon_quantize_desc {
    size_t struct_size; /**< sizeof(tenon_quantize_desc), or 0 for the first release's */
    tenon_tensor x;     /**< quantize: f32, f16, bf16; dequantize: a block type */
    tenon_tensor y;     /**< quantize: a block type; dequantize: f32, f16, bf16 */
    tenon_workspace workspace;
} tenon_quantize_desc;

/**
 * y = blocks of x.
 *
 * Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and MXFP4 are bit for bit the gguf package's quants.quantize, for finite elements whose largest is at least
 * 2^-124 (else codes may differ). Q4_K, Q5_K, Q6_K, IQ4_NL and NVFP4, which it does not write, are searched for least weighted squares.
 * NaN or infinity gives a block whose scale is not finite, which tenon_blocks_check finds. Elements beyond the largest that a search can
 * store saturate; elsewhere an f16 scale overflows to infinity. The same bits on every device.
 *
 * Statuses as tenon_gemm.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_quantize(tenon_context *ctx, const tenon_quantize_desc *desc);

/**
 * y = the elements of blocks x: to f32 bit for bit those of the gguf package's quants.dequantize (for any bytes; but for the bits of NaN),
 * to f16 and bf16 these rounded once. Statuses as tenon_gemm.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_dequantize(tenon_context *ctx, const tenon_quantize_desc *desc);

/**
 * Looks for blocks that no quantiser writes: a scale or minimum that is NaN or infinite (in E8M0 255; in NVFP4's E4M3 0x7f, and any with
 * the sign set), or an element that is infinite as f32. Every other byte is a legal value of its field: nothing in a block is an address or
 * an index beyond a table, so products with such blocks give NaN or infinities but never read outside.
 *
 * @param blocks (…, n) of a block type, in host memory.
 * @param first_bad the first such block, counted in row-major order of the blocks; −1 if there is none. May be NULL. Untouched unless the
 *        status is TENON_OK or tells of a block.
 * @return TENON_OK; INVALID_ARGUMENT for such a block, with its number and what it holds, or for `blocks` itself; UNSUPPORTED for memory
 * of a device; BUSY.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_blocks_check(tenon_context *ctx, const tenon_tensor *blocks, int64_t *first_bad);

#ifdef __cplusplus
}
#endif
#endif
