/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_memory.c: the memory of an OpenCL device; memory/space.h has what the calls mean.
 *
 * What OpenCL 1.2 leaves undefined is not done: no two objects are made over host memory that they
 * share (section 5.2.1), and no part of an object is mapped while kernels use its other parts
 * (5.4.3): a mapping is a copy.
 */
#include <string.h>

#include "core/checked.h"
#include "opencl/cl_space.h"

static tn_cl_space *of(tn_space *space) {
    return (tn_cl_space *)(void *)space;
}

static void retain(tn_space *space) {
    tn_cl_space_retain(of(space));
}

static void release(tn_space *space) {
    tn_cl_space_release(of(space));
}

static tenon_status check(tn_space *space, tn_message *why) {
    return tn_cl_space_check(of(space), why);
}

/* ---------------------------------------------------------------- the device's own */

/* As long as work may be going on nothing may be given back, so a driver that is short of memory
 * for the waiting is asked again, and is lost if that is no help. */
static tenon_status finish(tn_cl_space *s, tn_message *why) {
    cl_int code = CL_OUT_OF_HOST_MEMORY;
    TN_TRY(tn_cl_space_check(s, why));
    for (int tries = 0; tries < 3 && code == CL_OUT_OF_HOST_MEMORY; ++tries)
        code = s->cl->clFinish(s->queue);
    return code == CL_OUT_OF_HOST_MEMORY ? tn_cl_lose(s, code, "clFinish", why)
                                         : tn_cl_status(s, code, "clFinish", true, why);
}

static tenon_status wait_for_all(tn_space *space, tn_message *why) {
    return finish(of(space), why);
}

static void drop(tn_cl_space *s, void *handle) {
    if (handle && !tn_os_forked(&s->home))
        (void)s->cl->clReleaseMemObject(handle);
}

static size_t whole_pages(size_t bytes) {
    const size_t page = tn_os_page_size();
    return (bytes + page - 1) & ~(page - 1);
}

/* Every byte is written once: drivers that find memory at its first use find it here. */
static bool device_alloc(tn_space *space, size_t bytes, tn_segment_memory *out) {
    tn_cl_space *s = of(space);
    const cl_uchar zero = 0;
    cl_int code = CL_SUCCESS;
    *out = (tn_segment_memory){.bytes = bytes};
    if (tn_cl_space_check(s, NULL) != TENON_OK)
        return false;
    out->address = tn_os_reserve(whole_pages(bytes));
    if (!out->address)
        return false;
    out->handle = s->cl->clCreateBuffer(s->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (out->handle) {
        code = s->cl->clEnqueueFillBuffer(s->queue, out->handle, &zero, 1, 0, bytes, 0, NULL, NULL);
        if (code == CL_SUCCESS && s->cl->clFinish(s->queue) == CL_SUCCESS)
            return true;
        drop(s, out->handle);
    }
    (void)tn_os_unmap(out->address, whole_pages(bytes));
    return false;
}

static void device_free(tn_space *space, const tn_segment_memory *memory) {
    drop(of(space), memory->handle);
    (void)tn_os_unmap(memory->address, whole_pages(memory->bytes));
}

/* ---------------------------------------------------------------- host memory in place */

/* Host memory that is an object of the device's now. It is in the list for as long as the driver
 * may have the object, so that there is never a second one over its bytes. */
struct tn_cl_lent {
    struct tn_cl_lent *next;
    cl_mem id;
    char *address;
    size_t bytes;
    uint32_t holders; /* 0: the driver has yet to say that it is gone */
};

/* What shares bytes with a range, or NULL. Pre: the lock is held, as below. */
static tn_cl_lent *find_overlap(const tn_cl_space *s, const void *host, size_t bytes) {
    const uintptr_t first = (uintptr_t)host;
    for (tn_cl_lent *x = s->lent; x; x = x->next)
        if (first < (uintptr_t)x->address + x->bytes && (uintptr_t)x->address < first + bytes)
            return x;
    return NULL;
}

static tenon_status lend_fresh(tn_cl_space *s, void *host, size_t bytes, tn_cl_lent **out,
                               tn_message *why) {
    cl_int code = CL_SUCCESS;
    tn_cl_lent *fresh = tn_host_alloc_zero(NULL, sizeof *fresh, TN_CACHE_LINE);
    if (!fresh)
        return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "no memory for a buffer's record");
    *fresh = (tn_cl_lent){.next = s->lent, .address = host, .bytes = bytes, .holders = 1};
    fresh->id = s->cl->clCreateBuffer(s->context, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, bytes,
                                      host, &code);
    if (!fresh->id) {
        tn_host_free(NULL, fresh, sizeof *fresh);
        if (code == CL_SUCCESS || code == CL_INVALID_BUFFER_SIZE)
            code = CL_MEM_OBJECT_ALLOCATION_FAILURE;
        return tn_cl_status(s, code, "clCreateBuffer", false, why);
    }
    s->lent = *out = fresh;
    return TENON_OK;
}

