/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timing.c: clock, statistics and the alternating loop (see timing.h). Used by the peak probes and
 * by every bench op; knows nothing of what it times.
 */
#include "timing.h"

#include <stdlib.h>
#include <time.h>

/* A repetition dwarfs the clock's cost (about 30 ns) and what it takes to let a contender have the
 * machine for itself. */
#define REPETITION_SECONDS 20e-3
/* Untimed calls before it. After a pause, threads sleep, cores halt and hosts lend them to others:
 * calls of 0.25 ms on two virtual cores took 1.5 to 2.5 times as long at first, and 5 ms until they
 * took what they take back to back, whoever's they were. */
#define WARM_UP_SECONDS 10e-3
/* Longer calls need no warm-up: all of it is a few percent of them. */
#define WARM_UP_BELOW_SECONDS 100e-3
/* OpenBLAS's idle threads were seen to spin for 30 to 130 ms (its THREAD_TIMEOUT is in clock
 * cycles), Intel's OpenMP for 200 ms; what spins longer spins for ever. */
#define SETTLE_SECONDS 0.25
/* Longer than the 10 ms tick at which a kernel may account for threads that run elsewhere: within a
 * shorter step a spinning thread can look idle. */
#define SETTLE_STEP_SECONDS 12e-3
/* A race that waits for others to settle ends early after this many times min_time. */
#define PATIENCE 20
#define FEWEST_ROUNDS 5

double timing_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Processor time of all threads of this process. */
static double process_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Quantile q of sorted samples, interpolated between neighbours. */
static double quantile(const double *sorted, int64_t count, double q) {
    const double at = q * (double)(count - 1);
    const int64_t low = (int64_t)at;
    const int64_t high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

timing_stats timing_summarize(double *samples, int64_t count) {
    qsort(samples, (size_t)count, sizeof *samples, compare_doubles);
    timing_stats s = {
        .median = quantile(samples, count, 0.5), .min = samples[0], .max = samples[count - 1]};
    if (s.median > 0)
        s.spread = (quantile(samples, count, 0.75) - quantile(samples, count, 0.25)) / s.median;
    return s;
}

void timing_settle(void) {
    const struct timespec step = {.tv_nsec = (int32_t)(SETTLE_STEP_SECONDS * 1e9)};
    const double start = timing_now();
    double now = start, used = process_seconds();
    while (now - start < SETTLE_SECONDS) {
        nanosleep(&step, NULL);
        const double later = timing_now(), later_used = process_seconds();
        if (later_used - used < 0.1 * (later - now))
            return;
        now = later;
        used = later_used;
    }
}

static int record(timing_contender *c, double seconds) {
    if (c->count == c->capacity) {
        const int64_t capacity = c->capacity ? 2 * c->capacity : 64;
        double *samples = realloc(c->samples, (size_t)capacity * sizeof *samples);
        if (!samples)
            return TIMING_NO_MEMORY;
        c->samples = samples;
        c->capacity = capacity;
    }
    c->samples[c->count++] = seconds;
    return 0;
}

static int run_calls(timing_contender *c, int64_t calls, double *elapsed) {
    const double start = timing_now();
    for (int64_t i = 0; i < calls; ++i) {
        const int status = c->run(c->state);
        if (status)
            return status;
    }
    *elapsed = timing_now() - start;
    return 0;
}

/* First calls (plans, threads, packed copies, page faults), then how many calls fill a repetition.
 */
static int calibrate(timing_contender *c, bool cold) {
    double elapsed = 0;
    c->calls = 1;
    int status = run_calls(c, 1, &elapsed);
    if (status || cold)
        return status;
    for (;;) {
        status = run_calls(c, c->calls, &elapsed);
        if (status || elapsed >= REPETITION_SECONDS)
            return status;
        const double per_call = elapsed / (double)c->calls;
        const double wanted = per_call > 0 ? REPETITION_SECONDS / per_call * 1.05 + 1 : 1e9;
        const double most = 16 * (double)c->calls;
        c->calls = (int64_t)(wanted < most ? wanted : most);
    }
}

/* Its threads up, its data back in the caches, the clock of its cores where it stays. */
static int warm_up(timing_contender *c) {
    if (c->count > 0 && c->samples[c->count - 1] >= WARM_UP_BELOW_SECONDS)
        return 0;
    const double start = timing_now();
    do {
        const int status = c->run(c->state);
        if (status)
            return status;
    } while (timing_now() - start < WARM_UP_SECONDS);
    return 0;
}

/* What every contender gets, and nothing else: `alone` means that there is no other. */
static int take_turn(timing_contender *c, bool alone, bool cold) {
    double elapsed = 0;
    int status = 0;
    if (!alone)
        timing_settle();
    if (cold)
        c->before_cold(c->state);
    else
        status = warm_up(c);
    if (!status)
        status = run_calls(c, c->calls, &elapsed);
    if (status)
        return status;
    c->timed += elapsed;
    return record(c, elapsed / (double)c->calls);
}

int timing_alternate(timing_contender *contenders, int count, const timing_rules *rules) {
    int status = 0;
    for (int i = 0; i < count && !status; ++i) {
        if (i > 0)
            timing_settle();
        status = calibrate(&contenders[i], rules->cold);
    }
    const double start = timing_now();
    for (int64_t round = 0; !status; ++round) {
        const bool enough = contenders[0].timed >= rules->min_time ||
                            timing_now() - start > PATIENCE * rules->min_time;
        if (rules->reps > 0 ? round == rules->reps : round >= FEWEST_ROUNDS && enough)
            break;
        for (int i = 0; i < count && !status; ++i)
            status = take_turn(&contenders[round % 2 ? count - 1 - i : i], count == 1, rules->cold);
        if (!status && rules->between)
            status = rules->between(rules->state);
    }
    return status;
}
