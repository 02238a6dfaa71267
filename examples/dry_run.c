/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transformer of four layers whose memory is known before any is taken. Each layer is five steps (three products, attention, a
 * product that adds); buffers live from the step that writes them to the last that reads them. The dry run gives one block for all
 * of it, workspaces included, and the smallest block that still works; the model runs in both, with the same bits.
 */
#include <tenon/tenon.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 4, HEADS = 4, LENGTH = 160, D = 64, MODEL = HEADS * D, HIDDEN = 4 * MODEL };

/* Steps of a layer, and the buffer that each writes. */
enum { QKV, ATTEND, OUT, UP, DOWN, STEPS_OF_LAYER };
enum { STEPS = LAYERS * STEPS_OF_LAYER };

static float input[LENGTH * MODEL], weights[MODEL * HIDDEN];

static const size_t bytes_of[STEPS_OF_LAYER] = {
    [QKV] = sizeof(float) * LENGTH * 3 * MODEL, [ATTEND] = sizeof(float) * LENGTH * MODEL,
    [OUT] = sizeof(float) * LENGTH * MODEL,     [UP] = sizeof(float) * LENGTH * HIDDEN,
    [DOWN] = sizeof(float) * LENGTH * MODEL,
};

static void need(tenon_status status, const tenon_context *ctx) {
    if (status == TENON_OK)
        return;
    fprintf(stderr, "%s: %s\n", tenon_status_name(status), tenon_error_message(ctx));
    exit(1);
}

static tenon_tensor rows(void *data, int64_t columns) {
    return tenon_matrix(data, TENON_F32, LENGTH, columns);
}

/* One third of the projections, as (1, heads, length, d). */
static tenon_tensor heads(float *qkv, int third) {
    tenon_tensor t = tenon_tensor4(qkv + third * MODEL, TENON_F32, 1, LENGTH, HEADS, D);
    t.stride[1] = 3 * MODEL;
    return tenon_swapped(t, 1, 2);
}

/* The descriptor of step `i` with the buffers at these addresses; planning needs the shapes only. */
typedef struct op {
    tenon_gemm_desc gemm;
    tenon_attention_desc attention;
} op;

static void describe(int i, float *const at[STEPS], op *o) {
    float *x = i < STEPS_OF_LAYER ? input : at[i / STEPS_OF_LAYER * STEPS_OF_LAYER - 1];
    float *const *layer = &at[i / STEPS_OF_LAYER * STEPS_OF_LAYER];
    memset(o, 0, sizeof *o);
    switch (i % STEPS_OF_LAYER) {
    case QKV:
        o->gemm.a = rows(x, MODEL);
        o->gemm.b = tenon_matrix(weights, TENON_F32, MODEL, 3 * MODEL);
        o->gemm.c = rows(layer[QKV], 3 * MODEL);
        break;
    case ATTEND:
        o->attention.q = heads(layer[QKV], 0);
        o->attention.k = heads(layer[QKV], 1);
        o->attention.v = heads(layer[QKV], 2);
        o->attention.o =
            tenon_swapped(tenon_tensor4(layer[ATTEND], TENON_F32, 1, LENGTH, HEADS, D), 1, 2);
        o->attention.causal = TENON_CAUSAL_BOTTOM_RIGHT;
        break;
    case OUT:
        o->gemm.a = rows(layer[ATTEND], MODEL);
        o->gemm.b = tenon_matrix(weights, TENON_F32, MODEL, MODEL);
        o->gemm.c = rows(layer[OUT], MODEL);
        o->gemm.residual = rows(x, MODEL);
        break;
    case UP:
        o->gemm.a = rows(layer[OUT], MODEL);
        o->gemm.b = tenon_matrix(weights, TENON_F32, MODEL, HIDDEN);
        o->gemm.c = rows(layer[UP], HIDDEN);
        o->gemm.activation = TENON_ACTIVATION_GELU;
        break;
    default:
        o->gemm.a = rows(layer[UP], HIDDEN);
        o->gemm.b = tenon_matrix(weights, TENON_F32, HIDDEN, MODEL);
        o->gemm.c = rows(layer[DOWN], MODEL);
        o->gemm.residual = rows(layer[OUT], MODEL);
    }
}

static tenon_plan *plans[STEPS];

