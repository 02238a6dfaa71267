/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with B of block types, in all three modes, on every device: valid blocks within the bound, any bytes at all by the NaN table. */
#include "block_operand.h"
#include "gemm_case.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FIRST = TENON_Q8_0, LAST = TENON_NVFP4, MODES = TENON_COMPUTE_FAST + 1 };

static int64_t elements_of(tenon_dtype dtype) {
    int64_t elements = 1;
    ck_assert_int_eq(tenon_dtype_block(dtype, &elements, NULL), TENON_OK);
    return elements;
}

static void run(world *w, gemm_case x) {
    run_gemm_case(w, &x);
}

/* ---------------------------------------------------------------- types, modes, shapes */

START_TEST(types) {
    static const tenon_dtype a[] = {TENON_F32, TENON_F16, TENON_BF16},
                             c[] = {TENON_F32, TENON_BF16, TENON_F16, TENON_F64};
    static const int64_t size[][2] = {{1, 1}, {1, 37}, {2, 16}, {3, 33}, {8, 8}, {21, 50}};
    world w = world_start("blocks types", device_id[_i]);
    int turn = 0;
    for (int b = FIRST; b <= LAST; ++b)
        for (int mode = 0; mode < MODES; ++mode)
            for (size_t s = 0; s < sizeof size / sizeof *size; ++s, ++turn)
                run(&w, (gemm_case){.name = "types",
                                    .m = size[s][0],
                                    .n = size[s][1],
                                    .k = 512 + elements_of((tenon_dtype)b) * (turn % 3),
                                    .a = a[turn % 3],
                                    .b = (tenon_dtype)b,
                                    .c = c[turn % 4],
                                    .compute = (tenon_compute)mode});
    world_end(&w);
}
END_TEST

START_TEST(shapes) {
    /* Tile edges ± 1, primes, nothing, one; from one block to several blocks of k. */
    static const int64_t extent[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 67};
    static const int64_t blocks[] = {1, 2, 3, 5, 0, 9};
    enum { EXTENTS = sizeof extent / sizeof *extent, DEPTHS = sizeof blocks / sizeof *blocks };
    world w = world_start("blocks shapes", device_id[_i]);
    int turn = 0;
    for (int i = 0; i < EXTENTS; ++i)
        for (int j = 0; j < EXTENTS; ++j) {
            const tenon_dtype b = (tenon_dtype)(FIRST + turn++ % (LAST - FIRST + 1));
            const int64_t elements = elements_of(b), count = blocks[turn % DEPTHS];
            run(&w, (gemm_case){.name = "shape",
                                .m = extent[i],
                                .n = extent[j],
                                .k = elements * (elements > 64 ? (count + 1) / 2 : count),
                                .b = b,
                                .a_layout = (layout)(turn % LAYOUTS),
                                .b_layout = (layout)(turn / 2 % LAYOUTS),
                                .compute = (tenon_compute)(turn / 3 % MODES)});
        }
    world_end(&w);
}
END_TEST

