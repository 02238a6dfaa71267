/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fault sweep over CUDA: a whole life (context, operations on host memory and in buffers,
 * copies, an import, a second device of the chain, the end) is lived again and again, and each time
 * another call of the driver fails, once or from then on, for want of memory, because the device is
 * gone, or with a code that nobody expects; and each launch in turn faults on the device. Every
 * call of tenon's must end in the right result or in a failure that is named and leaves outputs
 * alone; nothing is left over; and the same life without faults succeeds.
 */
#include <sys/wait.h>
#include <unistd.h>

#define PRODUCT_K 9 /* thousands of lives */
#include "cuda_host.h"

typedef struct life {
    const char *device;
    bool no_vmm;
} life;

/* The first is lived with every code, the others with the first two. */
static const life lives[] = {{"cuda", false}, {"cuda,cpu", false}, {"cuda", true}};

enum { LIVES = sizeof lives / sizeof lives[0] };

static const int codes[] = {
    CUDA_ERROR_OUT_OF_MEMORY,
    CUDA_ERROR_ILLEGAL_ADDRESS,         /* the context is gone */
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, /* may be had later */
    CUDA_ERROR_INVALID_VALUE,           /* which no call of ours should get */
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
};

/* Unmap, address free, free, two halves and their events, stream, two modules, the context. */
enum { GIVING_CALLS = 16 };

enum { CODES = sizeof codes / sizeof codes[0] };

static uint64_t runs, answers[32];
static int64_t nth, struck; /* the call that fails, and how many did in this life */
static int code;

/* A status that a call may end in while a fault is at large. */
static bool is_an_answer(tenon_status status) {
    switch (status) {
    case TENON_OK:
    case TENON_ERROR_OUT_OF_MEMORY:
    case TENON_ERROR_OVER_BUDGET:
    case TENON_ERROR_DEVICE_LOST:
    case TENON_ERROR_NO_DEVICE:
    case TENON_ERROR_UNSUPPORTED: /* a module that can't be loaded, a stream that is captured */
    case TENON_ERROR_INTERNAL:    /* a code that nobody expects */
        return true;
    case TENON_ERROR_INVALID_ARGUMENT: /* what the driver knows nothing of is the caller's mistake */
        return code == CUDA_ERROR_INVALID_VALUE;
    default:
        return false;
    }
}

static tenon_status judged(tenon_context *ctx, tenon_status status, const char *call) {
    if (!is_an_answer(status) || (status != TENON_OK && nth == 0))
        ck_abort_msg("%s: %s, %s (fault %d at call %lld)", call, tenon_status_name(status),
                     tenon_error_message(ctx), code, (long long)nth);
    if (status != TENON_OK && tenon_error_message(ctx)[0] == 0)
        ck_abort_msg("%s: %s without a sentence", call, tenon_status_name(status));
    ++answers[-(int)status];
    return status;
}

#define TRY(ctx, call) judged(ctx, (call), #call)

static void check(const product *p, tenon_status status) {
    if (status == TENON_OK ? !is_right(p) : !is_untouched(p))
        ck_abort_msg("%s, and the output is %s (fault %d at call %lld)", tenon_status_name(status),
                     status == TENON_OK ? "not right" : "not untouched", code, (long long)nth);
}

static void multiply_on_the_host(tenon_context *ctx, product *p) {
    const tenon_gemm_desc g = product_of(p);
    product_fill(p);
    check(p, TRY(ctx, tenon_gemm(ctx, &g)));
}

/* Row sums that are known: one operation more, and modules more than one. */
static void soften(tenon_context *ctx) {
    float x[4 * 8], y[4 * 8];
    const tenon_softmax_desc d = {.x = tenon_matrix(x, TENON_F32, 4, 8),
                                  .y = tenon_matrix(y, TENON_F32, 4, 8)};
    for (int i = 0; i < 32; ++i) {
        x[i] = 3;
        y[i] = -777;
    }
    const float expected = TRY(ctx, tenon_softmax(ctx, &d)) == TENON_OK ? 0.125f : -777;
    for (int i = 0; i < 32; ++i)
        ck_assert_float_eq(y[i], expected);
}

