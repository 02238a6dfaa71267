/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_space.c: see cl_space.h, and memory/space.h for what the calls mean.
 */
#include "opencl/cl_space.h"

#include <stdio.h>
#include <string.h>

/* Spaces that contexts share, one for each device. */
static struct {
    tn_mutex lock; /* of all counts of holders, too */
    tn_cl_space *space[TN_CL_DEVICES];
} shared;

static tn_cl_space *of(tn_space *space) {
    return (tn_cl_space *)(void *)space;
}

/* ---------------------------------------------------------------- errors */

tenon_status tn_cl_space_check(tn_cl_space *s, tn_message *why) {
    if (tn_os_forked(&s->home))
        return tn_fail(why, TENON_ERROR_DEVICE_LOST,
                       "%s: this process is a child of the one that opened the device",
                       s->base.device);
    if (atomic_load_explicit(&s->lost, memory_order_relaxed))
        return tn_fail(why, TENON_ERROR_DEVICE_LOST, "%s: the device was lost", s->base.device);
    return TENON_OK;
}

static tenon_status lose(tn_cl_space *s, cl_int code, const char *call, tn_message *why) {
    atomic_store_explicit(&s->lost, true, memory_order_relaxed);
    return tn_fail(why, TENON_ERROR_DEVICE_LOST, "%s: %s answers %s (%d): the device is lost",
                   s->base.device, call, tn_cl_error_name(code), (int)code);
}

tenon_status tn_cl_status(tn_cl_space *s, cl_int code, const char *call, bool waited,
                          tn_message *why) {
    switch (code) {
    case CL_SUCCESS:
        return TENON_OK;
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
    case CL_OUT_OF_HOST_MEMORY:
    case CL_MAP_FAILURE:
        break;
    case CL_OUT_OF_RESOURCES: /* of some drivers also what a kernel's fault looks like */
        if (waited)
            return lose(s, code, call, why);
        break;
    case CL_DEVICE_NOT_AVAILABLE:
    case CL_INVALID_COMMAND_QUEUE:
    case CL_INVALID_CONTEXT:
        return lose(s, code, call, why);
    default:
        if (waited)
            return lose(s, code, call, why);
        return tn_fail(why, TENON_ERROR_INTERNAL, "%s: %s answers %s (%d)", s->base.device, call,
                       tn_cl_error_name(code), (int)code);
    }
    return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "%s: %s answers %s (%d)", s->base.device, call,
                   tn_cl_error_name(code), (int)code);
}

/* ---------------------------------------------------------------- memory */

/* In the child of a fork the lock may be held by a thread that it has not got. */
static bool lock_spaces(const tn_cl_space *s) {
    const bool here = !tn_os_forked(&s->home);
    if (here)
        tn_mutex_lock(&shared.lock);
    return here;
}

static void unlock_spaces(bool locked) {
    if (locked)
        tn_mutex_unlock(&shared.lock);
}

static void retain(tn_space *space) {
    const bool locked = lock_spaces(of(space));
    ++of(space)->holders;
    unlock_spaces(locked);
}

static void release(tn_space *space) {
    tn_cl_space_release(of(space));
}

/* As long as work may be going on nothing may be given back, so a driver that is short of memory
 * for the waiting is asked again, and is lost if that is no help. */
static tenon_status finish(tn_cl_space *s, tn_message *why) {
    cl_int code = CL_OUT_OF_HOST_MEMORY;
    TN_TRY(tn_cl_space_check(s, why));
    for (int tries = 0; tries < 3 && code == CL_OUT_OF_HOST_MEMORY; ++tries)
        code = s->cl->clFinish(s->queue);
    return code == CL_OUT_OF_HOST_MEMORY ? lose(s, code, "clFinish", why)
                                         : tn_cl_status(s, code, "clFinish", true, why);
}

static tenon_status wait_for_all(tn_space *space, tn_message *why) {
    return finish(of(space), why);
}

static void drop(tn_cl_space *s, void *handle) {
    if (handle && !tn_os_forked(&s->home))
        (void)s->cl->clReleaseMemObject(handle);
}

