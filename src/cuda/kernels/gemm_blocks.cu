/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_blocks.cu: products with B of block types but for tensor cores (gemm_blocks_mma.cu): few
 * rows, exact or with A rounded to bytes; tiles for many rows, exact; and the rounding.
 *
 * Exact (docs/NUMERICS.md, 3.8): elements of B as f32, multiplied as 3.1 says. Fast: sums of bytes,
 * exact in s32, and scales in the order of src/cpu/kernels/gemm_q8.c, whose bits these are. An
 * exact sum starts at the bits of 1.5 * 2^23, less what B's bias adds to it, so that its own bits
 * are a float's, 1.5 * 2^23 more.
 *
 * Few rows: a block of four warps makes 32 columns, lane by lane, and each warp a block of KC
 * steps: the chains of NUMERICS.md are those of threads, and A is the same for all lanes. What
 * comes from memory are the blocks' bytes, once, by asynchronous copies, a pass ahead.
 */
#include "blocks.cuh"
#include "gemm.cuh"
#include "gemm_records.cuh"

enum {
    COLUMNS = TN_CU_FEW_COLUMNS,
    WARPS = TN_CU_FEW_WARPS,
    FEW_THREADS = WARPS * 32,
    KC_UNITS = TN_CU_GEMM_KC / TN_CU_UNIT,
    PASS_UNITS = WARPS * KC_UNITS,
    PASS = PASS_UNITS * TN_CU_UNIT
};

extern __shared__ __align__(128) uint32_t dynamic[];

/* ---- rounding A */

/* A warp to 32 steps of a row, a lane to each. */
TN_KERNEL __launch_bounds__(256) gemm_blocks_round(const __grid_constant__ tn_cu_gemm_blocks x) {
    const tn_cu_gemm &g = x.g;
    const int lane = threadIdx.x % 32, kind = block_kind(g.type[B]), bias = block_bias(g.type[B]);
    const int64_t units = g.k / TN_CU_UNIT, count = x.rounded_members * g.m * units;
    for (int64_t index = (int64_t)blockIdx.x * 8 + threadIdx.x / 32; index < count;
         index += (int64_t)gridDim.x * 8) {
        const int64_t u = index % units, row = index / units % g.m, member = index / units / g.m;
        const char *a = g.experts > 0 ? (const char *)g.at[A] : place(g, A, member);
        const float v =
            get<float>(a + row * g.row[A] + (u * TN_CU_UNIT + lane) * g.column[A], g.type[A]);
        float most = v == v ? fabsf(v) : 0.0f, bad = fmaf(v, 0.0f, 0.0f); /* NaN if not finite */
#pragma unroll
        for (int step = 16; step > 0; step /= 2) {
            most = larger(most, __shfl_xor_sync(0xffffffffu, most, step));
            bad += __shfl_xor_sync(0xffffffffu, bad, step);
        }
        float d = most / 127.0f;
        const bool zero = bad != bad || d < 0x1p-126f;
        /* to nearest, in the low bits of 1.5 * 2^23 and it */
        const float rounded = zero ? 0x1.8p23f : v / d + 0x1.8p23f;
        d = zero ? bad : d;
        const uint32_t byte = (uint32_t)__float_as_int(rounded) & 0xff;
        uint32_t four = byte << lane % 4 * 8;
        int sum = (int8_t)byte;
#pragma unroll
        for (int step = 1; step < 16; step *= 2) {
            if (step < 4)
                four |= __shfl_xor_sync(0xffffffffu, four, step);
            sum += __shfl_xor_sync(0xffffffffu, sum, step);
        }
        const int other = __shfl_xor_sync(0xffffffffu, sum, 16), first = lane < 16 ? sum : other,
                  second = lane < 16 ? other : sum;
        uint32_t word = __shfl_sync(0xffffffffu, four, lane * 4 % 32);
        if (lane == RECORD_SCALE)
            word = (uint32_t)__float_as_int(d);
        if (lane == RECORD_START)
            word = MAGIC_BITS - (uint32_t)(bias * (kind == HALVED ? first : first + second));
        if (lane == RECORD_START + 1)
            word = MAGIC_BITS - (uint32_t)(bias * second);
        if (lane == RECORD_SUM)
            word = (uint32_t)__float_as_int((float)(first + second));
        if (lane < RECORD_WORDS)
            ((uint32_t *)x.rounded)[((member * units + u) * g.m + row) * RECORD_WORDS + lane] =
                word;
    }
}

