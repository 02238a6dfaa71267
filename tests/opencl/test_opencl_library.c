/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Libraries that are not there, or not OpenCL; and built programs in files and in the caller's
 * memory, each damaged in every way that files are: the stand-in ends the process if it is handed a
 * binary that it did not make, as drivers do.
 */
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "opencl_support.h"

static const stand_in_calls *driver;
static char stand_in_path[1024], directory[] = "/tmp/tenon-cache-XXXXXX";

/* ---- libraries ---- */

static void expect_none(const char *library, const char *reason) {
    tenon_device_info info = {.struct_size = sizeof info};
    const tenon_context_desc desc = {.device = "opencl"}, chain = {.device = "opencl:0,cpu"};
    const tenon_pool_desc memory = {.device = "opencl"};
    tenon_context *ctx;
    tenon_pool *pool;
    bool found = false;
    setenv("TENON_OPENCL_LIBRARY", library, 1);
    for (int i = 0; i < tenon_device_count(); ++i) {
        ck_assert_int_eq(tenon_device_get(i, &info), TENON_OK);
        if (strcmp(info.backend, "opencl") != 0)
            continue;
        found = true;
        ck_assert_int_eq(info.usable, 0);
        ck_assert_msg(strstr(info.reason, reason) != NULL, "%s", info.reason);
    }
    ck_assert(found);
    REFUSED(NULL, TENON_ERROR_NO_DEVICE, reason, tenon_context_create(&desc, &ctx));
    REFUSED(NULL, TENON_ERROR_NO_DEVICE, reason, tenon_pool_create(&memory, &pool));
    ctx = open_context(&chain);
    ck_assert_str_eq(tenon_context_device(ctx, 0), "cpu");
    tenon_context_destroy(ctx);
}

/* A failure is not remembered: what is put right is found. */
START_TEST(libraries_that_are_none) {
    expect_none("", "TENON_OPENCL_LIBRARY is empty");
    expect_none("/nowhere/libOpenCL.so", "could not be loaded");
    expect_none("libm.so.6", "has no cl");
    setenv("TENON_OPENCL_LIBRARY", stand_in_path, 1);
    driver->only("clGetPlatformIDs");
    driver->strike(1, 1, STAND_IN_SHORT);
    expect_none(stand_in_path, "CL_OUT_OF_HOST_MEMORY");
    driver->strike(0, 0, STAND_IN_SHORT);
    driver->only(NULL);
    tenon_context_destroy(context_on("opencl"));
}
END_TEST

/* ---- files of programs ---- */

/* How many programs a product in a context compiles from source. */
static uint64_t sources_built_in(tenon_context *ctx) {
    product *p = malloc(sizeof *p);
    driver->only("clCreateProgramWithSource");
    driver->strike(0, 0, STAND_IN_SHORT);
    product_fill(p);
    const tenon_gemm_desc g = product_of(p);
    OK(ctx, tenon_gemm(ctx, &g));
    free(p);
    return driver->calls();
}

static uint64_t sources_built(const char *where) {
    const tenon_context_desc desc = {.device = "opencl", .kernel_cache_path = where};
    tenon_context *ctx = open_context(&desc);
    const uint64_t built = sources_built_in(ctx);
    tenon_context_destroy(ctx);
    return built;
}

static char name[1200];

/* The first file of the directory; their number. */
static int files(void) {
    DIR *d = opendir(directory);
    int count = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.' && count++ == 0)
            snprintf(name, sizeof name, "%s/%s", directory, e->d_name);
    closedir(d);
    return count;
}

typedef struct content {
    unsigned char bytes[1 << 16];
    size_t count;
} content;

static void get(content *c) {
    FILE *f = fopen(name, "rb");
    c->count = fread(c->bytes, 1, sizeof c->bytes, f);
    fclose(f);
}

static void put(const content *c) {
    FILE *f = fopen(name, "wb");
    ck_assert_uint_eq(fwrite(c->bytes, 1, c->count, f), c->count);
    fclose(f);
}

