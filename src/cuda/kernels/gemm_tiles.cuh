/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_tiles.cuh: products on tensor cores (sm_80 and up), of the types that tensor.cuh lists, M: tiles of
 * C of several shapes, k through three or four stages of shared memory filled by cp.async, fragments by
 * ldmatrix, mma.sync, and the end from shared memory. The modules gemm_*.cu make kernels of it.
 *
 * A stage is 128 bytes of k of each row of A and column of B, an instruction takes 32 of them. An
 * operand reaches shared memory in one of three ways (WIDE): 16 bytes along k (1) or along rows or
 * columns (2, then its fragments are turned), or element by element with conversion (0), which
 * serves any strides and any type that the multiplied one holds exactly. 16-byte chunks are moved
 * about by XOR so that no request for a fragment meets a bank twice.
 *
 * Sums (docs/NUMERICS.md, 3.9): of floats k is cut in segments of 1024; in each an element is one
 * chain of instructions from zero; segments are added in ascending order. Those of bytes are
 * exact. Split, each segment is a block's own and gemm_join adds them. Nothing else of a problem
 * enters, so a row has the same bits in every tile. (Shared-memory permutation and pipelining:
 * CUTLASS.)
 */
#ifndef TN_GEMM_TILES_CUH
#define TN_GEMM_TILES_CUH

#include "gemm_columns.cuh"
#include "tensor.cuh"

enum { STAGE = 128, CHUNKS = STAGE / 16 };

/* ---- an operand's way to shared memory */

