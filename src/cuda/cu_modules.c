/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_modules.c: see cu_modules.h. The layout of a fatbin is as nvcc and cuobjdump show it; it is
 * looked into only where a driver has refused one, and then with every length checked.
 */
#include "cuda/cu_modules.h"

#include <string.h>

#include "cuda/cu_space.h"

#define TN_CU_MODULE(name, least)                                                                  \
    extern const unsigned char tn_cu_image_##name[], tn_cu_image_##name##_end[];
#include "cuda/cu_modules.def"
#undef TN_CU_MODULE

typedef struct image_row {
    const char *name;
    const unsigned char *image, *end; /* equal: no architecture of the build has it */
} image_row;

static const image_row rows[] = {
#define TN_CU_MODULE(name, least) {#name, tn_cu_image_##name, tn_cu_image_##name##_end},
#include "cuda/cu_modules.def"
#undef TN_CU_MODULE
};

enum { ROWS = sizeof rows / sizeof rows[0] };
_Static_assert((int)ROWS <= (int)TN_CU_MODULES_MOST, "a space has room for all modules");

int tn_cu_modules_code(int capability) {
    static const int archs[] = {TN_CU_ARCHS};
    int best = 0;
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; ++i)
        if (archs[i] <= capability && archs[i] > best)
            best = archs[i];
    return best;
}

bool tn_cu_modules_hopper(void) {
    return TN_CU_HOPPER;
}

/* ---------------------------------------------------------------- images */

/* What lies before an image's entries, and before each of them. */
typedef struct fatbin_header {
    uint32_t magic;
    uint16_t version, header_bytes;
    uint64_t bytes; /* of the entries */
} fatbin_header;

typedef struct fatbin_entry {
    uint16_t kind, version;
    uint32_t header_bytes;
    uint64_t bytes;
} fatbin_entry;

#define FATBIN_MAGIC 0xba55ed50u
enum { FATBIN_PTX = 1 };

/* Copies the entries that are PTX to `to` (NULL: only measures). Returns the bytes of the whole; 0:
 * this is no image as known here, or it has no PTX. */
static size_t take_ptx(const image_row *row, unsigned char *to) {
    const unsigned char *at = row->image;
    fatbin_header header;
    size_t taken = sizeof header;
    if ((size_t)(row->end - at) < sizeof header)
        return 0;
    memcpy(&header, at, sizeof header);
    if (header.magic != FATBIN_MAGIC || header.header_bytes != sizeof header ||
        header.bytes > (size_t)(row->end - at) - sizeof header)
        return 0;
    const unsigned char *const end = at + sizeof header + header.bytes;
    at += sizeof header;
    while ((size_t)(end - at) >= sizeof(fatbin_entry)) {
        fatbin_entry entry;
        memcpy(&entry, at, sizeof entry);
        if (entry.header_bytes < sizeof entry || entry.header_bytes > (size_t)(end - at) ||
            entry.bytes > (size_t)(end - at) - entry.header_bytes)
            return 0;
        const size_t whole = entry.header_bytes + (size_t)entry.bytes;
        if (entry.kind == FATBIN_PTX) {
            if (to)
                memcpy(to + taken, at, whole);
            taken += whole;
        }
        at += whole;
    }
    header.bytes = taken - sizeof header;
    if (to)
        memcpy(to, &header, sizeof header);
    return header.bytes ? taken : 0;
}

/* The driver can't use machine code of this toolkit, or finds none. */
static bool is_refused(CUresult code) {
    return code == CUDA_ERROR_INVALID_IMAGE || code == CUDA_ERROR_NO_BINARY_FOR_GPU ||
           code == CUDA_ERROR_INVALID_PTX || code == CUDA_ERROR_UNSUPPORTED_PTX_VERSION ||
           code == CUDA_ERROR_INVALID_SOURCE || code == CUDA_ERROR_JIT_COMPILER_NOT_FOUND ||
           code == CUDA_ERROR_JIT_COMPILATION_DISABLED || code == CUDA_ERROR_NOT_SUPPORTED;
}

static CUresult load_ptx(tn_cu_space *s, const image_row *row, CUmodule *out) {
    const size_t bytes = take_ptx(row, NULL);
    unsigned char *image = bytes ? tn_host_alloc(NULL, bytes, TN_CACHE_LINE) : NULL;
    if (!image)
        return bytes ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_NO_BINARY_FOR_GPU;
    (void)take_ptx(row, image);
    const CUresult code = s->cu->cuModuleLoadData(out, image);
    tn_host_free(NULL, image, bytes);
    return code;
}

