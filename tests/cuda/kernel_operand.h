/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_operand.h: what the cases of kernels are made of (kernel_products.c, kernel_rows.c): the
 * devices, operands on both, and the first thing that went wrong.
 *
 * Each operand is device memory of its own, exact to the byte, so that an access beside it is
 * found; what lies between rows is NaN in inputs and must stay as it was in outputs. The reference
 * device gets the same bytes of inputs, and makes outputs in f64, from which results may be as far
 * as the bounds of docs/NUMERICS.md say (bounds.h).
 */
#ifndef TEST_KERNEL_OPERAND_H
#define TEST_KERNEL_OPERAND_H

#include <cuda.h>
#include <stdbool.h>
#include <tenon/tenon.h>

#include "rng.h"

/* What a case runs on, and what it has made. */
typedef struct kernel_world {
    tenon_context *cuda, *reference, *cpu;
    tenon_pool *pool;
    int turn; /* which of the seeds */
    rng random;
    char wrong[512]; /* empty: nothing */
} kernel_world;
extern kernel_world kernel_now;

/* Of the device: STANDIN_ARCH, or 80. */
int kernel_arch(void);

/* Keeps the first thing that is told. */
void tell(const char *what, const char *more);
/* Tells of a status other than TENON_OK. */
void must(const char *name, const char *what, tenon_context *ctx, tenon_status status);

typedef struct operand {
    tenon_tensor device, host; /* host: of an output its exact value, dense in f64 */
    CUdeviceptr at;
    tenon_buffer *buffer;
    unsigned char *own, *got; /* as it was put on the device; an output as the device left it */
    double *exact;            /* host's data, of an output */
    size_t bytes;
} operand;

#define DEVICE(o) ((o) ? (o)->device : (tenon_tensor){0})
#define HOST(o) ((o) ? (o)->host : (tenon_tensor){0})

/* Dense where stride is NULL. Random values: floats in [-1, 1), bytes over their range, booleans
 * mostly true. */
operand *input(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride);
/* (..., k, n) of random blocks along k, whose stride is 1. */
operand *blocks(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride);
operand *indices(tenon_dtype type, int rank, const int64_t *shape, const int32_t *values);
operand *output(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride);
/* An output that is read too: values in [-1, 1). */
operand *in_out(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride);
/* Copies own to the device once more. */
void upload(const operand *o);
/* Elements of a tensor; where element `index` of all lies, in elements. */
int64_t elements_of(const tenon_tensor *t);
int64_t place_of(const tenon_tensor *t, int64_t index);
/* How far element `index` of all may be from `exact`, before it is rounded into its type. */
typedef double allowed(int64_t index, double exact, const void *with);
double nothing(int64_t index, double exact, const void *with);
/* The exact values of an output of f32 shall be what the CPU's product of host operands has. */
void exact_by_cpu(const char *name, operand *c, tenon_gemm_desc d);
/* Tells where an output is further from the reference's. */
void compare(const char *name, const operand *o, allowed *error, const void *with);
/* Frees all operands. */
void release(void);

/* The cases of a file: how many, a name, and running one. */
int kernel_products(void);
const char *kernel_product_name(int index);
void kernel_product_run(int index);
int kernel_blocks(void);
const char *kernel_blocks_name(int index);
void kernel_blocks_run(int index);
int kernel_mapped(void);
const char *kernel_mapped_name(int index);
void kernel_mapped_run(int index);
int kernel_rows(void);
const char *kernel_rows_name(int index);
void kernel_rows_run(int index);

#endif
