/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_quantize.h: the numbers of a dequantisation as its kernel gets them; read by the driver (C)
 * and by the kernel (CUDA C++), so types of fixed size only.
 */
#ifndef TN_CU_QUANTIZE_H
#define TN_CU_QUANTIZE_H

#include <stdint.h>

#define TN_CU_QUANTIZE_RANK 8
/* Units of 32 elements that a warp decodes at a time. */
#define TN_CU_RUN_UNITS 8

typedef struct tn_cu_dequantize {
    uint64_t x, y;
    int64_t rows, n;
    int64_t extent[TN_CU_QUANTIZE_RANK], x_row[TN_CU_QUANTIZE_RANK],
        y_row[TN_CU_QUANTIZE_RANK]; /* bytes; outermost first, 1 and 0 where there are fewer */
    int64_t y_step;                 /* bytes */
    int32_t x_type, y_type;
} tn_cu_dequantize;

#endif
