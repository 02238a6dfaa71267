/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_attention.c: attention on OpenCL devices: how many queries a work item takes, whether the
 * blocks of keys of a unit are shared out, and the numbers that kernels/attention.cl gets.
 *
 * Lengths and tables stay on the device: work sizes follow from the problem alone, and items that
 * find nothing to do return.
 */
#include "opencl/cl_kernels.h"
#include "opencl/cl_numbers.h"

#include <stdio.h>

enum { BLOCK = 256 }; /* keys: docs/NUMERICS.md, 5.1 */

/* As struct attention of kernels/attention.cl. */
typedef struct attention_numbers {
    int64_t batch, heads, kv_heads, queries, keys, d, dv;
    int64_t block_size;
    int64_t left, right;
    int64_t slots, blocks;
    tn_cl_number scale, softcap;
    int64_t start[TN_ATTENTION_ROLES], stride[TN_ATTENTION_ROLES][4];
    int32_t type[TN_ATTENTION_ROLES];
    int32_t align_bottom, tiles;
} attention_numbers;

_Static_assert(sizeof(attention_numbers) + (TN_ATTENTION_ROLES + 1) * 8 <= TN_CL_ARGUMENT_BYTES,
               "a kernel's arguments");

typedef struct attention_state {
    int32_t sum, width, mr, nv;
    int32_t group; /* items of a work-group */
    int32_t k_placed, v_placed;
    int32_t split;
    int64_t tiles, blocks;
} attention_state;

_Static_assert(sizeof(attention_state) <= TN_CHOICE_STATE, "a choice keeps it");

/* Most workspace for the results of blocks. */
#define SLOTS_MOST ((size_t)64 << 20)

static bool present(const tn_attention_problem *p, int role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

/* Read where it lies: of the type of the products, elements side by side. */
static bool placed(const tn_attention_problem *p, int role) {
    return p->operand[role].dtype == p->accumulate && p->operand[role].stride[3] == 1;
}

static size_t slot_bytes(const tn_attention_problem *p, const attention_state *s) {
    const int64_t units = s->tiles * p->kv_heads * (present(p, TN_ATTENTION_CU_Q) ? 1 : p->batch);
    const double bytes = (double)units * (double)s->blocks * (double)(p->dv + 2) *
                         (double)(s->nv * s->width) * (s->sum ? 8 : 4);
    return bytes > 1e15 ? SIZE_MAX : (size_t)bytes;
}

static void offer(const tn_cl_limits *limits, const tn_attention_problem *p,
                  const attention_state *s, tn_choices *out) {
    tn_choice choice;
    const double units = limits->units ? limits->units : 1;
    const double tasks = (double)s->tiles * (double)p->kv_heads * (double)p->batch;
    const double work = (double)p->heads * (double)p->queries * (double)p->keys *
                        (double)(p->d + p->dv) * (double)p->batch;
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, s, sizeof *s);
    choice.algorithm = s->split ? "attention-split" : "attention-units";
    choice.kernel = s->split ? "attention_blocks" : "attention_units";
    choice.reason =
        s->split ? "few queries: blocks of keys are shared out" : "enough queries for all";
    choice.workspace = s->split ? slot_bytes(p, s) : 0;
    choice.seconds = work / (30e9 * (s->split || tasks > units ? units
                                     : tasks > 0               ? tasks
                                                               : 1)) +
                     (s->split ? 30e-6 : 15e-6);
    tn_choices_offer(out, &choice);
}

tenon_status tn_cl_attention_plan(const tn_cl_limits *limits, const tn_attention_problem *p,
                                  tn_choices *out, tn_message *why) {
    static const char *const names[TN_ATTENTION_ROLES] = {"q",
                                                          "k",
                                                          "v",
                                                          "o",
                                                          "bias",
                                                          "mask",
                                                          "alibi",
                                                          "sinks",
                                                          "key_lengths",
                                                          "query_offsets",
                                                          "cu_seqlens_q",
                                                          "cu_seqlens_k",
                                                          "block_table",
                                                          "k_scale",
                                                          "v_scale",
                                                          "lse"};
    attention_state s = {.sum = p->accumulate == TENON_F64, .group = 1};
    const int64_t group = p->heads / p->kv_heads;

    out->count = 0;
    for (int role = TN_ATTENTION_K; role <= TN_ATTENTION_V; role++)
        if (p->operand[role].dtype >= TENON_Q8_0)
            return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s.dtype is %s: not on this device",
                           names[role], tenon_dtype_name(p->operand[role].dtype));
    for (int role = 0; role < TN_ATTENTION_ROLES && !limits->fp64; role++)
        if (p->operand[role].dtype == TENON_F64)
            return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                           "%s.dtype is f64, which this device has not got", names[role]);
    if (limits->family == TN_CL_CPU_LIKE) {
        const uint32_t native = s.sum ? limits->double_width : limits->float_width;
        const uint32_t most = s.sum ? 8 : 16, least = s.sum ? 2 : 4;
        s.width = (int32_t)(native >= most ? most : native >= most / 2 ? most / 2 : least);
        /* Two vectors of queries, or one where that will do. Sums as in cl_gemm_plan.c: with one
         * vector of them for a key, twice as many keys keep the multipliers busy. */
        s.nv = p->queries * group > s.width ? 2 : 1;
        s.mr = s.nv == 1 || s.width == (int32_t)most ? 12 : 6;
    } else {
        s.width = s.nv = 1;
        s.mr = 4;
        s.group = limits->group_items >= 64 && limits->group_extent[0] >= 64 ? 64 : 1;
    }
    s.k_placed = placed(p, TN_ATTENTION_K);
    s.v_placed = placed(p, TN_ATTENTION_V);
    s.tiles = tn_ceil_div(p->queries * group, s.nv * s.width) +
              (present(p, TN_ATTENTION_CU_Q) ? p->batch : 0);
    s.blocks = tn_ceil_div(p->keys, BLOCK);
    offer(limits, p, &s, out);
    s.split = 1;
    if (s.blocks > 1 && s.tiles * p->kv_heads * p->batch < 4 * (int64_t)limits->units &&
        slot_bytes(p, &s) <= SLOTS_MOST)
        offer(limits, p, &s, out);
    return TENON_OK;
}

