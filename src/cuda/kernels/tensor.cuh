/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor.cuh: what kernels on tensor cores share (sm_80 and up): copies of 16 bytes to shared
 * memory, fragments by ldmatrix, and products of 16 rows, 8 columns and 32 bytes of k.
 *
 * Lane l of a warp holds of A rows l / 4 and l / 4 + 8, of B column l / 4, of both the bytes of k
 * from l % 4 * 4 and 16 further on, of the sums rows l / 4 and l / 4 + 8 and columns l % 4 * 2 and
 * the next (PTX ISA, "Matrix Fragments for mma.m16n8k8", "k16" and "k32").
 */
#ifndef TN_TENSOR_CUH
#define TN_TENSOR_CUH

#include "../cu_gemm.h"
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

/*
 * A type of products: bytes of an element, of sums, …
 *
 * read: a number of any type, as the bits of this one. pack: two, the first in the low half.
 * turned_rows, turned_columns: fragments of 16 rows of A or two times 8 columns of B from where
 * these lie side by side; where(slot, line, byte) is the address of a step of k, which lies in
 * slot(step), and a line. ready: what fragments need before they are multiplied.
 * PAIRED: turned, lines 2n and 2n + 1 take the places of lines n and n + 8 of the fragments.
 * SEGMENT: steps of k in one chain of instructions.
 */
struct of_sums_f32 {
    typedef float sum;   /* in registers and of a segment */
    typedef float whole; /* of all segments */
    enum { EXACT = 0, KINDS = 1, PAIRED = 0, SEGMENT = TN_CU_GEMM_SEGMENT };
    static __device__ __forceinline__ int kind(int, int) { return 0; }
    static __device__ __forceinline__ int slot(int step) { return step; }
    static __device__ __forceinline__ void ready(uint32_t *) {}
};

/* ---- 16 bits */

struct of_halves : of_sums_f32 {
    enum { BYTES = 2 };
    template <class Where>
    static __device__ __forceinline__ void turned_rows(uint32_t *r, Where where) {
        const int lane = threadIdx.x % 32;
        load4_turned(r, where(lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8, 0));
    }
    template <class Where>
    static __device__ __forceinline__ void turned_columns(uint32_t *r, Where where) {
        const int lane = threadIdx.x % 32;
        load4_turned(r, where(lane % 16, lane / 16 * 8, 0));
    }
};

#define MULTIPLY(instruction, sum)                                                                 \
    asm(instruction " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                       \
        : "+" sum(c[0]), "+" sum(c[1]), "+" sum(c[2]), "+" sum(c[3])                               \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

#define FLOAT_TYPE(name, number, convert, both, instruction)                                       \
    struct name : of_halves {                                                                      \
        static __device__ __forceinline__ uint32_t read(const char *x, int type) {                 \
            return type == number ? *(const uint16_t *)x : convert(get<float>(x, type));           \
        }                                                                                          \
        static __device__ __forceinline__ uint32_t pack(float low, float high) {                   \
            uint32_t r;                                                                            \
            asm(both " %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));                              \
            return r;                                                                              \
        }                                                                                          \
        template <int KIND = 0>                                                                    \
        static __device__ __forceinline__ void multiply(float *c, const uint32_t *a,               \
                                                        const uint32_t *b) {                       \
            MULTIPLY(instruction, "f");                                                            \
        }                                                                                          \
    }
FLOAT_TYPE(of_f16, F16, to_f16, "cvt.rn.f16x2.f32",
           "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
FLOAT_TYPE(of_bf16, BF16, to_bf16, "cvt.rn.bf16x2.f32",
           "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");

/* ---- f32 as tf32: 8 steps to an instruction */

struct of_tf32 : of_sums_f32 {
    enum { BYTES = 4 };
    static __device__ __forceinline__ uint32_t read(const char *x, int type) {
        return (uint32_t)__float_as_int(get<float>(x, type));
    }
    static __device__ __forceinline__ void ready(uint32_t *r) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r[i]) : "f"(__int_as_float((int)r[i])));
    }
    static __device__ __forceinline__ uint32_t word(uint32_t from) {
        uint32_t r;
        asm volatile("ld.shared.b32 %0, [%1];" : "=r"(r) : "r"(from) : "memory");
        return r;
    }
    template <class Where>
    static __device__ __forceinline__ void turned_rows(uint32_t *r, Where where) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 4; i++)
            r[i] = word(where(lane % 4 + i / 2 * 4, lane / 4 + i % 2 * 8, lane / 4 % 4 * 4));
    }
    template <class Where>
    static __device__ __forceinline__ void turned_columns(uint32_t *r, Where where) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 4; i++)
            r[i] = word(where(lane % 4 + i % 2 * 4, lane / 4 + i / 2 * 8, lane / 4 % 4 * 4));
    }
    template <int KIND>
    static __device__ __forceinline__ void multiply(float *c, const uint32_t *a,
                                                    const uint32_t *b) {
        MULTIPLY("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", "f");
    }
};

