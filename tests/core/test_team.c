/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Teams: every index once, whoever works; phases see each other's results; help arrives; forks,
 * failures to start a thread, caller's pools that misbehave and donated threads in any order.
 */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/os.h"
#include "core/team.h"
#include "fault.h"
#include "rng.h"
#include "settle.h"
#include "suite.h"

#define MANY 100003

/* ---- a phase that notices everything wrong ---- */

typedef struct tally {
    int threads;
    _Atomic unsigned char *seen;
    _Atomic int busy[TN_TEAM_MAX];
    _Atomic int bad_worker, shared_worker;
    _Atomic int64_t calls;
} tally;

static void tally_task(void *arg, int64_t index, int worker) {
    tally *t = arg;
    if (worker < 0 || worker >= t->threads) {
        atomic_fetch_add(&t->bad_worker, 1);
        return;
    }
    if (atomic_fetch_add(&t->busy[worker], 1) != 0)
        atomic_fetch_add(&t->shared_worker, 1);
    atomic_fetch_add(&t->seen[index], 1);
    atomic_fetch_add(&t->calls, 1);
    atomic_fetch_sub(&t->busy[worker], 1);
}

static void check_phase(tn_team *team, int64_t count) {
    tally *t = calloc(1, sizeof *t);
    t->threads = tn_team_threads(team);
    t->seen = calloc((size_t)count + 1, 1);
    tn_team_run(team, tally_task, t, count);
    ck_assert_int_eq(t->bad_worker, 0);
    ck_assert_int_eq(t->shared_worker, 0);
    ck_assert_int_eq(t->calls, count);
    for (int64_t i = 0; i < count; ++i)
        if (t->seen[i] != 1)
            ck_abort_msg("index %lld of %lld ran %d times", (long long)i, (long long)count,
                         t->seen[i]);
    free((void *)t->seen);
    free(t);
}

static const int64_t counts[] = {0, 1, 2, 3, 7, 64, 1000, MANY};
#define COUNTS (sizeof counts / sizeof counts[0])

static const int thread_counts[] = {1, 2, 3, 8};

START_TEST(every_index_once) {
    tn_team *team;
    ck_assert_int_eq(tn_team_create(NULL, thread_counts[_i], NULL, &team), TENON_OK);
    ck_assert_int_eq(tn_team_threads(team), thread_counts[_i]);
    ck_assert_int_eq(tn_team_running(team), 1);
    for (size_t c = 0; c < COUNTS; ++c)
        check_phase(team, counts[c]); /* the first of these starts it */
    tn_team_start(team);
    ck_assert_int_eq(tn_team_running(team), thread_counts[_i]);
    for (size_t c = 0; c < COUNTS; ++c)
        check_phase(team, counts[c]);
    tn_team_destroy(team);
}
END_TEST

