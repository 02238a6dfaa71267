/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same bits (docs/NUMERICS.md, 8) for any number of threads, any pool, any algorithm and any instruction set. Results are compared byte
 * by byte with those of one thread.
 */
#include "plain.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guarded.h"
#include "number.h"

/* ---------------------------------------------------------------- a set of problems, each with its result in plain memory */

typedef struct problem {
    const char *name;
    tenon_gemm_desc gemm; /* one of the three, the one whose output is there */
    tenon_softmax_desc softmax;
    tenon_attention_desc attention;
    tenon_tensor *out;
} problem;

enum { MOST = 72 };

/* Each block type with rows alone, few and many, in the modes in turn; packed, gated and of experts. */
static int make_block_problems(world *w, problem *list) {
    static const int64_t m[] = {1, 5, 40};
    static const int32_t offsets[4] = {0, 3, 3, 30};
    int n = 0;
    if (!has_blocks(w))
        return 0;
    for (int type = TENON_Q8_0; type <= TENON_NVFP4; ++type) {
        list[n] = (problem){
            .name = tenon_dtype_name((tenon_dtype)type),
            .gemm = product(w, TENON_F32, (tenon_dtype)type, TENON_F32, m[n % 3], 97, 1024)};
        list[n++].gemm.compute = type % 2 ? TENON_COMPUTE_FAST : TENON_COMPUTE_EXACT;
    }
    list[n++] = (problem){.name = "q8_0 one row, fast",
                          .gemm = product(w, TENON_BF16, TENON_Q8_0, TENON_BF16, 1, 600, 2048)};
    list[n - 1].gemm.compute = TENON_COMPUTE_FAST;
    list[n++] = (problem){.name = "q4_k packed, fast",
                          .gemm = product(w, TENON_F32, TENON_Q4_K, TENON_F32, 33, 130, 1024)};
    list[n - 1].gemm.compute = TENON_COMPUTE_FAST;
    pack_b(w, &list[n - 1].gemm);
    list[n++] = (problem){.name = "q4_0 gated",
                          .gemm = product(w, TENON_F16, TENON_Q4_0, TENON_F32, 9, 100, 512)};
    list[n - 1].gemm.gated = TENON_GATED_HALVES;
    list[n - 1].gemm.activation = TENON_ACTIVATION_SILU;
    list[n - 1].gemm.c = empty(w, TENON_F32, 2, (const int64_t[2]){9, 50});
    list[n++] = (problem){.name = "mxfp4 experts",
                          .gemm = product(w, TENON_F32, TENON_MXFP4, TENON_F32, 30, 70, 256)};
    list[n - 1].gemm.b = filled(w, TENON_MXFP4, 3, (const int64_t[3]){3, 256, 70});
    list[n - 1].gemm.group_offsets = tenon_vector(offsets, TENON_S32, 4);
    list[n - 1].gemm.compute = TENON_COMPUTE_FAST;
    return n;
}