static size_t whole_pages(size_t bytes) {
    const size_t page = tn_os_page_size();
    return (bytes + page - 1) & ~(page - 1);
}

/* Every byte is written once: drivers that find memory at its first use find it here. */
static bool device_alloc(tn_space *space, size_t bytes, tn_segment_memory *out) {
    tn_cl_space *s = of(space);
    const cl_uchar zero = 0;
    cl_int code = CL_SUCCESS;
    *out = (tn_segment_memory){.bytes = bytes};
    if (tn_cl_space_check(s, NULL) != TENON_OK)
        return false;
    out->address = tn_os_reserve(whole_pages(bytes));
    if (!out->address)
        return false;
    out->handle = s->cl->clCreateBuffer(s->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (out->handle) {
        code = s->cl->clEnqueueFillBuffer(s->queue, out->handle, &zero, 1, 0, bytes, 0, NULL, NULL);
        if (code == CL_SUCCESS && s->cl->clFinish(s->queue) == CL_SUCCESS)
            return true;
        drop(s, out->handle);
    }
    (void)tn_os_unmap(out->address, whole_pages(bytes));
    return false;
}

static void device_free(tn_space *space, const tn_segment_memory *memory) {
    drop(of(space), memory->handle);
    (void)tn_os_unmap(memory->address, whole_pages(memory->bytes));
}

static tenon_status lend(tn_space *space, void *host, size_t bytes, tn_segment_memory *out,
                         tn_message *why) {
    tn_cl_space *s = of(space);
    cl_int code = CL_SUCCESS;
    *out = (tn_segment_memory){.address = host, .bytes = bytes};
    TN_TRY(tn_cl_space_check(s, why));
    out->handle = s->cl->clCreateBuffer(s->context, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, bytes,
                                        host, &code);
    if (!out->handle && (code == CL_SUCCESS || code == CL_INVALID_BUFFER_SIZE))
        code = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    return tn_cl_status(s, code, "clCreateBuffer", false, why);
}

/* Who waits for the end of a memory object, and its driver's thread that tells of it. */
typedef struct ending {
    _Atomic uint32_t word;
} ending;

enum { AWAITED, ENDED, ABANDONED };

static void CL_CALLBACK tell_ending(cl_mem memory, void *user) {
    ending *e = user;
    (void)memory;
    if (atomic_exchange(&e->word, ENDED) == ABANDONED)
        tn_host_free(NULL, e, sizeof *e);
    else
        tn_os_wake(&e->word, 1);
}

/*
 * Releases host memory's object on a device that was lost. A driver deletes an object only when no
 * work uses it any more, also where it could not say so, and tells when it does.
 */
static bool drop_lost(tn_cl_space *s, void *handle) {
    const uint64_t patience = 2000000000u, start = tn_os_now_ns();
    ending *e = tn_host_alloc_zero(NULL, sizeof *e, TN_CACHE_LINE);
    if (!e)
        return drop(s, handle), false;
    if (s->cl->clSetMemObjectDestructorCallback(handle, tell_ending, e) != CL_SUCCESS) {
        tn_host_free(NULL, e, sizeof *e);
        return drop(s, handle), false;
    }
    drop(s, handle);
    while (atomic_load(&e->word) == AWAITED && tn_os_now_ns() - start < patience)
        tn_os_wait_for(&e->word, AWAITED, 1000000);
    if (atomic_exchange(&e->word, ABANDONED) != ENDED)
        return false;
    tn_host_free(NULL, e, sizeof *e);
    return true;
}

static bool withdraw(tn_space *space, const tn_segment_memory *memory) {
    tn_cl_space *s = of(space);
    if (tn_os_forked(&s->home))
        return true; /* the device works on the parent's */
    if (finish(s, NULL) != TENON_OK)
        return drop_lost(s, memory->handle);
    drop(s, memory->handle);
    return true;
}

/* A buffer object of this context with at least so many bytes. */
static tenon_status check_object(tn_cl_space *s, cl_mem object, size_t bytes, tn_message *why) {
    const tn_cl *cl = s->cl;
    cl_mem_object_type type = 0;
    cl_context context = NULL;
    size_t size = 0;
    if (cl->clGetMemObjectInfo(object, CL_MEM_TYPE, sizeof type, &type, NULL) != CL_SUCCESS ||
        cl->clGetMemObjectInfo(object, CL_MEM_CONTEXT, sizeof context, (void *)&context, NULL) !=
            CL_SUCCESS ||
        cl->clGetMemObjectInfo(object, CL_MEM_SIZE, sizeof size, &size, NULL) != CL_SUCCESS ||
        type != CL_MEM_OBJECT_BUFFER)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT, "native is %p, expected a buffer object",
                       (void *)object);
    if (context != s->context)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "native is %p of cl_context %p, expected one of the pool's, %p",
                       (void *)object, (void *)context, (void *)s->context);
    if (bytes > size)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "bytes is %zu, expected at most the %zu of the cl_mem", bytes, size);
    return TENON_OK;
}

