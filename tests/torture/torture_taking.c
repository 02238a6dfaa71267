/* SPDX-License-Identifier: Apache-2.0 */
/* torture_taking.c: the public functions that ask the system for something, see torture_stage.h. */
#include <string.h>

#include "torture_stage.h"

static bool outputs_untouched(void *state) {
    return job_untouched(&((stage *)state)->job);
}

static bool outputs_right(void *state) {
    return job_correct(&((stage *)state)->job);
}

/* ---- operations ---- */

CALL(tenon_gemm) {
    STAGE;
    return tenon_gemm(s->ctx, &s->job.gemm);
}
CALL(tenon_gemm_plan) {
    STAGE;
    tenon_plan_destroy(s->made_plan);
    s->made_plan = (tenon_plan *)(void *)s; /* must not stay */
    return tenon_gemm_plan(s->ctx, &s->job.gemm, &s->made_plan);
}
CALL(tenon_gemm_run) {
    STAGE;
    return tenon_gemm_run(s->ctx, s->plan, &s->job.gemm);
}
CALL(tenon_softmax) {
    STAGE;
    return tenon_softmax(s->ctx, &s->job.softmax);
}
CALL(tenon_softmax_plan) {
    STAGE;
    tenon_plan_destroy(s->made_plan);
    s->made_plan = (tenon_plan *)(void *)s;
    return tenon_softmax_plan(s->ctx, &s->job.softmax, &s->made_plan);
}
CALL(tenon_attention) {
    STAGE;
    return tenon_attention(s->ctx, &s->job.attention);
}
CALL(tenon_attention_plan) {
    STAGE;
    tenon_plan_destroy(s->made_plan);
    s->made_plan = (tenon_plan *)(void *)s;
    return tenon_attention_plan(s->ctx, &s->job.attention, &s->made_plan);
}
CALL(tenon_attention_run) {
    STAGE;
    return tenon_attention_run(s->ctx, s->plan, &s->job.attention);
}
CALL(tenon_attention_merge) {
    STAGE;
    return tenon_attention_merge(s->ctx, &s->job.merge);
}
CALL(tenon_kv_append) {
    STAGE;
    return tenon_kv_append(s->ctx, &s->job.append);
}
CALL(tenon_quantize) {
    STAGE;
    return tenon_quantize(s->ctx, &s->job.quantize);
}
CALL(tenon_dequantize) {
    STAGE;
    return tenon_dequantize(s->ctx, &s->job.quantize);
}

CALL(tenon_blocks_check) {
    STAGE;
    enum { COUNT = 10000, BAD = 7000 }; /* more than a thread's share */
    static unsigned char blocks[COUNT * 34];
    blocks[BAD * 34 + 1] = 0x7c; /* infinite */
    const tenon_tensor t = tenon_matrix(blocks, TENON_Q8_0, COUNT, 32);
    int64_t bad = -2;
    const tenon_status status = tenon_blocks_check(s->ctx, &t, &bad);
    s->right = bad == BAD && status == TENON_ERROR_INVALID_ARGUMENT;
    return s->right ? TENON_OK : status;
}

CALL(tenon_blocks_from_groups) {
    STAGE;
    enum { K = 64, N = 1600, GROUPS = 2 }; /* more columns than a thread's share */
    static int32_t words[K / 8 * N], zeros[GROUPS * N / 8];
    static uint16_t scales[GROUPS * N];
    static unsigned char blocks[N * K / 32 * 18];
    memset(words, 0x99, sizeof words); /* 9 - 8 */
    memset(zeros, 0x77, sizeof zeros); /* one less than they are */
    for (int i = 0; i < GROUPS * N; ++i)
        scales[i] = 0x3c00; /* 1 */
    const tenon_groups_desc d = {.bits = 4,
                                 .qweight = tenon_matrix(words, TENON_S32, K / 8, N),
                                 .qzeros = tenon_matrix(zeros, TENON_S32, GROUPS, N / 8),
                                 .scales = tenon_matrix(scales, TENON_F16, GROUPS, N),
                                 .y = tenon_matrix(blocks, TENON_Q4_0, N, K)};
    const tenon_status status = tenon_blocks_from_groups(s->ctx, &d);
    s->right = status == TENON_OK && blocks[1] == 0x3c && blocks[2] == 0x99;
    return status;
}

static bool no_made_plan(void *state) {
    return ((stage *)state)->made_plan == NULL;
}

static bool made_plan_works(void *state) {
    STAGE;
    stage_prepare(s);
    return job_run(s->ctx, s->made_plan, &s->job) == TENON_OK && job_correct(&s->job);
}

static _Alignas(64) unsigned char packed[1 << 17];

CALL(tenon_gemm_pack) {
    STAGE;
    s->right = true;
    return tenon_gemm_pack(s->ctx, &s->job.gemm, packed, sizeof packed);
}

/* ---- contexts ---- */

CALL(tenon_context_create) {
    STAGE;
    tenon_context_destroy(s->made_context);
    s->made_context = (tenon_context *)(void *)s;
    return tenon_context_create(&s->desc, &s->made_context);
}

