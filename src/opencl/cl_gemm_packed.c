/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_gemm_packed.c: a B that the caller has packed once (tenon_gemm_pack): a head of facts with a
 * checksum, then each distinct member in the layout of kernels/gemm_pack.cl, with scales and zero
 * points applied, in the type of the products.
 *
 * Blocks stay what they are, column after column; B's scales and zero points are applied when they
 * are decoded.
 *
 * Kernels of the CPU-like family read panels as they would their own, the others element by element
 * (b_at in kernels/gemm.cl), so the width of panels is all that must agree.
 */
#include "opencl/cl_gemm.h"

#include "core/checked.h"
#include "ops/blocks.h"
#include "ops/packed.h"

#define PACK_MAGIC UINT64_C(0x31304c4347544e54) /* "TNTGCL01" in memory order */

_Static_assert(sizeof(tn_packed_head) == TN_CL_PACKED_HEAD, "panels are aligned as the whole is");

/* Packing knows nothing of A but its type, so this depends on B: f64 where f32 can't hold what an
 * exact product of integers needs. */
tenon_dtype tn_cl_packed_type(const tn_gemm_problem *p) {
    if (tn_cl_gemm_of_blocks(p))
        return p->operand[TN_GEMM_B].dtype;
    const int32_t sum = tn_cl_gemm_sum(p);
    return sum == 1 || (sum == 2 && tn_cl_gemm_largest(p, TN_GEMM_B, TN_GEMM_B_ZERO) == 0)
               ? TENON_F64
               : TENON_F32;
}

bool tn_cl_packed_differs(const tn_gemm_problem *p, int32_t d) {
    return p->operand[TN_GEMM_B].batch[d] != 0 || p->operand[TN_GEMM_B_SCALE].batch[d] != 0 ||
           p->operand[TN_GEMM_B_ZERO].batch[d] != 0 || p->experts > 0;
}

/* Columns of all panels of a member. */
static int64_t columns_of(const tn_gemm_problem *p, int64_t width) {
    return tn_round_up(p->n, tn_max64(width, 1)) * (p->gated != TENON_GATED_NONE ? 2 : 1);
}

int64_t tn_cl_packed_member(const tn_gemm_problem *p, int64_t width) {
    return columns_of(p, width) * tn_bytes_of(tn_cl_packed_type(p), p->k);
}

/* The problem with the batch dimensions of which B has members of their own. */
static tn_gemm_problem distinct(const tn_gemm_problem *p) {
    tn_gemm_problem out = *p;
    if (p->experts > 0)
        return out;
    out.batch_rank = 0;
    out.batch_count = 1;
    for (int32_t d = 0; d < p->batch_rank; d++) {
        const int32_t to = out.batch_rank;
        if (!tn_cl_packed_differs(p, d))
            continue;
        out.batch[to] = p->batch[d];
        out.batch_count *= p->batch[d];
        for (int role = 0; role < TN_GEMM_ROLES; role++)
            out.operand[role].batch[to] = p->operand[role].batch[d];
        ++out.batch_rank;
    }
    return out;
}

static int64_t members_of(const tn_gemm_problem *p) {
    const tn_gemm_problem d = distinct(p);
    return p->experts > 0 ? p->experts : d.batch_count;
}

/* What packs: the sums' type is that of the elements. */
static tn_cl_gemm_state packing(const tn_cl_limits *limits, const tn_gemm_problem *p) {
    tn_cl_gemm_state plan = {.kind = TN_CL_GEMM_TILE,
                             .sum = tn_cl_packed_type(p) == TENON_F64 ? 1 : tn_cl_gemm_sum(p),
                             .fp64 = limits->fp64};
    tn_cl_gemm_tile(limits, &plan);
    return plan;
}

int32_t tn_cl_packed_width(const tn_cl_limits *limits, const tn_gemm_problem *p) {
    const tn_cl_gemm_state plan = packing(limits, p);
    if (tn_cl_gemm_of_blocks(p))
        return 0;
    return plan.width * plan.nv;
}

/* The layout: width of panels, type of elements. */
static tn_packed_head head_of(const tn_cl_limits *limits, const tn_gemm_problem *p) {
    return tn_packed_head_of(p, PACK_MAGIC, members_of(p),
                             (uint64_t)tn_cl_packed_width(limits, p) |
                                 (uint64_t)tn_cl_packed_type(p) << 32);
}

