/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a matrix product means: from tenon_gemm_desc to tn_gemm_problem. Shapes, broadcasting, which
 * types go together, which features exclude each other; no arithmetic on elements.
 */
#include "core/checked.h"
#include "ops/operands.h"
#include "ops/ops.h"

#include <math.h>

enum {
    INPUTS = TN_DTYPES_FLOAT | TN_DTYPES_F8 | TN_DTYPES_INT8,
    WEIGHTS = INPUTS | TN_DTYPES_BLOCK,
    OUTPUTS = INPUTS | 1 << TENON_S32,
    ZEROS = TN_DTYPES_FLOAT | TN_DTYPES_INT8 | 1 << TENON_S32,
    ACTIVATIONS = 1 << TENON_F32 | 1 << TENON_F16 | 1 << TENON_BF16 /* beside blocks */
};

#define OPERAND(...) TN_OPERAND(tenon_gemm_desc, __VA_ARGS__)
#define FACTOR(field, dtypes) OPERAND(field, dtypes, 0, TENON_MAX_RANK, TN_TENSOR_OPTIONAL)
static const tn_operand operands[TN_GEMM_B_PACKED] = {
    [TN_GEMM_A] = OPERAND(a, INPUTS, 2, TENON_MAX_RANK, 0),
    [TN_GEMM_B] = OPERAND(b, WEIGHTS, 2, TENON_MAX_RANK, 0),
    [TN_GEMM_C] = OPERAND(c, OUTPUTS, 2, TENON_MAX_RANK, TN_TENSOR_OUTPUT, 1 + TN_GEMM_RESIDUAL),
    [TN_GEMM_BIAS] = FACTOR(bias, TN_DTYPES_FLOAT),
    [TN_GEMM_RESIDUAL] = FACTOR(residual, TN_DTYPES_FLOAT),
    [TN_GEMM_A_SCALE] = FACTOR(a_scale, TN_DTYPES_FLOAT),
    [TN_GEMM_A_ZERO] = FACTOR(a_zero, ZEROS),
    [TN_GEMM_B_SCALE] = FACTOR(b_scale, TN_DTYPES_FLOAT),
    [TN_GEMM_B_ZERO] = FACTOR(b_zero, ZEROS),
    [TN_GEMM_C_SCALE] = FACTOR(c_scale, TN_DTYPES_FLOAT),
    [TN_GEMM_C_ZERO] = FACTOR(c_zero, ZEROS),
    [TN_GEMM_OFFSETS] = OPERAND(group_offsets, TN_DTYPES_INDEX, 1, 1, TN_TENSOR_OPTIONAL),
};
static const tn_defaulted defaults[] = {TN_DEFAULTED(tenon_gemm_desc, alpha)};
static const uint16_t words[] = {
    TN_WORD(tenon_gemm_desc, beta),        TN_HALVES(tenon_gemm_desc, activation, gated),
    TN_WORD(tenon_gemm_desc, clamp_low),   TN_WORD(tenon_gemm_desc, clamp_high),
    TN_WORD(tenon_gemm_desc, array_count), TN_WORD(tenon_gemm_desc, b_packed_bytes),
};
static const uint16_t halves[] = {TN_HALF(tenon_gemm_desc, compute)};
static const tn_counted counts[] = {
    TN_COUNTED(tenon_gemm_desc, a_array, array_count),
    TN_COUNTED(tenon_gemm_desc, b_array, array_count),
    TN_COUNTED(tenon_gemm_desc, c_array, array_count),
    TN_COUNTED(tenon_gemm_desc, b_packed, b_packed_bytes),
};
const tn_form tn_gemm_form = {
    .bytes = sizeof(tenon_gemm_desc),
    .workspace = offsetof(tenon_gemm_desc, workspace),
    .operands = TN_COUNT(operands),
    .operand = operands,
    .defaulted = TN_COUNT(defaults),
    .defaults = defaults,
    .words = TN_COUNT(words),
    .word = words,
    .halves = TN_COUNT(halves),
    .half = halves,
    .counted = TN_COUNT(counts),
    .counts = counts,
};

static int uses_pointer_array(const tenon_gemm_desc *g) {
    return g->a_array || g->b_array || g->c_array || g->array_count != 0;
}

