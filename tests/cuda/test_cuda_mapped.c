/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cuda_mapped.c: products by tensor maps (gemm_wgmma.cu) as the host side runs them: captured
 * in graphs, where a driver makes no maps or has none, and what they cost by the stand-in's count;
 * and the cases of kernel_mapped.c.
 */
#include "cuda_host.h"
#include "kernel_cases.h"
#include "kernel_operand.h"

/* A product of small whole numbers, which bf16 holds and whose sums are exact. */
enum { ROWS = 136, COLUMNS = 144, STEPS = 72 };
typedef struct whole {
    uint16_t a[ROWS * STEPS], b[STEPS * COLUMNS];
    float c[ROWS * COLUMNS], expected[ROWS * COLUMNS];
} whole;
typedef struct whole_buffers {
    tenon_buffer *a, *b, *c;
} whole_buffers;

static uint16_t bf16_of(int value) {
    const float f = (float)value;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)(u >> 16);
}

static void whole_fill(whole *w, int turn) {
    int a[ROWS * STEPS], b[STEPS * COLUMNS];
    for (int i = 0; i < ROWS * STEPS; i++)
        w->a[i] = bf16_of(a[i] = (i + turn) % 7 - 3);
    for (int i = 0; i < STEPS * COLUMNS; i++)
        w->b[i] = bf16_of(b[i] = (i * 3 + turn) % 5 - 2);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            int sum = 0;
            for (int p = 0; p < STEPS; p++)
                sum += a[i * STEPS + p] * b[p * COLUMNS + j];
            w->expected[i * COLUMNS + j] = (float)sum;
            w->c[i * COLUMNS + j] = -1;
        }
}

static void start(int driver_version) {
    const standin_device device = {.arch = 90,
                                   .memory = (size_t)256 << 20,
                                   .multiprocessors = 1,
                                   .driver_version = driver_version};
    standin_configure(&device);
    standin_seed(11);
}

static whole_buffers whole_load(tenon_context *ctx, const whole *w) {
    tenon_pool *pool = tenon_context_pool(ctx, 0);
    whole_buffers x;
    OK(NULL, tenon_buffer_alloc(pool, sizeof w->a + 16, "a", &x.a));
    OK(NULL, tenon_buffer_alloc(pool, sizeof w->b, "b", &x.b));
    OK(NULL, tenon_buffer_alloc(pool, sizeof w->c, "c", &x.c));
    OK(ctx, tenon_buffer_write(ctx, x.a, 16, w->a, sizeof w->a));
    OK(ctx, tenon_buffer_write(ctx, x.b, 0, w->b, sizeof w->b));
    OK(ctx, tenon_buffer_write(ctx, x.c, 0, w->c, sizeof w->c));
    return x;
}

static tenon_gemm_desc whole_in(const whole_buffers *x) {
    return (tenon_gemm_desc){.a = tenon_matrix_in(x->a, 16, TENON_BF16, ROWS, STEPS),
                             .b = tenon_matrix_in(x->b, 0, TENON_BF16, STEPS, COLUMNS),
                             .c = tenon_matrix_in(x->c, 0, TENON_F32, ROWS, COLUMNS)};
}

static void whole_unload(whole_buffers *x) {
    tenon_buffer_free(x->a);
    tenon_buffer_free(x->b);
    tenon_buffer_free(x->c);
}

static uint64_t runs_of(const char *kernel) {
    return standin_counters_of(kernel).launches;
}

static bool whole_is_right(tenon_context *ctx, const whole_buffers *x, whole *w) {
    OK(ctx, tenon_buffer_read(ctx, x->c, 0, w->c, sizeof w->c));
    return memcmp(w->c, w->expected, sizeof w->c) == 0;
}

