/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_piece.c: what the arrangements share: which member and piece of C is a task's, where its
 * sums are kept, and the product of a column of tiles.
 */
#include "cpu/cpu_gemm.h"
#include "ops/index.h"

/* ---- members of the batch */

static void *member_address(const tn_gemm_job *job, int role, int64_t elements) {
    const tn_gemm_operand *o = &job->p.operand[role];
    if (!o->dtype || !job->address[role])
        return NULL;
    return (char *)job->address[role] + tn_gemm_offset(o->dtype, elements);
}

void tn_gemm_batch_member(const tn_gemm_job *job, int64_t index, tn_gemm_member *x) {
    const tn_gemm_problem *p = &job->p;
    for (int r = 0; r < TN_GEMM_OFFSETS; r++) {
        const bool listed = p->pointer_array && r <= TN_GEMM_C;
        x->at[r] = listed
                       ? ((char *const *)job->address[r])[index]
                       : member_address(
                             job, r,
                             p->pointer_array ? 0 : tn_gemm_batch_offset(p, &p->operand[r], index));
    }
    x->m = p->m;
    x->packed = p->operand[TN_GEMM_B_PACKED].dtype || job->packed_blocks
                    ? tn_gemm_packed_member(p, index)
                    : 0;
}

static int64_t expert_offset(const tn_gemm_job *job, int64_t e) {
    const tn_gemm_operand *o = &job->p.operand[TN_GEMM_OFFSETS];
    return tn_index_get(job->address[TN_GEMM_OFFSETS], o->dtype, e * o->row);
}

static void expert_member(const tn_gemm_job *job, int64_t e, tn_gemm_member *x) {
    const int64_t first = expert_offset(job, e);
    for (int r = 0; r < TN_GEMM_OFFSETS; r++) {
        const tn_gemm_operand *o = &job->p.operand[r];
        const bool of_b = r == TN_GEMM_B || r == TN_GEMM_B_SCALE || r == TN_GEMM_B_ZERO;
        x->at[r] = member_address(job, r, e * o->batch[0] + (of_b ? 0 : first * o->row));
    }
    x->m = expert_offset(job, e + 1) - first;
    x->packed = e;
}

void tn_gemm_find_place(const tn_gemm_job *job, int64_t index, tn_gemm_place *at) {
    const tn_gemm_plan *plan = job->plan;
    const int64_t across = tn_ceil_div(job->p.n, plan->nc);
    int64_t i0 = index / across; /* counted in pieces of mc rows over all members */
    at->j0 = index % across * plan->nc;
    if (job->p.experts > 0) {
        int64_t e = 0;
        for (;; e++) {
            const int64_t pieces =
                tn_ceil_div(expert_offset(job, e + 1) - expert_offset(job, e), plan->mc);
            if (i0 < pieces)
                break;
            i0 -= pieces;
        }
        expert_member(job, e, &at->x);
    } else {
        const int64_t down = tn_ceil_div(job->p.m, plan->mc);
        tn_gemm_batch_member(job, i0 / down, &at->x);
        i0 %= down;
    }
    at->i0 = i0 * plan->mc;
    at->rows = tn_min64(plan->mc, at->x.m - at->i0);
    at->cols = tn_min64(plan->nc, job->p.n - at->j0);
}

int64_t tn_gemm_pieces_down(const tn_gemm_job *job) {
    int64_t count = 0;
    if (job->p.experts == 0)
        return job->p.batch_count * tn_ceil_div(job->p.m, job->plan->mc);
    for (int64_t e = 0; e < job->p.experts; e++)
        count += tn_ceil_div(expert_offset(job, e + 1) - expert_offset(job, e), job->plan->mc);
    return count;
}

/* ---- A packed once for all */

char *tn_gemm_shared_a(const tn_gemm_job *job, int64_t rows, int64_t i0, int64_t p0) {
    const tn_gemm_tile *tile = job->tile;
    const int64_t kc = tn_min64(TN_GEMM_KC, job->p.k - p0);
    return job->workspace +
           p0 / TN_GEMM_KC * tn_ceil_div(rows, tile->mr) * tn_gemm_a_bytes(tile, TN_GEMM_KC) +
           i0 / tile->mr * tn_gemm_a_bytes(tile, kc);
}

/* Tiles of a block of k that one task packs: some microseconds, so that all workers have a part of
 * a single block, too. */
enum { PACK_TILES = 8 };

