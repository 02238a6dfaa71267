/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/context.h: devices, and contexts that work on them.
 *
 * A context is a chain of one or more devices, an ordered queue of work, a workspace and a cache of plans. One thread uses a
 * context at a time (a second one gets TENON_ERROR_BUSY); different contexts are used by any threads at once. Everything is
 * safe across fork: the child goes on with contexts that no thread was inside of when it forked. If their pool is shared and another
 * thread was inside of that, new memory may be refused with TENON_ERROR_DEVICE_LOST (tenon/memory.h says when); nothing ever waits
 * for a thread that the child does not have.
 */
#ifndef TENON_CONTEXT_H
#define TENON_CONTEXT_H

#include <tenon/memory.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TENON_VERSION_MAJOR 0
#define TENON_VERSION_MINOR 1
#define TENON_VERSION_PATCH 0

/** Version of the library that is loaded: major·10000 + minor·100 + patch. */
TENON_API int tenon_version(void);

/** What is known of one device, or of one backend that has none here. */
typedef struct tenon_device_info {
    size_t struct_size;         /**< set by the caller as in descriptors */
    int32_t usable;             /**< 1: a context can be made on it */
    int32_t cores;              /**< cores this process may use, or compute units */
    char id[32];                /**< the device string: "cpu", "cuda:0", "reference" */
    char backend[16];           /**< "cpu", "cuda", "opencl", "reference" */
    char name[128];             /**< as the maker calls it */
    char vendor[64];
    char instruction_sets[256]; /**< what the device has, separated by spaces; the level in use first */
    char reason[256];           /**< why it is not usable; "" if it is */
    uint64_t memory_total;      /**< bytes */
    uint64_t memory_free;       /**< bytes, a hint */
    uint64_t cache_l1, cache_l2, cache_l3; /**< data cache bytes that one core sees; 0: unknown */
} tenon_device_info;

/**
 * Number of entries of the device list: usable devices and backends that are not, each with its reason. Opens no driver's context.
 * Thread safe.
 */
TENON_API int tenon_device_count(void);

/** Fills `info` for entry `index` of the list. INVALID_ARGUMENT if out of range or NULL. Thread safe. */
TENON_API tenon_status tenon_device_get(int index, tenon_device_info *info);

enum {
    TENON_CONTEXT_DEBUG_MEMORY = 1u << 0,       /**< the context's own pool gets TENON_POOL_DEBUG */
    TENON_CONTEXT_NO_STAGING = 1u << 1,         /**< a host address given to a GPU is an error instead of a copy */
    TENON_CONTEXT_NO_VENDOR_LIBRARIES = 1u << 2,/**< never call cuBLASLt or the like */
    TENON_CONTEXT_REDUCED_PRECISION = 1u << 3   /**< TENON_COMPUTE_DEFAULT means TENON_COMPUTE_FAST */
};

/**
 * How a context is made. NULL or zero-initialised: the best device here, all cores, own pool that holds no more than this process may use.
 * Nothing of it is kept but what the functions in it need: it may go when the call returns, what `user` pointers mean may not.
 */
typedef struct tenon_context_desc {
    size_t struct_size;         /**< sizeof(tenon_context_desc), or 0 for the first release's */
    const char *device;         /**< "auto" (the best device usable here, never a CUDA or OpenCL one), "cpu", "cuda:0", "opencl:1",
                                     "reference", or a chain of at most four, "cuda:0,cpu": tried in this order for each operation, also
                                     while running when memory is short. What is not usable here is left out. In a chain "auto" may be a
                                     device that is named too: it counts once, at its first place. NULL: "auto". The environment's
                                     TENON_DEVICE replaces "auto" alone, not a chain with it. Read while the context is made */
    int32_t threads;            /**< most threads at work at once, the caller's included, up to 1024; 0: what `parallel` says, else the
                                     cores this process may use (affinity, cgroup quota) */
    uint32_t flags;             /**< TENON_CONTEXT_* */
    tenon_parallel parallel;    /**< the caller's thread pool; zero: own threads, started with the first plan that wants them */
    tenon_pool *pool;           /**< a pool of the first device to share; NULL: an own one */
    size_t memory_budget;       /**< bytes, for the own pool; 0: what this process may use; TENON_NO_BUDGET: no limit. 0 beside `pool` */
    tenon_allocator allocator;  /**< for bookkeeping, and for the own pool of a host device; zero: the system */
    tenon_logger logger;
    tenon_log_level log_level;
    void *native_context;       /**< CUcontext or cl_context to borrow, for the devices of the chain that have such; it must outlive the
                                     context. NULL: own. UNSUPPORTED if none has ("cpu", "reference") */
    void *native_queue;         /**< CUstream or cl_command_queue to borrow; the same */
    size_t plan_cache_bytes;    /**< most bytes of cached plans; 0: 1 MiB. Least recently used plans go first */
    const char *kernel_cache_path; /**< directory where compiled kernels may be kept, read while the context is made; NULL: in memory only.
                                     Devices that compile nothing ("cpu", "reference") have no use for it: any value is as good */
} tenon_context_desc;

