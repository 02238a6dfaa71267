/* SPDX-License-Identifier: Apache-2.0 */
/*
 * softmax.cl: softmax of rows, TN_ROWS of them to each work item, chunk by chunk: scores, maximum,
 * exponentials and their sum, result. Any device; lanes are neighbours in the row.
 *
 * Follows number.cl and math.cl. struct softmax is filled by src/opencl/cl_softmax.c. Strides count
 * bytes. Order of sums (docs/NUMERICS.md, 4.1): chunks of CHUNK elements, in each 16 sums by j mod
 * 16, joined in pairs; chunks in ascending order. A row of one chunk keeps its exponentials, a
 * longer one computes them again when the sum is known (online softmax: Milakov and Gimelshein,
 * 2018). TN_GROUP: items of a work-group, which have nothing to do with each other.
 */
#define CHUNK 2048
#define LANES_OF_SUM 16
#define VECTORS (LANES_OF_SUM / TN_WIDTH)
#define NOTHING (-(E)INFINITY)

enum { X, Y, BIAS, MASK, ALIBI, SINKS, LSE, ROLES };
enum { MOST_DIMS = 7 };

typedef struct softmax {
    long length, rows;
    long extent[MOST_DIMS]; /* row dimensions */
    long offset, left, right; /* LONG_MAX: no limit */
    double_bits scale, softcap;
    long start[ROLES], step[ROLES], row[ROLES][MOST_DIMS];
    int type[ROLES]; /* 0: absent */
    int rank, query_dim, as_log;
} softmax;

typedef struct line {
    source x, bias, mask;
    target y;
    long position, low, high; /* elements [low, high) may take part */
    E slope, sink;
    bool plain; /* scores are elements that lie side by side, times the scale */
} line;

/* Maximum and sum of exponentials below it. */
typedef struct part {
    E max, sum;
} part;

#if TN_WIDTH == 1
#define FIRST_LANES(n) ((n) > 0)
#define RAMP(at) ((E)(at))
#else
#if TN_WIDTH == 2
#define RAMP(at) ((EV)(0, 1) + V(at))
#elif TN_WIDTH == 4
#define RAMP(at) ((EV)(0, 1, 2, 3) + V(at))
#elif TN_WIDTH == 8
#define RAMP(at) ((EV)(0, 1, 2, 3, 4, 5, 6, 7) + V(at))
#else
#define RAMP(at) ((EV)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) + V(at))
#endif
#endif

line line_of(const softmax *s, long index, source x, target y, source bias, source mask,
             source alibi, source sinks, target lse, target *lse_at) {
    long start[ROLES];
    line r;
    r.position = s->offset;
    for (int role = 0; role < ROLES; role++)
        start[role] = s->start[role];
    for (int d = s->rank - 1; d >= 0; d--) {
        const long i = index % s->extent[d];
        index /= s->extent[d];
        for (int role = 0; role < ROLES; role++)
            start[role] += i * s->row[role][d];
        if (d == s->query_dim)
            r.position += i;
    }
    r.x = x + start[X];
    r.y = y + start[Y];
    r.bias = bias + start[BIAS];
    r.mask = mask + start[MASK];
    *lse_at = lse + start[LSE];
    r.slope = s->type[ALIBI] ? get(alibi + start[ALIBI], s->type[ALIBI]) : (E)0;
    r.sink = s->type[SINKS] ? get(sinks + start[SINKS], s->type[SINKS]) : NOTHING;
    r.low = 0;
    r.high = s->length;
    if (s->left != LONG_MAX && s->left < r.position)
        r.low = min(r.position - s->left, s->length);
    if (s->right != LONG_MAX && s->right < s->length - 1 - r.position)
        r.high = max(0L, r.position + s->right + 1);
    r.plain = s->type[X] == E_TYPE && s->step[X] == sizeof(E) && !(TO_NUMBER(s->softcap) > 0) &&
              r.slope == 0 && !s->type[BIAS] && !s->type[MASK] && r.low == 0 && r.high == s->length;
    return r;
}

