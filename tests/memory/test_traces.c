/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Public traces: layouts of MiniMalloc's and SOMAS's problems against the lower bound, and the
 * footprint of a pool that plays requests, training steps and generated traces. The files are read
 * from TENON_TEST_TRACES; skipped where they are absent.
 *
 * A search ends where it has reached what is asked of it, and a trace of pages is generated with one seed;
 * TENON_TORTURE=full goes through everything to the end. Under sanitizers, which look at memory and not at totals, a twentieth
 * of a search and the traces as they were recorded do.
 *
 * minimalloc_*.csv: github.com/google/minimalloc, Apache-2.0. somas_*.csv:
 * github.com/cappadokes/idealloc, MIT. AzureLLMInferenceTrace_*.csv: Patel et al., "Splitwise",
 * ISCA 2024, CC-BY-4.0.
 */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory/pool.h"
#include "memory_support.h"
#include "suite.h"
#include "traces.h"

#if defined(TEST_ASAN) || defined(TEST_TSAN)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

static bool full(void) {
    const char *text = getenv("TENON_TORTURE");
    return text != NULL && strcmp(text, "full") == 0;
}

static FILE *open_trace(const char *name) {
    const char *folder = getenv("TENON_TEST_TRACES");
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder != NULL ? folder : ".", name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        printf("skipped: there is no %s\n", path);
    return file;
}

/* ---- layouts ---- */

/* Reads id,lower,upper,size with upper excluded. */
static size_t read_lifetimes(FILE *file, tenon_lifetime **out) {
    size_t count = 0, capacity = 0;
    char line[128];
    *out = NULL;
    while (fgets(line, sizeof line, file) != NULL) {
        int64_t lower, upper;
        size_t bytes;
        if (sscanf(line, "%*d,%" SCNd64 ",%" SCNd64 ",%zu", &lower, &upper, &bytes) != 3)
            continue;
        if (count == capacity) {
            capacity = capacity != 0 ? 2 * capacity : 1024;
            *out = realloc(*out, capacity * sizeof **out);
            ck_assert_ptr_nonnull(*out);
        }
        ck_assert(lower < upper);
        (*out)[count++] =
            (tenon_lifetime){.bytes = bytes, .alignment = 1, .first = lower, .last = upper - 1};
    }
    return count;
}

static const struct problem {
    const char *name;
    double most; /* total over lower bound */
} problems[] = {
    {"minimalloc_A.1048576.csv", 1.10}, {"minimalloc_B.1048576.csv", 1.10},
    {"minimalloc_C.1048576.csv", 1.10}, {"minimalloc_D.1048576.csv", 1.10},
    {"minimalloc_E.1048576.csv", 1.10}, {"minimalloc_F.1048576.csv", 1.10},
    {"minimalloc_G.1048576.csv", 1.10}, {"minimalloc_H.1048576.csv", 1.10},
    {"minimalloc_I.1048576.csv", 1.10}, {"minimalloc_J.1048576.csv", 1.10},
    {"minimalloc_K.1048576.csv", 1.10}, {"somas_resnet50.csv", 1.005},
    {"somas_pangu_2.6B.csv", 1.005},
};

START_TEST(layouts) {
    const struct problem *p = &problems[_i];
    FILE *file = open_trace(p->name);
    if (file == NULL)
        return;
    tenon_lifetime *objects;
    size_t count = read_lifetimes(file, &objects), total, bound;
    fclose(file);
    tenon_layout_options options = {.effort = -1};
    ck_assert_int_eq(tenon_memory_layout_with(NULL, objects, count, &options, &total, &bound),
                     TENON_OK);
    const size_t placed = total;
    options = (tenon_layout_options){.effort = sanitized ? 0.05 : 1};
    if (!full())
        options.enough = (size_t)(p->most * (double)bound);
    ck_assert_int_eq(tenon_memory_layout_with(NULL, objects, count, &options, &total, &bound),
                     TENON_OK);
    for (size_t i = 0; i < count; ++i)
        for (size_t j = 0; j < i; ++j) {
            const tenon_lifetime *a = &objects[i], *b = &objects[j];
            if (a->first <= b->last && b->first <= a->last && a->offset < b->offset + b->bytes &&
                b->offset < a->offset + a->bytes)
                ck_abort_msg("%s: objects %zu and %zu overlap", p->name, j, i);
        }
    double ratio = (double)total / (double)bound;
    printf("%s: %zu objects, lower bound %zu, total over it %.4f\n", p->name, count, bound, ratio);
    ck_assert_uint_ge(total, bound);
    ck_assert_uint_le(total, placed);
    ck_assert_msg(sanitized || ratio <= p->most, "%s: %g", p->name, ratio);
    free(objects);
}
END_TEST

/* ---- footprints ---- */

/* A source without memory: what is counted is what the pool asks for. */
static bool no_memory(void *user, size_t bytes, tn_segment_memory *out) {
    *out = (tn_segment_memory){.handle = user, .bytes = bytes};
    return true;
}

static void no_free(void *user, const tn_segment_memory *memory) {
    (void)user;
    (void)memory;
}

static bool no_part(void *user, const tn_segment_memory *memory, size_t offset, size_t bytes) {
    (void)user;
    (void)memory;
    (void)offset;
    (void)bytes;
    return true;
}

/* Plays a trace twice on one pool, whose source takes parts back or not, and returns the most that
 * was reserved over the most that was alive. */
