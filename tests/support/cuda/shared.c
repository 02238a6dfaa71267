/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared.c: who wrote and read each granule of a block's shared memory, and what ordered it.
 *
 * Loads, stores and copies tell their accesses here before they are made. Each granule (as small
 * as the kernel's smallest store) keeps the stamp of its last write (agent, lane, clock) and each
 * warp's clock when it last read it. An access is a race unless the other one's clock is known to
 * the warp: clocks are exchanged at barriers, mbarriers and bar.warp.sync (vector clocks after
 * Lamport and Fidge, kept as in Flanagan and Freund, "FastTrack", 2009). Agents are the warps and,
 * for copies that complete on an mbarrier, the mbarriers. Within a warp, a lane that reads what
 * another lane wrote needs bar.warp.sync or a barrier between; a lane that overwrites what another
 * lane of its warp has read is not told.
 */
#include "sim.h"

#include <cuda.h>
#include <string.h>

/* Stamp: clock, agent + 1, lane, and: */
#define IN_FLIGHT (UINT64_C(1) << 48)
#define BY_ASYNC (UINT64_C(1) << 49) /* by the asynchronous proxy */
#define ATOMIC (UINT64_C(1) << 50)
#define READ_PENDING UINT32_MAX

static u64 stamp(u32 agent, int lane, u32 clock) {
    return (u64)clock | (u64)(agent + 1) << 32 | (u64)(lane & 0xff) << 40;
}
static u32 stamp_clock(u64 s) {
    return (u32)s;
}
static u32 stamp_agent(u64 s) {
    return (u32)(s >> 32 & 0xff) - 1;
}
static int stamp_lane(u64 s) {
    return (int)(s >> 40 & 0xff);
}

void sim_clock_release(sim_warp *w, u32 *vc) {
    w->vc[w->id] = w->clock;
    for (int a = 0; a < MAX_AGENTS; ++a)
        vc[a] = vc[a] > w->vc[a] ? vc[a] : w->vc[a];
    w->vc[w->id] = ++w->clock;
}

void sim_clock_acquire(sim_warp *w, const u32 *vc) {
    for (int a = 0; a < MAX_AGENTS; ++a)
        w->vc[a] = w->vc[a] > vc[a] ? w->vc[a] : vc[a];
    w->vc[w->id] = w->clock;
}

/* The owner's bytes of a shared address (which may be another block's of the cluster). */
u8 *sim_shared_at(sim_warp *w, const sim_insn *i, int lane, u64 offset, size_t bytes,
                  sim_block **owner) {
    sim_block *b = w->block;
    u64 rank = offset >> RANK_SHIFT, at = offset & ((1u << RANK_SHIFT) - 1);
    if (rank > 0 && rank <= b->cluster_size)
        b = b->cluster[rank - 1];
    else if (rank > 0)
        b = NULL;
    if (b && at + bytes <= b->shared_bytes && b->live_warps > 0) {
        *owner = b;
        return b->shared + at;
    }
    if (b && b->live_warps == 0)
        sim_fail(CUDA_ERROR_ILLEGAL_ADDRESS, STANDIN_FREED, w, i, lane, offset,
                 "shared memory of a block that has exited");
    else
        sim_fail(CUDA_ERROR_ILLEGAL_ADDRESS, STANDIN_BOUNDS, w, i, lane, offset,
                 "%zu bytes at shared offset %llu, of %zu", bytes, (unsigned long long)offset,
                 w->block->shared_bytes);
    return NULL;
}

static void tell_write(sim_warp *w, const sim_insn *i, int lane, u32 offset, u64 s,
                       const char *what) {
    if (s & IN_FLIGHT)
        sim_find(STANDIN_IN_FLIGHT, w, i, lane, offset,
                 "%s shared offset %u while a copy to it, of warp %u lane %d, is on its way", what,
                 offset, stamp_agent(s), stamp_lane(s));
    else
        sim_find(STANDIN_RACE, w, i, lane, offset,
                 "%s shared offset %u, written by %s %u lane %d without a barrier between", what,
                 offset, stamp_agent(s) < MAX_WARPS ? "warp" : "mbarrier",
                 stamp_agent(s) % MAX_WARPS, stamp_lane(s));
}

/* Whether a write happened before what w does now; `lane` < 0: all lanes of w. */
static bool write_known(const sim_warp *w, u64 s, int lane) {
    u32 agent = stamp_agent(s);
    if (s & IN_FLIGHT)
        return false;
    if (agent == w->id) /* the same lane, or something ordered the lanes since */
        return stamp_lane(s) == lane || stamp_clock(s) < w->clock;
    return stamp_clock(s) <= w->vc[agent];
}

void sim_shared_read(sim_warp *w, const sim_insn *i, int lane, u32 offset, u32 bytes) {
    sim_block *b = w->block;
    u32 first = offset >> w->launch->kernel->shared_granule;
    u32 last = (offset + bytes - 1) >> w->launch->kernel->shared_granule;
    u32 *reads = b->read + (size_t)w->id * b->granules;
    u64 good = ~UINT64_C(0); /* the stamp that was last found good */
    for (u32 g = first; g <= last; ++g) {
        u64 s = b->written[g];
        reads[g] = w->clock;
        if (s == good)
            continue;
        if (s == 0)
            sim_find(STANDIN_UNINITIALISED, w, i, lane, offset,
                     "reads shared offset %u, which nothing wrote",
                     g << w->launch->kernel->shared_granule);
        else if (!write_known(w, s, lane))
            tell_write(w, i, lane, g << w->launch->kernel->shared_granule, s, "reads");
        else
            good = s;
    }
}

/* Readers of a granule that w knows nothing of. */
static void check_readers(sim_warp *w, const sim_insn *i, int lane, u32 g) {
    const sim_block *b = w->block;
    for (u32 v = 0; v < b->warps; ++v) {
        u32 clock = b->read[(size_t)v * b->granules + g];
        u32 offset = g << w->launch->kernel->shared_granule;
        if (clock == READ_PENDING)
            sim_find(STANDIN_IN_FLIGHT, w, i, lane, offset,
                     "writes shared offset %u while an asynchronous read of warp %u is under way",
                     offset, v);
        else if (v != w->id && clock > w->vc[v])
            sim_find(STANDIN_RACE, w, i, lane, offset,
                     "writes shared offset %u, read by warp %u without a barrier between", offset,
                     v);
    }
}

static void check_write(sim_warp *w, const sim_insn *i, int lane, u32 g, bool atomic) {
    u64 s = w->block->written[g];
    bool both_atomic = atomic && (s & ATOMIC);
    if (atomic && s == 0)
        sim_find(STANDIN_UNINITIALISED, w, i, lane, g << w->launch->kernel->shared_granule,
                 "reads shared offset %u, which nothing wrote",
                 g << w->launch->kernel->shared_granule);
    /* Lanes of one warp that overwrite each other's bytes in one epoch: one of them wins, as the
     * manual says; only other agents are told. */
    if (s != 0 && !both_atomic && !((stamp_agent(s) == w->id) && !(s & IN_FLIGHT)) &&
        !write_known(w, s, lane))
        tell_write(w, i, lane, g << w->launch->kernel->shared_granule, s, "writes");
    /* atomics read too, but are ordered among themselves: they leave no mark as readers */
    check_readers(w, i, lane, g);
}

void sim_shared_write(sim_warp *w, const sim_insn *i, int lane, u32 offset, u32 bytes,
                      bool atomic) {
    u32 shift = w->launch->kernel->shared_granule;
    u64 s = stamp(w->id, lane, w->clock) | (atomic ? ATOMIC : 0);
    for (u32 g = offset >> shift; g <= (offset + bytes - 1) >> shift; ++g) {
        check_write(w, i, lane, g, atomic);
        w->block->written[g] = s;
    }
}

/* A copy to these bytes begins: nobody may touch them until it is delivered. */
void sim_shared_claim(sim_warp *w, const sim_insn *i, int lane, u32 offset, u32 bytes) {
    sim_shared_write(w, i, lane, offset, bytes, false);
    u32 shift = w->launch->kernel->shared_granule;
    for (u32 g = offset >> shift; g <= (offset + bytes - 1) >> shift; ++g)
        w->block->written[g] |= IN_FLIGHT;
}

void sim_shared_deliver(sim_block *b, u32 agent, u32 clock, int lane, u32 offset, u32 bytes,
                        bool by_async) {
    u32 shift = b->launch->kernel->shared_granule;
    u64 s = stamp(agent, lane, clock) | (by_async ? BY_ASYNC : 0);
    for (u32 g = offset >> shift; g <= (offset + bytes - 1) >> shift; ++g)
        b->written[g] = s;
}

/* Reads by the asynchronous proxy: wgmma operands and the sources of bulk stores. While they are
 * under way nobody may write; what the warps wrote must have been fenced for the proxy. */
void sim_shared_read_async(sim_warp *w, const sim_insn *i, u32 offset, u32 bytes, bool begin) {
    sim_block *b = w->block;
    u32 shift = w->launch->kernel->shared_granule;
    u32 *reads = b->read + (size_t)w->id * b->granules;
    for (u32 g = offset >> shift; g <= (offset + bytes - 1) >> shift; ++g) {
        if (!begin) {
            if (reads[g] == READ_PENDING)
                reads[g] = w->clock;
            continue;
        }
        u64 s = b->written[g];
        if (s == 0)
            sim_find(STANDIN_UNINITIALISED, w, i, 0, g << shift,
                     "reads shared offset %u, which nothing wrote", g << shift);
        else if (!write_known(w, s, -1) && !(stamp_agent(s) == w->id && !(s & IN_FLIGHT)))
            tell_write(w, i, 0, g << shift, s, "reads");
        else if (!(s & BY_ASYNC) && stamp_agent(s) < b->warps &&
                 b->warp[stamp_agent(s)].fenced < stamp_clock(s))
            sim_find(STANDIN_RACE, w, i, 0, g << shift,
                     "reads shared offset %u, written by warp %u without fence.proxy.async",
                     g << shift, stamp_agent(s));
        reads[g] = READ_PENDING;
    }
}

/* Wavefronts of one shared memory request: 32 banks of 4 bytes; lanes that want the same word share
 * it. 8-byte accesses go by half warps and 16-byte ones by quarters; each part costs the largest
 * number of different words in one bank. */
u32 sim_bank_wavefronts(const u32 *offset, u32 mask, u32 bytes) {
    u32 parts = bytes <= 4 ? 1 : bytes / 4, lanes = LANES / parts, total = 0;
    u32 words = bytes <= 4 ? 1 : bytes / 4;
    for (u32 p = 0; p < parts; ++p) {
        u32 word[LANES][LANES], n[LANES] = {0}, worst = 0;
        for (u32 l = p * lanes; l < (p + 1) * lanes; ++l) {
            if (!(mask & lane_bit[l]))
                continue;
            for (u32 x = 0; x < words; ++x) {
                u32 want = offset[l] / 4 + x, bank = want % 32, k = 0;
                while (k < n[bank] && word[bank][k] != want)
                    ++k;
                if (k == n[bank] && k < LANES) {
                    word[bank][n[bank]++] = want;
                    worst = worst > n[bank] ? worst : n[bank];
                }
            }
        }
        total += worst;
    }
    return total;
}
