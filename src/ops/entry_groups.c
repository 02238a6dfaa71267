/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon_blocks_from_groups: weights as GPTQ and AWQ checkpoints store them, into blocks. A matter
 * of bytes in host memory: no device is asked, the context lends its threads.
 *
 * Everything is looked at before anything is written: zero points, scales, group indices.
 */
#include "core/context.h"
#include "core/read_desc.h"
#include "ops/blocks.h"
#include "ops/index.h"
#include "ops/operands.h"

#include <math.h>
#include <string.h>

enum { QWEIGHT, QZEROS, SCALES, GROUP_INDEX, Y, ORDER, ROLES };

enum {
    WORDS = 1 << TENON_S32,
    NUMBERS = 1 << TENON_F16 | 1 << TENON_BF16 | 1 << TENON_F32,
    /* Columns of a task: a line of cache of each row of words. */
    STRIP = 16
};
#define MADE (TN_DTYPE_BIT(TENON_Q4_0) | TN_DTYPE_BIT(TENON_Q4_1) | TN_DTYPE_BIT(TENON_Q8_0))

#define OPERAND(...) TN_OPERAND(tenon_groups_desc, __VA_ARGS__)
static const tn_operand operands[ROLES] = {
    [QWEIGHT] = OPERAND(qweight, WORDS, 2, 2, 0),
    [QZEROS] = OPERAND(qzeros, WORDS, 2, 2, 0),
    [SCALES] = OPERAND(scales, NUMBERS, 2, 2, 0),
    [GROUP_INDEX] = OPERAND(group_index, TN_DTYPES_INDEX, 1, 1, TN_TENSOR_OPTIONAL),
    [Y] = OPERAND(y, MADE, 2, 2, TN_TENSOR_OUTPUT),
    [ORDER] = OPERAND(order, WORDS, 1, 1, TN_TENSOR_OUTPUT | TN_TENSOR_OPTIONAL),
};
static const tn_form form = {
    .bytes = sizeof(tenon_groups_desc), .operands = ROLES, .operand = operands};

typedef struct conversion {
    tn_message *m;
    tenon_groups_desc d;
    void *address[ROLES];
    int64_t k, n, groups;
    int32_t packed;   /* integers in a word */
    uint32_t mask;    /* of one */
    int32_t expected; /* every zero point, or -1: any */
    const tn_block_type *type;
} conversion;

/* ---------------------------------------------------------------- what a checkpoint says */

/* Integer `i` of a word of AWQ's is a column's: those of the even columns come first. */
static uint32_t in_word(const conversion *c, uint32_t word, int64_t i, bool of_columns) {
    const int64_t at = of_columns && c->d.layout == TENON_GROUPS_AWQ ? i / 2 + i % 2 * 4 : i;
    return word >> (at * c->d.bits) & c->mask;
}

static uint32_t word_at(const conversion *c, int role, int64_t i, int64_t j) {
    const tenon_tensor *t = tn_tensor_in(&form, role, &c->d);
    return ((const uint32_t *)c->address[role])[i * t->stride[0] + j * t->stride[1]];
}

static int32_t weight_at(const conversion *c, int64_t p, int64_t j) {
    return c->d.layout == TENON_GROUPS_AWQ
               ? (int32_t)in_word(c, word_at(c, QWEIGHT, p, j / c->packed), j % c->packed, true)
               : (int32_t)in_word(c, word_at(c, QWEIGHT, p / c->packed, j), p % c->packed, false);
}

static int32_t zero_at(const conversion *c, int64_t g, int64_t j) {
    return (int32_t)in_word(c, word_at(c, QZEROS, g, j / c->packed), j % c->packed, true) +
           (c->d.layout == TENON_GROUPS_GPTQ);
}

static float scale_at(const conversion *c, int64_t g, int64_t j) {
    const tenon_tensor *t = &c->d.scales;
    const int64_t e = g * t->stride[0] + j * t->stride[1];
    if (t->dtype == TENON_F32)
        return ((const float *)c->address[SCALES])[e];
    const uint16_t half = ((const uint16_t *)c->address[SCALES])[e];
    return t->dtype == TENON_F16 ? tn_half_value(half) : tn_float_of_bits((uint32_t)half << 16);
}

static int64_t group_at(const conversion *c, int64_t p) {
    const tenon_tensor *t = &c->d.group_index;
    return tn_tensor_present(t) ? tn_index_get(c->address[GROUP_INDEX], t->dtype, p * t->stride[0])
                                : p / (c->k / c->groups);
}

/* ---------------------------------------------------------------- checks */

