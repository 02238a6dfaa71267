/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h: scratch memory of one context: a single block that grows to the largest workspace asked for.
 *
 * Used by one thread at a time, as its context is; only the pool's ladder looks in from other threads, and takes the block
 * away while it is idle. Contents are undefined from one take to the next.
 */
#ifndef TN_MEMORY_ARENA_H
#define TN_MEMORY_ARENA_H

#include "core/os.h"
#include "memory/pool.h"

typedef struct tn_arena {
    tenon_pool *pool; /* NULL: not open */
    const char *owner;
    tn_reclaimer reclaimer;
    tn_mutex lock; /* held for a few instructions, never while calling the pool but to free */
    bool busy;     /* under lock: reserved for or in use by its thread, not to be reclaimed */
    tn_block block;
} tn_arena;

/* Opens an arena without a block on `pool`, which it keeps alive. `owner` as in tn_pool_alloc. Can't fail. */
void tn_arena_open(tn_arena *arena, tenon_pool *pool, const char *owner);

/* Closes an arena that is not taken. A zeroed or closed one is allowed. */
void tn_arena_close(tn_arena *arena);

/*
 * Makes the block at least `bytes` large, so that the next take of as much needs nothing, unless the pool runs short
 * and reclaims it meanwhile. On failure the block is as it was. Pre: not taken.
 */
TENON_MUST_CHECK tenon_status tn_arena_reserve(tn_arena *arena, size_t bytes, tn_message *message);

/*
 * The block, at least `bytes` large and aligned to 64 (to 4096 in truth), until tn_arena_give; reserves if it must.
 * block->address is NULL where the device's memory has none. Pre: not taken.
 */
TENON_MUST_CHECK tenon_status tn_arena_take(tn_arena *arena, size_t bytes, tn_block *block,
                                            tn_message *message);

/* Ends a take. */
void tn_arena_give(tn_arena *arena);

/* Bytes that can be taken without asking the pool. */
size_t tn_arena_bytes(tn_arena *arena);

#endif
