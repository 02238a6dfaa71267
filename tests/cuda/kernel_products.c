/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_products.c: matrix products for every kernel of gemm_plain.cu and gemm_mma.cu, each with
 * edges that no tile fits and k that no stage does. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bounds.h"
#include "kernel_operand.h"
#include "number.h"

/* rows x columns, `pitch` elements from row to row; turned: from column to column. */
static operand *matrix(tenon_dtype type, int64_t rows, int64_t columns, int64_t pitch, bool turned,
                       bool is_output) {
    const int64_t shape[2] = {rows, columns}, across = (turned ? rows : columns) + pitch,
                  stride[2] = {turned ? 1 : across, turned ? across : 1};
    return is_output ? in_out(type, 2, shape, stride) : input(type, 2, shape, stride);
}

typedef struct product_case {
    const char *name, *kernel; /* kernel: the one that must be chosen; NULL: any */
    int64_t m, n, k;
    tenon_dtype a, b, c;
    int64_t pitch; /* of padding */
    bool turn_a, turn_b, turn_c, split, fast;
    int infinite;   /* 1: A, 2: B has infinities among its first steps */
    int64_t wander; /* from seed to seed the edges move: rows and columns by this, k by 16 */
    int sweep;      /* > 0: that often, with columns moved on by `wander` each time */
    tenon_gated gated;
    tenon_activation activation;
    double beta;
    int64_t batch, experts, groups; /* groups: of b_scale and b_zero, … */
    int64_t zero_groups;            /* … or of b_zero alone */
    bool bias, residual, a_scale, b_scale, a_zero, b_zero, c_scale;
} product_case;

#define F32X3 .a = TENON_F32, .b = TENON_F32, .c = TENON_F32
#define BF16X2 .a = TENON_BF16, .b = TENON_BF16, .c = TENON_F32
#define U8S8 .a = TENON_U8, .b = TENON_S8, .c = TENON_S32
#define F16X2 .a = TENON_F16, .b = TENON_F16, .c = TENON_F32

