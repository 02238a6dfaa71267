/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture.h: every allocation of a call fails once, and then for ever (the method of SQLite's
 * malloc_common.tcl).
 *
 * For i = 1, 2, … until nothing was left to fail: the i-th request of the call to the system fails
 * (in a second round, all from the i-th on). The call then succeeds by another way, or answers
 * OUT_OF_MEMORY or OVER_BUDGET with a sentence, outputs untouched; made again without faults it
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
} torture_case;

/*
 * Runs a case in two ways: with a setup of its own for each i, and with one for all. Returns NULL
 * if all is well, else what was wrong in a sentence (valid until the next call). *injected, if not
 * NULL, gets the number of failures made.
 */
const char *torture(const torture_case *c, int64_t *injected);

#endif
