/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_cache_ops.c: appending to a key-value cache and merging attentions on CUDA devices, by
 * kernels/cache.cu.
 *
 * A launch takes a few parts of a merge, as many as its struct holds. Where there are more, maxima
 * and totals of the rows, then sums, wait in the workspace.
 */
#include "cuda/cu_attention.h"
#include "cuda/cu_kernels.h"
#include "ops/numbers.h"

_Static_assert(sizeof(tn_cu_append) <= TN_CU_PARAMETER_BYTES &&
                   sizeof(tn_cu_merge) <= TN_CU_PARAMETER_BYTES,
               "a kernel's struct");
_Static_assert(3 * (TN_MERGE_MAX_PARTS / TN_CU_MERGE_PARTS) + 1 <= TN_CU_LAUNCHES,
               "launches of a merge");

enum { THREADS = 256, WARPS = THREADS / 32 };
#define MOST_BLOCKS ((int64_t)1 << 20)

static void offer(const char *algorithm, const char *kernel, size_t workspace, double seconds,
                  tn_choices *out) {
    tn_choice choice;
    memset(&choice, 0, sizeof choice);
    choice.algorithm = algorithm;
    choice.kernel = kernel;
    choice.reason = "the only one";
    choice.workspace = workspace;
    choice.seconds = seconds;
    out->count = 0;
    tn_choices_offer(out, &choice);
}

static double bandwidth_of(const tn_cu_limits *limits) {
    return limits->memory_bytes_per_second > 0 ? limits->memory_bytes_per_second : 3e11;
}

/* ---------------------------------------------------------------- append */

/* The operands of keys, or of values. */
typedef struct side {
    tn_append_role rows, cache, scale;
} side;
static const side sides[2] = {{TN_APPEND_K, TN_APPEND_K_CACHE, TN_APPEND_K_SCALE},
                              {TN_APPEND_V, TN_APPEND_V_CACHE, TN_APPEND_V_SCALE}};

tenon_status tn_cu_append_plan(const tn_cu_limits *limits, const tn_append_problem *p,
                               tn_choices *out, tn_message *why) {
    bool wide = false;
    for (int role = 0; role < TN_APPEND_ROLES; role++) {
        const tenon_dtype type = p->operand[role].dtype;
        if (type > TENON_BOOL)
            return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s.dtype is %s: not yet on this device",
                           role == TN_APPEND_K_CACHE ? "k_cache" : "v_cache",
                           tenon_dtype_name(type));
        wide =
            wide || type == TENON_F64 ||
            (type != TENON_DTYPE_NONE && (role == TN_APPEND_K_SCALE || role == TN_APPEND_V_SCALE));
    }
    offer("append", wide ? "cache_append_f64" : "cache_append_f32", 0,
          (double)p->batch * (double)p->rows * (double)p->kv_heads * (double)(p->d + p->dv) * 8 /
                  bandwidth_of(limits) +
              8e-6,
          out);
    return TENON_OK;
}

static void strides(int64_t *to, const tn_attention_operand *from, int count) {
    for (int d = 0; d < count; d++)
        to[d] = from->stride[d] * tn_element_size(from->dtype);
}

tenon_status tn_cu_append_run(tn_cu_work *work, const tn_run *run, tn_message *why) {
    const tn_append_problem *p = run->problem;
    const tn_attention_operand *o = p->operand;
    const tn_place *places = run->places->operand;
    const bool ragged = o[TN_APPEND_CU].dtype != TENON_DTYPE_NONE;
    for (int i = 0; i < 2; i++) {
        const side s = sides[i];
        if (o[s.rows].dtype == TENON_DTYPE_NONE)
            continue;
        tn_cu_append n = {.batch = p->batch,
                          .kv_heads = p->kv_heads,
                          .rows = p->rows,
                          .width = i == 0 ? p->d : p->dv,
                          .block_size = p->block_size,
                          .x = tn_cu_address(&places[s.rows]),
                          .cache = tn_cu_address(&places[s.cache]),
                          .scale = tn_cu_address(&places[s.scale]),
                          .positions = tn_cu_address(&places[TN_APPEND_POSITIONS]),
                          .cu = tn_cu_address(&places[TN_APPEND_CU]),
                          .table = tn_cu_address(&places[TN_APPEND_BLOCK_TABLE]),
                          .x_type = (int32_t)o[s.rows].dtype,
                          .cache_type = (int32_t)o[s.cache].dtype,
                          .scale_type = (int32_t)o[s.scale].dtype,
                          .positions_type = (int32_t)o[TN_APPEND_POSITIONS].dtype,
                          .cu_type = (int32_t)o[TN_APPEND_CU].dtype,
                          .table_type = (int32_t)o[TN_APPEND_BLOCK_TABLE].dtype};
        strides(n.x_stride, &o[s.rows], 4);
        strides(n.cache_stride, &o[s.cache], 4);
        strides(n.scale_stride, &o[s.scale], 3);
        strides(&n.positions_step, &o[TN_APPEND_POSITIONS], 1);
        strides(&n.cu_step, &o[TN_APPEND_CU], 1);
        strides(n.table_stride, &o[TN_APPEND_BLOCK_TABLE], 2);
        n.elements = (ragged ? p->rows : p->batch * p->rows) * p->kv_heads * n.width;
        if (n.elements == 0)
            continue;
        tn_cu_launch l = {
            .module = "cache",
            .kernel = run->choice->kernel,
            .grid = {(unsigned)tn_min64(tn_ceil_div(n.elements, THREADS), MOST_BLOCKS)},
            .group = {THREADS},
            .parameter_bytes = sizeof n};
        memcpy(l.parameters, &n, sizeof n);
        TN_TRY(tn_cu_launch_add(work, &l, why));
    }
    return TENON_OK;
}

