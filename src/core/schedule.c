/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule.c: the memory of a list of plans and buffers, and the algorithm each plan takes under a
 * budget. Placing is the business of tenon_memory_layout_with; here workspaces become objects that
 * live for one step, and choices are made.
 *
 * Because a workspace lives in one step only, the most alive in a step depends on that step's own
 * choice alone, so the fastest choices that respect the lower bound are found step by step. Only
 * what a layout loses in gaps couples the steps: then the bound is tightened by bisection, and
 * what was given up in vain is won back in the gaps.
 */
#include <string.h>

#include "core/checked.h"
#include "core/os.h"
#include "core/plan_internal.h"
#include "core/read_desc.h"
#include "memory/pool.h"

/* Layouts tried between all wishes and all smallest: the last step is 1/32 of the difference. */
#define BISECTIONS 5

typedef struct rehearsal {
    tenon_pool *pool;
    tenon_schedule s;
    tenon_lifetime *objects; /* the buffers, then one workspace per step */
    int32_t *choice, *best;  /* per step: as tried, as taken */
    size_t *offset;          /* per object: as taken */
    size_t *alive;           /* per step: bytes of its buffers */
    uint32_t *near;          /* the buffers of one step */
    size_t total, bound;     /* as taken */
    size_t count;            /* of objects */
} rehearsal;

static size_t workspace_of(const tenon_plan *plan, int32_t choice) {
    return plan->decision.choices.choice[choice].workspace;
}

/* The fastest choice a plan may take with a workspace of at most `limit`, or of the smallest there
 * is; -1 without a plan. */
static int32_t fastest_within(const tenon_plan *plan, size_t limit) {
    if (plan == NULL)
        return -1;
    size_t least = workspace_of(plan, plan->decision.choices.count - 1);
    int32_t c = 0;
    while (workspace_of(plan, c) > (limit > least ? limit : least))
        ++c;
    return c;
}

static double seconds_of(const rehearsal *r, const int32_t *choice) {
    double sum = 0;
    for (size_t i = 0; i < r->s.step_count; ++i)
        if (choice[i] >= 0)
            sum += r->s.steps[i].plan->decision.choices.choice[choice[i]].seconds;
    return sum;
}

/* ---- what is given ---- */

static tenon_status check(const rehearsal *r) {
    const char *call = "tenon_schedule_layout";
    const tenon_schedule *s = &r->s;
    size_t sum = 0;
    if ((s->steps == NULL && s->step_count > 0) || (s->buffers == NULL && s->buffer_count > 0))
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "%s: %s is NULL, expected as many as its count says", call,
                              s->steps == NULL && s->step_count > 0 ? "steps" : "buffers");
    if (s->step_count > UINT32_MAX / 8 || s->buffer_count > UINT32_MAX / 8)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "%s: step_count is %zu and buffer_count %zu, expected at most %u",
                              call, s->step_count, s->buffer_count, UINT32_MAX / 8);
    if (s->effort != s->effort)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT, "%s: effort is nan, expected a number",
                              call);
    for (size_t i = 0; i < s->buffer_count; ++i) {
        const tenon_lifetime *b = &s->buffers[i];
        size_t alignment = b->alignment != 0 ? b->alignment : TN_CACHE_LINE;
        if (b->last < b->first)
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "%s: buffers[%zu].last is %lld, expected at least first, %lld",
                                  call, i, (long long)b->last, (long long)b->first);
        if (!tn_is_power_of_two(alignment))
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "%s: buffers[%zu].alignment is %zu, expected a power of two",
                                  call, i, alignment);
        if (!tn_add_size(sum, b->bytes, &sum) || !tn_add_size(sum, alignment, &sum))
            return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                                  "%s: buffers[%zu].bytes is %zu, expected a sum that fits size_t",
                                  call, i, b->bytes);
    }
    for (size_t i = 0; i < s->step_count; ++i)
        if (s->steps[i].plan != NULL &&
            (!tn_add_size(sum, workspace_of(s->steps[i].plan, 0), &sum) ||
             !tn_add_size(sum, TN_CACHE_LINE, &sum)))
            return tn_fail_shared(
                TENON_ERROR_INVALID_ARGUMENT,
                "%s: steps[%zu].plan has a workspace of %zu bytes, expected a sum that "
                "fits size_t",
                call, i, workspace_of(s->steps[i].plan, 0));
    return TENON_OK;
}

