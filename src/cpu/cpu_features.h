/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_features.h: which instruction sets and caches the processor has, and the level of kernels
 * that follows.
 *
 * Called by the backend when it opens and by tests. The environment is read by the core, never
 * here: the caller passes TENON_CPU's value. Detection is pure and idempotent; its result is kept
 * in one word.
 */
#ifndef TN_CPU_FEATURES_H
#define TN_CPU_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The levels that kernels are compiled for, weakest first. A level includes all before it. */
typedef enum tn_cpu_level {
    TN_CPU_SCALAR = 0, /* the compiler's baseline */
    TN_CPU_AVX2 = 1,   /* AVX2, FMA, F16C */
    TN_CPU_AVX512 = 2  /* the above and AVX-512 F, BW, VL, DQ */
} tn_cpu_level;

enum { TN_CPU_LEVELS = 3 };

/** Bits of the feature word. A bit is set only if the operating system saves the registers too. */
enum {
    TN_CPU_HAS_AVX2 = 1 << 0,
    TN_CPU_HAS_FMA = 1 << 1,
    TN_CPU_HAS_F16C = 1 << 2,
    TN_CPU_HAS_AVX512 = 1 << 3, /* F, BW, VL and DQ together */
    TN_CPU_HAS_AVX512_VNNI = 1 << 4,
    TN_CPU_HAS_AVX512_BF16 = 1 << 5,
    TN_CPU_HAS_AVX512_FP16 = 1 << 6,
    TN_CPU_HAS_AVX_VNNI = 1 << 7,
    TN_CPU_HAS_AMX_TILE = 1 << 8,
    TN_CPU_HAS_AMX_INT8 = 1 << 9,
    TN_CPU_HAS_AMX_BF16 = 1 << 10,
    TN_CPU_HAS_AMX = TN_CPU_HAS_AMX_TILE | TN_CPU_HAS_AMX_INT8 | TN_CPU_HAS_AMX_BF16,
    TN_CPU_DETECTED = 1 << 30 /* the word has been filled in */
};

/** What kernels may be used: those of a level, and instructions of the feature word beyond it. */
typedef struct tn_cpu_isa {
    tn_cpu_level level;
    uint32_t features;
} tn_cpu_isa;

typedef struct tn_cpu_caches {
    size_t l1d; /* bytes, of one core */
    size_t l2;  /* bytes, of one core */
    size_t l3;  /* bytes, shared; 0 if there is none */
} tn_cpu_caches;

/** The feature word of this processor; any thread, any time. */
uint32_t tn_cpu_features(void);

/** Data caches of the calling processor; sizes that it does not tell are those of a small core of
 * 2015. */
tn_cpu_caches tn_cpu_cache_sizes(void);

/** The best level that this processor (or, in the emulated test build, the emulator) runs. */
tn_cpu_level tn_cpu_level_best(void);

/**
 * The level to use when `mask` (TENON_CPU's value, or NULL) is "scalar", "avx2" or "avx512".
 * A level that the processor lacks is lowered to its best one, and `*known` (may be NULL) is false
 * for any other word.
 */
tn_cpu_level tn_cpu_level_choose(const char *mask, bool *known);

/**
 * The level that `mask` gives, and of the processor's features those that it leaves: "avx2-plain"
 * and "avx512-plain" none, "avx512" all but AMX, the other words all. "amx" is level avx512 with
 * all of them. In the emulated test build, all that there are kernels for. Whether the system lets
 * the process use AMX is asked when a device is opened (tn_os_allow_tiles).
 */
tn_cpu_isa tn_cpu_isa_choose(const char *mask, bool *known);

/** "scalar", "avx2", "avx512", or "avx512-emulated" in the test build that emulates it. */
const char *tn_cpu_level_name(tn_cpu_level level);

/** The processor's maker and name as cpuid has them ("" where it has none), always terminated. */
void tn_cpu_vendor(char *text, size_t bytes);
void tn_cpu_brand(char *text, size_t bytes);

/** Writes the names of the features as "avx2 fma f16c ..." into `text`, always terminated; returns
 * `text`. */
const char *tn_cpu_features_text(uint32_t features, char *text, size_t bytes);

#endif
