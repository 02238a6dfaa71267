/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.c: the life of a pool, and the quick way of allocating and freeing.
 *
 * A request that the size classes can serve at once is served here under one short lock; everything
 * else goes to pool_ladder.c. This file must not call the system outside creation and closing.
 */
#include <stdio.h>
#include <string.h>

#include "core/checked.h"
#include "core/devices.h"
#include "core/read_desc.h"
#include "memory/pool_quick.h"

enum {
    SEGMENT_BYTES = 2 << 20, /* one huge page of x86-64 and arm64 */
    FIXED_BYTES_PER_NODE =
        16 << 10, /* fixed pools: nodes taken at creation; more come out of the segment */
    FIXED_NODES_LEAST = 128,
    FIXED_NODES_MOST = 16 << 10
};

static const unsigned all_flags = TENON_POOL_TOUCH | TENON_POOL_HUGE_PAGES | TENON_POOL_DEBUG |
                                  TENON_POOL_FIXED | TENON_POOL_LOCK;

/* ---- life ---- */

static tenon_status check_desc(const tenon_pool_desc *desc, tn_message *message) {
    if ((desc->flags & ~all_flags) != 0)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "flags is 0x%x, expected a combination of TENON_POOL_* (0x%x)", desc->flags,
                       all_flags);
    if ((desc->allocator.alloc == NULL) != (desc->allocator.free == NULL))
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "allocator.%s is NULL, expected both of alloc and free or neither",
                       desc->allocator.alloc != NULL ? "free" : "alloc");
    if (desc->segment_bytes > TN_BLOCK_MOST)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "segment_bytes is %zu, expected at most %zu", desc->segment_bytes,
                       TN_BLOCK_MOST);
    if ((int)desc->log_level < TENON_LOG_NONE || (int)desc->log_level > TENON_LOG_DEBUG)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT, "log_level is %d, expected 0 to %d",
                       (int)desc->log_level, TENON_LOG_DEBUG);
    return TENON_OK;
}

/* Pre: nobody holds the pool any more. */
void tn_pool_close(tenon_pool *pool) {
    if (tn_guarded(pool)) {
        tn_finding finding = {.count = 0};
        tn_mutex_lock(&pool->lock);
        tn_guard_sweep_locked(pool, &finding);
        tn_mutex_unlock(&pool->lock);
        tn_finding_tell(pool, &finding);
    }
    uint64_t borrowed = 0; /* slabs that are blocks of the pool itself */
    for (const tn_slab *slab = pool->nodes.slabs; slab != NULL; slab = slab->next)
        borrowed += slab->borrowed;
    for (const tn_slab *slab = pool->handles.slabs; slab != NULL; slab = slab->next)
        borrowed += slab->borrowed;
    if (tn_blocks_locked(pool) > borrowed)
        tn_log(pool, TENON_LOG_WARNING, "pool %s: closed with %llu blocks of %zu bytes in use",
               pool->device, (unsigned long long)tn_blocks_locked(pool), pool->info.in_use);
    else
        tn_log(pool, TENON_LOG_INFO, "pool %s: closed; peak in use %zu, reserved %zu bytes",
               pool->device, pool->info.peak_in_use, pool->info.peak_reserved);
    /* A fixed pool's slabs may lie in its segment; any other's segments are read through their
     * nodes, which lie in slabs. */
    bool fixed = (pool->flags & TENON_POOL_FIXED) != 0;
    if (!fixed)
        tn_segments_close(pool);
    tn_records *records[] = {&pool->nodes, &pool->handles};
    for (int i = 0; i < 2; ++i)
        for (tn_slab *slab; (slab = tn_records_next_slab(records[i])) != NULL;)
            if (!slab->borrowed)
                tn_host_free(&pool->hooks, slab, slab->bytes);
    if (fixed)
        tn_segments_close(pool);
    tenon_allocator hooks = pool->hooks;
    tn_space *space = pool->space;
    tn_host_free(&hooks, pool, sizeof *pool);
    if (space != NULL)
        space->calls->release(space);
}

