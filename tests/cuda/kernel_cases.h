/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_cases.h: small problems for the CUDA kernels, held against the reference device: what
 * test_cuda_kernels.c runs as it is, and kernel_mutants.c on kernels that were made wrong. Most of
 * the statements that they don't execute choose by an operand's type, which conform_* go through.
 */
#ifndef TEST_KERNEL_CASES_H
#define TEST_KERNEL_CASES_H

#include <stdbool.h>
#include <stdint.h>

enum { KERNEL_SEEDS = 3 };
extern const uint64_t kernel_seeds[KERNEL_SEEDS];

int kernel_cases(void);
const char *kernel_case_name(int index);

/* The stand-in with seed number `turn`, as a device of two multiprocessors, and contexts on it. False: the
 * device can't be opened. `patch`: standin_patch of this kernel, line and text; NULL: none. */
typedef struct kernel_patch {
    const char *kernel;
    uint32_t line;
    const char *text;
} kernel_patch;
bool kernel_cases_open(int turn, const kernel_patch *patch);
void kernel_cases_close(void);

/* Runs a case: NULL, or what is wrong: a call's error, a value, or what the stand-in found. */
const char *kernel_case_run(int index);

#endif
