/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical problems in words. Lines are meant to be read and to be found again by a tool:
 * "name=value" pairs separated by spaces, types first, only what is not the default.
 */
#include "ops/describe.h"

#include "ops/ops.h"

#include <stdarg.h>
#include <stdio.h>

const char *tn_op_name(tn_op op) {
    switch (op) {
    case TN_OP_GEMM:
        return "gemm";
    case TN_OP_SOFTMAX:
        return "softmax";
    case TN_OP_ATTENTION:
        return "attention";
    default:
        return "?";
    }
}

/* ---------------------------------------------------------------- lines */

typedef struct line {
    char *text;
    size_t capacity, used;
} line;

static void add(line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(line *l, const char *format, ...) {
    va_list args;
    if (l->used >= l->capacity)
        return;
    va_start(args, format);
    const int n = vsnprintf(l->text + l->used, l->capacity - l->used, format, args);
    va_end(args);
    if (n > 0)
        l->used += (size_t)n;
}

static void add_size(line *l, const char *name, int64_t value) {
    add(l, " %s=%lld", name, (long long)value);
}

/*
 * The fields that are there, with their types. `stride`: bytes from one role's type to the next in
 * the problem.
 */
static void add_operands(line *l, const tn_form *form, const tenon_dtype *first, size_t stride) {
    for (int role = 0; role < form->operands; ++role) {
        const tenon_dtype *dtype =
            (const tenon_dtype *)(const void *)((const char *)first + (size_t)role * stride);
        if (*dtype != TENON_DTYPE_NONE)
            add(l, " %s=%s", form->operand[role].name, tenon_dtype_name(*dtype));
    }
}

void tn_gemm_describe(const void *problem, char *text, size_t capacity) {
    static const char *const activations[] = {"none", "relu",    "gelu", "gelu_tanh",
                                              "silu", "sigmoid", "tanh", "clamp"};
    const tn_gemm_problem *p = problem;
    line l = {text, capacity, 0};
    const tn_gemm_operand *a = &p->operand[TN_GEMM_A], *b = &p->operand[TN_GEMM_B];

    add(&l, "gemm m=%lld n=%lld k=%lld layout=%c%c", (long long)p->m, (long long)p->n,
        (long long)p->k, a->column == 1 ? 'n' : 't', b->column == 1 ? 'n' : 't');
    if (p->batch_count != 1)
        add_size(&l, "batch", p->batch_count);
    if (p->experts)
        add_size(&l, "experts", p->experts);
    add_operands(&l, &tn_gemm_form, &p->operand[0].dtype, sizeof p->operand[0]);
    if (tn_gemm_is_packed(p))
        add_size(&l, "b_packed_bytes", p->packed_bytes);
    if (p->alpha != 1)
        add(&l, " alpha=%g", p->alpha);
    if (p->beta != 0)
        add(&l, " beta=%g", p->beta);
    if (p->activation)
        add(&l, " activation=%s", activations[p->activation]);
    if (p->gated)
        add(&l, " gated=%s", p->gated == TENON_GATED_HALVES ? "halves" : "interleaved");
}

static void add_positions(line *l, int64_t left, int64_t right) {
    if (left != TN_UNLIMITED)
        add_size(l, "left", left);
    if (right != TN_UNLIMITED)
        add_size(l, "right", right);
}

void tn_softmax_describe(const void *problem, char *text, size_t capacity) {
    const tn_softmax_problem *p = problem;
    line l = {text, capacity, 0};

    add(&l, "softmax rows=%lld cols=%lld step=%lld", (long long)p->rows, (long long)p->length,
        (long long)p->operand[TN_SOFTMAX_X].step);
    add_operands(&l, &tn_softmax_form, &p->operand[0].dtype, sizeof p->operand[0]);
    if (p->log)
        add(&l, " log=1");
    if (p->softcap != 0)
        add(&l, " softcap=%g", p->softcap);
    add_positions(&l, p->left, p->right);
}

void tn_attention_describe(const void *problem, char *text, size_t capacity) {
    const tn_attention_problem *p = problem;
    line l = {text, capacity, 0};

    add(&l, "attention batch=%lld q_heads=%lld kv_heads=%lld q_len=%lld k_len=%lld head_dim=%lld",
        (long long)p->batch, (long long)p->heads, (long long)p->kv_heads, (long long)p->queries,
        (long long)p->keys, (long long)p->d);
    if (p->dv != p->d)
        add_size(&l, "v_dim", p->dv);
    if (p->block_size)
        add_size(&l, "block_size", p->block_size);
    add_operands(&l, &tn_attention_form, &p->operand[0].dtype, sizeof p->operand[0]);
    if (p->softcap != 0)
        add(&l, " softcap=%g", p->softcap);
    add_positions(&l, p->left, p->right);
}

void tn_merge_describe(const void *problem, char *text, size_t capacity) {
    const tn_merge_problem *p = problem;
    snprintf(text, capacity, "merge count=%lld rows=%lld v_dim=%lld", (long long)p->count,
             (long long)p->rows, (long long)p->dv);
}

void tn_append_describe(const void *problem, char *text, size_t capacity) {
    const tn_append_problem *p = problem;
    snprintf(text, capacity,
             "append batch=%lld kv_heads=%lld rows=%lld capacity=%lld head_dim=%lld",
             (long long)p->batch, (long long)p->kv_heads, (long long)p->rows,
             (long long)p->capacity, (long long)p->d);
}

static void describe_blocks(const char *name, const tn_quantize_problem *p, char *text,
                            size_t capacity) {
    snprintf(text, capacity, "%s x=%s y=%s rows=%lld n=%lld", name,
             tenon_dtype_name(p->operand[TN_QUANTIZE_X].dtype),
             tenon_dtype_name(p->operand[TN_QUANTIZE_Y].dtype), (long long)p->rows,
             (long long)p->n);
}

void tn_quantize_describe(const void *problem, char *text, size_t capacity) {
    describe_blocks("quantize", problem, text, capacity);
}

void tn_dequantize_describe(const void *problem, char *text, size_t capacity) {
    describe_blocks("dequantize", problem, text, capacity);
}
