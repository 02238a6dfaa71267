/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schedules: what is said before running holds while running. Every plan runs in exactly the workspace it states, with a
 * forbidden page behind; a list of plans runs in a pool of exactly the smallest budget stated and not in one granule less; under
 * budgets in between the algorithms taken are the fastest that fit; no byte is used by two at once.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/tenon.h>

#include "guarded.h"
#include "memory_support.h"
#include "rng.h"
#include "suite.h"
#include "torture.h"

enum { LENGTH = 96, HEADS = 2, D = 64, MODEL = HEADS * D, STEPS = 6, GRANULE = 64 };

/*
 * Two layers of: hidden = in · w, then attention over hidden, then a softmax of its rows. Buffer i is what step i writes; the
 * input of the second layer is the first one's output.
 */
typedef struct model {
    tenon_context *ctx;
    tenon_plan *plan[STEPS];
    tenon_step step[STEPS];
    tenon_lifetime buffer[STEPS];
    tenon_schedule schedule;
} model;

static float input[LENGTH * MODEL], weights[MODEL * MODEL], expected[LENGTH * MODEL];

typedef union op {
    tenon_gemm_desc gemm;
    tenon_attention_desc attention;
    tenon_softmax_desc softmax;
} op;

static void describe(int i, float *const at[STEPS], op *o) {
    const tenon_tensor heads = tenon_swapped(
        tenon_tensor4(i % 3 == 1 ? at[i - 1] : NULL, TENON_F32, 1, LENGTH, HEADS, D), 1, 2);
    memset(o, 0, sizeof *o);
    if (i % 3 == 0) {
        o->gemm.a = tenon_matrix(i == 0 ? input : at[i - 1], TENON_F32, LENGTH, MODEL);
        o->gemm.b = tenon_matrix(weights, TENON_F32, MODEL, MODEL);
        o->gemm.c = tenon_matrix(at[i], TENON_F32, LENGTH, MODEL);
    } else if (i % 3 == 1) {
        o->attention.q = o->attention.k = o->attention.v = heads;
        o->attention.o = tenon_swapped(tenon_tensor4(at[i], TENON_F32, 1, LENGTH, HEADS, D), 1, 2);
    } else {
        o->softmax.x = tenon_matrix(at[i - 1], TENON_F32, LENGTH, MODEL);
        o->softmax.y = tenon_matrix(at[i], TENON_F32, LENGTH, MODEL);
    }
}

static tenon_status plan_step(tenon_context *ctx, int i, tenon_plan **plan) {
    float *nowhere[STEPS] = {NULL};
    op o;
    describe(i, nowhere, &o);
    return i % 3 == 0   ? tenon_gemm_plan(ctx, &o.gemm, plan)
           : i % 3 == 1 ? tenon_attention_plan(ctx, &o.attention, plan)
                        : tenon_softmax_plan(ctx, &o.softmax, plan);
}

static tenon_status run_step(model *m, int i, float *const at[STEPS], void *memory, size_t bytes) {
    const tenon_workspace workspace = {.memory = memory, .bytes = bytes};
    op o;
    describe(i, at, &o);
    if (i % 3 == 0) {
        o.gemm.workspace = workspace;
        return tenon_gemm_run(m->ctx, m->plan[i], &o.gemm);
    }
    if (i % 3 == 1) {
        o.attention.workspace = workspace;
        return tenon_attention_run(m->ctx, m->plan[i], &o.attention);
    }
    o.softmax.workspace = workspace;
    return tenon_softmax_run(m->ctx, m->plan[i], &o.softmax);
}

static void open_model(model *m) {
    static const tenon_context_desc desc = {.device = "auto", .threads = 2};
    memset(m, 0, sizeof *m);
    rng r = rng_start("schedule");
    rng_fill_f32(&r, input, LENGTH * MODEL);
    rng_fill_f32(&r, weights, MODEL * MODEL);
    ck_assert_int_eq(tenon_context_create(&desc, &m->ctx), TENON_OK);
    for (int i = 0; i < STEPS; ++i) {
        ck_assert_int_eq(plan_step(m->ctx, i, &m->plan[i]), TENON_OK);
        m->step[i].plan = m->plan[i];
        m->buffer[i] =
            (tenon_lifetime){.bytes = sizeof(float) * LENGTH * MODEL, .first = i, .last = i + 1};
    }
    m->schedule = (tenon_schedule){.struct_size = sizeof m->schedule,
                                   .steps = m->step,
                                   .step_count = STEPS,
                                   .buffers = m->buffer,
                                   .buffer_count = STEPS,
                                   .effort = 0.1};
}

