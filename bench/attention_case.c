/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_case.c: operands, descriptor and check of one attention (see attention_case.h).
 *
 * The check computes sampled queries from the formula of tenon/attention.h in double, written
 * independently of tenon's reference.
 */
#include "attention_case.h"

#include "bench_blocks.h"
#include "options.h"
#include "shapes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Multiply-adds spent on checking one result. */
#define CHECK_BUDGET (INT64_C(1) << 22)
/* Shortest of mixed lengths, as a part of the longest. */
#define MIXED_RANGE 64.0

/* ---------------------------------------------------------------- features */

static bool read_one(const char *option, const char *item, attention_features *out) {
    const char *value = strchr(item, '=');
    const struct {
        const char *name;
        bool *flag;
        int64_t *number;
        double *real;
    } known[] = {
        {"causal", &out->causal, NULL, NULL},   {"window", &out->windowed, &out->window, NULL},
        {"softcap", NULL, NULL, &out->softcap}, {"alibi", &out->alibi, NULL, NULL},
        {"sinks", &out->sinks, NULL, NULL},     {"bias", &out->bias, NULL, NULL},
        {"mask", &out->mask, NULL, NULL},       {"lse", &out->lse, NULL, NULL},
        {"page", NULL, &out->page, NULL},       {"mixed", &out->mixed, NULL, NULL},
        {"view", &out->view, NULL, NULL},
    };
    static const char cache[] = "cache=";
    if (strncmp(item, cache, sizeof cache - 1) == 0) {
        out->cache = tenon_dtype_from_name(item + sizeof cache - 1);
        out->cached = tenon_dtype_block(out->cache, NULL, NULL) == TENON_OK;
        if (!out->cached)
            complain("%s: '%s' is no type", option, item + sizeof cache - 1);
        return out->cached;
    }
    const size_t length = value ? (size_t)(value - item) : strlen(item);
    for (size_t i = 0; i < sizeof known / sizeof *known; ++i) {
        if (strlen(known[i].name) != length || strncmp(known[i].name, item, length) != 0)
            continue;
        if (!value != !(known[i].number || known[i].real))
            break;
        if (known[i].flag)
            *known[i].flag = true;
        if (known[i].number)
            return shapes_parse_int(option, value + 1, known[i].flag ? 0 : 1, ATTENTION_MOST_EXTENT,
                                    known[i].number);
        return !known[i].real || shapes_parse_seconds(option, value + 1, known[i].real);
    }
    complain("%s: '%s' is none of " ATTENTION_FEATURES_FIRST " " ATTENTION_FEATURES_LAST, option,
             item);
    return false;
}

bool attention_features_read(const char *option, const char *list, attention_features *out,
                             char *text) {
    for (const char *at = list; *at;) {
        const size_t length = strcspn(at, ",");
        char item[32];
        if (length >= sizeof item) {
            complain("%s: '%s' is no list of features", option, list);
            return false;
        }
        snprintf(item, sizeof item, "%.*s", (int)length, at);
        if (!read_one(option, item, out))
            return false;
        if (strcmp(item, "causal") != 0) {
            const size_t used = strlen(text);
            snprintf(text + used, 64 - used, "%s%s", used ? "+" : "", item);
        }
        at += length + (at[length] == ',');
    }
    return true;
}

static bool ragged(const attention_shape *s) {
    return s->with.mixed && s->q_len == s->k_len;
}

const char *attention_shape_wrong(const attention_shape *s) {
    const attention_features *f = &s->with;
    int64_t block = 1;
    if (f->cached)
        (void)tenon_dtype_block(f->cache, &block, NULL);
    return s->d % block || s->dv % block ? "rows of k and v are whole blocks of the cache's type"
           : f->view && s->dv > s->d     ? "a view of k has no more columns than k"
           : f->page && ragged(s)        ? "pages are for a cache, not for q_len = k_len"
           : (f->bias || f->mask) && f->mixed ? "bias and mask need equal lengths"
                                              : NULL;
}

bool attention_shape_check(const char *option, const attention_shape *s) {
    const char *wrong = attention_shape_wrong(s);
    if (wrong)
        complain("%s: %s", option, wrong);
    return !wrong;
}

/* ---------------------------------------------------------------- lengths */

/* Keys of sequence b. Mixed: spread evenly over the logarithms, in no order. */
static int64_t keys_of(const attention_shape *s, int64_t b) {
    if (!s->with.mixed)
        return s->k_len;
    const int64_t place = (b * 7 + 3) % s->batch; /* 7 divides no number of sequences people use */
    const double part = s->batch > 1 ? (double)place / (double)(s->batch - 1) : 0;
    const int64_t keys = (int64_t)((double)s->k_len * pow(MIXED_RANGE, -part));
    const int64_t least = ragged(s) ? 1 : s->q_len;
    return keys < least ? least : keys;
}

