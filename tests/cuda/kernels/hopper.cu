/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hopper.cu: a matrix product by TMA, mbarriers and wgmma: one warp brings tiles of 128 swizzled
 * bytes of k into four stages, a warpgroup multiplies them, the result goes out by TMA. C = A B^T,
 * A m x k,
 * B n x k of bf16, C m x n of f32; a block makes 64 x 128. cluster_sum: a kernel for clusters.
 *
 * `broken`: 1 expects too few bytes, 2 gives a stage back before its wgmma is waited for, 3 stores
 * without the proxy fence.
 */
#include <cuda.h>
#include <stdint.h>

enum { M = 64, N = 128, K = 64, STAGES = 4, A_BYTES = M * K * 2, B_BYTES = N * K * 2 };

static __device__ __forceinline__ uint32_t address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}
static __device__ __forceinline__ void wait(uint32_t bar, uint32_t parity) {
    asm volatile("{\n.reg .pred p;\nWAIT:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra DONE;\nbra WAIT;\nDONE:\n}" ::"r"(bar),
                 "r"(parity)
                 : "memory");
}
static __device__ __forceinline__ void arrive(uint32_t bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
static __device__ __forceinline__ void load(uint32_t to, const CUtensorMap *map, int x, int y, uint32_t bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(map), "r"(x), "r"(y), "r"(bar)
                 : "memory");
}
static __device__ __forceinline__ uint64_t descriptor(uint32_t at) { /* 128-byte swizzle, k contiguous */
    return (uint64_t)((at & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
static __device__ __forceinline__ void wgmma(float (&d)[64], uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,"
        "%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,"
        "%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, 0, 0;"
#define R(n) "+f"(d[n]), "+f"(d[n + 1]), "+f"(d[n + 2]), "+f"(d[n + 3]), "+f"(d[n + 4]), "+f"(d[n + 5]), \
             "+f"(d[n + 6]), "+f"(d[n + 7])
        : R(0), R(8), R(16), R(24), R(32), R(40), R(48), R(56)
        : "l"(a), "l"(b));
}

extern "C" __global__ void __launch_bounds__(160)
    gemm(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b,
         const __grid_constant__ CUtensorMap c, int k, int broken) {
    extern __shared__ __align__(1024) char shared[];
    __shared__ __align__(8) uint64_t bars[2 * STAGES];
    const uint32_t base = address(shared), full = address(bars), empty = full + 8 * STAGES;
    const int row = blockIdx.y * M, col = blockIdx.x * N, steps = (k + K - 1) / K;
    if (threadIdx.x == 0)
        for (int s = 0; s < STAGES; ++s) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(full + 8 * s));
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 128;" ::"r"(empty + 8 * s));
        }
    asm volatile("fence.mbarrier_init.release.cluster;");
    __syncthreads();
    if (threadIdx.x >= 128) {
        if (threadIdx.x == 128)
            for (int t = 0; t < steps; ++t) {
                int s = t % STAGES;
                wait(empty + 8 * s, (t / STAGES & 1) ^ 1);
                asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(full + 8 * s),
                             "r"(broken == 1 ? A_BYTES : A_BYTES + B_BYTES)
                             : "memory");
                load(base + s * A_BYTES, &a, t * K, row, full + 8 * s);
                load(base + STAGES * A_BYTES + s * B_BYTES, &b, t * K, col, full + 8 * s);
            }
    } else {
        float d[64] = {};
        for (int t = 0; t < steps; ++t) {
            int s = t % STAGES;
            wait(full + 8 * s, t / STAGES & 1);
            asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
            for (int q = 0; q < 4; ++q)
                wgmma(d, descriptor(base + s * A_BYTES + q * 32),
                      descriptor(base + STAGES * A_BYTES + s * B_BYTES + q * 32));
            asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
            if (broken == 2)
                arrive(empty + 8 * s);
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
            if (broken != 2)
                arrive(empty + 8 * s);
        }
        /* the tile of C over the stages, which nobody uses any more */
        asm volatile("bar.sync 1, 128;" ::: "memory");
        float *tile = (float *)shared;
        int w = threadIdx.x / 32, lane = threadIdx.x % 32;
        for (int e = 0; e < 64; ++e)
            tile[(w * 16 + lane / 4 + e / 2 % 2 * 8) * N + e / 4 * 8 + lane % 4 * 2 + e % 2] = d[e];
        if (broken != 3)
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("bar.sync 1, 128;" ::: "memory");
        if (threadIdx.x == 0) {
            asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&c),
                         "r"(col), "r"(row), "r"(base)
                         : "memory");
            asm volatile("cp.async.bulk.commit_group;");
            asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
        }
    }
}

/* Each block of a cluster adds what the others hold in shared memory. */
extern "C" __global__ void __cluster_dims__(4, 1, 1) cluster_sum(int *out) {
    __shared__ int mine[32];
    uint32_t at = address(&mine[threadIdx.x]);
    mine[threadIdx.x] = (int)(blockIdx.x * 100 + threadIdx.x);
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
    int sum = 0;
    for (uint32_t r = 0; r < 4; ++r) {
        uint32_t there;
        int v;
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(r));
        asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(v) : "r"(there) : "memory");
        sum += v;
    }
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
    out[blockIdx.x * 32 + threadIdx.x] = sum;
}
