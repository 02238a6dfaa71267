/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_cblas.h: any CBLAS library, opened at run time, to be timed beside tenon in the same
 * process. Nothing of it is needed to build or to run the command without --vs.
 */
#ifndef BENCH_PEER_CBLAS_H
#define BENCH_PEER_CBLAS_H

#include "peer_library.h"

#include <stdbool.h>
#include <stdint.h>

/* What a library may offer for a product; its user would take the faster one. */
typedef enum peer_way {
    PEER_GEMM,    /* cblas_?gemm, once for each member of a batch */
    PEER_GEMV,    /* cblas_?gemv, where A is a row or B a column */
    PEER_STRIDED, /* cblas_?gemm_batch_strided, for batches: an extension of MKL and OpenBLAS */
    PEER_WAYS
} peer_way;

typedef struct peer_cblas {
    peer_library library;
    bool wide;                                         /* its integers have 64 bits */
    peer_function single[PEER_WAYS], twice[PEER_WAYS]; /* f32 and f64; NULL: not there */
    peer_function set_threads;
    bool set_threads_wide;
} peer_cblas;

/*
 * Opens "[NAME=]FILE". Looks for the functions above, plain, with the prefix scipy_, with the
 * suffixes 64_ and _64 (then integers have 64 bits), and for a known setter of the thread
 * count. False, after a sentence on stderr, if the file cannot be opened or has no cblas_?gemm.
 */
bool peer_open(options_value item, peer_cblas *peer);

/* Sets the thread count, where the library has a setter that is known here (peer_open says so if
 * not). */
void peer_set_threads(const peer_cblas *peer, int threads);

/* Row-major products C = op(A) op(B), `batch` of them one behind the other; a transposed operand is
 * stored as its transpose, all dense. */
typedef struct peer_gemm {
    int element_bytes; /* 4 or 8 */
    bool a_transposed, b_transposed;
    int64_t m, n, k, batch;
    const void *a, *b;
    void *c;
} peer_gemm;

/* Whether the library has that way to do it, with integers that hold the extents. */
bool peer_can(const peer_cblas *peer, peer_way way, const peer_gemm *product);

void peer_run(const peer_cblas *peer, peer_way way, const peer_gemm *product);

/* "gemm", "gemv", "gemm_batch_strided". */
const char *peer_way_name(peer_way way);

#endif