static double footprint(const traces *t, bool parts) {
    tn_segment_source source = {.alloc = no_memory, .free = no_free, .granularity = 4096};
    if (parts) { /* as host memory has it */
        source.give_part = no_part;
        source.part = 64 << 10;
    }
    tenon_pool_desc desc = {0};
    tenon_pool *pool;
    tn_message message;
    ck_assert_int_eq(tn_pool_open(&desc, &source, &message, &pool), TENON_OK);
    tn_block *blocks = calloc(t->blocks_count, sizeof *blocks);
    ck_assert_ptr_nonnull(blocks);
    for (int round = 0; round < 2; ++round) {
        for (size_t i = 0; i < t->events_count; ++i) {
            uint32_t block = t->events[i].block;
            if (t->events[i].free)
                tn_pool_free(pool, &blocks[block]);
            else
                ck_assert_int_eq(tn_pool_alloc(pool, t->blocks[block].bytes,
                                               t->blocks[block].alignment, "trace", &blocks[block],
                                               &message),
                                 TENON_OK);
        }
        for (size_t i = 0; i < t->blocks_count; ++i)
            tn_pool_free(pool, &blocks[i]);
    }
    free(blocks);
    tenon_memory_info info = {0};
    ck_assert_int_eq(tenon_memory_stats(pool, &info), TENON_OK);
    ck_assert_uint_eq(info.in_use, 0);
    ck_assert_uint_eq(info.peak_in_use, t->peak_live);
    tenon_memory_trim(pool, 0);
    ck_assert_int_eq(tenon_memory_stats(pool, &info), TENON_OK);
    ck_assert_uint_eq(info.reserved, 0);
    tenon_pool_destroy(pool);
    return (double)info.peak_reserved / (double)t->peak_live;
}

static void check_footprint(const traces *t, const char *name, double most, double most_whole) {
    double parts = footprint(t, true), whole = footprint(t, false);
    printf("%s: %zu blocks, footprint over most alive %.4f; %.4f if segments go as wholes only\n",
           name, t->blocks_count, parts, whole);
    ck_assert_msg(parts <= most, "%s: %g", name, parts);
    ck_assert_msg(whole <= most_whole, "%s: %g", name, whole);
}

static const struct replayed {
    const char *name;
    int page_tokens, speed;
    double most;       /* what the pool is held to */
    double most_whole; /* a little above what was measured, for sources that take no parts */
} replays[] = {
    {"AzureLLMInferenceTrace_conv.csv", 0, 1, 1.06, 1.35},
    {"AzureLLMInferenceTrace_conv.csv", 0, 4, 1.06, 1.20},
    {"AzureLLMInferenceTrace_conv.csv", 0, 16, 1.06, 1.20},
    {"AzureLLMInferenceTrace_conv.csv", 16, 1, 1.005, 1.005},
    {"AzureLLMInferenceTrace_code.csv", 0, 1, 1.06, 1.15},
    {"AzureLLMInferenceTrace_code.csv", 0, 4, 1.06, 1.15},
    {"AzureLLMInferenceTrace_code.csv", 0, 16, 1.06, 1.15},
    {"AzureLLMInferenceTrace_code.csv", 16, 1, 1.005, 1.005},
    {"somas_resnet50.csv", 0, 1, 1.08, 1.08},
    {"somas_pangu_2.6B.csv", 0, 1, 1.08, 1.20},
};

START_TEST(public_traces) {
    const struct replayed *r = &replays[_i];
    if (sanitized && !full() && (r->page_tokens != 0 || r->speed != 1))
        return;
    FILE *file = open_trace(r->name);
    if (file == NULL)
        return;
    static const traces_model model = {"kv", 16384};
    const traces_server server = {.models = &model,
                                  .page_tokens = r->page_tokens,
                                  .speed = r->speed,
                                  .seconds_per_token = TRACES_SECONDS_PER_TOKEN,
                                  .seconds_per_prompt_token = TRACES_SECONDS_PER_PROMPT_TOKEN};
    traces t;
    traces_error error;
    ck_assert_msg(traces_read(&t, file, r->name, TRACES_AUTO, &server, &error), "%s", error.text);
    fclose(file);
    char name[128];
    snprintf(name, sizeof name, "%s, page %d, rate x %d", r->name, r->page_tokens, r->speed);
    check_footprint(&t, name, r->most, r->most_whole);
    traces_free(&t);
}
END_TEST

START_TEST(generated_traces) {
    const bool paged = _i >= TRACES_KINDS;
    const uint64_t seeds = full() ? 3 : paged ? !sanitized : sanitized ? 1 : 3;
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
        traces t;
        traces_error error;
        traces_recipe recipe = {.seed = seed, .page_tokens = paged ? 16 : 0};
        traces_kind kind = (traces_kind)(_i % TRACES_KINDS);
        ck_assert_msg(traces_generate(&t, kind, &recipe, &error), "%s", error.text);
        char name[64];
        snprintf(name, sizeof name, "%s, page %d, seed %d", traces_kind_names[kind],
                 recipe.page_tokens, (int)seed);
        check_footprint(&t, name, 1.03, 1.6);
        /* Without it such traces do need more, or this test could not fail. */
        if (_i == TRACES_CHAT || _i == TRACES_MIXED)
            ck_assert_double_gt(footprint(&t, false), 1.03);
        traces_free(&t);
    }
}
END_TEST

static Suite *traces_suite(void) {
    Suite *suite = suite_create("traces");
    TCase *tcase = tcase_create("traces");
    tcase_set_timeout(tcase, 200);
    tcase_add_loop_test(tcase, layouts, 0, (int)(sizeof problems / sizeof problems[0]));
    tcase_add_loop_test(tcase, public_traces, 0, (int)(sizeof replays / sizeof replays[0]));
    tcase_add_loop_test(tcase, generated_traces, 0, 2 * TRACES_KINDS - 1);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(traces_suite());
}
