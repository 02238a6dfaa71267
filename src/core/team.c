/* SPDX-License-Identifier: Apache-2.0 */
/*
 * team.c: a parallel-for over own threads, the caller's pool or donated threads.
 *
 * The calling thread never waits for anybody to arrive: it publishes a phase, works through the
 * indices itself, and whoever comes in time helps. A worker joins through `gate`, which counts
 * those inside and has a bit that says whether the phase is open; the caller closes it when no
 * index is left and waits only for those inside. So a worker that sleeps, has not started or is
 * descheduled costs nothing but its help, and the fields of a phase are written only while nobody
 * is inside.
 *
 * Workers notice a phase by `epoch`: they watch it for a while, then sleep on it (futex). Both
 * sides use seq_cst for the pair (epoch, sleepers): the caller changes epoch, then reads sleepers;
 * a worker adds itself to sleepers, then the kernel compares epoch. One of them sees the other, so
 * no wake-up is lost.
 *
 * This file never decides a result and allocates only in create.
 */
#include "team.h"

#include "checked.h"
#include "os.h"

/* gate: bit 0 open, bit 1 the caller sleeps until it is empty, then the number of workers inside.
 */
#define GATE_OPEN 1u
#define GATE_AWAITED 2u
#define GATE_ONE 4u

/*
 * How long a thread watches a word before it sleeps. Longer than what passes between the phases of
 * one op (1 to 10 us, packing of a block) and than a futex wake-up (about 50 us with a core in deep
 * idle); short enough not to show in a host's CPU time between ops. Not tuned per machine.
 */
#define SPIN_NS 50000u
/* Looks at the word between two looks at the clock. */
#define SPIN_LOOKS 32

typedef enum team_kind { TEAM_OWN, TEAM_USER, TEAM_PARTS } team_kind;

/* Whether a leader is wanted for the op of donated threads. */
enum { PART_CLOSED, PART_OPEN, PART_LED };

typedef struct worker {
    tn_team *team;
    tn_thread thread;
    int index;
} worker;

struct tn_team {
    tenon_allocator hooks;
    tenon_parallel user;
    size_t bytes; /* of this block, workers included */
    team_kind kind;
    int threads;       /* the bound on worker indices */
    int started;       /* own threads alive, the calling one not counted */
    bool spin;         /* no more threads than cores */
    tn_fork_mark mark; /* of the process the own threads live in; zero before the first start */

    _Atomic uint32_t part_state;
    _Atomic int part_workers; /* indices handed to donated workers of this op */
    _Atomic bool stopping;    /* workers leave at their next look */

    /* The phase: written while the gate is closed and nobody is inside. */
    tn_task_fn fn;
    void *arg;
    int64_t count;

    /* Each of these is hammered by other threads than its neighbour. */
    _Alignas(TN_CACHE_LINE) _Atomic int64_t next;
    _Alignas(TN_CACHE_LINE) _Atomic uint32_t gate;
    _Alignas(TN_CACHE_LINE) _Atomic uint32_t epoch;
    _Alignas(TN_CACHE_LINE) _Atomic int sleepers;

    worker workers[]; /* threads - 1, for TEAM_OWN */
};

/* ---- waiting ---- */

/* Watches a word until it differs from `old`, for a while. True if it does. */
static bool spin_while_equal(const _Atomic uint32_t *word, uint32_t old) {
    uint64_t deadline = 0;
    for (;;) {
        for (int i = 0; i < SPIN_LOOKS; ++i) {
            if (atomic_load_explicit(word, memory_order_acquire) != old)
                return true;
            tn_os_relax();
        }
        uint64_t now = tn_os_now_ns();
        if (deadline == 0)
            deadline = now + SPIN_NS;
        else if (now >= deadline)
            return false;
    }
}

/* Returns once epoch differs from `seen`. */
static void wait_for_phase(tn_team *team, uint32_t seen) {
    if (team->spin && spin_while_equal(&team->epoch, seen))
        return;
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(&team->epoch) == seen)
        tn_os_wait(&team->epoch, seen);
    atomic_fetch_sub(&team->sleepers, 1);
}

