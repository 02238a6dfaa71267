/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_operand.h: operands of block types, and what their bytes mean: docs/NUMERICS.md, section 9, written once more, element by element, so that
 * a mistake in the library's decoders can't hide.
 */
#ifndef CONFORM_BLOCK_OPERAND_H
#define CONFORM_BLOCK_OPERAND_H

#include "harness.h"

/* Element `i` of a block. *size: |product| + |minimum|, what roundings are relative to; may be NULL. */
double block_number(tenon_dtype dtype, const unsigned char *block, int i, double *size);

/* A block of random quants, and scales that make elements of magnitude 1 or so. */
void block_draw(rng *r, tenon_dtype dtype, unsigned char *block);

/*
 * (…, k, n) of valid blocks along k. DENSE: n rows of k one after the other; TRANSPOSED and REVERSED: the batch inside; PADDED: a block between
 * rows; STEPPED: every second row; BACKWARD: negative strides, but along k.
 */
operand block_input(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape,
                    layout in_memory);

/* Fills in the exact copy (and size, largest) of what is in memory now. */
void block_exact(world *w, operand *o);

#endif
