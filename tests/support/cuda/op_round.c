/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_round.c: f32 and f64 arithmetic with the modifiers that op_float.def leaves out: roundings
 * toward zero, down and up, .ftz (subnormal operands and results become zeros of their sign) and
 * .sat (to [0, 1], NaN to 0). Lane by lane under the host's rounding mode: compiled with
 * -frounding-math.
 */
#include "formats.h"
#include "ptx.h"

#include <fenv.h>

enum { OP_ADD, OP_SUB, OP_MUL, OP_FMA, OP_DIV, OP_RCP, OP_SQRT, OP_MIN, OP_MAX, OP_ABS, OP_NEG };
enum { FTZ = 1, SAT = 2, NAN_WINS = 4 };

static double compute64(u32 op, volatile double a, volatile double b, volatile double c) {
    switch (op) {
    case OP_ADD:
        return a + b;
    case OP_SUB:
        return a - b;
    case OP_MUL:
        return a * b;
    case OP_FMA:
        return fma(a, b, c);
    case OP_DIV:
        return a / b;
    case OP_RCP:
        return 1.0 / a;
    default:
        return sqrt(a);
    }
}

static float compute32(u32 op, volatile float a, volatile float b, volatile float c, u32 flags) {
    switch (op) {
    case OP_ADD:
        return a + b;
    case OP_SUB:
        return a - b;
    case OP_MUL:
        return a * b;
    case OP_FMA:
        return fmaf(a, b, c);
    case OP_DIV:
        return a / b;
    case OP_RCP:
        return 1.0f / a;
    case OP_MIN:
        return flags & NAN_WINS ? f32_min_nan(a, b) : f32_min(a, b);
    case OP_MAX:
        return flags & NAN_WINS ? f32_max_nan(a, b) : f32_max(a, b);
    case OP_ABS:
        return fabsf(a);
    case OP_NEG:
        return -a;
    default:
        return sqrtf(a);
    }
}

static float flushed(float x) {
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

static sim_step run_round32(sim_warp *w, const sim_insn *i, u32 m) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a);
    const u32 *b = i->b == PLACE_NONE ? a : sim_words(w, i->b);
    const u32 *c = i->c == PLACE_NONE ? a : sim_words(w, i->c);
    int before = fegetround();
    fesetround((int)i->imm);
    EACH_LANE_OF(l, m) {
        float x = as_f32(a[l]), y = as_f32(b[l]), z = as_f32(c[l]);
        if (i->flags & FTZ)
            x = flushed(x), y = flushed(y), z = flushed(z);
        float r = compute32(i->mode, x, y, z, i->flags);
        if (i->flags & FTZ)
            r = flushed(r);
        if (i->flags & SAT)
            r = r > 0 ? (r < 1 ? r : 1) : 0;
        d[l] = f32_canonical(r);
    }
    fesetround(before);
    return STEP_NEXT;
}

static sim_step run_round64(sim_warp *w, const sim_insn *i, u32 m) {
    u64 *d = sim_doubles(w, i->d);
    const u64 *a = sim_doubles(w, i->a);
    const u64 *b = i->b == PLACE_NONE ? a : sim_doubles(w, i->b);
    const u64 *c = i->c == PLACE_NONE ? a : sim_doubles(w, i->c);
    int before = fegetround();
    fesetround((int)i->imm);
    EACH_LANE_OF(l, m) d[l] = of_f64(compute64(i->mode, as_f64(a[l]), as_f64(b[l]), as_f64(c[l])));
    fesetround(before);
    return STEP_NEXT;
}

bool op_round_decode(ptx_decoder *d) {
    static const struct {
        const char *name;
        u32 op, sources;
    } ops[] = {{"add", OP_ADD, 2}, {"sub", OP_SUB, 2}, {"mul", OP_MUL, 2}, {"fma", OP_FMA, 3},
               {"mad", OP_FMA, 3}, {"div", OP_DIV, 2}, {"rcp", OP_RCP, 1}, {"sqrt", OP_SQRT, 1},
               {"min", OP_MIN, 2}, {"max", OP_MAX, 2}, {"abs", OP_ABS, 1}, {"neg", OP_NEG, 1}};
    const char *type = d->word[d->words - 1];
    bool wide = strcmp(type, "f64") == 0;
    if (!wide && strcmp(type, "f32") != 0)
        return false;
    size_t n = 0;
    while (n < sizeof ops / sizeof *ops && strcmp(ops[n].name, d->word[0]) != 0)
        ++n;
    if (n == sizeof ops / sizeof *ops || d->operands != ops[n].sources + 1)
        return false;
    sim_insn *i = &d->insn;
    i->imm = FE_TONEAREST;
    for (u32 x = 1; x + 1 < d->words; ++x) {
        const char *word = d->word[x];
        if (strcmp(word, "rz") == 0)
            i->imm = FE_TOWARDZERO;
        else if (strcmp(word, "rm") == 0)
            i->imm = FE_DOWNWARD;
        else if (strcmp(word, "rp") == 0)
            i->imm = FE_UPWARD;
        else if (strcmp(word, "ftz") == 0)
            i->flags |= FTZ;
        else if (strcmp(word, "sat") == 0)
            i->flags |= SAT;
        else if (strcmp(word, "NaN") == 0)
            i->flags |= NAN_WINS;
        else if (strcmp(word, "rn") != 0)
            return false; /* .approx, .full and others */
    }
    if (wide && i->flags)
        return false;
    i->mode = (u8)ops[n].op;
    i->run = wide ? run_round64 : run_round32;
    u32 *field[] = {&i->d, &i->a, &i->b, &i->c};
    for (u32 o = 0; o < d->operands; ++o)
        if (!ptx_bind(d, field[o], &d->operand[o], wide ? 8 : 4, o == 0))
            return false;
    return true;
}
