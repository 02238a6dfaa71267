/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_s8.c: exact products of bytes by vpdpbusd, four of u8 and s8 along k at a time, summed in
 * s32.
 *
 * The instruction does not saturate. It wants A unsigned: s8 is packed with 128 added, and a zero
 * point is left in, so that the sums are by `A's shift times the sum of B's column` too large. Both
 * stand in the tails of the panels, and the microkernel subtracts their product at the end. B is
 * s8, without zero points; everything else is gemm_s16.c's. Exports tn_gemm_tile_s8_<variant>.
 */
#include "vec_int.h"

#include "gemm_kernels.h"

#define VEC vi
#define LANES VF
#define REAL int32_t
#define V(op) vi_##op
#define vi_fma vi_quads

#if defined(TN_ISA_AVX512)
#define MR 12
#else
#define MR 6
#endif
#define NV 2
#define NR (NV * LANES)
#define GROUP 4
#define JOIN(unit) join((unit)[0], (unit)[1], (unit)[2], (unit)[3])

/* Four vectors of bytes, one in each lane, to slots. */
TN_INLINE vi join(vi a, vi b, vi c, vi d) {
    return vi_or(vi_or(a, vi_shift_left(b, 8)), vi_or(vi_shift_left(c, 16), vi_shift_left(d, 24)));
}

#define UKR_DISPATCH ukr_sums
#include "gemm_ukr_rows.inc"

/* c -= A's shift * B's column sums, which lie behind the steps of the panels. */
static void settle(const tn_gemm_ukr_args *t) {
    const int64_t steps = (t->kc + GROUP - 1) / GROUP;
    const int32_t *shift = (const int32_t *)t->a + steps * MR;
    const int32_t *sums = (const int32_t *)t->b + steps * t->ldb;
    for (int i = 0; i < t->rows; i++) {
        int32_t *c = (int32_t *)t->c + i * t->ldc;
        const vi by = vi_set1(shift[i]);
        if (shift[i] == 0)
            continue;
        for (int j = 0; j < t->cols; j += VF) {
            const int n = t->cols - j < VF ? t->cols - j : VF;
            vi_store_n(c + j, vi_sub(vi_load_n(c + j, n), vi_mul(by, vi_load(sums + j))), n);
        }
    }
}

static void ukr(const tn_gemm_ukr_args *t) {
    ukr_sums(t);
    if (t->settle)
        settle(t);
}

#include "gemm_int_rows.inc"

/* A's zero points join its shifts: of the whole of k, since a tail has room for one. */
static void shift(void *panel, int64_t width, int64_t first, int64_t end, const int32_t *zero) {
    int32_t *tail = (int32_t *)panel + (end + GROUP - 1) / GROUP * width;
    (void)first;
    for (int64_t i = 0; i < width; i++)
        tail[i] += zero[i];
}

static void set_tail(const tn_gemm_pack_args *t, int64_t width, int32_t value) {
    int32_t *tail = (int32_t *)t->dst + (t->kc + GROUP - 1) / GROUP * width;
    for (int64_t i = 0; i < width; i++)
        tail[i] = value;
}

#define SOURCE uint8_t
#define UNIT(x) (x)
#define SLOTS vi_load
#define WIDE vi_wide_u8
#define WIDE_N vi_wide_u8_n
#define WIDTH MR
#define PACK_NAME bytes_of_a
#include "gemm_pack_slots.inc"
#define WIDTH NR
#define PACK_NAME bytes_of_b
#include "gemm_pack_slots.inc"

static void pack_a_u8(const tn_gemm_pack_args *t) {
    bytes_of_a(t);
    set_tail(t, MR, 0);
}

/* Adding 128 turns the highest bit over. */
static void pack_a_s8(const tn_gemm_pack_args *t) {
    const int64_t slots = (t->kc + GROUP - 1) / GROUP * MR;
    int32_t *at = t->dst;
    bytes_of_a(t);
    for (int64_t i = 0; i < slots; i += VF) /* into the slack at the end, which is set now */
        vi_store(at + i, vi_xor(vi_load(at + i), vi_set1((int32_t)0x80808080)));
    set_tail(t, MR, 128);
}

static void pack_b_s8(const tn_gemm_pack_args *t) {
    const int64_t steps = (t->kc + GROUP - 1) / GROUP;
    int32_t *panel = t->dst;
    vi sum[NV];
    bytes_of_b(t);
    TN_UNROLL
    for (int j = 0; j < NV; j++)
        sum[j] = vi_zero();
    for (int64_t s = 0; s < steps; s++) {
        TN_UNROLL
        for (int j = 0; j < NV; j++)
            sum[j] = vi_quads(vi_set1(0x01010101), vi_load(panel + s * NR + j * VF), sum[j]);
    }
    TN_UNROLL
    for (int j = 0; j < NV; j++)
        vi_store(panel + steps * NR + j * VF, sum[j]);
}

#define TILE_FAMILY tn_gemm_tile_s8
#define TILE_TAG "s8"
#define TILE_A TENON_U8
#define TILE_B TENON_S8
#define TILE_TAIL
#define TILE_PACK_A                                                                                \
    { [TENON_S8] = pack_a_s8, [TENON_U8] = pack_a_u8 }
#define TILE_PACK_B                                                                                \
    { [TENON_S8] = pack_b_s8 }
#include "gemm_int_table.inc"
