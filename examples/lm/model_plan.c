/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_plan.c: every product and attention of a step as a plan, and one block for all that lives in it: buffers from where
 * they are written to where they are read last, workspaces where their plans run (tenon_schedule_layout).
 */
#include "model_parts.h"

#include <string.h>

static float *slot_of(const plan_set *set, model_slot slot, char *block) {
    return block ? (float *)(void *)(block + set->slots[slot].offset) : NULL;
}

static int64_t qkv_width(const model_shape *s) {
    return (s->heads + 2 * s->kv_heads) * s->head;
}

/* Rows of SLOT_QKV's columns. */
static tenon_tensor columns_of(tenon_tensor t, int64_t stride) {
    t.stride[0] = stride;
    return t;
}

static int64_t head_rows(const model *m, const plan_set *set) {
    return m->options.all_logits ? set->rows : 1;
}

tenon_tensor heads_of(const model *m, const plan_set *set, char *block, int64_t first,
                      int64_t heads) {
    const model_shape *s = &m->shape;
    float *qkv = slot_of(set, SLOT_QKV, block);
    tenon_tensor t =
        tenon_tensor4(qkv ? qkv + first : NULL, TENON_F32, 1, set->rows, heads, s->head);
    t.stride[0] = set->rows * qkv_width(s);
    t.stride[1] = qkv_width(s);
    return tenon_swapped(t, 1, 2);
}

tenon_tensor cache_of(const model *m, int64_t layer, bool values) {
    const model_shape *s = &m->shape;
    const int64_t half = s->kv_heads * m->options.capacity * s->head;
    int64_t elements = 1;
    size_t bytes = 0;
    (void)tenon_dtype_block(m->options.kv, &elements, &bytes);
    tenon_tensor t =
        tenon_tensor4(NULL, m->options.kv, 1, s->kv_heads, m->options.capacity, s->head);
    t.buffer = m->block;
    t.offset =
        m->memory.work + (size_t)((2 * layer + (values ? 1 : 0)) * (half / elements)) * bytes;
    return t;
}

void describe_attention(const model *m, const plan_set *set, int64_t layer, char *block,
                        tenon_attention_desc *out) {
    const model_shape *s = &m->shape;
    *out = (tenon_attention_desc){.struct_size = sizeof *out};
    out->q = heads_of(m, set, block, 0, s->heads);
    out->k = cache_of(m, layer, false);
    out->v = cache_of(m, layer, true);
    out->o = tenon_swapped(
        tenon_tensor4(slot_of(set, SLOT_ATTEND, block), TENON_F32, 1, set->rows, s->heads, s->head),
        1, 2);
    out->causal = TENON_CAUSAL_BOTTOM_RIGHT;
    out->key_lengths = tenon_vector(&m->length, TENON_S64, 1);
    out->query_offsets = tenon_vector(&m->position, TENON_S64, 1);
    out->compute = m->options.compute;
}

void describe_product(const model *m, const plan_set *set, model_phase phase, const matrix *weights,
                      bool gated, char *block, tenon_gemm_desc *out) {
    const model_shape *s = &m->shape;
    const int64_t rows = set->rows, q = s->heads * s->head, kv = s->kv_heads * s->head;
    float *x = slot_of(set, SLOT_X, block), *qkv = slot_of(set, SLOT_QKV, block);
    describe_weights(m, weights, gated, block, out);
    switch (phase) {
    case PHASE_Q:
    case PHASE_K:
    case PHASE_V:
        qkv += !qkv ? 0 : phase == PHASE_Q ? 0 : phase == PHASE_K ? q : q + kv;
        out->a = tenon_matrix(slot_of(set, SLOT_NORM, block), TENON_F32, rows, s->width);
        out->c = columns_of(tenon_matrix(qkv, TENON_F32, rows, weights->rows), qkv_width(s));
        break;
    case PHASE_O:
        out->a = tenon_matrix(slot_of(set, SLOT_ATTEND, block), TENON_F32, rows, q);
        out->c = out->residual = tenon_matrix(x, TENON_F32, rows, s->width);
        break;
    case PHASE_GATE:
    case PHASE_UP:
        out->a = tenon_matrix(slot_of(set, SLOT_NORM2, block), TENON_F32, rows, s->width);
        out->c = tenon_matrix(slot_of(set, phase == PHASE_GATE ? SLOT_GATE : SLOT_UP, block),
                              TENON_F32, rows, s->hidden);
        out->activation = phase == PHASE_GATE ? TENON_ACTIVATION_SILU : TENON_ACTIVATION_NONE;
        break;
    case PHASE_DOWN:
        out->a = tenon_matrix(slot_of(set, SLOT_GATE, block), TENON_F32, rows, s->hidden);
        out->c = out->residual = tenon_matrix(x, TENON_F32, rows, s->width);
        break;
    default:
        out->a =
            tenon_matrix(slot_of(set, SLOT_LAST, block), TENON_F32, head_rows(m, set), s->width);
        out->c = tenon_matrix(slot_of(set, SLOT_LOGITS, block), TENON_F32, head_rows(m, set),
                              s->vocabulary);
    }
}

/* ---------------------------------------------------------------- plans */

