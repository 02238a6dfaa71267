/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_ladder.c: what a pool does before it says no.
 *
 * Entered when the constant-time search has missed. Rungs, in order: (1) a thorough search of the
 * free blocks; a new segment within the budget; (2) empty segments back to the system and ask
 * again; (3) reclaimers: idle arenas; then the failure with its figures. Rungs 4 to 6 (smaller
 * plan, wait, next device) and the context's own part of 3 (its plan cache) belong to the core,
 * which counts them here and says at the end whether there was a failure (tn_pool_try). One thread
 * climbs at a time; the others go on with the quick way. Nothing is logged until all locks are
 * free.
 */
#include <stdio.h>

#include "core/checked.h"
#include "memory/pool_state.h"

typedef struct climb {
    tenon_pool *pool;
    const tn_request *request;
    tn_block_record **record;
    tn_finding *finding;
    bool over_budget; /* what the last attempt to grow failed for; otherwise the system refused */
    size_t grown, given, dropped;
    uint64_t segments_given;
} climb;

/* Rung 1: any free block that fits. The quick search comes first, for memory that came back
 * meanwhile. */
static bool reuse(climb *c) {
    tenon_pool *pool = c->pool;
    const tn_request *request = c->request;
    tn_mutex_lock(&pool->lock);
    tn_settle_locked(pool);
    tn_tlsf_place place = tn_tlsf_find(&pool->tlsf, request->bytes, request->alignment);
    if (place.node == NULL) {
        place = tn_tlsf_find_thorough(&pool->tlsf, request->bytes, request->alignment);
        pool->info.ladder.coalesced += place.node != NULL;
    }
    if (place.node != NULL)
        *c->record = tn_hand_out_locked(pool, place, request, c->finding);
    tn_mutex_unlock(&pool->lock);
    return place.node != NULL;
}

/* Least bytes of a segment for the request. False: there is no such size. */
static bool segment_need(const climb *c, size_t *need) {
    return tn_align_size(c->request->bytes, c->pool->source.granularity, need) &&
           *need <= TN_BLOCK_MOST;
}

/* Pre: slow is held, under which alone `reserved` changes. */
static size_t room_of(const tenon_pool *pool) {
    size_t budget = pool->info.budget != 0 ? pool->info.budget : SIZE_MAX;
    return (budget - pool->info.reserved) & ~(pool->source.granularity - 1);
}

/* The system may have more by now than when the pool was made: a limit was lifted, others have
 * ended. */
static void renew_budget(tenon_pool *pool) {
    size_t budget = tn_budget_of_system(pool->info.reserved, pool->source.granularity);
    tn_mutex_lock(&pool->lock);
    if (budget > pool->info.budget)
        pool->info.budget = budget;
    tn_mutex_unlock(&pool->lock);
}

/* A new segment, if the budget allows one: of the pool's usual size, or else as much as is allowed
 * or to be had. */
static bool grow(climb *c) {
    tenon_pool *pool = c->pool;
    size_t granularity = pool->source.granularity, need, usual = pool->segment_bytes;
    c->over_budget = true;
    if ((pool->flags & TENON_POOL_FIXED) != 0 || !segment_need(c, &need))
        return false;
    size_t room = room_of(pool);
    if (need > room && pool->limited_by_system) {
        renew_budget(pool);
        room = room_of(pool);
    }
    if (need > room)
        return false;
    c->over_budget = false;
    if ((pool->flags & TENON_POOL_HUGE_PAGES) != 0 && usual < need &&
        !tn_align_size(need, (size_t)2 << 20, &usual))
        usual = need;
    if (!tn_align_size(usual < need ? need : usual, granularity, &usual) || usual > room)
        usual = room;
    tn_segments_hold_down(pool, usual, c->request->asked);
    for (size_t bytes = usual;; bytes = need) {
        if (tn_segment_add(pool, bytes, c->request, c->record, c->finding)) {
            c->grown += bytes;
            return true;
        }
        if (bytes == need)
            return false;
    }
}

