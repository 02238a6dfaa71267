/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm.c: runs a planned product: the loops around the microkernel, and who does which piece.
 *
 * The loops are those of Goto and van de Geijn (Anatomy of High-Performance Matrix Multiplication,
 * 2008) in four arrangements (tn_gemm_kind). In all of them k is cut into blocks of TN_GEMM_KC, a
 * block's sum is one chain per element, and block sums are added in ascending order, in C itself
 * where it has the compute type and needs nothing else meanwhile, else in a buffer. So the
 * arrangement never shows in the result.
 */
#include "core/team.h"
#include "cpu/cpu_gemm.h"
#include "ops/index.h"

/* ---- members of the batch */

static void *member_address(const tn_gemm_job *job, int role, int64_t elements) {
    const tn_gemm_operand *o = &job->p.operand[role];
    if (!o->dtype || !job->address[role])
        return NULL;
    return (char *)job->address[role] + elements * (int64_t)tn_gemm_element(o->dtype);
}

static void batch_member(const tn_gemm_job *job, int64_t index, tn_gemm_member *x) {
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
    x->packed = p->operand[TN_GEMM_B_PACKED].dtype ? tn_gemm_packed_member(p, index) : 0;
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

/* ---- one piece of C, from packing to the last step, by one worker */

/* Where sums are kept: the piece's own buffer, or C. */
typedef struct sums {
    char *at;
    int64_t ld, half; /* elements between rows, and from one half to the other */
} sums;

static sums sums_in_c(const tn_gemm_job *job, const tn_gemm_member *x, int64_t i0, int64_t j0) {
    const tn_gemm_operand *c = &job->p.operand[TN_GEMM_C];
    return (sums){x->at[TN_GEMM_C] + (i0 * c->row + j0) * (int64_t)job->element, c->row, 0};
}

static sums sums_in_buffer(const tn_gemm_job *job, char *at, int64_t columns) {
    const int64_t half = tn_round_up(columns, job->tile->nr);
    return (sums){at, half * job->halves, half};
}

static char *sum_at(const tn_gemm_job *job, const sums *s, int half, int64_t i, int64_t j) {
    return s->at + (i * s->ld + half * s->half + j) * (int64_t)job->element;
}

/* All row tiles of one panel of B. */
static void panel_product(const tn_gemm_job *job, const char *a, int64_t rows, const char *b,
                          int64_t ldb, int64_t kc, char *c, int64_t ldc, int64_t cols, bool first) {
    const tn_gemm_tile *tile = job->tile;
    const int64_t size = (int64_t)job->element, a_step = tn_gemm_a_stride(tile, kc) * size;
    tn_gemm_ukr_args t = {
        .b = b, .kc = kc, .ldb = ldb, .ldc = ldc, .meet = first ? TN_GEMM_STORE : TN_GEMM_ADD};
    t.cols = (int32_t)cols;
    for (int64_t i = 0; i < rows; i += tile->mr) {
        t.a = a;
        t.c = c + i * ldc * size;
        t.rows = (int32_t)tn_min64(tile->mr, rows - i);
        tile->ukr(&t);
        a += a_step;
    }
}

static void zero_sums(const tn_gemm_job *job, const sums *s, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows; i++)
        for (int half = 0; half < job->halves; half++)
            memset(sum_at(job, s, half, i, 0), 0, (size_t)cols * job->element);
}

static void finish_rows(const tn_gemm_job *job, const tn_gemm_member *x, const sums *s, int64_t i0,
                        int64_t rows, int64_t j0, int64_t cols) {
    if (job->plan->in_place && !tn_gemm_has_epilogue(&job->p))
        return;
    for (int64_t i = 0; i < rows; i++)
        tn_gemm_finish_row(job, x, i0 + i, j0, cols, sum_at(job, s, 0, i, 0),
                           sum_at(job, s, 1, i, 0));
}

/* The panel of B for columns j0 ... j0 + cols: in the caller's packed copy, in B itself, or packed
 * into `buffer`. */
static const char *panel_of_b(const tn_gemm_job *job, const tn_gemm_member *x, int half, int64_t j0,
                              int64_t cols, int64_t p0, int64_t kc, char *buffer, int64_t *ldb) {
    const tn_gemm_operand *b = &job->p.operand[TN_GEMM_B];
    *ldb = job->tile->nr;
    if (job->p.operand[TN_GEMM_B_PACKED].dtype)
        return tn_gemm_packed_panel(job, x, half, j0, p0, kc);
    if (job->plan->direct_b && cols == job->tile->nr) {
        *ldb = b->row;
        return x->at[TN_GEMM_B] + (p0 * b->row + half * job->p.n + j0) * (int64_t)job->element;
    }
    tn_gemm_pack_b(job, x, half, j0, cols, p0, kc, buffer);
    return buffer;
}

