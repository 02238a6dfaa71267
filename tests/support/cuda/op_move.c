/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_move.c: mov with packing and unpacking, conversions of addresses (cvta, isspacep, mapa),
 * clocks.
 */
#include "op_lanes.h"
#include "ptx.h"

static u32 same32(u32 a) {
    return a;
}
static u64 same64(u64 a) {
    return a;
}
static u64 widened(u32 a) {
    return a;
}
static sim_step run_mov32(sim_warp *w, const sim_insn *i, u32 m) {
    return lanes_w_w(w, i, m, same32);
}
static sim_step run_mov64(sim_warp *w, const sim_insn *i, u32 m) {
    return lanes_x_x(w, i, m, same64);
}
/* a special register is 32 bits wide, whatever it is moved to */
static sim_step run_widen(sim_warp *w, const sim_insn *i, u32 m) {
    return lanes_x_w(w, i, m, widened);
}

/* d = {list[0], list[1], …}, the first lowest; width: bytes of a part */
static sim_step run_pack(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *p = sim_list(w, i);
    EACH_LANE_OF(l, m) {
        u64 x = 0;
        for (u32 n = 0; n < i->count; ++n) {
            u64 part = sim_words(w, p[n])[l];
            if (i->width < 4)
                part &= (UINT64_C(1) << 8 * i->width) - 1;
            x |= part << 8 * i->width * n;
        }
        if (i->width * i->count == 8)
            sim_doubles(w, i->d)[l] = x;
        else
            sim_words(w, i->d)[l] = (u32)x;
    }
    return STEP_NEXT;
}

static sim_step run_unpack(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *p = sim_list(w, i);
    u64 mask = i->width < 8 ? (UINT64_C(1) << 8 * i->width) - 1 : ~UINT64_C(0);
    EACH_LANE_OF(l, m) {
        u64 x = i->width * i->count == 8 ? sim_doubles(w, i->a)[l] : sim_words(w, i->a)[l];
        for (u32 n = 0; n < i->count; ++n)
            if (p[n] != PLACE_NONE)
                sim_words(w, p[n])[l] = (u32)(x >> 8 * i->width * n & mask);
    }
    return STEP_NEXT;
}

/* Steps so far stand for time: it only has to rise. */
static sim_step run_clock(sim_warp *w, const sim_insn *i, u32 m) {
    u64 now = ++w->launch->ticks;
    EACH_LANE_OF(l, m) {
        if (i->width == 8)
            sim_doubles(w, i->d)[l] = now;
        else
            sim_words(w, i->d)[l] = (u32)now;
    }
    return STEP_NEXT;
}

/* Generic address to or from a window: imm is added. */
static sim_step run_cvta(sim_warp *w, const sim_insn *i, u32 m) {
    EACH_LANE_OF(l, m) {
        u64 x = i->flags & 1 ? sim_words(w, i->a)[l] : sim_doubles(w, i->a)[l];
        x += (u64)i->imm;
        if (i->flags & 2)
            sim_words(w, i->d)[l] = (u32)x;
        else
            sim_doubles(w, i->d)[l] = x;
    }
    return STEP_NEXT;
}

static sim_step run_isspacep(sim_warp *w, const sim_insn *i, u32 m) {
    const u64 *a = sim_doubles(w, i->a);
    u32 r = 0;
    EACH_LANE_OF(l, m) {
        bool yes = i->space == SPACE_GLOBAL ? (a[l] & WINDOW_MASK) == 0
                                            : (a[l] & WINDOW_MASK) == (u64)i->imm;
        if (i->space == SPACE_SHARED && i->mode == 0) /* shared::cta */
            yes = yes && (a[l] & ~WINDOW_MASK) >> RANK_SHIFT == 0;
        r |= yes ? lane_bit[l] : 0;
    }
    sim_set_predicate(w, i->d, m, r);
    return STEP_NEXT;
}

/* mapa.shared::cluster.u32 d, a, rank; generic with .u64 and without a space */
static sim_step run_mapa(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *rank = sim_words(w, i->b);
    EACH_LANE_OF(l, m) {
        u64 a = i->width == 8 ? sim_doubles(w, i->a)[l] : sim_words(w, i->a)[l];
        u64 at = (a & ((1u << RANK_SHIFT) - 1)) | (u64)(rank[l] + 1) << RANK_SHIFT;
        if (i->width == 8)
            sim_doubles(w, i->d)[l] = at | (a & WINDOW_MASK);
        else
            sim_words(w, i->d)[l] = (u32)at;
    }
    return STEP_NEXT;
}

