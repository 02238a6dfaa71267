/* SPDX-License-Identifier: Apache-2.0 */
/*
 * os.h: everything tenon asks of the operating system, and the only place it does.
 *
 * os_posix.c and os_linux.c behind this header are the only files of the library that call malloc,
 * mmap, pthread_create, getenv, open and their kin, so a port replaces two files and a test that
 * fails the i-th call to the system reaches all of them. Nothing here prints, aborts, sets errno
 * for the caller to read, keeps thread-local state or remembers a failure. Preconditions are the
 * caller's duty and are not checked.
 */
#ifndef TN_OS_H
#define TN_OS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/host.h>

/* What hot shared words are kept apart by, and the alignment of every workspace. */
#define TN_CACHE_LINE 64

/* ---- memory ---- */

/*
 * `bytes` bytes (0 counts as 1) aligned to `alignment`, contents undefined. NULL when there are
 * none. Pre: alignment is a power of two.
 */
void *tn_os_alloc(size_t bytes, size_t alignment);

/* Frees what tn_os_alloc returned for the same `bytes`. NULL is allowed. */
void tn_os_free(void *memory, size_t bytes);

/*
 * Zeroed pages from the system; NULL when there are none. With `huge` the block starts at a
 * multiple of 2 MiB where that can be had and the system is asked for huge pages; their lack is not
 * a failure. Pre: bytes > 0 and a multiple of tn_os_page_size().
 */
void *tn_os_map(size_t bytes, bool huge);

/*
 * Gives back what tn_os_map returned, or whole pages of it. NULL is allowed. False: the system
 * can't cut that part out now (it limits the number of mappings) and all of it is still there.
 */
bool tn_os_unmap(void *memory, size_t bytes);

/*
 * Makes the system commit every page that holds a byte of the block now, contents undefined
 * afterwards. False when it says that it can't. (A system without such an answer is made to commit
 * by writing; that may still end the process, so compare with tn_os_memory_available() first.)
 */
bool tn_os_touch(void *memory, size_t bytes);

/* Keeps whole pages in memory, or lets them go again. False when the system does not allow it. */
bool tn_os_pin(void *memory, size_t bytes);
void tn_os_unpin(void *memory, size_t bytes);

/* Bytes of a page, a power of two. */
size_t tn_os_page_size(void);

/*
 * Addresses that nobody else gets and that can't be read or written, for memory that has none of
 * its own. NULL when there are none; tn_os_unmap gives them back. Pre: as for tn_os_map.
 */
void *tn_os_reserve(size_t bytes);

/* ---- the caller's allocation hooks ---- */

/*
 * As tn_os_alloc, through `hooks` when they are set (NULL and zero mean the system). Memory that
 * comes back misaligned is returned to the hooks and counts as none.
 */
void *tn_host_alloc(const tenon_allocator *hooks, size_t bytes, size_t alignment);

/*
 * As tn_host_alloc; *stray (not NULL) gets the misaligned address that the hooks answered with, and
 * NULL in every other case.
 */
void *tn_host_alloc_watched(const tenon_allocator *hooks, size_t bytes, size_t alignment,
                            const void **stray);

/* As tn_host_alloc, filled with zeros. */
void *tn_host_alloc_zero(const tenon_allocator *hooks, size_t bytes, size_t alignment);

/* Frees what tn_host_alloc returned for the same hooks and `bytes`. NULL is allowed. */
void tn_host_free(const tenon_allocator *hooks, void *memory, size_t bytes);

/* ---- the machine, as far as this process may use it ---- */

/* Cores: the affinity mask, and a cgroup's CPU quota rounded up, whichever is less. At least 1. */
int tn_os_cores(void);

/* Bytes of memory of the machine or of the strictest limit (cgroup, rlimits). 0: unknown. */
size_t tn_os_memory_total(void);

/* Bytes that can be had now without swapping, under the same limits. SIZE_MAX: unknown. */
size_t tn_os_memory_available(void);

/*
 * The two parts of that. Bytes that can be written to yet, under the machine's memory and cgroups:
 * mappings nobody has touched are not taken off. And bytes that can be mapped yet, under the
 * rlimits. SIZE_MAX: unknown.
 */
size_t tn_os_pages_available(void);
size_t tn_os_addresses_available(void);

