/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of every device against the reference: shapes, layouts, types, and every field of the descriptor. */
#include "attention_case.h"

static void run_all(const char *name, int device, const attention_case *cases, size_t count) {
    world w = world_start(name, device_id[device]);
    for (size_t i = 0; i < count; ++i)
        run_attention_case(&w, &cases[i]);
    world_end(&w);
}
#define RUN(name, cases) run_all(name, _i, cases, sizeof cases / sizeof *cases)

START_TEST(shapes) {
    static const int64_t queries[] = {0, 1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 33, 65};
    static const int64_t keys[] = {0, 1, 2, 7, 16, 31, 63, 64, 65, 100, 127, 128, 129, 257};
    static const int64_t d[] = {1, 3, 8, 16, 31, 64, 80};
    world w = world_start("attention shapes", device_id[_i]);
    for (size_t i = 0; i < sizeof queries / sizeof *queries; ++i)
        for (size_t j = 0; j < sizeof keys / sizeof *keys; ++j)
            run_attention_case(&w,
                               &(attention_case){.name = "shape",
                                                 .heads = 2,
                                                 .kv_heads = 1 + (int64_t)(j % 2),
                                                 .queries = queries[i],
                                                 .keys = keys[j],
                                                 .d = d[(i + j) % 7],
                                                 .dv = d[(i + 2 * j) % 7],
                                                 .memory = (i + j) % 3 ? HEADS_FIRST : LENGTH_FIRST,
                                                 .causal = (tenon_causal)((i + j) % 3)});
    world_end(&w);
}
END_TEST

START_TEST(head_dims) {
    static const attention_case cases[] = {
        {.name = "d", .heads = 2, .queries = 9, .keys = 70, .d = 96},
        {.name = "d", .heads = 2, .queries = 9, .keys = 70, .d = 128},
        {.name = "d", .heads = 1, .queries = 9, .keys = 70, .d = 129, .dv = 127},
        {.name = "mla expanded", .heads = 2, .queries = 5, .keys = 70, .d = 192, .dv = 128},
        {.name = "mla",
         .heads = 4,
         .kv_heads = 1,
         .queries = 3,
         .keys = 70,
         .d = 576,
         .dv = 512,
         .memory = SHARED_KV},
        {.name = "mla decode",
         .batch = 2,
         .heads = 16,
         .kv_heads = 1,
         .queries = 1,
         .keys = 130,
         .d = 576,
         .dv = 512,
         .memory = SHARED_KV,
         .q = TENON_BF16,
         .lengths = 1},
        {.name = "widest", .heads = 1, .queries = 2, .keys = 33, .d = 576},
        {.name = "narrow values", .heads = 2, .queries = 6, .keys = 65, .d = 64, .dv = 1},
    };
    RUN("attention head dims", cases);
}
END_TEST

START_TEST(long_rows) {
    static const attention_case cases[] = {
        {.name = "decode",
         .batch = 2,
         .heads = 4,
         .kv_heads = 2,
         .queries = 1,
         .keys = 1031,
         .d = 64},
        {.name = "decode, long", .batch = 1, .heads = 2, .queries = 1, .keys = 4099, .d = 32},
        {.name = "few queries",
         .batch = 1,
         .heads = 8,
         .kv_heads = 2,
         .queries = 5,
         .keys = 777,
         .d = 64,
         .causal = TENON_CAUSAL_BOTTOM_RIGHT},
        {.name = "prefill",
         .batch = 1,
         .heads = 2,
         .queries = 193,
         .keys = 193,
         .d = 64,
         .causal = TENON_CAUSAL_TOP_LEFT},
        {.name = "prefill after cache",
         .batch = 1,
         .heads = 2,
         .kv_heads = 1,
         .queries = 100,
         .keys = 301,
         .d = 40,
         .causal = TENON_CAUSAL_BOTTOM_RIGHT},
        {.name = "window",
         .heads = 2,
         .queries = 200,
         .keys = 200,
         .d = 32,
         .window = {.enabled = 1, .left = 20, .right = 0}},
        {.name = "decode, window",
         .heads = 2,
         .queries = 1,
         .keys = 1000,
         .d = 32,
         .window = {.enabled = 1, .left = 100, .right = -1}},
        {.name = "wide range", .heads = 2, .queries = 17, .keys = 300, .d = 64, .amplitude = 8},
    };
    RUN("attention long rows", cases);
}
END_TEST

