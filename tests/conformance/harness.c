/* SPDX-License-Identifier: Apache-2.0 */
/* harness.c: see harness.h. */
#include "harness.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guarded.h"
#include "number.h"
#include "on_standin.h"

/* ---- devices, and the list of what they lack ---- */

int device_total;
char device_id[MAX_DEVICES][32];

/* Tests run in processes of their own, so the list is in memory that they share. */
enum { MAX_LACKS = 256 };
typedef struct lacks {
    atomic_int count;
    char line[MAX_LACKS][320];
} lacks;
static lacks *unsupported_list;

static int sampled; /* cases of this process, see world_leaves_out */

static void find_devices(void) {
    const int count = tenon_device_count();
    const char *only = getenv("TENON_TEST_DEVICE");
    for (int i = 0; i < count && device_total < MAX_DEVICES; ++i) {
        tenon_device_info info = {.struct_size = sizeof info};
        if (tenon_device_get(i, &info) != TENON_OK || !info.usable)
            continue;
        if (only && strcmp(only, info.id) != 0)
            continue;
        memcpy(device_id[device_total++], info.id, sizeof info.id);
        printf("device %s: %s [%s]\n", info.id, info.name, info.instruction_sets);
    }
}

/* The level in use is the first word of instruction_sets; "amx" is one with further instructions. */
static bool has_level(void) {
    const char *level = getenv("TENON_CPU");
    tenon_device_info info = {.struct_size = sizeof info};
    for (int i = 0; level && i < tenon_device_count(); ++i)
        if (tenon_device_get(i, &info) == TENON_OK && strcmp(info.id, "cpu") == 0) {
            if (strcmp(level, "amx") == 0)
                return strstr(info.instruction_sets, "amx_tile") != NULL;
            return strncmp(info.instruction_sets, level, strcspn(level, "-")) ==
                   0; /* "avx2-plain" */
        }
    return true;
}

int conform_main(const char *suite_name, const TTest *const *tests, int count) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!has_level()) {
        printf("this machine has no %s\n", getenv("TENON_CPU"));
        return 77;
    }
    unsupported_list = mmap(NULL, sizeof *unsupported_list, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (unsupported_list == MAP_FAILED)
        return 99;
    const char *only = getenv("TENON_TEST_DEVICE"), *required = getenv("TENON_REQUIRE");
    const bool cuda = only && strncmp(only, "cuda", 4) == 0;
    const bool standin = cuda && standin_begin();
    find_devices();
    if (device_total == 0 && cuda) {
        printf("no CUDA device here\n");
        return standin ? EXIT_FAILURE : 77;
    }
    if (device_total == 0 && only && strncmp(only, "opencl", 6) == 0) {
        printf("no OpenCL driver here\n");
        return required && strstr(required, "pocl") ? EXIT_FAILURE : 77;
    }

    Suite *suite = suite_create(suite_name);
    TCase *group = tcase_create(suite_name);
    tcase_set_timeout(group, 0);
    for (int i = 0; i < count; ++i)
        tcase_add_loop_test(group, tests[i], 0, device_total);
    suite_add_tcase(suite, group);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
    srunner_free(runner);

    const int lacking = atomic_load(&unsupported_list->count);
    if (getenv("TENON_TEST_SAMPLE"))
        printf("a sample of %d cases\n", sampled);
    printf("answered UNSUPPORTED, as expected: %d\n", lacking);
    for (int i = 0; i < lacking && i < MAX_LACKS; ++i)
        printf("  %s\n", unsupported_list->line[i]);
    const int findings = standin ? standin_end() : 0;
    const int status = failed == 0 && ran > 0 && findings == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    if (only && strncmp(only, "opencl", 6) == 0) {
        fflush(NULL);
        _exit(status); /* PoCL 3.1 sometimes crashes among the destructors of its libraries */
    }
    return status;
}

/* ---- one test's state ---- */

typedef struct block {
    struct block *next;
    void *memory;
    bool guarded;
} block;

