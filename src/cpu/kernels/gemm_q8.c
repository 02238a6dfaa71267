/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_q8.c: products of block types with A rounded to bytes (TENON_COMPUTE_FAST): a tile family
 * for each type.
 *
 * A row of A is rounded 32 steps of k at a time: d = max |a| / 127, q = a / d to nearest even.
 * A unit of 32 steps then is an exact integer D = sum q b, b the integers of the block, and
 *
 *   z = D s          or, where each half has a scale,   z = fma(D1, s1, D0 s0)
 *   z = fma(sum q, m, z)                                where blocks have a minimum
 *   c = fma(d, z, c)
 *
 * for units in ascending order from zero (docs/NUMERICS.md, 3.8), at every level and whatever the
 * instructions. Panels of B hold b plus a bias, so that it is unsigned; the bias times the sum of
 * q, which A's panel has, is taken away from D.
 *
 * Without an instruction for sums of four products, vpmaddubsw adds two in s16, and as many of
 * those are added before they are widened as can't overflow: q is at most 127, so 8 for b up to
 * 15, 4 up to 31, 2 up to 63; bytes are split into two nibbles. A few rows meet B without panels
 * (gemm_q8_rows.inc).
 */
#include "vec_quads.h"

#include "gemm_kernels.h"
#include "ops/blocks.h"

#include <tenon/gemm.h>

#if defined(TN_ISA_SCALAR)
#define MR 4
#define NV 4
#else
#define MR 6
#define NV 2
#endif
#define NR (NV * VF)

#if defined(TN_ISA_SCALAR) || defined(TN_WITH_VNNI)
#define FOURS /* vi_quads is one instruction, or nothing better is known */
#endif

/* ---- panels of B: for each 32 steps and vector of columns 8 vectors of bytes, two of scales */

#define B_VECTORS 10
#define B_UNIT (B_VECTORS * VF) /* in numbers of 4 bytes */

static const int8_t values_fp4[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0},
                    values_iq4_nl[16] = {1,           24,          45,          63,
                                         79,          93,          106,         118,
                                         (int8_t)129, (int8_t)141, (int8_t)153, (int8_t)166,
                                         (int8_t)181, (int8_t)197, (int8_t)217, (int8_t)241};

TN_INLINE void put_unit(const tn_gemm_unblock_args *t, int64_t u, const vi *q, vf s) {
    int32_t *const to = (int32_t *)t->dst + u * NV * B_UNIT;
    TN_UNROLL
    for (int g = 0; g < 8; g++)
        vi_store(to + g * VF, q[g]);
    vf_store((float *)(void *)(to + 8 * VF), s);
}
TN_INLINE void put_second(const tn_gemm_unblock_args *t, int64_t u, vf second) {
    vf_store((float *)(void *)((int32_t *)t->dst + u * NV * B_UNIT + 9 * VF), second);
}
#define UNIT_PLAIN(u, q, s) put_unit(t, u, q, s);
#define UNIT_MINIMUM(u, q, s, m)                                                                   \
    {                                                                                              \
        put_unit(t, u, q, s);                                                                      \
        put_second(t, u, m);                                                                       \
    }
#define UNIT_HALVES UNIT_MINIMUM
#define UNIT_PRODUCT(u, q, s, s2) put_unit(t, u, q, vf_mul(s, s2));
#define FROM_UNSIGNED(v, bias) (v)
#define FROM_SIGNED(v) vi_xor(v, VI_BYTES(128))
#define VALUES_IQ4_NL values_iq4_nl
#define VALUES_FP4 values_fp4
#define DECODE(type) static void unblock_##type(const tn_gemm_unblock_args *t)
#include "block_decode.inc"

/*
 * ---- panels of A: for each 32 steps, of as many rows as the tile that it is for, 8 fours of
 * bytes, d, the two parts of the bias, sum q. No more rows: those of a single one stay in L1 for
 * any k.
 */

#define A_D(rows) (8 * (rows))
#define A_BIAS(rows) (9 * (rows))
#define A_BIAS1(rows) (10 * (rows))
#define A_SUM(rows) (11 * (rows))
#define A_UNIT(rows) (12 * (rows))

