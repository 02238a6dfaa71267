/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_predicate.c: comparisons and what uses them: setp, set, selp, slct, logic on predicates,
 * testp. A predicate is a mask of lanes.
 */
#include "formats.h"
#include "ptx.h"

typedef enum compare {
    EQ,
    NE,
    LT,
    LE,
    GT,
    GE,
    EQU,
    NEU,
    LTU,
    LEU,
    GTU,
    GEU,
    NUM,
    NANS,
    COMPARES
} compare;
static const char *const compare_names[COMPARES] = {
    "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};
enum { IS_U, IS_S, IS_F };
enum { COMBINE_AND = 1, COMBINE_OR, COMBINE_XOR };

static bool ordered(u32 op, int less, int equal) {
    switch (op) {
    case EQ:
        return equal;
    case NE:
        return !equal;
    case LT:
        return less;
    case LE:
        return less || equal;
    case GT:
        return !less && !equal;
    default:
        return !less;
    }
}

static bool compare_floats(u32 op, double a, double b) {
    bool nan = a != a || b != b;
    if (op == NUM || op == NANS)
        return nan == (op == NANS);
    if (nan)
        return op >= EQU;
    return ordered(op >= EQU ? op - EQU : op, a < b, a == b);
}

/* The comparisons that loops live on, vectorised: 32-bit integers. */
static u32 compare32(const u32 *a, const u32 *b, u32 op, u32 flip) {
    u32 less[LANES], equal[LANES], lt = 0, eq = 0;
#pragma omp simd
    EACH_LANE(l) {
        less[l] = (s32)(a[l] ^ flip) < (s32)(b[l] ^ flip) ? lane_bit[l] : 0;
        equal[l] = a[l] == b[l] ? lane_bit[l] : 0;
    }
    EACH_LANE(l) {
        lt |= less[l];
        eq |= equal[l];
    }
    switch (op) {
    case EQ:
        return eq;
    case NE:
        return ~eq;
    case LT:
        return lt;
    case LE:
        return lt | eq;
    case GT:
        return ~(lt | eq);
    default:
        return ~lt;
    }
}

static double float_at(const sim_warp *w, u32 place, u32 l, u32 width, u32 kind) {
    if (width == 8)
        return as_f64(sim_doubles(w, place)[l]);
    u32 x = sim_words(w, place)[l];
    return width == 4 ? as_f32(x) : kind ? bf16_to_f32(x & 0xffff) : f16_to_f32(x & 0xffff);
}

static bool compare_lane(const sim_warp *w, const sim_insn *i, u32 l) {
    if (i->type == IS_F) {
        double a = float_at(w, i->a, l, i->width, i->flags & 1);
        double b = float_at(w, i->b, l, i->width, i->flags & 1);
        if (i->flags & 2) { /* .ftz */
            a = fabs(a) < 0x1p-126 ? 0 : a;
            b = fabs(b) < 0x1p-126 ? 0 : b;
        }
        return compare_floats(i->mode, a, b);
    }
    u64 a, b;
    if (i->width == 8) {
        a = sim_doubles(w, i->a)[l];
        b = sim_doubles(w, i->b)[l];
    } else {
        u32 shift = 32 - 8u * i->width;
        a = sim_words(w, i->a)[l] << shift;
        b = sim_words(w, i->b)[l] << shift;
        if (i->type == IS_S) {
            a = (u64)(s64)(s32)a;
            b = (u64)(s64)(s32)b;
        }
    }
    return ordered(i->mode, i->type == IS_S ? (s64)a < (s64)b : a < b, a == b);
}

static u32 compare_all(const sim_warp *w, const sim_insn *i, u32 m) {
    if (i->width == 4 && i->type != IS_F)
        return compare32(sim_words(w, i->a), sim_words(w, i->b), i->mode,
                         i->type == IS_S ? 0 : 0x80000000);
    u32 r = 0;
    EACH_LANE_OF(l, m) r |= compare_lane(w, i, l) ? lane_bit[l] : 0;
    return r;
}

static u32 combined(u32 x, u32 p, u32 how) {
    switch (how) {
    case COMBINE_AND:
        return x & p;
    case COMBINE_OR:
        return x | p;
    case COMBINE_XOR:
        return x ^ p;
    default:
        return x;
    }
}

/* d | second = comparison, combined with predicate c (shape: how; bit 7: negated) */
static sim_step run_setp(sim_warp *w, const sim_insn *i, u32 m) {
    u32 x = compare_all(w, i, m), p = 0;
    if (i->shape & 0x7f)
        p = w->pred[i->c] ^ (i->shape & 0x80 ? ~UINT32_C(0) : 0);
    sim_set_predicate(w, i->d, m, combined(x, p, i->shape & 0x7f));
    if (i->second != 0)
        sim_set_predicate(w, i->second, m, combined(~x, p, i->shape & 0x7f));
    return STEP_NEXT;
}

/* set: all ones, or 1.0f */
static sim_step run_set(sim_warp *w, const sim_insn *i, u32 m) {
    u32 x = compare_all(w, i, m), *d = sim_words(w, i->d);
    EACH_LANE_OF(l, m) d[l] = x & lane_bit[l] ? (u32)i->imm : 0;
    return STEP_NEXT;
}

static sim_step run_selp32(sim_warp *w, const sim_insn *i, u32 m) {
    u32 *d = sim_words(w, i->d), p = w->pred[i->second] ^ (0u - i->flags);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b);
#pragma omp simd
    EACH_LANE(l) {
        u32 r = p & lane_bit[l] ? a[l] : b[l];
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

static sim_step run_selp64(sim_warp *w, const sim_insn *i, u32 m) {
    u64 *d = sim_doubles(w, i->d);
    u32 p = w->pred[i->second] ^ (0u - i->flags);
    const u64 *a = sim_doubles(w, i->a), *b = sim_doubles(w, i->b);
    EACH_LANE_OF(l, m) d[l] = p & lane_bit[l] ? a[l] : b[l];
    return STEP_NEXT;
}

/* slct d, a, b, c: a where c >= 0 (not for NaN) */
static sim_step run_slct(sim_warp *w, const sim_insn *i, u32 m) {
    const u32 *c = sim_words(w, i->c);
    EACH_LANE_OF(l, m) {
        bool first = i->type == IS_F ? as_f32(c[l]) >= 0 : (s32)c[l] >= 0;
        u32 from = first ? i->a : i->b;
        if (i->width == 8)
            sim_doubles(w, i->d)[l] = sim_doubles(w, from)[l];
        else
            sim_words(w, i->d)[l] = sim_words(w, from)[l];
    }
    return STEP_NEXT;
}

enum { LOGIC_AND, LOGIC_OR, LOGIC_XOR, LOGIC_NOT, LOGIC_MOV };
static sim_step run_logic(sim_warp *w, const sim_insn *i, u32 m) {
    u32 a = i->a == PLACE_NONE ? (u32)i->imm : w->pred[i->a];
    u32 b = i->b == PLACE_NONE ? 0 : w->pred[i->b], r;
    switch (i->mode) {
    case LOGIC_AND:
        r = a & b;
        break;
    case LOGIC_OR:
        r = a | b;
        break;
    case LOGIC_XOR:
        r = a ^ b;
        break;
    case LOGIC_NOT:
        r = ~a;
        break;
    default:
        r = a;
        break;
    }
    sim_set_predicate(w, i->d, m, r);
    return STEP_NEXT;
}

enum { FINITE, INFINITE, NUMBER, NOTANUMBER, NORMAL, SUBNORMAL };
static sim_step run_testp(sim_warp *w, const sim_insn *i, u32 m) {
    u32 r = 0;
    EACH_LANE_OF(l, m) {
        double x = float_at(w, i->a, l, i->width, 0);
        double least = i->width == 8 ? 0x1p-1022 : 0x1p-126;
        bool yes = i->mode == FINITE       ? isfinite(x)
                   : i->mode == INFINITE   ? isinf(x)
                   : i->mode == NUMBER     ? !isnan(x)
                   : i->mode == NOTANUMBER ? isnan(x)
                   : i->mode == NORMAL     ? isfinite(x) && fabs(x) >= least
                                           : x == 0 || fabs(x) < least;
        r |= yes ? lane_bit[l] : 0;
    }
    sim_set_predicate(w, i->d, m, r);
    return STEP_NEXT;
}

static bool decode_compare(ptx_decoder *d, const char *type) {
    sim_insn *i = &d->insn;
    u32 op = 0;
    while (op < COMPARES && strcmp(compare_names[op], d->word[1]) != 0)
        ++op;
    i->type = type[0] == 'f' || type[1] == 'f' ? IS_F : type[0] == 's' ? IS_S : IS_U;
    if (op == COMPARES && i->type == IS_U) { /* lo, ls, hi, hs: unsigned by another name */
        static const char *const other[] = {"lo", "ls", "hi", "hs"};
        for (u32 n = 0; n < 4; ++n)
            if (strcmp(other[n], d->word[1]) == 0)
                op = LT + n;
    }
    if (op == COMPARES)
        return ptx_refuse(d, "comparison .%s", d->word[1]);
    i->mode = (u8)op;
    i->width = (u8)ptx_type_bytes(type);
    i->flags = (u8)((type[0] == 'b' && type[1] == 'f') | (ptx_has(d, "ftz") ? 2 : 0));
    i->shape = (u8)(ptx_has(d, "and")   ? COMBINE_AND
                    : ptx_has(d, "or")  ? COMBINE_OR
                    : ptx_has(d, "xor") ? COMBINE_XOR
                                        : 0);
    return i->width != 0;
}

static bool decode_setp(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    const char *type = d->word[d->words - 1];
    if (!decode_compare(d, type) || strstr(type, "x2"))
        return ptx_refuse(d, "setp of type %s", type);
    if (d->operands != (i->shape ? 4u : 3u))
        return ptx_refuse(d, "%u operands", d->operands);
    if (d->operand[0].second >= 0)
        i->second = (u16)d->operand[0].second;
    if (i->shape) {
        if (!ptx_bind_predicate(d, &i->c, &d->operand[3], false))
            return false;
        i->shape |= d->operand[3].negated ? 0x80 : 0;
    }
    i->run = run_setp;
    return ptx_bind_predicate(d, &i->d, &d->operand[0], true) &&
           ptx_bind(d, &i->a, &d->operand[1], i->width, false) &&
           ptx_bind(d, &i->b, &d->operand[2], i->width, false);
}

static bool decode_set(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    const char *result = d->word[d->words - 2];
    if (!decode_compare(d, d->word[d->words - 1]) || i->shape || d->operands != 3 ||
        ptx_type_bytes(result) != 4 || strstr(d->word[d->words - 1], "x2"))
        return ptx_refuse(d, "this form of set");
    i->imm = result[0] == 'f' ? 0x3f800000 : 0xffffffff;
    i->run = run_set;
    return ptx_bind(d, &i->d, &d->operand[0], 4, true) &&
           ptx_bind(d, &i->a, &d->operand[1], i->width, false) &&
           ptx_bind(d, &i->b, &d->operand[2], i->width, false);
}

static bool decode_selp(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    u32 bytes = ptx_type_bytes(d->word[d->words - 1]), p;
    if (d->operands != 4 || !ptx_bind_predicate(d, &p, &d->operand[3], false))
        return false;
    i->second = (u16)p;
    i->flags = d->operand[3].negated;
    i->run = bytes == 8 ? run_selp64 : run_selp32;
    return ptx_bind(d, &i->d, &d->operand[0], bytes, true) &&
           ptx_bind(d, &i->a, &d->operand[1], bytes, false) &&
           ptx_bind(d, &i->b, &d->operand[2], bytes, false);
}

static bool decode_logic(ptx_decoder *d) {
    static const char *const ops[] = {"and", "or", "xor", "not", "mov"};
    sim_insn *i = &d->insn;
    u32 op = 0;
    while (op < 5 && strcmp(ops[op], d->word[0]) != 0)
        ++op;
    if (op == 5)
        return false;
    i->mode = (u8)op;
    i->run = run_logic;
    if (op == LOGIC_MOV && d->operand[1].kind == OPERAND_IMMEDIATE)
        i->imm = d->operand[1].value ? -1 : 0;
    else if (!ptx_bind_predicate(d, &i->a, &d->operand[1], false))
        return false;
    return ptx_bind_predicate(d, &i->d, &d->operand[0], true) &&
           (op >= LOGIC_NOT || ptx_bind_predicate(d, &i->b, &d->operand[2], false));
}

bool op_predicate_decode(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    const char *base = d->word[0];
    if (strcmp(base, "setp") == 0)
        return decode_setp(d);
    if (strcmp(base, "set") == 0)
        return decode_set(d);
    if (strcmp(base, "selp") == 0)
        return decode_selp(d);
    if (strcmp(base, "slct") == 0 && d->operands == 4) {
        i->type = d->word[d->words - 1][0] == 'f' ? IS_F : IS_S;
        i->width = (u8)ptx_type_bytes(d->word[d->words - 2]);
        i->run = run_slct;
        return ptx_bind(d, &i->d, &d->operand[0], i->width, true) &&
               ptx_bind(d, &i->a, &d->operand[1], i->width, false) &&
               ptx_bind(d, &i->b, &d->operand[2], i->width, false) &&
               ptx_bind(d, &i->c, &d->operand[3], 4, false);
    }
    if (strcmp(base, "testp") == 0 && d->operands == 2) {
        static const char *const tests[] = {"finite",     "infinite", "number",
                                            "notanumber", "normal",   "subnormal"};
        for (u32 n = 0; n < 6; ++n)
            if (strcmp(d->word[1], tests[n]) == 0) {
                i->mode = (u8)n;
                i->width = (u8)ptx_type_bytes(d->word[2]);
                i->run = run_testp;
                return ptx_bind_predicate(d, &i->d, &d->operand[0], true) &&
                       ptx_bind(d, &i->a, &d->operand[1], i->width, false);
            }
    }
    return strcmp(d->word[d->words - 1], "pred") == 0 && decode_logic(d);
}