static bool no_made_context(void *state) {
    return ((stage *)state)->made_context == NULL;
}

static bool made_context_works(void *state) {
    STAGE;
    stage_prepare(s);
    return job_once(s->made_context, &s->job) == TENON_OK && job_correct(&s->job);
}

static tenon_status work(void *state) {
    STAGE;
    return job_once(s->ctx, &s->job);
}

CALL(tenon_part_run) {
    STAGE;
    tenon_status status = tenon_part_begin(s->ctx);
    if (status != TENON_OK)
        return status;
    tenon_part_run(s->ctx, work, s);
    return tenon_part_end(s->ctx);
}

/* ---- pools ---- */

CALL(tenon_pool_create) {
    STAGE;
    tenon_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.flags = TENON_POOL_FIXED | TENON_POOL_TOUCH | TENON_POOL_DEBUG;
    desc.segment_bytes = (size_t)64 << 10;
    tenon_pool_destroy(s->pool);
    s->pool = (tenon_pool *)(void *)s;
    return tenon_pool_create(&desc, &s->pool);
}

static bool no_pool(void *state) {
    return ((stage *)state)->pool == NULL;
}

static bool pool_works(void *state) {
    STAGE;
    tenon_buffer *buffer;
    bool works = tenon_buffer_alloc(s->pool, 10, "works", &buffer) == TENON_OK;
    tenon_buffer_free(buffer);
    return works;
}

enum { OBJECTS = sizeof((stage *)0)->objects / sizeof(tenon_lifetime) };

static void lay_out(stage *s) {
    for (int i = 0; i < OBJECTS; ++i)
        s->objects[i] = (tenon_lifetime){.bytes = 100, .first = i, .last = i + 3, .offset = 77};
    s->total = s->bound = 77;
}

CALL(tenon_memory_layout) {
    STAGE;
    lay_out(s);
    return tenon_memory_layout(s->pool, s->objects, OBJECTS, &s->total, &s->bound);
}

/* Searches too: sizes and lifetimes whose placing is not at the bound. */
CALL(tenon_memory_layout_with) {
    STAGE;
    const tenon_layout_options options = {.effort = 0.01};
    lay_out(s);
    for (int i = 0; i < OBJECTS; ++i) {
        s->objects[i].bytes = 100 + (size_t)(i * 37 % 11) * 64;
        s->objects[i].last = i + 1 + i * 5 % 7;
    }
    return tenon_memory_layout_with(s->pool, s->objects, OBJECTS, &options, &s->total, &s->bound);
}

static bool layout_untouched(void *state) {
    STAGE;
    bool same = s->total == 77 && s->bound == 77;
    for (int i = 0; i < OBJECTS; ++i)
        same = same && s->objects[i].offset == 77;
    return same;
}

/* Are objects alive together apart, and all inside? */
static bool layout_right(void *state) {
    STAGE;
    bool right = s->total != 77 && s->bound <= s->total;
    for (int i = 0; i < OBJECTS; ++i) {
        const tenon_lifetime *a = &s->objects[i];
        right = right && a->offset + a->bytes <= s->total;
        for (int j = 0; j < i; ++j) {
            const tenon_lifetime *b = &s->objects[j];
            right = right && (b->last < a->first || b->offset + b->bytes <= a->offset ||
                              a->offset + a->bytes <= b->offset);
        }
    }
    return right;
}

/* ---- schedules: two plans, and three buffers of which two are alive in each step ---- */

enum { STEPS = 2, KEPT = 3 };

/* The budget holds the buffers and the smallest workspace, not the fastest one. */
CALL(tenon_schedule_layout) {
    STAGE;
    tenon_plan_info plan;
    memset(&plan, 0, sizeof plan);
    tenon_status status = tenon_plan_query(s->plan, &plan);
    if (status != TENON_OK)
        return status;
    s->steps[0] = (tenon_step){.plan = s->plan, .offset = 77, .workspace = 77, .choice = 77};
    s->steps[1] = (tenon_step){.plan = s->made_plan, .offset = 77, .workspace = 77, .choice = 77};
    for (int i = 0; i < KEPT; ++i)
        s->objects[i] = (tenon_lifetime){
            .bytes = 100, .first = i > 1, .last = i > 0, .offset = 77}; /* 0-0, 0-1, 1-1 */
    memset(&s->info, 77, sizeof s->info);
    s->info.struct_size = sizeof s->info;
    const tenon_schedule schedule = {.steps = s->steps,
                                     .step_count = STEPS,
                                     .buffers = s->objects,
                                     .buffer_count = KEPT,
                                     .budget =
                                         KEPT * 128 + (plan.workspace_smallest + 63) / 64 * 64};
    s->total = schedule.budget;
    return tenon_schedule_layout(s->pool, &schedule, &s->info);
}

