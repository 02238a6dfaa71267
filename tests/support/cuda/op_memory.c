/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_memory.c: loads and stores of every state space, with their checks and counters.
 *
 * ld, ldu, st with vectors and all orderings (memory order is taken as program order: see
 * CUDA_STAND_IN.md), prefetches. An access outside what it may touch, or at no multiple of its
 * size,
 * is told and ends the launch as hardware would (700, 716). The lanes of one instruction are
 * served in lane order; for stores of several lanes to one place the last wins.
 */
#include "op_memory.h"
#include "ptx.h"

#include <cuda.h>

bool sim_address(const sim_warp *w, const sim_insn *i, u32 l, u64 *address) {
    u64 a = i->flags & ADDRESS_WIDE ? sim_doubles(w, i->a)[l] : sim_words(w, i->a)[l];
    *address = a + (u64)i->imm;
    return true;
}

sim_step sim_bad_address(sim_warp *w, const sim_insn *i, int lane, u64 address, size_t bytes,
                         const char *what) {
    if (sim_space_was_freed(address))
        return sim_fail(CUDA_ERROR_ILLEGAL_ADDRESS, STANDIN_FREED, w, i, lane, address,
                        "%s %zu bytes of memory that was freed", what, bytes);
    return sim_fail(CUDA_ERROR_ILLEGAL_ADDRESS, STANDIN_BOUNDS, w, i, lane, address,
                    "%s %zu bytes at 0x%llx, outside every allocation", what, bytes,
                    (unsigned long long)address);
}

/* The space that a generic address lies in; the address becomes the space's own. */
static u32 resolve(u32 space, u64 *address) {
    if (space != SPACE_GENERIC)
        return space;
    u64 window = *address & WINDOW_MASK;
    *address &= ~WINDOW_MASK;
    return window == WINDOW_SHARED  ? SPACE_SHARED
           : window == WINDOW_LOCAL ? SPACE_LOCAL
           : window == WINDOW_PARAM ? SPACE_PARAM
                                    : SPACE_GLOBAL;
}

static u8 *fail_bounds(sim_warp *w, const sim_insn *i, int lane, u64 a, const char *what) {
    sim_fail(CUDA_ERROR_ILLEGAL_ADDRESS, STANDIN_BOUNDS, w, i, lane, a, "outside %s", what);
    return NULL;
}

/* Where a lane's bytes lie on the host, checked; NULL once told. */
u8 *sim_lane_bytes(sim_warp *w, const sim_insn *i, u32 l, u64 address, u32 bytes, u32 access) {
    u32 space = resolve(i->space, &address);
    if (address % bytes != 0) {
        sim_fail(CUDA_ERROR_MISALIGNED_ADDRESS, STANDIN_MISALIGNED, w, i, (int)l, address,
                 "address 0x%llx is no multiple of %u", (unsigned long long)address, bytes);
        return NULL;
    }
    const sim_kernel *k = w->launch->kernel;
    u8 *p;
    sim_block *owner;
    switch (space) {
    case SPACE_SHARED:
        p = sim_shared_at(w, i, (int)l, address, bytes, &owner);
        if (p && owner == w->block && sim_options.check_shared) {
            u32 offset = (u32)address & ((1u << RANK_SHIFT) - 1);
            if ((access & ACCESS_READ) && !(access & ACCESS_ATOMIC))
                sim_shared_read(w, i, (int)l, offset, bytes);
            if (access & ACCESS_WRITE)
                sim_shared_write(w, i, (int)l, offset, bytes, access & ACCESS_ATOMIC);
        }
        return p;
    case SPACE_LOCAL:
        return address + bytes <= k->local_bytes
                   ? w->local + l * k->local_bytes + address
                   : fail_bounds(w, i, (int)l, address, "local memory");
    case SPACE_PARAM:
        return address + bytes <= k->parameter_bytes && !(access & ACCESS_WRITE)
                   ? w->launch->parameters + address
                   : fail_bounds(w, i, (int)l, address, "the kernel's parameters");
    default:
        p = sim_space_at(address, bytes);
        if (!p)
            sim_bad_address(w, i, (int)l, address, bytes,
                            access & ACCESS_WRITE ? "writes" : "reads");
        return p;
    }
}

/* 32-byte sectors that a request touches; lanes mostly go upward, so new ones are found fast. */
void sim_count_global(sim_warp *w, const u64 *address, u32 m, u32 bytes) {
    if (!sim_options.count)
        return;
    u64 seen[LANES * 4];
    u32 n = 0, lanes = (u32)__builtin_popcount(m);
    EACH_LANE_OF(l, m) {
        for (u64 s = address[l] / 32; s <= (address[l] + bytes - 1) / 32; ++s) {
            u32 k = n;
            while (k > 0 && seen[k - 1] != s)
                --k;
            if (k == 0 && n < sizeof seen / sizeof *seen)
                seen[n++] = s;
        }
    }
    u32 ideal = (lanes * bytes + 31) / 32;
    standin_counters *c = &w->launch->counters;
    ++c->global_requests;
    c->global_sectors += n;
    c->global_ideal += ideal < n ? ideal : n; /* broadcasts need fewer than dense lanes would */
}

