/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_case.c: see attention_case.h. Whatever part of a cache no length covers is NaN, so that a device that looks at it is found
 * out; the reference gets dense f64 copies of every operand.
 */
#include "attention_case.h"

#include <math.h>
#include <string.h>

typedef struct attention_run {
    world *w;
    attention_case x;
    int64_t total_q, total_k; /* rows of q and k in one batch entry */
    int64_t outer_k, rows_k;  /* first and third extent of k: batch or blocks, keys or block size */
    int64_t mask_keys;
    tenon_dtype weights; /* rounded to: see bounds.h */
    tenon_tensor absent;
    operand q, k, v, o, lse, bias, mask, alibi, sinks, lengths, offsets, cu_q, cu_k, table, k_scale,
        v_scale;
} attention_run;

/* ---------------------------------------------------------------- q, k, v, o */

/* (outer, heads, rows, width), laid out in memory as the case says. */
static operand place_rows(attention_run *r, tenon_dtype dtype, int64_t outer, int64_t heads,
                          int64_t rows, int64_t width, range values, bool is_output) {
    const int64_t logical[4] = {outer, heads, rows, width},
                  by_length[4] = {outer, rows, heads, width};
    const arrangement memory = r->x.memory;
    layout in_memory = memory == SPACED ? STEPPED : memory == COLUMNS ? REVERSED : DENSE;
    if (memory == BACKWARDS && !is_output)
        in_memory = BACKWARD;
    const int64_t *shape = memory == LENGTH_FIRST ? by_length : logical;

    operand whole = is_output ? output(r->w, dtype, 4, shape, in_memory)
                              : input(r->w, dtype, 4, shape, in_memory, 0, values);
    if (memory != LENGTH_FIRST)
        return whole;
    const int64_t stride[4] = {whole.t.stride[0], whole.t.stride[2], whole.t.stride[1],
                               whole.t.stride[3]};
    return view_of(r->w, &whole, 0, 4, logical, stride);
}

static void place_packed(attention_run *r, range values) {
    const attention_case *x = &r->x;
    const int64_t all = x->heads + 2 * x->kv_heads;
    const int64_t shape[4] = {x->batch, x->queries, all, x->d};
    const operand whole = input(r->w, x->q, 4, shape, PADDED, 0, values);
    const int64_t *s = whole.t.stride, stride[4] = {s[0], s[2], s[1], s[3]};
    const int64_t q_shape[4] = {x->batch, x->heads, x->queries, x->d};
    const int64_t k_shape[4] = {x->batch, x->kv_heads, x->queries, x->d};

    r->q = view_of(r->w, &whole, 0, 4, q_shape, stride);
    r->k = view_of(r->w, &whole, x->heads * s[2], 4, k_shape, stride);
    r->v = view_of(r->w, &whole, (x->heads + x->kv_heads) * s[2], 4, k_shape, stride);
}

static void place_tensors(attention_run *r) {
    const attention_case *x = &r->x;
    const double amplitude = x->amplitude > 0 ? x->amplitude : 1.5;
    const range values = {-amplitude, amplitude}, bytes = {-128, 127};
    const int64_t q_batch = x->ragged_q ? 1 : x->batch,
                  lse_shape[3] = {q_batch, x->heads, r->total_q};

    if (x->memory == PACKED_QKV) {
        place_packed(r, values);
    } else {
        r->q = place_rows(r, x->q, q_batch, x->heads, r->total_q, x->d, values, false);
        r->k = place_rows(r, x->k, r->outer_k, x->kv_heads, r->rows_k, x->d,
                          x->k == TENON_S8 ? bytes : values, false);
        if (x->memory == SHARED_KV) {
            const int64_t shape[4] = {r->outer_k, x->kv_heads, r->rows_k, x->dv};
            r->v = view_of(r->w, &r->k, 0, 4, shape, r->k.t.stride);
        } else {
            r->v = place_rows(r, x->v, r->outer_k, x->kv_heads, r->rows_k, x->dv,
                              x->v == TENON_S8 ? bytes : values, false);
        }
    }
    r->o = place_rows(r, x->o, q_batch, x->heads, r->total_q, x->dv, values, true);
    if (!x->no_lse)
        r->lse = output(r->w, x->lse, 3, lse_shape, PADDED);
}