/* As many keys as models take, and scores at the ends of what they may be. */
START_TEST(extremes) {
    static const attention_case cases[] = {
        {.name = "128 Ki keys",
         .heads = 4,
         .kv_heads = 1,
         .queries = 1,
         .keys = 131072,
         .d = 16,
         .softcap = 30},
        {.name = "128 Ki keys, prompt's end",
         .heads = 1,
         .queries = 9,
         .keys = 131072,
         .d = 8,
         .amplitude = 3,
         .causal = TENON_CAUSAL_BOTTOM_RIGHT},
        {.name = "128 Ki keys, bf16",
         .heads = 2,
         .kv_heads = 1,
         .queries = 1,
         .keys = 131072,
         .d = 16,
         .q = TENON_BF16},
        {.name = "logits of 1e4",
         .heads = 2,
         .queries = 40,
         .keys = 600,
         .d = 16,
         .scale = 1,
         .amplitude = 35},
        {.name = "logits of 1e4, one query",
         .heads = 4,
         .kv_heads = 1,
         .queries = 1,
         .keys = 600,
         .d = 16,
         .scale = 1,
         .amplitude = 35},
        {.name = "logits of 1e4, soft cap",
         .heads = 2,
         .queries = 40,
         .keys = 600,
         .d = 16,
         .scale = 1,
         .amplitude = 35,
         .softcap = 50},
        {.name = "subnormal logits",
         .heads = 2,
         .queries = 40,
         .keys = 600,
         .d = 16,
         .amplitude = 1e-21},
        {.name = "subnormal values",
         .heads = 2,
         .queries = 1,
         .keys = 600,
         .d = 16,
         .amplitude = 1e-39},
        {.name = "runs of -inf",
         .heads = 2,
         .queries = 40,
         .keys = 600,
         .d = 16,
         .bias = 1,
         .mask = 3},
    };
    RUN("attention extremes", cases);
}
END_TEST

START_TEST(layouts) {
    static const arrangement memory[] = {HEADS_FIRST, LENGTH_FIRST, PACKED_QKV, SHARED_KV,
                                         SPACED,      BACKWARDS,    COLUMNS};
    world w = world_start("attention layouts", device_id[_i]);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; ++i)
        for (int type = 0; type < 3; ++type)
            for (int64_t queries = 1; queries < 60; queries += 35)
                run_attention_case(&w, &(attention_case){.name = "layout",
                                                         .batch = 2,
                                                         .heads = 4,
                                                         .kv_heads = 2,
                                                         .queries = queries,
                                                         .keys = 77,
                                                         .d = 24,
                                                         .memory = memory[i],
                                                         .q = type == 0   ? TENON_F32
                                                              : type == 1 ? TENON_BF16
                                                                          : TENON_F64});
    world_end(&w);
}
END_TEST

START_TEST(types) {
    static const tenon_dtype type[] = {TENON_F64, TENON_F32, TENON_F16, TENON_BF16};
    static const tenon_dtype small[] = {TENON_F8_E4M3, TENON_F8_E5M2, TENON_S8};
    world w = world_start("attention types", device_id[_i]);
    for (int q = 0; q < 4; ++q)
        for (int k = 0; k < 4; ++k)
            for (int v = 0; v < 4; ++v)
                for (int o = 0; o < 4; ++o)
                    run_attention_case(
                        &w, &(attention_case){.name = "types",
                                              .heads = 2,
                                              .queries = (q + k + v + o) % 2 ? 1 : 11,
                                              .keys = 67,
                                              .d = 16,
                                              .dv = 20,
                                              .q = type[q],
                                              .k = type[k],
                                              .v = type[v],
                                              .o = type[o],
                                              .lse = (q + k) % 2 ? TENON_F64 : TENON_F32});
    for (int k = 0; k < 3; ++k)
        for (int v = 0; v < 3; ++v)
            for (int queries = 1; queries < 12; queries += 10)
                for (int scale = 1; scale <= 3; ++scale)
                    run_attention_case(&w, &(attention_case){.name = "8-bit keys and values",
                                                             .heads = 4,
                                                             .kv_heads = 2,
                                                             .queries = queries,
                                                             .keys = 67,
                                                             .d = 16,
                                                             .k = small[k],
                                                             .v = small[v],
                                                             .k_scale = scale,
                                                             .v_scale = 1 + (scale + v) % 3,
                                                             .q = queries == 1 ? TENON_BF16
                                                                  : scale == 3 ? TENON_F64
                                                                               : TENON_F32});
    world_end(&w);
}
END_TEST

