/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_numbers.h: sizes that all drivers of the CPU share, beside the arithmetic of ops/numbers.h.
 */
#ifndef TN_CPU_NUMBERS_H
#define TN_CPU_NUMBERS_H

#include "ops/numbers.h"

/*
 * Scratch that a task may keep on its thread's stack, in the place of workspace: every operation
 * has a choice that makes do with it. 17 KiB hold a chunk of f64 softmax scores and some of their
 * sums, and are a thirtieth of the smallest stack that a worker has (os_posix.c); callers' stacks
 * are usually larger.
 */
#define TN_CPU_STACK ((size_t)17 << 10)

static inline size_t tn_round64(size_t bytes) {
    return (bytes + 63) & ~(size_t)63;
}

#endif
