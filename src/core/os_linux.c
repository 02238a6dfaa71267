/* SPDX-License-Identifier: Apache-2.0 */
/*
 * os_linux.c: the part of os.h that needs Linux: the limits of this process (affinity, cgroup v1
 * and v2, rlimits), sleeping on a word (futex) and the mutex made of that, noticing a fork
 * (MADV_WIPEONFORK).
 *
 * Called by the core at the creation of contexts and pools, and by the teams. The files of /proc
 * and /sys are read whole into buffers on the stack; one that is missing or strange means "no
 * limit", never a failure.
 */
#include "core/os.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Enough for 8192 cores, the most that Linux can be built for. */
#define AFFINITY_BYTES 1024

/* /proc/self/cgroup, memory.stat and /proc/meminfo are a few KiB at most. */
#define TEXT_BYTES 8192
#define PATH_BYTES 4096

/* ---- numbers in text ---- */

/* The number at `text`, after blanks. SIZE_MAX where there is none ("max", "-1") or it is larger
 * than that. */
static size_t parse_number(const char *text) {
    while (*text == ' ' || *text == '\t')
        ++text;
    if (*text < '0' || *text > '9')
        return SIZE_MAX;
    size_t value = 0;
    for (; *text >= '0' && *text <= '9'; ++text) {
        size_t digit = (size_t)(*text - '0');
        if (value > (SIZE_MAX - digit) / 10)
            return SIZE_MAX;
        value = value * 10 + digit;
    }
    return value;
}

/* The number that follows `key` at the start of a line; SIZE_MAX when no line starts so. */
static size_t number_after(const char *text, const char *key) {
    size_t length = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, length) == 0)
            return parse_number(line + length);
    }
    return SIZE_MAX;
}

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* ---- cgroups ---- */

/* One directory of a controller's tree, which `visit_up` takes from the process's own group up to
 * the root. */
typedef struct cgroup_dir {
    char path[PATH_BYTES];
    int length;
} cgroup_dir;

/* Reads `file` of a directory. False when it is not there. */
static bool read_in(cgroup_dir *dir, const char *file, char *text, size_t capacity) {
    int room = PATH_BYTES - dir->length;
    int wrote = snprintf(dir->path + dir->length, (size_t)room, "/%s", file);
    bool read = wrote > 0 && wrote < room && tn_os_read_text(dir->path, text, capacity) >= 0;
    dir->path[dir->length] = 0;
    return read;
}

typedef void (*visit_fn)(cgroup_dir *dir, bool v2, void *result);

/*
 * Calls `visit` for mount/group, its parent, … and mount. A container may see a group's name that
 * belongs to the host's tree, not to its own: the directories then do not exist, and what counts is
 * the last one, the mount.
 */
static void visit_up(const char *root, const char *mount, const char *group, size_t group_length,
                     bool v2, visit_fn visit, void *result) {
    cgroup_dir dir;
    int mount_length = snprintf(dir.path, PATH_BYTES, "%s/sys/fs/cgroup%s", root, mount);
    if (mount_length < 0 || (size_t)mount_length + group_length >= PATH_BYTES)
        return;
    memcpy(dir.path + mount_length, group, group_length);
    dir.length = mount_length + (int)group_length;
    for (;;) {
        while (dir.length > mount_length && dir.path[dir.length - 1] == '/')
            --dir.length;
        dir.path[dir.length] = 0;
        visit(&dir, v2, result);
        if (dir.length == mount_length)
            return;
        while (dir.length > mount_length && dir.path[dir.length - 1] != '/')
            --dir.length;
    }
}

/* True if `name` is one of the comma-separated words of [list, list + length). */
static bool has_word(const char *list, size_t length, const char *name) {
    size_t name_length = strlen(name);
    for (size_t at = 0; at < length;) {
        const char *comma = memchr(list + at, ',', length - at);
        size_t end = comma ? (size_t)(comma - list) : length;
        if (end - at == name_length && memcmp(list + at, name, name_length) == 0)
            return true;
        at = end + 1;
    }
    return false;
}

/*
 * Takes `visit` through the groups of one controller. /proc/self/cgroup has a line
 * `id:controllers:group` per tree; the unified tree (v2) is the one with id 0 and no controllers. A
 * v1 tree is mounted under the controller's name (which may be a link) or under the whole list.
 */
