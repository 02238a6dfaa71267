/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_kernels.h: finds kernel families by compute type and level in the tables of src/cpu/kernels.
 */
#ifndef TN_CPU_KERNELS_H
#define TN_CPU_KERNELS_H

#include "cpu/cpu_features.h"
#include "cpu/cpu_numbers.h"
#include "cpu/kernels/gemm_kernels.h"
#include "cpu/kernels/softmax_kernels.h"

/* The family for f32 or f64, panels included, of the best level up to `level`; never NULL. */
const tn_gemm_tile *tn_cpu_tile_find(tenon_dtype type, tn_cpu_level level);
/* The family of gemm_dots.def with these sums and panels; NULL if the processor has none (s16 to
 * s32 is at every level). */
const tn_gemm_tile *tn_cpu_dot_find(tenon_dtype type, tenon_dtype b_panel, tn_cpu_isa isa);
/* The family of gemm_bytes.def for a block type; never NULL. */
const tn_gemm_tile *tn_cpu_bytes_find(tenon_dtype b, tn_cpu_isa isa);
const tn_softmax_kernels *tn_cpu_softmax_find(tenon_dtype type, tn_cpu_level level);

#endif
