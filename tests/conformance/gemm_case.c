/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_case.c: see gemm_case.h. The reference gets dense f64 copies and writes f64, so its results are the exact ones
 * for our purpose; a second run of it on magnitudes gives sum |A'||B'|, which the bound needs.
 */
#include "gemm_case.h"

#include "block_operand.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const range plain = {-1, 1}, bytes = {-128, 127}, unsigned_bytes = {0, 255};
static const range scales = {0.25, 2}, zeros = {-3, 4}, unsigned_zeros = {0, 7};

typedef struct gemm_run {
    world *w;
    gemm_case x;
    tenon_gemm_desc device, reference, magnitude;
    operand a, b, c, bias, residual, a_scale, a_zero, b_scale, b_zero, c_scale, c_zero, offsets;
    tenon_tensor expected, products;
    int64_t last_row; /* grouped: rows from here on belong to nobody */
} gemm_run;

static range range_of(tenon_dtype dtype) {
    return dtype == TENON_S8 ? bytes : dtype == TENON_U8 ? unsigned_bytes : plain;
}

static int64_t columns(const gemm_case *x) {
    return x->gated ? 2 * x->n : x->n;
}

/* ---------------------------------------------------------------- operands */

/* (batch…, rows, columns) into shape; the batch has extents 1 if `once` is 2. Returns the rank. */
static int32_t batched(const gemm_case *x, int32_t once, int64_t rows, int64_t cols,
                       int64_t shape[4]) {
    const int32_t rank = x->experts || x->array || once == 1 ? 0 : x->batch_rank;
    for (int32_t d = 0; d < rank; ++d)
        shape[d] = once == 2 ? 1 : x->batch[d];
    shape[rank] = rows;
    shape[rank + 1] = cols;
    return rank + 2;
}

static operand spread_operand(gemm_run *r, spread how, int64_t cols, range values) {
    const gemm_case *x = &r->x;
    int64_t shape[4] = {0};
    int32_t rank;
    switch (how) {
    case SCALAR:
        return input(r->w, x->extra, 0, shape, DENSE, 0, values);
    case ROW:
        shape[0] = cols;
        return input(r->w, x->extra, 1, shape, STEPPED, 0, values);
    case COLUMN:
        shape[0] = x->m;
        shape[1] = 1;
        return input(r->w, x->extra, 2, shape, DENSE, 0, values);
    case FULL:
        rank = batched(x, 0, x->m, cols, shape);
        return input(r->w, x->extra, rank, shape, PADDED, 0, values);
    default:
        return (operand){0};
    }
}

static operand quantum_operand(gemm_run *r, quantum how, int of_b, tenon_dtype dtype,
                               range values) {
    const gemm_case *x = &r->x;
    const int64_t lines = how == PER_ROW || how == PER_BOTH ? (of_b ? columns(x) : x->m) : 1;
    const int64_t groups = how == PER_GROUP || how == PER_BOTH ? x->groups : 1;
    const int64_t shape[2] = {of_b ? groups : lines, of_b ? lines : groups};
    if (how == NO_QUANTUM)
        return (operand){0};
    return input(r->w, dtype, 2, shape, PADDED, 0, values);
}

static operand make_offsets(gemm_run *r) {
    const gemm_case *x = &r->x;
    const int64_t shape = x->experts + 1;
    operand o = input(r->w, x->offsets, 1, &shape, DENSE, 0, (range){0, 0});
    int64_t row = 0;
    for (int64_t e = 1; e <= x->experts; ++e) { /* empty groups happen; the last rows stay unused */
        const int64_t step = rng_below(&r->w->random, 2 * x->m / x->experts + 1);
        row = row + step < x->m ? row + step : x->m;
        set(&o, e, (double)row);
    }
    r->last_row = row;
    return o;
}

