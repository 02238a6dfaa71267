/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.h: what every library is asked to compute, and whether it did.
 *
 * Operands are made before memory becomes short and belong to the driver, so that the only requests
 * in the window are the library's. A result is wiped before each call: one that was not written is
 * a wrong one.
 */
#ifndef FAULTS_TASK_H
#define FAULTS_TASK_H

#include <stdbool.h>

typedef enum task_kind { TASK_PRODUCT, TASK_SOFTMAX, TASK_ATTENTION } task_kind;

/* Of attention: one batch, all row-major (heads, rows, d). */
enum { HEADS = 4, QUERIES = 128, KEYS = 128, HEAD_DIM = 64 };
/* Of softmax, over the last axis. */
enum { SOFTMAX_ROWS = 256, SOFTMAX_COLUMNS = 1024 };

typedef struct task {
    task_kind kind;
    int size;         /* of the product: c = a·b, all three size × size, row-major */
    float *a, *b, *v; /* product: a, b; softmax: a; attention: q, k, v */
    float *out;
    float *expected;
    int count; /* of elements in out */
    float tolerance;
} task;

/* False if there is no memory for it. */
bool task_make(task *t, task_kind kind, int size);

/* Wipes the result with NaN. */
void task_wipe(task *t);

/* How many elements of the result are wrong. */
int task_wrong(const task *t);

#endif
