/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pool tells: snapshots are JSON and complete, recordings balance, fault rules are
 * repeatable, debug pools see damage and say so.
 */
#include <check.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "memory/pool.h"
#include "memory_support.h"
#include "rng.h"
#include "suite.h"

static size_t count_of(const gathered *t, const char *part) {
    size_t count = 0;
    for (const char *at = t->bytes; at != NULL && (at = strstr(at, part)) != NULL; ++at)
        ++count;
    return count;
}

/* ---- snapshot ---- */

START_TEST(the_checker_checks) {
    static const char *const good[] = {"{}", "[1, -2.5e3, \"a\\u00e9\\n\", true, null, {\"x\":[]}]",
                                       " 0 "};
    static const char *const bad[] = {"",         "{",         "{\"a\":1,}", "[1 2]",
                                      "\"a\nb\"", "01",        "{} {}",      "\"\\x\"",
                                      "\"\xff\"", "{\"a\" 1}", "[1,"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; ++i)
        ck_assert_msg(json_valid(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i)
        ck_assert_msg(!json_valid(bad[i]), "%s", bad[i]);
}
END_TEST

static int stop_at_once(void *user, const char *piece, size_t bytes) {
    (void)piece;
    ck_assert_uint_gt(bytes, 0);
    ++*(int *)user;
    return 1;
}

/* Owners' names may hold anything; what is told is a line of UTF-8, and a snapshot is JSON. */
static const struct odd_name {
    const char *name, *told, *json;
} odd_names[] = {
    {"two\nlines", "'two\?lines'", "\"two\\u000alines\""},
    {"\x1b[31m red \x7f \xc2\x9b", "'\?[31m red \? \?\?'", "\"\\u001b[31m red \\u007f \xc2\x9b\""},
    {"quote \" and ' and \\", "'quote \" and ' and \\'", "\"quote \\\" and ' and \\\\\""},
    {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "'caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80'",
     "\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""},
    {"cut \xe2\x82", "'cut \?\?'", "\"cut \\ufffd\\ufffd\""},
    {"alone \x80 \xff", "'alone \? \?'", "\"alone \\ufffd \\ufffd\""},
    {"long \xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf", "'long \?\? \?\?\? \?\?\?\?'", NULL},
    {"half \xed\xa0\x80 far \xf4\x90\x80\x80", "'half \?\?\? far \?\?\?\?'", NULL},
    {"a name that is cut in its "
     "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80",
     NULL, NULL},
};

/* True if the text is UTF-8 with no control characters but ends of lines; written anew, from RFC 3629. */
static bool clean_lines(const char *text) {
    for (const unsigned char *at = (const unsigned char *)text; *at != 0; ++at) {
        uint32_t code = *at, least = 0;
        int more = 0;
        if (code >= 0xF0)
            code &= 7, more = 3, least = 0x10000;
        else if (code >= 0xE0)
            code &= 15, more = 2, least = 0x800;
        else if (code >= 0xC0)
            code &= 31, more = 1, least = 0x80;
        else if (code >= 0x80)
            return false;
        for (; more > 0; --more) {
            if ((*++at & 0xC0) != 0x80)
                return false;
            code = code << 6 | (*at & 63);
        }
        bool surrogate = code >= 0xD800 && code < 0xE000;
        bool control = (code < 0x20 && code != '\n') || (code >= 0x7F && code < 0xA0);
        if (code < least || code > 0x10FFFF || surrogate || control)
            return false;
    }
    return true;
}

START_TEST(odd_names_of_owners) {
    const struct odd_name *odd = &odd_names[_i];
    gathered log = {0}, record = {0}, snapshot = {0};
    tenon_pool *pool = make_pool((tenon_pool_desc){.budget = 1 << 20,
                                                   .flags = TENON_POOL_DEBUG,
                                                   .logger = {.user = &log, .log = gathered_log},
                                                   .log_level = TENON_LOG_DEBUG});
    ck_assert_int_eq(tenon_memory_record(pool, gathered_sink, &record), TENON_OK);
    tenon_buffer *held, *none;
    ck_assert_int_eq(tenon_buffer_alloc(pool, 1000, odd->name, &held), TENON_OK);
    ck_assert_int_eq(tenon_buffer_alloc(pool, 1 << 21, odd->name, &none), TENON_ERROR_OVER_BUDGET);
    const char *message = tenon_error_message(NULL);
    ck_assert_ptr_null(strchr(message, '\n'));
    ck_assert(clean_lines(message));
    ck_assert_msg(odd->told == NULL || strstr(message, odd->told) != NULL, "%s", message);
    ck_assert_int_eq(tenon_memory_snapshot(pool, gathered_sink, &snapshot), TENON_OK);
    ck_assert_msg(json_valid(snapshot.bytes), "%s", snapshot.bytes);
    ck_assert(odd->json == NULL || gathered_has(&snapshot, odd->json));
    ((unsigned char *)tenon_buffer_host(held))[1000] = 1;
    ck_assert_int_eq(tenon_memory_check(pool), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert(clean_lines(tenon_error_message(NULL)));
    tenon_buffer_free(held);
    tenon_pool_destroy(pool);
    ck_assert(clean_lines(log.bytes) && clean_lines(record.bytes));
    ck_assert(odd->told == NULL || gathered_has(&log, odd->told));
    gathered_free(&log);
    gathered_free(&record);
    gathered_free(&snapshot);
}
END_TEST

START_TEST(snapshots_are_json) {
    rng r = rng_start("snapshot");
    tenon_pool *pool = make_pool((tenon_pool_desc){.segment_bytes = 64 << 10});
    gathered t = {0};
    ck_assert_int_eq(tenon_memory_snapshot(pool, gathered_sink, &t), TENON_OK);
    ck_assert(json_valid(t.bytes));
    gathered_free(&t);
    static tn_block blocks[500];
    static const char *const owners[] = {"plain", "quote \" and \\ and \n", "", "caf\xc3\xa9"};
    for (int i = 0; i < 500; ++i)
        ck_assert_int_eq(
            tn_pool_alloc(pool, (size_t)rng_below(&r, 3000), 64, owners[i % 4], &blocks[i], NULL),
            TENON_OK);
    for (int i = 0; i < 500; i += 3)
        tn_pool_free(pool, &blocks[i]);
    ck_assert_int_eq(tenon_memory_snapshot(pool, gathered_sink, &t), TENON_OK);
    ck_assert_msg(json_valid(t.bytes), "%s", t.bytes);
    tenon_memory_info info = info_of(pool);
    ck_assert_uint_eq(count_of(&t, "\"asked\":"), info.blocks);
    ck_assert_uint_eq(count_of(&t, "{\"bytes\":"), info.segments);
    char figure[64];
    snprintf(figure, sizeof figure, "\"in_use\":%zu,", info.in_use);
    ck_assert(gathered_has(&t, figure));
    gathered_free(&t);
    int calls = 0;
    ck_assert_int_eq(tenon_memory_snapshot(pool, stop_at_once, &calls), TENON_ERROR_IO);
    ck_assert_int_eq(calls, 1);
    ck_assert_int_eq(tenon_memory_snapshot(pool, NULL, NULL), TENON_ERROR_INVALID_ARGUMENT);
    for (int i = 0; i < 500; ++i)
        tn_pool_free(pool, &blocks[i]);
    tenon_pool_destroy(pool);
}
END_TEST

/* ---- recording ---- */

START_TEST(recordings_balance) {
    rng r = rng_start("recording");
    tenon_pool *pool = make_pool((tenon_pool_desc){.segment_bytes = 64 << 10, .budget = 1 << 20});
    gathered t = {0};
    ck_assert_int_eq(tenon_memory_record(pool, gathered_sink, &t), TENON_OK);
    static tn_block blocks[100];
    for (int step = 0; step < 3000; ++step) {
        tn_block *block = &blocks[rng_below(&r, 100)];
        if (block->node != NULL)
            tn_pool_free(pool, block);
        else
            (void)!tn_pool_alloc(pool, (size_t)rng_below(&r, 40000), 128, "two\nlines\xc3", block,
                                 NULL);
    }
    for (int i = 0; i < 100; ++i)
        tn_pool_free(pool, &blocks[i]);
    tenon_memory_trim(pool, 0);
    ck_assert_int_eq(tenon_memory_record(pool, NULL, NULL), TENON_OK);

    /* Replayed: every id is freed once, sums agree with the statistics, segments end at zero. */
    tenon_memory_info info = info_of(pool);
    uint64_t allocs = 0, frees = 0, fails = 0, bytes, id, most = 0;
    int64_t segments = 0, peak = 0;
    char *live = calloc(1, info.allocations + 1);
    for (char *line = strtok(t.bytes, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        size_t alignment;
        int owner = 0;
        if (sscanf(line, "alloc %" SCNu64 " %" SCNu64 " %zu %n", &id, &bytes, &alignment, &owner) ==
            3) {
            ck_assert_str_eq(line + owner, "two?lines?");
            ck_assert_uint_eq(alignment, 128);
            ck_assert_uint_eq(id, ++most);
            live[id] = 1;
            ++allocs;
        } else if (sscanf(line, "free %" SCNu64, &id) == 1) {
            ck_assert(id <= most && live[id]);
            live[id] = 0;
            ++frees;
        } else if (sscanf(line, "segment+ %" SCNu64, &bytes) == 1) {
            segments += (int64_t)bytes;
            peak = segments > peak ? segments : peak;
        } else if (sscanf(line, "segment- %" SCNu64, &bytes) == 1) {
            segments -= (int64_t)bytes;
        } else {
            ck_assert_msg(sscanf(line, "fail %" SCNu64, &bytes) == 1, "%s", line);
            ++fails;
        }
    }
    ck_assert_uint_eq(allocs, info.allocations);
    ck_assert_uint_eq(frees, info.frees);
    ck_assert_uint_eq(fails, info.ladder.failures);
    ck_assert_uint_gt(fails, 0);
    ck_assert_int_eq(segments, 0);
    ck_assert_uint_eq((uint64_t)peak, info.peak_reserved);
    free(live);
    gathered_free(&t);

    /* A sink that has enough. */
    int calls = 0;
    ck_assert_int_eq(tenon_memory_record(pool, stop_at_once, &calls), TENON_OK);
    for (int i = 0; i < 3; ++i) {
        ck_assert_int_eq(tn_pool_alloc(pool, 1, 64, NULL, &blocks[0], NULL), TENON_OK);
        tn_pool_free(pool, &blocks[0]);
    }
    ck_assert_int_eq(calls, 1);
    tenon_pool_destroy(pool);
}
END_TEST

/* ---- fault rules ---- */

/* Which of 200 allocations of 1, 2, … bytes fail under a rule, as a text of 0 and 1. */
static void pattern(const tenon_fault_rule *rule, char out[201]) {
    tenon_pool *pool = make_pool((tenon_pool_desc){0});
    ck_assert_int_eq(tenon_memory_inject(pool, rule), TENON_OK);
    for (size_t i = 0; i < 200; ++i) {
        tn_block block;
        tn_message message = {{0}};
        tenon_status status = tn_pool_alloc(pool, i + 1, 64, NULL, &block, &message);
        ck_assert(status == TENON_OK || status == TENON_ERROR_OUT_OF_MEMORY);
        ck_assert_int_eq(status != TENON_OK, strstr(message.text, "inject") != NULL);
        out[i] = status == TENON_OK ? '0' : '1';
        tn_pool_free(pool, &block);
    }
    out[200] = '\0';
    ck_assert_int_eq(tenon_memory_inject(pool, NULL), TENON_OK);
    tn_block block;
    ck_assert_int_eq(tn_pool_alloc(pool, 1, 64, NULL, &block, NULL), TENON_OK);
    tn_pool_free(pool, &block);
    ck_assert_uint_eq(info_of(pool).ladder.failures,
                      strspn(out, "01") - (size_t)info_of(pool).frees + 1);
    tenon_pool_destroy(pool);
}

static size_t ones(const char *digits) {
    size_t count = 0;
    for (; *digits != '\0'; ++digits)
        count += *digits == '1';
    return count;
}

START_TEST(fault_rules) {
    char a[201], b[201];
    pattern(&(tenon_fault_rule){0}, a);
    ck_assert_uint_eq(ones(a), 0);
    pattern(&(tenon_fault_rule){.fail_nth = 7}, a);
    ck_assert_uint_eq(ones(a), 1);
    ck_assert_int_eq(a[6], '1');
    pattern(&(tenon_fault_rule){.fail_nth = 7, .sticky = 1}, a);
    ck_assert_uint_eq(ones(a), 194);
    ck_assert_int_eq(a[5], '0');
    pattern(&(tenon_fault_rule){.fail_above = 150}, a);
    ck_assert_uint_eq(ones(a), 50);
    ck_assert_int_eq(a[149], '0');
    pattern(&(tenon_fault_rule){.probability = 1}, a);
    ck_assert_uint_eq(ones(a), 200);
    /* A seed says which; another seed others; the rest of the rule does not shift them. */
    pattern(&(tenon_fault_rule){.probability = 0.25, .seed = 42}, a);
    pattern(&(tenon_fault_rule){.probability = 0.25, .seed = 42}, b);
    ck_assert_str_eq(a, b);
    ck_assert_uint_gt(ones(a), 25); /* 50 expected, standard deviation 6 */
    ck_assert_uint_lt(ones(a), 75);
    pattern(&(tenon_fault_rule){.probability = 0.25, .seed = 42, .fail_nth = 1}, b);
    ck_assert_str_eq(a + 1, b + 1);
    pattern(&(tenon_fault_rule){.probability = 0.25, .seed = 43}, b);
    ck_assert_str_ne(a, b);
    tenon_pool *pool = make_pool((tenon_pool_desc){0});
    static const double wrong[] = {-0.1, 1.1, 0.0 / 0.0};
    for (int i = 0; i < 3; ++i)
        ck_assert_int_eq(tenon_memory_inject(pool, &(tenon_fault_rule){.probability = wrong[i]}),
                         TENON_ERROR_INVALID_ARGUMENT);
    tenon_pool_destroy(pool);
}
END_TEST

/* ---- logger ---- */

START_TEST(log_levels) {
    static const tenon_log_level levels[] = {TENON_LOG_NONE, TENON_LOG_WARNING, TENON_LOG_INFO,
                                             TENON_LOG_DEBUG};
    size_t length = 0;
    for (int i = 0; i < 4; ++i) {
        gathered t = {0};
        tenon_pool *pool = make_pool((tenon_pool_desc){.budget = 1 << 20,
                                                       .logger = {.user = &t, .log = gathered_log},
                                                       .log_level = levels[i]});
        tenon_buffer *buffer;
        ck_assert_int_eq(tenon_buffer_alloc(pool, 1 << 21, "big", &buffer),
                         TENON_ERROR_OVER_BUDGET);
        ck_assert_int_eq(tenon_buffer_alloc(pool, 100, "small", &buffer), TENON_OK);
        tenon_buffer_free(buffer);
        tenon_pool_destroy(pool);
        ck_assert_int_eq(gathered_has(&t, "warning: "), i >= 1);
        ck_assert_int_eq(gathered_has(&t, "info: "), i >= 2);
        ck_assert_int_eq(gathered_has(&t, "debug: "), i >= 3);
        ck_assert(i == 0 || t.length > length);
        length = t.length;
        gathered_free(&t);
    }
}
END_TEST

/* ---- debug pools ---- */

typedef enum damage { NONE, AFTER, BEFORE, LATER, TWICE, DAMAGES } damage;

START_TEST(debug_pools_see_damage) {
    static const char *const sentence[] = {NULL, "after its last byte", "before its first byte",
                                           "free memory was written", "freed twice"};
    for (damage kind = NONE; kind < DAMAGES; ++kind) {
        gathered t = {0};
        tenon_pool *pool = make_pool((tenon_pool_desc){.flags = TENON_POOL_DEBUG,
                                                       .logger = {.user = &t, .log = gathered_log},
                                                       .log_level = TENON_LOG_WARNING});
        tenon_buffer *first, *buffer;
        ck_assert_int_eq(tenon_buffer_alloc(pool, 1000, "neighbour", &first), TENON_OK);
        ck_assert_int_eq(tenon_buffer_alloc(pool, 100, "victim", &buffer), TENON_OK);
        unsigned char *at = tenon_buffer_host(buffer);
        for (int i = 0; i < 100; ++i)
            ck_assert_uint_eq(at[i], 0xFF); /* a NaN, whatever the type */
        memset(at, 0, 100);
        if (kind == AFTER)
            at[100] = 1;
        if (kind == BEFORE)
            at[-1] = 1;
        bool seen_now = kind == AFTER || kind == BEFORE;
        ck_assert_int_eq(tenon_memory_check(pool),
                         seen_now ? TENON_ERROR_INVALID_ARGUMENT : TENON_OK);
        tenon_buffer_free(buffer);
        if (kind == LATER) {
            at[50] = 1;
            ck_assert_int_eq(tenon_memory_check(pool), TENON_ERROR_INVALID_ARGUMENT);
            ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "free memory"));
        }
        if (kind == TWICE)
            tenon_buffer_free(buffer);
        ck_assert_int_eq(info_of(pool).damages != 0, kind != NONE);
        if (kind != NONE)
            ck_assert_msg(gathered_has(&t, sentence[kind]), "%d: %s", (int)kind, t.bytes);
        else
            ck_assert_ptr_null(t.bytes);
        if (kind == AFTER)
            ck_assert(gathered_has(&t, "'victim'"));
        /* The pool goes on, and at its end tells what is still there. */
        ck_assert_int_eq(tenon_buffer_alloc(pool, 5000, NULL, &buffer), TENON_OK);
        tenon_buffer_free(buffer);
        tn_pool_retain(pool);
        tenon_pool_destroy(pool);
        ck_assert(gathered_has(&t, "given up while 1 blocks of 1000 bytes of 'neighbour'"));
        tenon_buffer_free(first);
        tn_pool_release(pool);
        gathered_free(&t);
    }
}
END_TEST

START_TEST(blocks_freed_twice) {
    tenon_pool *pool = make_pool((tenon_pool_desc){0});
    tn_block a, copy;
    ck_assert_int_eq(tn_pool_alloc(pool, 100, 64, NULL, &a, NULL), TENON_OK);
    copy = a;
    tn_pool_free(pool, &a);
    tn_pool_free(pool, &copy);
    ck_assert_uint_eq(info_of(pool).damages, 1);
    ck_assert_uint_eq(info_of(pool).frees, 1);
    /* Also when its place serves another block by now. */
    tn_block b;
    ck_assert_int_eq(tn_pool_alloc(pool, 100, 64, NULL, &a, NULL), TENON_OK);
    copy = a;
    tn_pool_free(pool, &a);
    ck_assert_int_eq(tn_pool_alloc(pool, 100, 64, NULL, &b, NULL), TENON_OK);
    ck_assert_ptr_eq(b.address, copy.address);
    tn_pool_free(pool, &copy);
    ck_assert_uint_eq(info_of(pool).damages, 2);
    ck_assert_uint_eq(info_of(pool).blocks, 1);
    tn_pool_free(pool, &b);
    tenon_pool_destroy(pool);
}
END_TEST

static Suite *tell_suite(void) {
    Suite *suite = suite_create("pool_tell");
    TCase *tcase = tcase_create("tell");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, the_checker_checks);
    tcase_add_loop_test(tcase, odd_names_of_owners, 0,
                        (int)(sizeof odd_names / sizeof odd_names[0]));
    tcase_add_test(tcase, snapshots_are_json);
    tcase_add_test(tcase, recordings_balance);
    tcase_add_test(tcase, fault_rules);
    tcase_add_test(tcase, log_levels);
    tcase_add_test(tcase, debug_pools_see_damage);
    tcase_add_test(tcase, blocks_freed_twice);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(tell_suite());
}
