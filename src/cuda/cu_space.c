/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_space.c: see cu_space.h, and memory/space.h for what the calls mean.
 */
#include "cuda/cu_space.h"

#include <stdio.h>
#include <string.h>

/* Spaces that contexts share, one for each device. */
static struct {
    tn_mutex lock; /* of all counts of holders, too */
    tn_cu_space *space[TN_CU_DEVICES];
} shared;

static tn_cu_space *of(tn_space *space) {
    return (tn_cu_space *)(void *)space;
}

/* ---------------------------------------------------------------- errors */

/* The context is gone, and whatever was queued in it has come to nothing. */
static bool is_gone(CUresult code) {
    switch (code) {
    case CUDA_ERROR_NOT_INITIALIZED:
    case CUDA_ERROR_DEINITIALIZED: /* the process ends */
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_CONTEXT:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_CONTAINED:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_TENSOR_MEMORY_LEAK:
    case CUDA_ERROR_EXTERNAL_DEVICE:
    case CUDA_ERROR_UNKNOWN:
        return true;
    default:
        return false;
    }
}

tenon_status tn_cu_space_check(tn_cu_space *s, tn_message *why) {
    if (tn_os_forked(&s->home))
        return tn_fail(why, TENON_ERROR_DEVICE_LOST,
                       "%s: this process is a child of the one that opened the device",
                       s->base.device);
    if (atomic_load_explicit(&s->lost, memory_order_relaxed))
        return tn_fail(why, TENON_ERROR_DEVICE_LOST, "%s: the device was lost", s->base.device);
    return TENON_OK;
}

tenon_status tn_cu_lose(tn_cu_space *s, CUresult code, const char *call, tn_message *why) {
    atomic_store_explicit(&s->lost, true, memory_order_relaxed);
    return tn_fail(why, TENON_ERROR_DEVICE_LOST, "%s: %s answers %s (%d): the device is lost",
                   s->base.device, call, tn_cu_error_name(s->cu, code), (int)code);
}

static tenon_status meaning(CUresult code) {
    switch (code) {
    case CUDA_ERROR_OUT_OF_MEMORY:
    case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: /* registers, or room for local memory */
        return TENON_ERROR_OUT_OF_MEMORY;
    case CUDA_ERROR_NOT_SUPPORTED:
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: /* of this stream, or by another thread */
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
    case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
        return TENON_ERROR_UNSUPPORTED;
    default:
        return TENON_ERROR_INTERNAL;
    }
}

tenon_status tn_cu_status(tn_cu_space *s, CUresult code, const char *call, bool waited,
                          tn_message *why) {
    if (code == CUDA_SUCCESS)
        return TENON_OK;
    const tenon_status status = meaning(code);
    if (is_gone(code) || (waited && status == TENON_ERROR_INTERNAL))
        return tn_cu_lose(s, code, call, why);
    return tn_fail(why, status, "%s: %s answers %s (%d)", s->base.device, call,
                   tn_cu_error_name(s->cu, code), (int)code);
}

/* ---------------------------------------------------------------- the context */

tenon_status tn_cu_space_enter(tn_cu_space *s, tn_message *why) {
    TN_TRY(tn_cu_space_check(s, why));
    return tn_cu_status(s, s->cu->cuCtxPushCurrent_v2(s->context), "cuCtxPushCurrent", false, why);
}

void tn_cu_space_leave(tn_cu_space *s) {
    CUcontext ours;
    /* What was current must be so again: a refusal is not taken at once. */
    for (int tries = 0; tries < 3; ++tries)
        if (s->cu->cuCtxPopCurrent_v2(&ours) == CUDA_SUCCESS)
            break;
}

bool tn_cu_space_captured(tn_cu_space *s) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    const CUresult code = s->cu->cuStreamIsCapturing(s->stream, &status);
    return code == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT ||
           (code == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE);
}

tenon_status tn_cu_space_uncaptured(tn_cu_space *s, const char *what, tn_message *why) {
    if (!tn_cu_space_captured(s))
        return TENON_OK;
    return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                   "%s: the queue is being captured, which has no room for %s: operands must be "
                   "buffers of the device",
                   s->base.device, what);
}

/* As long as work may be going on nothing may be given back, so a driver that is short of memory
 * for the waiting is asked again, and is lost if that is no help. */
tenon_status tn_cu_space_finish(tn_cu_space *s, tn_message *why) {
    CUresult code = CUDA_ERROR_OUT_OF_MEMORY;
    for (int tries = 0; tries < 3 && code == CUDA_ERROR_OUT_OF_MEMORY; ++tries)
        code = s->cu->cuStreamSynchronize(s->stream);
    return code == CUDA_ERROR_OUT_OF_MEMORY
               ? tn_cu_lose(s, code, "cuStreamSynchronize", why)
               : tn_cu_status(s, code, "cuStreamSynchronize", true, why);
}

