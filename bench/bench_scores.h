/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_scores.h: what a suite of shapes comes to: for each peer the geometric mean of the ratios
 * (peer's time / tenon's) and the shapes on which tenon is slower. Rows of different suites, types,
 * ways, thread counts, and warm and cold ones are kept apart.
 */
#ifndef BENCH_SCORES_H
#define BENCH_SCORES_H

#include "peer_library.h"

#include <stdbool.h>
#include <stddef.h>

/* Below this a shape counts as lost by more than the noise of a good measurement. */
#define BENCH_SCORES_CLEARLY 0.95

typedef struct bench_scores_key {
    const char *op, *suite, *dtype; /* live as long as the scores */
    const char *way;                /* likewise; NULL: there is one only */
    int threads;
    bool cold;
} bench_scores_key;

typedef struct bench_scores_row {
    bench_scores_key key;
    char shape[128];
    double ratios[PEER_MOST]; /* by the index of the peer; 0: it was not measured */
} bench_scores_row;

/* Zero-initialise. */
typedef struct bench_scores {
    bench_scores_row *rows;
    size_t count, capacity;
} bench_scores;

/* Appends a row; false, after a sentence on stderr, without memory. */
bool bench_scores_add(bench_scores *scores, const bench_scores_row *row);

/* Prints each key's summary and its lost shapes, or one JSON object for each key. `names` are the
 * peers'. */
void bench_scores_print(const bench_scores *scores, const char *const *names, int peers, bool json);

void bench_scores_free(bench_scores *scores);

#endif
