/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h: static layouts from the inside: what layout.c (the call), layout_place.c (a first
 * placement, quick for any number of objects) and layout_search.c (a better one, for as much work
 * as is allowed) share.
 *
 * Time is counted in cliques: the largest sets of objects that are alive together, in order of
 * time. An interval graph of n objects has at most n of them, and objects overlap exactly if they
 * share one, so an object is a range of cliques and a placement is a skyline over them.
 */
#ifndef TN_MEMORY_LAYOUT_H
#define TN_MEMORY_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tn_layout_item {
    uint64_t bytes;       /* > 0, a multiple of the smallest alignment of the problem */
    uint64_t mask;        /* alignment - 1 */
    uint32_t first, last; /* cliques */
} tn_layout_item;

/* Objects none of which overlaps with any other of the problem, in order of `first`. */
typedef struct tn_layout_part {
    const tn_layout_item *items;
    uint64_t *offset; /* of each item */
    uint32_t count;
    uint32_t cliques; /* numbered from 0 */
} tn_layout_part;

static inline bool tn_layout_together(const tn_layout_item *a, const tn_layout_item *b) {
    return a->first <= b->last && b->first <= a->last;
}

/*
 * Work is counted, never timed, so that results are the same everywhere: a unit is a step of an
 * inner loop, about a nanosecond.
 */

/* Sorts indices by key, then index: in place, no bad case. */
void tn_layout_sort(uint32_t *index, uint32_t count, const uint64_t *key);

/* Bytes of scratch memory, aligned to 64, that the two functions below want for a part of this
 * size. */
size_t tn_layout_place_scratch(uint32_t count, uint32_t cliques);
size_t tn_layout_search_scratch(uint32_t count, uint32_t cliques);

/*
 * Places all items: with gaps looked for while *work lasts, which is reduced by what was done, and
 * on top of what lies there afterwards. Returns the total.
 */
uint64_t tn_layout_place(const tn_layout_part *part, void *scratch, uint64_t *work);

/*
 * Betters a placement until its total is at most `enough` or `work` is used up (or is too little to
 * begin with); returns the total, never more than that of the placement it began with.
 */
uint64_t tn_layout_search(const tn_layout_part *part, uint64_t total, uint64_t enough,
                          void *scratch, uint64_t work);

/* ---- skylines ---- */

/*
 * The height reached over each clique. Blocks of cliques that were raised as a whole are kept as
 * one number.
 */
typedef struct tn_skyline {
    uint64_t *height;     /* of a clique, unless its block is level */
    uint64_t *highest;    /* of a block */
    unsigned char *level; /* of a block: all of it is as high as its highest */
    uint32_t cliques;
    uint32_t shift; /* log2 of a block's cliques */
} tn_skyline;

size_t tn_skyline_scratch(uint32_t cliques);
void tn_skyline_init(tn_skyline *line, uint32_t cliques, void *scratch);
void tn_skyline_clear(tn_skyline *line);
uint64_t tn_skyline_highest(const tn_skyline *line, uint32_t first, uint32_t last);
/* The first clique of that height, which is the highest of the range. */
uint32_t tn_skyline_find(const tn_skyline *line, uint32_t first, uint32_t last, uint64_t highest);

/* To at least `height`. */
void tn_skyline_raise(tn_skyline *line, uint32_t first, uint32_t last, uint64_t height);

/* What one of the two costs on average, in units of work. */
static inline uint64_t tn_skyline_work(const tn_skyline *line, const tn_layout_item *item) {
    uint32_t span = item->last - item->first + 1;
    return span >> line->shift != 0 ? (span >> line->shift) + (1u << line->shift) : span;
}

#endif
