/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same bits (docs/NUMERICS.md, 8) for a part computed alone as within the whole, and for any layout: rows and columns of a product, rows of a
 * softmax, queries, heads and sequences of an attention.
 */
#include "plain.h"

#include <string.h>

/* ---------------------------------------------------------------- parts of a product */

static void run_gemm(world *w, const tenon_gemm_desc *g) {
    if (tenon_gemm(w->ctx, g) != TENON_OK)
        ck_abort_msg("%s: %s: %s", w->device, w->what, tenon_error_message(w->ctx));
}

static void parts_of_product(world *w, tenon_dtype a, tenon_dtype b, tenon_dtype c, int64_t k,
                             tenon_compute compute) {
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 31, 64, 130};
    const int64_t m = 283, n = 135;
    if (world_leaves_out(w, (double)(m * n * k)))
        return;
    world_case(w, "gemm %s %s -> %s, k %lld", tenon_dtype_name(a), tenon_dtype_name(b),
               tenon_dtype_name(c), (long long)k);
    tenon_gemm_desc whole = product(w, a, b, c, m, n, k);
    whole.compute = compute;
    tenon_gemm_desc g = whole;
    run_gemm(w, &whole);

    g.c = empty(w, c, 2, (const int64_t[2]){m, n});
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s) {
        tenon_gemm_desc x = g;
        const int64_t row = rng_below(&w->random, m - sizes[s] + 1),
                      column = rng_below(&w->random, n - sizes[s] + 1);
        x.a = part(g.a, 0, row, sizes[s]);
        x.c = part(g.c, 0, row, sizes[s]);
        run_gemm(w, &x);
        const tenon_tensor rows = part(whole.c, 0, row, sizes[s]);
        expect_same(w, "some rows", &x.c, &rows);

        x.b = part(g.b, 1, column, sizes[s]);
        x.c = part(x.c, 1, column, sizes[s]);
        run_gemm(w, &x);
        const tenon_tensor block = part(rows, 1, column, sizes[s]);
        expect_same(w, "some rows and columns", &x.c, &block);
    }

    for (int turn = 0; turn < 8; ++turn) {
        tenon_gemm_desc x = g;
        if (turn & 1)
            x.a = transposed_copy(w, &g.a);
        if (turn & 2 && b < TENON_Q8_0)
            x.b = transposed_copy(w, &g.b);
        if (turn & 4)
            x.c = transposed_copy(w, &g.c);
        run_gemm(w, &x);
        expect_same(w, "transposed operands", &x.c, &whole.c);
        x.a = part(x.a, 0, 20, 1);
        x.c = part(x.c, 0, 20, 1);
        const tenon_tensor row = part(whole.c, 0, 20, 1);
        run_gemm(w, &x);
        expect_same(w, "one row of transposed operands", &x.c, &row);
    }

    pack_b(w, &g);
    run_gemm(w, &g);
    expect_same(w, "packed", &g.c, &whole.c);
    g.a = part(g.a, 0, 20, 1);
    g.c = part(g.c, 0, 20, 1);
    const tenon_tensor row = part(whole.c, 0, 20, 1);
    run_gemm(w, &g);
    expect_same(w, "packed, one row", &g.c, &row);
}

START_TEST(parts_of_products) {
    static const int64_t k[] = {1, 37, 256, 300, 1100};
    world w = world_start("parts of products", device_id[_i]);
    for (size_t i = 0; i < sizeof k / sizeof *k; ++i) {
        parts_of_product(&w, TENON_F32, TENON_F32, TENON_F32, k[i], TENON_COMPUTE_DEFAULT);
        parts_of_product(&w, TENON_F64, TENON_F64, TENON_F64, k[i], TENON_COMPUTE_DEFAULT);
        parts_of_product(&w, TENON_BF16, TENON_BF16, TENON_BF16, k[i], TENON_COMPUTE_DEFAULT);
        parts_of_product(&w, TENON_F32, TENON_F16, TENON_F32, k[i], TENON_COMPUTE_DEFAULT);
        parts_of_product(&w, TENON_BF16, TENON_S8, TENON_F32, k[i], TENON_COMPUTE_DEFAULT);
        parts_of_product(&w, TENON_S8, TENON_S8, TENON_F32, k[i], TENON_COMPUTE_DEFAULT);
    }
    world_end(&w);
}
END_TEST

