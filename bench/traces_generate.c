/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces_generate.c: traces that look like use, from a seed: servers of language models and
 * training steps of a transformer. See traces.h.
 *
 * Serving. Lengths are log-normal with the medians that Patel et al. publish for two services of
 * Azure ("Splitwise: Efficient Generative LLM Inference Using Phase Splitting", ISCA 2024, section
 * 3): prompts 1020 and answers 129 tokens in conversations, 1500 and 13 in code completion; the
 * spread is that of the logarithms in the published traces. Arrivals are a Poisson process.
 *
 * Training. Sizes and lifetimes of Korthikanti et al., "Reducing Activation Recomputation in Large
 * Transformer Models" (MLSys 2023, section 4): what each layer keeps for its backward pass, and the
 * gradients that replace it; mixed precision with an optimizer of two moments (Adam).
 */
#include "traces.h"

#include <math.h>
#include <stdlib.h>

const char *const traces_kind_names[TRACES_KINDS] = {"chat", "code", "mixed", "training"};

/* ---- chance: splitmix64 (Steele, Lea, Flood, 2014), the same on every machine ---- */

static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* In (0, 1]. */
static double draw_unit(uint64_t *state) {
    return (double)((draw(state) >> 11) + 1) * 0x1p-53;
}

/* Box and Muller, 1958. */
static double draw_normal(uint64_t *state) {
    const double two_pi = 6.283185307179586;
    double radius = sqrt(-2 * log(draw_unit(state)));
    return radius * cos(two_pi * draw_unit(state));
}

/* ---- serving ---- */

typedef struct lengths {
    double prompt, prompt_spread, output, output_spread; /* medians; deviations of the logarithm */
    int64_t prompt_most, output_most;                    /* the longest in the traces */
} lengths;

static const lengths chat = {1020, 0.99, 129, 0.86, 14050, 1000};
static const lengths code = {1500, 1.36, 13, 0.85, 7437, 1899};

/* Keys and values of a token in bf16: 2 * layers * kv heads * head size * 2 bytes. */
static const traces_model models[] = {
    {"llama-3-8b", 2 * 32 * 8 * 128 * 2},
    {"qwen2.5-1.5b", 2 * 28 * 2 * 128 * 2},
    {"llama-3-70b", 2 * 80 * 8 * 128 * 2},
};

static int64_t draw_length(uint64_t *state, double median, double spread, int64_t most) {
    double tokens = median * exp(spread * draw_normal(state));
    return tokens < 1 ? 1 : tokens > (double)most ? most : (int64_t)tokens;
}

static bool serving(traces *t, traces_kind kind, const traces_recipe *recipe, traces_error *error) {
    size_t count = (size_t)(recipe->requests != 0 ? recipe->requests : 2000);
    double rate = recipe->rate != 0 ? recipe->rate : 5, now = 0;
    traces_request *requests = malloc(count * sizeof *requests);
    if (requests == NULL) {
        snprintf(error->text, sizeof error->text, "no memory for %zu requests", count);
        return false;
    }
    uint64_t state = recipe->seed;
    for (size_t i = 0; i < count; ++i) {
        bool is_chat = kind == TRACES_CHAT || (kind == TRACES_MIXED && draw(&state) % 2 == 0);
        const lengths *l = is_chat ? &chat : &code;
        now += -log(draw_unit(&state)) / rate;
        requests[i].arrival = now;
        requests[i].prompt = draw_length(&state, l->prompt, l->prompt_spread, l->prompt_most);
        requests[i].output = draw_length(&state, l->output, l->output_spread, l->output_most);
        requests[i].model = kind == TRACES_MIXED ? (int)(draw(&state) % 3) : 0;
    }
    traces_server server = {.models = models,
                            .page_tokens = recipe->page_tokens,
                            .speed = 1,
                            .seconds_per_token = TRACES_SECONDS_PER_TOKEN,
                            .seconds_per_prompt_token = TRACES_SECONDS_PER_PROMPT_TOKEN};
    bool fine = traces_serve(t, requests, count, &server, error);
    free(requests);
    return fine;
}

/* ---- training ---- */

enum {
    HIDDEN = 768, /* of GPT-2 small, so that a step fits into any test machine */
    HEADS = 12,
    VOCABULARY = 50257,
    BATCH = 4,
    LAYERS = 12,
    LAYERS_MOST = 1024,
    STEPS = 4,
    /* What one layer keeps for its backward pass, and its parameters. */
    KEPT = 9,
    WEIGHTS = 6
};

/* The trace being written. After the first failure nothing more is done. */
typedef struct writer {
    traces *t;
    bool fine;
} writer;

static uint32_t take(writer *w, size_t bytes, const char *owner) {
    uint32_t block = 0;
    w->fine = w->fine && traces_alloc(w->t, bytes, 64, owner, &block);
    return block;
}

static void give(writer *w, uint32_t block) {
    w->fine = w->fine && traces_release(w->t, block);
}

/* Something that is there for a moment only. */
static void pass(writer *w, size_t bytes, const char *owner) {
    give(w, take(w, bytes, owner));
}

typedef struct layer {
    uint32_t kept[KEPT];
    uint32_t gradients[WEIGHTS];
} layer;

static const size_t parameters[WEIGHTS] = {3 * HIDDEN * HIDDEN, HIDDEN *HIDDEN, 4 * HIDDEN *HIDDEN,
                                           4 * HIDDEN *HIDDEN,  2 * HIDDEN,     2 * HIDDEN};

