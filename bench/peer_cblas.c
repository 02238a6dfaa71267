/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_cblas.c: finds a CBLAS library's functions under the names that builds give them (see
 * peer_cblas.h): reference and vendor builds export cblas_sgemm, OpenBLAS with 64-bit integers
 * cblas_sgemm64_, Accelerate-style builds cblas_sgemm_64, the wheels of SciPy's OpenBLAS
 * scipy_cblas_sgemm (and ...64_).
 */
#include "peer_cblas.h"

#include <stdio.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };

static const char *const prefixes[] = {"", "scipy_"};
static const struct {
    const char *text;
    bool wide;
} suffixes[] = {{"", false}, {"64_", true}, {"_64", true}};
#define PREFIXES (sizeof prefixes / sizeof *prefixes)
#define SUFFIXES (sizeof suffixes / sizeof *suffixes)

/* Setters of the thread count; `wide` ones take BLIS's dim_t, the others int. */
static const struct {
    const char *name;
    bool wide;
} setters[] = {
    {"openblas_set_num_threads", false},  {"MKL_Set_Num_Threads", false},
    {"bli_thread_set_num_threads", true}, {"nvpl_blas_set_num_threads", false},
    {"armpl_set_num_threads", false},     {"omp_set_num_threads", false},
};

const char *peer_way_name(peer_way way) {
    static const char *const names[PEER_WAYS] = {"gemm", "gemv", "gemm_batch_strided"};
    return names[way];
}

static peer_function look_up(const peer_library *library, const char *prefix, const char *name,
                             const char *suffix) {
    char symbol[96];
    snprintf(symbol, sizeof symbol, "%s%s%s", prefix, name, suffix);
    return peer_library_find(library, symbol);
}

static void find_setter(peer_cblas *peer) {
    for (size_t i = 0; i < sizeof setters / sizeof *setters; ++i)
        for (size_t p = 0; p < PREFIXES; ++p)
            for (size_t s = 0; s < SUFFIXES && !peer->set_threads; ++s) {
                peer->set_threads =
                    look_up(&peer->library, prefixes[p], setters[i].name, suffixes[s].text);
                peer->set_threads_wide = setters[i].wide;
            }
}

/* The functions as one build decorates them; whether a product is among them. */
static bool find_functions(peer_cblas *peer, const char *prefix, const char *suffix) {
    for (int way = 0; way < PEER_WAYS; ++way) {
        char name[64];
        snprintf(name, sizeof name, "cblas_s%s", peer_way_name((peer_way)way));
        peer->single[way] = look_up(&peer->library, prefix, name, suffix);
        snprintf(name, sizeof name, "cblas_d%s", peer_way_name((peer_way)way));
        peer->twice[way] = look_up(&peer->library, prefix, name, suffix);
    }
    return peer->single[PEER_GEMM] || peer->twice[PEER_GEMM];
}

bool peer_open(options_value item, peer_cblas *peer) {
    *peer = (peer_cblas){0};
    if (!peer_library_open(item, &peer->library))
        return false;
    bool found = false;
    for (size_t p = 0; p < PREFIXES; ++p)
        for (size_t s = 0; s < SUFFIXES && !found; ++s) {
            found = find_functions(peer, prefixes[p], suffixes[s].text);
            peer->wide = suffixes[s].wide;
        }
    if (!found) {
        complain("--vs: %s: exports neither cblas_sgemm nor cblas_dgemm, also not as scipy_..., "
                 "...64_ or ..._64",
                 peer->library.file);
        return false;
    }
    find_setter(peer);
    if (!peer->set_threads)
        complain("--vs: %s has no thread setter known here: it runs on as many threads as it likes",
                 peer->library.name);
    return true;
}

void peer_set_threads(const peer_cblas *peer, int threads) {
    if (peer->set_threads && peer->set_threads_wide)
        ((void (*)(int64_t))peer->set_threads)(threads);
    else if (peer->set_threads)
        ((void (*)(int))peer->set_threads)(threads);
}

