/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The os layer: memory and its hooks, checked arithmetic, limits (on made-up cgroup trees too),
 * files, locks, fork marks.
 */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/checked.h"
#include "core/os.h"
#include "fault.h"
#include "suite.h"

/* ---- memory ---- */

START_TEST(heap_is_aligned) {
    for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        for (size_t bytes = 0; bytes < 300; bytes += 7) {
            void *memory = tn_os_alloc(bytes, alignment);
            ck_assert_ptr_nonnull(memory);
            ck_assert_uint_eq((uintptr_t)memory % alignment, 0);
            memset(memory, 1, bytes);
            tn_os_free(memory, bytes);
        }
    }
    tn_os_free(NULL, 10);
}
END_TEST

START_TEST(pages) {
    size_t page = tn_os_page_size();
    ck_assert(tn_is_power_of_two(page));
    static const size_t counts[] = {1, 3, 512, 513, 2000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; ++i) {
        for (int huge = 0; huge < 2; ++huge) {
            size_t bytes = counts[i] * page;
            fault_watch(true);
            unsigned char *memory = tn_os_map(bytes, huge);
            ck_assert_ptr_nonnull(memory);
            ck_assert_int_eq(fault_live(), 1);
            ck_assert_int_eq(fault_live_bytes(),
                             (int64_t)bytes); /* nothing of the cutting remains */
            if (huge && bytes >= (2u << 20))
                ck_assert_uint_eq((uintptr_t)memory % (2u << 20), 0);
            ck_assert_int_eq(memory[0], 0);
            ck_assert_int_eq(memory[bytes - 1], 0);
            ck_assert(tn_os_touch(memory, bytes));
            memory[bytes - 1] = 1;
            tn_os_unmap(memory, bytes);
            fault_watch(false);
            ck_assert_int_eq(fault_live(), 0);
        }
    }
    tn_os_unmap(NULL, page);
}
END_TEST

START_TEST(pages_that_are_not_there) {
    size_t bytes = (size_t)8 << 20;
    for (int huge = 0; huge < 2; ++huge) {
        fault_arm(1, true);
        void *none = tn_os_map(bytes, huge);
        fault_disarm();
        ck_assert_ptr_null(none);
        fault_arm(1, false); /* with huge, one that is not aligned is the other way */
        void *memory = tn_os_map(bytes, huge);
        fault_disarm();
        ck_assert_int_eq(memory != NULL, huge);
        tn_os_unmap(memory, bytes);
    }
    ck_assert_ptr_null(tn_os_map((size_t)1 << 60, true));
    void *memory = tn_os_map(bytes, false);
    fault_arm(1, false);
    bool touched = tn_os_touch(memory, bytes);
    if (fault_disarm() == 1) /* a kernel that has the advice */
        ck_assert(!touched);
    ck_assert(tn_os_touch(memory, bytes));
    tn_os_unmap(memory, bytes);
    ck_assert_int_eq(fault_live(), 0);
}
END_TEST

typedef struct hooks_log {
    int live;
    size_t shift, last_freed;
} hooks_log;

static unsigned char hook_memory[8192] __attribute__((aligned(4096)));

static void *log_alloc(void *user, size_t bytes, size_t alignment) {
    hooks_log *log = user;
    ck_assert_uint_le(bytes + log->shift, sizeof hook_memory);
    ck_assert(tn_is_power_of_two(alignment));
    ++log->live;
    return hook_memory + log->shift;
}

static void log_free(void *user, void *memory, size_t bytes) {
    hooks_log *log = user;
    ck_assert_ptr_eq(memory, hook_memory + log->shift);
    --log->live;
    log->last_freed = bytes;
}