START_TEST(parts_of_products_with_blocks) {
    world w = world_start("parts of products with blocks", device_id[_i]);
    for (int type = TENON_Q8_0; type <= TENON_NVFP4 && has_blocks(&w); ++type) {
        parts_of_product(&w, TENON_F32, (tenon_dtype)type, TENON_F32, 768, TENON_COMPUTE_EXACT);
        parts_of_product(&w, TENON_F32, (tenon_dtype)type, TENON_F32, 768, TENON_COMPUTE_FAST);
        parts_of_product(&w, TENON_BF16, (tenon_dtype)type, TENON_BF16, 256, TENON_COMPUTE_FAST);
    }
    world_end(&w);
}
END_TEST

/* A packed B is refused, and C untouched, where it was packed for something else. */
static void expect_refused(world *w, tenon_gemm_desc packed_as, tenon_gemm_desc g,
                           const char *sentence) {
    const int64_t rows = 3, columns = g.gated ? 8 : 16;
    packed_as.a = g.a;
    pack_b(w, &packed_as);
    if (!packed_as.b_packed)
        return; /* no packed form here */
    g.b.data = NULL;
    g.b_packed = packed_as.b_packed;
    g.b_packed_bytes = packed_as.b_packed_bytes;
    g.c = empty(w, TENON_F32, 2, (const int64_t[2]){rows, columns});
    memset(g.c.data, 0x5a, (size_t)(rows * columns) * sizeof(float));
    const tenon_status status = tenon_gemm(w->ctx, &g);
    const char *said = tenon_error_message(w->ctx);
    ck_assert_msg(status == TENON_ERROR_INVALID_ARGUMENT, "%s: %s: %s", w->device, sentence,
                  tenon_status_name(status));
    ck_assert_msg(strstr(said, sentence), "%s: does not say %s: %s", w->device, sentence, said);
    for (int64_t i = 0; i < rows * columns * (int64_t)sizeof(float); ++i)
        ck_assert_msg(((unsigned char *)g.c.data)[i] == 0x5a, "%s: %s: c is written", w->device,
                      sentence);
}

START_TEST(packed_for_another) {
    world w = world_start("packed for another product", device_id[_i]);
    const tenon_gemm_desc plain = product(&w, TENON_F32, TENON_F32, TENON_F32, 3, 16, 16);
    const tenon_gemm_desc half = product(&w, TENON_F32, TENON_BF16, TENON_F32, 3, 16, 16);
    tenon_gemm_desc halves = plain, interleaved = plain, scaled = plain, shifted = plain,
                    scaled_half = plain;
    halves.gated = TENON_GATED_HALVES;
    interleaved.gated = TENON_GATED_INTERLEAVED;
    scaled.b_scale = filled(&w, TENON_F32, 2, (const int64_t[2]){1, 16});
    scaled_half.b_scale = filled(&w, TENON_BF16, 2, (const int64_t[2]){1, 16});
    shifted.b_zero = filled(&w, TENON_F32, 2, (const int64_t[2]){1, 16});
    expect_refused(&w, interleaved, halves, "packed with gated = interleaved, expected halves");
    expect_refused(&w, halves, interleaved, "packed with gated = halves, expected interleaved");
    expect_refused(&w, halves, plain, "packed with gated = halves, expected none");
    expect_refused(&w, plain, interleaved, "packed with gated = none, expected interleaved");
    expect_refused(&w, half, plain, "packed with b.dtype = bf16, expected f32");
    expect_refused(&w, plain, half, "packed with b.dtype = f32, expected bf16");
    expect_refused(&w, scaled, plain, "packed with b_scale.dtype = f32, expected none");
    expect_refused(&w, plain, scaled, "packed with b_scale.dtype = none, expected f32");
    expect_refused(&w, scaled_half, scaled, "packed with b_scale.dtype = bf16, expected f32");
    expect_refused(&w, shifted, plain, "packed with b_zero.dtype = f32, expected none");
    expect_refused(&w, plain, shifted, "packed with b_zero.dtype = none, expected f32");
    expect_refused(&w, scaled, shifted, "packed with b_scale.dtype = f32, expected none");
    world_end(&w);
}
END_TEST

