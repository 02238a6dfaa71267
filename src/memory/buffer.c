/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer.c: buffers, the caller's handles on blocks of a pool or on foreign memory.
 *
 * The handle of a block is part of the block's record, so making one costs nothing beside the block
 * itself, and each of the two ways takes the pool's lock once. Views and foreign memory have
 * records of their own. Every live handle holds the pool. Host memory is copied here, a device's by
 * its space.
 */
#include "memory/buffer.h"

#include <stdio.h>
#include <string.h>

#include "core/enter.h"
#include "memory/pool_quick.h"

static tn_handle_record *record_of(tenon_buffer *buffer) {
    return (tn_handle_record *)((char *)buffer - offsetof(tn_handle_record, buffer));
}

static tn_block_record *block_record_of(tenon_buffer *buffer) {
    return (tn_block_record *)((char *)buffer - offsetof(tn_block_record, buffer));
}

/* A device's memory that was imported, whole. */
static tn_segment_memory foreign_of(tenon_buffer *root) {
    return (tn_segment_memory){record_of(root)->handle, root->native, root->bytes};
}

/* Makes one more slab of handles. Takes `slow`. */
static tenon_status more_handles(tenon_pool *pool, const char *call) {
    if (!tn_enter_slow(pool))
        return tn_fail_lost_shared(pool);
    tenon_status status = TENON_OK;
    tn_message message;
    if (!tn_ladder_refill(pool, &pool->handles)) {
        const tn_request request =
            tn_request_of(pool, sizeof(tn_handle_record), TN_GRANULE, "tenon: handles");
        char why[TN_REASON_BYTES];
        status = tn_refusal(pool, why);
        if ((pool->flags & TENON_POOL_FIXED) != 0) {
            status = TENON_ERROR_OVER_BUDGET;
            snprintf(why, sizeof why, "the pool has a fixed size");
        }
        tn_mutex_lock(&pool->lock);
        tn_fail_short_locked(pool, &request, status, why, &message);
        tn_mutex_unlock(&pool->lock);
    }
    tn_leave_slow(pool);
    if (status != TENON_OK)
        tn_fail_shared(status, "%s: %s", call, message.text);
    return status;
}

/*
 * Another handle on `parent`'s memory, or with NULL on foreign memory, that holds the pool and the
 * parent's root; the rest is the caller's to fill in. On failure *out stays NULL.
 */
static tenon_status take_handle(tenon_pool *pool, const tenon_buffer *parent, tenon_buffer **out) {
    for (;;) {
        if (!tn_enter(pool))
            return tn_fail_lost_shared(pool);
        if (parent != NULL && !tn_buffer_live(parent)) {
            tn_leave(pool);
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "tenon_buffer_view: parent %s, expected a live buffer",
                                  tn_buffer_fault(parent));
        }
        tenon_buffer *root = parent != NULL ? parent->root : NULL;
        tn_handle_record *record = tn_records_take(&pool->handles);
        if (record != NULL) {
            tenon_buffer *buffer = &record->buffer;
            *buffer = (tenon_buffer){.pool = pool,
                                     .root = root != NULL ? root : buffer,
                                     .mark = TN_MARK_LIVE,
                                     .holders = 1,
                                     .role = root != NULL ? TN_BUFFER_VIEW : TN_BUFFER_FOREIGN};
            ++pool->holders;
            if (root != NULL)
                ++root->holders;
            *out = buffer;
        }
        tn_leave(pool);
        if (record != NULL)
            return TENON_OK;
        TN_TRY(more_handles(pool, parent != NULL ? "tenon_buffer_view" : "tenon_buffer_import"));
    }
}

static tenon_status check_new(tenon_pool *pool, tenon_buffer **out, const char *call) {
    if (out == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "%s: out is NULL, expected an address",
                              call);
    *out = NULL;
    if (pool == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "%s: pool is NULL, expected a pool",
                              call);
    return TENON_OK;
}

