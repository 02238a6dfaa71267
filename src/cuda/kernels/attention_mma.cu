/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_mma.cu: attention of 16-bit floats by tensor cores (sm_80 and up): q of f16 or bf16, k
 * and v of that type or of bytes, which it holds exactly.
 *
 * A block of four warps takes a unit of rows through blocks of 64 keys (Dao, "FlashAttention-2",
 * 2023): scores, weights and sums stay in registers, keys and values come by cp.async while others
 * are worked on. Rows are queries of all heads that share a kv head. Two ways: `tile`, in which a
 * warp has 16 rows of its own, and `flat`, for few rows or wide values, in which all warps
 * have the same 16 rows, each 16 of the keys for the scores and a fourth of the columns for the
 * sums. Blocks of keys that no row sees are not touched.
 *
 * Order of sums: docs/NUMERICS.md, 5.4. A block of keys has a maximum and sums of its own, from
 * zero, and joins the others in ascending order, so neither the way nor the unit nor how blocks are
 * shared out (then attention_join joins them) changes a bit.
 *
 * A masked key has the weight -0, which no other has. Where values under a mask are not finite the
 * products would bring them in: units whose result is not finite are done again, `careful`, with
 * such values taken for zero row by row.
 */
#include "attention_tiles.cuh"

TN_DEVICE float shared_float(uint32_t at) {
    float v;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(at) : "memory");
    return v;
}

/* ---- scores */

/* q·k of the warp's rows and keys, from zero along d. */
template <class S>
TN_DEVICE void products(const tn_cu_attention &a, const pass<S> &p, uint32_t keys,
                        float (&s)[S::TILES][S::OWN_KEYS / 8][4]) {
    typedef typename S::M M;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, steps = ((int)a.d + 15) / 16;
    const uint32_t rows =
        p.q + ((S::FLAT ? 0 : warp * S::TILES * 16) + lane % 16) * p.k_pitch + lane / 16 * 16;
    keys += ((S::FLAT ? warp * S::OWN_KEYS : 0) + lane / 16 * 8 + lane % 8) * p.k_pitch +
            lane / 8 % 2 * 16;
#pragma unroll
    for (int n = 0; n < S::TILES * S::OWN_KEYS / 2; n++)
        s[n / (S::OWN_KEYS / 2)][n / 4 % (S::OWN_KEYS / 8)][n % 4] = 0;
#pragma unroll 2
    for (int k = 0; k < steps; k++) {
        uint32_t fa[S::TILES][4], fb[4];
#pragma unroll
        for (int t = 0; t < S::TILES; t++)
            load4(fa[t], rows + t * 16 * p.k_pitch + k * 32);
#pragma unroll
        for (int y = 0; y < S::OWN_KEYS / 16; y++) {
            load4(fb, keys + y * 16 * p.k_pitch + k * 32);
#pragma unroll
            for (int t = 0; t < S::TILES; t++) {
                M::multiply(s[t][2 * y], fa[t], fb);
                M::multiply(s[t][2 * y + 1], fa[t], fb + 2);
            }
        }
    }
}

