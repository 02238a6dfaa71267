/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_programs.c: see cl_programs.h.
 */
#include "opencl/cl_programs.h"

#include <stdio.h>
#include <string.h>

#include "opencl/cl_cache.h"
#include "opencl/cl_sources.h"
#include "opencl/cl_space.h"

enum { MOST_SOURCES = 8 };

typedef struct program_row {
    const char *name;
    const char *source[MOST_SOURCES];
} program_row;

static const program_row rows[] = {
#define TN_CL_PROGRAM(name, ...) {name, {__VA_ARGS__}},
#include "opencl/cl_programs.def"
#undef TN_CL_PROGRAM
};

static const program_row *find_row(const char *name) {
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; ++r)
        if (strcmp(rows[r].name, name) == 0)
            return &rows[r];
    return NULL;
}

static const char *text_of(const char *source) {
    for (const tn_cl_source *s = tn_cl_sources; s->name; ++s)
        if (strcmp(s->name, source) == 0)
            return s->text;
    return NULL;
}

/* ---------------------------------------------------------------- building */

/* The driver's options and those of the device, the same for every program of it. */
static bool all_options(const tn_cl_limits *limits, const char *own, char *text, size_t capacity) {
    const int n = snprintf(text, capacity, "-cl-std=CL1.2 -DTN_FAMILY_%s=1 -DTN_FP64=%d%s%s%s",
                           limits->family == TN_CL_CPU_LIKE ? "CPU" : "GPU", limits->fp64 ? 1 : 0,
                           limits->exact_divide ? " -cl-fp32-correctly-rounded-divide-sqrt" : "",
                           own[0] ? " " : "", own);
    return n > 0 && (size_t)n < capacity;
}

/* What the compiler said, as far as a sentence has room. */
static tenon_status fail_build(const tn_cl_space *s, cl_program id, const char *program,
                               cl_int code, tn_message *why) {
    char log[2048] = "";
    size_t bytes = 0;
    if (s->cl->clGetProgramBuildInfo(id, s->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes) !=
            CL_SUCCESS ||
        bytes > sizeof log ||
        s->cl->clGetProgramBuildInfo(id, s->id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL) !=
            CL_SUCCESS)
        log[0] = 0;
    log[sizeof log - 1] = 0;
    tn_text_clean(log);
    return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s: program %s can't be built here (%s): %.300s",
                   s->base.device, program, tn_cl_error_name(code), log);
}

static tenon_status compile(tn_cl_space *s, cl_program id, const char *program, const char *options,
                            tn_message *why) {
    const cl_int code = s->cl->clBuildProgram(id, 1, &s->id, options, NULL, NULL);
    if (code == CL_BUILD_PROGRAM_FAILURE || code == CL_INVALID_BUILD_OPTIONS ||
        code == CL_COMPILER_NOT_AVAILABLE)
        return fail_build(s, id, program, code, why);
    return tn_cl_status(s, code, "clBuildProgram", false, why);
}

static tenon_status build_source(tn_cl_space *s, const program_row *row, const char *options,
                                 cl_program *out, tn_message *why) {
    const char *text[MOST_SOURCES];
    cl_uint count = 0;
    cl_int code = CL_SUCCESS;
    for (; count < MOST_SOURCES && row->source[count]; ++count)
        text[count] = text_of(row->source[count]);
    cl_program id = s->cl->clCreateProgramWithSource(s->context, count, text, NULL, &code);
    if (!id)
        return tn_cl_status(s, code ? code : CL_OUT_OF_HOST_MEMORY, "clCreateProgramWithSource",
                            false, why);
    const tenon_status status = compile(s, id, row->name, options, why);
    if (status != TENON_OK)
        (void)s->cl->clReleaseProgram(id);
    else
        *out = id;
    return status;
}

/* What else the file's binary depends on but the key has said: nothing. A driver that refuses it
 * all the same gets the source. */
static bool build_binary(tn_cl_space *s, const char *options, const unsigned char *binary,
                         size_t bytes, cl_program *out) {
    cl_int code = CL_SUCCESS, loaded = CL_SUCCESS;
    cl_program id =
        s->cl->clCreateProgramWithBinary(s->context, 1, &s->id, &bytes, &binary, &loaded, &code);
    if (!id)
        return false;
    if (loaded == CL_SUCCESS && compile(s, id, "", options, NULL) == TENON_OK) {
        *out = id;
        return true;
    }
    (void)s->cl->clReleaseProgram(id);
    return false;
}

