/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_costs.h: `tenon bench attention --costs`: what each feature costs, beside the same shape
 * without it.
 */
#ifndef BENCH_ATTENTION_COSTS_H
#define BENCH_ATTENTION_COSTS_H

#include "attention_case.h"
#include "bench.h"

/* Measures the shape with each feature that it can have, each in turns with the shape as it is, and
 * prints a table, or with settings->json a line for each. False, after a sentence on stderr, when
 * something could not be measured or was wrong. */
bool attention_costs(const attention_shape *shape, tenon_dtype dtype, const char *dtype_word,
                     const bench_settings *settings);

#endif
