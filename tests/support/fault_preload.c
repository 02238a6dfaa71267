/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_preload.c: the injector for programs that load the shared library, such as Python: preloaded,
 * it makes requests of one library to the system fail and leaves those of everybody else alone.
 *
 * Told apart by the address that the call returns to. Interposed is what libtenon asks for (heap,
 * mappings, threads) and what gives it back. tests/python/test_faults.py drives it through ctypes.
 * Needs glibc, for the names behind malloc.
 */
#undef _FILE_OFFSET_BITS /* mmap and mmap64 are two names here */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rng.h"

void *__libc_malloc(size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *memory);

static uintptr_t first, last; /* addresses of the library's code */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool armed, sticky_failure;
static int64_t countdown, injected;
static double chance;
static rng dice;
static _Atomic int64_t live;

/* ---- what the test calls ---- */

static int look_at(struct dl_phdr_info *info, size_t size, void *part) {
    (void)size;
    if (!strstr(info->dlpi_name, part))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && (header->p_flags & PF_X) != 0) {
            first = info->dlpi_addr + header->p_vaddr;
            last = first + header->p_memsz;
        }
    }
    return 1;
}

/* From now on requests are looked at if they come from the loaded library whose path has `part`. False
 * if there is none. */
bool fault_preload_find(const char *part) {
    char copy[256] = {0};
    strncpy(copy, part, sizeof copy - 1);
    return dl_iterate_phdr(look_at, copy) != 0 && last > first;
}

/* The n-th request from now fails, with `sticky` every later one too; n = 0: each with `probability`. */
void fault_preload_arm(int64_t nth, bool sticky, double probability, uint64_t seed) {
    pthread_mutex_lock(&lock);
    armed = true;
    sticky_failure = sticky;
    countdown = nth;
    chance = probability;
    dice = (rng){seed};
    injected = 0;
    pthread_mutex_unlock(&lock);
}

/* Returns how many requests were made to fail. */
int64_t fault_preload_disarm(void) {
    pthread_mutex_lock(&lock);
    armed = false;
    int64_t result = injected;
    pthread_mutex_unlock(&lock);
    return result;
}

/* Blocks, mappings and threads that the library took and did not give back, since it was found. */
int64_t fault_preload_live(void) {
    return atomic_load(&live);
}

/* ---- what is interposed ---- */

#define OURS(call) ((uintptr_t)(call) >= first && (uintptr_t)(call) < last)
#define CALLER __builtin_return_address(0)

static bool strikes(const void *caller) {
    if (!OURS(caller))
        return false;
    pthread_mutex_lock(&lock);
    bool fail = false;
    if (armed) {
        fail = (countdown > 0 && --countdown == 0) || (chance > 0 && rng_unit(&dice) < chance);
        if (fail && sticky_failure)
            countdown = 1;
        injected += fail;
    }
    pthread_mutex_unlock(&lock);
    return fail;
}

static void count(const void *caller, bool done, int things) {
    if (done && OURS(caller))
        atomic_fetch_add(&live, things);
}

void *malloc(size_t bytes) {
    if (strikes(CALLER)) {
        errno = ENOMEM;
        return NULL;
    }
    void *memory = __libc_malloc(bytes);
    count(CALLER, memory != NULL, 1);
    return memory;
}

int posix_memalign(void **out, size_t alignment, size_t bytes) {
    if (strikes(CALLER))
        return ENOMEM;
    void *memory = __libc_memalign(alignment, bytes);
    count(CALLER, memory != NULL, 1);
    if (!memory)
        return ENOMEM;
    *out = memory;
    return 0;
}

void free(void *memory) {
    count(CALLER, memory != NULL, -1);
    __libc_free(memory);
}

static void *map(const void *caller, void *at, size_t bytes, int protection, int flags, int file,
                 off_t offset) {
    if (strikes(caller)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *memory = (void *)syscall(SYS_mmap, at, bytes, protection, flags, file, offset);
    count(caller, memory != MAP_FAILED, 1);
    return memory;
}

void *mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
    return map(CALLER, at, bytes, protection, flags, file, offset);
}

void *mmap64(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
    return map(CALLER, at, bytes, protection, flags, file, offset);
}

int munmap(void *at, size_t bytes) {
    int error = (int)syscall(SYS_munmap, at, bytes);
    count(CALLER, error == 0, -1);
    return error;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *),
                   void *arg) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    if (strikes(CALLER))
        return EAGAIN;
    int error = real(thread, attributes, main, arg);
    count(CALLER, error == 0, 1);
    return error;
}

int pthread_join(pthread_t thread, void **result) {
    int (*real)(pthread_t, void **);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_join");
    int error = real(thread, result);
    count(CALLER, error == 0, -1);
    return error;
}
