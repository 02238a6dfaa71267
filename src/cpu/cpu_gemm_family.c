/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_family.c: which tile family serves a product: what its operands' types, zero points and
 * scales let the processor multiply.
 *
 * Asked by the chooser and by whoever packs. The answer decides the order of sums, so it must be a
 * function of the processor and of what docs/NUMERICS.md, 3.3 and 3.7, names: never of m, n, or
 * strides.
 */
#include "cpu/cpu_gemm.h"
#include "cpu/cpu_kernels.h"

/* The largest magnitude of a byte of an operand less its zero; 0: not a byte, or the zero may be
 * anything. */
static int64_t largest_byte(const tn_gemm_problem *p, int role, int zero_role) {
    const tenon_dtype type = p->operand[role].dtype, zero = p->operand[zero_role].dtype;
    if ((type != TENON_S8 && type != TENON_U8) || (zero && zero != TENON_S8 && zero != TENON_U8))
        return 0;
    if (!zero)
        return type == TENON_S8 ? 128 : 255;
    return type == zero ? 255 : 383;
}

/* Whether sums of the operands, less their zeros, are exact in s32, with scales that can wait for
 * them. */
static bool exact_in_s32(const tn_gemm_problem *p) {
    const int64_t a = largest_byte(p, TN_GEMM_A, TN_GEMM_A_ZERO),
                  b = largest_byte(p, TN_GEMM_B, TN_GEMM_B_ZERO);
    return a > 0 && b > 0 && p->k <= INT32_MAX / (a * b) && tn_gemm_ungrouped(p, TN_GEMM_A_SCALE) &&
           tn_gemm_ungrouped(p, TN_GEMM_B_SCALE);
}

/* Types that bf16 holds exactly, without zero points, with scales that can wait for the sums. */
static bool exact_in_bf16(const tn_gemm_problem *p) {
    for (int role = TN_GEMM_A; role <= TN_GEMM_B; role++) {
        const tenon_dtype type = p->operand[role].dtype;
        if (type != TENON_BF16 && type != TENON_F8_E4M3 && type != TENON_F8_E5M2)
            return false;
    }
    return tn_gemm_ungrouped(p, TN_GEMM_A_SCALE) && tn_gemm_ungrouped(p, TN_GEMM_B_SCALE) &&
           !tn_gemm_present(p, TN_GEMM_A_ZERO) && !tn_gemm_present(p, TN_GEMM_B_ZERO);
}

/* Whether A, beside B of blocks, is rounded to bytes: asked for, and neither has other factors. */
static bool may_round(const tn_gemm_problem *p) {
    return p->compute == TENON_COMPUTE_FAST && !tn_gemm_present(p, TN_GEMM_A_SCALE) &&
           !tn_gemm_present(p, TN_GEMM_A_ZERO) && !tn_gemm_present(p, TN_GEMM_B_SCALE) &&
           !tn_gemm_present(p, TN_GEMM_B_ZERO);
}

const tn_gemm_tile *tn_cpu_gemm_tile(tn_cpu_isa isa, const tn_gemm_problem *p) {
    const tn_gemm_tile *dots = NULL;
    if (tn_gemm_of_blocks(p))
        return may_round(p) ? tn_cpu_bytes_find(p->operand[TN_GEMM_B].dtype, isa)
                            : tn_cpu_tile_find(TENON_F32, isa.level);
    if (exact_in_s32(p)) {
        if (tn_gemm_ungrouped(p, TN_GEMM_A_ZERO) && tn_gemm_ungrouped(p, TN_GEMM_B_ZERO))
            dots = tn_cpu_dot_find(TENON_S32, TENON_S8, isa);
        return dots ? dots : tn_cpu_dot_find(TENON_S32, TN_S16, isa);
    }
    if (p->accumulate == TENON_F32 && exact_in_bf16(p))
        dots = tn_cpu_dot_find(TENON_F32, TENON_BF16, isa);
    /* Longer integer sums are kept in f64, where they are exact up to 2^53. */
    return dots ? dots
                : tn_cpu_tile_find(p->accumulate == TENON_F32 ? TENON_F32 : TENON_F64, isa.level);
}
