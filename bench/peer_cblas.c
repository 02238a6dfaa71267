/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_cblas.c: CBLAS as a peer (see peer_gemm.h): gemm, once for each member of a batch; gemv,
 * where A is a row or B a column; and two extensions: gemm_batch_strided (MKL, OpenBLAS) and
 * products with packed B (MKL's gemm_pack, gemm_compute).
 *
 * Finds the functions under the names that builds give them: reference and vendor builds export
 * cblas_sgemm, OpenBLAS with 64-bit integers cblas_sgemm64_, Accelerate-style builds
 * cblas_sgemm_64, the wheels of SciPy's OpenBLAS scipy_cblas_sgemm (and ...64_).
 */
#include "peer_gemm.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
/* MKL's additions. */
enum { PACKED = 151, B_MATRIX = 162 };

static const char *const names[PEER_CBLAS_WAYS] = {"gemm", "gemv", "gemm_batch_strided",
                                                   "gemm_compute"};
static const char *const prefixes[] = {"", "scipy_"};
static const struct {
    const char *text;
    bool wide;
} suffixes[] = {{"", false}, {"64_", true}, {"_64", true}};

static peer_function look_up(const bench_peer *peer, size_t prefix, char type, const char *name,
                             size_t suffix) {
    char symbol[96];
    snprintf(symbol, sizeof symbol, "%scblas_%c%s%s", prefixes[prefix], type, name,
             suffixes[suffix].text);
    return peer_library_find(&peer->library, symbol);
}

/* The functions as one build decorates them; whether a product is among them. */
static bool find_decorated(bench_peer *peer, size_t prefix, size_t suffix) {
    peer_cblas *cblas = &peer->cblas;
    for (int type = 0; type < 2; ++type) {
        const char letter = "sd"[type];
        for (int way = 0; way < PEER_CBLAS_WAYS; ++way)
            cblas->run[type][way] = look_up(peer, prefix, letter, names[way], suffix);
        cblas->pack_size[type] = look_up(peer, prefix, letter, "gemm_pack_get_size", suffix);
        cblas->pack[type] = look_up(peer, prefix, letter, "gemm_pack", suffix);
    }
    cblas->wide = suffixes[suffix].wide;
    return cblas->run[0][PEER_CBLAS_GEMM] || cblas->run[1][PEER_CBLAS_GEMM];
}

/* Index of the product's type in the tables above; -1: CBLAS has none such. */
static int type_of(const peer_product *p) {
    return p->a_type == TENON_F32 ? 0 : p->a_type == TENON_F64 ? 1 : -1;
}

static bool can(const bench_peer *peer, int way, const peer_product *p) {
    const int type = type_of(p);
    const int64_t most = peer->cblas.wide ? INT64_MAX : INT32_MAX;
    return type >= 0 && peer->cblas.run[type][way] && p->m <= most && p->n <= most && p->k <= most;
}
static bool can_gemm(const bench_peer *peer, const peer_product *p) {
    return !p->prepacked && can(peer, PEER_CBLAS_GEMM, p);
}
static bool can_gemv(const bench_peer *peer, const peer_product *p) {
    return !p->prepacked && (p->m == 1 || p->n == 1) && can(peer, PEER_CBLAS_GEMV, p);
}
static bool can_strided(const bench_peer *peer, const peer_product *p) {
    const int64_t most = peer->cblas.wide ? INT64_MAX : INT32_MAX;
    return !p->prepacked && p->batch > 1 && can(peer, PEER_CBLAS_STRIDED, p) && p->batch <= most &&
           peer_a_size(p) <= most && peer_b_size(p) <= most && peer_c_size(p) <= most;
}
static bool can_compute(const bench_peer *peer, const peer_product *p) {
    const int type = type_of(p);
    return p->prepacked && p->batch == 1 && can(peer, PEER_CBLAS_COMPUTE, p) && type >= 0 &&
           peer->cblas.pack_size[type] && peer->cblas.pack[type];
}

/* The calls in one width of integers and one precision. */
#define DEFINE_CALLS(suffix, integer, real)                                                        \
    static void gemm_##suffix(peer_function f, const peer_product *p) {                            \
        const int ta = p->a_transposed ? TRANSPOSE : NO_TRANSPOSE;                                 \
        const int tb = p->b_transposed ? TRANSPOSE : NO_TRANSPOSE;                                 \
        const real *a = p->a, *b = p->b;                                                           \
        real *c = p->c;                                                                            \
        for (int64_t i = 0; i < p->batch; ++i) {                                                   \
            ((void (*)(int, int, int, integer, integer, integer, real, const real *, integer,      \
                       const real *, integer, real, real *, integer))f)(                           \
                ROW_MAJOR, ta, tb, (integer)p->m, (integer)p->n, (integer)p->k, 1, a,              \
                (integer)peer_a_stride(p), b, (integer)peer_b_stride(p), 0, c, (integer)p->n);     \
            a += peer_a_size(p), b += peer_b_size(p), c += peer_c_size(p);                         \
        }                                                                                          \
    }                                                                                              \
    static void gemv_##suffix(peer_function f, const peer_product *p) {                            \
        void (*gemv)(int, int, integer, integer, real, const real *, integer, const real *,        \
                     integer, real, real *, integer);                                              \
        gemv = (void (*)(int, int, integer, integer, real, const real *, integer, const real *,    \
                         integer, real, real *, integer))f;                                        \
        const integer lda = (integer)peer_a_stride(p), ldb = (integer)peer_b_stride(p);            \
        const real *a = p->a, *b = p->b;                                                           \
        real *c = p->c;                                                                            \
        for (int64_t i = 0; i < p->batch; ++i) {                                                   \
            if (p->n == 1) /* the matrix is A, as stored */                                        \
                gemv(ROW_MAJOR, p->a_transposed ? TRANSPOSE : NO_TRANSPOSE,                        \
                     (integer)(p->a_transposed ? p->k : p->m), lda, 1, a, lda, b, 1, 0, c, 1);     \
            else /* c' = B' a' */                                                                  \
                gemv(ROW_MAJOR, p->b_transposed ? NO_TRANSPOSE : TRANSPOSE,                        \
                     (integer)(p->b_transposed ? p->n : p->k), ldb, 1, b, ldb, a, 1, 0, c, 1);     \
            a += peer_a_size(p), b += peer_b_size(p), c += peer_c_size(p);                         \
        }                                                                                          \
    }                                                                                              \
    static void strided_##suffix(peer_function f, const peer_product *p) {                         \
        ((void (*)(int, int, int, integer, integer, integer, real, const real *, integer, integer, \
                   const real *, integer, integer, real, real *, integer, integer, integer))f)(    \
            ROW_MAJOR, p->a_transposed ? TRANSPOSE : NO_TRANSPOSE,                                 \
            p->b_transposed ? TRANSPOSE : NO_TRANSPOSE, (integer)p->m, (integer)p->n,              \
            (integer)p->k, 1, p->a, (integer)peer_a_stride(p), (integer)peer_a_size(p), p->b,      \
            (integer)peer_b_stride(p), (integer)peer_b_size(p), 0, p->c, (integer)p->n,            \
            (integer)peer_c_size(p), (integer)p->batch);                                           \
    }                                                                                              \
    static void *pack_##suffix(peer_function size, peer_function f, const peer_product *p) {       \
        const integer m = (integer)p->m, n = (integer)p->n, k = (integer)p->k;                     \
        const size_t bytes = ((size_t(*)(int, integer, integer, integer))size)(B_MATRIX, m, n, k); \
        void *packed = NULL;                                                                       \
        if (posix_memalign(&packed, 64, bytes) != 0)                                               \
            return NULL;                                                                           \
        ((void (*)(int, int, int, integer, integer, integer, real, const real *, integer,          \
                   real *))f)(ROW_MAJOR, B_MATRIX, p->b_transposed ? TRANSPOSE : NO_TRANSPOSE, m,  \
                              n, k, 1, p->b, (integer)peer_b_stride(p), packed);                   \
        return packed;                                                                             \
    }                                                                                              \
    static void compute_##suffix(peer_function f, const peer_product *p, const void *packed) {     \
        ((void (*)(int, int, int, integer, integer, integer, const real *, integer, const real *,  \
                   integer, real, real *, integer))f)(                                             \
            ROW_MAJOR, p->a_transposed ? TRANSPOSE : NO_TRANSPOSE, PACKED, (integer)p->m,          \
            (integer)p->n, (integer)p->k, p->a, (integer)peer_a_stride(p), packed,                 \
            (integer)peer_b_stride(p), 0, p->c, (integer)p->n);                                    \
    }

