/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stand_in_opencl.h: what a test tells the stand-in for libOpenCL.so.1 that it has loaded
 * (TENON_OPENCL_LIBRARY names it; the test finds these functions with dlsym in the same library).
 */
#ifndef STAND_IN_OPENCL_H
#define STAND_IN_OPENCL_H

#include <stdint.h>

typedef enum stand_in_fault {
    STAND_IN_SHORT, /* no memory: an allocation failure, or whatever the function has for it */
    STAND_IN_LOST,  /* the device is gone */
    STAND_IN_ODD    /* a code that no specification knows */
} stand_in_fault;

/* What the device says of itself in place of the truth; 0: the truth. */
typedef struct stand_in_limits {
    int devices;          /* how many there are: the same one over again */
    int discrete;         /* 1: memory is not shared with the host */
    int updated;          /* 1: the driver has another version */
    uint64_t alloc_bytes; /* of one buffer */
    uint64_t memory_bytes;
    uint64_t group_items, local_bytes, argument_bytes;
    uint64_t
        late_bytes; /* buffers of at least so many bytes are made, and fail when they are used */
} stand_in_limits;

typedef struct stand_in_calls {
    /* The n-th call from now (1: the next) fails, with `sticky` every one after it too; 0: none. */
    void (*strike)(uint64_t nth, int sticky, stand_in_fault how);
    /* Only calls of this function are counted and fail; NULL: all. */
    void (*only)(const char *function);
    uint64_t (*calls)(void);   /* counted since `strike` */
    uint64_t (*struck)(void);  /* faults since `strike` */
    const char *(*last)(void); /* the function that failed last */
    int64_t (*live)(void);     /* objects that were made and not released */
    void (*pretend)(const stand_in_limits *limits);
    uint64_t (*launches)(void); /* kernels queued without a failure, since the start */
    /* Programs whose options have this word can't be built; NULL: all can. */
    void (*refuse)(const char *word);
    /* How often an object was made over host memory that another one had, which OpenCL 1.2 leaves
     * undefined. */
    uint64_t (*overlaps)(void);
    /* Who releases a memory object next calls then(user) before it is released; once. */
    void (*at_release)(void (*then)(void *user), void *user);
} stand_in_calls;

/* The one symbol: const stand_in_calls *stand_in(void). */
typedef const stand_in_calls *stand_in_function(void);

#endif
