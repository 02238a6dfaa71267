/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pools ask of the system: the budget that nobody said, under an address-space limit too;
 * memory committed, locked, in huge pages; alignment.
 */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/os.h"
#include "memory/pool.h"
#include "memory_support.h"
#include "suite.h"

enum { MIB = 1 << 20 };

/* ---- the default budget ---- */

START_TEST(budget_of_the_system) {
    size_t available = tn_os_memory_available();
    tenon_pool *pool = make_pool((tenon_pool_desc){0});
    size_t budget = info_of(pool).budget;
    tenon_pool_destroy(pool);
    ck_assert_uint_gt(budget, 0);
    ck_assert_uint_le(budget, tn_os_memory_total());
    /* Other programs come and go meanwhile. */
    ck_assert_uint_le(budget, available + available / 4);
    ck_assert_uint_ge(budget, available / 2);

    pool = make_pool((tenon_pool_desc){.budget = TENON_NO_BUDGET});
    ck_assert_uint_eq(info_of(pool).budget, 0);
    tenon_buffer *buffer, *none;
    ck_assert_int_eq(tenon_buffer_alloc(pool, 3 * MIB, NULL, &buffer), TENON_OK);
    ck_assert_int_eq(tenon_buffer_alloc(pool, SIZE_MAX, NULL, &none), TENON_ERROR_OUT_OF_MEMORY);
    tenon_buffer_free(buffer);
    tenon_pool_destroy(pool);

    /* The caller's hooks know by themselves what there is; a budget that was said is as it was said. */
    counted hooks = {0};
    pool = make_pool((tenon_pool_desc){.allocator = counted_hooks(&hooks)});
    ck_assert_uint_eq(info_of(pool).budget, 0);
    tenon_pool_destroy(pool);
    pool = make_pool((tenon_pool_desc){.budget = (size_t)1 << 46});
    ck_assert_uint_eq(info_of(pool).budget, (size_t)1 << 46);
    tenon_pool_destroy(pool);
}
END_TEST

/* More than there is: an answer, and no call for the kernel to look for somebody to end. */
START_TEST(more_than_this_process_may_use) {
    tenon_pool *pool = make_pool((tenon_pool_desc){0});
    size_t budget = info_of(pool).budget;
    tenon_buffer *buffer;
    ck_assert_int_eq(tenon_buffer_alloc(pool, budget + 1, "much", &buffer),
                     TENON_ERROR_OUT_OF_MEMORY);
    ck_assert_ptr_nonnull(
        strstr(tenon_error_message(NULL), "more than this process may use): in use 0"));
    ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "(the system's)"));
    ck_assert_int_eq(tenon_buffer_alloc(pool, MIB, "little", &buffer), TENON_OK);
    tenon_buffer_free(buffer);
    tenon_pool_destroy(pool);
    tenon_pool_desc fixed = {.flags = TENON_POOL_FIXED, .segment_bytes = (size_t)1 << 45};
    ck_assert_int_eq(tenon_pool_create(&fixed, &pool), TENON_ERROR_OUT_OF_MEMORY);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "this process may use"));
}
END_TEST

