/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks that all operations share: what makes a tensor, a scalar or an address acceptable, and
 * the sentence when it is not. An operation first checks shapes (nothing is dereferenced but the
 * descriptor, so that plans need no addresses), then, when it runs, addresses.
 *
 * Every function that can fail names field, value and expectation in the message (NULL: nobody
 * listens; the call's name is put before it by who leaves the context) and returns INVALID_ARGUMENT
 * unless it says otherwise.
 */
#ifndef TN_TENSOR_CHECK_H
#define TN_TENSOR_CHECK_H

#include "core/message.h"
#include "ops/dtype.h"
#include "ops/index.h"

#include <stdbool.h>

#include <tenon/softmax.h>

/* ---------------------------------------------------------------- scalars */

/* 0 … last. */
tenon_status tn_check_enum(tn_message *m, const char *field, int64_t value, int64_t last);

/* Neither NaN nor infinite. */
tenon_status tn_check_finite(tn_message *m, const char *field, double value);

/* Finite and at least 0. */
tenon_status tn_check_not_negative(tn_message *m, const char *field, double value);

/* The field `window`: sides are given only to one that is enabled. */
tenon_status tn_check_window(tn_message *m, const tenon_window *window);

/* ---------------------------------------------------------------- shapes */

enum {
    TN_TENSOR_OPTIONAL = 1, /* may be absent */
    TN_TENSOR_OUTPUT = 2    /* no element may share memory with another */
};

/* "(2, 3)": room for TENON_MAX_RANK extents of 20 characters. */
typedef struct tn_shape_text {
    char text[192];
} tn_shape_text;

tn_shape_text tn_shape_format(int32_t rank, const int64_t *shape);

/* Absent: neither data nor buffer nor a rank. */
static inline bool tn_tensor_present(const tenon_tensor *t) {
    return t->data || t->buffer || t->rank != 0;
}

/* No elements. The tensor has been checked. */
bool tn_tensor_empty(const tenon_tensor *t);

/*
 * Writes dense row-major strides into a tensor that has all strides zero. The tensor has been
 * checked.
 */
void tn_tensor_fill_strides(tenon_tensor *t);

/* Largest `offset` of a tensor. */
#define TN_MAX_OFFSET ((size_t)(INT64_MAX / 2))

/*
 * The bytes that a checked tensor covers, relative to its start (both 0: none); returns what its
 * start is aligned to.
 */
int64_t tn_tensor_reach(const tenon_tensor *t, int64_t *low, int64_t *high);

/*
 * Everything about a tensor but its address: type in `dtypes`, rank, extents, strides (filled in if
 * all zero), sizes that fit.
 *
 * Afterwards the product of max(extent, 1) is at most 2^48, and so does every element's byte offset
 * from the start, the tensor's `offset` included.
 */
tenon_status tn_check_tensor(tn_message *m, const char *field, tenon_tensor *t, tn_dtypes dtypes,
                             int32_t min_rank, int32_t max_rank, unsigned flags);

/*
 * Of a block type: that its blocks lie along dimension `dim`, called `meaning`. That strides and
 * extents are of whole blocks has been seen by tn_check_tensor, for the dimension of stride 1.
 */
tenon_status tn_check_blocks_along(tn_message *m, const char *field, const tenon_tensor *t,
                                   int32_t dim, const char *meaning);

/* One extent: "q.shape[3] is 5, expected 4 (d of k)". */
tenon_status tn_check_extent(tn_message *m, const char *field, const tenon_tensor *t, int32_t dim,
                             int64_t expected, const char *meaning);

/* The whole shape: "y.shape is (3, 4), expected (3, 5) (the shape of x)". */
tenon_status tn_check_shape(tn_message *m, const char *field, const tenon_tensor *t, int32_t rank,
                            const int64_t *shape, const char *meaning);

/*
 * Strides with which `t` broadcasts to `shape` as in NumPy: 0 where it repeats. `meaning`: "(…, m,
 * n)".
 */
tenon_status tn_check_broadcast(tn_message *m, const char *field, const tenon_tensor *t,
                                int32_t rank, const int64_t *shape, const char *meaning,
                                int64_t *stride);

/* ---------------------------------------------------------------- addresses */

/*
 * Where a checked tensor starts: data or buffer, plus offset. NULL if it is absent or has no
 * elements and no address.
 *
 * Wants an address, aligned to the element; one of data and buffer; a span inside the buffer.
 * UNSUPPORTED if the buffer has no host address.
 */
tenon_status tn_check_address(tn_message *m, const char *field, const tenon_tensor *t,
                              void **address);

/*
 * Refuses an output that shares memory with another operand.
 *
 * Decides by byte ranges, and for interleaved slices (columns of one matrix, packed Q, K and V) by
 * their position within a common pitch: never lets an overlap pass; what it refuses without need
 * are layouts of incommensurable strides. `may_be_same`: the same start, type and strides are
 * accepted.
 */
tenon_status tn_check_apart(tn_message *m, const char *out_field, const tenon_tensor *out,
                            const void *out_address, const char *field, const tenon_tensor *t,
                            const void *address, bool may_be_same);

/*
 * ---------------------------------------------------------------- lengths and offsets, once
 * addresses are there
 */

/* count + 1 offsets that start with 0, never fall and end with at most `total`. */
tenon_status tn_check_offsets(tn_message *m, const char *field, tenon_dtype dtype,
                              const void *address, int64_t stride, int64_t count, int64_t total);

#endif
