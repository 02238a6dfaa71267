/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_units.cl: a unit's blocks of keys one after the other, or each by an item of its own and
 * joined in ascending order; the kernels of attention.
 *
 * Follows attention.cl. Online softmax over blocks: Milakov and Gimelshein, 2018; Dao et al., 2022,
 * algorithm 1.
 */

/* How a block's part is joined to what is known: its factor, and that of the sums so far. Nothing
 * changes where the block is empty. */
typedef struct factors {
    E old[ROWS], more[ROWS];
    bool empty[ROWS];
} factors;

void join_parts(EV *max_of, EV *sum_of, const EV *block_max, const EV *block_sum, factors *f) {
    for (int j = 0; j < NV; j++) {
        const EV am = max_of[j], bm = block_max[j];
        const IV grows = (IV)(bm > am);
        const IV empty = (IV)(bm == V(NOTHING)) & (IV)(block_sum[j] == V(0));
        /* NaN where both are infinite, as both weights would be */
        const EV other = exp_negative(SELECT(bm - am, am - bm, grows));
        const EV old = SELECT(SELECT(other, V(1), other == other), other, grows);
        const EV more = SELECT(other, V(1), grows);
        const EV sum = fma(sum_of[j], old, block_sum[j] * more);
        E t[TN_WIDTH];
        sum_of[j] = SELECT(sum, sum_of[j], empty);
        max_of[j] = SELECT(SELECT(am, bm, grows), am, empty);
        E_STORE(old, f->old + j * TN_WIDTH);
        E_STORE(more, f->more + j * TN_WIDTH);
        E_STORE(SELECT(V(0), V(1), empty), t);
        for (int l = 0; l < TN_WIDTH; l++)
            f->empty[j * TN_WIDTH + l] = t[l] != 0;
    }
}

/* Columns of a row that whole vectors take: those beyond dv are read and written, and don't count. */
int columns_up(const attention *a) {
    return ((int)a->dv + TN_WIDTH - 1) / TN_WIDTH * TN_WIDTH;
}

/* One row of a block joined to what is known of it. */
#define JOIN_ROW(f, r, up, from, o)                                                                \
    for (int e = 0; e < (up) && !(f).empty[r]; e += TN_WIDTH)                                      \
        S_STORE(fma(S_LOAD((o) + e), V((f).old[r]), S_LOAD((from) + e) * V((f).more[r])), (o) + e)

/*
 * Block `block` of keys for the unit: joined into o and the unit's part or, with `apart`, left
 * alone in slot (rows, then maxima, then sums).
 */
void unit_block(const attention *a, const memories *m, unit *u, const S *queries, long block, S *o,
                __global E *slot) {
    const long first = block * BLOCK;
    const int from = (int)max(0L, u->low - first), to = (int)min((long)BLOCK, u->high - first);
    const int up = columns_up(a);
    S s[BLOCK * ROWS], sums[ROWS * TN_DV];
    uchar dead[BLOCK * ROWS];
    long outer[BLOCK], row[BLOCK];
    source line[BLOCK];
    EV block_max[NV], block_sum[NV];

    for (int key = from; key < to; key++)
        key_place(a, m, u, first + key, &outer[key], &row[key]);
    key_lines(a, u, m->k, K, first, from, to, outer, row, line);
    block_scores(a, queries, from, to, line, s);
    block_weights(a, m, u, first, from, to, outer, row, s, dead, block_max, block_sum);
    key_lines(a, u, m->v, VALUES, first, from, to, outer, row, line);
    block_sums(a, u, line, from, to, s, dead, sums);
    if (slot) {
        for (int r = 0; r < u->rows; r++)
            for (int e = 0; e < up; e += TN_WIDTH)
                E_STORE(S_LOAD(sums + r * TN_DV + e), slot + r * up + e);
        for (int j = 0; j < NV; j++) {
            E_STORE(block_max[j], slot + up * ROWS + j * TN_WIDTH);
            E_STORE(block_sum[j], slot + (up + 1) * ROWS + j * TN_WIDTH);
        }
    } else {
        factors f;
        join_parts(u->max, u->sum, block_max, block_sum, &f);
        for (int r = 0; r < u->rows; r++)
            JOIN_ROW(f, r, up, sums + r * TN_DV, o + r * TN_DV);
    }
}

void unit_clear(unit *u, S *o) {
    for (int i = 0; i < ROWS * TN_DV; i += TN_WIDTH)
        S_STORE((SV)(0), o + i);
    EACH_VECTOR {
        u->max[j] = V(NOTHING);
        u->sum[j] = V(0);
    }
}

