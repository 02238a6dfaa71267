/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_programs.h: programs built for a device, and a free list of their kernels. A program is built
 * at its first use, from the cache file if there is a directory for them (cl_cache.h) and the file
 * is whole, else from source. A cl_kernel keeps its arguments, so one belongs to whoever took it
 * until it has been queued. Thread safe.
 */
#ifndef TN_CL_PROGRAMS_H
#define TN_CL_PROGRAMS_H

#include "core/os.h"
#include "opencl/cl_library.h"

struct tn_cl_space;

/* A kernel object, free or taken. */
typedef struct tn_cl_kernel {
    struct tn_cl_kernel *next;
    cl_kernel id;
    const char *name; /* a literal of its driver */
    struct tn_cl_build *build;
    size_t group_items; /* most work-items of a group, as the driver says for this kernel */
} tn_cl_kernel;

/* A program as built with some options; or one that the compiler refused. As compilers also refuse
 * what they lack memory for, that is tried again: after 1 use, 2, 4 and so on, up to 64. */
typedef struct tn_cl_build {
    struct tn_cl_build *next;
    cl_program id; /* NULL: refused */
    uint32_t patience, waited;
    const char *program; /* a literal of the table */
    uint64_t hash;       /* of program and options */
    bool unsaved;        /* built from source, and in no file yet */
    tn_cl_kernel *idle;
    char options[TN_CL_OPTIONS];
} tn_cl_build;

typedef struct tn_cl_programs {
    tn_mutex lock; /* held while a program is built */
    tn_cl_build *first;
    uint32_t unsaved;       /* how many programs are */
    uint64_t built, loaded; /* how many programs came from source, and from files */
} tn_cl_programs;

/*
 * Takes a kernel of a program, built if need be; `cache` is a directory, or NULL. OUT_OF_MEMORY,
 * DEVICE_LOST, UNSUPPORTED with the compiler's first words if the driver can't build it.
 */
tenon_status tn_cl_kernel_take(struct tn_cl_space *space, const tn_cl_launch *launch,
                               const char *cache, tn_cl_kernel **out, tn_message *why);
void tn_cl_kernel_give(struct tn_cl_space *space, tn_cl_kernel *kernel);

/* Puts what was built since into files of directory `cache`. Drivers finish a program when its
 * kernels first run, so it is called when they have. Harmless if it fails. */
void tn_cl_programs_save(struct tn_cl_space *space, const char *cache);

/*
 * As tenon_context_save_kernels and tenon_context_load_kernels: writes all built programs if
 * `capacity` bytes are enough for them (*bytes says how many they take; NULL: asks for that only),
 * and takes those that are not there yet, which are counted. OUT_OF_MEMORY, DEVICE_LOST, INTERNAL.
 */
tenon_status tn_cl_programs_write(struct tn_cl_space *space, void *memory, size_t capacity,
                                  size_t *bytes, tn_message *why);
tenon_status tn_cl_programs_read(struct tn_cl_space *space, const void *memory, size_t bytes,
                                 int *loaded, tn_message *why);

/* Releases all of it. Nothing may be taken. */
void tn_cl_programs_close(tn_cl_programs *programs, const struct tn_cl_space *space);

#endif
