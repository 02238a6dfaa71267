/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every request to the system fails in the calls around the operations: contexts, pools, buffers,
 * layouts, reports.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "guarded.h"
#include "suite.h"
#include "torture.h"
#include "torture_host.h"

#define MAX_DEVICES 16
#define KIB ((size_t)1024)
#define MIB (KIB * 1024)

static char devices[MAX_DEVICES][72];
static int device_count;

static void run_case(const torture_case *c, bool must_fail_somewhere) {
    int64_t injected = 0;
    const char *verdict = torture(c, &injected);
    ck_assert_msg(!verdict, "%s", verdict);
    printf("%s: %lld failures made\n", c->name, (long long)injected);
    if (must_fail_somewhere)
        ck_assert_int_gt(injected, 0);
}

static const char *shared_message(void *state) {
    (void)state;
    return tenon_error_message(NULL);
}

/* ---- contexts ---- */

typedef struct context_world {
    tenon_context_desc desc;
    tenon_pool_desc pool;
    bool shares;
    int64_t balance;
    tenon_context *ctx;
} context_world;

static bool setup_context(void *state) {
    context_world *w = state;
    return !w->shares || tenon_pool_create(&w->pool, &w->desc.pool) == TENON_OK;
}

static tenon_status create_context(void *state) {
    context_world *w = state;
    w->ctx = (tenon_context *)(void *)w; /* must not stay */
    return tenon_context_create(&w->desc, &w->ctx);
}

static bool no_context(void *state) {
    context_world *w = state;
    return w->ctx == NULL && w->balance == 0;
}

static bool context_works(void *state) {
    context_world *w = state;
    return tenon_context_device(w->ctx, 0) != NULL && tenon_context_pool(w->ctx, 0) != NULL &&
           tenon_sync(w->ctx) == TENON_OK && tenon_context_wait(w->ctx, w->ctx) == TENON_OK;
}

static void end_context(void *state) {
    context_world *w = state;
    tenon_context_destroy(w->ctx);
    w->ctx = NULL;
}

static void close_context(void *state) {
    context_world *w = state;
    tenon_pool_destroy(w->desc.pool);
    w->desc.pool = NULL;
}

START_TEST(contexts) {
    for (int d = 0; d < device_count; ++d) {
        context_world w = {.balance = 0};
        w.desc = host_of(_i, devices[d], &w.balance);
        w.shares = host_pool_of(_i, MIB, &w.pool);
        run_case(&(torture_case){.name = host_names[_i],
                                 .state = &w,
                                 .setup = setup_context,
                                 .teardown = close_context,
                                 .call = create_context,
                                 .untouched = no_context,
                                 .correct = context_works,
                                 .undo = end_context,
                                 .message = shared_message},
                 true);
        ck_assert_int_eq(w.balance, 0);
    }
}
END_TEST

/* ---- pools ---- */

typedef struct pool_world {
    tenon_pool_desc desc;
    int64_t balance;
    tenon_pool *pool;
    tenon_buffer *buffer, *parent;
    tenon_context *ctx;
    unsigned char host[256];
} pool_world;

static tenon_status create_pool(void *state) {
    pool_world *w = state;
    w->pool = (tenon_pool *)(void *)w;
    return tenon_pool_create(&w->desc, &w->pool);
}

static bool no_pool(void *state) {
    pool_world *w = state;
    return w->pool == NULL && w->balance == 0;
}

static bool buffer_works(tenon_buffer *buffer, size_t bytes) {
    unsigned char *memory = tenon_buffer_host(buffer);
    if (!memory || tenon_buffer_size(buffer) != bytes)
        return false;
    memory[0] = 1;
    memory[bytes - 1] = 1;
    return true;
}

static tenon_status use_pool(void *state) {
    pool_world *w = state;
    tenon_buffer *buffer;
    tenon_status status = tenon_buffer_alloc(w->pool, 100, "test", &buffer);
    if (status == TENON_OK && !buffer_works(buffer, 100))
        status = TENON_ERROR_INTERNAL;
    tenon_buffer_free(buffer);
    return status;
}

static bool pool_works(void *state) {
    return use_pool(state) == TENON_OK;
}

static void end_pool(void *state) {
    pool_world *w = state;
    tenon_pool_destroy(w->pool);
    w->pool = NULL;
}

static bool setup_pool(void *state) {
    pool_world *w = state;
    return tenon_pool_create(&w->desc, &w->pool) == TENON_OK;
}

enum { POOL_PLAIN, POOL_TOUCH, POOL_HUGE, POOL_DEBUG, POOL_FIXED, POOL_HOOKS, POOL_ALL, POOLS };

