/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference as a device of its own, "reference": whatever a fast backend lacks can be run, and
 * everything it has can be compared. It has one device, one algorithm per operation and one thread,
 * and no state at all.
 */
#include "core/backend.h"
#include "ref/ref_ops.h"

#include <stdio.h>

struct tn_device {
    int nothing;
};

static int count(void) {
    return 1;
}

static void info(int index, tenon_device_info *out) {
    (void)index;
    out->usable = 1;
    out->cores = 1;
    (void)snprintf(out->id, sizeof out->id, "reference");
    (void)snprintf(out->backend, sizeof out->backend, "reference");
    (void)snprintf(out->name, sizeof out->name, "double precision, one thread, plain loops");
    (void)snprintf(out->vendor, sizeof out->vendor, "tenon");
}

static tenon_status open_device(const tn_open *how, tn_device **out, tn_message *why) {
    static tn_device device; /* never written */
    *out = NULL;
    if (how->index != 0)
        return tn_fail(why, TENON_ERROR_NO_DEVICE, "reference:%d: there is one, reference:0",
                       how->index);
    *out = &device;
    return TENON_OK;
}

static void close_device(tn_device *device) {
    (void)device;
}

static tenon_status sync_device(tn_device *device, tn_message *why) {
    (void)device;
    (void)why;
    return TENON_OK;
}

/* Multiply-adds, roughly: for the prediction only. */
static double work(tn_op op, const void *problem) {
    const tn_gemm_problem *g = problem;
    const tn_softmax_problem *s = problem;
    const tn_attention_problem *a = problem;
    const tn_merge_problem *m = problem;
    const tn_append_problem *n = problem;
    const tn_quantize_problem *q = problem;

    switch (op) {
    case TN_OP_GEMM:
        return (double)g->batch_count * (double)g->m * (double)g->n * (double)g->k;
    case TN_OP_GEMM_PACK:
        return (double)g->batch_count * (double)g->n * (double)g->k;
    case TN_OP_SOFTMAX:
        return 3 * (double)s->rows * (double)s->length;
    case TN_OP_ATTENTION:
        return (double)a->batch * (double)a->heads * (double)a->queries * (double)a->keys *
               (double)(2 * a->d + a->dv);
    case TN_OP_MERGE:
        return (double)m->rows * (double)m->dv * (double)m->count;
    case TN_OP_APPEND:
        return (double)n->kv_heads * (double)n->rows * (double)(n->d + n->dv);
    case TN_OP_QUANTIZE:
    case TN_OP_DEQUANTIZE:
        return (double)q->rows * (double)q->n;
    }
    return 0;
}

static tenon_status plan(tn_device *device, tn_op op, const void *problem, int threads,
                         tn_choices *out, tn_message *why) {
    static const char *const algorithm[] = {
        [TN_OP_GEMM] = "gemm-reference",           [TN_OP_SOFTMAX] = "softmax-reference",
        [TN_OP_ATTENTION] = "attention-reference", [TN_OP_MERGE] = "merge-reference",
        [TN_OP_APPEND] = "append-reference",       [TN_OP_GEMM_PACK] = "pack-reference",
        [TN_OP_QUANTIZE] = "quantize-reference",   [TN_OP_DEQUANTIZE] = "dequantize-reference",
    };
    tn_choice *choice = &out->choice[0];
    (void)device;
    (void)threads;

    out->count = 0;
    if (op == TN_OP_GEMM &&
        ((const tn_gemm_problem *)problem)->operand[TN_GEMM_B_PACKED].dtype != TENON_DTYPE_NONE) {
        size_t ignored;
        TN_TRY(tn_ref_pack_size(problem, &ignored, why));
    }

    memset(choice, 0, sizeof *choice);
    choice->algorithm = algorithm[op];
    choice->kernel = "reference_f64";
    choice->reason = "the only one";
    if (op == TN_OP_ATTENTION)
        choice->workspace = (size_t)((const tn_attention_problem *)problem)->dv * sizeof(double);
    choice->seconds = 1e-8 * work(op, problem); /* order of magnitude of two converted loads */
    out->count = 1;
    return TENON_OK;
}

static tenon_status run(tn_device *device, const tn_run *r, tn_message *why) {
    (void)device;
    switch (r->op) {
    case TN_OP_GEMM:
        tn_ref_gemm(r->problem, r->addresses);
        return TENON_OK;
    case TN_OP_SOFTMAX:
        tn_ref_softmax(r->problem, r->addresses);
        return TENON_OK;
    case TN_OP_ATTENTION:
        tn_ref_attention(r->problem, r->addresses, r->workspace);
        return TENON_OK;
    case TN_OP_MERGE:
        tn_ref_merge(r->problem, r->addresses);
        return TENON_OK;
    case TN_OP_APPEND:
        tn_ref_append(r->problem, r->addresses);
        return TENON_OK;
    case TN_OP_GEMM_PACK:
        tn_ref_pack(r->problem, r->addresses);
        return TENON_OK;
    case TN_OP_QUANTIZE:
        tn_ref_quantize(r->problem, r->addresses);
        return TENON_OK;
    case TN_OP_DEQUANTIZE:
        tn_ref_dequantize(r->problem, r->addresses);
        return TENON_OK;
    }
    return tn_fail(why, TENON_ERROR_INTERNAL, "operation %d reached the reference", (int)r->op);
}

static tenon_status pack_size(tn_device *device, const tn_gemm_problem *p, size_t *bytes,
                              tn_message *why) {
    (void)device;
    return tn_ref_pack_size(p, bytes, why);
}

static tenon_status pack_check(tn_device *device, const tn_gemm_problem *p, const void *packed,
                               size_t bytes, tn_message *why) {
    (void)device;
    return tn_ref_pack_check(p, packed, bytes, why);
}

const tn_backend tn_backend_reference = {
    .name = "reference",
    .host = 1,
    .count = count,
    .info = info,
    .open = open_device,
    .close = close_device,
    .sync = sync_device,
    .plan = plan,
    .run = run,
    .pack_size = pack_size,
    .pack_check = pack_check,
};
