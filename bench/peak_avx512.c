/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peak_avx512.c: probes in 64-byte vectors: FMA, vpdpbusd (and its 32-byte EVEX form), vdpbf16ps,
 * memory. Called through peak.c, and only where cpuid has the instructions; functions carry their
 * own target.
 */
#include "peak_isa.h"

#include <immintrin.h>

#define TARGET_AVX512 __attribute__((target("avx512f")))
#define TARGET_VNNI __attribute__((target("avx512f,avx512vl,avx512vnni")))
#define TARGET_BF16 __attribute__((target("avx512f,avx512bf16")))

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f");
}

static bool has_vnni(void) {
    return has_avx512() && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

static bool has_bf16(void) {
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

/* Accumulators settle at y / (1 - x), neither denormal nor infinite; the barrier hides x and y from
 * the compiler. */
TARGET_AVX512 static void fma_f32(int64_t steps) {
    __m512 c[STEP_CHAINS], x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(1.0f);
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = _mm512_setzero_ps();
    __asm__ volatile("" : "+v"(x), "+v"(y));
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i)
            c[i] = _mm512_fmadd_ps(c[i], x, y);
        HOLD("v", c);
    }
}

TARGET_AVX512 static void fma_f64(int64_t steps) {
    __m512d c[STEP_CHAINS], x = _mm512_set1_pd(0.5), y = _mm512_set1_pd(1.0);
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = _mm512_setzero_pd();
    __asm__ volatile("" : "+v"(x), "+v"(y));
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i)
            c[i] = _mm512_fmadd_pd(c[i], x, y);
        HOLD("v", c);
    }
}

TARGET_VNNI static void dot_i8_256(int64_t steps) {
    __m256i c[STEP_CHAINS], x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(-5);
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = _mm256_setzero_si256();
    __asm__ volatile("" : "+v"(x), "+v"(y));
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i)
            c[i] = _mm256_dpbusd_epi32(c[i], x, y);
        HOLD("v", c);
    }
}

TARGET_VNNI static void dot_i8_512(int64_t steps) {
    __m512i c[STEP_CHAINS], x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(-5);
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = _mm512_setzero_si512();
    __asm__ volatile("" : "+v"(x), "+v"(y));
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i)
            c[i] = _mm512_dpbusd_epi32(c[i], x, y);
        HOLD("v", c);
    }
}

TARGET_BF16 static void dot_bf16(int64_t steps) {
    __m512 c[STEP_CHAINS];
    __m512i x = _mm512_set1_epi16(0x3f80), y = _mm512_set1_epi16(0x3a80); /* 1 and 2^-10 */
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = _mm512_setzero_ps();
    __asm__ volatile("" : "+v"(x), "+v"(y));
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i)
            c[i] = _mm512_dpbf16_ps(c[i], (__m512bh)x, (__m512bh)y);
        HOLD("v", c);
    }
}

TARGET_AVX512 static void read_all(char *target, const char *source, size_t bytes) {
    (void)target;
    __m512i sum[8];
    UNROLL
    for (int i = 0; i < 8; ++i)
        sum[i] = _mm512_setzero_si512();
    for (size_t at = 0; at < bytes; at += sizeof sum) {
        UNROLL
        for (size_t i = 0; i < 8; ++i)
            sum[i] = _mm512_xor_si512(sum[i], _mm512_load_si512(source + at + 64 * i));
    }
    UNROLL
    for (int i = 1; i < 8; ++i)
        sum[0] = _mm512_xor_si512(sum[0], sum[i]);
    __asm__ volatile("" : "+v"(sum[0]));
}

TARGET_AVX512 static void copy(char *target, const char *source, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 512) {
        UNROLL
        for (size_t i = 0; i < 8; ++i)
            _mm512_store_si512(target + at + 64 * i, _mm512_load_si512(source + at + 64 * i));
    }
}

TARGET_AVX512 static void copy_stream(char *target, const char *source, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 512) {
        UNROLL
        for (size_t i = 0; i < 8; ++i)
            _mm512_stream_si512((void *)(target + at + 64 * i),
                                _mm512_load_si512(source + at + 64 * i));
    }
    _mm_sfence();
}

const peak_probe peak_avx512_probes[] = {
    {PEAK_FMA_F64, "avx512", "vfmadd zmm", has_avx512, 2 * 8 * STEP_CHAINS, fma_f64, NULL},
    {PEAK_FMA_F32, "avx512", "vfmadd zmm", has_avx512, 2 * 16 * STEP_CHAINS, fma_f32, NULL},
    {PEAK_DOT_BF16, "avx512bf16", "vdpbf16ps zmm", has_bf16, 2 * 32 * STEP_CHAINS, dot_bf16, NULL},
    {PEAK_DOT_I8, "avx512vnni", "vpdpbusd ymm", has_vnni, 2 * 32 * STEP_CHAINS, dot_i8_256, NULL},
    {PEAK_DOT_I8, "avx512vnni", "vpdpbusd zmm", has_vnni, 2 * 64 * STEP_CHAINS, dot_i8_512, NULL},
    {PEAK_READ, "avx512", "64-byte loads", has_avx512, 0, NULL, read_all},
    {PEAK_COPY, "avx512", "64-byte loads and stores", has_avx512, 0, NULL, copy},
    {PEAK_COPY_STREAM, "avx512", "64-byte streaming stores", has_avx512, 0, NULL, copy_stream},
    {.isa = NULL},
};
