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
