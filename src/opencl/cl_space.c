/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_space.c: see cl_space.h.
 */
#include "opencl/cl_space.h"

#include <stdio.h>
#include <string.h>

/* Spaces that contexts share, one for each device. */
static struct {
    tn_mutex lock; /* of all counts of holders, too */
    tn_cl_space *space[TN_CL_DEVICES];
} shared;

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

tenon_status tn_cl_lose(tn_cl_space *s, cl_int code, const char *call, tn_message *why) {
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
            return tn_cl_lose(s, code, call, why);
        break;
    case CL_DEVICE_NOT_AVAILABLE:
    case CL_INVALID_COMMAND_QUEUE:
    case CL_INVALID_CONTEXT:
        return tn_cl_lose(s, code, call, why);
    default:
        if (waited)
            return tn_cl_lose(s, code, call, why);
        return tn_fail(why, TENON_ERROR_INTERNAL, "%s: %s answers %s (%d)", s->base.device, call,
                       tn_cl_error_name(code), (int)code);
    }
    return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "%s: %s answers %s (%d)", s->base.device, call,
                   tn_cl_error_name(code), (int)code);
}

/* ---------------------------------------------------------------- holders */

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

void tn_cl_space_retain(tn_cl_space *s) {
    const bool locked = lock_spaces(s);
    ++s->holders;
    unlock_spaces(locked);
}

/* ---------------------------------------------------------------- life */

/* A half-built one is allowed. */
static void destroy(tn_cl_space *s) {
    tn_cl_memory_close(s);
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
        s->lent_queue = true;
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
    s->base.calls = &tn_cl_space_calls;
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
