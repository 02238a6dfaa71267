/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fault sweep over OpenCL: a whole life (context, products on host memory and in buffers,
 * copies, imports, the end) is lived again and again, and each time another call of the driver
 * fails, once or from then on, for want of memory, because the device is gone, or with a code that
 * nobody knows. Every call of tenon's must end in the right result or in a failure that is named
 * and leaves outputs alone; nothing is left over; and the same life without faults succeeds.
 *
 * With a real driver behind the stand-in results are compared; without one (STAND_IN_OPENCL unset)
 * kernels leave memory alone, so an output that a device has "computed" holds anything.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "opencl_support.h"

static const stand_in_calls *driver;
static bool computes;
static char cache[] = "/tmp/tenon-opencl-XXXXXX";

typedef struct life {
    const char *device;
    int discrete;
    bool cached; /* keeps programs in files */
    bool kept;   /* begins with programs from memory, and saves them at the end */
} life;

static const life lives[] = {
    {"opencl", 0, false, false},    {"opencl,cpu", 0, false, false},
    {"opencl", 1, false, false},    {"opencl,cpu", 1, false, false},
    {"opencl,cpu", 0, false, true}, {"opencl,cpu", 0, true, false},
};

enum { LIVES = sizeof lives / sizeof lives[0] };

static uint64_t runs, answers[16], sites;

/* A status that a call may end in while a fault is at large. */
static bool is_an_answer(tenon_status status) {
    switch (status) {
    case TENON_OK:
    case TENON_ERROR_OUT_OF_MEMORY:
    case TENON_ERROR_OVER_BUDGET:
    case TENON_ERROR_DEVICE_LOST:
    case TENON_ERROR_NO_DEVICE:
    case TENON_ERROR_UNSUPPORTED: /* a kernel that can't be built, memory that can't be lent */
    case TENON_ERROR_INTERNAL:    /* a code that nobody knows */
        return true;
    default:
        return false;
    }
}

static tenon_status judged(tenon_context *ctx, tenon_status status, const char *call) {
    if (!is_an_answer(status) || (status != TENON_OK && driver->struck() == 0))
        ck_abort_msg("%s: %s, %s (last fault: %s)", call, tenon_status_name(status),
                     tenon_error_message(ctx), driver->last());
    if (status != TENON_OK && tenon_error_message(ctx)[0] == 0)
        ck_abort_msg("%s: %s without a sentence", call, tenon_status_name(status));
    ++answers[-(int)status];
    return status;
}

#define TRY(ctx, call) judged(ctx, (call), #call)

static void check_product(const product *p, tenon_status status) {
    const bool right = is_right(p), untouched = is_untouched(p);
    if (status == TENON_OK ? computes && !right : !untouched)
        ck_abort_msg("%s, and the output is neither right nor untouched (last fault: %s)",
                     tenon_status_name(status), driver->last());
}

static void multiply_on_the_host(tenon_context *ctx, product *p) {
    product_fill(p);
    const tenon_gemm_desc g = product_of(p);
    check_product(p, TRY(ctx, tenon_gemm(ctx, &g)));
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
            check_product(p, status);
    }
    void *host;
    if (c && TRY(ctx, tenon_buffer_map(ctx, c, 0, sizeof p->c, &host)) == TENON_OK)
        (void)TRY(ctx, tenon_buffer_unmap(ctx, c, host));
    tenon_buffer_free(a);
    tenon_buffer_free(b);
    tenon_buffer_free(c);
}

/* What the last life that could has saved. */
static unsigned char kept[1 << 16];
static size_t kept_bytes;

static void save_programs(tenon_context *ctx) {
    static unsigned char now[sizeof kept];
    size_t bytes;
    memset(now, 0x5a, sizeof now);
    const tenon_status status = TRY(ctx, tenon_context_save_kernels(ctx, now, sizeof now, &bytes));
    for (size_t i = 0; status != TENON_OK && i < sizeof now; ++i)
        if (now[i] != 0x5a)
            ck_abort_msg("%s, and the memory is written to (last fault: %s)",
                         tenon_status_name(status), driver->last());
    if (status == TENON_OK && bytes > 0) {
        memcpy(kept, now, bytes);
        kept_bytes = bytes;
    }
}

/* A life. True if it got as far as a context. */
static void live(const life *l) {
    product *p = malloc(sizeof *p);
    const tenon_context_desc desc = {
        .device = l->device, .threads = 2, .kernel_cache_path = l->cached ? cache : NULL};
    tenon_context *ctx;
    if (TRY(NULL, tenon_context_create(&desc, &ctx)) == TENON_OK) {
        if (l->kept && kept_bytes > 0)
            (void)TRY(ctx, tenon_context_load_kernels(ctx, kept, kept_bytes, NULL));
        multiply_on_the_host(ctx, p);
        multiply_in_buffers(ctx, p);
        multiply_on_the_host(ctx, p);
        if (l->kept)
            save_programs(ctx);
        tenon_context_destroy(ctx);
    } else {
        ck_assert_ptr_null(ctx);
    }
    free(p);
    ck_assert_msg(driver->live() == 0, "%lld objects are left after a fault of %s",
                  (long long)driver->live(), driver->last());
}

static void live_without_faults(const life *l) {
    driver->strike(0, 0, STAND_IN_SHORT);
    live(l);
    ck_assert_uint_eq(driver->struck(), 0);
}

