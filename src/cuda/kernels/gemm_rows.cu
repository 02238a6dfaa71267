/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_rows.cu: products of few rows of A or few columns of B in the bits of gemm_plain_f32: chains
 * of fused multiply-adds in f32 (docs/NUMERICS.md, 3.1). The other operand, W, is read once.
 *
 * A block has 128 bytes' worth of lines of W (columns of B, or rows of A), and its eight warps a
 * block of KC steps each, eight at a time: chains in blocks are independent, and their sums are
 * added in ascending order afterwards. A warp takes 32 steps at a time, 4 KB of W. Where lines are
 * along k, these are loaded 16 bytes a lane, whole sectors side by side, and pass through shared
 * memory so that a lane gets lines of its own; where lines lie side by side a lane's word is what
 * it needs. The few rows lie in shared memory, where all lanes read the same.
 */
#include "gemm_columns.cuh"

enum { WARPS = 8, THREADS = WARPS * 32, STEPS = 32, WORDS = 32, LOADS = WORDS / 4 };

/* SIZE: bytes of W's elements; FEW: rows of A, or columns of B, at most. */
template <int SIZE_, int FEW_> struct rows {
    enum {
        SIZE = SIZE_,
        FEW = FEW_,
        EACH = 4 / SIZE,       /* lines of a lane */
        LINES = 32 * EACH,     /* of a block */
        CHUNKS = 2 * SIZE,     /* of 16 bytes, of a line's steps */
        LENGTH = STEPS * SIZE, /* their bytes */
        SUMS = FEW * LINES,
        OWN = (SUMS + THREADS - 1) / THREADS, /* of a thread, at last */
        FOURS = STEPS / 4 + 1 /* of a few's steps: written along the few, rows lie 4 banks apart */
    };
    union of_warp {
        uint4 w[LOADS * 32];
        float sums[SUMS];
    };
    struct shared {
        of_warp warp[WARPS];
        float4 few[WARPS][FEW][FOURS];
        float total[SUMS];
    };
};

/* Number e of a word, or the only one. */
template <int SIZE> TN_DEVICE float number(uint32_t word, int e, int type) {
    if (SIZE == 4)
        return __int_as_float((int)word);
    if (SIZE == 2) {
        const uint16_t half = (uint16_t)(word >> (16 * e));
        return type == F16 ? from_f16(half) : from_bf16(half);
    }
    const uint8_t byte = (uint8_t)(word >> (8 * e));
    return type == S8 ? (float)(int8_t)byte : (float)byte;
}

template <class T> struct weights {
    const char *at[LOADS]; /* step 0: along k of each load, else of each of the lane's lines */
    int valid;             /* along k: a bit for each load's line; else lines that there are */
    int64_t step;
    int type;
    bool along, wide;

    /* line(n): bytes from `from` to line n, or NO_LINE. */
    template <class Line>
    __device__ __forceinline__ void begin(const char *from, int64_t step_, int type_, int wide_,
                                          Line line) {
        const int lane = threadIdx.x % 32;
        step = step_;
        type = type_;
        along = step == T::SIZE;
        wide = wide_ != 0;
        valid = 0;
        if (along) {
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                const int n = i * 32 + lane;
                const int64_t place = line(n / T::CHUNKS);
                valid |= (place != NO_LINE) << i;
                at[i] = from + (place == NO_LINE ? 0 : place + n % T::CHUNKS * 16);
            }
        } else {
#pragma unroll
            for (int e = 0; e < T::EACH; e++) {
                const int64_t place = line(lane * T::EACH + e);
                valid += place != NO_LINE;
                at[e] = from + (place == NO_LINE ? 0 : place);
            }
        }
    }

    /* Steps [p0, p0 + STEPS) of which there are `left`. */
    __device__ __forceinline__ void load(uint32_t (&w)[WORDS], int64_t p0, int64_t left) const {
        if (along) {
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                const int first = (int)(i * 32 + threadIdx.x % 32) % T::CHUNKS * (16 / T::SIZE);
                const char *from = at[i] + p0 * T::SIZE;
                uint4 x = {0, 0, 0, 0};
                if (valid >> i & 1 && wide && first + 16 / T::SIZE <= left)
                    x = *(const uint4 *)from;
                else if (valid >> i & 1)
                    x = one_by_one(from, left - first);
                w[4 * i] = x.x, w[4 * i + 1] = x.y, w[4 * i + 2] = x.z, w[4 * i + 3] = x.w;
            }
        } else if (wide && valid == T::EACH) {
#pragma unroll
            for (int p = 0; p < STEPS; p++)
                w[p] = p < left ? *(const uint32_t *)(at[0] + (p0 + p) * step) : 0;
        } else {
#pragma unroll
            for (int p = 0; p < STEPS; p++) {
                w[p] = 0;
#pragma unroll
                for (int e = 0; e < T::EACH; e++)
                    if (p < left && e < valid)
                        w[p] |= bits(at[e] + (p0 + p) * step) << (8 * T::SIZE * e % 32);
            }
        }
    }

    static __device__ __forceinline__ uint32_t bits(const char *x) {
        return T::SIZE == 4   ? *(const uint32_t *)x
               : T::SIZE == 2 ? (uint32_t) * (const uint16_t *)x
                              : (uint32_t) * (const uint8_t *)x;
    }
    static __device__ __forceinline__ uint4 one_by_one(const char *from, int64_t left) {
        uint32_t x[4] = {};
#pragma unroll
        for (int e = 0; e < 16 / T::SIZE; e++)
            if (e < left)
                x[e * T::SIZE / 4] |= bits(from + e * T::SIZE) << (e * T::SIZE % 4 * 8);
        return uint4{x[0], x[1], x[2], x[3]};
    }

    /* Chunk c of a line's steps in shared memory: eight lines of a chunk meet no bank twice. */
    static __device__ __forceinline__ int chunk_at(int line, int c) {
        return line * T::CHUNKS + (c ^ (line * T::CHUNKS / 8 & (T::CHUNKS - 1)));
    }
};

