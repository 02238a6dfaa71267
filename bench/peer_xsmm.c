/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_xsmm.c: libxsmm as a peer (see peer_gemm.h): code made for one small product, on one thread
 * and for one member of a batch after another. By the structures of its libxsmm_typedefs.h, built
 * with 32-bit integers as it comes.
 */
#include "peer_gemm.h"

#include <string.h>

/* Products up to this are what its code is made for. */
#define MOST_MULTIPLY_ADDS (INT64_C(128) * 128 * 128)

enum { F64 = 0, F32 = 1 };
enum { FLAG_TRANSPOSED_A = 1, FLAG_TRANSPOSED_B = 2, FLAG_BETA_0 = 4 };

typedef struct shape {
    int m, n, k, lda, ldb, ldc;
    int a_type, b_type, c_type, sum_type;
} shape;

typedef struct parameters {
    void *state[4];
    void *a[6], *b[6], *c[6];
} parameters;

typedef void kernel(const parameters *);

static bool can(const bench_peer *peer, const peer_product *p) {
    (void)peer;
    return !p->prepacked && (p->a_type == TENON_F32 || p->a_type == TENON_F64) &&
           p->m * p->n * p->k <= MOST_MULTIPLY_ADDS;
}

/* Its matrices are by columns: C' = B' A'. */
static void *prepare(const bench_peer *peer, const peer_product *p) {
    const int type = p->a_type == TENON_F64 ? F64 : F32;
    const shape wanted = {.m = (int)p->n,
                          .n = (int)p->m,
                          .k = (int)p->k,
                          .lda = (int)peer_b_stride(p),
                          .ldb = (int)peer_a_stride(p),
                          .ldc = (int)p->n,
                          .a_type = type,
                          .b_type = type,
                          .c_type = type,
                          .sum_type = type};
    const unsigned flags = FLAG_BETA_0 | (p->b_transposed ? FLAG_TRANSPOSED_A : 0u) |
                           (p->a_transposed ? FLAG_TRANSPOSED_B : 0u);
    return ((void *(*)(shape, unsigned, unsigned))peer->xsmm_dispatch)(wanted, flags, 0);
}

static void run(const bench_peer *peer, const peer_product *p, void *prepared) {
    (void)peer;
    const int64_t element = p->a_type == TENON_F64 ? 8 : 4;
    kernel *call;
    memcpy(&call, &prepared, sizeof call); /* an object pointer as a function pointer */
    for (int64_t i = 0; i < p->batch; ++i) {
        parameters q = {0};
        q.a[0] = (char *)(uintptr_t)p->b + i * peer_b_size(p) * element;
        q.b[0] = (char *)(uintptr_t)p->a + i * peer_a_size(p) * element;
        q.c[0] = (char *)p->c + i * peer_c_size(p) * element;
        call(&q);
    }
}

/* Its code lasts as long as the library. */
static void release(const bench_peer *peer, void *prepared) {
    (void)peer;
    (void)prepared;
}

static const peer_way way = {"dispatch_gemm", can, prepare, run, release};

bool peer_xsmm_find(bench_peer *peer) {
    peer->xsmm_dispatch = peer_library_find(&peer->library, "libxsmm_dispatch_gemm");
    if (!peer->xsmm_dispatch)
        return false;
    peer_add_way(peer, &way);
    return true;
}
