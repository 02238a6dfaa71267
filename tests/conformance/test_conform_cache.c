/* SPDX-License-Identifier: Apache-2.0 */
/* Merging of attentions and appending to caches, of every device against the reference. */
#include "harness.h"

#include <string.h>

/* ---------------------------------------------------------------- merge */

typedef struct merge_case {
    int64_t parts, batch, heads, queries, dv;
    tenon_dtype o_part, lse_part, o, lse; /* lse 0: absent */
    layout in, out;
    int32_t in_place;
    const char *unsupported;
} merge_case;

static void run_merge_case(world *w, const merge_case *c) {
    const int64_t shape[4] = {c->batch, c->heads, c->queries, c->dv};
    operand o_part[64], lse_part[64], o, lse = {0};
    tenon_tensor parts[64], lse_parts[64], exact_parts[64], exact_lse_parts[64];
    double largest = 0, largest_lse = 0;
    const bool lse_in_place = c->in_place && c->lse == c->lse_part;

    if (world_leaves_out(w, (double)(c->parts * c->batch * c->heads * c->queries * c->dv)))
        return;
    world_case(w, "merge: %lld parts, %lldx%lldx%lldx%lld, %s -> %s", (long long)c->parts,
               (long long)c->batch, (long long)c->heads, (long long)c->queries, (long long)c->dv,
               tenon_dtype_name(c->o_part), tenon_dtype_name(c->o));
    for (int64_t i = 0; i < c->parts; ++i) {
        o_part[i] = i == 0 && c->in_place ? in_out(w, c->o_part, 4, shape, c->in, (range){-2, 2})
                                          : input(w, c->o_part, 4, shape, c->in, 0, (range){-2, 2});
        lse_part[i] = i == 0 && lse_in_place
                          ? in_out(w, c->lse_part, 3, shape, c->in, (range){-6, 6})
                          : input(w, c->lse_part, 3, shape, c->in, 0, (range){-6, 6});
        for (int64_t row = 0; row < count_of(&lse_part[i].t); ++row) {
            if (rng_below(&w->random, 4) != 0)
                continue;
            set(&lse_part[i], row, -INFINITY); /* saw nothing: what it holds does not matter */
            if (!c->in_place)
                for (int64_t e = 0; e < c->dv; ++e)
                    set(&o_part[i], row * c->dv + e, NAN);
        }
        parts[i] = o_part[i].t;
        lse_parts[i] = lse_part[i].t;
        exact_parts[i] = o_part[i].exact;
        exact_lse_parts[i] = lse_part[i].exact;
        largest = fmax(largest, o_part[i].largest);
        largest_lse = fmax(largest_lse, lse_part[i].largest);
    }
    o = c->in_place ? o_part[0] : output(w, c->o, 4, shape, c->out);
    if (c->lse)
        lse = lse_in_place ? lse_part[0] : output(w, c->lse, 3, shape, c->out);

    const tenon_tensor expected = exact_zeros(w, 4, shape), expected_lse = exact_zeros(w, 3, shape);
    const tenon_attention_merge_desc device = {
        .o_parts = parts, .lse_parts = lse_parts, .count = c->parts, .o = o.t, .lse = lse.t};
    const tenon_attention_merge_desc exact = {.o_parts = exact_parts,
                                              .lse_parts = exact_lse_parts,
                                              .count = c->parts,
                                              .o = expected,
                                              .lse = expected_lse};
    if (!world_answered(w, tenon_attention_merge(w->ctx, &device), c->unsupported))
        return;
    world_reference(w, tenon_attention_merge(w->reference, &exact));

    const bool f64 = c->o == TENON_F64 && c->o_part == TENON_F64 && c->lse_part == TENON_F64;
    const double error = bound_merge(c->parts, largest, largest_lse, f64 ? TENON_F64 : TENON_F32);
    expect_untouched(w, &o, NULL);
    for (int64_t i = 0; i < count_of(&expected); ++i)
        expect(w, &o, i, get(&expected, i), get(&expected_lse, i / c->dv) == -INFINITY ? 0 : error);
    if (!c->lse)
        return;
    expect_untouched(w, &lse, NULL);
    for (int64_t i = 0; i < count_of(&expected_lse); ++i)
        expect(w, &lse, i, get(&expected_lse, i),
               bound_merge_lse(c->parts, largest_lse + 4,
                               f64 && c->lse == TENON_F64 ? TENON_F64 : TENON_F32));
}

