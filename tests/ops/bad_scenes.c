/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scenes: small legal calls that between them use every field of every operation's descriptor, and the table of calls.
 */
#include "bad_input.h"

#include <string.h>

/* ---------------------------------------------------------------- memory and tensors */

static void *take(scene *s, size_t bytes, int fill) {
    unsigned char *memory = s->world + s->used;
    memset(memory, fill, bytes);
    s->used += (bytes + 127) / 64 * 64; /* at least one byte of UNTOUCHED between operands */
    return memory;
}

static size_t bytes_of(tenon_dtype dtype, int32_t rank, const int64_t *shape) {
    int64_t elements = 1;
    size_t bytes = 0;
    (void)tenon_dtype_block(dtype, &elements, &bytes);
    for (int32_t d = 0; d < rank; ++d)
        bytes *= (size_t)shape[d];
    return bytes / (size_t)elements;
}

static scene_tensor *add(scene *s, tenon_tensor *at, const char *name, tenon_dtype dtype,
                         int32_t rank, const int64_t *shape, bool output) {
    scene_tensor *t = &s->tensor[s->tensors++];
    *at = tenon_dense(take(s, bytes_of(dtype, rank, shape), output ? UNTOUCHED : 0), dtype, rank,
                      shape);
    *t = (scene_tensor){.name = name, .at = at, .output = output};
    return t;
}

#define SHAPE(...)                                                                                 \
    (int32_t)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) {       \
        __VA_ARGS__                                                                                \
    }