/*
 * The cgroup's share of the figures above, read below `root` ("" for the real tree; tests give a
 * directory). cpus: quota in whole cores, rounded up, 0 when there is none. memory: the strictest
 * limit on the way up to the root and what is left under it; SIZE_MAX when there is none.
 */
int tn_os_cgroup_cpus(const char *root);
void tn_os_cgroup_memory(const char *root, size_t *limit, size_t *left);

/* ---- time, environment, files ---- */

/* Nanoseconds of a clock that never goes back. Its zero means nothing. */
uint64_t tn_os_now_ns(void);

/* The value of an environment variable, or NULL. The environment's own: use or copy it at once. */
const char *tn_os_env(const char *name);

/*
 * Reads up to `bytes` bytes of a file from `offset` on; returns how many, -1: it can't.
 */
int64_t tn_os_read_file(const char *path, uint64_t offset, void *memory, size_t bytes);

/*
 * Makes a file of two parts, or puts it into the place of the one that is there, at once: who reads
 * sees the old one or the new one, whole. False: it can't, and nothing has changed.
 */
bool tn_os_replace_file(const char *path, const void *head, size_t head_bytes, const void *body,
                        size_t body_bytes);

/* A shared library and its symbols; NULL when there is none. The loader allocates for itself. */
void *tn_os_library_open(const char *path);
void *tn_os_library_symbol(void *library, const char *name);
void tn_os_library_close(void *library);

/* Reads a small file into `text`, ends it with 0, returns its length; -1: it can't or is too long.
 */
int tn_os_read_text(const char *path, char *text, size_t capacity);

/* ---- threads ---- */

/*
 * True only if the calling thread is the process's only one, as far as the system says so (glibc
 * 2.32 and later; found when the library is loaded). A thread of another libc in the process
 * (dlmopen) is not seen.
 */
#ifdef __GLIBC__
extern char __libc_single_threaded __attribute__((weak));
#endif

static inline bool tn_os_alone(void) {
#ifdef __GLIBC__
    return &__libc_single_threaded != NULL && __libc_single_threaded != 0;
#else
    return false;
#endif
}

/*
 * A mutex that needs no destruction and never allocates. Not recursive, not fair. Taking it is one
 * compare-and-exchange, giving it back a look and a store; who waits spins a little and then
 * sleeps.
 *
 * The store may overwrite a waiter's mark that arrives in the very moment between looking at the
 * word and storing, so that nobody wakes this waiter; therefore sleepers look again by themselves
 * after a millisecond.
 *
 * A thread that is alone takes it with a look and a store. Nobody can come in between: only this
 * thread could start another, and one that it starts while it holds the mutex finds it held.
 * tests/memory/pool_lock.pml proves the mutex, and that it needs both.
 */
typedef struct tn_mutex {
    _Atomic uint32_t word; /* TN_MUTEX_* */
} tn_mutex;

enum {
    TN_MUTEX_FREE,
    TN_MUTEX_HELD,
    TN_MUTEX_CROWDED /* held, and somebody may sleep */
};

#define TN_MUTEX_INIT                                                                              \
    { 0 }

static inline void tn_mutex_init(tn_mutex *mutex) {
    atomic_init(&mutex->word, TN_MUTEX_FREE);
}

/* The ways of the two below when they are not alone. */
void tn_mutex_wait(tn_mutex *mutex);
void tn_mutex_hand_on(tn_mutex *mutex);

static inline bool tn_mutex_try_lock(tn_mutex *mutex) {
    uint32_t expected = TN_MUTEX_FREE;
    if (tn_os_alone()) {
        if (atomic_load_explicit(&mutex->word, memory_order_acquire) != TN_MUTEX_FREE)
            return false;
        atomic_store_explicit(&mutex->word, TN_MUTEX_HELD, memory_order_relaxed);
        return true;
    }
    return atomic_compare_exchange_strong_explicit(&mutex->word, &expected, TN_MUTEX_HELD,
                                                   memory_order_acquire, memory_order_relaxed);
}

static inline void tn_mutex_lock(tn_mutex *mutex) {
    if (!tn_mutex_try_lock(mutex))
        tn_mutex_wait(mutex);
}

/* Does not touch the mutex after it is free: who takes it next may free its memory. */
static inline void tn_mutex_unlock(tn_mutex *mutex) {
    if (atomic_load_explicit(&mutex->word, memory_order_relaxed) == TN_MUTEX_HELD)
        atomic_store_explicit(&mutex->word, TN_MUTEX_FREE, memory_order_release);
    else
        tn_mutex_hand_on(mutex);
}

