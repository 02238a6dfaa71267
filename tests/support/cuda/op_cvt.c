/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_cvt.c: conversions (PTX ISA, "cvt" and "cvt.pack").
 *
 * Between integers, f16, bf16, f32, f64 by way of a 64-bit integer or a double, lane by lane, under
 * the rounding named (compiled with -frounding-math); two floats to packed halves or bytes, and
 * back; tf32. The two conversions that fill kernels, f32 to pairs of halves and back, have handlers
 * of their own.
 */
#include "formats.h"
#include "ptx.h"

#include <fenv.h>

typedef enum type {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    F16,
    BF16,
    F32,
    F64,
    TF32,
    F16X2,
    BF16X2,
    E4M3X2,
    E5M2X2,
    TYPES
} type;
static const char *const names[TYPES] = {"u8",   "s8",    "u16",    "s16",    "u32",   "s32",
                                         "u64",  "s64",   "f16",    "bf16",   "f32",   "f64",
                                         "tf32", "f16x2", "bf16x2", "e4m3x2", "e5m2x2"};
enum { SATURATE = 1, FLUSH = 2, RELU = 4, TO_INTEGER = 8, FINITE = 16, NARROW = 32, AWAY = 64 };

static int type_of(const char *word) {
    for (int t = 0; t < TYPES; ++t)
        if (strcmp(names[t], word) == 0)
            return t;
    if (word[0] == 'b' && ptx_type_bytes(word)) /* b32 and its like count as unsigned */
        return word[1] == '8' ? U8 : word[1] == '1' ? U16 : word[1] == '3' ? U32 : U64;
    return -1;
}
static bool is_integer(u32 t) {
    return t <= S64;
}
static u32 type_bits(u32 t) {
    static const u8 bits[TYPES] = {8,  8,  16, 16, 32, 32, 64, 64, 16,
                                   16, 32, 64, 32, 32, 32, 16, 16};
    return bits[t];
}
static bool is_signed(u32 t) {
    return t == S8 || t == S16 || t == S32 || t == S64;
}

static u64 extended(u64 x, u32 t) {
    u32 shift = 64 - type_bits(t);
    return is_signed(t) ? (u64)((s64)(x << shift) >> shift) : x << shift >> shift;
}

/* The range of an integer type as doubles: its ends are exact, or a power of two too large. */
static u64 float_to_integer(double x, u32 t) {
    double top = ldexp(1.0, (int)type_bits(t) - is_signed(t)), low = is_signed(t) ? -top : 0;
    if (isnan(x))
        return 0;
    if (x >= top)
        return UINT64_MAX >> (64 - type_bits(t) + is_signed(t));
    if (x <= low)
        return is_signed(t) ? UINT64_C(1) << (type_bits(t) - 1) : 0;
    return is_signed(t) ? (u64)(s64)x : (u64)x;
}

static u64 clamp_integer(u64 x, u32 from, u32 to) {
    __int128 v = is_signed(from) ? (__int128)(s64)x : (__int128)x;
    __int128 top = ((__int128)1 << (type_bits(to) - is_signed(to))) - 1;
    __int128 low = is_signed(to) ? -top - 1 : 0;
    return (u64)(v > top ? top : v < low ? low : v);
}

