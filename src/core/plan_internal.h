/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plan from the inside: the problem, and the decision which device runs it and how. A decision is
 * plain data and lives on the stack where a call has to decide again (memory short, device lost)
 * without allocating.
 */
#ifndef TN_PLAN_INTERNAL_H
#define TN_PLAN_INTERNAL_H

#include "core/backend.h"
#include "core/devices.h"

#define TN_DECLINED_TEXT 1024

typedef struct tn_decision {
    tn_device_name device;
    int threads; /* workers the workspace is sized for */
    int chosen;
    int makeshift; /* memory was short: a better choice, or an earlier device, was passed over */
    int declined;  /* sentences in declined_text, one after the other, each ended by 0 */
    int declined_used; /* bytes */
    tn_choices choices;
    char declined_text[TN_DECLINED_TEXT];
} tn_decision;

/* What an operation costs, for tenon_plan_info. */
typedef struct tn_cost {
    double flops, bytes;
} tn_cost;

/* What is planned: everything that makes one plan differ from another, and with what it was
 * described. */
typedef struct tn_plan_request {
    tn_op op;
    const void *problem;
    size_t problem_bytes;
    size_t workspace_limit; /* SIZE_MAX: none */
    int empty;              /* nothing is written: no device is asked */
    /* an operand is in the layout of the device that takes this first: no later one of the chain
     * can go on */
    int bound;
    tn_cost cost;
    void (*describe)(const void *problem, char *text, size_t capacity); /* for log lines */
    /* What only the device that runs it can judge of the operands' data; NULL: nothing. */
    tenon_status (*check_on)(const tn_backend *backend, tn_device *device, const void *problem,
                             void *const *addresses, tn_message *why);
    /* How operands are copied for a device that can't reach them; NULL: they can't be. */
    const tn_operand_calls *operands;
    const void *memo; /* what the operation keeps with a plan for its runs; not compared */
    size_t memo_bytes;
    /* where in it the words begin that say the same problem in the same way; 8 bytes each, to its
     * end */
    size_t memo_words;
} tn_plan_request;

struct tenon_plan {
    tenon_allocator allocator;
    size_t bytes;            /* of this allocation */
    uint64_t hash;           /* of the request */
    uint64_t words_hash;     /* of the memo's words */
    tn_plan_request request; /* its problem and memo point to own copies, behind the struct */
    tn_decision decision;
    int patience; /* in a cache, of a makeshift: runs before it is decided anew; 0: never */
    int waited;   /* of these */
    tenon_plan *newer, *older; /* in a cache: by use */
    tenon_plan *next;          /* in a cache: same bucket */
    tenon_plan *next_said;     /* in a cache: same bucket of those that are found by their words */
};

uint64_t tn_request_hash(const tn_plan_request *request);
/* Words by which a plan is found without its problem (tn_plan_request.memo_words), for an operation
 * and its limit of workspace. */
typedef struct tn_plan_words {
    tn_op op;
    size_t workspace_limit;
    const void *words;
    size_t bytes;
} tn_plan_words;
static inline tn_plan_words tn_plan_words_of(const tn_plan_request *r) {
    return (tn_plan_words){r->op, r->workspace_limit, (const char *)r->memo + r->memo_words,
                           r->memo_bytes - r->memo_words};
}
uint64_t tn_plan_words_hash(const tn_plan_words *said);

int tn_request_equal(const tn_plan_request *a, const tn_plan_request *b);

/* Copies request and decision into one allocation. On failure *out is NULL and the message says
 * what hooks did. */
tenon_status tn_plan_make(const tenon_allocator *allocator, const tn_plan_request *request,
                          const tn_decision *decision, tn_message *message, tenon_plan **out);

#endif
