/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numbers.h: the small arithmetic of the backends' drivers. Nothing here checks for overflow:
 * shapes and sizes have been.
 */
#ifndef TN_NUMBERS_H
#define TN_NUMBERS_H

#include <tenon/tensor.h>

static inline int64_t tn_min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t tn_max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
/* a >= 0 */
static inline int64_t tn_ceil_div(int64_t a, int64_t b) {
    return a / b + (a % b != 0);
}
static inline int64_t tn_round_up(int64_t a, int64_t b) {
    return tn_ceil_div(a, b) * b;
}

/* Bytes of one element of a plain type. */
static inline int64_t tn_element_size(tenon_dtype dtype) {
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

#endif
