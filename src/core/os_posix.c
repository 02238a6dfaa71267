/* SPDX-License-Identifier: Apache-2.0 */
/*
 * os_posix.c: the part of os.h that POSIX answers: heap, pages, hooks, clock, files,
 * threads.
 *
 * Called by the core, the pools and the teams. The limits of this process and what only Linux has
 * are in os_linux.c.
 */
#include "core/os.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/*
 * Kernels keep their tiles in registers and their panels in the workspace; the deepest frame is a
 * driver's. 512 KiB is room for those and for sanitizers, and is address space until touched.
 */
#define THREAD_STACK_BYTES ((size_t)512 << 10)

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

void *tn_os_alloc(size_t bytes, size_t alignment) {
    if (bytes == 0)
        bytes = 1;
    if (alignment <= _Alignof(max_align_t))
        return malloc(bytes);
    void *memory = NULL;
    return posix_memalign(&memory, alignment, bytes) == 0 ? memory : NULL;
}

void tn_os_free(void *memory, size_t bytes) {
    (void)bytes;
    free(memory);
}

size_t tn_os_page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void *map_pages(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/*
 * Maps more than was asked for and cuts off what lies before and after the aligned part. Cutting
 * may fail (the system limits the number of mappings); then all of it goes back and the caller does
 * without alignment.
 */
static void *map_aligned(size_t bytes, size_t alignment) {
    if (bytes > SIZE_MAX - alignment)
        return NULL;
    char *whole = map_pages(bytes + alignment);
    if (!whole)
        return NULL;
    size_t head = (alignment - (uintptr_t)whole % alignment) % alignment;
    size_t tail = alignment - head;
    if (head && munmap(whole, head) != 0) {
        munmap(whole, bytes + alignment);
        return NULL;
    }
    if (munmap(whole + head + bytes, tail) != 0) {
        munmap(whole + head, bytes + tail);
        return NULL;
    }
    return whole + head;
}

void *tn_os_map(size_t bytes, bool huge) {
    void *memory = NULL;
    if (huge && bytes >= HUGE_PAGE_BYTES)
        memory = map_aligned(bytes, HUGE_PAGE_BYTES);
    if (!memory)
        memory = map_pages(bytes);
#ifdef MADV_HUGEPAGE
    if (memory && huge)
        (void)madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

void *tn_os_reserve(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

bool tn_os_unmap(void *memory, size_t bytes) {
    return !memory || munmap(memory, bytes) == 0;
}

bool tn_os_touch(void *memory, size_t bytes) {
    size_t page = tn_os_page_size();
    char *first = memory, *end = first + bytes;
#ifdef MADV_POPULATE_WRITE
    /* The advice is for whole pages. It writes nothing, so what else they hold stays. */
    char *from = first - (uintptr_t)first % page;
    for (;;) {
        if (madvise(from, (size_t)(end - from), MADV_POPULATE_WRITE) == 0)
            return true;
        if (errno == EINVAL) /* a kernel before 5.14, or memory of a special kind */
            break;
        if (errno != EAGAIN && errno != EINTR)
            return false;
    }
#endif
    for (char *at = first; at < end; at += page)
        *(volatile char *)at = 0;
    if (bytes != 0)
        *(volatile char *)(end - 1) = 0;
    return true;
}

bool tn_os_pin(void *memory, size_t bytes) {
    return mlock(memory, bytes) == 0;
}

void tn_os_unpin(void *memory, size_t bytes) {
    munlock(memory, bytes);
}

uint32_t tn_os_process_id(void) {
    return (uint32_t)getpid();
}

void *tn_host_alloc_watched(const tenon_allocator *hooks, size_t bytes, size_t alignment,
                            const void **stray) {
    *stray = NULL;
    if (!hooks || !hooks->alloc)
        return tn_os_alloc(bytes, alignment);
    void *memory = hooks->alloc(hooks->user, bytes, alignment);
    if (memory && (uintptr_t)memory % alignment != 0) {
        *stray = memory;
        hooks->free(hooks->user, memory, bytes);
        return NULL;
    }
    return memory;
}

void *tn_host_alloc(const tenon_allocator *hooks, size_t bytes, size_t alignment) {
    const void *stray;
    return tn_host_alloc_watched(hooks, bytes, alignment, &stray);
}

void *tn_host_alloc_zero(const tenon_allocator *hooks, size_t bytes, size_t alignment) {
    void *memory = tn_host_alloc(hooks, bytes, alignment);
    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

void tn_host_free(const tenon_allocator *hooks, void *memory, size_t bytes) {
    if (!memory)
        return;
    if (hooks && hooks->alloc)
        hooks->free(hooks->user, memory, bytes);
    else
        tn_os_free(memory, bytes);
}

uint64_t tn_os_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

const char *tn_os_env(const char *name) {
    return getenv(name);
}

int tn_os_read_text(const char *path, char *text, size_t capacity) {
    if (capacity == 0 || capacity > INT_MAX)
        return -1;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    size_t length = 0;
    int result = -1;
    for (;;) {
        ssize_t got = read(file, text + length, capacity - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            break;
        length += (size_t)got;
        if (length == capacity) /* no room left for the final 0 */
            break;
        if (got == 0) {
            text[length] = 0;
            result = (int)length;
            break;
        }
    }
    close(file);
    return result;
}

int64_t tn_os_read_file(const char *path, uint64_t offset, void *memory, size_t bytes) {
    size_t length = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    while (length < bytes) {
        const off_t at = (off_t)(offset + length);
        ssize_t got = pread(file, (char *)memory + length, bytes - length, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    close(file);
    return (int64_t)length;
}

static bool write_all(int file, const void *memory, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t put = write(file, (const char *)memory + done, bytes - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        done += (size_t)put;
    }
    return true;
}

bool tn_os_replace_file(const char *path, const void *head, size_t head_bytes, const void *body,
                        size_t body_bytes) {
    /* Beside it, under a name that no other process or thread uses now. */
    char fresh[PATH_MAX];
    const int n =
        snprintf(fresh, sizeof fresh, "%s.%u.%d", path, (unsigned)getpid(), tn_os_thread_id());
    if (n < 0 || (size_t)n >= sizeof fresh)
        return false;
    int file = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0)
        return false;
    bool done = write_all(file, head, head_bytes) && write_all(file, body, body_bytes);
    done = close(file) == 0 && done;
    done = done && rename(fresh, path) == 0;
    if (!done)
        unlink(fresh);
    return done;
}

void *tn_os_library_open(const char *path) {
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

void *tn_os_library_symbol(void *library, const char *name) {
    return dlsym(library, name);
}

void tn_os_library_close(void *library) {
    dlclose(library);
}

/* The process that comes first says so before it takes the lock, which a child may find taken by a
 * thread that it has not got. */
tn_os_driver_state tn_os_driver_open(tn_os_driver *driver, const char *path,
                                     bool (*start)(const char *path, void *arg), void *arg) {
    const uint32_t self = tn_os_process_id();
    uint32_t opener = 0;
    if (!atomic_compare_exchange_strong(&driver->opener, &opener, self) && opener != self)
        return TN_OS_DRIVER_OF_PARENT;
    tn_mutex_lock(&driver->lock);
    if (!driver->open) {
        driver->handle = tn_os_library_open(path);
        driver->open = start(path, arg);
    }
    if (!driver->open && driver->handle) {
        tn_os_library_close(driver->handle);
        driver->handle = NULL;
    }
    const bool open = driver->open;
    tn_mutex_unlock(&driver->lock);
    return open ? TN_OS_DRIVER_OPEN : TN_OS_DRIVER_NONE;
}

/*
 * Signals that are sent to the process belong to the host's threads. Those a thread brings upon
 * itself stay open, so that a fault inside a worker reaches the host's crash handler as one in its
 * own threads would, and so does the profiler's clock.
 */
static void worker_signals(sigset_t *blocked) {
    static const int open_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGPROF};
    sigfillset(blocked);
    for (size_t i = 0; i < sizeof open_signals / sizeof open_signals[0]; ++i)
        sigdelset(blocked, open_signals[i]);
}

bool tn_os_thread_start(tn_thread *thread, void *(*main)(void *), void *arg) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0)
        return false;
    int error = pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    sigset_t blocked, before;
    worker_signals(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    if (error == 0)
        error = pthread_create(&thread->posix, &attributes, main, arg);
    if (error ==
        EINVAL) /* the stack also holds the host's thread-local data, which may be larger */
        error = pthread_create(&thread->posix, NULL, main, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error == 0;
}

void tn_os_thread_join(tn_thread *thread) {
    pthread_join(thread->posix, NULL);
}

void tn_os_yield(void) {
    sched_yield();
}
