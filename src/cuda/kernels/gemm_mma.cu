/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_mma.cu: products of 16-bit floats by tensor cores (sm_80 and up): tiles of C of
 * three sizes, k through three or four stages of shared memory filled by cp.async, fragments by
 * ldmatrix, mma.sync, and the end from shared memory.
 *
 * A stage is 128 bytes of k of each row of A and column of B. An operand reaches it in one of three
 * ways (WIDE): 16 bytes along k (1) or along rows or columns (2, then ldmatrix transposes), or
 * element by element with conversion (0), which serves any strides and any type that the multiplied
 * one holds exactly. 16-byte chunks are moved about by XOR so that no request of ldmatrix meets a
 * bank twice.
 *
 * Sums (docs/NUMERICS.md, 3.9): k is cut in segments of 1024; in each an element is one chain of
 * instructions, 16 steps of k each, from zero; segments are added in ascending order. Split, each
 * segment is a block's own and gemm_join adds them. Nothing else of a problem enters, so a row has
 * the same bits in every tile. (Shared-memory permutation and pipelining: CUTLASS.)
 */
#include "gemm_end.cuh"
#include "tensor.cuh"

enum { STAGE = 128, CHUNKS = STAGE / 16 };
#define NO_LINE INT64_MIN

/* ---- an operand's way to shared memory */

/* LINES rows of A (columns of B) of a tile. */
template <class M, int LINES, int THREADS> struct loader {
    enum {
        EACH = LINES * CHUNKS / THREADS, /* chunks of a thread */
        STEPS = STAGE / M::BYTES,        /* of k, of a stage */
        PITCH = LINES * M::BYTES         /* of a step, turned */
    };
    const char *at[EACH]; /* chunk's first element at step 0 */
    int valid[EACH];      /* bytes that there are of it along the lines */
    int64_t step;         /* bytes from one step of k to the next */
    int type, wide;

    /* line(n): bytes from `from` to line n, or NO_LINE beyond the edge; `pitch` between lines. */
    template <class Line>
    __device__ __forceinline__ void begin(const char *from, int64_t step_bytes, int type_,
                                          int wide_, Line line) {
        step = step_bytes;
        type = type_;
        wide = wide_;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int n = i * THREADS + threadIdx.x;
            const int first = wide == 2 ? n % (PITCH / 16) * (16 / M::BYTES) : n / CHUNKS;
            const int p = wide == 2 ? n / (PITCH / 16) : n % CHUNKS * (16 / M::BYTES);
            const int64_t place = line(first);
            const bool none = place == NO_LINE;
            at[i] = from + (none ? 0 : place + p * step);
            valid[i] = 0;
            if (wide == 2)
#pragma unroll 1
                for (int e = 0; e < 16 / M::BYTES; e++)
                    valid[i] += line(first + e) == NO_LINE ? 0 : M::BYTES;
            else
                valid[i] = none ? 0 : 16;
        }
    }

    /* Steps [p0, p0 + STEPS) to `to`; nothing beyond step `end`. */
    __device__ __forceinline__ void fill(uint32_t to, int64_t p0, int64_t end) const {
        const int64_t left = end - p0;
        if (wide == 2) {
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                const int n = i * THREADS + threadIdx.x, p = n / (PITCH / 16);
                const int bytes = p < left ? valid[i] : 0;
                copy16(to + place(p, n % (PITCH / 16)), bytes ? at[i] + p0 * step : at[i], bytes);
            }
        } else if (wide == 1) {
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                const int n = i * THREADS + threadIdx.x;
                const int bytes = there(valid[i], left, n);
                copy16(to + swizzled(n / CHUNKS, n % CHUNKS), bytes ? at[i] + p0 * step : at[i],
                       bytes);
            }
        } else {
#pragma unroll 1
            for (int i = 0; i < EACH; i++) {
                const int n = i * THREADS + threadIdx.x;
                const char *from = at[0];
                int bytes = valid[0];
#pragma unroll
                for (int e = 1; e < EACH; e++) { /* registers have no addresses */
                    from = e == i ? at[e] : from;
                    bytes = e == i ? valid[e] : bytes;
                }
                bytes = there(bytes, left, n);
                uint64_t words[2] = {};
#pragma unroll 1
                for (int e = 0; e * M::BYTES < bytes; e++) {
                    const uint64_t x = (uint64_t)M::read(from + (p0 + e) * step, type)
                                       << (e * M::BYTES % 8 * 8);
                    words[0] |= e * M::BYTES < 8 ? x : 0;
                    words[1] |= e * M::BYTES < 8 ? 0 : x;
                }
                asm volatile(
                    "st.shared.v2.b64 [%0], {%1,%2};" ::"r"(to + swizzled(n / CHUNKS, n % CHUNKS)),
                    "l"(words[0]), "l"(words[1])
                    : "memory");
            }
        }
    }

    /* Bytes of chunk n of a stage, of which `left` steps remain. */
    static __device__ __forceinline__ int there(int valid, int64_t left, int n) {
        const int64_t bytes = (left - n % CHUNKS * (16 / M::BYTES)) * M::BYTES;
        return valid == 0 || bytes < 0 ? 0 : bytes > 16 ? 16 : (int)bytes;
    }

    /* Along k: offset of chunk c of line n. */
    static __device__ __forceinline__ uint32_t swizzled(int n, int c) {
        return (uint32_t)(n * STAGE + (c ^ (n & 7)) * 16);
    }

    /* Turned: offset of chunk c of step p. A step has PITCH bytes, a multiple of 128 or 32. */
    static __device__ __forceinline__ uint32_t place(int p, int c) {
        return PITCH >= 128 ? p * PITCH + ((c ^ (p & 7)) * 16)
                            : p * PITCH + ((c ^ (p / (128 / PITCH) & (PITCH / 16 - 1))) * 16);
    }

    /* Fragments of 16 lines from `first`, the 32 bytes (16 steps) h of the stage: rows of A, … */
    __device__ __forceinline__ void rows16(uint32_t *r, uint32_t stage, int first, int h) const {
        const int lane = threadIdx.x % 32;
        if (wide == 2) {
            load4_turned(r, stage +
                                place(h * 16 + lane / 16 * 8 + lane % 8, first / 8 + lane / 8 % 2));
        } else {
            const int n = first + lane % 16, c = h * 2 + lane / 16;
            load4(r, stage + swizzled(n, c));
        }
    }
    /* … or columns of B: two times 8. */
    __device__ __forceinline__ void columns16(uint32_t *r, uint32_t stage, int first, int h) const {
        const int lane = threadIdx.x % 32;
        if (wide == 2) {
            load4_turned(r, stage + place(h * 16 + lane % 16, first / 8 + lane / 16));
        } else {
            const int n = first + lane / 16 * 8 + lane % 8, c = h * 2 + lane / 8 % 2;
            load4(r, stage + swizzled(n, c));
        }
    }
};

