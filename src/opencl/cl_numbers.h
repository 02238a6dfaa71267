/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_numbers.h: what the drivers of the OpenCL kernels share: a number in an argument, beside the
 * arithmetic of ops/numbers.h.
 */
#ifndef TN_CL_NUMBERS_H
#define TN_CL_NUMBERS_H

#include "ops/numbers.h"

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

#endif
