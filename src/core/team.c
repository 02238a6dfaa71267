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
#include "core/team.h"

#include "core/os.h"

#include <string.h>

/* gate: bit 0 open, bit 1 the caller sleeps until it is empty, then the number of workers inside.
 */
#define GATE_OPEN 1u
#define GATE_AWAITED 2u
#define GATE_ONE 4u

/*
 * How long a thread watches a word before it sleeps, and how much of that it keeps the CPU to
 * itself. First longer than what passes between the phases of one op (1 to 10 us, packing of a
 * block). Then, with the CPU offered to whoever else can run at each look at the clock, for what a
 * host does between two ops (a token's sampling, an interpreter's step): waking a sleeper costs the
 * caller 10 to 25 us and brings help after 50 (measured in a virtual machine), as much as a product
 * of 128^3 takes. Short enough not to show in the CPU time of a host that pauses. Not tuned per
 * machine.
 */
#define SPIN_NS 200000u
#define HOT_NS 50000u
/* Looks at the word between two looks at the clock. */
#define SPIN_LOOKS 32

/* In larger teams only those are steered that slept on the caller's CPU: it is two system calls for
 * each, which the caller makes one after the other. */
#define STEER_ALL_MOST 16

/* Whether a leader is wanted for the op of donated threads. */
enum { PART_CLOSED, PART_OPEN, PART_LED };

/* Where helpers wait for phases and join them. Each word is hammered by other threads than its
 * neighbour. */
struct crew {
    _Alignas(TN_CACHE_LINE) _Atomic uint32_t gate;
    _Alignas(TN_CACHE_LINE) _Atomic uint32_t epoch;
    _Alignas(TN_CACHE_LINE) _Atomic int sleepers;
    _Atomic bool stopping; /* helpers leave at their next look */
};

/*
 * A woken thread may be put where its waker runs although the CPU that it slept on is idle, and
 * then the two share one for milliseconds: half the speed of an op, again at each wake-up (seen
 * with Linux 6.18 as a guest, where a halted CPU may count as taken away by the hypervisor). So a
 * worker tells that it sleeps and where, and the caller takes its own CPU from it before it wakes
 * it, which leaves the one that it slept on as the first choice.
 */
typedef struct worker {
    tn_team *team;
    tn_thread thread;
    int index;
    int id;          /* for tn_os_steer */
    _Atomic int cpu; /* where it sleeps; -1: awake */
    /* set by the caller after `affinity`, cleared by the worker when it has taken that back */
    atomic_bool steered;
    tn_cpu_set affinity;
} worker;

struct tn_team {
    tenon_allocator hooks;
    tenon_parallel user; /* the caller's pool, if run is set */
    size_t bytes;        /* of this block, workers included */
    int threads;         /* the most worker indices, the calling thread's included */
    int started;         /* own threads alive, the calling one not counted */
    bool spin;           /* no more threads than cores */
    tn_fork_mark mark;   /* of the process the own threads live in; zero before the first start */

    bool parts; /* donated threads work instead */
    _Atomic uint32_t part_state;
    _Atomic int part_workers; /* indices handed to donated threads of this op */

    /* The phase: written while both gates are closed and nobody is inside. */
    int limit; /* workers from this index on leave again; 1 <= limit <= threads */
    tn_task_fn fn;
    void *arg;
    int64_t count;
    _Alignas(TN_CACHE_LINE) _Atomic int64_t next;

    struct crew own;
    struct crew donated;
    worker workers[]; /* threads - 1, unless the caller's pool works */
};

/* ---- waiting ---- */

/* Watches a word until it differs from `old`, for a while. True if it does. Who waits for a thread
 * that has no CPU gives it this one by yielding. */
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
        else if (now + (SPIN_NS - HOT_NS) >= deadline)
            tn_os_yield();
    }
}

/* Returns once the crew's epoch differs from `seen`. */
static void wait_for_phase(struct crew *crew, uint32_t seen, bool spin) {
    if (spin && spin_while_equal(&crew->epoch, seen))
        return;
    atomic_fetch_add(&crew->sleepers, 1);
    while (atomic_load(&crew->epoch) == seen)
        tn_os_wait(&crew->epoch, seen);
    atomic_fetch_sub(&crew->sleepers, 1);
}

/* The same for an own thread, which the caller may steer away from its CPU meanwhile. */
static void sleep_until_phase(worker *self, struct crew *crew, uint32_t seen, bool spin) {
    if (spin && spin_while_equal(&crew->epoch, seen))
        return;
    atomic_store(&self->cpu, tn_os_cpu());
    wait_for_phase(crew, seen, false);
    atomic_store(&self->cpu, -1);
    if (atomic_load_explicit(&self->steered, memory_order_acquire)) {
        tn_os_unsteer(&self->affinity);
        atomic_store_explicit(&self->steered, false, memory_order_release);
    }
}

