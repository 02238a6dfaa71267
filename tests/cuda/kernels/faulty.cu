/* SPDX-License-Identifier: Apache-2.0 */
/* faulty.cu: kernels that are wrong, each in one way that the stand-in must find. */
#include <stdint.h>

extern "C" __global__ void no_barrier(float *x) { /* neighbours' values without __syncthreads */
    __shared__ float s[128];
    s[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = s[(threadIdx.x + 32) % 128];
}
extern "C" __global__ void no_warp_barrier(float *x) { /* … of the own warp, without __syncwarp */
    __shared__ float s[32];
    s[threadIdx.x] = x[threadIdx.x];
    asm volatile("" ::: "memory");
    x[threadIdx.x] = s[(threadIdx.x + 1) % 32];
}
extern "C" __global__ void overwritten(float *x) { /* read, then written by others */
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    float v = s[63 - threadIdx.x];
    s[threadIdx.x] = v + 1;
    x[threadIdx.x] = v;
}
extern "C" __global__ void beyond(float *x, int n) {
    x[n + threadIdx.x] = 1;
}
extern "C" __global__ void shared_beyond(float *x) {
    extern __shared__ float s[];
    s[threadIdx.x + 8] = 1;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void unwritten(float *x) {
    __shared__ float s[64];
    if (threadIdx.x < 32)
        s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void misaligned(char *x) {
    *(float *)(x + 1 + 4 * threadIdx.x) = 1;
}
extern "C" __global__ void divergent_barrier(float *x) {
    if (threadIdx.x < 16)
        asm volatile("bar.sync 1;");
    else
        x[threadIdx.x] = 1;
    asm volatile("bar.sync 2;");
}
extern "C" __global__ void missing_arrival(float *x) { /* one warp never comes */
    if (threadIdx.x < 32)
        asm volatile("bar.sync 1, 64;");
    x[threadIdx.x] = 1;
}
extern "C" __global__ void wrong_members(float *x) { /* takes from a lane outside the mask */
    if (threadIdx.x < 8)
        x[threadIdx.x] = __shfl_sync(0xff, x[threadIdx.x], 9);
}
extern "C" __global__ void no_wait(const float *x, float *y) { /* reads what cp.async still brings */
    __shared__ __align__(16) float s[128];
    uint32_t to = (uint32_t)__cvta_generic_to_shared(s + threadIdx.x * 4);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(x + threadIdx.x * 4));
    asm volatile("cp.async.commit_group;");
    y[threadIdx.x] = s[threadIdx.x * 4];
}
extern "C" __global__ void spins(volatile int *flag) {
    while (*flag == 0)
        __nanosleep(10);
}