static void close_model(model *m) {
    for (int i = 0; i < STEPS; ++i)
        tenon_plan_destroy(m->plan[i]);
    tenon_context_destroy(m->ctx);
}

static tenon_schedule_info lay_out(model *m, size_t budget) {
    tenon_schedule_info info = {.struct_size = sizeof info};
    m->schedule.budget = budget;
    ck_assert_msg(tenon_schedule_layout(NULL, &m->schedule, &info) == TENON_OK, "%s",
                  tenon_error_message(NULL));
    return info;
}

/* Runs all steps in a block as laid out; the last buffer goes to `result`. */
static void run_in(model *m, unsigned char *block, float *result) {
    float *at[STEPS];
    for (int i = 0; i < STEPS; ++i)
        at[i] = (float *)(void *)(block + m->buffer[i].offset);
    for (int i = 0; i < STEPS; ++i) {
        ck_assert_int_eq(tenon_plan_choose(m->plan[i], m->step[i].choice), TENON_OK);
        ck_assert_msg(run_step(m, i, at, block + m->step[i].offset, m->step[i].workspace) ==
                          TENON_OK,
                      "%s", tenon_error_message(m->ctx));
    }
    memcpy(result, at[STEPS - 1], sizeof expected);
}

/* The same without any of this: each buffer and workspace on its own. */
static void run_plainly(model *m) {
    static float memory[STEPS][LENGTH * MODEL];
    float *at[STEPS];
    for (int i = 0; i < STEPS; ++i)
        at[i] = memory[i];
    for (int i = 0; i < STEPS; ++i)
        ck_assert_int_eq(run_step(m, i, at, NULL, 0), TENON_OK);
    memcpy(expected, at[STEPS - 1], sizeof expected);
}

/* Whether two things that are alive together share a byte, or anything ends above `total`. */
static bool clash(const model *m, size_t total) {
    for (int i = 0; i < STEPS; ++i) {
        const tenon_lifetime *a = &m->buffer[i];
        if (a->offset + a->bytes > total || m->step[i].offset + m->step[i].workspace > total)
            return true;
        for (int j = 0; j < STEPS; ++j) {
            const tenon_lifetime *b = &m->buffer[j];
            size_t begin = m->step[j].offset, end = begin + m->step[j].workspace;
            if (i < j && a->first <= b->last && b->first <= a->last &&
                a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes)
                return true;
            if (a->first <= j && j <= a->last && a->offset < end && begin < a->offset + a->bytes)
                return true;
        }
    }
    return false;
}

START_TEST(workspace_is_exact) {
    static float memory[STEPS][LENGTH * MODEL];
    model m;
    open_model(&m);
    run_plainly(&m);
    float *at[STEPS];
    for (int i = 0; i < STEPS; ++i)
        at[i] = memory[i];
    int ran = 0;
    for (int i = 0; i < STEPS; ++i) {
        tenon_plan_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(tenon_plan_query(m.plan[i], &info), TENON_OK);
        float first[LENGTH * MODEL];
        for (int c = 0; c < info.choices; ++c) {
            tenon_plan_choice choice = {.struct_size = sizeof choice};
            ck_assert_int_eq(tenon_plan_choose(m.plan[i], c), TENON_OK);
            ck_assert_int_eq(tenon_plan_choice_get(m.plan[i], c, &choice), TENON_OK);
            ck_assert_int_eq(tenon_plan_query(m.plan[i], &info), TENON_OK);
            ck_assert_uint_eq(info.workspace, choice.workspace);
            ck_assert_int_eq(info.chosen, c);
            /* A size that is no multiple of the alignment would leave slack before the page. */
            ck_assert_uint_eq(choice.workspace % 64, 0);
            void *workspace = guard_alloc(choice.workspace, 64, true);
            ck_assert_msg(run_step(&m, i, at, workspace, choice.workspace) == TENON_OK, "%s",
                          tenon_error_message(m.ctx));
            ck_assert(guard_free(workspace));
            if (c == 0)
                memcpy(first, at[i], sizeof first);
            ck_assert_msg(memcmp(first, at[i], sizeof first) == 0, "step %d, %s: other bits", i,
                          choice.algorithm);
            ++ran;
            if (choice.workspace == 0)
                continue;
            /* Less than was stated is refused, outputs untouched. */
            workspace = guard_alloc(choice.workspace - 1, 64, false);
            canary_fill(at[i], sizeof first);
            ck_assert_int_eq(run_step(&m, i, at, workspace, choice.workspace - 1),
                             TENON_ERROR_INVALID_ARGUMENT);
            ck_assert(canary_intact(at[i], sizeof first));
            guard_free(workspace);
            memcpy(at[i], first, sizeof first);
        }
    }
    ck_assert_int_gt(ran, STEPS);
    ck_assert(memcmp(at[STEPS - 1], expected, sizeof expected) == 0);
    close_model(&m);
}
END_TEST

