/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_space.h: a CUDA device at work: its context, its one stream, its memory, its modules.
 *
 * Contexts of tenon that borrow nothing share the space of their device, on its primary context, so
 * that pools, buffers and loaded modules are common to them and all work is in one order. One with
 * a borrowed CUcontext or CUstream has a space of its own.
 *
 * A context is made current for the length of a call and no longer; what was current before is so
 * again. Once a call says that the context is lost it is asked for nothing more but to release what
 * it has; in the child of a fork not even that.
 */
#ifndef TN_CU_SPACE_H
#define TN_CU_SPACE_H

#include <stdatomic.h>

#include "core/os.h"
#include "cuda/cu_library.h"
#include "cuda/cu_modules.h"
#include "memory/space.h"

/* Memory that a pool holds as a segment. */
typedef struct tn_cu_range {
    struct tn_cu_range *next;
    CUdeviceptr address;  /* of the segment */
    CUdeviceptr obtained; /* from cuMemAlloc; 0: the addresses are reserved, memory is mapped */
    size_t bytes;         /* of the segment */
    size_t mapped;        /* bytes that have memory */
    bool retired;         /* given back, but work may still use it */
} tn_cu_range;

/* A part that the host has an address for. */
typedef struct tn_cu_mapping {
    struct tn_cu_mapping *next;
    tn_place at;
    size_t bytes;
    _Alignas(TN_CACHE_LINE) unsigned char copy[];
} tn_cu_mapping;

/* Pinned memory that copies go through. */
typedef struct tn_cu_staging {
    tn_mutex lock;
    unsigned char *half[2]; /* NULL: could not be had */
    CUevent done[2];        /* when the last copy from or to that half is */
    bool used[2];           /* there has been one */
    int next;               /* half to write from */
} tn_cu_staging;

typedef struct tn_cu_space {
    tn_space base;
    uint32_t holders; /* under the lock of all spaces */
    const tn_cu *cu;
    int driver_version;
    int index; /* in the library's list */
    bool shared;
    CUdevice device;
    CUcontext context;
    bool primary; /* the context is the device's, retained */
    CUstream stream;
    bool own_stream;
    tn_cu_limits limits;
    tn_fork_mark home;
    atomic_bool lost;
    tn_cu_modules modules;
    tn_mutex lock; /* of what follows */
    tn_cu_range *ranges;
    tn_cu_mapping *mappings;
    tn_cu_staging staging;
} tn_cu_space;

/*
 * The space of device `index`, retained: the shared one, or one in borrowed objects (a stream
 * brings its context). NO_DEVICE, INVALID_ARGUMENT with the field, OUT_OF_MEMORY.
 */
tenon_status tn_cu_space_open(int index, void *native_context, void *native_queue,
                              tn_cu_space **out, tn_message *why);
void tn_cu_space_release(tn_cu_space *space);

/* DEVICE_LOST if nothing can be asked of the device any more. */
tenon_status tn_cu_space_check(tn_cu_space *space, tn_message *why);

/* Makes the context current, if it is not lost, until tn_cu_space_leave. */
tenon_status tn_cu_space_enter(tn_cu_space *space, tn_message *why);
void tn_cu_space_leave(tn_cu_space *space);

/* Whether the stream is being captured, so that nothing may wait, be allocated or copied. Pre:
 * entered. */
bool tn_cu_space_captured(tn_cu_space *space);

/* UNSUPPORTED, naming `what`, if it is being captured. Pre: entered. */
tenon_status tn_cu_space_uncaptured(tn_cu_space *space, const char *what, tn_message *why);

/* Waits for all that was queued. Pre: entered, not captured. */
tenon_status tn_cu_space_finish(tn_cu_space *space, tn_message *why);

/* True if no work of this stream is going on, or ever will: all is done, or the context is gone.
 * Pre: current, lost or not. */
bool tn_cu_space_quiet(tn_cu_space *space);

/*
 * What an error of a call means: OUT_OF_MEMORY, DEVICE_LOST (latched), UNSUPPORTED or INTERNAL;
 * TENON_OK for CUDA_SUCCESS. After a call that waits for work (`waited`) anything but a shortage is
 * a loss: what was queued has come to nothing.
 */
tenon_status tn_cu_status(tn_cu_space *space, CUresult code, const char *call, bool waited,
                          tn_message *why);

/* Latches a loss that no single error says. */
tenon_status tn_cu_lose(tn_cu_space *space, CUresult code, const char *call, tn_message *why);

/* ---------------------------------------------------------------- memory (cu_memory.c) */

/* Whether segments are mapped, and in which units: base.granularity and base.part. */
void tn_cu_memory_open(tn_cu_space *space);
/* Gives everything back. `current`: the context is, and nothing is going on in it. */
void tn_cu_memory_close(tn_cu_space *space, bool current);

bool tn_cu_memory_alloc(tn_space *space, size_t bytes, tn_segment_memory *out);
void tn_cu_memory_free(tn_space *space, const tn_segment_memory *memory);
bool tn_cu_memory_give_part(tn_space *space, const tn_segment_memory *memory, size_t offset,
                            size_t bytes);

/* ---------------------------------------------------------------- copies (cu_staging.c) */

void tn_cu_staging_close(tn_cu_space *space, bool current);

tenon_status tn_cu_write(tn_space *space, const tn_place *to, const void *host, size_t bytes,
                         tn_message *why);
tenon_status tn_cu_read(tn_space *space, void *host, const tn_place *from, size_t bytes,
                        tn_message *why);
tenon_status tn_cu_fill(tn_space *space, const tn_place *to, unsigned char value, size_t bytes,
                        tn_message *why);
tenon_status tn_cu_map(tn_space *space, const tn_place *at, size_t bytes, void **host,
                       tn_message *why);
tenon_status tn_cu_unmap(tn_space *space, const tn_place *at, size_t bytes, void *host,
                         tn_message *why);

#endif