static const product_case products[] = {
    {.name = "f32", .kernel = "gemm_plain_f32", .m = 70, .n = 67, .k = 37, .pitch = 3, F32X3},
    {.name = "f32 turned",
     .kernel = "gemm_plain_f32",
     .m = 19,
     .n = 66,
     .k = 275,
     .turn_a = true,
     .turn_b = true,
     .turn_c = true,
     .pitch = 1,
     .bias = true,
     .beta = 0.5,
     F32X3},
    {.name = "f32 gated",
     .kernel = "gemm_plain_f32",
     .m = 9,
     .n = 37,
     .k = 20,
     .gated = TENON_GATED_HALVES,
     .activation = TENON_ACTIVATION_SILU,
     .residual = true,
     F32X3},
    {.name = "experts",
     .kernel = "gemm_plain_f32",
     .m = 41,
     .n = 9,
     .k = 18,
     .experts = 3,
     .b_scale = true,
     F32X3},
    {.name = "weights in groups",
     .kernel = "gemm_plain_f32",
     .m = 7,
     .n = 21,
     .k = 40,
     .groups = 4,
     .a = TENON_F32,
     .b = TENON_U8,
     .c = TENON_BF16,
     .b_scale = true,
     .b_zero = true,
     .batch = 2},
    {.name = "f64",
     .kernel = "gemm_plain_f64",
     .m = 33,
     .n = 34,
     .k = 270,
     .a = TENON_F64,
     .b = TENON_F64,
     .c = TENON_F64,
     .turn_b = true},
    {.name = "bytes",
     .beta = 2,
     .kernel = "gemm_plain_exact",
     .m = 35,
     .n = 40,
     .k = 50,
     .pitch = 1,
     .a = TENON_U8,
     .b = TENON_S8,
     .c = TENON_S32,
     .a_zero = true,
     .zero_groups = 5,
     .b_zero = true},
    {.name = "bytes gated",
     .kernel = "gemm_plain_exact",
     .m = 20,
     .n = 21,
     .k = 20,
     .a = TENON_S8,
     .b = TENON_U8,
     .c = TENON_S32,
     .turn_a = true,
     .turn_b = true,
     .zero_groups = 2,
     .b_zero = true,
     .gated = TENON_GATED_INTERLEAVED},
    {.name = "bytes scaled",
     .gated = TENON_GATED_HALVES,
     .turn_b = true,
     .turn_a = true,
     .kernel = "gemm_plain_scaled",
     .m = 20,
     .n = 35,
     .k = 45,
     .a = TENON_S8,
     .b = TENON_S8,
     .c = TENON_F32,
     .a_scale = true,
     .b_scale = true,
     .zero_groups = 3,
     .b_zero = true,
     .activation = TENON_ACTIVATION_GELU_TANH},
    {.name = "large tile",
     .wander = 32,
     .infinite = 2,
     .kernel = "gemm_bf16_128x128",
     .m = 261,
     .n = 133,
     .k = 325,
     .pitch = 3,
     BF16X2},
    {.name = "large tile turned",
     .wander = 32,
     .infinite = 1,
     .kernel = "gemm_bf16_128x128",
     .m = 133,
     .n = 261,
     .k = 325,
     .pitch = 3,
     .turn_a = true,
     BF16X2},
    {.name = "middle tile",
     .wander = 16,
     .kernel = "gemm_f16_64x64",
     .m = 69,
     .n = 53,
     .k = 325,
     .pitch = 3,
     .turn_b = true,
     .bias = true,
     F16X2},
    {.name = "middle tile, long sums",
     .infinite = 2,
     .kernel = "gemm_f16_64x64",
     .m = 37,
     .n = 117,
     .k = 2085,
     .turn_a = true,
     .a_scale = true,
     .pitch = 3,
     F16X2},
    {.name = "middle tile, gated",
     .kernel = "gemm_f16_64x64",
     .m = 65,
     .n = 30,
     .k = 72,
     .gated = TENON_GATED_HALVES,
     F16X2},
    {.name = "middle tile, experts",
     .kernel = "gemm_f16_64x64",
     .m = 50,
     .n = 56,
     .k = 80,
     .experts = 3,
     .pitch = 8,
     F16X2},
    {.name = "middle tile, one by one",
     .kernel = "gemm_f16_64x64",
     .m = 60,
     .n = 67,
     .k = 77,
     .a = TENON_F16,
     .b = TENON_S8,
     .c = TENON_F32,
     .pitch = 1,
     .turn_b = true},
    {.name = "flat tile",
     .wander = 16,
     .infinite = 2,
     .kernel = "gemm_bf16_16x128",
     .m = 5,
     .n = 133,
     .k = 397,
     .pitch = 3,
     BF16X2},
    {.name = "flat tile turned",
     .wander = 16,
     .infinite = 1,
     .kernel = "gemm_bf16_16x128",
     .m = 13,
     .n = 92,
     .k = 325,
     .turn_b = true,
     .turn_a = true,
     .pitch = 3,
     .gated = TENON_GATED_INTERLEAVED,
     BF16X2},
    {.name = "flat tile, edges",
     .kernel = "gemm_bf16_16x128",
     .m = 3,
     .n = 5,
     .k = 37,
     .pitch = 3,
     .wander = 16,
     .sweep = 8,
     BF16X2},
    {.name = "flat tile, edges turned",
     .kernel = "gemm_bf16_16x128",
     .m = 5,
     .n = 5,
     .k = 37,
     .pitch = 3,
     .turn_a = true,
     .turn_b = true,
     .wander = 16,
     .sweep = 8,
     BF16X2},
    {.name = "middle tile, edges",
     .kernel = "gemm_f16_64x64",
     .m = 37,
     .n = 37,
     .k = 37,
     .pitch = 3,
     .wander = 16,
     .sweep = 4,
     F16X2},
    {.name = "flat tile, shared out",
     .gated = TENON_GATED_INTERLEAVED,
     .kernel = "gemm_bf16_16x128",
     .m = 13,
     .n = 72,
     .k = 3100,
     .split = true,
     BF16X2},
    {.name = "tall tile",
     .wander = 4,
     .infinite = 1,
     .kernel = "gemm_f16_128x16",
     .m = 133,
     .n = 5,
     .k = 397,
     .pitch = 3,
     F16X2},
    {.name = "tall tile turned",
     .infinite = 2,
     .kernel = "gemm_f16_128x16",
     .m = 141,
     .n = 8,
     .k = 325,
     .turn_a = true,
     .pitch = 3,
     F16X2},
    {.name = "one row",
     .kernel = "gemm_rows_32_1",
     .m = 1,
     .n = 93,
     .k = 2217,
     .turn_b = true,
     .pitch = 7,
     .bias = true,
     F32X3},
    {.name = "few rows, gated",
     .wander = 16,
     .kernel = "gemm_rows_32_8",
     .m = 5,
     .n = 68,
     .k = 300,
     .gated = TENON_GATED_HALVES,
     .pitch = 4,
     F32X3},
    {.name = "few rows, one by one",
     .kernel = "gemm_rows_32_8",
     .m = 8,
     .n = 37,
     .k = 269,
     .turn_b = true,
     .pitch = 2,
     .turn_a = true,
     .beta = 0.5,
     F32X3},
    {.name = "one column",
     .kernel = "gemm_rows_32_1",
     .m = 77,
     .n = 1,
     .k = 293,
     .pitch = 3,
     F32X3},
    {.name = "few columns",
     .kernel = "gemm_rows_32_8",
     .m = 77,
     .n = 7,
     .k = 77,
     .turn_a = true,
     .turn_b = true,
     .pitch = 3,
     F32X3},
    {.name = "one row, weights of 16 bits",
     .wander = 16,
     .kernel = "gemm_rows_16_1",
     .m = 1,
     .n = 75,
     .k = 300,
     .pitch = 5,
     .a = TENON_F32,
     .b = TENON_BF16,
     .c = TENON_F32},
    {.name = "few rows, weights of 16 bits",
     .wander = 16,
     .kernel = "gemm_rows_16_8",
     .m = 3,
     .n = 75,
     .k = 300,
     .turn_b = true,
     .pitch = 4,
     .gated = TENON_GATED_INTERLEAVED,
     .a = TENON_F32,
     .b = TENON_F16,
     .c = TENON_F32},
    {.name = "one row, weights of bytes",
     .wander = 16,
     .kernel = "gemm_rows_8_1",
     .m = 1,
     .n = 141,
     .k = 300,
     .turn_b = true,
     .pitch = 4,
     .a = TENON_F32,
     .b = TENON_S8,
     .c = TENON_F32},
    {.name = "few rows, weights of bytes",
     .wander = 16,
     .kernel = "gemm_rows_8_8",
     .m = 8,
     .n = 141,
     .k = 300,
     .pitch = 7,
     .a = TENON_F32,
     .b = TENON_U8,
     .c = TENON_F32},
    {.name = "few rows, experts",
     .kernel = "gemm_rows_32_8",
     .m = 8,
     .n = 36,
     .k = 40,
     .experts = 3,
     F32X3},
    {.name = "one row, batch",
     .kernel = "gemm_rows_32_1",
     .m = 1,
     .n = 36,
     .k = 40,
     .batch = 3,
     F32X3},
    {.name = "large tile of bytes",
     .wander = 32,
     .kernel = "gemm_s8_128x128",
     .m = 261,
     .n = 133,
     .k = 333,
     .pitch = 3,
     .turn_b = true,
     .a_zero = true,
     .b_zero = true,
     U8S8},
    {.name = "large tile of bytes, turned",
     .wander = 32,
     .kernel = "gemm_s8_128x128",
     .m = 133,
     .n = 261,
     .k = 325,
     .pitch = 11,
     .turn_a = true,
     .a = TENON_S8,
     .b = TENON_S8,
     .c = TENON_S32},
    {.name = "middle tile of bytes",
     .wander = 16,
     .kernel = "gemm_s8_64x64",
     .m = 69,
     .n = 53,
     .k = 333,
     .pitch = 11,
     .a_zero = true,
     .a = TENON_S8,
     .b = TENON_U8,
     .c = TENON_S32},
    {.name = "middle tile of bytes, turned",
     .kernel = "gemm_s8_64x64",
     .m = 53,
     .n = 45,
     .k = 325,
     .pitch = 11,
     .turn_a = true,
     .b_zero = true,
     .a_scale = true,
     .b_scale = true,
     .gated = TENON_GATED_INTERLEAVED,
     .a = TENON_U8,
     .b = TENON_U8,
     .c = TENON_F32},
    {.name = "middle tile of bytes, gated halves, one by one",
     .kernel = "gemm_s8_64x64",
     .m = 41,
     .n = 30,
     .k = 77,
     .pitch = 1,
     .a_zero = true,
     .gated = TENON_GATED_HALVES,
     U8S8},
    {.name = "flat tile of bytes",
     .wander = 16,
     .kernel = "gemm_s8_16x128",
     .m = 5,
     .n = 133,
     .k = 397,
     .pitch = 3,
     .turn_b = true,
     .b_zero = true,
     .a = TENON_S8,
     .b = TENON_S8,
     .c = TENON_S32},
    {.name = "flat tile of bytes, turned",
     .wander = 16,
     .kernel = "gemm_s8_16x128",
     .m = 13,
     .n = 101,
     .k = 325,
     .pitch = 3,
     .turn_a = true,
     .a_zero = true,
     U8S8},
    {.name = "flat tile of bytes, shared out",
     .kernel = "gemm_s8_16x128",
     .m = 13,
     .n = 101,
     .k = 3100,
     .split = true,
     .a_zero = true,
     .b_zero = true,
     .gated = TENON_GATED_INTERLEAVED,
     U8S8},
    {.name = "tall tile of bytes, sums of more than 32 bits",
     .kernel = "gemm_s8_128x16",
     .m = 130,
     .n = 3,
     .k = 22000,
     .turn_b = true,
     .split = true,
     .a_zero = true,
     .b_zero = true,
     U8S8},
    {.name = "middle tile of tf32",
     .wander = 16,
     .infinite = 1,
     .kernel = "gemm_tf32_64x64",
     .m = 69,
     .n = 53,
     .k = 165,
     .pitch = 3,
     .fast = true,
     F32X3},
    {.name = "flat tile of tf32, turned",
     .wander = 16,
     .infinite = 2,
     .kernel = "gemm_tf32_16x128",
     .m = 13,
     .n = 92,
     .k = 165,
     .turn_a = true,
     .turn_b = true,
     .pitch = 3,
     .fast = true,
     F32X3},
    {.name = "large tile of tf32",
     .kernel = "gemm_tf32_128x128",
     .m = 133,
     .n = 261,
     .k = 85,
     .pitch = 3,
     .turn_a = true,
     .fast = true,
     F32X3},
    {.name = "flat tile, batch",
     .kernel = "gemm_bf16_16x128",
     .m = 3,
     .n = 24,
     .k = 64,
     .batch = 3,
     BF16X2},
};
enum { PRODUCTS = sizeof products / sizeof *products };

