/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Elements of every plain dtype to and from double: what a stored value means, and how a result is
 * rounded into it. docs/NUMERICS.md, "Types", says the same in words. Block types are
 * ops/blocks.h's.
 */
#ifndef TN_REF_CONVERT_H
#define TN_REF_CONVERT_H

#include <tenon/tensor.h>

/* Element `index` of `base`. Exact for every type (s64: below 2^53). */
double tn_ref_get(const void *base, tenon_dtype dtype, int64_t index);

/*
 * Rounds once, to nearest, ties to even, straight from double. f32, f16, bf16 overflow to infinity
 * as IEEE 754 says; f8 types and integers saturate, infinities included. NaN stays NaN; integers
 * store it as 0.
 */
void tn_ref_put(void *base, tenon_dtype dtype, int64_t index, double value);

#endif
