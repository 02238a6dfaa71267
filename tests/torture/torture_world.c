/* SPDX-License-Identifier: Apache-2.0 */
/* torture_world.c: see torture_world.h. */
#include "torture_world.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guarded.h"

char world_device[WORLD_DEVICES][72];
int world_device_count;

void world_devices(void) {
    world_device_count = host_devices(world_device, WORLD_DEVICES);
}

/* ---- setups ---- */

static bool open_pool(world *w) {
    if (!w->shares || w->pool)
        return true;
    return tenon_pool_create(&w->pool_desc, &w->pool) == TENON_OK;
}

static bool create(world *w, tenon_context **out) {
    w->desc.pool = w->pool;
    return tenon_context_create(&w->desc, out) == TENON_OK;
}

/* The neighbour's workspace fills the pool, until somebody reclaims it. */
static bool open_neighbour(world *w) {
    if (w->host != HOST_SHARED)
        return true;
    return create(w, &w->neighbour) && job_once(w->neighbour, &w->job) == TENON_OK;
}

bool world_open(void *state) {
    world *w = state;
    return open_pool(w) && open_neighbour(w) && create(w, &w->ctx);
}

bool world_open_plan(void *state) {
    world *w = state;
    return world_open(w) && job_plan(w->ctx, &w->job, &w->plan) == TENON_OK;
}

/* The context that runs it has never seen its like: the workspace is taken in the run. */
bool world_open_foreign_plan(void *state) {
    world *w = state;
    tenon_context *first = NULL;
    bool planned =
        open_pool(w) && create(w, &first) && job_plan(first, &w->job, &w->plan) == TENON_OK;
    tenon_context_destroy(first);
    return planned && world_open(w);
}

void world_close(void *state) {
    world *w = state;
    tenon_plan_destroy(w->plan);
    tenon_context_destroy(w->ctx);
    tenon_context_destroy(w->neighbour);
    tenon_pool_destroy(w->pool);
    w->plan = NULL;
    w->ctx = w->neighbour = NULL;
    w->pool = NULL;
}

/* ---- calls ---- */

tenon_status world_once(void *state) {
    world *w = state;
    return job_once(w->ctx, &w->job);
}

tenon_status world_run(void *state) {
    world *w = state;
    return job_run(w->ctx, w->plan, &w->job);
}

tenon_status world_make_plan(void *state) {
    world *w = state;
    w->plan = (tenon_plan *)w; /* must not stay */
    return job_plan(w->ctx, &w->job, &w->plan);
}

tenon_status world_parts(void *state) {
    world *w = state;
    tenon_status status = tenon_part_begin(w->ctx);
    if (status != TENON_OK)
        return status;
    tenon_part_run(w->ctx, world_once, w);
    tenon_part_run(w->ctx, world_once, w); /* comes late */
    return tenon_part_end(w->ctx);
}

tenon_status world_pack(void *state) {
    world *w = state;
    return tenon_gemm_pack(w->ctx, &w->job.gemm, w->packed, w->packed_bytes);
}

tenon_status world_life(void *state) {
    world *w = state;
    tenon_status status = w->shares ? tenon_pool_create(&w->pool_desc, &w->pool) : TENON_OK;
    w->desc.pool = w->pool;
    if (status == TENON_OK)
        status = tenon_context_create(&w->desc, &w->ctx);
    const bool born = status == TENON_OK;
    if (born && w->kind->plannable) {
        status = world_make_plan(w);
        if (status == TENON_OK)
            status = world_run(w);
        if (status == TENON_OK && !job_correct(&w->job))
            status = TENON_ERROR_INTERNAL;
        if (status == TENON_OK)
            job_prepare(&w->job);
    }
    if (status == TENON_OK)
        status = world_once(w);
    snprintf(w->said, sizeof w->said, "%s", tenon_error_message(w->ctx));
    world_close(w);
    return status;
}