static int64_t queries_of(const attention_shape *s, int64_t b) {
    return ragged(s) ? keys_of(s, b) : s->q_len;
}

/* Keys that query i of sequence b may see by its position: [*lo, the result). */
static int64_t visible(const attention_shape *s, int64_t b, int64_t i, int64_t *lo) {
    const int64_t keys = keys_of(s, b), position = i + keys - queries_of(s, b);
    const int64_t hi = !s->with.causal ? keys : position + 1 > keys ? keys : position + 1;
    *lo = s->with.windowed && position > s->with.window ? position - s->with.window : 0;
    return hi < 0 ? 0 : hi;
}

/* Index of the first of sequence b's rows in q (of a head), or k. */
static int64_t start_of(const attention_shape *s, int64_t b) {
    int64_t start = 0;
    for (int64_t i = 0; i < b; ++i)
        start += keys_of(s, i);
    return start;
}

/* ---------------------------------------------------------------- operands */

static int64_t pages_of(const attention_shape *s) {
    return (s->k_len + s->with.page - 1) / s->with.page;
}

/* Where pages lie: those of all sequences mingled. */
static int64_t page_at(const attention_shape *s, int64_t b, int64_t page) {
    return page * s->batch + (b + page) % s->batch;
}

typedef struct extents {
    int64_t of[4];
} extents;

static extents q_extents(const attention_shape *s) {
    return ragged(s) ? (extents){{1, s->q_heads, start_of(s, s->batch), s->d}}
                     : (extents){{s->batch, s->q_heads, s->q_len, s->d}};
}

static extents k_extents(const attention_shape *s) {
    if (s->with.page)
        return (extents){{s->batch * pages_of(s), s->kv_heads, s->with.page, s->d}};
    return ragged(s) ? (extents){{1, s->kv_heads, start_of(s, s->batch), s->d}}
                     : (extents){{s->batch, s->kv_heads, s->k_len, s->d}};
}

static extents with_columns(extents e, int64_t columns) {
    e.of[3] = columns;
    return e;
}

static tenon_tensor tensor_of(const bench_array *a, extents e) {
    return tenon_dense(a->data, a->dtype, 4, e.of);
}

static bool make(bench_array *array, tenon_dtype dtype, extents e, uint64_t seed) {
    if (!bench_array_make(array, dtype, bench_count(e.of, 4)))
        return false;
    bench_array_fill(array, seed);
    return true;
}

static bool make_lengths(attention_case *a) {
    const attention_shape *s = &a->shape;
    const int64_t pages = s->with.page ? pages_of(s) : 0;
    if (!bench_array_make(&a->lengths, TENON_S32, s->batch) ||
        !bench_array_make(&a->starts, TENON_S32, s->batch + 1) ||
        !bench_array_make(&a->table, TENON_S32, s->batch * pages))
        return false;
    for (int64_t b = 0; b <= s->batch; ++b)
        ((int32_t *)a->starts.data)[b] = (int32_t)start_of(s, b);
    for (int64_t b = 0; b < s->batch; ++b) {
        ((int32_t *)a->lengths.data)[b] = (int32_t)keys_of(s, b);
        for (int64_t page = 0; page < pages; ++page)
            ((int32_t *)a->table.data)[b * pages + page] = (int32_t)page_at(s, b, page);
    }
    return true;
}

static bool make_extras(attention_case *a) {
    const attention_shape *s = &a->shape;
    const attention_features *f = &s->with;
    const extents scores = {{1, 1, s->q_len, s->k_len}}, heads = {{1, 1, 1, s->q_heads}};
    if ((f->bias && !make(&a->bias, a->dtype, scores, 4)) ||
        (f->mask && !make(&a->mask, TENON_U8, scores, 5)) ||
        (f->alibi && !make(&a->slopes, TENON_F32, heads, 0)) ||
        (f->sinks && !make(&a->sinks, TENON_F32, heads, 6)) ||
        (f->lse && !bench_array_make(&a->lse, TENON_F32, a->o.count / s->dv)))
        return false;
    for (int64_t i = 0; i < a->mask.count; ++i) /* seven of eight are kept */
        ((uint8_t *)a->mask.data)[i] = ((uint8_t *)a->mask.data)[i] % 8 != 0;
    for (int64_t h = 0; h < a->slopes.count; ++h) /* Press et al., 2022 */
        ((float *)a->slopes.data)[h] = (float)exp2(-8.0 * (double)(h + 1) / (double)s->q_heads);
    return true;
}

