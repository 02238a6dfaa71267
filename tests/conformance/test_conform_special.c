/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NaN, infinities and what is masked, on every device: the table of docs/NUMERICS.md, section 7, row by row. Expected values come
 * from the table, not from the reference.
 */
#include "harness.h"

#include <string.h>

#include "number.h"

/* ---------------------------------------------------------------- gemm */

typedef struct tiny_gemm {
    operand a, b, c;
    tenon_gemm_desc g;
} tiny_gemm;

static tiny_gemm small_product(world *w, tenon_dtype dtype, int64_t m, int64_t n, int64_t k) {
    const int64_t a[2] = {m, k}, b[2] = {k, n}, c[2] = {m, n};
    tiny_gemm x = {.a = input(w, dtype, 2, a, DENSE, 0, (range){0.5, 1}),
                   .b = input(w, dtype, 2, b, DENSE, 0, (range){0.5, 1}),
                   .c = output(w, dtype, 2, c, DENSE)};
    x.g = (tenon_gemm_desc){.a = x.a.t, .b = x.b.t, .c = x.c.t};
    return x;
}

static void run_gemm(world *w, const tenon_gemm_desc *g) {
    ck_assert(world_answered(w, tenon_gemm(w->ctx, g), NULL));
}

#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            char detail[200];                                                                      \
            snprintf(detail, sizeof detail, __VA_ARGS__);                                          \
            ck_abort_msg("%s: %s: %s", w->device, w->what, detail);                                \
        }                                                                                          \
    } while (0)

static void gemm_table(world *w, tenon_dtype dtype, int64_t m, int64_t n, int64_t k) {
    const int64_t i = m / 2, j = n / 2, p = k / 2;

    world_case(w, "NaN in a, %s %lldx%lldx%lld", tenon_dtype_name(dtype), (long long)m,
               (long long)n, (long long)k);
    tiny_gemm x = small_product(w, dtype, m, n, k);
    set(&x.a, i * k + p, NAN);
    run_gemm(w, &x.g);
    for (int64_t e = 0; e < m * n; ++e) {
        const double value = get(&x.c.t, e);
        EXPECT(e / n == i ? isnan(value) : isfinite(value), "element %lld is %g", (long long)e,
               value);
    }

    world_case(w, "infinities, %s %lldx%lldx%lld", tenon_dtype_name(dtype), (long long)m,
               (long long)n, (long long)k);
    x = small_product(w, dtype, m, n, k);
    set(&x.b, p * n + j, -INFINITY);
    if (k > 1)
        set(&x.b, (k - 1) * n + n - 1, INFINITY);
    run_gemm(w, &x.g);
    for (int64_t row = 0; row < m; ++row) {
        const double middle = get(&x.c.t, row * n + j), last = get(&x.c.t, row * n + n - 1);
        if (j == n - 1 && k > 1 && p != k - 1)
            EXPECT(isnan(middle), "inf - inf is %g", middle);
        else if (j != n - 1)
            EXPECT(middle == -INFINITY && (k == 1 || last == INFINITY), "row %lld: %g %g",
                   (long long)row, middle, last);
    }

    world_case(w, "beta 0, alpha 0, k 0, %s", tenon_dtype_name(dtype));
    x = small_product(w, dtype, m, n, k);
    for (int64_t e = 0; e < m * n; ++e)
        number_put((char *)x.c.t.data + e * (int64_t)number_size(dtype), dtype, NAN);
    run_gemm(w, &x.g);
    for (int64_t e = 0; e < m * n; ++e)
        EXPECT(isfinite(get(&x.c.t, e)), "NaN of c spread with beta 0");

    const double zero = 0;
    set(&x.a, i * k + p, NAN);
    x.g.alpha = &zero;
    run_gemm(w, &x.g);
    EXPECT(isnan(get(&x.c.t, i * n)), "0 * NaN is %g", get(&x.c.t, i * n));
    if (m > 1)
        EXPECT(get(&x.c.t, ((i + 1) % m) * n) == 0, "0 * finite");

    x.g.alpha = NULL;
    x.g.a.shape[1] = x.g.b.shape[0] = 0;
    run_gemm(w, &x.g);
    for (int64_t e = 0; e < m * n; ++e)
        EXPECT(get(&x.c.t, e) == 0, "k = 0 gives %g", get(&x.c.t, e));
}

