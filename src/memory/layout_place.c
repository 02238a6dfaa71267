/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout_place.c: a first placement. Largest first, each object in the lowest gap between those
 * already placed that live at the same time (Pisarchyk and Lee, "Efficient Memory Management for
 * Deep Neural Net Inference", 2020, section 5, with the lowest gap instead of the tightest).
 *
 * An index over lifetimes finds the k placed objects that overlap in O(k log n). Where hundreds of
 * thousands are alive at once that is n^2, so work is bounded: what is left when it is used up
 * (the smallest objects) goes on top of the skyline, O(log n) or so each.
 */
#include <string.h>

#include "memory/layout.h"

typedef struct place {
    const tn_layout_item *items;
    uint64_t *offset, *key;
    uint32_t count, leaves; /* leaves: power of two >= count */
    uint32_t *order;        /* in which to place */
    uint32_t *placed;       /* by offset */
    uint32_t *found;        /* placed ones that overlap the current one */
    uint32_t *last_most;    /* tree over items: largest `last` placed, plus 1; 0: none */
    unsigned char *marked;  /* a set */
    tn_skyline line;
} place;

static uint32_t leaves_for(uint32_t count) {
    uint32_t leaves = 1;
    while (leaves < count)
        leaves *= 2;
    return leaves;
}

size_t tn_layout_place_scratch(uint32_t count, uint32_t cliques) {
    size_t n = count, nodes = 2 * (size_t)leaves_for(count);
    return n * sizeof(uint64_t) + tn_skyline_scratch(cliques) + (3 * n + nodes) * sizeof(uint32_t) +
           n;
}

/* The widest first, so that all is aligned. */
static void cut(place *p, const tn_layout_part *part, void *scratch) {
    size_t n = part->count;
    p->items = part->items;
    p->offset = part->offset;
    p->count = part->count;
    p->leaves = leaves_for(part->count);
    p->key = scratch;
    unsigned char *line = (unsigned char *)(p->key + n);
    tn_skyline_init(&p->line, part->cliques, line);
    p->order = (uint32_t *)(void *)(line + tn_skyline_scratch(part->cliques));
    p->placed = p->order + n;
    p->found = p->placed + n;
    p->last_most = p->found + n;
    p->marked = (unsigned char *)(p->last_most + 2 * (size_t)p->leaves);
    memset(p->last_most, 0, 2 * (size_t)p->leaves * sizeof *p->last_most);
    memset(p->marked, 0, n);
}

static bool before(const uint64_t *key, uint32_t a, uint32_t b) {
    return key[a] < key[b] || (key[a] == key[b] && a < b);
}

void tn_layout_sort(uint32_t *index, uint32_t count, const uint64_t *key) { /* heap sort */
    for (uint32_t start = count / 2, end = count; end > 1;) {
        uint32_t moved;
        if (start > 0) {
            moved = index[--start];
        } else {
            moved = index[--end];
            index[end] = index[0];
        }
        uint32_t at = start;
        for (uint32_t child; (child = 2 * at + 1) < end; at = child) {
            if (child + 1 < end && before(key, index[child], index[child + 1]))
                ++child;
            if (!before(key, moved, index[child]))
                break;
            index[at] = index[child];
        }
        index[at] = moved;
    }
}

/* Enters an object into the tree when it is placed. */
static void tree_set(place *p, uint32_t object) {
    uint32_t reach = p->items[object].last + 1;
    for (uint32_t node = p->leaves + object; node > 0 && p->last_most[node] < reach; node /= 2)
        p->last_most[node] = reach;
}

/* Lists the placed objects that overlap in p->found; returns how many. */
static uint32_t find_overlaps(place *p, const tn_layout_item *item) {
    /* Those that begin no later than this one ends are a prefix. */
    uint32_t low = 0, high = p->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->items[middle].first <= item->last)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t prefix = low, found = 0;
    struct {
        uint32_t node, begin, width;
    } stack[64];
    int depth = 0;
    stack[depth++] = (__typeof__(stack[0])){1, 0, p->leaves};
    while (depth > 0) {
        __typeof__(stack[0]) top = stack[--depth];
        if (top.begin >= prefix || p->last_most[top.node] <= item->first)
            continue;
        if (top.width == 1) {
            p->found[found++] = top.begin;
            continue;
        }
        uint32_t half = top.width / 2;
        stack[depth++] = (__typeof__(stack[0])){2 * top.node + 1, top.begin + half, half};
        stack[depth++] = (__typeof__(stack[0])){2 * top.node, top.begin, half};
    }
    return found;
}

/* Brings p->found in order of offset: by sorting, or by going through all that is placed if that is
 * less work. Returns the work. */
static uint64_t order_found(place *p, uint32_t found, uint32_t placed) {
    uint32_t log2 = 1;
    while (found >> log2 != 0)
        ++log2;
    if ((uint64_t)found * log2 < placed) {
        tn_layout_sort(p->found, found, p->offset);
        return (uint64_t)found * log2;
    }
    for (uint32_t i = 0; i < found; ++i)
        p->marked[p->found[i]] = 1;
    uint32_t at = 0;
    for (uint32_t i = 0; at < found; ++i) {
        uint32_t object = p->placed[i];
        if (p->marked[object]) {
            p->marked[object] = 0;
            p->found[at++] = object;
        }
    }
    return placed;
}

/* The start of the lowest gap that fits, at worst above all that overlaps. */
static uint64_t lowest_gap(const place *p, const tn_layout_item *item, uint32_t found) {
    uint64_t start = 0;
    for (uint32_t i = 0; i < found; ++i) {
        uint64_t begin = p->offset[p->found[i]];
        if (start <= begin && begin - start >= item->bytes)
            break;
        uint64_t above = (begin + p->items[p->found[i]].bytes + item->mask) & ~item->mask;
        if (above > start)
            start = above;
    }
    return start;
}

static void insert_placed(place *p, uint32_t object, uint32_t placed) {
    uint32_t low = 0, high = placed;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->offset[p->placed[middle]] <= p->offset[object])
            low = middle + 1;
        else
            high = middle;
    }
    memmove(p->placed + low + 1, p->placed + low, (placed - low) * sizeof *p->placed);
    p->placed[low] = object;
}

uint64_t tn_layout_place(const tn_layout_part *part, void *scratch, uint64_t *work) {
    place p;
    cut(&p, part, scratch);
    for (uint32_t i = 0; i < p.count; ++i) {
        p.key[i] = ~p.items[i].bytes;
        p.order[i] = i;
    }
    tn_layout_sort(p.order, p.count, p.key);

    uint64_t total = 0;
    for (uint32_t i = 0; i < p.count; ++i) {
        uint32_t at = p.order[i];
        const tn_layout_item *item = &p.items[at];
        uint64_t top = tn_skyline_highest(&p.line, item->first, item->last);
        uint64_t start = (top + item->mask) & ~item->mask;
        if (*work > 0) {
            uint32_t found = find_overlaps(&p, item);
            uint64_t done = 4 * (uint64_t)found + order_found(&p, found, i);
            start = lowest_gap(&p, item, found);
            p.offset[at] = start;
            insert_placed(&p, at, i);
            tree_set(&p, at);
            *work -= done < *work ? done : *work;
        }
        p.offset[at] = start;
        uint64_t end = start + item->bytes;
        if (end > top) /* else it lies in a gap below */
            tn_skyline_raise(&p.line, item->first, item->last, end);
        total = end > total ? end : total;
    }
    return total;
}
