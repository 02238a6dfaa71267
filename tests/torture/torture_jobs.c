/* SPDX-License-Identifier: Apache-2.0 */
/* torture_jobs.c: the life of a job, see torture_jobs.h. The jobs themselves are in torture_problems.c. */
#include "torture_jobs.h"

#include <stdlib.h>
#include <string.h>

#include "guarded.h"

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

tenon_status job_pack(tenon_context *ctx, job *j) {
    size_t bytes = 0;
    if (!j->packs)
        return TENON_OK;
    tenon_status status = tenon_gemm_pack_size(ctx, &j->gemm, &bytes);
    if (status != TENON_OK)
        return status;
    void *packed = guard_alloc(bytes, 64, true);
    status = tenon_gemm_pack(ctx, &j->gemm, packed, bytes);
    if (status == TENON_OK) {
        j->gemm.b_packed = packed;
        j->gemm.b_packed_bytes = bytes;
    }
    return status;
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
    case JOB_QUANTIZE:
        return tenon_quantize(ctx, &j->quantize);
    case JOB_DEQUANTIZE:
        return tenon_dequantize(ctx, &j->quantize);
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
    case JOB_QUANTIZE:
    case JOB_DEQUANTIZE:
        return &j->quantize.workspace;
    }
    return NULL;
}
