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

#include <stdbool.h>

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

/* One operand, for whoever copies it. */
typedef struct tn_operand_memory {
    const char *name;           /* the field */
    const tenon_tensor *tensor; /* all strides may still be 0; NULL: the bytes as they are */
    char *address;              /* of its first element */
    int64_t low, high;          /* its reach */
    const tenon_buffer *buffer; /* NULL: host memory */
    bool output;
    /* Of a pointer array, all in host memory: `count` addresses of first elements. Else NULL. */
    const void *const *members;
    int64_t count;
} tn_operand_memory;

typedef void tn_piece(void *arg, int64_t offset, size_t bytes);

/* What dispatch asks of an operation about operands that a device can't reach; see stage.h. */
typedef struct tn_operand_calls {
    void (*describe)(const tn_placement *at, int role, tn_operand_memory *out);
    /* Calls `each` for every run of consecutive elements, with its offset from the address. */
    void (*pieces)(const tenon_tensor *tensor, tn_piece *each, void *arg);
    /* Operands beside the roles, by their number in tn_places.part; `next` is the first number at
     * or after `from`, -1: there are no more. Both NULL: there are none. */
    int (*next_part)(const tn_placement *at, int from);
    void (*describe_part)(const tn_placement *at, int number, tn_operand_memory *out);
    /* Lets the addresses by role speak of parts that have moved to `part`, by number. */
    void (*move_parts)(void **addresses, void **part);
} tn_operand_calls;

/* Most operands beside the roles. */
#define TN_MAX_PARTS (2 * TN_MERGE_MAX_PARTS)

/* What a device with memory of its own is given in place of addresses. */
typedef struct tn_places {
    tn_place operand[TN_MAX_ADDRESSES]; /* by role */
    /* Bytes from a member of a pointer array to the next: they lie side by side. */
    int64_t step[TN_MAX_ADDRESSES];
    tn_place scratch;            /* the workspace, at a multiple of 4096 */
    tn_place part[TN_MAX_PARTS]; /* of a merge: o parts, from half on lse parts */
} tn_places;

#endif
