/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OpenCL backend as a caller sees it, on a real driver behind the stand-in, which lets the
 * device be one that shares memory with the host, one that does not, or two of them. Each test is
 * run for both kinds of memory.
 */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "opencl_support.h"

static const stand_in_calls *driver;

/* _i: 0 for memory that host and device share, 1 for a card's. */
static void pretend(int discrete) {
    const stand_in_limits limits = {.discrete = discrete, .devices = 2};
    driver = stand_in_controls();
    driver->pretend(&limits);
}

/* ---- devices ---- */

START_TEST(auto_is_no_opencl_device) {
    tenon_context *ctx = context_on("auto");
    ck_assert_str_eq(tenon_context_device(ctx, 0), "cpu");
    tenon_context_destroy(ctx);
    ctx = context_on("opencl:1,auto");
    ck_assert_str_eq(tenon_context_device(ctx, 0), "opencl:1");
    ck_assert_str_eq(tenon_context_device(ctx, 1), "cpu");
    tenon_context_destroy(ctx);
    tenon_context_desc desc = {.device = "opencl:2"};
    REFUSED(NULL, TENON_ERROR_NO_DEVICE, "only 2", tenon_context_create(&desc, &ctx));
}
END_TEST

/* ---- operands in the host's memory ---- */

START_TEST(host_memory) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    tenon_context *ctx = context_on("opencl");
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
    ck_assert_str_eq(info.device, "opencl");
    product_fill(p);
    OK(ctx, tenon_gemm_run(ctx, plan, &g));
    ck_assert(is_right(p));
    tenon_plan_destroy(plan);
    tenon_context_destroy(ctx);
    ck_assert_int_eq(driver->live(), 0);
    free(p);
}
END_TEST

/* What lies between the elements of an output is somebody else's, and stays. */
START_TEST(outputs_with_gaps) {
    enum { STEP = 3, ROW = N * STEP + 5 };
    product *p = malloc(sizeof *p);
    float *wide = malloc(M * ROW * sizeof *wide);
    const int64_t shape[2] = {M, N}, stride[2] = {ROW, STEP}, turned[2] = {1, M};
    pretend(_i);
    tenon_context *ctx = context_on("opencl");
    product_fill(p);
    for (int i = 0; i < M * ROW; ++i)
        wide[i] = (float)i;
    tenon_gemm_desc g = product_of(p);
    g.c = tenon_strided(wide, TENON_F32, 2, shape, stride);
    OK(ctx, tenon_gemm(ctx, &g));
    for (int i = 0; i < M * ROW; ++i) {
        const int row = i / ROW, column = i % ROW;
        const bool element = column < N * STEP && column % STEP == 0;
        ck_assert_float_eq(wide[i], element ? p->expected[row * N + column / STEP] : (float)i);
    }
    g.c = tenon_strided(wide, TENON_F32, 2, shape, turned);
    OK(ctx, tenon_gemm(ctx, &g));
    for (int i = 0; i < M * N; ++i)
        ck_assert_float_eq(wide[i / N + i % N * M], p->expected[i]);
    tenon_context_destroy(ctx);
    free(wide);
    free(p);
}
END_TEST

START_TEST(inputs_of_any_strides) {
    product *p = malloc(sizeof *p);
    float *a = malloc(sizeof p->a), *b = malloc(sizeof p->b);
    const int64_t shape_a[2] = {M, K}, turned[2] = {1, M}, shape_b[2] = {K, N}, back[2] = {-N, -1};
    pretend(_i);
    tenon_context *ctx = context_on("opencl");
    product_fill(p);
    for (int i = 0; i < M * K; ++i)
        a[i / K + i % K * M] = p->a[i];
    for (int i = 0; i < K * N; ++i)
        b[K * N - 1 - i] = p->b[i];
    tenon_gemm_desc g = product_of(p);
    g.a = tenon_strided(a, TENON_F32, 2, shape_a, turned);
    g.b = tenon_strided(b + K * N - 1, TENON_F32, 2, shape_b, back);
    OK(ctx, tenon_gemm(ctx, &g));
    ck_assert(is_right(p));
    tenon_context_destroy(ctx);
    free(a);
    free(b);
    free(p);
}
END_TEST

