/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference's packed B: a header of 64 bytes and a dense copy of the distinct members of B in
 * its own type, row-major, or column by column where it is of blocks. Nothing is gained by it here;
 * it is there so that every call of the API can be run and compared. A batch dimension along which
 * B repeats (stride 0) is stored once.
 */
#include "core/checked.h"
#include "ops/blocks.h"
#include "ops/packed.h"
#include "ref/ref_convert.h"
#include "ref/ref_ops.h"

#define PACK_MAGIC UINT64_C(0x33464552504e5400) /* "\0TNPREF3" in memory order */

static int64_t columns(const tn_gemm_problem *p) {
    return p->gated != TENON_GATED_NONE ? 2 * p->n : p->n;
}

/* Strides of the dense copy; *members, if asked for, is how many matrices it has. */
static tn_gemm_operand dense(const tn_gemm_problem *p, int64_t *members) {
    const tn_gemm_operand *b = &p->operand[TN_GEMM_B];
    tn_gemm_operand copy = {.dtype = b->dtype, .row = columns(p), .column = 1};
    int64_t count = 1;

    if (tn_block_find(b->dtype)) {
        copy.row = 1;
        copy.column = p->k;
    }

    if (p->experts > 0) {
        copy.batch[0] = p->k * columns(p);
        count = p->experts;
    } else {
        for (int32_t d = p->batch_rank - 1; d >= 0; --d) {
            if (b->batch[d] == 0)
                continue;
            copy.batch[d] = count * p->k * columns(p);
            count *= p->batch[d];
        }
    }
    if (members)
        *members = count;
    return copy;
}

tn_gemm_operand tn_ref_packed_operand(const tn_gemm_problem *p) {
    return dense(p, NULL);
}

const void *tn_ref_packed_data(const void *packed) {
    return (const tn_packed_head *)packed + 1;
}

static tn_packed_head header_of(const tn_gemm_problem *p) {
    int64_t members;
    (void)dense(p, &members);
    return tn_packed_head_of(p, PACK_MAGIC, members, 0);
}

tenon_status tn_ref_pack_size(const tn_gemm_problem *p, size_t *bytes, tn_message *why) {
    const tn_packed_head h = header_of(p);
    int64_t elements;
    size_t k, n, members, bytes_of_one, size;

    if (p->pointer_array)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "array_count is not 0, expected no pointer arrays beside b_packed");
    TN_TRY(tenon_dtype_block(p->operand[TN_GEMM_B].dtype, &elements, &bytes_of_one));
    if (!tn_size_of_i64(h.k / elements, &k) || !tn_size_of_i64(columns(p), &n) ||
        !tn_size_of_i64(h.members, &members) || !tn_mul_size(k, n, &size) ||
        !tn_mul_size(size, members, &size) || !tn_mul_size(size, bytes_of_one, &size) ||
        !tn_add_size(size, sizeof h, &size))
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "b.shape is too large, expected a packed size that fits 63 bits");
    *bytes = size;
    return TENON_OK;
}

tenon_status tn_ref_pack_check(const tn_gemm_problem *p, const void *packed, size_t bytes,
                               tn_message *why) {
    const tn_packed_head expected = header_of(p);
    size_t needed;
    TN_TRY(tn_ref_pack_size(p, &needed, why));
    return tn_packed_head_check(&expected, needed, "the reference device", packed, bytes, why);
}

static void copy_blocks(const tn_gemm_problem *p, const tn_block_type *type, const void *b,
                        int64_t from, void *copy, int64_t to) {
    for (int64_t j = 0; j < columns(p); ++j)
        memcpy((void *)tn_block_at(type, copy, to + j * p->k, 0),
               tn_block_at(type, b, from + j * p->operand[TN_GEMM_B].column, 0),
               (size_t)(p->k / type->elements * type->bytes));
}

/* Copies one k × columns matrix; elements go through double, which every plain type survives. */
static void copy_matrix(const tn_gemm_problem *p, const void *b, int64_t from, void *copy,
                        int64_t to) {
    const tn_gemm_operand *o = &p->operand[TN_GEMM_B];
    const tn_block_type *type = tn_block_find(o->dtype);
    if (type) {
        copy_blocks(p, type, b, from, copy, to);
        return;
    }
    for (int64_t row = 0; row < p->k; ++row)
        for (int64_t j = 0; j < columns(p); ++j)
            tn_ref_put(copy, o->dtype, to + row * columns(p) + j,
                       tn_ref_get(b, o->dtype, from + row * o->row + j * o->column));
}

void tn_ref_pack(const tn_gemm_problem *p, void *const *addresses) {
    const tn_gemm_operand *b = &p->operand[TN_GEMM_B];
    const tn_gemm_operand copy = tn_ref_packed_operand(p);
    const tn_packed_head h = header_of(p);
    void *packed = addresses[TN_GEMM_B_PACKED];
    void *data = (void *)tn_ref_packed_data(packed);

    memcpy(packed, &h, sizeof h);
    if (p->experts > 0) {
        for (int64_t e = 0; e < p->experts; ++e)
            copy_matrix(p, addresses[TN_GEMM_B], e * b->batch[0], data, e * copy.batch[0]);
        return;
    }
    for (int64_t index = 0; index < p->batch_count; ++index) /* repeated members: written again */
        copy_matrix(p, addresses[TN_GEMM_B], tn_gemm_batch_offset(p, b, index), data,
                    tn_gemm_batch_offset(p, &copy, index));
}
