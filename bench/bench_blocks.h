/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_blocks.h: operands of block types: contents, and an element as a double. Written out once
 * more for the reason that bench_data.c gives; its functions call these.
 */
#ifndef BENCH_BENCH_BLOCKS_H
#define BENCH_BENCH_BLOCKS_H

#include <tenon/tensor.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool bench_is_block(tenon_dtype dtype);

/* Random quants, with scales of which values of about one come. */
void bench_blocks_fill(tenon_dtype dtype, void *data, size_t bytes, uint64_t *random);

/* Element `index`. */
double bench_blocks_get(tenon_dtype dtype, const void *data, int64_t index);

#endif
