/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA backend in the caller's own contexts and streams, on the stand-in driver: what is lent
 * must belong together, is used and left as it was, and runs can be captured from it. Each test is
 * run with virtual memory and without.
 */
#include "cuda_host.h"

/* ---- the caller's own objects ---- */

static CUcontext current(void) {
    CUcontext c = NULL;
    CU(cuCtxGetCurrent(&c));
    return c;
}

START_TEST(borrowed_objects) {
    product *p = malloc(sizeof *p);
    CUcontext context, second;
    CUstream stream, foreign;
    CUdeviceptr memory, there;
    pretend(_i);
    CU(cuInit(0));
    CU(cuCtxCreate(&second, NULL, 0, 1));
    CU(cuStreamCreate(&foreign, CU_STREAM_NON_BLOCKING));
    CU(cuMemAlloc(&there, 4096));
    CU(cuCtxCreate(&context, NULL, 0, 0));
    CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CU(cuMemAlloc(&memory, sizeof p->c + 64));

    tenon_context_desc desc = {.device = "cuda", .native_context = context, .native_queue = stream};
    for (int alone = 0; alone < 2; ++alone) { /* a stream brings its context */
        desc.native_context = alone ? NULL : context;
        tenon_context *ctx = open_context(&desc);
        void *lent_context, *lent_queue;
        OK(ctx, tenon_context_native(ctx, &lent_context, &lent_queue));
        ck_assert_ptr_eq(lent_context, context);
        ck_assert_ptr_eq(lent_queue, stream);
        ck_assert_ptr_eq(current(), context);

        tenon_pool *pool = tenon_context_pool(ctx, 0);
        tenon_buffer *c, *none;
        OK(NULL, tenon_buffer_import(pool, TENON_NATIVE_CUDA, (void *)(uintptr_t)memory,
                                     sizeof p->c + 64, &c));
        REFUSED(NULL, TENON_ERROR_INVALID_ARGUMENT, "native is",
                tenon_buffer_import(pool, TENON_NATIVE_CUDA, p, sizeof p->c, &none));
        REFUSED(NULL, TENON_ERROR_UNSUPPORTED, "kind is",
                tenon_buffer_import(pool, TENON_NATIVE_OPENCL, p, sizeof p->c, &none));
        product_fill(p);
        tenon_gemm_desc g = product_of(p);
        g.c = tenon_matrix_in(c, 64, TENON_F32, M, N);
        OK(ctx, tenon_gemm(ctx, &g));
        CU(cuMemcpyDtoHAsync(p->c, memory + 64, sizeof p->c, stream));
        CU(cuStreamSynchronize(stream));
        ck_assert(is_right(p));

        /* Memory of another context is copied: here by one with objects of its own. */
        tenon_context *own = context_on("cuda");
        product_fill(p);
        OK(own, tenon_buffer_write(own, c, 64, p->c, sizeof p->c));
        OK(own, tenon_gemm(own, &g));
        OK(own, tenon_buffer_read(own, c, 64, p->c, sizeof p->c));
        ck_assert(is_right(p));
        tenon_context *shared;
        const tenon_context_desc wrong = {.device = "cuda", .pool = pool};
        REFUSED(NULL, TENON_ERROR_INVALID_ARGUMENT, "pool", tenon_context_create(&wrong, &shared));
        tenon_buffer_free(c);
        tenon_context_destroy(own);
        tenon_context_destroy(ctx);
        ck_assert_ptr_eq(current(), context);
    }

    tenon_context *none;
    desc = (tenon_context_desc){.device = "cuda", .native_context = second};
    REFUSED(NULL, TENON_ERROR_INVALID_ARGUMENT, "native_context",
            tenon_context_create(&desc, &none));
    desc =
        (tenon_context_desc){.device = "cuda", .native_context = context, .native_queue = foreign};
    REFUSED(NULL, TENON_ERROR_INVALID_ARGUMENT, "native_queue", tenon_context_create(&desc, &none));
    ck_assert_ptr_eq(current(), context);
    CU(cuMemFree(memory));
    CU(cuStreamDestroy(stream));
    CU(cuCtxDestroy(context));
    CU(cuCtxPushCurrent(second));
    CU(cuMemFree(there));
    CU(cuStreamDestroy(foreign));
    CU(cuCtxDestroy(second));
    expect_nothing_left();
    free(p);
}
END_TEST