static void make_operands(gemm_run *r) {
    const gemm_case *x = &r->x;
    const range z = x->zero == TENON_U8 ? unsigned_zeros : zeros;
    const int64_t expert_shape[3] = {x->experts, x->k, columns(x)};
    int64_t shape[4];
    int32_t rank;

    rank = batched(x, x->a_once, x->array ? x->array * x->m : x->m, x->k, shape);
    r->a = input(r->w, x->a, rank, shape, x->a_layout, 0,
                 x->reach > 0 ? (range){-x->reach, x->reach} : range_of(x->a));
    rank = batched(x, x->b_once, x->array ? x->array * x->k : x->k, columns(x), shape);
    if (x->experts)
        memcpy(shape, expert_shape, sizeof expert_shape);
    r->b = x->b >= TENON_Q8_0
               ? block_input(r->w, x->b, x->experts ? 3 : rank, shape, x->b_layout)
               : input(r->w, x->b, x->experts ? 3 : rank, shape, x->b_layout, 0, range_of(x->b));
    rank = batched(x, 0, x->array ? x->array * x->m : x->m, x->n, shape);
    if (x->beta != 0 || x->residual == ALIAS)
        r->c = in_out(r->w, x->c, rank, shape, x->c_layout, range_of(x->c));
    else
        r->c = output(r->w, x->c, rank, shape, x->c_layout);

    r->bias = spread_operand(r, x->bias, columns(x), plain);
    r->residual = spread_operand(r, x->residual, x->n, plain);
    /* Quantised outputs should use the range of their type without leaving it all the time. */
    const double typical = (r->a.largest + 1) * (r->b.largest + 1) * sqrt((double)x->k + 1) / 100;
    r->c_scale = spread_operand(r, x->c_scale, x->n, (range){0.5 * typical, 2 * typical});
    r->c_zero = spread_operand(r, x->c_zero, x->n, zeros);
    r->a_scale = quantum_operand(r, x->a_scale, 0, x->extra, scales);
    r->a_zero = quantum_operand(r, x->a_zero, 0, x->zero, z);
    r->b_scale = quantum_operand(r, x->b_scale, 1, x->extra, scales);
    r->b_zero = quantum_operand(r, x->b_zero, 1, x->zero, z);
    r->last_row = x->m;
    if (x->experts)
        r->offsets = make_offsets(r);
}

/* ---------------------------------------------------------------- descriptors */

/* Member `index` of a pointer array: rows index·rows … of the stacked operand. */
static void *member(const tenon_tensor *t, int64_t index, int64_t rows) {
    int64_t elements = 1;
    size_t bytes_of_one = 0;
    ck_assert_int_eq(tenon_dtype_block(t->dtype, &elements, &bytes_of_one), TENON_OK);
    return (unsigned char *)t->data +
           index * rows * t->stride[0] / elements * (int64_t)bytes_of_one;
}

static tenon_tensor without_data(tenon_tensor t, int64_t rows) {
    t.data = NULL;
    t.shape[0] = rows;
    return t;
}

/* Turns stacked matrices into arrays of addresses. */
static void use_arrays(gemm_run *r, tenon_gemm_desc *g) {
    const gemm_case *x = &r->x;
    void **pointers = world_alloc(r->w, sizeof(void *) * 3 * (size_t)x->array);
    for (int64_t i = 0; i < x->array; ++i) {
        pointers[i] = member(&g->a, i, x->m);
        pointers[x->array + i] = member(&g->b, i, x->k);
        pointers[2 * x->array + i] = member(&g->c, i, x->m);
    }
    g->a_array = (const void *const *)pointers;
    g->b_array = (const void *const *)(pointers + x->array);
    g->c_array = pointers + 2 * x->array;
    g->array_count = x->array;
    g->a = without_data(g->a, x->m);
    g->b = without_data(g->b, x->k);
    g->c = without_data(g->c, x->m);
}

static void describe(gemm_run *r) {
    const gemm_case *x = &r->x;
    tenon_gemm_desc g = {
        .a = r->a.t,
        .b = r->b.t,
        .c = r->c.t,
        .alpha = x->alpha != 0 ? &r->x.alpha : NULL,
        .beta = x->beta,
        .bias = r->bias.t,
        .residual = x->residual == ALIAS ? r->c.t : r->residual.t,
        .activation = x->activation,
        .gated = x->gated,
        .clamp_low = x->clamp_low,
        .clamp_high = x->clamp_high,
        .a_scale = r->a_scale.t,
        .a_zero = r->a_zero.t,
        .b_scale = r->b_scale.t,
        .b_zero = r->b_zero.t,
        .c_scale = r->c_scale.t,
        .c_zero = r->c_zero.t,
        .group_offsets = r->offsets.t,
        .compute = x->compute,
    };
    r->device = g;

    r->expected = exact_zeros(r->w, r->c.t.rank, r->c.t.shape);
    const bool reads_c = x->beta != 0 || x->residual == ALIAS;
    for (int64_t i = 0; reads_c && i < count_of(&r->c.t); ++i)
        ((double *)r->expected.data)[i] = get(&r->c.t, i);
    g.a = r->a.exact;
    g.b = r->b.exact;
    g.c = r->expected;
    g.bias = r->bias.exact;
    g.residual = x->residual == ALIAS ? r->expected : r->residual.exact;
    g.a_scale = r->a_scale.exact;
    g.a_zero = r->a_zero.exact;
    g.b_scale = r->b_scale.exact;
    g.b_zero = r->b_zero.exact;
    g.c_scale = r->c_scale.exact;
    g.c_zero = r->c_zero.exact;
    g.group_offsets = r->offsets.exact;
    r->reference = g;
}

