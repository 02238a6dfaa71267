/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a merge of partial attentions means (tenon_attention_merge in include/tenon/attention.h):
 * every part has the shape of the result. Called by the entry points; reads no element of any
 * operand.
 */
#include "memory/buffer.h"
#include "ops/operands.h"
#include "ops/ops.h"

#include <stdio.h>
#include <string.h>

/* The parts are no fields but arrays of tensors: they are seen to by hand. */
#define OPERAND(...) TN_OPERAND(tenon_attention_merge_desc, __VA_ARGS__)
static const tn_operand operands[] = {
    [TN_MERGE_O] = OPERAND(o, TN_DTYPES_FLOAT, 1, TENON_MAX_RANK, TN_TENSOR_OUTPUT),
    [TN_MERGE_LSE] =
        OPERAND(lse, TN_DTYPES_WIDE, 0, TENON_MAX_RANK, TN_TENSOR_OPTIONAL | TN_TENSOR_OUTPUT),
};
const tn_form tn_merge_form = {
    .bytes = sizeof(tenon_attention_merge_desc),
    .workspace = offsetof(tenon_attention_merge_desc, workspace),
    .operands = TN_COUNT(operands),
    .operand = operands,
};

/* What a check of one part calls it: made only for a sentence. */
typedef struct part_names {
    char o[24], lse[24];
} part_names;

static part_names names_of(int64_t i) {
    part_names names;
    snprintf(names.o, sizeof names.o, "o_parts[%d]", (int)i);
    snprintf(names.lse, sizeof names.lse, "lse_parts[%d]", (int)i);
    return names;
}

static void set_operand(tn_merge_operand *operand, const tenon_tensor *t, int32_t rank,
                        bool has_step) {
    operand->dtype = t->dtype;
    for (int32_t d = 0; d < rank; ++d)
        operand->row[d] = t->stride[d];
    if (has_step)
        operand->step = t->stride[rank];
}

/*
 * The shape of o without dv; for a single row (rank 0, which has no planning form without an
 * address) also a vector of one.
 */
static tenon_status check_lse(tn_message *m, const char *field, const tenon_tensor *t,
                              const tn_merge_problem *p) {
    static const int64_t one[1] = {1};
    if (p->rank > 0 || t->rank == 0)
        return tn_check_shape(m, field, t, p->rank, p->extent, "the shape of o without dv");
    return tn_check_shape(m, field, t, 1, one, "o has one row");
}

static tenon_status check_count(tn_message *m, const tenon_attention_merge_desc *d) {
    if (d->count < 0 || d->count > TN_MERGE_MAX_PARTS)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "count is %lld, expected 0 to %d",
                       (long long)d->count, TN_MERGE_MAX_PARTS);
    if (d->count > 0 && (!d->o_parts || !d->lse_parts))
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s is NULL, expected %d tensors",
                       d->o_parts ? "lse_parts" : "o_parts", (int)d->count);
    return TENON_OK;
}

static tenon_status set_part(tn_message *m, const part_names *names,
                             const tenon_attention_merge_desc *d, int64_t i,
                             tn_merge_problem *out) {
    tenon_tensor o = d->o_parts[i], lse = d->lse_parts[i];
    TN_TRY(tn_check_tensor(m, names->o, &o, TN_DTYPES_FLOAT, 1, TENON_MAX_RANK, 0));
    TN_TRY(tn_check_shape(m, names->o, &o, d->o.rank, d->o.shape, "the shape of o"));
    TN_TRY(tn_check_tensor(m, names->lse, &lse, TN_DTYPES_WIDE, 0, TENON_MAX_RANK, 0));
    TN_TRY(check_lse(m, names->lse, &lse, out));
    set_operand(&out->o_part[i], &o, out->rank, true);
    set_operand(&out->lse_part[i], &lse, out->rank, false);
    return TENON_OK;
}

tenon_status tn_merge_problem_make(tenon_attention_merge_desc *d, tn_merge_problem *out,
                                   tn_message *m) {
    static const part_names nameless;
    memset(out, 0, sizeof *out);
    TN_TRY(check_count(m, d));
    TN_TRY(tn_operands_check(m, &tn_merge_form, d));
    out->count = d->count;
    out->rank = d->o.rank - 1;
    out->dv = d->o.shape[out->rank];
    out->rows = 1;
    for (int32_t i = 0; i < out->rank; ++i) {
        out->extent[i] = d->o.shape[i];
        out->rows *= d->o.shape[i];
    }
    set_operand(&out->o, &d->o, out->rank, true);
    if (tn_tensor_present(&d->lse)) {
        TN_TRY(check_lse(m, "lse", &d->lse, out));
        set_operand(&out->lse, &d->lse, out->rank, false);
    }
    for (int64_t i = 0; i < d->count; ++i) {
        if (set_part(NULL, &nameless, d, i, out) == TENON_OK)
            continue;
        const part_names names = names_of(i);
        return set_part(m, &names, d, i, out);
    }
    return TENON_OK;
}