static tenon_status import(tn_space *space, tenon_native_kind kind, void *native, size_t bytes,
                           tn_segment_memory *out, tn_message *why) {
    tn_cl_space *s = of(space);
    *out = (tn_segment_memory){0};
    TN_TRY(tn_cl_space_check(s, why));
    if (kind == TENON_NATIVE_SVM || (kind == TENON_NATIVE_HOST && space->host_pages))
        return lend(space, native, bytes, out, why);
    if (kind != TENON_NATIVE_OPENCL)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "kind is %d, expected TENON_NATIVE_OPENCL (%d) or TENON_NATIVE_SVM (%d) for "
                       "a pool of device %s",
                       (int)kind, (int)TENON_NATIVE_OPENCL, (int)TENON_NATIVE_SVM, space->device);
    TN_TRY(check_object(s, native, bytes, why));
    void *address = tn_os_reserve(whole_pages(bytes));
    if (!address)
        return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "no room for %zu addresses", bytes);
    const tenon_status status =
        tn_cl_status(s, s->cl->clRetainMemObject(native), "clRetainMemObject", false, why);
    if (status != TENON_OK)
        (void)tn_os_unmap(address, whole_pages(bytes));
    else
        *out = (tn_segment_memory){.handle = native, .address = address, .bytes = bytes};
    return status;
}

static void forget(tn_space *space, tenon_native_kind kind, const tn_segment_memory *memory) {
    if (kind == TENON_NATIVE_OPENCL)
        device_free(space, memory);
    else
        (void)withdraw(space, memory);
}

/* What a blocking copy answers. A memory that the host may not read or write is the caller's
 * mistake: nothing was queued, nothing is lost. */
static tenon_status copied(tn_cl_space *s, cl_int code, const char *call, tn_message *why) {
    if (code == CL_INVALID_OPERATION || code == CL_INVALID_VALUE || code == CL_INVALID_MEM_OBJECT)
        return tn_fail(
            why, TENON_ERROR_INVALID_ARGUMENT,
            "buffer is one that %s refuses on %s (%s), expected memory that the host may "
            "read and write",
            call, s->base.device, tn_cl_error_name(code));
    return tn_cl_status(s, code, call, true, why);
}

static tenon_status write_part(tn_space *space, const tn_place *to, const void *host, size_t bytes,
                               tn_message *why) {
    tn_cl_space *s = of(space);
    TN_TRY(tn_cl_space_check(s, why));
    const cl_int code = s->cl->clEnqueueWriteBuffer(s->queue, to->handle, CL_TRUE, to->offset,
                                                    bytes, host, 0, NULL, NULL);
    return copied(s, code, "clEnqueueWriteBuffer", why);
}

static tenon_status read_part(tn_space *space, void *host, const tn_place *from, size_t bytes,
                              tn_message *why) {
    tn_cl_space *s = of(space);
    TN_TRY(tn_cl_space_check(s, why));
    const cl_int code = s->cl->clEnqueueReadBuffer(s->queue, from->handle, CL_TRUE, from->offset,
                                                   bytes, host, 0, NULL, NULL);
    return copied(s, code, "clEnqueueReadBuffer", why);
}

