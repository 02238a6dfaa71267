/* SPDX-License-Identifier: Apache-2.0 */
/*
 * first_gemm.c: plans and launches first_gemm.cl: plain f32 products.
 */
#include "opencl/cl_kernels.h"

static const char *missing(const tn_gemm_problem *p) {
    static const char *const fields[TN_GEMM_ROLES] = {
        "a",       "b",      "c",       "bias",   "residual",      "a_scale", "a_zero",
        "b_scale", "b_zero", "c_scale", "c_zero", "group_offsets", "b_packed"};
    for (int role = TN_GEMM_A; role <= TN_GEMM_C; ++role)
        if (p->operand[role].dtype != TENON_F32)
            return fields[role];
    for (int role = TN_GEMM_BIAS; role < TN_GEMM_ROLES; ++role)
        if (p->operand[role].dtype != TENON_DTYPE_NONE)
            return fields[role];
    return p->pointer_array                         ? "a_array"
           : p->batch_count != 1                    ? "a"
           : p->gated != TENON_GATED_NONE           ? "gated"
           : p->activation != TENON_ACTIVATION_NONE ? "activation"
                                                    : NULL;
}

tenon_status tn_cl_gemm_plan(const tn_cl_limits *limits, const tn_gemm_problem *p, tn_choices *out,
                             tn_message *why) {
    const char *field = missing(p);
    tn_choice choice = {.algorithm = "gemm-first",
                        .kernel = "first_gemm",
                        .reason = "the only one",
                        .seconds = 1e-9 * (double)p->m * (double)p->n * (double)p->k};
    (void)limits;
    if (field)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s: opencl takes plain f32 products only",
                       field);
    tn_choices_offer(out, &choice);
    return TENON_OK;
}

tenon_status tn_cl_gemm_run(tn_cl_work *work, const tn_run *run, tn_message *why) {
    const tn_gemm_problem *p = run->problem;
    tn_cl_launch l = {.program = "first_gemm",
                      .kernel = "first_gemm",
                      .dims = 2,
                      .global = {(size_t)p->n, (size_t)p->m}};
    for (int role = TN_GEMM_A; role <= TN_GEMM_C; ++role) {
        tn_cl_arg_place(&l, &run->places->operand[role]);
        tn_cl_arg_i64(&l, p->operand[role].row);
        tn_cl_arg_i64(&l, p->operand[role].column);
    }
    tn_cl_arg_i64(&l, p->k);
    tn_cl_arg_f32(&l, (float)p->alpha);
    tn_cl_arg_f32(&l, (float)p->beta);
    return tn_cl_launch_add(work, &l, why);
}