/* Divides by the sums, with the sinks; false if something is not finite. */
bool unit_divide(const attention *a, const memories *m, unit *u, S *o) {
    const int up = columns_up(a);
    E factor[ROWS], t[TN_WIDTH];
    EV bad = V(0);
    factors f;
    if (present(a, SINKS)) {
        E max_of[ROWS], sum_of[ROWS];
        EV sink_max[NV], sink_sum[NV];
        for (int r = 0; r < ROWS; r++) {
            max_of[r] = NOTHING;
            if (r < u->rows)
                max_of[r] = get(m->sinks + stride_of(a, SINKS, 0, head_of(u, r), 0), a->type[SINKS]);
            sum_of[r] = max_of[r] == NOTHING ? (E)0 : (E)1;
        }
        EACH_VECTOR {
            sink_max[j] = E_LOAD(max_of + j * TN_WIDTH);
            sink_sum[j] = E_LOAD(sum_of + j * TN_WIDTH);
        }
        join_parts(u->max, u->sum, sink_max, sink_sum, &f);
    }
    for (int j = 0; j < NV; j++) {
        EV x = V(1);
        if (present(a, SINKS)) {
            for (int l = 0; l < TN_WIDTH; l++)
                t[l] = f.empty[j * TN_WIDTH + l] ? (E)1 : f.old[j * TN_WIDTH + l];
            x = E_LOAD(t);
        }
        E_STORE(SELECT(x / u->sum[j], V(0), u->sum[j] == V(0)), factor + j * TN_WIDTH);
    }
    for (int r = 0; r < u->rows; r++)
        for (int e = 0; e < up; e += TN_WIDTH) {
            S *at = o + r * TN_DV + e;
            const EV v = S_LOAD(at) * V(factor[r]);
            bad = fma(v, V(0), bad); /* 0, or NaN once something is not finite */
            S_STORE(v, at);
        }
    E_STORE(bad, t);
    bool good = true;
    for (int l = 0; l < TN_WIDTH; l++)
        good = good && t[l] == t[l];
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
        for (int e = 0; e < a->dv; e += TN_WIDTH)
            put_some(at + e * a->stride[O][3], a->type[O], a->stride[O][3],
                     min(TN_WIDTH, (int)a->dv - e), S_LOAD(o + r * TN_DV + e));
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
    unit_clear(u, o);
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

#if !TN_SPLIT
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

#else
/* ---- a unit's blocks apart, each by an item of its own, and then joined in order */

__global E *slot_of(const attention *a, const memories *m, long block) {
    /* global size: tiles * blocks, kv_heads, batch; of the joining kernel: tiles, … */
    const long tile = block < 0 ? get_global_id(0) : get_global_id(0) / a->blocks;
    const long unit_ = (get_global_id(2) * a->kv_heads + get_global_id(1)) * a->tiles + tile;
    return (__global E *)(m->work + a->slots) + unit_ * a->blocks * (columns_up(a) + 2) * ROWS;
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
    unit_block(&a, &m, &u, queries, block, 0, slot_of(&a, &m, block) + block * (columns_up(&a) + 2) * ROWS);
}

__kernel __attribute__((reqd_work_group_size(TN_GROUP, 1, 1))) void
attention_join(ATTENTION_MEMORIES, const attention a) {
    const memories m = MEMORIES;
    S o_[TN_DV * ROWS];
    unit u;
    if (!unit_of(&a, &m, &u, get_global_id(0), get_global_id(1), get_global_id(2)))
        return;
    unit_clear(&u, o_);
    for (long block = u.low / BLOCK; block * BLOCK < u.high; block++) {
        const int up = columns_up(&a);
        __global const E *slot = slot_of(&a, &m, -1) + block * (up + 2) * ROWS;
        EV max_of[NV], sum_of[NV];
        factors f;
        EACH_VECTOR {
            max_of[j] = E_LOAD(slot + up * ROWS + j * TN_WIDTH);
            sum_of[j] = E_LOAD(slot + (up + 1) * ROWS + j * TN_WIDTH);
        }
        join_parts(u.max, u.sum, max_of, sum_of, &f);
        for (int r = 0; r < u.rows; r++)
            JOIN_ROW(f, r, up, slot + r * up, o_ + r * TN_DV);
    }
    if (!unit_divide(&a, &m, &u, o_)) {
        u.careful = true;
        unit_whole(&a, &m, &u, o_);
    }
    unit_store(&a, &m, &u, o_);
}

#endif
