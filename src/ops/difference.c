/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a run's problem is another than its plan's, in the words of the descriptor: which field,
 * what was planned, what is given. Called once a run has been found to say something else; a field
 * of the canonical problem that follows from others needs no row.
 */
#include "ops/describe.h"
#include "ops/ops.h"

#include <stdio.h>

typedef enum range_kind {
    INTEGERS, /* int64_t each; TN_UNLIMITED is a word */
    NUMBERS,  /* int32_t each, or enumerators */
    REALS,    /* double each */
    OPERANDS, /* an operation's struct for each role: a type, then strides */
    PER_ROLE  /* int64_t each, one for a role */
} range_kind;

/* A range of a problem's bytes, and the descriptor's field it comes from. */
typedef struct range {
    range_kind kind;
    size_t from, bytes, each;
    const char *name;         /* "a.shape (m)"; PER_ROLE: the member */
    const tn_form *form;      /* of OPERANDS and PER_ROLE: names the roles */
    const char *const *steps; /* of OPERANDS: what each stride steps along */
} range;

#define RANGE(kind, type, member, each, name, ...)                                                 \
    { kind, offsetof(type, member), sizeof(((type *)0)->member), each, name, __VA_ARGS__ }
#define I64(member, name) RANGE(INTEGERS, PROBLEM, member, 8, name, NULL, NULL)
#define I32(member, name) RANGE(NUMBERS, PROBLEM, member, 4, name, NULL, NULL)
#define REAL(member, name) RANGE(REALS, PROBLEM, member, 8, name, NULL, NULL)
#define OPERAND(type, form, steps) RANGE(OPERANDS, PROBLEM, operand, sizeof(type), "", form, steps)
#define ROLES(member, name, form) RANGE(PER_ROLE, PROBLEM, member, 8, name, form, NULL)

static const char *const gemm_steps[] = {"row",   "column", "batch", "batch",
                                         "batch", "batch",  "batch", "batch"};
static const char *const softmax_steps[] = {"row", "row", "row", "row",
                                            "row", "row", "row", "axis"};
static const char *const attention_steps[] = {"dimension 0", "dimension 1", "dimension 2",
                                              "dimension 3"};

#define PROBLEM tn_gemm_problem
static const range gemm_ranges[] = {
    I64(m, "a.shape (m)"),
    I64(n, "b.shape (n)"),
    I64(k, "a.shape (k)"),
    I32(pointer_array, "array_count (arrays in use)"),
    I64(experts, "b.shape[0] (experts)"),
    I64(batch_count, "c.shape or array_count (members)"),
    I64(batch, "c.shape (batch)"),
    OPERAND(tn_gemm_operand, &tn_gemm_form, gemm_steps),
    ROLES(group, "shape (p per group)", &tn_gemm_form),
    REAL(alpha, "alpha"),
    REAL(beta, "beta"),
    REAL(clamp_low, "clamp_low"),
    REAL(clamp_high, "clamp_high"),
    I64(packed_bytes, "b_packed_bytes"),
    I32(activation, "activation"),
    I32(gated, "gated"),
    I32(compute, "compute"),
};
#undef PROBLEM
#define PROBLEM tn_softmax_problem
static const range softmax_ranges[] = {
    I32(rank, "x.rank (without axis)"),
    I64(length, "x.shape[axis]"),
    I64(extent, "x.shape (without axis)"),
    OPERAND(tn_softmax_operand, &tn_softmax_form, softmax_steps),
    REAL(scale, "scale"),
    REAL(softcap, "softcap"),
    I64(left, "window.left"),
    I64(right, "causal or window.right (keys after p)"),
    I64(offset, "causal (position of query 0)"),
    I32(query_dim, "causal (dimension of queries)"),
    I32(log, "log"),
};
#undef PROBLEM
#define PROBLEM tn_attention_problem
static const range attention_ranges[] = {
    I64(batch, "q.shape[0] or cu_seqlens (batch)"),
    I64(heads, "q.shape[1]"),
    I64(queries, "q.shape[2]"),
    I64(d, "q.shape[3]"),
    I64(blocks, "k.shape[0] (blocks)"),
    I64(kv_heads, "k.shape[1]"),
    I64(block_size, "k.shape[2] (block size)"),
    I64(max_blocks, "block_table.shape[1]"),
    I64(keys, "k.shape[2]"),
    I64(dv, "v.shape[3]"),
    I64(mask_keys, "bias or mask.shape[3] (keys)"),
    OPERAND(tn_attention_operand, &tn_attention_form, attention_steps),
    REAL(scale, "scale"),
    REAL(softcap, "softcap"),
    I64(left, "window.left"),
    I64(right, "causal or window.right (keys after p)"),
    I32(align_bottom, "causal (aligned at the bottom)"),
    I32(compute, "compute"),
};
#undef PROBLEM

