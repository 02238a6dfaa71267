/* SPDX-License-Identifier: Apache-2.0 */
/*
 * space.h: memory that is not the host's, as the queue of one open device reaches it.
 *
 * A backend makes spaces; pools draw their segments from one, buffers import foreign memory into
 * one, and the core copies between one and the host. Whoever keeps a space retains it.
 *
 * Every byte of a space has an address of its own in this process, so that operands, views and
 * overlaps are spoken of in addresses wherever they lie. Where neither the host nor the driver has
 * one (a cl_mem of a card) it comes from a range that is reserved for the block and that nobody can
 * read or write; what the device is told is the handle and the offset in it.
 *
 * All work of a space, copies included, is done in the order in which it was queued. So a block
 * that was freed may be handed out again at once: whatever still reads it was queued before.
 */
#ifndef TN_MEMORY_SPACE_H
#define TN_MEMORY_SPACE_H

#include <stdbool.h>

#include <tenon/memory.h>

#include "core/message.h"

/* A piece of memory that a device takes as a whole: a segment of a pool, or foreign memory. */
typedef struct tn_segment_memory {
    void *handle;  /* the source's own name for it: a cl_mem, or nothing */
    void *address; /* first byte, at a multiple of 4096; NULL if there are handles and offsets
                      only */
    size_t bytes;
} tn_segment_memory;

/* Where a byte lies, as a device is told: a handle and an offset in it, or (CUDA) the address. */
typedef struct tn_place {
    void *address; /* NULL: nowhere, the operand is absent */
    void *handle;
    size_t offset; /* bytes */
} tn_place;

static inline tn_place tn_place_in(const tn_segment_memory *memory, void *address) {
    const size_t offset = (size_t)((char *)address - (char *)memory->address);
    return (tn_place){.address = address, .handle = memory->handle, .offset = offset};
}

typedef struct tn_space tn_space;

/*
 * What a backend does for its memory. Everything is thread safe. Sizes are above 0 and parts lie
 * within their memory. A status is OUT_OF_MEMORY, after which nothing has changed, or DEVICE_LOST,
 * unless it says otherwise.
 */
typedef struct tn_space_calls {
    void (*retain)(tn_space *space);
    /* The last holder's release ends the space. Nothing of it may be in a pool then. */
    void (*release)(tn_space *space);
    /* DEVICE_LOST if it is known to be. NULL where it never is. */
    tenon_status (*check)(tn_space *space, tn_message *why);

    /* A segment, as in tn_segment_source, that exists from the first byte to the last: what a
     * driver would only find out at the first use is found out here. NULL where `host_pages`. */
    bool (*alloc)(tn_space *space, size_t bytes, tn_segment_memory *out);
    void (*free)(tn_space *space, const tn_segment_memory *memory);
    /* Takes a part of a segment back, as in tn_segment_source, when no work uses it any more. NULL,
     * or `part` 0: segments come and go as wholes. A segment of which every part has gone is not
     * freed. */
    bool (*give_part)(tn_space *space, const tn_segment_memory *memory, size_t offset,
                      size_t bytes);

    /*
     * Lets the device use host memory in place, until `withdraw`, which waits for the work that
     * does. UNSUPPORTED where it can't, as where the block overlaps what is lent already and is not
     * the same; OUT_OF_MEMORY also where it is too large. NULL where no host memory ever can.
     * Withdrawing is false if the device was lost and may be at the memory for ever, for all that
     * its driver says: then it must not be given back.
     */
    tenon_status (*lend)(tn_space *space, void *host, size_t bytes, tn_segment_memory *out,
                         tn_message *why);
    bool (*withdraw)(tn_space *space, const tn_segment_memory *memory);

    /*
     * Memory of the caller's (tenon_buffer_import), until `forget`. INVALID_ARGUMENT with the field
     * (kind, native, bytes) or UNSUPPORTED.
     */
    tenon_status (*import)(tn_space *space, tenon_native_kind kind, void *native, size_t bytes,
                           tn_segment_memory *out, tn_message *why);
    void (*forget)(tn_space *space, tenon_native_kind kind, const tn_segment_memory *memory);

    /* Copies; they return when `host` may be used again, or has been written. */
    tenon_status (*write)(tn_space *space, const tn_place *to, const void *host, size_t bytes,
                          tn_message *why);
    tenon_status (*read)(tn_space *space, void *host, const tn_place *from, size_t bytes,
                         tn_message *why);
    /* Sets bytes; may return before it is done. */
    tenon_status (*fill)(tn_space *space, const tn_place *to, unsigned char value, size_t bytes,
                         tn_message *why);

    /* A host address of a part, after the work queued before, until unmap, after which what was
     * written there is the device's. Unmapping is told the buffer: INVALID_ARGUMENT if `host` is
     * not where a part of its `bytes` at `at` is mapped. */
    tenon_status (*map)(tn_space *space, const tn_place *at, size_t bytes, void **host,
                        tn_message *why);
    tenon_status (*unmap)(tn_space *space, const tn_place *at, size_t bytes, void *host,
                          tn_message *why);

    /* Waits until everything queued is done, and what was freed meanwhile is really free. */
    tenon_status (*wait)(tn_space *space, tn_message *why);
} tn_space_calls;

struct tn_space {
    const tn_space_calls *calls;
    char device[32];        /* "opencl:1", for sentences */
    tenon_native_kind kind; /* of its handles */
    bool host_pages;        /* device and host share memory: segments are the pool's pages, lent */
    size_t most;            /* bytes of one segment */
    size_t total;           /* bytes of the device's memory; 0: unknown */
    size_t granularity;     /* a power of two from 64 */
    size_t part;            /* what can go back alone: a power of two from granularity; or 0 */
};

#endif
