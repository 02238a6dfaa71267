/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faulty_opencl.c: what a checking OpenCL device must find: a data race, a read of what nobody
 * wrote, an access outside a buffer and a wrong argument, one after the other. The negative control
 * of checked_opencl.py.
 */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

static const char text[] = "kernel void race(global int *x) {\n"
                           "    local int y[8];\n"
                           "    y[get_local_id(0)] = 1;\n"
                           "    x[get_global_id(0)] = y[(get_local_id(0) + 1) & 7];\n"
                           "}\n"
                           "kernel void unwritten(global int *x) {\n"
                           "    int y[4];\n"
                           "    y[0] = 1;\n"
                           "    if (y[get_global_id(0) & 3] > 2)\n"
                           "        x[0] = 1;\n"
                           "}\n"
                           "kernel void outside(global int *x) { x[get_global_id(0) + 9] = 1; }\n";

int main(void) {
    static const char *const kernels[] = {"race", "unwritten", "outside"};
    const char *source = text;
    cl_platform_id platform;
    cl_device_id device;
    cl_int code;
    if (clGetPlatformIDs(1, &platform, NULL) != CL_SUCCESS ||
        clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL) != CL_SUCCESS)
        return 1;
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &code);
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, &code);
    cl_program program = clCreateProgramWithSource(context, 1, &source, NULL, &code);
    cl_mem memory = clCreateBuffer(context, CL_MEM_READ_WRITE, 32, NULL, &code);
    if (clBuildProgram(program, 1, &device, "", NULL, NULL) != CL_SUCCESS)
        return 1;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; ++i) {
        const size_t items = 8;
        cl_kernel kernel = clCreateKernel(program, kernels[i], &code);
        clSetKernelArg(kernel, 0, sizeof memory, &memory);
        clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, &items, 0, NULL, NULL);
        clFinish(queue);
        clSetKernelArg(kernel, 7, sizeof memory, &memory); /* it has one argument */
        clReleaseKernel(kernel);
    }
    clReleaseMemObject(memory);
    clReleaseProgram(program);
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
    return 0;
}
