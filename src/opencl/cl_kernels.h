/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_kernels.h: what the operations' drivers (kernels/) and the host side know of each other. A
 * driver plans from the limits, without touching OpenCL, and when it runs describes launches; the
 * host side builds programs, sets arguments and queues the launches of a run, all or none.
 */
#ifndef TN_CL_KERNELS_H
#define TN_CL_KERNELS_H

#include <stdbool.h>

#include "core/backend.h"

/* The two families of kernels. */
typedef enum tn_cl_family {
    TN_CL_CPU_LIKE, /* work-groups of one, native vectors, no barriers, no local memory */
    TN_CL_GPU_LIKE  /* work-groups of many, local memory */
} tn_cl_family;

/* A device, as far as kernels are chosen by it; constant while it is open. */
typedef struct tn_cl_limits {
    tn_cl_family family; /* by the device's type; TENON_OPENCL_FAMILY=cpu|gpu forces one (tests) */
    uint32_t version;    /* of OpenCL C: 120, 200, 300 */
    uint32_t units;      /* compute units */
    uint32_t float_width, double_width, char_width; /* native vectors, in elements, at least 1 */
    size_t group_items;                             /* most work-items of a group */
    size_t group_extent[3];                         /* and in each dimension */
    size_t local_bytes;                             /* of a group */
    size_t argument_bytes;                          /* of a kernel's arguments */
    uint64_t alloc_bytes, memory_bytes, cache_bytes;
    bool local_real; /* local memory is a memory of its own */
    bool unified;    /* device and host share memory */
    bool fp64, fp16, subgroups, int8_dot;
    bool exact_divide; /* f32 quotients and roots are rounded correctly, as programs ask for */
} tn_cl_limits;

/* ---------------------------------------------------------------- launches */

enum {
    TN_CL_ARGS = 48,             /* kernel arguments; a place takes two */
    TN_CL_ARGUMENT_BYTES = 1024, /* of all together */
    TN_CL_LAUNCHES = 64,         /* of one run */
    TN_CL_OPTIONS = 384          /* bytes of options, with the end */
};

typedef struct tn_cl_arg {
    uint16_t bytes;
    uint16_t at; /* in tn_cl_launch.value */
    bool local;  /* local memory of tn_cl_launch.local_bytes[at] */
} tn_cl_arg;

/* One kernel to be queued. Zero-initialise, fill in, add arguments in order. */
typedef struct tn_cl_launch {
    const char *program; /* a row of cl_programs.def */
    const char *kernel;
    const char *options; /* macros: "-DMR=6 -DNR=16"; NULL: none */
    int dims;
    size_t global[3], local[3]; /* local all 0: as the driver likes */
    bool scratch_only; /* writes nothing but the workspace: may have run when the call fails */
    int args;
    size_t used, local_used; /* bytes of arguments and of local memory so far */
    tn_cl_arg arg[TN_CL_ARGS];
    _Alignas(16) unsigned char value[TN_CL_ARGUMENT_BYTES];
} tn_cl_launch;

/* The work of one run, and the limits of the device that it is for. */
typedef struct tn_cl_work tn_cl_work;
const tn_cl_limits *tn_cl_work_limits(const tn_cl_work *work);

/* A global pointer and a ulong, the offset in bytes. Of an absent operand: NULL and 0. */
void tn_cl_arg_place(tn_cl_launch *launch, const tn_place *place);
/* The pointer alone, for kernels that get place->offset among their numbers. */
void tn_cl_arg_memory(tn_cl_launch *launch, const tn_place *place);
/* Anything by value. */
void tn_cl_arg_bytes(tn_cl_launch *launch, const void *value, size_t bytes);
/* A pointer to local memory. */
void tn_cl_arg_local(tn_cl_launch *launch, size_t bytes);

static inline void tn_cl_arg_i32(tn_cl_launch *launch, int32_t value) {
    tn_cl_arg_bytes(launch, &value, sizeof value);
}
static inline void tn_cl_arg_u32(tn_cl_launch *launch, uint32_t value) {
    tn_cl_arg_bytes(launch, &value, sizeof value);
}
static inline void tn_cl_arg_i64(tn_cl_launch *launch, int64_t value) {
    tn_cl_arg_bytes(launch, &value, sizeof value);
}
static inline void tn_cl_arg_f32(tn_cl_launch *launch, float value) {
    tn_cl_arg_bytes(launch, &value, sizeof value);
}
static inline void tn_cl_arg_f64(tn_cl_launch *launch, double value) {
    tn_cl_arg_bytes(launch, &value, sizeof value);
}

/*
 * Readies a launch: builds its program if need be, checks it against the limits, sets its
 * arguments. Nothing runs before the driver has returned. OUT_OF_MEMORY, DEVICE_LOST, or INTERNAL
 * for what the device can't do and plan should have known.
 */
tenon_status tn_cl_launch_add(tn_cl_work *work, const tn_cl_launch *launch, tn_message *why);

/* ---------------------------------------------------------------- drivers */

tenon_status tn_cl_gemm_plan(const tn_cl_limits *limits, const tn_gemm_problem *p, tn_choices *out,
                             tn_message *why);
tenon_status tn_cl_gemm_run(tn_cl_work *work, const tn_run *run, tn_message *why);

/* A packed B, as in tn_backend. */
tenon_status tn_cl_gemm_pack_size(const tn_cl_limits *limits, const tn_gemm_problem *p,
                                  size_t *bytes, tn_message *why);
tenon_status tn_cl_gemm_pack_check(const tn_cl_limits *limits, const tn_gemm_problem *p,
                                   const void *packed, size_t bytes, tn_message *why);
tenon_status tn_cl_gemm_pack_run(tn_cl_work *work, const tn_run *run, tn_message *why);

tenon_status tn_cl_softmax_plan(const tn_cl_limits *limits, const tn_softmax_problem *p,
                                tn_choices *out, tn_message *why);
tenon_status tn_cl_softmax_run(tn_cl_work *work, const tn_run *run, tn_message *why);

tenon_status tn_cl_attention_plan(const tn_cl_limits *limits, const tn_attention_problem *p,
                                  tn_choices *out, tn_message *why);
tenon_status tn_cl_attention_run(tn_cl_work *work, const tn_run *run, tn_message *why);

tenon_status tn_cl_merge_plan(const tn_cl_limits *limits, const tn_merge_problem *p,
                              tn_choices *out, tn_message *why);
tenon_status tn_cl_merge_run(tn_cl_work *work, const tn_run *run, tn_message *why);

tenon_status tn_cl_dequantize_plan(const tn_cl_limits *limits, const tn_dequantize_problem *p,
                                   tn_choices *out);
tenon_status tn_cl_dequantize_run(tn_cl_work *work, const tn_run *run, tn_message *why);

tenon_status tn_cl_append_plan(const tn_cl_limits *limits, const tn_append_problem *p,
                               tn_choices *out, tn_message *why);
tenon_status tn_cl_append_run(tn_cl_work *work, const tn_run *run, tn_message *why);

#endif
