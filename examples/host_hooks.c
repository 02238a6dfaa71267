/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a host program may lend to tenon: its allocator, its threads, its log. Everything tenon allocates for itself goes through the
 * first, all parallel work through the second, every decision is told to the third; at the end nothing is left.
 */
#include <tenon/tenon.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct host {
    size_t bytes, peak; /* held now, and at most */
    int tasks;          /* run by our threads */
    int lines;          /* told to our log */
} host;

static void *host_alloc(void *user, size_t bytes, size_t alignment) {
    host *h = user;
    void *memory = NULL;
    if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) !=
        0)
        return NULL;
    h->bytes += bytes;
    if (h->bytes > h->peak)
        h->peak = h->bytes;
    return memory;
}

static void host_free(void *user, void *memory, size_t bytes) {
    ((host *)user)->bytes -= bytes;
    free(memory);
}

static int host_threads(void *user) {
    (void)user;
    return 2;
}

typedef struct share {
    void (*task)(void *arg, int index);
    void *arg;
    int first, count;
} share;

static void *run_share(void *arg) {
    const share *s = arg;
    for (int i = s->first; i < s->count; i += 2)
        s->task(s->arg, i);
    return NULL;
}

/* The simplest parallel_for: even indices here, odd ones on a thread made for the occasion. */
static void host_run(void *user, void (*task)(void *arg, int index), void *arg, int count) {
    share even = {task, arg, 0, count}, odd = {task, arg, 1, count};
    pthread_t thread;
    const int started = count > 1 && pthread_create(&thread, NULL, run_share, &odd) == 0;
    ((host *)user)->tasks += count;
    run_share(&even);
    if (started)
        pthread_join(thread, NULL);
    else
        run_share(&odd);
}

static void host_log(void *user, tenon_log_level level, const char *line) {
    ++((host *)user)->lines;
    printf("  log %d: %s\n", (int)level, line);
}

int main(void) {
    enum { ROWS = 256, COLUMNS = 1000 };
    static float x[ROWS * COLUMNS], y[ROWS * COLUMNS];
    host h = {0};
    for (int i = 0; i < ROWS * COLUMNS; ++i)
        x[i] = (float)(i * 7 % 50) / 10;

    const tenon_context_desc desc = {
        .allocator = {&h, host_alloc, host_free},
        .parallel = {&h, host_threads, host_run},
        .logger = {&h, host_log},
        .log_level = TENON_LOG_DISPATCH,
    };
    tenon_context *ctx;
    tenon_status status = tenon_context_create(&desc, &ctx);
    if (status != TENON_OK) {
        fprintf(stderr, "%s\n", tenon_error_message(NULL));
        return 1;
    }
    const tenon_softmax_desc softmax = {
        .x = tenon_matrix(x, TENON_F32, ROWS, COLUMNS),
        .y = tenon_matrix(y, TENON_F32, ROWS, COLUMNS),
    };
    status = tenon_softmax(ctx, &softmax);
    if (status != TENON_OK)
        fprintf(stderr, "%s\n", tenon_error_message(ctx));

    double worst = 0;
    for (int i = 0; i < ROWS; ++i) {
        double sum = 0;
        for (int j = 0; j < COLUMNS; ++j)
            sum += y[i * COLUMNS + j];
        worst = fmax(worst, fabs(sum - 1));
    }
    tenon_context_destroy(ctx);
    printf("peak of %zu bytes from our allocator, %zu left; %d tasks on our threads; %d lines "
           "logged\n",
           h.peak, h.bytes, h.tasks, h.lines);
    printf("rows sum to 1 within %.2g\n", worst);
    return status == TENON_OK && worst < 1e-5 && h.peak > 0 && h.bytes == 0 && h.lines > 0 ? 0 : 1;
}
