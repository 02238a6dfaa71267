/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_attention_plan.c: the ways in which an attention can be cut in units, what scratch each
 * takes, and what each is predicted to cost.
 *
 * First what is fastest: large units, whose tiles share packed keys and values, or, where there are
 * few rows, blocks of keys shared out over the threads. Then the same with smaller units or waves,
 * and lean units (tn_attention_state.step), for half of that workspace, a quarter and so on; last
 * lean units so small that they live on the workers' stacks, whatever d and dv are.
 *
 * The prediction counts cycles: multiply-adds at the tile's rate, packing per element and time that
 * it is packed, exponentials, and phases. Smaller units pack keys more often.
 */
#include "cpu/cpu_attention.h"
#include "cpu/cpu_ops.h"
#include "ops/index.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define BLOCK TN_ATTENTION_BLOCK
/* Rows of a unit where there are many: packing a block of K costs an element some 0.8 cycles, its
 * products 64. */
#define UNIT_ROWS 512
/* Tiles whose scores exist at a time: with a packed block of K and one of V, of 128 columns, they
 * stay in an L2 of 512 KB. */
#define GROUP_TILES 8
/* So many units for each thread, where smaller ones give them: under a causal mask they are of
 * different work. */
#define UNITS_PER_THREAD 8
/* Tasks per thread and wave of a split: what is lost at a wave's end is about one part in this. */
#define WAVE_TASKS 32
/* Farthest apart that rows of v may be to be read in place by the tiles (Zen 3: 512 bytes cost
 * nothing, 16 KB a quarter of the speed). */
#define V_DIRECT_BYTES 1024
/* Most rows of a unit that reads it so: rows a power of two apart share few sets of L1, where a
 * packed panel stays for all tiles (1x8x2048x128 causal, units of 512 rows: 2 % more). */
#define V_DIRECT_ROWS 64
/* A panel of a lean unit's keys or values: with the tile that meets it, an eighth of L1. */
#define LEAN_PANEL_BYTES 2048
/* Cycles of an element of k or v that is read, once for each unit, at a core's share of the
 * memory's bandwidth; of one that is packed, of an exponential and of a phase (as in
 * cpu_gemm_plan.c and cpu_softmax.c). */
#define READ_CYCLES 1.0
#define PACK_CYCLES 0.8
#define EXP_CYCLES 1.5
#define PHASE_CYCLES 10000
#define CLOCK 3e9

static bool is_ragged(const tn_attention_problem *p) {
    return p->operand[TN_ATTENTION_CU_Q].dtype != TENON_DTYPE_NONE;
}

/* Rows of all sequences that share a kv head; not ragged: of one. */
static int64_t rows_of(const tn_attention_problem *p) {
    return p->queries * (p->heads / p->kv_heads);
}

/* Most units of `rows` rows. */
static int64_t units_of(const tn_attention_problem *p, int64_t rows) {
    if (is_ragged(p))
        return p->kv_heads * (rows_of(p) / rows + p->batch);
    return p->batch * p->kv_heads * tn_ceil_div(rows_of(p), rows);
}

int64_t tn_attention_ragged_start(const tn_attention_problem *p, void *const *addresses,
                                  int64_t unit_rows, int64_t b) {
    const tn_attention_operand *cu = &p->operand[TN_ATTENTION_CU_Q];
    const int64_t row = tn_index_get(addresses[TN_ATTENTION_CU_Q], cu->dtype, b * cu->stride[0]) *
                        (p->heads / p->kv_heads);
    return p->kv_heads * (row / unit_rows + b);
}

/* Units of about UNIT_ROWS rows and equal size; more and smaller ones where there would be too few
 * for the threads. */
static int64_t choose_unit_rows(const tn_attention_problem *p, int threads, int32_t mr) {
    const int64_t all = rows_of(p);
    int64_t rows = UNIT_ROWS;
    while (rows > 4 * mr && units_of(p, rows) < UNITS_PER_THREAD * (int64_t)threads)
        rows /= 2;
    const int64_t pieces = tn_max64(1, (all + rows / 2) / rows);
    return tn_max64(1, tn_min64(tn_ceil_div(tn_ceil_div(all, pieces), mr) * mr, all));
}

/* ---------------------------------------------------------------- states */

/* Width of a row of o: dv rounded up to whole panels. */
static int64_t width_of(const tn_attention_problem *p, const tn_gemm_tile *tile) {
    return tn_round_up(tn_max64(p->dv, 1), tile->nr);
}

