/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_pack.c: panels of A and B for the microkernels, with scales and zero points applied on
 * the way, and B packed for the caller.
 *
 * A' = scale * (A - zero) is evaluated here and nowhere else, in this order: subtract, then
 * multiply, each rounded to the compute type. A caller's packed B is a header and, for each member,
 * block of k and panel, what tn_gemm_pack_b writes.
 */
#include "core/checked.h"
#include "core/team.h"
#include "cpu/cpu_gemm.h"
#include "cpu/cpu_kernels.h"
#include "ops/packed.h"

enum { WIDEST = 64 }; /* at least the widest panel of any tile */

/* The factors of one panel, constant over groups of p. `role` is that of the scale; the zero's
 * follows it. */
typedef struct factors {
    const tn_gemm_job *job;
    const tn_gemm_member *x;
    int scale_role, zero_role;
    int64_t first, valid; /* rows or columns of the panel */
    int64_t shift, step;  /* index of column c is first * step + shift + c * step (gated B) */
    bool of_a;
} factors;

/* Loads one factor of group g, zero-padded to the panel's width. */
static const void *factor(const factors *f, int role, int64_t group, int64_t width,
                          double *buffer) {
    const tn_gemm_operand *o = &f->job->p.operand[role];
    if (!o->dtype)
        return NULL;
    const int64_t along = f->of_a ? o->row : o->column, across = f->of_a ? o->column : o->row;
    const int64_t offset = (f->shift + f->first * f->step) * along + group * across;
    memset(buffer, 0, (size_t)width * f->job->element);
    f->job->tile->load[o->dtype](f->x->at[role] + offset * (int64_t)tn_gemm_element(o->dtype),
                                 along * f->step, f->valid, buffer);
    return buffer;
}

static void apply(const factors *f, int64_t width, int64_t p0, int64_t kc, char *panel) {
    const tn_gemm_problem *p = &f->job->p;
    double scale[WIDEST], zero[WIDEST];
    const bool scaled = p->operand[f->scale_role].dtype != TENON_DTYPE_NONE;
    const bool shifted = p->operand[f->zero_role].dtype != TENON_DTYPE_NONE;
    if (!scaled && !shifted)
        return;
    for (int64_t q = p0; q < p0 + kc;) {
        int64_t end = p0 + kc;
        const int64_t sg = scaled ? q / p->group[f->scale_role] : 0,
                      zg = shifted ? q / p->group[f->zero_role] : 0;
        if (scaled)
            end = tn_min64(end, (sg + 1) * p->group[f->scale_role]);
        if (shifted)
            end = tn_min64(end, (zg + 1) * p->group[f->zero_role]);
        f->job->tile->ops.dequantise(panel + (q - p0) * width * (int64_t)f->job->element,
                                     factor(f, f->zero_role, zg, width, zero),
                                     factor(f, f->scale_role, sg, width, scale), width, end - q);
        q = end;
    }
}

/* Where scales come with the epilogue: zeros, bytes then as the operand is, are taken away here. */
static void apply_zeros(const factors *f, int64_t width, int64_t p0, int64_t kc, char *panel) {
    const tn_gemm_problem *p = &f->job->p;
    const tn_gemm_operand *o = &p->operand[f->zero_role];
    const int64_t along = f->of_a ? o->row : o->column, across = f->of_a ? o->column : o->row;
    const int64_t size = p->group[f->zero_role];
    int32_t zero[WIDEST];
    if (!o->dtype)
        return;
    memset(zero, 0, sizeof zero);
    for (int64_t q = p0; q < p0 + kc;) {
        const int64_t end = tn_min64(p0 + kc, (q / size + 1) * size);
        for (int64_t c = 0; c < f->valid; c++)
            zero[c] =
                tn_gemm_byte_at(o->dtype, f->x->at[f->zero_role],
                                ((f->first + c) * f->step + f->shift) * along + q / size * across);
        f->job->tile->shift(panel, width, q - p0, end - p0, zero);
        q = end;
    }
}

