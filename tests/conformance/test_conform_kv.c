/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and values of block types: attention gives the bits that it gives with their elements as f32, whatever else it is asked for, and an append
 * writes the blocks that tenon_quantize makes. Attention in f32 and quantise are held to their bounds elsewhere (test_conform_attention.c,
 * test_conform_quantize.c).
 */
#include "plain.h"

#include <math.h>
#include <string.h>

#include "block_operand.h"
#include "number.h"

/* Devices without block types. */
static const char lacking[] = "opencl cuda";

static const tenon_dtype types[] = {TENON_Q8_0, TENON_Q4_0,   TENON_Q4_1, TENON_Q5_0,
                                    TENON_Q5_1, TENON_IQ4_NL, TENON_MXFP4};
enum { TYPES = sizeof types / sizeof *types };

typedef struct kv_case {
    const char *name;
    int64_t batch, heads, kv_heads, queries, keys, d, dv, block_size;
    int32_t by_length, shared, ragged, mask, scales, other_type;
    tenon_causal causal;
    int64_t left;
    double softcap;
    tenon_dtype q, o;

} kv_case;

static const kv_case cases[] = {
    {"prefill", 2, 4, 2, 37, 300, 64, 96, .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {"prefill, keys apart", 1, 4, 4, 70, 530, 32, 32, .by_length = 1, .softcap = 20, .left = 200},
    {"decode", 2, 8, 2, 1, 700, 128, 64},
    {"decode, keys apart", 2, 8, 1, 1, 300, 64, 64, .by_length = 1, .mask = 1},
    {"decode, one row, long", 1, 1, 1, 1, 2100, 96, 160},
    {"decode of three", 1, 6, 2, 3, 290, 64, 64, .causal = TENON_CAUSAL_BOTTOM_RIGHT, .scales = 1},
    {"pages of 16", 3, 4, 2, 1, 128, 64, 64, .block_size = 16},
    {"pages of 20", 2, 4, 2, 9, 200, 96, 32, .block_size = 20, .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {"ragged", 3, 4, 2, 60, 150, 64, 64, .ragged = 1, .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {"shared", 1, 8, 1, 2, 270, 576, 512, .shared = 1},
    {"keys of f16", 1, 4, 2, 5, 260, 64, 64, .other_type = 1},
    {"values of another type", 1, 4, 2, 20, 260, 64, 64, .other_type = 2},
    {"f64", 1, 2, 1, 7, 270, 64, 32, .q = TENON_F64, .o = TENON_F64},
    {"bf16", 1, 2, 1, 7, 270, 64, 32, .q = TENON_BF16, .o = TENON_BF16, .mask = 1},
};
enum { CASES = sizeof cases / sizeof *cases };

/* (outer, heads, rows, width), blocks along the last; by_length: heads beside each other in memory. */
static tenon_tensor lines(world *w, tenon_dtype dtype, int64_t outer, int64_t heads, int64_t rows,
                          int64_t width, bool by_length) {
    const bool blocks = dtype >= TENON_Q8_0;
    int64_t shape[4] = {outer, by_length ? rows : heads, by_length ? heads : rows, width};
    if (blocks) { /* as `filled` has them: along the dimension before the last */
        shape[3] = shape[2];
        shape[2] = width;
    }
    tenon_tensor t = filled(w, dtype, 4, shape);
    if (blocks)
        t = tenon_transposed(t);
    return by_length ? tenon_swapped(t, 1, 2) : t;
}

/* The elements of blocks as f32, in rows of their own; other types as they are. */
static tenon_tensor elements(world *w, tenon_context *ctx, tenon_tensor t) {
    if (t.dtype < TENON_Q8_0)
        return t;
    tenon_tensor y = empty(w, TENON_F32, 4, t.shape);
    ck_assert_int_eq(tenon_dequantize(ctx, &(tenon_quantize_desc){.x = t, .y = y}), TENON_OK);
    return y;
}

/* NaN as the scale of the key's blocks: whoever multiplies with it, be it by zero, is found out. */
static void poison(const tenon_tensor *t, int64_t outer, int64_t row) {
    static const uint16_t nan = 0x7e00;
    int64_t block = 1;
    size_t bytes = number_size(t->dtype);
    ck_assert_int_eq(tenon_dtype_block(t->dtype, &block, NULL), TENON_OK);
    for (int64_t h = 0; h < t->shape[1]; ++h)
        for (int64_t e = 0; e < t->shape[3]; e += block) {
            const int64_t at =
                (outer * t->stride[0] + h * t->stride[1] + row * t->stride[2] + e) / block;
            memcpy((unsigned char *)t->data + at * (int64_t)bytes, &nan, sizeof nan);
        }
}

static tenon_tensor indices(world *w, int64_t n, const int32_t *values) {
    const tenon_tensor t = empty(w, TENON_S32, 1, &n);
    memcpy(t.data, values, (size_t)n * sizeof *values);
    return t;
}

static tenon_attention_desc make(world *w, const kv_case *c, tenon_dtype type, tenon_dtype other) {
    const tenon_dtype float_type = c->q ? c->q : TENON_F32;
    const int64_t blocks = c->block_size ? c->batch * (c->keys / c->block_size) + 1 : c->batch;
    const int64_t outer = c->ragged ? 1 : blocks, rows = c->block_size ? c->block_size : c->keys;
    const int64_t q_batch = c->ragged ? 1 : c->batch;
    const int64_t q_shape[4] = {q_batch, c->heads, c->queries, c->d};
    tenon_attention_desc x = {.q = filled(w, float_type, 4, q_shape)};
    x.k = lines(w, c->other_type == 1 ? TENON_F16 : type, outer, c->kv_heads, rows, c->d,
                c->by_length);
    if (c->shared) {
        x.v = x.k;
        x.v.shape[3] = c->dv;
    } else {
        x.v = lines(w, c->other_type == 2 ? other : type, outer, c->kv_heads, rows, c->dv,
                    c->by_length);
    }
    x.causal = c->causal;
    x.softcap = c->softcap;
    if (c->left)
        x.window = (tenon_window){.enabled = 1, .left = c->left, .right = 3};
    if (c->ragged) {
        x.cu_seqlens_q = indices(w, 4, (const int32_t[4]){0, 25, 26, 60});
        x.cu_seqlens_k = indices(w, 4, (const int32_t[4]){0, 70, 71, 150});
    }
    if (c->block_size) {
        const int64_t shape[2] = {c->batch, c->keys / c->block_size};
        int32_t lengths[4];
        x.block_table = empty(w, TENON_S32, 2, shape);
        for (int64_t i = 0; i < shape[0] * shape[1]; ++i)
            ((int32_t *)x.block_table.data)[i] = (int32_t)(shape[0] * shape[1] - i);
        for (int64_t b = 0; b < c->batch; ++b)
            lengths[b] = (int32_t)(c->keys - 7 * b - 1);
        x.key_lengths = indices(w, c->batch, lengths);
        if (type != TENON_MXFP4) { /* the last row of sequence 0 is no key; MXFP4 has no NaN */
            const int64_t last = shape[1] - 1;
            poison(&x.k, ((const int32_t *)x.block_table.data)[last], c->block_size - 1);
            poison(&x.v, ((const int32_t *)x.block_table.data)[last], c->block_size - 1);
        }
    }
    if (c->mask) {
        const int64_t keys = c->keys;
        x.mask = filled(w, TENON_BOOL, 1, &keys);
        for (int64_t j = 0; j < keys && type != TENON_MXFP4; ++j)
            if (!((const uint8_t *)x.mask.data)[j])
                for (int64_t b = 0; b < outer; ++b) {
                    poison(&x.k, b, j);
                    poison(&x.v, b, j);
                }
    }
    if (c->scales) {
        x.k_scale = filled(w, TENON_F32, 1, &c->kv_heads);
        x.v_scale = filled(w, TENON_F32, 1, &c->kv_heads);
    }
    return x;
}

START_TEST(attentions) {
    world w = world_start("attention over blocks", device_id[_i]);
    for (int i = 0; i < CASES * 3; ++i) { /* three of the types for each case */
        const kv_case *c = &cases[i / 3];
        const tenon_dtype type = types[i % TYPES], o = c->o ? c->o : TENON_F32;
        const int64_t q_batch = c->ragged ? 1 : c->batch;
        const int64_t o_shape[4] = {q_batch, c->heads, c->queries, c->dv};
        world_case(&w, "%s, %s", c->name, tenon_dtype_name(type));
        tenon_attention_desc x = make(&w, c, type, types[(i + 3) % TYPES]);
        operand out = output(&w, o, 4, o_shape, PADDED),
                lse = output(&w, TENON_F32, 3, o_shape, DENSE);
        x.o = out.t;
        x.lse = lse.t;
        if (!world_answered(&w, tenon_attention(w.ctx, &x), lacking))
            continue;
        tenon_attention_desc plain = x;
        plain.k = elements(&w, w.ctx, x.k);
        plain.v = elements(&w, w.ctx, x.v);
        plain.o = empty(&w, o, 4, o_shape);
        plain.lse = empty(&w, TENON_F32, 3, o_shape);
        ck_assert_int_eq(tenon_attention(w.ctx, &plain), TENON_OK);
        for (int64_t e = 0; e < count_of(&plain.lse); ++e)
            ck_assert_msg(!isnan(get(&plain.lse, e)), "%s: %s: NaN", w.device, w.what);
        expect_same(&w, "with its elements as f32", &x.o, &plain.o);
        expect_same(&w, "with its elements as f32", &x.lse, &plain.lse);
        expect_untouched(&w, &out, NULL);
        const operand *const outputs[] = {&out, &lse};
        expect_every_choice(&w, &(call){.attention = &x}, outputs, 2);
    }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- append */

/* Row t of sequence b of a cache: the same memory. */
static tenon_tensor row_of(tenon_tensor cache, int64_t outer, int64_t slot, int64_t count) {
    return part(part(cache, 0, outer, 1), 2, slot, count);
}

START_TEST(appends) {
    static const tenon_dtype from[] = {TENON_F32, TENON_F16, TENON_BF16, TENON_F64};
    enum { BATCH = 2, HEADS = 3, ROWS = 5, CAPACITY = 24, D = 64, DV = 96, PAGE = 8 };
    world w = world_start("append of blocks", device_id[_i]);
    for (int i = 0; i < TYPES * 4 * 4; ++i) {
        const tenon_dtype type = types[i % TYPES], number = from[i / TYPES % 4];
        const bool paged = i / TYPES / 4 & 1, by_length = i / TYPES / 4 & 2;
        const int64_t outer = paged ? BATCH * CAPACITY / PAGE : BATCH,
                      rows = paged ? PAGE : CAPACITY;
        const int64_t k_shape[4] = {BATCH, HEADS, ROWS, D}, v_shape[4] = {BATCH, HEADS, ROWS, DV};
        world_case(&w, "append %s to %s%s%s", tenon_dtype_name(number), tenon_dtype_name(type),
                   paged ? ", paged" : "", by_length ? ", keys apart" : "");
        tenon_kv_append_desc x = {
            .k = filled(&w, number, 4, k_shape),
            .v = filled(&w, number, 4, v_shape),
            .k_cache = lines(&w, type, outer, HEADS, rows, D, by_length),
            .v_cache = lines(&w, types[(i + 2) % TYPES], outer, HEADS, rows, DV, by_length),
            .positions = indices(&w, BATCH, (const int32_t[BATCH]){CAPACITY - ROWS, 6}),
        };
        if (paged) {
            const int64_t shape[2] = {BATCH, CAPACITY / PAGE};
            x.block_table = empty(&w, TENON_S32, 2, shape);
            for (int32_t b = 0; b < outer; ++b)
                ((int32_t *)x.block_table.data)[b] = (int32_t)outer - 1 - b;
        }
        const tenon_tensor *const caches[2] = {&x.k_cache, &x.v_cache}, *const news[2] = {&x.k,
                                                                                          &x.v};
        tenon_tensor expected[2];
        for (int side = 0; side < 2; ++side) {
            const tenon_tensor *t = caches[side];
            int64_t block;
            size_t bytes;
            ck_assert_int_eq(tenon_dtype_block(t->dtype, &block, &bytes), TENON_OK);
            const size_t size = (size_t)(count_of(t) / block) * bytes;
            expected[side] = *t;
            expected[side].data = world_alloc(&w, size);
            memcpy(expected[side].data, t->data, size);
            tenon_tensor numbers = *news[side];
            if (number == TENON_F64) { /* which has no quantise of its own */
                numbers = empty(&w, TENON_F32, 4, news[side]->shape);
                for (int64_t e = 0; e < count_of(&numbers); ++e)
                    ((float *)numbers.data)[e] = (float)((const double *)news[side]->data)[e];
            }
            for (int b = 0; b < BATCH; ++b)
                for (int64_t r = 0; r < ROWS; ++r) {
                    int64_t at = ((const int32_t *)x.positions.data)[b] + r, in = b;
                    if (paged) {
                        in = ((const int32_t *)
                                  x.block_table.data)[b * (CAPACITY / PAGE) + at / PAGE];
                        at %= PAGE;
                    }
                    const tenon_quantize_desc q = {.x = part(part(numbers, 0, b, 1), 2, r, 1),
                                                   .y = row_of(expected[side], in, at, 1)};
                    const tenon_status status = tenon_quantize(w.ctx, &q);
                    if (status == TENON_ERROR_UNSUPPORTED)
                        break; /* which the append has to say too */
                    ck_assert_msg(status == TENON_OK, "%s", tenon_error_message(w.ctx));
                }
        }
        if (!world_answered(&w, tenon_kv_append(w.ctx, &x), lacking))
            continue;
        for (int side = 0; side < 2; ++side) {
            int64_t block;
            size_t bytes;
            ck_assert_int_eq(tenon_dtype_block(caches[side]->dtype, &block, &bytes), TENON_OK);
            ck_assert_msg(memcmp(expected[side].data, caches[side]->data,
                                 (size_t)(count_of(caches[side]) / block) * bytes) == 0,
                          "%s: %s: other blocks than tenon_quantize makes", w.device, w.what);
        }
    }
    world_end(&w);
}
END_TEST

/* With scales: x / scale, rounded to f32 once. */
START_TEST(scaled_appends) {
    enum { HEADS = 2, ROWS = 4, D = 64 };
    world w = world_start("scaled append of blocks", device_id[_i]);
    for (int i = 0; i < TYPES; ++i) {
        const int64_t shape[4] = {1, HEADS, ROWS, D}, heads = HEADS;
        world_case(&w, "scaled append to %s", tenon_dtype_name(types[i]));
        const tenon_tensor scale = filled(&w, TENON_F32, 1, &heads);
        tenon_kv_append_desc x = {.k = filled(&w, TENON_F32, 4, shape),
                                  .k_cache = lines(&w, types[i], 1, HEADS, ROWS, D, false),
                                  .positions = indices(&w, 1, (const int32_t[1]){0}),
                                  .k_scale = scale};
        const tenon_tensor quotient = empty(&w, TENON_F32, 4, shape);
        for (int64_t e = 0; e < count_of(&quotient); ++e)
            ((float *)quotient.data)[e] =
                (float)((double)((const float *)x.k.data)[e] /
                        (double)((const float *)scale.data)[e / (ROWS * D)]);
        if (!world_answered(&w, tenon_kv_append(w.ctx, &x), lacking))
            continue;
        const tenon_tensor found = elements(&w, w.ctx, x.k_cache);
        ck_assert_int_eq(
            tenon_quantize(w.ctx, &(tenon_quantize_desc){.x = quotient, .y = x.k_cache}), TENON_OK);
        const tenon_tensor wanted = elements(&w, w.ctx, x.k_cache);
        expect_same(&w, "as the blocks of the quotients", &found, &wanted);
    }
    world_end(&w);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {attentions, appends, scaled_appends};
    return conform_main("conformance kv", tests, sizeof tests / sizeof *tests);
}
