/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public entry points of all operations. Each is the same short walk: enter the context, read
 * the descriptor once, make the problem, settle the addresses, hand over to the core's dispatch,
 * leave. What differs between operations is one row of functions and the descriptor's form.
 *
 * A run whose descriptor has the signature of the planned one skips the reading: the plan's own
 * problem is what it says. So does a call without a plan, if one of the context's cache has its
 * signature. Addresses, workspace and data are checked in every run.
 */
#include "core/dispatch.h"
#include "core/read_desc.h"
#include "core/stage.h"
#include "ops/describe.h"
#include "ops/ops.h"

/* What a plan keeps for its runs. */
typedef struct memo {
    tn_reaches reaches;
    tn_signature signature;
} memo;

/* Everything one call needs, on the stack. */
typedef struct call {
    union {
        tenon_gemm_desc gemm;
        tenon_softmax_desc softmax;
        tenon_attention_desc attention;
        tenon_attention_merge_desc merge;
        tenon_kv_append_desc append;
        tenon_quantize_desc quantize;
    } desc; /* the caller's, as far as its struct_size goes */
    union {
        tn_gemm_problem gemm;
        tn_softmax_problem softmax;
        tn_attention_problem attention;
        tn_merge_problem merge;
        tn_append_problem append;
        tn_quantize_problem quantize;
    } problem;
    memo memo;
    void *addresses[TN_MAX_ADDRESSES];
    const tenon_buffer *buffers[TN_MAX_ADDRESSES];
    void *parts[2 * TN_MERGE_MAX_PARTS];
    tn_placement at;
} call;

typedef struct op_row {
    tn_op op;
    const tn_form *form;
    bool has_plans; /* then its form says all that makes one problem differ from another */
    size_t problem_bytes;
    tenon_status (*make)(void *desc, void *problem, tn_message *m);
    bool (*writes_nothing)(const void *problem);
    tenon_status (*settle)(tn_placement *at, const void *problem, call *c);
    tenon_status (*check_data)(const void *problem, void *const *addresses, tn_message *m);
    void (*cost)(const void *problem, double *flops, double *bytes);
    void (*describe)(const void *problem, char *text, size_t capacity);
} op_row;

/* ---------------------------------------------------------------- rows */

#define ADAPT(op, desc_type)                                                                       \
    static tenon_status op##_make(void *desc, void *problem, tn_message *m) {                      \
        return tn_##op##_problem_make((desc_type *)desc, (tn_##op##_problem *)problem, m);         \
    }                                                                                              \
    static bool op##_writes_nothing(const void *problem) {                                         \
        return tn_##op##_writes_nothing((const tn_##op##_problem *)problem);                       \
    }                                                                                              \
    static void op##_cost(const void *problem, double *flops, double *bytes) {                     \
        tn_##op##_cost((const tn_##op##_problem *)problem, flops, bytes);                          \
    }
#define ADAPT_DATA(op)                                                                             \
    static tenon_status op##_check_data(const void *problem, void *const *addresses,               \
                                        tn_message *m) {                                           \
        return tn_##op##_check_data((const tn_##op##_problem *)problem, addresses, m);             \
    }

ADAPT(gemm, tenon_gemm_desc)
ADAPT_DATA(gemm)
ADAPT(softmax, tenon_softmax_desc)
ADAPT(attention, tenon_attention_desc)
ADAPT_DATA(attention)
ADAPT(merge, tenon_attention_merge_desc)
ADAPT(append, tenon_kv_append_desc)
ADAPT_DATA(append)
ADAPT(quantize, tenon_quantize_desc)
ADAPT(dequantize, tenon_quantize_desc)

static tenon_status plain_settle(tn_placement *at, const void *problem, call *c) {
    (void)problem;
    (void)c;
    return tn_operands_settle(at);
}

static tenon_status gemm_settle(tn_placement *at, const void *problem, call *c) {
    (void)c;
    return tn_gemm_settle(at, problem);
}

static tenon_status merge_settle(tn_placement *at, const void *problem, call *c) {
    return tn_merge_settle(at, problem, c->parts);
}

/* For operations that read no lengths. */
static tenon_status no_data(const void *problem, void *const *addresses, tn_message *m) {
    (void)problem;
    (void)addresses;
    (void)m;
    return TENON_OK;
}

#define ROW(id, op, has_plans, settle, check_data)                                                 \
    {                                                                                              \
        id, &tn_##op##_form, has_plans, sizeof(tn_##op##_problem), op##_make, op##_writes_nothing, \
            settle, check_data, op##_cost, tn_##op##_describe                                      \
    }
static const op_row gemm_row = ROW(TN_OP_GEMM, gemm, true, gemm_settle, gemm_check_data),
                    softmax_row = ROW(TN_OP_SOFTMAX, softmax, true, plain_settle, no_data),
                    attention_row =
                        ROW(TN_OP_ATTENTION, attention, true, plain_settle, attention_check_data),
                    merge_row = ROW(TN_OP_MERGE, merge, false, merge_settle, no_data),
                    append_row = ROW(TN_OP_APPEND, append, false, plain_settle, append_check_data),
                    quantize_row = ROW(TN_OP_QUANTIZE, quantize, false, plain_settle, no_data),
                    dequantize_row =
                        ROW(TN_OP_DEQUANTIZE, dequantize, false, plain_settle, no_data);

