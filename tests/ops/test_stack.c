/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack that calls need: every operation, and what is around them, on a thread whose stack is painted before and looked at after.
 * include/tenon/host.h promises a figure; the last test lives with it.
 */
#include "bad_input.h"
#include "suite.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Sanitizers and builds without optimisation have frames of their own making. */
#if defined(TEST_ASAN) || defined(TEST_TSAN) || !defined(__OPTIMIZE__)
enum { ROOM = 4 << 20, PROMISED = ROOM };
#else
enum { ROOM = 1 << 20, PROMISED = 64 << 10 };
#endif
/* What the C library puts on a thread's stack before its function runs (its record and static TLS), for the test with a real stack. */
enum { THREAD_OWN = 16 << 10, PAINT = 0x5c };

static const char *const devices[] = {"reference", "cpu"};
enum { DEVICES = sizeof devices / sizeof devices[0] };

static unsigned char *stack;
static scene now;
static const char *device;
static char worst[64];
static size_t most;

/* ---------------------------------------------------------------- work */

static _Alignas(64) float a[96 * 600], b[600 * 96], c[96 * 96], packed[700 * 128];
static _Alignas(64) unsigned char spare[1 << 21];

/* Products large enough for every loop, in a few types, with B packed too. */
static void products(tenon_context *ctx) {
    static const tenon_dtype types[] = {TENON_F32,  TENON_F64, TENON_F16,
                                        TENON_BF16, TENON_S8,  TENON_F8_E4M3};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; ++t) {
        const int64_t k = types[t] == TENON_F64 ? 300 : 600;
        for (int64_t m = 1; m <= 96; m += 95) {
            tenon_gemm_desc g = {.a = tenon_matrix(a, types[t], m, k),
                                 .b = tenon_matrix(b, types[t], k, 96),
                                 .c = tenon_matrix(c, TENON_F32, m, 96),
                                 .activation = TENON_ACTIVATION_GELU};
            ck_assert_msg(tenon_gemm(ctx, &g) == TENON_OK, "%s", tenon_error_message(ctx));
            g.b = tenon_transposed(tenon_matrix(b, types[t], 96, k));
            ck_assert_msg(tenon_gemm(ctx, &g) == TENON_OK, "%s", tenon_error_message(ctx));
        }
    }
    tenon_gemm_desc g = {.a = tenon_matrix(a, TENON_F32, 96, 600),
                         .b = tenon_matrix(b, TENON_F32, 600, 96),
                         .c = tenon_matrix(c, TENON_F32, 96, 96)};
    size_t bytes;
    ck_assert_int_eq(tenon_gemm_pack_size(ctx, &g, &bytes), TENON_OK);
    ck_assert_uint_le(bytes, sizeof packed);
    ck_assert_int_eq(tenon_gemm_pack(ctx, &g, packed, bytes), TENON_OK);
    g.b_packed = packed;
    g.b_packed_bytes = bytes;
    ck_assert_msg(tenon_gemm(ctx, &g) == TENON_OK, "%s", tenon_error_message(ctx));
}

static void scores(tenon_context *ctx) {
    static const tenon_dtype types[] = {TENON_F32, TENON_F64, TENON_BF16};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; ++t) {
        const tenon_softmax_desc s = {.x = tenon_matrix(a, types[t], 20, 1000),
                                      .y = tenon_matrix(b, types[t], 20, 1000),
                                      .causal = TENON_CAUSAL_BOTTOM_RIGHT};
        ck_assert_msg(tenon_softmax(ctx, &s) == TENON_OK, "%s", tenon_error_message(ctx));
        for (int64_t queries = 1; queries <= 40; queries += 39) {
            const tenon_attention_desc d = {.q = tenon_tensor4(c, types[t], 1, 1, queries, 64),
                                            .k = tenon_tensor4(a, types[t], 1, 1, 300, 64),
                                            .v = tenon_tensor4(a, types[t], 1, 1, 300, 64),
                                            .o = tenon_tensor4(b, types[t], 1, 1, queries, 64),
                                            .softcap = 10};
            ck_assert_msg(tenon_attention(ctx, &d) == TENON_OK, "%s", tenon_error_message(ctx));
        }
    }
}

/* Pointer arrays whose members of c do not ascend are put in order on the stack. */
static void arrays(tenon_context *ctx) {
    const void *as[3], *bs[3];
    void *cs[3];
    for (int i = 0; i < 3; ++i) {
        as[i] = a;
        bs[i] = b;
        cs[i] = c + (2 - i) * 16 * 16;
    }
    const tenon_gemm_desc g = {.a = tenon_matrix(NULL, TENON_F32, 16, 300),
                               .b = tenon_matrix(NULL, TENON_F32, 300, 16),
                               .c = tenon_matrix(NULL, TENON_F32, 16, 16),
                               .a_array = as,
                               .b_array = bs,
                               .c_array = cs,
                               .array_count = 3};
    ck_assert_msg(tenon_gemm(ctx, &g) == TENON_OK, "%s", tenon_error_message(ctx));
}

