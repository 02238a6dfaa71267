/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The members of a pointer-array product: that every address is good, and that each member of c is
 * apart from every other member and from all else that is read. Called by op_gemm.c in every run,
 * so the good path costs a few nanoseconds a member and nothing is allocated; names are made for a
 * sentence only.
 *
 * Ranges of whole arrays decide first, then the members of c in the order of their addresses. If
 * c_array does not ascend, that order is made on the stack for STRETCH consecutive members at a
 * time, and members of different stretches are not compared. In memory a member is compared with
 * the NEAR that follow it.
 */
#include "ops/operands.h"
#include "ops/ops.h"

#include <stdio.h>
#include <string.h>

enum {
    STRETCH = 1024, /* 8 KB of stack */
    NEAR = 1024,
    DISTANCE_BITS = 6
};

typedef struct members {
    const char *field;
    const void *const *at;
    int64_t count;
    tenon_tensor tensor; /* of each, with strides */
    const tn_reach *reach;
    uintptr_t first, last; /* lowest and highest address */
} members;

/*
 * Distances at which two layouts have been found apart: members of one array repeat a few of them.
 * Direct-mapped; 0 stands for none.
 */
typedef struct distances {
    uintptr_t at[1 << DISTANCE_BITS];
} distances;

/* Members of c in ascending order of address: c_array itself, or a stretch of it. */
typedef struct ordered {
    const void *const *at;
    int64_t count;
} ordered;

/* "a_array[12]" */
typedef struct member_name {
    char text[40];
} member_name;

static member_name name_of(const members *x, int64_t index) {
    member_name name;
    snprintf(name.text, sizeof name.text, "%s[%lld]", x->field, (long long)index);
    return name;
}

/* The number of the member at an address, the first one behind number `after`. */
static int64_t number_of(const members *x, const void *address, int64_t after) {
    int64_t i = after + 1;
    while (i < x->count - 1 && x->at[i] != address)
        ++i;
    return i;
}

/* ---------------------------------------------------------------- addresses */

static tenon_status refuse_address(tn_message *m, const members *x, int64_t index) {
    const member_name name = name_of(x, index);
    tenon_tensor t = x->tensor;
    void *address;
    t.data = (void *)(uintptr_t)x->at[index];
    return tn_check_address(m, name.text, &t, &address);
}

static tenon_status check_addresses(tn_message *m, members *x) {
    const uintptr_t odd = (uintptr_t)(x->reach->alignment - 1), below = (uintptr_t)-x->reach->low,
                    above = UINTPTR_MAX - (uintptr_t)x->reach->high;
    const bool nothing = x->reach->low == x->reach->high;
    x->first = UINTPTR_MAX;
    x->last = 0;
    for (int64_t i = 0; i < x->count; ++i) {
        const uintptr_t start = (uintptr_t)x->at[i];
        if ((start == 0 && !nothing) || (start & odd) != 0 || start < below || start > above)
            TN_TRY(refuse_address(m, x, i));
        x->first = start < x->first ? start : x->first;
        x->last = start > x->last ? start : x->last;
    }
    return TENON_OK;
}

static tenon_status take(const tn_placement *p, int role, const void *const *array, int64_t count,
                         members *out) {
    static const char *const fields[] = {"a_array", "b_array", "c_array"};
    tn_message *m = p->message;
    const tenon_tensor *t = tn_tensor_in(p->form, role, p->desc);
    *out = (members){.field = fields[role],
                     .at = array,
                     .count = count,
                     .tensor = *t,
                     .reach = &p->reaches->of[role]};
    if (t->data || t->buffer)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s.data is %p, expected NULL beside pointer arrays",
                       p->form->operand[role].name, t->data);
    if (t->offset != 0)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT,
                       "%s.offset is %zu, expected 0 beside pointer arrays",
                       p->form->operand[role].name, t->offset);
    if (!array && count > 0)
        return tn_fail(m, TENON_ERROR_INVALID_ARGUMENT, "%s is NULL, expected %lld addresses",
                       out->field, (long long)count);
    tn_tensor_fill_strides(&out->tensor);
    p->addresses[role] = (void *)(uintptr_t)array;
    return check_addresses(m, out);
}

/* ---------------------------------------------------------------- order */

static bool ascends(const members *x) {
    for (int64_t i = 1; i < x->count; ++i)
        if ((uintptr_t)x->at[i] <= (uintptr_t)x->at[i - 1])
            return false;
    return true;
}

/*
 * Shell's sort with Ciura's gaps (2001): in place, without calls, quick on what is nearly in order.
 */
