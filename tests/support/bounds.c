/* SPDX-License-Identifier: Apache-2.0 */
/* bounds.c: see bounds.h. Section numbers are those of docs/NUMERICS.md. */
#include "bounds.h"

#include <math.h>

/* GEMM's blocks of k, 3.1. */
#define KC 256
/* Tensor cores' segments of k, 3.9, 3.10. */
#define SEGMENT 1024
#define SEGMENT_FP8 128
/* Elements of a chunk of a softmax row, and lanes of its sum, 4.1. */
#define CHUNK 2048
#define LANES 16
/* Attention's blocks of keys, 5.1. */
#define KB 256
#define KB_TENSOR 64 /* keys of a block, on tensor cores */

static double min(double a, double b) {
    return a < b ? a : b;
}
static double max(double a, double b) {
    return a > b ? a : b;
}

double bound_unit(tenon_dtype dtype) {
    switch (dtype) {
    case TENON_F64:
        return 0x1p-53;
    case TENON_F32:
        return 0x1p-24;
    case TENON_F16:
        return 0x1p-11;
    case TENON_BF16:
        return 0x1p-8;
    case TENON_F8_E4M3:
        return 0x1p-4;
    case TENON_F8_E5M2:
        return 0x1p-3;
    default:
        return 0;
    }
}

double bound_gamma(double n, double u) {
    return n * u / (1 - n * u);
}

/* Unit of an accumulation type: the epilogue of integer sums is in f64 (3.3). */
static double unit_of(tenon_dtype accumulate) {
    return accumulate == TENON_F32 ? 0x1p-24 : 0x1p-53;
}

/* Half the smallest subnormal: the most that one operation loses where results underflow. */
static double underflow_of(tenon_dtype accumulate) {
    return accumulate == TENON_F32 ? 0x1p-150 : 0x1p-1074;
}

/* What instructions of tensor cores may do to a sum of n products: (3.9). */
static double tensor_depth(double n) {
    return 2 * (n + ceil(n / 4));
}

/* ---- 3. GEMM ---- */

/* Largest slope of an activation, and c in its evaluation error c·u·max(|z|, floor) (3.4). */
static double slope_of(tenon_activation a) {
    switch (a) {
    case TENON_ACTIVATION_GELU:
    case TENON_ACTIVATION_GELU_TANH:
        return 1.13;
    case TENON_ACTIVATION_SILU:
        return 1.1;
    case TENON_ACTIVATION_SIGMOID:
        return 0.25;
    default:
        return 1;
    }
}

static bool is_exact(tenon_activation a) {
    return a == TENON_ACTIVATION_NONE || a == TENON_ACTIVATION_RELU || a == TENON_ACTIVATION_CLAMP;
}

/*
 * The bound for an arithmetic of unit u whose sum of products takes `chain` roundings, after operands were rounded by `coarse`.
 */
static double gemm_with(const bound_gemm_element *x, double chain, double coarse, double u,
                        double eta) {
    double z[2], error[2];
    for (int i = 0; i < 2; ++i) { /* (3.2) */
        z[i] = x->products[i] + x->addends[i];
        error[i] = (coarse + bound_gamma(chain + 10, u)) * x->products[i] +
                   bound_gamma(10, u) * x->addends[i] + (double)(x->k + 10) * eta;
    }

    double value = z[0], e = slope_of(x->activation) * error[0]; /* (3.4) */
    if (x->activation == TENON_ACTIVATION_SIGMOID)
        value = 1;
    if (x->activation == TENON_ACTIVATION_CLAMP)
        value = max(z[0], x->clamp);
    if (!is_exact(x->activation))
        e += 8 * u * (x->activation == TENON_ACTIVATION_SIGMOID ? 1 : z[0] + error[0]);

    if (x->gated) { /* (3.5) */
        e = e * (z[1] + error[1]) + value * error[1];
        value *= z[1];
        e += u * (value + e);
    }
    value += x->residual; /* (3.6) */
    e += 3 * u * (value + e);
    if (x->c_scale != 1 || x->c_zero != 0) {
        value = value / x->c_scale + x->c_zero;
        e = e / x->c_scale + 4 * u * (value + e / x->c_scale);
    }
    return e;
}

