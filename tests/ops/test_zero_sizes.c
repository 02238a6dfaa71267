/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing to do is legal: extents of zero with NULL addresses, one-shot and planned; and what still has to happen then (C scaled with
 * k = 0, rows of zeros and lse = -inf without keys). On every usable device.
 */
#include "suite.h"

#include <tenon/tenon.h>

#include <math.h>
#include <string.h>

static tenon_context *ctx;

/* Opens entry `index` of the device list; false if it is not usable. */
static int open_device(int index) {
    tenon_device_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(tenon_device_get(index, &info), TENON_OK);
    if (!info.usable)
        return 0;
    const tenon_context_desc desc = {.device = info.id, .threads = 2};
    ck_assert_msg(tenon_context_create(&desc, &ctx) == TENON_OK, "%s", tenon_error_message(NULL));
    return 1;
}

#define RUNS(call)                                                                                 \
    ck_assert_msg((call) == TENON_OK, "%s: %s", tenon_context_device(ctx, 0),                      \
                  tenon_error_message(ctx))

static void gemm_twice(const tenon_gemm_desc *g) {
    tenon_plan *plan;
    RUNS(tenon_gemm(ctx, g));
    RUNS(tenon_gemm_plan(ctx, g, &plan));
    RUNS(tenon_gemm_run(ctx, plan, g));
    tenon_plan_destroy(plan);
}

static void softmax_twice(const tenon_softmax_desc *s) {
    tenon_plan *plan;
    RUNS(tenon_softmax(ctx, s));
    RUNS(tenon_softmax_plan(ctx, s, &plan));
    RUNS(tenon_softmax_run(ctx, plan, s));
    tenon_plan_destroy(plan);
}

static void attention_twice(const tenon_attention_desc *a) {
    tenon_plan *plan;
    RUNS(tenon_attention(ctx, a));
    RUNS(tenon_attention_plan(ctx, a, &plan));
    RUNS(tenon_attention_run(ctx, plan, a));
    tenon_plan_destroy(plan);
}

START_TEST(gemm) {
    if (!open_device(_i))
        return;
    float a[6] = {0}, b[6] = {0}, c[4] = {1, 2, 3, 4}, bias[2] = {10, 20};
    /* No row, no column, no member. */
    gemm_twice(&(tenon_gemm_desc){.a = tenon_matrix(NULL, TENON_F32, 0, 3),
                                  .b = tenon_matrix(b, TENON_F32, 3, 2),
                                  .c = tenon_matrix(NULL, TENON_F32, 0, 2)});
    gemm_twice(&(tenon_gemm_desc){.a = tenon_matrix(a, TENON_F32, 2, 3),
                                  .b = tenon_matrix(NULL, TENON_F32, 3, 0),
                                  .c = tenon_matrix(NULL, TENON_F32, 2, 0)});
    gemm_twice(&(tenon_gemm_desc){.a = tenon_tensor3(NULL, TENON_F32, 0, 2, 3),
                                  .b = tenon_matrix(b, TENON_F32, 3, 2),
                                  .c = tenon_tensor3(NULL, TENON_F32, 0, 2, 2)});
    /* No term: the rest still happens. */
    tenon_gemm_desc scaled = {
        .a = tenon_matrix(NULL, TENON_F32, 2, 0),
        .b = tenon_matrix(NULL, TENON_F32, 0, 2),
        .c = tenon_matrix(c, TENON_F32, 2, 2),
        .beta = 0.5,
        .bias = tenon_vector(bias, TENON_F32, 2),
    };
    RUNS(tenon_gemm(ctx, &scaled));
    ck_assert(c[0] == 10.5f && c[1] == 21 && c[2] == 11.5f && c[3] == 22);
    scaled.beta = 0;
    c[0] = NAN; /* beta = 0 does not read c */
    RUNS(tenon_gemm(ctx, &scaled));
    ck_assert(c[0] == 10 && c[1] == 20 && c[2] == 10 && c[3] == 20);
    /* Experts without rows, and rows without an expert. */
    const int32_t offsets[4] = {0, 0, 0, 0};
    RUNS(tenon_gemm(ctx, &(tenon_gemm_desc){.a = tenon_matrix(a, TENON_F32, 2, 1),
                                            .b = tenon_tensor3(b, TENON_F32, 3, 1, 2),
                                            .c = tenon_matrix(c, TENON_F32, 2, 2),
                                            .group_offsets = tenon_vector(offsets, TENON_S32, 4)}));
    ck_assert(c[0] == 10 && c[3] == 20);
    tenon_context_destroy(ctx);
}
END_TEST

