/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_rows.c: softmaxes, attentions, appending to caches and merges for the kernels of
 * softmax.cu, attention_plain.cu, attention_mma.cu and cache.cu. Bounds are for the largest scores
 * that inputs below 1 can give, not for those of a row.
 */
#include "kernel_operand.h"

#include <math.h>
#include <string.h>

#include "bounds.h"
#include "number.h"

/* ---------------------------------------------------------------- softmax */

typedef struct softmax_case {
    const char *name;
    tenon_dtype x, y;
    int64_t heads, queries, keys;
    bool mask, bias, alibi, sinks, lse;
    int32_t log;
    tenon_causal causal;
    int64_t left; /* > 0: a window */
    double softcap;
    bool in_place;
} softmax_case;

static const softmax_case softmaxes[] = {
    {"short", TENON_F32, TENON_F32, 2, 9, 500, .lse = true},
    {"short, masked", TENON_BF16, TENON_F32, 2, 5, 45, true, true, true, true, true},
    {"short, log", TENON_F32, TENON_F32, 1, 36, 33, .log = 1, .causal = TENON_CAUSAL_BOTTOM_RIGHT,
     .left = 7, .softcap = 2},
    {"short, f64", TENON_F64, TENON_F64, 1, 9, 40, .lse = true},
    {"short, in place", TENON_F32, TENON_F32, 1, 18, 50, .in_place = true},
    {"long, in place", TENON_F32, TENON_F32, 1, 4, 600, .in_place = true},
    {"long", TENON_F32, TENON_F32, 1, 3, 700, .lse = true, .sinks = true},
    {"long, chunks", TENON_F32, TENON_F32, 1, 3, 2100, .lse = true, .mask = true},
    {"long, log", TENON_F32, TENON_F32, 1, 5, 2050, .log = 1, .causal = TENON_CAUSAL_TOP_LEFT,
     .alibi = true},
    {"long, f64", TENON_F64, TENON_F64, 1, 3, 515, .bias = true},
};
enum { SOFTMAXES = sizeof softmaxes / sizeof *softmaxes };

static bound_scores softmax_scores(const softmax_case *p) {
    return (bound_scores){.keys = p->keys,
                          .size = 1,
                          .addends =
                              (p->alibi ? (double)(p->keys + p->queries) : 0) + p->bias + p->sinks,
                          .softcap = p->softcap,
                          .accumulate = p->x == TENON_F64 ? TENON_F64 : TENON_F32};
}
static double softmax_error(int64_t index, double exact, const void *with) {
    const softmax_case *p = with;
    const bound_scores s = softmax_scores(p);
    (void)index;
    return p->log ? bound_log_probability(&s, exact)
                  : exact * bound_probability(&s) + bound_flush(s.accumulate);
}
static double softmax_lse_error(int64_t index, double exact, const void *with) {
    const bound_scores s = softmax_scores(with);
    (void)index;
    return bound_lse(&s, exact);
}

static void run_softmax(const softmax_case *p) {
    const int64_t shape[3] = {p->heads, p->queries, p->keys},
                  stride[3] = {p->queries * (p->keys + 1), p->keys + 1, 1};
    operand *y = p->in_place ? in_out(p->y, 3, shape, stride) : output(p->y, 3, shape, stride);
    operand *x = p->in_place ? y : input(p->x, 3, shape, stride);
    operand *mask = p->mask ? input(TENON_BOOL, 3, shape, NULL) : NULL;
    operand *bias = p->bias ? input(TENON_F32, 2, shape + 1, NULL) : NULL;
    operand *alibi = p->alibi ? input(TENON_F32, 1, shape, NULL) : NULL;
    operand *sinks = p->sinks ? input(TENON_F32, 1, shape, NULL) : NULL;
    operand *lse = p->lse ? output(TENON_F32, 2, shape, NULL) : NULL;
    tenon_softmax_desc d = {.log = p->log, .causal = p->causal, .softcap = p->softcap};
    if (p->left)
        d.window = (tenon_window){.enabled = 1, .left = p->left, .right = -1};
    tenon_softmax_desc r = d;
    d.x = DEVICE(x), d.y = DEVICE(y), d.mask = DEVICE(mask), d.bias = DEVICE(bias);
    d.alibi = DEVICE(alibi), d.sinks = DEVICE(sinks), d.lse = DEVICE(lse);
    r.x = HOST(x), r.y = HOST(y), r.mask = HOST(mask), r.bias = HOST(bias);
    r.alibi = HOST(alibi), r.sinks = HOST(sinks), r.lse = HOST(lse);
    must(p->name, "run", kernel_now.cuda, tenon_softmax(kernel_now.cuda, &d));
    must(p->name, "sync", kernel_now.cuda, tenon_sync(kernel_now.cuda));
    must(p->name, "reference", kernel_now.reference, tenon_softmax(kernel_now.reference, &r));
    if (!kernel_now.wrong[0]) {
        compare(p->name, y, softmax_error, p);
        if (lse)
            compare(p->name, lse, softmax_lse_error, p);
    }
}

