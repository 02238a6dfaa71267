/* SPDX-License-Identifier: Apache-2.0 */
/* synthetic.c: see synthetic.h. */
#include "synthetic.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    const char *name;
    int64_t layers, width, hidden, heads, kv_heads, head, vocabulary;
    double rope_base;
    bool tied; /* the last product's weights are the embedding */
} shape;

static const shape shapes[] = {
    {"tiny", 2, 256, 512, 4, 2, 64, 320, 10000, false},
    {"llama-3.2-1b", 16, 2048, 8192, 32, 8, 64, 128256, 500000, true},
    {"llama-3.2-3b", 28, 3072, 8192, 24, 8, 128, 128256, 500000, true},
    {"llama-3.1-8b", 32, 4096, 14336, 32, 8, 128, 128256, 500000, false},
};

enum { SAMPLE_ROWS = 256, MAX_SAMPLES = 16, TENSORS_OF_LAYER = 9 };

const char *synthetic_shapes(void) {
    return "tiny, llama-3.2-1b, llama-3.2-3b, llama-3.1-8b";
}

/* Quantised rows of one length and type. */
typedef struct sample {
    tenon_dtype dtype;
    int64_t k;
    uint8_t *rows;
    size_t row_bytes;
} sample;

typedef struct generator {
    tenon_context *ctx;
    uint64_t state;
    int count;
    sample samples[MAX_SAMPLES];
    char *error;
} generator;

/* xorshift64* (Vigna, 2016) */
static uint64_t next(generator *g) {
    g->state ^= g->state >> 12;
    g->state ^= g->state << 25;
    g->state ^= g->state >> 27;
    return g->state * 2685821657736338717u;
}

static double uniform(generator *g) {
    return ((double)(next(g) >> 11) + 0.5) / 9007199254740992.0;
}

/* Box and Muller, 1958 */
static float normal(generator *g) {
    return (float)(sqrt(-2 * log(uniform(g))) * cos(6.283185307179586 * uniform(g)));
}

static bool complain(generator *g, const char *text) {
    snprintf(g->error, 512, "%s", text);
    return false;
}

static bool convert(generator *g, const sample *s, const float *values) {
    if (s->dtype == TENON_F32) {
        memcpy(s->rows, values, SAMPLE_ROWS * s->row_bytes);
        return true;
    }
    if (s->dtype == TENON_BF16) { /* cut off: they are random anyway */
        for (int64_t i = 0; i < SAMPLE_ROWS * s->k; ++i)
            memcpy(s->rows + 2 * i, (const char *)&values[i] + 2, 2);
        return true;
    }
    const tenon_quantize_desc desc = {
        .struct_size = sizeof desc,
        .x = tenon_matrix(values, TENON_F32, SAMPLE_ROWS, s->k),
        .y = tenon_matrix(s->rows, s->dtype, SAMPLE_ROWS, s->k),
    };
    return tenon_quantize(g->ctx, &desc) == TENON_OK || complain(g, tenon_error_message(g->ctx));
}

static const sample *sample_of(generator *g, tenon_dtype dtype, int64_t k) {
    for (int i = 0; i < g->count; ++i)
        if (g->samples[i].dtype == dtype && g->samples[i].k == k)
            return &g->samples[i];
    if (g->count == MAX_SAMPLES) {
        complain(g, "more kinds of tensors than there is room for");
        return NULL;
    }
    const int64_t extent[4] = {k, 1, 1, 1};
    sample *s = &g->samples[g->count];
    *s = (sample){.dtype = dtype, .k = k, .row_bytes = gguf_bytes_of(dtype, extent)};
    float *values = malloc(sizeof(float) * (size_t)(SAMPLE_ROWS * k));
    if (s->row_bytes > 0)
        s->rows = malloc(SAMPLE_ROWS * s->row_bytes);
    if (!values || !s->rows) {
        free(values);
        complain(g, "no memory for samples, or rows that are no whole blocks");
        return NULL;
    }
    ++g->count;
    for (int64_t i = 0; i < SAMPLE_ROWS * k; ++i)
        values[i] = normal(g) / sqrtf((float)k);
    const bool done = convert(g, s, values);
    free(values);
    return done ? s : NULL;
}

static bool fill(void *user, const gguf_new_tensor *tensor, void *sink) {
    generator *g = user;
    if (tensor->rank == 1) { /* norms: ones */
        const float one = 1;
        for (int64_t i = 0; i < tensor->extent[0]; ++i)
            if (!gguf_put(sink, &one, sizeof one))
                return false;
        return true;
    }
    const sample *s = sample_of(g, tensor->dtype, tensor->extent[0]);
    for (int64_t i = 0; s && i < tensor->extent[1]; ++i)
        if (!gguf_put(sink, s->rows + next(g) % SAMPLE_ROWS * s->row_bytes, s->row_bytes))
            return false;
    return s != NULL;
}

/* ---------------------------------------------------------------- which tensors */