/* Bytes of A's packed panels for `rows` rows and one block of k. */
static size_t block_bytes(const tn_gemm_job *job, int64_t rows, int64_t kc) {
    return tn_round64((size_t)(tn_ceil_div(rows, job->tile->mr) * tn_gemm_a_stride(job->tile, kc)) *
                      job->element);
}

static void piece(const tn_gemm_job *job, const tn_gemm_member *x, int64_t i0, int64_t rows,
                  int64_t j0, int64_t cols, char *own) {
    const tn_gemm_plan *plan = job->plan;
    const int64_t k = job->p.k, nr = job->tile->nr;
    char *a_buffer = own, *b_buffer = own + plan->a_bytes, *sum_buffer = b_buffer + plan->b_bytes;
    const sums s =
        plan->in_place ? sums_in_c(job, x, i0, j0) : sums_in_buffer(job, sum_buffer, cols);

    if (k == 0)
        zero_sums(job, &s, rows, cols);
    for (int64_t p0 = 0; p0 < k; p0 += TN_GEMM_KC) {
        const int64_t kc = tn_min64(TN_GEMM_KC, k - p0);
        const char *a = a_buffer;
        if (plan->shared_a)
            a = job->workspace + (size_t)(p0 / TN_GEMM_KC) * block_bytes(job, x->m, TN_GEMM_KC) +
                (size_t)(i0 / job->tile->mr * tn_gemm_a_stride(job->tile, kc)) * job->element;
        else
            tn_gemm_pack_a(job, x, i0, rows, p0, kc, a_buffer);
        for (int half = 0; half < job->halves; half++) {
            for (int64_t j = 0; j < cols; j += nr) {
                const int64_t width = tn_min64(nr, cols - j);
                int64_t ldb;
                const char *b = panel_of_b(job, x, half, j0 + j, width, p0, kc, b_buffer, &ldb);
                panel_product(job, a, rows, b, ldb, kc, sum_at(job, &s, half, 0, j), s.ld, width,
                              p0 == 0);
            }
        }
    }
    finish_rows(job, x, &s, i0, rows, j0, cols);
}

static char *worker_buffer(const tn_gemm_job *job, int worker) {
    const tn_gemm_plan *plan = job->plan;
    return job->workspace + plan->shared_bytes +
           (size_t)worker * (plan->a_bytes + plan->b_bytes + plan->sum_bytes);
}

static void pack_a_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    const int64_t p0 = index * TN_GEMM_KC, kc = tn_min64(TN_GEMM_KC, job->p.k - p0);
    (void)worker;
    tn_gemm_pack_a(job, &job->member, 0, job->member.m, p0, kc,
                   job->workspace + (size_t)index * block_bytes(job, job->member.m, TN_GEMM_KC));
}

/* A task's piece of C. */
typedef struct place {
    tn_gemm_member x;
    int64_t i0, rows, j0, cols;
} place;

static void find_place(const tn_gemm_job *job, int64_t index, place *at) {
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
        batch_member(job, i0 / down, &at->x);
        i0 %= down;
    }
    at->i0 = i0 * plan->mc;
    at->rows = tn_min64(plan->mc, at->x.m - at->i0);
    at->cols = tn_min64(plan->nc, job->p.n - at->j0);
}

static void piece_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    place at;
    find_place(job, index, &at);
    piece(job, &at.x, at.i0, at.rows, at.j0, at.cols, worker_buffer(job, worker));
}

static int64_t pieces_down(const tn_gemm_job *job) {
    int64_t count = 0;
    if (job->p.experts == 0)
        return job->p.batch_count * tn_ceil_div(job->p.m, job->plan->mc);
    for (int64_t e = 0; e < job->p.experts; e++)
        count += tn_ceil_div(expert_offset(job, e + 1) - expert_offset(job, e), job->plan->mc);
    return count;
}

static void run_private(tn_gemm_job *job, tn_team *team) {
    if (job->plan->shared_a) {
        batch_member(job, 0, &job->member);
        tn_team_run(team, pack_a_task, job, tn_ceil_div(job->p.k, TN_GEMM_KC));
    }
    tn_team_run(team, piece_task, job, pieces_down(job) * tn_ceil_div(job->p.n, job->plan->nc));
}

/* ---- a few rows: B in place */

/* Columns j0 ... j0 + cols of all rows of a member. A that is not as the kernels read it is converted
 * some blocks of k at a time. */
