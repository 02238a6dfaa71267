/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.cl: what stands around attention: new rows into a key-value cache, and joining attentions
 * over disjoint sets of keys, a few parts after the other.
 *
 * Follows number.cl and math.cl, with TN_WIDTH 1. Strides count bytes. src/opencl/cl_cache_ops.c
 * fills the structs. Merging: Dao et al., 2022, section 3.1; the weights of a row are worked out
 * again for each of its elements, from maximum and total that a first kernel left in the workspace.
 */
#define NOTHING (-(E)INFINITY)

/* ---------------------------------------------------------------- append */

/* Keys, or values: rows[x_batch, h, t] / scale[outer, h, slot] to cache[outer, h, slot]. */
typedef struct append {
    long batch, kv_heads, rows, width; /* rows: of each sequence, or of all together */
    long block_size;                   /* > 0: paged */
    long x_start, x_stride[4];
    long cache_start, cache_stride[4];
    long scale_start, scale_stride[3];
    long positions_start, positions_step;
    long cu_start, cu_step;
    long table_start, table_stride[2];
    int x_type, cache_type, scale_type, positions_type, cu_type, table_type;
} append;

__kernel void cache_append(source x, target cache, source scale, source positions, source cu,
                           source table, const append a) {
    const long t = get_global_id(0), h = get_global_id(1), e0 = (long)get_global_id(2) * TN_COLUMNS;
    long b = 0, in_sequence, outer, slot;
    if (a.cu_type) { /* ragged: the last sequence that begins at or before t */
        long low = 0, high = a.batch;
        if (t >= get_index(cu + a.cu_start + a.batch * a.cu_step, a.cu_type))
            return;
        while (high - low > 1) {
            const long middle = low + (high - low) / 2;
            if (get_index(cu + a.cu_start + middle * a.cu_step, a.cu_type) <= t)
                low = middle;
            else
                high = middle;
        }
        b = low;
        in_sequence = t - get_index(cu + a.cu_start + b * a.cu_step, a.cu_type);
    } else {
        b = t / a.rows;
        in_sequence = t % a.rows;
    }
    outer = b;
    slot = get_index(positions + a.positions_start + b * a.positions_step, a.positions_type) +
           in_sequence;
    if (a.block_size > 0) {
        outer = get_index(table + a.table_start + b * a.table_stride[0] +
                              slot / a.block_size * a.table_stride[1],
                          a.table_type);
        slot %= a.block_size;
    }
    source from = x + a.x_start + (a.cu_type ? 0 : b) * a.x_stride[0] + h * a.x_stride[1] +
                  (a.cu_type ? t : in_sequence) * a.x_stride[2];
    target to = cache + a.cache_start + outer * a.cache_stride[0] + h * a.cache_stride[1] +
                slot * a.cache_stride[2];
    E divisor = 1;
    if (a.scale_type)
        divisor = get(scale + a.scale_start + outer * a.scale_stride[0] + h * a.scale_stride[1] +
                          slot * a.scale_stride[2],
                      a.scale_type);
    const long end = min(e0 + TN_COLUMNS, a.width);
    for (long e = e0; e < end; e++) {
        E v = get(from + e * a.x_stride[3], a.x_type);
        if (a.scale_type)
            v /= divisor;
        put(to + e * a.cache_stride[3], a.cache_type, v);
    }
}

/* ---------------------------------------------------------------- merge */

enum { MOST_DIMS = 7 };

/* One part, or the result. */
typedef struct merged {
    long start, step, row[MOST_DIMS];
    int type, reserved; /* 0: absent */
} merged;

/* Parts of one launch; of the last there may be fewer. */
#define PARTS 4

typedef struct merge {
    long rows, dv;
    long extent[MOST_DIMS];
    long state, sums; /* in the workspace: maximum and total of each row; its sums */
    merged o[PARTS], lse[PARTS];
    int rank, phase, parts, first; /* first: nothing is in the workspace yet */
} merge;

/* What a launch does. */
enum { WEIGH, TOTAL, ADD, STORE };

#define PART_MEMORIES source lse0, source lse1, source lse2, source lse3

long merged_at(const merge *g, const merged *x, long index) {
    long at = x->start;
    for (int d = g->rank - 1; d >= 0; d--) {
        at += index % g->extent[d] * x->row[d];
        index /= g->extent[d];
    }
    return at;
}

/* Maximum of the parts' log-sum-exps, then the total of their exponentials below it. */
__kernel void merge_weights(PART_MEMORIES, target work, const merge g) {
    const source lse[PARTS] = {lse0, lse1, lse2, lse3};
    const long row = get_global_id(0);
    __global E *state = (__global E *)(work + g.state) + 2 * row;
    if (g.first) {
        state[0] = NOTHING;
        state[1] = 0;
    }
    for (int i = 0; i < g.parts; i++) {
        const E x = get(lse[i] + merged_at(&g, &g.lse[i], row), g.lse[i].type);
        if (g.phase == WEIGH) /* a NaN comes back in the total */
            state[0] = x > state[0] || x != x ? x : state[0];
        else if (state[0] != NOTHING && x != NOTHING)
            state[1] += exp(x - state[0]);
    }
}

/* The parts' share of the sums. */
__kernel void merge_sums(source o0, source o1, source o2, source o3, PART_MEMORIES, target work,
                         const merge g) {
    const source o[PARTS] = {o0, o1, o2, o3}, lse[PARTS] = {lse0, lse1, lse2, lse3};
    const long row = get_global_id(1), e = get_global_id(0);
    __global const E *state = (__global const E *)(work + g.state) + 2 * row;
    __global E *sum = (__global E *)(work + g.sums) + row * g.dv + e;
    E total = g.first ? (E)0 : *sum;
    for (int i = 0; i < g.parts; i++) {
        const E x = get(lse[i] + merged_at(&g, &g.lse[i], row), g.lse[i].type);
        if (x != NOTHING) /* a part without keys may hold anything */
            total = fma(exp(x - state[0]) / state[1],
                        get(o[i] + merged_at(&g, &g.o[i], row) + e * g.o[i].step, g.o[i].type),
                        total);
    }
    *sum = total;
}

/* The end, apart from the sums as the result may be the first part. */
__kernel void merge_store(target o, target lse, target work, const merge g) {
    const long row = get_global_id(1), e = get_global_id(0);
    __global const E *state = (__global const E *)(work + g.state) + 2 * row;
    __global const E *sum = (__global const E *)(work + g.sums) + row * g.dv + e;
    put(o + merged_at(&g, &g.o[0], row) + e * g.o[0].step, g.o[0].type, g.first ? (E)0 : *sum);
    if (e == 0 && g.lse[0].type)
        put(lse + merged_at(&g, &g.lse[0], row), g.lse[0].type,
            g.first || state[0] == NOTHING ? NOTHING : state[0] + log(state[1]));
}
