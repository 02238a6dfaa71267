/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a call writes shares no memory with anything else of it: pointer arrays and block tables
 * against a count of every byte and row, packed B, workspaces, and the sentences. The reference
 * device computes; what is refused must leave memory as it was.
 */
#include "rng.h"
#include "suite.h"

#include <tenon/tenon.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { WORLD = 1 << 15, MEMBERS = 40, MANY = 5000 };

static tenon_context *ctx;
static _Alignas(64) unsigned char world[WORLD];
static rng random_numbers;

static void open_context(void) {
    const tenon_context_desc desc = {.device = "reference", .threads = 1};
    ck_assert_msg(tenon_context_create(&desc, &ctx) == TENON_OK, "%s", tenon_error_message(NULL));
}

static void close_context(void) {
    tenon_context_destroy(ctx);
}

static int64_t upto(int64_t n) {
    return rng_between(&random_numbers, 0, n);
}

#define REFUSED(status, ...) refused(__LINE__, status, (const char *const[]){__VA_ARGS__, NULL})

static void refused(int line, tenon_status status, const char *const *words) {
    ck_assert_msg(status == TENON_ERROR_INVALID_ARGUMENT, "line %d: %s", line,
                  tenon_status_name(status));
    for (; *words; ++words)
        ck_assert_msg(strstr(tenon_error_message(ctx), *words), "line %d: does not say %s: %s",
                      line, *words, tenon_error_message(ctx));
}

#define ACCEPTED(status) ck_assert_msg((status) == TENON_OK, "%s", tenon_error_message(ctx))

/* ---------------------------------------------------------------- pointer arrays */

typedef struct arrays {
    const void *a[MANY], *b[MANY];
    void *c[MANY];
    tenon_gemm_desc desc;
} arrays;

static arrays now;

/* m x n products of k = 1. */
static void build(int64_t count, int64_t m, int64_t n) {
    now.desc = (tenon_gemm_desc){
        .a = tenon_matrix(NULL, TENON_F32, m, 1),
        .b = tenon_matrix(NULL, TENON_F32, 1, n),
        .c = tenon_matrix(NULL, TENON_F32, m, n),
        .a_array = now.a,
        .b_array = now.b,
        .c_array = now.c,
        .array_count = count,
    };
}

/* Adds one to every byte of a matrix of floats. */
static void tick(const tenon_tensor *t, const void *at, unsigned char *count) {
    for (int64_t i = 0; i < t->shape[0]; ++i)
        for (int64_t j = 0; j < t->shape[1]; ++j)
            for (int64_t b = 0; b < 4; ++b)
                count[(const unsigned char *)at - world +
                      4 * (i * t->stride[0] + j * t->stride[1]) + b]++;
}

/* Whether a byte of c's members is anybody else's too. */
static bool shares(void) {
    static unsigned char written[WORLD], read[WORLD];
    bool shared = false;
    memset(written, 0, sizeof written);
    memset(read, 0, sizeof read);
    for (int64_t i = 0; i < now.desc.array_count; ++i) {
        tick(&now.desc.c, now.c[i], written);
        tick(&now.desc.a, now.a[i], read);
        tick(&now.desc.b, now.b[i], read);
    }
    for (int b = 0; b < WORLD; ++b)
        shared |= written[b] > 1 || (written[b] && read[b]);
    return shared;
}

static void *somewhere(void) {
    return world + 1024 + 4 * upto((WORLD - 8192) / 4);
}

/* Members anywhere: what is let pass shares nothing, what is refused nearly always does. */
START_TEST(arrays_anywhere) {
    static unsigned char untouched[WORLD];
    int accepted = 0, without_need = 0, overlapping = 0;
    open_context();
    for (int round = 0; round < 3000; ++round) {
        build(1 + upto(MEMBERS - 1), 1 + upto(3), 1 + upto(3));
        now.desc.c.stride[0] = now.desc.c.shape[1] + upto(60);
        for (int64_t i = 0; i < now.desc.array_count; ++i) {
            now.a[i] = somewhere();
            now.b[i] = somewhere();
            now.c[i] = somewhere();
        }
        memset(world, 0x11, sizeof world);
        memset(untouched, 0x11, sizeof untouched);
        const bool shared = shares();
        const tenon_status status = tenon_gemm(ctx, &now.desc);
        ck_assert_msg(status != TENON_OK || !shared, "round %d: an overlap was let pass", round);
        if (status != TENON_OK) {
            REFUSED(status, "c_array[", "overlaps");
            ck_assert_msg(memcmp(world, untouched, sizeof world) == 0, "round %d: written", round);
        }
        accepted += status == TENON_OK;
        overlapping += shared;
        without_need += status != TENON_OK && !shared;
    }
    printf("arrays: %d accepted, %d overlap, %d refused without need\n", accepted, overlapping,
           without_need);
    ck_assert_int_gt(accepted, 500);
    ck_assert_int_gt(overlapping, 500);
    ck_assert_int_lt(without_need, 30);
    close_context();
}
END_TEST

