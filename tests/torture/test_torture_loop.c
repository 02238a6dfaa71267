/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Negative controls of the torture loop: calls that do each wrong thing once must be found out, and
 * a right one must not. Also the loop's tools: the injector's counts, guards and canaries.
 */
#include <check.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"
#include "guarded.h"
#include "suite.h"
#include "torture.h"

enum {
    RIGHT,
    LEAKS,
    LEAKS_MAPPING,
    TOUCHES,
    WRONG_STATUS,
    STAYS_BROKEN,
    WRONG_RESULT,
    SILENT,
    VAGUE,
    FAILS_FOR_NOTHING,
    CRIMES
};

/* Found only in a process of their own. */
enum { CRASHES = CRIMES, HANGS, REMEMBERS, COLD_CRIMES };

typedef struct sinner {
    int crime;
    bool broken;
    int calls;
    unsigned char output[64];
    void *volatile kept;
} sinner;

static void sinner_prepare(void *state) {
    sinner *s = state;
    canary_fill(s->output, sizeof s->output);
}

/* A once-guard that keeps the answer of its first caller: only a first life can find it. */
static int guard_answer;

static bool guarded_once(void) {
    if (guard_answer == 0) {
        void *volatile memory = malloc(10);
        guard_answer = memory ? 1 : -1;
        free(memory);
    }
    return guard_answer > 0;
}

/* Takes two blocks and a mapping, needs the first two, and does without the mapping. */
static tenon_status sinner_call(void *state) {
    sinner *s = state;
    if (s->broken || (s->crime == REMEMBERS && !guarded_once()))
        return TENON_ERROR_OUT_OF_MEMORY;
    if (s->crime == FAILS_FOR_NOTHING && (s->calls++) == 5)
        return TENON_ERROR_OUT_OF_MEMORY;
    void *volatile first = malloc(100), *volatile second = NULL;
    if (!first)
        goto failed;
    second = calloc(10, 10);
    while (!second && s->crime == HANGS)
        sched_yield();
    if (s->crime == CRASHES)
        *(volatile char *)second = 1;
    if (!second)
        goto failed;
    void *pages = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED && s->crime == WRONG_RESULT)
        s->output[0] ^= 1;
    if (pages != MAP_FAILED && s->crime != LEAKS_MAPPING)
        munmap(pages, 8192);
    memset(s->output + 1, 0, sizeof s->output - 1);
    free(second);
    free(first);
    return TENON_OK;
failed:
    if (s->crime != LEAKS)
        free(first);
    if (s->crime == TOUCHES)
        s->output[63] ^= 1;
    s->broken = s->crime == STAYS_BROKEN;
    return s->crime == WRONG_STATUS ? TENON_ERROR_INTERNAL : TENON_ERROR_OUT_OF_MEMORY;
}

static bool sinner_untouched(void *state) {
    sinner *s = state;
    return canary_intact(s->output, sizeof s->output);
}

static bool sinner_correct(void *state) {
    sinner *s = state;
    return canary_intact(s->output, 1) && s->output[5] == 0;
}

static const char *sinner_message(void *state) {
    const sinner *s = state;
    return s->crime == SILENT ? "" : s->crime == VAGUE ? "no memory" : "no memory for 100 bytes";
}

static torture_case case_of(sinner *s) {
    return (torture_case){.name = "sinner",
                          .state = s,
                          .prepare = sinner_prepare,
                          .call = sinner_call,
                          .untouched = sinner_untouched,
                          .correct = sinner_correct,
                          .message = sinner_message};
}

