/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inner loop of an inference engine: 32 sequences of different lengths, keys and values in bf16 pages, four query heads to a
 * key-value head, attention sinks. The engine owns its threads and its memory: tenon runs on the engine's pool, in a piece
 * of the engine's arena, and from the second step on asks for no memory at all. The program counts, and fails otherwise.
 */
#include <tenon/tenon.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SEQUENCES = 32,
    KV_HEADS = 2,
    HEADS = 4 * KV_HEADS,
    D = 64,
    PAGE = 16,      /* positions in a block */
    MAX_PAGES = 12, /* of one sequence */
    PAGES = SEQUENCES * MAX_PAGES,
    STEPS = 20
};

static uint16_t k_cache[PAGES][KV_HEADS][PAGE][D], v_cache[PAGES][KV_HEADS][PAGE][D]; /* bf16 */
static int32_t table[SEQUENCES][MAX_PAGES], lengths[SEQUENCES], positions[SEQUENCES];
static float q[SEQUENCES][HEADS][D], k[SEQUENCES][KV_HEADS][D], v[SEQUENCES][KV_HEADS][D],
    o[SEQUENCES][HEADS][D];
static float sinks[HEADS];
static int pages_used;

static void need(tenon_status status, const tenon_context *ctx) {
    if (status == TENON_OK)
        return;
    fprintf(stderr, "%s: %s\n", tenon_status_name(status), tenon_error_message(ctx));
    exit(1);
}

/* ---------------------------------------------------------------- the engine's allocator: counts */

static int allocations;

static void *counted_alloc(void *user, size_t bytes, size_t alignment) {
    void *memory = NULL;
    (void)user;
    ++allocations;
    return posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment,
                          bytes) == 0
               ? memory
               : NULL;
}

static void counted_free(void *user, void *memory, size_t bytes) {
    (void)user;
    (void)bytes;
    free(memory);
}

/* ---------------------------------------------------------------- the engine's threads: one helper beside the caller */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*task)(void *, int);
    void *arg;
    int next, count, busy, quit;
} engine = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Takes indices until there are none left. Called and returns with the lock held. */
static void work_off(void) {
    while (engine.next < engine.count) {
        const int index = engine.next++;
        ++engine.busy;
        pthread_mutex_unlock(&engine.lock);
        engine.task(engine.arg, index);
        pthread_mutex_lock(&engine.lock);
        --engine.busy;
        pthread_cond_broadcast(&engine.changed);
    }
}

static void *helper(void *unused) {
    pthread_mutex_lock(&engine.lock);
    while (!engine.quit) {
        work_off();
        if (!engine.quit)
            pthread_cond_wait(&engine.changed, &engine.lock);
    }
    pthread_mutex_unlock(&engine.lock);
    return unused;
}

static int engine_threads(void *user) {
    (void)user;
    return 2;
}

static void engine_run(void *user, void (*task)(void *arg, int index), void *arg, int count) {
    (void)user;
    pthread_mutex_lock(&engine.lock);
    engine.task = task;
    engine.arg = arg;
    engine.next = 0;
    engine.count = count;
    pthread_cond_broadcast(&engine.changed);
    work_off();
    while (engine.busy > 0)
        pthread_cond_wait(&engine.changed, &engine.lock);
    pthread_mutex_unlock(&engine.lock);
}

/* ---------------------------------------------------------------- the model's part: made-up activations */

static void next_token(int step) {
    for (int b = 0; b < SEQUENCES; ++b) {
        if (lengths[b] % PAGE == 0)
            table[b][lengths[b] / PAGE] = (pages_used++ * 7) % PAGES; /* pages come in any order */
        positions[b] = lengths[b]++;
        for (int i = 0; i < HEADS * D; ++i)
            q[b][i / D][i % D] = (float)sin(i * 0.31 + b + step);
        for (int i = 0; i < KV_HEADS * D; ++i) {
            k[b][i / D][i % D] = (float)cos(i * 0.17 + b * 3 + step);
            v[b][i / D][i % D] = (float)sin(i * 0.23 + b * 5 + step * 2);
        }
    }
}

/* ---------------------------------------------------------------- the same in plain loops */

