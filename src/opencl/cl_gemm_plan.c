/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_gemm_plan.c: which kernels a product may run on, with which macros and pieces, and what each
 * is predicted to cost.
 *
 * Called by the host side through tn_cl_gemm_plan(); cl_gemm.c runs what is decided here. Kernels
 * differ in speed and workspace, never in bits: all sum in the order of docs/NUMERICS.md, 3.1.
 */
#include "opencl/cl_gemm.h"

#include "core/checked.h"
#include "ops/blocks.h"
#include "ops/dtype.h"

static bool present(const tn_gemm_problem *p, int role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

/* ---- what the kernels can't do */

tenon_status tn_cl_gemm_refuse(const tn_cl_limits *limits, const tn_gemm_problem *p,
                               tn_message *why) {
    static const char *const names[] = {"a",        "b",       "c",      "bias",
                                        "residual", "a_scale", "a_zero", "b_scale",
                                        "b_zero",   "c_scale", "c_zero"};
    for (int role = TN_GEMM_A; role <= TN_GEMM_C_ZERO; role++) {
        const tenon_dtype type = p->operand[role].dtype;
        if (type > TENON_BOOL && (role != TN_GEMM_B || !tn_block_find(type)))
            return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s.dtype is %s: not yet on this device",
                           names[role], tenon_dtype_name(type));
        if (type == TENON_F64 && !limits->fp64)
            return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                           "%s.dtype is f64, which this device has not got", names[role]);
    }
    if (p->accumulate == TENON_S32 && !limits->fp64)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "a.dtype is %s: exact sums need f64, which this device has not got",
                       tenon_dtype_name(p->operand[TN_GEMM_A].dtype));
    const int64_t outer = tn_cl_gemm_outer(p);
    if (outer > TN_CL_LAUNCHES)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "c.shape has more than %d batch dimensions that can't be joined, which this "
                       "device takes up to %d members of, not %lld",
                       TN_CL_GEMM_BATCH, TN_CL_LAUNCHES, (long long)outer);
    return TENON_OK;
}

/* ---- facts of a product */

bool tn_cl_gemm_of_blocks(const tn_gemm_problem *p) {
    return tn_block_find(p->operand[TN_GEMM_B].dtype) != NULL;
}

/* As the CPU backend has it: asked for, and neither operand has other factors. */
bool tn_cl_gemm_rounds(const tn_gemm_problem *p) {
    return tn_cl_gemm_of_blocks(p) && p->compute == TENON_COMPUTE_FAST &&
           !present(p, TN_GEMM_A_SCALE) && !present(p, TN_GEMM_A_ZERO) &&
           !present(p, TN_GEMM_B_SCALE) && !present(p, TN_GEMM_B_ZERO);
}

int32_t tn_cl_gemm_sum(const tn_gemm_problem *p) {
    return p->accumulate == TENON_F64 ? 1 : p->accumulate == TENON_S32 ? 2 : 0;
}

int64_t tn_cl_gemm_largest(const tn_gemm_problem *p, int role, int zero_role) {
    const tenon_dtype type = p->operand[role].dtype, zero = p->operand[zero_role].dtype;
    if (zero != TENON_DTYPE_NONE && zero != TENON_S8 && zero != TENON_U8)
        return 0;
    if (zero == TENON_DTYPE_NONE)
        return type == TENON_S8 ? 128 : 255;
    return type == zero ? 255 : 383;
}

/* Whether a block's products of integers add up exactly in f32: to at most 2^24. */
bool tn_cl_gemm_in_f32(const tn_gemm_problem *p) {
    const int64_t a = tn_cl_gemm_largest(p, TN_GEMM_A, TN_GEMM_A_ZERO),
                  b = tn_cl_gemm_largest(p, TN_GEMM_B, TN_GEMM_B_ZERO);
    return a > 0 && b > 0 && a * b * TN_CL_GEMM_KC <= 1 << 24;
}