/* One layer forwards: `tokens` rows of HIDDEN in bf16. */
static void forward(writer *w, layer *l, size_t tokens, size_t length) {
    const size_t row = 2 * tokens * HIDDEN;
    const size_t kept[KEPT] = {
        row,                /* input */
        row,                /* normalised */
        3 * row,            /* query, key, value */
        4 * tokens * HEADS, /* log-sum-exp of attention */
        row,                /* attention's output */
        row,                /* after the residual */
        row,                /* normalised again */
        4 * row,            /* before the activation */
        4 * row             /* after it */
    };
    for (int i = 0; i < KEPT; ++i) {
        l->kept[i] = take(w, kept[i], "activations");
        if (i == 3) /* scores of one block of queries */
            pass(w, 4 * HEADS * length * 128, "workspace");
        if (i == 4 || i == 8) /* a product before it is added to the residual */
            pass(w, row, "temporary");
    }
}

/* And backwards: gradients of activations come, what was kept goes. `above` is the gradient that
 * the layer gets; the one that it hands on is returned. */
static uint32_t backward(writer *w, layer *l, uint32_t above, size_t tokens, size_t length) {
    const size_t row = 2 * tokens * HIDDEN;
    uint32_t wide = take(w, 4 * row, "gradients of activations");
    l->gradients[3] = take(w, 2 * parameters[3], "gradients");
    give(w, l->kept[8]);
    give(w, l->kept[7]);
    uint32_t narrow = take(w, row, "gradients of activations");
    l->gradients[2] = take(w, 2 * parameters[2], "gradients");
    give(w, wide);
    give(w, l->kept[6]);
    l->gradients[5] = take(w, 2 * parameters[5], "gradients");
    give(w, l->kept[5]);
    uint32_t attention = take(w, row, "gradients of activations");
    l->gradients[1] = take(w, 2 * parameters[1], "gradients");
    uint32_t three = take(w, 3 * row, "gradients of activations");
    pass(w, 4 * HEADS * length * 128, "workspace");
    give(w, attention);
    for (int i = 4; i >= 2; --i)
        give(w, l->kept[i]);
    l->gradients[0] = take(w, 2 * parameters[0], "gradients");
    uint32_t below = take(w, row, "gradients of activations");
    give(w, three);
    give(w, l->kept[1]);
    l->gradients[4] = take(w, 2 * parameters[4], "gradients");
    give(w, l->kept[0]);
    give(w, narrow);
    give(w, above);
    return below;
}

static bool training(traces *t, const traces_recipe *recipe, traces_error *error) {
    const int64_t layers = recipe->layers != 0 ? recipe->layers : LAYERS;
    const int64_t steps = recipe->steps != 0 ? recipe->steps : STEPS;
    static layer l[LAYERS_MOST];
    if (layers > LAYERS_MOST) {
        snprintf(error->text, sizeof error->text, "more than %d layers", LAYERS_MOST);
        return false;
    }
    writer w = {.t = t, .fine = true};
    uint64_t state = recipe->seed;
    const size_t embedding = (size_t)VOCABULARY * HIDDEN;
    /* bf16 weights, their f32 originals and two moments stay. */
    for (int64_t i = -1; i < layers; ++i)
        for (int p = 0; p < (i < 0 ? 1 : WEIGHTS); ++p) {
            size_t count = i < 0 ? embedding : parameters[p];
            take(&w, 2 * count, "weights");
            for (int k = 0; k < 3; ++k)
                take(&w, 4 * count, "optimizer");
        }
    for (int64_t step = 0; step < steps && w.fine; ++step) {
        /* Batches are as long as their longest text, in multiples of 64. */
        const size_t length = 64 * (2 + (size_t)(draw(&state) % 15)), tokens = BATCH * length;
        const size_t row = 2 * tokens * HIDDEN;
        uint32_t text = take(&w, 8 * tokens, "input");
        for (int64_t i = 0; i < layers; ++i)
            forward(&w, &l[i], tokens, length);
        uint32_t last = take(&w, row, "activations");
        uint32_t logits = take(&w, 2 * tokens * VOCABULARY, "activations");
        uint32_t loss = take(&w, 4 * tokens, "activations");
        uint32_t above = take(&w, row, "gradients of activations");
        uint32_t embedding_gradient = take(&w, 2 * embedding, "gradients");
        give(&w, logits);
        give(&w, last);
        give(&w, loss);
        for (int64_t i = layers - 1; i >= 0; --i)
            above = backward(&w, &l[i], above, tokens, length);
        give(&w, above);
        give(&w, text);
        /* The optimizer goes through the parameters with one f32 temporary for each. */
        pass(&w, 4 * embedding, "temporary");
        give(&w, embedding_gradient);
        for (int64_t i = 0; i < layers; ++i)
            for (int p = 0; p < WEIGHTS; ++p) {
                pass(&w, 4 * parameters[p], "temporary");
                give(&w, l[i].gradients[p]);
            }
    }
    if (!w.fine)
        snprintf(error->text, sizeof error->text, "no memory after %zu events", t->events_count);
    return w.fine;
}

bool traces_generate(traces *t, traces_kind kind, const traces_recipe *recipe,
                     traces_error *error) {
    *t = (traces){0};
    bool fine =
        kind == TRACES_TRAINING ? training(t, recipe, error) : serving(t, kind, recipe, error);
    if (!fine)
        traces_free(t);
    return fine;
}
