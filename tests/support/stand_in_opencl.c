/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libOpenCL.so for tests. Every function fails when the test says so; otherwise, with
 * STAND_IN_OPENCL=forward in the environment, it does what the machine's libOpenCL.so.1 does, and
 * without it keeps objects and buffers by itself and computes nothing: kernels leave memory alone.
 * With "unfilled" it forwards all but fills, so that a device which looks for reads of what nobody
 * wrote finds them in new segments too (oclgrind 21.10 takes filled memory for unwritten for ever).
 * It counts objects, so that a test sees what was not released.
 */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stand_in_opencl.h"

#define EXPORT __attribute__((visibility("default")))

/* ---- what the test says ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t counted, nth, struck, queued;
static int sticky;
static stand_in_fault how;
static const char *only_function, *last_function = "";
static int64_t objects;
static stand_in_limits pretended;

static void say_fail(uint64_t n, int and_after, stand_in_fault fault) {
    pthread_mutex_lock(&lock);
    nth = n;
    sticky = and_after;
    how = fault;
    counted = struck = 0;
    pthread_mutex_unlock(&lock);
}

static void say_only(const char *function) {
    only_function = function;
}

static uint64_t tell_calls(void) {
    return counted;
}

static uint64_t tell_struck(void) {
    return struck;
}

static const char *tell_last(void) {
    return last_function;
}

static int64_t tell_live(void) {
    return objects;
}

static void say_limits(const stand_in_limits *limits) {
    pretended = *limits;
}

static uint64_t tell_launches(void) {
    return queued;
}

static const char *refused_word;

static void say_refuse(const char *word) {
    refused_word = word;
}

static uint64_t tell_overlaps(void);

static void (*before_release)(void *user);
static void *before_release_user;

static void say_at_release(void (*then)(void *user), void *user) {
    before_release = then;
    before_release_user = user;
}

static const stand_in_calls table = {say_fail,   say_only,      tell_calls,    tell_struck,
                                     tell_last,  tell_live,     say_limits,    tell_launches,
                                     say_refuse, tell_overlaps, say_at_release};

EXPORT const stand_in_calls *stand_in(void);
const stand_in_calls *stand_in(void) {
    return &table;
}

/* The code with which this call fails; CL_SUCCESS: it does not. */
static cl_int fault(const char *function, cl_int shortage) {
    cl_int code = CL_SUCCESS;
    pthread_mutex_lock(&lock);
    if (!only_function || strcmp(only_function, function) == 0) {
        ++counted;
        if (nth != 0 && (counted == nth || (sticky && counted > nth))) {
            ++struck;
            last_function = function;
            code = how == STAND_IN_SHORT  ? shortage
                   : how == STAND_IN_LOST ? CL_DEVICE_NOT_AVAILABLE
                                          : -31415;
        }
    }
    pthread_mutex_unlock(&lock);
    return code;
}

static void count_objects(int by) {
    pthread_mutex_lock(&lock);
    objects += by;
    pthread_mutex_unlock(&lock);
}

/* ---- the real one ---- */

static bool has_mode(const char *wanted) {
    const char *mode = getenv("STAND_IN_OPENCL");
    return mode && strcmp(mode, wanted) == 0;
}

static bool forwards(void) {
    return has_mode("forward") || has_mode("unfilled");
}

static void *real(const char *name) {
    static void *library;
    pthread_mutex_lock(&lock);
    if (!library)
        library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, name) : NULL;
    pthread_mutex_unlock(&lock);
    if (!symbol)
        abort(); /* a test that forwards must have it */
    return symbol;
}

#define REAL(name) ((__typeof__(name) *)real(#name))

/* ---- own objects ---- */

struct _cl_platform_id {
    int nothing;
};
struct _cl_device_id {
    int nothing;
};
typedef struct object {
    uint64_t mark;
    int holders;
    int kind;
    unsigned char *memory; /* of a buffer */
    bool owned;
    size_t bytes;
    void *context;
    void(CL_CALLBACK *ended)(cl_mem, void *);
    void *user;
} object;

static struct _cl_platform_id own_platform;
static struct _cl_device_id own_device;