bool tn_merge_writes_nothing(const tn_merge_problem *p) {
    return p->rows == 0;
}

/*
 * Where an input lies, and that it is apart from all that is written; `may_be`: the output that may
 * be the same memory, or -1.
 */
static tenon_status place_part(tn_message *m, const tn_placement *at, const char *name,
                               const tenon_tensor *part, int may_be, void **address) {
    const tenon_attention_merge_desc *d = at->desc;
    const tenon_workspace *w = &at->workspace;
    const tenon_tensor block = tenon_vector(w->memory, TENON_U8, (int64_t)w->bytes);
    tenon_tensor t = *part;
    tn_tensor_fill_strides(&t);
    TN_TRY(tn_check_address(m, name, &t, address));
    TN_TRY(tn_check_apart(m, "o", &d->o, at->addresses[TN_MERGE_O], name, &t, *address,
                          may_be == TN_MERGE_O));
    TN_TRY(tn_check_apart(m, "lse", &d->lse, at->addresses[TN_MERGE_LSE], name, &t, *address,
                          may_be == TN_MERGE_LSE));
    return tn_check_apart(m, "workspace.memory", &block, w->memory, name, &t, *address, false);
}

static tenon_status place_both(tn_message *m, const tn_placement *at, const part_names *names,
                               int64_t i, void **o, void **lse) {
    const tenon_attention_merge_desc *d = at->desc;
    TN_TRY(place_part(m, at, names->o, &d->o_parts[i], i == 0 ? TN_MERGE_O : -1, o));
    return place_part(m, at, names->lse, &d->lse_parts[i], i == 0 ? TN_MERGE_LSE : -1, lse);
}

static bool is_elsewhere(const tenon_tensor *t) {
    return t->buffer && tn_buffer_space(t->buffer);
}

tenon_status tn_merge_settle(tn_placement *at, const tn_merge_problem *p,
                             void *parts[2 * TN_MERGE_MAX_PARTS]) {
    static const part_names nameless;
    const tenon_attention_merge_desc *d = at->desc;
    TN_TRY(tn_operands_settle(at));
    at->addresses[TN_MERGE_O_PARTS] = parts;
    at->addresses[TN_MERGE_LSE_PARTS] = parts + p->count;
    for (int64_t i = 0; i < p->count; ++i) {
        void **o = &parts[i], **lse = &parts[p->count + i];
        if (place_both(NULL, at, &nameless, i, o, lse) != TENON_OK) {
            const part_names names = names_of(i);
            return place_both(at->message, at, &names, i, o, lse);
        }
        if (is_elsewhere(&d->o_parts[i]) || is_elsewhere(&d->lse_parts[i]))
            at->elsewhere |= 1u << TN_MERGE_O_PARTS;
    }
    return TENON_OK;
}

/* ---------------------------------------------------------------- copying */

/* Part number i is o_parts[i], number TN_MERGE_MAX_PARTS + i is lse_parts[i]. */
static int next_part(const tn_placement *at, int from) {
    const tenon_attention_merge_desc *d = at->desc;
    if (from < d->count)
        return from;
    if (from < TN_MERGE_MAX_PARTS)
        from = TN_MERGE_MAX_PARTS;
    return from - TN_MERGE_MAX_PARTS < d->count ? from : -1;
}

static void describe_part(const tn_placement *at, int number, tn_operand_memory *out) {
    const tenon_attention_merge_desc *d = at->desc;
    const bool is_lse = number >= TN_MERGE_MAX_PARTS;
    const int i = is_lse ? number - TN_MERGE_MAX_PARTS : number;
    const tenon_tensor *t = is_lse ? &d->lse_parts[i] : &d->o_parts[i];
    void **addresses = at->addresses[is_lse ? TN_MERGE_LSE_PARTS : TN_MERGE_O_PARTS];
    *out = (tn_operand_memory){.name = is_lse ? "lse_parts" : "o_parts",
                               .tensor = t,
                               .address = addresses[i],
                               .buffer = is_elsewhere(t) ? t->buffer : NULL};
    tenon_tensor dense = *t;
    tn_tensor_fill_strides(&dense);
    (void)tn_tensor_reach(&dense, &out->low, &out->high);
}

static void move_parts(void **addresses, void **part) {
    addresses[TN_MERGE_O_PARTS] = part;
    addresses[TN_MERGE_LSE_PARTS] = part + TN_MERGE_MAX_PARTS;
}

const tn_operand_calls tn_merge_copying = {
    .describe = tn_operand_describe,
    .pieces = tn_operand_pieces,
    .next_part = next_part,
    .describe_part = describe_part,
    .move_parts = move_parts,
};

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
