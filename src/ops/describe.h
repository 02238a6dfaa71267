/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical problems in words: one line for the log, and the name of the first field in which two of them differ.
 */
#ifndef TN_DESCRIBE_H
#define TN_DESCRIBE_H

#include "ops/problem.h"

#include <stddef.h>

void tn_gemm_describe(const void *problem, char *text, size_t capacity);
void tn_softmax_describe(const void *problem, char *text, size_t capacity);
void tn_attention_describe(const void *problem, char *text, size_t capacity);
void tn_merge_describe(const void *problem, char *text, size_t capacity);
void tn_append_describe(const void *problem, char *text, size_t capacity);

/* The descriptor's field behind the first difference, or NULL if the problems are equal. */
const char *tn_problem_difference(tn_op op, const void *a, const void *b);

#endif
