/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signatures of descriptors; see form.h. Taken in every run, so nothing here loops over more than
 * the descriptor really says.
 */
#include "ops/form.h"

#include "ops/tensor_check.h"

#include <string.h>

/*
 * One word for what a tensor is, then extents and strides. NULL if only a full reading can judge
 * it.
 */
static uint64_t *add_tensor(const tenon_tensor *t, uint64_t *word) {
    const uint32_t rank = (uint32_t)t->rank;
    if (!tn_tensor_present(t)) {
        *word++ = 0;
        return word;
    }
    if (rank > TENON_MAX_RANK || t->offset > TN_MAX_OFFSET)
        return NULL;
    *word++ = UINT64_C(1) << 63 | (uint64_t)rank << 32 | (uint32_t)t->dtype;
    for (uint32_t d = 0; d < rank; ++d) {
        word[d] = (uint64_t)t->shape[d];
        word[rank + d] = (uint64_t)t->stride[d];
    }
    return word + 2 * rank;
}

static uint64_t value_at(const void *field, uint32_t bytes) {
    uint64_t wide = 0;
    uint32_t narrow;
    if (bytes == sizeof wide) {
        memcpy(&wide, field, sizeof wide);
        return wide;
    }
    memcpy(&narrow, field, sizeof narrow);
    return narrow;
}

bool tn_signature_take(const tn_form *form, const void *desc, tn_signature *out) {
    const char *bytes = desc;
    uint64_t *word = out->word;
    size_t given;

    if (!desc || (uintptr_t)desc % sizeof(void *) != 0)
        return false;
    memcpy(&given, desc, sizeof given);
    if (given != 0 && given != form->bytes)
        return false;
    for (int role = 0; role < form->operands; ++role) {
        word = add_tensor(tn_tensor_in(form, role, desc), word);
        if (!word)
            return false;
    }
    for (int i = 0; i < form->scalars; ++i) {
        const tn_scalar *s = &form->scalar[i];
        const void *field = bytes + s->offset;
        if (s->kind == TN_POINTER) {
            memcpy(&field, field, sizeof field);
            *word++ = field != NULL;
            if (!field)
                continue;
        }
        *word++ = value_at(field, s->bytes);
    }
    for (int i = 0; i < form->counted; ++i)
        if (value_at(bytes + form->counts[i].count, 8) == 0 &&
            value_at(bytes + form->counts[i].offset, sizeof(void *)) != 0)
            return false;
    out->count = (int32_t)(word - out->word);
    out->reserved = 0;
    return true;
}
