/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_merge.c: joins attentions over disjoint sets of keys by their log-sum-exps (Dao et al., 2022,
 * section 3.1), parts in index order.
 *
 * The weights of a row are worked out in double precision, once per row; the row itself in f32, or
 * f64 where one of the tensors is, some of its columns at a time on the stack.
 */
#include "cpu/cpu_kernels.h"
#include "cpu/cpu_ops.h"

#include <math.h>

/* Columns that are summed at a time: twice 4 KiB of f64. */
enum { COLUMNS = 512 };

typedef struct merge_state {
    const tn_gemm_tile *tile;
    int64_t grain; /* rows of a task */
} merge_state;

_Static_assert(sizeof(merge_state) <= TN_CHOICE_STATE, "a choice keeps it");

typedef struct merge_run {
    const tn_merge_problem *p;
    merge_state state;
    void *const *addresses;
} merge_run;

tenon_status tn_cpu_merge_plan(const tn_merge_problem *p, int threads, tn_cpu_level level,
                               tn_choices *out, tn_message *why) {
    tn_choice c;
    bool wide = p->o.dtype == TENON_F64;
    merge_state s = {0};
    (void)why;

    for (int64_t i = 0; i < p->count; ++i)
        wide = wide || p->o_part[i].dtype == TENON_F64;
    s.tile = tn_cpu_tile_find(wide ? TENON_F64 : TENON_F32, level);
    s.grain = 1 + 8192 / (1 + p->dv * (1 + p->count));
    memset(&c, 0, sizeof c);
    c.algorithm = "merge";
    c.kernel = s.tile->name;
    c.reason = "the only one";
    c.seconds = (double)p->rows * (double)p->dv * (double)(p->count + 1) * 1e-9 / threads;
    memcpy(c.state, &s, sizeof s);
    out->count = 0;
    tn_choices_offer(out, &c);
    return TENON_OK;
}

static void *at(const void *base, tenon_dtype dtype, int64_t element) {
    return (char *)(uintptr_t)base + element * tn_element_size(dtype);
}

static void merge_row(const merge_run *r, int64_t row) {
    const tn_merge_problem *p = r->p;
    const tn_gemm_tile *tile = r->state.tile;
    const void *const *o = r->addresses[TN_MERGE_O_PARTS], *const *lse =
                                                               r->addresses[TN_MERGE_LSE_PARTS];
    double weight[TN_MERGE_MAX_PARTS], max = -INFINITY, total = 0;

    for (int64_t i = 0; i < p->count; ++i) {
        const tn_merge_operand *x = &p->lse_part[i];
        const void *from = at(lse[i], x->dtype, tn_merge_row_start(p, x, row));
        weight[i] = x->dtype == TENON_F64 ? *(const double *)from : (double)*(const float *)from;
        max = weight[i] > max || weight[i] != weight[i] ? weight[i]
                                                        : max; /* a NaN comes back in the total */
    }
    for (int64_t i = 0; i < p->count && max != -INFINITY; ++i)
        total += exp(weight[i] - max);

    for (int64_t c = 0; c < p->dv; c += COLUMNS) {
        const int64_t n = tn_min64(COLUMNS, p->dv - c);
        double sum[COLUMNS], part[COLUMNS]; /* of the compute type */
        memset(sum, 0, sizeof sum);
        for (int64_t i = 0; i < p->count; ++i) {
            const tn_merge_operand *x = &p->o_part[i];
            if (weight[i] == -INFINITY)
                continue; /* may hold anything */
            tile->load[x->dtype](at(o[i], x->dtype, tn_merge_row_start(p, x, row) + c * x->step),
                                 x->step, n, part);
            tile->ops.axpy(sum, exp(weight[i] - max) / total, part, n);
        }
        tile->store[p->o.dtype](sum, n,
                                at(r->addresses[TN_MERGE_O], p->o.dtype,
                                   tn_merge_row_start(p, &p->o, row) + c * p->o.step),
                                p->o.step);
    }
    if (p->lse.dtype != TENON_DTYPE_NONE) {
        void *to =
            at(r->addresses[TN_MERGE_LSE], p->lse.dtype, tn_merge_row_start(p, &p->lse, row));
        const double value = max == -INFINITY ? -INFINITY : max + log(total);
        if (p->lse.dtype == TENON_F64)
            *(double *)to = value;
        else
            *(float *)to = (float)value;
    }
}

static void merge_task(void *arg, int64_t index, int worker) {
    const merge_run *r = arg;
    (void)worker;
    for (int64_t row = index * r->state.grain;
         row < (index + 1) * r->state.grain && row < r->p->rows; ++row)
        merge_row(r, row);
}

void tn_cpu_merge_run(const tn_run *run) {
    merge_run r = {.p = run->problem, .addresses = run->addresses};
    memcpy(&r.state, run->choice->state, sizeof r.state);
    tn_team_run(run->team, merge_task, &r, (r.p->rows + r.state.grain - 1) / r.state.grain);
}
