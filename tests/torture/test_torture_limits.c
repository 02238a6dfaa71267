/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory limited by the system itself: whole lives under ever smaller RLIMIT_AS and RLIMIT_DATA, each
 * in a process of its own. Every outcome is the right result or a status whose sentence has figures;
 * with the limit lifted the next life in the same process goes well.
 *
 * `test_torture_limits alone` does every job once and prints what came of it, for check_ulimit.py,
 * which starts it under `ulimit -v`.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guarded.h"
#include "suite.h"
#include "torture_world.h"

#define KIB ((size_t)1024)

/* What is left under a limit: from room for everything down to nothing. */
static const size_t rooms[] = {16384, 8192, 6144, 5120, 4608, 4096, 3584, 3072, 2560, 2304, 2048,
                               1792,  1536, 1280, 1024, 896,  768,  640,  512,  384,  256,  192,
                               128,   96,   64,   48,   32,   16,   8,    4,    0};
enum { ROOMS = sizeof rooms / sizeof rooms[0] };

#ifdef TEST_ASAN /* whose shadow is address space too */
enum { LIMITS = 0 };
#else
enum { LIMITS = 2 };
#endif

typedef struct limit_kind {
    const char *name;
    __rlimit_resource_t resource;
    int field; /* of /proc/self/statm, what the limit counts */
} limit_kind;

static const limit_kind limits[] = {{"RLIMIT_AS", RLIMIT_AS, 0}, {"RLIMIT_DATA", RLIMIT_DATA, 5}};

/* Pages in use, read without taking any. */
static size_t bytes_in_use(int field) {
    size_t pages[6] = {0};
    FILE *file = fopen("/proc/self/statm", "r");
    int found = file ? fscanf(file, "%zu %zu %zu %zu %*u %zu", &pages[0], &pages[1], &pages[2],
                              &pages[3], &pages[5])
                     : 0;
    if (file)
        fclose(file);
    return found == 5 ? pages[field] * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

typedef struct report {
    bool served;
    char bad[400];
} report;

static void live_limited(world *w, const limit_kind *limit, size_t room, report *r) {
    struct rlimit before, tight;
    getrlimit(limit->resource, &before);
    job_prepare(&w->job);
    tight = before;
    tight.rlim_cur = bytes_in_use(limit->field) + room;
    if (setrlimit(limit->resource, &tight) != 0) {
        snprintf(r->bad, sizeof r->bad, "setrlimit failed");
        return;
    }
    const size_t beyond = room + 1024 * KIB;
    void *more = mmap(NULL, beyond, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    tenon_status status = world_life(w);
    setrlimit(limit->resource, &before);
    if (more != MAP_FAILED) {
        snprintf(r->bad, sizeof r->bad, "the limit does not hold");
        return;
    }
    r->served = status == TENON_OK;
    if (r->served ? !job_correct(&w->job) : !job_untouched(&w->job))
        snprintf(r->bad, sizeof r->bad, "%s, and outputs that should not be so",
                 tenon_status_name(status));
    else if (!r->served && (status != TENON_ERROR_OUT_OF_MEMORY || !strpbrk(w->said, "0123456789")))
        snprintf(r->bad, sizeof r->bad, "%s (%s)", tenon_status_name(status), w->said);
    job_prepare(&w->job);
    if (!r->bad[0] && (world_life(w) != TENON_OK || !job_correct(&w->job)))
        snprintf(r->bad, sizeof r->bad, "afterwards, without the limit: %s", w->said);
}

/* Returns 1 if the life went well under the limit, 0 if it was refused what it needs. */
static int life_under(world *w, const limit_kind *limit, size_t room) {
    report *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(r != MAP_FAILED);
    fflush(stdout);
    int how = -1;
    pid_t child = fork();
    if (child == 0) {
        live_limited(w, limit, room, r);
        _exit(0);
    }
    ck_assert(child > 0 && waitpid(child, &how, 0) == child);
    ck_assert_msg(how == 0 && !r->bad[0], "%s, %zu KiB left of %s: ended with %d: %s", w->what,
                  room / KIB, limit->name, how, r->bad);
    bool served = r->served;
    munmap(r, sizeof *r);
    return served;
}

START_TEST(ever_less) {
    const limit_kind *limit = &limits[_i];
    int served = 0, refused = 0;
    for (int kind = 0; kind < job_kind_count; ++kind) {
        world w;
        const char *device = world_device[kind % world_device_count];
        if (world_start_apart(&w, kind, kind % 2 ? HOST_THREADS : HOST_TOUCH, device)) {
            for (int i = 0; i < ROOMS; ++i) {
                int well = life_under(&w, limit, rooms[i] * KIB);
                served += well;
                refused += !well;
            }
        }
        ck_assert_msg(!w.failed, "%s", w.what);
        world_end(&w);
    }
    printf("%s: %d lives, %d went well, %d were refused memory\n", limit->name, served + refused,
           served, refused);
    ck_assert_int_gt(served, 0); /* all of them, where the C library has a page or two to spare */
}
END_TEST

/* ---- alone ---- */

#define MOST_JOBS 64

/* FNV-1a over all outputs. */
static uint64_t hash_of(const job *j) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < j->outputs; ++i)
        for (size_t k = 0; k < j->output[i].bytes; ++k)
            hash = (hash ^ ((const unsigned char *)j->output[i].memory)[k]) * 0x100000001b3;
    return hash;
}

/* Everything of the test's own is taken before the first call of tenon. */
static int do_jobs_alone(void) {
    static job jobs[MOST_JOBS];
    static char lines[1 << 16];
    for (int k = 0; k < job_kind_count; ++k) {
        job_kinds[k].build(&jobs[k]);
        for (int i = 0; i < jobs[k].outputs; ++i)
            memset(jobs[k].output[i].memory, 0, jobs[k].output[i].bytes);
    }
    setvbuf(stdout, lines, _IOFBF, sizeof lines);
    printf("started\n");
    fflush(stdout);
    for (int k = 0; k < job_kind_count; ++k) {
        const tenon_context_desc desc = {.threads = 3};
        tenon_context *ctx;
        tenon_status status = tenon_context_create(&desc, &ctx);
        if (status == TENON_OK)
            status = job_once(ctx, &jobs[k]);
        if (status == TENON_OK)
            printf("%s: %016llx\n", job_kinds[k].name, (unsigned long long)hash_of(&jobs[k]));
        else
            printf("%s: %s %s\n", job_kinds[k].name, tenon_status_name(status),
                   tenon_error_message(ctx));
        tenon_context_destroy(ctx);
    }
    printf("ended with %zu KiB\n", bytes_in_use(0) / KIB);
    return 0;
}

static Suite *limits_suite(void) {
    Suite *suite = suite_create("torture by limits");
    TCase *tc = tcase_create("limits");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, ever_less, 0, LIMITS);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "alone") == 0)
        return do_jobs_alone();
    world_devices();
    return run_suite(limits_suite());
}
