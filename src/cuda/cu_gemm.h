/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_gemm.h: the numbers of a product as its kernels get them; read by the drivers (C) and by the
 * kernels (CUDA C++), so types of fixed size only.
 */
#ifndef TN_CU_GEMM_H
#define TN_CU_GEMM_H

#include <stdint.h>

#define TN_CU_GEMM_OPERANDS 12 /* roles up to TN_GEMM_OFFSETS */
#define TN_CU_GEMM_BATCH 6
/* Steps of k in one chain of multiply-adds: docs/NUMERICS.md, 3.1; and in one chain of tensor-core
 * instructions: 3.9. */
#define TN_CU_GEMM_KC 256
#define TN_CU_GEMM_SEGMENT 1024
#define TN_CU_GEMM_SEGMENT_FP8 128
/* Rows and columns of the tiles of gemm_plain.cu: with sums of 32 bits, and of 64. */
#define TN_CU_PLAIN_F32 64
#define TN_CU_PLAIN_WIDE 32
/* Rows of A, or columns of B, that gemm_rows.cu takes at most. */
#define TN_CU_ROWS_FEW 8

typedef struct tn_cu_gemm {
    int64_t m, n, k;                 /* n: columns of C */
    int64_t batch[TN_CU_GEMM_BATCH]; /* extents, outermost first; 1 where there are fewer */
    int64_t experts;                 /* > 0: grouped */
    int64_t group[4];                /* a_scale, a_zero, b_scale, b_zero: steps of k to one */
    int64_t tiles_down, tiles_across, tiles; /* of a member (of all experts); of the launch */
    uint64_t at[TN_CU_GEMM_OPERANDS];        /* addresses */
    int64_t row[TN_CU_GEMM_OPERANDS], column[TN_CU_GEMM_OPERANDS],
        step[TN_CU_GEMM_OPERANDS][TN_CU_GEMM_BATCH]; /* bytes */
    double alpha, beta, low, high;
    uint64_t parts; /* split over k: sums of the segments, f32 or s32, each of part_elements */
    int64_t part_elements, segment_steps; /* of k */
    int32_t segments;                     /* 1 unless split */
    int32_t tile_rows, tile_columns;
    int32_t scale_after;               /* scales are applied to the sum */
    int32_t a_wide, b_wide; /* copied 16 bytes at a time: 1: along k; 2: along i or j (by
                               gemm_rows.cu words) */
    int32_t type[TN_CU_GEMM_OPERANDS]; /* 0: absent */
    int32_t activation, gated;
} tn_cu_gemm;

/*
 * gemm_wgmma.cu: tiles of 128 x 128; threads; stages of 64 steps of k, 32 KB each; elements from one
 * row of sums in shared memory to the next, 8 banks on.
 */
#define TN_CU_MAPPED_TILE 128
#define TN_CU_MAPPED_THREADS 384
#define TN_CU_MAPPED_STAGES 4
#define TN_CU_MAPPED_PITCH (TN_CU_MAPPED_TILE + 8)
#define TN_CU_MAPPED_SHARED                                                                        \
    (1024 + TN_CU_MAPPED_STAGES * 32768 + TN_CU_MAPPED_TILE * TN_CU_MAPPED_PITCH * 4)

/* A tensor map of four dimensions, the last two of the batch: coordinate d of a member there is
 * member / over[d] % extent[d]. */
#define TN_CU_MAP_BATCH 2
typedef struct tn_cu_gemm_map {
    unsigned char map[128] __attribute__((aligned(64))); /* CUtensorMap */
    int64_t over[TN_CU_MAP_BATCH], extent[TN_CU_MAP_BATCH];
} tn_cu_gemm_map;

typedef struct tn_cu_gemm_mapped {
    tn_cu_gemm_map a, b;
    tn_cu_gemm g;
} tn_cu_gemm_mapped;

#endif