static float flushed(float x) {
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

static double read_float(u64 x, u32 t, u32 flags) {
    switch (t) {
    case F16:
        return f16_to_f32((u32)x & 0xffff);
    case BF16:
        return bf16_to_f32((u32)x & 0xffff);
    case F32:
        return flags & FLUSH ? flushed(as_f32((u32)x)) : as_f32((u32)x);
    default:
        return as_f64(x);
    }
}

/* A float of a narrower format from one value; the host rounds as the instruction says. */
static u64 write_float(volatile double x, u32 t, u32 flags, int rounding) {
    if (flags & RELU)
        x = isnan(x) || x > 0 ? x : 0;
    if (flags & SATURATE)
        x = x > 0 ? (x < 1 ? x : 1) : 0;
    float f;
    switch (t) {
    case F64:
        return of_f64(x);
    case F32:
        f = (float)x;
        return f32_canonical(flags & FLUSH ? flushed(f) : f);
    case TF32:
        f = (float)x;
        return (flags & AWAY)                           ? f32_to_tf32_rna(f)
               : rounding == FE_TOWARDZERO && !isnan(f) ? of_f32(f) & ~UINT32_C(0x1fff)
                                                        : f32_to_tf32_rn(f);
    case F16: /* from a double: rounded to odd first */
        fesetround(FE_TONEAREST);
        f = narrow_odd(x);
        return f32_to_f16_general(f, rounding == FE_TOWARDZERO, flags & FINITE);
    default: {
        fesetround(FE_TONEAREST);
        f = narrow_odd(x);
        u32 r = rounding == FE_TOWARDZERO ? f32_to_bf16_rz(f) : f32_to_bf16(f);
        return (flags & FINITE) && (r & 0x7fff) == 0x7f80 ? r - 1 : r;
    }
    }
}

static u64 convert(u64 x, const sim_insn *i) {
    u32 from = i->type, to = i->shape, flags = i->flags;
    if (is_integer(from)) {
        x = extended(x, from);
        if (is_integer(to))
            return extended(flags & SATURATE ? clamp_integer(x, from, to) : x, to);
        volatile s64 v = (s64)x;
        volatile u64 u = x;
        if (to == F32) /* in one step: a double between would round twice */
            return of_f32(is_signed(from) ? (float)v : (float)u);
        double wide = is_signed(from) ? (double)v : (double)u;
        return write_float(wide, to, flags, (int)i->imm);
    }
    double v = read_float(x, from, flags);
    if (is_integer(to))
        return extended(float_to_integer(nearbyint(v), to), to);
    return write_float(flags & TO_INTEGER ? nearbyint(v) : v, to, flags, (int)i->imm);
}

static sim_step run_cvt(sim_warp *w, const sim_insn *i, u32 m) {
    bool wide_source = i->count & 2, wide_result = i->count & 1;
    int before = fegetround();
    EACH_LANE_OF(l, m) {
        fesetround((int)i->imm);
        u64 x = wide_source ? sim_doubles(w, i->a)[l] : sim_words(w, i->a)[l];
        u64 r = convert(x, i);
        if (wide_result)
            sim_doubles(w, i->d)[l] = r;
        else
            sim_words(w, i->d)[l] = (u32)(i->flags & NARROW ? r & 0xffff : r);
    }
    fesetround(before);
    return STEP_NEXT;
}

/* d = {a, b}, a above. */
static sim_step run_pack_bf16(sim_warp *w, const sim_insn *i, u32 m) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b);
#pragma omp simd
    EACH_LANE(l) {
        u32 r = f32_to_bf16(as_f32(a[l])) << 16 | f32_to_bf16(as_f32(b[l]));
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

static u32 pack_byte(float x, u32 t, u32 flags) {
    if (flags & RELU)
        x = isnan(x) || x > 0 ? x : 0;
    return t == E4M3X2 ? f32_to_e4m3(x) : f32_to_e5m2(x);
}

static sim_step run_pack(sim_warp *w, const sim_insn *i, u32 m) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = i->b == PLACE_NONE ? a : sim_words(w, i->b);
    u32 half = i->shape == F16X2 ? F16 : BF16;
    EACH_LANE_OF(l, m) {
        float high = as_f32(a[l]), low = as_f32(b[l]);
        if (i->type == F16X2)
            high = f16_to_f32(a[l] >> 16), low = f16_to_f32(a[l] & 0xffff);
        d[l] = i->shape >= E4M3X2
                   ? pack_byte(high, i->shape, i->flags) << 8 | pack_byte(low, i->shape, i->flags)
                   : (u32)write_float(high, half, i->flags, (int)i->imm) << 16 |
                         (u32)write_float(low, half, i->flags, (int)i->imm);
    }
    return STEP_NEXT;
}

/* Two bytes to two halves. */
static sim_step run_unpack(sim_warp *w, const sim_insn *i, u32 m) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a);
    float (*value)(u32) = i->type == E4M3X2 ? e4m3_to_f32 : e5m2_to_f32;
    EACH_LANE_OF(l, m) {
        float low = value(a[l] & 0xff), high = value(a[l] >> 8 & 0xff);
        if (i->flags & RELU)
            low = low < 0 ? 0 : low, high = high < 0 ? 0 : high;
        d[l] = f32_to_f16(high) << 16 | f32_to_f16(low);
    }
    return STEP_NEXT;
}

/* cvt.pack.sat.T.s32{.b32} d, a, b{, c}: a above b, both saturated; s8 and u8 shift c in above. */
static sim_step run_pack_integers(sim_warp *w, const sim_insn *i, u32 m) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b);
    const u32 *c = i->c == PLACE_NONE ? NULL : sim_words(w, i->c);
    u32 bits = type_bits(i->shape), mask = (1u << bits) - 1;
    EACH_LANE_OF(l, m) {
        u32 high = (u32)clamp_integer((u64)(s64)(s32)a[l], S64, i->shape) & mask;
        u32 low = (u32)clamp_integer((u64)(s64)(s32)b[l], S64, i->shape) & mask;
        d[l] = high << bits | low | (c ? c[l] << 2 * bits : 0);
    }
    return STEP_NEXT;
}

