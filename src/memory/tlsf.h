/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tlsf.h: which free block serves a request, in constant time.
 *
 * Two-level segregated fit (Masmano, Ripoll, Crespo, Real: "TLSF: a new dynamic memory allocator
 * for real-time systems", ECRTS 2004) with three changes. The nodes that describe blocks live apart
 * from the blocks, which may be device memory that the host can't touch. A request looks at a few
 * blocks of its own size class before it goes to the next, so that a block which was freed can
 * serve the same size again. A thorough search, linear in the free blocks of the nearest classes,
 * finds any block that fits, so nothing is lost to the rounding when memory is short.
 *
 * A part of a free block may become a hole: address range without memory behind it. A hole keeps
 * its node, so that the blocks around it need not be renumbered; it merges with holes only.
 *
 * Knows sizes and neighbours only: no memory, no locks, no owners. Called by the pool under its
 * lock.
 */
#ifndef TN_MEMORY_TLSF_H
#define TN_MEMORY_TLSF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/records.h"

enum {
    TN_GRANULE = 64,          /* every block starts at and spans a multiple: a cache line */
    TN_ALIGNMENT_MOST = 4096, /* segments start at such an address, so offsets carry alignment */
    TN_TLSF_SECOND_LOG2 = 5,  /* 32 classes per power of two: a class spans 3 % */
    TN_TLSF_SECOND = 1 << TN_TLSF_SECOND_LOG2,
    TN_TLSF_FIRST = 38 /* powers of two from 2 KiB (all smaller sizes are row 0) to 2^48 */
};

/* No block is larger: 128 TiB, and sums of two such sizes can't overflow. */
#define TN_BLOCK_MOST ((size_t)1 << 47)

typedef struct tn_tlsf_node {
    struct tn_tlsf_node *lower, *upper;   /* neighbours by address in the same segment */
    struct tn_tlsf_node *next, *previous; /* of the same class, while free */
    void *segment;                        /* whose bytes; neighbours never cross it */
    size_t offset, bytes;                 /* in the segment; multiples of TN_GRANULE */
    bool used;                            /* handed out, or a hole */
    bool hole;                            /* the bytes are not there any more */
} tn_tlsf_node;

typedef struct tn_tlsf {
    uint64_t first_map;                 /* bit i: some class of row i has a block */
    size_t holes;                       /* how many there are, those side by side being one */
    uint32_t second_map[TN_TLSF_FIRST]; /* bit j: class (i, j) has a block */
    tn_tlsf_node *heads[TN_TLSF_FIRST][TN_TLSF_SECOND];
} tn_tlsf;

/* A block found: `bytes` at `offset` inside the free node. */
typedef struct tn_tlsf_place {
    tn_tlsf_node *node; /* NULL: none */
    size_t offset;
} tn_tlsf_place;

/*
 * Makes a segment's bytes one free block that `node` describes from now on. The node keeps
 * describing the segment's lowest block until tn_tlsf_remove. A zeroed tn_tlsf is empty.
 */
void tn_tlsf_add(tn_tlsf *tlsf, tn_tlsf_node *node, void *segment, size_t bytes);

/* True if the segment that begins with `lowest` is one free block. */
static inline bool tn_tlsf_whole(const tn_tlsf_node *lowest) {
    return !lowest->used && lowest->upper == NULL;
}

/* Takes a segment out that is one free block or one hole. */
void tn_tlsf_remove(tn_tlsf *tlsf, tn_tlsf_node *node);

/*
 * A place for `bytes` at a multiple of `alignment`, in constant time; may miss a block that would
 * only just fit. Pre: bytes is a non-zero multiple of TN_GRANULE up to TN_BLOCK_MOST, alignment a
 * power of two in [TN_GRANULE, TN_ALIGNMENT_MOST].
 */
tn_tlsf_place tn_tlsf_find(const tn_tlsf *tlsf, size_t bytes, size_t alignment);

/* As tn_tlsf_find, but misses nothing: linear in the number of free blocks. */
tn_tlsf_place tn_tlsf_find_thorough(const tn_tlsf *tlsf, size_t bytes, size_t alignment);

/*
 * Marks the place used and returns its node; what is left on both sides stays free.
 * Pre: `nodes` holds at least TN_TLSF_SPLITS free records.
 */
tn_tlsf_node *tn_tlsf_take(tn_tlsf *tlsf, tn_tlsf_place place, size_t bytes, tn_records *nodes);
enum { TN_TLSF_SPLITS = 2 };

/* Frees a used node, merges it with free neighbours (their nodes go back to `nodes`) and returns
 * the merged node. */
tn_tlsf_node *tn_tlsf_release(tn_tlsf *tlsf, tn_tlsf_node *node, tn_records *nodes);

/* ---- holes ---- */

/*
 * The whole units of a free block, which can go without its neighbours; the end of a segment ends a
 * unit. Returns their bytes, which start at *offset; 0: not one.
 */
size_t tn_tlsf_inner(const tn_tlsf_node *node, size_t unit, size_t *offset);

/*
 * A free block with a whole unit, of the largest class if that is enough; NULL: none, so that
 * tn_tlsf_spare is 0. Linear in the blocks of one to two units, of which not every one has a whole
 * unit, and at the end in all.
 */
tn_tlsf_node *tn_tlsf_roomy(const tn_tlsf *tlsf, size_t unit);

/*
 * Bytes that can go: free segments, and the whole units of other free blocks, of at most `parts` of
 * them, the largest first. Linear in the free blocks.
 */
size_t tn_tlsf_spare(const tn_tlsf *tlsf, size_t unit, size_t parts);

/* Makes a node that tn_tlsf_take returned a hole, which merges with none until tn_tlsf_join. */
void tn_tlsf_punch(tn_tlsf *tlsf, tn_tlsf_node *node);

/* Merges a hole with those beside it, whose nodes go back to `nodes`; returns the merged one. */
tn_tlsf_node *tn_tlsf_join(tn_tlsf *tlsf, tn_tlsf_node *hole, tn_records *nodes);

/* Takes tn_tlsf_punch back: the bytes are there and free. */
void tn_tlsf_fill(tn_tlsf *tlsf, tn_tlsf_node *hole, tn_records *nodes);

/* ---- figures ---- */

/* Bytes of the largest free block; linear in the blocks of one class. */
size_t tn_tlsf_largest(const tn_tlsf *tlsf);

#endif
