/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng.h: seeded random numbers for tests, the same on every machine.
 *
 * A test starts with `rng r = rng_start("name");`, which takes the seed from TENON_TEST_SEED or a
 * fixed one and prints it, so that a failure can be repeated. The generator is splitmix64 (Steele,
 * Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
 */
#ifndef TEST_RNG_H
#define TEST_RNG_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct rng {
    uint64_t state;
} rng;

static inline rng rng_start(const char *name) {
    const char *text = getenv("TENON_TEST_SEED");
    uint64_t seed = text && *text ? strtoull(text, NULL, 0) : 20240229u;
    printf("%s: TENON_TEST_SEED=%llu\n", name, (unsigned long long)seed);
    return (rng){seed};
}

static inline uint64_t rng_u64(rng *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* 0 <= result < n; n >= 1. The bias of a remainder is below n / 2^64. */
static inline int64_t rng_below(rng *r, int64_t n) {
    return (int64_t)(rng_u64(r) % (uint64_t)n);
}

/* low <= result <= high */
static inline int64_t rng_between(rng *r, int64_t low, int64_t high) {
    return low + rng_below(r, high - low + 1);
}

/* Uniform in [0, 1), a multiple of 2^-53. */
static inline double rng_unit(rng *r) {
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

/* Uniform in [-1, 1), a multiple of 2^-23: exact in float. */
static inline float rng_f32(rng *r) {
    return (float)((int64_t)(rng_u64(r) >> 40) - (1 << 23)) * 0x1p-23f;
}

static inline void rng_fill_f32(rng *r, float *x, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
        x[i] = rng_f32(r);
}

/* Any bytes at all. */
static inline void rng_fill_bytes(rng *r, void *memory, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i)
        ((unsigned char *)memory)[i] = (unsigned char)(rng_u64(r) >> 56);
}

#endif
