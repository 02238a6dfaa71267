/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_kernels.h: what a GEMM driver may call: microkernels, packing, vector-matrix kernels and row
 * conversion.
 *
 * A tile family (one row of gemm_tiles.def) is all of these for one compute type, level and tile
 * shape. The drivers see it through tn_gemm_tile; kernels never know of threads, K blocks or the
 * problem. Rule for all of them: within one call each output element is one chain of fused
 * multiply-adds over ascending p, so that every kernel gives the same bits.
 */
#ifndef TN_GEMM_KERNELS_H
#define TN_GEMM_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/tensor.h>

#include "cpu/cpu_features.h"

/* How a kernel's sum meets its output. */
typedef enum tn_gemm_meet {
    TN_GEMM_STORE, /* c = sum */
    TN_GEMM_ADD,   /* c = c + sum */
    TN_GEMM_CHAIN  /* the chain starts from c instead of zero: c = fma(a, b, ... c) */
} tn_gemm_meet;

/*
 * Memory that is wanted soon, in pieces as long as a row of a panel of B: a piece of each of `side`
 * rows in turn, `length` times, then of as many rows more (side and length are powers of two).
 * Pieces are fetched; or copied, and what lies `reach` bytes further is fetched. A cursor: who
 * takes pieces moves it on.
 */
typedef struct tn_gemm_walk { /* bytes from a piece to ... */
    int64_t down;             /* that in the next row */
    int64_t on;               /* from the last row: the next in the first row */
    int64_t next;             /* and after `length` of these: the first of more rows */
} tn_gemm_walk;
typedef struct tn_gemm_ahead {
    const char *from;
    char *to;     /* NULL: fetched */
    int64_t left; /* pieces, of whole rows */
    int64_t side, length, reach;
    tn_gemm_walk read, write;
} tn_gemm_ahead;

/*
 * One tile: c[i * ldc + j] meets sum over p < kc of A[i, p] * B[p, j], for i < rows <= mr and j <
 * cols <= nr. a is a panel of width mr. b is a panel of width nr, or, where the family's panels are
 * of its own type in groups of one step, any rows that are ldb apart: B[p, j] = b[p * ldb + j]; it
 * must have nr readable columns, c (of the family's type) only cols. Meanwhile pieces of what lies
 * ahead are fetched or copied, spread over the steps.
 */
typedef struct tn_gemm_ukr_args {
    const void *a, *b;
    void *c;
    int64_t kc, ldb, ldc;
    int32_t rows, cols;
    tn_gemm_meet meet;
    const void *b_tail; /* families with tails: that of B's panel */
    bool settle;        /* B's panel ends with this call's steps: the sums in its tail count */
    int64_t pieces;     /* of what lies ahead */
    tn_gemm_ahead *ahead;
} tn_gemm_ukr_args;
typedef void tn_gemm_ukr_fn(const tn_gemm_ukr_args *t);

/* Memory to fetch: `runs` runs of 2^shift lines, `step` bytes apart. */
typedef struct tn_gemm_lines {
    const void *at;
    int64_t step;
    int32_t runs, shift;
} tn_gemm_lines;

/*
 * A whole product of operands where they lie: c[i * c_row + j] = alpha * sum over p < k of a[i *
 * a_row + p * a_column] * b[p * b_row + j], for i < m and j < n, plus beta times what c held, by a
 * fused multiply-add, unless beta is 0. The chain is not cut: k is at most a block. m, n > 0.
 * Meanwhile what lies ahead, two lots of memory, is fetched, a line with each step (NULL: nothing).
 */
typedef struct tn_gemm_direct_args {
    const void *a, *b;
    void *c;
    int64_t m, n, k;
    int64_t a_row, a_column, b_row, c_row;
    double alpha, beta;
    const tn_gemm_lines *ahead;
} tn_gemm_direct_args;
typedef void tn_gemm_direct_fn(const tn_gemm_direct_args *t);

/*
 * A panel: element (i, p), convert(src[i * along + p * across]) for i < valid and p < kc and zero
 * for other i < width and other p up to a multiple of a_group, is dst[p / group * width * group + i
 * * group + p % group], with a_group for group in panels of A. So with groups of one step row p is
 * dst[p * width ...]. Strides in elements. dst has room for TN_GEMM_SLACK elements more than the
 * panel, and the slack may be overwritten. A family may write a tail behind the steps: `tail` rows
 * of `width` numbers of its type.
 */
typedef struct tn_gemm_pack_args {
    const void *src;
    void *dst;
    int64_t along, across, kc;
    int32_t valid;
} tn_gemm_pack_args;
typedef void tn_gemm_pack_fn(const tn_gemm_pack_args *t);

