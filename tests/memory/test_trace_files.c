/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of allocations (bench/traces*.c): what a recording says comes back, what is wrong is told
 * with its line, and no file crashes the reader. Generated traces repeat by their seed.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/memory.h>

#include "memory_support.h"
#include "rng.h"
#include "suite.h"
#include "traces.h"

static const traces_model model = {"kv", 1000};

static bool read_bytes(const void *text, size_t length, traces_format format, int page_tokens,
                       traces *t, traces_error *error) {
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, length, file), length);
    rewind(file);
    const traces_server server = {.models = &model,
                                  .page_tokens = page_tokens,
                                  .speed = 1,
                                  .seconds_per_token = 1,
                                  .seconds_per_prompt_token = 0};
    *error = (traces_error){""};
    bool fine = traces_read(t, file, "file", format, &server, error);
    fclose(file);
    /* Either a trace, or a sentence and nothing. */
    ck_assert_int_eq(fine, error->text[0] == '\0');
    ck_assert_int_eq(fine, t->events != NULL);
    return fine;
}

static bool read_text(const char *text, traces *t) {
    traces_error error;
    return read_bytes(text, strlen(text), TRACES_AUTO, 0, t, &error);
}

static int count_lines(void *user, const char *text, size_t bytes) {
    gathered_sink(user, text, bytes);
    return 0;
}

/* What a pool records is read back, allocation by allocation. */
START_TEST(recordings_come_back) {
    tenon_pool *pool;
    ck_assert_int_eq(tenon_pool_create(NULL, &pool), TENON_OK);
    tenon_buffer *before, *buffers[50];
    ck_assert_int_eq(tenon_buffer_alloc(pool, 10, "before", &before), TENON_OK);
    gathered text = {0};
    ck_assert_int_eq(tenon_memory_record(pool, count_lines, &text), TENON_OK);
    for (size_t i = 0; i < 50; ++i)
        ck_assert_int_eq(tenon_buffer_alloc_aligned(pool, i * i * 1000, 64 << i % 7,
                                                    i % 2 ? "odd ones" : "even", &buffers[i]),
                         TENON_OK);
    for (size_t i = 0; i < 50; i += 2)
        tenon_buffer_free(buffers[i]);
    tenon_buffer_free(before); /* a free of what the recording does not know */
    ck_assert_int_eq(tenon_memory_record(pool, NULL, NULL), TENON_OK);
    for (size_t i = 1; i < 50; i += 2)
        tenon_buffer_free(buffers[i]);
    tenon_pool_destroy(pool);

    traces t;
    ck_assert(read_text(text.bytes, &t));
    ck_assert_uint_eq(t.blocks_count, 50);
    ck_assert_uint_eq(t.events_count, 75);
    ck_assert_uint_eq(t.dropped, 1);
    ck_assert_uint_eq(t.owners_count, 2);
    size_t live = 0;
    for (size_t i = 0; i < 50; ++i) {
        ck_assert_uint_eq(t.blocks[i].bytes, i * i * 1000);
        ck_assert_uint_eq(t.blocks[i].alignment, 64u << i % 7);
        ck_assert_str_eq(t.owners[t.blocks[i].owner], i % 2 ? "odd ones" : "even");
        ck_assert(!t.events[i].free);
        live += i * i * 1000;
    }
    for (size_t i = 50; i < 75; ++i) {
        ck_assert(t.events[i].free);
        ck_assert_uint_eq(t.events[i].block, 2 * (i - 50));
    }
    ck_assert_uint_eq(t.peak_live, live);
    traces_free(&t);
    gathered_free(&text);
}
END_TEST