static void *make(void *context, size_t bytes, void *host) {
    object *o = calloc(1, sizeof *o);
    *o = (object){.mark = 0x6f626a656374, .holders = 1, .bytes = bytes, .context = context};
    if (bytes) {
        o->owned = host == NULL;
        o->memory = host ? host : malloc(bytes);
        if (o->owned)
            memset(o->memory, 0xA5, bytes);
    }
    return o;
}

static object *check(void *made) {
    object *o = made;
    if (!o || o->mark != 0x6f626a656374)
        abort(); /* a stray or released handle: what a driver would crash on */
    return o;
}

static cl_int drop(void *made) {
    object *o = check(made);
    if (--o->holders == 0) {
        o->mark = 0;
        if (o->ended)
            o->ended(made, o->user);
        if (o->owned)
            free(o->memory);
        free(o);
    }
    return CL_SUCCESS;
}

static cl_int hold(void *made) {
    ++check(made)->holders;
    return CL_SUCCESS;
}

static cl_int tell(const void *value, size_t bytes, size_t capacity, void *out, size_t *size) {
    if (size)
        *size = bytes;
    if (!out)
        return CL_SUCCESS;
    if (capacity < bytes)
        return CL_INVALID_VALUE;
    memcpy(out, value, bytes);
    return CL_SUCCESS;
}

#define FAIL(shortage)                                                                             \
    do {                                                                                           \
        const cl_int failed_ = fault(__func__, shortage);                                          \
        if (failed_ != CL_SUCCESS)                                                                 \
            return failed_;                                                                        \
    } while (0)

#define FAIL_MAKING(shortage)                                                                      \
    do {                                                                                           \
        const cl_int failed_ = fault(__func__, shortage);                                          \
        if (code)                                                                                  \
            *code = failed_;                                                                       \
        if (failed_ != CL_SUCCESS)                                                                 \
            return NULL;                                                                           \
    } while (0)

/* A release takes, so what was made is counted down even where the call is made to fail: it never
 * is, as a program can do nothing about it. */
#define RELEASE(name, argument)                                                                    \
    do {                                                                                           \
        count_objects(-1);                                                                         \
        return forwards() ? REAL(name)(argument) : drop(argument);                                 \
    } while (0)

#define RETAIN(name, argument)                                                                     \
    do {                                                                                           \
        FAIL(CL_OUT_OF_HOST_MEMORY);                                                               \
        const cl_int code_ = forwards() ? REAL(name)(argument) : hold(argument);                   \
        count_objects(code_ == CL_SUCCESS);                                                        \
        return code_;                                                                              \
    } while (0)

#define MADE(name, own, ...)                                                                       \
    do {                                                                                           \
        void *made_ = forwards() ? (void *)REAL(name)(__VA_ARGS__) : (void *)(own);                \
        count_objects(made_ != NULL);                                                              \
        return made_;                                                                              \
    } while (0)

/* ---- platforms and devices ---- */

EXPORT cl_int clGetPlatformIDs(cl_uint capacity, cl_platform_id *out, cl_uint *count) {
    FAIL(CL_OUT_OF_HOST_MEMORY);
    if (forwards())
        return REAL(clGetPlatformIDs)(capacity, out, count);
    if (out && capacity)
        out[0] = &own_platform;
    if (count)
        *count = 1;
    return CL_SUCCESS;
}

EXPORT cl_int clGetPlatformInfo(cl_platform_id platform, cl_platform_info what, size_t capacity,
                                void *out, size_t *size) {
    FAIL(CL_OUT_OF_HOST_MEMORY);
    if (forwards())
        return REAL(clGetPlatformInfo)(platform, what, capacity, out, size);
    return tell("stand-in", 9, capacity, out, size);
}

EXPORT cl_int clGetDeviceIDs(cl_platform_id platform, cl_device_type type, cl_uint capacity,
                             cl_device_id *out, cl_uint *count) {
    cl_device_id one[16] = {&own_device};
    cl_uint ones = 1;
    FAIL(CL_OUT_OF_HOST_MEMORY);
    if (forwards()) {
        const cl_int code = REAL(clGetDeviceIDs)(platform, type, 16, one, &ones);
        if (code != CL_SUCCESS)
            return code;
    }
    if (pretended.devices > 0) {
        for (int i = 1; i < pretended.devices && i < 16; ++i)
            one[i] = one[0];
        ones = (cl_uint)pretended.devices;
    }
    for (cl_uint i = 0; out && i < ones && i < capacity; ++i)
        out[i] = one[i];
    if (count)
        *count = ones;
    return CL_SUCCESS;
}

