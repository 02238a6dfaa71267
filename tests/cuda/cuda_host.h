/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_host.h: what the tests of the CUDA backend's host side share: the product in a device's
 * buffers, and the stand-in driver as they want it. They link the stand-in, which is the driver
 * that the library opens too (TENON_CUDA_LIBRARY).
 */
#ifndef TEST_CUDA_HOST_H
#define TEST_CUDA_HOST_H

#include <cuda.h>
#include <standin.h>

#include <stdio.h>
#include <stdlib.h>

#include "product.h"
#include "suite.h"

#define CU(call) ck_assert_int_eq((call), CUDA_SUCCESS)

/* Two devices; `no_vmm`: of a driver without virtual memory. */
static inline void pretend(int no_vmm) {
    const standin_device device = {
        .arch = 80, .count = 2, .memory = (size_t)256 << 20, .no_vmm = no_vmm != 0};
    standin_configure(&device);
    standin_seed(7 + (unsigned)no_vmm);
}

typedef struct buffers {
    tenon_buffer *a, *b, *c;
} buffers;

static inline buffers load(tenon_context *ctx, tenon_pool *pool, const product *p) {
    buffers x;
    OK(NULL, tenon_buffer_alloc(pool, sizeof p->a + 12, "a", &x.a));
    OK(NULL, tenon_buffer_alloc(pool, sizeof p->b, "b", &x.b));
    OK(NULL, tenon_buffer_alloc(pool, sizeof p->c, "c", &x.c));
    OK(ctx, tenon_buffer_write(ctx, x.a, 12, p->a, sizeof p->a));
    OK(ctx, tenon_buffer_write(ctx, x.b, 0, p->b, sizeof p->b));
    OK(ctx, tenon_buffer_write(ctx, x.c, 0, p->c, sizeof p->c));
    return x;
}

static inline tenon_gemm_desc product_in(const buffers *x) {
    return (tenon_gemm_desc){.a = tenon_matrix_in(x->a, 12, TENON_F32, M, K),
                             .b = tenon_matrix_in(x->b, 0, TENON_F32, K, N),
                             .c = tenon_matrix_in(x->c, 0, TENON_F32, M, N)};
}

static inline void unload(buffers *x) {
    tenon_buffer_free(x->a);
    tenon_buffer_free(x->b);
    tenon_buffer_free(x->c);
}

/* Nothing that the driver made is left, and it has nothing to say. */
static inline void expect_nothing_left(void) {
    const standin_live live = standin_get_live();
    for (size_t i = 0; i < standin_count(); ++i)
        printf("%s: %s\n", standin_at(i)->kernel, standin_at(i)->text);
    ck_assert_uint_eq(standin_count(), 0);
    ck_assert_msg(live.bytes == 0 && live.allocations == 0 && live.modules == 0 &&
                      live.streams == 0 && live.events == 0 && live.contexts == 0,
                  "left: %zu bytes, %zu allocations, %zu modules, %zu streams, %zu events, %zu "
                  "contexts",
                  live.bytes, live.allocations, live.modules, live.streams, live.events,
                  live.contexts);
}

#endif
