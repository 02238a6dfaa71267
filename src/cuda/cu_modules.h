/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_modules.h: the embedded modules, and those that a context has loaded, with their kernels.
 *
 * A module's image is a fatbin: for each architecture of the build machine code and the PTX that it
 * came from. The driver takes the machine code that is nearest below the device, else compiles PTX.
 * Drivers older than the toolkit refuse such machine code; they get the image's PTX alone, whose
 * version is the oldest that has its instructions. A module is loaded at the first use of one of
 * its kernels and stays until its space ends. Thread safe.
 */
#ifndef TN_CU_MODULES_H
#define TN_CU_MODULES_H

#include "core/os.h"
#include "cuda/cu_library.h"

struct tn_cu_space;

/* A kernel of a loaded module. */
typedef struct tn_cu_kernel {
    struct tn_cu_kernel *next;
    CUfunction id;
    int arch;                   /* 10 · major + minor of the code that was taken */
    int group_threads;          /* of a block, at most */
    size_t shared, shared_most; /* bytes of a block: static, and dynamic ones that can be had */
    size_t bytes;               /* of this record */
    char name[];
} tn_cu_kernel;

enum { TN_CU_MODULES_MOST = 64 };

typedef struct tn_cu_loaded {
    CUmodule id; /* NULL: not loaded */
    tn_cu_kernel *kernels;
} tn_cu_loaded;

typedef struct tn_cu_modules {
    tn_mutex lock;                           /* held while a module is loaded */
    tn_cu_loaded loaded[TN_CU_MODULES_MOST]; /* by row of cu_modules.def */
} tn_cu_modules;

/* The highest of the build's architectures that a device can run; 0: none. Whether there is code
 * for sm_90a. */
int tn_cu_modules_code(int capability);
bool tn_cu_modules_hopper(void);

/*
 * A kernel of a module, loaded if need be. Pre: the space's context is current. OUT_OF_MEMORY,
 * DEVICE_LOST; UNSUPPORTED if the driver refuses the code, or if the queue is being captured and
 * the kernel is not loaded; INTERNAL if there is none of that name.
 */
tenon_status tn_cu_kernel_get(struct tn_cu_space *space, const char *module, const char *kernel,
                              const tn_cu_kernel **out, tn_message *why);

/* Unloads all of it; with `driver` false only forgets it. */
void tn_cu_modules_close(tn_cu_modules *modules, const struct tn_cu_space *space, bool driver);

#endif