static tenon_pool_desc pool_desc(int kind, int64_t *balance) {
    static const unsigned flags[POOLS] = {
        [POOL_TOUCH] = TENON_POOL_TOUCH,
        [POOL_HUGE] = TENON_POOL_HUGE_PAGES,
        [POOL_DEBUG] = TENON_POOL_DEBUG,
        [POOL_FIXED] = TENON_POOL_FIXED,
        [POOL_ALL] = TENON_POOL_TOUCH | TENON_POOL_HUGE_PAGES | TENON_POOL_DEBUG,
    };
    tenon_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.flags = flags[kind];
    desc.segment_bytes = 8 * MIB;
    if (kind == POOL_HOOKS)
        desc.allocator = (tenon_allocator){.user = balance, .alloc = host_alloc, .free = host_free};
    return desc;
}

START_TEST(pools) {
    pool_world w = {.balance = 0};
    w.desc = pool_desc(_i, &w.balance);
    run_case(&(torture_case){.name = "pool",
                             .state = &w,
                             .call = create_pool,
                             .untouched = no_pool,
                             .correct = pool_works,
                             .undo = end_pool,
                             .message = shared_message},
             true);
    ck_assert_int_eq(w.balance, 0);
}
END_TEST

/* Pages without the advice, cuttings and figures that the system refuses. */
START_TEST(services_are_not_needed) {
    pool_world w = {.balance = 0};
    w.desc = pool_desc(_i, &w.balance);
    fault_select(FAULT_SERVICES);
    run_case(&(torture_case){.name = "pool and its first segment",
                             .state = &w,
                             .setup = setup_pool,
                             .call = use_pool,
                             .teardown = end_pool,
                             .message = shared_message,
                             .harmless = true},
             false);
}
END_TEST

/* ---- buffers ---- */

#define LARGE (9 * MIB + 5) /* more than a segment */

static tenon_status alloc_small(void *state) {
    pool_world *w = state;
    w->buffer = (tenon_buffer *)(void *)w;
    return tenon_buffer_alloc(w->pool, 1000, "small", &w->buffer);
}

static tenon_status alloc_large(void *state) {
    pool_world *w = state;
    w->buffer = (tenon_buffer *)(void *)w;
    return tenon_buffer_alloc_aligned(w->pool, LARGE, 4096, "large", &w->buffer);
}

static tenon_status import_host(void *state) {
    pool_world *w = state;
    w->buffer = (tenon_buffer *)(void *)w;
    return tenon_buffer_import(w->pool, TENON_NATIVE_HOST, w->host, sizeof w->host, &w->buffer);
}

static tenon_status view_parent(void *state) {
    pool_world *w = state;
    w->buffer = (tenon_buffer *)(void *)w;
    return tenon_buffer_view(w->parent, 100, 200, &w->buffer);
}

static bool no_buffer(void *state) {
    return ((pool_world *)state)->buffer == NULL;
}

static bool small_works(void *state) {
    return buffer_works(((pool_world *)state)->buffer, 1000);
}

static bool large_works(void *state) {
    return buffer_works(((pool_world *)state)->buffer, LARGE);
}

static bool import_works(void *state) {
    pool_world *w = state;
    return tenon_buffer_host(w->buffer) == w->host;
}

static bool view_works(void *state) {
    return buffer_works(((pool_world *)state)->buffer, 200);
}

static void free_buffer(void *state) {
    pool_world *w = state;
    tenon_buffer_free(w->buffer);
    w->buffer = NULL;
}

static bool setup_parent(void *state) {
    pool_world *w = state;
    return setup_pool(w) && tenon_buffer_alloc(w->pool, 1000, "parent", &w->parent) == TENON_OK;
}

static void end_parent(void *state) {
    pool_world *w = state;
    tenon_buffer_free(w->parent);
    w->parent = NULL;
    end_pool(w);
}

START_TEST(buffers) {
    pool_world w = {.balance = 0};
    w.desc = pool_desc(_i, &w.balance);
    torture_case small = {.name = "small buffer",
                          .state = &w,
                          .setup = setup_pool,
                          .call = alloc_small,
                          .untouched = no_buffer,
                          .correct = small_works,
                          .undo = free_buffer,
                          .teardown = end_pool,
                          .message = shared_message};
    torture_case large = small, import = small, view = small;
    large.name = "large buffer";
    large.call = alloc_large;
    large.correct = large_works;
    import.name = "import";
    import.call = import_host;
    import.correct = import_works;
    view.name = "view";
    view.setup = setup_parent;
    view.teardown = end_parent;
    view.call = view_parent;
    view.correct = view_works;
    run_case(&small, false);
    if (_i != POOL_FIXED)
        run_case(&large, true);
    run_case(&import, false);
    run_case(&view, false);
    ck_assert_int_eq(w.balance, 0);
}
END_TEST