/* ---------------------------------------------------------------- lengths, offsets, tables */

/* (batch + 1) ascending offsets that leave a few of `total` rows unused. */
static operand cumulative(attention_run *r, int32_t kind, int64_t total) {
    const int64_t shape = r->x.batch + 1;
    operand o =
        input(r->w, kind == 2 ? TENON_S64 : TENON_S32, 1, &shape, STEPPED, 0, (range){0, 0});
    int64_t row = 0;
    for (int64_t b = 1; b <= r->x.batch; ++b) {
        const int64_t step = rng_below(&r->w->random, 2 * total / r->x.batch + 1);
        row = row + step < total ? row + step : total;
        set(&o, b, (double)row);
    }
    return o;
}

static operand per_sequence(attention_run *r, int32_t kind, int64_t low, int64_t high) {
    const int64_t shape = r->x.batch;
    operand o = input(r->w, kind == 2 ? TENON_S64 : TENON_S32, 1, &shape, DENSE, 0, (range){0, 0});
    for (int64_t b = 0; b < shape; ++b)
        set(&o, b, (double)rng_between(&r->w->random, low, high));
    return o;
}

/* Every sequence's blocks are a random choice of all blocks; entries that no length covers are nonsense. */
static operand block_table(attention_run *r, int64_t max_blocks) {
    const int64_t shape[2] = {r->x.batch, max_blocks};
    operand o =
        input(r->w, r->x.lengths == 2 ? TENON_S64 : TENON_S32, 2, shape, PADDED, 0, (range){0, 0});
    int64_t next = 0;
    for (int64_t b = 0; b < r->x.batch; ++b) {
        const int64_t used =
            ((int64_t)get(&r->lengths.t, b) + r->x.block_size - 1) / r->x.block_size;
        for (int64_t i = 0; i < max_blocks; ++i, ++next) {
            const int64_t shuffled = next * 7 % r->outer_k; /* outer_k is made prime to 7 */
            set(&o, b * max_blocks + i, i < used ? (double)shuffled : -77);
        }
    }
    return o;
}

static void make_lengths(attention_run *r) {
    attention_case *x = &r->x;
    r->total_q = x->queries;
    r->total_k = x->keys;
    r->outer_k = x->ragged_k ? 1 : x->batch;
    r->rows_k = x->keys;
    if (x->ragged_q)
        r->cu_q = cumulative(r, x->ragged_q, x->queries);
    if (x->ragged_k)
        r->cu_k = cumulative(r, x->ragged_k, x->keys);
    if (x->lengths)
        r->lengths = per_sequence(r, x->lengths, 0, x->keys);
    if (x->offsets)
        r->offsets = per_sequence(r, x->offsets, -3, x->keys + 3);
    if (x->block_size) {
        const int64_t max_blocks = (x->keys + x->block_size - 1) / x->block_size;
        r->outer_k = x->batch * max_blocks + 2;
        if (r->outer_k % 7 == 0)
            r->outer_k++;
        r->rows_k = x->block_size;
        r->table = block_table(r, max_blocks);
        x->keys = max_blocks * x->block_size;
    }
    r->mask_keys = x->keys;
}

/* ---------------------------------------------------------------- masks, slopes, scales */