START_TEST(files_are_kept) {
    const uint64_t programs = sources_built(NULL);
    ck_assert_uint_gt(programs, 0);
    ck_assert_int_eq(files(), 0);
    ck_assert_uint_eq(sources_built(directory), programs);
    ck_assert_int_eq(files(), (int)programs);
    ck_assert_uint_eq(sources_built(directory), 0);
    ck_assert_uint_eq(sources_built("/nowhere/at/all"), programs);
}
END_TEST

START_TEST(damaged_files_are_built_anew) {
    content good, bad, again;
    (void)sources_built(directory);
    ck_assert_int_gt(files(), 0);
    get(&good);
    for (size_t i = 0; i < good.count; ++i) { /* one bit, anywhere */
        bad = good;
        bad.bytes[i] ^= (unsigned char)(1u << i % 8);
        put(&bad);
        ck_assert_msg(sources_built(directory) == 1, "a file with byte %zu changed was taken", i);
    }
    for (size_t length = 0; length < good.count; length += length < 16 ? 1 : 37) {
        bad = good;
        bad.count = length;
        put(&bad);
        ck_assert_msg(sources_built(directory) == 1, "a file of %zu bytes was taken", length);
    }
    bad = good;
    bad.bytes[bad.count++] = 0;
    put(&bad);
    ck_assert_uint_eq(sources_built(directory), 1);
    /* Each time a good one was put in its place, and nothing beside it was left. */
    get(&again);
    ck_assert_uint_eq(again.count, good.count);
    ck_assert_mem_eq(again.bytes, good.bytes, good.count);
    ck_assert_uint_eq(sources_built(directory), 0);
}
END_TEST

/* A whole file under another's name, as a copy by hand or a collision of hashes would make it. */
START_TEST(files_of_others) {
    content mine;
    char own[sizeof name];
    (void)sources_built(directory);
    ck_assert_int_eq(files(), 1);
    get(&mine);
    snprintf(own, sizeof own, "%s", name);
    ck_assert_int_eq(remove(own), 0);
    setenv("TENON_OPENCL_FAMILY", "gpu", 1); /* other options, so another key */
    ck_assert_uint_eq(sources_built(directory), 1);
    ck_assert_int_eq(files(), 1);
    ck_assert_str_ne(own, name);
    put(&mine);
    ck_assert_uint_eq(sources_built(directory), 1);
    ck_assert_uint_eq(sources_built(directory), 0);
    unsetenv("TENON_OPENCL_FAMILY");
}
END_TEST

/* ---- programs in the caller's memory ---- */

/* What a context has after a product, and how many programs that are. */
static uint64_t save(content *c) {
    tenon_context *ctx = context_on("opencl");
    size_t bytes = 77;
    OK(ctx, tenon_context_save_kernels(ctx, NULL, 0, &bytes));
    ck_assert_uint_eq(bytes, 0); /* nothing yet */
    const uint64_t programs = sources_built_in(ctx);
    OK(ctx, tenon_context_save_kernels(ctx, NULL, 0, &bytes));
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_le(bytes, sizeof c->bytes);

    memset(c->bytes, 0x5a, sizeof c->bytes);
    REFUSED(ctx, TENON_ERROR_INVALID_ARGUMENT, "capacity",
            tenon_context_save_kernels(ctx, c->bytes, bytes - 1, &c->count));
    ck_assert_uint_eq(c->count, bytes);
    driver->only("clGetProgramInfo");
    for (uint64_t nth = 1;; ++nth) { /* the driver fails: nothing is written */
        driver->strike(nth, 0, STAND_IN_SHORT);
        if (tenon_context_save_kernels(ctx, c->bytes, bytes, &c->count) == TENON_OK)
            break;
        for (size_t i = 0; i < bytes; ++i)
            ck_assert_uint_eq(c->bytes[i], 0x5a);
    }
    ck_assert_uint_eq(c->count, bytes);
    ck_assert_uint_eq(c->bytes[bytes], 0x5a);
    driver->only(NULL);
    tenon_context_destroy(ctx);
    return programs;
}

/* How many programs come from memory, and how many are compiled all the same. */
static void expect_loaded(const void *memory, size_t bytes, int loads, uint64_t builds,
                          const char *what, size_t which) {
    tenon_context *ctx = context_on("opencl,cpu");
    int32_t loaded = 77;
    OK(ctx, tenon_context_load_kernels(ctx, memory, bytes, &loaded));
    const uint64_t built = sources_built_in(ctx);
    if (loaded != loads || built != builds)
        ck_abort_msg("%s %zu: %d loaded and %d built, expected %d and %d", what, which, (int)loaded,
                     (int)built, loads, (int)builds);
    tenon_context_destroy(ctx);
    ck_assert_int_eq(driver->live(), 0);
}

