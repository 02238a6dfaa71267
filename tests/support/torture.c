/* SPDX-License-Identifier: Apache-2.0 */
/* torture.c: see torture.h. Needs a program linked with fault.c. */
#include "torture.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fault.h"

/* No call of tenon makes so many requests: a loop that comes here never ends. */
#define MOST_REQUESTS 10000

static char verdict[512];

__attribute__((format(printf, 1, 2))) static const char *wrong(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(verdict, sizeof verdict, format, args);
    va_end(args);
    return verdict;
}

/* Everything that tenon does outside of the call under test is watched too: it is part of the leak
 * check. */
static bool set_up(const torture_case *c) {
    fault_watch(true);
    bool done = !c->setup || c->setup(c->state);
    fault_watch(false);
    return done;
}

static void tear_down(const torture_case *c) {
    fault_watch(true);
    if (c->teardown)
        c->teardown(c->state);
    fault_watch(false);
}

static const char *check(const torture_case *c, tenon_status status, const char *when) {
    if (status == TENON_OK) {
        if (c->correct && !c->correct(c->state))
            return wrong("%s, %s: succeeded with wrong results", c->name, when);
        if (c->undo)
            c->undo(c->state);
        return NULL;
    }
    if (status != TENON_ERROR_OUT_OF_MEMORY && status != TENON_ERROR_OVER_BUDGET)
        return wrong("%s, %s: returned %s (%s)", c->name, when, tenon_status_name(status),
                     c->message ? c->message(c->state) : "");
    if (c->untouched && !c->untouched(c->state))
        return wrong("%s, %s: failed and touched its outputs", c->name, when);
    if (c->message && c->message(c->state)[0] == 0)
        return wrong("%s, %s: failed without a sentence", c->name, when);
    return NULL;
}

static const char *call_plainly(const torture_case *c, const char *when) {
    if (c->prepare)
        c->prepare(c->state);
    fault_watch(true);
    tenon_status status = c->call(c->state);
    fault_watch(false);
    if (status != TENON_OK)
        return wrong("%s, %s: without faults it returned %s (%s)", c->name, when,
                     tenon_status_name(status), c->message ? c->message(c->state) : "");
    return check(c, status, when);
}

/* One i: the call with the fault, then without. *injected: faults that struck. */
static const char *strike(const torture_case *c, int64_t i, bool sticky, int64_t *injected) {
    char when[64];
    snprintf(when, sizeof when, "request %lld failing%s", (long long)i,
             sticky ? " with all later" : "");
    if (c->prepare)
        c->prepare(c->state);
    fault_arm(i, sticky);
    tenon_status status = c->call(c->state);
    *injected = fault_disarm();
    const char *bad = check(c, status, when);
    if (bad)
        return bad;
    if (*injected == 0 && status != TENON_OK)
        return wrong("%s, %s: no fault was made, and it returned %s", c->name, when,
                     tenon_status_name(status));
    return call_plainly(c, when);
}

static const char *round_of(const torture_case *c, bool fresh, bool sticky, int64_t *total) {
    if (!fresh && !set_up(c))
        return wrong("%s: setup failed", c->name);
    const char *bad = NULL;
    for (int64_t i = 1;; ++i) {
        int64_t live = fault_live(), injected = 0;
        if (fresh && !set_up(c))
            return wrong("%s: setup failed before request %lld", c->name, (long long)i);
        bad = strike(c, i, sticky, &injected);
        if (fresh) {
            tear_down(c);
            if (!bad && fault_live() != live)
                bad =
                    wrong("%s: %lld things (%lld bytes in all) left over after request %lld failed",
                          c->name, (long long)(fault_live() - live), (long long)fault_live_bytes(),
                          (long long)i);
        }
        if (!bad && i == MOST_REQUESTS)
            bad = wrong("%s: still requests after %d", c->name, MOST_REQUESTS);
        *total += injected;
        if (bad || injected == 0)
            break;
    }
    if (!fresh)
        tear_down(c);
    return bad;
}

const char *torture(const torture_case *c, int64_t *injected) {
    int64_t total = 0;
    /* Once without faults, so that what a process takes only once is there before things are
     * counted. */
    if (!set_up(c))
        return wrong("%s: setup failed", c->name);
    const char *bad = call_plainly(c, "at first");
    tear_down(c);
    int64_t live = fault_live();
    for (int way = 0; way < 4 && !bad; ++way)
        bad = round_of(c, way < 2, way % 2 != 0, &total);
    if (!bad && fault_live() != live)
        bad = wrong("%s: %lld things left over at the end", c->name,
                    (long long)(fault_live() - live));
    if (injected)
        *injected = total;
    return bad;
}
