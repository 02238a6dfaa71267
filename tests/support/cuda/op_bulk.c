/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_bulk.c: bulk copies: cp.async.bulk and cp.async.bulk.tensor (TMA), both directions, groups,
 * multicast in a cluster.
 *
 * A copy to shared memory owns its destination, which holds NaN, until it completes on its
 * mbarrier:
 * at random, or when nobody can go on. A copy from shared memory is made when its group is waited
 * for, or at random: until then nobody may write its source. A tile that reaches over an edge of
 * the tensor is filled with zeros (or NaN) on the way in and cut on the way out.
 */
#include "op_memory.h"
#include "tensor_map.h"

#include <cuda.h>
#include <stdlib.h>

typedef struct sim_bulk {
    bool store, tensor;
    tensor_map map;
    s32 at[5];
    u64 global;
    u32 shared, bytes, mbarrier;
    sim_warp *warp;
    const sim_insn *insn;
    u32 lane, group;
} sim_bulk;

/* A row of a tile that lies in the tensor: `bytes` from `address`. */
static void count_row(standin_counters *n, u64 address, u32 bytes) {
    if (!sim_options.count || bytes == 0)
        return;
    ++n->global_requests;
    n->global_sectors += (address + bytes - 1) / 32 - address / 32 + 1;
    n->global_ideal += (bytes + 31) / 32;
}

/* Copies a tile, row by row of the innermost dimension; or only looks whether it may, and counts.
 */
static bool copy_tile(sim_block *b, const sim_bulk *c, bool in_bounds_only) {
    const tensor_map *t = &c->map;
    u32 row_bytes = t->box[0] * t->element, rows = 1;
    for (u32 n = 1; n < t->rank; ++n)
        rows *= t->box[n];
    for (u32 r = 0; r < rows; ++r) {
        u64 address = t->address;
        bool inside = true;
        u32 rest = r;
        for (u32 n = 1; n < t->rank; ++n) {
            s64 index = (s64)c->at[n] + (s64)(rest % t->box[n]) * t->step[n];
            rest /= t->box[n];
            inside = inside && index >= 0 && index < (s64)t->size[n];
            address += (u64)index * t->pitch[n - 1];
        }
        u64 from = 0;
        u32 bytes = 0;
        for (u32 e = 0; e < t->box[0]; ++e) {
            s64 index = (s64)c->at[0] + e;
            bool have = inside && index >= 0 && index < (s64)t->size[0];
            u32 to = tensor_swizzled(c->shared + r * row_bytes + e * t->element, t->swizzle);
            u8 *s = b->shared + to;
            u8 *g = have ? sim_space_at(address + (u64)index * t->element, t->element) : NULL;
            if (have && !g)
                return false;
            if (in_bounds_only) {
                from = have && bytes == 0 ? address + (u64)index * t->element : from;
                bytes += have ? t->element : 0;
                continue;
            }
            if (c->store && g)
                memcpy(g, s, t->element);
            else if (!c->store && g)
                memcpy(s, g, t->element);
            else if (!c->store)
                memset(s, t->nan_fill ? 0xff : 0, t->element);
        }
        count_row(&b->launch->counters, from, bytes);
    }
    return true;
}

static void perform(sim_block *b, sim_bulk *c) {
    bool good = true;
    if (c->tensor)
        good = copy_tile(b, c, false);
    else {
        u8 *g = sim_space_at(c->global, c->bytes);
        good = g != NULL;
        if (good && c->store)
            memcpy(g, b->shared + c->shared, c->bytes);
        else if (good)
            memcpy(b->shared + c->shared, g, c->bytes);
    }
    if (!good) {
        sim_bad_address(c->warp, c->insn, (int)c->lane, c->tensor ? c->map.address : c->global,
                        c->bytes, "copies");
        return;
    }
    if (c->store) {
        if (sim_options.check_shared)
            sim_shared_read_async(c->warp, c->insn, c->shared, c->bytes, false);
        return;
    }
    u32 clock, agent = sim_mbarrier_agent(b, c->mbarrier, &clock);
    if (sim_options.check_shared)
        sim_shared_deliver(b, agent, clock, 0, c->shared, c->bytes, true);
    sim_mbarrier_complete_tx(b, c->mbarrier, c->bytes);
}

static void remove_bulk(sim_block *b, u32 n) {
    b->bulk[n] = b->bulk[--b->bulks];
}

bool sim_bulk_background(sim_block *b, bool force) {
    bool any = false;
    for (u32 n = 0; n < b->bulks;) {
        if (!force && (sim_random(&b->launch->rng) & 1)) {
            ++n;
            continue;
        }
        sim_bulk c = b->bulk[n];
        remove_bulk(b, n);
        perform(b, &c);
        any = true;
    }
    return any;
}

