/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_approx.c: instructions whose results PTX only bounds: ex2, lg2, sin, cos, tanh, rcp, rsqrt,
 * sqrt, div with .approx or .full.
 *
 * Hardware errs in ways that nobody wrote down. So the right value is moved by a part of the
 * documented bound (PTX ISA, each instruction's table) that depends on the operand and the seed
 * alone: a kernel that needs more precision than it is promised is seen. Values that the tables
 * name (zeros, infinities, NaN, ex2(0) = 1, powers of two of ex2) are exact.
 */
#include "formats.h"
#include "ptx.h"

enum { EX2, LG2, SIN, COS, TANH, RCP, RSQRT, SQRT, DIV };

/* Relative errors left for us once a float function's and the last rounding's are taken off. */
static const float relative[] = {
    [EX2] = 0x1p-23f,                     /* 2^-22 */
    [LG2] = 0x1p-23f,                     /* 2^-22, absolute between 0.5 and 2 */
    [SIN] = 0x1p-22f,   [COS] = 0x1p-22f, /* absolute: 2^-20.5 in [-pi, pi] */
    [TANH] = 0x1p-12f,                    /* 2^-11 */
    [RCP] = 0x1p-25f,                     /* 1 unit in the last place, which may be 2^-24 of it */
    [RSQRT] = 0x1p-24f,                   /* 2^-22.9 */
    [SQRT] = 0x1p-24f,                    /* 2^-23 */
    [DIV] = 0x1p-24f,                     /* 2 units */
};

/* In [-1, 1], the same for the same operand while the seed is. */
static float deviation(u32 bits, u64 seed) {
    if (!sim_options.approximations)
        return 0;
    u64 state = bits ^ seed;
    return (float)(s64)(sim_random(&state) >> 40) * 0x1p-23f - 1.0f;
}

static float approximate(u32 op, float a, float b, u64 seed) {
    double r;
    switch (op) {
    case EX2:
        r = exp2f(a);
        break;
    case LG2:
        r = log2f(a);
        break;
    case SIN:
        r = sinf(a);
        break;
    case COS:
        r = cosf(a);
        break;
    case TANH:
        r = tanhf(a);
        break;
    case RCP:
        r = 1.0 / a;
        break;
    case RSQRT:
        r = 1.0 / sqrt(a);
        break;
    case SQRT:
        r = sqrt(a);
        break;
    default:
        r = (double)a / b;
        break;
    }
    if (!isfinite(r) || r == 0 || (op == EX2 && a == nearbyintf(a)) || (op == DIV && !isfinite(b)))
        return (float)r;
    float d = deviation(of_f32(a) ^ (op == DIV ? of_f32(b) * 31 : 0), seed) * relative[op];
    if (op == SIN || op == COS || (op == LG2 && a > 0.5f && a < 2.0f))
        return (float)(r + (double)d);
    return (float)(r * (1.0 + (double)d));
}

static float flushed(float x) {
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

static sim_step run_approx(sim_warp *w, const sim_insn *i, u32 m) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a);
    const u32 *b = i->b == PLACE_NONE ? a : sim_words(w, i->b);
    u64 seed = sim_seed_of(i->mode);
    EACH_LANE_OF(l, m) {
        float x = as_f32(a[l]), y = as_f32(b[l]);
        if (i->flags)
            x = flushed(x), y = flushed(y);
        /* div.approx: for 2^126 < |b| < 2^128 the result may be 0 (NaN for infinite a); div.full
         * says nothing there: zero is what a kernel must live with */
        float r = i->mode == DIV && fabsf(y) > 0x1p126f && isfinite(y) && sim_options.approximations
                      ? (isinf(x) ? NAN : copysignf(0, x * copysignf(1, y)))
                      : approximate(i->mode, x, y, seed);
        d[l] = f32_canonical(i->flags ? flushed(r) : r);
    }
    return STEP_NEXT;
}

/* f16, bf16 and pairs: computed in float; the documented errors (2^-9.9 for ex2.f16, 2^-7 for
 * bf16, 2^-10.987 and 2^-8 for tanh) leave room for one rounding and one unit. */
static sim_step run_approx_half(sim_warp *w, const sim_insn *i, u32 m) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a);
    EACH_LANE_OF(l, m) {
        u32 result = 0;
        for (u32 n = 0; n < i->count; ++n) {
            u32 h = a[l] >> 16 * n & 0xffff;
            float x = i->type ? bf16_to_f32(h) : f16_to_f32(h);
            float r = i->mode == EX2 ? exp2f(x) : tanhf(x);
            result |= (i->type ? f32_to_bf16(r) : f32_to_f16(r)) << 16 * n;
        }
        d[l] = result;
    }
    return STEP_NEXT;
}

/* rcp.approx.ftz.f64 and rsqrt.approx.ftz.f64: the upper word alone is meant; the lower is zero. */
static sim_step run_approx64(sim_warp *w, const sim_insn *i, u32 m) {
    u64 *d = sim_doubles(w, i->d);
    const u64 *a = sim_doubles(w, i->a);
    EACH_LANE_OF(l, m) {
        double x = as_f64(a[l] & ~UINT64_C(0xffffffff));
        if (fabs(x) < 0x1p-1022)
            x = copysign(0, x);
        double r = i->mode == RCP ? 1.0 / x : 1.0 / sqrt(x);
        d[l] = isnan(r) ? UINT64_C(0x7fffffff) << 32 : of_f64(r) & ~UINT64_C(0xffffffff);
    }
    return STEP_NEXT;
}

bool op_approx_decode(ptx_decoder *d) {
    static const char *const names[] = {"ex2", "lg2",   "sin",  "cos", "tanh",
                                        "rcp", "rsqrt", "sqrt", "div"};
    u32 op = 0;
    while (op < 9 && strcmp(names[op], d->word[0]) != 0)
        ++op;
    if (op == 9 || (!ptx_has(d, "approx") && !ptx_has(d, "full")) ||
        d->operands != (op == DIV ? 3u : 2u))
        return false;
    const char *type = d->word[d->words - 1];
    sim_insn *i = &d->insn;
    i->mode = (u8)op;
    i->flags = ptx_has(d, "ftz");
    u32 bytes = ptx_type_bytes(type);
    if (strcmp(type, "f32") == 0)
        i->run = run_approx;
    else if (strcmp(type, "f64") == 0 && (op == RCP || op == RSQRT))
        i->run = run_approx64;
    else if (bytes <= 4 && (op == EX2 || op == TANH)) {
        i->run = run_approx_half;
        i->type = type[0] == 'b';
        i->count = bytes == 4 ? 2 : 1;
        bytes = 4;
    } else
        return false;
    u8 flags = i->flags;
    bool good = ptx_bind(d, &i->d, &d->operand[0], bytes, true) &&
                ptx_bind(d, &i->a, &d->operand[1], bytes, false) &&
                (op != DIV || ptx_bind(d, &i->b, &d->operand[2], bytes, false));
    i->flags = flags;
    return good;
}
