/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_tile.cuh: a matrix product by ldmatrix, mma.sync and three stages of cp.async, as the tests
 * of the stand-in driver need it: every instruction of a real kernel, ragged edges, and switches
 * that break it. C = A B^T; A is m x k, B n x k, both with k contiguous and rows of a multiple of
 * 16
 * bytes; C is m x n of 32-bit numbers. A block of 4 warps makes 64 x 64, a stage is 64 bytes of k.
 *
 * BREAK (negative controls): 1 leaves out the barrier before a stage is filled again, 2 waits for
 * one group too few, 3 stores without looking at the edges, 4 leaves out the swizzle (no error,
 * but bank conflicts).
 */
#include <stdint.h>

#ifndef BREAK
#define BREAK 0
#endif

enum { TILE = 64, STAGES = 3, STAGE_BYTES = 64 };

static __device__ __forceinline__ uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Byte offset of 16-byte chunk c of row r: chunks move so that 8 rows of one chunk lie in 8
 * different groups of banks. */
static __device__ __forceinline__ uint32_t place(uint32_t r, uint32_t c) {
#if BREAK == 4
    return r * STAGE_BYTES + c * 16;
#else
    return r * STAGE_BYTES + ((c ^ (r >> 1 & 3)) * 16);
#endif
}

static __device__ __forceinline__ void copy16(uint32_t to, const void *from, uint32_t bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
}

/* 64 rows of 64 bytes, rows beyond `rows` and bytes beyond `row_bytes` as zeros. */
static __device__ __forceinline__ void fill(uint32_t to, const char *from, int rows, int first_row,
                                            int64_t pitch, int at, int row_bytes) {
    for (int n = threadIdx.x; n < TILE * 4; n += 128) {
        int r = n / 4, c = n % 4;
        int left = row_bytes - at - c * 16;
        uint32_t bytes = first_row + r < rows ? (left < 0 ? 0 : left > 16 ? 16 : left) : 0;
        const char *p = bytes ? from + (first_row + r) * pitch + at + c * 16 : from;
        copy16(to + place(r, c), p, bytes);
    }
}

static __device__ __forceinline__ void load4(uint32_t *r, uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
}

#define MMA_F32(name, text)                                                                        \
    struct name {                                                                                  \
        typedef float number;                                                                      \
        static __device__ __forceinline__ void run(float *c, const uint32_t *a, const uint32_t *b) {     \
            asm volatile(text " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"             \
                         : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                          \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));      \
        }                                                                                          \
    }

template <class mma, int ELEMENT>
static __device__ __forceinline__ void gemm_tile(const char *a, const char *b,
                                                 typename mma::number *c, int m, int n, int k,
                                                 int64_t lda, int64_t ldb) {
    extern __shared__ __align__(128) char shared[];
    const uint32_t base = shared_address(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    const int wr = warp / 2 * 32, wc = warp % 2 * 32, row_bytes = k * ELEMENT;
    const int steps = (row_bytes + STAGE_BYTES - 1) / STAGE_BYTES;
    typename mma::number acc[2][4][4] = {};
    auto stage = [&](int s) { return base + (uint32_t)(s % STAGES) * 2 * TILE * STAGE_BYTES; };
    auto issue = [&](int s) {
        if (s < steps) {
            fill(stage(s), a, m, row0, lda, s * STAGE_BYTES, row_bytes);
            fill(stage(s) + TILE * STAGE_BYTES, b, n, col0, ldb, s * STAGE_BYTES, row_bytes);
        }
        asm volatile("cp.async.commit_group;");
    };
    issue(0);
    issue(1);
    for (int s = 0; s < steps; ++s) {
#if BREAK == 2
        asm volatile("cp.async.wait_group 2;");
#else
        asm volatile("cp.async.wait_group 1;");
#endif
#if BREAK != 1
        __syncthreads();
#endif
        issue(s + 2);
        const uint32_t ta = stage(s), tb = ta + TILE * STAGE_BYTES;
        for (int h = 0; h < 2; ++h) {
            uint32_t fa[2][4], fb[2][4];
            for (int x = 0; x < 2; ++x) {
                load4(fa[x], ta + place(wr + x * 16 + lane % 16, h * 2 + lane / 16));
                load4(fb[x], tb + place(wc + x * 16 + lane / 16 * 8 + lane % 8, h * 2 + lane / 8 % 2));
            }
            for (int x = 0; x < 2; ++x)
                for (int y = 0; y < 4; ++y)
                    mma::run(acc[x][y], fa[x], &fb[y / 2][y % 2 * 2]);
        }
    }
    asm volatile("cp.async.wait_all;");
    for (int x = 0; x < 2; ++x)
        for (int y = 0; y < 4; ++y)
            for (int e = 0; e < 4; ++e) {
                int r = row0 + wr + x * 16 + lane / 4 + e / 2 * 8;
                int q = col0 + wc + y * 8 + lane % 4 * 2 + e % 2;
                if (BREAK == 3 || (r < m && q < n))
                    c[(int64_t)r * n + q] = acc[x][y][e];
            }
}
