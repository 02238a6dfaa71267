/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces.c: the events of a trace, and how they are written down. See traces.h.
 */
#include "traces.h"

#include <stdlib.h>
#include <string.h>

/* Room for one more item in a growing array. */
static bool make_room(void **items, size_t count, size_t *capacity, size_t item_bytes) {
    if (count < *capacity)
        return true;
    size_t more = *capacity != 0 ? 2 * *capacity : 1024;
    void *larger = more <= SIZE_MAX / item_bytes ? realloc(*items, more * item_bytes) : NULL;
    if (larger == NULL)
        return false;
    *items = larger;
    *capacity = more;
    return true;
}

static bool add_event(traces *t, traces_event event) {
    if (!make_room((void **)&t->events, t->events_count, &t->events_capacity, sizeof *t->events))
        return false;
    t->events[t->events_count++] = event;
    return true;
}

/* The index of an owner's name; when there are too many they share the last. */
static bool owner_of(traces *t, const char *name, uint32_t *index) {
    for (*index = 0; *index < t->owners_count; ++*index)
        if (strcmp(t->owners[*index], name) == 0)
            return true;
    if (t->owners_count == TRACES_MOST_OWNERS) {
        *index = TRACES_MOST_OWNERS - 1;
        return true;
    }
    size_t bytes = strlen(name) + 1;
    char *copy = malloc(bytes);
    if (copy == NULL)
        return false;
    memcpy(copy, name, bytes);
    t->owners[t->owners_count++] = copy;
    return true;
}

bool traces_alloc(traces *t, size_t bytes, uint32_t alignment, const char *owner, uint32_t *block) {
    traces_block made = {.bytes = bytes, .alignment = alignment};
    if (t->blocks_count == UINT32_MAX || bytes > TRACES_MOST_BYTES || t->live > SIZE_MAX - bytes ||
        !owner_of(t, owner, &made.owner) ||
        !make_room((void **)&t->blocks, t->blocks_count, &t->blocks_capacity, sizeof *t->blocks))
        return false;
    *block = (uint32_t)t->blocks_count;
    if (!add_event(t, (traces_event){.block = *block}))
        return false;
    t->blocks[t->blocks_count++] = made;
    t->live += bytes;
    if (t->live > t->peak_live)
        t->peak_live = t->live;
    return true;
}

bool traces_release(traces *t, uint32_t block) {
    if (!add_event(t, (traces_event){.block = block, .free = true}))
        return false;
    t->live -= t->blocks[block].bytes;
    return true;
}

void traces_free(traces *t) {
    for (uint32_t i = 0; i < t->owners_count; ++i)
        free(t->owners[i]);
    free(t->blocks);
    free(t->events);
    *t = (traces){0};
}

bool traces_write(const traces *t, FILE *out) {
    for (size_t i = 0; i < t->events_count; ++i) {
        uint32_t id = t->events[i].block;
        const traces_block *block = &t->blocks[id];
        if (t->events[i].free)
            fprintf(out, "free %llu\n", id + 1ull);
        else
            fprintf(out, "alloc %llu %zu %u %s\n", id + 1ull, block->bytes, block->alignment,
                    t->owners[block->owner]);
    }
    return fflush(out) == 0 && !ferror(out);
}