static bool bind_operands(ptx_decoder *d, u32 least, u32 most) {
    u32 *field[] = {&d->insn.d, &d->insn.a, &d->insn.b, &d->insn.c};
    if (d->operands < least || d->operands > most)
        return ptx_refuse(d, "%u operands", d->operands);
    for (u32 o = 0; o < d->operands; ++o)
        if (!ptx_bind(d, field[o], &d->operand[o], 4, o == 0))
            return false;
    return true;
}

static bool decode_modifiers(ptx_decoder *d) {
    sim_insn *i = &d->insn;
    i->imm = FE_TONEAREST;
    for (u32 n = 1; n + 2 < d->words; ++n) {
        const char *s = d->word[n];
        bool integral = strlen(s) == 3 && s[0] == 'r' && s[2] == 'i';
        if (strcmp(s, "sat") == 0)
            i->flags |= SATURATE;
        else if (strcmp(s, "ftz") == 0)
            i->flags |= FLUSH;
        else if (strcmp(s, "relu") == 0)
            i->flags |= RELU;
        else if (strcmp(s, "satfinite") == 0)
            i->flags |= FINITE;
        else if (strcmp(s, "rna") == 0)
            i->flags |= AWAY;
        else if (s[0] == 'r' && (integral || strlen(s) == 2) && strchr("nzmp", s[1]))
            i->imm = s[1] == 'n'   ? FE_TONEAREST
                     : s[1] == 'z' ? FE_TOWARDZERO
                     : s[1] == 'm' ? FE_DOWNWARD
                                   : FE_UPWARD;
        else
            return ptx_refuse(d, "cvt.%s", s);
        if (integral)
            i->flags |= TO_INTEGER;
    }
    return true;
}

static bool decode_pack(ptx_decoder *d) { /* cvt.pack.sat.s8.s32.b32 */
    if (d->words < 5 || strcmp(d->word[2], "sat") != 0 || strcmp(d->word[4], "s32") != 0)
        return ptx_refuse(d, "this form of cvt.pack");
    d->insn.shape = (u8)type_of(d->word[3]);
    d->insn.run = run_pack_integers;
    return bind_operands(d, 3, 4);
}

bool op_cvt_decode(ptx_decoder *d) {
    if (strcmp(d->word[0], "cvt") != 0 || d->words < 3)
        return false;
    if (strcmp(d->word[1], "pack") == 0)
        return decode_pack(d);
    sim_insn *i = &d->insn;
    int to = type_of(d->word[d->words - 2]), from = type_of(d->word[d->words - 1]);
    if (to < 0 || from < 0)
        return ptx_refuse(d, "a conversion between types that are not known here");
    i->type = (u8)from;
    i->shape = (u8)to;
    if (!decode_modifiers(d))
        return false;
    bool packs = to >= F16X2 && (from == F32 || (from == F16X2 && to >= E4M3X2));
    if (packs) {
        if (i->imm != FE_TONEAREST && i->imm != FE_TOWARDZERO)
            return ptx_refuse(d, "this rounding");
        if (to >= E4M3X2 && !(i->flags & FINITE))
            return ptx_refuse(d, "without .satfinite");
        i->run = to == BF16X2 && i->flags == 0 && i->imm == FE_TONEAREST ? run_pack_bf16 : run_pack;
        return from == F32 ? bind_operands(d, 3, 3) : bind_operands(d, 2, 2);
    }
    if (from >= E4M3X2 && to == F16X2) {
        i->run = run_unpack;
        return bind_operands(d, 2, 2);
    }
    if (to >= F16X2 || from >= TF32 || d->operands != 2)
        return ptx_refuse(d, "this conversion");
    const ptx_operand *out = &d->operand[0], *in = &d->operand[1];
    u32 in_bytes = in->kind == OPERAND_REGISTER ? in->bytes : type_bits((u32)from) / 8;
    i->count = (u8)((out->bytes == 8) | (in_bytes == 8) << 1);
    if (out->bytes == 2)
        i->flags |= NARROW;
    i->run = run_cvt;
    return ptx_bind(d, &i->d, out, out->bytes == 8 ? 8 : 4, true) &&
           ptx_bind(d, &i->a, in, in_bytes == 8 ? 8 : 4, false);
}