static int is_packed(const tenon_gemm_desc *g) {
    return g->b_packed || g->b_packed_bytes;
}

#define INVALID(...) tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, __VA_ARGS__)

/* ---------------------------------------------------------------- attributes */

static tenon_status check_attributes(tn_message *m, const tenon_gemm_desc *g) {
    TN_TRY(tn_check_enum(m, "activation", (int)g->activation, TENON_ACTIVATION_CLAMP));
    TN_TRY(tn_check_enum(m, "gated", (int)g->gated, TENON_GATED_INTERLEAVED));
    TN_TRY(tn_check_enum(m, "compute", (int)g->compute, TENON_COMPUTE_FAST));
    if (g->alpha)
        TN_TRY(tn_check_finite(m, "alpha", *g->alpha));
    TN_TRY(tn_check_finite(m, "beta", g->beta));
    if (g->gated && g->beta != 0)
        return INVALID("beta is %g, expected 0 with gated, where c has half of b's columns",
                       g->beta);
    if (isnan(g->clamp_low) || isnan(g->clamp_high) || g->clamp_low > g->clamp_high)
        return INVALID(
            "clamp_low is %g and clamp_high %g, expected numbers with clamp_low <= clamp_high",
            g->clamp_low, g->clamp_high);
    if (g->activation != TENON_ACTIVATION_CLAMP && (g->clamp_low != 0 || g->clamp_high != 0))
        return INVALID("clamp_low is %g and clamp_high %g, expected 0 unless activation is "
                       "TENON_ACTIVATION_CLAMP",
                       g->clamp_low, g->clamp_high);
    if (g->array_count < 0)
        return INVALID("array_count is %lld, expected at least 0", (long long)g->array_count);
    if (uses_pointer_array(g) && tn_tensor_present(&g->group_offsets))
        return INVALID(
            "array_count is %lld beside group_offsets, expected one of the two kinds of batch",
            (long long)g->array_count);
    if (is_packed(g) && uses_pointer_array(g))
        return INVALID("b_packed is %p beside pointer arrays, expected NULL", g->b_packed);
    if (is_packed(g) && (g->b_packed_bytes == 0 || g->b_packed_bytes > INT64_MAX))
        return INVALID("b_packed_bytes is %zu, expected the size that tenon_gemm_pack_size gave",
                       g->b_packed_bytes);
    return TENON_OK;
}

/*
 * a, b, c are matrices where something else counts the products: groups of rows, or arrays of
 * addresses.
 */
static tenon_status check_ranks(tn_message *m, const tenon_gemm_desc *g) {
    const int grouped = tn_tensor_present(&g->group_offsets);
    const int matrices = grouped || uses_pointer_array(g);
    for (int role = TN_GEMM_A; role <= TN_GEMM_C && matrices; ++role) {
        const int32_t expected = role == TN_GEMM_B && grouped ? 3 : 2,
                      rank = tn_tensor_in(&tn_gemm_form, role, g)->rank;
        if (rank != expected)
            return INVALID("%s.rank is %d, expected %d with %s", operands[role].name, (int)rank,
                           (int)expected, grouped ? "group_offsets" : "pointer arrays");
    }
    return TENON_OK;
}

/* Types that make no sense together. */
static tenon_status check_types(tn_message *m, const tenon_gemm_desc *g) {
    const int a_int = g->a.dtype == TENON_S8 || g->a.dtype == TENON_U8,
              b_int = g->b.dtype == TENON_S8 || g->b.dtype == TENON_U8;

    if (TN_DTYPE_BIT(g->b.dtype) & TN_DTYPES_BLOCK && !(TN_DTYPE_BIT(g->a.dtype) & ACTIVATIONS))
        return INVALID("a.dtype is %s beside b of %s, expected one of f32 f16 bf16 with blocks",
                       tenon_dtype_name(g->a.dtype), tenon_dtype_name(g->b.dtype));
    if (g->c.dtype == TENON_S32 && !(a_int && b_int))
        return INVALID(
            "c.dtype is s32 with a %s and b %s, expected integer inputs for an integer sum",
            tenon_dtype_name(g->a.dtype), tenon_dtype_name(g->b.dtype));
    if ((g->c.dtype == TENON_S8 || g->c.dtype == TENON_U8) && !tn_tensor_present(&g->c_scale))
        return INVALID("c.dtype is %s and c_scale is absent, expected the scale to quantise with",
                       tenon_dtype_name(g->c.dtype));
    if (tn_tensor_present(&g->c_zero) && !tn_tensor_present(&g->c_scale))
        return INVALID("c_scale is absent beside c_zero, expected both or c_scale alone");
    return TENON_OK;
}