/* ---------------------------------------------------------------- the walk */

static tenon_status read_call(const op_row *row, const void *desc, call *c, tn_message *m) {
    if (!desc)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "desc is NULL, expected a descriptor");
    TN_TRY(tn_read_desc(desc, &c->desc, row->form->bytes, m));
    TN_TRY(row->make(&c->desc, &c->problem, m));
    tn_operands_reach(row->form, &c->desc, &c->memo.reaches);
    return TENON_OK;
}

static tenon_workspace workspace_of(const op_row *row, const void *desc) {
    tenon_workspace workspace;
    memcpy(&workspace, (const char *)desc + row->form->workspace, sizeof workspace);
    return workspace;
}

static tenon_status check_workspace(const tenon_workspace *workspace, size_t need, tn_message *m) {
    const uintptr_t start = (uintptr_t)workspace->memory;
    if (!workspace->memory)
        return TENON_OK;
    if (start % 64 != 0)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "workspace.memory is %p, expected an address aligned to 64 bytes",
                       workspace->memory);
    if (workspace->bytes < need)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "workspace.bytes is %zu, expected at least %zu, as the plan says",
                       workspace->bytes, need);
    if (workspace->bytes > TN_MAX_OFFSET || start > UINTPTR_MAX - workspace->bytes)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "workspace.bytes is %zu at %p, expected memory inside the address space",
                       workspace->bytes, workspace->memory);
    return TENON_OK;
}

/* Operands that are read before a run: lengths, offsets and tables, all of indices alone. */
static tn_roles index_roles(const op_row *row) {
    tn_roles roles = 0;
    for (int role = 0; role < row->form->operands; ++role)
        if ((row->form->operand[role].dtypes & ~(tn_dtypes)TN_DTYPES_INDEX) == 0)
            roles |= 1u << role;
    return roles;
}

/* The data's checks where some of it lies in a device's memory. */
static tenon_status check_fetched(tenon_context *ctx, const op_row *row, const void *problem,
                                  call *c) {
    void *addresses[TN_MAX_ADDRESSES];
    tn_fetched fetched;
    memcpy(addresses, c->addresses, sizeof addresses);
    tenon_status status =
        tn_stage_fetch(ctx, &c->at, index_roles(row), &tn_operand_copying, &fetched, addresses);
    if (status == TENON_OK)
        status = row->check_data(problem, addresses, &ctx->message);
    tn_stage_forget(ctx, &fetched);
    return status;
}

/*
 * Whatever of a call lies in memory. `desc` is the call's copy, or the caller's own if it has the
 * planned one's signature.
 */
static tenon_status settle(tenon_context *ctx, const op_row *row, const void *desc,
                           const void *problem, const tn_reaches *reaches,
                           const tenon_workspace *workspace, call *c) {
    c->at = (tn_placement){
        .message = &ctx->message,
        .form = row->form,
        .desc = desc,
        .reaches = reaches,
        .workspace = *workspace,
        .addresses = c->addresses,
        .buffers = c->buffers,
    };
    TN_TRY(row->settle(&c->at, problem, c));
    if (__builtin_expect(c->at.elsewhere != 0, 0))
        return check_fetched(ctx, row, problem, c);
    return row->check_data(problem, c->addresses, &ctx->message);
}

/* Packed B is in the layout of the first device that takes the product, and only that can check its
 * header. */
static tenon_status check_packed(const tn_backend *backend, tn_device *device, const void *problem,
                                 void *const *addresses, tn_message *why) {
    const tn_gemm_problem *p = problem;
    return backend->pack_check(device, p, addresses[TN_GEMM_B_PACKED], (size_t)p->packed_bytes,
                               why);
}

static size_t limit_of(const tenon_workspace *workspace) {
    return workspace->bytes ? workspace->bytes : SIZE_MAX;
}

static tn_plan_request request_of(const op_row *row, const call *c,
                                  const tenon_workspace *workspace) {
    tn_plan_request request = {
        .op = row->op,
        .problem = &c->problem,
        .problem_bytes = row->problem_bytes,
        .workspace_limit = limit_of(workspace),
        .empty = row->writes_nothing(&c->problem),
        .describe = row->describe,
        .operands = row->op == TN_OP_MERGE ? &tn_merge_copying : &tn_operand_copying,
    };
    if (row->op == TN_OP_GEMM && tn_gemm_is_packed(&c->problem.gemm)) {
        request.bound = 1;
        request.check_on = check_packed;
    }
    row->cost(&c->problem, &request.cost.flops, &request.cost.bytes);
    return request;
}

/* The signature that has been taken goes into the plan that is made. */
static void keep_memo(tn_plan_request *request, const call *c) {
    request->memo = &c->memo;
    request->memo_words = offsetof(memo, signature);
    request->memo_bytes = request->memo_words + tn_signature_bytes(&c->memo.signature);
}

/* The cached plan of a call whose descriptor said the same in the same words; NULL: there is
 * none. */
