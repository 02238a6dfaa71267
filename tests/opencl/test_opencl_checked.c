/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kernel once, on small operands that are each a memory object of their own, so that a device
 * which checks (oclgrind: races, reads of what nobody wrote, accesses outside an object) sees as
 * much as it can. checked_opencl.py runs it there and searches what the device said; results are
 * compared with the CPU's here.
 */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include <math.h>

#include "opencl_support.h"

enum { MAX_OBJECTS = 32 };

static cl_context context;
static cl_command_queue queue;
static tenon_context *cl, *cpu;

/* The operands of a call: in the host's memory, and the same in objects of the device's. */
static struct {
    int count;
    void *host[MAX_OBJECTS];
    tenon_buffer *buffer[MAX_OBJECTS];
    size_t bytes[MAX_OBJECTS];
} operands;

static void open_all(void) {
    cl_platform_id platform;
    cl_device_id device;
    cl_int code;
    ck_assert_int_eq(clGetPlatformIDs(1, &platform, NULL), CL_SUCCESS);
    ck_assert_int_eq(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL), CL_SUCCESS);
    context = clCreateContext(NULL, 1, &device, NULL, NULL, &code);
    queue = clCreateCommandQueue(context, device, 0, &code);
    const tenon_context_desc desc = {
        .device = "opencl", .native_context = context, .native_queue = queue};
    cl = open_context(&desc);
    cpu = context_on("cpu");
}

static void close_all(void) {
    tenon_context_destroy(cl);
    tenon_context_destroy(cpu);
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
}

/* Host memory of a dense tensor; inputs hold small numbers. */
static tenon_tensor tensor(tenon_dtype dtype, int32_t rank, const int64_t *shape) {
    tenon_tensor t = tenon_dense(NULL, dtype, rank, shape);
    int64_t count = 1, elements;
    size_t size;
    for (int32_t d = 0; d < rank; ++d)
        count *= shape[d];
    ck_assert_int_eq(tenon_dtype_block(dtype, &elements, &size), TENON_OK);
    const int at = operands.count++;
    operands.bytes[at] = (size_t)count * size;
    t.data = operands.host[at] = malloc(operands.bytes[at]);
    for (int64_t i = 0; i < count; ++i) {
        const int value = (int)(i * 7 + at * 3) % 11 - 5;
        if (dtype == TENON_F32)
            ((float *)t.data)[i] = (float)value / 4;
        else if (dtype == TENON_F64)
            ((double *)t.data)[i] = (double)value / 4;
        else if (dtype == TENON_S8)
            ((int8_t *)t.data)[i] = (int8_t)value;
        else if (dtype == TENON_S32)
            ((int32_t *)t.data)[i] = 0;
        else /* f16, bf16: 1 and -2 in either */
            ((uint16_t *)t.data)[i] =
                dtype == TENON_F16 ? (value & 1 ? 0x3c00 : 0xc000) : (value & 1 ? 0x3f80 : 0xc000);
    }
    return t;
}

static tenon_tensor matrix(tenon_dtype dtype, int64_t rows, int64_t columns) {
    const int64_t shape[2] = {rows, columns};
    return tensor(dtype, 2, shape);
}

/* The same on the device: an object with a copy. */
static tenon_tensor there(tenon_tensor t) {
    int at = 0;
    cl_int code;
    while (operands.host[at] != t.data)
        ck_assert_int_lt(++at, operands.count);
    if (!operands.buffer[at]) {
        cl_mem object = clCreateBuffer(context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                                       operands.bytes[at], t.data, &code);
        ck_assert_ptr_nonnull(object);
        OK(NULL, tenon_buffer_import(tenon_context_pool(cl, 0), TENON_NATIVE_OPENCL, object,
                                     operands.bytes[at], &operands.buffer[at]));
        clReleaseMemObject(object);
    }
    t.data = NULL;
    t.buffer = operands.buffer[at];
    return t;
}

