/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tlsf.c: two-level segregated fit over nodes that live apart from their blocks.
 *
 * Row i, column j of the table lists the free blocks of one size class; two levels of bitmaps find
 * the first class that is not empty with two bit scans. Merging keeps the lower node and splitting
 * leaves the lower part in the old one, so a segment's first node never changes. See tlsf.h for the
 * source and what differs from it.
 */
#include "memory/tlsf.h"

#include <assert.h>

/*
 * How many blocks of a list the constant-time search compares. 8 nodes are a few cache lines; on
 * the replayed traces of tests/memory the footprint does not improve beyond it.
 */
enum { LOOK = 8 };

typedef struct size_class {
    unsigned first, second;
} size_class;

static unsigned top_bit(size_t value) {
    return 63u - (unsigned)__builtin_clzll((unsigned long long)value);
}

/* The class whose blocks have at least the class's least size, the greatest such not above `bytes`.
 */
static size_class class_of(size_t bytes) {
    size_t granules = bytes / TN_GRANULE;
    if (granules < TN_TLSF_SECOND)
        return (size_class){0, (unsigned)granules};
    unsigned top = top_bit(granules);
    return (size_class){top - TN_TLSF_SECOND_LOG2 + 1,
                        (unsigned)(granules >> (top - TN_TLSF_SECOND_LOG2)) - TN_TLSF_SECOND};
}

/* The first class all of whose blocks have at least `bytes`. */
static size_class class_above(size_t bytes) {
    size_t granules = bytes / TN_GRANULE;
    if (granules >= TN_TLSF_SECOND)
        granules += ((size_t)1 << (top_bit(granules) - TN_TLSF_SECOND_LOG2)) - 1;
    return class_of(granules * TN_GRANULE);
}

/* The first class at or after `from` that is not empty. False: none. */
static bool next_class(const tn_tlsf *tlsf, size_class from, size_class *found) {
    if (from.first >= TN_TLSF_FIRST)
        return false;
    uint32_t seconds = from.second < TN_TLSF_SECOND
                           ? tlsf->second_map[from.first] & (UINT32_MAX << from.second)
                           : 0;
    if (seconds == 0) {
        uint64_t firsts = tlsf->first_map & ~(((uint64_t)2 << from.first) - 1);
        if (firsts == 0)
            return false;
        from.first = (unsigned)__builtin_ctzll(firsts);
        seconds = tlsf->second_map[from.first];
    }
    *found = (size_class){from.first, (unsigned)__builtin_ctz(seconds)};
    return true;
}

static void list(tn_tlsf *tlsf, tn_tlsf_node *node) {
    size_class c = class_of(node->bytes);
    tn_tlsf_node **head = &tlsf->heads[c.first][c.second];
    node->previous = NULL;
    node->next = *head;
    if (*head != NULL)
        (*head)->previous = node;
    *head = node;
    tlsf->second_map[c.first] |= (uint32_t)1 << c.second;
    tlsf->first_map |= (uint64_t)1 << c.first;
}

static void unlist(tn_tlsf *tlsf, tn_tlsf_node *node) {
    if (node->next != NULL)
        node->next->previous = node->previous;
    if (node->previous != NULL) {
        node->previous->next = node->next;
        return;
    }
    size_class c = class_of(node->bytes);
    tlsf->heads[c.first][c.second] = node->next;
    if (node->next != NULL)
        return;
    tlsf->second_map[c.first] &= ~((uint32_t)1 << c.second);
    if (tlsf->second_map[c.first] == 0)
        tlsf->first_map &= ~((uint64_t)1 << c.first);
}

/* The smallest block that fits among the first `limit` of a list. */
static tn_tlsf_place best_of(tn_tlsf_node *head, size_t bytes, size_t alignment, size_t limit) {
    tn_tlsf_place best = {NULL, 0};
    for (tn_tlsf_node *node = head; node != NULL && limit != 0; node = node->next, --limit) {
        size_t offset = (node->offset + alignment - 1) & ~(alignment - 1);
        if (offset - node->offset + bytes > node->bytes)
            continue;
        if (best.node == NULL || node->bytes < best.node->bytes)
            best = (tn_tlsf_place){node, offset};
    }
    return best;
}

