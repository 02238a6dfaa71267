/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference against values worked out by hand from the formulas of the public headers, through the public calls. Nothing here is
 * computed by the code under test: scores are logarithms of small integers, so that every weight is a ratio of integers.
 */
#include <tenon/tenon.h>

#include <check.h>
#include <math.h>

#include "suite.h"

#define LN2 0.69314718055994530942
#define LN3 1.09861228866810969140
#define CLOSE(value, expected)                                                                     \
    ck_assert_double_eq_tol(value, expected, 1e-14 * (1 + fabs((double)(expected))))

static tenon_context *ctx;

static void start(void) {
    const tenon_context_desc desc = {.device = "reference"};
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
}

static void stop(void) {
    tenon_context_destroy(ctx);
}

#define OK(call) ck_assert_msg((call) == TENON_OK, "%s", tenon_error_message(ctx))

/* ---------------------------------------------------------------- gemm */

START_TEST(product) {
    const double a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {7, 8, 9, 10, 11, 12};
    double c[4];
    tenon_gemm_desc g = {.a = tenon_matrix(a, TENON_F64, 2, 3),
                         .b = tenon_matrix(b, TENON_F64, 3, 2),
                         .c = tenon_matrix(c, TENON_F64, 2, 2)};
    OK(tenon_gemm(ctx, &g));
    ck_assert(c[0] == 58 && c[1] == 64 && c[2] == 139 && c[3] == 154);

    /* The same numbers read the other way round: Aᵀ is columns of a 3×2. */
    g.a = tenon_transposed(tenon_matrix(a, TENON_F64, 3, 2));
    g.b = tenon_transposed(tenon_matrix(b, TENON_F64, 2, 3));
    OK(tenon_gemm(ctx, &g));
    ck_assert(c[0] == 1 * 7 + 3 * 8 + 5 * 9 && c[1] == 1 * 10 + 3 * 11 + 5 * 12);
    ck_assert(c[2] == 2 * 7 + 4 * 8 + 6 * 9 && c[3] == 2 * 10 + 4 * 11 + 6 * 12);
}
END_TEST

START_TEST(epilogue) {
    /* z = 2·(1·3 + 2·4) + 0.5·c + bias = 22 + 0.5·c + bias */
    const double a[2] = {1, 2}, b[2] = {3, 4}, alpha = 2, bias = -30, residual = 1000;
    double c = 10;
    tenon_gemm_desc g = {.a = tenon_matrix(a, TENON_F64, 1, 2),
                         .b = tenon_matrix(b, TENON_F64, 2, 1),
                         .c = tenon_matrix(&c, TENON_F64, 1, 1),
                         .alpha = &alpha,
                         .beta = 0.5,
                         .bias = tenon_vector(&bias, TENON_F64, 1),
                         .residual = tenon_vector(&residual, TENON_F64, 1),
                         .activation = TENON_ACTIVATION_RELU};
    OK(tenon_gemm(ctx, &g));
    ck_assert(c == 0 + 1000); /* relu(22 + 5 - 30) + 1000 */

    c = 20;
    g.activation = TENON_ACTIVATION_CLAMP;
    g.clamp_low = -1;
    g.clamp_high = 1.5;
    OK(tenon_gemm(ctx, &g));
    ck_assert(c == 1.5 + 1000); /* clamp(22 + 10 - 30) */
}
END_TEST

START_TEST(activations) {
    static const struct {
        tenon_activation kind;
        double x, y;
    } known[] = {
        {TENON_ACTIVATION_NONE, -3, -3},
        {TENON_ACTIVATION_GELU, 1, 0.84134474606854294859},      /* Φ(1) */
        {TENON_ACTIVATION_GELU, -2, -0.04550026389635841440},    /* -2·Φ(-2) */
        {TENON_ACTIVATION_GELU_TANH, 1, 0.84119199060827670478}, /* x/2·(1 + tanh(0.83356…)) */
        {TENON_ACTIVATION_SILU, LN3, LN3 * 0.75},                /* 1/(1 + 1/3) */
        {TENON_ACTIVATION_SIGMOID, -LN3, 0.25},
        {TENON_ACTIVATION_TANH, LN2, 0.6}, /* (4 - 1)/(4 + 1) */
    };
    const double one = 1;
    for (size_t i = 0; i < sizeof known / sizeof *known; ++i) {
        double c;
        const tenon_gemm_desc g = {.a = tenon_matrix(&known[i].x, TENON_F64, 1, 1),
                                   .b = tenon_matrix(&one, TENON_F64, 1, 1),
                                   .c = tenon_matrix(&c, TENON_F64, 1, 1),
                                   .activation = known[i].kind};
        OK(tenon_gemm(ctx, &g));
        CLOSE(c, known[i].y);
    }
}
END_TEST

