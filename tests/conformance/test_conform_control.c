/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Negative controls: results that are wrong on purpose must be found out. A result just inside the bound passes, one element four bounds
 * away does not, and kernels with the mistakes that kernels have do not either.
 */
#include "harness.h"

/* What the comparison says of (exact + factor · allowed), stored in `dtype` without rounding it towards the exact value. */
static void check_edges(tenon_dtype dtype, double exact, double error) {
    const double slack = error + bound_unit(dtype) * (fabs(exact) + error);
    ck_assert(bound_holds(dtype, exact, exact, error));
    ck_assert(bound_holds(dtype, exact + 0.9 * slack, exact, error));
    ck_assert(bound_holds(dtype, exact - 0.9 * slack, exact, error));
    ck_assert(!bound_holds(dtype, exact + 4 * slack, exact, error));
    ck_assert(!bound_holds(dtype, exact - 4 * slack, exact, error));
}

START_TEST(edges) {
    static const tenon_dtype type[] = {TENON_F64,  TENON_F32,     TENON_F16,
                                       TENON_BF16, TENON_F8_E4M3, TENON_F8_E5M2};
    for (size_t i = 0; i < sizeof type / sizeof *type; ++i) {
        check_edges(type[i], 1.25, 1e-3);
        check_edges(type[i], -96, 0.5);
        ck_assert(!bound_holds(type[i], NAN, 1, 0.5));
        ck_assert(!bound_holds(type[i], INFINITY, 1, 0.5));
        ck_assert(!bound_holds(type[i], 1, NAN, 0.5));
        ck_assert(bound_holds(type[i], NAN, NAN, 0));
    }
    ck_assert(bound_holds(TENON_F16, INFINITY, 65520, 1));
    ck_assert(!bound_holds(TENON_F16, INFINITY, 65000, 1));
    ck_assert(bound_holds(TENON_F8_E4M3, 448, 1e6, 0));
    ck_assert(!bound_holds(TENON_F8_E4M3, 416, 1e6, 0));
    ck_assert(bound_holds(TENON_S8, 127, 300, 0));
    ck_assert(bound_holds(TENON_S8, 3, 2.5, 0));
    ck_assert(!bound_holds(TENON_S8, 3, 2.4, 0.01));
    ck_assert(bound_holds(TENON_S8, 0, NAN, 0));
    ck_assert(bound_holds(TENON_F32, -INFINITY, -INFINITY, 0));
    ck_assert(!bound_holds(TENON_F32, -1e30, -INFINITY, 0));
}
END_TEST

/* A product where the reference was told something slightly different. */
static int64_t gemm_failures(world *w, int mistake) {
    const int64_t m = 33, n = 47, k = 300, a_shape[2] = {m, k}, b_shape[2] = {k, n},
                  c_shape[2] = {m, n};
    const double alpha = mistake == 1 ? 1.001 : 1;
    world_case(w, "wrong gemm %d", mistake);
    operand a = input(w, TENON_F32, 2, a_shape, DENSE, 0, (range){-1, 1});
    operand b = input(w, TENON_F32, 2, b_shape, DENSE, 0, (range){-1, 1});
    operand c = output(w, TENON_F32, 2, c_shape, DENSE);
    const tenon_tensor expected = exact_zeros(w, 2, c_shape);
    tenon_gemm_desc device = {.a = a.t, .b = b.t, .c = c.t},
                    exact = {.a = a.exact, .b = b.exact, .c = expected, .alpha = &alpha};

    if (mistake == 2)
        exact.a.shape[1] = exact.b.shape[0] = k - 1; /* the last step of the sum is missing */
    if (mistake == 3)
        exact.b.stride[1] = 0; /* one column for all */
    if (mistake == 4)
        exact.activation = TENON_ACTIVATION_RELU;
    ck_assert(world_answered(w, tenon_gemm(w->ctx, &device), NULL));
    world_reference(w, tenon_gemm(w->reference, &exact));
    w->failures = 0;
    for (int64_t i = 0; i < m * n; ++i) {
        double products = 0, value = get(&expected, i);
        for (int64_t p = 0; p < k; ++p)
            products += fabs(get(&a.exact, i / n * k + p) * get(&b.exact, p * n + i % n));
        const bound_gemm_element e = {
            .k = k, .accumulate = TENON_F32, .products = {products}, .c_scale = 1};
        if (mistake == 5 && i == 100)
            value += 4 * (bound_gemm(&e) + bound_unit(TENON_F32) * fabs(value));
        expect(w, &c, i, value, bound_gemm(&e));
    }
    return w->failures;
}