typedef struct product_operands {
    operand *a, *b, *c, *bias, *residual, *a_scale, *b_scale, *a_zero, *b_zero, *offsets;
} product_operands;

static tenon_gemm_desc product_desc(const product_case *p, const product_operands *o, bool host) {
#define OF(role) (host ? HOST(o->role) : DEVICE(o->role))
    return (tenon_gemm_desc){.a = OF(a),
                             .b = OF(b),
                             .c = OF(c),
                             .beta = p->beta,
                             .bias = OF(bias),
                             .residual = OF(residual),
                             .activation = p->activation,
                             .gated = p->gated,
                             .a_scale = OF(a_scale),
                             .b_scale = OF(b_scale),
                             .a_zero = OF(a_zero),
                             .b_zero = OF(b_zero),
                             .group_offsets = OF(offsets),
                             .compute = p->fast ? TENON_COMPUTE_FAST : TENON_COMPUTE_DEFAULT};
#undef OF
}

/* Infinities at the first steps of every second row of A (column of B): what a copy brings that
 * should have brought nothing, as the other operand's zeros would hide anything else. */
static void put_infinities(operand *o, bool of_a) {
    const tenon_tensor *t = &o->host;
    const int64_t lines = t->shape[of_a ? 0 : 1];
    for (int64_t step = 0; step < 64 && 2 * step < lines; step++) {
        const int64_t at = of_a ? 2 * step * t->stride[0] + step * t->stride[1]
                                : step * t->stride[0] + 2 * step * t->stride[1];
        number_put(o->own + (size_t)at * number_size(t->dtype), t->dtype, (double)INFINITY);
    }
    upload(o);
}