START_TEST(gated) {
    /* z = (2, 3, 5, 7): halves pair 2·5 and 3·7, interleaved 2·3 and 5·7 */
    const double a = 1, b[4] = {2, 3, 5, 7};
    double c[2];
    tenon_gemm_desc g = {.a = tenon_matrix(&a, TENON_F64, 1, 1),
                         .b = tenon_matrix(b, TENON_F64, 1, 4),
                         .c = tenon_matrix(c, TENON_F64, 1, 2),
                         .gated = TENON_GATED_HALVES};
    OK(tenon_gemm(ctx, &g));
    ck_assert(c[0] == 10 && c[1] == 21);
    g.gated = TENON_GATED_INTERLEAVED;
    OK(tenon_gemm(ctx, &g));
    ck_assert(c[0] == 6 && c[1] == 35);
}
END_TEST

START_TEST(quantised) {
    /* Two groups of two: 0.5·((10-1)·1 + (20-1)·2) + 0.25·((30-3)·3 + (40-3)·4) = 23.5 + 57.25 */
    const double a[4] = {1, 2, 3, 4};
    const uint8_t b[4] = {10, 20, 30, 40}, zero[2] = {1, 3};
    const float scale[2] = {0.5f, 0.25f};
    double c;
    const tenon_gemm_desc g = {.a = tenon_matrix(a, TENON_F64, 1, 4),
                               .b = tenon_matrix(b, TENON_U8, 4, 1),
                               .c = tenon_matrix(&c, TENON_F64, 1, 1),
                               .b_scale = tenon_matrix(scale, TENON_F32, 2, 1),
                               .b_zero = tenon_matrix(zero, TENON_U8, 2, 1)};
    OK(tenon_gemm(ctx, &g));
    ck_assert(c == 80.75);

    /* Out: 58 / 4 + 3 = 17.5 goes to 18 (even), 1000 / 4 + 3 saturates; s32 sums saturate too. */
    const int8_t p[2] = {58, 100}, q[1] = {1}, ten[1] = {10};
    int8_t out[2];
    const double by = 4, plus = 3;
    tenon_gemm_desc s = {.a = tenon_matrix(p, TENON_S8, 2, 1),
                         .b = tenon_matrix(q, TENON_S8, 1, 1),
                         .c = tenon_matrix(out, TENON_S8, 2, 1),
                         .c_scale = tenon_vector(&by, TENON_F64, 1),
                         .c_zero = tenon_vector(&plus, TENON_F64, 1)};
    OK(tenon_gemm(ctx, &s));
    ck_assert_int_eq(out[0], 18);
    s.b.data = (void *)ten;
    OK(tenon_gemm(ctx, &s));
    ck_assert_int_eq(out[1], 127);
}
END_TEST

START_TEST(experts) {
    const double a[4] = {1, 10, 100, 1000}, b[3] = {2, 3, 5};
    const int64_t offsets[4] = {0, 1, 1, 3};
    double c[4] = {-1, -1, -1, -1};
    const tenon_gemm_desc g = {.a = tenon_matrix(a, TENON_F64, 4, 1),
                               .b = tenon_tensor3(b, TENON_F64, 3, 1, 1),
                               .c = tenon_matrix(c, TENON_F64, 4, 1),
                               .group_offsets = tenon_vector(offsets, TENON_S64, 4)};
    OK(tenon_gemm(ctx, &g));
    ck_assert(c[0] == 2 && c[1] == 50 && c[2] == 500 && c[3] == -1);
}
END_TEST

/* ---------------------------------------------------------------- softmax */

