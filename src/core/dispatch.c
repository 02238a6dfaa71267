/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decisions and their execution. A decision is made by asking the devices of the chain in order and
 * walking a device's choices until one's workspace can be had (rungs 4 and 6 of the ladder in
 * memory.h; the pool climbs 1 to 3 itself). Everything here works on the stack; only keeping a plan
 * allocates, and a one-shot call does without.
 */
#include "core/dispatch.h"

#include "core/stage.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- deciding */

/*
 * Leaves a call: a pool that refused its workspace learns here that nothing else helped, and not
 * before, so that it counts and tells what the caller gets.
 */
static tenon_status answer(tenon_context *ctx, tenon_status status) {
    if (ctx->refuser && (status == TENON_ERROR_OUT_OF_MEMORY || status == TENON_ERROR_OVER_BUDGET))
        tn_pool_refused(ctx->refuser, ctx->refused, &ctx->message);
    ctx->refuser = NULL;
    return status;
}

static void add_declined(tn_decision *decision, const char *device, const char *reason) {
    const int left = TN_DECLINED_TEXT - decision->declined_used;
    if (left < 2)
        return;
    const int n = snprintf(decision->declined_text + decision->declined_used, (size_t)left,
                           "%s: declined because %s", device, reason);
    if (n < 0)
        return;
    decision->declined_used += (n < left ? n : left - 1) + 1;
    decision->declined++;
}

/*
 * The first choice from number `first` on whose workspace is within the limit and can be reserved
 * now; with `borrowed` the caller brings the memory. Returns its number, or -1 with the status and
 * sentence of the last attempt.
 */
static int first_affordable(tenon_context *ctx, tn_slot *slot, const tn_choices *choices, int first,
                            size_t limit, int borrowed, tenon_status *status, tn_message *why) {
    const bool reserve = !borrowed || slot->space; /* what is lent is host memory */
    for (int i = first; i < choices->count; ++i) {
        const tn_choice *choice = &choices->choice[i];
        ctx->refuser = NULL;
        if (choice->workspace > limit) {
            *status = tn_fail(why, TENON_ERROR_OVER_BUDGET,
                              "workspace.bytes is %zu, expected at least %zu for %s, the "
                              "algorithm with the smallest workspace",
                              limit, choice->workspace, choice->algorithm);
            continue;
        }
        *status = !reserve || choice->workspace == 0
                      ? TENON_OK
                      : tn_arena_reserve(&slot->arena, choice->workspace, why);
        if (*status != TENON_OK && tn_plan_cache_clear(&ctx->cache) > 0) {
            tn_pool_count_rung(slot->pool, TN_RUNG_CACHE_DROPPED);
            *status = tn_arena_reserve(&slot->arena, choice->workspace, why);
        }
        if (*status == TENON_OK)
            return i;
        ctx->refuser = slot->pool;
        ctx->refused = choice->workspace;
        if (i + 1 < choices->count) {
            tn_pool_count_rung(slot->pool, TN_RUNG_SMALLER_PLAN);
            tn_log_line(
                &ctx->log, TENON_LOG_WARNING,
                "%s: %zu bytes of workspace for %s could not be had, trying %s with %zu: %s",
                slot->name.id, choice->workspace, choice->algorithm, choice[1].algorithm,
                choice[1].workspace, why->text);
        }
    }
    return -1;
}

/*
 * Decides, starting with device number `first` of the chain. Fails with the status of the last
 * device that was short of memory, else UNSUPPORTED with every device's reason.
 */
