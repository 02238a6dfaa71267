/* SPDX-License-Identifier: Apache-2.0 */
/*
 * softmax_f32.c: the f32 family of softmax and attention row kernels of one level.
 *
 * Compiled once per level; exports one constant, tn_softmax_kernels_f32_<level>.
 */
#include "vec_quads.h"

#include "math_f32.h"
#include "ops/blocks.h"
#include "softmax_exp.h"
#include "softmax_kernels.h"
#include "softmax_stream.h"
#include "vec_columns.h"

#define REAL float
#define VEC vf
#define LANES VF
#define V(op) vf_##op
#define VM(op) vfm_##op
#define KEEP(p, n) ((n) == LANES ? vfm_load_u8(p) : vfm_load_u8_n((p), (n)))
#define EXP tn_v_exp_negative
#define TANH tn_v_tanh

#include "softmax_scores.inc"

#include "softmax_rows.inc"

#include "attention_rows.inc"

#define SOURCE float
#define TAG f32
#define LOAD vf_load
#define LOAD_N vf_load_n
#define ONE(x) (x)
#define COLUMNS vf_columns_f32
#include "attention_walk.inc"

#define SOURCE uint16_t
#define TAG f16
#define LOAD vf_load_f16
#define LOAD_N vf_load_f16_n
#define ONE tn_f16_to_f32
#define COLUMNS vf_columns_f16
#include "attention_walk.inc"

#define SOURCE uint16_t
#define TAG bf16
#define LOAD vf_load_bf16
#define LOAD_N vf_load_bf16_n
#define ONE tn_bf16_to_f32
#define COLUMNS vf_columns_bf16
#include "attention_walk.inc"

#define SOURCE uint8_t
#define TAG f8e4m3
#define LOAD vf_load_f8e4m3
#define LOAD_N vf_load_f8e4m3_n
#define ONE tn_f8e4m3_to_f32
#define COLUMNS vf_columns_f8e4m3
#include "attention_walk.inc"

#define SOURCE uint8_t
#define TAG f8e5m2
#define LOAD vf_load_f8e5m2
#define LOAD_N vf_load_f8e5m2_n
#define ONE tn_f8e5m2_to_f32
#define COLUMNS vf_columns_f8e5m2
#include "attention_walk.inc"

#define SOURCE int8_t
#define TAG s8
#define LOAD vf_load_s8
#define LOAD_N vf_load_s8_n
#define ONE(x) (x)
#define COLUMNS vf_columns_s8
#include "attention_walk.inc"

#include "attention_walk_blocks.inc"

#define TAG q8_0
#include "attention_walk_values.inc"

#define TAG q4_0
#include "attention_walk_values.inc"

#define TAG q4_1
#include "attention_walk_values.inc"

#define TAG q5_0
#include "attention_walk_values.inc"

#define TAG q5_1
#include "attention_walk_values.inc"

#define TAG iq4_nl
#include "attention_walk_values.inc"

#define TAG mxfp4
#include "attention_walk_values.inc"

#define EACH_WALK(X)                                                                               \
    X(TENON_F32, f32)                                                                              \
    X(TENON_F16, f16)                                                                              \
    X(TENON_BF16, bf16)                                                                            \
    X(TENON_F8_E4M3, f8e4m3)                                                                       \
    X(TENON_F8_E5M2, f8e5m2)                                                                       \
    X(TENON_S8, s8)                                                                                \
    X(TENON_Q8_0, q8_0)                                                                            \
    X(TENON_Q4_0, q4_0)                                                                            \
    X(TENON_Q4_1, q4_1)                                                                            \
    X(TENON_Q5_0, q5_0)                                                                            \
    X(TENON_Q5_1, q5_1)                                                                            \
    X(TENON_IQ4_NL, iq4_nl)                                                                        \
    X(TENON_MXFP4, mxfp4)

#define TYPE f32
#define DTYPE TENON_F32
#include "softmax_table.inc"
