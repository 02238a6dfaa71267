/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where drivers have an edge: memory that several objects would share, mappings, kernels that a
 * compiler refuses, a device that is gone. Through the stand-in, on the machine's driver, once as
 * it is and once as a card with memory of its own.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "opencl_support.h"

static const stand_in_calls *driver;

static void pretend(int discrete) {
    const stand_in_limits limits = {.discrete = discrete};
    driver->pretend(&limits);
}

/* ---- memory ---- */

/* Inputs that share memory become one memory of the device's; what the device has already and is
 * not the same is copied, or refused where it is to be imported. */
START_TEST(shared_inputs) {
    enum { ROWS = 24, DEPTH = 16, WIDE = 3 * DEPTH };
    const int64_t shape[4] = {1, 1, ROWS, DEPTH}, stride[4] = {0, 0, WIDE, 1};
    float qkv[ROWS * WIDE], o[2][ROWS * DEPTH], square[2][ROWS * ROWS];
    pretend(_i);
    tenon_context *const all[] = {context_on("cpu"), context_on("opencl")};
    tenon_buffer *part = NULL, *same = NULL, *whole = NULL;
    for (int i = 0; i < ROWS * WIDE; ++i)
        qkv[i] = (float)(i * 7 % 13) / 13 - 0.5f;
    tenon_tensor x = tenon_dense(qkv, TENON_F32, 4, shape);
    memcpy(x.stride, stride, sizeof stride);
    for (int round = 0; round < 2; ++round) {
        for (int i = 0; i < 2; ++i) {
            tenon_attention_desc d = {.q = x, .k = x, .v = x};
            d.k.data = qkv + DEPTH;
            d.v.data = qkv + 2 * DEPTH;
            d.o = tenon_dense(o[i], TENON_F32, 4, shape);
            OK(all[i], tenon_attention(all[i], &d));
            const tenon_tensor a = tenon_matrix(qkv, TENON_F32, ROWS, WIDE);
            const tenon_gemm_desc g = {.a = a,
                                       .b = tenon_transposed(a),
                                       .c = tenon_matrix(square[i], TENON_F32, ROWS, ROWS)};
            OK(all[i], tenon_gemm(all[i], &g));
        }
        for (int i = 0; i < ROWS * DEPTH; ++i)
            ck_assert_float_eq_tol(o[0][i], o[1][i], 1e-5f);
        ck_assert_mem_eq(square[0], square[1], sizeof square[0]);
        if (_i == 0 && round == 0) { /* once more, with a part of it the device's */
            tenon_pool *pool = tenon_context_pool(all[1], 0);
            OK(NULL, tenon_buffer_import(pool, TENON_NATIVE_HOST, qkv + 64, 4096, &part));
            OK(NULL, tenon_buffer_import(pool, TENON_NATIVE_HOST, qkv + 64, 4096, &same));
            REFUSED(NULL, TENON_ERROR_UNSUPPORTED, "overlap",
                    tenon_buffer_import(pool, TENON_NATIVE_HOST, qkv, sizeof qkv, &whole));
            ck_assert_ptr_null(whole);
        }
    }
    tenon_buffer_free(part);
    tenon_buffer_free(same);
    ck_assert_uint_eq(driver->overlaps(), 0);
    for (int i = 0; i < 2; ++i)
        tenon_context_destroy(all[i]);
    ck_assert_int_eq(driver->live(), 0);
}
END_TEST

/* A thread that lends host memory while another one withdraws it. */
typedef struct meeting {
    tenon_pool *pool;
    float *host;
    size_t bytes;
    tenon_buffer *buffer;
    tenon_status status;
    atomic_bool done;
    pthread_t thread;
} meeting;

static void *lend_again(void *user) {
    meeting *m = user;
    m->status = tenon_buffer_import(m->pool, TENON_NATIVE_HOST, m->host, m->bytes, &m->buffer);
    atomic_store(&m->done, true);
    return NULL;
}

/* In front of the release; goes on when the other thread has its object, or has to wait for it. */
static void meet(void *user) {
    meeting *m = user;
    const struct timespec moment = {.tv_nsec = 10000000};
    ck_assert_int_eq(pthread_create(&m->thread, NULL, lend_again, m), 0);
    for (int i = 0; i < 30 && !atomic_load(&m->done); ++i)
        nanosleep(&moment, NULL);
}

/* No second object is made over memory before the first one is gone, of all of it (_i = 0) or of a
 * part. By pools of their own, whose locks don't keep the threads apart. */
START_TEST(lent_while_withdrawn) {
    static float host[2048];
    pretend(0);
    const uint64_t overlaps = driver->overlaps();
    tenon_context *ctx = context_on("opencl"), *other = context_on("opencl");
    meeting m = {.pool = tenon_context_pool(other, 0),
                 .host = host + 512 * _i,
                 .bytes = sizeof host / (_i ? 2 : 1)};
    tenon_buffer *x;
    float five = 5, back = 0;
    OK(NULL,
       tenon_buffer_import(tenon_context_pool(ctx, 0), TENON_NATIVE_HOST, host, sizeof host, &x));
    driver->at_release(meet, &m);
    tenon_buffer_free(x);
    ck_assert_int_eq(pthread_join(m.thread, NULL), 0);
    ck_assert_int_eq(m.status, TENON_OK);
    ck_assert_uint_eq(driver->overlaps(), overlaps);
    OK(other, tenon_buffer_write(other, m.buffer, 64, &five, sizeof five));
    OK(other, tenon_buffer_read(other, m.buffer, 64, &back, sizeof back));
    ck_assert_float_eq(back, 5);
    tenon_buffer_free(m.buffer);
    tenon_context_destroy(other);
    tenon_context_destroy(ctx);
    ck_assert_int_eq(driver->live(), 0);
}
END_TEST

