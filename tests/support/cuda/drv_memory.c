/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drv_memory.c: device memory, host memory, the virtual-memory functions, copies and fills.
 *
 * The device's memory is a number of bytes that allocations and physical handles take from. Copies
 * and fills without "Async" wait, as the driver's do for device memory; the others go to a stream:
 * pinned host memory is then read and written when the stream comes to it, pageable memory is
 * read at once, and where a copy to the host will write there is poison until it does.
 */
#include "drv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { KIND_ALLOCATION, KIND_RESERVED, KIND_MAPPED, KIND_HOST, KIND_REGISTERED };
enum { GRANULE = 2 << 20 };

typedef struct region {
    int kind;
    u64 address; /* host pointers too */
    size_t bytes;
    bool accessible; /* KIND_MAPPED: cuMemSetAccess was called */
    struct handle *handle;
    CUcontext owner; /* KIND_ALLOCATION, KIND_HOST: what the memory goes with */
} region;

typedef struct handle { /* physical memory of cuMemCreate */
    int file;
    size_t bytes;
    u32 mappings;
    bool released;
} handle;

static region *regions;
static u32 count, room;

static region *find_region(int kind, u64 address) {
    for (u32 n = 0; n < count; ++n)
        if (regions[n].kind == kind && regions[n].address == address)
            return &regions[n];
    return NULL;
}

static region *add_region(int kind, u64 address, size_t bytes) {
    regions = sim_grow(regions, &room, count + 1, sizeof *regions);
    regions[count] = (region){kind, address, bytes, false, NULL, NULL};
    return &regions[count++];
}

static void remove_region(region *r) {
    *r = regions[--count];
}

static CUresult take(size_t bytes) {
    if (bytes > drv.device.memory - drv.allocated)
        return CUDA_ERROR_OUT_OF_MEMORY;
    drv.allocated += bytes;
    drv.live.bytes += bytes;
    ++drv.live.allocations;
    return CUDA_SUCCESS;
}

static void give(size_t bytes) {
    drv.allocated -= bytes;
    drv.live.bytes -= bytes;
    --drv.live.allocations;
}

static CUresult allocate(CUdeviceptr *p, size_t bytes) {
    size_t taken = (bytes + 511) / 512 * 512;
    if (bytes == 0 || !p)
        return CUDA_ERROR_INVALID_VALUE;
    if (take(taken) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    u64 address = sim_space_reserve(bytes, 256);
    if (!address || !sim_space_back(address, bytes, -1, 0)) {
        give(taken);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    sim_space_fill(address, bytes);
    add_region(KIND_ALLOCATION, address, bytes)->owner = drv_current();
    *p = address;
    return CUDA_SUCCESS;
}

CUresult drv_free(CUdeviceptr p) {
    region *r = find_region(KIND_ALLOCATION, p);
    if (!r)
        return CUDA_ERROR_INVALID_VALUE;
    sim_space_release(r->address, r->bytes);
    give((r->bytes + 511) / 512 * 512);
    remove_region(r);
    return CUDA_SUCCESS;
}

/* A context takes its memory with it; what is mapped belongs to the process. */
void drv_drop_memory(CUcontext c) {
    for (u32 n = 0; n < count;) {
        region *r = &regions[n];
        if (r->owner != c || (r->kind != KIND_ALLOCATION && r->kind != KIND_HOST)) {
            ++n;
            continue;
        }
        if (r->kind == KIND_ALLOCATION) {
            drv_free(r->address);
        } else {
            free((void *)(uintptr_t)r->address);
            remove_region(r);
            --drv.live.allocations;
        }
    }
}

static void drop_handle(handle *h) {
    if (h->mappings == 0 && h->released) {
        give(h->bytes);
        close(h->file);
        free(h);
    }
}

void drv_reset_memory(void) {
    for (u32 n = 0; n < count; ++n) {
        if (regions[n].kind == KIND_HOST)
            free((void *)(uintptr_t)regions[n].address);
        else if (regions[n].kind == KIND_MAPPED) {
            handle *h = regions[n].handle;
            --h->mappings;
            drop_handle(h);
        }
    }
    free(regions);
    regions = NULL;
    count = room = 0;
    sim_space_reset();
}

CUresult cuMemGetInfo(size_t *available, size_t *total) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    *available = drv.device.memory - drv.allocated;
    *total = drv.device.memory;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuMemAlloc(CUdeviceptr *p, size_t bytes) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    return drv_leave(drv_capturing() ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : allocate(p, bytes));
}

/* Waits for all that was queued before it, as the driver may. */
CUresult cuMemFree(CUdeviceptr p) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    if (p == 0)
        return drv_leave(CUDA_SUCCESS);
    r = drv_drain_context(drv_current());
    CUresult freed = drv_free(p);
    return drv_leave(r != CUDA_SUCCESS ? r : freed);
}

