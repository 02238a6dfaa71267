/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Element types as a table: name, block, alignment; and sets of types as bit masks. The public
 * tenon_dtype_* functions are dtype.c's views of the same table. Conversions are the backends'
 * business.
 */
#ifndef TN_DTYPE_H
#define TN_DTYPE_H

#include <tenon/tensor.h>

typedef struct tn_dtype_info {
    tenon_dtype dtype;
    int32_t alignment; /* bytes that the address of a tensor is a multiple of */
    int32_t elements;  /* of one block */
    int32_t bytes;     /* of one block */
    const char *name;
} tn_dtype_info;

/* The row of a type, or NULL if the value is not a type (TENON_DTYPE_NONE is not). */
const tn_dtype_info *tn_dtype_find(tenon_dtype dtype);

/* A set of types: plain types (values below 16) have their own bit, block types (from 64) those
 * above them. */
typedef uint32_t tn_dtypes;
#define TN_DTYPE_BIT(dtype) ((tn_dtypes)1 << ((dtype) < 16 ? (dtype) : (dtype)-48))

enum {
    TN_DTYPES_FLOAT = 1 << TENON_F64 | 1 << TENON_F32 | 1 << TENON_F16 | 1 << TENON_BF16,
    TN_DTYPES_WIDE = 1 << TENON_F64 | 1 << TENON_F32,
    TN_DTYPES_F8 = 1 << TENON_F8_E4M3 | 1 << TENON_F8_E5M2,
    TN_DTYPES_INT8 = 1 << TENON_S8 | 1 << TENON_U8,
    TN_DTYPES_INDEX = 1 << TENON_S32 | 1 << TENON_S64,
    TN_DTYPES_BOOL = 1 << TENON_BOOL,
    TN_DTYPES_BLOCK = 0x7ff << 16, /* TENON_Q8_0 … TENON_NVFP4 */
    TN_DTYPES_BLOCK32 = 0x31f << 16, /* those whose blocks are of 32 elements */
    TN_DTYPES_CACHED = TN_DTYPES_FLOAT | TN_DTYPES_F8 | 1 << TENON_S8 | TN_DTYPES_BLOCK32
};

#endif