DEFINE_CALLS(s32, int, float)
DEFINE_CALLS(d32, int, double)
DEFINE_CALLS(s64, int64_t, float)
DEFINE_CALLS(d64, int64_t, double)

/* By width of integers and type. */
static const struct {
    void (*run[PEER_CBLAS_COMPUTE])(peer_function, const peer_product *);
    void *(*pack)(peer_function size, peer_function, const peer_product *);
    void (*compute)(peer_function, const peer_product *, const void *packed);
} calls[2][2] = {{{{gemm_s32, gemv_s32, strided_s32}, pack_s32, compute_s32},
                  {{gemm_d32, gemv_d32, strided_d32}, pack_d32, compute_d32}},
                 {{{gemm_s64, gemv_s64, strided_s64}, pack_s64, compute_s64},
                  {{gemm_d64, gemv_d64, strided_d64}, pack_d64, compute_d64}}};

static void run(const bench_peer *peer, int way, const peer_product *p) {
    const int type = type_of(p);
    calls[peer->cblas.wide][type].run[way](peer->cblas.run[type][way], p);
}
static void run_gemm(const bench_peer *peer, const peer_product *p, void *prepared) {
    (void)prepared;
    run(peer, PEER_CBLAS_GEMM, p);
}
static void run_gemv(const bench_peer *peer, const peer_product *p, void *prepared) {
    (void)prepared;
    run(peer, PEER_CBLAS_GEMV, p);
}
static void run_strided(const bench_peer *peer, const peer_product *p, void *prepared) {
    (void)prepared;
    run(peer, PEER_CBLAS_STRIDED, p);
}