static operand make_mask(attention_run *r, int32_t kind, tenon_dtype dtype, range values) {
    const attention_case *x = &r->x;
    const int64_t q_batch = x->ragged_q ? 1 : x->batch;
    const int64_t shapes[5][4] = {{0},
                                  {q_batch, x->heads, r->total_q, r->mask_keys},
                                  {1, 1, r->total_q, r->mask_keys},
                                  {r->mask_keys},
                                  {q_batch, 1, 1, r->mask_keys}};
    if (!kind)
        return (operand){0};
    return input(r->w, dtype, kind == 3 ? 1 : 4, shapes[kind], PADDED, 0, values);
}

static operand make_scale(attention_run *r, int32_t kind) {
    const int64_t per_head = r->x.kv_heads, per_row[3] = {r->outer_k, r->x.kv_heads, r->rows_k};
    const range values = {0.005, 0.02}; /* of 8-bit integers */
    switch (kind) {
    case 1:
        return input(r->w, r->x.extra, 0, NULL, DENSE, 0, values);
    case 2:
        return input(r->w, r->x.extra, 1, &per_head, DENSE, 0, values);
    case 3:
        return input(r->w, r->x.extra, 3, per_row, PADDED, 0, values);
    default:
        return (operand){0};
    }
}

static void make_others(attention_run *r) {
    const attention_case *x = &r->x;
    const int64_t per_head[2] = {x->batch, x->heads};
    r->bias = make_mask(r, x->bias, x->extra, (range){-2, 2});
    for (int64_t i = 0; x->bias && i < count_of(&r->bias.t); ++i)
        if (rng_below(&r->w->random, 6) == 0)
            set(&r->bias, i, -INFINITY);
    r->mask = make_mask(r, x->mask, TENON_BOOL, (range){0, 0.7});
    if (x->alibi)
        r->alibi =
            input(r->w, x->extra, x->alibi, &per_head[2 - x->alibi], DENSE, 0, (range){-0.3, 0.3});
    if (x->sinks)
        r->sinks = input(r->w, x->extra, 1, &per_head[1], DENSE, 0, (range){-2, 3});
    r->k_scale = make_scale(r, x->k_scale);
    r->v_scale = make_scale(r, x->v_scale);
}

/* NaN into every row of k and v that no sequence uses. */
static void poison_unused(attention_run *r) {
    const attention_case *x = &r->x;
    const bool floats = x->k < TENON_S8 && x->v < TENON_S8;
    const int64_t rows = r->outer_k * r->rows_k;
    bool *used = world_alloc(r->w, (size_t)rows);

    if (!floats || !(x->lengths || x->ragged_k))
        return;
    for (int64_t b = 0; b < x->batch; ++b) {
        int64_t first = 0, end = x->ragged_k ? 0 : (int64_t)get(&r->lengths.t, b);
        if (x->ragged_k) {
            first = (int64_t)get(&r->cu_k.t, b);
            end = (int64_t)get(&r->cu_k.t, b + 1);
        }
        for (int64_t j = first; j < end; ++j) {
            int64_t outer = x->ragged_k ? 0 : b, row = j;
            if (x->block_size) {
                outer = (int64_t)get(&r->table.t, b * r->table.t.shape[1] + j / x->block_size);
                row = j % x->block_size;
            }
            used[outer * r->rows_k + row] = true;
        }
    }
    operand *both[2] = {&r->k, &r->v};
    for (int i = 0; i < 2; ++i) {
        const int64_t *shape = both[i]->t.shape;
        for (int64_t e = 0; e < count_of(&both[i]->t); ++e) {
            const int64_t row = e / shape[3] % shape[2], outer = e / shape[3] / shape[2] / shape[1];
            if (!used[outer * r->rows_k + row])
                set(both[i], e, NAN);
        }
    }
}

/* ---------------------------------------------------------------- comparison */

/* Largest Euclidean length of a row, NaN left out: |q|·|k| bounds sum |q_e·k_e| (Cauchy and Schwarz). */
static double longest_row(const tenon_tensor *t) {
    const int64_t width = t->shape[3];
    double longest = 0;
    for (int64_t row = 0; row < count_of(t) / width; ++row) {
        double sum = 0;
        for (int64_t e = 0; e < width; ++e) {
            const double value = get(t, row * width + e);
            sum += value * value;
        }
        if (sum > longest)
            longest = sum;
    }
    return sqrt(longest);
}

