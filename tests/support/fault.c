/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c: see fault.h. The linker sends every call of f in the program to __wrap_f and knows the
 * true one as __real_f.
 *
 * Live things are kept in one open-addressed table of fixed size under a mutex: the injector must
 * not allocate. Keys are addresses; a thread's key is its pthread_t (a mapping of its own in glibc,
 * so it clashes with no block).
 */
#include "fault.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
int __real_posix_memalign(void **out, size_t alignment, size_t bytes);
void __real_free(void *memory);
void *__real_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset);
int __real_munmap(void *at, size_t bytes);
int __real_madvise(void *at, size_t bytes, int advice);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main)(void *), void *arg);
int __real_pthread_join(pthread_t thread, void **result);

#define TABLE_SIZE (1 << 16)

typedef struct entry {
    uintptr_t key; /* 0: never used; GONE: was used */
    size_t bytes;
} entry;

#define GONE ((uintptr_t)1)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static entry table[TABLE_SIZE];
static bool watching;
static bool sticky_failure;
static int64_t countdown; /* requests until the one that fails; 0: none will */
static int64_t injected, requests, live, live_bytes;

/* Counts a request. True if it shall fail. */
static bool request(void) {
    pthread_mutex_lock(&lock);
    bool fail = false;
    if (watching) {
        ++requests;
        if (countdown > 0 && --countdown == 0) {
            fail = true;
            if (sticky_failure)
                countdown = 1;
        }
        injected += fail;
    }
    pthread_mutex_unlock(&lock);
    return fail;
}

static size_t slot_of(uintptr_t key) {
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 48) % TABLE_SIZE;
}

static entry *find(uintptr_t key) {
    for (size_t i = slot_of(key);; i = (i + 1) % TABLE_SIZE) {
        if (table[i].key == key)
            return &table[i];
        if (table[i].key == 0)
            return NULL;
    }
}

/* Both with the lock held. */
static void put(uintptr_t key, size_t bytes) {
    size_t i = slot_of(key);
    while (table[i].key > GONE)
        i = (i + 1) % TABLE_SIZE;
    table[i] = (entry){key, bytes};
    live_bytes += (int64_t)bytes;
    if (++live > TABLE_SIZE / 2) {
        fputs("fault.c: TABLE_SIZE is too small\n", stderr);
        abort();
    }
}

static void drop(entry *e) {
    live_bytes -= (int64_t)e->bytes;
    --live;
    e->key = GONE;
}

/* A thing was taken. Only those of a window are remembered. */
static void took(uintptr_t key, size_t bytes) {
    pthread_mutex_lock(&lock);
    if (watching && key)
        put(key, bytes);
    pthread_mutex_unlock(&lock);
}

/* A thing is about to be given back. */
static void gave(uintptr_t key) {
    pthread_mutex_lock(&lock);
    entry *found = key ? find(key) : NULL;
    if (found)
        drop(found);
    pthread_mutex_unlock(&lock);
}

/* The mapping that [at, at + bytes) is the whole, the front or the end of. */
static void gave_pages(uintptr_t at, size_t bytes) {
    pthread_mutex_lock(&lock);
    entry *whole = find(at);
    if (whole && whole->bytes == bytes) {
        drop(whole);
        pthread_mutex_unlock(&lock);
        return;
    }
    for (size_t i = 0; i < TABLE_SIZE && live > 0; ++i) {
        entry old = table[i];
        if (old.key <= GONE || at < old.key || at - old.key >= old.bytes)
            continue;
        size_t front = at - old.key;
        drop(&table[i]);
        if (front)
            put(old.key, front);
        if (front + bytes < old.bytes)
            put(at + bytes, old.bytes - front - bytes);
        break;
    }
    pthread_mutex_unlock(&lock);
}

void fault_watch(bool on) {
    pthread_mutex_lock(&lock);
    watching = on;
    pthread_mutex_unlock(&lock);
}

void fault_arm(int64_t nth, bool sticky) {
    pthread_mutex_lock(&lock);
    watching = true;
    sticky_failure = sticky;
    countdown = nth;
    injected = 0;
    pthread_mutex_unlock(&lock);
}

int64_t fault_disarm(void) {
    pthread_mutex_lock(&lock);
    watching = false;
    countdown = 0;
    int64_t result = injected;
    pthread_mutex_unlock(&lock);
    return result;
}

static int64_t read_locked(const int64_t *value) {
    pthread_mutex_lock(&lock);
    int64_t result = *value;
    pthread_mutex_unlock(&lock);
    return result;
}

int64_t fault_count(void) {
    return read_locked(&requests);
}
int64_t fault_live(void) {
    return read_locked(&live);
}
int64_t fault_live_bytes(void) {
    return read_locked(&live_bytes);
}

void fault_reset(void) {
    pthread_mutex_lock(&lock);
    requests = 0;
    pthread_mutex_unlock(&lock);
}

/* ---- the wrappers ---- */

void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes) {
    if (request()) {
        errno = ENOMEM;
        return NULL;
    }
    void *memory = __real_malloc(bytes);
    took((uintptr_t)memory, bytes);
    return memory;
}

void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes) {
    if (request()) {
        errno = ENOMEM;
        return NULL;
    }
    void *memory = __real_calloc(count, bytes);
    took((uintptr_t)memory, count * bytes);
    return memory;
}

void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes) {
    if (request()) {
        errno = ENOMEM;
        return NULL;
    }
    uintptr_t before = (uintptr_t)memory;
    void *moved = __real_realloc(memory, bytes);
    if (moved || bytes == 0) {
        gave(before);
        took((uintptr_t)moved, bytes);
    }
    return moved;
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    if (request()) {
        errno = ENOMEM;
        return NULL;
    }
    void *memory = __real_aligned_alloc(alignment, bytes);
    took((uintptr_t)memory, bytes);
    return memory;
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t bytes);
int __wrap_posix_memalign(void **out, size_t alignment, size_t bytes) {
    if (request())
        return ENOMEM;
    int error = __real_posix_memalign(out, alignment, bytes);
    if (error == 0)
        took((uintptr_t)*out, bytes);
    return error;
}

void __wrap_free(void *memory);
void __wrap_free(void *memory) {
    gave((uintptr_t)memory); /* before: another thread may get the same address at once */
    __real_free(memory);
}

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
    if (request()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *memory = __real_mmap(at, bytes, protection, flags, file, offset);
    if (memory != MAP_FAILED)
        took((uintptr_t)memory, bytes);
    return memory;
}

/* What mmap is called where files have 64-bit offsets by a macro. */
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int file, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
    return __wrap_mmap(at, bytes, protection, flags, file, offset);
}

int __wrap_munmap(void *at, size_t bytes);
int __wrap_munmap(void *at, size_t bytes) {
    gave_pages((uintptr_t)at, bytes);
    return __real_munmap(at, bytes);
}

/* Only the advice that takes memory is a request; the rest never fails for lack of it. */
int __wrap_madvise(void *at, size_t bytes, int advice);
int __wrap_madvise(void *at, size_t bytes, int advice) {
#ifdef MADV_POPULATE_WRITE
    if (advice == MADV_POPULATE_WRITE && request()) {
        errno = ENOMEM;
        return -1;
    }
#endif
    return __real_madvise(at, bytes, advice);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main)(void *), void *arg) {
    if (request())
        return EAGAIN;
    int error = __real_pthread_create(thread, attributes, main, arg);
    if (error == 0)
        took((uintptr_t)*thread, 0);
    return error;
}

int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result) {
    gave((uintptr_t)thread);
    return __real_pthread_join(thread, result);
}