START_TEST(smallest_budget_is_enough) {
    static float result[LENGTH * MODEL];
    model m;
    open_model(&m);
    run_plainly(&m);
    const tenon_schedule_info any = lay_out(&m, 0);
    ck_assert_uint_eq(any.total, any.preferred);
    ck_assert_uint_lt(any.smallest, any.preferred);
    ck_assert_double_eq(any.seconds, any.seconds_preferred);
    const tenon_schedule_info info = lay_out(&m, any.smallest);
    ck_assert_uint_eq(info.total, any.smallest);
    ck_assert_uint_eq(info.smallest, any.smallest);
    ck_assert_uint_eq(info.preferred, any.preferred);
    ck_assert_uint_ge(info.total, info.lower_bound);
    ck_assert(!clash(&m, info.total));
    ck_assert_uint_eq(info.total % GRANULE, 0);

    /* Pools of exactly that much, of hooks (multiples of 64 bytes) and fixed or growing. */
    for (unsigned flags = 0; flags <= TENON_POOL_FIXED; flags += TENON_POOL_FIXED) {
        counted c = {0};
        tenon_pool_desc desc = {.budget = info.total,
                                .segment_bytes = info.total,
                                .flags = flags,
                                .allocator = counted_hooks(&c)};
        tenon_pool *pool;
        tenon_buffer *block;
        ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_OK);
        ck_assert_msg(tenon_buffer_alloc(pool, info.total, "model", &block) == TENON_OK, "%s",
                      tenon_error_message(NULL));
        memset(result, 0, sizeof result);
        run_in(&m, tenon_buffer_host(block), result);
        ck_assert(memcmp(result, expected, sizeof expected) == 0);
        tenon_memory_info held = {.struct_size = sizeof held};
        ck_assert_int_eq(tenon_memory_stats(pool, &held), TENON_OK);
        ck_assert_uint_eq(held.peak_reserved, info.total);
        tenon_buffer_free(block);
        tenon_pool_destroy(pool);

        /* One granule less: no block, and nothing else happens. */
        desc.budget = desc.segment_bytes = info.total - GRANULE;
        ck_assert_int_eq(tenon_pool_create(&desc, &pool), TENON_OK);
        ck_assert_int_eq(tenon_buffer_alloc(pool, info.total, "model", &block),
                         TENON_ERROR_OVER_BUDGET);
        ck_assert_ptr_null(block);
        tenon_pool_destroy(pool);
        ck_assert_int_eq(c.live, 0);
    }

    /* The same memory between guard pages: nothing runs over its end. */
    unsigned char *guarded = guard_alloc(info.total, 64, true);
    run_in(&m, guarded, result);
    ck_assert(memcmp(result, expected, sizeof expected) == 0);
    ck_assert(guard_free(guarded));

    /* The dry run itself says so too, and leaves everything as it was. */
    model before = m;
    tenon_schedule_info untouched = info;
    m.schedule.budget = info.total - 1;
    ck_assert_int_eq(tenon_schedule_layout(NULL, &m.schedule, &untouched), TENON_ERROR_OVER_BUDGET);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "smallest layout found"));
    ck_assert(memcmp(&before.step, &m.step, sizeof m.step) == 0);
    ck_assert(memcmp(&before.buffer, &m.buffer, sizeof m.buffer) == 0);
    ck_assert(memcmp(&untouched, &info, sizeof info) == 0);
    close_model(&m);
}
END_TEST