/* Roundings on the longest way through a sum. */
static double chain_of(const bound_gemm_element *x) {
    const double k = (double)x->k;
    if (x->accumulate == TENON_S32)
        return 0;
    if (x->fast)
        return ceil(k / 16) + 10; /* (3.8) */
    switch (x->way) {
    case BOUND_TENSOR: /* 3.9 */
    case BOUND_TF32:
        return tensor_depth(min(k, SEGMENT)) + ceil(k / SEGMENT);
    case BOUND_TENSOR_CHAIN:
        return min(k, SEGMENT) + ceil(k / SEGMENT);
    case BOUND_FP8:
        return ceil(k / SEGMENT_FP8);
    default:
        return min(k, KC) + max(ceil(k / KC) - 1, 0);
    }
}

/* What operands were rounded by, or sums cut off by beside roundings. */
static double coarse_of(const bound_gemm_element *x) {
    if (x->fast)
        return 1 / 253.0; /* (3.8) */
    if (x->way == BOUND_TF32)
        return 0x1p-10 + 0x1p-21; /* (3.10): two factors of 1 + 2^-11, and of 1 + gamma */
    return x->way == BOUND_FP8 ? bound_gamma(tensor_depth(min((double)x->k, SEGMENT_FP8)), 0x1p-14)
                               : 0;
}

double bound_gemm(const bound_gemm_element *x) {
    return gemm_with(x, chain_of(x), coarse_of(x), unit_of(x->accumulate),
                     underflow_of(x->accumulate)) +
           gemm_with(x, (double)x->k, 0, 0x1p-53, 0);
}

/* ---- 4. Softmax, 5. Attention ---- */

/* Absolute error of a score, (4.2), (5.2) and (5.4). */
static double score_error(const bound_scores *s, double u) {
    const double d = (double)s->d;
    double size = s->size, e = bound_gamma((s->weights ? tensor_depth(d) : d) + 4, u) * size;
    if (s->softcap > 0) {
        size = min(size, s->softcap);
        e += 12 * u * size;
    }
    return e + 6 * u * (size + s->addends);
}

/* Largest distance between two scores of the row. */
static double range_of(const bound_scores *s) {
    const double size = s->softcap > 0 ? min(s->size, s->softcap) : s->size;
    return 2 * (size + s->addends);
}

/* Chunks or blocks that are merged one after the other. */
static double blocks_of(const bound_scores *s) {
    return ceil((double)s->keys / (s->weights ? KB_TENSOR : s->d ? KB : CHUNK));
}

/* Relative error of exp(s - max) as it enters the sums, with the rescalings of merged blocks: (4.3), (5.3), (5.4). */
static double weight_error(const bound_scores *s, double u) {
    return score_error(s, u) + (s->weights ? 4 : 2) * u * range_of(s) +
           ((s->weights ? 6 : 4) + 8 * blocks_of(s)) * u;
}

/* Roundings on the way of one weight through a sum: a lane or a chain within a block, then block by block (4.1, 5.1, 5.4). */
static double depth_of(const bound_scores *s) {
    const double n = (double)s->keys;
    return 2 * blocks_of(s) + 6 +
           (s->weights ? tensor_depth(min(n, KB_TENSOR))
            : s->d     ? min(n, KB)
                       : ceil(min(n, CHUNK) / LANES));
}

/* The same scores where nothing is rounded to fewer bits: the reference's. */
static bound_scores unrounded(const bound_scores *s) {
    bound_scores x = *s;
    x.weights = TENON_DTYPE_NONE;
    return x;
}

static double probability_with(const bound_scores *s, double depth, double u) {
    const double d = weight_error(s, u);
    return expm1(2 * d) + bound_gamma(depth, u) + 4 * u;
}

double bound_probability(const bound_scores *s) {
    return probability_with(s, depth_of(s), unit_of(s->accumulate)) +
           probability_with(s, (double)s->keys, 0x1p-53);
}

static double lse_with(const bound_scores *s, double depth, double lse, double u) {
    const double log_sum = log((double)s->keys + 1);
    return expm1(weight_error(s, u)) + bound_gamma(depth, u) + 4 * u * (1 + log_sum) +
           2 * u * (fabs(lse) + range_of(s) / 2);
}

double bound_lse(const bound_scores *s, double lse) {
    const bound_scores exact = unrounded(s);
    return lse_with(s, depth_of(s), lse, unit_of(s->accumulate)) +
           lse_with(&exact, (double)s->keys, lse, 0x1p-53);
}

