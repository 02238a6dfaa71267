/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_s8.c: exact products of bytes, signed or not, with or without zero points, by instructions
 * that multiply u8 by s8, four along k at a time, and sum in s32: vpdpbusd, or AMX's tdpbusd.
 *
 * Neither saturates. A's panels are u8 and B's s8: bytes of the other kind have their highest bit
 * turned over, which adds 128 to A's and takes 128 from B's, and zero points are left in. What has
 * to be taken from a lane's bytes stands in the panel's tail (the zero), beside the lane's sum; the
 * microkernel makes up for it at the end:
 *
 *   sum (a - x)(b - y) = sum a b - x sum b - y (sum a - kc x)
 *
 * modulo 2^32, which is exact since the drivers bound k. Zeros that change along k are for
 * gemm_s16.c. Exports tn_gemm_tile_s8_<variant>.
 */
#include "vec_int.h"
#ifdef TN_WITH_AMX
#include "vec_tiles.h"
#endif

#include "gemm_kernels.h"

#define VEC vi
#define LANES VF
#define REAL int32_t
#define V(op) vi_##op
#define vi_fma vi_quads

#if defined(TN_WITH_AMX)
#define MR 32
#define A_GROUP 64
#elif defined(TN_ISA_AVX512)
#define MR 12
#else
#define MR 6
#endif
#define NV 2
#define NR (NV * LANES)
#define GROUP 4
#ifndef A_GROUP
#define A_GROUP GROUP
#endif
#define JOIN(unit) join((unit)[0], (unit)[1], (unit)[2], (unit)[3])

/* Four vectors of bytes, one in each lane, to slots. */
TN_INLINE vi join(vi a, vi b, vi c, vi d) {
    return vi_or(vi_or(a, vi_shift_left(b, 8)), vi_or(vi_shift_left(c, 16), vi_shift_left(d, 24)));
}

#ifdef TN_WITH_AMX
#define UKR_NAME ukr_sums
#define TILE_PRODUCT tn_tile_quads
#define TILE_ADDS
#include "gemm_ukr_amx.inc"
#else
#define UKR_DISPATCH ukr_sums
#include "gemm_ukr_rows.inc"
#endif

/* Lanes' slots in a panel of kc steps: the tail lies behind them. */
static int64_t slots_of(int64_t kc) {
    return (kc + A_GROUP - 1) / A_GROUP * (A_GROUP / GROUP);
}

/* What the bytes' zeros have put into the sums is taken away. */
static void settle(const tn_gemm_ukr_args *t) {
    const int32_t *a_zero = (const int32_t *)t->a + slots_of(t->kc) * MR, *a_sum = a_zero + MR;
    const int32_t *b_zero = t->b_tail, *b_sum = b_zero + NR;
    uint32_t any = 0;
    for (int j = 0; j < t->cols; j++)
        any |= (uint32_t)b_zero[j];
    for (int i = 0; i < t->rows; i++) {
        int32_t *c = (int32_t *)t->c + i * t->ldc;
        const vi zero = vi_set1(t->settle ? a_zero[i] : 0),
                 rest =
                     vi_set1((int32_t)((uint32_t)a_sum[i] - (uint32_t)t->kc * (uint32_t)a_zero[i]));
        if (!any && (a_zero[i] == 0 || !t->settle))
            continue;
        for (int j = 0; j < t->cols; j += VF) {
            const int n = t->cols - j < VF ? t->cols - j : VF;
            const vi more =
                vi_add(vi_mul(zero, vi_load(b_sum + j)), vi_mul(rest, vi_load(b_zero + j)));
            vi_store_n(c + j, vi_sub(vi_load_n(c + j, n), more), n);
        }
    }
}

static void ukr(const tn_gemm_ukr_args *t) {
    ukr_sums(t);
    settle(t);
}

#include "gemm_int_rows.inc"

/* The caller's zeros join those in the tail: of the whole of k, since a tail has room for one. */
static void shift(void *panel, int64_t width, int64_t first, int64_t end, const int32_t *zero) {
    int32_t *tail = (int32_t *)panel + slots_of(end) * width;
    (void)first;
    for (int64_t i = 0; i < width; i++)
        tail[i] += zero[i];
}

/* Bytes as they are, and with the highest bit turned over. */
#define FLIP(v, by) vi_xor(v, vi_set1((int32_t)(by)))
#define slots_flipped(p) FLIP(vi_load(p), 0x80808080)
#define wide_flipped(p) FLIP(vi_wide_u8(p), 0x80)
#define wide_flipped_n(p, n) FLIP(vi_wide_u8_n(p, n), 0x80)

#define SOURCE uint8_t
#define FILL A_GROUP

