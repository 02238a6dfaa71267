/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor.cuh: what kernels on tensor cores share (sm_80 and up): copies of 16 bytes to shared
 * memory, fragments by ldmatrix, and m16n8k16 products of 16-bit floats with sums in f32.
 *
 * Lane l of a warp holds of A rows l / 4 and l / 4 + 8, of B column l / 4, of the sums rows l / 4
 * and l / 4 + 8 and columns l % 4 * 2 and the next (PTX ISA, "Matrix Fragments for mma.m16n8k16").
 */
#ifndef TN_TENSOR_CUH
#define TN_TENSOR_CUH

#include "number.cuh"

TN_DEVICE uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}
TN_DEVICE void copy16(uint32_t to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}
TN_DEVICE void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until no more than N of this thread's groups of copies are on their way. */
template <int N> TN_DEVICE void await_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
TN_DEVICE void load4(uint32_t *r, uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}
TN_DEVICE void load4_turned(uint32_t *r, uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

/* read: a number of any type, as this one. pack: two, the first in the low half. */
#define FLOAT_TYPE(name, number, convert, both, instruction)                                       \
    struct name {                                                                                  \
        enum { BYTES = 2 };                                                                        \
        static __device__ __forceinline__ uint32_t read(const char *x, int type) {                 \
            return type == number ? *(const uint16_t *)x : convert(get<float>(x, type));           \
        }                                                                                          \
        static __device__ __forceinline__ uint32_t pack(float low, float high) {                   \
            uint32_t r;                                                                            \
            asm(both " %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));                              \
            return r;                                                                              \
        }                                                                                          \
        static __device__ __forceinline__ void multiply(float *c, const uint32_t *a,               \
                                                        const uint32_t *b) {                       \
            asm(instruction " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"               \
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                   \
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));               \
        }                                                                                          \
    }
FLOAT_TYPE(of_f16, F16, to_f16, "cvt.rn.f16x2.f32",
           "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
FLOAT_TYPE(of_bf16, BF16, to_bf16, "cvt.rn.bf16x2.f32",
           "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");

#endif
