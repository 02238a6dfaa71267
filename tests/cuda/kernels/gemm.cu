/* SPDX-License-Identifier: Apache-2.0 */
/* gemm.cu: gemm_tile.cuh for each type of tensor-core instruction that sm_80 has, and fp8. */
#include "gemm_tile.cuh"

MMA_F32(mma_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");
MMA_F32(mma_f16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
MMA_F32(mma_tf32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32");

struct mma_s8 {
    typedef int number;
    static __device__ __forceinline__ void run(int *c, const uint32_t *a, const uint32_t *b) {
        asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
};

#define KERNEL(name, mma, bytes)                                                                   \
    extern "C" __global__ void __launch_bounds__(128)                                              \
        name(const char *a, const char *b, mma::number *c, int m, int n, int k, int64_t lda,       \
             int64_t ldb) {                                                                        \
        gemm_tile<mma, bytes>(a, b, c, m, n, k, lda, ldb);                                         \
    }
KERNEL(gemm_bf16, mma_bf16, 2)
#if BREAK == 0
KERNEL(gemm_f16, mma_f16, 2)
KERNEL(gemm_tf32, mma_tf32, 4)
KERNEL(gemm_s8, mma_s8, 1)
#if FP8
MMA_F32(mma_e4m3, "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32");
MMA_F32(mma_e5m2, "mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e5m2.f32");
KERNEL(gemm_e4m3, mma_e4m3, 1)
KERNEL(gemm_e5m2, mma_e5m2, 1)
#endif
#endif
