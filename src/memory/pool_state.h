/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_state.h: the pool from inside, shared by the pool_*.c files and buffer.c only.
 *
 * pool.c: life, allocation and freeing. pool_device.c: segments of memory that is not the host's.
 * pool_fork.c: what a fork leaves of a pool.
 * pool_ladder.c: what happens when the quick way fails. pool_segments.c: segments and slabs, to and
 * from the system. pool_guard.c: debug pools. pool_promise.c: what pools without a budget hold
 * together. pool_report.c: statistics, owners, snapshot. pool_trace.c: recording, logger, fault
 * rules. A function named *_locked is called with `lock` held.
 */
#ifndef TN_MEMORY_POOL_STATE_H
#define TN_MEMORY_POOL_STATE_H

#include <stdatomic.h>

#include "core/os.h"
#include "memory/buffer.h"
#include "memory/pool.h"
#include "memory/records.h"
#include "memory/tlsf.h"

enum {
    /*
     * Free nodes without which an allocation goes the slow way: two for its own splits, and two
     * each for the new segment and the slab in the segment that the slow way may need before it.
     */
    TN_NODES_READY = 3 * TN_TLSF_SPLITS,
    TN_LARGE = 1 << 20, /* blocks of which a part may go back when the pool grows */
    TN_PENDING = 16, /* freed blocks that wait to be merged, a power of two; see tn_settle_locked */
    TN_OWNERS = 64,  /* owners told apart at once; later ones are counted together as "others" */
    TN_DEVICE_BYTES = 32, /* longest device name, with its end */
    TN_REASON_BYTES = 128 /* why there is no memory, in a message's brackets */
};

/*
 * A block and the handle of the buffer that it may be, in two cache lines. The node comes first:
 * tn_tlsf_node * and tn_block_record * convert. buffer.bytes, lead and owner are kept for every
 * block, the rest of the buffer where there is one.
 */
typedef struct tn_block_record {
    tn_tlsf_node node;
    tenon_buffer buffer;
    uint64_t id; /* count of the allocation */
} tn_block_record;

/* A handle without a block of its own: a view, or foreign memory. */
typedef struct tn_handle_record {
    union {
        void *link;   /* the free list's, so that the mark of a freed handle stays readable */
        void *handle; /* of a device's foreign memory */
    };
    tenon_buffer buffer;
} tn_handle_record;

typedef struct tn_segment {
    struct tn_segment *next, *previous;
    tn_segment_memory memory;
    tn_block_record *lowest;
    size_t holes; /* bytes that went back to the system before the rest */
} tn_segment;

typedef struct tn_owner {
    /* The name stands between the counts: side by side, compilers load as one pair what was stored
     * as two numbers, which waits for both stores to reach the cache. */
    size_t bytes;
    const char
        *name; /* NULL: never used. Told apart by address; equal texts are joined for display */
    uint64_t blocks; /* 0: the slot is free */
} tn_owner;

typedef struct tn_fault {
    bool armed;
    tenon_fault_rule rule;
    uint64_t seen;
    uint64_t random;
} tn_fault;

/* What makes an allocation or a free do more than its bookkeeping; 0 in a pool nobody looks at. */
#define TN_WATCH_GUARDS 1u /* a debug pool of host memory */
#define TN_WATCH_FAULTS 2u /* a fault rule is set */
#define TN_WATCH_RECORD 4u /* a recording runs */
#define TN_WATCH_LOG 8u    /* the logger wants each allocation */

typedef struct tn_pending {
    size_t bytes; /* of the node */
    tn_block_record *record;
} tn_pending;

struct tenon_pool {
    /* The process that uses the pool, and what a fork has left of it; see pool_fork.c. */
    tn_fork_mark home;
    _Atomic uint32_t claimed, lost; /* numbers of processes */
    atomic_bool reclaiming;         /* somebody is in a give_back */

    char device[TN_DEVICE_BYTES];
    size_t segment_bytes;
    unsigned flags;
    bool limited_by_system; /* the budget is what this process may use, not the caller's */
    tenon_allocator hooks;
    tenon_logger logger;
    tenon_log_level log_level;
    tn_segment_source source;
    tn_space *space; /* whose memory the segments are; NULL: the host's, or a source's */

    tn_mutex slow;
    const char *refusal;      /* under slow: why the system gave no segment, if it is known */
    const void *stray;        /* under slow: what hooks answered with though it is misaligned … */
    size_t stray_alignment;   /* … to this; NULL: nothing of the kind in this climb */
    uint64_t debt;            /* under slow: see tn_segments_hold_down */
    tn_reclaimer *reclaimers; /* under slow; changed under both, so that a fork finds it whole */

    _Alignas(TN_CACHE_LINE) tn_mutex lock; /* everything below */
    unsigned watch;                        /* TN_WATCH_* */
    unsigned pending_begin,
        pending_end;        /* counts: freed ones [begin, end) wait, at their rests by TN_PENDING */
    uint64_t holders;       /* contexts, the caller, and every buffer */
    tn_records nodes;       /* tn_block_record */
    tenon_memory_info info; /* kept up to date but for largest_free and blocks */
    tn_pending pending[TN_PENDING];
    uint64_t large_taken; /* bytes of large blocks handed out since they last paid for `debt` */
    tn_tlsf tlsf;
    uint8_t owner_near[TN_OWNERS]; /* by a hash of the name's address: where it was last */
    tn_owner owners[TN_OWNERS + 1];
    tn_records handles; /* tn_handle_record */
    tn_segment *segments;
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
    bool tentative; /* who asks has another way: a refusal is not a failure yet */
} tn_request;

/* What a debug pool found; written under the lock, told after it. */
typedef struct tn_finding {
    unsigned count;
    char line[200];
} tn_finding;