/* A mapping is of a part of a buffer, and ends where it began. */
START_TEST(mappings) {
    tenon_buffer *x, *y;
    void *first, *second, *none;
    float back[16];
    pretend(_i);
    tenon_context *ctx = context_on("opencl");
    tenon_pool *pool = tenon_context_pool(ctx, 0);
    OK(NULL, tenon_buffer_alloc(pool, 4096, "x", &x));
    OK(NULL, tenon_buffer_alloc(pool, 4096, "y", &y));
    OK(ctx, tenon_buffer_map(ctx, x, 64, 128, &first));
    OK(ctx, tenon_buffer_map(ctx, y, 0, 64, &second));
    for (int i = 0; i < 16; ++i)
        ((float *)second)[i] = (float)i;
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "host", tenon_buffer_unmap(ctx, x, second));
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "host", tenon_buffer_unmap(ctx, y, back));
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "host",
            tenon_buffer_unmap(ctx, x, (char *)first + 8));
    tenon_buffer *view;
    OK(NULL, tenon_buffer_view(x, 128, 64, &view)); /* more was mapped than it shows */
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "host", tenon_buffer_unmap(ctx, view, first));
    OK(ctx, tenon_buffer_unmap(ctx, y, second));
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "host", tenon_buffer_unmap(ctx, y, second));
    OK(ctx, tenon_buffer_read(ctx, y, 0, back, sizeof back));
    ck_assert_float_eq(back[15], 15);
    OK(ctx, tenon_buffer_unmap(ctx, x, first));
    OK(ctx, tenon_buffer_map(ctx, x, 0, 4096, &none)); /* the end of all ends it too */
    tenon_buffer_free(view);
    tenon_buffer_free(x);
    tenon_buffer_free(y);
    tenon_context_destroy(ctx);
    ck_assert_int_eq(driver->live(), 0);
}
END_TEST

/* ---- losses ---- */

/* Memory of a device that is gone is not short: it is lost. */
START_TEST(lost_memory) {
    pretend(_i);
    tenon_context *ctx = context_on("opencl");
    tenon_buffer *x = NULL;
    driver->only("clFinish");
    driver->strike(1, 1, STAND_IN_LOST);
    REFUSED(ctx, TENON_ERROR_DEVICE_LOST, "lost", tenon_sync(ctx));
    driver->strike(0, 0, STAND_IN_SHORT);
    driver->only(NULL);
    REFUSED(NULL, TENON_ERROR_DEVICE_LOST, "lost",
            tenon_buffer_alloc(tenon_context_pool(ctx, 0), 64 << 20, "x", &x));
    ck_assert_ptr_null(x);
    tenon_context_destroy(ctx);
    ctx = context_on("opencl"); /* who comes now finds it back */
    OK(NULL, tenon_buffer_alloc(tenon_context_pool(ctx, 0), 64 << 20, "x", &x));
    tenon_buffer_free(x);
    tenon_context_destroy(ctx);
    ck_assert_int_eq(driver->live(), 0);
}
END_TEST

/* ---- kernels ---- */

/* Where the fastest kernel can't be built or is too large for its group another one computes. */
START_TEST(refused_kernels) {
    static const char *const words[] = {"-DTN_GROUP=16", "-DTN_GROUP", "-DTN_COLS"};
    product *p = malloc(sizeof *p);
    pretend(0);
    setenv("TENON_OPENCL_FAMILY", _i < 2 ? "gpu" : "cpu", 1);
    driver->refuse(words[_i]);
    tenon_context *ctx = context_on("opencl");
    const tenon_gemm_desc g = product_of(p);
    for (int run = 0; run < 5; ++run) {
        product_fill(p);
        OK(ctx, tenon_gemm(ctx, &g));
        ck_assert(is_right(p));
    }
    driver->refuse("TN_SUM"); /* nothing of a product */
    tenon_context_destroy(ctx);
    ctx = context_on("opencl");
    product_fill(p);
    REFUSED(ctx, TENON_ERROR_UNSUPPORTED, "can't be built", tenon_gemm(ctx, &g));
    ck_assert(is_untouched(p));
    tenon_context_destroy(ctx);
    ctx = context_on("opencl,cpu");
    OK(ctx, tenon_gemm(ctx, &g));
    ck_assert(is_right(p));
    driver->refuse(NULL);
    product_fill(p);
    for (int run = 0; run < 3; ++run) /* it is asked for again, by and by */
        OK(ctx, tenon_gemm(ctx, &g));
    ck_assert(is_right(p));
    tenon_context_destroy(ctx);
    unsetenv("TENON_OPENCL_FAMILY");
    ck_assert_int_eq(driver->live(), 0);
    free(p);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("opencl_edges");
    TCase *t = tcase_create("opencl_edges");
    tcase_set_timeout(t, 120);
    const TTest *const both[] = {shared_inputs, mappings, lost_memory};
    for (size_t i = 0; i < sizeof both / sizeof both[0]; ++i)
        tcase_add_loop_test(t, both[i], 0, 2);
    tcase_add_loop_test(t, lent_while_withdrawn, 0, 2);
    tcase_add_loop_test(t, refused_kernels, 0, 3);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    setenv("CK_FORK", "no", 0);
    driver = stand_in_controls();
    const int missing = need_driver();
    return missing ? missing : run_suite(suite());
}
