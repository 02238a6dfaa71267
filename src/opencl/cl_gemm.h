/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_gemm.h: the numbers of a product as its OpenCL kernels get them, and what a plan decides.
 *
 * tn_cl_gemm is kernels/gemm.cl's struct gemm, member by member: only types of fixed size, each
 * aligned to its size, so that host and device lay it out alike. With a memory for each operand it
 * stays below the 1024 bytes of arguments that every device takes.
 */
#ifndef TN_CL_GEMM_H
#define TN_CL_GEMM_H

#include "opencl/cl_kernels.h"
#include "opencl/cl_numbers.h"

#define TN_CL_GEMM_OPERANDS (TN_GEMM_OFFSETS + 1)
/* Batch dimensions that kernels count; of the outer ones every member is launched by itself. */
#define TN_CL_GEMM_BATCH 3
/* Steps of k in one chain of multiply-adds: docs/NUMERICS.md, 3.1. */
#define TN_CL_GEMM_KC 256

typedef struct tn_cl_gemm {
    int64_t m, n, k;
    int64_t i0, rows, j0, cols; /* the part of C that a launch makes */
    int64_t member0;
    int64_t batch[TN_CL_GEMM_BATCH];
    int64_t experts;
    int64_t group[4];
    int64_t a_panels, b_panels;
    int64_t a_packed, b_packed; /* bytes after the workspace's start */
    tn_cl_number alpha, beta, low, high;
    int64_t start[TN_CL_GEMM_OPERANDS], row[TN_CL_GEMM_OPERANDS], column[TN_CL_GEMM_OPERANDS],
        step[TN_CL_GEMM_OPERANDS][TN_CL_GEMM_BATCH]; /* bytes */
    int32_t type[TN_CL_GEMM_OPERANDS];
    int32_t activation, gated;
    int32_t a_members, b_members; /* that are packed */
    int64_t a_pieces;
} tn_cl_gemm;

_Static_assert(sizeof(tn_cl_gemm) + (TN_CL_GEMM_OPERANDS + 1) * 8 <= TN_CL_ARGUMENT_BYTES,
               "a kernel's arguments");

typedef enum tn_cl_gemm_kind {
    TN_CL_GEMM_PLAIN, /* any device, no workspace: element by element */
    TN_CL_GEMM_LOCAL, /* GPUs: through local memory */
    TN_CL_GEMM_SMALL, /* CPUs: in place, or packed in private memory */
    TN_CL_GEMM_ROWS,  /* CPUs: a few rows, B read once */
    TN_CL_GEMM_TILE   /* CPUs: packed in the workspace */
} tn_cl_gemm_kind;

/* Kept in a choice: the same on every device of a kind. */
typedef struct tn_cl_gemm_state {
    int32_t kind;
    int32_t sum;        /* TN_SUM of kernels/number.cl */
    int32_t width;      /* lanes of a vector */
    int32_t mr, nv;     /* the micro-tile: rows, vectors of columns */
    int32_t rows, cols; /* the tile of a work item; LOCAL: of a work-group */
    int32_t epilogue, fp64;
    /* the most members, rows and columns of C that are packed at a time */
    int64_t members, pass_rows, pass_cols;
} tn_cl_gemm_state;

_Static_assert(sizeof(tn_cl_gemm_state) <= TN_CHOICE_STATE, "a choice keeps it");

/* The smaller of the two tiles of LOCAL, for groups of 64 items. */
#define TN_CL_GEMM_LOCAL_LEAST 32

/* The kernel that every device can build and run, for the whole of a product. */
tn_cl_gemm_state tn_cl_gemm_plain(const tn_gemm_problem *p, int fp64);

#endif
