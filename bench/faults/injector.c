/* SPDX-License-Identifier: Apache-2.0 */
/*
 * injector.c: fails the n-th request to the system, in any program, without being compiled into it.
 *
 * Preloaded (LD_PRELOAD), it stands before the C library's malloc family, mmap and pthread_create,
 * and so sees what every library of the process asks for, the dynamic linker's thread-local storage
 * included; the C library's own calls among themselves are not seen. It must not allocate, and
 * passes to glibc's malloc by its __libc_ names, which need no look-up. Linux with glibc.
 */
/* Else the headers make mmap and mmap64 one name; off_t has 64 bits either way here. */
#undef _FILE_OFFSET_BITS

#include "injector.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

EXPORTED void *__libc_malloc(size_t bytes);
EXPORTED void *__libc_calloc(size_t count, size_t bytes);
EXPORTED void *__libc_realloc(void *memory, size_t bytes);
EXPORTED void *__libc_memalign(size_t alignment, size_t bytes);
EXPORTED void *__libc_valloc(size_t bytes);
EXPORTED void *__libc_pvalloc(size_t bytes);

/* More than any peer asks for in one call; later ones are counted but not kept. */
#define SITES_KEPT 65536

static atomic_bool window;
static _Atomic int64_t seen, hits;
static int64_t target; /* 0: none */
static bool for_ever;
static faults_site sites[SITES_KEPT];

EXPORTED void faults_arm(int64_t nth, int forever) {
    target = nth;
    for_ever = forever != 0;
}

EXPORTED void faults_begin(void) {
    atomic_store(&seen, 0);
    atomic_store(&hits, 0);
    atomic_store(&window, true);
}

EXPORTED void faults_end(void) {
    atomic_store(&window, false);
}

EXPORTED int64_t faults_count(void) {
    return atomic_load(&seen);
}

EXPORTED int64_t faults_hits(void) {
    return atomic_load(&hits);
}

EXPORTED const faults_site *faults_site_at(int64_t n) {
    return n >= 1 && n <= atomic_load(&seen) && n <= SITES_KEPT ? &sites[n - 1] : NULL;
}

/* Counts a request. True if it shall fail. */
static bool denied(const char *what, size_t bytes, const void *caller) {
    if (!atomic_load(&window))
        return false;
    const int64_t n = atomic_fetch_add(&seen, 1) + 1;
    if (n <= SITES_KEPT)
        sites[n - 1] = (faults_site){what, bytes, caller};
    if (target == 0 || (for_ever ? n < target : n != target))
        return false;
    atomic_fetch_add(&hits, 1);
    return true;
}

/* The same for what tells its failure by errno. */
static bool denied_memory(const char *what, size_t bytes, const void *caller) {
    if (!denied(what, bytes, caller))
        return false;
    errno = ENOMEM;
    return true;
}

/* ---- the heap ---- */

EXPORTED void *malloc(size_t bytes) {
    return denied_memory("malloc", bytes, CALLER) ? NULL : __libc_malloc(bytes);
}

EXPORTED void *calloc(size_t count, size_t bytes) {
    return denied_memory("calloc", count * bytes, CALLER) ? NULL : __libc_calloc(count, bytes);
}

EXPORTED void *realloc(void *memory, size_t bytes) {
    const bool frees = memory && bytes == 0;
    return !frees && denied_memory("realloc", bytes, CALLER) ? NULL : __libc_realloc(memory, bytes);
}

EXPORTED void *reallocarray(void *memory, size_t count, size_t bytes) {
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    const bool frees = memory && total == 0;
    return !frees && denied_memory("reallocarray", total, CALLER) ? NULL
                                                                  : __libc_realloc(memory, total);
}

EXPORTED void *memalign(size_t alignment, size_t bytes) {
    return denied_memory("memalign", bytes, CALLER) ? NULL : __libc_memalign(alignment, bytes);
}

EXPORTED void *aligned_alloc(size_t alignment, size_t bytes) {
    return denied_memory("aligned_alloc", bytes, CALLER) ? NULL : __libc_memalign(alignment, bytes);
}

EXPORTED void *valloc(size_t bytes) {
    return denied_memory("valloc", bytes, CALLER) ? NULL : __libc_valloc(bytes);
}

EXPORTED void *pvalloc(size_t bytes) {
    return denied_memory("pvalloc", bytes, CALLER) ? NULL : __libc_pvalloc(bytes);
}

EXPORTED int posix_memalign(void **out, size_t alignment, size_t bytes) {
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0)
        return EINVAL;
    if (denied("posix_memalign", bytes, CALLER))
        return ENOMEM;
    const int before = errno; /* which this function does not touch */
    void *memory = __libc_memalign(alignment, bytes);
    errno = before;
    if (!memory)
        return ENOMEM;
    *out = memory;
    return 0;
}

/* ---- pages ---- */

/* Files are mapped by the dynamic linker without this function; those that are mapped by it are not
 * a request for memory. */
static void *map(void *at, size_t bytes, int protection, int flags, int file, off_t offset,
                 const void *caller) {
    if ((flags & MAP_ANONYMOUS) && denied_memory("mmap", bytes, caller))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, file, offset);
}

EXPORTED void *mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
    return map(at, bytes, protection, flags, file, offset, CALLER);
}

EXPORTED void *mmap64(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
    return map(at, bytes, protection, flags, file, offset, CALLER);
}

/* ---- threads ---- */

typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static create_fn real_create;

/* Looked up early, since a look-up may allocate. */
__attribute__((constructor)) static void find_create(void) {
    void *address = dlsym(RTLD_NEXT, "pthread_create");
    memcpy(&real_create, &address, sizeof real_create);
}

EXPORTED int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                            void *(*start)(void *), void *arg) {
    if (!real_create)
        find_create(); /* a library's constructor that ran before this one's */
    if (denied("pthread_create", 0, CALLER))
        return EAGAIN;
    return real_create(thread, attributes, start, arg);
}
