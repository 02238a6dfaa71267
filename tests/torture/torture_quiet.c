/* SPDX-License-Identifier: Apache-2.0 */
/* torture_quiet.c: the public functions that ask the system for nothing, see torture_stage.h. */
#include <string.h>

#include "torture_stage.h"

static bool found_right(void *state) {
    return ((stage *)state)->right;
}

/* ---- operations and plans ---- */

CALL(tenon_gemm_pack_size) {
    STAGE;
    size_t bytes = 0;
    tenon_status status = tenon_gemm_pack_size(s->ctx, &s->job.gemm, &bytes);
    s->right = bytes > 0;
    return status;
}

CALL(tenon_plan_query) {
    STAGE;
    tenon_plan_info info;
    memset(&info, 0, sizeof info);
    tenon_status status = tenon_plan_query(s->plan, &info);
    s->right = info.choices > 0 && info.kernel != NULL;
    return status;
}

CALL(tenon_plan_choice_get) {
    STAGE;
    tenon_plan_choice choice;
    memset(&choice, 0, sizeof choice);
    tenon_status status = tenon_plan_choice_get(s->plan, 0, &choice);
    s->right = choice.kernel != NULL;
    return status;
}

/* The smallest, then the fastest again. */
CALL(tenon_plan_choose) {
    STAGE;
    tenon_plan_info small, fast;
    memset(&small, 0, sizeof small);
    memset(&fast, 0, sizeof fast);
    tenon_status status = tenon_plan_query(s->plan, &fast);
    const int32_t last = fast.choices - 1;
    if (status == TENON_OK)
        status = tenon_plan_choose(s->plan, last);
    if (status == TENON_OK)
        status = tenon_plan_query(s->plan, &small);
    if (status == TENON_OK)
        status = tenon_plan_choose(s->plan, 0);
    if (status == TENON_OK)
        status = tenon_plan_query(s->plan, &fast);
    s->right = small.chosen == last && small.workspace == small.workspace_smallest &&
               fast.chosen == 0 && fast.workspace == fast.workspace_preferred;
    return status;
}

CALL(tenon_plan_declined) {
    STAGE;
    s->right = tenon_plan_declined(s->plan, 99) == NULL;
    return TENON_OK;
}

CALL(tenon_plan_budget) {
    STAGE;
    const tenon_plan *plans[] = {s->plan, s->made_plan};
    size_t peak = 0, smallest = SIZE_MAX;
    tenon_status status = tenon_plan_budget(plans, 2, &peak, &smallest);
    s->right = smallest <= peak;
    return status;
}

CALL(tenon_plan_destroy) {
    STAGE;
    tenon_plan_destroy(s->made_plan);
    s->made_plan = NULL;
    s->right = true;
    return TENON_OK;
}

/* ---- contexts and devices ---- */

CALL(tenon_context_destroy) {
    STAGE;
    tenon_context_destroy(s->made_context);
    s->made_context = NULL;
    s->right = true;
    return TENON_OK;
}

CALL(tenon_sync) {
    STAGE;
    s->right = true;
    return tenon_sync(s->ctx);
}

CALL(tenon_context_wait) {
    STAGE;
    s->right = true;
    return tenon_context_wait(s->ctx, s->other);
}

CALL(tenon_context_native) {
    STAGE;
    void *context = s, *queue = s;
    tenon_status status = tenon_context_native(s->ctx, &context, &queue);
    s->right = !context && !queue;
    return status;
}

/* A processor compiles nothing: what is not its own is passed over. */
CALL(tenon_context_save_kernels) {
    STAGE;
    size_t bytes = 77;
    tenon_status status = tenon_context_save_kernels(s->ctx, s->host, sizeof s->host, &bytes);
    s->right = bytes == 0;
    return status;
}

CALL(tenon_context_load_kernels) {
    STAGE;
    int32_t loaded = 77;
    tenon_status status = tenon_context_load_kernels(s->ctx, s->host, sizeof s->host, &loaded);
    s->right = loaded == 0;
    return status;
}

CALL(tenon_context_device) {
    STAGE;
    s->right = tenon_context_device(s->ctx, 0) != NULL && !tenon_context_device(s->ctx, 99);
    return TENON_OK;
}

CALL(tenon_context_threads) {
    STAGE;
    s->right = tenon_context_threads(s->ctx) == 3;
    return TENON_OK;
}

