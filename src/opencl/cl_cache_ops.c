/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_cache_ops.c: appending to a key-value cache and merging attentions on OpenCL devices, by
 * kernels/cache.cl.
 *
 * A kernel takes a few parts of a merge at a time, as many as its arguments hold: maxima and totals
 * of the rows, then sums, wait in the workspace.
 */
#include "opencl/cl_kernels.h"
#include "opencl/cl_numbers.h"

#include <stdio.h>

typedef struct cache_state {
    int32_t sum;
} cache_state;

static tenon_status refuse_f64(const tn_cl_limits *limits, tenon_dtype dtype, const char *name,
                               tn_message *why) {
    if (dtype == TENON_F64 && !limits->fp64)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED,
                       "%s.dtype is f64, which this device has not got", name);
    return TENON_OK;
}

static void offer(const char *algorithm, const char *kernel, cache_state s, size_t workspace,
                  double seconds, tn_choices *out) {
    tn_choice choice;
    memset(&choice, 0, sizeof choice);
    memcpy(choice.state, &s, sizeof s);
    choice.algorithm = algorithm;
    choice.kernel = kernel;
    choice.reason = "the only one";
    choice.workspace = workspace;
    choice.seconds = seconds;
    tn_choices_offer(out, &choice);
}

/* ---------------------------------------------------------------- append */

enum { COLUMNS = 64 }; /* that an item converts */

/* As struct append of kernels/cache.cl. */
typedef struct append_numbers {
    int64_t batch, kv_heads, rows, width;
    int64_t block_size;
    int64_t x_start, x_stride[4];
    int64_t cache_start, cache_stride[4];
    int64_t scale_start, scale_stride[3];
    int64_t positions_start, positions_step;
    int64_t cu_start, cu_step;
    int64_t table_start, table_stride[2];
    int32_t x_type, cache_type, scale_type, positions_type, cu_type, table_type;
} append_numbers;

/* The operands of keys, or of values. */
typedef struct side {
    tn_append_role rows, cache, scale;
} side;
static const side sides[2] = {{TN_APPEND_K, TN_APPEND_K_CACHE, TN_APPEND_K_SCALE},
                              {TN_APPEND_V, TN_APPEND_V_CACHE, TN_APPEND_V_SCALE}};

tenon_status tn_cl_append_plan(const tn_cl_limits *limits, const tn_append_problem *p,
                               tn_choices *out, tn_message *why) {
    static const char *const names[TN_APPEND_ROLES] = {"k",           "v",         "k_cache",
                                                       "v_cache",     "positions", "cu_seqlens",
                                                       "block_table", "k_scale",   "v_scale"};
    cache_state s = {.sum = 0};
    out->count = 0;
    for (int role = 0; role < TN_APPEND_ROLES; role++) {
        const tenon_dtype type = p->operand[role].dtype;
        TN_TRY(refuse_f64(limits, type, names[role], why));
        if (type >= TENON_Q8_0)
            return tn_fail(why, TENON_ERROR_UNSUPPORTED, "%s.dtype is %s: not on this device",
                           names[role], tenon_dtype_name(type));
        /* A quotient is rounded once, to the cache's type. */
        if (type == TENON_F64 || (type != TENON_DTYPE_NONE && limits->fp64 &&
                                  (role == TN_APPEND_K_SCALE || role == TN_APPEND_V_SCALE)))
            s.sum = 1;
    }
    offer("append", "cache_append", s, 0,
          (double)p->rows * (double)p->kv_heads * (double)(p->d + p->dv) * 1e-9, out);
    return TENON_OK;
}

