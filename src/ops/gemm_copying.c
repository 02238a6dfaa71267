/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_copying.c: a product's operands for whoever copies them (core/places.h): beside plain
 * tensors the members of pointer arrays, and a packed B, which is bytes.
 */
#include "ops/operands.h"
#include "ops/ops.h"

static void describe(const tn_placement *at, int role, tn_operand_memory *out) {
    const tenon_gemm_desc *g = at->desc;
    if (role == TN_GEMM_B_PACKED) {
        *out = (tn_operand_memory){.name = "b_packed",
                                   .address = at->addresses[role],
                                   .high = (int64_t)g->b_packed_bytes,
                                   .output = at->reaches->outputs >> role & 1};
        return;
    }
    tn_operand_describe(at, role, out);
    if (g->array_count == 0 || role > TN_GEMM_C)
        return;
    static const char *const names[] = {"a_array", "b_array", "c_array"};
    out->name = names[role];
    out->members = at->addresses[role];
    out->count = g->array_count;
}

const tn_operand_calls tn_gemm_copying = {.describe = describe, .pieces = tn_operand_pieces};