/* 32 steps of one row. A block with NaN or infinity has d = NaN, one whose d would be subnormal
 * counts as zeros. */
static void round_unit(const float *x, int rows, int32_t *to, int bias, bool halves) {
    vf most = vf_zero(), any = vf_zero();
    float lane[VF], lane_any[VF], m = 0, bad = 0, rounded[32];
    for (int i = 0; i < 32; i += VF) {
        const vf v = vf_load(x + i);
        most = vf_max(most, vf_abs(v));
        any = vf_fma(v, vf_zero(), any); /* NaN for both */
    }
    vf_store(lane, most);
    vf_store(lane_any, any);
    for (int i = 0; i < VF; i++) {
        m = lane[i] > m ? lane[i] : m;
        bad += lane_any[i];
    }
    float d = m / 127;
    const bool zero = bad != bad || d < 0x1p-126f;
    if (zero)
        d = bad; /* NaN or 0 */
    /* x / d rounded, in the low bits of 1.5 * 2^23 and it. */
    const vf by = vf_set1(zero ? 1 : d), magic = vf_set1(0x1.8p23f);
    for (int i = 0; i < 32; i += VF)
        vf_store(rounded + i, zero ? magic : vf_add(vf_div(vf_load(x + i), by), magic));
    int32_t sum[2] = {0, 0};
    for (int g = 0; g < 8; g++) {
        uint32_t four = 0;
        for (int t = 0; t < 4; t++) {
            const uint32_t bits = tn_bits_f32(rounded[4 * g + t]) & 0xff;
            four |= bits << 8 * t;
            sum[g / 4] += (int8_t)bits;
        }
        to[g * rows] = (int32_t)four;
    }
    const float total = (float)(sum[0] + sum[1]);
    memcpy(to + A_D(rows), &d, sizeof d);
    to[A_BIAS(rows)] = -bias * (halves ? sum[0] : sum[0] + sum[1]);
    to[A_BIAS1(rows)] = halves ? -bias * sum[1] : 0;
    memcpy(to + A_SUM(rows), &total, sizeof total);
}

#define ROUND_ROWS(tag, type, load, one)                                                           \
    static void round_rows_##tag(const tn_gemm_pack_args *t, int bias, bool halves) {              \
        int32_t *dst = t->dst;                                                                     \
        for (int64_t p = 0; p < t->kc; p += 32, dst += A_UNIT(t->valid)) {                         \
            for (int i = 0; i < t->valid; i++) {                                                   \
                const type *src = (const type *)t->src + i * t->along + p * t->across;             \
                float x[32];                                                                       \
                for (int s = 0; s < 32 && t->across != 1; s++)                                     \
                    x[s] = one(src[s * t->across]);                                                \
                for (int s = 0; s < 32 && t->across == 1; s += VF)                                 \
                    vf_store(x + s, load(src + s));                                                \
                round_unit(x, t->valid, dst + i, bias, halves);                                    \
            }                                                                                      \
        }                                                                                          \
    }
ROUND_ROWS(f32, float, vf_load, )
ROUND_ROWS(f16, uint16_t, vf_load_f16, tn_f16_to_f32)
ROUND_ROWS(bf16, uint16_t, vf_load_bf16, tn_bf16_to_f32)

/* ---- the tile */

enum { PLAIN, MINIMUM, HALVES };
#define PRODUCT PLAIN /* its factors are multiplied beforehand */

#ifdef FOURS

/* Columns' vectors that are worked on together. */
#define TOGETHER(bits) NV

/* d[i][j] = sum over the fours from ... end of a[i] b[j], plus start[i]. */
TN_INLINE void dots(const int rows, const int vectors, const int bits, const int from,
                    const int end, const int32_t *a, const int32_t *b, const int32_t *start,
                    vi d[MR][NV]) {
    (void)bits;
    TN_UNROLL
    for (int i = 0; i < rows; i++) {
        const vi x = vi_set1(start[i]);
        TN_UNROLL
        for (int j = 0; j < vectors; j++)
            d[i][j] = x;
    }
    TN_UNROLL
    for (int g = from; g < end; g++) {
        vi bv[NV];
        TN_UNROLL
        for (int j = 0; j < vectors; j++)
            bv[j] = vi_load(b + j * B_UNIT + g * VF);
        TN_UNROLL
        for (int i = 0; i < rows; i++) {
            const vi av = vi_set1(a[g * rows + i]);
            TN_UNROLL
            for (int j = 0; j < vectors; j++)
                d[i][j] = vi_quads(bv[j], av, d[i][j]);
        }
    }
}

