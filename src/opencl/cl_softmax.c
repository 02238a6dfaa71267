/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_softmax.c: softmax on OpenCL devices: one kernel for all of it, kernels/softmax.cl, without
 * workspace; only how many rows a work item takes, and how wide a vector is, is chosen.
 */
#include "opencl/cl_kernels.h"
#include "opencl/cl_numbers.h"

#include <stdio.h>

/* As struct softmax of kernels/softmax.cl. */
enum { DIMS = TENON_MAX_RANK - 1 };
typedef struct softmax_numbers {
    int64_t length, rows;
    int64_t extent[DIMS];
    int64_t offset, left, right;
    tn_cl_number scale, softcap;
    int64_t start[TN_SOFTMAX_ROLES], step[TN_SOFTMAX_ROLES], row[TN_SOFTMAX_ROLES][DIMS];
    int32_t type[TN_SOFTMAX_ROLES];
    int32_t rank, query_dim, as_log;
} softmax_numbers;

_Static_assert(sizeof(softmax_numbers) + TN_SOFTMAX_ROLES * 8 <= TN_CL_ARGUMENT_BYTES,
               "a kernel's arguments");

typedef struct softmax_state {
    int32_t sum, width, rows_each;
    int32_t group; /* items of a work-group */
} softmax_state;

_Static_assert(sizeof(softmax_state) <= TN_CHOICE_STATE, "a choice keeps it");

/* Elements worth a work item of their own. */
enum { ELEMENTS_EACH = 4096 };

tenon_status tn_cl_softmax_plan(const tn_cl_limits *limits, const tn_softmax_problem *p,
                                tn_choices *out, tn_message *why) {
    static const char *const names[TN_SOFTMAX_ROLES] = {"x",     "y",     "bias", "mask",
                                                        "alibi", "sinks", "lse"};
    tn_choice choice;
    softmax_state s = {.sum = p->accumulate == TENON_F64, .group = 1};
    out->count = 0;
    for (int role = 0; role < TN_SOFTMAX_ROLES && !limits->fp64; role++)
        if (p->operand[role].dtype == TENON_F64)
            return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                           "%s.dtype is f64, which this device has not got", names[role]);
    if (limits->family == TN_CL_CPU_LIKE) {
        const uint32_t native = s.sum ? limits->double_width : limits->float_width;
        s.width = native >= 8 ? 8 : 4;
        const int64_t each = ELEMENTS_EACH / tn_max64(p->length, 1);
        s.rows_each = each < 1 ? 1 : each > 64 ? 64 : (int32_t)each;
        while (s.rows_each > 1 && p->rows / s.rows_each < 4 * (int64_t)limits->units)
            s.rows_each /= 2;
        /* a power of two: few builds */
        while (s.rows_each & (s.rows_each - 1))
            s.rows_each &= s.rows_each - 1;
    } else {
        s.width = 1;
        s.rows_each = 1;
        s.group = limits->group_items >= 64 && limits->group_extent[0] >= 64 ? 64 : 1;
    }
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, &s, sizeof s);
    choice.algorithm = "softmax-rows";
    choice.kernel = "softmax_rows";
    choice.reason = "the only one";
    choice.fills = 1u << TN_SOFTMAX_Y | 1u << TN_SOFTMAX_LSE;
    choice.seconds =
        (double)p->rows * (double)p->length * 1e-9 / (limits->units ? limits->units : 1) + 15e-6;
    tn_choices_offer(out, &choice);
    return TENON_OK;
}

tenon_status tn_cl_softmax_run(tn_cl_work *work, const tn_run *run, tn_message *why) {
    const tn_softmax_problem *p = run->problem;
    softmax_state s;
    softmax_numbers n = {.length = p->length,
                         .rows = p->rows,
                         .offset = p->offset,
                         .left = p->left,
                         .right = p->right,
                         .scale = tn_cl_number_of(p->scale),
                         .softcap = tn_cl_number_of(p->softcap),
                         .rank = p->rank,
                         .query_dim = p->query_dim,
                         .as_log = p->log};
    char options[TN_CL_OPTIONS];

    memcpy(&s, run->choice->state, sizeof s);
    snprintf(options, sizeof options, "-DTN_SUM=%d -DTN_WIDTH=%d -DTN_ROWS=%d -DTN_GROUP=%d", s.sum,
             s.width, s.rows_each, s.group);
    tn_cl_launch l = {.program = "softmax",
                      .kernel = "softmax_rows",
                      .options = options,
                      .dims = 1,
                      .global = {(size_t)tn_round_up(tn_ceil_div(p->rows, s.rows_each), s.group)},
                      .local = {(size_t)s.group}};
    for (int32_t d = 0; d < DIMS; d++)
        n.extent[d] = d < p->rank ? p->extent[d] : 1;
    for (int role = 0; role < TN_SOFTMAX_ROLES; role++) {
        const tn_softmax_operand *o = &p->operand[role];
        const int64_t size = tn_element_size(o->dtype);
        n.type[role] = (int32_t)o->dtype;
        n.start[role] = (int64_t)run->places->operand[role].offset;
        n.step[role] = o->step * size;
        for (int32_t d = 0; d < p->rank; d++)
            n.row[role][d] = o->row[d] * size;
        tn_cl_arg_memory(&l, &run->places->operand[role]);
    }
    tn_cl_arg_bytes(&l, &n, sizeof n);
    return tn_cl_launch_add(work, &l, why);
}