START_TEST(gemm_not_finite) {
    world w = world_start("gemm not finite", device_id[_i]);
    static const tenon_dtype type[] = {TENON_F32, TENON_F64, TENON_F16, TENON_BF16};
    for (int t = 0; t < 4; ++t) {
        gemm_table(&w, type[t], 1, 40, 9);
        gemm_table(&w, type[t], 7, 19, 33);
        gemm_table(&w, type[t], 40, 40, 300);
        gemm_table(&w, type[t], 5, 3, 1);
    }
    world_end(&w);
}
END_TEST

START_TEST(gemm_activations) {
    world here = world_start("gemm activations", device_id[_i]), *w = &here;
    /* Sums NaN, +inf, -inf, and what each activation makes of them. */
    static const struct {
        tenon_activation kind;
        double nan, up, down;
    } expected[] = {
        {TENON_ACTIVATION_NONE, NAN, INFINITY, -INFINITY},
        {TENON_ACTIVATION_RELU, NAN, INFINITY, 0},
        {TENON_ACTIVATION_GELU, NAN, INFINITY, NAN},
        {TENON_ACTIVATION_GELU_TANH, NAN, INFINITY, NAN},
        {TENON_ACTIVATION_SILU, NAN, INFINITY, NAN},
        {TENON_ACTIVATION_SIGMOID, NAN, 1, 0},
        {TENON_ACTIVATION_TANH, NAN, 1, -1},
        {TENON_ACTIVATION_CLAMP, NAN, 2, -3},
    };
    static const tenon_dtype type[] = {TENON_F32, TENON_F64};
    for (size_t e = 0; e < sizeof expected / sizeof *expected; ++e)
        for (int t = 0; t < 2; ++t) {
            const int64_t a_shape[2] = {3, 1}, b_shape[2] = {1, 37}, c_shape[2] = {3, 37};
            world_case(w, "activation %d of what is not finite, %s", (int)expected[e].kind,
                       tenon_dtype_name(type[t]));
            operand a = input(w, type[t], 2, a_shape, DENSE, 0, (range){1, 1}),
                    b = input(w, type[t], 2, b_shape, DENSE, 0, (range){1, 1});
            operand c = output(w, type[t], 2, c_shape, DENSE);
            set(&a, 0, NAN);
            set(&a, 1, INFINITY);
            set(&a, 2, -INFINITY);
            tenon_gemm_desc g = {.a = a.t, .b = b.t, .c = c.t, .activation = expected[e].kind};
            if (expected[e].kind == TENON_ACTIVATION_CLAMP) {
                g.clamp_low = -3;
                g.clamp_high = 2;
            }
            run_gemm(w, &g);
            for (int64_t j = 0; j < 3 * 37; ++j) {
                const double want = j < 37   ? expected[e].nan
                                    : j < 74 ? expected[e].up
                                             : expected[e].down,
                             value = get(&c.t, j);
                EXPECT(isnan(want) ? isnan(value) : value == want, "row %d is %g, expected %g",
                       (int)(j / 37), value, want);
            }
        }
    world_end(w);
}
END_TEST