/* ---- run */

/* Sizes of arrays that kernels are built for. */
static int array_size(int64_t d) {
    return d <= 64 ? 64 : d <= 128 ? 128 : d <= 256 ? 256 : 576;
}

/* The type that k or v is converted from by code of its own; 0: by code for all. */
static int special(const attention_state *s, bool in_place, tenon_dtype type) {
    const bool often = type == TENON_F32 || type == TENON_F16 || type == TENON_BF16;
    return s->sum == 0 && !in_place && often ? (int)type : 0;
}

static tenon_status launch(tn_cl_work *work, const tn_run *run, const attention_state *s,
                           const attention_numbers *n, const char *kernel, int64_t x,
                           bool scratch_only, tn_message *why) {
    const tn_attention_problem *p = run->problem;
    const bool ragged = present(p, TN_ATTENTION_CU_Q);
    char options[TN_CL_OPTIONS];
    snprintf(options, sizeof options,
             "-DTN_SUM=%d -DTN_WIDTH=%d -DTN_MR=%d -DTN_NV=%d -DTN_GROUP=%d -DTN_D=%d -DTN_DV=%d "
             "-DTN_K_PLACED=%d -DTN_V_PLACED=%d -DTN_TYPE_K=%d -DTN_TYPE_V=%d",
             s->sum, s->width, s->mr, s->nv, s->group, array_size(p->d), array_size(p->dv),
             s->k_placed, s->v_placed, special(s, s->k_placed, p->operand[TN_ATTENTION_K].dtype),
             special(s, s->v_placed, p->operand[TN_ATTENTION_V].dtype));
    tn_cl_launch l = {.program = "attention",
                      .kernel = kernel,
                      .options = options,
                      .dims = 3,
                      .global = {(size_t)tn_round_up(x, s->group), (size_t)p->kv_heads,
                                 ragged ? 1 : (size_t)p->batch},
                      .local = {(size_t)s->group, 1, 1},
                      .scratch_only = scratch_only};
    for (int role = 0; role < TN_ATTENTION_ROLES; role++)
        tn_cl_arg_memory(&l, &run->places->operand[role]);
    tn_cl_arg_memory(&l, &run->places->scratch);
    tn_cl_arg_bytes(&l, n, sizeof *n);
    return tn_cl_launch_add(work, &l, why);
}

tenon_status tn_cl_attention_run(tn_cl_work *work, const tn_run *run, tn_message *why) {
    const tn_attention_problem *p = run->problem;
    attention_state s;
    memcpy(&s, run->choice->state, sizeof s);
    attention_numbers n = {.batch = p->batch,
                           .heads = p->heads,
                           .kv_heads = p->kv_heads,
                           .queries = p->queries,
                           .keys = p->keys,
                           .d = p->d,
                           .dv = p->dv,
                           .block_size = p->block_size,
                           .left = p->left,
                           .right = p->right,
                           .slots = (int64_t)run->places->scratch.offset,
                           .blocks = tn_max64(s.blocks, 1),
                           .scale = tn_cl_number_of(p->scale),
                           .softcap = tn_cl_number_of(p->softcap),
                           .align_bottom = p->align_bottom,
                           .tiles = (int32_t)s.tiles};
    for (int role = 0; role < TN_ATTENTION_ROLES; role++) {
        const tn_attention_operand *o = &p->operand[role];
        n.type[role] = (int32_t)o->dtype;
        n.start[role] = (int64_t)run->places->operand[role].offset;
        for (int d = 0; d < 4; d++)
            n.stride[role][d] = o->stride[d] * tn_element_size(o->dtype);
    }
    if (!s.split)
        return launch(work, run, &s, &n, "attention_units", s.tiles, false, why);
    TN_TRY(launch(work, run, &s, &n, "attention_blocks", s.tiles * s.blocks, true, why));
    return launch(work, run, &s, &n, "attention_join", s.tiles, false, why);
}
