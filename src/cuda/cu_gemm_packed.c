/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_gemm_packed.c: a B that the caller has packed once (tenon_gemm_pack): a head, then each
 * distinct member in its own type, column by column with the steps of k side by side, columns of
 * plain types a multiple of 16 bytes apart.
 *
 * So all kernels take it as the B that they like best, with the same bits, and scales and zero
 * points stay operands. Blocks are copied as they are.
 */
#include "cuda/cu_gemm_plan.h"

#include "core/checked.h"
#include "ops/blocks.h"
#include "ops/packed.h"

#define PACK_MAGIC UINT64_C(0x313055434e544e54) /* "TNTNCU01" in memory order */

_Static_assert(sizeof(tn_packed_head) == TN_CU_PACKED_HEAD &&
                   sizeof(tn_packed_head) == sizeof(((tn_cu_gemm_pack *)0)->head),
               "columns are aligned as the whole is");
_Static_assert(sizeof(tn_cu_gemm_pack) <= TN_CU_PARAMETER_BYTES, "a kernel's struct");

static int64_t columns_of(const tn_gemm_problem *p) {
    return p->gated != TENON_GATED_NONE ? 2 * p->n : p->n;
}

/* Elements from a column to the next. */
static int64_t pitch_of(const tn_gemm_problem *p) {
    const tenon_dtype type = p->operand[TN_GEMM_B].dtype;
    return tn_block_find(type) ? p->k : tn_round_up(p->k, 16 / tn_element_size(type));
}

/* Strides of the copy; *members: how many matrices it has. */
static tn_gemm_operand copy_of(const tn_gemm_problem *p, int64_t *members) {
    const tn_gemm_operand *b = &p->operand[TN_GEMM_B];
    const int64_t pitch = pitch_of(p), one = columns_of(p) * pitch;
    tn_gemm_operand copy = {.dtype = b->dtype, .row = 1, .column = pitch};
    *members = 1;
    if (p->experts > 0) {
        copy.batch[0] = one;
        *members = p->experts;
        return copy;
    }
    for (int32_t d = p->batch_rank - 1; d >= 0; d--) {
        if (b->batch[d] == 0)
            continue;
        copy.batch[d] = *members * one;
        *members *= p->batch[d];
    }
    return copy;
}

static tn_packed_head head_of(const tn_gemm_problem *p) {
    int64_t members;
    (void)copy_of(p, &members);
    return tn_packed_head_of(p, PACK_MAGIC, members, 0);
}

tn_gemm_problem tn_cu_gemm_view(const tn_gemm_problem *p) {
    tn_gemm_problem view = *p;
    int64_t members;
    if (p->operand[TN_GEMM_B_PACKED].dtype != TENON_DTYPE_NONE)
        view.operand[TN_GEMM_B] = copy_of(p, &members);
    return view;
}

tenon_status tn_cu_gemm_pack_size(const tn_gemm_problem *p, size_t *bytes, tn_message *why) {
    const tenon_dtype type = p->operand[TN_GEMM_B].dtype;
    const int64_t columns = columns_of(p);
    int64_t total = 0, members = p->experts > 0 ? p->experts : 1;
    bool fits =
        p->k <= INT64_MAX / 64 && tn_mul_i64(tn_bytes_of(type, pitch_of(p)), columns, &total);
    for (int32_t d = 0; d < p->batch_rank && p->experts == 0; d++)
        fits = fits &&
               (p->operand[TN_GEMM_B].batch[d] == 0 || tn_mul_i64(members, p->batch[d], &members));
    if (!fits || !tn_mul_i64(total, members, &total) ||
        !tn_add_i64(total, TN_CU_PACKED_HEAD, &total) || !tn_size_of_i64(total, bytes))
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "b has %lld x %lld elements in %lld members, too many to pack",
                       (long long)p->k, (long long)columns, (long long)members);
    return TENON_OK;
}

tenon_status tn_cu_gemm_pack_check(const tn_gemm_problem *p, const void *packed, size_t bytes,
                                   tn_message *why) {
    size_t needed = 0;
    TN_TRY(tn_cu_gemm_pack_size(p, &needed, why));
    const tn_packed_head expected = head_of(p);
    return tn_packed_head_check(&expected, needed, "a cuda device", packed, bytes, why);
}

/* Tiles of 32 x 32; one, which writes the head, where there is nothing else. */
static int64_t tiles_of(const tn_cu_gemm_pack *x) {
    return tn_max64(1, x->members * tn_ceil_div(x->columns, TN_CU_PACK_SIDE) *
                           tn_ceil_div(x->count, TN_CU_PACK_SIDE));
}

tenon_status tn_cu_gemm_pack_run(tn_cu_work *work, const tn_run *run, tn_message *why) {
    const tn_gemm_problem *p = run->problem;
    const tn_gemm_operand *b = &p->operand[TN_GEMM_B];
    const bool blocks = tn_cu_gemm_of_blocks(p);
    const tn_packed_head head = head_of(p);
    int64_t members;
    const tn_gemm_operand copy = copy_of(p, &members);
    tn_cu_gemm_pack x = {.from = tn_cu_address(&run->places->operand[TN_GEMM_B]),
                         .head_at = tn_cu_address(&run->places->operand[TN_GEMM_B_PACKED]),
                         .members = members,
                         .columns = columns_of(p),
                         .count = blocks ? tn_bytes_of(b->dtype, p->k) : p->k,
                         .from_column = tn_bytes_of(b->dtype, b->column),
                         .from_element = blocks ? 1 : tn_bytes_of(b->dtype, b->row),
                         .to_column = tn_bytes_of(b->dtype, copy.column)};
    const int64_t size = blocks ? 1 : tn_element_size(b->dtype);
    x.to = x.head_at + TN_CU_PACKED_HEAD;
    memcpy(x.head, &head, sizeof head);
    for (int d = 0; d < TN_CU_GEMM_BATCH; d++) {
        x.batch[d] = d == 0 && p->experts > 0                                   ? p->experts
                     : p->experts == 0 && d < p->batch_rank && b->batch[d] != 0 ? p->batch[d]
                                                                                : 1;
        x.from_step[d] = tn_bytes_of(b->dtype, b->batch[d]);
        x.to_step[d] = tn_bytes_of(b->dtype, copy.batch[d]);
    }
    tn_cu_launch l = {.module = "gemm_pack",
                      .kernel = size == 1   ? "gemm_pack_1"
                                : size == 2 ? "gemm_pack_2"
                                : size == 4 ? "gemm_pack_4"
                                            : "gemm_pack_8",
                      .grid = {(unsigned)tn_min64(tiles_of(&x), (int64_t)1 << 20)},
                      .group = {256},
                      .parameter_bytes = sizeof x};
    memcpy(l.parameters, &x, sizeof x);
    return tn_cu_launch_add(work, &l, why);
}