START_TEST(gemm_conversions) {
    /* Large sums and NaN into every type: infinity, saturation, 0 for the NaN of an integer. */
    static const struct {
        tenon_dtype dtype;
        double large, nan;
    } expected[] = {
        {TENON_F32, 1e6, NAN},     {TENON_F16, INFINITY, NAN},  {TENON_BF16, 999424, NAN},
        {TENON_F8_E4M3, 448, NAN}, {TENON_F8_E5M2, 57344, NAN}, {TENON_S8, 127, 0},
        {TENON_U8, 255, 0},
    };
    world here = world_start("gemm conversions", device_id[_i]), *w = &here;
    for (size_t e = 0; e < sizeof expected / sizeof *expected; ++e) {
        const int64_t a_shape[2] = {4, 1}, b_shape[2] = {1, 21}, c_shape[2] = {4, 21};
        const double one = 1;
        const bool integer = expected[e].dtype >= TENON_S8;
        world_case(w, "large values and NaN to %s", tenon_dtype_name(expected[e].dtype));
        operand a = input(w, TENON_F32, 2, a_shape, DENSE, 0, (range){1, 1}),
                b = input(w, TENON_F32, 2, b_shape, DENSE, 0, (range){1, 1});
        operand c = output(w, expected[e].dtype, 2, c_shape, DENSE);
        set(&a, 0, 1e6);
        set(&a, 1, -1e6);
        set(&a, 2, NAN);
        set(&a, 3, INFINITY);
        tenon_gemm_desc g = {.a = a.t, .b = b.t, .c = c.t};
        if (integer)
            g.c_scale = tenon_vector(&one, TENON_F64, 1);
        run_gemm(w, &g);
        const double saturated = expected[e].dtype == TENON_F32 || expected[e].dtype == TENON_BF16
                                     ? INFINITY
                                     : expected[e].large;
        const double low = expected[e].dtype == TENON_S8   ? -128
                           : expected[e].dtype == TENON_U8 ? 0
                                                           : -expected[e].large;
        for (int64_t j = 0; j < 21; ++j) {
            EXPECT(get(&c.t, j) == expected[e].large, "1e6 is %g", get(&c.t, j));
            EXPECT(get(&c.t, 21 + j) == low, "-1e6 is %g", get(&c.t, 21 + j));
            EXPECT(integer ? get(&c.t, 42 + j) == 0 : isnan(get(&c.t, 42 + j)), "NaN is %g",
                   get(&c.t, 42 + j));
            EXPECT(get(&c.t, 63 + j) == saturated, "infinity is %g", get(&c.t, 63 + j));
        }
    }

    /* s32: the exact sum, and one that alpha takes out of range. */
    const int64_t a_shape[2] = {1, 40}, b_shape[2] = {40, 19}, c_shape[2] = {1, 19};
    world_case(w, "s32 saturates");
    operand a = input(w, TENON_U8, 2, a_shape, DENSE, 0, (range){255, 255}),
            b = input(w, TENON_S8, 2, b_shape, DENSE, 0, (range){-128, -128});
    operand c = output(w, TENON_S32, 2, c_shape, DENSE);
    tenon_gemm_desc g = {.a = a.t, .b = b.t, .c = c.t};
    run_gemm(w, &g);
    for (int64_t j = 0; j < 19; ++j)
        EXPECT(get(&c.t, j) == -40.0 * 255 * 128, "exact sum is %.17g", get(&c.t, j));
    const double alpha = 1e6;
    g.alpha = &alpha;
    run_gemm(w, &g);
    for (int64_t j = 0; j < 19; ++j)
        EXPECT(get(&c.t, j) == INT32_MIN, "saturated sum is %.17g", get(&c.t, j));
    world_end(w);
}
END_TEST

START_TEST(integers_are_exact) {
    /* 70000 products of 255 and -128 leave s32's range: -2284800000. In f64 the sum is exact; in s32 it saturates. */
    const int64_t k = 70000, a_shape[2] = {2, k}, b_shape[2] = {k, 17}, c_shape[2] = {2, 17};
    world here = world_start("integers are exact", device_id[_i]), *w = &here;
    world_case(w, "long integer sums");
    operand a = input(w, TENON_U8, 2, a_shape, DENSE, 0, (range){255, 255}),
            b = input(w, TENON_S8, 2, b_shape, DENSE, 0, (range){-128, -128});
    operand wide = output(w, TENON_F64, 2, c_shape, DENSE),
            narrow = output(w, TENON_S32, 2, c_shape, DENSE);
    tenon_gemm_desc g = {.a = a.t, .b = b.t, .c = wide.t};
    run_gemm(w, &g);
    g.c = narrow.t;
    run_gemm(w, &g);
    for (int64_t j = 0; j < 34; ++j) {
        EXPECT(get(&wide.t, j) == -2284800000.0, "the sum is %.17g", get(&wide.t, j));
        EXPECT(get(&narrow.t, j) == INT32_MIN, "the sum in s32 is %.17g", get(&narrow.t, j));
    }
    world_end(w);
}
END_TEST

/* ---------------------------------------------------------------- softmax */

