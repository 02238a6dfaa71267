/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_numbers.h: the small arithmetic of the CPU's drivers. Nothing here checks for overflow:
 * shapes and sizes have been.
 */
#ifndef TN_CPU_NUMBERS_H
#define TN_CPU_NUMBERS_H

#include <tenon/tensor.h>

/*
 * Scratch that a task may keep on its thread's stack, in the place of workspace: every operation
 * has a choice that makes do with it. 17 KiB hold a chunk of f64 softmax scores and some of their
 * sums, and are a thirtieth of the smallest stack that a worker has (os_posix.c); callers' stacks
 * are usually larger.
 */
#define TN_CPU_STACK ((size_t)17 << 10)

static inline int64_t tn_min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t tn_max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
/* a >= 0 */
static inline int64_t tn_ceil_div(int64_t a, int64_t b) {
    return a / b + (a % b != 0);
}
static inline int64_t tn_round_up(int64_t a, int64_t b) {
    return tn_ceil_div(a, b) * b;
}
static inline size_t tn_round64(size_t bytes) {
    return (bytes + 63) & ~(size_t)63;
}

/* Bytes of one element of a plain type. */
static inline int64_t tn_element_size(tenon_dtype dtype) {
    switch (dtype) {
    case TENON_F64:
    case TENON_S64:
        return 8;
    case TENON_F32:
    case TENON_S32:
        return 4;
    case TENON_F16:
    case TENON_BF16:
        return 2;
    default:
        return 1;
    }
}

#endif
