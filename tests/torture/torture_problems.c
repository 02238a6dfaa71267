/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture_problems.c: the table of jobs, see torture_jobs.h: between them they use every field of
 * every operation's descriptor (tests/torture/check_torture.py).
 */
#include <stdlib.h>
#include <string.h>

#include "guarded.h"
#include "rng.h"
#include "torture_jobs.h"

/* ---- operands ---- */

static rng numbers = {1};

static size_t elements_of(int32_t rank, const int64_t *shape) {
    size_t n = 1;
    for (int32_t i = 0; i < rank; ++i)
        n *= (size_t)shape[i];
    return n;
}

/* The upper bits of a binary16; exact for the values below. */
static uint16_t half_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (f == 0)
        return 0;
    return (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 23 & 0xff) - 112) << 10 |
                      (bits >> 13 & 0x3ff));
}

/* Writes `f`, a multiple of 1/8 between -1 and 1, as the i-th element. 8-bit types get bytes that
 * are small numbers of theirs. */
static void write_value(void *memory, tenon_dtype dtype, size_t i, float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    int eighths = (int)(8 * f);
    switch (dtype) {
    case TENON_F64:
        ((double *)memory)[i] = (double)f;
        break;
    case TENON_F32:
        ((float *)memory)[i] = f;
        break;
    case TENON_BF16:
        ((uint16_t *)memory)[i] = (uint16_t)(bits >> 16);
        break;
    case TENON_F16:
        ((uint16_t *)memory)[i] = half_of(f);
        break;
    case TENON_F8_E4M3:
    case TENON_F8_E5M2:
        ((uint8_t *)memory)[i] = (uint8_t)((eighths < 0 ? 0xb0 : 0x30) + abs(eighths));
        break;
    case TENON_S32:
        ((int32_t *)memory)[i] = eighths;
        break;
    case TENON_BOOL:
        ((uint8_t *)memory)[i] = eighths % 3 != 0;
        break;
    default:
        ((uint8_t *)memory)[i] = (uint8_t)(dtype == TENON_U8 ? eighths + 8 : eighths);
    }
}

static size_t bytes_of(tenon_dtype dtype, size_t n) {
    int64_t elements = 1;
    size_t bytes = 0;
    if (tenon_dtype_block(dtype, &elements, &bytes) != TENON_OK)
        abort();
    return n / (size_t)elements * bytes;
}

static void *memory_for(tenon_dtype dtype, size_t n) {
    return guard_alloc(bytes_of(dtype, n), 64, true);
}

static void *values(tenon_dtype dtype, size_t n) {
    void *memory = memory_for(dtype, n);
    if (dtype >= TENON_Q8_0) { /* bytes below 64 make no f16 scale that is not finite */
        for (size_t i = 0; i < bytes_of(dtype, n); ++i)
            ((uint8_t *)memory)[i] = (uint8_t)rng_below(&numbers, 64);
        return memory;
    }
    for (size_t i = 0; i < n; ++i)
        write_value(memory, dtype, i, (float)rng_between(&numbers, -8, 8) / 8);
    return memory;
}

static tenon_tensor in4(tenon_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
    int64_t shape[] = {a, b, c, d};
    return tenon_dense(values(dtype, elements_of(4, shape)), dtype, 4, shape);
}

static tenon_tensor in2(tenon_dtype dtype, int64_t a, int64_t b) {
    int64_t shape[] = {a, b};
    return tenon_dense(values(dtype, elements_of(2, shape)), dtype, 2, shape);
}

/* The same value everywhere: factors, which must not be zero, and slopes. */
static tenon_tensor all2(tenon_dtype dtype, float f, int64_t a, int64_t b) {
    int64_t shape[] = {a, b};
    size_t n = elements_of(2, shape);
    void *memory = memory_for(dtype, n);
    for (size_t i = 0; i < n; ++i)
        write_value(memory, dtype, i, f);
    return tenon_dense(memory, dtype, 2, shape);
}

static tenon_tensor all1(tenon_dtype dtype, float f, int64_t a) {
    return tenon_vector(all2(dtype, f, a, 1).data, dtype, a);
}

static tenon_tensor indices(const int32_t *from, int64_t a, int64_t b) {
    int64_t shape[] = {a, b};
    size_t n = elements_of(2, shape);
    int32_t *memory = guard_alloc(n * sizeof *memory, 64, true);
    memcpy(memory, from, n * sizeof *memory);
    return b == 1 ? tenon_vector(memory, TENON_S32, a) : tenon_dense(memory, TENON_S32, 2, shape);
}

