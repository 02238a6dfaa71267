/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/attention.h: scaled dot product attention without the queries × keys matrix, key-value caches, merging of parts.
 *
 *     s[i,j] = softcap(scale · q[i]·k[j]) + alibi + bias[i,j]          for every key j that query i may see
 *     o[i]   = Σ_j softmax(s[i])[j] · v[j]            lse[i] = log Σ_j exp(s[i,j])  (+ the sink's exp)
 *
 * (Vaswani et al., 2017, section 3.2.1; one pass over blocks of keys: Milakov and Gimelshein, 2018; Dao et al., 2022.)
 * A query that may see nothing gives o = 0 and lse = −inf (with a sink: lse = sink). Keys and values under a mask, beyond a length or with
 * a bias of −inf take no part at all: NaN there does not spread. A query's bits do not depend on how many others there are.
 */
#ifndef TENON_ATTENTION_H
#define TENON_ATTENTION_H

#include <tenon/softmax.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * One attention.
 *
 * Dimensions come in this order whatever the layout in memory (use strides for (batch, length, heads, d) or packed QKV):
 *
 *     q (batch, heads, queries, d)      k (batch, kv_heads, keys, d)      v (batch, kv_heads, keys, dv)      o (batch, heads, queries, dv)
 *
 * heads is a multiple of kv_heads: query head h reads kv head h / (heads / kv_heads). d and dv are 1 to 576 and may differ; k's and v's
 * memory may overlap (MLA). o and lse overlap nothing.
 *
 * Ragged: with cu_seqlens_q = (0, n₀, n₀+n₁, …) the queries of all sequences lie one after the other: q is (1, heads, total, d), o and lse
 * likewise; with cu_seqlens_k the same for k and v. Paged: with block_table, k is (blocks, kv_heads, block_size, d), v (blocks, kv_heads,
 * block_size, dv), and key j of sequence b is row j mod block_size of block block_table[b, j / block_size].
 *
 * Types: q, k, v, o each f64 f32 f16 bf16, in any mix (k, v also f8_e4m3, f8_e5m2, s8, mostly with scales, and the types whose blocks are
 * of 32: q8_0 q4_0 q4_1 q5_0 q5_1 iq4_nl mxfp4, blocks along d and dv); sums in f32 (f64 if any of them is f64). With k or v of blocks the
 * result has the bits that it has with their elements as f32 (tenon_dequantize); on the CPU and the reference device.
 */
typedef struct tenon_attention_desc {
    size_t struct_size;
    tenon_tensor q, k, v, o;
    const double *scale;        /**< NULL: 1/√d */
    tenon_causal causal;
    int32_t reserved;
    tenon_window window;
    tenon_tensor bias;          /**< added; broadcasts to (batch, heads, queries, keys); f64 f32 f16 bf16. −inf masks. Ragged: (1, heads,
                                     total, keys), key index within the sequence */
    tenon_tensor mask;          /**< bool, true = keep; as bias */
    tenon_tensor alibi;         /**< slopes of either sign, f64 f32 f16 bf16, (heads) or (batch, heads): adds −slope·|p − j| */
    double softcap;             /**< > 0: s → softcap·tanh(s/softcap) */
    tenon_tensor sinks;         /**< (heads): one extra logit in the denominator only */
    tenon_tensor key_lengths;   /**< (batch) of s32 or s64: keys in use of each sequence, ≤ keys; needed with block_table, not with
                                     cu_seqlens_k */
    tenon_tensor query_offsets; /**< (batch) of s32 or s64: position of each sequence's first query; overrides the alignment of `causal` */
    tenon_tensor cu_seqlens_q;  /**< (batch + 1) of s32 or s64, ascending from 0 to at most total */
    tenon_tensor cu_seqlens_k;  /**< (batch + 1) of s32 or s64 */
    tenon_tensor block_table;   /**< (batch, max_blocks) of s32 or s64; entries that a length covers lie in [0, blocks) */
    tenon_tensor k_scale;       /**< K' = k_scale·K: one value, (kv_heads), or broadcastable to (k.shape[0], kv_heads, k.shape[2]) */
    tenon_tensor v_scale;
    tenon_tensor lse;           /**< out, optional: (batch, heads, queries), f32 or f64, natural log */
    tenon_compute compute;      /**< what rounding is allowed */
    int32_t reserved2;
    tenon_workspace workspace;
} tenon_attention_desc;

/** Computes; statuses as tenon_gemm. Lengths and block tables are checked against the tensors before anything is written. */
TENON_API TENON_MUST_CHECK tenon_status tenon_attention(tenon_context *ctx, const tenon_attention_desc *desc);
/** Plans; see tenon_gemm_plan. Lengths and tables are data: one plan serves every step of a decode loop. */
TENON_API TENON_MUST_CHECK tenon_status tenon_attention_plan(tenon_context *ctx, const tenon_attention_desc *desc, tenon_plan **out);
/** Runs; see tenon_gemm_run. */
TENON_API TENON_MUST_CHECK tenon_status tenon_attention_run(tenon_context *ctx, const tenon_plan *plan, const tenon_attention_desc *desc);

/**
 * Joins attentions of the same queries over disjoint sets of keys (shared prefixes, cascades, rings):
 *
 *     lse = log Σ_i exp(lse_i)        o = Σ_i exp(lse_i − lse) · o_i          in index order
 *
 * Parts with lse_i = −inf take no part. Each o_parts[i] has o's shape (…, dv), each lse_parts[i] that without the last dimension. lse (out)
 * is optional. o may be o_parts[0], and lse lse_parts[0], each with the same type and strides; otherwise outputs overlap nothing.
 */
typedef struct tenon_attention_merge_desc {
    size_t struct_size;
    const tenon_tensor *o_parts;   /**< count tensors: f64 f32 f16 bf16 */
    const tenon_tensor *lse_parts; /**< count tensors: f32 or f64 */
    int64_t count;                 /**< 0 to 64; 0 gives o = 0, lse = −inf */
    tenon_tensor o;
    tenon_tensor lse;
    tenon_workspace workspace;
} tenon_attention_merge_desc;

/** Computes; statuses as tenon_gemm. */
TENON_API TENON_MUST_CHECK tenon_status tenon_attention_merge(tenon_context *ctx, const tenon_attention_merge_desc *desc);

/**
 * Writes new rows into a key-value cache, converting types (values outside an 8-bit type's range saturate):
 *
 *     cache[b, h, positions[b] + t] = x[b, h, t] / scale          contiguous: cache (batch, kv_heads, capacity, d)
 *     cache[table[b, p / block_size], h, p mod block_size] = …    paged: cache (blocks, kv_heads, block_size, d), p = positions[b] + t
 *
 * A cache of blocks (the types of tenon_attention) gets the blocks that tenon_quantize makes of x / scale rounded to f32.
 *
 * Rows that would leave the cache, or two rows for one place of it, are an error and nothing is written.
 */
typedef struct tenon_kv_append_desc {
    size_t struct_size;
    tenon_tensor k, v;             /**< new rows (batch, kv_heads, t, d) and (batch, kv_heads, t, dv), or ragged (1, kv_heads, total, …)
                                        with cu_seqlens; v may be absent */
    tenon_tensor k_cache, v_cache; /**< v_cache absent if and only if v is */
    tenon_tensor positions;        /**< (batch) of s32 or s64: where each sequence's first new row goes */
    tenon_tensor cu_seqlens;       /**< optional, (batch + 1) of s32 or s64 */
    tenon_tensor block_table;      /**< optional, (batch, max_blocks) of s32 or s64 */
    tenon_tensor k_scale, v_scale; /**< as in attention; K' = k_scale · stored */
    tenon_workspace workspace;
} tenon_kv_append_desc;

/** Appends; statuses as tenon_gemm. */
TENON_API TENON_MUST_CHECK tenon_status tenon_kv_append(tenon_context *ctx, const tenon_kv_append_desc *desc);

#ifdef __cplusplus
}
#endif
#endif
