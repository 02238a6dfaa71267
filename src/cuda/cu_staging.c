/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_staging.c: copies between the host and a device's memory; see cu_space.h.
 *
 * They go through two halves of pinned memory, one of which is filled while the other is on its
 * way, so that the driver never has to hold on to the caller's memory. The halves are made at the
 * first copy; where they can't be had the driver copies from and to the caller's, and is waited
 * for.
 */
#include "cuda/cu_space.h"

#include <string.h>

/* Large enough that a copy's fixed cost (10 us) is little beside its time (80 us at 25 GB/s). */
enum { HALF_BYTES = 2 << 20 };

static tn_cu_space *of(tn_space *space) {
    return (tn_cu_space *)(void *)space;
}

static CUdeviceptr address_of(const tn_place *place) {
    return (CUdeviceptr)(uintptr_t)place->address;
}

/* ---------------------------------------------------------------- halves */

/* Both or none. Pre: the lock is held, current. */
static bool halves(tn_cu_space *s) {
    tn_cu_staging *g = &s->staging;
    for (int h = 0; h < 2; ++h) {
        if (g->half[h])
            continue;
        void *memory = NULL;
        CUevent done = NULL;
        if (s->cu->cuMemHostAlloc(&memory, HALF_BYTES, 0) != CUDA_SUCCESS)
            return false;
        if (s->cu->cuEventCreate(&done, CU_EVENT_DISABLE_TIMING) != CUDA_SUCCESS) {
            (void)s->cu->cuMemFreeHost(memory);
            return false;
        }
        g->half[h] = memory;
        g->done[h] = done;
    }
    return true;
}

/* Waits until a half is free. */
static CUresult await(tn_cu_space *s, int h) {
    if (!s->staging.used[h])
        return CUDA_SUCCESS;
    const CUresult code = s->cu->cuEventSynchronize(s->staging.done[h]);
    if (code == CUDA_SUCCESS)
        s->staging.used[h] = false;
    return code;
}

/* Waits for the queue; if it can't be, the device is lost: a copy may use its memory for ever. */
static CUresult finish(tn_cu_space *s) {
    return tn_cu_space_finish(s, NULL) == TENON_OK ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

/* The copy that was queued last uses a half. If that can't be noted it is waited for. */
static CUresult mark(tn_cu_space *s, int h) {
    CUresult code = s->cu->cuEventRecord(s->staging.done[h], s->stream);
    s->staging.used[h] = code == CUDA_SUCCESS;
    return code == CUDA_SUCCESS ? code : finish(s);
}

void tn_cu_staging_close(tn_cu_space *s, bool current) {
    tn_cu_staging *g = &s->staging;
    for (int h = 0; h < 2 && current; ++h) {
        if (g->done[h])
            (void)s->cu->cuEventDestroy_v2(g->done[h]);
        if (g->half[h])
            (void)s->cu->cuMemFreeHost(g->half[h]);
    }
    while (s->mappings) {
        tn_cu_mapping *m = s->mappings;
        s->mappings = m->next;
        tn_host_free(NULL, m, sizeof *m + m->bytes);
    }
}

/* ---------------------------------------------------------------- copies */

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static CUresult write_halves(tn_cu_space *s, CUdeviceptr to, const unsigned char *host,
                             size_t bytes) {
    tn_cu_staging *g = &s->staging;
    CUresult code = CUDA_SUCCESS;
    for (size_t at = 0, part; at < bytes && code == CUDA_SUCCESS; at += part) {
        const int h = g->next;
        part = smaller(bytes - at, HALF_BYTES);
        code = await(s, h);
        if (code != CUDA_SUCCESS)
            break;
        g->next = !h;
        memcpy(g->half[h], host + at, part);
        code = s->cu->cuMemcpyHtoDAsync_v2(to + at, g->half[h], part, s->stream);
        if (code == CUDA_SUCCESS)
            code = mark(s, h);
    }
    return code;
}

/* The next part is on its way while one is taken out. */
static CUresult read_halves(tn_cu_space *s, unsigned char *host, CUdeviceptr from, size_t bytes) {
    tn_cu_staging *g = &s->staging;
    const size_t parts = (bytes + HALF_BYTES - 1) / HALF_BYTES;
    CUresult code = CUDA_SUCCESS;
    for (size_t p = 0; p <= parts && code == CUDA_SUCCESS; ++p) {
        if (p < parts) {
            const size_t at = p * HALF_BYTES;
            const int h = (int)(p % 2);
            code = await(s, h);
            if (code == CUDA_SUCCESS)
                code = s->cu->cuMemcpyDtoHAsync_v2(g->half[h], from + at,
                                                   smaller(bytes - at, HALF_BYTES), s->stream);
            if (code == CUDA_SUCCESS)
                code = mark(s, h);
        }
        if (p > 0 && code == CUDA_SUCCESS) {
            const size_t at = (p - 1) * HALF_BYTES;
            code = await(s, (int)((p - 1) % 2));
            if (code == CUDA_SUCCESS)
                memcpy(host + at, g->half[(p - 1) % 2], smaller(bytes - at, HALF_BYTES));
        }
    }
    return code;
}

/* One way or the other; `to_host` NULL: to the device. */
static tenon_status copy(tn_cu_space *s, const tn_place *at, const void *from_host, void *to_host,
                         size_t bytes, tn_message *why) {
    const char *call = to_host ? "cuMemcpyDtoHAsync" : "cuMemcpyHtoDAsync";
    CUresult code;
    TN_TRY(tn_cu_space_enter(s, why));
    tenon_status status = tn_cu_space_uncaptured(s, "copies between host and device", why);
    if (status == TENON_OK) {
        tn_mutex_lock(&s->staging.lock);
        if (halves(s)) {
            code = to_host ? read_halves(s, to_host, address_of(at), bytes)
                           : write_halves(s, address_of(at), from_host, bytes);
        } else {
            code = to_host
                       ? s->cu->cuMemcpyDtoHAsync_v2(to_host, address_of(at), bytes, s->stream)
                       : s->cu->cuMemcpyHtoDAsync_v2(address_of(at), from_host, bytes, s->stream);
            if (code == CUDA_SUCCESS)
                code = finish(s);
        }
        tn_mutex_unlock(&s->staging.lock);
        status = code == CUDA_ERROR_INVALID_VALUE
                     ? tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                               "buffer is at %p, where %s finds no %zu bytes on %s", at->address,
                               call, bytes, s->base.device)
                     : tn_cu_status(s, code, call, true, why);
    }
    tn_cu_space_leave(s);
    return status;
}