/* What weights are rounded to (docs/NUMERICS.md, 5.4): that is a function of types, head dimensions and device, and the plan has to say
 * that it is so. */
static tenon_dtype rounded_weights(const attention_run *r, const tenon_attention_desc *device) {
    const attention_case *x = &r->x;
    const bool types = (x->q == TENON_F16 || x->q == TENON_BF16) && x->o != TENON_F64 &&
                       (x->k == x->q || x->k > TENON_BF16) && (x->v == x->q || x->v > TENON_BF16) &&
                       x->dv <= 512 && !(x->v_scale && x->q == TENON_F16);
    tenon_plan *plan = NULL;
    tenon_plan_info info = {0};
    tenon_dtype weights = TENON_DTYPE_NONE;
    if (strncmp(r->w->device, "cuda", 4) != 0)
        return TENON_DTYPE_NONE;
    ck_assert(tenon_attention_plan(r->w->ctx, device, &plan) == TENON_OK &&
              tenon_plan_query(plan, &info) == TENON_OK);
    if (strncmp(info.algorithm, "attention-tensor", 16) == 0) {
        ck_assert_msg(types, "%s: %s: not by tensor cores", r->w->device, r->w->what);
        weights = x->q;
    }
    tenon_plan_destroy(plan);
    return weights;
}

static bound_scores scores_of(const attention_run *r) {
    const attention_case *x = &r->x;
    const double scale = x->scale != 0 ? fabs(x->scale) : 1 / sqrt((double)x->d);
    const double distance = (double)(r->total_q + 2 * x->keys + 8) + r->offsets.largest;
    const bool f64 =
        x->q == TENON_F64 || x->k == TENON_F64 || x->v == TENON_F64 || x->o == TENON_F64;
    return (bound_scores){
        .d = x->d,
        .keys = x->keys,
        .softcap = x->softcap,
        .size = scale * longest_row(&r->q.exact) * longest_row(&r->k.exact) *
                (x->k_scale ? r->k_scale.largest : 1),
        .addends = r->alibi.largest * distance + r->bias.largest + r->sinks.largest,
        .accumulate = f64 ? TENON_F64 : TENON_F32,
        .weights = r->weights,
    };
}

static void compare(attention_run *r, const tenon_tensor *o, const tenon_tensor *lse) {
    const attention_case *x = &r->x;
    const bound_scores s = scores_of(r);
    const double error = bound_attention(&s, r->v.largest * (x->v_scale ? r->v_scale.largest : 1));
    const int64_t rows = count_of(lse),
                  used = x->ragged_q ? (int64_t)get(&r->cu_q.t, x->batch) : r->total_q;
    bool *written = world_alloc(r->w, (size_t)(rows * (x->dv + 1)));
    bool *lse_written = written + rows * x->dv;

    for (int64_t row = 0; row < rows; ++row) {
        lse_written[row] = row % r->total_q < used;
        memset(written + row * x->dv, lse_written[row], (size_t)x->dv);
    }
    expect_untouched(r->w, &r->o, written);
    if (!x->no_lse)
        expect_untouched(r->w, &r->lse, lse_written);

    for (int64_t row = 0; row < rows; ++row) {
        if (!lse_written[row])
            continue;
        const double sum = get(lse, row);
        for (int64_t e = 0; e < x->dv; ++e) /* a query that sees nothing gives exactly 0 */
            expect(r->w, &r->o, row * x->dv + e, get(o, row * x->dv + e),
                   sum == -INFINITY ? 0 : error);
        if (!x->no_lse)
            expect(r->w, &r->lse, row, sum, bound_lse(&s, sum));
    }
}