static tenon_status decide(tenon_context *ctx, int first, const tn_plan_request *request,
                           int borrowed, tn_decision *decision) {
    static const tn_choices nothing = {
        .count = 1,
        .choice = {
            {.algorithm = "nothing", .kernel = "none", .reason = "the result has no elements"}}};
    tenon_status failure = TENON_ERROR_UNSUPPORTED;
    tn_message why = {{0}}, memory = {{0}};
    bool short_before = false;

    memset(decision, 0, sizeof *decision);

    for (int s = first; s < ctx->slots; ++s) {
        tn_slot *slot = &ctx->slot[s];
        const tn_backend *backend = slot->name.backend;

        why.text[0] = 0;
        memset(&decision->choices, 0, sizeof decision->choices);
        tenon_status status = TENON_OK;
        if (request->empty)
            decision->choices = nothing;
        else
            status = backend->plan(slot->device, request->op, request->problem, ctx->threads,
                                   &decision->choices, &why);
        if (status == TENON_OK && decision->choices.count == 0)
            status = tn_fail(&why, TENON_ERROR_INTERNAL, "%s has no way to do this operation",
                             slot->name.id);
        if (status == TENON_OK) {
            decision->device = slot->name;
            decision->threads = ctx->threads;
            decision->chosen = first_affordable(ctx, slot, &decision->choices, 0,
                                                request->workspace_limit, borrowed, &status, &why);
            if (decision->chosen >= 0) {
                decision->makeshift = short_before;
                for (int i = 0; i < decision->chosen; ++i)
                    decision->makeshift |=
                        decision->choices.choice[i].workspace <= request->workspace_limit;
                return TENON_OK;
            }
            failure = status;
            memory = why;
            short_before = true;
            if (request->bound)
                break;
            if (s + 1 < ctx->slots) {
                tn_pool_count_rung(slot->pool, TN_RUNG_DEVICE_CHANGE);
                (void)tn_arena_drop(&slot->arena); /* the next device may draw from the same pool */
            }
        } else if (status != TENON_ERROR_UNSUPPORTED && failure == TENON_ERROR_UNSUPPORTED) {
            failure = status;
            memory = why;
        }
        add_declined(decision, slot->name.id, why.text);
    }
    if (failure != TENON_ERROR_UNSUPPORTED) {
        ctx->message = memory;
        return failure;
    }
    /* Join the sentences of all devices. */
    tn_message *m = &ctx->message;
    m->text[0] = 0;
    const char *text = decision->declined_text;
    for (int i = 0; i < decision->declined; ++i) {
        const size_t used = strlen(m->text);
        snprintf(m->text + used, sizeof m->text - used, "%s%s", i ? "; " : "", text);
        text += strlen(text) + 1;
    }
    return TENON_ERROR_UNSUPPORTED;
}

static void log_decision(const tenon_context *ctx, const char *verb, const tn_plan_request *request,
                         const tn_decision *decision) {
    if (!tn_log_wants(&ctx->log, TENON_LOG_DISPATCH))
        return;
    const tn_choice *choice = &decision->choices.choice[decision->chosen];
    char what[512];

    request->describe(request->problem, what, sizeof what);
    tn_log_line(&ctx->log, TENON_LOG_DISPATCH, "%s %s -> %s %s %s workspace=%zu%s%s", verb, what,
                decision->device.id, choice->algorithm, choice->kernel, choice->workspace,
                decision->declined ? "; " : "", decision->declined ? decision->declined_text : "");
}

/* ---------------------------------------------------------------- running */

static tn_slot *slot_of(tenon_context *ctx, const tn_device_name *device) {
    for (int s = 0; s < ctx->slots; ++s)
        if (ctx->slot[s].name.backend == device->backend &&
            ctx->slot[s].name.index == device->index)
            return &ctx->slot[s];
    return NULL;
}

/*
 * Operands that are copied take memory of the same pool as the workspace: while it is short of
 * that, a smaller workspace is tried. Nothing has been written where that happens.
 */
static __attribute__((noinline)) tenon_status run_staged(tenon_context *ctx, tn_slot *slot,
                                                         const tn_plan_request *request,
                                                         const tn_decision *decision,
                                                         const tn_placement *at, tn_run *run) {
    const tn_choices *choices = &decision->choices;
    const int borrowed = at->workspace.memory != NULL;
    const bool own = !borrowed || slot->space; /* the workspace is of the pool */
    for (;;) {
        tenon_status status = tn_stage_run(ctx, slot, request, at, run);
        const int index = (int)(run->choice - choices->choice);
        if ((status != TENON_ERROR_OUT_OF_MEMORY && status != TENON_ERROR_OVER_BUDGET) || !own ||
            run->choice->workspace == 0 || index + 1 >= choices->count)
            return status;
        (void)tn_arena_drop(&slot->arena);
        tn_pool_count_rung(slot->pool, TN_RUNG_SMALLER_PLAN);
        const int next = first_affordable(ctx, slot, choices, index + 1,
                                          borrowed ? at->workspace.bytes : SIZE_MAX, borrowed,
                                          &status, &ctx->message);
        if (next < 0)
            return status;
        run->choice = &choices->choice[next];
        run->workspace =
            borrowed ? at->workspace.memory : tn_arena_take(&slot->arena, run->choice->workspace);
    }
}

