/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_matrix.c: ldmatrix, stmatrix, movmatrix (PTX ISA, "Warp-level matrix instructions").
 *
 * Lane l of a register holds elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 of an 8x8 matrix of
 * 16-bit elements. With registers as arrays of lanes that is the matrix in row-major order, so a
 * row is copied as it lies. Rows are addressed by lanes, eight for each matrix.
 */
#include "op_memory.h"

#include <cuda.h>

typedef struct tile {
    u16 at[8][8];
} tile;

static void transpose(tile *t) {
    tile s = *t;
    for (int r = 0; r < 8; ++r)
        for (int c = 0; c < 8; ++c)
            t->at[r][c] = s.at[c][r];
}

/* Addresses of the rows, checked; their bytes in row[]. */
static bool find_rows(sim_warp *w, const sim_insn *i, u8 **row, u32 *offset, bool writes) {
    u32 rows = 8u * i->count;
    for (u32 l = 0; l < rows; ++l) {
        u64 a;
        sim_address(w, i, l, &a);
        a &= ~WINDOW_MASK;
        if (a % 16 != 0) {
            sim_fail(CUDA_ERROR_MISALIGNED_ADDRESS, STANDIN_MISALIGNED, w, i, (int)l, a,
                     "row at shared offset %llu, no multiple of 16", (unsigned long long)a);
            return false;
        }
        sim_block *owner;
        row[l] = sim_shared_at(w, i, (int)l, a, 16, &owner);
        if (!row[l])
            return false;
        offset[l] = (u32)a & ((1u << RANK_SHIFT) - 1);
        if (!sim_options.check_shared || owner != w->block)
            continue;
        /* the bytes go to and come from other lanes than the one that names the row: -1 */
        if (writes)
            sim_shared_write(w, i, -1, offset[l], 16, false);
        else
            sim_shared_read(w, i, -1, offset[l], 16);
    }
    sim_count_shared(w, offset, rows == 32 ? ~UINT32_C(0) : (1u << rows) - 1, 16);
    return true;
}

static sim_step run_ldmatrix(sim_warp *w, const sim_insn *i, u32 m) {
    sim_step s = sim_need_lanes(w, i, m, ~UINT32_C(0));
    if (s != STEP_NEXT)
        return s;
    u8 *row[LANES];
    u32 offset[LANES] = {0};
    if (!find_rows(w, i, row, offset, false))
        return STEP_FAULT;
    const u32 *d = sim_list(w, i);
    for (u32 n = 0; n < i->count; ++n) {
        tile t;
        for (u32 r = 0; r < 8; ++r)
            memcpy(t.at[r], row[8 * n + r], 16);
        if (i->mode)
            transpose(&t);
        memcpy(sim_words(w, d[n]), &t, sizeof t);
    }
    return STEP_NEXT;
}

static sim_step run_stmatrix(sim_warp *w, const sim_insn *i, u32 m) {
    sim_step s = sim_need_lanes(w, i, m, ~UINT32_C(0));
    if (s != STEP_NEXT)
        return s;
    u8 *row[LANES];
    u32 offset[LANES] = {0};
    if (!find_rows(w, i, row, offset, true))
        return STEP_FAULT;
    const u32 *a = sim_list(w, i);
    for (u32 n = 0; n < i->count; ++n) {
        tile t;
        memcpy(&t, sim_words(w, a[n]), sizeof t);
        if (i->mode)
            transpose(&t);
        for (u32 r = 0; r < 8; ++r)
            memcpy(row[8 * n + r], t.at[r], 16);
    }
    return STEP_NEXT;
}

static sim_step run_movmatrix(sim_warp *w, const sim_insn *i, u32 m) {
    sim_step s = sim_need_lanes(w, i, m, ~UINT32_C(0));
    if (s != STEP_NEXT)
        return s;
    tile t;
    memcpy(&t, sim_words(w, i->a), sizeof t);
    transpose(&t);
    memcpy(sim_words(w, i->d), &t, sizeof t);
    return STEP_NEXT;
}

bool op_matrix_decode(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    const char *base = d->word[0];
    if (strcmp(d->opcode, "movmatrix.sync.aligned.m8n8.trans.b16") == 0) {
        i->run = run_movmatrix;
        return ptx_bind(d, &i->d, &d->operand[0], 4, true) &&
               ptx_bind(d, &i->a, &d->operand[1], 4, false);
    }
    bool loads = strcmp(base, "ldmatrix") == 0;
    if (!loads && strcmp(base, "stmatrix") != 0)
        return false;
    if (!ptx_has(d, "m8n8") || !ptx_has(d, "b16") || !ptx_has(d, "aligned") || d->operands != 2)
        return ptx_refuse(d, "this shape");
    i->count = ptx_has(d, "x4") ? 4 : ptx_has(d, "x2") ? 2 : 1;
    i->mode = ptx_has(d, "trans");
    i->run = loads ? run_ldmatrix : run_stmatrix;
    const ptx_operand *v = &d->operand[loads ? 0 : 1];
    const ptx_operand *part = v->kind == OPERAND_VECTOR ? v->part : v;
    if ((v->kind == OPERAND_VECTOR ? v->parts : 1) != i->count)
        return ptx_refuse(d, "registers of %u matrices", i->count);
    ptx_begin_list(d);
    for (u32 n = 0; n < i->count; ++n)
        if (!ptx_bind_list(d, &part[n], 4, loads))
            return false;
    return ptx_bind_address(d, &i->a, &i->imm, &d->operand[loads ? 1 : 0]);
}