static attention_case with_defaults(const attention_case *given) {
    attention_case x = *given;
    if (!x.batch)
        x.batch = 1;
    if (!x.heads)
        x.heads = 1;
    if (!x.kv_heads)
        x.kv_heads = x.heads;
    if (!x.dv)
        x.dv = x.d;
    if (!x.q)
        x.q = TENON_F32;
    if (!x.k)
        x.k = x.q;
    if (!x.v)
        x.v = x.k;
    if (!x.o)
        x.o = x.q;
    if (!x.lse)
        x.lse = x.q == TENON_F64 ? TENON_F64 : TENON_F32;
    if (!x.extra)
        x.extra = TENON_F32;
    if (x.block_size && !x.lengths)
        x.lengths = 1;
    if (x.memory == PACKED_QKV)
        x.keys = x.queries;
    return x;
}

void run_attention_case(world *w, const attention_case *given) {
    attention_run run = {.w = w, .x = with_defaults(given)}, *r = &run;
    attention_case *x = &r->x;

    if (world_leaves_out(w, (double)(x->batch * x->heads * x->queries * (x->keys + 16)) *
                                (double)(x->d + x->dv)))
        return;
    world_case(w,
               "attention %s: batch %lld, heads %lld/%lld, %lld x %lld, d %lld/%lld, %s %s -> %s",
               x->name, (long long)x->batch, (long long)x->heads, (long long)x->kv_heads,
               (long long)x->queries, (long long)x->keys, (long long)x->d, (long long)x->dv,
               tenon_dtype_name(x->q), tenon_dtype_name(x->k), tenon_dtype_name(x->o));
    make_lengths(r);
    place_tensors(r);
    make_others(r);
    poison_unused(r);

    tenon_attention_desc device = {
        .q = r->q.t,
        .k = r->k.t,
        .v = r->v.t,
        .o = r->o.t,
        .scale = x->scale != 0 ? &x->scale : NULL,
        .causal = x->causal,
        .window = x->window,
        .bias = r->bias.t,
        .mask = r->mask.t,
        .alibi = r->alibi.t,
        .softcap = x->softcap,
        .sinks = r->sinks.t,
        .key_lengths = r->lengths.t,
        .query_offsets = r->offsets.t,
        .cu_seqlens_q = r->cu_q.t,
        .cu_seqlens_k = r->cu_k.t,
        .block_table = r->table.t,
        .k_scale = r->k_scale.t,
        .v_scale = r->v_scale.t,
        .lse = r->lse.t,
        .compute = x->compute,
    };
    const int64_t lse_shape[3] = {r->q.t.shape[0], x->heads, r->total_q};
    const tenon_tensor o = exact_zeros(w, 4, r->o.t.shape), lse = exact_zeros(w, 3, lse_shape);
    tenon_attention_desc exact = device;
    exact.q = r->q.exact;
    exact.k = r->k.exact;
    exact.v = r->v.exact;
    exact.o = o;
    exact.lse = lse;
    exact.bias = r->bias.exact;
    exact.mask = r->mask.exact;
    exact.alibi = r->alibi.exact;
    exact.sinks = r->sinks.exact;
    exact.key_lengths = r->lengths.exact;
    exact.query_offsets = r->offsets.exact;
    exact.cu_seqlens_q = r->cu_q.exact;
    exact.cu_seqlens_k = r->cu_k.exact;
    exact.block_table = r->table.exact;
    exact.k_scale = r->k_scale.exact;
    exact.v_scale = r->v_scale.exact;

    if (!world_answered(w, tenon_attention(w->ctx, &device), x->unsupported))
        return;
    world_reference(w, tenon_attention(w->reference, &exact));
    r->weights = rounded_weights(r, &device);
    compare(r, &o, &lse);
    const operand *outputs[2] = {&r->o, &r->lse};
    expect_every_choice(w, &(call){.attention = &device}, outputs, x->no_lse ? 1 : 2);
}