/* Scores of elements j … j + TN_WIDTH, j a multiple of TN_WIDTH from the row's first: those outside
 * [low, high) and masked ones are -inf. */
EV any_scores_of(const softmax *s, const line *r, long j) {
    const int count = (int)min((long)TN_WIDTH, s->length - j);
    EV v = V(TO_NUMBER(s->scale)) * get_some(r->x + j * s->step[X], s->type[X], s->step[X], count);
    const E cap = TO_NUMBER(s->softcap);
    if (cap > 0)
        v = V(cap) * tanh_of(v / V(cap));
    if (r->slope != 0) {
        /* from the start of the group of 16, as the distance is then rounded alike in all lanes */
        const int in_group = (int)(j & (LANES_OF_SUM - 1));
        const EV distance = fabs(V((E)(r->position - (j - in_group))) - RAMP(in_group));
        v = fma(V(-r->slope), distance, v);
    }
    if (s->type[BIAS]) {
        const EV b = get_some(r->bias + j * s->step[BIAS], s->type[BIAS], s->step[BIAS], count);
        v = SELECT(v + b, V(NOTHING), b == V(NOTHING));
    }
    const bool inside = j >= r->low && j + TN_WIDTH <= r->high;
    if (!inside || s->type[MASK]) {
        E t[TN_WIDTH];
        E_STORE(v, t);
        for (int l = 0; l < TN_WIDTH; l++) {
            bool keep = j + l >= r->low && j + l < r->high;
            if (keep && s->type[MASK])
                keep = r->mask[(j + l) * s->step[MASK]] != 0;
            if (!keep)
                t[l] = NOTHING;
        }
        v = E_LOAD(t);
    }
    return v;
}

inline __attribute__((always_inline)) EV scores_of(const softmax *s, const line *r, long j) {
    if (r->plain && j + TN_WIDTH <= s->length)
        return V(TO_NUMBER(s->scale)) * E_LOAD((__global const E *)r->x + j);
    return any_scores_of(s, r, j);
}

/* e[0 … n) becomes the scores of elements [first, first + n), n a multiple of 16, then their
 * exponentials below the chunk's maximum. */
part chunk_part(const softmax *s, const line *r, long first, int n, E *e) {
    E t[LANES_OF_SUM];
    EV best[VECTORS], sum[VECTORS];
    part p;
    for (int g = 0; g < VECTORS; g++)
        best[g] = V(NOTHING);
    for (int i = 0; i < n; i += LANES_OF_SUM)
#pragma unroll
        for (int g = 0; g < VECTORS; g++) {
            const int at = i + g * TN_WIDTH;
            const EV v = first + at < s->length ? scores_of(s, r, first + at) : V(NOTHING);
            best[g] = MAX_OF(v, best[g]); /* NaN is passed over: the sum will have it */
            E_STORE(v, e + at);
        }
    for (int g = 0; g < VECTORS; g++)
        E_STORE(best[g], t + g * TN_WIDTH);
    p.max = NOTHING;
    for (int l = 0; l < LANES_OF_SUM; l++)
        p.max = t[l] > p.max ? t[l] : p.max;
    const EV shift = V(p.max == NOTHING ? (E)0 : p.max);
    for (int g = 0; g < VECTORS; g++)
        sum[g] = V(0);
    for (int i = 0; i < n; i += LANES_OF_SUM)
#pragma unroll
        for (int g = 0; g < VECTORS; g++) {
            const EV v = exp_negative(E_LOAD(e + i + g * TN_WIDTH) - shift);
            sum[g] += v;
            E_STORE(v, e + i + g * TN_WIDTH);
        }
    for (int g = 0; g < VECTORS; g++)
        E_STORE(sum[g], t + g * TN_WIDTH);
    for (int w = LANES_OF_SUM / 2; w >= 1; w /= 2)
        for (int l = 0; l < w; l++)
            t[l] += t[l + w];
    p.sum = t[0];
    return p;
}

E exp_one(E x) {
    E t[TN_WIDTH];
    E_STORE(exp_negative(V(x)), t);
    return t[0];
}