static bool has_epilogue(const tn_gemm_problem *p) {
    return p->activation != TENON_ACTIVATION_NONE || p->gated != TENON_GATED_NONE ||
           present(p, TN_GEMM_RESIDUAL) || present(p, TN_GEMM_C_SCALE) ||
           present(p, TN_GEMM_C_ZERO);
}

static int64_t members_of(const tn_gemm_problem *p) {
    return p->experts > 0 ? p->experts : p->batch_count;
}

/* ---- the prediction */

/*
 * Multiply-adds a second of one compute unit, as far as only their order matters (PoCL on Zen 3,
 * November 2026): of packed operands, of those read in place or packed in private memory, of B that
 * is read once for a few rows, element by element. A launch costs about 15 us there, an element
 * that is packed 0.3 ns.
 */
static double rate_of(const tn_gemm_problem *p, const tn_cl_gemm_state *plan) {
    switch ((tn_cl_gemm_kind)plan->kind) {
    case TN_CL_GEMM_PLAIN:
        return 0.1e9;
    case TN_CL_GEMM_LOCAL:
        /* rows that a tile is filled up with are multiplied too */
        return plan->blocks ? 30e9 * (double)p->m / (double)tn_round_up(p->m, plan->rows) : 30e9;
    case TN_CL_GEMM_FEW:
        return 8e9 * (double)p->m;
    case TN_CL_GEMM_SMALL: {
        /* rows that a micro-tile is filled up with are multiplied too */
        const double filled = (double)p->m / (double)tn_round_up(p->m, plan->mr);
        const bool in_place = p->operand[TN_GEMM_A].dtype == p->accumulate &&
                              (plan->b_width || (p->operand[TN_GEMM_B].dtype == p->accumulate &&
                                                 p->operand[TN_GEMM_B].column == 1));
        return filled * (in_place ? 25e9 : 6e9);
    }
    case TN_CL_GEMM_ROWS:
        /* The memory's rate; ahead of SMALL, which reads B in strips: twice as fast for a row. */
        return 8e9 * (double)p->m;
    case TN_CL_GEMM_BLOCKS:
        /* Decoding a unit costs as much as some rows that it meets. */
        return plan->fast ? 40e9 * (double)p->m / (double)(tn_round_up(p->m, plan->rows) + 8)
                          : 40e9 * (double)p->m / (double)(tn_round_up(p->m, plan->rows) + 4);
    case TN_CL_GEMM_TILE:
        break;
    }
    if (plan->blocks) /* decoded for each tile */
        return 40e9 * (double)p->m / (double)(tn_round_up(p->m, plan->mr) + 8);
    return 40e9;
}

static double seconds_of(const tn_cl_limits *limits, const tn_gemm_problem *p,
                         const tn_cl_gemm_state *plan, double packed, double launches) {
    const double halves = p->gated != TENON_GATED_NONE ? 2 : 1;
    const double work = (double)p->m * (double)p->n * halves * (double)p->k *
                        (p->experts > 0 ? 1 : (double)p->batch_count);
    const double units = limits->units > 0 ? (double)limits->units : 1;
    return work / (rate_of(p, plan) * units) + packed * 0.3e-9 / units + launches * 15e-6;
}

