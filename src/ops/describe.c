/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical problems in words. Lines are meant to be read and to be found again by a tool: "name=value" pairs separated by spaces,
 * types first, only what is not the default.
 */
#include "ops/describe.h"

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

/* A flag if present. */
static void add_operand(line *l, const char *name, tenon_dtype dtype) {
    if (dtype != TENON_DTYPE_NONE)
        add(l, " %s=%s", name, tenon_dtype_name(dtype));
}

void tn_gemm_describe(const void *problem, char *text, size_t capacity) {
    static const char *const names[TN_GEMM_ROLES] = {
        "a",       "b",      "c",       "bias",   "residual", "a_scale", "a_zero",
        "b_scale", "b_zero", "c_scale", "c_zero", "offsets",  "packed"};
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
    for (int role = 0; role < TN_GEMM_ROLES; ++role)
        add_operand(&l, names[role], p->operand[role].dtype);
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
    static const char *const names[TN_SOFTMAX_ROLES] = {"x",     "y",     "bias", "mask",
                                                        "alibi", "sinks", "lse"};
    const tn_softmax_problem *p = problem;
    line l = {text, capacity, 0};

    add(&l, "softmax rows=%lld cols=%lld step=%lld", (long long)p->rows, (long long)p->length,
        (long long)p->operand[TN_SOFTMAX_X].step);
    for (int role = 0; role < TN_SOFTMAX_ROLES; ++role)
        add_operand(&l, names[role], p->operand[role].dtype);
    if (p->log)
        add(&l, " log=1");
    if (p->softcap != 0)
        add(&l, " softcap=%g", p->softcap);
    add_positions(&l, p->left, p->right);
}

void tn_attention_describe(const void *problem, char *text, size_t capacity) {
    static const char *const names[TN_ATTENTION_ROLES] = {
        "q",    "k",     "v",     "o",           "bias",
        "mask", "alibi", "sinks", "key_lengths", "query_offsets",
        "cu_q", "cu_k",  "table", "k_scale",     "v_scale",
        "lse"};
    const tn_attention_problem *p = problem;
    line l = {text, capacity, 0};

    add(&l, "attention batch=%lld q_heads=%lld kv_heads=%lld q_len=%lld k_len=%lld head_dim=%lld",
        (long long)p->batch, (long long)p->heads, (long long)p->kv_heads, (long long)p->queries,
        (long long)p->keys, (long long)p->d);
    if (p->dv != p->d)
        add_size(&l, "v_dim", p->dv);
    if (p->block_size)
        add_size(&l, "block_size", p->block_size);
    for (int role = 0; role < TN_ATTENTION_ROLES; ++role)
        add_operand(&l, names[role], p->operand[role].dtype);
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

/* A range of a problem's bytes and the descriptor's field it comes from; `each` > 0: an array of operands, one name each. */
typedef struct range {
    size_t from, bytes, each;
    const char *const *names;
} range;

#define FIELD(type, member, name)                                                                  \
    {                                                                                              \
        offsetof(type, member), sizeof(((type *)0)->member), 0, (const char *const[]) {            \
            name                                                                                   \
        }                                                                                          \
    }
#define OPERANDS(type, member, list)                                                               \
    { offsetof(type, member), sizeof(((type *)0)->member), sizeof(((type *)0)->member[0]), list }

static const char *const gemm_names[] = {
    "a",       "b",      "c",       "bias",   "residual",      "a_scale", "a_zero",
    "b_scale", "b_zero", "c_scale", "c_zero", "group_offsets", "b_packed"};
static const char *const softmax_names[] = {"x", "y", "bias", "mask", "alibi", "sinks", "lse"};
static const char *const attention_names[] = {"q",
                                              "k",
                                              "v",
                                              "o",
                                              "bias",
                                              "mask",
                                              "alibi",
                                              "sinks",
                                              "key_lengths",
                                              "query_offsets",
                                              "cu_seqlens_q",
                                              "cu_seqlens_k",
                                              "block_table",
                                              "k_scale",
                                              "v_scale",
                                              "lse"};
static const char *const append_names[] = {
    "k", "v", "k_cache", "v_cache", "positions", "cu_seqlens", "block_table", "k_scale", "v_scale"};

static const range gemm_ranges[] = {
    FIELD(tn_gemm_problem, m, "a.shape"),
    FIELD(tn_gemm_problem, n, "c.shape"),
    FIELD(tn_gemm_problem, k, "a.shape"),
    FIELD(tn_gemm_problem, pointer_array, "array_count"),
    FIELD(tn_gemm_problem, batch_count, "c.shape or array_count"),
    FIELD(tn_gemm_problem, batch, "c.shape"),
    FIELD(tn_gemm_problem, batch_rank, "c.rank"),
    FIELD(tn_gemm_problem, experts, "group_offsets"),
    OPERANDS(tn_gemm_problem, operand, gemm_names),
    OPERANDS(tn_gemm_problem, group, gemm_names),
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
    OPERANDS(tn_softmax_problem, operand, softmax_names),
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
    OPERANDS(tn_attention_problem, operand, attention_names),
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
    OPERANDS(tn_append_problem, operand, append_names),
};

static const char *first_difference(const range *ranges, size_t count, const void *a,
                                    const void *b) {
    for (size_t r = 0; r < count; ++r) {
        const size_t step = ranges[r].each ? ranges[r].each : ranges[r].bytes;
        for (size_t i = 0; i * step < ranges[r].bytes; ++i) {
            const size_t from = ranges[r].from + i * step;
            if (memcmp((const char *)a + from, (const char *)b + from, step) != 0)
                return ranges[r].names[i];
        }
    }
    return NULL;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *tn_problem_difference(tn_op op, const void *a, const void *b) {
    switch (op) {
    case TN_OP_GEMM:
    case TN_OP_GEMM_PACK:
        return first_difference(gemm_ranges, COUNT(gemm_ranges), a, b);
    case TN_OP_SOFTMAX:
        return first_difference(softmax_ranges, COUNT(softmax_ranges), a, b);
    case TN_OP_ATTENTION:
        return first_difference(attention_ranges, COUNT(attention_ranges), a, b);
    case TN_OP_APPEND:
        return first_difference(append_ranges, COUNT(append_ranges), a, b);
    case TN_OP_MERGE:
        return memcmp(a, b, sizeof(tn_merge_problem)) ? "o_parts" : NULL;
    }
    return NULL;
}
