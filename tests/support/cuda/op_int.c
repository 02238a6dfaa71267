/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_int.c: integer arithmetic, logic and shifts (op_int.def), and those few that need more than a
 * function of each lane: lop3, prmt, bfi, and the carries of extended precision.
 */
#include "op_lanes.h"
#include "ptx.h"

static u32 div_s32(u32 a, u32 b) {
    if (b == 0)
        return ~UINT32_C(0);
    return b == ~UINT32_C(0) ? 0 - a : (u32)((s32)a / (s32)b);
}
static u32 rem_s32(u32 a, u32 b) {
    return b == 0 ? a : b == ~UINT32_C(0) ? 0 : (u32)((s32)a % (s32)b);
}
static u64 div_s64(u64 a, u64 b) {
    if (b == 0)
        return ~UINT64_C(0);
    return b == ~UINT64_C(0) ? 0 - a : (u64)((s64)a / (s64)b);
}
static u64 rem_s64(u64 a, u64 b) {
    return b == 0 ? a : b == ~UINT64_C(0) ? 0 : (u64)((s64)a % (s64)b);
}
static u32 reverse32(u32 x) {
    x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
    x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
    x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(x);
}
static u32 bfind_s32(u32 a) {
    u32 x = (s32)a < 0 ? ~a : a;
    return x ? 31 - (u32)__builtin_clz(x) : ~UINT32_C(0);
}
static u32 bfe_u32(u32 a, u32 b, u32 c) {
    u32 pos = b & 0xff, len = c & 0xff;
    u64 mask = len < 32 ? (UINT64_C(1) << len) - 1 : 0xffffffff;
    return pos < 32 ? (u32)((a >> pos) & mask) : 0;
}
/* Bits beyond the field, and beyond bit 31, are the field's sign. */
static u32 bfe_s32(u32 a, u32 b, u32 c) {
    u32 pos = b & 0xff, len = c & 0xff;
    if (len == 0)
        return 0;
    u32 top = pos + len - 1 < 31 ? pos + len - 1 : 31;
    u32 sign = (a >> top & 1) ? ~UINT32_C(0) : 0;
    if (pos > 31)
        return sign;
    u32 width = top - pos + 1, value = a >> pos;
    return width < 32 ? (value & ((UINT32_C(1) << width) - 1)) | sign << width : value;
}
static u32 dot4(u32 a, u32 b, bool a_signed, bool b_signed) {
    s32 sum = 0;
    for (int n = 0; n < 4; ++n) {
        u32 x = a >> 8 * n & 0xff, y = b >> 8 * n & 0xff;
        sum += (a_signed ? (s32)(int8_t)x : (s32)x) * (b_signed ? (s32)(int8_t)y : (s32)y);
    }
    return (u32)sum;
}
static u32 dot2(u32 a, u32 b) {
    return (u32)((s32)(int16_t)a * (int8_t)b + (s32)(int16_t)(a >> 16) * (int8_t)(b >> 8));
}

/* Each row as a function and a handler. */
#define F1(T, R, name, e)                                                                          \
    static inline R f_##name(T a) {                                                                \
        return (e);                                                                                \
    }
#define F2(T, U, R, name, e)                                                                       \
    static inline R f_##name(T a, U b) {                                                           \
        return (e);                                                                                \
    }
#define F3(T, U, V, R, name, e)                                                                    \
    static inline R f_##name(T a, U b, V c) {                                                      \
        return (e);                                                                                \
    }
#define RUN(name, loop)                                                                            \
    static sim_step r_##name(sim_warp *w, const sim_insn *i, u32 m) {                              \
        return loop(w, i, m, f_##name);                                                            \
    }
