/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer.c: buffers, the caller's handles on blocks of a pool or on foreign memory.
 *
 * A handle is a record of its pool, so making one needs the system once in a hundred times and
 * freeing never does. Views share the root's block and keep it alive. Copies are for host memory;
 * device memory goes through its backend.
 */
#include "memory/buffer.h"

#include <string.h>

#include "core/enter.h"
#include "memory/pool_state.h"

enum { MARK_LIVE = 0x6c697665, MARK_FREED = 0x64656164 };

static void tell_no_handle(tenon_pool *pool) {
    const tn_request request =
        tn_request_of(pool, sizeof(tenon_buffer), TN_GRANULE, "tenon: records");
    tn_message message;
    tn_mutex_lock(&pool->lock);
    tn_fail_short_locked(pool, &request, TENON_ERROR_OUT_OF_MEMORY,
                         "no memory for a buffer's handle", &message);
    tn_mutex_unlock(&pool->lock);
    tn_message_publish(&message);
}

/* A handle with one holder that keeps the pool alive; NULL when there is no memory for it. */
static tenon_buffer *take_handle(tenon_pool *pool) {
    tn_mutex_lock(&pool->lock);
    tenon_buffer *buffer = tn_records_take(&pool->handles);
    tn_mutex_unlock(&pool->lock);
    while (buffer == NULL) {
        tn_mutex_lock(&pool->slow);
        bool refilled = tn_refill(pool, &pool->handles, 0);
        tn_mutex_unlock(&pool->slow);
        if (!refilled) {
            tell_no_handle(pool);
            return NULL;
        }
        tn_mutex_lock(&pool->lock);
        buffer = tn_records_take(&pool->handles);
        tn_mutex_unlock(&pool->lock);
    }
    buffer->pool = pool;
    buffer->root = buffer;
    buffer->block = (tn_block){0};
    buffer->native = NULL;
    buffer->offset = 0;
    buffer->bytes = 0;
    buffer->kind = TENON_NATIVE_HOST;
    atomic_store_explicit(&buffer->holders, 1, memory_order_relaxed);
    atomic_store_explicit(&buffer->mark, MARK_LIVE, memory_order_release);
    tn_pool_retain(pool);
    return buffer;
}

static void give_handle(tenon_buffer *buffer) {
    tenon_pool *pool = buffer->pool;
    atomic_store_explicit(&buffer->mark, MARK_FREED, memory_order_relaxed);
    tn_mutex_lock(&pool->lock);
    tn_records_give(&pool->handles, buffer);
    tn_mutex_unlock(&pool->lock);
    tn_pool_release(pool);
}

/* One holder of a root less; the last one frees its block. */
static void drop(tenon_buffer *root) {
    if (atomic_fetch_sub_explicit(&root->holders, 1, memory_order_acq_rel) != 1)
        return;
    tn_pool_free(root->pool, &root->block);
    give_handle(root);
}

static tenon_status check_new(tenon_pool *pool, tenon_buffer **out) {
    if (out == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "buffer: out is NULL");
    *out = NULL;
    if (pool == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "buffer: pool is NULL");
    return TENON_OK;
}

tenon_status tenon_buffer_alloc_aligned(tenon_pool *pool, size_t bytes, size_t alignment,
                                        const char *owner, tenon_buffer **out) {
    tenon_status status = check_new(pool, out);
    if (status != TENON_OK)
        return status;
    if (alignment == 0)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "buffer: alignment is 0; expected a power of two up to %d",
                              TN_ALIGNMENT_MOST);
    tenon_buffer *buffer = take_handle(pool);
    if (buffer == NULL)
        return TENON_ERROR_OUT_OF_MEMORY;
    tn_message message;
    status = tn_pool_alloc(pool, bytes, alignment, owner, &buffer->block, &message);
    if (status != TENON_OK) {
        tn_message_publish(&message);
        give_handle(buffer);
        return status;
    }
    buffer->bytes = bytes;
    buffer->native = buffer->block.address;
    if (buffer->native == NULL) {
        buffer->native = buffer->block.handle;
        buffer->offset = buffer->block.offset;
    }
    *out = buffer;
    return TENON_OK;
}

