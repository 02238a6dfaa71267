/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of contexts: open the chain, its pools, its team; and the small calls on them. Creation
 * fails cleanly at any point: the half-built context goes through the same close as a whole one.
 */
#include "core/context.h"

#include "core/os.h"
#include "core/read_desc.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

/* ---------------------------------------------------------------- entering */

/* The reclaiming thread was in one of the context's pools; a fork leaves neither to the child. */
static bool reclaimer_is_gone(tenon_context *ctx) {
    for (int s = 0; s < ctx->slots; ++s)
        if (ctx->slot[s].pool && tn_pool_lost(ctx->slot[s].pool))
            return true;
    return false;
}

/* The context is not free, or was not a moment ago. */
static tenon_status enter_late(tenon_context *ctx, const char *call) {
    for (;;) {
        uint32_t found = TN_CONTEXT_FREE;
        if (atomic_compare_exchange_weak_explicit(&ctx->entered, &found, TN_CONTEXT_INSIDE,
                                                  memory_order_acquire, memory_order_relaxed)) {
            ctx->call = call;
            return TENON_OK;
        }
        /* Not the message of the context: it belongs to the thread that is inside. */
        if (found == TN_CONTEXT_INSIDE)
            return TENON_ERROR_BUSY;
        if (found == TN_CONTEXT_FREE)
            continue;
        if (found != TN_CONTEXT_RECLAIMING && found != TN_CONTEXT_AWAITED)
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "%s: ctx is %p, which is no context or one that was destroyed, "
                                  "expected a living one",
                                  call, (void *)ctx);
        if (reclaimer_is_gone(ctx))
            return tn_fail(
                &ctx->message, TENON_ERROR_DEVICE_LOST,
                "%s: another thread was taking memory from this context when this process "
                "was forked; the child needs a new context",
                call);
        /* A reclaimer frees one block, but under a lock that others may hold, and through a
         * recording's sink. */
        if (found == TN_CONTEXT_AWAITED ||
            atomic_compare_exchange_strong(&ctx->entered, &found, TN_CONTEXT_AWAITED))
            tn_os_wait(&ctx->entered, TN_CONTEXT_AWAITED);
    }
}

TN_HOT tenon_status tn_context_enter(tenon_context *ctx, const char *call) {
    uint32_t found = TN_CONTEXT_FREE;
    if (!ctx)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "%s: ctx is NULL, expected a context",
                              call);
    if (!atomic_compare_exchange_strong_explicit(&ctx->entered, &found, TN_CONTEXT_INSIDE,
                                                 memory_order_acquire, memory_order_relaxed))
        return enter_late(ctx, call);
    ctx->call = call;
    return TENON_OK;
}

/* Puts the call's name before the sentence. */
static void name_call(tenon_context *ctx, tenon_status status) {
    const tn_message said = ctx->message;
    tn_fail(&ctx->message, status, "%s: %s", ctx->call, said.text);
}

TN_HOT tenon_status tn_context_leave(tenon_context *ctx, tenon_status status) {
    if (status != TENON_OK)
        name_call(ctx, status);
    atomic_store_explicit(&ctx->entered, TN_CONTEXT_FREE, memory_order_release);
    return status;
}