/* ggml's Q4_K_M gives more bits to the values and to what goes down, in the first and last eighth and every third layer between. */
static bool more_bits(int64_t layer, int64_t layers) {
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static void add(gguf_new_tensor *list, uint64_t *count, const char *name, tenon_dtype dtype,
                int64_t k, int64_t rows) {
    gguf_new_tensor *t = &list[(*count)++];
    *t = (gguf_new_tensor){
        .dtype = dtype, .rank = rows > 0 ? 2 : 1, .extent = {k, rows > 0 ? rows : 1, 1, 1}};
    snprintf(t->name, sizeof t->name, "%s.weight", name);
}

static void add_layer(gguf_new_tensor *list, uint64_t *count, const shape *s, int64_t number,
                      tenon_dtype dtype, bool mixed) {
    const int64_t q = s->heads * s->head, kv = s->kv_heads * s->head;
    const tenon_dtype better = mixed && more_bits(number, s->layers) ? TENON_Q6_K : dtype;
    const struct {
        const char *name;
        tenon_dtype dtype;
        int64_t k, rows;
    } tensors[TENSORS_OF_LAYER] = {
        {"attn_norm", TENON_F32, s->width, 0},     {"attn_q", dtype, s->width, q},
        {"attn_k", dtype, s->width, kv},           {"attn_v", better, s->width, kv},
        {"attn_output", dtype, q, s->width},       {"ffn_norm", TENON_F32, s->width, 0},
        {"ffn_gate", dtype, s->width, s->hidden},  {"ffn_up", dtype, s->width, s->hidden},
        {"ffn_down", better, s->hidden, s->width},
    };
    for (int i = 0; i < TENSORS_OF_LAYER; ++i) {
        char name[48];
        snprintf(name, sizeof name, "blk.%lld.%s", (long long)number, tensors[i].name);
        add(list, count, name, tensors[i].dtype, tensors[i].k, tensors[i].rows);
    }
}

static const shape *shape_named(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i)
        if (strlen(shapes[i].name) == length && memcmp(shapes[i].name, name, length) == 0)
            return &shapes[i];
    return NULL;
}

bool synthetic_write(tenon_context *ctx, const char *name, const char *path, uint64_t seed,
                     char error[512]) {
    generator g = {.ctx = ctx, .state = seed * 2 + 1, .error = error};
    const char *colon = strchr(name, ':'), *type = colon ? colon + 1 : "";
    const shape *s = shape_named(name, colon ? (size_t)(colon - name) : strlen(name));
    const bool mixed = strcmp(type, "q4_k_m") == 0;
    const tenon_dtype dtype = mixed ? TENON_Q4_K : tenon_dtype_from_name(type);
    if (!s || dtype == TENON_DTYPE_NONE) {
        snprintf(error, 512,
                 "the model is \"%s\", expected SHAPE:TYPE with one of %s and a type such as q4_0, "
                 "q8_0 or q4_k_m",
                 name, synthetic_shapes());
        return false;
    }
    const gguf_new_value values[] = {
        {"general.architecture", GGUF_STRING, 0, "llama"},
        {"general.name", GGUF_STRING, 0, name},
        {"llama.vocab_size", GGUF_U32, (double)s->vocabulary, NULL},
        {"llama.context_length", GGUF_U32, 131072, NULL},
        {"llama.embedding_length", GGUF_U32, (double)s->width, NULL},
        {"llama.block_count", GGUF_U32, (double)s->layers, NULL},
        {"llama.feed_forward_length", GGUF_U32, (double)s->hidden, NULL},
        {"llama.attention.head_count", GGUF_U32, (double)s->heads, NULL},
        {"llama.attention.head_count_kv", GGUF_U32, (double)s->kv_heads, NULL},
        {"llama.attention.key_length", GGUF_U32, (double)s->head, NULL},
        {"llama.attention.value_length", GGUF_U32, (double)s->head, NULL},
        {"llama.attention.layer_norm_rms_epsilon", GGUF_F32, 1e-5, NULL},
        {"llama.rope.dimension_count", GGUF_U32, (double)s->head, NULL},
        {"llama.rope.freq_base", GGUF_F32, s->rope_base, NULL},
        {"tokenizer.ggml.model", GGUF_STRING, 0, "no_vocab"},
    };
    gguf_new_tensor *tensors = calloc((size_t)(s->layers * TENSORS_OF_LAYER + 3), sizeof *tensors);
    if (!tensors)
        return complain(&g, "no memory for the list of tensors");
    uint64_t count = 0;
    const tenon_dtype ends = mixed ? TENON_Q6_K : dtype;
    add(tensors, &count, "token_embd", s->tied ? ends : dtype, s->width, s->vocabulary);
    for (int64_t i = 0; i < s->layers; ++i)
        add_layer(tensors, &count, s, i, dtype, mixed);
    add(tensors, &count, "output_norm", TENON_F32, s->width, 0);
    if (!s->tied)
        add(tensors, &count, "output", ends, s->width, s->vocabulary);
    char why[256] = "";
    error[0] = '\0';
    const bool done =
        gguf_write(path, values, sizeof values / sizeof *values, tensors, count, fill, &g, why);
    if (!done && error[0] == '\0')
        snprintf(error, 512, "%s: %s", path, why);
    for (int i = 0; i < g.count; ++i)
        free(g.samples[i].rows);
    free(tensors);
    return done;
}
