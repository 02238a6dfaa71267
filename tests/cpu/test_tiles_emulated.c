/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulation of AMX's instructions that other tests rely on (vec_tiles_emulated.h), held to what Intel's SDM says of each: the order of sums,
 * subnormal numbers, what becomes of the rest of a tile, and what the processor refuses, which stops the program (SIGILL).
 */
#define TN_EMULATE_AVX512
#define TN_ISA_AVX512
#include "cpu/kernels/vec_tiles.h"

#include "rng.h"
#include "suite.h"

#include <signal.h>

static const tn_tile_config uneven = {
    .palette = 1,
    .bytes = {20, 12, 20, 64}, /* c: 3 x 5, a: 3 x 3, b: 3 x 5; a whole one */
    .rows = {3, 3, 3, 16},
};

static rng r;

static void setup(void) {
    r = rng_start("tiles");
    tn_tile_configure(&uneven);
}

static void teardown(void) {
    tn_tile_release();
}

START_TEST(bytes) {
    uint8_t a[3][12];
    int8_t b[3][20];
    int32_t c[3][5], got[3][5];
    for (int trial = 0; trial < 50; trial++) {
        rng_fill_bytes(&r, (void *)a, sizeof a);
        rng_fill_bytes(&r, (void *)b, sizeof b);
        rng_fill_bytes(&r, (void *)c, sizeof c); /* some sums wrap */
        tn_tile_load(0, c, sizeof c[0]);
        tn_tile_load(1, a, sizeof a[0]);
        tn_tile_load(2, b, sizeof b[0]);
        tn_tile_quads(0, 1, 2);
        tn_tile_store(0, got, sizeof got[0]);
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 5; j++) {
                int64_t sum = c[i][j];
                for (int p = 0; p < 12; p++)
                    sum += a[i][p] * b[p / 4][4 * j + p % 4];
                ck_assert_uint_eq((uint32_t)got[i][j], (uint32_t)sum);
            }
    }
}
END_TEST

static uint16_t bf16(float x) {
    return (uint16_t)(tn_bits_f32(x) >> 16);
}

/* c of one element after a row of A times ones, from `start`. */
static float sum_of(const float *row, float start) {
    uint16_t a[3][6] = {{0}}, b[3][10] = {{0}};
    float c[3][5] = {{start}};
    for (int p = 0; p < 6; p++) {
        a[0][p] = bf16(row[p]);
        b[p / 2][p % 2] = bf16(1);
    }
    tn_tile_load(0, c, sizeof c[0]);
    tn_tile_load(1, a, sizeof a[0]);
    tn_tile_load(2, b, sizeof b[0]);
    tn_tile_pairs_bf16(0, 1, 2);
    tn_tile_store(0, c, sizeof c[0]);
    return c[0][0];
}

START_TEST(order_of_floats) {
    const float half = 0x1p-24f; /* of a step at 1: a tie, which goes to the even number */
    /* Even steps one after the other: each half is lost; in the other direction both count. */
    ck_assert(sum_of((float[]){1, 0, half, 0, half, 0}, 0) == 1);
    ck_assert(sum_of((float[]){half, 0, half, 0, 1, 0}, 0) == 1 + 2 * half);
    /* Odd ones are a chain of their own. */
    ck_assert(sum_of((float[]){1, half, 0, half, 0, 0}, 0) == 1 + 2 * half);
    /* Both chains meet before the sum joins them: not half + half first. */
    ck_assert(sum_of((float[]){1, half, 0, 0, 0, 0}, half) == 1);
}
END_TEST

START_TEST(subnormal_floats) {
    const float tiny = 0x1p-130f;
    ck_assert(sum_of((float[]){tiny, 0, 0, 0, 0, 0}, 0x1p-126f) == 0x1p-126f); /* an operand */
    ck_assert(sum_of((float[]){0}, tiny) == 0);                                /* the sum before */
    ck_assert(sum_of((float[]){0x1p-126f, 0, 0, 0, 0, 0}, -0x1.8p-126f) == 0); /* and after */
    ck_assert(sum_of((float[]){0x1.8p-126f, -0x1p-126f, 0, 0, 0, 0}, 0x1p-126f) == 0x1p-126f);
}
END_TEST

/* A load clears what lies beyond the tile's rows and bytes, a configuration everything. */
START_TEST(rest_of_a_tile) {
    uint8_t full[16][64], back[16][64], nothing[64] = {0};
    tn_tile_config small = {.palette = 1, .bytes = {[3] = 8}, .rows = {[3] = 2}};
    memset(full, 0xff, sizeof full);
    tn_tile_load(3, full, 64);
    tn_tile_configure(&small);
    memset(back, 1, sizeof back);
    tn_tile_store(3, back, 64);
    for (int i = 0; i < 2; i++)
        ck_assert_mem_eq(back[i], nothing, 8);
    ck_assert_int_eq(back[0][8], 1); /* nor is more stored */
    ck_assert_int_eq(back[2][0], 1);
    tn_tile_load(3, full, 64);
    ck_assert_mem_eq(tn_emu_tiles.tile[3][0], full, 8);
    ck_assert_mem_eq(tn_emu_tiles.tile[3][0] + 8, nothing, 56);
    ck_assert_mem_eq(tn_emu_tiles.tile[3][2], nothing, 64);
}
END_TEST

/* What the processor refuses. */
START_TEST(refused) {
    uint8_t memory[16 * 64] = {0};
    tn_tile_config config = uneven;
    switch (_i) {
    case 0:
        tn_tile_release();
        tn_tile_load(0, memory, 64);
        break;
    case 1:
        tn_tile_zero(5); /* no rows */
        break;
    case 2:
        tn_tile_quads(0, 2, 1); /* shapes that don't fit */
        break;
    case 3:
        tn_tile_pairs_bf16(0, 1, 1);
        break;
    case 4:
        config.palette = 2;
        tn_tile_configure(&config);
        break;
    case 5:
        config.rows[0] = 17;
        tn_tile_configure(&config);
        break;
    case 6:
        config.reserved[3] = 1;
        tn_tile_configure(&config);
        break;
    case 7:
        config.bytes[1] = 0; /* but rows */
        tn_tile_configure(&config);
        break;
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("tiles");
    TCase *t = tcase_create("tiles");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, bytes);
    tcase_add_test(t, order_of_floats);
    tcase_add_test(t, subnormal_floats);
    tcase_add_test(t, rest_of_a_tile);
    tcase_add_loop_test_raise_signal(t, refused, SIGILL, 0, 8);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    return run_suite(suite());
}
