/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_work.c: see cu_work.h and cu_kernels.h. Limits are checked here, before anything is queued, as
 * what has been queued can't be taken back.
 */
#include "cuda/cu_work.h"

#include <string.h>

/* Of a grid, on every device since sm_30. */
enum { GRID_X_MOST = 2147483647, GRID_YZ_MOST = 65535, GROUP_Z_MOST = 64, CLUSTER_MOST = 8 };

uint64_t tn_cu_address(const tn_place *place) {
    return place ? (uint64_t)(uintptr_t)place->address : 0;
}

bool tn_cu_tensor_map(tn_cu_work *work, void *map, uint64_t address, int type, int rank,
                      const uint64_t *extent, const uint64_t *stride_bytes, const uint32_t *box,
                      int swizzle) {
    static const cuuint32_t ones[5] = {1, 1, 1, 1, 1};
    const tn_cu *cu = work->space->cu;
    cuuint64_t extents[5], strides[5];
    cuuint32_t boxes[5];
    CUtensorMap made;
    if (!cu->cuTensorMapEncodeTiled || rank < 1 || rank > 5)
        return false;
    for (int d = 0; d < rank; ++d) {
        extents[d] = extent[d];
        boxes[d] = box[d];
        if (d > 0)
            strides[d - 1] = stride_bytes[d - 1];
    }
    if (cu->cuTensorMapEncodeTiled(
            &made, (CUtensorMapDataType)type, (cuuint32_t)rank, (void *)(uintptr_t)address, extents,
            strides, boxes, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, (CUtensorMapSwizzle)swizzle,
            CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
        return false;
    memcpy(map, &made, sizeof made);
    return true;
}

/* ---------------------------------------------------------------- readying */

static tenon_status fail_limit(const tn_cu_launch *l, const char *what, size_t given, size_t most,
                               tn_message *why) {
    return tn_fail(why, TENON_ERROR_INTERNAL, "kernel %s: %s is %zu, expected at most %zu",
                   l->kernel, what, given, most);
}

static unsigned at_least_1(unsigned value) {
    return value ? value : 1;
}

static tenon_status check_cluster(const tn_cu_space *s, const tn_cu_launch *l, const tn_cu_ready *r,
                                  tn_message *why) {
    size_t blocks = 1;
    if (!r->cluster[0])
        return TENON_OK;
    for (int d = 0; d < 3; ++d) {
        blocks *= r->cluster[d];
        if (r->grid[d] % r->cluster[d] != 0)
            return tn_fail(why, TENON_ERROR_INTERNAL,
                           "kernel %s: grid %u in dimension %d, expected a multiple of %u",
                           l->kernel, r->grid[d], d, r->cluster[d]);
    }
    if (blocks > CLUSTER_MOST)
        return fail_limit(l, "blocks of a cluster", blocks, CLUSTER_MOST, why);
    if (!s->cu->cuLaunchKernelEx)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "kernel %s: the driver has no clusters",
                       l->kernel);
    return TENON_OK;
}

static tenon_status check_launch(const tn_cu_space *s, const tn_cu_launch *l, const tn_cu_ready *r,
                                 tn_message *why) {
    const tn_cu_kernel *k = r->kernel;
    const size_t threads = (size_t)r->group[0] * r->group[1] * r->group[2];
    const size_t most =
        k->group_threads ? (size_t)k->group_threads : (size_t)s->limits.group_threads;
    if (r->grid[0] > GRID_X_MOST)
        return fail_limit(l, "grid x", r->grid[0], GRID_X_MOST, why);
    for (int d = 1; d < 3; ++d)
        if (r->grid[d] > GRID_YZ_MOST)
            return fail_limit(l, d == 1 ? "grid y" : "grid z", r->grid[d], GRID_YZ_MOST, why);
    if (r->group[0] > most || r->group[1] > most || threads > most)
        return fail_limit(l, "threads of a block", threads, most, why);
    if (r->group[2] > GROUP_Z_MOST)
        return fail_limit(l, "threads in z", r->group[2], GROUP_Z_MOST, why);
    if (l->shared_bytes > k->shared_most)
        return fail_limit(l, "dynamic shared memory", l->shared_bytes, k->shared_most, why);
    return check_cluster(s, l, r, why);
}

tenon_status tn_cu_launch_add(tn_cu_work *work, const tn_cu_launch *l, tn_message *why) {
    tn_cu_space *s = work->space;
    if (work->count == TN_CU_LAUNCHES)
        return tn_fail(why, TENON_ERROR_INTERNAL, "more than %d launches in a run", TN_CU_LAUNCHES);
    if (l->parameter_bytes > TN_CU_PARAMETER_BYTES)
        return fail_limit(l, "bytes of parameters", l->parameter_bytes, TN_CU_PARAMETER_BYTES, why);
    tn_cu_ready *r = &work->ready[work->count];
    *r = (tn_cu_ready){.shared_bytes = (unsigned)l->shared_bytes,
                       .scratch_only = l->scratch_only,
                       .parameters = work->used};
    const bool cluster = l->cluster[0] || l->cluster[1] || l->cluster[2];
    for (int d = 0; d < 3; ++d) {
        r->grid[d] = at_least_1(l->grid[d]);
        r->group[d] = at_least_1(l->group[d]);
        r->cluster[d] = cluster ? at_least_1(l->cluster[d]) : 0;
    }
    TN_TRY(tn_cu_kernel_get(s, l->module, l->kernel, &r->kernel, why));
    TN_TRY(check_launch(s, l, r, why));
    memcpy(work->parameters + r->parameters, l->parameters, l->parameter_bytes);
    work->used += (l->parameter_bytes + 63) & ~(size_t)63;
    ++work->count;
    return TENON_OK;
}

/* ---------------------------------------------------------------- queueing */

static CUresult launch(tn_cu_work *work, const tn_cu_ready *r) {
    const tn_cu_space *s = work->space;
    void *parameters[] = {work->parameters + r->parameters};
    if (!r->cluster[0])
        return s->cu->cuLaunchKernel(r->kernel->id, r->grid[0], r->grid[1], r->grid[2], r->group[0],
                                     r->group[1], r->group[2], r->shared_bytes, s->stream,
                                     parameters, NULL);
    CUlaunchAttribute cluster = {
        .id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
        .value.clusterDim = {.x = r->cluster[0], .y = r->cluster[1], .z = r->cluster[2]}};
    const CUlaunchConfig config = {.gridDimX = r->grid[0],
                                   .gridDimY = r->grid[1],
                                   .gridDimZ = r->grid[2],
                                   .blockDimX = r->group[0],
                                   .blockDimY = r->group[1],
                                   .blockDimZ = r->group[2],
                                   .sharedMemBytes = r->shared_bytes,
                                   .hStream = s->stream,
                                   .attrs = &cluster,
                                   .numAttrs = 1};
    return s->cu->cuLaunchKernelEx(&config, r->kernel->id, parameters, NULL);
}

tenon_status tn_cu_work_submit(tn_cu_work *work, tn_message *why) {
    tn_cu_space *s = work->space;
    bool written = false;
    for (int i = 0; i < work->count; ++i) {
        const tn_cu_ready *r = &work->ready[i];
        CUresult code = launch(work, r);
        tenon_status status = tn_cu_status(s, code, "cuLaunchKernel", false, why);
        if (status == TENON_OK) {
            written = written || !r->scratch_only;
            continue;
        }
        if (status == TENON_ERROR_DEVICE_LOST || tn_cu_space_captured(s))
            return status; /* what was captured has not run; the graph is the caller's to drop */
        TN_TRY(tn_cu_space_finish(s, why));
        code = launch(work, r);
        status = tn_cu_status(s, code, "cuLaunchKernel", false, why);
        if (status != TENON_OK)
            return written ? tn_cu_lose(s, code, "cuLaunchKernel", why) : status;
        written = written || !r->scratch_only;
    }
    return TENON_OK;
}
