/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole lives (pool, context, plan, run, one-shot call, end) in processes that have never called
 * tenon: each request of the process's first life fails, once and for ever, and the second life in
 * the same process must go well. Nothing but this reaches what a process takes only once, and finds
 * guards that remember a failure.
 *
 * The device list that the parent reads takes nothing (test_torture_calls), so it hides nothing.
 */
#include <check.h>
#include <stdio.h>

#include "fault.h"
#include "suite.h"
#include "torture_world.h"

/* The page by which forks are noticed stays for the life of the process (os.h). */
#define KEPT 1

/* A life is some milliseconds. */
#define SECONDS 60

static bool chosen(int kind, int device, int host) {
    if (host == HOST_SHARED || host == HOST_BUDGET) /* need sizes that only tenon knows */
        return false;
    return torture_full() || (kind % world_device_count == device && (kind + host) % HOSTS < 3);
}

static void lives(int kind, unsigned faults, bool harmless) {
    int64_t total = 0;
    int worlds = 0;
    fault_select(faults);
    for (int d = 0; d < world_device_count; ++d) {
        for (int host = 0; host < HOSTS; ++host) {
            world w;
            if (!chosen(kind, d, host))
                continue;
            if (world_start_apart(&w, kind, host, world_device[d])) {
                torture_case c = world_case(&w, WORLD_LIFE);
                c.harmless = harmless;
                int64_t injected = 0;
                const char *verdict = torture_cold(&c, KEPT, SECONDS, &injected);
                ck_assert_msg(!verdict, "%s", verdict);
                total += injected;
                ++worlds;
            }
            ck_assert_msg(!w.failed, "%s", w.what);
            world_end(&w);
        }
    }
    if (worlds > 0)
        ck_assert_int_gt(total, 0);
}

START_TEST(first_lives) {
    lives(_i, FAULT_MEMORY, false);
}
END_TEST

START_TEST(first_lives_without_services) {
    lives(_i, FAULT_SERVICES, true);
}
END_TEST

START_TEST(first_lives_without_anything) {
    lives(_i, FAULT_MEMORY | FAULT_SERVICES, false);
}
END_TEST

static Suite *cold_suite(void) {
    Suite *suite = suite_create("torture of first lives");
    TCase *tc = tcase_create("cold");
    tcase_set_timeout(tc, torture_full() ? 1800 : 300);
    tcase_add_loop_test(tc, first_lives, 0, job_kind_count);
    tcase_add_loop_test(tc, first_lives_without_services, 0, torture_full() ? job_kind_count : 3);
    tcase_add_loop_test(tc, first_lives_without_anything, 0, torture_full() ? job_kind_count : 3);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void) {
    torture_tally_open();
    world_devices();
    int result = run_suite(cold_suite());
    torture_tally_close("torture_cold");
    return result;
}
