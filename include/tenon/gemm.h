/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/gemm.h: general matrix multiplication with everything that is usually done right after it.
 *
 *     z = alpha · Σ_p A'[i,p] · B'[p,j]  +  beta · C'[i,j]  +  bias[i,j]
 *     C = quantise( activation(z) (· z₂ if gated) + residual[i,j] )
 *
 *     A'[i,p] = a_scale[i, p / ga] · (A[i,p] − a_zero[i, p / ga])      B', C' likewise; each factor only if given
 *
 * for every member of the batch. Sums run over p in an order that depends on k alone: the same bits for any number of threads, any
 * m, n and batch. Rounding, NaN and bounds: docs/NUMERICS.md. A call with m = 0, n = 0 or an empty batch does nothing; with k = 0 the
 * sum is 0 and the rest still happens.
 */
#ifndef TENON_GEMM_H
#define TENON_GEMM_H

#include <tenon/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Applied to each element x of the sum. */
typedef enum tenon_activation {
    TENON_ACTIVATION_NONE = 0,
    TENON_ACTIVATION_RELU = 1,      /**< max(x, 0) */
    TENON_ACTIVATION_GELU = 2,      /**< x/2 · (1 + erf(x/√2)); Hendrycks and Gimpel, 2016 */
    TENON_ACTIVATION_GELU_TANH = 3, /**< x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))) */
    TENON_ACTIVATION_SILU = 4,      /**< x / (1 + exp(−x)) */
    TENON_ACTIVATION_SIGMOID = 5,   /**< 1 / (1 + exp(−x)) */
    TENON_ACTIVATION_TANH = 6,
    TENON_ACTIVATION_CLAMP = 7      /**< min(max(x, clamp_low), clamp_high) */
} tenon_activation;

/** How B's 2n columns pair up: C[:, j] = activation(z[:, j₁]) · z[:, j₂] (SwiGLU, GeGLU: Shazeer, 2020). */
typedef enum tenon_gated {
    TENON_GATED_NONE = 0,
    TENON_GATED_HALVES = 1,     /**< j₁ = j, j₂ = n + j */
    TENON_GATED_INTERLEAVED = 2 /**< j₁ = 2j, j₂ = 2j + 1 */
} tenon_gated;

/**
 * C (…, m, n) from A (…, m, k) and B (…, k, n). Leading dimensions are batch dimensions, broadcast against those of C as NumPy does.
 *
 * Types: a and b any of f64 f32 f16 bf16 f8_e4m3 f8_e5m2 s8 u8, mixed as you like; c any of f64
 * f32 f16 bf16 f8_e4m3 f8_e5m2 s32 (s32 with integers in a and b), and s8, u8 with c_scale. f64 in a or b computes in f64, two integers
 * give exact sums. bias, residual and scales: f64 f32 f16 bf16; zeros: also s8 u8 s32.
 *
 * b may also be of a block type (quantize.h): its blocks lie along k, whose stride is 1, that is, b is n rows of k transposed; k and the
 * other strides are multiples of the block's elements, and a is f32, f16 or bf16. TENON_COMPUTE_FAST may round rows of a to 8 bits then, 32
 * elements at a time (docs/NUMERICS.md, 3.8); other modes multiply with a as it is.
 *
 * c may be the same memory as residual with the same type and strides; it must not overlap anything else, nor itself. With pointer arrays
 * this holds for every member of c against all members (residual: only if there is one member). It is checked in every run: completely
 * where c_array ascends in memory or has at most 1024 members, else within each 1024 consecutive members. Where members' ranges interleave
 * (column slices of one matrix), each is compared with the next 1024 in memory.
 */