/* What the stand-in's own device is; false: it has no answer, which is 0. */
static cl_int own_device_info(cl_device_info what, size_t capacity, void *out, size_t *size) {
    const size_t extents[3] = {1024, 1024, 1024};
    switch (what) {
    case CL_DEVICE_NAME:
    case CL_DEVICE_VENDOR:
    case CL_DRIVER_VERSION:
        return tell("stand-in", 9, capacity, out, size);
    case CL_DEVICE_VERSION:
        return tell("OpenCL 1.2 stand-in", 20, capacity, out, size);
    case CL_DEVICE_OPENCL_C_VERSION:
        return tell("OpenCL C 1.2 stand-in", 22, capacity, out, size);
    case CL_DEVICE_PROFILE:
        return tell("FULL_PROFILE", 13, capacity, out, size);
    case CL_DEVICE_EXTENSIONS:
        return tell("", 1, capacity, out, size);
    case CL_DEVICE_PLATFORM: {
        cl_platform_id platform = &own_platform;
        return tell(&platform, sizeof platform, capacity, out, size);
    }
    case CL_DEVICE_MAX_WORK_ITEM_SIZES:
        return tell(extents, sizeof extents, capacity, out, size);
    default: {
        uint64_t value = 0;
        switch (what) {
        case CL_DEVICE_TYPE:
            value = CL_DEVICE_TYPE_CPU;
            break;
        case CL_DEVICE_AVAILABLE:
        case CL_DEVICE_COMPILER_AVAILABLE:
        case CL_DEVICE_ENDIAN_LITTLE:
        case CL_DEVICE_HOST_UNIFIED_MEMORY:
            value = 1;
            break;
        case CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT:
            value = 8;
            break;
        case CL_DEVICE_DOUBLE_FP_CONFIG:
            value = CL_FP_FMA;
            break;
        case CL_DEVICE_MAX_COMPUTE_UNITS:
            value = 2;
            break;
        case CL_DEVICE_MAX_WORK_GROUP_SIZE:
            value = 1024;
            break;
        case CL_DEVICE_LOCAL_MEM_SIZE:
            value = 32 << 10;
            break;
        case CL_DEVICE_MAX_PARAMETER_SIZE:
            value = 1024;
            break;
        case CL_DEVICE_MAX_MEM_ALLOC_SIZE:
            value = (uint64_t)256 << 20;
            break;
        case CL_DEVICE_GLOBAL_MEM_SIZE:
            value = (uint64_t)1 << 30;
            break;
        }
        return tell(&value, sizeof value, capacity, out, size);
    }
    }
}

EXPORT cl_int clGetDeviceInfo(cl_device_id device, cl_device_info what, size_t capacity, void *out,
                              size_t *size) {
    const struct {
        cl_device_info what;
        uint64_t value;
        size_t bytes;
    } lies[] = {
        {CL_DEVICE_MAX_MEM_ALLOC_SIZE, pretended.alloc_bytes, 8},
        {CL_DEVICE_GLOBAL_MEM_SIZE, pretended.memory_bytes, 8},
        {CL_DEVICE_MAX_WORK_GROUP_SIZE, pretended.group_items, sizeof(size_t)},
        {CL_DEVICE_LOCAL_MEM_SIZE, pretended.local_bytes, 8},
        {CL_DEVICE_MAX_PARAMETER_SIZE, pretended.argument_bytes, sizeof(size_t)},
    };
    FAIL(CL_OUT_OF_HOST_MEMORY);
    if (what == CL_DEVICE_HOST_UNIFIED_MEMORY && pretended.discrete) {
        const cl_bool no = CL_FALSE;
        return tell(&no, sizeof no, capacity, out, size);
    }
    if (what == CL_DRIVER_VERSION && pretended.updated)
        return tell("updated", 8, capacity, out, size);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; ++i)
        if (lies[i].what == what && lies[i].value)
            return tell(&lies[i].value, lies[i].bytes, capacity, out, size);
    return forwards() ? REAL(clGetDeviceInfo)(device, what, capacity, out, size)
                      : own_device_info(what, capacity, out, size);
}