typedef struct tn_thread {
    pthread_t posix;
} tn_thread;

/*
 * Starts a thread with a small stack that leaves the process's asynchronous signals to the host's
 * threads. False when it can't, which is ordinary.
 */
bool tn_os_thread_start(tn_thread *thread, void *(*main)(void *), void *arg);

/* Waits for its end. Pre: started by this process (not by the parent of a fork). */
void tn_os_thread_join(tn_thread *thread);

/* The calling thread, as tn_os_steer names it, and the CPU that it runs on now; -1: unknown. */
int tn_os_thread_id(void);
int tn_os_cpu(void);

/* Lets another thread that waits for this CPU have it first. */
void tn_os_yield(void);

typedef struct tn_cpu_set {
    uint64_t bits[16];
} tn_cpu_set;

/*
 * Asks the kernel to let this process, all of its threads, use AMX's tile registers, which it saves
 * only for those that ask. False: refused, or there is nothing to allow. Asking again is harmless.
 */
bool tn_os_allow_tiles(void);

/*
 * Keeps a sleeping thread of this process from waking up on `cpu`, if its affinity lets it run
 * elsewhere. True if it was done: *before is the affinity that the thread gives itself back with
 * tn_os_unsteer.
 */
bool tn_os_steer(int thread, int cpu, tn_cpu_set *before);
void tn_os_unsteer(const tn_cpu_set *before);

/*
 * Sleeps until tn_os_wake on the same word, unless *word != expected already. May wake for no
 * reason. The word's changes must be seq_cst for a waker that looks before it wakes.
 */
void tn_os_wait(_Atomic uint32_t *word, uint32_t expected);

/* As tn_os_wait, for `ns` nanoseconds at most. */
void tn_os_wait_for(_Atomic uint32_t *word, uint32_t expected, uint64_t ns);

/* Wakes up to `count` sleepers of the word. The word may already be gone. */
void tn_os_wake(_Atomic uint32_t *word, int count);

/* Tells the core that this is a spin loop. */
static inline void tn_os_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/*
 * A mark of the process that set it, to notice a fork without an atfork handler: threads and driver
 * handles do not survive into the child. Takes one page that the kernel zeroes in children
 * (MADV_WIPEONFORK), kept for the life of the process; where that page can't be had, the process id
 * serves.
 */
typedef struct tn_fork_mark {
    _Atomic uint32_t word;        /* number of the process in the page, or its id */
    const _Atomic uint32_t *page; /* NULL: there is none */
} tn_fork_mark;

/* Marks this process. */
void tn_os_fork_mark(tn_fork_mark *mark);

/* The number of this process as `mark`, which an ancestor set, would have it: never the
 * ancestor's. */
uint32_t tn_os_fork_number(const tn_fork_mark *mark);

/* This process's id; the mark's where there is no page. */
uint32_t tn_os_process_id(void);

/* A driver's library, as whole processes have it. Zeroed: not looked for yet. */
typedef struct tn_os_driver {
    _Atomic uint32_t opener; /* the process that first opened the library, or tried to; 0: none */
    tn_mutex lock;
    bool open;    /* it serves, and stays open */
    void *handle; /* of the library, while one is open */
} tn_os_driver;

typedef enum { TN_OS_DRIVER_OPEN, TN_OS_DRIVER_NONE, TN_OS_DRIVER_OF_PARENT } tn_os_driver_state;

/*
 * Opens the library at `path`, unless one is open, and has `start` find out whether it serves, its
 * handle being NULL if there is none; one that does not is closed, and looked for again the next
 * time. OF_PARENT: a parent came first, so drivers' threads, their connection to the device and
 * perhaps the lock are as the fork left them; nothing has been touched.
 */
tn_os_driver_state tn_os_driver_open(tn_os_driver *driver, const char *path,
                                     bool (*start)(const char *path, void *arg), void *arg);

/* True in a process other than the one that set the mark. A zeroed mark is another process's. */
static inline bool tn_os_forked(const tn_fork_mark *mark) {
    uint32_t now = __builtin_expect(mark->page != NULL, true)
                       ? atomic_load_explicit(mark->page, memory_order_relaxed)
                       : tn_os_process_id();
    return now != atomic_load_explicit(&mark->word, memory_order_acquire);
}

#endif
