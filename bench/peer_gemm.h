/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_gemm.h: libraries that multiply matrices, opened at run time, to be timed beside tenon in
 * the same process. Nothing of them is needed to build or to run the command without --vs.
 *
 * A library is known by the C functions that it exports. Each interface (peer_cblas.c, peer_dlp.c,
 * peer_onednn.c, peer_xsmm.c, peer_clblast.c) is a table of ways to compute a product; a peer has the ways of all
 * interfaces that its library has, and its user would take the fastest.
 */
#ifndef BENCH_PEER_GEMM_H
#define BENCH_PEER_GEMM_H

#include "peer_library.h"

#include <tenon/tenon.h>

#include <stdbool.h>
#include <stdint.h>

#define PEER_MOST_WAYS 8

/* Row-major products C = op(A) op(B), `batch` of them one behind the other; a transposed operand is
 * stored as its transpose, all dense. */
typedef struct peer_product {
    tenon_dtype a_type, b_type, c_type;
    bool a_transposed, b_transposed;
    bool prepacked; /* B is constant: the peer brings it into its own layout before it is timed */
    int64_t m, n, k, batch;
    const void *a, *b;
    void *c;
} peer_product;

typedef struct bench_peer bench_peer;

/* One function of a library, or several that belong together. */
typedef struct peer_way {
    const char *name; /* what the JSON calls it */
    bool (*can)(const bench_peer *peer, const peer_product *product);
    /* What is done once for a product, untimed: packing B, making code. NULL where there is
     * nothing; answers NULL where the library refuses the product. */
    void *(*prepare)(const bench_peer *peer, const peer_product *product);
    void (*run)(const bench_peer *peer, const peer_product *product, void *prepared);
    void (*release)(const bench_peer *peer, void *prepared); /* goes with prepare */
} peer_way;

/* Looks for the functions of an interface; whether they are there. */
typedef bool peer_find(bench_peer *peer);

/* What peer_cblas.c finds: f32 and f64; NULL: not there. */
enum { PEER_CBLAS_GEMM, PEER_CBLAS_GEMV, PEER_CBLAS_STRIDED, PEER_CBLAS_COMPUTE, PEER_CBLAS_WAYS };
typedef struct peer_cblas {
    bool wide; /* integers have 64 bits */
    peer_function run[2][PEER_CBLAS_WAYS];
    peer_function pack_size[2], pack[2];
} peer_cblas;

/* What peer_dlp.c finds, by its table of types. */
#define PEER_DLP_TYPES 4
typedef struct peer_dlp {
    struct {
        peer_function gemm, reorder_size, reorder;
    } types[PEER_DLP_TYPES];
} peer_dlp;

/* What peer_onednn.c finds, by its list of names, and what it keeps. */
#define PEER_ONEDNN_FUNCTIONS 16
typedef struct peer_onednn {
    peer_function functions[PEER_ONEDNN_FUNCTIONS];
    void *engine, *stream;
} peer_onednn;

/* What peer_clblast.c finds: f32 and f64, and OpenCL's library. */
typedef struct peer_clblast {
    peer_function gemm, strided[2];
    void *opencl;
} peer_clblast;

struct bench_peer {
    peer_library library;
    const peer_way *ways[PEER_MOST_WAYS];
    int way_count;
    peer_function set_threads;
    bool set_threads_wide;
    peer_cblas cblas;
    peer_dlp dlp;
    peer_onednn onednn;
    peer_function xsmm_dispatch;
    peer_clblast clblast;
};

/*
 * Opens "[NAME=]FILE". False, after a sentence on stderr, if the file cannot be opened or has no
 * interface that is known here.
 */
bool peer_open(options_value item, bench_peer *peer);

/* Adds a way to those of the peer; for the interfaces. */
void peer_add_way(bench_peer *peer, const peer_way *way);

/* Sets the thread count, where the library has a setter that is known here (peer_open says so if
 * not). */
void peer_set_threads(const bench_peer *peer, int threads);

/* Elements of one member's A, B and C; leading dimensions as stored. */
int64_t peer_a_size(const peer_product *product);
int64_t peer_b_size(const peer_product *product);
int64_t peer_c_size(const peer_product *product);
int64_t peer_a_stride(const peer_product *product);
int64_t peer_b_stride(const peer_product *product);

/* The interfaces. */
peer_find peer_cblas_find, peer_dlp_find, peer_onednn_find, peer_xsmm_find, peer_clblast_find;

#endif
