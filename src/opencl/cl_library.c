/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_library.c: see cl_library.h. Everything that asks a driver what it is lies here; what is built
 * on the answers does not ask again.
 */
#include "opencl/cl_library.h"

#include <stdio.h>
#include <string.h>

#include "core/os.h"

/* Extension enums that OpenCL 1.2's headers lack. */
#define DEVICE_OPENCL_C_VERSION CL_DEVICE_OPENCL_C_VERSION
#define PLATFORM_NOT_FOUND_KHR (-1001)

/* ---------------------------------------------------------------- asking */

/* Reads a parameter of at most `capacity` bytes; the rest of `value` stays. */
static bool ask(const tn_cl *cl, cl_device_id id, cl_device_info what, void *value,
                size_t capacity) {
    size_t bytes = 0;
    return cl->clGetDeviceInfo(id, what, 0, NULL, &bytes) == CL_SUCCESS && bytes <= capacity &&
           cl->clGetDeviceInfo(id, what, bytes, value, NULL) == CL_SUCCESS;
}

void tn_cl_device_text(const tn_cl *cl, cl_device_id id, cl_device_info what, char *text,
                       size_t capacity) {
    char whole[1024] = "";
    if (!ask(cl, id, what, whole, sizeof whole))
        whole[0] = 0;
    whole[sizeof whole - 1] = 0;
    tn_text_clean(whole);
    (void)snprintf(text, capacity, "%s", whole);
}

uint64_t tn_cl_device_number(const tn_cl *cl, cl_device_id id, cl_device_info what) {
    uint64_t value = 0; /* little-endian, like every device here */
    return ask(cl, id, what, &value, sizeof value) ? value : 0;
}

bool tn_cl_device_has(const tn_cl *cl, cl_device_id id, const char *extension) {
    char list[8192] = "";
    const size_t length = strlen(extension);
    if (!ask(cl, id, CL_DEVICE_EXTENSIONS, list, sizeof list - 1))
        return false;
    for (const char *at = strstr(list, extension); at; at = strstr(at + length, extension))
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || at[length] == 0))
            return true;
    return false;
}

/* "OpenCL C 1.2 pocl" → 120. */
static uint32_t language_version(const tn_cl *cl, cl_device_id id) {
    char text[128];
    unsigned major = 0, minor = 0;
    tn_cl_device_text(cl, id, DEVICE_OPENCL_C_VERSION, text, sizeof text);
    const char *at = text + strcspn(text, "0123456789");
    for (; *at >= '0' && *at <= '9'; ++at)
        major = major * 10 + (unsigned)(*at - '0');
    if (*at == '.' && at[1] >= '0' && at[1] <= '9')
        minor = (unsigned)(at[1] - '0');
    return major * 100 + minor * 10;
}

static uint32_t width(const tn_cl *cl, cl_device_id id, cl_device_info what) {
    const uint64_t value = tn_cl_device_number(cl, id, what);
    return value >= 1 && value <= 64 ? (uint32_t)value : 1;
}