START_TEST(softmax) {
    const double x[3] = {0, LN2, LN3}, sink = LN2 + LN2;
    double y[3], lse;
    const uint8_t keep[3] = {1, 0, 1};
    tenon_softmax_desc s = {.x = tenon_tensor3(x, TENON_F64, 1, 1, 3),
                            .y = tenon_tensor3(y, TENON_F64, 1, 1, 3),
                            .lse = tenon_matrix(&lse, TENON_F64, 1, 1)};
    OK(tenon_softmax(ctx, &s));
    CLOSE(y[0], 1 / 6.0);
    CLOSE(y[1], 2 / 6.0);
    CLOSE(y[2], 3 / 6.0);
    CLOSE(lse, log(6));
    s.sinks = tenon_vector(&sink, TENON_F64, 1);
    OK(tenon_softmax(ctx, &s));
    CLOSE(y[2], 3 / 10.0);
    CLOSE(lse, log(10));
    s.mask = tenon_vector(keep, TENON_BOOL, 3);
    OK(tenon_softmax(ctx, &s));
    CLOSE(y[0], 1 / 8.0);
    ck_assert(y[1] == 0);
    s.log = 1;
    OK(tenon_softmax(ctx, &s));
    CLOSE(y[2], log(3 / 8.0));
    ck_assert(y[1] == -INFINITY);
}
END_TEST

START_TEST(softmax_nothing_left) {
    const double x[4] = {NAN, 1, NAN, INFINITY},
                 bias[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    double y[4], lse[1];
    tenon_softmax_desc s = {.x = tenon_matrix(x, TENON_F64, 1, 4),
                            .y = tenon_matrix(y, TENON_F64, 1, 4),
                            .bias = tenon_vector(bias, TENON_F64, 4),
                            .lse = tenon_vector(lse, TENON_F64, 1)};
    OK(tenon_softmax(ctx, &s));
    for (int j = 0; j < 4; ++j)
        ck_assert(y[j] == 0);
    ck_assert(lse[0] == -INFINITY);
    s.bias = (tenon_tensor){0};
    OK(tenon_softmax(ctx, &s));
    for (int j = 0; j < 4; ++j)
        ck_assert(isnan(y[j]));
}
END_TEST

START_TEST(softmax_axis) {
    const double x[4] = {0, LN2, LN3, 0}; /* columns (0, ln3) and (ln2, 0) */
    double y[4];
    const int32_t axis = 0;
    const tenon_softmax_desc s = {.x = tenon_matrix(x, TENON_F64, 2, 2),
                                  .y = tenon_matrix(y, TENON_F64, 2, 2),
                                  .axis = &axis};
    OK(tenon_softmax(ctx, &s));
    CLOSE(y[0], 1 / 4.0);
    CLOSE(y[2], 3 / 4.0);
    CLOSE(y[1], 2 / 3.0);
    CLOSE(y[3], 1 / 3.0);
}
END_TEST

/* ---------------------------------------------------------------- attention: d = 1, q = 1, scale 1, so that s = k = log(weight) */

typedef struct tiny {
    double q[4], k[8], v[8], o[4], lse[4], one;
    tenon_attention_desc d;
} tiny;

/* `queries` queries over keys of weights 1, 2, 3, 4 and values 1, 10, 100, 1000. */
static tiny *weighted(int64_t queries) {
    static tiny t;
    static const double k[4] = {0, LN2, LN3, 2 * LN2}, v[4] = {1, 10, 100, 1000};
    t = (tiny){.q = {1, 1, 1, 1}, .one = 1};
    for (int i = 0; i < 4; ++i) {
        t.k[i] = k[i];
        t.v[i] = v[i];
    }
    t.d = (tenon_attention_desc){
        .q = tenon_tensor4(t.q, TENON_F64, 1, 1, queries, 1),
        .k = tenon_tensor4(t.k, TENON_F64, 1, 1, 4, 1),
        .v = tenon_tensor4(t.v, TENON_F64, 1, 1, 4, 1),
        .o = tenon_tensor4(t.o, TENON_F64, 1, 1, queries, 1),
        .lse = tenon_tensor3(t.lse, TENON_F64, 1, 1, queries),
        .scale = &t.one,
    };
    return &t;
}

START_TEST(attention) {
    tiny *t = weighted(1);
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], 4321 / 10.0);
    CLOSE(t->lse[0], log(10));

    const double sink = LN2 + LN3;
    t->d.sinks = tenon_vector(&sink, TENON_F64, 1);
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], 4321 / 16.0);
    CLOSE(t->lse[0], log(16));
}
END_TEST

