/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c: executes a launch: blocks, warps, and the fragments that a warp falls into.
 *
 * Called by the driver when a stream comes to a launch. A few blocks are resident at a time; a
 * seeded generator picks the next warp and how many instructions its turn has. Lanes of a warp that
 * are at different places are fragments; the one lowest in the text goes first, so that they meet
 * again behind the branch, but after a failed wait any may go (threads of a warp make progress
 * independently since sm_70). Fragments at the same place become one.
 */
#include "sim.h"

#include <cuda.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_RESIDENT = 3,   /* clusters at a time, unless cooperative */
    LONGEST_TURN = 400, /* instructions */
    LONGEST_SPIN = 64,  /* instructions without a failed wait: more than a loop that waits has */
    IDLE_LIMIT = 20000, /* turns in which everybody only waited: a deadlock */
};

typedef struct runner {
    sim_launch *launch;
    sim_block **resident; /* clusters one after the other; NULL: an empty place */
    u32 places, cluster_size;
    u32 *order; /* clusters in random order */
    u64 clusters, next;
} runner;

/* Fragments at the same place join; parked ones wake up when whoever they wait for is there. */
static void merge(sim_warp *w) {
    for (u32 a = 0; a < w->fragments; ++a) {
        sim_fragment *x = &w->fragment[a];
        if (x->state == FRAGMENT_WAITS)
            continue;
        for (u32 b = a + 1; b < w->fragments;) {
            sim_fragment *y = &w->fragment[b];
            if (y->pc == x->pc && y->state != FRAGMENT_WAITS) {
                x->mask |= y->mask;
                if (y->state == FRAGMENT_READY || x->state == FRAGMENT_READY ||
                    (x->wanted & w->live & ~x->mask) == 0)
                    x->state = FRAGMENT_READY;
                *y = w->fragment[--w->fragments];
            } else
                ++b;
        }
        if (x->state == FRAGMENT_PARKED && (x->wanted & w->live & ~x->mask) == 0)
            x->state = FRAGMENT_READY;
    }
}

/* Chooses who goes; *stop: where it meets another. */
static bool choose(sim_warp *w, u32 *stop) {
    u32 best = UINT32_MAX;
    *stop = UINT32_MAX;
    if (w->fragments == 1) {
        w->here = 0;
        return w->fragment[0].state == FRAGMENT_READY;
    }
    u32 ready = 0;
    for (u32 f = 0; f < w->fragments; ++f) {
        const sim_fragment *x = &w->fragment[f];
        if (x->state != FRAGMENT_READY)
            continue;
        ++ready;
        if (best == UINT32_MAX || x->pc < w->fragment[best].pc)
            best = f;
    }
    if (ready == 0)
        return false;
    if (w->idle && ready > 1) {
        u32 nth = (u32)(sim_random(&w->launch->rng) % ready);
        for (u32 f = 0; f < w->fragments; ++f)
            if (w->fragment[f].state == FRAGMENT_READY && nth-- == 0)
                best = f;
    }
    w->here = best;
    for (u32 f = 0; f < w->fragments; ++f) {
        const sim_fragment *x = &w->fragment[f];
        if (f != best && x->state != FRAGMENT_WAITS && x->pc > w->fragment[best].pc &&
            x->pc < *stop)
            *stop = x->pc;
    }
    return true;
}

static sim_fragment *new_fragment(sim_warp *w, u32 pc, u32 mask) {
    sim_fragment *f = &w->fragment[w->fragments++];
    *f = (sim_fragment){.pc = pc, .mask = mask, .state = FRAGMENT_READY};
    return f;
}

/* The lanes of m stay at the instruction, the others (whose guard is false) go on. */
static void keep_only(sim_warp *w, u32 m) {
    sim_fragment *f = &w->fragment[w->here];
    u32 others = f->mask & ~m;
    f->mask = m;
    if (others)
        new_fragment(w, f->pc + 1, others);
}

sim_step sim_branch(sim_warp *w, u32 target, u32 m) {
    sim_fragment *f = &w->fragment[w->here];
    if (m == f->mask)
        f->pc = target;
    else {
        f->mask &= ~m;
        ++f->pc;
        new_fragment(w, target, m);
    }
    return STEP_JUMPED;
}

sim_step sim_wait_at(sim_warp *w, u32 m, u32 barrier) {
    keep_only(w, m);
    sim_fragment *f = &w->fragment[w->here];
    f->state = FRAGMENT_WAITS;
    f->barrier = (u8)barrier;
    return STEP_JUMPED;
}