/* Bytes of buffers alive in each step. */
static void count_alive(rehearsal *r) {
    size_t steps = r->s.step_count;
    memset(r->alive, 0, steps * sizeof *r->alive);
    for (size_t i = 0; i < r->s.buffer_count; ++i) {
        const tenon_lifetime *b = &r->s.buffers[i];
        if (b->last < 0 || b->first >= (int64_t)steps)
            continue;
        r->alive[b->first > 0 ? b->first : 0] += b->bytes;
        if (b->last + 1 < (int64_t)steps)
            r->alive[b->last + 1] -= b->bytes; /* wraps; the sums do not */
    }
    for (size_t i = 1; i < steps; ++i)
        r->alive[i] += r->alive[i - 1];
}

/* ---- layouts ---- */

/* The choices with which no step has more than `limit` bytes alive, or the smallest. */
static void choose_within(rehearsal *r, size_t limit) {
    for (size_t i = 0; i < r->s.step_count; ++i)
        r->choice[i] =
            fastest_within(r->s.steps[i].plan, limit > r->alive[i] ? limit - r->alive[i] : 0);
}

/* Lays out with r->choice; a total of at most `enough` is as good as any. */
static tenon_status lay_out(rehearsal *r, size_t enough, size_t *total, size_t *bound) {
    const tenon_schedule *s = &r->s;
    for (size_t i = 0; i < s->buffer_count; ++i)
        r->objects[i] = s->buffers[i];
    for (size_t i = 0; i < s->step_count; ++i)
        r->objects[s->buffer_count + i] = (tenon_lifetime){
            .bytes = r->choice[i] < 0 ? 0 : workspace_of(s->steps[i].plan, r->choice[i]),
            .alignment = TN_CACHE_LINE,
            .first = (int64_t)i,
            .last = (int64_t)i};
    const tenon_layout_options options = {.effort = s->effort, .enough = enough};
    return tenon_memory_layout_with(r->pool, r->objects, r->count, &options, total, bound);
}

/* Keeps the last layout. */
static void take(rehearsal *r, size_t total, size_t bound) {
    memcpy(r->best, r->choice, r->s.step_count * sizeof *r->best);
    for (size_t i = 0; i < r->count; ++i)
        r->offset[i] = r->objects[i].offset;
    r->total = total;
    r->bound = bound;
}

/* Lists the buffers of a step in r->near; returns how many. */
static uint32_t list_near(rehearsal *r, size_t step) {
    uint32_t count = 0;
    for (size_t i = 0; i < r->s.buffer_count; ++i) {
        const tenon_lifetime *b = &r->s.buffers[i];
        if (b->first <= (int64_t)step && b->last >= (int64_t)step && b->bytes > 0)
            r->near[count++] = (uint32_t)i;
    }
    return count;
}

/* The lowest place for `bytes` below `end` beside `near` buffers of the layout taken. False if
 * there is none. */
static bool find_gap(const rehearsal *r, uint32_t near, size_t bytes, size_t end, size_t *place) {
    size_t start = 0;
    for (bool moved = true; moved;) { /* up over whatever is in the way, until nothing is */
        moved = false;
        if (start > end || bytes > end - start)
            return false;
        for (uint32_t i = 0; i < near; ++i) {
            size_t begin = r->offset[r->near[i]], top = begin + r->s.buffers[r->near[i]].bytes;
            if (begin < start + bytes && start < top) {
                start = (top + TN_CACHE_LINE - 1) & ~(size_t)(TN_CACHE_LINE - 1);
                moved = true;
            }
        }
    }
    *place = start;
    return start <= end && bytes <= end - start;
}

/* Gives each step of the layout taken the fastest workspace for which there is a gap. */
static void win_back(rehearsal *r) {
    for (size_t i = 0; i < r->s.step_count; ++i) {
        const tenon_plan *plan = r->s.steps[i].plan;
        if (r->best[i] <= 0)
            continue;
        uint32_t near = list_near(r, i);
        size_t *offset = &r->offset[r->s.buffer_count + i];
        for (int32_t c = 0; c < r->best[i]; ++c) {
            size_t bytes = workspace_of(plan, c);
            if (!find_gap(r, near, bytes, r->s.budget, offset))
                continue;
            r->best[i] = c;
            r->total = *offset + bytes > r->total ? *offset + bytes : r->total;
            r->bound = r->alive[i] + bytes > r->bound ? r->alive[i] + bytes : r->bound;
        }
    }
}

/*
 * Between a limit that is met by the layout taken (all smallest) and the budget itself: the largest
 * limit per step with which the layout as a whole stays within the budget.
 */
static tenon_status fit(rehearsal *r, size_t low) {
    size_t high = r->s.budget, limit = high, total, bound;
    for (int tries = 0; tries <= BISECTIONS && low < high; ++tries) {
        choose_within(r, limit);
        TN_TRY(lay_out(r, r->s.budget, &total, &bound));
        if (total <= r->s.budget) {
            take(r, total, bound);
            low = limit;
        } else {
            high = limit;
        }
        limit = low + (high - low) / 2;
    }
    win_back(r);
    return TENON_OK;
}

