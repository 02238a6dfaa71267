/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_case.h: one attention of `tenon bench attention`: its shape and features, operands and
 * descriptor, what it costs by the formula, and how far a result is from the formula in double.
 *
 * Used by bench_attention.c (rows and suites) and attention_costs.c (what each feature costs).
 */
#ifndef BENCH_ATTENTION_CASE_H
#define BENCH_ATTENTION_CASE_H

#include "bench_data.h"

#include <tenon/tenon.h>

#include <stdbool.h>
#include <stdint.h>

#define ATTENTION_MOST_EXTENT (INT64_C(1) << 31)
#define ATTENTION_MOST_HEAD_DIM 576 /* tenon/attention.h */

/* What beside the extents makes a case: --with, and the rows of attention_suites.def. */
typedef struct attention_features {
    bool causal;   /* query i sees keys up to i + k_len - q_len */
    bool windowed; /* and none that lie more than `window` before that */
    int64_t window;
    double softcap; /* 0: none */
    bool alibi, sinks, bias, mask, lse;
    int64_t page; /* keys of a page of a scattered cache; 0: it lies in one piece */
    bool mixed;   /* sequences of very different lengths, the longest k_len */
    bool view;    /* v is the beginning of k's rows */
    bool cached;  /* k and v are of the type `cache` instead of the case's */
    tenon_dtype cache;
} attention_features;

typedef struct attention_shape {
    const char *suite; /* NULL: of none */
    int64_t batch, q_heads, kv_heads, q_len, k_len, d, dv;
    attention_features with;
    char text[64]; /* the features but `causal`, as attention_features_read has them; "-": none */
} attention_shape;

/* Reads "causal,window=512": false, after a sentence on stderr that names `option`. Appends to
 * `text` (64 bytes). */
bool attention_features_read(const char *option, const char *list, attention_features *out,
                             char *text);

/* The features there are. */
#define ATTENTION_FEATURES_FIRST "causal, window=KEYS, softcap=X, alibi, sinks, bias,"
#define ATTENTION_FEATURES_LAST "mask, lse, page=KEYS, mixed, view, cache=TYPE"

/* What does not go together, as a sentence; NULL: nothing. The other says it on stderr. */
const char *attention_shape_wrong(const attention_shape *shape);
bool attention_shape_check(const char *option, const attention_shape *shape);

typedef struct attention_case {
    attention_shape shape;
    tenon_dtype dtype;
    bench_array q, k, v, o, bias, mask, slopes, sinks, lse;
    bench_array lengths, starts, table; /* mixed: keys of each sequence, or sums of them; pages */
    tenon_attention_desc desc;
    double pairs; /* of query and key that meet, in all heads */
    double bytes; /* of q and o, and of the keys and values that some query sees */
} attention_case;

/* Takes memory and fills everything; false, after a sentence on stderr, if that can't be.
 * attention_case_free takes half-made ones too. */
bool attention_case_make(attention_case *a, const attention_shape *shape, tenon_dtype dtype);
void attention_case_free(attention_case *a);

double attention_case_flops(const attention_case *a);

/* As bench_job has them. */
tenon_status attention_case_plan(void *state, tenon_context *context, size_t workspace,
                                 tenon_plan **out);
tenon_status attention_case_run(void *state, tenon_context *context, const tenon_plan *plan);
double attention_case_error(void *state, const bench_array *result);
double attention_case_bound(const attention_case *a);

#endif
