/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_backend.c: OpenCL devices as tenon's: "opencl:0" and so on, in the order of the loader.
 *
 * "auto" never means one: whether an OpenCL device is faster than the processor is known only where
 * somebody has tried, and to look for one starts drivers and their threads in the caller's process.
 */
#include <stdio.h>

#include "opencl/cl_library.h"
#include "opencl/cl_space.h"
#include "opencl/cl_work.h"

struct tn_device {
    tn_cl_space *space;
    tenon_allocator allocator;
    size_t bytes; /* of this allocation */
    char cache[]; /* directory for built programs; "": none */
};

/* ---------------------------------------------------------------- the list */

static int count(void) {
    const tn_cl_library *library = tn_cl_library_open(NULL);
    return library ? library->count : 0;
}

static void info(int index, tenon_device_info *out) {
    tn_message why = {{0}};
    const tn_cl_library *library = tn_cl_library_open(&why);
    (void)snprintf(out->backend, sizeof out->backend, "opencl");
    (void)snprintf(out->id, sizeof out->id, index > 0 ? "opencl:%d" : "opencl", index);
    if (!library) {
        (void)snprintf(out->reason, sizeof out->reason, "%.255s", why.text);
        return;
    }
    const tn_cl *cl = &library->cl;
    const cl_device_id id = library->device[index].id;
    char version[64], driver[64];
    tn_cl_limits limits;
    tn_cl_limits_read(cl, id, &limits);
    out->usable = 1;
    out->cores = (int32_t)limits.units;
    out->memory_total = limits.memory_bytes;
    tn_cl_device_text(cl, id, CL_DEVICE_NAME, out->name, sizeof out->name);
    tn_cl_device_text(cl, id, CL_DEVICE_VENDOR, out->vendor, sizeof out->vendor);
    tn_cl_device_text(cl, id, CL_DEVICE_VERSION, version, sizeof version);
    tn_cl_device_text(cl, id, CL_DRIVER_VERSION, driver, sizeof driver);
    (void)snprintf(out->instruction_sets, sizeof out->instruction_sets,
                   "%s; driver %s; %s kernels, float%u%s%s%s%s%s", version, driver,
                   limits.family == TN_CL_CPU_LIKE ? "cpu-like" : "gpu-like",
                   (unsigned)limits.float_width, limits.fp64 ? " fp64" : "",
                   limits.fp16 ? " fp16" : "", limits.subgroups ? " subgroups" : "",
                   limits.int8_dot ? " int8-dot" : "", limits.unified ? " unified" : "");
    out->cache_l2 = limits.cache_bytes;
}

/* ---------------------------------------------------------------- opening */

static tenon_status open_device(const tn_open *how, tn_device **out, tn_message *why) {
    const char *cache = how->kernel_cache_path ? how->kernel_cache_path : "";
    const size_t bytes = sizeof(tn_device) + strlen(cache) + 1;
    const void *stray;
    *out = NULL;
    tn_device *device =
        tn_host_alloc_watched(&how->allocator, bytes, _Alignof(max_align_t), &stray);
    if (!device)
        return tn_fail_host(why, "an OpenCL device", bytes, stray, _Alignof(max_align_t));
    *device = (tn_device){.allocator = how->allocator, .bytes = bytes};
    memcpy(device->cache, cache, strlen(cache) + 1);
    const tenon_status status =
        tn_cl_space_open(how->index, how->native_context, how->native_queue, &device->space, why);
    if (status != TENON_OK)
        tn_host_free(&how->allocator, device, bytes);
    else
        *out = device;
    return status;
}

static void close_device(tn_device *device) {
    if (!device)
        return;
    tn_cl_space_release(device->space);
    const tenon_allocator allocator = device->allocator;
    tn_host_free(&allocator, device, device->bytes);
}

/* Whether programs were built that are to be kept. */
static bool has_unsaved(tn_device *device) {
    if (!device->cache[0])
        return false;
    tn_mutex_lock(&device->space->programs.lock);
    const bool any = device->space->programs.unsaved > 0;
    tn_mutex_unlock(&device->space->programs.lock);
    return any;
}

/*
 * Also keeps programs, whose kernels are finished by now. The run that built them asks for that,
 * but not on a queue of the caller's, where work may wait for what the caller does next.
 */