/* What is no block that waits: a search, or a failure. Gives `lock` back. */
static __attribute__((noinline)) tenon_status alloc_held(tenon_pool *pool, size_t bytes,
                                                         size_t alignment, const char *owner,
                                                         const char *call, tenon_buffer **out) {
    tn_block_record *record;
    tn_message message;
    tenon_status status =
        tn_block_take_held(pool, bytes, alignment, owner, TN_TAKE_BUFFER, &record, &message);
    if (status != TENON_OK)
        return tn_fail_shared(status, "%s: %s", call, message.text);
    record->buffer.mark = TN_MARK_LIVE;
    record->buffer.holders = 1;
    *out = &record->buffer;
    return TENON_OK;
}

static inline tenon_status alloc_buffer(tenon_pool *pool, size_t bytes, size_t alignment,
                                        const char *owner, const char *call, tenon_buffer **out) {
    *out = NULL;
    if (!tn_enter(pool))
        return tn_fail_lost_shared(pool);
    if (pool->watch != 0 || bytes > TN_BLOCK_MOST)
        return alloc_held(pool, bytes, alignment, owner, call, out);
    tn_block_record *record =
        tn_recall_locked(pool, bytes, alignment, owner != NULL ? owner : tn_nobody);
    if (record == NULL)
        return alloc_held(pool, bytes, alignment, owner, call, out);
    ++pool->holders;
    record->buffer.mark = TN_MARK_LIVE;
    record->buffer.holders = 1;
    tn_leave(pool);
    *out = &record->buffer;
    return TENON_OK;
}

tenon_status tenon_buffer_alloc_aligned(tenon_pool *pool, size_t bytes, size_t alignment,
                                        const char *owner, tenon_buffer **out) {
    const char *call = "tenon_buffer_alloc_aligned";
    if (pool == NULL || out == NULL)
        return check_new(pool, out, call);
    *out = NULL;
    if (alignment == 0 || alignment > TN_ALIGNMENT_MOST || (alignment & (alignment - 1)) != 0)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "%s: alignment is %zu, expected a power of two up to %d", call,
                              alignment, TN_ALIGNMENT_MOST);
    return alloc_buffer(pool, bytes, alignment, owner, call, out);
}

tenon_status tenon_buffer_alloc(tenon_pool *pool, size_t bytes, const char *owner,
                                tenon_buffer **out) {
    const char *call = "tenon_buffer_alloc";
    if (pool == NULL || out == NULL)
        return check_new(pool, out, call);
    return alloc_buffer(pool, bytes, TN_GRANULE, owner, call, out);
}

/* Memory of the caller's that the pool's device takes as it is. */
static tenon_status import_device(tenon_pool *pool, tenon_native_kind kind, void *native,
                                  size_t bytes, tenon_buffer **out) {
    const char *call = "tenon_buffer_import";
    tn_space *space = pool->space;
    tn_segment_memory memory;
    tn_message message;
    if (native == NULL || bytes == 0)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "%s: native is %p and bytes %zu, expected memory of device %s", call,
                              native, bytes, pool->device);
    tenon_status status = space->calls->import(space, kind, native, bytes, &memory, &message);
    if (status != TENON_OK)
        return tn_fail_shared(status, "%s: %s", call, message.text);
    status = take_handle(pool, NULL, out);
    if (status != TENON_OK) {
        space->calls->forget(space, kind, &memory);
        return status;
    }
    record_of(*out)->handle = memory.handle;
    (*out)->native = memory.address;
    (*out)->bytes = bytes;
    (*out)->kind = (uint8_t)kind;
    return TENON_OK;
}

tenon_status tenon_buffer_import(tenon_pool *pool, tenon_native_kind kind, void *native,
                                 size_t bytes, tenon_buffer **out) {
    const char *call = "tenon_buffer_import";
    tenon_status status = check_new(pool, out, call);
    if (status != TENON_OK)
        return status;
    if (kind != TENON_NATIVE_OPENCL && bytes > UINTPTR_MAX - (uintptr_t)native)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "%s: native is %p and bytes %zu, expected memory inside the address "
                              "space",
                              call, native, bytes);
    if (pool->space != NULL)
        return import_device(pool, kind, native, bytes, out);
    if (kind != TENON_NATIVE_HOST || !pool->source.host)
        return tn_fail_shared(
            TENON_ERROR_UNSUPPORTED,
            "%s: kind is %d, expected TENON_NATIVE_HOST (%d) for a pool of device %s", call,
            (int)kind, (int)TENON_NATIVE_HOST, pool->device);
    if (native == NULL && bytes != 0)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "%s: native is NULL, expected the address of %zu bytes", call, bytes);
    status = take_handle(pool, NULL, out);
    if (status != TENON_OK)
        return status;
    (*out)->native = native;
    (*out)->bytes = bytes;
    return TENON_OK;
}

