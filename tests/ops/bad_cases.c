/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cases, one line each: what every field of every operation's descriptor may not be. What is common to all tensors (addresses,
 * types, ranks, extents, strides, overlap) is generated in test_bad_input.c; here is what is particular. And the lists of fields.
 */
#include "bad_input.h"

#include <math.h>

/* A field set to a value that has static storage, so that the table is constant. */
#define SET(type, member, ...)                                                                     \
    {                                                                                              \
        offsetof(type, member), sizeof(((type *)0)->member),                                       \
            &(const __typeof__(((type *)0)->member)) {                                             \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define G(member, ...) SET(tenon_gemm_desc, member, __VA_ARGS__)
#define S(member, ...) SET(tenon_softmax_desc, member, __VA_ARGS__)
#define A(member, ...) SET(tenon_attention_desc, member, __VA_ARGS__)
#define M(member, ...) SET(tenon_attention_merge_desc, member, __VA_ARGS__)
#define K(member, ...) SET(tenon_kv_append_desc, member, __VA_ARGS__)
#define Q(member, ...) SET(tenon_quantize_desc, member, __VA_ARGS__)
#define ABSENT .data = NULL
#define ODD_ADDRESS ((void *)(intptr_t)0x10001)

#define INVALID TENON_ERROR_INVALID_ARGUMENT

static const double not_a_number = NAN, infinite = INFINITY, zero = 0, minus_one = -1;
static const int32_t four = 4, minus_five = -5, second = 1;
static const tenon_tensor absent_parts[2];
static _Alignas(64) unsigned char scratch[4096];

const bad_case bad_cases[] = {
    /* ---- gemm */
    {"epilogue", "struct_size", "4", INVALID, {G(struct_size, 4)}},
    {"epilogue", "struct_size", "1000000", INVALID, {G(struct_size, 1000000)}},
    {"epilogue", "alpha", "nan", INVALID, {G(alpha, &not_a_number)}},
    {"epilogue", "alpha", "inf", INVALID, {G(alpha, &infinite)}},
    {"epilogue", "", "", TENON_OK, {G(alpha, &zero)}},
    {"epilogue", "beta", "nan", INVALID, {G(beta, NAN)}},
    {"gated", "beta", "2", INVALID, {G(beta, 2)}},
    {"epilogue", "activation", "8", INVALID, {G(activation, (tenon_activation)8)}},
    {"epilogue", "activation", "-1", INVALID, {G(activation, (tenon_activation)-1)}},
    {"epilogue", "gated", "3", INVALID, {G(gated, (tenon_gated)3)}},
    {"epilogue", "clamp_low", "2", INVALID, {G(clamp_low, 2)}},
    {"epilogue", "clamp_low", "nan", INVALID, {G(clamp_low, NAN)}},
    {"epilogue", "clamp_high", "-2", INVALID, {G(clamp_high, -2)}},
    {"epilogue", "clamp_high", "nan", INVALID, {G(clamp_high, NAN)}},
    {"gated", "clamp_high", "1", INVALID, {G(clamp_high, 1)}},
    {"epilogue", "compute", "3", INVALID, {G(compute, (tenon_compute)3)}},
    {"epilogue", "a_scale", "3", INVALID, {G(a_scale.shape[1], 3)}}, /* k = 4 has no 3 groups */
    {"epilogue", "b_zero", "3", INVALID, {G(b_zero.shape[0], 3)}},
    /* A vector beside a: rows or groups? Beside b, where it can only be columns, it is legal. */
    {"epilogue",
     "a_scale.shape is (2,), expected (m, 1)",
     "one a row, (1, groups)",
     INVALID,
     {G(a_scale.rank, 1), G(a_scale.shape[0], 2)}},
    {"epilogue", "a_scale", "(3,)", INVALID, {G(a_scale.rank, 1)}},
    {"epilogue",
     "a_zero.shape is (4,), expected (m, 1)",
     "one a row, (1, groups)",
     INVALID,
     {G(a_zero.rank, 1), G(a_zero.shape[0], 4)}},
    {"epilogue", "", "", TENON_OK, {G(a_scale.rank, 1), G(a_scale.shape[0], 1)}},
    {"epilogue", "", "", TENON_OK, {G(a_zero.rank, 0)}},
    {"epilogue",
     "",
     "",
     TENON_OK,
     {G(b_scale.rank, 1), G(b_scale.shape[0], 5), G(b_scale.stride[0], 1)}},
    {"epilogue", "c.dtype", "s32", INVALID, {G(c.dtype, TENON_S32)}},
    {"grouped", "c_scale", "s8", INVALID, {G(c.dtype, TENON_S8)}},
    {"epilogue", "c_scale", "absent", INVALID, {G(c_scale, ABSENT)}},
    {"gated", "b.shape[1]", "9", INVALID, {G(b.shape[1], 9)}},
    {"grouped", "group_offsets", "2", INVALID, {G(array_count, 2)}},
    {"grouped", "group_offsets[1]", "-1", INVALID, .poke = "group_offsets", .element = 1,
     .value = -1},
    {"grouped", "group_offsets[0]", "1", INVALID, .poke = "group_offsets", .element = 0,
     .value = 1},
    {"grouped", "group_offsets[2]", "1", INVALID, .poke = "group_offsets", .element = 2,
     .value = 1},
    {"grouped", "group_offsets[3]", "7", INVALID, .poke = "group_offsets", .element = 3,
     .value = 7},
    {"grouped", "", "", TENON_OK, .poke = "group_offsets", .element = 3, .value = 6},
    {"arrays", "a_array", "NULL", INVALID, {G(a_array, NULL)}},
    {"arrays", "b_array", "NULL", INVALID, {G(b_array, NULL)}},
    {"arrays", "c_array", "NULL", INVALID, {G(c_array, NULL)}},
    {"arrays", "array_count", "-1", INVALID, {G(array_count, -1)}},
    {"arrays", "a.data", "0x10001", INVALID, {G(a.data, ODD_ADDRESS)}},
    {"arrays", "b.data", "0x10001", INVALID, {G(b.data, ODD_ADDRESS)}},
    {"arrays", "c.data", "0x10001", INVALID, {G(c.data, ODD_ADDRESS)}},
    {"arrays", "a.offset", "4", INVALID, {G(a.offset, 4)}},
    {"arrays", "c.offset", "8", INVALID, {G(c.offset, 8)}},
    {"arrays", "b_packed", "", INVALID, {G(b_packed, scratch), G(b_packed_bytes, 64)}},
    {"epilogue", "b_packed", "0x10001", INVALID, {G(b_packed, ODD_ADDRESS), G(b_packed_bytes, 64)}},
    {"epilogue", "b_packed_bytes", "0", INVALID, {G(b_packed, scratch)}},
    {"epilogue", "b_packed", "NULL", INVALID, {G(b_packed_bytes, 64)}},
    {"epilogue",
     "workspace.memory",
     "0x10001",
     INVALID,
     {G(workspace.memory, ODD_ADDRESS), G(workspace.bytes, 4096)}},
    {"epilogue",
     "",
     "",
     TENON_OK,
     {G(workspace.memory, scratch), G(workspace.bytes, sizeof scratch)}},
    {"epilogue", "", "", TENON_OK, {G(workspace.bytes, 1 << 20)}},

    /* ---- softmax */
    {"softmax", "struct_size", "7", INVALID, {S(struct_size, 7)}},
    {"softmax", "axis", "4", INVALID, {S(axis, &four)}},
    {"softmax", "axis", "-5", INVALID, {S(axis, &minus_five)}},
    {"softmax", "sinks", "1", INVALID, {S(axis, &second)}},
    {"axis", "causal", "1", INVALID, {S(causal, TENON_CAUSAL_TOP_LEFT)}},
    {"axis", "window", "1", INVALID, {S(window, .enabled = 1)}},
    {"softmax", "scale", "nan", INVALID, {S(scale, &not_a_number)}},
    {"softmax", "", "", TENON_OK, {S(scale, &minus_one)}},
    {"softmax", "causal", "3", INVALID, {S(causal, (tenon_causal)3)}},
    {"softmax", "window.enabled", "2", INVALID, {S(window.enabled, 2)}},
    {"softmax", "window.reserved", "1", INVALID, {S(window.reserved, 1)}},
    {"softmax", "window.left", "is 3", INVALID, {S(window.enabled, 0)}},
    {"softmax", "window.right", "is -1", INVALID, {S(window, .left = 0, .right = -1)}},
    {"axis", "window.right", "is 1", INVALID, {S(window, .right = 1)}},
    {"softmax", "", "", TENON_OK, {S(window, .enabled = 0)}},
    {"softmax", "", "", TENON_OK, {S(window.left, INT64_MAX)}},
    {"softmax", "", "", TENON_OK, {S(window.right, INT64_MAX)}},
    {"softmax", "", "", TENON_OK, {S(window.left, -7)}},
    {"softmax", "softcap", "-1", INVALID, {S(softcap, -1)}},
    {"softmax", "softcap", "nan", INVALID, {S(softcap, NAN)}},
    {"softmax", "log", "2", INVALID, {S(log, 2)}},
    {"softmax", "reserved", "1", INVALID, {S(reserved, 1)}},
    {"softmax", "alibi", "(2, 5)", INVALID, {S(alibi.shape[1], 5)}},
    {"softmax",
     "workspace.memory",
     "0x10001",
     INVALID,
     {S(workspace.memory, ODD_ADDRESS), S(workspace.bytes, 4096)}},
    {"softmax", "", "", TENON_OK, {S(workspace.bytes, 1 << 20)}},

    /* ---- attention */
    {"paged", "struct_size", "1", INVALID, {A(struct_size, 1)}},
    {"paged", "scale", "inf", INVALID, {A(scale, &infinite)}},
    {"paged", "causal", "-1", INVALID, {A(causal, (tenon_causal)-1)}},
    {"paged", "reserved", "1", INVALID, {A(reserved, 1)}},
    {"paged", "window.enabled", "-1", INVALID, {A(window.enabled, -1)}},
    {"paged", "window.reserved", "1", INVALID, {A(window.reserved, 1)}},
    {"paged", "window.left", "is 3", INVALID, {A(window.enabled, 0)}},
    {"ragged", "window.right", "is 2", INVALID, {A(window, .right = 2)}},
    {"paged", "", "", TENON_OK, {A(window, .enabled = 0)}},
    {"paged", "", "", TENON_OK, {A(window.left, INT64_MAX)}},
    {"paged", "", "", TENON_OK, {A(window.right, INT64_MAX)}},
    {"paged", "softcap", "-0.5", INVALID, {A(softcap, -0.5)}},
    {"paged", "compute", "7", INVALID, {A(compute, (tenon_compute)7)}},
    {"paged", "reserved2", "1", INVALID, {A(reserved2, 1)}},
    {"paged", "k.shape[1]", "3", INVALID, {A(k.shape[1], 3), A(v.shape[1], 3)}}, /* 4 heads */
    {"paged", "k.shape[1]", "0", INVALID, {A(k.shape[1], 0), A(v.shape[1], 0)}},
    {"paged",
     "k.shape[2]",
     "0",
     INVALID,
     {A(k.shape[2], 0), A(v.shape[2], 0)}}, /* the block size */
    {"paged", "q.shape[3]", "577", INVALID, {A(q.shape[3], 577)}},
    {"paged", "q.shape[3]", "0", INVALID, {A(q.shape[3], 0)}},
    {"paged", "key_lengths", "absent", INVALID, {A(key_lengths, ABSENT)}},
    {"paged", "key_lengths[1]", "13", INVALID, .poke = "key_lengths", .element = 1, .value = 13},
    {"paged", "key_lengths[0]", "-1", INVALID, .poke = "key_lengths", .element = 0, .value = -1},
    {"paged", "block_table[0, 2]", "-1", INVALID, .poke = "key_lengths", .element = 0, .value = 9},
    {"paged", "block_table[1, 1]", "6", INVALID, .poke = "block_table", .element = 4, .value = 6},
    {"paged", "block_table[0, 0]", "-2147483648", INVALID, .poke = "block_table", .element = 0,
     .value = INT32_MIN},
    {"paged", "", "", TENON_OK, .poke = "block_table", .element = 2,
     .value = 12345}, /* no length covers it */
    {"paged", "query_offsets[1]", "9223372036854775807", INVALID, .poke = "query_offsets",
     .element = 1, .value = INT64_MAX},
    {"paged", "query_offsets[0]", "-9223372036854775807", INVALID, .poke = "query_offsets",
     .element = 0, .value = -INT64_MAX},
    {"paged",
     "key_lengths[1]",
     "12",
     INVALID,
     {A(mask.shape[3], 11)}}, /* longer than what the mask covers */
    {"paged", "", "", TENON_OK, {A(mask.shape[3], 1)}},
    {"paged",
     "block_table",
     "2",
     INVALID,
     {A(cu_seqlens_k, .data = scratch, .dtype = TENON_S32, .rank = 1, .shape = {4})}},
    {"ragged", "cu_seqlens_q[1]", "-1", INVALID, .poke = "cu_seqlens_q", .element = 1, .value = -1},
    {"ragged", "cu_seqlens_q[2]", "6", INVALID, .poke = "cu_seqlens_q", .element = 2, .value = 6},
    {"ragged", "cu_seqlens_k[0]", "1", INVALID, .poke = "cu_seqlens_k", .element = 0, .value = 1},
    {"ragged", "cu_seqlens_k[2]", "10", INVALID, .poke = "cu_seqlens_k", .element = 2, .value = 10},
    {"ragged", "cu_seqlens_k[1]", "7", INVALID, .poke = "cu_seqlens_k", .element = 1,
     .value = 7}, /* the mask covers 6 */
    {"ragged", "cu_seqlens_q.shape[0]", "0", INVALID, {A(cu_seqlens_q.shape[0], 0)}},
    {"ragged",
     "key_lengths",
     "1",
     INVALID,
     {A(key_lengths, .data = scratch, .dtype = TENON_S32, .rank = 1, .shape = {2})}},
    {"paged",
     "workspace.memory",
     "0x10001",
     INVALID,
     {A(workspace.memory, ODD_ADDRESS), A(workspace.bytes, 4096)}},
    {"paged", "workspace.bytes", "1", TENON_ERROR_OVER_BUDGET, {A(workspace.bytes, 1)}},

    /* ---- merge */
    {"merge", "struct_size", "3", INVALID, {M(struct_size, 3)}},
    {"merge", "count", "-1", INVALID, {M(count, -1)}},
    {"merge", "count", "65", INVALID, {M(count, 65)}},
    {"merge", "", "", TENON_OK, {M(count, 0), M(o_parts, NULL), M(lse_parts, NULL)}},
    {"merge", "o_parts", "NULL", INVALID, {M(o_parts, NULL)}},
    {"merge", "lse_parts", "NULL", INVALID, {M(lse_parts, NULL)}},
    {"merge", "o_parts[0]", "absent", INVALID, {M(o_parts, absent_parts)}},
    {"merge",
     "workspace.memory",
     "0x10001",
     INVALID,
     {M(workspace.memory, ODD_ADDRESS), M(workspace.bytes, 4096)}},
    {"merge", "", "", TENON_OK, {M(workspace.bytes, 1 << 20)}},
    {"merge", "workspace.bytes", "is 0", INVALID, {M(workspace.memory, scratch)}},

    /* ---- append */
    {"append", "struct_size", "2", INVALID, {K(struct_size, 2)}},
    {"append", "v", "absent", INVALID, {K(v, ABSENT)}},
    {"append", "v_cache", "absent", INVALID, {K(v_cache, ABSENT)}},
    {"append", "positions", "absent", INVALID, {K(positions, ABSENT)}},
    {"append", "positions[0]", "-1", INVALID, .poke = "positions", .element = 0, .value = -1},
    {"append", "positions[1]", "10", INVALID, .poke = "positions", .element = 1, .value = 10},
    {"append", "positions[1]", "2147483647", INVALID, .poke = "positions", .element = 1,
     .value = INT32_MAX},
    {"append", "block_table[0, 2]", "-1", INVALID, .poke = "positions", .element = 0, .value = 7},
    {"append", "block_table[1, 2]", "6", INVALID, .poke = "block_table", .element = 5, .value = 6},
    {"append", "", "", TENON_OK, .poke = "block_table", .element = 3,
     .value = 77}, /* no new row goes there */
    /* Row 3 of block 5 for both sequences; but row 0 of block 1 beside rows 1 to 3 of it is legal. */
    {"append", "block_table[1, 2]", "block_table[0, 0]", INVALID, .poke = "block_table",
     .element = 5, .value = 5},
    {"append", "", "", TENON_OK, .poke = "block_table", .element = 5, .value = 1},
    {"append", "cu_seqlens[2]", "6", INVALID, .poke = "cu_seqlens", .element = 2, .value = 6},
    {"append", "cu_seqlens[1]", "-3", INVALID, .poke = "cu_seqlens", .element = 1, .value = -3},
    {"append", "k_cache.shape[2]", "0", INVALID, {K(k_cache.shape[2], 0), K(v_cache.shape[2], 0)}},
    {"contiguous", "positions[1]", "16", INVALID, .poke = "positions", .element = 1, .value = 16},
    {"append",
     "workspace.memory",
     "0x10001",
     INVALID,
     {K(workspace.memory, ODD_ADDRESS), K(workspace.bytes, 4096)}},
    {"append", "", "", TENON_OK, {K(workspace.bytes, 1 << 20)}},
    {"append", "workspace.bytes", "is 0", INVALID, {K(workspace.memory, scratch)}},

    /* ---- blocks: in b along k, whole, beside a of 16 or 32 bits */
    {"blocks", "a.dtype", "s8", INVALID, {G(a.dtype, TENON_S8)}},
    {"blocks", "a.dtype", "f64", INVALID, {G(a.dtype, TENON_F64)}},
    {"blocks", "a.dtype", "f8_e4m3", INVALID, {G(a.dtype, TENON_F8_E4M3)}},
    {"blocks", "", "", TENON_OK, {G(a.dtype, TENON_BF16)}},
    {"blocks", "b.shape[0]", "48", INVALID, {G(a.shape[1], 48), G(b.shape[0], 48)}},
    {"blocks", "b.shape[0]", "64", INVALID, {G(b.dtype, TENON_Q4_K)}},
    {"blocks", "b.stride[1]", "48", INVALID, {G(b.stride[1], 48)}},
    {"blocks", "b.stride[0]", "2", INVALID, {G(b.stride[0], 2)}},
    {"blocks",
     "b.stride[0]",
     "expected 1",
     INVALID,
     {G(b.stride[0], 32), G(b.stride[1], 1), G(b.shape[1], 32)}},
    {"blocks", "", "", TENON_OK, {G(b.stride[1], 0)}}, /* one column for all */
    {"blocks", "", "", TENON_OK, {G(b.shape[1], 1), G(c.shape[1], 1), G(b.stride[1], 7)}},
    {"blocks", "", "", TENON_OK, {G(b.dtype, TENON_MXFP4)}},
    {"blocks", "c.dtype", "s32", INVALID, {G(c.dtype, TENON_S32)}},
    {"blocks_kv", "", "", TENON_OK, {A(k.dtype, TENON_IQ4_NL), A(v.dtype, TENON_MXFP4)}},
    {"blocks_kv", "k.dtype", "q4_k", INVALID, {A(k.dtype, TENON_Q4_K)}},
    {"blocks_kv", "v.dtype", "nvfp4", INVALID, {A(v.dtype, TENON_NVFP4)}},
    {"blocks_kv", "q.dtype", "q8_0", INVALID, {A(q.dtype, TENON_Q8_0)}},
    {"blocks_kv", "k.shape[3]", "48", INVALID, {A(q.shape[3], 48), A(k.shape[3], 48)}},
    {"blocks_kv", "v.shape[3]", "31", INVALID, {A(v.shape[3], 31), A(o.shape[3], 31)}},
    {"blocks_kv", "k.stride[2]", "72", INVALID, {A(k.stride[2], 72)}},
    {"blocks_kv",
     "k.shape[2]",
     "9",
     INVALID,
     {A(k.stride[3], 32), A(k.stride[2], 1)}},            /* blocks along the keys */
    {"blocks_kv", "", "", TENON_OK, {A(k.stride[2], 0)}}, /* the same key throughout */
    {"blocks_cache", "", "", TENON_OK, {K(k_cache.dtype, TENON_Q5_1)}},
    {"blocks_cache", "k.dtype", "q8_0", INVALID, {K(k.dtype, TENON_Q8_0)}},
    {"blocks_cache", "k_cache.dtype", "q6_k", INVALID, {K(k_cache.dtype, TENON_Q6_K)}},
    {"blocks_cache",
     "k_cache.shape[3]",
     "40",
     INVALID,
     {K(k.shape[3], 40), K(k_cache.shape[3], 40)}},
    {"blocks_cache", "positions[0]", "7", INVALID, .poke = "positions", .element = 0, .value = 7},
    {"quantize", "struct_size", "3", INVALID, {Q(struct_size, 3)}},
    {"quantize", "x.dtype", "f64", INVALID, {Q(x.dtype, TENON_F64)}},
    {"quantize", "x.dtype", "q8_0", INVALID, {Q(x.dtype, TENON_Q8_0)}},
    {"quantize", "y.dtype", "bf16", INVALID, {Q(y.dtype, TENON_BF16)}},
    {"quantize", "y.shape", "(2, 3, 32)", INVALID, {Q(y.shape[2], 32)}},
    {"quantize", "y.shape[2]", "48", INVALID, {Q(x.shape[2], 48), Q(y.shape[2], 48)}},
    {"quantize", "y.stride[0]", "192", INVALID, {Q(y.dtype, TENON_Q4_K)}},
    {"quantize", "y.stride[1]", "70", INVALID, {Q(y.stride[1], 70)}},
    {"quantize", "y.stride", "(192, 64, 64)", INVALID, {Q(y.stride[2], 64)}},
    {"quantize", "y.stride[0]", "-192", INVALID, {Q(y.stride[0], -192)}},
    {"quantize", "y.stride", "(64, 64, 1)", INVALID, {Q(y.stride[0], 64)}},
    {"quantize", "", "", TENON_OK, {Q(x.stride[2], 2), Q(x.stride[1], 0)}},
    {"quantize", "", "", TENON_OK, {Q(y.dtype, TENON_NVFP4)}},
    {"quantize",
     "workspace.memory",
     "0x10001",
     INVALID,
     {Q(workspace.memory, ODD_ADDRESS), Q(workspace.bytes, 4096)}},
    {"dequantize", "struct_size", "1", INVALID, {Q(struct_size, 1)}},
    {"dequantize",
     "workspace.memory",
     "0x10001",
     INVALID,
     {Q(workspace.memory, ODD_ADDRESS), Q(workspace.bytes, 4096)}},
    {"dequantize", "x.dtype", "f32", INVALID, {Q(x.dtype, TENON_F32)}},
    {"dequantize", "y.dtype", "q6_k", INVALID, {Q(y.dtype, TENON_Q6_K)}},
    {"dequantize", "y.dtype", "s8", INVALID, {Q(y.dtype, TENON_S8)}},
    {"dequantize", "x.shape[1]", "128", INVALID, {Q(x.shape[1], 128), Q(y.shape[1], 128)}},
    {"dequantize", "y.stride[1]", "0", INVALID, {Q(y.stride[1], 0)}},
    {"dequantize", "", "", TENON_OK, {Q(x.stride[0], -256), Q(x.offset, 2 * 210)}},
    {"dequantize", "", "", TENON_OK, {Q(x.dtype, TENON_Q4_0)}},
};
const int bad_case_count = sizeof bad_cases / sizeof bad_cases[0];

/* Legal, and something else than was planned. */
const bad_case other_cases[] = {
    {"epilogue", "alpha", "is 1, expected 0.5 as planned", INVALID, {G(alpha, NULL)}},
    {"epilogue", "beta", "is 2, expected 0 as planned", INVALID, {G(beta, 2)}},
    {"epilogue", "clamp_high", "is 3, expected 1 as planned", INVALID, {G(clamp_high, 3)}},
    {"epilogue", "a_zero.dtype", "is none, expected f32 as planned", INVALID, {G(a_zero, ABSENT)}},
    {"epilogue", "b.dtype", "is bf16, expected f16 as planned", INVALID, {G(b.dtype, TENON_BF16)}},
    {"epilogue", "a.stride (row)", "is 5, expected 4 as planned", INVALID, {G(a.stride[1], 5)}},
    {"grouped",
     "a.shape (m)",
     "is 5, expected 6 as planned",
     INVALID,
     {G(a.shape[0], 5), G(c.shape[0], 5)}},
    {"gated", "gated", "is 2, expected 1 as planned", INVALID, {G(gated, TENON_GATED_INTERLEAVED)}},
    {"gated", "compute", "is 1, expected 0 as planned", INVALID, {G(compute, TENON_COMPUTE_EXACT)}},
    {"arrays",
     "array_count (members)",
     "is 1, expected 2 as planned",
     INVALID,
     {G(array_count, 1)}},
    {"softmax", "scale", "is 1, expected 2 as planned", INVALID, {S(scale, NULL)}},
    {"softmax",
     "window.left",
     "is unlimited, expected 3 as planned",
     INVALID,
     {S(window.left, -1)}},
    {"softmax", "y.dtype", "is bf16, expected f32 as planned", INVALID, {S(y.dtype, TENON_BF16)}},
    {"axis",
     "x.shape (without axis)",
     "is 1, expected 2 as planned",
     INVALID,
     {S(x.shape[0], 1), S(y.shape[0], 1)}},
    {"axis", "x.stride (axis)", "is 2, expected 4 as planned", INVALID, {S(x.stride[1], 2)}},
    {"paged", "softcap", "is 0, expected 5 as planned", INVALID, {A(softcap, 0)}},
    {"paged",
     "window.right",
     "is 2, expected 0 as planned",
     INVALID,
     {A(causal, TENON_CAUSAL_NONE)}},
    {"paged",
     "k.stride (dimension 2)",
     "is 9, expected 8 as planned",
     INVALID,
     {A(k.stride[2], 9)}},
    {"ragged", "v.dtype", "is f16, expected f32 as planned", INVALID, {A(v.dtype, TENON_F16)}},
};
const int other_case_count = sizeof other_cases / sizeof other_cases[0];

/* ---------------------------------------------------------------- fields */

#define FIELD(type, member)                                                                        \
    { #member, offsetof(type, member), sizeof(((type *)0)->member) }
#define PADDING(type, after, next)                                                                 \
    {                                                                                              \
        "", offsetof(type, after) + sizeof(((type *)0)->after),                                    \
            offsetof(type, next) - offsetof(type, after) - sizeof(((type *)0)->after)              \
    }
#define TENSOR(type, member)                                                                       \
    FIELD(type, member.data), FIELD(type, member.buffer), FIELD(type, member.offset),              \
        FIELD(type, member.dtype), FIELD(type, member.rank), FIELD(type, member.shape),            \
        FIELD(type, member.stride)
#define WINDOW(type, member)                                                                       \
    FIELD(type, member.enabled), FIELD(type, member.reserved), FIELD(type, member.left),           \
        FIELD(type, member.right)
#define WORKSPACE(type) FIELD(type, workspace.memory), FIELD(type, workspace.bytes)

#define T tenon_gemm_desc
static const field gemm_fields[] = {FIELD(T, struct_size),
                                    TENSOR(T, a),
                                    TENSOR(T, b),
                                    TENSOR(T, c),
                                    FIELD(T, alpha),
                                    FIELD(T, beta),
                                    TENSOR(T, bias),
                                    TENSOR(T, residual),
                                    FIELD(T, activation),
                                    FIELD(T, gated),
                                    FIELD(T, clamp_low),
                                    FIELD(T, clamp_high),
                                    TENSOR(T, a_scale),
                                    TENSOR(T, a_zero),
                                    TENSOR(T, b_scale),
                                    TENSOR(T, b_zero),
                                    TENSOR(T, c_scale),
                                    TENSOR(T, c_zero),
                                    TENSOR(T, group_offsets),
                                    FIELD(T, a_array),
                                    FIELD(T, b_array),
                                    FIELD(T, c_array),
                                    FIELD(T, array_count),
                                    FIELD(T, b_packed),
                                    FIELD(T, b_packed_bytes),
                                    FIELD(T, compute),
                                    PADDING(T, compute, workspace),
                                    WORKSPACE(T)};
#undef T
#define T tenon_softmax_desc
static const field softmax_fields[] = {
    FIELD(T, struct_size), TENSOR(T, x),     TENSOR(T, y),
    FIELD(T, axis),        FIELD(T, scale),  TENSOR(T, bias),
    TENSOR(T, mask),       FIELD(T, causal), PADDING(T, causal, window),
    WINDOW(T, window),     TENSOR(T, alibi), FIELD(T, softcap),
    TENSOR(T, sinks),      FIELD(T, log),    FIELD(T, reserved),
    TENSOR(T, lse),        WORKSPACE(T)};
#undef T
#define T tenon_attention_desc
static const field attention_fields[] = {FIELD(T, struct_size),
                                         TENSOR(T, q),
                                         TENSOR(T, k),
                                         TENSOR(T, v),
                                         TENSOR(T, o),
                                         FIELD(T, scale),
                                         FIELD(T, causal),
                                         FIELD(T, reserved),
                                         WINDOW(T, window),
                                         TENSOR(T, bias),
                                         TENSOR(T, mask),
                                         TENSOR(T, alibi),
                                         FIELD(T, softcap),
                                         TENSOR(T, sinks),
                                         TENSOR(T, key_lengths),
                                         TENSOR(T, query_offsets),
                                         TENSOR(T, cu_seqlens_q),
                                         TENSOR(T, cu_seqlens_k),
                                         TENSOR(T, block_table),
                                         TENSOR(T, k_scale),
                                         TENSOR(T, v_scale),
                                         TENSOR(T, lse),
                                         FIELD(T, compute),
                                         FIELD(T, reserved2),
                                         WORKSPACE(T)};
#undef T
#define T tenon_attention_merge_desc
static const field merge_fields[] = {FIELD(T, struct_size), FIELD(T, o_parts), FIELD(T, lse_parts),
                                     FIELD(T, count),       TENSOR(T, o),      TENSOR(T, lse),
                                     WORKSPACE(T)};
#undef T
#define T tenon_kv_append_desc
static const field append_fields[] = {
    FIELD(T, struct_size), TENSOR(T, k),         TENSOR(T, v),          TENSOR(T, k_cache),
    TENSOR(T, v_cache),    TENSOR(T, positions), TENSOR(T, cu_seqlens), TENSOR(T, block_table),
    TENSOR(T, k_scale),    TENSOR(T, v_scale),   WORKSPACE(T)};
#undef T
#define T tenon_quantize_desc
static const field quantize_fields[] = {FIELD(T, struct_size), TENSOR(T, x), TENSOR(T, y),
                                        WORKSPACE(T)};
#undef T
#define T tenon_context_desc
static const field context_list[] = {
    FIELD(T, struct_size),      FIELD(T, device),
    FIELD(T, threads),          FIELD(T, flags),
    FIELD(T, parallel.user),    FIELD(T, parallel.threads),
    FIELD(T, parallel.run),     FIELD(T, pool),
    FIELD(T, memory_budget),    FIELD(T, allocator.user),
    FIELD(T, allocator.alloc),  FIELD(T, allocator.free),
    FIELD(T, logger.user),      FIELD(T, logger.log),
    FIELD(T, log_level),        PADDING(T, log_level, native_context),
    FIELD(T, native_context),   FIELD(T, native_queue),
    FIELD(T, plan_cache_bytes), FIELD(T, kernel_cache_path)};
#undef T
#define T tenon_pool_desc
static const field pool_list[] = {FIELD(T, struct_size),
                                  FIELD(T, device),
                                  FIELD(T, budget),
                                  FIELD(T, segment_bytes),
                                  FIELD(T, flags),
                                  PADDING(T, flags, allocator),
                                  FIELD(T, allocator.user),
                                  FIELD(T, allocator.alloc),
                                  FIELD(T, allocator.free),
                                  FIELD(T, logger.user),
                                  FIELD(T, logger.log),
                                  FIELD(T, log_level),
                                  {"", offsetof(T, log_level) + sizeof(tenon_log_level),
                                   sizeof(T) - offsetof(T, log_level) - sizeof(tenon_log_level)}};
#undef T

#define LIST(fields, type)                                                                         \
    { fields, sizeof fields / sizeof fields[0], sizeof(type) }
const field_list op_fields[OP_KINDS] = {
    [OP_GEMM] = LIST(gemm_fields, tenon_gemm_desc),
    [OP_SOFTMAX] = LIST(softmax_fields, tenon_softmax_desc),
    [OP_ATTENTION] = LIST(attention_fields, tenon_attention_desc),
    [OP_MERGE] = LIST(merge_fields, tenon_attention_merge_desc),
    [OP_APPEND] = LIST(append_fields, tenon_kv_append_desc),
    [OP_QUANTIZE] = LIST(quantize_fields, tenon_quantize_desc),
    [OP_DEQUANTIZE] = LIST(quantize_fields, tenon_quantize_desc),
};
const field_list context_fields = LIST(context_list, tenon_context_desc),
                 pool_fields = LIST(pool_list, tenon_pool_desc);