bool tn_cu_space_quiet(tn_cu_space *s) {
    const CUresult code = s->cu->cuStreamSynchronize(s->stream);
    return tn_cu_status(s, code, "cuStreamSynchronize", false, NULL) == TENON_OK || is_gone(code);
}

static tenon_status wait_for_all(tn_space *space, tn_message *why) {
    tn_cu_space *s = of(space);
    TN_TRY(tn_cu_space_enter(s, why));
    tenon_status status = tn_cu_space_uncaptured(s, "a wait", why);
    if (status == TENON_OK)
        status = tn_cu_space_finish(s, why);
    tn_cu_space_leave(s);
    return status;
}

/* ---------------------------------------------------------------- foreign memory */

/* Memory that the driver knows, on this device. A driver that does not say where it lies has not
 * got unified addresses, and is believed. */
static tenon_status check_pointer(tn_cu_space *s, void *native, tn_message *why) {
    const CUdeviceptr address = (CUdeviceptr)(uintptr_t)native;
    unsigned type = 0;
    int device = 0;
    CUresult code = s->cu->cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address);
    if (code == CUDA_ERROR_INVALID_VALUE || (code == CUDA_SUCCESS && type != CU_MEMORYTYPE_DEVICE))
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "native is %p, expected a CUdeviceptr of device %s", native, s->base.device);
    TN_TRY(tn_cu_status(s, code, "cuPointerGetAttribute", false, why));
    code = s->cu->cuPointerGetAttribute(&device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address);
    if (code == CUDA_SUCCESS && device != s->device)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "native is %p of device %d, expected a CUdeviceptr of device %s", native,
                       device, s->base.device);
    return TENON_OK;
}

static tenon_status import(tn_space *space, tenon_native_kind kind, void *native, size_t bytes,
                           tn_segment_memory *out, tn_message *why) {
    tn_cu_space *s = of(space);
    *out = (tn_segment_memory){0};
    if (kind != TENON_NATIVE_CUDA)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "kind is %d, expected TENON_NATIVE_CUDA (%d) for a pool of device %s",
                       (int)kind, (int)TENON_NATIVE_CUDA, space->device);
    TN_TRY(tn_cu_space_enter(s, why));
    const tenon_status status = check_pointer(s, native, why);
    tn_cu_space_leave(s);
    if (status == TENON_OK)
        *out = (tn_segment_memory){.handle = native, .address = native, .bytes = bytes};
    return status;
}

static void forget(tn_space *space, tenon_native_kind kind, const tn_segment_memory *memory) {
    (void)space, (void)kind, (void)memory;
}

/* ---------------------------------------------------------------- life */

/* In the child of a fork the lock may be held by a thread that it has not got. */
static bool lock_spaces(const tn_cu_space *s) {
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
    tn_cu_space_release(of(space));
}

static tenon_status check(tn_space *space, tn_message *why) {
    return tn_cu_space_check(of(space), why);
}

static const tn_space_calls space_calls = {
    .retain = retain,
    .release = release,
    .check = check,
    .alloc = tn_cu_memory_alloc,
    .free = tn_cu_memory_free,
    .give_part = tn_cu_memory_give_part,
    .import = import,
    .forget = forget,
    .write = tn_cu_write,
    .read = tn_cu_read,
    .fill = tn_cu_fill,
    .map = tn_cu_map,
    .unmap = tn_cu_unmap,
    .wait = wait_for_all,
};

/* A half-built one is allowed. */
static void destroy(tn_cu_space *s) {
    const bool ours = !tn_os_forked(&s->home);
    bool current = false, quiet = false;
    if (ours && s->context)
        current = s->cu->cuCtxPushCurrent_v2(s->context) == CUDA_SUCCESS;
    if (current)
        quiet = (!s->stream && s->own_stream) ||
                (!tn_cu_space_captured(s) && tn_cu_space_quiet(s)); /* waiting ends a capture */
    tn_cu_staging_close(s, quiet);
    tn_cu_memory_close(s, quiet);
    tn_cu_modules_close(&s->modules, s, quiet);
    if (current) {
        if (s->own_stream && s->stream)
            (void)s->cu->cuStreamDestroy_v2(s->stream);
        tn_cu_space_leave(s);
    }
    if (ours && s->primary)
        (void)s->cu->cuDevicePrimaryCtxRelease_v2(s->device);
    tn_host_free(NULL, s, sizeof *s);
}