START_TEST(hooks) {
    hooks_log log = {0};
    tenon_allocator lent = {.user = &log, .alloc = log_alloc, .free = log_free};
    memset(hook_memory, 7, sizeof hook_memory);
    unsigned char *memory = tn_host_alloc_zero(&lent, 100, 64);
    ck_assert_ptr_eq(memory, hook_memory);
    ck_assert_int_eq(memory[99], 0);
    ck_assert_int_eq(memory[100], 7);
    tn_host_free(&lent, memory, 100);
    ck_assert_int_eq(log.live, 0);
    ck_assert_uint_eq(log.last_freed, 100);
    tn_host_free(&lent, NULL, 100);
    ck_assert_int_eq(log.live, 0);
    log.shift = 8; /* a hook that does not keep its word about alignment */
    ck_assert_ptr_null(tn_host_alloc(&lent, 100, 64));
    ck_assert_int_eq(log.live, 0);
    tenon_allocator none = {0};
    for (int i = 0; i < 2; ++i) {
        memory = tn_host_alloc_zero(i ? &none : NULL, 100, 64);
        ck_assert_ptr_nonnull(memory);
        tn_host_free(i ? &none : NULL, memory, 100);
    }
}
END_TEST

START_TEST(arithmetic_that_does_not_fit) {
    size_t s = 42;
    int64_t i = 42;
    ck_assert(!tn_add_size(SIZE_MAX, 1, &s));
    ck_assert(!tn_mul_size(SIZE_MAX / 2 + 1, 2, &s));
    ck_assert(!tn_align_size(SIZE_MAX - 5, 64, &s));
    ck_assert(!tn_size_of_i64(-1, &s));
    ck_assert_uint_eq(s, 42);
    ck_assert(!tn_add_i64(INT64_MAX, 1, &i));
    ck_assert(!tn_add_i64(INT64_MIN, -1, &i));
    ck_assert(!tn_mul_i64(INT64_MIN, -1, &i));
    ck_assert_int_eq(i, 42);
    ck_assert(tn_add_size(SIZE_MAX - 1, 1, &s) && s == SIZE_MAX);
    ck_assert(tn_mul_size(SIZE_MAX, 1, &s) && s == SIZE_MAX);
    ck_assert(tn_mul_size(SIZE_MAX, 0, &s) && s == 0);
    ck_assert(tn_align_size(65, 64, &s) && s == 128);
    ck_assert(tn_align_size(0, 64, &s) && s == 0);
    ck_assert(tn_size_of_i64(5, &s) && s == 5);
    ck_assert(tn_mul_i64(-3, 7, &i) && i == -21);
    ck_assert(!tn_is_power_of_two(0) && tn_is_power_of_two(1) && !tn_is_power_of_two(3));
}
END_TEST

/* ---- limits ---- */

static char root[64];

static void make_root(void) {
    strcpy(root, "/tmp/tenon_test_os_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void remove_root(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    ck_assert_int_eq(system(command), 0);
}

/* Writes root/path, with its directories. */
static void put(const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')) != NULL; ++at) {
        *at = 0;
        mkdir(full, 0777);
        *at = '/';
    }
    FILE *file = fopen(full, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

START_TEST(no_cgroup) {
    size_t limit, left;
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 0);
    tn_os_cgroup_memory(root, &limit, &left);
    ck_assert_uint_eq(limit, SIZE_MAX);
    ck_assert_uint_eq(left, SIZE_MAX);
    put("proc/self/cgroup", "nonsense\n:\n0:\n:::\n7:cpu");
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 0);
    put("proc/self/cgroup", "");
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 0);
}
END_TEST

