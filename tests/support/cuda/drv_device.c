/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drv_device.c: initialisation, devices, contexts; faults on demand; the stand-in's configuration.
 *
 * Limits of each architecture are those of the CUDA C++ Programming Guide, "Compute capabilities".
 */
#include "drv.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct drv_state drv = {
    .device = {.arch = 80, .count = 1, .memory = (size_t)1 << 30, .driver_version = 13000}};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local CUcontext stack[16];
static _Thread_local int depth;
static _Thread_local u64 stack_era;
static u64 era = 1; /* rises at standin_reset: stacks from before are empty */

static struct {
    char name[64];
    bool armed, any, sticky;
    int64_t nth;
    int result;
    int64_t nth_launch;
    int launch_result;
    int64_t made, calls;
} fault;

static const drv_limits limits[] = {
    {75, 65536, 65536, 1024, 16, 40, 4 << 20},      {80, 167936, 166912, 2048, 32, 108, 40 << 20},
    {86, 102400, 101376, 1536, 16, 84, 6 << 20},    {89, 102400, 101376, 1536, 24, 58, 48 << 20},
    {90, 233472, 232448, 2048, 32, 132, 50 << 20},  {100, 233472, 232448, 2048, 32, 148, 126 << 20},
    {120, 102400, 101376, 1536, 24, 170, 96 << 20},
};

const drv_limits *drv_device_limits(void) {
    for (size_t n = 0; n < sizeof limits / sizeof *limits; ++n)
        if (limits[n].arch == drv.device.arch)
            return &limits[n];
    return &limits[1];
}

static bool injected(const char *name) {
    ++fault.calls;
    if (!fault.armed)
        return false;
    size_t n = strlen(fault.name);
    if (!fault.any && !(strncmp(name, fault.name, n) == 0 && (name[n] == 0 || name[n] == '_')))
        return false;
    if (fault.nth > 1) {
        --fault.nth;
        return false;
    }
    if (!fault.sticky)
        fault.armed = false;
    ++fault.made;
    return true;
}

CUresult drv_enter(const char *name, bool context) {
    pthread_mutex_lock(&lock);
    CUresult r = CUDA_SUCCESS;
    if (injected(name))
        r = (CUresult)fault.result;
    else if (!drv.initialised && strcmp(name, "cuInit") != 0)
        r = CUDA_ERROR_NOT_INITIALIZED;
    else if (context && !drv_current())
        r = CUDA_ERROR_INVALID_CONTEXT;
    else if (context && drv_current()->lost)
        r = (CUresult)drv_current()->lost;
    if (r != CUDA_SUCCESS)
        pthread_mutex_unlock(&lock);
    return r;
}

CUresult drv_leave(CUresult result) {
    pthread_mutex_unlock(&lock);
    return result;
}

CUcontext drv_current(void) {
    if (stack_era != era) {
        depth = 0;
        stack_era = era;
    }
    return depth ? stack[depth - 1] : NULL;
}

int drv_forced_launch_result(void) {
    if (fault.nth_launch == 0 || --fault.nth_launch > 0)
        return 0;
    ++fault.made;
    return fault.launch_result;
}

void standin_arm(const char *function, int64_t nth, int result, bool sticky) {
    pthread_mutex_lock(&lock);
    snprintf(fault.name, sizeof fault.name, "%s", function ? function : "");
    fault.armed = true;
    fault.any = function == NULL;
    fault.nth = nth;
    fault.result = result;
    fault.sticky = sticky;
    pthread_mutex_unlock(&lock);
}

void standin_arm_launch(int64_t nth, int result) {
    pthread_mutex_lock(&lock);
    fault.nth_launch = nth;
    fault.launch_result = result;
    pthread_mutex_unlock(&lock);
}

void standin_lose_device(int result) {
    pthread_mutex_lock(&lock);
    for (CUcontext c = drv.contexts; c; c = c->next)
        c->lost = result;
    pthread_mutex_unlock(&lock);
}

