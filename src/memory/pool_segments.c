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

enum {
    /*
     * Free memory inside a segment goes back in such units: large enough that a call to the system
     * (a microsecond or two) is little beside the memory, small enough that the rest does not show.
     */
    PART_BYTES = 64 << 10,
    HUGE_PART_BYTES = 2 << 20, /* so that the pages around stay huge */
    /*
     * A pool that grows aims at 1/SLACK more than was ever in use, if it can pay for it (see
     * tn_segments_hold_down). On the replayed traces of tests/memory half of PAID, or twice
     * CALL_BYTES, is enough for all of them but one.
     */
    SLACK = 64,
    PAID = 4,             /* of the bytes of large blocks, the part that pays */
    CALL_BYTES = 2 << 20, /* what a call to the system costs, beside the bytes that go */
    /* Of 65,530 mappings that Linux lets a process have: most are the host's. */
    HOLES_MOST = 8192
};

/* From the hooks; what they do wrong is kept for the sentence of the failure. */
static void *hooks_alloc(tenon_pool *pool, size_t bytes, size_t alignment) {
    const void *stray;
    void *memory = tn_host_alloc_watched(&pool->hooks, bytes, alignment, &stray);
    if (stray != NULL) {
        pool->stray = stray;
        pool->stray_alignment = alignment;
    }
    return memory;
}

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
 * Under overcommit a promise of memory costs nothing and its breaking ends the process, at the
 * first write. Where the caller has not said how much may be promised, or wants it committed at
 * once, what is there now decides.
 */
static bool host_available(tenon_pool *pool, size_t bytes) {
    bool commit = (pool->flags & (TENON_POOL_TOUCH | TENON_POOL_LOCK)) != 0;
    pool->refusal = NULL;
    if (pool->limited_by_system)
        pool->refusal = tn_promise(bytes);
    else if (commit && pool->hooks.alloc == NULL && bytes > tn_os_memory_available())
        pool->refusal = "less is available to this process";
    return pool->refusal == NULL;
}

/* Memory of the system that is no longer held. */
static void count_given(const tenon_pool *pool, size_t bytes) {
    if (pool->limited_by_system)
        tn_promise_back(bytes);
}

bool tn_host_take(void *user, size_t bytes, tn_segment_memory *out) {
    tenon_pool *pool = user;
    bool hooked = pool->hooks.alloc != NULL;
    if (!host_available(pool, bytes))
        return false;
    void *address = hooked ? hooks_alloc(pool, bytes, TN_ALIGNMENT_MOST)
                           : tn_os_map(bytes, (pool->flags & TENON_POOL_HUGE_PAGES) != 0);
    if (address == NULL) {
        count_given(pool, bytes);
        return false;
    }
    if (!host_commit(pool, address, bytes)) {
        count_given(pool, bytes);
        if (hooked)
            tn_host_free(&pool->hooks, address, bytes);
        else
            tn_os_unmap(address, bytes);
        return false;
    }
    *out = (tn_segment_memory){.address = address, .bytes = bytes};
    return true;
}

void tn_host_give(void *user, const tn_segment_memory *memory) {
    const tenon_pool *pool = user;
    if (pool->hooks.alloc == NULL) {
        tn_os_unmap(memory->address, memory->bytes);
        count_given(pool, memory->bytes);
        return;
    }
    if ((pool->flags & TENON_POOL_LOCK) != 0)
        tn_os_unpin(memory->address, memory->bytes);
    tn_host_free(&pool->hooks, memory->address, memory->bytes);
}

static bool host_give_part(void *user, const tn_segment_memory *memory, size_t offset,
                           size_t bytes) {
    const tenon_pool *pool = user;
    const bool given = tn_os_unmap((unsigned char *)memory->address + offset, bytes);
    if (given)
        count_given(pool, bytes);
    return given;
}

tn_segment_source tn_host_source(tenon_pool *pool) {
    /* Only whole pages can be locked. */
    bool granule = pool->hooks.alloc != NULL && (pool->flags & TENON_POOL_LOCK) == 0;
    tn_segment_source source = {.user = pool,
                                .alloc = tn_host_take,
                                .free = tn_host_give,
                                .granularity = granule ? TN_GRANULE : tn_os_page_size(),
                                .host = true};
    if (pool->hooks.alloc == NULL) {
        source.give_part = host_give_part;
        source.part = (pool->flags & TENON_POOL_HUGE_PAGES) != 0 ? HUGE_PART_BYTES : PART_BYTES;
        if (source.part < source.granularity)
            source.part = source.granularity;
    }
    return source;
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
    void *slab = hooks_alloc(pool, bytes, TN_CACHE_LINE);
    if (slab == NULL)
        return false;
    tn_mutex_lock(&pool->lock);
    tn_records_add(records, slab, bytes, false);
    tn_mutex_unlock(&pool->lock);
    return true;
}

