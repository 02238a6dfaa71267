/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drv.h: objects behind the driver API's handles.
 *
 * drv_*.c implement the entry points that cuda.h declares; one lock covers all of them. Every entry
 * point begins with drv_enter, which counts the call, makes it fail where a test asked for that,
 * and
 * checks the context, and ends with drv_leave.
 */
#ifndef TEST_DRV_H
#define TEST_DRV_H

#include "sim.h"

#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

typedef struct drv_limits { /* of one architecture */
    int arch, shared_per_sm, shared_opt_in, threads_per_sm, blocks_per_sm, sms, l2;
} drv_limits;

struct CUctx_st {
    int device;
    int users; /* retains of a primary context; 1 for a created one */
    int lost;  /* CUresult of what ended it; 0 while it lives */
    bool primary;
    unsigned flags;
    CUstream null_stream;
    CUcontext next;
};

typedef enum drv_kind { DO_LAUNCH, DO_COPY, DO_SET, DO_RECORD, DO_WAIT, DO_CALL, DO_FREE } drv_kind;

typedef struct drv_command {
    drv_kind kind;
    sim_launch *launch;
    u64 to, from; /* DO_COPY; device addresses or host pointers */
    size_t bytes;
    u8 *staged; /* pageable source, copied at enqueue */
    u32 value, width;
    CUevent event;
    u64 ticket;
    CUhostFn call;
    void *argument;
    struct drv_command *next;
} drv_command;

struct CUstream_st {
    CUcontext context;
    bool blocking; /* waits for and is waited for by the null stream */
    int priority;
    drv_command *head, *tail;
    CUgraph capture;
    CUstream next;
};

struct CUevent_st {
    CUcontext context;
    u64 recorded, done;
    unsigned flags;
    u32 pending; /* commands that name it */
    bool destroyed;
    CUgraph capture;
};

struct CUmod_st {
    CUcontext context;
    sim_module *sim;
    CUmodule next;
};

struct CUgraph_st {
    drv_command *head, *tail;
};
struct CUgraphExec_st {
    drv_command *head;
};

extern struct drv_state {
    standin_device device;
    bool initialised;
    CUcontext contexts, primary[16];
    CUstream streams; /* all of them, the contexts' null streams too */
    CUmodule modules;
    size_t allocated;
    standin_live live;
    u64 rng;
} drv;

/* CUDA_SUCCESS with the lock held, or what the call returns. `context`: it needs a current one. */
CUresult drv_enter(const char *name, bool context);
CUresult drv_leave(CUresult result);
CUcontext drv_current(void);
const drv_limits *drv_device_limits(void);
int drv_forced_launch_result(void);

/* Streams. */
CUstream drv_stream(CUstream s); /* the context's null stream for NULL and CU_STREAM_LEGACY */
void drv_enqueue(CUstream s, const drv_command *c);
CUresult drv_drain(CUstream s); /* until it is empty */
CUresult drv_drain_context(CUcontext c);
bool drv_capturing(void); /* any stream is: allocation and waits are refused */
void drv_free_command(drv_command *c);
drv_command *drv_clone_command(const drv_command *c);
CUstream drv_new_stream(CUcontext c, bool blocking, int priority);
void drv_drop_stream(CUstream s);

/* Memory. */
bool drv_is_pinned(const void *p, size_t bytes);
CUresult drv_copy(u64 to, u64 from, size_t bytes);
CUresult drv_free(CUdeviceptr p);
void drv_drop_memory(CUcontext c); /* all that goes with a context */
void drv_reset_memory(void);

/* Modules. */
char *drv_find_ptx(const void *image, size_t *length, int *result, const u8 **cubin);
void drv_read_registers(sim_module *m, const u8 *cubin);
void drv_unload(CUmodule m);

#endif
