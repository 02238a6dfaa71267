/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peak.c: finds the probes this processor can run and measures one of them on a team of threads
 * (see peak.h).
 *
 * A repetition starts at a barrier of all threads and ends with the slowest; its rate is all the
 * work over that time. The number of passes of a repetition is calibrated on the same team first.
 * Threads live for one measurement only, so nothing of the probes runs beside what `tenon bench`
 * measures next.
 */
#include "peak_isa.h"

#include "machine.h"
#include "options.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MOST_PROBES 32
#define MOVE_GRANULE 512

const peak_probe *peak_probes(size_t *count) {
    static peak_probe all[MOST_PROBES];
    static size_t found;
    if (found == 0) {
        const peak_probe *const tables[] = {
            peak_generic_probes,
#if defined(__x86_64__)
            peak_avx2_probes,
            peak_avx512_probes,
#endif
        };
        for (int kind = 0; kind < PEAK_KINDS; ++kind)
            for (size_t t = 0; t < sizeof tables / sizeof *tables; ++t)
                for (const peak_probe *p = tables[t]; p->isa; ++p)
                    if ((int)p->kind == kind && found < MOST_PROBES)
                        all[found++] = *p;
    }
    *count = found;
    return all;
}

bool peak_supported(const peak_probe *probe) {
    return !probe->supported || probe->supported();
}

const peak_probe *peak_best(peak_kind kind) {
    size_t count;
    const peak_probe *probes = peak_probes(&count), *best = NULL;
    for (size_t i = 0; i < count; ++i)
        if (probes[i].kind == kind && peak_supported(&probes[i]))
            best = &probes[i];
    return best;
}

const char *peak_kind_name(peak_kind kind) {
    const char *const names[PEAK_KINDS] = {"fma",  "fma",  "dot",        "dot",
                                           "read", "copy", "copy_stream"};
    return names[kind];
}

const char *peak_kind_dtype(peak_kind kind) {
    const char *const names[PEAK_KINDS] = {"f64", "f32", "bf16", "s8", NULL, NULL, NULL};
    return names[kind];
}

bool peak_is_memory(peak_kind kind) {
    return kind >= PEAK_READ;
}

size_t peak_memory_set(int threads) {
    /* Four times all caches, at least 256 MiB; a quarter of what is free bounds it on small
     * machines. */
    size_t bytes = 4 * machine_caches_bytes(threads);
    if (bytes < (size_t)256 << 20)
        bytes = (size_t)256 << 20;
    const size_t available = machine_memory_available();
    return available && bytes > available / 4 ? available / 4 : bytes;
}

void peak_memory_free(peak_memory *memory) {
    free(memory->data);
    *memory = (peak_memory){0};
}

/* What one measurement shares among its threads. */
typedef struct team {
    const peak_probe *probe;
    const peak_rules *rules;
    char *memory;
    size_t slice; /* bytes of `memory` for each thread */
    bool touch;   /* the memory is new: each thread writes its slice first */
    atomic_int arrived;
    atomic_int generation;
    atomic_bool abandoned; /* a thread could not be started: all go home */
    int64_t passes;        /* of one repetition; thread 0 changes it between barriers */
    bool calibrated;       /* passes fill the time wanted: repetitions count from now on */
    double *starts, *ends; /* of each thread */
    double *rates;
} team;

typedef struct member {
    team *team;
    int index;
    pthread_t thread;
} member;

/* Spins, for a start at the same moment, and yields, for the case of more threads than cores. */
static bool barrier(team *t) {
    const int generation = atomic_load(&t->generation);
    if (atomic_fetch_add(&t->arrived, 1) + 1 == t->rules->threads) {
        atomic_store(&t->arrived, 0);
        atomic_fetch_add(&t->generation, 1);
    } else {
        for (unsigned spins = 0; atomic_load(&t->generation) == generation; ++spins) {
            if (atomic_load(&t->abandoned))
                return false;
            if (spins > 1000)
                sched_yield();
        }
    }
    return true;
}

static void work(const member *m, int64_t passes) {
    const team *t = m->team;
    if (t->probe->compute) {
        t->probe->compute(passes);
        return;
    }
    char *slice = t->memory + (size_t)m->index * t->slice;
    if (t->probe->kind == PEAK_READ) {
        for (int64_t i = 0; i < passes; ++i)
            t->probe->move(NULL, slice, t->slice);
    } else {
        for (int64_t i = 0; i < passes; ++i)
            t->probe->move(slice, slice + t->slice / 2, t->slice / 2);
    }
}