/* Elements of one member's A, B and C. */
static int64_t a_size(const peer_gemm *p) {
    return p->m * p->k;
}
static int64_t b_size(const peer_gemm *p) {
    return p->k * p->n;
}
static int64_t c_size(const peer_gemm *p) {
    return p->m * p->n;
}

bool peer_can(const peer_cblas *peer, peer_way way, const peer_gemm *p) {
    const peer_function *functions = p->element_bytes == 4 ? peer->single : peer->twice;
    if (!functions[way] || (way == PEER_GEMV && p->m != 1 && p->n != 1) ||
        (way == PEER_STRIDED && p->batch == 1))
        return false;
    const int64_t most = peer->wide ? INT64_MAX : INT32_MAX;
    if (way == PEER_STRIDED &&
        (p->batch > most || a_size(p) > most || b_size(p) > most || c_size(p) > most))
        return false;
    return p->m <= most && p->n <= most && p->k <= most;
}

/* The calls in one width of integers and one precision. */
#define DEFINE_RUN(run, integer, real)                                                             \
    static void run(peer_function function, peer_way way, const peer_gemm *p) {                    \
        const int ta = p->a_transposed ? TRANSPOSE : NO_TRANSPOSE;                                 \
        const int tb = p->b_transposed ? TRANSPOSE : NO_TRANSPOSE;                                 \
        const integer m = (integer)p->m, n = (integer)p->n, k = (integer)p->k;                     \
        const integer lda = p->a_transposed ? m : k, ldb = p->b_transposed ? k : n, ldc = n;       \
        const real *a = p->a, *b = p->b;                                                           \
        real *c = p->c;                                                                            \
        if (way == PEER_STRIDED) {                                                                 \
            ((void (*)(int, int, int, integer, integer, integer, real, const real *, integer,      \
                       integer, const real *, integer, integer, real, real *, integer, integer,    \
                       integer))function)(ROW_MAJOR, ta, tb, m, n, k, 1, a, lda,                   \
                                          (integer)a_size(p), b, ldb, (integer)b_size(p), 0, c,    \
                                          ldc, (integer)c_size(p), (integer)p->batch);             \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < p->batch; ++i, a += a_size(p), b += b_size(p), c += c_size(p)) {   \
            if (way == PEER_GEMM)                                                                  \
                ((void (*)(int, int, int, integer, integer, integer, real, const real *, integer,  \
                           const real *, integer, real, real *, integer))function)(                \
                    ROW_MAJOR, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, c, ldc);                     \
            else if (n == 1) /* the matrix is A, as stored */                                      \
                ((void (*)(int, int, integer, integer, real, const real *, integer, const real *,  \
                           integer, real, real *, integer))function)(                              \
                    ROW_MAJOR, ta, p->a_transposed ? k : m, lda, 1, a, lda, b, 1, 0, c, 1);        \
            else /* c' = B' a' */                                                                  \
                ((void (*)(int, int, integer, integer, real, const real *, integer, const real *,  \
                           integer, real, real *, integer))function)(                              \
                    ROW_MAJOR, p->b_transposed ? NO_TRANSPOSE : TRANSPOSE,                         \
                    p->b_transposed ? n : k, ldb, 1, b, ldb, a, 1, 0, c, 1);                       \
        }                                                                                          \
    }

DEFINE_RUN(run_s32, int, float)
DEFINE_RUN(run_d32, int, double)
DEFINE_RUN(run_s64, int64_t, float)
DEFINE_RUN(run_d64, int64_t, double)

void peer_run(const peer_cblas *peer, peer_way way, const peer_gemm *p) {
    if (p->element_bytes == 4)
        (peer->wide ? run_s64 : run_s32)(peer->single[way], way, p);
    else
        (peer->wide ? run_d64 : run_d32)(peer->twice[way], way, p);
}
