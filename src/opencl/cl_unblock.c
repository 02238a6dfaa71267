/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_unblock.c: rows of blocks to numbers on OpenCL devices: the numbers that kernels/unblock.cl
 * gets. The other way, which searches for scales, is not there yet.
 */
#include "opencl/cl_kernels.h"
#include "ops/blocks.h"

#include <stdio.h>

/* As struct unblock of kernels/unblock.cl. */
enum { DIMS = TENON_MAX_RANK - 1, UNIT = 32 };
typedef struct unblock_numbers {
    int64_t units, rows;
    int64_t extent[DIMS];
    int64_t x_start, x_row[DIMS];
    int64_t y_start, y_row[DIMS], y_step;
    int32_t rank, x_type, y_type, reserved;
} unblock_numbers;

tenon_status tn_cl_dequantize_plan(const tn_cl_limits *limits, const tn_dequantize_problem *p,
                                   tn_choices *out) {
    tn_choice choice;
    memset(&choice, 0, sizeof choice);
    choice.algorithm = "unblock";
    choice.kernel = "unblock_units";
    choice.reason = "the only one";
    choice.fills = 1u << TN_QUANTIZE_Y;
    choice.seconds =
        (double)p->rows * (double)p->n * 1e-9 / (limits->units ? limits->units : 1) + 15e-6;
    out->count = 0;
    tn_choices_offer(out, &choice);
    return TENON_OK;
}

tenon_status tn_cl_dequantize_run(tn_cl_work *work, const tn_run *run, tn_message *why) {
    const tn_dequantize_problem *p = run->problem;
    const tn_merge_operand *x = &p->operand[TN_QUANTIZE_X], *y = &p->operand[TN_QUANTIZE_Y];
    const int64_t size = tn_element_size(y->dtype);
    unblock_numbers n = {.units = p->n / UNIT,
                         .rows = p->rows,
                         .x_start = (int64_t)run->places->operand[TN_QUANTIZE_X].offset,
                         .y_start = (int64_t)run->places->operand[TN_QUANTIZE_Y].offset,
                         .y_step = y->step * size,
                         .rank = p->rank,
                         .x_type = (int32_t)x->dtype,
                         .y_type = (int32_t)y->dtype};
    const tn_cl_limits *limits = tn_cl_work_limits(work);
    const bool wide = limits->family == TN_CL_GPU_LIKE && limits->group_items >= 64 &&
                      limits->group_extent[0] >= 64;
    const int64_t group =
        wide ? 64 : 1; /* named: drivers build kernels again for each that they choose */
    tn_cl_launch l = {.program = "unblock",
                      .kernel = "unblock_units",
                      .options = "-DTN_SUM=0 -DTN_WIDTH=1",
                      .dims = 2,
                      .global = {(size_t)tn_round_up(n.units, group), (size_t)n.rows},
                      .local = {(size_t)group, 1}};
    for (int32_t d = 0; d < DIMS; d++) {
        const bool there = d < p->rank;
        n.extent[d] = there ? p->extent[d] : 1;
        n.x_row[d] = there ? tn_bytes_of(x->dtype, x->row[d]) : 0;
        n.y_row[d] = there ? y->row[d] * size : 0;
    }
    tn_cl_arg_memory(&l, &run->places->operand[TN_QUANTIZE_X]);
    tn_cl_arg_memory(&l, &run->places->operand[TN_QUANTIZE_Y]);
    tn_cl_arg_bytes(&l, &n, sizeof n);
    return tn_cl_launch_add(work, &l, why);
}
