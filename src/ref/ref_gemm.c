/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C = quantise(activation(alpha·A'·B' + beta·C' + bias) + residual), element by element, as
 * include/tenon/gemm.h writes it. Sums of integers are exact as long as they stay below 2^53 in
 * magnitude: for u8·s8 without zero points that is k < 2^37.
 */
#include "ops/blocks.h"
#include "ops/index.h"
#include "ref/ref_convert.h"
#include "ref/ref_ops.h"

/* The block of weights that was decoded last: a sum over p meets each of its elements. */
typedef struct decoded {
    const void *block;
    float value[TN_BLOCK_MOST];
} decoded;

/* One member of the batch: addresses and, in elements, where the member starts. */
typedef struct member {
    const tn_gemm_problem *p;
    const tn_block_type *blocks; /* NULL: B of a plain type */
    decoded *last;
    tn_gemm_operand operand[TN_GEMM_ROLES];
    void *address[TN_GEMM_ROLES];
    int64_t start[TN_GEMM_ROLES];
} member;

/* Element (row, column) of an operand, or `absent`. */
static double at(const member *x, tn_gemm_role role, int64_t row, int64_t column, double absent) {
    const tn_gemm_operand *o = &x->operand[role];
    if (o->dtype == TENON_DTYPE_NONE)
        return absent;
    return tn_ref_get(x->address[role], o->dtype,
                      x->start[role] + row * o->row + column * o->column);
}

/* Which group of consecutive p a scale or zero is for (an absent one has no groups). */
static int64_t group_of(const member *x, tn_gemm_role role, int64_t p) {
    const int64_t size = x->p->group[role];
    return size > 0 ? p / size : 0;
}

/* A'[i,p] = a_scale · (A[i,p] - a_zero) */
static double a_value(const member *x, int64_t i, int64_t p) {
    const double zero = at(x, TN_GEMM_A_ZERO, i, group_of(x, TN_GEMM_A_ZERO, p), 0);
    const double scale = at(x, TN_GEMM_A_SCALE, i, group_of(x, TN_GEMM_A_SCALE, p), 1);
    return scale * (at(x, TN_GEMM_A, i, p, 0) - zero);
}

/* B[p,j] of blocks, which lie along p. */
static double weight(const member *x, int64_t p, int64_t j) {
    const tn_gemm_operand *o = &x->operand[TN_GEMM_B];
    const void *block =
        tn_block_at(x->blocks, x->address[TN_GEMM_B], x->start[TN_GEMM_B] + j * o->column, p);
    if (block != x->last->block) {
        x->blocks->decode(block, x->last->value);
        x->last->block = block;
    }
    return (double)x->last->value[p % x->blocks->elements];
}

static double b_value(const member *x, int64_t p, int64_t j) {
    const double zero = at(x, TN_GEMM_B_ZERO, group_of(x, TN_GEMM_B_ZERO, p), j, 0);
    const double scale = at(x, TN_GEMM_B_SCALE, group_of(x, TN_GEMM_B_SCALE, p), j, 1);
    return scale * ((x->blocks ? weight(x, p, j) : at(x, TN_GEMM_B, p, j, 0)) - zero);
}

/* C'[i,j]: what is stored in C, read as it will be written. */
static double c_value(const member *x, int64_t i, int64_t j) {
    const double zero = at(x, TN_GEMM_C_ZERO, i, j, 0);
    return at(x, TN_GEMM_C_SCALE, i, j, 1) * (at(x, TN_GEMM_C, i, j, 0) - zero);
}

/* z[i,j] = alpha · Σ_p A'[i,p]·B'[p,j] + bias[i,j]; j counts B's columns, 2n of them when gated. */
static double linear(const member *x, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t p = 0; p < x->p->k; ++p)
        sum += a_value(x, i, p) * b_value(x, p, j);
    return x->p->alpha * sum + at(x, TN_GEMM_BIAS, i, j, 0);
}

static double activate(const tn_gemm_problem *p, double z) {
    if (isnan(z))
        return z; /* fmin and fmax would drop it */
    switch (p->activation) {
    case TENON_ACTIVATION_RELU:
        return fmax(z, 0);
    case TENON_ACTIVATION_GELU: /* erfc: 1 + erf(z/√2) without the cancellation at z << 0 */
        return 0.5 * z * erfc(-z * 0.70710678118654752440);
    case TENON_ACTIVATION_GELU_TANH: /* 1 + tanh(t) = 2/(1 + exp(-2t)), for the same reason */
        return z / (1 + exp(-2 * 0.79788456080286535588 * (z + 0.044715 * z * z * z)));
    case TENON_ACTIVATION_SILU:
        return z / (1 + exp(-z));
    case TENON_ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-z));
    case TENON_ACTIVATION_TANH:
        return tanh(z);
    case TENON_ACTIVATION_CLAMP:
        return fmin(fmax(z, p->clamp_low), p->clamp_high);
    case TENON_ACTIVATION_NONE:
        break;
    }
    return z;
}

