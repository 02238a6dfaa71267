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

/** How a checkpoint stores integers with a scale and a zero point for each group of k. */
typedef enum tenon_group_layout {
    TENON_GROUPS_GPTQ = 0,    /**< as AutoGPTQ: qweight (k·bits/32, n), the lowest bits first; zero points are stored less one */
    TENON_GROUPS_GPTQ_V2 = 1, /**< the same with zero points as they are */
    TENON_GROUPS_AWQ = 2      /**< as AutoAWQ: qweight (k, n·bits/32) of 4 bits, of 8 columns 0 2 4 6 1 3 5 7 from the lowest bits up */
} tenon_group_layout;

/**
 * Weights W (k, n) of GPTQ (Frantar et al., 2023) or AWQ (Lin et al., 2024):
 *
 *     W[p, j] = scales[g, j] · (q[p, j] − z[g, j])      g = group_index[p], or p / (k / groups)
 *
 * become blocks y (n, k) for use as B, tenon_transposed(y), of products: y[j, i] = W[order[i], j], order ascending within each group and
 * the groups one after the other; without group_index that is y[j, i] = W[i, j]. Rows that were quantised out of order (act-order,
 * desc_act) are so brought together, and A's columns have to follow: A'[·, i] = A[·, order[i]].
 *
 * Exact for scales that f16 holds (others are rounded to it) but for one rounding to f16 of scale · z in q4_1. All memory is the host's.
 */
typedef struct tenon_groups_desc {
    size_t struct_size;
    tenon_group_layout layout;
    int32_t bits;             /**< 4, or 8 (GPTQ) */
    tenon_tensor qweight;     /**< s32, as the layout says */
    tenon_tensor qzeros;      /**< s32 (groups, n·bits/32), packed along n as qweight is in AWQ, for GPTQ lowest bits first */
    tenon_tensor scales;      /**< f16, bf16 or f32 (groups, n) */
    tenon_tensor group_index; /**< optional: s32 or s64 (k); each group has a multiple of 32 rows */
    tenon_tensor y;           /**< out: (n, k). 4 bits: q4_0 if every zero point is 8, else q4_1. 8 bits: q8_0, every zero point 128 */
    tenon_tensor order;       /**< out, with group_index and only with it: s32 (k) */
} tenon_groups_desc;

/**
 * y = blocks of W, on the context's threads. INVALID_ARGUMENT names what does not fit (a zero point with its place, a group whose rows are
 * no multiple of 32, a scale beyond f16), and nothing is written; UNSUPPORTED for memory of a device; BUSY.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_blocks_from_groups(tenon_context *ctx, const tenon_groups_desc *desc);

#ifdef __cplusplus
}
#endif
#endif
