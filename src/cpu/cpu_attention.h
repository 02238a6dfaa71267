/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_attention.h: what the files of the attention driver share: cpu_attention_plan.c lists the
 * choices, cpu_attention.c decides who computes what, cpu_attention_unit.c computes a unit block by
 * block, cpu_attention_products.c has its two products.
 *
 * A unit is some rows of one kv head of one sequence, a row being one query of one of the heads
 * that share it: row r is query r / group of head kv_head * group + r mod group. Keys come in
 * blocks of TN_ATTENTION_BLOCK, counted from the sequence's key 0.
 */
#ifndef TN_CPU_ATTENTION_H
#define TN_CPU_ATTENTION_H

#include "core/backend.h"
#include "cpu/cpu_kernels.h"
#include "ops/blocks.h"

/* Elements from row to row of a tile of scores: a block, and room for a vector that runs over it.
 */
#define TN_ATTENTION_LD (TN_ATTENTION_BLOCK + 16)
/* Keys of v that are packed for all columns before the next: they stay in L1. */
#define TN_ATTENTION_V_KEYS INT64_C(32)

/* What a plan decides; kept in a choice. */
typedef struct tn_attention_state {
    const tn_softmax_kernels *kernels;
    const tn_gemm_tile *tile;
    int64_t unit_rows;  /* most rows of a unit */
    int64_t group_rows; /* rows of it, whole tiles, whose scores exist at a time */
    int64_t units;      /* most units */
    int64_t wave; /* > 0: blocks of keys are shared out over the threads, this many of each unit at
                     a time */
    /*
     * 0: a unit's queries are packed once, a block's keys and values once for all of its rows. > 0:
     * lean: so many elements of d, or keys of the values, are packed at a time, again for each
     * block, and scores of all rows exist at once.
     */
    int64_t step;
    int64_t columns;     /* of o that a unit sums at a time, whole panels; scores are computed again
                            for the others */
    size_t worker_bytes; /* scratch of one worker */
    size_t slot_bytes;   /* split: o and parts of one unit */
    int32_t threads;
    bool on_stack;       /* the scratch is on the worker's stack, not in the workspace */
    bool walk_k, walk_v; /* every unit goes through k, v as they lie */
    bool direct_v;       /* the tiles read v where it lies */
} tn_attention_state;

_Static_assert(sizeof(tn_attention_state) <= TN_CHOICE_STATE, "a choice keeps it");

/* Scratch of one worker. Arrays of reals unless said otherwise; what a state has no use for is
 * empty. */
typedef struct tn_attention_worker {
    char *q;       /* packed panels of a unit's scaled queries; walked: the rows */
    char *gather;  /* rows on their way to a panel */
    char *s;       /* scores of a group of rows for a block, then weights */
    char *p;       /* weights, packed: of a group; lean: of the unit, some keys, where q was */
    char *k;       /* packed panels of keys: of a block; lean: one */
    char *v;       /* packed panels of values: of a block; lean: one, where k was */
    char *o_block; /* sums over a block: a group's; lean: the unit's */
    char *o;       /* the unit's result */
    char *k_scale, *v_scale; /* one element per key of a block */
    uint8_t *dead;           /* one per key of a block */
    tn_softmax_part *parts, *block_parts;
    tn_score_row *rows;
} tn_attention_worker;

typedef struct tn_attention_unit {
    const tn_attention_problem *p;
    const tn_attention_state *state;
    void *const *addresses;
    tn_attention_worker w;
    tn_attention_sequence sequence;
    int64_t b, kv_head;
    int64_t first_row, rows; /* of the sequence's queries × group rows */
    int64_t lo, hi;          /* keys that some row sees */
    int64_t c0, cols;        /* columns of o being summed */
    bool careful;            /* weights of masked keys are left out instead of multiplied */
} tn_attention_unit;

/* ---- cpu_attention_plan.c */

/* Ragged queries: how many units are counted before sequence b (b = batch: in all), without looking
 * at the others: at most one more per sequence and head than there are. */
int64_t tn_attention_ragged_start(const tn_attention_problem *p, void *const *addresses,
                                  int64_t unit_rows, int64_t b);

/* ---- cpu_attention_unit.c */

/* Bytes of a worker's scratch; with `memory`, sets *w up in it. */
size_t tn_attention_worker_layout(const tn_attention_problem *p, const tn_attention_state *s,
                                  char *memory, tn_attention_worker *w);

/* Sets lo and hi. Pre: p, addresses, state, sequence, first_row and rows are set. */
void tn_attention_unit_range(tn_attention_unit *u);

/* Reads the unit's queries and row parameters. */
void tn_attention_unit_open(tn_attention_unit *u);

/* Block `block` of keys for an open unit: joined into o and parts or, with `apart`, left alone in
 * o_slot and part_slot. */
void tn_attention_unit_block(const tn_attention_unit *u, int64_t block, bool apart, char *o_slot,
                             tn_softmax_part *part_slot);

/* Empty o and parts. */
void tn_attention_clear(const tn_attention_unit *u, char *o, tn_softmax_part *parts);

