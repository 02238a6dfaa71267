/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_attention.h: what the two halves of the attention driver share: cpu_attention.c decides who
 * computes what and owns the workspace, cpu_attention_unit.c computes.
 *
 * A unit is some rows of one kv head of one sequence, a row being one query of one of the heads
 * that share it: row r is query r / group of head kv_head * group + r mod group. Keys come in
 * blocks of TN_ATTENTION_BLOCK, counted from the sequence's key 0.
 */
#ifndef TN_CPU_ATTENTION_H
#define TN_CPU_ATTENTION_H

#include "core/backend.h"
#include "cpu/cpu_kernels.h"

/* Elements from row to row of a tile of scores: a block, and room for a vector that runs over it.
 */
#define TN_ATTENTION_LD (TN_ATTENTION_BLOCK + 16)

/* What a plan decides; kept in a choice. */
typedef struct tn_attention_state {
    const tn_softmax_kernels *kernels;
    const tn_gemm_tile *tile;
    int64_t unit_rows; /* most rows of a unit */
    int64_t units;     /* most units */
    int64_t wave; /* > 0: blocks of keys are shared out over the threads, this many of each unit at
                     a time */
    size_t worker_bytes; /* workspace of one worker */
    size_t slot_bytes;   /* split: o and parts of one unit */
    int32_t threads;
} tn_attention_state;

_Static_assert(sizeof(tn_attention_state) <= TN_CHOICE_STATE, "a choice keeps it");

/* Workspace of one worker. Arrays of reals unless said otherwise. */
typedef struct tn_attention_worker {
    char *q;       /* packed panels of a unit's scaled queries; a unit of one row: the row */
    char *gather;  /* rows on their way to a panel */
    char *s;       /* the unit's scores for a block, then weights */
    char *p;       /* weights of a tile, packed */
    char *k;       /* a packed panel of keys */
    char *v;       /* packed panels of the block's values, or of some of its keys */
    char *o_block; /* a tile's sums over a block */
    char *o;       /* the unit's result */
    char *k_scale, *v_scale, *scratch; /* one element per key of a block */
    uint8_t *dead;                     /* one per key of a block */
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
    bool careful;            /* weights of masked keys are left out instead of multiplied */
} tn_attention_unit;

/* Bytes of a worker's workspace for units of `unit_rows` rows; with `memory`, sets *w up in it. */
size_t tn_attention_worker_layout(const tn_attention_problem *p, const tn_attention_state *s,
                                  char *memory, tn_attention_worker *w);

/* Width of a row of o in the workspace: dv rounded up to whole panels. */
int64_t tn_attention_width(const tn_attention_problem *p, const tn_gemm_tile *tile);

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

/* Divides by the sums and stores o and lse. Needs only range; uses the worker's buffers except o
 * and parts. */
void tn_attention_unit_close(const tn_attention_unit *u, char *o, tn_softmax_part *parts);

#endif