static const attention_case features[] = {
    {.name = "plain"},
    {.name = "scale", .scale = 0.31},
    {.name = "negative scale", .scale = -0.2},
    {.name = "no lse", .no_lse = 1},
    {.name = "causal top left", .causal = TENON_CAUSAL_TOP_LEFT},
    {.name = "causal bottom right", .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "window", .window = {.enabled = 1, .left = 3, .right = 2}},
    {.name = "window left",
     .window = {.enabled = 1, .left = 10, .right = -1},
     .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "window top left",
     .window = {.enabled = 1, .left = 1, .right = 7},
     .causal = TENON_CAUSAL_TOP_LEFT},
    {.name = "softcap", .softcap = 2},
    {.name = "bias", .bias = 1},
    {.name = "bias per query and key", .bias = 2, .extra = TENON_BF16},
    {.name = "bias per key", .bias = 3, .extra = TENON_F16},
    {.name = "bias per batch", .bias = 4, .extra = TENON_F64},
    {.name = "mask", .mask = 1},
    {.name = "mask per query and key", .mask = 2},
    {.name = "mask per key", .mask = 3},
    {.name = "mask per batch", .mask = 4, .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "alibi", .alibi = 1},
    {.name = "alibi per batch",
     .alibi = 2,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT,
     .extra = TENON_BF16},
    {.name = "sinks", .sinks = 1},
    {.name = "sinks, masked", .sinks = 1, .mask = 1, .extra = TENON_BF16},
    {.name = "lengths", .lengths = 1},
    {.name = "lengths s64", .lengths = 2, .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "lengths, bias", .lengths = 1, .bias = 1, .mask = 4},
    {.name = "offsets", .offsets = 1, .causal = TENON_CAUSAL_TOP_LEFT},
    {.name = "offsets, lengths",
     .offsets = 2,
     .lengths = 1,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT,
     .alibi = 1},
    {.name = "offsets, window", .offsets = 1, .window = {.enabled = 1, .left = 5, .right = 5}},
    {.name = "ragged", .ragged_q = 1, .ragged_k = 1},
    {.name = "ragged causal", .ragged_q = 1, .ragged_k = 1, .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "ragged s64, top left",
     .ragged_q = 2,
     .ragged_k = 2,
     .causal = TENON_CAUSAL_TOP_LEFT,
     .memory = LENGTH_FIRST},
    {.name = "ragged queries",
     .ragged_q = 1,
     .lengths = 1,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT,
     .sinks = 1},
    {.name = "ragged keys", .ragged_k = 1, .alibi = 2},
    {.name = "ragged, bias", .ragged_q = 1, .ragged_k = 1, .bias = 1, .mask = 2},
    {.name = "paged", .block_size = 16},
    {.name = "paged, odd blocks, s64",
     .block_size = 7,
     .lengths = 2,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "paged, blocks of one", .block_size = 1, .mask = 3},
    {.name = "paged, large blocks", .block_size = 128, .k = TENON_BF16},
    {.name = "paged, ragged queries",
     .block_size = 16,
     .ragged_q = 1,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT,
     .memory = LENGTH_FIRST},
    {.name = "paged, everything",
     .block_size = 32,
     .k = TENON_F16,
     .alibi = 1,
     .sinks = 1,
     .softcap = 6,
     .window = {.enabled = 1, .left = 40, .right = -1},
     .causal = TENON_CAUSAL_BOTTOM_RIGHT},
    {.name = "paged, quantised", .block_size = 16, .k = TENON_S8, .k_scale = 3, .v_scale = 3},
    {.name = "paged, f8", .block_size = 16, .k = TENON_F8_E4M3, .k_scale = 2, .v_scale = 1},
    {.name = "everything",
     .bias = 1,
     .mask = 1,
     .alibi = 2,
     .sinks = 1,
     .softcap = 4,
     .scale = 0.2,
     .lengths = 1,
     .offsets = 1,
     .window = {.enabled = 1, .left = 30, .right = 9}},
    {.name = "everything f64",
     .q = TENON_F64,
     .bias = 2,
     .mask = 1,
     .alibi = 1,
     .sinks = 1,
     .softcap = 4,
     .lengths = 1,
     .causal = TENON_CAUSAL_BOTTOM_RIGHT,
     .extra = TENON_F64},
    {.name = "exact", .compute = TENON_COMPUTE_EXACT, .q = TENON_BF16},
};