START_TEST(crimes_are_found) {
    static const char *const found[CRIMES] = {
        [LEAKS] = "left over",
        [LEAKS_MAPPING] = "left over",
        [TOUCHES] = "touched its outputs",
        [WRONG_STATUS] = "TENON_ERROR_INTERNAL",
        [STAYS_BROKEN] = "without faults it returned",
        [WRONG_RESULT] = "wrong results",
        [SILENT] = "without a sentence",
        [VAGUE] = "without figures",
        [FAILS_FOR_NOTHING] = "no fault was made",
    };
    sinner s = {.crime = _i};
    torture_case c = case_of(&s);
    int64_t injected = 0;
    const char *verdict = torture(&c, &injected);
    if (_i == RIGHT) {
        ck_assert_msg(!verdict, "%s", verdict);
        /* Three requests once each, and from each on: the sticky ones meet all that follow. */
        ck_assert_int_eq(injected, 2 * (3 + (1 + 1 + 1)));
    } else {
        ck_assert_msg(verdict && strstr(verdict, found[_i]), "%s", verdict ? verdict : "not found");
    }
}
END_TEST

/* The same crimes and worse, a process for each failure; what may stay for ever is allowed for. */
START_TEST(cold_crimes_are_found) {
    static const char *const found[COLD_CRIMES] = {
        [LEAKS] = "left over",
        [LEAKS_MAPPING] = "left over",
        [TOUCHES] = "touched its outputs",
        [WRONG_STATUS] = "TENON_ERROR_INTERNAL",
        [STAYS_BROKEN] = "without faults it returned",
        [WRONG_RESULT] = "wrong results",
        [SILENT] = "without a sentence",
        [VAGUE] = "without figures",
        [CRASHES] = "the process ended with",
        [HANGS] = "the process ended with signal 14",
        [REMEMBERS] = "without faults it returned",
    };
    sinner s = {.crime = _i};
    torture_case c = case_of(&s);
    int64_t injected = 0;
    if (_i == FAILS_FOR_NOTHING) /* a life is two calls */
        return;
    const char *verdict = torture_cold(&c, 0, 2, &injected);
    if (_i == RIGHT) {
        ck_assert_msg(!verdict, "%s", verdict);
        ck_assert_int_eq(injected, 3 + (1 + 1 + 1));
    } else {
        ck_assert_msg(verdict && strstr(verdict, found[_i]), "%s", verdict ? verdict : "not found");
    }
    if (_i == LEAKS_MAPPING)
        ck_assert(!torture_cold(&c, 2, 2, NULL));
}
END_TEST

/* The once-guard is what only first lives can find. */
START_TEST(a_warm_loop_does_not_find_what_is_remembered) {
    sinner s = {.crime = REMEMBERS};
    torture_case c = case_of(&s);
    ck_assert(!torture(&c, NULL));
}
END_TEST

START_TEST(random_crimes_are_found) {
    sinner s = {.crime = _i};
    torture_case c = case_of(&s);
    torture_chance chance = {.probability = 0.2, .seed = 7, .calls = 1000};
    const char *verdict = torture_random(&c, 1, &chance);
    ck_assert_msg(!verdict == (_i == RIGHT), "%s", verdict ? verdict : "not found");
    if (_i == RIGHT) {
        /* A call fails when one of its first two requests does: 36 %; the third adds 13 %. */
        ck_assert_int_gt(chance.failed, 300);
        ck_assert_int_lt(chance.failed, 420);
        ck_assert_int_gt(chance.struck - chance.failed, 80);
        ck_assert_int_lt(chance.struck - chance.failed, 180);
    }
}
END_TEST

/* Services fail only when they are selected, and then memory does not. */
START_TEST(services_are_selected) {
    int before = open("/proc/self/stat", O_RDONLY);
    fault_arm(1, true);
    int file = open("/proc/self/stat", O_RDONLY);
    ck_assert_int_eq(fault_disarm(), 0);
    fault_select(FAULT_SERVICES);
    fault_arm(1, true);
    void *volatile memory = malloc(10);
    int none = open("/proc/self/stat", O_RDONLY);
    char byte;
    ssize_t got = read(before, &byte, 1);
    ck_assert_int_eq(fault_disarm(), 2);
    ck_assert(file >= 0 && memory && none < 0 && got < 0);
    free(memory);
    close(file);
    close(before);
}
END_TEST

