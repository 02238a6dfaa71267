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
#include "core/read_desc.h"
#include "memory/buffer.h"
#include "memory/pool_state.h"

enum {
    SEGMENT_BYTES = 2 << 20, /* one huge page of x86-64 and arm64 */
    FIXED_BYTES_PER_NODE =
        16 << 10, /* fixed pools: nodes taken at creation; more come out of the segment */
    FIXED_NODES_LEAST = 128,
    FIXED_NODES_MOST = 16 << 10
};

static const unsigned all_flags =
    TENON_POOL_TOUCH | TENON_POOL_HUGE_PAGES | TENON_POOL_DEBUG | TENON_POOL_FIXED;

/* ---- life ---- */

static tenon_status check_desc(const tenon_pool_desc *desc, tn_message *message) {
    if ((desc->flags & ~all_flags) != 0)
        return tn_fail(
            message, TENON_ERROR_INVALID_ARGUMENT,
            "tenon_pool_create: flags is 0x%x, expected a combination of TENON_POOL_* (0x%x)",
            desc->flags, all_flags);
    if ((desc->allocator.alloc == NULL) != (desc->allocator.free == NULL))
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "tenon_pool_create: allocator has only one of alloc and free, expected both "
                       "or neither");
    if (desc->segment_bytes > TN_BLOCK_MOST)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "tenon_pool_create: segment_bytes is %zu, expected at most %zu",
                       desc->segment_bytes, TN_BLOCK_MOST);
    if ((int)desc->log_level < TENON_LOG_NONE || (int)desc->log_level > TENON_LOG_DEBUG)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "tenon_pool_create: log_level is %d, expected 0 to %d", (int)desc->log_level,
                       TENON_LOG_DEBUG);
    return TENON_OK;
}

