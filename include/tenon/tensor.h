/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/tensor.h: element types, and the one way in which operands are described.
 *
 * A tensor is an address, an element type, extents and strides: it owns nothing and is passed by value. Transposes, slices and
 * broadcasts are strides, never flags and never copies. Example, an m×k matrix stored column by column:
 *
 *     tenon_tensor a = tenon_transposed(tenon_matrix(data, TENON_F32, k, m));
 */
#ifndef TENON_TENSOR_H
#define TENON_TENSOR_H

#include <tenon/memory.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Largest number of dimensions of a tensor. */
#define TENON_MAX_RANK 8

/** Element types. Values never change. Block-quantised types count elements in shapes and strides as all others do. */
typedef enum tenon_dtype {
    TENON_DTYPE_NONE = 0,
    TENON_F64 = 1,
    TENON_F32 = 2,
    TENON_F16 = 3,     /**< IEEE 754 binary16 */
    TENON_BF16 = 4,    /**< the upper half of binary32 */
    TENON_F8_E4M3 = 5, /**< OCP FP8 E4M3 "fn": no infinities, NaN is 0x7f / 0xff, largest 448 */
    TENON_F8_E5M2 = 6, /**< OCP FP8 E5M2: infinities and NaN as IEEE has them, largest 57344 */
    TENON_S8 = 7,
    TENON_U8 = 8,
    TENON_S32 = 9,
    TENON_S64 = 10,    /**< indices and offsets only */
    TENON_BOOL = 11,   /**< one byte; zero is false, anything else true */
    /* Blocks of elements with scales, bit-compatible with GGUF (layouts in docs/NUMERICS.md). */
    TENON_Q8_0 = 64,
    TENON_Q4_0 = 65,
    TENON_Q4_1 = 66,
    TENON_Q5_0 = 67,
    TENON_Q5_1 = 68,
    TENON_Q4_K = 69,
    TENON_Q5_K = 70,
    TENON_Q6_K = 71,
    TENON_IQ4_NL = 72,
    TENON_MXFP4 = 73,
    TENON_NVFP4 = 74
} tenon_dtype;

/** Short name, e.g. "f32", "f8_e4m3", "q4_k"; "none" for TENON_DTYPE_NONE, "?" for a value that is not a type. */
TENON_API const char *tenon_dtype_name(tenon_dtype dtype);

/** The type whose tenon_dtype_name is `name`, or TENON_DTYPE_NONE. */
TENON_API tenon_dtype tenon_dtype_from_name(const char *name);

/**
 * Elements and bytes of one block of a type; plain types are blocks of one element. Either pointer may be NULL.
 * @return TENON_OK, or INVALID_ARGUMENT if `dtype` is not a type (outputs untouched).
 */
TENON_API tenon_status tenon_dtype_block(tenon_dtype dtype, int64_t *elements, size_t *bytes);

/**
 * An operand.
 *
 * Element (i0, …, i[rank-1]) lies `sum of i[d]·stride[d]` elements after the start. The start is `data` plus `offset` bytes or, with
 * `buffer` set, the buffer's beginning plus `offset` bytes (then `data` must be NULL).
 *
 * - At most 2^48 elements.
 * - Strides count elements. All strides zero (the zero-initialised state) means dense, row-major. A stride of 0 repeats an element (inputs
 *   only); an extent of 1 broadcasts where the operation says so.
 * - One element repeated in every direction is therefore not said by zeros everywhere, but by extents of 1 where those broadcast, else by
 *   one more leading extent of 1 with stride 1: shape (1, m, k), stride (1, 0, 0), if the operation takes that rank.
 * - Strides of inputs may have any sign; outputs must not overlap themselves.
 * - Absent means data == NULL and buffer == NULL and rank == 0. A tensor with an extent of 0 may have NULL data.
 * - `data` is aligned to its element's size (block types with f16 scales: to 2 bytes; those with 8-bit scales: to any).
 */
typedef struct tenon_tensor {
    void *data;
    tenon_buffer *buffer;
    size_t offset; /**< bytes */
    tenon_dtype dtype;
    int32_t rank;
    int64_t shape[TENON_MAX_RANK];
    int64_t stride[TENON_MAX_RANK];
} tenon_tensor;

