/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout_place.c: a first placement. Largest first, each object in the lowest gap between those
 * already placed that live at the same time (Pisarchyk and Lee, "Efficient Memory Management for
 * Deep Neural Net Inference", 2020, section 5, with the lowest gap instead of the tightest).
 *
 * An index over lifetimes finds the k placed objects that overlap in O(k log n), and it is not
 * asked where the bytes placed at one time already say that there is no gap. Where thousands are
 * alive at once that may still be n^2, so work is bounded: what is left when it is used up (the
 * smallest objects) goes on top of the skyline.
 */
#include <string.h>

#include "memory/layout.h"

enum {
    RUN = 8, /* spans sorted by insertion before they are merged */
    /* Nanoseconds of a node of the tree, and of a step of sorting (EPYC Zen 3, 2026). */
    NODE_WORK = 4,
    SORT_WORK = 2
};

/* A placed object that overlaps the current one. */
typedef struct span {
    uint64_t begin, end;
} span;

typedef struct place {
    const tn_layout_item *items;
    uint64_t *offset, *key;
    uint64_t *change;       /* Fenwick tree over cliques: bytes placed, as differences */
    uint32_t count, leaves; /* leaves: power of two >= count */
    uint32_t *order;        /* in which to place */
    uint32_t *last_most;    /* tree over items: largest `last` placed, plus 1; 0: none */
    span *found, *spare;
    uint64_t work; /* done */
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
    return n * (2 * sizeof(span) + sizeof(uint64_t)) + (cliques + (size_t)1) * sizeof(uint64_t) +
           tn_skyline_scratch(cliques) + (n + nodes) * sizeof(uint32_t);
}

/* The widest first, so that all is aligned. */
static void cut(place *p, const tn_layout_part *part, void *scratch) {
    size_t n = part->count;
    p->work = 0;
    p->items = part->items;
    p->offset = part->offset;
    p->count = part->count;
    p->leaves = leaves_for(part->count);
    p->found = scratch;
    p->spare = p->found + n;
    p->key = (uint64_t *)(void *)(p->spare + n);
    p->change = p->key + n;
    memset(p->change, 0, (part->cliques + (size_t)1) * sizeof *p->change);
    unsigned char *line = (unsigned char *)(p->change + part->cliques + 1);
    tn_skyline_init(&p->line, part->cliques, line);
    p->order = (uint32_t *)(void *)(line + tn_skyline_scratch(part->cliques));
    p->last_most = p->order + n;
    memset(p->last_most, 0, 2 * (size_t)p->leaves * sizeof *p->last_most);
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

/* ---- what cannot have a gap ---- */

static void add_from(place *p, uint32_t clique, uint64_t bytes) {
    for (uint32_t i = clique + 1; i <= p->line.cliques; i += i & (~i + 1))
        p->change[i] += bytes; /* wraps for negative ones; sums do not */
}

/*
 * False if no gap below the skyline's `top` over an item can hold it, because not enough is free in
 * a clique where the top is reached: spares most of the looking for one.
 */
static bool may_fit(const place *p, const tn_layout_item *item, uint64_t top) {
    uint64_t placed = 0;
    for (uint32_t i = tn_skyline_find(&p->line, item->first, item->last, top) + 1; i > 0;
         i &= i - 1)
        placed += p->change[i];
    return top - placed >= item->bytes;
}

/* ---- those that overlap ---- */

/* Enters an object into the tree when it is placed. */
static void tree_set(place *p, uint32_t object) {
    uint32_t reach = p->items[object].last + 1;
    for (uint32_t node = p->leaves + object; node > 0 && p->last_most[node] < reach; node /= 2)
        p->last_most[node] = reach;
}

/* Lists the spans of the placed objects that overlap in p->found; returns how many. */
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
        p->work += NODE_WORK;
        if (top.begin >= prefix || p->last_most[top.node] <= item->first)
            continue;
        if (top.width == 1) {
            uint64_t begin = p->offset[top.begin];
            p->found[found++] = (span){begin, begin + p->items[top.begin].bytes};
            continue;
        }
        uint32_t half = top.width / 2;
        stack[depth++] = (__typeof__(stack[0])){2 * top.node + 1, top.begin + half, half};
        stack[depth++] = (__typeof__(stack[0])){2 * top.node, top.begin, half};
    }
    return found;
}

/* Sorts p->found by `begin`: merge sort from the bottom up. */
static void sort_found(place *p, uint32_t found) {
    for (uint32_t start = 0; start < found; start += RUN) {
        uint32_t end = found - start < RUN ? found : start + RUN;
        for (uint32_t i = start + 1; i < end; ++i) {
            span moved = p->found[i];
            uint32_t at = i;
            for (; at > start && p->found[at - 1].begin > moved.begin; --at)
                p->found[at] = p->found[at - 1];
            p->found[at] = moved;
        }
    }
    p->work += 2 * SORT_WORK * (uint64_t)found;
    for (uint64_t width = RUN; width < found; width *= 2) {
        for (uint64_t start = 0; start < found; start += 2 * width) {
            uint64_t middle = start + width < found ? start + width : found;
            uint64_t end = middle + width < found ? middle + width : found;
            uint64_t left = start, right = middle, out = start;
            while (left < middle && right < end) {
                bool later = p->found[right].begin < p->found[left].begin; /* no branch */
                p->spare[out++] = p->found[later ? right : left];
                right += later;
                left += !later;
            }
            memcpy(p->spare + out, p->found + left, (middle - left) * sizeof *p->found);
            out += middle - left;
            memcpy(p->spare + out, p->found + right, (end - right) * sizeof *p->found);
        }
        span *swap = p->found;
        p->found = p->spare;
        p->spare = swap;
        p->work += SORT_WORK * (uint64_t)found;
    }
}

/* The start of the lowest gap that fits, at worst above all that overlaps. */
static uint64_t lowest_gap(const place *p, const tn_layout_item *item, uint32_t found) {
    uint64_t start = 0;
    for (uint32_t i = 0; i < found; ++i) {
        if (start <= p->found[i].begin && p->found[i].begin - start >= item->bytes)
            break;
        uint64_t above = (p->found[i].end + item->mask) & ~item->mask;
        start = above > start ? above : start;
    }
    return start;
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
        if (p.work < *work && may_fit(&p, item, top)) {
            uint32_t found = find_overlaps(&p, item);
            sort_found(&p, found);
            start = lowest_gap(&p, item, found);
        }
        uint64_t end = start + item->bytes;
        p.offset[at] = start;
        tree_set(&p, at);
        add_from(&p, item->first, item->bytes);
        add_from(&p, item->last + 1, 0 - item->bytes);
        tn_skyline_raise(&p.line, item->first, item->last, end);
        total = end > total ? end : total;
    }
    *work -= p.work < *work ? p.work : *work;
    return total;
}