void tn_gemm_pack_a(const tn_gemm_job *job, const tn_gemm_member *x, int64_t i0, int64_t rows,
                    int64_t p0, int64_t kc, char *to) {
    const tn_gemm_tile *tile = job->tile;
    const tn_gemm_operand *a = &job->p.operand[TN_GEMM_A];
    const int64_t size = (int64_t)tn_gemm_element(a->dtype);
    const int64_t tiles = tn_ceil_div(rows, tile->mr);
    tn_gemm_pack_args t = {.along = a->row, .across = a->column, .kc = kc};
    for (int64_t n = 0, i = 0; n < tiles; n++, i += t.valid) {
        t.src = x->at[TN_GEMM_A] + ((i0 + i) * a->row + p0 * a->column) * size;
        t.dst = to;
        t.valid = (int32_t)(tn_gemm_tile_end(job->plan, tile, rows, n) - i);
        tile->pack_a[a->dtype](&t);
        const factors f = {job, x, TN_GEMM_A_SCALE, TN_GEMM_A_ZERO, i0 + i, t.valid, 0, 1, true};
        tile->scaled ? apply_zeros(&f, tile->mr, p0, kc, to) : apply(&f, tile->mr, p0, kc, to);
        to += tn_gemm_a_bytes(tile, kc);
    }
}

void tn_gemm_pack_b(const tn_gemm_job *job, const tn_gemm_member *x, int half, int64_t j0,
                    int64_t cols, int64_t p0, int64_t kc, char *to) {
    const tn_gemm_tile *tile = job->tile;
    const tn_gemm_operand *b = &job->p.operand[TN_GEMM_B];
    const bool interleaved = job->p.gated == TENON_GATED_INTERLEAVED;
    const int64_t step = interleaved ? 2 : 1, shift = interleaved ? half : half * job->p.n;
    const int64_t offset = (shift + j0 * step) * b->column + p0 * b->row;
    if (job->blocks) {
        tn_gemm_pack_blocks(job, x, half, j0, cols, p0, kc, to);
    } else {
        const tn_gemm_pack_args t = {
            .src = x->at[TN_GEMM_B] + offset * (int64_t)tn_gemm_element(b->dtype),
            .dst = to,
            .along = b->column * step,
            .across = b->row,
            .kc = kc,
            .valid = (int32_t)cols,
        };
        tile->pack_b[b->dtype](&t);
    }
    const factors f = {job, x, TN_GEMM_B_SCALE, TN_GEMM_B_ZERO, j0, cols, shift, step, false};
    tile->scaled ? apply_zeros(&f, tile->nr, p0, kc, to) : apply(&f, tile->nr, p0, kc, to);
}

/* ---- B packed for the caller */

#define PACK_MAGIC UINT64_C(0x3355504347544e54) /* "TNTGCPU3" in memory order */

/* As the layout of a header (ops/packed.h). */
typedef struct pack_layout {
    int32_t nr;
    int16_t panel; /* these three: of the tile family */
    int8_t group, a_group;
} pack_layout;
_Static_assert(sizeof(pack_layout) == sizeof(uint64_t) &&
                   sizeof(tn_packed_head) == TN_GEMM_PACK_HEADER,
               "panels are aligned as the whole is");

static int halves_of(const tn_gemm_problem *p) {
    return p->gated != TENON_GATED_NONE ? 2 : 1;
}

/* Whether B', the operand with its scale and zero, differs along a batch dimension. */
static bool differs(const tn_gemm_problem *p, int32_t d) {
    return p->operand[TN_GEMM_B].batch[d] != 0 || p->operand[TN_GEMM_B_SCALE].batch[d] != 0 ||
           p->operand[TN_GEMM_B_ZERO].batch[d] != 0;
}

/* Distinct members of B'. */
static int64_t members_of(const tn_gemm_problem *p) {
    int64_t count = 1;
    if (p->experts > 0)
        return p->experts;
    for (int32_t d = 0; d < p->batch_rank; d++)
        if (differs(p, d))
            count *= p->batch[d];
    return count;
}

