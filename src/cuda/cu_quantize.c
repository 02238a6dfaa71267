/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_quantize.c: blocks to numbers as a launch. Numbers to blocks is not there: half of the types
 * look for their scales in an order that is the CPU's.
 */
#include "cuda/cu_quantize.h"

#include "cuda/cu_kernels.h"
#include "ops/blocks.h"
#include "ops/numbers.h"

_Static_assert(sizeof(tn_cu_dequantize) <= TN_CU_PARAMETER_BYTES, "a kernel's struct");
_Static_assert(TN_CU_QUANTIZE_RANK >= TENON_MAX_RANK - 1, "a kernel's struct holds a problem");

enum { WARPS = 8 };
#define MOST_BLOCKS ((int64_t)1 << 20)

tenon_status tn_cu_dequantize_plan(const tn_cu_limits *limits, const tn_dequantize_problem *p,
                                   tn_choices *out, tn_message *why) {
    const double elements = (double)p->rows * (double)p->n,
                 bandwidth =
                     limits->memory_bytes_per_second > 0 ? limits->memory_bytes_per_second : 3e11;
    tn_choice choice;
    (void)why;
    memset(&choice, 0, sizeof choice);
    choice.algorithm = "dequantize";
    choice.kernel = "dequantize";
    choice.reason = "the only one";
    choice.seconds =
        elements * (1 + (double)tn_element_size(p->operand[TN_QUANTIZE_Y].dtype)) / bandwidth +
        4e-6;
    out->count = 0;
    tn_choices_offer(out, &choice);
    return TENON_OK;
}

tenon_status tn_cu_dequantize_run(tn_cu_work *work, const tn_run *run, tn_message *why) {
    const tn_dequantize_problem *p = run->problem;
    const tn_merge_operand *x = &p->operand[TN_QUANTIZE_X], *y = &p->operand[TN_QUANTIZE_Y];
    const int64_t runs = p->rows * tn_ceil_div(p->n, TN_CU_RUN_UNITS * 32);
    tn_cu_dequantize n = {.x = tn_cu_address(&run->places->operand[TN_QUANTIZE_X]),
                          .y = tn_cu_address(&run->places->operand[TN_QUANTIZE_Y]),
                          .rows = p->rows,
                          .n = p->n,
                          .y_step = y->step * tn_element_size(y->dtype),
                          .x_type = (int32_t)x->dtype,
                          .y_type = (int32_t)y->dtype};
    if (runs == 0)
        return TENON_OK;
    for (int32_t d = 0; d < TN_CU_QUANTIZE_RANK; d++) {
        n.extent[d] = d < p->rank ? p->extent[d] : 1;
        n.x_row[d] = d < p->rank ? tn_bytes_of(x->dtype, x->row[d]) : 0;
        n.y_row[d] = d < p->rank ? y->row[d] * tn_element_size(y->dtype) : 0;
    }
    tn_cu_launch l = {.module = "quantize",
                      .kernel = "dequantize",
                      .grid = {(unsigned)tn_min64(tn_ceil_div(runs, WARPS), MOST_BLOCKS)},
                      .group = {WARPS * 32},
                      .parameter_bytes = sizeof n};
    memcpy(l.parameters, &n, sizeof n);
    return tn_cu_launch_add(work, &l, why);
}