/* ---- few rows */

/* Bytes of column j of one half, and where they begin. */
TN_DEVICE const char *column_at(const tn_cu_gemm &g, const char *b, int half, int64_t j) {
    return b + column_of(g, half, j) * g.column[B];
}

/* Steps [p0, p0 + steps) of A's rows as they are multiplied: a[row][step]. */
template <int ROWS>
TN_DEVICE void rows_to_shared(const side &from, const tile &t, int64_t p0, int steps, float *a) {
#pragma unroll 1
    for (int row = 0; row < ROWS; row++)
#pragma unroll 1
        for (int p = threadIdx.x; p < steps; p += FEW_THREADS)
            a[row * PASS + p] = row < t.rows ? operand<float>(from, t.i0 + row, p0 + p) : 0.0f;
}

/* The same of rows that were rounded: records of a unit's rows, unit after unit. */
template <int ROWS>
TN_DEVICE void records_to_shared(const tn_cu_gemm_blocks &x, const tile &t, int64_t u0, int units,
                                 uint32_t *a) {
    const int chunks = RECORD_WORDS / 4 * ROWS; /* of 16 bytes, of a unit */
    const char *from = (const char *)x.rounded + (x.g.experts > 0 ? 0 : t.member * x.rounded_step);
    for (int e = threadIdx.x; e < units * chunks; e += FEW_THREADS) {
        const int u = e / chunks, c = e % chunks;
        const bool there = c < t.rows * (RECORD_WORDS / 4);
        ((uint4 *)a)[e] =
            there ? ((const uint4 *)(from + ((u0 + u) * x.g.m + t.i0) * TN_CU_RECORD))[c]
                  : make_uint4(0, 0, 0, 0);
    }
}

/* A unit of a lane's column with steps of A that all lanes share. */
template <int ROWS> TN_DEVICE void meet_exact(const unit &u, int type, const float *a, float *sum) {
    const values v = values_of(u, type);
#pragma unroll
    for (int g = 0; g < 8; g++) {
        float w[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            w[i] = value_of(v, u.q[g], 4 * g + i);
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            const float4 four = *(const float4 *)(a + row * PASS + 4 * g);
            sum[row] = fmaf(four.x, w[0], sum[row]);
            sum[row] = fmaf(four.y, w[1], sum[row]);
            sum[row] = fmaf(four.z, w[2], sum[row]);
            sum[row] = fmaf(four.w, w[3], sum[row]);
        }
    }
}
template <int ROWS>
TN_DEVICE void meet_bytes(const unit &u, int kind, const uint32_t *a, float *sum) {
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        const uint4 *record = (const uint4 *)(a + row * RECORD_WORDS);
        const uint4 low = record[0], high = record[1], rest = record[2];
        const uint32_t d = dot4(
            low.w, u.q[3], dot4(low.z, u.q[2], dot4(low.y, u.q[1], dot4(low.x, u.q[0], rest.y))));
        const uint32_t d1 =
            dot4(high.w, u.q[7],
                 dot4(high.z, u.q[6],
                      dot4(high.y, u.q[5], dot4(high.x, u.q[4], kind == HALVED ? rest.z : d))));
        float z = from_magic(kind == HALVED ? d : d1) * u.s;
        if (kind == HALVED)
            z = fmaf(from_magic(d1), u.second, z);
        if (kind == MINIMUM)
            z = fmaf(__int_as_float((int)rest.w), u.second, z);
        sum[row] = fmaf(__int_as_float((int)rest.x), z, sum[row]);
    }
}