/* |A'| ≤ |a_scale|·(|A| + |a_zero|), element by element; the last two dimensions may be grouped by `group`. */
static tenon_tensor magnitudes(gemm_run *r, const operand *x, const operand *scale,
                               const operand *zero, int64_t k_dim) {
    tenon_tensor t = exact_zeros(r->w, x->t.rank, x->t.shape);
    const int64_t cols = x->t.shape[x->t.rank - 1], rows = x->t.shape[x->t.rank - 2];
    const operand *factor[2] = {scale, zero};

    for (int64_t i = 0; i < count_of(&t); ++i) {
        const int64_t at[2] = {i / cols % rows, i % cols};
        double value[2] = {1, 0};
        for (int f = 0; f < 2; ++f) {
            const tenon_tensor *s = &factor[f]->exact;
            int64_t index[2];
            if (s->rank == 0)
                continue;
            for (int d = 0; d < 2; ++d) {
                const int64_t extent = d == k_dim ? r->x.k : s->shape[d];
                index[d] = s->shape[d] == 1 ? 0
                           : d == k_dim     ? at[d] % r->x.k / (extent / s->shape[d])
                                            : at[d];
            }
            value[f] = fabs(get(s, index[0] * s->shape[1] + index[1]));
        }
        const double size = fabs(get(x->size.rank ? &x->size : &x->exact, i));
        ((double *)t.data)[i] = value[0] * (size + value[1]);
    }
    return t;
}

/* Whether A may be rounded to int8. */
static bool is_fast(const gemm_case *x) {
    return x->compute == TENON_COMPUTE_FAST && x->b >= TENON_Q8_0;
}

/* Each element of (…, m, k) becomes the largest of its run of 32 along k (3.8). */
static tenon_tensor largest_of_runs(tenon_tensor t, int64_t k) {
    double *value = t.data;
    for (int64_t i = 0; i < count_of(&t); i += k)
        for (int64_t run = 0; run < k; run += 32) {
            double largest = 0;
            for (int64_t p = run; p < run + 32; ++p)
                largest = fmax(largest, value[i + p]);
            for (int64_t p = run; p < run + 32; ++p)
                value[i + p] = largest;
        }
    return t;
}

static void describe_magnitudes(gemm_run *r) {
    int64_t shape[4];
    memcpy(shape, r->c.t.shape, sizeof shape);
    shape[r->c.t.rank - 1] = columns(&r->x);
    r->products = exact_zeros(r->w, r->c.t.rank, shape);
    const tenon_tensor a = magnitudes(r, &r->a, &r->a_scale, &r->a_zero, 1);
    r->magnitude = (tenon_gemm_desc){
        .a = is_fast(&r->x) ? largest_of_runs(a, r->x.k) : a,
        .b = magnitudes(r, &r->b, &r->b_scale, &r->b_zero, 0),
        .c = r->products,
        .group_offsets = r->offsets.exact,
    };
}

/* ---------------------------------------------------------------- comparison */

static tenon_dtype accumulate_in(const gemm_case *x) {
    const bool a = x->a == TENON_S8 || x->a == TENON_U8, b = x->b == TENON_S8 || x->b == TENON_U8;
    const bool whole = (!x->a_zero && !x->b_zero) || x->zero >= TENON_S8;
    if (x->a == TENON_F64 || x->b == TENON_F64)
        return TENON_F64;
    return a && b && whole && !x->a_scale && !x->b_scale ? TENON_S32 : TENON_F32;
}

/* What TENON_COMPUTE_FAST allows of floats on the devices that make use of it (3.10). */
static bound_gemm_way way_of(const gemm_case *x, const char *device) {
    const bool a8 = x->a == TENON_F8_E4M3 || x->a == TENON_F8_E5M2,
               b8 = x->b == TENON_F8_E4M3 || x->b == TENON_F8_E5M2;
    if (strncmp(device, "cuda", 4) != 0 || x->compute != TENON_COMPUTE_FAST || is_fast(x) ||
        accumulate_in(x) != TENON_F32)
        return BOUND_CHAINS;
    return a8 && b8                                 ? BOUND_FP8
           : x->a == TENON_F32 || x->b == TENON_F32 ? BOUND_TF32
                                                    : BOUND_CHAINS;
}

/* Value of a spread operand at element `index` of (batch…, m, cols), or `absent`. */
static double spread_at(const operand *o, int64_t index, int64_t m, int64_t cols, double absent) {
    const int64_t i = index / cols % m, j = index % cols;
    if (!o->t.data)
        return absent;
    if (o->t.rank == 0)
        return get(&o->exact, 0);
    if (o->t.rank == 1)
        return get(&o->exact, j);
    if (o->t.shape[1] == 1 && o->t.rank == 2 && cols != 1)
        return get(&o->exact, i);
    return get(&o->exact, index % count_of(&o->exact));
}