START_TEST(softmax) {
    if (!open_device(_i))
        return;
    float lse[2] = {5, 5};
    softmax_twice(&(tenon_softmax_desc){.x = tenon_matrix(NULL, TENON_F32, 0, 7),
                                        .y = tenon_matrix(NULL, TENON_F32, 0, 7)});
    softmax_twice(&(tenon_softmax_desc){.x = tenon_matrix(NULL, TENON_F32, 2, 0),
                                        .y = tenon_matrix(NULL, TENON_F32, 2, 0),
                                        .lse = tenon_vector(lse, TENON_F32, 2)});
    ck_assert(lse[0] == -INFINITY && lse[1] == -INFINITY);
    /* With a sink that is all there is. */
    const float sink[1] = {0.25f};
    RUNS(tenon_softmax(ctx, &(tenon_softmax_desc){.x = tenon_matrix(NULL, TENON_F32, 2, 0),
                                                  .y = tenon_matrix(NULL, TENON_F32, 2, 0),
                                                  .sinks = tenon_vector(sink, TENON_F32, 1),
                                                  .lse = tenon_vector(lse, TENON_F32, 2)}));
    ck_assert(lse[0] == 0.25f && lse[1] == 0.25f);
    tenon_context_destroy(ctx);
}
END_TEST

START_TEST(attention) {
    if (!open_device(_i))
        return;
    float q[2 * 3 * 4] = {0}, o[2 * 3 * 4], lse[2 * 3];
    memset(o, 0x55, sizeof o);
    /* Nobody asks. */
    attention_twice(&(tenon_attention_desc){.q = tenon_tensor4(NULL, TENON_F32, 1, 2, 0, 4),
                                            .k = tenon_tensor4(q, TENON_F32, 1, 2, 3, 4),
                                            .v = tenon_tensor4(q, TENON_F32, 1, 2, 3, 4),
                                            .o = tenon_tensor4(NULL, TENON_F32, 1, 2, 0, 4)});
    attention_twice(&(tenon_attention_desc){.q = tenon_tensor4(NULL, TENON_F32, 0, 2, 3, 4),
                                            .k = tenon_tensor4(NULL, TENON_F32, 0, 2, 3, 4),
                                            .v = tenon_tensor4(NULL, TENON_F32, 0, 2, 3, 4),
                                            .o = tenon_tensor4(NULL, TENON_F32, 0, 2, 3, 4)});
    /* Nobody answers. */
    attention_twice(&(tenon_attention_desc){.q = tenon_tensor4(q, TENON_F32, 1, 2, 3, 4),
                                            .k = tenon_tensor4(NULL, TENON_F32, 1, 2, 0, 4),
                                            .v = tenon_tensor4(NULL, TENON_F32, 1, 2, 0, 4),
                                            .o = tenon_tensor4(o, TENON_F32, 1, 2, 3, 4),
                                            .lse = tenon_tensor3(lse, TENON_F32, 1, 2, 3)});
    for (int i = 0; i < 24; ++i)
        ck_assert(o[i] == 0 && lse[i / 4] == -INFINITY);
    /* A sequence of length 0 beside one of length 2, in a cache. */
    float k[2 * 2 * 3 * 4] = {0}, v[2 * 2 * 3 * 4], out[2 * 2 * 4];
    const int32_t lengths[2] = {0, 2};
    for (int i = 0; i < 48; ++i)
        v[i] = i < 24 ? NAN : 3;
    RUNS(tenon_attention(
        ctx, &(tenon_attention_desc){.q = tenon_tensor4(q, TENON_F32, 2, 2, 1, 4),
                                     .k = tenon_tensor4(k, TENON_F32, 2, 2, 3, 4),
                                     .v = tenon_tensor4(v, TENON_F32, 2, 2, 3, 4),
                                     .o = tenon_tensor4(out, TENON_F32, 2, 2, 1, 4),
                                     .key_lengths = tenon_vector(lengths, TENON_S32, 2)}));
    for (int i = 0; i < 16; ++i)
        ck_assert(out[i] == (i < 8 ? 0 : 3));
    tenon_context_destroy(ctx);
}
END_TEST

