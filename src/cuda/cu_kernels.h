/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_kernels.h: what the operations' drivers (cu_gemm*.c, cu_softmax.c, cu_attention*.c,
 * cu_cache_ops.c) and the host side know of each other. A driver plans from the limits, without
 * touching CUDA, and when it runs describes launches; the host side loads modules and queues the
 * launches of a run, all or none.
 *
 * A kernel is extern "C", has one parameter, a struct by value (__grid_constant__ const), and takes
 * operands as addresses in it. Modules are the .cu files of kernels/, rows of cu_modules.def.
 */
#ifndef TN_CU_KERNELS_H
#define TN_CU_KERNELS_H

#include <stdbool.h>

#include "core/backend.h"

/* A device, as far as kernels are chosen by it; constant while it is open. */
typedef struct tn_cu_limits {
    int capability; /* 10 · major + minor: 80, 90, 120 */
    int code;       /* the highest architecture of the embedded code that runs here, as above */
    bool hopper;    /* code for sm_90a runs: wgmma, TMA */
    int multiprocessors;
    int group_threads;                     /* of a block, at most */
    int multiprocessor_threads;            /* resident at most */
    int multiprocessor_registers;          /* of 32 bits */
    size_t group_shared, group_shared_max; /* of a block: without, and with an opt-in */
    size_t multiprocessor_shared;
    uint64_t l2_bytes, memory_bytes;
    double clock_hz, memory_bytes_per_second; /* 0: not known */
    bool integrated;                          /* device and host share memory */
} tn_cu_limits;

/* ---------------------------------------------------------------- launches */

enum {
    TN_CU_PARAMETER_BYTES = 2048, /* of a kernel's struct; CUDA's own limit is 4096 */
    TN_CU_LAUNCHES = 64           /* of one run */
};

/* One kernel to be queued. Zero-initialise, fill in, then tn_cu_launch_add. */
typedef struct tn_cu_launch {
    const char *module; /* a row of cu_modules.def */
    const char *kernel;
    unsigned grid[3], group[3]; /* blocks, and threads of a block; 0 stands for 1 */
    unsigned cluster[3];        /* blocks of a cluster; all 0: none */
    size_t shared_bytes;        /* dynamic */
    bool scratch_only; /* writes nothing but the workspace: may have run when the call fails */
    size_t parameter_bytes;
    _Alignas(64) unsigned char parameters[TN_CU_PARAMETER_BYTES]; /* the kernel's struct */
} tn_cu_launch;

/* The work of one run. */
typedef struct tn_cu_work tn_cu_work;

/* An operand's address for kernels; 0 of an absent one (or NULL). */
uint64_t tn_cu_address(const tn_place *place);

/*
 * Writes the 128 bytes of a CUtensorMap (aligned to 64; lies in the parameters) of a dense box of
 * `rank` ≤ 5 dimensions, the fastest first: strides in bytes of dimensions 1 and up. `type` and
 * `swizzle` are CUtensorMapDataType and CUtensorMapSwizzle. False if the driver refuses: then the
 * driver of the operation must have another kernel.
 */
bool tn_cu_tensor_map(tn_cu_work *work, void *map, uint64_t address, int type, int rank,
                      const uint64_t *extent, const uint64_t *stride_bytes, const uint32_t *box,
                      int swizzle);

/*
 * Readies a launch: loads its module if need be, checks it against the limits. Nothing runs before
 * the driver has returned. OUT_OF_MEMORY, DEVICE_LOST, or INTERNAL for what the device can't do and
 * plan should have known.
 */
tenon_status tn_cu_launch_add(tn_cu_work *work, const tn_cu_launch *launch, tn_message *why);

/* ---------------------------------------------------------------- drivers */

tenon_status tn_cu_gemm_plan(const tn_cu_limits *limits, const tn_gemm_problem *p, tn_choices *out,
                             tn_message *why);
tenon_status tn_cu_gemm_run(tn_cu_work *work, const tn_run *run, tn_message *why);
tenon_status tn_cu_gemm_pack_size(const tn_gemm_problem *p, size_t *bytes, tn_message *why);
tenon_status tn_cu_gemm_pack_check(const tn_gemm_problem *p, const void *packed, size_t bytes,
                                   tn_message *why);
tenon_status tn_cu_gemm_pack_run(tn_cu_work *work, const tn_run *run, tn_message *why);

tenon_status tn_cu_dequantize_plan(const tn_cu_limits *limits, const tn_dequantize_problem *p,
                                   tn_choices *out, tn_message *why);
tenon_status tn_cu_dequantize_run(tn_cu_work *work, const tn_run *run, tn_message *why);

tenon_status tn_cu_softmax_plan(const tn_cu_limits *limits, const tn_softmax_problem *p,
                                tn_choices *out, tn_message *why);
tenon_status tn_cu_softmax_run(tn_cu_work *work, const tn_run *run, tn_message *why);

tenon_status tn_cu_attention_plan(const tn_cu_limits *limits, const tn_attention_problem *p,
                                  tn_choices *out, tn_message *why);
tenon_status tn_cu_attention_run(tn_cu_work *work, const tn_run *run, tn_message *why);

tenon_status tn_cu_merge_plan(const tn_cu_limits *limits, const tn_merge_problem *p,
                              tn_choices *out, tn_message *why);
tenon_status tn_cu_merge_run(tn_cu_work *work, const tn_run *run, tn_message *why);

tenon_status tn_cu_append_plan(const tn_cu_limits *limits, const tn_append_problem *p,
                               tn_choices *out, tn_message *why);
tenon_status tn_cu_append_run(tn_cu_work *work, const tn_run *run, tn_message *why);

#endif