/* ---------------------------------------------------------------- shapes */

/* Splits broadcast strides of rank `rank` into row, column and batch. */
static void store(tn_gemm_operand *out, tenon_dtype dtype, int32_t rank, const int64_t *stride) {
    out->dtype = dtype;
    out->row = stride[rank - 2];
    out->column = stride[rank - 1];
    memcpy(out->batch, stride, (size_t)(rank - 2) * sizeof *stride);
}

/* Broadcasts one optional operand against (batch…, rows, columns). */
static tenon_status place(tn_message *m, const char *field, const tenon_tensor *t,
                          int32_t batch_rank, const int64_t *batch, int64_t rows, int64_t columns,
                          const char *meaning, tn_gemm_operand *out) {
    int64_t shape[TENON_MAX_RANK], stride[TENON_MAX_RANK];

    if (!tn_tensor_present(t))
        return TENON_OK;
    memcpy(shape, batch, (size_t)batch_rank * sizeof *batch);
    shape[batch_rank] = rows;
    shape[batch_rank + 1] = columns;
    TN_TRY(tn_check_broadcast(m, field, t, batch_rank + 2, shape, meaning, stride));
    store(out, t->dtype, batch_rank + 2, stride);
    return TENON_OK;
}

/*
 * A vector beside a would broadcast along k, as groups, while whoever gives one for a quantised a
 * means its rows: both must be said.
 */
static tenon_status check_a_companion(tn_message *m, const char *field, const tenon_tensor *t) {
    if (t->rank != 1 || t->shape[0] == 1)
        return TENON_OK;
    return INVALID("%s.shape is %s, expected (m, 1) for one a row, (1, groups) or (m, groups) for "
                   "groups along k, or one element",
                   field, tn_shape_format(t->rank, t->shape).text);
}

/* The number of groups that k is cut into, from a scale's extent along k. */
static tenon_status groups_along_k(tn_message *m, const char *field, const tenon_tensor *t,
                                   int32_t from_end, int64_t k, int64_t *groups, int64_t *group) {
    const int32_t dim = t->rank - from_end;
    *groups = dim >= 0 ? t->shape[dim] : 1;
    if (*groups < 1 || (k > 0 && k % *groups != 0) || (k == 0 && *groups != 1))
        return INVALID(
            "%s.shape[%d] is %lld, expected 1 or a number of groups that divides k = %lld", field,
            (int)dim, (long long)*groups, (long long)k);
    *group = k > *groups ? k / *groups : 1;
    return TENON_OK;
}

/*
 * b and its companions have the experts as their one leading dimension when grouped; everything
 * else has none.
 */
