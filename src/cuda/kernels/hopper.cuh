/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hopper.cuh: what kernels for sm_90a alone are made of: mbarriers, tiles brought by the tensor
 * memory accelerator (TMA), and products of a warpgroup, 64 rows by 128 columns by 16 steps of k
 * (PTX ISA, "Asynchronous copy" and "Asynchronous warpgroup level matrix instructions").
 *
 * A box is 64 by 64 elements of 16 bits: 64 lines of 128 bytes, whose 16-byte chunks TMA moves
 * about by XOR with the line's number modulo 8. It lies at a multiple of 1024 bytes.
 */
#ifndef TN_HOPPER_CUH
#define TN_HOPPER_CUH

#include "tensor.cuh"

enum { BOX = 64, BOX_BYTES = BOX * 128 };

/* ---- mbarriers */

TN_DEVICE void barrier_init(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}
/* Makes what was initialised known to TMA. */
TN_DEVICE void barriers_ready() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
TN_DEVICE void arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/* Arrives, with so many bytes still to come. */
TN_DEVICE void arrive_expecting(uint32_t barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}
TN_DEVICE bool has_passed(uint32_t barrier, uint32_t parity) {
    uint32_t yes;
    asm volatile("{ .reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p; }"
                 : "=r"(yes)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return yes;
}
/* Waits for the end of the phase of this parity. */
TN_DEVICE void await_barrier(uint32_t barrier, uint32_t parity) {
    while (!has_passed(barrier, parity))
        ;
}
/* Waits for all 128 threads of a warpgroup; `number` from 1. */
TN_DEVICE void await_warpgroup(int number) {
    asm volatile("bar.sync %0, 128;" ::"r"(number) : "memory");
}

/* Registers go from warpgroups that need few to those that need many. By whole warpgroups. */
template <int N> TN_DEVICE void leave_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> TN_DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

/* ---- TMA */

/* The box at these coordinates of a map of four dimensions; its bytes complete on the barrier. */
TN_DEVICE void bring(uint32_t to, const void *map, int x, int y, int z, int w, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
                 "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(barrier)
                 : "memory");
}

/* ---- wgmma */

/* Descriptor of boxes with 128-byte swizzle. Lines are 1024 bytes for each 8; with `turned`, where
 * lines are steps of k, the next 64 rows or columns begin in the next box. */
TN_DEVICE uint64_t boxes_at(uint32_t at, bool turned) {
    const uint64_t swizzle128 = (uint64_t)1 << 62, lines8 = (uint64_t)(1024 >> 4) << 32;
    const uint64_t next = turned ? (uint64_t)(BOX_BYTES >> 4) << 16 : (uint64_t)1 << 16;
    return (uint64_t)((at & 0x3ffff) >> 4) | next | lines8 | swizzle128;
}
/* Bytes from 16 steps of k to the next 16. */
TN_DEVICE constexpr int steps16(bool turned) {
    return turned ? 16 * 128 : 16 * 2;
}

/* Before the first product on registers that other instructions have written. */
TN_DEVICE void products_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
TN_DEVICE void commit_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Waits until no more than N groups of products are on their way. */
template <int N> TN_DEVICE void await_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* Lane l of warp w of the four holds rows w * 16 + l / 4 and 8 more, of each 8 columns l % 4 * 2
 * and the next, as in the sums of mma.sync. */
typedef float sums64x128[64];

/* For the compiler: the sums are written here, and read. */
TN_DEVICE void hold(sums64x128 &d) {
#pragma unroll
    for (int e = 0; e < 64; e++)
        asm volatile("" : "+f"(d[e])::"memory");
}

#define EIGHT(n)                                                                                   \
    "+f"(d[n]), "+f"(d[n + 1]), "+f"(d[n + 2]), "+f"(d[n + 3]), "+f"(d[n + 4]), "+f"(d[n + 5]),    \
        "+f"(d[n + 6]), "+f"(d[n + 7])
#define WARPGROUP_PRODUCT(name, type)                                                              \
    struct name {                                                                                  \
        template <bool A_TURNED, bool B_TURNED>                                                    \
        static __device__ __forceinline__ void multiply(sums64x128 &d, uint64_t a, uint64_t b) {   \
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type              \
                         " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,"    \
                         "%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,"    \
                         "%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,"    \
                         "%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, %66, "  \
                         "%67;"                                                                    \
                         : EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40),         \
                           EIGHT(48), EIGHT(56)                                                    \
                         : "l"(a), "l"(b), "n"(A_TURNED ? 1 : 0), "n"(B_TURNED ? 1 : 0));          \
        }                                                                                          \
    }
WARPGROUP_PRODUCT(warpgroup_f16, "f16");
WARPGROUP_PRODUCT(warpgroup_bf16, "bf16");

#endif
