/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_attention.c: how the units of an attention meet threads. What units there are is decided in
 * cpu_attention_plan.c, the arithmetic is in cpu_attention_unit.c.
 *
 * Two ways with the same bits, because blocks of keys are always joined in ascending order:
 *   sweep  one task per unit: all its blocks, one after the other;
 *   split  few units, as in decoding: tasks are blocks, whose results wait in slots and are then
 *          joined per unit. In waves, so that the slots' memory is bounded whatever the number of
 *          keys.
 */
#include "cpu/cpu_attention.h"
#include "cpu/cpu_ops.h"

#include <string.h>

#define BLOCK TN_ATTENTION_BLOCK

typedef struct attention_run attention_run;

/* One index of a phase, with a worker's scratch. */
typedef void step_fn(const attention_run *r, int64_t index, char *scratch);

struct attention_run {
    const tn_attention_problem *p;
    tn_attention_state state;
    void *const *addresses;
    char *workspace;
    bool ragged; /* sequences have queries of their own number */
    int64_t group;
    char *slots, *states; /* split: units x wave, and units */
    int64_t first_block;  /* of the wave */
    bool last;
    step_fn *step; /* of the phase */
};

/* ---------------------------------------------------------------- units */

/* The sequence that unit `index` of ragged queries is counted to. */
static int64_t sequence_of(const attention_run *r, int64_t index) {
    int64_t low = 0, high = r->p->batch;
    while (high - low > 1) { /* the last sequence that starts at or before index */
        const int64_t middle = low + (high - low) / 2;
        if (tn_attention_ragged_start(r->p, r->addresses, r->state.unit_rows, middle) <= index)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Fills everything that does not depend on a worker. False if there is no such unit: of ragged
 * sequences more are counted than there may be. */
static bool unit_of(const attention_run *r, int64_t index, tn_attention_unit *u) {
    const tn_attention_problem *p = r->p;
    const int64_t most = r->state.unit_rows;
    int64_t tiles, in_sequence;

    memset(u, 0, sizeof *u);
    u->p = p;
    u->state = &r->state;
    u->addresses = r->addresses;
    u->cols = p->dv;
    if (r->ragged) {
        u->b = sequence_of(r, index);
        const int64_t start = tn_attention_ragged_start(p, r->addresses, most, u->b);
        tn_attention_sequence_get(p, r->addresses, u->b, &u->sequence);
        tiles = tn_ceil_div(u->sequence.queries * r->group, most);
        in_sequence = index - start;
        if (in_sequence >= tiles * p->kv_heads)
            return false;
    } else {
        tiles = tn_ceil_div(p->queries * r->group, most);
        u->b = index / (tiles * p->kv_heads);
        in_sequence = index % (tiles * p->kv_heads);
        tn_attention_sequence_get(p, r->addresses, u->b, &u->sequence);
    }
    u->kv_head = in_sequence / tiles;
    /* Last rows first: under a causal mask they are the most work, and the end of the list is
     * evened out by the small ones. */
    u->first_row = (tiles - 1 - in_sequence % tiles) * most;
    u->rows = tn_min64(most, u->sequence.queries * r->group - u->first_row);
    tn_attention_unit_range(u);
    return true;
}

static void set_scratch(tn_attention_unit *u, char *scratch) {
    tn_attention_worker_layout(u->p, u->state, scratch, &u->w);
}

static void step_in_workspace(void *arg, int64_t index, int worker) {
    const attention_run *r = arg;
    r->step(r, index, r->workspace + (size_t)worker * r->state.worker_bytes);
}

static void step_on_stack(void *arg, int64_t index, int worker) {
    const attention_run *r = arg;
    _Alignas(64) char scratch[TN_CPU_STACK];
    (void)worker;
    r->step(r, index, scratch);
}

static void run_phase(attention_run *r, tn_team *team, step_fn *step, int64_t count) {
    r->step = step;
    tn_team_run(team, r->state.on_stack ? step_on_stack : step_in_workspace, r, count);
}

/* ---------------------------------------------------------------- sweep */

static void sweep(const attention_run *r, int64_t index, char *scratch) {
    tn_attention_unit u;
    if (!unit_of(r, index, &u))
        return;
    set_scratch(&u, scratch);
    do {
        u.cols = tn_min64(r->state.columns, r->p->dv - u.c0);
        tn_attention_unit_open(&u);
        tn_attention_clear(&u, u.w.o, u.w.parts);
        for (int64_t block = u.lo / BLOCK; block * BLOCK < u.hi; ++block)
            tn_attention_unit_block(&u, block, false, u.w.o, u.w.parts);
        tn_attention_unit_close(&u, u.w.o, u.w.parts);
        u.c0 += u.cols;
    } while (u.c0 < r->p->dv);
}

/* ---------------------------------------------------------------- split */

static tn_softmax_part *slot_parts(const attention_run *r, char *slot) {
    return (tn_softmax_part *)(void *)(slot + r->state.slot_bytes -
                                       (size_t)r->state.unit_rows * sizeof(tn_softmax_part));
}

static void split_block(const attention_run *r, int64_t index, char *scratch) {
    const int64_t block = r->first_block + index % r->state.wave;
    char *slot = r->slots + (size_t)index * r->state.slot_bytes;
    tn_attention_unit u;
    if (!unit_of(r, index / r->state.wave, &u) || u.hi <= block * BLOCK ||
        u.lo >= (block + 1) * BLOCK)
        return;
    set_scratch(&u, scratch);
    tn_attention_unit_open(&u);
    tn_attention_unit_block(&u, block, true, slot, slot_parts(r, slot));
}

static void split_join(const attention_run *r, int64_t index, char *scratch) {
    char *state = r->states + (size_t)index * r->state.slot_bytes;
    tn_attention_unit u;
    if (!unit_of(r, index, &u))
        return;
    if (r->first_block == 0)
        tn_attention_clear(&u, state, slot_parts(r, state));
    for (int64_t i = 0; i < r->state.wave; ++i) {
        char *slot = r->slots + (size_t)(index * r->state.wave + i) * r->state.slot_bytes;
        const int64_t block = r->first_block + i;
        if (u.hi > block * BLOCK && u.lo < (block + 1) * BLOCK)
            r->state.kernels->merge(u.rows, r->p->dv, r->state.columns, state, slot_parts(r, state),
                                    slot, slot_parts(r, slot));
    }
    if (r->last) {
        set_scratch(&u, scratch);
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
        run_phase(r, team, split_block, r->state.units * r->state.wave);
        run_phase(r, team, split_join, r->state.units);
    }
}

/* ---------------------------------------------------------------- run */

void tn_cpu_attention_run(const tn_run *run) {
    const tn_attention_problem *p = run->problem;
    attention_run r = {.p = p, .addresses = run->addresses, .workspace = run->workspace};

    memcpy(&r.state, run->choice->state, sizeof r.state);
    r.group = p->heads / p->kv_heads;
    r.ragged = p->operand[TN_ATTENTION_CU_Q].dtype != TENON_DTYPE_NONE;
    if (r.state.wave == 0) {
        run_phase(&r, run->team, sweep, r.state.units);
        return;
    }
    r.slots = r.workspace + (r.state.on_stack ? 0 : r.state.worker_bytes * (size_t)r.state.threads);
    r.states = r.slots + (size_t)r.state.units * (size_t)r.state.wave * r.state.slot_bytes;
    run_split(&r, run->team);
}
