/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounds.h: how far a result may be from the reference's, as docs/NUMERICS.md derives it.
 *
 * Every function is one formula of that page, with the same names; none has a constant that was found by trying.
 * Errors are absolute, before rounding into the output's type; bound_holds adds that rounding. What the
 * reference itself rounds away (its unit is 2^-53) is included.
 */
#ifndef TEST_BOUNDS_H
#define TEST_BOUNDS_H

#include <tenon/tenon.h>

#include <stdbool.h>

/* u: the largest relative error of rounding to a type; 0 for integers. */
double bound_unit(tenon_dtype dtype);

/* gamma_n = n·u / (1 - n·u) (Higham, Accuracy and Stability, 2nd edition, lemma 3.1). */
double bound_gamma(double n, double u);

/*
 * GEMM, one element. products: |alpha|·sum |A'||B'|, addends: |beta·C'| + |bias|; index 1 is for the second
 * column of a gated pair. accumulate: TENON_F32, TENON_F64 or TENON_S32. fast: A may be rounded to int8 beside blocks, and products
 * are |alpha|·sum M·|W|, of (3.8).
 */
typedef enum bound_gemm_way {
    BOUND_CHAINS = 0,   /* 3.1 */
    BOUND_TENSOR,       /* tensor cores, 3.9; … */
    BOUND_TENSOR_CHAIN, /* … which add one product after the other, as the stand-in driver does */
    BOUND_TF32,         /* as either, of operands rounded to tf32: 3.10 */
    BOUND_FP8           /* sums of 8-bit floats by their own instructions, 3.10 */
} bound_gemm_way;

typedef struct bound_gemm_element {
    int64_t k;
    bound_gemm_way way;
    tenon_dtype accumulate;
    tenon_activation activation;
    bool gated, fast;
    double products[2], addends[2];
    double clamp;    /* largest magnitude of the clamp's ends */
    double residual; /* |residual| */
    double c_scale;  /* 1 if there is none */
    double c_zero;   /* |c_zero| */
} bound_gemm_element;

double bound_gemm(const bound_gemm_element *x);

/*
 * The scores of one row of a softmax (d = 0), or of one query (d: head dimension).
 *
 * size: largest |scale|·|q||k| or |scale·x|; addends: largest slope·distance + |bias| + |sink| of an unmasked key; keys: how
 * many there are.
 */
typedef struct bound_scores {
    int64_t d, keys;
    double size, addends, softcap;
    tenon_dtype accumulate;
    tenon_dtype
        weights; /* f16, bf16: attention by tensor cores, whose weights are rounded to it (5.4) */
} bound_scores;

/* Relative error of a probability. */
double bound_probability(const bound_scores *s);
/* Absolute error of a log-sum-exp whose value is `lse`. */
double bound_lse(const bound_scores *s, double lse);
/* Absolute error of a log-probability whose value is `y`. */
double bound_log_probability(const bound_scores *s, double y);
/* Absolute error of an output element; v: the largest |v_scale·v| of an unmasked key. */
double bound_attention(const bound_scores *s, double v);
/* Smallest result of exp that is not allowed to be taken for 0. */
double bound_flush(tenon_dtype accumulate);

/* Merging: v is the largest |o| of a part, lse the largest |lse|. f64 if every operand is, else f32. */
double bound_merge(int64_t parts, double v, double lse, tenon_dtype accumulate);
double bound_merge_lse(int64_t parts, double lse, tenon_dtype accumulate);

/*
 * Is `value`, read back from an output of type `dtype`, a legal answer where the exact result is within `error` of
 * `expected`? Rounding, overflow to infinity and saturation of the type are those of docs/NUMERICS.md, "Types".
 */
bool bound_holds(tenon_dtype dtype, double value, double expected, double error);

#endif
