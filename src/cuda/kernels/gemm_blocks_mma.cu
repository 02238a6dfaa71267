/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_blocks_mma.cu: products with B of block types and A rounded to bytes, for many rows, by
 * tensor cores that multiply bytes (sm_80 and up). Bits as gemm_blocks.cu's.
 *
 * A step is a unit of 32 steps of k. Records of A's rows come by cp.async, four units on their way;
 * B's blocks as they are, a block of KC steps ahead. While the warps multiply a unit, half of them
 * decode the next of each column to shared memory, as a record like A's: 48 bytes from line to
 * line, so that neither ldmatrix nor stores of 16 bytes meet a bank twice. A unit's sum is one
 * instruction from its start (gemm_records.cuh); scales, and the chain of a block of KC steps,
 * follow in f32.
 */
#include "blocks.cuh"
#include "gemm_records.cuh"
#include "gemm_columns.cuh"
#include "tensor.cuh"

enum { STAGES = TN_CU_BLOCKS_STAGES, KC_UNITS = TN_CU_GEMM_KC / TN_CU_UNIT };

/* c = start + a b: 16 rows, 8 columns, 32 steps; or 16. */
TN_DEVICE void multiply32(uint32_t *c, const uint32_t *a, const uint32_t *b,
                          const uint32_t *start) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%10,%11,%11};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(start[0]),
          "r"(start[1]));
}
TN_DEVICE void multiply16(uint32_t *c, const uint32_t *a, uint32_t b, const uint32_t *start) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%7,%7,%8,%8};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b), "r"(start[0]), "r"(start[1]));
}

/* BM x BN of C by warps of WM x WN each, of units of a kind. */
template <int BM_, int BN_, int WM_, int WN_, int KIND_> struct shape {
    enum {
        BM = BM_,
        BN = BN_,
        WM = WM_,
        WN = WN_,
        KIND = KIND_,
        ACROSS = BN / WN,
        THREADS = BM / WM * ACROSS * 32,
        X = WM / 16,
        Y = WN / 8,
        PITCH = BN + 8, /* of the sums in shared memory */
        A_WORDS = BM * RECORD_WORDS,
        B_WORDS = BN * RECORD_WORDS,
        B_AT = STAGES * A_WORDS,    /* words: two units of B … */
        RAW_AT = B_AT + 2 * B_WORDS /* … and two blocks of KC steps as they come */
    };
    typedef float sums[X][Y][4];
};

extern __shared__ __align__(128) uint32_t dynamic[];

