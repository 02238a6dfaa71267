/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout_skyline.c: how high memory is used at each time. Heights only rise, which makes one level
 * of blocks simple: a range that covers a block, and is above it, replaces it by a number.
 */
#include <string.h>

#include "memory/layout.h"

enum {
    PLAIN_MOST = 1024, /* cliques up to which blocks cost more than they save */
    BLOCK_SHIFT = 5    /* ranges of hundreds of cliques are common in training steps */
};

static uint32_t shift_for(uint32_t cliques) {
    return cliques > PLAIN_MOST ? BLOCK_SHIFT : 10;
}

static uint32_t blocks_of(uint32_t cliques) {
    return (cliques >> shift_for(cliques)) + 1;
}

size_t tn_skyline_scratch(uint32_t cliques) {
    size_t blocks = blocks_of(cliques);
    return (cliques + blocks) * sizeof(uint64_t) + ((blocks + 7) & ~(size_t)7);
}

void tn_skyline_init(tn_skyline *line, uint32_t cliques, void *scratch) {
    line->cliques = cliques;
    line->shift = shift_for(cliques);
    line->height = scratch;
    line->highest = line->height + cliques;
    line->level = (unsigned char *)(line->highest + blocks_of(cliques));
    tn_skyline_clear(line);
}

void tn_skyline_clear(tn_skyline *line) {
    size_t blocks = blocks_of(line->cliques);
    memset(line->highest, 0, blocks * sizeof *line->highest);
    memset(line->level, 1, blocks);
}

static uint64_t highest_within(const tn_skyline *line, uint32_t block, uint32_t first,
                               uint32_t last) {
    if (line->level[block])
        return line->highest[block];
    uint64_t most = 0;
    for (uint32_t c = first; c <= last; ++c)
        most = line->height[c] > most ? line->height[c] : most;
    return most;
}

uint64_t tn_skyline_highest(const tn_skyline *line, uint32_t first, uint32_t last) {
    uint32_t begin = first >> line->shift, end = last >> line->shift;
    if (begin == end)
        return highest_within(line, begin, first, last);
    uint64_t most = highest_within(line, begin, first, ((begin + 1) << line->shift) - 1);
    for (uint32_t b = begin + 1; b < end; ++b)
        most = line->highest[b] > most ? line->highest[b] : most;
    uint64_t right = highest_within(line, end, end << line->shift, last);
    return right > most ? right : most;
}

uint32_t tn_skyline_find(const tn_skyline *line, uint32_t first, uint32_t last, uint64_t highest) {
    for (uint32_t c = first; c <= last;) {
        uint32_t block = c >> line->shift, next = (block + 1) << line->shift;
        if (line->highest[block] >= highest) {
            if (line->level[block])
                return c;
            for (; c < next && c <= last; ++c)
                if (line->height[c] == highest)
                    return c;
        }
        c = next;
    }
    return last; /* not reached */
}

static void raise_within(tn_skyline *line, uint32_t block, uint32_t first, uint32_t last,
                         uint64_t height) {
    if (line->level[block]) {
        uint32_t begin = block << line->shift, end = (block + 1) << line->shift;
        end = end < line->cliques ? end : line->cliques;
        for (uint32_t c = begin; c < end; ++c)
            line->height[c] = line->highest[block];
        line->level[block] = 0;
    }
    for (uint32_t c = first; c <= last; ++c)
        line->height[c] = height > line->height[c] ? height : line->height[c];
    if (height > line->highest[block])
        line->highest[block] = height;
}

void tn_skyline_raise(tn_skyline *line, uint32_t first, uint32_t last, uint64_t height) {
    uint32_t begin = first >> line->shift, end = last >> line->shift;
    if (begin == end) {
        raise_within(line, begin, first, last, height);
        return;
    }
    raise_within(line, begin, first, ((begin + 1) << line->shift) - 1, height);
    for (uint32_t b = begin + 1; b < end; ++b) {
        if (height >= line->highest[b]) {
            line->highest[b] = height;
            line->level[b] = 1;
        } else if (!line->level[b]) {
            raise_within(line, b, b << line->shift, ((b + 1) << line->shift) - 1, height);
        }
    }
    raise_within(line, end, end << line->shift, last, height);
}
