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
    int64_t b_width; /* columns of a panel of a B that the caller packed; 0: it is not */
} tn_cl_gemm;

_Static_assert(sizeof(tn_cl_gemm) + (TN_CL_GEMM_OPERANDS + 1) * 8 <= TN_CL_ARGUMENT_BYTES,
               "a kernel's arguments");

typedef enum tn_cl_gemm_kind {
    TN_CL_GEMM_PLAIN,  /* any device, no workspace: element by element */
    TN_CL_GEMM_LOCAL,  /* GPUs: through local memory */
    TN_CL_GEMM_SMALL,  /* CPUs: in place, or packed in private memory */
    TN_CL_GEMM_ROWS,   /* CPUs: a few rows, B read once */
    TN_CL_GEMM_BLOCKS, /* CPUs: B of blocks, decoded in registers */
    TN_CL_GEMM_FEW,    /* GPUs: a few rows by a B of blocks, which is read once */
    TN_CL_GEMM_TILE    /* CPUs: packed in the workspace; of a B of blocks only A is */
} tn_cl_gemm_kind;

/* Kept in a choice: the same on every device of a kind. */
typedef struct tn_cl_gemm_state {
    int32_t kind;
    int32_t sum;        /* TN_SUM of kernels/number.cl */
    int32_t width;      /* lanes of a vector */
    int32_t mr, nv;     /* the micro-tile: rows, vectors of columns */
    int32_t rows, cols; /* the tile of a work item; LOCAL: of a work-group */
    int32_t epilogue, fp64;
    int32_t blocks, fast; /* B is of blocks, as the kernels find it; A is rounded to bytes for it */
    int32_t b_width;      /* columns of a panel of a B that the caller packed; 0: it is not */
    /* the most members, rows and columns of C that are packed at a time */
    int64_t members, pass_rows, pass_cols;
} tn_cl_gemm_state;

_Static_assert(sizeof(tn_cl_gemm_state) <= TN_CHOICE_STATE, "a choice keeps it");

/* Whether B is of a block type, and A rounded to bytes for it (docs/NUMERICS.md, 3.8). */
bool tn_cl_gemm_of_blocks(const tn_gemm_problem *p);
bool tn_cl_gemm_rounds(const tn_gemm_problem *p);

/* The sums of a product: TN_SUM of kernels/number.cl; and whether kernels on f32 give them. */
int32_t tn_cl_gemm_sum(const tn_gemm_problem *p);
bool tn_cl_gemm_in_f32(const tn_gemm_problem *p);
/* The largest magnitude of an integer operand less its zero, or 0 if it has no bound of use. */
int64_t tn_cl_gemm_largest(const tn_gemm_problem *p, int role, int zero_role);

/* Width, rows and vectors of the micro-tile for a kind of sums, which is set. */
void tn_cl_gemm_tile(const tn_cl_limits *limits, tn_cl_gemm_state *plan);

/* UNSUPPORTED for what no kernel can do. */
tenon_status tn_cl_gemm_refuse(const tn_cl_limits *limits, const tn_gemm_problem *p,
                               tn_message *why);

/* ---- cl_gemm_numbers.c */

/*
 * The numbers of a product but the part of C and the pieces of packing; `b_width` as in the state.
 * Batch dimensions beyond those that kernels count have tn_cl_gemm_outer members; the numbers are
 * of the first, tn_cl_gemm_place makes them another's.
 */
void tn_cl_gemm_numbers(const tn_gemm_problem *p, const tn_places *places, int64_t b_width,
                        tn_cl_gemm *out);
int64_t tn_cl_gemm_outer(const tn_gemm_problem *p);
void tn_cl_gemm_place(const tn_gemm_problem *p, const tn_places *places, int64_t outer,
                      tn_cl_gemm *out);
/* A type that kernels are built for, or 0: they are told it. */
int tn_cl_gemm_special(tenon_dtype type);
/* Options of gemm_pack.cl, with room for TN_CL_OPTIONS. */
void tn_cl_gemm_packing(const tn_cl_gemm_state *plan, const tn_gemm_problem *p, char *options);
/* Panels of B that an item of it packs. */
enum { TN_CL_PACK_PANELS = 4 };
/* What all its kernels take: the operands' memories (`packed`: B_PACKED for B), the workspace's,
 * the numbers. */
void tn_cl_gemm_arguments(tn_cl_launch *launch, const tn_places *places, const tn_place *scratch,
                          bool packed, const tn_cl_gemm *numbers);

/* ---- cl_gemm_packed.c: a B that the caller has packed */

enum { TN_CL_PACKED_HEAD = 64 /* bytes before its panels */ };

/* Type of its elements: that of the products, or blocks as they are. */
tenon_dtype tn_cl_packed_type(const tn_gemm_problem *p);
/* Bytes of a member in panels of `width` columns; of blocks, which are in no panels, `width` 0. */
int64_t tn_cl_packed_member(const tn_gemm_problem *p, int64_t width);
/* Columns of a panel on a device. */
int32_t tn_cl_packed_width(const tn_cl_limits *limits, const tn_gemm_problem *p);
/* Whether members differ along a batch dimension, or have been packed once for all of it. */
bool tn_cl_packed_differs(const tn_gemm_problem *p, int32_t d);

/* The smaller of the two tiles of LOCAL, for groups of 64 items. */
#define TN_CL_GEMM_LOCAL_LEAST 32

/* The kernel that every device can build and run, for the whole of a product. */
tn_cl_gemm_state tn_cl_gemm_plain(const tn_gemm_problem *p, int32_t fp64, int32_t b_width);

#endif
