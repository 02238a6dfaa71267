/* SPDX-License-Identifier: Apache-2.0 */
/*
 * team.h: the threads that work on one op at a time.
 *
 * A driver is a sequence of phases; each phase is one tn_team_run, the parallel form of
 * `for (i = 0; i < count; ++i) fn(arg, i, worker);`. Who executes it (tenon's own threads, the
 * caller's pool, threads that the host donates) is the team's business and never changes a result.
 * Kernels know nothing of teams.
 *
 * A team serves one run at a time: one context owns it. tn_team_run must not be called from inside
 * a task.
 */
#ifndef TN_TEAM_H
#define TN_TEAM_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/host.h>

#define TN_TEAM_MAX 1024

typedef struct tn_team tn_team;

/* One index of a phase. worker < tn_team_threads(team); no two calls with one worker run at once.
 */
typedef void (*tn_task_fn)(void *arg, int64_t index, int worker);

/*
 * A team of up to `threads` (1 to TN_TEAM_MAX), the calling one included. With `user` (copied; NULL
 * or zero: tenon's own threads) the caller's pool works, with never more than `threads` slots
 * whatever it reports later. Starts nothing. TENON_OK, INVALID_ARGUMENT (threads out of range, one
 * of user's functions missing, hooks whose memory is misaligned) or OUT_OF_MEMORY.
 */
tenon_status tn_team_create(const tenon_allocator *hooks, int threads, const tenon_parallel *user,
                            tn_team **out);

/*
 * Starts the own threads that are missing: all at the first call and in a forked child, else those
 * that could not start before. A thread that can't start means fewer threads. Does nothing with
 * a caller's pool.
 */
void tn_team_start(tn_team *team);

/* Workers of the runs from now on: `threads` (>= 1) or as many as the team was made for, if less.
 */
void tn_team_limit(tn_team *team, int threads);

/* The bound on worker indices: what tn_team_limit said. Per-worker workspace is sized by it. */
int tn_team_threads(const tn_team *team);

/* Threads that could work now, the calling one included: for figures, never for results. */
int tn_team_running(const tn_team *team);

/*
 * Calls fn(arg, index, worker) for every index in [0, count), each once, in any order, and returns
 * when all have returned. What tasks wrote is visible to the caller and to the next phase. The
 * calling thread works too, as worker 0. Never fails; allocates nothing once started (the first run
 * in a process starts a team that was not).
 */
void tn_team_run(tn_team *team, tn_task_fn fn, void *arg, int64_t count);

/*
 * Donated threads. From begin to end they work instead of own threads and pool; each thread that
 * enters between is one of these: the first gets true, leads (tn_team_run any number of times) and
 * calls finish; those that enter until then work and get false after the finish; later ones, and
 * more than the team has room for, get false at once. Any number of threads is enough, in any order
 * or one after the other. Allocates nothing. Pre: begin and end are called while no thread is
 * inside and happen before and after every enter.
 */
void tn_team_part_begin(tn_team *team);
bool tn_team_part_enter(tn_team *team);
void tn_team_part_finish(tn_team *team);
void tn_team_part_end(tn_team *team);

/* Ends the own threads and frees the team. NULL is allowed. Pre: no run in progress, nobody inside.
 */
void tn_team_destroy(tn_team *team);

#endif
