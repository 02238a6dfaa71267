/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signatures of descriptors; see form.h. Compared in every run, so nothing here loops over more
 * than the descriptor really says.
 */
#include "ops/form.h"

#include "ops/tensor_check.h"

#include <string.h>

static uint64_t word_at(const void *field) {
    uint64_t word;
    memcpy(&word, field, sizeof word);
    return word;
}

static uint32_t half_at(const void *field) {
    uint32_t half;
    memcpy(&half, field, sizeof half);
    return half;
}

/* What a tensor is, beside extents and strides. */
static uint64_t kind_of(const tenon_tensor *t) {
    _Static_assert(offsetof(tenon_tensor, rank) == offsetof(tenon_tensor, dtype) + 4,
                   "type and rank are one word");
    return word_at(&t->dtype);
}

static uint64_t number_at(const void *field, uint16_t bytes) {
    return bytes == 8 ? word_at(field) : half_at(field);
}

static const void *pointer_at(const void *field) {
    const void *pointer;
    memcpy(&pointer, field, sizeof pointer);
    return pointer;
}

/* Whether there is an address whose count is 0. */
static bool counts_nothing(const tn_form *form, const char *bytes) {
    for (const tn_counted *c = form->counts, *after = c + form->counted; c < after; ++c)
        if (pointer_at(bytes + c->offset) && word_at(bytes + c->count) == 0)
            return true;
    return false;
}

/* Whether the descriptor is one of this release, in memory where it may be read. */
static bool is_plain(const tn_form *form, const void *desc) {
    size_t given;
    if (!desc || (uintptr_t)desc % sizeof(void *) != 0)
        return false;
    memcpy(&given, desc, sizeof given);
    return given == 0 || given == form->bytes;
}

static const tenon_tensor *tensor_at(const char *bytes, size_t offset) {
    return (const tenon_tensor *)(const void *)(bytes + offset);
}

bool tn_signature_take(const tn_form *form, const void *desc, tn_signature *out) {
    const char *bytes = desc;
    uint64_t *word = out->word;
    int present = 0, absent = form->operands;

    if (!is_plain(form, desc))
        return false;
    memset(out, 0, offsetof(tn_signature, word));
    for (int role = form->operands - 1; role >= 0; --role) {
        const size_t offset = form->operand[role].offset;
        if (!tn_tensor_present(tensor_at(bytes, offset)))
            out->tensor[--absent] = (uint16_t)offset;
    }
    for (int role = 0; role < form->operands; ++role) {
        const size_t offset = form->operand[role].offset;
        const tenon_tensor *t = tensor_at(bytes, offset);
        const uint32_t rank = (uint32_t)t->rank;
        if (!tn_tensor_present(t))
            continue;
        if (rank > TENON_MAX_RANK || t->offset > TN_MAX_OFFSET)
            return false;
        out->tensor[present++] = (uint16_t)offset;
        *word++ = kind_of(t);
        for (uint32_t d = 0; d < rank; ++d) {
            *word++ = (uint64_t)t->shape[d];
            *word++ = (uint64_t)t->stride[d];
        }
    }
    for (int i = 0; i < form->defaulted; ++i) {
        const void *number = pointer_at(bytes + form->defaults[i].offset);
        *word++ = number != NULL;
        if (number)
            *word++ = number_at(number, form->defaults[i].bytes);
    }
    for (int i = 0; i < form->words; ++i)
        *word++ = word_at(bytes + form->word[i]);
    for (int i = 0; i < form->halves; ++i)
        *word++ = half_at(bytes + form->half[i]);
    if (counts_nothing(form, bytes))
        return false;
    out->count = (int32_t)(word - out->word);
    out->present = (int16_t)present;
    out->tensors = (int16_t)form->operands;
    return true;
}

/* Each difference ends it at once, so that no compiler makes vectors of loops that turn twice. */
TN_HOT bool tn_signature_said(const tn_form *form, const void *desc,
                              const tn_signature *signature) {
    const char *bytes = desc;
    const uint64_t *word = signature->word;
    const uint16_t *at = signature->tensor, *present = at + signature->present,
                   *end = at + signature->tensors;

    if (!is_plain(form, desc))
        return false;
    for (; at < present; ++at) {
        const tenon_tensor *t = tensor_at(bytes, *at);
        if (kind_of(t) != *word++ || t->offset > TN_MAX_OFFSET || !tn_tensor_present(t))
            return false;
        const int64_t *shape = t->shape, *stride = t->stride, *last = shape + t->rank;
        for (; shape < last; ++shape, ++stride, word += 2)
            if (word[0] != (uint64_t)*shape || word[1] != (uint64_t)*stride)
                return false;
    }
    for (; at < end; ++at) {
        const tenon_tensor *t = tensor_at(bytes, *at);
        if (((uintptr_t)t->data | (uintptr_t)t->buffer | (uint32_t)t->rank) != 0)
            return false;
    }
    for (const tn_defaulted *d = form->defaults, *after = d + form->defaulted; d < after; ++d) {
        const void *number = pointer_at(bytes + d->offset);
        if (*word++ != (number != NULL) || (number && *word++ != number_at(number, d->bytes)))
            return false;
    }
    for (const uint16_t *w = form->word, *after = w + form->words; w < after; ++w)
        if (*word++ != word_at(bytes + *w))
            return false;
    for (const uint16_t *h = form->half, *after = h + form->halves; h < after; ++h)
        if (*word++ != half_at(bytes + *h))
            return false;
    return !counts_nothing(form, bytes);
}
