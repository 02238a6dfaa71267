/* SPDX-License-Identifier: Apache-2.0 */
/* rows.c: see rows.h. Plain loops that compilers vectorise: together they are some hundredths of a step's time. */
#include "rows.h"

#include <math.h>
#include <string.h>

void rows_rms_norm(float *y, const float *x, const float *weight, int64_t rows, int64_t width,
                   double epsilon) {
    for (int64_t i = 0; i < rows; ++i, x += width, y += width) {
        float part[16] = {0};
        double sum = 0;
        int64_t j = 0;
        for (; j + 16 <= width; j += 16)
            for (int l = 0; l < 16; ++l)
                part[l] += x[j + l] * x[j + l];
        for (int l = 0; l < 16; ++l)
            sum += part[l];
        for (; j < width; ++j)
            sum += (double)x[j] * x[j];
        const float scale = (float)(1 / sqrt(sum / (double)width + epsilon));
        for (j = 0; j < width; ++j)
            y[j] = x[j] * scale * weight[j];
    }
}

void rows_rotation(float *pairs, int64_t position, int64_t width, double base,
                   const float *factor) {
    for (int64_t p = 0; p < width / 2; ++p) {
        const double angle = (double)position * pow(base, -2.0 * (double)p / (double)width) /
                             (factor ? factor[p] : 1);
        pairs[2 * p] = (float)cos(angle);
        pairs[2 * p + 1] = (float)sin(angle);
    }
}

void rows_rotate(float *row, int64_t heads, int64_t head, const float *pairs, int64_t width) {
    for (int64_t h = 0; h < heads; ++h, row += head)
        for (int64_t p = 0; p < width; p += 2) {
            const float x = row[p], y = row[p + 1], c = pairs[p], s = pairs[p + 1];
            row[p] = x * c - y * s;
            row[p + 1] = x * s + y * c;
        }
}

static float from_f16(uint16_t bits) {
    const uint32_t magnitude = (uint32_t)(bits & 0x7fff) << 13;
    uint32_t word;
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *=
        0x1p112f; /* the difference of the exponents' biases; subnormal halves come out right too */
    memcpy(&word, &value, sizeof word);
    if ((bits & 0x7c00) == 0x7c00)
        word |= 0x7f800000; /* infinity and NaN */
    word |= (uint32_t)(bits & 0x8000) << 16;
    memcpy(&value, &word, sizeof value);
    return value;
}

static float from_bf16(uint16_t bits) {
    const uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

void rows_widen(float *y, const void *x, tenon_dtype dtype, int64_t count) {
    const uint16_t *halves = x;
    if (dtype == TENON_F32)
        memcpy(y, x, sizeof *y * (size_t)count);
    else
        for (int64_t i = 0; i < count; ++i)
            y[i] = dtype == TENON_F16 ? from_f16(halves[i]) : from_bf16(halves[i]);
}

void rows_multiply(float *x, const float *y, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
        x[i] *= y[i];
}
