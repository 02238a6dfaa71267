/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OpenCL kernels sum in the order of docs/NUMERICS.md, so that a device whose fma is exact gives
 * the CPU backend's bytes: products (each algorithm of the plan), softmax, attention. Skipped where
 * the first device is no CPU: other devices may round quotients and logarithms their own way.
 */
#include "opencl_support.h"
#include "rng.h"

enum { MOST = 1 << 18 };

typedef struct twins {
    tenon_context *device, *cpu;
    float *in[3], *out[2];
} twins;

static twins twins_start(const char *name) {
    rng random = rng_start(name);
    twins t = {.device = context_on("opencl"), .cpu = context_on("cpu")};
    for (int i = 0; i < 3; ++i) {
        t.in[i] = malloc(MOST * sizeof(float));
        for (int j = 0; j < MOST; ++j)
            t.in[i][j] = (float)(rng_unit(&random) * 2 - 1);
    }
    for (int i = 0; i < 2; ++i)
        t.out[i] = calloc(MOST, sizeof(float));
    return t;
}

static void twins_end(twins *t) {
    for (int i = 0; i < 3; ++i)
        free(t->in[i]);
    for (int i = 0; i < 2; ++i)
        free(t->out[i]);
    tenon_context_destroy(t->device);
    tenon_context_destroy(t->cpu);
}

static bool same(const twins *t, int64_t count) {
    return memcmp(t->out[0], t->out[1], (size_t)count * sizeof(float)) == 0;
}

/* ---- products */

static tenon_gemm_desc desc_of(const twins *t, int which, int64_t m, int64_t n, int64_t k,
                               int layout) {
    tenon_gemm_desc g = {.a = tenon_matrix(t->in[0], TENON_F32, m, k),
                         .b = tenon_matrix(t->in[1], TENON_F32, k, n),
                         .c = tenon_matrix(t->out[which], TENON_F32, m, n)};
    if (layout & 1)
        g.a = tenon_transposed(tenon_matrix(t->in[0], TENON_F32, k, m));
    if (layout & 2)
        g.b = tenon_transposed(tenon_matrix(t->in[1], TENON_F32, n, k));
    if (layout & 4) {
        g.bias = tenon_vector(t->in[2], TENON_F32, n);
        g.activation = TENON_ACTIVATION_GELU;
    }
    return g;
}

/* Each algorithm in turn: each takes less workspace than the one before. */
static void each_algorithm(const twins *t, tenon_gemm_desc g, int64_t count, const char *what) {
    for (size_t bytes = SIZE_MAX; bytes > 0;) {
        tenon_plan *plan;
        tenon_plan_info info = {.struct_size = sizeof info};
        g.workspace.bytes = bytes == SIZE_MAX ? 0 : bytes;
        OK(t->device, tenon_gemm_plan(t->device, &g, &plan));
        ck_assert_int_eq(tenon_plan_query(plan, &info), TENON_OK);
        memset(t->out[0], 0xff, (size_t)count * sizeof(float));
        OK(t->device, tenon_gemm_run(t->device, plan, &g));
        ck_assert_msg(same(t, count), "%s: %s", what, info.kernel);
        bytes = info.workspace > 1 ? info.workspace - 1 : 0;
        tenon_plan_destroy(plan);
    }
}

START_TEST(products) {
    /* a row, a few, a tile and a bit, several blocks of k */
    static const int64_t shape[][3] = {{1, 70, 300},  {3, 300, 257},  {5, 16, 8},
                                       {37, 45, 513}, {97, 130, 600}, {200, 200, 64}};
    twins t = twins_start("products");
    for (size_t s = 0; s < sizeof shape / sizeof *shape; ++s)
        for (int layout = 0; layout < 8; ++layout) {
            const int64_t m = shape[s][0], n = shape[s][1], k = shape[s][2];
            tenon_gemm_desc g = desc_of(&t, 1, m, n, k, layout);
            OK(t.cpu, tenon_gemm(t.cpu, &g));
            g = desc_of(&t, 0, m, n, k, layout);
            char what[64];
            snprintf(what, sizeof what, "%lldx%lldx%lld layout %d", (long long)m, (long long)n,
                     (long long)k, layout);
            each_algorithm(&t, g, m * n, what);
        }
    /* the comparison sees one element of one operand */
    tenon_gemm_desc g = desc_of(&t, 0, 37, 45, 513, 0);
    t.in[0][5 * 513 + 300] += 0.25f;
    OK(t.device, tenon_gemm(t.device, &g));
    t.in[0][5 * 513 + 300] -= 0.25f;
    g = desc_of(&t, 1, 37, 45, 513, 0);
    OK(t.cpu, tenon_gemm(t.cpu, &g));
    ck_assert(!same(&t, 37 * 45));
    twins_end(&t);
}
END_TEST