/* The same range again has the same object; what overlaps otherwise is refused. */
static tenon_status lend(tn_space *space, void *host, size_t bytes, tn_segment_memory *out,
                         tn_message *why) {
    tn_cl_space *s = of(space);
    tenon_status status = TENON_OK;
    *out = (tn_segment_memory){.address = host, .bytes = bytes};
    TN_TRY(tn_cl_space_check(s, why));
    tn_mutex_lock(&s->memory_lock);
    tn_cl_lent *x = find_overlap(s, host, bytes);
    if (!x)
        status = lend_fresh(s, host, bytes, &x, why);
    else if (x->address == host && x->bytes == bytes && x->holders > 0)
        ++x->holders;
    else
        status = tn_fail(why, TENON_ERROR_UNSUPPORTED,
                         "%zu bytes at %p overlap %zu at %p, which the device works on", bytes,
                         host, x->bytes, (void *)x->address);
    if (status == TENON_OK)
        out->handle = x->id;
    tn_mutex_unlock(&s->memory_lock);
    return status;
}

/* Pre: the lock is held, as below. */
static tn_cl_lent *find_held(const tn_cl_space *s, const void *handle) {
    for (tn_cl_lent *x = s->lent; x; x = x->next)
        if (x->id == handle && x->holders > 0)
            return x;
    return NULL;
}

static void forget_lent(tn_cl_space *s, tn_cl_lent *gone) {
    for (tn_cl_lent **at = &s->lent; *at; at = &(*at)->next)
        if (*at == gone) {
            *at = gone->next;
            tn_host_free(NULL, gone, sizeof *gone);
            return;
        }
}

/* Who waits for the end of a memory object, and its driver's thread that tells of it. */
typedef struct ending {
    _Atomic uint32_t word;
} ending;

enum { AWAITED, ENDED, ABANDONED };

static void CL_CALLBACK tell_ending(cl_mem memory, void *user) {
    ending *e = user;
    (void)memory;
    if (atomic_exchange(&e->word, ENDED) == ABANDONED)
        tn_host_free(NULL, e, sizeof *e);
    else
        tn_os_wake(&e->word, 1);
}

/*
 * Releases host memory's object on a device that was lost. A driver deletes an object only when no
 * work uses it any more, also where it could not say so, and tells when it does.
 */
static bool drop_lost(tn_cl_space *s, void *handle) {
    const uint64_t patience = 2000000000u, start = tn_os_now_ns();
    ending *e = tn_host_alloc_zero(NULL, sizeof *e, TN_CACHE_LINE);
    if (!e)
        return drop(s, handle), false;
    if (s->cl->clSetMemObjectDestructorCallback(handle, tell_ending, e) != CL_SUCCESS) {
        tn_host_free(NULL, e, sizeof *e);
        return drop(s, handle), false;
    }
    drop(s, handle);
    while (atomic_load(&e->word) == AWAITED && tn_os_now_ns() - start < patience)
        tn_os_wait_for(&e->word, AWAITED, 1000000);
    if (atomic_exchange(&e->word, ABANDONED) != ENDED)
        return false;
    tn_host_free(NULL, e, sizeof *e);
    return true;
}

/* Who lends the same bytes meanwhile has the same object, or waits until it is gone; while a device
 * that is lost keeps it, such bytes are refused. */
static bool withdraw(tn_space *space, const tn_segment_memory *memory) {
    tn_cl_space *s = of(space);
    if (tn_os_forked(&s->home))
        return true; /* the device works on the parent's */
    const bool finished = finish(s, NULL) == TENON_OK;
    tn_mutex_lock(&s->memory_lock);
    tn_cl_lent *x = find_held(s, memory->handle);
    const bool last = x && --x->holders == 0;
    if (last && finished) {
        drop(s, memory->handle);
        forget_lent(s, x);
    }
    tn_mutex_unlock(&s->memory_lock);
    if (!last || finished)
        return finished;
    if (!drop_lost(s, memory->handle))
        return false;
    tn_mutex_lock(&s->memory_lock);
    forget_lent(s, x);
    tn_mutex_unlock(&s->memory_lock);
    return true;
}

