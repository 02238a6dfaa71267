/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts and dispatch through the public face: device strings, who may enter, plans and their cache, workspaces, chains of
 * devices, the host's threads. Runs on whatever devices the build has; "reference" is always there.
 */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tenon/tenon.h>

#include "settle.h"
#include "suite.h"

/* ---------------------------------------------------------------- helpers */

static int log_lines[TENON_LOG_DEBUG + 1];
static char log_last[1200];

static void count_line(void *user, tenon_log_level level, const char *line) {
    (void)user;
    log_lines[level]++;
    snprintf(log_last, sizeof log_last, "%s", line);
}

static tenon_context *make(const char *device, int threads) {
    tenon_context *ctx;
    const tenon_context_desc desc = {.device = device, .threads = threads};
    ck_assert_msg(tenon_context_create(&desc, &ctx) == TENON_OK, "%s", tenon_error_message(NULL));
    return ctx;
}

static float a_data[64 * 48], b_data[48 * 40], c_data[64 * 40];

static tenon_gemm_desc small_gemm(int64_t m) {
    for (int i = 0; i < 64 * 48; ++i)
        a_data[i] = (float)(i % 13) - 6;
    for (int i = 0; i < 48 * 40; ++i)
        b_data[i] = (float)(i % 7) - 3;
    return (tenon_gemm_desc){.a = tenon_matrix(a_data, TENON_F32, m, 48),
                             .b = tenon_matrix(b_data, TENON_F32, 48, 40),
                             .c = tenon_matrix(c_data, TENON_F32, m, 40)};
}

static void check_small_gemm(int64_t m) {
    for (int64_t i = 0; i < m; ++i)
        for (int j = 0; j < 40; ++j) {
            float sum = 0;
            for (int p = 0; p < 48; ++p)
                sum += a_data[i * 48 + p] * b_data[p * 40 + j];
            ck_assert_msg(c_data[i * 40 + j] == sum, "c[%d][%d] is %g, expected %g", (int)i, j,
                          (double)c_data[i * 40 + j], (double)sum);
        }
    memset(c_data, 0, sizeof c_data);
}

#define ASSERT_STATUS(call, expected, words)                                                       \
    do {                                                                                           \
        const tenon_status status_ = (call);                                                       \
        ck_assert_msg(status_ == (expected), "%s: %s", tenon_status_name(status_),                 \
                      tenon_error_message(NULL));                                                  \
        ck_assert_msg(strstr(tenon_error_message(NULL), words) != NULL, "no \"%s\" in: %s", words, \
                      tenon_error_message(NULL));                                                  \
    } while (0)

/* INVALID_ARGUMENT, and a sentence of `ctx` that begins with `words`. */
#define ASSERT_SAYS(ctx, call, words)                                                              \
    do {                                                                                           \
        ck_assert_int_eq((call), TENON_ERROR_INVALID_ARGUMENT);                                    \
        ck_assert_msg(strncmp(tenon_error_message(ctx), words, strlen(words)) == 0,                \
                      "not \"%s …\": %s", words, tenon_error_message(ctx));                        \
    } while (0)

/* ---------------------------------------------------------------- creation */