/* Changes epoch and wakes up to `wanted` sleepers. */
static void announce(tn_team *team, int wanted) {
    atomic_fetch_add(&team->epoch, 1);
    if (atomic_load(&team->sleepers) > 0)
        tn_os_wake(&team->epoch, wanted);
}

/* ---- phases ---- */

/* Takes indices until none is left. */
static void work(tn_team *team, int index) {
    tn_task_fn fn = team->fn;
    void *arg = team->arg;
    int64_t count = team->count;
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed);
        if (i >= count)
            return;
        fn(arg, i, index);
    }
}

/* Goes in if the phase is still open: its fields then stay as they are until `leave`. */
static bool join(tn_team *team) {
    uint32_t gate = atomic_load_explicit(&team->gate, memory_order_relaxed);
    while (gate & GATE_OPEN) {
        if (atomic_compare_exchange_weak_explicit(&team->gate, &gate, gate + GATE_ONE,
                                                  memory_order_acquire, memory_order_relaxed))
            return true;
    }
    return false;
}

static void leave(tn_team *team) {
    uint32_t gate =
        atomic_fetch_sub_explicit(&team->gate, GATE_ONE, memory_order_acq_rel) - GATE_ONE;
    if (gate == GATE_AWAITED)
        tn_os_wake(&team->gate, 1);
}

/* Helps with one phase after the other until the team stops. `seen` is an epoch from before the
 * first of them. */
static void serve(tn_team *team, int index, uint32_t seen) {
    for (;;) {
        wait_for_phase(team, seen);
        seen = atomic_load(&team->epoch);
        if (atomic_load_explicit(&team->stopping, memory_order_acquire))
            return;
        if (!join(team))
            continue;
        /* The phase inside may be newer than the one announced; without this it would be joined
         * twice. */
        seen = atomic_load_explicit(&team->epoch, memory_order_relaxed);
        work(team, index);
        leave(team);
    }
}

/* Lets nobody in any more and returns when those inside have left. */
static void close_phase(tn_team *team) {
    uint32_t gate = atomic_fetch_and_explicit(&team->gate, ~GATE_OPEN, memory_order_acq_rel);
    gate &= ~GATE_OPEN;
    while (gate != 0 && team->spin && spin_while_equal(&team->gate, gate))
        gate = atomic_load_explicit(&team->gate, memory_order_acquire);
    if (gate == 0)
        return;
    gate = atomic_fetch_or(&team->gate, GATE_AWAITED) | GATE_AWAITED;
    while (gate != GATE_AWAITED) {
        tn_os_wait(&team->gate, gate);
        gate = atomic_load_explicit(&team->gate, memory_order_acquire);
    }
}

static void run_shared(tn_team *team) {
    atomic_store_explicit(&team->gate, GATE_OPEN, memory_order_release);
    int64_t helpers = team->count - 1;
    announce(team, helpers < team->threads ? (int)helpers : team->threads - 1);
    work(team, 0);
    close_phase(team);
}

static void run_slot(void *arg, int index) {
    work(arg, index);
}

static void run_user(tn_team *team) {
    int slots = team->user.threads(team->user.user);
    if (slots > team->threads)
        slots = team->threads;
    if (slots > team->count)
        slots = (int)team->count;
    if (slots > 1)
        team->user.run(team->user.user, run_slot, team, slots);
    /* What a pool left undone, or all of it where one thread is enough. */
    work(team, 0);
}

void tn_team_run(tn_team *team, tn_task_fn fn, void *arg, int64_t count) {
    if (team->kind == TEAM_OWN && team->threads > 1 && count > 1 && tn_os_forked(&team->mark))
        tn_team_start(team);
    bool alone = team->threads == 1 || (team->kind == TEAM_OWN && team->started == 0);
    if (alone || count <= 1) {
        for (int64_t i = 0; i < count; ++i)
            fn(arg, i, 0);
        return;
    }
    team->fn = fn;
    team->arg = arg;
    team->count = count;
    atomic_store_explicit(&team->next, 0, memory_order_relaxed);
    if (team->kind == TEAM_USER)
        run_user(team);
    else
        run_shared(team);
}

/* ---- own threads ---- */