static int64_t pack_groups(const tn_gemm_job *job) {
    return tn_ceil_div(tn_ceil_div(job->member.m, job->tile->mr), PACK_TILES);
}

static void pack_a_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    const int64_t groups = pack_groups(job), rows = job->member.m,
                  tiles = tn_ceil_div(rows, job->tile->mr);
    const int64_t p0 = index / groups * TN_GEMM_KC, kc = tn_min64(TN_GEMM_KC, job->p.k - p0),
                  first = index % groups * PACK_TILES;
    char *to = tn_gemm_shared_a(job, rows, first * job->tile->mr, p0);
    int64_t i = first ? tn_gemm_tile_end(job->plan, job->tile, rows, first - 1) : 0;
    (void)worker;
    for (int64_t n = first; n < tn_min64(first + PACK_TILES, tiles); n++) {
        const int64_t end = tn_gemm_tile_end(job->plan, job->tile, rows, n);
        tn_gemm_pack_a(job, &job->member, i, end - i, p0, kc, to);
        to += tn_gemm_a_bytes(job->tile, kc);
        i = end;
    }
}

void tn_gemm_pack_shared_a(tn_gemm_job *job, tn_team *team) {
    tn_gemm_batch_member(job, 0, &job->member);
    tn_team_run(team, pack_a_task, job, tn_ceil_div(job->p.k, TN_GEMM_KC) * pack_groups(job));
}

/* ---- sums */

tn_gemm_sums tn_gemm_sums_in_c(const tn_gemm_job *job, const tn_gemm_member *x, int64_t i0,
                               int64_t j0) {
    const tn_gemm_operand *c = &job->p.operand[TN_GEMM_C];
    return (tn_gemm_sums){x->at[TN_GEMM_C] + (i0 * c->row + j0) * (int64_t)job->element, c->row, 0};
}

tn_gemm_sums tn_gemm_sums_in_buffer(const tn_gemm_job *job, char *at, int64_t columns) {
    const int64_t half = tn_round_up(columns, job->tile->nr);
    return (tn_gemm_sums){at, half * job->halves, half};
}

void tn_gemm_panel_product(const tn_gemm_job *job, const char *a, int64_t rows, const char *b,
                           int64_t ldb, int64_t kc, char *c, int64_t ldc, int64_t cols, bool first,
                           tn_gemm_ahead *ahead, int64_t pieces) {
    const tn_gemm_tile *tile = job->tile;
    const int64_t size = (int64_t)job->element, a_step = tn_gemm_a_bytes(tile, kc);
    const int64_t tiles = tn_ceil_div(rows, tile->mr);
    int64_t top = 0;
    tn_gemm_ukr_args t = {.b = b,
                          .kc = kc,
                          .ldb = ldb,
                          .ldc = ldc,
                          .meet = first ? TN_GEMM_STORE : TN_GEMM_ADD,
                          .settle = true,
                          .ahead = ahead};
    t.cols = (int32_t)cols;
    t.b_tail = b + tn_gemm_b_steps(tile, kc);
    for (int64_t i = 0; i < tiles; i++) {
        const int64_t end = tn_gemm_tile_end(job->plan, tile, rows, i);
        t.a = a + i * a_step;
        t.c = c + top * ldc * size;
        t.rows = (int32_t)(end - top);
        top = end;
        t.pieces = tn_ceil_div(pieces, tiles - i);
        pieces -= t.pieces;
        tile->ukr(&t);
    }
}

void tn_gemm_zero_sums(const tn_gemm_job *job, const tn_gemm_sums *s, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows; i++)
        for (int half = 0; half < job->halves; half++)
            memset(tn_gemm_sum_at(job, s, half, i, 0), 0, (size_t)cols * job->element);
}

void tn_gemm_finish_rows(const tn_gemm_job *job, const tn_gemm_member *x, const tn_gemm_sums *s,
                         int64_t i0, int64_t rows, int64_t j0, int64_t cols) {
    if (job->plan->in_place && !tn_gemm_has_epilogue(job))
        return;
    for (int64_t i = 0; i < rows; i++)
        tn_gemm_finish_row(job, x, i0 + i, j0, cols, tn_gemm_sum_at(job, s, 0, i, 0),
                           tn_gemm_sum_at(job, s, 1, i, 0));
}

char *tn_gemm_worker_buffer(const tn_gemm_job *job, int worker) {
    const tn_gemm_plan *plan = job->plan;
    return job->workspace + plan->shared_bytes +
           (size_t)worker * (plan->a_bytes + plan->b_bytes + plan->sum_bytes);
}