void tn_cu_space_release(tn_cu_space *s) {
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

/* What is lent must belong together, and to the device that is meant. Fills in the context. */
static tenon_status check_lent(tn_cu_space *s, void *native_context, void *native_queue,
                               tn_message *why) {
    CUcontext of_queue = NULL;
    CUdevice device = -1;
    s->context = native_context;
    s->stream = native_queue;
    if (!native_context) {
        const CUresult code = s->cu->cuStreamGetCtx(native_queue, &of_queue);
        if (code != CUDA_SUCCESS || !of_queue)
            return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                           "native_queue is %p, expected a CUstream, or native_context with it",
                           native_queue);
        s->context = of_queue;
    }
    if (s->cu->cuCtxPushCurrent_v2(s->context) != CUDA_SUCCESS)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "native_context is %p, expected a CUcontext", native_context);
    const CUresult code = s->cu->cuCtxGetDevice(&device);
    const CUresult queue_code =
        native_queue ? s->cu->cuStreamGetCtx(native_queue, &of_queue) : CUDA_SUCCESS;
    tn_cu_space_leave(s);
    if (code != CUDA_SUCCESS || device != s->device)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "native_context is %p, expected a CUcontext of device %s",
                       (void *)s->context, s->base.device);
    if (native_queue && (queue_code != CUDA_SUCCESS || of_queue != s->context))
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "native_queue is %p, expected a CUstream of native_context and device %s",
                       native_queue, s->base.device);
    return TENON_OK;
}

/* The driver's objects: own ones, or the caller's. */
static tenon_status make_objects(tn_cu_space *s, void *native_context, void *native_queue,
                                 tn_message *why) {
    if (native_context || native_queue) {
        TN_TRY(check_lent(s, native_context, native_queue, why));
    } else {
        const CUresult code = s->cu->cuDevicePrimaryCtxRetain(&s->context, s->device);
        TN_TRY(tn_cu_status(s, code, "cuDevicePrimaryCtxRetain", false, why));
        s->primary = true;
    }
    s->own_stream = !native_queue;
    TN_TRY(tn_cu_space_enter(s, why));
    size_t available = 0, total = 0;
    CUresult code = s->cu->cuMemGetInfo_v2(&available, &total);
    tenon_status status = tn_cu_status(s, code, "cuMemGetInfo", false, why);
    if (status == TENON_OK && s->own_stream) {
        code = s->cu->cuStreamCreate(&s->stream, CU_STREAM_NON_BLOCKING);
        status = tn_cu_status(s, code, "cuStreamCreate", false, why);
    }
    s->base.total = available; /* what others have is not to be promised */
    tn_cu_space_leave(s);
    return status;
}

/* Whether, and as what, the driver takes the code in the library. */
static tenon_status probe(tn_cu_space *s, tn_message *why) {
    const tn_cu_kernel *kernel;
    if (s->limits.code == 0)
        return tn_fail(why, TENON_ERROR_NO_DEVICE,
                       "%s has compute capability %d.%d, for which this build has no code",
                       s->base.device, s->limits.capability / 10, s->limits.capability % 10);
    TN_TRY(tn_cu_space_enter(s, why));
    tenon_status status = tn_cu_kernel_get(s, "probe", "probe", &kernel, why);
    tn_cu_space_leave(s);
    if (status == TENON_ERROR_UNSUPPORTED)
        status = TENON_ERROR_NO_DEVICE;
    if (status == TENON_OK && kernel->arch > 0 && kernel->arch < s->limits.code)
        s->limits.code = kernel->arch;
    return status;
}

static tenon_status make(const tn_cu_library *library, int index, void *native_context,
                         void *native_queue, tn_cu_space **out, tn_message *why) {
    *out = NULL;
    tn_cu_space *s = tn_host_alloc_zero(NULL, sizeof *s, TN_CACHE_LINE);
    if (!s)
        return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "no memory for device cuda:%d", index);
    (void)snprintf(s->base.device, sizeof s->base.device, index > 0 ? "cuda:%d" : "cuda", index);
    tn_os_fork_mark(&s->home);
    s->holders = 1;
    s->cu = &library->cu;
    s->driver_version = library->version;
    s->index = index;
    s->device = library->device[index];
    s->base.calls = &space_calls;
    s->base.kind = TENON_NATIVE_CUDA;
    s->base.most = SIZE_MAX / 2;
    tn_cu_limits_read(library, s->device, &s->limits);
    tn_cu_memory_open(s);
    tenon_status status = make_objects(s, native_context, native_queue, why);
    if (status == TENON_OK)
        status = probe(s, why);
    if (status != TENON_OK)
        destroy(s);
    else
        *out = s;
    return status;
}

tenon_status tn_cu_space_open(int index, void *native_context, void *native_queue,
                              tn_cu_space **out, tn_message *why) {
    *out = NULL;
    const tn_cu_library *library = tn_cu_library_open(why);
    if (!library)
        return TENON_ERROR_NO_DEVICE;
    if (index >= library->count)
        return tn_fail(why, TENON_ERROR_NO_DEVICE, "cuda:%d: there are only %d", index,
                       library->count);
    if (native_context || native_queue)
        return make(library, index, native_context, native_queue, out, why);
    tn_mutex_lock(&shared.lock);
    tn_cu_space *s = shared.space[index];
    tenon_status status = TENON_OK;
    /* One that was lost stays with its holders; who comes now may find the device back. */
    if (s && tn_cu_space_check(s, NULL) == TENON_OK) {
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
