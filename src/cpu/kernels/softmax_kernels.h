/* SPDX-License-Identifier: Apache-2.0 */
/*
 * softmax_kernels.h: what the softmax and attention drivers may call of one compute type at one
 * level.
 *
 * "Real" below is the compute type, float or double. Rules that make all levels and all ways
 * through the drivers give the same bits:
 * - a row is cut in chunks of TN_SOFTMAX_CHUNK elements (attention: blocks of TN_ATTENTION_BLOCK
 * keys), counted from element 0;
 * - element j adds its exponential to lane j mod 16 of its chunk, j ascending; lanes are then
 * joined as i and i + 8, i + 4, i + 2, i + 1;
 * - chunks are joined in ascending order. What is masked adds exactly nothing, so leaving it out
 * changes no bit. Scores of masked elements are -inf from the mask on: nothing that they were
 * computed from can leak.
 */
#ifndef TN_SOFTMAX_KERNELS_H
#define TN_SOFTMAX_KERNELS_H

#include <stdint.h>

#include <tenon/tensor.h>

#include "cpu/cpu_features.h"
#include "cpu/kernels/gemm_kernels.h"

/* Elements of a chunk: x and y of f32 stay in a 32 KB L1 between the passes. Part of the definition
 * of the result: the same everywhere. */
#define TN_SOFTMAX_CHUNK 2048
/* Lanes of a sum. */
#define TN_SOFTMAX_LANES 16
/* Keys of a block of attention. Part of the definition of the result, as above. A multiple of every
 * tile width and of the lanes. */
#define TN_ATTENTION_BLOCK 256

/* Maximum of some scores and the sum of exp(score - maximum): real values, widened. Nothing at all:
 * { -inf, 0 }. */
typedef struct tn_softmax_part {
    double max, sum;
} tn_softmax_part;

/* What happens to the scores of one row after scaling, and which of them count: s -> softcap -> +
 * alibi -> + bias -> masks. */
typedef struct tn_score_row {
    const char *bias;             /* of element 0; NULL: none */
    const uint8_t *mask;          /* of element 0; NULL: none */
    tn_row_load_fn *bias_load;    /* NULL: bias is an array of reals */
    int64_t bias_step, bias_size; /* elements; bytes of an element */
    int64_t mask_step;
    int64_t position;      /* of the query */
    int64_t lo, hi;        /* elements outside [lo, hi) are masked */
    double softcap, slope; /* 0: none */
} tn_score_row;

typedef struct tn_softmax_row {
    tn_score_row score;
    const char *x;
    char *y;
    tn_row_load_fn *x_load;   /* NULL: x is an array of reals */
    tn_row_store_fn *y_store; /* NULL: y is an array of reals */
    int64_t x_step, x_size, y_step, y_size;
    int64_t length;
    double scale;
    int32_t log;
    int32_t plain;  /* nothing of `score` is in use */
    int32_t stream; /* y is written around the caches (it is an array of reals, and not x) */
    void *buffer;   /* TN_SOFTMAX_BUFFER reals, where not all is plain and real */
    /*
     * Where exponentials wait from reduce to finish, unless the logarithm is wanted: those of chunk
     * c at waiting + c * waiting_step, TN_SOFTMAX_BUFFER reals (the last chunk: its length, rounded
     * up to a group); NULL: in y, an array of reals. Steps of 0 where finish follows reduce at
     * once; may then be the buffer.
     */
    void *waiting;
    int64_t waiting_step;
} tn_softmax_row;

/* A chunk of scores and room for a group that runs over it. */
#define TN_SOFTMAX_BUFFER (TN_SOFTMAX_CHUNK + TN_SOFTMAX_LANES)

/* Rows of at most one chunk without masks, reals in and out: y = softmax(scale * x), or its
 * logarithm. Strides in elements. */
typedef struct tn_softmax_rows {
    const void *x;
    void *y;
    int64_t x_row, y_row; /* rows: from row to row. columns: along the axis */
    int64_t length, rows;
    double scale;
    int32_t log;
    int32_t stream;         /* rows: as in tn_softmax_row */
    tn_softmax_part *parts; /* NULL, or one per row */
} tn_softmax_rows;

