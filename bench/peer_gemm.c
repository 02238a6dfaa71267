/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_gemm.c: opens a library for `tenon bench gemm --vs`: which interfaces it has, and how its
 * threads are set (see peer_gemm.h).
 */
#include "peer_gemm.h"

#include <stdio.h>

static peer_find *const interfaces[] = {peer_cblas_find, peer_dlp_find, peer_onednn_find,
                                        peer_xsmm_find, peer_clblast_find};

/* Setters of the thread count; `wide` ones take 64 bits (BLIS's dim_t, AOCL-DLP's md_t), the others
 * int. Whoever has none of its own and runs on OpenMP takes OpenMP's, which its library depends on.
 */
static const struct {
    const char *name;
    bool wide;
} setters[] = {
    {"openblas_set_num_threads", false},
    {"scipy_openblas_set_num_threads", false},
    {"openblas_set_num_threads64_", false},
    {"openblas_set_num_threads_64", false},
    {"scipy_openblas_set_num_threads64_", false},
    {"MKL_Set_Num_Threads", false},
    {"bli_thread_set_num_threads", true},
    {"dlp_thread_set_num_threads", true},
    {"nvpl_blas_set_num_threads", false},
    {"armpl_set_num_threads", false},
    {"omp_set_num_threads", false},
};

static void find_setter(bench_peer *peer) {
    for (size_t i = 0; i < sizeof setters / sizeof *setters && !peer->set_threads; ++i) {
        peer->set_threads = peer_library_find(&peer->library, setters[i].name);
        peer->set_threads_wide = setters[i].wide;
    }
}

void peer_add_way(bench_peer *peer, const peer_way *way) {
    peer->ways[peer->way_count++] = way;
}

bool peer_open(options_value item, bench_peer *peer) {
    *peer = (bench_peer){0};
    if (!peer_library_open(item, &peer->library))
        return false;
    bool found = false;
    for (size_t i = 0; i < sizeof interfaces / sizeof *interfaces; ++i)
        found |= interfaces[i](peer);
    if (!found) {
        complain("--vs: %s: has neither cblas_sgemm nor cblas_dgemm (also not as scipy_..., "
                 "...64_ or ..._64), nor the functions of AOCL-DLP, oneDNN, libxsmm or CLBlast",
                 peer->library.file);
        return false;
    }
    find_setter(peer);
    if (!peer->set_threads && !peer->xsmm_dispatch && !peer->clblast.gemm)
        complain("--vs: %s has no thread setter known here: it runs on as many threads as it likes",
                 peer->library.name);
    return true;
}

void peer_set_threads(const bench_peer *peer, int threads) {
    if (peer->set_threads && peer->set_threads_wide)
        ((void (*)(int64_t))peer->set_threads)(threads);
    else if (peer->set_threads)
        ((void (*)(int))peer->set_threads)(threads);
}

int64_t peer_a_size(const peer_product *p) {
    return p->m * p->k;
}
int64_t peer_b_size(const peer_product *p) {
    return p->k * p->n;
}
int64_t peer_c_size(const peer_product *p) {
    return p->m * p->n;
}
int64_t peer_a_stride(const peer_product *p) {
    return p->a_transposed ? p->m : p->k;
}
int64_t peer_b_stride(const peer_product *p) {
    return p->b_transposed ? p->k : p->n;
}
