/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical problems in words. Lines are meant to be read and to be found again by a tool:
 * "name=value" pairs separated by spaces, types first, only what is not the default.
 */
#include "ops/describe.h"

#include "ops/ops.h"

#include <stdarg.h>
#include <stdio.h>

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
    if (p->operand[TN_GEMM_B_PACKED].dtype != TENON_DTYPE_NONE)
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

/* ---------------------------------------------------------------- differences */

/*
 * A range of a problem's bytes and the descriptor's field it comes from; with `form`: an array of
 * `each` bytes a role, one name each.
 */
typedef struct range {
    size_t from, bytes, each;
    const char *name;
    const tn_form *form;
} range;

#define FIELD(type, member, name)                                                                  \
    { offsetof(type, member), sizeof(((type *)0)->member), sizeof(((type *)0)->member), name, NULL }
#define OPERANDS(type, member, form)                                                               \
    {                                                                                              \
        offsetof(type, member), sizeof(((type *)0)->member), sizeof(((type *)0)->member[0]),       \
            "b_packed", form                                                                       \
    }

static const range gemm_ranges[] = {
    FIELD(tn_gemm_problem, m, "a.shape"),
    FIELD(tn_gemm_problem, n, "c.shape"),
    FIELD(tn_gemm_problem, k, "a.shape"),
    FIELD(tn_gemm_problem, pointer_array, "array_count"),
    FIELD(tn_gemm_problem, batch_count, "c.shape or array_count"),
    FIELD(tn_gemm_problem, batch, "c.shape"),
    FIELD(tn_gemm_problem, batch_rank, "c.rank"),
    FIELD(tn_gemm_problem, experts, "group_offsets"),
    OPERANDS(tn_gemm_problem, operand, &tn_gemm_form),
    OPERANDS(tn_gemm_problem, group, &tn_gemm_form),
    FIELD(tn_gemm_problem, alpha, "alpha"),
    FIELD(tn_gemm_problem, beta, "beta"),
    FIELD(tn_gemm_problem, clamp_low, "clamp_low"),
    FIELD(tn_gemm_problem, clamp_high, "clamp_high"),
    FIELD(tn_gemm_problem, packed_bytes, "b_packed_bytes"),
    FIELD(tn_gemm_problem, activation, "activation"),
    FIELD(tn_gemm_problem, gated, "gated"),
    FIELD(tn_gemm_problem, compute, "compute"),
};

static const range softmax_ranges[] = {
    FIELD(tn_softmax_problem, length, "x.shape or axis"),
    FIELD(tn_softmax_problem, rows, "x.shape or axis"),
    FIELD(tn_softmax_problem, extent, "x.shape or axis"),
    FIELD(tn_softmax_problem, rank, "x.rank"),
    FIELD(tn_softmax_problem, query_dim, "causal or window"),
    OPERANDS(tn_softmax_problem, operand, &tn_softmax_form),
    FIELD(tn_softmax_problem, scale, "scale"),
    FIELD(tn_softmax_problem, softcap, "softcap"),
    FIELD(tn_softmax_problem, offset, "causal"),
    FIELD(tn_softmax_problem, left, "window.left"),
    FIELD(tn_softmax_problem, right, "causal or window.right"),
    FIELD(tn_softmax_problem, log, "log"),
};

static const range attention_ranges[] = {
    FIELD(tn_attention_problem, batch, "q.shape[0]"),
    FIELD(tn_attention_problem, heads, "q.shape[1]"),
    FIELD(tn_attention_problem, kv_heads, "k.shape[1]"),
    FIELD(tn_attention_problem, queries, "q.shape[2]"),
    FIELD(tn_attention_problem, keys, "k.shape[2]"),
    FIELD(tn_attention_problem, mask_keys, "mask.shape[3]"),
    FIELD(tn_attention_problem, d, "q.shape[3]"),
    FIELD(tn_attention_problem, dv, "v.shape[3]"),
    FIELD(tn_attention_problem, blocks, "k.shape[0]"),
    FIELD(tn_attention_problem, block_size, "k.shape[2]"),
    FIELD(tn_attention_problem, max_blocks, "block_table.shape[1]"),
    OPERANDS(tn_attention_problem, operand, &tn_attention_form),
    FIELD(tn_attention_problem, scale, "scale"),
    FIELD(tn_attention_problem, softcap, "softcap"),
    FIELD(tn_attention_problem, left, "window.left"),
    FIELD(tn_attention_problem, right, "causal or window.right"),
    FIELD(tn_attention_problem, align_bottom, "causal"),
    FIELD(tn_attention_problem, compute, "compute"),
};

static const range append_ranges[] = {
    FIELD(tn_append_problem, batch, "positions.shape[0]"),
    FIELD(tn_append_problem, kv_heads, "k.shape[1]"),
    FIELD(tn_append_problem, rows, "k.shape[2]"),
    OPERANDS(tn_append_problem, operand, &tn_append_form),
};

static const char *first_difference(const range *ranges, int count, const void *a, const void *b) {
    for (const range *r = ranges; r < ranges + count; ++r)
        for (size_t i = 0; i * r->each < r->bytes; ++i) {
            const size_t from = r->from + i * r->each;
            if (memcmp((const char *)a + from, (const char *)b + from, r->each) != 0)
                return r->form && (int)i < r->form->operands ? r->form->operand[i].name : r->name;
        }
    return NULL;
}

const char *tn_problem_difference(tn_op op, const void *a, const void *b) {
    switch (op) {
    case TN_OP_GEMM:
    case TN_OP_GEMM_PACK:
        return first_difference(gemm_ranges, TN_COUNT(gemm_ranges), a, b);
    case TN_OP_SOFTMAX:
        return first_difference(softmax_ranges, TN_COUNT(softmax_ranges), a, b);
    case TN_OP_ATTENTION:
        return first_difference(attention_ranges, TN_COUNT(attention_ranges), a, b);
    case TN_OP_APPEND:
        return first_difference(append_ranges, TN_COUNT(append_ranges), a, b);
    case TN_OP_MERGE:
        return memcmp(a, b, sizeof(tn_merge_problem)) ? "o_parts" : NULL;
    }
    return NULL;
}