/* ---- captured graphs ---- */

START_TEST(captured_runs) {
    product *p = malloc(sizeof *p);
    CUcontext context;
    CUstream stream;
    CUgraph graph;
    CUgraphExec runnable;
    pretend(_i);
    CU(cuInit(0));
    CU(cuDevicePrimaryCtxRetain(&context, 0));
    CU(cuCtxPushCurrent(context));
    CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    const tenon_context_desc desc = {
        .device = "cuda", .native_context = context, .native_queue = stream};
    tenon_context *ctx = open_context(&desc);
    tenon_pool *pool = tenon_context_pool(ctx, 0);
    product_fill(p);
    buffers x = load(ctx, pool, p);
    const tenon_gemm_desc g = product_in(&x), on_host = product_of(p);
    tenon_plan *plan;
    OK(ctx, tenon_gemm_plan(ctx, &g, &plan));

    /* A kernel that was never run is not loaded, and can't be now; nothing is spoiled by asking. */
    CU(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    REFUSED(ctx, TENON_ERROR_UNSUPPORTED, "run the plan once", tenon_gemm_run(ctx, plan, &g));
    CU(cuStreamEndCapture(stream, &graph));
    CU(cuGraphDestroy(graph));

    OK(ctx, tenon_gemm_run(ctx, plan, &g));
    OK(ctx, tenon_sync(ctx));
    CU(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(ctx, tenon_gemm_run(ctx, plan, &g));
    tenon_buffer *large;
    float word;
    REFUSED(ctx, TENON_ERROR_UNSUPPORTED, "captured", tenon_sync(ctx));
    REFUSED(ctx, TENON_ERROR_UNSUPPORTED, "captured", tenon_gemm(ctx, &on_host));
    REFUSED(ctx, TENON_ERROR_UNSUPPORTED, "captured",
            tenon_buffer_read(ctx, x.c, 0, &word, sizeof word));
    REFUSED(NULL, TENON_ERROR_OUT_OF_MEMORY, "cuda",
            tenon_buffer_alloc(pool, 32 << 20, "large", &large));
    CU(cuStreamEndCapture(stream, &graph));
    CU(cuGraphInstantiate(&runnable, graph, 0));
    for (int again = 0; again < 3; ++again) {
        product_fill(p);
        for (int i = 0; i < M * K; ++i)
            p->a[i] += (float)again;
        for (int i = 0; i < M * N; ++i)
            for (int k = 0; k < K; ++k)
                p->expected[i] += (float)again * p->b[k * N + i % N];
        OK(ctx, tenon_buffer_write(ctx, x.a, 12, p->a, sizeof p->a));
        OK(ctx, tenon_buffer_write(ctx, x.c, 0, p->c, sizeof p->c));
        CU(cuGraphLaunch(runnable, stream));
        OK(ctx, tenon_buffer_read(ctx, x.c, 0, p->c, sizeof p->c));
        ck_assert(is_right(p));
    }
    CU(cuGraphExecDestroy(runnable));
    CU(cuGraphDestroy(graph));
    OK(NULL, tenon_buffer_alloc(pool, 32 << 20, "large", &large));

    /* What is freed meanwhile goes back later. */
    const size_t bytes = standin_get_live().bytes;
    tenon_buffer_free(large);
    CU(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    (void)tenon_memory_trim(pool, 0);
    ck_assert_uint_eq(standin_get_live().bytes, bytes);
    CU(cuStreamEndCapture(stream, &graph));
    CU(cuGraphDestroy(graph));
    OK(NULL, tenon_buffer_alloc(pool, 48 << 20, "larger", &large));
    ck_assert_uint_le(standin_get_live().bytes, bytes + ((size_t)24 << 20));
    tenon_buffer_free(large);
    tenon_plan_destroy(plan);
    unload(&x);
    tenon_context_destroy(ctx);
    CU(cuStreamDestroy(stream));
    CU(cuCtxPopCurrent(NULL));
    CU(cuDevicePrimaryCtxRelease(0));
    expect_nothing_left();
    free(p);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cuda_lent");
    TCase *t = tcase_create("cuda_lent");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, borrowed_objects, 0, 2);
    tcase_add_loop_test(t, captured_runs, 0, 2);
    suite_add_tcase(s, t);
    return run_suite(s);
}
