/* SPDX-License-Identifier: Apache-2.0 */
/* model.c: the shape and the weights of a model, found in a file; see model.h. */
#include "model_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool say(char error[512], const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(error, 512, format, args);
    va_end(args);
    return false;
}

/* ---------------------------------------------------------------- shape */

static double number(const gguf_file *file, const char *name, double otherwise) {
    char key[96];
    snprintf(key, sizeof key, "llama.%s", name);
    return gguf_number(file, key, otherwise);
}

static bool in_range(const char *name, double value, double low, double high, char error[512]) {
    if (value >= low && value <= high && value == (double)(int64_t)value)
        return true;
    return say(error, "%s is %g, expected %g to %g", name, value, low, high);
}

static bool read_shape(model *m, char error[512]) {
    const gguf_file *f = m->file;
    if (!gguf_string_is(gguf_find(f, "general.architecture"), "llama"))
        return say(error, "general.architecture is not \"llama\": this program knows no other");
    const gguf_value *tokens = gguf_find(f, "tokenizer.ggml.tokens");
    const double layers = number(f, "block_count", 0), width = number(f, "embedding_length", 0);
    const double hidden = number(f, "feed_forward_length", 0),
                 heads = number(f, "attention.head_count", 0);
    const double kv_heads = number(f, "attention.head_count_kv", heads);
    const double vocabulary =
        number(f, "vocab_size", tokens && tokens->array ? (double)tokens->count : 0);
    if (!in_range("llama.block_count", layers, 1, 1000, error) ||
        !in_range("llama.embedding_length", width, 1, 1 << 20, error) ||
        !in_range("llama.feed_forward_length", hidden, 1, 1 << 20, error) ||
        !in_range("llama.attention.head_count", heads, 1, 1024, error) ||
        !in_range("llama.attention.head_count_kv", kv_heads, 1, heads, error) ||
        !in_range("llama.vocab_size", vocabulary, 1, 1 << 24, error))
        return false;
    const double head =
        number(f, "attention.key_length", (double)((int64_t)width / (int64_t)heads));
    const double rope = number(f, "rope.dimension_count", head);
    if (!in_range("llama.attention.key_length", head, 1, 576, error) ||
        !in_range("llama.rope.dimension_count", rope, 0, head, error))
        return false;
    if (number(f, "attention.value_length", head) != head)
        return say(error, "llama.attention.value_length is not the key length");
    if ((int64_t)heads % (int64_t)kv_heads != 0 || (int64_t)rope % 2 != 0)
        return say(error,
                   "%g heads don't share %g key heads evenly, or %g rotated elements are no pairs",
                   heads, kv_heads, rope);
    const double base = number(f, "rope.freq_base", 10000);
    const double epsilon = number(f, "attention.layer_norm_rms_epsilon", 1e-5);
    if (!(base >= 1 && base <= 1e12) || !(epsilon >= 0 && epsilon <= 1))
        return say(error,
                   "llama.rope.freq_base is %g, expected 1 to 1e12, or the norms' epsilon %g, "
                   "expected 0 to 1",
                   base, epsilon);
    const gguf_value *scaling = gguf_find(f, "llama.rope.scaling.type");
    if ((scaling && !gguf_string_is(scaling, "none")) || number(f, "rope.scaling.factor", 1) != 1 ||
        number(f, "rope.scale_linear", 1) != 1)
        return say(error, "llama.rope.scaling is not \"none\": this program knows scaled positions "
                          "only as a tensor "
                          "rope_freqs.weight");
    m->shape = (model_shape){
        .layers = (int64_t)layers,
        .width = (int64_t)width,
        .hidden = (int64_t)hidden,
        .heads = (int64_t)heads,
        .kv_heads = (int64_t)kv_heads,
        .head = (int64_t)head,
        .rope = (int64_t)rope,
        .vocabulary = (int64_t)vocabulary,
        .context = gguf_integer(f, "llama.context_length", 1, INT32_MAX, 2048),
        .rope_base = base,
        .epsilon = epsilon,
    };
    return true;
}

/* ---------------------------------------------------------------- weights */