START_TEST(attention_alignment) {
    tiny *t = weighted(2);
    t->d.causal = TENON_CAUSAL_TOP_LEFT; /* query 0 sees key 0, query 1 keys 0 and 1 */
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], 1);
    CLOSE(t->o[1], 21 / 3.0);
    t->d.causal = TENON_CAUSAL_BOTTOM_RIGHT; /* positions 2 and 3 */
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], 321 / 6.0);
    CLOSE(t->o[1], 4321 / 10.0);
    t->d.causal = TENON_CAUSAL_NONE;
    t->d.window = (tenon_window){.enabled = 1, .left = 1, .right = 0}; /* keys 1, 2 and 2, 3 */
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], 320 / 5.0);
    CLOSE(t->o[1], 4300 / 7.0);
    const int64_t offset = -1; /* positions -1 and 0: the first sees nothing */
    t->d.query_offsets = tenon_vector(&offset, TENON_S64, 1);
    OK(tenon_attention(ctx, &t->d));
    ck_assert(t->o[0] == 0 && t->lse[0] == -INFINITY);
    CLOSE(t->o[1], 1);
}
END_TEST

START_TEST(attention_alibi_bias_softcap) {
    tiny *t = weighted(1); /* position 3: distances 3, 2, 1, 0 */
    const double slope = LN2, rising = -LN2, bias[4] = {LN3, -INFINITY, 0, 0};
    t->d.alibi = tenon_vector(&slope, TENON_F64, 1);
    OK(tenon_attention(ctx, &t->d)); /* weights 1/8, 2/4, 3/2, 4 */
    CLOSE(t->o[0], (1 / 8.0 + 20 / 4.0 + 300 / 2.0 + 4000) / (1 / 8.0 + 2 / 4.0 + 3 / 2.0 + 4));

    t->d.alibi = tenon_vector(&rising, TENON_F64, 1);
    OK(tenon_attention(ctx, &t->d)); /* weights 8, 2·4, 3·2, 4 */
    CLOSE(t->o[0], (8 + 80 + 600 + 4000) / 26.0);
    t->d.alibi = tenon_vector(&slope, TENON_F64, 1);

    t->d.bias = tenon_vector(bias, TENON_F64, 4);
    t->v[1] = NAN; /* masked by its bias: never looked at */
    t->k[1] = NAN;
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], (3 / 8.0 + 300 / 2.0 + 4000) / (3 / 8.0 + 3 / 2.0 + 4));

    t = weighted(1); /* soft cap 1: s = tanh(k), exp(tanh(k)) with tanh(0) = 0, 0.6, 0.8, 15/17 */
    t->d.softcap = 1;
    OK(tenon_attention(ctx, &t->d));
    const double w1 = exp(0.6), w2 = exp(0.8), w3 = exp(15 / 17.0);
    CLOSE(t->o[0], (1 + 10 * w1 + 100 * w2 + 1000 * w3) / (1 + w1 + w2 + w3));
}
END_TEST

START_TEST(attention_groups) {
    tiny *t = weighted(
        1); /* 4 query heads on 2 kv heads of 2 keys: heads 0, 1 see weights 1, 2; heads 2, 3 see 3, 4 */
    t->d.q = t->d.o = tenon_tensor4(t->q, TENON_F64, 1, 4, 1, 1);
    t->d.o.data = t->o;
    t->d.k = tenon_tensor4(t->k, TENON_F64, 1, 2, 2, 1);
    t->d.v = tenon_tensor4(t->v, TENON_F64, 1, 2, 2, 1);
    t->d.lse = tenon_tensor3(t->lse, TENON_F64, 1, 4, 1);
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], 21 / 3.0);
    CLOSE(t->o[1], 21 / 3.0);
    CLOSE(t->o[2], 4300 / 7.0);
    CLOSE(t->o[3], 4300 / 7.0);
}
END_TEST

START_TEST(attention_ragged_and_paged) {
    tiny *t = weighted(2);
    const int32_t cu_q[3] = {0, 1, 2},
                  cu_k[3] = {0, 1, 4}; /* query 0: key 0; query 1: keys 1, 2, 3 */
    t->d.cu_seqlens_q = tenon_vector(cu_q, TENON_S32, 3);
    t->d.cu_seqlens_k = tenon_vector(cu_k, TENON_S32, 3);
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], 1);
    CLOSE(t->o[1], 4320 / 9.0);

    /* Blocks of two: {1, 2} and {3, 4}; the sequence is block 1, then one row of block 0. */
    t = weighted(1);
    const int32_t table[2] = {1, 0}, length = 3;
    t->d.k = tenon_tensor4(t->k, TENON_F64, 2, 1, 2, 1);
    t->d.v = tenon_tensor4(t->v, TENON_F64, 2, 1, 2, 1);
    t->d.block_table = tenon_matrix(table, TENON_S32, 1, 2);
    t->d.key_lengths = tenon_vector(&length, TENON_S32, 1);
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], (300 + 4000 + 1) / 8.0);

    const double slope = LN2; /* positions count keys of the sequence: distances 2, 1, 0 */
    t->d.alibi = tenon_vector(&slope, TENON_F64, 1);
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], (300 / 4.0 + 4000 / 2.0 + 1) / (3 / 4.0 + 4 / 2.0 + 1));
}
END_TEST

