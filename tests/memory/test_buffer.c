/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers: handles, views that keep their parent, foreign memory, copies through a context.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/tenon.h>

#include "memory/buffer.h"
#include "memory_support.h"
#include "suite.h"

START_TEST(handles) {
    counted hooks = {0};
    tenon_pool_desc desc = {.allocator = counted_hooks(&hooks)};
    tenon_pool *pool;
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_OK);
    tenon_buffer *buffer = (tenon_buffer *)1;
    ck_assert_int_eq(tenon_buffer_alloc(NULL, 1, NULL, &buffer), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(buffer);
    ck_assert_int_eq(tenon_buffer_alloc(pool, 1, NULL, NULL), TENON_ERROR_INVALID_ARGUMENT);
    static const size_t wrong[] = {0, 3, 8192};
    for (int i = 0; i < 3; ++i)
        ck_assert_int_eq(tenon_buffer_alloc_aligned(pool, 1, wrong[i], NULL, &buffer),
                         TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_alloc(pool, SIZE_MAX, NULL, &buffer), TENON_ERROR_OUT_OF_MEMORY);
    ck_assert_ptr_null(buffer);
    ck_assert_uint_eq(info_of(pool).blocks, 0);

    ck_assert_int_eq(tenon_buffer_alloc(pool, 0, NULL, &buffer), TENON_OK);
    ck_assert_uint_eq(tenon_buffer_size(buffer), 0);
    ck_assert_ptr_nonnull(tenon_buffer_host(buffer));
    tenon_buffer_free(buffer);
    for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        ck_assert_int_eq(tenon_buffer_alloc_aligned(pool, 100, alignment, "x", &buffer), TENON_OK);
        ck_assert_uint_eq((uintptr_t)tenon_buffer_host(buffer) % alignment, 0);
        void *native;
        size_t offset;
        tenon_native_kind kind;
        ck_assert_int_eq(tenon_buffer_native(buffer, &kind, &native, &offset), TENON_OK);
        ck_assert_int_eq(kind, TENON_NATIVE_HOST);
        ck_assert_ptr_eq((char *)native + offset, tenon_buffer_host(buffer));
        tenon_buffer_free(buffer);
    }
    tenon_buffer_free(NULL);
    ck_assert_uint_eq(tenon_buffer_size(NULL), 0);
    ck_assert_ptr_null(tenon_buffer_host(NULL));
    ck_assert_int_eq(tenon_buffer_native(NULL, NULL, NULL, NULL), TENON_ERROR_INVALID_ARGUMENT);

    /* A buffer keeps its pool. */
    ck_assert_int_eq(tenon_buffer_alloc(pool, 1000, NULL, &buffer), TENON_OK);
    tenon_pool_destroy(pool);
    memset(tenon_buffer_host(buffer), 1, 1000);
    ck_assert_int_gt(atomic_load(&hooks.live), 0);
    tenon_buffer_free(buffer);
    ck_assert_int_eq(atomic_load(&hooks.live), 0);
}
END_TEST

START_TEST(views) {
    tenon_pool *pool;
    ck_assert_int_eq(tenon_pool_create(NULL, &pool), TENON_OK);
    tenon_buffer *root, *view, *inner, *bad = (tenon_buffer *)1;
    ck_assert_int_eq(tenon_buffer_alloc(pool, 1000, "root", &root), TENON_OK);
    ck_assert_int_eq(tenon_buffer_view(root, 100, 800, &view), TENON_OK);
    ck_assert_int_eq(tenon_buffer_view(view, 800, 0, &inner), TENON_OK);
    tenon_buffer_free(inner);
    ck_assert_int_eq(tenon_buffer_view(view, 50, 10, &inner), TENON_OK);
    static const size_t outside[][2] = {{0, 801}, {801, 0}, {800, 1}, {SIZE_MAX, 2}, {2, SIZE_MAX}};
    for (int i = 0; i < 5; ++i) {
        ck_assert_int_eq(tenon_buffer_view(view, outside[i][0], outside[i][1], &bad),
                         TENON_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_null(bad);
    }
    ck_assert_int_eq(tenon_buffer_view(NULL, 0, 0, &bad), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_view(view, 0, 0, NULL), TENON_ERROR_INVALID_ARGUMENT);
    char *at = tenon_buffer_host(root);
    ck_assert_ptr_eq(tenon_buffer_host(inner), at + 150);
    ck_assert_uint_eq(tenon_buffer_size(inner), 10);
    /* In any order: the block goes with the last one. */
    tenon_buffer_free(root);
    tenon_buffer_free(view);
    ck_assert_uint_eq(info_of(pool).blocks, 1);
    memset(tenon_buffer_host(inner), 7, 10);
    tenon_buffer_free(root); /* twice: noticed, and does not take the view's hold */
    ck_assert_uint_eq(info_of(pool).damages, 1);
    ck_assert_uint_eq(info_of(pool).blocks, 1);
    tenon_buffer_free(inner);
    ck_assert_uint_eq(info_of(pool).blocks, 0);
    tenon_pool_destroy(pool);
}
END_TEST

START_TEST(foreign_memory) {
    tenon_pool_desc desc = {.budget = 4096};
    tenon_pool *pool;
    ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_OK);
    static char memory[100000];
    tenon_buffer *buffer, *view;
    ck_assert_int_eq(tenon_buffer_import(pool, TENON_NATIVE_HOST, memory, sizeof memory, &buffer),
                     TENON_OK);
    ck_assert_ptr_eq(tenon_buffer_host(buffer), memory);
    ck_assert_uint_eq(info_of(pool).reserved, 0);
    ck_assert_int_eq(tenon_buffer_view(buffer, 5, 10, &view), TENON_OK);
    tenon_buffer_free(buffer);
    ck_assert_ptr_eq(tenon_buffer_host(view), memory + 5);
    tenon_buffer_free(view);
    ck_assert_int_eq(tenon_buffer_import(pool, TENON_NATIVE_HOST, NULL, 1, &buffer),
                     TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_import(pool, TENON_NATIVE_CUDA, memory, 1, &buffer),
                     TENON_ERROR_UNSUPPORTED);
    ck_assert_ptr_null(buffer);
    ck_assert_int_eq(tenon_buffer_import(pool, TENON_NATIVE_HOST, NULL, 0, &buffer), TENON_OK);
    tenon_buffer_free(buffer);
    tenon_pool_destroy(pool);
}
END_TEST