/* Steps of which there are `left`; WHOLE: all. */
template <class T, bool WHOLE>
TN_DEVICE void multiply(const weights<T> &w, const uint32_t (&words)[WORDS],
                        const typename T::of_warp &staged, const float4 (&few)[T::FEW][T::FOURS],
                        int left, float (&acc)[T::FEW][T::EACH]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int p4 = 0; p4 < STEPS; p4 += 4) {
        if (!WHOLE && p4 >= left)
            break;
        float v[T::EACH][4];
#pragma unroll
        for (int e = 0; e < T::EACH; e++) {
            uint4 q = {0, 0, 0, 0};
            if (w.along)
                q = staged.w[weights<T>::chunk_at(lane + 32 * e, p4 * T::SIZE / 16)];
            const uint32_t all[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
            for (int s = 0; s < 4; s++)
                v[e][s] =
                    w.along ? number<T::SIZE>(all[(p4 + s) * T::SIZE % 16 / 4], s % T::EACH, w.type)
                            : number<T::SIZE>(words[p4 + s], e, w.type);
        }
#pragma unroll
        for (int r = 0; r < T::FEW; r++) {
            const float4 four = few[r][p4 / 4];
            const float x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int s = 0; s < 4; s++) {
                if (!WHOLE && p4 + s >= left)
                    break;
#pragma unroll
                for (int e = 0; e < T::EACH; e++)
                    acc[r][e] = fmaf(x[s], v[e][s], acc[r][e]);
            }
        }
    }
}

/* The few: rows of A, or columns of B. */
struct few_lines {
    const char *at;
    int64_t line, step;
    int count, type;
};

/* The chains of steps [from, to) of k, at most KC. */
template <class T>
TN_DEVICE void chains(const weights<T> &w, const few_lines &x, int64_t from, int64_t to,
                      typename T::of_warp &staged, float4 (&few)[T::FEW][T::FOURS],
                      float (&acc)[T::FEW][T::EACH]) {
    const int lane = threadIdx.x % 32;
    uint32_t words[WORDS];
    if (w.along && from < to)
        w.load(words, from, to - from);
    for (int64_t p0 = from; p0 < to; p0 += STEPS) {
        const int64_t left = to - p0;
        __syncwarp();
        if (w.along) {
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                const int n = i * 32 + lane;
                staged.w[weights<T>::chunk_at(n / T::CHUNKS, n % T::CHUNKS)] =
                    uint4{words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]};
            }
        } else {
            w.load(words, p0, left);
        }
#pragma unroll
        for (int i = 0; i < T::FEW; i++) { /* neighbours read neighbours */
            const int n = i * 32 + lane, r = x.line < x.step ? n % T::FEW : i,
                      p = x.line < x.step ? n / T::FEW : lane;
            ((float *)few[r])[p] = r < x.count && p < left
                                       ? get<float>(x.at + r * x.line + (p0 + p) * x.step, x.type)
                                       : 0.0f;
        }
        __syncwarp();
        if (w.along && left > STEPS) /* on their way meanwhile */
            w.load(words, p0 + STEPS, left - STEPS);
        if (left >= STEPS)
            multiply<T, true>(w, words, staged, few, STEPS, acc);
        else
            multiply<T, false>(w, words, staged, few, (int)left, acc);
    }
}