static void visit_controller(const char *root, const char *controller, visit_fn visit,
                             void *result) {
    char path[PATH_BYTES], text[TEXT_BYTES];
    int wrote = snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (wrote < 0 || wrote >= PATH_BYTES || tn_os_read_text(path, text, sizeof text) < 0)
        return;
    for (char *line = text; *line;) {
        char *end = line + strcspn(line, "\n");
        char *list = memchr(line, ':', (size_t)(end - line));
        char *group = list ? memchr(list + 1, ':', (size_t)(end - list - 1)) : NULL;
        if (group) {
            size_t list_length = (size_t)(group - list - 1);
            size_t group_length = (size_t)(end - group - 1);
            if (list_length == 0) {
                visit_up(root, "", group + 1, group_length, true, visit, result);
            } else if (has_word(list + 1, list_length, controller)) {
                char mount[64];
                snprintf(mount, sizeof mount, "/%s", controller);
                visit_up(root, mount, group + 1, group_length, false, visit, result);
                snprintf(mount, sizeof mount, "/%.*s", (int)min_size(list_length, 62), list + 1);
                visit_up(root, mount, group + 1, group_length, false, visit, result);
            }
        }
        line = *end ? end + 1 : end;
    }
}

static void visit_cpus(cgroup_dir *dir, bool v2, void *result) {
    char text[128];
    size_t quota = SIZE_MAX, period = SIZE_MAX;
    if (v2) {
        if (read_in(dir, "cpu.max", text, sizeof text)) {
            quota = parse_number(text);
            const char *blank = strchr(text, ' ');
            period = blank ? parse_number(blank) : SIZE_MAX;
        }
    } else {
        if (read_in(dir, "cpu.cfs_quota_us", text, sizeof text))
            quota = parse_number(text);
        if (read_in(dir, "cpu.cfs_period_us", text, sizeof text))
            period = parse_number(text);
    }
    if (quota == SIZE_MAX || period == SIZE_MAX || period == 0)
        return;
    size_t cpus = quota / period + (quota % period != 0);
    if (cpus < 1)
        cpus = 1;
    size_t *least = result;
    *least = min_size(*least, cpus);
}

int tn_os_cgroup_cpus(const char *root) {
    size_t least = SIZE_MAX;
    visit_controller(root, "cpu", visit_cpus, &least);
    return least == SIZE_MAX ? 0 : (int)min_size(least, 1 << 20);
}

typedef struct memory_limit {
    size_t limit;
    size_t left;
} memory_limit;

static void visit_memory(cgroup_dir *dir, bool v2, void *result) {
    char text[TEXT_BYTES];
    memory_limit *least = result;
    if (!read_in(dir, v2 ? "memory.max" : "memory.limit_in_bytes", text, sizeof text))
        return;
    size_t limit = parse_number(text);
    if (limit >= SIZE_MAX / 4) /* v1 writes "none" as the largest multiple of the page size */
        return;
    size_t used = 0;
    if (read_in(dir, v2 ? "memory.current" : "memory.usage_in_bytes", text, sizeof text))
        used = parse_number(text);
    /* File pages that nobody has used lately count as used and are given up on demand. */
    size_t cached = SIZE_MAX;
    if (read_in(dir, "memory.stat", text, sizeof text))
        cached = number_after(text, v2 ? "inactive_file " : "total_inactive_file ");
    if (cached != SIZE_MAX)
        used -= min_size(used, cached);
    least->limit = min_size(least->limit, limit);
    least->left = min_size(least->left, limit - min_size(limit, used));
}

void tn_os_cgroup_memory(const char *root, size_t *limit, size_t *left) {
    memory_limit least = {SIZE_MAX, SIZE_MAX};
    visit_controller(root, "memory", visit_memory, &least);
    *limit = least.limit;
    *left = least.left;
}

/* ---- what this process may use ---- */

