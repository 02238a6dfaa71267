/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_attention.c: how an attention is cut in units, and how units meet threads. The arithmetic is
 * in cpu_attention_unit.c.
 *
 * Two ways with the same bits, because blocks of keys are always joined in ascending order:
 *   sweep  one task per unit: all its blocks, one after the other;
 *   split  few units, as in decoding: tasks are blocks, whose results wait in slots and are then
 * joined per unit. In waves, so that the slots' memory is bounded whatever the number of keys.
 */
#include "cpu/cpu_attention.h"
#include "cpu/cpu_ops.h"

#define BLOCK TN_ATTENTION_BLOCK
/* Rows of a unit where there are many: packing K and V costs one part in about 60 of the products
 * then (1x32x1024x128, Zen 3, November 2026). */
#define UNIT_ROWS 128
/* Tasks per thread and wave of a split: what is lost at a wave's end is about one part in this. */
#define WAVE_TASKS 32

typedef struct attention_run {
    const tn_attention_problem *p;
    tn_attention_state state;
    void *const *addresses;
    char *workspace;
    int64_t *starts; /* ragged queries: first unit of each sequence, batch + 1 of them; else NULL */
    int64_t group, units;
    char *slots, *states; /* split: units × wave, and units */
    int64_t first_block;  /* of the wave */
    bool last;
} attention_run;

static bool is_ragged(const tn_attention_problem *p) {
    return p->operand[TN_ATTENTION_CU_Q].dtype != TENON_DTYPE_NONE;
}

/* ---------------------------------------------------------------- plan */

/* Most units of `rows` rows. */
static int64_t units_of(const tn_attention_problem *p, int64_t rows) {
    const int64_t all = p->queries * (p->heads / p->kv_heads);
    if (is_ragged(p))
        return p->kv_heads * tn_min64(all, all / rows + p->batch);
    return p->batch * p->kv_heads * tn_ceil_div(all, rows);
}

/* Units of about UNIT_ROWS rows and equal size; more and smaller ones where there would be too few
 * for the threads. */
static int64_t choose_unit_rows(const tn_attention_problem *p, int threads, int32_t mr) {
    const int64_t all = p->queries * (p->heads / p->kv_heads);
    int64_t rows = UNIT_ROWS;
    while (rows > 4 * mr && units_of(p, rows) < 4 * (int64_t)threads)
        rows /= 2;
    const int64_t pieces = tn_max64(1, (all + rows / 2) / rows);
    return tn_max64(1, tn_min64(tn_ceil_div(tn_ceil_div(all, pieces), mr) * mr, all));
}

static size_t shared_bytes(const tn_attention_problem *p, const tn_attention_state *s) {
    size_t bytes = is_ragged(p) ? tn_round64((size_t)(p->batch + 1) * sizeof(int64_t)) : 0;
    if (s->wave > 0)
        bytes += (size_t)s->units * (size_t)(s->wave + 1) * s->slot_bytes;
    return bytes;
}

static void complete(const tn_attention_problem *p, tn_attention_state *s, bool may_split) {
    const int64_t width = tn_attention_width(p, s->tile);
    const int64_t blocks = tn_ceil_div(p->keys, BLOCK);
    s->units = units_of(p, s->unit_rows);
    s->worker_bytes = tn_attention_worker_layout(p, s, NULL, NULL);
    s->slot_bytes = tn_round64((size_t)(s->unit_rows * (width * tn_element_size(p->accumulate) +
                                                        (int64_t)sizeof(tn_softmax_part))));
    if (may_split && s->threads > 1 && blocks > 1 && s->units > 0 &&
        s->units < 4 * (int64_t)s->threads)
        s->wave = tn_min64(blocks, tn_ceil_div(WAVE_TASKS * (int64_t)s->threads, s->units));
}