/* ---------------------------------------------------------------- foreign memory */

/* A buffer object of this context with at least so many bytes. */
static tenon_status check_object(tn_cl_space *s, cl_mem object, size_t bytes, tn_message *why) {
    const tn_cl *cl = s->cl;
    cl_mem_object_type type = 0;
    cl_context context = NULL;
    size_t size = 0;
    if (cl->clGetMemObjectInfo(object, CL_MEM_TYPE, sizeof type, &type, NULL) != CL_SUCCESS ||
        cl->clGetMemObjectInfo(object, CL_MEM_CONTEXT, sizeof context, (void *)&context, NULL) !=
            CL_SUCCESS ||
        cl->clGetMemObjectInfo(object, CL_MEM_SIZE, sizeof size, &size, NULL) != CL_SUCCESS ||
        type != CL_MEM_OBJECT_BUFFER)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT, "native is %p, expected a buffer object",
                       (void *)object);
    if (context != s->context)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "native is %p of cl_context %p, expected one of the pool's, %p",
                       (void *)object, (void *)context, (void *)s->context);
    if (bytes > size)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "bytes is %zu, expected at most the %zu of the cl_mem", bytes, size);
    return TENON_OK;
}

static tenon_status import(tn_space *space, tenon_native_kind kind, void *native, size_t bytes,
                           tn_segment_memory *out, tn_message *why) {
    tn_cl_space *s = of(space);
    *out = (tn_segment_memory){0};
    TN_TRY(tn_cl_space_check(s, why));
    if (kind == TENON_NATIVE_SVM || (kind == TENON_NATIVE_HOST && space->host_pages))
        return lend(space, native, bytes, out, why);
    if (kind != TENON_NATIVE_OPENCL)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "kind is %d, expected TENON_NATIVE_OPENCL (%d) or TENON_NATIVE_SVM (%d) for "
                       "a pool of device %s",
                       (int)kind, (int)TENON_NATIVE_OPENCL, (int)TENON_NATIVE_SVM, space->device);
    TN_TRY(check_object(s, native, bytes, why));
    void *address = tn_os_reserve(whole_pages(bytes));
    if (!address)
        return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "no room for %zu addresses", bytes);
    const tenon_status status =
        tn_cl_status(s, s->cl->clRetainMemObject(native), "clRetainMemObject", false, why);
    if (status != TENON_OK)
        (void)tn_os_unmap(address, whole_pages(bytes));
    else
        *out = (tn_segment_memory){.handle = native, .address = address, .bytes = bytes};
    return status;
}

static void forget(tn_space *space, tenon_native_kind kind, const tn_segment_memory *memory) {
    if (kind == TENON_NATIVE_OPENCL)
        device_free(space, memory);
    else
        (void)withdraw(space, memory);
}

/* ---------------------------------------------------------------- copies */

/* What a blocking copy answers. A memory that the host may not read or write is the caller's
 * mistake: nothing was queued, nothing is lost. */
static tenon_status copied(tn_cl_space *s, cl_int code, const char *call, tn_message *why) {
    if (code == CL_INVALID_OPERATION || code == CL_INVALID_VALUE || code == CL_INVALID_MEM_OBJECT)
        return tn_fail(
            why, TENON_ERROR_INVALID_ARGUMENT,
            "buffer is one that %s refuses on %s (%s), expected memory that the host may "
            "read and write",
            call, s->base.device, tn_cl_error_name(code));
    return tn_cl_status(s, code, call, true, why);
}

static tenon_status write_part(tn_space *space, const tn_place *to, const void *host, size_t bytes,
                               tn_message *why) {
    tn_cl_space *s = of(space);
    TN_TRY(tn_cl_space_check(s, why));
    const cl_int code = s->cl->clEnqueueWriteBuffer(s->queue, to->handle, CL_TRUE, to->offset,
                                                    bytes, host, 0, NULL, NULL);
    return copied(s, code, "clEnqueueWriteBuffer", why);
}

static tenon_status read_part(tn_space *space, void *host, const tn_place *from, size_t bytes,
                              tn_message *why) {
    tn_cl_space *s = of(space);
    TN_TRY(tn_cl_space_check(s, why));
    const cl_int code = s->cl->clEnqueueReadBuffer(s->queue, from->handle, CL_TRUE, from->offset,
                                                   bytes, host, 0, NULL, NULL);
    return copied(s, code, "clEnqueueReadBuffer", why);
}

