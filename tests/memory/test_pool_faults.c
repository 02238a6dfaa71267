/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every request of the pool to the system, and to a caller's hooks, fails: once, and then for ever.
 * The call answers with a status, nothing is left over, and the same pool serves the same call
 * afterwards.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "memory/arena.h"
#include "memory_support.h"
#include "suite.h"
#include "torture.h"

enum { BUFFERS = 150, OBJECTS = 300 };

typedef struct scene {
    tenon_pool_desc desc;
    tenon_pool *pool;
    tenon_buffer *buffers[BUFFERS], *root;
    tn_arena arena;
    tn_message message;
    tenon_lifetime objects[OBJECTS];
    size_t total;
    char foreign[64];
} scene;

static const char *sentence(void *state) {
    (void)state;
    return tenon_error_message(NULL);
}

/* ---- making a pool ---- */

static tenon_status create(void *state) {
    scene *s = state;
    return tenon_pool_create(&s->desc, &s->pool);
}

static bool no_pool(void *state) {
    return ((scene *)state)->pool == NULL;
}

static void destroy(void *state) {
    scene *s = state;
    tenon_pool_destroy(s->pool);
    s->pool = NULL;
}

static bool have_pool(void *state) {
    return create(state) == TENON_OK;
}

/* ---- buffers: more than one slab of handles and of nodes, more than one segment ---- */

static void no_buffers(void *state) {
    scene *s = state;
    for (int i = 0; i < BUFFERS; ++i)
        s->buffers[i] = (tenon_buffer *)s; /* must become NULL or a buffer */
}

static void free_buffers(void *state) {
    scene *s = state;
    for (int i = 0; i < BUFFERS; ++i) {
        tenon_buffer_free(s->buffers[i]);
        s->buffers[i] = NULL;
    }
    tenon_memory_trim(s->pool, 0);
}

static tenon_status alloc_buffers(void *state) {
    scene *s = state;
    tenon_status first = TENON_OK;
    for (int i = 0; i < BUFFERS; ++i) {
        tenon_status status =
            tenon_buffer_alloc(s->pool, (size_t)i * 97, "torture", &s->buffers[i]);
        if (first == TENON_OK)
            first = status;
    }
    if (first != TENON_OK)
        for (int i = 0; i < BUFFERS; ++i) {
            tenon_buffer_free(s->buffers[i]);
            s->buffers[i] = NULL;
        }
    return first;
}

static bool all_null(void *state) {
    scene *s = state;
    for (int i = 0; i < BUFFERS; ++i)
        if (s->buffers[i] != NULL)
            return false;
    tenon_memory_info info = {0};
    return tenon_memory_stats(s->pool, &info) == TENON_OK && info.in_use == 0 && info.blocks == 0;
}

static bool all_there(void *state) {
    scene *s = state;
    for (int i = 0; i < BUFFERS; ++i)
        if (s->buffers[i] == NULL || tenon_buffer_size(s->buffers[i]) != (size_t)i * 97)
            return false;
    return true;
}

/* ---- views and imports ---- */

static bool have_root(void *state) {
    scene *s = state;
    if (!have_pool(state))
        return false;
    return tenon_buffer_import(s->pool, TENON_NATIVE_HOST, s->foreign, sizeof s->foreign,
                               &s->root) == TENON_OK;
}

static tenon_status view_buffers(void *state) {
    scene *s = state;
    tenon_status first = TENON_OK;
    for (int i = 0; i < BUFFERS; ++i) {
        tenon_status status = i % 2 == 0 ? tenon_buffer_view(s->root, 1, 2, &s->buffers[i])
                                         : tenon_buffer_import(s->pool, TENON_NATIVE_HOST,
                                                               s->foreign, 3, &s->buffers[i]);
        if (first == TENON_OK)
            first = status;
    }
    if (first != TENON_OK)
        for (int i = 0; i < BUFFERS; ++i) {
            tenon_buffer_free(s->buffers[i]);
            s->buffers[i] = NULL;
        }
    return first;
}

static void lose_root(void *state) {
    scene *s = state;
    free_buffers(state);
    tenon_buffer_free(s->root);
    destroy(state);
}

/* ---- arenas ---- */

static bool have_arena(void *state) {
    scene *s = state;
    if (!have_pool(state))
        return false;
    tn_arena_open(&s->arena, s->pool);
    return tn_arena_reserve(&s->arena, 1000, &s->message) == TENON_OK;
}

static tenon_status reserve(void *state) {
    scene *s = state;
    return tn_arena_reserve(&s->arena, 5 << 20, &s->message);
}

static bool old_block(void *state) {
    return ((scene *)state)->arena.block.bytes == 1000;
}

static bool new_block(void *state) {
    scene *s = state;
    if (s->arena.block.bytes != 5 << 20)
        return false;
    memset(tn_arena_take(&s->arena, 5 << 20), 1, 5 << 20);
    return true;
}

static void shrink(void *state) {
    scene *s = state;
    tn_arena_drop(&s->arena);
    tenon_memory_trim(s->pool, 0);
    (void)!tn_arena_reserve(&s->arena, 1000, &s->message);
}

static void lose_arena(void *state) {
    tn_arena_close(&((scene *)state)->arena);
    destroy(state);
}

static const char *own_sentence(void *state) {
    return ((scene *)state)->message.text;
}

