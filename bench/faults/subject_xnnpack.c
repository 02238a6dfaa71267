/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subject_xnnpack.c: XNNPACK's fully connected operator on a pthreadpool (subject.h). The operator,
 * which holds the packed weights, is made once and kept; a later call is setup and run. The
 * interface is the one of Debian's package; meson.build tries whether the header has it.
 */
#include "subject.h"

#include <math.h>
#include <xnnpack.h>

static __typeof__(&xnn_initialize) initialize;
static __typeof__(&xnn_create_fully_connected_nc_f32) create;
static __typeof__(&xnn_setup_fully_connected_nc_f32) setup;
static __typeof__(&xnn_run_operator) run;
static __typeof__(&pthreadpool_create) create_pool;

static bool initialized;
static pthreadpool_t pool;
static xnn_operator_t op;

static bool said(enum xnn_status status, const char *function, char *why) {
    return status == xnn_status_success || refuse(why, "%s returned %d", function, (int)status);
}

static bool start(void *library, int threads, char *why) {
    if (!look_up(library, "xnn_initialize", &initialize, why) ||
        !look_up(library, "xnn_create_fully_connected_nc_f32", &create, why) ||
        !look_up(library, "xnn_setup_fully_connected_nc_f32", &setup, why) ||
        !look_up(library, "xnn_run_operator", &run, why) ||
        !look_up(library, "pthreadpool_create", &create_pool, why))
        return false;
    initialized = initialized || said(initialize(NULL), "xnn_initialize", why);
    if (initialized && !pool)
        pool = create_pool((size_t)threads);
    return initialized && (pool || refuse(why, "pthreadpool_create returned NULL"));
}

static bool compute(const task *t, char *why) {
    const size_t n = (size_t)t->size;
    if (!op &&
        !said(create(n, n, n, n, t->b, NULL, -INFINITY, INFINITY, XNN_FLAG_TRANSPOSE_WEIGHTS, &op),
              "xnn_create_fully_connected_nc_f32", why))
        return false;
    return said(setup(op, n, t->a, t->out, pool), "xnn_setup_fully_connected_nc_f32", why) &&
           said(run(op, pool), "xnn_run_operator", why);
}

const subject subject_xnnpack = {"xnnpack", TASK_PRODUCT, start, compute, NULL};