static tn_cl_family family_of(const tn_cl *cl, cl_device_id id) {
    const char *forced = tn_os_env("TENON_OPENCL_FAMILY");
    if (forced && strcmp(forced, "gpu") == 0)
        return TN_CL_GPU_LIKE;
    if (forced && strcmp(forced, "cpu") == 0)
        return TN_CL_CPU_LIKE;
    return tn_cl_device_number(cl, id, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU ? TN_CL_CPU_LIKE
                                                                            : TN_CL_GPU_LIKE;
}

void tn_cl_limits_read(const tn_cl *cl, cl_device_id id, tn_cl_limits *out) {
    size_t extent[16] = {0};
    memset(out, 0, sizeof *out);
    out->family = family_of(cl, id);
    out->version = language_version(cl, id);
    out->units = (uint32_t)tn_cl_device_number(cl, id, CL_DEVICE_MAX_COMPUTE_UNITS);
    out->units += out->units == 0;
    out->float_width = width(cl, id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT);
    out->double_width = width(cl, id, CL_DEVICE_NATIVE_VECTOR_WIDTH_DOUBLE);
    out->char_width = width(cl, id, CL_DEVICE_NATIVE_VECTOR_WIDTH_CHAR);
    out->group_items = (size_t)tn_cl_device_number(cl, id, CL_DEVICE_MAX_WORK_GROUP_SIZE);
    out->group_items += out->group_items == 0;
    (void)ask(cl, id, CL_DEVICE_MAX_WORK_ITEM_SIZES, extent, sizeof extent);
    for (int d = 0; d < 3; ++d)
        out->group_extent[d] = extent[d] ? extent[d] : 1;
    out->local_bytes = (size_t)tn_cl_device_number(cl, id, CL_DEVICE_LOCAL_MEM_SIZE);
    out->local_real = tn_cl_device_number(cl, id, CL_DEVICE_LOCAL_MEM_TYPE) == CL_LOCAL;
    out->argument_bytes = (size_t)tn_cl_device_number(cl, id, CL_DEVICE_MAX_PARAMETER_SIZE);
    out->alloc_bytes = tn_cl_device_number(cl, id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    out->memory_bytes = tn_cl_device_number(cl, id, CL_DEVICE_GLOBAL_MEM_SIZE);
    out->cache_bytes = tn_cl_device_number(cl, id, CL_DEVICE_GLOBAL_MEM_CACHE_SIZE);
    out->unified = tn_cl_device_number(cl, id, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
    out->fp64 = (tn_cl_device_number(cl, id, CL_DEVICE_DOUBLE_FP_CONFIG) & CL_FP_FMA) != 0;
    out->exact_divide = (tn_cl_device_number(cl, id, CL_DEVICE_SINGLE_FP_CONFIG) &
                         CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
    out->fp16 = tn_cl_device_has(cl, id, "cl_khr_fp16");
    out->subgroups = tn_cl_device_has(cl, id, "cl_khr_subgroups") ||
                     tn_cl_device_has(cl, id, "cl_intel_subgroups");
    out->int8_dot = tn_cl_device_has(cl, id, "cl_khr_integer_dot_product");
}

/* ---------------------------------------------------------------- opening */

static struct {
    tn_os_driver driver;
    tn_cl_library library; /* once the driver is open it never changes again */
} found;

static bool load(const char *path, tn_message *why) {
    if (!found.driver.handle) {
        tn_fail(why, TENON_ERROR_NO_DEVICE, "%.200s could not be loaded", path);
        return false;
    }
    const char *missing = NULL;
#define TN_CL_FIND(name)                                                                           \
    {                                                                                              \
        void *const symbol = tn_os_library_symbol(found.driver.handle, #name);                     \
        memcpy(&found.library.cl.name, &symbol, sizeof symbol);                                    \
        if (!symbol)                                                                               \
            missing = #name;                                                                       \
    }
    TN_CL_FUNCTIONS(TN_CL_FIND)
#undef TN_CL_FIND
    if (missing)
        tn_fail(why, TENON_ERROR_NO_DEVICE, "%.200s has no %s", path, missing);
    return !missing;
}

/* A device whose kernels could not be built, or not be right, is none. */
static bool can_serve(const tn_cl *cl, cl_device_id id) {
    char profile[64];
    tn_cl_device_text(cl, id, CL_DEVICE_PROFILE, profile, sizeof profile);
    return tn_cl_device_number(cl, id, CL_DEVICE_AVAILABLE) &&
           tn_cl_device_number(cl, id, CL_DEVICE_COMPILER_AVAILABLE) &&
           tn_cl_device_number(cl, id, CL_DEVICE_ENDIAN_LITTLE) &&
           strcmp(profile, "FULL_PROFILE") == 0 && language_version(cl, id) >= 120;
}

static bool find_devices(const char *path, tn_message *why) {
    tn_cl_library *l = &found.library;
    cl_platform_id platform[TN_CL_DEVICES];
    cl_uint platforms = 0, seen = 0;
    const cl_int code = l->cl.clGetPlatformIDs(TN_CL_DEVICES, platform, &platforms);
    l->count = 0;
    if (code == PLATFORM_NOT_FOUND_KHR || (code == CL_SUCCESS && platforms == 0)) {
        tn_fail(why, TENON_ERROR_NO_DEVICE, "%.200s finds no driver", path);
        return false;
    }
    if (code != CL_SUCCESS) {
        tn_fail(why, TENON_ERROR_NO_DEVICE, "%.160s: clGetPlatformIDs answers %s", path,
                tn_cl_error_name(code));
        return false;
    }
    for (cl_uint p = 0; p < platforms && p < TN_CL_DEVICES; ++p) {
        cl_device_id id[TN_CL_DEVICES];
        cl_uint ids = 0;
        if (l->cl.clGetDeviceIDs(platform[p], CL_DEVICE_TYPE_ALL, TN_CL_DEVICES, id, &ids) !=
            CL_SUCCESS)
            continue;
        for (cl_uint d = 0; d < ids && d < TN_CL_DEVICES && l->count < TN_CL_DEVICES; ++d, ++seen)
            if (can_serve(&l->cl, id[d]))
                l->device[l->count++] = (tn_cl_device){platform[p], id[d]};
    }
    if (l->count == 0)
        tn_fail(why, TENON_ERROR_NO_DEVICE,
                "%.160s: none of %u devices has OpenCL C 1.2, a compiler and the full profile",
                path, (unsigned)seen);
    return l->count > 0;
}

/* Drivers start threads when they are asked for devices: the child of a fork has drivers without
 * threads, which would be waited for in vain. */
static bool start(const char *path, void *why) {
    return load(path, why) && find_devices(path, why);
}

const tn_cl_library *tn_cl_library_open(tn_message *why) {
    const char *named = tn_os_env("TENON_OPENCL_LIBRARY");
    const char *path = named ? named : "libOpenCL.so.1";
    if (!path[0]) {
        tn_fail(why, TENON_ERROR_NO_DEVICE, "TENON_OPENCL_LIBRARY is empty, so none is opened");
        return NULL;
    }
    const tn_os_driver_state state = tn_os_driver_open(&found.driver, path, start, why);
    if (state == TN_OS_DRIVER_OF_PARENT)
        tn_fail(why, TENON_ERROR_NO_DEVICE,
                "OpenCL was opened before this process was forked: its drivers' threads are the "
                "parent's");
    return state == TN_OS_DRIVER_OPEN ? &found.library : NULL;
}

/* ---------------------------------------------------------------- names of errors */

const char *tn_cl_error_name(cl_int code) {
    switch (code) {
#define NAME(name)                                                                                 \
    case name:                                                                                     \
        return #name;
        NAME(CL_DEVICE_NOT_FOUND)
        NAME(CL_DEVICE_NOT_AVAILABLE)
        NAME(CL_COMPILER_NOT_AVAILABLE)
        NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE)
        NAME(CL_OUT_OF_RESOURCES)
        NAME(CL_OUT_OF_HOST_MEMORY)
        NAME(CL_BUILD_PROGRAM_FAILURE)
        NAME(CL_MAP_FAILURE)
        NAME(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)
        NAME(CL_INVALID_VALUE)
        NAME(CL_INVALID_DEVICE)
        NAME(CL_INVALID_CONTEXT)
        NAME(CL_INVALID_QUEUE_PROPERTIES)
        NAME(CL_INVALID_COMMAND_QUEUE)
        NAME(CL_INVALID_HOST_PTR)
        NAME(CL_INVALID_MEM_OBJECT)
        NAME(CL_INVALID_BINARY)
        NAME(CL_INVALID_BUILD_OPTIONS)
        NAME(CL_INVALID_PROGRAM)
        NAME(CL_INVALID_PROGRAM_EXECUTABLE)
        NAME(CL_INVALID_KERNEL_NAME)
        NAME(CL_INVALID_KERNEL)
        NAME(CL_INVALID_ARG_INDEX)
        NAME(CL_INVALID_ARG_VALUE)
        NAME(CL_INVALID_ARG_SIZE)
        NAME(CL_INVALID_KERNEL_ARGS)
        NAME(CL_INVALID_WORK_DIMENSION)
        NAME(CL_INVALID_WORK_GROUP_SIZE)
        NAME(CL_INVALID_WORK_ITEM_SIZE)
        NAME(CL_INVALID_GLOBAL_OFFSET)
        NAME(CL_INVALID_EVENT_WAIT_LIST)
        NAME(CL_INVALID_EVENT)
        NAME(CL_INVALID_OPERATION)
        NAME(CL_INVALID_BUFFER_SIZE)
        NAME(CL_INVALID_GLOBAL_WORK_SIZE)
#undef NAME
    default:
        return code == PLATFORM_NOT_FOUND_KHR ? "CL_PLATFORM_NOT_FOUND_KHR" : "an unknown error";
    }
}
