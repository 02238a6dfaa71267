/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of one call's operands, as operations settle it (ops/operands.h) and dispatch hands it
 * to devices: an address for each role and, for what is not the host's memory, the buffer that says
 * whose it is.
 */
#ifndef TN_PLACES_H
#define TN_PLACES_H

#include "core/message.h"
#include "memory/space.h"
#include "ops/problem.h"

#include <tenon/plan.h>

/* A set of roles: bit r for role r. */
typedef uint32_t tn_roles;

/* Takes the lowest role out of a set that is not empty. */
static inline int tn_next_role(tn_roles *roles) {
    const int role = __builtin_ctz(*roles);
    *roles &= *roles - 1;
    return role;
}

/*
 * The bytes of an operand, from its address: from `low` (below 0 where strides are negative) up to
 * `high`; equal if it has no elements.
 */
typedef struct tn_reach {
    int64_t low, high;
    int64_t alignment; /* of its address */
} tn_reach;

/* What is known of a descriptor's operands before their addresses. */
typedef struct tn_reaches {
    tn_roles present, outputs; /* of the present ones */
    tn_reach of[TN_MAX_ADDRESSES];
} tn_reaches;

/* One call's memory. */
typedef struct tn_placement {
    tn_message *message;
    const struct tn_form *form;
    const void *desc; /* checked, or of the same signature; all strides may still be 0 */
    const tn_reaches *reaches;
    tenon_workspace workspace;
    void **addresses;             /* by role, out; NULL where there is none */
    const tenon_buffer **buffers; /* by role, out; of those in `elsewhere` alone */
    tn_roles placed;              /* those that have an address, out */
    tn_roles elsewhere;           /* those whose memory is not the host's, out */
} tn_placement;

/* What dispatch asks of an operation about operands that it has to copy; see operands.h. */
typedef void tn_piece(void *arg, int64_t offset, size_t bytes);
typedef struct tn_operand_calls {
    const char *(*name)(const tn_placement *at, int role);
    /* Calls `each` for every run of consecutive elements, with its offset from the address. */
    void (*pieces)(const tn_placement *at, int role, tn_piece *each, void *arg);
} tn_operand_calls;

/* What a device with memory of its own is given in place of addresses. */
typedef struct tn_places {
    tn_place operand[TN_MAX_ADDRESSES];    /* by role */
    tn_place scratch;                      /* the workspace, at a multiple of 4096 */
    tn_place part[2 * TN_MERGE_MAX_PARTS]; /* of a merge: o parts, from half on lse parts */
} tn_places;

#endif
