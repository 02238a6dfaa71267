/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drv_launch.c: launches, occupancy, names of errors, cuGetProcAddress.
 *
 * A launch is checked when it is asked for, as the driver does, and executed when its stream comes
 * to it. Its arguments are copied at once.
 */
#include "drv.h"

#include <stdlib.h>
#include <string.h>

static size_t up(size_t x, size_t to) {
    return (x + to - 1) / to * to;
}

/* What the hardware could not hold: 701; what the caller must not ask for: 1. */
static CUresult check(const sim_kernel *k, const CUlaunchConfig *c, const u32 cluster[3]) {
    u64 threads = (u64)c->blockDimX * c->blockDimY * c->blockDimZ;
    if (!c->gridDimX || !c->gridDimY || !c->gridDimZ || threads == 0 || threads > 1024 ||
        c->blockDimZ > 64 || c->gridDimX > 2147483647u || c->gridDimY > 65535 ||
        c->gridDimZ > 65535)
        return CUDA_ERROR_INVALID_VALUE;
    if ((k->max_threads && threads > k->max_threads) ||
        (k->required_threads && threads != k->required_threads))
        return CUDA_ERROR_INVALID_VALUE;
    /* registers are given to warps in units of 256 */
    if (up(threads, LANES) / LANES * up(k->registers * LANES, 256) > 65536)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    if (k->shared_static + c->sharedMemBytes > k->shared_limit)
        return CUDA_ERROR_INVALID_VALUE;
    u32 blocks = cluster[0] * cluster[1] * cluster[2];
    if (blocks == 0 || c->gridDimX % cluster[0] || c->gridDimY % cluster[1] ||
        c->gridDimZ % cluster[2])
        return CUDA_ERROR_INVALID_VALUE;
    if (blocks > 1 && (drv_device_limits()->arch < 90 || blocks > 8))
        return CUDA_ERROR_INVALID_CLUSTER_SIZE;
    return CUDA_SUCCESS;
}

static u8 *copy_arguments(const sim_kernel *k, void **arguments, void **extra) {
    u8 *p = sim_alloc(k->parameter_bytes);
    for (u32 n = 0; arguments && n < k->parameters; ++n)
        memcpy(p + k->parameter[n].address, arguments[n], k->parameter[n].bytes);
    for (void **x = extra; x && *x != CU_LAUNCH_PARAM_END; x += 2)
        if (x[0] == CU_LAUNCH_PARAM_BUFFER_POINTER)
            memcpy(p, x[1], k->parameter_bytes);
    return p;
}

static int blocks_per_sm(const sim_kernel *k, int threads, size_t dynamic) {
    const drv_limits *l = drv_device_limits();
    size_t warps = up((size_t)threads, LANES) / LANES;
    int n = l->blocks_per_sm, by_threads = (int)((size_t)l->threads_per_sm / (warps * LANES));
    int by_registers = k->registers ? (int)(65536 / (warps * up(k->registers * LANES, 256))) : n;
    size_t shared = k->shared_static + dynamic + (l->arch >= 80 ? 1024 : 0);
    int by_shared = shared ? (int)((size_t)l->shared_per_sm / up(shared, 128)) : n;
    n = n < by_threads ? n : by_threads;
    n = n < by_registers ? n : by_registers;
    return n < by_shared ? n : by_shared;
}

