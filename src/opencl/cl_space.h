/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_space.h: an OpenCL device at work: its context, its one queue, its memory, its kernels.
 *
 * Contexts of tenon that borrow nothing share the space of their device, so that pools, buffers and
 * built kernels are common to them and all work is in one order. A context with a borrowed
 * cl_context has a space of its own.
 *
 * Once a call says that the device is lost nothing more is asked of the driver but to release what
 * it has; in the child of a fork not even that, as the driver's threads are the parent's.
 */
#ifndef TN_CL_SPACE_H
#define TN_CL_SPACE_H

#include <stdatomic.h>

#include "core/os.h"
#include "memory/space.h"
#include "opencl/cl_library.h"
#include "opencl/cl_programs.h"

typedef struct tn_cl_lent tn_cl_lent;
typedef struct tn_cl_mapping tn_cl_mapping;

typedef struct tn_cl_space {
    tn_space base;
    uint32_t holders; /* under the lock of all spaces */
    const tn_cl *cl;
    int index; /* in the library's list */
    bool shared;
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    bool lent_queue; /* it is the caller's */
    tn_cl_limits limits;
    tn_fork_mark home;
    atomic_bool lost;
    tn_cl_programs programs;
    tn_mutex memory_lock;
    tn_cl_lent *lent;        /* host memory that is the device's in place */
    tn_cl_mapping *mappings; /* of its memory, that the host has */
} tn_cl_space;

/*
 * The space of device `index`, retained: the shared one, or one in borrowed objects (a queue may be
 * borrowed only with its context). NO_DEVICE, INVALID_ARGUMENT with the field, OUT_OF_MEMORY.
 */
tenon_status tn_cl_space_open(int index, void *native_context, void *native_queue,
                              tn_cl_space **out, tn_message *why);
void tn_cl_space_retain(tn_cl_space *space);
void tn_cl_space_release(tn_cl_space *space);

/* cl_memory.c: its memory, and what is left of that at the end. */
extern const tn_space_calls tn_cl_space_calls;
void tn_cl_memory_close(tn_cl_space *space);

/* DEVICE_LOST if nothing can be asked of the device any more. */
tenon_status tn_cl_space_check(tn_cl_space *space, tn_message *why);

/*
 * What an error code of a call means: OUT_OF_MEMORY, DEVICE_LOST (latched) or INTERNAL; TENON_OK
 * for CL_SUCCESS. After a call that waits for work (`waited`) anything but a shortage is a loss:
 * what was queued has come to nothing.
 */
tenon_status tn_cl_status(tn_cl_space *space, cl_int code, const char *call, bool waited,
                          tn_message *why);

/* DEVICE_LOST, latched. */
tenon_status tn_cl_lose(tn_cl_space *space, cl_int code, const char *call, tn_message *why);

#endif