void tn_tlsf_add(tn_tlsf *tlsf, tn_tlsf_node *node, void *segment, size_t bytes) {
    assert(bytes != 0 && bytes % TN_GRANULE == 0 && bytes <= TN_BLOCK_MOST);
    node->lower = node->upper = NULL;
    node->segment = segment;
    node->offset = 0;
    node->bytes = bytes;
    node->used = node->hole = false;
    list(tlsf, node);
}

void tn_tlsf_remove(tn_tlsf *tlsf, tn_tlsf_node *node) {
    assert(node->lower == NULL && node->upper == NULL && node->used == node->hole);
    if (node->hole)
        --tlsf->holes;
    else
        unlist(tlsf, node);
}

tn_tlsf_place tn_tlsf_find(const tn_tlsf *tlsf, size_t bytes, size_t alignment) {
    size_class own = class_of(bytes);
    tn_tlsf_place place = best_of(tlsf->heads[own.first][own.second], bytes, alignment, LOOK);
    if (place.node != NULL)
        return place;
    /* Blocks that hold the request wherever in them the alignment falls. */
    size_class found;
    if (!next_class(tlsf, class_above(bytes + alignment - TN_GRANULE), &found))
        return place;
    return best_of(tlsf->heads[found.first][found.second], bytes, alignment, LOOK);
}

tn_tlsf_place tn_tlsf_find_thorough(const tn_tlsf *tlsf, size_t bytes, size_t alignment) {
    size_class at = class_of(bytes);
    while (next_class(tlsf, at, &at)) {
        tn_tlsf_place place = best_of(tlsf->heads[at.first][at.second], bytes, alignment, SIZE_MAX);
        if (place.node != NULL)
            return place;
        ++at.second;
    }
    return (tn_tlsf_place){NULL, 0};
}

/* Cuts `node` at `offset`; the lower part stays in `node`, the upper part is returned. Neither is
 * listed. */
static tn_tlsf_node *split(tn_tlsf_node *node, size_t offset, tn_records *nodes) {
    tn_tlsf_node *upper = tn_records_take(nodes);
    assert(upper != NULL);
    upper->lower = node;
    upper->upper = node->upper;
    if (node->upper != NULL)
        node->upper->lower = upper;
    node->upper = upper;
    upper->segment = node->segment;
    upper->offset = offset;
    upper->bytes = node->offset + node->bytes - offset;
    upper->used = upper->hole = false;
    node->bytes = offset - node->offset;
    return upper;
}

tn_tlsf_node *tn_tlsf_take(tn_tlsf *tlsf, tn_tlsf_place place, size_t bytes, tn_records *nodes) {
    tn_tlsf_node *node = place.node;
    unlist(tlsf, node);
    if (place.offset > node->offset) {
        tn_tlsf_node *upper = split(node, place.offset, nodes);
        list(tlsf, node);
        node = upper;
    }
    if (bytes < node->bytes)
        list(tlsf, split(node, node->offset + bytes, nodes));
    node->used = true;
    return node;
}

/* Lets `lower` swallow its upper neighbour. */
static void merge(tn_tlsf_node *lower, tn_records *nodes) {
    tn_tlsf_node *upper = lower->upper;
    lower->bytes += upper->bytes;
    lower->upper = upper->upper;
    if (upper->upper != NULL)
        upper->upper->lower = lower;
    tn_records_give(nodes, upper);
}

tn_tlsf_node *tn_tlsf_release(tn_tlsf *tlsf, tn_tlsf_node *node, tn_records *nodes) {
    assert(node->used && !node->hole);
    node->used = false;
    if (node->upper != NULL && !node->upper->used) {
        unlist(tlsf, node->upper);
        merge(node, nodes);
    }
    if (node->lower != NULL && !node->lower->used) {
        node = node->lower;
        unlist(tlsf, node);
        merge(node, nodes);
    }
    list(tlsf, node);
    return node;
}