int64_t standin_disarm(void) {
    pthread_mutex_lock(&lock);
    int64_t n = fault.made;
    fault.armed = false;
    fault.nth_launch = fault.made = 0;
    pthread_mutex_unlock(&lock);
    return n;
}

int64_t standin_calls(void) {
    return fault.calls;
}

standin_live standin_get_live(void) {
    return drv.live;
}

void standin_configure(const standin_device *device) {
    drv.device = *device;
    if (drv.device.arch == 0)
        drv.device.arch = 80;
    if (drv.device.count <= 0 || drv.device.count > 16)
        drv.device.count = 1;
    if (drv.device.memory == 0)
        drv.device.memory = (size_t)1 << 30;
    if (drv.device.driver_version == 0)
        drv.device.driver_version = 13000;
}

static void drop_context(CUcontext c) {
    for (CUmodule *m = &drv.modules; *m;) {
        CUmodule x = *m;
        if (x->context == c) {
            *m = x->next;
            drv_unload(x);
        } else
            m = &x->next;
    }
    for (CUstream *s = &drv.streams; *s;) {
        CUstream x = *s;
        if (x->context == c) {
            *s = x->next;
            drv_drop_stream(x);
        } else
            s = &x->next;
    }
    drv_drop_memory(c);
    for (CUcontext *x = &drv.contexts; *x; x = &(*x)->next)
        if (*x == c) {
            *x = c->next;
            break;
        }
    --drv.live.contexts;
    free(c);
}

void standin_reset(void) {
    pthread_mutex_lock(&lock);
    while (drv.contexts)
        drop_context(drv.contexts);
    drv_reset_memory();
    ++era;
    memset(&drv, 0, sizeof drv);
    memset(&fault, 0, sizeof fault);
    pthread_mutex_unlock(&lock);
    standin_configure(&(standin_device){0});
    standin_clear();
    standin_seed(1);
    standin_set_options(&(standin_options){true, true, true, true, true, UINT64_C(1) << 30, 0});
    standin_patch(NULL, 0, NULL);
}

CUresult cuInit(unsigned int flags) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
#if defined(__x86_64__) && defined(__AVX2__)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return drv_leave(CUDA_ERROR_NO_DEVICE); /* it is compiled for them */
#endif
    if (!drv.initialised)
        drv.rng = sim_seed_of(3);
    drv.initialised = true;
    return drv_leave(flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS);
}

CUresult cuDriverGetVersion(int *version) {
    *version = drv.device.driver_version;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    *count = drv.device.count;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    *device = ordinal;
    return drv_leave(ordinal >= 0 && ordinal < drv.device.count ? CUDA_SUCCESS
                                                                : CUDA_ERROR_INVALID_DEVICE);
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    snprintf(name, (size_t)length, "stand-in sm_%d #%d", drv.device.arch, device);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    memset(uuid, device + 1, sizeof *uuid);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
    (void)device;
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    *bytes = drv.device.memory;
    return drv_leave(CUDA_SUCCESS);
}

static int attribute(CUdevice_attribute a, bool *known) {
    const drv_limits *l = drv_device_limits();
    int arch = l->arch;
    *known = true;
    switch (a) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
        return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
        return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
        return 2147483647;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
        return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
        return 48 << 10;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        return l->shared_opt_in;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
        return l->shared_per_sm;
    case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK:
        return arch >= 80 ? 1024 : 0;
    case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY:
        return 65536;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
        return LANES;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
        return 65536;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
        return 1410000;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
        return 1215000;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
        return 5120;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        return drv.device.multiprocessors ? drv.device.multiprocessors : l->sms;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
        return l->l2;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
        return l->threads_per_sm;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
        return l->blocks_per_sm;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        return arch / 10;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        return arch % 10;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
    case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH:
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
    case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
        return 1;
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
        return 2;
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
        return !drv.device.no_vmm;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
        return 1;
    case CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH:
    case CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED:
        return arch >= 90;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED:
    case CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT:
    case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE:
    case CU_DEVICE_ATTRIBUTE_ECC_ENABLED:
    case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
    case CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS:
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
    case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
    case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
        return 0;
    case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT:
        return 512;
    default:
        *known = false;
        return 0;
    }
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute a, CUdevice device) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    bool known;
    if (device < 0 || device >= drv.device.count)
        return drv_leave(CUDA_ERROR_INVALID_DEVICE);
    *value = attribute(a, &known);
    if (!known)
        sim_find_ptx(STANDIN_USAGE, "", 0, "cuDeviceGetAttribute: attribute %d is not known here",
                     (int)a);
    return drv_leave(known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    *can = device != peer;
    return drv_leave(CUDA_SUCCESS);
}