tenon_status tn_cl_append_run(tn_cl_work *work, const tn_run *run, tn_message *why) {
    const tn_append_problem *p = run->problem;
    const bool ragged = p->operand[TN_APPEND_CU].dtype != TENON_DTYPE_NONE;
    cache_state s;
    char options[TN_CL_OPTIONS];
    memcpy(&s, run->choice->state, sizeof s);
    snprintf(options, sizeof options, "-DTN_SUM=%d -DTN_WIDTH=1 -DTN_COLUMNS=%d", s.sum, COLUMNS);
    for (int i = 0; i < 2; i++) {
        const tn_attention_operand *o = p->operand, *x = &o[sides[i].rows],
                                   *cache = &o[sides[i].cache], *scale = &o[sides[i].scale],
                                   *positions = &o[TN_APPEND_POSITIONS], *cu = &o[TN_APPEND_CU],
                                   *table = &o[TN_APPEND_BLOCK_TABLE];
        const tn_place *places = run->places->operand;
        if (x->dtype == TENON_DTYPE_NONE)
            continue;
        append_numbers n = {.batch = p->batch,
                            .kv_heads = p->kv_heads,
                            .rows = p->rows,
                            .width = i == 0 ? p->d : p->dv,
                            .block_size = p->block_size,
                            .x_start = (int64_t)places[sides[i].rows].offset,
                            .cache_start = (int64_t)places[sides[i].cache].offset,
                            .scale_start = (int64_t)places[sides[i].scale].offset,
                            .positions_start = (int64_t)places[TN_APPEND_POSITIONS].offset,
                            .positions_step =
                                positions->stride[0] * tn_element_size(positions->dtype),
                            .cu_start = (int64_t)places[TN_APPEND_CU].offset,
                            .cu_step = cu->stride[0] * tn_element_size(cu->dtype),
                            .table_start = (int64_t)places[TN_APPEND_BLOCK_TABLE].offset,
                            .x_type = (int32_t)x->dtype,
                            .cache_type = (int32_t)cache->dtype,
                            .scale_type = (int32_t)scale->dtype,
                            .positions_type = (int32_t)positions->dtype,
                            .cu_type = (int32_t)cu->dtype,
                            .table_type = (int32_t)table->dtype};
        for (int d = 0; d < 4; d++) {
            n.x_stride[d] = x->stride[d] * tn_element_size(x->dtype);
            n.cache_stride[d] = cache->stride[d] * tn_element_size(cache->dtype);
            if (d < 3)
                n.scale_stride[d] = scale->stride[d] * tn_element_size(scale->dtype);
            if (d < 2)
                n.table_stride[d] = table->stride[d] * tn_element_size(table->dtype);
        }
        tn_cl_launch l = {.program = "cache",
                          .kernel = "cache_append",
                          .options = options,
                          .dims = 3,
                          .global = {(size_t)(ragged ? p->rows : p->batch * p->rows),
                                     (size_t)p->kv_heads, (size_t)tn_ceil_div(n.width, COLUMNS)}};
        tn_cl_arg_memory(&l, &places[sides[i].rows]);
        tn_cl_arg_memory(&l, &places[sides[i].cache]);
        tn_cl_arg_memory(&l, &places[sides[i].scale]);
        tn_cl_arg_memory(&l, &places[TN_APPEND_POSITIONS]);
        tn_cl_arg_memory(&l, &places[TN_APPEND_CU]);
        tn_cl_arg_memory(&l, &places[TN_APPEND_BLOCK_TABLE]);
        tn_cl_arg_bytes(&l, &n, sizeof n);
        TN_TRY(tn_cl_launch_add(work, &l, why));
    }
    return TENON_OK;
}

/* ---------------------------------------------------------------- merge */

enum { DIMS = TENON_MAX_RANK - 1 };

/* As in kernels/cache.cl. */
typedef struct merged_numbers {
    int64_t start, step, row[DIMS];
    int32_t type, reserved;
} merged_numbers;

/* Parts of one launch. */
enum { PARTS = 4 };

typedef struct merge_numbers {
    int64_t rows, dv;
    int64_t extent[DIMS];
    int64_t state, sums;
    merged_numbers o[PARTS], lse[PARTS];
    int32_t rank, phase, parts, first;
} merge_numbers;

_Static_assert(sizeof(merge_numbers) + (2 * PARTS + 1) * 8 <= TN_CL_ARGUMENT_BYTES,
               "a kernel's arguments");
_Static_assert(3 * (TN_MERGE_MAX_PARTS / PARTS) + 1 <= TN_CL_LAUNCHES, "launches of a merge");

enum { WEIGH, TOTAL, ADD, STORE };

typedef struct merge_run {
    const tn_merge_problem *p;
    const tn_run *run;
    tn_cl_work *work;
    tn_message *why;
    const char *options;
    merge_numbers n;
} merge_run;

static size_t state_bytes(const tn_merge_problem *p, int sum) {
    return (size_t)tn_round_up(2 * p->rows * (sum ? 8 : 4), 4096);
}

tenon_status tn_cl_merge_plan(const tn_cl_limits *limits, const tn_merge_problem *p,
                              tn_choices *out, tn_message *why) {
    /* f64 where there is one: weights are as exact as the CPU's. */
    const cache_state s = {.sum = limits->fp64};
    out->count = 0;
    TN_TRY(refuse_f64(limits, p->o.dtype, "o", why));
    TN_TRY(refuse_f64(limits, p->lse.dtype, "lse", why));
    for (int64_t i = 0; i < p->count; i++) {
        TN_TRY(refuse_f64(limits, p->o_part[i].dtype, "o_parts", why));
        TN_TRY(refuse_f64(limits, p->lse_part[i].dtype, "lse_parts", why));
    }
    offer("merge", "merge_sums", s,
          state_bytes(p, s.sum) + (size_t)(p->rows * p->dv) * (s.sum ? 8 : 4),
          (double)p->rows * (double)p->dv * (double)p->count * 4e-9 +
              15e-6 * (double)(3 * tn_ceil_div(p->count, PARTS) + 1),
          out);
    return TENON_OK;
}

