/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subject_tenon.c: tenon under test (subject.h): each operation as one call, and as plan, run and
 * destroy. The context is kept between calls, as users keep it.
 */
#include "subject.h"

#include <tenon/tenon.h>

#define FUNCTIONS(F)                                                                               \
    F(tenon_context_create)                                                                        \
    F(tenon_error_message)                                                                         \
    F(tenon_status_name)                                                                           \
    F(tenon_version)                                                                               \
    F(tenon_plan_destroy)                                                                          \
    F(tenon_gemm)                                                                                  \
    F(tenon_gemm_plan)                                                                             \
    F(tenon_gemm_run)                                                                              \
    F(tenon_softmax)                                                                               \
    F(tenon_softmax_plan)                                                                          \
    F(tenon_softmax_run)                                                                           \
    F(tenon_attention)                                                                             \
    F(tenon_attention_plan)                                                                        \
    F(tenon_attention_run)

static struct {
#define MEMBER(name) __typeof__(&name) name;
    FUNCTIONS(MEMBER)
#undef MEMBER
} api;

static tenon_context *ctx;

static bool said(tenon_status status, char *why) {
    return status == TENON_OK ||
           refuse(why, "%s: %s", api.tenon_status_name(status), api.tenon_error_message(ctx));
}

static bool start(void *library, int threads, char *why) {
#define LOOK_UP(name)                                                                              \
    if (!look_up(library, #name, &api.name, why))                                                  \
        return false;
    FUNCTIONS(LOOK_UP)
#undef LOOK_UP
    const tenon_context_desc desc = {.struct_size = sizeof desc, .threads = threads};
    return said(api.tenon_context_create(&desc, &ctx), why);
}

static void version(void *library, char *text) {
    (void)library;
    const int v = api.tenon_version ? api.tenon_version() : 0;
    refuse(text, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
}

/* ---- operands ---- */

static tenon_gemm_desc product(const task *t) {
    return (tenon_gemm_desc){.a = tenon_matrix(t->a, TENON_F32, t->size, t->size),
                             .b = tenon_matrix(t->b, TENON_F32, t->size, t->size),
                             .c = tenon_matrix(t->out, TENON_F32, t->size, t->size)};
}

static tenon_softmax_desc softmax(const task *t) {
    return (tenon_softmax_desc){.x = tenon_matrix(t->a, TENON_F32, SOFTMAX_ROWS, SOFTMAX_COLUMNS),
                                .y =
                                    tenon_matrix(t->out, TENON_F32, SOFTMAX_ROWS, SOFTMAX_COLUMNS)};
}

static tenon_attention_desc attention(const task *t) {
    return (tenon_attention_desc){
        .q = tenon_tensor4(t->a, TENON_F32, 1, HEADS, QUERIES, HEAD_DIM),
        .k = tenon_tensor4(t->b, TENON_F32, 1, HEADS, KEYS, HEAD_DIM),
        .v = tenon_tensor4(t->v, TENON_F32, 1, HEADS, KEYS, HEAD_DIM),
        .o = tenon_tensor4(t->out, TENON_F32, 1, HEADS, QUERIES, HEAD_DIM)};
}

/* ---- calls ---- */

static bool gemm_once(const task *t, char *why) {
    const tenon_gemm_desc desc = product(t);
    return said(api.tenon_gemm(ctx, &desc), why);
}

static bool softmax_once(const task *t, char *why) {
    const tenon_softmax_desc desc = softmax(t);
    return said(api.tenon_softmax(ctx, &desc), why);
}

static bool attention_once(const task *t, char *why) {
    const tenon_attention_desc desc = attention(t);
    return said(api.tenon_attention(ctx, &desc), why);
}

static bool gemm_planned(const task *t, char *why) {
    const tenon_gemm_desc desc = product(t);
    tenon_plan *plan;
    const bool ok = said(api.tenon_gemm_plan(ctx, &desc, &plan), why) &&
                    said(api.tenon_gemm_run(ctx, plan, &desc), why);
    api.tenon_plan_destroy(plan);
    return ok;
}

static bool softmax_planned(const task *t, char *why) {
    const tenon_softmax_desc desc = softmax(t);
    tenon_plan *plan;
    const bool ok = said(api.tenon_softmax_plan(ctx, &desc, &plan), why) &&
                    said(api.tenon_softmax_run(ctx, plan, &desc), why);
    api.tenon_plan_destroy(plan);
    return ok;
}

static bool attention_planned(const task *t, char *why) {
    const tenon_attention_desc desc = attention(t);
    tenon_plan *plan;
    const bool ok = said(api.tenon_attention_plan(ctx, &desc, &plan), why) &&
                    said(api.tenon_attention_run(ctx, plan, &desc), why);
    api.tenon_plan_destroy(plan);
    return ok;
}

const subject subject_tenon_gemm = {"tenon-gemm", TASK_PRODUCT, start, gemm_once, version};
const subject subject_tenon_gemm_plan = {"tenon-gemm-plan", TASK_PRODUCT, start, gemm_planned,
                                         version};
const subject subject_tenon_softmax = {"tenon-softmax", TASK_SOFTMAX, start, softmax_once, version};
const subject subject_tenon_softmax_plan = {"tenon-softmax-plan", TASK_SOFTMAX, start,
                                            softmax_planned, version};
const subject subject_tenon_attention = {"tenon-attention", TASK_ATTENTION, start, attention_once,
                                         version};
const subject subject_tenon_attention_plan = {"tenon-attention-plan", TASK_ATTENTION, start,
                                              attention_planned, version};
