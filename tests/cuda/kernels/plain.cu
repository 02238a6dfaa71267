/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plain.cu: kernels without tensor cores: a softmax of rows, a sum by shuffles and atomics, code
 * that
 * falls apart and meets again, f64, local memory, shared atomics, a grid that waits for itself.
 */
#include <cuda_fp16.h>
#include <stdint.h>

/* One block for each row, any length. */
extern "C" __global__ void softmax(const float *x, float *y, int n, float scale) {
    __shared__ float part[32];
    const float *row = x + (int64_t)blockIdx.x * n;
    float top = -INFINITY, sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        top = fmaxf(top, row[i] * scale);
    for (int d = 16; d; d /= 2)
        top = fmaxf(top, __shfl_xor_sync(~0u, top, d));
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = top;
    __syncthreads();
    for (int w = 0; w < blockDim.x / 32; ++w)
        top = fmaxf(top, part[w]);
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        sum += exp2f((row[i] * scale - top) * 1.4426950408889634f);
    for (int d = 16; d; d /= 2)
        sum += __shfl_down_sync(~0u, sum, d);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
    for (int w = 0; w < blockDim.x / 32; ++w)
        sum += part[w];
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        y[(int64_t)blockIdx.x * n + i] = __expf(row[i] * scale - top) / sum;
}

extern "C" __global__ void total(const int *x, int n, int *sum, unsigned *most, float *fsum) {
    int mine = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        mine += x[i];
    atomicMax(most, (unsigned)(mine + 1000000));
    for (int d = 16; d; d /= 2)
        mine += __shfl_xor_sync(~0u, mine, d);
    if (threadIdx.x % 32 == 0) {
        atomicAdd(sum, mine);
        atomicAdd(fsum, (float)mine);
    }
}

/* Different lanes take different ways through loops, a switch and early exits. */
extern "C" __global__ void wander(const int *x, int *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, v = 0;
    if (i >= n)
        return;
    int a = x[i], steps = 0;
    while (a != 1 && steps < 200) { /* Collatz */
        if (a & 1)
            a = 3 * a + 1;
        else
            a /= 2;
        ++steps;
        if (steps == 150)
            break;
    }
    switch (x[i] % 7) {
    case 0: v = steps * 3; break;
    case 1: v = steps - 11; break;
    case 2:
        for (int k = 0; k < x[i] % 5; ++k)
            v += k * steps;
        break;
    case 3: y[i] = -steps; return;
    case 4: v = __popc(steps) + __clz(a); break;
    case 5: v = steps / 7 + steps % 7; break;
    default: v = steps << 2; break;
    }
    unsigned together = __activemask();
    y[i] = v + (__popc(together) > 32);
}

extern "C" __global__ void doubles(const double *x, double *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = sqrt(x[i] * x[i] + 1.0) / (x[i] + 3.0) - floor(x[i]) + fma(x[i], 0.1, 1.0 / 3.0);
}

/* An array that must lie in local memory, and one histogram for each block in shared memory. */
extern "C" __global__ void histogram(const uint8_t *x, int n, int *bins) {
    __shared__ int count[16];
    uint8_t seen[24];
    if (threadIdx.x < 16)
        count[threadIdx.x] = 0;
    __syncthreads();
    for (int k = 0; k < 24; ++k)
        seen[k] = (uint8_t)(k * 5 + threadIdx.x);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        seen[x[i] % 24] = x[i];
        atomicAdd(&count[seen[x[i] % 24] % 16], 1);
    }
    __syncthreads();
    if (threadIdx.x < 16)
        bins[threadIdx.x] = count[threadIdx.x];
}

extern "C" __global__ void halves(const __half2 *x, __half2 *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = __hfma2(x[i], x[i], __hadd2(x[i], __float2half2_rn(0.5f)));
}

/* The last block to come adds what the others left: flags across blocks. */
extern "C" __global__ void last_block(const float *x, float *part, unsigned *tickets, float *sum) {
    __shared__ bool last;
    float v = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (int d = 16; d; d /= 2)
        v += __shfl_xor_sync(~0u, v, d);
    if (threadIdx.x == 0) {
        part[blockIdx.x] = v;
        __threadfence();
        last = atomicAdd(tickets, 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float s = 0;
        for (int b = 0; b < gridDim.x; ++b)
            s += ((volatile float *)part)[b];
        *sum = s;
    }
}