/* ---- how far a result may be from the exact one */

/* |X'| of A or B: |scale| (|X| + |zero|), dense in f64. */
static tenon_tensor magnitude(const operand *x, const operand *scale, const operand *zero,
                              bool of_a) {
    const tenon_tensor *t = &x->host;
    const int64_t rows = t->shape[t->rank - 2], columns = t->shape[t->rank - 1];
    double *to = malloc((size_t)elements_of(t) * sizeof *to);
    for (int64_t e = 0; to && e < elements_of(t); e++) {
        const int64_t i = e / columns % rows, j = e % columns, member = e / columns / rows;
        double part[2] = {1, 0};
        for (int which = 0; which < 2; which++) {
            const operand *o = which ? zero : scale;
            if (!o)
                continue;
            const tenon_tensor *s = &o->host;
            const int64_t groups = s->shape[s->rank - (of_a ? 1 : 2)];
            const int64_t at = of_a ? i * groups + j * groups / columns
                                    : (member * groups + i * groups / rows) * columns + j;
            part[which] = fabs(
                number_get(o->own + (size_t)place_of(s, at) * number_size(s->dtype), s->dtype));
        }
        to[e] = part[0] *
                (part[1] + fabs(number_get(x->own + (size_t)place_of(t, e) * number_size(t->dtype),
                                           t->dtype)));
    }
    return tenon_dense(to, TENON_F64, t->rank, t->shape);
}

