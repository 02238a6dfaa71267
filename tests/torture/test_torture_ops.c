/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every request to the system fails in every operation: asked for in one shot, planned, run,
 * packed, by donated threads; on every device here and on a chain, under hosts of every kind. And
 * the other side of the promise: in the steady state there is no request at all.
 *
 * Each job meets each device, and each host in one of the ways to ask for it; with
 * TENON_TORTURE=full in all ways on all devices.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "guarded.h"
#include "suite.h"
#include "torture_world.h"

/* Whether a setting is gone through. The first device's core is the core of all: it meets each host
 * once per job, the others each way once. */
static bool chosen(int kind, int way, int device, int host) {
#if defined(TEST_ASAN) || defined(TEST_TSAN)
    const int one_of = 8; /* each way of a job still meets a host */
#else
    const int one_of = 4;
#endif
    if (torture_full())
        return true;
    return device == 0 ? (host + kind + way) % one_of == 0 : host == (kind + way + device) % HOSTS;
}

static bool start(world *w, int kind, int host, int device) {
    bool served = world_start(w, kind, host, world_device[device]);
    ck_assert_msg(!w->failed, "%s", w->what);
    return served;
}

static void end(world *w) {
    ck_assert_int_eq(w->balance, 0);
    world_end(w);
}

/* ---- the sweep ---- */

START_TEST(sweep) {
    const int kind = _i / WORLD_WAYS;
    const world_way way = (world_way)(_i % WORLD_WAYS);
    int64_t total = 0;
    int worlds = 0;
    for (int d = 0; d < world_device_count; ++d) {
        for (int host = 0; host < HOSTS; ++host) {
            if (!chosen(kind, (int)way, d, host))
                continue;
            world w;
            if (start(&w, kind, host, d) && world_way_fits(&w, way)) {
                const torture_case c = world_case(&w, way);
                int64_t injected = 0;
                const char *verdict = torture(&c, &injected);
                ck_assert_msg(!verdict, "%s: %s", world_way_names[way], verdict);
                total += injected;
                ++worlds;
            }
            end(&w);
        }
    }
    printf("%s %s: %lld failures made in %d settings\n", world_way_names[way], job_kinds[kind].name,
           (long long)total, worlds);
    /* A run may need no workspace, and packing never does. */
    if (worlds > 0 && way != WORLD_RUN_ELSEWHERE && way != WORLD_PACK)
        ck_assert_int_gt(total, 0);
}
END_TEST

/* What the system may refuse besides memory is done without. */
START_TEST(services_are_not_needed) {
    int64_t total = 0;
    fault_select(FAULT_SERVICES);
    for (int host = 0; host < HOSTS; ++host) {
        world w;
        if (start(&w, _i, host, 0)) {
            torture_case c = world_case(&w, WORLD_ONE_SHOT);
            c.harmless = true;
            int64_t injected = 0;
            const char *verdict = torture(&c, &injected);
            ck_assert_msg(!verdict, "%s", verdict);
            total += injected;
        }
        end(&w);
    }
    ck_assert_int_gt(total, 0);
}
END_TEST

/* ---- the steady state ---- */

/* Makes a call that must ask the system for nothing. */
static void call_quietly(world *w, tenon_status (*call)(void *), const char *way) {
    job_prepare(&w->job);
    fault_reset();
    fault_watch(true);
    tenon_status status = call(w);
    fault_watch(false);
    ck_assert_msg(status == TENON_OK, "%s, %s: %s", w->what, way, tenon_error_message(w->ctx));
    ck_assert_msg(fault_count() == 0, "%s, %s: asked the system %lld times", w->what, way,
                  (long long)fault_count());
    ck_assert_msg(job_correct(&w->job), "%s, %s: wrong", w->what, way);
}

static void run_quietly(world *w) {
    ck_assert(world_open_plan(w));
    for (int i = 0; i < 3; ++i)
        call_quietly(w, world_run, "run");
    ck_assert_int_eq(tenon_part_begin(w->ctx), TENON_OK);
    ck_assert_int_eq(tenon_part_end(w->ctx), TENON_ERROR_INVALID_ARGUMENT); /* nobody came */
    call_quietly(w, world_run, "run after parts");
    tenon_plan_info info;
    memset(&info, 0, sizeof info);
    ck_assert_int_eq(tenon_plan_query(w->plan, &info), TENON_OK);
    world_close(w);

    /* A context that has never planned anything, with the caller's workspace: after its threads are
     * there. */
    ck_assert(world_open_foreign_plan(w));
    tenon_workspace lent = {guard_alloc(info.workspace, 64, true), info.workspace};
    if (lent.bytes > 0)
        *job_workspace(&w->job) = lent;
    job_prepare(&w->job);
    ck_assert_int_eq(job_run(w->ctx, w->plan, &w->job), TENON_OK);
    call_quietly(w, world_run, "run with a workspace");
    ck_assert(guard_intact(lent.memory));
    memset(job_workspace(&w->job), 0, sizeof lent);
    world_close(w);
}

START_TEST(steady_state_asks_for_nothing) {
    for (int d = 0; d < world_device_count; ++d) {
        for (int host = 0; host < HOSTS; ++host) {
            if (host == HOST_LAZY_POOL || !chosen(_i, 0, d, host)) /* its own run asks */
                continue;
            world w;
            if (start(&w, _i, host, d)) {
                if (w.kind->plannable)
                    run_quietly(&w);
                if (host != HOST_NO_CACHE) {
                    ck_assert(world_open(&w));
                    ck_assert_int_eq(world_once(&w), TENON_OK);
                    for (int i = 0; i < 3; ++i)
                        call_quietly(&w, world_once, "one shot again");
                    call_quietly(&w, world_parts, "parts");
                    world_close(&w);
                }
            }
            end(&w);
        }
    }
}
END_TEST

static Suite *ops_suite(void) {
    Suite *suite = suite_create("torture of operations");
    TCase *tc = tcase_create("ops");
    tcase_set_timeout(tc, torture_full() ? 1800 : 300);
    tcase_add_loop_test(tc, sweep, 0, job_kind_count * WORLD_WAYS);
    tcase_add_loop_test(tc, services_are_not_needed, 0, job_kind_count);
    tcase_add_loop_test(tc, steady_state_asks_for_nothing, 0, job_kind_count);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void) {
    torture_tally_open();
    world_devices();
    int result = run_suite(ops_suite());
    torture_tally_close("torture_ops");
    return result;
}