static void describe(attention_case *a) {
    const attention_shape *s = &a->shape;
    const attention_features *f = &s->with;
    const extents q = q_extents(s), k = k_extents(s);
    tenon_attention_desc *x = &a->desc;
    *x = (tenon_attention_desc){.struct_size = sizeof *x,
                                .q = tensor_of(&a->q, q),
                                .k = tensor_of(&a->k, k),
                                .o = tensor_of(&a->o, with_columns(q, s->dv)),
                                .causal = f->causal ? TENON_CAUSAL_BOTTOM_RIGHT : TENON_CAUSAL_NONE,
                                .softcap = f->softcap};
    x->v = f->view ? x->k : tensor_of(&a->v, with_columns(k, s->dv));
    x->v.shape[3] = s->dv;
    if (f->windowed)
        x->window = (tenon_window){.enabled = 1, .left = f->window, .right = -1};
    if (f->bias)
        x->bias = tenon_tensor4(a->bias.data, a->bias.dtype, 1, 1, s->q_len, s->k_len);
    if (f->mask)
        x->mask = tenon_tensor4(a->mask.data, TENON_BOOL, 1, 1, s->q_len, s->k_len);
    if (f->alibi)
        x->alibi = tenon_vector(a->slopes.data, TENON_F32, s->q_heads);
    if (f->sinks)
        x->sinks = tenon_vector(a->sinks.data, TENON_F32, s->q_heads);
    if (f->lse)
        x->lse = tenon_tensor3(a->lse.data, TENON_F32, q.of[0], q.of[1], q.of[2]);
    if (ragged(s))
        x->cu_seqlens_q = x->cu_seqlens_k = tenon_vector(a->starts.data, TENON_S32, s->batch + 1);
    else if (f->mixed || f->page)
        x->key_lengths = tenon_vector(a->lengths.data, TENON_S32, s->batch);
    if (f->page)
        x->block_table = tenon_matrix(a->table.data, TENON_S32, s->batch, pages_of(s));
}

/* Pairs that meet, and bytes. */
static void count(attention_case *a) {
    const attention_shape *s = &a->shape;
    const double element = (double)a->k.bytes / (double)a->k.count;
    a->bytes = (double)(a->q.bytes + a->o.bytes + a->bias.bytes + a->mask.bytes);
    for (int64_t b = 0; b < s->batch; ++b) {
        int64_t first = 0, lo = 0, hi = 0;
        const int64_t queries = queries_of(s, b);
        for (int64_t i = 0; i < queries; ++i) {
            hi = visible(s, b, i, &lo);
            a->pairs += (double)s->q_heads * (double)(hi > lo ? hi - lo : 0);
        }
        (void)visible(s, b, 0, &first);
        a->bytes += element * (double)s->kv_heads * (double)(hi > first ? hi - first : 0) *
                    (double)(s->d + (s->with.view ? 0 : s->dv));
    }
}

bool attention_case_make(attention_case *a, const attention_shape *shape, tenon_dtype dtype) {
    *a = (attention_case){.shape = *shape, .dtype = dtype};
    const attention_shape *s = &a->shape;
    const extents q = q_extents(s), k = k_extents(s);
    const tenon_dtype cache = s->with.cached ? s->with.cache : dtype;
    if (!make(&a->q, dtype, q, 1) || !make(&a->k, cache, k, 2) ||
        (!s->with.view && !make(&a->v, cache, with_columns(k, s->dv), 3)) ||
        !bench_array_make(&a->o, dtype, bench_count(with_columns(q, s->dv).of, 4)) ||
        !make_extras(a) || !make_lengths(a))
        return false;
    describe(a);
    count(a);
    return true;
}

void attention_case_free(attention_case *a) {
    bench_array *const all[] = {&a->q,      &a->k,     &a->v,   &a->o,       &a->bias,   &a->mask,
                                &a->slopes, &a->sinks, &a->lse, &a->lengths, &a->starts, &a->table};
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i)
        bench_array_free(all[i]);
}

double attention_case_flops(const attention_case *a) {
    return 2 * a->pairs * (double)(a->shape.d + a->shape.dv);
}

tenon_status attention_case_plan(void *state, tenon_context *context, size_t workspace,
                                 tenon_plan **out) {
    const attention_case *a = state;
    tenon_attention_desc desc = a->desc;
    desc.workspace.bytes = workspace;
    return tenon_attention_plan(context, &desc, out);
}

tenon_status attention_case_run(void *state, tenon_context *context, const tenon_plan *plan) {
    const attention_case *a = state;
    return tenon_attention_run(context, plan, &a->desc);
}

/* ---------------------------------------------------------------- check */

/* One query of one head. */
typedef struct query {
    int64_t b, head, i; /* i: within its sequence */
    int64_t q_row;      /* of q and o */
    int64_t lo, hi;
} query;

static query query_of(const attention_shape *s, int64_t at) {
    const extents q = q_extents(s);
    query x = {.i = at % q.of[2],
               .head = at / q.of[2] % q.of[1],
               .b = at / q.of[2] / q.of[1],
               .q_row = at};
    if (ragged(s))
        while (x.i >= keys_of(s, x.b))
            x.i -= keys_of(s, x.b++);
    x.hi = visible(s, x.b, x.i, &x.lo);
    return x;
}

