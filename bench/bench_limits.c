/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_limits.c: probes limits and remembers the best rate of each (see bench_limits.h). Called by
 * bench_run.c around and between the timed calls of a row.
 */
#include "bench_limits.h"

#include "options.h"

#include <stdlib.h>

/* A probe: this many repetitions of this length. */
#define PROBE_REPS 3
#define PROBE_SECONDS 5e-3

size_t bench_limits_memory_set(bench_limits *l, int threads) {
    if (l->memory_set == 0)
        l->memory_set = peak_memory_set(threads);
    return l->memory_set;
}

static bench_best *find(const bench_limits *l, peak_kind kind, int threads, size_t bytes) {
    for (size_t i = 0; i < l->count; ++i)
        if (l->best[i].kind == kind && l->best[i].threads == threads && l->best[i].bytes == bytes)
            return &l->best[i];
    return NULL;
}

static bool remember(bench_limits *l, peak_kind kind, int threads, size_t bytes, double rate) {
    bench_best *known = find(l, kind, threads, bytes);
    if (known) {
        known->rate = rate > known->rate ? rate : known->rate;
        return true;
    }
    if (l->count == l->capacity) {
        const size_t capacity = l->capacity ? 2 * l->capacity : 64;
        bench_best *best = realloc(l->best, capacity * sizeof *best);
        if (!best) {
            complain("out of memory");
            return false;
        }
        l->best = best;
        l->capacity = capacity;
    }
    l->best[l->count++] = (bench_best){kind, threads, bytes, rate};
    return true;
}

/* The best of the probe's repetitions in `rate`; left alone where this CPU has no such probe. */
static bool probe(bench_limits *l, peak_kind kind, int threads, size_t bytes, double *rate) {
    const peak_probe *best = kind < PEAK_KINDS ? peak_best(kind) : NULL;
    const peak_rules rules = {
        .threads = threads, .reps = PROBE_REPS, .seconds = PROBE_SECONDS, .bytes = bytes};
    double rates[PROBE_REPS];
    if (!best)
        return true;
    if (!peak_measure(best, &rules, &l->memory, rates))
        return false;
    const double highest = timing_summarize(rates, PROBE_REPS).max;
    *rate = highest > *rate ? highest : *rate;
    return remember(l, kind, threads, bytes, highest);
}

/* What writes may do so with stores around the caches, if that is faster. */
static peak_kind streaming(peak_kind memory) {
    return memory == PEAK_COPY ? PEAK_COPY_STREAM : PEAK_KINDS;
}

bool bench_limits_probe(bench_limits *l, const bench_limit_query *q, bench_rates *now) {
    *now = (bench_rates){0};
    timing_settle();
    return probe(l, q->arithmetic, q->threads, 0, &now->arithmetic) &&
           probe(l, q->memory, q->threads, q->bytes, &now->memory) &&
           probe(l, streaming(q->memory), q->threads, q->bytes, &now->memory);
}

static double best_rate(const bench_limits *l, peak_kind kind, int threads, size_t bytes) {
    const bench_best *known = find(l, kind, threads, bytes);
    return known ? known->rate : 0;
}

bench_rates bench_limits_best(const bench_limits *l, const bench_limit_query *q) {
    const double plain = best_rate(l, q->memory, q->threads, q->bytes);
    const double stream = best_rate(l, streaming(q->memory), q->threads, q->bytes);
    return (bench_rates){.arithmetic = best_rate(l, q->arithmetic, q->threads, 0),
                         .memory = plain > stream ? plain : stream};
}

void bench_limits_free(bench_limits *l) {
    peak_memory_free(&l->memory);
    free(l->best);
    *l = (bench_limits){0};
}
