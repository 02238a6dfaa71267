/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_limits.h: the machine's limits that `tenon bench` holds its rows against. A probe that a
 * neighbour disturbs measures too little and would let a row look better than the machine can be;
 * so probes are taken again and again beside the timed calls, and the limit is the best rate that
 * this process has measured so far.
 */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include "peak.h"

#include <stdbool.h>
#include <stddef.h>

/* What a row is held against: one arithmetic and one memory limit. */
typedef struct bench_limit_query {
    peak_kind arithmetic; /* PEAK_KINDS: none */
    peak_kind memory;     /* PEAK_READ or PEAK_COPY */
    int threads;
    size_t bytes; /* the working set; bench_limits_memory_set for what lies in memory */
} bench_limit_query;

/* Rates in operations and bytes per second; 0: not known. */
typedef struct bench_rates {
    double arithmetic;
    double memory;
} bench_rates;

typedef struct bench_best {
    peak_kind kind;
    int threads;
    size_t bytes;
    double rate;
} bench_best;

/* Zero-initialise. */
typedef struct bench_limits {
    peak_memory memory;
    size_t memory_set;
    bench_best *best;
    size_t count, capacity;
} bench_limits;

/* Bytes that count as "from memory" for the session; asked for once, as free memory changes. */
size_t bench_limits_memory_set(bench_limits *limits, int threads);

/* Probes what the query asks for, some tens of milliseconds, and answers the rates of this moment.
 * False after a sentence on stderr. */
bool bench_limits_probe(bench_limits *limits, const bench_limit_query *query, bench_rates *now);

/* The best rates so far. */
bench_rates bench_limits_best(const bench_limits *limits, const bench_limit_query *query);

void bench_limits_free(bench_limits *limits);

#endif