/* ---------------------------------------------------------------- merge */

static size_t state_bytes(const tn_merge_problem *p) {
    return (size_t)tn_round_up(2 * p->rows * (int64_t)sizeof(double), 256);
}

tenon_status tn_cu_merge_plan(const tn_cu_limits *limits, const tn_merge_problem *p,
                              tn_choices *out, tn_message *why) {
    const bool whole = p->count <= TN_CU_MERGE_PARTS;
    (void)why;
    offer("merge", "cache_merge",
          whole ? 0 : state_bytes(p) + (size_t)(p->rows * p->dv) * sizeof(double),
          (double)p->rows * (double)p->dv * (double)(p->count + 1) * (whole ? 4 : 20) /
                  bandwidth_of(limits) +
              4e-6 * (whole ? 1 : (double)(3 * tn_ceil_div(p->count, TN_CU_MERGE_PARTS) + 1)),
          out);
    return TENON_OK;
}

static tn_cu_merged merged_of(const tn_merge_problem *p, const tn_merge_operand *x,
                              const tn_place *place) {
    const int64_t size = tn_element_size(x->dtype);
    tn_cu_merged n = {.type = (int32_t)x->dtype};
    if (x->dtype == TENON_DTYPE_NONE)
        return n;
    n.at = tn_cu_address(place);
    n.step = x->step * size;
    for (int32_t d = 0; d < p->rank; d++)
        n.row[d] = x->row[d] * size;
    return n;
}

/* One phase for parts [first, first + TN_CU_MERGE_PARTS) as far as they exist. */
static tenon_status merge_parts(tn_cu_work *work, const tn_run *run, tn_cu_merge *n, int phase,
                                int64_t first, tn_message *why) {
    const tn_merge_problem *p = run->problem;
    const tn_place *part = run->places->part;
    n->phase = phase;
    n->first = first == 0;
    n->parts =
        phase == TN_CU_MERGE_STORE ? 0 : (int32_t)tn_min64(TN_CU_MERGE_PARTS, p->count - first);
    for (int i = 0; i < n->parts; i++) {
        n->o_part[i] = merged_of(p, &p->o_part[first + i], &part[first + i]);
        n->lse_part[i] =
            merged_of(p, &p->lse_part[first + i], &part[TN_MERGE_MAX_PARTS + first + i]);
    }
    tn_cu_launch l = {.module = "cache",
                      .kernel = run->choice->kernel,
                      .grid = {(unsigned)tn_min64(tn_ceil_div(p->rows, WARPS), MOST_BLOCKS)},
                      .group = {THREADS},
                      .scratch_only = phase != TN_CU_MERGE_WHOLE && phase != TN_CU_MERGE_STORE,
                      .parameter_bytes = sizeof *n};
    memcpy(l.parameters, n, sizeof *n);
    return tn_cu_launch_add(work, &l, why);
}

tenon_status tn_cu_merge_run(tn_cu_work *work, const tn_run *run, tn_message *why) {
    const tn_merge_problem *p = run->problem;
    tn_cu_merge n = {.rows = p->rows,
                     .dv = p->dv,
                     .rank = p->rank,
                     .o = merged_of(p, &p->o, &run->places->operand[TN_MERGE_O]),
                     .lse = merged_of(p, &p->lse, &run->places->operand[TN_MERGE_LSE])};
    if (p->rows == 0)
        return TENON_OK;
    for (int32_t d = 0; d < TN_CU_DIMS; d++)
        n.extent[d] = d < p->rank ? p->extent[d] : 1;
    if (p->count <= TN_CU_MERGE_PARTS)
        return merge_parts(work, run, &n, TN_CU_MERGE_WHOLE, 0, why);
    n.state = tn_cu_address(&run->places->scratch);
    n.sums = n.state + state_bytes(p);
    for (int phase = TN_CU_MERGE_WEIGH; phase <= TN_CU_MERGE_ADD; phase++)
        for (int64_t i = 0; i < p->count; i += TN_CU_MERGE_PARTS)
            TN_TRY(merge_parts(work, run, &n, phase, i, why));
    return merge_parts(work, run, &n, TN_CU_MERGE_STORE, 0, why);
}
