/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_mbarrier.c: mbarrier objects (PTX ISA, "mbarrier").
 *
 * The object's count, pending arrivals, phase and transaction bytes are kept beside shared memory;
 * the eight bytes themselves hold what nobody may look at. Waiting is asking: a failed test_wait or
 * try_wait gives the turn away. Each object is an agent of the race check: what completes on it is
 * ordered before whoever saw its phase complete.
 */
#include "op_memory.h"

#include <cuda.h>

/* The object at this offset of a block, or NULL. */
static sim_mbarrier *find(sim_block *b, u32 offset) {
    for (u32 n = 0; n < b->mbarriers; ++n)
        if (b->mbarrier[n].live && b->mbarrier[n].offset == offset)
            return &b->mbarrier[n];
    return NULL;
}

static sim_mbarrier *checked(sim_warp *w, const sim_insn *i, int lane, sim_block *b, u32 offset) {
    sim_mbarrier *x = find(b, offset);
    if (!x)
        sim_fail(CUDA_ERROR_LAUNCH_FAILED, STANDIN_USAGE, w, i, lane, offset,
                 "no mbarrier was initialised at shared offset %u", offset);
    return x;
}

/* The block and offset that a lane's address names. */
static sim_block *locate(sim_warp *w, const sim_insn *i, u32 l, u32 *offset) {
    u64 a;
    sim_block *owner;
    sim_address(w, i, l, &a);
    a &= ~WINDOW_MASK;
    if (a % 8) {
        sim_fail(CUDA_ERROR_MISALIGNED_ADDRESS, STANDIN_MISALIGNED, w, i, (int)l, a,
                 "mbarrier at shared offset %llu, no multiple of 8", (unsigned long long)a);
        return NULL;
    }
    if (!sim_shared_at(w, i, (int)l, a, 8, &owner))
        return NULL;
    *offset = (u32)a & ((1u << RANK_SHIFT) - 1);
    return owner;
}

static void complete_if_done(sim_block *b, sim_mbarrier *x) {
    if (x->pending != 0 || x->tx != 0)
        return;
    x->pending = x->count;
    ++x->phase;
    for (int a = 0; a < MAX_AGENTS; ++a)
        x->vc_done[a] = x->vc_done[a] > x->vc[a] ? x->vc_done[a] : x->vc[a];
    x->vc_done[MAX_WARPS + (u32)(x - b->mbarrier)] = x->phase;
    b->launch->idle_turns = 0;
}

static sim_step run_init(sim_warp *w, const sim_insn *i, u32 m) {
    EACH_LANE_OF(l, m) {
        u32 offset, count = sim_words(w, i->b)[l];
        sim_block *b = locate(w, i, l, &offset);
        if (!b)
            return STEP_FAULT;
        if (count == 0 || count > (1u << 20) - 1 || find(b, offset))
            sim_find(STANDIN_USAGE, w, i, (int)l, offset,
                     find(b, offset) ? "initialises a live mbarrier for %u arrivals"
                                     : "%u arrivals",
                     count);
        sim_mbarrier *x = find(b, offset);
        if (!x) {
            if (b->mbarriers == MAX_MBARRIERS)
                return sim_fail(CUDA_ERROR_LAUNCH_FAILED, STANDIN_USAGE, w, i, (int)l, offset,
                                "more than %d mbarriers in a block", MAX_MBARRIERS);
            x = &b->mbarrier[b->mbarriers++];
        }
        memset(x, 0, sizeof *x);
        x->live = true;
        x->offset = offset;
        x->count = x->pending = count;
        if (b == w->block && sim_options.check_shared)
            sim_shared_write(w, i, (int)l, offset, 8, false);
    }
    return STEP_NEXT;
}

static sim_step run_inval(sim_warp *w, const sim_insn *i, u32 m) {
    EACH_LANE_OF(l, m) {
        u32 offset;
        sim_block *b = locate(w, i, l, &offset);
        sim_mbarrier *x = b ? checked(w, i, (int)l, b, offset) : NULL;
        if (!x)
            return STEP_FAULT;
        x->live = false;
    }
    return STEP_NEXT;
}

bool sim_mbarrier_raise(sim_warp *w, const sim_insn *i, int lane, u32 offset) {
    sim_mbarrier *x = checked(w, i, lane, w->block, offset);
    if (x)
        ++x->pending;
    return x != NULL;
}

/* expect bytes first, then `count` arrivals; *state: the phase before, as test_wait takes it */
sim_step sim_mbarrier_arrive_at(sim_warp *w, const sim_insn *i, int lane, sim_block *b, u32 offset,
                                u32 count, s64 expect, u64 *state) {
    sim_mbarrier *x = checked(w, i, lane, b, offset);
    if (!x)
        return STEP_FAULT;
    if (state)
        *state = x->phase;
    if (b == w->block)
        sim_clock_release(w, x->vc);
    x->tx += expect;
    if (count > x->pending) {
        sim_find(STANDIN_USAGE, w, i, lane, offset, "%u arrivals where %u are pending", count,
                 x->pending);
        count = x->pending;
    }
    x->pending -= count;
    complete_if_done(b, x);
    return STEP_NEXT;
}