/* True if [offset, offset + bytes) lies in the buffer. */
static bool covers(const tenon_buffer *buffer, size_t offset, size_t bytes) {
    return offset <= buffer->bytes && bytes <= buffer->bytes - offset;
}

tenon_status tenon_buffer_view(tenon_buffer *parent, size_t offset, size_t bytes,
                               tenon_buffer **out) {
    const char *call = "tenon_buffer_view";
    if (out == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "%s: out is NULL, expected an address",
                              call);
    *out = NULL;
    if (parent == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "%s: parent is NULL, expected a buffer",
                              call);
    const uint32_t mark = parent->mark;
    if (mark != TN_MARK_LIVE && mark != TN_MARK_FREED) /* nor has it a pool to enter */
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "%s: parent %s, expected a live buffer",
                              call, tn_buffer_fault(parent));
    if (tn_buffer_live(parent) && !covers(parent, offset, bytes))
        return tn_fail_shared(
            TENON_ERROR_INVALID_ARGUMENT,
            "%s: offset is %zu and bytes %zu, expected a part of the parent's %zu "
            "bytes",
            call, offset, bytes, parent->bytes);
    tenon_status status = take_handle(parent->pool, parent, out);
    if (status != TENON_OK)
        return status;
    tenon_buffer *view = *out;
    view->kind = parent->kind;
    view->native = parent->native;
    view->offset = parent->offset + offset;
    view->bytes = bytes;
    return TENON_OK;
}

/* One holder of a root less; the last one frees what is behind it. Returns true if that was a
 * block. A device's foreign memory goes to *foreign, for after the lock. */
static bool drop_locked(tenon_pool *pool, tenon_buffer *root, tn_segment_memory *foreign,
                        tn_finding *finding) {
    if (--root->holders != 0)
        return false;
    if (root->role == TN_BUFFER_BLOCK) {
        tn_take_back_locked(pool, block_record_of(root), finding);
        return true;
    }
    if (pool->space != NULL) {
        *foreign = foreign_of(root);
        pool->space->calls->retain(pool->space); /* the pool may be gone before it is forgotten */
    }
    tn_records_give(&pool->handles, record_of(root));
    return false;
}

static void forget(tn_space *space, tenon_native_kind kind, const tn_segment_memory *foreign) {
    space->calls->forget(space, kind, foreign);
    space->calls->release(space);
}

/* Any handle. Gives `lock` back. */
static __attribute__((noinline)) void free_held(tenon_pool *pool, tenon_buffer *buffer) {
    tn_finding finding;
    finding.count = 0; /* the line is long, and hardly ever written */
    uint64_t id = 0;
    bool block = false, held = false;
    tn_space *const space = pool->space;
    tn_segment_memory foreign = {NULL, NULL, 0};
    tenon_native_kind kind = TENON_NATIVE_HOST;
    if (!tn_buffer_live(buffer)) {
        tn_finding_add_locked(pool, &finding, "a buffer was freed twice");
    } else {
        tenon_buffer *root = buffer->root;
        buffer->mark = TN_MARK_FREED;
        id = root->role == TN_BUFFER_BLOCK ? block_record_of(root)->id : 0;
        if (root != buffer)
            tn_records_give(&pool->handles, record_of(buffer));
        kind = (tenon_native_kind)root->kind;
        block = drop_locked(pool, root, &foreign, &finding);
        held = true;
    }
    unsigned watch = pool->watch;
    bool tells = finding.count != 0 || watch != 0;
    /* Telling needs the pool, and after the last holder there is none. */
    uint64_t holders = held && !tells ? --pool->holders : 1;
    tn_leave(pool);
    if (foreign.bytes != 0)
        forget(space, kind, &foreign);
    if (tells)
        tn_free_tell(pool, block ? watch : 0, id, &finding);
    if (tells && held)
        tn_pool_release(pool);
    if (holders == 0)
        tn_pool_close(pool);
}

