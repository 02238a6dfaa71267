/* SPDX-License-Identifier: Apache-2.0 */
/*
 * standin.h: what the stand-in CUDA driver offers beyond the driver API.
 *
 * The stand-in is a shared object with the entry points of libcuda.so.1 that executes kernels' PTX
 * on the host (docs/CUDA_STAND_IN.md). It never prints. Programs choose the device and the seed,
 * make calls fail, and ask for findings and counters with these functions, which they link or take
 * with dlsym. One thread at a time may use the functions of this header.
 */
#ifndef TEST_STANDIN_H
#define TEST_STANDIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STANDIN_API __attribute__((visibility("default")))

/* What a finding is about. */
typedef enum standin_kind {
    STANDIN_RACE,          /* shared memory: two accesses that nothing orders */
    STANDIN_BOUNDS,        /* an access outside every allocation, or outside shared memory */
    STANDIN_FREED,         /* an access to memory that was freed or unmapped */
    STANDIN_MISALIGNED,    /* an address that is no multiple of the access's size */
    STANDIN_UNINITIALISED, /* a read of shared memory that nothing wrote */
    STANDIN_IN_FLIGHT,     /* an access to what an asynchronous copy or product still owns */
    STANDIN_DIVERGENT,     /* an instruction for whole warps reached by a part of one */
    STANDIN_DEADLOCK,      /* nobody can go on */
    STANDIN_UNKNOWN,       /* PTX that the stand-in doesn't execute: the kernel can't be loaded */
    STANDIN_USAGE,         /* operands or driver calls that the manuals forbid */
    STANDIN_KINDS
} standin_kind;

typedef struct standin_finding {
    standin_kind kind;
    uint64_t times;     /* how often at this statement of this kernel */
    char kernel[96];    /* empty where no kernel is concerned */
    uint32_t line;      /* of the PTX text, from 1; 0 where there is none */
    uint32_t block[3];  /* the first time: %ctaid */
    int32_t warp, lane; /* the first time; -1 where unknown */
    uint64_t address;   /* the first time; shared memory: the offset */
    char text[320];     /* a sentence, and the PTX statement */
} standin_finding;

/* Findings since standin_clear, one per kernel, statement and kind, in the order of their first
 * time. standin_at returns NULL beyond the last. */
STANDIN_API size_t standin_count(void);
STANDIN_API size_t standin_count_of(standin_kind kind);
STANDIN_API const standin_finding *standin_at(size_t index);
STANDIN_API const char *standin_kind_name(standin_kind kind);
/* Forgets findings and counters. */
STANDIN_API void standin_clear(void);
/* Appends all findings to a file, one line each. Returns whether it could be written. */
STANDIN_API bool standin_report(const char *path);

/* Counted per kernel over all launches since standin_clear, in warp instructions. */
typedef struct standin_counters {
    uint64_t launches, instructions, mma, mma_flops;
    uint64_t shared_requests; /* loads, stores and rows of ldmatrix/stmatrix, in ideal wavefronts */
    uint64_t shared_wavefronts; /* what bank conflicts make of them */
    uint64_t global_requests;
    uint64_t global_sectors; /* 32-byte sectors touched, summed over requests */
    uint64_t global_ideal;   /* sectors if the same bytes lay densely */
    uint64_t async_bytes;    /* by cp.async and bulk copies */
} standin_counters;

/* Zeros for a kernel that never ran. The kernel by its PTX name; NULL: the sum over all. */
STANDIN_API standin_counters standin_counters_of(const char *kernel);

/* The device that cuInit finds. Call before cuInit or after standin_reset. */
typedef struct standin_device {
    int arch;            /* 75, 80, 86, 89, 90, 100, 120; default 80 */
    int count;           /* of equal devices; default 1 */
    size_t memory;       /* bytes of device memory; default 1 GiB */
    int driver_version;  /* as cuDriverGetVersion says; default 13000 */
    bool no_vmm;         /* without the virtual-memory functions (attribute 102 is 0) */
    int multiprocessors; /* 0: as many as cards of this architecture have */
} standin_device;
STANDIN_API void standin_configure(const standin_device *device);

/* Everything as at load: contexts, memory, modules, findings, faults and configuration are gone.
 * Pointers and handles from before must not be used. */
STANDIN_API void standin_reset(void);

/* Order of warps, blocks and streams, delivery of copies, errors of approximations. Default 1. */
STANDIN_API void standin_seed(uint64_t seed);

/* Switches, all on at first but the last. */
typedef struct standin_options {
    bool check_shared;   /* races, uninitialised and in-flight bytes of shared memory */
    bool count;          /* counters of memory traffic */
    bool poison;         /* fresh device memory is filled with 0xff: NaN in every float type */
    bool approximations; /* ex2, lg2, rcp, … err within their documented bounds */
    bool lazy_streams;   /* work is done as late as allowed */
    uint64_t max_instructions; /* of one launch, then STANDIN_DEADLOCK; default 2^30 */
    uint32_t most_blocks; /* > 0: a launch has as many along x at most, for kernels whose blocks
                             are only the first of a loop; default 0 */
} standin_options;
STANDIN_API standin_options standin_get_options(void);
STANDIN_API void standin_set_options(const standin_options *options);

/* The n-th call (1: the next) of the driver function of this name (without _v2, …; NULL: of any
 * that can fail) returns this CUresult instead of doing anything; with `sticky` every later one
 * too, until standin_disarm. */
STANDIN_API void standin_arm(const char *function, int64_t nth, int result, bool sticky);
/* The n-th launch from now fails with this CUresult when the stream comes to it, and the context
 * is lost. */
STANDIN_API void standin_arm_launch(int64_t nth, int result);
/* Every context is lost, as after a fault on the device: each call returns this result. */
STANDIN_API void standin_lose_device(int result);
/* Ends faults and returns how many calls were made to fail. */
STANDIN_API int64_t standin_disarm(void);
/* Calls since load or standin_reset of functions that can be made to fail. */
STANDIN_API int64_t standin_calls(void);

/* What is alive: bytes of device memory, allocations and mappings, modules, streams, events. */
typedef struct standin_live {
    size_t bytes, allocations, modules, streams, events, contexts;
} standin_live;
STANDIN_API standin_live standin_get_live(void);

/* Wrong kernels on purpose. Modules that have this kernel get `text` as line `line` (from 1) of
 * their PTX when they are loaded from now on, until standin_reset. One line at a time; NULL ends. */
STANDIN_API void standin_patch(const char *kernel, uint32_t line, const char *text);
/* The PTX of the loaded module that has this kernel; NULL if there is none. */
STANDIN_API const char *standin_ptx(const char *kernel);
/* Whether a warp has come to a statement on this line of the loaded kernel's PTX. */
STANDIN_API bool standin_reached(const char *kernel, uint32_t line);

#endif