static void write_value(range_kind kind, const void *value, char text[32]) {
    int64_t wide;
    int32_t narrow;
    double real;
    switch (kind) {
    case NUMBERS:
        memcpy(&narrow, value, sizeof narrow);
        snprintf(text, 32, "%d", (int)narrow);
        return;
    case REALS:
        memcpy(&real, value, sizeof real);
        snprintf(text, 32, "%.17g", real);
        return;
    case INTEGERS:
    case OPERANDS:
    case PER_ROLE:
        memcpy(&wide, value, sizeof wide);
        if (wide == TN_UNLIMITED)
            snprintf(text, 32, "unlimited");
        else
            snprintf(text, 32, "%lld", (long long)wide);
    }
}

static void write_type(const void *operand, char text[32]) {
    tenon_dtype dtype;
    memcpy(&dtype, operand, sizeof dtype);
    snprintf(text, 32, "%s", tenon_dtype_name(dtype));
}

/* Packed B is no tensor of the descriptor, but has a role. */
static const char *role_name(const range *r, int role) {
    return role < r->form->operands ? r->form->operand[role].name : "b_packed";
}

/* The difference within one element of a range: a value, or an operand with its type and
 * strides. */
static void describe(const range *r, int index, const char *planned, const char *given,
                     tn_difference *out) {
    enum { STRIDES = 8 }; /* where they begin: behind the type and a reserved word */
    size_t at = 0;
    if (r->kind == OPERANDS && memcmp(planned, given, sizeof(tenon_dtype)) == 0)
        for (at = STRIDES; at + 8 < r->each && memcmp(planned + at, given + at, 8) == 0;)
            at += 8;
    if (r->kind == OPERANDS && at)
        snprintf(out->field, sizeof out->field, "%s.stride (%s)", role_name(r, index),
                 r->steps[(at - STRIDES) / 8]);
    else if (r->kind == OPERANDS)
        snprintf(out->field, sizeof out->field, "%s.dtype", role_name(r, index));
    else if (r->kind == PER_ROLE)
        snprintf(out->field, sizeof out->field, "%s.%s", role_name(r, index), r->name);
    else
        snprintf(out->field, sizeof out->field, "%s", r->name);
    if (r->kind == OPERANDS && at == 0) {
        write_type(planned, out->planned);
        write_type(given, out->given);
    } else {
        write_value(r->kind, planned + at, out->planned);
        write_value(r->kind, given + at, out->given);
    }
}

static bool first_difference(const range *ranges, int count, const char *planned, const char *given,
                             tn_difference *out) {
    for (const range *r = ranges; r < ranges + count; ++r)
        for (size_t at = r->from; at < r->from + r->bytes; at += r->each)
            if (memcmp(planned + at, given + at, r->each) != 0) {
                describe(r, (int)((at - r->from) / r->each), planned + at, given + at, out);
                return true;
            }
    return false;
}

bool tn_problem_difference(tn_op op, const void *planned, const void *given, tn_difference *out) {
    switch (op) {
    case TN_OP_GEMM:
        return first_difference(gemm_ranges, TN_COUNT(gemm_ranges), planned, given, out);
    case TN_OP_SOFTMAX:
        return first_difference(softmax_ranges, TN_COUNT(softmax_ranges), planned, given, out);
    case TN_OP_ATTENTION:
        return first_difference(attention_ranges, TN_COUNT(attention_ranges), planned, given, out);
    case TN_OP_MERGE:
    case TN_OP_APPEND:
    case TN_OP_GEMM_PACK:
    case TN_OP_QUANTIZE:
    case TN_OP_DEQUANTIZE:
        break; /* have no plans of the caller's */
    }
    return false;
}