static void softmax_table(world *w, tenon_dtype dtype, int64_t length, int log, layout memory) {
    enum { ROWS = 7 };
    const int64_t shape[3] = {1, ROWS, length}, middle = length / 2;
    const double nothing = log ? -INFINITY : 0;
    world_case(w, "softmax %s of %lld, log %d", tenon_dtype_name(dtype), (long long)length, log);
    operand x = input(w, dtype, 3, shape, memory, 0, (range){-1, 1}),
            y = output(w, dtype, 3, shape, memory);
    operand mask = input(w, TENON_BOOL, 3, shape, DENSE, 0, (range){0, 1}),
            bias = input(w, TENON_F32, 3, shape, DENSE, 0, (range){0, 0});
    operand lse = output(w, TENON_F32, 2, shape, DENSE);

    set(&x, 0 * length + middle, NAN);       /* row 0: an unmasked NaN */
    set(&x, 1 * length + middle, INFINITY);  /* row 1: an unmasked +inf */
    set(&x, 2 * length + middle, -INFINITY); /* row 2: -inf counts as masked */
    set(&x, 3 * length + middle, NAN);       /* row 3: NaN under the mask */
    set(&mask, 3 * length + middle, 0);
    set(&x, 4 * length + middle, NAN); /* row 4: NaN under a bias of -inf */
    set(&bias, 4 * length + middle, -INFINITY);
    for (int64_t j = 0; j < length; ++j) { /* row 5: nothing left; row 6: only -inf */
        set(&x, 5 * length + j, NAN);
        set(&mask, 5 * length + j, 0);
        set(&x, 6 * length + j, -INFINITY);
    }
    tenon_softmax_desc s = {
        .x = x.t, .y = y.t, .mask = mask.t, .bias = bias.t, .log = log, .lse = lse.t};
    ck_assert(world_answered(w, tenon_softmax(w->ctx, &s), NULL));
    for (int64_t j = 0; j < length; ++j) {
        double v[ROWS];
        for (int r = 0; r < ROWS; ++r)
            v[r] = get(&y.t, r * length + j);
        EXPECT(isnan(v[0]) && isnan(v[1]), "unmasked NaN or inf: %g %g", v[0], v[1]);
        for (int r = 2; r < 5; ++r)
            EXPECT(j == middle || length == 1 ? v[r] == nothing : isfinite(v[r]) && v[r] != nothing,
                   "row %d, %lld is %g", r, (long long)j, v[r]);
        EXPECT(v[5] == nothing && v[6] == nothing, "nothing left: %g %g", v[5], v[6]);
    }
    for (int r = 0; r < 2; ++r)
        EXPECT(isnan(get(&lse.t, r)), "lse of row %d is %g", r, get(&lse.t, r));
    for (int r = 2; r < 5 && length > 1; ++r)
        EXPECT(isfinite(get(&lse.t, r)), "lse of row %d is %g", r, get(&lse.t, r));
    for (int r = 5; r < 7; ++r)
        EXPECT(get(&lse.t, r) == -INFINITY, "lse of row %d is %g", r, get(&lse.t, r));

    /* With a sink, what is left alone is the sink; a sink of -inf is none. */
    float sink = 1.5f;
    s.sinks = tenon_vector(&sink, TENON_F32, 1);
    ck_assert(world_answered(w, tenon_softmax(w->ctx, &s), NULL));
    for (int64_t j = 0; j < length; ++j)
        EXPECT(get(&y.t, 5 * length + j) == nothing, "with a sink: %g", get(&y.t, 5 * length + j));
    EXPECT(fabs(get(&lse.t, 5) - 1.5) < 1e-6, "lse with a sink alone is %g", get(&lse.t, 5));
    sink = -INFINITY;
    ck_assert(world_answered(w, tenon_softmax(w->ctx, &s), NULL));
    EXPECT(get(&lse.t, 5) == -INFINITY && (length == 1 || isfinite(get(&lse.t, 4))),
           "a sink of -inf");
}

/* Columns without any mask, which a device may do many at a time. */
static void softmax_columns(world *w, tenon_dtype dtype, int64_t length, int log) {
    enum { COLUMNS = 19 };
    const int64_t shape[2] = {length, COLUMNS}, middle = length / 2;
    const int32_t axis = 0;
    world_case(w, "softmax of columns %s of %lld, log %d", tenon_dtype_name(dtype),
               (long long)length, log);
    operand x = input(w, dtype, 2, shape, DENSE, 0, (range){-1, 1}),
            y = output(w, dtype, 2, shape, DENSE);
    set(&x, middle * COLUMNS + 1, NAN);
    set(&x, middle * COLUMNS + 2, INFINITY);
    for (int64_t j = 0; j < length; ++j)
        set(&x, j * COLUMNS + 3, -INFINITY);
    const tenon_softmax_desc s = {.x = x.t, .y = y.t, .axis = &axis, .log = log};
    ck_assert(world_answered(w, tenon_softmax(w->ctx, &s), NULL));
    for (int64_t j = 0; j < length; ++j)
        for (int c = 0; c < COLUMNS; ++c) {
            const double value = get(&y.t, j * COLUMNS + c);
            EXPECT(c == 1 || c == 2 ? isnan(value)
                   : c == 3         ? value == (log ? -INFINITY : 0)
                                    : isfinite(value),
                   "column %d is %g", c, value);
        }
}

