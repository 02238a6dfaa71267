/* SPDX-License-Identifier: Apache-2.0 */
/*
 * softmax_f64.c: the f64 family of softmax and attention row kernels of one level.
 *
 * Compiled once per level; exports one constant, tn_softmax_kernels_f64_<level>.
 */
#include "vec.h"

#include "math_f64.h"
#include "softmax_exp.h"
#include "softmax_kernels.h"
#include "softmax_stream.h"
#include "vec_columns.h"

#define REAL double
#define VEC vd
#define LANES VD
#define V(op) vd_##op
#define VM(op) vdm_##op
#define KEEP(p, n) vdm_load_u8_n((p), (n))
#define EXP tn_vd_exp_negative
#define TANH tn_vd_tanh

#include "softmax_scores.inc"

#include "softmax_rows.inc"

#include "attention_rows.inc"

#define SOURCE double
#define TAG f64
#define LOAD vd_load
#define LOAD_N vd_load_n
#define ONE(x) (x)
#define COLUMNS vd_columns_f64
#include "attention_walk.inc"

#define SOURCE float
#define TAG f32
#define LOAD vd_load_f32
#define LOAD_N vd_load_f32_n
#define ONE(x) (x)
#define COLUMNS vd_columns_f32
#include "attention_walk.inc"

#define EACH_WALK(X)                                                                               \
    X(TENON_F64, f64)                                                                              \
    X(TENON_F32, f32)

#define TYPE f64
#define DTYPE TENON_F64
#include "softmax_table.inc"