void sim_mbarrier_complete_tx(sim_block *b, u32 offset, s64 bytes) {
    sim_mbarrier *x = find(b, offset);
    if (!x)
        return;
    x->tx -= bytes;
    complete_if_done(b, x);
}

u32 sim_mbarrier_agent(sim_block *b, u32 offset, u32 *clock) {
    sim_mbarrier *x = find(b, offset);
    *clock = x ? x->phase + 1 : 1;
    return x ? MAX_WARPS + (u32)(x - b->mbarrier) : 0;
}

enum { ARRIVE, ARRIVE_DROP, EXPECT_TX, COMPLETE_TX };

/* mode; b: count or bytes (or none); flags 1: .expect_tx; d: state (or none) */
static sim_step run_arrive(sim_warp *w, const sim_insn *i, u32 m) {
    EACH_LANE_OF(l, m) {
        u32 offset, value = i->b == PLACE_NONE ? 1 : sim_words(w, i->b)[l];
        sim_block *b = locate(w, i, l, &offset);
        sim_mbarrier *x = b ? checked(w, i, (int)l, b, offset) : NULL;
        if (!x)
            return STEP_FAULT;
        u64 state = 0;
        if (i->mode == EXPECT_TX)
            x->tx += value;
        else if (i->mode == COMPLETE_TX)
            sim_mbarrier_complete_tx(b, offset, value);
        else {
            if (i->mode == ARRIVE_DROP)
                x->count -= 1;
            if (sim_mbarrier_arrive_at(w, i, (int)l, b, offset, i->flags & 1 ? 1 : value,
                                       i->flags & 1 ? value : 0, &state) != STEP_NEXT)
                return STEP_FAULT;
        }
        if (i->d != PLACE_NONE)
            sim_doubles(w, i->d)[l] = state;
    }
    return STEP_NEXT;
}

/* Whether the phase asked for is complete: mode 1 by parity, else by the state of an arrival. */
static sim_step run_wait(sim_warp *w, const sim_insn *i, u32 m) {
    u32 done = 0;
    EACH_LANE_OF(l, m) {
        u32 offset;
        sim_block *b = locate(w, i, l, &offset);
        sim_mbarrier *x = b ? checked(w, i, (int)l, b, offset) : NULL;
        if (!x)
            return STEP_FAULT;
        bool complete = i->mode ? (x->phase & 1) != (sim_words(w, i->b)[l] & 1)
                                : x->phase != sim_doubles(w, i->b)[l];
        if (complete && b == w->block)
            sim_clock_acquire(w, x->vc_done);
        done |= complete ? lane_bit[l] : 0;
    }
    sim_set_predicate(w, i->d, m, done);
    return (done & m) == m ? STEP_NEXT : STEP_YIELD;
}

static bool decode_wait(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    i->mode = ptx_has(d, "parity");
    i->run = run_wait;
    return d->operands >= 3 && ptx_bind_predicate(d, &i->d, &d->operand[0], true) &&
           ptx_bind_address(d, &i->a, &i->imm, &d->operand[1]) &&
           ptx_bind(d, &i->b, &d->operand[2], i->mode ? 4 : 8, false);
}

bool op_mbarrier_decode(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    if (strcmp(d->word[0], "mbarrier") != 0)
        return false;
    const char *what = d->words > 1 ? d->word[1] : "";
    i->space = SPACE_SHARED;
    if (strcmp(what, "init") == 0 && d->operands == 2) {
        i->run = run_init;
        return ptx_bind_address(d, &i->a, &i->imm, &d->operand[0]) &&
               ptx_bind(d, &i->b, &d->operand[1], 4, false);
    }
    if (strcmp(what, "inval") == 0) {
        i->run = run_inval;
        return ptx_bind_address(d, &i->a, &i->imm, &d->operand[0]);
    }
    if (strcmp(what, "test_wait") == 0 || strcmp(what, "try_wait") == 0)
        return decode_wait(d);
    if (ptx_has(d, "noComplete"))
        return ptx_refuse(d, "mbarrier.arrive.noComplete");
    i->mode = strcmp(what, "arrive") == 0        ? ARRIVE
              : strcmp(what, "arrive_drop") == 0 ? ARRIVE_DROP
              : strcmp(what, "expect_tx") == 0   ? EXPECT_TX
                                                 : COMPLETE_TX;
    i->run = run_arrive;
    u32 at = 0;
    if (i->mode <= ARRIVE_DROP && d->operand[0].kind != OPERAND_ADDRESS) { /* the state, or _ */
        if (!ptx_bind(d, &i->d, &d->operand[0], 8, true))
            return false;
        at = 1;
    }
    if (d->operands <= at || !ptx_bind_address(d, &i->a, &i->imm, &d->operand[at]))
        return false;
    i->flags |= i->mode <= ARRIVE_DROP && ptx_has(d, "expect_tx");
    return d->operands <= at + 1 || ptx_bind(d, &i->b, &d->operand[at + 1], 4, false);
}