/* ---------------------------------------------------------------- attention */

typedef struct attention_case {
    const char *name, *kernel; /* kernel: the one that must be chosen; NULL: any */
    tenon_dtype type, kv;
    int64_t batch, heads, kv_heads, queries, keys, d, dv;
    bool mask, bias, alibi, sinks, paged, ragged, scaled, split, apart;
    bool infinite; /* values that no query may see */
    tenon_causal causal;
    int64_t left;
    double softcap;
} attention_case;

static const attention_case attentions[] = {
    {.name = "attention",
     .type = TENON_F32,
     .kv = TENON_F32,
     .batch = 1,
     .heads = 2,
     .kv_heads = 1,
     .queries = 9,
     .keys = 300,
     .d = 20,
     .dv = 24,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "attention, window over two blocks",
     .type = TENON_F32,
     .kv = TENON_F32,
     .batch = 1,
     .heads = 1,
     .kv_heads = 1,
     .queries = 9,
     .keys = 517,
     .d = 8,
     .dv = 8,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT,
     .left = 3},
    {.name = "attention, masks",
     .type = TENON_F32,
     .kv = TENON_F32,
     .batch = 2,
     .heads = 2,
     .kv_heads = 2,
     .queries = 3,
     .keys = 40,
     .d = 16,
     .dv = 8,
     .mask = true,
     .bias = true,
     .alibi = true,
     .sinks = true,
     .softcap = 3,
     .left = 20},
    {.name = "attention, wide",
     .type = TENON_F32,
     .kv = TENON_F32,
     .batch = 1,
     .heads = 1,
     .kv_heads = 1,
     .queries = 2,
     .keys = 20,
     .d = 8,
     .dv = 530,
     .causal = TENON_CAUSAL_TOP_LEFT},
    {.name = "attention, window over two blocks, shared out",
     .type = TENON_F32,
     .kv = TENON_F32,
     .batch = 1,
     .heads = 1,
     .kv_heads = 1,
     .queries = 7,
     .keys = 517,
     .d = 36,
     .dv = 256,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT,
     .left = 3,
     .split = true},
    {.name = "attention, shared out",
     .type = TENON_F32,
     .kv = TENON_S8,
     .batch = 1,
     .heads = 8,
     .kv_heads = 1,
     .queries = 1,
     .keys = 530,
     .d = 36,
     .dv = 20,
     .scaled = true,
     .split = true},
    {.name = "attention, rows that see different keys",
     .type = TENON_F32,
     .kv = TENON_F32,
     .batch = 1,
     .heads = 8,
     .kv_heads = 1,
     .queries = 1,
     .keys = 600,
     .d = 8,
     .dv = 12,
     .apart = true,
     .sinks = true},
    {.name = "attention, rows that see different keys, shared out",
     .type = TENON_F32,
     .kv = TENON_F32,
     .batch = 1,
     .heads = 8,
     .kv_heads = 1,
     .queries = 1,
     .keys = 600,
     .d = 8,
     .dv = 12,
     .apart = true,
     .split = true},
    {.name = "attention, paged and ragged",
     .type = TENON_F32,
     .kv = TENON_F32,
     .batch = 3,
     .heads = 2,
     .kv_heads = 1,
     .queries = 11,
     .keys = 40,
     .d = 8,
     .dv = 8,
     .paged = true,
     .ragged = true,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "attention on tensor cores",
     .kernel = "attention_mma_bf16_64",
     .type = TENON_BF16,
     .kv = TENON_BF16,
     .batch = 1,
     .heads = 2,
     .kv_heads = 1,
     .queries = 70,
     .keys = 200,
     .d = 64,
     .dv = 64,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "attention on tensor cores, masks",
     .kernel = "attention_mma_f16_64",
     .type = TENON_F16,
     .kv = TENON_F16,
     .batch = 1,
     .heads = 2,
     .kv_heads = 2,
     .queries = 67,
     .keys = 141,
     .d = 40,
     .dv = 24,
     .mask = true,
     .bias = true,
     .alibi = true,
     .sinks = true,
     .softcap = 3,
     .left = 90},
    {.name = "attention on tensor cores, element by element",
     .kernel = "attention_mma_bf16_64",
     .type = TENON_BF16,
     .kv = TENON_S8,
     .batch = 1,
     .heads = 1,
     .kv_heads = 1,
     .queries = 65,
     .keys = 77,
     .d = 37,
     .dv = 21,
     .scaled = true,
     .causal = TENON_CAUSAL_TOP_LEFT},
    {.name = "attention on tensor cores, wide",
     .kernel = "attention_mma_f16_128",
     .type = TENON_F16,
     .kv = TENON_F16,
     .batch = 1,
     .heads = 1,
     .kv_heads = 1,
     .queries = 65,
     .keys = 130,
     .d = 104,
     .dv = 128},
    {.name = "attention on tensor cores, infinite values under a mask",
     .kernel = "attention_mma_bf16_64",
     .type = TENON_BF16,
     .kv = TENON_BF16,
     .batch = 1,
     .heads = 1,
     .kv_heads = 1,
     .queries = 66,
     .keys = 70,
     .d = 16,
     .dv = 32,
     .infinite = true,
     .causal = TENON_CAUSAL_TOP_LEFT},
    {.name = "attention on tensor cores, one query",
     .kernel = "attention_mma_bf16_flat",
     .type = TENON_BF16,
     .kv = TENON_BF16,
     .batch = 1,
     .heads = 13,
     .kv_heads = 1,
     .queries = 1,
     .keys = 197,
     .d = 72,
     .dv = 136,
     .mask = true},
    {.name = "attention on tensor cores, one query, shared out",
     .kernel = "attention_mma_bf16_flat",
     .type = TENON_BF16,
     .kv = TENON_BF16,
     .batch = 1,
     .heads = 8,
     .kv_heads = 1,
     .queries = 1,
     .keys = 4420,
     .d = 200,
     .dv = 256,
     .left = 4300,
     .split = true},
    {.name = "attention on tensor cores, paged and ragged",
     .kernel = "attention_mma_f16_flat",
     .type = TENON_F16,
     .kv = TENON_F16,
     .batch = 3,
     .heads = 2,
     .kv_heads = 1,
     .queries = 11,
     .keys = 40,
     .d = 24,
     .dv = 32,
     .paged = true,
     .ragged = true,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "attention, f64",
     .type = TENON_F64,
     .kv = TENON_F64,
     .batch = 1,
     .heads = 5,
     .kv_heads = 1,
     .queries = 1,
     .keys = 270,
     .d = 8,
     .dv = 12},
};
enum { ATTENTIONS = sizeof attentions / sizeof *attentions };
enum { PAGE = 8, PAGES = 15 };