START_TEST(cgroup_v2) {
    size_t limit, left;
    put("proc/self/cgroup", "0::/slice/job\n");
    put("sys/fs/cgroup/slice/job/cpu.max", "max 100000\n");
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 0);
    put("sys/fs/cgroup/slice/cpu.max", "250000 100000\n");
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 3);
    put("sys/fs/cgroup/slice/job/cpu.max", "50000 100000\n");
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 1);
    put("sys/fs/cgroup/slice/job/cpu.max", "800000 100000\n"); /* more than the parent has */
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 3);
    put("sys/fs/cgroup/slice/cpu.max", "99999999999999999999999 0\n");
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 8);

    put("sys/fs/cgroup/slice/job/memory.max", "max\n");
    put("sys/fs/cgroup/slice/memory.max", "1000000\n");
    put("sys/fs/cgroup/slice/memory.current", "300000\n");
    tn_os_cgroup_memory(root, &limit, &left);
    ck_assert_uint_eq(limit, 1000000);
    ck_assert_uint_eq(left, 700000);
    put("sys/fs/cgroup/slice/memory.stat", "anon 5\nfile 9\ninactive_file 100000\nslab 3\n");
    tn_os_cgroup_memory(root, &limit, &left);
    ck_assert_uint_eq(left, 800000);
    put("sys/fs/cgroup/slice/job/memory.max", "500000\n");
    put("sys/fs/cgroup/slice/job/memory.current", "600000\n"); /* over it, as can be for a while */
    tn_os_cgroup_memory(root, &limit, &left);
    ck_assert_uint_eq(limit, 500000);
    ck_assert_uint_eq(left, 0);
}
END_TEST

START_TEST(cgroup_v1) {
    size_t limit, left;
    put("proc/self/cgroup",
        "9:name=systemd:/\n4:memory:/job\n3:cpuset:/x\n2:cpu,cpuacct:/job/sub\n");
    put("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "150000\n");
    put("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpu,cpuacct/job/sub/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu,cpuacct/job/sub/cpu.cfs_period_us", "100000\n");
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 2);
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us",
        "100000\n"); /* a container that sees only its mount */
    put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 1);

    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    tn_os_cgroup_memory(root, &limit, &left);
    ck_assert_uint_eq(limit, SIZE_MAX);
    put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "4096000\n");
    put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "96000\n");
    put("sys/fs/cgroup/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 6000\n");
    tn_os_cgroup_memory(root, &limit, &left);
    ck_assert_uint_eq(limit, 4096000);
    ck_assert_uint_eq(left, 4006000);
}
END_TEST

START_TEST(a_group_with_a_long_name) {
    static char line[6000];
    memset(line, 'x', sizeof line - 1);
    memcpy(line, "0::/", 4);
    put("proc/self/cgroup", line);
    ck_assert_int_eq(tn_os_cgroup_cpus(root), 0);
}
END_TEST

START_TEST(what_this_machine_has) {
    int cores = tn_os_cores();
    ck_assert_int_ge(cores, 1);
    cpu_set_t set;
    CPU_ZERO(&set);
    ck_assert_int_eq(sched_getaffinity(0, sizeof set, &set), 0);
    ck_assert_int_le(cores, CPU_COUNT(&set));
    int first = 0;
    while (!CPU_ISSET(first, &set))
        ++first;
    CPU_ZERO(&set);
    CPU_SET(first, &set);
    ck_assert_int_eq(sched_setaffinity(0, sizeof set, &set), 0);
    ck_assert_int_eq(tn_os_cores(), 1);

    ck_assert_uint_gt(tn_os_memory_total(), (size_t)16 << 20);
    ck_assert_uint_gt(tn_os_memory_available(), 0);
    ck_assert_uint_le(tn_os_memory_available(), tn_os_memory_total());
#if !defined(TEST_ASAN) && !defined(TEST_TSAN)
    struct rlimit limit = {(rlim_t)1 << 30, (rlim_t)1 << 30};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    ck_assert_uint_eq(tn_os_memory_total(), (size_t)1 << 30);
    size_t before = tn_os_memory_available(), taken = (size_t)256 << 20;
    ck_assert_uint_lt(before, (size_t)1 << 30);
    void *memory = tn_os_map(taken, false);
    ck_assert_uint_le(tn_os_memory_available(), before - taken);
    ck_assert_ptr_null(tn_os_map(before, false));
    tn_os_unmap(memory, taken);
#endif
}
END_TEST

/* ---- the rest ---- */

