/* SPDX-License-Identifier: Apache-2.0 */
/*
 * softmax_f32.c: the f32 family of softmax and attention row kernels of one level.
 *
 * Compiled once per level; exports one constant, tn_softmax_kernels_f32_<level>.
 */
#include "vec.h"

#include "math_f32.h"
#include "softmax_exp.h"
#include "softmax_kernels.h"
#include "softmax_stream.h"

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

#define TYPE f32
#define DTYPE TENON_F32
#include "softmax_table.inc"
