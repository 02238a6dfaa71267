/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.c: offsets for objects whose lifetimes are known.
 *
 * Objects are placed one after the other, largest first, each into the lowest gap between the
 * objects already placed that live at the same time (Pisarchyk and Lee 2020, section 5, with the
 * lowest gap instead of the tightest: 2 % less on the problems of tests/memory/test_traces.c). The
 * order decides the quality, so small problems are placed again and again with the objects that
 * came out too high moved forward: squeaky wheel optimization (Joslin and Clements, JAIR 10, 1999).
 *
 * An index over lifetimes finds the k placed objects that overlap in O(k log n), so that a graph of
 * 100,000 objects of which hundreds are alive at once takes about 3 seconds; all alive at once is
 * the worst case, O(n^2): half a minute for 50,000.
 */
#include <string.h>

#include "core/checked.h"
#include "core/os.h"
#include "memory/pool.h"

enum {
    DEFAULT_ALIGNMENT = 64,
    PASSES_MOST = 256, /* of placing everything again; gains are small after the first hundred */
    PLACINGS_MOST = 1 << 15 /* of single objects in all passes: some tenths of a second */
};

typedef struct layout {
    tenon_lifetime *objects;
    uint32_t count, leaves; /* leaves: power of two >= count */
    uint32_t *order;        /* in which to place */
    uint32_t *by_first;     /* objects by first step */
    uint32_t *rank;         /* place of an object in by_first */
    uint32_t *placed;       /* objects placed, by offset */
    uint32_t *found;        /* placed objects that overlap the current one */
    unsigned char *marked;  /* the same as a set */
    uint64_t *key;          /* for sorting */
    int64_t *last_most;     /* tree over by_first: largest `last` placed; INT64_MIN: none */
    size_t *offset, *best_offset;
} layout;

/* ---- sorting ---- */

static bool before(const uint64_t *key, uint32_t a, uint32_t b) {
    return key[a] < key[b] || (key[a] == key[b] && a < b);
}

/* Heap sort of indices by key, then index: in place, no allocation, no bad case. */
static void sort(uint32_t *index, uint32_t count, const uint64_t *key) {
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

static uint64_t ordered(int64_t step) {
    return (uint64_t)step ^ ((uint64_t)1 << 63);
}

/* ---- who is alive with whom ---- */

/* Enters an object into the tree when it is placed. */
static void tree_set(layout *l, uint32_t object) {
    uint32_t node = l->leaves + l->rank[object];
    l->last_most[node] = l->objects[object].last;
    while (node > 1) {
        node /= 2;
        int64_t a = l->last_most[2 * node], b = l->last_most[2 * node + 1];
        l->last_most[node] = a > b ? a : b;
    }
}

/* Lists the placed objects alive at some step of `object` in l->found; returns how many. */
static uint32_t find_overlaps(layout *l, const tenon_lifetime *object) {
    /* Those that begin no later than `object` ends are a prefix of by_first. */
    uint32_t low = 0, high = l->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (l->objects[l->by_first[middle]].first <= object->last)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t prefix = low, found = 0;
    struct {
        uint32_t node, begin, width;
    } stack[64];
    int depth = 0;
    stack[depth++] = (__typeof__(stack[0])){1, 0, l->leaves};
    while (depth > 0) {
        __typeof__(stack[0]) top = stack[--depth];
        if (top.begin >= prefix || l->last_most[top.node] < object->first ||
            l->last_most[top.node] == INT64_MIN)
            continue;
        if (top.width == 1) {
            l->found[found++] = l->by_first[top.begin];
            continue;
        }
        uint32_t half = top.width / 2;
        stack[depth++] = (__typeof__(stack[0])){2 * top.node + 1, top.begin + half, half};
        stack[depth++] = (__typeof__(stack[0])){2 * top.node, top.begin, half};
    }
    return found;
}

/* Brings l->found in order of offset: by sorting, or by going through all that is placed if that is
 * less work. */
static void order_found(layout *l, uint32_t found, uint32_t placed) {
    uint32_t log2 = 1;
    while (found >> log2 != 0)
        ++log2;
    if ((uint64_t)found * log2 < placed) {
        for (uint32_t i = 0; i < found; ++i)
            l->key[l->found[i]] = l->offset[l->found[i]];
        sort(l->found, found, l->key);
        return;
    }
    for (uint32_t i = 0; i < found; ++i)
        l->marked[l->found[i]] = 1;
    uint32_t at = 0;
    for (uint32_t i = 0; at < found; ++i) {
        uint32_t object = l->placed[i];
        if (l->marked[object]) {
            l->marked[object] = 0;
            l->found[at++] = object;
        }
    }
}

/* ---- placing ---- */

static size_t alignment_of(const tenon_lifetime *object) {
    return object->alignment != 0 ? object->alignment : DEFAULT_ALIGNMENT;
}

/* The start of the lowest gap that fits, at worst above all that overlaps. */
static size_t lowest_gap(const layout *l, const tenon_lifetime *object, uint32_t found) {
    size_t mask = alignment_of(object) - 1, start = 0;
    for (uint32_t i = 0; i < found; ++i) {
        size_t begin = l->offset[l->found[i]];
        if (start <= begin && begin - start >= object->bytes)
            break;
        size_t above = (begin + l->objects[l->found[i]].bytes + mask) & ~mask;
        if (above > start)
            start = above;
    }
    return start;
}

static void insert_placed(layout *l, uint32_t object, uint32_t placed) {
    uint32_t low = 0, high = placed;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (l->offset[l->placed[middle]] <= l->offset[object])
            low = middle + 1;
        else
            high = middle;
    }
    memmove(l->placed + low + 1, l->placed + low, (placed - low) * sizeof *l->placed);
    l->placed[low] = object;
}