START_TEST(no_staging) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    const tenon_context_desc desc = {.device = "opencl", .flags = TENON_CONTEXT_NO_STAGING};
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

typedef struct buffers {
    tenon_buffer *a, *b, *c;
} buffers;

static buffers load(tenon_context *ctx, tenon_pool *pool, const product *p) {
    buffers x;
    OK(NULL, tenon_buffer_alloc(pool, sizeof p->a + 12, "a", &x.a));
    OK(NULL, tenon_buffer_alloc(pool, sizeof p->b, "b", &x.b));
    OK(NULL, tenon_buffer_alloc(pool, sizeof p->c, "c", &x.c));
    OK(ctx, tenon_buffer_write(ctx, x.a, 12, p->a, sizeof p->a));
    OK(ctx, tenon_buffer_write(ctx, x.b, 0, p->b, sizeof p->b));
    OK(ctx, tenon_buffer_write(ctx, x.c, 0, p->c, sizeof p->c));
    return x;
}

static tenon_gemm_desc product_in(const buffers *x) {
    return (tenon_gemm_desc){.a = tenon_matrix_in(x->a, 12, TENON_F32, M, K),
                             .b = tenon_matrix_in(x->b, 0, TENON_F32, K, N),
                             .c = tenon_matrix_in(x->c, 0, TENON_F32, M, N)};
}

static void unload(buffers *x) {
    tenon_buffer_free(x->a);
    tenon_buffer_free(x->b);
    tenon_buffer_free(x->c);
}

START_TEST(device_buffers) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    tenon_context *ctx = context_on("opencl");
    product_fill(p);
    buffers x = load(ctx, tenon_context_pool(ctx, 0), p);
    const tenon_gemm_desc g = product_in(&x);
    OK(ctx, tenon_gemm(ctx, &g));
    OK(ctx, tenon_buffer_read(ctx, x.c, 0, p->c, sizeof p->c)); /* in order, so without a wait */
    ck_assert(is_right(p));
    ck_assert_ptr_null(tenon_buffer_host(x.c));

    void *host;
    tenon_buffer *view;
    OK(NULL, tenon_buffer_view(x.c, N * sizeof(float), N * sizeof(float), &view));
    OK(ctx, tenon_buffer_map(ctx, view, 0, N * sizeof(float), &host));
    ck_assert_mem_eq(host, p->expected + N, N * sizeof(float));
    ((float *)host)[0] = 4711;
    OK(ctx, tenon_buffer_unmap(ctx, view, host));
    OK(ctx, tenon_buffer_read(ctx, x.c, 0, p->c, sizeof p->c));
    ck_assert_float_eq(p->c[N], 4711);

    tenon_native_kind kind;
    void *native, *whole;
    size_t offset, start;
    ck_assert_int_eq(tenon_buffer_native(view, &kind, &native, &offset), TENON_OK);
    ck_assert_int_eq(tenon_buffer_native(x.c, NULL, &whole, &start), TENON_OK);
    ck_assert_int_eq(kind, TENON_NATIVE_OPENCL);
    ck_assert_ptr_eq(native, whole);
    ck_assert_uint_eq(offset, start + N * sizeof(float));
    tenon_buffer_free(view);
    unload(&x);
    tenon_context_destroy(ctx);
    ck_assert_int_eq(driver->live(), 0);
    free(p);
}
END_TEST

/* Overlaps are seen in a device's memory as in the host's. */
START_TEST(overlap_in_buffers) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    tenon_context *ctx = context_on("opencl");
    product_fill(p);
    buffers x = load(ctx, tenon_context_pool(ctx, 0), p);
    tenon_gemm_desc g = product_in(&x);
    g.c = tenon_matrix_in(x.a, 8, TENON_F32, M, N);
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "overlaps", tenon_gemm(ctx, &g));
    g.c = tenon_matrix_in(x.a, sizeof p->a, TENON_F32, M, N);
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "c.offset", tenon_gemm(ctx, &g));
    unload(&x);
    tenon_context_destroy(ctx);
    free(p);
}
END_TEST

/* A pool of the device's without a context; buffers that outlive every context; both used by the
 * CPU. */