static bool reads_v_directly(const tn_attention_problem *p, const tn_gemm_tile *tile) {
    const tn_attention_operand *v = &p->operand[TN_ATTENTION_V];
    return v->dtype == p->accumulate && v->stride[3] == 1 && p->dv % tile->nr == 0 &&
           v->stride[2] >= 0 && v->stride[2] * tn_element_size(p->accumulate) <= V_DIRECT_BYTES &&
           p->block_size % BLOCK == 0; /* a block of keys lies in one page */
}

/* Works out what follows from unit_rows, step and columns. */
static void complete(const tn_attention_problem *p, tn_attention_state *s) {
    const size_t real = (size_t)tn_element_size(p->accumulate);
    const bool few = s->unit_rows <= (s->step > 0 ? 1 : TN_ATTENTION_WALK_ROWS);
    s->units = units_of(p, s->unit_rows);
    s->group_rows = few ? s->unit_rows : GROUP_TILES * s->tile->mr;
    s->walk_k = few && tn_attention_walkable(p, s->kernels, TN_ATTENTION_K) &&
                !(s->step > 0 && tn_attention_blocks(p, TN_ATTENTION_K));
    s->walk_v = few && tn_attention_walkable(p, s->kernels, TN_ATTENTION_V) &&
                !(s->step > 0 && tn_attention_blocks(p, TN_ATTENTION_V));
    s->direct_v = s->unit_rows <= V_DIRECT_ROWS && reads_v_directly(p, s->tile);
    s->worker_bytes = tn_attention_worker_layout(p, s, NULL, NULL);
    s->on_stack = s->worker_bytes <= TN_CPU_STACK;
    s->slot_bytes =
        tn_round64((size_t)s->unit_rows * ((size_t)s->columns * real + sizeof(tn_softmax_part)));
}

static size_t workspace_of(const tn_attention_state *s) {
    const size_t slots = s->wave > 0 ? (size_t)s->units * (size_t)(s->wave + 1) : 0;
    return slots * s->slot_bytes + (s->on_stack ? 0 : s->worker_bytes * (size_t)s->threads);
}

/* A unit of `rows` rows; lean: with as little scratch for each as can be. */
static tn_attention_state state_of(const tn_attention_problem *p, const tn_attention_state *base,
                                   int64_t rows, bool lean) {
    tn_attention_state s = *base;
    s.unit_rows = rows;
    s.columns = width_of(p, s.tile);
    if (lean)
        s.step = tn_min64(TN_ATTENTION_V_KEYS,
                          LEAN_PANEL_BYTES / (s.tile->nr * tn_element_size(p->accumulate)));
    complete(p, &s);
    return s;
}

/* ---------------------------------------------------------------- prediction */

/* Predicted seconds: every sequence as long as it can be, nothing masked. */
static double predict(const tn_attention_problem *p, const tn_attention_state *s) {
    static const double lanes[TN_CPU_LEVELS] = {0.25, 8, 16};
    const double rate = lanes[s->tile->level] * 4 / (double)tn_element_size(p->accumulate) * 2;
    const double rows =
        (double)(is_ragged(p) ? 1 : p->batch) * (double)p->kv_heads * (double)rows_of(p);
    const double keys =
        (double)(p->operand[TN_ATTENTION_CU_K].dtype ? tn_ceil_div(p->keys, tn_max64(1, p->batch))
                                                     : p->keys);
    const double d = (double)p->d, dv = (double)p->dv, units = (double)s->units;
    const double blocks = ceil(keys / BLOCK);
    const double passes = ceil((double)width_of(p, s->tile) / (double)s->columns);
    /* A tile with few rows does the work of a full one. */
    const double filled =
        (double)s->unit_rows / (double)(s->walk_k ? 1 : tn_round_up(s->unit_rows, s->tile->mr));
    const double reached = (s->step > 0 ? 0.7 : 0.8) * (!s->walk_k         ? sqrt(filled)
                                                        : s->unit_rows > 1 ? 0.6
                                                                           : 0.3);
    const double products = rows * keys * (passes * d + dv) / (rate * reached);
    const double read = units * keys * (passes * d + dv);
    double packed = 0;
    if (!s->walk_k)
        packed += passes * units * keys * d + (s->step > 0 ? passes * rows * blocks * d * 2 : 0);
    if (!s->walk_v && !s->direct_v)
        packed += units * keys * dv;
    const double tasks = units * (s->wave > 0 ? (double)tn_min64(s->wave, (int64_t)blocks) : 1);
    /* With few tasks the last one runs alone for half of its time. */
    double workers = s->threads;
    if (tasks < 4 * workers && workers > 1)
        workers = fmax(1, tasks / (ceil(tasks / workers) + 0.5));
    const double phases = s->wave > 0 ? 2 * ceil(blocks / (double)s->wave) : 1;
    /* Results that wait in slots are written and read once more. */
    const double waiting =
        s->wave > 0 ? 2 * units * blocks * (double)(s->unit_rows * s->columns) * PACK_CYCLES : 0;
    return ((products + packed * PACK_CYCLES + read * READ_CYCLES +
             passes * rows * keys * EXP_CYCLES + waiting) /
                workers +
            (s->threads > 1 ? phases * PHASE_CYCLES : 0)) /
           CLOCK;
}

