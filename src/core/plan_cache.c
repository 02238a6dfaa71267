/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two hash tables with a list by last use through their entries.
 */
#include "core/plan_cache.h"

#include <string.h>

static void unlink_use(tn_plan_cache *cache, tenon_plan *plan) {
    if (plan->newer)
        plan->newer->older = plan->older;
    else
        cache->newest = plan->older;
    if (plan->older)
        plan->older->newer = plan->newer;
    else
        cache->oldest = plan->newer;
    plan->newer = plan->older = NULL;
}

static void link_newest(tn_plan_cache *cache, tenon_plan *plan) {
    plan->older = cache->newest;
    if (cache->newest)
        cache->newest->newer = plan;
    else
        cache->oldest = plan;
    cache->newest = plan;
}

static void make_newest(tn_plan_cache *cache, tenon_plan *plan) {
    if (plan == cache->newest)
        return;
    unlink_use(cache, plan);
    link_newest(cache, plan);
}

tenon_plan *tn_plan_cache_find(tn_plan_cache *cache, const tn_plan_request *request,
                               uint64_t hash) {
    for (tenon_plan *plan = cache->bucket[hash % TN_PLAN_BUCKETS]; plan; plan = plan->next) {
        if (plan->hash != hash || !tn_request_equal(&plan->request, request))
            continue;
        make_newest(cache, plan);
        return plan;
    }
    return NULL;
}

tenon_plan *tn_plan_cache_recall(tn_plan_cache *cache, const tn_plan_words *said) {
    const uint64_t hash = tn_plan_words_hash(said);
    for (tenon_plan *plan = cache->said[hash % TN_PLAN_BUCKETS]; plan; plan = plan->next_said) {
        if (plan->words_hash != hash)
            continue;
        const tn_plan_words its = tn_plan_words_of(&plan->request);
        if (its.op != said->op || its.workspace_limit != said->workspace_limit ||
            its.bytes != said->bytes || memcmp(its.words, said->words, said->bytes) != 0)
            continue;
        make_newest(cache, plan);
        return plan;
    }
    return NULL;
}

static void evict(tn_plan_cache *cache, tenon_plan *plan) {
    tenon_plan **link = &cache->bucket[plan->hash % TN_PLAN_BUCKETS];
    while (*link != plan)
        link = &(*link)->next;
    *link = plan->next;
    if (plan->request.memo) {
        link = &cache->said[plan->words_hash % TN_PLAN_BUCKETS];
        while (*link != plan)
            link = &(*link)->next_said;
        *link = plan->next_said;
    }
    unlink_use(cache, plan);
    cache->bytes -= plan->bytes;
    tenon_plan_destroy(plan);
}

void tn_plan_cache_insert(tn_plan_cache *cache, tenon_plan *plan) {
    if (plan->bytes > cache->limit) {
        tenon_plan_destroy(plan);
        return;
    }
    while (cache->bytes + plan->bytes > cache->limit)
        evict(cache, cache->oldest);
    plan->next = cache->bucket[plan->hash % TN_PLAN_BUCKETS];
    cache->bucket[plan->hash % TN_PLAN_BUCKETS] = plan;
    if (plan->request.memo) {
        plan->next_said = cache->said[plan->words_hash % TN_PLAN_BUCKETS];
        cache->said[plan->words_hash % TN_PLAN_BUCKETS] = plan;
    }
    link_newest(cache, plan);
    cache->bytes += plan->bytes;
}

size_t tn_plan_cache_clear(tn_plan_cache *cache) {
    const size_t bytes = cache->bytes;
    for (tenon_plan *plan = cache->oldest; plan;) {
        tenon_plan *newer = plan->newer;
        if (plan != cache->in_use)
            evict(cache, plan);
        plan = newer;
    }
    return bytes - cache->bytes;
}