static tenon_status place_all(tn_message *m, const tenon_gemm_desc *g, tn_gemm_problem *p,
                              int64_t columns) {
    const int grouped = p->experts > 0 || tn_tensor_present(&g->group_offsets);
    const int32_t rank = p->batch_rank, b_rank = grouped ? 1 : rank;
    const int64_t *batch = p->batch, *b_batch = grouped ? &p->experts : p->batch;
    int64_t groups;

    TN_TRY(place(m, "a", &g->a, rank, batch, p->m, p->k, "(batch…, m, k)", &p->operand[TN_GEMM_A]));
    TN_TRY(place(m, "b", &g->b, b_rank, b_batch, p->k, columns,
                 grouped ? "(experts, k, n)" : "(batch…, k, n)", &p->operand[TN_GEMM_B]));
    TN_TRY(place(m, "c", &g->c, rank, batch, p->m, p->n, "(batch…, m, n)", &p->operand[TN_GEMM_C]));
    if (grouped && g->bias.rank == 3)
        TN_TRY(place(m, "bias", &g->bias, 1, &p->experts, 1, columns, "(experts, 1, n)",
                     &p->operand[TN_GEMM_BIAS]));
    else
        TN_TRY(place(m, "bias", &g->bias, rank, batch, p->m, columns,
                     g->gated ? "(batch…, m, 2n)" : "(batch…, m, n)", &p->operand[TN_GEMM_BIAS]));
    TN_TRY(place(m, "residual", &g->residual, rank, batch, p->m, p->n, "(batch…, m, n)",
                 &p->operand[TN_GEMM_RESIDUAL]));
    TN_TRY(place(m, "c_scale", &g->c_scale, rank, batch, p->m, p->n, "(batch…, m, n)",
                 &p->operand[TN_GEMM_C_SCALE]));
    TN_TRY(place(m, "c_zero", &g->c_zero, rank, batch, p->m, p->n, "(batch…, m, n)",
                 &p->operand[TN_GEMM_C_ZERO]));

    TN_TRY(check_a_companion(m, "a_scale", &g->a_scale));
    TN_TRY(groups_along_k(m, "a_scale", &g->a_scale, 1, p->k, &groups, &p->group[TN_GEMM_A_SCALE]));
    TN_TRY(place(m, "a_scale", &g->a_scale, rank, batch, p->m, groups, "(batch…, m, groups)",
                 &p->operand[TN_GEMM_A_SCALE]));
    TN_TRY(check_a_companion(m, "a_zero", &g->a_zero));
    TN_TRY(groups_along_k(m, "a_zero", &g->a_zero, 1, p->k, &groups, &p->group[TN_GEMM_A_ZERO]));
    TN_TRY(place(m, "a_zero", &g->a_zero, rank, batch, p->m, groups, "(batch…, m, groups)",
                 &p->operand[TN_GEMM_A_ZERO]));
    TN_TRY(groups_along_k(m, "b_scale", &g->b_scale, 2, p->k, &groups, &p->group[TN_GEMM_B_SCALE]));
    TN_TRY(place(m, "b_scale", &g->b_scale, b_rank, b_batch, groups, columns, "(batch…, groups, n)",
                 &p->operand[TN_GEMM_B_SCALE]));
    TN_TRY(groups_along_k(m, "b_zero", &g->b_zero, 2, p->k, &groups, &p->group[TN_GEMM_B_ZERO]));
    return place(m, "b_zero", &g->b_zero, b_rank, b_batch, groups, columns, "(batch…, groups, n)",
                 &p->operand[TN_GEMM_B_ZERO]);
}

static tenon_status check_shapes(tn_message *m, const tenon_gemm_desc *g, tn_gemm_problem *p) {
    const tenon_tensor *a = &g->a, *b = &g->b, *t = &g->c;
    const int64_t columns = b->shape[b->rank - 1];

    p->m = a->shape[a->rank - 2];
    p->k = a->shape[a->rank - 1];
    p->n = g->gated ? columns / 2 : columns;
    TN_TRY(tn_check_extent(m, "b", b, b->rank - 2, p->k, "k of a"));
    TN_TRY(tn_check_blocks_along(m, "b", b, b->rank - 2, "k")); /* n rows of k, as in GGUF */
    if (g->gated && columns % 2 != 0)
        return INVALID("b.shape[%d] is %lld, expected an even number of columns with gated",
                       (int)b->rank - 1, (long long)columns);
    TN_TRY(tn_check_extent(m, "c", t, t->rank - 2, p->m, "m of a"));
    TN_TRY(
        tn_check_extent(m, "c", t, t->rank - 1, p->n, g->gated ? "half of b's columns" : "n of b"));

    p->batch_rank = t->rank - 2;
    p->batch_count = 1;
    for (int32_t d = 0; d < p->batch_rank; ++d) {
        p->batch[d] = t->shape[d];
        p->batch_count *= t->shape[d];
    }
    if (tn_tensor_present(&g->group_offsets)) {
        p->experts = b->shape[0];
        TN_TRY(tn_check_extent(m, "group_offsets", &g->group_offsets, 0, p->experts + 1,
                               "experts + 1"));
        p->operand[TN_GEMM_OFFSETS].dtype = g->group_offsets.dtype;
        p->operand[TN_GEMM_OFFSETS].row = g->group_offsets.stride[0];
    }
    if (uses_pointer_array(g)) {
        p->pointer_array = 1;
        p->batch_count = g->array_count;
    }
    return place_all(m, g, p, columns);
}

