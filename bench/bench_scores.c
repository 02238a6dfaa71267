/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_scores.c: summaries of suites (see bench_scores.h). With several peers, one more line is of
 * the best peer of each shape: what a program that could pick among them all would have.
 */
#include "bench_scores.h"

#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const best_of_all = "best of all";

bool bench_scores_add(bench_scores *s, const bench_scores_row *row) {
    if (s->count == s->capacity) {
        const size_t capacity = s->capacity ? 2 * s->capacity : 64;
        bench_scores_row *rows = realloc(s->rows, capacity * sizeof *rows);
        if (!rows) {
            complain("out of memory");
            return false;
        }
        s->rows = rows;
        s->capacity = capacity;
    }
    s->rows[s->count++] = *row;
    return true;
}

static bool same(const bench_scores_key *x, const bench_scores_key *y) {
    return strcmp(x->op, y->op) == 0 && strcmp(x->suite, y->suite) == 0 &&
           strcmp(x->dtype, y->dtype) == 0 &&
           strcmp(x->way ? x->way : "", y->way ? y->way : "") == 0 && x->threads == y->threads &&
           x->cold == y->cold;
}

/* The ratio to one peer, or, for peer == peers, to the fastest; 0: not measured. */
static double ratio_to(const bench_scores_row *row, int peer, int peers) {
    if (peer < peers)
        return row->ratios[peer];
    double least = 0;
    for (int i = 0; i < peers; ++i)
        if (row->ratios[i] > 0 && (least == 0 || row->ratios[i] < least))
            least = row->ratios[i];
    return least;
}

/* One peer's figures over the rows of a key. */
typedef struct score {
    int shapes;
    double mean; /* geometric */
    int below, clearly;
} score;

static score summarize(const bench_scores *s, const bench_scores_key *key, int peer, int peers) {
    score sum = {0};
    double logs = 0;
    for (size_t i = 0; i < s->count; ++i) {
        const double ratio = same(&s->rows[i].key, key) ? ratio_to(&s->rows[i], peer, peers) : 0;
        if (!(ratio > 0))
            continue;
        ++sum.shapes;
        logs += log(ratio);
        sum.below += ratio < 1;
        sum.clearly += ratio < BENCH_SCORES_CLEARLY;
    }
    sum.mean = sum.shapes ? exp(logs / sum.shapes) : NAN;
    return sum;
}

static void print_json(const bench_scores *s, const bench_scores_key *key, const char *const *names,
                       int peers) {
    json_writer json = {0};
    json_object(&json, NULL);
    json_text(&json, "op", "summary");
    json_text(&json, "of", key->op);
    json_text(&json, "suite", key->suite);
    json_text(&json, "dtype", key->dtype);
    if (key->way)
        json_text(&json, "way", key->way);
    json_int(&json, "threads", key->threads);
    json_bool(&json, "cold", key->cold);
    json_list(&json, "vs");
    for (int peer = 0; peer < peers + (peers > 1); ++peer) {
        const score sum = summarize(s, key, peer, peers);
        json_object(&json, NULL);
        json_text(&json, "name", peer < peers ? names[peer] : best_of_all);
        json_int(&json, "shapes", sum.shapes);
        json_number(&json, "ratio", sum.mean);
        json_int(&json, "below_1", sum.below);
        json_int(&json, "below_095", sum.clearly);
        json_object_end(&json);
    }
    json_list_end(&json);
    json_object_end(&json);
}

static void print_text(const bench_scores *s, const bench_scores_key *key, const char *const *names,
                       int peers) {
    printf("\nsuite %s, %s%s%s, %d threads, %s: geometric mean of peer's time / tenon's\n",
           key->suite, key->dtype, key->way ? ", " : "", key->way ? key->way : "", key->threads,
           key->cold ? "cold" : "warm");
    for (int peer = 0; peer < peers + (peers > 1); ++peer) {
        const score sum = summarize(s, key, peer, peers);
        printf("  %-16s x%.3f over %d shapes, below 1: %d, below %.2f: %d\n",
               peer < peers ? names[peer] : best_of_all, sum.mean, sum.shapes, sum.below,
               BENCH_SCORES_CLEARLY, sum.clearly);
    }
    for (int peer = 0; peer < peers; ++peer)
        for (size_t i = 0; i < s->count; ++i) {
            const double ratio = same(&s->rows[i].key, key) ? s->rows[i].ratios[peer] : 0;
            if (ratio > 0 && ratio < 1)
                printf("  lost: %-16s x%.3f  %s\n", names[peer], ratio, s->rows[i].shape);
        }
}

void bench_scores_print(const bench_scores *s, const char *const *names, int peers, bool json) {
    for (size_t i = 0; i < s->count; ++i) {
        size_t first = 0;
        while (!same(&s->rows[first].key, &s->rows[i].key))
            ++first;
        if (first == i)
            (json ? print_json : print_text)(s, &s->rows[i].key, names, peers);
    }
    fflush(stdout);
}

void bench_scores_free(bench_scores *s) {
    free(s->rows);
    *s = (bench_scores){0};
}
