/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.c: a context's workspace.
 *
 * Decides how an arena grows: a new block beside the old one if the pool allows both; otherwise in
 * the old one's place if the pool's free memory around it suffices; otherwise not at all, and the
 * old block stays, because plans that were made for it must go on running. Never more than was
 * asked for: plans state their workspace exactly.
 */
#include "memory/arena.h"

#include <assert.h>

#include "memory/tlsf.h"

static const char owner[] = "tenon: workspace";

void tn_arena_open(tn_arena *arena, tenon_pool *pool) {
    *arena = (tn_arena){.pool = pool};
}

void tn_arena_close(tn_arena *arena) {
    if (arena->pool != NULL)
        tn_pool_free(arena->pool, &arena->block);
    *arena = (tn_arena){0};
}

tenon_status tn_arena_reserve(tn_arena *arena, size_t bytes, tn_message *message) {
    /* A page of its own, so that threads' parts of the workspace share pages with nobody. */
    const size_t alignment = TN_ALIGNMENT_MOST;
    if (bytes <= arena->block.bytes)
        return TENON_OK;
    tn_block larger;
    tenon_status status = tn_pool_try(arena->pool, bytes, alignment, owner, &larger, message);
    if (status == TENON_OK) {
        tn_pool_free(arena->pool, &arena->block);
        arena->block = larger;
    } else if (tn_pool_exchange(arena->pool, &arena->block, bytes, alignment, owner)) {
        status = TENON_OK;
    }
    return status;
}

void *tn_arena_take(const tn_arena *arena, size_t bytes) {
    assert(bytes <= arena->block.bytes);
    (void)bytes;
    return arena->block.address;
}

tn_place tn_arena_place(const tn_arena *arena, size_t bytes) {
    assert(bytes <= arena->block.bytes);
    (void)bytes;
    return (tn_place){arena->block.address, arena->block.handle, arena->block.offset};
}

size_t tn_arena_drop(tn_arena *arena) {
    size_t freed = arena->block.bytes;
    tn_pool_free(arena->pool, &arena->block);
    return freed;
}
