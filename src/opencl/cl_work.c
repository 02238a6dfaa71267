/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_work.c: see cl_work.h and cl_kernels.h. Limits are checked here, as drivers accept what they
 * can't do.
 */
#include "opencl/cl_work.h"

#include <assert.h>
#include <string.h>

const tn_cl_limits *tn_cl_work_limits(const tn_cl_work *work) {
    return &work->space->limits;
}

/* ---------------------------------------------------------------- arguments */

static void add_value(tn_cl_launch *l, const void *value, size_t bytes) {
    const size_t at = (l->used + 7) & ~(size_t)7;
    assert(l->args < TN_CL_ARGS && at + bytes <= TN_CL_ARGUMENT_BYTES);
    l->arg[l->args++] = (tn_cl_arg){.bytes = (uint16_t)bytes, .at = (uint16_t)at};
    memcpy(l->value + at, value, bytes);
    l->used = at + bytes;
}

void tn_cl_arg_bytes(tn_cl_launch *l, const void *value, size_t bytes) {
    add_value(l, value, bytes);
}

void tn_cl_arg_memory(tn_cl_launch *l, const tn_place *place) {
    add_value(l, &place->handle, sizeof place->handle);
}

void tn_cl_arg_place(tn_cl_launch *l, const tn_place *place) {
    const cl_ulong offset = place->offset;
    tn_cl_arg_memory(l, place);
    add_value(l, &offset, sizeof offset);
}

void tn_cl_arg_local(tn_cl_launch *l, size_t bytes) {
    const uint64_t size = bytes;
    add_value(l, &size, sizeof size);
    l->arg[l->args - 1].local = true;
    l->local_used += bytes;
}

static tenon_status set_arguments(tn_cl_space *s, const tn_cl_launch *l, cl_kernel kernel,
                                  tn_message *why) {
    for (int a = 0; a < l->args; ++a) {
        const tn_cl_arg *arg = &l->arg[a];
        const void *value = l->value + arg->at;
        uint64_t local = 0;
        if (arg->local)
            memcpy(&local, value, sizeof local);
        const cl_int code = s->cl->clSetKernelArg(
            kernel, (cl_uint)a, arg->local ? (size_t)local : arg->bytes, arg->local ? NULL : value);
        if (code != CL_SUCCESS)
            return tn_cl_status(s, code, "clSetKernelArg", false, why);
    }
    return TENON_OK;
}

/* ---------------------------------------------------------------- readying */

static tenon_status fail_limit(const tn_cl_launch *l, const char *what, size_t given, size_t most,
                               tn_message *why) {
    return tn_fail(why, TENON_ERROR_INTERNAL, "kernel %s: %s is %zu, expected at most %zu",
                   l->kernel, what, given, most);
}

static tenon_status check_limits(const tn_cl_limits *limits, const tn_cl_launch *l,
                                 tn_message *why) {
    size_t items = 1;
    bool chosen = true;
    if (l->dims < 1 || l->dims > 3)
        return tn_fail(why, TENON_ERROR_INTERNAL, "kernel %s has %d dimensions", l->kernel,
                       l->dims);
    for (int d = 0; d < l->dims; ++d) {
        const size_t local = l->local[d];
        if (l->global[d] == 0 || (local != 0 && l->global[d] % local != 0))
            return tn_fail(why, TENON_ERROR_INTERNAL,
                           "kernel %s: global size %zu in dimension %d, expected a multiple of %zu",
                           l->kernel, l->global[d], d, local);
        if (local > limits->group_extent[d])
            return fail_limit(l, "a group's extent", local, limits->group_extent[d], why);
        chosen = chosen && local == 0;
        items *= local ? local : 1;
    }
    if (!chosen && items > limits->group_items)
        return fail_limit(l, "a group's size", items, limits->group_items, why);
    if (l->local_used > limits->local_bytes)
        return fail_limit(l, "local memory", l->local_used, limits->local_bytes, why);
    if (limits->argument_bytes && l->used > limits->argument_bytes)
        return fail_limit(l, "bytes of arguments", l->used, limits->argument_bytes, why);
    return TENON_OK;
}

