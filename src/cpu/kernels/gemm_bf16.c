/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_bf16.c: products of bf16, and of the 8-bit floats that it holds exactly, by vdpbf16ps or by
 * AMX's tdpbf16ps: two products along k, or 32, to an f32 sum.
 *
 * Not the bits of gemm_f32.c: the instructions take subnormal numbers for zero, and add products in
 * an order of their own (docs/NUMERICS.md, 3.7). But every kernel of one of the two families gives
 * the same: within a block of k an element is one chain of these instructions over ascending steps
 * of the block. Rows are finished by the f32 family. Exports tn_gemm_tile_bf16_<variant>.
 */
#include "vec_int.h"
#ifdef TN_WITH_AMX
#include "vec_tiles.h"
#endif

#include "gemm_kernels.h"

#ifndef TN_ISA_AVX512
#error "there is no other level that has the instructions"
#endif

#define VEC vf
#define LANES VF
#define REAL float
#define V(op) vf_##op
#define NV 2
#define NR (NV * LANES)
#define GROUP 2
#define JOIN(unit) vi_join((unit)[0], (unit)[1])

#ifdef TN_WITH_AMX

#define MR 32
#define A_GROUP 32
#define UKR_NAME ukr
#define TILE_PRODUCT tn_tile_pairs_bf16
#include "gemm_ukr_amx.inc"

#else

TN_INLINE vf dot_pairs(vf a, vf b, vf c) {
#ifdef TN_EMULATE_AVX512
    return tn_emu_dpbf16_ps(c, a, b);
#else
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#endif
}

#define vf_fma dot_pairs
#define MR 12
#define A_GROUP GROUP
#include "gemm_ukr_rows.inc"

#endif

static void add_rows(void *z_, const void *x_, int64_t n) {
    float *z = z_;
    const float *x = x_;
    int64_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(z + i, vf_add(vf_load(z + i), vf_load(x + i)));
    for (; i < n; i++)
        z[i] += x[i];
}

/* to[i] = sums[i] * (a * b[i]), as the integers' (gemm_int_rows.inc). */
static void scaled_rows(const void *sums_, double a, const float *b, int64_t n, float *to) {
    const float *sums = sums_;
    const vd av = vd_set1(a);
    int64_t i = 0;
    for (; i + VD <= n; i += VD)
        vd_store_f32(to + i,
                     vd_mul(vd_load_f32(sums + i), b ? vd_mul(av, vd_load_f32(b + i)) : av));
    for (; i < n; i++)
        to[i] = (float)((double)sums[i] * (b ? a * (double)b[i] : a));
}

/* VF halves of floats to the lower halves of as many lanes; their upper halves hold anything. */
TN_INLINE vi wide_bf16(const uint16_t *p) {
    return _mm512_cvtepu16_epi32(tn_bytes32(p));
}
TN_INLINE vi wide_bf16_n(const uint16_t *p, int n) {
    uint16_t t[VF] = {0};
    for (int i = 0; i < n; i++)
        t[i] = p[i];
    return wide_bf16(t);
}

/* The 8-bit floats as bf16: f32 without the lower half, where all bits are zero. */
#define NARROW(tag)                                                                                \
    TN_INLINE vi wide_##tag(const uint8_t *p) {                                                    \
        return vi_shift_right(_mm512_castps_si512(vf_load_##tag(p)), 16);                          \
    }                                                                                              \
    TN_INLINE vi wide_##tag##_n(const uint8_t *p, int n) {                                         \
        return vi_shift_right(_mm512_castps_si512(vf_load_##tag##_n(p, n)), 16);                   \
    }                                                                                              \
    TN_INLINE vi slots_##tag(const uint8_t *p) {                                                   \
        const __m256i half[2] = {_mm512_cvtepi32_epi16(wide_##tag(p)),                             \
                                 _mm512_cvtepi32_epi16(wide_##tag(p + VF))};                       \
        return vi_load(half);                                                                      \
    }
NARROW(f8e4m3)
NARROW(f8e5m2)

#define FILL A_GROUP
#define NOTHING 0

#define SOURCE uint16_t
#define TAG bf16
#define UNIT(x) (x)
#define SLOTS vi_load
#include "gemm_source_bf16.inc"

#define SOURCE uint8_t
#define TAG f8e4m3
#define UNIT(x) (uint16_t)(tn_bits_f32(tn_f8e4m3_to_f32(x)) >> 16)
#define SLOTS slots_f8e4m3
#include "gemm_source_bf16.inc"

#define SOURCE uint8_t
#define TAG f8e5m2
#define UNIT(x) (uint16_t)(tn_bits_f32(tn_f8e5m2_to_f32(x)) >> 16)
#define SLOTS slots_f8e5m2
#include "gemm_source_bf16.inc"

#define TABLE_EACH(what)                                                                           \
    { [TENON_BF16] = what##bf16, [TENON_F8_E4M3] = what##f8e4m3, [TENON_F8_E5M2] = what##f8e5m2 }

const tn_gemm_tile TN_ISA(tn_gemm_tile_bf16) = {
#ifdef TN_WITH_AMX
    .name = "gemm_bf16_32x32_avx512_amx",
    .needs = TN_CPU_HAS_AMX_TILE | TN_CPU_HAS_AMX_BF16,
    .rate = 512, /* 16 x 16 x 32 in 16 cycles */
    .begin = tn_tiles_begin,
    .end = tn_tiles_end,
#else
    .name = "gemm_bf16_12x32_avx512_bf16",
    .needs = TN_CPU_HAS_AVX512_BF16,
#endif
    .type = TENON_F32,
    .a_panel = TENON_BF16,
    .b_panel = TENON_BF16,
    .group = GROUP,
    .a_group = A_GROUP,
    .level = TN_CPU_AVX512,
    .mr = MR,
    .nr = NR,
    .ukr = ukr,
    .pack_a = TABLE_EACH(pack_a_),
    .pack_b = TABLE_EACH(pack_b_),
    .gemv = TABLE_EACH(gemv_),
    .load = TABLE_EACH(row_load_),
    .ops = {.add = add_rows},
    .scaled = scaled_rows,
};