static tenon_status check_kind(conversion *c) {
    const tenon_groups_desc *d = &c->d;
    const bool eight = d->bits == 8;
    TN_TRY(tn_check_enum(c->m, "layout", (int)d->layout, TENON_GROUPS_AWQ));
    if (d->bits != 4 && (!eight || d->layout == TENON_GROUPS_AWQ))
        return tn_fail(c->m, TENON_ERROR_INVALID_ARGUMENT, "bits is %d, expected 4%s", (int)d->bits,
                       d->layout == TENON_GROUPS_AWQ ? " in AWQ's layout" : " or 8");
    if (eight != (d->y.dtype == TENON_Q8_0))
        return tn_fail(c->m, TENON_ERROR_INVALID_ARGUMENT, "y.dtype is %s, expected %s for %d bits",
                       tenon_dtype_name(d->y.dtype), eight ? "q8_0" : "q4_0 or q4_1", (int)d->bits);
    c->packed = 32 / d->bits;
    c->mask = (1u << d->bits) - 1;
    c->expected = d->y.dtype == TENON_Q4_1 ? -1 : 1 << (d->bits - 1);
    return TENON_OK;
}

static tenon_status check_shapes(conversion *c) {
    const tenon_groups_desc *d = &c->d;
    const bool awq = d->layout == TENON_GROUPS_AWQ, sorted = tn_tensor_present(&d->group_index);
    tn_message *m = c->m;
    c->n = d->y.shape[0];
    c->k = d->y.shape[1];
    c->groups = d->scales.shape[0];
    TN_TRY(tn_check_blocks_along(m, "y", &d->y, 1, "k"));
    if (c->n % c->packed != 0)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "y.shape[0] is %lld, expected a multiple of %d, the columns of a word",
                       (long long)c->n, (int)c->packed);
    const int64_t weights[2] = {awq ? c->k : c->k / c->packed, awq ? c->n / c->packed : c->n},
                  zeros[2] = {c->groups, c->n / c->packed}, scales[2] = {c->groups, c->n};
    TN_TRY(tn_check_shape(m, "qweight", &d->qweight, 2, weights,
                          awq ? "(k, n / 8) for y (n, k)" : "(k * bits / 32, n) for y (n, k)"));
    TN_TRY(tn_check_shape(m, "qzeros", &d->qzeros, 2, zeros, "(groups, n * bits / 32)"));
    TN_TRY(tn_check_shape(m, "scales", &d->scales, 2, scales, "(groups, n)"));
    if (sorted != tn_tensor_present(&d->order))
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "order is %s group_index, expected both or "
                       "neither",
                       sorted ? "absent beside" : "given without");
    if (sorted) {
        TN_TRY(tn_check_extent(m, "group_index", &d->group_index, 0, c->k, "k"));
        return tn_check_extent(m, "order", &d->order, 0, c->k, "k");
    }
    if (c->k > 0 && (c->groups == 0 || c->k % c->groups != 0 || c->k / c->groups % 32 != 0))
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "scales.shape[0] is %lld, expected groups of a multiple of 32 rows each of "
                       "the %lld of k",
                       (long long)c->groups, (long long)c->k);
    return TENON_OK;
}

/* Every index is a group, and every group has whole blocks of rows. */
static tenon_status check_indices(const conversion *c) {
    for (int64_t p = 0; p < c->k; ++p) {
        const int64_t g = group_at(c, p);
        if (g < 0 || g >= c->groups)
            return tn_fail(c->m, TENON_ERROR_INVALID_ARGUMENT,
                           "group_index[%lld] is %lld, expected 0 to %lld", (long long)p,
                           (long long)g, (long long)c->groups - 1);
    }
    for (int64_t g = 0; g < c->groups; ++g) {
        int64_t rows = 0;
        for (int64_t p = 0; p < c->k; ++p)
            rows += group_at(c, p) == g;
        if (rows % 32 != 0)
            return tn_fail(c->m, TENON_ERROR_INVALID_ARGUMENT,
                           "group_index has %lld rows of group %lld, expected a multiple of 32",
                           (long long)rows, (long long)g);
    }
    return TENON_OK;
}

static tenon_status check_numbers(const conversion *c) {
    for (int64_t g = 0; g < c->groups; ++g)
        for (int64_t j = 0; j < c->n; ++j) {
            const int32_t zero = zero_at(c, g, j);
            const float scale = scale_at(c, g, j);
            if (c->expected >= 0 && zero != c->expected)
                return tn_fail(
                    c->m, TENON_ERROR_INVALID_ARGUMENT,
                    "qzeros[%lld, %lld] has a zero point of %d for column %lld, expected "
                    "%d with y of %s%s",
                    (long long)g, (long long)(j / c->packed), (int)zero, (long long)j,
                    (int)c->expected, c->type->dtype == TENON_Q4_0 ? "q4_0" : "q8_0",
                    c->d.bits == 4 ? " (q4_1 takes any)" : "");
            const float largest = c->expected < 0 ? scale * (float)zero : scale;
            if (isfinite(scale) && !isfinite(tn_half_value(tn_half_of(scale))))
                return tn_fail(c->m, TENON_ERROR_INVALID_ARGUMENT,
                               "scales[%lld, %lld] is %g, expected a number that f16 holds",
                               (long long)g, (long long)j, (double)scale);
            if (isfinite(scale) && !isfinite(tn_half_value(tn_half_of(largest))))
                return tn_fail(c->m, TENON_ERROR_INVALID_ARGUMENT,
                               "scales[%lld, %lld] is %g beside a zero point of %d, expected a "
                               "product that f16 holds",
                               (long long)g, (long long)j, (double)scale, (int)zero);
        }
    return TENON_OK;
}

