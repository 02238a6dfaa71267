/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_pack.cu: B's columns with their elements side by side, behind a head (cu_gemm_packed.c).
 * Tiles of 32 x 32 elements turn in shared memory: read along whichever lies closer, written along
 * k.
 */
#include "../cu_gemm.h"
#include "number.cuh"

enum { THREADS = 256, SIDE = TN_CU_PACK_SIDE };

/* T: as wide as an element. */
template <class T> TN_DEVICE void pack(const tn_cu_gemm_pack &x) {
    __shared__ T tile[SIDE][SIDE + 1]; /* column, element */
    const int64_t along = ceil_div(x.count, SIDE), across = ceil_div(x.columns, SIDE);
    const bool by_elements = x.from_element <= x.from_column || x.columns == 1;
    if (blockIdx.x == 0 && threadIdx.x < 8)
        ((uint64_t *)x.head_at)[threadIdx.x] = x.head[threadIdx.x];
    for (int64_t index = blockIdx.x; index < x.members * across * along; index += gridDim.x) {
        const int64_t p0 = index % along * SIDE, j0 = index / along % across * SIDE;
        int64_t member = index / along / across;
        const char *from = (const char *)x.from;
        char *to = (char *)x.to;
#pragma unroll 1
        for (int d = TN_CU_GEMM_BATCH - 1; d >= 0; d--) {
            from += member % x.batch[d] * x.from_step[d];
            to += member % x.batch[d] * x.to_step[d];
            member /= x.batch[d];
        }
        __syncthreads();
        for (int n = threadIdx.x; n < SIDE * SIDE; n += THREADS) {
            const int c = by_elements ? n / SIDE : n % SIDE, p = by_elements ? n % SIDE : n / SIDE;
            if (j0 + c < x.columns && p0 + p < x.count)
                tile[c][p] =
                    *(const T *)(from + (j0 + c) * x.from_column + (p0 + p) * x.from_element);
        }
        __syncthreads();
        for (int n = threadIdx.x; n < SIDE * SIDE; n += THREADS) {
            const int c = n / SIDE, p = n % SIDE;
            if (j0 + c < x.columns && p0 + p < x.count)
                ((T *)(to + (j0 + c) * x.to_column))[p0 + p] = tile[c][p];
        }
    }
}

TN_KERNEL __launch_bounds__(THREADS) gemm_pack_1(const __grid_constant__ tn_cu_gemm_pack x) {
    pack<uint8_t>(x);
}
TN_KERNEL __launch_bounds__(THREADS) gemm_pack_2(const __grid_constant__ tn_cu_gemm_pack x) {
    pack<uint16_t>(x);
}
TN_KERNEL __launch_bounds__(THREADS) gemm_pack_4(const __grid_constant__ tn_cu_gemm_pack x) {
    pack<uint32_t>(x);
}
TN_KERNEL __launch_bounds__(THREADS) gemm_pack_8(const __grid_constant__ tn_cu_gemm_pack x) {
    pack<uint64_t>(x);
}
