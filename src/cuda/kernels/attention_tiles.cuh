/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_tiles.cuh: attention_mma.cu's way to shared memory: what a block works on, where things
 * lie, and copies of queries, and of keys and values tile by tile, by cp.async or converted element
 * by element.
 *
 * Rows in shared memory are 16 bytes longer than their numbers and an odd count of 16 bytes long:
 * no request of ldmatrix meets a bank twice.
 */
#ifndef TN_ATTENTION_TILES_CUH
#define TN_ATTENTION_TILES_CUH

#include "attention.cuh"
#include "tensor.cuh"

enum { THREADS = 128, WARPS = 4, KEYS = TN_CU_MMA_KEYS, SCORES_PITCH = TN_CU_MMA_SCORES };
#define ALL 0xffffffffu
#define LOG2_E 0x1.715476p+0f

extern __shared__ __align__(128) char dynamic[];

/* TILES of 16 rows of a warp (for two the registers do not suffice); values of up to COLUMNS. */
template <class M_, int TILES_, int COLUMNS, bool FLAT_> struct shape {
    typedef M_ M;
    enum {
        FLAT = FLAT_,
        TILES = TILES_,
        ROWS = FLAT ? 16 : WARPS * TILES * 16,          /* of a unit */
        OWN_KEYS = FLAT ? KEYS / WARPS : KEYS,          /* that a warp has scores of */
        CHUNKS = COLUMNS / 16 / (FLAT ? (int)WARPS : 1) /* of 16 columns, that a warp has sums of */
    };
};

/* A row, and what all of its scores need. */
struct seen_row {
    row at;
    float slope;
};

/* What a block works on, at the beginning of its shared memory, so that it takes no registers. */
struct work {
    unit u;
    int64_t first, count;    /* blocks of keys */
    int64_t whole, whole_to; /* keys that all rows see but for masks */
    float *slots;            /* split: of the unit's blocks of keys */
    seen_row rows[];
};

/* Where things lie in shared memory. */
template <class S> struct pass {
    uint32_t q, ring, scores;           /* addresses */
    uint32_t k_pitch, v_pitch, k_bytes; /* k_bytes, stage: of a tile with its scales */
    uint32_t stage, turn;               /* bytes of both; 1: two of them take turns */
    bool careful;

    /* Address of tile t: keys of block t / 2, then its values. */
    __device__ __forceinline__ uint32_t tile(int t) const {
        return ring + (t >> 1 & turn) * stage + (t & 1 ? k_bytes : 0);
    }
};

static_assert(sizeof(work) <= TN_CU_MMA_WORK(0) && sizeof(seen_row) == 48, "the host counts them");

TN_DEVICE work &job() {
    return *(work *)dynamic;
}

template <class S> TN_DEVICE pass<S> pass_of(const tn_cu_attention &a) {
    pass<S> p;
    p.k_pitch = (uint32_t)TN_CU_MMA_PITCH(a.d);
    p.v_pitch = (uint32_t)TN_CU_MMA_PITCH(a.dv);
    p.k_bytes = KEYS * (p.k_pitch + 8);
    p.stage = p.k_bytes + KEYS * (p.v_pitch + 4);
    p.turn = (uint32_t)a.stages - 1;
    p.q = shared_address(dynamic) + TN_CU_MMA_WORK(S::ROWS);
    p.scores = p.q + S::ROWS * p.k_pitch;
    p.ring = p.scores + (S::FLAT ? 16 * SCORES_PITCH * 4 : 0);
    return p;
}

/* ---- to shared memory */

/* LINES rows of `width` numbers, zeros up to a multiple of 16; place(n): where row n lies, NULL: a
 * row of zeros. 8 lanes to a row. */