START_TEST(memory_of_others) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    const tenon_pool_desc desc = {.device = "opencl:0", .budget = 8 << 20};
    tenon_pool *pool;
    OK(NULL, tenon_pool_create(&desc, &pool));
    tenon_context *cpu = context_on("cpu"), *cl = context_on("opencl"),
                  *other = context_on("opencl:1");
    tenon_context *const all[] = {cpu, cl, other};
    product_fill(p);
    buffers x = load(cpu, pool, p);
    const tenon_gemm_desc g = product_in(&x);
    for (int i = 0; i < 3; ++i) {
        product_fill(p);
        OK(cl, tenon_buffer_write(cl, x.c, 0, p->c, sizeof p->c));
        OK(all[i], tenon_gemm(all[i], &g));
        OK(all[i], tenon_sync(all[i]));
        OK(cpu, tenon_buffer_read(cpu, x.c, 0, p->c, sizeof p->c));
        ck_assert(is_right(p));
    }
    tenon_context_destroy(cl);
    tenon_context_destroy(other);
    product_fill(p);
    OK(cpu, tenon_buffer_write(cpu, x.c, 0, p->c, sizeof p->c));
    OK(cpu, tenon_gemm(cpu, &g));
    OK(cpu, tenon_buffer_read(cpu, x.c, 0, p->c, sizeof p->c));
    ck_assert(is_right(p));
    tenon_pool_destroy(pool);
    unload(&x);
    tenon_context_destroy(cpu);
    ck_assert_int_eq(driver->live(), 0);
    free(p);
}
END_TEST

/* What a call reads before it runs may lie on the device. */
START_TEST(offsets_on_the_device) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    const int64_t experts = 2, shape[3] = {experts, K, N};
    int32_t offsets[3] = {0, 5, M};
    tenon_context *cpu = context_on("cpu"), *cl = context_on("opencl");
    tenon_buffer *buffer;
    float *b = malloc(2 * sizeof p->b);
    product_fill(p);
    memcpy(b, p->b, sizeof p->b);
    memcpy(b + K * N, p->b, sizeof p->b);
    OK(NULL, tenon_buffer_alloc(tenon_context_pool(cl, 0), sizeof offsets, "offsets", &buffer));
    OK(cl, tenon_buffer_write(cl, buffer, 0, offsets, sizeof offsets));
    tenon_gemm_desc g = product_of(p);
    g.b = tenon_dense(b, TENON_F32, 3, shape);
    g.group_offsets = tenon_vector(NULL, TENON_S32, 3);
    g.group_offsets.buffer = buffer;
    OK(cpu, tenon_gemm(cpu, &g));
    ck_assert(is_right(p));
    offsets[1] = M + 1;
    OK(cl, tenon_buffer_write(cl, buffer, 0, offsets, sizeof offsets));
    product_fill(p);
    REFUSED(cpu, TENON_ERROR_INVALID_ARGUMENT, "group_offsets[1]", tenon_gemm(cpu, &g));
    ck_assert(is_untouched(p));
    tenon_buffer_free(buffer);
    tenon_context_destroy(cpu);
    tenon_context_destroy(cl);
    free(b);
    free(p);
}
END_TEST

