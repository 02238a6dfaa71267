/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture_world.h: a job on a device under a host, and the torture cases of the ways to ask for it.
 *
 * A world knows what its devices answer when nothing fails. Its functions take it as `state`.
 */
#ifndef TORTURE_WORLD_H
#define TORTURE_WORLD_H

#include "torture.h"
#include "torture_host.h"
#include "torture_jobs.h"

#define WORLD_DEVICES 16

/* Usable devices and one chain of two; filled by world_devices before anything else. */
extern char world_device[WORLD_DEVICES][72];
extern int world_device_count;
void world_devices(void);

typedef struct world {
    const job_kind *kind;
    job job;
    int host;
    tenon_context_desc desc;
    tenon_pool_desc pool_desc;
    bool shares; /* a pool made of pool_desc */
    bool failed;
    int64_t balance;
    tenon_pool *pool;
    tenon_context *neighbour, *ctx;
    tenon_plan *plan;
    void *packed;
    size_t packed_bytes;
    char what[160];
    char said[256]; /* the sentence of a life that failed */
} world;

/* Builds the job and learns its answers. False if no device of the chain does it; `failed` if one
 * tried and could not, which is printed. */
bool world_start(world *w, int kind, int host, const char *device);
/* The same without a call of tenon that could take anything in this process: another one learns.
 * For hosts without budgets. */
bool world_start_apart(world *w, int kind, int host, const char *device);
/* Ends the jobs of all worlds: their operands go together. */
void world_end(world *w);

/* Setups: a context; a plan beside it; a plan of another context that is gone. */
bool world_open(void *state);
bool world_open_plan(void *state);
bool world_open_foreign_plan(void *state);
void world_close(void *state);

/* Calls. */
tenon_status world_once(void *state);
tenon_status world_make_plan(void *state);
tenon_status world_run(void *state);
tenon_status world_parts(void *state);
tenon_status world_pack(void *state);
/* A whole life: pool, context, plan, run, one-shot call, end. Needs no setup. */
tenon_status world_life(void *state);

/* The ways to ask for a job, as cases without a name and a state. A way may not fit a job. */
typedef enum world_way {
    WORLD_ONE_SHOT,
    WORLD_PLAN,
    WORLD_RUN_ELSEWHERE,
    WORLD_PARTS,
    WORLD_PACK,
    WORLD_LIFE,
    WORLD_WAYS
} world_way;

extern const char *const world_way_names[WORLD_WAYS];
bool world_way_fits(const world *w, world_way way);
torture_case world_case(world *w, world_way way);

#endif
