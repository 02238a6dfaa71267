/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_segments.c: segments of memory and slabs of bookkeeping, to and from the system.
 *
 * The only file of the pool that enters the system after creation. Called by the ladder, by trim
 * and at creation, with `slow` held, so that sizes of segments change on one thread at a time;
 * `lock` is taken here for the bookkeeping and never held during a call to the system or to the
 * caller's hooks.
 */
#include "core/checked.h"
#include "memory/pool_state.h"

/* ---- host memory ---- */

/* Makes sure, as far as the flags ask for it, that the memory is really there. */
static bool host_commit(tenon_pool *pool, void *address, size_t bytes) {
    if ((pool->flags & TENON_POOL_LOCK) != 0) {
        pool->refusal = "mlock is refused, see RLIMIT_MEMLOCK";
        if (!tn_os_pin(address, bytes))
            return false;
    }
    if ((pool->flags & TENON_POOL_TOUCH) != 0) {
        pool->refusal = "the system can't commit more";
        if (!tn_os_touch(address, bytes)) {
            if ((pool->flags & TENON_POOL_LOCK) != 0)
                tn_os_unpin(address, bytes);
            return false;
        }
    }
    pool->refusal = NULL;
    return true;
}

/*
 * Under overcommit a promise of memory costs nothing and its breaking ends the process, at the first
 * write. Where the caller has not said how much may be promised, or wants it committed at once, what
 * is there now decides.
 */
static bool host_available(tenon_pool *pool, size_t bytes) {
    bool commit = (pool->flags & (TENON_POOL_TOUCH | TENON_POOL_LOCK)) != 0;
    if (pool->hooks.alloc != NULL || (!commit && !pool->limited_by_system))
        return true;
    pool->refusal = "less is available to this process";
    size_t available = tn_os_memory_available();
    return available == 0 || bytes <= available;
}

static bool host_alloc(void *user, size_t bytes, tn_segment_memory *out) {
    tenon_pool *pool = user;
    bool hooked = pool->hooks.alloc != NULL;
    if (!host_available(pool, bytes))
        return false;
    pool->refusal = NULL;
    void *address = hooked ? tn_host_alloc(&pool->hooks, bytes, TN_ALIGNMENT_MOST)
                           : tn_os_map(bytes, (pool->flags & TENON_POOL_HUGE_PAGES) != 0);
    if (address == NULL)
        return false;
    if (!host_commit(pool, address, bytes)) {
        if (hooked)
            tn_host_free(&pool->hooks, address, bytes);
        else
            tn_os_unmap(address, bytes);
        return false;
    }
    *out = (tn_segment_memory){.address = address, .bytes = bytes};
    return true;
}

static void host_free(void *user, const tn_segment_memory *memory) {
    const tenon_pool *pool = user;
    if (pool->hooks.alloc == NULL) {
        tn_os_unmap(memory->address, memory->bytes);
        return;
    }
    if ((pool->flags & TENON_POOL_LOCK) != 0)
        tn_os_unpin(memory->address, memory->bytes);
    tn_host_free(&pool->hooks, memory->address, memory->bytes);
}

tn_segment_source tn_host_source(tenon_pool *pool) {
    /* Only whole pages can be locked. */
    bool granule = pool->hooks.alloc != NULL && (pool->flags & TENON_POOL_LOCK) == 0;
    return (tn_segment_source){.user = pool,
                               .alloc = host_alloc,
                               .free = host_free,
                               .granularity = granule ? TN_GRANULE : tn_os_page_size(),
                               .host = true};
}

/* ---- slabs ---- */

/* A fixed pool that has run out of records takes a slab out of its own segment. */
static bool refill_from_segment(tenon_pool *pool, tn_records *records, size_t bytes) {
    if (!pool->source.host)
        return false;
    tn_finding finding = {.count = 0};
    tn_request request = tn_request_of(pool, bytes, TN_GRANULE, "tenon: records");
    tn_mutex_lock(&pool->lock);
    tn_settle_locked(pool);
    tn_tlsf_place place = {NULL, 0};
    if (pool->nodes.free >= TN_TLSF_SPLITS)
        place = tn_tlsf_find_thorough(&pool->tlsf, request.bytes, request.alignment);
    if (place.node != NULL) {
        /* At the upper end, where it stays out of the way of the caller's blocks for good. */
        place.offset = place.node->offset + place.node->bytes - request.bytes;
        tn_block_record *record = tn_hand_out_locked(pool, place, &request, &finding);
        unsigned char *segment = tn_segment_of(record)->memory.address;
        tn_records_add(records, segment + record->node.offset + record->buffer.lead, bytes, true);
    }
    tn_mutex_unlock(&pool->lock);
    return place.node != NULL;
}

/* One more slab, for at least `count` records (0: as growth has it). */
bool tn_refill(tenon_pool *pool, tn_records *records, size_t count) {
    tn_mutex_lock(&pool->lock);
    size_t bytes = tn_records_slab_bytes(records, count);
    bool fixed = (pool->flags & TENON_POOL_FIXED) != 0 && pool->segments != NULL;
    if (fixed)
        bytes = tn_records_slab_bytes(records, 1); /* the least: it is the caller's memory */
    tn_mutex_unlock(&pool->lock);
    if (fixed)
        return refill_from_segment(pool, records, bytes);
    void *slab = tn_host_alloc(&pool->hooks, bytes, TN_CACHE_LINE);
    if (slab == NULL)
        return false;
    tn_mutex_lock(&pool->lock);
    tn_records_add(records, slab, bytes, false);
    tn_mutex_unlock(&pool->lock);
    return true;
}