/* A merge's parts are operands beside the roles. */
START_TEST(merged_parts) {
    enum { ROWS = 5, DV = 8, PARTS = 24, ALL = ROWS * DV };
    float o[PARTS][ALL], lse[PARTS][ROWS], right[ALL], out[ALL];
    const int64_t shape_o[2] = {ROWS, DV}, shape_lse[1] = {ROWS};
    tenon_tensor o_parts[PARTS], lse_parts[PARTS];
    tenon_buffer *buffer;
    pretend(_i);
    tenon_context *cpu = context_on("cpu"), *chain = context_on("opencl,cpu");
    for (int p = 0; p < PARTS; ++p) {
        for (int i = 0; i < ALL; ++i)
            o[p][i] = (float)((i * 7 + p * 3) % 11) - 5;
        for (int i = 0; i < ROWS; ++i)
            lse[p][i] = (float)((i + p) % 3);
        o_parts[p] = tenon_dense(o[p], TENON_F32, 2, shape_o);
        lse_parts[p] = tenon_dense(lse[p], TENON_F32, 1, shape_lse);
    }
    tenon_attention_merge_desc d = {.count = PARTS,
                                    .o_parts = o_parts,
                                    .lse_parts = lse_parts,
                                    .o = tenon_dense(right, TENON_F32, 2, shape_o)};
    OK(cpu, tenon_attention_merge(cpu, &d));
    OK(NULL,
       tenon_buffer_alloc(tenon_context_pool(chain, 0), sizeof o + sizeof lse, "parts", &buffer));
    OK(chain, tenon_buffer_write(chain, buffer, 0, o, sizeof o));
    OK(chain, tenon_buffer_write(chain, buffer, sizeof o, lse, sizeof lse));
    for (int p = 0; p < PARTS; ++p) {
        o_parts[p].data = lse_parts[p].data = NULL;
        o_parts[p].buffer = lse_parts[p].buffer = buffer;
        o_parts[p].offset = (size_t)p * sizeof o[0];
        lse_parts[p].offset = sizeof o + (size_t)p * sizeof lse[0];
    }
    d.o = tenon_dense(out, TENON_F32, 2, shape_o);
    OK(cpu, tenon_attention_merge(cpu, &d));
    ck_assert_mem_eq(out, right, sizeof right);
    memset(out, 0, sizeof out);
    OK(chain, tenon_attention_merge(chain, &d));
    for (int i = 0; i < ALL; ++i)
        ck_assert_float_eq_tol(out[i], right[i], 1e-5f);
    tenon_buffer_free(buffer);
    tenon_context_destroy(cpu);
    tenon_context_destroy(chain);
}
END_TEST

/* ---- the caller's own objects ---- */

START_TEST(borrowed_objects) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    cl_platform_id platform;
    cl_device_id device;
    cl_int code;
    ck_assert_int_eq(clGetPlatformIDs(1, &platform, NULL), CL_SUCCESS);
    ck_assert_int_eq(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL), CL_SUCCESS);
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &code);
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, &code);
    cl_mem memory = clCreateBuffer(context, CL_MEM_READ_WRITE, sizeof p->c + 64, NULL, &code);
    ck_assert_ptr_nonnull(memory);

    const tenon_context_desc desc = {
        .device = "opencl", .native_context = context, .native_queue = queue};
    tenon_context *ctx = open_context(&desc);
    void *lent_context, *lent_queue;
    OK(ctx, tenon_context_native(ctx, &lent_context, &lent_queue));
    ck_assert_ptr_eq(lent_context, context);
    ck_assert_ptr_eq(lent_queue, queue);

    tenon_pool *pool = tenon_context_pool(ctx, 0);
    tenon_buffer *c;
    REFUSED(NULL, TENON_ERROR_INVALID_ARGUMENT, "bytes",
            tenon_buffer_import(pool, TENON_NATIVE_OPENCL, memory, sizeof p->c + 65, &c));
    OK(NULL, tenon_buffer_import(pool, TENON_NATIVE_OPENCL, memory, sizeof p->c + 64, &c));
    ck_assert_int_eq(clReleaseMemObject(memory), CL_SUCCESS); /* the buffer holds it */
    product_fill(p);
    tenon_gemm_desc g = product_of(p);
    g.c = tenon_matrix_in(c, 64, TENON_F32, M, N);
    OK(ctx, tenon_gemm(ctx, &g));
    ck_assert_int_eq(
        clEnqueueReadBuffer(queue, memory, CL_TRUE, 64, sizeof p->c, p->c, 0, NULL, NULL),
        CL_SUCCESS);
    ck_assert(is_right(p));

    /* Memory of another cl_context is copied: here by a context with objects of its own. */
    tenon_context *own = context_on("opencl");
    product_fill(p);
    OK(own, tenon_buffer_write(own, c, 64, p->c, sizeof p->c));
    OK(own, tenon_gemm(own, &g));
    OK(own, tenon_buffer_read(own, c, 64, p->c, sizeof p->c));
    ck_assert(is_right(p));
    tenon_context *none;
    tenon_context_desc wrong = {.device = "opencl", .native_queue = queue};
    REFUSED(NULL, TENON_ERROR_INVALID_ARGUMENT, "native_context",
            tenon_context_create(&wrong, &none));
    wrong = (tenon_context_desc){.device = "cpu", .native_context = context};
    REFUSED(NULL, TENON_ERROR_UNSUPPORTED, "native_context", tenon_context_create(&wrong, &none));
    tenon_context *shared;
    wrong = (tenon_context_desc){.device = "opencl", .pool = pool};
    REFUSED(NULL, TENON_ERROR_INVALID_ARGUMENT, "pool", tenon_context_create(&wrong, &shared));

    /* One that the host may not read is refused; nothing is lost by that. */
    tenon_buffer *hidden;
    cl_mem closed =
        clCreateBuffer(context, CL_MEM_READ_WRITE | CL_MEM_HOST_NO_ACCESS, 64, NULL, &code);
    ck_assert_ptr_nonnull(closed);
    OK(NULL, tenon_buffer_import(pool, TENON_NATIVE_OPENCL, closed, 64, &hidden));
    ck_assert_int_eq(clReleaseMemObject(closed), CL_SUCCESS);
    void *host;
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "buffer",
            tenon_buffer_read(ctx, hidden, 0, p->c, 64));
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "buffer",
            tenon_buffer_write(ctx, hidden, 0, p->c, 64));
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "buffer",
            tenon_buffer_map(ctx, hidden, 0, 64, &host));
    OK(ctx, tenon_gemm(ctx, &g));
    tenon_buffer_free(hidden);
    REFUSED(NULL, TENON_ERROR_INVALID_ARGUMENT, "address space",
            tenon_buffer_import(pool, TENON_NATIVE_HOST, (void *)~(uintptr_t)4095, 8192, &hidden));
    tenon_buffer_free(c);
    tenon_context_destroy(own);
    tenon_context_destroy(ctx);
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
    free(p);
}
END_TEST