static int make_problems(world *w, problem list[MOST]) {
    const int64_t wide[2] = {37, 3000}, tall[2] = {700, 33}, scores[4] = {2, 3, 40, 300};
    const int64_t experts[3] = {3, 300, 70};
    static const int32_t first_axis = 0, offsets[4] = {0, 31, 31, 90};
    int n = 0;
    world_case(w, "problems");
    memset(list, 0, sizeof(problem) * MOST);

    list[n++] = (problem){.name = "gemm f32",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 331, 197, 700)};
    list[n++] = (problem){.name = "gemm f64",
                          .gemm = product(w, TENON_F64, TENON_F64, TENON_F64, 267, 130, 600)};
    list[n++] = (problem){.name = "gemm bf16",
                          .gemm = product(w, TENON_BF16, TENON_BF16, TENON_BF16, 65, 97, 520)};
    list[n++] = (problem){.name = "gemm f16 s8",
                          .gemm = product(w, TENON_F16, TENON_S8, TENON_F32, 19, 97, 300)};
    list[n++] = (problem){.name = "gemm s8",
                          .gemm = product(w, TENON_S8, TENON_S8, TENON_S32, 33, 97, 520)};
    list[n++] = (problem){.name = "gemm u8 with zeros",
                          .gemm = product(w, TENON_U8, TENON_U8, TENON_S32, 33, 97, 520)};
    list[n - 1].gemm.a_zero = filled2(w, TENON_U8, 33, 1);
    list[n - 1].gemm.b_zero = filled2(w, TENON_U8, 1, 97);
    list[n] = list[n - 1];
    n++;
    list[n - 1].name = "gemm u8 with zeros packed";
    list[n - 1].gemm.c = empty(w, TENON_S32, 2, (const int64_t[2]){33, 97});
    pack_b(w, &list[n - 1].gemm);
    list[n++] = (problem){.name = "gemm bf16 scaled",
                          .gemm = product(w, TENON_BF16, TENON_BF16, TENON_F32, 5, 97, 520)};
    list[n - 1].gemm.b_scale = filled2(w, TENON_F32, 1, 97);
    list[n++] = (problem){.name = "gemv",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 1, 1500, 900)};
    list[n++] = (problem){.name = "gemv transposed",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 1, 900, 900)};
    list[n - 1].gemm.b = tenon_transposed(list[n - 1].gemm.b);
    list[n++] = (problem){.name = "gemm column",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 1500, 1, 300)};
    list[n++] = (problem){.name = "gemm few rows",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 3, 700, 300)};
    list[n++] = (problem){.name = "gemm some rows",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 17, 1100, 701)};
    list[n++] = (problem){.name = "gemm some rows f64, bias",
                          .gemm = product(w, TENON_F64, TENON_F64, TENON_F32, 29, 1030, 259)};
    list[n - 1].gemm.bias = filled2(w, TENON_F32, 1, 1030);
    list[n++] = (problem){.name = "gemm gelu",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 70, 131, 300)};
    list[n - 1].gemm.activation = TENON_ACTIVATION_GELU;
    list[n - 1].gemm.bias = filled2(w, TENON_F32, 1, 131);
    list[n - 1].gemm.residual = filled2(w, TENON_F32, 70, 131);
    list[n++] = (problem){.name = "gemm experts",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 90, 70, 300)};
    list[n - 1].gemm.b = filled(w, TENON_F32, 3, experts);
    list[n - 1].gemm.group_offsets = tenon_vector(offsets, TENON_S32, 4);
    list[n++] = (problem){.name = "gemm packed",
                          .gemm = product(w, TENON_BF16, TENON_F32, TENON_F32, 40, 170, 600)};
    pack_b(w, &list[n - 1].gemm);
    list[n++] = (problem){
        .name = "softmax",
        .softmax = {.x = filled(w, TENON_F32, 2, wide), .y = empty(w, TENON_F32, 2, wide)}};
    list[n++] = (problem){.name = "softmax one long row",
                          .softmax = {.x = filled2(w, TENON_F32, 1, 100003),
                                      .y = empty(w, TENON_F32, 2, (const int64_t[2]){1, 100003})}};
    list[n++] = (problem){.name = "softmax columns",
                          .softmax = {.x = filled(w, TENON_F32, 2, tall),
                                      .y = empty(w, TENON_F32, 2, tall),
                                      .axis = &first_axis}};
    list[n++] = (problem){.name = "softmax masked",
                          .softmax = {.x = filled(w, TENON_BF16, 4, scores),
                                      .y = empty(w, TENON_F32, 4, scores),
                                      .mask = filled(w, TENON_BOOL, 4, scores),
                                      .softcap = 3,
                                      .causal = TENON_CAUSAL_BOTTOM_RIGHT}};
    list[n++] =
        (problem){.name = "prefill", .attention = attention(w, TENON_F32, 1, 3, 3, 150, 150, 64)};
    list[n - 1].attention.causal = TENON_CAUSAL_TOP_LEFT;
    list[n++] =
        (problem){.name = "decode", .attention = attention(w, TENON_F32, 1, 4, 2, 1, 3001, 64)};
    list[n++] = (problem){.name = "decode bf16",
                          .attention = attention(w, TENON_BF16, 3, 8, 2, 1, 900, 32)};
    list[n++] =
        (problem){.name = "few queries", .attention = attention(w, TENON_F32, 2, 4, 1, 5, 777, 40)};
    list[n++] = (problem){.name = "attention f64",
                          .attention = attention(w, TENON_F64, 1, 2, 2, 33, 300, 24)};
    /* What wants more than a stack holds, and so has choices with workspace and without. */
    list[n++] = (problem){.name = "gemm large",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_BF16, 400, 350, 520)};
    list[n++] = (problem){.name = "gemm few rows, long",
                          .gemm = product(w, TENON_BF16, TENON_F32, TENON_F32, 7, 90, 40000)};
    list[n++] = (problem){.name = "gemm few rows f64",
                          .gemm = product(w, TENON_F32, TENON_F64, TENON_F64, 7, 90, 3000)};
    list[n++] = (problem){.name = "softmax very long row",
                          .softmax = {.x = filled2(w, TENON_F32, 1, 1300007),
                                      .y = empty(w, TENON_F32, 2, (const int64_t[2]){1, 1300007})}};
    list[n++] = (problem){.name = "softmax very long row f64 to f16",
                          .softmax = {.x = filled2(w, TENON_F64, 1, 130003),
                                      .y = empty(w, TENON_F16, 2, (const int64_t[2]){1, 130003}),
                                      .bias = filled2(w, TENON_F16, 1, 130003)}};
    list[n++] = (problem){.name = "softmax very long row f64",
                          .softmax = {.x = filled2(w, TENON_F64, 1, 130003),
                                      .y = empty(w, TENON_F64, 2, (const int64_t[2]){1, 130003})}};
    list[n++] =
        (problem){.name = "wide heads", .attention = attention(w, TENON_F64, 1, 2, 1, 9, 300, 576)};
    list[n++] = (problem){.name = "long prefill",
                          .attention = attention(w, TENON_BF16, 1, 2, 1, 300, 300, 72)};
    list[n - 1].attention.causal = TENON_CAUSAL_TOP_LEFT;
    /* Blocks of k are shared out, in one pass and in several; then sums of less than a block. */
    list[n++] = (problem){.name = "gemm long",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 17, 33, 20000)};
    list[n++] = (problem){.name = "gemm long, turned",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 3000, 70, 64)};
    list[n - 1].gemm.a = tenon_transposed(list[n - 1].gemm.a);
    list[n - 1].gemm.b = filled2(w, TENON_F32, 3000, 70);
    list[n - 1].gemm.c = empty(w, TENON_F32, 2, (const int64_t[2]){64, 70});
    list[n++] = (problem){.name = "gemm long f16 gelu",
                          .gemm = product(w, TENON_F16, TENON_F32, TENON_F16, 70, 90, 5003)};
    list[n - 1].gemm.activation = TENON_ACTIVATION_GELU;
    list[n - 1].gemm.bias = filled2(w, TENON_F32, 1, 90);
    list[n++] = (problem){.name = "gemm long f64",
                          .gemm = product(w, TENON_F64, TENON_F64, TENON_F64, 130, 140, 2050)};
    list[n++] = (problem){.name = "gemm long s8",
                          .gemm = product(w, TENON_S8, TENON_S8, TENON_S32, 9, 30, 9000)};
    list[n++] = (problem){.name = "gemm wide",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 35, 3000, 40)};
    list[n++] = (problem){.name = "gemm tall",
                          .gemm = product(w, TENON_F32, TENON_F32, TENON_F32, 3000, 35, 40)};
    n += make_block_problems(w, list + n);
    ck_assert_int_le(n, MOST);
    for (int i = 0; i < n; ++i) {
        problem *p = &list[i];
        p->out = p->gemm.c.rank ? &p->gemm.c : p->softmax.y.rank ? &p->softmax.y : &p->attention.o;
    }
    return n;
}

