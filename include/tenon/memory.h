/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/memory.h: pools and buffers.
 *
 * A pool owns the memory of one device (host memory is a device too), under a budget in bytes, and can be shared by
 * any number of contexts and threads. It takes segments from the system (or from the caller's hooks) and cuts blocks from
 * them in constant time. Everything tenon needs while it works (workspaces, packed copies, buffers) is drawn
 * from a pool, so the budget is the most that tenon will ever hold there.
 *
 * When memory is short a pool climbs a ladder before it gives up, each rung counted in tenon_memory_stats and told to
 * the logger: reuse and coalesce free blocks; give empty segments back and ask again; drop what can be rebuilt (cached
 * plans and their workspaces); plan again with an algorithm of smaller workspace; wait for queued frees; the next device of
 * the context's chain; and only then TENON_ERROR_OUT_OF_MEMORY or TENON_ERROR_OVER_BUDGET, with the figures and the
 * largest owners in the message, outputs untouched and everything still usable.
 *
 * Forks: a child goes on with its copy of a pool. Only if another thread was changing the pool's bookkeeping at that
 * very moment, or was taking memory back from a context, is the pool lost to the child: calls that can fail answer
 * TENON_ERROR_DEVICE_LOST, the others do nothing, nothing waits, and buffers keep their memory. A new pool works.
 */
#ifndef TENON_MEMORY_H
#define TENON_MEMORY_H

#include <tenon/host.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tenon_context tenon_context;
typedef struct tenon_pool tenon_pool;
typedef struct tenon_buffer tenon_buffer;

enum {
    TENON_POOL_TOUCH = 1u << 0,      /**< have the system commit each page of a new segment at once, so that overcommitted memory is refused
                                          there (an ordinary failure) instead of ending the process at its first use */
    TENON_POOL_HUGE_PAGES = 1u << 1, /**< ask for huge pages where the system has them; never fails for their lack */
    TENON_POOL_DEBUG = 1u << 2,      /**< guards around blocks, poison in freed ones, NaN in new ones; checked at free, at close and on
                                          request */
    TENON_POOL_FIXED = 1u << 3,      /**< take `segment_bytes` (0: the budget you set, else 2 MiB) at creation and never grow: later
                                          allocations never enter the system */
    TENON_POOL_LOCK = 1u << 4        /**< lock each new segment in memory (mlock); where the system does not allow it (RLIMIT_MEMLOCK) the
                                          segment counts as refused */
};

/** A budget that is none: really no limit of the pool's own. */
#define TENON_NO_BUDGET ((size_t)-1)

/** How a pool is made. A zero-initialised descriptor is a host pool that holds no more than this process may use. */
typedef struct tenon_pool_desc {
    size_t struct_size;        /**< sizeof(tenon_pool_desc), or 0 for the first release's */
    const char *device;        /**< "cpu", "cuda:0", "opencl:1"; NULL: "cpu". A device's memory: what contexts on it have that borrow no
                                    native_context; all of it committed at once, as TENON_POOL_TOUCH */
    size_t budget;             /**< the most bytes of segments held at once. 0: for memory from the system, 15/16 of what this process may
                                    use at creation (the machine's memory, cgroup limits, RLIMIT_AS, RLIMIT_DATA), and no segment that is
                                    more than may be used then; pools of this kind share an account, so that all of a process promise no
                                    more than one would. For hooks, none: they know. TENON_NO_BUDGET: none. Segments from the
                                    system are whole pages, from hooks multiples of 64 bytes */
    size_t segment_bytes;      /**< smallest segment taken from the system; 0: 2 MiB. Larger requests get a segment of their size */
    unsigned flags;            /**< TENON_POOL_* */
    tenon_allocator allocator; /**< where a host pool's segments and its bookkeeping come from; zero: the system */
    tenon_logger logger;       /**< told about rungs of the ladder and, at TENON_LOG_DEBUG, each allocation */
    tenon_log_level log_level;
} tenon_pool_desc;

/**
 * Makes a pool. Takes no segment yet unless TENON_POOL_FIXED.
 *
 * @return TENON_OK; INVALID_ARGUMENT; NO_DEVICE; OUT_OF_MEMORY; OVER_BUDGET (FIXED with segment_bytes > budget). *out is
 * NULL on failure.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_pool_create(const tenon_pool_desc *desc, tenon_pool **out);

/**
 * Gives up the caller's hold on a pool. Buffers and contexts keep it alive until they are gone too. NULL is allowed.
 */
TENON_API void tenon_pool_destroy(tenon_pool *pool);

/** The pool that `ctx` draws from for its first device (or the n-th of its chain); owned by the context. NULL if out of range. */
TENON_API tenon_pool *tenon_context_pool(tenon_context *ctx, int device_index);

/**
 * A block of `bytes` bytes (0 is legal), aligned to 64 bytes, contents undefined.
 *
 * @param owner string that names who holds it, kept by address while the buffer lives (a literal); shown in statistics; NULL: "caller".
 * It may hold anything: messages, log lines and recordings stay lines of UTF-8 (control characters and bytes that are none are shown
 * as '?'), and a snapshot stays JSON (they are escaped).
 * @return TENON_OK; INVALID_ARGUMENT; OUT_OF_MEMORY (the system has no more, this process may not use more, or it is more than
 * the 2^47 bytes that a block may have); OVER_BUDGET (a budget that was set, or a fixed size); DEVICE_LOST (see "Forks" above). *out is
 * NULL on failure. Thread safe.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_buffer_alloc(tenon_pool *pool, size_t bytes, const char *owner, tenon_buffer **out);

/** As tenon_buffer_alloc with an alignment, a power of two up to 4096. */
TENON_API TENON_MUST_CHECK tenon_status tenon_buffer_alloc_aligned(tenon_pool *pool, size_t bytes, size_t alignment,
                                                                   const char *owner, tenon_buffer **out);

/** What foreign memory is handed to tenon_buffer_import. */
typedef enum tenon_native_kind {
    TENON_NATIVE_HOST = 0,   /**< a host address */
    TENON_NATIVE_CUDA = 1,   /**< a CUdeviceptr */
    TENON_NATIVE_OPENCL = 2, /**< a cl_mem (retained while the buffer lives) */
    TENON_NATIVE_SVM = 3     /**< an OpenCL SVM address */
} tenon_native_kind;

/**
 * Wraps memory the caller owns; it must outlive the buffer. Not counted in the budget. The pool's device says which kinds it takes: pools
 * of host memory host addresses, those of CUDA devices a CUdeviceptr of that device, those of OpenCL devices a cl_mem of their cl_context,
 * SVM addresses and, where device and host share memory, host addresses.
 *
 * @return TENON_OK; INVALID_ARGUMENT if native + bytes leaves the address space, the cl_mem is smaller or another cl_context's, or the
 * CUdeviceptr another device's; UNSUPPORTED for other kinds; OUT_OF_MEMORY; DEVICE_LOST.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_buffer_import(tenon_pool *pool, tenon_native_kind kind, void *native, size_t bytes,
                                                            tenon_buffer **out);

/** A part of another buffer, [offset, offset + bytes); keeps its parent alive. */
TENON_API TENON_MUST_CHECK tenon_status tenon_buffer_view(tenon_buffer *parent, size_t offset, size_t bytes, tenon_buffer **out);

/**
 * Frees a buffer: on a queue of a GPU after the work that was queued before, on the CPU at once. NULL is allowed.
 * Never fails. Thread safe.
 *
 * Using a buffer after this is a mistake that is noticed while its pool lives and until its handle serves another buffer, which a
 * TENON_POOL_DEBUG pool delays: freeing it again does nothing but count in tenon_memory_info.damages and tell the logger; as an operand,
 * a parent, or in a copy it is an INVALID_ARGUMENT; tenon_buffer_size is 0 and tenon_buffer_host NULL. The last buffer keeps its pool, so a
 * buffer that was freed after everything else of its pool is gone with it, and a second free is one like any other.
 */
TENON_API void tenon_buffer_free(tenon_buffer *buffer);

/** Size in bytes as asked for. */
TENON_API size_t tenon_buffer_size(const tenon_buffer *buffer);

/** Host address of the buffer, or NULL if its device's memory has none. */
TENON_API void *tenon_buffer_host(const tenon_buffer *buffer);

/**
 * The native handle and its kind (a host address, CUdeviceptr, or cl_mem: pools of OpenCL devices always give the cl_mem that their work
 * uses, whatever was imported), and the byte offset in it; any of the pointers may be NULL.
 */
TENON_API tenon_status tenon_buffer_native(const tenon_buffer *buffer, tenon_native_kind *kind, void **native, size_t *offset);

/**
 * Copies between host memory and a buffer, ordered with the context's other work; returns when `host` may be reused.
 *
 * @return TENON_OK; INVALID_ARGUMENT if [offset, offset + bytes) leaves the buffer or an address is NULL; DEVICE_LOST.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_buffer_write(tenon_context *ctx, tenon_buffer *buffer, size_t offset,
                                                           const void *host, size_t bytes);
TENON_API TENON_MUST_CHECK tenon_status tenon_buffer_read(tenon_context *ctx, const tenon_buffer *buffer, size_t offset, void *host,
                                                          size_t bytes);

/** Gives the host an address for a part of a buffer until tenon_buffer_unmap; on the CPU it is the buffer's own memory. */
TENON_API TENON_MUST_CHECK tenon_status tenon_buffer_map(tenon_context *ctx, tenon_buffer *buffer, size_t offset, size_t bytes,
                                                         void **host);
TENON_API TENON_MUST_CHECK tenon_status tenon_buffer_unmap(tenon_context *ctx, tenon_buffer *buffer, void *host);

/** How many times each rung of the ladder was taken. */
typedef struct tenon_ladder_stats {
    uint64_t coalesced;       /**< (1) a thorough search found a free block that the constant-time one had missed */
    uint64_t segments_given;  /**< (2) empty segments, and free parts of others, given back before asking again */
    uint64_t caches_dropped;  /**< (3) caches of plans, or idle workspaces, dropped */
    uint64_t smaller_plans;   /**< (4) an algorithm of smaller workspace was chosen */
    uint64_t waits;           /**< (5) queued frees waited for */
    uint64_t device_changes;  /**< (6) the next device of the chain was used */
    uint64_t failures;        /**< (7) calls that answered OUT_OF_MEMORY or OVER_BUDGET because of this pool; not those that went on with
                                   less */
} tenon_ladder_stats;

/** What a pool holds now. Bytes unless said otherwise. */
typedef struct tenon_memory_info {
    size_t struct_size;        /**< set by the caller as in descriptors */
    size_t budget;             /**< the one in force, see tenon_pool_desc; 0: none */
    size_t reserved;           /**< segments held */
    size_t in_use;             /**< blocks handed out, as asked for */
    size_t peak_reserved;
    size_t peak_in_use;
    size_t largest_free;       /**< largest block that can be had without a new segment */
    uint64_t segments;         /**< count */
    uint64_t blocks;           /**< count of live blocks */
    uint64_t allocations;      /**< count since creation */
    uint64_t frees;            /**< count since creation */
    tenon_ladder_stats ladder; /**< counts since creation */
    uint64_t damages;          /**< overruns, writes after free and second frees that were noticed since creation */
} tenon_memory_info;

/** Fills `info`. Thread safe. */
TENON_API tenon_status tenon_memory_stats(tenon_pool *pool, tenon_memory_info *info);

/** Bytes held by one owner, largest first. */
typedef struct tenon_memory_owner {
    const char *owner;
    size_t bytes;
    uint64_t blocks;
} tenon_memory_owner;

/** Writes up to `capacity` owners, largest first, and returns how many there are in all. Allocates nothing. */
TENON_API size_t tenon_memory_owners(tenon_pool *pool, tenon_memory_owner *owners, size_t capacity);

/**
 * Gives memory back until at most `keep` bytes are reserved or nothing more can go: empty segments, then, where the system
 * can take them (its own pages can, a hook's segments can't), free parts of the others. Returns the bytes given back.
 *
 * What hooks cost: a segment of theirs stays whole as long as one block in it is in use. On recorded traffic such pools held up to 1.26
 * times the most that was in use, pools of the system's pages 1.02 times (docs/MEMORY.md).
 */
TENON_API size_t tenon_memory_trim(tenon_pool *pool, size_t keep);

/** Receives a piece of text; returns 0 to go on. */
typedef int (*tenon_text_sink)(void *user, const char *text, size_t bytes);

/**
 * Writes the pool as JSON (statistics, owners, segments with their blocks: offset, size, owner) in pieces to `sink`. Blocks
 * with "free" are free; those with "hole" are addresses whose memory went back to the system.
 *
 * Allocates nothing. The sink is called under the pool's lock, so that the picture is of one moment, and must not call tenon.
 *
 * @return TENON_OK; INVALID_ARGUMENT; IO if the sink asked to stop.
 */
TENON_API tenon_status tenon_memory_snapshot(tenon_pool *pool, tenon_text_sink sink, void *user);

/**
 * Looks at every guard and every freed byte of a TENON_POOL_DEBUG pool now. Thread safe; linear in the pool's size.
 *
 * @return TENON_OK; INVALID_ARGUMENT if memory was written outside of a live block, with the first place in
 * tenon_error_message(NULL); UNSUPPORTED if the pool is not a debug pool of host memory.
 */
TENON_API tenon_status tenon_memory_check(tenon_pool *pool);

/**
 * Starts (or with sink == NULL stops) a recording: one line of text per event,
 * `alloc ID BYTES ALIGNMENT OWNER`, `free ID`, `segment+ BYTES`, `segment- BYTES`, `fail BYTES`, in order of happening.
 * `segment-` may also be a part of one. `tenon memory replay` and `tenon memory picture` read it.
 * The sink is called under the pool's lock and must not call tenon; when it returns other than 0 the recording ends.
 */
TENON_API tenon_status tenon_memory_record(tenon_pool *pool, tenon_text_sink sink, void *user);

/** Which allocations of a pool shall fail: for a program's own tests of running short. Zero-initialised: none. */
typedef struct tenon_fault_rule {
    size_t struct_size;
    uint64_t fail_nth;   /**< the n-th allocation from now (1 = the next) */
    int sticky;          /**< and every one after it */
    size_t fail_above;   /**< every allocation of more bytes than this; 0: off */
    double probability;  /**< each one with this probability … */
    uint64_t seed;       /**< … drawn from a generator with this seed */
} tenon_fault_rule;

/** Sets the rule; NULL clears it. */
TENON_API tenon_status tenon_memory_inject(tenon_pool *pool, const tenon_fault_rule *rule);

/** One object of a static layout: needed from step `first` to step `last`, both included. */
typedef struct tenon_lifetime {
    size_t bytes;
    size_t alignment; /**< power of two; 0: 64 */
    int64_t first, last;
    size_t offset;    /**< out */
} tenon_lifetime;

/**
 * Places objects with known lifetimes in one block so that those alive together do not overlap: tenon_memory_layout_with
 * with the default options. `total` gets the block's size; `lower_bound`, if not NULL, the largest sum of bytes alive in
 * one step, below which no layout can go. Scratch memory (about 200 bytes per object) comes from `pool`'s allocator hooks (NULL: the
 * system).
 *
 * @return TENON_OK, INVALID_ARGUMENT (last < first, bad alignment, sums that overflow), OUT_OF_MEMORY; offsets untouched on failure.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_memory_layout(tenon_pool *pool, tenon_lifetime *objects, size_t count,
                                                            size_t *total, size_t *lower_bound);

/** How long a layout is searched for. Zero-initialised: the default. */
typedef struct tenon_layout_options {
    size_t struct_size;
    double effort; /**< most work of the search, as a multiple of the default, which is 2 to 4 s; 0: 1; below 0: none */
    size_t enough; /**< stop at a total of at most this (what there is memory for); 0: at the lower bound */
} tenon_layout_options;

/**
 * As tenon_memory_layout, with a say in how long it takes.
 *
 * The objects are placed largest first, each in the lowest gap there is while it lives: hundredths of a second for 1,000 objects, about
 * four seconds at most for 100,000 however many are alive at once, gaps being overlooked rather than more work done. If that is
 * not at the lower bound, a search goes on to take objects out and put them back elsewhere, until it is or its work is used up (ruin
 * and recreate; sources in src/memory/layout_search.c). Work is counted, not timed: the same input gives the same layout
 * everywhere, and a search never a larger total than none.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_memory_layout_with(tenon_pool *pool, tenon_lifetime *objects, size_t count,
                                                                 const tenon_layout_options *options, size_t *total,
                                                                 size_t *lower_bound);

#ifdef __cplusplus
}
#endif
#endif
