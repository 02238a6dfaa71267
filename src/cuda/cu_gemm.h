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
    int32_t a_wide, b_wide;            /* copied 16 bytes at a time: 1: along k; 2: along i or j (by
                               gemm_rows.cu words) */
    int32_t type[TN_CU_GEMM_OPERANDS]; /* 0: absent */
    int32_t activation, gated;
} tn_cu_gemm;

/*
 * gemm_wgmma.cu: tiles of 128 x 128; threads; stages of 64 steps of k, 32 KB each; elements from
 * one row of sums in shared memory to the next, 8 banks on.
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

/*
 * B of a block type (gemm_blocks.cu, gemm_blocks_mma.cu). A row of A that was rounded has for each
 * 32 steps of k a record: 32 bytes, their scale, where exact sums start (halves: two), and
 * their sum.
 */
#define TN_CU_UNIT 32
#define TN_CU_RECORD 48
/* Of the kernels for few rows: columns of a tile, and blocks of KC steps that a pass has, a warp's
 * each. */
#define TN_CU_FEW_COLUMNS 32
#define TN_CU_FEW_WARPS 4
/* Side of the tile of gemm_blocks_f32; stages of A's records in gemm_blocks_mma.cu. */
#define TN_CU_BLOCKS_SIDE 64
#define TN_CU_BLOCKS_STAGES 4

typedef struct tn_cu_gemm_blocks {
    tn_cu_gemm g;
    uint64_t rounded;     /* records: of a member, unit by unit, in each row by row */
    int64_t rounded_step; /* bytes from member to member; 0: all have one A */
    int64_t rounded_members;
    int32_t pitch; /* words between runs of blocks in shared memory: odd */
    int32_t reserved;
} tn_cu_gemm_blocks;

#define TN_CU_PACK_SIDE 32 /* of its tiles */

/* Packing B (gemm_pack.cu): every column of every member, elements side by side. */
typedef struct tn_cu_gemm_pack {
    uint64_t from, to;
    uint64_t head_at, head[8]; /* what a packed B begins with: ops/packed.h */
    int64_t batch[TN_CU_GEMM_BATCH], from_step[TN_CU_GEMM_BATCH],
        to_step[TN_CU_GEMM_BATCH];                /* bytes */
    int64_t members, columns, count;              /* count: elements of a column */
    int64_t from_column, from_element, to_column; /* bytes */
} tn_cu_gemm_pack;

#endif