/* Row of k and v that holds key j. */
static int64_t key_row(const attention_shape *s, const query *x, int64_t j) {
    const int64_t kv_head = x->head / (s->q_heads / s->kv_heads);
    if (s->with.page)
        return (page_at(s, x->b, j / s->with.page) * s->kv_heads + kv_head) * s->with.page +
               j % s->with.page;
    if (ragged(s))
        return kv_head * start_of(s, s->batch) + start_of(s, x->b) + j;
    return (x->b * s->kv_heads + kv_head) * s->k_len + j;
}

static double score(const attention_case *a, const query *x, int64_t j) {
    const attention_shape *s = &a->shape;
    const int64_t position = x->i + keys_of(s, x->b) - queries_of(s, x->b);
    const int64_t row = key_row(s, x, j), pair = x->i * s->k_len + j;
    double sum = 0;
    if (s->with.mask && bench_array_get(&a->mask, pair) == 0)
        return -INFINITY;
    for (int64_t c = 0; c < s->d; ++c)
        sum += bench_array_get(&a->q, x->q_row * s->d + c) * bench_array_get(&a->k, row * s->d + c);
    sum /= sqrt((double)s->d);
    if (s->with.softcap > 0)
        sum = s->with.softcap * tanh(sum / s->with.softcap);
    if (s->with.alibi)
        sum -= bench_array_get(&a->slopes, x->head) * fabs((double)(position - j));
    if (s->with.bias)
        sum += bench_array_get(&a->bias, pair);
    return sum;
}

/* Largest |result - exact| of one query; `weights` has room for k_len numbers. */
static double query_error(const attention_case *a, const bench_array *result, const query *x,
                          double *weights) {
    const attention_shape *s = &a->shape;
    const bench_array *v = s->with.view ? &a->k : &a->v;
    const int64_t v_columns = s->with.view ? s->d : s->dv;
    double highest = -INFINITY, sum = 0, worst = 0;
    for (int64_t j = x->lo; j < x->hi; ++j) {
        weights[j] = score(a, x, j);
        highest = fmax(highest, weights[j]);
    }
    if (s->with.sinks) {
        const double sink = bench_array_get(&a->sinks, x->head);
        highest = fmax(highest, sink);
        sum = exp(sink - highest);
    }
    for (int64_t j = x->lo; j < x->hi; ++j) {
        weights[j] = highest > -INFINITY ? exp(weights[j] - highest) : 0;
        sum += weights[j];
    }
    for (int64_t c = 0; c < s->dv && !isnan(worst); ++c) {
        double exact = 0;
        for (int64_t j = x->lo; j < x->hi && sum > 0; ++j)
            exact += weights[j] / sum * bench_array_get(v, key_row(s, x, j) * v_columns + c);
        const double e = fabs(bench_array_get(result, x->q_row * s->dv + c) - exact);
        if (!(e <= worst))
            worst = e;
    }
    return worst;
}

double attention_case_error(void *state, const bench_array *result) {
    const attention_case *a = state;
    const attention_shape *s = &a->shape;
    const int64_t queries = result->count / s->dv,
                  affordable = CHECK_BUDGET / ((s->d + s->dv) * s->k_len) + 2;
    double *weights = malloc((size_t)s->k_len * sizeof *weights), worst = 0;
    uint64_t random = 1;
    if (!weights)
        return NAN;
    for (int64_t n = 0; n < queries && n < affordable && !isnan(worst); ++n) {
        const int64_t at = queries <= affordable ? n
                           : n == 0              ? 0
                           : n == 1              ? queries - 1
                                    : (int64_t)(bench_random(&random) % (uint64_t)queries);
        const query x = query_of(s, at);
        const double e = query_error(a, result, &x, weights);
        if (!(e <= worst))
            worst = e;
    }
    free(weights);
    return worst;
}

/* Scores are sums of d products, each at most 1 (of blocks, whose elements bench_blocks_fill keeps
 * below 2: 2), over sqrt(d), and addends that a slope takes to the number of keys; outputs are sums
 * of k_len; then one rounding. */
double attention_case_bound(const attention_case *a) {
    const double d = (double)a->shape.d, keys = (double)a->shape.k_len,
                 inner = bench_rounding(a->dtype == TENON_F64 ? TENON_F64 : TENON_F32);
    const double addends = (a->shape.with.alibi ? keys : 0) + (a->shape.with.softcap > 0 ? d : 0);
    const double size = bench_is_block(a->k.dtype) ? 2 : 1;
    return size *
           ((2 * size * d * sqrt(d) + keys + 16 * addends + 64) * inner + bench_rounding(a->dtype));
}
