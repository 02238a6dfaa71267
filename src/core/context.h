/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A context from the inside: the chain of open devices with their pools and workspaces, the team of
 * threads, the cache of plans, the last sentence. Used by the core alone; operations reach it
 * through dispatch.h.
 */
#ifndef TN_CONTEXT_H
#define TN_CONTEXT_H

#include "core/backend.h"
#include "core/devices.h"
#include "core/enter.h"
#include "core/log.h"
#include "core/plan_cache.h"
#include "memory/arena.h"
#include "memory/pool.h"

#include <stdatomic.h>

/* One device of the chain. */
typedef struct tn_slot {
    tn_device_name name;
    tn_device *device;
    tn_space *space; /* the device's memory; NULL: the host's */
    tenon_pool *pool;
    tn_arena arena; /* the workspace of runs on this device */
    /* lets a pool that is short take the arena's block while nobody is inside the context */
    tn_reclaimer reclaimer;
    tenon_context *context;
} tn_slot;

/* Who is inside of a context, in values that other memory hardly holds by chance. */
enum {
    TN_CONTEXT_FREE = 0x746e0000,
    TN_CONTEXT_INSIDE,     /* a thread, in a call */
    TN_CONTEXT_RECLAIMING, /* a thread that is short of memory, for its cached workspace */
    TN_CONTEXT_AWAITED,    /* the same, and threads that want to enter sleep on the word */
    TN_CONTEXT_GONE        /* it has been destroyed */
};

struct tenon_context {
    tn_message message;       /* first: allocators write into the beginning of freed memory */
    _Atomic uint32_t entered; /* TN_CONTEXT_* */
    const char *call;         /* of the thread inside: the public function's name */
    /* During a call: the pool whose refusal of `refused` bytes is the message; NULL: none. */
    tenon_pool *refuser;
    size_t refused;
    tenon_allocator allocator;
    tn_log_hook log;
    uint32_t flags;
    int32_t threads;
    tn_team *team;
    atomic_int part_status; /* what the leading thread's work returned */
    int in_part;
    int slots;
    tn_slot slot[TN_MAX_CHAIN];
    tn_plan_cache cache;
};

#endif
