/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA backend as a caller sees it, on the stand-in driver: devices, memory of every kind,
 * shortage, losses, threads, forks. Each test is run with virtual memory and without.
 */
#include "cuda_host.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- devices ---- */

START_TEST(devices) {
    pretend(_i);
    tenon_device_info info = {.struct_size = sizeof info};
    int found = 0;
    for (int i = 0; i < tenon_device_count(); ++i) {
        OK(NULL, tenon_device_get(i, &info));
        if (strcmp(info.backend, "cuda") != 0)
            continue;
        ck_assert_str_eq(info.id, found ? "cuda:1" : "cuda");
        ck_assert_msg(info.usable, "%s", info.reason);
        ck_assert_ptr_nonnull(strstr(info.name, "stand-in"));
        ck_assert_ptr_nonnull(strstr(info.instruction_sets, "capability 8.0"));
        ck_assert_int_eq(info.cores, 108);
        ck_assert_uint_eq(info.memory_total, (size_t)256 << 20);
        ++found;
    }
    ck_assert_int_eq(found, 2);
    tenon_context *ctx = context_on("auto"); /* never means one */
    ck_assert_str_eq(tenon_context_device(ctx, 0), "cpu");
    tenon_context_destroy(ctx);
    ctx = context_on("cuda:1,auto");
    ck_assert_str_eq(tenon_context_device(ctx, 0), "cuda:1");
    ck_assert_str_eq(tenon_context_device(ctx, 1), "cpu");
    tenon_context_destroy(ctx);
    const tenon_context_desc desc = {.device = "cuda:2"};
    REFUSED(NULL, TENON_ERROR_NO_DEVICE, "only 2", tenon_context_create(&desc, &ctx));
    expect_nothing_left();
}
END_TEST

/* A device below all code of the build, and one beyond. */
START_TEST(capabilities) {
    const standin_device old = {.arch = _i ? 120 : 75};
    tenon_device_info info = {.struct_size = sizeof info};
    tenon_context *ctx;
    const tenon_context_desc desc = {.device = "cuda"};
    standin_configure(&old);
    OK(NULL, tenon_device_get(0, &info));
    const tenon_status status = tenon_context_create(&desc, &ctx);
    if (info.usable) {
        ck_assert_int_eq(status, TENON_OK);
        tenon_context_destroy(ctx);
    } else {
        ck_assert_ptr_nonnull(strstr(info.reason, "7.5"));
        ck_assert_int_eq(status, TENON_ERROR_NO_DEVICE);
        ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "7.5"));
    }
    expect_nothing_left();
}
END_TEST

/* ---- operands in the host's memory ---- */

START_TEST(host_memory) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    tenon_context *ctx = context_on("cuda");
    const tenon_gemm_desc g = product_of(p);
    for (int run = 0; run < 3; ++run) {
        product_fill(p);
        OK(ctx, tenon_gemm(ctx, &g));
        ck_assert(is_right(p));
    }
    tenon_plan *plan;
    tenon_plan_info info = {.struct_size = sizeof info};
    OK(ctx, tenon_gemm_plan(ctx, &g, &plan));
    ck_assert_int_eq(tenon_plan_query(plan, &info), TENON_OK);
    ck_assert_str_eq(info.device, "cuda");
    product_fill(p);
    OK(ctx, tenon_gemm_run(ctx, plan, &g));
    ck_assert(is_right(p));
    tenon_plan_destroy(plan);
    tenon_context_destroy(ctx);
    expect_nothing_left();
    free(p);
}
END_TEST

/* What lies between the elements of an output is somebody else's, and stays. */
START_TEST(outputs_with_gaps) {
    enum { STEP = 3, ROW = N * STEP + 5 };
    product *p = malloc(sizeof *p);
    float *wide = malloc(M * ROW * sizeof *wide);
    const int64_t shape[2] = {M, N}, stride[2] = {ROW, STEP};
    pretend(_i);
    tenon_context *ctx = context_on("cuda");
    product_fill(p);
    for (int i = 0; i < M * ROW; ++i)
        wide[i] = (float)i;
    tenon_gemm_desc g = product_of(p);
    g.c = tenon_strided(wide, TENON_F32, 2, shape, stride);
    OK(ctx, tenon_gemm(ctx, &g));
    for (int i = 0; i < M * ROW; ++i) {
        const int row = i / ROW, column = i % ROW / STEP;
        const bool element = i % ROW % STEP == 0 && column < N;
        ck_assert_float_eq(wide[i], element ? p->expected[row * N + column] : (float)i);
    }
    tenon_context_destroy(ctx);
    free(wide);
    free(p);
}
END_TEST