/*
 * Layouts that people have are legal in any order: side by side like heads, a, b and c in turn. One
 * member moved onto another is found wherever it is.
 */
START_TEST(arrays_in_order) {
    enum { COUNT = 60 };
    open_context();
    for (int round = 0; round < 400; ++round) {
        const bool heads = round % 2;
        build(COUNT, 4, 3);
        if (heads)
            now.desc.c.stride[0] = 3 * 12;
        for (int64_t i = 0; i < COUNT; ++i) {
            unsigned char *own = world + 96 * i;
            now.a[i] = heads ? world + 16384 : own;
            now.b[i] = heads ? world + 16448 : own + 16;
            now.c[i] = heads ? world + 576 * (i / 12) + 12 * (i % 12) : own + 32;
        }
        for (int64_t i = COUNT - 1; i > 0 && round % 4 > 1; --i) {
            const int64_t j = upto(i);
            void *c = now.c[i];
            now.c[i] = now.c[j];
            now.c[j] = c;
        }
        memset(world, 0, sizeof world);
        ACCEPTED(tenon_gemm(ctx, &now.desc));
        char name[32], other[32];
        const int64_t i = upto(COUNT - 2), j = i + 1 + upto(COUNT - 2 - i);
        now.c[j] = (char *)now.c[i] + 4 * upto(2);
        snprintf(name, sizeof name, "c_array[%d]", (int)i);
        snprintf(other, sizeof other, "c_array[%d]", (int)j);
        REFUSED(tenon_gemm(ctx, &now.desc), "overlaps", "c_array[");
        if (now.c[j] == now.c[i])
            REFUSED(tenon_gemm(ctx, &now.desc), name, other);
    }
    close_context();
}
END_TEST

/*
 * Thousands of members: in ascending order everything is compared, else each with those of its
 * stretch.
 */
START_TEST(arrays_of_many) {
    static float memory[3 * MANY];
    open_context();
    build(MANY, 1, 1);
    for (int64_t i = 0; i < MANY; ++i) {
        now.a[i] = memory + 3 * i;
        now.b[i] = memory + 3 * i + 1;
        now.c[i] = memory + 3 * i + 2;
    }
    ACCEPTED(tenon_gemm(ctx, &now.desc));
    now.a[4321] = now.c[17];
    REFUSED(tenon_gemm(ctx, &now.desc), "c_array[17]", "a_array[4321]");
    now.a[4321] = memory;
    now.b[3] = now.c[4999];
    REFUSED(tenon_gemm(ctx, &now.desc), "c_array[4999]", "b_array[3]");
    now.b[3] = memory;
    for (int64_t i = 0; i < MANY; ++i)
        now.c[i] = memory + 3 * (MANY - 1 - i) + 2;
    ACCEPTED(tenon_gemm(ctx, &now.desc));
    now.c[2500] = now.c[2400];
    REFUSED(tenon_gemm(ctx, &now.desc), "c_array[2400]", "c_array[2500]");
    close_context();
}
END_TEST

