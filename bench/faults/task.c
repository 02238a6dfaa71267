/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.c: operands and expected results (task.h), by the plainest loops.
 *
 * The product's operands are small whole numbers, so that every sum is exact in f32 in any order
 * (|sum| ≤ 16 · size < 2^24) and the check is for equality. Softmax and attention are held to 1e-5
 * absolute, far above f32's rounding here (results are at most 1 in size) and far below any
 * mistake.
 */
#include "task.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

static float *make(int count, uint32_t seed, float scale) {
    float *x = malloc((size_t)count * sizeof *x);
    for (int i = 0; x && i < count; ++i) {
        seed = seed * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        x[i] = scale * (float)((int)(seed >> 16) % 9 - 4);
    }
    return x;
}

static void product(task *t) {
    const int n = t->size;
    for (int i = 0; i < n; ++i) {
        float *c = t->expected + i * n;
        for (int j = 0; j < n; ++j)
            c[j] = 0;
        for (int p = 0; p < n; ++p)
            for (int j = 0; j < n; ++j)
                c[j] += t->a[i * n + p] * t->b[p * n + j];
    }
}

/* y = softmax(x) of one row. */
static void softmax_row(const double *x, double *y, int n) {
    double max = x[0], sum = 0;
    for (int j = 1; j < n; ++j)
        max = x[j] > max ? x[j] : max;
    for (int j = 0; j < n; ++j)
        sum += y[j] = exp(x[j] - max);
    for (int j = 0; j < n; ++j)
        y[j] /= sum;
}

static void softmax(task *t) {
    double x[SOFTMAX_COLUMNS], y[SOFTMAX_COLUMNS];
    for (int i = 0; i < SOFTMAX_ROWS; ++i) {
        for (int j = 0; j < SOFTMAX_COLUMNS; ++j)
            x[j] = t->a[i * SOFTMAX_COLUMNS + j];
        softmax_row(x, y, SOFTMAX_COLUMNS);
        for (int j = 0; j < SOFTMAX_COLUMNS; ++j)
            t->expected[i * SOFTMAX_COLUMNS + j] = (float)y[j];
    }
}

static void attention(task *t) {
    double s[KEYS], p[KEYS];
    for (int row = 0; row < HEADS * QUERIES; ++row) {
        const int head = row / QUERIES;
        const float *q = t->a + row * HEAD_DIM;
        const float *k = t->b + head * KEYS * HEAD_DIM, *v = t->v + head * KEYS * HEAD_DIM;
        for (int j = 0; j < KEYS; ++j) {
            s[j] = 0;
            for (int d = 0; d < HEAD_DIM; ++d)
                s[j] += (double)q[d] * (double)k[j * HEAD_DIM + d];
            s[j] /= sqrt(HEAD_DIM);
        }
        softmax_row(s, p, KEYS);
        for (int d = 0; d < HEAD_DIM; ++d) {
            double sum = 0;
            for (int j = 0; j < KEYS; ++j)
                sum += p[j] * (double)v[j * HEAD_DIM + d];
            t->expected[row * HEAD_DIM + d] = (float)sum;
        }
    }
}

bool task_make(task *t, task_kind kind, int size) {
    *t = (task){.kind = kind, .size = size, .tolerance = 1e-5f};
    int inputs = 0;
    switch (kind) {
    case TASK_PRODUCT:
        t->count = inputs = size * size;
        t->a = make(inputs, 1, 1);
        t->b = make(inputs, 2, 1);
        t->tolerance = 0;
        break;
    case TASK_SOFTMAX:
        t->count = inputs = SOFTMAX_ROWS * SOFTMAX_COLUMNS;
        t->a = make(inputs, 1, 1);
        break;
    case TASK_ATTENTION:
        t->count = HEADS * QUERIES * HEAD_DIM;
        inputs = HEADS * KEYS * HEAD_DIM;
        t->a = make(t->count, 1, 0.25f);
        t->b = make(inputs, 2, 0.25f);
        t->v = make(inputs, 3, 0.25f);
        break;
    }
    t->out = malloc((size_t)t->count * sizeof *t->out);
    t->expected = malloc((size_t)t->count * sizeof *t->expected);
    if (!t->a || (!t->b && kind != TASK_SOFTMAX) || (!t->v && kind == TASK_ATTENTION) || !t->out ||
        !t->expected)
        return false;
    if (kind == TASK_PRODUCT)
        product(t);
    else if (kind == TASK_SOFTMAX)
        softmax(t);
    else
        attention(t);
    return true;
}

void task_wipe(task *t) {
    for (int i = 0; i < t->count; ++i)
        t->out[i] = NAN;
}

int task_wrong(const task *t) {
    int wrong = 0;
    for (int i = 0; i < t->count; ++i)
        wrong += !(fabsf(t->out[i] - t->expected[i]) <= t->tolerance); /* NaN is wrong */
    return wrong;
}
