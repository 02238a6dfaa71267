/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_gemm_plan.c: which kernel makes a product, and what that is predicted to cost.
 *
 * How a sum is formed (docs/NUMERICS.md, 3.1, 3.3, 3.8) is a function of the types, the extents of
 * scales and zero points, k, and the device alone; tiles and splits, which follow from everything
 * else, change no bit.
 */
#include "cuda/cu_gemm_plan.h"

#include "ops/dtype.h"

/* Blocks of a launch, at most: the rest is a loop's. */
#define MOST_BLOCKS ((int64_t)1 << 20)

static bool present(const tn_gemm_problem *p, int role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

static tenon_status refuse(const tn_gemm_problem *p, tn_message *why) {
    static const char *const names[] = {"a",        "b",       "c",      "bias",
                                        "residual", "a_scale", "a_zero", "b_scale",
                                        "b_zero",   "c_scale", "c_zero"};
    if (p->pointer_array)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "a_array: pointer arrays are not yet on this device");
    if (present(p, TN_GEMM_B_PACKED))
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "b_packed: not yet on this device");
    for (int role = TN_GEMM_A; role <= TN_GEMM_C_ZERO; role++) {
        const tenon_dtype type = p->operand[role].dtype;
        if (type > TENON_BOOL)
            return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s.dtype is %s: not yet on this device",
                           names[role], tenon_dtype_name(type));
    }
    return TENON_OK;
}

/* ---- facts of a product */

static bool integer(tenon_dtype type) {
    return type == TENON_S8 || type == TENON_U8;
}

/* Whether scales can wait for the sum: they are the same for all of k. */
static bool scales_wait(const tn_gemm_problem *p) {
    for (int role = TN_GEMM_A_SCALE; role <= TN_GEMM_B_SCALE;
         role += TN_GEMM_B_SCALE - TN_GEMM_A_SCALE)
        if (present(p, role) && p->group[role] < p->k)
            return false;
    return true;
}

static bool byte_zero(const tn_gemm_problem *p, int role) {
    return !present(p, role) || integer(p->operand[role].dtype);
}

/* Integers with scales whose sum is exact before they are scaled. */
static bool scaled_integers(const tn_gemm_problem *p) {
    return p->accumulate == TENON_F32 && integer(p->operand[TN_GEMM_A].dtype) &&
           integer(p->operand[TN_GEMM_B].dtype) && scales_wait(p) && byte_zero(p, TN_GEMM_A_ZERO) &&
           byte_zero(p, TN_GEMM_B_ZERO);
}

/* Multiply-adds. */
static double work_of(const tn_gemm_problem *p) {
    return (double)p->m * (double)p->n * (double)p->k * (p->gated != TENON_GATED_NONE ? 2 : 1) *
           (p->experts > 0 ? 1 : (double)p->batch_count);
}

/* Bytes of operands and result, each once. */
static double bytes_of(const tn_gemm_problem *p) {
    const double members = p->experts > 0 ? (double)p->experts : (double)p->batch_count;
    const double rows = (double)p->m * (p->experts > 0 ? 1 : members);
    const double columns = (double)p->n * (p->gated != TENON_GATED_NONE ? 2 : 1) * members;
    return rows * (double)p->k * (double)tn_element_size(p->operand[TN_GEMM_A].dtype) +
           columns * (double)p->k * (double)tn_element_size(p->operand[TN_GEMM_B].dtype) +
           rows * (double)p->n * (double)tn_element_size(p->operand[TN_GEMM_C].dtype);
}

static void offer(const tn_cu_gemm_state *plan, const char *algorithm, const char *reason,
                  size_t workspace, double seconds, tn_choices *out) {
    tn_choice choice;
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, plan, sizeof *plan);
    choice.algorithm = algorithm;
    choice.kernel = plan->kernel;
    choice.reason = reason;
    choice.workspace = workspace;
    choice.seconds = seconds;
    tn_choices_offer(out, &choice);
}

/* ---- gemm_plain.cu */

static void plan_plain(const tn_cu_limits *limits, const tn_gemm_problem *p, tn_choices *out) {
    tn_cu_gemm_state plan = {.module = "gemm_plain",
                             .rows = TN_CU_PLAIN_WIDE,
                             .cols = TN_CU_PLAIN_WIDE,
                             .threads = 256,
                             .segments = 1,
                             .blocks = MOST_BLOCKS};
    if (p->accumulate == TENON_F64) {
        plan.kernel = "gemm_plain_f64";
    } else if (p->accumulate == TENON_S32) {
        plan.kernel = "gemm_plain_exact";
    } else if (scaled_integers(p)) {
        plan.kernel = "gemm_plain_scaled";
        plan.scale_after = 1;
    } else {
        plan.kernel = "gemm_plain_f32";
        plan.rows = plan.cols = TN_CU_PLAIN_F32;
    }
    /* About a fifth of the multiply-adds of f32 that a device has: 128 lanes to a multiprocessor. */
    const double clock = limits->clock_hz > 0 ? limits->clock_hz : 1.4e9;
    const double bandwidth =
        limits->memory_bytes_per_second > 0 ? limits->memory_bytes_per_second : 3e11;
    const double seconds =
        work_of(p) / (0.2 * 128 * clock * limits->multiprocessors) + bytes_of(p) / bandwidth + 4e-6;
    offer(&plan, "gemm-plain", "any types and strides, no workspace", 0, seconds, out);
}

tenon_status tn_cu_gemm_plan(const tn_cu_limits *limits, const tn_gemm_problem *p, tn_choices *out,
                             tn_message *why) {
    out->count = 0;
    TN_TRY(refuse(p, why));
    plan_plain(limits, p, out);
    return TENON_OK;
}