#define INPUT(tensor, dtype, ...)                                                                  \
    add(s, &(tensor), &#tensor[sizeof "d->" - 1], dtype, SHAPE(__VA_ARGS__), false)
#define OUTPUT(tensor, dtype, ...)                                                                 \
    add(s, &(tensor), &#tensor[sizeof "d->" - 1], dtype, SHAPE(__VA_ARGS__), true)

static void set_s32(const tenon_tensor *t, const int32_t *values, size_t count) {
    memcpy(t->data, values, count * sizeof *values);
}
#define SET(tensor, ...)                                                                           \
    set_s32(&(tensor), (const int32_t[]){__VA_ARGS__},                                             \
            sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void fill_f32(const tenon_tensor *t, float value) {
    for (int64_t i = 0, count = (int64_t)(bytes_of(t->dtype, t->rank, t->shape) / sizeof value);
         i < count; ++i)
        ((float *)t->data)[i] = value;
}

/* ---------------------------------------------------------------- gemm: m = 3, n = 5, k = 4 */

static void gemm_epilogue(scene *s) {
    static const double alpha = 0.5;
    tenon_gemm_desc *d = &s->desc.gemm;
    INPUT(d->a, TENON_F32, 2, 3, 4);
    INPUT(d->b, TENON_F16, 2, 4, 5);
    OUTPUT(d->c, TENON_F32, 2, 3, 5);
    INPUT(d->bias, TENON_F32, 2, 3, 5);
    INPUT(d->residual, TENON_F32, 2, 3, 5);
    INPUT(d->a_scale, TENON_F32, 3, 2);
    INPUT(d->a_zero, TENON_F32, 3, 2);
    INPUT(d->b_scale, TENON_F32, 2, 5);
    INPUT(d->b_zero, TENON_F32, 2, 5);
    INPUT(d->c_scale, TENON_F32, 3, 5);
    INPUT(d->c_zero, TENON_F32, 3, 5);
    fill_f32(&d->c_scale, 1);
    d->alpha = &alpha;
    d->activation = TENON_ACTIVATION_CLAMP;
    d->clamp_low = -1;
    d->clamp_high = 1;
}

static void gemm_grouped(scene *s) {
    tenon_gemm_desc *d = &s->desc.gemm;
    INPUT(d->a, TENON_F32, 6, 4);
    INPUT(d->b, TENON_F32, 3, 4, 5);
    OUTPUT(d->c, TENON_F32, 6, 5);
    INPUT(d->group_offsets, TENON_S32, 4);
    SET(d->group_offsets, 0, 2, 2, 5);
}

static void gemm_gated(scene *s) {
    tenon_gemm_desc *d = &s->desc.gemm;
    INPUT(d->a, TENON_F32, 3, 4);
    INPUT(d->b, TENON_F32, 4, 10);
    OUTPUT(d->c, TENON_F32, 3, 5);
    d->gated = TENON_GATED_HALVES;
    d->activation = TENON_ACTIVATION_SILU;
}

static void gemm_arrays(scene *s) {
    tenon_gemm_desc *d = &s->desc.gemm;
    INPUT(d->a, TENON_F32, 3, 4)->no_data = true;
    INPUT(d->b, TENON_F32, 4, 5)->no_data = true;
    OUTPUT(d->c, TENON_F32, 3, 5)->no_data = true;
    d->a.data = d->b.data = d->c.data = NULL;
    for (int i = 0; i < 2; ++i) {
        s->a_array[i] = take(s, 3 * 4 * sizeof(float), 0);
        s->b_array[i] = take(s, 4 * 5 * sizeof(float), 0);
        s->c_array[i] = take(s, 3 * 5 * sizeof(float), UNTOUCHED);
    }
    d->a_array = s->a_array;
    d->b_array = s->b_array;
    d->c_array = s->c_array;
    d->array_count = 2;
}

/* Blocks along k: b is (64, 5), five rows of two blocks. */
static void gemm_blocks(scene *s) {
    tenon_gemm_desc *d = &s->desc.gemm;
    INPUT(d->a, TENON_F16, 3, 64);
    INPUT(d->b, TENON_Q4_0, 5, 64);
    d->b = tenon_transposed(d->b);
    OUTPUT(d->c, TENON_F32, 3, 5);
}

/* ---------------------------------------------------------------- softmax */

static void softmax_all(scene *s) {
    static const int32_t axis = -1;
    static const double scale = 2;
    tenon_softmax_desc *d = &s->desc.softmax;
    INPUT(d->x, TENON_F32, 2, 3, 4, 5);
    OUTPUT(d->y, TENON_F32, 2, 3, 4, 5);
    INPUT(d->bias, TENON_F16, 4, 5);
    INPUT(d->mask, TENON_BOOL, 3, 4, 5);
    INPUT(d->alibi, TENON_F32, 2, 3);
    INPUT(d->sinks, TENON_F32, 3);
    OUTPUT(d->lse, TENON_F32, 2, 3, 4);
    d->axis = &axis;
    d->scale = &scale;
    d->causal = TENON_CAUSAL_TOP_LEFT;
    d->window = (tenon_window){.enabled = 1, .left = 3, .right = 2};
    d->softcap = 5;
}

/* Over a middle dimension, where nothing has positions. */
static void softmax_axis(scene *s) {
    static const int32_t axis = 1;
    tenon_softmax_desc *d = &s->desc.softmax;
    INPUT(d->x, TENON_F32, 2, 3, 4);
    OUTPUT(d->y, TENON_F32, 2, 3, 4);
    d->axis = &axis;
}

/* ---------------------------------------------------------------- attention: 2 sequences, 4 heads on 2 kv heads */

static void attention_paged(scene *s) {
    static const double scale = 0.25;
    tenon_attention_desc *d = &s->desc.attention;
    INPUT(d->q, TENON_F32, 2, 4, 3, 8);
    INPUT(d->k, TENON_BF16, 6, 2, 4, 8)->free_extents = 1u << 0;
    INPUT(d->v, TENON_BF16, 6, 2, 4, 6)->free_extents = 1u << 0;
    OUTPUT(d->o, TENON_F32, 2, 4, 3, 6);
    INPUT(d->bias, TENON_F32, 2, 4, 3, 12)->free_extents = 1u << 3;
    INPUT(d->mask, TENON_BOOL, 2, 4, 3, 12)->free_extents = 1u << 3;
    INPUT(d->alibi, TENON_F32, 2, 4);
    INPUT(d->sinks, TENON_F32, 4);
    INPUT(d->key_lengths, TENON_S32, 2);
    INPUT(d->query_offsets, TENON_S64, 2);
    INPUT(d->block_table, TENON_S32, 2, 3)->free_extents = 1u << 1;
    INPUT(d->k_scale, TENON_F32, 2);
    INPUT(d->v_scale, TENON_F32, 6, 2, 4)->free_extents = 1u << 0;
    OUTPUT(d->lse, TENON_F32, 2, 4, 3);
    SET(d->key_lengths, 5, 12);
    SET(d->block_table, 5, 1, -1, 0, 2,
        4); /* the first sequence needs two blocks: the third entry is nobody's */
    d->scale = &scale;
    d->causal = TENON_CAUSAL_TOP_LEFT;
    d->window = (tenon_window){.enabled = 1, .left = 3, .right = 2};
    d->softcap = 5;
}

static void attention_ragged(scene *s) {
    tenon_attention_desc *d = &s->desc.attention;
    INPUT(d->q, TENON_F32, 1, 4, 5, 8);
    INPUT(d->k, TENON_F32, 1, 2, 9, 8);
    INPUT(d->v, TENON_F32, 1, 2, 9, 8);
    OUTPUT(d->o, TENON_F32, 1, 4, 5, 8);
    INPUT(d->mask, TENON_BOOL, 5, 6)->free_extents = 1u << 1;
    INPUT(d->cu_seqlens_q, TENON_S32, 3);
    INPUT(d->cu_seqlens_k, TENON_S32, 3);
    SET(d->cu_seqlens_q, 0, 2, 5);
    SET(d->cu_seqlens_k, 0, 3, 9);
}

/* ---------------------------------------------------------------- merge and append */

static void merge_two(scene *s) {
    tenon_attention_merge_desc *d = &s->desc.merge;
    OUTPUT(d->o, TENON_F32, 2, 3, 4);
    OUTPUT(d->lse, TENON_F32, 2, 3);
    add(s, &s->o_parts[0], "o_parts[0]", TENON_F32, SHAPE(2, 3, 4), false);
    add(s, &s->o_parts[1], "o_parts[1]", TENON_F16, SHAPE(2, 3, 4), false);
    add(s, &s->lse_parts[0], "lse_parts[0]", TENON_F32, SHAPE(2, 3), false);
    add(s, &s->lse_parts[1], "lse_parts[1]", TENON_F64, SHAPE(2, 3), false);
    d->o_parts = s->o_parts;
    d->lse_parts = s->lse_parts;
    d->count = 2;
}

static void append_paged(scene *s) {
    tenon_kv_append_desc *d = &s->desc.append;
    INPUT(d->k, TENON_F32, 1, 2, 5, 8);
    INPUT(d->v, TENON_F32, 1, 2, 5, 6);
    OUTPUT(d->k_cache, TENON_S8, 6, 2, 4, 8)->free_extents = 1u << 0;
    OUTPUT(d->v_cache, TENON_F16, 6, 2, 4, 6)->free_extents = 1u << 0;
    INPUT(d->positions, TENON_S32, 2);
    INPUT(d->cu_seqlens, TENON_S32, 3);
    INPUT(d->block_table, TENON_S32, 2, 3)->free_extents = 1u << 1;
    INPUT(d->k_scale, TENON_F32, 2);
    INPUT(d->v_scale, TENON_F32, 2);
    SET(d->positions, 3, 9);
    SET(d->cu_seqlens, 0, 2, 5);
    SET(d->block_table, 5, 1, -1, 0, 2, 4);
    fill_f32(&d->k_scale, 1);
    fill_f32(&d->v_scale, 1);
}

static void append_contiguous(scene *s) {
    tenon_kv_append_desc *d = &s->desc.append;
    INPUT(d->k, TENON_F32, 2, 2, 1, 8)->free_extents = 1u << 2;
    OUTPUT(d->k_cache, TENON_BF16, 2, 2, 16, 8)->free_extents = 1u << 2;
    INPUT(d->positions, TENON_S32, 2);
    SET(d->positions, 0, 15);
}

/* A cache of blocks, and what reads it. */
static void attention_blocks(scene *s) {
    tenon_attention_desc *d = &s->desc.attention;
    INPUT(d->q, TENON_F32, 1, 4, 3, 64);
    INPUT(d->k, TENON_Q8_0, 1, 2, 9, 64);
    INPUT(d->v, TENON_Q4_0, 1, 2, 9, 32);
    OUTPUT(d->o, TENON_F32, 1, 4, 3, 32);
}

static void append_blocks(scene *s) {
    tenon_kv_append_desc *d = &s->desc.append;
    INPUT(d->k, TENON_F32, 1, 2, 3, 64)->free_extents = 1u << 2;
    OUTPUT(d->k_cache, TENON_Q8_0, 1, 2, 9, 64)->free_extents = 1u << 2;
    INPUT(d->positions, TENON_S32, 1);
    SET(d->positions, 4);
}

/* ---------------------------------------------------------------- blocks */

static void quantize_rows(scene *s) {
    tenon_quantize_desc *d = &s->desc.quantize;
    INPUT(d->x, TENON_BF16, 2, 3, 64);
    OUTPUT(d->y, TENON_Q8_0, 2, 3, 64);
}

static void dequantize_rows(scene *s) {
    tenon_quantize_desc *d = &s->desc.quantize;
    INPUT(d->x, TENON_Q6_K, 3, 256);
    OUTPUT(d->y, TENON_F16, 3, 256);
}

/* ---------------------------------------------------------------- tables */

const scene_row scene_rows[] = {
    {OP_GEMM, "epilogue", gemm_epilogue},
    {OP_GEMM, "grouped", gemm_grouped},
    {OP_GEMM, "gated", gemm_gated},
    {OP_GEMM, "arrays", gemm_arrays},
    {OP_GEMM, "blocks", gemm_blocks},
    {OP_SOFTMAX, "softmax", softmax_all},
    {OP_SOFTMAX, "axis", softmax_axis},
    {OP_ATTENTION, "paged", attention_paged},
    {OP_ATTENTION, "ragged", attention_ragged},
    {OP_ATTENTION, "blocks_kv", attention_blocks},
    {OP_MERGE, "merge", merge_two},
    {OP_APPEND, "append", append_paged},
    {OP_APPEND, "contiguous", append_contiguous},
    {OP_APPEND, "blocks_cache", append_blocks},
    {OP_QUANTIZE, "quantize", quantize_rows},
    {OP_DEQUANTIZE, "dequantize", dequantize_rows},
};
const int scene_count = sizeof scene_rows / sizeof scene_rows[0];

void scene_build(scene *s, const scene_row *row) {
    memset(s, 0, offsetof(scene, world));
    memset(s->world, UNTOUCHED, sizeof s->world);
    s->op = row->op;
    s->name = row->name;
    s->used = 64;
    row->build(s);
}

static tenon_status gemm_once(tenon_context *ctx, const void *desc) {
    return tenon_gemm(ctx, desc);
}
static tenon_status gemm_plan(tenon_context *ctx, const void *desc, tenon_plan **out) {
    return tenon_gemm_plan(ctx, desc, out);
}
static tenon_status gemm_run(tenon_context *ctx, const tenon_plan *p, const void *desc) {
    return tenon_gemm_run(ctx, p, desc);
}
static tenon_status softmax_once(tenon_context *ctx, const void *desc) {
    return tenon_softmax(ctx, desc);
}
static tenon_status softmax_plan(tenon_context *ctx, const void *desc, tenon_plan **out) {
    return tenon_softmax_plan(ctx, desc, out);
}
static tenon_status softmax_run(tenon_context *ctx, const tenon_plan *p, const void *desc) {
    return tenon_softmax_run(ctx, p, desc);
}
static tenon_status attention_once(tenon_context *ctx, const void *desc) {
    return tenon_attention(ctx, desc);
}
static tenon_status attention_plan(tenon_context *ctx, const void *desc, tenon_plan **out) {
    return tenon_attention_plan(ctx, desc, out);
}
static tenon_status attention_run(tenon_context *ctx, const tenon_plan *p, const void *desc) {
    return tenon_attention_run(ctx, p, desc);
}
static tenon_status merge_once(tenon_context *ctx, const void *desc) {
    return tenon_attention_merge(ctx, desc);
}
static tenon_status append_once(tenon_context *ctx, const void *desc) {
    return tenon_kv_append(ctx, desc);
}
static tenon_status quantize_once(tenon_context *ctx, const void *desc) {
    return tenon_quantize(ctx, desc);
}
static tenon_status dequantize_once(tenon_context *ctx, const void *desc) {
    return tenon_dequantize(ctx, desc);
}

const op_calls op_table[OP_KINDS] = {
    [OP_GEMM] = {"tenon_gemm", sizeof(tenon_gemm_desc), gemm_once, gemm_plan, gemm_run},
    [OP_SOFTMAX] = {"tenon_softmax", sizeof(tenon_softmax_desc), softmax_once, softmax_plan,
                    softmax_run},
    [OP_ATTENTION] = {"tenon_attention", sizeof(tenon_attention_desc), attention_once,
                      attention_plan, attention_run},
    [OP_MERGE] = {"tenon_attention_merge", sizeof(tenon_attention_merge_desc), merge_once, NULL,
                  NULL},
    [OP_APPEND] = {"tenon_kv_append", sizeof(tenon_kv_append_desc), append_once, NULL, NULL},
    [OP_QUANTIZE] = {"tenon_quantize", sizeof(tenon_quantize_desc), quantize_once, NULL, NULL},
    [OP_DEQUANTIZE] = {"tenon_dequantize", sizeof(tenon_quantize_desc), dequantize_once, NULL,
                       NULL},
};