int64_t tn_gemm_packed_member(const tn_gemm_problem *p, int64_t index) {
    int64_t member = 0, scale = 1;
    for (int32_t d = p->batch_rank - 1; d >= 0; d--) {
        if (differs(p, d)) {
            member += index % p->batch[d] * scale;
            scale *= p->batch[d];
        }
        index /= p->batch[d];
    }
    return member;
}

/* Packed blocks are the same for all families of a level: their columns go by vectors. */
static tn_packed_head header_of(const tn_gemm_tile *tile, const tn_gemm_problem *p) {
    const bool blocks = tn_gemm_of_blocks(p);
    const pack_layout layout = {
        .nr = blocks ? tile->lanes : tile->nr,
        .panel = (int16_t)(blocks ? p->operand[TN_GEMM_B].dtype : tile->b_panel),
        .group = (int8_t)(blocks ? 0 : tile->group),
        .a_group = (int8_t)(blocks ? 0 : tile->a_group),
    };
    uint64_t word;
    memcpy(&word, &layout, sizeof word);
    return tn_packed_head_of(p, PACK_MAGIC, members_of(p), word);
}

/* Bytes of one packed member. */
static int64_t member_bytes(const tn_gemm_tile *tile, const tn_gemm_problem *p) {
    if (tn_gemm_of_blocks(p))
        return tn_gemm_block_member_bytes(tn_block_find(p->operand[TN_GEMM_B].dtype), tile->lanes,
                                          halves_of(p), p->n, p->k);
    return halves_of(p) * tn_ceil_div(p->n, tile->nr) * tn_gemm_b_blocks(tile, p->k);
}

static int64_t panel_offset(const tn_gemm_job *job, int64_t member, int half, int64_t j0,
                            int64_t p0, int64_t kc) {
    const tn_gemm_tile *tile = job->tile;
    const int64_t panels = tn_ceil_div(job->p.n, tile->nr);
    return (int64_t)sizeof(tn_packed_head) + member * member_bytes(tile, &job->p) +
           job->halves * panels * tn_gemm_b_blocks(tile, p0) +
           (half * panels + j0 / tile->nr) * tn_gemm_b_bytes(tile, kc);
}

const char *tn_gemm_packed_panel(const tn_gemm_job *job, const tn_gemm_member *x, int half,
                                 int64_t j0, int64_t p0, int64_t kc) {
    return (const char *)job->address[TN_GEMM_B_PACKED] +
           panel_offset(job, x->packed, half, j0, p0, kc);
}

tenon_status tn_cpu_gemm_pack_size(tn_cpu_isa isa, const tn_gemm_problem *p, size_t *bytes,
                                   tn_message *why) {
    const tn_gemm_tile *tile = tn_cpu_gemm_tile(isa, p);
    const tenon_dtype b = p->operand[TN_GEMM_B].dtype;
    size_t k, n, members, size;
    if (p->pointer_array)
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "b_packed: not with pointer arrays");
    if (!tn_gemm_of_blocks(p) && (b >= TN_GEMM_DTYPES || !tile->pack_b[b]))
        return tn_fail(why, TENON_ERROR_UNSUPPORTED, "b_packed: b.dtype is %s",
                       tenon_dtype_name(b));
    /* Tails: at most one number for a step of the filled panel. */
    const size_t step = (size_t)tn_gemm_panel_element(tile->b_panel) +
                        (tile->tail ? tn_gemm_element(tile->type) : 0);
    if (!tn_size_of_i64(p->k, &k) || !tn_align_size(k, (size_t)tile->a_group, &k) ||
        !tn_size_of_i64(p->n, &n) || !tn_size_of_i64(members_of(p), &members) ||
        !tn_align_size(n, (size_t)tile->nr, &n) || !tn_mul_size(n, k, &size) ||
        !tn_mul_size(size, (size_t)halves_of(p), &size) || !tn_mul_size(size, members, &size) ||
        !tn_mul_size(size, step, &size) || !tn_add_size(size, sizeof(tn_packed_head), &size) ||
        size > INT64_MAX)
        return tn_fail(why, TENON_ERROR_INVALID_ARGUMENT, "b: its packed size overflows");
    size = sizeof(tn_packed_head) + (size_t)(members_of(p) * member_bytes(tile, p));
    *bytes = size;
    return TENON_OK;
}