static void add_choice(const tn_attention_problem *p, const tn_attention_state *s,
                       const char *reason, tn_choices *out) {
    tn_choice *c = &out->choice[out->count++];
    const double flops = 2.0 * (double)p->batch * (double)p->heads * (double)p->queries *
                         (double)p->keys * (double)(p->d + p->dv);
    c->algorithm = s->wave > 0 ? "attention-split" : "attention-sweep";
    c->kernel = s->kernels->attention_name;
    c->reason = reason;
    c->workspace = shared_bytes(p, s) + s->worker_bytes * (size_t)s->threads;
    c->seconds = flops / 4e10 / s->threads * (s->unit_rows <= s->tile->mr ? 2 : 1);
    memcpy(c->state, s, sizeof *s);
}

tenon_status tn_cpu_attention_plan(const tn_attention_problem *p, int threads, tn_cpu_level level,
                                   tn_choices *out, tn_message *why) {
    tn_attention_state s = {0};
    (void)why;
    out->count = 0;
    s.kernels = tn_cpu_softmax_find(p->accumulate, level);
    s.tile = tn_cpu_tile_find(p->accumulate, level);
    s.threads = threads;
    s.unit_rows = choose_unit_rows(p, threads, s.tile->mr);
    complete(p, &s, true);
    add_choice(p, &s,
               s.wave > 0 ? "there are fewer rows than threads: blocks of keys are shared out"
                          : "rows are shared out over the threads",
               out);

    /* The same without slots and with units of one tile: a few dozen KB per thread. */
    const size_t bytes = out->choice[0].workspace;
    s.unit_rows = tn_min64(s.unit_rows, s.tile->mr);
    s.wave = 0;
    complete(p, &s, false);
    if (shared_bytes(p, &s) + s.worker_bytes * (size_t)threads < bytes)
        add_choice(p, &s, "the smallest workspace", out);
    return TENON_OK;
}

/* ---------------------------------------------------------------- units */

/* Fills everything that does not depend on a worker. */
static void unit_of(const attention_run *r, int64_t index, tn_attention_unit *u) {
    const tn_attention_problem *p = r->p;
    int64_t low = 0, high = p->batch, tiles, in_sequence;

    memset(u, 0, sizeof *u);
    u->p = p;
    u->state = &r->state;
    u->addresses = r->addresses;
    if (r->starts) {
        while (high - low > 1) { /* the last sequence that starts at or before index */
            const int64_t middle = low + (high - low) / 2;
            if (r->starts[middle] <= index)
                low = middle;
            else
                high = middle;
        }
        u->b = low;
        in_sequence = index - r->starts[low];
        tiles = (r->starts[low + 1] - r->starts[low]) / p->kv_heads;
    } else {
        tiles = tn_ceil_div(p->queries * r->group, r->state.unit_rows);
        u->b = index / (tiles * p->kv_heads);
        in_sequence = index % (tiles * p->kv_heads);
    }
    tn_attention_sequence_get(p, r->addresses, u->b, &u->sequence);
    u->kv_head = in_sequence / tiles;
    /* Last rows first: under a causal mask they are the most work, and the end of the list is
     * evened out by the small ones. */
    u->first_row = (tiles - 1 - in_sequence % tiles) * r->state.unit_rows;
    u->rows = tn_min64(r->state.unit_rows, u->sequence.queries * r->group - u->first_row);
    tn_attention_unit_range(u);
}

static void set_worker(const attention_run *r, tn_attention_unit *u, int worker) {
    tn_attention_worker_layout(r->p, &r->state,
                               r->workspace + (size_t)worker * r->state.worker_bytes, &u->w);
}

static void sweep_task(void *arg, int64_t index, int worker) {
    const attention_run *r = arg;
    tn_attention_unit u;
    unit_of(r, index, &u);
    set_worker(r, &u, worker);
    tn_attention_unit_open(&u);
    tn_attention_clear(&u, u.w.o, u.w.parts);
    for (int64_t block = u.lo / BLOCK; block * BLOCK < u.hi; ++block)
        tn_attention_unit_block(&u, block, false, u.w.o, u.w.parts);
    tn_attention_unit_close(&u, u.w.o, u.w.parts);
}