typedef struct product_bound {
    const product_case *p;
    double *products; /* sum |A'||B'|, (…, m, width) */
} product_bound;

static double product_error(int64_t index, double exact, const void *with) {
    const product_bound *b = with;
    const product_case *p = b->p;
    const int64_t j = index % p->n, row = index / p->n;
    const bool whole = p->a >= TENON_S8 && p->b >= TENON_S8 && p->b <= TENON_U8;
    (void)exact;
    bound_gemm_element e = {.k = p->k,
                            .accumulate = p->a == TENON_F64                     ? TENON_F64
                                          : whole && !p->a_scale && !p->b_scale ? TENON_S32
                                                                                : TENON_F32,
                            .way = p->fast                        ? BOUND_TF32
                                   : strstr(p->kernel, "_plain_") ? BOUND_CHAINS
                                                                  : BOUND_TENSOR_CHAIN,
                            .activation = p->activation,
                            .gated = p->gated != TENON_GATED_NONE,
                            .residual = p->residual ? 1 : 0,
                            .c_scale = 1};
    for (int half = 0; half < (p->gated ? 2 : 1); half++) {
        const int64_t column = p->gated == TENON_GATED_INTERLEAVED ? 2 * j + half : half * p->n + j;
        e.products[half] = b->products[row * p->n * (p->gated ? 2 : 1) + column];
        e.addends[half] = fabs(p->beta) + (p->bias ? 1 : 0);
    }
    return bound_gemm(&e);
}

static void compare_product(const product_case *p, const product_operands *o) {
    tenon_tensor c = o->c->host;
    c.shape[c.rank - 1] *= p->gated ? 2 : 1;
    double *sizes = calloc((size_t)elements_of(&c), sizeof *sizes);
    const tenon_gemm_desc d = {.a = magnitude(o->a, o->a_scale, o->a_zero, true),
                               .b = magnitude(o->b, o->b_scale, o->b_zero, false),
                               .c = tenon_dense(sizes, TENON_F64, c.rank, c.shape),
                               .group_offsets = HOST(o->offsets)};
    must(p->name, "magnitudes", kernel_now.reference, tenon_gemm(kernel_now.reference, &d));
    if (!kernel_now.wrong[0])
        compare(p->name, o->c, product_error, &(product_bound){p, sizes});
    free(d.a.data);
    free(d.b.data);
    free(sizes);
}

