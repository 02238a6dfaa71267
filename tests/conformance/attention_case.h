/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_case.h: one attention as a row of a table, and the function that makes its operands, runs it on the device under test and on
 * the reference, and compares. Zero in a field is the plainest choice.
 */
#ifndef CONFORM_ATTENTION_CASE_H
#define CONFORM_ATTENTION_CASE_H

#include "harness.h"

typedef enum arrangement {
    HEADS_FIRST,  /* (batch, heads, length, d) in memory */
    LENGTH_FIRST, /* (batch, length, heads, d) */
    PACKED_QKV, /* one (batch, length, heads + 2·kv_heads, d); needs queries = keys, d = dv and one type */
    SHARED_KV, /* v is the first dv columns of k (MLA) */
    SPACED,    /* rows apart, elements two apart */
    BACKWARDS, /* negative strides of inputs */
    COLUMNS    /* d is the slowest dimension */
} arrangement;

typedef struct attention_case {
    const char *name;
    int64_t batch, heads, kv_heads, queries, keys, d,
        dv; /* 0: batch, heads 1; kv_heads as heads; dv as d */
    tenon_dtype q, k, v, o, lse,
        extra; /* 0: f32, others as q; lse always given; extra: bias, alibi, sinks, scales */
    arrangement memory;
    double scale;     /* 0: not given */
    double amplitude; /* of q and k; 0: 1.5 */
    tenon_causal causal;
    tenon_window window;
    double softcap;
    int32_t bias,
        mask; /* 1: (batch, heads, queries, keys), 2: (1, 1, queries, keys), 3: (keys), 4: (batch, 1, 1, keys) */
    int32_t alibi; /* 1: (heads), 2: (batch, heads) */
    int32_t sinks;
    int32_t ragged_q, ragged_k, lengths, offsets; /* 1: s32, 2: s64 */
    int64_t block_size;                           /* > 0: paged, with lengths */
    int32_t k_scale, v_scale;                     /* 1: one value, 2: (kv_heads), 3: per row */
    int32_t no_lse;
    tenon_compute compute;
    const char *unsupported;
} attention_case;

void run_attention_case(world *w, const attention_case *given);

#endif
