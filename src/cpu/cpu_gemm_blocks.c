/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_gemm_blocks.c: B of block types: panels from blocks where they lie, or from the caller's
 * packed ones.
 *
 * Either way a panel is decoded when it is wanted, once for all rows that meet it, so what comes
 * from memory is the blocks' own bytes. Blocks where they lie are interleaved first, a vector's
 * columns and a block of k at a time, on the stack; packed blocks are no more than that, done
 * beforehand: for each member, half and group of columns all of k.
 */
#include "cpu/cpu_gemm.h"

enum { MOST_LANES = 16, MOST_RUN = 272 }; /* bytes of a block of k of one column: of Q8_0 */

tn_block_format tn_gemm_block_format(tenon_dtype dtype) {
    static const tn_block_format formats[TN_BLOCKS] = {
#define TN_BLOCK_TYPE(type, lead, words, trail, bits, bias, unit)                                  \
    [TN_BLOCK_##type] = {lead, words, trail},
#include "cpu/kernels/block_types.def"
#undef TN_BLOCK_TYPE
    };
    return formats[dtype - TENON_Q8_0];
}

int64_t tn_gemm_block_group_bytes(const tn_block_type *blocks, int32_t lanes, int64_t k) {
    return k / blocks->elements * blocks->bytes * lanes;
}

int64_t tn_gemm_block_member_bytes(const tn_block_type *blocks, int32_t lanes, int64_t halves,
                                   int64_t n, int64_t k) {
    return halves * tn_ceil_div(n, lanes) * tn_gemm_block_group_bytes(blocks, lanes, k);
}

/* Columns j ... j + valid of one half, from step p on, which begins a block; with what lies `ahead`
 * bytes on fetched. */
static void interleave(const tn_gemm_job *job, const tn_gemm_member *x, int half, int64_t j,
                       int64_t valid, int64_t p, int64_t blocks, int64_t ahead, void *to) {
    const tn_gemm_operand *b = &job->p.operand[TN_GEMM_B];
    const bool interleaved = job->p.gated == TENON_GATED_INTERLEAVED;
    const int64_t step = interleaved ? 2 : 1, shift = interleaved ? half : half * job->p.n;
    const tn_gemm_interleave_args t = {
        .src = x->at[TN_GEMM_B] + tn_gemm_offset(b->dtype, (shift + j * step) * b->column + p),
        .dst = to,
        .along = tn_gemm_offset(b->dtype, b->column * step),
        .blocks = blocks,
        .ahead = ahead,
        .valid = (int32_t)valid,
        .format = tn_gemm_block_format(b->dtype),
    };
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
    const int64_t lanes = tile->lanes, first = p0 % type->elements;
    const int64_t ahead = job->packed_blocks ? 0 : distance_ahead(job, j0, p0, kc);
    _Alignas(64) char run[MOST_RUN * MOST_LANES];
    tn_gemm_unblock_args t = {.src = run, .first = first, .kc = kc};

    for (int64_t lane = 0; lane < tile->nr; lane += lanes) {
        const int64_t used = lane < cols ? lane : 0; /* vectors without columns repeat the first */
        t.dst = to + lane / lanes * tile->lane_bytes;
        if (job->packed_blocks)
            t.src = (const char *)job->address[TN_GEMM_B_PACKED] + TN_GEMM_PACK_HEADER +
                    x->packed * tn_gemm_block_member_bytes(type, tile->lanes, job->halves, job->p.n,
                                                           job->p.k) +
                    (half * tn_ceil_div(job->p.n, lanes) + (j0 + used) / lanes) *
                        tn_gemm_block_group_bytes(type, tile->lanes, job->p.k) +
                    tn_gemm_block_group_bytes(type, tile->lanes, p0 - first);
        else
            interleave(job, x, half, j0 + used, tn_min64(lanes, cols - used), p0 - first,
                       tn_ceil_div(first + kc, type->elements), ahead, run);
        unblock(&t);
    }
}

void tn_gemm_pack_block_group(const tn_gemm_job *job, const tn_gemm_member *x, int64_t group) {
    const int64_t lanes = job->tile->lanes, groups = tn_ceil_div(job->p.n, lanes);
    const int64_t j = group % groups * lanes;
    char *to = job->workspace + TN_GEMM_PACK_HEADER +
               x->packed * tn_gemm_block_member_bytes(job->blocks, job->tile->lanes, job->halves,
                                                      job->p.n, job->p.k) +
               group * tn_gemm_block_group_bytes(job->blocks, job->tile->lanes, job->p.k);
    interleave(job, x, (int)(group / groups), j, tn_min64(lanes, job->p.n - j), 0,
               job->p.k / job->blocks->elements, 0, to);
}