static double element(const member *x, int64_t i, int64_t j) {
    const tn_gemm_problem *p = x->p;
    double value;

    switch (p->gated) {
    case TENON_GATED_HALVES:
        value = activate(p, linear(x, i, j)) * linear(x, i, p->n + j);
        break;
    case TENON_GATED_INTERLEAVED:
        value = activate(p, linear(x, i, 2 * j)) * linear(x, i, 2 * j + 1);
        break;
    default:
        value = linear(x, i, j);
        if (p->beta != 0) /* beta = 0 never reads C */
            value += p->beta * c_value(x, i, j);
        value = activate(p, value);
        break;
    }
    value += at(x, TN_GEMM_RESIDUAL, i, j, 0);
    return value / at(x, TN_GEMM_C_SCALE, i, j, 1) + at(x, TN_GEMM_C_ZERO, i, j, 0);
}

static void rows(const member *x, int64_t begin, int64_t end) {
    const tn_gemm_operand *c = &x->operand[TN_GEMM_C];
    for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < x->p->n; ++j)
            tn_ref_put(x->address[TN_GEMM_C], c->dtype,
                       x->start[TN_GEMM_C] + i * c->row + j * c->column, element(x, i, j));
}

/* Rows offsets[e] to offsets[e+1] meet expert e (Shazeer et al., 2017, section 2). */
static void grouped(member *x) {
    const tn_gemm_problem *p = x->p;
    const tn_gemm_operand *offsets = &x->operand[TN_GEMM_OFFSETS];
    for (int64_t e = 0; e < p->experts; ++e) {
        for (int role = 0; role < TN_GEMM_ROLES; ++role)
            x->start[role] = e * x->operand[role].batch[0];
        rows(x, tn_index_get(x->address[TN_GEMM_OFFSETS], offsets->dtype, e * offsets->row),
             tn_index_get(x->address[TN_GEMM_OFFSETS], offsets->dtype, (e + 1) * offsets->row));
    }
}

void tn_ref_gemm(const tn_gemm_problem *p, void *const *addresses) {
    decoded last = {.block = NULL};
    member x = {.p = p, .blocks = tn_block_find(p->operand[TN_GEMM_B].dtype), .last = &last};
    for (int role = 0; role < TN_GEMM_ROLES; ++role) {
        x.operand[role] = p->operand[role];
        x.address[role] = addresses[role];
    }
    if (p->operand[TN_GEMM_B_PACKED].dtype != TENON_DTYPE_NONE) {
        x.operand[TN_GEMM_B] = tn_ref_packed_operand(p);
        x.address[TN_GEMM_B] = (void *)tn_ref_packed_data(addresses[TN_GEMM_B_PACKED]);
    }

    if (p->experts > 0) {
        grouped(&x);
        return;
    }
    for (int64_t index = 0; index < p->batch_count; ++index) {
        if (p->pointer_array) {
            x.address[TN_GEMM_A] = ((void *const *)addresses[TN_GEMM_A])[index];
            x.address[TN_GEMM_B] = ((void *const *)addresses[TN_GEMM_B])[index];
            x.address[TN_GEMM_C] = ((void *const *)addresses[TN_GEMM_C])[index];
        } else {
            for (int role = 0; role < TN_GEMM_ROLES; ++role)
                x.start[role] = tn_gemm_batch_offset(p, &x.operand[role], index);
        }
        rows(&x, 0, p->m);
    }
}
