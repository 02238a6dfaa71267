/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subject_ggml.c: ggml's CPU backend (subject.h), as its small examples use it: a context, two
 * tensors, a graph of one product, computed and freed. Only functions on opaque pointers are used,
 * and one struct passed by value that has not changed since 2023: no header is needed.
 */
#include "subject.h"

#include <stdint.h>
#include <string.h>

struct ggml_init_params {
    size_t mem_size;
    void *mem_buffer;
    bool no_alloc;
};

enum { GGML_F32 = 0, GGML_SUCCESS = 0 };

static struct {
    void *(*init)(struct ggml_init_params);
    void (*free)(void *);
    void *(*new_tensor_2d)(void *, int type, int64_t ne0, int64_t ne1);
    void *(*get_data)(const void *);
    void *(*mul_mat)(void *, void *a, void *b);
    void *(*new_graph)(void *);
    void (*build_forward_expand)(void *graph, void *tensor);
    int (*graph_compute_with_ctx)(void *, void *graph, int threads);
    size_t (*tensor_overhead)(void);
    size_t (*graph_overhead)(void);
    const char *(*version)(void);
} ggml;

static int thread_count;

static bool start(void *library, int threads, char *why) {
    thread_count = threads;
    return look_up(library, "ggml_init", &ggml.init, why) &&
           look_up(library, "ggml_free", &ggml.free, why) &&
           look_up(library, "ggml_new_tensor_2d", &ggml.new_tensor_2d, why) &&
           look_up(library, "ggml_get_data", &ggml.get_data, why) &&
           look_up(library, "ggml_mul_mat", &ggml.mul_mat, why) &&
           look_up(library, "ggml_new_graph", &ggml.new_graph, why) &&
           look_up(library, "ggml_build_forward_expand", &ggml.build_forward_expand, why) &&
           look_up(library, "ggml_graph_compute_with_ctx", &ggml.graph_compute_with_ctx, why) &&
           look_up(library, "ggml_tensor_overhead", &ggml.tensor_overhead, why) &&
           look_up(library, "ggml_graph_overhead", &ggml.graph_overhead, why);
}

/* ggml multiplies by the transpose of its first operand: c = b·aᵀ, so a is our B transposed. */
static bool compute(const task *t, char *why) {
    const int n = t->size;
    const size_t matrix = (size_t)n * (size_t)n * sizeof(float);
    /* Three matrices, the graph, and room for the plan's work buffer and alignment. */
    const struct ggml_init_params params = {.mem_size = 4 * matrix + 4 * ggml.tensor_overhead() +
                                                        ggml.graph_overhead() + (1 << 20)};
    void *ctx = ggml.init(params);
    if (!ctx)
        return refuse(why, "ggml_init returned NULL");
    void *a = ggml.new_tensor_2d(ctx, GGML_F32, n, n), *b = ggml.new_tensor_2d(ctx, GGML_F32, n, n);
    if (!a || !b) {
        ggml.free(ctx);
        return refuse(why, "ggml_new_tensor_2d returned NULL");
    }
    float *at = ggml.get_data(a);
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j)
            at[j * n + i] = t->b[i * n + j];
    memcpy(ggml.get_data(b), t->a, matrix);
    void *c = ggml.mul_mat(ctx, a, b);
    void *graph = ggml.new_graph(ctx);
    ggml.build_forward_expand(graph, c);
    const int status = ggml.graph_compute_with_ctx(ctx, graph, thread_count);
    if (status == GGML_SUCCESS)
        memcpy(t->out, ggml.get_data(c), matrix);
    ggml.free(ctx);
    return status == GGML_SUCCESS || refuse(why, "ggml_graph_compute_with_ctx returned %d", status);
}

static void version(void *library, char *text) {
    char why[WHY_BYTES];
    if (look_up(library, "ggml_version", &ggml.version, why))
        refuse(text, "%s", ggml.version());
}

const subject subject_ggml = {"ggml", TASK_PRODUCT, start, compute, version};