void sim_bulk_drop(sim_block *b) {
    b->bulks = 0;
}

static sim_step add(sim_warp *w, const sim_insn *i, u32 l, sim_block *b, const sim_bulk *c) {
    if (c->shared + (u64)c->bytes > b->shared_bytes)
        return sim_fail(CUDA_ERROR_ILLEGAL_ADDRESS, STANDIN_BOUNDS, w, i, (int)l, c->shared,
                        "%u bytes at shared offset %u, of %zu", c->bytes, c->shared,
                        b->shared_bytes);
    if (c->tensor && !copy_tile(b, c, true))
        return sim_bad_address(w, i, (int)l, c->map.address, c->bytes, "copies");
    if (!c->tensor && !sim_space_at(c->global, c->bytes))
        return sim_bad_address(w, i, (int)l, c->global, c->bytes, "copies");
    if (sim_options.check_shared) {
        if (c->store)
            sim_shared_read_async(w, i, c->shared, c->bytes, true);
        else if (b == w->block)
            sim_shared_claim(w, i, (int)l, c->shared, c->bytes);
    }
    if (!c->store)
        memset(b->shared + c->shared, 0xff, c->bytes);
    b->bulk = sim_grow(b->bulk, &b->bulks_room, b->bulks + 1, sizeof *b->bulk);
    b->bulk[b->bulks++] = *c;
    w->launch->counters.async_bytes += c->bytes;
    return STEP_NEXT;
}

static bool read_map(sim_warp *w, const sim_insn *i, u32 l, u64 address, tensor_map *t) {
    const u8 *p = (address & WINDOW_MASK) == WINDOW_PARAM
                      ? w->launch->parameters + (address & ~WINDOW_MASK)
                      : sim_space_at(address, 128);
    if (p)
        memcpy(t, p, sizeof *t);
    if (!p || t->magic != TENSOR_MAP_MAGIC || t->rank != i->count || address % 64 != 0) {
        sim_fail(CUDA_ERROR_ILLEGAL_INSTRUCTION, STANDIN_USAGE, w, i, (int)l, address,
                 "no tensor map of %u dimensions at a multiple of 64", i->count);
        return false;
    }
    return true;
}

/* list: shared address, mbarrier address (stores: PLACE_NONE), multicast mask (or PLACE_NONE), then
 * displacements of both, then the map and its coordinates, or the global address, its
 * displacement and the size. type 1: tensor; mode 1: store. */
static u64 wide(const sim_warp *w, u32 place, u32 l, bool is_wide) {
    return is_wide ? sim_doubles(w, place)[l] : sim_words(w, place)[l];
}

static sim_step run_bulk(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *p = sim_list(w, i);
    EACH_LANE_OF(l, m) {
        sim_bulk c = {.store = i->mode,
                      .tensor = i->type,
                      .warp = w,
                      .insn = i,
                      .lane = l,
                      .group = w->bulk_group[l]};
        c.shared = (u32)(wide(w, p[0], l, i->shape & 1) + p[3]) & ~(u32)0;
        u32 target = c.shared >> RANK_SHIFT;
        c.shared &= (1u << RANK_SHIFT) - 1;
        if (!c.store)
            c.mbarrier = (u32)(wide(w, p[1], l, i->shape & 2) + p[4]) & ((1u << RANK_SHIFT) - 1);
        if (c.tensor) {
            if (!read_map(w, i, l, sim_doubles(w, p[5])[l], &c.map))
                return STEP_FAULT;
            c.bytes = c.map.element;
            for (u32 n = 0; n < i->count; ++n) {
                c.at[n] = (s32)sim_words(w, p[6 + n])[l];
                c.bytes *= c.map.box[n];
            }
        } else {
            c.global = sim_doubles(w, p[5])[l] + p[6];
            c.bytes = sim_words(w, p[7])[l];
        }
        u32 align = c.tensor ? 128 : 16;
        if (c.shared % align || (!c.tensor && (c.global % 16 || c.bytes % 16)))
            return sim_fail(CUDA_ERROR_MISALIGNED_ADDRESS, STANDIN_MISALIGNED, w, i, (int)l,
                            c.shared, "shared offset %u, %u bytes", c.shared, c.bytes);
        u32 mask = p[2] == PLACE_NONE ? 0 : sim_words(w, p[2])[l] & 0xffff;
        sim_block *own = w->block;
        if (mask == 0) {
            sim_block *b = target ? own->cluster[(target - 1) % own->cluster_size] : own;
            if (add(w, i, l, b, &c) != STEP_NEXT)
                return STEP_FAULT;
        }
        for (u32 r = 0; r < own->cluster_size && mask; ++r)
            if ((mask >> r & 1) && add(w, i, l, own->cluster[r], &c) != STEP_NEXT)
                return STEP_FAULT;
    }
    return STEP_NEXT;
}

