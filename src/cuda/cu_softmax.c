/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_softmax.c: softmax on CUDA devices by kernels/softmax.cu, without workspace: a warp to a short
 * row, a block to a longer one, which changes no bit.
 */
#include "cuda/cu_attention.h"
#include "cuda/cu_kernels.h"
#include "ops/numbers.h"

_Static_assert(sizeof(tn_cu_softmax) <= TN_CU_PARAMETER_BYTES, "a kernel's struct");
_Static_assert((int)TN_CU_SOFTMAX_OPERANDS == (int)TN_SOFTMAX_ROLES &&
                   TN_CU_DIMS == TENON_MAX_RANK - 1,
               "a kernel's struct holds a problem");

enum { THREADS = 256, WARPS = THREADS / 32 };
#define MOST_BLOCKS ((int64_t)1 << 20)

typedef struct softmax_state {
    int32_t f64, is_short;
} softmax_state;

tenon_status tn_cu_softmax_plan(const tn_cu_limits *limits, const tn_softmax_problem *p,
                                tn_choices *out, tn_message *why) {
    static const char *const kernels[2][2] = {{"softmax_long_f32", "softmax_short_f32"},
                                              {"softmax_long_f64", "softmax_short_f64"}};
    const softmax_state s = {.f64 = p->accumulate == TENON_F64,
                             .is_short = p->length <= TN_CU_SOFTMAX_SHORT};
    tn_choice choice;
    (void)why;
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, &s, sizeof s);
    choice.algorithm = s.is_short ? "softmax-warp" : "softmax-block";
    choice.kernel = kernels[s.f64][s.is_short];
    choice.reason = s.is_short ? "rows that the registers of a warp hold" : "long rows";
    /* Reads once if a row is one chunk, else twice; 5 launches' worth of instructions each. */
    const double bandwidth =
        limits->memory_bytes_per_second > 0 ? limits->memory_bytes_per_second : 3e11;
    const double bytes = (double)tn_element_size(p->operand[TN_SOFTMAX_X].dtype) *
                             (p->length > TN_CU_SOFTMAX_CHUNK ? 2 : 1) +
                         (double)tn_element_size(p->operand[TN_SOFTMAX_Y].dtype);
    choice.seconds = (double)p->rows * (double)p->length * bytes / (0.6 * bandwidth) + 4e-6;
    out->count = 0;
    tn_choices_offer(out, &choice);
    return TENON_OK;
}

tenon_status tn_cu_softmax_run(tn_cu_work *work, const tn_run *run, tn_message *why) {
    const tn_softmax_problem *p = run->problem;
    softmax_state s;
    tn_cu_softmax n = {.length = p->length,
                       .rows = p->rows,
                       .offset = p->offset,
                       .left = p->left,
                       .right = p->right,
                       .scale = p->scale,
                       .softcap = p->softcap,
                       .rank = p->rank,
                       .query_dim = p->query_dim,
                       .as_log = p->log};
    memcpy(&s, run->choice->state, sizeof s);
    for (int32_t d = 0; d < TN_CU_DIMS; d++)
        n.extent[d] = d < p->rank ? p->extent[d] : 1;
    for (int role = 0; role < TN_SOFTMAX_ROLES; role++) {
        const tn_softmax_operand *o = &p->operand[role];
        const int64_t size = tn_element_size(o->dtype);
        if (o->dtype == TENON_DTYPE_NONE)
            continue;
        n.type[role] = (int32_t)o->dtype;
        n.at[role] = tn_cu_address(&run->places->operand[role]);
        n.step[role] = o->step * size;
        for (int32_t d = 0; d < p->rank; d++)
            n.row[role][d] = o->row[d] * size;
    }
    if (p->rows == 0)
        return TENON_OK;
    const int64_t blocks = s.is_short ? tn_ceil_div(p->rows, WARPS) : p->rows;
    tn_cu_launch l = {.module = "softmax",
                      .kernel = run->choice->kernel,
                      .grid = {(unsigned)tn_min64(blocks, MOST_BLOCKS)},
                      .group = {THREADS},
                      .parameter_bytes = sizeof n};
    memcpy(l.parameters, &n, sizeof n);
    return tn_cu_launch_add(work, &l, why);
}