static CUcontext new_context(int device, bool primary, unsigned flags) {
    CUcontext c = sim_alloc(sizeof *c);
    c->device = device;
    c->users = 1;
    c->primary = primary;
    c->flags = flags;
    c->next = drv.contexts;
    drv.contexts = c;
    ++drv.live.contexts;
    c->null_stream = drv_new_stream(c, true, 0);
    --drv.live.streams; /* only streams that somebody made are counted */
    return c;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    if (device < 0 || device >= drv.device.count)
        return drv_leave(CUDA_ERROR_INVALID_DEVICE);
    if (drv.primary[device])
        ++drv.primary[device]->users;
    else
        drv.primary[device] = new_context(device, true, 0);
    *context = drv.primary[device];
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    if (device < 0 || device >= drv.device.count || !drv.primary[device])
        return drv_leave(CUDA_ERROR_INVALID_CONTEXT);
    CUcontext c = drv.primary[device];
    if (--c->users == 0) {
        drv_drain_context(c);
        drv.primary[device] = NULL;
        drop_context(c);
    }
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    *active = drv.primary[device] != NULL;
    *flags = *active ? drv.primary[device]->flags : 0;
    return drv_leave(CUDA_SUCCESS);
}

static CUresult push(CUcontext c) {
    drv_current();
    if (depth == 16)
        return CUDA_ERROR_INVALID_VALUE;
    stack[depth++] = c;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate(CUcontext *context, CUctxCreateParams *params, unsigned int flags,
                     CUdevice device) {
    (void)params;
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    if (device < 0 || device >= drv.device.count)
        return drv_leave(CUDA_ERROR_INVALID_DEVICE);
    *context = new_context(device, false, flags);
    return drv_leave(push(*context));
}

CUresult cuCtxDestroy(CUcontext context) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    if (!context || context->primary)
        return drv_leave(CUDA_ERROR_INVALID_CONTEXT);
    drv_drain_context(context);
    if (drv_current() == context)
        --depth;
    drop_context(context);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuCtxPushCurrent(CUcontext context) {
    CUresult r = drv_enter(__func__, false);
    return r != CUDA_SUCCESS ? r : drv_leave(context ? push(context) : CUDA_ERROR_INVALID_CONTEXT);
}

CUresult cuCtxPopCurrent(CUcontext *context) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    CUcontext c = drv_current();
    if (!c)
        return drv_leave(CUDA_ERROR_INVALID_CONTEXT);
    --depth;
    if (context)
        *context = c;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuCtxSetCurrent(CUcontext context) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    if (drv_current())
        --depth;
    return drv_leave(context ? push(context) : CUDA_SUCCESS);
}

CUresult cuCtxGetCurrent(CUcontext *context) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    *context = drv_current();
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetDevice(CUdevice *device) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    *device = drv_current()->device;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned int *version) {
    (void)context;
    *version = 3020;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return CUDA_SUCCESS;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) {
    CUresult r = drv_enter(__func__, true);
    return r != CUDA_SUCCESS
               ? r
               : drv_leave(peer && flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuCtxSynchronize(void) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    if (drv_capturing())
        return drv_leave(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    return drv_leave(drv_drain_context(drv_current()));
}