/**
 * Makes a context.
 *
 * @return TENON_OK; INVALID_ARGUMENT (a field is wrong); UNSUPPORTED (a field that no device of the chain can heed, or one of a later
 * release); NO_DEVICE (none of the chain is usable: the message says why for each); OUT_OF_MEMORY; OVER_BUDGET. *out is NULL on failure;
 * the sentence is tenon_error_message(NULL)'s.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_context_create(const tenon_context_desc *desc, tenon_context **out);

/**
 * Waits for queued work and ends a context. Plans made in it stay usable in other contexts of the same device, buffers stay. NULL is
 * allowed.
 *
 * No other thread may be in a call on `ctx`, nor begin one: this waits for none, and their memory would be freed under them. A context ends
 * once. What follows a destroyed one is undefined, as with free: mostly a second destroy is noticed and does nothing, and calls answer
 * INVALID_ARGUMENT, until the memory is used again.
 */
TENON_API void tenon_context_destroy(tenon_context *ctx);

/** Waits until all work queued on `ctx` is done. On the CPU it always is. @return TENON_OK, DEVICE_LOST, BUSY. */
TENON_API TENON_MUST_CHECK tenon_status tenon_sync(tenon_context *ctx);

/**
 * Lets later work of `ctx` start only when the work queued on `other` so far is done. Does not block the caller where the devices can wait
 * by themselves. @return TENON_OK; INVALID_ARGUMENT (NULL); DEVICE_LOST; BUSY (a thread is in a call on either).
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_context_wait(tenon_context *ctx, tenon_context *other);

/**
 * The context's CUcontext / cl_context and CUstream / cl_command_queue (NULL on the CPU), the context's own or what was lent to it. Either
 * pointer may be NULL. @return TENON_OK; INVALID_ARGUMENT if `ctx` is NULL; BUSY.
 */
TENON_API tenon_status tenon_context_native(tenon_context *ctx, void **native_context, void **native_queue);

/**
 * Compiled kernels, for callers who keep bytes themselves instead of lending a directory (kernel_cache_path):
 *
 *     size_t bytes;
 *     status = tenon_context_save_kernels(ctx, NULL, 0, &bytes);               // how many they are
 *     status = tenon_context_save_kernels(ctx, memory, capacity, &bytes);      // writes them; as long as others compile, try again
 *     …
 *     status = tenon_context_load_kernels(later, memory, bytes, &loaded);      // in any process, before the first operation
 *
 * What is saved are the kernels that the context's devices have compiled so far, in this context or another that shares the device; a
 * device that compiles nothing ("cpu", "cuda:0") has 0 bytes. `memory` NULL asks for the size alone. Waits for queued work, and may take
 * as long as compiling did. The bytes are of use for the same device, driver and release of tenon only; checksums tell.
 *
 * @return TENON_OK, and *bytes is what was written; INVALID_ARGUMENT (`capacity` is less than *bytes, `bytes` is NULL); BUSY (also if
 * another context of the device compiled kernels meanwhile); OUT_OF_MEMORY; DEVICE_LOST. `memory` is untouched where it fails.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_context_save_kernels(tenon_context *ctx, void *memory, size_t capacity, size_t *bytes);

/**
 * Takes kernels from bytes that tenon_context_save_kernels wrote; they may go, and need no alignment. Saves of several contexts may lie one
 * after the other. What is damaged, cut short, or of another device, driver or release is passed over and never handed to a driver: such
 * kernels are compiled at their first use as ever. Kernels that the device has already stay.
 *
 * @param loaded how many programs came from the bytes; may be NULL
 * @return TENON_OK, also if none did; INVALID_ARGUMENT (NULL); BUSY; OUT_OF_MEMORY; DEVICE_LOST.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_context_load_kernels(tenon_context *ctx, const void *memory, size_t bytes, int32_t *loaded);

/** Device string of the n-th device of the context's chain, or NULL if out of range. Lives as long as the context. Thread safe. */
TENON_API const char *tenon_context_device(const tenon_context *ctx, int index);

/** Most threads of the context's first device at work at once; 0 for NULL. Thread safe. */
TENON_API int tenon_context_threads(const tenon_context *ctx);

/**
 * Host-owned threads: a host that already runs n threads side by side lends them for the calls of one context.
 *
 *     tenon_part_begin(ctx);                                  // one thread, before the others go on
 *     … on each thread i:  tenon_part_run(ctx, work, user);   // work() makes tenon calls on ctx; one thread executes it, the others help
 *     status = tenon_part_end(ctx);                           // one thread, after all have returned: what work() returned
 *
 * The first thread to arrive runs work(user); every other thread takes tasks from the operations inside until work returns, then
 * returns too. Any number of threads may come, one at least, in any order, also one after the other; results are the same bits. Between
 * begin and end tenon's own threads stay idle. Nothing is allocated. begin and end are called while no thread is in tenon_part_run.
 */
typedef tenon_status (*tenon_part_work)(void *user);

/** @return TENON_OK; INVALID_ARGUMENT if `ctx` is NULL or between begin and end already; BUSY. */
TENON_API TENON_MUST_CHECK tenon_status tenon_part_begin(tenon_context *ctx);

/** Outside begin and end, after the work has been done, or with a NULL, it returns at once. */
TENON_API void tenon_part_run(tenon_context *ctx, tenon_part_work work, void *user);

/**
 * @return what work returned (if not TENON_OK, tenon_error_message(ctx) is the sentence of the call that failed inside it);
 * INVALID_ARGUMENT if no thread came, without tenon_part_begin, or if `ctx` is NULL; BUSY.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_part_end(tenon_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
