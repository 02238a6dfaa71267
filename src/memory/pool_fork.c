/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_fork.c: what a fork leaves of a pool.
 *
 * The child has a copy of the pool and of one thread. A lock that another thread held at that
 * moment stays held, and what it guarded may be half done. Every way into a pool compares the
 * pool's mark of its process with the process that it is in (two loads); the first that finds them
 * differ comes here and looks at the locks, which nobody in the child has touched yet:
 *
 *   lock free                  all bookkeeping is whole; the pool is the child's. If `slow` is
 *                              held, somebody was on the way to the system or back: a segment may
 *                              be lost to the child (it stays counted if it was), nothing else, and
 *                              `slow` is made free.
 *   lock held, or              the pool is lost to the child: what would change it is refused, what
 *   a reclaimer was running    would free does nothing, and its memory stays as it is.
 *
 * Nothing is registered with the system and no handler runs at the fork.
 */
#include "memory/pool_state.h"

/* The first thread of a process to come decides; the others wait for it, for some hundred
 * nanoseconds. */
bool tn_pool_adopt(tenon_pool *pool) {
    const uint64_t moment_ns = 50000;
    const uint32_t self = tn_os_fork_number(&pool->home);
    uint32_t claimed = atomic_load(&pool->claimed);
    while (claimed != self && !atomic_compare_exchange_weak(&pool->claimed, &claimed, self)) {
    }
    if (claimed == self) {
        while (tn_os_forked(&pool->home)) {
            if (atomic_load(&pool->lost) == self)
                return false;
            tn_os_wait_for(&pool->claimed, self, moment_ns);
        }
        return true;
    }
    if (atomic_load(&pool->lock.word) != TN_MUTEX_FREE || atomic_load(&pool->reclaiming)) {
        atomic_store(&pool->lost, self);
        return false;
    }
    atomic_store(&pool->slow.word, TN_MUTEX_FREE);
    atomic_store_explicit(&pool->home.word, self, memory_order_release);
    return true;
}

bool tn_pool_lost(tenon_pool *pool) {
    return tn_os_forked(&pool->home) && !tn_pool_adopt(pool);
}

static const char lost[] =
    "pool %s: another thread was inside of it when this process was forked; it "
    "is lost to the child, which needs a new one";

tenon_status tn_fail_lost(const tenon_pool *pool, tn_message *message) {
    return tn_fail(message, TENON_ERROR_DEVICE_LOST, lost, pool->device);
}

tenon_status tn_fail_lost_shared(const tenon_pool *pool) {
    return tn_fail_shared(TENON_ERROR_DEVICE_LOST, lost, pool->device);
}