/* ---- contexts and queues ---- */

EXPORT cl_context clCreateContext(const cl_context_properties *properties, cl_uint devices,
                                  const cl_device_id *device,
                                  void(CL_CALLBACK *notify)(const char *, const void *, size_t,
                                                            void *),
                                  void *user, cl_int *code) {
    FAIL_MAKING(CL_OUT_OF_HOST_MEMORY);
    MADE(clCreateContext, make(NULL, 0, NULL), properties, devices, device, notify, user, code);
}

EXPORT cl_int clRetainContext(cl_context context) {
    RETAIN(clRetainContext, context);
}

EXPORT cl_int clReleaseContext(cl_context context) {
    RELEASE(clReleaseContext, context);
}

EXPORT cl_int clGetContextInfo(cl_context context, cl_context_info what, size_t capacity, void *out,
                               size_t *size) {
    cl_device_id device = &own_device;
    FAIL(CL_OUT_OF_HOST_MEMORY);
    if (forwards())
        return REAL(clGetContextInfo)(context, what, capacity, out, size);
    return tell(&device, sizeof device, capacity, out, size);
}

EXPORT cl_command_queue clCreateCommandQueue(cl_context context, cl_device_id device,
                                             cl_command_queue_properties properties, cl_int *code) {
    FAIL_MAKING(CL_OUT_OF_HOST_MEMORY);
    MADE(clCreateCommandQueue, make(context, 0, NULL), context, device, properties, code);
}

EXPORT cl_int clRetainCommandQueue(cl_command_queue queue) {
    RETAIN(clRetainCommandQueue, queue);
}

EXPORT cl_int clReleaseCommandQueue(cl_command_queue queue) {
    RELEASE(clReleaseCommandQueue, queue);
}

EXPORT cl_int clGetCommandQueueInfo(cl_command_queue queue, cl_command_queue_info what,
                                    size_t capacity, void *out, size_t *size) {
    cl_device_id device = &own_device;
    const cl_command_queue_properties none = 0;
    FAIL(CL_OUT_OF_HOST_MEMORY);
    if (forwards())
        return REAL(clGetCommandQueueInfo)(queue, what, capacity, out, size);
    return what == CL_QUEUE_CONTEXT
               ? tell(&check(queue)->context, sizeof(void *), capacity, out, size)
           : what == CL_QUEUE_DEVICE ? tell(&device, sizeof device, capacity, out, size)
                                     : tell(&none, sizeof none, capacity, out, size);
}

/* ---- buffers ---- */

/* Host memory that objects were made over, as long as they live. */
enum { MAX_OVER = 256 };
static struct over {
    cl_mem object;
    char *first;
    size_t bytes;
    int holders;
} over[MAX_OVER];
static uint64_t overlapped;

static uint64_t tell_overlaps(void) {
    return overlapped;
}

static void note_over(cl_mem made, void *host, size_t bytes) {
    struct over *room = NULL;
    char *const first = host;
    if (!made || !host)
        return;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_OVER; ++i) {
        if (!over[i].object)
            room = &over[i];
        else if (first < over[i].first + over[i].bytes && over[i].first < first + bytes)
            ++overlapped;
    }
    if (room)
        *room = (struct over){made, first, bytes, 1};
    pthread_mutex_unlock(&lock);
}

static void note_holder(cl_mem held, int by) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_OVER; ++i)
        if (over[i].object == held && (over[i].holders += by) == 0)
            over[i].object = NULL;
    pthread_mutex_unlock(&lock);
}

/* Buffers that are made without memory behind them, until they are used. */
enum { LATE = 64 };
static cl_mem late[LATE];

static bool is_late(cl_mem memory) {
    for (int i = 0; i < LATE; ++i)
        if (memory && late[i] == memory)
            return true;
    return false;
}

