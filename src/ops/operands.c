/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of operands; see operands.h. The good path works on precomputed reaches; every doubt goes
 * to tensor_check.c, which decides and words the sentence.
 */
#include "ops/operands.h"

#include "memory/buffer.h"

#include <string.h>

tenon_status tn_operands_check(tn_message *m, const tn_form *form, void *desc) {
    for (int role = 0; role < form->operands; ++role) {
        const tn_operand *o = &form->operand[role];
        TN_TRY(tn_check_tensor(m, o->name, tn_tensor_of(form, role, desc), o->dtypes, o->min_rank,
                               o->max_rank, o->flags));
    }
    return TENON_OK;
}

void tn_operands_reach(const tn_form *form, const void *desc, tn_reaches *out) {
    out->present = out->outputs = 0;
    for (int role = 0; role < form->operands; ++role) {
        const tenon_tensor *t = tn_tensor_in(form, role, desc);
        tn_reach *r = &out->of[role];
        *r = (tn_reach){0};
        if (!tn_tensor_present(t))
            continue;
        r->alignment = tn_tensor_reach(t, &r->low, &r->high);
        out->present |= 1u << role;
        if (form->operand[role].flags & TN_TENSOR_OUTPUT)
            out->outputs |= 1u << role;
    }
}

/* ---------------------------------------------------------------- addresses */

/* The address of what is plainly good: no buffer, aligned, inside the address space. */
static inline void *plain_address(const tenon_tensor *t, const tn_reach *r) {
    const uintptr_t data = (uintptr_t)t->data, start = data + t->offset;
    if (t->buffer || !data || start < data || (start & (uintptr_t)(r->alignment - 1)) != 0 ||
        start < (uintptr_t)-r->low || start > UINTPTR_MAX - (uintptr_t)r->high)
        return NULL;
    return (char *)t->data + t->offset;
}

static tenon_tensor with_strides(const tenon_tensor *t) {
    tenon_tensor dense = *t;
    tn_tensor_fill_strides(&dense);
    return dense;
}

/* Out of line, as are the other doubts: their copies of tensors would be the good path's burden. */
static __attribute__((noinline)) tenon_status doubtful_address(tn_placement *p, int role,
                                                               void **address) {
    const tenon_tensor *t = tn_tensor_in(p->form, role, p->desc);
    const tenon_tensor dense = with_strides(t);
    TN_TRY(tn_check_address(p->message, p->form->operand[role].name, &dense, address));
    if (*address && t->buffer && tn_buffer_space(t->buffer)) {
        p->buffers[role] = t->buffer;
        p->elsewhere |= 1u << role;
    }
    return TENON_OK;
}

TN_HOT tenon_status tn_operands_place(tn_placement *p, tn_roles without) {
    const tn_form *form = p->form;
    const tn_reaches *reaches = p->reaches;
    const void *desc = p->desc;
    void **addresses = p->addresses;
    tn_roles left = reaches->present & ~without, placed = left;
    memset(addresses, 0, (size_t)form->operands * sizeof *addresses);
    p->elsewhere = 0;
    while (left) {
        const int role = tn_next_role(&left);
        void *address = plain_address(tn_tensor_in(form, role, desc), &reaches->of[role]);
        if (!address) {
            TN_TRY(doubtful_address(p, role, &address));
            if (!address)
                placed &= ~(1u << role);
        }
        addresses[role] = address;
    }
    p->placed = placed;
    return TENON_OK;
}

/* ---------------------------------------------------------------- overlap */

/* Whether the ranges of two operands have bytes in common. Both lie inside the address space. */
static inline bool ranges_meet(const void *a, const tn_reach *ra, const void *b,
                               const tn_reach *rb) {
    return (uintptr_t)a + (uintptr_t)ra->high > (uintptr_t)b + (uintptr_t)rb->low &&
           (uintptr_t)b + (uintptr_t)rb->high > (uintptr_t)a + (uintptr_t)ra->low;
}

/* Two operands whose ranges meet. */
static __attribute__((noinline)) tenon_status check_pair(const tn_placement *p, int out,
                                                         int other) {
    const tn_operand *o = &p->form->operand[out];
    const tenon_tensor a = with_strides(tn_tensor_in(p->form, out, p->desc)),
                       b = with_strides(tn_tensor_in(p->form, other, p->desc));
    return tn_check_apart(p->message, o->name, &a, p->addresses[out], p->form->operand[other].name,
                          &b, p->addresses[other], o->may_be == other + 1);
}