static void vector_piece(const tn_gemm_job *job, const tn_gemm_member *x, int64_t j0, int64_t cols,
                         char *own) {
    const tn_gemm_problem *p = &job->p;
    const tn_gemm_plan *plan = job->plan;
    const tn_gemm_operand *a = &p->operand[TN_GEMM_A], *b = &p->operand[TN_GEMM_B];
    const int64_t a_size = (int64_t)tn_gemm_element(a->dtype),
                  b_size = (int64_t)tn_gemm_element(b->dtype);
    const int64_t chunk = plan->chunk ? plan->chunk : p->k;
    const sums s = plan->in_place ? sums_in_c(job, x, 0, j0)
                                  : sums_in_buffer(job, own + plan->a_bytes + plan->b_bytes, cols);

    for (int64_t p0 = 0; p0 < p->k; p0 += chunk) {
        const int64_t steps = tn_min64(chunk, p->k - p0);
        tn_gemv_args t = {
            .a = x->at[TN_GEMM_A],
            .b = x->at[TN_GEMM_B] + (j0 * b->column + p0 * b->row) * b_size,
            .y = s.at,
            .scratch = own + plan->a_bytes,
            .k = steps,
            .block = TN_GEMM_KC,
            .n = cols,
            .row = b->row,
            .column =
                p->n == 1 ? b->row != 1 : b->column, /* a single column's own stride says nothing */
            .rows = p->m,
            .a_step = a->row,
            .y_step = s.ld,
            .add = p0 > 0,
        };
        if (plan->chunk) {
            for (int64_t i = 0; i < p->m; i++)
                job->tile->load[a->dtype](x->at[TN_GEMM_A] + (i * a->row + p0 * a->column) * a_size,
                                          a->column, steps,
                                          own + i * chunk * (int64_t)job->element);
            t.a = own;
            t.a_step = chunk;
        }
        job->tile->gemv[b->dtype](&t);
    }
    finish_rows(job, x, &s, 0, p->m, j0, cols);
}

static void vector_place(const tn_gemm_job *job, int64_t index, char *own) {
    const int64_t across = tn_ceil_div(job->p.n, job->plan->nc),
                  j0 = index % across * job->plan->nc;
    tn_gemm_member x;
    batch_member(job, index / across, &x);
    vector_piece(job, &x, j0, tn_min64(job->plan->nc, job->p.n - j0), own);
}

static void vector_task(void *arg, int64_t index, int worker) {
    vector_place(arg, index, worker_buffer(arg, worker));
}

static void vector_stack_task(void *arg, int64_t index, int worker) {
    _Alignas(64) char own[TN_CPU_STACK];
    (void)worker;
    vector_place(arg, index, own);
}

static void run_vector(tn_gemm_job *job, tn_team *team) {
    tn_team_run(team, job->plan->on_stack ? vector_stack_task : vector_task, job,
                job->p.batch_count * tn_ceil_div(job->p.n, job->plan->nc));
}

/* ---- large: packed by all, used by all */

/* Panels of B, then groups of panels of A. */
static void shared_pack_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    const tn_gemm_tile *tile = job->tile;
    const int64_t kc = tn_min64(TN_GEMM_KC, job->p.k - job->p0),
                  panels = tn_ceil_div(job->cols, tile->nr);
    const int64_t of_b = job->p.operand[TN_GEMM_B_PACKED].dtype ? 0 : panels * job->halves;
    (void)worker;
    if (index < of_b) {
        const int64_t j = index % panels * tile->nr;
        tn_gemm_pack_b(job, &job->member, (int)(index / panels), job->j0 + j,
                       tn_min64(tile->nr, job->cols - j), job->p0, kc,
                       job->workspace + job->plan->a_bytes +
                           (size_t)(index * kc * tile->nr) * job->element);
        return;
    }
    const int64_t group = 4 * tile->mr, i = (index - of_b) * group;
    tn_gemm_pack_a(job, &job->member, job->i0 + i, tn_min64(group, job->rows - i), job->p0, kc,
                   job->workspace +
                       (size_t)(i / tile->mr * tn_gemm_a_stride(tile, kc)) * job->element);
}

