/* SPDX-License-Identifier: Apache-2.0 */
/* plain.c: see plain.h. */
#include "plain.h"

#include <string.h>

#include "block_operand.h"
#include "number.h"

tenon_tensor filled(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape) {
    const range values = dtype == TENON_S8     ? (range){-128, 127}
                         : dtype == TENON_U8   ? (range){0, 255}
                         : dtype == TENON_BOOL ? (range){0, 0.8}
                                               : (range){-1, 1};
    if (dtype >= TENON_Q8_0)
        return block_input(w, dtype, rank, shape, DENSE).t;
    return input(w, dtype, rank, shape, DENSE, 0, values).t;
}

tenon_tensor filled2(world *w, tenon_dtype dtype, int64_t rows, int64_t columns) {
    return filled(w, dtype, 2, (const int64_t[2]){rows, columns});
}

tenon_tensor empty(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape) {
    tenon_tensor t = tenon_dense(NULL, dtype, rank, shape);
    t.data = world_alloc(w, (size_t)count_of(&t) * number_size(dtype));
    return t;
}

tenon_gemm_desc product(world *w, tenon_dtype a, tenon_dtype b, tenon_dtype c, int64_t m, int64_t n,
                        int64_t k) {
    return (tenon_gemm_desc){.a = filled2(w, a, m, k),
                             .b = filled2(w, b, k, n),
                             .c = empty(w, c, 2, (const int64_t[2]){m, n})};
}

tenon_attention_desc attention(world *w, tenon_dtype dtype, int64_t batch, int64_t heads,
                               int64_t kv_heads, int64_t queries, int64_t keys, int64_t d) {
    const int64_t q[4] = {batch, heads, queries, d}, k[4] = {batch, kv_heads, keys, d};
    tenon_attention_desc x = {.q = filled(w, dtype, 4, q),
                              .k = filled(w, dtype, 4, k),
                              .v = filled(w, dtype, 4, k),
                              .o = empty(w, TENON_F32, 4, q),
                              .lse = empty(w, TENON_F32, 3, q)};
    return x;
}

bool has_blocks(const world *w) {
    return strncmp(w->device, "cuda", 4) != 0; /* there tests/cuda/test_cuda_blocks.c has them */
}

void pack_b(world *w, tenon_gemm_desc *g) {
    size_t bytes;
    if (tenon_gemm_pack_size(w->ctx, g, &bytes) != TENON_OK)
        return; /* test_conform_gemm says whether that is expected */
    unsigned char *packed = world_alloc(w, bytes + 64);
    packed += (64 - (uintptr_t)packed % 64) % 64;
    ck_assert_int_eq(tenon_gemm_pack(w->ctx, g, packed, bytes), TENON_OK);
    g->b_packed = packed;
    g->b_packed_bytes = bytes;
}

tenon_tensor part(tenon_tensor t, int32_t dim, int64_t from, int64_t count) {
    int64_t elements = 1;
    ck_assert_int_eq(tenon_dtype_block(t.dtype, &elements, NULL), TENON_OK);
    t.data =
        (unsigned char *)t.data + from * t.stride[dim] / elements * (int64_t)number_size(t.dtype);
    t.shape[dim] = count;
    return t;
}

/* Every element of `t` has the bits of the same element of `whole`. */
void expect_same(world *w, const char *how, const tenon_tensor *t, const tenon_tensor *whole) {
    for (int64_t i = 0; i < count_of(t); ++i) {
        const double x = get(t, i), y = get(whole, i);
        if (memcmp(&x, &y, sizeof x) != 0)
            ck_abort_msg("%s: %s: %s: element %lld is %a, in the whole %a", w->device, w->what, how,
                         (long long)i, x, y);
    }
}

/* The same elements in other memory: transposed. */
tenon_tensor transposed_copy(world *w, const tenon_tensor *t) {
    const int64_t shape[2] = {t->shape[1], t->shape[0]};
    tenon_tensor copy = tenon_transposed(empty(w, t->dtype, 2, shape));
    for (int64_t i = 0; i < t->shape[0]; ++i)
        for (int64_t j = 0; j < t->shape[1]; ++j) {
            const size_t size = number_size(t->dtype);
            memcpy((char *)copy.data + (i * copy.stride[0] + j * copy.stride[1]) * (int64_t)size,
                   (const char *)t->data + (i * t->stride[0] + j * t->stride[1]) * (int64_t)size,
                   size);
        }
    return copy;
}