typedef struct attention_operands {
    operand *q, *k, *v, *o, *lse, *bias, *mask, *alibi, *sinks, *k_scale, *v_scale, *lengths,
        *table, *cu;
} attention_operands;

static tenon_attention_desc attention_desc(const attention_case *p, const attention_operands *o,
                                           bool host) {
#define OF(role) (host ? HOST(o->role) : DEVICE(o->role))
    tenon_attention_desc d = {.q = OF(q),
                              .k = OF(k),
                              .v = OF(v),
                              .o = OF(o),
                              .lse = OF(lse),
                              .bias = OF(bias),
                              .mask = OF(mask),
                              .alibi = OF(alibi),
                              .sinks = OF(sinks),
                              .k_scale = OF(k_scale),
                              .v_scale = OF(v_scale),
                              .key_lengths = OF(lengths),
                              .block_table = OF(table),
                              .cu_seqlens_q = OF(cu),
                              .causal = p->causal,
                              .softcap = p->softcap};
#undef OF
    if (p->left)
        d.window = (tenon_window){.enabled = 1, .left = p->left, .right = -1};
    return d;
}

/* A mask for 8 heads and 600 keys, three blocks of them: each head, a row of the kernel's unit, sees other blocks. */
static operand *rows_apart(const int64_t shape[4]) {
    static const struct {
        int from, to, or_from, or_to;
    } seen[8] = {{0, 600, 0, 0},   {256, 512, 0, 0}, {0, 256, 512, 600}, {0, 0, 0, 0},
                 {599, 600, 0, 0}, {255, 257, 0, 0}, {0, 1, 511, 513},   {300, 301, 520, 600}};
    static int32_t keep[8 * 600];
    for (int h = 0; h < 8; h++)
        for (int j = 0; j < 600; j++)
            keep[h * 600 + j] = (j >= seen[h].from && j < seen[h].to) ||
                                (j >= seen[h].or_from && j < seen[h].or_to);
    return indices(TENON_BOOL, 4, shape, keep);
}