/* What is in a device's buffers after a loss is lost. */
static void multiply_in_buffers(tenon_context *ctx, product *p) {
    tenon_pool *pool = tenon_context_pool(ctx, 0);
    tenon_buffer *a = NULL, *b = NULL, *c = NULL;
    product_fill(p);
    if (TRY(NULL, tenon_buffer_alloc(pool, sizeof p->a, "a", &a)) == TENON_OK &&
        TRY(NULL, tenon_buffer_alloc(pool, sizeof p->b, "b", &b)) == TENON_OK &&
        TRY(NULL, tenon_buffer_alloc(pool, sizeof p->c, "c", &c)) == TENON_OK &&
        TRY(ctx, tenon_buffer_write(ctx, a, 0, p->a, sizeof p->a)) == TENON_OK &&
        TRY(ctx, tenon_buffer_write(ctx, b, 0, p->b, sizeof p->b)) == TENON_OK &&
        TRY(ctx, tenon_buffer_write(ctx, c, 0, p->c, sizeof p->c)) == TENON_OK) {
        const tenon_gemm_desc g = {.a = tenon_matrix_in(a, 0, TENON_F32, M, K),
                                   .b = tenon_matrix_in(b, 0, TENON_F32, K, N),
                                   .c = tenon_matrix_in(c, 0, TENON_F32, M, N)};
        const tenon_status status = TRY(ctx, tenon_gemm(ctx, &g));
        const tenon_status synced = TRY(ctx, tenon_sync(ctx));
        if (synced == TENON_OK &&
            TRY(ctx, tenon_buffer_read(ctx, c, 0, p->c, sizeof p->c)) == TENON_OK)
            check(p, status);
    }
    void *host;
    if (c && TRY(ctx, tenon_buffer_map(ctx, c, 0, sizeof p->c, &host)) == TENON_OK)
        (void)TRY(ctx, tenon_buffer_unmap(ctx, c, host));
    tenon_buffer *import = NULL;
    void *native;
    size_t offset;
    if (c && tenon_buffer_native(c, NULL, &native, &offset) == TENON_OK)
        (void)TRY(NULL, tenon_buffer_import(pool, TENON_NATIVE_CUDA, (char *)native + offset, 64,
                                            &import));
    tenon_buffer_free(import);
    tenon_buffer_free(a);
    tenon_buffer_free(b);
    tenon_buffer_free(c);
    (void)tenon_memory_trim(pool, 0);
}

/* Whether the driver has more than before: what it refused to take back, once in a life. */
static bool has_grown(standin_live *before) {
    const standin_live now = standin_get_live();
    const bool grown = now.bytes > before->bytes || now.allocations > before->allocations ||
                       now.modules > before->modules || now.streams > before->streams ||
                       now.events > before->events || now.contexts > before->contexts;
    *before = now;
    return grown;
}

/* Where a context could not be popped it is still current. */
static void drop_contexts(void) {
    CUcontext context;
    while (cuCtxPopCurrent(&context) == CUDA_SUCCESS)
        ;
}

/* A life in which call number `fault` fails (0: none). */
static void live(const life *l, int64_t fault, int with, bool sticky, int64_t launch) {
    product *p = malloc(sizeof *p);
    const tenon_context_desc desc = {.device = l->device, .threads = 1};
    tenon_context *ctx;
    nth = fault + launch;
    code = with;
    if (fault)
        standin_arm(NULL, fault, with, sticky);
    if (launch)
        standin_arm_launch(launch, with);
    if (TRY(NULL, tenon_context_create(&desc, &ctx)) == TENON_OK) {
        multiply_on_the_host(ctx, p);
        multiply_in_buffers(ctx, p);
        soften(ctx);
        tenon_context_destroy(ctx);
    } else {
        ck_assert_ptr_null(ctx);
    }
    free(p);
    struck = standin_disarm();
    nth = 0;
    drop_contexts();
}

static void live_without_faults(const life *l) {
    live(l, 0, 0, false, 0);
    ck_assert_int_eq(struck, 0);
}

static void start(const life *l) {
    /* Memory for all that a driver refuses to take back, which is never touched. */
    const standin_device device = {.arch = 80, .memory = (size_t)16 << 30, .no_vmm = l->no_vmm};
    const standin_options options = {.check_shared = false,
                                     .count = false,
                                     .poison = true,
                                     .approximations = true,
                                     .lazy_streams = true,
                                     .max_instructions = UINT64_C(1) << 30};
    standin_configure(&device);
    standin_set_options(&options);
}

/* _i: life and code; every call of it fails in turn. What a failed release leaves is the driver's:
 * its own process, and so its memory, is gone with the test. */