/* Maps are made when a run is captured and are part of it; operands change between launches. */
START_TEST(captured) {
    whole *w = malloc(sizeof *w);
    CUcontext context;
    CUstream stream;
    CUgraph graph;
    CUgraphExec runnable;
    start(0);
    CU(cuInit(0));
    CU(cuDevicePrimaryCtxRetain(&context, 0));
    CU(cuCtxPushCurrent(context));
    CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    const tenon_context_desc desc = {.device = "cuda", .native_queue = stream};
    tenon_context *ctx = open_context(&desc);
    whole_fill(w, 0);
    whole_buffers x = whole_load(ctx, w);
    const tenon_gemm_desc g = whole_in(&x);
    tenon_plan *plan;
    OK(ctx, tenon_gemm_plan(ctx, &g, &plan));
    OK(ctx, tenon_gemm_run(ctx, plan, &g));
    ck_assert(whole_is_right(ctx, &x, w));
    CU(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(ctx, tenon_gemm_run(ctx, plan, &g));
    CU(cuStreamEndCapture(stream, &graph));
    CU(cuGraphInstantiate(&runnable, graph, 0));
    for (int turn = 1; turn < 4; turn++) {
        whole_fill(w, turn);
        OK(ctx, tenon_buffer_write(ctx, x.a, 16, w->a, sizeof w->a));
        OK(ctx, tenon_buffer_write(ctx, x.b, 0, w->b, sizeof w->b));
        OK(ctx, tenon_buffer_write(ctx, x.c, 0, w->c, sizeof w->c));
        CU(cuGraphLaunch(runnable, stream));
        ck_assert(whole_is_right(ctx, &x, w));
    }
    ck_assert_uint_eq(runs_of("gemm_wgmma_bf16_kn"), 4);
    CU(cuGraphExecDestroy(runnable));
    CU(cuGraphDestroy(graph));
    tenon_plan_destroy(plan);
    whole_unload(&x);
    tenon_context_destroy(ctx);
    CU(cuStreamDestroy(stream));
    CU(cuCtxPopCurrent(NULL));
    CU(cuDevicePrimaryCtxRelease(0));
    expect_nothing_left();
    free(w);
}
END_TEST

/* A driver that refuses a map, the first or the second: gemm_mma.cu makes the product. */
START_TEST(refused) {
    whole *w = malloc(sizeof *w);
    start(0);
    tenon_context *ctx = context_on("cuda");
    whole_fill(w, 0);
    whole_buffers x = whole_load(ctx, w);
    const tenon_gemm_desc g = whole_in(&x);
    for (int nth = 1; nth <= 3; nth++) {
        memset(w->c, 0, sizeof w->c);
        OK(ctx, tenon_buffer_write(ctx, x.c, 0, w->c, sizeof w->c));
        standin_arm("cuTensorMapEncodeTiled", nth, CUDA_ERROR_INVALID_VALUE, false);
        OK(ctx, tenon_gemm(ctx, &g));
        OK(ctx, tenon_sync(ctx));
        ck_assert_int_eq(standin_disarm(), nth < 3);
        ck_assert(whole_is_right(ctx, &x, w));
        ck_assert_uint_eq(runs_of("gemm_wgmma_bf16_kn"), nth / 3);
        ck_assert_uint_eq(runs_of("gemm_bf16_128x128"), nth < 3 ? nth : 2);
    }
    whole_unload(&x);
    tenon_context_destroy(ctx);
    expect_nothing_left();
    free(w);
}
END_TEST

/* PTX 8.0 and tensor maps came with 12.0. */
START_TEST(old_driver) {
    whole *w = malloc(sizeof *w);
    start(11080);
    tenon_context *ctx = context_on("cuda");
    whole_fill(w, 0);
    whole_buffers x = whole_load(ctx, w);
    const tenon_gemm_desc g = whole_in(&x);
    OK(ctx, tenon_gemm(ctx, &g));
    ck_assert(whole_is_right(ctx, &x, w));
    ck_assert_uint_eq(runs_of("gemm_wgmma_bf16_kn"), 0);
    whole_unload(&x);
    tenon_context_destroy(ctx);
    expect_nothing_left();
    free(w);
}
END_TEST

/* Fragments of all four layouts come without bank conflicts, sectors of device memory are whole and
 * none comes twice. */
START_TEST(traffic) {
    enum { SIDE = 128, DEPTH = 1024, GROUPS = 2, WARPS = 4 };
    static const char *const kernels[] = {"gemm_wgmma_bf16_kn", "gemm_wgmma_bf16_mn",
                                          "gemm_wgmma_bf16_kk", "gemm_wgmma_bf16_mk"};
    uint16_t *a = malloc(SIDE * DEPTH * sizeof *a), *b = malloc(SIDE * DEPTH * sizeof *b);
    float *c = malloc(SIDE * SIDE * sizeof *c);
    start(0);
    tenon_context *ctx = context_on("cuda");
    for (int i = 0; i < SIDE * DEPTH; i++)
        a[i] = b[i] = bf16_of(i % 9 - 4);
    const tenon_gemm_desc g = {
        .a = _i & 1 ? tenon_transposed(tenon_matrix(a, TENON_BF16, DEPTH, SIDE))
                    : tenon_matrix(a, TENON_BF16, SIDE, DEPTH),
        .b = _i & 2 ? tenon_transposed(tenon_matrix(b, TENON_BF16, SIDE, DEPTH))
                    : tenon_matrix(b, TENON_BF16, DEPTH, SIDE),
        .c = tenon_matrix(c, TENON_F32, SIDE, SIDE)};
    OK(ctx, tenon_gemm(ctx, &g));
    OK(ctx, tenon_sync(ctx));
    const standin_counters n = standin_counters_of(kernels[_i]);
    printf("%s: %.4f wavefronts a request, %.4f of the ideal sectors, %llu instructions\n",
           kernels[_i], (double)n.shared_wavefronts / (double)n.shared_requests,
           (double)n.global_sectors / (double)n.global_ideal, (unsigned long long)n.instructions);
    ck_assert_uint_eq(n.mma, GROUPS * WARPS * DEPTH / 16);
    ck_assert_uint_eq(n.async_bytes, 2 * SIDE * DEPTH * sizeof *a);
    ck_assert_msg((double)n.shared_wavefronts <= 1.005 * (double)n.shared_requests,
                  "%llu wavefronts for %llu requests", (unsigned long long)n.shared_wavefronts,
                  (unsigned long long)n.shared_requests);
    ck_assert_uint_eq(n.global_sectors, n.global_ideal);
    ck_assert_uint_eq(standin_count(), 0);
    free(a), free(b), free(c);
    tenon_context_destroy(ctx);
}
END_TEST

/* Every case, over the seeds. */
START_TEST(cases) {
    for (int seed = 0; seed < KERNEL_SEEDS; seed++) {
        ck_assert(kernel_cases_open(seed, NULL));
        const char *wrong = kernel_case_run(kernel_cases() - kernel_mapped() + _i);
        ck_assert_msg(!wrong, "%s", wrong);
        kernel_cases_close();
    }
}
END_TEST

int main(void) {
    setenv("STANDIN_ARCH", "90", 1); /* kernel_cases.h */
    Suite *s = suite_create("cuda mapped");
    TCase *t = tcase_create("products");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, cases, 0, kernel_mapped());
    tcase_add_test(t, captured);
    tcase_add_test(t, refused);
    tcase_add_test(t, old_driver);
    tcase_add_loop_test(t, traffic, 0, 4);
    suite_add_tcase(s, t);
    return run_suite(s);
}