void tenon_buffer_free(tenon_buffer *buffer) {
    if (buffer == NULL)
        return;
    /* Readable as long as the pool lives: handles stay in its slabs. */
    tenon_pool *pool = buffer->pool;
    if (!tn_enter(pool))
        return;
    if (pool->watch == 0 && pool->holders > 1 && tn_buffer_live(buffer) &&
        buffer->role == TN_BUFFER_BLOCK && buffer->holders == 1) {
        tn_block_record *record = block_record_of(buffer);
        buffer->mark = TN_MARK_FREED;
        buffer->holders = 0;
        tn_count_back_locked(pool, record);
        tn_defer_locked(pool, record);
        --pool->holders;
        tn_leave(pool);
        return;
    }
    free_held(pool, buffer);
}

size_t tenon_buffer_size(const tenon_buffer *buffer) {
    return buffer != NULL && tn_buffer_live(buffer) ? buffer->bytes : 0;
}

void *tenon_buffer_host(const tenon_buffer *buffer) {
    if (buffer == NULL || !tn_buffer_live(buffer) || !buffer->pool->source.host)
        return NULL;
    return tn_buffer_address(buffer);
}

tn_space *tn_buffer_space(const tenon_buffer *buffer) {
    return buffer->pool->space;
}

/* The whole that the memory behind a buffer is part of. */
static tn_segment_memory memory_of(const tenon_buffer *buffer) {
    tenon_buffer *root = buffer->root;
    return root->role == TN_BUFFER_BLOCK ? tn_segment_of(block_record_of(root))->memory
                                         : foreign_of(root);
}

tn_place tn_buffer_place(const tenon_buffer *buffer, void *address) {
    const tn_segment_memory memory = memory_of(buffer);
    return tn_place_in(&memory, address);
}

tenon_status tenon_buffer_native(const tenon_buffer *buffer, tenon_native_kind *kind, void **native,
                                 size_t *offset) {
    if (buffer == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_buffer_native: buffer is NULL, expected a buffer");
    if (!tn_buffer_live(buffer))
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_buffer_native: buffer %s, expected a live one",
                              tn_buffer_fault(buffer));
    const tn_space *space = buffer->pool->space;
    const bool handles = space != NULL && buffer->native != NULL;
    const tn_place at = handles ? tn_buffer_place(buffer, tn_buffer_address(buffer))
                                : (tn_place){buffer->native, buffer->native, buffer->offset};
    if (kind != NULL)
        *kind = handles ? space->kind : (tenon_native_kind)buffer->kind;
    if (native != NULL)
        *native = at.handle;
    if (offset != NULL)
        *offset = at.offset;
    return TENON_OK;
}

/* ---- copies: public calls on a context ---- */

/* Checks a part of a buffer inside `ctx`. */
static tenon_status check_part(tn_message *message, const tenon_buffer *buffer, size_t offset,
                               size_t bytes) {
    if (buffer == NULL)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT, "buffer is NULL, expected a buffer");
    if (!tn_buffer_live(buffer))
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT, "buffer %s, expected a live one",
                       tn_buffer_fault(buffer));
    if (!covers(buffer, offset, bytes))
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "offset is %zu and bytes %zu, expected a part of the buffer's %zu bytes",
                       offset, bytes, buffer->bytes);
    return TENON_OK;
}

/* Address of a part, which may be NULL if the buffer has no bytes. */
static unsigned char *part_at(const tenon_buffer *buffer, size_t offset) {
    unsigned char *base = tn_buffer_address(buffer);
    return base != NULL ? base + offset : NULL;
}

static tenon_status copy_host(const tenon_buffer *buffer, size_t offset, void *to, const void *from,
                              size_t bytes, tn_message *message) {
    unsigned char *at = part_at(buffer, offset);
    if (!buffer->pool->source.host)
        return tn_fail(message, TENON_ERROR_UNSUPPORTED,
                       "buffer is memory of device %s, expected memory with a host address",
                       buffer->pool->device);
    memmove(to != NULL ? to : at, to != NULL ? at : from, bytes);
    return TENON_OK;
}