/* (k, n) of blocks along k. */
static tenon_tensor blocks(tenon_dtype dtype, int64_t k, int64_t n) {
    const int64_t shape[2] = {n, k};
    float *numbers = malloc((size_t)(n * k) * sizeof *numbers);
    tenon_tensor t = tenon_dense(NULL, dtype, 2, shape);
    int64_t elements;
    size_t size;
    ck_assert_int_eq(tenon_dtype_block(dtype, &elements, &size), TENON_OK);
    const int at = operands.count++;
    operands.bytes[at] = (size_t)(n * k / elements) * size;
    t.data = operands.host[at] = malloc(operands.bytes[at]);
    for (int64_t i = 0; i < n * k; ++i)
        numbers[i] = (float)((int)(i * 7) % 23 - 11) / 16;
    const tenon_quantize_desc q = {.x = tenon_matrix(numbers, TENON_F32, n, k), .y = t};
    OK(cpu, tenon_quantize(cpu, &q));
    free(numbers);
    return tenon_transposed(t);
}

/* What both have computed must agree. */
static void compare(const char *what, tenon_tensor t) {
    int at = 0;
    while (operands.host[at] != t.data)
        ck_assert_int_lt(++at, operands.count);
    float *found = malloc(operands.bytes[at]);
    const float *expected = t.data;
    OK(cl, tenon_buffer_read(cl, operands.buffer[at], 0, found, operands.bytes[at]));
    for (size_t i = 0; i < operands.bytes[at] / sizeof *found; ++i)
        if (!(fabsf(found[i] - expected[i]) <= 1e-5f * (1 + fabsf(expected[i]))))
            ck_abort_msg("%s: element %d is %g, expected %g", what, (int)i, found[i], expected[i]);
    free(found);
}

static void forget(void) {
    for (int i = 0; i < operands.count; ++i) {
        tenon_buffer_free(operands.buffer[i]);
        free(operands.host[i]);
    }
    memset(&operands, 0, sizeof operands);
}

/* ---- products: by each of their algorithms */

static void multiply(const char *what, const tenon_gemm_desc *host) {
    tenon_gemm_desc g = *host;
    tenon_tensor *const all[] = {&g.a, &g.b, &g.bias, &g.residual, &g.b_scale, &g.group_offsets};
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i)
        if (all[i]->rank > 0)
            *all[i] = there(*all[i]);
    OK(cpu, tenon_gemm(cpu, host));
    size_t limit = 0;
    for (bool more = true; more;) {
        tenon_plan *plan;
        tenon_plan_info info = {.struct_size = sizeof info};
        g.c = there(host->c);
        g.workspace.bytes = limit;
        OK(cl, tenon_gemm_plan(cl, &g, &plan));
        ck_assert_int_eq(tenon_plan_query(plan, &info), TENON_OK);
        OK(cl, tenon_gemm_run(cl, plan, &g));
        compare(what, host->c);
        printf("  %s: %s, %zu bytes of workspace\n", what, info.algorithm, info.workspace);
        more = info.workspace > 0;
        limit = info.workspace > 1 ? info.workspace - 1 : 1;
        tenon_plan_destroy(plan);
    }
    forget();
}

