/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_async.c: cp.async and its groups.
 *
 * At issue the destination is filled with NaN and owned by the copy (shared.c); the bytes come when
 * the thread waits for the copy's group, read from device memory then or at issue as the seed
 * says. Copies that complete on an mbarrier (cp.async.mbarrier.arrive) come when nobody waits, at a
 * random time. Groups are counted per thread, as the manual has them.
 */
#include "op_memory.h"

#include <cuda.h>
#include <stdlib.h>

/* list: address of the source; then the source's size, or PLACE_NONE. second: ignore-src, flags 1:
 * that predicate negated. imm: displacement of the destination, target's place: of the source */
static sim_step run_copy(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *p = sim_list(w, i);
    w->copy = sim_grow(w->copy, &w->copies_room, w->copies + 1, sizeof *w->copy);
    sim_copy *c = &w->copy[w->copies++];
    c->mask = m;
    c->line = i->line;
    c->bytes = i->width;
    c->early = sim_random(&w->launch->rng) & 1;
    u32 ignored = i->second ? w->pred[i->second] ^ (0u - (i->flags & 1)) : 0;
    u64 from[LANES];
    u32 to[LANES], reading = 0;
    EACH_LANE_OF(l, m) {
        u64 a;
        sim_address(w, i, l, &a);
        from[l] = sim_doubles(w, p[0])[l] + ((u64)p[2] | (u64)p[3] << 32);
        if ((from[l] & WINDOW_MASK) != 0 || (a | from[l]) % i->width != 0) {
            --w->copies;
            return sim_fail(CUDA_ERROR_MISALIGNED_ADDRESS, STANDIN_MISALIGNED, w, i, (int)l,
                            from[l], "copies %u bytes from 0x%llx to shared offset %llu", i->width,
                            (unsigned long long)from[l], (unsigned long long)a);
        }
        u32 size = p[1] == PLACE_NONE ? i->width : sim_words(w, p[1])[l];
        if (ignored & lane_bit[l])
            size = 0;
        if (size > i->width) {
            sim_find(STANDIN_USAGE, w, i, (int)l, from[l], "source size %u of a copy of %u", size,
                     i->width);
            size = i->width;
        }
        sim_block *owner;
        u8 *d = sim_shared_at(w, i, (int)l, a & ~WINDOW_MASK, i->width, &owner);
        const u8 *s = size ? sim_space_at(from[l], size) : NULL;
        if (!d || (size && !s)) {
            --w->copies;
            return d ? sim_bad_address(w, i, (int)l, from[l], size, "copies") : STEP_FAULT;
        }
        to[l] = (u32)a;
        c->group[l] = w->group[l];
        c->to[l] = to[l];
        c->from[l] = from[l];
        c->from_bytes[l] = (u8)size;
        memset(c->data[l], 0, sizeof c->data[l]);
        if (c->early && size)
            memcpy(c->data[l], s, size);
        if (sim_options.check_shared)
            sim_shared_claim(w, i, (int)l, to[l], i->width);
        memset(d, 0xff, i->width);
        reading |= size ? lane_bit[l] : 0;
    }
    if (reading)
        sim_count_global(w, from, reading, i->width);
    sim_count_shared(w, to, m, i->width);
    w->launch->counters.async_bytes += (u64)i->width * (u32)__builtin_popcount(m);
    return STEP_NEXT;
}

static void deliver(sim_warp *w, const sim_insn *i, sim_copy *c, u32 m) {
    sim_block *b = w->block;
    EACH_LANE_OF(l, m) {
        if (c->bytes == 0) { /* an arrival at an mbarrier */
            sim_mbarrier_arrive_at(w, i, (int)l, b, c->to[l], 1, 0, NULL);
            continue;
        }
        const u8 *s = c->data[l];
        u8 late[16] = {0};
        if (!c->early && c->from_bytes[l]) {
            const u8 *now = sim_space_at(c->from[l], c->from_bytes[l]);
            memcpy(late, now ? now : c->data[l], c->from_bytes[l]);
            s = late;
        }
        memcpy(b->shared + c->to[l], s, c->bytes);
        if (sim_options.check_shared)
            sim_shared_deliver(b, w->id, w->clock, (int)l, c->to[l], c->bytes, false);
    }
    c->mask &= ~m;
}

/* Delivers the copies of lanes in mask whose group is below upto[lane]. */
void sim_async_settle(sim_warp *w, const sim_insn *i, u32 mask, const u32 *upto) {
    u32 kept = 0;
    for (u32 n = 0; n < w->copies; ++n) {
        sim_copy *c = &w->copy[n];
        u32 now = 0;
        EACH_LANE_OF(l, c->mask & mask) now |= c->group[l] < upto[l] ? lane_bit[l] : 0;
        if (now)
            deliver(w, i, c, now);
        if (w->copy[n].mask) {
            if (kept != n)
                w->copy[kept] = w->copy[n];
            ++kept;
        }
    }
    w->copies = kept;
}

