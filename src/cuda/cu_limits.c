/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_limits.c: what a device says of itself, as far as kernels are chosen by it (cu_kernels.h), and
 * which of the embedded code is for it. Called when devices are listed or opened; reads attributes
 * only, so no context is made.
 */
#include "cuda/cu_library.h"
#include "cuda/cu_modules.h"

#include <string.h>

/* With 12.0 came cuTensorMapEncodeTiled and PTX 8.0, which wgmma needs. */
enum { HOPPER_DRIVER = 12000 };

int tn_cu_attribute(const tn_cu *cu, CUdevice device, CUdevice_attribute what) {
    int value = 0;
    return cu->cuDeviceGetAttribute(&value, what, device) == CUDA_SUCCESS ? value : 0;
}

static size_t bytes_of(const tn_cu *cu, CUdevice device, CUdevice_attribute what) {
    const int value = tn_cu_attribute(cu, device, what);
    return value > 0 ? (size_t)value : 0;
}

/* Both edges of the clock carry data on all memory that these devices have. */
static double memory_speed(const tn_cu *cu, CUdevice device) {
    const double hz = 1e3 * tn_cu_attribute(cu, device, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
    return 2.0 * hz * tn_cu_attribute(cu, device, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH) /
           8.0;
}

void tn_cu_limits_read(const tn_cu_library *library, CUdevice device, tn_cu_limits *out) {
    const tn_cu *cu = &library->cu;
    size_t total = 0;
    memset(out, 0, sizeof *out);
    out->capability =
        10 * tn_cu_attribute(cu, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
        tn_cu_attribute(cu, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    out->code = tn_cu_modules_code(out->capability);
    out->hopper = out->capability == 90 && tn_cu_modules_hopper() &&
                  library->version >= HOPPER_DRIVER && cu->cuLaunchKernelEx &&
                  cu->cuTensorMapEncodeTiled;
    out->multiprocessors = tn_cu_attribute(cu, device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    out->multiprocessors += out->multiprocessors == 0;
    out->group_threads = tn_cu_attribute(cu, device, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    out->multiprocessor_threads =
        tn_cu_attribute(cu, device, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
    out->multiprocessor_registers =
        tn_cu_attribute(cu, device, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
    out->group_shared = bytes_of(cu, device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
    out->group_shared_max =
        bytes_of(cu, device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    if (out->group_shared_max < out->group_shared)
        out->group_shared_max = out->group_shared;
    out->multiprocessor_shared =
        bytes_of(cu, device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
    out->l2_bytes = bytes_of(cu, device, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    if (cu->cuDeviceTotalMem_v2(&total, device) == CUDA_SUCCESS)
        out->memory_bytes = total;
    out->clock_hz = 1e3 * tn_cu_attribute(cu, device, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
    out->memory_bytes_per_second = memory_speed(cu, device);
    out->integrated = tn_cu_attribute(cu, device, CU_DEVICE_ATTRIBUTE_INTEGRATED) != 0;
}