START_TEST(requests_become_caches) {
    /* Over midnight, at the end of a leap February; a token a second. */
    const char *text = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                       "2024-02-29 23:59:59.5000000,10,3\n"
                       "2024-03-01 00:00:01.5000000,20,1\r\n"
                       "2024-03-01 00:00:03.5000000,5,0";
    traces t;
    traces_error error;
    ck_assert(read_bytes(text, strlen(text), TRACES_AZURE, 0, &t, &error));
    const traces_event expected[] = {{0, false}, {1, false}, {0, true},
                                     {1, true},  {2, false}, {2, true}};
    ck_assert_uint_eq(t.events_count, 6);
    for (int i = 0; i < 6; ++i) {
        ck_assert_uint_eq(t.events[i].block, expected[i].block);
        ck_assert_int_eq(t.events[i].free, expected[i].free);
    }
    ck_assert_uint_eq(t.blocks[0].bytes, 13000);
    ck_assert_uint_eq(t.peak_live, 34000);
    traces_free(&t);
    /* In pages of four tokens: 3 + 1, 5 + 1 and 2 pages. */
    ck_assert(read_bytes(text, strlen(text), TRACES_AUTO, 4, &t, &error));
    ck_assert_uint_eq(t.blocks_count, 12);
    ck_assert_uint_eq(t.peak_live, 40000);
    ck_assert_uint_le(t.used, 34000);
    ck_assert_uint_ge(t.used, 32000);
    ck_assert_uint_eq(t.live, 0);
    traces_free(&t);
}
END_TEST

START_TEST(lifetimes_become_events) {
    traces t;
    ck_assert(read_text("id,lower,upper,size\n7,0,2,100\n8,2,3,50\n9,1,2,10\n", &t));
    ck_assert_uint_eq(t.events_count, 6);
    ck_assert_uint_eq(t.peak_live, 110); /* what ends at 2 is gone before what begins there */
    ck_assert_uint_eq(t.live, 0);
    traces_free(&t);
}
END_TEST

START_TEST(mistakes_are_told_with_their_line) {
    static const struct {
        const char *text, *told;
    } files[] = {
        {"", "empty"},
        {"\n", "line 1"},
        {"hello\n", "line 1: neither"},
        {"alloc 1 64 64 x\nalloc\n", "line 2"},
        {"alloc 1 64 64 x\nalloc 1 64 64 x\n", "line 2: block 1 is allocated again"},
        {"alloc 1 64\n", "line 1"},
        {"alloc 1 -64 64 x\n", "line 1"},
        {"alloc 1 99999999999999999999 64 x\n", "line 1"},
        {"alloc 1 999999999999999999 64 x\n", "line 1"},
        {"alloc 1 64 63 x\n", "alignment 63"},
        {"alloc 1 64 0 x\n", "alignment 0"},
        {"alloc 1 64 64 x\nfree one\n", "line 2"},
        {"alloc 1 64 64 x\nfree 1 2\n", "line 2"},
        {"free 1\n", "no allocation"},
        {"segment+ 1\nsegment- x\n", "line 2"},
        {"alloc 1 64 64 x", "no allocation"}, /* cut off: all of it is left out */
        {"id,lower,upper,size\n1,5,5,100\n", "line 2: object 1 ends"},
        {"id,lower,upper,size\n1,5,6\n", "line 2"},
        {"id,lower,upper,size\n1,5,6,7,8\n", "line 2"},
        {"id,lower,upper,size\n", "no allocation"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\nsoon,1,2\n", "line 2"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-01 00:00:00.0,1,2\n", "line 2"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-01 00:00:nan,1,2\n", "line 2"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-01 00:00:01.0,1,2000000000\n", "line 2"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-01 00:00:01.0,1,2\n"
         "2023-11-01 00:00:00.0,1,2\n",
         "line 3: earlier"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
        traces t;
        traces_error error;
        ck_assert_msg(!read_bytes(files[i].text, strlen(files[i].text), TRACES_AUTO, 0, &t, &error),
                      "%s", files[i].text);
        ck_assert_msg(strstr(error.text, files[i].told) != NULL, "\"%s\" says \"%s\"",
                      files[i].text, error.text);
    }
    /* A recording that was cut off in the middle of a line is good up to there. */
    traces t;
    ck_assert(read_text("alloc 1 64 64 x\nalloc 2 64 64 x\nfree 1", &t));
    ck_assert_uint_eq(t.events_count, 2);
    ck_assert_uint_eq(t.dropped, 1);
    traces_free(&t);
    /* Endless lines and zero bytes. */
    traces_error error;
    char *line = malloc(1 << 20);
    memset(line, 'a', 1 << 20);
    memcpy(line, "alloc 1 64 64 ", 14);
    ck_assert(!read_bytes(line, 1 << 20, TRACES_AUTO, 0, &t, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "longer"));
    ck_assert(!read_bytes("alloc 1 64 64 \0x\n", 17, TRACES_AUTO, 0, &t, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "zero byte"));
    free(line);
    /* The wrong format on purpose. */
    ck_assert(!read_bytes("alloc 1 64 64 x\n", 16, TRACES_LIFETIMES, 0, &t, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "title"));
}
END_TEST

/* Damaged files: any answer will do but a crash (run it under the address sanitizer). */
START_TEST(damaged_files) {
    static const char *const whole[] = {
        "alloc 1 64 64 weights\nalloc 2 123456 4096 x\nfree 1\nsegment+ 2097152\nfail 99\nfree 2\n",
        "id,lower,upper,size\n1,0,10,100\n2,5,7,4096\n3,9,30,1\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,48,10\n"
        "2023-11-16 18:17:04.0319600,31,8\n",
    };
    rng r = rng_start("damaged trace files");
    int fine = 0, refused = 0;
    for (int round = 0; round < 3000; ++round) {
        char text[400];
        size_t length = strlen(whole[round % 3]);
        memcpy(text, whole[round % 3], length);
        for (int64_t i = rng_below(&r, 4); i >= 0; --i)
            text[rng_below(&r, (int64_t)length)] =
                rng_below(&r, 2) ? "0123456789,- \n"[rng_below(&r, 14)] : (char)rng_below(&r, 256);
        length = rng_below(&r, 3) ? length : (size_t)rng_below(&r, (int64_t)length);
        traces t;
        traces_error error;
        bool good = read_bytes(text, length, TRACES_AUTO, round % 2 ? 16 : 0, &t, &error);
        fine += good;
        refused += !good;
        if (good)
            traces_free(&t);
    }
    ck_assert_int_gt(fine, 100);
    ck_assert_int_gt(refused, 100);
}
END_TEST

static char *written(const traces *t, size_t *length) {
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    ck_assert(traces_write(t, file));
    *length = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*length + 1);
    ck_assert_uint_eq(fread(text, 1, *length, file), *length);
    fclose(file);
    return text;
}

