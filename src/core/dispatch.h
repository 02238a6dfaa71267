/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a checked problem to a run: which device of the chain, which algorithm, with which
 * workspace. Called by src/ops/entry.c with the context entered. Falls back by itself: to an
 * algorithm of smaller workspace while memory is short, then to the next device.
 */
#ifndef TN_DISPATCH_H
#define TN_DISPATCH_H

#include "core/context.h"

/* Plans and reserves the workspace. *out is NULL on failure. */
tenon_status tn_dispatch_plan(tenon_context *ctx, const tn_plan_request *request, tenon_plan **out);

/* Runs a plan on operands `at`, with its workspace as in the descriptor (memory NULL: from the
 * context). The problem has been compared already. */
tenon_status tn_dispatch_run(tenon_context *ctx, const tenon_plan *plan, const tn_placement *at);

/* The cached plan of a call that said the same in the same words; NULL if there is none. */
tenon_plan *tn_dispatch_recall(tenon_context *ctx, const tn_plan_words *said);

/* Runs a plan of the cache, which it then may lose; one that was made while memory was short is
 * decided anew now and then. */
tenon_status tn_dispatch_cached(tenon_context *ctx, tenon_plan *cached, const tn_placement *at);

/* Plan from the cache or made, then run. Needs no allocation that may not fail. */
tenon_status tn_dispatch_once(tenon_context *ctx, const tn_plan_request *request,
                              const tn_placement *at);

/* Runs what is not planned and takes no workspace on the context's first device. */
tenon_status tn_dispatch_unplanned(tenon_context *ctx, const tn_plan_request *request,
                                   const tn_placement *at);

#endif
