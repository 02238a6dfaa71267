/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_tiles.h: AMX's tile registers: eight of up to 16 rows of 64 bytes, and products of two of
 * them added to a third.
 *
 * Included after vec_int.h by kernels compiled with TN_WITH_AMX. Tiles are named by literal
 * numbers. Kernels use one configuration, all rows of all tiles, which tn_tiles_begin loads and
 * tn_tiles_end releases: some 200 cycles (Intel's optimization manual, 248966, table of AMX
 * latencies), so drivers do it around many tiles. Written as assembly since gcc 12's intrinsics do
 * not say that they read memory. TN_EMULATE_AVX512 (tests only) computes the same in plain C.
 */
#ifndef TN_VEC_TILES_H
#define TN_VEC_TILES_H

#include "vec_int.h"

#define TN_TILE_ROWS 16
#define TN_TILE_BYTES 64 /* of a row */

/* What ldtilecfg reads (Intel SDM, volume 1, chapter 18): palette 1. */
typedef struct tn_tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tn_tile_config;
_Static_assert(sizeof(tn_tile_config) == 64, "as the instruction has it");

#ifdef TN_EMULATE_AVX512
#include <vec_tiles_emulated.h> /* of tests/support, which has state of threads */
#else

#define tn_tile_configure(config) __asm__ volatile("ldtilecfg %0" ::"m"(*(config)))
#define tn_tile_release() __asm__ volatile("tilerelease" ::: "memory")
#define tn_tile_zero(t) __asm__ volatile("tilezero %%tmm" #t ::)
/* Rows from p on, `stride` bytes apart. */
#define tn_tile_load(t, p, stride)                                                                 \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(p), "r"((int64_t)(stride)) : "memory")
#define tn_tile_store(t, p, stride)                                                                \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(p), "r"((int64_t)(stride))          \
                     : "memory")
/* Tile c += a * b: u8 by s8 in fours to s32, bf16 in pairs to f32. */
#define tn_tile_quads(c, a, b) __asm__ volatile("tdpbusd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define tn_tile_pairs_bf16(c, a, b)                                                                \
    __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)

#endif

static void tn_tiles_begin(void) {
    static const tn_tile_config config = {
        .palette = 1,
        .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
        .rows = {16, 16, 16, 16, 16, 16, 16, 16},
    };
    tn_tile_configure(&config);
}

static void tn_tiles_end(void) {
    tn_tile_release();
}

#endif