#define WW(name, names, e) F1(u32, u32, name, e) RUN(name, lanes_w_w)
#define WWW(name, names, e) F2(u32, u32, u32, name, e) RUN(name, lanes_w_ww)
#define WWWW(name, names, e) F3(u32, u32, u32, u32, name, e) RUN(name, lanes_w_www)
#define XX(name, names, e) F1(u64, u64, name, e) RUN(name, lanes_x_x)
#define XXX(name, names, e) F2(u64, u64, u64, name, e) RUN(name, lanes_x_xx)
#define XXXX(name, names, e) F3(u64, u64, u64, u64, name, e) RUN(name, lanes_x_xxx)
#define XXW(name, names, e) F2(u64, u32, u64, name, e) RUN(name, lanes_x_xw)
#define WX(name, names, e) F1(u64, u32, name, e) RUN(name, lanes_w_x)
#define XWW(name, names, e) F2(u32, u32, u64, name, e) RUN(name, lanes_x_ww)
#define XWWX(name, names, e) F3(u32, u32, u64, u64, name, e) RUN(name, lanes_x_wwx)
#define HH(name, names, e) F1(u32, u32, name, (e)&0xffff) RUN(name, lanes_w_w)
#define HHH(name, names, e) F2(u32, u32, u32, name, (e)&0xffff) RUN(name, lanes_w_ww)
#define HHHH(name, names, e) F3(u32, u32, u32, u32, name, (e)&0xffff) RUN(name, lanes_w_www)
#define HHW(name, names, e) F2(u32, u32, u32, name, (e)&0xffff) RUN(name, lanes_w_ww)
#define WHH(name, names, e) F2(u32, u32, u32, name, e) RUN(name, lanes_w_ww)
#define WHHW(name, names, e) F3(u32, u32, u32, u32, name, e) RUN(name, lanes_w_www)
#include "op_int.def"
#undef WW
#undef WWW
#undef WWWW
#undef XX
#undef XXX
#undef XXXX
#undef XXW
#undef WX
#undef XWW
#undef XWWX
#undef HH
#undef HHH
#undef HHHH
#undef HHW
#undef WHH
#undef WHHW

/* lop3: the result's bit for inputs a, b, c is bit 4a + 2b + c of the table. */
static sim_step run_lop3(sim_warp *w, const sim_insn *i, u32 m) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b), *c = sim_words(w, i->c);
    u32 t[8];
    for (u32 n = 0; n < 8; ++n)
        t[n] = (i->imm >> n & 1) ? ~UINT32_C(0) : 0;
#pragma omp simd
    EACH_LANE(l) {
        u32 x = a[l], y = b[l], z = c[l];
        u32 r = (~x & ~y & ~z & t[0]) | (~x & ~y & z & t[1]) | (~x & y & ~z & t[2]) |
                (~x & y & z & t[3]) | (x & ~y & ~z & t[4]) | (x & ~y & z & t[5]) |
                (x & y & ~z & t[6]) | (x & y & z & t[7]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

/* Byte of {b, a} that a selector nibble takes; its top bit repeats the byte's sign. */
static u32 permuted(u64 both, u32 nibble) {
    u32 byte = (u32)(both >> 8 * (nibble & 7)) & 0xff;
    return nibble & 8 ? (byte & 0x80 ? 0xff : 0) : byte;
}
static sim_step run_prmt(sim_warp *w, const sim_insn *i, u32 m) {
    static const u16 modes[6][4] = {
        /* by the low two bits of c: .f4e .b4e .rc8 .ecl .ecr .rc16 */
        {0x3210, 0x4321, 0x5432, 0x6543}, {0x5670, 0x6701, 0x7012, 0x0123},
        {0x0000, 0x1111, 0x2222, 0x3333}, {0x3210, 0x3211, 0x3222, 0x3333},
        {0x0000, 0x1110, 0x2210, 0x3210}, {0x1010, 0x3232, 0x1010, 0x3232}};
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b), *c = sim_words(w, i->c);
    EACH_LANE_OF(l, m) {
        u64 both = (u64)b[l] << 32 | a[l];
        u32 selector = i->mode ? modes[i->mode - 1][c[l] & 3] : c[l], r = 0;
        for (u32 n = 0; n < 4; ++n)
            r |= permuted(both, selector >> 4 * n & 15) << 8 * n;
        d[l] = r;
    }
    return STEP_NEXT;
}

/* bfi d, a, b, c, length: places = d, then the list a, b, c, length. */
static sim_step run_bfi32(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *p = sim_list(w, i);
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, p[0]), *b = sim_words(w, p[1]), *c = sim_words(w, p[2]),
              *e = sim_words(w, p[3]);
    EACH_LANE_OF(l, m) {
        u32 pos = c[l] & 0xff, len = e[l] & 0xff;
        u64 mask = pos < 32 ? (len < 32 ? (UINT64_C(1) << len) - 1 : 0xffffffff) << pos : 0;
        d[l] = (u32)((b[l] & ~mask) | (((u64)a[l] << (pos < 32 ? pos : 32)) & mask));
    }
    return STEP_NEXT;
}

