/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention.cl: attention of up to ROWS queries of one kv head at a time over blocks of keys, the
 * queries side by side in the lanes of TN_NV vectors: scores, weights, sums, and how a block is
 * joined to what is known so far. No local memory, no barrier.
 *
 * Follows number.cl and math.cl. struct attention is filled by src/opencl/cl_attention.c; strides count
 * bytes. A row is one query of one of the heads that share a kv head: row r is query r / group of
 * head kv_head * group + r mod group. In both products an element of k or v is broadcast to the
 * queries, so neither is packed where it is of the type of the products (TN_K_PLACED, TN_V_PLACED).
 * Order of sums: docs/NUMERICS.md, 5.1. (Online softmax: Milakov and Gimelshein, 2018; Dao et al.,
 * 2022, algorithm 1.)
 *
 * TN_D, TN_DV: sizes of the arrays, at least d and dv. TN_TYPE_K, TN_TYPE_V: types, 0: any.
 * TN_GROUP: items of a work-group, which have nothing to do with each other.
 */
#define MR TN_MR
#define NV TN_NV
#define ROWS (NV * TN_WIDTH)
#define BLOCK 256
#define LANES_OF_SUM 16
/* Keys whose weights, and lines of whose values, stay in a first cache of 32 KiB while all columns pass. */
#define SOME_KEYS 128
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
    for (int r = 0; r < ROWS; r++) {
        source at = m->q;
        if (r < u->rows)
            at += stride_of(a, Q, u->q_batch, head_of(u, r), u->q_start + query_of(u, r));
        for (long e = 0; e < a->d; e++)
            to[e * ROWS + r] =
                r < u->rows ? (S)(scale * get(at + e * a->stride[Q][3], a->type[Q])) : (S)0;
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

#if TN_K_PLACED
typedef __global const S *key_line;
#else
typedef const S *key_line;
#endif
#if TN_V_PLACED
typedef __global const S *value_line;
#else
typedef const S *value_line;
#endif

/* Scores of MR keys: chains over d. */
void key_scores(const key_line *line, long d, const S *queries, S *to, int count) {
    SV acc[MR][NV];
    key_line at[MR];
    EACH_KEY {
        at[i] = line[i];
        EACH_VECTOR acc[i][j] = (SV)(0);
    }
    for (int e = 0; e < (int)d; e++) {
        SV qv[NV];
        EACH_VECTOR qv[j] = S_LOAD(queries + e * ROWS + j * TN_WIDTH);
        EACH_KEY {
            const SV kv = (SV)(at[i][e]);
            EACH_VECTOR acc[i][j] = fma(kv, qv[j], acc[i][j]);
        }
    }
    EACH_KEY if (i < count) {
        EACH_VECTOR S_STORE(acc[i][j], to + i * ROWS + j * TN_WIDTH);
    }
}

/* Scores of keys [from, to) of the block that begins with key `first`. */
void block_scores(const attention *a, const memories *m, const unit *u, const S *queries, long first,
                  int from, int to, const long *outer, const long *row, S *s) {
#if !TN_K_PLACED
    S keys[MR * TN_D];
#endif
    const int type = TN_TYPE_K ? TN_TYPE_K : a->type[K];
    for (int key = from; key < to; key += MR) {
        key_line line[MR];
        for (int i = 0; i < MR; i++) {
            const int n = min(key + i, to - 1);
            source at = m->k + stride_of(a, K, outer[n], u->kv_head, row[n]);
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

/* Adds keys [from, to) to the sums of MR columns of v, or begins them: chains over the keys.
 * columns[i]: the i-th one's place in a line. */
void value_sums(const value_line *line, const int *columns, int from, int to, bool begin,
                const S *weights, S *sums) {
    SV acc[MR][NV];
    int at[MR];
    EACH_KEY {
        at[i] = columns[i];
        EACH_VECTOR acc[i][j] = begin ? (SV)(0) : S_LOAD(sums + i * ROWS + j * TN_WIDTH);
    }
    for (int key = from; key < to; key++) {
        const value_line values = line[key];
        SV w[NV];
        EACH_VECTOR w[j] = S_LOAD(weights + key * ROWS + j * TN_WIDTH);
        EACH_KEY {
            const SV x = (SV)(values[at[i]]);
            EACH_VECTOR acc[i][j] = fma(x, w[j], acc[i][j]);
        }
    }
    EACH_KEY EACH_VECTOR S_STORE(acc[i][j], sums + i * ROWS + j * TN_WIDTH);
}

/* The same for each row by itself, without the keys that are dead for it: what is not finite in
 * their values does not count. */
void careful_sums(const value_line *line, const int *columns, int from, int to, bool begin,
                  const S *weights, const uchar *dead, S *sums) {
    for (int i = 0; i < MR; i++)
        for (int r = 0; r < ROWS; r++) {
            S sum = begin ? (S)0 : sums[i * ROWS + r];
            for (int key = from; key < to; key++)
                if (!dead[key * ROWS + r])
                    sum = fma(line[key][columns[i]], weights[key * ROWS + r], sum);
            sums[i * ROWS + r] = sum;
        }
}

/* How a block's part is joined to what is known: its factor, and that of the sums so far. Nothing
 * changes where the block is empty. */
typedef struct factors {
    EV old[NV], more[NV];
    IV empty[NV];
} factors;

void join_parts(EV *max_of, EV *sum_of, const EV *block_max, const EV *block_sum, factors *f) {
    for (int j = 0; j < NV; j++) {
        const EV am = max_of[j], bm = block_max[j];
        const IV grows = (IV)(bm > am);
        f->empty[j] = (IV)(bm == V(NOTHING)) & (IV)(block_sum[j] == V(0));
        /* NaN where both are infinite, as both weights would be */
        const EV other = exp_negative(SELECT(bm - am, am - bm, grows));
        f->old[j] = SELECT(SELECT(other, V(1), other == other), other, grows);
        f->more[j] = SELECT(other, V(1), grows);
        const EV sum = fma(sum_of[j], f->old[j], block_sum[j] * f->more[j]);
        sum_of[j] = SELECT(sum, sum_of[j], f->empty[j]);
        max_of[j] = SELECT(SELECT(am, bm, grows), am, f->empty[j]);
    }
}

/*
 * Block `block` of keys for the unit: joined into o and the unit's part or, with `apart`, left
 * alone in slot (columns, then maxima, then sums). Returns whether any row sees something of it.
 */
void unit_block(const attention *a, const memories *m, unit *u, const S *queries, long block, S *o,
                __global E *slot) {
    const long first = block * BLOCK;
    const int from = (int)max(0L, u->low - first), to = (int)min((long)BLOCK, u->high - first);
    S s[BLOCK * ROWS], sums[(TN_DV + MR) * ROWS];
    uchar dead[BLOCK * ROWS];
    long outer[BLOCK], row[BLOCK];
    value_line line[BLOCK];
    EV block_max[NV], block_sum[NV];
    factors f;
#if !TN_V_PLACED
    S values[BLOCK * MR];
    const int type = TN_TYPE_V ? TN_TYPE_V : a->type[VALUES];
#endif

    for (int key = from; key < to; key++) {
        key_place(a, m, u, first + key, &outer[key], &row[key]);
#if TN_V_PLACED
        line[key] = (__global const S *)(m->v + stride_of(a, VALUES, outer[key], u->kv_head, row[key]));
#else
        line[key] = values + key * MR;
#endif
    }
    block_scores(a, m, u, queries, first, from, to, outer, row, s);
    block_weights(a, m, u, first, from, to, outer, row, s, dead, block_max, block_sum);
    if (slot) {
        for (int j = 0; j < NV; j++) {
            E_STORE(block_max[j], slot + a->dv * ROWS + j * TN_WIDTH);
            E_STORE(block_sum[j], slot + (a->dv + 1) * ROWS + j * TN_WIDTH);
        }
    } else {
        join_parts(u->max, u->sum, block_max, block_sum, &f);
    }
    for (int some = from; some < to; some += SOME_KEYS) {
        const int end = min(some + SOME_KEYS, to);
        for (int column = 0; column < a->dv; column += MR) {
            const int count = min(MR, (int)a->dv - column);
            S *at = sums + column * ROWS;
            int columns[MR];
#if TN_V_PLACED
            for (int i = 0; i < MR; i++)
                columns[i] = column + min(i, count - 1);
#else
            for (int i = 0; i < MR; i++)
                columns[i] = i;
            for (int key = some; key < end; key++) {
                source from_ = m->v + stride_of(a, VALUES, outer[key], u->kv_head, row[key]) +
                               column * a->stride[VALUES][3];
                for (int i = 0; i < MR; i++)
                    values[key * MR + i] =
                        i < count ? (S)get(from_ + i * a->stride[VALUES][3], type) : (S)0;
            }
#endif
            if (u->careful)
                careful_sums(line, columns, some, end, some == from, s, dead, at);
            else
                value_sums(line, columns, some, end, some == from, s, at);
        }
    }
    for (int e = 0; e < a->dv; e++)
        EACH_VECTOR {
            const EV more = S_LOAD(sums + e * ROWS + j * TN_WIDTH);
            if (slot) {
                E_STORE(more, slot + e * ROWS + j * TN_WIDTH);
            } else {
                S *at = o + e * ROWS + j * TN_WIDTH;
                const EV old = S_LOAD(at);
                const EV joined = fma(old, f.old[j], more * f.more[j]);
                S_STORE(SELECT(joined, old, f.empty[j]), at);
            }
        }
}

void unit_clear(const attention *a, unit *u, S *o) {
    for (long e = 0; e < a->dv * ROWS; e++)
        o[e] = 0;
    EACH_VECTOR {
        u->max[j] = V(NOTHING);
        u->sum[j] = V(0);
    }
}

/* Divides by the sums, with the sinks; false if something is not finite. */
bool unit_divide(const attention *a, const memories *m, unit *u, S *o) {
    bool good = true;
    for (int j = 0; j < NV; j++) {
        E t[TN_WIDTH];
        EV factor = V(1), bad = V(0);
        if (present(a, SINKS)) {
            factors f;
            EV sink_max[NV], sink_sum[NV];
            E max_of[TN_WIDTH];
            for (int l = 0; l < TN_WIDTH; l++) {
                const int r = j * TN_WIDTH + l;
                max_of[l] = NOTHING;
                if (r < u->rows)
                    max_of[l] = get(m->sinks + stride_of(a, SINKS, 0, head_of(u, r), 0), a->type[SINKS]);
                t[l] = max_of[l] == NOTHING ? (E)0 : (E)1;
            }
            for (int i = 0; i < NV; i++) {
                sink_max[i] = i == j ? E_LOAD(max_of) : V(NOTHING);
                sink_sum[i] = i == j ? E_LOAD(t) : V(0);
            }
            join_parts(u->max, u->sum, sink_max, sink_sum, &f);
            factor = SELECT(f.old[j], V(1), f.empty[j]);
        }
        factor = SELECT(factor / u->sum[j], V(0), u->sum[j] == V(0));
        for (int e = 0; e < a->dv; e++) {
            S *at = o + e * ROWS + j * TN_WIDTH;
            const EV v = S_LOAD(at) * factor;
            bad = fma(v, V(0), bad); /* 0, or NaN once something is not finite */
            S_STORE(v, at);
        }
        E_STORE(bad, t);
        for (int l = 0; l < TN_WIDTH; l++)
            if (j * TN_WIDTH + l < u->rows && t[l] != t[l])
                good = false;
    }
    return good;
}

void unit_store(const attention *a, const memories *m, const unit *u, const S *o) {
    E max_of[ROWS], sum_of[ROWS];
    EACH_VECTOR {
        E_STORE(u->max[j], max_of + j * TN_WIDTH);
        E_STORE(u->sum[j], sum_of + j * TN_WIDTH);
    }
    for (int r = 0; r < u->rows; r++) {
        const long head = head_of(u, r), query = u->q_start + query_of(u, r);
        target at = m->o + stride_of(a, O, u->q_batch, head, query);
        for (long e = 0; e < a->dv; e++)
            put(at + e * a->stride[O][3], a->type[O], o[e * ROWS + r]);
        if (!present(a, LSE))
            continue;
        at = m->lse + stride_of(a, LSE, u->q_batch, head, query);
        if (sum_of[r] == 0) {
            put(at, a->type[LSE], NOTHING);
            continue;
        }
#if TN_FP64
        const double value = (double)max_of[r] + log((double)sum_of[r]);
        if (a->type[LSE] == F64)
            *(__global double *)at = value;
        else
            *(__global float *)at = (float)value;
#else
        put(at, a->type[LSE], max_of[r] + log(sum_of[r]));
#endif
    }
}

/* All blocks one after the other, into o, divided; false as unit_divide. */
bool unit_sweep(const attention *a, const memories *m, unit *u, const S *queries, S *o) {
    unit_clear(a, u, o);
    for (long block = u->low / BLOCK; block * BLOCK < u->high; block++)
        unit_block(a, m, u, queries, block, o, 0);
    return unit_divide(a, m, u, o);
}

/* Result of a unit; computed again where it came out as NaN or infinite: rightly so, or because of a
 * value under a mask. */
void unit_whole(const attention *a, const memories *m, unit *u, S *o) {
    S queries[TN_D * ROWS];
    load_queries(a, m, u, queries);
    if (!u->careful && unit_sweep(a, m, u, queries, o))
        return;
    u->careful = true;
    unit_sweep(a, m, u, queries, o);
}

__kernel __attribute__((reqd_work_group_size(TN_GROUP, 1, 1))) void
attention_units(ATTENTION_MEMORIES, const attention a) {
    const memories m = MEMORIES;
    unit u;
    S o_[TN_DV * ROWS];
    if (!unit_of(&a, &m, &u, get_global_id(0), get_global_id(1), get_global_id(2)))
        return;
    unit_whole(&a, &m, &u, o_);
    unit_store(&a, &m, &u, o_);
}

/* ---- a unit's blocks apart, each by an item of its own, and then joined in order */

__global E *slot_of(const attention *a, const memories *m, long block) {
    /* global size: tiles * blocks, kv_heads, batch; of the joining kernel: tiles, … */
    const long tile = block < 0 ? get_global_id(0) : get_global_id(0) / a->blocks;
    const long unit_ = (get_global_id(2) * a->kv_heads + get_global_id(1)) * a->tiles + tile;
    return (__global E *)(m->work + a->slots) + unit_ * a->blocks * (a->dv + 2) * ROWS;
}

__kernel __attribute__((reqd_work_group_size(TN_GROUP, 1, 1))) void
attention_blocks(ATTENTION_MEMORIES, const attention a) {
    const memories m = MEMORIES;
    const long block = get_global_id(0) % a.blocks;
    S queries[TN_D * ROWS];
    unit u;
    if (!unit_of(&a, &m, &u, get_global_id(0) / a.blocks, get_global_id(1), get_global_id(2)) ||
        u.high <= block * BLOCK || u.low >= (block + 1) * BLOCK || u.low >= u.high)
        return;
    load_queries(&a, &m, &u, queries);
    unit_block(&a, &m, &u, queries, block, 0, slot_of(&a, &m, block) + block * (a.dv + 2) * ROWS);
}

__kernel __attribute__((reqd_work_group_size(TN_GROUP, 1, 1))) void
attention_join(ATTENTION_MEMORIES, const attention a) {
    const memories m = MEMORIES;
    S o_[TN_DV * ROWS];
    unit u;
    if (!unit_of(&a, &m, &u, get_global_id(0), get_global_id(1), get_global_id(2)))
        return;
    unit_clear(&a, &u, o_);
    for (long block = u.low / BLOCK; block * BLOCK < u.high; block++) {
        __global const E *slot = slot_of(&a, &m, -1) + block * (a.dv + 2) * ROWS;
        EV max_of[NV], sum_of[NV];
        factors f;
        EACH_VECTOR {
            max_of[j] = E_LOAD(slot + a.dv * ROWS + j * TN_WIDTH);
            sum_of[j] = E_LOAD(slot + (a.dv + 1) * ROWS + j * TN_WIDTH);
        }
        join_parts(u.max, u.sum, max_of, sum_of, &f);
        for (int e = 0; e < a.dv; e++)
            EACH_VECTOR {
                S *at = o_ + e * ROWS + j * TN_WIDTH;
                const EV old = S_LOAD(at);
                const EV joined = fma(old, f.old[j], E_LOAD(slot + e * ROWS + j * TN_WIDTH) * f.more[j]);
                S_STORE(SELECT(joined, old, f.empty[j]), at);
            }
    }
    if (!unit_divide(&a, &m, &u, o_)) {
        u.careful = true;
        unit_whole(&a, &m, &u, o_);
    }
    unit_store(&a, &m, &u, o_);
}