/* The choice of `p->kernel`, shared out or not. */
static void choose(tenon_plan *plan, const product_case *p) {
    tenon_plan_info info = {0};
    (void)tenon_plan_query(plan, &info);
    for (int i = 0; i < info.choices; i++) {
        tenon_plan_choice c = {0};
        (void)tenon_plan_choice_get(plan, i, &c);
        if (strcmp(c.kernel, p->kernel) == 0 && (c.workspace > 0) == p->split) {
            (void)tenon_plan_choose(plan, i);
            return;
        }
    }
    if (kernel_arch() == 80) /* elsewhere whatever is best there */
        tell(p->name, info.kernel);
}

static void run_one(const product_case *p) {
    const int64_t width = p->n * (p->gated ? 2 : 1), groups = p->groups ? p->groups : 1;
    const int64_t many = p->experts ? p->experts : p->batch;
    const int64_t b_shape[3] = {many, p->k, width}, a_shape[3] = {many, p->m, p->k},
                  c_shape[3] = {many, p->m, p->n}, scale_shape[3] = {many, groups, width};
    static const int32_t many_offsets[4] = {0, 17, 17, 38}, few_offsets[4] = {0, 3, 3, 7};
    const bool batch = p->batch > 0;
    product_operands o = {0};
    o.a = batch ? input(p->a, 3, a_shape, NULL)
                : matrix(p->a, p->m, p->k, p->pitch, p->turn_a, false);
    o.b = many ? input(p->b, 3, b_shape, NULL)
               : matrix(p->b, p->k, width, p->pitch, p->turn_b, false);
    o.c = batch ? in_out(p->c, 3, c_shape, NULL)
                : matrix(p->c, p->m, p->n, p->pitch, p->turn_c, true);
    if (p->infinite)
        put_infinities(p->infinite == 1 ? o.a : o.b, p->infinite == 1);
    if (p->bias)
        o.bias = matrix(TENON_F32, 1, width, 0, false, false);
    if (p->residual)
        o.residual = matrix(TENON_F32, p->m, p->n, 2, false, false);
    if (p->a_scale)
        o.a_scale = matrix(TENON_F32, p->m, 1, 0, false, false);
    if (p->a_zero)
        o.a_zero = matrix(TENON_S8, p->m, 1, 0, false, false);
    if (p->b_scale)
        o.b_scale = many ? input(TENON_F32, 3, scale_shape, NULL)
                         : matrix(TENON_F32, groups, width, 0, false, false);
    if (p->b_zero)
        o.b_zero = many ? input(TENON_U8, 3, scale_shape, NULL)
                        : matrix(TENON_S8, p->zero_groups ? p->zero_groups : groups, width, 0,
                                 false, false);
    if (p->experts)
        o.offsets =
            indices(TENON_S32, 1, (const int64_t[1]){4}, p->m > 8 ? many_offsets : few_offsets);
    const tenon_gemm_desc d = product_desc(p, &o, false), r = product_desc(p, &o, true);
    tenon_plan *plan = NULL;
    must(p->name, "plan", kernel_now.cuda, tenon_gemm_plan(kernel_now.cuda, &d, &plan));
    if (plan)
        choose(plan, p);
    if (kernel_now.wrong[0])
        goto out;
    must(p->name, "run", kernel_now.cuda, tenon_gemm_run(kernel_now.cuda, plan, &d));
    must(p->name, "sync", kernel_now.cuda, tenon_sync(kernel_now.cuda));
    must(p->name, "reference", kernel_now.reference, tenon_gemm(kernel_now.reference, &r));
    if (!kernel_now.wrong[0])
        compare_product(p, &o);
out:
    tenon_plan_destroy(plan);
}

static void run_product(const product_case *given) {
    for (int i = 0; i < (given->sweep ? given->sweep : 1); i++) {
        const int64_t moved = given->wander * (given->sweep ? i : kernel_now.turn);
        product_case p = *given;
        if (given->wander && !given->sweep) {
            p.m -= given->m > 2 * given->wander ? moved : 0;
            p.k -= 16 * kernel_now.turn;
        }
        p.n += moved;
        run_one(&p);
        release();
    }
}

int kernel_products(void) {
    return PRODUCTS;
}
const char *kernel_product_name(int index) {
    return products[index].name;
}
void kernel_product_run(int index) {
    run_product(&products[index]);
}
