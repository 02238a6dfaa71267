/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention.cl: attention of up to ROWS queries of one kv head at a time over blocks of keys: scores
 * and weights with the queries side by side in the lanes of TN_NV vectors, sums of values row by row
 * with the columns in the lanes. No local memory, no barrier.
 *
 * Follows number.cl and math.cl. struct attention is filled by src/opencl/cl_attention.c; strides count
 * bytes. A row is one query of one of the heads that share a kv head: row r is query r / group of
 * head kv_head * group + r mod group. Scores broadcast elements of k to the queries, sums the weights
 * to vectors of v, so neither is packed where it is of the type of the products (TN_K_PLACED) and
 * whole vectors wide (TN_V_PLACED).
 * Order of sums: docs/NUMERICS.md, 5.1. (Online softmax: Milakov and Gimelshein, 2018; Dao et al.,
 * 2022, algorithm 1.)
 *
 * TN_D, TN_DV: sizes of the arrays, at least d and dv, TN_DV whole multiples of COLUMNS. TN_MR: keys
 * of a micro-tile of scores; TN_VR, TN_VC: rows and vectors of columns of one of sums. TN_TYPE_K,
 * TN_TYPE_V: types, 0: any.
 * TN_SPLIT: which kernels. TN_GROUP: items of a work-group, which have nothing to do with each other.
 */
#define MR TN_MR
#define NV TN_NV
#define ROWS (NV * TN_WIDTH)
#define COLUMNS (TN_VC * TN_WIDTH)
#define BLOCK 256
#define LANES_OF_SUM 16
#define NOTHING (-(E)INFINITY)
#define EACH_KEY _Pragma("unroll") for (int i = 0; i < MR; i++)
#define EACH_VECTOR _Pragma("unroll") for (int j = 0; j < NV; j++)

enum {
    Q, K, VALUES, O, BIAS, MASK, ALIBI, SINKS, KEY_LENGTHS, QUERY_OFFSETS, CU_Q, CU_K, BLOCK_TABLE,
    K_SCALE, V_SCALE, LSE, ROLES
};

typedef struct attention {
    long batch, heads, kv_heads, queries, keys, d, dv;
    long block_size; /* > 0: paged */
    long left, right; /* LONG_MAX: no limit */
    long slots;       /* split: where the blocks' results begin in the workspace */
    long blocks;      /* split: most blocks of keys of a sequence */
    double_bits scale, softcap;
    long start[ROLES], stride[ROLES][4];
    int type[ROLES]; /* 0: absent */
    int align_bottom, tiles; /* tiles: most tiles of rows of one kv head */
} attention;

#define ATTENTION_MEMORIES                                                                         \
    source q, source k, source v, target o, source bias, source mask, source alibi, source sinks,  \
        source key_lengths, source query_offsets, source cu_q, source cu_k, source block_table,    \
        source k_scale, source v_scale, target lse, target work

typedef struct memories {
    source q, k, v, bias, mask, alibi, sinks, key_lengths, query_offsets, cu_q, cu_k, block_table,
        k_scale, v_scale;
    target o, lse, work;
} memories;
#define MEMORIES                                                                                   \
    {                                                                                              \
        q, k, v, bias, mask, alibi, sinks, key_lengths, query_offsets, cu_q, cu_k, block_table,    \
            k_scale, v_scale, o, lse, work                                                         \
    }

#define present(a, role) ((a)->type[role] != 0)

/* The rows at hand and what is known of their results. */
typedef struct unit {
    long b, kv_head, group;
    long q_batch, q_start, k_batch, k_start, keys, offset;
    long first_row;
    int rows;
    bool careful; /* weights of masked keys are left out instead of multiplied */
    long low, high; /* keys that some row sees */
    long inner_low, inner_high; /* keys that every row sees */
    long row_low[ROWS], row_high[ROWS];
    E position[ROWS]; /* less the sequence's offset */
    E slope[ROWS];
    EV max[NV], sum[NV];
} unit;

long stride_of(const attention *a, int role, long i0, long i1, long i2) {
    return a->start[role] + i0 * a->stride[role][0] + i1 * a->stride[role][1] +
           i2 * a->stride[role][2];
}

long index_at(const attention *a, source memory, int role, long i) {
    return get_index(memory + a->start[role] + i * a->stride[role][0], a->type[role]);
}