/* ---- layouts ---- */

static void prepare_objects(void *state) {
    scene *s = state;
    for (int i = 0; i < OBJECTS; ++i)
        s->objects[i] =
            (tenon_lifetime){.bytes = 100, .first = i / 2, .last = i / 2 + 3, .offset = 77};
    s->total = 77;
}

static tenon_status lay_out(void *state) {
    scene *s = state;
    return tenon_memory_layout(s->pool, s->objects, OBJECTS, &s->total, NULL);
}

static bool objects_untouched(void *state) {
    scene *s = state;
    for (int i = 0; i < OBJECTS; ++i)
        if (s->objects[i].offset != 77)
            return false;
    return s->total == 77;
}

/* ---- the rounds ---- */

static const torture_case cases[] = {
    {.name = "create", .call = create, .untouched = no_pool, .undo = destroy, .message = sentence},
    {.name = "buffers",
     .setup = have_pool,
     .prepare = no_buffers,
     .call = alloc_buffers,
     .untouched = all_null,
     .correct = all_there,
     .undo = free_buffers,
     .teardown = destroy,
     .message = sentence},
    {.name = "views",
     .setup = have_root,
     .prepare = no_buffers,
     .call = view_buffers,
     .undo = free_buffers,
     .teardown = lose_root,
     .message = sentence},
    {.name = "arena",
     .setup = have_arena,
     .call = reserve,
     .untouched = old_block,
     .correct = new_block,
     .undo = shrink,
     .teardown = lose_arena,
     .message = own_sentence},
    {.name = "layout",
     .setup = have_pool,
     .prepare = prepare_objects,
     .call = lay_out,
     .untouched = objects_untouched,
     .teardown = destroy,
     .message = sentence},
};

enum { CASES = sizeof cases / sizeof cases[0] };

static const unsigned all_flags[] = {0, TENON_POOL_TOUCH, TENON_POOL_HUGE_PAGES | TENON_POOL_TOUCH,
                                     TENON_POOL_DEBUG, TENON_POOL_FIXED};

START_TEST(the_system_fails) {
    static scene s;
    const torture_case *one = &cases[_i % CASES];
    unsigned flags = all_flags[_i / CASES];
    memset(&s, 0, sizeof s);
    s.desc = (tenon_pool_desc){
        .flags = flags, .segment_bytes = (flags & TENON_POOL_FIXED) != 0 ? 16 << 20 : 64 << 10};
    torture_case c = *one;
    c.state = &s;
    int64_t injected = 0;
    const char *wrong = torture(&c, &injected);
    ck_assert_msg(wrong == NULL, "flags %u: %s", flags, wrong);
    /* Only a fixed pool's own allocations have nothing to fail. */
    ck_assert_int_eq(injected == 0,
                     (flags & TENON_POOL_FIXED) != 0 && c.call != create && c.call != lay_out);
}
END_TEST

/* By answering nothing, or with misaligned memory, which is a mistake of the hooks and named as one. */
START_TEST(the_hooks_fail) {
    static scene s;
    const torture_case *c = &cases[_i / 2];
    const bool stray = _i % 2 != 0;
    for (int sticky = 0; sticky < 2; ++sticky) {
        int failures = 0;
        for (long long nth = 1; nth < 1000; ++nth) {
            counted hooks = {.stray = stray};
            memset(&s, 0, sizeof s);
            s.desc =
                (tenon_pool_desc){.segment_bytes = 64 << 10, .allocator = counted_hooks(&hooks)};
            ck_assert(c->setup == NULL || c->setup(&s));
            if (c->prepare != NULL)
                c->prepare(&s);
            counted_fail(&hooks, nth, sticky);
            tenon_status status = c->call(&s);
            bool reached = atomic_load(&hooks.calls) - hooks.fail_from >= nth;
            counted_fail(&hooks, 0, false);
            ck_assert(status == TENON_OK ||
                      status == (stray ? TENON_ERROR_INVALID_ARGUMENT : TENON_ERROR_OUT_OF_MEMORY));
            if (status != TENON_OK) {
                ++failures;
                const char *told = c->message(&s);
                ck_assert_msg(!stray || (strstr(told, "allocator.alloc returned 0x") != NULL &&
                                         strstr(told, "expected a multiple of ") != NULL),
                              "%s: %s", c->name, told);
                ck_assert(c->untouched == NULL || c->untouched(&s));
                status = c->call(&s); /* the same pool goes on */
            }
            ck_assert_int_eq(status, TENON_OK);
            ck_assert(c->correct == NULL || c->correct(&s));
            if (c->undo != NULL)
                c->undo(&s);
            if (c->teardown != NULL)
                c->teardown(&s);
            ck_assert_int_eq(atomic_load(&hooks.live), 0);
            if (!reached)
                break;
        }
        ck_assert_int_gt(failures, 0);
    }
}
END_TEST

static Suite *faults_suite(void) {
    Suite *suite = suite_create("pool_faults");
    TCase *tcase = tcase_create("faults");
    tcase_set_timeout(tcase, 200);
    tcase_add_loop_test(tcase, the_system_fails, 0,
                        CASES * (int)(sizeof all_flags / sizeof all_flags[0]));
    tcase_add_loop_test(tcase, the_hooks_fail, 0, 2 * CASES);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void) {
    return run_suite(faults_suite());
}
