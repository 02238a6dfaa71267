/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_lanes.h: loops over the lanes of a warp for handlers that are a function of each lane alone.
 *
 * A row of a .def file gives such a function as an expression; these loops are inlined around it
 * and vectorise. All 32 lanes are computed, only those of the mask are stored. Destinations may be
 * sources: each lane reads before it writes, which is what the simd pragma asserts.
 */
#ifndef TEST_OP_LANES_H
#define TEST_OP_LANES_H

#include "sim.h"

#include <string.h>

#define LANE_LOOP static inline __attribute__((always_inline)) sim_step

static inline float as_f32(u32 x) {
    float f;
    memcpy(&f, &x, 4);
    return f;
}
static inline u32 of_f32(float f) {
    u32 x;
    memcpy(&x, &f, 4);
    return x;
}
static inline double as_f64(u64 x) {
    double f;
    memcpy(&f, &x, 8);
    return f;
}
static inline u64 of_f64(double f) {
    u64 x;
    memcpy(&x, &f, 8);
    return x;
}

LANE_LOOP lanes_w_w(sim_warp *w, const sim_insn *i, u32 m, u32 (*f)(u32)) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a);
#pragma omp simd
    EACH_LANE(l) {
        u32 r = f(a[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

LANE_LOOP lanes_w_ww(sim_warp *w, const sim_insn *i, u32 m, u32 (*f)(u32, u32)) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b);
#pragma omp simd
    EACH_LANE(l) {
        u32 r = f(a[l], b[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

LANE_LOOP lanes_w_www(sim_warp *w, const sim_insn *i, u32 m, u32 (*f)(u32, u32, u32)) {
    u32 *d = sim_words(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b), *c = sim_words(w, i->c);
#pragma omp simd
    EACH_LANE(l) {
        u32 r = f(a[l], b[l], c[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

LANE_LOOP lanes_x_x(sim_warp *w, const sim_insn *i, u32 m, u64 (*f)(u64)) {
    u64 *d = sim_doubles(w, i->d);
    const u64 *a = sim_doubles(w, i->a);
#pragma omp simd
    EACH_LANE(l) {
        u64 r = f(a[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

LANE_LOOP lanes_x_xx(sim_warp *w, const sim_insn *i, u32 m, u64 (*f)(u64, u64)) {
    u64 *d = sim_doubles(w, i->d);
    const u64 *a = sim_doubles(w, i->a), *b = sim_doubles(w, i->b);
#pragma omp simd
    EACH_LANE(l) {
        u64 r = f(a[l], b[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

LANE_LOOP lanes_x_xxx(sim_warp *w, const sim_insn *i, u32 m, u64 (*f)(u64, u64, u64)) {
    u64 *d = sim_doubles(w, i->d);
    const u64 *a = sim_doubles(w, i->a), *b = sim_doubles(w, i->b), *c = sim_doubles(w, i->c);
#pragma omp simd
    EACH_LANE(l) {
        u64 r = f(a[l], b[l], c[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

LANE_LOOP lanes_x_xw(sim_warp *w, const sim_insn *i, u32 m, u64 (*f)(u64, u32)) {
    u64 *d = sim_doubles(w, i->d);
    const u64 *a = sim_doubles(w, i->a);
    const u32 *b = sim_words(w, i->b);
#pragma omp simd
    EACH_LANE(l) {
        u64 r = f(a[l], b[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

LANE_LOOP lanes_x_w(sim_warp *w, const sim_insn *i, u32 m, u64 (*f)(u32)) {
    u64 *d = sim_doubles(w, i->d);
    const u32 *a = sim_words(w, i->a);
#pragma omp simd
    EACH_LANE(l) {
        u64 r = f(a[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

LANE_LOOP lanes_w_x(sim_warp *w, const sim_insn *i, u32 m, u32 (*f)(u64)) {
    u32 *d = sim_words(w, i->d);
    const u64 *a = sim_doubles(w, i->a);
#pragma omp simd
    EACH_LANE(l) {
        u32 r = f(a[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

LANE_LOOP lanes_x_ww(sim_warp *w, const sim_insn *i, u32 m, u64 (*f)(u32, u32)) {
    u64 *d = sim_doubles(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b);
#pragma omp simd
    EACH_LANE(l) {
        u64 r = f(a[l], b[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

LANE_LOOP lanes_x_wwx(sim_warp *w, const sim_insn *i, u32 m, u64 (*f)(u32, u32, u64)) {
    u64 *d = sim_doubles(w, i->d);
    const u32 *a = sim_words(w, i->a), *b = sim_words(w, i->b);
    const u64 *c = sim_doubles(w, i->c);
#pragma omp simd
    EACH_LANE(l) {
        u64 r = f(a[l], b[l], c[l]);
        d[l] = m & lane_bit[l] ? r : d[l];
    }
    return STEP_NEXT;
}

/* Predicates: a mask of lanes. Bits of lanes outside m stay. */
static inline void sim_set_predicate(sim_warp *w, u32 p, u32 m, u32 value) {
    if (p != PLACE_NONE)
        w->pred[p] = (w->pred[p] & ~m) | (value & m);
}

#endif
