/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_work.h: the launches of one run, readied one by one and queued together.
 */
#ifndef TN_CL_WORK_H
#define TN_CL_WORK_H

#include "opencl/cl_kernels.h"
#include "opencl/cl_space.h"

typedef struct tn_cl_ready {
    tn_cl_kernel *kernel;
    int dims;
    bool scratch_only, chosen; /* chosen: local is the driver's own choice */
    size_t global[3], local[3];
} tn_cl_ready;

struct tn_cl_work {
    tn_cl_space *space;
    const char *cache; /* directory for built programs, or NULL */
    int count;
    tn_cl_ready ready[TN_CL_LAUNCHES];
};

/*
 * Queues all launches, or none: where one that writes outputs is followed by another, all wait for
 * an event that says go when the last is queued, or that they are cancelled. OUT_OF_MEMORY,
 * DEVICE_LOST, INTERNAL.
 */
tenon_status tn_cl_work_submit(tn_cl_work *work, tn_message *why);

/* Gives the kernels back; after a submit or instead of one. */
void tn_cl_work_end(tn_cl_work *work);

#endif
