/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_memory.c: segments of a device's memory; see cu_space.h, and memory/space.h for what the calls
 * mean.
 *
 * Where the driver has virtual memory a segment is a range of addresses with pieces of memory
 * mapped into it, of which any can go back alone. A piece belongs to its mapping: its handle is
 * released as soon as it is mapped. Elsewhere a segment is one cuMemAlloc. Either way nothing
 * waits on our behalf: memory goes back when the stream has come to its end, or later, if it is
 * being captured.
 */
#include "cuda/cu_space.h"

enum {
    ALIGNMENT = 4096, /* of segments, as memory/space.h has it; cuMemAlloc promises 256 */
    /* A piece is so many granules (of 2 MiB on all devices so far): a mapping costs tens of
     * microseconds, whatever its size. */
    PIECE_GRANULES = 8
};

static tn_cu_space *of(tn_space *space) {
    return (tn_cu_space *)(void *)space;
}

/* ---------------------------------------------------------------- pieces */

static CUmemAllocationProp properties_of(const tn_cu_space *s) {
    return (CUmemAllocationProp){
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = s->device}};
}

void tn_cu_memory_open(tn_cu_space *s) {
    const tn_cu *cu = s->cu;
    const CUmemAllocationProp properties = properties_of(s);
    size_t granule = 0;
    s->base.granularity = ALIGNMENT;
    s->base.part = 0;
    if (!cu->cuMemAddressReserve || !cu->cuMemAddressFree || !cu->cuMemGetAllocationGranularity ||
        !cu->cuMemCreate || !cu->cuMemRelease || !cu->cuMemMap || !cu->cuMemUnmap ||
        !cu->cuMemSetAccess ||
        tn_cu_attribute(cu, s->device, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) ==
            0 ||
        cu->cuMemGetAllocationGranularity(&granule, &properties,
                                          CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS ||
        granule < ALIGNMENT || (granule & (granule - 1)) != 0)
        return;
    s->base.granularity = granule;
    s->base.part = granule * PIECE_GRANULES;
}

/* Where the piece that begins `at` bytes into the segment ends. */
static size_t piece_end(const tn_cu_space *s, const tn_cu_range *r, size_t at) {
    return r->bytes - at < s->base.part ? r->bytes : at + s->base.part;
}

/* Takes the memory of whole pieces away, all of which have some: every one or none. */
static bool unmap(tn_cu_space *s, tn_cu_range *r, size_t from, size_t to) {
    if (s->cu->cuMemUnmap(r->address + from, to - from) != CUDA_SUCCESS)
        return false;
    r->mapped -= to - from;
    return true;
}

static CUresult map_piece(tn_cu_space *s, tn_cu_range *r, size_t at, size_t bytes) {
    const CUmemAllocationProp properties = properties_of(s);
    CUmemGenericAllocationHandle piece;
    CUresult code = s->cu->cuMemCreate(&piece, bytes, &properties, 0);
    if (code != CUDA_SUCCESS)
        return code;
    code = s->cu->cuMemMap(r->address + at, bytes, 0, piece, 0);
    if (code == CUDA_SUCCESS)
        r->mapped += bytes;
    (void)s->cu->cuMemRelease(piece);
    return code;
}

static CUresult map_range(tn_cu_space *s, tn_cu_range *r) {
    const CUmemAccessDesc access = {.location = properties_of(s).location,
                                    .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUresult code = s->cu->cuMemAddressReserve(&r->address, r->bytes, 0, 0, 0);
    if (code != CUDA_SUCCESS)
        return code;
    size_t at = 0;
    for (size_t end; at < r->bytes && code == CUDA_SUCCESS; at = code == CUDA_SUCCESS ? end : at) {
        end = piece_end(s, r, at);
        code = map_piece(s, r, at, end - at);
    }
    if (code == CUDA_SUCCESS)
        code = s->cu->cuMemSetAccess(r->address, r->bytes, &access, 1);
    if (code != CUDA_SUCCESS) {
        if (at > 0)
            (void)unmap(s, r, 0, at);
        (void)s->cu->cuMemAddressFree(r->address, r->bytes);
    }
    return code;
}

/* ---------------------------------------------------------------- ranges */

/* Gives back what a range has. It is not in the list any more, and no work uses it. */
static void release_range(tn_cu_space *s, tn_cu_range *r) {
    if (r->obtained) {
        (void)s->cu->cuMemFree_v2(r->obtained);
    } else {
        for (size_t at = 0, end; at < r->bytes && r->mapped > 0; at = end) {
            end = piece_end(s, r, at);
            (void)unmap(s, r, at, end); /* one that has gone already is refused */
        }
        (void)s->cu->cuMemAddressFree(r->address, r->bytes);
    }
    tn_host_free(NULL, r, sizeof *r);
}

static void add_range(tn_cu_space *s, tn_cu_range *r) {
    tn_mutex_lock(&s->lock);
    r->next = s->ranges;
    s->ranges = r;
    tn_mutex_unlock(&s->lock);
}

/* The range of a segment. */
static tn_cu_range *find_range(tn_cu_space *s, const tn_segment_memory *memory) {
    tn_mutex_lock(&s->lock);
    tn_cu_range *r = s->ranges;
    while (r && (r->retired || r->address != (CUdeviceptr)(uintptr_t)memory->address))
        r = r->next;
    tn_mutex_unlock(&s->lock);
    return r;
}

/* Takes the retired ranges (`all`: every one) out of the list. */
static tn_cu_range *take_ranges(tn_cu_space *s, bool all) {
    tn_cu_range *taken = NULL;
    tn_mutex_lock(&s->lock);
    for (tn_cu_range **at = &s->ranges; *at;) {
        tn_cu_range *r = *at;
        if (!r->retired && !all) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        r->next = taken;
        taken = r;
    }
    tn_mutex_unlock(&s->lock);
    return taken;
}

/* Gives back what is retired, unless work may use it. Pre: current. */
static void reap(tn_cu_space *s) {
    tn_mutex_lock(&s->lock);
    bool any = false;
    for (const tn_cu_range *r = s->ranges; r; r = r->next)
        any = any || r->retired;
    tn_mutex_unlock(&s->lock);
    if (!any || tn_cu_space_captured(s) || !tn_cu_space_quiet(s))
        return;
    for (tn_cu_range *r = take_ranges(s, false), *next; r; r = next) {
        next = r->next;
        release_range(s, r);
    }
}

void tn_cu_memory_close(tn_cu_space *s, bool current) {
    for (tn_cu_range *r = take_ranges(s, true), *next; r; r = next) {
        next = r->next;
        if (current)
            release_range(s, r);
        else /* work may be at it for ever: it goes with the process */
            tn_host_free(NULL, r, sizeof *r);
    }
}

/* ---------------------------------------------------------------- segments */

static CUresult obtain(tn_cu_space *s, tn_cu_range *r) {
    const CUresult code = s->cu->cuMemAlloc_v2(&r->obtained, r->bytes + ALIGNMENT);
    if (code == CUDA_SUCCESS)
        r->address = (r->obtained + ALIGNMENT - 1) & ~(CUdeviceptr)(ALIGNMENT - 1);
    return code;
}

static bool alloc_entered(tn_cu_space *s, size_t bytes, tn_segment_memory *out) {
    if (tn_cu_space_captured(s))
        return false;
    reap(s);
    tn_cu_range *r = tn_host_alloc_zero(NULL, sizeof *r, TN_CACHE_LINE);
    if (!r)
        return false;
    r->bytes = bytes;
    const CUresult code = s->base.part ? map_range(s, r) : obtain(s, r);
    if (tn_cu_status(s, code, "cuMemAlloc", false, NULL) != TENON_OK) {
        tn_host_free(NULL, r, sizeof *r);
        return false;
    }
    add_range(s, r);
    void *const address = (void *)(uintptr_t)r->address;
    *out = (tn_segment_memory){.handle = address, .address = address, .bytes = bytes};
    return true;
}

bool tn_cu_memory_alloc(tn_space *space, size_t bytes, tn_segment_memory *out) {
    tn_cu_space *s = of(space);
    *out = (tn_segment_memory){.bytes = bytes};
    if (bytes > SIZE_MAX - ALIGNMENT || tn_cu_space_enter(s, NULL) != TENON_OK)
        return false;
    const bool done = alloc_entered(s, bytes, out);
    tn_cu_space_leave(s);
    return done;
}

void tn_cu_memory_free(tn_space *space, const tn_segment_memory *memory) {
    tn_cu_space *s = of(space);
    if (tn_os_forked(&s->home))
        return; /* the parent's */
    tn_cu_range *r = find_range(s, memory);
    if (!r)
        return;
    tn_mutex_lock(&s->lock);
    r->retired = true;
    tn_mutex_unlock(&s->lock);
    if (s->cu->cuCtxPushCurrent_v2(s->context) == CUDA_SUCCESS) {
        reap(s);
        tn_cu_space_leave(s);
    }
}

bool tn_cu_memory_give_part(tn_space *space, const tn_segment_memory *memory, size_t offset,
                            size_t bytes) {
    tn_cu_space *s = of(space);
    tn_cu_range *r = find_range(s, memory);
    bool given = false;
    if (!r || tn_cu_space_enter(s, NULL) != TENON_OK)
        return false;
    if (!tn_cu_space_captured(s) && tn_cu_space_quiet(s))
        given = unmap(s, r, offset, offset + bytes);
    tn_cu_space_leave(s);
    if (given && r->mapped == 0) {
        tn_mutex_lock(&s->lock);
        r->retired = true;
        tn_mutex_unlock(&s->lock);
    }
    return given;
}
