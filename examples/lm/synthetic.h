/* SPDX-License-Identifier: Apache-2.0 */
/*
 * synthetic.h: model files of a named shape with random weights, so that speed can be measured where no weights are at hand. They say
 * nothing sensible, and take the same time.
 */
#ifndef LM_SYNTHETIC_H
#define LM_SYNTHETIC_H

#include "gguf.h"

/*
 * Writes a file for "SHAPE:TYPE", e.g. "llama-3.2-1b:q4_0": shapes as synthetic_shapes lists them; types are tenon's names, or "q4_k_m",
 * which mixes q4_k and q6_k as ggml's quantiser does. Weights are drawn from N(0, 1/k), 256 rows a size that are drawn again and again.
 * False with a sentence.
 */
bool synthetic_write(tenon_context *ctx, const char *name, const char *path, uint64_t seed,
                     char error[512]);

/* The names of all shapes, separated by ", ". */
const char *synthetic_shapes(void);

#endif