START_TEST(device_strings) {
    static const struct {
        const char *device;
        tenon_status status;
        const char *words;
    } cases[] = {
        {"", TENON_ERROR_INVALID_ARGUMENT, "device is \"\""},
        {"gpu", TENON_ERROR_INVALID_ARGUMENT, "device is \"gpu\""},
        {"reference:", TENON_ERROR_INVALID_ARGUMENT, "reference:"},
        {"reference:x", TENON_ERROR_INVALID_ARGUMENT, "reference:x"},
        {"reference:99999", TENON_ERROR_INVALID_ARGUMENT, "99999"},
        {"reference,", TENON_ERROR_INVALID_ARGUMENT, "device is"},
        {"reference,reference", TENON_ERROR_INVALID_ARGUMENT, "\"reference\" twice"},
        {"auto,reference,reference", TENON_ERROR_INVALID_ARGUMENT, "\"reference\" twice"},
        {"reference:7", TENON_ERROR_NO_DEVICE, "only 1"},
        {"cuda:0", TENON_ERROR_NO_DEVICE, "cuda"},
        {"cuda:0,opencl:1", TENON_ERROR_NO_DEVICE, "opencl:1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        tenon_context *ctx = (tenon_context *)&cases;
        const tenon_context_desc desc = {.device = cases[i].device};
        ASSERT_STATUS(tenon_context_create(&desc, &ctx), cases[i].status, cases[i].words);
        ck_assert_ptr_null(ctx);
    }
}
END_TEST

START_TEST(chains_leave_out_what_is_not_there) {
    tenon_context *ctx = make("cuda:0,reference", 1);
    ck_assert_str_eq(tenon_context_device(ctx, 0), "reference");
    ck_assert_ptr_null(tenon_context_device(ctx, 1));
    ck_assert_ptr_null(tenon_context_device(ctx, -1));
    ck_assert_ptr_nonnull(tenon_context_pool(ctx, 0));
    ck_assert_ptr_null(tenon_context_pool(ctx, 1));
    tenon_context_destroy(ctx);
}
END_TEST

/* "auto" is the best device, which counts once however often it is meant. */
START_TEST(auto_within_chains) {
    tenon_context *ctx = make("auto", 1);
    char best[32], chain[64];
    snprintf(best, sizeof best, "%s", tenon_context_device(ctx, 0));
    tenon_context_destroy(ctx);
    const char *other = strcmp(best, "reference") == 0 ? NULL : "reference";
    const struct {
        const char *format;
        const char *first, *second;
    } cases[] = {
        {"auto,%s", best, NULL},
        {"%s,auto", best, NULL},
        {"auto,auto", best, NULL},
        {"cuda:7,auto,%s", best, NULL},
        {"reference,auto", "reference", other ? best : NULL},
        {"auto,reference", best, other},
        {"auto,%s,reference", best, other},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        const char *mark = strstr(cases[i].format, "%s");
        const int head = (int)(mark ? mark - cases[i].format : (int)strlen(cases[i].format));
        if (mark && !other && strstr(mark, "reference"))
            continue; /* named twice */
        snprintf(chain, sizeof chain, "%.*s%s%s", head, cases[i].format, mark ? best : "",
                 mark ? mark + 2 : "");
        ctx = make(chain, 1);
        ck_assert_str_eq(tenon_context_device(ctx, 0), cases[i].first);
        ck_assert_pstr_eq(tenon_context_device(ctx, 1), cases[i].second);
        ck_assert_ptr_null(tenon_context_device(ctx, 2));
        tenon_context_destroy(ctx);
    }
}
END_TEST

START_TEST(environment_replaces_auto_only) {
    setenv("TENON_DEVICE", "reference", 1);
    tenon_context *ctx = make(NULL, 1);
    ck_assert_str_eq(tenon_context_device(ctx, 0), "reference");
    tenon_context_destroy(ctx);
    setenv("TENON_DEVICE", "nonsense", 1);
    ctx = make("reference", 1);
    tenon_context_destroy(ctx);
    ASSERT_STATUS(tenon_context_create(NULL, &ctx), TENON_ERROR_INVALID_ARGUMENT, "nonsense");
    unsetenv("TENON_DEVICE");
}
END_TEST

START_TEST(device_list) {
    const int count = tenon_device_count();
    int reference = 0;
    ck_assert_int_gt(count, 0);
    for (int i = 0; i < count; ++i) {
        tenon_device_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(tenon_device_get(i, &info), TENON_OK);
        ck_assert_uint_eq(info.struct_size, sizeof info);
        ck_assert(info.usable ? info.reason[0] == 0 : info.reason[0] != 0);
        reference += strcmp(info.id, "reference") == 0 && info.usable;
    }
    ck_assert_int_eq(reference, 1);
    tenon_device_info info = {0};
    ASSERT_STATUS(tenon_device_get(count, &info), TENON_ERROR_INVALID_ARGUMENT, "index");
    ASSERT_STATUS(tenon_device_get(-1, &info), TENON_ERROR_INVALID_ARGUMENT, "index is -1");
    ASSERT_STATUS(tenon_device_get(0, NULL), TENON_ERROR_INVALID_ARGUMENT, "info is NULL");
}
END_TEST

/* An old caller's smaller struct gets only the bytes it has. */
START_TEST(smaller_structs_from_older_callers) {
    struct {
        tenon_device_info info;
        unsigned char canary[8];
    } x;
    memset(&x, 0xee, sizeof x);
    x.info.struct_size = offsetof(tenon_device_info, name);
    ck_assert_int_eq(tenon_device_get(0, &x.info), TENON_OK);
    for (size_t i = offsetof(tenon_device_info, name); i < sizeof x; ++i)
        ck_assert_uint_eq(((unsigned char *)&x)[i], 0xee);

    tenon_context *ctx;
    tenon_context_desc desc = {
        .struct_size = offsetof(tenon_context_desc, threads), .device = "reference", .threads = -5};
    ck_assert_int_eq(tenon_context_create(&desc, &ctx),
                     TENON_OK); /* threads is not covered, so it is not read */
    tenon_context_destroy(ctx);
}
END_TEST

/* ---------------------------------------------------------------- entering */

typedef struct entry {
    tenon_context *ctx;
    atomic_int inside, go_on;
    tenon_status seen;
} entry;

static void hold(void *user, tenon_log_level level, const char *line) {
    entry *e = user;
    (void)line;
    if (level != TENON_LOG_DISPATCH)
        return;
    atomic_store(&e->inside, 1);
    while (!atomic_load(&e->go_on))
        usleep(100);
}

static void *second_thread(void *arg) {
    entry *e = arg;
    while (!atomic_load(&e->inside))
        usleep(100);
    e->seen = tenon_sync(e->ctx);
    atomic_store(&e->go_on, 1);
    return NULL;
}

START_TEST(second_thread_is_told_busy) {
    entry e = {0};
    const tenon_context_desc desc = {
        .device = "reference", .threads = 1, .logger = {&e, hold}, .log_level = TENON_LOG_DISPATCH};
    ck_assert_int_eq(tenon_context_create(&desc, &e.ctx), TENON_OK);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, second_thread, &e), 0);
    const tenon_gemm_desc g = small_gemm(4);
    ck_assert_int_eq(tenon_gemm(e.ctx, &g), TENON_OK);
    pthread_join(thread, NULL);
    ck_assert_int_eq(e.seen, TENON_ERROR_BUSY);
    ck_assert_int_eq(tenon_sync(e.ctx), TENON_OK);
    tenon_context_destroy(e.ctx);
    check_small_gemm(4);
}
END_TEST