sim_step sim_need_lanes(sim_warp *w, const sim_insn *i, u32 m, u32 wanted) {
    u32 missing = wanted & ~m;
    if (missing & w->live) {
        w->wanted = wanted;
        return STEP_PARK;
    }
    if (missing)
        sim_find(STANDIN_DIVERGENT, w, i, __builtin_ctz(missing), 0,
                 "needs lanes 0x%08x, of which 0x%08x have exited", wanted, missing);
    return STEP_NEXT;
}

void sim_barrier_check(sim_block *b, u32 barrier) {
    sim_barrier *bar = &b->barrier[barrier];
    u32 expected = bar->expected ? bar->expected : b->live_threads;
    if (barrier == CLUSTER_BARRIER || bar->arrived == 0 || bar->arrived < expected)
        return;
    for (u32 v = 0; v < b->warps; ++v) {
        sim_warp *w = &b->warp[v];
        for (u32 f = 0; f < w->fragments; ++f) {
            sim_fragment *x = &w->fragment[f];
            if (x->state != FRAGMENT_WAITS || x->barrier != barrier)
                continue;
            sim_barrier_result(w, &w->launch->kernel->code[x->pc], x->mask, bar);
            sim_clock_acquire(w, bar->vc);
            x->state = FRAGMENT_READY;
            ++x->pc;
            w->blocked = false;
        }
    }
    memset(bar, 0, sizeof *bar);
    b->launch->idle_turns = 0;
}

/* The cluster's barrier: complete when all its threads have arrived. */
void sim_cluster_check(sim_block *b) {
    sim_block *leader = b->cluster[0];
    u32 threads = 0;
    for (u32 r = 0; r < leader->cluster_size; ++r)
        threads += leader->cluster[r]->live_threads;
    if (leader->cluster_arrived == 0 || leader->cluster_arrived < threads)
        return;
    leader->cluster_arrived = 0;
    ++leader->cluster_phase;
    for (u32 r = 0; r < leader->cluster_size; ++r) {
        sim_block *x = leader->cluster[r];
        for (u32 v = 0; v < x->warps; ++v)
            for (u32 f = 0; f < x->warp[v].fragments; ++f) {
                sim_fragment *y = &x->warp[v].fragment[f];
                if (y->state == FRAGMENT_WAITS && y->barrier == CLUSTER_BARRIER) {
                    y->state = FRAGMENT_READY; /* executes its wait again, which acquires */
                    x->warp[v].blocked = false;
                }
            }
    }
    b->launch->idle_turns = 0;
}

sim_step sim_exit_lanes(sim_warp *w, u32 m) {
    sim_block *b = w->block;
    sim_fragment *f = &w->fragment[w->here];
    w->live &= ~m;
    b->live_threads -= (u32)__builtin_popcount(m);
    f->mask &= ~m;
    ++f->pc;
    if (f->mask == 0)
        *f = w->fragment[--w->fragments];
    if (w->live == 0) {
        w->done = true;
        --b->live_warps;
        sim_warp_drop_async(w);
    }
    for (u32 i = 0; i < MAX_BARRIERS; ++i)
        if (b->barrier[i].arrived)
            sim_barrier_check(b, i);
    sim_cluster_check(b);
    return STEP_JUMPED;
}

/* One turn. Returns STEP_FAULT, STEP_YIELD after a failed wait, or STEP_NEXT. */
static sim_step turn(sim_warp *w, u32 quantum) {
    const sim_insn *code = w->launch->kernel->code;
    const u32 length = w->launch->kernel->length;
    bool *reached = w->launch->kernel->reached;
    u64 steps = 0;
    sim_step result = STEP_NEXT;
    while (quantum > 0 && !w->done) {
        u32 stop;
        if (w->fragments > 1)
            merge(w);
        if (!choose(w, &stop)) {
            w->blocked = true;
            break;
        }
        w->idle = false;
        sim_fragment *f = &w->fragment[w->here];
        sim_step step = STEP_NEXT;
        u32 pc = f->pc;
        const u32 mask = f->mask;
        while (pc != stop && quantum > 0) {
            if (pc >= length) { /* past the end: as ret */
                f->pc = pc;
                step = sim_exit_lanes(w, mask);
                break;
            }
            const sim_insn *i = &code[pc];
            u32 m = mask & sim_guard(w, i);
            --quantum;
            ++steps;
            reached[pc] = true;
            if (m) {
                f->pc = pc;
                step = i->run(w, i, m);
                if (step != STEP_NEXT) {
                    if (step == STEP_PARK || step == STEP_RETRY)
                        keep_only(w, m);
                    break;
                }
            }
            ++pc;
        }
        if (step == STEP_NEXT || step == STEP_YIELD)
            w->fragment[w->here].pc = step == STEP_YIELD ? pc + 1 : pc;
        else if (step == STEP_PARK) {
            w->fragment[w->here].state = FRAGMENT_PARKED;
            w->fragment[w->here].wanted = w->wanted;
        } else if (step == STEP_FAULT) {
            result = STEP_FAULT;
            break;
        }
        if (step == STEP_YIELD || step == STEP_RETRY) {
            w->idle = true;
            result = STEP_YIELD;
            break;
        }
    }
    w->launch->steps += steps;
    w->launch->counters.instructions += steps;
    return result;
}