template <int ROWS, bool FAST> TN_DEVICE void gemm_few(const tn_cu_gemm_blocks &x) {
    enum { EACH = (ROWS * COLUMNS + FEW_THREADS - 1) / FEW_THREADS }; /* 1 or 2 */
    const tn_cu_gemm &g = x.g;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, type = g.type[B];
    const int kind = block_kind(type), units_each = block_units(type), size = block_bytes(type);
    const int64_t units = g.k / TN_CU_UNIT, passes = ceil_div(units, PASS_UNITS);
    const int halves = g.gated ? 2 : 1;
    uint32_t *a = dynamic + 2 * COLUMNS * x.pitch;
    float *part = (float *)(a + PASS_UNITS * ROWS * (FAST ? RECORD_WORDS : TN_CU_UNIT));
    for (int64_t index = blockIdx.x; index < g.tiles; index += gridDim.x) {
        const tile t = tile_of(g, index, ROWS, COLUMNS);
        if (t.rows <= 0) /* for all threads alike */
            continue;
        const char *b = place(g, B, t.member);
        const side from = side_of(g, true, t.member);
        float z[EACH], gate[EACH];
#pragma unroll
        for (int e = 0; e < EACH; e++)
            z[e] = gate[e] = 0;
        /* Gates first; a pass's blocks are on their way while those before it are met. */
        auto stage = [&](int64_t s) {
            if (s < halves * passes) {
                const int64_t u0 = s % passes * PASS_UNITS;
                const int bytes = (int)bytes_of_units(type, min_of(units - u0, PASS_UNITS));
                for (int c = warp; c < COLUMNS; c += WARPS) {
                    const bool there = t.j0 + c < g.n;
                    const char *run =
                        there ? column_at(g, b, halves - 1 - (int)(s / passes), t.j0 + c) +
                                    bytes_of_units(type, u0)
                              : (const char *)0;
                    uint32_t *to = dynamic + ((s & 1) * COLUMNS + c) * x.pitch;
                    copy_run(to, run, there ? bytes : 0, x.pitch);
                }
            }
            end_of_copies();
        };
        stage(0);
#pragma unroll 1
        for (int64_t s = 0; s < halves * passes; s++) {
            const int64_t u0 = s % passes * PASS_UNITS;
            const int here = (int)min_of(units - u0, PASS_UNITS),
                      half = halves - 1 - (int)(s / passes);
            if (s == passes)
#pragma unroll
                for (int e = 0; e < EACH; e++)
                    gate[e] = z[e];
            stage(s + 1);
            if (FAST)
                records_to_shared<ROWS>(x, t, u0, here, a);
            else
                rows_to_shared<ROWS>(from, t, u0 * TN_CU_UNIT, here * TN_CU_UNIT, (float *)a);
            await_runs<1>();
            __syncthreads();
            float sum[ROWS];
#pragma unroll
            for (int row = 0; row < ROWS; row++)
                sum[row] = 0;
            const bool there = t.j0 + lane < g.n;
            const uint32_t at =
                ((uint32_t)((s & 1) * COLUMNS + lane) * x.pitch) * 4 +
                (there ? head_of(column_at(g, b, half, t.j0 + lane) + bytes_of_units(type, u0))
                       : 0);
            const int end = here < (warp + 1) * KC_UNITS ? here : (warp + 1) * KC_UNITS;
#pragma unroll 1
            for (int u = warp * KC_UNITS; u < end; u++) {
                const unit one = unit_at(dynamic, at + u / units_each * size, type, u % units_each);
                if (FAST)
                    meet_bytes<ROWS>(one, kind, a + u * ROWS * RECORD_WORDS, sum);
                else
                    meet_exact<ROWS>(one, type, (const float *)a + u * TN_CU_UNIT, sum);
            }
#pragma unroll
            for (int row = 0; row < ROWS; row++)
                part[(warp * ROWS + row) * COLUMNS + lane] = sum[row];
            __syncthreads();
            /* Blocks of KC steps join in ascending order. */
#pragma unroll
            for (int e = 0; e < EACH; e++) {
                const int n = threadIdx.x + e * FEW_THREADS;
                if (n < ROWS * COLUMNS)
                    for (int w = 0; w * KC_UNITS < here; w++) {
                        const float more = part[w * ROWS * COLUMNS + n];
                        z[e] = u0 == 0 && w == 0 ? more : z[e] + more;
                    }
            }
        }
        const places to = places_of(g, t.member);
#pragma unroll 1
        for (int e = 0; e < EACH; e++) {
            const int n = threadIdx.x + e * FEW_THREADS, row = n / COLUMNS;
            const int64_t j = t.j0 + n % COLUMNS;
            if (row < t.rows && j < g.n)
                finish<float>(g, to, t.i0 + row, j, e ? z[EACH - 1] : z[0],
                              e ? gate[EACH - 1] : gate[0]);
        }
        __syncthreads();
    }
}