/* Hundreds of buffers one after the other, so that bookkeeping grows too; on failure those before
 * are still whole. */
#define CROWD 600

typedef struct crowd_world {
    pool_world pool;
    tenon_buffer *buffers[CROWD];
    int count;
} crowd_world;

static bool setup_crowd(void *state) {
    return setup_pool(&((crowd_world *)state)->pool);
}

static tenon_status alloc_crowd(void *state) {
    crowd_world *w = state;
    for (w->count = 0; w->count < CROWD; ++w->count) {
        tenon_status status =
            tenon_buffer_alloc(w->pool.pool, 40 * KIB, "crowd", &w->buffers[w->count]);
        if (status != TENON_OK)
            return status;
        memset(tenon_buffer_host(w->buffers[w->count]), w->count, 40 * KIB);
    }
    return TENON_OK;
}

static bool crowd_whole(void *state) {
    crowd_world *w = state;
    bool whole = true;
    for (int i = 0; i < w->count; ++i) {
        const unsigned char *memory = tenon_buffer_host(w->buffers[i]);
        whole = whole && memory[0] == (unsigned char)i && memory[40 * KIB - 1] == (unsigned char)i;
        tenon_buffer_free(w->buffers[i]);
    }
    tenon_memory_info info;
    memset(&info, 0, sizeof info);
    return tenon_memory_stats(w->pool.pool, &info) == TENON_OK && info.blocks == 0 &&
           info.in_use == 0 && whole;
}

static void end_crowd(void *state) {
    end_pool(&((crowd_world *)state)->pool);
}

START_TEST(many_buffers) {
    crowd_world w = {.count = 0};
    w.pool.desc = pool_desc(_i, &w.pool.balance);
    if (_i == POOL_FIXED)
        w.pool.desc.segment_bytes = 32 * MIB;
    run_case(&(torture_case){.name = "many buffers",
                             .state = &w,
                             .setup = setup_crowd,
                             .call = alloc_crowd,
                             .untouched = crowd_whole,
                             .correct = crowd_whole,
                             .teardown = end_crowd,
                             .message = shared_message},
             _i != POOL_FIXED);
}
END_TEST

/* ---- copies, reports, layouts ---- */

static bool setup_copy(void *state) {
    pool_world *w = state;
    tenon_context_desc desc = host_of(HOST_ONE_THREAD, devices[0], &w->balance);
    return tenon_context_create(&desc, &w->ctx) == TENON_OK &&
           tenon_buffer_alloc(tenon_context_pool(w->ctx, 0), 256, "copy", &w->buffer) == TENON_OK;
}

static void prepare_copy(void *state) {
    pool_world *w = state;
    canary_fill(w->host, sizeof w->host);
}

static tenon_status copy_around(void *state) {
    pool_world *w = state;
    unsigned char bytes[256];
    void *mapped = NULL;
    memset(bytes, 9, sizeof bytes);
    tenon_status status = tenon_buffer_write(w->ctx, w->buffer, 0, bytes, sizeof bytes);
    if (status == TENON_OK)
        status = tenon_buffer_map(w->ctx, w->buffer, 0, 256, &mapped);
    if (status == TENON_OK) {
        memset(mapped, 7, 100);
        status = tenon_buffer_unmap(w->ctx, w->buffer, mapped);
    }
    return status == TENON_OK ? tenon_buffer_read(w->ctx, w->buffer, 0, w->host, sizeof w->host)
                              : status;
}

static bool copy_untouched(void *state) {
    pool_world *w = state;
    return canary_intact(w->host, sizeof w->host);
}

static bool copy_right(void *state) {
    pool_world *w = state;
    return w->host[0] == 7 && w->host[99] == 7 && w->host[100] == 9 && w->host[255] == 9;
}

static void end_copy(void *state) {
    pool_world *w = state;
    tenon_buffer_free(w->buffer);
    tenon_context_destroy(w->ctx);
}

START_TEST(copies) {
    pool_world w = {.balance = 0};
    run_case(&(torture_case){.name = "copies",
                             .state = &w,
                             .setup = setup_copy,
                             .prepare = prepare_copy,
                             .call = copy_around,
                             .untouched = copy_untouched,
                             .correct = copy_right,
                             .teardown = end_copy},
             false);
}
END_TEST

