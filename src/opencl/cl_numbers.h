/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_numbers.h: what the drivers of the OpenCL kernels share: a number in an argument, sizes of
 * elements, divisions that round up. Nothing here checks for overflow: shapes and sizes have been.
 */
#ifndef TN_CL_NUMBERS_H
#define TN_CL_NUMBERS_H

#include <tenon/tensor.h>

#include <string.h>

/* As double_bits of kernels/number.cl: kernels without f64 read the f32 next to it. */
typedef struct tn_cl_number {
    uint64_t wide;
    float narrow;
    int32_t reserved;
} tn_cl_number;

static inline tn_cl_number tn_cl_number_of(double value) {
    tn_cl_number n = {.narrow = (float)value};
    memcpy(&n.wide, &value, sizeof value);
    return n;
}

static inline int64_t tn_cl_element(tenon_dtype dtype) {
    switch (dtype) {
    case TENON_F64:
    case TENON_S64:
        return 8;
    case TENON_F32:
    case TENON_S32:
        return 4;
    case TENON_F16:
    case TENON_BF16:
        return 2;
    default:
        return 1;
    }
}

/* a >= 0 */
static inline int64_t tn_cl_ceil(int64_t a, int64_t b) {
    return a / b + (a % b != 0);
}
static inline int64_t tn_cl_round(int64_t a, int64_t b) {
    return tn_cl_ceil(a, b) * b;
}
static inline int64_t tn_cl_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t tn_cl_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

#endif