/* Enters only if nobody is inside, for reclaiming what a context caches. */
static bool reclaim_begin(tenon_context *ctx) {
    uint32_t found = TN_CONTEXT_FREE;
    return atomic_compare_exchange_strong_explicit(&ctx->entered, &found, TN_CONTEXT_RECLAIMING,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* All that wait are woken: one enters, the others are told BUSY as at any other moment. */
static void reclaim_end(tenon_context *ctx) {
    if (atomic_exchange(&ctx->entered, TN_CONTEXT_FREE) == TN_CONTEXT_AWAITED)
        tn_os_wake(&ctx->entered, INT_MAX);
}

tn_message *tn_context_message(tenon_context *ctx) {
    return &ctx->message;
}

/* Rung 3 of a pool's ladder; may be called by any thread that shares the pool. */
static size_t give_arena_back(void *user, size_t wanted) {
    tn_slot *slot = user;
    (void)wanted;
    if (!reclaim_begin(slot->context))
        return 0;
    const size_t freed = tn_arena_drop(&slot->arena);
    reclaim_end(slot->context);
    return freed;
}

/* ---------------------------------------------------------------- creation */

static tenon_status check_desc(const tenon_context_desc *desc, tn_message *message) {
    if (desc->threads < 0 || desc->threads > TN_TEAM_MAX)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT, "threads is %d, expected 0 to %d",
                       (int)desc->threads, TN_TEAM_MAX);
    if (!desc->parallel.run != !desc->parallel.threads)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "parallel.%s is NULL, expected both of threads and run or neither",
                       desc->parallel.run ? "threads" : "run");
    if (!desc->allocator.alloc != !desc->allocator.free)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "allocator.%s is NULL, expected both of alloc and free or neither",
                       desc->allocator.alloc ? "free" : "alloc");
    if (desc->pool && desc->memory_budget)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "memory_budget is %zu, expected 0 with a shared pool, which has its own",
                       desc->memory_budget);
    if ((int)desc->log_level < TENON_LOG_NONE || (int)desc->log_level > TENON_LOG_DEBUG)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT, "log_level is %d, expected 0 to %d",
                       (int)desc->log_level, TENON_LOG_DEBUG);
    const uint32_t known = TENON_CONTEXT_DEBUG_MEMORY | TENON_CONTEXT_NO_STAGING |
                           TENON_CONTEXT_NO_VENDOR_LIBRARIES | TENON_CONTEXT_REDUCED_PRECISION;
    if (desc->flags & ~known)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "flags is 0x%x, expected a combination of TENON_CONTEXT_* (0x%x)",
                       (unsigned)desc->flags, (unsigned)known);
    return TENON_OK;
}

/* How many threads work at once: what the descriptor says, or what there is. */
static tenon_status count_threads(const tenon_context_desc *desc, int32_t *threads,
                                  tn_message *message) {
    const int cores = tn_os_cores();
    int there = cores < TN_TEAM_MAX ? cores : TN_TEAM_MAX;
    if (desc->parallel.run)
        there = desc->parallel.threads(desc->parallel.user);
    if (there < 1 || there > TN_TEAM_MAX)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "parallel.threads returned %d, expected 1 to %d", there, TN_TEAM_MAX);
    *threads = desc->threads ? desc->threads : there;
    return TENON_OK;
}

/* What is lent must be used: a context on host memory has nothing to run in a driver's context or
 * queue. */
static tenon_status check_native(const tenon_context_desc *desc, const tn_device_name *chain,
                                 int count, tn_message *message) {
    const void *lent = desc->native_context ? desc->native_context : desc->native_queue;
    bool host = true;
    for (int s = 0; s < count; ++s)
        host = host && chain[s].backend->host;
    if (!lent || !host)
        return TENON_OK;
    return tn_fail(message, TENON_ERROR_UNSUPPORTED,
                   "%s is %p, expected NULL for device \"%s\", which has none",
                   desc->native_context ? "native_context" : "native_queue", lent, chain[0].id);
}

/* The pool of one slot: the shared one, that of an earlier host slot, or an own one. */
static tenon_status open_pool(tenon_context *ctx, const tenon_context_desc *desc, int s,
                              tn_message *message) {
    tn_slot *slot = &ctx->slot[s];

    if (desc->pool && s == 0) {
        if (tn_pool_space(desc->pool) != slot->space)
            return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                           "pool is %p, expected one of the memory of device \"%s\"",
                           (void *)desc->pool, slot->name.id);
        tn_pool_retain(desc->pool);
        slot->pool = desc->pool;
        return TENON_OK;
    }
    for (int i = 0; i < s; ++i) {
        if (ctx->slot[i].space == slot->space) {
            tn_pool_retain(ctx->slot[i].pool);
            slot->pool = ctx->slot[i].pool;
            return TENON_OK;
        }
    }
    const tenon_pool_desc pool = {
        .device = slot->name.id,
        .budget = desc->memory_budget,
        .flags = desc->flags & TENON_CONTEXT_DEBUG_MEMORY ? TENON_POOL_DEBUG : 0,
        .allocator = desc->allocator,
        .logger = desc->logger,
        .log_level = desc->log_level,
    };
    return tn_pool_open_in(&pool, slot->space, message, &slot->pool);
}

