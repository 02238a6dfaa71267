/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoders that have to give certain bytes: those of the gguf package's quants.py, which are
 * ggml's (quantize_row_*_ref in ggml-quants.c). Each product and each sum is rounded to f32, in
 * their order; -ffp-contract=off keeps it so. What is not finite runs through the same arithmetic:
 * it leaves a scale that is not finite either.
 */
#include "ops/blocks.h"

#include <math.h>

/* A code from 0 to `most`; NaN is 0. */
static int to_code(float value, int most) {
    return value >= (float)most ? most : value > 0 ? (int)value : 0;
}

static float reciprocal(float d) {
    return d == 0 ? 0 : 1 / d;
}

/* The first element of largest magnitude, with its sign; NaN if there is one. */
static float largest_of(const float *x, int n) {
    float largest = x[0];
    for (int i = 1; i < n && !isnan(largest); ++i)
        if (isnan(x[i]) || fabsf(x[i]) > fabsf(largest))
            largest = x[i];
    return largest;
}

/* Least and greatest; both NaN if there is one. */
static void range_of(const float *x, int n, float *least, float *greatest) {
    *least = *greatest = x[0];
    for (int i = 1; i < n && !isnan(*least); ++i) {
        if (isnan(x[i]))
            *least = *greatest = x[i];
        *least = x[i] < *least ? x[i] : *least;
        *greatest = x[i] > *greatest ? x[i] : *greatest;
    }
}

/* 32 codes of 4 bits, or of 5 with their upper bits in qh. */
static void put_nibbles(const int code[32], uint8_t qs[16]) {
    for (int i = 0; i < 16; ++i)
        qs[i] = (uint8_t)((code[i] & 15) | (code[i + 16] & 15) << 4);
}

static void put_fifth_bits(const int code[32], uint8_t qh[4]) {
    memset(qh, 0, 4);
    for (int i = 0; i < 32; ++i)
        qh[i / 8] = (uint8_t)(qh[i / 8] | (code[i] >> 4) << i % 8);
}

void tn_block_encode_q8_0(const float *x, void *block) {
    tn_block_q8_0 *b = block;
    const float d = fabsf(largest_of(x, 32)) / 127, factor = reciprocal(d);
    b->d = tn_half_of(d);
    for (int i = 0; i < 32; ++i) {
        const float scaled = x[i] * factor, size = fabsf(scaled);
        /* To nearest, halves away from zero. */
        const int whole = to_code(size, 127),
                  code = whole + (whole < 127 && size - (float)whole >= 0.5f);
        b->q[i] = (int8_t)(scaled < 0 ? -code : code);
    }
}

/* d = the largest / -half, so that it is code 0; codes around `half`. Returns d. */
static float codes_around(const float *x, int half, int code[32]) {
    const float d = largest_of(x, 32) / (float)-half, factor = reciprocal(d),
                middle = (float)half + 0.5f;
    for (int i = 0; i < 32; ++i)
        code[i] = to_code(x[i] * factor + middle, 2 * half - 1);
    return d;
}

void tn_block_encode_q4_0(const float *x, void *block) {
    tn_block_q4_0 *b = block;
    int code[32];
    b->d = tn_half_of(codes_around(x, 8, code));
    put_nibbles(code, b->qs);
}

void tn_block_encode_q5_0(const float *x, void *block) {
    tn_block_q5_0 *b = block;
    int code[32];
    b->d = tn_half_of(codes_around(x, 16, code));
    put_nibbles(code, b->qs);
    put_fifth_bits(code, b->qh);
}

/* Codes from the least element, 0, to the greatest, `most`. */
static void codes_above(const float *x, int most, int code[32], uint16_t *d, uint16_t *m) {
    float least, greatest;
    range_of(x, 32, &least, &greatest);
    const float step = (greatest - least) / (float)most, factor = reciprocal(step);
    for (int i = 0; i < 32; ++i)
        code[i] = to_code((x[i] - least) * factor + 0.5f, most);
    *d = tn_half_of(step);
    *m = tn_half_of(least);
}

void tn_block_encode_q4_1(const float *x, void *block) {
    tn_block_q4_1 *b = block;
    int code[32];
    codes_above(x, 15, code, &b->d, &b->m);
    put_nibbles(code, b->qs);
}

void tn_block_encode_q5_1(const float *x, void *block) {
    tn_block_q5_1 *b = block;
    int code[32];
    codes_above(x, 31, code, &b->d, &b->m);
    put_nibbles(code, b->qs);
    put_fifth_bits(code, b->qh);
}

/* floor(log2) of the f32 logarithm, which a number right below a power of two may round up to. */
static int exponent_of(float value) {
    return (int)floorf((float)log2((double)value));
}

/*
 * The power of two below the largest, and of the values times it the nearest, the first of equals
 * (OCP Microscaling Formats 1.0, 6.3, but for ties). Blocks with NaN or infinity: E8M0's NaN, and
 * codes that are infinite where it is read as a number.
 */
void tn_block_encode_mxfp4(const float *x, void *block) {
    static const int8_t values[16] = TN_FP4_VALUES;
    tn_block_mxfp4 *b = block;
    const float largest = fabsf(largest_of(x, 32));
    int code[32];
    if (!isfinite(largest)) {
        b->e = 255;
        memset(b->qs, 0x77, sizeof b->qs);
        return;
    }
    const int exponent = largest > 0 ? exponent_of(largest) - 2 + 127 : 0;
    b->e = (uint8_t)(exponent > 0 ? exponent : 0);
    const float d = tn_e8m0_half(b->e);
    for (int i = 0; i < 32; ++i) {
        code[i] = 0;
        for (int c = 1; c < 16; ++c)
            if (fabsf(d * (float)values[c] - x[i]) < fabsf(d * (float)values[code[i]] - x[i]))
                code[i] = c;
    }
    put_nibbles(code, b->qs);
}