/* _i: the life; every call of it fails in turn. */
START_TEST(every_call_fails) {
    const life *l = &lives[_i];
    const stand_in_limits limits = {.discrete = l->discrete};
    driver->pretend(&limits);
    live_without_faults(l);
    for (int kind = STAND_IN_SHORT; kind <= (computes ? STAND_IN_LOST : STAND_IN_ODD); ++kind)
        for (int sticky = 0; sticky < (computes ? 1 : 2); ++sticky) {
            uint64_t nth = 1;
            for (;; ++nth) {
                driver->strike(nth, sticky, (stand_in_fault)kind);
                live(l);
                if (driver->struck() == 0)
                    break;
                ++runs;
                /* The same again in peace, now and then: a life is the price of a build. */
                if (nth % 8 == 0)
                    live_without_faults(l);
            }
            ck_assert_uint_gt(nth, 20);
            sites += sticky ? 0 : nth - 1;
        }
    live_without_faults(l);
    printf("%s%s%s: %llu sites, %llu runs so far; answers: ok %llu, short %llu, lost %llu\n",
           l->device, l->discrete ? ", discrete" : "", l->cached ? ", cached" : "",
           (unsigned long long)sites, (unsigned long long)runs,
           (unsigned long long)answers[-TENON_OK],
           (unsigned long long)answers[-TENON_ERROR_OUT_OF_MEMORY],
           (unsigned long long)answers[-TENON_ERROR_DEVICE_LOST]);
}
END_TEST

/* A chain ends in the right result whatever the driver does, once the context is there. */
START_TEST(the_chain_goes_on) {
    const life chain = {"opencl,cpu", _i, false, false};
    const stand_in_limits limits = {.discrete = _i};
    product *p = malloc(sizeof *p);
    driver->pretend(&limits);
    live_without_faults(&chain);
    for (int kind = STAND_IN_SHORT; kind < STAND_IN_ODD; ++kind)
        for (uint64_t nth = 1;; ++nth) {
            tenon_context *ctx = context_on("opencl,cpu");
            product_fill(p);
            const tenon_gemm_desc g = product_of(p);
            driver->strike(nth, 1, (stand_in_fault)kind);
            OK(ctx, tenon_gemm(ctx, &g));
            ck_assert(is_right(p) || !computes);
            const bool struck = driver->struck() != 0;
            driver->strike(0, 0, STAND_IN_SHORT);
            tenon_context_destroy(ctx);
            ck_assert_int_eq(driver->live(), 0);
            if (!struck)
                break;
        }
    free(p);
}
END_TEST

/* Opening the library and looking for devices, in processes that have not done so. */
static int cold_life(uint64_t nth, int sticky, stand_in_fault kind) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(120);
        tenon_context *ctx;
        const tenon_context_desc desc = {.device = "opencl,cpu"};
        driver->strike(nth, sticky, kind);
        const int count = tenon_device_count();
        tenon_device_info info = {.struct_size = sizeof info};
        bool good = count >= 4;
        for (int i = 0; i < count && good; ++i)
            good = tenon_device_get(i, &info) == TENON_OK && (info.usable || info.reason[0]);
        const tenon_status status = tenon_context_create(&desc, &ctx);
        good = good && is_an_answer(status);
        tenon_context_destroy(ctx);
        const bool struck = driver->struck() != 0;
        driver->strike(0, 0, STAND_IN_SHORT);
        good = good && tenon_context_create(&desc, &ctx) == TENON_OK;
        tenon_context_destroy(ctx);
        _exit(good && driver->live() == 0 ? (struck ? 1 : 0) : 2);
    }
    int status;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return 3;
    return WEXITSTATUS(status);
}

static int cold_sweep(void) {
    int died = 0, lived = 0;
    for (int kind = STAND_IN_SHORT; kind <= STAND_IN_LOST; ++kind)
        for (int sticky = 0; sticky < 2; ++sticky)
            for (uint64_t nth = 1;; ++nth, ++lived) {
                const int end = cold_life(nth, sticky, (stand_in_fault)kind);
                if (end >= 2) {
                    printf("cold: call %llu, kind %d, sticky %d: ended with %d\n",
                           (unsigned long long)nth, kind, sticky, end);
                    ++died;
                }
                if (end == 0 || died > 4)
                    break;
            }
    printf("cold: %d processes, %d wrong\n", lived, died);
    return died;
}

int main(void) {
    setenv("CK_FORK", "no", 0);
    driver = stand_in_controls();
    computes = getenv("STAND_IN_OPENCL") != NULL;
    const int died = computes ? 0 : cold_sweep();
    const int missing = need_driver();
    if (missing)
        return missing;
    if (!mkdtemp(cache))
        return EXIT_FAILURE;
    Suite *s = suite_create("opencl_faults");
    TCase *t = tcase_create("opencl_faults");
    tcase_set_timeout(t, 0);
    /* With a real driver, whose builds cost, the life that builds least, and each fault once. */
    tcase_add_loop_test(t, every_call_fails, computes ? LIVES - 1 : 0, LIVES);
    tcase_add_loop_test(t, the_chain_goes_on, 0, 2);
    suite_add_tcase(s, t);
    const int failed = run_suite(s);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", cache);
    return system(command) == 0 && died == 0 ? failed : EXIT_FAILURE;
}
