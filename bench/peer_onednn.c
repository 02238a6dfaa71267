/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_onednn.c: oneDNN (3.x) as a peer (see peer_gemm.h): its matmul primitive, made once for a
 * product as its users do, with B as it lies or in the layout that the primitive asks for.
 *
 * The functions are those of its C interface (dnnl.h), the numbers those of dnnl_types.h, which are
 * part of its binary interface.
 */
#include "peer_gemm.h"

#include <stdlib.h>
#include <string.h>

enum { CPU = 1, IN_ORDER = 1, ANY_LAYOUT = 1, QUERY_WEIGHTS = 131 };
enum { SOURCE = 1, TARGET = 17, WEIGHTS = 33 }; /* arguments of a primitive */
enum { MOST_DIMENSIONS = 12 };
/* As the address of a memory's data: the library allocates it. */
#define OWN_DATA ((void *)(intptr_t)-1)

typedef void *handle; /* every object is an opaque pointer */
typedef struct argument {
    int what;
    handle memory;
} argument;

/* X(name, result, parameters): all return 0 for success, unless they return an object or void. */
#define FUNCTIONS(X)                                                                               \
    X(engine_create, int, (handle *, int kind, size_t index))                                      \
    X(stream_create, int, (handle *, handle engine, unsigned flags))                               \
    X(stream_wait, int, (handle))                                                                  \
    X(memory_desc_create_with_strides, int,                                                        \
      (handle *, int count, const int64_t *extents, int type, const int64_t *strides))             \
    X(memory_desc_create_with_tag, int,                                                            \
      (handle *, int count, const int64_t *extents, int type, int layout))                         \
    X(memory_desc_destroy, int, (handle))                                                          \
    X(matmul_primitive_desc_create, int,                                                           \
      (handle *, handle engine, handle a, handle b, handle bias, handle c, handle attributes))     \
    X(reorder_primitive_desc_create, int,                                                          \
      (handle *, handle from, handle from_engine, handle to, handle to_engine, handle attributes)) \
    X(primitive_desc_query_md, handle, (handle, int what, int index))                              \
    X(primitive_desc_destroy, int, (handle))                                                       \
    X(primitive_create, int, (handle *, handle description))                                       \
    X(primitive_execute, int, (handle, handle stream, int count, const argument *))                \
    X(primitive_destroy, int, (handle))                                                            \
    X(memory_create, int, (handle *, handle description, handle engine, void *data))               \
    X(memory_destroy, int, (handle))

#define INDEX(name, result, parameters) I_##name,
enum { FUNCTIONS(INDEX) FUNCTION_COUNT };
_Static_assert(FUNCTION_COUNT <= PEER_ONEDNN_FUNCTIONS, "the peer holds them all");
#define NAME(name, result, parameters) "dnnl_" #name,
static const char *const names[] = {FUNCTIONS(NAME)};
#define TYPE(name, result, parameters) typedef result name##_type parameters;
FUNCTIONS(TYPE)
#define DNNL(peer, name) ((name##_type *)(peer)->onednn.functions[I_##name])

/* Its number of a type; 0: none of those that products here have. */
static int number_of(tenon_dtype type) {
    switch (type) {
    case TENON_F16:
        return 1;
    case TENON_BF16:
        return 2;
    case TENON_F32:
        return 3;
    case TENON_S32:
        return 4;
    case TENON_S8:
        return 5;
    case TENON_U8:
        return 6;
    default:
        return 0;
    }
}

/* What a call needs, made once. */
typedef struct call {
    handle primitive;
    argument arguments[3]; /* A, B, C */
} call;

/* A description of a matrix or a batch of them, as stored. */
static handle describe(const bench_peer *peer, const peer_product *p, tenon_dtype type,
                       int64_t rows, int64_t columns, bool transposed) {
    const int64_t extents[MOST_DIMENSIONS] = {p->batch, rows, columns};
    const int64_t strides[MOST_DIMENSIONS] = {rows * columns, transposed ? 1 : columns,
                                              transposed ? rows : 1};
    const int skipped = p->batch == 1; /* a batch of one is a matrix */
    handle made = NULL;
    DNNL(peer, memory_desc_create_with_strides)
    (&made, 3 - skipped, extents + skipped, number_of(type), strides + skipped);
    return made;
}

static void destroy(const bench_peer *peer, void *prepared) {
    call *c = prepared;
    for (int i = 0; i < 3; ++i)
        if (c->arguments[i].memory)
            DNNL(peer, memory_destroy)(c->arguments[i].memory);
    if (c->primitive)
        DNNL(peer, primitive_destroy)(c->primitive);
    free(c);
}

