/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans as objects: making, comparing, querying, ending. Deciding is dispatch.c's business.
 */
#include "core/os.h"
#include "core/plan_internal.h"
#include "core/read_desc.h"

#include <string.h>

/* Multiply-and-fold over 8-byte words (the mixing step of wyhash); problems are multiples of 8
 * bytes. */
uint64_t tn_request_hash(const tn_plan_request *request) {
    const unsigned char *bytes = request->problem;
    uint64_t h =
        0x9e3779b97f4a7c15u ^ (uint64_t)request->op ^ (uint64_t)request->workspace_limit << 8;

    for (size_t i = 0; i + 8 <= request->problem_bytes; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        const unsigned __int128 product = (unsigned __int128)(h ^ word) * 0xa0761d6478bd642fu;
        h = (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    return h;
}

/* The same step, over pairs of words. */
uint64_t tn_plan_words_hash(const tn_plan_words *said) {
    const unsigned char *bytes = said->words;
    uint64_t h = 0x9e3779b97f4a7c15u ^ (uint64_t)said->op ^ (uint64_t)said->workspace_limit << 8;

    for (size_t i = 0; i < said->bytes; i += 16) {
        uint64_t pair[2] = {0, 0};
        memcpy(pair, bytes + i, i + 16 <= said->bytes ? 16 : 8);
        const unsigned __int128 product =
            (unsigned __int128)(h ^ pair[0]) * (pair[1] ^ 0xa0761d6478bd642fu);
        h = (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    return h;
}

int tn_request_equal(const tn_plan_request *a, const tn_plan_request *b) {
    return a->op == b->op && a->workspace_limit == b->workspace_limit &&
           a->problem_bytes == b->problem_bytes &&
           memcmp(a->problem, b->problem, a->problem_bytes) == 0;
}

tenon_status tn_plan_make(const tenon_allocator *allocator, const tn_plan_request *request,
                          const tn_decision *decision, tn_message *message, tenon_plan **out) {
    const size_t bytes = sizeof(tenon_plan) + request->problem_bytes + request->memo_bytes;
    const void *stray;
    tenon_plan *plan = tn_host_alloc_watched(allocator, bytes, TN_CACHE_LINE, &stray);

    *out = plan;
    if (!plan)
        return tn_fail_host(message, "a plan", bytes, stray, TN_CACHE_LINE);
    memset(plan, 0, bytes);
    plan->allocator = *allocator;
    plan->bytes = bytes;
    plan->request = *request;
    plan->request.problem = memcpy(plan + 1, request->problem, request->problem_bytes);
    if (request->memo)
        plan->request.memo =
            memcpy((char *)(plan + 1) + request->problem_bytes, request->memo, request->memo_bytes);
    plan->decision = *decision;
    plan->hash = tn_request_hash(&plan->request);
    if (request->memo) {
        const tn_plan_words said = tn_plan_words_of(&plan->request);
        plan->words_hash = tn_plan_words_hash(&said);
    }
    return TENON_OK;
}

void tenon_plan_destroy(tenon_plan *plan) {
    if (!plan)
        return;
    const tenon_allocator allocator = plan->allocator;
    tn_host_free(&allocator, plan, plan->bytes);
}

tenon_status tenon_plan_query(const tenon_plan *plan, tenon_plan_info *info) {
    if (!plan || !info)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_plan_query: %s is NULL, expected an address",
                              plan ? "info" : "plan");
    const tn_decision *decision = &plan->decision;
    const tn_choices *choices = &decision->choices;
    const tn_choice *choice = &choices->choice[decision->chosen];
    tenon_plan_info full;

    memset(&full, 0, sizeof full);
    full.device = decision->device.id;
    full.algorithm = choice->algorithm;
    full.kernel = choice->kernel;
    full.reason = choice->reason;
    full.workspace = choice->workspace;
    full.workspace_preferred = choices->choice[0].workspace;
    full.workspace_smallest = choices->choice[choices->count - 1].workspace;
    full.flops = plan->request.cost.flops;
    full.bytes = plan->request.cost.bytes;
    full.choices = choices->count;
    full.chosen = decision->chosen;
    full.declined = decision->declined;
    return tn_write_info("tenon_plan_query", info, &full, sizeof full);
}

tenon_status tenon_plan_choice_get(const tenon_plan *plan, int index, tenon_plan_choice *choice) {
    if (!plan || !choice)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_plan_choice_get: %s is NULL, expected an address",
                              plan ? "choice" : "plan");
    if (index < 0 || index >= plan->decision.choices.count)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_plan_choice_get: index is %d, expected 0 to %d", index,
                              plan->decision.choices.count - 1);
    const tn_choice *from = &plan->decision.choices.choice[index];
    tenon_plan_choice full;

    memset(&full, 0, sizeof full);
    full.algorithm = from->algorithm;
    full.kernel = from->kernel;
    full.workspace = from->workspace;
    full.seconds = from->seconds;
    return tn_write_info("tenon_plan_choice_get", choice, &full, sizeof full);
}

tenon_status tenon_plan_choose(tenon_plan *plan, int index) {
    if (!plan)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_plan_choose: plan is NULL, expected a plan");
    if (index < 0 || index >= plan->decision.choices.count)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_plan_choose: index is %d, expected 0 to %d", index,
                              plan->decision.choices.count - 1);
    plan->decision.chosen = index;
    return TENON_OK;
}

const char *tenon_plan_declined(const tenon_plan *plan, int index) {
    if (!plan || index < 0 || index >= plan->decision.declined)
        return NULL;
    const char *text = plan->decision.declined_text;
    while (index-- > 0)
        text += strlen(text) + 1;
    return text;
}

tenon_status tenon_plan_budget(const tenon_plan *const *plans, size_t count, size_t *peak,
                               size_t *smallest) {
    size_t largest = 0, least = 0;

    if (!plans && count > 0)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_plan_budget: plans is NULL, expected %zu plans", count);
    for (size_t i = 0; i < count; ++i) {
        if (!plans[i])
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "tenon_plan_budget: plans[%zu] is NULL, expected a plan", i);
        const tn_decision *decision = &plans[i]->decision;
        const size_t chosen = decision->choices.choice[decision->chosen].workspace;
        const size_t minimum = decision->choices.choice[decision->choices.count - 1].workspace;
        if (chosen > largest)
            largest = chosen;
        if (minimum > least)
            least = minimum;
    }
    if (peak)
        *peak = largest;
    if (smallest)
        *smallest = least;
    return TENON_OK;
}
