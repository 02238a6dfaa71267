/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/schedule.h: the memory of a whole model before it runs.
 *
 * A schedule is a list of steps, each with a plan or without, and the buffers that live from one step to another. From it
 * follow, before a byte is allocated: one block that holds everything, every buffer and every plan's workspace at its offset; the
 * smallest block with which the schedule still runs; and, for a given budget, the algorithm each plan has to take so that it fits.
 *
 *     tenon_step steps[] = {{.plan = project}, {.plan = attend}, {.plan = output}};
 *     tenon_lifetime buffers[] = {
 *         {.bytes = x_bytes, .first = 0, .last = 0},
 *         {.bytes = qkv_bytes, .first = 0, .last = 1},
 *         {.bytes = heads_bytes, .first = 1, .last = 2},
 *     };
 *     tenon_schedule s = {.steps = steps, .step_count = 3, .buffers = buffers, .buffer_count = 3, .budget = 64 << 20};
 *     tenon_schedule_info info = {0};
 *     if (tenon_schedule_layout(NULL, &s, &info) != TENON_OK) …
 *     tenon_plan_choose(project, steps[0].choice);
 *     …
 *     char *block = …;                        // info.total bytes, aligned to 64
 *     project_desc.c.data = block + buffers[1].offset;
 *     project_desc.workspace = (tenon_workspace){block + steps[0].offset, steps[0].workspace};
 *     tenon_gemm_run(ctx, project, &project_desc);
 *
 * A complete program: examples/dry_run.c.
 */
#ifndef TENON_SCHEDULE_H
#define TENON_SCHEDULE_H

#include <tenon/memory.h>
#include <tenon/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One step: at most one plan runs in it. */
typedef struct tenon_step {
    const tenon_plan *plan; /**< NULL: nothing that has a workspace */
    size_t offset;          /**< out: where the workspace lies in the block, a multiple of 64 */
    size_t workspace;       /**< out: bytes of it */
    int32_t choice;         /**< out: number of the algorithm that needs this much, for tenon_plan_choose; -1 without a plan */
} tenon_step;

/** What is to run. Plans are only looked at. */
typedef struct tenon_schedule {
    size_t struct_size;
    tenon_step *steps; /**< number i is step i of the buffers' lifetimes */
    size_t step_count;
    tenon_lifetime *buffers; /**< what is alive before the first or after the last step may say so with any number */
    size_t buffer_count;
    size_t budget; /**< bytes that the block may have; 0: no limit, each plan takes its fastest algorithm */
    double effort; /**< of each of the layouts made, as in tenon_layout_options */
} tenon_schedule;

/** What came out. Bytes unless said otherwise. */
typedef struct tenon_schedule_info {
    size_t struct_size;  /**< set by the caller as in descriptors */
    size_t total;        /**< the block: end of the highest buffer or workspace; it must begin at a multiple of the largest alignment */
    size_t lower_bound;  /**< most that is alive in one step, with these algorithms: no layout can have less */
    size_t preferred;    /**< `total` if every plan takes its fastest algorithm */
    size_t smallest;     /**< `total` if every plan takes its smallest algorithm: the smallest budget that is accepted */
    size_t smallest_lower_bound; /**< below this no budget can be enough for these buffers and plans */
    double seconds;      /**< predicted for all plans with the algorithms taken; only comparisons mean much */
    double seconds_preferred; /**< with their fastest ones */
} tenon_schedule_info;

/**
 * Lays a schedule out: fills offset, workspace and choice of each step, offset of each buffer, and `info` (which may be NULL).
 *
 * Under a budget each plan takes its fastest algorithm whose workspace fits beside the buffers of its step. If these also fit together
 * in one layout, nothing faster exists; where they do not quite, workspaces shrink until they do, and grow again into the gaps that
 * are left. What a plan takes now plays no part, and is not changed: that is for tenon_plan_choose. The same input gives the same layout
 * everywhere. Two layouts are made, under a budget up to eight, so this takes a few times as long as tenon_memory_layout_with.
 *
 * Scratch memory comes from `pool`'s allocator hooks (NULL: the system).
 *
 * @return TENON_OK; INVALID_ARGUMENT; OVER_BUDGET if the smallest layout found is over the budget, with its size in the message;
 * OUT_OF_MEMORY. Nothing is written on failure.
 */
TENON_API TENON_MUST_CHECK tenon_status tenon_schedule_layout(tenon_pool *pool, const tenon_schedule *schedule,
                                                              tenon_schedule_info *info);

#ifdef __cplusplus
}
#endif
#endif