/* A fixed pool takes everything now: its segment and the nodes for it. */
static tenon_status open_fixed(tenon_pool *pool, size_t budget, tn_message *message) {
    size_t granularity = pool->source.granularity;
    size_t bytes = pool->segment_bytes;
    if (budget != 0 && bytes > budget)
        return tn_fail(
            message, pool->limited_by_system ? TENON_ERROR_OUT_OF_MEMORY : TENON_ERROR_OVER_BUDGET,
            "pool %s: fixed segment_bytes %zu is more than %s %zu", pool->device, bytes,
            pool->limited_by_system ? "this process may use:" : "the budget", budget);
    if (!tn_align_size(bytes, granularity, &bytes) || (budget != 0 && bytes > budget))
        bytes = budget & ~(granularity - 1);
    if (bytes == 0)
        return tn_fail(message, TENON_ERROR_OVER_BUDGET,
                       "pool %s: budget %zu is less than one unit of %zu bytes", pool->device,
                       budget, granularity);
    size_t count = bytes / FIXED_BYTES_PER_NODE;
    if (count < FIXED_NODES_LEAST)
        count = FIXED_NODES_LEAST;
    if (count > FIXED_NODES_MOST)
        count = FIXED_NODES_MOST;
    if (!tn_refill(pool, &pool->nodes, count) ||
        !tn_refill(pool, &pool->handles, FIXED_NODES_LEAST) ||
        !tn_segment_add(pool, bytes, NULL, NULL, NULL)) {
        char why[TN_REASON_BYTES];
        tenon_status status = tn_refusal(pool, why);
        return tn_fail(message, status, "pool %s: no %zu bytes for the fixed segment: %s",
                       pool->device, bytes, why);
    }
    return TENON_OK;
}

/*
 * The budget of a pool for which none was said. Memory that is the host's has an account; a card's
 * is the card's, less what its driver and others need.
 */
static void choose_budget(tenon_pool *pool, size_t wanted, bool of_the_system) {
    const bool host_pages = pool->space == NULL || pool->space->host_pages;
    pool->limited_by_system =
        wanted == 0 && of_the_system && host_pages && pool->hooks.alloc == NULL;
    if (pool->limited_by_system)
        pool->info.budget = tn_budget_of_system(0, pool->source.granularity);
    else if (wanted == 0 && !host_pages)
        pool->info.budget = pool->space->total - pool->space->total / 16;
    else if (wanted != TENON_NO_BUDGET)
        pool->info.budget = wanted;
}

/* At most one of `source` and `space` is given; with neither it is host memory. */
static tenon_status open_pool(const tenon_pool_desc *given, const tn_segment_source *source,
                              tn_space *space, tn_message *message, tenon_pool **out) {
    *out = NULL;
    tenon_pool_desc desc;
    tenon_status status = tn_read_desc(given, &desc, sizeof desc, message);
    if (status == TENON_OK)
        status = check_desc(&desc, message);
    if (status != TENON_OK)
        return status;
    const void *stray;
    tenon_pool *pool = tn_host_alloc_watched(&desc.allocator, sizeof *pool, TN_CACHE_LINE, &stray);
    if (pool == NULL)
        return tn_fail_host(message, "the pool itself", sizeof *pool, stray, TN_CACHE_LINE);
    memset(pool, 0, sizeof *pool);
    pool->holders = 1;
    tn_os_fork_mark(&pool->home);
    snprintf(pool->device, sizeof pool->device, "%s", desc.device != NULL ? desc.device : "cpu");
    pool->segment_bytes =
        desc.segment_bytes != 0 ? desc.segment_bytes
        : (desc.flags & TENON_POOL_FIXED) != 0 && desc.budget != 0 && desc.budget != TENON_NO_BUDGET
            ? desc.budget
            : SEGMENT_BYTES;
    pool->flags = desc.flags;
    pool->hooks = desc.allocator;
    pool->logger = desc.logger;
    pool->log_level = desc.log_level;
    if (space != NULL) {
        space->calls->retain(space);
        pool->space = space;
        pool->flags |= TENON_POOL_TOUCH; /* a driver tells what is missing at the first use */
    }
    pool->source = source != NULL  ? *source
                   : space != NULL ? tn_device_source(pool)
                                   : tn_host_source(pool);
    choose_budget(pool, desc.budget, source == NULL);
    pool->watch = (tn_guarded(pool) ? TN_WATCH_GUARDS : 0) |
                  (tn_logs(pool, TENON_LOG_DEBUG) ? TN_WATCH_LOG : 0);
    tn_mutex_init(&pool->slow);
    tn_mutex_init(&pool->lock);
    bool patient = (desc.flags & TENON_POOL_DEBUG) != 0;
    tn_records_open(&pool->nodes, sizeof(tn_block_record), patient);
    tn_records_open(&pool->handles, sizeof(tn_handle_record), patient);
    if ((desc.flags & TENON_POOL_FIXED) != 0)
        status = open_fixed(pool, pool->info.budget, message);
    if (status != TENON_OK) {
        tn_pool_close(pool);
        return status;
    }
    tn_log(pool, TENON_LOG_INFO, "pool %s: made with budget %zu, segments of %zu bytes, flags 0x%x",
           pool->device, pool->info.budget, pool->segment_bytes, desc.flags);
    *out = pool;
    return TENON_OK;
}