long head_of(const unit *u, int r) {
    return u->kv_head * u->group + (u->first_row + r) % u->group;
}
long query_of(const unit *u, int r) {
    return (u->first_row + r) / u->group;
}

/* Sequence b, its raggedness resolved; queries is their number. */
void sequence_of(const attention *a, const memories *m, unit *u, long b, long *queries) {
    u->b = u->q_batch = u->k_batch = b;
    u->q_start = u->k_start = u->offset = 0;
    u->keys = a->keys;
    *queries = a->queries;
    if (present(a, CU_Q)) {
        u->q_batch = 0;
        u->q_start = index_at(a, m->cu_q, CU_Q, b);
        *queries = index_at(a, m->cu_q, CU_Q, b + 1) - u->q_start;
    }
    if (present(a, CU_K)) {
        u->k_batch = 0;
        u->k_start = index_at(a, m->cu_k, CU_K, b);
        u->keys = index_at(a, m->cu_k, CU_K, b + 1) - u->k_start;
    } else if (present(a, KEY_LENGTHS)) {
        u->keys = index_at(a, m->key_lengths, KEY_LENGTHS, b);
    }
    if (present(a, QUERY_OFFSETS))
        u->offset = index_at(a, m->query_offsets, QUERY_OFFSETS, b);
    else if (a->align_bottom)
        u->offset = u->keys - *queries;
}

/* Tile `tile` of rows of kv head `kv_head` of sequence b, or, ragged, of all sequences together;
 * false: there is none. */
bool unit_of(const attention *a, const memories *m, unit *u, long tile, long kv_head, long b) {
    long queries = 0;
    u->kv_head = kv_head;
    u->group = a->heads / a->kv_heads;
    if (present(a, CU_Q)) {
        for (b = 0; b < a->batch; b++) {
            const long n = (index_at(a, m->cu_q, CU_Q, b + 1) - index_at(a, m->cu_q, CU_Q, b)) *
                           u->group;
            const long tiles = (n + ROWS - 1) / ROWS;
            if (tile < tiles)
                break;
            tile -= tiles;
        }
        if (b == a->batch)
            return false;
    }
    sequence_of(a, m, u, b, &queries);
    u->first_row = tile * ROWS;
    u->rows = (int)min((long)ROWS, queries * u->group - u->first_row);
    u->careful = false;
    u->low = u->inner_high = LONG_MAX;
    u->high = u->inner_low = 0;
    for (int r = 0; r < ROWS; r++) {
        const long query = r < u->rows ? query_of(u, r) : 0, p = u->offset + query;
        long low = 0, high = u->keys;
        if (a->left != LONG_MAX && a->left < p)
            low = min(p - a->left, u->keys);
        if (a->right != LONG_MAX && a->right < u->keys - 1 - p)
            high = max(0L, p + a->right + 1);
        u->slope[r] = 0;
        if (r < u->rows) {
            u->low = min(u->low, low);
            u->high = max(u->high, high);
            u->inner_low = max(u->inner_low, low);
            u->inner_high = min(u->inner_high, high);
            if (present(a, ALIBI))
                u->slope[r] = get(m->alibi + stride_of(a, ALIBI, u->b, head_of(u, r), 0),
                                  a->type[ALIBI]);
        } else {
            high = low = 0;
        }
        u->row_low[r] = low;
        u->row_high[r] = high;
        u->position[r] = (E)query;
    }
    if (u->rows < ROWS)
        u->inner_high = 0;
    if (u->low >= u->high)
        u->high = 0;
    return u->rows > 0;
}

/* The scaled queries, element by element, rows side by side. */
void load_queries(const attention *a, const memories *m, const unit *u, S *to) {
    const E scale = TO_NUMBER(a->scale);
    const long step = a->stride[Q][3];
    for (int r = 0; r < ROWS; r++) {
        source at = m->q;
        E t[TN_WIDTH];
        if (r < u->rows)
            at += stride_of(a, Q, u->q_batch, head_of(u, r), u->q_start + query_of(u, r));
        for (int e = 0; e < (int)a->d; e += TN_WIDTH) {
            const int count = min(TN_WIDTH, (int)a->d - e);
            EV x = V(0);
            if (r < u->rows)
                x = V(scale) * get_some(at + e * step, a->type[Q], step, count);
            E_STORE(x, t);
#pragma unroll
            for (int l = 0; l < TN_WIDTH; l++)
                to[(e + l) * ROWS + r] = t[l];
        }
    }
}

