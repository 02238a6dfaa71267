/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.c: the call: offsets for objects whose lifetimes are known. Turns lifetimes into cliques
 * (layout.h), cuts the problem where nothing is alive on both sides, places each part
 * (layout_place.c), and searches on (layout_search.c) in those parts whose total is more than the
 * whole can do with.
 */
#include <string.h>

#include "core/checked.h"
#include "core/os.h"
#include "core/read_desc.h"
#include "memory/layout.h"
#include "memory/pool.h"

enum { DEFAULT_ALIGNMENT = 64 };

/*
 * Work, in steps of inner loops, one to three nanoseconds each. Placing 100,000 objects of which
 * hundreds are alive at once just fits and takes 4 s. The search takes 2 to 4 s at most:
 * MiniMalloc's instances gain a hundredth by doubling that. Small problems are exhausted sooner.
 */
static const uint64_t place_most = 1500000000;
static const uint64_t search_most = 2000000000;
static const uint64_t search_square = 50000; /* times the square of the number of objects */

typedef struct layout {
    tenon_lifetime *objects;
    uint32_t count;      /* of all objects */
    uint32_t used;       /* of those that have bytes */
    size_t grain;        /* the smallest alignment: all offsets are multiples of it */
    size_t bound;        /* most bytes alive at once */
    size_t padded_bound; /* the same with sizes rounded up to the grain */
    tn_layout_item *items;
    uint64_t *offset, *key;
    uint32_t *by_first, *by_last, *rank; /* objects by time; an object's place in by_first */
    uint32_t *part_begin, parts;         /* first item of each part, and one for the end */
    uint64_t *part_total;
} layout;

static size_t alignment_of(const tenon_lifetime *object) {
    return object->alignment != 0 ? object->alignment : DEFAULT_ALIGNMENT;
}

static tenon_status check(const char *call, const tenon_lifetime *objects, size_t count) {
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
        if (object->alignment != 0 && !tn_is_power_of_two(object->alignment))
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "%s: objects[%zu].alignment is %zu, expected a power of two",
                                  call, i, object->alignment);
        /* No layout is longer than all objects in a row, each with its padding. */
        if (!tn_add_size(sum, object->bytes, &sum) || !tn_add_size(sum, alignment_of(object), &sum))
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "%s: objects[%zu].bytes is %zu, expected a sum that fits size_t",
                                  call, i, object->bytes);
    }
    return TENON_OK;
}

/* ---- time ---- */

static uint64_t ordered(int64_t step) {
    return (uint64_t)step ^ ((uint64_t)1 << 63);
}

static void sort_by_time(layout *l) {
    l->used = 0;
    l->grain = (SIZE_MAX >> 1) + 1;
    for (uint32_t i = 0; i < l->count; ++i) {
        const tenon_lifetime *object = &l->objects[i];
        if (object->bytes == 0) /* needs no place, and must not split gaps */
            continue;
        l->by_first[l->used++] = i;
        l->grain = alignment_of(object) < l->grain ? alignment_of(object) : l->grain;
    }
    memcpy(l->by_last, l->by_first, l->used * sizeof *l->by_last);
    for (uint32_t i = 0; i < l->count; ++i)
        l->key[i] = ordered(l->objects[i].first);
    tn_layout_sort(l->by_first, l->used, l->key);
    for (uint32_t i = 0; i < l->count; ++i)
        l->key[i] = ordered(l->objects[i].last);
    tn_layout_sort(l->by_last, l->used, l->key);
    for (uint32_t i = 0; i < l->used; ++i)
        l->rank[l->by_first[i]] = i;
}

/*
 * Goes through beginnings and ends in order of time: a clique is full when an end follows a
 * beginning, and a part when nothing is alive. Fills items (in order of beginning), parts and
 * bounds.
 */
static void find_cliques(layout *l) {
    size_t alive = 0, padded = 0, mask = l->grain - 1;
    uint32_t clique = 0;
    bool growing = false;
    for (uint32_t begun = 0, ended = 0; ended < l->used;) {
        const tenon_lifetime *end = &l->objects[l->by_last[ended]];
        if (begun < l->used && l->objects[l->by_first[begun]].first <= end->last) {
            const tenon_lifetime *object = &l->objects[l->by_first[begun]];
            if (begun == ended) { /* nothing is alive */
                l->part_begin[l->parts++] = begun;
                clique = 0;
            }
            tn_layout_item *item = &l->items[begun++];
            *item = (tn_layout_item){.bytes = (object->bytes + mask) & ~mask,
                                     .mask = alignment_of(object) - 1,
                                     .first = clique};
            growing = true;
            alive += object->bytes;
            padded += item->bytes;
            l->bound = alive > l->bound ? alive : l->bound;
            l->padded_bound = padded > l->padded_bound ? padded : l->padded_bound;
        } else {
            tn_layout_item *item = &l->items[l->rank[l->by_last[ended++]]];
            clique += growing;
            growing = false;
            item->last = clique - 1;
            alive -= end->bytes;
            padded -= item->bytes;
        }
    }
    l->part_begin[l->parts] = l->used;
}

/* ---- parts ---- */

static tn_layout_part part_number(const layout *l, uint32_t number) {
    uint32_t begin = l->part_begin[number], end = l->part_begin[number + 1], last = 0;
    for (uint32_t i = begin; i < end; ++i)
        last = l->items[i].last > last ? l->items[i].last : last;
    return (tn_layout_part){.items = l->items + begin,
                            .offset = l->offset + begin,
                            .count = end - begin,
                            .cliques = last + 1};
}