#else

#define TOGETHER(bits) ((bits) == 4 ? NV : 1)

/* Hides a sum from the compiler, or it would add the products as a tree, for which there are not
 * registers enough. */
#if defined(__GNUC__) && !defined(TN_EMULATE_AVX512)
#define IN_TURN(v) __asm__("" : "+v"(v))
#else
#define IN_TURN(v) ((void)0)
#endif

/* As many fours as s16 has room for, from g on: sum[i][j]; of nibble `part` of bytes. */
TN_INLINE void few_dots(const int rows, const int vectors, const int from, const int end,
                        const int32_t *a, const int32_t *b, vi sum[MR][NV]) {
    TN_UNROLL
    for (int g = from; g < end; g++) {
        vi bv[NV];
        TN_UNROLL
        for (int j = 0; j < vectors; j++)
            bv[j] = vi_load(b + j * B_UNIT + g * VF);
        TN_UNROLL
        for (int i = 0; i < rows; i++) {
            const vi av = vi_set1(a[g * rows + i]);
            TN_UNROLL
            for (int j = 0; j < vectors; j++) {
                const vi two = vi_two_quads(bv[j], av);
                sum[i][j] = g > from ? vi_add16(sum[i][j], two) : two;
                IN_TURN(sum[i][j]);
            }
        }
    }
}

/* The same for bytes, in nibbles. */
TN_INLINE void byte_dots(const int rows, const int from, const int end, const int32_t *a,
                         const int32_t *b, vi low[MR][NV], vi high[MR][NV]) {
    TN_UNROLL
    for (int g = from; g < end; g++) {
        const vi v = vi_load(b + g * VF), bl = vi_and(v, VI_BYTES(15)),
                 bh = vi_and(vi_right(v, 4), VI_BYTES(15));
        TN_UNROLL
        for (int i = 0; i < rows; i++) {
            const vi av = vi_set1(a[g * rows + i]);
            const vi l = vi_two_quads(bl, av), h = vi_two_quads(bh, av);
            low[i][0] = g > from ? vi_add16(low[i][0], l) : l;
            high[i][0] = g > from ? vi_add16(high[i][0], h) : h;
            IN_TURN(low[i][0]);
            IN_TURN(high[i][0]);
        }
    }
}

TN_INLINE void dots(const int rows, const int vectors, const int bits, const int from,
                    const int end, const int32_t *a, const int32_t *b, const int32_t *start,
                    vi d[MR][NV]) {
    const int step = bits == 4 || bits == 8 ? 8 : bits == 5 ? 4 : 2;
    const vi ones = vi_set1(0x00010001);
    TN_UNROLL
    for (int g = from; g < end; g += step) {
        vi sum[MR][NV], high[MR][NV];
        if (bits == 8)
            byte_dots(rows, g, g + step < end ? g + step : end, a, b, sum, high);
        else
            few_dots(rows, vectors, g, g + step < end ? g + step : end, a, b, sum);
        TN_UNROLL
        for (int i = 0; i < rows; i++) {
            TN_UNROLL
            for (int j = 0; j < vectors; j++) {
                const vi so_far = g > from ? d[i][j] : vi_set1(start[i]);
                d[i][j] = vi_pairs(sum[i][j], ones, so_far);
                if (bits == 8)
                    d[i][j] = vi_pairs(high[i][j], vi_set1(0x00100010), d[i][j]);
            }
        }
    }
}

#endif