static void *keep(world *w, void *memory, bool guarded) {
    block *b = malloc(sizeof *b);
    if (!b || !memory)
        ck_abort_msg("no memory for test data");
    *b = (block){w->blocks, memory, guarded};
    w->blocks = b;
    return memory;
}

void *world_alloc(world *w, size_t bytes) {
    return keep(w, calloc(bytes ? bytes : 1, 1), false);
}

void *world_guarded(world *w, size_t bytes, size_t alignment) {
    return keep(w, guard_alloc(bytes, alignment, rng_below(&w->random, 4) != 0), true);
}

static void release(world *w) {
    while (w->blocks) {
        block *b = w->blocks;
        w->blocks = b->next;
        if (!b->guarded)
            free(b->memory);
        else if (!guard_free(b->memory))
            ck_abort_msg("%s: %s: wrote outside an operand", w->device, w->what);
        free(b);
    }
}

static tenon_context *context_on(const char *device) {
    const tenon_context_desc desc = {.device = device, .threads = 2};
    tenon_context *ctx;
    if (tenon_context_create(&desc, &ctx) != TENON_OK)
        ck_abort_msg("context on %s: %s", device, tenon_error_message(NULL));
    return ctx;
}

world world_start(const char *name, const char *device) {
    world w = {.random = rng_start(name), .device = device};
    w.ctx = context_on(device);
    w.reference = context_on("reference");
    return w;
}

void world_case(world *w, const char *format, ...) {
    va_list args;
    release(w);
    va_start(args, format);
    vsnprintf(w->what, sizeof w->what, format, args);
    va_end(args);
}

void world_end(world *w) {
    release(w);
    tenon_context_destroy(w->ctx);
    tenon_context_destroy(w->reference);
}

bool world_leaves_out(world *w, double work) {
    const char *sample = getenv("TENON_TEST_SAMPLE");
    int every = 1;
    double most = INFINITY;
    if (sample && sscanf(sample, "%d,%lf", &every, &most) != 2)
        ck_abort_msg("TENON_TEST_SAMPLE is %s, expected N,MOST", sample);
    const bool out = work > most || w->offered++ % every != 0;
    sampled += sample && !out;
    return out;
}

bool world_answered(world *w, tenon_status status, const char *unsupported) {
    const bool expected = unsupported && strstr(unsupported, w->device) != NULL;
    const char *message = tenon_error_message(w->ctx);

    if (status == TENON_ERROR_UNSUPPORTED && expected) {
        const int at = atomic_fetch_add(&unsupported_list->count, 1);
        if (at < MAX_LACKS)
            snprintf(unsupported_list->line[at], sizeof unsupported_list->line[at], "%s: %s: %s",
                     w->device, w->what, message);
        return false;
    }
    if (status != TENON_OK)
        ck_abort_msg("%s: %s: %s: %s", w->device, w->what, tenon_status_name(status), message);
    if (expected)
        ck_abort_msg("%s: %s: expected to be UNSUPPORTED, but it works: update the table",
                     w->device, w->what);
    return true;
}

void world_reference(world *w, tenon_status status) {
    if (status != TENON_OK)
        ck_abort_msg("reference: %s: %s: %s", w->what, tenon_status_name(status),
                     tenon_error_message(w->reference));
}

/* ---- operands ---- */

int64_t count_of(const tenon_tensor *t) {
    int64_t count = 1;
    for (int32_t d = 0; d < t->rank; ++d)
        count *= t->shape[d];
    return count;
}

/* Elements from the start to element number `index` in row-major order. */
static int64_t offset_of(const tenon_tensor *t, int64_t index) {
    int64_t offset = 0;
    for (int32_t d = t->rank - 1; d >= 0; --d) {
        offset += index % t->shape[d] * t->stride[d];
        index /= t->shape[d];
    }
    return offset;
}