CUresult cuMemAllocAsync(CUdeviceptr *p, size_t bytes, CUstream s) {
    (void)s;
    CUresult r = drv_enter(__func__, true);
    return r != CUDA_SUCCESS ? r : drv_leave(allocate(p, bytes));
}

CUresult cuMemFreeAsync(CUdeviceptr p, CUstream s) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    if (!find_region(KIND_ALLOCATION, p))
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    drv_enqueue(drv_stream(s), &(drv_command){.kind = DO_FREE, .to = p});
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr p) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    u64 at;
    size_t n;
    if (!sim_space_find(p, &at, &n))
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    if (base)
        *base = at;
    if (bytes)
        *bytes = n;
    return drv_leave(CUDA_SUCCESS);
}

/* Host memory. */
CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned int flags) {
    (void)flags;
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    *p = bytes ? aligned_alloc(4096, (bytes + 4095) / 4096 * 4096) : NULL;
    if (!*p)
        return drv_leave(bytes ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE);
    add_region(KIND_HOST, (u64)(uintptr_t)*p, bytes)->owner = drv_current();
    ++drv.live.allocations;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuMemAllocHost(void **p, size_t bytes) {
    return cuMemHostAlloc(p, bytes, 0);
}

CUresult cuMemFreeHost(void *p) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    region *x = find_region(KIND_HOST, (u64)(uintptr_t)p);
    if (!x)
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    r = drv_drain_context(drv_current());
    free(p);
    remove_region(x);
    --drv.live.allocations;
    return drv_leave(r);
}

CUresult cuMemHostRegister(void *p, size_t bytes, unsigned int flags) {
    (void)flags;
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    if (!p || !bytes || find_region(KIND_REGISTERED, (u64)(uintptr_t)p))
        return drv_leave(p && bytes ? CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED
                                    : CUDA_ERROR_INVALID_VALUE);
    add_region(KIND_REGISTERED, (u64)(uintptr_t)p, bytes);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuMemHostUnregister(void *p) {
    CUresult r = drv_enter(__func__, true);
    if (r != CUDA_SUCCESS)
        return r;
    region *x = find_region(KIND_REGISTERED, (u64)(uintptr_t)p);
    if (x)
        remove_region(x);
    return drv_leave(x ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

bool drv_is_pinned(const void *p, size_t bytes) {
    u64 a = (u64)(uintptr_t)p;
    for (u32 n = 0; n < count; ++n)
        if ((regions[n].kind == KIND_HOST || regions[n].kind == KIND_REGISTERED) &&
            a >= regions[n].address && a + bytes <= regions[n].address + regions[n].bytes)
            return true;
    return false;
}

/* Virtual memory. */
CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *prop,
                                       CUmemAllocationGranularity_flags option) {
    (void)prop, (void)option;
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    *bytes = GRANULE;
    return drv_leave(drv.device.no_vmm ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS);
}

CUresult cuMemAddressReserve(CUdeviceptr *p, size_t bytes, size_t align, CUdeviceptr hint,
                             unsigned long long flags) {
    (void)hint;
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    if (drv.device.no_vmm)
        return drv_leave(CUDA_ERROR_NOT_SUPPORTED);
    if (bytes == 0 || bytes % GRANULE || flags)
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    *p = sim_space_reserve(bytes, align > GRANULE ? align : GRANULE);
    if (!*p)
        return drv_leave(CUDA_ERROR_OUT_OF_MEMORY);
    add_region(KIND_RESERVED, *p, bytes);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuMemAddressFree(CUdeviceptr p, size_t bytes) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    region *x = find_region(KIND_RESERVED, p);
    if (!x || x->bytes != bytes)
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    for (u32 n = 0; n < count; ++n)
        if (regions[n].kind == KIND_MAPPED && regions[n].address - p < bytes)
            return drv_leave(CUDA_ERROR_INVALID_VALUE);
    remove_region(x);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *out, size_t bytes,
                     const CUmemAllocationProp *prop, unsigned long long flags) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    if (drv.device.no_vmm)
        return drv_leave(CUDA_ERROR_NOT_SUPPORTED);
    if (bytes == 0 || bytes % GRANULE || flags || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED)
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    if (take(bytes) != CUDA_SUCCESS)
        return drv_leave(CUDA_ERROR_OUT_OF_MEMORY);
    handle *h = sim_alloc(sizeof *h);
    h->bytes = bytes;
    h->file = memfd_create("standin", MFD_CLOEXEC);
    if (h->file < 0 || ftruncate(h->file, (off_t)bytes) != 0) {
        if (h->file >= 0)
            close(h->file);
        free(h);
        give(bytes);
        return drv_leave(CUDA_ERROR_OUT_OF_MEMORY);
    }
    *out = (CUmemGenericAllocationHandle)(uintptr_t)h;
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle p) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    handle *h = (handle *)(uintptr_t)p;
    if (!h || h->released)
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    h->released = true;
    drop_handle(h);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuMemMap(CUdeviceptr p, size_t bytes, size_t offset, CUmemGenericAllocationHandle from,
                  unsigned long long flags) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    handle *h = (handle *)(uintptr_t)from;
    bool reserved = false;
    for (u32 n = 0; n < count; ++n) {
        const region *x = &regions[n];
        reserved |=
            x->kind == KIND_RESERVED && p >= x->address && p + bytes <= x->address + x->bytes;
        if (x->kind == KIND_MAPPED && p < x->address + x->bytes && x->address < p + bytes)
            return drv_leave(CUDA_ERROR_ALREADY_MAPPED);
    }
    if (!reserved || p % GRANULE || bytes != h->bytes || offset || flags)
        return drv_leave(
            CUDA_ERROR_INVALID_VALUE); /* parts of handles: not with real ones either */
    region *x = add_region(KIND_MAPPED, p, bytes);
    x->handle = h;
    ++h->mappings;
    return drv_leave(CUDA_SUCCESS);
}