EXPORT cl_mem clCreateBuffer(cl_context context, cl_mem_flags flags, size_t bytes, void *host,
                             cl_int *code) {
    FAIL_MAKING(CL_MEM_OBJECT_ALLOCATION_FAILURE);
    if (pretended.alloc_bytes && bytes > pretended.alloc_bytes) {
        if (code)
            *code = CL_INVALID_BUFFER_SIZE;
        return NULL;
    }
    cl_mem made = forwards() ? REAL(clCreateBuffer)(context, flags, bytes, host, code)
                             : make(context, bytes, host);
    count_objects(made != NULL);
    if (flags & CL_MEM_USE_HOST_PTR)
        note_over(made, host, bytes);
    for (int i = 0; made && pretended.late_bytes && bytes >= pretended.late_bytes && i < LATE; ++i)
        if (!late[i]) {
            late[i] = made;
            break;
        }
    return made;
}

EXPORT cl_int clRetainMemObject(cl_mem memory) {
    note_holder(memory, 1);
    RETAIN(clRetainMemObject, memory);
}

EXPORT cl_int clReleaseMemObject(cl_mem memory) {
    void (*const then)(void *) = before_release;
    before_release = NULL;
    if (then)
        then(before_release_user);
    for (int i = 0; i < LATE; ++i)
        if (late[i] == memory)
            late[i] = NULL;
    note_holder(memory, -1);
    RELEASE(clReleaseMemObject, memory);
}

/* Never fails: what it is for is to be told in the worst case. */
EXPORT cl_int clSetMemObjectDestructorCallback(cl_mem memory,
                                               void(CL_CALLBACK *ended)(cl_mem, void *),
                                               void *user) {
    if (forwards())
        return REAL(clSetMemObjectDestructorCallback)(memory, ended, user);
    check(memory)->ended = ended;
    check(memory)->user = user;
    return CL_SUCCESS;
}

EXPORT cl_int clGetMemObjectInfo(cl_mem memory, cl_mem_info what, size_t capacity, void *out,
                                 size_t *size) {
    const cl_mem_object_type type = CL_MEM_OBJECT_BUFFER;
    FAIL(CL_OUT_OF_HOST_MEMORY);
    if (forwards())
        return REAL(clGetMemObjectInfo)(memory, what, capacity, out, size);
    return what == CL_MEM_TYPE ? tell(&type, sizeof type, capacity, out, size)
           : what == CL_MEM_CONTEXT
               ? tell(&check(memory)->context, sizeof(void *), capacity, out, size)
               : tell(&check(memory)->bytes, sizeof(size_t), capacity, out, size);
}

/* ---- work ---- */

#define USES(memory)                                                                               \
    do {                                                                                           \
        if (is_late(memory))                                                                       \
            return CL_MEM_OBJECT_ALLOCATION_FAILURE;                                               \
    } while (0)

static unsigned char *part(cl_mem memory, size_t offset, size_t bytes) {
    object *o = check(memory);
    if (offset > o->bytes || bytes > o->bytes - offset)
        abort();
    return o->memory + offset;
}

EXPORT cl_int clEnqueueReadBuffer(cl_command_queue queue, cl_mem memory, cl_bool blocking,
                                  size_t offset, size_t bytes, void *host, cl_uint waits,
                                  const cl_event *wait, cl_event *event) {
    FAIL(CL_MEM_OBJECT_ALLOCATION_FAILURE);
    USES(memory);
    if (forwards())
        return REAL(clEnqueueReadBuffer)(queue, memory, blocking, offset, bytes, host, waits, wait,
                                         event);
    memcpy(host, part(memory, offset, bytes), bytes);
    return CL_SUCCESS;
}

EXPORT cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem memory, cl_bool blocking,
                                   size_t offset, size_t bytes, const void *host, cl_uint waits,
                                   const cl_event *wait, cl_event *event) {
    FAIL(CL_MEM_OBJECT_ALLOCATION_FAILURE);
    USES(memory);
    if (forwards())
        return REAL(clEnqueueWriteBuffer)(queue, memory, blocking, offset, bytes, host, waits, wait,
                                          event);
    memcpy(part(memory, offset, bytes), host, bytes);
    return CL_SUCCESS;
}