/* ---- kernels in memory ---- */

/* What one context compiled another has without compiling, also in a cl_context of the caller's. */
START_TEST(kernels_in_memory) {
    product *p = malloc(sizeof *p);
    size_t bytes, again;
    pretend(_i);
    tenon_context *ctx = context_on("opencl");
    const tenon_gemm_desc g = product_of(p);
    product_fill(p);
    OK(ctx, tenon_gemm(ctx, &g));
    OK(ctx, tenon_context_save_kernels(ctx, NULL, 0, &bytes));
    ck_assert_uint_gt(bytes, 1000); /* a program of any driver's */
    void *memory = malloc(bytes);
    OK(ctx, tenon_context_save_kernels(ctx, memory, bytes, &again));
    ck_assert_uint_eq(again, bytes);
    int32_t loaded = 77;
    OK(ctx, tenon_context_load_kernels(ctx, memory, bytes, &loaded));
    ck_assert_int_eq(loaded, 0); /* has them */
    tenon_context_destroy(ctx);

    cl_platform_id platform;
    cl_device_id device;
    cl_int code;
    ck_assert_int_eq(clGetPlatformIDs(1, &platform, NULL), CL_SUCCESS);
    ck_assert_int_eq(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL), CL_SUCCESS);
    cl_context lent = clCreateContext(NULL, 1, &device, NULL, NULL, &code);
    const tenon_context_desc descs[] = {{.device = "opencl"},
                                        {.device = "opencl", .native_context = lent}};
    for (int i = 0; i < 2; ++i) {
        ctx = open_context(&descs[i]);
        OK(ctx, tenon_context_load_kernels(ctx, memory, bytes, &loaded));
        ck_assert_int_eq(loaded, 1);
        driver->only("clCreateProgramWithSource");
        driver->strike(0, 0, STAND_IN_SHORT);
        product_fill(p);
        OK(ctx, tenon_gemm(ctx, &g));
        ck_assert(is_right(p));
        ck_assert_uint_eq(driver->calls(), 0);
        driver->only(NULL);
        tenon_context_destroy(ctx);
    }
    clReleaseContext(lent);
    free(memory);
    free(p);
}
END_TEST

/* ---- running short ---- */