/* One row of scores of one block of keys, on its way to weights. */
typedef struct tn_attention_weights {
    const tn_score_row *row;
    void *s; /* reals, in: scores of keys first ... (only [a, b) matter), out: weights, 0 outside
                [a, b) up to the 16-groups that clear_a and clear_b lie in */
    const void *k_scale, *v_scale; /* NULL, or reals, one per key of the block */
    uint8_t *dead;                 /* NULL, or out: 1 for each key of the block that is masked */
    int64_t first;                 /* key that s starts with, a multiple of TN_ATTENTION_BLOCK */
    int64_t a, b;                  /* visible part of the block, not empty */
    int64_t clear_a, clear_b;
} tn_attention_weights;

/*
 * A few rows and some keys, k or v of which are read where they lie. Scores: y[i * y_step + j] =
 * sum over p < width of a[i * a_step + p] * line[j][p], for i < rows, j < keys. Values: y[i *
 * y_step + p] = sum over j < keys of a[i * a_step + j] * line[j][p], for i < rows, p < width.
 */
typedef struct tn_attention_walk {
    const void *const
        *line; /* of each key, and of `ahead` keys more, which are fetched meanwhile */
    int64_t keys, ahead, width;
    const void *a; /* reals */
    void *y;       /* reals; values: rows have room for whole vectors */
    int64_t rows, a_step, y_step;
    bool chain; /* the sums go on from y instead of starting from zero */
} tn_attention_walk;
typedef void tn_attention_walk_fn(const tn_attention_walk *t);

/* Indexed by tenon_dtype, block types among them. */
#define TN_ATTENTION_DTYPES ((int)TENON_Q8_0 + (int)TN_BLOCKS)

typedef struct tn_softmax_kernels {
    const char *softmax_name, *attention_name; /* "softmax_f32_avx2" */
    tenon_dtype type;
    tn_cpu_level level;

    /* Chunk `chunk` of a row: its maximum and sum. Leaves the exponentials where finish will look
     * for them. */
    tn_softmax_part (*reduce)(const tn_softmax_row *row, int64_t chunk);
    /* Joins the parts of a row in order, and the sink (-inf: none). */
    tn_softmax_part (*join)(const tn_softmax_part *parts, int64_t count, double sink);
    /* Writes chunk `chunk` of y, after reduce of all chunks. */
    void (*finish)(const tn_softmax_row *row, int64_t chunk, const tn_softmax_part *own,
                   const tn_softmax_part *total);
    /* Whole rows, each along contiguous elements. */
    void (*rows)(const tn_softmax_rows *t);
    /* Whole rows side by side: element j of row r at x[j * x_row + r]. */
    void (*columns)(const tn_softmax_rows *t);

    /* Scores to weights. */
    tn_softmax_part (*weights)(const tn_attention_weights *t);
    /* Joins a block into what is known so far: for each row, o (ld elements apart) and its part. A
     * row whose block part is empty is left alone. */
    void (*merge)(int64_t rows, int64_t width, int64_t ld, void *o, tn_softmax_part *part,
                  const void *o_block, const tn_softmax_part *block);
    /* Joins the sink (-inf: none) and divides o by the sum. False if some element came out as NaN
     * or infinite. */
    bool (*divide)(void *o, int64_t width, tn_softmax_part *part, double sink);
    /* Both products, by the type of k or v; NULL: pack, and use the tiles. */
    tn_attention_walk_fn *walk_scores[TN_ATTENTION_DTYPES], *walk_values[TN_ATTENTION_DTYPES];
} tn_softmax_kernels;

#define TN_SOFTMAX_KERNELS(type, level)                                                            \
    extern const tn_softmax_kernels tn_softmax_kernels_##type##_##level;
#include "cpu/kernels/softmax_kernels.def"
#undef TN_SOFTMAX_KERNELS

#endif
