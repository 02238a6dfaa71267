/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/cpu_kernels.h"

static const tn_gemm_tile *const tiles[] = {
#define TN_GEMM_TILE(tag, mr, nr, level, a_panel, b_panel, group, type)                            \
    &tn_gemm_tile_##tag##_##level,
#include "cpu/kernels/gemm_tiles.def"
#undef TN_GEMM_TILE
};

static const tn_softmax_kernels *const row_kernels[] = {
#define TN_SOFTMAX_KERNELS(type, level) &tn_softmax_kernels_##type##_##level,
#include "cpu/kernels/softmax_kernels.def"
#undef TN_SOFTMAX_KERNELS
};

const tn_gemm_tile *tn_cpu_tile_find(tenon_dtype type, tn_cpu_level level) {
    const tn_gemm_tile *best = NULL;
    for (size_t i = 0; i < sizeof tiles / sizeof tiles[0]; ++i)
        if (tiles[i]->type == type && tiles[i]->a_panel == type && tiles[i]->level <= level &&
            (!best || tiles[i]->level > best->level))
            best = tiles[i];
    return best;
}

static const tn_gemm_tile *const dots[] = {
#define TN_GEMM_DOT(tag, variant) &tn_gemm_tile_##tag##_##variant,
#include "cpu/kernels/gemm_dots.def"
#undef TN_GEMM_DOT
};

const tn_gemm_tile *tn_cpu_dot_find(tenon_dtype type, tenon_dtype b_panel, tn_cpu_isa isa) {
    const tn_gemm_tile *best = NULL;
    for (size_t i = 0; i < sizeof dots / sizeof dots[0]; ++i)
        if (dots[i]->type == type && dots[i]->b_panel == b_panel && dots[i]->level <= isa.level &&
            (dots[i]->needs & ~isa.features) == 0)
            best = dots[i];
    return best;
}

static const tn_gemm_tile *const bytes[] = {
#define TN_GEMM_BYTES(variant) tn_gemm_bytes_##variant,
#include "cpu/kernels/gemm_bytes.def"
#undef TN_GEMM_BYTES
};

const tn_gemm_tile *tn_cpu_bytes_find(tenon_dtype b, tn_cpu_isa isa) {
    const tn_gemm_tile *best = NULL;
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; ++i)
        if (bytes[i]->level <= isa.level && (bytes[i]->needs & ~isa.features) == 0)
            best = &bytes[i][b - TENON_Q8_0];
    return best;
}

const tn_softmax_kernels *tn_cpu_softmax_find(tenon_dtype type, tn_cpu_level level) {
    const tn_softmax_kernels *best = NULL;
    for (size_t i = 0; i < sizeof row_kernels / sizeof row_kernels[0]; ++i)
        if (row_kernels[i]->type == type && row_kernels[i]->level <= level &&
            (!best || row_kernels[i]->level > best->level))
            best = row_kernels[i];
    return best;
}
