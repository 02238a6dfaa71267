/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public entry points of all operations. Each is the same short walk: enter the context, make the problem, take and check the addresses, hand over to
 * the core's dispatch, leave. What differs between operations is one row of functions.
 */
#include "core/dispatch.h"
#include "ops/describe.h"
#include "ops/ops.h"

/* Everything one call needs, on the stack. */
typedef struct call {
    union {
        tn_gemm_problem gemm;
        tn_softmax_problem softmax;
        tn_attention_problem attention;
        tn_merge_problem merge;
        tn_append_problem append;
    } problem;
    void *addresses[TN_MAX_ADDRESSES];
    void *parts[2 * TN_MERGE_MAX_PARTS];
    tn_cost cost;
} call;

typedef struct op_row {
    tn_op op;
    const char *name;
    size_t problem_bytes, desc_bytes, workspace_offset;
    tenon_status (*make)(const void *desc, call *c, tn_message *m);
    tenon_status (*addresses)(const void *desc, call *c, tn_message *m);
    tenon_status (*check_data)(const call *c, tn_message *m);
    void (*cost)(call *c);
    void (*describe)(const void *problem, char *text, size_t capacity);
} op_row;

/* ---------------------------------------------------------------- rows */

#define ADAPT_SHAPES(op, desc_type)                                                                \
    static tenon_status op##_make(const void *desc, call *c, tn_message *m) {                      \
        return tn_##op##_problem_make((const desc_type *)desc, &c->problem.op, m);                 \
    }                                                                                              \
    static void op##_cost(call *c) {                                                               \
        tn_##op##_cost(&c->problem.op, &c->cost.flops, &c->cost.bytes);                            \
    }
#define ADAPT_ADDRESSES(op, desc_type)                                                             \
    static tenon_status op##_addresses(const void *desc, call *c, tn_message *m) {                 \
        return tn_##op##_addresses((const desc_type *)desc, &c->problem.op, c->addresses, m);      \
    }
#define ADAPT_DATA(op)                                                                             \
    static tenon_status op##_check_data(const call *c, tn_message *m) {                            \
        return tn_##op##_check_data(&c->problem.op, c->addresses, m);                              \
    }

ADAPT_SHAPES(gemm, tenon_gemm_desc)
ADAPT_ADDRESSES(gemm, tenon_gemm_desc)
ADAPT_DATA(gemm)
ADAPT_SHAPES(softmax, tenon_softmax_desc)
ADAPT_ADDRESSES(softmax, tenon_softmax_desc)
ADAPT_SHAPES(attention, tenon_attention_desc)
ADAPT_ADDRESSES(attention, tenon_attention_desc)
ADAPT_DATA(attention)
ADAPT_SHAPES(merge, tenon_attention_merge_desc)
ADAPT_SHAPES(append, tenon_kv_append_desc)
ADAPT_ADDRESSES(append, tenon_kv_append_desc)
ADAPT_DATA(append)

static tenon_status softmax_check_data(const call *c, tn_message *m) {
    (void)c;
    (void)m;
    return TENON_OK;
}

static tenon_status merge_addresses(const void *desc, call *c, tn_message *m) {
    return tn_merge_addresses(desc, &c->problem.merge, c->addresses, c->parts, m);
}

static tenon_status merge_check_data(const call *c, tn_message *m) {
    (void)c;
    (void)m;
    return TENON_OK;
}

