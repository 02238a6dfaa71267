/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operands that lie where a device can't reach them: host memory given to a card, a card's buffer
 * for the CPU that goes on after it, memory of another card. They are lent in place where device
 * and host share memory, else copied through the pool: right, not fast. Called by dispatch and by
 * the entry points.
 */
#ifndef TN_STAGE_H
#define TN_STAGE_H

#include "core/context.h"

/*
 * Runs `run`, which wants only its places, on a device whose memory is not the host's, or with
 * operands of which some are not in the host's. Outputs that were copied are written when all of
 * the work has succeeded, and then the call is done when this returns; if nothing had to be copied
 * or lent the work may only be queued.
 */
tenon_status tn_stage_run(tenon_context *ctx, tn_slot *slot, const tn_plan_request *request,
                          const tn_placement *at, const tn_run *run);

/* Host copies of operands, for reading before a run. */
typedef struct tn_fetched {
    void *memory; /* one allocation */
    size_t bytes;
} tn_fetched;

/*
 * Copies what of `roles` is not in host memory to the host, after the work that was queued before,
 * and puts the copies' addresses into `addresses`. Give it back with tn_stage_forget, also after a
 * failure.
 */
tenon_status tn_stage_fetch(tenon_context *ctx, const tn_placement *at, tn_roles roles,
                            const tn_operand_calls *operands, tn_fetched *fetched,
                            void **addresses);
void tn_stage_forget(tenon_context *ctx, tn_fetched *fetched);

#endif
