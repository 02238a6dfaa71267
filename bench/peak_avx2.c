/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peak_avx2.c: probes in 32-byte vectors: FMA, the VEX form of vpdpbusd, memory. Called through
 * peak.c, and only where cpuid has the instructions; functions carry their own target, so the file
 * needs no flags.
 */
#include "peak_isa.h"

#include <cpuid.h>
#include <immintrin.h>

#define TARGET_AVX2 __attribute__((target("avx2,fma")))
#define TARGET_AVXVNNI __attribute__((target("avx2,avxvnni")))

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avxvnni(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

/* Accumulators settle at y / (1 - x), neither denormal nor infinite; the barrier hides x and y from
 * the compiler. */
TARGET_AVX2 static void fma_f32(int64_t steps) {
    __m256 c[STEP_CHAINS], x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(1.0f);
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = _mm256_setzero_ps();
    __asm__ volatile("" : "+x"(x), "+x"(y));
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i)
            c[i] = _mm256_fmadd_ps(c[i], x, y);
        HOLD("x", c);
    }
}

TARGET_AVX2 static void fma_f64(int64_t steps) {
    __m256d c[STEP_CHAINS], x = _mm256_set1_pd(0.5), y = _mm256_set1_pd(1.0);
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = _mm256_setzero_pd();
    __asm__ volatile("" : "+x"(x), "+x"(y));
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i)
            c[i] = _mm256_fmadd_pd(c[i], x, y);
        HOLD("x", c);
    }
}

/* Where there is no vpdpbusd: 32 products in three instructions. */
TARGET_AVX2 static void dot_i8_pairs(int64_t steps) {
    __m256i c[STEP_CHAINS], x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(-5);
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = _mm256_setzero_si256();
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i) {
            __asm__ volatile("" : "+x"(x), "+x"(y)); /* or it would be the same product */
            c[i] = _mm256_add_epi32(c[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));
        }
        HOLD("x", c);
    }
}

TARGET_AVXVNNI static void dot_i8(int64_t steps) {
    __m256i c[STEP_CHAINS], x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(-5);
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = _mm256_setzero_si256();
    __asm__ volatile("" : "+x"(x), "+x"(y));
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i)
            c[i] = _mm256_dpbusd_avx_epi32(c[i], x, y);
        HOLD("x", c);
    }
}

TARGET_AVX2 static void read_all(char *target, const char *source, size_t bytes) {
    (void)target;
    __m256i sum[8];
    UNROLL
    for (int i = 0; i < 8; ++i)
        sum[i] = _mm256_setzero_si256();
    for (size_t at = 0; at < bytes; at += sizeof sum) {
        UNROLL
        for (size_t i = 0; i < 8; ++i)
            sum[i] =
                _mm256_xor_si256(sum[i], _mm256_load_si256((const void *)(source + at + 32 * i)));
    }
    UNROLL
    for (int i = 1; i < 8; ++i)
        sum[0] = _mm256_xor_si256(sum[0], sum[i]);
    __asm__ volatile("" : "+x"(sum[0]));
}

TARGET_AVX2 static void copy(char *target, const char *source, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 256) {
        UNROLL
        for (size_t i = 0; i < 8; ++i)
            _mm256_store_si256((void *)(target + at + 32 * i),
                               _mm256_load_si256((const void *)(source + at + 32 * i)));
    }
}

TARGET_AVX2 static void copy_stream(char *target, const char *source, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 256) {
        UNROLL
        for (size_t i = 0; i < 8; ++i)
            _mm256_stream_si256((void *)(target + at + 32 * i),
                                _mm256_load_si256((const void *)(source + at + 32 * i)));
    }
    _mm_sfence();
}

const peak_probe peak_avx2_probes[] = {
    {PEAK_FMA_F64, "avx2", "vfmadd ymm", has_avx2, 2 * 4 * STEP_CHAINS, fma_f64, NULL},
    {PEAK_FMA_F32, "avx2", "vfmadd ymm", has_avx2, 2 * 8 * STEP_CHAINS, fma_f32, NULL},
    {PEAK_DOT_I8, "avx2", "vpmaddubsw + vpmaddwd", has_avx2, 2 * 32 * STEP_CHAINS, dot_i8_pairs,
     NULL},
    {PEAK_DOT_I8, "avxvnni", "vpdpbusd ymm", has_avxvnni, 2 * 32 * STEP_CHAINS, dot_i8, NULL},
    {PEAK_READ, "avx2", "32-byte loads", has_avx2, 0, NULL, read_all},
    {PEAK_COPY, "avx2", "32-byte loads and stores", has_avx2, 0, NULL, copy},
    {PEAK_COPY_STREAM, "avx2", "32-byte streaming stores", has_avx2, 0, NULL, copy_stream},
    {.isa = NULL},
};
