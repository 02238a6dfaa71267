/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of the reference, each the loop of its formula in double precision: the
 * specification that every other backend is tested against. One thread, no workspace to speak of,
 * no allocation; called only from ref_backend.c. Problems arrive validated (src/ops); addresses are
 * host addresses by role.
 *
 * Clarity comes before speed everywhere here: a score is computed again rather than kept.
 */
#ifndef TN_REF_OPS_H
#define TN_REF_OPS_H

#include "core/message.h"
#include "ops/problem.h"

#include <math.h>

void tn_ref_gemm(const tn_gemm_problem *p, void *const *addresses);
void tn_ref_softmax(const tn_softmax_problem *p, void *const *addresses);
void tn_ref_merge(const tn_merge_problem *p, void *const *addresses);
void tn_ref_append(const tn_append_problem *p, void *const *addresses);
void tn_ref_quantize(const tn_quantize_problem *p, void *const *addresses);
void tn_ref_dequantize(const tn_quantize_problem *p, void *const *addresses);

/* `sum` holds p->dv doubles: one row of the output while it grows. */
void tn_ref_attention(const tn_attention_problem *p, void *const *addresses, double *sum);

/* ref_pack.c: B as a dense copy in its own type behind a header. */
tenon_status tn_ref_pack_size(const tn_gemm_problem *p, size_t *bytes, tn_message *why);
tenon_status tn_ref_pack_check(const tn_gemm_problem *p, const void *packed, size_t bytes,
                               tn_message *why);
void tn_ref_pack(const tn_gemm_problem *p, void *const *addresses);
/* How the copy is laid out, and where it starts. */
tn_gemm_operand tn_ref_packed_operand(const tn_gemm_problem *p);
const void *tn_ref_packed_data(const void *packed);

/* ---- what softmax and attention share ---- */

/* May a query at position p see key j? (include/tenon/softmax.h, tenon_window.) */
static inline int tn_ref_sees(int64_t p, int64_t j, int64_t left, int64_t right) {
    return (left == TN_UNLIMITED || j >= p - left) && (right == TN_UNLIMITED || j <= p + right);
}

/*
 * s = softcap·tanh(x/softcap) - slope·|p - j| + bias, x being scale·q·k or scale·x.
 * Soft cap: Gemma Team, 2024, section 2. ALiBi: Press et al., 2022, section 3.
 */
static inline double tn_ref_score(double x, double softcap, double slope, int64_t p, int64_t j,
                                  double bias) {
    if (softcap > 0)
        x = softcap * tanh(x / softcap);
    return x - slope * fabs((double)p - (double)j) + bias;
}

/* Larger of two; NaN if either is. */
static inline double tn_ref_max(double a, double b) {
    return isnan(a) || isnan(b) ? NAN : fmax(a, b);
}

#endif
