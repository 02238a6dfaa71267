/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_half.c: arithmetic on f16, f16x2, bf16 and bf16x2 (op_half.def). One expression per
 * instruction; the type and whether there are two of them come from the opcode.
 */
#include "formats.h"
#include "ptx.h"

typedef float (*to_float)(u32);
typedef u32 (*from_float)(float);

/* a*b is exact in double; the sum is rounded to odd, so that the last rounding is the only one. */
static inline float fma_odd(float a, float b, float c) {
    return narrow_odd(add_odd((double)a * b, c));
}
static inline float relu(float a) {
    return a != a ? a : a > 0 ? a : 0.0f;
}

/* Two halves of a word, or one of a 16-bit register (count 1). */
LANE_LOOP half1(sim_warp *w, const sim_insn *i, u32 m, float (*f)(float), to_float in,
                from_float out) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a);
    EACH_LANE_OF(l, m) {
        u32 r = out(f(in(a[l] & 0xffff)));
        d[l] = i->count == 1 ? r : r | out(f(in(a[l] >> 16))) << 16;
    }
    return STEP_NEXT;
}
LANE_LOOP half2(sim_warp *w, const sim_insn *i, u32 m, float (*f)(float, float), to_float in,
                from_float out) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b);
    EACH_LANE_OF(l, m) {
        u32 r = out(f(in(a[l] & 0xffff), in(b[l] & 0xffff)));
        d[l] = i->count == 1 ? r : r | out(f(in(a[l] >> 16), in(b[l] >> 16))) << 16;
    }
    return STEP_NEXT;
}
LANE_LOOP half3(sim_warp *w, const sim_insn *i, u32 m, float (*f)(float, float, float), to_float in,
                from_float out) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b), *c = sim_words(w, i->c);
    EACH_LANE_OF(l, m) {
        u32 r = out(f(in(a[l] & 0xffff), in(b[l] & 0xffff), in(c[l] & 0xffff)));
        d[l] = i->count == 1 ? r : r | out(f(in(a[l] >> 16), in(b[l] >> 16), in(c[l] >> 16))) << 16;
    }
    return STEP_NEXT;
}

#define RUN(name, loop)                                                                            \
    static sim_step r_##name(sim_warp *w, const sim_insn *i, u32 m) {                              \
        return i->type ? loop(w, i, m, f_##name, bf16_to_f32, f32_to_bf16)                         \
                       : loop(w, i, m, f_##name, f16_to_f32, f32_to_f16);                          \
    }
#define HALF1(name, n1, n2, e)                                                                     \
    static inline float f_##name(float a) {                                                        \
        return (e);                                                                                \
    }                                                                                              \
    RUN(name, half1)
#define HALF2(name, n1, n2, e)                                                                     \
    static inline float f_##name(float a, float b) {                                               \
        return (e);                                                                                \
    }                                                                                              \
    RUN(name, half2)
#define HALF3(name, n1, n2, e)                                                                     \
    static inline float f_##name(float a, float b, float c) {                                      \
        return (e);                                                                                \
    }                                                                                              \
    RUN(name, half3)
#include "op_half.def"
#undef HALF1
#undef HALF2
#undef HALF3
#define HALF1(name, n1, n2, e) {n1, n2, r_##name, 1},
#define HALF2(name, n1, n2, e) {n1, n2, r_##name, 2},
#define HALF3(name, n1, n2, e) {n1, n2, r_##name, 3},
static const struct {
    const char *name, *other;
    sim_handler *run;
    u32 sources;
} rows[] = {
#include "op_half.def"
};

bool op_half_decode(ptx_decoder *d) {
    const char *type = d->word[d->words - 1];
    static const char *const types[] = {"f16", "f16x2", "bf16", "bf16x2"};
    u32 t = 0;
    while (t < 4 && strcmp(type, types[t]) != 0)
        ++t;
    size_t n = strlen(d->opcode) - strlen(type);
    if (t == 4 || n == 0)
        return false;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; ++r) {
        bool one = strlen(rows[r].name) + 1 == n && strncmp(rows[r].name, d->opcode, n - 1) == 0;
        bool two = strlen(rows[r].other) + 1 == n && strncmp(rows[r].other, d->opcode, n - 1) == 0;
        if ((!one && !two) || d->operands != rows[r].sources + 1)
            continue;
        u32 *field[] = {&d->insn.d, &d->insn.a, &d->insn.b, &d->insn.c};
        for (u32 o = 0; o < d->operands; ++o) {
            if (d->operand[o].kind == OPERAND_IMMEDIATE)
                return ptx_refuse(d, "an immediate half");
            if (!ptx_bind(d, field[o], &d->operand[o], 4, o == 0))
                return false;
        }
        d->insn.type = t >= 2;
        d->insn.count = t % 2 ? 2 : 1;
        d->insn.run = rows[r].run;
        return true;
    }
    return false;
}
