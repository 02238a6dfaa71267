/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_wgmma.cu: products of 16-bit floats on Hopper (sm_90a): tiles of 128 x 128 by two warpgroups
 * of 64 rows each, whose operands a warp of a third brings by TMA through four stages of 64 steps
 * of k.
 *
 * A stage is full when all of its bytes have come and empty when both warpgroups' products from it
 * are done. Blocks stay and go from tile to tile: operands of the next are on their way while the
 * sums of the last go to C through shared memory of their own, a warpgroup's apart from the
 * other's. What lies beyond the edges of an operand TMA fills with zeros; rows of A beyond a tile's
 * (the next expert's) are multiplied and dropped.
 *
 * Sums are those of gemm_mma.cu (docs/NUMERICS.md, 3.9): segments of 1024 steps of k, in each one
 * chain of instructions of 16 steps from zero. Which of both kernels makes a product is for strides
 * and addresses to say, so on Hopper both kinds of instruction must give the same bits.
 * (Producer and consumers, stages: CUTLASS.)
 */
#include "gemm_columns.cuh"
#include "hopper.cuh"

enum {
    TILE = TN_CU_MAPPED_TILE,
    WARPGROUPS = TILE / 64,
    STAGES = TN_CU_MAPPED_STAGES,
    STAGE_BYTES = 2 * TILE / BOX * BOX_BYTES, /* boxes of A, then those of B */
    PITCH = TN_CU_MAPPED_PITCH,
    CONSUMERS = WARPGROUPS * 128,
    /* Registers of a thread: what a launch gives to all, of the third warpgroup, of the others. */
    GIVEN = 65536 / TN_CU_MAPPED_THREADS / 8 * 8,
    LEFT = 40,
    TAKEN = GIVEN + (GIVEN - LEFT) / WARPGROUPS
};
static_assert(TN_CU_MAPPED_THREADS == CONSUMERS + 128, "the third brings operands");
static_assert(TN_CU_MAPPED_SHARED == 1024 + STAGES * STAGE_BYTES + TILE * PITCH * 4,
              "stages at multiples of 1024 bytes, sums");

extern __shared__ char dynamic[];

/* The stages in turn, as one of both sides goes through them. */
struct stages {
    uint32_t at, full, empty; /* shared addresses of stages and barriers */
    uint32_t number;          /* of the stages so far */

    __device__ __forceinline__ uint32_t stage(uint32_t n) const {
        return at + n % STAGES * STAGE_BYTES;
    }
    __device__ __forceinline__ void await_full(uint32_t n) const {
        await_barrier(full + n % STAGES * 8, n / STAGES & 1);
    }
    __device__ __forceinline__ void await_empty(uint32_t n) const { /* at first all are */
        await_barrier(empty + n % STAGES * 8, (n / STAGES & 1) ^ 1);
    }
    /* By one lane of each warp that has read it. */
    __device__ __forceinline__ void give_back(uint32_t n) const {
        if (threadIdx.x % 32 == 0)
            arrive(empty + n % STAGES * 8);
    }
};

/* The steps of k of a tile's part. */
struct range {
    int64_t from, to;
};
TN_DEVICE range steps_of(const tn_cu_gemm &g, int64_t segment) {
    const int64_t from = segment * TN_CU_GEMM_SEGMENT;
    return {from, g.segments > 1 ? min_of(g.k, from + TN_CU_GEMM_SEGMENT) : g.k};
}

/* ---- operands, by one warp */

TN_DEVICE int coordinate(const tn_cu_gemm_map &map, int d, int64_t member) {
    return (int)(member / map.over[d] % map.extent[d]);
}

/* 64 lines from `line` by 64 steps of k from p. */
template <bool TURNED>
TN_DEVICE void bring_box(uint32_t to, const tn_cu_gemm_map &map, int64_t line, int64_t p, int z,
                         int w, uint32_t barrier) {
    bring(to, map.map, (int)(TURNED ? line : p), (int)(TURNED ? p : line), z, w, barrier);
}

template <bool A_TURNED, bool B_TURNED>
TN_DEVICE void bring_operands(const tn_cu_gemm_mapped &x, stages pipe) {
    const tn_cu_gemm &g = x.g;
    for (int64_t index = blockIdx.x; index < g.tiles * g.segments; index += gridDim.x) {
        const int64_t number = index / g.segments, across = number % g.tiles_across;
        const tile t = tile_of(g, number, TILE, TILE); /* by the whole warp */
        if (t.rows <= 0)
            continue;
        const range k = steps_of(g, index % g.segments);
        if (threadIdx.x % 32 == 0) {
            const int az = coordinate(x.a, 0, t.member), aw = coordinate(x.a, 1, t.member);
            const int bz = coordinate(x.b, 0, t.member), bw = coordinate(x.b, 1, t.member);
            /* both halves of a tile's columns, as b_column has them */
            const int64_t first = g.gated == HALVES ? across * BOX : across * TILE;
            const int64_t second = g.gated == HALVES ? g.n + first : first + BOX;
            for (int64_t p = k.from; p < k.to; p += BOX) {
                const uint32_t n = pipe.number++, to = pipe.stage(n);
                const uint32_t barrier = pipe.full + n % STAGES * 8;
                pipe.await_empty(n);
                arrive_expecting(barrier, STAGE_BYTES);
                bring_box<A_TURNED>(to, x.a, t.i0, p, az, aw, barrier);
                bring_box<A_TURNED>(to + BOX_BYTES, x.a, t.i0 + BOX, p, az, aw, barrier);
                bring_box<B_TURNED>(to + 2 * BOX_BYTES, x.b, first, p, bz, bw, barrier);
                bring_box<B_TURNED>(to + 3 * BOX_BYTES, x.b, second, p, bz, bw, barrier);
            }
        }
        __syncwarp();
    }
}

/* ---- products, by two warpgroups */

/* The sums of 64 rows of a tile. */
template <class M, bool A_TURNED, bool B_TURNED>
TN_DEVICE void sum(stages &pipe, int group, range k, sums64x128 &acc, sums64x128 &total) {
    for (int64_t from = k.from; from < k.to; from += TN_CU_GEMM_SEGMENT) {
        const int steps = (int)ceil_div(min_of(k.to - from, TN_CU_GEMM_SEGMENT), BOX);
#pragma unroll
        for (int e = 0; e < 64; e++)
            acc[e] = 0;
        hold(acc);
#pragma unroll 1
        for (int s = 0; s < steps; s++) {
            const uint32_t n = pipe.number++, at = pipe.stage(n);
            const uint64_t a = boxes_at(at + group * BOX_BYTES, A_TURNED),
                           b = boxes_at(at + WARPGROUPS * BOX_BYTES, B_TURNED);
            pipe.await_full(n);
            products_begin();
#pragma unroll
            for (int h = 0; h < BOX / 16; h++)
                M::template multiply<A_TURNED, B_TURNED>(acc, a + h * (steps16(A_TURNED) >> 4),
                                                         b + h * (steps16(B_TURNED) >> 4));
            commit_products();
            await_products<1>();
            if (s > 0)
                pipe.give_back(n - 1);
        }
        await_products<0>();
        hold(acc);
        pipe.give_back(pipe.number - 1);
        if (k.to - k.from > TN_CU_GEMM_SEGMENT) {
            const bool first = from == k.from;
#pragma unroll
            for (int e = 0; e < 64; e++)
                total[e] = first ? acc[e] : total[e] + acc[e];
        }
    }
    if (k.to - k.from > TN_CU_GEMM_SEGMENT)
#pragma unroll
        for (int e = 0; e < 64; e++)
            acc[e] = total[e];
}

template <class M, bool A_TURNED, bool B_TURNED>
TN_DEVICE void multiply_tiles(const tn_cu_gemm &g, stages pipe, float *sums) {
    const int group = threadIdx.x / 128, thread = threadIdx.x % 128;
    const int warp = thread / 32, lane = thread % 32;
    sums += group * 64 * PITCH;
    for (int64_t index = blockIdx.x; index < g.tiles * g.segments; index += gridDim.x) {
        const int64_t segment = index % g.segments, number = index / g.segments;
        tile t = tile_of(g, number, TILE, TILE);
        if (t.rows <= 0)
            continue;
        sums64x128 acc, total;
        sum<M, A_TURNED, B_TURNED>(pipe, group, steps_of(g, segment), acc, total);
#pragma unroll
        for (int e = 0; e < 64; e += 2) /* 8 bytes: all banks once a half warp */
            *(float2 *)&sums[(warp * 16 + lane / 4 + e / 2 % 2 * 8) * PITCH + e / 4 * 8 +
                             lane % 4 * 2] = make_float2(acc[e], acc[e + 1]);
        await_warpgroup(1 + group);
        if (g.segments > 1) {
            float *part =
                (float *)g.parts + segment * g.part_elements + (number * TILE + group * 64) * TILE;
            for (int n = thread; n < 64 * TILE; n += 128)
                part[n] = sums[n / TILE * PITCH + n % TILE];
        } else {
            t.i0 += group * 64;
            t.rows = t.rows - group * 64 < 64 ? t.rows - group * 64 : 64;
            end_of_tile<TILE, 128, float>(g, t, number % g.tiles_across, sums, PITCH, thread);
        }
        await_warpgroup(1 + group);
    }
}

template <class M, bool A_TURNED, bool B_TURNED>
TN_DEVICE void gemm_wgmma(const tn_cu_gemm_mapped &x) {
    __shared__ __align__(8) uint64_t barriers[2 * STAGES];
    const uint32_t raw = shared_address(dynamic), base = (raw + 1023) & ~1023u;
    const stages pipe = {base, shared_address(barriers), shared_address(barriers + STAGES), 0};
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_init(pipe.full + s * 8, 1);
            barrier_init(pipe.empty + s * 8, CONSUMERS / 32);
        }
        barriers_ready();
    }
    __syncthreads();
    if (threadIdx.x >= CONSUMERS) {
        leave_registers<LEFT>();
        if (threadIdx.x < CONSUMERS + 32)
            bring_operands<A_TURNED, B_TURNED>(x, pipe);
    } else {
        take_registers<TAKEN>();
        multiply_tiles<M, A_TURNED, B_TURNED>(
            x.g, pipe, (float *)(dynamic + (base - raw) + STAGES * STAGE_BYTES));
    }
}

/* What lies side by side in memory: of A, then of B. */
#define KERNEL(type, sides, a_turned, b_turned)                                                    \
    TN_KERNEL __launch_bounds__(TN_CU_MAPPED_THREADS, 1)                                           \
        gemm_wgmma_##type##_##sides(const __grid_constant__ tn_cu_gemm_mapped x) {                 \
        gemm_wgmma<warpgroup_##type, a_turned, b_turned>(x);                                       \
    }
#define KERNELS(type)                                                                              \
    KERNEL(type, kk, false, false)                                                                 \
    KERNEL(type, kn, false, true)                                                                  \
    KERNEL(type, mk, true, false)                                                                  \
    KERNEL(type, mn, true, true)

KERNELS(f16)
KERNELS(bf16)