START_TEST(no_staging) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    const tenon_context_desc desc = {.device = "cuda", .flags = TENON_CONTEXT_NO_STAGING};
    tenon_context *ctx = open_context(&desc);
    product_fill(p);
    const tenon_gemm_desc g = product_of(p);
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "a is ", tenon_gemm(ctx, &g));
    ck_assert(is_untouched(p));
    tenon_context_destroy(ctx);
    free(p);
}
END_TEST

/* ---- buffers ---- */

START_TEST(device_buffers) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    tenon_context *ctx = context_on("cuda");
    product_fill(p);
    buffers x = load(ctx, tenon_context_pool(ctx, 0), p);
    const tenon_gemm_desc g = product_in(&x);
    OK(ctx, tenon_gemm(ctx, &g));
    OK(ctx, tenon_buffer_read(ctx, x.c, 0, p->c, sizeof p->c)); /* in order, so without a wait */
    ck_assert(is_right(p));
    ck_assert_ptr_null(tenon_buffer_host(x.c));

    void *host, *other;
    tenon_buffer *view;
    OK(NULL, tenon_buffer_view(x.c, N * sizeof(float), N * sizeof(float), &view));
    OK(ctx, tenon_buffer_map(ctx, view, 0, N * sizeof(float), &host));
    OK(ctx, tenon_buffer_map(ctx, x.c, 2 * N * sizeof(float), 8, &other));
    ck_assert_mem_eq(host, p->expected + N, N * sizeof(float));
    ((float *)host)[0] = 4711;
    ((float *)other)[1] = 4712;
    OK(ctx, tenon_buffer_unmap(ctx, view, host));
    OK(ctx, tenon_buffer_unmap(ctx, x.c, other));
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "host is", tenon_buffer_unmap(ctx, x.c, other));
    OK(ctx, tenon_buffer_read(ctx, x.c, 0, p->c, sizeof p->c));
    ck_assert_float_eq(p->c[N], 4711);
    ck_assert_float_eq(p->c[2 * N + 1], 4712);

    /* The address is the driver's. */
    tenon_native_kind kind;
    void *native;
    size_t offset;
    float row[N];
    ck_assert_int_eq(tenon_buffer_native(view, &kind, &native, &offset), TENON_OK);
    ck_assert_int_eq(kind, TENON_NATIVE_CUDA);
    void *context, *queue;
    OK(ctx, tenon_context_native(ctx, &context, &queue));
    CU(cuCtxPushCurrent(context));
    CU(cuMemcpyDtoH(row, (CUdeviceptr)(uintptr_t)native + offset, sizeof row));
    CU(cuCtxPopCurrent(NULL));
    ck_assert_mem_eq(row, p->c + N, sizeof row);
    tenon_buffer_free(view);
    unload(&x);
    tenon_context_destroy(ctx);
    expect_nothing_left();
    free(p);
}
END_TEST

/* Copies larger than what they go through, at odd offsets, both ways. */
START_TEST(large_copies) {
    const size_t bytes = (11 << 20) + 13;
    unsigned char *in = malloc(bytes), *out = calloc(bytes, 1);
    pretend(_i);
    tenon_context *ctx = context_on("cuda");
    tenon_buffer *buffer;
    for (size_t i = 0; i < bytes; ++i)
        in[i] = (unsigned char)(i * 31 + i / 255);
    OK(NULL, tenon_buffer_alloc(tenon_context_pool(ctx, 0), bytes + 7, "large", &buffer));
    for (int again = 0; again < 3; ++again) {
        OK(ctx, tenon_buffer_write(ctx, buffer, 7, in, bytes));
        in[again] ^= 1; /* it may be used again */
        OK(ctx, tenon_buffer_read(ctx, buffer, 7, out, bytes));
        in[again] ^= 1;
        ck_assert_mem_eq(in, out, bytes);
    }
    tenon_buffer_free(buffer);
    tenon_context_destroy(ctx);
    expect_nothing_left();
    free(in);
    free(out);
}
END_TEST