/* A budget that the operands do not fit into: the next device, or a failure with its figures. */
START_TEST(budgets) {
    enum { SIDE = 512 };
    const size_t bytes = SIDE * SIDE * sizeof(float);
    float *a = malloc(bytes), *c = malloc(bytes);
    pretend(_i);
    tenon_context_desc desc = {.device = "opencl", .memory_budget = 64 << 10};
    tenon_context *ctx = open_context(&desc);
    for (int i = 0; i < SIDE * SIDE; ++i) {
        a[i] = (float)(i / SIDE == i % SIDE);
        c[i] = -777;
    }
    const tenon_gemm_desc g = {.a = tenon_matrix(a, TENON_F32, SIDE, SIDE),
                               .b = tenon_matrix(a, TENON_F32, SIDE, SIDE),
                               .c = tenon_matrix(c, TENON_F32, SIDE, SIDE)};
    REFUSED(ctx, TENON_ERROR_OVER_BUDGET, "opencl", tenon_gemm(ctx, &g));
    ck_assert_float_eq(c[0], -777);
    tenon_memory_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(tenon_memory_stats(tenon_context_pool(ctx, 0), &info), TENON_OK);
    ck_assert_uint_ge(info.ladder.failures, 1);
    tenon_context_destroy(ctx);
    desc.device = "opencl,cpu";
    ctx = open_context(&desc);
    OK(ctx, tenon_gemm(ctx, &g));
    ck_assert_mem_eq(c, a, bytes);
    ck_assert_int_eq(tenon_memory_stats(tenon_context_pool(ctx, 0), &info), TENON_OK);
    ck_assert_uint_ge(info.ladder.device_changes, 1);
    ck_assert_uint_eq(info.ladder.failures, 0);
    tenon_context_destroy(ctx);
    free(a);
    free(c);
}
END_TEST

/* What is copied and the workspace share a budget: where one budget is enough a larger one is, and
 * the results are the same. */
START_TEST(budgets_that_grow) {
    enum { ROWS = 300, COLUMNS = 350, STEPS = 500 };
    const size_t of_c = ROWS * COLUMNS * sizeof(float);
    float *a = calloc(ROWS * STEPS, sizeof *a), *b = calloc(STEPS * COLUMNS, sizeof *b),
          *c = malloc(of_c), *expected = malloc(of_c);
    bool enough = false;
    pretend(_i);
    for (int i = 0; i < ROWS * STEPS; ++i)
        a[i] = (float)(i % 7 - 3);
    for (int i = 0; i < STEPS * COLUMNS; ++i)
        b[i] = (float)(i % 5 - 2);
    tenon_gemm_desc g = {.a = tenon_matrix(a, TENON_F32, ROWS, STEPS),
                         .b = tenon_matrix(b, TENON_F32, STEPS, COLUMNS),
                         .c = tenon_matrix(expected, TENON_F32, ROWS, COLUMNS)};
    tenon_context *ctx = context_on("cpu");
    OK(ctx, tenon_gemm(ctx, &g));
    tenon_context_destroy(ctx);
    g.c = tenon_matrix(c, TENON_F32, ROWS, COLUMNS);
    for (size_t budget = 256 << 10; budget <= 8 << 20; budget += 256 << 10) {
        const tenon_context_desc desc = {.device = "opencl", .memory_budget = budget};
        ctx = open_context(&desc);
        for (int i = 0; i < ROWS * COLUMNS; ++i)
            c[i] = -777;
        const tenon_status status = tenon_gemm(ctx, &g);
        if (status == TENON_OK)
            ck_assert_mem_eq(c, expected, of_c);
        else
            ck_assert_float_eq(c[0], -777);
        ck_assert_msg(status == TENON_OK || !enough, "budget %zu: %s", budget,
                      tenon_error_message(ctx));
        enough |= status == TENON_OK;
        tenon_context_destroy(ctx);
    }
    ck_assert(enough);
    free(a);
    free(b);
    free(c);
    free(expected);
}
END_TEST

/* A driver that makes buffers and finds out later that it has nothing for them: a card's segments
 * are touched when they are made, so that it is an ordinary failure. */