/* What no block can be, whatever there is, is said so; what only is not to be had is not. */
START_TEST(impossible_sizes) {
    static const struct {
        tenon_pool_desc desc;
        size_t bytes;
        tenon_status status;
        const char *says;
    } cases[] = {
        {{0}, SIZE_MAX, TENON_ERROR_OUT_OF_MEMORY, "(a block has at most 140737488355328 bytes)"},
        {{0}, ((size_t)1 << 47) + 1, TENON_ERROR_OUT_OF_MEMORY, "(a block has at most "},
        {{0}, (size_t)1 << 47, TENON_ERROR_OUT_OF_MEMORY, "(more than this process may use)"},
        {{.budget = TENON_NO_BUDGET}, SIZE_MAX, TENON_ERROR_OUT_OF_MEMORY, "(a block has at most "},
        {{.budget = 8 * MIB}, SIZE_MAX, TENON_ERROR_OVER_BUDGET, "(a block has at most "},
        {{.budget = 8 * MIB}, 9 * MIB, TENON_ERROR_OVER_BUDGET, "(over the pool's budget)"},
        {{.flags = TENON_POOL_FIXED}, SIZE_MAX, TENON_ERROR_OVER_BUDGET, "(a block has at most "},
        {{.flags = TENON_POOL_FIXED},
         9 * MIB,
         TENON_ERROR_OVER_BUDGET,
         "(the pool has a fixed size)"},
        {{.flags = TENON_POOL_DEBUG}, SIZE_MAX, TENON_ERROR_OUT_OF_MEMORY, "(a block has at most "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        tenon_pool *pool = make_pool(cases[i].desc);
        tenon_buffer *buffer;
        ck_assert_int_eq(tenon_buffer_alloc(pool, cases[i].bytes, "much", &buffer),
                         cases[i].status);
        ck_assert_msg(strstr(tenon_error_message(NULL), cases[i].says) != NULL, "case %zu: %s", i,
                      tenon_error_message(NULL));
        tenon_pool_destroy(pool);
    }
}
END_TEST

/* Memory that nobody has touched is still promised: two such pools hold no more than one. */
START_TEST(pools_know_of_each_other) {
    tenon_pool *a = make_pool((tenon_pool_desc){0}), *b = make_pool((tenon_pool_desc){0});
    const size_t budget = info_of(a).budget;
    const size_t part = budget / 8 * 5; /* other programs come and go by less than the rest */
    tenon_buffer *first, *second;
    ck_assert_uint_ge(info_of(b).budget, part);
    if (tenon_buffer_alloc(a, part, "first", &first) == TENON_OK) {
        ck_assert_int_eq(tenon_buffer_alloc(b, part, "second", &second), TENON_ERROR_OUT_OF_MEMORY);
        ck_assert_msg(strstr(tenon_error_message(NULL), "beside what pools of this process hold") !=
                          NULL,
                      "%s", tenon_error_message(NULL));
        ck_assert_int_eq(tenon_buffer_alloc(b, budget / 16, "little", &second), TENON_OK);
        tenon_buffer_free(second);
        tenon_memory_trim(b, 0);
        /* A pool made now is told what is left; one with a budget was told by its maker. */
        tenon_pool *late = make_pool((tenon_pool_desc){0});
        ck_assert_uint_lt(info_of(late).budget, part);
        tenon_pool_destroy(late);
        late = make_pool((tenon_pool_desc){.budget = part});
        ck_assert_int_eq(tenon_buffer_alloc(late, part / 2, "told", &second), TENON_OK);
        tenon_buffer_free(second);
        tenon_pool_destroy(late);
        tenon_buffer_free(first);
        tenon_memory_trim(a, 0);
        ck_assert_int_eq(tenon_buffer_alloc(b, part, "second", &second), TENON_OK);
        /* A part that goes back is free for the other. */
        tenon_buffer_free(second);
        tenon_buffer *held;
        ck_assert_int_eq(tenon_buffer_alloc(b, MIB, "held", &held), TENON_OK);
        ck_assert_int_eq(tenon_buffer_alloc(a, part, "first", &first), TENON_ERROR_OUT_OF_MEMORY);
        ck_assert_uint_gt(tenon_memory_trim(b, 0), part / 2);
        ck_assert_int_eq(tenon_buffer_alloc(a, part, "first", &first), TENON_OK);
        tenon_buffer_free(first);
        tenon_buffer_free(held);
    }
    tenon_pool_destroy(a);
    tenon_pool_destroy(b);
}
END_TEST

#if !defined(TEST_ASAN) && !defined(TEST_TSAN) /* their shadow does not fit under a limit */
/* In a child, so that the limit goes with it: all that the pool gives is written to. */
static int fill_under_limit(size_t limit, unsigned flags) {
    struct rlimit as = {limit, limit};
    if (setrlimit(RLIMIT_AS, &as) != 0)
        return 1;
    tenon_pool_desc desc = {.flags = flags};
    tenon_pool *pool;
    if (tenon_pool_create(&desc, &pool) != TENON_OK)
        return 2;
    tenon_memory_info info = {0};
    if (tenon_memory_stats(pool, &info) != TENON_OK || info.budget == 0 || info.budget > limit)
        return 3;
    tenon_buffer *buffer;
    size_t got = 0;
    tenon_status status;
    while ((status = tenon_buffer_alloc(pool, 4 * MIB, "fill", &buffer)) == TENON_OK) {
        memset(tenon_buffer_host(buffer), 1, 4 * MIB);
        got += 4 * MIB;
    }
    if (status != TENON_ERROR_OUT_OF_MEMORY)
        return 4;
    if (got > info.budget || got < info.budget / 2)
        return 5;
    /* What is left is for the rest of the program. */
    void *rest = malloc(1000000);
    if (rest == NULL)
        return 6;
    free(rest);
    return 0;
}

START_TEST(address_space_limit) {
    static const unsigned flags[] = {0, TENON_POOL_TOUCH};
    pid_t child = fork();
    if (child == 0) {
        char text[64] = "";
        size_t pages = 0;
        if (tn_os_read_text("/proc/self/statm", text, sizeof text) > 0)
            pages = strtoul(text, NULL, 10);
        _exit(fill_under_limit(pages * tn_os_page_size() + ((size_t)200 << 20), flags[_i]));
    }
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST
#endif

/* ---- memory that is there ---- */

/* Pages of [memory, memory + bytes) that have been brought. */
static size_t resident(void *memory, size_t bytes) {
    static unsigned char map[65536];
    size_t pages = bytes / tn_os_page_size(), count = 0;
    ck_assert_uint_le(pages, sizeof map);
    ck_assert_int_eq(mincore(memory, bytes, map), 0);
    for (size_t i = 0; i < pages; ++i)
        count += map[i] & 1;
    return count;
}

START_TEST(touched_segments_are_there) {
    for (int touch = 0; touch < 2; ++touch) {
        tenon_pool *pool = make_pool((tenon_pool_desc){
            .budget = 8 * MIB, .segment_bytes = 8 * MIB, .flags = touch ? TENON_POOL_TOUCH : 0u});
        tenon_buffer *buffer;
        ck_assert_int_eq(tenon_buffer_alloc_aligned(pool, 4 * MIB, 4096, NULL, &buffer), TENON_OK);
        size_t pages = 8 * MIB / tn_os_page_size();
        size_t there = resident(tenon_buffer_host(buffer), 8 * MIB);
        if (touch)
            ck_assert_uint_eq(there, pages);
        else
            ck_assert_uint_lt(there, pages);
        tenon_buffer_free(buffer);
        tenon_pool_destroy(pool);
    }
    /* More than is available is refused before anything is touched. */
    tenon_pool *pool =
        make_pool((tenon_pool_desc){.budget = TENON_NO_BUDGET, .flags = TENON_POOL_TOUCH});
    tenon_buffer *buffer;
    size_t most = tn_os_memory_total();
    ck_assert_int_eq(tenon_buffer_alloc(pool, most, NULL, &buffer), TENON_ERROR_OUT_OF_MEMORY);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "less is available to this process"));
    tenon_pool_destroy(pool);
}
END_TEST

