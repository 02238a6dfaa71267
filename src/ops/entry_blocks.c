/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon_blocks_check: whether blocks that somebody else wrote hold what a quantiser writes. Reads
 * the scales alone, except where a scale is so large that elements may overflow. No device is
 * asked: it is a question about bytes.
 */
#include "core/context.h"
#include "ops/blocks.h"
#include "ops/describe.h"
#include "ops/operands.h"
#include "ops/ops.h"

#include <math.h>
#include <stdio.h>

/* What is wrong with a block: the field and its bits. NULL: nothing. */
typedef struct fault {
    const char *field;
    unsigned bits;
} fault;

static bool half_is_finite(uint16_t half) {
    return (half & 0x7c00) != 0x7c00;
}

static fault halves_fault(const uint16_t *half, const char *const *field, int count) {
    for (int i = 0; i < count; ++i)
        if (!half_is_finite(half[i]))
            return (fault){field[i], half[i]};
    return (fault){NULL, 0};
}

/* The largest E8M0 with which 12, the largest of MXFP4's values, is finite: 12 · 2^(252 - 128). */
enum { LARGEST_E = 252 };

static fault fault_of(tenon_dtype dtype, const void *block) {
    static const char *const d_only[] = {"d"}, *const d_m[] = {"d", "m"},
                             *const d_dmin[] = {"d", "dmin"};
    switch (dtype) {
    case TENON_Q4_1:
    case TENON_Q5_1:
        return halves_fault(block, d_m, 2);
    case TENON_Q4_K:
    case TENON_Q5_K:
        return halves_fault(block, d_dmin, 2);
    case TENON_Q6_K:
        return halves_fault(&((const tn_block_q6_k *)block)->d, d_only, 1);
    case TENON_MXFP4: {
        const uint8_t e = ((const tn_block_mxfp4 *)block)->e;
        float x[32];
        if (e == 255)
            return (fault){"e", e};
        if (e <= LARGEST_E)
            break;
        tn_block_find(dtype)->decode(block, x);
        for (int i = 0; i < 32; ++i)
            if (!isfinite(x[i]))
                return (fault){"e", e};
        break;
    }
    case TENON_NVFP4:
        for (int r = 0; r < 4; ++r) {
            const uint8_t d = ((const tn_block_nvfp4 *)block)->d[r];
            if (d >= 0x7f)
                return (fault){"d", d};
        }
        break;
    default: /* Q8_0, Q4_0, Q5_0, IQ4_NL begin with d */
        return halves_fault(block, d_only, 1);
    }
    return (fault){NULL, 0};
}

/* Stretches of blocks, one a task; each says where its first fault is. */
enum { STRETCHES = 256 };

typedef struct search {
    const tenon_tensor *t;
    const tn_block_type *type;
    const void *base;
    int64_t blocks, each;     /* in all, of a stretch */
    int64_t first[STRETCHES]; /* -1: none */
} search;

static const void *block_at(const search *s, int64_t index) {
    const tenon_tensor *t = s->t;
    const int64_t of_a_row = t->shape[t->rank - 1] / s->type->elements;
    const int64_t p = index % of_a_row * s->type->elements;
    int64_t start = 0, row = index / of_a_row;
    for (int32_t d = t->rank - 2; d >= 0; --d) {
        start += row % t->shape[d] * t->stride[d];
        row /= t->shape[d];
    }
    return tn_block_at(s->type, s->base, start, p);
}

static void search_stretch(void *arg, int64_t index, int worker) {
    search *s = arg;
    const int64_t from = index * s->each,
                  to = from + s->each < s->blocks ? from + s->each : s->blocks;
    (void)worker;
    s->first[index] = -1;
    for (int64_t i = from; i < to; ++i)
        if (fault_of(s->type->dtype, block_at(s, i)).field) {
            s->first[index] = i;
            return;
        }
}

static int64_t first_fault(tenon_context *ctx, search *s) {
    const int64_t at_least = 4096; /* blocks that are worth a task */
    s->each = (s->blocks + STRETCHES - 1) / STRETCHES;
    s->each = s->each > at_least ? s->each : at_least;
    const int64_t stretches = (s->blocks + s->each - 1) / s->each;
    tn_team_limit(ctx->team, ctx->threads);
    tn_team_run(ctx->team, search_stretch, s, stretches);
    for (int64_t i = 0; i < stretches; ++i)
        if (s->first[i] >= 0)
            return s->first[i];
    return -1;
}

static tenon_status check_inside(tenon_context *ctx, const tenon_tensor *blocks,
                                 int64_t *first_bad) {
    tn_message *m = &ctx->message;
    void *address;

    if (!blocks)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "blocks is NULL, expected a tensor");
    tenon_tensor t = *blocks;
    TN_TRY(tn_check_tensor(m, "blocks", &t, TN_DTYPES_BLOCK, 1, TENON_MAX_RANK, 0));
    TN_TRY(tn_check_blocks_along(m, "blocks", &t, t.rank - 1, "the last dimension"));
    TN_TRY(tn_check_address(m, "blocks", &t, &address));
    if (t.buffer && !address)
        return tn_fail(m, TENON_ERROR_UNSUPPORTED,
                       "blocks.buffer is %p, memory of a device, expected host memory",
                       (const void *)t.buffer);
    search s = {.t = &t, .type = tn_block_find(t.dtype), .base = address, .blocks = 1};
    for (int32_t d = 0; d < t.rank; ++d)
        s.blocks *= t.shape[d];
    s.blocks /= s.type->elements;
    const int64_t bad = s.blocks > 0 ? first_fault(ctx, &s) : -1;
    if (first_bad)
        *first_bad = bad;
    if (bad < 0)
        return TENON_OK;
    const fault f = fault_of(t.dtype, block_at(&s, bad));
    return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                   "blocks: block %lld of %s has a scale %s of 0x%x, expected one with which all "
                   "elements are finite",
                   (long long)bad, tenon_dtype_name(t.dtype), f.field, f.bits);
}

tenon_status tenon_blocks_check(tenon_context *ctx, const tenon_tensor *blocks,
                                int64_t *first_bad) {
    TN_TRY(tn_context_enter(ctx, "tenon_blocks_check"));
    return tn_context_leave(ctx, check_inside(ctx, blocks, first_bad));
}