CALL(tenon_context_pool) {
    STAGE;
    s->right = tenon_context_pool(s->ctx, 0) != NULL && !tenon_context_pool(s->ctx, 99);
    return TENON_OK;
}

static tenon_status no_work(void *state) {
    STAGE;
    s->right = true;
    return TENON_OK;
}

CALL(tenon_part_begin) {
    STAGE;
    tenon_status status = tenon_part_begin(s->ctx);
    if (status != TENON_OK)
        return status;
    tenon_part_run(s->ctx, no_work, s);
    return tenon_part_end(s->ctx);
}

CALL(tenon_part_end) {
    STAGE;
    tenon_status status = tenon_part_begin(s->ctx);
    if (status != TENON_OK)
        return status;
    s->right = tenon_part_end(s->ctx) == TENON_ERROR_INVALID_ARGUMENT; /* nobody came */
    return TENON_OK;
}

CALL(tenon_device_count) {
    STAGE;
    s->right = tenon_device_count() > 0;
    return TENON_OK;
}

CALL(tenon_device_get) {
    STAGE;
    tenon_device_info info;
    memset(&info, 0, sizeof info);
    tenon_status status = tenon_device_get(0, &info);
    s->right = info.id[0] != 0;
    return status;
}

CALL(tenon_version) {
    STAGE;
    s->right = tenon_version() >= 0;
    return TENON_OK;
}

/* ---- pools ---- */

CALL(tenon_pool_destroy) {
    STAGE;
    tenon_pool_destroy(s->pool);
    s->pool = NULL;
    s->right = true;
    return TENON_OK;
}

CALL(tenon_memory_stats) {
    STAGE;
    tenon_memory_info info;
    memset(&info, 0, sizeof info);
    tenon_status status = tenon_memory_stats(s->made_pool, &info);
    s->right = info.blocks == 2 && info.in_use == 356;
    return status;
}

CALL(tenon_memory_owners) {
    STAGE;
    tenon_memory_owner owners[4];
    s->right = tenon_memory_owners(s->made_pool, owners, 4) == 2 && owners[0].bytes == 256;
    return TENON_OK;
}

CALL(tenon_memory_trim) {
    STAGE;
    (void)tenon_memory_trim(tenon_context_pool(s->other, 0), 0);
    s->right = true;
    return TENON_OK;
}

static int count_text(void *user, const char *text, size_t bytes) {
    (void)text;
    *(int64_t *)user += (int64_t)bytes;
    return 0;
}

CALL(tenon_memory_snapshot) {
    STAGE;
    s->text = 0;
    tenon_status status = tenon_memory_snapshot(s->made_pool, count_text, &s->text);
    s->right = s->text > 0;
    return status;
}

CALL(tenon_memory_check) {
    STAGE;
    s->right = true;
    return tenon_memory_check(s->made_pool);
}

CALL(tenon_memory_record) {
    STAGE;
    s->text = 0;
    tenon_status status = tenon_memory_record(s->made_pool, count_text, &s->text);
    if (status == TENON_OK)
        status = tenon_memory_record(s->made_pool, NULL, NULL);
    s->right = status == TENON_OK;
    return status;
}

CALL(tenon_memory_inject) {
    STAGE;
    const tenon_fault_rule rule = {.fail_nth = 7, .probability = 0.5, .seed = 3};
    tenon_status status = tenon_memory_inject(s->made_pool, &rule);
    if (status == TENON_OK)
        status = tenon_memory_inject(s->made_pool, NULL);
    s->right = status == TENON_OK;
    return status;
}

/* ---- buffers ---- */

CALL(tenon_buffer_free) {
    STAGE;
    tenon_buffer_free(s->made);
    s->made = NULL;
    s->right = true;
    return TENON_OK;
}

CALL(tenon_buffer_size) {
    STAGE;
    s->right = tenon_buffer_size(s->parent) == 256;
    return TENON_OK;
}

CALL(tenon_buffer_host) {
    STAGE;
    s->right = tenon_buffer_host(s->parent) != NULL;
    return TENON_OK;
}

CALL(tenon_buffer_native) {
    STAGE;
    tenon_native_kind kind;
    void *native = NULL;
    size_t offset;
    tenon_status status = tenon_buffer_native(s->parent, &kind, &native, &offset);
    s->right = native != NULL && kind == TENON_NATIVE_HOST;
    return status;
}

