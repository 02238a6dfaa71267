/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The activation functions of every level: the same bits as the scalar level, and close to libm's
 * in double precision. The errors allowed are those measured over all f32 in steps of 997
 * (math_f32.h), rounded up.
 */
#include "gemm_tiles.h"

#include "rng.h"
#include "suite.h"

#include <tenon/gemm.h>

#include <stdlib.h>

enum { N = 4099 };

static double exact(int activation, double x) {
    switch (activation) {
    case TENON_ACTIVATION_RELU:
        return x > 0 ? x : 0;
    case TENON_ACTIVATION_GELU:
        return 0.5 * x * erfc(-x * 0.70710678118654752440);
    case TENON_ACTIVATION_GELU_TANH:
        return x / (1 + exp(-2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case TENON_ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case TENON_ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-x));
    case TENON_ACTIVATION_TANH:
        return tanh(x);
    default:
        return x < -0.5 ? -0.5 : x > 0.75 ? 0.75 : x;
    }
}

/* Numbers that activations meet, and some that they should not. */
static void fill(rng *r, float *x) {
    for (int i = 0; i < N; i++) {
        const uint32_t bits = (uint32_t)rng_u64(r);
        if (i % 8 == 0)
            memcpy(&x[i], &bits, 4);
        else
            x[i] = rng_f32(r) * ldexpf(1, (int)(bits & 15) - 6);
        if (isinf(x[i]))
            x[i] = 0;
    }
    x[0] = NAN;
    x[1] = 0;
    x[2] = -0.0f;
}

static const tn_gemm_tile *scalar_tile(tenon_dtype type) {
    for (int i = 0; i < TILES; i++)
        if (all_tiles[i]->type == type && all_tiles[i]->level == TN_CPU_SCALAR)
            return all_tiles[i];
    return NULL;
}

START_TEST(activations) {
    const tn_gemm_tile *tile = all_tiles[_i];
    const bool single = tile->type == TENON_F32;
    const double u = single ? 0x1p-24 : 0x1p-53;
    rng r = rng_start("activations");
    float x[N];
    if (!tile_runs(tile))
        return;
    for (int activation = TENON_ACTIVATION_RELU; activation <= TENON_ACTIVATION_CLAMP;
         activation++) {
        double mine[N], scalar[N];
        fill(&r, x);
        for (int i = 0; i < N; i++) {
            if (single)
                ((float *)mine)[i] = ((float *)scalar)[i] = x[i];
            else
                mine[i] = scalar[i] = (double)x[i];
        }
        tile->ops.activate(mine, activation, -0.5, 0.75, N);
        scalar_tile(tile->type)->ops.activate(scalar, activation, -0.5, 0.75, N);
        for (int i = 0; i < N; i++) {
            const double got = element_at(mine, tile->type, i),
                         same = element_at(scalar, tile->type, i);
            const double want = exact(activation, (double)x[i]);
            ck_assert_msg(got == same || (got != got && same != same),
                          "%s: activation %d of %a is %a, at the scalar level %a", tile->name,
                          activation, (double)x[i], got, same);
            if (x[i] != x[i]) {
                ck_assert_msg(got != got, "%s: activation %d of NaN is %a", tile->name, activation,
                              got);
                continue;
            }
            const double sigmoid_like =
                activation == TENON_ACTIVATION_SIGMOID || activation == TENON_ACTIVATION_TANH ? 1
                                                                                              : 0;
            const double scale = sigmoid_like ? fabs(want) : fabs((double)x[i]);
            const double allowed = 8 * u * scale + (single ? 0x1p-149 : 0x1p-1074);
            ck_assert_msg(fabs(got - want) <= allowed || got == want || want != want,
                          "%s: activation %d of %a is %a, expected %a", tile->name, activation,
                          (double)x[i], got, want);
        }
    }
}
END_TEST

/* The measure itself: an activation with its argument off by two units must be refused somewhere.
 */
START_TEST(measure_is_sharp) {
    rng r = rng_start("measure");
    float x[N];
    int refused = 0;
    fill(&r, x);
    for (int i = 3; i < N; i++) {
        const double want = exact(TENON_ACTIVATION_TANH, (double)x[i]),
                     wrong = exact(TENON_ACTIVATION_TANH, (double)x[i] * (1 + 0x1p-19));
        refused += fabs(wrong - want) > 8 * 0x1p-24 * fabs(want) + 0x1p-149;
    }
    ck_assert_int_gt(refused, 0);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("math");
    TCase *t = tcase_create("activations");
    tcase_set_timeout(t, 100);
    tcase_add_loop_test(t, activations, 0, TILES);
    tcase_add_test(t, measure_is_sharp);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    return run_suite(suite());
}