static tenon_status open_slot(tenon_context *ctx, const tenon_context_desc *desc, int s,
                              tn_message *message) {
    tn_slot *slot = &ctx->slot[s];
    const tn_open open = {
        .index = slot->name.index,
        .flags = desc->flags,
        .allocator = desc->allocator,
        .native_context = desc->native_context,
        .native_queue = desc->native_queue,
        .kernel_cache_path = desc->kernel_cache_path,
    };
    TN_TRY(slot->name.backend->open(&open, &slot->device, message));
    if (slot->name.backend->space)
        slot->space = slot->name.backend->space(slot->device);
    TN_TRY(open_pool(ctx, desc, s, message));
    tn_arena_open(&slot->arena, slot->pool);
    slot->context = ctx;
    slot->reclaimer = (tn_reclaimer){.give_back = give_arena_back, .user = slot};
    tn_pool_add_reclaimer(slot->pool, &slot->reclaimer);
    return TENON_OK;
}

static void close_context(tenon_context *ctx) {
    for (int s = ctx->slots - 1; s >= 0; --s) {
        tn_slot *slot = &ctx->slot[s];
        if (slot->device)
            (void)slot->name.backend->sync(slot->device, &ctx->message);
        if (slot->pool) {
            tn_pool_remove_reclaimer(slot->pool, &slot->reclaimer);
            tn_arena_close(&slot->arena);
            tn_pool_release(slot->pool);
        }
        if (slot->device)
            slot->name.backend->close(slot->device);
    }
    tn_plan_cache_clear(&ctx->cache);
    tn_team_destroy(ctx->team);
    const tenon_allocator allocator = ctx->allocator;
    atomic_store_explicit(&ctx->entered, TN_CONTEXT_GONE, memory_order_relaxed);
    tn_host_free(&allocator, ctx, sizeof *ctx);
}

static tenon_status create(const tenon_context_desc *desc, tenon_context **out,
                           tn_message *message) {
    tn_device_name chain[TN_MAX_CHAIN];
    int count;

    int32_t threads = 1;
    TN_TRY(check_desc(desc, message));
    TN_TRY(count_threads(desc, &threads, message));
    TN_TRY(tn_devices_resolve(desc->device, tn_os_env("TENON_DEVICE"), chain, &count, message));
    TN_TRY(check_native(desc, chain, count, message));

    const void *stray;
    tenon_context *ctx =
        tn_host_alloc_watched(&desc->allocator, sizeof *ctx, TN_CACHE_LINE, &stray);
    if (!ctx)
        return tn_fail_host(message, "a context", sizeof *ctx, stray, TN_CACHE_LINE);
    memset(ctx, 0, sizeof *ctx);
    atomic_init(&ctx->entered, TN_CONTEXT_FREE);
    ctx->allocator = desc->allocator;
    ctx->log.logger = desc->logger;
    ctx->log.level = desc->log_level;
    ctx->flags = desc->flags;
    ctx->threads = threads;
    ctx->cache.limit = desc->plan_cache_bytes ? desc->plan_cache_bytes : (size_t)1 << 20;

    tenon_status status =
        tn_team_create(&desc->allocator, ctx->threads, &desc->parallel, &ctx->team);
    if (status == TENON_ERROR_INVALID_ARGUMENT)
        tn_fail(message, status,
                "allocator.alloc returned misaligned memory for a team of %d threads, expected a "
                "multiple of the alignment asked for",
                ctx->threads);
    else if (status != TENON_OK)
        tn_fail(message, status, "no memory for a team of %d threads", ctx->threads);
    for (int s = 0; s < count && status == TENON_OK; ++s) {
        ctx->slot[s].name = chain[s];
        ctx->slots = s + 1;
        status = open_slot(ctx, desc, s, message);
    }
    if (status != TENON_OK) {
        close_context(ctx);
        return status;
    }
    for (int s = 0; s < count; ++s)
        tn_log_line(&ctx->log, TENON_LOG_INFO, "context: device %s, %d threads", chain[s].id,
                    ctx->threads);
    *out = ctx;
    return TENON_OK;
}

