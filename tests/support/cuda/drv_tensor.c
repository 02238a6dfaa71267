/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drv_tensor.c: cuTensorMapEncodeTiled, with the limits of its documentation.
 */
#include "drv.h"
#include "tensor_map.h"

#include <string.h>

static u32 element_bytes(CUtensorMapDataType t) {
    switch (t) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
        return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
        return 2;
    case CU_TENSOR_MAP_DATA_TYPE_INT64:
    case CU_TENSOR_MAP_DATA_TYPE_UINT64:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
        return 8;
    default:
        return 4;
    }
}

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank,
                                void *address, const cuuint64_t *size, const cuuint64_t *pitch,
                                const cuuint32_t *box, const cuuint32_t *step,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
    (void)promotion;
    CUresult r = drv_enter(__func__, false);
    if (r != CUDA_SUCCESS)
        return r;
    tensor_map t = {.magic = TENSOR_MAP_MAGIC,
                    .rank = (u8)rank,
                    .element = (u8)element_bytes(type),
                    .nan_fill = fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
                    .address = (u64)(uintptr_t)address};
    static const u8 swizzles[] = {0, 32, 64, 128};
    if (rank == 0 || rank > 5 || t.address % 16 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
        swizzle > CU_TENSOR_MAP_SWIZZLE_128B)
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    t.swizzle = swizzles[swizzle];
    for (u32 n = 0; n < rank; ++n) {
        if (size[n] == 0 || size[n] > UINT32_MAX || box[n] == 0 || box[n] > 256 || step[n] == 0 ||
            step[n] > 8 || (n > 0 && (pitch[n - 1] % 16 || pitch[n - 1] >> 40)))
            return drv_leave(CUDA_ERROR_INVALID_VALUE);
        t.size[n] = (u32)size[n];
        t.box[n] = box[n];
        t.step[n] = (u8)step[n];
        if (n > 0)
            t.pitch[n - 1] = pitch[n - 1];
    }
    u32 inner = t.box[0] * t.element;
    if (inner % 16 || (t.swizzle && inner > t.swizzle) || step[0] != 1)
        return drv_leave(CUDA_ERROR_INVALID_VALUE);
    memset(map, 0, sizeof *map);
    memcpy(map, &t, sizeof t);
    _Static_assert(sizeof t <= sizeof *map, "it must fit");
    return drv_leave(CUDA_SUCCESS);
}