START_TEST(batches_of_products) {
    const int64_t a_shape[3] = {5, 9, 130}, b_shape[3] = {5, 130, 40}, c_shape[3] = {5, 9, 40};
    const int32_t offsets[6] = {0, 9, 18, 27, 36, 45};
    world w = world_start("batches of products", device_id[_i]);
    world_case(&w, "batch");
    tenon_gemm_desc batch = {.a = filled(&w, TENON_F32, 3, a_shape),
                             .b = filled(&w, TENON_F32, 3, b_shape),
                             .c = empty(&w, TENON_F32, 3, c_shape),
                             .activation = TENON_ACTIVATION_SILU};
    run_gemm(&w, &batch);
    for (int64_t i = 0; i < 5; ++i) {
        tenon_gemm_desc one = batch;
        one.a = part(batch.a, 0, i, 1);
        one.b = part(batch.b, 0, i, 1);
        one.c = empty(&w, TENON_F32, 3, (const int64_t[3]){1, 9, 40});
        const tenon_tensor member = part(batch.c, 0, i, 1);
        run_gemm(&w, &one);
        expect_same(&w, "one member", &one.c, &member);
    }
    tenon_gemm_desc grouped = batch;
    grouped.a = tenon_matrix(batch.a.data, TENON_F32, 45, 130);
    grouped.c = empty(&w, TENON_F32, 2, (const int64_t[2]){45, 40});
    grouped.group_offsets = tenon_vector(offsets, TENON_S32, 6);
    run_gemm(&w, &grouped);
    expect_same(&w, "as groups", &grouped.c, &batch.c);
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- rows of a softmax */

static void rows_of_softmax(world *w, tenon_dtype x, tenon_dtype y, int64_t length, int log) {
    const int64_t rows = 19, shape[2] = {rows, length};
    world_case(w, "softmax %s -> %s, %lld, log %d", tenon_dtype_name(x), tenon_dtype_name(y),
               (long long)length, log);
    const tenon_softmax_desc whole = {
        .x = filled(w, x, 2, shape), .y = empty(w, y, 2, shape), .log = log};
    tenon_softmax_desc s = whole;
    ck_assert_int_eq(tenon_softmax(w->ctx, &whole), TENON_OK);

    s.y = empty(w, y, 2, shape);
    for (int64_t row = 0; row < rows; row += 3) {
        tenon_softmax_desc one = s;
        one.x = part(s.x, 0, row, 1);
        one.y = part(s.y, 0, row, 1);
        const tenon_tensor expected = part(whole.y, 0, row, 1);
        ck_assert_int_eq(tenon_softmax(w->ctx, &one), TENON_OK);
        expect_same(w, "one row", &one.y, &expected);
    }
    s.x = transposed_copy(w, &whole.x);
    ck_assert_int_eq(tenon_softmax(w->ctx, &s), TENON_OK);
    expect_same(w, "transposed", &s.y, &whole.y);
    s.y = transposed_copy(w, &whole.y);
    s.axis = &(int32_t){1};
    ck_assert_int_eq(tenon_softmax(w->ctx, &s), TENON_OK);
    expect_same(w, "both transposed", &s.y, &whole.y);
}

START_TEST(rows_of_softmaxes) {
    static const int64_t length[] = {1, 7, 16, 33, 500, 2048, 2049, 5000};
    world w = world_start("rows of softmaxes", device_id[_i]);
    for (size_t i = 0; i < sizeof length / sizeof *length; ++i)
        for (int log = 0; log < 2; ++log) {
            rows_of_softmax(&w, TENON_F32, TENON_F32, length[i], log);
            rows_of_softmax(&w, TENON_F64, TENON_F64, length[i], log);
            rows_of_softmax(&w, TENON_BF16, TENON_F32, length[i], log);
        }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- parts of an attention */

static void run_attention(world *w, const tenon_attention_desc *a) {
    if (tenon_attention(w->ctx, a) != TENON_OK)
        ck_abort_msg("%s: %s: %s", w->device, w->what, tenon_error_message(w->ctx));
}

/* Queries `first` … of `whole`, computed alone with keys up to `keys`. */
static void expect_queries(world *w, const tenon_attention_desc *whole, int64_t first,
                           int64_t count, int64_t keys, const char *how) {
    const int64_t offset =
        (whole->causal == TENON_CAUSAL_TOP_LEFT ? 0 : whole->k.shape[2] - whole->q.shape[2]) +
        first;
    int64_t offsets[8];
    tenon_attention_desc x = *whole;
    for (int i = 0; i < 8; ++i)
        offsets[i] = offset;
    x.query_offsets = tenon_vector(offsets, TENON_S64, whole->q.shape[0]);
    x.q = part(whole->q, 2, first, count);
    x.k = part(whole->k, 2, 0, keys);
    x.v = part(whole->v, 2, 0, keys);
    x.o = empty(w, whole->o.dtype, 4,
                (const int64_t[4]){x.q.shape[0], x.q.shape[1], count, x.v.shape[3]});
    x.lse = empty(w, TENON_F32, 3, x.q.shape);
    if (whole->bias.rank)
        x.bias = part(part(whole->bias, 2, first, count), 3, 0, keys);
    if (whole->mask.rank)
        x.mask = part(part(whole->mask, 2, first, count), 3, 0, keys);
    run_attention(w, &x);
    const tenon_tensor o = part(whole->o, 2, first, count), lse = part(whole->lse, 2, first, count);
    expect_same(w, how, &x.o, &o);
    expect_same(w, how, &x.lse, &lse);
}

static void parts_of_attention(world *w, tenon_attention_desc whole) {
    const int64_t queries = whole.q.shape[2], keys = whole.k.shape[2],
                  group = whole.q.shape[1] / whole.k.shape[1];
    run_attention(w, &whole);
    for (int64_t first = 0; first < queries; first += 7)
        expect_queries(w, &whole, first, 1, keys, "one query");
    expect_queries(w, &whole, 3, 2, keys, "two queries");
    expect_queries(w, &whole, 5, queries - 5, keys, "most queries");
    if (whole.causal == TENON_CAUSAL_TOP_LEFT)
        for (int64_t first = 0; first < queries; first += 5)
            expect_queries(w, &whole, first, 1, first + 1, "decoding");

    if (whole.bias.rank || whole.mask.rank || whole.alibi.rank || whole.sinks.rank)
        return;
    for (int64_t h = 0; h < whole.q.shape[1]; ++h) {
        tenon_attention_desc one = whole;
        one.q = part(whole.q, 1, h, 1);
        one.k = part(whole.k, 1, h / group, 1);
        one.v = part(whole.v, 1, h / group, 1);
        one.o = empty(w, whole.o.dtype, 4, (const int64_t[4]){1, 1, queries, whole.v.shape[3]});
        one.lse = empty(w, TENON_F32, 3, one.q.shape);
        run_attention(w, &one);
        const tenon_tensor o = part(whole.o, 1, h, 1), lse = part(whole.lse, 1, h, 1);
        expect_same(w, "one head", &one.o, &o);
        expect_same(w, "one head", &one.lse, &lse);
    }
}

START_TEST(parts_of_attentions) {
    world w = world_start("parts of attentions", device_id[_i]);
    static const tenon_dtype type[] = {TENON_F32, TENON_BF16, TENON_F64};
    for (int t = 0; t < 3; ++t)
        for (int64_t keys = 45; keys < 900; keys += 570) {
            world_case(&w, "attention %s, %lld keys", tenon_dtype_name(type[t]), (long long)keys);
            tenon_attention_desc x = attention(&w, type[t], 1, 4, 2, 45, keys, 40);
            parts_of_attention(&w, x);
            x.causal = TENON_CAUSAL_TOP_LEFT;
            parts_of_attention(&w, x);
            x.causal = TENON_CAUSAL_BOTTOM_RIGHT;
            x.window = (tenon_window){.enabled = 1, .left = 30, .right = -1};
            x.softcap = 4;
            parts_of_attention(&w, x);
            x.window = (tenon_window){0};
            x.alibi = filled(&w, TENON_F32, 1, &x.q.shape[1]);
            for (int h = 0; h < 4; ++h)
                ((float *)x.alibi.data)[h] = 0.1f * (float)h;
            x.sinks = filled(&w, TENON_F32, 1, &x.q.shape[1]);
            x.mask = filled(&w, TENON_BOOL, 4, (const int64_t[4]){1, 4, 45, keys});
            x.bias = filled(&w, TENON_F32, 4, (const int64_t[4]){1, 1, 45, keys});
            parts_of_attention(&w, x);
        }
    world_end(&w);
}
END_TEST

/* Sequences of a ragged, paged batch against each of them alone with its keys side by side. */
START_TEST(sequences) {
    enum { BATCH = 5, BLOCK = 16, HEADS = 4, KV = 2, D = 32 };
    static const int32_t queries[BATCH] = {1, 7, 0, 33, 1}, keys[BATCH] = {300, 7, 5, 290, 1};
    int32_t cu_q[BATCH + 1] = {0}, blocks = 0;
    world w = world_start("sequences", device_id[_i]);
    world_case(&w, "ragged and paged");
    for (int b = 0; b < BATCH; ++b)
        cu_q[b + 1] = cu_q[b] + queries[b];

    const int64_t total = cu_q[BATCH], most = (300 + BLOCK - 1) / BLOCK,
                  cache_shape[4] = {BATCH * most, KV, BLOCK, D};
    const int64_t q_shape[4] = {1, HEADS, total, D};
    int32_t *table = world_alloc(&w, sizeof *table * (size_t)(BATCH * most));
    for (int64_t b = 0; b < BATCH; ++b)
        for (int64_t i = 0; i < most; ++i)
            table[b * most + i] = (int32_t)((blocks++ * 37) % (BATCH * most));
    ck_assert_int_ne((int)(BATCH * most) % 37, 0);

    tenon_attention_desc batch = {
        .q = filled(&w, TENON_F32, 4, q_shape),
        .k = filled(&w, TENON_BF16, 4, cache_shape),
        .v = filled(&w, TENON_BF16, 4, cache_shape),
        .o = empty(&w, TENON_F32, 4, q_shape),
        .lse = empty(&w, TENON_F32, 3, q_shape),
        .causal = TENON_CAUSAL_BOTTOM_RIGHT,
        .cu_seqlens_q = tenon_vector(cu_q, TENON_S32, BATCH + 1),
        .key_lengths = tenon_vector(keys, TENON_S32, BATCH),
        .block_table = tenon_matrix(table, TENON_S32, BATCH, most),
    };
    run_attention(&w, &batch);

    for (int b = 0; b < BATCH; ++b) {
        const int64_t shape[4] = {1, KV, keys[b], D};
        tenon_attention_desc one = {.q = part(batch.q, 2, cu_q[b], queries[b]),
                                    .k = empty(&w, TENON_BF16, 4, shape),
                                    .v = empty(&w, TENON_BF16, 4, shape),
                                    .causal = TENON_CAUSAL_BOTTOM_RIGHT};
        for (int64_t h = 0; h < KV; ++h)
            for (int64_t j = 0; j < keys[b]; ++j) {
                const int64_t from =
                                  ((table[b * most + j / BLOCK] * KV + h) * BLOCK + j % BLOCK) * D,
                              to = (h * keys[b] + j) * D;
                memcpy((uint16_t *)one.k.data + to, (const uint16_t *)batch.k.data + from,
                       D * sizeof(uint16_t));
                memcpy((uint16_t *)one.v.data + to, (const uint16_t *)batch.v.data + from,
                       D * sizeof(uint16_t));
            }
        one.o = empty(&w, TENON_F32, 4, one.q.shape);
        one.lse = empty(&w, TENON_F32, 3, one.q.shape);
        run_attention(&w, &one);
        const tenon_tensor o = part(batch.o, 2, cu_q[b], queries[b]),
                           lse = part(batch.lse, 2, cu_q[b], queries[b]);
        expect_same(&w, "a sequence alone", &one.o, &o);
        expect_same(&w, "a sequence alone", &one.lse, &lse);
    }
    world_end(&w);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {packed_for_another,
                                  parts_of_products,
                                  parts_of_products_with_blocks,
                                  batches_of_products,
                                  rows_of_softmaxes,
                                  parts_of_attentions,
                                  sequences};
    return conform_main("conformance parts", tests, sizeof tests / sizeof *tests);
}
