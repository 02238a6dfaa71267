/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an operation is once its descriptor has been checked and its defaults filled in: plain
 * numbers, no addresses. This is what backends see, what a plan keeps, and, compared byte for byte
 * (so every constructor starts with memset 0), the key of the plan cache.
 *
 * Addresses travel apart, in an array indexed by the operand's role; the address of an absent
 * operand is NULL. All strides count elements; a stride of 0 repeats. The core validates, backends
 * assume: every combination that reaches a backend is legal, lengths and tables included.
 */
#ifndef TN_PROBLEM_H
#define TN_PROBLEM_H

#include "core/message.h"

#include <tenon/tenon.h>

#include <string.h>

typedef enum tn_op {
    TN_OP_GEMM = 1,
    TN_OP_SOFTMAX = 2,
    TN_OP_ATTENTION = 3,
    TN_OP_MERGE = 4,
    TN_OP_APPEND = 5,
    /* problem: tn_gemm_problem; addresses: B, its scale and zero, and TN_GEMM_B_PACKED as output */
    TN_OP_GEMM_PACK = 6,
    TN_OP_QUANTIZE = 7,
    TN_OP_DEQUANTIZE = 8 /* both: problem tn_quantize_problem */
} tn_op;

/* Most operands of any operation. */
#define TN_MAX_ADDRESSES 20

/* ------------------------------------------------ GEMM (include/tenon/gemm.h has the formula) */

#define TN_GEMM_BATCH_RANK 6

typedef enum tn_gemm_role {
    TN_GEMM_A,
    TN_GEMM_B,
    TN_GEMM_C, /* with pointer arrays: the arrays of addresses */
    TN_GEMM_BIAS,
    TN_GEMM_RESIDUAL,
    TN_GEMM_A_SCALE,
    TN_GEMM_A_ZERO,
    TN_GEMM_B_SCALE,
    TN_GEMM_B_ZERO,
    TN_GEMM_C_SCALE,
    TN_GEMM_C_ZERO,
    TN_GEMM_OFFSETS,
    TN_GEMM_B_PACKED,
    TN_GEMM_ROLES
} tn_gemm_role;

typedef struct tn_gemm_operand {
    tenon_dtype dtype; /* TENON_DTYPE_NONE: absent */
    int32_t reserved;
    /*
     * a: i, p. b: p, j. others: i, j; scales and zeros of a and b step once per group along p.
     *
     * b of a block type (ops/blocks.h): k is a multiple of the block's elements, row is 1 (unless
     * k or n is 0), column and batch are multiples of the block's elements of either sign (0 where
     * b repeats, and where there is one column). The block of element p of column j is number
     * (batch + column·j) / elements + p / elements, counted from b's address: tn_block_at. a is
     * f32, f16 or bf16 then, and accumulate f32.
     */
    int64_t row, column;
    int64_t batch[TN_GEMM_BATCH_RANK]; /* per batch dimension, or [0] = per expert when grouped */
} tn_gemm_operand;

typedef struct tn_gemm_problem {
    int64_t m, n, k; /* n: columns of C; B, b_scale, b_zero and bias have 2n columns when gated */
    int64_t
        batch_count; /* product of batch extents; 1 when grouped; array_count with pointer arrays */
    /* extents, outermost first, adjacent ones merged where all operands allow */
    int64_t batch[TN_GEMM_BATCH_RANK];
    int32_t batch_rank;
    /* 1: a, b, c addresses are arrays of batch_count addresses (bias … then repeat for each
     * member) */
    int32_t pointer_array;
    int64_t experts; /* > 0: grouped */
    tn_gemm_operand operand
        [TN_GEMM_ROLES]; /* OFFSETS: dtype and row stride. B_PACKED: dtype TENON_U8 if given */
    int64_t group[TN_GEMM_ROLES]; /* A_SCALE, A_ZERO, B_SCALE, B_ZERO: p per group (≥ 1) */
    double alpha, beta, clamp_low, clamp_high;
    int64_t packed_bytes; /* of B_PACKED */
    tenon_activation activation;
    tenon_gated gated;
    /*
     * With b of blocks DEFAULT is as EXACT: b decoded, a as it is. FAST may round each row of a, 32
     * consecutive p at a time counted from 0, to int8 with an f32 scale: s = max|a| / 127,
     * q = a / s to nearest even (docs/NUMERICS.md, 3.8).
     */
    tenon_compute compute;
    /* TENON_F64, TENON_F32, or TENON_S32 (both inputs integers: exact sums, wrapping never: see
     * docs/NUMERICS.md) */
    tenon_dtype accumulate;
} tn_gemm_problem;