#define ROW(id, op, name, desc_type)                                                               \
    {                                                                                              \
        id, name, sizeof(tn_##op##_problem), sizeof(desc_type), offsetof(desc_type, workspace),    \
            op##_make, op##_addresses, op##_check_data, op##_cost, tn_##op##_describe              \
    }
static const op_row gemm_row = ROW(TN_OP_GEMM, gemm, "gemm", tenon_gemm_desc);
static const op_row softmax_row = ROW(TN_OP_SOFTMAX, softmax, "softmax", tenon_softmax_desc);
static const op_row attention_row =
    ROW(TN_OP_ATTENTION, attention, "attention", tenon_attention_desc);
static const op_row merge_row =
    ROW(TN_OP_MERGE, merge, "attention_merge", tenon_attention_merge_desc);
static const op_row append_row = ROW(TN_OP_APPEND, append, "kv_append", tenon_kv_append_desc);

/* ---------------------------------------------------------------- the walk */

/* The descriptor's workspace, as far as its struct_size covers it. The descriptor has been read once, so it is not NULL. */
static tenon_workspace workspace_of(const op_row *row, const void *desc) {
    tenon_workspace workspace = {NULL, 0};
    size_t given;
    memcpy(&given, desc, sizeof given);
    if (given == 0 || given >= row->workspace_offset + sizeof workspace)
        memcpy(&workspace, (const char *)desc + row->workspace_offset, sizeof workspace);
    return workspace;
}

static tenon_status check_workspace(const op_row *row, const tenon_workspace *workspace,
                                    size_t need, tn_message *m) {
    if (!workspace->memory)
        return TENON_OK;
    if ((uintptr_t)workspace->memory % 64 != 0)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s: workspace.memory is %p, expected an address aligned to 64 bytes",
                       row->name, workspace->memory);
    if (workspace->bytes < need)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s: workspace.bytes is %zu, expected at least %zu, as the plan says",
                       row->name, workspace->bytes, need);
    return TENON_OK;
}

/* Whether a problem writes nothing, so that backends never see one without rows, heads or experts. */
static int is_empty(tn_op op, const call *c) {
    const tn_gemm_problem *g = &c->problem.gemm;
    const tn_softmax_problem *s = &c->problem.softmax;
    const tn_attention_problem *a = &c->problem.attention;
    const tn_append_problem *n = &c->problem.append;

    switch (op) {
    case TN_OP_GEMM:
    case TN_OP_GEMM_PACK:
        return g->m == 0 || g->n == 0 || g->batch_count == 0 ||
               (g->operand[TN_GEMM_OFFSETS].dtype && g->experts == 0);
    case TN_OP_SOFTMAX:
        return s->rows == 0 || (s->length == 0 && !s->operand[TN_SOFTMAX_LSE].dtype);
    case TN_OP_ATTENTION:
        return a->batch == 0 || a->heads == 0 || a->queries == 0;
    case TN_OP_MERGE:
        return c->problem.merge.rows == 0;
    case TN_OP_APPEND:
        return n->batch == 0 || n->kv_heads == 0 || n->rows == 0;
    }
    return 0;
}

static tn_plan_request request_of(const op_row *row, call *c, const tenon_workspace *workspace) {
    row->cost(c);
    return (tn_plan_request){
        .op = row->op,
        .problem = &c->problem,
        .problem_bytes = row->problem_bytes,
        .workspace_limit = workspace->bytes ? workspace->bytes : SIZE_MAX,
        .empty = is_empty(row->op, c),
        .cost = c->cost,
        .describe = row->describe,
    };
}

static tenon_status once_inside(tenon_context *ctx, const op_row *row, const void *desc, call *c) {
    TN_TRY(row->make(desc, c, &ctx->message));
    TN_TRY(row->addresses(desc, c, &ctx->message));
    TN_TRY(row->check_data(c, &ctx->message));
    const tenon_workspace workspace = workspace_of(row, desc);
    TN_TRY(check_workspace(row, &workspace, 0, &ctx->message));
    const tn_plan_request request = request_of(row, c, &workspace);
    return tn_dispatch_once(ctx, &request, c->addresses, &workspace);
}

static tenon_status once(tenon_context *ctx, const op_row *row, const char *name,
                         const void *desc) {
    call c;
    TN_TRY(tn_context_enter(ctx, name));
    const tenon_status status = once_inside(ctx, row, desc, &c);
    tn_context_leave(ctx);
    return status;
}

static tenon_status plan_inside(tenon_context *ctx, const op_row *row, const void *desc,
                                tenon_plan **out, call *c) {
    TN_TRY(row->make(desc, c, &ctx->message));
    const tenon_workspace workspace = workspace_of(row, desc);
    const tn_plan_request request = request_of(row, c, &workspace);
    return tn_dispatch_plan(ctx, &request, out);
}