static tenon_status fill(tn_space *space, const tn_place *to, unsigned char value, size_t bytes,
                         tn_message *why) {
    tn_cl_space *s = of(space);
    const cl_uchar pattern = value;
    TN_TRY(tn_cl_space_check(s, why));
    return tn_cl_status(s,
                        s->cl->clEnqueueFillBuffer(s->queue, to->handle, &pattern, 1, to->offset,
                                                   bytes, 0, NULL, NULL),
                        "clEnqueueFillBuffer", false, why);
}

/* ---------------------------------------------------------------- mappings */

/* In front of the bytes that the host has; a cache line, so that those are aligned too. */
struct tn_cl_mapping {
    struct tn_cl_mapping *next;
    tn_place at;
    size_t bytes;
};

enum { MAPPING_HEAD = TN_CACHE_LINE };
_Static_assert(sizeof(tn_cl_mapping) <= MAPPING_HEAD, "the bytes follow");

static void *bytes_of(tn_cl_mapping *m) {
    return (char *)m + MAPPING_HEAD;
}

static void free_mapping(tn_cl_mapping *m) {
    tn_host_free(NULL, m, MAPPING_HEAD + m->bytes);
}

static void keep_mapping(tn_cl_space *s, tn_cl_mapping *m) {
    tn_mutex_lock(&s->memory_lock);
    m->next = s->mappings;
    s->mappings = m;
    tn_mutex_unlock(&s->memory_lock);
}

static tenon_status map(tn_space *space, const tn_place *at, size_t bytes, void **host,
                        tn_message *why) {
    tn_cl_space *s = of(space);
    size_t total;
    *host = NULL;
    TN_TRY(tn_cl_space_check(s, why));
    tn_cl_mapping *m =
        tn_add_size(bytes, MAPPING_HEAD, &total) ? tn_host_alloc(NULL, total, TN_CACHE_LINE) : NULL;
    if (!m)
        return tn_fail(why, TENON_ERROR_OUT_OF_MEMORY, "no host memory for %zu bytes", bytes);
    *m = (tn_cl_mapping){.at = *at, .bytes = bytes};
    const tenon_status status = read_part(space, bytes_of(m), at, bytes, why);
    if (status != TENON_OK) {
        free_mapping(m);
        return status;
    }
    keep_mapping(s, m);
    *host = bytes_of(m);
    return TENON_OK;
}

/* Takes the mapping at `host` of a part of `bytes` bytes at `at` out of the list, or NULL. */
static tn_cl_mapping *take_mapping(tn_cl_space *s, const tn_place *at, size_t bytes,
                                   const void *host) {
    tn_cl_mapping *found = NULL;
    tn_mutex_lock(&s->memory_lock);
    for (tn_cl_mapping **link = &s->mappings; *link; link = &(*link)->next) {
        tn_cl_mapping *m = *link;
        if (bytes_of(m) != host)
            continue;
        if (m->at.handle == at->handle && m->at.offset >= at->offset &&
            m->at.offset - at->offset <= bytes && m->bytes <= bytes - (m->at.offset - at->offset)) {
            *link = m->next;
            found = m;
        }
        break;
    }
    tn_mutex_unlock(&s->memory_lock);
    return found;
}

static tenon_status unmap(tn_space *space, const tn_place *at, size_t bytes, void *host,
                          tn_message *why) {
    tn_cl_space *s = of(space);
    if (tn_os_forked(&s->home))
        return tn_cl_space_check(s, why);
    tn_cl_mapping *m = take_mapping(s, at, bytes, host);
    if (!m)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "host is %p, expected an address that the buffer was mapped to", host);
    const tenon_status status = write_part(space, &m->at, host, m->bytes, why);
    if (status == TENON_ERROR_OUT_OF_MEMORY)
        keep_mapping(s, m); /* the caller may try again */
    else
        free_mapping(m);
    return status;
}

void tn_cl_memory_close(tn_cl_space *s) {
    while (s->mappings) {
        tn_cl_mapping *m = s->mappings;
        s->mappings = m->next;
        free_mapping(m);
    }
    while (s->lent)
        forget_lent(s, s->lent);
}

const tn_space_calls tn_cl_space_calls = {
    .retain = retain,
    .release = release,
    .check = check,
    .alloc = device_alloc,
    .free = device_free,
    .lend = lend,
    .withdraw = withdraw,
    .import = import,
    .forget = forget,
    .write = write_part,
    .read = read_part,
    .fill = fill,
    .map = map,
    .unmap = unmap,
    .wait = wait_for_all,
};