static unsigned char *address_of(const tenon_tensor *t, int64_t index) {
    return (unsigned char *)t->data + offset_of(t, index) * (int64_t)number_size(t->dtype);
}

double get(const tenon_tensor *t, int64_t index) {
    return number_get(address_of(t, index), t->dtype);
}

void set(operand *o, int64_t index, double value) {
    number_put(address_of(&o->t, index), o->t.dtype, value);
    number_put((unsigned char *)o->exact.data + (size_t)index * number_size(o->exact.dtype),
               o->exact.dtype, value);
}

static void lay_out(tenon_tensor *t, layout in_memory, unsigned repeat) {
    int32_t order[TENON_MAX_RANK]; /* dimensions from the outermost in memory to the innermost */
    int64_t stride = in_memory == STEPPED ? 2 : 1;

    for (int32_t d = 0; d < t->rank; ++d)
        order[d] = in_memory == REVERSED ? t->rank - 1 - d : d;
    if (in_memory == TRANSPOSED && t->rank >= 2) {
        order[t->rank - 1] = t->rank - 2;
        order[t->rank - 2] = t->rank - 1;
    }
    for (int32_t i = t->rank - 1; i >= 0; --i) {
        const int32_t d = order[i];
        if (repeat >> d & 1) {
            t->stride[d] = 0;
            continue;
        }
        t->stride[d] = in_memory == BACKWARD ? -stride : stride;
        stride *= t->shape[d] > 0 ? t->shape[d] : 1;
        if (i == t->rank - 1 &&
            (in_memory == PADDED || in_memory == STEPPED || in_memory == BACKWARD))
            stride += 3;
    }
}

/* Memory that holds every element, the first and the last byte being elements' own. */
static operand place(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape,
                     layout in_memory, unsigned repeat) {
    const int64_t size = (int64_t)number_size(dtype);
    operand o = {.t = tenon_dense(NULL, dtype, rank, shape)};
    int64_t low = 0, high = 0;

    lay_out(&o.t, in_memory, repeat);
    for (int32_t d = 0; d < rank; ++d) {
        const int64_t reach = (shape[d] > 0 ? shape[d] - 1 : 0) * o.t.stride[d];
        *(reach < 0 ? &low : &high) += reach;
    }
    o.bytes = count_of(&o.t) > 0 ? (size_t)((high - low + 1) * size) : 0;
    o.memory = world_guarded(w, o.bytes, (size_t)size);
    o.t.data = o.memory - low * size;
    return o;
}

static bool keeps_type(tenon_dtype dtype) {
    return dtype == TENON_BOOL || dtype == TENON_S32 || dtype == TENON_S64;
}

/* The exact copy of what is in memory now. */
static void make_exact(world *w, operand *o) {
    const tenon_dtype dtype = keeps_type(o->t.dtype) ? o->t.dtype : TENON_F64;
    const int64_t count = count_of(&o->t);
    const size_t size = number_size(dtype);

    o->exact = tenon_dense(NULL, dtype, o->t.rank, o->t.shape);
    o->exact.data = world_alloc(w, (size_t)count * size);
    o->largest = 0;
    for (int64_t i = 0; i < count; ++i) {
        const double value = get(&o->t, i);
        number_put((unsigned char *)o->exact.data + (size_t)i * size, dtype, value);
        if (isfinite(value) && fabs(value) > o->largest)
            o->largest = fabs(value);
    }
}

static double draw(rng *r, tenon_dtype dtype, range values) {
    const double x = rng_unit(r);
    if (dtype == TENON_BOOL)
        return x < values.high;
    if (dtype >= TENON_S8)
        return floor(values.low + x * (values.high - values.low + 1));
    return values.low + x * (values.high - values.low);
}

operand in_out(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape, layout in_memory,
               range values) {
    operand o = input(w, dtype, rank, shape, in_memory, 0, values);
    o.before = world_alloc(w, o.bytes);
    memcpy(o.before, o.memory, o.bytes);
    return o;
}