#define OBJECTS 50

typedef struct layout_world {
    pool_world pool;
    tenon_lifetime objects[OBJECTS];
    size_t total, bound;
} layout_world;

static bool setup_layout(void *state) {
    return setup_pool(&((layout_world *)state)->pool);
}

static void prepare_layout(void *state) {
    layout_world *w = state;
    for (int i = 0; i < OBJECTS; ++i)
        w->objects[i] = (tenon_lifetime){
            .bytes = (size_t)(i + 1) * 1000, .first = i, .last = i + i % 7, .offset = 77};
    w->total = w->bound = 77;
}

static tenon_status lay_out(void *state) {
    layout_world *w = state;
    return tenon_memory_layout(w->pool.pool, w->objects, OBJECTS, &w->total, &w->bound);
}

static bool layout_untouched(void *state) {
    layout_world *w = state;
    for (int i = 0; i < OBJECTS; ++i)
        if (w->objects[i].offset != 77)
            return false;
    return w->total == 77 && w->bound == 77;
}

static bool layout_right(void *state) {
    layout_world *w = state;
    for (int i = 0; i < OBJECTS; ++i)
        if (w->objects[i].offset == 77 || w->objects[i].offset + w->objects[i].bytes > w->total)
            return false;
    return w->bound <= w->total;
}

static void end_layout(void *state) {
    end_pool(&((layout_world *)state)->pool);
}

START_TEST(layouts) {
    layout_world w = {.total = 0};
    w.pool.desc = pool_desc(POOL_PLAIN, &w.pool.balance);
    run_case(&(torture_case){.name = "layout",
                             .state = &w,
                             .setup = setup_layout,
                             .prepare = prepare_layout,
                             .call = lay_out,
                             .untouched = layout_untouched,
                             .correct = layout_right,
                             .teardown = end_layout},
             true);
}
END_TEST

static int count_text(void *user, const char *text, size_t bytes) {
    (void)text;
    *(size_t *)user += bytes;
    return 0;
}

START_TEST(reports_allocate_nothing) {
    pool_world w = {.balance = 0};
    w.desc = pool_desc(_i, &w.balance);
    ck_assert(setup_parent(&w));
    tenon_memory_info info;
    memset(&info, 0, sizeof info);
    tenon_memory_owner owners[4];
    size_t text = 0, recorded = 0;
    fault_reset();
    fault_watch(true);
    tenon_status stats = tenon_memory_stats(w.pool, &info);
    size_t n = tenon_memory_owners(w.pool, owners, 4);
    tenon_status snapshot = tenon_memory_snapshot(w.pool, count_text, &text);
    tenon_status record = tenon_memory_record(w.pool, count_text, &recorded);
    tenon_buffer *again = NULL;
    tenon_buffer_free(w.parent); /* and a block out of what is there already */
    int64_t before = fault_count();
    tenon_status alloc = tenon_buffer_alloc(w.pool, 1000, "again", &again);
    tenon_status stop = tenon_memory_record(w.pool, NULL, NULL);
    fault_watch(false);
    ck_assert_int_eq(before, 0);
    ck_assert_int_eq(fault_count(), 0);
    ck_assert_int_eq(stats, TENON_OK);
    ck_assert_int_eq(snapshot, TENON_OK);
    ck_assert_int_eq(record, TENON_OK);
    ck_assert_int_eq(stop, TENON_OK);
    ck_assert_int_eq(alloc, TENON_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_gt(text, 0);
    ck_assert_uint_gt(recorded, 0);
    w.parent = again;
    end_parent(&w);
    ck_assert_int_eq(w.balance, 0);
}
END_TEST

static Suite *memory_suite(void) {
    Suite *suite = suite_create("torture of memory");
    TCase *tc = tcase_create("memory");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, contexts, 0, HOSTS);
    tcase_add_loop_test(tc, pools, 0, POOLS);
    tcase_add_loop_test(tc, services_are_not_needed, 0, POOLS);
    tcase_add_loop_test(tc, buffers, 0, POOLS);
    tcase_add_loop_test(tc, many_buffers, 0, POOLS);
    tcase_add_test(tc, copies);
    tcase_add_test(tc, layouts);
    tcase_add_loop_test(tc, reports_allocate_nothing, 0, POOLS);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void) {
    torture_tally_open();
    device_count = host_devices(devices, MAX_DEVICES);
    int result = run_suite(memory_suite());
    torture_tally_close("torture_memory");
    return result;
}
