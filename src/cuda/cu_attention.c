/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_attention.c: attention on CUDA devices: which kernel, whether the blocks of keys of a unit are
 * shared out, and the numbers that the kernels get.
 *
 * Lengths and tables stay on the device: grids follow from the problem alone, and blocks that find
 * nothing to do return.
 */
#include "cuda/cu_attention.h"
#include "cuda/cu_kernels.h"
#include "ops/numbers.h"

_Static_assert(sizeof(tn_cu_attention) <= TN_CU_PARAMETER_BYTES, "a kernel's struct");
_Static_assert((int)TN_CU_ATTENTION_OPERANDS == (int)TN_ATTENTION_ROLES,
               "a kernel's struct holds a problem");

enum {
    PLAIN_THREADS = 256,
    PLAIN_COLUMNS = 768,   /* columns of v that a block has sums for */
    PLAIN_STATIC = 9 << 10 /* bytes of shared memory that attention_plain.cu declares, at most */
};
#define MOST_BLOCKS ((int64_t)1 << 20)
/* Most workspace for the results of blocks. */
#define SLOTS_MOST ((size_t)256 << 20)

typedef struct attention_state {
    int32_t rows; /* of a unit */
    int32_t f64, split;
    int64_t tiles, units, blocks;
} attention_state;

_Static_assert(sizeof(attention_state) <= TN_CHOICE_STATE, "a choice keeps it");

static bool present(const tn_attention_problem *p, int role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

static size_t query_bytes(const tn_attention_problem *p, const attention_state *s) {
    return (size_t)(s->rows * p->d * (s->f64 ? 8 : 4));
}

static tenon_status refuse(const tn_cu_limits *limits, const tn_attention_problem *p,
                           const attention_state *s, tn_message *why) {
    static const char *const names[] = {"q", "k", "v", "o"};
    for (int role = TN_ATTENTION_Q; role <= TN_ATTENTION_O; role++)
        if (p->operand[role].dtype > TENON_BOOL)
            return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s.dtype is %s: not yet on this device",
                           names[role], tenon_dtype_name(p->operand[role].dtype));
    if (p->dv > PLAIN_COLUMNS)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "v.shape[3] is %lld: this device takes at most %d", (long long)p->dv,
                       PLAIN_COLUMNS);
    if (query_bytes(p, s) + PLAIN_STATIC > limits->group_shared_max)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "q.shape[3] is %lld: too many for this device's shared memory",
                       (long long)p->d);
    return TENON_OK;
}

static size_t slot_bytes(const tn_attention_problem *p, const attention_state *s) {
    const double bytes = (double)s->units * (double)s->blocks * (double)(p->dv + 2) *
                         (double)s->rows * (s->f64 ? 8 : 4);
    return bytes > 1e15 ? SIZE_MAX : (size_t)bytes;
}

static void offer(const tn_cu_limits *limits, const tn_attention_problem *p,
                  const attention_state *s, tn_choices *out) {
    static const char *const kernels[2] = {"attention_plain_f32", "attention_plain_f64"};
    const double clock = limits->clock_hz > 0 ? limits->clock_hz : 1.4e9;
    const double work = (double)p->heads * (double)p->queries * (double)p->keys *
                        (double)(p->d + p->dv) *
                        (present(p, TN_ATTENTION_CU_Q) ? 1 : (double)p->batch);
    /* two blocks to a multiprocessor; those without one stand idle */
    const double tasks = (double)s->units * (s->split ? (double)s->blocks : 1),
                 places = 2 * (double)limits->multiprocessors,
                 busy = tasks > 0 && tasks < places ? tasks / places : 1;
    tn_choice choice;
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, s, sizeof *s);
    choice.algorithm = s->split ? "attention-split" : "attention-plain";
    choice.kernel = kernels[s->f64];
    choice.reason = s->split ? "few queries: blocks of keys are shared out" : "enough queries";
    choice.workspace = s->split ? slot_bytes(p, s) : 0;
    choice.seconds =
        work / (0.1 * 128 * clock * limits->multiprocessors * busy) + (s->split ? 8e-6 : 4e-6);
    tn_choices_offer(out, &choice);
}

tenon_status tn_cu_attention_plan(const tn_cu_limits *limits, const tn_attention_problem *p,
                                  tn_choices *out, tn_message *why) {
    attention_state s = {.f64 = p->accumulate == TENON_F64};
    const bool ragged = present(p, TN_ATTENTION_CU_Q);
    s.rows = s.f64 ? TN_CU_PLAIN_ROWS / 2 : TN_CU_PLAIN_ROWS;
    out->count = 0;
    TN_TRY(refuse(limits, p, &s, why));
    s.tiles = tn_ceil_div(p->queries * (p->heads / p->kv_heads), s.rows) + (ragged ? p->batch : 0);
    s.units = s.tiles * p->kv_heads * (ragged ? 1 : p->batch);
    s.blocks = tn_ceil_div(p->keys, TN_CU_BLOCK);
    offer(limits, p, &s, out);
    s.split = 1;
    if (s.blocks > 1 && s.units < 2 * (int64_t)limits->multiprocessors &&
        slot_bytes(p, &s) <= SLOTS_MOST)
        offer(limits, p, &s, out);
    return TENON_OK;
}

/* ---- run */

static tenon_status launch(tn_cu_work *work, const tn_attention_problem *p,
                           const attention_state *s, const tn_cu_attention *n, const char *kernel,
                           int64_t blocks, bool scratch_only, tn_message *why) {
    tn_cu_launch l = {.module = "attention_plain",
                      .kernel = kernel,
                      .grid = {(unsigned)tn_min64(blocks, MOST_BLOCKS)},
                      .group = {PLAIN_THREADS},
                      .shared_bytes = query_bytes(p, s),
                      .scratch_only = scratch_only,
                      .parameter_bytes = sizeof *n};
    memcpy(l.parameters, n, sizeof *n);
    return tn_cu_launch_add(work, &l, why);
}

tenon_status tn_cu_attention_run(tn_cu_work *work, const tn_run *run, tn_message *why) {
    const tn_attention_problem *p = run->problem;
    attention_state s;
    memcpy(&s, run->choice->state, sizeof s);
    tn_cu_attention n = {.batch = p->batch,
                         .heads = p->heads,
                         .kv_heads = p->kv_heads,
                         .queries = p->queries,
                         .keys = p->keys,
                         .d = p->d,
                         .dv = p->dv,
                         .block_size = p->block_size,
                         .left = p->left,
                         .right = p->right,
                         .tiles = s.tiles,
                         .units = s.units,
                         .blocks = s.split ? s.blocks : 0,
                         .slots = tn_cu_address(&run->places->scratch),
                         .scale = p->scale,
                         .softcap = p->softcap,
                         .align_bottom = p->align_bottom};
    for (int role = 0; role < TN_ATTENTION_ROLES; role++) {
        const tn_attention_operand *o = &p->operand[role];
        if (o->dtype == TENON_DTYPE_NONE)
            continue;
        n.type[role] = (int32_t)o->dtype;
        n.at[role] = tn_cu_address(&run->places->operand[role]);
        for (int d = 0; d < 4; d++)
            n.stride[role][d] = o->stride[d] * tn_element_size(o->dtype);
    }
    if (s.units == 0)
        return TENON_OK;
    if (!s.split)
        return launch(work, p, &s, &n, run->choice->kernel, s.units, false, why);
    TN_TRY(launch(work, p, &s, &n, run->choice->kernel, s.units * s.blocks, true, why));
    return launch(work, p, &s, &n, s.f64 ? "attention_join_f64" : "attention_join_f32", s.units,
                  false, why);
}