START_TEST(files_and_environment) {
    char text[16];
    put("short", "0123456789");
    char path[128];
    snprintf(path, sizeof path, "%s/short", root);
    ck_assert_int_eq(tn_os_read_text(path, text, sizeof text), 10);
    ck_assert_str_eq(text, "0123456789");
    ck_assert_int_eq(tn_os_read_text(path, text, 11), 10);
    ck_assert_int_eq(tn_os_read_text(path, text, 10), -1);
    ck_assert_int_eq(tn_os_read_text(path, text, 0), -1);
    ck_assert_int_eq(tn_os_read_text(root, text, sizeof text), -1); /* a directory */
    ck_assert_int_eq(tn_os_read_text("/nowhere/at/all", text, sizeof text), -1);
    ck_assert_ptr_null(tn_os_env("TENON_TEST_SURELY_NOT_SET"));
    setenv("TENON_TEST_SURELY_NOT_SET", "yes", 1);
    ck_assert_str_eq(tn_os_env("TENON_TEST_SURELY_NOT_SET"), "yes");
}
END_TEST

/* Whole or not at all, with nothing left beside it. */
START_TEST(files_are_replaced) {
    char path[600], got[16];
    snprintf(path, sizeof path, "%s/kept", root);
    ck_assert_int_eq(tn_os_read_file(path, 0, got, sizeof got), -1);
    ck_assert(tn_os_replace_file(path, "head ", 5, "body", 4));
    ck_assert_int_eq(tn_os_read_file(path, 0, got, sizeof got), 9);
    ck_assert_mem_eq(got, "head body", 9);
    ck_assert(tn_os_replace_file(path, "new", 3, "", 0));
    ck_assert_int_eq(tn_os_read_file(path, 1, got, sizeof got), 2);
    ck_assert_mem_eq(got, "ew", 2);
    ck_assert_int_eq(tn_os_read_file(path, 7, got, sizeof got), 0);
    snprintf(path, sizeof path, "%s/nowhere/kept", root);
    ck_assert(!tn_os_replace_file(path, "head", 4, "body", 4));
    snprintf(path, sizeof path, "%s/kept", root);
    ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(libraries) {
    ck_assert_ptr_null(tn_os_library_open("/nowhere/libnothing.so"));
    void *library = tn_os_library_open("libm.so.6");
    ck_assert_ptr_nonnull(library);
    ck_assert_ptr_nonnull(tn_os_library_symbol(library, "cos"));
    ck_assert_ptr_null(tn_os_library_symbol(library, "no_such_function"));
    tn_os_library_close(library);
}
END_TEST

/* Addresses without memory: nobody else gets them, and no budget of pages is spent. */
START_TEST(reserved_addresses) {
    const size_t bytes = (size_t)1 << 30;
    char *a = tn_os_reserve(bytes), *b = tn_os_reserve(bytes);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(b);
    ck_assert(a + bytes <= b || b + bytes <= a);
    int pipe_ends[2]; /* the system says whether it can be read */
    ck_assert_int_eq(pipe(pipe_ends), 0);
    ck_assert_int_eq(write(pipe_ends[1], a, 1), -1);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    ck_assert(tn_os_unmap(a, bytes));
    ck_assert(tn_os_unmap(b, bytes));
}
END_TEST

START_TEST(clock_goes_on) {
    uint64_t before = tn_os_now_ns();
    for (int i = 0; i < 1000; ++i) {
        uint64_t now = tn_os_now_ns();
        ck_assert(now >= before);
        before = now;
    }
}
END_TEST

static tn_mutex mutex = TN_MUTEX_INIT;
static int64_t counted;

static void *count_up(void *arg) {
    for (int i = 0; i < 100000; ++i) {
        tn_mutex_lock(&mutex);
        ++counted;
        tn_mutex_unlock(&mutex);
    }
    return arg;
}

START_TEST(mutex_excludes) {
    tn_thread threads[3];
    for (int i = 0; i < 3; ++i)
        ck_assert(tn_os_thread_start(&threads[i], count_up, NULL));
    for (int i = 0; i < 3; ++i)
        tn_os_thread_join(&threads[i]);
    ck_assert_int_eq(counted, 300000);
    ck_assert(tn_mutex_try_lock(&mutex));
    ck_assert(!tn_mutex_try_lock(&mutex));
    tn_mutex_unlock(&mutex);
}
END_TEST

static atomic_int tried; /* 1: the thread below has found the mutex taken; -1: free */

static void *try_and_wait(void *arg) {
    atomic_store(&tried, tn_mutex_try_lock(&mutex) ? -1 : 1);
    return count_up(arg);
}

/* What a thread takes while it is alone is taken for those that it starts meanwhile, and they get it
 * when it is given back. */
START_TEST(mutex_of_a_lone_thread) {
    tn_thread thread;
    for (int round = 0; round < 2; ++round) { /* once more with others having been there */
        atomic_store(&tried, 0);
        counted = 0;
        tn_mutex_lock(&mutex);
        ck_assert(!tn_mutex_try_lock(&mutex));
        ck_assert(tn_os_thread_start(&thread, try_and_wait, NULL));
        ck_assert(!tn_os_alone());
        while (atomic_load(&mutex.word) != TN_MUTEX_CROWDED)
            ck_assert_int_ge(atomic_load(&tried), 0);
        ck_assert_int_eq(atomic_load(&tried), 1);
        ck_assert_int_eq(counted, 0);
        tn_mutex_unlock(&mutex);
        tn_os_thread_join(&thread);
        ck_assert_int_eq(counted, 100000);
    }
}
END_TEST

static int exit_of_child(pid_t child) {
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* With the page that children lose (0), and with the process id because there is no page (1). */
START_TEST(fork_is_noticed) {
    tn_fork_mark mark, zero = {0, NULL};
    if (_i)
        fault_arm(1, true);
    tn_os_fork_mark(&mark);
    if (_i)
        ck_assert_int_eq(fault_disarm(), 1);
    ck_assert_int_eq(mark.page == NULL, _i);
    ck_assert(!tn_os_forked(&mark));
    ck_assert(tn_os_forked(&zero));
    for (int round = 0; round < 3; ++round) {
        pid_t child = fork();
        if (child == 0) {
            bool noticed = tn_os_forked(&mark) && tn_os_forked(&mark);
            tn_fork_mark own;
            tn_os_fork_mark(&own);
            bool right = noticed && !tn_os_forked(&own) && tn_os_forked(&mark);
            pid_t grandchild = fork();
            if (grandchild == 0)
                _exit(tn_os_forked(&own) && tn_os_forked(&mark) ? 0 : 1);
            _exit(exit_of_child(grandchild) == 0 && right ? 0 : 1);
        }
        ck_assert_int_eq(exit_of_child(child), 0);
        ck_assert(!tn_os_forked(&mark));
        tn_fork_mark again;
        tn_os_fork_mark(&again);
        ck_assert(!tn_os_forked(&again));
        ck_assert(!tn_os_forked(&mark));
    }
}
END_TEST

static Suite *os_suite(void) {
    Suite *suite = suite_create("os");
    TCase *plain = tcase_create("plain");
    tcase_set_timeout(plain, 60);
    tcase_add_test(plain, heap_is_aligned);
    tcase_add_test(plain, pages);
    tcase_add_test(plain, pages_that_are_not_there);
    tcase_add_test(plain, hooks);
    tcase_add_test(plain, arithmetic_that_does_not_fit);
    tcase_add_test(plain, what_this_machine_has);
    tcase_add_test(plain, libraries);
    tcase_add_test(plain, reserved_addresses);
    tcase_add_test(plain, clock_goes_on);
    tcase_add_test(plain, mutex_excludes);
    tcase_add_test(plain, mutex_of_a_lone_thread);
    tcase_add_loop_test(plain, fork_is_noticed, 0, 2);
    suite_add_tcase(suite, plain);
    TCase *files = tcase_create("files");
    tcase_add_checked_fixture(files, make_root, remove_root);
    tcase_add_test(files, no_cgroup);
    tcase_add_test(files, cgroup_v2);
    tcase_add_test(files, cgroup_v1);
    tcase_add_test(files, a_group_with_a_long_name);
    tcase_add_test(files, files_and_environment);
    tcase_add_test(files, files_are_replaced);
    suite_add_tcase(suite, files);
    return suite;
}

int main(void) {
    return run_suite(os_suite());
}