START_TEST(products) {
    const int64_t batch_a[3] = {2, 5, 9}, batch_b[3] = {2, 9, 11}, batch_c[3] = {2, 5, 11};
    open_all();
    multiply("f32", &(tenon_gemm_desc){.a = matrix(TENON_F32, 7, 260),
                                       .b = matrix(TENON_F32, 260, 19),
                                       .c = matrix(TENON_F32, 7, 19)});
    multiply("f64", &(tenon_gemm_desc){.a = matrix(TENON_F64, 5, 9),
                                       .b = matrix(TENON_F64, 9, 6),
                                       .c = matrix(TENON_F32, 5, 6)});
    multiply("one row", &(tenon_gemm_desc){.a = matrix(TENON_F32, 1, 40),
                                           .b = matrix(TENON_F32, 40, 37),
                                           .c = matrix(TENON_F32, 1, 37)});
    multiply("three rows of b transposed",
             &(tenon_gemm_desc){.a = matrix(TENON_F32, 3, 40),
                                .b = tenon_transposed(matrix(TENON_F16, 37, 40)),
                                .c = matrix(TENON_F32, 3, 37)});
    multiply("everything", &(tenon_gemm_desc){.a = matrix(TENON_BF16, 13, 24),
                                              .b = matrix(TENON_S8, 24, 34),
                                              .b_scale = matrix(TENON_F32, 2, 34),
                                              .bias = matrix(TENON_F32, 1, 34),
                                              .residual = matrix(TENON_F32, 13, 17),
                                              .gated = TENON_GATED_HALVES,
                                              .activation = TENON_ACTIVATION_GELU,
                                              .c = matrix(TENON_F32, 13, 17)});
    multiply("bytes", &(tenon_gemm_desc){.a = matrix(TENON_S8, 6, 33),
                                         .b = matrix(TENON_S8, 33, 10),
                                         .c = matrix(TENON_F32, 6, 10)});
    /* Large enough to be packed, which GPUs don't. Not where reads of unwritten memory are looked
     * for: oclgrind 21.10 takes what one kernel packed for unwritten in the next. */
    const char *family = getenv("TENON_OPENCL_FAMILY"), *checks = getenv("OCLGRIND_UNINITIALIZED");
    if (!checks && (!family || strcmp(family, "gpu") != 0))
        multiply("workspace", &(tenon_gemm_desc){.a = matrix(TENON_F16, 96, 64),
                                                 .b = matrix(TENON_F16, 64, 64),
                                                 .c = matrix(TENON_F32, 96, 64)});
    multiply("batch", &(tenon_gemm_desc){.a = tensor(TENON_F32, 3, batch_a),
                                         .b = tensor(TENON_F32, 3, batch_b),
                                         .c = tensor(TENON_F32, 3, batch_c)});
    close_all();
}
END_TEST

/* Each type, since each has a decoder; of GPUs' kernels, which are slow on a device that checks, each
 * kind of unit. */
START_TEST(products_of_blocks) {
    const char *family = getenv("TENON_OPENCL_FAMILY");
    const bool few = family && strcmp(family, "gpu") == 0;
    open_all();
    for (int type = TENON_Q8_0; type <= TENON_NVFP4; ++type)
        for (int fast = 0; fast < 2; ++fast) {
            if (few && type != TENON_Q8_0 && type != TENON_Q4_1 && type < TENON_MXFP4)
                continue;
            char what[48];
            int64_t m = (type + fast) % 3 ? 2 : 9, k;
            ck_assert_int_eq(tenon_dtype_block((tenon_dtype)type, &k, NULL), TENON_OK);
            snprintf(what, sizeof what, "%s, fast %d", tenon_dtype_name((tenon_dtype)type), fast);
            multiply(what, &(tenon_gemm_desc){.a = matrix(TENON_F32, m, k),
                                              .b = blocks((tenon_dtype)type, k, 11),
                                              .c = matrix(TENON_F32, m, 11),
                                              .compute =
                                                  fast ? TENON_COMPUTE_FAST : TENON_COMPUTE_EXACT});
        }
    close_all();
}
END_TEST

START_TEST(numbers_of_blocks) {
    open_all();
    for (int type = TENON_Q8_0; type <= TENON_NVFP4; ++type) {
        const tenon_quantize_desc host = {.x = tenon_transposed(blocks((tenon_dtype)type, 256, 2)),
                                          .y = matrix(TENON_F32, 2, 256)};
        tenon_quantize_desc d = host;
        d.x = there(host.x);
        d.y = there(host.y);
        OK(cpu, tenon_dequantize(cpu, &host));
        OK(cl, tenon_dequantize(cl, &d));
        compare(tenon_dtype_name((tenon_dtype)type), host.y);
        forget();
    }
    close_all();
}
END_TEST

/* ---- softmax, attention, the cache */

