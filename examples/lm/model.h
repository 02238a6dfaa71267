/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model.h: a decoder of the Llama family (Touvron et al., 2023): RMS norms, rotary positions, grouped-query attention, SwiGLU. Its
 * weights are packed for the kernels when it is loaded, or stay where the file is mapped: one copy of them either way. Everything it
 * needs is known, and can be told, before the first token.
 */
#ifndef LM_MODEL_H
#define LM_MODEL_H

#include "gguf.h"

typedef struct model_shape {
    int64_t layers, width, hidden, heads, kv_heads, head, vocabulary, context;
    double rope_base, epsilon;
    int64_t rope; /* rotated elements of a head */
} model_shape;

typedef struct model_options {
    int64_t capacity; /* positions in the cache */
    int64_t rows;     /* most tokens of one step */
    bool all_logits;  /* of every position of a step, not of the last alone */
    tenon_dtype kv;   /* type of the cache */
    tenon_compute compute;
    bool packed;     /* weights that take no more memory so are packed */
    uint64_t budget; /* bytes for weights and all else; 0: no limit */
} model_options;

/* What it takes, in bytes; known before anything is allocated. */
typedef struct model_memory {
    uint64_t packed; /* weights in the order of the kernels */
    uint64_t mapped; /* weights that are used where the file is mapped */
    uint64_t loading; /* most that weights take while they are packed: with one tensor in both forms */
    uint64_t cache;
    uint64_t work;      /* activations and workspaces */
    uint64_t preferred; /* that with every product's fastest algorithm */
} model_memory;

typedef struct model model;

/* Reads the shape and plans every product; allocates neither cache nor activations. NULL with a sentence in `error`. */
model *model_plan(tenon_context *ctx, const gguf_file *file, const model_options *options,
                  char error[512]);
const model_shape *model_shape_of(const model *m);
const model_memory *model_memory_of(const model *m);

/* The high-water mark, with `work` bytes for activations and workspaces. */
uint64_t model_total(const model_memory *memory, uint64_t work);

/*
 * Takes model_block bytes, one buffer, from the pool of `ctx`, a context of the same device, in which it runs then, and packs weights
 * into it. False with a sentence.
 */
bool model_load(model *m, tenon_context *ctx, char error[512]);
uint64_t model_block(const model *m);

/*
 * Runs `count` tokens (at most options.rows) at the positions after those before. *logits: vocabulary floats of the last one, or of
 * each with all_logits; the model's, until the next step. False with a sentence.
 */
bool model_step(model *m, const int32_t *tokens, int64_t count, const float **logits,
                char error[512]);
int64_t model_position(const model *m);
void model_rewind(model *m, int64_t position);

void model_close(model *m);

#endif