/* Every scene of the tests of bad input: between them they use every field of every operation. Then the same with a field wrong. */
static void scenes(tenon_context *ctx) {
    for (int r = 0; r < scene_count; ++r) {
        const op_calls *calls = &op_table[scene_rows[r].op];
        tenon_plan *plan;
        scene_build(&now, &scene_rows[r]);
        ck_assert_msg(calls->once(ctx, &now.desc) == TENON_OK, "%s: %s", now.name,
                      tenon_error_message(ctx));
        if (calls->plan) {
            ck_assert_int_eq(calls->plan(ctx, &now.desc, &plan), TENON_OK);
            ck_assert_int_eq(calls->run(ctx, plan, &now.desc), TENON_OK);
            tenon_plan_destroy(plan);
        }
        now.tensor[0].at->rank = 9;
        ck_assert_int_eq(calls->once(ctx, &now.desc), TENON_ERROR_INVALID_ARGUMENT);
    }
}

static void no_line(void *user, tenon_log_level level, const char *line) {
    (void)user;
    (void)level;
    (void)line;
}

static int no_text(void *user, const char *text, size_t bytes) {
    (void)user;
    (void)text;
    (void)bytes;
    return 0;
}

static tenon_context *open_context(void) {
    const tenon_context_desc desc = {
        .device = device, .threads = 2, .logger = {NULL, no_line}, .log_level = TENON_LOG_DEBUG};
    tenon_context *ctx = NULL;
    if (tenon_context_create(&desc, &ctx) != TENON_OK)
        ck_assert_str_eq(device, "cpu"); /* built without */
    return ctx;
}

static void operations(void) {
    tenon_context *ctx = open_context();
    if (!ctx)
        return;
    scenes(ctx);
    products(ctx);
    arrays(ctx);
    scores(ctx);
    tenon_context_destroy(ctx);
}

static void around(void) {
    tenon_context *ctx = open_context();
    tenon_device_info info = {0};
    tenon_pool *pool;
    tenon_buffer *buffer;
    tenon_lifetime objects[40];
    size_t total;
    if (!ctx)
        return;
    for (int i = 0; i < tenon_device_count(); ++i)
        ck_assert_int_eq(tenon_device_get(i, &info), TENON_OK);
    const tenon_pool_desc desc = {.flags = TENON_POOL_DEBUG};
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_OK);
    ck_assert_int_eq(tenon_buffer_alloc(pool, 5000, NULL, &buffer), TENON_OK);
    ck_assert_int_eq(tenon_buffer_write(ctx, buffer, 0, spare, 5000), TENON_OK);
    ck_assert_int_eq(tenon_memory_snapshot(pool, no_text, NULL), TENON_OK);
    ck_assert_int_eq(tenon_memory_check(pool), TENON_OK);
    tenon_buffer_free(buffer);
    tenon_memory_trim(pool, 0);
    for (int i = 0; i < 40; ++i)
        objects[i] = (tenon_lifetime){
            .bytes = (size_t)(i * 37 % 11 + 1) * 100, .first = i / 3, .last = i / 3 + i % 5};
    ck_assert_int_eq(tenon_memory_layout(pool, objects, 40, &total, NULL), TENON_OK);
    tenon_pool_destroy(pool);
    tenon_context_destroy(ctx);
}

/* ---------------------------------------------------------------- measuring */

static void *painted(void *work) {
    void (*function)(void) = *(void (**)(void))work;
    function();
    return NULL;
}

static size_t used_by(void (*function)(void)) {
    pthread_attr_t attributes;
    pthread_t thread;
    memset(stack, PAINT, ROOM);
    ck_assert_int_eq(pthread_attr_init(&attributes), 0);
    ck_assert_int_eq(pthread_attr_setstack(&attributes, stack, ROOM), 0);
    ck_assert_int_eq(pthread_create(&thread, &attributes, painted, &function), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    size_t untouched = 0;
    while (untouched < ROOM && stack[untouched] == PAINT)
        ++untouched;
    return ROOM - untouched;
}

static void nothing(void) {}

START_TEST(stack_of_calls) {
    static const struct {
        const char *name;
        void (*work)(void);
    } jobs[] = {{"operations", operations}, {"around", around}};
    ck_assert_int_eq(posix_memalign((void **)&stack, 1 << 16, ROOM), 0);
    const size_t own = used_by(nothing);
    for (int d = 0; d < DEVICES; ++d)
        for (size_t j = 0; j < sizeof jobs / sizeof jobs[0]; ++j) {
            device = devices[d];
            const size_t bytes = used_by(jobs[j].work) - own;
            printf("stack: %s, %s: %zu bytes\n", device, jobs[j].name, bytes);
            if (bytes > most) {
                most = bytes;
                snprintf(worst, sizeof worst, "%s, %s", device, jobs[j].name);
            }
        }
    printf("stack: a thread by itself %zu bytes, most %zu\n", own, most);
    ck_assert_msg(most <= PROMISED, "%s needs %zu bytes of stack, more than the %d promised", worst,
                  most, PROMISED);
    ck_assert_msg(most > 4096 || PROMISED == ROOM, "%zu bytes cannot be all: nothing was measured",
                  most);
    free(stack);
}
END_TEST

/* A thread with no more than what is promised, and a page that ends the process behind it. */
START_TEST(small_stack) {
    void (*work)(void) = operations;
    pthread_attr_t attributes;
    pthread_t thread;
    device = devices[_i];
    ck_assert_int_eq(pthread_attr_init(&attributes), 0);
    ck_assert_int_eq(pthread_attr_setstacksize(&attributes, PROMISED + THREAD_OWN), 0);
    ck_assert_int_eq(pthread_create(&thread, &attributes, painted, &work), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("stack");
    TCase *tc = tcase_create("stack");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, stack_of_calls);
    tcase_add_loop_test(tc, small_stack, 0, DEVICES);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