int tn_os_cores(void) {
    union {
        cpu_set_t set;
        unsigned char bytes[AFFINITY_BYTES];
    } mask;
    memset(&mask, 0, sizeof mask);
    int cores = 0;
    if (sched_getaffinity(0, sizeof mask, &mask.set) == 0) {
        for (size_t i = 0; i < sizeof mask.bytes; ++i)
            cores += __builtin_popcount(mask.bytes[i]);
    } else {
        cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    }
    int quota = tn_os_cgroup_cpus("");
    if (quota > 0 && quota < cores)
        cores = quota;
    return cores < 1 ? 1 : cores;
}

/* SIZE_MAX where there is no limit. */
static size_t address_space_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return SIZE_MAX;
    return (size_t)limit.rlim_cur;
}

static size_t data_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_DATA, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return SIZE_MAX;
    return (size_t)limit.rlim_cur;
}

/* A line of /proc/meminfo in bytes; 0 when it is not there. */
static size_t meminfo_bytes(const char *key) {
    char text[TEXT_BYTES];
    if (tn_os_read_text("/proc/meminfo", text, sizeof text) < 0)
        return 0;
    size_t kib = number_after(text, key);
    return kib > SIZE_MAX / 1024 ? 0 : kib * 1024;
}

size_t tn_os_memory_total(void) {
    size_t limit, left;
    tn_os_cgroup_memory("", &limit, &left);
    size_t total = meminfo_bytes("MemTotal:");
    if (total == 0)
        total = SIZE_MAX;
    total = min_size(total, limit);
    total = min_size(total, min_size(address_space_limit(), data_limit()));
    return total == SIZE_MAX ? 0 : total;
}

/* What `limit` leaves of what /proc/self/statm has in its n-th field (in pages). */
static size_t left_of(size_t limit, int field) {
    char text[256];
    if (limit == SIZE_MAX || tn_os_read_text("/proc/self/statm", text, sizeof text) < 0)
        return SIZE_MAX;
    const char *at = text;
    for (int i = 0; i < field && at; ++i)
        at = strchr(at + 1, ' ');
    size_t pages = at ? parse_number(at) : SIZE_MAX;
    size_t page = tn_os_page_size();
    size_t used = pages > SIZE_MAX / page ? 0 : pages * page;
    return limit - min_size(limit, used);
}

size_t tn_os_pages_available(void) {
    size_t limit, left;
    tn_os_cgroup_memory("", &limit, &left);
    size_t available = meminfo_bytes("MemAvailable:");
    return min_size(available == 0 ? SIZE_MAX : available, left);
}

size_t tn_os_addresses_available(void) {
    return min_size(left_of(address_space_limit(), 0), left_of(data_limit(), 5));
}

size_t tn_os_memory_available(void) {
    return min_size(tn_os_pages_available(), tn_os_addresses_available());
}

/* ---- sleeping on a word ---- */

void tn_os_wait(_Atomic uint32_t *word, uint32_t expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void tn_os_wait_for(_Atomic uint32_t *word, uint32_t expected, uint64_t ns) {
    struct timespec most = {.tv_sec = (time_t)(ns / 1000000000u),
                            .tv_nsec = (int32_t)(ns % 1000000000u)};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &most, NULL, 0);
}