/* One attempt on the decision's device; `from` is the choice to begin with. */
TN_HOT static tenon_status run_on(tenon_context *ctx, tn_slot *slot, const tn_plan_request *request,
                                  const tn_decision *decision, const tn_placement *at) {
    const tenon_workspace *workspace = &at->workspace;
    const int borrowed = workspace->memory != NULL;
    tenon_status status;
    if (request->empty)
        return TENON_OK;
    int index = decision->chosen;
    if (decision->choices.choice[index].workspace > 0)
        index = first_affordable(ctx, slot, &decision->choices, index,
                                 borrowed ? workspace->bytes : SIZE_MAX, borrowed, &status,
                                 &ctx->message);
    if (index < 0)
        return status;

    const tn_choice *choice = &decision->choices.choice[index];
    if (request->check_on)
        TN_TRY(request->check_on(slot->name.backend, slot->device, request->problem, at->addresses,
                                 &ctx->message));
    tn_team_limit(ctx->team, decision->threads);
    tn_run run = {
        .op = request->op,
        .problem = request->problem,
        .choice = choice,
        .addresses = at->addresses,
        .workspace = borrowed ? workspace->memory : tn_arena_take(&slot->arena, choice->workspace),
        .team = ctx->team,
    };
    if (__builtin_expect(slot->space != NULL || at->elsewhere != 0, 0))
        return run_staged(ctx, slot, request, decision, at, &run);
    return slot->name.backend->run(slot->device, &run, &ctx->message);
}

static bool is_retryable(tenon_status status) {
    return status == TENON_ERROR_OUT_OF_MEMORY || status == TENON_ERROR_OVER_BUDGET ||
           status == TENON_ERROR_DEVICE_LOST || status == TENON_ERROR_UNSUPPORTED;
}

/* Goes on with the rest of the chain after slot's device was out of memory or lost. */
static tenon_status run_rest(tenon_context *ctx, tn_slot *slot, const tn_plan_request *request,
                             tenon_status status, const tn_placement *at) {
    while (is_retryable(status)) {
        const int after = (int)(slot - ctx->slot) + 1;
        if (after >= ctx->slots || request->bound)
            return status;

        const tn_message first = ctx->message;
        tenon_pool *const refuser = ctx->refuser;
        const size_t refused = ctx->refused;
        tn_decision next;
        tn_log_line(&ctx->log, TENON_LOG_WARNING, "%s: %s; going on with %s", slot->name.id,
                    first.text, ctx->slot[after].name.id);
        tn_pool_count_rung(slot->pool, TN_RUNG_DEVICE_CHANGE);
        (void)tn_arena_drop(&slot->arena); /* the next device may draw from the same pool */
        if (decide(ctx, after, request, at->workspace.memory != NULL, &next) != TENON_OK) {
            ctx->message = first;
            ctx->refuser = refuser;
            ctx->refused = refused;
            return status;
        }
        slot = slot_of(ctx, &next.device);
        status = run_on(ctx, slot, request, &next, at);
    }
    return status;
}

static tenon_status run_chain(tenon_context *ctx, tn_slot *slot, const tn_plan_request *request,
                              const tn_decision *decision, const tn_placement *at) {
    const tenon_status status = run_on(ctx, slot, request, decision, at);
    return is_retryable(status) ? run_rest(ctx, slot, request, status, at) : status;
}

/* ---------------------------------------------------------------- the ways in */

tenon_status tn_dispatch_plan(tenon_context *ctx, const tn_plan_request *request,
                              tenon_plan **out) {
    tn_decision decision;

    *out = NULL;
    TN_TRY(answer(ctx, decide(ctx, 0, request, 0, &decision)));
    tn_team_start(ctx->team);
    tenon_status status = tn_plan_make(&ctx->allocator, request, &decision, &ctx->message, out);
    if (status != TENON_OK && tn_plan_cache_clear(&ctx->cache) > 0)
        status = tn_plan_make(&ctx->allocator, request, &decision, &ctx->message, out);
    TN_TRY(status);
    log_decision(ctx, "plan", request, &decision);
    return TENON_OK;
}