static tenon_status fill(tn_space *space, const tn_place *to, unsigned char value, size_t bytes,
                         tn_message *why) {
    tn_cl_space *s = of(space);
    const cl_uchar pattern = value;
    TN_TRY(tn_cl_space_check(s, why));
    return tn_cl_status(s,
                        s->cl->clEnqueueFillBuffer(s->queue, to->handle, &pattern, 1, to->offset,
                                                   bytes, 0, NULL, NULL),
                        "clEnqueueFillBuffer", false, why);
}

static tenon_status map(tn_space *space, const tn_place *at, size_t bytes, void **host,
                        tn_message *why) {
    tn_cl_space *s = of(space);
    cl_int code = CL_SUCCESS;
    *host = NULL;
    TN_TRY(tn_cl_space_check(s, why));
    *host = s->cl->clEnqueueMapBuffer(s->queue, at->handle, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE,
                                      at->offset, bytes, 0, NULL, NULL, &code);
    if (!*host && code == CL_SUCCESS)
        code = CL_MAP_FAILURE;
    return copied(s, code, "clEnqueueMapBuffer", why);
}

static tenon_status unmap(tn_space *space, const tn_place *at, void *host, tn_message *why) {
    tn_cl_space *s = of(space);
    TN_TRY(tn_cl_space_check(s, why));
    const cl_int code = s->cl->clEnqueueUnmapMemObject(s->queue, at->handle, host, 0, NULL, NULL);
    if (code == CL_INVALID_VALUE)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "host is %p, expected an address that the buffer was mapped to", host);
    return tn_cl_status(s, code, "clEnqueueUnmapMemObject", false, why);
}

static const tn_space_calls space_calls = {
    .retain = retain,
    .release = release,
    .alloc = device_alloc,
    .free = device_free,
    .lend = lend,
    .withdraw = withdraw,
    .import = import,
    .forget = forget,
    .write = write_part,
    .read = read_part,
    .fill = fill,
    .map = map,
    .unmap = unmap,
    .wait = wait_for_all,
};

/* ---------------------------------------------------------------- life */

/* A half-built one is allowed. */
static void destroy(tn_cl_space *s) {
    if (!tn_os_forked(&s->home)) {
        tn_cl_programs_close(&s->programs, s);
        if (s->queue)
            (void)s->cl->clReleaseCommandQueue(s->queue);
        if (s->context)
            (void)s->cl->clReleaseContext(s->context);
    }
    tn_host_free(NULL, s, sizeof *s);
}

void tn_cl_space_release(tn_cl_space *s) {
    if (!s)
        return;
    const bool locked = lock_spaces(s);
    const bool last = --s->holders == 0;
    if (last && s->shared && shared.space[s->index] == s)
        shared.space[s->index] = NULL;
    unlock_spaces(locked);
    if (last)
        destroy(s);
}

/* The driver's objects: own ones, or the caller's with a hold on them. */
static tenon_status make_objects(tn_cl_space *s, const tn_cl_device *device, void *native_context,
                                 void *native_queue, tn_message *why) {
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM,
                                                (cl_context_properties)device->platform, 0};
    const tn_cl *cl = s->cl;
    cl_int code = CL_SUCCESS;
    if (native_context) {
        TN_TRY(tn_cl_status(s, cl->clRetainContext(native_context), "clRetainContext", false, why));
        s->context = native_context;
    } else {
        s->context = cl->clCreateContext(properties, 1, &device->id, NULL, NULL, &code);
        if (!s->context)
            return tn_cl_status(s, code ? code : CL_OUT_OF_HOST_MEMORY, "clCreateContext", false,
                                why);
    }
    if (native_queue) {
        TN_TRY(tn_cl_status(s, cl->clRetainCommandQueue(native_queue), "clRetainCommandQueue",
                            false, why));
        s->queue = native_queue;
        return TENON_OK;
    }
    s->queue = cl->clCreateCommandQueue(s->context, device->id, 0, &code);
    return s->queue ? TENON_OK
                    : tn_cl_status(s, code ? code : CL_OUT_OF_HOST_MEMORY, "clCreateCommandQueue",
                                   false, why);
}