/* Whatever else belongs to an array product. */
START_TEST(arrays_and_operands) {
    float *at = (float *)world;
    open_context();
    memset(world, 0, sizeof world);
    build(2, 2, 3);
    for (int i = 0; i < 2; ++i) {
        now.a[i] = at + 100 * i;
        now.b[i] = at + 100 * i + 10;
        now.c[i] = at + 100 * i + 20;
    }
    const struct {
        const char *name;
        tenon_tensor *t;
    } others[] = {{"bias", &now.desc.bias},
                  {"residual", &now.desc.residual},
                  {"a_scale", &now.desc.a_scale},
                  {"b_scale", &now.desc.b_scale},
                  {"c_scale", &now.desc.c_scale}};
    for (size_t k = 0; k < sizeof others / sizeof others[0]; ++k) {
        *others[k].t = tenon_vector(at + 400, TENON_F32, 1);
        at[400] = 1;
        ACCEPTED(tenon_gemm(ctx, &now.desc));
        others[k].t->data = at + 125;
        REFUSED(tenon_gemm(ctx, &now.desc), "c_array[1]", others[k].name, "overlaps");
        *others[k].t = (tenon_tensor){0};
    }
    /* The residual may be c itself, if there is one c. */
    now.desc.residual = tenon_matrix(at + 20, TENON_F32, 2, 3);
    REFUSED(tenon_gemm(ctx, &now.desc), "c_array[0]", "residual");
    now.desc.array_count = 1;
    ACCEPTED(tenon_gemm(ctx, &now.desc));
    now.desc.array_count = 2;
    now.desc.residual = (tenon_tensor){0};
    /* The list of addresses itself. */
    void *kept = now.c[1];
    now.c[1] = now.a;
    REFUSED(tenon_gemm(ctx, &now.desc), "a_array", "c_array[1]", "overlaps");
    now.c[1] = kept;
    now.desc.workspace = (tenon_workspace){world, 64};
    REFUSED(tenon_gemm(ctx, &now.desc), "workspace.memory", "a_array[0]");
    now.desc.workspace.memory = world + 64;
    REFUSED(tenon_gemm(ctx, &now.desc), "workspace.memory", "c_array[0]");
    now.desc.workspace = (tenon_workspace){world + 4096, 4096};
    ACCEPTED(tenon_gemm(ctx, &now.desc));
    close_context();
}
END_TEST

/* ---------------------------------------------------------------- packed B and workspaces */

START_TEST(packed) {
    tenon_gemm_desc d = {.a = tenon_matrix(world, TENON_F32, 2, 4),
                         .b = tenon_matrix(world + 1024, TENON_F32, 4, 3),
                         .c = tenon_matrix(world + 2048, TENON_F32, 2, 3)};
    size_t bytes;
    open_context();
    memset(world, 0, sizeof world);
    ACCEPTED(tenon_gemm_pack_size(ctx, &d, &bytes));
    REFUSED(tenon_gemm_pack(ctx, &d, world + 1024, bytes), "packed", "overlaps b ");
    REFUSED(tenon_gemm_pack(ctx, &d, world + 1024 - bytes / 64 * 64, bytes), "packed", "b at");
    d.b_scale = tenon_matrix(world + 4096 + bytes - 4, TENON_F32, 1, 1);
    const tenon_status scaled = tenon_gemm_pack_size(ctx, &d, &bytes);
    if (scaled == TENON_OK)
        REFUSED(tenon_gemm_pack(ctx, &d, world + 4096, bytes), "packed", "b_scale");
    d.b_scale = (tenon_tensor){0};
    ACCEPTED(tenon_gemm_pack(ctx, &d, world + 4096, bytes));
    d.b_packed = world + 4096;
    d.b_packed_bytes = bytes;
    ACCEPTED(tenon_gemm(ctx, &d));
    d.workspace = (tenon_workspace){world + 4096 + 64, 64};
    REFUSED(tenon_gemm(ctx, &d), "workspace.memory", "b_packed");
    d.workspace.memory = NULL;
    d.c.data = world + 4096 + 64;
    REFUSED(tenon_gemm(ctx, &d), "b_packed", "overlaps c ");
    close_context();
}
END_TEST

/*
 * Nothing of a call may lie in its workspace, whether it is read or written; gaps of a layout may.
 */
