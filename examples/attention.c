/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Causal attention straight from the output of a fused QKV projection: one buffer of (batch, length, 3, heads, d), read through
 * strides, never copied. Then the keys are cut in two, each half attended to apart, and the parts merged: the same result.
 */
#include <tenon/tenon.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 2, LENGTH = 40, HEADS = 4, D = 32, HALF = 24, MODEL = HEADS * D };

static float qkv[BATCH][LENGTH][3][HEADS][D];
static float o[BATCH][LENGTH][HEADS][D]; /* the layout that the next projection wants */
static float part[2][BATCH][LENGTH][HEADS][D], lse[2][BATCH][HEADS][LENGTH],
    merged[BATCH][LENGTH][HEADS][D];

static void need(tenon_status status, const tenon_context *ctx) {
    if (status == TENON_OK)
        return;
    fprintf(stderr, "%s: %s\n", tenon_status_name(status), tenon_error_message(ctx));
    exit(1);
}

/* Rows `first` to `first + rows` of q (which = 0), k (1) or v (2) as (batch, heads, rows, d). */
static tenon_tensor view(int which, int64_t first, int64_t rows) {
    tenon_tensor t = tenon_tensor4(&qkv[0][first][which][0][0], TENON_F32, BATCH, rows, HEADS, D);
    t.stride[0] = (int64_t)LENGTH * 3 * MODEL;
    t.stride[1] = 3 * MODEL;
    return tenon_swapped(t, 1, 2);
}

/* A dense (batch, length, heads, d) array as (batch, heads, length, d). */
static tenon_tensor output(float *data) {
    return tenon_swapped(tenon_tensor4(data, TENON_F32, BATCH, LENGTH, HEADS, D), 1, 2);
}

/* One row as plain loops: the largest difference from what tenon wrote. */
static double difference(int b, int i, int h, const float *got) {
    double s[LENGTH], sum = 0, worst = 0;
    for (int j = 0; j <= i; ++j) {
        s[j] = 0;
        for (int p = 0; p < D; ++p)
            s[j] += (double)qkv[b][i][0][h][p] * qkv[b][j][1][h][p];
        sum += s[j] = exp(s[j] / sqrt(D));
    }
    for (int p = 0; p < D; ++p) {
        double expected = 0;
        for (int j = 0; j <= i; ++j)
            expected += s[j] / sum * qkv[b][j][2][h][p];
        worst = fmax(worst, fabs(expected - got[p]));
    }
    return worst;
}

int main(void) {
    float *const projected = (float *)qkv;
    for (int i = 0; i < BATCH * LENGTH * 3 * MODEL; ++i)
        projected[i] = (float)sin(i * 0.37 + i % 11);

    tenon_context *ctx;
    need(tenon_context_create(NULL, &ctx), NULL);

    const tenon_attention_desc whole = {
        .q = view(0, 0, LENGTH),
        .k = view(1, 0, LENGTH),
        .v = view(2, 0, LENGTH),
        .o = output(&o[0][0][0][0]),
        .causal = TENON_CAUSAL_TOP_LEFT,
    };
    need(tenon_attention(ctx, &whole), ctx);

    /* Keys 0 … 23, then 24 … 39. A query's position among a part's keys is what aligns the causal mask. */
    const int32_t positions[2][BATCH] = {{0, 0}, {-HALF, -HALF}};
    tenon_tensor parts[2], lses[2];
    for (int n = 0; n < 2; ++n) {
        const int64_t first = n ? HALF : 0, rows = n ? LENGTH - HALF : HALF;
        parts[n] = output(&part[n][0][0][0][0]);
        lses[n] = tenon_tensor3(lse[n], TENON_F32, BATCH, HEADS, LENGTH);
        const tenon_attention_desc half = {
            .q = view(0, 0, LENGTH),
            .k = view(1, first, rows),
            .v = view(2, first, rows),
            .o = parts[n],
            .causal = TENON_CAUSAL_TOP_LEFT,
            .query_offsets = tenon_vector(positions[n], TENON_S32, BATCH),
            .lse = lses[n],
        };
        need(tenon_attention(ctx, &half), ctx);
    }
    const tenon_attention_merge_desc merge = {
        .o_parts = parts, .lse_parts = lses, .count = 2, .o = output(&merged[0][0][0][0])};
    need(tenon_attention_merge(ctx, &merge), ctx);

    double worst = 0, worst_merged = 0;
    for (int b = 0; b < BATCH; ++b) {
        for (int i = 0; i < LENGTH; ++i) {
            for (int h = 0; h < HEADS; ++h) {
                worst = fmax(worst, difference(b, i, h, o[b][i][h]));
                worst_merged = fmax(worst_merged, difference(b, i, h, merged[b][i][h]));
            }
        }
    }
    printf("%s: %d × %d heads, %d positions, head dimension %d\n", tenon_context_device(ctx, 0),
           BATCH, HEADS, LENGTH, D);
    printf("largest difference from plain loops: %.2g whole, %.2g merged from two halves\n", worst,
           worst_merged);
    tenon_context_destroy(ctx);
    return worst < 1e-5 && worst_merged < 1e-5 ? 0 : 1;
}
