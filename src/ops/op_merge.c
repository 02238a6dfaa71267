/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a merge of partial attentions means (tenon_attention_merge in include/tenon/attention.h): every part has the shape of the
 * result. Called by the entry points; reads no element of any operand.
 */
#include "ops/ops.h"
#include "ops/tensor_check.h"

#include <stdio.h>
#include <string.h>

/* "o_parts[12]" */
typedef struct part_name {
    char text[24];
} part_name;

static part_name name_of(const char *array, int64_t i) {
    part_name name;
    snprintf(name.text, sizeof name.text, "%s[%d]", array, (int)i);
    return name;
}

static tenon_status read_desc(const tn_check *c, const void *desc, tenon_attention_merge_desc *d) {
    return tn_check_struct(c, desc, d, sizeof *d, sizeof *d);
}

static void set_operand(tn_merge_operand *operand, const tenon_tensor *t, int32_t rank,
                        bool has_step) {
    operand->dtype = t->dtype;
    for (int32_t d = 0; d < rank; ++d)
        operand->row[d] = t->stride[d];
    if (has_step)
        operand->step = t->stride[rank];
}

/* The shape of o without dv; for a single row (rank 0, which has no planning form without an address) also a vector of one. */
static tenon_status check_lse(const tn_check *c, const char *field, tenon_tensor *t,
                              const tn_merge_problem *p, unsigned flags) {
    static const int64_t one[1] = {1};
    TN_TRY(tn_check_tensor(c, field, t, TN_DTYPES_WIDE, 0, TENON_MAX_RANK, flags));
    if (!tn_tensor_present(t))
        return TENON_OK;
    if (p->rank > 0 || t->rank == 0)
        return tn_check_shape(c, field, t, p->rank, p->extent, "the shape of o without dv");
    return tn_check_shape(c, field, t, 1, one, "o has one row");
}

static tenon_status check_parts(const tn_check *c, const tenon_attention_merge_desc *d) {
    if (d->count < 0 || d->count > TN_MERGE_MAX_PARTS)
        return tn_fail(c->message, TENON_ERROR_INVALID_ARGUMENT,
                       "%s: count is %lld, expected 0 to %d", c->op, (long long)d->count,
                       TN_MERGE_MAX_PARTS);
    if (d->count > 0 && (!d->o_parts || !d->lse_parts))
        return tn_fail(c->message, TENON_ERROR_INVALID_ARGUMENT,
                       "%s: %s is NULL, expected %d tensors", c->op,
                       d->o_parts ? "lse_parts" : "o_parts", (int)d->count);
    return TENON_OK;
}

tenon_status tn_merge_problem_make(const tenon_attention_merge_desc *desc, tn_merge_problem *out,
                                   tn_message *m) {
    const tn_check c = {"attention_merge", m};
    tenon_attention_merge_desc d;
    memset(out, 0, sizeof *out);
    TN_TRY(read_desc(&c, desc, &d));
    TN_TRY(check_parts(&c, &d));
    TN_TRY(tn_check_tensor(&c, "o", &d.o, TN_DTYPES_FLOAT, 1, TENON_MAX_RANK, TN_TENSOR_OUTPUT));
    out->count = d.count;
    out->rank = d.o.rank - 1;
    out->dv = d.o.shape[out->rank];
    out->rows = 1;
    for (int32_t i = 0; i < out->rank; ++i) {
        out->extent[i] = d.o.shape[i];
        out->rows *= d.o.shape[i];
    }
    set_operand(&out->o, &d.o, out->rank, true);
    TN_TRY(check_lse(&c, "lse", &d.lse, out, TN_TENSOR_OPTIONAL | TN_TENSOR_OUTPUT));
    if (tn_tensor_present(&d.lse))
        set_operand(&out->lse, &d.lse, out->rank, false);
    for (int64_t i = 0; i < d.count; ++i) {
        const part_name o_name = name_of("o_parts", i), lse_name = name_of("lse_parts", i);
        tenon_tensor o = d.o_parts[i], lse = d.lse_parts[i];
        TN_TRY(tn_check_tensor(&c, o_name.text, &o, TN_DTYPES_FLOAT, 1, TENON_MAX_RANK, 0));
        TN_TRY(tn_check_shape(&c, o_name.text, &o, d.o.rank, d.o.shape, "the shape of o"));
        TN_TRY(check_lse(&c, lse_name.text, &lse, out, 0));
        set_operand(&out->o_part[i], &o, out->rank, true);
        set_operand(&out->lse_part[i], &lse, out->rank, false);
    }
    return TENON_OK;
}

/* One input against both outputs. */
static tenon_status check_apart(const tn_check *c, const tenon_attention_merge_desc *d,
                                void *const *addresses, const char *field, const tenon_tensor *t,
                                const void *address, bool may_be_o) {
    TN_TRY(tn_check_apart(c, "o", &d->o, addresses[TN_MERGE_O], field, t, address, may_be_o));
    return tn_check_apart(c, "lse", &d->lse, addresses[TN_MERGE_LSE], field, t, address, false);
}

tenon_status tn_merge_addresses(const tenon_attention_merge_desc *desc, const tn_merge_problem *p,
                                void *addresses[TN_MAX_ADDRESSES],
                                void *parts[2 * TN_MERGE_MAX_PARTS], tn_message *m) {
    const tn_check c = {"attention_merge", m};
    tenon_attention_merge_desc d;
    TN_TRY(read_desc(&c, desc, &d));
    tn_tensor_fill_strides(&d.o);
    tn_tensor_fill_strides(&d.lse);
    TN_TRY(tn_check_address(&c, "o", &d.o, &addresses[TN_MERGE_O]));
    TN_TRY(tn_check_address(&c, "lse", &d.lse, &addresses[TN_MERGE_LSE]));
    TN_TRY(tn_check_apart(&c, "o", &d.o, addresses[TN_MERGE_O], "lse", &d.lse,
                          addresses[TN_MERGE_LSE], false));
    addresses[TN_MERGE_O_PARTS] = parts;
    addresses[TN_MERGE_LSE_PARTS] = parts + p->count;
    for (int64_t i = 0; i < p->count; ++i) {
        const part_name o_name = name_of("o_parts", i), lse_name = name_of("lse_parts", i);
        tenon_tensor o = d.o_parts[i], lse = d.lse_parts[i];
        tn_tensor_fill_strides(&o);
        tn_tensor_fill_strides(&lse);
        TN_TRY(tn_check_address(&c, o_name.text, &o, &parts[i]));
        TN_TRY(tn_check_address(&c, lse_name.text, &lse, &parts[p->count + i]));
        TN_TRY(check_apart(&c, &d, addresses, o_name.text, &o, parts[i], i == 0));
        TN_TRY(check_apart(&c, &d, addresses, lse_name.text, &lse, parts[p->count + i], false));
    }
    return TENON_OK;
}

static double operand_bytes(const tn_merge_operand *x, double elements) {
    const tn_dtype_info *type = tn_dtype_find(x->dtype);
    return type ? elements * type->bytes : 0;
}

/* A multiply-add for every element of every part, and the exponential of its weight. */
void tn_merge_cost(const tn_merge_problem *p, double *flops, double *bytes) {
    const double rows = (double)p->rows, elements = rows * (double)p->dv;
    *flops = (double)p->count * (2 * elements + 2 * rows);
    *bytes = operand_bytes(&p->o, elements) + operand_bytes(&p->lse, rows);
    for (int64_t i = 0; i < p->count; ++i)
        *bytes += operand_bytes(&p->o_part[i], elements) + operand_bytes(&p->lse_part[i], rows);
}