static merged_numbers numbers_of(const tn_merge_problem *p, const tn_merge_operand *x,
                                 const tn_place *place) {
    const int64_t size = tn_element_size(x->dtype);
    merged_numbers n = {
        .start = (int64_t)place->offset, .step = x->step * size, .type = (int32_t)x->dtype};
    for (int32_t d = 0; d < p->rank; d++)
        n.row[d] = x->row[d] * size;
    return n;
}

/* Parts [first, first + PARTS) as far as they exist. */
static tenon_status merge_parts(merge_run *r, int phase, int64_t first) {
    const tn_merge_problem *p = r->p;
    const tn_place *part = r->run->places->part;
    const int count = (int)tn_min64(PARTS, p->count - first);
    const bool sums = phase == ADD;
    r->n.phase = phase;
    r->n.parts = count;
    r->n.first = first == 0 && phase != TOTAL;
    tn_cl_launch l = {.program = "cache",
                      .kernel = sums ? "merge_sums" : "merge_weights",
                      .options = r->options,
                      .dims = sums ? 2 : 1,
                      .global = {(size_t)(sums ? p->dv : p->rows), (size_t)p->rows},
                      .scratch_only = true};
    for (int which = sums ? 0 : 1; which < 2; which++)
        for (int i = 0; i < PARTS; i++) {
            /* a memory for every argument: the first again where there are no more parts */
            const int64_t at = first + (i < count ? i : 0);
            const tn_place *place = &part[which * TN_MERGE_MAX_PARTS + at];
            if (which == 0)
                r->n.o[i] = numbers_of(p, &p->o_part[at], place);
            else
                r->n.lse[i] = numbers_of(p, &p->lse_part[at], place);
            tn_cl_arg_memory(&l, place);
        }
    tn_cl_arg_memory(&l, &r->run->places->scratch);
    tn_cl_arg_bytes(&l, &r->n, sizeof r->n);
    return tn_cl_launch_add(r->work, &l, r->why);
}

static tenon_status merge_store(merge_run *r) {
    const tn_merge_problem *p = r->p;
    const tn_place *o = &r->run->places->operand[TN_MERGE_O],
                   *lse = &r->run->places->operand[TN_MERGE_LSE];
    r->n.phase = STORE;
    r->n.first = p->count == 0;
    r->n.o[0] = numbers_of(p, &p->o, o);
    r->n.lse[0] = numbers_of(p, &p->lse, lse);
    tn_cl_launch l = {.program = "cache",
                      .kernel = "merge_store",
                      .options = r->options,
                      .dims = 2,
                      .global = {(size_t)p->dv, (size_t)p->rows}};
    tn_cl_arg_memory(&l, o);
    tn_cl_arg_memory(&l, lse);
    tn_cl_arg_memory(&l, &r->run->places->scratch);
    tn_cl_arg_bytes(&l, &r->n, sizeof r->n);
    return tn_cl_launch_add(r->work, &l, r->why);
}

tenon_status tn_cl_merge_run(tn_cl_work *work, const tn_run *run, tn_message *why) {
    const tn_merge_problem *p = run->problem;
    char options[TN_CL_OPTIONS];
    cache_state s;
    memcpy(&s, run->choice->state, sizeof s);
    snprintf(options, sizeof options, "-DTN_SUM=%d -DTN_WIDTH=1 -DTN_COLUMNS=%d", s.sum, COLUMNS);
    merge_run r = {.p = p, .run = run, .work = work, .why = why, .options = options};
    r.n.rows = p->rows;
    r.n.dv = p->dv;
    r.n.rank = p->rank;
    for (int32_t d = 0; d < DIMS; d++)
        r.n.extent[d] = d < p->rank ? p->extent[d] : 1;
    r.n.state = (int64_t)run->places->scratch.offset;
    r.n.sums = r.n.state + (int64_t)state_bytes(p, s.sum);
    for (int phase = WEIGH; phase <= ADD; phase++)
        for (int64_t i = 0; i < p->count; i += PARTS)
            TN_TRY(merge_parts(&r, phase, i));
    return merge_store(&r);
}