static void offer(const tn_cl_limits *limits, const tn_gemm_problem *p,
                  const tn_cl_gemm_state *plan, size_t workspace, double packed, double launches,
                  tn_choices *out) {
    static const char *const algorithms[] = {
        [TN_CL_GEMM_PLAIN] = "gemm-plain",   [TN_CL_GEMM_LOCAL] = "gemm-local",
        [TN_CL_GEMM_SMALL] = "gemm-small",   [TN_CL_GEMM_ROWS] = "gemm-rows",
        [TN_CL_GEMM_BLOCKS] = "gemm-blocks", [TN_CL_GEMM_FEW] = "gemm-blocks-few",
        [TN_CL_GEMM_TILE] = "gemm-packed"};
    static const char *const kernels[] = {
        [TN_CL_GEMM_PLAIN] = "gemm_plain",   [TN_CL_GEMM_LOCAL] = "gemm_local",
        [TN_CL_GEMM_SMALL] = "gemm_small",   [TN_CL_GEMM_ROWS] = "gemm_rows",
        [TN_CL_GEMM_BLOCKS] = "gemm_blocks", [TN_CL_GEMM_FEW] = "gemm_blocks_few",
        [TN_CL_GEMM_TILE] = "gemm_tile"};
    static const char *const reasons[] = {
        [TN_CL_GEMM_PLAIN] = "any device, any types, no workspace: an element at a time",
        [TN_CL_GEMM_LOCAL] = "a GPU: tiles through local memory",
        [TN_CL_GEMM_SMALL] = "no workspace: operands in place, or packed in private memory",
        [TN_CL_GEMM_ROWS] = "a few rows: B is read once, in place",
        [TN_CL_GEMM_BLOCKS] = "blocks are decoded in registers",
        [TN_CL_GEMM_FEW] = "a few rows: blocks are read once, through local memory",
        [TN_CL_GEMM_TILE] = "large: packed once"};
    tn_choice choice;
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, plan, sizeof *plan);
    choice.algorithm = algorithms[plan->kind];
    choice.kernel = kernels[plan->kind];
    choice.reason = reasons[plan->kind];
    choice.workspace = workspace;
    choice.fills = p->beta == 0 && p->experts == 0 ? 1u << TN_GEMM_C : 0;
    choice.seconds = seconds_of(limits, p, plan, packed, launches);
    tn_choices_offer(out, &choice);
}

/* ---- the kernels */

/*
 * Micro-tiles: as many sums as registers hold beside a row of B and an element of A, of 16 vectors,
 * or of 32 where a vector has 512 bits (AVX-512); 6 x 2 and 12 x 2 as the CPU backend has them.
 */
void tn_cl_gemm_tile(const tn_cl_limits *limits, tn_cl_gemm_state *plan) {
    const int32_t native = (int32_t)(plan->sum == 1 ? limits->double_width : limits->float_width);
    const int32_t most = plan->sum == 1 ? 8 : 16, least = plan->sum == 1 ? 2 : 4;
    plan->width = native >= most ? most : native >= most / 2 ? most / 2 : least;
    plan->mr = plan->width == most ? 12 : 6;
    plan->nv = 2;
}

/* Bytes of one packed operand: SIZE_MAX if that is more than there can be. */
static size_t bytes_of(int64_t members, int64_t panels, int64_t lines, int64_t k, int64_t size) {
    int64_t count;
    size_t bytes;
    return tn_mul_i64(members, panels, &count) && tn_mul_i64(count, lines * size, &count) &&
                   tn_mul_i64(count, k, &count) && tn_align_size((size_t)count, 4096, &bytes)
               ? bytes
               : SIZE_MAX;
}

/* Bytes of the packed operands of a pass. */
static size_t packed_bytes(const tn_gemm_problem *p, const tn_cl_gemm_state *plan,
                           size_t *a_bytes) {
    const int64_t size = plan->sum == 1 ? 8 : 4, nr = plan->nv * plan->width;
    const int64_t halves = p->gated != TENON_GATED_NONE ? 2 : 1;
    const int64_t a_panels = tn_ceil_div(plan->pass_rows, plan->mr) + p->experts,
                  b_panels = tn_ceil_div(plan->pass_cols, nr) * halves;
    const int64_t a_members = p->experts > 0 ? 1 : plan->members;
    size_t bytes;
    *a_bytes = bytes_of(a_members, a_panels, plan->mr, p->k, size);
    const int64_t b_members = plan->b_width || plan->blocks ? 0 : plan->members;
    return tn_add_size(*a_bytes, bytes_of(b_members, b_panels, nr, p->k, size), &bytes) ? bytes
                                                                                        : SIZE_MAX;
}