START_TEST(null_context) {
    const tenon_gemm_desc g = small_gemm(1);
    ASSERT_STATUS(tenon_gemm(NULL, &g), TENON_ERROR_INVALID_ARGUMENT, "ctx is NULL");
    ASSERT_STATUS(tenon_sync(NULL), TENON_ERROR_INVALID_ARGUMENT, "tenon_sync");
    tenon_context_destroy(NULL);
    tenon_plan_destroy(NULL);
}
END_TEST

/* ---------------------------------------------------------------- plans */

START_TEST(plan_runs_anywhere_on_its_device) {
    tenon_context *one = make("reference", 1), *two = make("reference", 2);
    tenon_gemm_desc g = small_gemm(64);
    tenon_plan *plan;
    ck_assert_int_eq(tenon_gemm_plan(one, &g, &plan), TENON_OK);
    tenon_context_destroy(one); /* the plan stays */

    ck_assert_int_eq(tenon_gemm_run(two, plan, &g), TENON_OK);
    check_small_gemm(64);

    tenon_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(tenon_plan_query(plan, &info), TENON_OK);
    ck_assert_str_eq(info.device, "reference");
    ck_assert(info.flops == 2.0 * 64 * 40 * 48);
    ck_assert(info.bytes == 4.0 * (64 * 48 + 48 * 40 + 64 * 40));
    ck_assert_int_eq(info.chosen, 0);
    tenon_plan_choice choice = {0};
    ck_assert_int_eq(tenon_plan_choice_get(plan, 0, &choice), TENON_OK);
    ck_assert_int_eq(tenon_plan_choice_get(plan, info.choices, &choice),
                     TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(tenon_plan_declined(plan, 0));

    g.a.shape[0] = g.c.shape[0] = 63;
    ck_assert_int_eq(tenon_gemm_run(two, plan, &g), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(two), "a.shape"));
    const tenon_softmax_desc s = {.x = tenon_matrix(a_data, TENON_F32, 4, 4),
                                  .y = tenon_matrix(c_data, TENON_F32, 4, 4)};
    ck_assert_int_eq(tenon_softmax_run(two, plan, &s), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_gemm_run(two, NULL, &g), TENON_ERROR_INVALID_ARGUMENT);
    tenon_plan_destroy(plan);
    tenon_context_destroy(two);
}
END_TEST