/* ---------------------------------------------------------------- choices */

static void offer(const tn_attention_problem *p, const tn_attention_state *s, tn_choices *out) {
    tn_choice c;
    memset(&c, 0, sizeof c);
    c.algorithm = s->wave > 0   ? "attention-split"
                  : s->step > 0 ? "attention-lean"
                                : "attention-sweep";
    c.kernel = s->kernels->attention_name;
    c.reason = s->wave > 0   ? "there are fewer rows than threads: blocks of keys are shared out"
               : s->step > 0 ? "little workspace: keys and values are packed a few at a time"
                             : "rows are shared out over the threads";
    c.workspace = workspace_of(s);
    c.seconds = predict(p, s);
    memcpy(c.state, s, sizeof *s);
    tn_choices_offer(out, &c);
}

/* Units of `rows` rows, with blocks shared out where units alone are too few. */
static tn_attention_state preferred_state(const tn_attention_problem *p,
                                          const tn_attention_state *base, int64_t rows) {
    tn_attention_state s = state_of(p, base, rows, false);
    const int64_t blocks = tn_ceil_div(p->keys, BLOCK);
    if (s.threads > 1 && blocks > 1 && s.units > 0 && s.units < 4 * (int64_t)s.threads)
        s.wave = tn_min64(blocks, tn_ceil_div(WAVE_TASKS * (int64_t)s.threads, s.units));
    return s;
}

/* Takes a state if it fits and is the fastest so far. */
static void consider(const tn_attention_problem *p, const tn_attention_state *s, size_t limit,
                     tn_attention_state *best) {
    if (workspace_of(s) <= limit && (best->unit_rows == 0 || predict(p, s) < predict(p, best)))
        *best = *s;
}

/* The fastest that makes do with `limit`: shorter waves, smaller units, or lean ones. */
static void offer_within(const tn_attention_problem *p, const tn_attention_state *preferred,
                         size_t limit, tn_choices *out) {
    tn_attention_state best = {0}, base = *preferred, s;
    base.wave = base.step = 0;
    for (s = *preferred; s.wave > 1;) {
        s.wave /= 2;
        consider(p, &s, limit, &best);
    }
    for (int64_t tiles = tn_ceil_div(preferred->unit_rows, base.tile->mr); tiles > 0; tiles--) {
        const int64_t rows = tn_min64(tiles * base.tile->mr, preferred->unit_rows);
        s = state_of(p, &base, rows, false);
        consider(p, &s, limit, &best);
        s = state_of(p, &base, rows, true);
        consider(p, &s, limit, &best);
    }
    if (best.unit_rows > 0)
        offer(p, &best, out);
}

/* As many rows as the stack holds; if it does not hold one, as many columns of it as go. */
static void offer_on_stack(const tn_attention_problem *p, const tn_attention_state *base,
                           int64_t most, tn_choices *out) {
    int64_t rows = tn_min64(most, base->tile->mr);
    tn_attention_state s = state_of(p, base, rows, true);
    while (!s.on_stack && rows > 1)
        s = state_of(p, base, --rows, true);
    while (!s.on_stack && s.columns > s.tile->nr) {
        s.columns -= s.tile->nr;
        complete(p, &s);
    }
    assert(s.on_stack);
    offer(p, &s, out);
}

tenon_status tn_cpu_attention_plan(const tn_attention_problem *p, int threads, tn_cpu_level level,
                                   tn_choices *out, tn_message *why) {
    static const size_t parts[] = {2, 4, 10, 30};
    tn_attention_state base = {0};
    (void)why;
    out->count = 0;
    base.kernels = tn_cpu_softmax_find(p->accumulate, level);
    base.tile = tn_cpu_tile_find(p->accumulate, level);
    base.threads = threads;

    const int64_t rows = choose_unit_rows(p, threads, base.tile->mr);
    const tn_attention_state preferred = preferred_state(p, &base, rows);
    const size_t workspace = workspace_of(&preferred);
    offer(p, &preferred, out);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && workspace > 0; ++i)
        offer_within(p, &preferred, workspace / parts[i], out);
    offer_on_stack(p, &base, rows, out);
    return TENON_OK;
}