START_TEST(every_field) {
    static const attention_case sizes[] = {
        {.batch = 3, .heads = 4, .kv_heads = 2, .queries = 1, .keys = 75, .d = 16, .dv = 24},
        {.batch = 2, .heads = 2, .kv_heads = 2, .queries = 9, .keys = 20, .d = 33, .dv = 33},
        {.batch = 2, .heads = 6, .kv_heads = 1, .queries = 40, .keys = 150, .d = 8, .dv = 8},
        {.batch = 4, .heads = 1, .kv_heads = 1, .queries = 67, .keys = 13, .d = 64, .dv = 64},
    };
    world w = world_start("attention fields", device_id[_i]);
    for (size_t f = 0; f < sizeof features / sizeof *features; ++f)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s) {
            attention_case x = features[f];
            x.batch = sizes[s].batch;
            x.heads = sizes[s].heads;
            x.kv_heads = sizes[s].kv_heads;
            x.queries = sizes[s].queries;
            x.keys = sizes[s].keys;
            x.d = sizes[s].d;
            x.dv = sizes[s].dv;
            run_attention_case(&w, &x);
        }
    world_end(&w);
}
END_TEST

/* 16-bit floats throughout, which tensor cores multiply where there are any: every field, for one query, some and many; head dimensions;
 * operands that can't be copied 16 bytes at a time; bytes beside them. */
START_TEST(halves) {
    static const attention_case sizes[] = {
        {.batch = 2, .heads = 4, .kv_heads = 2, .queries = 1, .keys = 200, .d = 16, .dv = 24},
        {.batch = 2, .heads = 3, .kv_heads = 1, .queries = 7, .keys = 70, .d = 33, .dv = 40},
        {.batch = 1, .heads = 4, .kv_heads = 1, .queries = 45, .keys = 150, .d = 40, .dv = 16},
    };
    static const attention_case more[] = {
        {.name = "d", .heads = 2, .kv_heads = 1, .queries = 40, .keys = 130, .d = 128},
        {.name = "d",
         .heads = 1,
         .queries = 70,
         .keys = 70,
         .d = 256,
         .causal = TENON_CAUSAL_TOP_LEFT},
        {.name = "d", .heads = 1, .queries = 129, .keys = 65, .d = 72, .dv = 136},
        {.name = "narrow", .heads = 1, .queries = 66, .keys = 66, .d = 1, .dv = 3},
        {.name = "mla",
         .heads = 12,
         .kv_heads = 1,
         .queries = 2,
         .keys = 70,
         .d = 576,
         .dv = 512,
         .memory = SHARED_KV},
        {.name = "packed", .heads = 4, .kv_heads = 2, .queries = 70, .d = 24, .memory = PACKED_QKV},
        {.name = "spaced",
         .heads = 4,
         .kv_heads = 2,
         .queries = 40,
         .keys = 77,
         .d = 24,
         .memory = SPACED},
        {.name = "backwards",
         .heads = 4,
         .kv_heads = 2,
         .queries = 40,
         .keys = 77,
         .d = 24,
         .memory = BACKWARDS},
        {.name = "columns",
         .heads = 4,
         .kv_heads = 2,
         .queries = 40,
         .keys = 77,
         .d = 24,
         .memory = COLUMNS},
        {.name = "by length",
         .heads = 4,
         .kv_heads = 2,
         .queries = 40,
         .keys = 77,
         .d = 24,
         .memory = LENGTH_FIRST,
         .o = TENON_F32},
        {.name = "wide range", .heads = 2, .queries = 65, .keys = 300, .d = 64, .amplitude = 8},
        {.name = "logits of 1e4",
         .heads = 2,
         .queries = 40,
         .keys = 300,
         .d = 16,
         .scale = 1,
         .amplitude = 35},
        {.name = "bytes",
         .heads = 4,
         .kv_heads = 2,
         .queries = 33,
         .keys = 77,
         .d = 24,
         .k = TENON_S8,
         .k_scale = 3,
         .v = TENON_F8_E5M2,
         .o = TENON_F32},
        {.name = "bytes, scaled",
         .heads = 4,
         .kv_heads = 2,
         .queries = 20,
         .keys = 77,
         .d = 24,
         .k = TENON_F8_E4M3,
         .v = TENON_S8,
         .k_scale = 2,
         .v_scale = 3},
    };
    world w = world_start("attention halves", device_id[_i]);
    for (size_t f = 0; f < sizeof features / sizeof *features; ++f)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s) {
            attention_case x = features[f];
            x.batch = sizes[s].batch;
            x.heads = sizes[s].heads;
            x.kv_heads = sizes[s].kv_heads;
            x.queries = sizes[s].queries;
            x.keys = sizes[s].keys;
            x.d = sizes[s].d;
            x.dv = sizes[s].dv;
            x.q = (f + s) % 2 ? TENON_F16 : TENON_BF16;
            if (!x.k_scale)
                x.k = x.q;
            run_attention_case(&w, &x);
        }
    for (size_t i = 0; i < sizeof more / sizeof *more; ++i)
        for (int type = 0; type < 2; ++type) {
            attention_case x = more[i];
            x.q = type ? TENON_F16 : TENON_BF16;
            run_attention_case(&w, &x);
        }
    world_end(&w);
}
END_TEST