/* Where key j lies in k, v and their scales. */
void key_place(const attention *a, const memories *m, const unit *u, long j, long *outer, long *row) {
    if (a->block_size == 0) {
        *outer = u->k_batch;
        *row = u->k_start + j;
        return;
    }
    *outer = get_index(m->block_table + a->start[BLOCK_TABLE] + u->b * a->stride[BLOCK_TABLE][0] +
                           j / a->block_size * a->stride[BLOCK_TABLE][1],
                       a->type[BLOCK_TABLE]);
    *row = j % a->block_size;
}

/* Where keys [from, to) of the block that begins with key `first` lie in k or v. */
void key_lines(const attention *a, const unit *u, source memory, int role, long first, int from,
               int to, const long *outer, const long *row, source *line) {
    if (a->block_size == 0) {
        source at = memory + stride_of(a, role, u->k_batch, u->kv_head, u->k_start + first + from);
        for (int key = from; key < to; key++, at += a->stride[role][2])
            line[key] = at;
        return;
    }
    for (int key = from; key < to; key++)
        line[key] = memory + stride_of(a, role, outer[key], u->kv_head, row[key]);
}

#if TN_K_PLACED
typedef __global const S *key_line;
#else
typedef const S *key_line;
#endif

/* Scores of MR keys: chains over d. */
void key_scores(const key_line *line, long d, const S *queries, S *to, int count) {
    SV acc[MR][NV];
    key_line at[MR];
    EACH_KEY {
        at[i] = line[i];
        EACH_VECTOR acc[i][j] = (SV)(0);
    }
#pragma unroll 4
    for (int e = 0; e < (int)d; e++, queries += ROWS) {
        SV qv[NV];
        EACH_VECTOR qv[j] = S_LOAD(queries + j * TN_WIDTH);
        EACH_KEY {
            const SV kv = (SV)(at[i][e]);
            EACH_VECTOR acc[i][j] = fma(kv, qv[j], acc[i][j]);
        }
    }
    EACH_KEY if (i < count) {
        EACH_VECTOR S_STORE(acc[i][j], to + i * ROWS + j * TN_WIDTH);
    }
}

/* Scores of keys [from, to) of a block, which lie at `lines`. */
void block_scores(const attention *a, const S *queries, int from, int to, const source *lines, S *s) {
#if !TN_K_PLACED
    S keys[MR * TN_D];
#endif
    const int type = TN_TYPE_K ? TN_TYPE_K : a->type[K];
    for (int key = from; key < to; key += MR) {
        key_line line[MR];
        for (int i = 0; i < MR; i++) {
            source at = lines[min(key + i, to - 1)];
#if TN_K_PLACED
            line[i] = (__global const S *)at;
#else
            line[i] = keys + i * TN_D;
            for (long e = 0; e < a->d; e++)
                keys[i * TN_D + e] = (S)get(at + e * a->stride[K][3], type);
#endif
        }
        key_scores(line, a->d, queries, s + key * ROWS, to - key);
    }
}

/* What one row's bias and mask make of its score of a key. */
E addends_of(const attention *a, const memories *m, const unit *u, int r, long key, E score) {
    if (key < u->row_low[r] || key >= u->row_high[r])
        return NOTHING;
    const long head = head_of(u, r), line = u->q_start + query_of(u, r);
    if (present(a, BIAS)) {
        const E b = get(m->bias + stride_of(a, BIAS, u->q_batch, head, line) + key * a->stride[BIAS][3],
                        a->type[BIAS]);
        score = b == NOTHING ? NOTHING : score + b;
    }
    if (present(a, MASK) &&
        m->mask[stride_of(a, MASK, u->q_batch, head, line) + key * a->stride[MASK][3]] == 0)
        score = NOTHING;
    return score;
}

EV join_lanes(EV *t) {
    for (int w = LANES_OF_SUM / 2; w >= 1; w /= 2)
        for (int l = 0; l < w; l++)
            t[l * NV] += t[(l + w) * NV];
    return t[0];
}

