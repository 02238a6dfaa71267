/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_blocks.c: products with B of block types for every kernel of gemm_blocks.cu and gemm_blocks_mma.cu: the CPU's bits. */
#include <string.h>

#include "kernel_operand.h"

typedef struct blocks_case {
    const char *name, *kernel; /* kernel: the one that must be chosen */
    int64_t m, n, k;
    tenon_dtype b;
    tenon_compute compute;
    int64_t pitch; /* of padding between columns of B */
    tenon_gated gated;
    tenon_activation activation;
    int64_t batch, experts;
    bool turn_a, turn_c, bias, residual, a_scale, b_scale;
} blocks_case;

#define EXACT(type) .b = TENON_##type
#define FAST(type) .b = TENON_##type, .compute = TENON_COMPUTE_FAST

static const blocks_case cases[] = {
    {"blocks, a row", "gemm_blocks_exact_1", 1, 45, 1312, EXACT(Q8_0)},
    {"blocks, a few rows, gated", "gemm_blocks_exact_4", 3, 37, 512, EXACT(Q6_K),
     .gated = TENON_GATED_INTERLEAVED},
    {"blocks, eight rows, experts", "gemm_blocks_exact_8", 41, 40, 96, EXACT(MXFP4), .experts = 3},
    {"blocks, tile", "gemm_blocks_f32", 70, 67, 608, EXACT(Q5_0), .pitch = 96, .a_scale = true},
    {"blocks, tile, gated, scaled", "gemm_blocks_f32", 7, 33, 512, EXACT(Q4_K), .b_scale = true,
     .gated = TENON_GATED_HALVES},
    {"bytes, a row", "gemm_blocks_bytes_1", 1, 45, 1312, FAST(IQ4_NL)},
    {"bytes, a few rows, batch", "gemm_blocks_bytes_4", 3, 24, 256, FAST(Q4_K), .batch = 3},
    {"bytes, eight rows, turned", "gemm_blocks_bytes_8", 11, 37, 1216, FAST(NVFP4), .pitch = 64,
     .turn_a = true, .turn_c = true, .bias = true},
    {"bytes, large tile", "gemm_blocks_mma_plain_128", 237, 117, 608, FAST(Q8_0), .pitch = 32},
    {"bytes, large tile, minimum", "gemm_blocks_mma_minimum_128", 107, 219, 512, FAST(Q5_K)},
    {"bytes, large tile, halved, gated", "gemm_blocks_mma_halved_128", 120, 110, 512, FAST(Q6_K),
     .gated = TENON_GATED_HALVES, .activation = TENON_ACTIVATION_SILU},
    {"bytes, middle tile, experts", "gemm_blocks_mma_plain_64", 123, 60, 352, FAST(MXFP4),
     .experts = 3},
    {"bytes, middle tile, minimum", "gemm_blocks_mma_minimum_64", 65, 67, 96, FAST(Q4_1),
     .pitch = 32, .residual = true},
    {"bytes, middle tile, halved, gated", "gemm_blocks_mma_halved_64", 20, 35, 320, FAST(NVFP4),
     .gated = TENON_GATED_INTERLEAVED},
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct blocks_operands {
    operand *a, *b, *c, *bias, *residual, *a_scale, *b_scale, *offsets;
} blocks_operands;

static blocks_operands operands_of(const blocks_case *p) {
    const int64_t width = p->n * (p->gated ? 2 : 1), column = p->k + p->pitch;
    const int64_t many = p->experts ? p->experts : p->batch;
    const int64_t b_shape[3] = {many, p->k, width}, b_stride[3] = {column * width, 1, column};
    const int64_t a_shape[3] = {p->batch, p->m, p->k}, c_shape[3] = {p->batch, p->m, p->n};
    const int64_t a_turned[2] = {1, p->m}, c_turned[2] = {1, p->m};
    const int64_t row_shape[2] = {1, width}, column_shape[2] = {p->m, 1},
                  group_shape[2] = {2, width};
    const int32_t e = (int32_t)p->m / 41, offsets[4] = {0, 17 * e, 17 * e, 38 * e};
    const int skip = p->batch ? 0 : 1, rank = 3 - skip; /* of A and C */
    blocks_operands o = {0};
    o.a = input(TENON_F32, rank, a_shape + skip, p->turn_a ? a_turned : NULL);
    o.b = blocks(p->b, many ? 3 : 2, b_shape + !many, b_stride + !many);
    o.c = output(TENON_F32, rank, c_shape + skip, p->turn_c ? c_turned : NULL);
    if (p->bias)
        o.bias = input(TENON_F32, 2, row_shape, NULL);
    if (p->residual)
        o.residual = input(TENON_F32, 2, c_shape + 1, NULL);
    if (p->a_scale)
        o.a_scale = input(TENON_F32, 2, column_shape, NULL);
    if (p->b_scale)
        o.b_scale = input(TENON_F32, 2, group_shape, NULL);
    if (p->experts)
        o.offsets = indices(TENON_S32, 1, (const int64_t[1]){4}, offsets);
    return o;
}

static tenon_gemm_desc desc_of(const blocks_case *p, const blocks_operands *o, bool host) {
#define OF(role) (host ? HOST(o->role) : DEVICE(o->role))
    return (tenon_gemm_desc){.a = OF(a),
                             .b = OF(b),
                             .c = OF(c),
                             .bias = OF(bias),
                             .residual = OF(residual),
                             .activation = p->activation,
                             .gated = p->gated,
                             .a_scale = OF(a_scale),
                             .b_scale = OF(b_scale),
                             .group_offsets = OF(offsets),
                             .compute = p->compute};
#undef OF
}

int kernel_blocks(void) {
    return CASES;
}
const char *kernel_blocks_name(int index) {
    return cases[index].name;
}

void kernel_blocks_run(int index) {
    const blocks_case *p = &cases[index];
    const blocks_operands o = operands_of(p);
    const tenon_gemm_desc d = desc_of(p, &o, false);
    tenon_plan_info info = {0};
    tenon_plan *plan = NULL;
    must(p->name, "plan", kernel_now.cuda, tenon_gemm_plan(kernel_now.cuda, &d, &plan));
    if (plan)
        (void)tenon_plan_query(plan, &info);
    if (info.kernel && strcmp(info.kernel, p->kernel) != 0)
        tell(p->name, info.kernel);
    if (!kernel_now.wrong[0]) {
        must(p->name, "run", kernel_now.cuda, tenon_gemm_run(kernel_now.cuda, plan, &d));
        must(p->name, "sync", kernel_now.cuda, tenon_sync(kernel_now.cuda));
        exact_by_cpu(p->name, o.c, desc_of(p, &o, true));
    }
    if (!kernel_now.wrong[0])
        compare(p->name, o.c, nothing, NULL);
    tenon_plan_destroy(plan);
}