#define TN_GEMM_SLACK 16

/* Block types, counted from TENON_Q8_0. */
enum {
#define TN_BLOCK_TYPE(type, ...) TN_BLOCK_##type,
#include "cpu/kernels/block_types.def"
#undef TN_BLOCK_TYPE
    TN_BLOCKS
};

/* Bytes of a block's fields that are narrower than 4 bytes, and 4-byte words between them. */
typedef struct tn_block_format {
    int8_t lead, words, trail;
} tn_block_format;

/*
 * Block types come into panels in two steps. First the blocks of some lines (columns, or keys), as
 * many as a vector has lanes, are interleaved: field by field, of all these lines. dst has room for
 * as many bytes. Meanwhile as much, `ahead` bytes on, is fetched (0: nothing).
 */
typedef struct tn_gemm_interleave_args {
    const void *const *line; /* each one's first block; missing lines repeat another */
    void *dst;
    int64_t blocks, ahead;
    tn_block_format format;
} tn_gemm_interleave_args;
typedef void tn_gemm_interleave_fn(const tn_gemm_interleave_args *t);

/* Then they become those lanes of a panel of B. `first` and kc are multiples of 32. */
typedef struct tn_gemm_unblock_args {
    const void *src;   /* interleaved: the block that has the first step */
    void *dst;         /* where the first of the lanes is in the panel */
    int64_t first, kc; /* step in that block that is the panel's first; steps */
} tn_gemm_unblock_args;
typedef void tn_gemm_unblock_fn(const tn_gemm_unblock_args *t);

/*
 * Or they are multiplied as they are, with the same bits as by way of a panel: a few rows times
 * columns whose blocks are interleaved, a panel's after the other, of a panel block of k after
 * block, of a block vector after vector of columns. c (f32) meets the sum over all of k, by
 * TN_GEMM_STORE or TN_GEMM_ADD. k is a multiple of the type's elements.
 */
typedef struct tn_gemm_few_args {
    const void *a, *b; /* a: panels, one for each `block` steps */
    float *c;
    void *scratch;           /* TN_GEMM_FEW_SCRATCH bytes for each of few_cols, in `block` steps */
    int64_t a_block, block;  /* bytes from one to the next; steps */
    int64_t b_block, b_last; /* bytes of a vector's `block` steps, and of what k has beyond them */
    int64_t k, ldc, cols;
    int32_t rows; /* up to TN_GEMM_FEW */
    tn_gemm_meet meet;
} tn_gemm_few_args;
typedef void tn_gemm_few_fn(const tn_gemm_few_args *t);

#define TN_GEMM_FEW 4
#define TN_GEMM_FEW_SCRATCH(block) ((block) / 32 * 40)

/*
 * A few rows times a matrix that is not packed: y[i * y_step + j] = sum over p < k of a[i * a_step
 * + p] * convert(b[p * row + j * column]) for i < rows, j < n, in blocks of `block` steps of p
 * whose sums are added in ascending order. Row or column is 1. `scratch` holds n elements for each
 * row; if column is not 1 there is no need of it.
 */
typedef struct tn_gemv_args {
    const void *a, *b;
    void *y, *scratch;
    int64_t k, block, n, row, column;
    int64_t rows, a_step, y_step; /* rows = 0 means 1 */
    bool chain;                   /* the first block's chains start from y instead of zero */
    bool add;                     /* or its sums are added to y, as those of later blocks are */
} tn_gemv_args;
typedef void tn_gemv_fn(const tn_gemv_args *t);

/* dst[i] = convert(src[i * stride]) to the compute type, and back with rounding and saturation
 * (num_convert.h). */
typedef void tn_row_load_fn(const void *src, int64_t stride, int64_t n, void *dst);
typedef void tn_row_store_fn(const void *src, int64_t n, void *dst, int64_t stride);

/* dst[i] = element first + i of a run of blocks of 32, in f32; first and n are multiples of a
 * vector's lanes. */
typedef void tn_blocks_load_fn(const void *blocks, int64_t first, int64_t n, void *dst);