/* Rung 2's gift to the system, counted as such. Returns how many went, and their bytes. */
static uint64_t give_down_to(tenon_pool *pool, size_t keep, size_t *bytes) {
    uint64_t count = 0;
    *bytes = tn_segments_give(pool, keep, &count);
    tn_mutex_lock(&pool->lock);
    pool->info.ladder.segments_given += count;
    tn_mutex_unlock(&pool->lock);
    return count;
}

/*
 * Rung 2: room for a segment by giving others back; for one of the usual size, if that can be had,
 * so that small requests are not each served by a segment of their own. False if that gives none.
 */
static bool give_segments(climb *c) {
    tenon_pool *pool = c->pool;
    size_t keep = 0, need;
    if (!segment_need(c, &need))
        return false;
    if (c->over_budget) {
        size_t budget = pool->info.budget, want = need;
        size_t least = pool->info.reserved - tn_segments_empty(pool);
        if (need > budget || least > budget - need)
            return false; /* not even all of them would make room */
        if (want < pool->segment_bytes)
            want = pool->segment_bytes < budget - least ? pool->segment_bytes : budget - least;
        keep = budget - want;
    }
    size_t bytes;
    uint64_t count = give_down_to(pool, keep, &bytes);
    c->given += bytes;
    c->segments_given += count;
    return count != 0;
}

static bool serve(climb *c) {
    /* For records a fixed pool has nothing but its segment either. */
    c->over_budget = (c->pool->flags & TENON_POOL_FIXED) != 0;
    if (!tn_nodes_ready(c->pool) && !(give_segments(c) && tn_nodes_ready(c->pool)))
        return false;
    return reuse(c) || grow(c) || (give_segments(c) && grow(c));
}

/* Rung 3: whoever can do without some blocks frees them, one holder at a time. */
static bool reclaim(climb *c) {
    tenon_pool *pool = c->pool;
    for (tn_reclaimer *reclaimer = pool->reclaimers; reclaimer != NULL;
         reclaimer = reclaimer->next) {
        atomic_store(&pool->reclaiming, true);
        size_t freed = reclaimer->give_back(reclaimer->user, c->request->bytes);
        atomic_store(&pool->reclaiming, false);
        if (freed == 0)
            continue;
        c->dropped += freed;
        tn_mutex_lock(&pool->lock);
        ++pool->info.ladder.caches_dropped;
        tn_mutex_unlock(&pool->lock);
        if (serve(c))
            return true;
    }
    return false;
}

tenon_status tn_refusal(const tenon_pool *pool, char why[TN_REASON_BYTES]) {
    if (pool->stray != NULL) {
        snprintf(why, TN_REASON_BYTES, "allocator.alloc returned %p, expected a multiple of %zu",
                 pool->stray, pool->stray_alignment);
        return TENON_ERROR_INVALID_ARGUMENT;
    }
    tn_space *space = pool->space;
    if (space != NULL && space->calls->check != NULL) {
        const tenon_status status = space->calls->check(space, NULL);
        if (status != TENON_OK) {
            snprintf(why, TN_REASON_BYTES, "the device was lost");
            return status;
        }
    }
    snprintf(why, TN_REASON_BYTES, "%s",
             pool->refusal != NULL ? pool->refusal : "the system has no more");
    return TENON_ERROR_OUT_OF_MEMORY;
}

/* The answer to a request that could not be served. */
static tenon_status refuse(const climb *c, tn_message *message) {
    tenon_pool *pool = c->pool;
    const bool fixed = (pool->flags & TENON_POOL_FIXED) != 0;
    const bool limited = fixed || (pool->info.budget != 0 && !pool->limited_by_system);
    const bool impossible = c->request->bytes == 0;
    char why[TN_REASON_BYTES];
    tenon_status status = TENON_ERROR_OUT_OF_MEMORY;
    if (limited && (impossible || c->over_budget))
        status = TENON_ERROR_OVER_BUDGET;
    if (impossible) {
        snprintf(why, sizeof why, "a block has at most %zu bytes", TN_BLOCK_MOST);
    } else if (status == TENON_ERROR_OVER_BUDGET) {
        snprintf(why, sizeof why, "%s",
                 fixed ? "the pool has a fixed size" : "over the pool's budget");
    } else if (c->over_budget) {
        snprintf(why, sizeof why, "more than this process may use");
    } else {
        status = tn_refusal(pool, why);
    }
    tn_mutex_lock(&pool->lock);
    tn_fail_short_locked(pool, c->request, status, why, message);
    tn_mutex_unlock(&pool->lock);
    return status;
}

