/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every public function, one row each (torture_stage.h): whatever it asks the system for fails once
 * and for ever, and one that claims to ask for nothing is held to it.
 *
 * check_torture.py compares the rows with the headers, so that a new function fails the suite until
 * it has one. The many shapes of a function's work are the business of the other torture tests.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "suite.h"
#include "torture_stage.h"

static bool set_stage(void *state) {
    stage *s = state;
    tenon_pool_desc pool;
    memset(&pool, 0, sizeof pool);
    pool.allocator = s->desc.allocator;
    pool.flags = TENON_POOL_DEBUG;
    memset(s->host, 0, sizeof s->host);
    s->total = 0;
    return tenon_context_create(&s->desc, &s->ctx) == TENON_OK &&
           tenon_context_create(&s->desc, &s->other) == TENON_OK &&
           tenon_context_create(&s->desc, &s->made_context) == TENON_OK &&
           tenon_pool_create(&pool, &s->pool) == TENON_OK &&
           tenon_pool_create(&pool, &s->made_pool) == TENON_OK &&
           tenon_buffer_alloc(s->made_pool, 256, "parent", &s->parent) == TENON_OK &&
           tenon_buffer_alloc(s->made_pool, 100, "made", &s->made) == TENON_OK &&
           (!s->plannable || (job_plan(s->other, &s->job, &s->plan) == TENON_OK &&
                              job_plan(s->other, &s->job, &s->made_plan) == TENON_OK));
}

static void strike_stage(void *state) {
    stage *s = state;
    tenon_plan_destroy(s->made_plan);
    tenon_plan_destroy(s->plan);
    tenon_buffer_free(s->made);
    tenon_buffer_free(s->parent);
    tenon_pool_destroy(s->made_pool);
    tenon_pool_destroy(s->pool);
    tenon_context_destroy(s->made_context);
    tenon_context_destroy(s->other);
    tenon_context_destroy(s->ctx);
    s->made_plan = s->plan = NULL;
    s->made = s->parent = NULL;
    s->made_pool = s->pool = NULL;
    s->made_context = s->other = s->ctx = NULL;
}

void stage_prepare(void *state) {
    stage *s = state;
    job_prepare(&s->job);
    s->right = false;
}

static const char *message(void *state) {
    const stage *s = state;
    const char *text = tenon_error_message(s->ctx);
    return text[0] ? text : tenon_error_message(NULL);
}

static void build_job(stage *s, const char *name) {
    for (int k = 0; k < job_kind_count; ++k) {
        if (strcmp(job_kinds[k].name, name) == 0) {
            job_kinds[k].build(&s->job);
            s->plannable = job_kinds[k].plannable;
        }
    }
    ck_assert_msg(s->job.outputs > 0, "there is no job %s", name);
}

static void learn(stage *s, const char *devices) {
    char device[72];
    for (const char *at = devices; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        tenon_context *ctx;
        snprintf(device, sizeof device, "%.*s", (int)strcspn(at, ","), at);
        const tenon_context_desc desc = {.device = device};
        ck_assert_int_eq(tenon_context_create(&desc, &ctx), TENON_OK);
        job_prepare(&s->job);
        ck_assert_msg(job_once(ctx, &s->job) == TENON_OK && job_learn(&s->job), "%s: %s", device,
                      tenon_error_message(ctx));
        tenon_context_destroy(ctx);
    }
}

/* Tortures one row on every device and returns the number of failures made. */
static int64_t torture_row(const stage_row *r) {
    int64_t total = 0;
    for (int d = 0; d < world_device_count; ++d) {
        stage s;
        char name[160];
        memset(&s, 0, sizeof s);
        build_job(&s, r->job ? r->job : "gemm_f32");
        learn(&s, world_device[d]);
        s.desc = host_of(d % 2 == 0 ? HOST_THREADS : HOST_HOOKS, world_device[d], &s.balance);
        snprintf(name, sizeof name, "%s on %.71s", r->name, world_device[d]);
        const torture_case c = {.name = name,
                                .state = &s,
                                .setup = set_stage,
                                .prepare = stage_prepare,
                                .call = r->call,
                                .untouched = r->untouched,
                                .correct = r->correct,
                                .teardown = strike_stage,
                                .message = message};
        int64_t injected = 0;
        const char *verdict = torture(&c, &injected);
        ck_assert_msg(!verdict, "%s", verdict);
        ck_assert_int_eq(s.balance, 0);
        job_end(&s.job);
        total += injected;
    }
    return total;
}

START_TEST(taking) {
    ck_assert_int_gt(torture_row(&taking_rows[_i]), 0);
}
END_TEST

START_TEST(quiet) {
    ck_assert_int_eq(torture_row(&quiet_rows[_i]), 0);
}
END_TEST

static Suite *calls_suite(void) {
    Suite *suite = suite_create("torture of every call");
    TCase *tc = tcase_create("calls");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, taking, 0, taking_row_count);
    tcase_add_loop_test(tc, quiet, 0, quiet_row_count);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void) {
    torture_tally_open();
    world_devices();
    int result = run_suite(calls_suite());
    torture_tally_close("torture_calls");
    return result;
}
