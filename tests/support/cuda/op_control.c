/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_control.c: branches, exits, barriers of blocks, warps and clusters, fences.
 *
 * bar.* and barrier.*.aligned are executed by whole warps: lanes that come alone wait for the rest
 * of their warp, and if it can't come the barrier stands in divergent code. barrier.sync without
 * .aligned counts lanes. Calls are not executed: nvcc inlines what kernels need.
 */
#include "op_lanes.h"
#include "ptx.h"

#include <cuda.h>

static sim_step run_bra(sim_warp *w, const sim_insn *i, u32 m) {
    return sim_branch(w, i->target, m);
}

/* brx.idx a, table: list[imm + n] are targets, count of them in list[imm - 1] */
static sim_step run_brx(sim_warp *w, const sim_insn *i, u32 m) {
    const sim_kernel *k = w->launch->kernel;
    const u32 *index = sim_words(w, i->a), *table = k->list + i->list;
    u32 first = index[__builtin_ctz(m)], same = 0;
    EACH_LANE_OF(l, m) same |= index[l] == first ? lane_bit[l] : 0;
    if (first >= table[0])
        return sim_fail(CUDA_ERROR_LAUNCH_FAILED, STANDIN_USAGE, w, i, __builtin_ctz(m), first,
                        "index %u of a table of %u targets", first, table[0]);
    u32 pc = w->fragment[w->here].pc;
    sim_branch(w, table[1 + first], same);
    /* sim_branch sent the others behind the instruction: they are still at it */
    if (same != m && w->fragment[w->here].pc == pc + 1)
        w->fragment[w->here].pc = pc;
    return STEP_JUMPED;
}

static sim_step run_exit(sim_warp *w, const sim_insn *i, u32 m) {
    (void)i;
    return sim_exit_lanes(w, m);
}

static sim_step run_trap(sim_warp *w, const sim_insn *i, u32 m) {
    return sim_fail(CUDA_ERROR_ILLEGAL_INSTRUCTION, STANDIN_USAGE, w, i, __builtin_ctz(m), 0,
                    "the kernel stopped itself");
}

static sim_step run_nothing(sim_warp *w, const sim_insn *i, u32 m) {
    (void)w, (void)i, (void)m;
    return STEP_NEXT;
}

static sim_step run_nanosleep(sim_warp *w, const sim_insn *i, u32 m) {
    (void)w, (void)i, (void)m;
    return STEP_YIELD;
}

/* The asynchronous proxy sees this warp's writes from here on. */
static sim_step run_proxy_fence(sim_warp *w, const sim_insn *i, u32 m) {
    (void)i, (void)m;
    w->fenced = w->clock;
    w->vc[w->id] = ++w->clock;
    return STEP_NEXT;
}

/* Orders the lanes' memory accesses: a new epoch. */
static sim_step run_warpsync(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *members = sim_words(w, i->a);
    u32 wanted = 0;
    EACH_LANE_OF(l, m) wanted |= members[l];
    sim_step s = sim_need_lanes(w, i, m, wanted);
    if (s == STEP_NEXT)
        w->vc[w->id] = ++w->clock;
    return s;
}

enum { BAR_SYNC, BAR_ARRIVE, BAR_RED_POPC, BAR_RED_AND, BAR_RED_OR };

/* a: barrier, b: threads (or none), second: the predicate of bar.red, flags: 1 aligned, 2 that
 * predicate negated */