/* ---------------------------------------------------------------- split */

static tn_softmax_part *slot_parts(const attention_run *r, char *slot) {
    return (tn_softmax_part *)(void *)(slot + r->state.slot_bytes -
                                       (size_t)r->state.unit_rows * sizeof(tn_softmax_part));
}

static void split_block(void *arg, int64_t index, int worker) {
    const attention_run *r = arg;
    const int64_t block = r->first_block + index % r->state.wave;
    char *slot = r->slots + (size_t)index * r->state.slot_bytes;
    tn_attention_unit u;
    unit_of(r, index / r->state.wave, &u);
    if (u.hi <= block * BLOCK || u.lo >= (block + 1) * BLOCK)
        return;
    set_worker(r, &u, worker);
    tn_attention_unit_open(&u);
    tn_attention_unit_block(&u, block, true, slot, slot_parts(r, slot));
}

static void split_join(void *arg, int64_t index, int worker) {
    const attention_run *r = arg;
    char *state = r->states + (size_t)index * r->state.slot_bytes;
    const int64_t width = tn_attention_width(r->p, r->state.tile);
    tn_attention_unit u;
    unit_of(r, index, &u);
    if (r->first_block == 0)
        tn_attention_clear(&u, state, slot_parts(r, state));
    for (int64_t i = 0; i < r->state.wave; ++i) {
        char *slot = r->slots + (size_t)(index * r->state.wave + i) * r->state.slot_bytes;
        const int64_t block = r->first_block + i;
        if (u.hi > block * BLOCK && u.lo < (block + 1) * BLOCK)
            r->state.kernels->merge(u.rows, r->p->dv, width, state, slot_parts(r, state), slot,
                                    slot_parts(r, slot));
    }
    if (r->last) {
        set_worker(r, &u, worker);
        tn_attention_unit_close(&u, state, slot_parts(r, state));
    }
}

static void run_split(attention_run *r, tn_team *team) {
    int64_t blocks = 1;
    for (int64_t b = 0; b < r->p->batch; ++b) {
        tn_attention_sequence s;
        tn_attention_sequence_get(r->p, r->addresses, b, &s);
        blocks = tn_max64(blocks, tn_ceil_div(s.keys, BLOCK));
    }
    for (r->first_block = 0; r->first_block < blocks; r->first_block += r->state.wave) {
        r->last = r->first_block + r->state.wave >= blocks;
        tn_team_run(team, split_block, r, r->units * r->state.wave);
        tn_team_run(team, split_join, r, r->units);
    }
}

/* ---------------------------------------------------------------- run */

void tn_cpu_attention_run(const tn_run *run) {
    const tn_attention_problem *p = run->problem;
    attention_run r = {.p = p, .addresses = run->addresses, .workspace = run->workspace};
    char *shared;

    memcpy(&r.state, run->choice->state, sizeof r.state);
    r.group = p->heads / p->kv_heads;
    shared = r.workspace + r.state.worker_bytes * (size_t)r.state.threads;
    r.units = r.state.units;
    if (is_ragged(p)) {
        r.starts = (int64_t *)(void *)shared;
        shared += tn_round64((size_t)(p->batch + 1) * sizeof(int64_t));
        r.starts[0] = 0;
        for (int64_t b = 0; b < p->batch; ++b) {
            tn_attention_sequence s;
            tn_attention_sequence_get(p, r.addresses, b, &s);
            r.starts[b + 1] =
                r.starts[b] + p->kv_heads * tn_ceil_div(s.queries * r.group, r.state.unit_rows);
        }
        r.units = r.starts[p->batch];
    }
    if (r.state.wave > 0) {
        r.slots = shared;
        r.states = shared + (size_t)r.state.units * (size_t)r.state.wave * r.state.slot_bytes;
        run_split(&r, run->team);
    } else {
        tn_team_run(run->team, sweep_task, &r, r.units);
    }
}