enum { ALL_OPTIONS = TN_CL_OPTIONS + 192 };

/* False: the options are too long, which those of no program are. */
static bool key_of(const tn_cl_space *s, const program_row *row, const char *options,
                   tn_cl_cache_key *key) {
    char all[ALL_OPTIONS];
    if (!all_options(&s->limits, options, all, sizeof all))
        return false;
    tn_cl_cache_key_begin(key, s->cl, s->id, row->name, options);
    tn_cl_cache_key_add(key, all);
    for (int i = 0; i < MOST_SOURCES && row->source[i]; ++i)
        tn_cl_cache_key_add(key, text_of(row->source[i]));
    return true;
}

/* Where the driver has a program's binary for this device: one of several in a context that the
 * caller lent. 0 bytes: it has none. */
typedef struct binary_place {
    size_t count, index, bytes;
} binary_place;

static tenon_status find_binary(tn_cl_space *s, cl_program id, binary_place *out, tn_message *why) {
    cl_device_id device[TN_CL_DEVICES];
    size_t size[TN_CL_DEVICES], told = 0;
    *out = (binary_place){0};
    TN_TRY(tn_cl_status(
        s, s->cl->clGetProgramInfo(id, CL_PROGRAM_DEVICES, sizeof device, (void *)device, &told),
        "clGetProgramInfo", false, why));
    TN_TRY(tn_cl_status(
        s, s->cl->clGetProgramInfo(id, CL_PROGRAM_BINARY_SIZES, sizeof size, size, NULL),
        "clGetProgramInfo", false, why));
    out->count = told / sizeof *device;
    for (size_t i = 0; i < out->count; ++i)
        if (device[i] == s->id) {
            out->index = i;
            out->bytes = size[i];
        }
    return TENON_OK;
}

static tenon_status get_binary(tn_cl_space *s, cl_program id, const binary_place *place,
                               unsigned char *to, tn_message *why) {
    unsigned char *binary[TN_CL_DEVICES] = {NULL}; /* NULL: not wanted */
    binary[place->index] = to;
    return tn_cl_status(s,
                        s->cl->clGetProgramInfo(id, CL_PROGRAM_BINARIES,
                                                place->count * sizeof *binary, (void *)binary,
                                                NULL),
                        "clGetProgramInfo", false, why);
}

/* Harmless if it fails. */
static void save(tn_cl_space *s, const char *cache, const tn_cl_cache_key *key, cl_program id) {
    binary_place place;
    if (find_binary(s, id, &place, NULL) != TENON_OK || place.bytes == 0)
        return;
    unsigned char *binary = tn_host_alloc(NULL, place.bytes, TN_CACHE_LINE);
    if (!binary)
        return;
    if (get_binary(s, id, &place, binary, NULL) == TENON_OK)
        tn_cl_cache_write(cache, key, binary, place.bytes);
    tn_host_free(NULL, binary, place.bytes);
}

static tenon_status make(tn_cl_space *s, const program_row *row, const char *options,
                         const char *cache, tn_cl_build *out, tn_message *why) {
    char all[ALL_OPTIONS];
    if (!all_options(&s->limits, options, all, sizeof all))
        return tn_fail(why, TENON_ERROR_INTERNAL, "options of %s are too long", row->name);
    if (!cache)
        return build_source(s, row, all, &out->id, why);
    tn_cl_cache_key key;
    tn_cl_cached kept;
    bool loaded = false;
    if (key_of(s, row, options, &key) && tn_cl_cache_read(cache, &key, &kept)) {
        loaded = build_binary(s, all, kept.binary, kept.bytes, &out->id);
        tn_cl_cache_end(&kept);
    }
    if (loaded) {
        ++s->programs.loaded;
        return TENON_OK;
    }
    return build_source(s, row, all, &out->id, why);
}

/* ---------------------------------------------------------------- kernels */

static uint64_t hash_text(uint64_t hash, const char *text) {
    for (; *text; ++text)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u; /* FNV-1a */
    return (hash ^ 0xff) * 0x100000001b3u;
}

static uint64_t hash_of(const char *program, const char *options) {
    return hash_text(hash_text(0xcbf29ce484222325u, program), options);
}