static uint64_t hash_bytes(uint64_t hash, const tenon_tensor *dense) {
    const unsigned char *at = dense->data;
    const size_t bytes = at ? (size_t)count_of(dense) * number_size(dense->dtype) : 0;
    for (size_t i = 0; i < bytes; ++i)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Runs a problem in `ctx` and hashes what it wrote. */
static uint64_t bits_of(tenon_context *ctx, const problem *p) {
    memset(p->out->data, 0xa5, (size_t)count_of(p->out) * number_size(p->out->dtype));
    const tenon_status status = p->gemm.c.rank      ? tenon_gemm(ctx, &p->gemm)
                                : p->softmax.y.rank ? tenon_softmax(ctx, &p->softmax)
                                                    : tenon_attention(ctx, &p->attention);
    if (status != TENON_OK)
        ck_abort_msg("%s: %s", p->name, tenon_error_message(ctx));
    const uint64_t hash = hash_bytes(UINT64_C(0xcbf29ce484222325), p->out);
    return p->attention.o.rank ? hash_bytes(hash, &p->attention.lse) : hash;
}

/* ---------------------------------------------------------------- threads and pools */

static int pool_threads(void *user) {
    return *(int *)user;
}

/* The caller's thread alone, last index first. */
static void backwards(void *user, void (*task)(void *arg, int index), void *arg, int count) {
    (void)user;
    for (int i = count - 1; i >= 0; --i)
        task(arg, i);
}

typedef struct crowd {
    void (*task)(void *arg, int index);
    void *arg;
    atomic_int next;
    int count;
} crowd;

static void *crowd_thread(void *user) {
    crowd *c = user;
    for (int i; (i = atomic_fetch_add(&c->next, 1)) < c->count;)
        c->task(c->arg, i);
    return NULL;
}

/* New threads each time, racing for indices. */
static void racing(void *user, void (*task)(void *arg, int index), void *arg, int count) {
    crowd c = {.task = task, .arg = arg, .count = count};
    pthread_t thread[8];
    const int threads = *(int *)user - 1;
    for (int i = 0; i < threads; ++i)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, crowd_thread, &c), 0);
    crowd_thread(&c);
    for (int i = 0; i < threads; ++i)
        pthread_join(thread[i], NULL);
}

