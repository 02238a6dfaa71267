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
    void *native;              /* address of the root's first byte, see space.h */
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

/* Its first byte's address, readable by the host or not (space.h). NULL: it has no bytes. */
static inline void *tn_buffer_address(const tenon_buffer *buffer) {
    return buffer->native != NULL ? (char *)buffer->native + buffer->offset : NULL;
}

/* The space of its memory; NULL: the host's. */
tn_space *tn_buffer_space(const tenon_buffer *buffer);

/* Where a byte of its memory lies, for the device of its space. Pre: it is live and has one. */
tn_place tn_buffer_place(const tenon_buffer *buffer, void *address);

#endif