/* A pool of the device's without a context; buffers that outlive every context; both used by the
 * CPU and by another card. */
START_TEST(memory_of_others) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    const tenon_pool_desc desc = {.device = "cuda:0", .budget = 8 << 20};
    tenon_pool *pool;
    OK(NULL, tenon_pool_create(&desc, &pool));
    tenon_context *cpu = context_on("cpu"), *cuda = context_on("cuda"),
                  *other = context_on("cuda:1");
    tenon_context *const all[] = {cpu, cuda, other};
    product_fill(p);
    buffers x = load(cpu, pool, p);
    const tenon_gemm_desc g = product_in(&x);
    for (int i = 0; i < 3; ++i) {
        product_fill(p);
        OK(cuda, tenon_buffer_write(cuda, x.c, 0, p->c, sizeof p->c));
        OK(all[i], tenon_gemm(all[i], &g));
        OK(all[i], tenon_sync(all[i]));
        OK(cpu, tenon_buffer_read(cpu, x.c, 0, p->c, sizeof p->c));
        ck_assert(is_right(p));
    }
    tenon_context_destroy(cuda);
    tenon_context_destroy(other);
    product_fill(p);
    OK(cpu, tenon_buffer_write(cpu, x.c, 0, p->c, sizeof p->c));
    OK(cpu, tenon_gemm(cpu, &g));
    OK(cpu, tenon_buffer_read(cpu, x.c, 0, p->c, sizeof p->c));
    ck_assert(is_right(p));
    tenon_pool_destroy(pool);
    unload(&x);
    tenon_context_destroy(cpu);
    expect_nothing_left();
    free(p);
}
END_TEST

/* Free parts of a segment go back to the driver where it has virtual memory, and the pool goes on
 * with the rest. */
START_TEST(segments_shrink) {
    enum { BLOCKS = 4 };
    const size_t mib = 1 << 20, block = 16 * mib;
    pretend(_i);
    const tenon_pool_desc desc = {.device = "cuda", .segment_bytes = BLOCKS * 16 * mib};
    tenon_pool *pool;
    tenon_buffer *b[BLOCKS], *again;
    OK(NULL, tenon_pool_create(&desc, &pool));
    for (int i = 0; i < BLOCKS; ++i)
        OK(NULL, tenon_buffer_alloc(pool, block, "block", &b[i]));
    ck_assert_uint_ge(standin_get_live().bytes, BLOCKS * block);
    tenon_buffer_free(b[1]);
    tenon_buffer_free(b[2]);
    const size_t given = tenon_memory_trim(pool, 0);
    if (_i) {
        ck_assert_uint_eq(given, 0);
    } else {
        ck_assert_uint_eq(given, 2 * block);
        ck_assert_uint_eq(standin_get_live().bytes, 2 * block);
    }
    OK(NULL, tenon_buffer_alloc(pool, block, "again", &again));
    tenon_context *ctx = context_on("cuda");
    OK(ctx, tenon_buffer_write(ctx, again, block - 3, "abc", 3));
    OK(ctx, tenon_buffer_write(ctx, b[3], block - 3, "abc", 3));
    tenon_buffer_free(b[0]);
    tenon_buffer_free(b[3]);
    tenon_buffer_free(again);
    (void)tenon_memory_trim(pool, 0);
    ck_assert_uint_le(standin_get_live().bytes, (size_t)8 << 20); /* pinned halves are no bytes */
    tenon_context_destroy(ctx);
    tenon_pool_destroy(pool);
    expect_nothing_left();
}
END_TEST

/* ---- running short, and losses ---- */