START_TEST(large) {
    static const int64_t size[][3] = {{1, 300, 4096}, {1, 9, 14336}, {5, 70, 2304},
                                      {16, 130, 768}, {70, 97, 768}, {150, 40, 512}};
    world w = world_start("blocks large", device_id[_i]);
    for (int b = FIRST; b <= LAST; ++b)
        for (size_t s = 0; s < sizeof size / sizeof *size; ++s)
            run(&w,
                (gemm_case){.name = "large",
                            .m = size[s][0],
                            .n = size[s][1],
                            .k = size[s][2],
                            .b = (tenon_dtype)b,
                            .compute = (tenon_compute)((b + (int)s) % 2 ? TENON_COMPUTE_FAST
                                                                        : TENON_COMPUTE_EXACT)});
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- every field */

START_TEST(every_field) {
    static const gemm_case fields[] = {
        {.name = "alpha, beta", .alpha = 0.7, .beta = -0.6},
        {.name = "bias row", .bias = ROW},
        {.name = "bias column", .bias = COLUMN, .c = TENON_F16},
        {.name = "bias, residual",
         .bias = FULL,
         .residual = FULL,
         .activation = TENON_ACTIVATION_GELU},
        {.name = "residual is c", .residual = ALIAS, .activation = TENON_ACTIVATION_RELU},
        {.name = "clamp",
         .activation = TENON_ACTIVATION_CLAMP,
         .clamp_low = -0.5,
         .clamp_high = 0.75},
        {.name = "gated halves",
         .gated = TENON_GATED_HALVES,
         .activation = TENON_ACTIVATION_SILU,
         .bias = ROW},
        {.name = "gated interleaved",
         .gated = TENON_GATED_INTERLEAVED,
         .activation = TENON_ACTIVATION_GELU_TANH,
         .residual = FULL},
        {.name = "batch", .batch_rank = 2, .batch = {2, 3}},
        {.name = "batch, one b", .batch_rank = 1, .batch = {3}, .b_once = 1},
        {.name = "batch, b repeats",
         .batch_rank = 2,
         .batch = {2, 3},
         .b_once = 2,
         .b_layout = PADDED},
        {.name = "batch, one a", .batch_rank = 1, .batch = {3}, .a_once = 1, .b_layout = REVERSED},
        {.name = "backward", .batch_rank = 1, .batch = {2}, .b_layout = BACKWARD},
        {.name = "experts", .experts = 4},
        {.name = "experts, s64, bias", .experts = 3, .offsets = TENON_S64, .bias = ROW},
        {.name = "experts, gated",
         .experts = 3,
         .gated = TENON_GATED_HALVES,
         .activation = TENON_ACTIVATION_SILU,
         .b_layout = PADDED},
        {.name = "arrays", .array = 3},
        {.name = "arrays, c transposed", .array = 2, .c_layout = PADDED, .bias = ROW},
        {.name = "packed", .packed = 1},
        {.name = "packed, batch", .packed = 1, .batch_rank = 1, .batch = {2}, .bias = ROW},
        {.name = "packed, batch, one b",
         .packed = 1,
         .batch_rank = 1,
         .batch = {2},
         .b_once = 2,
         .b_layout = STEPPED},
        {.name = "packed, experts", .packed = 1, .experts = 3},
        {.name = "packed, gated",
         .packed = 1,
         .gated = TENON_GATED_INTERLEAVED,
         .activation = TENON_ACTIVATION_SILU},
        {.name = "b_scale", .b_scale = PER_TENSOR},
        {.name = "b_scale of columns, b_zero", .b_scale = PER_ROW, .b_zero = PER_ROW},
        {.name = "b_scale of groups", .b_scale = PER_BOTH, .b_zero = PER_GROUP},
        {.name = "a_scale of rows", .a_scale = PER_ROW, .b_scale = PER_ROW},
        {.name = "a_scale of groups", .a_scale = PER_BOTH, .a_zero = PER_ROW},
        {.name = "packed, b_scale", .packed = 1, .b_scale = PER_BOTH, .b_zero = PER_TENSOR},
        {.name = "s8 out", .c = TENON_S8, .c_scale = ROW, .c_zero = SCALAR},
        {.name = "f8 out", .c = TENON_F8_E4M3, .bias = SCALAR},
        {.name = "c transposed", .c_layout = TRANSPOSED, .bias = ROW, .residual = ROW},
        {.name = "a backward", .a_layout = BACKWARD, .a = TENON_F16},
        {.name = "a transposed", .a_layout = TRANSPOSED, .a = TENON_BF16},
    };
    static const int64_t m[] = {1, 2, 6, 19};
    world w = world_start("blocks fields", device_id[_i]);
    int turn = 0;
    for (size_t f = 0; f < sizeof fields / sizeof *fields; ++f)
        for (int b = FIRST; b <= LAST; ++b, ++turn) {
            gemm_case x = fields[f];
            x.m = m[turn % 4] + (x.experts ? 7 : 0);
            x.n = 17 + 9 * (turn % 3);
            x.k = turn % 2 ? 512 : 256;
            x.b = (tenon_dtype)b;
            x.compute = (tenon_compute)(turn / 2 % MODES);
            run(&w, x);
        }
    world_end(&w);
}
END_TEST

START_TEST(combinations) {
    world w = world_start("blocks combinations", device_id[_i]);
    for (int i = 0; i < 300; ++i) {
        rng *r = &w.random;
        static const tenon_dtype a[] = {TENON_F32, TENON_F16, TENON_BF16},
                                 c[] = {TENON_F32, TENON_F64, TENON_F16, TENON_BF16};
        gemm_case x = {.name = "combination",
                       .m = rng_below(r, 3) ? rng_between(r, 1, 20) : 1,
                       .n = rng_between(r, 1, 70),
                       .k = 256 * rng_between(r, 0, 3)};
        x.a = a[rng_below(r, 3)];
        x.b = (tenon_dtype)rng_between(r, FIRST, LAST);
        x.c = c[rng_below(r, 4)];
        x.extra = c[rng_below(r, 4)];
        x.compute = (tenon_compute)rng_below(r, MODES);
        x.a_layout = (layout)rng_below(r, LAYOUTS);
        x.b_layout = (layout)rng_below(r, LAYOUTS);
        x.c_layout = rng_below(r, 2) ? DENSE : TRANSPOSED;
        if (rng_below(r, 2))
            x.alpha = 1.25;
        x.gated = rng_below(r, 4) ? TENON_GATED_NONE : (tenon_gated)rng_between(r, 1, 2);
        if (!x.gated && rng_below(r, 3) == 0)
            x.beta = 0.75;
        x.bias = (spread)rng_below(r, ALIAS);
        x.residual = (spread)rng_below(r, ALIAS + 1);
        x.activation = (tenon_activation)rng_below(r, TENON_ACTIVATION_CLAMP);
        x.groups = x.k ? 4 : 1;
        x.a_scale = rng_below(r, 5) ? NO_QUANTUM : (quantum)rng_between(r, PER_TENSOR, PER_BOTH);
        x.b_scale = rng_below(r, 4) ? NO_QUANTUM : (quantum)rng_between(r, PER_TENSOR, PER_BOTH);
        x.packed = rng_below(r, 4) == 0;
        if (rng_below(r, 3) == 0) {
            x.batch_rank = (int32_t)rng_between(r, 1, 2);
            x.batch[0] = rng_between(r, 1, 3);
            x.batch[1] = rng_between(r, 1, 3);
            x.b_once = (int32_t)rng_below(r, 3);
        }
        run(&w, x);
    }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- any bytes */

/*
 * What an element may be: section 7 with section 9's values. Weights so large that f32 sums may overflow are only run; fast sums of a
 * weight that is infinite or NaN are not finite, more is not said.
 */
static void expect_by_bytes(world *w, const operand *a, const operand *b, const operand *c,
                            int64_t i, int64_t j, tenon_compute mode) {
    const int64_t k = a->t.shape[1], n = b->t.shape[1];
    double sum = 0, size = 0, largest = 0;
    bool finite = true, nan = false;
    for (int64_t p = 0; p < k; ++p) {
        const double x = get(&a->exact, i * k + p), weight = get(&b->exact, p * n + j),
                     parts = get(&b->size, p * n + j);
        finite = finite && isfinite(weight) && isfinite(parts);
        nan = nan || isnan(weight);
        sum += x * weight;
        size += parts; /* |a| ≤ 1 */
        largest = fmax(largest, parts);
    }
    const double value = get(&c->t, i * n + j);
    if (nan && mode != TENON_COMPUTE_FAST && !isnan(value))
        ck_abort_msg("%s: %s: [%d, %d] is %g, expected NaN", w->device, w->what, (int)i, (int)j,
                     value);
    if (!finite && isfinite(value))
        ck_abort_msg("%s: %s: [%d, %d] is %g, expected no finite number", w->device, w->what,
                     (int)i, (int)j, value);
    if (!finite || size > 1e30)
        return;
    const bound_gemm_element e = {.k = k,
                                  .accumulate = TENON_F32,
                                  .fast = mode == TENON_COMPUTE_FAST,
                                  .products = {size, 0},
                                  .c_scale = 1};
    expect(w, c, i * n + j, sum, bound_gemm(&e));
}

START_TEST(any_bytes) {
    static const int64_t size[][3] = {{1, 64, 256}, {1, 9, 512}, {3, 50, 256}, {18, 33, 512}};
    world w = world_start("blocks any bytes", device_id[_i]);
    for (int b = FIRST; b <= LAST; ++b)
        for (int mode = 0; mode < MODES; ++mode)
            for (size_t s = 0; s < sizeof size / sizeof *size; ++s) {
                const int64_t m = size[s][0], n = size[s][1], k = size[s][2];
                const int64_t a_shape[2] = {m, k}, b_shape[2] = {k, n}, c_shape[2] = {m, n};
                world_case(&w, "any bytes of %s, mode %d, %lldx%lldx%lld",
                           tenon_dtype_name((tenon_dtype)b), mode, (long long)m, (long long)n,
                           (long long)k);
                operand x = input(&w, TENON_F32, 2, a_shape, DENSE, 0, (range){0.25, 1}),
                        y = block_input(&w, (tenon_dtype)b, 2, b_shape, DENSE),
                        z = output(&w, TENON_F32, 2, c_shape, DENSE);
                /* Columns in turn: as drawn, one scale of any bytes, all of them any bytes. */
                const size_t column = y.bytes / (size_t)n;
                for (int64_t j = 0; j < n; ++j) {
                    unsigned char *first = y.memory + (size_t)j * column;
                    if (j % 3 == 1 && b != TENON_Q6_K)
                        rng_fill_bytes(&w.random, first, b == TENON_MXFP4 ? 1 : 2);
                    else if (j % 3 == 1)
                        rng_fill_bytes(&w.random, first + 208, 2);
                    else if (j % 3 == 2)
                        rng_fill_bytes(&w.random, first, column);
                }
                block_exact(&w, &y);
                const tenon_gemm_desc g = {
                    .a = x.t, .b = y.t, .c = z.t, .compute = (tenon_compute)mode};
                if (!world_answered(&w, tenon_gemm(w.ctx, &g), NULL))
                    continue;
                expect_untouched(&w, &z, NULL);
                for (int64_t e = 0; e < m * n; ++e)
                    expect_by_bytes(&w, &x, &y, &z, e / n, e % n, (tenon_compute)mode);
            }
    world_end(&w);
}
END_TEST

/* NaN and infinity in A spoil their row, also where it is rounded to int8, and nothing else. */
START_TEST(not_finite_a) {
    world w = world_start("blocks not finite a", device_id[_i]);
    for (int b = FIRST; b <= LAST; ++b)
        for (int mode = 0; mode < MODES; ++mode)
            for (int64_t m = 1; m <= 17; m += 8) {
                const int64_t a_shape[2] = {m, 512}, b_shape[2] = {512, 19}, c_shape[2] = {m, 19};
                const int64_t row = m / 2;
                world_case(&w, "not finite in a beside %s, mode %d, m %d",
                           tenon_dtype_name((tenon_dtype)b), mode, (int)m);
                operand x = input(&w, TENON_F32, 2, a_shape, DENSE, 0, (range){0.25, 1}),
                        y = block_input(&w, (tenon_dtype)b, 2, b_shape, DENSE),
                        z = output(&w, TENON_F32, 2, c_shape, DENSE);
                set(&x, row * 512 + rng_below(&w.random, 512), m == 1 ? INFINITY : NAN);
                const tenon_gemm_desc g = {
                    .a = x.t, .b = y.t, .c = z.t, .compute = (tenon_compute)mode};
                if (!world_answered(&w, tenon_gemm(w.ctx, &g), NULL))
                    continue;
                for (int64_t e = 0; e < m * 19; ++e)
                    if (isfinite(get(&z.t, e)) != (e / 19 != row))
                        ck_abort_msg("%s: %s: row %d is %g", w.device, w.what, (int)(e / 19),
                                     get(&z.t, e));
            }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- negative control */

/* Some quants of one block changed after the exact copy was made: the comparison must see it, in fast sums too. */
START_TEST(control) {
    world w = world_start("blocks control", device_id[_i]);
    for (int b = FIRST; b <= LAST; ++b)
        for (int mode = 0; mode < MODES; ++mode) {
            const int64_t a_shape[2] = {2, 256}, b_shape[2] = {256, 3}, c_shape[2] = {2, 3};
            world_case(&w, "control %s, mode %d", tenon_dtype_name((tenon_dtype)b), mode);
            operand x = input(&w, TENON_F32, 2, a_shape, DENSE, 0, (range){0.9, 1}),
                    y = block_input(&w, (tenon_dtype)b, 2, b_shape, DENSE),
                    z = output(&w, TENON_F32, 2, c_shape, DENSE);
            const size_t changed = b == TENON_MXFP4 ? 1 : 4;
            memset(y.memory + y.bytes / 3 + changed, 0xff, 16);
            const tenon_gemm_desc g = {
                .a = x.t, .b = y.t, .c = z.t, .compute = (tenon_compute)mode};
            if (!world_answered(&w, tenon_gemm(w.ctx, &g), NULL))
                continue;
            w.counting = true;
            w.failures = 0;
            for (int64_t e = 0; e < 6; ++e)
                expect_by_bytes(&w, &x, &y, &z, e / 3, e % 3, (tenon_compute)mode);
            w.counting = false;
            if (w.failures != 2)
                ck_abort_msg("%s: %s: %d elements found wrong, expected the 2 of one column",
                             w.device, w.what, (int)w.failures);
        }
    world_end(&w);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {types,        shapes,    large,        every_field,
                                  combinations, any_bytes, not_finite_a, control};
    return conform_main("conformance blocks", tests, sizeof tests / sizeof *tests);
}