/* LINES rows of A (columns of B) of a tile. */
template <class M, int LINES, int THREADS> struct loader {
    enum {
        EACH = LINES * CHUNKS / THREADS, /* chunks of a thread */
        STEPS = STAGE / M::BYTES,        /* of k, of a stage */
        PITCH = LINES * M::BYTES,        /* of a step, turned */
        ACROSS = PITCH / 16              /* chunks of it */
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
            const int first = wide == 2 ? n % ACROSS * (16 / M::BYTES) : n / CHUNKS;
            const int p = wide == 2 ? n / ACROSS : n % CHUNKS * (16 / M::BYTES);
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
                const int n = i * THREADS + threadIdx.x, p = n / ACROSS;
                const int bytes = p < left ? valid[i] : 0;
                copy16(to + turned(M::slot(p), n % ACROSS), bytes ? at[i] + p0 * step : at[i],
                       bytes);
            }
        } else if (wide == 1) {
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                const int n = i * THREADS + threadIdx.x;
                const int bytes = there(valid[i], left, n);
                copy16(to + straight(n / CHUNKS, n % CHUNKS), bytes ? at[i] + p0 * step : at[i],
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
                    "st.shared.v2.b64 [%0], {%1,%2};" ::"r"(to + straight(n / CHUNKS, n % CHUNKS)),
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
    static __device__ __forceinline__ uint32_t straight(int n, int c) {
        return (uint32_t)(n * STAGE + (c ^ (n & 7)) * 16);
    }

    /* Turned: offset of chunk c of the step in this slot. */
    static __device__ __forceinline__ uint32_t turned(int slot, int c) {
        const int row = PITCH >= 128 ? slot : slot / (128 / PITCH); /* of 128 bytes or more */
        /* a request takes eight steps of one chunk, or four of two neighbours */
        const int by = (M::BYTES == 4 ? row * 2 : row) & (PITCH >= 128 ? 7 : ACROSS - 1);
        return (uint32_t)(slot * PITCH + (c ^ by) * 16);
    }

    /* Fragments of 16 lines from `first`, the 32 bytes h of the stage: rows of A, … */
    __device__ __forceinline__ void rows16(uint32_t *r, uint32_t stage, int first, int h) const {
        const int lane = threadIdx.x % 32;
        if (wide == 2)
            M::turned_rows(r, [=](int slot, int line, int byte) {
                return stage +
                       turned(h * (32 / M::BYTES) + slot, (first + line) / (16 / M::BYTES)) + byte;
            });
        else
            load4(r, stage + straight(first + lane % 16, h * 2 + lane / 16));
        M::ready(r);
    }
    /* … or columns of B: two times 8. */
    __device__ __forceinline__ void columns16(uint32_t *r, uint32_t stage, int first, int h) const {
        const int lane = threadIdx.x % 32;
        if (wide == 2)
            M::turned_columns(r, [=](int slot, int line, int byte) {
                return stage +
                       turned(h * (32 / M::BYTES) + slot, (first + line) / (16 / M::BYTES)) + byte;
            });
        else
            load4(r, stage + straight(first + lane / 16 * 8 + lane % 8, h * 2 + lane / 8 % 2));
        M::ready(r);
    }
};

/* ---- tiles */

/* BM x BN of C by warps of WM x WN each. */
template <class M_, int BM_, int BN_, int WM_, int WN_, int STAGES_> struct shape {
    typedef M_ M;
    typedef typename M::sum sum;
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
    typedef loader<M, BM, THREADS> rows;
    typedef loader<M, BN, THREADS> columns;
    typedef sum sums[X][Y][4];
};

/* What a warp sums up: of floats the segment at hand and those before it; of bytes all of it, and
 * what zero points are multiplied by, the sums of A's rows and of B's columns. */
template <class S, bool EXACT = S::M::EXACT> struct state { typename S::sums acc, total; };
template <class S> struct state<S, true> {
    typename S::sums acc;
    int32_t rows[S::X][4], columns[S::Y][4];
};

extern __shared__ __align__(128) char dynamic[];

/* The products of 32 bytes of k; KIND: which of M's instructions. */
template <class S, int KIND>
TN_DEVICE void products(const tn_cu_gemm &g, state<S> &s, const uint32_t (&fa)[S::X][4],
                        const uint32_t (&fb)[S::Y / 2][4]) {
    typedef typename S::M M;
#pragma unroll
    for (int x = 0; x < S::X; x++)
#pragma unroll
        for (int y = 0; y < S::Y; y++)
            M::template multiply<KIND>(s.acc[x][y], fa[x], &fb[y / 2][y % 2 * 2]);
    if constexpr (M::EXACT) { /* what zero points are multiplied by: products with ones */
        const uint32_t ones[4] = {0x01010101, 0x01010101, 0x01010101, 0x01010101};
        if (present(g, B_ZERO))
#pragma unroll
            for (int x = 0; x < S::X; x++)
                M::template multiply<KIND>(s.rows[x], fa[x], ones);
        if (present(g, A_ZERO))
#pragma unroll
            for (int y = 0; y < S::Y; y++)
                M::template multiply<KIND>(s.columns[y], ones, &fb[y / 2][y % 2 * 2]);
    }
}

/* Sums of steps [from, to) of k, a stage's multiple apart but for the end. */
template <class S>
TN_DEVICE void steps_of(const tn_cu_gemm &g, const typename S::rows &a,
                        const typename S::columns &b, int64_t from, int64_t to, state<S> &sums) {
    typedef typename S::M M;
    const uint32_t base = shared_address(dynamic);
    const int warp = threadIdx.x / 32, wr = warp / S::ACROSS * S::WM, wc = warp % S::ACROSS * S::WN;
    const int steps = STAGE / M::BYTES, kind = M::kind(g.type[A], g.type[B]);
    const int64_t count = ceil_div(to - from, steps);
    /* four kinds of products and two sets of sums leave no registers for more */
    constexpr int unrolled = M::KINDS > 1 && !M::EXACT ? 1 : STAGE / 32;
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
#pragma unroll unrolled
        for (int h = 0; h < STAGE / 32; h++) {
            uint32_t fa[S::X][4], fb[S::Y / 2][4];
#pragma unroll
            for (int x = 0; x < S::X; x++)
                a.rows16(fa[x], stage, wr + x * 16, h);
#pragma unroll
            for (int y = 0; y < S::Y / 2; y++)
                b.columns16(fb[y], stage + S::BM * STAGE, wc + y * 16, h);
            if constexpr (M::KINDS == 1) {
                products<S, 0>(g, sums, fa, fb);
            } else {
                switch (kind) { /* for all alike, and around the whole: not at each instruction */
                case 0:
                    products<S, 0>(g, sums, fa, fb);
                    break;
                case 1:
                    products<S, 1>(g, sums, fa, fb);
                    break;
                case 2:
                    products<S, 2>(g, sums, fa, fb);
                    break;
                default:
                    products<S, 3>(g, sums, fa, fb);
                }
            }
        }
        if constexpr (!M::EXACT) { /* a segment ends: its sum joins those before it */
            if ((s + 1) * steps % M::SEGMENT == 0 && s + 1 < count) {
                const bool first = (s + 1) * steps == M::SEGMENT;
#pragma unroll
                for (int x = 0; x < S::X; x++)
#pragma unroll
                    for (int y = 0; y < S::Y; y++)
#pragma unroll
                        for (int e = 0; e < 4; e++) {
                            sums.total[x][y][e] =
                                first ? sums.acc[x][y][e] : sums.total[x][y][e] + sums.acc[x][y][e];
                            sums.acc[x][y][e] = 0;
                        }
            }
        }
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    if constexpr (!M::EXACT)
        if (to - from > M::SEGMENT) {
#pragma unroll
            for (int x = 0; x < S::X; x++)
#pragma unroll
                for (int y = 0; y < S::Y; y++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        sums.acc[x][y][e] = sums.total[x][y][e] + sums.acc[x][y][e];
        }
}

/* ---- from fragments of sums to C */

/* Row of a tile of element e of the sums' fragments x; column of element e of y. */
template <class S> TN_DEVICE int row_at(const typename S::rows &a, int x, int e) {
    const int lane = threadIdx.x % 32, first = threadIdx.x / 32 / S::ACROSS * S::WM + x * 16;
    return first + (S::M::PAIRED && a.wide == 2 ? lane / 4 * 2 + e / 2 : lane / 4 + e / 2 * 8);
}
template <class S> TN_DEVICE int column_at(const typename S::columns &b, int y, int e) {
    const int lane = threadIdx.x % 32, first = threadIdx.x / 32 % S::ACROSS * S::WN;
    return first + (S::M::PAIRED && b.wide == 2 ? y / 2 * 16 + lane % 4 * 4 + e % 2 * 2 + y % 2
                                                : y * 8 + lane % 4 * 2 + e % 2);
}

/*
 * Zero points leave the sum: Σ (A − a0)(B − b0) = Σ AB − b0 Σ A − a0 Σ B + steps·a0·b0, in
 * arithmetic modulo 2^32, as the plan has chosen `steps` such that the result fits.
 */
template <class S>
TN_DEVICE void without_zeros(const tn_cu_gemm &g, const places &at, const tile &t, int64_t across,
                             const typename S::rows &a, const typename S::columns &b, int64_t steps,
                             state<S> &s) {
    if (!present(g, A_ZERO) && !present(g, B_ZERO))
        return;
    uint32_t a0[S::X][2] = {}, b0[S::Y][2] = {};
#pragma unroll
    for (int e = 0; e < S::X * 2; e++) {
        const int i = row_at<S>(a, e / 2, e % 2 * 2);
        if (present(g, A_ZERO) && i < t.rows)
            a0[e / 2][e % 2] =
                (uint32_t)get_integer(at.at[A_ZERO] + (t.i0 + i) * g.row[A_ZERO], g.type[A_ZERO]);
    }
#pragma unroll
    for (int e = 0; e < S::Y * 2; e++) {
        const int64_t j = b_column(g, across, S::BN, column_at<S>(b, e / 2, e % 2));
        if (present(g, B_ZERO) && j >= 0)
            b0[e / 2][e % 2] =
                (uint32_t)get_integer(at.at[B_ZERO] + j * g.column[B_ZERO], g.type[B_ZERO]);
    }
#pragma unroll
    for (int x = 0; x < S::X; x++)
#pragma unroll
        for (int y = 0; y < S::Y; y++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s.acc[x][y][e] = (int32_t)((uint32_t)s.acc[x][y][e] -
                                           b0[y][e % 2] * ((uint32_t)s.rows[x][e] -
                                                           (uint32_t)steps * a0[x][e / 2]) -
                                           a0[x][e / 2] * (uint32_t)s.columns[y][e]);
}

/* To shared memory, two or four neighbours at once. */
template <class S>
TN_DEVICE void put_sums(const typename S::rows &a, const typename S::columns &b,
                        const typename S::sums &acc) {
    typedef typename S::sum sum;
    struct __align__(2 * sizeof(sum)) two {
        sum s[2];
    };
    struct __align__(4 * sizeof(sum)) four {
        sum s[4];
    };
    sum *to = (sum *)dynamic;
    if (S::M::PAIRED && b.wide == 2) {
#pragma unroll
        for (int x = 0; x < S::X; x++)
#pragma unroll
            for (int y = 0; y < S::Y; y += 2)
#pragma unroll
                for (int e = 0; e < 4; e += 2)
                    *(four *)&to[row_at<S>(a, x, e) * S::PITCH + column_at<S>(b, y, e)] = four{
                        {acc[x][y][e], acc[x][y + 1][e], acc[x][y][e + 1], acc[x][y + 1][e + 1]}};
    } else {
#pragma unroll
        for (int x = 0; x < S::X; x++)
#pragma unroll
            for (int y = 0; y < S::Y; y++)
#pragma unroll
                for (int e = 0; e < 4; e += 2) /* 8 bytes: all banks once a half warp */
                    *(two *)&to[row_at<S>(a, x, e) * S::PITCH + column_at<S>(b, y, e)] =
                        two{{acc[x][y][e], acc[x][y][e + 1]}};
    }
}

template <class S> TN_DEVICE void gemm_tiles(const tn_cu_gemm &g) {
    typedef typename S::sum sum;
    for (int64_t index = blockIdx.x; index < g.tiles * g.segments; index += gridDim.x) {
        const int64_t segment = index % g.segments, number = index / g.segments;
        const int64_t across = number % g.tiles_across;
        const tile t = tile_of(g, number, S::BM, S::BN);
        if (t.rows <= 0) /* for all threads alike */
            continue;
        const int64_t from = segment * g.segment_steps;
        const int64_t to = g.segments > 1 ? min_of(g.k, from + g.segment_steps) : g.k;
        typename S::rows a;
        typename S::columns b;
        state<S> sums = {};
        a.begin(place(g, A, t.member), g.column[A], g.type[A], g.a_wide,
                [&](int n) { return n < t.rows ? (t.i0 + n) * g.row[A] : NO_LINE; });
        b.begin(place(g, B, t.member), g.row[B], g.type[B], g.b_wide, [&](int n) {
            const int64_t j = b_column(g, across, S::BN, n);
            return j < 0 ? NO_LINE : j * g.column[B];
        });
        steps_of<S>(g, a, b, from, to, sums);
        if constexpr (S::M::EXACT)
            without_zeros<S>(g, places_of(g, t.member), t, across, a, b, to - from, sums);
        __syncthreads();
        put_sums<S>(a, b, sums.acc);
        __syncthreads();
        const sum *made = (const sum *)dynamic;
        if (g.segments > 1) {
            sum *part = (sum *)g.parts + segment * g.part_elements + number * (S::BM * S::BN);
            for (int n = threadIdx.x; n < S::BM * S::BN; n += S::THREADS)
                part[n] = made[n / S::BN * S::PITCH + n % S::BN];
        } else {
            end_of_tile<S::BN, S::THREADS, typename S::M::whole>(g, t, across, made, S::PITCH,
                                                                 threadIdx.x);
        }
        __syncthreads();
    }
}

/* The segments' sums of tiles of g.tile_rows x g.tile_columns, in ascending order, and the end. */
template <class M> TN_DEVICE void gemm_join(const tn_cu_gemm &g) {
    typedef typename M::whole whole;
    const int width = g.tile_columns, elements = g.tile_rows * width;
    for (int64_t index = blockIdx.x; index < g.tiles; index += gridDim.x) {
        const tile t = tile_of(g, index, g.tile_rows, width);
        const int64_t across = index % g.tiles_across;
        if (t.rows <= 0)
            continue;
        const places at = places_of(g, t.member);
        const typename M::sum *part = (const typename M::sum *)g.parts + index * elements;
#pragma unroll 1
        for (int n = threadIdx.x; n < elements; n += 256) {
            const int i = n / width, c = n % width;
            const int64_t column = b_column(g, across, width, c);
            if (i >= t.rows || column < 0 || is_gate(g, width, c))
                continue;
            const int own = i * width + c, other = i * width + gate_of(g, width, c);
            whole z = part[own], gate = part[other];
            for (int64_t s = 1; s < g.segments; s++) {
                z = z + part[s * g.part_elements + own];
                gate = gate + part[s * g.part_elements + other];
            }
            end_of(g, at, t, column, i, z, gate);
        }
    }
}

/* Kernels of M's products: middle tiles, and for few rows or few columns; … */
#define GEMM_SMALL_TILES(name, M)                                                                  \
    typedef shape<M, 64, 64, 32, 32, 3> middle_##name;                                             \
    typedef shape<M, 16, 128, 16, 32, 4> flat_##name;                                              \
    typedef shape<M, 128, 16, 32, 16, 4> tall_##name;                                              \
    TN_KERNEL __launch_bounds__(128, 2)                                                            \
        gemm_##name##_64x64(const __grid_constant__ tn_cu_gemm g) {                                \
        gemm_tiles<middle_##name>(g);                                                              \
    }                                                                                              \
    TN_KERNEL __launch_bounds__(128, 3)                                                            \
        gemm_##name##_16x128(const __grid_constant__ tn_cu_gemm g) {                               \
        gemm_tiles<flat_##name>(g);                                                                \
    }                                                                                              \
    TN_KERNEL __launch_bounds__(128, 3)                                                            \
        gemm_##name##_128x16(const __grid_constant__ tn_cu_gemm g) {                               \
        gemm_tiles<tall_##name>(g);                                                                \
    }

/* … and large ones. */
#define GEMM_TILES(name, M)                                                                        \
    GEMM_SMALL_TILES(name, M)                                                                      \
    typedef shape<M, 128, 128, 64, 32, 3> large_##name;                                            \
    TN_KERNEL __launch_bounds__(256, 1)                                                            \
        gemm_##name##_128x128(const __grid_constant__ tn_cu_gemm g) {                              \
        gemm_tiles<large_##name>(g);                                                               \
    }

#endif