/* Places all objects in l->order; returns the total. */
static size_t place_all(layout *l) {
    size_t total = 0;
    for (uint32_t node = 0; node < 2 * l->leaves; ++node)
        l->last_most[node] = INT64_MIN;
    uint32_t placed = 0;
    for (uint32_t i = 0; i < l->count; ++i) {
        uint32_t at = l->order[i];
        const tenon_lifetime *object = &l->objects[at];
        if (object->bytes == 0) { /* needs no place, and must not split gaps */
            l->offset[at] = 0;
            continue;
        }
        uint32_t found = find_overlaps(l, object);
        order_found(l, found, placed);
        l->offset[at] = lowest_gap(l, object, found);
        if (l->offset[at] + object->bytes > total)
            total = l->offset[at] + object->bytes;
        insert_placed(l, at, placed++);
        tree_set(l, at);
    }
    return total;
}

/* The largest sum of bytes alive in one step. Uses l->order and l->key. */
static size_t most_alive(layout *l) {
    for (uint32_t i = 0; i < l->count; ++i) {
        l->key[i] = ordered(l->objects[i].last);
        l->order[i] = i;
    }
    sort(l->order, l->count, l->key);
    size_t alive = 0, most = 0;
    for (uint32_t i = 0, ended = 0; i < l->count; ++i) {
        const tenon_lifetime *object = &l->objects[l->by_first[i]];
        while (l->objects[l->order[ended]].last < object->first)
            alive -= l->objects[l->order[ended++]].bytes;
        alive += object->bytes;
        if (alive > most)
            most = alive;
    }
    return most;
}

/*
 * Moves objects that lie too high forward in the order, to half their place: in turn all that end
 * above the lower bound, and only those that end highest. Uses l->key.
 */
static void promote(layout *l, size_t above) {
    for (uint32_t place = 0; place < l->count; ++place) {
        uint32_t object = l->order[place];
        bool high = l->offset[object] + l->objects[object].bytes > above;
        l->key[object] = high ? 2 * (uint64_t)(place / 2) : 2 * (uint64_t)place + 1;
    }
    sort(l->order, l->count, l->key);
}

/* Leaves the best offsets found in l->best_offset and returns their total. */
static size_t place_best(layout *l, size_t lower_bound) {
    for (uint32_t i = 0; i < l->count; ++i) {
        l->key[i] = ~(uint64_t)l->objects[i].bytes;
        l->order[i] = i;
    }
    sort(l->order, l->count, l->key);

    size_t best = SIZE_MAX;
    uint32_t passes = PLACINGS_MOST / l->count;
    passes = passes > PASSES_MOST ? PASSES_MOST : passes;
    for (uint32_t pass = 0;; ++pass) {
        size_t total = place_all(l);
        if (total < best) {
            best = total;
            memcpy(l->best_offset, l->offset, l->count * sizeof *l->offset);
        }
        if (best <= lower_bound || pass >= passes)
            return best;
        promote(l, pass % 2 == 0 ? lower_bound : total - 1);
    }
}