static void close_pool(tenon_pool *pool) {
    tn_finding finding = {0};
    if (tn_guarded(pool)) {
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
    if (pool->info.blocks > borrowed)
        tn_log(pool, TENON_LOG_WARNING, "pool %s: closed with %llu blocks of %zu bytes in use",
               pool->device, (unsigned long long)pool->info.blocks, pool->info.in_use);
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
    tn_host_free(&hooks, pool, sizeof *pool);
}

/* A fixed pool takes everything now: its segment and the nodes for it. */
static tenon_status open_fixed(tenon_pool *pool, size_t budget, tn_message *message) {
    size_t granularity = pool->source.granularity;
    size_t bytes = pool->segment_bytes;
    if (budget != 0 && bytes > budget)
        return tn_fail(message, TENON_ERROR_OVER_BUDGET,
                       "pool %s: fixed segment_bytes %zu is more than the budget %zu", pool->device,
                       bytes, budget);
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
    if (!tn_refill(pool, &pool->nodes, count) || !tn_refill(pool, &pool->handles, count) ||
        !tn_segment_add(pool, bytes, NULL, NULL, NULL))
        return tn_fail(message, TENON_ERROR_OUT_OF_MEMORY,
                       "pool %s: the system refuses %zu bytes for the fixed segment", pool->device,
                       bytes);
    return TENON_OK;
}

tenon_status tn_pool_open(const tenon_pool_desc *given, const tn_segment_source *source,
                          tn_message *message, tenon_pool **out) {
    *out = NULL;
    tenon_pool_desc desc;
    tenon_status status = tn_read_desc("tenon_pool_create", given, &desc, sizeof desc, message);
    if (status == TENON_OK)
        status = check_desc(&desc, message);
    if (status != TENON_OK)
        return status;
    tenon_pool *pool = tn_host_alloc_zero(&desc.allocator, sizeof *pool, TN_CACHE_LINE);
    if (pool == NULL)
        return tn_fail(message, TENON_ERROR_OUT_OF_MEMORY,
                       "pool: the system refuses %zu bytes for the pool itself", sizeof *pool);
    atomic_init(&pool->holders, 1);
    snprintf(pool->device, sizeof pool->device, "%s", desc.device != NULL ? desc.device : "cpu");
    pool->segment_bytes = desc.segment_bytes != 0 ? desc.segment_bytes
                          : (desc.flags & TENON_POOL_FIXED) != 0 && desc.budget != 0
                              ? desc.budget
                              : SEGMENT_BYTES;
    pool->flags = desc.flags;
    pool->hooks = desc.allocator;
    pool->logger = desc.logger;
    pool->log_level = desc.log_level;
    pool->source = source != NULL ? *source : tn_host_source(pool);
    pool->info.budget = desc.budget;
    tn_mutex_init(&pool->slow);
    tn_mutex_init(&pool->lock);
    bool patient = (desc.flags & TENON_POOL_DEBUG) != 0;
    tn_records_open(&pool->nodes, sizeof(tn_block_record), patient);
    tn_records_open(&pool->handles, sizeof(tenon_buffer), patient);
    if ((desc.flags & TENON_POOL_FIXED) != 0)
        status = open_fixed(pool, desc.budget, message);
    if (status != TENON_OK) {
        close_pool(pool);
        return status;
    }
    tn_log(pool, TENON_LOG_INFO, "pool %s: made with budget %zu, segments of %zu bytes, flags 0x%x",
           pool->device, desc.budget, pool->segment_bytes, desc.flags);
    *out = pool;
    return TENON_OK;
}

tenon_status tenon_pool_create(const tenon_pool_desc *desc, tenon_pool **out) {
    if (out == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_pool_create: out is NULL, expected an address");
    *out = NULL;
    const char *device = desc != NULL && desc->device != NULL ? desc->device : "cpu";
    if (strcmp(device, "cpu") != 0 && strcmp(device, "reference") != 0)
        return tn_fail_shared(TENON_ERROR_NO_DEVICE,
                              "tenon_pool_create: device is \"%.64s\", expected \"cpu\"", device);
    tn_message message;
    tenon_status status = tn_pool_open(desc, NULL, &message, out);
    if (status != TENON_OK)
        tn_message_publish(&message);
    return status;
}

void tn_pool_retain(tenon_pool *pool) {
    atomic_fetch_add_explicit(&pool->holders, 1, memory_order_relaxed);
}

void tn_pool_release(tenon_pool *pool) {
    if (pool != NULL && atomic_fetch_sub_explicit(&pool->holders, 1, memory_order_acq_rel) == 1)
        close_pool(pool);
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

tn_request tn_request_of(const tenon_pool *pool, size_t bytes, size_t alignment,
                         const char *owner) {
    tn_request request = {.asked = bytes,
                          .alignment = alignment < TN_GRANULE ? TN_GRANULE : alignment,
                          .owner = owner != NULL ? owner : "caller"};
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

/* Fills in a node that was just taken, and the counts. */
void tn_hand_out_locked(tenon_pool *pool, tn_tlsf_place place, const tn_request *request,
                        tn_block *block, tn_finding *finding) {
    tn_block_record *record =
        (tn_block_record *)tn_tlsf_take(&pool->tlsf, place, request->bytes, &pool->nodes);
    tenon_memory_info *info = &pool->info;
    record->asked = request->asked;
    record->lead = request->lead;
    record->id = ++info->allocations;
    record->owner = tn_owner_enter_locked(pool, request->owner, request->asked);
    ++info->blocks;
    info->in_use += request->asked;
    if (info->in_use > info->peak_in_use)
        info->peak_in_use = info->in_use;
    if (tn_guarded(pool))
        tn_guard_open_locked(pool, record, finding);

    const tn_segment_memory *memory = &tn_segment_of(record)->memory;
    *block = (tn_block){.handle = memory->handle,
                        .offset = record->node.offset + record->lead,
                        .bytes = request->asked,
                        .node = record,
                        .id = record->id};
    if (memory->address != NULL)
        block->address = (unsigned char *)memory->address + block->offset;
    tn_record_locked(pool, "alloc %llu %zu %zu %.64s\n", (unsigned long long)record->id,
                     request->asked, request->alignment, request->owner);
}

/* The counts of a block that goes; its node is released by the caller. */
static void take_back_locked(tenon_pool *pool, const tn_block_record *record) {
    --pool->info.blocks;
    ++pool->info.frees;
    pool->info.in_use -= record->asked;
    tn_owner_leave_locked(pool, record->owner, record->asked);
    tn_record_locked(pool, "free %llu\n", (unsigned long long)record->id);
}

tenon_status tn_pool_alloc(tenon_pool *pool, size_t bytes, size_t alignment, const char *owner,
                           tn_block *block, tn_message *message) {
    *block = (tn_block){0};
    if (alignment > TN_ALIGNMENT_MOST || (alignment & (alignment - 1)) != 0)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "pool %s: alignment is %zu; expected a power of two up to %d", pool->device,
                       alignment, TN_ALIGNMENT_MOST);
    tn_request request = tn_request_of(pool, bytes, alignment, owner);
    tenon_status status = TENON_OK;
    tn_finding finding = {0};
    tn_tlsf_place place = {NULL, 0};

    tn_mutex_lock(&pool->lock);
    if (tn_fault_strikes_locked(pool, bytes))
        status = tn_fail_short_locked(pool, &request, TENON_ERROR_OUT_OF_MEMORY,
                                      "failed on request of tenon_memory_inject", message);
    else if (request.bytes != 0 && pool->nodes.free >= TN_NODES_READY)
        place = tn_tlsf_find(&pool->tlsf, request.bytes, request.alignment);
    if (place.node != NULL)
        tn_hand_out_locked(pool, place, &request, block, &finding);
    tn_mutex_unlock(&pool->lock);

    if (status == TENON_OK && place.node == NULL)
        status = tn_ladder_climb(pool, &request, block, &finding, message);
    if (finding.count != 0)
        tn_finding_tell(pool, &finding);
    if (tn_logs(pool, TENON_LOG_DEBUG)) {
        if (status == TENON_OK)
            tn_log(pool, TENON_LOG_DEBUG, "pool %s: block %llu of %zu bytes for '%.64s'",
                   pool->device, (unsigned long long)block->id, bytes, request.owner);
        else
            tn_log(pool, TENON_LOG_DEBUG, "pool %s: no block of %zu bytes for '%.64s'",
                   pool->device, bytes, request.owner);
    }
    return status;
}

void tn_pool_free(tenon_pool *pool, tn_block *block) {
    tn_block_record *record = block->node;
    if (record == NULL)
        return;
    uint64_t id = block->id;
    tn_finding finding = {0};
    tn_mutex_lock(&pool->lock);
    /* A node that is free, or that serves another block by now: somebody frees twice. */
    if (!record->node.used || record->id != id) {
        tn_finding_add_locked(pool, &finding, "block %llu was freed twice", (unsigned long long)id);
    } else {
        if (tn_guarded(pool))
            tn_guard_close_locked(pool, record, &finding);
        take_back_locked(pool, record);
        tn_tlsf_release(&pool->tlsf, &record->node, &pool->nodes);
    }
    tn_mutex_unlock(&pool->lock);
    *block = (tn_block){0};
    if (finding.count != 0)
        tn_finding_tell(pool, &finding);
    if (tn_logs(pool, TENON_LOG_DEBUG))
        tn_log(pool, TENON_LOG_DEBUG, "pool %s: block %llu freed", pool->device,
               (unsigned long long)id);
}

bool tn_pool_exchange(tenon_pool *pool, tn_block *block, size_t bytes, size_t alignment,
                      const char *owner) {
    tn_block_record *record = block->node;
    tn_request request = tn_request_of(pool, bytes, alignment, owner);
    tn_finding finding = {0};
    bool done = false;
    if (record == NULL || request.bytes == 0)
        return false;

    tn_mutex_lock(&pool->lock);
    if (!tn_fault_strikes_locked(pool, bytes) && pool->nodes.free >= TN_NODES_READY) {
        const tn_block_record old = *record;
        if (tn_guarded(pool))
            tn_guard_close_locked(pool, record, &finding);
        tn_tlsf_node *merged = tn_tlsf_release(&pool->tlsf, &record->node, &pool->nodes);
        tn_tlsf_place place = tn_tlsf_find_thorough(&pool->tlsf, request.bytes, request.alignment);
        if (place.node != NULL) {
            take_back_locked(pool, &old);
            tn_hand_out_locked(pool, place, &request, block, &finding);
            done = true;
        } else {
            /* Merging gave back as many nodes as cutting the old block out again needs. */
            place = (tn_tlsf_place){merged, old.node.offset};
            record =
                (tn_block_record *)tn_tlsf_take(&pool->tlsf, place, old.node.bytes, &pool->nodes);
            record->asked = old.asked;
            record->lead = old.lead;
            record->id = old.id;
            record->owner = old.owner;
            block->node = record;
            if (tn_guarded(pool))
                tn_guard_open_locked(pool, record, &finding);
        }
    }
    tn_mutex_unlock(&pool->lock);
    if (finding.count != 0)
        tn_finding_tell(pool, &finding);
    return done;
}
