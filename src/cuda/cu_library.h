/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cu_library.h: CUDA as this process finds it: the driver's functions, opened at run time, and the
 * devices behind them.
 *
 * Nothing is opened before somebody lists devices or names one. The library is
 * TENON_CUDA_LIBRARY's, else libcuda.so.1; set to nothing, there is none. What was opened once
 * stays, as the driver keeps threads of its own; a failure is not remembered.
 */
#ifndef TN_CU_LIBRARY_H
#define TN_CU_LIBRARY_H

#include <cuda.h>

#include "core/message.h"
#include "cuda/cu_kernels.h"

typedef struct tn_cu {
#define TN_CU_FUNCTION(name) __typeof__(name) *name;
#define TN_CU_OPTIONAL(name) __typeof__(name) *name; /* may be NULL */
#include "cuda/cu_functions.def"
#undef TN_CU_FUNCTION
#undef TN_CU_OPTIONAL
} tn_cu;

enum { TN_CU_DEVICES = 16 };

/* What was found, for as long as the process lives. Devices are numbered in the driver's order. */
typedef struct tn_cu_library {
    tn_cu cu;
    int version; /* of the driver: 1000 · major + 10 · minor of the CUDA that it brings */
    int count;
    CUdevice device[TN_CU_DEVICES];
} tn_cu_library;

/* NULL where there is no driver or no device, with the reason. Thread safe. */
const tn_cu_library *tn_cu_library_open(tn_message *why);

/* A number of a device; 0 where the driver won't say. */
int tn_cu_attribute(const tn_cu *cu, CUdevice device, CUdevice_attribute what);

/*
 * What kernels are chosen by. `code` and `hopper` are what the build offers for the device; the
 * driver has its say when the device is opened.
 */
void tn_cu_limits_read(const tn_cu_library *library, CUdevice device, tn_cu_limits *out);

/* The name of an error: "CUDA_ERROR_OUT_OF_MEMORY". */
const char *tn_cu_error_name(const tn_cu *cu, CUresult code);

#endif