static void shared_product_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    const tn_gemm_plan *plan = job->plan;
    const tn_gemm_tile *tile = job->tile;
    const int64_t kc = tn_min64(TN_GEMM_KC, job->p.k - job->p0),
                  panels = tn_ceil_div(job->cols, tile->nr);
    const int64_t across = tn_ceil_div(job->cols, plan->item_n);
    const int64_t i = index / across * plan->item_m, j_first = index % across * plan->item_n;
    const int64_t rows = tn_min64(plan->item_m, job->rows - i),
                  cols = tn_min64(plan->item_n, job->cols - j_first);
    const char *a =
        job->workspace + (size_t)(i / tile->mr * tn_gemm_a_stride(tile, kc)) * job->element;
    const sums s =
        plan->in_place
            ? sums_in_c(job, &job->member, job->i0, job->j0)
            : sums_in_buffer(job, job->workspace + plan->a_bytes + plan->b_bytes, job->cols);
    (void)worker;

    for (int half = 0; half < job->halves; half++) {
        for (int64_t j = j_first; j < j_first + cols; j += tile->nr) {
            const char *b = job->workspace + plan->a_bytes +
                            (size_t)((half * panels + j / tile->nr) * kc * tile->nr) * job->element;
            if (job->p.operand[TN_GEMM_B_PACKED].dtype)
                b = tn_gemm_packed_panel(job, &job->member, half, job->j0 + j, job->p0, kc);
            panel_product(job, a, rows, b, tile->nr, kc, sum_at(job, &s, half, i, j), s.ld,
                          tn_min64(tile->nr, j_first + cols - j), job->p0 == 0);
        }
    }
    if (job->p0 + kc == job->p.k) {
        const sums part = {sum_at(job, &s, 0, i, j_first), s.ld, s.half};
        finish_rows(job, &job->member, &part, job->i0 + i, rows, job->j0 + j_first, cols);
    }
}

/* Pre: k > 0. */
static void run_shared(tn_gemm_job *job, tn_team *team) {
    const tn_gemm_plan *plan = job->plan;
    const tn_gemm_problem *p = &job->p;
    for (int64_t index = 0; index < p->batch_count; index++) {
        batch_member(job, index, &job->member);
        for (job->j0 = 0; job->j0 < p->n; job->j0 += plan->nc) {
            job->cols = tn_min64(plan->nc, p->n - job->j0);
            const int64_t of_b = p->operand[TN_GEMM_B_PACKED].dtype
                                     ? 0
                                     : tn_ceil_div(job->cols, job->tile->nr) * job->halves;
            for (job->i0 = 0; job->i0 < p->m; job->i0 += plan->mc) {
                job->rows = tn_min64(plan->mc, p->m - job->i0);
                const int64_t of_a = tn_ceil_div(job->rows, 4 * job->tile->mr);
                const int64_t items =
                    tn_ceil_div(job->rows, plan->item_m) * tn_ceil_div(job->cols, plan->item_n);
                for (job->p0 = 0; job->p0 < p->k; job->p0 += TN_GEMM_KC) {
                    tn_team_run(team, shared_pack_task, job, of_b + of_a);
                    tn_team_run(team, shared_product_task, job, items);
                }
            }
        }
    }
}

/* ---- no workspace: blocks of C, and a few steps of the panels that they meet, on the stack */

/* One block of k, columns j0 ... j0 + cols of one half, into `to`, whose rows are ld apart. */
static void small_product(const tn_gemm_job *job, const place *at, int half, int64_t j0,
                          int64_t cols, int64_t p0, char *own, char *to, int64_t ld) {
    const tn_gemm_plan *plan = job->plan;
    const tn_gemm_tile *tile = job->tile;
    const int64_t nr = tile->nr, size = (int64_t)job->element,
                  kc = tn_min64(TN_GEMM_KC, job->p.k - p0);
    const bool packed = job->p.operand[TN_GEMM_B_PACKED].dtype != TENON_DTYPE_NONE;
    char *a = own, *b = own + plan->a_bytes;
    tn_gemm_ukr_args t = {.a = a, .ldb = nr, .ldc = ld};

    for (int64_t q = 0; q < kc; q += TN_GEMM_SMALL_STEP) {
        t.kc = tn_min64(TN_GEMM_SMALL_STEP, kc - q);
        t.meet = q == 0 ? TN_GEMM_STORE : TN_GEMM_CHAIN;
        for (int64_t j = 0; j < cols && !packed; j += nr)
            tn_gemm_pack_b(job, &at->x, half, j0 + j, tn_min64(nr, cols - j), p0 + q, t.kc,
                           b + j * t.kc * size);
        for (int64_t i = 0; i < at->rows; i += tile->mr) {
            t.rows = (int32_t)tn_min64(tile->mr, at->rows - i);
            tn_gemm_pack_a(job, &at->x, at->i0 + i, t.rows, p0 + q, t.kc, a);
            for (int64_t j = 0; j < cols; j += nr) {
                t.cols = (int32_t)tn_min64(nr, cols - j);
                t.b = packed
                          ? tn_gemm_packed_panel(job, &at->x, half, j0 + j, p0, kc) + q * nr * size
                          : b + j * t.kc * size;
                t.c = to + (i * ld + j) * size;
                tile->ukr(&t);
            }
        }
    }
}