/* Enough nodes to cut blocks; see TN_NODES_READY. */
bool tn_nodes_ready(tenon_pool *pool) {
    tn_mutex_lock(&pool->lock);
    tn_settle_locked(pool);
    bool enough = pool->nodes.free >= TN_NODES_READY;
    tn_mutex_unlock(&pool->lock);
    return enough || tn_refill(pool, &pool->nodes, 0);
}

/* ---- segments ---- */

/*
 * Takes a segment of `bytes`, a multiple of the source's granularity, and serves `request` (if not
 * NULL) from it before anybody else can. Pre: the budget allows it, and TN_NODES_READY nodes were
 * free when slow was held.
 */
bool tn_segment_add(tenon_pool *pool, size_t bytes, const tn_request *request,
                    tn_block_record **record, tn_finding *finding) {
    tn_segment *segment = hooks_alloc(pool, sizeof *segment, TN_CACHE_LINE);
    if (segment == NULL)
        return false;
    *segment = (tn_segment){0};
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

/* Parts that may still go; some may come to lie beside a hole and be none of their own. */
static size_t holes_left(const tenon_pool *pool) {
    return pool->tlsf.holes < HOLES_MOST ? HOLES_MOST - pool->tlsf.holes : 0;
}

/* Bytes that could be given back. */
size_t tn_segments_empty(tenon_pool *pool) {
    size_t bytes = 0;
    if ((pool->flags & TENON_POOL_FIXED) != 0)
        return 0;
    tn_mutex_lock(&pool->lock);
    tn_settle_locked(pool);
    if (pool->source.give_part != NULL)
        bytes = tn_tlsf_spare(&pool->tlsf, pool->source.part, holes_left(pool));
    else
        for (const tn_segment *segment = pool->segments; segment != NULL; segment = segment->next)
            if (tn_tlsf_whole(&segment->lowest->node))
                bytes += segment->memory.bytes;
    tn_mutex_unlock(&pool->lock);
    return bytes;
}

/* Gives empty segments back until at most `keep` bytes are reserved. */
static size_t give_empty(tenon_pool *pool, size_t keep, uint64_t *count) {
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

/*
 * Takes a part of a free block out, about `wanted` bytes if it has so many, as a hole, so that
 * nobody gets it while it goes. NULL: no block has a unit to spare.
 */
static tn_tlsf_node *punch_locked(tenon_pool *pool, size_t wanted) {
    const size_t unit = pool->source.part;
    tn_settle_locked(pool);
    if (pool->nodes.free < TN_NODES_READY || holes_left(pool) == 0)
        return NULL;
    tn_tlsf_node *node = tn_tlsf_roomy(&pool->tlsf, unit);
    if (node == NULL)
        return NULL;
    size_t offset, bytes = tn_tlsf_inner(node, unit, &offset);
    if (bytes > wanted) { /* from the upper end, so that the rest stays in one piece */
        size_t start = (offset + bytes - wanted) & ~(unit - 1);
        bytes -= start - offset;
        offset = start;
    }
    node = tn_tlsf_take(&pool->tlsf, (tn_tlsf_place){node, offset}, bytes, &pool->nodes);
    tn_tlsf_punch(&pool->tlsf, node);
    ((tn_block_record *)node)->id = 0; /* no block's, so that second frees are seen */
    return node;
}

/* The bytes of a hole have gone. Returns its segment if that was the last of it. */
static tn_segment *count_hole_locked(tenon_pool *pool, tn_tlsf_node *hole) {
    tn_segment *segment = hole->segment;
    segment->holes += hole->bytes;
    pool->info.reserved -= hole->bytes;
    tn_record_locked(pool, "segment- %zu\n", hole->bytes);
    hole = tn_tlsf_join(&pool->tlsf, hole, &pool->nodes);
    if (segment->holes < segment->memory.bytes)
        return NULL;
    tn_tlsf_remove(&pool->tlsf, hole);
    tn_records_give(&pool->nodes, hole);
    unlink_locked(pool, segment);
    --pool->info.segments;
    return segment;
}

/* Gives a part of a free block back. Returns its bytes; 0: there is none, or the system can't take
 * it. */
static size_t give_part(tenon_pool *pool, size_t wanted) {
    if (!tn_nodes_ready(pool))
        return 0;
    tn_mutex_lock(&pool->lock);
    tn_tlsf_node *hole = punch_locked(pool, wanted);
    tn_mutex_unlock(&pool->lock);
    if (hole == NULL)
        return 0;

    size_t bytes = hole->bytes;
    tn_segment *segment = hole->segment, *gone = NULL;
    bool given = pool->source.give_part(pool->source.user, &segment->memory, hole->offset, bytes);
    tn_mutex_lock(&pool->lock);
    if (given)
        gone = count_hole_locked(pool, hole);
    else
        tn_tlsf_fill(&pool->tlsf, hole, &pool->nodes);
    tn_mutex_unlock(&pool->lock);
    if (gone != NULL)
        tn_host_free(&pool->hooks, gone, sizeof *gone);
    return given ? bytes : 0;
}

/*
 * Gives memory back until at most `keep` bytes are reserved: empty segments, then parts of free
 * blocks, the largest first. Returns the bytes given, adds to *count.
 */
size_t tn_segments_give(tenon_pool *pool, size_t keep, uint64_t *count) {
    if ((pool->flags & TENON_POOL_FIXED) != 0)
        return 0;
    size_t bytes = give_empty(pool, keep, count), part = 1;
    while (pool->source.give_part != NULL && pool->info.reserved > keep && part != 0) {
        part = give_part(pool, pool->info.reserved - keep);
        bytes += part;
        *count += part != 0;
    }
    return bytes;
}

/*
 * Before a segment of `coming` bytes for a request of `asked`: what is free, and so scattered that
 * it can't serve, goes back as far as the pool would hold much more than was ever in use. So the
 * footprint follows the need, whatever the order of sizes, and the system is entered only where it
 * would be anyway.
 *
 * Where sizes are mixed for ever, what goes back would soon have to come again, for ever. So it
 * makes a debt, which large blocks pay off as they are handed out: it is little beside writing to
 * them. Small ones, whose memory is still in a cache, pay nothing. A pool that has more debt than
 * was ever in use grows. Bytes are counted, not time: the same calls always have the same effect.
 */
void tn_segments_hold_down(tenon_pool *pool, size_t coming, size_t asked) {
    tn_mutex_lock(&pool->lock);
    size_t most = pool->info.in_use + asked;
    if (most < pool->info.peak_in_use)
        most = pool->info.peak_in_use;
    uint64_t paid = pool->large_taken / PAID;
    pool->large_taken = 0;
    tn_mutex_unlock(&pool->lock);

    pool->debt -= paid < pool->debt ? paid : pool->debt;
    size_t held = pool->info.reserved, aim = most + most / SLACK + pool->segment_bytes;
    if (held + coming <= aim || pool->debt >= most)
        return;
    size_t excess = held + coming - aim;
    if (excess > held)
        excess = held;
    if (excess > most - pool->debt)
        excess = most - pool->debt;
    uint64_t calls = 0;
    size_t given = tn_segments_give(pool, held - excess, &calls);
    pool->debt += given + calls * CALL_BYTES;
}

/* What lies in the holes by now may be somebody else's. */
static void free_around_holes(tenon_pool *pool, const tn_segment *segment) {
    size_t start = 0;
    for (const tn_tlsf_node *node = &segment->lowest->node; node != NULL; node = node->upper) {
        size_t end = node->hole ? node->offset : node->offset + node->bytes;
        if ((node->hole || node->upper == NULL) && end > start)
            (void)pool->source.give_part(pool->source.user, &segment->memory, start, end - start);
        if (node->hole)
            start = node->offset + node->bytes;
    }
}

/* Gives all segments back, used or not, at the end of a pool. */
void tn_segments_close(tenon_pool *pool) {
    while (pool->segments != NULL) {
        tn_segment *segment = pool->segments;
        unlink_locked(pool, segment);
        tn_record_locked(pool, "segment- %zu\n", segment->memory.bytes - segment->holes);
        if (segment->holes == 0)
            pool->source.free(pool->source.user, &segment->memory);
        else
            free_around_holes(pool, segment);
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
