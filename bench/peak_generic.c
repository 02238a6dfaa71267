/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peak_generic.c: probes for any processor, in the compiler's 16-byte vectors (SSE2 on x86-64, NEON
 * on AArch64). The build allows contraction, so multiply and add become one instruction where the
 * baseline has it. Called through peak.c.
 */
#include "peak_isa.h"

typedef float f32x4 __attribute__((vector_size(16)));
typedef double f64x2 __attribute__((vector_size(16)));
typedef uint64_t u64x2 __attribute__((vector_size(16)));

#if defined(__x86_64__)
#define IN_REGISTER "x"
#elif defined(__aarch64__)
#define IN_REGISTER "w"
#else
#define IN_REGISTER "m" /* no class known here: chains pass through memory, the figure is low */
#endif

/* Accumulators settle at y / (1 - x), neither denormal nor infinite; the barrier hides x and y from
 * the compiler. */
static void fma_f32(int64_t steps) {
    f32x4 c[STEP_CHAINS], x = {0.5f, 0.5f, 0.5f, 0.5f}, y = {1, 1, 1, 1};
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = (f32x4){0};
    __asm__ volatile("" : "+" IN_REGISTER(x), "+" IN_REGISTER(y));
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i)
            c[i] = c[i] * x + y;
        HOLD(IN_REGISTER, c);
    }
}

static void fma_f64(int64_t steps) {
    f64x2 c[STEP_CHAINS], x = {0.5, 0.5}, y = {1, 1};
    UNROLL
    for (int i = 0; i < STEP_CHAINS; ++i)
        c[i] = (f64x2){0};
    __asm__ volatile("" : "+" IN_REGISTER(x), "+" IN_REGISTER(y));
    for (int64_t step = 0; step < steps; ++step) {
        UNROLL
        for (int i = 0; i < STEP_CHAINS; ++i)
            c[i] = c[i] * x + y;
        HOLD(IN_REGISTER, c);
    }
}

static void read_all(char *target, const char *source, size_t bytes) {
    (void)target;
    u64x2 sum[8] = {{0}};
    for (size_t at = 0; at < bytes; at += sizeof sum) {
        UNROLL
        for (size_t i = 0; i < 8; ++i)
            sum[i] ^= *(const u64x2 *)(const void *)(source + at + 16 * i);
    }
    UNROLL
    for (int i = 1; i < 8; ++i)
        sum[0] ^= sum[i];
    __asm__ volatile("" : "+" IN_REGISTER(sum[0]));
}

static void copy(char *target, const char *source, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 128) {
        UNROLL
        for (size_t i = 0; i < 8; ++i)
            *(u64x2 *)(void *)(target + at + 16 * i) =
                *(const u64x2 *)(const void *)(source + at + 16 * i);
    }
}

#if defined(__x86_64__)
#define MULTIPLY_ADD "mulps + addps"
#define MULTIPLY_ADD_F64 "mulpd + addpd"
#else
#define MULTIPLY_ADD "multiply-add, 16 bytes"
#define MULTIPLY_ADD_F64 "multiply-add, 16 bytes"
#endif

const peak_probe peak_generic_probes[] = {
    {PEAK_FMA_F64, "generic", MULTIPLY_ADD_F64, NULL, 2 * 2 * STEP_CHAINS, fma_f64, NULL},
    {PEAK_FMA_F32, "generic", MULTIPLY_ADD, NULL, 2 * 4 * STEP_CHAINS, fma_f32, NULL},
    {PEAK_READ, "generic", "16-byte loads", NULL, 0, NULL, read_all},
    {PEAK_COPY, "generic", "16-byte loads and stores", NULL, 0, NULL, copy},
    {.isa = NULL},
};