/* Places all parts, then searches in those that come out too high, which share the work. */
static void place_parts(layout *l, void *scratch, uint64_t enough, uint64_t work) {
    uint64_t left = place_most;
    uint32_t high = 0;
    for (uint32_t i = 0; i < l->parts; ++i) {
        tn_layout_part part = part_number(l, i);
        l->part_total[i] = tn_layout_place(&part, scratch, &left);
        high += l->part_total[i] > enough;
    }
    for (uint32_t i = 0; i < l->parts && work > 0; ++i) {
        if (l->part_total[i] <= enough)
            continue;
        tn_layout_part part = part_number(l, i);
        uint64_t total = tn_layout_search(&part, l->part_total[i], enough, scratch, work / high);
        enough = total > enough ? total : enough; /* the others gain nothing by less */
    }
}

/* ---- the call ---- */

/* Cuts the next array out of a block; with a block of NULL only counts. All of them are aligned to
 * 64. */
static void *cut(unsigned char *block, size_t *used, size_t count, size_t width) {
    void *array = block != NULL ? block + *used : NULL;
    *used += (count * width + 63) & ~(size_t)63;
    return array;
}

static size_t cut_all(layout *l, unsigned char *block, void **scratch) {
    size_t used = 0, n = l->count;
    size_t place = tn_layout_place_scratch(l->count, l->count);
    size_t search = tn_layout_search_scratch(l->count, l->count);
    l->items = cut(block, &used, n, sizeof *l->items);
    l->offset = cut(block, &used, n, sizeof *l->offset);
    l->key = cut(block, &used, n, sizeof *l->key);
    l->part_total = cut(block, &used, n, sizeof *l->part_total);
    l->by_first = cut(block, &used, n, sizeof *l->by_first);
    l->by_last = cut(block, &used, n, sizeof *l->by_last);
    l->rank = cut(block, &used, n, sizeof *l->rank);
    l->part_begin = cut(block, &used, n + 1, sizeof *l->part_begin);
    *scratch = cut(block, &used, place > search ? place : search, 1);
    return used;
}

/* What a caller's effort comes to for so many objects. */
static uint64_t work_of(double effort, uint64_t objects) {
    const double most = 1e9; /* decades */
    uint64_t work = objects < 1000 ? search_square * objects * objects : search_most;
    work = work < search_most ? work : search_most;
    if (effort < 0)
        return 0;
    if (effort == 0)
        return work;
    return (uint64_t)((effort < most ? effort : most) * (double)work);
}

static tenon_status lay_out(const char *call, tenon_pool *pool, tenon_lifetime *objects,
                            size_t count, const tenon_layout_options *options, size_t *total,
                            size_t *lower_bound) {
    if (total == NULL || (objects == NULL && count != 0))
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "%s: %s is NULL, expected an address",
                              call, total == NULL ? "total" : "objects");
    TN_TRY(check(call, objects, count));
    layout l = {.objects = objects, .count = (uint32_t)count};
    void *scratch;
    size_t bytes = cut_all(&l, NULL, &scratch);
    const void *stray;
    unsigned char *block = tn_host_alloc_watched(tn_pool_hooks(pool), bytes, TN_CACHE_LINE, &stray);
    if (block == NULL) {
        tn_message message;
        tenon_status status = tn_fail_host(&message, "scratch memory", bytes, stray, TN_CACHE_LINE);
        return tn_fail_shared(status, "%s: %s", call, message.text);
    }
    cut_all(&l, block, &scratch);
    sort_by_time(&l);
    find_cliques(&l);
    place_parts(&l, scratch, options->enough > l.padded_bound ? options->enough : l.padded_bound,
                work_of(options->effort, l.used));

    size_t end = 0;
    for (uint32_t i = 0; i < l.count; ++i)
        if (objects[i].bytes == 0)
            objects[i].offset = 0;
    for (uint32_t i = 0; i < l.used; ++i) {
        tenon_lifetime *object = &objects[l.by_first[i]];
        object->offset = (size_t)l.offset[i];
        end = object->offset + object->bytes > end ? object->offset + object->bytes : end;
    }
    *total = end;
    if (lower_bound != NULL)
        *lower_bound = l.bound;
    tn_host_free(tn_pool_hooks(pool), block, bytes);
    return TENON_OK;
}

tenon_status tenon_memory_layout(tenon_pool *pool, tenon_lifetime *objects, size_t count,
                                 size_t *total, size_t *lower_bound) {
    const tenon_layout_options none = {.effort = 0};
    return lay_out("tenon_memory_layout", pool, objects, count, &none, total, lower_bound);
}

tenon_status tenon_memory_layout_with(tenon_pool *pool, tenon_lifetime *objects, size_t count,
                                      const tenon_layout_options *options, size_t *total,
                                      size_t *lower_bound) {
    const char *call = "tenon_memory_layout_with";
    tenon_layout_options given;
    tn_message message;
    const tenon_status status = tn_read_desc(options, &given, sizeof given, &message);
    if (status != TENON_OK)
        return tn_fail_shared(status, "%s: %s", call, message.text);
    if (given.effort != given.effort)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "%s: options.effort is nan, expected a number", call);
    return lay_out(call, pool, objects, count, &given, total, lower_bound);
}
