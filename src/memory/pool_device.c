/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_device.c: segments of memory that is not the host's.
 *
 * Where device and host share memory, a segment is made as a host pool's (pages under the account
 * of this process, or the caller's hooks, committed at once) and lent to the device; else it is the
 * device's. Rung 5 of the ladder is here: a driver frees what queued work still uses when that is
 * done, so a refusal is worth a wait.
 */
#include "memory/pool_state.h"

static bool take_host(tenon_pool *pool, size_t bytes, tn_segment_memory *out) {
    tn_space *space = pool->space;
    tn_segment_memory pages;
    if (!tn_host_take(pool, bytes, &pages))
        return false;
    if (space->calls->lend(space, pages.address, bytes, out, NULL) == TENON_OK)
        return true;
    tn_host_give(pool, &pages);
    pool->refusal = "the driver takes no more";
    return false;
}

static bool take(tenon_pool *pool, size_t bytes, tn_segment_memory *out) {
    if (pool->space->host_pages)
        return take_host(pool, bytes, out);
    return pool->space->calls->alloc(pool->space, bytes, out);
}

static bool device_alloc(void *user, size_t bytes, tn_segment_memory *out) {
    tenon_pool *pool = user;
    tn_space *space = pool->space;
    pool->refusal = NULL;
    if (bytes > space->most) {
        pool->refusal = "more than the device gives in one piece";
        return false;
    }
    if (take(pool, bytes, out))
        return true;
    if (space->calls->wait(space, NULL) != TENON_OK)
        return false;
    tn_pool_count_rung(pool, TN_RUNG_WAIT);
    return take(pool, bytes, out);
}

static void device_free(void *user, const tn_segment_memory *memory) {
    tenon_pool *pool = user;
    tn_space *space = pool->space;
    if (!space->host_pages) {
        space->calls->free(space, memory);
        return;
    }
    if (space->calls->withdraw(space, memory))
        tn_host_give(pool, memory);
}

static bool device_give_part(void *user, const tn_segment_memory *memory, size_t offset,
                             size_t bytes) {
    const tenon_pool *pool = user;
    return pool->space->calls->give_part(pool->space, memory, offset, bytes);
}

tn_segment_source tn_device_source(tenon_pool *pool) {
    const tn_segment_source host = tn_host_source(pool);
    tn_segment_source source = {.user = pool,
                                .alloc = device_alloc,
                                .free = device_free,
                                .granularity = pool->space->granularity};
    if (pool->space->host_pages && source.granularity < host.granularity)
        source.granularity = host.granularity;
    if (!pool->space->host_pages && pool->space->calls->give_part && pool->space->part) {
        source.give_part = device_give_part;
        source.part = pool->space->part;
    }
    return source;
}