/* Steps of the epilogue on rows of the compute type: n elements each, any alignment; x may be z. */
typedef struct tn_row_ops {
    void (*scale)(void *z, double alpha, int64_t n);              /* z = alpha * z */
    void (*axpy)(void *z, double beta, const void *x, int64_t n); /* z = fma(beta, x, z) */
    void (*add)(void *z, const void *x, int64_t n);               /* z = z + x */
    void (*mul)(void *z, const void *x, int64_t n);               /* z = z * x */
    void (*quotient)(void *z, const void *x, int64_t n);          /* z = z / x */
    /* z[s * n + i] = scale[i] * (z[s * n + i] - zero[i]) for s < steps; a NULL step is left out */
    void (*dequantise)(void *z, const void *zero, const void *scale, int64_t n, int64_t steps);
    void (*activate)(void *z, int activation, double low, double high, int64_t n);
} tn_row_ops;

/* Plain types, indexed by tenon_dtype; S32 is the last one that a product takes. */
#define TN_GEMM_DTYPES ((int)TENON_S32 + 1)

/* Elements of panels that are no type of the interface: s16; rows of A rounded to bytes, 32 steps
 * with their scale and sums (gemm_q8.c). */
#define TN_S16 ((tenon_dtype)0x100)
#define TN_Q8 ((tenon_dtype)0x101)

/* One way of computing at one level. */
typedef struct tn_gemm_tile {
    const char *name; /* "gemm_f32_6x16_avx2" */
    tenon_dtype type; /* of sums, of the rows that the epilogue works on, and of gemv's a and y */
    tenon_dtype a_panel, b_panel; /* of the elements of packed panels */
    int32_t group;                /* steps of p that lie side by side in a panel of B */
    int32_t a_group;              /* and of A, a multiple; both panels are filled up to it */
    int32_t tail;                 /* rows of the panels' tails; 0: they have none */
    int32_t rate;                 /* multiply-adds a cycle; 0: as lanes and groups have it */
    int32_t a_unit, b_unit;       /* bytes of a lane's a_group steps; 0: elements, nothing more */
    tn_cpu_level level;
    uint32_t needs; /* features of the processor beyond the level's own */
    int32_t mr, nr;
    tn_gemm_ukr_fn *ukr;
    /* A thread calls ukr between these two, which have costs of their own; NULL: nothing to do. */
    void (*begin)(void);
    void (*end)(void);
    tn_gemm_direct_fn *direct;               /* all operands of `type`; NULL: none */
    tn_gemm_pack_fn *pack_a[TN_GEMM_DTYPES]; /* width mr; NULL: not a source of this compute type */
    tn_gemm_pack_fn *pack_b[TN_GEMM_DTYPES]; /* width nr */
    /* Families that take B of blocks (the others: NULL), `lanes` columns at a time: whole vectors
     * of a panel, which lie `lane_bytes` apart. Of types that are not the family's: NULL. */
    tn_gemm_unblock_fn *unblock[TN_BLOCKS];
    tn_gemm_interleave_fn *interleave;
    tn_gemm_few_fn *few[TN_BLOCKS];
    int32_t few_cols; /* that those take at a time, whole panels */
    int32_t lanes, lane_bytes;
    tn_blocks_load_fn *load_blocks[TN_BLOCKS]; /* f32 families, types whose blocks are of 32 */
    tn_gemv_fn *gemv[TN_GEMM_DTYPES];          /* by B's type; NULL: none, use the tiles */
    tn_row_load_fn *load[TN_GEMM_DTYPES];
    tn_row_store_fn *store[TN_GEMM_DTYPES];
    tn_row_ops ops;
    /* Families whose sums are s32 (the others: NULL). Takes zero[i] from the elements `first` to
     * `end` of lane i of a panel; where there are tails, from all of them alone. */
    void (*shift)(void *panel, int64_t width, int64_t first, int64_t end, const int32_t *zero);
    /* Families whose sums wait for the scales of A and B: to[i] = sums[i] * (a * b[i]), b = NULL:
     * ones; to may be sums. */
    void (*scaled)(const void *sums, double a, const float *b, int64_t n, float *to);
} tn_gemm_tile;

#define TN_GEMM_TILE(tag, mr, nr, level, a_panel, b_panel, group, type)                            \
    extern const tn_gemm_tile tn_gemm_tile_##tag##_##level;
#include "cpu/kernels/gemm_tiles.def"
#undef TN_GEMM_TILE

/* Products of block types with A rounded to bytes, counted as the types are. */
#define TN_GEMM_BYTES(variant) extern const tn_gemm_tile tn_gemm_bytes_##variant[TN_BLOCKS];
#include "cpu/kernels/gemm_bytes.def"
#undef TN_GEMM_BYTES

#define TN_GEMM_DOT(tag, variant) extern const tn_gemm_tile tn_gemm_tile_##tag##_##variant;
#include "cpu/kernels/gemm_dots.def"
#undef TN_GEMM_DOT

#endif
