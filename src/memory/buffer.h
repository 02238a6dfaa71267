/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer.h: a buffer from inside, for ops that resolve a tensor's address and for the pool that
 * keeps the handles.
 */
#ifndef TN_MEMORY_BUFFER_H
#define TN_MEMORY_BUFFER_H

#include "memory/pool.h"

typedef enum tn_buffer_role {
    TN_BUFFER_BLOCK, /* a block of the pool, whose record holds this buffer */
    TN_BUFFER_VIEW,  /* a part of another */
    TN_BUFFER_FOREIGN
} tn_buffer_role;

struct tenon_buffer {
    tenon_pool *pool;
    struct tenon_buffer *root; /* whose memory a view shows; itself otherwise */
    void *native; /* address of the first byte, or the handle if `offset` counts from one */
    size_t offset;
    size_t bytes;
    uint32_t mark;    /* whether the handle is live; survives its being given back. Pool's lock */
    uint32_t holders; /* of a root: itself and its views. Pool's lock */
    uint16_t lead;    /* guard bytes before the block of a debug pool */
    uint8_t owner;    /* of the block: index in the pool's table */
    uint8_t role;     /* tn_buffer_role */
    uint8_t kind;     /* tenon_native_kind */
};

enum { TN_MARK_LIVE = 0x6c697665, TN_MARK_FREED = 0x64656164 };

/*
 * False: it was freed, or never was one. A handle stays in its pool's slabs, so asking is legal as
 * long as the pool lives; one that serves another buffer by now is live again.
 */
static inline bool tn_buffer_live(const tenon_buffer *buffer) {
    return buffer->mark == TN_MARK_LIVE;
}

/* What one that is not live is, for a sentence: a handle that was freed has its mark, anything else
 * none. */
static inline const char *tn_buffer_fault(const tenon_buffer *buffer) {
    return buffer->mark == TN_MARK_FREED ? "was freed" : "is no buffer";
}

#endif