/* Packed in passes that take at most `room` bytes; false if that would be too many of them. */
static bool plan_packed(const tn_cl_limits *limits, const tn_gemm_problem *p,
                        tn_cl_gemm_state *plan, size_t room, tn_choices *out) {
    const int64_t nr = plan->nv * plan->width;
    size_t a_bytes, bytes;
    plan->members = members_of(p);
    plan->pass_rows = p->m;
    plan->pass_cols = p->n;
    while ((bytes = packed_bytes(p, plan, &a_bytes)) > room) {
        const bool a_larger = a_bytes > bytes - a_bytes;
        if (plan->members > 1 && p->experts == 0)
            plan->members = tn_ceil_div(plan->members, 2);
        else if (p->experts == 0 && plan->pass_rows > 2 * plan->rows &&
                 (a_larger || plan->b_width || plan->pass_cols <= 2 * plan->cols))
            plan->pass_rows = tn_round_up(tn_ceil_div(plan->pass_rows, 2), plan->rows);
        else if (plan->pass_cols > 2 * plan->cols && !plan->b_width)
            plan->pass_cols = tn_round_up(tn_ceil_div(plan->pass_cols, 2), nr * 2);
        else
            return false;
    }
    int64_t outer = 1;
    for (int32_t d = 0; d + TN_CL_GEMM_BATCH < p->batch_rank; d++)
        outer *= p->batch[d];
    const int64_t inner = members_of(p) / outer;
    plan->members = p->experts > 0 ? p->experts : tn_min64(plan->members, inner);
    const int64_t down = tn_ceil_div(p->m, plan->pass_rows),
                  across = tn_ceil_div(p->n, plan->pass_cols),
                  batches = outer * tn_ceil_div(inner, plan->members);
    const double launches = (double)batches * (double)down * (1 + 2 * (double)across);
    if (launches > TN_CL_LAUNCHES)
        return false;
    const double packed =
        (double)members_of(p) * (double)p->k *
        ((double)p->m + (plan->b_width || plan->blocks ? 0 : (double)p->n * (double)down));
    offer(limits, p, plan, packed_bytes(p, plan, &a_bytes), packed, launches, out);
    return true;
}

/* B of blocks is decoded once for some rows: as many as have their sums in registers, or, of those
 * that are rounded to bytes, any number. */
static void plan_blocks(const tn_cl_limits *limits, const tn_gemm_problem *p,
                        const tn_cl_gemm_state *tile, tn_choices *out) {
    const int64_t each = p->experts > 0 ? tn_ceil_div(p->m, p->experts) : p->m;
    tn_cl_gemm_state plan = *tile;
    if (!plan.fast && each > 8)
        return;
    plan.kind = TN_CL_GEMM_BLOCKS;
    plan.nv = 1;
    if (plan.fast && plan.width > 8)
        plan.width = 8; /* the width of the dot products that there are */
    plan.rows = plan.mr = each <= 1 ? 1 : each <= 4 ? 4 : !plan.fast ? 8 : each <= 24 ? 24 : 48;
    /* Reading A costs as much as several columns. */
    plan.cols = each <= 1 ? 64 : 256;
    offer(limits, p, &plan, 0, 0, 1, out);
}

