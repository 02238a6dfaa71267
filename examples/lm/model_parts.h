/* SPDX-License-Identifier: Apache-2.0 */
/* model_parts.h: what model.c (weights, shape), model_pack.c (weights packed), model_plan.c (plans, memory) and model_step.c (running)
 * share. */
#ifndef LM_MODEL_PARTS_H
#define LM_MODEL_PARTS_H

#include "model.h"

/* The products and the attention of a layer, and the last product, in their order. */
typedef enum model_phase {
    PHASE_Q,
    PHASE_K,
    PHASE_V,
    PHASE_ATTEND,
    PHASE_O,
    PHASE_GATE,
    PHASE_UP,
    PHASE_DOWN,
    PHASE_HEAD,
    PHASES
} model_phase;

/* What lives between them. */
typedef enum model_slot {
    SLOT_X,
    SLOT_NORM,
    SLOT_QKV,
    SLOT_ATTEND,
    SLOT_NORM2,
    SLOT_GATE,
    SLOT_UP,
    SLOT_LAST,
    SLOT_LOGITS,
    SLOT_ROTATION,
    SLOTS
} model_slot;

/* Weights of a product: `rows` rows of `k` elements. */
typedef struct matrix {
    const uint8_t *data;
    tenon_dtype dtype;
    int64_t rows, k;
    uint64_t packed, packed_bytes; /* where it is among the packed weights; 0 bytes: it is not */
} matrix;

typedef struct model_layer {
    matrix product[PHASES]; /* none for PHASE_ATTEND and PHASE_HEAD */
    const float *attention_norm, *hidden_norm;
    bool gated; /* the rows of up follow those of gate in the file: one product for both */
} model_layer;

/* A product's weights that are packed. */
typedef struct packing {
    matrix *weights;
    bool gated; /* with those of `up`, which follow */
} packing;

/* A phase's plan for weights of one type. */
typedef struct planned {
    model_phase phase;
    tenon_dtype dtype;
    bool gated;
    tenon_plan *plan;
} planned;

enum { MAX_PLANS = 64 };

/* The plans for steps of `rows` tokens, and where in the block their buffers and workspaces lie. */
typedef struct plan_set {
    int64_t rows;
    int count;
    planned planned[MAX_PLANS];
    tenon_step steps[MAX_PLANS];
    tenon_lifetime slots[SLOTS];
    size_t total, preferred;
} plan_set;

struct model {
    tenon_context *ctx;
    const gguf_file *file;
    model_shape shape;
    model_options options;
    model_memory memory;
    matrix embedding, head;
    const float *last_norm, *rope_factors; /* factors: NULL if the file has none */
    model_layer *layers;
    plan_set many, one, rest; /* of options.rows tokens, of one, and of what a prompt leaves over */
    uint64_t used;            /* tensors of the file that have been found */
    packing *packings;        /* from the largest to the smallest */
    int64_t packing_count;
    tenon_buffer *block;      /* activations and workspaces, then the cache, then packed weights */
    int64_t position, length; /* tokens in the cache: before, and with the step under way */
};

/* Plans steps of `rows` tokens; budget: bytes for the block, 0 for no limit. */
bool plan_set_make(model *m, plan_set *set, int64_t rows, uint64_t budget, char error[512]);
void plan_set_free(plan_set *set);

/* Decides which weights are packed, and where; then does it. */
bool pack_plan(model *m, char error[512]);
bool pack_weights(model *m, char error[512]);
/* Looked up in the file, row by row, and not held otherwise. */
bool embedding_is_released(const model *m);

/* B of a product: the weights where they are mapped, or packed in a block that begins at `block` (NULL while planning). */
void describe_weights(const model *m, const matrix *weights, bool gated, const char *block,
                      tenon_gemm_desc *out);
/* Descriptors, with addresses in such a block. */
void describe_product(const model *m, const plan_set *set, model_phase phase, const matrix *weights,
                      bool gated, char *block, tenon_gemm_desc *out);
void describe_attention(const model *m, const plan_set *set, int64_t layer, char *block,
                        tenon_attention_desc *out);
/* Layer `layer` of the cache: (1, kv_heads, capacity, head). */
tenon_tensor cache_of(const model *m, int64_t layer, bool values);
/* Heads of the rows in SLOT_QKV from column `first`: (1, heads, rows, head). */
tenon_tensor heads_of(const model *m, const plan_set *set, char *block, int64_t first,
                      int64_t heads);

bool say(char error[512], const char *format, ...);

#endif
