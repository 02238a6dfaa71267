/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_backend.c: CUDA devices as tenon's: "cuda:0" and so on, in the order of the driver.
 *
 * "auto" never means one: operands in host memory would be copied to the device and back, which
 * only a measurement says is worth it, and a look at the driver takes a good part of a second and
 * makes forks impossible.
 */
#include <stdio.h>

#include "cuda/cu_library.h"
#include "cuda/cu_space.h"
#include "cuda/cu_work.h"

struct tn_device {
    tn_cu_space *space;
    tenon_allocator allocator;
    tn_cu_work work;
};

/* ---------------------------------------------------------------- the list */

static int count(void) {
    const tn_cu_library *library = tn_cu_library_open(NULL);
    return library ? library->count : 0;
}

static void info(int index, tenon_device_info *out) {
    tn_message why = {{0}};
    const tn_cu_library *library = tn_cu_library_open(&why);
    (void)snprintf(out->backend, sizeof out->backend, "cuda");
    (void)snprintf(out->id, sizeof out->id, index > 0 ? "cuda:%d" : "cuda", index);
    if (!library) {
        (void)snprintf(out->reason, sizeof out->reason, "%.255s", why.text);
        return;
    }
    tn_cu_limits limits;
    tn_cu_limits_read(library, library->device[index], &limits);
    if (library->cu.cuDeviceGetName(out->name, (int)sizeof out->name, library->device[index]) !=
        CUDA_SUCCESS)
        out->name[0] = 0;
    out->name[sizeof out->name - 1] = 0;
    tn_text_clean(out->name);
    (void)snprintf(out->vendor, sizeof out->vendor, "NVIDIA");
    (void)snprintf(out->instruction_sets, sizeof out->instruction_sets,
                   "sm_%d%s; capability %d.%d; driver of CUDA %d.%d", limits.code,
                   limits.hopper ? " sm_90a" : "", limits.capability / 10, limits.capability % 10,
                   library->version / 1000, library->version % 1000 / 10);
    out->cores = limits.multiprocessors;
    out->memory_total = limits.memory_bytes;
    out->cache_l2 = limits.l2_bytes;
    out->usable = limits.code > 0;
    if (!out->usable)
        (void)snprintf(out->reason, sizeof out->reason,
                       "compute capability %d.%d, for which this build has no code",
                       limits.capability / 10, limits.capability % 10);
}

/* ---------------------------------------------------------------- opening */

static tenon_status open_device(const tn_open *how, tn_device **out, tn_message *why) {
    const void *stray;
    *out = NULL;
    tn_device *device =
        tn_host_alloc_watched(&how->allocator, sizeof *device, _Alignof(tn_device), &stray);
    if (!device)
        return tn_fail_host(why, "a CUDA device", sizeof *device, stray, _Alignof(tn_device));
    device->allocator = how->allocator;
    const tenon_status status =
        tn_cu_space_open(how->index, how->native_context, how->native_queue, &device->space, why);
    device->work.space = device->space;
    if (status != TENON_OK)
        tn_host_free(&how->allocator, device, sizeof *device);
    else
        *out = device;
    return status;
}

static void close_device(tn_device *device) {
    if (!device)
        return;
    tn_cu_space_release(device->space);
    const tenon_allocator allocator = device->allocator;
    tn_host_free(&allocator, device, sizeof *device);
}

static tenon_status sync_device(tn_device *device, tn_message *why) {
    return device->space->base.calls->wait(&device->space->base, why);
}

static tn_space *space_of(tn_device *device) {
    return &device->space->base;
}

static tenon_status open_space(int index, tn_space **out, tn_message *why) {
    tn_cu_space *space;
    const tenon_status status = tn_cu_space_open(index, NULL, NULL, &space, why);
    *out = status == TENON_OK ? &space->base : NULL;
    return status;
}

static void native(tn_device *device, void **context, void **queue) {
    *context = device->space->context;
    *queue = device->space->stream;
}

/* ---------------------------------------------------------------- work */

static tenon_status plan(tn_device *device, tn_op op, const void *problem, int threads,
                         tn_choices *out, tn_message *why) {
    const tn_cu_limits *limits = &device->space->limits;
    (void)threads;
    out->count = 0;
    TN_TRY(tn_cu_space_check(device->space, why));
    switch (op) {
    case TN_OP_GEMM:
        return tn_cu_gemm_plan(limits, problem, out, why);
    case TN_OP_SOFTMAX:
        return tn_cu_softmax_plan(limits, problem, out, why);
    case TN_OP_ATTENTION:
        return tn_cu_attention_plan(limits, problem, out, why);
    case TN_OP_MERGE:
        return tn_cu_merge_plan(limits, problem, out, why);
    case TN_OP_APPEND:
        return tn_cu_append_plan(limits, problem, out, why);
    case TN_OP_DEQUANTIZE:
        return tn_cu_dequantize_plan(limits, problem, out, why);
    case TN_OP_QUANTIZE:
        return tn_fail(
            why, TENON_ERROR_UNSUPPORTED, "y.dtype is %s: blocks are not made on this device",
            tenon_dtype_name(((const tn_quantize_problem *)problem)->operand[TN_QUANTIZE_Y].dtype));
    case TN_OP_GEMM_PACK:
        break; /* is not planned */
    }
    return tn_fail(why, TENON_ERROR_INTERNAL, "operation %d reached cuda", (int)op);
}

static tenon_status describe(tn_cu_work *work, const tn_run *r, tn_message *why) {
    switch (r->op) {
    case TN_OP_GEMM:
        return tn_cu_gemm_run(work, r, why);
    case TN_OP_SOFTMAX:
        return tn_cu_softmax_run(work, r, why);
    case TN_OP_ATTENTION:
        return tn_cu_attention_run(work, r, why);
    case TN_OP_MERGE:
        return tn_cu_merge_run(work, r, why);
    case TN_OP_APPEND:
        return tn_cu_append_run(work, r, why);
    case TN_OP_GEMM_PACK:
        return tn_cu_gemm_pack_run(work, r, why);
    case TN_OP_DEQUANTIZE:
        return tn_cu_dequantize_run(work, r, why);
    default:
        return tn_fail(why, TENON_ERROR_INTERNAL, "operation %d reached cuda", (int)r->op);
    }
}

static tenon_status run(tn_device *device, const tn_run *r, tn_message *why) {
    tn_cu_work *work = &device->work;
    work->count = 0;
    work->used = 0;
    TN_TRY(tn_cu_space_enter(device->space, why));
    tenon_status status = describe(work, r, why);
    if (status == TENON_OK)
        status = tn_cu_work_submit(work, why);
    tn_cu_space_leave(device->space);
    return status;
}

static tenon_status pack_size(tn_device *device, const tn_gemm_problem *p, size_t *bytes,
                              tn_message *why) {
    (void)device;
    return tn_cu_gemm_pack_size(p, bytes, why);
}

static tenon_status pack_check(tn_device *device, const tn_gemm_problem *p, const void *packed,
                               size_t bytes, tn_message *why) {
    (void)device;
    return tn_cu_gemm_pack_check(p, packed, bytes, why);
}

const tn_backend tn_backend_cuda = {
    .name = "cuda",
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