/* From products to scores: scales, and what attention.cuh makes of them; -inf where masked. */
template <class S>
TN_DEVICE void scores_of(const tn_cu_attention &a, const unit &u, const pass<S> &p, int64_t block,
                         bool whole, uint32_t scales, float (&s)[S::TILES][S::OWN_KEYS / 8][4]) {
    enum { WIDTH = S::OWN_KEYS / 8, PARTS = S::TILES * WIDTH };
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int own_row = (S::FLAT ? 0 : warp * S::TILES * 16) + lane / 4,
              own_key = (S::FLAT ? warp * S::OWN_KEYS : 0) + lane % 4 * 2;
    const float scale = (float)a.scale;
#pragma unroll
    for (int n = 0; n < PARTS * 4; n++)
        s[n / 4 / WIDTH][n / 4 % WIDTH][n % 4] *= scale;
    if (a.softcap > 0 || present(a, ALIBI) || present(a, BIAS) || present(a, MASK) ||
        present(a, K_SCALE)) {
#pragma unroll 1
        for (int n = 0; n < PARTS; n++) {
            float v[4];
#pragma unroll
            for (int e = 0; e < 4; e++) {
                v[e] = s[0][0][e];
#pragma unroll
                for (int i = 1; i < PARTS; i++) /* registers have no addresses */
                    v[e] = i == n ? s[i / WIDTH][i % WIDTH][e] : v[e];
            }
#pragma unroll 1
            for (int e = 0; e < 4; e++) {
                const int key = own_key + n % WIDTH * 8 + e % 2;
                const seen_row &x = job().rows[own_row + n / WIDTH * 16 + e / 2 * 8];
                float score = e < 2 ? e < 1 ? v[0] : v[1] : e < 3 ? v[2] : v[3];
                if (present(a, K_SCALE))
                    score *= shared_float(scales + key * 4);
                score = seen(a, u, x.at, block * KEYS + key, score, x.slope);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    v[i] = i == e ? score : v[i];
            }
#pragma unroll
            for (int i = 0; i < PARTS; i++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[i / WIDTH][i % WIDTH][e] = i == n ? v[e] : s[i / WIDTH][i % WIDTH][e];
        }
    } else if (!whole) {
#pragma unroll
        for (int t = 0; t < S::TILES; t++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const row &x = job().rows[own_row + t * 16 + h * 8].at;
                const int low = (int)max_of(-1, min_of(KEYS, x.low - block * KEYS)),
                          high = (int)max_of(-1, min_of(KEYS, x.high - block * KEYS));
#pragma unroll
                for (int n = 0; n < 2 * WIDTH; n++) {
                    const int key = own_key + n / 2 * 8 + n % 2;
                    if (key < low || key >= high)
                        s[t][n / 2][2 * h + n % 2] = -TN_INFINITY;
                }
            }
    }
}

/* Between warps that share the rows: own scores out, all of them in. */
template <class S>
TN_DEVICE void put_scores(const pass<S> &p, const float (&s)[S::TILES][S::OWN_KEYS / 8][4]) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int n = 0; n < S::OWN_KEYS / 4; n++) {
        const int at = (lane / 4 + n % 2 * 8) * SCORES_PITCH + warp * S::OWN_KEYS + n / 2 * 8 +
                       lane % 4 * 2;
        asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(p.scores + at * 4),
                     "f"(s[0][n / 2][n % 2 * 2]), "f"(s[0][n / 2][n % 2 * 2 + 1])
                     : "memory");
    }
}
template <class S>
TN_DEVICE void get_scores(const pass<S> &p, float (&s)[KEYS / 8][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < KEYS / 4; n++) {
        const int at = (lane / 4 + n % 2 * 8) * SCORES_PITCH + n / 2 * 8 + lane % 4 * 2;
        asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];"
                     : "=f"(s[n / 2][n % 2 * 2]), "=f"(s[n / 2][n % 2 * 2 + 1])
                     : "r"(p.scores + at * 4)
                     : "memory");
    }
}

/* ---- weights */

/* e^x for x <= 0, at most 2^-22 off (PTX ISA, ex2) beyond what the product with log2 e is; 0 below
 * 2^-126, NaN kept. */
TN_DEVICE float exp_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * LOG2_E));
    return y;
}

/* Scores of 64 keys to weights, as fragments, with the block's maxima and sums of each row. */
template <class S>
TN_DEVICE void weights_of(const tn_cu_attention &a, const float (&s)[KEYS / 8][4], uint32_t scales,
                          part<float> (&own)[2], uint32_t (&w)[KEYS / 16][4]) {
    const bool scaled = present(a, V_SCALE);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = -TN_INFINITY, sum = 0;
#pragma unroll
        for (int n = 0; n < KEYS / 4; n++)
            most = fmaxf(most, s[n / 2][2 * h + n % 2]);
        most = fmaxf(most, __shfl_xor_sync(ALL, most, 1));
        most = fmaxf(most, __shfl_xor_sync(ALL, most, 2));
        const float shift = most == -TN_INFINITY ? 0.0f : most;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            float weight[2];
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const float score = s[n][2 * h + e];
                weight[e] = score == -TN_INFINITY ? -0.0f : exp_fast(score - shift);
                sum += weight[e];
                if (scaled && !(score == -TN_INFINITY))
                    weight[e] *= shared_float(scales + (n * 8 + threadIdx.x % 4 * 2 + e) * 4);
            }
            uint32_t packed = S::M::pack(weight[0], weight[1]);
            if (scaled) { /* -0 for the masked alone: a negative scale makes others of it */
                const float *const score = &s[n][2 * h];
                packed &= (packed & 0x7fff) || score[0] == -TN_INFINITY ? ALL : 0xffff0000;
                packed &= (packed & 0x7fff0000) || score[1] == -TN_INFINITY ? ALL : 0xffff;
            }
            w[n / 2][n % 2 * 2 + h] = packed;
        }
        sum += __shfl_xor_sync(ALL, sum, 1);
        sum += __shfl_xor_sync(ALL, sum, 2);
        own[h].maximum = most;
        own[h].sum = sum;
    }
}