static CUresult launch(const char *name, const CUlaunchConfig *c, CUfunction f, void **arguments,
                       void **extra, bool cooperative) {
    CUresult r = drv_enter(name, true);
    if (r != CUDA_SUCCESS)
        return r;
    sim_kernel *k = (sim_kernel *)(void *)f;
    u32 cluster[3] = {1, 1, 1};
    if (!k)
        return drv_leave(CUDA_ERROR_INVALID_HANDLE);
    if (k->cluster[0])
        memcpy(cluster, k->cluster, sizeof cluster);
    for (u32 n = 0; n < c->numAttrs; ++n) {
        const CUlaunchAttribute *a = &c->attrs[n];
        if (a->id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
            cooperative |= a->value.cooperative != 0;
        else if (a->id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
            cluster[0] = a->value.clusterDim.x;
            cluster[1] = a->value.clusterDim.y;
            cluster[2] = a->value.clusterDim.z;
        }
    }
    r = check(k, c, cluster);
    u64 blocks = (u64)c->gridDimX * c->gridDimY * c->gridDimZ;
    int threads = (int)(c->blockDimX * c->blockDimY * c->blockDimZ);
    if (r == CUDA_SUCCESS && cooperative &&
        blocks > (u64)blocks_per_sm(k, threads, c->sharedMemBytes) * (u64)drv_device_limits()->sms)
        r = CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    if (r == CUDA_SUCCESS && k->parameters && !arguments && !extra)
        r = CUDA_ERROR_INVALID_VALUE;
    if (r != CUDA_SUCCESS)
        return drv_leave(r);
    const u32 most = sim_options.most_blocks / cluster[0] * cluster[0],
              across = most && c->gridDimX > most ? most : c->gridDimX;
    sim_launch *l = sim_alloc(sizeof *l);
    *l = (sim_launch){.kernel = k,
                      .grid = {across, c->gridDimY, c->gridDimZ},
                      .block = {c->blockDimX, c->blockDimY, c->blockDimZ},
                      .cluster = {cluster[0], cluster[1], cluster[2]},
                      .dynamic = c->sharedMemBytes,
                      .parameters = copy_arguments(k, arguments, extra),
                      .cooperative = cooperative,
                      .rng = sim_random(&drv.rng)};
    drv_enqueue(drv_stream(c->hStream), &(drv_command){.kind = DO_LAUNCH, .launch = l});
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuLaunchKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                        unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                        CUstream s, void **arguments, void **extra) {
    CUlaunchConfig c = {gx, gy, gz, bx, by, bz, shared, s, NULL, 0};
    return launch(__func__, &c, f, arguments, extra, false);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **arguments, void **extra) {
    return launch(__func__, c, f, arguments, extra, false);
}

CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                                   unsigned int bx, unsigned int by, unsigned int bz,
                                   unsigned int shared, CUstream s, void **arguments) {
    CUlaunchConfig c = {gx, gy, gz, bx, by, bz, shared, s, NULL, 0};
    return launch(__func__, &c, f, arguments, NULL, true);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction f, int threads,
                                                     size_t dynamic) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    *blocks = blocks_per_sm((const sim_kernel *)(void *)f, threads, dynamic);
    return drv_leave(CUDA_SUCCESS);
}

static const struct {
    CUresult code;
    const char *name;
} errors[] = {
#define ERROR(e) {e, #e},
    ERROR(CUDA_SUCCESS) ERROR(CUDA_ERROR_INVALID_VALUE) ERROR(CUDA_ERROR_OUT_OF_MEMORY) ERROR(
        CUDA_ERROR_NOT_INITIALIZED) ERROR(CUDA_ERROR_NO_DEVICE) ERROR(CUDA_ERROR_INVALID_DEVICE)
        ERROR(CUDA_ERROR_INVALID_IMAGE) ERROR(CUDA_ERROR_INVALID_CONTEXT)
            ERROR(CUDA_ERROR_ALREADY_MAPPED) ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU)
                ERROR(CUDA_ERROR_INVALID_PTX) ERROR(CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
                    ERROR(CUDA_ERROR_INVALID_HANDLE) ERROR(CUDA_ERROR_ILLEGAL_STATE)
                        ERROR(CUDA_ERROR_NOT_FOUND) ERROR(CUDA_ERROR_NOT_READY) ERROR(
                            CUDA_ERROR_ILLEGAL_ADDRESS) ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)
                            ERROR(CUDA_ERROR_LAUNCH_TIMEOUT) ERROR(CUDA_ERROR_ILLEGAL_INSTRUCTION)
                                ERROR(CUDA_ERROR_MISALIGNED_ADDRESS) ERROR(CUDA_ERROR_LAUNCH_FAILED)
                                    ERROR(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE)
                                        ERROR(CUDA_ERROR_NOT_SUPPORTED)
                                            ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
                                                ERROR(CUDA_ERROR_ECC_UNCORRECTABLE)
                                                    ERROR(CUDA_ERROR_UNKNOWN)
#undef ERROR
};

CUresult cuGetErrorName(CUresult code, const char **name) {
    for (size_t n = 0; n < sizeof errors / sizeof *errors; ++n)
        if (errors[n].code == code) {
            *name = errors[n].name;
            return CUDA_SUCCESS;
        }
    *name = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult code, const char **text) {
    return cuGetErrorName(code, text);
}

static const struct {
    const char *name;
    void *function;
} functions[] = {
#define FUNCTION(f) {#f, (void *)f},
#include "drv_functions.def"
#undef FUNCTION
};

CUresult cuGetProcAddress(const char *symbol, void **function, int version, cuuint64_t flags,
                          CUdriverProcAddressQueryResult *status) {
    (void)version, (void)flags;
    for (size_t n = 0; n < sizeof functions / sizeof *functions; ++n)
        if (strcmp(functions[n].name, symbol) == 0) {
            *function = functions[n].function;
            if (status)
                *status = CU_GET_PROC_ADDRESS_SUCCESS;
            return CUDA_SUCCESS;
        }
    *function = NULL;
    if (status)
        *status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return CUDA_ERROR_NOT_FOUND;
}