/* ---- what is looked at ---- */

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
    const world *w = state;
    return w->ctx ? tenon_error_message(w->ctx) : w->said;
}

static bool no_plan(void *state) {
    return ((world *)state)->plan == NULL;
}

static bool plan_works(void *state) {
    world *w = state;
    job_prepare(&w->job);
    return world_run(w) == TENON_OK && job_correct(&w->job);
}

static void end_plan(void *state) {
    world *w = state;
    tenon_plan_destroy(w->plan);
    w->plan = NULL;
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
    tenon_gemm_desc *gemm = &w->job.gemm;
    const void *before = gemm->b_packed;
    size_t bytes_before = gemm->b_packed_bytes;
    job_prepare(&w->job);
    gemm->b_packed = w->packed;
    gemm->b_packed_bytes = w->packed_bytes;
    bool right = world_once(w) == TENON_OK && job_correct(&w->job);
    gemm->b_packed = before;
    gemm->b_packed_bytes = bytes_before;
    return right;
}

/* ---- ways ---- */

const char *const world_way_names[WORLD_WAYS] = {"one shot", "plan", "run elsewhere",
                                                 "parts",    "pack", "life"};

bool world_way_fits(const world *w, world_way way) {
    if (way == WORLD_PLAN || way == WORLD_RUN_ELSEWHERE)
        return w->kind->plannable;
    return way != WORLD_PACK || w->packed;
}

torture_case world_case(world *w, world_way way) {
    static const torture_case ways[WORLD_WAYS] = {
        [WORLD_ONE_SHOT] = {.setup = world_open,
                            .prepare = prepare,
                            .call = world_once,
                            .untouched = untouched,
                            .correct = correct},
        [WORLD_PLAN] = {.setup = world_open,
                        .call = world_make_plan,
                        .untouched = no_plan,
                        .correct = plan_works,
                        .undo = end_plan},
        [WORLD_RUN_ELSEWHERE] = {.setup = world_open_foreign_plan,
                                 .prepare = prepare,
                                 .call = world_run,
                                 .untouched = untouched,
                                 .correct = correct},
        [WORLD_PARTS] = {.setup = world_open,
                         .prepare = prepare,
                         .call = world_parts,
                         .untouched = untouched,
                         .correct = correct},
        [WORLD_PACK] = {.setup = world_open,
                        .prepare = prepare_pack,
                        .call = world_pack,
                        .untouched = pack_untouched,
                        .correct = pack_works},
        [WORLD_LIFE] = {.prepare = prepare,
                        .call = world_life,
                        .untouched = untouched,
                        .correct = correct},
    };
    torture_case c = ways[way];
    c.name = w->what;
    c.state = w;
    c.teardown = world_close;
    c.message = message;
    return c;
}

/* ---- learning ---- */

static size_t pages(size_t bytes) {
    const size_t page = 4096;
    return (bytes + page - 1) / page * page + page;
}

/* Sizes of the job's workspace on the open context's first device; of operations that have no plans
 * a guess. */
static void measure(world *w, size_t *preferred, size_t *smallest) {
    tenon_plan_info info;
    memset(&info, 0, sizeof info);
    *preferred = *smallest = (size_t)256 << 10;
    if (!w->kind->plannable || job_plan(w->ctx, &w->job, &w->plan) != TENON_OK)
        return;
    if (tenon_plan_query(w->plan, &info) == TENON_OK) {
        *preferred = pages(info.workspace_preferred);
        *smallest = pages(info.workspace_smallest);
    }
}

static bool packable(const world *w, size_t *bytes) {
    const tenon_gemm_desc *gemm = &w->job.gemm;
    return w->job.op == JOB_GEMM && !gemm->a_array &&
           tenon_gemm_pack_size(w->ctx, gemm, bytes) == TENON_OK;
}