tenon_status tenon_context_create(const tenon_context_desc *desc, tenon_context **out) {
    tenon_context_desc full;
    tn_message message = {{0}};

    if (!out)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_context_create: out is NULL, expected an address");
    *out = NULL;
    tenon_status status = tn_read_desc(desc, &full, sizeof full, &message);
    if (status == TENON_OK)
        status = create(&full, out, &message);
    return status == TENON_OK ? TENON_OK
                              : tn_fail_shared(status, "tenon_context_create: %s", message.text);
}

void tenon_context_destroy(tenon_context *ctx) {
    if (!ctx)
        return;
    /* A second time: its pools and locks are gone too, and waiting for them would have no end. */
    const uint32_t entered = atomic_load_explicit(&ctx->entered, memory_order_relaxed);
    if (entered >= TN_CONTEXT_FREE && entered < TN_CONTEXT_GONE)
        close_context(ctx);
}

/* ---------------------------------------------------------------- small calls */

const char *tenon_error_message(const tenon_context *ctx) {
    return ctx ? ctx->message.text : tn_message_shared();
}

tenon_status tenon_sync(tenon_context *ctx) {
    TN_TRY(tn_context_enter(ctx, "tenon_sync"));
    tenon_status status = TENON_OK;
    for (int s = 0; s < ctx->slots && status == TENON_OK; ++s)
        status = ctx->slot[s].name.backend->sync(ctx->slot[s].device, &ctx->message);
    return tn_context_leave(ctx, status);
}

tenon_status tenon_context_wait(tenon_context *ctx, tenon_context *other) {
    TN_TRY(tn_context_enter(ctx, "tenon_context_wait"));
    tenon_status status = TENON_OK;
    if (!other)
        status = tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                         "other is NULL, expected a context");
    (void)tn_context_leave(ctx, status);
    /* Host devices have nothing queued; a device with queues waits for `other` here. */
    return status != TENON_OK || other == ctx ? status : tenon_sync(other);
}

tenon_status tenon_context_native(tenon_context *ctx, void **native_context, void **native_queue) {
    TN_TRY(tn_context_enter(ctx, "tenon_context_native"));
    if (native_context)
        *native_context = NULL;
    if (native_queue)
        *native_queue = NULL;
    for (int s = 0; s < ctx->slots; ++s) { /* the first that has any */
        void *context, *queue;
        if (!ctx->slot[s].name.backend->native)
            continue;
        ctx->slot[s].name.backend->native(ctx->slot[s].device, &context, &queue);
        if (native_context)
            *native_context = context;
        if (native_queue)
            *native_queue = queue;
        break;
    }
    return tn_context_leave(ctx, TENON_OK);
}

/* ---------------------------------------------------------------- compiled kernels */

/* Those of all devices one after the other; *bytes may come to more than `capacity`. */
static tenon_status write_kernels(tenon_context *ctx, unsigned char *memory, size_t capacity,
                                  size_t *bytes) {
    *bytes = 0;
    for (int s = 0; s < ctx->slots; ++s) {
        const tn_slot *slot = &ctx->slot[s];
        size_t part = 0;
        const bool room = memory && *bytes <= capacity;
        if (!slot->name.backend->save_kernels)
            continue;
        TN_TRY(slot->name.backend->save_kernels(slot->device, room ? memory + *bytes : NULL,
                                                room ? capacity - *bytes : 0, &part,
                                                &ctx->message));
        *bytes += part;
    }
    return TENON_OK;
}