operand input(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape, layout in_memory,
              unsigned repeat, range values) {
    operand o = place(w, dtype, rank, shape, in_memory, repeat);
    const int64_t count = count_of(&o.t);
    for (int64_t i = 0; i < count; ++i)
        number_put(address_of(&o.t, i), dtype, draw(&w->random, dtype, values));
    make_exact(w, &o);
    return o;
}

operand output(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape, layout in_memory) {
    operand o = place(w, dtype, rank, shape, in_memory, 0);
    o.before = world_alloc(w, o.bytes);
    canary_fill(o.memory, o.bytes);
    memcpy(o.before, o.memory, o.bytes);
    return o;
}

tenon_tensor exact_zeros(world *w, int32_t rank, const int64_t *shape) {
    tenon_tensor t = tenon_dense(NULL, TENON_F64, rank, shape);
    t.data = world_alloc(w, (size_t)count_of(&t) * sizeof(double));
    return t;
}

operand view_of(world *w, const operand *whole, int64_t offset, int32_t rank, const int64_t *shape,
                const int64_t *stride) {
    operand o = {.t = tenon_dense(NULL, whole->t.dtype, rank, shape),
                 .memory = whole->memory,
                 .bytes = whole->bytes};
    o.before = whole->before;
    memcpy(o.t.stride, stride, (size_t)rank * sizeof *stride);
    o.t.data = (unsigned char *)whole->t.data + offset * (int64_t)number_size(whole->t.dtype);
    make_exact(w, &o);
    return o;
}

void expect_untouched(world *w, const operand *o, const bool *written) {
    unsigned char *wanted = world_alloc(w, o->bytes);
    memcpy(wanted, o->before, o->bytes);
    const size_t size = number_size(o->t.dtype);
    const int64_t count = count_of(&o->t);
    for (int64_t i = 0; i < count; ++i) {
        const unsigned char *at = address_of(&o->t, i);
        if (!written || written[i])
            memcpy(wanted + (at - o->memory), at, size);
    }
    if (memcmp(wanted, o->memory, o->bytes) != 0 || !guard_intact(o->memory))
        ck_abort_msg("%s: %s: wrote beside the elements of the output", w->device, w->what);
}

void expect(world *w, const operand *o, int64_t index, double expected, double error) {
    const double value = get(&o->t, index);
    if (bound_holds(o->t.dtype, value, expected, error))
        return;
    if (w->counting) {
        w->failures++;
        return;
    }

    char where[128] = "";
    size_t used = 0;
    for (int32_t d = 0; d < o->t.rank; ++d) {
        int64_t i = index;
        for (int32_t later = d + 1; later < o->t.rank; ++later)
            i /= o->t.shape[later];
        used += (size_t)snprintf(where + used, sizeof where - used, d ? ",%lld" : "%lld",
                                 (long long)(i % o->t.shape[d]));
    }
    ck_abort_msg("%s: %s: element [%s] is %.9g, expected %.17g, differs by %.3g, allowed %.3g "
                 "before rounding to %s",
                 w->device, w->what, where, value, expected, fabs(value - expected), error,
                 tenon_dtype_name(o->t.dtype));
}

/* ---- every choice */

static tenon_workspace *workspace_of(const call *c) {
    return c->gemm      ? &c->gemm->workspace
           : c->softmax ? &c->softmax->workspace
                        : &c->attention->workspace;
}

static tenon_status plan_call(world *w, const call *c, size_t limit, tenon_plan **plan) {
    *workspace_of(c) = (tenon_workspace){NULL, limit};
    return c->gemm      ? tenon_gemm_plan(w->ctx, c->gemm, plan)
           : c->softmax ? tenon_softmax_plan(w->ctx, c->softmax, plan)
                        : tenon_attention_plan(w->ctx, c->attention, plan);
}

