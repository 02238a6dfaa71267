/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same bits (docs/NUMERICS.md, 8): for any number of threads, any pool, any algorithm, any layout, and for a part of a problem computed
 * alone. Results are compared byte by byte with one computed in the plainest way on the same device.
 */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "number.h"

/* ---------------------------------------------------------------- a set of problems, each with its result in plain memory */

typedef struct problem {
    const char *name;
    tenon_gemm_desc gemm; /* one of the three, the one whose output is there */
    tenon_softmax_desc softmax;
    tenon_attention_desc attention;
    tenon_tensor *out;
} problem;

enum { MOST = 24 };

static tenon_tensor filled(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape)
{
    const range values = dtype == TENON_S8 ? (range){-128, 127} : dtype == TENON_BOOL ? (range){0, 0.8} : (range){-1, 1};
    return input(w, dtype, rank, shape, DENSE, 0, values).t;
}

static tenon_tensor filled2(world *w, tenon_dtype dtype, int64_t rows, int64_t columns)
{
    return filled(w, dtype, 2, (const int64_t[2]){rows, columns});
}

static tenon_tensor empty(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape)
{
    tenon_tensor t = tenon_dense(NULL, dtype, rank, shape);
    t.data = world_alloc(w, (size_t)count_of(&t) * number_size(dtype));
    return t;
}

static tenon_gemm_desc product(world *w, tenon_dtype a, tenon_dtype b, tenon_dtype c, int64_t m, int64_t n, int64_t k)
{
    return (tenon_gemm_desc){.a = filled2(w, a, m, k), .b = filled2(w, b, k, n), .c = empty(w, c, 2, (const int64_t[2]){m, n})};
}

static tenon_attention_desc attention(world *w, tenon_dtype dtype, int64_t batch, int64_t heads, int64_t kv_heads, int64_t queries,
                                      int64_t keys, int64_t d)
{
    const int64_t q[4] = {batch, heads, queries, d}, k[4] = {batch, kv_heads, keys, d};
    tenon_attention_desc x = {.q = filled(w, dtype, 4, q), .k = filled(w, dtype, 4, k), .v = filled(w, dtype, 4, k),
                              .o = empty(w, TENON_F32, 4, q), .lse = empty(w, TENON_F32, 3, q)};
    return x;
}

static void pack_b(world *w, tenon_gemm_desc *g)
{
    size_t bytes;
    if (tenon_gemm_pack_size(w->ctx, g, &bytes) != TENON_OK) return; /* test_conform_gemm says whether that is expected */
    unsigned char *packed = world_alloc(w, bytes + 64);
    packed += (64 - (uintptr_t)packed % 64) % 64;
    ck_assert_int_eq(tenon_gemm_pack(w->ctx, g, packed, bytes), TENON_OK);
    g->b_packed = packed;
    g->b_packed_bytes = bytes;
}

