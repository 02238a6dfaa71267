/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared checks by themselves: which layouts an output may have, which operands share memory, against a brute-force count over all
 * elements; broadcasting; canonical problems that compare byte for byte.
 */
#include "ops/ops.h"
#include "ops/tensor_check.h"
#include "suite.h"

#include <stdio.h>

static tn_message message;

/* A small deterministic generator: SplitMix64. */
static uint64_t state = 12345;

static uint64_t next(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t upto(int64_t n) {
    return (int64_t)(next() % (uint64_t)(n + 1));
}

enum { SPAN = 4096 };

/* Counts each byte of every element of `t`, whose element 0 is at byte `start` of `count`. */
static void count_bytes(const tenon_tensor *t, int64_t start, unsigned char count[SPAN]) {
    size_t width = 0;
    int64_t index[4] = {0};
    (void)tenon_dtype_block(t->dtype, NULL, &width);
    if (tn_tensor_empty(t))
        return;
    for (;;) {
        int64_t at = 0;
        int32_t d = t->rank - 1;
        for (int32_t i = 0; i < t->rank; ++i)
            at += index[i] * t->stride[i];
        for (size_t b = 0; b < width; ++b)
            count[start + at * (int64_t)width + (int64_t)b]++;
        while (d >= 0 && ++index[d] == t->shape[d])
            index[d--] = 0;
        if (d < 0)
            return;
    }
}

static tenon_tensor random_tensor(bool negative) {
    static const tenon_dtype types[] = {TENON_F32, TENON_F16, TENON_U8, TENON_F64};
    tenon_tensor t = {.dtype = types[upto(3)], .rank = (int32_t)upto(2) + 1};
    for (int32_t d = 0; d < t.rank; ++d) {
        t.shape[d] = upto(4);
        t.stride[d] = upto(d == t.rank - 1 ? 3 : 24);
        if (negative && upto(3) == 0)
            t.stride[d] = -t.stride[d];
    }
    t.data = &state; /* present; never read */
    tn_tensor_fill_strides(&t);
    return t;
}

/* Accepted outputs never overlap themselves; nested layouts are never refused. */
START_TEST(outputs) {
    int accepted = 0, refused_without_need = 0;
    for (int n = 0; n < 8000; ++n) {
        unsigned char count[SPAN] = {0};
        bool twice = false;
        tenon_tensor t = random_tensor(false);
        const bool ok = tn_check_tensor(&message, "y", &t, TN_DTYPES_FLOAT | TN_DTYPES_INT8, 1, 3,
                                        TN_TENSOR_OUTPUT) == TENON_OK;
        count_bytes(&t, 0, count);
        for (int b = 0; b < SPAN; ++b)
            twice |= count[b] > 1;
        ck_assert_msg(!ok || !twice, "accepted shape %s stride %s",
                      tn_shape_format(t.rank, t.shape).text,
                      tn_shape_format(t.rank, t.stride).text);
        accepted += ok;
        refused_without_need += !ok && !twice;
        if (!ok)
            ck_assert_ptr_nonnull(strstr(message.text, "y.stride"));
    }
    printf("outputs: %d accepted, %d interleaved ones refused without need\n", accepted,
           refused_without_need);
    ck_assert_int_gt(accepted, 4000);
    ck_assert_int_lt(refused_without_need, 800);
}
END_TEST

/* What is let pass has no byte in common; what has none is mostly let pass. */
START_TEST(overlaps) {
    int passed = 0, refused_without_need = 0, sharing = 0;
    static unsigned char memory[SPAN];
    for (int n = 0; n < 10000; ++n) {
        unsigned char count[SPAN] = {0};
        bool shared = false;
        const tenon_tensor a = random_tensor(true), b = random_tensor(true);
        const int64_t at_a = 1024 + upto(64) * 8, at_b = 1024 + upto(64) * 8;
        const bool apart = tn_check_apart(&message, "o", &a, memory + at_a, "q", &b, memory + at_b,
                                          false) == TENON_OK;
        count_bytes(&a, at_a, count);
        for (int i = 0; i < SPAN; ++i)
            count[i] = count[i] > 0;
        unsigned char other[SPAN] = {0};
        count_bytes(&b, at_b, other);
        for (int i = 0; i < SPAN; ++i)
            shared |= count[i] && other[i];
        ck_assert_msg(!apart || !shared,
                      "shape %s stride %s and shape %s stride %s, %lld bytes between",
                      tn_shape_format(a.rank, a.shape).text, tn_shape_format(a.rank, a.stride).text,
                      tn_shape_format(b.rank, b.shape).text, tn_shape_format(b.rank, b.stride).text,
                      (long long)(at_b - at_a));
        passed += apart;
        sharing += shared;
        refused_without_need += !apart && !shared;
    }
    printf("overlaps: %d passed, %d share memory, %d refused without need\n", passed, sharing,
           refused_without_need);
    ck_assert_int_gt(passed, 5000);
    ck_assert_int_gt(sharing, 300);
}
END_TEST

/* Layouts that people have: columns of one matrix, packed heads, every second row, the same memory. */
START_TEST(slices) {
    static float memory[4096];
    const int64_t left_shape[2] = {8, 5}, right_shape[2] = {8, 11}, row[2] = {16, 1};
    tenon_tensor left = tenon_strided(memory, TENON_F32, 2, left_shape, row),
                 right = tenon_strided(memory + 5, TENON_F32, 2, right_shape, row);
    ck_assert(left.rank == 2 && left.shape[1] == 5 && left.stride[0] == 16 && left.stride[1] == 1);
    ck_assert_int_eq(tenon_strided(memory, TENON_F32, 9, left_shape, row).stride[0], 0);
    ck_assert_int_eq(
        tn_check_apart(&message, "c", &left, left.data, "a", &right, right.data, false), TENON_OK);
    ck_assert_int_eq(
        tn_check_apart(&message, "c", &right, right.data, "a", &left, left.data, false), TENON_OK);
    right.shape[1] = 12; /* the last column runs into the next row's first */
    ck_assert_int_ne(
        tn_check_apart(&message, "c", &left, left.data, "a", &right, right.data, false), TENON_OK);
    ck_assert_ptr_nonnull(strstr(message.text, "c at"));

    tenon_tensor q = tenon_swapped(tenon_tensor4(memory, TENON_F32, 2, 3, 4, 8), 1, 2), v = q;
    q.stride[0] = v.stride[0] = 3 * 96;
    q.stride[2] = v.stride[2] = 96;
    ck_assert_int_eq(tn_check_apart(&message, "o", &q, memory, "v", &v, memory + 64, false),
                     TENON_OK);
    ck_assert_int_ne(tn_check_apart(&message, "o", &q, memory, "v", &v, memory + 24, false),
                     TENON_OK);

    ck_assert_int_ne(tn_check_apart(&message, "y", &q, memory, "x", &q, memory, false), TENON_OK);
    ck_assert_int_eq(tn_check_apart(&message, "y", &q, memory, "x", &q, memory, true), TENON_OK);
    v.dtype = TENON_S32;
    ck_assert_int_ne(tn_check_apart(&message, "y", &q, memory, "x", &v, memory, true), TENON_OK);
}
END_TEST

START_TEST(broadcasts) {
    const int64_t shape[3] = {2, 4, 5};
    int64_t stride[3];
    static const struct {
        int32_t rank;
        int64_t shape[4];
        int fits;
        int64_t stride[3];
    } cases[] = {
        {3, {2, 4, 5}, 1, {20, 5, 1}}, {2, {4, 5}, 1, {0, 5, 1}}, {1, {5}, 1, {0, 0, 1}},
        {1, {1}, 1, {0, 0, 0}},        {0, {0}, 1, {0, 0, 0}},    {3, {2, 1, 5}, 1, {5, 0, 1}},
        {2, {3, 5}, 0, {0}},           {1, {4}, 0, {0}},          {4, {1, 2, 4, 5}, 0, {0}},
        {3, {2, 4, 0}, 0, {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        const tenon_tensor t = tenon_dense(&state, TENON_F32, cases[i].rank, cases[i].shape);
        const tenon_status status =
            tn_check_broadcast(&message, "bias", &t, 3, shape, "(…, m, n)", stride);
        ck_assert_int_eq(status == TENON_OK, cases[i].fits);
        if (status == TENON_OK)
            ck_assert_mem_eq(stride, cases[i].stride, sizeof stride);
    }
    const tenon_tensor t = tenon_matrix(&state, TENON_F32, 3, 5);
    ck_assert_int_ne(tn_check_broadcast(&message, "bias", &t, 2, shape + 1, "(…, m, n)", stride),
                     TENON_OK);
    ck_assert_str_eq(message.text,
                     "bias.shape is (3, 5), expected one that broadcasts to (…, m, n) = (4, 5)");
}
END_TEST

/* Blocks lie along one dimension and are never cut. */
START_TEST(blocks) {
    tenon_tensor t = tenon_matrix(&state, TENON_Q8_0, 3, 64);
    ck_assert_int_eq(tn_check_tensor(&message, "b", &t, TN_DTYPES_BLOCK, 2, 2, 0), TENON_OK);
    t = tenon_transposed(t);
    ck_assert_int_eq(tn_check_tensor(&message, "b", &t, TN_DTYPES_BLOCK, 2, 2, 0), TENON_OK);
    t = tenon_matrix(&state, TENON_Q8_0, 3, 65);
    ck_assert_int_ne(tn_check_tensor(&message, "b", &t, TN_DTYPES_BLOCK, 2, 2, 0), TENON_OK);
    t = tenon_matrix(&state, TENON_Q4_K, 3, 512);
    t.stride[0] = 512 + 32;
    ck_assert_int_ne(tn_check_tensor(&message, "b", &t, TN_DTYPES_BLOCK, 2, 2, 0), TENON_OK);
    ck_assert_ptr_nonnull(strstr(message.text, "b.stride[0] is 544"));
}
END_TEST

/* Two ways of saying the same make one problem, so one cached plan. */
START_TEST(canonical) {
    static float x[24];
    const double one = 1;
    const int32_t last = 1;
    tenon_softmax_desc a = {.x = tenon_matrix(x, TENON_F32, 4, 6),
                            .y = tenon_matrix(x, TENON_F32, 4, 6)},
                       b = a;
    tn_softmax_problem p, q;
    b.struct_size = sizeof b;
    b.scale = &one;
    b.axis = &last;
    b.window = (tenon_window){.enabled = 1, .left = -1, .right = 1000};
    memset(b.x.stride, 0, sizeof b.x.stride);
    memset(&p, 0xff, sizeof p);
    memset(&q, 0x11, sizeof q);
    ck_assert_int_eq(tn_softmax_problem_make(&a, &p, &message), TENON_OK);
    ck_assert_int_eq(tn_softmax_problem_make(&b, &q, &message), TENON_OK);
    ck_assert_mem_eq(&p, &q, sizeof p);
    b.softcap = 1;
    ck_assert_int_eq(tn_softmax_problem_make(&b, &q, &message), TENON_OK);
    ck_assert(memcmp(&p, &q, sizeof p) != 0);
}
END_TEST

/*
 * One element for all of a matrix: strides of 0 with one more extent of 1 and stride 1. Zeros everywhere
 * are dense.
 */
START_TEST(one_element_repeated) {
    static const char *const devices[] = {"reference", "cpu"};
    static const float a[12] = {2, 3, 5, 7}, b[20] = {[4] = 1, [9] = 1, [14] = 1, [19] = 1};
    float c[15];
    const tenon_context_desc desc = {.device = devices[_i], .threads = 1};
    tenon_context *ctx;
    ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
    tenon_gemm_desc g = {
        .a = tenon_strided(a, TENON_F32, 3, (const int64_t[]){1, 3, 4}, (const int64_t[]){1, 0, 0}),
        .b = tenon_matrix(b, TENON_F32, 4, 5),
        .c = tenon_tensor3(c, TENON_F32, 1, 3, 5)};
    ck_assert_msg(tenon_gemm(ctx, &g) == TENON_OK, "%s", tenon_error_message(ctx));
    for (int row = 0; row < 3; ++row)
        ck_assert_msg(c[row * 5 + 4] == 8, "row %d is %g, not 4·2", row, (double)c[row * 5 + 4]);

    g.a = tenon_strided(a, TENON_F32, 2, (const int64_t[]){3, 4}, (const int64_t[]){0, 0});
    ck_assert_int_eq(tenon_gemm(ctx, &g), TENON_OK);
    ck_assert(c[4] == 2 + 3 + 5 + 7 && c[9] == 0);

    float y[15];
    tenon_softmax_desc s = {.x = tenon_strided(a + 1, TENON_F32, 3, (const int64_t[]){1, 3, 5},
                                               (const int64_t[]){1, 0, 0}),
                            .y = tenon_tensor3(y, TENON_F32, 1, 3, 5)};
    ck_assert_msg(tenon_softmax(ctx, &s) == TENON_OK, "%s", tenon_error_message(ctx));
    for (int i = 0; i < 15; ++i)
        ck_assert_float_eq_tol(y[i], 0.2f, 1e-6f);
    tenon_context_destroy(ctx);
}
END_TEST

/* The closed form of the number of pairs under a mask against counting them. */
START_TEST(costs) {
    for (int n = 0; n < 2000; ++n) {
        static float memory[1];
        const int64_t queries = upto(9), keys = upto(9);
        const bool window = upto(1) == 1;
        tenon_attention_desc a = {
            .q = tenon_tensor4(memory, TENON_F32, 1, 1, queries, 1),
            .k = tenon_tensor4(memory, TENON_F32, 1, 1, keys, 1),
            .v = tenon_tensor4(memory, TENON_F32, 1, 1, keys, 1),
            .o = tenon_tensor4(memory, TENON_F32, 1, 1, queries, 1),
            .causal = (tenon_causal)upto(2),
        };
        if (window)
            a.window = (tenon_window){.enabled = 1, .left = upto(12) - 1, .right = upto(12) - 1};
        tn_attention_problem p;
        double flops, bytes;
        int64_t pairs = 0;
        ck_assert_int_eq(tn_attention_problem_make(&a, &p, &message), TENON_OK);
        tn_attention_cost(&p, &flops, &bytes);
        for (int64_t i = 0; i < queries; ++i) {
            const int64_t at = a.causal == TENON_CAUSAL_TOP_LEFT ? i : i + keys - queries;
            for (int64_t j = 0; j < keys; ++j) {
                if (a.causal && j > at)
                    continue;
                if (window && a.window.left >= 0 && j < at - a.window.left)
                    continue;
                if (window && a.window.right >= 0 && j > at + a.window.right)
                    continue;
                ++pairs;
            }
        }
        ck_assert_double_eq(flops, 4.0 * (double)pairs);
        ck_assert_double_eq(bytes, 4.0 * (double)(2 * queries + 2 * keys));
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tensor check");
    TCase *tc = tcase_create("checks");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, outputs);
    tcase_add_test(tc, overlaps);
    tcase_add_test(tc, slices);
    tcase_add_test(tc, broadcasts);
    tcase_add_test(tc, blocks);
    tcase_add_test(tc, canonical);
    tcase_add_loop_test(tc, one_element_repeated, 0, 2);
    tcase_add_test(tc, costs);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