static bool wrong_tensor(const gguf_tensor *t, const char *name, int64_t rows, int64_t k,
                         char error[512]) {
    if (!t)
        return say(error, "the file has no tensor %s", name);
    if (t->dtype == TENON_DTYPE_NONE)
        return say(error, "tensor %s is of ggml's type %u, which tenon does not have", name,
                   t->ggml_type);
    if (rows == 1 && t->dtype != TENON_F32)
        return say(error, "tensor %s is of %s, expected f32", name, tenon_dtype_name(t->dtype));
    return say(error, "tensor %s is %lld by %lld, expected %lld by %lld", name,
               (long long)t->extent[1], (long long)t->extent[0], (long long)rows, (long long)k);
}

static bool find_matrix(model *m, const char *name, int64_t rows, int64_t k, matrix *out,
                        char error[512]) {
    const gguf_tensor *t = gguf_find_tensor(m->file, name);
    if (!t || t->dtype == TENON_DTYPE_NONE || t->extent[0] != k || t->extent[1] != rows ||
        t->extent[2] != 1 || t->extent[3] != 1)
        return wrong_tensor(t, name, rows, k, error);
    m->memory.mapped += t->bytes;
    ++m->used;
    *out = (matrix){.data = t->data, .dtype = t->dtype, .rows = rows, .k = k};
    return true;
}

static bool find_vector(model *m, const char *name, int64_t length, const float **out,
                        char error[512]) {
    const gguf_tensor *t = gguf_find_tensor(m->file, name);
    if (!t || t->dtype != TENON_F32 || t->extent[0] != length || t->extent[1] != 1 ||
        t->extent[2] != 1 || t->extent[3] != 1)
        return wrong_tensor(t, name, 1, length, error);
    m->memory.mapped += t->bytes;
    ++m->used;
    *out = (const float *)(const void *)t->data;
    return true;
}

static bool find_layer(model *m, int64_t number, model_layer *out, char error[512]) {
    const model_shape *s = &m->shape;
    const int64_t q = s->heads * s->head, kv = s->kv_heads * s->head;
    const struct {
        model_phase phase;
        const char *name;
        int64_t rows, k;
    } products[] = {
        {PHASE_Q, "attn_q", q, s->width},
        {PHASE_K, "attn_k", kv, s->width},
        {PHASE_V, "attn_v", kv, s->width},
        {PHASE_O, "attn_output", s->width, q},
        {PHASE_GATE, "ffn_gate", s->hidden, s->width},
        {PHASE_UP, "ffn_up", s->hidden, s->width},
        {PHASE_DOWN, "ffn_down", s->width, s->hidden},
    };
    char name[96];
    for (size_t i = 0; i < sizeof products / sizeof *products; ++i) {
        snprintf(name, sizeof name, "blk.%lld.%s.weight", (long long)number, products[i].name);
        if (!find_matrix(m, name, products[i].rows, products[i].k, &out->product[products[i].phase],
                         error))
            return false;
    }
    snprintf(name, sizeof name, "blk.%lld.attn_norm.weight", (long long)number);
    if (!find_vector(m, name, s->width, &out->attention_norm, error))
        return false;
    snprintf(name, sizeof name, "blk.%lld.ffn_norm.weight", (long long)number);
    if (!find_vector(m, name, s->width, &out->hidden_norm, error))
        return false;
    const matrix *gate = &out->product[PHASE_GATE], *up = &out->product[PHASE_UP];
    const int64_t extent[4] = {gate->k, gate->rows, 1, 1};
    out->gated =
        gate->dtype == up->dtype && up->data == gate->data + gguf_bytes_of(gate->dtype, extent);
    return true;
}

static bool find_weights(model *m, char error[512]) {
    const model_shape *s = &m->shape;
    if (!find_matrix(m, "token_embd.weight", s->vocabulary, s->width, &m->embedding, error) ||
        !find_vector(m, "output_norm.weight", s->width, &m->last_norm, error))
        return false;
    if (m->embedding.dtype == TENON_F64)
        return say(error, "tensor token_embd.weight is of f64, expected f32, f16, bf16 or blocks");
    m->head = m->embedding; /* tied, unless there is one of its own */
    if (gguf_find_tensor(m->file, "output.weight") &&
        !find_matrix(m, "output.weight", s->vocabulary, s->width, &m->head, error))
        return false;
    if (gguf_find_tensor(m->file, "rope_freqs.weight") &&
        !find_vector(m, "rope_freqs.weight", s->rope / 2, &m->rope_factors, error))
        return false;
    m->layers = calloc((size_t)s->layers, sizeof *m->layers);
    if (!m->layers)
        return say(error, "no memory for the table of %lld layers", (long long)s->layers);
    for (int64_t i = 0; i < s->layers; ++i)
        if (!find_layer(m, i, &m->layers[i], error))
            return false;
    if (m->used != m->file->tensor_count)
        return say(error,
                   "%llu of the file's %llu tensors have no place in a model of this kind (biases, "
                   "experts?)",
                   (unsigned long long)(m->file->tensor_count - m->used),
                   (unsigned long long)m->file->tensor_count);
    return true;
}

