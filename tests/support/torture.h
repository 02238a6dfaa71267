/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture.h: every allocation of a call fails once, and then for ever (the method of SQLite's
 * malloc_common.tcl).
 *
 * For i = 1, 2, … until nothing was left to fail: the i-th request of the call to the system fails
 * (in a second round, all from the i-th on). The call then succeeds by another way, or answers
 * OUT_OF_MEMORY or OVER_BUDGET with a sentence that has figures, outputs untouched; made again without faults it
 * must succeed; and after teardown nothing may be left over.
 */
#ifndef TEST_TORTURE_H
#define TEST_TORTURE_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/tenon.h>

/*
 * What is tortured. Functions get `state`. NULL functions do nothing. What `call` leaves behind (a
 * plan, a buffer, a cached plan) is ended by `undo` after it succeeded, or by `teardown`.
 */
typedef struct torture_case {
    const char *name;
    void *state;
    bool (*setup)(void *state);   /* before the first call; false: could not, a bug of the test */
    void (*prepare)(void *state); /* before each call: fills outputs with their pattern */
    tenon_status (*call)(void *state); /* the public call, and nothing else that allocates */
    bool (*untouched)(
        void *state); /* after a failure: the outputs still hold the pattern, *out is NULL … */
    bool (*correct)(void *state); /* after a success: the outputs are right */
    void (*undo)(void *state);    /* after a success */
    void (*teardown)(void *state);
    const char *(*message)(void *state); /* the sentence of a failure; NULL: not looked at */
    bool
        harmless; /* whatever fails, the call succeeds: its requests are for what it can do without */
} torture_case;

/* What was done, over all calls of the functions below. A site is a request that one case makes, a
 * run is a call that met at least one failure. */
typedef struct torture_tally {
    int64_t jobs, sites, runs;
} torture_tally;

/*
 * Runs a case in two ways: with a setup of its own for each i, and with one for all. Returns NULL
 * if all is well, else what was wrong in a sentence (valid until the next call). *injected, if not
 * NULL, gets the number of failures made.
 */
const char *torture(const torture_case *c, int64_t *injected);

/*
 * The same in a process of its own for each i, in which tenon has never been called: for what a
 * process takes only once, and for guards that remember. `kept` things may stay until its end.
 * A process that crashes or lasts longer than `seconds` is found out. Pre: nor was it called in
 * this process, which has one thread.
 */
const char *torture_cold(const torture_case *c, int64_t kept, int seconds, int64_t *injected);

/* How random failures are made, and what came of the calls. */
typedef struct torture_chance {
    double probability;
    uint64_t seed;
    int64_t calls;
    int64_t struck, failed; /* out: calls that met failures; calls that answered with one */
} torture_chance;

/*
 * Makes `chance->calls` calls of cases drawn at random while each request fails with a probability.
 * After a call that met a failure the same is called without faults. A case keeps its setup for some
 * calls, then gets a new one.
 */
const char *torture_random(const torture_case *cases, int count, torture_chance *chance);

/* True if the long variant is asked for: TENON_TORTURE=full in the environment. */
bool torture_full(void);

/*
 * A program's tally: opened before Check forks, printed at the end, where the environment's
 * TENON_TORTURE_TALLY names a directory also written to the file `program` there.
 */
void torture_tally_open(void);
void torture_tally_close(const char *program);

#endif
