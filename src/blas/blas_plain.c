/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_plain.c: the last resort. BLAS can't answer that there is no memory, so a product must be
 * had without any; and it must be had for what tenon refuses by its rules.
 *
 * Called by tn_blas_multiply. Slow: one thread, no blocking, fma as a call of libm.
 */
#include "blas.h"

#include <math.h>
#include <string.h>

#define BLOCK 256 /* of k: docs/NUMERICS.md, 3.1 */

#define REAL float
#define FMA fmaf
#define NAME(function) function##_f32
#include "blas_plain.inc"
#undef REAL
#undef FMA
#undef NAME

#define REAL double
#define FMA fma
#define NAME(function) function##_f64
#include "blas_plain.inc"

void tn_blas_plain(const tn_blas_product *p) {
    (p->dtype == TENON_F32 ? multiply_f32 : multiply_f64)(p);
}
