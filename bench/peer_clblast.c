/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_clblast.c: CLBlast as a peer (see peer_gemm.h): f32 and f64 products on an OpenCL device, the
 * first of the first platform, or that of PEER_OPENCL_DEVICE=PLATFORM:DEVICE. Operands are its
 * buffers before the time begins; the result is read back, as tenon's is.
 *
 * OpenCL's and CLBlast's functions are called by their C prototypes, of which no header is needed.
 */
#include "peer_gemm.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };        /* clblast_c.h */
enum { READ_WRITE = 1, COPY_HOST_PTR = 32, MOST_DEVICES = 16 }; /* cl.h */

typedef struct operands {
    void *context, *queue, *a, *b, *c;
} operands;

static peer_function cl_function(const bench_peer *peer, const char *name) {
    void *const symbol = dlsym(peer->clblast.opencl, name);
    peer_function function;
    memcpy(&function, &symbol, sizeof function);
    return function;
}

static void *find_device(const bench_peer *peer) {
    void *platforms[MOST_DEVICES] = {NULL}, *devices[MOST_DEVICES] = {NULL};
    unsigned count = 0, platform = 0, device = 0;
    const char *chosen = getenv("PEER_OPENCL_DEVICE");
    if (chosen && sscanf(chosen, "%u:%u", &platform, &device) != 2)
        return NULL;
    ((int (*)(unsigned, void **, unsigned *))cl_function(peer, "clGetPlatformIDs"))(
        MOST_DEVICES, platforms, &count);
    if (platform >= count || platform >= MOST_DEVICES)
        return NULL;
    count = 0;
    ((int (*)(void *, int64_t, unsigned, void **, unsigned *))cl_function(peer, "clGetDeviceIDs"))(
        platforms[platform], 0xffffffff, MOST_DEVICES, devices, &count);
    return device < count && device < MOST_DEVICES ? devices[device] : NULL;
}

static void release(const bench_peer *peer, void *prepared) {
    operands *o = prepared;
    void *const objects[] = {o->a, o->b, o->c};
    for (int i = 0; i < 3; ++i)
        if (objects[i])
            ((int (*)(void *))cl_function(peer, "clReleaseMemObject"))(objects[i]);
    if (o->queue)
        ((int (*)(void *))cl_function(peer, "clReleaseCommandQueue"))(o->queue);
    if (o->context)
        ((int (*)(void *))cl_function(peer, "clReleaseContext"))(o->context);
    free(o);
}

static void *buffer(const bench_peer *peer, void *context, const void *host, int64_t elements,
                    int64_t size) {
    int code = 0;
    return ((void *(*)(void *, uint64_t, size_t, void *, int *))cl_function(
        peer, "clCreateBuffer"))(context, READ_WRITE | COPY_HOST_PTR, (size_t)(elements * size),
                                 (void *)(uintptr_t)host, &code);
}

static bool can(const bench_peer *peer, const peer_product *p) {
    (void)peer;
    return !p->prepacked && (p->a_type == TENON_F32 || p->a_type == TENON_F64) &&
           p->b_type == p->a_type && p->c_type == p->a_type;
}

static void *prepare(const bench_peer *peer, const peer_product *p) {
    const int64_t size = p->a_type == TENON_F64 ? 8 : 4;
    operands *o = calloc(1, sizeof *o);
    void *device = find_device(peer);
    int code = 0;
    if (o && device)
        o->context =
            ((void *(*)(const void *, unsigned, void **, void *, void *, int *))cl_function(
                peer, "clCreateContext"))(NULL, 1, &device, NULL, NULL, &code);
    if (o && o->context) {
        o->queue = ((void *(*)(void *, void *, uint64_t, int *))cl_function(
            peer, "clCreateCommandQueue"))(o->context, device, 0, &code);
        o->a = buffer(peer, o->context, p->a, p->batch * peer_a_size(p), size);
        o->b = buffer(peer, o->context, p->b, p->batch * peer_b_size(p), size);
        o->c = buffer(peer, o->context, p->c, p->batch * peer_c_size(p), size);
    }
    if (o && (!o->queue || !o->a || !o->b || !o->c)) {
        release(peer, o);
        return NULL;
    }
    return o;
}

#define STRIDED(type)                                                                              \
    int (*)(int, int, int, size_t, size_t, size_t, type, void *, size_t, size_t, size_t, void *,   \
            size_t, size_t, size_t, type, void *, size_t, size_t, size_t, size_t, void **,         \
            void **)

static void run(const bench_peer *peer, const peer_product *p, void *prepared) {
    operands *o = prepared;
    const int a_way = p->a_transposed ? TRANSPOSED : PLAIN,
              b_way = p->b_transposed ? TRANSPOSED : PLAIN;
    const size_t m = (size_t)p->m, n = (size_t)p->n, k = (size_t)p->k;
    const size_t lda = (size_t)peer_a_stride(p), ldb = (size_t)peer_b_stride(p);
    const size_t sa = (size_t)peer_a_size(p), sb = (size_t)peer_b_size(p),
                 sc = (size_t)peer_c_size(p), batch = (size_t)p->batch;
    /* One product by its plain function: that of batches has other, slower kernels. */
    if (p->a_type == TENON_F32 && batch == 1)
        ((int (*)(int, int, int, size_t, size_t, size_t, float, void *, size_t, size_t, void *,
                  size_t, size_t, float, void *, size_t, size_t, void **,
                  void **))peer->clblast.gemm)(ROW_MAJOR, a_way, b_way, m, n, k, 1, o->a, 0, lda,
                                               o->b, 0, ldb, 0, o->c, 0, n, &o->queue, NULL);
    else if (p->a_type == TENON_F32)
        ((STRIDED(float))peer->clblast.strided[0])(ROW_MAJOR, a_way, b_way, m, n, k, 1, o->a, 0,
                                                   lda, sa, o->b, 0, ldb, sb, 0, o->c, 0, n, sc,
                                                   batch, &o->queue, NULL);
    else
        ((STRIDED(double))peer->clblast.strided[1])(ROW_MAJOR, a_way, b_way, m, n, k, 1, o->a, 0,
                                                    lda, sa, o->b, 0, ldb, sb, 0, o->c, 0, n, sc,
                                                    batch, &o->queue, NULL);
    ((int (*)(void *, void *, int, size_t, size_t, void *, unsigned, void *, void *))cl_function(
        peer, "clEnqueueReadBuffer"))(
        o->queue, o->c, 1, 0, batch * sc * (p->a_type == TENON_F32 ? 4 : 8), p->c, 0, NULL, NULL);
}

static const peer_way way = {"clblast", can, prepare, run, release};

bool peer_clblast_find(bench_peer *peer) {
    peer->clblast.gemm = peer_library_find(&peer->library, "CLBlastSgemm");
    peer->clblast.strided[0] = peer_library_find(&peer->library, "CLBlastSgemmStridedBatched");
    peer->clblast.strided[1] = peer_library_find(&peer->library, "CLBlastDgemmStridedBatched");
    if (!peer->clblast.gemm || !peer->clblast.strided[0] || !peer->clblast.strided[1])
        return false;
    peer->clblast.opencl = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!peer->clblast.opencl)
        return false;
    peer_add_way(peer, &way);
    return true;
}
