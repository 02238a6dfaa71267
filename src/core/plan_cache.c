/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table with a list by last use through its entries.
 */
#include "core/plan_cache.h"

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

tenon_plan *tn_plan_cache_find(tn_plan_cache *cache, const tn_plan_request *request,
                               uint64_t hash) {
    for (tenon_plan *plan = cache->bucket[hash % TN_PLAN_BUCKETS]; plan; plan = plan->next) {
        if (plan->hash != hash || !tn_request_equal(&plan->request, request))
            continue;
        if (plan != cache->newest) {
            unlink_use(cache, plan);
            link_newest(cache, plan);
        }
        return plan;
    }
    return NULL;
}

static void evict(tn_plan_cache *cache, tenon_plan *plan) {
    tenon_plan **link = &cache->bucket[plan->hash % TN_PLAN_BUCKETS];
    while (*link != plan)
        link = &(*link)->next;
    *link = plan->next;
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
    link_newest(cache, plan);
    cache->bytes += plan->bytes;
}

size_t tn_plan_cache_clear(tn_plan_cache *cache) {
    const size_t bytes = cache->bytes;
    while (cache->oldest)
        evict(cache, cache->oldest);
    return bytes;
}
