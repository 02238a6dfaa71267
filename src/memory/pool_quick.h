/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_quick.h: a block that was freed lately is taken again, and one is freed: the ways that
 * programs go most, inline in pool.c and buffer.c. Everything is done under the pool's lock.
 *
 * Freed blocks are not merged with their neighbours at once: the last few wait, still used as far
 * as tlsf.c knows, and a request for the very size of one gets it as it is. Any other request
 * merges all of them first, so no search ever sees less free memory than there is, nor a different
 * picture of it. Programs that take and free the same sizes over and over pay for neither splitting
 * nor merging; the others for a few instructions. Only pools that nobody watches let blocks wait.
 */
#ifndef TN_MEMORY_POOL_QUICK_H
#define TN_MEMORY_POOL_QUICK_H

#include "memory/pool_state.h"

/* Bytes of the block for a request of a pool without guards. Pre: bytes <= TN_BLOCK_MOST. */
static inline size_t tn_whole(size_t bytes) {
    return (bytes + TN_GRANULE - (bytes != 0)) & ~(size_t)(TN_GRANULE - 1);
}

/* Counts a block that goes out to the owner of an index. */
static inline void tn_count_out_locked(tenon_pool *pool, tn_block_record *record, size_t asked,
                                       uint32_t owner) {
    tenon_memory_info *info = &pool->info;
    pool->owners[owner].bytes += asked;
    ++pool->owners[owner].blocks;
    record->id = ++info->allocations;
    record->buffer.bytes = asked;
    record->buffer.owner = (uint8_t)owner;
    info->in_use += asked;
    pool->large_taken += asked >= TN_LARGE ? asked : 0;
    if (info->in_use > info->peak_in_use)
        info->peak_in_use = info->in_use;
}

/* Counts a block that comes back. It is nobody's from now on: a second free notices. */
static inline void tn_count_back_locked(tenon_pool *pool, tn_block_record *record) {
    tn_owner *owner = &pool->owners[record->buffer.owner];
    owner->bytes -= record->buffer.bytes;
    --owner->blocks;
    ++pool->info.frees;
    pool->info.in_use -= record->buffer.bytes;
    record->id = 0;
}

/*
 * A waiting block of this very size, counted out; NULL: none. `owner` is not NULL. Its buffer shows
 * what it showed before.
 */
static inline tn_block_record *tn_recall_locked(tenon_pool *pool, size_t asked, size_t alignment,
                                                const char *owner) {
    const size_t bytes = tn_whole(asked);
    /* The newest first: stacks hit it at once. */
    for (unsigned at = pool->pending_end; at != pool->pending_begin;) {
        tn_pending *one = &pool->pending[--at % TN_PENDING];
        tn_block_record *record = one->record;
        if (one->bytes != bytes ||
            (alignment > TN_GRANULE && (record->node.offset & (alignment - 1)) != 0))
            continue;
        const unsigned last = --pool->pending_end;
        if (at != last)
            *one = pool->pending[last % TN_PENDING];
        uint32_t slot = record->buffer.owner; /* most likely the same once more */
        if (pool->owners[slot].name != owner)
            slot = tn_owner_find_locked(pool, owner);
        tn_count_out_locked(pool, record, asked, slot);
        return record;
    }
    return NULL;
}

/* Lets a block wait that was counted back. */
static inline void tn_defer_locked(tenon_pool *pool, tn_block_record *record) {
    if (pool->pending_end - pool->pending_begin == TN_PENDING)
        tn_settle_oldest_locked(pool);
    pool->pending[pool->pending_end++ % TN_PENDING] =
        (tn_pending){tn_whole(record->buffer.bytes), record};
}

#endif
