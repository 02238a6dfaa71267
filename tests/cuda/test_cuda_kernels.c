/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cuda_kernels.c: what the conformance suite can't see of the CUDA kernels: problems at whose
 * operands memory ends (kernel_cases.h), that every tile of gemm_mma.cu gives the same bytes for
 * every layout, with no findings of the stand-in driver, and what its counters say of shared and
 * device memory.
 */
#include "cuda_host.h"
#include "kernel_cases.h"

#include <math.h>
#include <string.h>

#include "rng.h"

static float value_of(uint16_t h) { /* bf16 */
    const uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint16_t *numbers(rng *r, size_t n) {
    uint16_t *x = malloc(n * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++) {
        const float f = rng_f32(r);
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        x[i] = (uint16_t)(u >> 16);
    }
    return x;
}

static uint16_t *turned(const uint16_t *x, int rows, int columns) {
    uint16_t *t = malloc((size_t)rows * (size_t)columns * sizeof *t);
    ck_assert_ptr_nonnull(t);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            t[j * rows + i] = x[i * columns + j];
    return t;
}

typedef struct shape {
    int m, n, k;
    tenon_gated gated;
} shape;

/* Tiles that fill up and that don't, one segment of k and several, copies of 16 bytes and of less. */
static const shape shapes[] = {
    {64, 64, 64, TENON_GATED_NONE},       {128, 128, 192, TENON_GATED_NONE},
    {130, 200, 136, TENON_GATED_NONE},    {33, 65, 100, TENON_GATED_NONE},
    {5, 137, 77, TENON_GATED_NONE},       {16, 256, 128, TENON_GATED_NONE},
    {96, 80, 2100, TENON_GATED_NONE},     {3, 40, 3000, TENON_GATED_NONE},
    {20, 48, 64, TENON_GATED_HALVES},     {20, 47, 72, TENON_GATED_HALVES},
    {20, 48, 64, TENON_GATED_INTERLEAVED}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* |c − exact| within (3.2) of docs/NUMERICS.md, generously: 2^-14 of the sum of magnitudes. */
static void expect_near(const shape *s, const uint16_t *a, const uint16_t *b, const float *c) {
    const int halves = s->gated == TENON_GATED_NONE ? 1 : 2;
    for (int i = 0; i < s->m; i++)
        for (int j = 0; j < s->n; j++) {
            double z[2] = {0, 1}, size[2] = {0, 1};
            for (int half = 0; half < halves; half++) {
                const int column =
                    s->gated == TENON_GATED_INTERLEAVED ? 2 * j + half : half * s->n + j;
                z[half] = size[half] = 0;
                for (int p = 0; p < s->k; p++) {
                    const double x = (double)value_of(a[i * s->k + p]) *
                                     (double)value_of(b[p * s->n * halves + column]);
                    z[half] += x;
                    size[half] += fabs(x);
                }
            }
            const float got = c[i * s->n + j];
            ck_assert_msg(fabs((double)got - z[0] * z[1]) <= size[0] * size[1] * 0x1p-14,
                          "%dx%dx%d: element (%d, %d) is %g, expected %g", s->m, s->n, s->k, i, j,
                          (double)got, z[0] * z[1]);
        }
}

/* The four layouts of A and B give the same bytes. */
START_TEST(layouts) {
    const shape *s = &shapes[_i];
    const int columns = s->gated == TENON_GATED_NONE ? s->n : 2 * s->n;
    for (int seed = 0; seed < KERNEL_SEEDS; seed++) {
        rng r = rng_start("cuda layouts");
        tenon_context *ctx;
        standin_reset();
        pretend(0);
        standin_seed(kernel_seeds[seed]);
        CU(cuInit(0)); /* the library has done so before the reset */
        OK(NULL, tenon_context_create(&(tenon_context_desc){.device = "cuda"}, &ctx));
        uint16_t *a = numbers(&r, (size_t)s->m * (size_t)s->k), *at = turned(a, s->m, s->k);
        uint16_t *b = numbers(&r, (size_t)s->k * (size_t)columns), *bt = turned(b, s->k, columns);
        const size_t bytes = (size_t)s->m * (size_t)s->n * sizeof(float);
        float *c[4];
        for (int layout = 0; layout < 4; layout++) {
            c[layout] = malloc(bytes);
            ck_assert_ptr_nonnull(c[layout]);
            memset(c[layout], 0xff, bytes);
            const tenon_gemm_desc g = {
                .a = layout & 1 ? tenon_transposed(tenon_matrix(at, TENON_BF16, s->k, s->m))
                                : tenon_matrix(a, TENON_BF16, s->m, s->k),
                .b = layout & 2 ? tenon_transposed(tenon_matrix(bt, TENON_BF16, columns, s->k))
                                : tenon_matrix(b, TENON_BF16, s->k, columns),
                .c = tenon_matrix(c[layout], TENON_F32, s->m, s->n),
                .gated = s->gated};
            OK(ctx, tenon_gemm(ctx, &g));
            OK(ctx, tenon_sync(ctx));
            if (layout == 0)
                expect_near(s, a, b, c[0]);
            ck_assert_mem_eq(c[0], c[layout], bytes);
        }
        for (size_t i = 0; i < standin_count(); i++)
            printf("%s: %s\n", standin_at(i)->kernel, standin_at(i)->text);
        ck_assert_uint_eq(standin_count(), 0);
        for (int layout = 0; layout < 4; layout++)
            free(c[layout]);
        free(a), free(at), free(b), free(bt);
        tenon_context_destroy(ctx);
    }
}
END_TEST

/* A row has the same bytes alone, in a flat tile or a split one, and among others in any. */
START_TEST(rows_alone) {
    enum { MANY = 150, COLUMNS = 136, STEPS = 2056 };
    rng r = rng_start("cuda rows alone");
    tenon_context *ctx;
    standin_reset();
    pretend(0);
    OK(NULL, tenon_context_create(&(tenon_context_desc){.device = "cuda"}, &ctx));
    uint16_t *a = numbers(&r, MANY * STEPS), *b = numbers(&r, STEPS * COLUMNS);
    float *all = malloc(MANY * COLUMNS * sizeof *all), *some = malloc(32 * COLUMNS * sizeof *some);
    ck_assert_ptr_nonnull(all);
    ck_assert_ptr_nonnull(some);
    tenon_gemm_desc g = {.a = tenon_matrix(a, TENON_BF16, MANY, STEPS),
                         .b = tenon_matrix(b, TENON_BF16, STEPS, COLUMNS),
                         .c = tenon_matrix(all, TENON_F32, MANY, COLUMNS)};
    OK(ctx, tenon_gemm(ctx, &g));
    OK(ctx, tenon_sync(ctx));
    static const int counts[] = {1, 16, 32};
    for (int i = 0; i < 3; i++)
        for (size_t limit = 0; limit < 2; limit++) {
            g.a = tenon_matrix(a + 40 * STEPS, TENON_BF16, counts[i], STEPS);
            g.c = tenon_matrix(some, TENON_F32, counts[i], COLUMNS);
            g.workspace.bytes = limit; /* 1: nothing is split */
            OK(ctx, tenon_gemm(ctx, &g));
            OK(ctx, tenon_sync(ctx));
            ck_assert_mem_eq(some, all + 40 * COLUMNS, (size_t)counts[i] * COLUMNS * sizeof *some);
        }
    ck_assert_uint_eq(standin_count(), 0);
    free(a), free(b), free(all), free(some);
    tenon_context_destroy(ctx);
}
END_TEST

/* Copies and fragments meet no bank twice, and sectors are read whole; the end of a tile and
 * ragged edges have a small part. */
START_TEST(traffic) {
    enum { SIDE = 128, STEPS = 1024 };
    rng r = rng_start("cuda traffic");
    tenon_context *ctx;
    standin_reset();
    pretend(0);
    OK(NULL, tenon_context_create(&(tenon_context_desc){.device = "cuda"}, &ctx));
    uint16_t *a = numbers(&r, SIDE * STEPS), *b = numbers(&r, STEPS * SIDE);
    float *c = malloc(SIDE * SIDE * sizeof *c);
    ck_assert_ptr_nonnull(c);
    for (int layout = 0; layout < 4; layout++) {
        const tenon_gemm_desc g = {
            .a = layout & 1 ? tenon_transposed(tenon_matrix(a, TENON_BF16, STEPS, SIDE))
                            : tenon_matrix(a, TENON_BF16, SIDE, STEPS),
            .b = layout & 2 ? tenon_transposed(tenon_matrix(b, TENON_BF16, SIDE, STEPS))
                            : tenon_matrix(b, TENON_BF16, STEPS, SIDE),
            .c = tenon_matrix(c, TENON_F32, SIDE, SIDE)};
        standin_clear();
        OK(ctx, tenon_gemm(ctx, &g));
        OK(ctx, tenon_sync(ctx));
        const standin_counters x = standin_counters_of(NULL);
        ck_assert_uint_eq(x.mma, SIDE / 16 * (SIDE / 8) * (STEPS / 16));
        ck_assert_msg((double)x.shared_wavefronts <= 1.005 * (double)x.shared_requests,
                      "layout %d: %.4f wavefronts per request", layout,
                      (double)x.shared_wavefronts / (double)x.shared_requests);
        ck_assert_msg((double)x.global_sectors <= 1.005 * (double)x.global_ideal,
                      "layout %d: %.4f times the ideal sectors", layout,
                      (double)x.global_sectors / (double)x.global_ideal);
    }
    free(a), free(b), free(c);
    tenon_context_destroy(ctx);
}
END_TEST

/* Every case, over the seeds. */
START_TEST(cases) {
    for (int seed = 0; seed < KERNEL_SEEDS; seed++) {
        ck_assert(kernel_cases_open(seed, NULL));
        const char *wrong = kernel_case_run(_i);
        ck_assert_msg(!wrong, "%s", wrong);
        kernel_cases_close();
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("cuda kernels");
    TCase *small = tcase_create("cases"), *t = tcase_create("products");
    tcase_set_timeout(small, 0);
    tcase_add_loop_test(small, cases, 0, kernel_cases());
    suite_add_tcase(s, small);
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, layouts, 0, SHAPES);
    tcase_add_test(t, rows_alone);
    tcase_add_test(t, traffic);
    suite_add_tcase(s, t);
    return run_suite(s);
}