/* ---- sums */

/* Fragments of 16 keys and 16 columns of values. */
template <class S>
TN_DEVICE void load_values(const pass<S> &p, uint32_t values, int k, int column, uint32_t *f) {
    const int lane = threadIdx.x % 32;
    load4_turned(f, values + (k * 16 + lane % 16) * p.v_pitch + column * 2 + lane / 16 * 16);
}

/* All ones for a half whose weight is not that of a masked key. */
TN_DEVICE uint32_t taking_part(uint32_t w) {
    return ((w & 0xffff) == 0x8000 ? 0 : 0xffff) | ((w >> 16) == 0x8000 ? 0 : 0xffff0000);
}

/* A chunk's sums again, row by row, each with zeros for the values that are masked for it. */
template <class S>
TN_DEVICE void without_masked(const pass<S> &p, uint32_t values, int column,
                              const uint32_t (&w)[S::TILES][KEYS / 16][4],
                              float (&sums)[S::TILES][8]) {
    const int lane = threadIdx.x % 32;
#pragma unroll 1
    for (int r = 0; r < S::TILES * 16; r++) {
        float again[8] = {};
        const int from = r % 8 * 4 + lane % 4;
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            uint32_t f[4], own[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const uint32_t second = r < 16 ? 0 : ALL;
                own[i] = (w[0][k][i] & ~second) | (w[S::TILES - 1][k][i] & second);
            }
            load_values(p, values, k, column, f);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const uint32_t keep = taking_part(
                    __shfl_sync(ALL, r % 16 < 8 ? own[2 * i] : own[2 * i + 1], from));
                f[i] &= keep;
                f[i + 2] &= keep;
            }
            S::M::multiply(again, own, f);
            S::M::multiply(again + 4, own, f + 2);
        }
#pragma unroll
        for (int t = 0; t < S::TILES; t++)
#pragma unroll
            for (int e = 0; e < 8; e++)
                if (lane / 4 == r % 8 && t == r / 16 && e / 2 % 2 == r / 8 % 2)
                    sums[t][e] = again[e];
    }
}

TN_DEVICE bool finite(float v) {
    return v - v == 0;
}

/* First column of a warp's chunk c. */
template <class S> TN_DEVICE int column_of(int c) {
    return (S::FLAT ? (int)(threadIdx.x / 32) + c * WARPS : c) * 16;
}

/* The block's sums of chunk c, from zero along the keys. */
template <class S>
TN_DEVICE void chunk_sums(const pass<S> &p, uint32_t values, int column,
                          const uint32_t (&w)[S::TILES][KEYS / 16][4], float (&sums)[S::TILES][8]) {
#pragma unroll
    for (int n = 0; n < S::TILES * 8; n++)
        sums[n / 8][n % 8] = 0;
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        uint32_t f[4];
        load_values(p, values, k, column, f);
#pragma unroll
        for (int t = 0; t < S::TILES; t++) {
            S::M::multiply(sums[t], w[t][k], f);
            S::M::multiply(sums[t] + 4, w[t][k], f + 2);
        }
    }
}

/* ---- results */

/* Everything of a row but its sums, for the two rows that a thread has of each 16. */
template <class S> struct totals { part<float> of[S::TILES][2]; };

/* Row of the unit of a thread's half h of tile t. */
template <class S> TN_DEVICE int row_at(int t, int h) {
    return (S::FLAT ? 0 : threadIdx.x / 32 * S::TILES * 16) + t * 16 + h * 8 +
           threadIdx.x % 32 / 4;
}