static bool decode_vector(ptx_decoder *d, u32 bytes) {
    sim_insn *i = &d->insn;
    bool packs = d->operand[1].kind == OPERAND_VECTOR;
    const ptx_operand *v = &d->operand[packs ? 1 : 0], *o = &d->operand[packs ? 0 : 1];
    if (v->parts == 0 || bytes % v->parts || bytes / v->parts > 4)
        return ptx_refuse(d, "mov of %u parts", v->parts);
    i->count = (u8)v->parts;
    i->width = (u8)(bytes / v->parts);
    i->run = packs ? run_pack : run_unpack;
    if (packs && !ptx_bind(d, &i->d, o, bytes, true))
        return false;
    if (!packs && !ptx_bind(d, &i->a, o, bytes, false))
        return false;
    ptx_begin_list(d);
    for (u32 n = 0; n < v->parts; ++n)
        if (!ptx_bind_list(d, &v->part[n], 4, !packs))
            return false;
    return true;
}

static bool decode_mov(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    if (d->operands != 2 || d->words != 2)
        return false;
    u32 bytes = ptx_type_bytes(d->word[1]);
    if (bytes == 0)
        return false; /* .pred */
    ptx_operand *out = &d->operand[0], *in = &d->operand[1];
    if (out->kind == OPERAND_VECTOR || in->kind == OPERAND_VECTOR)
        return decode_vector(d, bytes);
    if (in->kind == OPERAND_NAME && in->text[0] == '%') {
        if (strncmp(in->text, "%clock", 6) != 0 && strncmp(in->text, "%globaltimer", 12) != 0)
            return ptx_refuse(d, "special register %.*s", (int)in->length, in->text);
        i->width = (u8)bytes;
        i->run = run_clock;
        return ptx_bind(d, &i->d, out, bytes, true);
    }
    bool widens = bytes == 8 && in->kind == OPERAND_SPECIAL;
    i->run = widens ? run_widen : bytes == 8 ? run_mov64 : run_mov32;
    return ptx_bind(d, &i->d, out, bytes, true) &&
           ptx_bind(d, &i->a, in, widens ? 4 : bytes, false);
}

static bool find_space(const ptx_decoder *d, u64 *window) {
    *window = 0;
    if (ptx_has(d, "shared") || ptx_has(d, "shared::cta") || ptx_has(d, "shared::cluster"))
        *window = WINDOW_SHARED;
    else if (ptx_has(d, "local"))
        *window = WINDOW_LOCAL;
    else if (ptx_has(d, "param") || ptx_has(d, "param::entry"))
        *window = WINDOW_PARAM;
    else
        return ptx_has(d, "global") || ptx_has(d, "const");
    return true;
}

static bool decode_cvta(ptx_decoder *d) {
    u64 window;
    sim_insn *i = &d->insn;
    if (!find_space(d, &window) || d->operands != 2)
        return ptx_refuse(d, "this form of cvta");
    i->imm = (s64)(ptx_has(d, "to") ? 0 - window : window);
    const ptx_operand *in = &d->operand[1];
    u32 in_bytes = in->kind == OPERAND_REGISTER && in->bytes == 4 ? 4 : 8;
    u32 out_bytes = d->operand[0].bytes == 4 ? 4 : 8;
    i->flags = (u8)((in_bytes == 4) | (out_bytes == 4) << 1);
    i->run = run_cvta;
    return ptx_bind(d, &i->d, &d->operand[0], out_bytes, true) &&
           ptx_bind(d, &i->a, in, in_bytes, false);
}

bool op_move_decode(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    const char *base = d->word[0];
    if (strcmp(base, "mov") == 0)
        return decode_mov(d);
    if (strcmp(base, "cvta") == 0)
        return decode_cvta(d);
    if (strcmp(base, "isspacep") == 0) {
        u64 window;
        if (!find_space(d, &window))
            return ptx_refuse(d, "this form of isspacep");
        i->imm = (s64)window;
        i->space = window == 0               ? SPACE_GLOBAL
                   : window == WINDOW_SHARED ? SPACE_SHARED
                                             : SPACE_LOCAL;
        i->mode = ptx_has(d, "shared::cluster");
        i->run = run_isspacep;
        return ptx_bind_predicate(d, &i->d, &d->operand[0], true) &&
               ptx_bind(d, &i->a, &d->operand[1], 8, false);
    }
    if (strcmp(base, "mapa") == 0 && d->operands == 3) {
        i->width = (u8)ptx_type_bytes(d->word[d->words - 1]);
        i->run = run_mapa;
        return ptx_bind(d, &i->d, &d->operand[0], i->width, true) &&
               ptx_bind(d, &i->a, &d->operand[1], i->width, false) &&
               ptx_bind(d, &i->b, &d->operand[2], 4, false);
    }
    return false;
}
