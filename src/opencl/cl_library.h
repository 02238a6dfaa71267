/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cl_library.h: OpenCL as this process finds it: the loader's functions, opened at run time, and
 * the devices behind them.
 *
 * Nothing is opened before somebody lists devices or names one. The library is
 * TENON_OPENCL_LIBRARY's, else libOpenCL.so.1; set to nothing, there is none. What was opened once
 * stays, as drivers keep threads of their own; a failure is not remembered.
 */
#ifndef TN_CL_LIBRARY_H
#define TN_CL_LIBRARY_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include "core/message.h"
#include "opencl/cl_kernels.h"

/* All that is called, each in OpenCL 1.2 and later. */
#define TN_CL_FUNCTIONS(F)                                                                         \
    F(clGetPlatformIDs)                                                                            \
    F(clGetPlatformInfo)                                                                           \
    F(clGetDeviceIDs)                                                                              \
    F(clGetDeviceInfo)                                                                             \
    F(clCreateContext)                                                                             \
    F(clRetainContext)                                                                             \
    F(clReleaseContext)                                                                            \
    F(clGetContextInfo)                                                                            \
    F(clCreateCommandQueue)                                                                        \
    F(clRetainCommandQueue)                                                                        \
    F(clReleaseCommandQueue)                                                                       \
    F(clGetCommandQueueInfo)                                                                       \
    F(clCreateBuffer)                                                                              \
    F(clRetainMemObject)                                                                           \
    F(clReleaseMemObject)                                                                          \
    F(clGetMemObjectInfo)                                                                          \
    F(clSetMemObjectDestructorCallback)                                                            \
    F(clEnqueueReadBuffer)                                                                         \
    F(clEnqueueWriteBuffer)                                                                        \
    F(clEnqueueFillBuffer)                                                                         \
    F(clEnqueueNDRangeKernel)                                                                      \
    F(clFlush)                                                                                     \
    F(clFinish)                                                                                    \
    F(clCreateProgramWithSource)                                                                   \
    F(clCreateProgramWithBinary)                                                                   \
    F(clBuildProgram)                                                                              \
    F(clGetProgramInfo)                                                                            \
    F(clGetProgramBuildInfo)                                                                       \
    F(clReleaseProgram)                                                                            \
    F(clCreateKernel)                                                                              \
    F(clReleaseKernel)                                                                             \
    F(clSetKernelArg)                                                                              \
    F(clGetKernelWorkGroupInfo)                                                                    \
    F(clCreateUserEvent)                                                                           \
    F(clSetUserEventStatus)                                                                        \
    F(clReleaseEvent)

typedef struct tn_cl {
#define TN_CL_MEMBER(name) __typeof__(name) *name;
    TN_CL_FUNCTIONS(TN_CL_MEMBER)
#undef TN_CL_MEMBER
} tn_cl;

enum { TN_CL_DEVICES = 16 };

/* A device that can serve: its compiler is there, its floats are IEEE's. */
typedef struct tn_cl_device {
    cl_platform_id platform;
    cl_device_id id;
} tn_cl_device;

/* What was found, for as long as the process lives. Devices are numbered in the loader's order. */
typedef struct tn_cl_library {
    tn_cl cl;
    int count;
    tn_cl_device device[TN_CL_DEVICES];
} tn_cl_library;

/* NULL where there is no library or no device that can serve, with the reason. Thread safe. */
const tn_cl_library *tn_cl_library_open(tn_message *why);

/* Text and numbers of a device; "" and 0 where the driver won't say. */
void tn_cl_device_text(const tn_cl *cl, cl_device_id id, cl_device_info what, char *text,
                       size_t capacity);
uint64_t tn_cl_device_number(const tn_cl *cl, cl_device_id id, cl_device_info what);

/* True if the device has the extension. */
bool tn_cl_device_has(const tn_cl *cl, cl_device_id id, const char *extension);

/* What kernels are chosen by, but what only a trial build can tell. */
void tn_cl_limits_read(const tn_cl *cl, cl_device_id id, tn_cl_limits *out);

/* The name of an error code: "CL_OUT_OF_RESOURCES"; "error -1234" for what has none. */
const char *tn_cl_error_name(cl_int code);

#endif