void tn_os_wake(_Atomic uint32_t *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* ---- mutexes ---- */

enum {
    /*
     * Looks at a mutex before sleeping, after 1, 2, 4, … 64 and then 64 pauses each: some 12 us on
     * an EPYC 7003. The long pauses leave the mutex and what it guards in the cache of the core
     * that works on it for many turns, rather than one; a wait that outlasts them all is for a
     * thread that is not running.
     */
    SPINS = 12,
    PAUSES_MOST = 64,
    LOOK_AGAIN_NS = 1000000 /* see tn_mutex */
};

/* Takes a mutex that becomes free soon, leaving it as `held`. */
static bool spin_for(tn_mutex *mutex, uint32_t held) {
    for (int round = 0, pauses = 1; round < SPINS; ++round) {
        uint32_t expected = TN_MUTEX_FREE;
        if (atomic_load_explicit(&mutex->word, memory_order_relaxed) == TN_MUTEX_FREE &&
            atomic_compare_exchange_strong_explicit(&mutex->word, &expected, held,
                                                    memory_order_acquire, memory_order_relaxed))
            return true;
        for (int pause = 0; pause < pauses; ++pause)
            tn_os_relax();
        if (pauses < PAUSES_MOST)
            pauses *= 2;
    }
    return false;
}

/*
 * Who has slept does not know whether others sleep still, so it leaves the mutex marked; the one
 * that is woken spins before it marks it again, so that meanwhile the others take and give it
 * without a system call.
 */
void tn_mutex_wait(tn_mutex *mutex) {
    uint32_t held = TN_MUTEX_HELD;
    while (!spin_for(mutex, held)) {
        uint32_t found = TN_MUTEX_HELD;
        if (!atomic_compare_exchange_strong_explicit(&mutex->word, &found, TN_MUTEX_CROWDED,
                                                     memory_order_relaxed, memory_order_relaxed) &&
            found == TN_MUTEX_FREE)
            continue;
        tn_os_wait_for(&mutex->word, TN_MUTEX_CROWDED, LOOK_AGAIN_NS);
        held = TN_MUTEX_CROWDED;
    }
}

void tn_mutex_hand_on(tn_mutex *mutex) {
    atomic_store_explicit(&mutex->word, TN_MUTEX_FREE, memory_order_release);
    tn_os_wake(&mutex->word, 1);
}

/* ---- forks ---- */

/*
 * fork_page points to a word that is zero in a forked child until the first mark there numbers it
 * anew. The counter is ordinary memory, copied by fork, so a child's number is larger than any its
 * ancestors had given.
 */
static _Atomic(_Atomic uint32_t *) fork_page;
static _Atomic uint32_t fork_count;

static _Atomic uint32_t *get_fork_page(void) {
    _Atomic uint32_t *page = atomic_load_explicit(&fork_page, memory_order_acquire);
    if (page)
        return page;
#ifdef MADV_WIPEONFORK
    size_t bytes = tn_os_page_size();
    _Atomic uint32_t *fresh = tn_os_map(bytes, false);
    if (!fresh)
        return NULL;
    if (madvise(fresh, bytes, MADV_WIPEONFORK) != 0) {
        tn_os_unmap(fresh, bytes);
        return NULL;
    }
    if (atomic_compare_exchange_strong(&fork_page, &page, fresh))
        return fresh;
    tn_os_unmap(fresh, bytes); /* another thread was first, and `page` is its */
#endif
    return page;
}

uint32_t tn_os_fork_number(const tn_fork_mark *mark) {
    if (mark->page == NULL)
        return tn_os_process_id();
    _Atomic uint32_t *page = atomic_load_explicit(&fork_page, memory_order_acquire);
    uint32_t word = atomic_load(page);
    if (word == 0) {
        uint32_t fresh = atomic_fetch_add(&fork_count, 1) + 1;
        if (atomic_compare_exchange_strong(page, &word, fresh))
            word = fresh;
    }
    return word;
}

void tn_os_fork_mark(tn_fork_mark *mark) {
    mark->page = get_fork_page();
    atomic_store_explicit(&mark->word, tn_os_fork_number(mark), memory_order_release);
}

/* ---- where threads run ---- */

int tn_os_thread_id(void) {
    return (int)syscall(SYS_gettid);
}

int tn_os_cpu(void) {
    return sched_getcpu();
}

bool tn_os_allow_tiles(void) {
#if defined(__x86_64__) && defined(SYS_arch_prctl)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* <asm/prctl.h>, since Linux 5.16 */
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

bool tn_os_steer(int thread, int cpu, tn_cpu_set *before) {
    tn_cpu_set other;
    const int words = (int)(sizeof other.bits / sizeof other.bits[0]);
    if (thread <= 0 || cpu < 0 || cpu >= 64 * words)
        return false;
    memset(before, 0, sizeof *before);
    if (syscall(SYS_sched_getaffinity, thread, sizeof *before, before) <= 0)
        return false;
    other = *before;
    other.bits[cpu / 64] &= ~((uint64_t)1 << cpu % 64);
    return syscall(SYS_sched_setaffinity, thread, sizeof other, &other) ==
           0; /* no CPU left: EINVAL */
}

void tn_os_unsteer(const tn_cpu_set *before) {
    (void)syscall(SYS_sched_setaffinity, 0, sizeof *before, before);
}
