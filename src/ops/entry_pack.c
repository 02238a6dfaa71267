/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon_gemm_pack_size and tenon_gemm_pack: B once, in the layout that a device's kernels want. The
 * layout is the backend's; this file checks what the caller gave.
 */
#include "core/dispatch.h"
#include "core/read_desc.h"
#include "ops/ops.h"

tn_gemm_packed_for tn_gemm_packed_for_of(const tn_gemm_problem *p) {
    return (tn_gemm_packed_for){
        .gated = (int32_t)p->gated,
        .b = (int32_t)p->operand[TN_GEMM_B].dtype,
        .b_scale = (int32_t)p->operand[TN_GEMM_B_SCALE].dtype,
        .b_zero = (int32_t)p->operand[TN_GEMM_B_ZERO].dtype,
    };
}

static const char *gated_name(int32_t gated) {
    static const char *const names[] = {"none", "halves", "interleaved"};
    return gated >= 0 && gated <= TENON_GATED_INTERLEAVED ? names[gated] : "unknown";
}

static const char *type_name(int32_t dtype) {
    return dtype == TENON_DTYPE_NONE ? "none" : tenon_dtype_name((tenon_dtype)dtype);
}

tenon_status tn_gemm_packed_for_check(const tn_gemm_packed_for *found,
                                      const tn_gemm_packed_for *expected, tn_message *why) {
    const struct {
        const char *field;
        int32_t found, expected;
    } list[] = {
        {"gated", found->gated, expected->gated},
        {"b.dtype", found->b, expected->b},
        {"b_scale.dtype", found->b_scale, expected->b_scale},
        {"b_zero.dtype", found->b_zero, expected->b_zero},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; ++i) {
        const char *(*name)(int32_t) = i == 0 ? gated_name : type_name;
        if (list[i].found != list[i].expected)
            return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                           "b_packed was packed with %s = %s, expected %s", list[i].field,
                           name(list[i].found), name(list[i].expected));
    }
    return TENON_OK;
}

/*
 * The smallest product that has this B: packing depends on B and its companions, on the type that A
 * will have (it decides in what sums are kept) and on nothing else of the descriptor, so nothing
 * else is asked for.
 */
static tenon_status smallest_product(const tenon_gemm_desc *desc, tenon_gemm_desc *g,
                                     tn_message *m) {
    tenon_gemm_desc given;
    int64_t shape[TENON_MAX_RANK], row[2];

    if (!desc)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "desc is NULL, expected a descriptor");
    TN_TRY(tn_read_desc(desc, &given, sizeof given, m));
    if (given.a_array || given.b_array || given.c_array || given.array_count)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "array_count is %lld, expected no pointer arrays but b itself",
                       (long long)given.array_count);
    memset(g, 0, sizeof *g);
    g->b = given.b;
    g->b_scale = given.b_scale;
    g->b_zero = given.b_zero;
    g->group_offsets = given.group_offsets;
    g->gated = given.gated;
    g->compute = given.compute;
    if (g->b.rank < 2 || g->b.rank > TENON_MAX_RANK)
        return TENON_OK; /* the product's own check says it */

    const int32_t rank = g->b.rank, lead = given.group_offsets.rank ? 0 : rank - 2;
    const tenon_dtype type = given.a.dtype             ? given.a.dtype
                             : g->b.dtype < TENON_Q8_0 ? g->b.dtype
                                                       : TENON_F32;
    row[0] = shape[lead] = 1;
    row[1] = g->b.shape[rank - 2];
    for (int32_t d = 0; d < lead; ++d)
        shape[d] = g->b.shape[d];
    shape[lead + 1] = given.gated ? g->b.shape[rank - 1] / 2 : g->b.shape[rank - 1];
    g->a = tenon_dense(NULL, type, 2, row);
    g->c = tenon_dense(NULL, TENON_F32, lead + 2, shape);
    return TENON_OK;
}

static tenon_status pack_problem(tenon_context *ctx, const tenon_gemm_desc *desc,
                                 tenon_gemm_desc *product, tn_gemm_problem *p, size_t *bytes) {
    const tn_slot *slot = &ctx->slot[0];

    TN_TRY(smallest_product(desc, product, &ctx->message));
    TN_TRY(tn_gemm_problem_make(product, p, &ctx->message));
    return slot->name.backend->pack_size(slot->device, p, bytes, &ctx->message);
}

tenon_status tenon_gemm_pack_size(tenon_context *ctx, const tenon_gemm_desc *desc, size_t *bytes) {
    tenon_gemm_desc product;
    tn_gemm_problem p;
    size_t size = 0;

    TN_TRY(tn_context_enter(ctx, "tenon_gemm_pack_size"));
    tenon_status status = bytes ? pack_problem(ctx, desc, &product, &p, &size)
                                : tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                                          "bytes is NULL, expected an address");
    if (status == TENON_OK)
        *bytes = size;
    return tn_context_leave(ctx, status);
}

/* B, its scale and its zero: where they lie, and that what is written is apart from them. */
static tenon_status settle_pack(tn_placement *at, tn_reaches *reaches, void *packed, size_t size) {
    enum {
        READ = 1u << TN_GEMM_B | 1u << TN_GEMM_B_SCALE | 1u << TN_GEMM_B_ZERO,
        WRITTEN = 1u << TN_GEMM_B_PACKED
    };
    tn_operands_reach(&tn_gemm_form, at->desc, reaches);
    TN_TRY(tn_operands_place(at, ~(tn_roles)READ));
    TN_TRY(tn_operands_avoid(at, READ, "packed", packed, size));
    at->addresses[TN_GEMM_B_PACKED] = packed;
    at->placed |= WRITTEN;
    reaches->outputs = WRITTEN;
    return TENON_OK;
}

static tenon_status pack_inside(tenon_context *ctx, const tenon_gemm_desc *desc, void *packed,
                                size_t bytes) {
    tenon_gemm_desc product;
    tn_gemm_problem p;
    tn_reaches reaches;
    void *addresses[TN_MAX_ADDRESSES];
    const tenon_buffer *buffers[TN_MAX_ADDRESSES];
    tn_placement at = {.message = &ctx->message,
                       .form = &tn_gemm_form,
                       .desc = &product,
                       .reaches = &reaches,
                       .addresses = addresses,
                       .buffers = buffers};
    size_t size;

    TN_TRY(pack_problem(ctx, desc, &product, &p, &size));
    if (!packed || (uintptr_t)packed % 64 != 0)
        return tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                       "packed is %p, expected an address aligned to 64 bytes", packed);
    if (bytes < size)
        return tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                       "bytes is %zu, expected at least %zu, as tenon_gemm_pack_size says", bytes,
                       size);
    TN_TRY(settle_pack(&at, &reaches, packed, size));
    product.b_packed_bytes = size;
    const tn_plan_request request = {
        .op = TN_OP_GEMM_PACK, .problem = &p, .operands = &tn_gemm_copying};
    return tn_dispatch_unplanned(ctx, &request, &at);
}

tenon_status tenon_gemm_pack(tenon_context *ctx, const tenon_gemm_desc *desc, void *packed,
                             size_t bytes) {
    TN_TRY(tn_context_enter(ctx, "tenon_gemm_pack"));
    return tn_context_leave(ctx, pack_inside(ctx, desc, packed, bytes));
}