static tenon_status sync_device(tn_device *device, tn_message *why) {
    const tenon_status status = device->space->base.calls->wait(&device->space->base, why);
    if (status == TENON_OK && has_unsaved(device))
        tn_cl_programs_save(device->space, device->cache);
    return status;
}

static tn_space *space_of(tn_device *device) {
    return &device->space->base;
}

static tenon_status open_space(int index, tn_space **out, tn_message *why) {
    tn_cl_space *space;
    const tenon_status status = tn_cl_space_open(index, NULL, NULL, &space, why);
    *out = status == TENON_OK ? &space->base : NULL;
    return status;
}

static void native(tn_device *device, void **context, void **queue) {
    *context = device->space->context;
    *queue = device->space->queue;
}

/* ---------------------------------------------------------------- work */

static tenon_status plan(tn_device *device, tn_op op, const void *problem, int threads,
                         tn_choices *out, tn_message *why) {
    const tn_cl_limits *limits = &device->space->limits;
    (void)threads;
    out->count = 0;
    TN_TRY(tn_cl_space_check(device->space, why));
    switch (op) {
    case TN_OP_GEMM:
        return tn_cl_gemm_plan(limits, problem, out, why);
    case TN_OP_SOFTMAX:
        return tn_cl_softmax_plan(limits, problem, out, why);
    case TN_OP_ATTENTION:
        return tn_cl_attention_plan(limits, problem, out, why);
    case TN_OP_MERGE:
        return tn_cl_merge_plan(limits, problem, out, why);
    case TN_OP_APPEND:
        return tn_cl_append_plan(limits, problem, out, why);
    case TN_OP_DEQUANTIZE:
        return tn_cl_dequantize_plan(limits, problem, out);
    case TN_OP_QUANTIZE:
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "y.dtype: blocks are not yet on this device");
    case TN_OP_GEMM_PACK:
        break; /* is not planned */
    }
    return tn_fail(why, TENON_ERROR_INTERNAL, "operation %d reached opencl", (int)op);
}

static tenon_status describe(tn_cl_work *work, const tn_run *r, tn_message *why) {
    switch (r->op) {
    case TN_OP_GEMM:
        return tn_cl_gemm_run(work, r, why);
    case TN_OP_GEMM_PACK:
        return tn_cl_gemm_pack_run(work, r, why);
    case TN_OP_SOFTMAX:
        return tn_cl_softmax_run(work, r, why);
    case TN_OP_ATTENTION:
        return tn_cl_attention_run(work, r, why);
    case TN_OP_MERGE:
        return tn_cl_merge_run(work, r, why);
    case TN_OP_APPEND:
        return tn_cl_append_run(work, r, why);
    case TN_OP_DEQUANTIZE:
        return tn_cl_dequantize_run(work, r, why);
    default:
        return tn_fail(why, TENON_ERROR_INTERNAL, "operation %d reached opencl", (int)r->op);
    }
}

static tenon_status run(tn_device *device, const tn_run *r, tn_message *why) {
    tn_cl_work work;
    work.space = device->space;
    work.cache = device->cache[0] ? device->cache : NULL;
    work.count = 0;
    tenon_status status = describe(&work, r, why);
    if (status == TENON_OK)
        status = tn_cl_work_submit(&work, why);
    tn_cl_work_end(&work);
    if (status == TENON_OK && !device->space->lent_queue && has_unsaved(device))
        (void)sync_device(device, NULL);
    return status;
}

static tenon_status pack_size(tn_device *device, const tn_gemm_problem *p, size_t *bytes,
                              tn_message *why) {
    return tn_cl_gemm_pack_size(&device->space->limits, p, bytes, why);
}

static tenon_status pack_check(tn_device *device, const tn_gemm_problem *p, const void *packed,
                               size_t bytes, tn_message *why) {
    return tn_cl_gemm_pack_check(&device->space->limits, p, packed, bytes, why);
}

const tn_backend tn_backend_opencl = {
    .name = "opencl",
    .by_name = 1,
    .count = count,
    .info = info,
    .open = open_device,
    .close = close_device,
    .sync = sync_device,
    .plan = plan,
    .run = run,
    .pack_size = pack_size,
    .pack_check = pack_check,
    .space = space_of,
    .open_space = open_space,
    .native = native,
};