/* Split: a block's part to the workspace. */
template <class S>
TN_DEVICE void put_part(const tn_cu_attention &a, const unit &u, float *slot, int column,
                        const float *sums) {
#pragma unroll
    for (int n = 0; n < 4; n++) {
        const int r = row_at<S>(0, n % 2), e = column + n / 2 * 8 + threadIdx.x % 4 * 2;
        if (r < u.rows && e < a.dv)
            *(float2 *)&slot[r * TN_CU_SLOT(a.dv) + e] = make_float2(
                sums[n / 2 * 4 + n % 2 * 2], e + 1 < a.dv ? sums[n / 2 * 4 + n % 2 * 2 + 1] : 0.0f);
    }
}
template <class S>
TN_DEVICE void put_totals(const tn_cu_attention &a, const unit &u, float *slot, int t,
                          const part<float> (&own)[2]) {
    if (threadIdx.x % 4 == 0 && (!S::FLAT || threadIdx.x < 32))
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int r = row_at<S>(t, h);
            if (r < u.rows)
                *(float2 *)&slot[(r + 1) * TN_CU_SLOT(a.dv) - 2] =
                    make_float2(own[h].maximum, own[h].sum);
        }
}

/* Rows [first, first + count) of the unit from shared memory, by a warp. */
template <class S>
TN_DEVICE void store_rows(const tn_cu_attention &a, const unit &u, const pass<S> &p, uint32_t from,
                          int first, int count) {
    const int lane = threadIdx.x % 32, pitch = TN_CU_MMA_RESULT(a.dv);
    if (a.wide[O]) {
        for (int r = lane / 8; r < count && first + r < u.rows; r += 4) {
            const row &x = job().rows[first + r].at;
            char *to = place(a, O, u.q_batch, x.head, u.q_start + x.query);
            for (int c = lane % 8; c * 8 < a.dv; c += 8) {
                const uint32_t at = from + r * pitch + c * 32;
                /* lanes 4 and up begin with the second half: no bank twice */
                const int turn = lane / 4 % 2;
                uint32_t half[2][2];
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    float v[4];
                    asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];"
                                 : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3])
                                 : "r"(at + (n ^ turn) * 16)
                                 : "memory");
                    half[n][0] = S::M::pack(v[0], v[1]);
                    half[n][1] = S::M::pack(v[2], v[3]);
                }
                const uint4 word = turn
                                       ? make_uint4(half[1][0], half[1][1], half[0][0], half[0][1])
                                       : make_uint4(half[0][0], half[0][1], half[1][0], half[1][1]);
                *(uint4 *)(to + c * 16) = word;
            }
        }
        return;
    }
    for (int r = 0; r < count && first + r < u.rows; r++) {
        const row &x = job().rows[first + r].at;
        char *to = place(a, O, u.q_batch, x.head, u.q_start + x.query);
        for (int e = lane; e < a.dv; e += 32)
            put<float>(to + e * a.stride[O][3], a.type[O], shared_float(from + r * pitch + e * 4));
    }
}

/* Sums and totals to o and lse. Nobody reads tiles any more: results pass through their place. */
template <class S>
TN_DEVICE void finish_unit(const tn_cu_attention &a, const unit &u, const pass<S> &p,
                           const float (&o)[S::TILES][S::CHUNKS][8], totals<S> &total) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, pitch = TN_CU_MMA_RESULT(a.dv);
    const uint32_t own = p.ring + (S::FLAT ? 0 : warp * 16 * pitch);
#pragma unroll
    for (int t = 0; t < S::TILES; t++) {
        float factor[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const row &x = job().rows[row_at<S>(t, h)].at;
            factor[h] = finish_row(a, x, total.of[t][h]);
            if (present(a, LSE) && lane % 4 == 0 && row_at<S>(t, h) < u.rows &&
                (!S::FLAT || warp == 0))
                put_lse(place(a, LSE, u.q_batch, x.head, u.q_start + x.query), a.type[LSE],
                        total.of[t][h].maximum, total.of[t][h].sum);
        }
#pragma unroll
        for (int c = 0; c < S::CHUNKS; c++)
            if (column_of<S>(c) < a.dv)
#pragma unroll
                for (int n = 0; n < 4; n++)
                    asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(
                                     own + (lane / 4 + n % 2 * 8) * pitch +
                                     (column_of<S>(c) + n / 2 * 8 + lane % 4 * 2) * 4),
                                 "f"(o[t][c][n / 2 * 4 + n % 2 * 2] * factor[n % 2]),
                                 "f"(o[t][c][n / 2 * 4 + n % 2 * 2 + 1] * factor[n % 2])
                                 : "memory");
        if (S::FLAT) {
            __syncthreads();
            store_rows<S>(a, u, p, own + warp * 4 * pitch, warp * 4, 4);
        } else {
            __syncwarp();
            store_rows<S>(a, u, p, own, (warp * S::TILES + t) * 16, 16);
            __syncwarp();
        }
    }
}