START_TEST(merge_and_append) {
    if (!open_device(_i))
        return;
    float o[6] = {1, 1, 1, 1, 1, 1}, lse[2] = {0, 0}, cache[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const int32_t positions[1] = {4};
    RUNS(tenon_attention_merge(
        ctx, &(tenon_attention_merge_desc){.o = tenon_matrix(o, TENON_F32, 2, 3),
                                           .lse = tenon_vector(lse, TENON_F32, 2)}));
    for (int i = 0; i < 6; ++i)
        ck_assert(o[i] == 0 && lse[i / 3] == -INFINITY);
    /* No new row, at the very end of the cache. */
    RUNS(tenon_kv_append(
        ctx, &(tenon_kv_append_desc){.k = tenon_tensor4(NULL, TENON_F32, 1, 1, 0, 2),
                                     .k_cache = tenon_tensor4(cache, TENON_F32, 1, 1, 4, 2),
                                     .positions = tenon_vector(positions, TENON_S32, 1)}));
    ck_assert(cache[0] == 1 && cache[7] == 8);
    tenon_context_destroy(ctx);
}
END_TEST

START_TEST(blocks) {
    if (!open_device(_i))
        return;
    unsigned char bytes[34] = {1, 2, 3};
    float c[6] = {1, 1, 1, 1, 1, 1};
    RUNS(tenon_quantize(ctx, &(tenon_quantize_desc){.x = tenon_matrix(NULL, TENON_F32, 0, 32),
                                                    .y = tenon_matrix(NULL, TENON_Q8_0, 0, 32)}));
    RUNS(tenon_quantize(ctx, &(tenon_quantize_desc){.x = tenon_matrix(NULL, TENON_F32, 7, 0),
                                                    .y = tenon_matrix(bytes, TENON_Q4_K, 7, 0)}));
    RUNS(tenon_dequantize(ctx, &(tenon_quantize_desc){.x = tenon_matrix(bytes, TENON_Q8_0, 0, 32),
                                                      .y = tenon_matrix(c, TENON_F32, 0, 32)}));
    ck_assert(bytes[0] == 1 && bytes[2] == 3 && c[0] == 1);
    int64_t bad = 7;
    const tenon_tensor none = tenon_matrix(NULL, TENON_Q8_0, 3, 0);
    RUNS(tenon_blocks_check(ctx, &none, &bad));
    ck_assert_int_eq(bad, -1);
    /* Products without columns, without rows, and of nothing. */
    RUNS(tenon_gemm(
        ctx, &(tenon_gemm_desc){.a = tenon_matrix(c, TENON_F32, 0, 32),
                                .b = tenon_transposed(tenon_matrix(bytes, TENON_Q8_0, 1, 32)),
                                .c = tenon_matrix(c, TENON_F32, 0, 1)}));
    RUNS(tenon_gemm(ctx,
                    &(tenon_gemm_desc){.a = tenon_matrix(c, TENON_F32, 2, 32),
                                       .b = tenon_transposed(tenon_matrix(NULL, TENON_Q8_0, 0, 32)),
                                       .c = tenon_matrix(c, TENON_F32, 2, 0)}));
    ck_assert(c[0] == 1);
    tenon_context_destroy(ctx);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("zero sizes");
    TCase *tc = tcase_create("on every device");
    tcase_set_timeout(tc, 60);
    const int devices = tenon_device_count();
    tcase_add_loop_test(tc, gemm, 0, devices);
    tcase_add_loop_test(tc, softmax, 0, devices);
    tcase_add_loop_test(tc, attention, 0, devices);
    tcase_add_loop_test(tc, merge_and_append, 0, devices);
    tcase_add_loop_test(tc, blocks, 0, devices);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