static double bf16(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static double difference(int b, int h) {
    double s[MAX_PAGES * PAGE], sum = exp(sinks[h]), worst = 0;
    const int kv = h / (HEADS / KV_HEADS);
    for (int j = 0; j < lengths[b]; ++j) {
        s[j] = 0;
        for (int p = 0; p < D; ++p)
            s[j] += q[b][h][p] * bf16(k_cache[table[b][j / PAGE]][kv][j % PAGE][p]);
        sum += s[j] = exp(s[j] / sqrt(D));
    }
    for (int p = 0; p < D; ++p) {
        double expected = 0;
        for (int j = 0; j < lengths[b]; ++j)
            expected += s[j] / sum * bf16(v_cache[table[b][j / PAGE]][kv][j % PAGE][p]);
        worst = fmax(worst, fabs(expected - o[b][h][p]));
    }
    return worst;
}

int main(void) {
    pthread_t thread;
    const int helping = pthread_create(&thread, NULL, helper, NULL) == 0;
    for (int h = 0; h < HEADS; ++h)
        sinks[h] = (float)h / 2 - 1;

    tenon_context *ctx;
    const tenon_context_desc engine_owned = {
        .allocator = {.alloc = counted_alloc, .free = counted_free},
        .parallel = {.threads = engine_threads, .run = engine_run},
    };
    need(tenon_context_create(&engine_owned, &ctx), NULL);

    const tenon_tensor k_pages = tenon_tensor4(k_cache, TENON_BF16, PAGES, KV_HEADS, PAGE, D);
    const tenon_tensor v_pages = tenon_tensor4(v_cache, TENON_BF16, PAGES, KV_HEADS, PAGE, D);
    const tenon_tensor pages = tenon_matrix(table, TENON_S32, SEQUENCES, MAX_PAGES);
    const tenon_kv_append_desc append = {
        .k = tenon_tensor4(k, TENON_F32, SEQUENCES, KV_HEADS, 1, D),
        .v = tenon_tensor4(v, TENON_F32, SEQUENCES, KV_HEADS, 1, D),
        .k_cache = k_pages,
        .v_cache = v_pages,
        .positions = tenon_vector(positions, TENON_S32, SEQUENCES),
        .block_table = pages,
    };
    tenon_attention_desc attend = {
        .q = tenon_tensor4(q, TENON_F32, SEQUENCES, HEADS, 1, D),
        .k = k_pages,
        .v = v_pages,
        .o = tenon_tensor4(o, TENON_F32, SEQUENCES, HEADS, 1, D),
        .sinks = tenon_vector(sinks, TENON_F32, HEADS),
        .key_lengths = tenon_vector(lengths, TENON_S32, SEQUENCES),
        .block_table = pages,
    };

    /* One plan for all steps: lengths and tables are data. Its workspace is a piece of the engine's own arena. */
    tenon_plan *plan;
    tenon_plan_info info = {.struct_size = sizeof info};
    need(tenon_attention_plan(ctx, &attend, &plan), ctx);
    need(tenon_plan_query(plan, &info), ctx);
    void *arena = NULL;
    if (posix_memalign(&arena, 64, info.workspace ? info.workspace : 64) != 0)
        return 1;
    attend.workspace = (tenon_workspace){.memory = arena, .bytes = info.workspace};

    /* Prompts of 1 to 125 positions, then the steps that are counted. */
    int steady = 0;
    for (int b = 0; b < SEQUENCES; ++b)
        for (int i = 0; i <= 4 * b; ++i, ++lengths[b])
            if (i % PAGE == 0)
                table[b][i / PAGE] = (pages_used++ * 7) % PAGES;
    for (int step = 0; step < STEPS; ++step) {
        if (step == 1)
            steady = allocations;
        next_token(step);
        need(tenon_kv_append(ctx, &append), ctx);
        need(tenon_attention_run(ctx, plan, &attend), ctx);
    }
    const int during = allocations - steady;

    double worst = 0;
    for (int b = 0; b < SEQUENCES; ++b)
        for (int h = 0; h < HEADS; ++h)
            worst = fmax(worst, difference(b, h));
    printf("%s: %s, kernel %s, %zu bytes of the engine's arena\n", info.device, info.algorithm,
           info.kernel, info.workspace);
    printf("%d sequences of %d to %d positions; %d allocations in %d steps; largest difference "
           "from plain loops %.2g\n",
           SEQUENCES, lengths[0], lengths[SEQUENCES - 1], during, STEPS - 1, worst);

    tenon_plan_destroy(plan);
    tenon_context_destroy(ctx);
    free(arena);
    pthread_mutex_lock(&engine.lock);
    engine.quit = 1;
    pthread_cond_broadcast(&engine.changed);
    pthread_mutex_unlock(&engine.lock);
    if (helping)
        pthread_join(thread, NULL);
    return during == 0 && worst < 1e-5 ? 0 : 1;
}