/*
 * Drops batch dimensions of extent 1 and merges neighbours whose strides follow from each other in
 * every operand.
 */
static void merge_batch(tn_gemm_problem *p) {
    int32_t rank = 0;
    for (int32_t d = 0; d < p->batch_rank; ++d) {
        int merge = rank > 0;
        if (p->batch[d] == 1)
            continue;
        for (int role = 0; role < TN_GEMM_OFFSETS && merge; ++role) {
            const tn_gemm_operand *x = &p->operand[role];
            int64_t step;
            merge = tn_mul_i64(x->batch[d], p->batch[d], &step) && x->batch[rank - 1] == step;
        }
        const int32_t to = merge ? rank - 1 : rank++;
        p->batch[to] = merge ? p->batch[to] * p->batch[d] : p->batch[d];
        for (int role = 0; role < TN_GEMM_OFFSETS; ++role)
            p->operand[role].batch[to] = p->operand[role].batch[d];
    }
    for (int32_t d = rank; d < TN_GEMM_BATCH_RANK; ++d) {
        p->batch[d] = 0;
        for (int role = 0; role < TN_GEMM_OFFSETS && p->experts == 0; ++role)
            p->operand[role].batch[d] = 0;
    }
    p->batch_rank = rank;
}

/* In what the sum is kept: docs/NUMERICS.md. */
static tenon_dtype accumulate_in(const tn_gemm_problem *p) {
    const tenon_dtype a = p->operand[TN_GEMM_A].dtype, b = p->operand[TN_GEMM_B].dtype;
    const int integers = (a == TENON_S8 || a == TENON_U8) && (b == TENON_S8 || b == TENON_U8);
    const int scaled = p->operand[TN_GEMM_A_SCALE].dtype || p->operand[TN_GEMM_B_SCALE].dtype;
    const tenon_dtype az = p->operand[TN_GEMM_A_ZERO].dtype, bz = p->operand[TN_GEMM_B_ZERO].dtype;
    const int whole = (!az || az >= TENON_S8) && (!bz || bz >= TENON_S8);

    if (a == TENON_F64 || b == TENON_F64)
        return TENON_F64;
    return integers && !scaled && whole ? TENON_S32 : TENON_F32;
}

tenon_status tn_gemm_problem_make(tenon_gemm_desc *g, tn_gemm_problem *out, tn_message *m) {
    memset(out, 0, sizeof *out);
    TN_TRY(check_attributes(m, g));
    TN_TRY(tn_operands_check(m, &tn_gemm_form, g));
    TN_TRY(check_ranks(m, g));
    TN_TRY(check_types(m, g));
    out->alpha = g->alpha ? *g->alpha : 1;
    out->beta = g->beta;
    out->clamp_low = g->clamp_low;
    out->clamp_high = g->clamp_high;
    out->activation = g->activation;
    out->gated = g->gated;
    out->compute = g->compute;
    TN_TRY(check_shapes(m, g, out));
    if (is_packed(g)) {
        out->operand[TN_GEMM_B_PACKED].dtype = TENON_U8;
        out->packed_bytes = (int64_t)g->b_packed_bytes;
    }
    merge_batch(out);
    out->accumulate = accumulate_in(out);
    return TENON_OK;
}

bool tn_gemm_writes_nothing(const tn_gemm_problem *p) {
    return p->m == 0 || p->n == 0 || p->batch_count == 0 ||
           (p->operand[TN_GEMM_OFFSETS].dtype && p->experts == 0);
}

bool tn_gemm_is_packed(const tn_gemm_problem *p) {
    return p->operand[TN_GEMM_B_PACKED].dtype != TENON_DTYPE_NONE;
}

/* ---------------------------------------------------------------- addresses */