START_TEST(plan_of_another_device_is_refused) {
    tenon_context *cpu;
    const tenon_context_desc desc = {.device = "cpu", .threads = 1};
    if (tenon_context_create(&desc, &cpu) != TENON_OK)
        return; /* built without */
    tenon_context *reference = make("reference", 1);
    const tenon_gemm_desc g = small_gemm(8);
    tenon_plan *plan;
    ck_assert_int_eq(tenon_gemm_plan(cpu, &g, &plan), TENON_OK);
    ck_assert_int_eq(tenon_gemm_run(reference, plan, &g), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(reference), "cpu"));
    tenon_plan_destroy(plan);
    tenon_context_destroy(reference);
    tenon_context_destroy(cpu);
}
END_TEST

static size_t live_bytes, live_blocks;

static void *counted_alloc(void *user, size_t bytes, size_t alignment) {
    (void)user;
    void *p = NULL;
    if (posix_memalign(&p, alignment < sizeof(void *) ? sizeof(void *) : alignment,
                       bytes ? bytes : 1))
        return NULL;
    live_bytes += bytes;
    live_blocks++;
    return p;
}

static void counted_free(void *user, void *memory, size_t bytes) {
    (void)user;
    live_bytes -= bytes;
    live_blocks--;
    free(memory);
}

/* The cache keeps its bound whatever comes, and everything is freed through the hooks. */
START_TEST(plan_cache_is_bounded) {
    tenon_context *ctx;
    const tenon_context_desc desc = {.device = "reference",
                                     .threads = 1,
                                     .plan_cache_bytes = 20000,
                                     .allocator = {NULL, counted_alloc, counted_free}};
    live_bytes = live_blocks = 0;
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    const size_t before = live_bytes;
    size_t most = 0;
    for (int round = 0; round < 2; ++round)
        for (int64_t m = 1; m <= 64; ++m) {
            const tenon_gemm_desc g = small_gemm(m);
            ck_assert_int_eq(tenon_gemm(ctx, &g), TENON_OK);
            check_small_gemm(m);
            if (live_bytes > most)
                most = live_bytes;
        }
    ck_assert_uint_gt(most, before);         /* something was kept … */
    ck_assert_uint_le(most, before + 20000); /* … within the bound */
    tenon_context_destroy(ctx);
    ck_assert_uint_eq(live_blocks, 0);
    ck_assert_uint_eq(live_bytes, 0);
}
END_TEST

START_TEST(workspace_of_the_caller) {
    enum { ROWS = 3, KEYS = 50, D = 24 };
    static float q[ROWS * D], k[KEYS * D], v[KEYS * D], o[ROWS * D], expected[ROWS * D];
    for (int i = 0; i < KEYS * D; ++i)
        k[i] = (float)(i % 11) / 11, v[i] = (float)(i % 5);
    for (int i = 0; i < ROWS * D; ++i)
        q[i] = (float)(i % 3);
    tenon_context *ctx = make("reference", 1);
    tenon_attention_desc desc = {.q = tenon_tensor4(q, TENON_F32, 1, 1, ROWS, D),
                                 .k = tenon_tensor4(k, TENON_F32, 1, 1, KEYS, D),
                                 .v = tenon_tensor4(v, TENON_F32, 1, 1, KEYS, D),
                                 .o = tenon_tensor4(o, TENON_F32, 1, 1, ROWS, D)};
    tenon_plan *plan;
    tenon_plan_info info = {0};
    ck_assert_int_eq(tenon_attention_plan(ctx, &desc, &plan), TENON_OK);
    ck_assert_int_eq(tenon_plan_query(plan, &info), TENON_OK);
    ck_assert_int_eq(tenon_attention_run(ctx, plan, &desc), TENON_OK);
    memcpy(expected, o, sizeof o);
    memset(o, 0, sizeof o);

    size_t peak, smallest;
    const tenon_plan *plans[] = {plan, plan};
    ck_assert_int_eq(tenon_plan_budget(plans, 2, &peak, &smallest), TENON_OK);
    ck_assert_uint_eq(peak, info.workspace);
    ck_assert_uint_eq(smallest, info.workspace_smallest);

    ck_assert_uint_gt(info.workspace, 0);
    void *memory = NULL;
    ck_assert_int_eq(posix_memalign(&memory, 64, info.workspace + 64), 0);
    desc.workspace = (tenon_workspace){memory, info.workspace};
    ck_assert_int_eq(tenon_attention_run(ctx, plan, &desc), TENON_OK);
    ck_assert_int_eq(memcmp(o, expected, sizeof o), 0);
    memset(o, 0, sizeof o);

    desc.workspace.bytes = info.workspace - 1;
    ck_assert_int_eq(tenon_attention_run(ctx, plan, &desc), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(ctx), "workspace.bytes"));
    desc.workspace = (tenon_workspace){(char *)memory + 4, info.workspace};
    ck_assert_int_eq(tenon_attention_run(ctx, plan, &desc), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(ctx), "workspace.memory"));
    for (int i = 0; i < ROWS * D; ++i)
        ck_assert(o[i] == 0);

    desc.workspace =
        (tenon_workspace){memory, 0}; /* one-shot calls have no plan that says how many */
    ASSERT_SAYS(ctx, tenon_attention(ctx, &desc), "tenon_attention: workspace.bytes is 0");
    ASSERT_SAYS(ctx, tenon_attention_run(ctx, plan, &desc),
                "tenon_attention_run: workspace.bytes is 0");

    tenon_plan *none = plan;
    desc.workspace = (tenon_workspace){NULL, 1};
    ck_assert_int_eq(tenon_attention_plan(ctx, &desc, &none), TENON_ERROR_OVER_BUDGET);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(ctx), "workspace.bytes is 1"));
    ck_assert_ptr_null(none);
    free(memory);
    tenon_plan_destroy(plan);
    tenon_context_destroy(ctx);
}
END_TEST