bool empty_part(const part *p) {
    return p->max == NOTHING && p->sum == 0;
}

void join(part *a, const part *b) {
    const bool grows = b->max > a->max;
    /* NaN where both are infinite, as both weights would be */
    const E other = exp_one(grows ? a->max - b->max : b->max - a->max);
    const E wa = grows ? other : other == other ? (E)1 : other, wb = grows ? (E)1 : other;
    a->sum = fma(a->sum, wa, b->sum * wb);
    a->max = grows ? b->max : a->max;
}

/* log of a sum: in f64 where there is one. */
E log_of(E x) {
#if TN_FP64
    return (E)log((double)x);
#else
    return log(x);
#endif
}

void put_lse(target at, int type, E max, E sum) {
    if (sum == 0) {
        put(at, type, NOTHING);
        return;
    }
#if TN_FP64
    const double value = (double)max + log((double)sum);
    if (type == F64)
        *(__global double *)at = value;
    else
        *(__global float *)at = (float)value;
#else
    put(at, type, max + log(sum));
#endif
}

/* Elements of a chunk from its exponentials (log: from its scores). */
void chunk_finish(const softmax *s, const line *r, long first, int n, const part *own,
                  const part *total, const E *e) {
    const EV none = V(NOTHING), masked = s->as_log ? none : V(0);
    const EV m = V(total->max == NOTHING ? (E)0 : total->max);
    EV l = V(0), w = V(0);
    if (s->as_log)
        l = V(log_of(total->sum));
    else if (!empty_part(own))
        w = V(exp_one(own->max - total->max) / total->sum);
    for (int i = 0; i < n; i += TN_WIDTH) {
        const int count = (int)min((long)TN_WIDTH, s->length - first - i);
        if (count <= 0)
            break;
        EV v = E_LOAD(e + i);
        if (total->sum == 0)
            v = masked;
        else if (total->sum != total->sum)
            v = SELECT(V(NAN), masked, scores_of(s, r, first + i) == none);
        else if (s->as_log)
            v = SELECT((v - m) - l, none, v == none);
        else
            v = v * w;
        put_some(r->y + (first + i) * s->step[Y], s->type[Y], s->step[Y], count, v);
    }
}

/* The row of a line, whose sums it gives; e has room for a chunk. */
APART part softmax_row(const softmax *s, const line *r, E *e) {
    part total = {NOTHING, 0}, own = total;
    const part sink = {r->sink, 1};
    for (long first = 0; first < s->length; first += CHUNK) {
        const int n = (int)min((long)CHUNK, s->length - first) + LANES_OF_SUM - 1 &
                      ~(LANES_OF_SUM - 1);
        own = chunk_part(s, r, first, n, e);
        if (!empty_part(&own))
            join(&total, &own);
    }
    if (!(r->sink == NOTHING))
        join(&total, &sink);
    for (long first = 0; first < s->length; first += CHUNK) {
        const int n = (int)min((long)CHUNK, s->length - first) + LANES_OF_SUM - 1 &
                      ~(LANES_OF_SUM - 1);
        if (s->length > CHUNK && !s->as_log)
            own = chunk_part(s, r, first, n, e);
        if (s->as_log)
            for (int j = 0; j < n && first + j < s->length; j += TN_WIDTH)
                E_STORE(scores_of(s, r, first + j), e + j);
        chunk_finish(s, r, first, n, &own, &total, e);
    }
    return total;
}

__kernel __attribute__((reqd_work_group_size(TN_GROUP, 1, 1))) void
softmax_rows(source x, target y, source bias, source mask, source alibi, source sinks, target lse,
             const softmax s) {
    E e[CHUNK];
    for (int i = 0; i < TN_ROWS; i++) {
        const long index = (long)get_global_id(0) * TN_ROWS + i;
        if (index >= s.rows)
            return;
        target lse_at;
        const line r = line_of(&s, index, x, y, bias, mask, alibi, sinks, lse, &lse_at);
        const part total = softmax_row(&s, &r, e);
        if (s.type[LSE])
            put_lse(lse_at, s.type[LSE], total.max, total.sum);
    }
}
