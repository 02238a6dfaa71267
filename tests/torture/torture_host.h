/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture_host.h: hosts of different kinds, as descriptors of contexts and pools: own threads, the
 * caller's pool of threads, hooks, budgets, shared pools.
 */
#ifndef TORTURE_HOST_H
#define TORTURE_HOST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/tenon.h>

enum {
    HOST_THREADS,
    HOST_HOOKS,
    HOST_BUDGET,
    HOST_SHARED,
    HOST_ONE_THREAD,
    HOST_POOL,
    HOST_LAZY_POOL,
    HOST_DEBUG,
    HOST_FIXED,
    HOST_TOUCH,
    HOST_NO_CACHE,
    HOSTS
};

static const char *const host_names[HOSTS] = {[HOST_THREADS] = "own threads",
                                              [HOST_HOOKS] = "caller's hooks",
                                              [HOST_BUDGET] = "a budget for the smallest plan",
                                              [HOST_SHARED] =
                                                  "a shared pool that a neighbour fills",
                                              [HOST_ONE_THREAD] = "one thread",
                                              [HOST_POOL] = "caller's threads",
                                              [HOST_LAZY_POOL] = "caller's threads, which do half",
                                              [HOST_DEBUG] = "debug memory",
                                              [HOST_FIXED] = "a shared fixed pool",
                                              [HOST_TOUCH] = "a shared pool of touched huge pages",
                                              [HOST_NO_CACHE] = "no plan cache"};

static inline int host_pool_threads(void *user) {
    (void)user;
    return 3;
}

/* One after the other, the last first: any order is allowed. */
static inline void host_pool_run(void *user, void (*task)(void *, int), void *arg, int count) {
    (void)user;
    while (count-- > 0)
        task(arg, count);
}

/* Leaves tasks undone, all of them where it has no memory for its own bookkeeping. */
static inline void host_lazy_run(void *user, void (*task)(void *, int), void *arg, int count) {
    (void)user;
    void *volatile bookkeeping = malloc(64);
    for (int i = 0; bookkeeping && i < count; i += 2)
        task(arg, i);
    free(bookkeeping);
}

static inline void host_log(void *user, tenon_log_level level, const char *line) {
    (void)level;
    *(int64_t *)user += strlen(line) == 0; /* a line is never empty */
}

/* Through malloc, so that the injector sees it. `user` counts the bytes out. */
static inline void *host_alloc(void *user, size_t bytes, size_t alignment) {
    void *memory = NULL;
    if (posix_memalign(&memory, alignment < 16 ? 16 : alignment, bytes ? bytes : 1) != 0)
        return NULL;
    *(int64_t *)user += (int64_t)bytes;
    return memory;
}

static inline void host_free(void *user, void *memory, size_t bytes) {
    *(int64_t *)user -= (int64_t)bytes;
    free(memory);
}

/* `balance` outlives the context and is zero before and after it. A host with a budget sets it
 * afterwards. */
static inline tenon_context_desc host_of(int kind, const char *device, int64_t *balance) {
    tenon_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.device = device;
    desc.threads = kind == HOST_ONE_THREAD ? 1 : 3;
    if (kind == HOST_POOL)
        desc.parallel = (tenon_parallel){.threads = host_pool_threads, .run = host_pool_run};
    if (kind == HOST_HOOKS)
        desc.allocator = (tenon_allocator){.user = balance, .alloc = host_alloc, .free = host_free};
    if (kind == HOST_DEBUG)
        desc.flags = TENON_CONTEXT_DEBUG_MEMORY;
    if (kind == HOST_LAZY_POOL)
        desc.parallel = (tenon_parallel){.threads = host_pool_threads, .run = host_lazy_run};
    if (kind == HOST_BUDGET || kind == HOST_SHARED) {
        desc.logger = (tenon_logger){.user = balance, .log = host_log};
        desc.log_level = TENON_LOG_DEBUG;
    }
    if (kind == HOST_NO_CACHE)
        desc.plan_cache_bytes = 1;
    return desc;
}

/* The pool that this kind of host shares among its contexts; false: each has its own. `budget` is
 * for HOST_SHARED. */
static inline bool host_pool_of(int kind, size_t budget, tenon_pool_desc *desc) {
    memset(desc, 0, sizeof *desc);
    desc->segment_bytes = (size_t)1 << 20;
    if (kind == HOST_SHARED)
        desc->budget = budget;
    if (kind == HOST_FIXED)
        desc->flags = TENON_POOL_FIXED;
    if (kind == HOST_TOUCH)
        desc->flags = TENON_POOL_TOUCH | TENON_POOL_HUGE_PAGES;
    return kind == HOST_SHARED || kind == HOST_FIXED || kind == HOST_TOUCH;
}

/* Usable devices and one chain; returns how many, at most `capacity`. */
static inline int host_devices(char (*ids)[72], int capacity) {
    int n = 0;
    for (int i = 0; i < tenon_device_count() && n < capacity - 1; ++i) {
        tenon_device_info info;
        memset(&info, 0, sizeof info);
        if (tenon_device_get(i, &info) == TENON_OK && info.usable)
            snprintf(ids[n++], sizeof ids[0], "%s", info.id);
    }
    if (n > 1) {
        char chain[72];
        snprintf(chain, sizeof chain, "%.32s,%.32s", ids[0], ids[1]);
        memcpy(ids[n++], chain, sizeof chain);
    }
    return n;
}

#endif
