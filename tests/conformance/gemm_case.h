/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_case.h: one matrix product as a row of a table, and the function that makes its operands, runs it on the device under test and on the
 * reference, and compares. Zero in a field is the plainest choice.
 */
#ifndef CONFORM_GEMM_CASE_H
#define CONFORM_GEMM_CASE_H

#include "harness.h"

/* Extents of an operand that broadcasts to C. */
typedef enum spread {
    ABSENT,
    SCALAR, /* () */
    ROW,    /* (n) */
    COLUMN, /* (m, 1) */
    FULL,   /* (batch…, m, n) */
    ALIAS   /* residual only: C's own memory */
} spread;

/* Extents of a scale or zero of A (of B: transposed). */
typedef enum quantum {
    NO_QUANTUM,
    PER_TENSOR, /* (1, 1) */
    PER_ROW,    /* (m, 1), for B (1, n) */
    PER_GROUP,  /* (1, g), for B (g, 1) */
    PER_BOTH    /* (m, g), for B (g, n) */
} quantum;

typedef struct gemm_case {
    const char *name;
    int32_t batch_rank;
    int64_t batch[2], m, n, k;
    int32_t a_once,
        b_once; /* 1: A, B are the same for the whole batch; 2: extents 1 in all batch dimensions */
    tenon_dtype a, b, c, extra; /* 0: f32; extra: bias, residual, scales */
    layout a_layout, b_layout, c_layout;
    double alpha, beta; /* alpha 0: not given */
    spread bias, residual, c_scale, c_zero;
    tenon_activation activation;
    double clamp_low, clamp_high;
    double reach; /* largest magnitude in a; 0: 1 */
    tenon_gated gated;
    quantum a_scale, a_zero, b_scale, b_zero;
    tenon_dtype zero; /* type of zeros; 0: f32 */
    int64_t groups;   /* 0: 2 */
    int64_t experts;
    tenon_dtype offsets; /* 0: s32 */
    int64_t array;       /* > 0: so many members through pointer arrays */
    int32_t packed;
    tenon_compute compute;
    const char *unsupported; /* devices that answer UNSUPPORTED */
} gemm_case;

void run_gemm_case(world *w, const gemm_case *given);

#endif
