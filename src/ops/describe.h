/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical problems in words: one line for the log, and where two of them differ.
 */
#ifndef TN_DESCRIBE_H
#define TN_DESCRIBE_H

#include "ops/problem.h"

#include <stdbool.h>
#include <stddef.h>

void tn_gemm_describe(const void *problem, char *text, size_t capacity);
void tn_softmax_describe(const void *problem, char *text, size_t capacity);
void tn_attention_describe(const void *problem, char *text, size_t capacity);
void tn_merge_describe(const void *problem, char *text, size_t capacity);
void tn_append_describe(const void *problem, char *text, size_t capacity);
void tn_quantize_describe(const void *problem, char *text, size_t capacity);
void tn_dequantize_describe(const void *problem, char *text, size_t capacity);

/* As in tenon_NAME_plan, of the operations that can be planned; "?" of others. */
const char *tn_op_name(tn_op op);

/* A field of the descriptor with what was planned and what is given. */
typedef struct tn_difference {
    char field[48], planned[32], given[32];
} tn_difference;

/* The first difference of two problems of an operation that can be planned; false if there is
 * none. */
bool tn_problem_difference(tn_op op, const void *planned, const void *given, tn_difference *out);

#endif