START_TEST(wrong_products) {
    world w = world_start("wrong products", device_id[_i]);
    w.counting = true;
    ck_assert_int_eq(gemm_failures(&w, 0), 0);
    ck_assert_int_gt(gemm_failures(&w, 1), 0);
    ck_assert_int_gt(gemm_failures(&w, 2), 33 * 47 / 2);
    ck_assert_int_gt(gemm_failures(&w, 3), 33 * 45);
    ck_assert_int_gt(gemm_failures(&w, 4), 0);
    ck_assert_int_eq(gemm_failures(&w, 5), 1);
    world_end(&w);
}
END_TEST

static int64_t attention_failures(world *w, int mistake) {
    const int64_t q_shape[4] = {1, 2, 20, 32}, k_shape[4] = {1, 2, 70, 32};
    const double scale = 0.1774;
    world_case(w, "wrong attention %d", mistake);
    operand q = input(w, TENON_F32, 4, q_shape, DENSE, 0, (range){-1, 1}),
            k = input(w, TENON_F32, 4, k_shape, DENSE, 0, (range){-1, 1});
    operand v = input(w, TENON_F32, 4, k_shape, DENSE, 0, (range){-1, 1}),
            o = output(w, TENON_F32, 4, q_shape, DENSE);
    const tenon_tensor expected = exact_zeros(w, 4, q_shape);
    tenon_attention_desc device = {
        .q = q.t, .k = k.t, .v = v.t, .o = o.t, .causal = TENON_CAUSAL_BOTTOM_RIGHT};
    tenon_attention_desc exact = device;
    exact.q = q.exact;
    exact.k = k.exact;
    exact.v = v.exact;
    exact.o = expected;
    if (mistake == 1)
        exact.causal = TENON_CAUSAL_TOP_LEFT;
    if (mistake == 2)
        exact.window =
            (tenon_window){.enabled = 1, .left = 49, .right = -1}; /* one key too few for some */
    if (mistake == 3)
        exact.scale = &scale; /* 1/√32 is 0.1768 */
    if (mistake == 4)
        exact.softcap = 20;
    if (mistake == 5)
        exact.k.shape[2] = exact.v.shape[2] = 69;
    ck_assert(world_answered(w, tenon_attention(w->ctx, &device), NULL));
    world_reference(w, tenon_attention(w->reference, &exact));
    const bound_scores s = {.d = 32,
                            .keys = 70,
                            .size = 32 * q.largest * k.largest / sqrt(32),
                            .accumulate = TENON_F32};
    w->failures = 0;
    for (int64_t i = 0; i < count_of(&expected); ++i)
        expect(w, &o, i, get(&expected, i), bound_attention(&s, v.largest));
    return w->failures;
}

START_TEST(wrong_attentions) {
    world w = world_start("wrong attentions", device_id[_i]);
    w.counting = true;
    ck_assert_int_eq(attention_failures(&w, 0), 0);
    for (int mistake = 1; mistake <= 5; ++mistake)
        ck_assert_msg(attention_failures(&w, mistake) > 0, "mistake %d was not found", mistake);
    world_end(&w);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {edges, wrong_products, wrong_attentions};
    return conform_main("conformance controls", tests, sizeof tests / sizeof *tests);
}