static void set_special(sim_warp *w, sim_special slot, u32 value) {
    EACH_LANE(l) w->bank[0][slot * LANES + l] = value;
}

static void start_warp(sim_block *b, sim_warp *w, u32 id) {
    sim_launch *L = b->launch;
    const sim_kernel *k = L->kernel;
    sim_warp_drop_async(w);
    u32 *registers = w->bank[0], *pred = w->pred;
    u8 *local = w->local;
    sim_copy *copy = w->copy;
    u32 copies_room = w->copies_room, wgmmas_room = w->wgmmas_room;
    sim_wgmma *wgmma = w->wgmma;
    memset(w, 0, sizeof *w);
    w->bank[0] = registers;
    w->bank[1] = k->constants;
    w->pred = pred;
    w->local = local;
    w->copy = copy;
    w->copies_room = copies_room;
    w->wgmma = wgmma;
    w->wgmmas_room = wgmmas_room;
    w->block = b;
    w->launch = L;
    w->id = id;
    w->clock = 1;
    w->vc[id] = 1;
    memset(registers, 0xff, k->register_words * sizeof *registers); /* nothing was written: NaN */
    memset(local, 0xff, k->local_bytes * LANES);
    for (u32 p = 0; p < k->predicates; ++p)
        pred[p] = p == 0 ? ~UINT32_C(0) : (u32)sim_random(&L->rng);
    u32 threads = L->block[0] * L->block[1] * L->block[2];
    EACH_LANE(l) {
        u32 t = id * LANES + (u32)l;
        w->live |= t < threads ? lane_bit[l] : 0;
        registers[SR_TID_X * LANES + l] = t % L->block[0];
        registers[SR_TID_Y * LANES + l] = t / L->block[0] % L->block[1];
        registers[SR_TID_Z * LANES + l] = t / L->block[0] / L->block[1];
        registers[SR_LANEID * LANES + l] = (u32)l;
        registers[SR_MASK_EQ * LANES + l] = lane_bit[l];
        registers[SR_MASK_LT * LANES + l] = lane_bit[l] - 1;
        registers[SR_MASK_LE * LANES + l] = lane_bit[l] | (lane_bit[l] - 1);
        registers[SR_MASK_GT * LANES + l] = ~(lane_bit[l] | (lane_bit[l] - 1));
        registers[SR_MASK_GE * LANES + l] = ~(lane_bit[l] - 1);
    }
    for (u32 i = 0; i < 3; ++i) {
        u32 c = L->cluster[i];
        set_special(w, SR_NTID_X + i, L->block[i]);
        set_special(w, SR_CTAID_X + i, b->id[i]);
        set_special(w, SR_NCTAID_X + i, L->grid[i]);
        set_special(w, SR_CLUSTERID_X + i, b->id[i] / c);
        set_special(w, SR_NCLUSTERID_X + i, L->grid[i] / c);
        set_special(w, SR_CLUSTER_CTAID_X + i, b->id[i] % c);
        set_special(w, SR_CLUSTER_NCTAID_X + i, c);
    }
    set_special(w, SR_WARPID, id);
    set_special(w, SR_NWARPID, b->warps);
    set_special(w, SR_SMID, 0);
    set_special(w, SR_NSMID, 1);
    set_special(w, SR_GRIDID, 1);
    set_special(w, SR_DYNAMIC_SMEM, (u32)L->dynamic);
    set_special(w, SR_TOTAL_SMEM, (u32)(k->shared_static + L->dynamic));
    set_special(w, SR_CLUSTER_CTARANK, b->rank);
    set_special(w, SR_CLUSTER_NCTARANK, b->cluster_size);
    set_special(w, SR_EXPLICIT_CLUSTER, b->cluster_size > 1);
    new_fragment(w, 0, w->live);
}