tenon_status tenon_buffer_alloc(tenon_pool *pool, size_t bytes, const char *owner,
                                tenon_buffer **out) {
    return tenon_buffer_alloc_aligned(pool, bytes, TN_GRANULE, owner, out);
}

tenon_status tenon_buffer_import(tenon_pool *pool, tenon_native_kind kind, void *native,
                                 size_t bytes, tenon_buffer **out) {
    tenon_status status = check_new(pool, out);
    if (status != TENON_OK)
        return status;
    if (kind != TENON_NATIVE_HOST || !pool->source.host)
        return tn_fail_shared(TENON_ERROR_UNSUPPORTED,
                              "buffer: import of native kind %d into a pool of device %s",
                              (int)kind, pool->device);
    if (native == NULL && bytes != 0)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "buffer: native is NULL; expected the address of %zu bytes", bytes);
    tenon_buffer *buffer = take_handle(pool);
    if (buffer == NULL)
        return TENON_ERROR_OUT_OF_MEMORY;
    buffer->native = native;
    buffer->bytes = bytes;
    *out = buffer;
    return TENON_OK;
}

/* True if [offset, offset + bytes) lies in the buffer. */
static bool covers(const tenon_buffer *buffer, size_t offset, size_t bytes) {
    return offset <= buffer->bytes && bytes <= buffer->bytes - offset;
}

tenon_status tenon_buffer_view(tenon_buffer *parent, size_t offset, size_t bytes,
                               tenon_buffer **out) {
    if (out == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "buffer view: out is NULL");
    *out = NULL;
    if (parent == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "buffer view: parent is NULL");
    if (!covers(parent, offset, bytes))
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "buffer view: %zu bytes at offset %zu leave the parent's %zu bytes",
                              bytes, offset, parent->bytes);
    tenon_buffer *view = take_handle(parent->pool);
    if (view == NULL)
        return TENON_ERROR_OUT_OF_MEMORY;
    view->root = parent->root;
    view->kind = parent->kind;
    view->native = parent->native;
    view->offset = parent->offset + offset;
    view->bytes = bytes;
    atomic_fetch_add_explicit(&view->root->holders, 1, memory_order_relaxed);
    *out = view;
    return TENON_OK;
}

void tenon_buffer_free(tenon_buffer *buffer) {
    if (buffer == NULL)
        return;
    unsigned live = MARK_LIVE;
    if (!atomic_compare_exchange_strong(&buffer->mark, &live, MARK_FREED)) {
        /* Readable as long as the pool lives: handles stay in its slabs. */
        tenon_pool *pool = buffer->pool;
        tn_finding finding = {0};
        tn_mutex_lock(&pool->lock);
        tn_finding_add_locked(pool, &finding, "a buffer was freed twice");
        tn_mutex_unlock(&pool->lock);
        tn_finding_tell(pool, &finding);
        return;
    }
    tenon_buffer *root = buffer->root;
    if (root != buffer)
        give_handle(buffer);
    drop(root);
}

size_t tenon_buffer_size(const tenon_buffer *buffer) {
    return buffer != NULL ? buffer->bytes : 0;
}

void *tenon_buffer_host(const tenon_buffer *buffer) {
    if (buffer == NULL || buffer->native == NULL || !buffer->pool->source.host)
        return NULL;
    return (unsigned char *)buffer->native + buffer->offset;
}

tenon_status tenon_buffer_native(const tenon_buffer *buffer, tenon_native_kind *kind, void **native,
                                 size_t *offset) {
    if (buffer == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "buffer native: buffer is NULL");
    if (kind != NULL)
        *kind = buffer->kind;
    if (native != NULL)
        *native = buffer->native;
    if (offset != NULL)
        *offset = buffer->offset;
    return TENON_OK;
}