/* A pool that is too small for anything: a status with the figures, output untouched, and work goes on when there is room again. */
START_TEST(budget_too_small) {
    static float q[4], o[4] = {7, 7, 7, 7};
    tenon_context *ctx;
    const tenon_context_desc desc = {.device = "reference",
                                     .threads = 1,
                                     .memory_budget = 16,
                                     .logger = {NULL, count_line},
                                     .log_level = TENON_LOG_DISPATCH};
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    const tenon_attention_desc a = {.q = tenon_tensor4(q, TENON_F32, 1, 1, 1, 4),
                                    .k = tenon_tensor4(q, TENON_F32, 1, 1, 1, 4),
                                    .v = tenon_tensor4(q, TENON_F32, 1, 1, 1, 4),
                                    .o = tenon_tensor4(o, TENON_F32, 1, 1, 1, 4)};
    ck_assert_int_eq(tenon_attention(ctx, &a), TENON_ERROR_OVER_BUDGET);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(ctx), "budget"));
    for (int i = 0; i < 4; ++i)
        ck_assert(o[i] == 7);
    const tenon_gemm_desc g = small_gemm(2); /* needs no workspace */
    ck_assert_int_eq(tenon_gemm(ctx, &g), TENON_OK);
    check_small_gemm(2);
    tenon_memory_info info = {0};
    ck_assert_int_eq(tenon_memory_stats(tenon_context_pool(ctx, 0), &info), TENON_OK);
    ck_assert_uint_eq(info.in_use, 0);
    ck_assert_uint_ge(info.ladder.failures, 1);
    tenon_context_destroy(ctx);
}
END_TEST

/* Problems that write nothing ask no device and read nothing, whatever else is zero in them. */
START_TEST(empty_problems) {
    static const char *const devices[] = {"reference", "cpu"};
    for (int d = 0; d < 2; ++d) {
        tenon_context *ctx;
        const tenon_context_desc desc = {.device = devices[d], .threads = 2};
        if (tenon_context_create(&desc, &ctx) != TENON_OK)
            continue; /* built without */
        float a[12] = {0}, c[8] = {7, 7, 7, 7, 7, 7, 7, 7};
        const int64_t no_experts[] = {0, 3, 2}, none[] = {1, 0, 4, 8},
                      wide[] = {INT64_C(1) << 40, 0};
        const int32_t offsets[1] = {0};
        const tenon_gemm_desc g = {.a = tenon_matrix(a, TENON_F32, 4, 3),
                                   .b = tenon_dense(NULL, TENON_F32, 3, no_experts),
                                   .c = tenon_matrix(c, TENON_F32, 4, 2),
                                   .group_offsets = tenon_vector(offsets, TENON_S32, 1)};
        ck_assert_msg(tenon_gemm(ctx, &g) == TENON_OK, "%s", tenon_error_message(ctx));
        for (int i = 0; i < 8; ++i)
            ck_assert(c[i] == 7);

        const tenon_tensor heads = tenon_dense(NULL, TENON_F32, 4, none);
        const tenon_attention_desc no_heads = {.q = heads, .k = heads, .v = heads, .o = heads};
        ck_assert_msg(tenon_attention(ctx, &no_heads) == TENON_OK, "%s", tenon_error_message(ctx));
        tenon_plan *plan;
        tenon_plan_info info = {0};
        ck_assert_int_eq(tenon_attention_plan(ctx, &no_heads, &plan), TENON_OK);
        ck_assert_int_eq(tenon_plan_query(plan, &info), TENON_OK);
        ck_assert_str_eq(info.algorithm, "nothing");
        ck_assert_int_eq(tenon_attention_run(ctx, plan, &no_heads), TENON_OK);
        tenon_plan_destroy(plan);

        const tenon_tensor rows =
            tenon_dense(NULL, TENON_F32, 2, wide); /* would take minutes row by row */
        const tenon_softmax_desc no_columns = {.x = rows, .y = rows};
        ck_assert_int_eq(tenon_softmax(ctx, &no_columns), TENON_OK);
        tenon_context_destroy(ctx);
    }
}
END_TEST