static tn_cl_build *find_build(const tn_cl_programs *programs, const char *program,
                               const char *options, uint64_t hash) {
    for (tn_cl_build *b = programs->first; b; b = b->next)
        if (b->hash == hash && strcmp(b->program, program) == 0 && strcmp(b->options, options) == 0)
            return b;
    return NULL;
}

static tenon_status make_kernel(tn_cl_space *s, tn_cl_build *build, const char *name,
                                tn_cl_kernel **out, tn_message *why) {
    cl_int code = CL_SUCCESS;
    tn_cl_kernel *kernel = tn_host_alloc_zero(NULL, sizeof *kernel, TN_CACHE_LINE);
    if (!kernel)
        return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "no memory for kernel %s", name);
    kernel->name = name;
    kernel->build = build;
    kernel->id = s->cl->clCreateKernel(build->id, name, &code);
    if (!kernel->id) {
        tn_host_free(NULL, kernel, sizeof *kernel);
        return tn_cl_status(s, code ? code : CL_OUT_OF_HOST_MEMORY, "clCreateKernel", false, why);
    }
    if (s->cl->clGetKernelWorkGroupInfo(kernel->id, s->id, CL_KERNEL_WORK_GROUP_SIZE,
                                        sizeof kernel->group_items, &kernel->group_items,
                                        NULL) != CL_SUCCESS)
        kernel->group_items = s->limits.group_items;
    *out = kernel;
    return TENON_OK;
}

/* A new one, at the front of the list, not built yet. */
static tenon_status add_build(tn_cl_programs *programs, const program_row *row, const char *options,
                              uint64_t hash, tn_cl_build **out, tn_message *why) {
    tn_cl_build *build = tn_host_alloc_zero(NULL, sizeof *build, TN_CACHE_LINE);
    if (!build)
        return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "no memory for program %s", row->name);
    build->program = row->name;
    build->hash = hash;
    (void)snprintf(build->options, sizeof build->options, "%s", options);
    build->next = programs->first;
    programs->first = *out = build;
    return TENON_OK;
}

/* The build that a launch wants. Pre: the lock is held. */
static tenon_status get_build(tn_cl_space *s, const tn_cl_launch *launch, const char *cache,
                              tn_cl_build **out, tn_message *why) {
    enum { PATIENCE_MOST = 64 };
    const char *options = launch->options ? launch->options : "";
    const uint64_t hash = hash_of(launch->program, options);
    const program_row *row = find_row(launch->program);
    tn_cl_build *build = find_build(&s->programs, launch->program, options, hash);
    *out = build;
    if (build && build->id)
        return TENON_OK;
    if (!row || strlen(options) >= TN_CL_OPTIONS)
        return tn_fail(why, TENON_ERROR_INTERNAL, "there is no program %s with options %.100s",
                       launch->program, options);
    if (!build)
        TN_TRY(add_build(&s->programs, row, options, hash, &build, why));
    if (build->waited < build->patience) {
        ++build->waited;
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "%s: program %s can't be built here, as was found earlier", s->base.device,
                       row->name);
    }
    const uint64_t loaded = s->programs.loaded;
    const tenon_status status = make(s, row, options, cache, build, why);
    if (status == TENON_ERROR_UNSUPPORTED) {
        build->waited = 0;
        build->patience = build->patience == 0              ? 1
                          : build->patience < PATIENCE_MOST ? 2 * build->patience
                                                            : PATIENCE_MOST;
    }
    if (status != TENON_OK)
        return status;
    if (loaded == s->programs.loaded) {
        ++s->programs.built;
        ++s->programs.unsaved;
        build->unsaved = true;
    }
    *out = build;
    return TENON_OK;
}

void tn_cl_programs_save(tn_cl_space *s, const char *cache) {
    tn_mutex_lock(&s->programs.lock);
    for (tn_cl_build *b = s->programs.first; b && s->programs.unsaved > 0; b = b->next) {
        tn_cl_cache_key key;
        if (!b->unsaved)
            continue;
        b->unsaved = false;
        --s->programs.unsaved;
        if (key_of(s, find_row(b->program), b->options, &key))
            save(s, cache, &key, b->id);
    }
    tn_mutex_unlock(&s->programs.lock);
}

/* ---------------------------------------------------------------- the caller's memory */

