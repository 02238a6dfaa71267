/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon/plan.h: what was decided before an operation runs.
 *
 * tenon_<op>_plan reads shapes, strides, types and attributes of a descriptor (addresses need not be there yet) and chooses device,
 * algorithm and kernel; tenon_<op>_run takes the same descriptor with addresses filled in and allocates nothing. The one-shot
 * tenon_<op> finds the plan in the context's cache or makes it.
 */
#ifndef TENON_PLAN_H
#define TENON_PLAN_H

#include <tenon/context.h>
#include <tenon/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A plan belongs to who made it, until tenon_plan_destroy. Any number of threads may run it, each in a context of its own, and look at it
 * at once; tenon_plan_choose and tenon_plan_destroy want it for themselves. It holds no context and no memory of a pool, and may outlive
 * both.
 */
typedef struct tenon_plan tenon_plan;

/**
 * Scratch memory of one call, a field of every descriptor.
 *
 * When planning: `bytes` != 0 is the most workspace the plan may need; it takes the fastest choice within it (see tenon_plan_choice), or
 * fails with TENON_ERROR_OVER_BUDGET where a device has none so small. 0 is no limit; to ask for a plan without workspace say 1, since
 * nothing takes a single byte. `memory` is not looked at.
 *
 * When running: memory != NULL is used instead of the context's pool; it needs at least tenon_plan_info.workspace bytes (so `bytes` may
 * be 0 where a plan needs none), aligned to 64, and `bytes` of it share no memory with any operand. Contents are undefined before and
 * after. With memory == NULL `bytes` has no meaning. It is host memory: devices with a memory of their own draw from the pool all the same.
 *
 * A one-shot call does both: `bytes` limits the plan, and memory != NULL is used for it (INVALID_ARGUMENT if `bytes` is 0 then).
 */
typedef struct tenon_workspace {
    void *memory;
    size_t bytes;
} tenon_workspace;

/** What rounding is allowed between the operands and the sum. */
typedef enum tenon_compute {
    TENON_COMPUTE_DEFAULT = 0, /**< f64: f64; integers: exact; everything else: products of the operands as given, summed in f32 */
    TENON_COMPUTE_EXACT = 1,   /**< as default; quantised weights are decoded and multiplied without quantising the other operand */
    TENON_COMPUTE_FAST = 2     /**< inputs may be rounded to a smaller type, sums of 8-bit floats to fewer bits (docs/NUMERICS.md) */
} tenon_compute;

/** What a plan is. Strings live as long as the plan. */
typedef struct tenon_plan_info {
    size_t struct_size;         /**< set by the caller as in descriptors */
    const char *device;         /**< device string it runs on */
    const char *algorithm;      /**< e.g. "gemm-packed" */
    const char *kernel;         /**< e.g. "gemm_f32_6x16_avx2" */
    const char *reason;         /**< why this one, in a sentence */
    size_t workspace;           /**< bytes a run takes from the pool, exact; while these can't be had it goes on with a later choice */
    size_t workspace_preferred; /**< of the fastest choice */
    size_t workspace_smallest;  /**< of the smallest choice; on the CPU always 0 */
    double flops;               /**< floating-point (or integer) operations, a multiply-add is 2; data-dependent lengths at their upper
                                     bound */
    double bytes;               /**< bytes of all operands, each once */
    int32_t choices;            /**< how many algorithms could run, fastest first */
    int32_t chosen;             /**< index of the one that will */
    int32_t declined;           /**< how many devices or algorithms declined */
} tenon_plan_info;

/**
 * Fills `info`. @return TENON_OK; INVALID_ARGUMENT for NULL or a struct_size that covers nothing; the sentence is
 * tenon_error_message(NULL)'s, as of all calls here.
 */
TENON_API tenon_status tenon_plan_query(const tenon_plan *plan, tenon_plan_info *info);

/**
 * One algorithm that could run the plan. From one to the next the workspace falls and the predicted time does not, so the first that fits
 * is the fastest that fits; the same algorithm may come several times, with smaller and smaller pieces. All choices of a device give the
 * same bits. Strings live as long as the plan.
 */
typedef struct tenon_plan_choice {
    size_t struct_size;
    const char *algorithm;
    const char *kernel;
    size_t workspace;  /**< bytes */
    double seconds;    /**< predicted by the cost model (docs/MEMORY.md); only the order means much */
} tenon_plan_choice;

/**
 * Fills `choice` with number `index` < tenon_plan_info.choices. @return TENON_OK; INVALID_ARGUMENT for NULL or if there is no such choice.
 */
TENON_API tenon_status tenon_plan_choice_get(const tenon_plan *plan, int index, tenon_plan_choice *choice);

/**
 * Makes a plan take its choice number `index` from now on: a smaller workspace than it was made with, or a faster algorithm. The results
 * are the same bits. Not while it runs or is looked at by another thread.
 *
 * @return TENON_OK; INVALID_ARGUMENT if there is no such choice.
 */
TENON_API tenon_status tenon_plan_choose(tenon_plan *plan, int index);

/**
 * The sentence of number `index` < tenon_plan_info.declined: "cuda:0: declined because …"; NULL if out of range. Lives as long as the plan.
 */
TENON_API const char *tenon_plan_declined(const tenon_plan *plan, int index);

/**
 * Peak workspace of a list of plans run one after the other in one context: with what was chosen (`peak`), and the least with which each
 * could still run if planned under a limit (`smallest`). Either pointer may be NULL. @return TENON_OK; INVALID_ARGUMENT if `plans`, with
 * count > 0, or one of them is NULL.
 */
TENON_API tenon_status tenon_plan_budget(const tenon_plan *const *plans, size_t count, size_t *peak, size_t *smallest);

/** Ends a plan. Not while it runs. NULL is allowed. A plan may outlive the context it was made in, not the allocator hooks. */
TENON_API void tenon_plan_destroy(tenon_plan *plan);

#ifdef __cplusplus
}
#endif
#endif