/* The fastest of all combinations of choices whose bytes alive fit in every step. */
static double fastest_by_force(const model *m, size_t budget) {
    double best = 0;
    for (int i = 0; i < STEPS; ++i) {
        size_t alive = 0;
        for (int b = 0; b < STEPS; ++b)
            if (m->buffer[b].first <= i && i <= m->buffer[b].last)
                alive += m->buffer[b].bytes;
        tenon_plan_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(tenon_plan_query(m->plan[i], &info), TENON_OK);
        double fastest = INFINITY;
        for (int c = 0; c < info.choices; ++c) {
            tenon_plan_choice choice = {.struct_size = sizeof choice};
            ck_assert_int_eq(tenon_plan_choice_get(m->plan[i], c, &choice), TENON_OK);
            if (alive + choice.workspace <= budget && choice.seconds < fastest)
                fastest = choice.seconds;
        }
        best += fastest;
    }
    return best;
}

START_TEST(budgets_between) {
    static float result[LENGTH * MODEL];
    model m;
    open_model(&m);
    run_plainly(&m);
    const tenon_schedule_info any = lay_out(&m, 0);
    int slower = 0;
    for (int k = 0; k <= 16; ++k) {
        const size_t budget = any.smallest + (any.preferred - any.smallest) / 16 * (size_t)k;
        const tenon_schedule_info info = lay_out(&m, budget);
        ck_assert_uint_le(info.total, budget);
        ck_assert_uint_le(info.lower_bound, info.total);
        ck_assert(!clash(&m, info.total));
        /* Chains have layouts without gaps, so nothing is lost here: no choice is faster. */
        const double force = fastest_by_force(&m, budget);
        ck_assert_msg(info.seconds <= force * (1 + 1e-12), "budget %zu: %g s, %g s is possible",
                      budget, info.seconds, force);
        slower += info.seconds > any.seconds_preferred;
        unsigned char *block = guard_alloc(info.total, 64, true);
        run_in(&m, block, result);
        ck_assert(memcmp(result, expected, sizeof expected) == 0);
        ck_assert(guard_free(block));
    }
    ck_assert_int_gt(slower, 0);
    ck_assert(clash(&m, any.smallest - 1)); /* a control */
    m.buffer[1].offset = m.buffer[0].offset;
    ck_assert(clash(&m, any.preferred));
    close_model(&m);
}
END_TEST

/* Buffers whose best layout has a gap: workspaces shrink until all fits, and grow into the gaps. */
START_TEST(gaps) {
    model m;
    open_model(&m);
    rng r = rng_start("gaps");
    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < STEPS; ++i) {
            const int64_t first = rng_between(&r, -2, STEPS);
            m.buffer[i] = (tenon_lifetime){.bytes = (size_t)rng_between(&r, 0, 300000),
                                           .alignment = (size_t)64 << rng_below(&r, 7),
                                           .first = first,
                                           .last = first + rng_below(&r, 6)};
        }
        const tenon_schedule_info any = lay_out(&m, 0);
        ck_assert(!clash(&m, any.total));
        for (int k = 0; k < 8; ++k) {
            const size_t budget =
                any.smallest + (size_t)rng_below(&r, (int64_t)(any.preferred - any.smallest) + 1);
            if (budget == 0)
                continue;
            const tenon_schedule_info info = lay_out(&m, budget);
            ck_assert_uint_le(info.total, budget);
            ck_assert_uint_eq(info.smallest, any.smallest);
            ck_assert(!clash(&m, info.total));
        }
    }
    close_model(&m);
}
END_TEST