static void steer_sleepers(tn_team *team) {
    const int here = tn_os_cpu();
    const bool all = team->started <= STEER_ALL_MOST;
    for (int i = 0; i < team->started && here >= 0; ++i) {
        worker *w = &team->workers[i];
        const int cpu = atomic_load(&w->cpu);
        if (cpu >= 0 && (all || cpu == here) &&
            !atomic_load_explicit(&w->steered, memory_order_acquire) &&
            tn_os_steer(w->id, here, &w->affinity))
            atomic_store_explicit(&w->steered, true, memory_order_release);
    }
}

/* Changes epoch and wakes up to `wanted` sleepers. */
static void announce(struct crew *crew, int wanted) {
    atomic_fetch_add(&crew->epoch, 1);
    if (atomic_load(&crew->sleepers) > 0)
        tn_os_wake(&crew->epoch, wanted);
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
static bool join(struct crew *crew) {
    uint32_t gate = atomic_load_explicit(&crew->gate, memory_order_relaxed);
    while (gate & GATE_OPEN) {
        if (atomic_compare_exchange_weak_explicit(&crew->gate, &gate, gate + GATE_ONE,
                                                  memory_order_acquire, memory_order_relaxed))
            return true;
    }
    return false;
}

static void leave(struct crew *crew) {
    uint32_t gate =
        atomic_fetch_sub_explicit(&crew->gate, GATE_ONE, memory_order_acq_rel) - GATE_ONE;
    if (gate == GATE_AWAITED)
        tn_os_wake(&crew->gate, 1);
}

/* Helps with one phase after the other, one that is open already included, until the crew stops.
 * `self` of an own thread, NULL of a donated one. */
static void serve(tn_team *team, struct crew *crew, int index, worker *self) {
    for (;;) {
        uint32_t seen = atomic_load(&crew->epoch);
        if (atomic_load_explicit(&crew->stopping, memory_order_acquire))
            return;
        if (join(crew)) {
            /* The phase may be newer than the last look, and need not be joined again. */
            seen = atomic_load_explicit(&crew->epoch, memory_order_relaxed);
            if (index < team->limit)
                work(team, index);
            leave(crew);
        }
        if (self)
            sleep_until_phase(self, crew, seen, team->spin);
        else
            wait_for_phase(crew, seen, team->spin);
    }
}

/* Lets nobody in any more and returns when those inside have left. */
static void close_phase(struct crew *crew, bool spin) {
    uint32_t gate = atomic_fetch_and_explicit(&crew->gate, ~GATE_OPEN, memory_order_acq_rel);
    gate &= ~GATE_OPEN;
    while (gate != 0 && spin && spin_while_equal(&crew->gate, gate))
        gate = atomic_load_explicit(&crew->gate, memory_order_acquire);
    if (gate == 0)
        return;
    gate = atomic_fetch_or(&crew->gate, GATE_AWAITED) | GATE_AWAITED;
    while (gate != GATE_AWAITED) {
        tn_os_wait(&crew->gate, gate);
        gate = atomic_load_explicit(&crew->gate, memory_order_acquire);
    }
}

static void run_crew(tn_team *team, struct crew *crew) {
    atomic_store_explicit(&crew->gate, GATE_OPEN, memory_order_release);
    /* Who wakes is the kernel's choice, so under a limit all do, the right ones among them. */
    if (crew == &team->own && atomic_load(&crew->sleepers) > 0)
        steer_sleepers(team);
    bool few = team->limit == team->threads && team->count < team->threads;
    announce(crew, few ? (int)team->count - 1 : team->threads - 1);
    work(team, 0);
    close_phase(crew, team->spin);
}

static void run_slot(void *arg, int index) {
    work(arg, index);
}

static void run_user(tn_team *team) {
    int slots = team->user.threads(team->user.user);
    if (slots > team->limit)
        slots = team->limit;
    if (slots > team->count)
        slots = (int)team->count;
    if (slots > 1)
        team->user.run(team->user.user, run_slot, team, slots);
    /* What a pool left undone, or all of it where one thread is enough. */
    work(team, 0);
}

void tn_team_run(tn_team *team, tn_task_fn fn, void *arg, int64_t count) {
    bool own = !team->parts && !team->user.run;
    if (own && count > 1 && tn_os_forked(&team->mark))
        tn_team_start(team);
    if (count <= 1 || team->limit == 1 || (own && team->started == 0)) {
        for (int64_t i = 0; i < count; ++i)
            fn(arg, i, 0);
        return;
    }
    team->fn = fn;
    team->arg = arg;
    team->count = count;
    atomic_store_explicit(&team->next, 0, memory_order_relaxed);
    if (team->parts)
        run_crew(team, &team->donated);
    else if (own)
        run_crew(team, &team->own);
    else
        run_user(team);
}

/* ---- own threads ---- */

static void *worker_main(void *arg) {
    worker *self = arg;
    self->id = tn_os_thread_id();
    serve(self->team, &self->team->own, self->index, self);
    return NULL;
}

void tn_team_start(tn_team *team) {
    if (team->user.run)
        return;
    if (tn_os_forked(&team->mark)) {
        /* The first start, or a child: the threads stayed in the parent, maybe in the middle of
         * something. */
        tn_os_fork_mark(&team->mark);
        team->started = 0;
        atomic_store(&team->own.gate, 0);
        atomic_store(&team->own.sleepers, 0);
    }
    while (team->started < team->threads - 1) {
        worker *fresh = &team->workers[team->started];
        *fresh = (worker){.team = team, .index = team->started + 1, .cpu = -1};
        if (!tn_os_thread_start(&fresh->thread, worker_main, fresh))
            break;
        ++team->started;
    }
}

static void stop_workers(tn_team *team) {
    if (team->started == 0 || tn_os_forked(&team->mark))
        return;
    atomic_store_explicit(&team->own.stopping, true, memory_order_release);
    announce(&team->own, team->started);
    for (int i = 0; i < team->started; ++i)
        tn_os_thread_join(&team->workers[i].thread);
}

/* ---- donated threads ---- */

void tn_team_part_begin(tn_team *team) {
    team->parts = true;
    atomic_store(&team->part_workers, 0);
    atomic_store(&team->donated.gate, 0); /* a fork may have left something there */
    atomic_store(&team->donated.sleepers, 0);
    atomic_store(&team->donated.stopping, false);
    atomic_store(&team->part_state, PART_OPEN);
}

bool tn_team_part_enter(tn_team *team) {
    uint32_t state = PART_OPEN;
    if (atomic_compare_exchange_strong(&team->part_state, &state, PART_LED))
        return true;
    if (state != PART_LED)
        return false;
    int index = atomic_fetch_add(&team->part_workers, 1) + 1;
    if (index >= team->threads)
        return false;
    serve(team, &team->donated, index, NULL);
    return false;
}

void tn_team_part_finish(tn_team *team) {
    atomic_store(&team->part_state, PART_CLOSED);
    atomic_store_explicit(&team->donated.stopping, true, memory_order_release);
    announce(&team->donated, team->threads - 1);
}

void tn_team_part_end(tn_team *team) {
    atomic_store(&team->part_state, PART_CLOSED);
    team->parts = false;
}

/* ---- life ---- */

tenon_status tn_team_create(const tenon_allocator *hooks, int threads, const tenon_parallel *user,
                            tn_team **out) {
    *out = NULL;
    if (threads < 1 || threads > TN_TEAM_MAX)
        return TENON_ERROR_INVALID_ARGUMENT;
    if (user && !user->run != !user->threads)
        return TENON_ERROR_INVALID_ARGUMENT;
    bool lent = user && user->run;
    size_t workers = lent ? 0 : (size_t)threads - 1;
    size_t bytes = sizeof(tn_team) + workers * sizeof(worker); /* below 64 KiB */
    const void *stray;
    tn_team *team = tn_host_alloc_watched(hooks, bytes, _Alignof(tn_team), &stray);
    if (!team)
        return stray ? TENON_ERROR_INVALID_ARGUMENT : TENON_ERROR_OUT_OF_MEMORY;
    memset(team, 0, bytes);
    if (hooks)
        team->hooks = *hooks;
    if (lent)
        team->user = *user;
    team->bytes = bytes;
    team->threads = threads;
    team->limit = threads;
    team->spin = threads <= tn_os_cores();
    *out = team;
    return TENON_OK;
}

void tn_team_destroy(tn_team *team) {
    if (!team)
        return;
    stop_workers(team);
    tenon_allocator hooks = team->hooks;
    tn_host_free(&hooks, team, team->bytes);
}

void tn_team_limit(tn_team *team, int threads) {
    team->limit = threads < team->threads ? threads : team->threads;
}

int tn_team_threads(const tn_team *team) {
    return team->limit;
}

int tn_team_running(const tn_team *team) {
    return team->user.run ? team->threads : team->started + 1;
}