START_TEST(merges) {
    static const tenon_dtype type[] = {TENON_F32, TENON_F16, TENON_BF16, TENON_F64};
    static const merge_case cases[] = {
        {0, 2, 2, 3, 16, TENON_F32, TENON_F32, TENON_F32, TENON_F32, DENSE, DENSE, 0, NULL},
        {1, 2, 2, 3, 16, TENON_F32, TENON_F32, TENON_F32, TENON_F32, DENSE, DENSE, 0, NULL},
        {64, 1, 2, 3, 33, TENON_F32, TENON_F32, TENON_F32, TENON_F32, DENSE, DENSE, 0, NULL},
        {3, 1, 4, 1, 576, TENON_F32, TENON_F32, TENON_F32, TENON_DTYPE_NONE, DENSE, DENSE, 0, NULL},
        {3, 1, 4, 7, 40, TENON_F32, TENON_F32, TENON_F32, TENON_F32, DENSE, DENSE, 1, NULL},
        {2, 0, 4, 7, 40, TENON_F32, TENON_F32, TENON_F32, TENON_F32, DENSE, DENSE, 0, NULL},
    };
    world w = world_start("merges", device_id[_i]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        run_merge_case(&w, &cases[i]);
    for (int part = 0; part < 4; ++part)
        for (int o = 0; o < 4; ++o)
            for (int lse = 0; lse < 4; ++lse)
                run_merge_case(&w, &(merge_case){.parts = 3,
                                                 .batch = 2,
                                                 .heads = 3,
                                                 .queries = 5,
                                                 .dv = 19,
                                                 .o_part = type[part],
                                                 .lse_part = lse & 1 ? TENON_F64 : TENON_F32,
                                                 .o = type[o],
                                                 .lse = lse & 2 ? TENON_F64 : TENON_F32,
                                                 .in = (layout)((part + lse) % LAYOUTS),
                                                 .out = o == 0   ? DENSE
                                                        : o == 1 ? TRANSPOSED
                                                        : o == 2 ? STEPPED
                                                                 : REVERSED});
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- append */

typedef struct append_case {
    int64_t batch, kv_heads, rows, capacity, d, dv; /* dv 0: no values */
    tenon_dtype x, cache;
    int32_t ragged;
    int64_t block_size;
    int32_t scale; /* 1: one value, 2: (kv_heads), 3: per row */
    layout in, out;
    const char *unsupported;
} append_case;

typedef struct append_side {
    operand x, cache, scale;
    tenon_tensor expected;
} append_side;

static append_side make_side(world *w, const append_case *c, int64_t outer, int64_t rows,
                             int64_t width) {
    const int64_t x_shape[4] = {c->ragged ? 1 : c->batch, c->kv_heads, c->rows, width};
    const int64_t cache_shape[4] = {outer, c->kv_heads, rows, width};
    const range values = {-3, 3}, scales = {0.01, 0.03}, cached = {-100, 100};
    append_side s = {.x = input(w, c->x, 4, x_shape, c->in, 0, values),
                     .cache = in_out(w, c->cache, 4, cache_shape, c->out, cached)};
    if (c->scale == 1)
        s.scale = input(w, TENON_F32, 0, NULL, DENSE, 0, scales);
    if (c->scale == 2)
        s.scale = input(w, TENON_F32, 1, &c->kv_heads, DENSE, 0, scales);
    if (c->scale == 3)
        s.scale = input(w, TENON_F16, 3, cache_shape, PADDED, 0, scales);
    s.expected = exact_zeros(w, 4, cache_shape);
    for (int64_t i = 0; i < count_of(&s.expected); ++i)
        ((double *)s.expected.data)[i] = NAN; /* not written */
    return s;
}

/* Written elements are the reference's; the rest of the cache is as it was. */
static void compare_side(world *w, append_side *s) {
    const int64_t count = count_of(&s->expected);
    const double u =
        bound_unit(TENON_F32) * 2; /* the scale and the quotient, docs/NUMERICS.md, 6 */
    bool *written = world_alloc(w, (size_t)count);
    for (int64_t i = 0; i < count; ++i)
        written[i] = !isnan(get(&s->expected, i));
    expect_untouched(w, &s->cache, written);
    for (int64_t i = 0; i < count; ++i)
        if (written[i])
            expect(w, &s->cache, i, get(&s->expected, i),
                   s->scale.t.data ? u * fabs(get(&s->expected, i)) : 0);
}

static void run_append_case(world *w, const append_case *c) {
    const int64_t max_blocks = c->block_size ? c->capacity / c->block_size : 0;
    const int64_t outer = c->block_size ? c->batch * max_blocks + 3 : c->batch;
    const int64_t rows = c->block_size ? c->block_size : c->capacity,
                  table_shape[2] = {c->batch, max_blocks};
    const int64_t cu_count = c->batch + 1;
    operand positions, cu = {0}, table = {0};

    if (world_leaves_out(w, (double)(c->batch * c->rows * 64)))
        return;
    world_case(w, "append: %lld rows of %lld/%lld into %lld%s, %s -> %s", (long long)c->rows,
               (long long)c->d, (long long)c->dv, (long long)c->capacity,
               c->block_size ? " paged" : "", tenon_dtype_name(c->x), tenon_dtype_name(c->cache));
    positions =
        input(w, c->ragged ? TENON_S64 : TENON_S32, 1, &c->batch, STEPPED, 0, (range){0, 0});
    if (c->ragged)
        cu = input(w, TENON_S32, 1, &cu_count, DENSE, 0, (range){0, 0});
    for (int64_t b = 0, first = 0; b < c->batch; ++b) {
        const int64_t count =
            c->ragged ? c->rows / (c->batch + 1) * (b % 3 ? 1 : 0) + b % 2 : c->rows;
        if (c->ragged)
            set(&cu, b + 1, (double)(first += count));
        set(&positions, b, (double)rng_between(&w->random, 0, c->capacity - count));
    }
    if (c->block_size) {
        table =
            input(w, c->ragged ? TENON_S64 : TENON_S32, 2, table_shape, PADDED, 0, (range){0, 0});
        for (int64_t i = 0; i < count_of(&table.t); ++i)
            set(&table, i, (double)(outer - 1 - i)); /* every block once */
    }
    append_side k = make_side(w, c, outer, rows, c->d), v = {0};
    if (c->dv)
        v = make_side(w, c, outer, rows, c->dv);

    tenon_kv_append_desc device = {.k = k.x.t,
                                   .v = v.x.t,
                                   .k_cache = k.cache.t,
                                   .v_cache = v.cache.t,
                                   .positions = positions.t,
                                   .cu_seqlens = cu.t,
                                   .block_table = table.t,
                                   .k_scale = k.scale.t,
                                   .v_scale = v.scale.t};
    tenon_kv_append_desc exact = {.k = k.x.exact,
                                  .v = v.x.exact,
                                  .k_cache = k.expected,
                                  .v_cache = v.expected,
                                  .positions = positions.exact,
                                  .cu_seqlens = cu.exact,
                                  .block_table = table.exact,
                                  .k_scale = k.scale.exact,
                                  .v_scale = v.scale.exact};
    if (!world_answered(w, tenon_kv_append(w->ctx, &device), c->unsupported))
        return;
    world_reference(w, tenon_kv_append(w->reference, &exact));
    compare_side(w, &k);
    if (c->dv)
        compare_side(w, &v);
}

START_TEST(appends) {
    static const tenon_dtype in[] = {TENON_F32, TENON_F16, TENON_BF16, TENON_F64};
    static const tenon_dtype out[] = {TENON_F32,     TENON_F16,     TENON_BF16, TENON_F64,
                                      TENON_F8_E4M3, TENON_F8_E5M2, TENON_S8};
    world w = world_start("appends", device_id[_i]);
    for (int x = 0; x < 4; ++x)
        for (int cache = 0; cache < 7; ++cache)
            for (int how = 0; how < 4; ++how)
                run_append_case(&w, &(append_case){.batch = 3,
                                                   .kv_heads = 2,
                                                   .rows = how & 1 ? 9 : 1,
                                                   .capacity = 24,
                                                   .d = 16,
                                                   .dv = 20,
                                                   .x = in[x],
                                                   .cache = out[cache],
                                                   .ragged = how & 1,
                                                   .block_size = how & 2 ? 8 : 0,
                                                   .scale = (x + cache + how) % 4,
                                                   .in = (layout)((x + how) % LAYOUTS),
                                                   .out = cache % 2 ? DENSE : STEPPED});
    for (int same = 0; same < 4; ++same)
        run_append_case(&w, &(append_case){.batch = 2,
                                           .kv_heads = 2,
                                           .rows = 3,
                                           .capacity = 8,
                                           .d = 16,
                                           .dv = 24,
                                           .x = in[same],
                                           .cache = in[same]});
    run_append_case(&w, &(append_case){.batch = 1,
                                       .kv_heads = 1,
                                       .rows = 0,
                                       .capacity = 4,
                                       .d = 8,
                                       .dv = 8,
                                       .x = TENON_F32,
                                       .cache = TENON_F32});
    run_append_case(&w, &(append_case){.batch = 2,
                                       .kv_heads = 3,
                                       .rows = 4,
                                       .capacity = 4,
                                       .d = 37,
                                       .x = TENON_F32,
                                       .cache = TENON_BF16,
                                       .out = TRANSPOSED});
    world_end(&w);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {merges, appends};
    return conform_main("conformance cache", tests, sizeof tests / sizeof *tests);
}