/* ---- a unit */

TN_DEVICE void add_sum(float &o, float sum, float more) {
    o = fmaf(sum, more, o);
}

/* All of a unit's blocks of keys; whether something is not finite. Leaves all in registers, or
 * split in the workspace. */
template <class S>
TN_DEVICE bool through_keys(const tn_cu_attention &a, const pass<S> &p,
                            float (&o)[S::TILES][S::CHUNKS][8], totals<S> &total) {
    const unit &u = job().u;
    const bool split = S::FLAT && a.blocks > 0;
    bool bad = false;
#pragma unroll
    for (int n = 0; n < S::TILES * S::CHUNKS * 8; n++)
        o[n / 8 / S::CHUNKS][n / 8 % S::CHUNKS][n % 8] = 0;
#pragma unroll
    for (int n = 0; n < S::TILES * 2; n++)
        total.of[n / 2][n % 2] = {-TN_INFINITY, 0.0f};
    stage_queries(a, u, p);
    uint32_t w[S::TILES][KEYS / 16][4];
    part<float> own[S::TILES][2];
    const int ahead = 2 * a.stages - 1; /* tiles that are on their way */
#pragma unroll 1
    for (int tile = -ahead; tile < 2 * (int)job().count; tile++) {
        const int64_t block = job().first + (tile >> 1);
        if (tile >= 0) {
            /* it is there for all, and nobody reads the one before it any more */
            if (a.stages == 1)
                await_copies<0>();
            else
                await_copies<2>();
            __syncthreads();
        }
        issue(a, u, p, tile + ahead);
        if (tile < 0)
            continue;
        if (tile % 2 == 0) {
            const uint32_t keys = p.tile(tile), scales = keys + KEYS * p.k_pitch;
            const bool whole = block * KEYS >= job().whole && block * KEYS + KEYS <= job().whole_to;
            float s[S::TILES][S::OWN_KEYS / 8][4];
            products<S>(a, p, keys, s);
            scores_of<S>(a, u, p, block, whole, scales, s);
            if constexpr (S::FLAT) {
                put_scores<S>(p, s);
            } else {
#pragma unroll
                for (int t = 0; t < S::TILES; t++)
                    weights_of<S>(a, s[t], scales + KEYS * 4, own[t], w[t]);
            }
            continue;
        }
        const uint32_t values = p.tile(tile);
        if constexpr (S::FLAT) {
            float all[KEYS / 8][4];
            get_scores<S>(p, all);
            weights_of<S>(a, all, values + KEYS * p.v_pitch, own[0], w[0]);
        }
        float old[S::TILES][2], more[S::TILES][2];
        bool moves = false;
        float *slot = job().slots + block * (S::ROWS * TN_CU_SLOT(a.dv));
#pragma unroll
        for (int t = 0; t < S::TILES; t++) {
            if (split)
                put_totals<S>(a, u, slot, t, own[t]);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                factors<float> f = {1.0f, 0.0f};
                if (!empty_part(own[t][h]))
                    f = join(total.of[t][h], own[t][h]);
                old[t][h] = f.old;
                more[t][h] = f.more;
                moves = moves || !(f.old == 1);
            }
        }
        /* Mostly no maximum grows; then this would multiply with ones. */
        if (!split && __any_sync(ALL, moves))
#pragma unroll
            for (int n = 0; n < S::TILES * S::CHUNKS * 8; n++)
                o[n / 8 / S::CHUNKS][n / 8 % S::CHUNKS][n % 8] *= old[n / 8 / S::CHUNKS][n / 2 % 2];
        if (split || p.careful) {
#pragma unroll 1
            for (int c = 0; c < S::CHUNKS && column_of<S>(c) < a.dv; c++) {
                float sums[S::TILES][8];
                chunk_sums<S>(p, values, column_of<S>(c), w, sums);
                if (p.careful)
                    without_masked<S>(p, values, column_of<S>(c), w, sums);
                if (split) {
                    put_part<S>(a, u, slot, column_of<S>(c), sums[0]);
#pragma unroll
                    for (int n = 0; n < 8; n++)
                        bad = bad || !finite(sums[0][n]);
                    continue;
                }
#pragma unroll
                for (int n = 0; n < S::TILES * S::CHUNKS * 8; n++)
                    if (n / 8 % S::CHUNKS == c)
                        add_sum(o[n / 8 / S::CHUNKS][n / 8 % S::CHUNKS][n % 8],
                                sums[n / 8 / S::CHUNKS][n % 8], more[n / 8 / S::CHUNKS][n / 2 % 2]);
            }
            continue;
        }
#pragma unroll
        for (int c = 0; c < S::CHUNKS; c++)
            if (column_of<S>(c) < a.dv) {
                float sums[S::TILES][8];
                chunk_sums<S>(p, values, column_of<S>(c), w, sums);
#pragma unroll
                for (int n = 0; n < S::TILES * 8; n++)
                    add_sum(o[n / 8][c][n % 8], sums[n / 8][n % 8], more[n / 8][n / 2 % 2]);
            }
    }
    await_copies<0>();