tenon_status tn_cl_gemm_pack_size(const tn_cl_limits *limits, const tn_gemm_problem *p,
                                  size_t *bytes, tn_message *why) {
    const int64_t width = tn_cl_packed_width(limits, p);
    int64_t total;
    TN_TRY(tn_cl_gemm_refuse(limits, p, why));
    const tenon_dtype type = tn_cl_packed_type(p);
    const bool blocks = tn_cl_gemm_of_blocks(p);
    if (!tn_mul_i64(columns_of(p, width), blocks ? tn_bytes_of(type, p->k) : p->k, &total) ||
        !tn_mul_i64(total, blocks ? 1 : tn_element_size(type), &total) ||
        !tn_mul_i64(total, members_of(p), &total) ||
        !tn_add_i64(total, TN_CL_PACKED_HEAD, &total) || !tn_size_of_i64(total, bytes))
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT,
                       "b has %lld x %lld elements in %lld members, too many to pack",
                       (long long)p->k, (long long)p->n, (long long)members_of(p));
    return TENON_OK;
}

tenon_status tn_cl_gemm_pack_check(const tn_cl_limits *limits, const tn_gemm_problem *p,
                                   const void *packed, size_t bytes, tn_message *why) {
    const tn_packed_head expected = head_of(limits, p);
    size_t needed = 0;
    TN_TRY(tn_cl_gemm_pack_size(limits, p, &needed, why));
    return tn_packed_head_check(&expected, needed, "an opencl device", packed, bytes, why);
}

/* ---- packing */

static tenon_status write_head(tn_cl_work *work, const char *options, const tn_place *packed,
                               const tn_gemm_problem *p, tn_message *why) {
    const tn_cl_limits *limits = tn_cl_work_limits(work);
    const tn_packed_head head = head_of(limits, p);
    tn_cl_launch l = {.program = "gemm_pack",
                      .kernel = "gemm_label",
                      .options = options,
                      .dims = 1,
                      .global = {1},
                      .local = {1}};
    tn_cl_arg_place(&l, packed);
    tn_cl_arg_bytes(&l, &head, sizeof head);
    return tn_cl_launch_add(work, &l, why);
}

tenon_status tn_cl_gemm_pack_run(tn_cl_work *work, const tn_run *run, tn_message *why) {
    const tn_cl_limits *limits = tn_cl_work_limits(work);
    const tn_gemm_problem *given = run->problem;
    tn_gemm_problem p = distinct(given);
    const tn_place *to = &run->places->operand[TN_GEMM_B_PACKED];
    const tn_cl_gemm_state plan = packing(limits, given);
    const bool blocks = tn_cl_gemm_of_blocks(given);
    const int64_t width = tn_cl_packed_width(limits, given), outer = tn_cl_gemm_outer(&p),
                  inner = members_of(given) / outer;
    char options[TN_CL_OPTIONS];
    tn_cl_gemm g;

    p.operand[TN_GEMM_B_PACKED].dtype = TENON_DTYPE_NONE; /* B is where it was */
    tn_cl_gemm_packing(&plan, &p, options);
    tn_cl_gemm_numbers(&p, run->places, 0, &g);
    g.cols = p.n;
    g.b_panels = columns_of(&p, width) / tn_max64(width, 1);
    g.b_members = (int32_t)inner;
    for (int64_t o = 0; o < outer && p.k > 0 && p.n > 0; o++) {
        tn_cl_launch l = {.program = "gemm_pack",
                          .kernel = "gemm_pack",
                          .options = options,
                          .dims = 3,
                          .global = {(size_t)tn_ceil_div(g.b_panels, TN_CL_PACK_PANELS),
                                     (size_t)tn_ceil_div(p.k, TN_CL_GEMM_KC), (size_t)inner},
                          .local = {1, 1, 1}};
        if (blocks) {
            l.program = l.kernel = "gemm_pack_blocks";
            l.options = "-DTN_SUM=0 -DTN_WIDTH=1 -DTN_EPILOGUE=0";
            l.global[0] = (size_t)g.b_panels;
            l.global[1] = 1;
        }
        tn_cl_gemm_place(&p, run->places, o, &g);
        g.b_packed =
            (int64_t)to->offset + TN_CL_PACKED_HEAD + o * inner * tn_cl_packed_member(given, width);
        tn_cl_gemm_arguments(&l, run->places, to, false, &g);
        TN_TRY(tn_cl_launch_add(work, &l, why));
    }
    return write_head(work, options, to, given, why);
}