/* Copies before an arrival that was asked for, and the arrival. */
bool sim_async_background(sim_warp *w) {
    u32 last = 0;
    for (u32 n = 0; n < w->copies; ++n)
        if (w->copy[n].bytes == 0)
            last = n + 1;
    if (last == 0)
        return false;
    u32 kept = 0;
    for (u32 n = 0; n < w->copies; ++n) {
        if (n < last)
            deliver(w, NULL, &w->copy[n], w->copy[n].mask);
        else
            w->copy[kept++] = w->copy[n];
    }
    w->copies = kept;
    return true;
}

void sim_warp_drop_async(sim_warp *w) {
    w->copies = 0;
    sim_wgmma_drop(w);
}

static sim_step run_commit(sim_warp *w, const sim_insn *i, u32 m) {
    (void)i;
    EACH_LANE_OF(l, m)++ w->group[l];
    return STEP_NEXT;
}

/* mode 1: wait_all, committed or not; else all but the last imm groups */
static sim_step run_wait(sim_warp *w, const sim_insn *i, u32 m) {
    u32 upto[LANES];
    EACH_LANE(l) {
        u32 n = (u32)i->imm;
        upto[l] = i->mode ? UINT32_MAX : w->group[l] > n ? w->group[l] - n : 0;
    }
    sim_async_settle(w, i, m, upto);
    return STEP_NEXT;
}

/* cp.async.mbarrier.arrive{.noinc}: an arrival once this thread's copies so far are done. Without
 * .noinc the count of pending arrivals is raised first, so that the arrival changes nothing. */
static sim_step run_mbarrier_arrive(sim_warp *w, const sim_insn *i, u32 m) {
    w->copy = sim_grow(w->copy, &w->copies_room, w->copies + 1, sizeof *w->copy);
    sim_copy *c = &w->copy[w->copies];
    memset(c, 0, sizeof *c);
    c->mask = m;
    c->line = i->line;
    EACH_LANE_OF(l, m) {
        u64 a;
        sim_address(w, i, l, &a);
        c->to[l] = (u32)(a & ~WINDOW_MASK);
        c->group[l] = UINT32_MAX;
        if (i->mode == 0 && !sim_mbarrier_raise(w, i, (int)l, c->to[l]))
            return STEP_FAULT;
    }
    ++w->copies;
    return STEP_NEXT;
}

static bool decode_copy(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    const ptx_operand *o = d->operand;
    /* cp.async.ca.shared.global [dst], [src], cp-size{, src-size | ignore-src}{, policy} */
    if (d->operands < 3 || o[2].kind != OPERAND_IMMEDIATE || o[1].kind != OPERAND_ADDRESS)
        return ptx_refuse(d, "this form of cp.async");
    i->width = (u8)o[2].value;
    if (i->width != 16 && (ptx_has(d, "cg") || (i->width != 4 && i->width != 8)))
        return ptx_refuse(d, "a copy of %u bytes", i->width);
    i->run = run_copy;
    i->space = SPACE_SHARED;
    sim_kernel *k = d->k;
    ptx_begin_list(d);
    const ptx_operand *base = &o[1].part[0];
    if (!ptx_bind_list(d, base, 8, false))
        return false;
    k->list = sim_grow(k->list, &k->list_room, k->list_length + 4, sizeof(u32));
    k->list[k->list_length] = PLACE_NONE;
    if (d->operands > 3) {
        const ptx_operand *x = &o[3];
        u32 p;
        if (x->kind == OPERAND_REGISTER && x->bytes == 0) {
            ptx_bind_predicate(d, &p, x, false);
            i->second = (u16)p;
            i->flags = x->negated;
        } else if (x->kind == OPERAND_IMMEDIATE || x->bytes == 4) {
            if (!ptx_bind_list(d, x, 4, false))
                return false;
            --k->list_length;
        } /* a 64-bit register is a cache policy */
    }
    ++k->list_length;
    k->list[k->list_length++] = (u32)o[1].value;
    k->list[k->list_length++] = (u32)(o[1].value >> 32);
    return ptx_bind_address(d, &i->a, &i->imm, &o[0]);
}

bool op_async_decode(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    if (!ptx_starts(d, "cp.async.") || ptx_starts(d, "cp.async.bulk"))
        return false;
    if (ptx_starts(d, "cp.async.mbarrier.arrive")) {
        i->mode = ptx_has(d, "noinc");
        i->run = run_mbarrier_arrive;
        return ptx_bind_address(d, &i->a, &i->imm, &d->operand[0]);
    }
    if (strcmp(d->opcode, "cp.async.commit_group") == 0)
        i->run = run_commit;
    else if (strcmp(d->opcode, "cp.async.wait_all") == 0) {
        i->mode = 1;
        i->run = run_wait;
    } else if (strcmp(d->opcode, "cp.async.wait_group") == 0 && d->operands == 1) {
        i->imm = (s64)d->operand[0].value;
        i->run = run_wait;
    } else
        return decode_copy(d);
    return true;
}