START_TEST(programs_in_memory) {
    content good, bad;
    const uint64_t programs = save(&good);
    ck_assert_uint_eq(programs, 1); /* so that below nothing is left */
    expect_loaded(good.bytes, good.count, 1, 0, "whole", 0);
    memmove(bad.bytes + 1, good.bytes, good.count);
    expect_loaded(bad.bytes + 1, good.count, 1, 0, "not aligned", 0);
    for (size_t i = 0; i < good.count; ++i) {
        bad = good;
        bad.bytes[i] ^= (unsigned char)(1u << i % 8);
        expect_loaded(bad.bytes, bad.count, 0, 1, "changed byte", i);
    }
    for (size_t length = 0; length < good.count; length += length < 16 ? 1 : 37) {
        unsigned char *part = malloc(length + 1); /* what lies behind it is nobody's */
        memcpy(part, good.bytes, length);
        expect_loaded(part, length, 0, 1, "length", length);
        free(part);
    }
    /* Two saves, the first of which has a binary that is damaged; and the same one twice. */
    bad = good;
    memcpy(bad.bytes + good.count, good.bytes, good.count);
    expect_loaded(bad.bytes, 2 * good.count, 1, 0, "twice", 0);
    bad.bytes[good.count - 1] ^= 1;
    expect_loaded(bad.bytes, 2 * good.count, 1, 0, "second", 0);
    /* Something else before it, and a save whose head is damaged. */
    memset(bad.bytes, 'X', good.count);
    expect_loaded(bad.bytes, 2 * good.count, 1, 0, "behind others", 0);
    memcpy(bad.bytes, good.bytes, good.count);
    bad.bytes[9] ^= 1;
    expect_loaded(bad.bytes, 2 * good.count, 1, 0, "behind a wrong head", 0);
}
END_TEST

/* Other options, and another driver: the bytes are whole, but not of use. */
START_TEST(programs_of_others_in_memory) {
    const stand_in_limits updated = {.updated = 1}, truth = {.updated = 0};
    content mine;
    (void)save(&mine);
    setenv("TENON_OPENCL_FAMILY", "gpu", 1);
    expect_loaded(mine.bytes, mine.count, 0, 1, "family", 0);
    unsetenv("TENON_OPENCL_FAMILY");
    driver->pretend(&updated);
    expect_loaded(mine.bytes, mine.count, 0, 1, "driver", 0);
    driver->pretend(&truth);
    expect_loaded(mine.bytes, mine.count, 1, 0, "own", 0);
}
END_TEST

/* A file is what would be saved in memory: all files of a directory, one after the other. */
START_TEST(files_in_memory) {
    content file, memory;
    (void)save(&memory);
    (void)sources_built(directory);
    ck_assert_int_gt(files(), 0);
    while (files() > 0) { /* those of earlier tests too */
        get(&file);
        if (file.count == memory.count && memcmp(file.bytes, memory.bytes, file.count) == 0)
            break;
        ck_assert_int_eq(remove(name), 0);
    }
    ck_assert_int_gt(files(), 0);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("opencl_library");
    TCase *t = tcase_create("opencl_library");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, libraries_that_are_none);
    tcase_add_test(t, files_are_kept);
    tcase_add_test(t, damaged_files_are_built_anew);
    tcase_add_test(t, files_of_others);
    tcase_add_test(t, programs_in_memory);
    tcase_add_test(t, programs_of_others_in_memory);
    tcase_add_test(t, files_in_memory);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    setenv("CK_FORK", "no", 0);
    driver = stand_in_controls();
    snprintf(stand_in_path, sizeof stand_in_path, "%s", getenv("TENON_OPENCL_LIBRARY"));
    if (!mkdtemp(directory))
        return EXIT_FAILURE;
    const int failed = run_suite(suite());
    while (files() > 0)
        remove(name);
    return rmdir(directory) == 0 ? failed : EXIT_FAILURE;
}
