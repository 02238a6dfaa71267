/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every request to the system fails in every operation: asked for in one shot, planned, run,
 * packed, by donated threads; on every device here and on a chain, under hosts of every kind. And
 * the other side of the promise: in the steady state there is no request at all.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "guarded.h"
#include "suite.h"
#include "torture.h"
#include "torture_host.h"
#include "torture_jobs.h"

#define MAX_DEVICES 16

static char devices[MAX_DEVICES][72];
static int device_count;

/* ---- what the cases share ---- */

typedef struct world {
    const job_kind *kind;
    job job;
    tenon_context_desc desc;
    int64_t balance;
    tenon_context *ctx;
    tenon_plan *plan;
    void *packed;
    size_t packed_bytes;
    char what[160];
} world;

static bool open_context(void *state) {
    world *w = state;
    return tenon_context_create(&w->desc, &w->ctx) == TENON_OK;
}

static bool open_plan(void *state) {
    world *w = state;
    return open_context(w) && job_plan(w->ctx, &w->job, &w->plan) == TENON_OK;
}

static void close_all(void *state) {
    world *w = state;
    tenon_plan_destroy(w->plan);
    tenon_context_destroy(w->ctx);
    w->plan = NULL;
    w->ctx = NULL;
}

static void prepare(void *state) {
    job_prepare(&((world *)state)->job);
}

static bool untouched(void *state) {
    return job_untouched(&((world *)state)->job);
}

static bool correct(void *state) {
    return job_correct(&((world *)state)->job);
}

static const char *message(void *state) {
    return tenon_error_message(((world *)state)->ctx);
}

/* ---- the calls ---- */

static tenon_status call_once(void *state) {
    world *w = state;
    return job_once(w->ctx, &w->job);
}

static tenon_status call_run(void *state) {
    world *w = state;
    return job_run(w->ctx, w->plan, &w->job);
}

static tenon_status call_plan(void *state) {
    world *w = state;
    w->plan = (tenon_plan *)w; /* must not stay */
    return job_plan(w->ctx, &w->job, &w->plan);
}

static bool no_plan(void *state) {
    return ((world *)state)->plan == NULL;
}

static bool plan_works(void *state) {
    world *w = state;
    job_prepare(&w->job);
    return job_run(w->ctx, w->plan, &w->job) == TENON_OK && job_correct(&w->job);
}

static void end_plan(void *state) {
    world *w = state;
    tenon_plan_destroy(w->plan);
    w->plan = NULL;
}

/* A plan of one context in another that has never seen its like: the workspace is taken in the run.
 */
static bool open_foreign_plan(void *state) {
    world *w = state;
    tenon_context *first;
    if (tenon_context_create(&w->desc, &first) != TENON_OK)
        return false;
    bool planned = job_plan(first, &w->job, &w->plan) == TENON_OK;
    tenon_context_destroy(first);
    return planned && open_context(w);
}

static tenon_status part_work(void *user) {
    world *w = user;
    return job_once(w->ctx, &w->job);
}

static tenon_status call_parts(void *state) {
    world *w = state;
    tenon_status status = tenon_part_begin(w->ctx);
    if (status != TENON_OK)
        return status;
    tenon_part_run(w->ctx, part_work, w);
    tenon_part_run(w->ctx, part_work, w); /* comes late */
    return tenon_part_end(w->ctx);
}

static tenon_status call_pack(void *state) {
    world *w = state;
    return tenon_gemm_pack(w->ctx, &w->job.gemm, w->packed, w->packed_bytes);
}

static void prepare_pack(void *state) {
    world *w = state;
    canary_fill(w->packed, w->packed_bytes);
}

static bool pack_untouched(void *state) {
    world *w = state;
    return canary_intact(w->packed, w->packed_bytes);
}

static bool pack_works(void *state) {
    world *w = state;
    job_prepare(&w->job);
    w->job.gemm.b_packed = w->packed;
    w->job.gemm.b_packed_bytes = w->packed_bytes;
    bool right = job_once(w->ctx, &w->job) == TENON_OK && job_correct(&w->job);
    w->job.gemm.b_packed = NULL;
    w->job.gemm.b_packed_bytes = 0;
    return right;
}