static u64 field_mask(u32 pos, u32 len) {
    return pos > 63 ? 0 : (len < 64 ? (UINT64_C(1) << len) - 1 : ~UINT64_C(0)) << pos;
}

/* The same on 64 bits: a and b wide, c and length not. */
static sim_step run_bfi64(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *p = sim_list(w, i), *c = sim_words(w, p[2]), *e = sim_words(w, p[3]);
    const u64 *a = sim_doubles(w, p[0]), *b = sim_doubles(w, p[1]);
    EACH_LANE_OF(l, m) {
        u32 pos = c[l] & 0xff;
        u64 mask = field_mask(pos, e[l] & 0xff);
        sim_doubles(w, i->d)[l] = (b[l] & ~mask) | (pos < 64 ? a[l] << pos & mask : 0);
    }
    return STEP_NEXT;
}

/* bfe.u64 and, flags 1, bfe.s64: bits beyond the field, and beyond bit 63, are its sign. */
static sim_step run_bfe64(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *b = sim_words(w, i->b), *c = sim_words(w, i->c);
    EACH_LANE_OF(l, m) {
        u64 a = sim_doubles(w, i->a)[l];
        u32 pos = b[l] & 0xff, len = c[l] & 0xff;
        u32 top = len == 0 ? 0 : pos + len - 1 < 63 ? pos + len - 1 : 63;
        bool negative = (i->flags & 1) && len > 0 && (a >> top & 1);
        u64 value = pos < 64 ? a >> pos & field_mask(0, len) : 0;
        u32 width = pos < 64 ? (top - pos + 1) * (len > 0) : 0;
        sim_doubles(w, i->d)[l] = negative && width < 64 ? value | ~UINT64_C(0) << width : value;
    }
    return STEP_NEXT;
}

/* add.cc, addc, sub.cc, subc, mad{c}.{lo,hi}.cc: the carry is predicate `second`; for differences
 * it holds the borrow. flags: 1 reads it, 2 writes it, 4 subtracts. width 4 or 8. */
static sim_step run_carry(sim_warp *w, const sim_insn *i, u32 m) {
    EACH_LANE_OF(l, m) {
        u32 in = (i->flags & 1) ? w->pred[i->second] >> l & 1 : 0, out;
        if (i->width == 8) {
            u64 a = sim_doubles(w, i->a)[l], b = sim_doubles(w, i->b)[l];
            unsigned __int128 r =
                i->flags & 4 ? (unsigned __int128)a - b - in : (unsigned __int128)a + b + in;
            sim_doubles(w, i->d)[l] = (u64)r;
            out = (u32)(r >> 64) & 1;
        } else {
            u64 a = sim_words(w, i->a)[l], b = sim_words(w, i->b)[l];
            u64 r = i->flags & 4 ? a - b - in : a + b + in;
            sim_words(w, i->d)[l] = (u32)r;
            out = (u32)(r >> 32) & 1;
        }
        if (i->flags & 2)
            sim_set_predicate(w, i->second, lane_bit[l], out << l);
    }
    return STEP_NEXT;
}