START_TEST(bad_arguments) {
    tn_team *team = (tn_team *)&team;
    ck_assert_int_eq(tn_team_create(NULL, 0, NULL, &team), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(team);
    team = (tn_team *)&team;
    ck_assert_int_eq(tn_team_create(NULL, TN_TEAM_MAX + 1, NULL, &team),
                     TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(team);
    tn_team_destroy(NULL);
}
END_TEST

/* ---- order of phases ---- */

#define LANES 8

typedef struct chain {
    int64_t value[2]
                 [LANES]; /* plain memory on purpose: a phase must see what the one before wrote */
    int64_t step;
} chain;

static void chain_task(void *arg, int64_t index, int worker) {
    (void)worker;
    chain *c = arg;
    const int64_t *from = c->value[c->step % 2];
    c->value[(c->step + 1) % 2][index] = from[(index + 1) % LANES] + 1;
}

static void check_chain(int threads, int64_t phases) {
    tn_team *team;
    chain c;
    memset(&c, 0, sizeof c);
    ck_assert_int_eq(tn_team_create(NULL, threads, NULL, &team), TENON_OK);
    tn_team_start(team);
    for (c.step = 0; c.step < phases; ++c.step)
        tn_team_run(team, chain_task, &c, LANES);
    for (int i = 0; i < LANES; ++i)
        ck_assert_int_eq(c.value[phases % 2][i], phases);
    tn_team_destroy(team);
}

START_TEST(a_million_phases) {
    check_chain(2, 1000000);
}
END_TEST

START_TEST(phases_of_more_threads_than_cores) {
    check_chain(8, 20000);
}
END_TEST

/* ---- help arrives ---- */

static void meet_task(void *arg, int64_t index, int worker) {
    (void)index;
    (void)worker;
    _Atomic int *absent = arg;
    atomic_fetch_sub(absent, 1);
    while (atomic_load(absent) > 0)
        sched_yield();
}

/* As many tasks as threads, and none ends before all have begun: a worker that is not woken hangs
 * the test. */
START_TEST(no_wake_up_is_lost) {
    rng r = rng_start("no_wake_up_is_lost");
    int threads = thread_counts[_i];
    tn_team *team;
    ck_assert_int_eq(tn_team_create(NULL, threads, NULL, &team), TENON_OK);
    tn_team_start(team);
    ck_assert_int_eq(tn_team_running(team), threads);
    for (int round = 0; round < 1500; ++round) {
        _Atomic int absent = threads;
        tn_team_run(team, meet_task, &absent, threads);
        if (rng_below(&r, 2)) {
            struct timespec pause = {0, rng_below(&r, 150000)};
            nanosleep(&pause, NULL);
        }
    }
    tn_team_destroy(team);
}
END_TEST

typedef struct mask_report {
    _Atomic int absent;
    _Atomic int caught_int, blocked_segv;
} mask_report;

static void mask_task(void *arg, int64_t index, int worker) {
    mask_report *report = arg;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (worker != 0 && !sigismember(&mask, SIGINT))
        atomic_fetch_add(&report->caught_int, 1);
    if (sigismember(&mask, SIGSEGV))
        atomic_fetch_add(&report->blocked_segv, 1);
    meet_task(&report->absent, index, worker);
}

START_TEST(signals_stay_with_the_host) {
    tn_team *team;
    mask_report report = {.absent = 2};
    ck_assert_int_eq(tn_team_create(NULL, 2, NULL, &team), TENON_OK);
    tn_team_start(team);
    tn_team_run(team, mask_task, &report, 2);
    ck_assert_int_eq(report.caught_int, 0);
    ck_assert_int_eq(report.blocked_segv, 0);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    ck_assert(!sigismember(&mask, SIGINT));
    tn_team_destroy(team);
}
END_TEST

/* ---- the caller's pool ---- */

typedef struct pool {
    int reported; /* what threads() answers */
    int most;     /* the largest count that run() got */
    int way;      /* how run() does it */
} pool;

enum { IN_ORDER, BACKWARDS, THREADED, LAZY, WAYS };

typedef struct slot {
    pthread_t thread;
    void (*task)(void *, int);
    void *arg;
    int index;
} slot;

static void *slot_main(void *arg) {
    slot *s = arg;
    s->task(s->arg, s->index);
    return NULL;
}

static int pool_threads(void *user) {
    return ((pool *)user)->reported;
}

static void pool_run(void *user, void (*task)(void *, int), void *arg, int count) {
    pool *p = user;
    if (count > p->most)
        p->most = count;
    slot slots[64];
    switch (p->way) {
    case IN_ORDER:
        for (int i = 0; i < count; ++i)
            task(arg, i);
        break;
    case BACKWARDS:
        for (int i = count; i-- > 0;)
            task(arg, i);
        break;
    case THREADED:
        for (int i = 0; i < count; ++i) {
            slots[i] = (slot){.task = task, .arg = arg, .index = i};
            ck_assert_int_eq(pthread_create(&slots[i].thread, NULL, slot_main, &slots[i]), 0);
        }
        for (int i = 0; i < count; ++i)
            pthread_join(slots[i].thread, NULL);
        break;
    default: /* a pool that could do nothing */
        break;
    }
}

START_TEST(callers_pool) {
    pool p = {.way = _i};
    tenon_parallel lent = {.user = &p, .threads = pool_threads, .run = pool_run};
    tn_team *team;
    ck_assert_int_eq(tn_team_create(NULL, 4, &lent, &team), TENON_OK);
    static const int reports[] = {4, 1, 64, 3, 0, -5, 2, 1000000};
    for (size_t i = 0; i < sizeof reports / sizeof reports[0]; ++i) {
        p.reported = reports[i];
        tn_team_start(team);
        for (size_t c = 0; c < COUNTS; ++c)
            check_phase(team, counts[c]);
    }
    ck_assert_int_eq(p.most, 4);
    tn_team_destroy(team);
}
END_TEST

/* With own threads (0) and with the caller's (1). */
START_TEST(a_limit_holds) {
    pool p = {.way = THREADED, .reported = 4};
    tenon_parallel lent = {.user = &p, .threads = pool_threads, .run = pool_run};
    tn_team *team;
    ck_assert_int_eq(tn_team_create(NULL, 4, _i ? &lent : NULL, &team), TENON_OK);
    tn_team_start(team);
    static const int limits[] = {4, 1, 2, 3, 100, 1, 4, 2};
    for (int round = 0; round < 400; ++round) {
        int limit = limits[round % 8];
        int expected = limit < 4 ? limit : 4;
        tn_team_limit(team, limit);
        ck_assert_int_eq(tn_team_threads(team), expected);
        check_phase(team, counts[round % 7]);
        _Atomic int absent = expected;
        tn_team_run(team, meet_task, &absent, expected);
    }
    tn_team_destroy(team);
}
END_TEST

START_TEST(half_a_pool) {
    tenon_parallel no_run = {.threads = pool_threads}, no_threads = {.run = pool_run}, none = {0};
    tn_team *team;
    ck_assert_int_eq(tn_team_create(NULL, 4, &no_run, &team), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(team);
    ck_assert_int_eq(tn_team_create(NULL, 4, &no_threads, &team), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(team);
    ck_assert_int_eq(tn_team_create(NULL, 4, &none, &team), TENON_OK);
    check_phase(team, 1000);
    tn_team_destroy(team);
}
END_TEST

/* ---- donated threads ---- */

typedef struct donation {
    tn_team *team;
    int phases;
    _Atomic int leaders;
    chain chain;
} donation;

static void *donate(void *arg) {
    donation *d = arg;
    if (tn_team_part_enter(d->team)) {
        atomic_fetch_add(&d->leaders, 1);
        for (int i = 0; i < d->phases; ++i, ++d->chain.step)
            tn_team_run(d->team, chain_task, &d->chain, LANES);
        tn_team_part_finish(d->team);
    }
    return NULL;
}

static void check_donation(donation *d, int64_t *expected) {
    ck_assert_int_eq(d->leaders, 1);
    d->leaders = 0;
    *expected += d->phases;
    for (int i = 0; i < LANES; ++i)
        ck_assert_int_eq(d->chain.value[*expected % 2][i], *expected);
}

START_TEST(donated_threads) {
    rng r = rng_start("donated_threads");
    donation d = {.phases = 20};
    int64_t expected = 0;
    pool p = {.way = THREADED, .reported = 4};
    tenon_parallel lent = {.user = &p, .threads = pool_threads, .run = pool_run};
    ck_assert_int_eq(tn_team_create(NULL, 4, _i ? &lent : NULL, &d.team), TENON_OK);
    for (int round = 0; round < 60; ++round) {
        int threads = (int)rng_between(&r, 1, 8); /* up to twice what the team has room for */
        pthread_t thread[8];
        tn_team_part_begin(d.team);
        for (int i = 0; i < threads; ++i) {
            ck_assert_int_eq(pthread_create(&thread[i], NULL, donate, &d), 0);
            if (rng_below(&r, 3) == 0) {
                struct timespec pause = {0, rng_below(&r, 100000)};
                nanosleep(&pause, NULL);
            }
        }
        for (int i = 0; i < threads; ++i)
            pthread_join(thread[i], NULL);
        tn_team_part_end(d.team);
        check_donation(&d, &expected);
        if (round % 10 == 0)
            check_phase(d.team, 1000); /* the team's own way again */
    }
    ck_assert_int_eq(p.most, _i ? 4 : 0);
    tn_team_destroy(d.team);
}
END_TEST

START_TEST(donated_one_after_the_other) {
    donation d = {.phases = 20};
    int64_t expected = 0;
    ck_assert_int_eq(tn_team_create(NULL, 4, NULL, &d.team), TENON_OK);
    for (int round = 0; round < 10; ++round) {
        tn_team_part_begin(d.team);
        for (int i = 0; i < 6; ++i)
            donate(&d);
        tn_team_part_end(d.team);
        check_donation(&d, &expected);
    }
    tn_team_part_begin(d.team); /* and nobody comes */
    tn_team_part_end(d.team);
    ck_assert(!tn_team_part_enter(d.team)); /* or too late */
    tn_team_destroy(d.team);
}
END_TEST

typedef struct meeting {
    tn_team *team;
    int threads;
    _Atomic int absent;
} meeting;

static void *donate_to_meeting(void *arg) {
    meeting *m = arg;
    if (tn_team_part_enter(m->team)) {
        tn_team_run(m->team, meet_task, &m->absent, m->threads);
        tn_team_part_finish(m->team);
    }
    return NULL;
}

START_TEST(donated_threads_help) {
    meeting m = {.threads = 3};
    ck_assert_int_eq(tn_team_create(NULL, m.threads, NULL, &m.team), TENON_OK);
    for (int round = 0; round < 50; ++round) {
        pthread_t thread[3];
        m.absent = m.threads;
        tn_team_part_begin(m.team);
        for (int i = 0; i < m.threads; ++i)
            ck_assert_int_eq(pthread_create(&thread[i], NULL, donate_to_meeting, &m), 0);
        for (int i = 0; i < m.threads; ++i)
            pthread_join(thread[i], NULL);
        tn_team_part_end(m.team);
    }
    ck_assert_int_eq(tn_team_running(m.team), 1); /* its own never began */
    tn_team_destroy(m.team);
}
END_TEST

/* ---- forks ---- */

#ifndef TEST_TSAN /* which does not let a child start threads */

/* In the child: works, with threads of its own, and can be ended. */
static int use_after_fork(tn_team *team, int threads) {
    for (int i = 0; i < 100; ++i) {
        _Atomic int absent = threads;
        tn_team_run(team, meet_task, &absent, threads);
    }
    int running = tn_team_running(team);
    tn_team_destroy(team);
    return running == threads ? 0 : 1;
}

static void check_child(pid_t child) {
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}

START_TEST(survives_fork) {
    tn_team *team, *idle;
    ck_assert_int_eq(tn_team_create(NULL, 3, NULL, &team), TENON_OK);
    ck_assert_int_eq(tn_team_create(NULL, 3, NULL, &idle), TENON_OK);
    tn_team_start(team);
    tn_team_start(idle);
    settle_threads();
    for (int round = 0; round < 20; ++round) {
        check_phase(team, 100);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            pid_t grandchild = round % 2 ? fork() : -1;
            if (grandchild == 0)
                _exit(use_after_fork(team, 3));
            int status = 0;
            if (grandchild > 0)
                waitpid(grandchild, &status, 0);
            tn_team_destroy(idle); /* one that the child never used */
            _exit(use_after_fork(team, 3) | (status != 0));
        }
        check_phase(team, 100);
        check_child(child);
    }
    tn_team_destroy(idle);
    tn_team_destroy(team);
}
END_TEST

#endif

/* ---- failures ---- */

START_TEST(threads_that_cannot_start) {
    for (int64_t nth = 1; nth <= 7; ++nth) {
        tn_team *team;
        ck_assert_int_eq(tn_team_create(NULL, 8, NULL, &team), TENON_OK);
        fault_watch(true);
        tn_fork_mark mark;
        tn_os_fork_mark(&mark); /* so that its page is not among what fails */
        fault_arm(nth, true);
        tn_team_start(team);
        ck_assert_int_ge(fault_disarm(), 1);
        ck_assert_int_eq(tn_team_running(team), nth);
        for (size_t c = 0; c < COUNTS; ++c)
            check_phase(team, counts[c]);
        ck_assert_int_eq(tn_team_running(team), nth); /* runs do not try again … */
        tn_team_start(team);
        ck_assert_int_eq(tn_team_running(team), 8); /* … and a start does */
        check_phase(team, MANY);
        tn_team_destroy(team);
    }
}
END_TEST

START_TEST(runs_allocate_nothing) {
    tn_team *team;
    fault_watch(true);
    ck_assert_int_eq(tn_team_create(NULL, 3, NULL, &team), TENON_OK);
    tn_team_start(team);
    ck_assert_int_eq(fault_live(), 4); /* a block, two threads and the page that notices forks */
    fault_reset();
    chain c;
    memset(&c, 0, sizeof c);
    for (c.step = 0; c.step < 100; ++c.step)
        tn_team_run(team, chain_task, &c, LANES);
    ck_assert_int_eq(fault_count(), 0);
    tn_team_destroy(team);
    fault_watch(false);
    ck_assert_int_eq(fault_live(), 1);
}
END_TEST

typedef struct hook_count {
    int64_t bytes;
    bool fail;
} hook_count;

static void *hook_alloc(void *user, size_t bytes, size_t alignment) {
    hook_count *h = user;
    if (h->fail)
        return NULL;
    h->bytes += (int64_t)bytes;
    void *memory = NULL;
    return posix_memalign(&memory, alignment < 16 ? 16 : alignment, bytes) == 0 ? memory : NULL;
}

static void hook_free(void *user, void *memory, size_t bytes) {
    ((hook_count *)user)->bytes -= (int64_t)bytes;
    free(memory);
}

START_TEST(memory_comes_from_the_hooks) {
    hook_count h = {0};
    tenon_allocator hooks = {.user = &h, .alloc = hook_alloc, .free = hook_free};
    tn_team *team;
    ck_assert_int_eq(tn_team_create(&hooks, 5, NULL, &team), TENON_OK);
    ck_assert_int_gt(h.bytes, 0);
    check_phase(team, 1000);
    tn_team_destroy(team);
    ck_assert_int_eq(h.bytes, 0);
    h.fail = true;
    ck_assert_int_eq(tn_team_create(&hooks, 5, NULL, &team), TENON_ERROR_OUT_OF_MEMORY);
    ck_assert_ptr_null(team);
}
END_TEST

static Suite *team_suite(void) {
    Suite *suite = suite_create("team");
    TCase *tc = tcase_create("team");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, every_index_once, 0, 4);
    tcase_add_test(tc, bad_arguments);
    tcase_add_test(tc, a_million_phases);
    tcase_add_test(tc, phases_of_more_threads_than_cores);
    tcase_add_loop_test(tc, no_wake_up_is_lost, 0, 4);
    tcase_add_test(tc, signals_stay_with_the_host);
    tcase_add_loop_test(tc, callers_pool, 0, WAYS);
    tcase_add_loop_test(tc, a_limit_holds, 0, 2);
    tcase_add_test(tc, half_a_pool);
    tcase_add_loop_test(tc, donated_threads, 0, 2);
    tcase_add_test(tc, donated_one_after_the_other);
    tcase_add_test(tc, donated_threads_help);
#ifndef TEST_TSAN
    tcase_add_test(tc, survives_fork);
#endif
    tcase_add_test(tc, threads_that_cannot_start);
    tcase_add_test(tc, runs_allocate_nothing);
    tcase_add_test(tc, memory_comes_from_the_hooks);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void) {
    return run_suite(team_suite());
}