typedef struct attention_bound {
    bound_scores scores;
    double v;
} attention_bound;

/* The largest magnitude of what is finite. */
static double largest_of(const operand *o) {
    double largest = 0;
    for (int64_t i = 0; i < elements_of(&o->host); i++) {
        const unsigned char *at =
            o->own + (size_t)place_of(&o->host, i) * number_size(o->host.dtype);
        const double x = fabs(number_get(at, o->host.dtype));
        largest = isfinite(x) ? fmax(largest, x) : largest;
    }
    return largest;
}
static attention_bound attention_bound_of(const attention_case *p, const attention_operands *o) {
    const double scale = o->k_scale ? largest_of(o->k_scale) : 1;
    return (attention_bound){
        {.d = p->d,
         .keys = p->keys,
         .size = sqrt((double)p->d) * largest_of(o->q) * largest_of(o->k) * scale,
         .addends = (p->alibi ? (double)(p->keys + p->queries) : 0) + p->bias + p->sinks,
         .softcap = p->softcap,
         .accumulate = p->type == TENON_F64 ? TENON_F64 : TENON_F32,
         .weights = p->type == TENON_F16 || p->type == TENON_BF16 ? p->type : TENON_DTYPE_NONE},
        largest_of(o->v) * (o->v_scale ? largest_of(o->v_scale) : 1)};
}
static double attention_error(int64_t index, double exact, const void *with) {
    const attention_bound *b = with;
    (void)index, (void)exact;
    return bound_attention(&b->scores, b->v);
}
static double attention_lse_error(int64_t index, double exact, const void *with) {
    const attention_bound *b = with;
    (void)index;
    return bound_lse(&b->scores, exact);
}