START_TEST(attention_scales) {
    tiny *t = weighted(1);
    const int8_t k[4] = {0, 2, 4, 6}, v[4] = {1, 2, 3, 4};
    const double k_scale = LN2 / 2, v_scale = 10; /* weights 1, 2, 4, 8; values 10, 20, 30, 40 */
    t->d.k = tenon_tensor4(k, TENON_S8, 1, 1, 4, 1);
    t->d.v = tenon_tensor4(v, TENON_S8, 1, 1, 4, 1);
    t->d.k_scale = tenon_vector(&k_scale, TENON_F64, 1);
    t->d.v_scale = tenon_vector(&v_scale, TENON_F64, 1);
    OK(tenon_attention(ctx, &t->d));
    CLOSE(t->o[0], (10 + 40 + 120 + 320) / 15.0);
    CLOSE(t->lse[0], log(15));
}
END_TEST

/* ---------------------------------------------------------------- merge and append */

START_TEST(merge) {
    /* The attention above in two parts: keys 0, 1 and keys 2, 3; a third saw nothing and holds NaN. */
    const double o[3] = {7, 4300 / 7.0, NAN}, lse[3] = {LN3, log(7), -INFINITY};
    double out, out_lse;
    tenon_tensor parts[3], lse_parts[3];
    for (int i = 0; i < 3; ++i) {
        parts[i] = tenon_vector(&o[i], TENON_F64, 1);
        lse_parts[i] = tenon_dense(&lse[i], TENON_F64, 0, NULL);
    }
    const tenon_attention_merge_desc m = {.o_parts = parts,
                                          .lse_parts = lse_parts,
                                          .count = 3,
                                          .o = tenon_vector(&out, TENON_F64, 1),
                                          .lse = tenon_dense(&out_lse, TENON_F64, 0, NULL)};
    OK(tenon_attention_merge(ctx, &m));
    CLOSE(out, 4321 / 10.0);
    CLOSE(out_lse, log(10));
}
END_TEST

START_TEST(append) {
    const double k[2] = {3, 500};
    int8_t cache[4] = {1, 2, 3, 4};
    const int32_t position = 1, table[2] = {1, 0};
    const double scale = 2;
    tenon_kv_append_desc a = {.k = tenon_tensor4(k, TENON_F64, 1, 1, 2, 1),
                              .k_cache = tenon_tensor4(cache, TENON_S8, 1, 1, 4, 1),
                              .positions = tenon_vector(&position, TENON_S32, 1),
                              .k_scale = tenon_vector(&scale, TENON_F64, 1)};
    OK(tenon_kv_append(ctx, &a));
    ck_assert(cache[0] == 1 && cache[1] == 2 && cache[2] == 127 &&
              cache[3] == 4); /* 1.5 to even; 250 saturates */

    a.k_cache = tenon_tensor4(cache, TENON_S8, 2, 1, 2,
                              1); /* rows 1 and 2 of the sequence: block 1 row 1, block 0 row 0 */
    a.block_table = tenon_matrix(table, TENON_S32, 1, 2);
    OK(tenon_kv_append(ctx, &a));
    ck_assert(cache[0] == 127 && cache[1] == 2 && cache[2] == 127 && cache[3] == 2);
}
END_TEST

int main(void) {
    static const TTest *const *all[] = {&product,
                                        &epilogue,
                                        &activations,
                                        &gated,
                                        &quantised,
                                        &experts,
                                        &softmax,
                                        &softmax_nothing_left,
                                        &softmax_axis,
                                        &attention,
                                        &attention_alignment,
                                        &attention_alibi_bias_softcap,
                                        &attention_groups,
                                        &attention_ragged_and_paged,
                                        &attention_scales,
                                        &merge,
                                        &append};
    Suite *suite = suite_create("reference values");
    TCase *tests = tcase_create("by hand");
    tcase_add_checked_fixture(tests, start, stop);
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i)
        tcase_add_test(tests, *all[i]);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
