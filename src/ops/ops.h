/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a caller's descriptor to a canonical problem, operation by operation. The entry points call,
 * in this order,
 *
 *     tn_<op>_problem_make   shapes, types, attributes, defaults; needs no addresses
 *     tn_<op>_settle         when running: null, alignment, buffers, overlaps
 *     tn_<op>_check_data     when running: lengths, offsets and tables that are read from memory
 *
 * and only then anything is written. Each fails with INVALID_ARGUMENT or UNSUPPORTED and a sentence
 * with field, value and expectation. Descriptors are the entry points' own copies
 * (tn_read_desc): making the problem writes dense strides into them. Operations without a settle of
 * their own use tn_operands_settle. tn_<op>_cost counts what plan.h promises: operations
 * (data-dependent lengths at their upper bound) and bytes of all operands, each once.
 */
#ifndef TN_OPS_H
#define TN_OPS_H

#include "core/message.h"
#include "ops/form.h"
#include "ops/operands.h"
#include "ops/problem.h"

extern const tn_form tn_gemm_form, tn_softmax_form, tn_attention_form, tn_merge_form,
    tn_append_form, tn_quantize_form, tn_dequantize_form;

tenon_status tn_gemm_problem_make(tenon_gemm_desc *desc, tn_gemm_problem *out, tn_message *m);
bool tn_gemm_writes_nothing(const tn_gemm_problem *p);
tenon_status tn_gemm_settle(tn_placement *at, const tn_gemm_problem *p);
/* Its part for pointer arrays: a, b and c. The others have been placed. */
tenon_status tn_gemm_settle_arrays(const tn_placement *at);
tenon_status tn_gemm_check_data(const tn_gemm_problem *p, void *const *addresses, tn_message *m);
bool tn_gemm_is_packed(const tn_gemm_problem *p);
void tn_gemm_cost(const tn_gemm_problem *p, double *flops, double *bytes);

tenon_status tn_softmax_problem_make(tenon_softmax_desc *desc, tn_softmax_problem *out,
                                     tn_message *m);
bool tn_softmax_writes_nothing(const tn_softmax_problem *p);
void tn_softmax_cost(const tn_softmax_problem *p, double *flops, double *bytes);

tenon_status tn_attention_problem_make(tenon_attention_desc *desc, tn_attention_problem *out,
                                       tn_message *m);
bool tn_attention_writes_nothing(const tn_attention_problem *p);
tenon_status tn_attention_check_data(const tn_attention_problem *p, void *const *addresses,
                                     tn_message *m);
void tn_attention_cost(const tn_attention_problem *p, double *flops, double *bytes);

tenon_status tn_merge_problem_make(tenon_attention_merge_desc *desc, tn_merge_problem *out,
                                   tn_message *m);
bool tn_merge_writes_nothing(const tn_merge_problem *p);
/*
 * `parts` is the caller's room for the addresses of count o parts, then count lse parts; addresses
 * point into it.
 */
tenon_status tn_merge_settle(tn_placement *at, const tn_merge_problem *p,
                             void *parts[2 * TN_MERGE_MAX_PARTS]);
/* How dispatch copies its operands, parts included. */
extern const tn_operand_calls tn_merge_copying;
extern const tn_operand_calls tn_gemm_copying; /* of packing too */
void tn_merge_cost(const tn_merge_problem *p, double *flops, double *bytes);

tenon_status tn_append_problem_make(tenon_kv_append_desc *desc, tn_append_problem *out,
                                    tn_message *m);
bool tn_append_writes_nothing(const tn_append_problem *p);
tenon_status tn_append_check_data(const tn_append_problem *p, void *const *addresses,
                                  tn_message *m);
void tn_append_cost(const tn_append_problem *p, double *flops, double *bytes);

tenon_status tn_quantize_problem_make(tenon_quantize_desc *desc, tn_quantize_problem *out,
                                      tn_message *m);
bool tn_quantize_writes_nothing(const tn_quantize_problem *p);
void tn_quantize_cost(const tn_quantize_problem *p, double *flops, double *bytes);

tenon_status tn_dequantize_problem_make(tenon_quantize_desc *desc, tn_dequantize_problem *out,
                                        tn_message *m);
bool tn_dequantize_writes_nothing(const tn_dequantize_problem *p);
void tn_dequantize_cost(const tn_dequantize_problem *p, double *flops, double *bytes);

#endif