static void run_attention(const attention_case *p) {
    static const int32_t lengths[3] = {40, 3, 17}, cu[4] = {0, 2, 3, 11};
    int32_t table[15];
    for (int i = 0; i < PAGES; i++)
        table[i] = i * 7 % PAGES;
    const int64_t tokens = p->ragged ? 1 : p->batch;
    const int64_t q[4] = {tokens, p->heads, p->queries, p->d},
                  o_shape[4] = {tokens, p->heads, p->queries, p->dv};
    const int64_t k[4] = {p->paged ? PAGES : p->batch, p->kv_heads, p->paged ? PAGE : p->keys,
                          p->d},
                  v[4] = {k[0], k[1], k[2], p->dv};
    const int64_t masks[4] = {tokens, p->heads, p->queries, p->keys};
    const int64_t across = p->dv + 1, /* between rows is what must stay */
        o_stride[4] = {p->heads * p->queries * across, p->queries * across, across, 1};
    attention_operands o = {0};
    o.q = input(p->type, 4, q, NULL);
    o.k = input(p->kv, 4, k, NULL);
    o.v = input(p->kv, 4, v, NULL);
    o.o = output(p->type, 4, o_shape, o_stride);
    o.lse = output(TENON_F32, 3, o_shape, NULL);
    o.mask = p->apart ? rows_apart(masks) : p->mask ? input(TENON_BOOL, 4, masks, NULL) : NULL;
    o.bias = p->bias ? input(TENON_F32, 2, masks + 2, NULL) : NULL;
    o.alibi = p->alibi ? input(TENON_F32, 1, &p->heads, NULL) : NULL;
    o.sinks = p->sinks ? input(TENON_F32, 1, &p->heads, NULL) : NULL;
    o.k_scale = p->scaled ? input(TENON_F32, 3, k, NULL) : NULL;
    o.v_scale = p->scaled ? input(TENON_F32, 3, k, NULL) : NULL;
    if (p->infinite) { /* of keys after the last query's */
        for (int64_t i = 66 * p->dv; i < elements_of(&o.v->host); i++)
            number_put(o.v->own + (size_t)i * number_size(p->kv), p->kv, (double)INFINITY);
        upload(o.v);
    }
    if (p->paged) {
        o.lengths = indices(TENON_S32, 1, &p->batch, lengths);
        o.table = indices(TENON_S32, 2, (const int64_t[2]){p->batch, PAGES / p->batch}, table);
    }
    if (p->ragged)
        o.cu = indices(TENON_S32, 1, (const int64_t[1]){p->batch + 1}, cu);
    const tenon_attention_desc d = attention_desc(p, &o, false), r = attention_desc(p, &o, true);
    tenon_plan *plan = NULL;
    must(p->name, "plan", kernel_now.cuda, tenon_attention_plan(kernel_now.cuda, &d, &plan));
    tenon_plan_info info = {0};
    if (plan && tenon_plan_query(plan, &info) == TENON_OK && !p->split)
        (void)tenon_plan_choose(plan, info.choices - 1);
    if (plan && p->kernel && strcmp(info.kernel, p->kernel) != 0)
        tell(p->name, info.kernel);
    if (p->split && info.workspace == 0)
        tell(p->name, "the blocks of keys are not shared out");
    if (!kernel_now.wrong[0]) {
        must(p->name, "run", kernel_now.cuda, tenon_attention_run(kernel_now.cuda, plan, &d));
        must(p->name, "sync", kernel_now.cuda, tenon_sync(kernel_now.cuda));
        must(p->name, "reference", kernel_now.reference, tenon_attention(kernel_now.reference, &r));
    }
    if (!kernel_now.wrong[0]) {
        const attention_bound b = attention_bound_of(p, &o);
        compare(p->name, o.o, attention_error, &b);
        compare(p->name, o.lse, attention_lse_error, &b);
    }
    tenon_plan_destroy(plan);
}

/* ---------------------------------------------------------------- caches, merges */

typedef struct append_case {
    const char *name;
    tenon_dtype type, cache;
    bool paged, ragged, scaled;
} append_case;
static const append_case appends[] = {
    {"append", TENON_F32, TENON_BF16, false, false, false},
    {"append, paged", TENON_BF16, TENON_F32, true, false, false},
    {"append, ragged", TENON_F32, TENON_S8, true, true, true},
};
enum { APPENDS = sizeof appends / sizeof *appends };

/* Quotients of values below 1 by scales of which two roundings may move each: docs/NUMERICS.md, 6. */
static double append_error(int64_t index, double exact, const void *with) {
    (void)index;
    return *(const bool *)with ? 2 * bound_unit(TENON_F32) * fabs(exact) : 0;
}

