/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_products.c: matrix products for every kernel of gemm_*.cu, each with
 * edges that no tile fits and k that no stage does. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bounds.h"
#include "kernel_operand.h"
#include "kernel_product_cases.h"
#include "number.h"

/* rows x columns, `pitch` elements from row to row; turned: from column to column. */
static operand *matrix(tenon_dtype type, int64_t rows, int64_t columns, int64_t pitch, bool turned,
                       bool is_output) {
    const int64_t shape[2] = {rows, columns}, across = (turned ? rows : columns) + pitch,
                  stride[2] = {turned ? 1 : across, turned ? across : 1};
    return is_output ? in_out(type, 2, shape, stride) : input(type, 2, shape, stride);
}

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