tenon_status tn_cu_write(tn_space *space, const tn_place *to, const void *host, size_t bytes,
                         tn_message *why) {
    return copy(of(space), to, host, NULL, bytes, why);
}

tenon_status tn_cu_read(tn_space *space, void *host, const tn_place *from, size_t bytes,
                        tn_message *why) {
    return copy(of(space), from, NULL, host, bytes, why);
}

tenon_status tn_cu_fill(tn_space *space, const tn_place *to, unsigned char value, size_t bytes,
                        tn_message *why) {
    tn_cu_space *s = of(space);
    TN_TRY(tn_cu_space_enter(s, why));
    const CUresult code = s->cu->cuMemsetD8Async(address_of(to), value, bytes, s->stream);
    const tenon_status status = tn_cu_status(s, code, "cuMemsetD8Async", false, why);
    tn_cu_space_leave(s);
    return status;
}

/* ---------------------------------------------------------------- mappings */

tenon_status tn_cu_map(tn_space *space, const tn_place *at, size_t bytes, void **host,
                       tn_message *why) {
    tn_cu_space *s = of(space);
    *host = NULL;
    TN_TRY(tn_cu_space_check(s, why));
    tn_cu_mapping *m =
        bytes < SIZE_MAX - sizeof *m ? tn_host_alloc(NULL, sizeof *m + bytes, TN_CACHE_LINE) : NULL;
    if (!m)
        return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "no memory to map %zu bytes of %s to", bytes,
                       space->device);
    m->at = *at;
    m->bytes = bytes;
    const tenon_status status = tn_cu_read(space, m->copy, at, bytes, why);
    if (status != TENON_OK) {
        tn_host_free(NULL, m, sizeof *m + bytes);
        return status;
    }
    tn_mutex_lock(&s->lock);
    m->next = s->mappings;
    s->mappings = m;
    tn_mutex_unlock(&s->lock);
    *host = m->copy;
    return TENON_OK;
}

/* Whether a place lies in a buffer's. */
static bool is_part(const tn_place *part, size_t part_bytes, const tn_place *whole, size_t bytes) {
    const uintptr_t from = (uintptr_t)part->address, base = (uintptr_t)whole->address;
    return from >= base && part_bytes <= bytes && from - base <= bytes - part_bytes;
}

/* Also after a failure the host has its address no longer. */
tenon_status tn_cu_unmap(tn_space *space, const tn_place *at, size_t bytes, void *host,
                         tn_message *why) {
    tn_cu_space *s = of(space);
    tn_mutex_lock(&s->lock);
    tn_cu_mapping **link = &s->mappings;
    while (*link && !((*link)->copy == host && is_part(&(*link)->at, (*link)->bytes, at, bytes)))
        link = &(*link)->next;
    tn_cu_mapping *m = *link;
    if (m)
        *link = m->next;
    tn_mutex_unlock(&s->lock);
    if (!m)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "host is %p, expected an address that the buffer was mapped to", host);
    const tenon_status status = tn_cu_write(space, &m->at, m->copy, m->bytes, why);
    tn_host_free(NULL, m, sizeof *m + m->bytes);
    return status;
}