START_TEST(late_allocation) {
    const stand_in_limits limits = {.discrete = 1, .late_bytes = 1 << 20};
    product *p = malloc(sizeof *p);
    driver = stand_in_controls();
    driver->pretend(&limits);
    tenon_context *ctx = context_on("opencl,cpu");
    tenon_buffer *buffer;
    REFUSED(NULL, TENON_ERROR_OUT_OF_MEMORY, "opencl",
            tenon_buffer_alloc(tenon_context_pool(ctx, 0), 4 << 20, "late", &buffer));
    product_fill(p);
    const tenon_gemm_desc g = product_of(p);
    OK(ctx, tenon_gemm(ctx, &g));
    ck_assert(is_right(p));
    tenon_context_destroy(ctx);
    ck_assert_int_eq(driver->live(), 0);
    free(p);
}
END_TEST

/* Limits that leave room for nothing: answers with names, or the next device. */
START_TEST(absurd_limits) {
    const stand_in_limits list[] = {
        {.alloc_bytes = 1, .discrete = _i},    {.memory_bytes = 1, .discrete = _i},
        {.group_items = 1, .discrete = _i},    {.local_bytes = 1, .discrete = _i},
        {.argument_bytes = 8, .discrete = _i}, {.alloc_bytes = 64 << 10, .discrete = _i},
    };
    product *p = malloc(sizeof *p);
    driver = stand_in_controls();
    for (size_t i = 0; i < sizeof list / sizeof list[0]; ++i) {
        driver->pretend(&list[i]);
        tenon_context *ctx = context_on("opencl,cpu");
        product_fill(p);
        const tenon_gemm_desc g = product_of(p);
        const tenon_status status = tenon_gemm(ctx, &g);
        ck_assert_msg(status == TENON_OK || status == TENON_ERROR_INTERNAL, "%d: %s", (int)i,
                      tenon_error_message(ctx));
        ck_assert(status == TENON_OK ? is_right(p) : is_untouched(p));
        tenon_context_destroy(ctx);
        ck_assert_int_eq(driver->live(), 0);
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
    for (int i = 0; i < 20; ++i) {
        product_fill(p);
        w->wrong += tenon_gemm(ctx, &g) != TENON_OK || !is_right(p);
    }
    tenon_context_destroy(ctx);
    free(p);
    return NULL;
}

START_TEST(contexts_on_threads) {
    worker w[4] = {{"opencl:0"}, {"opencl:1"}, {"opencl:0"}, {"opencl:1,cpu"}};
    pretend(_i);
    for (int i = 0; i < 4; ++i)
        ck_assert_int_eq(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    for (int i = 0; i < 4; ++i) {
        pthread_join(w[i].thread, NULL);
        ck_assert_int_eq(w[i].wrong, 0);
    }
    ck_assert_int_eq(driver->live(), 0);
}
END_TEST

/* A driver's threads are the parent's: the child is told so, and the CPU goes on. */
START_TEST(forked) {
    product *p = malloc(sizeof *p);
    pretend(_i);
    tenon_context *ctx = context_on("opencl"), *chain = context_on("opencl,cpu");
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
        const tenon_context_desc desc = {.device = "opencl"};
        const bool refused = tenon_context_create(&desc, &late) == TENON_ERROR_NO_DEVICE;
        tenon_context_destroy(ctx);
        tenon_context_destroy(chain);
        _exit(lost && went_on && refused ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    product_fill(p);
    OK(ctx, tenon_gemm(ctx, &g));
    ck_assert(is_right(p));
    tenon_context_destroy(ctx);
    tenon_context_destroy(chain);
    free(p);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("opencl_host");
    TCase *t = tcase_create("opencl_host");
    tcase_set_timeout(t, 120);
    const TTest *const both[] = {
        host_memory,       outputs_with_gaps,  inputs_of_any_strides, no_staging,
        device_buffers,    overlap_in_buffers, memory_of_others,      offsets_on_the_device,
        borrowed_objects,  kernels_in_memory,  merged_parts,          budgets,
        budgets_that_grow, absurd_limits,      contexts_on_threads,   forked};
    for (size_t i = 0; i < sizeof both / sizeof both[0]; ++i)
        tcase_add_loop_test(t, both[i], 0, 2);
    tcase_add_test(t, auto_is_no_opencl_device);
    tcase_add_test(t, late_allocation);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    setenv("CK_FORK", "no", 0);
    const stand_in_limits limits = {.devices = 2};
    stand_in_controls()->pretend(&limits);
    const int missing = need_driver();
    return missing ? missing : run_suite(suite());
}