/* One repetition of the whole team; its seconds are thread 0's answer. Negative when the team was
 * abandoned. */
static double repetition(member *m) {
    team *t = m->team;
    if (!barrier(t))
        return -1;
    const int64_t passes = t->passes;
    t->starts[m->index] = timing_now();
    work(m, passes);
    t->ends[m->index] = timing_now();
    if (!barrier(t))
        return -1;
    double start = t->starts[0], end = t->ends[0];
    for (int i = 1; m->index == 0 && i < t->rules->threads; ++i) {
        start = t->starts[i] < start ? t->starts[i] : start;
        end = t->ends[i] > end ? t->ends[i] : end;
    }
    return end - start;
}

static double pass_work(const team *t) {
    const double one = t->probe->compute ? t->probe->operations_per_step : (double)t->slice;
    return one * t->rules->threads;
}

/* What thread 0 does after a repetition, before the barrier at which the others learn of it. */
static void conclude(team *t, int rep, double seconds) {
    if (rep >= 0) {
        t->rates[rep] = pass_work(t) * (double)t->passes / seconds;
        return;
    }
    const double factor = seconds > 1e-9 ? t->rules->seconds / seconds : 1e3;
    t->calibrated = factor < 2;
    t->passes = (int64_t)((double)t->passes * (factor < 16 ? factor : 16)) + 1;
}

static void *member_main(void *argument) {
    member *m = argument;
    team *t = m->team;
    if (t->rules->pin)
        machine_pin(m->index);
    if (t->touch)
        memset(t->memory + (size_t)m->index * t->slice, 1, t->slice);
    for (int rep = -1; rep < t->rules->reps;) {
        const double seconds = repetition(m);
        if (seconds < 0)
            return NULL;
        if (m->index == 0)
            conclude(t, rep, seconds);
        if (!barrier(t))
            return NULL;
        rep += t->calibrated;
    }
    return NULL;
}

/* Gives the memory probes at least `bytes`; a request for the same or less keeps what is there. */
static bool provide(peak_memory *memory, size_t bytes, bool *touch) {
    *touch = memory->bytes < bytes;
    if (!*touch)
        return true;
    peak_memory_free(memory);
    void *data = NULL;
    if (posix_memalign(&data, 4096, bytes) != 0) {
        complain("no memory for a bandwidth probe of %zu bytes", bytes);
        return false;
    }
    *memory = (peak_memory){.data = data, .bytes = bytes};
    return true;
}

/* Runs the members; false when one cannot be started, after those that were have gone home. */
static bool run_members(team *t, member *members) {
    const int threads = t->rules->threads;
    int started = 0;
    for (; started < threads; ++started) {
        members[started] = (member){.team = t, .index = started};
        if (pthread_create(&members[started].thread, NULL, member_main, &members[started]) != 0) {
            complain("thread %d of a probe on %d threads could not be started", started + 1,
                     threads);
            atomic_store(&t->abandoned, true);
            break;
        }
    }
    for (int i = 0; i < started; ++i)
        pthread_join(members[i].thread, NULL);
    return started == threads;
}

bool peak_measure(const peak_probe *probe, const peak_rules *rules, peak_memory *memory,
                  double *rates) {
    const size_t threads = (size_t)rules->threads;
    team t = {.probe = probe, .rules = rules, .passes = 1, .rates = rates};
    if (probe->move) {
        /* Two operands of whole granules for each thread, whatever the size asked for. */
        const size_t granule = 2 * MOVE_GRANULE;
        t.slice = (rules->bytes / threads + granule - 1) / granule * granule;
        t.slice = t.slice ? t.slice : granule;
        if (!provide(memory, t.slice * threads, &t.touch))
            return false;
        t.memory = memory->data;
    }
    bool ok = false;
    double *times = calloc(2 * threads, sizeof *times);
    member *members = calloc(threads, sizeof *members);
    if (times && members) {
        t.starts = times;
        t.ends = times + threads;
        ok = run_members(&t, members);
    } else {
        complain("out of memory");
    }
    free(members);
    free(times);
    return ok;
}