EXPORT cl_int clEnqueueFillBuffer(cl_command_queue queue, cl_mem memory, const void *pattern,
                                  size_t length, size_t offset, size_t bytes, cl_uint waits,
                                  const cl_event *wait, cl_event *event) {
    FAIL(CL_MEM_OBJECT_ALLOCATION_FAILURE);
    USES(memory);
    if (has_mode("unfilled"))
        return CL_SUCCESS;
    if (forwards())
        return REAL(clEnqueueFillBuffer)(queue, memory, pattern, length, offset, bytes, waits, wait,
                                         event);
    memset(part(memory, offset, bytes), *(const unsigned char *)pattern, bytes);
    return CL_SUCCESS;
}

/* A line for each launch in the file that STAND_IN_OPENCL_RECORD names: the kernel, the items of its
 * group, its bytes of local memory. */
static void record_launch(cl_kernel kernel, cl_uint dims, const size_t *local) {
    const char *path = getenv("STAND_IN_OPENCL_RECORD");
    FILE *file = path && forwards() ? fopen(path, "a") : NULL;
    char name[128] = "";
    cl_ulong bytes = 0;
    size_t items = 1;
    cl_context context = NULL;
    cl_device_id device = NULL;
    if (!file)
        return;
    REAL(clGetKernelInfo)(kernel, CL_KERNEL_FUNCTION_NAME, sizeof name, name, NULL);
    REAL(clGetKernelInfo)(kernel, CL_KERNEL_CONTEXT, sizeof context, (void *)&context, NULL);
    REAL(clGetContextInfo)(context, CL_CONTEXT_DEVICES, sizeof device, (void *)&device, NULL);
    REAL(clGetKernelWorkGroupInfo)
    (kernel, device, CL_KERNEL_LOCAL_MEM_SIZE, sizeof bytes, &bytes, NULL);
    for (cl_uint d = 0; local && d < dims; ++d)
        items *= local[d];
    fprintf(file, "%s %zu %llu\n", name, items, (unsigned long long)bytes);
    fclose(file);
}

EXPORT cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dims,
                                     const size_t *start, const size_t *global, const size_t *local,
                                     cl_uint waits, const cl_event *wait, cl_event *event) {
    FAIL(CL_MEM_OBJECT_ALLOCATION_FAILURE);
    for (cl_uint d = 0; d < dims; ++d)
        if (global[d] == 0 || (local && (local[d] == 0 || global[d] % local[d] != 0)))
            abort(); /* what some drivers do */
    record_launch(kernel, dims, local);
    const cl_int code = forwards() ? REAL(clEnqueueNDRangeKernel)(queue, kernel, dims, start,
                                                                  global, local, waits, wait, event)
                                   : CL_SUCCESS;
    pthread_mutex_lock(&lock);
    queued += code == CL_SUCCESS;
    pthread_mutex_unlock(&lock);
    return code;
}

EXPORT cl_int clFlush(cl_command_queue queue) {
    FAIL(CL_OUT_OF_HOST_MEMORY);
    return forwards() ? REAL(clFlush)(queue) : CL_SUCCESS;
}

/* A device that is gone has ended what it did; one that is short of memory goes on with it. */
EXPORT cl_int clFinish(cl_command_queue queue) {
    const cl_int code = fault(__func__, CL_OUT_OF_HOST_MEMORY);
    if (forwards() && (code == CL_SUCCESS || code == CL_DEVICE_NOT_AVAILABLE)) {
        const cl_int done = REAL(clFinish)(queue);
        return code == CL_SUCCESS ? done : code;
    }
    return code;
}

/* ---- programs and kernels ---- */

EXPORT cl_program clCreateProgramWithSource(cl_context context, cl_uint count, const char **text,
                                            const size_t *length, cl_int *code) {
    FAIL_MAKING(CL_OUT_OF_HOST_MEMORY);
    MADE(clCreateProgramWithSource, make(context, 0, NULL), context, count, text, length, code);
}