static tenon_status plan(tenon_context *ctx, const op_row *row, const char *name, const void *desc,
                         tenon_plan **out) {
    call c;
    if (out)
        *out = NULL;
    TN_TRY(tn_context_enter(ctx, name));
    const tenon_status status = out ? plan_inside(ctx, row, desc, out, &c)
                                    : tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                                              "%s: out is NULL, expected an address", row->name);
    tn_context_leave(ctx);
    return status;
}

static tenon_status run_inside(tenon_context *ctx, const op_row *row, const tenon_plan *plan,
                               const void *desc, call *c) {
    tn_message *m = &ctx->message;

    if (!plan)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s: plan is NULL, expected a plan",
                       row->name);
    if (plan->request.op != row->op)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s: plan is one of another operation",
                       row->name);
    TN_TRY(row->make(desc, c, m));
    const char *field = tn_problem_difference(row->op, plan->request.problem, &c->problem);
    if (field)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s: %s differs from what was planned",
                       row->name, field);
    TN_TRY(row->addresses(desc, c, m));
    TN_TRY(row->check_data(c, m));
    const tenon_workspace workspace = workspace_of(row, desc);
    const tn_decision *decision = &plan->decision;
    TN_TRY(
        check_workspace(row, &workspace, decision->choices.choice[decision->chosen].workspace, m));
    return tn_dispatch_run(ctx, plan, c->addresses, &workspace);
}

static tenon_status run(tenon_context *ctx, const op_row *row, const char *name,
                        const tenon_plan *plan, const void *desc) {
    call c;
    TN_TRY(tn_context_enter(ctx, name));
    const tenon_status status = run_inside(ctx, row, plan, desc, &c);
    tn_context_leave(ctx);
    return status;
}

/* ---------------------------------------------------------------- public names */

tenon_status tenon_gemm(tenon_context *ctx, const tenon_gemm_desc *desc) {
    return once(ctx, &gemm_row, "tenon_gemm", desc);
}

tenon_status tenon_gemm_plan(tenon_context *ctx, const tenon_gemm_desc *desc, tenon_plan **out) {
    return plan(ctx, &gemm_row, "tenon_gemm_plan", desc, out);
}

tenon_status tenon_gemm_run(tenon_context *ctx, const tenon_plan *plan,
                            const tenon_gemm_desc *desc) {
    return run(ctx, &gemm_row, "tenon_gemm_run", plan, desc);
}

tenon_status tenon_softmax(tenon_context *ctx, const tenon_softmax_desc *desc) {
    return once(ctx, &softmax_row, "tenon_softmax", desc);
}

tenon_status tenon_softmax_plan(tenon_context *ctx, const tenon_softmax_desc *desc,
                                tenon_plan **out) {
    return plan(ctx, &softmax_row, "tenon_softmax_plan", desc, out);
}

tenon_status tenon_softmax_run(tenon_context *ctx, const tenon_plan *plan,
                               const tenon_softmax_desc *desc) {
    return run(ctx, &softmax_row, "tenon_softmax_run", plan, desc);
}

tenon_status tenon_attention(tenon_context *ctx, const tenon_attention_desc *desc) {
    return once(ctx, &attention_row, "tenon_attention", desc);
}

tenon_status tenon_attention_plan(tenon_context *ctx, const tenon_attention_desc *desc,
                                  tenon_plan **out) {
    return plan(ctx, &attention_row, "tenon_attention_plan", desc, out);
}

tenon_status tenon_attention_run(tenon_context *ctx, const tenon_plan *plan,
                                 const tenon_attention_desc *desc) {
    return run(ctx, &attention_row, "tenon_attention_run", plan, desc);
}

tenon_status tenon_attention_merge(tenon_context *ctx, const tenon_attention_merge_desc *desc) {
    return once(ctx, &merge_row, "tenon_attention_merge", desc);
}

tenon_status tenon_kv_append(tenon_context *ctx, const tenon_kv_append_desc *desc) {
    return once(ctx, &append_row, "tenon_kv_append", desc);
}
