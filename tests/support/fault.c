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
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rng.h"

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
int __real_open(const char *path, int flags, ...);
int __real_open64(const char *path, int flags, ...);
ssize_t __real_read(int file, void *to, size_t bytes);
int __real_pthread_attr_init(pthread_attr_t *attributes);
int __real_pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes);
int __real_sched_getaffinity(pid_t process, size_t bytes, cpu_set_t *set);
int __real_sched_getcpu(void);
long __real_syscall(long number, ...);

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
static unsigned selected = FAULT_MEMORY;
static int64_t countdown; /* requests until the one that fails; 0: none will */
static double chance;     /* of each request to fail */
static rng dice;
static int64_t injected, requests, live, live_bytes;

/* Counts a request. True if it shall fail. */
static bool strikes(unsigned kind) {
    pthread_mutex_lock(&lock);
    bool fail = false;
    if (watching && (selected & kind) != 0) {
        ++requests;
        if (countdown > 0 && --countdown == 0) {
            fail = true;
            if (sticky_failure)
                countdown = 1;
        }
        if (chance > 0 && rng_unit(&dice) < chance)
            fail = true;
        injected += fail;
    }
    pthread_mutex_unlock(&lock);
    return fail;
}

static bool request(void) {
    return strikes(FAULT_MEMORY);
}

/* As request(), with errno. */
static bool refused(int error) {
    if (!strikes(FAULT_SERVICES))
        return false;
    errno = error;
    return true;
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

/* True if the pages are a part of a mapping, so that giving them back takes one more. */
static bool cuts(uintptr_t at, size_t bytes) {
    pthread_mutex_lock(&lock);
    const entry *whole = find(at);
    bool part = !(whole && whole->bytes == bytes);
    pthread_mutex_unlock(&lock);
    return part;
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
    chance = 0;
    injected = 0;
    pthread_mutex_unlock(&lock);
}

void fault_arm_random(double probability, uint64_t seed) {
    pthread_mutex_lock(&lock);
    watching = true;
    countdown = 0;
    chance = probability;
    dice = (rng){seed};
    injected = 0;
    pthread_mutex_unlock(&lock);
}

void fault_select(unsigned kinds) {
    pthread_mutex_lock(&lock);
    selected = kinds;
    pthread_mutex_unlock(&lock);
}

int64_t fault_disarm(void) {
    pthread_mutex_lock(&lock);
    watching = false;
    countdown = 0;
    chance = 0;
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
    if (cuts((uintptr_t)at, bytes) && refused(ENOMEM)) /* the number of mappings is limited */
        return -1;
    gave_pages((uintptr_t)at, bytes);
    return __real_munmap(at, bytes);
}

/* Advice that takes memory is a request, any other a service. */
int __wrap_madvise(void *at, size_t bytes, int advice);
int __wrap_madvise(void *at, size_t bytes, int advice) {
    bool takes = false;
#ifdef MADV_POPULATE_WRITE
    takes = advice == MADV_POPULATE_WRITE;
#endif
    if (strikes(takes ? FAULT_MEMORY : FAULT_SERVICES)) {
        errno = takes ? ENOMEM : EAGAIN;
        return -1;
    }
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

/* ---- services ---- */

int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
    va_end(arguments);
    return refused(EMFILE) ? -1 : __real_open(path, flags, mode);
}

/* What open is called where files have 64-bit offsets by a macro. */
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
    va_end(arguments);
    return refused(EMFILE) ? -1 : __real_open64(path, flags, mode);
}

ssize_t __wrap_read(int file, void *to, size_t bytes);
ssize_t __wrap_read(int file, void *to, size_t bytes) {
    return refused(EIO) ? -1 : __real_read(file, to, bytes);
}

int __wrap_pthread_attr_init(pthread_attr_t *attributes);
int __wrap_pthread_attr_init(pthread_attr_t *attributes) {
    return refused(ENOMEM) ? ENOMEM : __real_pthread_attr_init(attributes);
}

int __wrap_pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes);
int __wrap_pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes) {
    return refused(EINVAL) ? EINVAL : __real_pthread_attr_setstacksize(attributes, bytes);
}

int __wrap_sched_getaffinity(pid_t process, size_t bytes, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t process, size_t bytes, cpu_set_t *set) {
    return refused(EINVAL) ? -1 : __real_sched_getaffinity(process, bytes, set);
}

int __wrap_sched_getcpu(void);
int __wrap_sched_getcpu(void) {
    return refused(ENOSYS) ? -1 : __real_sched_getcpu();
}

/* Sleeping on a futex may end early, and affinity may be refused. A wake-up asks for nothing. */
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; ++i)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    bool sleeps = number == SYS_futex && ((int)a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT;
    bool steers = number == SYS_sched_setaffinity || number == SYS_sched_getaffinity;
    if ((sleeps || steers) && refused(sleeps ? EINTR : EPERM))
        return -1;
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