/* ---- the loops ---- */

/* The core under the device is the same for all of them: every kind of host for the first, two for
 * the others. */
static int hosts_for(int device) {
    return device == 0 ? HOSTS : 2;
}

/* What one device answers when nothing fails. False if it does not do the job, which other tests
 * judge. */
static bool learn_from(world *w, const char *device) {
    w->desc.device = device;
    ck_assert_msg(open_context(w), "%s: %s", w->what, tenon_error_message(NULL));
    job_prepare(&w->job);
    tenon_status status = job_once(w->ctx, &w->job);
    if (status == TENON_ERROR_UNSUPPORTED)
        printf("left out: %s: %s\n", w->what, tenon_error_message(w->ctx));
    else
        ck_assert_msg(status == TENON_OK && job_learn(&w->job), "%s: %s", w->what,
                      status == TENON_OK ? "guards or outputs" : tenon_error_message(w->ctx));
    close_all(w);
    return status == TENON_OK;
}

/* Builds the job and learns its answers. False if no device of the chain does it. */
static bool world_start(world *w, int kind, int host, const char *device) {
    memset(w, 0, sizeof *w);
    w->kind = &job_kinds[kind];
    w->kind->build(&w->job);
    w->desc = host_of(host, device, &w->balance);
    snprintf(w->what, sizeof w->what, "%s on %s, %s", w->kind->name, device, host_names[host]);
    char first[72];
    snprintf(first, sizeof first, "%s", device);
    char *comma = strchr(first, ',');
    if (comma)
        *comma = 0;
    bool served = learn_from(w, first);
    if (comma)
        served = learn_from(w, comma + 1) || served;
    w->desc.device = device;
    return served;
}

static void world_end(world *w) {
    ck_assert_int_eq(w->balance, 0);
    job_end(&w->job);
}

/*
 * One case for a kind on every device under every host. With `must`, at least one failure must have
 * been made in all.
 */
static void torture_all(int kind, bool must, const torture_case *pattern) {
    int64_t total = 0;
    int worlds = 0;
    for (int d = 0; d < device_count; ++d) {
        for (int host = 0; host < hosts_for(d); ++host) {
            world w;
            if (world_start(&w, kind, host, devices[d])) {
                torture_case c = *pattern;
                char name[256];
                snprintf(name, sizeof name, "%s: %s", pattern->name, w.what);
                c.name = name;
                c.state = &w;
                c.teardown = close_all;
                c.message = message;
                int64_t injected = 0;
                const char *verdict = torture(&c, &injected);
                ck_assert_msg(!verdict, "%s", verdict);
                total += injected;
                ++worlds;
            }
            world_end(&w);
        }
    }
    printf("%s %s: %lld failures made in %d settings\n", pattern->name, job_kinds[kind].name,
           (long long)total, worlds);
    if (must && worlds > 0)
        ck_assert_int_gt(total, 0);
}

START_TEST(one_shot) {
    torture_all(_i, true,
                &(torture_case){.name = "one shot",
                                .setup = open_context,
                                .prepare = prepare,
                                .call = call_once,
                                .untouched = untouched,
                                .correct = correct});
}
END_TEST

START_TEST(plan) {
    if (job_kinds[_i].plannable)
        torture_all(_i, true,
                    &(torture_case){.name = "plan",
                                    .setup = open_context,
                                    .call = call_plan,
                                    .untouched = no_plan,
                                    .correct = plan_works,
                                    .undo = end_plan});
}
END_TEST

START_TEST(run_in_another_context) {
    if (job_kinds[_i].plannable)
        torture_all(_i, false,
                    &(torture_case){.name = "run elsewhere",
                                    .setup = open_foreign_plan,
                                    .prepare = prepare,
                                    .call = call_run,
                                    .untouched = untouched,
                                    .correct = correct});
}
END_TEST