static tenon_status load(tn_cu_space *s, const image_row *row, CUmodule *out, tn_message *why) {
    CUmodule id = NULL;
    if (tn_cu_space_captured(s))
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "%s: module %s is not loaded yet and can't be while the queue is captured; "
                       "run the plan once before",
                       s->base.device, row->name);
    CUresult code = row->image == row->end ? CUDA_ERROR_NO_BINARY_FOR_GPU
                                           : s->cu->cuModuleLoadData(&id, row->image);
    if (is_refused(code) && row->image != row->end)
        code = load_ptx(s, row, &id);
    if (is_refused(code))
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "%s: the driver can't use module %s (%s, driver of CUDA %d.%d)",
                       s->base.device, row->name, tn_cu_error_name(s->cu, code),
                       s->driver_version / 1000, s->driver_version % 1000 / 10);
    TN_TRY(tn_cu_status(s, code, "cuModuleLoadData", false, why));
    *out = id;
    return TENON_OK;
}

/* ---------------------------------------------------------------- kernels */

static int function_number(tn_cu_space *s, CUfunction id, CUfunction_attribute what) {
    int value = 0;
    return s->cu->cuFuncGetAttribute(&value, what, id) == CUDA_SUCCESS && value > 0 ? value : 0;
}

/* Dynamic shared memory up to what the device has beside the static one; what a driver gives
 * unasked if it refuses. */
static size_t allow_shared(tn_cu_space *s, const tn_cu_kernel *k) {
    const size_t most =
        s->limits.group_shared_max > k->shared ? s->limits.group_shared_max - k->shared : 0;
    const size_t least =
        s->limits.group_shared > k->shared ? s->limits.group_shared - k->shared : 0;
    if (most <= least)
        return least;
    return s->cu->cuFuncSetAttribute(k->id, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                     (int)most) == CUDA_SUCCESS
               ? most
               : least;
}

static tenon_status make_kernel(tn_cu_space *s, tn_cu_loaded *module, const char *module_name,
                                const char *name, const tn_cu_kernel **out, tn_message *why) {
    CUfunction id = NULL;
    const CUresult code = s->cu->cuModuleGetFunction(&id, module->id, name);
    if (code == CUDA_ERROR_NOT_FOUND)
        return tn_fail(why, TENON_ERROR_INTERNAL, "%s: module %s has no kernel %s", s->base.device,
                       module_name, name);
    if (is_refused(code))
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s: the driver can't use kernel %s (%s)",
                       s->base.device, name, tn_cu_error_name(s->cu, code));
    TN_TRY(tn_cu_status(s, code, "cuModuleGetFunction", false, why));
    const size_t bytes = sizeof(tn_cu_kernel) + strlen(name) + 1;
    tn_cu_kernel *k = tn_host_alloc_zero(NULL, bytes, TN_CACHE_LINE);
    if (!k)
        return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "no memory for kernel %s", name);
    k->bytes = bytes;
    memcpy(k->name, name, strlen(name) + 1);
    k->id = id;
    k->arch = function_number(s, id, CU_FUNC_ATTRIBUTE_PTX_VERSION);
    k->group_threads = function_number(s, id, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    k->shared = (size_t)function_number(s, id, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
    k->shared_most = allow_shared(s, k);
    k->next = module->kernels;
    module->kernels = k;
    *out = k;
    return TENON_OK;
}

static tn_cu_kernel *find_kernel(const tn_cu_loaded *module, const char *name) {
    for (tn_cu_kernel *k = module->kernels; k; k = k->next)
        if (strcmp(k->name, name) == 0)
            return k;
    return NULL;
}

static int find_row(const char *name) {
    for (int r = 0; r < (int)ROWS; ++r)
        if (strcmp(rows[r].name, name) == 0)
            return r;
    return -1;
}

tenon_status tn_cu_kernel_get(tn_cu_space *s, const char *module, const char *kernel,
                              const tn_cu_kernel **out, tn_message *why) {
    const int r = find_row(module);
    tenon_status status = TENON_OK;
    *out = NULL;
    if (r < 0)
        return tn_fail(why, TENON_ERROR_INTERNAL, "there is no module %s", module);
    tn_cu_loaded *loaded = &s->modules.loaded[r];
    tn_mutex_lock(&s->modules.lock);
    if (!loaded->id)
        status = load(s, &rows[r], &loaded->id, why);
    if (status == TENON_OK) {
        *out = find_kernel(loaded, kernel);
        if (!*out)
            status = make_kernel(s, loaded, module, kernel, out, why);
    }
    tn_mutex_unlock(&s->modules.lock);
    return status;
}

void tn_cu_modules_close(tn_cu_modules *modules, const tn_cu_space *s, bool driver) {
    for (int r = 0; r < (int)ROWS; ++r) {
        tn_cu_loaded *loaded = &modules->loaded[r];
        while (loaded->kernels) {
            tn_cu_kernel *k = loaded->kernels;
            loaded->kernels = k->next;
            tn_host_free(NULL, k, k->bytes);
        }
        if (loaded->id && driver)
            (void)s->cu->cuModuleUnload(loaded->id);
        loaded->id = NULL;
    }
}
