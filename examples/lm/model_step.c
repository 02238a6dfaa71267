/* SPDX-License-Identifier: Apache-2.0 */
/* model_step.c: one step of a model over some tokens. */
#include "model_parts.h"
#include "rows.h"

#include <string.h>

/* A step under way. */
typedef struct run {
    model *m;
    const plan_set *set;
    char *block;
    char *error;
} run;

static float *floats(const run *r, model_slot slot) {
    return (float *)(void *)(r->block + r->set->slots[slot].offset);
}

static int find_plan(const plan_set *set, model_phase phase, tenon_dtype dtype, bool gated) {
    int i = 0;
    while (set->planned[i].phase != phase || set->planned[i].dtype != dtype ||
           set->planned[i].gated != gated)
        ++i; /* plan_set_make has planned all there are */
    return i;
}

static tenon_workspace workspace_of(const run *r, int plan) {
    const tenon_step *step = &r->set->steps[plan];
    return (tenon_workspace){.memory = r->block + step->offset, .bytes = step->workspace};
}

static bool product(const run *r, model_phase phase, const matrix *weights, bool gated) {
    const int plan = find_plan(r->set, phase, weights->dtype, gated);
    tenon_gemm_desc desc;
    describe_product(r->m, r->set, phase, weights, gated, r->block, &desc);
    desc.workspace = workspace_of(r, plan);
    return tenon_gemm_run(r->m->ctx, r->set->planned[plan].plan, &desc) == TENON_OK ||
           say(r->error, "%s", tenon_error_message(r->m->ctx));
}

static bool attend(const run *r, int64_t number) {
    model *m = r->m;
    const model_shape *s = &m->shape;
    const int64_t q = s->heads * s->head, kv = s->kv_heads * s->head;
    const tenon_kv_append_desc append = {
        .struct_size = sizeof append,
        .k = heads_of(m, r->set, r->block, q, s->kv_heads),
        .v = heads_of(m, r->set, r->block, q + kv, s->kv_heads),
        .k_cache = cache_of(m, number, false),
        .v_cache = cache_of(m, number, true),
        .positions = tenon_vector(&m->position, TENON_S64, 1),
    };
    const int plan = find_plan(r->set, PHASE_ATTEND, TENON_DTYPE_NONE, false);
    tenon_attention_desc desc;
    describe_attention(m, r->set, number, r->block, &desc);
    desc.workspace = workspace_of(r, plan);
    return (tenon_kv_append(m->ctx, &append) == TENON_OK &&
            tenon_attention_run(m->ctx, r->set->planned[plan].plan, &desc) == TENON_OK) ||
           say(r->error, "%s", tenon_error_message(m->ctx));
}

static bool run_layer(const run *r, int64_t number) {
    const model_shape *s = &r->m->shape;
    const model_layer *l = &r->m->layers[number];
    const int64_t rows = r->set->rows, qkv = (s->heads + 2 * s->kv_heads) * s->head;
    rows_rms_norm(floats(r, SLOT_NORM), floats(r, SLOT_X), l->attention_norm, rows, s->width,
                  s->epsilon);
    for (model_phase p = PHASE_Q; p <= PHASE_V; ++p)
        if (!product(r, p, &l->product[p], false))
            return false;
    for (int64_t i = 0; i < rows; ++i) /* queries and keys lie side by side */
        rows_rotate(floats(r, SLOT_QKV) + i * qkv, s->heads + s->kv_heads, s->head,
                    floats(r, SLOT_ROTATION) + i * s->rope, s->rope);
    if (!attend(r, number) || !product(r, PHASE_O, &l->product[PHASE_O], false))
        return false;

    rows_rms_norm(floats(r, SLOT_NORM2), floats(r, SLOT_X), l->hidden_norm, rows, s->width,
                  s->epsilon);
    if (!product(r, PHASE_GATE, &l->product[PHASE_GATE], l->gated))
        return false;
    if (!l->gated) {
        if (!product(r, PHASE_UP, &l->product[PHASE_UP], false))
            return false;
        rows_multiply(floats(r, SLOT_GATE), floats(r, SLOT_UP), rows * s->hidden);
    }
    return product(r, PHASE_DOWN, &l->product[PHASE_DOWN], false);
}

/* Row `token` of the embedding as floats. */
static bool embed(const run *r, int32_t token, float *out) {
    model *m = r->m;
    if (token < 0 || token >= m->shape.vocabulary)
        return say(r->error, "token is %d, expected 0 to %lld", token,
                   (long long)m->shape.vocabulary - 1);
    const int64_t extent[4] = {m->embedding.k, 1, 1, 1};
    const tenon_dtype dtype = m->embedding.dtype;
    const uint64_t bytes = gguf_bytes_of(dtype, extent);
    const uint8_t *row = m->embedding.data + (uint64_t)token * bytes;
    bool done = true;
    if (dtype == TENON_F32 || dtype == TENON_F16 || dtype == TENON_BF16) {
        rows_widen(out, row, dtype, m->embedding.k);
    } else {
        const tenon_quantize_desc desc = {
            .struct_size = sizeof desc,
            .x = tenon_matrix(row, dtype, 1, m->embedding.k),
            .y = tenon_matrix(out, TENON_F32, 1, m->embedding.k),
        };
        done = tenon_dequantize(m->ctx, &desc) == TENON_OK ||
               say(r->error, "%s", tenon_error_message(m->ctx));
    }
    if (embedding_is_released(m))
        gguf_release(m->file, row, bytes);
    return done;
}

static const plan_set *set_for(model *m, int64_t count, char error[512]) {
    if (count == m->many.rows)
        return &m->many;
    if (count == 1)
        return &m->one;
    if (count != m->rest.rows && !plan_set_make(m, &m->rest, count, m->memory.work, error))
        return NULL;
    return &m->rest;
}

bool model_step(model *m, const int32_t *tokens, int64_t count, const float **logits,
                char error[512]) {
    const model_shape *s = &m->shape;
    if (count < 1 || count > m->options.rows || count > m->options.capacity - m->position)
        return say(error,
                   "a step of %lld tokens at position %lld, expected 1 to %lld and within the "
                   "cache's %lld positions",
                   (long long)count, (long long)m->position, (long long)m->options.rows,
                   (long long)m->options.capacity);
    run r = {.m = m,
             .set = set_for(m, count, error),
             .block = tenon_buffer_host(m->block),
             .error = error};
    if (!r.set)
        return false;
    m->length = m->position + count;
    for (int64_t i = 0; i < count; ++i) {
        if (!embed(&r, tokens[i], floats(&r, SLOT_X) + i * s->width))
            return false;
        rows_rotation(floats(&r, SLOT_ROTATION) + i * s->rope, m->position + i, s->rope,
                      s->rope_base, m->rope_factors);
    }
    for (int64_t i = 0; i < s->layers; ++i)
        if (!run_layer(&r, i))
            return false;
    const int64_t kept = m->options.all_logits ? count : 1;
    rows_rms_norm(floats(&r, SLOT_LAST), floats(&r, SLOT_X) + (count - kept) * s->width,
                  m->last_norm, kept, s->width, s->epsilon);
    if (!product(&r, PHASE_HEAD, &m->head, false))
        return false;
    m->position = m->length;
    *logits = floats(&r, SLOT_LOGITS);
    return true;
}
