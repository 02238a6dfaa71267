/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of a call's tensors, by the table in the descriptor's form: where each lies, and that
 * nothing a call writes shares memory with anything else of it. What is particular (pointer arrays,
 * packed B, the parts of a merge) stays with the operations.
 */
#ifndef TN_OPERANDS_H
#define TN_OPERANDS_H

#include "core/places.h"
#include "ops/form.h"
#include "ops/tensor_check.h"

/* Each tensor for itself: tn_check_tensor by the table. Dense strides are filled in. */
tenon_status tn_operands_check(tn_message *m, const tn_form *form, void *desc);

/* What each covers. The tensors have been checked. */
void tn_operands_reach(const tn_form *form, const void *desc, tn_reaches *out);

/*
 * Addresses of all operands, as tn_check_address, but for the roles in `without`: they have none of
 * their own.
 */
tenon_status tn_operands_place(tn_placement *p, tn_roles without);

/*
 * Refuses outputs that share memory with another operand, and a workspace that shares memory with
 * any (tn_check_apart).
 *
 * Ranges of bytes decide nearly always; layouts are looked at only where the ranges meet.
 */
tenon_status tn_operands_apart(const tn_placement *p);

/*
 * Refuses operands of `roles` that share memory with `bytes` bytes at `address`, the field `name`.
 */
tenon_status tn_operands_avoid(const tn_placement *p, tn_roles roles, const char *name,
                               const void *address, size_t bytes);

/* Refuses two blocks of memory, neither of them an operand, that overlap. */
tenon_status tn_blocks_apart(tn_message *m, const char *a_name, const void *a, size_t a_bytes,
                             const char *b_name, const void *b, size_t b_bytes);

/* Both for an operation that has nothing of its own: tn_operands_place, tn_operands_apart. */
tenon_status tn_operands_settle(tn_placement *p);

/* How dispatch copies operands of descriptors that have a form. */
extern const tn_operand_calls tn_operand_copying;
void tn_operand_describe(const tn_placement *at, int role, tn_operand_memory *out);
void tn_operand_pieces(const tenon_tensor *tensor, tn_piece *each, void *arg);

#endif
