/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_operand.c: see kernel_operand.h. */
#include "kernel_operand.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bounds.h"
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

int64_t elements_of(const tenon_tensor *t) {
    int64_t count = 1;
    for (int d = 0; d < t->rank; d++)
        count *= t->shape[d];
    return count;
}

int64_t place_of(const tenon_tensor *t, int64_t index) {
    int64_t at = 0;
    for (int d = t->rank - 1; d >= 0; d--) {
        at += index % t->shape[d] * t->stride[d];
        index /= t->shape[d];
    }
    return at;
}

static unsigned char *element(unsigned char *memory, const operand *o, int64_t index) {
    return memory + (size_t)place_of(&o->device, index) * number_size(o->device.dtype);
}

/* Each element from value(index of it, among all). */
static void fill(operand *o, double (*value)(int64_t, double, double), double low, double high) {
    for (int64_t i = 0; i < elements_of(&o->device); i++)
        number_put(element(o->own, o, i), o->device.dtype, value(i, low, high));
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

static void exact_as_own(operand *o) {
    for (int64_t i = 0; i < elements_of(&o->device); i++)
        o->exact[i] = number_get(element(o->own, o, i), o->device.dtype);
}

operand *output(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride) {
    operand *o = make(type, rank, shape, stride, 0x7b); /* a huge number: zeros between rows show */
    o->got = malloc(o->bytes);
    o->exact = malloc(((size_t)elements_of(&o->device) + 1) * sizeof *o->exact);
    o->host = tenon_dense(o->exact, TENON_F64, rank, shape);
    exact_as_own(o);
    upload(o);
    return o;
}

operand *in_out(tenon_dtype type, int rank, const int64_t *shape, const int64_t *stride) {
    operand *o = output(type, rank, shape, stride);
    fill(o, drawn, -1, 1);
    exact_as_own(o);
    return o;
}

double nothing(int64_t index, double exact, const void *with) {
    (void)index, (void)exact, (void)with;
    return 0;
}

void exact_by_cpu(const char *name, operand *c, tenon_gemm_desc d) {
    const int64_t count = elements_of(&c->device);
    float *values = calloc((size_t)count + 1, sizeof *values);
    d.c = tenon_dense(values, TENON_F32, c->device.rank, c->device.shape);
    for (int64_t i = 0; i < count; i++) /* some may stay as they are */
        values[i] = (float)c->exact[i];
    must(name, "the CPU", kernel_now.cpu, tenon_gemm(kernel_now.cpu, &d));
    for (int64_t i = 0; i < count; i++)
        c->exact[i] = (double)values[i];
    free(values);
}

void compare(const char *name, const operand *o, allowed *error, const void *with) {
    const tenon_dtype type = o->device.dtype;
    char text[200];
    if (cuMemcpyDtoH(o->got, o->at, o->bytes) != CUDA_SUCCESS) {
        tell(name, "the result can't be read");
        return;
    }
    for (int64_t i = 0; i < elements_of(&o->device); i++) {
        const double x = number_get(element(o->got, o, i), type), y = o->exact[i],
                     e = error(i, y, with);
        if (!bound_holds(type, x, y, e)) {
            snprintf(text, sizeof text, "element %lld is %.9g, expected %.9g within %.2g",
                     (long long)i, x, y, e);
            tell(name, text);
            return;
        }
        memcpy(element(o->got, o, i), element(o->own, o, i), number_size(type));
    }
    if (memcmp(o->got, o->own, o->bytes) != 0)
        tell(name, "memory between the rows has changed");
}

void release(void) {
    for (int i = 0; i < made.count; i++) {
        operand *o = &made.list[i];
        tenon_buffer_free(o->buffer);
        cuMemFree(o->at);
        free(o->own);
        free(o->got);
        free(o->exact);
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