void sim_count_shared(sim_warp *w, const u32 *offset, u32 m, u32 bytes) {
    if (!sim_options.count)
        return;
    standin_counters *c = &w->launch->counters;
    c->shared_wavefronts += sim_bank_wavefronts(offset, m, bytes);
    /* Parts of 128 bytes that have lanes at all. */
    u32 parts = bytes <= 4 ? 1 : bytes / 4;
    for (u32 p = 0; p < parts; ++p) {
        u32 part = LANES / parts == 32 ? m : m >> p * (LANES / parts) & ((1u << LANES / parts) - 1);
        c->shared_requests += part != 0;
    }
}

static void count(sim_warp *w, const sim_insn *i, const u64 *address, u32 m, u32 bytes) {
    u64 first = address[__builtin_ctz(m)];
    u32 space = resolve(i->space, &first);
    if (space == SPACE_GLOBAL)
        sim_count_global(w, address, m, bytes);
    else if (space == SPACE_SHARED) {
        u32 offset[LANES];
        EACH_LANE_OF(l, m) offset[l] = (u32)address[l] & ((1u << RANK_SHIFT) - 1);
        sim_count_shared(w, offset, m, bytes);
    }
}

/* All lanes inside one allocation and aligned: the common case, without a search per lane. */
static u8 *one_allocation(const sim_insn *i, const u64 *address, u32 m, u32 bytes, u64 *base) {
    if (i->space != SPACE_GLOBAL && i->space != SPACE_GENERIC)
        return NULL;
    u64 least = UINT64_MAX, most = 0, any = 0;
    EACH_LANE_OF(l, m) {
        least = least < address[l] ? least : address[l];
        most = most > address[l] ? most : address[l];
        any |= address[l];
    }
    if ((any & (bytes - 1)) || (any & WINDOW_MASK))
        return NULL;
    *base = least;
    return sim_space_at(least, most - least + bytes);
}

static void load_lane(sim_warp *w, const sim_insn *i, const u32 *list, u32 l, const u8 *p) {
    for (u32 n = 0; n < i->count; ++n) {
        if (list[n] == PLACE_NONE)
            continue;
        u64 x = 0;
        memcpy(&x, p + n * i->width, i->width);
        if (i->mode == LOAD_SIGNED) {
            u32 shift = 64 - 8u * i->width;
            x = (u64)((s64)(x << shift) >> shift);
        }
        if (i->shape & LOAD_WIDE)
            sim_doubles(w, list[n])[l] = x;
        else
            sim_words(w, list[n])[l] = (u32)(i->shape & LOAD_HALF ? x & 0xffff : x);
    }
}

static sim_step run_ld(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *list = sim_list(w, i);
    u32 bytes = (u32)i->width * i->count;
    u64 address[LANES], base;
    EACH_LANE_OF(l, m) sim_address(w, i, l, &address[l]);
    const u8 *p = one_allocation(i, address, m, bytes, &base);
    EACH_LANE_OF(l, m) {
        const u8 *at =
            p ? p + (address[l] - base) : sim_lane_bytes(w, i, l, address[l], bytes, ACCESS_READ);
        if (!at)
            return STEP_FAULT;
        if (i->width == 4 && !(i->shape & LOAD_WIDE))
            for (u32 n = 0; n < i->count; ++n) {
                if (list[n] != PLACE_NONE)
                    memcpy(&sim_words(w, list[n])[l], at + 4 * n, 4);
            }
        else
            load_lane(w, i, list, l, at);
    }
    count(w, i, address, m, bytes);
    return STEP_NEXT;
}

static sim_step run_st(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *list = sim_list(w, i);
    u32 bytes = (u32)i->width * i->count;
    u64 address[LANES], base;
    EACH_LANE_OF(l, m) sim_address(w, i, l, &address[l]);
    u8 *p = one_allocation(i, address, m, bytes, &base);
    EACH_LANE_OF(l, m) {
        u8 *at =
            p ? p + (address[l] - base) : sim_lane_bytes(w, i, l, address[l], bytes, ACCESS_WRITE);
        if (!at)
            return STEP_FAULT;
        for (u32 n = 0; n < i->count; ++n) {
            if (i->width == 8)
                memcpy(at + 8 * n, &sim_doubles(w, list[n])[l], 8);
            else
                memcpy(at + n * i->width, &sim_words(w, list[n])[l], i->width);
        }
    }
    count(w, i, address, m, bytes);
    return STEP_NEXT;
}

/* ld.param of a constant address: the same for all lanes */
static sim_step run_ld_param(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *list = sim_list(w, i);
    EACH_LANE_OF(l, m) load_lane(w, i, list, l, w->launch->parameters + i->imm);
    return STEP_NEXT;
}