/* A tile's way through its units. */
template <class S> struct walk {
    const tn_cu_gemm_blocks &x;
    const char *a, *b; /* records of the tile's first row, unit 0; the member's blocks */
    int64_t across, units;
    int rows;

    __device__ __forceinline__ void issue_a(int64_t u) const {
        if (u >= units)
            return;
        const uint32_t to = shared_address(dynamic) + (uint32_t)(u % STAGES) * S::A_WORDS * 4;
        const char *from = a + u * x.g.m * TN_CU_RECORD;
        for (int n = threadIdx.x; n < S::BM * (TN_CU_RECORD / 16); n += S::THREADS) {
            const bool there = n < rows * (TN_CU_RECORD / 16);
            copy16(to + n * 16, there ? from + n * 16 : from, there ? 16 : 0);
        }
    }
    /* The run of column c that unit u begins; NULL beyond the edge. */
    __device__ __forceinline__ const char *run(int c, int64_t u) const {
        const int64_t j = b_column(x.g, across, S::BN, c);
        return j < 0 ? (const char *)0 : b + j * x.g.column[B] + bytes_of_units(x.g.type[B], u);
    }
    __device__ __forceinline__ uint32_t *raw(int c, int64_t u) const {
        return dynamic + S::RAW_AT + (u / KC_UNITS % 2 * S::BN + c) * x.pitch;
    }
    __device__ __forceinline__ void issue_b(int64_t u) const {
        if (u >= units)
            return;
        const int bytes = (int)bytes_of_units(x.g.type[B], min_of(units - u, KC_UNITS));
#pragma unroll 1
        for (int c = threadIdx.x / 32; c < S::BN; c += S::THREADS / 32) {
            const char *from = run(c, u);
            uint32_t *to = raw(c, u);
            copy_run(to, from, from ? bytes : 0, x.pitch);
        }
    }
    /* Unit u of a thread's column, by one half of the threads and the other in turns. */
    __device__ __forceinline__ void decode(int64_t u) const {
        const int c = threadIdx.x % S::BN, type = x.g.type[B], each = block_units(type);
        if (u >= units || threadIdx.x / S::BN != u % (S::THREADS / S::BN))
            return;
        const int64_t first = u / KC_UNITS * KC_UNITS;
        const char *from = run(c, first);
        const uint32_t at = (uint32_t)(raw(c, u) - dynamic) * 4 + (from ? head_of(from) : 0);
        const unit one = unit_at(dynamic, at + (int)(u - first) / each * block_bytes(type), type,
                                 (int)(u % each));
        uint4 *to = (uint4 *)(dynamic + S::B_AT + (u & 1) * S::B_WORDS + c * RECORD_WORDS);
        to[0] = make_uint4(one.q[0], one.q[1], one.q[2], one.q[3]);
        to[1] = make_uint4(one.q[4], one.q[5], one.q[6], one.q[7]);
        to[2] =
            make_uint4((uint32_t)__float_as_int(one.s), (uint32_t)__float_as_int(one.second), 0, 0);
    }
};

/* A unit's sums into the chains. */
template <class S> TN_DEVICE void multiply_unit(int64_t u, typename S::sums &acc) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int wr = warp / S::ACROSS * S::WM, wc = warp % S::ACROSS * S::WN;
    const uint32_t *a = dynamic + u % STAGES * S::A_WORDS,
                   *b = dynamic + S::B_AT + (u & 1) * S::B_WORDS;
    uint32_t fb[S::Y / 2][4];
    float2 scales[S::Y][2]; /* of a thread's two columns: s, second */
#pragma unroll
    for (int y = 0; y < S::Y / 2; y++)
        load4(fb[y], shared_address(b + (wc + y * 16 + lane / 16 * 8 + lane % 8) * RECORD_WORDS +
                                    lane / 8 % 2 * 4));
#pragma unroll
    for (int y = 0; y < S::Y; y++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const uint32_t *at = b + (wc + y * 8 + lane % 4 * 2 + e) * RECORD_WORDS + RECORD_SCALE;
            scales[y][e] =
                S::KIND == PLAIN ? make_float2(*(const float *)at, 0) : *(const float2 *)at;
        }
#pragma unroll
    for (int x = 0; x < S::X; x++) {
        uint32_t fa[4];
        uint4 row[2]; /* scale, starts, sum */
        load4(fa, shared_address(a + (wr + x * 16 + lane % 16) * RECORD_WORDS + lane / 16 * 4));
#pragma unroll
        for (int e = 0; e < 2; e++)
            row[e] = *(const uint4 *)(a + (wr + x * 16 + e * 8 + lane / 4) * RECORD_WORDS +
                                      RECORD_SCALE);
        const uint32_t start[2] = {row[0].y, row[1].y}, start1[2] = {row[0].z, row[1].z};
#pragma unroll
        for (int y = 0; y < S::Y; y++) {
            const uint32_t *columns = &fb[y / 2][y % 2 * 2];
            uint32_t d[4], d1[4];
            if (S::KIND == HALVED) {
                multiply16(d, fa, columns[0], start);
                multiply16(d1, fa + 2, columns[1], start1);
            } else {
                multiply32(d, fa, columns, start);
            }
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float2 s = scales[y][e % 2];
                const uint4 &r = row[e / 2];
                float z = from_magic(d[e]) * s.x;
                if (S::KIND == HALVED)
                    z = fmaf(from_magic(d1[e]), s.y, z);
                if (S::KIND == MINIMUM)
                    z = fmaf(__int_as_float((int)r.w), s.y, z);
                acc[x][y][e] = fmaf(__int_as_float((int)r.x), z, acc[x][y][e]);
            }
        }
    }
}