/* ---- holes ---- */

size_t tn_tlsf_inner(const tn_tlsf_node *node, size_t unit, size_t *offset) {
    size_t end = node->offset + node->bytes;
    *offset = (node->offset + unit - 1) & ~(unit - 1);
    if (node->upper != NULL)
        end &= ~(unit - 1);
    return end > *offset ? end - *offset : 0;
}

/* The free block with the most bytes, up to the width of a class; NULL: none. */
static tn_tlsf_node *top(const tn_tlsf *tlsf) {
    if (tlsf->first_map == 0)
        return NULL;
    unsigned first = top_bit((size_t)tlsf->first_map);
    unsigned second = 31u - (unsigned)__builtin_clz(tlsf->second_map[first]);
    return tlsf->heads[first][second];
}

/* The first block with a whole unit in the classes from `at` on. */
static tn_tlsf_node *roomy_from(const tn_tlsf *tlsf, size_class at, size_t unit) {
    size_t offset;
    while (next_class(tlsf, at, &at)) {
        tn_tlsf_node *node = tlsf->heads[at.first][at.second];
        for (; node != NULL; node = node->next)
            if (tn_tlsf_inner(node, unit, &offset) != 0)
                return node;
        ++at.second;
    }
    return NULL;
}

tn_tlsf_node *tn_tlsf_roomy(const tn_tlsf *tlsf, size_t unit) {
    size_t offset;
    tn_tlsf_node *node = top(tlsf);
    if (node == NULL || tn_tlsf_inner(node, unit, &offset) != 0)
        return node;
    node = roomy_from(tlsf, class_of(unit), unit);
    /* Less than a unit is one at the end of a segment. */
    return node != NULL ? node : roomy_from(tlsf, (size_class){0, 0}, unit);
}

size_t tn_tlsf_spare(const tn_tlsf *tlsf, size_t unit, size_t parts) {
    size_t spare = 0, offset;
    for (uint64_t firsts = tlsf->first_map; firsts != 0;) {
        const unsigned first = top_bit((size_t)firsts);
        firsts ^= (uint64_t)1 << first;
        for (uint32_t seconds = tlsf->second_map[first]; seconds != 0;) {
            const unsigned second = top_bit(seconds);
            seconds ^= (uint32_t)1 << second;
            const tn_tlsf_node *node = tlsf->heads[first][second];
            for (; node != NULL; node = node->next) {
                const size_t inner = tn_tlsf_inner(node, unit, &offset);
                const bool whole = node->lower == NULL && node->upper == NULL;
                if (inner == 0 || (!whole && parts == 0))
                    continue;
                spare += inner;
                parts -= !whole;
            }
        }
    }
    return spare;
}

void tn_tlsf_punch(tn_tlsf *tlsf, tn_tlsf_node *node) {
    assert(node->used && !node->hole);
    node->hole = true;
    ++tlsf->holes;
}

tn_tlsf_node *tn_tlsf_join(tn_tlsf *tlsf, tn_tlsf_node *hole, tn_records *nodes) {
    assert(hole->used && hole->hole);
    if (hole->upper != NULL && hole->upper->hole) {
        merge(hole, nodes);
        --tlsf->holes;
    }
    if (hole->lower != NULL && hole->lower->hole) {
        hole = hole->lower;
        merge(hole, nodes);
        --tlsf->holes;
    }
    return hole;
}

void tn_tlsf_fill(tn_tlsf *tlsf, tn_tlsf_node *hole, tn_records *nodes) {
    assert(hole->used && hole->hole);
    hole->hole = false;
    --tlsf->holes;
    tn_tlsf_release(tlsf, hole, nodes);
}

/* ---- figures ---- */

size_t tn_tlsf_largest(const tn_tlsf *tlsf) {
    size_t largest = 0;
    for (const tn_tlsf_node *node = top(tlsf); node != NULL; node = node->next)
        if (node->bytes > largest)
            largest = node->bytes;
    return largest;
}
