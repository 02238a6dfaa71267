/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_operand.c: see kernel_operand.h. */
#include "kernel_operand.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "number.h"

kernel_world kernel_now;

enum { MOST_OPERANDS = 40 };
static struct {
    operand list[MOST_OPERANDS];
    int count;
} made;

void tell(const char *what, const char *more) {
    if (!kernel_now.wrong[0])
        snprintf(kernel_now.wrong, sizeof kernel_now.wrong, "%s: %s", what, more);
}

static void put_driver(CUresult code, const char *what) {
    if (code != CUDA_SUCCESS)
        tell(what, "the driver failed");
}

/* Memory for elements of this shape and strides (NULL: dense), all bytes `fill`. */
static operand *make(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride,
                     int fill) {
    operand *o = &made.list[made.count++];
    size_t last = 0, size = 1;
    int64_t elements = 1;
    bool none = false;
    (void)tenon_dtype_block(type, &elements, &size);
    o->host = stride ? tenon_strided(NULL, type, rank, shape, stride)
                     : tenon_dense(NULL, type, rank, shape);
    for (int d = 0; d < rank; d++) {
        none = none || shape[d] == 0;
        last += none ? 0 : (size_t)((shape[d] - 1) * o->host.stride[d]);
    }
    o->bytes = none ? 1 : (last + 1) / (size_t)elements * size;
    o->own = malloc(o->bytes);
    o->tolerance = -1;
    memset(o->own, fill, o->bytes);
    o->host.data = o->own;
    o->device = o->host;
    o->device.data = NULL;
    put_driver(cuMemAlloc(&o->at, o->bytes), "cuMemAlloc");
    if (kernel_now.wrong[0] ||
        tenon_buffer_import(kernel_now.pool, TENON_NATIVE_CUDA, (void *)(uintptr_t)o->at, o->bytes,
                            &o->buffer) != TENON_OK) /* NOLINT: a CUdeviceptr */
        tell("import", tenon_error_message(NULL));
    o->device.buffer = o->buffer;
    return o;
}

void upload(const operand *o) {
    if (!kernel_now.wrong[0])
        put_driver(cuMemcpyHtoD(o->at, o->own, o->bytes), "cuMemcpyHtoD");
}

/* Each element from value(index of it, among all). */
static void fill(operand *o, double (*value)(int64_t, double, double), double low, double high) {
    const tenon_tensor *t = &o->host;
    int64_t index[TENON_MAX_RANK] = {0}, count = 1;
    for (int d = 0; d < t->rank; d++)
        count *= t->shape[d];
    for (int64_t i = 0; i < count; i++) {
        int64_t at = 0, rest = i;
        for (int d = t->rank - 1; d >= 0; d--) {
            index[d] = rest % t->shape[d];
            rest /= t->shape[d];
            at += index[d] * t->stride[d];
        }
        number_put(o->own + (size_t)at * number_size(t->dtype), t->dtype, value(i, low, high));
    }
    upload(o);
}

static double drawn(int64_t index, double low, double high) {
    (void)index;
    return low + (high - low) * ((double)rng_f32(&kernel_now.random) + 1) / 2;
}

/* An input of random values; floats in [-1, 1), bytes over their range, booleans mostly true. */
operand *input(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride) {
    operand *o = make(type, rank, shape, stride, 0xff);
    if (type == TENON_U8)
        fill(o, drawn, 0, 255);
    else if (type == TENON_BOOL)
        fill(o, drawn, 0.3, 2);
    else
        fill(o, drawn, type == TENON_S8 ? -127 : -1, type == TENON_S8 ? 127 : 1);
    return o;
}

operand *blocks(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride) {
    operand *o = make(type, rank, shape, stride, 0xff);
    int64_t turned[TENON_MAX_RANK];
    size_t count = 1;
    for (int d = 0; d < rank; d++) {
        turned[d] = shape[d < rank - 2 ? d : 2 * rank - 3 - d];
        count *= (size_t)shape[d];
    }
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)drawn(0, -1, 1);
    const tenon_quantize_desc d = {.x = tenon_dense(values, TENON_F32, rank, turned),
                                   .y = tenon_transposed(o->host)};
    must("blocks", "quantise", kernel_now.reference, tenon_quantize(kernel_now.reference, &d));
    free(values);
    upload(o);
    return o;
}

static const int32_t *listed;
static double from_list(int64_t index, double low, double high) {
    (void)low, (void)high;
    return listed[index];
}
operand *indices(tenon_dtype type, int rank, const int64_t *shape, const int32_t *values) {
    operand *o = make(type, rank, shape, NULL, 0);
    listed = values;
    fill(o, from_list, 0, 0);
    return o;
}

operand *output(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride,
                double tolerance) {
    operand *o = make(type, rank, shape, stride, 0x7b); /* a huge number: zeros between rows show */
    o->tolerance = tolerance;
    o->got = malloc(o->bytes);
    upload(o);
    return o;
}

/* An output that is read too. */
operand *in_out(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride,
                double tolerance) {
    operand *o = output(type, rank, shape, stride, tolerance);
    fill(o, drawn, -1, 1);
    return o;
}

void compare(const char *name, const operand *o) {
    const size_t size = number_size(o->host.dtype);
    if (cuMemcpyDtoH(o->got, o->at, o->bytes) != CUDA_SUCCESS) {
        tell(name, "the result can't be read");
        return;
    }
    for (size_t i = 0; i < o->bytes / size; i++) {
        const double x = number_get(o->got + i * size, o->host.dtype),
                     y = number_get(o->own + i * size, o->host.dtype);
        if (memcmp(o->got + i * size, o->own + i * size, size) == 0 || (isnan(x) && isnan(y)) ||
            fabs(x - y) <= o->tolerance * (1 + fabs(y)))
            continue;
        char text[200];
        snprintf(text, sizeof text, "element %zu in memory is %g, expected %g", i, x, y);
        tell(name, text);
        return;
    }
}

void release(void) {
    for (int i = 0; i < made.count; i++) {
        operand *o = &made.list[i];
        tenon_buffer_free(o->buffer);
        cuMemFree(o->at);
        free(o->own);
        free(o->got);
    }
    memset(&made, 0, sizeof made);
}

void must(const char *name, const char *what, tenon_context *ctx, tenon_status status) {
    char text[300];
    if (status == TENON_OK)
        return;
    snprintf(text, sizeof text, "%s: %s", what, tenon_error_message(ctx));
    tell(name, text);
}