/* prefetches and hints change nothing; a prefetch outside of memory is no fault */
static sim_step run_nothing(sim_warp *w, const sim_insn *i, u32 m) {
    (void)w, (void)i, (void)m;
    return STEP_NEXT;
}

bool sim_decode_space(ptx_decoder *d) {
    static const struct {
        const char *word;
        sim_space space;
    } spaces[] = {{"global", SPACE_GLOBAL},      {"shared", SPACE_SHARED},
                  {"shared::cta", SPACE_SHARED}, {"shared::cluster", SPACE_SHARED},
                  {"local", SPACE_LOCAL},        {"const", SPACE_CONST},
                  {"param", SPACE_PARAM},        {"param::entry", SPACE_PARAM}};
    d->insn.space = SPACE_GENERIC;
    for (u32 n = 1; n < d->words; ++n) {
        for (size_t s = 0; s < sizeof spaces / sizeof *spaces; ++s)
            if (strcmp(d->word[n], spaces[s].word) == 0)
                d->insn.space = (u8)spaces[s].space;
        if (strstr(d->word[n], "::func"))
            return ptx_refuse(d, "parameters of functions");
    }
    return true;
}

/* The kernel's smallest store to shared memory is the grain of its checks. */
void sim_note_store(ptx_decoder *d, u32 bytes) {
    u32 shift = bytes == 1 ? 0 : bytes == 2 ? 1 : 2;
    if ((d->insn.space == SPACE_SHARED || d->insn.space == SPACE_GENERIC) &&
        shift < d->k->shared_granule)
        d->k->shared_granule = shift;
}

static bool bind_values(ptx_decoder *d, const ptx_operand *o, bool loads) {
    sim_insn *i = &d->insn;
    const ptx_operand *part = o->kind == OPERAND_VECTOR ? o->part : o;
    u32 n = o->kind == OPERAND_VECTOR ? o->parts : 1;
    if (n != i->count)
        return ptx_refuse(d, "%u values for .v%u", n, i->count);
    ptx_begin_list(d);
    for (u32 v = 0; v < n; ++v) {
        bool is_register = part[v].kind == OPERAND_REGISTER;
        bool wide = is_register ? part[v].bytes == 8 : i->width == 8;
        if (loads && is_register)
            i->shape |= (u8)((wide ? LOAD_WIDE : 0) | (part[v].bytes == 2 ? LOAD_HALF : 0));
        if (!loads && wide && i->width < 8)
            return ptx_refuse(d, "a store narrower than its 64-bit register");
        if (!ptx_bind_list(d, &part[v],
                           wide            ? 8
                           : is_register   ? 4
                           : i->width == 1 ? 2
                                           : i->width,
                           loads))
            return false;
    }
    return true;
}

bool op_memory_decode(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    const char *base = d->word[0];
    if (strcmp(base, "prefetch") == 0 || strcmp(base, "prefetchu") == 0 ||
        strcmp(base, "applypriority") == 0 || strcmp(base, "discard") == 0 ||
        strcmp(base, "createpolicy") == 0) {
        i->run = run_nothing;
        if (base[0] == 'c') /* its result is only ever a hint */
            return ptx_bind(d, &i->d, &d->operand[0], 8, true);
        return true;
    }
    bool loads = strcmp(base, "ld") == 0 || strcmp(base, "ldu") == 0;
    if (!loads && strcmp(base, "st") != 0)
        return false;
    if (ptx_has(d, "async") || d->operands < 2)
        return false; /* st.async */
    const char *type = d->word[d->words - 1];
    i->width = (u8)ptx_type_bytes(type);
    i->count = ptx_has(d, "v2") ? 2 : ptx_has(d, "v4") ? 4 : ptx_has(d, "v8") ? 8 : 1;
    i->mode = loads && type[0] == 's' ? LOAD_SIGNED : 0;
    if (i->width == 0 || i->width > 8)
        return ptx_refuse(d, "type .%s", type);
    if (!sim_decode_space(d))
        return false;
    const ptx_operand *value = &d->operand[loads ? 0 : 1];
    if (!bind_values(d, value, loads) ||
        !ptx_bind_address(d, &i->a, &i->imm, &d->operand[loads ? 1 : 0]))
        return false;
    i->run = loads ? run_ld : run_st;
    if (!loads)
        sim_note_store(d, i->width);
    const ptx_operand *address = loads ? d->operand[1].part : NULL;
    if (loads && i->space == SPACE_PARAM && address->kind == OPERAND_VARIABLE) {
        i->imm += (s64)(address->variable->address + address->value);
        if ((u64)i->imm + (u64)i->width * i->count > d->k->parameter_bytes)
            return ptx_refuse(d, "a parameter's end");
        i->run = run_ld_param;
    }
    return true;
}
