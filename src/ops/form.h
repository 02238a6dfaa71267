/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The form of a descriptor as data: its tensors in the order of the problem's roles with what each
 * may be, and its other fields. From it come the checks that all operations share (operands.h) and
 * the signature by which a run sees, without reading the descriptor anew, that it says what was
 * planned. Each operation has one, beside its meaning (op_*.c).
 */
#ifndef TN_FORM_H
#define TN_FORM_H

#include "ops/dtype.h"
#include "ops/problem.h"

#include <stdbool.h>
#include <stddef.h>

/* One tensor of a descriptor. */
typedef struct tn_operand {
    const char *name; /* the field */
    size_t offset;
    tn_dtypes dtypes;
    int32_t min_rank, max_rank;
    unsigned flags; /* TN_TENSOR_* of tensor_check.h */
    int32_t may_be; /* an output: 1 + the role that may be the same memory; 0: none may */
} tn_operand;

/* A pointer to a number of 4 or 8 bytes, NULL for a default. */
typedef struct tn_defaulted {
    uint16_t offset, bytes;
} tn_defaulted;

/*
 * A pointer to data, and the field that counts them: while the count is 0 it must be NULL to mean
 * nothing.
 */
typedef struct tn_counted {
    uint16_t offset, count;
} tn_counted;

/* Fields that are neither tensors nor addresses are told by size, since every run compares them. */
typedef struct tn_form {
    size_t bytes; /* of the descriptor */
    size_t workspace;
    int operands, defaulted, words, halves, counted;
    const tn_operand *operand;
    const tn_defaulted *defaults;
    const uint16_t *word; /* offsets of fields of 8 bytes, or of two of 4 bytes that adjoin */
    const uint16_t *half; /* of fields of 4 bytes */
    const tn_counted *counts;
} tn_form;

#define TN_OPERAND(desc, field, ...)                                                               \
    { #field, offsetof(desc, field), __VA_ARGS__ }
#define TN_DEFAULTED(desc, field)                                                                  \
    { offsetof(desc, field), sizeof(*((desc *)0)->field) }
/* An offset, of fields that have the size they should. */
#define TN_CHECKED(offset, check)                                                                  \
    ((offset) + 0 * sizeof(struct {                                                                \
                    _Static_assert(check, #check);                                                 \
                    char member;                                                                   \
                }))
#define TN_WORD(desc, field) TN_CHECKED(offsetof(desc, field), sizeof(((desc *)0)->field) == 8)
#define TN_HALF(desc, field) TN_CHECKED(offsetof(desc, field), sizeof(((desc *)0)->field) == 4)
#define TN_HALVES(desc, first, second)                                                             \
    TN_CHECKED(TN_HALF(desc, first), TN_HALF(desc, second) == offsetof(desc, first) + 4)
#define TN_COUNTED(desc, field, count)                                                             \
    { offsetof(desc, field), offsetof(desc, count) }
#define TN_COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

static inline tenon_tensor *tn_tensor_of(const tn_form *form, int role, void *desc) {
    return (tenon_tensor *)(void *)((char *)desc + form->operand[role].offset);
}

static inline const tenon_tensor *tn_tensor_in(const tn_form *form, int role, const void *desc) {
    return (const tenon_tensor *)(const void *)((const char *)desc + form->operand[role].offset);
}

/* ---------------------------------------------------------------- signatures */

/* 16 tensors of 1 + 8 + 8 words, 48 for other fields. */
#define TN_SIGNATURE_TENSORS 16
#define TN_SIGNATURE_WORDS 320

/*
 * All that a descriptor says but addresses, struct_size and workspace, as the caller put it: which
 * tensors there are, by their offsets in the descriptor, those that are absent behind them; and
 * words for the present ones and the other fields.
 */
typedef struct tn_signature {
    int32_t count; /* of words */
    int16_t present, tensors;
    uint16_t tensor[TN_SIGNATURE_TENSORS];
    uint64_t word[TN_SIGNATURE_WORDS];
} tn_signature;

/*
 * Takes the signature of a caller's descriptor. Equal signatures make equal problems; unequal ones
 * may still (strides left zero or written out).
 *
 * False for what only a full reading can judge: struct_size of another release, ranks or offsets
 * out of range, an address whose count is 0.
 */
bool tn_signature_take(const tn_form *form, const void *desc, tn_signature *out);

/*
 * Whether a descriptor has this signature: as taking its own and comparing the two, but several
 * times as fast, as every run does it.
 */
bool tn_signature_said(const tn_form *form, const void *desc, const tn_signature *signature);

static inline size_t tn_signature_bytes(const tn_signature *s) {
    return offsetof(tn_signature, word) + (size_t)s->count * sizeof s->word[0];
}

#endif