static tenon_status settle_packed(const tn_placement *at, const tn_gemm_problem *p) {
    tn_message *m = at->message;
    const tenon_gemm_desc *g = at->desc;
    if (!g->b_packed && tn_gemm_writes_nothing(p))
        return TENON_OK;
    if (!g->b_packed)
        return INVALID("b_packed is NULL, expected what tenon_gemm_pack wrote");
    if ((uintptr_t)g->b_packed % 64 != 0)
        return INVALID("b_packed is %p, expected an address aligned to 64 bytes", g->b_packed);
    at->addresses[TN_GEMM_B_PACKED] = (void *)(uintptr_t)g->b_packed;
    TN_TRY(tn_operands_avoid(at, 1u << TN_GEMM_C, "b_packed", g->b_packed, g->b_packed_bytes));
    return tn_blocks_apart(m, "workspace.memory", at->workspace.memory, at->workspace.bytes,
                           "b_packed", g->b_packed, g->b_packed_bytes);
}

TN_HOT tenon_status tn_gemm_settle(tn_placement *at, const tn_gemm_problem *p) {
    enum {
        OF_MEMBERS = 1u << TN_GEMM_A | 1u << TN_GEMM_B | 1u << TN_GEMM_C,
        PACKED = 1u << TN_GEMM_B_PACKED
    };
    const bool packed = tn_gemm_is_packed(p);
    const tn_roles without = p->pointer_array ? OF_MEMBERS : packed ? 1u << TN_GEMM_B : 0;

    TN_TRY(tn_operands_place(at, without));
    TN_TRY(tn_operands_apart(at));
    at->addresses[TN_GEMM_B_PACKED] = NULL;
    if (packed)
        TN_TRY(settle_packed(at, p));
    if (p->pointer_array)
        TN_TRY(tn_gemm_settle_arrays(at));
    at->placed |= p->pointer_array ? OF_MEMBERS : at->addresses[TN_GEMM_B_PACKED] ? PACKED : 0;
    return TENON_OK;
}

TN_HOT tenon_status tn_gemm_check_data(const tn_gemm_problem *p, void *const *addresses,
                                       tn_message *m) {
    const tn_gemm_operand *offsets = &p->operand[TN_GEMM_OFFSETS];

    if (!offsets->dtype)
        return TENON_OK;
    return tn_check_offsets(m, "group_offsets", offsets->dtype, addresses[TN_GEMM_OFFSETS],
                            offsets->row, p->experts, p->m);
}

/* ---------------------------------------------------------------- cost */

/* Bytes of an operand, repeated elements once. */
static double operand_bytes(const tn_gemm_problem *p, int role, double rows, double columns) {
    const tn_gemm_operand *x = &p->operand[role];
    int64_t elements = 1;
    size_t bytes = 0;
    double count = 1;

    if (!x->dtype || tenon_dtype_block(x->dtype, &elements, &bytes) != TENON_OK)
        return 0;
    if (x->row != 0)
        count *= rows;
    if (x->column != 0)
        count *= columns;
    for (int32_t d = 0; d < p->batch_rank; ++d)
        if (x->batch[d] != 0)
            count *= (double)p->batch[d];
    if (p->experts > 0 && x->batch[0] != 0)
        count *= (double)p->experts;
    if (p->pointer_array && role <= TN_GEMM_C)
        count *= (double)p->batch_count;
    return count * (double)bytes / (double)elements;
}

void tn_gemm_cost(const tn_gemm_problem *p, double *flops, double *bytes) {
    const double m = (double)p->m, n = (double)p->n, k = (double)p->k,
                 columns = p->gated ? 2 * n : n;

    *flops = 2 * (double)p->batch_count * m * columns * k;
    *bytes = operand_bytes(p, TN_GEMM_A, m, k) + operand_bytes(p, TN_GEMM_B, k, columns) +
             operand_bytes(p, TN_GEMM_C, m, n) * (p->beta != 0 ? 2 : 1) +
             operand_bytes(p, TN_GEMM_BIAS, m, columns) + operand_bytes(p, TN_GEMM_RESIDUAL, m, n) +
             operand_bytes(p, TN_GEMM_C_SCALE, m, n) + operand_bytes(p, TN_GEMM_C_ZERO, m, n);
    for (int role = TN_GEMM_A_SCALE; role <= TN_GEMM_B_ZERO; ++role) {
        const double groups = k / (double)(p->group[role] > 0 ? p->group[role] : 1);
        const int of_a = role <= TN_GEMM_A_ZERO;
        *bytes += operand_bytes(p, role, of_a ? m : groups, of_a ? groups : columns);
    }
}