EXPORT cl_program clCreateProgramWithBinary(cl_context context, cl_uint devices,
                                            const cl_device_id *device, const size_t *bytes,
                                            const unsigned char **binary, cl_int *loaded,
                                            cl_int *code) {
    FAIL_MAKING(CL_OUT_OF_HOST_MEMORY);
    if (loaded)
        *loaded = CL_SUCCESS;
    if (!forwards() && (bytes[0] != 5 || memcmp(binary[0], "built", 5) != 0))
        abort(); /* drivers crash on what they did not write */
    MADE(clCreateProgramWithBinary, make(context, 0, NULL), context, devices, device, bytes, binary,
         loaded, code);
}

EXPORT cl_int clBuildProgram(cl_program program, cl_uint devices, const cl_device_id *device,
                             const char *options, void(CL_CALLBACK *notify)(cl_program, void *),
                             void *user) {
    FAIL(CL_OUT_OF_HOST_MEMORY);
    if (refused_word && options && strstr(options, refused_word))
        return CL_BUILD_PROGRAM_FAILURE;
    return forwards() ? REAL(clBuildProgram)(program, devices, device, options, notify, user)
                      : CL_SUCCESS;
}

EXPORT cl_int clGetProgramInfo(cl_program program, cl_program_info what, size_t capacity, void *out,
                               size_t *size) {
    const size_t bytes = 5;
    cl_device_id device = &own_device;
    FAIL(CL_OUT_OF_HOST_MEMORY);
    if (forwards())
        return REAL(clGetProgramInfo)(program, what, capacity, out, size);
    if (what == CL_PROGRAM_DEVICES)
        return tell(&device, sizeof device, capacity, out, size);
    if (what == CL_PROGRAM_BINARY_SIZES)
        return tell(&bytes, sizeof bytes, capacity, out, size);
    memcpy(*(unsigned char **)out, "built", 5);
    return CL_SUCCESS;
}

EXPORT cl_int clGetProgramBuildInfo(cl_program program, cl_device_id device,
                                    cl_program_build_info what, size_t capacity, void *out,
                                    size_t *size) {
    FAIL(CL_OUT_OF_HOST_MEMORY);
    return forwards() ? REAL(clGetProgramBuildInfo)(program, device, what, capacity, out, size)
                      : tell("", 1, capacity, out, size);
}

EXPORT cl_int clReleaseProgram(cl_program program) {
    RELEASE(clReleaseProgram, program);
}

EXPORT cl_kernel clCreateKernel(cl_program program, const char *name, cl_int *code) {
    FAIL_MAKING(CL_OUT_OF_HOST_MEMORY);
    MADE(clCreateKernel, make(program, 0, NULL), program, name, code);
}

EXPORT cl_int clReleaseKernel(cl_kernel kernel) {
    RELEASE(clReleaseKernel, kernel);
}

EXPORT cl_int clSetKernelArg(cl_kernel kernel, cl_uint index, size_t bytes, const void *value) {
    FAIL(CL_OUT_OF_HOST_MEMORY);
    return forwards() ? REAL(clSetKernelArg)(kernel, index, bytes, value) : CL_SUCCESS;
}

EXPORT cl_int clGetKernelWorkGroupInfo(cl_kernel kernel, cl_device_id device,
                                       cl_kernel_work_group_info what, size_t capacity, void *out,
                                       size_t *size) {
    const size_t items = pretended.group_items ? pretended.group_items : 1024;
    FAIL(CL_OUT_OF_HOST_MEMORY);
    return forwards() ? REAL(clGetKernelWorkGroupInfo)(kernel, device, what, capacity, out, size)
                      : tell(&items, sizeof items, capacity, out, size);
}

/* ---- events ---- */

EXPORT cl_event clCreateUserEvent(cl_context context, cl_int *code) {
    FAIL_MAKING(CL_OUT_OF_HOST_MEMORY);
    MADE(clCreateUserEvent, make(context, 0, NULL), context, code);
}

EXPORT cl_int clSetUserEventStatus(cl_event event, cl_int status) {
    FAIL(CL_OUT_OF_HOST_MEMORY);
    return forwards() ? REAL(clSetUserEventStatus)(event, status) : CL_SUCCESS;
}

EXPORT cl_int clReleaseEvent(cl_event event) {
    RELEASE(clReleaseEvent, event);
}
