/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_cblas.c: finds a CBLAS library's functions under the names that builds give them (see
 * peer_cblas.h): reference and vendor builds export cblas_sgemm, OpenBLAS with 64-bit integers
 * cblas_sgemm64_, Accelerate-style builds cblas_sgemm_64, the wheels of SciPy's OpenBLAS
 * scipy_cblas_sgemm (and ...64_).
 */
#include "peer_cblas.h"

#include "options.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

typedef void (*function)(void);

/* dlsym's object pointer as a function pointer, the way POSIX sanctions: through the bytes. */
static function look_up(void *library, const char *prefix, const char *name, const char *suffix) {
    char symbol[96];
    snprintf(symbol, sizeof symbol, "%s%s%s", prefix, name, suffix);
    void *address = dlsym(library, symbol);
    function result;
    memcpy(&result, &address, sizeof result);
    return result;
}

static void find_setter(peer_cblas *peer) {
    for (size_t i = 0; i < sizeof setters / sizeof *setters; ++i)
        for (size_t p = 0; p < PREFIXES; ++p)
            for (size_t s = 0; s < SUFFIXES && !peer->set_threads; ++s) {
                peer->set_threads =
                    look_up(peer->library, prefixes[p], setters[i].name, suffixes[s].text);
                peer->set_threads_wide = setters[i].wide;
            }
}

bool peer_open(const char *argument, peer_cblas *peer) {
    *peer = (peer_cblas){0};
    /* An = inside a path belongs to the path. */
    const char *equals = argument[strcspn(argument, "=/")] == '=' ? strchr(argument, '=') : NULL;
    const char *file = equals ? equals + 1 : argument;
    const char *slash = strrchr(file, '/');
    if (equals)
        snprintf(peer->name, sizeof peer->name, "%.*s", (int)(equals - argument), argument);
    else
        snprintf(peer->name, sizeof peer->name, "%s", slash ? slash + 1 : file);

    peer->library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!peer->library) {
        complain("--vs: %s", dlerror());
        return false;
    }
    for (size_t p = 0; p < PREFIXES; ++p)
        for (size_t s = 0; s < SUFFIXES; ++s) {
            if (peer->sgemm || peer->dgemm)
                break;
            peer->sgemm = look_up(peer->library, prefixes[p], "cblas_sgemm", suffixes[s].text);
            peer->dgemm = look_up(peer->library, prefixes[p], "cblas_dgemm", suffixes[s].text);
            peer->wide = suffixes[s].wide;
        }
    if (!peer->sgemm && !peer->dgemm) {
        complain("--vs: %s: exports neither cblas_sgemm nor cblas_dgemm, also not as scipy_..., "
                 "...64_ or ..._64",
                 file);
        dlclose(peer->library);
        return false;
    }
    find_setter(peer);
    if (!peer->set_threads)
        complain("--vs: %s has no thread setter known here: it runs on as many threads as it likes",
                 peer->name);
    return true;
}

void peer_set_threads(const peer_cblas *peer, int threads) {
    if (peer->set_threads && peer->set_threads_wide)
        ((void (*)(int64_t))peer->set_threads)(threads);
    else if (peer->set_threads)
        ((void (*)(int))peer->set_threads)(threads);
}

bool peer_has_gemm(const peer_cblas *peer, int element_bytes) {
    return element_bytes == 4 ? peer->sgemm != NULL : element_bytes == 8 && peer->dgemm != NULL;
}

bool peer_fits(const peer_cblas *peer, const peer_gemm *p) {
    return peer->wide || (p->m <= INT32_MAX && p->n <= INT32_MAX && p->k <= INT32_MAX);
}

typedef void (*sgemm32)(int, int, int, int, int, int, float, const float *, int, const float *, int,
                        float, float *, int);
typedef void (*dgemm32)(int, int, int, int, int, int, double, const double *, int, const double *,
                        int, double, double *, int);
typedef void (*sgemm64)(int, int, int, int64_t, int64_t, int64_t, float, const float *, int64_t,
                        const float *, int64_t, float, float *, int64_t);
typedef void (*dgemm64)(int, int, int, int64_t, int64_t, int64_t, double, const double *, int64_t,
                        const double *, int64_t, double, double *, int64_t);

void peer_run_gemm(const peer_cblas *peer, const peer_gemm *p) {
    const int ta = p->a_transposed ? TRANSPOSE : NO_TRANSPOSE;
    const int tb = p->b_transposed ? TRANSPOSE : NO_TRANSPOSE;
    const int64_t lda = p->a_transposed ? p->m : p->k, ldb = p->b_transposed ? p->k : p->n,
                  ldc = p->n;
    if (peer->wide && p->element_bytes == 4)
        ((sgemm64)peer->sgemm)(ROW_MAJOR, ta, tb, p->m, p->n, p->k, 1, p->a, lda, p->b, ldb, 0,
                               p->c, ldc);
    else if (peer->wide)
        ((dgemm64)peer->dgemm)(ROW_MAJOR, ta, tb, p->m, p->n, p->k, 1, p->a, lda, p->b, ldb, 0,
                               p->c, ldc);
    else if (p->element_bytes == 4)
        ((sgemm32)peer->sgemm)(ROW_MAJOR, ta, tb, (int)p->m, (int)p->n, (int)p->k, 1, p->a,
                               (int)lda, p->b, (int)ldb, 0, p->c, (int)ldc);
    else
        ((dgemm32)peer->dgemm)(ROW_MAJOR, ta, tb, (int)p->m, (int)p->n, (int)p->k, 1, p->a,
                               (int)lda, p->b, (int)ldb, 0, p->c, (int)ldc);
}
