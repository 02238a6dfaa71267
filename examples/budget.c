/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that must not use more memory than it was given: three operations are planned, their peak workspace is known before a byte is
 * taken, and then they run with half of it, in memory the program brings itself. The results are the same bits.
 */
#include <tenon/tenon.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 4, LENGTH = 192, D = 64, MODEL = HEADS * D };

static float x[LENGTH * MODEL], w[MODEL * MODEL], hidden[LENGTH * MODEL], scores[LENGTH * MODEL],
    o[LENGTH * MODEL];

static void need(tenon_status status, const tenon_context *ctx) {
    if (status == TENON_OK)
        return;
    fprintf(stderr, "%s: %s\n", tenon_status_name(status), tenon_error_message(ctx));
    exit(1);
}

/* hidden = x · w; scores = softmax(hidden); o = attention over hidden as queries, keys and values. */
static tenon_gemm_desc project = {0};
static tenon_softmax_desc normalise = {0};
static tenon_attention_desc attend = {0};

enum { OPS = 3 };
static const char *const names[OPS] = {"gemm", "softmax", "attention"};

/* Plans all three with at most `limit` bytes of workspace each (0: what is fastest). */
static void plan_all(tenon_context *ctx, size_t limit, tenon_plan *plan[OPS]) {
    project.workspace = normalise.workspace = attend.workspace = (tenon_workspace){.bytes = limit};
    need(tenon_gemm_plan(ctx, &project, &plan[0]), ctx);
    need(tenon_softmax_plan(ctx, &normalise, &plan[1]), ctx);
    need(tenon_attention_plan(ctx, &attend, &plan[2]), ctx);
}

static void run_all(tenon_context *ctx, tenon_plan *const plan[OPS], void *memory, size_t bytes) {
    project.workspace = normalise.workspace = attend.workspace =
        (tenon_workspace){.memory = memory, .bytes = bytes};
    need(tenon_gemm_run(ctx, plan[0], &project), ctx);
    need(tenon_softmax_run(ctx, plan[1], &normalise), ctx);
    need(tenon_attention_run(ctx, plan[2], &attend), ctx);
}

int main(void) {
    static float first[LENGTH * MODEL];
    const tenon_tensor heads =
        tenon_swapped(tenon_tensor4(hidden, TENON_F32, 1, LENGTH, HEADS, D), 1, 2);
    tenon_plan *plan[OPS], *small[OPS];
    size_t peak, smallest;

    for (int i = 0; i < LENGTH * MODEL; ++i)
        x[i] = (float)(i * 37 % 101) / 101 - 0.5f;
    for (int i = 0; i < MODEL * MODEL; ++i)
        w[i] = (float)(i * 53 % 97) / 97 - 0.5f;
    project.a = tenon_matrix(x, TENON_F32, LENGTH, MODEL);
    project.b = tenon_matrix(w, TENON_F32, MODEL, MODEL);
    project.c = tenon_matrix(hidden, TENON_F32, LENGTH, MODEL);
    normalise.x = project.c;
    normalise.y = tenon_matrix(scores, TENON_F32, LENGTH, MODEL);
    attend.q = attend.k = attend.v = heads;
    attend.o = tenon_swapped(tenon_tensor4(o, TENON_F32, 1, LENGTH, HEADS, D), 1, 2);
    attend.causal = TENON_CAUSAL_BOTTOM_RIGHT;

    tenon_context *ctx;
    need(tenon_context_create(NULL, &ctx), NULL);
    plan_all(ctx, 0, plan);
    need(tenon_plan_budget((const tenon_plan *const *)plan, OPS, &peak, &smallest), ctx);
    printf("peak workspace %zu bytes, smallest workable %zu\n", peak, smallest);
    run_all(ctx, plan, NULL, 0);
    memcpy(first, o, sizeof o);
    memset(o, 0, sizeof o);

    /* Half, or as little as there is an algorithm for. */
    const size_t half = peak / 2 > smallest ? peak / 2 : smallest;
    const size_t bytes = half ? half : 64;
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes) != 0)
        return 1;
    plan_all(ctx, bytes, small);
    run_all(ctx, small, memory, bytes);
    for (int i = 0; i < OPS; ++i) {
        tenon_plan_info info = {.struct_size = sizeof info};
        need(tenon_plan_query(small[i], &info), ctx);
        printf("%-9s with %7zu of %7zu bytes: %s\n", names[i], info.workspace,
               info.workspace_preferred, info.algorithm);
    }
    const int same = memcmp(first, o, sizeof o) == 0;
    printf("results with %zu bytes: %s\n", bytes, same ? "the same bits" : "different");

    for (int i = 0; i < OPS; ++i) {
        tenon_plan_destroy(plan[i]);
        tenon_plan_destroy(small[i]);
    }
    tenon_context_destroy(ctx);
    free(memory);
    return same ? 0 : 1;
}
