/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_state.h: the pool from inside, shared by the pool_*.c files and buffer.c only.
 *
 * pool.c: life, allocation and freeing. pool_ladder.c: what happens when the quick way fails.
 * pool_segments.c: segments and slabs, to and from the system. pool_guard.c: debug pools.
 * pool_report.c: statistics, owners, snapshot. pool_trace.c: recording, logger, fault rules. A
 * function named *_locked is called with `lock` held.
 */
#ifndef TN_MEMORY_POOL_STATE_H
#define TN_MEMORY_POOL_STATE_H

#include <stdatomic.h>

#include "core/os.h"
#include "memory/pool.h"
#include "memory/records.h"
#include "memory/tlsf.h"

enum {
    /*
     * Free nodes without which an allocation goes the slow way: two for its own splits, and two
     * each for the new segment and the slab in the segment that the slow way may need before it.
     */
    TN_NODES_READY = 3 * TN_TLSF_SPLITS,
    TN_OWNERS = 64, /* owners told apart at once; later ones are counted together as "others" */
    TN_DEVICE_BYTES = 32 /* longest device name, with its end */
};

/* A block. The node comes first: tn_tlsf_node * and tn_block_record * convert. */
typedef struct tn_block_record {
    tn_tlsf_node node;
    size_t asked; /* bytes the caller wanted */
    size_t lead;  /* guard bytes before the caller's first byte (debug pools) */
    uint64_t id;
    uint32_t owner; /* index in the owners table */
} tn_block_record;

typedef struct tn_segment {
    struct tn_segment *next, *previous;
    tn_segment_memory memory;
    tn_block_record *lowest;
    size_t holes; /* bytes that went back to the system before the rest */
} tn_segment;

typedef struct tn_owner {
    const char
        *name; /* NULL: slot is free. Told apart by address; equal texts are joined for display */
    size_t bytes;
    uint64_t blocks;
} tn_owner;

typedef struct tn_fault {
    bool armed;
    tenon_fault_rule rule;
    uint64_t seen;
    uint64_t random;
} tn_fault;

struct tenon_pool {
    atomic_uint_fast64_t holders;
    char device[TN_DEVICE_BYTES];
    size_t segment_bytes;
    unsigned flags;
    tenon_allocator hooks;
    tenon_logger logger;
    tenon_log_level log_level;
    tn_segment_source source;

    tn_mutex slow;
    tn_reclaimer *reclaimers; /* under slow */

    tn_mutex lock; /* everything below */
    tn_tlsf tlsf;
    tn_records nodes;   /* tn_block_record */
    tn_records handles; /* tenon_buffer */
    tn_segment *segments;
    tenon_memory_info info; /* kept up to date but for largest_free */
    tn_owner owners[TN_OWNERS + 1];
    tn_fault fault;
    tenon_text_sink record_sink;
    void *record_user;
};

/* A request in the pool's terms. */
typedef struct tn_request {
    size_t asked, alignment; /* as the caller said; alignment at least TN_GRANULE */
    size_t bytes; /* of the block: with guards, rounded up; 0 if no block can be so large */
    size_t lead;
    const char *owner;
} tn_request;

/* What a debug pool found; written under the lock, told after it. */
typedef struct tn_finding {
    unsigned count;
    char line[200];
} tn_finding;

/* pool.c */
tn_request tn_request_of(const tenon_pool *pool, size_t bytes, size_t alignment, const char *owner);
void tn_hand_out_locked(tenon_pool *pool, tn_tlsf_place place, const tn_request *request,
                        tn_block *block, tn_finding *finding);

/* pool_ladder.c */
tenon_status tn_ladder_climb(tenon_pool *pool, const tn_request *request, tn_block *block,
                             tn_finding *finding, tn_message *message);

/* pool_segments.c; with slow held and lock not */
void tn_segments_hold_down(tenon_pool *pool, size_t coming, size_t asked);
bool tn_segment_add(tenon_pool *pool, size_t bytes, const tn_request *request, tn_block *block,
                    tn_finding *finding);
size_t tn_segments_give(tenon_pool *pool, size_t keep, uint64_t *count);
size_t tn_segments_empty(tenon_pool *pool);
void tn_segments_close(tenon_pool *pool);
bool tn_refill(tenon_pool *pool, tn_records *records, size_t count);
bool tn_nodes_ready(tenon_pool *pool);
tn_segment_source tn_host_source(tenon_pool *pool);

/* pool_guard.c; the checks are for pools that are tn_guarded */
void tn_guard_segment(const tn_segment_memory *memory);
void tn_guard_open_locked(tenon_pool *pool, tn_block_record *record, tn_finding *finding);
void tn_guard_close_locked(tenon_pool *pool, tn_block_record *record, tn_finding *finding);
void tn_guard_sweep_locked(tenon_pool *pool, tn_finding *finding);
void tn_finding_add_locked(tenon_pool *pool, tn_finding *finding, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void tn_finding_tell(tenon_pool *pool, const tn_finding *finding);

/* pool_report.c */
uint32_t tn_owner_enter_locked(tenon_pool *pool, const char *name, size_t bytes);
void tn_owner_leave_locked(tenon_pool *pool, uint32_t owner, size_t bytes);
size_t tn_largest_free_locked(const tenon_pool *pool);
tenon_status tn_fail_short_locked(tenon_pool *pool, const tn_request *request, tenon_status status,
                                  const char *why, tn_message *message);

/* pool_trace.c */
bool tn_fault_strikes_locked(tenon_pool *pool, size_t bytes);
void tn_record_locked(tenon_pool *pool, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void tn_log(tenon_pool *pool, tenon_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Debug checks need memory that the host can read and write. */
static inline bool tn_guarded(const tenon_pool *pool) {
    return (pool->flags & TENON_POOL_DEBUG) != 0 && pool->source.host;
}

static inline bool tn_logs(const tenon_pool *pool, tenon_log_level level) {
    return pool->logger.log != NULL && level <= pool->log_level;
}

static inline tn_segment *tn_segment_of(const tn_block_record *record) {
    return record->node.segment;
}

#endif