/* The same seed gives the same trace, another another one; all of it is a valid recording. */
START_TEST(generated_traces_repeat) {
    traces_recipe recipe = {.seed = 5, .requests = 200, .steps = 2, .page_tokens = _i % 2 ? 16 : 0};
    traces_kind kind = (traces_kind)(_i / 2);
    traces a, b, c, again;
    traces_error error;
    ck_assert(traces_generate(&a, kind, &recipe, &error));
    ck_assert(traces_generate(&b, kind, &recipe, &error));
    recipe.seed = 6;
    ck_assert(traces_generate(&c, kind, &recipe, &error));
    size_t a_length, b_length, c_length;
    char *a_text = written(&a, &a_length), *b_text = written(&b, &b_length),
         *c_text = written(&c, &c_length);
    ck_assert(a_length == b_length && memcmp(a_text, b_text, a_length) == 0);
    ck_assert(a_length != c_length || memcmp(a_text, c_text, a_length) != 0);
    ck_assert(read_bytes(a_text, a_length, TRACES_AUTO, 0, &again, &error));
    ck_assert_uint_eq(again.events_count, a.events_count);
    ck_assert_uint_eq(again.peak_live, a.peak_live);
    ck_assert_uint_eq(again.dropped, 0);
    if (kind != TRACES_TRAINING) /* weights stay */
        ck_assert_uint_eq(a.live, 0);
    traces *all[] = {&a, &b, &c, &again};
    for (int i = 0; i < 4; ++i)
        traces_free(all[i]);
    free(a_text);
    free(b_text);
    free(c_text);
}
END_TEST

static Suite *files_suite(void) {
    Suite *suite = suite_create("trace_files");
    TCase *tcase = tcase_create("trace_files");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, recordings_come_back);
    tcase_add_test(tcase, requests_become_caches);
    tcase_add_test(tcase, lifetimes_become_events);
    tcase_add_test(tcase, mistakes_are_told_with_their_line);
    tcase_add_test(tcase, damaged_files);
    tcase_add_loop_test(tcase, generated_traces_repeat, 0, 2 * TRACES_KINDS);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(files_suite());
}