static void *worker_main(void *arg) {
    worker *self = arg;
    /* An epoch other than 0 only means a look at the gate, so a phase published before this line is
     * not missed. */
    serve(self->team, self->index, 0);
    return NULL;
}

void tn_team_start(tn_team *team) {
    if (team->kind != TEAM_OWN)
        return;
    if (tn_os_forked(&team->mark)) {
        /* First start, or a child: the threads stayed in the parent, maybe in the middle of
         * something. */
        tn_os_fork_mark(&team->mark);
        team->started = 0;
        atomic_store(&team->gate, 0);
        atomic_store(&team->sleepers, 0);
        atomic_store(&team->stopping, false);
        team->spin = team->threads <= tn_os_cores();
    }
    while (team->started < team->threads - 1) {
        worker *fresh = &team->workers[team->started];
        *fresh = (worker){.team = team, .index = team->started + 1};
        if (!tn_os_thread_start(&fresh->thread, worker_main, fresh))
            break;
        ++team->started;
    }
}

static void stop_workers(tn_team *team) {
    if (team->started == 0 || tn_os_forked(&team->mark))
        return;
    atomic_store_explicit(&team->stopping, true, memory_order_release);
    announce(team, team->started);
    for (int i = 0; i < team->started; ++i)
        tn_os_thread_join(&team->workers[i].thread);
}

/* ---- donated threads ---- */

void tn_team_part_begin(tn_team *team) {
    atomic_store(&team->part_workers, 0);
    atomic_store(&team->stopping, false);
    atomic_store(&team->part_state, PART_OPEN);
}

bool tn_team_part_enter(tn_team *team) {
    uint32_t seen = atomic_load(&team->epoch);
    uint32_t state = PART_OPEN;
    if (atomic_compare_exchange_strong(&team->part_state, &state, PART_LED))
        return true;
    if (state != PART_LED)
        return false;
    int index = atomic_fetch_add(&team->part_workers, 1) + 1;
    if (index >= team->threads)
        return false;
    serve(team, index, seen);
    return false;
}

void tn_team_part_finish(tn_team *team) {
    atomic_store(&team->part_state, PART_CLOSED);
    atomic_store_explicit(&team->stopping, true, memory_order_release);
    announce(team, team->threads - 1);
}

/* ---- life ---- */

static tenon_status create(const tenon_allocator *hooks, int threads, team_kind kind,
                           const tenon_parallel *user, tn_team **out) {
    *out = NULL;
    if (threads < 1 || threads > TN_TEAM_MAX)
        return TENON_ERROR_INVALID_ARGUMENT;
    size_t workers = kind == TEAM_OWN ? (size_t)threads - 1 : 0;
    size_t bytes = sizeof(tn_team) + workers * sizeof(worker); /* below 64 KiB */
    tn_team *team = tn_host_alloc_zero(hooks, bytes, _Alignof(tn_team));
    if (!team)
        return TENON_ERROR_OUT_OF_MEMORY;
    if (hooks)
        team->hooks = *hooks;
    if (user)
        team->user = *user;
    team->bytes = bytes;
    team->kind = kind;
    team->threads = threads;
    team->spin = threads <= tn_os_cores();
    *out = team;
    return TENON_OK;
}

tenon_status tn_team_create(const tenon_allocator *hooks, int threads, const tenon_parallel *user,
                            tn_team **out) {
    bool lent = user && (user->run || user->threads);
    if (lent && !(user->run && user->threads)) {
        *out = NULL;
        return TENON_ERROR_INVALID_ARGUMENT;
    }
    return create(hooks, threads, lent ? TEAM_USER : TEAM_OWN, lent ? user : NULL, out);
}

tenon_status tn_team_create_parts(const tenon_allocator *hooks, int threads, tn_team **out) {
    return create(hooks, threads, TEAM_PARTS, NULL, out);
}

void tn_team_destroy(tn_team *team) {
    if (!team)
        return;
    stop_workers(team);
    tenon_allocator hooks = team->hooks;
    tn_host_free(&hooks, team, team->bytes);
}

int tn_team_threads(const tn_team *team) {
    return team->threads;
}

int tn_team_running(const tn_team *team) {
    return team->kind == TEAM_OWN ? team->started + 1 : team->threads;
}