START_TEST(every_call_fails) {
    const life *l = &lives[_i < CODES ? 0 : 1 + (_i - CODES) / 2];
    const int number = _i < CODES ? _i : (_i - CODES) % 2, with = codes[number];
    int64_t sites = 0, kept = 0;
    standin_live before;
    start(l);
    live_without_faults(l);
    expect_nothing_left();
    before = standin_get_live();
    for (int sticky = 0; sticky < (number < 2 ? 2 : 1); ++sticky)
        for (int64_t n = 1;; ++n) {
            live(l, n, with, sticky, 0);
            if (struck == 0)
                break;
            ++runs;
            sites = n > sites ? n : sites;
            kept += has_grown(&before) && !sticky;
            if (n % 16 == 0)
                live_without_faults(l);
        }
    ck_assert_int_gt(sites, 60);
    /* Calls that give back, of which this many fail: each is the driver's to answer for. */
    ck_assert_int_le(kept, GIVING_CALLS);
    live_without_faults(l);
    printf("%s%s, code %d: %lld sites, %llu runs; ok %llu, short %llu, lost %llu, no device %llu, "
           "unsupported %llu, internal %llu; kept by the driver %lld times\n",
           l->device, l->no_vmm ? " without virtual memory" : "", with, (long long)sites,
           (unsigned long long)runs, (unsigned long long)answers[-TENON_OK],
           (unsigned long long)answers[-TENON_ERROR_OUT_OF_MEMORY],
           (unsigned long long)answers[-TENON_ERROR_DEVICE_LOST],
           (unsigned long long)answers[-TENON_ERROR_NO_DEVICE],
           (unsigned long long)answers[-TENON_ERROR_UNSUPPORTED],
           (unsigned long long)answers[-TENON_ERROR_INTERNAL], (long long)kept);
}
END_TEST

/* Each launch faults on the device, which is noticed at a later call. */
START_TEST(every_launch_faults) {
    const life *l = &lives[_i];
    int64_t n = 1;
    start(l);
    for (;; ++n) {
        live(l, 0, CUDA_ERROR_ILLEGAL_ADDRESS, false, n);
        if (struck == 0)
            break;
        expect_nothing_left();
        live_without_faults(l);
    }
    ck_assert_int_gt(n, 3);
}
END_TEST

/* A chain ends in the right result whatever the driver does, once the context is there. */
START_TEST(the_chain_goes_on) {
    const life chain = {"cuda,cpu", false};
    product *p = malloc(sizeof *p);
    start(&chain);
    for (int i = 0; i < CODES; ++i) {
        if (codes[i] == CUDA_ERROR_INVALID_VALUE)
            continue; /* a mistake is told */
        for (int64_t n = 1;; ++n) {
            tenon_context *ctx = context_on("cuda,cpu");
            const tenon_gemm_desc g = product_of(p);
            product_fill(p);
            standin_arm(NULL, n, codes[i], true);
            OK(ctx, tenon_gemm(ctx, &g));
            ck_assert(is_right(p));
            const bool any = standin_disarm() != 0;
            tenon_context_destroy(ctx);
            drop_contexts();
            if (!any)
                break;
        }
    }
    free(p);
}
END_TEST

/* Opening the driver and looking for devices, in processes that have not done so. */
static int cold_life(int64_t fault, bool sticky, int with) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        tenon_context *ctx;
        const tenon_context_desc desc = {.device = "cuda,cpu", .threads = 1};
        standin_arm(NULL, fault, with, sticky);
        const int count = tenon_device_count();
        tenon_device_info info = {.struct_size = sizeof info};
        bool good = count >= 4;
        for (int i = 0; i < count && good; ++i)
            good = tenon_device_get(i, &info) == TENON_OK && (info.usable || info.reason[0]);
        const tenon_status status = tenon_context_create(&desc, &ctx);
        good = good && is_an_answer(status);
        tenon_context_destroy(ctx);
        const bool any = standin_disarm() != 0;
        good = good && tenon_context_create(&desc, &ctx) == TENON_OK;
        tenon_context_destroy(ctx);
        _exit(good ? (any ? 1 : 0) : 2);
    }
    int status;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return 3;
    return WEXITSTATUS(status);
}

START_TEST(cold_starts) {
    int lived = 0;
    for (int i = 0; i < CODES; ++i)
        for (int sticky = 0; sticky < 2; ++sticky)
            for (int64_t n = 1;; ++n, ++lived) {
                const int end = cold_life(n, sticky, codes[i]);
                ck_assert_msg(end < 2, "call %lld, code %d, sticky %d: ended with %d", (long long)n,
                              codes[i], sticky, end);
                if (end == 0)
                    break;
            }
    printf("cold: %d processes\n", lived);
}
END_TEST

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    Suite *s = suite_create("cuda_faults");
    TCase *t = tcase_create("cuda_faults");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, every_call_fails, 0, CODES + 2 * (LIVES - 1));
    tcase_add_loop_test(t, every_launch_faults, 0, LIVES);
    tcase_add_test(t, the_chain_goes_on);
    tcase_add_test(t, cold_starts);
    suite_add_tcase(s, t);
    return run_suite(s);
}
