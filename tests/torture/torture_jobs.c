/* SPDX-License-Identifier: Apache-2.0 */
/* torture_jobs.c: see torture_jobs.h. */
#include "torture_jobs.h"

#include <stdlib.h>
#include <string.h>

#include "guarded.h"
#include "rng.h"

/* ---- operands ---- */

static rng numbers = {1};

static size_t elements_of(int32_t rank, const int64_t *shape) {
    size_t n = 1;
    for (int32_t i = 0; i < rank; ++i)
        n *= (size_t)shape[i];
    return n;
}

/* Values of a few bits, exact in every floating-point type, so that any type's memory can be
 * written here. */
static void *values(tenon_dtype dtype, size_t n) {
    size_t bytes = 0;
    if (tenon_dtype_block(dtype, NULL, &bytes) != TENON_OK)
        abort();
    unsigned char *memory = guard_alloc(n * bytes, 64, true);
    for (size_t i = 0; i < n; ++i) {
        float f = (float)rng_between(&numbers, -8, 8) / 8;
        double d = (double)f;
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        uint16_t upper = (uint16_t)(bits >> 16);
        int8_t s = (int8_t)rng_between(&numbers, -9, 9);
        const void *from = dtype == TENON_F64    ? (const void *)&d
                           : dtype == TENON_F32  ? (const void *)&f
                           : dtype == TENON_BF16 ? (const void *)&upper
                                                 : (const void *)&s;
        memcpy(memory + i * bytes, from, bytes);
    }
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

static tenon_tensor indices(const int32_t *from, int64_t a, int64_t b) {
    int64_t shape[] = {a, b};
    size_t n = elements_of(2, shape);
    int32_t *memory = guard_alloc(n * sizeof *memory, 64, true);
    memcpy(memory, from, n * sizeof *memory);
    return b == 1 ? tenon_vector(memory, TENON_S32, a) : tenon_dense(memory, TENON_S32, 2, shape);
}

/* An output of the job. */
static tenon_tensor out_of(job *j, tenon_dtype dtype, int32_t rank, const int64_t *shape) {
    size_t bytes = 0;
    if (tenon_dtype_block(dtype, NULL, &bytes) != TENON_OK)
        abort();
    job_output *out = &j->output[j->outputs++];
    out->bytes = elements_of(rank, shape) * bytes;
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

static tenon_tensor merge_o[3], merge_lse[3];

static void merge_three(job *j) {
    j->op = JOB_MERGE;
    for (int i = 0; i < 3; ++i) {
        int64_t shape[] = {1, 4, 9};
        merge_o[i] = in4(TENON_F32, 1, 4, 9, 32);
        merge_lse[i] = tenon_dense(values(TENON_F32, elements_of(3, shape)), TENON_F32, 3, shape);
    }
    j->merge.o_parts = merge_o;
    j->merge.lse_parts = merge_lse;
    j->merge.count = 3;
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

const job_kind job_kinds[] = {
    {"gemm_f32", true, gemm_f32},
    {"gemm_row", true, gemm_row},
    {"gemm_bf16_epilogue", true, gemm_bf16_epilogue},
    {"gemm_s8", true, gemm_s8},
    {"gemm_f64_batch", true, gemm_f64_batch},
    {"softmax_rows", true, softmax_rows},
    {"softmax_columns", true, softmax_columns},
    {"attention_prefill", true, attention_prefill},
    {"attention_decode", true, attention_decode},
    {"attention_paged", true, attention_paged},
    {"merge_three", false, merge_three},
    {"append_rows", false, append_rows},
};
const int job_kind_count = (int)(sizeof job_kinds / sizeof job_kinds[0]);

/* ---- life ---- */

void job_end(job *j) {
    for (int i = 0; i < j->outputs; ++i)
        for (int a = 0; a < j->answers; ++a)
            free(j->output[i].answer[a]);
    guard_free_all();
    memset(j, 0, sizeof *j);
}

void job_prepare(job *j) {
    for (int i = 0; i < j->outputs; ++i)
        canary_fill(j->output[i].memory, j->output[i].bytes);
}

bool job_untouched(const job *j) {
    for (int i = 0; i < j->outputs; ++i)
        if (!canary_intact(j->output[i].memory, j->output[i].bytes))
            return false;
    return true;
}

static bool written(const job *j) {
    for (int i = 0; i < j->outputs; ++i) {
        const job_output *out = &j->output[i];
        if (!guard_intact(out->memory) || canary_intact(out->memory, out->bytes))
            return false;
    }
    return true;
}

bool job_learn(job *j) {
    if (!written(j) || j->answers == JOB_ANSWERS)
        return false;
    for (int i = 0; i < j->outputs; ++i) {
        job_output *out = &j->output[i];
        out->answer[j->answers] = malloc(out->bytes);
        memcpy(out->answer[j->answers], out->memory, out->bytes);
    }
    ++j->answers;
    return true;
}

bool job_correct(const job *j) {
    for (int a = 0; a < j->answers; ++a) {
        int same = 0;
        for (int i = 0; i < j->outputs; ++i)
            same += memcmp(j->output[i].memory, j->output[i].answer[a], j->output[i].bytes) == 0;
        if (same == j->outputs)
            return written(j);
    }
    return false;
}

tenon_status job_once(tenon_context *ctx, job *j) {
    switch (j->op) {
    case JOB_GEMM:
        return tenon_gemm(ctx, &j->gemm);
    case JOB_SOFTMAX:
        return tenon_softmax(ctx, &j->softmax);
    case JOB_ATTENTION:
        return tenon_attention(ctx, &j->attention);
    case JOB_MERGE:
        return tenon_attention_merge(ctx, &j->merge);
    case JOB_APPEND:
        return tenon_kv_append(ctx, &j->append);
    }
    return TENON_ERROR_INTERNAL;
}

tenon_status job_plan(tenon_context *ctx, job *j, tenon_plan **out) {
    switch (j->op) {
    case JOB_GEMM:
        return tenon_gemm_plan(ctx, &j->gemm, out);
    case JOB_SOFTMAX:
        return tenon_softmax_plan(ctx, &j->softmax, out);
    case JOB_ATTENTION:
        return tenon_attention_plan(ctx, &j->attention, out);
    default:
        return TENON_ERROR_INTERNAL;
    }
}

tenon_status job_run(tenon_context *ctx, const tenon_plan *plan, job *j) {
    switch (j->op) {
    case JOB_GEMM:
        return tenon_gemm_run(ctx, plan, &j->gemm);
    case JOB_SOFTMAX:
        return tenon_softmax_run(ctx, plan, &j->softmax);
    case JOB_ATTENTION:
        return tenon_attention_run(ctx, plan, &j->attention);
    default:
        return TENON_ERROR_INTERNAL;
    }
}

tenon_workspace *job_workspace(job *j) {
    switch (j->op) {
    case JOB_GEMM:
        return &j->gemm.workspace;
    case JOB_SOFTMAX:
        return &j->softmax.workspace;
    case JOB_ATTENTION:
        return &j->attention.workspace;
    case JOB_MERGE:
        return &j->merge.workspace;
    case JOB_APPEND:
        return &j->append.workspace;
    }
    return NULL;
}