/* B in the layout that the primitive asks for, in memory of the library's; NULL: refused. */
static handle reorder(const bench_peer *peer, const peer_product *p, handle lying, handle wanted) {
    handle from = NULL, to = NULL, description = NULL, primitive = NULL;
    const handle engine = peer->onednn.engine, stream = peer->onednn.stream;
    bool ok = DNNL(peer, memory_create)(&from, lying, engine, (void *)(uintptr_t)p->b) == 0 &&
              DNNL(peer, memory_create)(&to, wanted, engine, OWN_DATA) == 0 &&
              DNNL(peer, reorder_primitive_desc_create)(&description, lying, engine, wanted, engine,
                                                        NULL) == 0 &&
              DNNL(peer, primitive_create)(&primitive, description) == 0;
    if (ok) {
        const argument arguments[2] = {{SOURCE, from}, {TARGET, to}};
        ok = DNNL(peer, primitive_execute)(primitive, stream, 2, arguments) == 0 &&
             DNNL(peer, stream_wait)(stream) == 0;
    }
    if (primitive)
        DNNL(peer, primitive_destroy)(primitive);
    if (description)
        DNNL(peer, primitive_desc_destroy)(description);
    if (from)
        DNNL(peer, memory_destroy)(from);
    if (to && !ok) {
        DNNL(peer, memory_destroy)(to);
        to = NULL;
    }
    return to;
}

static void *prepare(const bench_peer *peer, const peer_product *p) {
    const handle engine = peer->onednn.engine;
    handle a = describe(peer, p, p->a_type, p->m, p->k, p->a_transposed);
    handle b = describe(peer, p, p->b_type, p->k, p->n, p->b_transposed);
    handle c = describe(peer, p, p->c_type, p->m, p->n, false);
    handle any = NULL, description = NULL;
    call *made = calloc(1, sizeof *made);
    bool ok = made && a && b && c;
    if (ok && p->prepacked) {
        const int64_t extents[MOST_DIMENSIONS] = {p->k, p->n};
        ok = DNNL(peer, memory_desc_create_with_tag)(&any, 2, extents, number_of(p->b_type),
                                                     ANY_LAYOUT) == 0;
    }
    ok = ok &&
         DNNL(peer, matmul_primitive_desc_create)(&description, engine, a, any ? any : b, NULL, c,
                                                  NULL) == 0 &&
         DNNL(peer, primitive_create)(&made->primitive, description) == 0;
    if (ok) {
        made->arguments[0].what = SOURCE;
        made->arguments[1].what = WEIGHTS;
        made->arguments[2].what = TARGET;
        ok = DNNL(peer, memory_create)(&made->arguments[0].memory, a, engine,
                                       (void *)(uintptr_t)p->a) == 0 &&
             DNNL(peer, memory_create)(&made->arguments[2].memory, c, engine, p->c) == 0;
    }
    if (ok && any) {
        const handle wanted = DNNL(peer, primitive_desc_query_md)(description, QUERY_WEIGHTS, 0);
        made->arguments[1].memory = wanted ? reorder(peer, p, b, wanted) : NULL;
        ok = made->arguments[1].memory != NULL;
    } else if (ok) {
        ok = DNNL(peer, memory_create)(&made->arguments[1].memory, b, engine,
                                       (void *)(uintptr_t)p->b) == 0;
    }
    const handle descriptions[] = {a, b, c, any};
    for (int i = 0; i < 4; ++i)
        if (descriptions[i])
            DNNL(peer, memory_desc_destroy)(descriptions[i]);
    if (description)
        DNNL(peer, primitive_desc_destroy)(description);
    if (!ok && made) {
        destroy(peer, made);
        made = NULL;
    }
    return made;
}

static void run(const bench_peer *peer, const peer_product *p, void *prepared) {
    (void)p;
    const call *c = prepared;
    DNNL(peer, primitive_execute)(c->primitive, peer->onednn.stream, 3, c->arguments);
    DNNL(peer, stream_wait)(peer->onednn.stream);
}

static bool types_known(const peer_product *p) {
    return number_of(p->a_type) && number_of(p->b_type) && number_of(p->c_type);
}
static bool can_plain(const bench_peer *peer, const peer_product *p) {
    (void)peer;
    return !p->prepacked && types_known(p);
}
static bool can_prepacked(const bench_peer *peer, const peer_product *p) {
    (void)peer;
    return p->prepacked && p->batch == 1 && types_known(p);
}

static const peer_way plain = {"matmul", can_plain, prepare, run, destroy};
static const peer_way prepacked = {"matmul, any layout", can_prepacked, prepare, run, destroy};

bool peer_onednn_find(bench_peer *peer) {
    for (int i = 0; i < FUNCTION_COUNT; ++i) {
        peer->onednn.functions[i] = peer_library_find(&peer->library, names[i]);
        if (!peer->onednn.functions[i])
            return false;
    }
    if (DNNL(peer, engine_create)(&peer->onednn.engine, CPU, 0) != 0 ||
        DNNL(peer, stream_create)(&peer->onednn.stream, peer->onednn.engine, IN_ORDER) != 0) {
        complain("--vs: %s: oneDNN makes no CPU engine here", peer->library.name);
        return false;
    }
    peer_add_way(peer, &plain);
    peer_add_way(peer, &prepacked);
    return true;
}