static tenon_plan *recall(tenon_context *ctx, const op_row *row, const void *desc,
                          const tn_signature *signature) {
    const tenon_workspace workspace = workspace_of(row, desc);
    const tn_plan_words said = {row->op, limit_of(&workspace), signature,
                                tn_signature_bytes(signature)};
    return tn_dispatch_recall(ctx, &said);
}

static tenon_status once_inside(tenon_context *ctx, const op_row *row, const void *desc, call *c) {
    tn_message *m = &ctx->message;
    const bool signs = row->has_plans && tn_signature_take(row->form, desc, &c->memo.signature);
    tenon_plan *cached = signs ? recall(ctx, row, desc, &c->memo.signature) : NULL;
    const void *problem = &c->problem;
    const memo *known = &c->memo;
    if (cached) {
        problem = cached->request.problem;
        known = cached->request.memo;
    } else {
        TN_TRY(read_call(row, desc, c, m));
        desc = &c->desc;
    }
    const tenon_workspace workspace = workspace_of(row, desc);
    if (workspace.memory && workspace.bytes == 0)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "workspace.bytes is 0, expected the size of workspace.memory");
    TN_TRY(check_workspace(&workspace, 0, m));
    TN_TRY(settle(ctx, row, desc, problem, &known->reaches, &workspace, c));
    if (cached)
        return tn_dispatch_cached(ctx, cached, &c->at);
    tn_plan_request request = request_of(row, c, &workspace);
    if (signs)
        keep_memo(&request, c);
    return tn_dispatch_once(ctx, &request, &c->at);
}

static tenon_status once(tenon_context *ctx, const op_row *row, const char *name,
                         const void *desc) {
    call c;
    TN_TRY(tn_context_enter(ctx, name));
    return tn_context_leave(ctx, once_inside(ctx, row, desc, &c));
}

static tenon_status plan_inside(tenon_context *ctx, const op_row *row, const void *desc,
                                tenon_plan **out, call *c) {
    TN_TRY(read_call(row, desc, c, &ctx->message));
    const tenon_workspace workspace = workspace_of(row, &c->desc);
    tn_plan_request request = request_of(row, c, &workspace);
    if (tn_signature_take(row->form, desc, &c->memo.signature))
        keep_memo(&request, c);
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
                                              "out is NULL, expected an address");
    return tn_context_leave(ctx, status);
}

/* What the plan keeps, if the descriptor says the same in the same words; else NULL. */
static const memo *recognise(const op_row *row, const tenon_plan *plan, const void *desc) {
    const memo *planned = plan->request.memo;
    return planned && tn_signature_said(row->form, desc, &planned->signature) ? planned : NULL;
}

TN_HOT static tenon_status run_inside(tenon_context *ctx, const op_row *row, const tenon_plan *plan,
                                      const void *desc, call *c) {
    tn_message *m = &ctx->message;

    if (!plan)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "plan is NULL, expected a plan");
    if (plan->request.op != row->op)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "plan is one of tenon_%s_plan, expected one of tenon_%s_plan",
                       tn_op_name(plan->request.op), tn_op_name(row->op));
    const void *problem = plan->request.problem;
    const memo *known = recognise(row, plan, desc);
    if (!known) {
        TN_TRY(read_call(row, desc, c, m));
        tn_difference other;
        if (tn_problem_difference(row->op, problem, &c->problem, &other))
            return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s is %s, expected %s as planned",
                           other.field, other.given, other.planned);
        known = &c->memo;
        desc = &c->desc;
    }
    const tenon_workspace workspace = workspace_of(row, desc);
    const tn_decision *decision = &plan->decision;
    TN_TRY(check_workspace(&workspace, decision->choices.choice[decision->chosen].workspace, m));
    TN_TRY(settle(ctx, row, desc, problem, &known->reaches, &workspace, c));
    return tn_dispatch_run(ctx, plan, &c->at);
}

TN_HOT static tenon_status run(tenon_context *ctx, const op_row *row, const char *name,
                               const tenon_plan *plan, const void *desc) {
    call c;
    TN_TRY(tn_context_enter(ctx, name));
    return tn_context_leave(ctx, run_inside(ctx, row, plan, desc, &c));
}

/* ---------------------------------------------------------------- public names */

tenon_status tenon_gemm(tenon_context *ctx, const tenon_gemm_desc *desc) {
    return once(ctx, &gemm_row, "tenon_gemm", desc);
}

tenon_status tenon_gemm_plan(tenon_context *ctx, const tenon_gemm_desc *desc, tenon_plan **out) {
    return plan(ctx, &gemm_row, "tenon_gemm_plan", desc, out);
}

TN_HOT tenon_status tenon_gemm_run(tenon_context *ctx, const tenon_plan *plan,
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

tenon_status tenon_quantize(tenon_context *ctx, const tenon_quantize_desc *desc) {
    return once(ctx, &quantize_row, "tenon_quantize", desc);
}

tenon_status tenon_dequantize(tenon_context *ctx, const tenon_quantize_desc *desc) {
    return once(ctx, &dequantize_row, "tenon_dequantize", desc);
}
