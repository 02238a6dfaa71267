/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A linear layer, y = gelu(x · wᵀ + bias), in one call: w lies (outputs, inputs) as trained models store it, so it is passed as a
 * transposed view. Then the same again from a plan that was made once.
 */
#include <tenon/tenon.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 48, INPUTS = 96, OUTPUTS = 64 };

static float x[ROWS * INPUTS], w[OUTPUTS * INPUTS], bias[OUTPUTS], y[ROWS * OUTPUTS];

static void need(tenon_status status, const tenon_context *ctx) {
    if (status == TENON_OK)
        return;
    fprintf(stderr, "%s: %s\n", tenon_status_name(status), tenon_error_message(ctx));
    exit(1);
}

/* The same layer as plain loops; returns the largest difference. */
static double difference(void) {
    double worst = 0;
    for (int i = 0; i < ROWS; ++i) {
        for (int j = 0; j < OUTPUTS; ++j) {
            double z = bias[j];
            for (int p = 0; p < INPUTS; ++p)
                z += (double)x[i * INPUTS + p] * w[j * INPUTS + p];
            const double gelu = z / 2 * (1 + erf(z / sqrt(2)));
            worst = fmax(worst, fabs(gelu - y[i * OUTPUTS + j]));
        }
    }
    return worst;
}

int main(void) {
    for (int i = 0; i < ROWS * INPUTS; ++i)
        x[i] = (float)sin(i * 0.7);
    for (int i = 0; i < OUTPUTS * INPUTS; ++i)
        w[i] = (float)cos(i * 1.3) / 8;
    for (int i = 0; i < OUTPUTS; ++i)
        bias[i] = (float)i / OUTPUTS;

    tenon_context *ctx;
    need(tenon_context_create(NULL, &ctx), NULL);

    const tenon_gemm_desc layer = {
        .a = tenon_matrix(x, TENON_F32, ROWS, INPUTS),
        .b = tenon_transposed(tenon_matrix(w, TENON_F32, OUTPUTS, INPUTS)),
        .c = tenon_matrix(y, TENON_F32, ROWS, OUTPUTS),
        .bias = tenon_vector(bias, TENON_F32, OUTPUTS),
        .activation = TENON_ACTIVATION_GELU,
    };
    need(tenon_gemm(ctx, &layer), ctx);
    const double one_shot = difference();

    tenon_plan *plan;
    tenon_plan_info info = {.struct_size = sizeof info};
    need(tenon_gemm_plan(ctx, &layer, &plan), ctx);
    need(tenon_plan_query(plan, &info), ctx);
    for (int i = 0; i < ROWS * OUTPUTS; ++i)
        y[i] = 0;
    need(tenon_gemm_run(ctx, plan, &layer), ctx);
    const double planned = difference();

    printf("%s: %s, kernel %s, %zu bytes of workspace\n", info.device, info.algorithm, info.kernel,
           info.workspace);
    printf("largest difference from plain loops: %.2g one-shot, %.2g planned\n", one_shot, planned);
    tenon_plan_destroy(plan);
    tenon_context_destroy(ctx);
    return one_shot < 1e-5 && planned < 1e-5 ? 0 : 1;
}
