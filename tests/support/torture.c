/* SPDX-License-Identifier: Apache-2.0 */
/* torture.c: see torture.h. Needs a program linked with fault.c. */
#include "torture.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "rng.h"

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

/* ---- the tally: in memory that Check's processes share once it is open ---- */

static torture_tally own_tally, *tally = &own_tally;

static void count(int64_t jobs, int64_t sites, int64_t runs) {
    __atomic_fetch_add(&tally->jobs, jobs, __ATOMIC_RELAXED);
    __atomic_fetch_add(&tally->sites, sites, __ATOMIC_RELAXED);
    __atomic_fetch_add(&tally->runs, runs, __ATOMIC_RELAXED);
}

static void *shared(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return memory;
}

void torture_tally_open(void) {
    tally = shared(sizeof *tally);
}

void torture_tally_close(const char *program) {
    char line[160], path[1024];
    snprintf(line, sizeof line, "%s: %lld jobs, %lld sites, %lld runs\n", program,
             (long long)tally->jobs, (long long)tally->sites, (long long)tally->runs);
    fputs(line, stdout);
    const char *directory = getenv("TENON_TORTURE_TALLY");
    if (!directory || !*directory)
        return;
    snprintf(path, sizeof path, "%s/%s", directory, program);
    FILE *file = fopen(path, "w");
    if (!file || fputs(line, file) < 0 || fclose(file) != 0)
        perror(path);
}

bool torture_full(void) {
    const char *wanted = getenv("TENON_TORTURE");
    return wanted && strcmp(wanted, "full") == 0;
}

/* ---- one call ---- */

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

static const char *sentence(const torture_case *c) {
    return c->message ? c->message(c->state) : "";
}

static const char *check(const torture_case *c, tenon_status status, const char *when) {
    if (status == TENON_OK) {
        if (c->correct && !c->correct(c->state))
            return wrong("%s, %s: succeeded with wrong results", c->name, when);
        if (c->undo)
            c->undo(c->state);
        return NULL;
    }
    if (c->harmless)
        return wrong("%s, %s: could have done without and returned %s (%s)", c->name, when,
                     tenon_status_name(status), sentence(c));
    if (status != TENON_ERROR_OUT_OF_MEMORY && status != TENON_ERROR_OVER_BUDGET)
        return wrong("%s, %s: returned %s (%s)", c->name, when, tenon_status_name(status),
                     sentence(c));
    if (c->untouched && !c->untouched(c->state))
        return wrong("%s, %s: failed and touched its outputs", c->name, when);
    if (c->message && c->message(c->state)[0] == 0)
        return wrong("%s, %s: failed without a sentence", c->name, when);
    if (c->message && !strpbrk(sentence(c), "0123456789"))
        return wrong("%s, %s: failed without figures: %s", c->name, when, sentence(c));
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
                     tenon_status_name(status), sentence(c));
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

static const char *left_over(const torture_case *c, int64_t things, int64_t i) {
    return wrong("%s: %lld things (%lld bytes in all) left over after request %lld failed", c->name,
                 (long long)things, (long long)fault_live_bytes(), (long long)i);
}

/* ---- one case, warm ---- */

static const char *round_of(const torture_case *c, bool fresh, bool sticky, int64_t *total) {
    if (!fresh && !set_up(c))
        return wrong("%s: setup failed", c->name);
    const char *bad = NULL;
    int64_t i = 1;
    for (;; ++i) {
        int64_t live = fault_live(), injected = 0;
        if (fresh && !set_up(c))
            return wrong("%s: setup failed before request %lld", c->name, (long long)i);
        bad = strike(c, i, sticky, &injected);
        if (fresh) {
            tear_down(c);
            if (!bad && fault_live() != live)
                bad = left_over(c, fault_live() - live, i);
        }
        if (!bad && i == MOST_REQUESTS)
            bad = wrong("%s: still requests after %d", c->name, MOST_REQUESTS);
        *total += injected;
        if (bad || injected == 0)
            break;
    }
    count(0, fresh && !sticky ? i - 1 : 0, i - 1);
    if (!fresh)
        tear_down(c);
    return bad;
}