template <class M, int LINES, class Place>
TN_DEVICE void stage_rows(const tn_cu_attention &a, int role, int wide, int width, uint32_t to,
                          uint32_t pitch, Place place_of) {
    const int chunks = (width + 15) / 16 * 2, own = threadIdx.x / 8;
    if (wide) {
        enum { AT_ONCE = 4 }; /* rows of a thread whose tables are read together */
#pragma unroll 1
        for (int line = own; line < LINES; line += 16 * AT_ONCE) {
            const char *from[AT_ONCE];
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++)
                from[i] = line + i * 16 < LINES ? place_of(line + i * 16) : NULL;
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++)
#pragma unroll 1
                for (int c = threadIdx.x % 8; c < chunks && line + i * 16 < LINES; c += 8) {
                    const int there = from[i] ? max(0, min(8, width - c * 8)) : 0;
                    copy16(to + (line + i * 16) * pitch + c * 16,
                           there > 0 ? from[i] + c * 16 : (const char *)a.at[role], there * 2);
                }
        }
        return;
    }
#pragma unroll 1
    for (int line = own; line < LINES; line += 16) {
        const char *from = place_of(line);
#pragma unroll 1
        for (int c = threadIdx.x % 8; c < chunks; c += 8) {
            const int there = from ? max(0, min(8, width - c * 8)) : 0;
            uint64_t words[2] = {};
#pragma unroll 1
            for (int e = 0; e < there; e++) {
                const uint64_t x =
                    (uint64_t)M::read(from + (c * 8 + e) * a.stride[role][3], a.type[role])
                    << (e % 4 * 16);
                words[0] |= e < 4 ? x : 0;
                words[1] |= e < 4 ? 0 : x;
            }
            asm volatile("st.shared.v2.b64 [%0], {%1,%2};" ::"r"(to + line * pitch + c * 16),
                         "l"(words[0]), "l"(words[1])
                         : "memory");
        }
    }
}

template <class S>
TN_DEVICE void stage_queries(const tn_cu_attention &a, const unit &u, const pass<S> &p) {
    stage_rows<typename S::M, S::ROWS>(a, Q, a.wide[Q], (int)a.d, p.q, p.k_pitch, [&](int r) {
        const row &x = job().rows[r].at;
        return r < u.rows ? place(a, Q, u.q_batch, x.head, u.q_start + x.query) : (char *)NULL;
    });
}

template <class Place>
TN_DEVICE void stage_scales(const tn_cu_attention &a, int role, uint32_t to, Place place_of) {
    if (present(a, role) && threadIdx.x < KEYS) {
        const char *at = place_of(role, threadIdx.x);
        const float scale = at ? get<float>(at, a.type[role]) : 0.0f;
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(to + threadIdx.x * 4), "f"(scale) : "memory");
    }
}

/* Tile t, if there is one, as a group of copies; there is a group in any case. */
template <class S>
TN_DEVICE void issue(const tn_cu_attention &a, const unit &u, const pass<S> &p, int t) {
    if (t < 2 * (int)job().count) {
        const int role = t & 1 ? VALUES : K;
        const int64_t first = (job().first + (t >> 1)) * KEYS;
        const uint32_t pitch = t & 1 ? p.v_pitch : p.k_pitch, to = p.tile(t);
        auto place_of = [&](int role, int n) {
            int64_t outer, line;
            if (first + n >= u.keys)
                return (char *)NULL;
            key_place(a, u, first + n, outer, line);
            return place(a, role, outer, u.kv_head, line);
        };
        stage_rows<typename S::M, KEYS>(a, role, a.wide[role], (int)(t & 1 ? a.dv : a.d), to, pitch,
                                        [&](int n) { return place_of(role, n); });
        /* scales lie behind their tile; without `flat` v's are needed before v is */
        const int v_scales = S::FLAT ? 1 : 0;
        if (!(t & 1))
            stage_scales(a, K_SCALE, to + KEYS * pitch, place_of);
        if ((t & 1) == v_scales)
            stage_scales(a, V_SCALE, to + KEYS * pitch + (t & 1 ? 0 : KEYS * 4), place_of);
    }
    commit_copies();
}

#endif