/* Zero strides describe more elements than memory has; workspaces derived from them must not overflow. */
START_TEST(elements_beyond_any_memory) {
    tenon_context *ctx = make(NULL, 2);
    uint16_t one = 0x3c00;
    float c = 7;
    tenon_gemm_desc g = {.a = tenon_matrix(&one, TENON_F16, 1, INT64_C(1) << 62),
                         .b = tenon_matrix(&one, TENON_F16, INT64_C(1) << 62, 1),
                         .c = tenon_matrix(&c, TENON_F32, 1, 1)};
    g.a.stride[0] = g.b.stride[1] = 1;
    g.a.stride[1] = g.b.stride[0] = 0;
    ck_assert_int_eq(tenon_gemm(ctx, &g), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(ctx), "a.shape"));
    ck_assert(c == 7);
    tenon_context_destroy(ctx);
}
END_TEST

/* Hooks that keep what is freed as it is, so that looking at it is no fault of the test's. */
typedef struct keeper {
    _Alignas(64) unsigned char memory[1 << 18];
    size_t used;
    int freed;
} keeper;

static void *kept_alloc(void *user, size_t bytes, size_t alignment) {
    keeper *k = user;
    const size_t at = (k->used + alignment - 1) / alignment * alignment;
    if (alignment > 64 || bytes > sizeof k->memory - at)
        return NULL;
    k->used = at + bytes;
    return k->memory + at;
}

static void kept_free(void *user, void *memory, size_t bytes) {
    (void)memory;
    (void)bytes;
    ++((keeper *)user)->freed;
}

START_TEST(context_ends_once) {
    static keeper k;
    tenon_context *ctx;
    const tenon_context_desc desc = {
        .device = "reference", .threads = 1, .allocator = {&k, kept_alloc, kept_free}};
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    const tenon_gemm_desc g = small_gemm(4);
    ck_assert_int_eq(tenon_gemm(ctx, &g), TENON_OK);
    tenon_context_destroy(ctx);
    const int once = k.freed;
    ck_assert_int_gt(once, 0);
    tenon_context_destroy(ctx);
    ck_assert_int_eq(k.freed, once);
    ASSERT_SAYS(NULL, tenon_gemm(ctx, &g), "tenon_gemm: ctx is ");
    ASSERT_SAYS(NULL, tenon_sync(ctx), "tenon_sync: ctx is ");
}
END_TEST

/* ---------------------------------------------------------------- the log */

START_TEST(log_levels) {
    for (int level = TENON_LOG_NONE; level <= TENON_LOG_DISPATCH; ++level) {
        tenon_context *ctx;
        const tenon_context_desc desc = {.device = "reference",
                                         .threads = 1,
                                         .logger = {NULL, count_line},
                                         .log_level = (tenon_log_level)level};
        memset(log_lines, 0, sizeof log_lines);
        ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
        const tenon_gemm_desc g = small_gemm(3);
        ck_assert_int_eq(tenon_gemm(ctx, &g), TENON_OK);
        ck_assert_int_eq(log_lines[TENON_LOG_INFO] > 0, level >= TENON_LOG_INFO);
        ck_assert_int_eq(log_lines[TENON_LOG_DISPATCH], level >= TENON_LOG_DISPATCH);
        if (level == TENON_LOG_DISPATCH) {
            ck_assert_ptr_nonnull(strstr(log_last, "gemm m=3 n=40 k=48"));
            ck_assert_ptr_nonnull(strstr(log_last, "-> reference"));
        }
        tenon_context_destroy(ctx);
    }
}
END_TEST

