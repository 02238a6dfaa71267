/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_gemm_plan.h: what a plan of a product decides (cu_gemm_plan.c) and its run carries out
 * (cu_gemm.c).
 */
#ifndef TN_CU_GEMM_PLAN_H
#define TN_CU_GEMM_PLAN_H

#include "cuda/cu_gemm.h"
#include "cuda/cu_kernels.h"
#include "ops/numbers.h"

/* Kept in a choice. */
typedef struct tn_cu_gemm_state {
    const char *module, *kernel;
    int32_t rows, cols;   /* of a block's tile */
    int32_t threads;      /* of a block */
    int32_t shared_bytes; /* dynamic */
    int32_t segments;     /* > 1: split over k, in as many parts */
    int32_t scale_after;
    int32_t a_wide, b_wide;
    int64_t blocks; /* of a launch, at most */
} tn_cu_gemm_state;

_Static_assert(sizeof(tn_cu_gemm_state) <= TN_CHOICE_STATE, "a choice keeps it");

#endif