/* Maxima of scores that are what they are. Four of each at a time: which is first does not matter. */
void plain_max(const S *s, int from, int to, EV *max_of) {
    EV best[4][NV];
    int key = from;
#pragma unroll
    for (int i = 0; i < 4; i++)
        EACH_VECTOR best[i][j] = V(NOTHING);
    for (; key + 4 <= to; key += 4)
#pragma unroll
        for (int i = 0; i < 4; i++)
            EACH_VECTOR best[i][j] =
                MAX_OF(S_LOAD(s + (key + i) * ROWS + j * TN_WIDTH), best[i][j]);
    for (; key < to; key++)
        EACH_VECTOR best[0][j] = MAX_OF(S_LOAD(s + key * ROWS + j * TN_WIDTH), best[0][j]);
    EACH_VECTOR max_of[j] =
        MAX_OF(MAX_OF(best[0][j], best[1][j]), MAX_OF(best[2][j], best[3][j]));
}

/* Scores to weights of keys [from, to); the block's maxima and sums. */
void block_weights(const attention *a, const memories *m, const unit *u, long first, int from, int to,
                   const long *outer, const long *row, S *s, uchar *dead, EV *max_of, EV *sum_of) {
    const E cap = TO_NUMBER(a->softcap);
    const bool addends = present(a, BIAS) || present(a, MASK);
    const bool plain = !addends && !present(a, K_SCALE) && !present(a, ALIBI) && !(cap > 0) &&
                       first + from >= u->inner_low && first + to <= u->inner_high;
    EV shift[NV], lanes[LANES_OF_SUM * NV];
    EACH_VECTOR max_of[j] = V(NOTHING);
    if (plain)
        plain_max(s, from, to, max_of);
    for (int key = from; key < to && !plain; key++) {
        S *at = s + key * ROWS;
        E factor = 1;
        if (present(a, K_SCALE))
            factor = get(m->k_scale + stride_of(a, K_SCALE, outer[key], u->kv_head, row[key]),
                         a->type[K_SCALE]);
        for (int j = 0; j < NV; j++) {
            EV x = S_LOAD(at + j * TN_WIDTH);
            if (present(a, K_SCALE))
                x *= V(factor);
            if (cap > 0)
                x = V(cap) * tanh_of(x / V(cap));
            if (present(a, ALIBI)) {
                /* From the start of a group of 16 keys: the distance is then rounded as the CPU
                 * backend does. */
                const int in_group = key & (LANES_OF_SUM - 1);
                E t[TN_WIDTH], slope[TN_WIDTH];
                for (int l = 0; l < TN_WIDTH; l++) {
                    const int r = j * TN_WIDTH + l;
                    const long p = u->offset + (r < u->rows ? query_of(u, r) : 0);
                    t[l] = fabs((E)(p - (first + key - in_group)) - (E)in_group);
                    slope[l] = -u->slope[r];
                }
                x = fma(E_LOAD(slope), E_LOAD(t), x);
            }
            if (addends || first + key < u->inner_low || first + key >= u->inner_high) {
                E t[TN_WIDTH];
                E_STORE(x, t);
                for (int l = 0; l < TN_WIDTH; l++)
                    t[l] = addends_of(a, m, u, j * TN_WIDTH + l, first + key, t[l]);
                x = E_LOAD(t);
            }
            max_of[j] = MAX_OF(x, max_of[j]); /* NaN is passed over: the sum will have it */
            S_STORE(x, at + j * TN_WIDTH);
        }
    }
    EACH_VECTOR shift[j] = SELECT(max_of[j], V(0), max_of[j] == V(NOTHING));
    for (int l = 0; l < LANES_OF_SUM * NV; l++)
        lanes[l] = V(0);
    const bool as_is = !present(a, V_SCALE) && !u->careful;
    for (int key = from; key < to && as_is; key++) {
        S *at = s + key * ROWS;
        EV *lane = lanes + (key & (LANES_OF_SUM - 1)) * NV;
        EACH_VECTOR {
            const EV w = exp_negative(S_LOAD(at + j * TN_WIDTH) - shift[j]);
            lane[j] += w;
            S_STORE(w, at + j * TN_WIDTH);
        }
    }
    for (int key = from; key < to && !as_is; key++) {
        S *at = s + key * ROWS;
        E factor = 1;
        if (present(a, V_SCALE))
            factor = get(m->v_scale + stride_of(a, V_SCALE, outer[key], u->kv_head, row[key]),
                         a->type[V_SCALE]);
        EACH_VECTOR {
            const EV x = S_LOAD(at + j * TN_WIDTH);
            EV w = exp_negative(x - shift[j]);
            lanes[(key & (LANES_OF_SUM - 1)) * NV + j] += w;
            if (present(a, V_SCALE))
                w *= V(factor);
            if (u->careful) {
                E t[TN_WIDTH];
                E_STORE(x, t);
                for (int l = 0; l < TN_WIDTH; l++)
                    dead[key * ROWS + j * TN_WIDTH + l] = t[l] == NOTHING;
            }
            S_STORE(w, at + j * TN_WIDTH);
        }
    }
    EACH_VECTOR sum_of[j] = join_lanes(lanes + j);
}

