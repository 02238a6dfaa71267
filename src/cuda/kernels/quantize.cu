/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quantize.cu: blocks to numbers. A warp takes 256 elements of a row, its blocks by way of shared
 * memory; then 32 at a time, each lane decodes the unit's scales and the word that has its element.
 */
#include "../cu_quantize.h"
#include "blocks.cuh"

enum { WARPS = 8, RUN = TN_CU_RUN_UNITS * 32, WORDS = (3 + 272 + 3) / 4 + 1 };

TN_KERNEL __launch_bounds__(WARPS * 32) dequantize(const __grid_constant__ tn_cu_dequantize d) {
    __shared__ uint32_t raw[WARPS][WORDS];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, type = d.x_type;
    const int64_t runs = ceil_div(d.n, RUN);
    for (int64_t index = (int64_t)blockIdx.x * WARPS + warp; index < d.rows * runs;
         index += (int64_t)gridDim.x * WARPS) {
        const int64_t u0 = index % runs * TN_CU_RUN_UNITS;
        const int units = (int)min_of(d.n / 32 - u0, TN_CU_RUN_UNITS);
        const char *x = (const char *)d.x + bytes_of_units(type, u0);
        char *y = (char *)d.y + (u0 * 32 + lane) * d.y_step;
        int64_t row = index / runs;
#pragma unroll 1
        for (int i = TN_CU_QUANTIZE_RANK - 1; i >= 0; i--) {
            x += row % d.extent[i] * d.x_row[i];
            y += row % d.extent[i] * d.y_row[i];
            row /= d.extent[i];
        }
        __syncwarp();
        copy_run(raw[warp], x, (int)bytes_of_units(type, units), WORDS);
        end_of_copies();
        await_runs<0>();
        __syncwarp();
#pragma unroll 1
        for (int u = 0; u < units; u++, y += 32 * d.y_step) {
            const unit one = unit_at(
                raw[warp], head_of(x) + (uint32_t)(u / block_units(type) * block_bytes(type)), type,
                u % block_units(type));
            uint32_t four[4]; /* of eight words one, in halves: registers have no addresses */
#pragma unroll
            for (int g = 0; g < 4; g++)
                four[g] = lane & 16 ? one.q[g + 4] : one.q[g];
            const uint32_t low = lane & 8 ? four[2] : four[0], high = lane & 8 ? four[3] : four[1],
                           word = lane & 4 ? high : low;
            put<float>(y, d.y_type, value_of(values_of(one, type), word, lane));
        }
    }
}
