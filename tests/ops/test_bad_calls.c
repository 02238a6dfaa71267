/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bad input to the calls around the operations: contexts, devices, pools, buffers, layouts, plans, types. Every field of the two descriptors has a
 * case; every call gets its NULLs and its numbers out of range. The sentence must name what was wrong and give its value.
 */
#include "bad_input.h"
#include "sentence.h"
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define INVALID TENON_ERROR_INVALID_ARGUMENT
#define ODD_ADDRESS ((void *)(intptr_t)0x10001)

static tenon_context *ctx;
static tenon_pool *pool;

/* The sentence is what the rule wants of one of the call in `text`. */
static void check_sentence(int line, const char *text, tenon_status status, const char *said) {
    char call[64];
    snprintf(call, sizeof call, "%.*s", (int)strcspn(text, "("), text);
    const char *fault = sentence_fault(said, call, status);
    ck_assert_msg(!fault, "line %d: the sentence %s: %s", line, fault, said);
}

/* `status` is `expected` and the sentence of `from` (NULL: of calls without a context) keeps the rule and has both parts. */
static void refused(int line, const char *call, tenon_status status, tenon_status expected,
                    const tenon_context *from, const char *about, const char *says) {
    const char *said = tenon_error_message(from);
    ck_assert_msg(status == expected, "line %d: %s, expected %s", line, tenon_status_name(status),
                  tenon_status_name(expected));
    ck_assert_msg(strstr(said, about) && strstr(said, says), "line %d: does not say %s and %s: %s",
                  line, about, says, said);
    check_sentence(line, call, status, said);
}
#define REFUSED_WITH(status, call, field, says)                                                    \
    refused(__LINE__, #call, call, status, NULL, field, says)
#define REFUSED(call, field, says) REFUSED_WITH(INVALID, call, field, says)
#define REFUSED_BY(context, call, field, says)                                                     \
    refused(__LINE__, #call, call, INVALID, context, field, says)

static void open_all(void) {
    const tenon_context_desc desc = {.device = "reference", .threads = 1};
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    ck_assert_int_eq(tenon_pool_create(NULL, &pool), TENON_OK);
}

static void close_all(void) {
    tenon_pool_destroy(pool);
    tenon_context_destroy(ctx);
}

/* ---------------------------------------------------------------- descriptors of contexts and pools */

static int two(void *user) {
    (void)user;
    return 2;
}
static int no_threads(void *user) {
    (void)user;
    return 0;
}
static int many_threads(void *user) {
    (void)user;
    return 1025;
}
static void in_turn(void *user, void (*task)(void *arg, int index), void *arg, int count) {
    (void)user;
    for (int i = 0; i < count; ++i)
        task(arg, i);
}
static void *no_memory(void *user, size_t bytes, size_t alignment) {
    (void)user;
    (void)bytes;
    (void)alignment;
    return NULL;
}
static void no_free(void *user, void *memory, size_t bytes) {
    (void)user;
    (void)memory;
    (void)bytes;
}
static void no_log(void *user, tenon_log_level level, const char *line) {
    (void)user;
    (void)level;
    (void)line;
}

#define SET(type, member, ...)                                                                     \
    {                                                                                              \
        offsetof(type, member), sizeof(((type *)0)->member),                                       \
            &(const __typeof__(((type *)0)->member)) {                                             \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define C(member, ...) SET(tenon_context_desc, member, __VA_ARGS__)
#define P(member, ...) SET(tenon_pool_desc, member, __VA_ARGS__)

typedef struct desc_case {
    const char *field, *says;
    tenon_status status;
    patch patch[3];
} desc_case;

static const desc_case context_cases[] = {
    {"struct_size", "4", INVALID, {C(struct_size, 4)}},
    {"struct_size", "1000000", INVALID, {C(struct_size, 1000000)}},
    {"device", "warp:9", INVALID, {C(device, "warp:9")}},
    {"device", "cpu:", INVALID, {C(device, "cpu:")}},
    {"device", "reference,", INVALID, {C(device, "reference,")}},
    {"device", "\"\"", INVALID, {C(device, "")}},
    {"device", "reference", INVALID, {C(device, "reference,reference")}},
    {"device", "reference:7", TENON_ERROR_NO_DEVICE, {C(device, "reference:7")}},
    {"threads", "-1", INVALID, {C(threads, -1)}},
    {"threads", "1000000", INVALID, {C(threads, 1000000)}},
    {"flags", "0x80000000", INVALID, {C(flags, 0x80000000u)}},
    {"parallel", "threads", INVALID, {C(parallel.threads, two)}},
    {"parallel", "run", INVALID, {C(parallel.run, NULL), C(parallel.threads, two)}},
    {"", "", TENON_OK, {C(parallel.user, ODD_ADDRESS)}},
    {"", "", TENON_OK, {C(parallel.threads, two), C(parallel.run, in_turn)}},
    {"parallel.threads",
     "returned 0",
     INVALID,
     {C(parallel.threads, no_threads), C(parallel.run, in_turn)}},
    {"parallel.threads",
     "returned 1025",
     INVALID,
     {C(parallel.threads, many_threads), C(parallel.run, in_turn), C(threads, 2)}},
    {"memory_budget", "4096", INVALID, {C(memory_budget, 4096)}}, /* with a pool, see below */
    {"", "", TENON_OK, {C(pool, NULL), C(memory_budget, 1 << 20)}},
    {"allocator", "alloc", INVALID, {C(allocator.alloc, no_memory)}},
    {"allocator", "free", INVALID, {C(allocator.free, no_free)}},
    {"", "", TENON_OK, {C(allocator.user, ODD_ADDRESS)}},
    {"", "", TENON_OK, {C(logger.user, ODD_ADDRESS)}},
    {"", "", TENON_OK, {C(logger.log, no_log), C(log_level, TENON_LOG_DEBUG)}},
    {"log_level", "9", INVALID, {C(log_level, (tenon_log_level)9)}},
    {"log_level", "-1", INVALID, {C(log_level, (tenon_log_level)-1)}},
    {"native_context", "0x10001", TENON_ERROR_UNSUPPORTED, {C(native_context, ODD_ADDRESS)}},
    {"native_queue", "0x10001", TENON_ERROR_UNSUPPORTED, {C(native_queue, ODD_ADDRESS)}},
    {"", "", TENON_OK, {C(plan_cache_bytes, 1)}},
    {"", "", TENON_OK, {C(kernel_cache_path, "/nonexistent")}}, /* nothing is compiled here */
};

static const desc_case pool_cases[] = {
    {"struct_size", "4", INVALID, {P(struct_size, 4)}},
    {"device", "warp:9", TENON_ERROR_NO_DEVICE, {P(device, "warp:9")}},
    {"budget",
     "4096",
     TENON_ERROR_OVER_BUDGET,
     {P(budget, 4096), P(segment_bytes, 8192), P(flags, TENON_POOL_FIXED)}},
    {"segment_bytes", "18446744073709551615", INVALID, {P(segment_bytes, SIZE_MAX)}},
    {"flags", "0x40000000", INVALID, {P(flags, 0x40000000u)}},
    {"allocator", "alloc", INVALID, {P(allocator.alloc, no_memory)}},
    {"allocator", "free", INVALID, {P(allocator.free, no_free)}},
    {"", "", TENON_OK, {P(allocator.user, ODD_ADDRESS)}},
    {"", "", TENON_OK, {P(logger.user, ODD_ADDRESS)}},
    {"", "", TENON_OK, {P(logger.log, no_log)}},
    {"log_level", "9", INVALID, {P(log_level, (tenon_log_level)9)}},
};

/* Tries all cases of one descriptor and sees that every field has one. */
static void try_descs(const desc_case *cases, size_t count, const field_list *list,
                      const void *base, const char *call,
                      tenon_status (*create)(const void *desc)) {
    union {
        tenon_context_desc context;
        tenon_pool_desc pool;
        unsigned char bytes[512];
    } desc;
    unsigned char covered[512] = {0};
    size_t at = 0;
    for (size_t i = 0; i < count; ++i) {
        memcpy(&desc, base, list->struct_bytes);
        for (int k = 0; k < 3 && cases[i].patch[k].bytes > 0; ++k) {
            memcpy(desc.bytes + cases[i].patch[k].offset, cases[i].patch[k].value,
                   cases[i].patch[k].bytes);
            memset(covered + cases[i].patch[k].offset, 1, cases[i].patch[k].bytes);
        }
        const tenon_status status = create(&desc);
        const char *said = tenon_error_message(NULL);
        ck_assert_msg(status == cases[i].status, "case %zu (%s): %s, expected %s: %s", i,
                      cases[i].field, tenon_status_name(status), tenon_status_name(cases[i].status),
                      said);
        ck_assert_msg(
            status == TENON_OK || (strstr(said, cases[i].field) && strstr(said, cases[i].says)),
            "case %zu: does not say %s and %s: %s", i, cases[i].field, cases[i].says, said);
        if (status != TENON_OK)
            check_sentence((int)i, call, status, said);
    }
    for (int i = 0; i < list->count; ++i) {
        ck_assert_msg(list->fields[i].offset == at, "byte %zu belongs to no field", at);
        ck_assert_msg(list->fields[i].name[0] == 0 || covered[at], "no case for %s",
                      list->fields[i].name);
        at += list->fields[i].bytes;
    }
    ck_assert_uint_eq(at, list->struct_bytes);
}

static tenon_status create_context(const void *desc) {
    tenon_context *made = (tenon_context *)ODD_ADDRESS;
    const tenon_status status = tenon_context_create(desc, &made);
    ck_assert((status == TENON_OK) == (made != NULL));
    tenon_context_destroy(made);
    return status;
}

static tenon_status create_pool(const void *desc) {
    tenon_pool *made = (tenon_pool *)ODD_ADDRESS;
    const tenon_status status = tenon_pool_create(desc, &made);
    ck_assert((status == TENON_OK) == (made != NULL));
    tenon_pool_destroy(made);
    return status;
}

START_TEST(contexts) {
    open_all();
    const tenon_context_desc base = {.device = "reference", .threads = 1, .pool = pool};
    try_descs(context_cases, sizeof context_cases / sizeof context_cases[0], &context_fields, &base,
              "tenon_context_create", create_context);
    REFUSED(tenon_context_create(NULL, NULL), "out", "NULL");
    REFUSED(tenon_sync(NULL), "ctx", "NULL");
    REFUSED(tenon_context_wait(NULL, ctx), "ctx", "NULL");
    REFUSED_BY(ctx, tenon_context_wait(ctx, NULL), "other", "NULL");
    REFUSED(tenon_context_native(NULL, NULL, NULL), "ctx", "NULL");
    REFUSED(tenon_context_save_kernels(NULL, NULL, 0, NULL), "ctx", "NULL");
    REFUSED_BY(ctx, tenon_context_save_kernels(ctx, NULL, 0, NULL), "bytes", "NULL");
    REFUSED(tenon_context_load_kernels(NULL, "", 0, NULL), "ctx", "NULL");
    REFUSED_BY(ctx, tenon_context_load_kernels(ctx, NULL, 1, NULL), "memory", "NULL");
    ck_assert_ptr_null(tenon_context_device(ctx, 1));
    ck_assert_ptr_null(tenon_context_device(ctx, -1));
    ck_assert_ptr_null(tenon_context_device(NULL, 0));
    ck_assert_ptr_null(tenon_context_pool(ctx, 1));
    ck_assert_ptr_null(tenon_context_pool(NULL, 0));
    ck_assert_int_eq(tenon_context_threads(NULL), 0);
    REFUSED(tenon_part_begin(NULL), "ctx", "NULL");
    REFUSED_BY(ctx, tenon_part_end(ctx), "tenon_part_end", "tenon_part_begin");
    tenon_context_destroy(NULL);
    close_all();
}
END_TEST

START_TEST(devices) {
    tenon_device_info info = {.struct_size = sizeof info};
    char last[32];
    snprintf(last, sizeof last, "%d", tenon_device_count());
    REFUSED(tenon_device_get(0, NULL), "info", "NULL");
    REFUSED(tenon_device_get(-1, &info), "index", "-1");
    REFUSED(tenon_device_get(tenon_device_count(), &info), "index", last);
    info.struct_size = 3;
    REFUSED(tenon_device_get(0, &info), "struct_size", "3");
}
END_TEST

/* ---------------------------------------------------------------- pools and buffers */

START_TEST(pools) {
    open_all();
    const tenon_pool_desc base = {.device = "cpu"};
    try_descs(pool_cases, sizeof pool_cases / sizeof pool_cases[0], &pool_fields, &base,
              "tenon_pool_create", create_pool);
    REFUSED(tenon_pool_create(NULL, NULL), "out", "NULL");
    tenon_memory_info info = {.struct_size = sizeof info};
    REFUSED(tenon_memory_stats(NULL, &info), "pool", "NULL");
    REFUSED(tenon_memory_stats(pool, NULL), "info", "NULL");
    REFUSED(tenon_memory_snapshot(NULL, NULL, NULL), "pool", "NULL");
    REFUSED(tenon_memory_snapshot(pool, NULL, NULL), "sink", "NULL");
    REFUSED(tenon_memory_record(NULL, NULL, NULL), "pool", "NULL");
    REFUSED(tenon_memory_inject(NULL, NULL), "pool", "NULL");
    tenon_fault_rule rule = {.probability = 1.5};
    REFUSED(tenon_memory_inject(pool, &rule), "probability", "1.5");
    rule.probability = NAN;
    REFUSED(tenon_memory_inject(pool, &rule), "probability", "nan");
    rule = (tenon_fault_rule){.struct_size = 5};
    REFUSED(tenon_memory_inject(pool, &rule), "struct_size", "5");
    ck_assert_uint_eq(tenon_memory_owners(NULL, NULL, 0), 0);
    ck_assert_uint_eq(tenon_memory_trim(NULL, 0), 0);
    tenon_pool_destroy(NULL);
    close_all();
}
END_TEST

START_TEST(buffers) {
    open_all();
    tenon_buffer *buffer = (tenon_buffer *)ODD_ADDRESS, *good, *view;
    unsigned char bytes[64] = {0};
    void *host = bytes;
    ck_assert_int_eq(tenon_buffer_alloc(pool, sizeof bytes, NULL, &good), TENON_OK);

    REFUSED(tenon_buffer_alloc(NULL, 1, NULL, &buffer), "pool", "NULL");
    ck_assert_ptr_null(buffer);
    REFUSED(tenon_buffer_alloc(pool, 1, NULL, NULL), "out", "NULL");
    REFUSED(tenon_buffer_alloc_aligned(pool, 1, 0, NULL, &buffer), "alignment", "0");
    REFUSED(tenon_buffer_alloc_aligned(pool, 1, 48, NULL, &buffer), "alignment", "48");
    REFUSED(tenon_buffer_alloc_aligned(pool, 1, 8192, NULL, &buffer), "alignment", "8192");
    REFUSED_WITH(TENON_ERROR_OUT_OF_MEMORY, tenon_buffer_alloc(pool, SIZE_MAX, NULL, &buffer), "",
                 "18446744073709551615");
    ck_assert_ptr_null(buffer);

    REFUSED(tenon_buffer_import(NULL, TENON_NATIVE_HOST, bytes, 1, &buffer), "pool", "NULL");
    REFUSED(tenon_buffer_import(pool, TENON_NATIVE_HOST, bytes, 1, NULL), "out", "NULL");
    REFUSED(tenon_buffer_import(pool, TENON_NATIVE_HOST, NULL, 5, &buffer), "native", "5");
    REFUSED_WITH(TENON_ERROR_UNSUPPORTED,
                 tenon_buffer_import(pool, (tenon_native_kind)9, bytes, 1, &buffer), "kind", "9");

    REFUSED(tenon_buffer_view(NULL, 0, 1, &view), "parent", "NULL");
    REFUSED(tenon_buffer_view(good, 0, 1, NULL), "out", "NULL");
    REFUSED(tenon_buffer_view(good, 60, 5, &view), "offset", "60");
    REFUSED(tenon_buffer_view(good, SIZE_MAX, 2, &view), "offset", "18446744073709551615");
    REFUSED(tenon_buffer_native(NULL, NULL, NULL, NULL), "buffer", "NULL");
    ck_assert_uint_eq(tenon_buffer_size(NULL), 0);
    ck_assert_ptr_null(tenon_buffer_host(NULL));

    REFUSED(tenon_buffer_write(NULL, good, 0, bytes, 1), "ctx", "NULL");
    REFUSED_BY(ctx, tenon_buffer_write(ctx, NULL, 0, bytes, 1), "buffer", "NULL");
    REFUSED_BY(ctx, tenon_buffer_write(ctx, good, 0, NULL, 1), "host", "NULL");
    REFUSED_BY(ctx, tenon_buffer_write(ctx, good, 64, bytes, 1), "offset", "64");
    REFUSED_BY(ctx, tenon_buffer_read(ctx, NULL, 0, bytes, 1), "buffer", "NULL");
    REFUSED_BY(ctx, tenon_buffer_read(ctx, good, 0, NULL, 1), "host", "NULL");
    REFUSED_BY(ctx, tenon_buffer_read(ctx, good, 1, bytes, SIZE_MAX), "bytes",
               "18446744073709551615");
    REFUSED_BY(ctx, tenon_buffer_map(ctx, good, 1, 64, &host), "offset", "1");
    ck_assert_ptr_null(host);
    REFUSED_BY(ctx, tenon_buffer_map(ctx, good, 0, 64, NULL), "host", "NULL");
    REFUSED_BY(ctx, tenon_buffer_unmap(ctx, good, ODD_ADDRESS), "host", "0x10001");
    tenon_buffer_free(NULL);
    tenon_buffer_free(good);
    close_all();
}
END_TEST

START_TEST(layouts) {
    tenon_lifetime object[2] = {{.bytes = 10, .offset = 77}, {.bytes = 10, .offset = 78}};
    size_t total = 5;
    REFUSED(tenon_memory_layout(NULL, NULL, 2, &total, NULL), "objects", "NULL");
    REFUSED(tenon_memory_layout(NULL, object, 2, NULL, NULL), "total", "NULL");
    object[1].last = -1;
    REFUSED(tenon_memory_layout(NULL, object, 2, &total, NULL), "objects[1].last", "-1");
    object[1].last = 0;
    object[1].alignment = 24;
    REFUSED(tenon_memory_layout(NULL, object, 2, &total, NULL), "objects[1].alignment", "24");
    object[1].alignment = 0;
    object[1].bytes = SIZE_MAX;
    REFUSED(tenon_memory_layout(NULL, object, 2, &total, NULL), "bytes", "objects[1]");
    ck_assert(object[0].offset == 77 && object[1].offset == 78 && total == 5);
}
END_TEST

/* ---------------------------------------------------------------- plans and types */

START_TEST(plans) {
    open_all();
    float x[4] = {0};
    const tenon_softmax_desc desc = {.x = tenon_vector(x, TENON_F32, 4),
                                     .y = tenon_vector(x, TENON_F32, 4)};
    tenon_plan_info info = {.struct_size = sizeof info};
    tenon_plan_choice choice = {.struct_size = sizeof choice};
    tenon_plan *plan;
    size_t peak = 3;
    ck_assert_int_eq(tenon_softmax_plan(ctx, &desc, &plan), TENON_OK);
    REFUSED(tenon_plan_query(NULL, &info), "plan", "NULL");
    REFUSED(tenon_plan_query(plan, NULL), "info", "NULL");
    ck_assert_int_eq(tenon_plan_query(plan, &info), TENON_OK);
    REFUSED(tenon_plan_choice_get(plan, -1, &choice), "index", "-1");
    REFUSED(tenon_plan_choice_get(plan, info.choices, &choice), "index", "expected 0 to");
    REFUSED(tenon_plan_choice_get(plan, 0, NULL), "choice", "NULL");
    REFUSED(tenon_plan_choice_get(NULL, 0, &choice), "plan", "NULL");
    REFUSED(tenon_plan_choose(NULL, 0), "plan", "NULL");
    REFUSED(tenon_plan_choose(plan, info.choices), "index", "expected 0 to");
    ck_assert_ptr_null(tenon_plan_declined(plan, info.declined));
    ck_assert_ptr_null(tenon_plan_declined(plan, -1));
    ck_assert_ptr_null(tenon_plan_declined(NULL, 0));
    REFUSED(tenon_plan_budget(NULL, 1, &peak, NULL), "plans", "NULL");
    const tenon_plan *const list[] = {plan, NULL};
    REFUSED(tenon_plan_budget(list, 2, &peak, NULL), "plans[1]", "NULL");
    ck_assert_uint_eq(peak, 3);
    ck_assert_int_eq(tenon_plan_budget(NULL, 0, &peak, NULL), TENON_OK);
    ck_assert_uint_eq(peak, 0);
    tenon_plan_destroy(plan);
    tenon_plan_destroy(NULL);
    close_all();
}
END_TEST

START_TEST(types) {
    int64_t elements = 7;
    size_t bytes = 9;
    int known = 0;
    for (int value = -3; value < 200; ++value) {
        const tenon_dtype dtype = (tenon_dtype)value;
        const char *name = tenon_dtype_name(dtype);
        if (strcmp(name, "?") == 0 || strcmp(name, "none") == 0) {
            elements = 7, bytes = 9;
            ck_assert_int_eq(tenon_dtype_block(dtype, &elements, &bytes), INVALID);
            ck_assert(elements == 7 && bytes == 9);
            continue;
        }
        ++known;
        ck_assert_int_eq(tenon_dtype_from_name(name), dtype);
        ck_assert_int_eq(tenon_dtype_block(dtype, &elements, &bytes), TENON_OK);
        ck_assert(elements > 0 && bytes > 0);
        ck_assert_int_eq(tenon_dtype_block(dtype, NULL, NULL), TENON_OK);
    }
    ck_assert_int_eq(known, 22);
    ck_assert_int_eq(tenon_dtype_from_name("f31"), TENON_DTYPE_NONE);
    ck_assert_int_eq(tenon_dtype_from_name("none"), TENON_DTYPE_NONE);
    ck_assert_int_eq(tenon_dtype_from_name(NULL), TENON_DTYPE_NONE);
    ck_assert_str_eq(tenon_dtype_name(TENON_DTYPE_NONE), "none");
    ck_assert_str_eq(tenon_status_name((tenon_status)77), "unknown status");
    ck_assert_str_eq(tenon_status_name(TENON_ERROR_BUSY), "TENON_ERROR_BUSY");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bad calls");
    TCase *tc = tcase_create("around the operations");
    tcase_add_test(tc, contexts);
    tcase_add_test(tc, devices);
    tcase_add_test(tc, pools);
    tcase_add_test(tc, buffers);
    tcase_add_test(tc, layouts);
    tcase_add_test(tc, plans);
    tcase_add_test(tc, types);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
