/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_s16.c: exact products of bytes, signed or not, at every level: widened to s16 in packing,
 * multiplied in pairs along k, summed in s32.
 *
 * vpmaddwd and an addition (vpdpwssd where the processor has it) do 16 products of AVX2 each, twice
 * what a fused multiply-add of f32 does, and nothing saturates: of two products of bytes the sum
 * fits s32, and the drivers bound k. vpmaddubsw, which takes bytes as they are, saturates at 2^15,
 * and needs a widening multiply of its own: no faster on processors with two multipliers.
 * Zero points of 8 bits are subtracted in the panels. Exports tn_gemm_tile_s16_<variant>.
 */
#include "vec_int.h"

#include "gemm_kernels.h"

#define VEC vi
#define LANES VF
#define REAL int32_t
#define V(op) vi_##op
#define vi_fma vi_pairs

#if defined(TN_ISA_AVX512)
#define MR 12
#define NV 2
#elif defined(TN_ISA_AVX2)
#define MR 6
#define NV 2
#else
#define MR 4
#define NV 4
#endif
#define NR (NV * LANES)
#define GROUP 2
#define A_GROUP GROUP
#define FILL GROUP
#define NOTHING 0
#define JOIN(unit) vi_join((unit)[0], (unit)[1])

#include "gemm_ukr_rows.inc"

#include "gemm_int_rows.inc"

/* Panels: units first ... end of the steps of p, in each of `width` lanes, less the lane's zero. */
static void shift(void *panel_, int64_t width, int64_t first, int64_t end, const int32_t *zero) {
    int16_t *panel = panel_;
    for (int64_t p = first; p < end; p++) {
        int16_t *at = panel + p / GROUP * GROUP * width + p % GROUP;
        for (int64_t i = 0; i < width; i++)
            at[GROUP * i] = (int16_t)(at[GROUP * i] - zero[i]);
    }
}

#define SOURCE int8_t
#define UNIT(x) (uint16_t)(int16_t)(x)
#define SLOTS vi_slots_s8
#define WIDE vi_wide_s8
#define WIDE_N vi_wide_s8_n
#define ROWS_OF vi_rows_s8
#define WIDTH MR
#define PACK_NAME pack_a_s8
#include "gemm_pack_slots.inc"
#define WIDTH NR
#define PACK_NAME pack_b_s8
#include "gemm_pack_slots.inc"
#define GEMV_NAME gemv_s8
#include "gemm_gemv_s16.inc"
ROW_LOAD_S16(s8, int8_t)
#undef SOURCE
#undef UNIT
#undef SLOTS
#undef WIDE
#undef WIDE_N
#undef ROWS_OF

#define SOURCE uint8_t
#define UNIT(x) (uint16_t)(x)
#define SLOTS vi_slots_u8
#define WIDE vi_wide_u8
#define WIDE_N vi_wide_u8_n
#define ROWS_OF vi_rows_u8
#define WIDTH MR
#define PACK_NAME pack_a_u8
#include "gemm_pack_slots.inc"
#define WIDTH NR
#define PACK_NAME pack_b_u8
#include "gemm_pack_slots.inc"
#define GEMV_NAME gemv_u8
#include "gemm_gemv_s16.inc"
ROW_LOAD_S16(u8, uint8_t)
#undef SOURCE

#define TILE_FAMILY tn_gemm_tile_s16
#define TILE_TAG "s16"
#define TILE_A TN_S16
#define TILE_B TN_S16
#define TILE_PACK_A                                                                                \
    { [TENON_S8] = pack_a_s8, [TENON_U8] = pack_a_u8 }
#define TILE_PACK_B                                                                                \
    { [TENON_S8] = pack_b_s8, [TENON_U8] = pack_b_u8 }
#define TILE_GEMV                                                                                  \
    { [TENON_S8] = gemv_s8, [TENON_U8] = gemv_u8 }
#define TILE_LOAD                                                                                  \
    { [TENON_S8] = row_load_s8, [TENON_U8] = row_load_u8 }
#include "gemm_int_table.inc"
