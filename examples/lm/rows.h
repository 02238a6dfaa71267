/* SPDX-License-Identifier: Apache-2.0 */
/* rows.h: what a decoder does to rows of floats between its products. */
#ifndef LM_ROWS_H
#define LM_ROWS_H

#include <stdint.h>

#include <tenon/tensor.h>

/* y[i, :] = x[i, :] / sqrt(mean(x[i, :]²) + epsilon) · weight (Zhang and Sennrich, 2019); dense rows. */
void rows_rms_norm(float *y, const float *x, const float *weight, int64_t rows, int64_t width,
                   double epsilon);

/* Cosines and sines of position · base^(-2p/width) / factor[p] for p < width/2, as pairs; factor may be NULL. */
void rows_rotation(float *pairs, int64_t position, int64_t width, double base, const float *factor);

/* Rotates neighbours (2p, 2p+1) of each of `heads` heads (Su et al., 2021, with the pairs that GGUF's weights are permuted for). */
void rows_rotate(float *row, int64_t heads, int64_t head, const float *pairs, int64_t width);

/* y[i] = x[i], x of f32, f16 or bf16. */
void rows_widen(float *y, const void *x, tenon_dtype dtype, int64_t count);

/* x[i] *= y[i] */
void rows_multiply(float *x, const float *y, int64_t count);

#endif