/* Columns j0 ... j0 + cols of a place: at most a block. */
static void small_block(const tn_gemm_job *job, const place *at, int64_t j0, int64_t cols,
                        char *own) {
    const tn_gemm_plan *plan = job->plan;
    const int64_t k = job->p.k;
    /* Behind the panels: a block of k's sums, where there are several blocks; then all of them. */
    char *block = own + plan->a_bytes + plan->b_bytes,
         *all = block +
                (k > TN_GEMM_KC ? tn_round64((size_t)(plan->mc * plan->item_n) * job->element) : 0);
    const sums s =
        plan->in_place ? sums_in_c(job, &at->x, at->i0, j0) : sums_in_buffer(job, all, cols);

    if (k == 0)
        zero_sums(job, &s, at->rows, cols);
    for (int half = 0; half < job->halves; half++) {
        for (int64_t p0 = 0; p0 < k; p0 += TN_GEMM_KC) {
            if (p0 == 0) {
                small_product(job, at, half, j0, cols, p0, own, sum_at(job, &s, half, 0, 0), s.ld);
                continue;
            }
            small_product(job, at, half, j0, cols, p0, own, block, plan->item_n);
            for (int64_t i = 0; i < at->rows; i++)
                job->tile->ops.add(sum_at(job, &s, half, i, 0),
                                   block + (size_t)(i * plan->item_n) * job->element, cols);
        }
    }
    finish_rows(job, &at->x, &s, at->i0, at->rows, j0, cols);
}

static void small_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    _Alignas(64) char own[TN_CPU_STACK];
    place at;
    (void)worker;
    find_place(job, index, &at);
    for (int64_t j = 0; j < at.cols; j += job->plan->item_n)
        small_block(job, &at, at.j0 + j, tn_min64(job->plan->item_n, at.cols - j), own);
}

static void run_small(tn_gemm_job *job, tn_team *team) {
    tn_team_run(team, small_task, job, pieces_down(job) * tn_ceil_div(job->p.n, job->plan->nc));
}

/* ---- */

/* Role of the operand that stands in for `role` in the transposed problem. */
static int other_role(int role) {
    switch (role) {
    case TN_GEMM_A:
        return TN_GEMM_B;
    case TN_GEMM_B:
        return TN_GEMM_A;
    case TN_GEMM_A_SCALE:
        return TN_GEMM_B_SCALE;
    case TN_GEMM_A_ZERO:
        return TN_GEMM_B_ZERO;
    case TN_GEMM_B_SCALE:
        return TN_GEMM_A_SCALE;
    case TN_GEMM_B_ZERO:
        return TN_GEMM_A_ZERO;
    default:
        return role;
    }
}

void tn_gemm_transpose(const tn_gemm_problem *p, tn_gemm_problem *out) {
    *out = *p;
    out->m = p->n;
    out->n = p->m;
    for (int r = 0; r < TN_GEMM_ROLES; r++) {
        const tn_gemm_operand *from = &p->operand[other_role(r)];
        out->operand[r] = *from;
        out->operand[r].row = from->column;
        out->operand[r].column = from->row;
        out->group[r] = p->group[other_role(r)];
    }
}

void tn_cpu_gemm_run(const tn_run *run) {
    const tn_gemm_problem *p = run->problem;
    const tn_gemm_plan *plan = (const tn_gemm_plan *)(const void *)run->choice->state;
    tn_gemm_job job;
    /* Not the problem too, which is written whole: that would be a fifth of the smallest product's time. */
    memset((char *)&job + sizeof job.p, 0, sizeof job - sizeof job.p);
    job.plan = plan;
    job.tile = plan->tile;
    job.workspace = run->workspace;
    job.element = tn_gemm_element(plan->tile->type);
    job.halves = p->gated != TENON_GATED_NONE ? 2 : 1;
    if (plan->transposed)
        tn_gemm_transpose(p, &job.p);
    else
        job.p = *p;
    for (int r = 0; r < TN_GEMM_ROLES; r++)
        job.address[r] = run->addresses[plan->transposed ? other_role(r) : r];

    switch (plan->kind) {
    case TN_GEMM_VECTOR:
        run_vector(&job, run->team);
        break;
    case TN_GEMM_PRIVATE:
        run_private(&job, run->team);
        break;
    case TN_GEMM_SHARED:
        run_shared(&job, run->team);
        break;
    case TN_GEMM_SMALL:
        run_small(&job, run->team);
        break;
    }
}