/* c of `vectors` vectors of columns, all steps. */
TN_INLINE void tile(const int rows, const int vectors, const int bits, const int unit,
                    const tn_gemm_ukr_args *t, const int32_t *b, float *acc) {
    const int32_t *a = t->a;
    for (int64_t p = 0; p < t->kc; p += 32, a += A_UNIT(rows), b += NV * B_UNIT) {
        vi d[MR][NV], d1[MR][NV];
        vf z[MR][NV];
        dots(rows, vectors, bits, 0, unit == HALVES ? 4 : 8, a, b, a + A_BIAS(rows), d);
        TN_UNROLL
        for (int j = 0; j < vectors; j++) {
            const vf s = vf_load((const float *)(const void *)(b + j * B_UNIT + 8 * VF));
            TN_UNROLL
            for (int i = 0; i < rows; i++)
                z[i][j] = vf_mul(vi_to_f32(d[i][j]), s);
        }
        if (unit == HALVES)
            dots(rows, vectors, bits, 4, 8, a, b, a + A_BIAS1(rows), d1);
        TN_UNROLL
        for (int j = 0; j < vectors; j++) {
            const vf second = unit == PLAIN
                                  ? vf_zero()
                                  : vf_load((const float *)(const void *)(b + j * B_UNIT + 9 * VF));
            TN_UNROLL
            for (int i = 0; i < rows; i++) {
                float *const at = acc + i * NR + j * VF;
                const vf by = vi_as_f32(vi_set1(a[A_D(rows) + i]));
                if (unit == HALVES)
                    z[i][j] = vf_fma(vi_to_f32(d1[i][j]), second, z[i][j]);
                if (unit == MINIMUM)
                    z[i][j] = vf_fma(vi_as_f32(vi_set1(a[A_SUM(rows) + i])), second, z[i][j]);
                vf_store(at, vf_fma(by, z[i][j], vf_load(at)));
            }
        }
    }
}

TN_INLINE void ukr(const int rows, const int bits, const int unit, const tn_gemm_ukr_args *t) {
    _Alignas(64) float acc[MR * NR];
    float *const c = t->c;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < NR; j += VF) {
            const int n = t->cols - j < 0 ? 0 : t->cols - j < VF ? t->cols - j : VF;
            vf_store(acc + i * NR + j, t->meet == TN_GEMM_CHAIN && n > 0
                                           ? vf_load_n(c + i * t->ldc + j, n)
                                           : vf_zero());
        }
    for (int j = 0; j < NV; j += TOGETHER(bits))
        tile(rows, TOGETHER(bits), bits, unit, t, (const int32_t *)t->b + j * B_UNIT, acc + j * VF);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < t->cols; j += VF) {
            const int n = t->cols - j < VF ? t->cols - j : VF;
            float *const at = c + i * t->ldc + j;
            vf v = vf_load(acc + i * NR + j);
            if (t->meet == TN_GEMM_ADD)
                v = vf_add(n == VF ? vf_load(at) : vf_load_n(at, n), v);
            n == VF ? vf_store(at, v) : vf_store_n(at, v, n);
        }
}

/* For each number of rows, and the choice among them. */
#define UKR_ROWS(rows, bits, unit)                                                                 \
    static void ukr_##bits##_##unit##_##rows(const tn_gemm_ukr_args *t) {                          \
        ukr(rows, bits, unit, t);                                                                  \
    }
#if MR > 4
#define UKR_MORE(bits, unit)                                                                       \
    UKR_ROWS(5, bits, unit)                                                                        \
    UKR_ROWS(6, bits, unit)
#define UKR_MORE_NAMES(bits, unit) ukr_##bits##_##unit##_5, ukr_##bits##_##unit##_6
#else
#define UKR_MORE(bits, unit)
#define UKR_MORE_NAMES(bits, unit)
#endif
#define UKR(bits, unit)                                                                            \
    UKR_ROWS(1, bits, unit)                                                                        \
    UKR_ROWS(2, bits, unit)                                                                        \
    UKR_ROWS(3, bits, unit)                                                                        \
    UKR_ROWS(4, bits, unit)                                                                        \
    UKR_MORE(bits, unit)                                                                           \
    static void ukr_##bits##_##unit(const tn_gemm_ukr_args *t) {                                   \
        static tn_gemm_ukr_fn *const by_rows[MR] = {                                               \
            ukr_##bits##_##unit##_1, ukr_##bits##_##unit##_2, ukr_##bits##_##unit##_3,             \
            ukr_##bits##_##unit##_4, UKR_MORE_NAMES(bits, unit)};                                  \
        by_rows[t->rows - 1](t);                                                                   \
    }

