/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture_jobs.h: one small problem per operation and way of asking for it, in memory of the test's
 * own.
 *
 * Large enough that drivers pack, split over threads and take workspace; small enough for the
 * reference device to do hundreds of them. Operands never change; outputs are filled with a pattern
 * before each call and compared after it with what the device answers when nothing fails, bit for
 * bit: whatever way a call found around a failure, the promise is the same bits.
 */
#ifndef TORTURE_JOBS_H
#define TORTURE_JOBS_H

#include <stdbool.h>

#include <tenon/tenon.h>

typedef enum job_op {
    JOB_GEMM,
    JOB_SOFTMAX,
    JOB_ATTENTION,
    JOB_MERGE,
    JOB_APPEND,
    JOB_QUANTIZE,
    JOB_DEQUANTIZE
} job_op;

/* A chain of devices may answer as any of them does. */
#define JOB_ANSWERS 2

typedef struct job_output {
    void *memory;
    void *answer[JOB_ANSWERS];
    size_t bytes;
} job_output;

/* Members of a pointer-array batch, parts of a merge. */
#define JOB_MEMBERS 3

typedef struct job {
    job_op op;
    tenon_gemm_desc gemm;
    tenon_softmax_desc softmax;
    tenon_attention_desc attention;
    tenon_attention_merge_desc merge;
    tenon_kv_append_desc append;
    tenon_quantize_desc quantize; /* dequantize too */
    const void *a_array[JOB_MEMBERS], *b_array[JOB_MEMBERS];
    void *c_array[JOB_MEMBERS];
    tenon_tensor o_parts[JOB_MEMBERS], lse_parts[JOB_MEMBERS];
    bool packs; /* B is packed by each device for itself */
    int outputs, answers;
    job_output output[JOB_MEMBERS];
} job;

typedef struct job_kind {
    const char *name;
    bool plannable; /* has tenon_<op>_plan and _run */
    void (*build)(job *j);
} job_kind;

extern const job_kind job_kinds[];
extern const int job_kind_count;

/* Frees what build took. */
void job_end(job *j);

/* Packs B for the context's first device, if the job wants that. Before answers are learned. */
tenon_status job_pack(tenon_context *ctx, job *j);

void job_prepare(job *j);
bool job_untouched(const job *j);
/* Takes what the outputs hold for a right answer. False if nothing was written or a guard was
 * touched. */
bool job_learn(job *j);
/* All outputs hold one of the right answers, bit for bit. */
bool job_correct(const job *j);

/* The public calls of the job's operation. */
tenon_status job_once(tenon_context *ctx, job *j);
tenon_status job_plan(tenon_context *ctx, job *j, tenon_plan **out);
tenon_status job_run(tenon_context *ctx, const tenon_plan *plan, job *j);

/* The workspace field of the job's descriptor. */
tenon_workspace *job_workspace(job *j);

#endif
