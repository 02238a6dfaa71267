/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h: what the core and the backends ask of a pool, beside the public header.
 *
 * A pool is device-neutral: it cuts blocks from segments that a small source brings. Blocks and
 * failures are its business; which plan or arena a block is for is not. Everything here is
 * thread-safe unless it says otherwise.
 *
 * Locks. A pool has two: `slow`, held by the one thread that talks to the system (growing, giving
 * back, reclaiming), and `lock`, held for a few hundred nanoseconds around the bookkeeping. Order:
 * slow, then lock. Freeing takes only `lock`, so it may be called from anywhere, reclaimers
 * included.
 */
#ifndef TN_MEMORY_POOL_H
#define TN_MEMORY_POOL_H

#include <stdbool.h>

#include <tenon/memory.h>

#include "core/message.h"
#include "memory/space.h"

/* ---- where segments come from ---- */

typedef struct tn_segment_source {
    void *user;
    /* A segment of `bytes`, a multiple of `granularity`; false when there is none, which is
     * ordinary. */
    bool (*alloc)(void *user, size_t bytes, tn_segment_memory *out);
    void (*free)(void *user, const tn_segment_memory *memory);
    size_t granularity; /* a power of two from 64 */
    /*
     * Takes a part of a segment back: a multiple of `part` at a multiple of it, or up to the
     * segment's end. False when it can't be done now, which is ordinary. NULL: segments come and go
     * as wholes.
     */
    bool (*give_part)(void *user, const tn_segment_memory *memory, size_t offset, size_t bytes);
    size_t part; /* a power of two, at least granularity */
    bool host;   /* the host may read and write at `address` */
} tn_segment_source;

/*
 * Makes a pool of `source`, whose `user` must outlive it; with source == NULL, of host memory.
 * Takes the rest from `desc`, whose device is used as a name only.
 */
tenon_status tn_pool_open(const tenon_pool_desc *desc, const tn_segment_source *source,
                          tn_message *message, tenon_pool **out);

/*
 * Makes a pool of a device's memory, which it retains; with space == NULL, of host memory. Without
 * a budget it holds at most 15/16 of the device's memory or, where that is the host's, what a host
 * pool would.
 */
tenon_status tn_pool_open_in(const tenon_pool_desc *desc, tn_space *space, tn_message *message,
                             tenon_pool **out);

/* The space that a pool's memory is of; NULL: the host's, or a source's. */
tn_space *tn_pool_space(const tenon_pool *pool);

/* One more holder; tn_pool_release by the last one closes the pool. NULL is allowed in release. */
void tn_pool_retain(tenon_pool *pool);
void tn_pool_release(tenon_pool *pool);

/*
 * True in the child of a fork during which another thread was inside of the pool: it can't be used
 * here. Allocations answer DEVICE_LOST then, everything that can't fail does nothing.
 */
bool tn_pool_lost(tenon_pool *pool);

/* The allocator hooks of a pool, for bookkeeping beside it; NULL gives NULL, which means the
 * system. */
const tenon_allocator *tn_pool_hooks(const tenon_pool *pool);

/* ---- blocks ---- */

/* A block handed out. All zero: none. */
typedef struct tn_block {
    void *address; /* first byte, or NULL if the segment has no address */
    void *handle;  /* the segment's handle */
    size_t offset; /* in the segment */
    size_t bytes;  /* as asked for */
    void *node;    /* the pool's */
    uint64_t id;   /* count of the allocation, as in recordings */
} tn_block;

/*
 * A block of `bytes` (0 is legal) at a multiple of `alignment` (a power of two up to 4096; less
 * than 64 means 64). `owner` is kept by address while the block lives. Climbs the ladder; on
 * failure *block is zeroed, nothing has changed that a caller could see, and the message carries
 * the figures. Pre: see tn_reclaimer about locks that the caller may hold.
 */
TENON_MUST_CHECK tenon_status tn_pool_alloc(tenon_pool *pool, size_t bytes, size_t alignment,
                                            const char *owner, tn_block *block,
                                            tn_message *message);

/*
 * As tn_pool_alloc for who has another way: that the pool refuses is not counted, recorded or told
 * yet. When nothing else helps either, so that the user is told, tn_pool_refused says so.
 */
TENON_MUST_CHECK tenon_status tn_pool_try(tenon_pool *pool, size_t bytes, size_t alignment,
                                          const char *owner, tn_block *block, tn_message *message);
void tn_pool_refused(tenon_pool *pool, size_t bytes, const tn_message *message);

/* Frees a block and zeroes *block. A zero block is allowed. Never fails, never enters the system.
 */
void tn_pool_free(tenon_pool *pool, tn_block *block);

/*
 * Replaces *block by one of `bytes` that may lie where it lies, contents undefined; for scratch
 * memory that must grow where both do not fit. False: *block is as it was, contents undefined in a
 * debug pool. Never enters the system.
 */
bool tn_pool_exchange(tenon_pool *pool, tn_block *block, size_t bytes, size_t alignment,
                      const char *owner);

/* ---- the ladder ---- */

typedef enum tn_rung {
    TN_RUNG_CACHE_DROPPED,
    TN_RUNG_SMALLER_PLAN,
    TN_RUNG_WAIT,
    TN_RUNG_DEVICE_CHANGE
} tn_rung;

/* Counts a rung that the core takes outside the pool. */
void tn_pool_count_rung(tenon_pool *pool, tn_rung rung);

/*
 * Something that holds blocks it could do without: a plan cache, an idle arena. Lives in its
 * holder; the pool only links it, so adding can't fail.
 *
 * give_back(user, wanted) frees what it can spare, at least `wanted` bytes if it has them, and
 * returns how many bytes it freed in this pool (0: nothing). It is called on the thread whose
 * allocation is short, with `slow` of this pool held and `lock` not. The rule that keeps this free
 * of deadlocks:
 *   - give_back calls nothing of this pool but tn_pool_free (and buffer frees);
 *   - a lock that give_back *waits* for must never be held by anybody while calling tn_pool_alloc,
 * tenon_memory_trim or the two functions below, on any pool. Every other lock it may only try, and
 * leave alone what is busy.
 */
typedef struct tn_reclaimer {
    size_t (*give_back)(void *user, size_t wanted);
    void *user;
    struct tn_reclaimer *next, *previous; /* the pool's */
} tn_reclaimer;

void tn_pool_add_reclaimer(tenon_pool *pool, tn_reclaimer *reclaimer);

/* Returns when give_back is not running and will not be called again. Not to be called from a
 * give_back. */
void tn_pool_remove_reclaimer(tenon_pool *pool, tn_reclaimer *reclaimer);

#endif
