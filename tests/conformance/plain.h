/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plain.h: problems on dense memory, and parts of them, for the tests that compare bits with bits. No guard pages, no bounds.
 */
#ifndef CONFORM_PLAIN_H
#define CONFORM_PLAIN_H

#include "harness.h"

/* Dense tensors that live as long as the case: random (floats in [-1, 1), all of s8, mostly true, blocks along the dimension before the last), and
 * zeroed. */
tenon_tensor filled(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape);
tenon_tensor filled2(world *w, tenon_dtype dtype, int64_t rows, int64_t columns);
tenon_tensor empty(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape);

tenon_gemm_desc product(world *w, tenon_dtype a, tenon_dtype b, tenon_dtype c, int64_t m, int64_t n,
                        int64_t k);
tenon_attention_desc attention(world *w, tenon_dtype dtype, int64_t batch, int64_t heads,
                               int64_t kv_heads, int64_t queries, int64_t keys, int64_t d);
/* Whether the device under test multiplies with blocks. */
bool has_blocks(const world *w);
/* Packs b where the device can, so that the product uses it. */
void pack_b(world *w, tenon_gemm_desc *g);

/* `count` indices from `from` of one dimension: a view. */
tenon_tensor part(tenon_tensor t, int32_t dim, int64_t from, int64_t count);
/* The same elements in other memory: transposed. */
tenon_tensor transposed_copy(world *w, const tenon_tensor *t);

/* Every element of `t` has the bits of the same element of `whole`; `how` is for the message. */
void expect_same(world *w, const char *how, const tenon_tensor *t, const tenon_tensor *whole);

#endif