/* Sums of all of k. */
template <class S> TN_DEVICE void all_units(const walk<S> &w, typename S::sums &total) {
    typename S::sums acc = {};
    w.issue_b(0);
    for (int u = 0; u < STAGES - 1; u++) {
        w.issue_a(u);
        commit_copies();
    }
    await_copies<STAGES - 2>();
    __syncthreads();
    w.decode(0);
#pragma unroll 1
    for (int64_t u = 0; u < w.units; u++) {
        await_copies<STAGES - 2>();
        __syncthreads();
        w.issue_a(u + STAGES - 1);
        if (u % KC_UNITS == 0)
            w.issue_b(u + KC_UNITS);
        commit_copies();
        w.decode(u + 1);
        multiply_unit<S>(u, acc);
        if (u % KC_UNITS == KC_UNITS - 1 || u == w.units - 1) {
#pragma unroll
            for (int x = 0; x < S::X; x++)
#pragma unroll
                for (int y = 0; y < S::Y; y++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        total[x][y][e] =
                            u < KC_UNITS ? acc[x][y][e] : total[x][y][e] + acc[x][y][e];
                        acc[x][y][e] = 0;
                    }
        }
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
}

template <class S> TN_DEVICE void gemm_blocks_mma(const tn_cu_gemm_blocks &x) {
    const tn_cu_gemm &g = x.g;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int wr = warp / S::ACROSS * S::WM, wc = warp % S::ACROSS * S::WN;
    float *sums = (float *)dynamic;
    for (int64_t index = blockIdx.x; index < g.tiles; index += gridDim.x) {
        const int64_t across = index % g.tiles_across;
        const tile t = tile_of(g, index, S::BM, S::BN);
        if (t.rows <= 0) /* for all threads alike */
            continue;
        typename S::sums total = {};
        all_units<S>({x,
                      (const char *)x.rounded + (g.experts > 0 ? 0 : t.member * x.rounded_step) +
                          t.i0 * TN_CU_RECORD,
                      place(g, B, t.member), across, g.k / TN_CU_UNIT, t.rows},
                     total);
#pragma unroll
        for (int i = 0; i < S::X; i++)
#pragma unroll
            for (int y = 0; y < S::Y; y++)
#pragma unroll
                for (int e = 0; e < 4; e += 2) /* 8 bytes: all banks once a half warp */
                    *(float2 *)&sums[(wr + i * 16 + lane / 4 + e / 2 * 8) * S::PITCH + wc + y * 8 +
                                     lane % 4 * 2] =
                        make_float2(total[i][y][e], total[i][y][e + 1]);
        __syncthreads();
        end_of_tile<S::BN, S::THREADS, float>(g, t, across, sums, S::PITCH, threadIdx.x);
        __syncthreads();
    }
}

#define KERNELS(name, kind)                                                                        \
    typedef shape<128, 128, 64, 32, kind> large_##name;                                            \
    typedef shape<64, 64, 32, 32, kind> middle_##name;                                             \
    TN_KERNEL __launch_bounds__(256, 1)                                                            \
        gemm_blocks_mma_##name##_128(const __grid_constant__ tn_cu_gemm_blocks x) {                \
        gemm_blocks_mma<large_##name>(x);                                                          \
    }                                                                                              \
    TN_KERNEL __launch_bounds__(128, 2)                                                            \
        gemm_blocks_mma_##name##_64(const __grid_constant__ tn_cu_gemm_blocks x) {                 \
        gemm_blocks_mma<middle_##name>(x);                                                         \
    }
KERNELS(plain, PLAIN)
KERNELS(minimum, MINIMUM)
KERNELS(halved, HALVED)