CALL(tenon_buffer_write) {
    STAGE;
    s->right = true;
    return tenon_buffer_write(s->ctx, s->parent, 0, s->host, 256);
}

CALL(tenon_buffer_read) {
    STAGE;
    s->right = true;
    return tenon_buffer_read(s->ctx, s->parent, 0, s->host, 256);
}

CALL(tenon_buffer_map) {
    STAGE;
    tenon_status status = tenon_buffer_map(s->ctx, s->parent, 3, 9, &s->mapped);
    s->right = s->mapped == (unsigned char *)tenon_buffer_host(s->parent) + 3;
    return status;
}

CALL(tenon_buffer_unmap) {
    STAGE;
    s->right = true;
    return tenon_buffer_unmap(s->ctx, s->parent, tenon_buffer_host(s->parent));
}

/* Plans of rows of over a million elements take a workspace; the driver of such a one is tortured with the operations. */
CALL(tenon_softmax_run) {
    STAGE;
    tenon_status status = tenon_softmax_run(s->ctx, s->plan, &s->job.softmax);
    s->right = status == TENON_OK && job_correct(&s->job);
    return status;
}

/* ---- names ---- */

CALL(tenon_status_name) {
    STAGE;
    s->right = strcmp(tenon_status_name(TENON_OK), "TENON_OK") == 0;
    return TENON_OK;
}

CALL(tenon_error_message) {
    STAGE;
    s->right = tenon_error_message(s->ctx) != NULL && tenon_error_message(NULL) != NULL;
    return TENON_OK;
}

CALL(tenon_dtype_name) {
    STAGE;
    s->right = strcmp(tenon_dtype_name(TENON_F32), "f32") == 0;
    return TENON_OK;
}

CALL(tenon_dtype_from_name) {
    STAGE;
    s->right = tenon_dtype_from_name("bf16") == TENON_BF16;
    return TENON_OK;
}

CALL(tenon_dtype_block) {
    STAGE;
    size_t bytes = 0;
    tenon_status status = tenon_dtype_block(TENON_F64, NULL, &bytes);
    s->right = bytes == 8;
    return status;
}

#define QUIET(call) QUIET_OP(call, NULL)
#define QUIET_OP(call, job)                                                                        \
    { #call, call_##call, job, NULL, found_right }

const stage_row quiet_rows[] = {
    QUIET(tenon_gemm_pack_size),
    QUIET(tenon_plan_query),
    QUIET(tenon_plan_choice_get),
    QUIET_OP(tenon_plan_choose, "gemm_f32"),
    QUIET(tenon_plan_declined),
    QUIET(tenon_plan_budget),
    QUIET(tenon_plan_destroy),
    QUIET(tenon_context_destroy),
    QUIET(tenon_sync),
    QUIET(tenon_context_wait),
    QUIET(tenon_context_native),
    QUIET(tenon_context_save_kernels),
    QUIET(tenon_context_load_kernels),
    QUIET(tenon_context_device),
    QUIET(tenon_context_threads),
    QUIET(tenon_context_pool),
    QUIET(tenon_part_begin),
    QUIET(tenon_part_end),
    QUIET(tenon_device_count),
    QUIET(tenon_device_get),
    QUIET(tenon_version),
    QUIET(tenon_pool_destroy),
    QUIET(tenon_memory_stats),
    QUIET(tenon_memory_owners),
    QUIET(tenon_memory_trim),
    QUIET(tenon_memory_snapshot),
    QUIET(tenon_memory_check),
    QUIET(tenon_memory_record),
    QUIET(tenon_memory_inject),
    QUIET(tenon_buffer_free),
    QUIET(tenon_buffer_size),
    QUIET(tenon_buffer_host),
    QUIET(tenon_buffer_native),
    QUIET(tenon_buffer_write),
    QUIET(tenon_buffer_read),
    QUIET(tenon_buffer_map),
    QUIET(tenon_buffer_unmap),
    QUIET(tenon_status_name),
    QUIET(tenon_error_message),
    QUIET(tenon_dtype_name),
    QUIET(tenon_dtype_from_name),
    QUIET(tenon_dtype_block),
    QUIET_OP(tenon_softmax_run, "softmax_columns"),
};
const int quiet_row_count = sizeof quiet_rows / sizeof quiet_rows[0];
