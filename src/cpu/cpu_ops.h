/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_ops.h: the CPU's drivers, one plan and one run function per operation, as the backend table
 * (cpu_backend.c) calls them.
 *
 * Plans list algorithms for a legal problem and `threads` workers at an instruction-set level; they
 * allocate nothing, and what a choice needs at run time is in its state. Runs follow a choice with
 * its workspace and cannot fail.
 */
#ifndef TN_CPU_OPS_H
#define TN_CPU_OPS_H

#include "core/backend.h"
#include "cpu/cpu_features.h"

tenon_status tn_cpu_softmax_plan(const tn_softmax_problem *p, int threads, tn_cpu_level level,
                                 tn_choices *out, tn_message *why);
void tn_cpu_softmax_run(const tn_run *run);

tenon_status tn_cpu_attention_plan(const tn_attention_problem *p, int threads, tn_cpu_level level,
                                   tn_choices *out, tn_message *why);
void tn_cpu_attention_run(const tn_run *run);

tenon_status tn_cpu_merge_plan(const tn_merge_problem *p, int threads, tn_cpu_level level,
                               tn_choices *out, tn_message *why);
void tn_cpu_merge_run(const tn_run *run);

tenon_status tn_cpu_append_plan(const tn_append_problem *p, int threads, tn_cpu_level level,
                                tn_choices *out, tn_message *why);
void tn_cpu_append_run(const tn_run *run);

tenon_status tn_cpu_quantize_plan(const tn_quantize_problem *p, int threads, tn_cpu_level level,
                                  tn_choices *out);
void tn_cpu_quantize_run(const tn_run *run);
tenon_status tn_cpu_dequantize_plan(const tn_quantize_problem *p, int threads, tn_cpu_level level,
                                    tn_choices *out);
void tn_cpu_dequantize_run(const tn_run *run);

#endif