TN_HOT tenon_status tn_dispatch_run(tenon_context *ctx, const tenon_plan *plan,
                                    const tn_placement *at) {
    tn_slot *slot = slot_of(ctx, &plan->decision.device);
    if (!slot)
        return tn_fail(&ctx->message, TENON_ERROR_INVALID_ARGUMENT,
                       "plan was made for device \"%s\", expected one of a device of ctx",
                       plan->decision.device.id);
    return answer(ctx, run_chain(ctx, slot, &plan->request, &plan->decision, at));
}

/*
 * No call remembers for long that memory was short: what was decided then is decided anew at the
 * next call, and as long as nothing changes at every second, fourth … call, as asking in vain gives
 * caches up. So a shortage is forgotten after as many calls as it lasted.
 */
#define PATIENCE_MOST 64

static void reconsider(tenon_context *ctx, tenon_plan *cached, int borrowed) {
    if (++cached->waited < cached->patience)
        return;
    cached->waited = 0;
    const tn_message said = ctx->message;
    tn_decision decision;
    if (decide(ctx, 0, &cached->request, borrowed, &decision) == TENON_OK)
        cached->decision = decision;
    else
        decision.makeshift = 1;
    ctx->message = said;
    ctx->refuser = NULL;
    if (!decision.makeshift)
        cached->patience = 0;
    else if (cached->patience < PATIENCE_MOST)
        cached->patience *= 2;
}

tenon_plan *tn_dispatch_recall(tenon_context *ctx, const tn_plan_words *said) {
    return tn_plan_cache_recall(&ctx->cache, said);
}

tenon_status tn_dispatch_cached(tenon_context *ctx, tenon_plan *cached, const tn_placement *at) {
    ctx->cache.in_use = cached; /* reserving workspace may clear the cache */
    if (cached->patience)
        reconsider(ctx, cached, at->workspace.memory != NULL);
    log_decision(ctx, "call", &cached->request, &cached->decision);
    const tenon_status status = answer(ctx, run_chain(ctx, slot_of(ctx, &cached->decision.device),
                                                      &cached->request, &cached->decision, at));
    ctx->cache.in_use = NULL;
    return status;
}

tenon_status tn_dispatch_once(tenon_context *ctx, const tn_plan_request *request,
                              const tn_placement *at) {
    const uint64_t hash = tn_request_hash(request);
    tenon_plan *cached = tn_plan_cache_find(&ctx->cache, request, hash);
    tn_decision decision;

    if (cached)
        return tn_dispatch_cached(ctx, cached, at);
    TN_TRY(answer(ctx, decide(ctx, 0, request, at->workspace.memory != NULL, &decision)));
    tn_team_start(ctx->team);
    /* Harmless if there is no memory for it. */
    tenon_plan *plan;
    if (tn_plan_make(&ctx->allocator, request, &decision, NULL, &plan) == TENON_OK) {
        plan->patience = decision.makeshift;
        tn_plan_cache_insert(&ctx->cache, plan);
    }
    log_decision(ctx, "call", request, &decision);
    tn_slot *slot = slot_of(ctx, &decision.device);
    return answer(ctx, run_chain(ctx, slot, request, &decision, at));
}

tenon_status tn_dispatch_unplanned(tenon_context *ctx, const tn_plan_request *request,
                                   const tn_placement *at) {
    static const tn_choice only = {.algorithm = "unplanned"};
    tn_slot *slot = &ctx->slot[0];
    const tn_run run = {.op = request->op,
                        .problem = request->problem,
                        .choice = &only,
                        .addresses = at->addresses,
                        .team = ctx->team};
    tn_team_limit(ctx->team, ctx->threads);
    if (!slot->space && at->elsewhere == 0)
        return slot->name.backend->run(slot->device, &run, &ctx->message);
    tenon_status status = tn_stage_run(ctx, slot, request, at, &run);
    if (ctx->refuser && tn_arena_drop(&slot->arena)) /* what earlier calls left reserved */
        status = tn_stage_run(ctx, slot, request, at, &run);
    return answer(ctx, status);
}
