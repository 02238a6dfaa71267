/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_library.c: see cu_library.h. What a device says of itself is read in cu_limits.c.
 */
#include "cuda/cu_library.h"

#include <string.h>

#include "core/os.h"

/* The driver of CUDA 11.0: the oldest that takes the PTX in the library (cu_modules.h). */
enum { OLDEST_DRIVER = 11000 };

static struct {
    tn_os_driver driver;
    tn_cu_library library; /* once the driver is open it never changes again */
} found;

static void *find(const char *name, bool wanted, const char **missing) {
    void *const symbol = tn_os_library_symbol(found.driver.handle, name);
    if (!symbol && wanted)
        *missing = name;
    return symbol;
}

static bool load(const char *path, tn_message *why) {
    if (!found.driver.handle) {
        tn_fail(why, TENON_ERROR_NO_DEVICE, "%.200s could not be loaded", path);
        return false;
    }
    const char *missing = NULL;
#define ROW(name, wanted)                                                                          \
    {                                                                                              \
        void *const symbol = find(#name, wanted, &missing);                                        \
        memcpy(&found.library.cu.name, &symbol, sizeof symbol);                                    \
    }
#define TN_CU_FUNCTION(name) ROW(name, true)
#define TN_CU_OPTIONAL(name) ROW(name, false)
#include "cuda/cu_functions.def"
#undef TN_CU_FUNCTION
#undef TN_CU_OPTIONAL
#undef ROW
    if (missing)
        tn_fail(why, TENON_ERROR_NO_DEVICE, "%.200s has no %s", path, missing);
    return !missing;
}

static bool fail_call(const char *path, const char *call, CUresult code, tn_message *why) {
    tn_fail(why, TENON_ERROR_NO_DEVICE, "%.160s: %s answers %s (%d)", path, call,
            tn_cu_error_name(&found.library.cu, code), (int)code);
    return false;
}

static bool find_devices(const char *path, tn_message *why) {
    tn_cu_library *l = &found.library;
    int devices = 0;
    CUresult code = l->cu.cuInit(0);
    l->count = l->version = 0;
    if (code != CUDA_SUCCESS)
        return fail_call(path, "cuInit", code, why);
    code = l->cu.cuDriverGetVersion(&l->version);
    if (code != CUDA_SUCCESS)
        return fail_call(path, "cuDriverGetVersion", code, why);
    if (l->version < OLDEST_DRIVER) {
        tn_fail(why, TENON_ERROR_NO_DEVICE,
                "%.160s is the driver of CUDA %d.%d, expected at least %d.%d", path,
                l->version / 1000, l->version % 1000 / 10, OLDEST_DRIVER / 1000,
                OLDEST_DRIVER % 1000 / 10);
        return false;
    }
    code = l->cu.cuDeviceGetCount(&devices);
    if (code != CUDA_SUCCESS)
        return fail_call(path, "cuDeviceGetCount", code, why);
    for (int d = 0; d < devices && l->count < TN_CU_DEVICES; ++d)
        if (l->cu.cuDeviceGet(&l->device[l->count], d) == CUDA_SUCCESS)
            ++l->count;
    if (l->count == 0)
        tn_fail(why, TENON_ERROR_NO_DEVICE, "%.200s finds no device", path);
    return l->count > 0;
}

static bool start(const char *path, void *why) {
    return load(path, why) && find_devices(path, why);
}

const tn_cu_library *tn_cu_library_open(tn_message *why) {
    const char *named = tn_os_env("TENON_CUDA_LIBRARY");
    const char *path = named ? named : "libcuda.so.1";
    if (!path[0]) {
        tn_fail(why, TENON_ERROR_NO_DEVICE, "TENON_CUDA_LIBRARY is empty, so none is opened");
        return NULL;
    }
    const tn_os_driver_state state = tn_os_driver_open(&found.driver, path, start, why);
    if (state == TN_OS_DRIVER_OF_PARENT)
        tn_fail(why, TENON_ERROR_NO_DEVICE,
                "CUDA was asked for before this process was forked: its driver serves the parent "
                "only");
    return state == TN_OS_DRIVER_OPEN ? &found.library : NULL;
}

const char *tn_cu_error_name(const tn_cu *cu, CUresult code) {
    const char *name = NULL;
    return cu->cuGetErrorName(code, &name) == CUDA_SUCCESS && name ? name : "an unknown error";
}
