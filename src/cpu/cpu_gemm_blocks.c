/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_blocks.c: B of block types: panels from blocks where they lie, or from the caller's
 * packed ones.
 *
 * Either way a panel is decoded when it is wanted, once for all rows that meet it, so what comes
 * from memory is the blocks' own bytes; a few rows meet them without a panel. Blocks where they lie
 * are interleaved first, a vector's columns and a block of k at a time, on the stack; packed blocks
 * are no more than that, done beforehand: for each member, half, panel and block of k those of the
 * panel's vectors, the order in which a few rows read them.
 */
#include "cpu/cpu_gemm.h"

#include <assert.h>

enum {
    MOST_LANES = 16, /* of a vector */
    MOST_RUN = 272   /* bytes of a block of k of a column: Q8_0's */
};

tn_block_format tn_gemm_block_format(tenon_dtype dtype) {
    static const tn_block_format formats[TN_BLOCKS] = {
#define TN_BLOCK_TYPE(type, lead, words, trail, bits, bias, unit)                                  \
    [TN_BLOCK_##type] = {lead, words, trail},
#include "cpu/kernels/block_types.def"
#undef TN_BLOCK_TYPE
    };
    return formats[dtype - TENON_Q8_0];
}

/* Blocks that k steps take; a shift, since this is asked for each panel. */
static int64_t blocks_of(const tn_block_type *type, int64_t k) {
    return type->elements == 32 ? k >> 5 : type->elements == 64 ? k >> 6 : k >> 8;
}

int64_t tn_gemm_block_group_bytes(const tn_block_type *blocks, int32_t lanes, int64_t k) {
    return blocks_of(blocks, k) * blocks->bytes * lanes;
}

int64_t tn_gemm_block_member_bytes(const tn_block_type *blocks, int32_t lanes, int64_t halves,
                                   int64_t n, int64_t k) {
    return halves * tn_ceil_div(n, lanes) * tn_gemm_block_group_bytes(blocks, lanes, k);
}

/* Where a packed B, has step p of the columns from j on; p begins
 * a block. A last panel has only the vectors that have columns. */
static int64_t packed_offset(const tn_gemm_job *job, int64_t member, int half, int64_t j,
                             int64_t p) {
    const tn_block_type *type = job->blocks;
    const int32_t lanes = job->tile->lanes, nr = job->tile->nr;
    const int64_t n = job->p.n, k = job->p.k, panel = j & -(int64_t)nr;
    const int64_t p0 = p / TN_GEMM_KC * TN_GEMM_KC, kc = tn_min64(TN_GEMM_KC, k - p0);
    /* Columns in whole vectors, bytes of one of them: */
    const int64_t all = (n + lanes - 1) & -(int64_t)lanes, width = tn_min64(nr, all - panel),
                  column = tn_gemm_block_group_bytes(type, 1, k);
    return TN_GEMM_PACK_HEADER + ((member * job->halves + half) * all + panel) * column +
           width * tn_gemm_block_group_bytes(type, 1, p0) +
           (j - panel) * tn_gemm_block_group_bytes(type, 1, kc) +
           tn_gemm_block_group_bytes(type, lanes, p - p0);
}

/* Columns j ... j + valid of one half, from step p on, which begins a block; with what lies `ahead`
 * bytes on fetched. */
static void interleave(const tn_gemm_job *job, const tn_gemm_member *x, int half, int64_t j,
                       int64_t valid, int64_t p, int64_t blocks, int64_t ahead, void *to) {
    const tn_gemm_operand *b = &job->p.operand[TN_GEMM_B];
    const bool interleaved = job->p.gated == TENON_GATED_INTERLEAVED;
    const int64_t step = interleaved ? 2 : 1, shift = interleaved ? half : half * job->p.n;
    const char *const first =
        x->at[TN_GEMM_B] + tn_gemm_offset(b->dtype, (shift + j * step) * b->column + p);
    const int64_t along = tn_gemm_offset(b->dtype, b->column * step);
    const void *line[MOST_LANES];
    for (int64_t c = 0; c < job->tile->lanes; c++) /* missing columns repeat the last */
        line[c] = first + tn_min64(c, valid - 1) * along;
    const tn_gemm_interleave_args t = {.line = line,
                                       .dst = to,
                                       .blocks = blocks,
                                       .ahead = ahead,
                                       .format = tn_gemm_block_format(b->dtype)};
    job->finish->interleave(&t);
}

/* How far on the run of this panel is that is read after this one: in the same columns, or at the
 * beginning of the next panel's. */
static int64_t distance_ahead(const tn_gemm_job *job, int64_t j0, int64_t p0, int64_t kc) {
    const tn_gemm_operand *b = &job->p.operand[TN_GEMM_B];
    if (job->plan->fetch != TN_GEMM_FETCH_COLUMNS)
        return 0;
    if (p0 + kc < job->p.k)
        return tn_gemm_offset(b->dtype, kc);
    return j0 + 2 * job->tile->nr > job->p.n
               ? 0
               : tn_gemm_offset(b->dtype, job->tile->nr * b->column - p0);
}

void tn_gemm_pack_blocks(const tn_gemm_job *job, const tn_gemm_member *x, int half, int64_t j0,
                         int64_t cols, int64_t p0, int64_t kc, char *to) {
    const tn_gemm_tile *tile = job->tile;
    const tn_block_type *type = job->blocks;
    tn_gemm_unblock_fn *const unblock = tile->unblock[type->dtype - TENON_Q8_0];
    const int64_t lanes = tile->lanes, first = p0 & (type->elements - 1);
    const int64_t ahead = job->packed_blocks ? 0 : distance_ahead(job, j0, p0, kc);
    _Alignas(64) char run[MOST_RUN * MOST_LANES];
    tn_gemm_unblock_args t = {.src = run, .first = first, .kc = kc};

    for (int64_t lane = 0; lane < tile->nr; lane += lanes, to += tile->lane_bytes) {
        const int64_t used = lane < cols ? lane : 0; /* vectors without columns repeat the first */
        t.dst = to;
        if (job->packed_blocks)
            t.src = (const char *)job->address[TN_GEMM_B_PACKED] +
                    packed_offset(job, x->packed, half, j0 + used, p0 - first);
        else
            interleave(job, x, half, j0 + used, tn_min64(lanes, cols - used), p0 - first,
                       tn_ceil_div(first + kc, type->elements), ahead, run);
        unblock(&t);
    }
}

/* ---- a few rows */

/* Bytes of what is interleaved at a time for few rows: a block of k. */
static int64_t run_bytes(const tn_gemm_tile *tile, const tn_block_type *blocks) {
    return tn_gemm_block_group_bytes(blocks, tile->few_cols, TN_GEMM_KC);
}

/* Whether that many rows go without panels: values as they are decoded, without factors. */
static bool few_take(const tn_gemm_job *job, int64_t rows) {
    return job->blocks && rows <= TN_GEMM_FEW && !tn_gemm_present(&job->p, TN_GEMM_B_SCALE) &&
           !tn_gemm_present(&job->p, TN_GEMM_B_ZERO);
}

size_t tn_gemm_few_bytes(const tn_gemm_tile *tile, tenon_dtype dtype) {
    return tn_round64((size_t)run_bytes(tile, tn_block_find(dtype))) +
           (size_t)(tile->few_cols * TN_GEMM_FEW_SCRATCH(TN_GEMM_KC));
}

/* Steps p0 ... p0 + steps, whole blocks of k, of up to few_cols columns; `a`: their panels. Of
 * packed blocks either all steps or the columns of one panel, which lie together; others are
 * interleaved a block of k at a time. */
static void few_rows(const tn_gemm_job *job, const tn_gemm_place *at, const tn_gemm_sums *s,
                     int half, int64_t j, int64_t cols, int64_t p0, int64_t steps, const char *a,
                     char *buffer) {
    const tn_gemm_tile *tile = job->tile;
    const int64_t lanes = tile->lanes, end = p0 + steps;
    tn_gemm_few_fn *const few = tile->few[job->blocks->dtype - TENON_Q8_0];
    tn_gemm_few_args t = {
        .a = a,
        .c = (float *)(void *)tn_gemm_sum_at(job, s, half, 0, j),
        .scratch = buffer + tn_round64((size_t)run_bytes(tile, job->blocks)),
        .a_block = tn_gemm_a_bytes(tile, TN_GEMM_KC),
        .block = TN_GEMM_KC,
        .b_block = tn_gemm_block_group_bytes(job->blocks, tile->lanes, TN_GEMM_KC),
        .b_last = tn_gemm_block_group_bytes(job->blocks, tile->lanes, steps % TN_GEMM_KC),
        .k = steps,
        .ldc = s->ld,
        .cols = cols,
        .rows = (int32_t)at->rows,
        .meet = p0 > 0 ? TN_GEMM_ADD : TN_GEMM_STORE,
    };
    if (job->packed_blocks) {
        t.b = (const char *)job->address[TN_GEMM_B_PACKED] +
              packed_offset(job, at->x.packed, half, at->j0 + j, p0);
        few(&t);
        return;
    }
    for (int64_t p = p0; p < end; p += TN_GEMM_KC) {
        t.k = tn_min64(TN_GEMM_KC, end - p);
        t.b = buffer;
        t.a = a + (p - p0) / TN_GEMM_KC * t.a_block;
        t.meet = p > 0 ? TN_GEMM_ADD : TN_GEMM_STORE;
        char *to = buffer;
        for (int64_t c = 0; c < cols; c += lanes) {
            interleave(job, &at->x, half, at->j0 + j + c, tn_min64(lanes, cols - c), p,
                       t.k / job->blocks->elements, distance_ahead(job, at->j0 + j, p, t.k), to);
            to += t.k == TN_GEMM_KC ? t.b_block : t.b_last;
        }
        few(&t);
    }
}

bool tn_gemm_few_block(const tn_gemm_job *job, const tn_gemm_place *at, const tn_gemm_sums *s,
                       int half, int64_t j0, int64_t cols, int64_t p0, const char *a,
                       char *buffer) {
    const tn_gemm_tile *tile = job->tile;
    if (!few_take(job, at->rows))
        return false;
    const int64_t width = job->packed_blocks ? tile->nr : tile->few_cols,
                  steps = tn_min64(TN_GEMM_KC, job->p.k - p0);
    for (int64_t j = j0; j < j0 + cols; j += width)
        few_rows(job, at, s, half, j, tn_min64(width, j0 + cols - j), p0, steps, a, buffer);
    return true;
}

/* Block p0 of k of a panel, from column j on. */
static void panel(const tn_gemm_job *job, const tn_gemm_place *at, const tn_gemm_sums *s, int half,
                  int64_t j, int64_t cols, int64_t p0, const char *a, char *buffer) {
    const int64_t kc = tn_min64(TN_GEMM_KC, job->p.k - p0);
    const tn_gemm_ukr_args t = {.a = a,
                                .b = buffer,
                                .c = tn_gemm_sum_at(job, s, half, 0, j),
                                .kc = kc,
                                .ldb = job->tile->nr,
                                .ldc = s->ld,
                                .rows = (int32_t)at->rows,
                                .cols = (int32_t)cols,
                                .meet = p0 > 0 ? TN_GEMM_ADD : TN_GEMM_STORE,
                                .settle = true};
    tn_gemm_pack_b(job, &at->x, half, at->j0 + j, cols, p0, kc, buffer);
    job->tile->ukr(&t);
}

bool tn_gemm_block_columns(const tn_gemm_job *job, const tn_gemm_place *at, const tn_gemm_sums *s,
                           int64_t j0, int64_t cols, char *buffer) {
    const tn_gemm_tile *tile = job->tile;
    if (!job->blocks || !job->plan->shared_a || at->x.m > tile->mr)
        return false;
    const bool few = few_take(job, at->x.m);
    const int64_t width = few ? tile->few_cols : tile->nr,
                  a_bytes = tn_gemm_a_bytes(tile, TN_GEMM_KC);
    for (int half = 0; half < job->halves; half++)
        for (int64_t j = j0; j < j0 + cols; j += width) {
            const int64_t n = tn_min64(width, j0 + cols - j);
            if (few)
                few_rows(job, at, s, half, j, n, 0, job->p.k, job->workspace, buffer);
            for (int64_t p0 = 0; p0 < job->p.k && !few; p0 += TN_GEMM_KC)
                panel(job, at, s, half, j, n, p0, job->workspace + p0 / TN_GEMM_KC * a_bytes,
                      buffer);
        }
    return true;
}

/* ---- for the caller */

void tn_gemm_pack_block_group(const tn_gemm_job *job, const tn_gemm_member *x, int64_t group) {
    const int64_t lanes = job->tile->lanes, groups = tn_ceil_div(job->p.n, lanes);
    const int64_t j = group % groups * lanes, k = job->p.k;
    const int half = (int)(group / groups);
    for (int64_t p = 0; p < k; p += TN_GEMM_KC)
        interleave(job, x, half, j, tn_min64(lanes, job->p.n - j), p,
                   tn_min64(TN_GEMM_KC, k - p) / job->blocks->elements, 0,
                   job->workspace + packed_offset(job, x->packed, half, j, p));
}
