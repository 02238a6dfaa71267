/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/softmax.h: softmax and log-softmax along one axis, with the masks that attention scores need.
 *
 *     s[j] = softcap(scale · x[j]) + alibi + bias[j]      for every j that is not masked
 *     y[j] = exp(s[j] − max) / (Σ exp(s − max) + exp(sink − max))      masked j: y[j] = 0
 *     log:  y[j] = s[j] − lse                                            masked j: y[j] = −inf
 *     lse  = log(Σ exp(s) + exp(sink))
 *
 * max includes the sink. A row with nothing left to attend to gives y = 0 (log: −inf) and, without a sink, lse = −inf.
 * A masked element is never read into the result: NaN there does not spread. Bounds: docs/NUMERICS.md.
 */
#ifndef TENON_SOFTMAX_H
#define TENON_SOFTMAX_H

#include <tenon/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Which keys a query may see, beside what other masks say: with p = position of the query, those with key index ≤ p.
 *
 * The alignment gives the position of query i: p = i + offset. TOP_LEFT has offset 0; NONE and BOTTOM_RIGHT have
 * offset = (number of keys) − (number of queries), so that the last query sits at the last key, as decoding with a cache wants it.
 * Window and ALiBi use the same position.
 */
typedef enum tenon_causal {
    TENON_CAUSAL_NONE = 0,
    TENON_CAUSAL_TOP_LEFT = 1,
    TENON_CAUSAL_BOTTOM_RIGHT = 2
} tenon_causal;

/** Sliding window: a query at position p sees keys from p − left to p + right. A negative side is unlimited. */
typedef struct tenon_window {
    int32_t enabled;     /**< 1; 0: no window, then left and right are 0 too */
    int32_t reserved;
    int64_t left, right;
} tenon_window;

/** y = softmax(x) along `axis`. x and y: f64 f32 f16 bf16, in any mix, same shape, any strides; y may be x itself. */
typedef struct tenon_softmax_desc {
    size_t struct_size;
    tenon_tensor x, y;
    const int32_t *axis;   /**< −rank … rank − 1; NULL: the last */
    const double *scale;   /**< NULL: 1 */
    tenon_tensor bias;     /**< added; broadcasts to x; f64 f32 f16 bf16. −inf masks */
    tenon_tensor mask;     /**< bool, true = keep; broadcasts to x */
    tenon_causal causal;   /**< the last dimension is keys, the one before it queries; needs axis = last and rank ≥ 2. So do window,
                                alibi and sinks */
    tenon_window window;
    tenon_tensor alibi;    /**< slopes of either sign, f64 f32 f16 bf16, (heads) or (batch, heads) with heads the third last dimension
                                of x: adds −slope·|p − j| (Press et al., 2022, whose slopes are positive) */
    double softcap;        /**< > 0: s → softcap·tanh(s/softcap) */
    tenon_tensor sinks;    /**< (heads): one extra logit per row, in the denominator only (Xiao et al., 2024) */
    int32_t log;           /**< 1: log-softmax */
    int32_t reserved;
    tenon_tensor lse;      /**< out, optional: natural log of the sum, shape of x without `axis`; f32 or f64 */
    tenon_workspace workspace;
} tenon_softmax_desc;

/** Computes; statuses as tenon_gemm. */
TENON_API TENON_MUST_CHECK tenon_status tenon_softmax(tenon_context *ctx, const tenon_softmax_desc *desc);
/** Plans; see tenon_gemm_plan. */
TENON_API TENON_MUST_CHECK tenon_status tenon_softmax_plan(tenon_context *ctx, const tenon_softmax_desc *desc, tenon_plan **out);
/** Runs; see tenon_gemm_run. */
TENON_API TENON_MUST_CHECK tenon_status tenon_softmax_run(tenon_context *ctx, const tenon_plan *plan, const tenon_softmax_desc *desc);

#ifdef __cplusplus
}
#endif
#endif