/* An output of the job. */
static tenon_tensor out_of(job *j, tenon_dtype dtype, int32_t rank, const int64_t *shape) {
    job_output *out = &j->output[j->outputs++];
    out->bytes = bytes_of(dtype, elements_of(rank, shape));
    out->memory = guard_alloc(out->bytes, 64, true);
    return tenon_dense(out->memory, dtype, rank, shape);
}

static tenon_tensor out2(job *j, tenon_dtype dtype, int64_t a, int64_t b) {
    int64_t shape[] = {a, b};
    return out_of(j, dtype, 2, shape);
}

static tenon_tensor out3(job *j, tenon_dtype dtype, int64_t a, int64_t b, int64_t c) {
    int64_t shape[] = {a, b, c};
    return out_of(j, dtype, 3, shape);
}

static tenon_tensor out4(job *j, tenon_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
    int64_t shape[] = {a, b, c, d};
    return out_of(j, dtype, 4, shape);
}

/* ---- the problems ---- */

static void gemm_f32(job *j) {
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_F32, 9, 300);
    j->gemm.b = in2(TENON_F32, 300, 41);
    j->gemm.c = out2(j, TENON_F32, 9, 41);
}

static void gemm_row(job *j) {
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_F32, 1, 200);
    j->gemm.b = tenon_transposed(in2(TENON_F32, 300, 200));
    j->gemm.c = out2(j, TENON_F32, 1, 300);
}

/* Blocks of k are shared out. */
static void gemm_long(job *j) {
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_F32, 12, 5000);
    j->gemm.b = in2(TENON_F32, 5000, 20);
    j->gemm.c = out2(j, TENON_F32, 12, 20);
    j->gemm.beta = 0.5;
}

static void gemm_bf16_epilogue(job *j) {
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_BF16, 20, 96);
    j->gemm.b = tenon_transposed(in2(TENON_BF16, 72, 96));
    j->gemm.c = out2(j, TENON_F32, 20, 72);
    j->gemm.bias = tenon_vector(values(TENON_F32, 72), TENON_F32, 72);
    j->gemm.residual = in2(TENON_F32, 20, 72);
    j->gemm.activation = TENON_ACTIVATION_GELU;
}

static void gemm_s8(job *j) {
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_S8, 33, 128);
    j->gemm.b = in2(TENON_S8, 128, 65);
    j->gemm.c = out2(j, TENON_S32, 33, 65);
}

static void gemm_f64_batch(job *j) {
    int64_t a[] = {3, 20, 50}, c[] = {3, 20, 30};
    j->op = JOB_GEMM;
    j->gemm.a = tenon_dense(values(TENON_F64, elements_of(3, a)), TENON_F64, 3, a);
    j->gemm.b = in2(TENON_F64, 50, 30);
    j->gemm.c = out_of(j, TENON_F64, 3, c);
}

static void gemm_quantised(job *j) {
    static const double alpha = 0.5;
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_U8, 12, 64);
    j->gemm.b = in2(TENON_S8, 64, 40);
    j->gemm.c = out2(j, TENON_S8, 12, 40);
    j->gemm.alpha = &alpha;
    j->gemm.a_scale = all2(TENON_F32, 0.25f, 12, 2);
    j->gemm.a_zero = in2(TENON_U8, 12, 2);
    j->gemm.b_scale = all2(TENON_F32, 0.5f, 4, 40);
    j->gemm.b_zero = in2(TENON_S8, 4, 40);
    j->gemm.c_scale = all2(TENON_F32, 0.125f, 1, 40);
    j->gemm.c_zero = in2(TENON_S32, 1, 40);
    j->gemm.activation = TENON_ACTIVATION_CLAMP;
    j->gemm.clamp_low = -3;
    j->gemm.clamp_high = 4;
}

static void gemm_fp8(job *j) {
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_F8_E4M3, 17, 80);
    j->gemm.b = in2(TENON_F8_E5M2, 80, 33);
    j->gemm.c = out2(j, TENON_F8_E4M3, 17, 33);
    j->gemm.compute = TENON_COMPUTE_EXACT;
}

/* Weights in blocks: decoded, and with rows rounded to int8. */
static void gemm_blocks(job *j) {
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_F32, 5, 512);
    j->gemm.b = tenon_transposed(in2(TENON_Q4_K, 70, 512));
    j->gemm.c = out2(j, TENON_F32, 5, 70);
}

static void gemm_blocks_fast(job *j) {
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_BF16, 37, 256);
    j->gemm.b = tenon_transposed(in2(TENON_Q8_0, 70, 256));
    j->gemm.c = out2(j, TENON_F32, 37, 70);
    j->gemm.compute = TENON_COMPUTE_FAST;
}