START_TEST(workspaces) {
    float *at = (float *)world;
    tenon_softmax_desc s = {.x = tenon_matrix(at, TENON_F32, 2, 8),
                            .y = tenon_matrix(at + 64, TENON_F32, 2, 8),
                            .lse = tenon_vector(at + 128, TENON_F32, 2)};
    const char *names[] = {"x", "y", "lse"};
    tenon_plan *plan;
    open_context();
    memset(world, 0, sizeof world);
    ACCEPTED(tenon_softmax_plan(ctx, &s, &plan));
    for (int i = 0; i < 3; ++i) {
        char say[40];
        snprintf(say, sizeof say, "overlaps %s at", names[i]);
        s.workspace = (tenon_workspace){at + 64 * i, 64};
        REFUSED(tenon_softmax(ctx, &s), "workspace.memory", say);
        REFUSED(tenon_softmax_run(ctx, plan, &s), "workspace.memory", say);
    }
    s.workspace = (tenon_workspace){at + 192, 1024};
    ACCEPTED(tenon_softmax_run(ctx, plan, &s));
    s.workspace.bytes = SIZE_MAX;
    REFUSED(tenon_softmax_run(ctx, plan, &s), "workspace.bytes", "18446744073709551615");
    tenon_plan_destroy(plan);

    tenon_tensor lse_part = tenon_vector(at + 64, TENON_F32, 2),
                 o_part = tenon_matrix(at, TENON_F32, 2, 4);
    tenon_attention_merge_desc m = {.o_parts = &o_part,
                                    .lse_parts = &lse_part,
                                    .count = 1,
                                    .o = tenon_matrix(at + 128, TENON_F32, 2, 4),
                                    .workspace = {at + 64, 64}};
    REFUSED(tenon_attention_merge(ctx, &m), "workspace.memory", "lse_parts[0]");
    m.workspace.memory = at;
    REFUSED(tenon_attention_merge(ctx, &m), "workspace.memory", "o_parts[0]");
    m.workspace.memory = at + 256;
    ACCEPTED(tenon_attention_merge(ctx, &m));
    close_context();
}
END_TEST

/* ---------------------------------------------------------------- block tables */

/* Random tables: exactly those are refused that put two new rows in one place. */
START_TEST(tables) {
    enum { BATCH = 6, MOST = 4, SIZE = 3, FEW = 24, LOTS = 200000 };
    static float cache[LOTS * SIZE], k[BATCH * MOST * SIZE];
    static unsigned char taken[LOTS * SIZE];
    int accepted = 0;
    open_context();
    for (int round = 0; round < 4000; ++round) {
        /* More blocks than the map of bits holds, now and then. */
        const int64_t blocks = round % 50 ? FEW : LOTS;
        int32_t table[BATCH * MOST], positions[BATCH], offsets[BATCH + 1] = {0};
        bool twice = false;
        for (int i = 0; i < BATCH * MOST; ++i)
            table[i] = (int32_t)(blocks == FEW ? upto(FEW - 1) : upto(3) * 66000 + upto(8));
        for (int b = 0; b < BATCH; ++b) {
            const int32_t rows = (int32_t)upto(4);
            positions[b] = (int32_t)upto(MOST * SIZE - rows);
            offsets[b + 1] = offsets[b] + rows;
        }
        memset(taken, 0, sizeof taken[0] * (size_t)(blocks * SIZE));
        for (int b = 0; b < BATCH; ++b)
            for (int t = 0; t < offsets[b + 1] - offsets[b]; ++t) {
                const int at = positions[b] + t;
                unsigned char *row = &taken[table[b * MOST + at / SIZE] * SIZE + at % SIZE];
                twice |= *row;
                *row = 1;
            }
        const tenon_kv_append_desc d = {
            .k = tenon_tensor4(k, TENON_F32, 1, 1, offsets[BATCH], 1),
            .k_cache = tenon_tensor4(cache, TENON_F32, blocks, 1, SIZE, 1),
            .positions = tenon_vector(positions, TENON_S32, BATCH),
            .cu_seqlens = tenon_vector(offsets, TENON_S32, BATCH + 1),
            .block_table = tenon_matrix(table, TENON_S32, BATCH, MOST),
        };
        const tenon_status status = tenon_kv_append(ctx, &d);
        if (twice)
            REFUSED(status, "block_table[", "new rows go to both");
        else
            ACCEPTED(status);
        accepted += !twice;
    }
    printf("tables: %d of 4000 without a row twice\n", accepted);
    ck_assert_int_gt(accepted, 400);
    ck_assert_int_lt(accepted, 3600);
    close_context();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("overlap");
    TCase *tc = tcase_create("overlap");
    tcase_set_timeout(tc, 120);
    random_numbers = rng_start("overlap");
    tcase_add_test(tc, arrays_anywhere);
    tcase_add_test(tc, arrays_in_order);
    tcase_add_test(tc, arrays_of_many);
    tcase_add_test(tc, arrays_and_operands);
    tcase_add_test(tc, packed);
    tcase_add_test(tc, workspaces);
    tcase_add_test(tc, tables);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