#ifdef FOURS
UKR(8, PLAIN)
UKR(8, MINIMUM)
UKR(8, HALVES)
#define UKR_NAME(bits, unit) ukr_8_##unit
#else
UKR(4, PLAIN)
UKR(5, PLAIN)
UKR(8, PLAIN)
UKR(4, MINIMUM)
UKR(5, MINIMUM)
UKR(5, HALVES)
UKR(6, HALVES)
#define UKR_NAME(bits, unit) ukr_##bits##_##unit
#endif

#include "gemm_q8_rows.inc"

static void row_add(void *z_, const void *x_, int64_t n) {
    float *z = z_;
    const float *x = x_;
    int64_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(z + i, vf_add(vf_load(z + i), vf_load(x + i)));
    for (; i < n; i++)
        z[i] += x[i];
}

/* ---- the families */

#define TN_BLOCK_TYPE(type, lead, words, trail, bits, bias, unit)                                  \
    static void pack_##type##_f32(const tn_gemm_pack_args *t) {                                    \
        round_rows_f32(t, bias, unit == HALVES);                                                   \
    }                                                                                              \
    static void pack_##type##_f16(const tn_gemm_pack_args *t) {                                    \
        round_rows_f16(t, bias, unit == HALVES);                                                   \
    }                                                                                              \
    static void pack_##type##_bf16(const tn_gemm_pack_args *t) {                                   \
        round_rows_bf16(t, bias, unit == HALVES);                                                  \
    }
#include "block_types.def"
#undef TN_BLOCK_TYPE

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#if defined(TN_ISA_AVX512)
#define LEVEL TN_CPU_AVX512
#define SHAPE "6x32"
#define NEEDS TN_CPU_HAS_AVX512_VNNI
#elif defined(TN_ISA_AVX2)
#define LEVEL TN_CPU_AVX2
#define SHAPE "6x16"
#define NEEDS TN_CPU_HAS_AVX_VNNI
#else
#define LEVEL TN_CPU_SCALAR
#define SHAPE "4x4"
#endif
#ifndef TN_WITH_VNNI
#undef NEEDS
#define NEEDS 0
#endif

/* Multiply-adds a cycle, of two multiplications that a core begins in each: what the additions and
 * the scales leave of them. */
#if defined(TN_ISA_SCALAR)
#define RATE(bits) 1
#elif defined(FOURS)
#define RATE(bits) (5 * VF)
#else
#define RATE(bits) ((bits) == 4 ? 5 * VF : (bits) == 8 ? 3 * VF : 4 * VF)
#endif

#define TN_BLOCK_TYPE(tag, lead, words, trail, bits, bias, unit)                                   \
    [TN_BLOCK_##tag] = {                                                                           \
        .name = "gemm_q8_" #tag "_" SHAPE TEXT(TN_ISA()),                                          \
        .type = TENON_F32,                                                                         \
        .a_panel = TN_Q8,                                                                          \
        .b_panel = (tenon_dtype)(TENON_Q8_0 + TN_BLOCK_##tag),                                     \
        .group = 32,                                                                               \
        .a_group = 32,                                                                             \
        .a_unit = A_UNIT(1) * 4,                                                                   \
        .b_unit = B_VECTORS * 4,                                                                   \
        .rate = RATE(bits),                                                                        \
        .level = LEVEL,                                                                            \
        .needs = NEEDS,                                                                            \
        .mr = MR,                                                                                  \
        .nr = NR,                                                                                  \
        .ukr = UKR_NAME(bits, unit),                                                               \
        .pack_a = {[TENON_F32] = pack_##tag##_f32,                                                 \
                   [TENON_F16] = pack_##tag##_f16,                                                 \
                   [TENON_BF16] = pack_##tag##_bf16},                                              \
        .unblock = {[TN_BLOCK_##tag] = unblock_##tag},                                             \
        .few = {[TN_BLOCK_##tag] = few_##tag},                                                     \
        .few_cols = NR,                                                                            \
        .lanes = VF,                                                                               \
        .lane_bytes = B_UNIT * 4,                                                                  \
        .ops = {.add = row_add},                                                                   \
    },
const tn_gemm_tile TN_ISA(tn_gemm_bytes)[TN_BLOCKS] = {
#include "block_types.def"
};
