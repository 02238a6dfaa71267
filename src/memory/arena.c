/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.c: a context's workspace.
 *
 * Decides how an arena grows: a new block beside the old one if the pool allows both; otherwise in the old one's place if
 * the pool's free memory around it suffices; otherwise not at all, and the old block stays, because plans that were
 * made for it must go on running. Never exceeds what was asked for: plans state their workspace exactly.
 */
#include "memory/arena.h"

#include "memory/tlsf.h"

static size_t give_back(void *user, size_t wanted)
{
    tn_arena *arena = user;
    (void)wanted;
    /* Only tried, as tn_reclaimer asks: whoever has it is about to use the arena. */
    if (!tn_mutex_try_lock(&arena->lock))
        return 0;
    size_t freed = arena->busy ? 0 : arena->block.bytes;
    if (freed != 0)
        tn_pool_free(arena->pool, &arena->block);
    tn_mutex_unlock(&arena->lock);
    return freed;
}

static void set_busy(tn_arena *arena, bool busy)
{
    tn_mutex_lock(&arena->lock);
    arena->busy = busy;
    tn_mutex_unlock(&arena->lock);
}

void tn_arena_open(tn_arena *arena, tenon_pool *pool, const char *owner)
{
    *arena = (tn_arena){.pool = pool, .owner = owner};
    arena->reclaimer = (tn_reclaimer){.give_back = give_back, .user = arena};
    tn_mutex_init(&arena->lock);
    tn_pool_retain(pool);
    tn_pool_add_reclaimer(pool, &arena->reclaimer);
}

void tn_arena_close(tn_arena *arena)
{
    if (arena->pool == NULL)
        return;
    tn_pool_remove_reclaimer(arena->pool, &arena->reclaimer);
    tn_pool_free(arena->pool, &arena->block);
    tn_pool_release(arena->pool);
    arena->pool = NULL;
}

/* Pre: busy, so that nobody else touches the block. */
static tenon_status ensure(tn_arena *arena, size_t bytes, tn_message *message)
{
    /* Workspaces start at a page: kernels pack to 64, and pages shared with other blocks would be shared with other threads. */
    const size_t alignment = TN_ALIGNMENT_MOST;
    if (bytes <= arena->block.bytes)
        return TENON_OK;
    tn_block larger;
    tenon_status status =
        tn_pool_alloc(arena->pool, bytes, alignment, arena->owner, &larger, message);
    if (status == TENON_OK) {
        tn_pool_free(arena->pool, &arena->block);
        arena->block = larger;
    } else if (tn_pool_exchange(arena->pool, &arena->block, bytes, alignment, arena->owner)) {
        status = TENON_OK;
    }
    return status;
}

tenon_status tn_arena_reserve(tn_arena *arena, size_t bytes, tn_message *message)
{
    set_busy(arena, true);
    tenon_status status = ensure(arena, bytes, message);
    set_busy(arena, false);
    return status;
}

tenon_status tn_arena_take(tn_arena *arena, size_t bytes, tn_block *block, tn_message *message)
{
    set_busy(arena, true);
    tenon_status status = ensure(arena, bytes, message);
    if (status == TENON_OK) {
        *block = arena->block;
    } else {
        *block = (tn_block){0};
        set_busy(arena, false);
    }
    return status;
}

void tn_arena_give(tn_arena *arena)
{
    set_busy(arena, false);
}

size_t tn_arena_bytes(tn_arena *arena)
{
    tn_mutex_lock(&arena->lock);
    size_t bytes = arena->block.bytes;
    tn_mutex_unlock(&arena->lock);
    return bytes;
}
