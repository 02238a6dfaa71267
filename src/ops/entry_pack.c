/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon_gemm_pack_size and tenon_gemm_pack: B once, in the layout that a device's kernels want. The layout is the backend's; this file
 * checks what the caller gave.
 */
#include "core/context.h"
#include "ops/ops.h"

static tenon_status pack_problem(tenon_context *ctx, const tenon_gemm_desc *desc, tn_gemm_problem *p, size_t *bytes)
{
    const tn_slot *slot = &ctx->slot[0];

    TN_TRY(tn_gemm_problem_make(desc, p, &ctx->message));
    if (p->pointer_array)
        return tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT, "gemm_pack: b_array is given, expected b itself");
    /* The packed form depends on B and its companions alone, whether or not the descriptor names an earlier one. */
    p->operand[TN_GEMM_B_PACKED].dtype = TENON_DTYPE_NONE;
    p->packed_bytes = 0;
    return slot->name.backend->pack_size(slot->device, p, bytes, &ctx->message);
}

tenon_status tenon_gemm_pack_size(tenon_context *ctx, const tenon_gemm_desc *desc, size_t *bytes)
{
    tn_gemm_problem p;
    size_t size = 0;

    TN_TRY(tn_context_enter(ctx, "tenon_gemm_pack_size"));
    tenon_status status = bytes ? pack_problem(ctx, desc, &p, &size)
                                : tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                                          "gemm_pack_size: bytes is NULL, expected an address");
    if (status == TENON_OK) *bytes = size;
    tn_context_leave(ctx);
    return status;
}

static tenon_status pack_inside(tenon_context *ctx, const tenon_gemm_desc *desc, void *packed, size_t bytes)
{
    tn_slot *slot = &ctx->slot[0];
    tn_gemm_problem p;
    void *addresses[TN_MAX_ADDRESSES];
    size_t size;

    TN_TRY(pack_problem(ctx, desc, &p, &size));
    if (!packed || (uintptr_t)packed % 64 != 0)
        return tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                       "gemm_pack: packed is %p, expected an address aligned to 64 bytes", packed);
    if (bytes < size)
        return tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                       "gemm_pack: bytes is %zu, expected at least %zu, as tenon_gemm_pack_size says", bytes, size);
    TN_TRY(tn_gemm_pack_addresses(desc, &p, addresses, &ctx->message));
    addresses[TN_GEMM_B_PACKED] = packed;
    const tn_run run = {.op = TN_OP_GEMM_PACK, .problem = &p, .addresses = addresses, .team = ctx->team};
    tn_team_limit(ctx->team, ctx->threads);
    return slot->name.backend->run(slot->device, &run, &ctx->message);
}

tenon_status tenon_gemm_pack(tenon_context *ctx, const tenon_gemm_desc *desc, void *packed, size_t bytes)
{
    TN_TRY(tn_context_enter(ctx, "tenon_gemm_pack"));
    const tenon_status status = pack_inside(ctx, desc, packed, bytes);
    tn_context_leave(ctx);
    return status;
}
