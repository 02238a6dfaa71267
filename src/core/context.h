/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A context from the inside: the chain of open devices with their pools and workspaces, the team of threads, the cache of
 * plans, the last sentence. Used by the core alone; operations reach it through dispatch.h.
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
    tenon_pool *pool;
    tn_arena arena; /* the workspace of runs on this device */
    tn_reclaimer
        reclaimer; /* lets a pool that is short take the arena's block while nobody is inside the context */
    tenon_context *context;
} tn_slot;

struct tenon_context {
    _Atomic uint32_t
        entered; /* whether a thread is inside a call, or takes memory back: context.c */
    tn_message message;
    tenon_pool *
        refuser; /* during a call: the pool whose refusal of `refused` bytes is the message; NULL: none */
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