static void gemm_gated(job *j) {
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_F16, 10, 70);
    j->gemm.b = in2(TENON_F16, 70, 2 * 24);
    j->gemm.c = out2(j, TENON_F16, 10, 24);
    j->gemm.bias = tenon_vector(values(TENON_F32, 2 * 24), TENON_F32, 2 * 24);
    j->gemm.gated = TENON_GATED_HALVES;
    j->gemm.activation = TENON_ACTIVATION_SILU;
}

/* Four experts, one without rows, and a last row that is nobody's. */
static void gemm_grouped(job *j) {
    static const int32_t offsets[] = {0, 5, 5, 11, 15};
    int64_t experts[] = {4, 48, 32};
    j->op = JOB_GEMM;
    j->gemm.a = in2(TENON_F32, 16, 48);
    j->gemm.b = tenon_dense(values(TENON_F32, elements_of(3, experts)), TENON_F32, 3, experts);
    j->gemm.c = out2(j, TENON_F32, 16, 32);
    j->gemm.group_offsets = indices(offsets, 5, 1);
}

/* C is an input too: the pattern that outputs are filled with. */
static void gemm_arrays(job *j) {
    j->op = JOB_GEMM;
    j->gemm.a = tenon_matrix(NULL, TENON_F32, 7, 40);
    j->gemm.b = tenon_matrix(NULL, TENON_F32, 40, 26);
    j->gemm.c = tenon_matrix(NULL, TENON_F32, 7, 26);
    j->gemm.beta = 0.25;
    for (int i = 0; i < JOB_MEMBERS; ++i) {
        j->a_array[i] = values(TENON_F32, 7 * 40);
        j->b_array[i] = values(TENON_F32, 40 * 26);
        j->c_array[i] = out2(j, TENON_F32, 7, 26).data;
    }
    j->gemm.a_array = j->a_array;
    j->gemm.b_array = j->b_array;
    j->gemm.c_array = j->c_array;
    j->gemm.array_count = JOB_MEMBERS;
}

/* The fields j->gemm.b_packed and j->gemm.b_packed_bytes are job_pack's. */
static void gemm_packed(job *j) {
    gemm_f32(j);
    j->packs = true;
}

static void softmax_rows(job *j) {
    j->op = JOB_SOFTMAX;
    j->softmax.x = in2(TENON_F32, 17, 300);
    j->softmax.y = out2(j, TENON_F32, 17, 300);
    int64_t rows[] = {17};
    j->softmax.lse = out_of(j, TENON_F32, 1, rows);
}

static void softmax_columns(job *j) {
    static const int32_t axis = 0;
    j->op = JOB_SOFTMAX;
    j->softmax.x = in2(TENON_BF16, 300, 41);
    j->softmax.y = out2(j, TENON_BF16, 300, 41);
    j->softmax.axis = &axis;
}

static void softmax_scores(job *j) {
    static const double scale = 0.5;
    int64_t shape[] = {2, 3, 8, 40}, bias[] = {8, 40}, mask[] = {3, 1, 40}, rows[] = {2, 3, 8};
    j->op = JOB_SOFTMAX;
    j->softmax.x = in4(TENON_F16, 2, 3, 8, 40);
    j->softmax.y = out_of(j, TENON_F32, 4, shape);
    j->softmax.scale = &scale;
    j->softmax.bias = tenon_dense(values(TENON_F16, elements_of(2, bias)), TENON_F16, 2, bias);
    j->softmax.mask = tenon_dense(values(TENON_BOOL, elements_of(3, mask)), TENON_BOOL, 3, mask);
    j->softmax.causal = TENON_CAUSAL_BOTTOM_RIGHT;
    j->softmax.window = (tenon_window){.enabled = 1, .left = 20, .right = 2};
    j->softmax.alibi = all2(TENON_F32, 0.125f, 2, 3);
    j->softmax.softcap = 5;
    j->softmax.sinks = tenon_vector(values(TENON_F32, 3), TENON_F32, 3);
    j->softmax.log = 1;
    j->softmax.lse = out_of(j, TENON_F32, 3, rows);
}

static void attention_prefill(job *j) {
    j->op = JOB_ATTENTION;
    j->attention.q = in4(TENON_F32, 1, 2, 20, 32);
    j->attention.k = in4(TENON_F32, 1, 1, 70, 32);
    j->attention.v = in4(TENON_F32, 1, 1, 70, 32);
    j->attention.o = out4(j, TENON_F32, 1, 2, 20, 32);
    j->attention.lse = out3(j, TENON_F32, 1, 2, 20);
    j->attention.causal = TENON_CAUSAL_BOTTOM_RIGHT;
}

