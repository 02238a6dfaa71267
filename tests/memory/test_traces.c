/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Public traces: layouts of MiniMalloc's and SOMAS's problems against the lower bound, and the
 * footprint of a pool that holds the key-value caches of Azure's 2023 requests. Read from
 * TENON_TEST_TRACES; skipped where they are absent.
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
    ck_assert_int_eq(tenon_memory_layout(NULL, objects, count, &total, &bound), TENON_OK);
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
    ck_assert_msg(ratio <= p->most, "%s: %g", p->name, ratio);
    free(objects);
}
END_TEST

/* ---- key-value caches ---- */

/* One request: its cache is alive from arrival until the last token. */
typedef struct request {
    double end;
    tn_block block;
} request;

enum {
    TOKEN_BYTES = 16384,
    MOST_LIVE = 4096
}; /* 32 layers of one GQA model, 8 heads of 128 in fp8, scaled by 1/4 */

static bool no_memory(void *user, size_t bytes, tn_segment_memory *out) {
    *out = (tn_segment_memory){.handle = user, .bytes = bytes};
    return true;
}

static void no_free(void *user, const tn_segment_memory *memory) {
    (void)user;
    (void)memory;
}

/* Replays a trace at `speed` times its rate; returns bytes up to the highest ever used over the
 * most alive at once. */
static double replay(FILE *file, double seconds_per_token, double speed) {
    tn_segment_source source = {.alloc = no_memory, .free = no_free, .granularity = 4096};
    tenon_pool_desc desc = {.segment_bytes = (size_t)1 << 40, .flags = TENON_POOL_FIXED};
    tenon_pool *pool;
    tn_message message;
    ck_assert_int_eq(tn_pool_open(&desc, &source, &message, &pool), TENON_OK);
    static request live[MOST_LIVE];
    int count = 0;
    size_t highest = 0, alive = 0, most_alive = 0;
    char line[128];
    double first = -1;
    while (fgets(line, sizeof line, file) != NULL) {
        int hour, minute, context, generated;
        double second;
        if (sscanf(line, "%*d-%*d-%*d %d:%d:%lf,%d,%d", &hour, &minute, &second, &context,
                   &generated) != 5)
            continue;
        double now = ((hour * 60 + minute) * 60 + second);
        if (first < 0)
            first = now;
        now = (now - first) / speed;
        for (int i = 0; i < count;)
            if (live[i].end <= now) {
                alive -= live[i].block.bytes;
                tn_pool_free(pool, &live[i].block);
                live[i] = live[--count];
            } else {
                ++i;
            }
        ck_assert_int_lt(count, MOST_LIVE);
        size_t bytes = (size_t)(context + generated) * TOKEN_BYTES;
        request *r = &live[count++];
        r->end = now + generated * seconds_per_token + context * 0.0002;
        ck_assert_int_eq(tn_pool_alloc(pool, bytes, 64, "kv", &r->block, &message), TENON_OK);
        alive += bytes;
        most_alive = alive > most_alive ? alive : most_alive;
        if (r->block.offset + bytes > highest)
            highest = r->block.offset + bytes;
    }
    while (count > 0)
        tn_pool_free(pool, &live[--count].block);
    tenon_memory_info info = {0};
    ck_assert_int_eq(tenon_memory_stats(pool, &info), TENON_OK);
    ck_assert_uint_eq(info.largest_free, (size_t)1 << 40);
    tenon_pool_destroy(pool);
    return (double)highest / (double)most_alive;
}

START_TEST(key_value_caches) {
    static const char *const names[] = {"AzureLLMInferenceTrace_conv.csv",
                                        "AzureLLMInferenceTrace_code.csv"};
    for (int speed = 1; speed <= 16; speed *= 4) {
        FILE *file = open_trace(names[_i]);
        if (file == NULL)
            return;
        double ratio = replay(file, 0.03, speed);
        fclose(file);
        printf("%s at %d times its rate: footprint over most alive %.3f\n", names[_i], speed,
               ratio);
        ck_assert_msg(ratio < 1.35, "%g", ratio);
    }
}
END_TEST

static Suite *traces_suite(void) {
    Suite *suite = suite_create("traces");
    TCase *tcase = tcase_create("traces");
    tcase_set_timeout(tcase, 200);
    tcase_add_loop_test(tcase, layouts, 0, (int)(sizeof problems / sizeof problems[0]));
    tcase_add_loop_test(tcase, key_value_caches, 0, 2);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(traces_suite());
}