/* ---- bytes: 32 steps to an instruction */

/*
 * ldmatrix turns pairs of bytes: a lane gets the pairs of lines (2n, 2n + 1) of two steps. So steps
 * 4q and 4q + 1 lie in eight slots, 4q + 2 and 4q + 3 in the next eight: two of a lane's registers
 * then hold four steps of both lines, and two permutations of bytes part them.
 */
struct of_single_bytes {
    enum { BYTES = 1, KINDS = 4, PAIRED = 1 };
    static __device__ __forceinline__ int slot(int step) {
        return (step & ~15) | (step & 2) << 2 | (step >> 1 & 6) | (step & 1);
    }
    static __device__ __forceinline__ void ready(uint32_t *) {}
    template <class Where>
    static __device__ __forceinline__ void turned_rows(uint32_t *r, Where where) {
        uint32_t x[4];
        load4_turned(x, where(threadIdx.x % 32, 0, 0));
        r[0] = __byte_perm(x[0], x[1], 0x6420);
        r[1] = __byte_perm(x[0], x[1], 0x7531);
        r[2] = __byte_perm(x[2], x[3], 0x6420);
        r[3] = __byte_perm(x[2], x[3], 0x7531);
    }
    template <class Where>
    static __device__ __forceinline__ void turned_columns(uint32_t *r, Where where) {
        uint32_t x[4];
        turned_rows(x, where);
        r[0] = x[0], r[1] = x[2], r[2] = x[1], r[3] = x[3];
    }
};

struct of_bytes : of_single_bytes {
    typedef int32_t sum;
    typedef int64_t whole;
    enum { EXACT = 1 };
    static __device__ __forceinline__ int kind(int a, int b) { return (a == U8) * 2 + (b == U8); }
    static __device__ __forceinline__ uint32_t read(const char *x, int) {
        return *(const uint8_t *)x;
    }
    template <int KIND>
    static __device__ __forceinline__ void multiply(int32_t *c, const uint32_t *a,
                                                    const uint32_t *b) {
        if (KIND == 0)
            MULTIPLY("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", "r");
        else if (KIND == 1)
            MULTIPLY("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32", "r");
        else if (KIND == 2)
            MULTIPLY("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32", "r");
        else
            MULTIPLY("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32", "r");
    }
};

struct of_fp8 : of_single_bytes {
    typedef float sum;
    typedef float whole;
    enum { EXACT = 0, SEGMENT = TN_CU_GEMM_SEGMENT_FP8 };
    static __device__ __forceinline__ int kind(int a, int b) {
        return (a == F8_E5M2) * 2 + (b == F8_E5M2);
    }
    static __device__ __forceinline__ uint32_t read(const char *x, int) {
        return *(const uint8_t *)x;
    }
    template <int KIND>
    static __device__ __forceinline__ void multiply(float *c, const uint32_t *a,
                                                    const uint32_t *b) {
        if (KIND == 0)
            MULTIPLY("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32", "f");
        else if (KIND == 1)
            MULTIPLY("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32", "f");
        else if (KIND == 2)
            MULTIPLY("mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e4m3.f32", "f");
        else
            MULTIPLY("mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e5m2.f32", "f");
    }
};

#endif