/* A budget, and a card, that the operands do not fit into. */
START_TEST(short_of_memory) {
    enum { SIDE = 1024 };
    const size_t bytes = SIDE * SIDE * sizeof(float);
    float *a = calloc(SIDE * SIDE, sizeof *a), *c = malloc(bytes);
    const standin_device device = {.arch = 80, .memory = 6 << 20, .no_vmm = _i};
    standin_configure(&device);
    for (int budget = 0; budget < 2; ++budget) {
        tenon_context_desc desc = {.device = "cuda",
                                   .memory_budget = budget ? 64 << 10 : TENON_NO_BUDGET};
        tenon_context *ctx = open_context(&desc);
        for (int i = 0; i < SIDE * SIDE; ++i) {
            a[i] = (float)(i / SIDE == i % SIDE);
            c[i] = -777;
        }
        const tenon_gemm_desc g = {.a = tenon_matrix(a, TENON_F32, SIDE, SIDE),
                                   .b = tenon_matrix(a, TENON_F32, SIDE, SIDE),
                                   .c = tenon_matrix(c, TENON_F32, SIDE, SIDE)};
        REFUSED(ctx, budget ? TENON_ERROR_OVER_BUDGET : TENON_ERROR_OUT_OF_MEMORY, "cuda",
                tenon_gemm(ctx, &g));
        ck_assert_float_eq(c[0], -777);
        tenon_context_destroy(ctx);
        desc.device = "cuda,cpu";
        ctx = open_context(&desc);
        OK(ctx, tenon_gemm(ctx, &g));
        ck_assert_mem_eq(c, a, bytes);
        tenon_memory_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(tenon_memory_stats(tenon_context_pool(ctx, 0), &info), TENON_OK);
        ck_assert_uint_ge(info.ladder.device_changes, 1);
        tenon_context_destroy(ctx);
    }
    expect_nothing_left();
    free(a);
    free(c);
}
END_TEST

/* Free parts of other segments make room where the card is full: rung 2 with virtual memory. */
START_TEST(holes_make_room) {
    const size_t mib = 1 << 20;
    const standin_device device = {.arch = 80, .memory = 96 * mib, .no_vmm = _i};
    standin_configure(&device);
    const tenon_pool_desc desc = {.device = "cuda", .budget = TENON_NO_BUDGET};
    tenon_pool *pool;
    tenon_buffer *b[5], *wide;
    OK(NULL, tenon_pool_create(&desc, &pool));
    for (int i = 0; i < 5; ++i)
        OK(NULL, tenon_buffer_alloc(pool, i % 2 ? 2 * mib : 30 * mib, "b", &b[i]));
    tenon_buffer_free(b[0]);
    tenon_buffer_free(b[2]);
    OK(NULL, tenon_buffer_alloc(pool, 50 * mib, "wide", &wide));
    tenon_buffer_free(wide);
    tenon_buffer_free(b[1]);
    tenon_buffer_free(b[3]);
    tenon_buffer_free(b[4]);
    tenon_pool_destroy(pool);
    expect_nothing_left();
}
END_TEST

/* A kernel's fault ends the context: calls say so, a chain goes on, a new context finds a new
 * one. */
START_TEST(losses) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    tenon_context *ctx = context_on("cuda"), *chain = context_on("cuda,cpu");
    product_fill(p);
    buffers x = load(ctx, tenon_context_pool(ctx, 0), p);
    const tenon_gemm_desc g = product_in(&x), on_host = product_of(p);
    standin_arm_launch(1, CUDA_ERROR_ILLEGAL_ADDRESS);
    OK(ctx, tenon_gemm(ctx, &g)); /* is only queued */
    REFUSED(ctx, TENON_ERROR_DEVICE_LOST, "CUDA_ERROR_ILLEGAL_ADDRESS", tenon_sync(ctx));
    REFUSED(ctx, TENON_ERROR_DEVICE_LOST, "lost", tenon_gemm(ctx, &g));
    REFUSED(ctx, TENON_ERROR_DEVICE_LOST, "lost",
            tenon_buffer_read(ctx, x.c, 0, p->c, sizeof p->c));
    ck_assert(is_untouched(p));
    OK(chain, tenon_gemm(chain, &on_host));
    ck_assert(is_right(p));
    standin_disarm();
    unload(&x);
    tenon_context_destroy(ctx);
    tenon_context_destroy(chain);
    expect_nothing_left();
    ctx = context_on("cuda");
    product_fill(p);
    OK(ctx, tenon_gemm(ctx, &on_host));
    ck_assert(is_right(p));
    tenon_context_destroy(ctx);
    expect_nothing_left();
    free(p);
}
END_TEST