/* ---- the call ---- */

static tenon_status check(const tenon_lifetime *objects, size_t count) {
    const char *call = "tenon_memory_layout";
    size_t sum = 0;
    if (count > UINT32_MAX / 4)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "%s: count is %zu, expected at most %u",
                              call, count, UINT32_MAX / 4);
    for (size_t i = 0; i < count; ++i) {
        const tenon_lifetime *object = &objects[i];
        if (object->last < object->first)
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "%s: objects[%zu].last is %lld, expected at least first, %lld",
                                  call, i, (long long)object->last, (long long)object->first);
        if (object->last == INT64_MIN) /* which the tree of lifetimes keeps for "none" */
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "%s: objects[%zu].last is the least int64, expected more", call,
                                  i);
        if (object->alignment != 0 && !tn_is_power_of_two(object->alignment))
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "%s: objects[%zu].alignment is %zu, expected a power of two",
                                  call, i, object->alignment);
        /* No layout is longer than all objects in a row, each with its padding. */
        if (!tn_add_size(sum, object->bytes, &sum) || !tn_add_size(sum, alignment_of(object), &sum))
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "%s: the sum of bytes overflows at objects[%zu]", call, i);
    }
    return TENON_OK;
}

/* Cuts the next array out of a scratch block; with a block of NULL only counts. All of them are
 * aligned to 8. */
static void *cut(unsigned char *scratch, size_t *used, size_t count, size_t width) {
    void *array = scratch != NULL ? scratch + *used : NULL;
    *used += (count * width + 7) & ~(size_t)7;
    return array;
}

static size_t cut_all(layout *l, unsigned char *scratch) {
    size_t used = 0, n = l->count;
    l->order = cut(scratch, &used, n, sizeof *l->order);
    l->by_first = cut(scratch, &used, n, sizeof *l->by_first);
    l->rank = cut(scratch, &used, n, sizeof *l->rank);
    l->placed = cut(scratch, &used, n, sizeof *l->placed);
    l->found = cut(scratch, &used, n, sizeof *l->found);
    l->marked = cut(scratch, &used, n, sizeof *l->marked);
    l->key = cut(scratch, &used, n, sizeof *l->key);
    l->last_most = cut(scratch, &used, 2 * (size_t)l->leaves, sizeof *l->last_most);
    l->offset = cut(scratch, &used, n, sizeof *l->offset);
    l->best_offset = cut(scratch, &used, n, sizeof *l->best_offset);
    return used;
}

tenon_status tenon_memory_layout(tenon_pool *pool, tenon_lifetime *objects, size_t count,
                                 size_t *total, size_t *lower_bound) {
    if (total == NULL || (objects == NULL && count != 0))
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "tenon_memory_layout: %s is NULL",
                              total == NULL ? "total" : "objects");
    TN_TRY(check(objects, count));
    layout l = {.objects = objects, .count = (uint32_t)count, .leaves = 1};
    while (l.leaves < l.count)
        l.leaves *= 2;
    size_t bytes = cut_all(&l, NULL);
    unsigned char *scratch = tn_host_alloc(tn_pool_hooks(pool), bytes, TN_CACHE_LINE);
    if (scratch == NULL)
        return tn_fail_shared(TENON_ERROR_OUT_OF_MEMORY,
                              "tenon_memory_layout: the system refuses %zu bytes of scratch memory",
                              bytes);
    cut_all(&l, scratch);
    for (uint32_t i = 0; i < l.count; ++i) {
        l.key[i] = ordered(objects[i].first);
        l.by_first[i] = i;
        l.marked[i] = 0;
    }
    sort(l.by_first, l.count, l.key);
    for (uint32_t i = 0; i < l.count; ++i)
        l.rank[l.by_first[i]] = i;

    size_t bound = most_alive(&l);
    *total = count != 0 ? place_best(&l, bound) : 0;
    for (uint32_t i = 0; i < l.count; ++i)
        objects[i].offset = l.best_offset[i];
    if (lower_bound != NULL)
        *lower_bound = bound;
    tn_host_free(tn_pool_hooks(pool), scratch, bytes);
    return TENON_OK;
}