template <class T> TN_DEVICE void gemm_rows(const tn_cu_gemm &g) {
    __shared__ typename T::shared shared;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const bool of_a = g.tile_rows > g.tile_columns; /* W is A */
    for (int64_t index = blockIdx.x; index < g.tiles; index += gridDim.x) {
        const tile t = tile_of(g, index, g.tile_rows, g.tile_columns);
        const int64_t across = index % g.tiles_across;
        if (t.rows <= 0) /* for all threads alike */
            continue;
        weights<T> w;
        few_lines x;
        if (of_a) {
            w.begin(place(g, A, t.member), g.column[A], g.type[A], g.a_wide,
                    [&](int n) { return n < t.rows ? (t.i0 + n) * g.row[A] : NO_LINE; });
            x.at = place(g, B, t.member) + t.j0 * g.column[B];
            x.line = g.column[B];
            x.step = g.row[B];
            x.type = g.type[B];
            x.count = (int)min_of(T::FEW, g.n - t.j0);
        } else {
            w.begin(place(g, B, t.member), g.row[B], g.type[B], g.b_wide, [&](int n) {
                const int64_t j = b_column(g, across, T::LINES, n);
                return j < 0 ? NO_LINE : j * g.column[B];
            });
            x.at = place(g, A, t.member) + t.i0 * g.row[A];
            x.line = g.row[A];
            x.step = g.column[A];
            x.type = g.type[A];
            x.count = t.rows;
        }
        float total[T::OWN] = {};
        for (int64_t first = 0; first < g.k; first += WARPS * TN_CU_GEMM_KC) {
            const int64_t from = first + warp * TN_CU_GEMM_KC;
            float acc[T::FEW][T::EACH] = {};
            chains<T>(w, x, from, min_of(from + TN_CU_GEMM_KC, g.k), shared.warp[warp],
                      shared.few[warp], acc);
            __syncwarp();
#pragma unroll
            for (int r = 0; r < T::FEW; r++)
#pragma unroll
                for (int e = 0; e < T::EACH;
                     e++) /* along k lines lie 32 apart, else side by side */
                    shared.warp[warp]
                        .sums[r * T::LINES + (w.along ? lane + 32 * e : lane * T::EACH + e)] =
                        acc[r][e];
            __syncthreads();
            const int count = (int)min_of(WARPS, ceil_div(g.k - first, TN_CU_GEMM_KC));
#pragma unroll
            for (int i = 0; i < T::OWN; i++) {
                const int n = i * THREADS + threadIdx.x;
                if (n < T::SUMS)
                    for (int b = 0; b < count; b++)
                        total[i] = first + b == 0 ? shared.warp[b].sums[n]
                                                  : total[i] + shared.warp[b].sums[n];
            }
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < T::OWN; i++)
            if (i * THREADS + threadIdx.x < T::SUMS)
                shared.total[i * THREADS + threadIdx.x] = total[i];
        __syncthreads();
        const places at = places_of(g, t.member);
#pragma unroll 1
        for (int n = threadIdx.x; n < T::SUMS; n += THREADS) {
            const int few = n / T::LINES, line = n % T::LINES;
            const int64_t column = b_column(g, across, g.tile_columns, of_a ? few : line);
            if (few < x.count && column >= 0 &&
                (of_a ? line < t.rows : !is_gate(g, T::LINES, line)))
                end_of(g, at, t, column, of_a ? line : few, shared.total[n],
                       of_a ? 0.0f : shared.total[n - line + gate_of(g, T::LINES, line)]);
        }
        __syncthreads();
    }
}

#define GEMM_ROWS(name, size, few)                                                                 \
    TN_KERNEL __launch_bounds__(THREADS, 1) name(const __grid_constant__ tn_cu_gemm g) {           \
        gemm_rows<rows<size, few>>(g);                                                             \
    }

GEMM_ROWS(gemm_rows_32_1, 4, 1)
GEMM_ROWS(gemm_rows_32_8, 4, 8)
GEMM_ROWS(gemm_rows_16_1, 2, 1)
GEMM_ROWS(gemm_rows_16_8, 2, 8)
GEMM_ROWS(gemm_rows_8_1, 1, 1)
GEMM_ROWS(gemm_rows_8_8, 1, 8)