tenon_status tn_pool_open(const tenon_pool_desc *desc, const tn_segment_source *source,
                          tn_message *message, tenon_pool **out) {
    return open_pool(desc, source, NULL, message, out);
}

tenon_status tn_pool_open_in(const tenon_pool_desc *desc, tn_space *space, tn_message *message,
                             tenon_pool **out) {
    return open_pool(desc, NULL, space, message, out);
}

tn_space *tn_pool_space(const tenon_pool *pool) {
    return pool->space;
}

tenon_status tenon_pool_create(const tenon_pool_desc *desc, tenon_pool **out) {
    if (out == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_pool_create: out is NULL, expected an address");
    *out = NULL;
    const char *device = desc != NULL ? desc->device : NULL;
    tn_space *space = NULL;
    tn_message message;
    tenon_status status = tn_devices_space(device, &space, &message);
    if (status == TENON_OK)
        status = tn_pool_open_in(desc, space, &message, out);
    if (space != NULL)
        space->calls->release(space); /* the pool has its own hold */
    return status == TENON_OK ? status
                              : tn_fail_shared(status, "tenon_pool_create: %s", message.text);
}

void tn_pool_retain(tenon_pool *pool) {
    if (!tn_enter(pool))
        return;
    ++pool->holders;
    tn_leave(pool);
}

/* A pool that is lost to this process is never closed in it. */
void tn_pool_release(tenon_pool *pool) {
    if (pool == NULL || !tn_enter(pool))
        return;
    bool last = --pool->holders == 0;
    tn_leave(pool);
    if (last)
        tn_pool_close(pool);
}

void tenon_pool_destroy(tenon_pool *pool) {
    if (pool == NULL)
        return;
    /* The leak report of a debug pool: what the caller gives up while something still lives in it.
     */
    if ((pool->flags & TENON_POOL_DEBUG) != 0 && tn_logs(pool, TENON_LOG_WARNING)) {
        tenon_memory_owner top[3] = {{NULL, 0, 0}};
        size_t owners = tenon_memory_owners(pool, top, 3);
        for (size_t i = 0; i < owners && i < 3; ++i)
            tn_log(pool, TENON_LOG_WARNING,
                   "pool %s: given up while %llu blocks of %zu bytes of '%.64s' are in use",
                   pool->device, (unsigned long long)top[i].blocks, top[i].bytes, top[i].owner);
    }
    tn_pool_release(pool);
}

const tenon_allocator *tn_pool_hooks(const tenon_pool *pool) {
    return pool != NULL ? &pool->hooks : NULL;
}

/* ---- blocks ---- */

const char tn_nobody[] = "caller";

tn_request tn_request_of(const tenon_pool *pool, size_t bytes, size_t alignment,
                         const char *owner) {
    tn_request request = {.asked = bytes,
                          .alignment = alignment < TN_GRANULE ? TN_GRANULE : alignment,
                          .owner = owner != NULL ? owner : tn_nobody};
    size_t guards = 0;
    if (tn_guarded(pool)) {
        request.lead = request.alignment; /* so that the caller's first byte stays aligned */
        guards = request.lead + TN_GRANULE;
    }
    size_t total;
    if (tn_add_size(bytes != 0 ? bytes : 1, guards, &total) &&
        tn_align_size(total, TN_GRANULE, &total) && total <= TN_BLOCK_MOST)
        request.bytes = total;
    return request;
}

void tn_settle_oldest_locked(tenon_pool *pool) {
    tn_pending *one = &pool->pending[pool->pending_begin++ % TN_PENDING];
    tn_tlsf_release(&pool->tlsf, &one->record->node, &pool->nodes);
}

/* Oldest first, as if each had been merged when it was freed. */
void tn_settle_locked(tenon_pool *pool) {
    while (pool->pending_begin != pool->pending_end)
        tn_settle_oldest_locked(pool);
}

/*
 * Cuts a block out of free memory, counts it and lets its buffer show it: what stays true until the
 * block is merged again. Pre: TN_TLSF_SPLITS nodes are free.
 */
static inline tn_block_record *cut_locked(tenon_pool *pool, tn_tlsf_place place, size_t bytes,
                                          size_t asked, size_t lead, const char *owner) {
    tn_block_record *record =
        (tn_block_record *)tn_tlsf_take(&pool->tlsf, place, bytes, &pool->nodes);
    const tn_segment_memory *memory = &tn_segment_of(record)->memory;
    const size_t offset = record->node.offset + lead;
    tenon_buffer *buffer = &record->buffer;
    buffer->pool = pool;
    buffer->root = buffer;
    buffer->native = memory->address != NULL ? (char *)memory->address + offset : memory->handle;
    buffer->offset = memory->address != NULL ? 0 : offset;
    buffer->lead = (uint16_t)lead;
    buffer->role = TN_BUFFER_BLOCK;
    buffer->kind = TENON_NATIVE_HOST;
    tn_count_out_locked(pool, record, asked, tn_owner_find_locked(pool, owner));
    return record;
}

/* Takes the place for the request. Pre: TN_TLSF_SPLITS nodes are free. */
tn_block_record *tn_hand_out_locked(tenon_pool *pool, tn_tlsf_place place,
                                    const tn_request *request, tn_finding *finding) {
    tn_block_record *record =
        cut_locked(pool, place, request->bytes, request->asked, request->lead, request->owner);
    if ((pool->watch & TN_WATCH_GUARDS) != 0)
        tn_guard_open_locked(pool, record, finding);
    if ((pool->watch & TN_WATCH_RECORD) != 0)
        tn_record_locked(pool, "alloc %llu %zu %zu %.64s\n", (unsigned long long)record->id,
                         request->asked, request->alignment, request->owner);
    return record;
}

/*
 * A debug pool describes the free block by another record, so that the handle in this one, with its
 * mark, is used again after all the others that are free.
 */
static tn_block_record *retire_locked(tenon_pool *pool, tn_block_record *record) {
    tn_block_record *other = tn_records_take(&pool->nodes);
    if (other == NULL)
        return record;
    *other = *record;
    if (other->node.lower != NULL)
        other->node.lower->upper = &other->node;
    else
        tn_segment_of(other)->lowest = other;
    if (other->node.upper != NULL)
        other->node.upper->lower = &other->node;
    record->node.used = false;
    tn_records_give(&pool->nodes, record);
    return other;
}

void tn_take_back_locked(tenon_pool *pool, tn_block_record *record, tn_finding *finding) {
    if ((pool->watch & TN_WATCH_GUARDS) != 0)
        tn_guard_close_locked(pool, record, finding);
    if ((pool->watch & TN_WATCH_RECORD) != 0)
        tn_record_locked(pool, "free %llu\n", (unsigned long long)record->id);
    tn_count_back_locked(pool, record);
    if ((pool->watch & TN_WATCH_GUARDS) != 0)
        record = retire_locked(pool, record);
    if (pool->watch == 0)
        tn_defer_locked(pool, record);
    else
        tn_tlsf_release(&pool->tlsf, &record->node, &pool->nodes);
}

/* A request that was missed, or of a pool that somebody watches. */
static __attribute__((noinline)) tenon_status take_slowly(tenon_pool *pool, size_t bytes,
                                                          size_t alignment, const char *owner,
                                                          unsigned take, tn_block_record **out,
                                                          tn_message *message) {
    tn_request request = tn_request_of(pool, bytes, alignment, owner);
    request.tentative = (take & TN_TAKE_TRY) != 0;
    tenon_status status = TENON_OK;
    tn_finding finding = {.count = 0};
    tn_tlsf_place place = {NULL, 0};
    *out = NULL;

    if (!tn_enter(pool))
        return tn_fail_lost(pool, message);
    if (tn_fault_strikes_locked(pool, bytes))
        status = tn_fail_short_locked(pool, &request, TENON_ERROR_OUT_OF_MEMORY,
                                      "failed on request of tenon_memory_inject", message);
    tn_settle_locked(pool);
    if (status == TENON_OK && request.bytes != 0 && pool->nodes.free >= TN_NODES_READY)
        place = tn_tlsf_find(&pool->tlsf, request.bytes, request.alignment);
    if (place.node != NULL) {
        *out = tn_hand_out_locked(pool, place, &request, &finding);
        pool->holders += take & TN_TAKE_BUFFER;
    }
    tn_leave(pool);

    if (status == TENON_OK && place.node == NULL) {
        status = tn_ladder_climb(pool, &request, out, &finding, message);
        if (status == TENON_OK && (take & TN_TAKE_BUFFER) != 0)
            tn_pool_retain(pool);
    }
    if (finding.count != 0)
        tn_finding_tell(pool, &finding);
    if (tn_logs(pool, TENON_LOG_DEBUG)) {
        if (status == TENON_OK)
            tn_log(pool, TENON_LOG_DEBUG, "pool %s: block %llu of %zu bytes for '%.64s'",
                   pool->device, (unsigned long long)(*out)->id, bytes, request.owner);
        else
            tn_log(pool, TENON_LOG_DEBUG, "pool %s: no block of %zu bytes for '%.64s'",
                   pool->device, bytes, request.owner);
    }
    return status;
}

tenon_status tn_block_take_held(tenon_pool *pool, size_t bytes, size_t alignment, const char *owner,
                                unsigned take, tn_block_record **out, tn_message *message) {
    /* Without guards this is all there is to a request, and no size overflows. */
    if (pool->watch == 0 && bytes <= TN_BLOCK_MOST) {
        const char *name = owner != NULL ? owner : tn_nobody;
        tn_block_record *record = tn_recall_locked(pool, bytes, alignment, name);
        if (record == NULL) {
            tn_settle_locked(pool);
            if (pool->nodes.free >= TN_NODES_READY) {
                size_t whole = tn_whole(bytes);
                tn_tlsf_place place = tn_tlsf_find(&pool->tlsf, whole,
                                                   alignment < TN_GRANULE ? TN_GRANULE : alignment);
                if (place.node != NULL)
                    record = cut_locked(pool, place, whole, bytes, 0, name);
            }
        }
        if (record != NULL) {
            pool->holders += take & TN_TAKE_BUFFER;
            tn_leave(pool);
            *out = record;
            return TENON_OK;
        }
    }
    tn_leave(pool);
    return take_slowly(pool, bytes, alignment, owner, take, out, message);
}

static tn_block block_of(tn_block_record *record) {
    const tn_segment_memory *memory = &tn_segment_of(record)->memory;
    tn_block block = {.handle = memory->handle,
                      .offset = record->node.offset + record->buffer.lead,
                      .bytes = record->buffer.bytes,
                      .node = record,
                      .id = record->id};
    if (memory->address != NULL)
        block.address = (unsigned char *)memory->address + block.offset;
    return block;
}

static tenon_status alloc(tenon_pool *pool, size_t bytes, size_t alignment, const char *owner,
                          unsigned take, tn_block *block, tn_message *message) {
    tn_block_record *record;
    *block = (tn_block){0};
    if (alignment > TN_ALIGNMENT_MOST || (alignment & (alignment - 1)) != 0)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "alignment is %zu, expected a power of two up to %d", alignment,
                       TN_ALIGNMENT_MOST);
    if (!tn_enter(pool))
        return tn_fail_lost(pool, message);
    TN_TRY(tn_block_take_held(pool, bytes, alignment, owner, take, &record, message));
    *block = block_of(record);
    return TENON_OK;
}