#if TN_V_PLACED
#define VALUES_AT(key) ((__global const S *)line[key] + column)
#else
#define VALUES_AT(key) (values + (key) * COLUMNS)
#endif

/*
 * value_sums: sums of keys [from, to) for rows of one group, COLUMNS of v from `column` on: chains
 * over the keys. The values lie at `line`, or converted at `values`; weights begin with those of the
 * group's first row. TN_VR rows, and as many as are left of ROWS.
 */
#define DEFINE_VALUE_SUMS(name, VR)                                                                \
    void name(const source *line, const S *values, int column, int from, int to, const S *weights, \
              S *sums) {                                                                           \
        SV acc[VR][TN_VC];                                                                         \
        _Pragma("unroll") for (int i = 0; i < VR; i++)                                             \
            _Pragma("unroll") for (int j = 0; j < TN_VC; j++)                                      \
                acc[i][j] = (SV)(0);                                                               \
        weights += from * ROWS;                                                                    \
        _Pragma("unroll 4") for (int key = from; key < to; key++, weights += ROWS) {               \
            SV x[TN_VC];                                                                           \
            _Pragma("unroll") for (int j = 0; j < TN_VC; j++)                                      \
                x[j] = S_LOAD(VALUES_AT(key) + j * TN_WIDTH);                                      \
            _Pragma("unroll") for (int i = 0; i < VR; i++) {                                       \
                const SV w = (SV)(weights[i]);                                                     \
                _Pragma("unroll") for (int j = 0; j < TN_VC; j++)                                  \
                    acc[i][j] = fma(x[j], w, acc[i][j]);                                           \
            }                                                                                      \
        }                                                                                          \
        _Pragma("unroll") for (int i = 0; i < VR; i++)                                             \
            _Pragma("unroll") for (int j = 0; j < TN_VC; j++)                                      \
                S_STORE(acc[i][j], sums + i * TN_DV + j * TN_WIDTH);                               \
    }
DEFINE_VALUE_SUMS(value_sums, TN_VR)
#if ROWS % TN_VR != 0
DEFINE_VALUE_SUMS(value_sums_rest, (ROWS % TN_VR))
#endif

/* The same for each row by itself, without the keys that are dead for it: what is not finite in
 * their values does not count. */
void careful_sums(const source *line, const S *values, int column, int from, int to,
                  const S *weights, const uchar *dead, int rows, S *sums) {
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < COLUMNS; c++) {
            S sum = 0;
            for (int key = from; key < to; key++)
                if (!dead[key * ROWS + r])
                    sum = fma(VALUES_AT(key)[c], weights[key * ROWS + r], sum);
            sums[r * TN_DV + c] = sum;
        }
}

/* Sums of keys [from, to) of a block for all rows and columns. */
void block_sums(const attention *a, const unit *u, const source *line, int from, int to,
                const S *weights, const uchar *dead, S *sums) {
#if TN_V_PLACED
    const S *values = 0;
#else
    S values[BLOCK * COLUMNS];
    const int type = TN_TYPE_V ? TN_TYPE_V : a->type[VALUES];
#endif
    for (int column = 0; column < a->dv; column += COLUMNS) {
#if !TN_V_PLACED
        const int count = min(COLUMNS, (int)a->dv - column);
        for (int key = from; key < to; key++) {
            source at = line[key] + column * a->stride[VALUES][3];
            for (int c = 0; c < COLUMNS; c++)
                values[key * COLUMNS + c] =
                    c < count ? (S)get(at + c * a->stride[VALUES][3], type) : (S)0;
        }
#endif
        if (u->careful) {
            careful_sums(line, values, column, from, to, weights, dead, u->rows, sums + column);
            continue;
        }
        for (int r = 0; r < u->rows; r += TN_VR) {
            S *at = sums + r * TN_DV + column;
#if ROWS % TN_VR != 0
            if (r + TN_VR > ROWS) {
                value_sums_rest(line, values, column, from, to, weights + r, at);
                continue;
            }
#endif
            value_sums(line, values, column, from, to, weights + r, at);
        }
    }
}
