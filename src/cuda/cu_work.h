/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_work.h: the launches of one run, readied one by one and queued together. Nothing is allocated
 * between: a device has one, and room in it for all.
 */
#ifndef TN_CU_WORK_H
#define TN_CU_WORK_H

#include "cuda/cu_kernels.h"
#include "cuda/cu_space.h"

typedef struct tn_cu_ready {
    const tn_cu_kernel *kernel;
    unsigned grid[3], group[3], cluster[3];
    unsigned shared_bytes;
    bool scratch_only;
    size_t parameters; /* where they lie in the work's */
} tn_cu_ready;

struct tn_cu_work {
    tn_cu_space *space;
    int count;
    size_t used; /* bytes of parameters */
    tn_cu_ready ready[TN_CU_LAUNCHES];
    _Alignas(64) unsigned char parameters[TN_CU_LAUNCHES * TN_CU_PARAMETER_BYTES];
};

/*
 * Queues all launches, or none: each was checked when it was readied, and one that the driver is
 * too short of memory for is tried again when the stream has come to its end. If it fails for good
 * after one that writes outputs the device counts as lost. OUT_OF_MEMORY, DEVICE_LOST, UNSUPPORTED,
 * INTERNAL. Pre: the space is entered.
 */
tenon_status tn_cu_work_submit(tn_cu_work *work, tn_message *why);

#endif
