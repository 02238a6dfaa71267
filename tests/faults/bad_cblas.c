/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bad_cblas.c: CBLAS libraries that take a failed allocation badly, each in one way (FAILURE), for
 * fault_bench_test.py: the fault bench must tell them apart. FALL_BACK takes it well.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define FALL_BACK 0
#define ABORT 1
#define EXIT 2
#define HANG 3
#define WRONG 4
#define POISON 5
#define CRASH 6

#ifndef FAILURE
#error "FAILURE says what happens when there is no memory"
#endif

static bool broken;
static int *volatile nowhere;

static void *idle(void *arg) {
    return arg;
}

/* One request of every kind that the bench fails. True if all were granted. */
static bool take_everything(void) {
    void *memory[7];
    pthread_t thread;
    memory[0] = malloc(100);
    memory[1] = calloc(3, 50);
    memory[2] = realloc(NULL, 200);
    memory[3] = aligned_alloc(64, 256);
    if (posix_memalign(&memory[4], 64, 300) != 0)
        memory[4] = NULL;
    memory[5] = reallocarray(NULL, 5, 70);
    memory[6] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const bool started = pthread_create(&thread, NULL, idle, NULL) == 0;
    bool granted = started && memory[6] != MAP_FAILED;
    if (started)
        pthread_join(thread, NULL);
    if (memory[6] != MAP_FAILED)
        munmap(memory[6], 4096);
    for (int i = 0; i < 6; ++i) {
        granted = granted && memory[i];
        free(memory[i]);
    }
    return granted;
}

__attribute__((visibility("default"))) void cblas_sgemm(int order, int ta, int tb, int m, int n,
                                                        int k, float alpha, const float *a, int lda,
                                                        const float *b, int ldb, float beta,
                                                        float *c, int ldc);

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                 int lda, const float *b, int ldb, float beta, float *c, int ldc) {
    (void)order, (void)ta, (void)tb, (void)alpha, (void)beta;
    float slip = 0;
    if (!take_everything()) {
        switch (FAILURE) {
        case ABORT:
            abort();
        case EXIT:
            _exit(0); /* even with the status of success */
        case HANG:
            for (;;)
                pause();
        case WRONG:
            slip = 1;
            break;
        case POISON:
            broken = true;
            break;
        case CRASH:
            *nowhere = 0;
            break;
        }
    } else if (broken) {
        return; /* the once-guard that remembers */
    }
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            float sum = slip;
            for (int p = 0; p < k; ++p)
                sum += a[i * lda + p] * b[p * ldb + j];
            c[i * ldc + j] = sum;
        }
}