static void attention_decode(job *j) {
    j->op = JOB_ATTENTION;
    j->attention.q = in4(TENON_F32, 1, 2, 1, 64);
    j->attention.k = in4(TENON_F32, 1, 1, 600, 64);
    j->attention.v = in4(TENON_F32, 1, 1, 600, 64);
    j->attention.o = out4(j, TENON_F32, 1, 2, 1, 64);
}

static void attention_paged(job *j) {
    static const int32_t lengths[] = {37, 5}, table[] = {3, 0, 2, 1, 4, 4};
    j->op = JOB_ATTENTION;
    j->attention.q = in4(TENON_BF16, 2, 4, 1, 32);
    j->attention.k = in4(TENON_BF16, 5, 2, 16, 32);
    j->attention.v = in4(TENON_BF16, 5, 2, 16, 32);
    j->attention.o = out4(j, TENON_BF16, 2, 4, 1, 32);
    j->attention.key_lengths = indices(lengths, 2, 1);
    j->attention.block_table = indices(table, 2, 3);
}

static void attention_ragged(job *j) {
    static const int32_t queries[] = {0, 3, 12}, keys[] = {0, 30, 52};
    int64_t bias[] = {1, 4, 12, 30};
    j->op = JOB_ATTENTION;
    j->attention.q = in4(TENON_F32, 1, 4, 12, 24);
    j->attention.k = in4(TENON_F32, 1, 2, 52, 24);
    j->attention.v = in4(TENON_F32, 1, 2, 52, 16);
    j->attention.o = out4(j, TENON_F32, 1, 4, 12, 16);
    j->attention.cu_seqlens_q = indices(queries, 3, 1);
    j->attention.cu_seqlens_k = indices(keys, 3, 1);
    j->attention.bias = tenon_dense(values(TENON_F32, elements_of(4, bias)), TENON_F32, 4, bias);
    j->attention.causal = TENON_CAUSAL_BOTTOM_RIGHT;
}

static void attention_scores(job *j) {
    static const double scale = 0.25;
    static const int32_t lengths[] = {40, 11}, offsets[] = {30, 4};
    j->op = JOB_ATTENTION;
    j->attention.q = in4(TENON_F16, 2, 4, 5, 32);
    j->attention.k = in4(TENON_F16, 2, 2, 40, 32);
    j->attention.v = in4(TENON_F16, 2, 2, 40, 32);
    j->attention.o = out4(j, TENON_F32, 2, 4, 5, 32);
    j->attention.lse = out3(j, TENON_F32, 2, 4, 5);
    j->attention.scale = &scale;
    j->attention.causal = TENON_CAUSAL_TOP_LEFT;
    j->attention.window = (tenon_window){.enabled = 1, .left = 16, .right = 0};
    j->attention.mask = in4(TENON_BOOL, 1, 4, 5, 40);
    j->attention.alibi = all1(TENON_F32, 0.125f, 4);
    j->attention.softcap = 4;
    j->attention.sinks = tenon_vector(values(TENON_F32, 4), TENON_F32, 4);
    j->attention.key_lengths = indices(lengths, 2, 1);
    j->attention.query_offsets = indices(offsets, 2, 1);
}

static void attention_quantised(job *j) {
    j->op = JOB_ATTENTION;
    j->attention.q = in4(TENON_F32, 1, 4, 3, 32);
    j->attention.k = in4(TENON_S8, 1, 2, 45, 32);
    j->attention.v = in4(TENON_F8_E4M3, 1, 2, 45, 32);
    j->attention.o = out4(j, TENON_F32, 1, 4, 3, 32);
    j->attention.k_scale = all1(TENON_F32, 0.125f, 2);
    j->attention.v_scale = all1(TENON_F32, 0.5f, 1);
    j->attention.compute = TENON_COMPUTE_EXACT;
}

/* Keys and values in blocks: decoded into room of the workspace, or of the stack. */
static void attention_blocks(job *j) {
    static const int32_t lengths[] = {300, 211};
    j->op = JOB_ATTENTION;
    j->attention.q = in4(TENON_F32, 2, 4, 1, 64);
    j->attention.k = in4(TENON_Q8_0, 2, 2, 300, 64);
    j->attention.v = in4(TENON_Q4_0, 2, 2, 300, 32);
    j->attention.o = out4(j, TENON_F32, 2, 4, 1, 32);
    j->attention.key_lengths = indices(lengths, 2, 1);
}

