/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drv_module.c: modules from what nvcc writes, functions and their attributes.
 *
 * A module is loaded from PTX text or from a fatbin. Of a fatbin's PTX the newest that the device
 * may run is taken (an architecture with "a" only where it is the device's own), and of its machine
 * code only the numbers of registers. nvcc 13 compresses with zstd unless told not to: libzstd.so.1
 * is opened for that, so that tests run the very bytes that a library embeds.
 */
#include "drv.h"

#include <dlfcn.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

typedef struct fatbin_entry { /* as observed; fatbinary's own format isn't documented */
    u16 kind, version;        /* 1: PTX, 2: machine code */
    u32 header;
    u64 bytes;
    u32 compressed;
    u32 unknown;
    u16 minor, major;
    u32 arch;
    u32 name_at, name_bytes;
    u64 flags;
    u64 zero;
    u64 plain; /* bytes once decompressed */
} fatbin_entry;
enum { FATBIN_MAGIC = 0xba55ed50, WRAPPER_MAGIC = 0x466243b1 };
enum { FLAG_LZ4 = 0x2000, FLAG_ZSTD = 0x8000 };

static char *inflate(const u8 *from, size_t bytes, size_t plain) {
    static size_t (*decompress)(void *, size_t, const void *, size_t);
    if (!decompress) {
        void *library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
        if (library)
            decompress =
                (size_t(*)(void *, size_t, const void *, size_t))dlsym(library, "ZSTD_decompress");
    }
    if (!decompress) {
        sim_find_ptx(STANDIN_USAGE, "", 0,
                     "compressed PTX and no libzstd.so.1: build with --compress-mode=none");
        return NULL;
    }
    char *text = sim_alloc(plain + 1);
    if (decompress(text, plain, from, bytes) != plain) {
        free(text);
        return NULL;
    }
    return text;
}

/* ".target sm_90a": 901, so that it is above 900 and only for 90. */
static int target_of(const char *text) {
    const char *s = strstr(text, ".target");
    s = s ? strstr(s, "sm_") : NULL;
    if (!s)
        return -1;
    char *end;
    int arch = (int)strtol(s + 3, &end, 10) * 10;
    return *end == 'a' ? arch + 1 : *end == 'f' ? arch + 2 : arch;
}

static bool runs_here(int target) {
    int arch = drv_device_limits()->arch;
    return target % 10 == 0 ? target / 10 <= arch : target / 10 == arch;
}

static char *entry_text(const fatbin_entry *e, const u8 *payload) {
    if (e->flags & FLAG_ZSTD)
        return inflate(payload, e->compressed, e->plain);
    if (e->flags & FLAG_LZ4) {
        sim_find_ptx(STANDIN_USAGE, "", 0,
                     "PTX compressed with LZ4: build with "
                     "--compress-mode=none or size");
        return NULL;
    }
    char *text = sim_alloc(e->bytes + 1);
    memcpy(text, payload, e->bytes);
    return text;
}

/* The PTX to run, on the heap; *cubin: machine code of the nearest architecture below, or NULL. */
char *drv_find_ptx(const void *image, size_t *length, int *result, const u8 **cubin) {
    u32 magic;
    *cubin = NULL;
    *result = CUDA_ERROR_INVALID_IMAGE;
    memcpy(&magic, image, 4);
    if (magic == WRAPPER_MAGIC) {
        memcpy(&image, (const u8 *)image + 8, sizeof image);
        memcpy(&magic, image, 4);
    }
    if (magic != FATBIN_MAGIC) {
        const char *text = image;
        if (memcmp(image, ELFMAG, 4) == 0) {
            *result = CUDA_ERROR_NO_BINARY_FOR_GPU; /* machine code alone can't be executed */
            return NULL;
        }
        *length = strlen(text);
        char *copy = sim_alloc(*length + 1);
        memcpy(copy, text, *length);
        *result = runs_here(target_of(copy)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_PTX;
        return copy;
    }
    const u8 *s = image;
    u16 header;
    u64 size;
    memcpy(&header, s + 6, 2);
    memcpy(&size, s + 8, 8);
    const u8 *end = s + header + size;
    s += header;
    char *best = NULL;
    int best_target = -1;
    u32 best_cubin = 0;
    *result = CUDA_ERROR_NO_BINARY_FOR_GPU;
    while (s + sizeof(fatbin_entry) <= end) {
        fatbin_entry e;
        memcpy(&e, s, sizeof e);
        const u8 *payload = s + e.header;
        if (e.kind == 1) {
            char *text = entry_text(&e, payload);
            int target = text ? target_of(text) : -1;
            if (text && runs_here(target) && target > best_target) {
                free(best);
                best = text;
                best_target = target;
            } else
                free(text);
        } else if (e.kind == 2 && (int)e.arch <= drv_device_limits()->arch &&
                   e.arch >= best_cubin && !(e.flags & (FLAG_ZSTD | FLAG_LZ4))) {
            best_cubin = e.arch;
            *cubin = payload;
        }
        s = payload + e.bytes;
    }
    if (best) {
        *length = strlen(best);
        *result = CUDA_SUCCESS;
    }
    return best;
}

/* Attribute 0x2f of section .nv.info: pairs of a symbol and its registers. */
void drv_read_registers(sim_module *m, const u8 *cubin) {
    const Elf64_Ehdr *h = (const void *)cubin;
    if (!cubin || memcmp(h->e_ident, ELFMAG, 4) != 0)
        return;
    const Elf64_Shdr *section = (const void *)(cubin + h->e_shoff);
    const char *names = (const char *)cubin + section[h->e_shstrndx].sh_offset;
    const Elf64_Sym *symbols = NULL;
    const char *symbol_names = NULL;
    for (int n = 0; n < h->e_shnum; ++n)
        if (section[n].sh_type == SHT_SYMTAB) {
            symbols = (const void *)(cubin + section[n].sh_offset);
            symbol_names = (const char *)cubin + section[section[n].sh_link].sh_offset;
        }
    for (int n = 0; n < h->e_shnum && symbols; ++n) {
        if (strcmp(names + section[n].sh_name, ".nv.info") != 0)
            continue;
        const u8 *s = cubin + section[n].sh_offset, *end = s + section[n].sh_size;
        while (s + 4 <= end) {
            u16 bytes;
            u32 value[2];
            memcpy(&bytes, s + 2, 2);
            if (s[0] == 4 && s[1] == 0x2f && bytes == 8) {
                memcpy(value, s + 4, 8);
                sim_kernel *k = sim_module_kernel(m, symbol_names + symbols[value[0]].st_name);
                if (k)
                    k->registers = value[1];
            }
            s += s[0] == 4 ? 4 + bytes : 4;
        }
    }
}

void drv_unload(CUmodule m) {
    sim_module_free(m->sim);
    free(m);
    --drv.live.modules;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int n,
                            CUjit_option *options, void **values) {
    (void)n, (void)options, (void)values;
    CUresult r = drv_enter("cuModuleLoadData", true);
    if (r != CUDA_SUCCESS)
        return r;
    size_t length;
    int result;
    const u8 *cubin;
    char *text = drv_find_ptx(image, &length, &result, &cubin);
    if (result == CUDA_SUCCESS)
        text = sim_patched(text, &length);
    sim_module *sim = result == CUDA_SUCCESS ? sim_module_parse(text, length, &result) : NULL;
    free(text);
    if (!sim)
        return drv_leave((CUresult)result);
    drv_read_registers(sim, cubin);
    CUmodule m = sim_alloc(sizeof *m);
    m->context = drv_current();
    m->sim = sim;
    m->next = drv.modules;
    drv.modules = m;
    ++drv.live.modules;
    *module = m;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    return cuModuleLoadDataEx(module, image, 0, NULL, NULL);
}

CUresult cuModuleLoadFatBinary(CUmodule *module, const void *image) {
    return cuModuleLoadDataEx(module, image, 0, NULL, NULL);
}

CUresult cuModuleUnload(CUmodule m) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    r = drv_drain_context(drv_current());
    for (CUmodule *x = &drv.modules; *x; x = &(*x)->next)
        if (*x == m) {
            *x = m->next;
            drv_unload(m);
            return drv_leave(r);
        }
    return drv_leave(CUDA_ERROR_INVALID_HANDLE);
}

CUresult cuModuleGetFunction(CUfunction *f, CUmodule m, const char *name) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    sim_kernel *k = sim_module_kernel(m->sim, name);
    if (!k)
        return drv_leave(CUDA_ERROR_NOT_FOUND);
    if (!sim_kernel_decode(k))
        return drv_leave(CUDA_ERROR_INVALID_PTX); /* the finding names what is not known */
    *f = (CUfunction)(void *)k;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuModuleGetGlobal(CUdeviceptr *p, size_t *bytes, CUmodule m, const char *name) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    for (u32 n = 0; n < m->sim->variables; ++n) {
        const sim_variable *v = &m->sim->variable[n];
        if (strcmp(v->name, name) == 0 && (v->space == SPACE_GLOBAL || v->space == SPACE_CONST)) {
            if (p)
                *p = v->address;
            if (bytes)
                *bytes = v->bytes;
            return drv_leave(CUDA_SUCCESS);
        }
    }
    return drv_leave(CUDA_ERROR_NOT_FOUND);
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute a, CUfunction f) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    const sim_kernel *k = (const sim_kernel *)(void *)f;
    switch (a) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = k->max_threads                 ? (int)k->max_threads
                 : k->registers * 1024u > 65536 ? (int)(65536 / k->registers / 32 * 32)
                                                : 1024;
        break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
        *value = (int)k->shared_static;
        break;
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
        *value = 0;
        break;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
        *value = (int)k->local_bytes;
        break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
        *value = (int)k->registers;
        break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
        *value = (int)k->module->arch;
        break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = (int)(k->shared_limit - k->shared_static);
        break;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
        *value = (int)k->cluster[0];
        break;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
        *value = (int)k->cluster[1];
        break;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
        *value = (int)k->cluster[2];
        break;
    default:
        *value = 0;
    }
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int value) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    sim_kernel *k = (sim_kernel *)(void *)f;
    if (a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        if (value < 0 ||
            (size_t)value + k->shared_static > (size_t)drv_device_limits()->shared_opt_in)
            return drv_leave(CUDA_ERROR_INVALID_VALUE);
        k->shared_limit = (size_t)value + k->shared_static;
    }
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuFuncSetCacheConfig(CUfunction f, CUfunc_cache config) {
    (void)f, (void)config;
    CUresult r = drv_enter(__func__, true);
    return r != CUDA_SUCCESS ? r : drv_leave(CUDA_SUCCESS);
}

CUresult cuFuncGetName(const char **name, CUfunction f) {
    *name = ((const sim_kernel *)(void *)f)->name;
    return CUDA_SUCCESS;
}