/* ---------------------------------------------------------------- conversion */

/* Rows by their groups: order[i] is the row that comes i-th. */
static void sort_rows(const conversion *c) {
    const int64_t step = c->d.order.stride[0];
    int32_t *const order = c->address[ORDER];
    int64_t at = 0;
    for (int64_t g = 0; g < c->groups; ++g)
        for (int64_t p = 0; p < c->k; ++p)
            if (group_at(c, p) == g)
                order[at++ * step] = (int32_t)p;
}

static int64_t row_at(const conversion *c, int64_t i) {
    return tn_tensor_present(&c->d.order)
               ? ((const int32_t *)c->address[ORDER])[i * c->d.order.stride[0]]
               : i;
}

/* The block for 32 integers of one group. */
static void put_block(const conversion *c, const uint8_t q[32], float scale, int32_t zero,
                      void *block) {
    const uint16_t d = tn_half_of(scale);
    uint8_t *qs;
    if (c->type->dtype == TENON_Q8_0) {
        tn_block_q8_0 *b = block;
        b->d = d;
        for (int i = 0; i < 32; ++i)
            b->q[i] = (int8_t)(q[i] - 128);
        return;
    }
    if (c->type->dtype == TENON_Q4_1) {
        tn_block_q4_1 *b = block;
        b->d = d;
        b->m = tn_half_of(-(scale * (float)zero));
        qs = b->qs;
    } else {
        tn_block_q4_0 *b = block;
        b->d = d;
        qs = b->qs;
    }
    for (int i = 0; i < 16; ++i)
        qs[i] = (uint8_t)(q[i] | q[i + 16] << 4);
}

/* Some columns, all their blocks. */
static void convert_strip(void *arg, int64_t index, int worker) {
    const conversion *c = arg;
    const int64_t from = index * STRIP, to = tn_min64(from + STRIP, c->n);
    (void)worker;
    for (int64_t i = 0; i < c->k; i += 32) {
        const int64_t g = group_at(c, row_at(c, i));
        int64_t row[32];
        for (int e = 0; e < 32; ++e)
            row[e] = row_at(c, i + e);
        for (int64_t j = from; j < to; ++j) {
            uint8_t q[32];
            for (int e = 0; e < 32; ++e)
                q[e] = (uint8_t)weight_at(c, row[e], j);
            put_block(c, q, scale_at(c, g, j), zero_at(c, g, j),
                      (void *)tn_block_at(c->type, c->address[Y], j * c->d.y.stride[0], i));
        }
    }
}

static tenon_status convert_inside(tenon_context *ctx, const tenon_groups_desc *desc) {
    tn_message *m = &ctx->message;
    conversion c = {.m = m};
    tn_reaches reaches;
    const tenon_buffer *buffers[ROLES];
    tn_placement place = {.message = m,
                          .form = &form,
                          .desc = &c.d,
                          .reaches = &reaches,
                          .addresses = c.address,
                          .buffers = buffers};
    if (!desc)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "desc is NULL, expected a descriptor");
    TN_TRY(tn_read_desc(desc, &c.d, sizeof c.d, m));
    TN_TRY(tn_operands_check(m, &form, &c.d));
    TN_TRY(check_kind(&c));
    TN_TRY(check_shapes(&c));
    tn_operands_reach(&form, &c.d, &reaches);
    TN_TRY(tn_operands_settle(&place));
    for (int role = 0; role < ROLES; ++role)
        if (place.elsewhere & 1u << role)
            return tn_fail(m, TENON_ERROR_UNSUPPORTED,
                           "%s.buffer is %p, memory of a device, expected host memory",
                           operands[role].name, (const void *)buffers[role]);
    c.type = tn_block_find(c.d.y.dtype);
    if (c.n == 0 || c.k == 0)
        return TENON_OK;
    if (tn_tensor_present(&c.d.group_index))
        TN_TRY(check_indices(&c));
    TN_TRY(check_numbers(&c));
    if (tn_tensor_present(&c.d.order))
        sort_rows(&c);
    tn_team_limit(ctx->team, ctx->threads);
    tn_team_run(ctx->team, convert_strip, &c, tn_ceil_div(c.n, STRIP));
    return TENON_OK;
}

tenon_status tenon_blocks_from_groups(tenon_context *ctx, const tenon_groups_desc *desc) {
    TN_TRY(tn_context_enter(ctx, "tenon_blocks_from_groups"));
    return tn_context_leave(ctx, convert_inside(ctx, desc));
}
