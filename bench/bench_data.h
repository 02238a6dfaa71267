/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_data.h: operands of the benchmarked operations: memory, contents that are the same in every
 * run, reading an element of any type as a double, and throwing data out of the caches.
 */
#ifndef BENCH_DATA_H
#define BENCH_DATA_H

#include <tenon/tensor.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bench_array {
    void *data; /* 64-byte aligned */
    tenon_dtype dtype;
    int64_t count;
    size_t bytes;
} bench_array;

/* The product of extents (each at least 1), or -1 where it does not fit. */
int64_t bench_count(const int64_t *extents, int count);

/* Takes memory for `count` elements; false, after a sentence on stderr, if it is not to be had or
 * negative. */
bool bench_array_make(bench_array *array, tenon_dtype dtype, int64_t count);
void bench_array_free(bench_array *array);

/* Values spread evenly over [-1, 1), or whole numbers over all that s8 and u8 hold, decided by
 * `seed` alone. */
void bench_array_fill(bench_array *array, uint64_t seed);

/* NaN in every element (all bits set for integers), so that an element nobody writes is seen. */
void bench_array_poison(bench_array *array);

/* Element `index` as a double. */
double bench_array_get(const bench_array *array, int64_t index);

/* Makes the next access to the data come from memory. */
void bench_array_evict(const bench_array *array);

/* Half the distance from 1 to the next value of the type: the largest relative error of one
 * rounding. 0 for integers. */
double bench_rounding(tenon_dtype dtype);

/* Numbers for picking samples: xorshift64* (Vigna, 2016); the state must not be 0. */
uint64_t bench_random(uint64_t *state);

#endif