static sim_step run_commit(sim_warp *w, const sim_insn *i, u32 m) {
    (void)i;
    EACH_LANE_OF(l, m)++ w->bulk_group[l];
    return STEP_NEXT;
}

static sim_step run_wait(sim_warp *w, const sim_insn *i, u32 m) {
    sim_block *b = w->block;
    for (u32 n = 0; n < b->bulks;) {
        sim_bulk c = b->bulk[n];
        bool mine = c.store && c.warp == w && (m & lane_bit[c.lane]) &&
                    c.group + (u32)i->imm < w->bulk_group[c.lane];
        if (!mine) {
            ++n;
            continue;
        }
        remove_bulk(b, n);
        perform(b, &c);
    }
    return w->launch->fault ? STEP_FAULT : STEP_NEXT;
}

static bool bind_base(ptx_decoder *d, const ptx_operand *o, u8 wide_bit) {
    const ptx_operand *base = &o->part[0];
    u32 bytes = base->kind == OPERAND_REGISTER ? base->bytes : 8;
    if (o->kind != OPERAND_ADDRESS)
        return ptx_refuse(d, "no address where one is expected");
    d->insn.shape |= bytes == 8 ? wide_bit : 0;
    return ptx_bind_list(d, base, bytes, false);
}

static void append(ptx_decoder *d, u32 value) {
    sim_kernel *k = d->k;
    k->list = sim_grow(k->list, &k->list_room, k->list_length + 1, sizeof(u32));
    k->list[k->list_length++] = value;
}

static bool decode_copy(ptx_decoder *d, const ptx_operand *shared, const ptx_operand *global,
                        const ptx_operand *size, const ptx_operand *mbarrier,
                        const ptx_operand *mask) {
    sim_insn *i = &d->insn;
    i->run = run_bulk;
    ptx_begin_list(d);
    if (!bind_base(d, shared, 1))
        return false;
    if (mbarrier ? !bind_base(d, mbarrier, 2) : (append(d, PLACE_NONE), false))
        return false;
    if (mask ? !ptx_bind_list(d, mask, 2, false) : (append(d, PLACE_NONE), false))
        return false;
    append(d, (u32)shared->value);
    append(d, mbarrier ? (u32)mbarrier->value : 0);
    if (!bind_base(d, global, 4))
        return false;
    if (!i->type) {
        append(d, (u32)global->value);
        return ptx_bind_list(d, size, 4, false);
    }
    const ptx_operand *c = global->parts == 2 ? &global->part[1] : NULL;
    if (!c || c->kind != OPERAND_VECTOR || c->parts == 0 || c->parts > 5)
        return ptx_refuse(d, "a tensor without coordinates");
    i->count = (u8)c->parts;
    for (u32 n = 0; n < c->parts; ++n)
        if (!ptx_bind_list(d, &c->part[n], 4, false))
            return false;
    return true;
}

bool op_bulk_decode(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    const ptx_operand *o = d->operand;
    if (!ptx_starts(d, "cp.async.bulk."))
        return false;
    if (ptx_has(d, "commit_group")) {
        i->run = run_commit;
        return true;
    }
    if (ptx_has(d, "wait_group")) {
        i->imm = (s64)o[0].value;
        i->run = run_wait;
        return true;
    }
    if (ptx_has(d, "im2col") || ptx_has(d, "prefetch") || ptx_has(d, "gather4"))
        return ptx_refuse(d, "this form of bulk copy");
    i->type = ptx_has(d, "tensor");
    i->mode = ptx_has(d, "bulk_group");
    bool multicast = ptx_has(d, "multicast::cluster");
    if (i->mode)
        return i->type ? decode_copy(d, &o[1], &o[0], NULL, NULL, NULL)
                       : decode_copy(d, &o[1], &o[0], &o[2], NULL, NULL);
    if (d->operands < (i->type ? 3u : 4u))
        return ptx_refuse(d, "%u operands", d->operands);
    return i->type ? decode_copy(d, &o[0], &o[1], NULL, &o[2], multicast ? &o[3] : NULL)
                   : decode_copy(d, &o[0], &o[1], &o[2], &o[3], multicast ? &o[4] : NULL);
}