/* pool.c */
tn_request tn_request_of(const tenon_pool *pool, size_t bytes, size_t alignment, const char *owner);
tn_block_record *tn_hand_out_locked(tenon_pool *pool, tn_tlsf_place place,
                                    const tn_request *request, tn_finding *finding);
void tn_take_back_locked(tenon_pool *pool, tn_block_record *record, tn_finding *finding);
void tn_settle_locked(tenon_pool *pool);
void tn_settle_oldest_locked(tenon_pool *pool);
void tn_pool_close(tenon_pool *pool);

/*
 * As tn_pool_alloc, but answers the record, and with `lock` held, which it gives back. With
 * TN_TAKE_BUFFER its buffer has become one more holder of the pool in the same step; what the
 * buffer shows is the caller's to fill in. With TN_TAKE_TRY as tn_pool_try. Pre: the alignment is a
 * legal one.
 */
#define TN_TAKE_BUFFER 1u
#define TN_TAKE_TRY 2u
tenon_status tn_block_take_held(tenon_pool *pool, size_t bytes, size_t alignment, const char *owner,
                                unsigned take, tn_block_record **out, tn_message *message);

extern const char tn_nobody[]; /* the owner of what has none */

/* Tells what a free found, when `watch` asked for it. */
void tn_free_tell(tenon_pool *pool, unsigned watch, uint64_t id, const tn_finding *finding);

/* pool_fork.c */
bool tn_pool_adopt(tenon_pool *pool);
tenon_status tn_fail_lost(const tenon_pool *pool, tn_message *message);
tenon_status tn_fail_lost_shared(const tenon_pool *pool);

/* pool_ladder.c */
tenon_status tn_ladder_climb(tenon_pool *pool, const tn_request *request, tn_block_record **record,
                             tn_finding *finding, tn_message *message);

/*
 * Why the system, or the caller's hooks, gave nothing: OUT_OF_MEMORY, INVALID_ARGUMENT for hooks
 * that do not keep to alignments, or DEVICE_LOST, and the words for it. Pre: slow is held.
 */
tenon_status tn_refusal(const tenon_pool *pool, char why[TN_REASON_BYTES]);

/* One more slab of records, from empty segments if need be. Pre: slow is held. */
bool tn_ladder_refill(tenon_pool *pool, tn_records *records);

/*
 * pool_promise.c. The budget of a pool for which none was said and that holds `held` bytes: what
 * this process may use now, less a margin, and less what other such pools have promised. A pool
 * that never holds more can be written to the last byte without the system having to kill anybody
 * for it. 0: nothing is known of limits.
 */
size_t tn_budget_of_system(size_t held, size_t granularity);

/* Takes a segment of such a pool into the account: NULL, or why there is no room. And out of it. */
const char *tn_promise(size_t bytes);
void tn_promise_back(size_t bytes);

/* pool_segments.c; with slow held and lock not */
void tn_segments_hold_down(tenon_pool *pool, size_t coming, size_t asked);
bool tn_segment_add(tenon_pool *pool, size_t bytes, const tn_request *request,
                    tn_block_record **record, tn_finding *finding);
size_t tn_segments_give(tenon_pool *pool, size_t keep, uint64_t *count);
size_t tn_segments_empty(tenon_pool *pool);
void tn_segments_close(tenon_pool *pool);
bool tn_refill(tenon_pool *pool, tn_records *records, size_t count);
bool tn_nodes_ready(tenon_pool *pool);
tn_segment_source tn_host_source(tenon_pool *pool);
/* Its ways to the system, `user` being the pool: for devices that share the host's memory. */
bool tn_host_take(void *user, size_t bytes, tn_segment_memory *out);
void tn_host_give(void *user, const tn_segment_memory *memory);

/* pool_device.c; the source is for pools whose space is set */
tn_segment_source tn_device_source(tenon_pool *pool);

/* pool_guard.c; the checks are for pools that are tn_guarded */
void tn_guard_segment(const tn_segment_memory *memory);
void tn_guard_open_locked(tenon_pool *pool, tn_block_record *record, tn_finding *finding);
void tn_guard_close_locked(tenon_pool *pool, tn_block_record *record, tn_finding *finding);
void tn_guard_sweep_locked(tenon_pool *pool, tn_finding *finding);
void tn_finding_add_locked(tenon_pool *pool, tn_finding *finding, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void tn_finding_tell(tenon_pool *pool, const tn_finding *finding);

/* pool_report.c */
uint32_t tn_owner_find_locked(tenon_pool *pool, const char *name);
void tn_count_failure_locked(tenon_pool *pool, size_t bytes);
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

/*
 * Takes `lock`, or `slow`. False in the child of a fork that has left the pool unusable: nothing is
 * held then and nothing of the pool may be touched.
 */
static inline bool tn_enter(tenon_pool *pool) {
    if (__builtin_expect(tn_os_forked(&pool->home), false) && !tn_pool_adopt(pool))
        return false;
    tn_mutex_lock(&pool->lock);
    return true;
}

static inline void tn_leave(tenon_pool *pool) {
    tn_mutex_unlock(&pool->lock);
}

static inline bool tn_enter_slow(tenon_pool *pool) {
    if (tn_os_forked(&pool->home) && !tn_pool_adopt(pool))
        return false;
    tn_mutex_lock(&pool->slow);
    return true;
}

static inline void tn_leave_slow(tenon_pool *pool) {
    tn_mutex_unlock(&pool->slow);
}

static inline uint64_t tn_blocks_locked(const tenon_pool *pool) {
    return pool->info.allocations - pool->info.frees;
}

static inline tn_segment *tn_segment_of(const tn_block_record *record) {
    return record->node.segment;
}

#endif