static sim_step run_barrier(sim_warp *w, const sim_insn *i, u32 m) {
    u32 lane = (u32)__builtin_ctz(m);
    u32 number = sim_words(w, i->a)[lane];
    u32 threads = i->b == PLACE_NONE ? 0 : sim_words(w, i->b)[lane];
    if (i->flags & 1) {
        sim_step s = sim_need_lanes(w, i, m, w->live);
        if (s != STEP_NEXT)
            return s;
    }
    if (number >= MAX_BARRIERS || threads % LANES != 0)
        return sim_fail(CUDA_ERROR_LAUNCH_FAILED, STANDIN_USAGE, w, i, (int)lane, number,
                        "barrier %u for %u threads", number, threads);
    sim_barrier *bar = &w->block->barrier[number];
    if (bar->arrived && bar->expected != threads)
        sim_find(STANDIN_USAGE, w, i, (int)lane, number,
                 "barrier %u for %u threads, by others for %u", number, threads, bar->expected);
    if (!bar->arrived)
        bar->votes_and = ~UINT32_C(0);
    bar->expected = threads;
    /* with a count, a warp counts whole, its exited lanes too */
    bar->arrived += threads && (i->flags & 1) ? LANES : (u32)__builtin_popcount(m);
    if (i->mode >= BAR_RED_POPC) {
        u32 p = w->pred[i->second] ^ (i->flags & 2 ? ~UINT32_C(0) : 0);
        bar->votes_count += (u32)__builtin_popcount(p & m);
        bar->votes_or |= p & m;
        bar->votes_and &= (p & m) == m ? ~UINT32_C(0) : 0;
    }
    sim_clock_release(w, bar->vc);
    if (threads && bar->arrived > threads)
        sim_find(STANDIN_USAGE, w, i, (int)lane, number, "barrier %u: %u threads arrived, of %u",
                 number, bar->arrived, threads);
    if (i->mode == BAR_ARRIVE) {
        sim_barrier_check(w->block, number);
        return STEP_NEXT;
    }
    sim_step s = sim_wait_at(w, m, number);
    sim_barrier_check(w->block, number);
    return s;
}

void sim_barrier_result(sim_warp *w, const sim_insn *i, u32 m, const sim_barrier *bar) {
    if (i->run != run_barrier || i->mode < BAR_RED_POPC)
        return;
    if (i->mode == BAR_RED_POPC)
        EACH_LANE_OF(l, m) sim_words(w, i->d)[l] = bar->votes_count;
    else
        sim_set_predicate(w, i->d, m,
                          i->mode == BAR_RED_AND ? bar->votes_and
                          : bar->votes_or        ? ~UINT32_C(0)
                                                 : 0);
}

static sim_step run_cluster_arrive(sim_warp *w, const sim_insn *i, u32 m) {
    if (i->flags & 1) {
        sim_step s = sim_need_lanes(w, i, m, w->live);
        if (s != STEP_NEXT)
            return s;
    }
    sim_block *leader = w->block->cluster[0];
    w->cluster_phase = leader->cluster_phase;
    leader->cluster_arrived += (u32)__builtin_popcount(m);
    sim_clock_release(w, w->block->barrier[CLUSTER_BARRIER].vc);
    sim_cluster_check(w->block);
    return STEP_NEXT;
}

static sim_step run_cluster_wait(sim_warp *w, const sim_insn *i, u32 m) {
    if (i->flags & 1) {
        sim_step s = sim_need_lanes(w, i, m, w->live);
        if (s != STEP_NEXT)
            return s;
    }
    if (w->block->cluster[0]->cluster_phase == w->cluster_phase)
        return sim_wait_at(w, m, CLUSTER_BARRIER);
    sim_clock_acquire(w, w->block->barrier[CLUSTER_BARRIER].vc);
    return STEP_NEXT;
}

static bool decode_barrier(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    bool red = ptx_has(d, "red"), bar = strcmp(d->word[0], "bar") == 0;
    i->flags = bar || ptx_has(d, "aligned");
    i->run = run_barrier;
    i->mode = ptx_has(d, "arrive") ? BAR_ARRIVE
              : !red               ? BAR_SYNC
              : ptx_has(d, "popc") ? BAR_RED_POPC
              : ptx_has(d, "and")  ? BAR_RED_AND
                                   : BAR_RED_OR;
    u32 first = red, last = d->operands - red;
    if (d->operands < 1 + 2u * red || last - first > 2)
        return ptx_refuse(d, "%u operands", d->operands);
    if (red) {
        u32 p;
        if (!ptx_bind_predicate(d, &p, &d->operand[last], false))
            return false;
        i->second = (u16)p;
        i->flags |= d->operand[last].negated ? 2 : 0;
        if (!(i->mode == BAR_RED_POPC ? ptx_bind(d, &i->d, &d->operand[0], 4, true)
                                      : ptx_bind_predicate(d, &i->d, &d->operand[0], true)))
            return false;
    }
    return ptx_bind(d, &i->a, &d->operand[first], 4, false) &&
           (last - first < 2 || ptx_bind(d, &i->b, &d->operand[first + 1], 4, false));
}

