/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h: scratch memory of one context on one device: a single block, as large as the largest
 * workspace asked for.
 *
 * Not thread-safe: belongs to whoever is inside the context. The core registers a reclaimer with
 * the pool that enters the context, if nobody is inside, and drops the block. Contents are
 * undefined from one run to the next.
 */
#ifndef TN_MEMORY_ARENA_H
#define TN_MEMORY_ARENA_H

#include "memory/pool.h"

typedef struct tn_arena {
    tenon_pool *pool;
    tn_block block;
} tn_arena;

/* Opens an arena without a block; `pool` must outlive it. Can't fail. */
void tn_arena_open(tn_arena *arena, tenon_pool *pool);

/* Closes an arena. A zeroed or closed one is allowed. */
void tn_arena_close(tn_arena *arena);

/* Makes the block at least `bytes` large. On failure the arena is as it was. */
TENON_MUST_CHECK tenon_status tn_arena_reserve(tn_arena *arena, size_t bytes, tn_message *message);

/*
 * First byte of the block, aligned to 4096; NULL for bytes == 0 without a block, or where memory
 * has no address. Pre: `bytes` have been reserved by this thread since it entered the context.
 */
void *tn_arena_take(const tn_arena *arena, size_t bytes);

/* The same for a device with memory of its own. */
tn_place tn_arena_place(const tn_arena *arena, size_t bytes);

/* Gives the block back to the pool; returns its bytes. */
size_t tn_arena_drop(tn_arena *arena);

#endif
