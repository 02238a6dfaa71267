/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor_map.h: what the stand-in keeps in the 128 opaque bytes of a CUtensorMap (tiled mode).
 */
#ifndef TEST_TENSOR_MAP_H
#define TEST_TENSOR_MAP_H

#include "sim.h"

enum { TENSOR_MAP_MAGIC = 0x544d4150 };

typedef struct tensor_map {
    u32 magic;
    u8 rank, element, swizzle, nan_fill; /* element: bytes; swizzle: 0, 32, 64, 128 bytes */
    u8 step[8];                          /* of elements, each dimension */
    u64 address;
    u32 size[5];
    u32 box[5];
    u64 pitch[4]; /* bytes from one index of dimension n + 1 to the next */
} tensor_map;

/* A 16-byte chunk's place under a swizzle: address bits 4.. are changed by bits 7.. (PTX ISA,
 * "Swizzling modes"). */
static inline u32 tensor_swizzled(u32 offset, u32 bytes) {
    u32 bits = bytes == 128 ? 7 : bytes == 64 ? 3 : bytes == 32 ? 1 : 0;
    return offset ^ ((offset >> 7 & bits) << 4);
}

#endif