#define FEW(rows)                                                                                  \
    TN_KERNEL __launch_bounds__(FEW_THREADS, 3)                                                    \
        gemm_blocks_exact_##rows(const __grid_constant__ tn_cu_gemm_blocks x) {                    \
        gemm_few<rows, false>(x);                                                                  \
    }                                                                                              \
    TN_KERNEL __launch_bounds__(FEW_THREADS, 3)                                                    \
        gemm_blocks_bytes_##rows(const __grid_constant__ tn_cu_gemm_blocks x) {                    \
        gemm_few<rows, true>(x);                                                                   \
    }
FEW(1)
FEW(4)
FEW(8)

/* ---- tiles, exact */

enum { SIDE = TN_CU_BLOCKS_SIDE, ACROSS = 16, EACH = SIDE / ACROSS, THREADS = ACROSS * ACROSS };

/* Steps of a tile of A and B, those of a unit. + 1: A is written along k. */
struct steps {
    float a[TN_CU_UNIT][SIDE + 1], b[TN_CU_UNIT][SIDE];
};

/* A unit of column c, decoded, with scales and zero points of the caller's applied. */
TN_DEVICE void column_to_shared(const tn_cu_gemm &g, const side &of, const unit &u, int c,
                                int64_t j, int64_t p0, steps &to) {
    const values v = values_of(u, g.type[B]);
#pragma unroll
    for (int i = 0; i < TN_CU_UNIT; i++)
        to.b[i][c] = value_of(v, u.q[i / 4], i);
    if (of.scale_type || of.zero_type)
#pragma unroll 1
        for (int i = 0; i < TN_CU_UNIT; i++)
            to.b[i][c] = adjusted<float>(of, j, p0 + i, to.b[i][c]);
}