#define WW(name, names, e) {names, r_##name, "ww"},
#define WWW(name, names, e) {names, r_##name, "www"},
#define WWWW(name, names, e) {names, r_##name, "wwww"},
#define XX(name, names, e) {names, r_##name, "xx"},
#define XXX(name, names, e) {names, r_##name, "xxx"},
#define XXXX(name, names, e) {names, r_##name, "xxxx"},
#define XXW(name, names, e) {names, r_##name, "xxw"},
#define WX(name, names, e) {names, r_##name, "wx"},
#define XWW(name, names, e) {names, r_##name, "xww"},
#define XWWX(name, names, e) {names, r_##name, "xwwx"},
#define HH(name, names, e) {names, r_##name, "hh"},
#define HHH(name, names, e) {names, r_##name, "hhh"},
#define HHHH(name, names, e) {names, r_##name, "hhhh"},
#define HHW(name, names, e) {names, r_##name, "hhw"},
#define WHH(name, names, e) {names, r_##name, "whh"},
#define WHHW(name, names, e) {names, r_##name, "whhw"},
const ptx_row op_int_rows[] = {
#include "op_int.def"
    {NULL, NULL, NULL}};

static bool bind_four(ptx_decoder *d) {
    return d->operands >= 4 && ptx_bind(d, &d->insn.d, &d->operand[0], 4, true) &&
           ptx_bind(d, &d->insn.a, &d->operand[1], 4, false) &&
           ptx_bind(d, &d->insn.b, &d->operand[2], 4, false) &&
           ptx_bind(d, &d->insn.c, &d->operand[3], 4, false);
}

static bool decode_prmt(ptx_decoder *d) {
    static const char *const modes[] = {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
    for (u32 n = 0; n < 6; ++n)
        if (ptx_has(d, modes[n]))
            d->insn.mode = (u8)(n + 1);
    d->insn.run = run_prmt;
    return bind_four(d);
}

/* The carry of a kernel: a predicate of its own, made at its first use. */
static bool decode_carry(ptx_decoder *d) {
    if (d->operands != 3)
        return false;
    sim_insn *i = &d->insn;
    i->width = (u8)ptx_type_bytes(ptx_type(d));
    i->flags = (u8)((strlen(d->word[0]) == 4 ? 1 : 0) | (ptx_has(d, "cc") ? 2 : 0) |
                    (d->word[0][0] == 's' ? 4 : 0));
    i->second = (u16)(d->carry ? d->carry : (d->carry = d->predicates++));
    i->run = run_carry;
    return ptx_bind(d, &i->d, &d->operand[0], i->width, true) &&
           ptx_bind(d, &i->a, &d->operand[1], i->width, false) &&
           ptx_bind(d, &i->b, &d->operand[2], i->width, false);
}

bool op_int_decode(ptx_decoder *d) {
    if (strcmp(d->opcode, "lop3.b32") == 0 && d->operands == 5 &&
        d->operand[4].kind == OPERAND_IMMEDIATE) {
        d->insn.imm = (s64)d->operand[4].value;
        d->insn.run = run_lop3;
        return bind_four(d);
    }
    if (strcmp(d->word[0], "prmt") == 0)
        return decode_prmt(d);
    if (strcmp(d->word[0], "bfi") == 0 && d->operands == 5) {
        u32 bytes = ptx_type_bytes(ptx_type(d));
        ptx_begin_list(d);
        for (u32 n = 1; n < 5; ++n)
            if (!ptx_bind_list(d, &d->operand[n], n < 3 ? bytes : 4, false))
                return false;
        d->insn.run = bytes == 8 ? run_bfi64 : run_bfi32;
        return ptx_bind(d, &d->insn.d, &d->operand[0], bytes, true);
    }
    if ((ptx_starts(d, "bfe.u64") || ptx_starts(d, "bfe.s64")) && d->operands == 4) {
        d->insn.flags = d->word[1][0] == 's';
        d->insn.run = run_bfe64;
        return ptx_bind(d, &d->insn.d, &d->operand[0], 8, true) &&
               ptx_bind(d, &d->insn.a, &d->operand[1], 8, false) &&
               ptx_bind(d, &d->insn.b, &d->operand[2], 4, false) &&
               ptx_bind(d, &d->insn.c, &d->operand[3], 4, false);
    }
    if (ptx_starts(d, "add.cc.") || ptx_starts(d, "addc.") || ptx_starts(d, "sub.cc.") ||
        ptx_starts(d, "subc."))
        return decode_carry(d);
    return false;
}