/* B of each block type, as it is and with A rounded to bytes: alone, a few rows, many. */
START_TEST(products_of_blocks) {
    static const int64_t rows[] = {1, 3, 7, 40};
    enum { COLUMNS = 37, LONGEST = 1024 };
    twins t = twins_start("products of blocks");
    unsigned char *blocks = malloc((size_t)COLUMNS * LONGEST * 2);
    for (int type = TENON_Q8_0; type <= TENON_NVFP4; ++type)
        for (int fast = 0; fast < 2; ++fast) {
            int64_t elements = 1;
            char what[64];
            ck_assert_int_eq(tenon_dtype_block((tenon_dtype)type, &elements, NULL), TENON_OK);
            const int64_t m = rows[(type + fast) % 4], k = elements == 256 ? 768 : 640 + elements;
            const tenon_quantize_desc q = {
                .x = tenon_matrix(t.in[1], TENON_F32, COLUMNS, k),
                .y = tenon_matrix(blocks, (tenon_dtype)type, COLUMNS, k),
            };
            OK(t.cpu, tenon_quantize(t.cpu, &q));
            tenon_gemm_desc g = {.a = tenon_matrix(t.in[0], TENON_F32, m, k),
                                 .b = tenon_transposed(q.y),
                                 .c = tenon_matrix(t.out[1], TENON_F32, m, COLUMNS),
                                 .compute = fast ? TENON_COMPUTE_FAST : TENON_COMPUTE_EXACT};
            OK(t.cpu, tenon_gemm(t.cpu, &g));
            g.c = tenon_matrix(t.out[0], TENON_F32, m, COLUMNS);
            snprintf(what, sizeof what, "%lld rows by %s, fast %d", (long long)m,
                     tenon_dtype_name((tenon_dtype)type), fast);
            each_algorithm(&t, g, m * COLUMNS, what);
        }
    free(blocks);
    twins_end(&t);
}
END_TEST

/* ---- softmax */

START_TEST(softmax) {
    static const int64_t shape[][2] = {{1, 1}, {7, 33}, {3, 2048}, {2, 5000}};
    twins t = twins_start("softmax");
    for (size_t s = 0; s < sizeof shape / sizeof *shape; ++s)
        for (int causal = 0; causal < 2; ++causal) {
            const int64_t rows = shape[s][0], n = shape[s][1];
            for (int which = 0; which < 2; ++which) {
                const double scale = 3;
                const tenon_softmax_desc d = {.x = tenon_matrix(t.in[0], TENON_F32, rows, n),
                                              .y = tenon_matrix(t.out[which], TENON_F32, rows, n),
                                              .scale = &scale,
                                              .causal = causal ? TENON_CAUSAL_BOTTOM_RIGHT
                                                               : TENON_CAUSAL_NONE};
                tenon_context *ctx = which ? t.cpu : t.device;
                OK(ctx, tenon_softmax(ctx, &d));
            }
            ck_assert_msg(same(&t, rows * n), "%lldx%lld, causal %d", (long long)rows, (long long)n,
                          causal);
        }
    twins_end(&t);
}
END_TEST

/* ---- attention */

START_TEST(attention) {
    /* queries, keys, heads, kv heads, d: few and many queries; one block of keys and several */
    static const int64_t shape[][5] = {{1, 40, 4, 2, 16},
                                       {1, 700, 4, 4, 64},
                                       {9, 300, 2, 2, 20},
                                       {70, 260, 2, 1, 64},
                                       {600, 600, 1, 1, 8}};
    twins t = twins_start("attention");
    for (size_t s = 0; s < sizeof shape / sizeof *shape; ++s)
        for (int causal = 0; causal < 2; ++causal) {
            const int64_t queries = shape[s][0], keys = shape[s][1], heads = shape[s][2],
                          kv_heads = shape[s][3], d = shape[s][4];
            for (int which = 0; which < 2; ++which) {
                const tenon_attention_desc a = {
                    .q = tenon_tensor4(t.in[0], TENON_F32, 1, heads, queries, d),
                    .k = tenon_tensor4(t.in[1], TENON_F32, 1, kv_heads, keys, d),
                    .v = tenon_tensor4(t.in[2], TENON_F32, 1, kv_heads, keys, d),
                    .o = tenon_tensor4(t.out[which], TENON_F32, 1, heads, queries, d),
                    .causal = causal ? TENON_CAUSAL_BOTTOM_RIGHT : TENON_CAUSAL_NONE};
                tenon_context *ctx = which ? t.cpu : t.device;
                OK(ctx, tenon_attention(ctx, &a));
            }
            ck_assert_msg(same(&t, heads * queries * d),
                          "%lld queries, %lld keys, %lld heads, d %lld, causal %d",
                          (long long)queries, (long long)keys, (long long)heads, (long long)d,
                          causal);
        }
    twins_end(&t);
}
END_TEST

int main(void) {
    const int lack = need_driver();
    if (lack)
        return lack;
    Suite *suite = suite_create("opencl bits");
    TCase *group = tcase_create("bits");
    tcase_set_timeout(group, 0);
    tcase_add_test(group, products);
    tcase_add_test(group, products_of_blocks);
    tcase_add_test(group, softmax);
    tcase_add_test(group, attention);
    suite_add_tcase(suite, group);
    return run_suite(suite);
}