/* Without it a mapping can't be used: the bytes come into being here. */
CUresult cuMemSetAccess(CUdeviceptr p, size_t bytes, const CUmemAccessDesc *desc, size_t n) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    if (n == 0 || desc->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    size_t covered = 0;
    for (u32 k = 0; k < count; ++k) {
        region *x = &regions[k];
        if (x->kind != KIND_MAPPED || x->address < p || x->address + x->bytes > p + bytes)
            continue;
        covered += x->bytes;
        if (x->accessible)
            continue;
        if (!sim_space_back(x->address, x->bytes, x->handle->file, 0))
            return drv_leave(CUDA_ERROR_OUT_OF_MEMORY);
        x->accessible = true;
        sim_space_fill(x->address, x->bytes);
    }
    return drv_leave(covered == bytes ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuMemUnmap(CUdeviceptr p, size_t bytes) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    size_t covered = 0;
    for (u32 k = 0; k < count;) {
        region *x = &regions[k];
        if (x->kind != KIND_MAPPED || x->address < p || x->address + x->bytes > p + bytes) {
            ++k;
            continue;
        }
        covered += x->bytes;
        if (x->accessible)
            sim_space_unback(x->address);
        handle *h = x->handle;
        --h->mappings;
        drop_handle(h);
        remove_region(x);
    }
    return drv_leave(covered == bytes ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

/* Copies; addresses of the devices' range are device memory, all others the host's. */
static u8 *bytes_at(u64 address, size_t bytes) {
    return sim_space_owns(address) ? sim_space_at(address, bytes) : (u8 *)(uintptr_t)address;
}

CUresult drv_copy(u64 to, u64 from, size_t bytes) {
    u8 *d = bytes_at(to, bytes);
    const u8 *s = bytes_at(from, bytes);
    if (!d || !s) {
        u64 bad = d ? from : to;
        sim_find_ptx(sim_space_was_freed(bad) ? STANDIN_FREED : STANDIN_BOUNDS, "", 0,
                     "a copy of %zu bytes %s device address 0x%llx", bytes, d ? "from" : "to",
                     (unsigned long long)bad);
        return CUDA_ERROR_INVALID_VALUE;
    }
    memmove(d, s, bytes);
    return CUDA_SUCCESS;
}

static CUresult copy_now(const char *name, u64 to, u64 from, size_t bytes) {
    CUresult r = drv_enter(name, true);
    if (r != CUDA_SUCCESS)
        return r;
    if (drv_capturing())
        return drv_leave(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CUcontext c = drv_current(); /* the null stream's order: behind all blocking streams */
    r = drv_drain(c->null_stream);
    for (CUstream s = drv.streams; s && r == CUDA_SUCCESS; s = s->next)
        if (s->context == c && s->blocking)
            r = drv_drain(s);
    return drv_leave(r != CUDA_SUCCESS || bytes == 0 ? r : drv_copy(to, from, bytes));
}

static CUresult copy_later(const char *name, u64 to, u64 from, size_t bytes, CUstream s) {
    CUresult r = drv_enter(name, true);
    if (r != CUDA_SUCCESS)
        return r;
    if (bytes == 0)
        return drv_leave(CUDA_SUCCESS);
    if (!bytes_at(to, bytes) || !bytes_at(from, bytes))
        return drv_leave(drv_copy(to, from, bytes));
    drv_command c = {.kind = DO_COPY, .to = to, .from = from, .bytes = bytes};
    if (!sim_space_owns(from) && !drv_is_pinned((void *)(uintptr_t)from, bytes)) {
        c.staged = sim_alloc(bytes);
        memcpy(c.staged, (void *)(uintptr_t)from, bytes);
    }
    if (!sim_space_owns(to) && sim_options.poison)
        memset((void *)(uintptr_t)to, 0xff, bytes);
    drv_enqueue(drv_stream(s), &c);
    return drv_leave(CUDA_SUCCESS);
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
    return copy_now(__func__, to, (u64)(uintptr_t)from, bytes);
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
    return copy_now(__func__, (u64)(uintptr_t)to, from, bytes);
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy_now(__func__, to, from, bytes);
}
CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy_now(__func__, to, from, bytes);
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream s) {
    return copy_later(__func__, to, (u64)(uintptr_t)from, bytes, s);
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream s) {
    return copy_later(__func__, (u64)(uintptr_t)to, from, bytes, s);
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s) {
    return copy_later(__func__, to, from, bytes, s);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s) {
    return copy_later(__func__, to, from, bytes, s);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                           CUcontext from_context, size_t bytes, CUstream s) {
    (void)to_context, (void)from_context;
    return copy_later(__func__, to, from, bytes, s);
}

static CUresult set(const char *name, CUdeviceptr to, u32 value, u32 width, size_t n, CUstream s,
                    bool wait) {
    CUresult r = drv_enter(name, true);
    if (r != CUDA_SUCCESS)
        return r;
    if (n == 0)
        return drv_leave(CUDA_SUCCESS);
    if (to % width || !sim_space_at(to, n * width))
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    CUstream stream = wait ? drv_current()->null_stream : drv_stream(s);
    drv_enqueue(stream, &(drv_command){
                            .kind = DO_SET, .to = to, .bytes = n, .value = value, .width = width});
    return drv_leave(wait ? drv_drain(stream) : CUDA_SUCCESS);
}

CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t n) {
    return set(__func__, to, value, 1, n, NULL, true);
}
CUresult cuMemsetD16(CUdeviceptr to, unsigned short value, size_t n) {
    return set(__func__, to, value, 2, n, NULL, true);
}
CUresult cuMemsetD32(CUdeviceptr to, unsigned int value, size_t n) {
    return set(__func__, to, value, 4, n, NULL, true);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, CUstream s) {
    return set(__func__, to, value, 1, n, s, false);
}
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t n, CUstream s) {
    return set(__func__, to, value, 2, n, s, false);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t n, CUstream s) {
    return set(__func__, to, value, 4, n, s, false);
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute a, CUdeviceptr p) {
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    u64 base = 0;
    size_t bytes = 0;
    bool device = sim_space_find(p, &base, &bytes);
    bool host = !device && drv_is_pinned((void *)(uintptr_t)p, 1);
    if (!device && !host)
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    switch (a) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *(unsigned *)data = device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
        break;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        *(CUdeviceptr *)data = p;
        break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(int *)data = 0;
        break;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        *(unsigned *)data = 0;
        break;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        *(CUdeviceptr *)data = base;
        break;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        *(size_t *)data = bytes;
        break;
    default:
        return drv_leave(CUDA_ERROR_NOT_SUPPORTED);
    }
    return drv_leave(CUDA_SUCCESS);
}
