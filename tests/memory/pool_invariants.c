/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_invariants.c: a pool checked from inside, field by field, with nothing but loops.
 */
#include "pool_invariants.h"

#include <string.h>

typedef struct sums {
    size_t reserved, asked, free_nodes, used_nodes, holes;
    uint64_t segments;
    size_t owner_bytes[TN_OWNERS + 1];
    uint64_t owner_blocks[TN_OWNERS + 1];
} sums;

static bool is_pending(const tenon_pool *pool, const tn_tlsf_node *node) {
    for (unsigned i = pool->pending_begin; i != pool->pending_end; ++i) {
        const tn_pending *one = &pool->pending[i % TN_PENDING];
        if (&one->record->node == node)
            return one->bytes == node->bytes && one->record->id == 0;
    }
    return false;
}

static const char *check_segment(const tenon_pool *pool, const tn_segment *segment, sums *sum) {
    size_t at = 0, holes = 0;
    bool before_free = false;
    const tn_tlsf_node *before = NULL;
    for (const tn_tlsf_node *node = &segment->lowest->node; node != NULL; node = node->upper) {
        const tn_block_record *record = (const tn_block_record *)node;
        if (node->lower != before || node->segment != segment)
            return "a neighbour is not one";
        if (node->offset != at || node->bytes == 0 || node->bytes % TN_GRANULE != 0)
            return "blocks do not tile their segment";
        if (!node->used && before_free)
            return "two free blocks side by side";
        before_free = !node->used;
        at += node->bytes;
        before = node;
        if (!node->used) {
            ++sum->free_nodes;
        } else if (node->hole || is_pending(pool, node)) {
            ++sum->used_nodes;
            sum->holes += node->hole;
            holes += node->hole ? node->bytes : 0;
        } else {
            ++sum->used_nodes;
            if (record->id == 0 || record->id > pool->info.allocations)
                return "a block has no number";
            if (record->buffer.lead + record->buffer.bytes > node->bytes)
                return "a block is smaller than asked for";
            sum->asked += record->buffer.bytes;
            sum->owner_bytes[record->buffer.owner] += record->buffer.bytes;
            ++sum->owner_blocks[record->buffer.owner];
        }
    }
    if (at != segment->memory.bytes)
        return "blocks do not reach their segment's end";
    if (holes < segment->holes) /* more: one is on its way */
        return "a hole is not one";
    sum->reserved += segment->memory.bytes - segment->holes;
    ++sum->segments;
    return NULL;
}

static const char *check_lists(const tenon_pool *pool, const sums *sum) {
    size_t listed = 0;
    for (unsigned i = 0; i < TN_TLSF_FIRST; ++i) {
        if ((pool->tlsf.first_map >> i & 1) != (pool->tlsf.second_map[i] != 0))
            return "the upper map is wrong";
        for (unsigned j = 0; j < TN_TLSF_SECOND; ++j) {
            const tn_tlsf_node *head = pool->tlsf.heads[i][j], *previous = NULL;
            if ((pool->tlsf.second_map[i] >> j & 1) != (head != NULL))
                return "a lower map is wrong";
            for (const tn_tlsf_node *node = head; node != NULL; node = node->next, ++listed) {
                if (node->used || node->previous != previous)
                    return "a list is broken";
                previous = node;
            }
        }
    }
    return listed == sum->free_nodes ? NULL : "a free block is in no list";
}

static const char *check_counts(const tenon_pool *pool, const sums *sum) {
    const tenon_memory_info *info = &pool->info;
    if (sum->reserved > info->reserved || sum->segments > info->segments)
        return "segments are not counted"; /* fewer: some are on their way back to the system */
    if (info->budget != 0 && info->reserved > info->budget)
        return "the budget is exceeded";
    if (sum->holes != pool->tlsf.holes)
        return "holes are miscounted";
    if (sum->asked != info->in_use || info->in_use > info->peak_in_use)
        return "in_use is not what blocks hold";
    for (int i = 0; i <= TN_OWNERS; ++i)
        if (pool->owners[i].bytes != sum->owner_bytes[i] ||
            pool->owners[i].blocks != sum->owner_blocks[i])
            return "an owner does not hold what is his";
    size_t records = 0;
    for (const tn_record *record = pool->nodes.first; record != NULL; record = record->next)
        ++records;
    if (records != pool->nodes.free)
        return "free records are miscounted";
    if (records + sum->free_nodes + sum->used_nodes != pool->nodes.total)
        return "a record is lost";
    return NULL;
}

const char *pool_invariants(tenon_pool *pool) {
    sums sum;
    memset(&sum, 0, sizeof sum);
    if (!tn_enter(pool))
        return "the pool is lost";
    const char *wrong = NULL;
    for (const tn_segment *s = pool->segments; s != NULL && wrong == NULL; s = s->next) {
        if (s->next != NULL && s->next->previous != s)
            wrong = "the list of segments is broken";
        if (wrong == NULL)
            wrong = check_segment(pool, s, &sum);
    }
    if (wrong == NULL)
        wrong = check_lists(pool, &sum);
    if (wrong == NULL)
        wrong = check_counts(pool, &sum);
    tn_leave(pool);
    return wrong;
}