/* Runs the schedule in a pool that has exactly info.total bytes; the result goes to `result`. */
static void run_all(tenon_context *ctx, const tenon_schedule *s, size_t total, float *result) {
    tenon_pool_desc desc = {.budget = total, .segment_bytes = total, .flags = TENON_POOL_FIXED};
    tenon_pool *pool;
    tenon_buffer *block;
    float *at[STEPS];
    desc.budget = desc.segment_bytes = (total + 4095) / 4096 * 4096; /* whole pages */
    need(tenon_pool_create(&desc, &pool), NULL);
    need(tenon_buffer_alloc(pool, total, "model", &block), NULL);
    char *base = tenon_buffer_host(block);
    for (int i = 0; i < STEPS; ++i)
        at[i] = (float *)(void *)(base + s->buffers[i].offset);
    for (int i = 0; i < STEPS; ++i) {
        const tenon_step *step = &s->steps[i];
        op o;
        need(tenon_plan_choose(plans[i], step->choice), NULL);
        describe(i, at, &o);
        o.gemm.workspace = o.attention.workspace =
            (tenon_workspace){.memory = base + step->offset, .bytes = step->workspace};
        need(i % STEPS_OF_LAYER == ATTEND ? tenon_attention_run(ctx, step->plan, &o.attention)
                                          : tenon_gemm_run(ctx, step->plan, &o.gemm),
             ctx);
    }
    memcpy(result, at[STEPS - 1], bytes_of[DOWN]);
    tenon_buffer_free(block);
    tenon_pool_destroy(pool);
}

int main(void) {
    static float first[LENGTH * MODEL], second[LENGTH * MODEL];
    static float *nowhere[STEPS];
    static tenon_step steps[STEPS];
    static tenon_lifetime buffers[STEPS];

    for (int i = 0; i < LENGTH * MODEL; ++i)
        input[i] = (float)(i * 37 % 101) / 101 - 0.5f;
    for (int i = 0; i < MODEL * HIDDEN; ++i)
        weights[i] = ((float)(i * 53 % 97) / 97 - 0.5f) / 16;

    tenon_context *ctx;
    need(tenon_context_create(NULL, &ctx), NULL);
    for (int i = 0; i < STEPS; ++i) {
        op o;
        describe(i, nowhere, &o);
        need(i % STEPS_OF_LAYER == ATTEND ? tenon_attention_plan(ctx, &o.attention, &plans[i])
                                          : tenon_gemm_plan(ctx, &o.gemm, &plans[i]),
             ctx);
        steps[i].plan = plans[i];
        buffers[i] =
            (tenon_lifetime){.bytes = bytes_of[i % STEPS_OF_LAYER], .first = i, .last = i + 1};
        if (i % STEPS_OF_LAYER == OUT || i % STEPS_OF_LAYER == DOWN)
            buffers[i].last = i + (i % STEPS_OF_LAYER == OUT ? 2 : 3); /* the residuals */
    }
    tenon_schedule s = {
        .steps = steps, .step_count = STEPS, .buffers = buffers, .buffer_count = STEPS};
    tenon_schedule_info info = {0};
    need(tenon_schedule_layout(NULL, &s, &info), NULL);
    printf("everything as planned: %zu bytes (lower bound %zu)\n", info.total, info.lower_bound);
    run_all(ctx, &s, info.total, first);

    s.budget = info.smallest;
    need(tenon_schedule_layout(NULL, &s, &info), NULL);
    printf("with as little as works: %zu bytes\n", info.total);
    for (int i = 0; i < STEPS_OF_LAYER; ++i) {
        tenon_plan_choice choice = {0};
        need(tenon_plan_choice_get(plans[i], steps[i].choice, &choice), NULL);
        printf("  step %d: %-20s %8zu bytes at %zu\n", i, choice.algorithm, steps[i].workspace,
               steps[i].offset);
    }
    run_all(ctx, &s, info.total, second);
    const int same = memcmp(first, second, sizeof first) == 0;
    printf("results: %s\n", same ? "the same bits" : "different");

    s.budget = info.smallest - 1;
    const tenon_status status = tenon_schedule_layout(NULL, &s, &info);
    printf("a byte less: %s: %s\n", tenon_status_name(status), tenon_error_message(NULL));
    for (int i = 0; i < STEPS; ++i)
        tenon_plan_destroy(plans[i]);
    tenon_context_destroy(ctx);
    return same && status == TENON_ERROR_OVER_BUDGET ? 0 : 1;
}