static double error_of(gemm_run *r, int64_t index, double old_c) {
    const gemm_case *x = &r->x;
    const int64_t n = x->n, row = index / n, j = index % n, wide = columns(x);
    const int64_t column[2] = {x->gated == TENON_GATED_INTERLEAVED ? 2 * j : j,
                               x->gated == TENON_GATED_INTERLEAVED ? 2 * j + 1 : n + j};
    bound_gemm_element e = {
        .k = x->k,
        .accumulate = accumulate_in(x),
        .fast = is_fast(x),
        .way = way_of(x, r->w->device),
        .activation = x->activation,
        .gated = x->gated != TENON_GATED_NONE,
        .clamp = fmax(fabs(x->clamp_low), fabs(x->clamp_high)),
        .residual =
            x->residual == ALIAS ? fabs(old_c) : fabs(spread_at(&r->residual, index, x->m, n, 0)),
        .c_scale = fabs(spread_at(&r->c_scale, index, x->m, n, 1)),
        .c_zero = fabs(spread_at(&r->c_zero, index, x->m, n, 0)),
    };
    for (int i = 0; i < (x->gated ? 2 : 1); ++i) {
        const double alpha = x->alpha != 0 ? x->alpha : 1;
        e.products[i] = fabs(alpha) * get(&r->products, row * wide + column[i]);
        e.addends[i] = fabs(spread_at(&r->bias, row * wide + column[i], x->m, wide, 0));
        if (x->beta != 0)
            e.addends[i] += fabs(x->beta) * e.c_scale * (fabs(old_c) + e.c_zero);
    }
    return bound_gemm(&e);
}

static gemm_case with_defaults(const gemm_case *given) {
    gemm_case x = *given;
    if (!x.a)
        x.a = TENON_F32;
    if (!x.b)
        x.b = x.a;
    if (!x.c)
        x.c = TENON_F32;
    if (!x.extra)
        x.extra = x.a == TENON_F64 ? TENON_F64 : TENON_F32;
    if (!x.zero)
        x.zero = TENON_F32;
    if (!x.groups)
        x.groups = 2;
    if (!x.offsets)
        x.offsets = TENON_S32;
    return x;
}

/* Packs B on the device under test; false if it has no packed form. */
static bool pack(gemm_run *r) {
    tenon_gemm_desc *g = &r->device;
    size_t size = 0;
    if (!world_answered(r->w, tenon_gemm_pack_size(r->w->ctx, g, &size), r->x.unsupported))
        return false;
    unsigned char *room = world_alloc(r->w, size + 64);
    room += (64 - (uintptr_t)room % 64) % 64;
    if (!world_answered(r->w, tenon_gemm_pack(r->w->ctx, g, room, size), NULL))
        return false;
    g->b.data = NULL;
    g->b_packed = room;
    g->b_packed_bytes = size;
    return true;
}

void run_gemm_case(world *w, const gemm_case *given) {
    gemm_run r = {.w = w, .x = with_defaults(given)};
    const gemm_case *x = &r.x;

    if (world_leaves_out(w, (double)x->m * (double)x->n * (double)(x->k + 16)))
        return;
    world_case(w, "gemm %s: %lldx%lldx%lld %s %s -> %s, layouts %d %d -> %d", x->name,
               (long long)x->m, (long long)x->n, (long long)x->k, tenon_dtype_name(x->a),
               tenon_dtype_name(x->b), tenon_dtype_name(x->c), (int)x->a_layout, (int)x->b_layout,
               (int)x->c_layout);
    make_operands(&r);
    describe(&r);
    describe_magnitudes(&r);
    double *old_c = world_alloc(w, sizeof(double) * (size_t)count_of(&r.expected));
    memcpy(old_c, r.expected.data, sizeof(double) * (size_t)count_of(&r.expected));
    if (x->array) {
        use_arrays(&r, &r.device);
        use_arrays(&r, &r.reference);
        use_arrays(&r, &r.magnitude);
    }
    if (x->packed && !pack(&r))
        return;
    if (!world_answered(w, tenon_gemm(w->ctx, &r.device), x->unsupported))
        return;
    world_reference(w, tenon_gemm(w->reference, &r.reference));
    world_reference(w, tenon_gemm(w->reference, &r.magnitude));

    const int64_t count = count_of(&r.expected);
    bool *written = world_alloc(w, (size_t)count * sizeof *written);
    for (int64_t i = 0; i < count; ++i)
        written[i] = i < count - (x->m - r.last_row) * x->n;
    expect_untouched(w, &r.c, written);
    for (int64_t i = 0; i < count; ++i)
        if (written[i])
            expect(w, &r.c, i, get(&r.expected, i), error_of(&r, i, old_c[i]));
    expect_every_choice(w, &(call){.gemm = &r.device}, &(const operand *){&r.c}, 1);
}
