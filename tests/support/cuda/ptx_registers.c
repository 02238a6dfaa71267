/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptx_registers.c: places for a kernel's registers.
 *
 * nvcc names thousands of registers, each written once; few are alive at a time. Those whose lives
 * don't overlap share a place, which keeps a warp in the caches. A life is the stretch of text from
 * the first to the last mention, widened over loops: to the end of each loop that it enters from
 * before or leaves, and over the whole of a loop in which it is read before it is written, or that
 * it leaves: a branch back may lead to text that only looks as if it came before. Each lane has
 * storage of its own, so divergence needs no thought. Linear scan after Poletto and
 * Sarkar, "Linear Scan Register Allocation" (1999), without spilling.
 */
#include "ptx.h"

#include <stdlib.h>
#include <string.h>

typedef struct life {
    u32 first, last, number;
    bool written_first, used;
} life;

static void widen(const ptx_decoder *d, life *lives) {
    const sim_kernel *k = d->k;
    for (bool again = true; again;) {
        again = false;
        for (u32 b = 0; b < k->length; ++b) {
            u32 t = k->code[b].target;
            if (t == UINT32_MAX || t > b)
                continue;
            for (u32 r = 0; r < d->registers; ++r) {
                life *x = &lives[r];
                if (!x->used || x->last < t || x->first > b)
                    continue;
                u32 first = x->first, last = x->last;
                if (first < t && last < b)
                    last = b;
                if (first >= t && (!x->written_first || last > b)) {
                    first = t;
                    last = last > b ? last : b;
                }
                again |= first != x->first || last != x->last;
                x->first = first;
                x->last = last;
            }
        }
    }
}

static int by_first(const void *a, const void *b) {
    const life *x = a, *y = b;
    return x->first != y->first ? (x->first < y->first ? -1 : 1)
                                : (x->number > y->number) - (x->number < y->number);
}

/* Places are taken from two stacks of free ones, by width. */
static void allot(ptx_decoder *d, life *lives, u32 *place) {
    qsort(lives, d->registers, sizeof *lives, by_first);
    u32 words = SR_COUNT * LANES;
    words = (words + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
    u32 *active = sim_alloc((d->registers + 1) * sizeof *active);
    u32 *end = sim_alloc((d->registers + 1) * sizeof *end);
    u32 *pool[2] = {sim_alloc((d->registers + 1) * sizeof(u32)),
                    sim_alloc((d->registers + 1) * sizeof(u32))};
    u32 pooled[2] = {0, 0}, actives = 0;
    for (u32 i = 0; i < d->registers; ++i) {
        const life *x = &lives[i];
        if (!x->used)
            continue;
        for (u32 j = 0; j < actives;) {
            if (end[j] < x->first) {
                u32 n = active[j], wide = d->register_bytes[n] == 8;
                pool[wide][pooled[wide]++] = place[n];
                active[j] = active[--actives];
                end[j] = end[actives];
            } else
                ++j;
        }
        u32 wide = d->register_bytes[x->number] == 8;
        if (pooled[wide])
            place[x->number] = pool[wide][--pooled[wide]];
        else {
            place[x->number] = words;
            words += wide ? 2 * LANES : LANES;
        }
        active[actives] = x->number;
        end[actives++] = x->last;
    }
    free(active);
    free(end);
    free(pool[0]);
    free(pool[1]);
    d->k->register_words = words + 2 * LANES; /* and room for what is written to _ */
}

void ptx_place_registers(ptx_decoder *d) {
    sim_kernel *k = d->k;
    life *lives = sim_alloc((d->registers + 1) * sizeof *lives);
    u32 *place = sim_alloc((d->registers + 1) * sizeof *place);
    for (u32 i = 0; i < d->references; ++i) {
        const ptx_reference *r = &d->reference[i];
        life *x = &lives[r->number];
        if (!x->used)
            *x = (life){r->insn, r->insn, r->number, false, true};
        x->last = r->insn;
        if (r->insn == x->first && r->defines && k->code[r->insn].guard == 0)
            x->written_first = true;
    }
    for (u32 i = 0; i < d->references; ++i) { /* read where it is first written: read first */
        const ptx_reference *r = &d->reference[i];
        if (r->insn == lives[r->number].first && !r->defines)
            lives[r->number].written_first = false;
    }
    for (u32 r = 0; r < d->registers; ++r)
        lives[r].number = r;
    widen(d, lives);
    allot(d, lives, place);
    for (u32 i = 0; i < d->references; ++i) {
        const ptx_reference *r = &d->reference[i];
        if (r->in_list)
            k->list[r->where] = place[r->number];
        else
            memcpy((char *)&k->code[r->insn] + r->where, &place[r->number], sizeof(u32));
    }
    free(lives);
    free(place);
}
