/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.cu: loaded when a device is opened, to learn whether and as what the driver takes the code
 * in the library; kernels are chosen by the architecture that the function says it is for. Writes
 * that architecture where it is launched (tests).
 */
struct probe_args {
    int *out;
};

extern "C" __global__ void probe(const __grid_constant__ probe_args args) {
#ifdef __CUDA_ARCH__
    if (threadIdx.x == 0 && blockIdx.x == 0)
        *args.out = __CUDA_ARCH__;
#endif
}