static void merge_three(job *j) {
    j->op = JOB_MERGE;
    for (int i = 0; i < JOB_MEMBERS; ++i) {
        int64_t shape[] = {1, 4, 9};
        j->o_parts[i] = in4(TENON_F32, 1, 4, 9, 32);
        j->lse_parts[i] =
            tenon_dense(values(TENON_F32, elements_of(3, shape)), TENON_F32, 3, shape);
    }
    j->merge.o_parts = j->o_parts;
    j->merge.lse_parts = j->lse_parts;
    j->merge.count = JOB_MEMBERS;
    j->merge.o = out4(j, TENON_F32, 1, 4, 9, 32);
    j->merge.lse = out3(j, TENON_F32, 1, 4, 9);
}

static void append_rows(job *j) {
    static const int32_t positions[] = {7, 20};
    j->op = JOB_APPEND;
    j->append.k = in4(TENON_F32, 2, 2, 3, 16);
    j->append.v = in4(TENON_F32, 2, 2, 3, 16);
    j->append.k_cache = out4(j, TENON_BF16, 2, 2, 32, 16);
    j->append.v_cache = out4(j, TENON_BF16, 2, 2, 32, 16);
    j->append.positions = indices(positions, 2, 1);
}

static void append_paged(job *j) {
    static const int32_t positions[] = {7, 0}, rows[] = {0, 2, 5}, table[] = {3, 0, 2, 1, 4, 4};
    j->op = JOB_APPEND;
    j->append.k = in4(TENON_F32, 1, 2, 5, 16);
    j->append.v = in4(TENON_F32, 1, 2, 5, 8);
    j->append.k_cache = out4(j, TENON_S8, 5, 2, 8, 16);
    j->append.v_cache = out4(j, TENON_F8_E4M3, 5, 2, 8, 8);
    j->append.positions = indices(positions, 2, 1);
    j->append.cu_seqlens = indices(rows, 3, 1);
    j->append.block_table = indices(table, 2, 3);
    j->append.k_scale = all1(TENON_F32, 0.125f, 2);
    j->append.v_scale = all1(TENON_F32, 0.5f, 1);
}

static void append_blocks(job *j) {
    static const int32_t positions[] = {3, 0};
    j->op = JOB_APPEND;
    j->append.k = in4(TENON_BF16, 2, 2, 3, 64);
    j->append.v = in4(TENON_F32, 2, 2, 3, 32);
    j->append.k_cache = out4(j, TENON_Q8_0, 2, 2, 8, 64);
    j->append.v_cache = out4(j, TENON_Q4_0, 2, 2, 8, 32);
    j->append.positions = indices(positions, 2, 1);
}

static void quantize_rows(job *j) {
    j->op = JOB_QUANTIZE;
    j->quantize.x = in2(TENON_BF16, 6, 512);
    j->quantize.y = out2(j, TENON_Q4_K, 6, 512);
}

static void dequantize_rows(job *j) {
    j->op = JOB_DEQUANTIZE;
    j->quantize.x = in2(TENON_Q5_1, 40, 320);
    j->quantize.y = out2(j, TENON_F16, 40, 320);
}

const job_kind job_kinds[] = {
    {"gemm_f32", true, gemm_f32},
    {"gemm_row", true, gemm_row},
    {"gemm_bf16_epilogue", true, gemm_bf16_epilogue},
    {"gemm_s8", true, gemm_s8},
    {"gemm_f64_batch", true, gemm_f64_batch},
    {"gemm_quantised", true, gemm_quantised},
    {"gemm_fp8", true, gemm_fp8},
    {"gemm_blocks", true, gemm_blocks},
    {"gemm_blocks_fast", true, gemm_blocks_fast},
    {"gemm_gated", true, gemm_gated},
    {"gemm_grouped", true, gemm_grouped},
    {"gemm_arrays", true, gemm_arrays},
    {"gemm_long", true, gemm_long},
    {"gemm_packed", true, gemm_packed},
    {"softmax_rows", true, softmax_rows},
    {"softmax_columns", true, softmax_columns},
    {"softmax_scores", true, softmax_scores},
    {"attention_prefill", true, attention_prefill},
    {"attention_decode", true, attention_decode},
    {"attention_paged", true, attention_paged},
    {"attention_ragged", true, attention_ragged},
    {"attention_scores", true, attention_scores},
    {"attention_quantised", true, attention_quantised},
    {"attention_blocks", true, attention_blocks},
    {"merge_three", false, merge_three},
    {"append_rows", false, append_rows},
    {"append_paged", false, append_paged},
    {"append_blocks", false, append_blocks},
    {"quantize_rows", false, quantize_rows},
    {"dequantize_rows", false, dequantize_rows},
};
const int job_kind_count = (int)(sizeof job_kinds / sizeof job_kinds[0]);