START_TEST(injector_counts) {
    int64_t live = fault_live();
    void *volatile outside = malloc(10); /* not in a window: not seen */
    ck_assert_int_eq(fault_live(), live);
    fault_reset();
    fault_watch(true);
    void *volatile a = malloc(10);
    void *volatile b = realloc(a, 1000);
    void *volatile c = aligned_alloc(64, 128);
    void *volatile d = NULL;
    int error = posix_memalign((void **)&d, 64, 100);
    fault_watch(false);
    ck_assert_int_eq(error, 0);
    ck_assert_int_eq(fault_count(), 4);
    ck_assert_int_eq(fault_live(), live + 3);
    ck_assert_int_eq(fault_live_bytes(), 1000 + 128 + 100);
    free(b);
    free(c);
    free(d);
    free(outside);
    ck_assert_int_eq(fault_live(), live);

    fault_arm(3, true);
    void *volatile e[5];
    for (int i = 0; i < 5; ++i)
        e[i] = malloc(8);
    ck_assert_int_eq(fault_disarm(), 3);
    for (int i = 0; i < 5; ++i) {
        ck_assert_int_eq(e[i] != NULL, i < 2);
        free(e[i]);
    }
}
END_TEST

START_TEST(mappings_may_go_in_parts) {
    size_t page = 4096;
    int64_t live = fault_live(), bytes = fault_live_bytes();
    fault_watch(true);
    char *at = mmap(NULL, 10 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fault_watch(false);
    ck_assert(at != MAP_FAILED);
    munmap(at, 2 * page);
    munmap(at + 8 * page, 2 * page);
    munmap(at + 4 * page, page);
    ck_assert_int_eq(fault_live(), live + 2);
    ck_assert_int_eq(fault_live_bytes(), bytes + (int64_t)(5 * page));
    munmap(at + 2 * page, 2 * page);
    munmap(at + 5 * page, 3 * page);
    ck_assert_int_eq(fault_live(), live);
    ck_assert_int_eq(fault_live_bytes(), bytes);
}
END_TEST

START_TEST(guards_tell) {
    for (int at_end = 0; at_end < 2; ++at_end) {
        unsigned char *buffer = guard_alloc(1001, 64, at_end);
        ck_assert_uint_eq((uintptr_t)buffer % 64, 0);
        memset(buffer, 1, 1001);
        ck_assert(guard_intact(buffer));
        buffer[1001] ^= 1; /* in the slack, or on the side that has no forbidden page */
        ck_assert(!guard_intact(buffer));
        ck_assert(!guard_free(buffer));
    }
    ck_assert(guard_free(guard_alloc(0, 1, true)));
    ck_assert(guard_free_all());
}
END_TEST

#if !defined(TEST_ASAN) && !defined(TEST_TSAN) /* which handle the signal themselves */
#define SIGNALS_ARE_OURS 1

START_TEST(beyond_the_end_is_forbidden) {
    volatile unsigned char *buffer = guard_alloc(1000, 8, true);
    buffer[1000] = 1;
}
END_TEST

START_TEST(before_the_start_is_forbidden) {
    volatile unsigned char *buffer = guard_alloc(1000, 8, false);
    buffer[-1] = 1;
}
END_TEST

#endif

static Suite *loop_suite(void) {
    Suite *suite = suite_create("torture loop");
    TCase *tc = tcase_create("loop");
    tcase_add_loop_test(tc, crimes_are_found, 0, CRIMES);
    tcase_add_loop_test(tc, cold_crimes_are_found, 0, COLD_CRIMES);
    tcase_add_test(tc, a_warm_loop_does_not_find_what_is_remembered);
    tcase_add_loop_test(tc, random_crimes_are_found, 0, CRIMES);
    tcase_add_test(tc, services_are_selected);
    tcase_add_test(tc, injector_counts);
    tcase_add_test(tc, mappings_may_go_in_parts);
    tcase_add_test(tc, guards_tell);
#ifdef SIGNALS_ARE_OURS
    tcase_add_test_raise_signal(tc, beyond_the_end_is_forbidden, SIGSEGV);
    tcase_add_test_raise_signal(tc, before_the_start_is_forbidden, SIGSEGV);
#endif
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void) {
    return run_suite(loop_suite());
}