/* ---------------------------------------------------------------- threads of the host, fork */

typedef struct part {
    tenon_context *ctx;
    tenon_gemm_desc g;
    atomic_int led;
} part;

static tenon_status part_work(void *user) {
    part *p = user;
    atomic_fetch_add(&p->led, 1);
    return tenon_gemm(p->ctx, &p->g);
}

static void *part_thread(void *arg) {
    part *p = arg;
    tenon_part_run(p->ctx, part_work, p);
    return NULL;
}

START_TEST(threads_of_the_host) {
    part p = {.ctx = make(NULL, 3), .g = small_gemm(64)};
    ASSERT_SAYS(p.ctx, tenon_part_end(p.ctx), "tenon_part_end: ctx is in no part");
    for (int threads = 0; threads <= 4; ++threads) {
        pthread_t thread[4];
        p.led = 0;
        ck_assert_int_eq(tenon_part_begin(p.ctx), TENON_OK);
        ASSERT_SAYS(p.ctx, tenon_part_begin(p.ctx), "tenon_part_begin: ctx is in a part already");
        for (int i = 0; i < threads; ++i)
            ck_assert_int_eq(pthread_create(&thread[i], NULL, part_thread, &p), 0);
        for (int i = 0; i < threads; ++i)
            pthread_join(thread[i], NULL);
        if (threads)
            ck_assert_int_eq(tenon_part_end(p.ctx), TENON_OK);
        else
            ASSERT_SAYS(p.ctx, tenon_part_end(p.ctx), "tenon_part_end: work was run by no thread");
        ck_assert_int_eq(p.led, threads > 0);
        if (threads)
            check_small_gemm(64);
    }
    /* What fails inside keeps its status and its own sentence. */
    p.g.a.shape[1] = 47;
    ck_assert_int_eq(tenon_part_begin(p.ctx), TENON_OK);
    tenon_part_run(p.ctx, part_work, &p);
    ASSERT_SAYS(p.ctx, tenon_part_end(p.ctx), "tenon_gemm: b.shape[0] is 48, expected 47");
    tenon_context_destroy(p.ctx);
}
END_TEST

#ifndef TEST_TSAN /* which does not let a child start threads */
START_TEST(child_of_a_fork_goes_on) {
    tenon_context *ctx = make(NULL, 2);
    const tenon_gemm_desc g = small_gemm(64);
    ck_assert_int_eq(tenon_gemm(ctx, &g), TENON_OK);
    check_small_gemm(64);
    settle_threads();
    const pid_t child = fork();
    if (child == 0) {
        const int ok = tenon_gemm(ctx, &g) == TENON_OK && c_data[0] != 0;
        tenon_context_destroy(ctx);
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(tenon_gemm(ctx, &g), TENON_OK);
    check_small_gemm(64);
    tenon_context_destroy(ctx);
}
END_TEST
#endif

int main(void) {
    Suite *suite = suite_create("context");
    TCase *t = tcase_create("context");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, device_strings);
    tcase_add_test(t, chains_leave_out_what_is_not_there);
    tcase_add_test(t, auto_within_chains);
    tcase_add_test(t, environment_replaces_auto_only);
    tcase_add_test(t, device_list);
    tcase_add_test(t, smaller_structs_from_older_callers);
    tcase_add_test(t, second_thread_is_told_busy);
    tcase_add_test(t, null_context);
    tcase_add_test(t, plan_runs_anywhere_on_its_device);
    tcase_add_test(t, plan_of_another_device_is_refused);
    tcase_add_test(t, plan_cache_is_bounded);
    tcase_add_test(t, workspace_of_the_caller);
    tcase_add_test(t, budget_too_small);
    tcase_add_test(t, empty_problems);
    tcase_add_test(t, elements_beyond_any_memory);
    tcase_add_test(t, context_ends_once);
    tcase_add_test(t, log_levels);
    tcase_add_test(t, threads_of_the_host);
#ifndef TEST_TSAN
    tcase_add_test(t, child_of_a_fork_goes_on);
#endif
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