double bound_log_probability(const bound_scores *s, double y) {
    const double u = unit_of(s->accumulate);
    return bound_lse(s, 0) + score_error(s, u) + 2 * u * (fabs(y) + range_of(s)) +
           score_error(s, 0x1p-53);
}

static double attention_with(const bound_scores *s, double depth, double v, double u) {
    return v * (expm1(2 * weight_error(s, u)) + 2 * bound_gamma(depth, u) + 6 * u);
}

/* (5.3), (5.4): a weight rounded to f16 may be subnormal there; the largest of its block is 1. */
double bound_attention(const bound_scores *s, double v) {
    const bound_scores exact = unrounded(s);
    const double unit = s->weights ? bound_unit(s->weights) : 0,
                 flushed = s->weights == TENON_F16 ? KB_TENSOR * 0x1p-25 : 0;
    return attention_with(s, depth_of(s), v, unit_of(s->accumulate)) * (1 + unit) +
           v * (unit + flushed) + attention_with(&exact, (double)s->keys, v, 0x1p-53) +
           (double)s->keys * v * bound_flush(s->accumulate);
}

double bound_flush(tenon_dtype accumulate) {
    return accumulate == TENON_F32 ? 0x1p-126 : 0x1p-1022;
}

/* ---- 6. Merging ---- */

static double part_error(double lse, double u) {
    return 2 * u * lse + 4 * u;
}

static double merge_with(double parts, double v, double lse, double u) {
    return v * (expm1(2 * part_error(lse, u)) + bound_gamma(2 * parts + 6, u));
}

double bound_merge(int64_t parts, double v, double lse, tenon_dtype accumulate) {
    return merge_with((double)parts, v, lse, unit_of(accumulate)) +
           merge_with((double)parts, v, lse, 0x1p-53);
}

static double merge_lse_with(double parts, double lse, double u) {
    return expm1(part_error(lse, u)) + bound_gamma(parts + 2, u) + 4 * u * (1 + log(parts + 1)) +
           2 * u * lse;
}

double bound_merge_lse(int64_t parts, double lse, tenon_dtype accumulate) {
    return merge_lse_with((double)parts, lse, unit_of(accumulate)) +
           merge_lse_with((double)parts, lse, 0x1p-53);
}

/* ---- 2. Types ---- */

typedef struct type_range {
    double low, high, step; /* step: distance of the smallest numbers */
    bool saturates, integer;
} type_range;

static type_range range(tenon_dtype dtype) {
    switch (dtype) {
    case TENON_F32:
        return (type_range){-0x1.fffffep127, 0x1.fffffep127, 0x1p-149, false, false};
    case TENON_F16:
        return (type_range){-65504, 65504, 0x1p-24, false, false};
    case TENON_BF16:
        return (type_range){-0x1.fep127, 0x1.fep127, 0x1p-133, false, false};
    case TENON_F8_E4M3:
        return (type_range){-448, 448, 0x1p-9, true, false};
    case TENON_F8_E5M2:
        return (type_range){-57344, 57344, 0x1p-16, true, false};
    case TENON_S8:
        return (type_range){-128, 127, 1, true, true};
    case TENON_U8:
        return (type_range){0, 255, 1, true, true};
    case TENON_S32:
        return (type_range){-2147483648.0, 2147483647.0, 1, true, true};
    default:
        return (type_range){-0x1.fffffffffffffp1023, 0x1.fffffffffffffp1023, 0x1p-1074, false,
                            false};
    }
}

bool bound_holds(tenon_dtype dtype, double value, double expected, double error) {
    const type_range t = range(dtype);
    const double u = bound_unit(dtype);

    if (isnan(expected))
        return t.integer ? value == 0 : isnan(value);
    if (isnan(value))
        return false;
    if (t.saturates)
        expected = min(max(expected, t.low), t.high);
    if (isinf(expected))
        return value == expected;

    const double slack = error + (t.integer ? 0.5 : u * (fabs(expected) + error) + t.step / 2);
    if (isinf(value)) /* the rounded result may lie beyond the largest number */
        return !t.saturates && (value > 0 ? expected + slack >= t.high : expected - slack <= t.low);
    return fabs(value - expected) <= slack;
}