#if !defined(TEST_ASAN) && !defined(TEST_TSAN) /* under which mlock does nothing */
/* Bytes that this process has locked. */
static size_t locked_bytes(void) {
    char text[8192];
    ck_assert_int_gt(tn_os_read_text("/proc/self/status", text, sizeof text), 0);
    const char *line = strstr(text, "VmLck:");
    return line != NULL ? (size_t)strtoul(line + 6, NULL, 10) * 1024 : 0;
}

START_TEST(locked_segments) {
    counted hooks = {0};
    for (int hooked = 0; hooked < 2; ++hooked) {
        tenon_pool_desc desc = {.segment_bytes = 100000, .flags = TENON_POOL_LOCK};
        if (hooked)
            desc.allocator = counted_hooks(&hooks);
        size_t before = locked_bytes();
        tenon_pool *pool = make_pool(desc);
        tenon_buffer *buffer;
        tenon_status status = tenon_buffer_alloc(pool, 1000, NULL, &buffer);
        if (status != TENON_OK) { /* a system that lets nobody lock */
            ck_assert_int_eq(status, TENON_ERROR_OUT_OF_MEMORY);
            ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "mlock"));
        } else {
            ck_assert_uint_ge(locked_bytes(), before + info_of(pool).reserved);
            tenon_buffer_free(buffer);
        }
        tenon_pool_destroy(pool);
        ck_assert_uint_eq(locked_bytes(), before);
    }
    ck_assert_int_eq(atomic_load(&hooks.live), 0);
}
END_TEST