/* Element offset of batch member `index` (row-major over `batch`) for one operand. */
static inline int64_t tn_gemm_batch_offset(const tn_gemm_problem *p, const tn_gemm_operand *x,
                                           int64_t index) {
    int64_t offset = 0;
    for (int32_t d = p->batch_rank - 1; d >= 0; --d) {
        offset += index % p->batch[d] * x->batch[d];
        index /= p->batch[d];
    }
    return offset;
}

/* What of a product a packed B was made for, beside its extents: part of every device's header of
 * packed B. */
typedef struct tn_gemm_packed_for {
    int32_t gated;              /* tenon_gated */
    int32_t b, b_scale, b_zero; /* tenon_dtype; TENON_DTYPE_NONE: absent */
} tn_gemm_packed_for;

tn_gemm_packed_for tn_gemm_packed_for_of(const tn_gemm_problem *p);

/* INVALID_ARGUMENT with the first field that differs. `found` may hold anything. */
tenon_status tn_gemm_packed_for_check(const tn_gemm_packed_for *found,
                                      const tn_gemm_packed_for *expected, tn_message *why);

/* ------------------------------------------------ softmax (include/tenon/softmax.h) */

#define TN_UNLIMITED INT64_MAX

typedef enum tn_softmax_role {
    TN_SOFTMAX_X,
    TN_SOFTMAX_Y,
    TN_SOFTMAX_BIAS,
    TN_SOFTMAX_MASK,
    TN_SOFTMAX_ALIBI,
    TN_SOFTMAX_SINKS,
    TN_SOFTMAX_LSE,
    TN_SOFTMAX_ROLES
} tn_softmax_role;

typedef struct tn_softmax_operand {
    tenon_dtype dtype;
    int32_t reserved;
    int64_t row[TENON_MAX_RANK - 1]; /* stride per row dimension */
    int64_t step;                    /* stride along the axis (0 for alibi, sinks, lse) */
} tn_softmax_operand;

/* A row is one line along the axis; rows are indexed row-major over extent[0 … rank-1]. */
typedef struct tn_softmax_problem {
    int64_t length; /* along the axis */
    int64_t rows;   /* product of extents */
    int64_t extent[TENON_MAX_RANK - 1];
    int32_t rank;
    /* which row dimension counts queries; -1: no positions (then left = right = TN_UNLIMITED and no
     * alibi) */
    int32_t query_dim;
    tn_softmax_operand operand[TN_SOFTMAX_ROLES];
    double scale, softcap; /* softcap 0: none */
    int64_t offset;        /* position of query i is i + offset */
    /* element j is kept iff p - left <= j <= p + right; TN_UNLIMITED: no limit; causal is
     * right = 0. May be negative on neither side */
    int64_t left, right;
    int32_t log;
    tenon_dtype accumulate; /* TENON_F64 if x or y is f64, else TENON_F32 */
} tn_softmax_problem;

/* ------------------------------------------------ attention (include/tenon/attention.h) */

typedef enum tn_attention_role {
    TN_ATTENTION_Q,
    TN_ATTENTION_K,
    TN_ATTENTION_V,
    TN_ATTENTION_O,
    TN_ATTENTION_BIAS,
    TN_ATTENTION_MASK,  /* stride: batch, head, query, key */
    TN_ATTENTION_ALIBI, /* stride: batch, head */
    TN_ATTENTION_SINKS, /* stride: (0, head) */
    TN_ATTENTION_KEY_LENGTHS,
    TN_ATTENTION_QUERY_OFFSETS,
    TN_ATTENTION_CU_Q,
    TN_ATTENTION_CU_K,        /* stride: batch */
    TN_ATTENTION_BLOCK_TABLE, /* stride: batch, block */
    TN_ATTENTION_K_SCALE,
    TN_ATTENTION_V_SCALE, /* stride: as k's first three dimensions */
    TN_ATTENTION_LSE,     /* stride: batch, head, query */
    TN_ATTENTION_ROLES
} tn_attention_role;

typedef struct tn_attention_operand {
    tenon_dtype dtype;
    int32_t reserved;
    int64_t stride[4];
} tn_attention_operand;

typedef struct tn_attention_problem {
    int64_t batch; /* sequences */
    int64_t heads, kv_heads;
    int64_t queries; /* of each sequence; with cu_seqlens_q: of all together */
    /* capacity of each sequence (paged: max_blocks·block_size); with cu_seqlens_k: of all
     * together */
    int64_t keys;
    /* key extent that bias and mask cover; lengths beyond it are refused unless their key stride is
     * 0 */
    int64_t mask_keys;
    int64_t d, dv;
    int64_t blocks, block_size, max_blocks; /* paged: block_size > 0 */
    tn_attention_operand operand[TN_ATTENTION_ROLES];
    double scale, softcap;
    int64_t left, right; /* as in softmax */
    /* 1: position of query i is i + keys − queries of the sequence; 0: i; query_offsets
     * overrides */
    int32_t align_bottom;
    tenon_compute compute;
    tenon_dtype accumulate; /* TENON_F64 if q, k, v or o is f64, else TENON_F32 */
    int32_t reserved;
} tn_attention_problem;

