/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoders that are free in their choice of scales: nothing says which bytes an encoder of these
 * types has to give. Each tries some scales per run of elements, takes the one whose error, squared
 * and weighted, is least after least squares have settled it, rounds the scales as the type stores
 * them, and encodes the elements with what has been stored. (ggml's make_qx_quants and
 * make_qkx2_quants do the same; candidates and weights are theirs, the arithmetic is f64 here.)
 *
 * Larger elements weigh more, as in ggml: errors are multiplied with activations, not looked at.
 */
#include "ops/blocks.h"

#include <math.h>
#include <stdbool.h>

enum { RUN = 32 }; /* most elements that share a scale */

static int nearest(double value, int least, int most) {
    const double rounded = floor(value + 0.5);
    return rounded <= least ? least : rounded >= most ? most : (int)rounded;
}

static bool all_finite(const float *x, int n) {
    for (int i = 0; i < n; ++i)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* f16 that does not overflow: elements beyond what the type reaches saturate. */
static uint16_t half_within(double value) {
    const double most = 65504;
    return tn_half_of((float)(value > most ? most : value < -most ? -most : value));
}

/* ---------------------------------------------------------------- scale and minimum */

/* x ≈ scale·q − minimum, q from 0 to `most`; neither is negative. */
typedef struct line {
    double scale, minimum;
} line;

/* The line of least squares through (q[i], x[i]), through 0 where it would begin above. */
static line line_through(const float *x, const double *weight, const int *q) {
    double w = 0, wq = 0, wqq = 0, wx = 0, wqx = 0;
    for (int i = 0; i < RUN; ++i) {
        w += weight[i];
        wq += weight[i] * q[i];
        wqq += weight[i] * q[i] * q[i];
        wx += weight[i] * (double)x[i];
        wqx += weight[i] * q[i] * (double)x[i];
    }
    const double determinant = w * wqq - wq * wq;
    if (determinant > 0) {
        const line l = {(w * wqx - wx * wq) / determinant, (wq * wqx - wqq * wx) / determinant};
        if (l.minimum >= 0)
            return l;
    }
    return (line){wqq > 0 ? wqx / wqq : 0, 0};
}

static double line_error(const float *x, const double *weight, const int *q, line l) {
    double error = 0;
    for (int i = 0; i < RUN; ++i) {
        const double e = l.scale * q[i] - l.minimum - (double)x[i];
        error += weight[i] * e * e;
    }
    return error;
}

static line fit_line(const float *x, int most) {
    double weight[RUN], squares = 0, low = 0, high = (double)x[0], best_error = INFINITY;
    line best = {0, 0};
    int q[RUN];
    for (int i = 0; i < RUN; ++i) {
        squares += (double)x[i] * (double)x[i];
        low = fmin(low, (double)x[i]);
        high = fmax(high, (double)x[i]);
    }
    if (high <= low)
        return (line){0, -low};
    for (int i = 0; i < RUN; ++i)
        weight[i] = sqrt(squares / RUN) + fabs((double)x[i]);
    for (int step = 0; step <= 20; ++step) { /* the range on most − 1 to most + 1 steps */
        const double factor = (most - 1 + 0.1 * step) / (high - low);
        for (int i = 0; i < RUN; ++i)
            q[i] = nearest(factor * ((double)x[i] - low), 0, most);
        const line l = line_through(x, weight, q);
        const double error = line_error(x, weight, q, l);
        if (l.scale > 0 && error < best_error) {
            best_error = error;
            best = l;
        }
    }
    return best;
}

/* Q4_K and Q5_K: d, dmin, scales, and 256 codes from 0 to `most`. */
static void encode_k(const float *x, int most, uint16_t *d, uint16_t *dmin, uint8_t scales[12],
                     int code[256]) {
    line l[8];
    double scale = 0, minimum = 0;
    for (int r = 0; r < 8; ++r) {
        l[r] = fit_line(x + RUN * r, most);
        scale = fmax(scale, l[r].scale);
        minimum = fmax(minimum, l[r].minimum);
    }
    *d = half_within(scale / 63);
    *dmin = half_within(minimum / 63);
    const double step = (double)tn_half_value(*d);
    if (scale > 0 && step == 0) /* too small for f16: zeros are nearer than minima alone */
        *dmin = 0;
    const double min_step = (double)tn_half_value(*dmin);
    memset(scales, 0, 12);
    for (int r = 0; r < 8; ++r) {
        const int sc = step > 0 ? nearest(l[r].scale / step, 0, 63) : 0,
                  mn = min_step > 0 ? nearest(l[r].minimum / min_step, 0, 63) : 0;
        if (r < 4) {
            scales[r] = (uint8_t)(scales[r] | sc);
            scales[r + 4] = (uint8_t)(scales[r + 4] | mn);
        } else {
            scales[r + 4] = (uint8_t)((sc & 15) | (mn & 15) << 4);
            scales[r - 4] = (uint8_t)(scales[r - 4] | sc >> 4 << 6);
            scales[r] = (uint8_t)(scales[r] | mn >> 4 << 6);
        }
        for (int i = 0; i < RUN; ++i)
            code[RUN * r + i] =
                step * sc > 0
                    ? nearest(((double)x[RUN * r + i] + min_step * mn) / (step * sc), 0, most)
                    : 0;
    }
}

static void put_k_nibbles(const int code[256], uint8_t qs[128]) {
    for (int i = 0; i < 128; ++i) {
        const int *pair = code + i / 32 * 64 + i % 32;
        qs[i] = (uint8_t)((pair[0] & 15) | (pair[32] & 15) << 4);
    }
}

void tn_block_encode_q4_k(const float *x, void *block) {
    tn_block_q4_k *b = block;
    int code[256];
    memset(b, 0, sizeof *b);
    if (!all_finite(x, 256)) {
        b->d = tn_half_of(NAN);
        return;
    }
    encode_k(x, 15, &b->d, &b->dmin, b->scales, code);
    put_k_nibbles(code, b->qs);
}

void tn_block_encode_q5_k(const float *x, void *block) {
    tn_block_q5_k *b = block;
    int code[256];
    memset(b, 0, sizeof *b);
    if (!all_finite(x, 256)) {
        b->d = tn_half_of(NAN);
        return;
    }
    encode_k(x, 31, &b->d, &b->dmin, b->scales, code);
    put_k_nibbles(code, b->qs);
    for (int i = 0; i < 256; ++i)
        b->qh[i % 32] = (uint8_t)(b->qh[i % 32] | (code[i] >> 4) << i / 32);
}

/* ---------------------------------------------------------------- scale alone */

/* The value of a code next to x / scale, and the code. */
typedef double value_near(double x, int *code);

static double value_near_six_bits(double x, int *code) {
    *code = nearest(x, -32, 31);
    return *code;
}

static double value_near_iq4_nl(double x, int *code) {
    static const int8_t values[16] = TN_IQ4_NL_VALUES;
    *code = 0;
    for (int c = 1; c < 16; ++c)
        if (fabs(values[c] - x) < fabs(values[*code] - x))
            *code = c;
    return values[*code];
}

/*
 * The scale with which values[q] ≈ x, of either sign. The element of largest magnitude goes to
 * `first` or near it: first + some steps.
 */
static double fit_scale(const float *x, int n, double first, double step, int steps,
                        value_near *near) {
    double largest = 0, best = 0, best_gain = 0;
    int code;
    for (int i = 0; i < n; ++i)
        if (fabs((double)x[i]) > fabs(largest))
            largest = (double)x[i];
    if (largest == 0)
        return 0;
    for (int s = -steps; s <= steps; ++s) {
        const double factor = (first + step * s) / largest;
        double wqx = 0, wqq = 0;
        for (int i = 0; i < n; ++i) {
            const double v = near((double)x[i] * factor, &code), w = (double)x[i] * (double)x[i];
            wqx += w * v * (double)x[i];
            wqq += w * v * v;
        }
        /* The error with the scale wqx / wqq is Σ w·x² less this. */
        if (wqq > 0 && wqx * wqx / wqq > best_gain) {
            best_gain = wqx * wqx / wqq;
            best = wqx / wqq;
        }
    }
    return best;
}

void tn_block_encode_q6_k(const float *x, void *block) {
    tn_block_q6_k *b = block;
    double scale[16], largest = 0;
    memset(b, 0, sizeof *b);
    if (!all_finite(x, 256)) {
        b->d = tn_half_of(NAN);
        return;
    }
    for (int r = 0; r < 16; ++r) {
        scale[r] = fit_scale(x + 16 * r, 16, -32, 0.1, 9, value_near_six_bits);
        if (fabs(scale[r]) > fabs(largest))
            largest = scale[r];
    }
    b->d = half_within(largest / -128);
    const double d = (double)tn_half_value(b->d);
    for (int i = 0; i < 256; ++i) {
        const int r = i / 16, half = i / 128, quarter = i % 128 / 32, j = i % 32;
        b->scales[r] = (int8_t)(d != 0 ? nearest(scale[r] / d, -128, 127) : 0);
        const double step = d * b->scales[r];
        const int code = (step != 0 ? nearest((double)x[i] / step, -32, 31) : 0) + 32;
        uint8_t *low = &b->ql[half * 64 + quarter % 2 * 32 + j], *high = &b->qh[half * 32 + j];
        *low = (uint8_t)(*low | (code & 15) << quarter / 2 * 4);
        *high = (uint8_t)(*high | (code >> 4) << 2 * quarter);
    }
}

void tn_block_encode_iq4_nl(const float *x, void *block) {
    tn_block_iq4_nl *b = block;
    memset(b, 0, sizeof *b);
    if (!all_finite(x, 32)) {
        b->d = tn_half_of(NAN);
        return;
    }
    b->d = half_within(fit_scale(x, 32, -127, 1, 7, value_near_iq4_nl));
    const double d = (double)tn_half_value(b->d);
    for (int i = 0; i < 32; ++i) {
        int code;
        (void)value_near_iq4_nl(d != 0 ? (double)x[i] / d : 0, &code);
        b->qs[i % 16] = (uint8_t)(b->qs[i % 16] | code << i / 16 * 4);
    }
}

/* Codes of 16 elements with a scale; returns the squared error. */
static double encode_fp4(const float *x, double d, int code[16]) {
    static const int8_t values[16] = TN_FP4_VALUES;
    double error = 0;
    for (int i = 0; i < 16; ++i) {
        double least = INFINITY;
        for (int c = 0; c < 16; ++c) {
            const double e = fabs(d * values[c] - (double)x[i]);
            if (e < least) {
                least = e;
                code[i] = c;
            }
        }
        error += least * least;
    }
    return error;
}

/*
 * Sixteen elements to a scale, of which there are 126: those from half of what takes the largest
 * element to 6 up to half more are tried.
 */
void tn_block_encode_nvfp4(const float *x, void *block) {
    tn_block_nvfp4 *b = block;
    memset(b, 0, sizeof *b);
    for (int r = 0; r < 4; ++r) {
        double largest = 0, best = INFINITY;
        int code[16];
        if (!all_finite(x + 16 * r, 16)) {
            b->d[r] = 0x7f; /* NaN in E4M3 */
            continue;
        }
        for (int i = 0; i < 16; ++i)
            largest = fmax(largest, fabs((double)x[16 * r + i]));
        for (int scale = 0; scale < 0x7f; ++scale) {
            const double d = (double)tn_ue4m3_half((uint8_t)scale);
            const bool tried = (12 * d >= 0.5 * largest && 12 * d <= 1.5 * largest) ||
                               scale == 0x7e || (scale == 1 && 12 * d > 1.5 * largest);
            if (!tried || largest == 0)
                continue;
            const double error = encode_fp4(x + 16 * r, d, code);
            if (error < best) {
                best = error;
                b->d[r] = (uint8_t)scale;
            }
        }
        (void)encode_fp4(x + 16 * r, (double)tn_ue4m3_half(b->d[r]), code);
        for (int i = 0; i < 16; ++i)
            b->qs[8 * r + i % 8] = (uint8_t)(b->qs[8 * r + i % 8] | code[i] << i / 8 * 4);
    }
}