bool tn_ladder_refill(tenon_pool *pool, tn_records *records) {
    size_t bytes;
    pool->stray = NULL;
    return tn_refill(pool, records, 0) ||
           (give_down_to(pool, 0, &bytes) != 0 && tn_refill(pool, records, 0));
}

tenon_status tn_ladder_climb(tenon_pool *pool, const tn_request *request, tn_block_record **record,
                             tn_finding *finding, tn_message *message) {
    climb c = {.pool = pool, .request = request, .record = record, .finding = finding};
    tenon_status status = TENON_OK;

    if (!tn_enter_slow(pool))
        return tn_fail_lost(pool, message);
    pool->refusal = NULL;
    pool->stray = NULL;
    if (request->bytes == 0 || (!serve(&c) && !reclaim(&c)))
        status = refuse(&c, message);
    tn_leave_slow(pool);

    if (c.grown != 0)
        tn_log(pool, TENON_LOG_INFO, "pool %s: new segment of %zu bytes", pool->device, c.grown);
    bool failure = status != TENON_OK && !request->tentative;
    if (failure || c.given != 0 || c.dropped != 0)
        tn_log(pool, TENON_LOG_WARNING,
               "pool %s: short of %zu bytes for '%.64s': gave %llu segments of %zu bytes back, had "
               "%zu bytes of caches dropped, then %s",
               pool->device, request->asked, request->owner, (unsigned long long)c.segments_given,
               c.given, c.dropped, status == TENON_OK ? "served it" : tenon_status_name(status));
    return status;
}

void tn_pool_refused(tenon_pool *pool, size_t bytes, const tn_message *message) {
    if (!tn_enter(pool))
        return;
    tn_count_failure_locked(pool, bytes);
    tn_leave(pool);
    tn_log(pool, TENON_LOG_WARNING, "%s", message->text);
}

void tn_pool_count_rung(tenon_pool *pool, tn_rung rung) {
    if (!tn_enter(pool))
        return;
    tenon_ladder_stats *ladder = &pool->info.ladder;
    switch (rung) {
    case TN_RUNG_CACHE_DROPPED:
        ++ladder->caches_dropped;
        break;
    case TN_RUNG_SMALLER_PLAN:
        ++ladder->smaller_plans;
        break;
    case TN_RUNG_WAIT:
        ++ladder->waits;
        break;
    case TN_RUNG_DEVICE_CHANGE:
        ++ladder->device_changes;
        break;
    }
    tn_leave(pool);
}

void tn_pool_add_reclaimer(tenon_pool *pool, tn_reclaimer *reclaimer) {
    if (!tn_enter_slow(pool))
        return;
    tn_mutex_lock(&pool->lock);
    reclaimer->previous = NULL;
    reclaimer->next = pool->reclaimers;
    if (reclaimer->next != NULL)
        reclaimer->next->previous = reclaimer;
    pool->reclaimers = reclaimer;
    tn_mutex_unlock(&pool->lock);
    tn_leave_slow(pool);
}

void tn_pool_remove_reclaimer(tenon_pool *pool, tn_reclaimer *reclaimer) {
    if (!tn_enter_slow(pool))
        return;
    tn_mutex_lock(&pool->lock);
    if (reclaimer->next != NULL)
        reclaimer->next->previous = reclaimer->previous;
    if (reclaimer->previous != NULL)
        reclaimer->previous->next = reclaimer->next;
    else
        pool->reclaimers = reclaimer->next;
    tn_mutex_unlock(&pool->lock);
    tn_leave_slow(pool);
}