/** A dense row-major tensor of `rank` ≤ TENON_MAX_RANK dimensions. `data` is not written through unless the tensor is an output. */
static inline tenon_tensor tenon_dense(const void *data, tenon_dtype dtype, int32_t rank, const int64_t *shape)
{
    tenon_tensor t;
    int64_t stride = 1;
    int32_t d;
    t.data = (void *)data;
    t.buffer = NULL;
    t.offset = 0;
    t.dtype = dtype;
    t.rank = rank;
    for (d = 0; d < TENON_MAX_RANK; ++d) {
        t.shape[d] = 0;
        t.stride[d] = 0;
    }
    for (d = rank - 1; d >= 0 && rank <= TENON_MAX_RANK; --d) {
        t.shape[d] = shape[d];
        t.stride[d] = stride;
        /* Unsigned, so that absurd extents wrap here and are refused by the call that gets them. */
        stride = (int64_t)((uint64_t)stride * (uint64_t)(shape[d] > 0 ? shape[d] : 1));
    }
    return t;
}

/**
 * A tensor of `rank` ≤ TENON_MAX_RANK dimensions with strides in elements, one for each dimension. Beware: all strides 0 mean
 * dense, not one element repeated; how that is said is at tenon_tensor.
 */
static inline tenon_tensor tenon_strided(const void *data, tenon_dtype dtype, int32_t rank, const int64_t *shape, const int64_t *stride)
{
    tenon_tensor t = tenon_dense(data, dtype, rank, shape);
    int32_t d;
    for (d = 0; d < rank && rank <= TENON_MAX_RANK; ++d)
        t.stride[d] = stride[d];
    return t;
}

/** A dense vector of n elements. */
static inline tenon_tensor tenon_vector(const void *data, tenon_dtype dtype, int64_t n)
{
    return tenon_dense(data, dtype, 1, &n);
}

/** A dense row-major rows × columns matrix. */
static inline tenon_tensor tenon_matrix(const void *data, tenon_dtype dtype, int64_t rows, int64_t columns)
{
    int64_t shape[2];
    shape[0] = rows;
    shape[1] = columns;
    return tenon_dense(data, dtype, 2, shape);
}

/** A dense tensor of three dimensions. */
static inline tenon_tensor tenon_tensor3(const void *data, tenon_dtype dtype, int64_t s0, int64_t s1, int64_t s2)
{
    int64_t shape[3];
    shape[0] = s0;
    shape[1] = s1;
    shape[2] = s2;
    return tenon_dense(data, dtype, 3, shape);
}

/** A dense tensor of four dimensions. */
static inline tenon_tensor tenon_tensor4(const void *data, tenon_dtype dtype, int64_t s0, int64_t s1, int64_t s2, int64_t s3)
{
    int64_t shape[4];
    shape[0] = s0;
    shape[1] = s1;
    shape[2] = s2;
    shape[3] = s3;
    return tenon_dense(data, dtype, 4, shape);
}

/** The same elements with dimensions d0 and d1 exchanged: a view. Strides must be set (as all constructors here do). */
static inline tenon_tensor tenon_swapped(tenon_tensor t, int32_t d0, int32_t d1)
{
    int64_t shape = t.shape[d0], stride = t.stride[d0];
    t.shape[d0] = t.shape[d1];
    t.stride[d0] = t.stride[d1];
    t.shape[d1] = shape;
    t.stride[d1] = stride;
    return t;
}

/** The last two dimensions exchanged: the transposed matrix, or batch of matrices. Rank must be at least 2. */
static inline tenon_tensor tenon_transposed(tenon_tensor t)
{
    return tenon_swapped(t, t.rank - 2, t.rank - 1);
}

/** A dense matrix inside a buffer, `offset` bytes from its beginning. */
static inline tenon_tensor tenon_matrix_in(tenon_buffer *buffer, size_t offset, tenon_dtype dtype, int64_t rows, int64_t columns)
{
    tenon_tensor t = tenon_matrix(NULL, dtype, rows, columns);
    t.buffer = buffer;
    t.offset = offset;
    return t;
}

#ifdef __cplusplus
}
#endif
#endif
