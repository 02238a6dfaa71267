/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checked.h: size arithmetic that says when it does not fit.
 *
 * Every size that comes from a caller's shape goes through these on its way to an allocation or an
 * offset. Each returns true and stores the exact result, or returns false and stores nothing, so a
 * chain reads `if (!tn_mul_size(rows, cols, &n) || !tn_mul_size(n, width, &n)) return overflow;`.
 */
#ifndef TN_CHECKED_H
#define TN_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool tn_add_size(size_t a, size_t b, size_t *out) {
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

static inline bool tn_mul_size(size_t a, size_t b, size_t *out) {
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

/* Rounds up to a multiple of `alignment`, a power of two. */
static inline bool tn_align_size(size_t a, size_t alignment, size_t *out) {
    size_t sum;
    if (!tn_add_size(a, alignment - 1, &sum))
        return false;
    *out = sum & ~(alignment - 1);
    return true;
}

static inline bool tn_add_i64(int64_t a, int64_t b, int64_t *out) {
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

static inline bool tn_mul_i64(int64_t a, int64_t b, int64_t *out) {
    int64_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

/* A non-negative int64 as a size. False for negative values and for those a size_t cannot hold. */
static inline bool tn_size_of_i64(int64_t a, size_t *out) {
    if (a < 0 || (uint64_t)a > SIZE_MAX)
        return false;
    *out = (size_t)a;
    return true;
}

static inline bool tn_is_power_of_two(size_t a) {
    return a != 0 && (a & (a - 1)) == 0;
}

#endif