START_TEST(foreign_memory_has_an_end) {
    tenon_pool *pool = make_pool((tenon_pool_desc){0});
    char *const last = (char *)UINTPTR_MAX - 99; /* 100 bytes to the end of the address space */
    tenon_buffer *buffer;
    ck_assert_int_eq(tenon_buffer_import(pool, TENON_NATIVE_HOST, last, 101, &buffer),
                     TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(buffer);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "101"));
    ck_assert_int_eq(tenon_buffer_import(pool, TENON_NATIVE_HOST, last, SIZE_MAX, &buffer),
                     TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_import(pool, TENON_NATIVE_HOST, last, 99, &buffer), TENON_OK);
    tenon_buffer_free(buffer);
    tenon_pool_destroy(pool);
}
END_TEST

static void said_of(const char *field, const char *fault, const char *said) {
    char text[64];
    snprintf(text, sizeof text, "%s %s, expected a live", field, fault);
    ck_assert_msg(strstr(said, text) != NULL, "not %s: %s", text, said);
}

/* Every call that takes a buffer, with one that is not live: `fault` is what must be said of it. */
static void use_dead(tenon_context *ctx, tenon_buffer *dead, const char *fault) {
    static float b[4], c[4] = {7, 7, 7, 7};
    char bytes[16];
    void *native;
    tenon_buffer *view = dead;
    const tenon_gemm_desc product = {
        .a = {.dtype = TENON_F32, .rank = 2, .shape = {2, 2}, .stride = {2, 1}, .buffer = dead},
        .b = tenon_matrix(b, TENON_F32, 2, 2),
        .c = tenon_matrix(c, TENON_F32, 2, 2)};
    ck_assert_int_eq(tenon_gemm(ctx, &product), TENON_ERROR_INVALID_ARGUMENT);
    said_of("a.buffer", fault, tenon_error_message(ctx));
    for (int i = 0; i < 4; ++i)
        ck_assert(c[i] == 7);
    ck_assert_int_eq(tenon_buffer_read(ctx, dead, 0, bytes, 16), TENON_ERROR_INVALID_ARGUMENT);
    said_of(": buffer", fault, tenon_error_message(ctx));
    ck_assert_int_eq(tenon_buffer_write(ctx, dead, 0, bytes, 16), TENON_ERROR_INVALID_ARGUMENT);
    said_of(": buffer", fault, tenon_error_message(ctx));
    ck_assert_int_eq(tenon_buffer_map(ctx, dead, 0, 1, &native), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_unmap(ctx, dead, bytes), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_native(dead, NULL, &native, NULL), TENON_ERROR_INVALID_ARGUMENT);
    said_of(": buffer", fault, tenon_error_message(NULL));
    ck_assert_int_eq(tenon_buffer_view(dead, 0, 1, &view), TENON_ERROR_INVALID_ARGUMENT);
    said_of(": parent", fault, tenon_error_message(NULL));
    ck_assert_ptr_null(view);
    ck_assert_uint_eq(tenon_buffer_size(dead), 0);
    ck_assert_ptr_null(tenon_buffer_host(dead));
}