tenon_status tn_operands_avoid(const tn_placement *p, tn_roles roles, const char *name,
                               const void *address, size_t bytes) {
    const tn_reach block = {.high = (int64_t)bytes};
    const tenon_tensor whole = tenon_vector(address, TENON_U8, (int64_t)bytes);
    roles &= p->placed;
    while (roles) {
        const int role = tn_next_role(&roles);
        if (!ranges_meet(address, &block, p->addresses[role], &p->reaches->of[role]))
            continue;
        const tenon_tensor t = with_strides(tn_tensor_in(p->form, role, p->desc));
        TN_TRY(tn_check_apart(p->message, name, &whole, address, p->form->operand[role].name, &t,
                              p->addresses[role], false));
    }
    return TENON_OK;
}

tenon_status tn_blocks_apart(tn_message *m, const char *a_name, const void *a, size_t a_bytes,
                             const char *b_name, const void *b, size_t b_bytes) {
    const tenon_tensor ta = tenon_vector(a, TENON_U8, (int64_t)a_bytes),
                       tb = tenon_vector(b, TENON_U8, (int64_t)b_bytes);
    return tn_check_apart(m, a_name, &ta, a, b_name, &tb, b, false);
}

TN_HOT tenon_status tn_operands_apart(const tn_placement *p) {
    tn_roles outputs = p->reaches->outputs & p->placed, others = p->placed;
    while (outputs) {
        const int out = tn_next_role(&outputs);
        others &= ~(1u << out); /* a pair of outputs is looked at once */
        for (tn_roles left = others; left;) {
            const int other = tn_next_role(&left);
            if (ranges_meet(p->addresses[out], &p->reaches->of[out], p->addresses[other],
                            &p->reaches->of[other]))
                TN_TRY(check_pair(p, out, other));
        }
    }
    if (!p->workspace.memory)
        return TENON_OK;
    return tn_operands_avoid(p, p->placed, "workspace.memory", p->workspace.memory,
                             p->workspace.bytes);
}

tenon_status tn_operands_settle(tn_placement *p) {
    TN_TRY(tn_operands_place(p, 0));
    return tn_operands_apart(p);
}

/* ---------------------------------------------------------------- copying */

void tn_operand_describe(const tn_placement *at, int role, tn_operand_memory *out) {
    const tn_reach *reach = &at->reaches->of[role];
    *out = (tn_operand_memory){
        .name = at->form->operand[role].name,
        .tensor = tn_tensor_in(at->form, role, at->desc),
        .address = at->addresses[role],
        .low = reach->low,
        .high = reach->high,
        .buffer = at->elsewhere >> role & 1 ? at->buffers[role] : NULL,
        .output = at->reaches->outputs >> role & 1,
    };
}

/*
 * A tensor's dimensions that hold more than one element each, the one with the smallest stride
 * last, so that runs are as long as the memory has them.
 */
typedef struct runs {
    int32_t rank;
    int64_t extent[TENON_MAX_RANK], step[TENON_MAX_RANK]; /* bytes */
    int64_t bytes;                                        /* of a run */
} runs;

static int64_t magnitude(int64_t value) {
    return value < 0 ? -value : value;
}

static void add_dimension(runs *r, int64_t extent, int64_t step) {
    int32_t d = r->rank++;
    for (; d > 0 && magnitude(r->step[d - 1]) < magnitude(step); --d) {
        r->extent[d] = r->extent[d - 1];
        r->step[d] = r->step[d - 1];
    }
    r->extent[d] = extent;
    r->step[d] = step;
}

/* Blocks of several elements lie along the one dimension of stride 1, whole (check_blocks). */
static runs runs_of(const tenon_tensor *t) {
    const tn_dtype_info *type = tn_dtype_find(t->dtype);
    runs r = {.bytes = type->bytes};
    for (int32_t d = 0; d < t->rank; ++d) {
        const int64_t of = t->stride[d] == 1 ? type->elements : 1;
        if (t->shape[d] / of > 1 && t->stride[d] != 0)
            add_dimension(&r, t->shape[d] / of, t->stride[d] * of / type->elements * type->bytes);
    }
    while (r.rank > 0 && r.step[r.rank - 1] == r.bytes)
        r.bytes *= r.extent[--r.rank];
    return r;
}

void tn_operand_pieces(const tenon_tensor *tensor, tn_piece *each, void *arg) {
    const tenon_tensor t = with_strides(tensor);
    if (tn_tensor_empty(&t))
        return;
    const runs r = runs_of(&t);
    int64_t index[TENON_MAX_RANK] = {0}, offset = 0;
    for (;;) {
        each(arg, offset, (size_t)r.bytes);
        int32_t d = r.rank - 1;
        for (; d >= 0; --d) {
            offset += r.step[d];
            if (++index[d] < r.extent[d])
                break;
            offset -= r.step[d] * r.extent[d];
            index[d] = 0;
        }
        if (d < 0)
            return;
    }
}

const tn_operand_calls tn_operand_copying = {.describe = tn_operand_describe,
                                             .pieces = tn_operand_pieces};