/* In a child without the right to lock: refused, said why, and the pool lives on. */
START_TEST(locks_refused) {
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (geteuid() == 0 && setuid(65534) != 0))
            _exit(0);
        tenon_pool_desc desc = {.flags = TENON_POOL_LOCK};
        tenon_pool *pool;
        tenon_buffer *buffer;
        if (tenon_pool_create(&desc, &pool) != TENON_OK)
            _exit(1);
        if (tenon_buffer_alloc(pool, 1000, NULL, &buffer) != TENON_ERROR_OUT_OF_MEMORY)
            _exit(2);
        if (strstr(tenon_error_message(NULL), "mlock is refused") == NULL)
            _exit(3);
        tenon_memory_info info = {0};
        if (tenon_memory_stats(pool, &info) != TENON_OK || info.reserved != 0)
            _exit(4);
        tenon_pool_destroy(pool);
        _exit(0);
    }
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

#endif

/* ---- alignment, huge pages ---- */

START_TEST(alignment_up_to_a_page) {
    counted hooks = {0};
    for (int hooked = 0; hooked < 2; ++hooked) {
        tenon_pool_desc desc = {.segment_bytes = MIB};
        if (hooked)
            desc.allocator = counted_hooks(&hooks);
        tenon_pool *pool = make_pool(desc);
        tenon_buffer *buffers[64];
        for (int i = 0; i < 64; ++i) {
            size_t alignment = (size_t)1 << i % 13;
            ck_assert_int_eq(
                tenon_buffer_alloc_aligned(pool, (size_t)i * 333 + 1, alignment, NULL, &buffers[i]),
                TENON_OK);
            ck_assert_uint_eq((uintptr_t)tenon_buffer_host(buffers[i]) % alignment, 0);
        }
        /* A block that waits to be merged is not handed out where it lies wrong. */
        for (int i = 0; i < 64; ++i)
            tenon_buffer_free(buffers[i]);
        for (int i = 0; i < 64; ++i) {
            size_t bytes = (size_t)i * 333 + 1;
            ck_assert_int_eq(tenon_buffer_alloc_aligned(pool, bytes, 64, NULL, &buffers[0]),
                             TENON_OK);
            tenon_buffer_free(buffers[0]);
            ck_assert_int_eq(tenon_buffer_alloc_aligned(pool, bytes, 4096, NULL, &buffers[0]),
                             TENON_OK);
            ck_assert_uint_eq((uintptr_t)tenon_buffer_host(buffers[0]) % 4096, 0);
            tenon_buffer_free(buffers[0]);
        }
        tenon_pool_destroy(pool);
    }
    ck_assert_int_eq(atomic_load(&hooks.live), 0);
}
END_TEST

/* Whether the mapping at `address` has been advised of huge pages ("hg" in its VmFlags). */
static bool advised_huge(const void *address) {
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    bool inside = false, huge = false;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        uintptr_t first, end;
        if (sscanf(line, "%lx-%lx ", &first, &end) == 2)
            inside = first <= (uintptr_t)address && (uintptr_t)address < end;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            huge = strstr(line, " hg") != NULL;
    }
    if (file != NULL)
        fclose(file);
    return huge;
}

START_TEST(huge_pages) {
    const bool had = access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) == 0;
    for (int huge = 0; huge < 2; ++huge) {
        tenon_pool *pool = make_pool((tenon_pool_desc){.flags = huge ? TENON_POOL_HUGE_PAGES : 0u});
        tenon_buffer *buffer;
        ck_assert_int_eq(tenon_buffer_alloc(pool, 5 * MIB, NULL, &buffer), TENON_OK);
        void *at = tenon_buffer_host(buffer);
        if (huge) {
            ck_assert_uint_eq((uintptr_t)at % (2 * MIB), 0);
            ck_assert_uint_eq(info_of(pool).reserved, 6 * MIB); /* whole ones */
        }
        if (had)
            ck_assert_int_eq(advised_huge(at), huge);
        memset(at, 1, 5 * MIB);
        tenon_buffer_free(buffer);
        tenon_pool_destroy(pool);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pool_limits");
    TCase *tcase = tcase_create("limits");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, budget_of_the_system);
    tcase_add_test(tcase, more_than_this_process_may_use);
    tcase_add_test(tcase, impossible_sizes);
    tcase_add_test(tcase, pools_know_of_each_other);
#if !defined(TEST_ASAN) && !defined(TEST_TSAN)
    tcase_add_loop_test(tcase, address_space_limit, 0, 2);
    tcase_add_test(tcase, locked_segments);
    tcase_add_test(tcase, locks_refused);
#endif
    tcase_add_test(tcase, touched_segments_are_there);
    tcase_add_test(tcase, alignment_up_to_a_page);
    tcase_add_test(tcase, huge_pages);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
