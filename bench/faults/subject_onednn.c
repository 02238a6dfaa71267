/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subject_onednn.c: oneDNN's matmul primitive through its C API, versions 2 and 3 (subject.h).
 * Engine, stream, primitive and memory objects are made once and kept, as the library's guide
 * advises; a later call is an execution only.
 */
#include "subject.h"

#include <oneapi/dnnl/dnnl.h>

#define FUNCTIONS(F)                                                                               \
    F(dnnl_engine_create)                                                                          \
    F(dnnl_stream_create)                                                                          \
    F(dnnl_stream_wait)                                                                            \
    F(dnnl_memory_create)                                                                          \
    F(dnnl_primitive_create)                                                                       \
    F(dnnl_primitive_execute)                                                                      \
    F(dnnl_version)                                                                                \
    VERSIONED(F)

#if DNNL_VERSION_MAJOR >= 3
#define VERSIONED(F) F(dnnl_memory_desc_create_with_tag) F(dnnl_matmul_primitive_desc_create)
typedef dnnl_memory_desc_t layout; /* a handle */
#else
#define VERSIONED(F)                                                                               \
    F(dnnl_memory_desc_init_by_tag) F(dnnl_matmul_desc_init) F(dnnl_primitive_desc_create)
typedef dnnl_memory_desc_t layout; /* a struct */
#endif

static struct {
#define MEMBER(name) __typeof__(&name) name;
    FUNCTIONS(MEMBER)
#undef MEMBER
} api;

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static dnnl_primitive_desc_t description;
static dnnl_primitive_t primitive;
static dnnl_memory_t a, b, c;
static layout square;
static bool have_square;

static bool said(dnnl_status_t status, const char *function, char *why) {
    return status == dnnl_success || refuse(why, "%s returned %d", function, (int)status);
}

static bool start(void *library, int threads, char *why) {
    (void)threads; /* OMP_NUM_THREADS */
#define LOOK_UP(name)                                                                              \
    if (!look_up(library, #name, &api.name, why))                                                  \
        return false;
    FUNCTIONS(LOOK_UP)
#undef LOOK_UP
    return (engine ||
            said(api.dnnl_engine_create(&engine, dnnl_cpu, 0), "dnnl_engine_create", why)) &&
           (stream || said(api.dnnl_stream_create(&stream, engine, dnnl_stream_default_flags),
                           "dnnl_stream_create", why));
}

#if DNNL_VERSION_MAJOR >= 3
static bool describe(int n, char *why) {
    const dnnl_dims_t dims = {n, n};
    have_square = have_square ||
                  said(api.dnnl_memory_desc_create_with_tag(&square, 2, dims, dnnl_f32, dnnl_ab),
                       "dnnl_memory_desc_create_with_tag", why);
    return have_square &&
           (description || said(api.dnnl_matmul_primitive_desc_create(&description, engine, square,
                                                                      square, NULL, square, NULL),
                                "dnnl_matmul_primitive_desc_create", why));
}
static dnnl_status_t create_memory(dnnl_memory_t *memory, void *data) {
    return api.dnnl_memory_create(memory, square, engine, data);
}
#else
static bool describe(int n, char *why) {
    const dnnl_dims_t dims = {n, n};
    dnnl_matmul_desc_t matmul;
    have_square =
        have_square || said(api.dnnl_memory_desc_init_by_tag(&square, 2, dims, dnnl_f32, dnnl_ab),
                            "dnnl_memory_desc_init_by_tag", why);
    return have_square &&
           (description ||
            (said(api.dnnl_matmul_desc_init(&matmul, &square, &square, NULL, &square),
                  "dnnl_matmul_desc_init", why) &&
             said(api.dnnl_primitive_desc_create(&description, &matmul, NULL, engine, NULL),
                  "dnnl_primitive_desc_create", why)));
}
static dnnl_status_t create_memory(dnnl_memory_t *memory, void *data) {
    return api.dnnl_memory_create(memory, &square, engine, data);
}
#endif

static bool compute(const task *t, char *why) {
    const bool made = describe(t->size, why) &&
                      (primitive || said(api.dnnl_primitive_create(&primitive, description),
                                         "dnnl_primitive_create", why)) &&
                      (a || said(create_memory(&a, t->a), "dnnl_memory_create", why)) &&
                      (b || said(create_memory(&b, t->b), "dnnl_memory_create", why)) &&
                      (c || said(create_memory(&c, t->out), "dnnl_memory_create", why));
    if (!made)
        return false;
    const dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}};
    return said(api.dnnl_primitive_execute(primitive, stream, 3, arguments),
                "dnnl_primitive_execute", why) &&
           said(api.dnnl_stream_wait(stream), "dnnl_stream_wait", why);
}

static void version(void *library, char *text) {
    char why[WHY_BYTES];
    if (look_up(library, "dnnl_version", &api.dnnl_version, why)) {
        const dnnl_version_t *v = api.dnnl_version();
        refuse(text, "%d.%d.%d", v->major, v->minor, v->patch);
    }
}

const subject subject_onednn = {"onednn", TASK_PRODUCT, start, compute, version};