static bool add_plan(model *m, plan_set *set, model_phase phase, const matrix *weights, bool gated,
                     char error[512]) {
    const tenon_dtype dtype = weights ? weights->dtype : TENON_DTYPE_NONE;
    for (int i = 0; i < set->count; ++i)
        if (set->planned[i].phase == phase && set->planned[i].dtype == dtype &&
            set->planned[i].gated == gated)
            return true;
    if (set->count == MAX_PLANS)
        return say(error, "the file's layers mix more than %d kinds of products", MAX_PLANS);
    tenon_gemm_desc gemm;
    tenon_attention_desc attention;
    planned *p = &set->planned[set->count];
    *p = (planned){.phase = phase, .dtype = dtype, .gated = gated};
    if (weights)
        describe_product(m, set, phase, weights, gated, NULL, &gemm);
    else
        describe_attention(m, set, 0, NULL, &attention);
    if ((weights ? tenon_gemm_plan(m->ctx, &gemm, &p->plan)
                 : tenon_attention_plan(m->ctx, &attention, &p->plan)) != TENON_OK)
        return say(error, "%s", tenon_error_message(m->ctx));
    set->steps[set->count++] = (tenon_step){.plan = p->plan};
    return true;
}

static bool add_phase(model *m, plan_set *set, model_phase phase, char error[512]) {
    if (phase == PHASE_ATTEND)
        return add_plan(m, set, phase, NULL, false, error);
    if (phase == PHASE_HEAD)
        return add_plan(m, set, phase, &m->head, false, error);
    for (int64_t i = 0; i < m->shape.layers; ++i) {
        const model_layer *l = &m->layers[i];
        const bool gated = l->gated && phase == PHASE_GATE;
        if (!(l->gated && phase == PHASE_UP) &&
            !add_plan(m, set, phase, &l->product[phase], gated, error))
            return false;
    }
    return true;
}

/* ---------------------------------------------------------------- memory */

static void describe_slots(const model *m, plan_set *set, const int first[PHASES],
                           const int last[PHASES]) {
    const model_shape *s = &m->shape;
    const int64_t rows = set->rows, end = set->count - 1;
    const struct {
        int64_t floats, first, last;
    } slots[SLOTS] = {
        [SLOT_X] = {rows * s->width, 0, end},
        [SLOT_ROTATION] = {rows * s->rope, 0, end},
        [SLOT_NORM] = {rows * s->width, first[PHASE_Q], last[PHASE_V]},
        [SLOT_QKV] = {rows * qkv_width(s), first[PHASE_Q], last[PHASE_ATTEND]},
        [SLOT_ATTEND] = {rows * s->heads * s->head, first[PHASE_ATTEND], last[PHASE_O]},
        [SLOT_NORM2] = {rows * s->width, first[PHASE_GATE], last[PHASE_UP]},
        [SLOT_GATE] = {rows * s->hidden, first[PHASE_GATE], last[PHASE_DOWN]},
        [SLOT_UP] = {first[PHASE_UP] <= last[PHASE_UP] ? rows * s->hidden : 0, first[PHASE_UP],
                     last[PHASE_DOWN]},
        [SLOT_LAST] = {head_rows(m, set) * s->width, first[PHASE_HEAD], end},
        [SLOT_LOGITS] = {head_rows(m, set) * s->vocabulary, first[PHASE_HEAD], end},
    };
    for (int i = 0; i < SLOTS; ++i)
        set->slots[i] = (tenon_lifetime){.bytes = sizeof(float) * (size_t)slots[i].floats,
                                         .first = slots[i].first,
                                         .last = slots[i].last < slots[i].first ? slots[i].first
                                                                                : slots[i].last};
}

static bool make(model *m, plan_set *set, uint64_t budget, char error[512]) {
    int first[PHASES], last[PHASES];
    for (int i = 0; i < PHASES; ++i) {
        first[i] = set->count;
        if (!add_phase(m, set, (model_phase)i, error))
            return false;
        last[i] = set->count - 1;
    }
    describe_slots(m, set, first, last);
    const tenon_schedule schedule = {.steps = set->steps,
                                     .step_count = (size_t)set->count,
                                     .buffers = set->slots,
                                     .buffer_count = SLOTS,
                                     .budget = budget};
    tenon_schedule_info info = {.struct_size = sizeof info};
    if (tenon_schedule_layout(NULL, &schedule, &info) != TENON_OK)
        return say(error, "steps of %lld tokens, beside weights and cache: %s",
                   (long long)set->rows, tenon_error_message(NULL));
    for (int i = 0; i < set->count; ++i)
        if (tenon_plan_choose(set->planned[i].plan, set->steps[i].choice) != TENON_OK)
            return say(error, "%s", tenon_error_message(NULL));
    set->total = info.total;
    set->preferred = info.preferred;
    return true;
}

bool plan_set_make(model *m, plan_set *set, int64_t rows, uint64_t budget, char error[512]) {
    plan_set_free(set);
    set->rows = rows;
    if (make(m, set, budget, error))
        return true;
    plan_set_free(set); /* a broken one must not be found by its rows */
    return false;
}

void plan_set_free(plan_set *set) {
    for (int i = 0; i < set->count; ++i)
        tenon_plan_destroy(set->planned[i].plan);
    memset(set, 0, sizeof *set);
}