static bool schedule_untouched(void *state) {
    STAGE;
    tenon_schedule_info before;
    memset(&before, 77, sizeof before);
    before.struct_size = sizeof before;
    bool same = memcmp(&before, &s->info, sizeof before) == 0;
    for (int i = 0; i < STEPS; ++i)
        same = same && s->steps[i].offset == 77 && s->steps[i].workspace == 77 &&
               s->steps[i].choice == 77;
    for (int i = 0; i < KEPT; ++i)
        same = same && s->objects[i].offset == 77;
    return same;
}

static bool schedule_right(void *state) {
    STAGE;
    bool right = s->info.total <= s->total && s->info.smallest <= s->info.total &&
                 (s->info.total < s->info.preferred || s->info.preferred == s->info.smallest);
    for (int i = 0; i < STEPS; ++i) {
        const tenon_step *step = &s->steps[i];
        right = right && step->choice >= 0 && step->offset % 64 == 0 &&
                step->offset + step->workspace <= s->info.total;
        for (int b = 0; b < KEPT; ++b) {
            const tenon_lifetime *o = &s->objects[b];
            right = right && o->offset + o->bytes <= s->info.total &&
                    (o->last < i || o->first > i || step->workspace == 0 ||
                     o->offset + o->bytes <= step->offset ||
                     step->offset + step->workspace <= o->offset);
        }
    }
    return right;
}

/* ---- buffers: s->made is a buffer of the second pool until a call replaces it ---- */

static void lose_made(stage *s) {
    tenon_buffer_free(s->made);
    s->made = (tenon_buffer *)(void *)s; /* must not stay */
}

CALL(tenon_buffer_alloc) {
    STAGE;
    lose_made(s);
    return tenon_buffer_alloc(s->pool, 100, "made", &s->made);
}
CALL(tenon_buffer_alloc_aligned) {
    STAGE;
    lose_made(s);
    return tenon_buffer_alloc_aligned(s->pool, 100, 4096, "made", &s->made);
}
CALL(tenon_buffer_import) {
    STAGE;
    lose_made(s);
    return tenon_buffer_import(s->pool, TENON_NATIVE_HOST, s->host, 100, &s->made);
}

/* So many that the slab of handles runs out. */
CALL(tenon_buffer_view) {
    STAGE;
    tenon_buffer *views[400];
    tenon_status status = TENON_OK;
    int count = 0;
    lose_made(s);
    while (count < 400 && status == TENON_OK)
        status = tenon_buffer_view(s->parent, 1, 100, &views[count++]);
    s->made = views[--count];
    while (count-- > 0)
        tenon_buffer_free(views[count]);
    return status;
}

static bool no_made(void *state) {
    return ((stage *)state)->made == NULL;
}

static bool made_works(void *state) {
    STAGE;
    unsigned char *memory = tenon_buffer_host(s->made);
    if (!memory || tenon_buffer_size(s->made) != 100)
        return false;
    memset(memory, 1, 100);
    return true;
}

/* ---- the rows ---- */

#define TAKES(call, ...)                                                                           \
    { #call, call_##call, __VA_ARGS__ }
#define OP(call, job) TAKES(call, job, outputs_untouched, outputs_right)
#define PLAN(call, job) TAKES(call, job, no_made_plan, made_plan_works)
#define BUFFER(call) TAKES(call, NULL, no_made, made_works)

const stage_row taking_rows[] = {
    OP(tenon_gemm, "gemm_bf16_epilogue"),
    PLAN(tenon_gemm_plan, "gemm_bf16_epilogue"),
    OP(tenon_gemm_run, "gemm_bf16_epilogue"),
    OP(tenon_softmax, "softmax_columns"),
    PLAN(tenon_softmax_plan, "softmax_columns"),
    OP(tenon_attention, "attention_paged"),
    PLAN(tenon_attention_plan, "attention_paged"),
    OP(tenon_attention_run, "attention_paged"),
    OP(tenon_attention_merge, "merge_three"),
    OP(tenon_kv_append, "append_paged"),
    OP(tenon_quantize, "quantize_rows"),
    OP(tenon_dequantize, "dequantize_rows"),
    TAKES(tenon_context_create, NULL, no_made_context, made_context_works),
    OP(tenon_part_run, "gemm_f32"),
    TAKES(tenon_pool_create, NULL, no_pool, pool_works),
    BUFFER(tenon_buffer_alloc),
    BUFFER(tenon_buffer_alloc_aligned),
    BUFFER(tenon_buffer_import),
    BUFFER(tenon_buffer_view),
    TAKES(tenon_memory_layout, NULL, layout_untouched, layout_right),
    TAKES(tenon_memory_layout_with, NULL, layout_untouched, layout_right),
    TAKES(tenon_schedule_layout, "gemm_f32", schedule_untouched, schedule_right),
    TAKES(tenon_gemm_pack, NULL, NULL, NULL),    /* threads, which it can do without */
    TAKES(tenon_blocks_check, NULL, NULL, NULL), /* as above */
    TAKES(tenon_blocks_from_groups, NULL, NULL, NULL),
};
const int taking_row_count = sizeof taking_rows / sizeof taking_rows[0];