static tenon_status run_call(world *w, const call *c, const tenon_plan *plan) {
    return c->gemm      ? tenon_gemm_run(w->ctx, plan, c->gemm)
           : c->softmax ? tenon_softmax_run(w->ctx, plan, c->softmax)
                        : tenon_attention_run(w->ctx, plan, c->attention);
}

/* Runs choice `index` of `plan` in exactly its workspace. */
static void run_choice(world *w, const call *c, const tenon_plan_choice *choice, int index) {
    tenon_plan *limited = NULL;
    tenon_plan_info info = {0};
    /* A limit of 0 would be none; nothing takes a single byte. */
    tenon_status status = plan_call(w, c, choice->workspace ? choice->workspace : 1, &limited);
    if (status != TENON_OK)
        ck_abort_msg("%s: %s: planned under %zu bytes: %s", w->device, w->what, choice->workspace,
                     tenon_error_message(w->ctx));
    ck_assert_int_eq(tenon_plan_query(limited, &info), TENON_OK);
    if (info.chosen != index || info.workspace != choice->workspace)
        ck_abort_msg("%s: %s: under %zu bytes choice %d with %zu was taken, expected %d", w->device,
                     w->what, choice->workspace, (int)info.chosen, info.workspace, index);
    void *memory = guard_alloc(choice->workspace, 64, true);
    *workspace_of(c) = (tenon_workspace){memory, choice->workspace};
    status = run_call(w, c, limited);
    *workspace_of(c) = (tenon_workspace){NULL, 0};
    if (status != TENON_OK)
        ck_abort_msg("%s: %s: %s in %zu bytes: %s", w->device, w->what, choice->algorithm,
                     choice->workspace, tenon_error_message(w->ctx));
    if (!guard_free(memory))
        ck_abort_msg("%s: %s: %s wrote outside its %zu bytes", w->device, w->what,
                     choice->algorithm, choice->workspace);
    tenon_plan_destroy(limited);
}

void expect_every_choice(world *w, const call *c, const operand *const *outputs, int count) {
    unsigned char *expected[2] = {NULL, NULL};
    tenon_plan *plan = NULL;
    tenon_plan_info info = {0};
    tenon_plan_choice last = {0};

    ck_assert_int_le(count, 2);
    for (int i = 0; i < count; ++i) {
        expected[i] = world_alloc(w, outputs[i]->bytes);
        memcpy(expected[i], outputs[i]->memory, outputs[i]->bytes);
    }
    ck_assert_int_eq(plan_call(w, c, 0, &plan), TENON_OK);
    ck_assert_int_eq(tenon_plan_query(plan, &info), TENON_OK);
    for (int index = 0; index < info.choices; ++index) {
        tenon_plan_choice choice = {0};
        ck_assert_int_eq(tenon_plan_choice_get(plan, index, &choice), TENON_OK);
        if (index > 0 && (choice.workspace >= last.workspace || !(choice.seconds >= last.seconds)))
            ck_abort_msg("%s: %s: choices out of order: %s %zu bytes %g s, then %s %zu bytes %g s",
                         w->device, w->what, last.algorithm, last.workspace, last.seconds,
                         choice.algorithm, choice.workspace, choice.seconds);
        last = choice;
        for (int i = 0; i < count; ++i)
            memcpy(outputs[i]->memory, outputs[i]->before, outputs[i]->bytes);
        run_choice(w, c, &choice, index);
        for (int i = 0; i < count; ++i)
            if (memcmp(outputs[i]->memory, expected[i], outputs[i]->bytes) != 0)
                ck_abort_msg("%s: %s: %s in %zu bytes gives other bits than %s in %zu", w->device,
                             w->what, choice.algorithm, choice.workspace, info.algorithm,
                             info.workspace);
    }
    if (strncmp(w->device, "cpu", 3) == 0 && last.workspace != 0)
        ck_abort_msg("%s: %s: the smallest choice, %s, takes %zu bytes, expected none", w->device,
                     w->what, last.algorithm, last.workspace);
    tenon_plan_destroy(plan);
}