/* Divides by the sums and stores o's columns, and lse with the first of them. Needs only range;
 * uses the worker's buffers except o and parts. */
void tn_attention_unit_close(const tn_attention_unit *u, char *o, tn_softmax_part *parts);

/* ---- cpu_attention_products.c */

/* Elements [column, column + n) of key j's line of k or v, as reals, one after the other. */
void tn_attention_line(const tn_attention_unit *u, tn_attention_role role, int64_t j,
                       int64_t column, int64_t n, void *to);

/* Keys of one block. */
typedef struct tn_attention_keys {
    int64_t first, end; /* those that exist */
    int64_t a, b;       /* those that the unit sees */
    bool k_packed, v_packed;
} tn_attention_keys;

/* Most rows of a unit that goes through k and v as they lie: the kernels take four at a time, with
 * the keys in L1 for the second four. */
#define TN_ATTENTION_WALK_ROWS INT64_C(8)

/* Whether there are kernels that walk k, or v, as it lies. */
bool tn_attention_walkable(const tn_attention_problem *p, const tn_softmax_kernels *kernels,
                           tn_attention_role role);

/* Whether the unit goes through k, or v, so. */
bool tn_attention_walks(const tn_attention_unit *u, tn_attention_role role);

/* Reads queries into w.q, unless they are packed block by block. */
void tn_attention_queries(const tn_attention_unit *u);

/* Scores of rows [row, row + n), a group or the unit, for the block's keys, into w.s. */
void tn_attention_scores(const tn_attention_unit *u, tn_attention_keys *t, int64_t row, int64_t n);

/* Sums of values of the same rows, each over the keys that its tile sees, into o_block. */
void tn_attention_values(const tn_attention_unit *u, tn_attention_keys *t, int64_t row, int64_t n,
                         char *o_block);

/* ---- addresses and ranges */

static inline bool tn_attention_has(const tn_attention_unit *u, tn_attention_role role) {
    return u->p->operand[role].dtype != TENON_DTYPE_NONE;
}

static inline int64_t tn_attention_real(const tn_attention_unit *u) {
    return tn_element_size(u->p->accumulate);
}

/* Query and head of a row. */
static inline int64_t tn_attention_query_of(const tn_attention_unit *u, int64_t row) {
    return (u->first_row + row) / (u->p->heads / u->p->kv_heads);
}

static inline int64_t tn_attention_head_of(const tn_attention_unit *u, int64_t row) {
    const int64_t group = u->p->heads / u->p->kv_heads;
    return u->kv_head * group + (u->first_row + row) % group;
}

static inline char *tn_attention_element(const tn_attention_unit *u, tn_attention_role role,
                                         int64_t i0, int64_t i1, int64_t i2) {
    const tn_attention_operand *o = &u->p->operand[role];
    return (char *)u->addresses[role] +
           tn_bytes_of(o->dtype, i0 * o->stride[0] + i1 * o->stride[1] + i2 * o->stride[2]);
}

/* Element `column` of a row's query, or of its line of another operand. */
static inline char *tn_attention_query(const tn_attention_unit *u, tn_attention_role role,
                                       int64_t row, int64_t column) {
    const tn_attention_operand *o = &u->p->operand[role];
    return tn_attention_element(u, role, u->sequence.q_batch, tn_attention_head_of(u, row),
                                u->sequence.q_start + tn_attention_query_of(u, row)) +
           column * o->stride[3] * tn_element_size(o->dtype);
}

/* Whether k, or v, is of a block type: rows of it are read by tn_attention_line alone. */
static inline bool tn_attention_blocks(const tn_attention_problem *p, tn_attention_role role) {
    return p->operand[role].dtype >= TENON_Q8_0;
}

/* Element `column` of key j's line of k or v; of blocks, the line's first block. */
static inline char *tn_attention_key(const tn_attention_unit *u, tn_attention_role role, int64_t j,
                                     int64_t column) {
    const tn_attention_operand *o = &u->p->operand[role];
    int64_t outer, row;
    tn_attention_key_row(u->p, u->addresses, &u->sequence, u->b, j, &outer, &row);
    char *const line = tn_attention_element(u, role, outer, u->kv_head, row);
    return tn_attention_blocks(u->p, role)
               ? line
               : line + column * o->stride[3] * tn_element_size(o->dtype);
}

/* How many of the keys [j, end) lie one row stride apart from j on. */
static inline int64_t tn_attention_key_run(const tn_attention_unit *u, int64_t j, int64_t end) {
    const int64_t size = u->p->block_size;
    return size > 0 ? tn_min64(end - j, size - j % size) : end - j;
}

/* Keys of the block that rows [row, row + n) see. */
typedef struct tn_attention_range {
    int64_t a, b;
} tn_attention_range;

static inline tn_attention_range
tn_attention_seen(const tn_attention_unit *u, const tn_attention_keys *t, int64_t row, int64_t n) {
    return (tn_attention_range){tn_max64(u->w.rows[row].lo, t->first),
                                tn_min64(u->w.rows[row + n - 1].hi, t->end)};
}

#endif