/* Pre: the lock is held, as below. */
static tenon_status write_all(tn_cl_space *s, unsigned char *memory, size_t capacity, size_t *bytes,
                              tn_message *why) {
    *bytes = 0;
    for (tn_cl_build *b = s->programs.first; b; b = b->next) {
        binary_place place;
        tn_cl_cache_key key;
        if (!b->id || !key_of(s, find_row(b->program), b->options, &key))
            continue;
        TN_TRY(find_binary(s, b->id, &place, why));
        if (place.bytes == 0)
            continue;
        const size_t kept = tn_cl_kept_bytes(place.bytes), at = *bytes;
        *bytes += kept; /* of memory that the driver has, so no overflow */
        if (!memory || *bytes > capacity)
            continue;
        TN_TRY(get_binary(s, b->id, &place, memory + at + tn_cl_kept_head(), why));
        tn_cl_kept_seal(memory + at, &key, place.bytes);
    }
    return TENON_OK;
}

tenon_status tn_cl_programs_write(tn_cl_space *s, void *memory, size_t capacity, size_t *bytes,
                                  tn_message *why) {
    tn_mutex_lock(&s->programs.lock);
    const tenon_status status = write_all(s, memory, capacity, bytes, why);
    tn_mutex_unlock(&s->programs.lock);
    return status;
}

/* A kept program for this device that is not there yet. */
static tenon_status load(tn_cl_space *s, const tn_cl_kept *kept, int *loaded, tn_message *why) {
    char all[ALL_OPTIONS];
    tn_cl_cache_key key;
    tn_cl_cached cached;
    const program_row *row = find_row(kept->key.program);
    const char *options = kept->key.options;
    if (!row || !key_of(s, row, options, &key) || memcmp(&key, &kept->key, sizeof key) != 0)
        return TENON_OK;
    const uint64_t hash = hash_of(row->name, options);
    tn_cl_build *build = find_build(&s->programs, row->name, options, hash);
    if ((build && build->id) || !tn_cl_kept_take(kept, &cached))
        return TENON_OK;
    tenon_status status = TENON_OK;
    if (!build)
        status = add_build(&s->programs, row, options, hash, &build, why);
    if (status == TENON_OK && all_options(&s->limits, options, all, sizeof all) &&
        build_binary(s, all, cached.binary, cached.bytes, &build->id)) {
        ++s->programs.loaded;
        ++*loaded;
    }
    tn_cl_cache_end(&cached);
    return status;
}

tenon_status tn_cl_programs_read(tn_cl_space *s, const void *memory, size_t bytes, int *loaded,
                                 tn_message *why) {
    tn_cl_kept kept;
    size_t at = 0;
    tenon_status status = TENON_OK;
    tn_mutex_lock(&s->programs.lock);
    while (status == TENON_OK && tn_cl_kept_next(memory, bytes, &at, &kept))
        status = load(s, &kept, loaded, why);
    tn_mutex_unlock(&s->programs.lock);
    return status;
}

/* ---------------------------------------------------------------- taking and giving */

tenon_status tn_cl_kernel_take(tn_cl_space *s, const tn_cl_launch *launch, const char *cache,
                               tn_cl_kernel **out, tn_message *why) {
    tn_cl_build *build = NULL;
    *out = NULL;
    tn_mutex_lock(&s->programs.lock);
    tenon_status status = get_build(s, launch, cache, &build, why);
    if (status == TENON_OK) {
        for (tn_cl_kernel **at = &build->idle; *at; at = &(*at)->next)
            if (strcmp((*at)->name, launch->kernel) == 0) {
                *out = *at;
                *at = (*at)->next;
                break;
            }
        if (!*out)
            status = make_kernel(s, build, launch->kernel, out, why);
    }
    tn_mutex_unlock(&s->programs.lock);
    return status;
}

void tn_cl_kernel_give(tn_cl_space *s, tn_cl_kernel *kernel) {
    tn_mutex_lock(&s->programs.lock);
    kernel->next = kernel->build->idle;
    kernel->build->idle = kernel;
    tn_mutex_unlock(&s->programs.lock);
}

void tn_cl_programs_close(tn_cl_programs *programs, const tn_cl_space *s) {
    while (programs->first) {
        tn_cl_build *build = programs->first;
        programs->first = build->next;
        while (build->idle) {
            tn_cl_kernel *kernel = build->idle;
            build->idle = kernel->next;
            (void)s->cl->clReleaseKernel(kernel->id);
            tn_host_free(NULL, kernel, sizeof *kernel);
        }
        if (build->id)
            (void)s->cl->clReleaseProgram(build->id);
        tn_host_free(NULL, build, sizeof *build);
    }
}