static int make_problems(world *w, problem list[MOST])
{
    const int64_t wide[2] = {37, 3000}, tall[2] = {700, 33}, scores[4] = {2, 3, 40, 300};
    const int64_t experts[3] = {3, 300, 70};
    static const int32_t first_axis = 0, offsets[4] = {0, 31, 31, 90};
    int n = 0;
    world_case(w, "problems");
    memset(list, 0, sizeof(problem) * MOST);

    list[n++] = (problem){.name = "gemm f32", .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 331, 197, 700)};
    list[n++] = (problem){.name = "gemm f64", .gemm = product(w, TENON_F64, TENON_F64, TENON_F64, 267, 130, 600)};
    list[n++] = (problem){.name = "gemm bf16", .gemm = product(w, TENON_BF16, TENON_BF16, TENON_BF16, 65, 97, 520)};
    list[n++] = (problem){.name = "gemm f16 s8", .gemm = product(w, TENON_F16, TENON_S8, TENON_F32, 19, 97, 300)};
    list[n++] = (problem){.name = "gemm s8", .gemm = product(w, TENON_S8, TENON_S8, TENON_S32, 33, 97, 520)};
    list[n++] = (problem){.name = "gemv", .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 1, 1500, 900)};
    list[n++] = (problem){.name = "gemv transposed", .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 1, 900, 900)};
    list[n - 1].gemm.b = tenon_transposed(list[n - 1].gemm.b);
    list[n++] = (problem){.name = "gemm column", .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 1500, 1, 300)};
    list[n++] = (problem){.name = "gemm few rows", .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 3, 700, 300)};
    list[n++] = (problem){.name = "gemm gelu", .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 70, 131, 300)};
    list[n - 1].gemm.activation = TENON_ACTIVATION_GELU;
    list[n - 1].gemm.bias = filled2(w, TENON_F32, 1, 131);
    list[n - 1].gemm.residual = filled2(w, TENON_F32, 70, 131);
    list[n++] = (problem){.name = "gemm experts", .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 90, 70, 300)};
    list[n - 1].gemm.b = filled(w, TENON_F32, 3, experts);
    list[n - 1].gemm.group_offsets = tenon_vector(offsets, TENON_S32, 4);
    list[n++] = (problem){.name = "gemm packed", .gemm = product(w, TENON_BF16, TENON_F32, TENON_F32, 40, 170, 600)};
    pack_b(w, &list[n - 1].gemm);
    list[n++] = (problem){.name = "softmax", .softmax = {.x = filled(w, TENON_F32, 2, wide), .y = empty(w, TENON_F32, 2, wide)}};
    list[n++] = (problem){.name = "softmax one long row", .softmax = {.x = filled2(w, TENON_F32, 1, 100003),
                                                                      .y = empty(w, TENON_F32, 2, (const int64_t[2]){1, 100003})}};
    list[n++] = (problem){.name = "softmax columns", .softmax = {.x = filled(w, TENON_F32, 2, tall), .y = empty(w, TENON_F32, 2, tall),
                                                                 .axis = &first_axis}};
    list[n++] = (problem){.name = "softmax masked", .softmax = {.x = filled(w, TENON_BF16, 4, scores), .y = empty(w, TENON_F32, 4, scores),
                                                                .mask = filled(w, TENON_BOOL, 4, scores), .softcap = 3,
                                                                .causal = TENON_CAUSAL_BOTTOM_RIGHT}};
    list[n++] = (problem){.name = "prefill", .attention = attention(w, TENON_F32, 1, 3, 3, 150, 150, 64)};
    list[n - 1].attention.causal = TENON_CAUSAL_TOP_LEFT;
    list[n++] = (problem){.name = "decode", .attention = attention(w, TENON_F32, 1, 4, 2, 1, 3001, 64)};
    list[n++] = (problem){.name = "decode bf16", .attention = attention(w, TENON_BF16, 3, 8, 2, 1, 900, 32)};
    list[n++] = (problem){.name = "few queries", .attention = attention(w, TENON_F32, 2, 4, 1, 5, 777, 40)};
    list[n++] = (problem){.name = "attention f64", .attention = attention(w, TENON_F64, 1, 2, 2, 33, 300, 24)};
    for (int i = 0; i < n; ++i) {
        problem *p = &list[i];
        p->out = p->gemm.c.rank ? &p->gemm.c : p->softmax.y.rank ? &p->softmax.y : &p->attention.o;
    }
    return n;
}