/* By way of an image, so that a failure leaves `memory` as it was. */
static tenon_status save_kernels(tenon_context *ctx, void *memory, size_t capacity, size_t *bytes) {
    size_t total, now = 0;
    TN_TRY(write_kernels(ctx, NULL, 0, &total));
    *bytes = total;
    if (!memory || total == 0)
        return TENON_OK;
    if (total > capacity)
        return tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                       "capacity is %zu, expected at least %zu", capacity, total);
    const void *stray;
    void *image = tn_host_alloc_watched(&ctx->allocator, total, TN_CACHE_LINE, &stray);
    if (!image)
        return tn_fail_host(&ctx->message, "compiled kernels", total, stray, TN_CACHE_LINE);
    tenon_status status = write_kernels(ctx, image, total, &now);
    if (status == TENON_OK && now <= total) {
        memcpy(memory, image, now);
        *bytes = now;
    } else if (status == TENON_OK) {
        status = tn_fail(&ctx->message, TENON_ERROR_BUSY,
                         "another context compiled kernels meanwhile: %zu bytes have become %zu",
                         total, now);
    }
    tn_host_free(&ctx->allocator, image, total);
    return status;
}

tenon_status tenon_context_save_kernels(tenon_context *ctx, void *memory, size_t capacity,
                                        size_t *bytes) {
    TN_TRY(tn_context_enter(ctx, "tenon_context_save_kernels"));
    if (!bytes)
        return tn_context_leave(ctx, tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                                             "bytes is NULL, expected an address"));
    return tn_context_leave(ctx, save_kernels(ctx, memory, capacity, bytes));
}

tenon_status tenon_context_load_kernels(tenon_context *ctx, const void *memory, size_t bytes,
                                        int32_t *loaded) {
    TN_TRY(tn_context_enter(ctx, "tenon_context_load_kernels"));
    tenon_status status = TENON_OK;
    int count = 0;
    if (!memory && bytes)
        status = tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                         "memory is NULL, expected %zu bytes", bytes);
    for (int s = 0; s < ctx->slots && bytes && status == TENON_OK; ++s)
        if (ctx->slot[s].name.backend->load_kernels)
            status = ctx->slot[s].name.backend->load_kernels(ctx->slot[s].device, memory, bytes,
                                                             &count, &ctx->message);
    if (loaded)
        *loaded = count;
    return tn_context_leave(ctx, status);
}

/* ---------------------------------------------------------------- what a context is */

const char *tenon_context_device(const tenon_context *ctx, int index) {
    return ctx && index >= 0 && index < ctx->slots ? ctx->slot[index].name.id : NULL;
}

int tenon_context_threads(const tenon_context *ctx) {
    return ctx ? ctx->threads : 0;
}

tenon_pool *tenon_context_pool(tenon_context *ctx, int device_index) {
    return ctx && device_index >= 0 && device_index < ctx->slots ? ctx->slot[device_index].pool
                                                                 : NULL;
}

/* ---------------------------------------------------------------- threads of the host */

enum { NOBODY_CAME = 1 }; /* in part_status, where work leaves a status: 0 or less */

tenon_status tenon_part_begin(tenon_context *ctx) {
    TN_TRY(tn_context_enter(ctx, "tenon_part_begin"));
    tenon_status status = TENON_OK;
    if (ctx->in_part) {
        status = tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                         "ctx is in a part already, expected tenon_part_end before");
    } else {
        ctx->in_part = 1;
        atomic_store(&ctx->part_status, NOBODY_CAME);
        tn_team_part_begin(ctx->team);
    }
    return tn_context_leave(ctx, status);
}

void tenon_part_run(tenon_context *ctx, tenon_part_work work, void *user) {
    if (!ctx || !work || !tn_team_part_enter(ctx->team))
        return;
    atomic_store(&ctx->part_status, (int)work(user));
    tn_team_part_finish(ctx->team);
}

tenon_status tenon_part_end(tenon_context *ctx) {
    TN_TRY(tn_context_enter(ctx, "tenon_part_end"));
    if (!ctx->in_part)
        return tn_context_leave(ctx,
                                tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                                        "ctx is in no part, expected tenon_part_begin before"));
    tn_team_part_end(ctx->team);
    ctx->in_part = 0;
    const int status = atomic_load(&ctx->part_status);
    if (status == NOBODY_CAME)
        return tn_context_leave(ctx, tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                                             "work was run by no thread, expected tenon_part_run "
                                             "on one at least"));
    /* Where work failed, the sentence is that of the call inside it. */
    (void)tn_context_leave(ctx, TENON_OK);
    return (tenon_status)status;
}
