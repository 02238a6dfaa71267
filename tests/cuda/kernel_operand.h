/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_operand.h: what the cases of kernels are made of (kernel_products.c, kernel_rows.c): the
 * devices, operands on both, and the first thing that went wrong.
 *
 * Each operand is device memory of its own, exact to the byte, so that an access beside it is
 * found; what lies between rows is NaN in inputs and must stay as it was in outputs. The reference
 * device gets the same bytes.
 */
#ifndef TEST_KERNEL_OPERAND_H
#define TEST_KERNEL_OPERAND_H

#include <cuda.h>
#include <stdbool.h>
#include <tenon/tenon.h>

#include "rng.h"

/* What a case runs on, and what it has made. */
typedef struct kernel_world {
    tenon_context *cuda, *reference, *cpu; /* cpu: NULL where there is none */
    tenon_pool *pool;
    int turn; /* which of the seeds */
    rng random;
    char wrong[512]; /* empty: nothing */
} kernel_world;
extern kernel_world kernel_now;

/* Keeps the first thing that is told. */
void tell(const char *what, const char *more);
/* Tells of a status other than TENON_OK. */
void must(const char *name, const char *what, tenon_context *ctx, tenon_status status);

typedef struct operand {
    tenon_tensor device, host; /* the same, in each memory */
    CUdeviceptr at;
    tenon_buffer *buffer;
    unsigned char *own, *got; /* got: an output as the device left it */
    size_t bytes;
    double tolerance; /* < 0: an input */
} operand;

#define DEVICE(o) ((o) ? (o)->device : (tenon_tensor){0})
#define HOST(o) ((o) ? (o)->host : (tenon_tensor){0})

/* Dense where stride is NULL. Random values: floats in [-1, 1), bytes over their range, booleans
 * mostly true. */
operand *input(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride);
/* (..., k, n) of random blocks along k, whose stride is 1. */
operand *blocks(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride);
operand *indices(tenon_dtype type, int rank, const int64_t *shape, const int32_t *values);
operand *output(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride,
                double tolerance);
/* An output that is read too. */
operand *in_out(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride,
                double tolerance);
/* Copies own to the device once more. */
void upload(const operand *o);
/* Tells where an output differs from the reference's by more than tolerance · (1 + |value|). */
void compare(const char *name, const operand *o);
/* Frees all operands. */
void release(void);

/* The cases of a file: how many, a name, and running one. */
int kernel_products(void);
const char *kernel_product_name(int index);
void kernel_product_run(int index);
int kernel_blocks(void);
const char *kernel_blocks_name(int index);
void kernel_blocks_run(int index);
int kernel_rows(void);
const char *kernel_rows_name(int index);
void kernel_rows_run(int index);

#endif