/* One of `to` and `from` is NULL: the buffer's side. */
static tenon_status copy(tenon_context *ctx, const tenon_buffer *buffer, size_t offset, void *to,
                         const void *from, size_t bytes, const char *call) {
    TN_TRY(tn_context_enter(ctx, call));
    tn_message *message = tn_context_message(ctx);
    tenon_status status = check_part(message, buffer, offset, bytes);
    if (status != TENON_OK || bytes == 0)
        return tn_context_leave(ctx, status);
    tn_space *space = buffer->pool->space;
    if (to == NULL && from == NULL) {
        status = tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                         "host is NULL, expected the address of %zu bytes", bytes);
    } else if (space == NULL) {
        status = copy_host(buffer, offset, to, from, bytes, message);
    } else {
        const tn_place at = tn_buffer_place(buffer, part_at(buffer, offset));
        status = to != NULL ? space->calls->read(space, to, &at, bytes, message)
                            : space->calls->write(space, &at, from, bytes, message);
    }
    return tn_context_leave(ctx, status);
}

tenon_status tenon_buffer_write(tenon_context *ctx, tenon_buffer *buffer, size_t offset,
                                const void *host, size_t bytes) {
    return copy(ctx, buffer, offset, NULL, host, bytes, "tenon_buffer_write");
}

tenon_status tenon_buffer_read(tenon_context *ctx, const tenon_buffer *buffer, size_t offset,
                               void *host, size_t bytes) {
    return copy(ctx, buffer, offset, host, NULL, bytes, "tenon_buffer_read");
}

static tenon_status map_part(const tenon_buffer *buffer, size_t offset, size_t bytes, void **host,
                             tn_message *message) {
    tn_space *space = buffer->pool->space;
    void *at = part_at(buffer, offset);
    if (space != NULL && bytes != 0) {
        const tn_place place = tn_buffer_place(buffer, at);
        return space->calls->map(space, &place, bytes, host, message);
    }
    if (bytes != 0 && !buffer->pool->source.host)
        return tn_fail(message, TENON_ERROR_UNSUPPORTED,
                       "buffer is memory of device %s, expected memory with a host address",
                       buffer->pool->device);
    *host = at;
    return TENON_OK;
}

tenon_status tenon_buffer_map(tenon_context *ctx, tenon_buffer *buffer, size_t offset, size_t bytes,
                              void **host) {
    TN_TRY(tn_context_enter(ctx, "tenon_buffer_map"));
    tn_message *message = tn_context_message(ctx);
    if (host != NULL)
        *host = NULL;
    tenon_status status = check_part(message, buffer, offset, bytes);
    if (status == TENON_OK && host == NULL)
        status =
            tn_fail(message, TENON_ERROR_INVALID_ARGUMENT, "host is NULL, expected an address");
    if (status == TENON_OK)
        status = map_part(buffer, offset, bytes, host, message);
    return tn_context_leave(ctx, status);
}

static tenon_status unmap_part(const tenon_buffer *buffer, void *host, tn_message *message) {
    tn_space *space = buffer->pool->space;
    const uintptr_t first = (uintptr_t)part_at(buffer, 0), address = (uintptr_t)host;
    if (space != NULL && host != NULL && buffer->native != NULL) {
        const tn_place place = tn_buffer_place(buffer, part_at(buffer, 0));
        return space->calls->unmap(space, &place, buffer->bytes, host, message);
    }
    if (address < first || address - first > buffer->bytes)
        return tn_fail(message, TENON_ERROR_INVALID_ARGUMENT,
                       "host is %p, expected an address that the buffer was mapped to", host);
    return TENON_OK;
}

tenon_status tenon_buffer_unmap(tenon_context *ctx, tenon_buffer *buffer, void *host) {
    TN_TRY(tn_context_enter(ctx, "tenon_buffer_unmap"));
    tn_message *message = tn_context_message(ctx);
    tenon_status status = check_part(message, buffer, 0, 0);
    if (status == TENON_OK)
        status = unmap_part(buffer, host, message);
    return tn_context_leave(ctx, status);
}