#define UNIT(x) (x)
#define NOTHING 0
#define SLOTS vi_load
#define WIDE vi_wide_u8
#define WIDE_N vi_wide_u8_n
#define WIDTH MR
#define PACK_NAME slots_of_a
#include "gemm_pack_slots.inc"
#define WIDTH NR
#define PACK_NAME bytes_of_b
#include "gemm_pack_slots.inc"
#ifdef TN_WITH_AMX
#define SLOT_PACKER slots_of_a
#define PACK_NAME bytes_of_a
#include "gemm_pack_amx.inc"
#undef SLOT_PACKER
#endif
#undef UNIT
#undef NOTHING
#undef SLOTS
#undef WIDE
#undef WIDE_N

#define UNIT(x) ((x) ^ 0x80)
#define NOTHING 0x80
#define SLOTS slots_flipped
#define WIDE wide_flipped
#define WIDE_N wide_flipped_n
#define WIDTH MR
#define PACK_NAME flipped_slots_of_a
#include "gemm_pack_slots.inc"
#define WIDTH NR
#define PACK_NAME flipped_bytes_of_b
#include "gemm_pack_slots.inc"
#ifdef TN_WITH_AMX
#define SLOT_PACKER flipped_slots_of_a
#define PACK_NAME flipped_bytes_of_a
#include "gemm_pack_amx.inc"
#undef SLOT_PACKER
#endif

#ifndef TN_WITH_AMX
#define bytes_of_a slots_of_a
#define flipped_bytes_of_a flipped_slots_of_a
#endif

/* The tails: zeros, and sums of the bytes. */
static void set_zeros(int32_t *zero, int64_t width, int32_t value) {
    for (int64_t i = 0; i < width; i++)
        zero[i] = value;
}

static void end_a(const tn_gemm_pack_args *t, int32_t zero) {
    const vi ones = vi_set1(0x01010101);
    const int32_t *panel = t->dst;
    int32_t *tail = (int32_t *)t->dst + slots_of(t->kc) * MR, sums[MR + VF];
#ifdef TN_WITH_AMX
    for (int i = 0; i < MR; i++) {
        vi sum = vi_zero();
        for (int64_t s = 0; s < slots_of(t->kc); s += VF)
            sum = vi_quads(vi_load(panel + (s / VF * MR + i) * VF), ones, sum);
        sums[i] = vi_sum(sum);
    }
#else
    /* A vector that runs over the panel's width adds up what nobody looks at. */
    for (int i = 0; i < MR; i += VF) {
        vi sum = vi_zero();
        for (int64_t s = 0; s < slots_of(t->kc); s++)
            sum = vi_quads(vi_load(panel + s * MR + i), ones, sum);
        vi_store(sums + i, sum);
    }
#endif
    set_zeros(tail, MR, zero);
    memcpy(tail + MR, sums, MR * sizeof *sums);
}

static void end_b(const tn_gemm_pack_args *t, int32_t zero) {
    const vi ones = vi_set1(0x01010101);
    const int32_t *panel = t->dst;
    int32_t *tail = (int32_t *)t->dst + slots_of(t->kc) * NR;
    vi sum[NV];
    TN_UNROLL
    for (int j = 0; j < NV; j++)
        sum[j] = vi_zero();
    for (int64_t s = 0; s < slots_of(t->kc); s++) {
        TN_UNROLL
        for (int j = 0; j < NV; j++)
            sum[j] = vi_quads(ones, vi_load(panel + s * NR + j * VF), sum[j]);
    }
    set_zeros(tail, NR, zero);
    TN_UNROLL
    for (int j = 0; j < NV; j++)
        vi_store(tail + NR + j * VF, sum[j]);
}

static void pack_a_u8(const tn_gemm_pack_args *t) {
    bytes_of_a(t);
    end_a(t, 0);
}
static void pack_a_s8(const tn_gemm_pack_args *t) {
    flipped_bytes_of_a(t);
    end_a(t, 128);
}
static void pack_b_s8(const tn_gemm_pack_args *t) {
    bytes_of_b(t);
    end_b(t, 0);
}
static void pack_b_u8(const tn_gemm_pack_args *t) {
    flipped_bytes_of_b(t);
    end_b(t, -128);
}

#define TILE_FAMILY tn_gemm_tile_s8
#define TILE_TAG "s8"
#define TILE_A TENON_U8
#define TILE_B TENON_S8
#define TILE_TAIL 2
#define TILE_PACK_A                                                                                \
    { [TENON_S8] = pack_a_s8, [TENON_U8] = pack_a_u8 }
#define TILE_PACK_B                                                                                \
    { [TENON_S8] = pack_b_s8, [TENON_U8] = pack_b_u8 }
#include "gemm_int_table.inc"