/* Fields meet each other: drawn at random, as far as they go together. */
START_TEST(combinations) {
    static const tenon_dtype type[] = {TENON_F32, TENON_F32, TENON_BF16, TENON_F16, TENON_F64};
    world w = world_start("attention combinations", device_id[_i]);
    for (int i = 0; i < 250; ++i) {
        rng *r = &w.random;
        attention_case x = {
            .name = "combination", .batch = rng_between(r, 1, 3), .kv_heads = rng_between(r, 1, 3)};
        x.heads = x.kv_heads * rng_between(r, 1, 4);
        x.queries = rng_below(r, 3) ? rng_between(r, 1, 70) : 1;
        x.keys = rng_between(r, 1, 200);
        x.d = rng_between(r, 1, 70);
        x.dv = rng_between(r, 1, 70);
        x.q = type[rng_below(r, 5)];
        x.k = type[rng_below(r, 5)];
        x.v = type[rng_below(r, 5)];
        x.o = type[rng_below(r, 5)];
        x.extra = type[rng_below(r, 5)];
        x.memory = (arrangement)(rng_below(r, 2)   ? HEADS_FIRST
                                 : rng_below(r, 2) ? LENGTH_FIRST
                                                   : SPACED);
        x.causal = (tenon_causal)rng_below(r, 3);
        if (rng_below(r, 3) == 0)
            x.window = (tenon_window){
                .enabled = 1, .left = rng_between(r, -1, 80), .right = rng_between(r, -1, 20)};
        if (rng_below(r, 3) == 0)
            x.softcap = 3;
        x.bias = rng_below(r, 2) ? 0 : (int32_t)rng_between(r, 1, 4);
        x.mask = rng_below(r, 2) ? 0 : (int32_t)rng_between(r, 1, 4);
        x.alibi = (int32_t)rng_below(r, 3);
        x.sinks = (int32_t)rng_below(r, 2);
        x.offsets = (int32_t)rng_below(r, 2);
        x.ragged_q = rng_below(r, 4) == 0;
        switch (rng_below(r, 4)) {
        case 0:
            x.ragged_k = 1;
            break;
        case 1:
            x.lengths = 1;
            break;
        case 2:
            x.block_size = rng_between(r, 1, 40);
            break;
        default:
            break;
        }
        run_attention_case(&w, &x);
    }
    world_end(&w);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {shapes, head_dims,   long_rows, extremes,    layouts,
                                  types,  every_field, halves,    combinations};
    return conform_main("conformance attention", tests, sizeof tests / sizeof *tests);
}