const char *torture(const torture_case *c, int64_t *injected) {
    int64_t total = 0;
    count(1, 0, 0);
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

/* ---- cold: a process per failure ---- */

typedef struct report {
    int64_t injected;
    char bad[sizeof verdict];
} report;

static void live_once(const torture_case *c, int64_t kept, int64_t i, bool sticky, report *r) {
    int64_t live = fault_live();
    const char *bad = NULL;
    if (!set_up(c))
        bad = wrong("%s: setup failed before request %lld", c->name, (long long)i);
    else
        bad = strike(c, i, sticky, &r->injected);
    tear_down(c);
    if (!bad && fault_live() - live > kept)
        bad = left_over(c, fault_live() - live - kept, i);
    if (bad)
        snprintf(r->bad, sizeof r->bad, "%s", bad);
}

const char *torture_cold(const torture_case *c, int64_t kept, int seconds, int64_t *injected) {
    const char *bad = NULL;
    int64_t total = 0;
    report *r = shared(sizeof *r);
    count(1, 0, 0);
    for (int sticky = 0; sticky < 2 && !bad; ++sticky) {
        int64_t i = 1;
        for (; i <= MOST_REQUESTS; ++i) {
            int how = 0;
            *r = (report){.injected = 0};
            fflush(stdout);
            pid_t child = fork();
            if (child == 0) {
                signal(SIGALRM, SIG_DFL); /* Check's handler would end the parent too */
                alarm((unsigned)seconds);
                live_once(c, kept, i, sticky, r);
                _exit(0);
            }
            if (child < 0 || waitpid(child, &how, 0) != child)
                bad = wrong("%s: no process for request %lld", c->name, (long long)i);
            else if (how != 0)
                bad = wrong("%s, request %lld failing%s: the process ended with %s %d", c->name,
                            (long long)i, sticky ? " with all later" : "",
                            WIFSIGNALED(how) ? "signal" : "status",
                            WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how));
            else if (r->bad[0])
                bad = wrong("%s", r->bad);
            total += r->injected;
            if (bad || r->injected == 0)
                break;
        }
        count(0, sticky ? 0 : i - 1, i - 1);
    }
    munmap(r, sizeof *r);
    if (injected)
        *injected = total;
    return bad;
}

/* ---- random ---- */

/* Calls on one setup, on average. */
#define CALLS_OF_A_SETUP 8

static const char *call_by_chance(const torture_case *c, torture_chance *chance, uint64_t seed,
                                  int64_t n) {
    char when[96];
    snprintf(when, sizeof when, "call %lld with %g %% of requests failing", (long long)n,
             100 * chance->probability);
    if (c->prepare)
        c->prepare(c->state);
    fault_arm_random(chance->probability, seed);
    tenon_status status = c->call(c->state);
    int64_t injected = fault_disarm();
    const char *bad = check(c, status, when);
    if (bad || injected == 0)
        return bad                  ? bad
               : status == TENON_OK ? NULL
                                    : wrong("%s, %s: no fault was made, and it returned %s",
                                            c->name, when, tenon_status_name(status));
    ++chance->struck;
    chance->failed += status != TENON_OK;
    return call_plainly(c, when);
}

const char *torture_random(const torture_case *cases, int count_of, torture_chance *chance) {
    rng r = {chance->seed};
    const char *bad = NULL;
    bool *open = calloc((size_t)count_of, sizeof *open);
    int64_t live = fault_live();
    chance->struck = chance->failed = 0;
    for (int64_t n = 0; n < chance->calls && !bad; ++n) {
        int which = (int)rng_below(&r, count_of);
        const torture_case *c = &cases[which];
        if (!open[which] && !set_up(c))
            bad = wrong("%s: setup failed before call %lld", c->name, (long long)n);
        open[which] = true;
        if (!bad)
            bad = call_by_chance(c, chance, rng_u64(&r), n);
        if (rng_below(&r, CALLS_OF_A_SETUP) == 0) {
            tear_down(c);
            open[which] = false;
        }
    }
    for (int i = 0; i < count_of; ++i)
        if (open[i])
            tear_down(&cases[i]);
    free(open);
    count(count_of, 0, chance->struck);
    if (!bad && fault_live() != live)
        bad = wrong("random: %lld things (%lld bytes) left over at the end",
                    (long long)(fault_live() - live), (long long)fault_live_bytes());
    return bad;
}