tenon_status tn_pool_alloc(tenon_pool *pool, size_t bytes, size_t alignment, const char *owner,
                           tn_block *block, tn_message *message) {
    return alloc(pool, bytes, alignment, owner, 0, block, message);
}

tenon_status tn_pool_try(tenon_pool *pool, size_t bytes, size_t alignment, const char *owner,
                         tn_block *block, tn_message *message) {
    return alloc(pool, bytes, alignment, owner, TN_TAKE_TRY, block, message);
}

void tn_free_tell(tenon_pool *pool, unsigned watch, uint64_t id, const tn_finding *finding) {
    if (finding->count != 0)
        tn_finding_tell(pool, finding);
    if ((watch & TN_WATCH_LOG) != 0)
        tn_log(pool, TENON_LOG_DEBUG, "pool %s: block %llu freed", pool->device,
               (unsigned long long)id);
}

void tn_pool_free(tenon_pool *pool, tn_block *block) {
    tn_block_record *record = block->node;
    if (record == NULL)
        return;
    uint64_t id = block->id;
    *block = (tn_block){0};
    if (!tn_enter(pool))
        return;
    tn_finding finding;
    finding.count = 0; /* the line is long, and hardly ever written */
    /* A node that is free, or that serves another block by now: somebody frees twice. */
    if (!record->node.used || record->id != id)
        tn_finding_add_locked(pool, &finding, "block %llu was freed twice", (unsigned long long)id);
    else
        tn_take_back_locked(pool, record, &finding);
    unsigned watch = pool->watch;
    tn_leave(pool);
    tn_free_tell(pool, watch, id, &finding);
}