static sim_block *new_block(sim_launch *L) {
    const sim_kernel *k = L->kernel;
    sim_block *b = sim_alloc(sizeof *b);
    b->launch = L;
    b->warps = (L->block[0] * L->block[1] * L->block[2] + LANES - 1) / LANES;
    b->warp = sim_alloc(b->warps * sizeof *b->warp);
    for (u32 v = 0; v < b->warps; ++v) {
        /* 64-byte lines: a register never straddles one more than it must */
        b->warp[v].bank[0] = aligned_alloc(64, (k->register_words * 4u + 63) / 64 * 64);
        b->warp[v].pred = sim_alloc(k->predicates * sizeof(u32));
        b->warp[v].local = sim_alloc(k->local_bytes * LANES);
        if (!b->warp[v].bank[0])
            abort();
    }
    b->shared_bytes = k->shared_align + L->dynamic;
    b->shared = aligned_alloc(1024, (b->shared_bytes + 1023) / 1024 * 1024 + 1024);
    b->granules = (b->shared_bytes >> k->shared_granule) + 1;
    b->written = sim_alloc(b->granules * sizeof *b->written);
    b->read = sim_alloc(b->granules * b->warps * sizeof *b->read);
    if (!b->shared)
        abort();
    return b;
}

static void free_block(sim_block *b) {
    if (!b)
        return;
    for (u32 v = 0; v < b->warps; ++v) {
        sim_warp_drop_async(&b->warp[v]);
        free(b->warp[v].bank[0]);
        free(b->warp[v].pred);
        free(b->warp[v].local);
        free(b->warp[v].copy);
        free(b->warp[v].wgmma);
    }
    sim_bulk_drop(b);
    free(b->bulk);
    free(b->warp);
    free(b->shared);
    free(b->written);
    free(b->read);
    free(b->cluster);
    free(b);
}

/* The next cluster, in random order, takes these places. */
static void start_cluster(runner *r, sim_block **place) {
    sim_launch *L = r->launch;
    u64 c = r->order[r->next++];
    u32 across = L->grid[0] / L->cluster[0], down = L->grid[1] / L->cluster[1];
    u32 at[3] = {(u32)(c % across), (u32)(c / across % down), (u32)(c / across / down)};
    for (u32 rank = 0; rank < r->cluster_size; ++rank) {
        sim_block *b = place[rank] ? place[rank] : new_block(L);
        place[rank] = b;
        b->rank = rank;
        u32 in[3] = {rank % L->cluster[0], rank / L->cluster[0] % L->cluster[1],
                     rank / L->cluster[0] / L->cluster[1]};
        for (int i = 0; i < 3; ++i)
            b->id[i] = at[i] * L->cluster[i] + in[i];
        b->cluster_size = r->cluster_size;
        if (!b->cluster)
            b->cluster = sim_alloc(r->cluster_size * sizeof *b->cluster);
        b->live_warps = b->warps;
        b->live_threads = L->block[0] * L->block[1] * L->block[2];
        b->mbarriers = 0;
        b->cluster_arrived = b->cluster_phase = 0;
        memset(b->barrier, 0, sizeof b->barrier);
        memset(b->mbarrier, 0, sizeof b->mbarrier);
        memset(b->shared, 0xff, b->shared_bytes);
        memset(b->written, 0, b->granules * sizeof *b->written);
        memset(b->read, 0, b->granules * b->warps * sizeof *b->read);
        sim_bulk_drop(b);
        for (u32 v = 0; v < b->warps; ++v)
            start_warp(b, &b->warp[v], v);
    }
    for (u32 rank = 0; rank < r->cluster_size; ++rank)
        memcpy(place[rank]->cluster, place, r->cluster_size * sizeof *place);
}

static bool cluster_done(sim_block **place, u32 size) {
    for (u32 r = 0; r < size; ++r)
        if (place[r] && place[r]->live_warps > 0)
            return false;
    return true;
}