/* Sums of a tile of one half of the columns. */
TN_DEVICE void block_sums(const tn_cu_gemm_blocks &x, const tile &t, int half,
                          float (&sums)[EACH][EACH]) {
    __shared__ steps shared;
    const tn_cu_gemm &g = x.g;
    const int warp = threadIdx.x / 32, type = g.type[B];
    const int units_each = block_units(type), size = block_bytes(type);
    const int64_t units = g.k / TN_CU_UNIT;
    const side sa = side_of(g, true, t.member), sb = side_of(g, false, t.member);
    const bool a_by_steps = sa.step <= sa.line;
    auto stage = [&](int64_t u0) {
        if (u0 < units) {
            const int bytes = (int)bytes_of_units(type, min_of(units - u0, KC_UNITS));
            for (int c = warp; c < SIDE; c += THREADS / 32) {
                const bool there = t.j0 + c < g.n;
                const char *run =
                    there ? column_at(g, sb.at, half, t.j0 + c) + bytes_of_units(type, u0)
                          : (const char *)0;
                uint32_t *to = dynamic + (u0 / KC_UNITS % 2 * SIDE + c) * x.pitch;
                copy_run(to, run, there ? bytes : 0, x.pitch);
            }
        }
        end_of_copies();
    };
#pragma unroll
    for (int i = 0; i < EACH * EACH; i++)
        sums[i / EACH][i % EACH] = 0;
    __syncthreads();
    stage(0);
#pragma unroll 1
    for (int64_t u0 = 0; u0 < units; u0 += KC_UNITS) {
        float acc[EACH][EACH] = {};
        stage(u0 + KC_UNITS);
        await_runs<1>();
#pragma unroll 1
        for (int u = 0; u < KC_UNITS && u0 + u < units; u++) {
            const int64_t p0 = (u0 + u) * TN_CU_UNIT;
            __syncthreads();
            for (int e = threadIdx.x; e < SIDE * TN_CU_UNIT; e += THREADS) {
                const int p = a_by_steps ? e % TN_CU_UNIT : e / SIDE,
                          r = a_by_steps ? e / TN_CU_UNIT : e % SIDE;
                shared.a[p][r] = r < t.rows ? operand<float>(sa, t.i0 + r, p0 + p) : 0.0f;
            }
            const int c = threadIdx.x % SIDE;
            if (threadIdx.x / SIDE == u % (THREADS / SIDE)) { /* warps take turns */
                const bool there = t.j0 + c < g.n;
                const int64_t j = there ? column_of(g, half, t.j0 + c) : 0;
                const uint32_t head =
                    there ? head_of(sb.at + j * g.column[B] + bytes_of_units(type, u0)) : 0;
                const uint32_t at = (uint32_t)((u0 / KC_UNITS % 2 * SIDE + c) * x.pitch) * 4 + head;
                column_to_shared(g, sb,
                                 unit_at(dynamic, at + u / units_each * size, type, u % units_each),
                                 c, j, p0, shared);
            }
            __syncthreads();
#pragma unroll 4
            for (int p = 0; p < TN_CU_UNIT; p++) {
                float av[EACH], bv[EACH];
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    av[i] = shared.a[p][threadIdx.x / ACROSS + i * ACROSS];
                    bv[i] = shared.b[p][threadIdx.x % ACROSS + i * ACROSS];
                }
#pragma unroll
                for (int i = 0; i < EACH; i++)
#pragma unroll
                    for (int j = 0; j < EACH; j++)
                        acc[i][j] = fmaf(av[i], bv[j], acc[i][j]);
            }
        }
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < EACH; j++)
                sums[i][j] = u0 == 0 ? acc[i][j] : sums[i][j] + acc[i][j];
    }
}

TN_KERNEL __launch_bounds__(THREADS, 2)
    gemm_blocks_f32(const __grid_constant__ tn_cu_gemm_blocks x) {
    const tn_cu_gemm &g = x.g;
    for (int64_t index = blockIdx.x; index < g.tiles; index += gridDim.x) {
        const tile t = tile_of(g, index, SIDE, SIDE);
        float z[EACH][EACH] = {}, gate[EACH][EACH];
        if (t.rows <= 0) /* for all threads alike */
            continue;
#pragma unroll 1
        for (int half = g.gated ? 1 : 0; half >= 0; half--) {
#pragma unroll
            for (int e = 0; e < EACH * EACH; e++)
                gate[e / EACH][e % EACH] = z[e / EACH][e % EACH];
            block_sums(x, t, half, z);
        }
        const places at = places_of(g, t.member);
#pragma unroll 1
        for (int e = 0; e < EACH * EACH; e++) {
            const int r = threadIdx.x / ACROSS + e / EACH * ACROSS;
            const int64_t c = t.j0 + threadIdx.x % ACROSS + e % EACH * ACROSS;
            if (r < t.rows && c < g.n)
                finish<float>(g, at, t.i0 + r, c, pick(z, e), pick(gate, e));
        }
    }
}