tenon_status tn_cpu_gemm_pack_check(tn_cpu_isa isa, const tn_gemm_problem *p, const void *packed,
                                    size_t bytes, tn_message *why) {
    const tn_packed_head expected = header_of(tn_cpu_gemm_tile(isa, p), p);
    size_t needed;
    TN_TRY(tn_cpu_gemm_pack_size(isa, p, &needed, why));
    return tn_packed_head_check(&expected, needed, "the cpu device", packed, bytes, why);
}

/* Columns of a task. */
static int64_t pack_columns(const tn_gemm_job *job) {
    return job->blocks ? job->tile->lanes : job->tile->nr;
}

/* One panel, all of its blocks of k, of one half and member; or a group of columns of blocks. */
static void pack_task(void *arg, int64_t index, int worker) {
    const tn_gemm_job *job = arg;
    const tn_gemm_problem *p = &job->p;
    const int64_t panels = tn_ceil_div(p->n, pack_columns(job));
    const int64_t j0 = index % panels * job->tile->nr, half = index / panels % job->halves,
                  member = index / panels / job->halves;
    tn_gemm_member x = {.packed = member};
    int64_t rest = member;
    (void)worker;

    for (int r = 0; r < 3; r++) {
        static const int roles[3] = {TN_GEMM_B, TN_GEMM_B_SCALE, TN_GEMM_B_ZERO};
        const tn_gemm_operand *o = &p->operand[roles[r]];
        int64_t offset = 0;
        rest = member;
        if (p->experts > 0)
            offset = member * o->batch[0];
        for (int32_t d = p->batch_rank - 1; d >= 0 && p->experts == 0; d--) {
            if (!differs(p, d))
                continue;
            offset += rest % p->batch[d] * o->batch[d];
            rest /= p->batch[d];
        }
        if (o->dtype)
            x.at[roles[r]] = (char *)job->address[roles[r]] + tn_gemm_offset(o->dtype, offset);
    }
    if (job->blocks) {
        tn_gemm_pack_block_group(job, &x, index % (panels * job->halves));
        return;
    }
    for (int64_t p0 = 0; p0 < p->k; p0 += TN_GEMM_KC) {
        const int64_t kc = tn_min64(TN_GEMM_KC, p->k - p0);
        tn_gemm_pack_b(job, &x, (int)half, j0, tn_min64(job->tile->nr, p->n - j0), p0, kc,
                       job->workspace + panel_offset(job, member, (int)half, j0, p0, kc));
    }
}

void tn_cpu_gemm_pack_run(tn_cpu_isa isa, const tn_run *run) {
    tn_gemm_job job;
    memset(&job, 0, sizeof job);
    job.p = *(const tn_gemm_problem *)run->problem;
    job.tile = tn_cpu_gemm_tile(isa, &job.p);
    job.finish = tn_cpu_tile_find(TENON_F32, isa.level);
    job.blocks = tn_block_find(job.p.operand[TN_GEMM_B].dtype);
    job.element = tn_gemm_element(job.tile->type);
    job.halves = halves_of(&job.p);
    for (int r = 0; r < TN_GEMM_ROLES; r++)
        job.address[r] = run->addresses[r];
    job.workspace = run->addresses[TN_GEMM_B_PACKED];
    const tn_packed_head h = header_of(job.tile, &job.p);
    memcpy(job.workspace, &h, sizeof h);
    tn_team_run(run->team, pack_task, &job,
                members_of(&job.p) * job.halves * tn_ceil_div(job.p.n, pack_columns(&job)));
}