/* What is lent must belong together, and to the device that is meant. */
static tenon_status check_lent(const tn_cl *cl, const tn_cl_device *device, const char *name,
                               cl_context context, cl_command_queue queue, tn_message *why) {
    cl_device_id ids[TN_CL_DEVICES] = {0}, of_queue = NULL;
    cl_context queues = NULL;
    cl_command_queue_properties properties = 0;
    size_t bytes = 0;
    bool found = false;
    if (!context)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "native_context is NULL, expected the cl_context of native_queue");
    if (cl->clGetContextInfo(context, CL_CONTEXT_DEVICES, sizeof ids, (void *)ids, &bytes) ==
        CL_SUCCESS)
        for (size_t i = 0; i < bytes / sizeof *ids; ++i)
            found = found || ids[i] == device->id;
    if (!found)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "native_context is %p, expected a cl_context with device %s",
                       (void *)context, name);
    if (!queue)
        return TENON_OK;
    if (cl->clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof queues, (void *)&queues, NULL) !=
            CL_SUCCESS ||
        queues != context ||
        cl->clGetCommandQueueInfo(queue, CL_QUEUE_DEVICE, sizeof of_queue, (void *)&of_queue,
                                  NULL) != CL_SUCCESS ||
        of_queue != device->id ||
        cl->clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties,
                                  NULL) != CL_SUCCESS ||
        (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE))
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "native_queue is %p, expected a cl_command_queue of native_context and "
                       "device %s that keeps its order",
                       (void *)queue, name);
    return TENON_OK;
}

static tenon_status make(const tn_cl_library *library, int index, void *native_context,
                         void *native_queue, tn_cl_space **out, tn_message *why) {
    const tn_cl_device *device = &library->device[index];
    char name[sizeof(*out)->base.device];
    *out = NULL;
    if (index > 0)
        (void)snprintf(name, sizeof name, "opencl:%d", index);
    else
        (void)snprintf(name, sizeof name, "opencl");
    if (native_context || native_queue)
        TN_TRY(check_lent(&library->cl, device, name, native_context, native_queue, why));
    tn_cl_space *s = tn_host_alloc_zero(NULL, sizeof *s, TN_CACHE_LINE);
    if (!s)
        return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "no memory for device %s", name);
    tn_os_fork_mark(&s->home);
    s->holders = 1;
    s->cl = &library->cl;
    s->index = index;
    s->id = device->id;
    memcpy(s->base.device, name, sizeof name);
    const tenon_status status = make_objects(s, device, native_context, native_queue, why);
    if (status != TENON_OK) {
        destroy(s);
        return status;
    }
    tn_cl_limits_read(s->cl, s->id, &s->limits);
    s->base.calls = &space_calls;
    s->base.kind = TENON_NATIVE_OPENCL;
    s->base.host_pages = s->limits.unified;
    s->base.most = s->limits.alloc_bytes < SIZE_MAX ? (size_t)s->limits.alloc_bytes : SIZE_MAX;
    s->base.total = (size_t)s->limits.memory_bytes;
    s->base.granularity = 4096; /* as tn_segment_memory.address has it */
    *out = s;
    return TENON_OK;
}

tenon_status tn_cl_space_open(int index, void *native_context, void *native_queue,
                              tn_cl_space **out, tn_message *why) {
    *out = NULL;
    const tn_cl_library *library = tn_cl_library_open(why);
    if (!library)
        return TENON_ERROR_NO_DEVICE;
    if (index >= library->count)
        return tn_fail(why, TENON_ERROR_NO_DEVICE, "opencl:%d: there are only %d", index,
                       library->count);
    if (native_context || native_queue)
        return make(library, index, native_context, native_queue, out, why);
    tn_mutex_lock(&shared.lock);
    tn_cl_space *s = shared.space[index];
    tenon_status status = TENON_OK;
    /* One that was lost stays with its holders; who comes now may find the device back. */
    if (s && tn_cl_space_check(s, NULL) == TENON_OK) {
        ++s->holders;
    } else {
        status = make(library, index, NULL, NULL, &s, why);
        if (status == TENON_OK) {
            s->shared = true;
            shared.space[index] = s;
        }
    }
    tn_mutex_unlock(&shared.lock);
    *out = status == TENON_OK ? s : NULL;
    return status;
}