/* ---- segments ---- */

/*
 * Takes a segment of `bytes`, a multiple of the source's granularity, and serves `request` (if not
 * NULL) from it before anybody else can. Pre: the budget allows it, and TN_NODES_READY nodes were
 * free when slow was held.
 */
bool tn_segment_add(tenon_pool *pool, size_t bytes, const tn_request *request,
                    tn_block_record **record, tn_finding *finding) {
    tn_segment *segment = tn_host_alloc_zero(&pool->hooks, sizeof *segment, TN_CACHE_LINE);
    if (segment == NULL)
        return false;
    if (!pool->source.alloc(pool->source.user, bytes, &segment->memory)) {
        tn_host_free(&pool->hooks, segment, sizeof *segment);
        return false;
    }
    if (tn_guarded(pool))
        tn_guard_segment(&segment->memory);

    tn_mutex_lock(&pool->lock);
    segment->lowest = tn_records_take(&pool->nodes);
    tn_tlsf_add(&pool->tlsf, &segment->lowest->node, segment, bytes);
    segment->next = pool->segments;
    if (segment->next != NULL)
        segment->next->previous = segment;
    pool->segments = segment;
    ++pool->info.segments;
    pool->info.reserved += bytes;
    if (pool->info.reserved > pool->info.peak_reserved)
        pool->info.peak_reserved = pool->info.reserved;
    tn_record_locked(pool, "segment+ %zu\n", bytes);
    if (request != NULL)
        *record =
            tn_hand_out_locked(pool, (tn_tlsf_place){&segment->lowest->node, 0}, request, finding);
    tn_mutex_unlock(&pool->lock);
    return true;
}

static void unlink_locked(tenon_pool *pool, tn_segment *segment) {
    if (segment->next != NULL)
        segment->next->previous = segment->previous;
    if (segment->previous != NULL)
        segment->previous->next = segment->next;
    else
        pool->segments = segment->next;
}

/* Bytes of segments that could be given back. */
size_t tn_segments_empty(tenon_pool *pool) {
    size_t bytes = 0;
    if ((pool->flags & TENON_POOL_FIXED) != 0)
        return 0;
    tn_mutex_lock(&pool->lock);
    tn_settle_locked(pool);
    for (const tn_segment *segment = pool->segments; segment != NULL; segment = segment->next)
        if (tn_tlsf_whole(&segment->lowest->node))
            bytes += segment->memory.bytes;
    tn_mutex_unlock(&pool->lock);
    return bytes;
}

/* Gives empty segments back until at most `keep` bytes are reserved; returns the bytes given, adds
 * to *count. */
size_t tn_segments_give(tenon_pool *pool, size_t keep, uint64_t *count) {
    if ((pool->flags & TENON_POOL_FIXED) != 0)
        return 0;
    tn_segment *given = NULL;
    size_t bytes = 0;
    tn_mutex_lock(&pool->lock);
    tn_settle_locked(pool);
    for (tn_segment *segment = pool->segments, *next; segment != NULL; segment = next) {
        next = segment->next;
        if (pool->info.reserved - bytes <= keep)
            break;
        if (!tn_tlsf_whole(&segment->lowest->node))
            continue;
        tn_tlsf_remove(&pool->tlsf, &segment->lowest->node);
        tn_records_give(&pool->nodes, segment->lowest);
        unlink_locked(pool, segment);
        segment->next = given;
        given = segment;
        bytes += segment->memory.bytes;
    }
    tn_mutex_unlock(&pool->lock);

    /* `reserved` goes down after the memory is really gone, so the budget holds at every moment. */
    while (given != NULL) {
        tn_segment *segment = given;
        given = segment->next;
        size_t gone = segment->memory.bytes;
        pool->source.free(pool->source.user, &segment->memory);
        tn_host_free(&pool->hooks, segment, sizeof *segment);
        tn_mutex_lock(&pool->lock);
        pool->info.reserved -= gone;
        --pool->info.segments;
        tn_record_locked(pool, "segment- %zu\n", gone);
        tn_mutex_unlock(&pool->lock);
        ++*count;
    }
    return bytes;
}

/* Gives all segments back, used or not, at the end of a pool. */
void tn_segments_close(tenon_pool *pool) {
    while (pool->segments != NULL) {
        tn_segment *segment = pool->segments;
        unlink_locked(pool, segment);
        tn_record_locked(pool, "segment- %zu\n", segment->memory.bytes);
        pool->source.free(pool->source.user, &segment->memory);
        tn_host_free(&pool->hooks, segment, sizeof *segment);
    }
}

size_t tenon_memory_trim(tenon_pool *pool, size_t keep) {
    if (pool == NULL)
        return 0;
    uint64_t count = 0;
    if (!tn_enter_slow(pool))
        return 0;
    size_t bytes = tn_segments_give(pool, keep, &count);
    tn_leave_slow(pool);
    if (count != 0)
        tn_log(pool, TENON_LOG_INFO, "pool %s: trim gave %llu segments of %zu bytes back",
               pool->device, (unsigned long long)count, bytes);
    return bytes;
}