#pragma unroll
    for (int n = 0; n < S::TILES * S::CHUNKS * 8; n++)
        bad = bad || !finite(o[n / 8 / S::CHUNKS][n / 8 % S::CHUNKS][n % 8]);
    return bad;
}

template <class S> TN_DEVICE void attention_mma(const tn_cu_attention &a) {
    const int64_t runs = S::FLAT && a.blocks > 0 ? ceil_div(a.blocks, a.run) : 1;
    const int64_t count = a.units * runs;
    pass<S> p = pass_of<S>(a);
    for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
        const int64_t number = count - 1 - index; /* under a causal mask the last have most keys */
        const unit u = unit_of(a, number / runs, S::ROWS);
        if (u.rows == 0)
            continue;
        /* limits grow from row to row */
        const row top = row_of(a, u, 0), bottom = row_of(a, u, u.rows - 1);
        int64_t first = top.low / KEYS, end = ceil_div(bottom.high, KEYS);
        if (S::FLAT && a.blocks > 0) {
            first = max_of(first, number % runs * a.run);
            end = min_of(end, number % runs * a.run + a.run);
            if (first >= end)
                continue;
        }
        if (threadIdx.x < S::ROWS) {
            seen_row &x = job().rows[threadIdx.x];
            x.at = row_of(a, u, min((int)threadIdx.x, u.rows - 1));
            x.slope = slope_of<float>(a, u, x.at);
        }
        if (threadIdx.x == 0) {
            job().u = u;
            job().first = first;
            job().count = max_of(0, end - first);
            job().whole = bottom.low;
            job().whole_to = top.high;
            job().slots =
                (float *)a.slots + number / runs * a.blocks * (S::ROWS * TN_CU_SLOT(a.dv));
        }
        __syncthreads();
        float o[S::TILES][S::CHUNKS][8];
        totals<S> total;
        p.careful = false;
        while (__syncthreads_or(through_keys<S>(a, p, o, total) && !p.careful))
            p.careful = true;
        if (!S::FLAT || a.blocks == 0)
            finish_unit<S>(a, job().u, p, o, total);
        __syncthreads();
    }
}

#define KERNELS(type, M)                                                                           \
    TN_KERNEL __launch_bounds__(THREADS, 3)                                                        \
        attention_mma_##type##_64(const __grid_constant__ tn_cu_attention a) {                     \
        attention_mma<shape<M, 1, 64, false>>(a);                                                  \
    }                                                                                              \
    TN_KERNEL __launch_bounds__(THREADS, 2)                                                        \
        attention_mma_##type##_128(const __grid_constant__ tn_cu_attention a) {                    \
        attention_mma<shape<M, 1, 128, false>>(a);                                                 \
    }                                                                                              \
    TN_KERNEL __launch_bounds__(THREADS, 2)                                                        \
        attention_mma_##type##_256(const __grid_constant__ tn_cu_attention a) {                    \
        attention_mma<shape<M, 1, 256, false>>(a);                                                 \
    }                                                                                              \
    TN_KERNEL __launch_bounds__(THREADS, 2)                                                        \
        attention_mma_##type##_flat(const __grid_constant__ tn_cu_attention a) {                   \
        attention_mma<shape<M, 1, 512, true>>(a);                                                  \
    }

KERNELS(f16, of_f16)
KERNELS(bf16, of_bf16)