/* ---- drivers that want other code ---- */

/* Machine code that the driver refuses: it gets the PTX alone. */
START_TEST(code_refused) {
    static const int codes[] = {CUDA_ERROR_INVALID_IMAGE, CUDA_ERROR_NO_BINARY_FOR_GPU,
                                CUDA_ERROR_UNSUPPORTED_PTX_VERSION};
    product *p = malloc(sizeof *p);
    pretend(_i);
    tenon_context *ctx;
    const tenon_context_desc desc = {.device = "cuda"};
    const tenon_gemm_desc g = product_of(p);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; ++i) {
        standin_arm("cuModuleLoadData", 1, codes[i], false);
        ctx = open_context(&desc);
        ck_assert_int_eq(standin_disarm(), 1);
        standin_arm("cuModuleLoadData", 1, codes[i], false);
        product_fill(p);
        OK(ctx, tenon_gemm(ctx, &g));
        ck_assert(is_right(p));
        ck_assert_int_eq(standin_disarm(), 1);
        tenon_context_destroy(ctx);
        standin_arm("cuModuleLoadData", 1, codes[i], true);
        REFUSED(NULL, TENON_ERROR_NO_DEVICE, "module probe", tenon_context_create(&desc, &ctx));
        ck_assert_int_eq(standin_disarm(), 2);
        expect_nothing_left();
    }
    free(p);
}
END_TEST

/* ---- threads and processes ---- */

typedef struct worker {
    const char *device;
    pthread_t thread;
    int wrong;
} worker;

static void *work(void *arg) {
    worker *w = arg;
    product *p = malloc(sizeof *p);
    tenon_context *ctx = context_on(w->device);
    const tenon_gemm_desc g = product_of(p);
    for (int i = 0; i < 10; ++i) {
        product_fill(p);
        w->wrong += tenon_gemm(ctx, &g) != TENON_OK || !is_right(p);
    }
    tenon_context_destroy(ctx);
    free(p);
    return NULL;
}

START_TEST(contexts_on_threads) {
    worker w[4] = {{"cuda:0"}, {"cuda:1"}, {"cuda:0"}, {"cuda:1,cpu"}};
    pretend(_i);
    for (int i = 0; i < 4; ++i)
        ck_assert_int_eq(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    for (int i = 0; i < 4; ++i) {
        pthread_join(w[i].thread, NULL);
        ck_assert_int_eq(w[i].wrong, 0);
    }
    expect_nothing_left();
}
END_TEST

/* The driver serves the parent: the child is told so, and the CPU goes on. */
START_TEST(forked) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    tenon_context *ctx = context_on("cuda"), *chain = context_on("cuda,cpu");
    product_fill(p);
    const tenon_gemm_desc g = product_of(p);
    OK(ctx, tenon_gemm(ctx, &g));
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        product_fill(p);
        const bool lost = tenon_gemm(ctx, &g) == TENON_ERROR_DEVICE_LOST && is_untouched(p);
        const bool went_on = tenon_gemm(chain, &g) == TENON_OK && is_right(p);
        tenon_context *late;
        const tenon_context_desc desc = {.device = "cuda"};
        const bool refused = tenon_context_create(&desc, &late) == TENON_ERROR_NO_DEVICE;
        const int64_t calls = standin_calls();
        tenon_context_destroy(ctx);
        tenon_context_destroy(chain);
        _exit(lost && went_on && refused && standin_calls() == calls ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    product_fill(p);
    OK(ctx, tenon_gemm(ctx, &g));
    ck_assert(is_right(p));
    tenon_context_destroy(ctx);
    tenon_context_destroy(chain);
    expect_nothing_left();
    free(p);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("cuda_host");
    TCase *t = tcase_create("cuda_host");
    tcase_set_timeout(t, 120);
    const TTest *const both[] = {
        devices,         capabilities, host_memory,      outputs_with_gaps,   no_staging,
        device_buffers,  large_copies, memory_of_others, segments_shrink,     short_of_memory,
        holes_make_room, losses,       code_refused,     contexts_on_threads, forked};
    for (size_t i = 0; i < sizeof both / sizeof both[0]; ++i)
        tcase_add_loop_test(t, both[i], 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    return run_suite(suite());
}
