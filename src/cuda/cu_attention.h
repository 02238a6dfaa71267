/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_attention.h: the numbers of softmax, attention, merge and append as their kernels get them;
 * read by the drivers (C) and by the kernels (CUDA C++), so types of fixed size only. Strides count
 * bytes; a type of 0 says that an operand is absent.
 */
#ifndef TN_CU_ATTENTION_H
#define TN_CU_ATTENTION_H

#include <stdint.h>

enum {
    TN_CU_DIMS = 7,             /* of rows */
    TN_CU_SOFTMAX_CHUNK = 2048, /* docs/NUMERICS.md, 4.1 */
    TN_CU_SOFTMAX_SHORT = 512,  /* elements of a row that one warp keeps */
    TN_CU_BLOCK = 256,          /* keys: docs/NUMERICS.md, 5.1 */
    TN_CU_PLAIN_ROWS = 8,       /* rows of a unit of attention_plain.cu; f64: half */
    TN_CU_MMA_KEYS = 64,        /* of a block of attention_mma.cu: docs/NUMERICS.md, 5.4 */
    TN_CU_MERGE_PARTS = 8       /* of one launch */
};

/* ---------------------------------------------------------------- softmax */

enum { TN_CU_SOFTMAX_OPERANDS = 7 };

typedef struct tn_cu_softmax {
    int64_t length, rows;
    int64_t extent[TN_CU_DIMS];
    int64_t offset, left, right; /* INT64_MAX: no limit */
    double scale, softcap;
    uint64_t at[TN_CU_SOFTMAX_OPERANDS];
    int64_t step[TN_CU_SOFTMAX_OPERANDS], row[TN_CU_SOFTMAX_OPERANDS][TN_CU_DIMS];
    int32_t type[TN_CU_SOFTMAX_OPERANDS];
    int32_t rank, query_dim, as_log;
} tn_cu_softmax;

/* ---------------------------------------------------------------- attention */

enum { TN_CU_ATTENTION_OPERANDS = 16 };

typedef struct tn_cu_attention {
    int64_t batch, heads, kv_heads, queries, keys, d, dv;
    int64_t block_size;  /* > 0: paged */
    int64_t left, right; /* INT64_MAX: no limit */
    int64_t tiles;       /* of rows, of one kv head (ragged: of all sequences together) */
    int64_t units;       /* tiles of all kv heads and sequences */
    int64_t blocks;      /* split: most blocks of keys of a sequence; else 0 */
    int64_t run;         /* split: blocks of keys that a block of attention_mma.cu takes */
    uint64_t slots;      /* split: the blocks' results: TN_CU_SLOT numbers of each row */
    double scale, softcap;
    uint64_t at[TN_CU_ATTENTION_OPERANDS];
    int64_t stride[TN_CU_ATTENTION_OPERANDS][4];
    int32_t type[TN_CU_ATTENTION_OPERANDS];
    int32_t wide[4]; /* q, k, v, o lie so that 16 bytes can be copied at once */
    int32_t align_bottom;
    int32_t unit_rows, block_keys; /* of a unit, of a block: for those who join */
    int32_t stages;                /* of attention_mma.cu: 1 or 2 blocks of keys in shared memory */
} tn_cu_attention;

/* Numbers of a row in the workspace: its sums, an even number of them, maximum and total. */
#define TN_CU_SLOT(dv) (((dv) + 1) / 2 * 2 + 2)
/* attention_mma.cu's shared memory: bytes of what a unit of `rows` rows is, of a row of n 16-bit
 * numbers, of one of results; numbers of a row of scores. */
#define TN_CU_MMA_WORK(rows) (176 + 48 * (rows))
#define TN_CU_MMA_PITCH(n) (((n) + 15) / 16 * 32 + 16)
#define TN_CU_MMA_RESULT(n) ((int)(((n) + 15) / 16 * 64 + 32))
#define TN_CU_MMA_SCORES (TN_CU_MMA_KEYS + 8)

/* ---------------------------------------------------------------- append and merge */

typedef struct tn_cu_append {
    int64_t batch, kv_heads, rows, width;           /* rows: of each sequence, or of all together */
    int64_t block_size;                             /* > 0: paged */
    int64_t elements;                               /* of all rows */
    uint64_t x, cache, scale, positions, cu, table; /* addresses */
    int64_t x_stride[4], cache_stride[4], scale_stride[3];
    int64_t positions_step, cu_step, table_stride[2];
    int32_t x_type, cache_type, scale_type, positions_type, cu_type, table_type;
} tn_cu_append;

/* One part, or the result. */
typedef struct tn_cu_merged {
    uint64_t at;
    int64_t step, row[TN_CU_DIMS];
    int32_t type, reserved;
} tn_cu_merged;

/* Phases of a merge: all at once; or maximum, total, sums and result, each from what the ones
 * before left in the workspace. */
enum {
    TN_CU_MERGE_WHOLE,
    TN_CU_MERGE_WEIGH,
    TN_CU_MERGE_TOTAL,
    TN_CU_MERGE_ADD,
    TN_CU_MERGE_STORE
};

typedef struct tn_cu_merge {
    int64_t rows, dv;
    int64_t extent[TN_CU_DIMS];
    uint64_t state, sums; /* in the workspace, f64: maximum and total of each row; its sums */
    tn_cu_merged o, lse;
    tn_cu_merged o_part[TN_CU_MERGE_PARTS], lse_part[TN_CU_MERGE_PARTS];
    int32_t rank, phase, parts, first; /* first: nothing is in the workspace yet */
} tn_cu_merge;

#endif
