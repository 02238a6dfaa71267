/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces_replay.h: plays a trace against an allocator, in a process of its own, so that one that
 * crashes, leaks or hangs spoils nothing, and so that what the process holds is what the allocator
 * holds.
 */
#ifndef BENCH_TRACES_REPLAY_H
#define BENCH_TRACES_REPLAY_H

#include "traces.h"

#include <tenon/tenon.h>

/* Who serves. */
typedef struct traces_allocator {
    const char *name;
    const char *library; /* a file with malloc and free; NULL: what this process's malloc is */
    bool pool;           /* a tenon pool instead */
    size_t budget;       /* of the pool; 0: none */
} traces_allocator;

typedef struct traces_rules {
    double min_time;  /* seconds of replays without touching, for the time of an operation */
    bool touch;       /* replay once more and write to every page, to see the footprint */
    int most_seconds; /* a child that takes longer is ended */
} traces_rules;

typedef struct traces_figures {
    char error[256]; /* empty: all went well */
    double seconds;  /* of one operation, memory not touched: the fastest round's mean */
    double touched;  /* of one operation with every page written; 0: not measured */
    /* the most that the process held beyond what it began with; 0: not measured */
    size_t peak_resident;
    size_t peak_reserved; /* the pool's own figure; 0 for others */
    double unused;        /* mean over the replay: share of what was held that was not alive */
    uint64_t failures;    /* allocations that got no memory */
} traces_figures;

/* A figure that can't be had leaves a sentence in `error`. */
void traces_replay(const traces *t, const traces_allocator *allocator, const traces_rules *rules,
                   traces_figures *figures);

#endif
