/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture_host.h: hosts of different kinds, as a context's descriptor: own threads, the caller's
 * pool, hooks, a budget.
 */
#ifndef TORTURE_HOST_H
#define TORTURE_HOST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/tenon.h>

enum { HOST_THREADS, HOST_HOOKS, HOST_ONE_THREAD, HOST_POOL, HOST_DEBUG, HOST_NO_CACHE, HOSTS };

static const char *const host_names[HOSTS] = {
    [HOST_THREADS] = "own threads",   [HOST_HOOKS] = "caller's hooks",
    [HOST_ONE_THREAD] = "one thread", [HOST_POOL] = "caller's pool",
    [HOST_DEBUG] = "debug memory",    [HOST_NO_CACHE] = "no plan cache"};

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

/* `balance` outlives the context and is zero before and after it. */
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
    if (kind == HOST_NO_CACHE)
        desc.plan_cache_bytes = 1;
    return desc;
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