bool tn_pool_exchange(tenon_pool *pool, tn_block *block, size_t bytes, size_t alignment,
                      const char *owner) {
    tn_block_record *record = block->node;
    tn_request request = tn_request_of(pool, bytes, alignment, owner);
    tn_finding finding = {.count = 0};
    bool done = false;
    if (record == NULL || request.bytes == 0 || !tn_enter(pool))
        return false;

    if (!tn_fault_strikes_locked(pool, bytes) && pool->nodes.free >= TN_NODES_READY) {
        tn_settle_locked(pool);
        tn_block_record old = *record;
        if (tn_guarded(pool))
            tn_guard_close_locked(pool, record, &finding);
        tn_tlsf_node *merged = tn_tlsf_release(&pool->tlsf, &record->node, &pool->nodes);
        tn_tlsf_place place = tn_tlsf_find_thorough(&pool->tlsf, request.bytes, request.alignment);
        if (place.node != NULL) {
            if ((pool->watch & TN_WATCH_RECORD) != 0)
                tn_record_locked(pool, "free %llu\n", (unsigned long long)old.id);
            tn_count_back_locked(pool, &old);
            *block = block_of(tn_hand_out_locked(pool, place, &request, &finding));
            done = true;
        } else {
            /* Merging gave back as many nodes as cutting the old block out again needs. */
            place = (tn_tlsf_place){merged, old.node.offset};
            record =
                (tn_block_record *)tn_tlsf_take(&pool->tlsf, place, old.node.bytes, &pool->nodes);
            record->buffer = old.buffer;
            record->id = old.id;
            block->node = record;
            if (tn_guarded(pool))
                tn_guard_open_locked(pool, record, &finding);
        }
    }
    tn_leave(pool);
    if (finding.count != 0)
        tn_finding_tell(pool, &finding);
    return done;
}
