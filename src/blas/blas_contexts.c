/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_contexts.c: which context computes a call. BLAS is called from any thread and has no
 * handles.
 *
 * Contexts stand in a row and are made when first wanted. A call tries them in order: a context
 * that another thread is inside of answers BUSY, so it is its own lock. The first one has all
 * threads; the others have one, since a program that calls from several threads at once is parallel
 * already. Nothing is waited for and no failure is remembered. In the child of a fork, contexts
 * that other threads were inside of stay BUSY for ever and are passed by.
 */
#include "blas.h"

#include <stdatomic.h>
#include <stdlib.h>

/* More threads than this inside of GEMM at once make a context for each call (tens of
 * microseconds). */
enum { CONTEXTS = 128, MOST_THREADS = 1024 /* what tenon/host.h allows */ };

static _Atomic(tenon_context *) contexts[CONTEXTS];

/* The number that a variable begins with, as OMP_NUM_THREADS may go on with a comma; 0 if there is
 * none. */
static int number_in(const char *variable) {
    const char *text = getenv(variable);
    int number = 0;
    while (text && *text >= '0' && *text <= '9' && number <= MOST_THREADS)
        number = number * 10 + (*text++ - '0');
    return number < MOST_THREADS ? number : MOST_THREADS;
}

/* 0: as many as this process may use. */
static int most_threads(void) {
    static const char *const variables[] = {"TENON_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                                            "OMP_NUM_THREADS"};
    int number = 0;
    for (int i = 0; i < 3 && number == 0; i++)
        number = number_in(variables[i]);
    return number;
}

static tenon_status make(int threads, tenon_context **out) {
    /* Not "auto": host memory, many calls and small ones. */
    const tenon_context_desc desc = {.device = "cpu", .threads = threads};
    return tenon_context_create(&desc, out);
}

/* Context number `i`, or NULL if there is no memory for it now. */
static tenon_context *context(int i) {
    tenon_context *there = atomic_load_explicit(&contexts[i], memory_order_acquire), *made;
    if (there || make(i == 0 ? most_threads() : 1, &made) != TENON_OK)
        return there;
    if (atomic_compare_exchange_strong_explicit(&contexts[i], &there, made, memory_order_acq_rel,
                                                memory_order_acquire))
        return made;
    tenon_context_destroy(made); /* another thread was first */
    return there;
}

tenon_status tn_blas_compute(const tenon_gemm_desc *desc) {
    for (int i = 0; i < CONTEXTS; i++) {
        tenon_context *ctx = context(i);
        if (!ctx)
            return TENON_ERROR_OUT_OF_MEMORY;
        const tenon_status status = tenon_gemm(ctx, desc);
        /* Lost: to the child of a fork that came while another thread took memory. */
        if (status != TENON_ERROR_BUSY && status != TENON_ERROR_DEVICE_LOST)
            return status;
    }
    tenon_context *own;
    tenon_status status = make(1, &own);
    if (status == TENON_OK)
        status = tenon_gemm(own, desc);
    tenon_context_destroy(own);
    return status;
}