START_TEST(refused) {
    model m;
    open_model(&m);
    tenon_schedule_info info = {.struct_size = sizeof info};
    const tenon_schedule good = m.schedule;
#define REFUSED(part)                                                                              \
    do {                                                                                           \
        ck_assert_int_eq(tenon_schedule_layout(NULL, &m.schedule, &info),                          \
                         TENON_ERROR_INVALID_ARGUMENT);                                            \
        ck_assert_msg(strstr(tenon_error_message(NULL), part) != NULL, "%s",                       \
                      tenon_error_message(NULL));                                                  \
        m.schedule = good;                                                                         \
    } while (0)
    ck_assert_int_eq(tenon_schedule_layout(NULL, NULL, &info), TENON_ERROR_INVALID_ARGUMENT);
    m.schedule.steps = NULL;
    REFUSED("steps is NULL");
    m.schedule.buffers = NULL;
    REFUSED("buffers is NULL");
    m.schedule.effort = NAN;
    REFUSED("effort");
    m.schedule.struct_size = 3;
    REFUSED("struct_size");
    info.struct_size = 3;
    REFUSED("struct_size");
    info.struct_size = sizeof info;
    m.buffer[2].last = m.buffer[2].first - 1;
    REFUSED("buffers[2].last");
    m.buffer[2].last = m.buffer[2].first;
    m.buffer[3].alignment = 65;
    REFUSED("buffers[3].alignment");
    m.buffer[3].alignment = 0;
    m.buffer[4].bytes = SIZE_MAX - 10;
    REFUSED("buffers[4]");
    m.buffer[4].bytes = 64;
    /* Nothing at all, and no info wanted. */
    ck_assert_int_eq(tenon_schedule_layout(NULL, &good, NULL), TENON_OK);
    const tenon_schedule nothing = {.budget = 1};
    ck_assert_int_eq(tenon_schedule_layout(NULL, &nothing, &info), TENON_OK);
    ck_assert_uint_eq(info.total, 0);
    /* Steps without plans. */
    tenon_step idle[2] = {{.choice = 7}, {.choice = 7}};
    const tenon_schedule waiting = {.steps = idle, .step_count = 2};
    ck_assert_int_eq(tenon_schedule_layout(NULL, &waiting, &info), TENON_OK);
    ck_assert_int_eq(idle[1].choice, -1);
    /* Choices. */
    ck_assert_int_eq(tenon_plan_choose(NULL, 0), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_plan_choose(m.plan[0], -1), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(tenon_plan_choose(m.plan[0], 99), TENON_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(tenon_error_message(NULL), "99"));
    close_model(&m);
}
END_TEST

/* ---- every request to the system fails ---- */

static tenon_status torture_call(void *state) {
    model *m = state;
    tenon_schedule_info info = {.struct_size = sizeof info};
    return tenon_schedule_layout(NULL, &m->schedule, &info);
}

static void torture_prepare(void *state) {
    model *m = state;
    for (int i = 0; i < STEPS; ++i)
        m->buffer[i].offset = m->step[i].offset = 77;
}

static bool torture_untouched(void *state) {
    const model *m = state;
    for (int i = 0; i < STEPS; ++i)
        if (m->buffer[i].offset != 77 || m->step[i].offset != 77)
            return false;
    return true;
}

static bool torture_correct(void *state) {
    return !clash(state, ((model *)state)->schedule.budget);
}

START_TEST(without_memory) {
    model m;
    open_model(&m);
    const tenon_schedule_info any = lay_out(&m, 0);
    m.schedule.budget = (any.smallest + any.preferred) / 2;
    int64_t injected = 0;
    const char *verdict = torture(&(torture_case){.name = "schedule",
                                                  .state = &m,
                                                  .prepare = torture_prepare,
                                                  .call = torture_call,
                                                  .untouched = torture_untouched,
                                                  .correct = torture_correct},
                                  &injected);
    ck_assert_msg(verdict == NULL, "%s", verdict);
    ck_assert_int_ge(injected, 8);
    close_model(&m);
}
END_TEST

static Suite *schedule_suite(void) {
    Suite *suite = suite_create("schedule");
    TCase *tcase = tcase_create("schedule");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, workspace_is_exact);
    tcase_add_test(tcase, smallest_budget_is_enough);
    tcase_add_test(tcase, budgets_between);
    tcase_add_test(tcase, gaps);
    tcase_add_test(tcase, refused);
    tcase_add_test(tcase, without_memory);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(schedule_suite());
}