/* ---------------------------------------------------------------- a model's life */

static uint64_t whole_pages(uint64_t bytes) {
    return (bytes + 4095) / 4096 * 4096;
}

/* What the budget leaves for the block of activations and workspaces. */
static bool plan_memory(model *m, char error[512]) {
    const model_shape *s = &m->shape;
    int64_t elements;
    size_t bytes;
    if (tenon_dtype_block(m->options.kv, &elements, &bytes) != TENON_OK || s->head % elements != 0)
        return say(error, "heads have %lld elements, expected a multiple of %lld, the block of %s",
                   (long long)s->head, (long long)elements, tenon_dtype_name(m->options.kv));
    m->memory.cache = whole_pages(
        (uint64_t)(2 * s->layers * s->kv_heads * m->options.capacity * (s->head / elements)) *
        bytes);
    const uint64_t weights = m->memory.packed + m->memory.mapped, fixed = weights + m->memory.cache,
                   budget = m->options.budget;
    if (budget > 0 && budget <= fixed)
        return say(error,
                   "the budget is %llu bytes, expected more than the %llu of weights and the %llu "
                   "of the cache",
                   (unsigned long long)budget, (unsigned long long)weights,
                   (unsigned long long)m->memory.cache);
    if (budget > 0 && budget < m->memory.loading)
        return say(error,
                   "the budget is %llu bytes, expected %llu, which packing the weights takes",
                   (unsigned long long)budget, (unsigned long long)m->memory.loading);
    const uint64_t left = budget > 0 ? (budget - fixed) / 4096 * 4096 : 0;
    if (!plan_set_make(m, &m->many, m->options.rows, left, error) ||
        !plan_set_make(m, &m->one, 1, left, error))
        return false;
    m->memory.work = whole_pages(m->many.total > m->one.total ? m->many.total : m->one.total);
    m->memory.preferred =
        whole_pages(m->many.preferred > m->one.preferred ? m->many.preferred : m->one.preferred);
    return true;
}

model *model_plan(tenon_context *ctx, const gguf_file *file, const model_options *options,
                  char error[512]) {
    model *m = calloc(1, sizeof *m);
    if (!m) {
        say(error, "no memory for the model's tables");
        return NULL;
    }
    m->ctx = ctx;
    m->file = file;
    m->options = *options;
    if (read_shape(m, error) && find_weights(m, error) &&
        (!m->options.packed || pack_plan(m, error)) && plan_memory(m, error))
        return m;
    model_close(m);
    return NULL;
}

const model_shape *model_shape_of(const model *m) {
    return &m->shape;
}

const model_memory *model_memory_of(const model *m) {
    return &m->memory;
}

uint64_t model_total(const model_memory *memory, uint64_t work) {
    const uint64_t end = memory->packed + memory->mapped + memory->cache + work;
    return end > memory->loading ? end : memory->loading;
}

uint64_t model_block(const model *m) {
    return m->memory.work + m->memory.cache + m->memory.packed;
}

bool model_load(model *m, tenon_context *ctx, char error[512]) {
    m->ctx = ctx;
    if (tenon_buffer_alloc(tenon_context_pool(ctx, 0), model_block(m), "model", &m->block) !=
        TENON_OK)
        return say(error, "%s", tenon_error_message(NULL));
    if (!tenon_buffer_host(m->block))
        return say(error,
                   "%s: the host can't reach this device's memory, as norms and rotations must",
                   tenon_context_device(ctx, 0));
    return pack_weights(m, error);
}

int64_t model_position(const model *m) {
    return m->position;
}

void model_rewind(model *m, int64_t position) {
    if (position >= 0 && position <= m->position)
        m->position = position;
}

void model_close(model *m) {
    if (!m)
        return;
    plan_set_free(&m->many);
    plan_set_free(&m->one);
    plan_set_free(&m->rest);
    tenon_buffer_free(m->block);
    free(m->layers);
    free(m->packings);
    free(m);
}
