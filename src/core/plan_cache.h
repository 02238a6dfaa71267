/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans of one-shot calls, kept per context under a bound in bytes; the least recently used go
 * first. A cache that can't take a plan is no failure: the call runs without. Used by the thread
 * that is inside the context.
 */
#ifndef TN_PLAN_CACHE_H
#define TN_PLAN_CACHE_H

#include "core/plan_internal.h"

#define TN_PLAN_BUCKETS 128

typedef struct tn_plan_cache {
    size_t limit, bytes;
    tenon_plan *newest, *oldest;
    tenon_plan *bucket[TN_PLAN_BUCKETS]; /* by request */
    tenon_plan *said[TN_PLAN_BUCKETS];   /* by the memo's words, those that have them */
    const tenon_plan *in_use;            /* stays when the cache is cleared; NULL: none */
} tn_plan_cache;

/* The plan of an equal request, now the newest, or NULL. */
tenon_plan *tn_plan_cache_find(tn_plan_cache *cache, const tn_plan_request *request, uint64_t hash);

/* The plan whose memo has these words, now the newest, or NULL. */
tenon_plan *tn_plan_cache_recall(tn_plan_cache *cache, const tn_plan_words *said);

/* Takes ownership of `plan`; destroys it at once if it is larger than the whole cache may be. */
void tn_plan_cache_insert(tn_plan_cache *cache, tenon_plan *plan);

/* Destroys all plans but the one in use; returns the bytes freed. */
size_t tn_plan_cache_clear(tn_plan_cache *cache);

#endif