static void plan_cpu_like(const tn_cl_limits *limits, const tn_gemm_problem *p,
                          const tn_cl_gemm_state *plain, tn_choices *out) {
    tn_cl_gemm_state plan = *plain;
    if (plan.sum == 2 && !tn_cl_gemm_in_f32(p))
        return;
    tn_cl_gemm_tile(limits, &plan);

    /* Small pieces while there are few, so that all units have some. */
    const int64_t halves = p->gated != TENON_GATED_NONE ? 2 : 1;
    const double tiles =
        (double)p->m * (double)p->n * (double)halves * (double)members_of(p) / (96.0 * 64);
    const bool scaled = present(p, TN_GEMM_B_SCALE) || present(p, TN_GEMM_B_ZERO);
    if (plan.blocks && !scaled)
        plan_blocks(limits, p, &plan, out);
    if (plan.fast)
        return;
    plan.kind = TN_CL_GEMM_SMALL;
    /* B of blocks is decoded again for each tile. */
    plan.rows = plan.blocks && p->m > 24 ? 96 : 24;
    plan.cols = 64;
    offer(limits, p, &plan, 0, 0, 1, out);

    if (!plan.blocks && p->m <= 4 && p->experts == 0 && halves == 1 && !scaled && !plan.b_width &&
        p->k > 0 && plan.sum != 2) {
        tn_cl_gemm_state rows = plan;
        rows.kind = TN_CL_GEMM_ROWS;
        rows.mr = p->m == 1 ? 1 : p->m == 2 ? 2 : 4;
        rows.cols = 256;
        offer(limits, p, &rows, 0, 0, 1, out);
    }
    if (p->k == 0)
        return;
    plan.kind = TN_CL_GEMM_TILE;
    plan.rows = tiles < 4.0 * limits->units && !plan.blocks ? 24 : 96;
    static const size_t rooms[] = {(size_t)256 << 20, (size_t)32 << 20, (size_t)4 << 20,
                                   (size_t)512 << 10};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        tn_cl_gemm_state packed = plan;
        plan_packed(limits, p, &packed, rooms[i], out);
    }
}

/* Items of a group of gemm_blocks_few.cl, which have a column each. */
enum { FEW_GROUP = 64 };

tn_cl_gemm_state tn_cl_gemm_plain(const tn_gemm_problem *p, int32_t fp64, int32_t b_width) {
    return (tn_cl_gemm_state){.kind = TN_CL_GEMM_PLAIN,
                              .sum = tn_cl_gemm_sum(p),
                              .width = 1,
                              .mr = 1,
                              .nv = 1,
                              .rows = 1,
                              .cols = 16,
                              .epilogue = has_epilogue(p),
                              .blocks = tn_cl_gemm_of_blocks(p),
                              .fast = tn_cl_gemm_rounds(p),
                              .fp64 = fp64,
                              .b_width = b_width,
                              .members = members_of(p),
                              .pass_rows = p->m,
                              .pass_cols = p->n};
}

tenon_status tn_cl_gemm_plan(const tn_cl_limits *limits, const tn_gemm_problem *p, tn_choices *out,
                             tn_message *why) {
    out->count = 0;
    TN_TRY(tn_cl_gemm_refuse(limits, p, why));
    const bool packed = present(p, TN_GEMM_B_PACKED);
    const tn_cl_gemm_state plain =
        tn_cl_gemm_plain(p, limits->fp64, packed ? tn_cl_packed_width(limits, p) : 0);
    offer(limits, p, &plain, 0, 0, 1, out);
    if (limits->family == TN_CL_CPU_LIKE) {
        plan_cpu_like(limits, p, &plain, out);
    } else if (plain.sum != 2 || tn_cl_gemm_in_f32(p)) {
        tn_cl_gemm_state local = plain;
        local.kind = TN_CL_GEMM_LOCAL;
        /* 256 items where groups may have so many, else 64. */
        const bool wide = limits->group_items >= 256 && limits->group_extent[0] >= 16 &&
                          limits->group_extent[1] >= 16;
        local.rows = local.cols = wide ? 64 : TN_CL_GEMM_LOCAL_LEAST;
        offer(limits, p, &local, 0, 0, 1, out);
        const bool scaled = present(p, TN_GEMM_B_SCALE) || present(p, TN_GEMM_B_ZERO);
        if (plain.blocks && !scaled && p->m <= 4 * tn_max64(p->experts, 1) &&
            limits->group_items >= FEW_GROUP && limits->group_extent[0] >= FEW_GROUP) {
            tn_cl_gemm_state few = plain;
            few.kind = TN_CL_GEMM_FEW;
            few.rows = p->m == 1 ? 1 : 4;
            few.cols = FEW_GROUP;
            offer(limits, p, &few, 0, 0, 1, out);
        }
    }
    return TENON_OK;
}