/* ---- copies: public calls on a context ---- */

/* Checks a part of a buffer inside `ctx`; *at gets its host address, which may be NULL if bytes ==
 * 0. */
static tenon_status find_part(tenon_context *ctx, const tenon_buffer *buffer, size_t offset,
                              size_t bytes, const char *call, unsigned char **at) {
    tn_message *message = tn_context_message(ctx);
    *at = NULL;
    if (buffer == NULL)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "%s: buffer is NULL, expected a buffer", call);
    if (!covers(buffer, offset, bytes))
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "%s: offset %zu and bytes %zu leave the buffer of %zu bytes", call, offset,
                       bytes, buffer->bytes);
    unsigned char *base = tenon_buffer_host(buffer);
    if (base == NULL && bytes != 0)
        return tn_fail(message, TENON_ERROR_UNSUPPORTED,
                       "%s: memory of device %s has no host address", call, buffer->pool->device);
    if (base != NULL)
        *at = base + offset;
    return TENON_OK;
}

/* One of `to` and `from` is NULL: the buffer's side. */
static tenon_status copy(tenon_context *ctx, const tenon_buffer *buffer, size_t offset, void *to,
                         const void *from, size_t bytes, const char *call) {
    TN_TRY(tn_context_enter(ctx, call));
    unsigned char *at;
    tenon_status status = find_part(ctx, buffer, offset, bytes, call, &at);
    if (status == TENON_OK && bytes != 0 && to == NULL && from == NULL)
        status = tn_fail(tn_context_message(ctx), TENON_ERROR_INVALID_ARGUMENT,
                         "%s: host is NULL, expected %zu bytes", call, bytes);
    if (status == TENON_OK && bytes != 0)
        memmove(to != NULL ? to : at, to != NULL ? at : from, bytes);
    tn_context_leave(ctx);
    return status;
}

tenon_status tenon_buffer_write(tenon_context *ctx, tenon_buffer *buffer, size_t offset,
                                const void *host, size_t bytes) {
    return copy(ctx, buffer, offset, NULL, host, bytes, "tenon_buffer_write");
}

tenon_status tenon_buffer_read(tenon_context *ctx, const tenon_buffer *buffer, size_t offset,
                               void *host, size_t bytes) {
    return copy(ctx, buffer, offset, host, NULL, bytes, "tenon_buffer_read");
}

tenon_status tenon_buffer_map(tenon_context *ctx, tenon_buffer *buffer, size_t offset, size_t bytes,
                              void **host) {
    const char *call = "tenon_buffer_map";
    TN_TRY(tn_context_enter(ctx, call));
    unsigned char *at;
    tenon_status status = find_part(ctx, buffer, offset, bytes, call, &at);
    if (host != NULL)
        *host = status == TENON_OK ? at : NULL;
    else if (status == TENON_OK)
        status = tn_fail(tn_context_message(ctx), TENON_ERROR_INVALID_ARGUMENT,
                         "%s: host is NULL, expected an address", call);
    tn_context_leave(ctx);
    return status;
}

tenon_status tenon_buffer_unmap(tenon_context *ctx, tenon_buffer *buffer, void *host) {
    const char *call = "tenon_buffer_unmap";
    TN_TRY(tn_context_enter(ctx, call));
    unsigned char *at;
    tenon_status status = find_part(ctx, buffer, 0, 0, call, &at);
    uintptr_t first = (uintptr_t)at, address = (uintptr_t)host;
    if (status == TENON_OK && (address < first || address - first > buffer->bytes))
        status = tn_fail(tn_context_message(ctx), TENON_ERROR_INVALID_ARGUMENT,
                         "%s: host is %p, expected an address that the buffer was mapped to", call,
                         host);
    tn_context_leave(ctx);
    return status;
}