/* Finds what is wanted of `r` and fills `info`. Writes nothing of the caller's. */
static tenon_status rehearse(rehearsal *r, tenon_schedule_info *info) {
    size_t total, bound, smallest_bound;
    choose_within(r, 0);
    TN_TRY(lay_out(r, 0, &total, &smallest_bound));
    take(r, total, smallest_bound);
    info->smallest = total;
    info->smallest_lower_bound = smallest_bound;

    choose_within(r, SIZE_MAX);
    info->seconds_preferred = seconds_of(r, r->choice);
    TN_TRY(lay_out(r, 0, &total, &bound));
    info->preferred = total;
    if (total < info->smallest) /* a search may be luckier with more to place */
        info->smallest = total;
    if (r->s.budget == 0 || total <= r->s.budget)
        take(r, total, bound);
    else if (info->smallest > r->s.budget)
        return tn_fail_shared(TENON_ERROR_OVER_BUDGET,
                              "tenon_schedule_layout: budget is %zu, expected at least what the "
                              "smallest layout found "
                              "needs, %zu (no layout can have less than %zu; with the algorithms "
                              "preferred it is %zu)",
                              r->s.budget, info->smallest, smallest_bound, info->preferred);
    else
        TN_TRY(fit(r, smallest_bound));
    info->total = r->total;
    info->lower_bound = r->bound;
    info->seconds = seconds_of(r, r->best);
    return TENON_OK;
}

/* ---- the call ---- */

static void *cut(unsigned char *block, size_t *used, size_t count, size_t width) {
    void *array = block != NULL ? block + *used : NULL;
    *used += (count * width + TN_CACHE_LINE - 1) & ~(size_t)(TN_CACHE_LINE - 1);
    return array;
}

static size_t cut_all(rehearsal *r, unsigned char *block) {
    size_t used = 0, steps = r->s.step_count;
    r->count = r->s.buffer_count + steps;
    r->objects = cut(block, &used, r->count, sizeof *r->objects);
    r->offset = cut(block, &used, r->count, sizeof *r->offset);
    r->alive = cut(block, &used, steps, sizeof *r->alive);
    r->choice = cut(block, &used, steps, sizeof *r->choice);
    r->best = cut(block, &used, steps, sizeof *r->best);
    r->near = cut(block, &used, r->s.buffer_count, sizeof *r->near);
    return used;
}

static void write_back(const rehearsal *r) {
    const tenon_schedule *s = &r->s;
    for (size_t i = 0; i < s->buffer_count; ++i)
        s->buffers[i].offset = r->offset[i];
    for (size_t i = 0; i < s->step_count; ++i) {
        s->steps[i].choice = r->best[i];
        s->steps[i].workspace = r->best[i] < 0 ? 0 : workspace_of(s->steps[i].plan, r->best[i]);
        s->steps[i].offset = s->steps[i].workspace == 0 ? 0 : r->offset[s->buffer_count + i];
    }
}

tenon_status tenon_schedule_layout(tenon_pool *pool, const tenon_schedule *schedule,
                                   tenon_schedule_info *info) {
    rehearsal r = {.pool = pool};
    tenon_schedule_info full;
    tn_message message;
    if (schedule == NULL)
        return tn_fail_shared(TENON_ERROR_INVALID_ARGUMENT,
                              "tenon_schedule_layout: schedule is NULL, expected an address");
    tenon_status status = tn_read_desc(schedule, &r.s, sizeof r.s, &message);
    if (status != TENON_OK)
        return tn_fail_shared(status, "tenon_schedule_layout: %s", message.text);
    TN_TRY(check(&r));
    size_t bytes = cut_all(&r, NULL);
    const void *stray;
    unsigned char *block = tn_host_alloc_watched(tn_pool_hooks(pool), bytes, TN_CACHE_LINE, &stray);
    if (block == NULL) {
        status = tn_fail_host(&message, "scratch memory", bytes, stray, TN_CACHE_LINE);
        return tn_fail_shared(status, "tenon_schedule_layout: %s", message.text);
    }
    cut_all(&r, block);
    count_alive(&r);
    memset(&full, 0, sizeof full);
    status = rehearse(&r, &full);
    if (status == TENON_OK && info != NULL)
        status = tn_write_info("tenon_schedule_layout", info, &full, sizeof full);
    if (status == TENON_OK)
        write_back(&r);
    tn_host_free(tn_pool_hooks(pool), block, bytes);
    return status;
}