START_TEST(threads_and_pools) {
    static int five = 5, three = 3;
    const tenon_context_desc descs[] = {
        {.threads = 2},
        {.threads = 3},
        {.threads = 8},
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
    for (int i = 0; i < count; ++i)
        expected[i] = bits_of(ctx, &list[i]);
    for (int i = 0; i < count; ++i)
        ck_assert_msg(bits_of(ctx, &list[i]) == expected[i], "%s: the second run differs",
                      list[i].name);
    tenon_context_destroy(ctx);

    for (size_t d = 0; d < sizeof descs / sizeof *descs; ++d) {
        tenon_context_desc desc = descs[d];
        desc.device = device_id[_i];
        ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
        for (int repeat = 0; repeat < 3; ++repeat)
            for (int i = 0; i < count; ++i)
                ck_assert_msg(bits_of(ctx, &list[i]) == expected[i],
                              "%s: %s: differs with %d threads%s", device_id[_i], list[i].name,
                              (int)desc.threads, desc.parallel.run ? " of the caller's pool" : "");
        tenon_context_destroy(ctx);
    }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- every algorithm */

static tenon_status plan_of(tenon_context *ctx, const problem *p, size_t limit, tenon_plan **plan) {
    problem x = *p;
    x.gemm.workspace.bytes = x.softmax.workspace.bytes = x.attention.workspace.bytes = limit;
    return x.gemm.c.rank      ? tenon_gemm_plan(ctx, &x.gemm, plan)
           : x.softmax.y.rank ? tenon_softmax_plan(ctx, &x.softmax, plan)
                              : tenon_attention_plan(ctx, &x.attention, plan);
}

static tenon_status run_plan(tenon_context *ctx, const problem *p, const tenon_plan *plan) {
    return p->gemm.c.rank      ? tenon_gemm_run(ctx, plan, &p->gemm)
           : p->softmax.y.rank ? tenon_softmax_run(ctx, plan, &p->softmax)
                               : tenon_attention_run(ctx, plan, &p->attention);
}

/* Every choice of a plan in `ctx`, in exactly its workspace, and that they are in order. */
static void every_choice(world *w, tenon_context *ctx, int threads, const problem *p,
                         uint64_t expected) {
    tenon_plan_info info = {0};
    tenon_plan_choice last = {0};
    tenon_plan *plan, *limited;
    ck_assert_int_eq(plan_of(ctx, p, 0, &plan), TENON_OK);
    ck_assert_int_eq(tenon_plan_query(plan, &info), TENON_OK);
    for (int c = 0; c < info.choices; ++c) {
        tenon_plan_choice choice = {0};
        problem x = *p;
        ck_assert_int_eq(tenon_plan_choice_get(plan, c, &choice), TENON_OK);
        ck_assert_msg(
            c == 0 || (choice.workspace < last.workspace && choice.seconds >= last.seconds),
            "%s: %s: %d threads: %s with %zu bytes comes after %s with %zu", w->device, p->name,
            threads, choice.algorithm, choice.workspace, last.algorithm, last.workspace);
        last = choice;
        /* 0 would mean no limit; nothing takes a single byte. */
        ck_assert_int_eq(plan_of(ctx, p, choice.workspace ? choice.workspace : 1, &limited),
                         TENON_OK);
        memset(p->out->data, 0xa5, (size_t)count_of(p->out) * number_size(p->out->dtype));
        void *memory = guard_alloc(choice.workspace, 64, true);
        x.gemm.workspace = x.softmax.workspace = x.attention.workspace =
            (tenon_workspace){memory, choice.workspace};
        ck_assert_int_eq(run_plan(ctx, &x, limited), TENON_OK);
        ck_assert(guard_free(memory));
        uint64_t hash = hash_bytes(UINT64_C(0xcbf29ce484222325), p->out);
        if (p->attention.o.rank)
            hash = hash_bytes(hash, &p->attention.lse);
        ck_assert_msg(hash == expected, "%s: %s: %d threads: %s %s with %zu bytes differs",
                      w->device, p->name, threads, choice.algorithm, choice.kernel,
                      choice.workspace);
        tenon_plan_destroy(limited);
    }
    ck_assert_msg(last.workspace == 0, "%s: %s: %d threads: %s, the smallest, takes %zu bytes",
                  w->device, p->name, threads, last.algorithm, last.workspace);
    tenon_plan_destroy(plan);
}

START_TEST(algorithms) {
    static const int32_t threads[] = {1, 2, 5, 64};
    world w = world_start("algorithms", device_id[_i]);
    problem list[MOST];
    const int count = make_problems(&w, list);
    uint64_t expected[MOST];
    for (int i = 0; i < count; ++i)
        expected[i] = bits_of(w.ctx, &list[i]);
    for (size_t t = 0; t < sizeof threads / sizeof *threads; ++t) {
        const tenon_context_desc desc = {.device = device_id[_i], .threads = threads[t]};
        tenon_context *ctx;
        ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
        for (int i = 0; i < count; ++i)
            every_choice(&w, ctx, (int)threads[t], &list[i], expected[i]);
        tenon_context_destroy(ctx);
    }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- instruction sets */

/* The level is read once per process, so each one is a child: this program, which then runs this one test. */
START_TEST(hashes) {
    world w = world_start("levels", device_id[_i]);
    problem list[MOST];
    const int count = make_problems(&w, list);
    for (int i = 0; i < count; ++i)
        printf("hash %016llx %s\n", (unsigned long long)bits_of(w.ctx, &list[i]), list[i].name);
    world_end(&w);
}
END_TEST

/* The lines of hashes at a level; false if the machine has not got it. */
static bool hashes_at(const char *level, char *text, size_t capacity) {
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
        if (strncmp(line, "hash ", 5) == 0 && strlen(text) + strlen(line) < capacity)
            strcat(text, line);
    fclose(from);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        return false;
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child for %s failed", level);
    return true;
}

/* Whether two lists of lines are equal; products of bf16 may differ if `bf16_differs`. */
static bool same_lines(const char *a, const char *b, bool bf16_differs) {
    while (*a && *b) {
        const size_t length = strcspn(a, "\n") + 1;
        if (strncmp(a, b, length) != 0 &&
            !(bf16_differs && strncmp(a + strlen("hash 0123456789abcdef "), "gemm bf16", 9) == 0))
            return false;
        a += length;
        b += strcspn(b, "\n") + 1;
    }
    return *a == *b;
}

/* Levels without the instructions beyond them agree in everything; with them, in all but products of bf16 (docs/NUMERICS.md, 3.7). */
START_TEST(levels) {
    static const char *const level[] = {"avx2-plain", "avx512-plain", "avx2", "avx512", "amx"};
    static char expected[8192], found[8192];
    if (strcmp(device_id[_i], "cpu") != 0)
        return;
    ck_assert(hashes_at("scalar", expected, sizeof expected));
    ck_assert(strlen(expected) > 0);
    for (size_t i = 0; i < sizeof level / sizeof *level; ++i)
        if (hashes_at(level[i], found, sizeof found))
            ck_assert_msg(
                same_lines(expected, found,
                           strcmp(level[i], "avx512") == 0 || strcmp(level[i], "amx") == 0),
                "%s gives other bits than scalar:\n%s---\n%s", level[i], found, expected);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {threads_and_pools, algorithms, levels};
    const TTest *const child[] = {hashes};
    if (getenv("TENON_PRINT_HASHES"))
        return conform_main("hashes", child, 1);
    return conform_main("conformance bits", tests, sizeof tests / sizeof *tests);
}