START_TEST(softmax_not_finite) {
    static const int64_t length[] = {1, 5, 16, 100, 3000};
    static const tenon_dtype type[] = {TENON_F32, TENON_F64, TENON_BF16, TENON_F16};
    world w = world_start("softmax not finite", device_id[_i]);
    for (size_t l = 0; l < sizeof length / sizeof *length; ++l)
        for (int t = 0; t < 4; ++t)
            for (int log = 0; log < 2; ++log) {
                softmax_table(&w, type[t], length[l], log, DENSE);
                softmax_table(&w, type[t], length[l], log, REVERSED);
                softmax_columns(&w, type[t], length[l], log);
            }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- attention */

static void set_row(operand *o, int64_t row, double value) {
    const int64_t width = o->t.shape[3];
    for (int64_t e = 0; e < width; ++e)
        set(o, row * width + e, value);
}

/* One head; key `bad` holds NaN and is masked in some way, for which the result must be that without the key. */
static void masked_key(world *w, tenon_dtype dtype, int64_t queries, int64_t keys, int way,
                       double poison) {
    const int64_t d = 24, bad = way >= 2 ? keys - 1 : keys / 2;
    const int64_t q_shape[4] = {1, 1, queries, d}, k_shape[4] = {1, 1, keys, d},
                  mask_shape[4] = {1, 1, 1, keys};
    world_case(w, "masked %g, way %d, %s, %lld x %lld", poison, way, tenon_dtype_name(dtype),
               (long long)queries, (long long)keys);
    operand q = input(w, dtype, 4, q_shape, DENSE, 0, (range){-1, 1}),
            k = input(w, dtype, 4, k_shape, DENSE, 0, (range){-1, 1});
    operand v = input(w, dtype, 4, k_shape, DENSE, 0, (range){-1, 1}),
            o = output(w, dtype, 4, q_shape, DENSE);
    operand clean = output(w, dtype, 4, q_shape, DENSE),
            lse = output(w, TENON_F32, 3, q_shape, DENSE);
    operand mask = input(w, TENON_BOOL, 4, mask_shape, DENSE, 0, (range){0, 1});
    operand bias = input(w, TENON_F32, 4, mask_shape, DENSE, 0, (range){0, 0});
    const int64_t length = keys - 1, one = 1;
    operand lengths = input(w, TENON_S64, 1, &one, DENSE, 0, (range){0, 0});
    tenon_attention_desc a = {.q = q.t, .k = k.t, .v = v.t, .o = clean.t, .lse = lse.t};

    set(&lengths, 0, (double)length);
    if (way == 0)
        set(&mask, bad, 0);
    if (way == 1)
        set(&bias, bad, -INFINITY);
    if (way == 0)
        a.mask = mask.t;
    if (way == 1)
        a.bias = bias.t;
    if (way == 2)
        a.key_lengths = lengths.t;
    if (way == 3) /* the last query sees it, which must not show in the others */
        a.causal = TENON_CAUSAL_BOTTOM_RIGHT;
    ck_assert(world_answered(w, tenon_attention(w->ctx, &a), NULL));
    set_row(&k, bad, poison);
    set_row(&v, bad, poison);
    a.o = o.t;
    ck_assert(world_answered(w, tenon_attention(w->ctx, &a), NULL));
    for (int64_t e = 0; e < (way == 3 ? queries - 1 : queries) * d; ++e) {
        const double x = get(&o.t, e), y = get(&clean.t, e);
        EXPECT(x == y && isfinite(x), "element %lld is %g, without poison %g", (long long)e, x, y);
    }

    /* Unmasked, it is seen. */
    a.mask = a.bias = a.key_lengths = (tenon_tensor){0};
    a.causal = TENON_CAUSAL_NONE;
    ck_assert(world_answered(w, tenon_attention(w->ctx, &a), NULL));
    EXPECT(isnan(get(&o.t, 0)) && isnan(get(&lse.t, 0)), "an unmasked %g gives %g, lse %g", poison,
           get(&o.t, 0), get(&lse.t, 0));
}

/* A weight that vanishes, with a negative scale of the values: the key is seen all the same, and so is its NaN. */
static void vanishing_weight(world *w, tenon_dtype dtype, double scale) {
    const int64_t q_shape[4] = {1, 1, 1, 16}, k_shape[4] = {1, 1, 3, 16};
    world_case(w, "a weight of 0, scale %g, %s", scale, tenon_dtype_name(dtype));
    operand q = input(w, dtype, 4, q_shape, DENSE, 0, (range){1, 1}),
            k = input(w, dtype, 4, k_shape, DENSE, 0, (range){0, 0}),
            v = input(w, dtype, 4, k_shape, DENSE, 0, (range){1, 1}),
            o = output(w, dtype, 4, q_shape, DENSE),
            factor = input(w, TENON_F32, 0, NULL, DENSE, 0, (range){0, 0});
    set_row(&k, 0, 100);
    set_row(&k, 1, -100);
    set_row(&v, 1, NAN);
    set(&factor, 0, scale);
    const tenon_attention_desc a = {.q = q.t,
                                    .k = k.t,
                                    .v = v.t,
                                    .o = o.t,
                                    .v_scale = scale == 0 ? (tenon_tensor){0} : factor.t};
    if (!world_answered(w, tenon_attention(w->ctx, &a), NULL))
        return;
    EXPECT(isnan(get(&o.t, 0)), "NaN in v is lost: %g", get(&o.t, 0));
}

START_TEST(attention_vanishing) {
    static const tenon_dtype type[] = {TENON_F32, TENON_BF16, TENON_F16};
    static const double scale[] = {0, 1, -1, -1e-30};
    world w = world_start("attention vanishing", device_id[_i]);
    for (int t = 0; t < 3; ++t)
        for (int s = 0; s < 4; ++s)
            vanishing_weight(&w, type[t], scale[s]);
    world_end(&w);
}
END_TEST

START_TEST(attention_masked) {
    static const int64_t queries[] = {1, 3, 40}, keys[] = {2, 17, 300, 700};
    static const tenon_dtype type[] = {TENON_F32, TENON_BF16, TENON_F16, TENON_F64};
    world w = world_start("attention masked", device_id[_i]);
    for (int t = 0; t < 4; ++t)
        for (size_t i = 0; i < sizeof queries / sizeof *queries; ++i)
            for (size_t j = 0; j < sizeof keys / sizeof *keys; ++j)
                for (int way = 0; way < 4; ++way)
                    masked_key(&w, type[t], queries[i], keys[j], way, NAN);
    world_end(&w);
}
END_TEST

START_TEST(attention_nothing_left) {
    const int64_t q_shape[4] = {1, 2, 9, 16}, k_shape[4] = {1, 2, 300, 16},
                  mask_shape[4] = {1, 1, 9, 300};
    world here = world_start("attention nothing left", device_id[_i]), *w = &here;
    world_case(w, "queries that see nothing");
    operand q = input(w, TENON_F32, 4, q_shape, DENSE, 0, (range){-1, 1}),
            k = input(w, TENON_F32, 4, k_shape, DENSE, 0, (range){-1, 1});
    operand v = input(w, TENON_F32, 4, k_shape, DENSE, 0, (range){-1, 1}),
            o = output(w, TENON_F32, 4, q_shape, DENSE);
    operand lse = output(w, TENON_F32, 3, q_shape, DENSE),
            mask = input(w, TENON_BOOL, 4, mask_shape, DENSE, 0, (range){0, 1});
    tenon_attention_desc a = {.q = q.t, .k = k.t, .v = v.t, .o = o.t, .lse = lse.t, .mask = mask.t};
    const float sinks[2] = {-0.75f, -INFINITY};

    for (int64_t j = 0; j < 300; ++j)
        set(&mask, 4 * 300 + j, 0); /* query 4 sees nothing */
    for (int with_sinks = 0; with_sinks < 2; ++with_sinks) {
        if (with_sinks)
            a.sinks = tenon_vector(sinks, TENON_F32, 2);
        ck_assert(world_answered(w, tenon_attention(w->ctx, &a), NULL));
        for (int64_t h = 0; h < 2; ++h) {
            const double expected = with_sinks ? (double)sinks[h] : -INFINITY;
            for (int64_t e = 0; e < 16; ++e)
                EXPECT(get(&o.t, (h * 9 + 4) * 16 + e) == 0, "o is not 0");
            const double value = get(&lse.t, h * 9 + 4);
            EXPECT(isinf(expected) ? value == expected : fabs(value - expected) < 1e-6,
                   "lse is %g, expected %g", value, expected);
            EXPECT(isfinite(get(&lse.t, h * 9 + 3)), "the row before has lse %g",
                   get(&lse.t, h * 9 + 3));
        }
    }

    /* NaN in one query, and in one column of the values. */
    a.mask = a.sinks = (tenon_tensor){0};
    set(&q, 2 * 16 + 5, NAN);
    set(&v, 100 * 16 + 3, NAN);
    ck_assert(world_answered(w, tenon_attention(w->ctx, &a), NULL));
    for (int64_t i = 0; i < 9; ++i)
        for (int64_t e = 0; e < 16; ++e) {
            const double value = get(&o.t, i * 16 + e), other = get(&o.t, (9 + i) * 16 + e);
            EXPECT(i == 2 || e == 3 ? isnan(value) : isfinite(value),
                   "query %lld, column %lld is %g", (long long)i, (long long)e, value);
            EXPECT(isfinite(other), "the other head is %g", other);
        }
    for (int64_t i = 0; i < 9; ++i)
        EXPECT(i == 2 ? isnan(get(&lse.t, i)) : isfinite(get(&lse.t, i)), "lse %g", get(&lse.t, i));
    world_end(w);
}
END_TEST

/* ---------------------------------------------------------------- merge */

START_TEST(merge_not_finite) {
    /* Rows: a part that saw nothing and holds NaN; no part left; an lse of NaN. */
    world here = world_start("merge not finite", device_id[_i]), *w = &here;
    const int64_t o_shape[2] = {3, 20}, lse_shape[1] = {3};
    world_case(w, "merge");
    operand o[2], lse[2], out = output(w, TENON_F32, 2, o_shape, DENSE),
                          out_lse = output(w, TENON_F32, 1, lse_shape, DENSE);
    tenon_tensor parts[2], lse_parts[2];
    for (int p = 0; p < 2; ++p) {
        o[p] = input(w, TENON_F32, 2, o_shape, DENSE, 0, (range){1, 2});
        lse[p] = input(w, TENON_F32, 1, lse_shape, DENSE, 0, (range){-1, 1});
        parts[p] = o[p].t;
        lse_parts[p] = lse[p].t;
        set(&lse[p], 1, -INFINITY);
    }
    set(&lse[1], 0, -INFINITY);
    for (int64_t e = 0; e < 20; ++e)
        set(&o[1], e, NAN);
    set(&lse[1], 2, NAN);
    const tenon_attention_merge_desc m = {
        .o_parts = parts, .lse_parts = lse_parts, .count = 2, .o = out.t, .lse = out_lse.t};
    ck_assert(world_answered(w, tenon_attention_merge(w->ctx, &m), NULL));
    for (int64_t e = 0; e < 20; ++e) {
        EXPECT(fabs(get(&out.t, e) - get(&o[0].t, e)) < 1e-6, "one part left: %g", get(&out.t, e));
        EXPECT(get(&out.t, 20 + e) == 0, "no part left: %g", get(&out.t, 20 + e));
        EXPECT(isnan(get(&out.t, 40 + e)), "lse NaN: %g", get(&out.t, 40 + e));
    }
    EXPECT(get(&out_lse.t, 1) == -INFINITY && isnan(get(&out_lse.t, 2)), "lse %g %g",
           get(&out_lse.t, 1), get(&out_lse.t, 2));
    world_end(w);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {gemm_not_finite,     gemm_activations,       gemm_conversions,
                                  integers_are_exact,  softmax_not_finite,     attention_masked,
                                  attention_vanishing, attention_nothing_left, merge_not_finite};
    return conform_main("conformance special", tests, sizeof tests / sizeof *tests);
}