/* ---- tiles */

/* BM x BN of C by warps of WM x WN each. */
template <class M_, int BM_, int BN_, int WM_, int WN_, int STAGES_> struct shape {
    typedef M_ M;
    enum {
        BM = BM_,
        BN = BN_,
        WM = WM_,
        WN = WN_,
        STAGES = STAGES_,
        ACROSS = BN / WN,
        THREADS = BM / WM * ACROSS * 32,
        X = WM / 16,
        Y = WN / 8,
        BYTES = (BM + BN) * STAGE, /* of a stage */
        PITCH = BN + 8             /* of the sums in shared memory: rows begin 8 banks apart */
    };
    typedef float sums[X][Y][4];
};

extern __shared__ __align__(128) char dynamic[];

/* Sums of steps [from, to) of k, a stage's multiple apart but for the end. */
template <class S>
TN_DEVICE void steps_of(const loader<typename S::M, S::BM, S::THREADS> &a,
                        const loader<typename S::M, S::BN, S::THREADS> &b, int64_t from, int64_t to,
                        typename S::sums &acc, typename S::sums &total) {
    typedef typename S::M M;
    const uint32_t base = shared_address(dynamic);
    const int warp = threadIdx.x / 32, wr = warp / S::ACROSS * S::WM, wc = warp % S::ACROSS * S::WN;
    const int steps = STAGE / M::BYTES;
    const int64_t count = ceil_div(to - from, steps);
    auto issue = [&](int64_t s) {
        if (s < count) {
            const uint32_t stage = base + (uint32_t)(s % S::STAGES) * S::BYTES;
            a.fill(stage, from + s * steps, to);
            b.fill(stage + S::BM * STAGE, from + s * steps, to);
        }
        commit_copies();
    };
    for (int64_t s = 1 - S::STAGES; s < count; s++) {
        if (s >= 0) {
            await_copies<S::STAGES - 2>();
            __syncthreads();
        }
        issue(s + S::STAGES - 1);
        if (s < 0)
            continue;
        const uint32_t stage = base + (uint32_t)(s % S::STAGES) * S::BYTES;
#pragma unroll
        for (int h = 0; h < STAGE / 32; h++) {
            uint32_t fa[S::X][4], fb[S::Y / 2][4];
#pragma unroll
            for (int x = 0; x < S::X; x++)
                a.rows16(fa[x], stage, wr + x * 16, h);
#pragma unroll
            for (int y = 0; y < S::Y / 2; y++)
                b.columns16(fb[y], stage + S::BM * STAGE, wc + y * 16, h);
#pragma unroll
            for (int x = 0; x < S::X; x++)
#pragma unroll
                for (int y = 0; y < S::Y; y++)
                    M::multiply(acc[x][y], fa[x], &fb[y / 2][y % 2 * 2]);
        }
        /* A segment ends: its sum joins those before it. */
        if ((s + 1) * steps % TN_CU_GEMM_SEGMENT == 0 && s + 1 < count) {
            const bool first = (s + 1) * steps == TN_CU_GEMM_SEGMENT;
#pragma unroll
            for (int x = 0; x < S::X; x++)
#pragma unroll
                for (int y = 0; y < S::Y; y++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        total[x][y][e] = first ? acc[x][y][e] : total[x][y][e] + acc[x][y][e];
                        acc[x][y][e] = 0;
                    }
        }
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    if (to - from > TN_CU_GEMM_SEGMENT) {
#pragma unroll
        for (int x = 0; x < S::X; x++)
#pragma unroll
            for (int y = 0; y < S::Y; y++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    acc[x][y][e] = total[x][y][e] + acc[x][y][e];
    }
}

template <class S> TN_DEVICE void gemm_mma(const tn_cu_gemm &g) {
    typedef typename S::M M;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int wr = warp / S::ACROSS * S::WM, wc = warp % S::ACROSS * S::WN;
    float *sums = (float *)dynamic;
    for (int64_t index = blockIdx.x; index < g.tiles * g.segments; index += gridDim.x) {
        const int64_t segment = index % g.segments, number = index / g.segments;
        const int64_t across = number % g.tiles_across;
        const tile t = tile_of(g, number, S::BM, S::BN);
        if (t.rows <= 0) /* for all threads alike */
            continue;
        const int64_t from = segment * TN_CU_GEMM_SEGMENT;
        const int64_t to = g.segments > 1 ? min_of(g.k, from + TN_CU_GEMM_SEGMENT) : g.k;
        loader<M, S::BM, S::THREADS> a;
        loader<M, S::BN, S::THREADS> b;
        typename S::sums acc = {}, total = {};
        a.begin(place(g, A, t.member), g.column[A], g.type[A], g.a_wide,
                [&](int n) { return n < t.rows ? (t.i0 + n) * g.row[A] : NO_LINE; });
        b.begin(place(g, B, t.member), g.row[B], g.type[B], g.b_wide, [&](int n) {
            const int64_t j = b_column(g, across, S::BN, n);
            return j < 0 ? NO_LINE : j * g.column[B];
        });
        steps_of<S>(a, b, from, to, acc, total);
        __syncthreads();
#pragma unroll
        for (int x = 0; x < S::X; x++)
#pragma unroll
            for (int y = 0; y < S::Y; y++)
#pragma unroll
                for (int e = 0; e < 4; e += 2) /* 8 bytes: all banks once a half warp */
                    *(float2 *)&sums[(wr + x * 16 + lane / 4 + e / 2 * 8) * S::PITCH + wc + y * 8 +
                                     lane % 4 * 2] = make_float2(acc[x][y][e], acc[x][y][e + 1]);
        __syncthreads();
        if (g.segments > 1) {
            float *part = (float *)g.parts + segment * g.part_elements + number * (S::BM * S::BN);
            for (int n = threadIdx.x; n < S::BM * S::BN; n += S::THREADS)
                part[n] = sums[n / S::BN * S::PITCH + n % S::BN];
        } else {
            end_of_tile<S::BN, S::THREADS>(g, t, across, sums, S::PITCH, threadIdx.x);
        }
        __syncthreads();
    }
}

/* Blocks of 64 x 64 that share a multiprocessor: from sm_100 on they take more registers. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
#define MIDDLE_BLOCKS 2
#else
#define MIDDLE_BLOCKS 3
#endif

#define KERNELS(type, M)                                                                           \
    typedef shape<M, 128, 128, 64, 32, 3> large_##type;                                            \
    typedef shape<M, 64, 64, 32, 32, 3> middle_##type;                                             \
    typedef shape<M, 16, 128, 16, 32, 4> flat_##type;                                              \
    TN_KERNEL __launch_bounds__(256, 1)                                                            \
        gemm_##type##_128x128(const __grid_constant__ tn_cu_gemm g) {                              \
        gemm_mma<large_##type>(g);                                                                 \
    }                                                                                              \
    TN_KERNEL __launch_bounds__(128, MIDDLE_BLOCKS)                                                \
        gemm_##type##_64x64(const __grid_constant__ tn_cu_gemm g) {                                \
        gemm_mma<middle_##type>(g);                                                                \
    }                                                                                              \
    TN_KERNEL __launch_bounds__(128, 3)                                                            \
        gemm_##type##_16x128(const __grid_constant__ tn_cu_gemm g) {                               \
        gemm_mma<flat_##type>(g);                                                                  \
    }

KERNELS(f16, of_f16)
KERNELS(bf16, of_bf16)

TN_KERNEL __launch_bounds__(256) gemm_join_128x128(const __grid_constant__ tn_cu_gemm g) {
    gemm_join<128, 128>(g);
}
TN_KERNEL __launch_bounds__(256) gemm_join_64x64(const __grid_constant__ tn_cu_gemm g) {
    gemm_join<64, 64>(g);
}
TN_KERNEL __launch_bounds__(256) gemm_join_16x128(const __grid_constant__ tn_cu_gemm g) {
    gemm_join<16, 128>(g);
}
