/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_records.cuh: rows of A as bytes, for products with block types (gemm_blocks.cu,
 * gemm_blocks_mma.cu): what a record has where, and exact sums whose bits are floats'.
 */
#ifndef TN_GEMM_RECORDS_CUH
#define TN_GEMM_RECORDS_CUH

#include "number.cuh"

/* Words of a record: eight of bytes, the scale, the starts of the exact sums, the sum of the bytes. */
enum { RECORD_SCALE = 8, RECORD_START = 9, RECORD_SUM = 11, RECORD_WORDS = 12 };

/* Integers below 2^22 in magnitude, added to these bits, make the float 1.5 * 2^23 and the integer. */
#define MAGIC_BITS 0x4b400000u
TN_DEVICE float from_magic(uint32_t sum) {
    return __int_as_float((int)sum) - 0x1.8p23f;
}

/* c + four bytes with signs times four without. */
TN_DEVICE uint32_t dot4(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("dp4a.s32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

#endif