static uint64_t hash_bytes(uint64_t hash, const tenon_tensor *dense)
{
    const unsigned char *at = dense->data;
    const size_t bytes = at ? (size_t)count_of(dense) * number_size(dense->dtype) : 0;
    for (size_t i = 0; i < bytes; ++i) hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Runs a problem in `ctx` and hashes what it wrote. */
static uint64_t bits_of(tenon_context *ctx, const problem *p)
{
    memset(p->out->data, 0xa5, (size_t)count_of(p->out) * number_size(p->out->dtype));
    const tenon_status status = p->gemm.c.rank      ? tenon_gemm(ctx, &p->gemm)
                                : p->softmax.y.rank ? tenon_softmax(ctx, &p->softmax)
                                                    : tenon_attention(ctx, &p->attention);
    if (status != TENON_OK) ck_abort_msg("%s: %s", p->name, tenon_error_message(ctx));
    const uint64_t hash = hash_bytes(UINT64_C(0xcbf29ce484222325), p->out);
    return p->attention.o.rank ? hash_bytes(hash, &p->attention.lse) : hash;
}

/* ---------------------------------------------------------------- threads and pools */

static int pool_threads(void *user)
{
    return *(int *)user;
}

/* The caller's thread alone, last index first. */
static void backwards(void *user, void (*task)(void *arg, int index), void *arg, int count)
{
    (void)user;
    for (int i = count - 1; i >= 0; --i) task(arg, i);
}

typedef struct crowd {
    void (*task)(void *arg, int index);
    void *arg;
    atomic_int next;
    int count;
} crowd;

static void *crowd_thread(void *user)
{
    crowd *c = user;
    for (int i; (i = atomic_fetch_add(&c->next, 1)) < c->count;) c->task(c->arg, i);
    return NULL;
}

/* New threads each time, racing for indices. */
static void racing(void *user, void (*task)(void *arg, int index), void *arg, int count)
{
    crowd c = {.task = task, .arg = arg, .count = count};
    pthread_t thread[8];
    const int threads = *(int *)user - 1;
    for (int i = 0; i < threads; ++i) ck_assert_int_eq(pthread_create(&thread[i], NULL, crowd_thread, &c), 0);
    crowd_thread(&c);
    for (int i = 0; i < threads; ++i) pthread_join(thread[i], NULL);
}

START_TEST(threads_and_pools)
{
    static int five = 5, three = 3;
    const tenon_context_desc descs[] = {
        {.threads = 2}, {.threads = 3}, {.threads = 8},
        {.threads = 3, .parallel = {&three, pool_threads, backwards}},
        {.threads = 5, .parallel = {&five, pool_threads, racing}},
    };
    world w = world_start("threads", device_id[_i]);
    problem list[MOST];
    const int count = make_problems(&w, list);
    uint64_t expected[MOST];
    tenon_context_desc one = {.device = device_id[_i], .threads = 1};
    tenon_context *ctx;

    ck_assert_int_eq(tenon_context_create(&one, &ctx), TENON_OK);
    for (int i = 0; i < count; ++i) expected[i] = bits_of(ctx, &list[i]);
    for (int i = 0; i < count; ++i) ck_assert_msg(bits_of(ctx, &list[i]) == expected[i], "%s: the second run differs", list[i].name);
    tenon_context_destroy(ctx);

    for (size_t d = 0; d < sizeof descs / sizeof *descs; ++d) {
        tenon_context_desc desc = descs[d];
        desc.device = device_id[_i];
        ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
        for (int repeat = 0; repeat < 3; ++repeat)
            for (int i = 0; i < count; ++i)
                ck_assert_msg(bits_of(ctx, &list[i]) == expected[i], "%s: %s: differs with %d threads%s", device_id[_i], list[i].name,
                              (int)desc.threads, desc.parallel.run ? " of the caller's pool" : "");
        tenon_context_destroy(ctx);
    }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- every algorithm */

static tenon_status plan_of(tenon_context *ctx, const problem *p, size_t limit, tenon_plan **plan)
{
    problem x = *p;
    x.gemm.workspace.bytes = x.softmax.workspace.bytes = x.attention.workspace.bytes = limit;
    return x.gemm.c.rank      ? tenon_gemm_plan(ctx, &x.gemm, plan)
           : x.softmax.y.rank ? tenon_softmax_plan(ctx, &x.softmax, plan)
                              : tenon_attention_plan(ctx, &x.attention, plan);
}

static tenon_status run_plan(tenon_context *ctx, const problem *p, const tenon_plan *plan)
{
    return p->gemm.c.rank      ? tenon_gemm_run(ctx, plan, &p->gemm)
           : p->softmax.y.rank ? tenon_softmax_run(ctx, plan, &p->softmax)
                               : tenon_attention_run(ctx, plan, &p->attention);
}

START_TEST(algorithms)
{
    world w = world_start("algorithms", device_id[_i]);
    problem list[MOST];
    const int count = make_problems(&w, list);
    for (int i = 0; i < count; ++i) {
        const uint64_t expected = bits_of(w.ctx, &list[i]);
        tenon_plan_info info = {.struct_size = sizeof info};
        tenon_plan *plan;
        ck_assert_int_eq(plan_of(w.ctx, &list[i], 0, &plan), TENON_OK);
        ck_assert_int_eq(tenon_plan_query(plan, &info), TENON_OK);
        for (int c = 0; c < info.choices; ++c) {
            tenon_plan_choice choice = {.struct_size = sizeof choice};
            tenon_plan *limited;
            ck_assert_int_eq(tenon_plan_choice_get(plan, c, &choice), TENON_OK);
            if (choice.workspace == 0) choice.workspace = 1; /* 0 would mean no limit */
            ck_assert_int_eq(plan_of(w.ctx, &list[i], choice.workspace, &limited), TENON_OK);
            memset(list[i].out->data, 0xa5, (size_t)count_of(list[i].out) * number_size(list[i].out->dtype));
            ck_assert_int_eq(run_plan(w.ctx, &list[i], limited), TENON_OK);
            uint64_t hash = hash_bytes(UINT64_C(0xcbf29ce484222325), list[i].out);
            if (list[i].attention.o.rank) hash = hash_bytes(hash, &list[i].attention.lse);
            ck_assert_msg(hash == expected, "%s: %s: %s %s with %zu bytes differs", w.device, list[i].name, choice.algorithm,
                          choice.kernel, choice.workspace);
            tenon_plan_destroy(limited);
        }
        tenon_plan_destroy(plan);
    }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- parts of a product */

static tenon_tensor part(tenon_tensor t, int32_t dim, int64_t from, int64_t count)
{
    t.data = (unsigned char *)t.data + from * t.stride[dim] * (int64_t)number_size(t.dtype);
    t.shape[dim] = count;
    return t;
}

/* Every element of `t` has the bits of the same element of `whole`. */
static void expect_same(world *w, const char *how, const tenon_tensor *t, const tenon_tensor *whole)
{
    for (int64_t i = 0; i < count_of(t); ++i) {
        const double x = get(t, i), y = get(whole, i);
        if (memcmp(&x, &y, sizeof x) != 0)
            ck_abort_msg("%s: %s: %s: element %lld is %a, in the whole %a", w->device, w->what, how, (long long)i, x, y);
    }
}

static void run_gemm(world *w, const tenon_gemm_desc *g)
{
    if (tenon_gemm(w->ctx, g) != TENON_OK) ck_abort_msg("%s: %s: %s", w->device, w->what, tenon_error_message(w->ctx));
}

/* The same elements in other memory: transposed. */
static tenon_tensor transposed_copy(world *w, const tenon_tensor *t)
{
    const int64_t shape[2] = {t->shape[1], t->shape[0]};
    tenon_tensor copy = tenon_transposed(empty(w, t->dtype, 2, shape));
    for (int64_t i = 0; i < t->shape[0]; ++i)
        for (int64_t j = 0; j < t->shape[1]; ++j) {
            const size_t size = number_size(t->dtype);
            memcpy((char *)copy.data + (i * copy.stride[0] + j * copy.stride[1]) * (int64_t)size,
                   (const char *)t->data + (i * t->stride[0] + j * t->stride[1]) * (int64_t)size, size);
        }
    return copy;
}

static void parts_of_product(world *w, tenon_dtype a, tenon_dtype b, tenon_dtype c, int64_t k)
{
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 31, 64, 130};
    const int64_t m = 283, n = 135;
    world_case(w, "gemm %s %s -> %s, k %lld", tenon_dtype_name(a), tenon_dtype_name(b), tenon_dtype_name(c), (long long)k);
    const tenon_gemm_desc whole = product(w, a, b, c, m, n, k);
    tenon_gemm_desc g = whole;
    run_gemm(w, &whole);

    g.c = empty(w, c, 2, (const int64_t[2]){m, n});
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s) {
        tenon_gemm_desc x = g;
        const int64_t row = rng_below(&w->random, m - sizes[s] + 1), column = rng_below(&w->random, n - sizes[s] + 1);
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
        if (turn & 1) x.a = transposed_copy(w, &g.a);
        if (turn & 2) x.b = transposed_copy(w, &g.b);
        if (turn & 4) x.c = transposed_copy(w, &g.c);
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

START_TEST(parts_of_products)
{
    static const int64_t k[] = {1, 37, 256, 300, 1100};
    world w = world_start("parts of products", device_id[_i]);
    for (size_t i = 0; i < sizeof k / sizeof *k; ++i) {
        parts_of_product(&w, TENON_F32, TENON_F32, TENON_F32, k[i]);
        parts_of_product(&w, TENON_F64, TENON_F64, TENON_F64, k[i]);
        parts_of_product(&w, TENON_BF16, TENON_BF16, TENON_BF16, k[i]);
        parts_of_product(&w, TENON_F32, TENON_F16, TENON_F32, k[i]);
        parts_of_product(&w, TENON_BF16, TENON_S8, TENON_F32, k[i]);
        parts_of_product(&w, TENON_S8, TENON_S8, TENON_F32, k[i]);
    }
    world_end(&w);
}
END_TEST

START_TEST(batches_of_products)
{
    const int64_t a_shape[3] = {5, 9, 130}, b_shape[3] = {5, 130, 40}, c_shape[3] = {5, 9, 40};
    const int32_t offsets[6] = {0, 9, 18, 27, 36, 45};
    world w = world_start("batches of products", device_id[_i]);
    world_case(&w, "batch");
    tenon_gemm_desc batch = {.a = filled(&w, TENON_F32, 3, a_shape), .b = filled(&w, TENON_F32, 3, b_shape),
                             .c = empty(&w, TENON_F32, 3, c_shape), .activation = TENON_ACTIVATION_SILU};
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

static void rows_of_softmax(world *w, tenon_dtype x, tenon_dtype y, int64_t length, int log)
{
    const int64_t rows = 19, shape[2] = {rows, length};
    world_case(w, "softmax %s -> %s, %lld, log %d", tenon_dtype_name(x), tenon_dtype_name(y), (long long)length, log);
    const tenon_softmax_desc whole = {.x = filled(w, x, 2, shape), .y = empty(w, y, 2, shape), .log = log};
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

START_TEST(rows_of_softmaxes)
{
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

static void run_attention(world *w, const tenon_attention_desc *a)
{
    if (tenon_attention(w->ctx, a) != TENON_OK) ck_abort_msg("%s: %s: %s", w->device, w->what, tenon_error_message(w->ctx));
}

/* Queries `first` … of `whole`, computed alone with keys up to `keys`. */
static void expect_queries(world *w, const tenon_attention_desc *whole, int64_t first, int64_t count, int64_t keys, const char *how)
{
    const int64_t offset = (whole->causal == TENON_CAUSAL_TOP_LEFT ? 0 : whole->k.shape[2] - whole->q.shape[2]) + first;
    int64_t offsets[8];
    tenon_attention_desc x = *whole;
    for (int i = 0; i < 8; ++i) offsets[i] = offset;
    x.query_offsets = tenon_vector(offsets, TENON_S64, whole->q.shape[0]);
    x.q = part(whole->q, 2, first, count);
    x.k = part(whole->k, 2, 0, keys);
    x.v = part(whole->v, 2, 0, keys);
    x.o = empty(w, whole->o.dtype, 4, (const int64_t[4]){x.q.shape[0], x.q.shape[1], count, x.v.shape[3]});
    x.lse = empty(w, TENON_F32, 3, x.q.shape);
    if (whole->bias.rank) x.bias = part(part(whole->bias, 2, first, count), 3, 0, keys);
    if (whole->mask.rank) x.mask = part(part(whole->mask, 2, first, count), 3, 0, keys);
    run_attention(w, &x);
    const tenon_tensor o = part(whole->o, 2, first, count), lse = part(whole->lse, 2, first, count);
    expect_same(w, how, &x.o, &o);
    expect_same(w, how, &x.lse, &lse);
}

static void parts_of_attention(world *w, tenon_attention_desc whole)
{
    const int64_t queries = whole.q.shape[2], keys = whole.k.shape[2], group = whole.q.shape[1] / whole.k.shape[1];
    run_attention(w, &whole);
    for (int64_t first = 0; first < queries; first += 7) expect_queries(w, &whole, first, 1, keys, "one query");
    expect_queries(w, &whole, 3, 2, keys, "two queries");
    expect_queries(w, &whole, 5, queries - 5, keys, "most queries");
    if (whole.causal == TENON_CAUSAL_TOP_LEFT)
        for (int64_t first = 0; first < queries; first += 5) expect_queries(w, &whole, first, 1, first + 1, "decoding");

    if (whole.bias.rank || whole.mask.rank || whole.alibi.rank || whole.sinks.rank) return;
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

START_TEST(parts_of_attentions)
{
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
            x.window.enabled = 0;
            x.alibi = filled(&w, TENON_F32, 1, &x.q.shape[1]);
            for (int h = 0; h < 4; ++h) ((float *)x.alibi.data)[h] = 0.1f * (float)h;
            x.sinks = filled(&w, TENON_F32, 1, &x.q.shape[1]);
            x.mask = filled(&w, TENON_BOOL, 4, (const int64_t[4]){1, 4, 45, keys});
            x.bias = filled(&w, TENON_F32, 4, (const int64_t[4]){1, 1, 45, keys});
            parts_of_attention(&w, x);
        }
    world_end(&w);
}
END_TEST

/* Sequences of a ragged, paged batch against each of them alone with its keys side by side. */
START_TEST(sequences)
{
    enum { BATCH = 5, BLOCK = 16, HEADS = 4, KV = 2, D = 32 };
    static const int32_t queries[BATCH] = {1, 7, 0, 33, 1}, keys[BATCH] = {300, 7, 5, 290, 1};
    int32_t cu_q[BATCH + 1] = {0}, blocks = 0;
    world w = world_start("sequences", device_id[_i]);
    world_case(&w, "ragged and paged");
    for (int b = 0; b < BATCH; ++b) cu_q[b + 1] = cu_q[b] + queries[b];

    const int64_t total = cu_q[BATCH], most = (300 + BLOCK - 1) / BLOCK, cache_shape[4] = {BATCH * most, KV, BLOCK, D};
    const int64_t q_shape[4] = {1, HEADS, total, D};
    int32_t *table = world_alloc(&w, sizeof *table * (size_t)(BATCH * most));
    for (int64_t b = 0; b < BATCH; ++b)
        for (int64_t i = 0; i < most; ++i) table[b * most + i] = (int32_t)((blocks++ * 37) % (BATCH * most));
    ck_assert_int_ne((int)(BATCH * most) % 37, 0);

    tenon_attention_desc batch = {
        .q = filled(&w, TENON_F32, 4, q_shape), .k = filled(&w, TENON_BF16, 4, cache_shape), .v = filled(&w, TENON_BF16, 4, cache_shape),
        .o = empty(&w, TENON_F32, 4, q_shape), .lse = empty(&w, TENON_F32, 3, q_shape), .causal = TENON_CAUSAL_BOTTOM_RIGHT,
        .cu_seqlens_q = tenon_vector(cu_q, TENON_S32, BATCH + 1), .key_lengths = tenon_vector(keys, TENON_S32, BATCH),
        .block_table = tenon_matrix(table, TENON_S32, BATCH, most),
    };
    run_attention(&w, &batch);

    for (int b = 0; b < BATCH; ++b) {
        const int64_t shape[4] = {1, KV, keys[b], D};
        tenon_attention_desc one = {.q = part(batch.q, 2, cu_q[b], queries[b]), .k = empty(&w, TENON_BF16, 4, shape),
                                    .v = empty(&w, TENON_BF16, 4, shape), .causal = TENON_CAUSAL_BOTTOM_RIGHT};
        for (int64_t h = 0; h < KV; ++h)
            for (int64_t j = 0; j < keys[b]; ++j) {
                const int64_t from = ((table[b * most + j / BLOCK] * KV + h) * BLOCK + j % BLOCK) * D, to = (h * keys[b] + j) * D;
                memcpy((uint16_t *)one.k.data + to, (const uint16_t *)batch.k.data + from, D * sizeof(uint16_t));
                memcpy((uint16_t *)one.v.data + to, (const uint16_t *)batch.v.data + from, D * sizeof(uint16_t));
            }
        one.o = empty(&w, TENON_F32, 4, one.q.shape);
        one.lse = empty(&w, TENON_F32, 3, one.q.shape);
        run_attention(&w, &one);
        const tenon_tensor o = part(batch.o, 2, cu_q[b], queries[b]), lse = part(batch.lse, 2, cu_q[b], queries[b]);
        expect_same(&w, "a sequence alone", &one.o, &o);
        expect_same(&w, "a sequence alone", &one.lse, &lse);
    }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- instruction sets */

/* The level is read once per process, so each one is a child: this program, which then runs this one test. */
START_TEST(hashes)
{
    world w = world_start("levels", device_id[_i]);
    problem list[MOST];
    const int count = make_problems(&w, list);
    for (int i = 0; i < count; ++i) printf("hash %016llx %s\n", (unsigned long long)bits_of(w.ctx, &list[i]), list[i].name);
    world_end(&w);
}
END_TEST

/* The lines of hashes at a level; false if the machine has not got it. */
static bool hashes_at(const char *level, char *text, size_t capacity)
{
    int ends[2], status;
    char line[256];
    ck_assert_int_eq(pipe(ends), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        setenv("TENON_CPU", level, 1);
        setenv("TENON_PRINT_HASHES", "1", 1);
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "test_conform_bits", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *from = fdopen(ends[0], "r");
    ck_assert_ptr_nonnull(from);
    text[0] = 0;
    while (fgets(line, sizeof line, from))
        if (strncmp(line, "hash ", 5) == 0 && strlen(text) + strlen(line) < capacity) strcat(text, line);
    fclose(from);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) return false;
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child for %s failed", level);
    return true;
}

START_TEST(levels)
{
    static const char *const level[] = {"avx2", "avx512"};
    static char expected[8192], found[8192];
    if (strcmp(device_id[_i], "cpu") != 0) return;
    ck_assert(hashes_at("scalar", expected, sizeof expected));
    ck_assert(strlen(expected) > 0);
    for (size_t i = 0; i < sizeof level / sizeof *level; ++i)
        if (hashes_at(level[i], found, sizeof found))
            ck_assert_msg(strcmp(expected, found) == 0, "%s gives other bits than scalar:\n%s---\n%s", level[i], found, expected);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {threads_and_pools, algorithms, parts_of_products, batches_of_products, rows_of_softmaxes,
                                  parts_of_attentions, sequences, levels};
    const TTest *const child[] = {hashes};
    if (getenv("TENON_PRINT_HASHES")) return conform_main("hashes", child, 1);
    return conform_main("conformance bits", tests, sizeof tests / sizeof *tests);
}