static bool decode_bars(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    if (ptx_starts(d, "bar.warp.sync")) {
        i->run = run_warpsync;
        return ptx_bind(d, &i->a, &d->operand[0], 4, false);
    }
    if (ptx_starts(d, "barrier.cluster.")) {
        i->flags = ptx_has(d, "aligned");
        i->run = ptx_has(d, "arrive") ? run_cluster_arrive : run_cluster_wait;
        return true;
    }
    return decode_barrier(d);
}

/* The table's statement has no effect; its labels are found when brx.idx comes to it. */
static bool decode_table(ptx_decoder *d) {
    d->insn.run = run_nothing;
    return true;
}

static bool label_named(const ptx_decoder *d, const char *s, u32 n, u32 *at) {
    for (u32 l = 0; l < d->labels; ++l)
        if (d->label[l].length == n && memcmp(d->label[l].name, s, n) == 0) {
            *at = d->label[l].first;
            return true;
        }
    return false;
}

static bool decode_brx(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    sim_kernel *k = d->k;
    u32 at, n = 0;
    if (d->operands != 2 || !label_named(d, d->operand[1].text, d->operand[1].length, &at) ||
        at >= d->statements)
        return ptx_refuse(d, "brx.idx without its table");
    const char *s = d->statement[at].begin, *end = d->statement[at].end;
    if (!ptx_word_is(s, end, ".branchtargets"))
        return ptx_refuse(d, "brx.idx without its table");
    ptx_begin_list(d);
    k->list = sim_grow(k->list, &k->list_room, k->list_length + 1, sizeof(u32));
    ++k->list_length;
    for (s += 14; (s = ptx_skip(s, end)) < end; ++s) {
        u32 length = ptx_identifier(s, end), target;
        if (!label_named(d, s, length, &target))
            return ptx_refuse(d, "a target that isn't there");
        k->list = sim_grow(k->list, &k->list_room, k->list_length + 1, sizeof(u32));
        k->list[k->list_length++] = target;
        ++n;
        s = ptx_skip(s + length, end);
        if (s == end)
            break;
    }
    k->list[i->list] = n;
    i->run = run_brx;
    return ptx_bind(d, &i->a, &d->operand[0], 4, false);
}

u32 op_control_next(const sim_kernel *k, const sim_insn *i, const u32 **targets, bool *next) {
    const bool leaves = i->run == run_exit || i->run == run_trap;
    *next = i->guard != 0 || !(leaves || i->run == run_bra || i->run == run_brx);
    *targets = i->run == run_brx ? k->list + i->list + 1 : &i->target;
    return i->run == run_brx ? k->list[i->list] : i->run == run_bra;
}

bool op_control_decode(ptx_decoder *d) {
    static const char *const nothing[] = {"membar",  "fence", "griddepcontrol", "setmaxnreg",
                                          "pmevent", "nop",   "brkpt"};
    sim_insn *i = &d->insn;
    const char *base = d->word[0];
    if (d->opcode[0] == '.')
        return decode_table(d);
    if (strcmp(base, "bra") == 0)
        i->run = run_bra;
    else if (strcmp(base, "brx") == 0)
        return decode_brx(d);
    else if (strcmp(base, "exit") == 0 || strcmp(base, "ret") == 0)
        i->run = run_exit;
    else if (strcmp(base, "trap") == 0)
        i->run = run_trap;
    else if (strcmp(base, "nanosleep") == 0)
        i->run = run_nanosleep;
    else if (strcmp(base, "bar") == 0 || strcmp(base, "barrier") == 0)
        return decode_bars(d);
    else if (ptx_starts(d, "fence.proxy.async"))
        i->run = run_proxy_fence;
    else
        for (size_t n = 0; n < sizeof nothing / sizeof *nothing; ++n)
            if (strcmp(base, nothing[n]) == 0)
                i->run = run_nothing;
    return i->run != NULL;
}
