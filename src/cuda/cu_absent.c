/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_absent.c: operations that have no CUDA kernels yet. A driver of an operation takes its place
 * in meson.build, and its line here goes.
 */
#include "cuda/cu_kernels.h"

#define ABSENT(op)                                                                                 \
    tenon_status tn_cu_##op##_plan(const tn_cu_limits *limits, const tn_##op##_problem *p,         \
                                   tn_choices *out, tn_message *why) {                             \
        (void)limits, (void)p;                                                                     \
        out->count = 0;                                                                            \
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "cuda has no kernels for " #op " yet");       \
    }                                                                                              \
    tenon_status tn_cu_##op##_run(tn_cu_work *work, const tn_run *run, tn_message *why) {          \
        (void)work, (void)run;                                                                     \
        return tn_fail(why, TENON_ERROR_INTERNAL, #op " reached cuda");                            \
    }

ABSENT(gemm)
ABSENT(softmax)
ABSENT(attention)
ABSENT(merge)
ABSENT(append)