static void run_append(const append_case *p) {
    static const int32_t positions[3] = {5, 0, 9}, cu[4] = {0, 2, 2, 9};
    int32_t table[15];
    for (int i = 0; i < PAGES; i++)
        table[i] = i * 7 % PAGES;
    const int64_t three = 3, x[4] = {p->ragged ? 1 : 3, 2, p->ragged ? 9 : 4, 11};
    const int64_t cache[4] = {p->paged ? PAGES : 3, 2, p->paged ? PAGE : 20, 11};
    operand *rows = input(p->type, 4, x, NULL);
    operand *to = output(p->cache, 4, cache, NULL);
    operand *at = indices(TENON_S32, 1, &three, positions);
    operand *pages =
        p->paged ? indices(TENON_S32, 2, (const int64_t[2]){3, PAGES / 3}, table) : NULL;
    operand *sequences = p->ragged ? indices(TENON_S64, 1, (const int64_t[1]){4}, cu) : NULL;
    operand *scale = p->scaled ? input(TENON_F32, 1, &x[1], NULL) : NULL;
    tenon_kv_append_desc d = {.k = DEVICE(rows),
                              .k_cache = DEVICE(to),
                              .positions = DEVICE(at),
                              .block_table = DEVICE(pages),
                              .cu_seqlens = DEVICE(sequences),
                              .k_scale = DEVICE(scale)};
    tenon_kv_append_desc r = d;
    r.k = HOST(rows), r.k_cache = HOST(to), r.k_scale = HOST(scale);
    r.positions = HOST(at), r.block_table = HOST(pages), r.cu_seqlens = HOST(sequences);
    must(p->name, "run", kernel_now.cuda, tenon_kv_append(kernel_now.cuda, &d));
    must(p->name, "sync", kernel_now.cuda, tenon_sync(kernel_now.cuda));
    must(p->name, "reference", kernel_now.reference, tenon_kv_append(kernel_now.reference, &r));
    if (!kernel_now.wrong[0])
        compare(p->name, to, append_error, &p->scaled);
}

static const int merges[] = {3, 8, 10}; /* parts: at once, and through the workspace */
enum { MERGES = sizeof merges / sizeof *merges };

static double merge_error(int64_t index, double exact, const void *with) {
    (void)index, (void)exact;
    return bound_merge(*(const int *)with, 1, 1, TENON_F32);
}
static double merge_lse_error(int64_t index, double exact, const void *with) {
    (void)index;
    return bound_merge_lse(*(const int *)with, fmax(1, fabs(exact)), TENON_F32);
}

static void run_merge(int parts) {
    const int64_t shape[3] = {2, 9, 37};
    const char *name = parts > 8 ? "merge of many" : "merge";
    tenon_tensor o[2][10], lse[2][10];
    operand *all = in_out(TENON_F32, 3, shape, NULL),
            *sum = in_out(TENON_F32, 2, shape, NULL); /* which are the first part too */
    for (int i = 0; i < parts; i++) {
        const operand *x = i == 0 ? all : input(TENON_F32, 3, shape, NULL),
                      *y = i == 0 ? sum : input(TENON_F32, 2, shape, NULL);
        o[0][i] = x->device, o[1][i] = x->host;
        lse[0][i] = y->device, lse[1][i] = y->host;
    }
    const tenon_attention_merge_desc x = {.o_parts = o[0],
                                          .lse_parts = lse[0],
                                          .count = parts,
                                          .o = all->device,
                                          .lse = sum->device},
                                     r = {.o_parts = o[1],
                                          .lse_parts = lse[1],
                                          .count = parts,
                                          .o = all->host,
                                          .lse = sum->host};
    must(name, "run", kernel_now.cuda, tenon_attention_merge(kernel_now.cuda, &x));
    must(name, "sync", kernel_now.cuda, tenon_sync(kernel_now.cuda));
    must(name, "reference", kernel_now.reference, tenon_attention_merge(kernel_now.reference, &r));
    if (!kernel_now.wrong[0]) {
        compare(name, all, merge_error, &parts);
        compare(name, sum, merge_lse_error, &parts);
    }
}

/* ---------------------------------------------------------------- all of them */

int kernel_rows(void) {
    return SOFTMAXES + ATTENTIONS + APPENDS + MERGES;
}

const char *kernel_rows_name(int i) {
    if (i < SOFTMAXES)
        return softmaxes[i].name;
    i -= SOFTMAXES;
    if (i < ATTENTIONS)
        return attentions[i].name;
    i -= ATTENTIONS;
    return i < APPENDS ? appends[i].name : "merge";
}

void kernel_rows_run(int i) {
    if (i < SOFTMAXES)
        run_softmax(&softmaxes[i]);
    else if ((i -= SOFTMAXES) < ATTENTIONS)
        run_attention(&attentions[i]);
    else if ((i -= ATTENTIONS) < APPENDS)
        run_append(&appends[i]);
    else
        run_merge(merges[i - APPENDS]);
}