/* Nobody could go on: says who waits for what, and ends the launch. */
static void stuck(runner *r) {
    for (u32 p = 0; p < r->places * r->cluster_size; ++p)
        for (u32 v = 0; r->resident[p] && v < r->resident[p]->warps; ++v) {
            sim_warp *w = &r->resident[p]->warp[v];
            for (u32 f = 0; !w->done && f < w->fragments; ++f) {
                const sim_fragment *x = &w->fragment[f];
                const sim_insn *i = &r->launch->kernel->code[x->pc];
                int lane = __builtin_ctz(x->mask);
                if (x->state == FRAGMENT_PARKED)
                    sim_fail(CUDA_ERROR_LAUNCH_FAILED, STANDIN_DIVERGENT, w, i, lane, 0,
                             "lanes 0x%08x are here without lanes 0x%08x, which it needs too",
                             x->mask, x->wanted & w->live & ~x->mask);
                else
                    sim_fail(CUDA_ERROR_LAUNCH_TIMEOUT, STANDIN_DEADLOCK, w, i, lane, 0,
                             "lanes 0x%08x wait for ever", x->mask);
            }
        }
    if (r->launch->fault == 0)
        r->launch->fault = CUDA_ERROR_LAUNCH_TIMEOUT;
}

/* Copies that complete by themselves; with `force` all there are. Whether any did. */
static bool background(runner *r, bool force) {
    bool any = false;
    for (u32 p = 0; p < r->places * r->cluster_size; ++p) {
        sim_block *b = r->resident[p];
        if (!b || b->live_warps == 0)
            continue;
        any |= sim_bulk_background(b, force);
        for (u32 v = 0; v < b->warps; ++v)
            any |= sim_async_background(&b->warp[v]);
    }
    if (any)
        r->launch->idle_turns = 0;
    return any;
}

/* One turn of a random warp that can go. False when none can. */
static bool step_any(runner *r) {
    sim_launch *L = r->launch;
    u32 blocks = r->places * r->cluster_size;
    u64 random = sim_random(&L->rng);
    u32 first = (u32)(random % blocks);
    for (u32 n = 0; n < blocks; ++n) {
        sim_block *b = r->resident[(first + n) % blocks];
        if (!b || b->live_warps == 0)
            continue;
        u32 start = (u32)((random >> 16) % b->warps);
        for (u32 v = 0; v < b->warps; ++v) {
            sim_warp *w = &b->warp[(start + v) % b->warps];
            if (w->done || w->blocked)
                continue;
            u32 quantum = 1 + (u32)((random >> 32) % LONGEST_TURN);
            sim_step s = turn(w, quantum);
            if (s == STEP_YIELD)
                ++L->idle_turns;
            else if (!w->blocked && quantum >= LONGEST_SPIN)
                L->idle_turns = 0;
            return true;
        }
    }
    return false;
}

static void walk(runner *r) {
    sim_launch *L = r->launch;
    for (;;) {
        bool any = false;
        for (u32 p = 0; p < r->places; ++p) {
            sim_block **place = &r->resident[p * r->cluster_size];
            if (cluster_done(place, r->cluster_size) && r->next < r->clusters)
                start_cluster(r, place);
            any |= !cluster_done(place, r->cluster_size);
        }
        if (!any)
            return;
        bool went = step_any(r);
        if (L->fault)
            return;
        if (!went && !background(r, true)) {
            stuck(r);
            return;
        }
        if (L->idle_turns > 0 && L->idle_turns % 64 == 0)
            background(r, L->idle_turns % 1024 == 0);
        if (L->idle_turns > IDLE_LIMIT || L->steps > sim_options.max_instructions) {
            stuck(r);
            return;
        }
    }
}

int sim_run(sim_launch *L) {
    runner r = {.launch = L};
    r.cluster_size = L->cluster[0] * L->cluster[1] * L->cluster[2];
    r.clusters = (u64)L->grid[0] * L->grid[1] * L->grid[2] / r.cluster_size;
    r.places = L->cooperative ? (u32)r.clusters : 1 + (u32)(sim_random(&L->rng) % MAX_RESIDENT);
    if (r.places > r.clusters)
        r.places = (u32)r.clusters;
    r.order = sim_alloc(r.clusters * sizeof *r.order);
    for (u64 i = 0; i < r.clusters; ++i) { /* Fisher and Yates */
        u64 j = sim_random(&L->rng) % (i + 1);
        r.order[i] = r.order[j];
        r.order[j] = (u32)i;
    }
    r.resident = sim_alloc((size_t)r.places * r.cluster_size * sizeof *r.resident);
    walk(&r);
    for (u32 i = 0; i < r.places * r.cluster_size; ++i)
        free_block(r.resident[i]);
    free(r.resident);
    free(r.order);
    L->counters.launches = 1;
    sim_count_launch(L->kernel->name, &L->counters);
    return L->fault;
}
