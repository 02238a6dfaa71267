/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_gemm_maps.c: operands of products as tensor maps, by which gemm_wgmma.cu brings them: a plan
 * asks whether strides allow it, a run makes them of its addresses.
 *
 * A map has four dimensions: what lies side by side, the other way through the matrix, and two of
 * the batch. The batch's extents that an operand doesn't move with are left out, and neighbours
 * that lie as one are joined, so that two are enough for all but the oddest.
 */
#include <cuda.h>

#include "cuda/cu_gemm_plan.h"

/* Coordinates are of 32 bits, and a tile may reach beyond an edge; strides have 40. */
#define MOST_EXTENT (((int64_t)1 << 31) - TN_CU_MAPPED_TILE)
#define MOST_STRIDE (((int64_t)1 << 40) - 1)

static bool good_stride(int64_t bytes) {
    return bytes > 0 && bytes % 16 == 0 && bytes <= MOST_STRIDE;
}

/* Adds an extent of the batch that lies outside of those before. */
static bool add_batch(tn_cu_gemm_box *box, int *count, int64_t over, int64_t extent,
                      int64_t stride) {
    if (extent == 1 || stride == 0)
        return true;
    if (*count > 0) {
        const int last = *count - 1;
        if (box->over[last] * box->batch[last] == over &&
            box->stride[1 + last] * box->batch[last] == stride) {
            box->batch[last] *= extent;
            return true;
        }
    }
    if (*count == TN_CU_MAP_BATCH || !good_stride(stride))
        return false;
    box->over[*count] = over;
    box->batch[*count] = extent;
    box->stride[1 + *count] = stride;
    ++*count;
    return true;
}

bool tn_cu_gemm_box_of(const tn_gemm_problem *p, int role, tenon_dtype type, tn_cu_gemm_box *box) {
    const tn_gemm_operand *o = &p->operand[role];
    const bool is_a = role == TN_GEMM_A;
    const int64_t step = is_a ? o->column : o->row, line = is_a ? o->row : o->column;
    const int64_t lines = is_a ? p->m : p->gated == TENON_GATED_NONE ? p->n : 2 * p->n;
    const int64_t size = tn_element_size(type);
    int count = 0;
    if (o->dtype != type || size != 2 || p->pointer_array || (step != 1 && line != 1))
        return false;
    box->turned = step != 1;
    box->extent[0] = box->turned ? lines : p->k;
    box->extent[1] = box->turned ? p->k : lines;
    box->stride[0] = (box->turned ? step : line) * size;
    for (int d = 0; d < 2; d++)
        if (box->extent[d] < 1 || box->extent[d] > MOST_EXTENT)
            return false;
    if (!good_stride(box->stride[0]) || box->stride[0] < box->extent[0] * size)
        return false;
    for (int d = 0; d < TN_CU_MAP_BATCH; d++)
        box->over[d] = box->batch[d] = 1;
    if (p->experts > 0) {
        if (!add_batch(box, &count, 1, p->experts, o->batch[0] * size))
            return false;
    } else {
        int64_t over = 1;
        for (int d = p->batch_rank - 1; d >= 0; d--) {
            if (!add_batch(box, &count, over, p->batch[d], o->batch[d] * size))
                return false;
            over *= p->batch[d];
        }
    }
    for (int d = count; d < TN_CU_MAP_BATCH;
         d++) { /* extents of 1, which lie outside of all others */
        const int64_t extent = d == 0 ? box->extent[1] : box->batch[d - 1];
        const bool fits = box->stride[d] <= MOST_STRIDE / extent;
        box->stride[1 + d] = fits ? box->stride[d] * extent : box->stride[d];
    }
    return box->batch[0] <= MOST_EXTENT && box->batch[1] <= MOST_EXTENT;
}

/* False where the driver makes no map, as of an address that is no multiple of 16. */
static bool make_map(tn_cu_work *work, const tn_gemm_problem *p, int role, tenon_dtype type,
                     uint64_t address, tn_cu_gemm_map *out) {
    static const uint32_t box64[4] = {64, 64, 1, 1};
    tn_cu_gemm_box box;
    if (address % 16 != 0 || !tn_cu_gemm_box_of(p, role, type, &box))
        return false;
    const uint64_t extent[4] = {(uint64_t)box.extent[0], (uint64_t)box.extent[1],
                                (uint64_t)box.batch[0], (uint64_t)box.batch[1]};
    const uint64_t stride[3] = {(uint64_t)box.stride[0], (uint64_t)box.stride[1],
                                (uint64_t)box.stride[2]};
    for (int d = 0; d < TN_CU_MAP_BATCH; d++) {
        out->over[d] = box.over[d];
        out->extent[d] = box.batch[d];
    }
    return tn_cu_tensor_map(work, out->map, address,
                            type == TENON_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                              : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                            4, extent, stride, box64, CU_TENSOR_MAP_SWIZZLE_128B);
}

bool tn_cu_gemm_map_operands(tn_cu_work *work, const tn_gemm_problem *p, tn_cu_gemm_mapped *x) {
    const tenon_dtype type = p->operand[TN_GEMM_A].dtype;
    return make_map(work, p, TN_GEMM_A, type, x->g.at[TN_GEMM_A], &x->a) &&
           make_map(work, p, TN_GEMM_B, type, x->g.at[TN_GEMM_B], &x->b);
}
