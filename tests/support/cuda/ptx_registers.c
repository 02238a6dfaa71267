/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptx_registers.c: places for a kernel's registers.
 *
 * nvcc names thousands of registers, each written once; few are alive at a time. Those whose lives
 * don't overlap share a place, which keeps a warp in the caches. A life is the stretch of text that
 * has every mention and every block of instructions at whose beginning or end the value may still be
 * wanted (Aho, Lam, Sethi and Ullman, Compilers, 2nd edition, 9.2.5). What is written under a
 * predicate may leave an older value in place. Each lane has storage of its own, so divergence needs
 * no thought. Linear scan after Poletto and Sarkar, "Linear Scan Register Allocation" (1999),
 * without spilling.
 */
#include "ptx.h"

#include <stdlib.h>
#include <string.h>

typedef struct life {
    u32 first, last, number;
    bool used;
} life;

/* Stretches of instructions that are entered at the first alone and left at the last, and bits for
 * each register: read before it is written there, written, wanted at the beginning. */
typedef struct flow {
    u32 blocks, words;
    u32 *start; /* of each block, and of one after the last */
    u32 *block; /* of each instruction */
    u64 *read, *written, *wanted;
} flow;

static u64 *bits_of(const flow *f, u64 *bits, u32 block) {
    return bits + (size_t)block * f->words;
}

static void cut(flow *f, const sim_kernel *k) {
    f->start = sim_alloc((k->length + 2) * sizeof(u32));
    f->block = sim_alloc((k->length + 1) * sizeof(u32));
    f->block[0] = 1; /* begins a block: until they are counted */
    for (u32 i = 0; i < k->length; ++i) {
        const u32 *target;
        bool next;
        const u32 n = op_control_next(k, &k->code[i], &target, &next);
        for (u32 t = 0; t < n; ++t)
            if (target[t] < k->length)
                f->block[target[t]] = 1;
        if (n > 0 || !next)
            f->block[i + 1] = 1;
    }
    for (u32 i = 0; i < k->length; ++i) {
        if (f->block[i])
            f->start[f->blocks++] = i;
        f->block[i] = f->blocks - 1;
    }
    f->start[f->blocks] = k->length;
}

static void read_and_written(const flow *f, const ptx_decoder *d) {
    for (u32 i = 0, end; i < d->references; i = end) {
        const u32 insn = d->reference[i].insn, block = f->block[insn];
        u64 *const read = bits_of(f, f->read, block), *const written =
                                                          bits_of(f, f->written, block);
        for (end = i; end < d->references && d->reference[end].insn == insn; ++end) {
            const u32 r = d->reference[end].number;
            const u64 bit = UINT64_C(1) << r % 64;
            if (!d->reference[end].defines && !(written[r / 64] & bit))
                read[r / 64] |= bit;
        }
        for (u32 j = i; j < end; ++j)
            if (d->reference[j].defines && d->k->code[insn].guard == 0)
                written[d->reference[j].number / 64] |= UINT64_C(1) << d->reference[j].number % 64;
    }
}

/* What is wanted at the end of a block is gathered in `after`. */
static void wanted_after(const flow *f, const sim_kernel *k, u32 block, u64 *after) {
    const u32 *target;
    bool next;
    const u32 n = op_control_next(k, &k->code[f->start[block + 1] - 1], &target, &next);
    memset(after, 0, f->words * sizeof *after);
    for (u32 t = 0; t < n + 1; ++t) {
        const u32 to = t < n ? target[t] : next ? f->start[block + 1] : k->length;
        for (u32 w = 0; to < k->length && w < f->words; ++w)
            after[w] |= bits_of(f, f->wanted, f->block[to])[w];
    }
}

static void spread(const flow *f, const sim_kernel *k, u64 *after) {
    for (bool again = true; again;) {
        again = false;
        for (u32 b = f->blocks; b-- > 0;) {
            u64 *const wanted = bits_of(f, f->wanted, b);
            wanted_after(f, k, b, after);
            for (u32 w = 0; w < f->words; ++w) {
                const u64 now =
                    bits_of(f, f->read, b)[w] | (after[w] & ~bits_of(f, f->written, b)[w]);
                again |= now != wanted[w];
                wanted[w] = now;
            }
        }
    }
}

static void reach(life *lives, const u64 *bits, u32 words, u32 insn) {
    for (u32 w = 0; w < words; ++w)
        for (u64 left = bits[w]; left; left &= left - 1) {
            life *x = &lives[w * 64 + (u32)__builtin_ctzll(left)];
            x->first = x->first < insn ? x->first : insn;
            x->last = x->last > insn ? x->last : insn;
        }
}

/* Widens lives, which have their mentions, to the blocks that they go through. */
static void widen(const ptx_decoder *d, life *lives) {
    flow f = {.words = d->registers / 64 + 1};
    cut(&f, d->k);
    const size_t bits = (size_t)f.blocks * f.words * sizeof(u64);
    u64 *after = sim_alloc(f.words * sizeof *after);
    f.read = sim_alloc(bits);
    f.written = sim_alloc(bits);
    f.wanted = sim_alloc(bits);
    read_and_written(&f, d);
    spread(&f, d->k, after);
    for (u32 b = 0; b < f.blocks; ++b) {
        wanted_after(&f, d->k, b, after);
        reach(lives, bits_of(&f, f.wanted, b), f.words, f.start[b]);
        reach(lives, after, f.words, f.start[b + 1] - 1);
    }
    free(f.start);
    free(f.block);
    free(f.read);
    free(f.written);
    free(f.wanted);
    free(after);
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
            *x = (life){r->insn, r->insn, r->number, true};
        x->last = r->insn;
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