static void *pack(const bench_peer *peer, const peer_product *p) {
    const int type = type_of(p);
    return calls[peer->cblas.wide][type].pack(peer->cblas.pack_size[type], peer->cblas.pack[type],
                                              p);
}
static void run_compute(const bench_peer *peer, const peer_product *p, void *packed) {
    const int type = type_of(p);
    calls[peer->cblas.wide][type].compute(peer->cblas.run[type][PEER_CBLAS_COMPUTE], p, packed);
}
static void release(const bench_peer *peer, void *packed) {
    (void)peer;
    free(packed);
}

static const peer_way ways[PEER_CBLAS_WAYS] = {
    {"gemm", can_gemm, NULL, run_gemm, NULL},
    {"gemv", can_gemv, NULL, run_gemv, NULL},
    {"gemm_batch_strided", can_strided, NULL, run_strided, NULL},
    {"gemm_compute", can_compute, pack, run_compute, release},
};

bool peer_cblas_find(bench_peer *peer) {
    bool found = false;
    for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes; ++p)
        for (size_t s = 0; s < sizeof suffixes / sizeof *suffixes && !found; ++s)
            found = find_decorated(peer, p, s);
    for (int way = 0; found && way < PEER_CBLAS_WAYS; ++way)
        if (peer->cblas.run[0][way] || peer->cblas.run[1][way])
            peer_add_way(peer, &ways[way]);
    return found;
}