static void sort(const void **at, int64_t count) {
    static const int64_t gaps[] = {701, 301, 132, 57, 23, 10, 4, 1};
    for (size_t g = 0; g < sizeof gaps / sizeof gaps[0]; ++g)
        for (int64_t i = gaps[g]; i < count; ++i) {
            const void *moved = at[i];
            int64_t to = i;
            for (; to >= gaps[g] && (uintptr_t)at[to - gaps[g]] > (uintptr_t)moved; to -= gaps[g])
                at[to] = at[to - gaps[g]];
            at[to] = moved;
        }
}

/*
 * The first of `c` above an address. Members that were allocated in turn follow each other: the
 * last answer and the next are tried first.
 */
static int64_t first_above(const ordered *c, uintptr_t address, int64_t hint) {
    int64_t low = 0, high = c->count;
    for (int64_t i = hint; i < high && i <= hint + 1; ++i)
        if ((uintptr_t)c->at[i] > address && (i == 0 || (uintptr_t)c->at[i - 1] <= address))
            return i;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if ((uintptr_t)c->at[middle] <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---------------------------------------------------------------- overlap */

/* Something that members of c must be apart from. */
typedef struct neighbour {
    const tenon_tensor *tensor;
    const tn_reach *reach;
    bool may_be_same;
    int64_t hint;    /* where in the order the last one was found */
    distances known; /* at which this layout is apart from c's */
} neighbour;

/* A member of c against a neighbour at an address, their ranges having bytes in common. */
static bool is_apart(const members *c, const void *member, neighbour *x, const void *address) {
    const uintptr_t distance = (uintptr_t)address - (uintptr_t)member,
                    hash = distance * (uintptr_t)0x9e3779b97f4a7c15u;
    uintptr_t *known = &x->known.at[hash >> (sizeof hash * 8 - DISTANCE_BITS)];
    if (distance != 0 && *known == distance)
        return true;
    if (tn_check_apart(NULL, c->field, &c->tensor, member, "", x->tensor, address,
                       x->may_be_same) != TENON_OK)
        return false;
    *known = distance;
    return true;
}

/*
 * A member of c, as far as `o` holds them, that shares memory with a neighbour at `address`; NULL
 * if none does.
 */
static const void *sharing(const members *c, const ordered *o, neighbour *x, const void *address) {
    const uintptr_t low = (uintptr_t)address + (uintptr_t)x->reach->low,
                    high = (uintptr_t)address + (uintptr_t)x->reach->high,
                    up = (uintptr_t)c->reach->high, down = (uintptr_t)c->reach->low;
    const int64_t from = low < up ? 0 : first_above(o, low - up, x->hint);
    x->hint = from;
    for (int64_t i = from; i < o->count && i < from + NEAR; ++i) {
        if ((uintptr_t)o->at[i] + down >= high)
            break;
        if (!is_apart(c, o->at[i], x, address))
            return o->at[i];
    }
    return NULL;
}

static tenon_status refuse(tn_message *m, const members *c, const void *member, const char *field,
                           const neighbour *x, const void *address) {
    const member_name name = name_of(c, number_of(c, member, -1));
    return tn_check_apart(m, name.text, &c->tensor, member, field, x->tensor, address,
                          x->may_be_same);
}

static tenon_status check_among(tn_message *m, const members *c, const ordered *o) {
    const uintptr_t span = (uintptr_t)(c->reach->high - c->reach->low);
    neighbour x = {.tensor = &c->tensor, .reach = c->reach};
    for (int64_t i = 0; i + 1 < o->count; ++i) {
        for (int64_t j = i + 1; j < o->count && j <= i + NEAR; ++j) {
            if ((uintptr_t)o->at[j] - (uintptr_t)o->at[i] >= span)
                break;
            if (is_apart(c, o->at[i], &x, o->at[j]))
                continue;
            const int64_t first = number_of(c, o->at[i], -1),
                          after = o->at[i] == o->at[j] ? first : -1;
            const member_name name = name_of(c, number_of(c, o->at[j], after));
            return refuse(m, c, o->at[i], name.text, &x, o->at[j]);
        }
    }
    return TENON_OK;
}

/* Members `from` to `to` of a or b. */
static tenon_status check_inputs(tn_message *m, const members *c, const ordered *o,
                                 const members *inputs, int64_t from, int64_t to) {
    neighbour x = {.tensor = &inputs->tensor, .reach = inputs->reach};
    for (int64_t i = from; i < to; ++i) {
        const void *member = sharing(c, o, &x, inputs->at[i]);
        if (member) {
            const member_name name = name_of(inputs, i);
            return refuse(m, c, member, name.text, &x, inputs->at[i]);
        }
    }
    return TENON_OK;
}

/* Everything that is one tensor for all members: bias, residual, scales. */
static tenon_status check_operands(const tn_placement *p, const members *c, const ordered *o) {
    for (int role = TN_GEMM_BIAS; role < p->form->operands; ++role) {
        tenon_tensor t = *tn_tensor_in(p->form, role, p->desc);
        neighbour x = {.tensor = &t,
                       .reach = &p->reaches->of[role],
                       .may_be_same = role == TN_GEMM_RESIDUAL && c->count == 1};
        if (!p->addresses[role])
            continue;
        tn_tensor_fill_strides(&t);
        const void *member = sharing(c, o, &x, p->addresses[role]);
        if (member)
            return refuse(p->message, c, member, p->form->operand[role].name, &x,
                          p->addresses[role]);
    }
    return TENON_OK;
}

/*
 * Members of any array against a block that is written, or that c's members must not be written
 * over.
 */
static tenon_status check_block(tn_message *m, const members *x, const char *field,
                                const void *block, size_t bytes) {
    const uintptr_t start = (uintptr_t)block, end = start + bytes, low = (uintptr_t)x->reach->low,
                    high = (uintptr_t)x->reach->high;
    const tenon_tensor t = tenon_vector(block, TENON_U8, (int64_t)bytes);
    if (bytes == 0 || x->count == 0 || x->first + low >= end || x->last + high <= start)
        return TENON_OK;
    for (int64_t i = 0; i < x->count; ++i) {
        const uintptr_t member = (uintptr_t)x->at[i];
        if (member + low >= end || member + high <= start)
            continue;
        const member_name name = name_of(x, i);
        TN_TRY(tn_check_apart(m, field, &t, block, name.text, &x->tensor, x->at[i], false));
    }
    return TENON_OK;
}

static bool arrays_meet(const members *c, const members *x) {
    return c->last + (uintptr_t)c->reach->high > x->first + (uintptr_t)x->reach->low &&
           x->last + (uintptr_t)x->reach->high > c->first + (uintptr_t)c->reach->low;
}

/*
 * c's members `from` to `to`, which `o` has in order, against each other and all that is read
 * beside them.
 */
static tenon_status check_stretch(const tn_placement *p, const members array[3], const ordered *o,
                                  int64_t from, int64_t to) {
    const members *c = &array[TN_GEMM_C];
    TN_TRY(check_among(p->message, c, o));
    for (int role = TN_GEMM_A; role <= TN_GEMM_B; ++role)
        if (arrays_meet(c, &array[role]))
            TN_TRY(check_inputs(p->message, c, o, &array[role], from, to));
    return check_operands(p, c, o);
}

static tenon_status check_overlap(const tn_placement *p, const members array[3]) {
    const members *c = &array[TN_GEMM_C];
    if (ascends(c)) {
        const ordered all = {c->at, c->count};
        return check_stretch(p, array, &all, 0, c->count);
    }
    const void *sorted[STRETCH];
    for (int64_t from = 0; from < c->count; from += STRETCH) {
        const int64_t to = from + STRETCH < c->count ? from + STRETCH : c->count;
        const ordered o = {sorted, to - from};
        memcpy(sorted, c->at + from, (size_t)o.count * sizeof *sorted);
        sort(sorted, o.count);
        TN_TRY(check_stretch(p, array, &o, from, to));
    }
    return TENON_OK;
}

tenon_status tn_gemm_settle_arrays(const tn_placement *p) {
    const tenon_gemm_desc *g = p->desc;
    const void *const *const given[3] = {g->a_array, g->b_array, (const void *const *)g->c_array};
    const size_t bytes = (size_t)g->array_count * sizeof(void *);
    members array[3];
    for (int role = TN_GEMM_A; role <= TN_GEMM_C; ++role)
        TN_TRY(take(p, role, given[role], g->array_count, &array[role]));
    const members *c = &array[TN_GEMM_C];
    if (c->count == 0 || c->reach->low == c->reach->high)
        return TENON_OK;
    for (int role = TN_GEMM_A; role <= TN_GEMM_C; ++role) {
        TN_TRY(check_block(p->message, &array[role], "workspace.memory", p->workspace.memory,
                           p->workspace.memory ? p->workspace.bytes : 0));
        TN_TRY(check_block(p->message, c, array[role].field, given[role], bytes));
    }
    return check_overlap(p, array);
}
