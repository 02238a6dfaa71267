/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer.h: a buffer from inside, for ops that resolve a tensor's address and for the pool that keeps the handles.
 *
 * Also declares what buffers ask of contexts; the core implements that, so this room needs no header of it.
 */
#ifndef TN_MEMORY_BUFFER_H
#define TN_MEMORY_BUFFER_H

#include <stdatomic.h>

#include "pool.h"

struct tenon_buffer {
    void *link;               /* the free list's, while the handle is not in use */
    atomic_uint mark;         /* whether the handle is live; survives its being given back */
    atomic_uint holders;      /* of an owning or imported buffer: itself and its views */
    tenon_pool *pool;
    struct tenon_buffer *root; /* whose block a view shows; itself otherwise */
    tn_block block;            /* zero for views and imports */
    void *native;              /* address of the first byte, or the handle if `offset` counts from one */
    size_t offset;
    size_t bytes;
    tenon_native_kind kind;
};

/* ---- implemented by the core (context.c) ---- */

/*
 * Whether `ctx` is a context that this thread may work with now; if not, tells why in tn_context_message(ctx).
 * ctx may be NULL: INVALID_ARGUMENT.
 */
tenon_status tn_context_check(tenon_context *ctx);

/* Where failures of calls on `ctx` are told; NULL for ctx == NULL, which means the process's message. */
tn_message *tn_context_message(tenon_context *ctx);

#endif