/* What one device answers when nothing fails. True if it does the job. */
static bool learn_from(world *w, const char *device) {
    w->desc = host_of(HOST_THREADS, device, &w->balance);
    tenon_status status = world_open(w) ? job_pack(w->ctx, &w->job) : TENON_ERROR_NO_DEVICE;
    if (status == TENON_OK) {
        job_prepare(&w->job);
        status = world_once(w);
    }
    bool right = status == TENON_OK && job_learn(&w->job);
    w->failed = w->failed || (!right && status != TENON_ERROR_UNSUPPORTED);
    if (!right)
        printf("%s on %s: %s: %s\n", w->kind->name, device, tenon_status_name(status),
               tenon_error_message(w->ctx));
    world_close(w);
    return right;
}

/* Learns from every device of a chain. */
static bool learn(world *w, const char *device) {
    char first[72];
    snprintf(first, sizeof first, "%s", device);
    char *comma = strchr(first, ',');
    /* The first device last, so that what is packed is packed for it. */
    bool served = comma && learn_from(w, comma + 1);
    if (comma)
        *comma = 0;
    served = learn_from(w, first) || served;
    return served && !w->failed;
}

static void build(world *w, int kind, int host, const char *device) {
    memset(w, 0, sizeof *w);
    w->kind = &job_kinds[kind];
    w->kind->build(&w->job);
    snprintf(w->what, sizeof w->what, "%s on %s, %s", w->kind->name, device, host_names[host]);
}

bool world_start(world *w, int kind, int host, const char *device) {
    build(w, kind, host, device);
    if (!learn(w, device))
        return false;

    size_t preferred, smallest;
    w->desc.device = device;
    if (world_open(w)) {
        measure(w, &preferred, &smallest);
        if (packable(w, &w->packed_bytes))
            w->packed = guard_alloc(w->packed_bytes, 64, true);
        world_close(w);
        w->host = host;
        w->desc = host_of(host, device, &w->balance);
        w->shares = host_pool_of(host, preferred, &w->pool_desc);
        if (host == HOST_BUDGET)
            w->desc.memory_budget = smallest;
    }
    return true;
}

/* The answers of a child, in memory that it shares: `answers`, then each output's bytes. */
static bool learn_apart(world *w, const char *device, unsigned char *board) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int32_t answers = learn(w, device) ? w->job.answers : 0;
        memcpy(board, &answers, sizeof answers);
        unsigned char *at = board + sizeof answers;
        for (int a = 0; a < answers; ++a)
            for (int i = 0; i < w->job.outputs; at += w->job.output[i++].bytes)
                memcpy(at, w->job.output[i].answer[a], w->job.output[i].bytes);
        fflush(stdout);
        _exit(w->failed);
    }
    int how = 1;
    w->failed = child < 0 || waitpid(child, &how, 0) != child || how != 0;
    int32_t answers = 0;
    if (!w->failed)
        memcpy(&answers, board, sizeof answers);
    const unsigned char *at = board + sizeof answers;
    for (int a = 0; a < answers; ++a) {
        for (int i = 0; i < w->job.outputs; at += w->job.output[i++].bytes)
            memcpy(w->job.output[i].memory, at, w->job.output[i].bytes);
        w->failed = !job_learn(&w->job) || w->failed;
    }
    return answers > 0 && !w->failed;
}

bool world_start_apart(world *w, int kind, int host, const char *device) {
    build(w, kind, host, device);
    if (w->job.packs) /* what a child packs stays there */
        return false;
    size_t bytes = sizeof(int32_t);
    for (int i = 0; i < w->job.outputs; ++i)
        bytes += JOB_ANSWERS * w->job.output[i].bytes;
    void *board = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool learned = board != MAP_FAILED && learn_apart(w, device, board);
    if (board != MAP_FAILED)
        munmap(board, bytes);
    w->host = host;
    w->desc = host_of(host, device, &w->balance);
    w->shares = host_pool_of(host, 0, &w->pool_desc);
    return learned;
}

void world_end(world *w) {
    job_end(&w->job);
}
