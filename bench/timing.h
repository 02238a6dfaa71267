/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timing.h: how the `tenon` command takes times: a monotonic clock, order statistics of samples,
 * and a loop that alternates contenders repetition by repetition, so that drifting clocks and
 * neighbours touch all of them alike.
 */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H

#include <stdbool.h>
#include <stdint.h>

/* Seconds of a clock that never goes back. */
double timing_now(void);

/*
 * Waits until the threads of this process have stopped spinning for work, as its processor time
 * shows, a quarter of a second at most. Idle helpers of a BLAS library that still poll would take
 * the cores from whatever is measured next.
 */
void timing_settle(void);

typedef struct timing_stats {
    double median;
    double min;
    double max;
    double spread; /* interquartile range / median */
} timing_stats;

/* Statistics of `count` >= 1 samples, which are sorted in place. */
timing_stats timing_summarize(double *samples, int64_t count);

/* One thing to be timed. The caller sets the first four members, zeroes the rest and frees
 * `samples`. */
typedef struct timing_contender {
    int (*run)(void *state); /* one call; a negative answer ends the measurement and is returned */
    void *state;             /* handed to run and before_cold */
    void (*before_cold)(
        void *state); /* puts the data out of the caches; needed for cold measurements only */
    double *samples;  /* seconds per call, one for each repetition */
    int64_t count;
    int64_t capacity;
    int64_t calls; /* calls in one repetition */
    double timed;  /* seconds spent in timed calls */
} timing_contender;

typedef struct timing_rules {
    int64_t reps;    /* repetitions of each contender; 0: until min_time is spent, at least 5 */
    double min_time; /* seconds of timed calls of the first contender */
    bool cold;       /* one call per repetition, on data that is in no cache */
    int (*between)(
        void *state); /* called after each round; as timing_contender.run. NULL: nothing */
    void *state;      /* handed to between */
} timing_rules;

/*
 * Calibrates each contender, then measures round after round, every other round in reverse order.
 *
 * Whoever is timed has its own threads up and nobody else's running: a turn waits until the threads
 * of this process have gone to sleep (timing_settle), calls the contender untimed for 10 ms, once
 * at least (not where a call takes 100 ms), then times as many calls as fill 20 ms. The same for
 * all. A cold turn waits too, then evicts and times one call, into which waking threads up counts.
 * Returns 0, the first other value that a contender or `between` answered, or TIMING_NO_MEMORY.
 */
#define TIMING_NO_MEMORY 1
int timing_alternate(timing_contender *contenders, int count, const timing_rules *rules);

#endif
