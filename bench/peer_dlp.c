/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_dlp.c: AOCL-DLP, AMD's kernels for deep learning, as a peer (see peer_gemm.h), by the C
 * interface of its documentation (classic/aocl_gemm_interface_apis.h): aocl_gemm_… with B as it
 * lies or reordered before.
 */
#include "peer_gemm.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name;
    tenon_dtype a, b, c;
    const char *reordered; /* reordering is named by what is summed, not by what is stored */
} types[PEER_DLP_TYPES] = {
    {"f32f32f32of32", TENON_F32, TENON_F32, TENON_F32, "f32f32f32of32"},
    {"bf16bf16f32obf16", TENON_BF16, TENON_BF16, TENON_BF16, "bf16bf16f32of32"},
    {"s8s8s32os32", TENON_S8, TENON_S8, TENON_S32, "s8s8s32os32"},
    {"u8s8s32os32", TENON_U8, TENON_S8, TENON_S32, "u8s8s32os32"},
};

/* Index into the table; -1: no such function. */
static int type_of(const bench_peer *peer, const peer_product *p) {
    for (int i = 0; i < PEER_DLP_TYPES; ++i)
        if (types[i].a == p->a_type && types[i].b == p->b_type && types[i].c == p->c_type &&
            peer->dlp.types[i].gemm)
            return i;
    return -1;
}

/* Integer products take alpha and beta as integers. */
#define DEFINE_GEMM(name, scalar)                                                                  \
    static void name(peer_function f, const peer_product *p, const void *b, char form) {           \
        ((void (*)(char, char, char, int64_t, int64_t, int64_t, scalar, const void *, int64_t,     \
                   char, const void *, int64_t, char, scalar, void *, int64_t, void *))f)(         \
            'r', p->a_transposed ? 't' : 'n', p->b_transposed ? 't' : 'n', p->m, p->n, p->k, 1,    \
            p->a, peer_a_stride(p), 'n', b, peer_b_stride(p), form, 0, p->c, p->n, NULL);          \
    }
DEFINE_GEMM(gemm_real, float)
DEFINE_GEMM(gemm_integer, int32_t)

static void gemm(const bench_peer *peer, const peer_product *p, const void *b, char form) {
    const int type = type_of(peer, p);
    (p->c_type == TENON_S32 ? gemm_integer : gemm_real)(peer->dlp.types[type].gemm, p, b, form);
}

/* Bytes that reordered B takes; 0: the library refuses. */
static size_t reordered_bytes(const bench_peer *peer, int type, const peer_product *p) {
    return (
        (size_t(*)(char, char, char, int64_t, int64_t, void *))peer->dlp.types[type].reorder_size)(
        'r', p->b_transposed ? 't' : 'n', 'B', p->k, p->n, NULL);
}

/* A product that the processor lacks instructions for does nothing and says so to nobody but the
 * terminal, at every call; reordering answers. */
static bool can_gemm(const bench_peer *peer, const peer_product *p) {
    const int type = type_of(peer, p);
    return !p->prepacked && p->batch == 1 && type >= 0 &&
           (!peer->dlp.types[type].reorder_size || reordered_bytes(peer, type, p) > 0);
}
static void run_gemm(const bench_peer *peer, const peer_product *p, void *prepared) {
    (void)prepared;
    gemm(peer, p, p->b, 'n');
}

static bool can_reordered(const bench_peer *peer, const peer_product *p) {
    const int type = type_of(peer, p);
    return p->prepacked && p->batch == 1 && type >= 0 && peer->dlp.types[type].reorder_size &&
           peer->dlp.types[type].reorder;
}
static void *reorder(const bench_peer *peer, const peer_product *p) {
    const int type = type_of(peer, p);
    const char transposed = p->b_transposed ? 't' : 'n';
    const size_t bytes = reordered_bytes(peer, type, p);
    void *reordered = NULL;
    if (bytes == 0 || posix_memalign(&reordered, 64, bytes) != 0)
        return NULL;
    ((void (*)(char, char, char, const void *, void *, int64_t, int64_t, int64_t, void *))peer->dlp
         .types[type]
         .reorder)('r', transposed, 'B', p->b, reordered, p->k, p->n, peer_b_stride(p), NULL);
    return reordered;
}
static void run_reordered(const bench_peer *peer, const peer_product *p, void *reordered) {
    gemm(peer, p, reordered, 'r');
}
static void release(const bench_peer *peer, void *reordered) {
    (void)peer;
    free(reordered);
}

static const peer_way plain = {"aocl_gemm", can_gemm, NULL, run_gemm, NULL};
static const peer_way reordered = {"aocl_gemm, reordered", can_reordered, reorder, run_reordered,
                                   release};

static peer_function look_up(const bench_peer *peer, const char *what, const char *type) {
    char symbol[96];
    snprintf(symbol, sizeof symbol, "aocl_%s_%s", what, type);
    return peer_library_find(&peer->library, symbol);
}

bool peer_dlp_find(bench_peer *peer) {
    bool found = false;
    for (int i = 0; i < PEER_DLP_TYPES; ++i) {
        peer->dlp.types[i].gemm = look_up(peer, "gemm", types[i].name);
        peer->dlp.types[i].reorder_size = look_up(peer, "get_reorder_buf_size", types[i].reordered);
        peer->dlp.types[i].reorder = look_up(peer, "reorder", types[i].reordered);
        found |= peer->dlp.types[i].gemm != NULL;
    }
    if (found) {
        peer_add_way(peer, &plain);
        peer_add_way(peer, &reordered);
    }
    return found;
}
