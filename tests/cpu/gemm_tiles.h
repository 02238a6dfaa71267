/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_tiles.h: the rows of gemm_tiles.def as a list for tests, and elements of every type by
 * independent formulas.
 */
#ifndef TEST_GEMM_TILES_H
#define TEST_GEMM_TILES_H

#include "cpu/kernels/gemm_kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const tn_gemm_tile *const all_tiles[] = {
#define TN_GEMM_TILE(tag, mr, nr, level, a_panel, b_panel, group, type)                            \
    &tn_gemm_tile_##tag##_##level,
#include "cpu/kernels/gemm_tiles.def"
#undef TN_GEMM_TILE
};
/* What the rows say of them, in the same order. */
static const tn_gemm_tile all_rows[] = {
#define TN_GEMM_TILE(tag, rows, columns, of_level, of_a, of_b, steps, sums)                        \
    {.mr = rows, .nr = columns, .a_panel = of_a, .b_panel = of_b, .group = steps, .type = sums},
#include "cpu/kernels/gemm_tiles.def"
#undef TN_GEMM_TILE
};
enum { TILES = sizeof all_tiles / sizeof *all_tiles };

static inline bool tile_runs(const tn_gemm_tile *tile) {
    const tn_cpu_isa isa = tn_cpu_isa_choose(NULL, NULL);
    if (tile->level > isa.level || (tile->needs & ~isa.features) != 0)
        return false;
#if !defined(TN_EMULATE_AVX512) && defined(SYS_arch_prctl)
    if (tile->needs & TN_CPU_HAS_AMX) /* as tn_os_allow_tiles does */
        return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#endif
    return true;
}

static inline size_t type_bytes(tenon_dtype dtype) {
    static const size_t bytes[] = {0, 8, 4, 2, 2, 1, 1, 1, 1, 4};
    return bytes[dtype];
}

/* A binary float of `e` exponent bits and `m` fraction bits; nan_only: no infinities, NaN is all
 * ones (f8_e4m3). */
static inline double decode_float(uint32_t bits, int e, int m, bool nan_only) {
    const int bias = (1 << (e - 1)) - 1, exponent = (int)(bits >> m & ((1u << e) - 1));
    const uint32_t fraction = bits & ((1u << m) - 1);
    const double sign = bits >> (e + m) & 1 ? -1 : 1;
    if (nan_only && exponent == (1 << e) - 1 && fraction == (1u << m) - 1)
        return NAN;
    if (!nan_only && exponent == (1 << e) - 1)
        return fraction ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp((double)fraction, 1 - bias - m);
    return sign * ldexp((double)(fraction | 1u << m), exponent - bias - m);
}

static inline double element_at(const void *base, tenon_dtype dtype, int64_t i) {
    switch (dtype) {
    case TENON_F64:
        return ((const double *)base)[i];
    case TENON_F32:
        return (double)((const float *)base)[i];
    case TENON_F16:
        return decode_float(((const uint16_t *)base)[i], 5, 10, false);
    case TENON_BF16:
        return decode_float(((const uint16_t *)base)[i], 8, 7, false);
    case TENON_F8_E4M3:
        return decode_float(((const uint8_t *)base)[i], 4, 3, true);
    case TENON_F8_E5M2:
        return decode_float(((const uint8_t *)base)[i], 5, 2, false);
    case TENON_S8:
        return ((const int8_t *)base)[i];
    case TENON_U8:
        return ((const uint8_t *)base)[i];
    case TENON_S32:
        return ((const int32_t *)base)[i];
    default:
        return NAN;
    }
}

/* Puts 1 where random bytes say NaN or infinity: it would hide everything after it. */
static inline void keep_finite(uint8_t *bytes, tenon_dtype dtype, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (dtype == TENON_F8_E4M3 && (bytes[i] & 0x7f) == 0x7f)
            bytes[i] = 0x38;
        if (dtype == TENON_F8_E5M2 && (bytes[i] & 0x7f) >= 0x78)
            bytes[i] = 0x3c;
    }
}

/* One step of a chain in the compute type. */
static inline double chain_step(const tn_gemm_tile *tile, double a, double b, double sum) {
    return tile->type == TENON_F32 ? (double)fmaf((float)a, (float)b, (float)sum) : fma(a, b, sum);
}

static inline double add_in(const tn_gemm_tile *tile, double a, double b) {
    return tile->type == TENON_F32 ? (double)((float)a + (float)b) : a + b;
}

#endif
