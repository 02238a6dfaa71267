/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_float.c: f32 and f64 arithmetic rounded to nearest (op_float.def). Other roundings, .ftz and
 * .sat are in op_round.c, approximations in op_approx.c. f32 results that are NaN are the canonical
 * one.
 */
#include "formats.h"
#include "ptx.h"

static inline u32 add1(u32 a, u32 b) {
    return f32_canonical(as_f32(a) + as_f32(b));
}
static inline u32 mul1(u32 a, u32 b) {
    return f32_canonical(as_f32(a) * as_f32(b));
}
static inline u64 pair2(u64 a, u64 b, u32 (*f)(u32, u32)) {
    return (u64)f((u32)(a >> 32), (u32)(b >> 32)) << 32 | f((u32)a, (u32)b);
}
static inline u64 pair3(u64 a, u64 b, u64 c) {
    u32 low = f32_canonical(__builtin_fmaf(as_f32((u32)a), as_f32((u32)b), as_f32((u32)c)));
    u32 high = f32_canonical(
        __builtin_fmaf(as_f32((u32)(a >> 32)), as_f32((u32)(b >> 32)), as_f32((u32)(c >> 32))));
    return (u64)high << 32 | low;
}

/* Each row as a function on floats, the same on bits, and a handler. */
#define RUN(name, loop)                                                                            \
    static sim_step r_##name(sim_warp *w, const sim_insn *i, u32 m) {                              \
        return loop(w, i, m, f_##name);                                                            \
    }
#define BITS1(T, name, e)                                                                          \
    static inline T f_##name(T a) {                                                                \
        return (e);                                                                                \
    }
#define BITS2(T, name, e)                                                                          \
    static inline T f_##name(T a, T b) {                                                           \
        return (e);                                                                                \
    }
#define BITS3(T, name, e)                                                                          \
    static inline T f_##name(T a, T b, T c) {                                                      \
        return (e);                                                                                \
    }
#define REAL1(T, name, e)                                                                          \
    static inline T g_##name(T a) {                                                                \
        return (e);                                                                                \
    }
#define REAL2(T, name, e)                                                                          \
    static inline T g_##name(T a, T b) {                                                           \
        return (e);                                                                                \
    }
#define REAL3(T, name, e)                                                                          \
    static inline T g_##name(T a, T b, T c) {                                                      \
        return (e);                                                                                \
    }
#define FF(name, names, e)                                                                         \
    REAL1(float, name, e)                                                                          \
    BITS1(u32, name, f32_canonical(g_##name(as_f32(a)))) RUN(name, lanes_w_w)
#define FFF(name, names, e)                                                                        \
    REAL2(float, name, e)                                                                          \
    BITS2(u32, name, f32_canonical(g_##name(as_f32(a), as_f32(b)))) RUN(name, lanes_w_ww)
#define FFFF(name, names, e)                                                                       \
    REAL3(float, name, e)                                                                          \
    BITS3(u32, name, f32_canonical(g_##name(as_f32(a), as_f32(b), as_f32(c))))                     \
    RUN(name, lanes_w_www)
#define DD(name, names, e)                                                                         \
    REAL1(double, name, e) BITS1(u64, name, of_f64(g_##name(as_f64(a)))) RUN(name, lanes_x_x)
#define DDD(name, names, e)                                                                        \
    REAL2(double, name, e)                                                                         \
    BITS2(u64, name, of_f64(g_##name(as_f64(a), as_f64(b)))) RUN(name, lanes_x_xx)
#define DDDD(name, names, e)                                                                       \
    REAL3(double, name, e)                                                                         \
    BITS3(u64, name, of_f64(g_##name(as_f64(a), as_f64(b), as_f64(c)))) RUN(name, lanes_x_xxx)
#define WW(name, names, e) BITS1(u32, name, e) RUN(name, lanes_w_w)
#define WWW(name, names, e) BITS2(u32, name, e) RUN(name, lanes_w_ww)
#define XX(name, names, e) BITS1(u64, name, e) RUN(name, lanes_x_x)
#define XXX(name, names, e) BITS2(u64, name, e) RUN(name, lanes_x_xx)
#define XXXX(name, names, e) BITS3(u64, name, e) RUN(name, lanes_x_xxx)
#include "op_float.def"
#undef FF
#undef FFF
#undef FFFF
#undef DD
#undef DDD
#undef DDDD
#undef WW
#undef WWW
#undef XX
#undef XXX
#undef XXXX
#define FF(name, names, e) {names, r_##name, "ww"},
#define FFF(name, names, e) {names, r_##name, "www"},
#define FFFF(name, names, e) {names, r_##name, "wwww"},
#define DD(name, names, e) {names, r_##name, "xx"},
#define DDD(name, names, e) {names, r_##name, "xxx"},
#define DDDD(name, names, e) {names, r_##name, "xxxx"},
#define WW(name, names, e) {names, r_##name, "ww"},
#define WWW(name, names, e) {names, r_##name, "www"},
#define XX(name, names, e) {names, r_##name, "xx"},
#define XXX(name, names, e) {names, r_##name, "xxx"},
#define XXXX(name, names, e) {names, r_##name, "xxxx"},
const ptx_row op_float_rows[] = {
#include "op_float.def"
    {NULL, NULL, NULL}};