/* One sequence of a batch, with all raggedness resolved. */
typedef struct tn_attention_sequence {
    /* its queries are rows q_start … of batch entry q_batch of q, o, lse (bias and mask: row
     * q_start + i too) */
    int64_t q_batch, q_start, queries;
    /* not paged: its keys are rows k_start … of batch entry k_batch of k, v */
    int64_t k_batch, k_start, keys;
    int64_t offset; /* position of query i is i + offset */
} tn_attention_sequence;

/* Reads lengths from host addresses. Bias, mask and alibi use batch index q_batch for bias/mask (0
 * when ragged) and b for alibi, lengths, tables. */
void tn_attention_sequence_get(const tn_attention_problem *p, void *const *addresses, int64_t b,
                               tn_attention_sequence *out);

/* Row (in units of k's batch·head·row strides) of key j: fills batch/block index and row index for
 * strides [0] and [2]. */
void tn_attention_key_row(const tn_attention_problem *p, void *const *addresses,
                          const tn_attention_sequence *s, int64_t b, int64_t j, int64_t *outer,
                          int64_t *row);

/* ---------------------------------------------------------------- merge */

#define TN_MERGE_MAX_PARTS 64

/* Addresses: [0] o, [1] lse, [2] array of count o addresses, [3] array of count lse addresses. */
enum { TN_MERGE_O, TN_MERGE_LSE, TN_MERGE_O_PARTS, TN_MERGE_LSE_PARTS };

typedef struct tn_merge_operand {
    tenon_dtype dtype;
    int32_t reserved;
    int64_t row[TENON_MAX_RANK - 1];
    int64_t step; /* along dv; 0 for lse */
} tn_merge_operand;

typedef struct tn_merge_problem {
    int64_t count, rows, dv;
    int64_t extent[TENON_MAX_RANK - 1]; /* row dimensions */
    int32_t rank;
    int32_t reserved;
    tn_merge_operand o, lse;
    tn_merge_operand o_part[TN_MERGE_MAX_PARTS], lse_part[TN_MERGE_MAX_PARTS];
} tn_merge_problem;

/* Element offset of row `index`, row-major over `extent`, with strides `row`. */
static inline int64_t tn_row_start(int32_t rank, const int64_t *extent, const int64_t *row,
                                   int64_t index) {
    int64_t start = 0;
    for (int32_t d = rank - 1; d >= 0; --d) {
        start += index % extent[d] * row[d];
        index /= extent[d];
    }
    return start;
}

static inline int64_t tn_merge_row_start(const tn_merge_problem *p, const tn_merge_operand *x,
                                         int64_t index) {
    return tn_row_start(p->rank, p->extent, x->row, index);
}

/* ------------------------------------------------ blocks (include/tenon/quantize.h) */

typedef enum tn_quantize_role { TN_QUANTIZE_X, TN_QUANTIZE_Y, TN_QUANTIZE_ROLES } tn_quantize_role;

/* Rows of n elements; the operand of blocks has step 1, row strides of whole blocks, and n is a
 * multiple of its block. */
typedef struct tn_quantize_problem {
    int64_t rows, n;
    int64_t extent[TENON_MAX_RANK - 1]; /* row dimensions */
    int32_t rank;
    int32_t reserved;
    tn_merge_operand operand[TN_QUANTIZE_ROLES];
} tn_quantize_problem;

typedef tn_quantize_problem tn_dequantize_problem;

/* Element offset of row `index` (row-major over `extent`) in one operand. */
static inline int64_t tn_quantize_row_start(const tn_quantize_problem *p, const tn_merge_operand *x,
                                            int64_t index) {
    return tn_row_start(p->rank, p->extent, x->row, index);
}

/* ---------------------------------------------------------------- append */

typedef enum tn_append_role {
    TN_APPEND_K,
    TN_APPEND_V,
    TN_APPEND_K_CACHE,
    TN_APPEND_V_CACHE, /* stride: 4 dimensions */
    TN_APPEND_POSITIONS,
    TN_APPEND_CU,          /* stride: batch */
    TN_APPEND_BLOCK_TABLE, /* stride: batch, block */
    TN_APPEND_K_SCALE,
    TN_APPEND_V_SCALE, /* stride: as the cache's first three dimensions */
    TN_APPEND_ROLES
} tn_append_role;

typedef struct tn_append_problem {
    int64_t batch, kv_heads, rows; /* rows of each sequence, or of all together with cu_seqlens */
    int64_t capacity;              /* rows a sequence's cache can hold */
    int64_t d, dv;
    int64_t blocks, block_size, max_blocks;
    tn_attention_operand operand[TN_APPEND_ROLES];
} tn_append_problem;

#endif