START_TEST(rows) {
    open_all();
    for (int log = 0; log < 2; ++log) {
        const tenon_softmax_desc host = {
            .x = matrix(TENON_F32, 3, 45), .y = matrix(TENON_F32, 3, 45), .log = log};
        tenon_softmax_desc s = host;
        s.x = there(host.x);
        s.y = there(host.y);
        OK(cpu, tenon_softmax(cpu, &host));
        OK(cl, tenon_softmax(cl, &s));
        compare("softmax", host.y);
        forget();
    }
    close_all();
}
END_TEST

static void attend(const char *what, int64_t queries, int64_t keys, int64_t heads, int causal) {
    const int64_t shape_q[4] = {1, heads, queries, 12}, shape_k[4] = {1, heads, keys, 12},
                  shape_lse[3] = {1, heads, queries};
    const tenon_attention_desc host = {.q = tensor(TENON_F32, 4, shape_q),
                                       .k = tensor(TENON_F32, 4, shape_k),
                                       .v = tensor(TENON_F32, 4, shape_k),
                                       .o = tensor(TENON_F32, 4, shape_q),
                                       .lse = tensor(TENON_F32, 3, shape_lse),
                                       .causal = (tenon_causal)causal};
    tenon_attention_desc d = host;
    d.q = there(host.q);
    d.k = there(host.k);
    d.v = there(host.v);
    d.o = there(host.o);
    d.lse = there(host.lse);
    OK(cpu, tenon_attention(cpu, &host));
    OK(cl, tenon_attention(cl, &d));
    compare(what, host.o);
    compare(what, host.lse);
    forget();
}

START_TEST(attention) {
    open_all();
    attend("prefill", 9, 21, 2, TENON_CAUSAL_BOTTOM_RIGHT);
    attend("decode", 1, 300, 1, TENON_CAUSAL_NONE); /* more than a block of keys */
    close_all();
}
END_TEST

START_TEST(cache) {
    enum { PARTS = 5 };
    const int64_t shape[3] = {1, 4, 8}, shape_lse[2] = {1, 4};
    tenon_tensor o[PARTS], lse[PARTS], o_there[PARTS], lse_there[PARTS];
    open_all();
    for (int i = 0; i < PARTS; ++i) {
        o[i] = tensor(TENON_F32, 3, shape);
        lse[i] = tensor(TENON_F32, 2, shape_lse);
        o_there[i] = there(o[i]);
        lse_there[i] = there(lse[i]);
    }
    const tenon_attention_merge_desc host = {
        .count = PARTS, .o_parts = o, .lse_parts = lse, .o = tensor(TENON_F32, 3, shape)};
    tenon_attention_merge_desc d = host;
    d.o_parts = o_there;
    d.lse_parts = lse_there;
    d.o = there(host.o);
    OK(cpu, tenon_attention_merge(cpu, &host));
    OK(cl, tenon_attention_merge(cl, &d));
    compare("merge", host.o);
    forget();

    const int64_t rows_of[4] = {1, 2, 3, 8}, cache_of[4] = {1, 2, 6, 8}, one[1] = {1};
    const tenon_kv_append_desc append = {.k = tensor(TENON_F32, 4, rows_of),
                                         .k_cache = tensor(TENON_F32, 4, cache_of),
                                         .positions = tensor(TENON_S32, 1, one)};
    tenon_kv_append_desc a = append;
    a.k = there(append.k);
    a.k_cache = there(append.k_cache);
    OK(cpu, tenon_kv_append(cpu, &append));
    OK(cl, tenon_kv_append(cl, &a)); /* positions are read on the host first */
    compare("append", append.k_cache);
    forget();
    close_all();
}
END_TEST

int main(void) {
    setenv("CK_FORK", "no", 0);
    const int missing = need_driver();
    if (missing)
        return missing;
    Suite *s = suite_create("opencl_checked");
    TCase *t = tcase_create("opencl_checked");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, products);
    tcase_add_test(t, products_of_blocks);
    tcase_add_test(t, numbers_of_blocks);
    tcase_add_test(t, rows);
    tcase_add_test(t, attention);
    tcase_add_test(t, cache);
    suite_add_tcase(s, t);
    return run_suite(s);
}