tenon_status tn_cl_launch_add(tn_cl_work *work, const tn_cl_launch *l, tn_message *why) {
    tn_cl_space *s = work->space;
    size_t items = 1;
    TN_TRY(tn_cl_space_check(s, why));
    TN_TRY(check_limits(&s->limits, l, why));
    if (work->count == TN_CL_LAUNCHES)
        return tn_fail(why, TENON_ERROR_INTERNAL, "more than %d launches in a run", TN_CL_LAUNCHES);
    tn_cl_ready *ready = &work->ready[work->count];
    TN_TRY(tn_cl_kernel_take(s, l, work->cache, &ready->kernel, why));
    ++work->count; /* it is given back at the end, whatever comes */
    ready->dims = l->dims;
    ready->scratch_only = l->scratch_only;
    ready->chosen = true;
    for (int d = 0; d < l->dims; ++d) {
        ready->global[d] = l->global[d];
        ready->local[d] = l->local[d] ? l->local[d] : 1;
        ready->chosen = ready->chosen && l->local[d] == 0;
        items *= ready->local[d];
    }
    if (!ready->chosen && items > ready->kernel->group_items)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "kernel %s: a group's size is %zu, the driver takes %zu", l->kernel, items,
                       ready->kernel->group_items);
    return set_arguments(s, l, ready->kernel->id, why);
}

/* ---------------------------------------------------------------- queueing */

static cl_int enqueue(tn_cl_space *s, const tn_cl_ready *r, const cl_event *gate) {
    return s->cl->clEnqueueNDRangeKernel(s->queue, r->kernel->id, (cl_uint)r->dims, NULL, r->global,
                                         r->chosen ? NULL : r->local, gate ? 1 : 0, gate, NULL);
}

static bool needs_gate(const tn_cl_work *work) {
    for (int i = 0; i + 1 < work->count; ++i)
        if (!work->ready[i].scratch_only)
            return true;
    return false;
}

static tenon_status submit_gated(tn_cl_work *work, tn_message *why) {
    tn_cl_space *s = work->space;
    cl_int code = CL_SUCCESS;
    int queued = 0;
    cl_event gate = s->cl->clCreateUserEvent(s->context, &code);
    if (!gate)
        return tn_cl_status(s, code ? code : CL_OUT_OF_HOST_MEMORY, "clCreateUserEvent", false,
                            why);
    for (; queued < work->count && code == CL_SUCCESS; ++queued)
        code = enqueue(s, &work->ready[queued], &gate);
    const tenon_status status = tn_cl_status(s, code, "clEnqueueNDRangeKernel", false, why);
    /* Below zero: what waits for it is given up by the driver, unrun. */
    const cl_int go = code == CL_SUCCESS ? CL_COMPLETE : -1;
    code = s->cl->clSetUserEventStatus(gate, go);
    (void)s->cl->clReleaseEvent(gate);
    if (code != CL_SUCCESS) /* what was queued waits for ever */
        return tn_cl_status(s, code, "clSetUserEventStatus", true, why);
    return status;
}

tenon_status tn_cl_work_submit(tn_cl_work *work, tn_message *why) {
    tn_cl_space *s = work->space;
    TN_TRY(tn_cl_space_check(s, why));
    if (needs_gate(work))
        TN_TRY(submit_gated(work, why));
    else
        for (int i = 0; i < work->count; ++i)
            TN_TRY(tn_cl_status(s, enqueue(s, &work->ready[i], NULL), "clEnqueueNDRangeKernel",
                                false, why));
    /* Only a hint: what has been queued will be run, so nothing less than a loss is a failure. */
    const cl_int code = s->cl->clFlush(s->queue);
    if (code == CL_OUT_OF_HOST_MEMORY)
        return TENON_OK;
    return tn_cl_status(s, code, "clFlush", true, why);
}

void tn_cl_work_end(tn_cl_work *work) {
    for (int i = 0; i < work->count; ++i)
        tn_cl_kernel_give(work->space, work->ready[i].kernel);
    work->count = 0;
}