typedef struct tenon_gemm_desc {
    size_t struct_size;       /**< sizeof(tenon_gemm_desc), or 0 for the first release's */
    tenon_tensor a, b, c;
    const double *alpha;      /**< NULL: 1 */
    double beta;              /**< 0: c is not read. Not with gated */
    tenon_tensor bias;        /**< broadcasts to (…, m, n) (gated: (…, m, 2n)); grouped: (experts, 1, n) or (n). Absent: none */
    tenon_tensor residual;    /**< broadcasts to (…, m, n); added after the activation */
    tenon_activation activation;
    tenon_gated gated;
    double clamp_low, clamp_high; /**< for TENON_ACTIVATION_CLAMP only; low ≤ high */
    tenon_tensor a_scale;     /**< (…, m or 1, g): g = 1, or g groups of k/g consecutive p; g divides k. (m, 1) is one a row, (1, g) one a
                                     group. Of rank 1 or 0 only as one element: of a vector nobody could say which of the two it is */
    tenon_tensor a_zero;      /**< shape as a_scale may have */
    tenon_tensor b_scale;     /**< (…, g, n or 1), gated 2n for n; (n), as NumPy broadcasts it, is one a column */
    tenon_tensor b_zero;      /**< shape as b_scale may have */
    tenon_tensor c_scale;     /**< broadcasts to (…, m, n); stored is value / c_scale + c_zero, rounded to nearest even and saturated */
    tenon_tensor c_zero;
    tenon_tensor group_offsets; /**< grouped (mixture of experts): (experts + 1) of s32 or s64, ascending from 0 to at most m; a is (m, k),
                                     b (experts, k, n), c (m, n); rows offsets[e] to offsets[e+1] use b[e]; rows beyond the last offset
                                     are left untouched */
    const void *const *a_array; /**< pointer-array batch: array_count addresses that replace a's, b's and c's, read during the call; a, b, c
                                     are then matrices (rank 2) without data and offset */
    const void *const *b_array;
    void *const *c_array;
    int64_t array_count;
    const void *b_packed;     /**< B as tenon_gemm_pack wrote it, aligned to 64; see there what of b is read then. Not with arrays */
    size_t b_packed_bytes;    /**< at least what tenon_gemm_pack_size gave; b_packed counts as given if either is not 0 */
    tenon_compute compute;
    tenon_workspace workspace;
} tenon_gemm_desc;

/**
 * Computes the product: plan from the cache or made, then run.
 *
 * The descriptor and what it points to (operands, alpha, arrays) are used during the call only; on a device with a queue the operands
 * until tenon_sync.
 *
 * @return TENON_OK; INVALID_ARGUMENT; UNSUPPORTED (the message names the field that no device of the context serves); OUT_OF_MEMORY or
 * OVER_BUDGET (with no device and no algorithm left that could do with less); DEVICE_LOST; BUSY. Outputs are untouched unless it is
 * TENON_OK or DEVICE_LOST.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_gemm(tenon_context *ctx, const tenon_gemm_desc *desc);

/**
 * Plans a product; addresses are not needed and not looked at. *out, the caller's until tenon_plan_destroy, is NULL on failure. Statuses as
 * tenon_gemm; OUT_OF_MEMORY also where there is none for the plan itself.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_gemm_plan(tenon_context *ctx, const tenon_gemm_desc *desc, tenon_plan **out);

/**
 * Runs a plan with the addresses of `desc`. Everything else must be as it was planned: INVALID_ARGUMENT names the first field that
 * differs, what is given and what was planned.
 *
 * `ctx` may be any context of the plan's device: several may run one plan at once. Allocates nothing once a plan of this size has been
 * planned or run in `ctx`. Statuses as tenon_gemm.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_gemm_run(tenon_context *ctx, const tenon_plan *plan, const tenon_gemm_desc *desc);

/**
 * Bytes that tenon_gemm_pack will write. Of the descriptor these are read: b, b_scale and b_zero (type, shape, strides), whether there are
 * group_offsets, gated, compute, and a.dtype, the type that A will have (NONE: that of b), since it decides in what sums are kept.
 * Pointer arrays are refused.
 *
 * @return TENON_OK; INVALID_ARGUMENT; UNSUPPORTED (the context's first device packs no B of this type); BUSY. *bytes is untouched on
 * failure.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_gemm_pack_size(tenon_context *ctx, const tenon_gemm_desc *desc, size_t *bytes);

/**
 * Writes B in the layout that the kernels of the context's first device want. b_scale and b_zero are applied here or by the products,
 * whichever those kernels want. Reads what tenon_gemm_pack_size reads, and the data of b, b_scale and b_zero.
 *
 * The block may be given as b_packed to any number of products at once, from any context and thread of the process and version of tenon
 * that made it (it is no file format, but holds no addresses and may be moved), if the device that takes the product is of the same kind
 * and its kernels use panels of the same width, as those of one instruction set do. The products give type and shape of b again, with
 * strides of 0 where b repeats (other strides and the data are not read), and b_scale, b_zero and gated as they were here, whose data may
 * be read again. No later device of a chain takes such a product over.
 *
 * The block begins with a header of these facts with a checksum: a run that finds another device, width, type of sums, gated, extent of b
 * or type of b, b_scale and b_zero answers INVALID_ARGUMENT. What follows the header is not checked, nor that the values of b_scale and
 * b_zero are the same.
 *
 * @param packed `bytes` bytes (at least what tenon_gemm_pack_size gives), aligned to 64, apart from b and its companions; the caller's.
 * @return TENON_OK; INVALID_ARGUMENT; UNSUPPORTED as tenon_gemm_pack_size; BUSY.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_gemm_pack(tenon_context *ctx, const tenon_gemm_desc *desc, void *packed, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
