/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_test.h: what the tests of the stand-in CUDA driver share: a device, modules, memory,
 * launches.
 *
 * Every function fails the running test where the driver says no. Kernels are fatbins that the
 * build compiled into the folder TENON_CUDA_KERNELS, or PTX text.
 */
#ifndef TEST_CUDA_TEST_H
#define TEST_CUDA_TEST_H

#include <cuda.h>
#include <standin.h>

#include "rng.h"
#include "suite.h"

#define CU(call) ck_assert_int_eq((call), CUDA_SUCCESS)

/* A fresh stand-in of this architecture with this seed, and a current context. */
void cuda_start(int arch, uint64_t seed);
CUmodule cuda_module(const char *fatbin);
CUmodule cuda_ptx(const char *text);
CUfunction cuda_function(CUmodule m, const char *name);
CUdeviceptr cuda_upload(const void *from, size_t bytes);
CUdeviceptr cuda_zeros(size_t bytes);
void cuda_download(void *to, CUdeviceptr from, size_t bytes);
/* Launches on the null stream and waits; what the wait returned. */
CUresult cuda_run(CUfunction f, unsigned gx, unsigned gy, unsigned threads, unsigned shared,
                  void **arguments);
/* Fails with the list of findings unless there are none. */
void cuda_expect_clean(void);
/* Fails unless there is a finding of this kind and none of another. */
void cuda_expect_only(standin_kind kind);

#endif