START_TEST(donated_threads) {
    torture_all(_i, true,
                &(torture_case){.name = "parts",
                                .setup = open_context,
                                .prepare = prepare,
                                .call = call_parts,
                                .untouched = untouched,
                                .correct = correct});
}
END_TEST

START_TEST(pack) {
    for (int d = 0; d < device_count; ++d) {
        for (int host = 0; host < hosts_for(d); ++host) {
            world w;
            bool served = world_start(&w, _i, host, devices[d]);
            if (served && w.job.op == JOB_GEMM) {
                ck_assert(open_context(&w));
                served = tenon_gemm_pack_size(w.ctx, &w.job.gemm, &w.packed_bytes) == TENON_OK;
                close_all(&w);
            }
            if (served && w.job.op == JOB_GEMM) {
                w.packed = guard_alloc(w.packed_bytes, 64, true);
                const char *verdict = torture(&(torture_case){.name = w.what,
                                                              .state = &w,
                                                              .setup = open_context,
                                                              .prepare = prepare_pack,
                                                              .call = call_pack,
                                                              .untouched = pack_untouched,
                                                              .correct = pack_works,
                                                              .teardown = close_all,
                                                              .message = message},
                                              NULL);
                ck_assert_msg(!verdict, "pack: %s", verdict);
            }
            world_end(&w);
        }
    }
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
    ck_assert(open_plan(w));
    for (int i = 0; i < 3; ++i)
        call_quietly(w, call_run, "run");
    ck_assert_int_eq(tenon_part_begin(w->ctx), TENON_OK);
    ck_assert_int_eq(tenon_part_end(w->ctx), TENON_ERROR_INVALID_ARGUMENT); /* nobody came */
    call_quietly(w, call_run, "run after parts");
    tenon_plan_info info;
    memset(&info, 0, sizeof info);
    ck_assert_int_eq(tenon_plan_query(w->plan, &info), TENON_OK);
    close_all(w);

    /* A context that has never planned anything, with the caller's workspace: after its threads are
     * there. */
    ck_assert(open_foreign_plan(w));
    tenon_workspace lent = {guard_alloc(info.workspace, 64, true), info.workspace};
    if (lent.bytes > 0)
        *job_workspace(&w->job) = lent;
    job_prepare(&w->job);
    ck_assert_int_eq(job_run(w->ctx, w->plan, &w->job), TENON_OK);
    call_quietly(w, call_run, "run with a workspace");
    ck_assert(guard_intact(lent.memory));
    memset(job_workspace(&w->job), 0, sizeof lent);
    close_all(w);
}

START_TEST(steady_state_asks_for_nothing) {
    for (int d = 0; d < device_count; ++d) {
        for (int host = 0; host < hosts_for(d); ++host) {
            world w;
            if (world_start(&w, _i, host, devices[d])) {
                if (w.kind->plannable)
                    run_quietly(&w);
                if (host != HOST_NO_CACHE) {
                    ck_assert(open_context(&w));
                    ck_assert_int_eq(job_once(w.ctx, &w.job), TENON_OK);
                    for (int i = 0; i < 3; ++i)
                        call_quietly(&w, call_once, "one shot again");
                    call_quietly(&w, call_parts, "parts");
                    close_all(&w);
                }
            }
            world_end(&w);
        }
    }
}
END_TEST

static Suite *ops_suite(void) {
    Suite *suite = suite_create("torture of operations");
    TCase *tc = tcase_create("ops");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, one_shot, 0, job_kind_count);
    tcase_add_loop_test(tc, plan, 0, job_kind_count);
    tcase_add_loop_test(tc, run_in_another_context, 0, job_kind_count);
    tcase_add_loop_test(tc, donated_threads, 0, job_kind_count);
    tcase_add_loop_test(tc, pack, 0, job_kind_count);
    tcase_add_loop_test(tc, steady_state_asks_for_nothing, 0, job_kind_count);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void) {
    device_count = host_devices(devices, MAX_DEVICES);
    return run_suite(ops_suite());
}
