/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a caller's descriptor to a canonical problem, operation by operation. The entry points call, in this order,
 *
 *     tn_<op>_problem_make   shapes, types, attributes, defaults; needs no addresses. The problem compares with memcmp
 *     tn_<op>_addresses      when running: null, alignment, buffers, overlap of outputs with anything else
 *     tn_<op>_check_data     when running: lengths, offsets and tables that are read from memory
 *
 * and only then anything is written. Each fails with INVALID_ARGUMENT or UNSUPPORTED and a sentence with operation, field, value and expectation.
 * tn_<op>_cost counts what plan.h promises: operations (data-dependent lengths at their upper bound) and bytes of all operands, each once.
 */
#ifndef TN_OPS_H
#define TN_OPS_H

#include "core/message.h"
#include "ops/problem.h"

tenon_status tn_gemm_problem_make(const tenon_gemm_desc *desc, tn_gemm_problem *out, tn_message *m);
tenon_status tn_gemm_addresses(const tenon_gemm_desc *desc, const tn_gemm_problem *p,
                               void *addresses[TN_MAX_ADDRESSES], tn_message *m);
tenon_status tn_gemm_check_data(const tn_gemm_problem *p, void *const *addresses, tn_message *m);
/* Only what packing reads: b, b_scale, b_zero. */
tenon_status tn_gemm_pack_addresses(const tenon_gemm_desc *desc, const tn_gemm_problem *p,
                                    void *addresses[TN_MAX_ADDRESSES], tn_message *m);
void tn_gemm_cost(const tn_gemm_problem *p, double *flops, double *bytes);

tenon_status tn_softmax_problem_make(const tenon_softmax_desc *desc, tn_softmax_problem *out,
                                     tn_message *m);
tenon_status tn_softmax_addresses(const tenon_softmax_desc *desc, const tn_softmax_problem *p,
                                  void *addresses[TN_MAX_ADDRESSES], tn_message *m);
void tn_softmax_cost(const tn_softmax_problem *p, double *flops, double *bytes);

tenon_status tn_attention_problem_make(const tenon_attention_desc *desc, tn_attention_problem *out,
                                       tn_message *m);
tenon_status tn_attention_addresses(const tenon_attention_desc *desc, const tn_attention_problem *p,
                                    void *addresses[TN_MAX_ADDRESSES], tn_message *m);
tenon_status tn_attention_check_data(const tn_attention_problem *p, void *const *addresses,
                                     tn_message *m);
void tn_attention_cost(const tn_attention_problem *p, double *flops, double *bytes);

/* `parts` is the caller's room for the addresses of count o parts, then count lse parts; addresses point into it. */
tenon_status tn_merge_problem_make(const tenon_attention_merge_desc *desc, tn_merge_problem *out,
                                   tn_message *m);
tenon_status tn_merge_addresses(const tenon_attention_merge_desc *desc, const tn_merge_problem *p,
                                void *addresses[TN_MAX_ADDRESSES],
                                void *parts[2 * TN_MERGE_MAX_PARTS], tn_message *m);
void tn_merge_cost(const tn_merge_problem *p, double *flops, double *bytes);

tenon_status tn_append_problem_make(const tenon_kv_append_desc *desc, tn_append_problem *out,
                                    tn_message *m);
tenon_status tn_append_addresses(const tenon_kv_append_desc *desc, const tn_append_problem *p,
                                 void *addresses[TN_MAX_ADDRESSES], tn_message *m);
tenon_status tn_append_check_data(const tn_append_problem *p, void *const *addresses,
                                  tn_message *m);
void tn_append_cost(const tn_append_problem *p, double *flops, double *bytes);

#endif
