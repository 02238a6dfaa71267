/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_mma.h: element types of matrix products, for mma.sync and wgmma.
 */
#ifndef TEST_OP_MMA_H
#define TEST_OP_MMA_H

#include "formats.h"

typedef enum mma_type {
    MMA_F16,
    MMA_BF16,
    MMA_TF32,
    MMA_E4M3,
    MMA_E5M2,
    MMA_S8,
    MMA_U8,
    MMA_S4,
    MMA_U4,
    MMA_F64,
    MMA_TYPES
} mma_type;

int mma_type_of(const char *word);
u32 mma_type_bits(u32 type);
/* n elements of a type, as they lie in memory, to floats. */
void mma_to_floats(u32 type, const void *from, float *to, u32 n);
void mma_to_ints(u32 type, const void *from, s32 *to, u32 n);

#endif
