/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/host.h: what the host program may lend to tenon: its allocator, its threads, its log.
 *
 * Each is a small struct of function pointers with a `user` pointer that is handed back unchanged. A struct left
 * zero means "tenon's own". The struct is copied; what `user` points to must outlive everything made with it.
 *
 * Stack: a call needs at most 64 KiB of the calling thread's stack, whatever the sizes of its operands (gcc and clang, optimised; the
 * hooks' own needs come on top). tests/ops/test_stack.c measures it. tenon's own threads have stacks of their own.
 */
#ifndef TENON_HOST_H
#define TENON_HOST_H

#include <tenon/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Host allocation hooks, for bookkeeping objects and for the memory of host pools.
 *
 * alloc returns `bytes` bytes aligned to `alignment` (a power of two), or NULL, which tenon treats as an ordinary
 * event; contents are undefined. A pointer that is not so aligned goes back to free at once, and if nothing else helps the call
 * answers TENON_ERROR_INVALID_ARGUMENT with the address and the alignment. free gets the pointer and the size it was asked for: blocks go
 * back whole, as there is no hook for parts of one (tenon_memory_trim says what that costs). Both may be called from any thread
 * that calls tenon, never from tenon's own threads. Both set or both NULL.
 */
typedef struct tenon_allocator {
    void *user;
    void *(*alloc)(void *user, size_t bytes, size_t alignment);
    void (*free)(void *user, void *memory, size_t bytes);
} tenon_allocator;

/**
 * The caller's own thread pool.
 *
 * run(user, task, arg, count) must be equivalent to `for (i = 0; i < count; ++i) task(arg, i);` in any order, on any
 * threads, at once or one after the other, returning when all have returned. threads(user) is how many run at
 * once at most, 1 to 1024: asked once when the context is made (TENON_ERROR_INVALID_ARGUMENT if it is none of these) and again before
 * work is handed out, when less than 1 counts as 1 and more than the context's threads as these. Results do not depend on either. Both
 * are called by the thread that calls tenon, with the context entered: they must not call tenon on it. Both set or both NULL.
 */
typedef struct tenon_parallel {
    void *user;
    int (*threads)(void *user);
    void (*run)(void *user, void (*task)(void *arg, int index), void *arg, int count);
} tenon_parallel;

/** How much is told to the logger: each level includes those before it. */
typedef enum tenon_log_level {
    TENON_LOG_NONE = 0,
    TENON_LOG_WARNING = 1,  /**< a rung of the recovery ladder was taken, a device was left out */
    TENON_LOG_INFO = 2,     /**< contexts, pools, devices */
    TENON_LOG_DISPATCH = 3, /**< one line per plan and per one-shot call: what ran where, and what declined */
    TENON_LOG_DEBUG = 4     /**< every allocation of pools */
} tenon_log_level;

/**
 * Where log lines go: one call per event, one line, no newline, valid during the call only.
 *
 * Called by the thread whose call to tenon it is about, never by tenon's own threads; by several at once where they work at once. tenon is
 * in the middle of something then: log must not call tenon with the same context or pool. The calls that end things tell too
 * (segments given back, damage found, buffers that were still held), until tenon_context_destroy or tenon_pool_destroy, or the
 * tenon_buffer_free of a pool's last buffer, returns: so long `user` must live.
 */
typedef struct tenon_logger {
    void *user;
    void (*log)(void *user, tenon_log_level level, const char *line);
} tenon_logger;

#ifdef __cplusplus
}
#endif
#endif