START_TEST(freed_buffers_are_refused) {
    for (int debug = 0; debug < 2; ++debug) {
        const tenon_context_desc desc = {
            .device = "reference", .threads = 1, .flags = debug ? TENON_CONTEXT_DEBUG_MEMORY : 0u};
        tenon_context *ctx;
        ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
        tenon_pool *pool = tenon_context_pool(ctx, 0);
        tenon_buffer *block, *view, *foreign, *held;
        static char memory[64];
        ck_assert_int_eq(tenon_buffer_alloc(pool, 16, NULL, &held), TENON_OK);
        ck_assert_int_eq(tenon_buffer_alloc(pool, 16, NULL, &block), TENON_OK);
        ck_assert_int_eq(tenon_buffer_view(held, 0, 16, &view), TENON_OK);
        ck_assert_int_eq(tenon_buffer_import(pool, TENON_NATIVE_HOST, memory, 64, &foreign),
                         TENON_OK);
        tenon_buffer *freed[] = {block, view, foreign};
        for (int i = 0; i < 3; ++i) {
            tenon_buffer_free(freed[i]);
            use_dead(ctx, freed[i], "was freed");
            tenon_buffer_free(freed[i]);
            ck_assert_uint_eq(info_of(pool).damages, (uint64_t)i + 1);
        }
        /* A debug pool uses other handles first, as long as it has some. */
        tenon_buffer *others[10];
        for (int i = 0; i < 10; ++i)
            ck_assert_int_eq(tenon_buffer_alloc(pool, 16, NULL, &others[i]), TENON_OK);
        if (debug)
            use_dead(ctx, block, "was freed");
        for (int i = 0; i < 10; ++i)
            tenon_buffer_free(others[i]);
        tenon_buffer_free(held);
        ck_assert_uint_eq(info_of(pool).blocks, 0);
        tenon_context_destroy(ctx);
    }
}
END_TEST

/* Memory that never was a handle; its pool is not looked for. */
START_TEST(what_never_was_a_buffer_is_refused) {
    static tenon_buffer zeros, words = {.mark = 12345};
    const tenon_context_desc desc = {.device = "reference", .threads = 1};
    tenon_context *ctx;
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    use_dead(ctx, &zeros, "is no buffer");
    use_dead(ctx, &words, "is no buffer");
    tenon_context_destroy(ctx);
}
END_TEST

START_TEST(copies) {
    tenon_context_desc desc = {.device = "reference", .threads = 1};
    tenon_context *ctx;
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    tenon_buffer *buffer;
    ck_assert_int_eq(tenon_buffer_alloc(tenon_context_pool(ctx, 0), 16, NULL, &buffer), TENON_OK);
    char digits[16] = "0123456789abcde", back[16] = {0};
    ck_assert_int_eq(tenon_buffer_write(ctx, buffer, 0, digits, 16), TENON_OK);
    ck_assert_int_eq(tenon_buffer_write(ctx, buffer, 4, "xy", 2), TENON_OK);
    ck_assert_int_eq(tenon_buffer_read(ctx, buffer, 2, back, 6), TENON_OK);
    ck_assert_mem_eq(back, "23xy67", 6);
    void *mapped;
    ck_assert_int_eq(tenon_buffer_map(ctx, buffer, 4, 12, &mapped), TENON_OK);
    ck_assert_ptr_eq(mapped, (char *)tenon_buffer_host(buffer) + 4);
    ck_assert_int_eq(tenon_buffer_unmap(ctx, buffer, mapped), TENON_OK);
    ck_assert_int_eq(tenon_buffer_unmap(ctx, buffer, digits), TENON_ERROR_INVALID_ARGUMENT);
    /* Refused, and nothing is written. */
    ck_assert_int_eq(tenon_buffer_write(ctx, buffer, 10, digits, 7), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(
        strstr(tenon_error_message(ctx), "tenon_buffer_write: offset is 10 and bytes 7"));
    ck_assert_int_eq(tenon_buffer_read(ctx, buffer, SIZE_MAX, back, 2),
                     TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_read(ctx, buffer, 0, NULL, 2), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_read(ctx, NULL, 0, back, 2), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_map(ctx, buffer, 10, 7, &mapped), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(mapped);
    ck_assert_int_eq(tenon_buffer_map(ctx, buffer, 0, 1, NULL), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_write(NULL, buffer, 0, digits, 1), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_buffer_read(ctx, buffer, 16, NULL, 0), TENON_OK);
    ck_assert_int_eq(tenon_buffer_read(ctx, buffer, 10, back, 6), TENON_OK);
    ck_assert_mem_eq(back, "abcde", 6);
    tenon_buffer_free(buffer);
    tenon_context_destroy(ctx);
}
END_TEST

static Suite *buffer_suite(void) {
    Suite *suite = suite_create("buffer");
    TCase *tcase = tcase_create("buffer");
    tcase_add_test(tcase, handles);
    tcase_add_test(tcase, views);
    tcase_add_test(tcase, foreign_memory);
    tcase_add_test(tcase, foreign_memory_has_an_end);
    tcase_add_test(tcase, freed_buffers_are_refused);
    tcase_add_test(tcase, what_never_was_a_buffer_is_refused);
    tcase_add_test(tcase, copies);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(buffer_suite());
}
