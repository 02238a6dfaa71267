/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_cblas.h: any CBLAS library, opened at run time, to be timed beside tenon in the same
 * process. Nothing of it is needed to build or to run the command without --vs.
 */
#ifndef BENCH_PEER_CBLAS_H
#define BENCH_PEER_CBLAS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct peer_cblas {
    char name[64]; /* what tables and JSON call it */
    void *library;
    bool wide; /* its integers have 64 bits */
    void (*sgemm)(void);
    void (*dgemm)(void);
    void (*set_threads)(void);
    bool set_threads_wide;
} peer_cblas;

/*
 * Opens "[NAME=]FILE". Looks for cblas_sgemm and cblas_dgemm, plain, with the prefix scipy_, with
 * the suffixes 64_ and _64 (then integers have 64 bits), and for a known setter of the thread
 * count. False, after a sentence on stderr, if the file cannot be opened or has no such function.
 * The library stays loaded to the end of the process: many BLAS libraries leave threads behind that
 * run its code.
 */
bool peer_open(const char *argument, peer_cblas *peer);

/* Sets the thread count, where the library has a setter that is known here (peer_open says so if
 * not). */
void peer_set_threads(const peer_cblas *peer, int threads);

/* Whether it has the product for this element size (4 or 8 bytes). */
bool peer_has_gemm(const peer_cblas *peer, int element_bytes);

/* One row-major product C = op(A) op(B); a transposed operand is stored as its transpose, all
 * dense. */
typedef struct peer_gemm {
    int element_bytes;
    bool a_transposed, b_transposed;
    int64_t m, n, k;
    const void *a, *b;
    void *c;
} peer_gemm;

/* Runs it; extents fit the library's integers (peer_fits). */
void peer_run_gemm(const peer_cblas *peer, const peer_gemm *product);
bool peer_fits(const peer_cblas *peer, const peer_gemm *product);

#endif
