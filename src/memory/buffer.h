/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer.h: a buffer from inside, for ops that resolve a tensor's address and for the pool that
 * keeps the handles.
 */
#ifndef TN_MEMORY_BUFFER_H
#define TN_MEMORY_BUFFER_H

#include <stdatomic.h>

#include "memory/pool.h"

struct tenon_buffer {
    void *link;          /* the free list's, while the handle is not in use */
    atomic_uint mark;    /* whether the handle is live; survives its being given back */
    atomic_uint holders; /* of an owning or imported buffer: itself and its views */
    tenon_pool *pool;
    struct tenon_buffer *root; /* whose block a view shows; itself otherwise */
    tn_block block;            /* zero for views and imports */
    void *native; /* address of the first byte, or the handle if `offset` counts from one */
    size_t offset;
    size_t bytes;
    tenon_native_kind kind;
};

#endif
