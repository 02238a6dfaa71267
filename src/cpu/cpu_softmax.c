/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_softmax.c: which kernel computes which rows of a softmax, and on how many threads.
 *
 * All ways give the same bits for a row (kernels/softmax_kernels.h):
 *   rows     whole rows of plain reals along contiguous elements, up to a chunk long;
 *   columns  the same with the rows side by side;
 *   lines    everything else, row by row and chunk by chunk: masks, other types, any strides, long
 *            rows. What a chunk's exponentials are relative to is kept until the row's end;
 *   twice    as lines, but a chunk is reduced again before it is written, so that nothing has to be
 *            kept. Where exponentials cannot wait in y it costs no more, and where y is streamed
 *            less;
 *   split, split-twice
 *            few long lines: the same with their chunks shared out over the threads.
 * Scores wait on the stack; workspace is taken only by what is kept of rows with very many chunks.
 */
#include "cpu/cpu_kernels.h"
#include "cpu/cpu_ops.h"

#include <math.h>

typedef enum softmax_way {
    WAY_ROWS,
    WAY_COLUMNS,
    WAY_LINES,
    WAY_TWICE,
    WAY_SPLIT,
    WAY_SPLIT_TWICE
} softmax_way;

/* Where a line's exponentials wait until its sum is known. */
typedef enum softmax_wait {
    WAIT_IN_Y,
    WAIT_ON_STACK, /* those of the whole row */
    WAIT_IN_BUFFER /* of a chunk, which is finished at once */
} softmax_wait;

typedef struct softmax_state {
    const tn_softmax_kernels *kernels;
    const tn_gemm_tile *convert; /* loads and stores of other types */
    int64_t chunks;              /* of a row */
    int64_t grain;               /* rows, or chunks, of a task */
    size_t worker_bytes;         /* workspace of one worker */
    softmax_way way;
    softmax_wait wait;
    bool stream; /* x and y together are more than the caches hold: y is written around them */
} softmax_state;

_Static_assert(sizeof(softmax_state) <= TN_CHOICE_STATE, "a choice keeps it");

/* Rows whose parts (for lse) wait together on the stack. A multiple of the columns of a group. */
#define PARTS 256
/* Parts of a split that wait on the caller's stack: 8 KiB, of a million elements. */
#define SPLIT_PARTS 512
/* Elements of a task: some microseconds of work. */
#define TASK_ELEMENTS 32768

/* Shortest row that is streamed: some whole cache lines between its ends. */
#define STREAM_ELEMENTS 64

/* Scratch of a task over lines: scores of a chunk, and parts of a row's chunks where that is enough
 * room. */
typedef struct line_scratch {
    _Alignas(64) char bytes[TN_CPU_STACK];
} line_scratch;

typedef struct softmax_work {
    const tn_softmax_problem *p;
    const softmax_state *state;
    void *const *addresses;
    char *workspace;
    tn_softmax_part *parts, *totals; /* split: rows x chunks, rows */
    int32_t inner;                   /* dimension that rows and columns run over */
    int64_t runs;                    /* rows / its extent */
    int64_t pieces;                  /* tasks of one run, or of one row */
    int64_t row, first, end;         /* split-twice: the row, and its chunks being worked on */
} softmax_work;

static bool present(const tn_softmax_problem *p, tn_softmax_role role) {
    return p->operand[role].dtype != TENON_DTYPE_NONE;
}

/* ---------------------------------------------------------------- plan */

static bool is_plain(const tn_softmax_problem *p) {
    return !present(p, TN_SOFTMAX_BIAS) && !present(p, TN_SOFTMAX_MASK) &&
           !present(p, TN_SOFTMAX_ALIBI) && p->softcap == 0 && p->left == TN_UNLIMITED &&
           p->right == TN_UNLIMITED;
}

static bool is_real(const tn_softmax_problem *p) {
    return p->operand[TN_SOFTMAX_X].dtype == p->accumulate &&
           p->operand[TN_SOFTMAX_Y].dtype == p->accumulate;
}

/* The longest row dimension along which both x and y have stride 1, or -1. */
static int32_t contiguous_dim(const tn_softmax_problem *p) {
    int32_t best = -1;
    for (int32_t d = 0; d < p->rank; ++d)
        if (p->operand[TN_SOFTMAX_X].row[d] == 1 && p->operand[TN_SOFTMAX_Y].row[d] == 1 &&
            p->extent[d] > 1 && (best < 0 || p->extent[d] > p->extent[best]))
            best = d;
    return best;
}

/* The longest row dimension: the fewest addresses to work out. */
static int32_t longest_dim(const tn_softmax_problem *p) {
    int32_t best = p->rank - 1;
    for (int32_t d = p->rank - 2; d >= 0; --d)
        if (p->extent[d] > p->extent[best])
            best = d;
    return best;
}

static bool is_single(const tn_softmax_problem *p, int64_t chunks) {
    return chunks == 1 && is_plain(p) && is_real(p) && !present(p, TN_SOFTMAX_SINKS) && p->rank > 0;
}

/* Whether exponentials can wait in y until the row's sum is known. */
static bool waits_in_y(const tn_softmax_problem *p) {
    const tn_softmax_operand *y = &p->operand[TN_SOFTMAX_Y];
    return y->dtype == p->accumulate && (y->step == 1 || p->length <= 1) && !p->log;
}

/* Bytes of a line's buffer, and how many parts fit behind it. */
static size_t buffer_bytes(const tn_softmax_problem *p) {
    return tn_round64(TN_SOFTMAX_BUFFER * (size_t)tn_element_size(p->accumulate));
}

static int64_t stack_parts(const tn_softmax_problem *p) {
    return (int64_t)((TN_CPU_STACK - buffer_bytes(p)) / sizeof(tn_softmax_part));
}

/* Whether a whole row's exponentials can wait on the stack, where no scores need a buffer. */
static bool waits_on_stack(const tn_softmax_problem *p, int64_t chunks) {
    const size_t row = tn_round64((size_t)tn_round_up(p->length, TN_SOFTMAX_LANES) *
                                  (size_t)tn_element_size(p->accumulate));
    return is_plain(p) && p->operand[TN_SOFTMAX_X].dtype == p->accumulate &&
           p->operand[TN_SOFTMAX_X].step == 1 && !p->log &&
           row + (size_t)chunks * sizeof(tn_softmax_part) <= TN_CPU_STACK;
}

/* Elements of rows that do not fit the caches beside each other: y would be fetched to be
 * overwritten, and thrown out again before anybody reads it. */
static bool wants_streaming(const tn_softmax_problem *p) {
    const tn_cpu_caches caches = tn_cpu_cache_sizes();
    const double bytes =
        2 * (double)p->rows * (double)p->length * (double)tn_element_size(p->accumulate);
    return p->operand[TN_SOFTMAX_Y].dtype == p->accumulate && p->operand[TN_SOFTMAX_Y].step == 1 &&
           p->length >= STREAM_ELEMENTS &&
           bytes > (double)(caches.l3 > caches.l2 ? caches.l3 : caches.l2);
}

/*
 * Predicted seconds. An element costs an exponential each time it is reduced, and moving it, which
 * is more if it is converted or gathered; figures in cycles of 3 GHz (Zen 3, November 2026; scalar
 * kernels some ten times that, which changes no order).
 */
static double predict(const tn_softmax_problem *p, const softmax_state *s, int threads) {
    const tn_softmax_operand *x = &p->operand[TN_SOFTMAX_X], *y = &p->operand[TN_SOFTMAX_Y];
    const double exponential = 1.2, plain = 0.3, other = 1.0, phase = 10000;
    const double moving =
        (is_real(p) && x->step == 1 && y->step == 1 ? plain : other) + (is_plain(p) ? 0 : other);
    const bool single = s->way == WAY_ROWS || s->way == WAY_COLUMNS;
    const bool again =
        !single && s->chunks > 1 &&
        (s->way == WAY_TWICE || s->way == WAY_SPLIT_TWICE || s->wait == WAIT_IN_BUFFER);
    const bool split = s->way == WAY_SPLIT || s->way == WAY_SPLIT_TWICE;
    const int64_t tasks = split ? p->rows * s->chunks : tn_ceil_div(p->rows, tn_max64(1, s->grain));
    const double workers = (double)tn_min64(tn_max64(tasks, 1), threads);
    double phases = split ? 3 : 1;
    if (s->way == WAY_SPLIT_TWICE)
        phases = (double)p->rows * (1 + (double)tn_ceil_div(s->chunks, SPLIT_PARTS));
    return ((double)p->rows * (double)p->length * (again ? 2 : 1) * (exponential + moving) /
                workers +
            phases * phase) /
           3e9;
}

static void offer(const tn_softmax_problem *p, const softmax_state *s, int threads, size_t shared,
                  tn_choices *out) {
    static const char *const names[] = {"softmax-rows",  "softmax-columns", "softmax-lines",
                                        "softmax-twice", "softmax-split",   "softmax-split-twice"};
    static const char *const reasons[] = {
        "rows are contiguous and at most a chunk long",
        "rows lie side by side and are at most a chunk long",
        "rows have masks, other types or strides, or several chunks",
        "nothing is kept between a row's two passes",
        "there are few rows and they are long",
        "there are few rows and they are long; nothing is kept between two passes"};
    tn_choice choice;
    memset(&choice, 0, sizeof choice);
    choice.algorithm = names[s->way];
    choice.kernel = s->kernels->softmax_name;
    choice.reason = reasons[s->way];
    choice.workspace = shared + s->worker_bytes * (size_t)threads;
    choice.seconds = predict(p, s, threads);
    memcpy(choice.state, s, sizeof *s);
    tn_choices_offer(out, &choice);
}

static void offer_lines(const tn_softmax_problem *p, softmax_state s, int threads,
                        tn_choices *out) {
    const softmax_wait again = s.wait;
    s.grain = tn_max64(1, TASK_ELEMENTS / tn_max64(1, p->length));
    if (s.wait == WAIT_IN_BUFFER && waits_on_stack(p, s.chunks))
        s.wait = WAIT_ON_STACK;
    if (s.chunks <= 1 || s.wait != WAIT_IN_BUFFER) {
        s.way = WAY_LINES;
        if (s.wait != WAIT_ON_STACK && s.chunks > stack_parts(p))
            s.worker_bytes = tn_round64((size_t)s.chunks * sizeof(tn_softmax_part));
        offer(p, &s, threads, 0, out);
    }
    s.way = WAY_TWICE;
    s.wait = again;
    s.worker_bytes = 0;
    offer(p, &s, threads, 0, out);
}

static void offer_split(const tn_softmax_problem *p, softmax_state s, int threads,
                        tn_choices *out) {
    const int64_t parts = p->rows * (s.chunks + 1);
    s.grain = tn_max64(1, s.chunks / (8 * (int64_t)threads));
    s.way = WAY_SPLIT;
    offer(p, &s, threads,
          parts > SPLIT_PARTS ? tn_round64((size_t)parts * sizeof(tn_softmax_part)) : 0, out);
    s.way = WAY_SPLIT_TWICE;
    offer(p, &s, threads, 0, out);
}

tenon_status tn_cpu_softmax_plan(const tn_softmax_problem *p, int threads, tn_cpu_level level,
                                 tn_choices *out, tn_message *why) {
    softmax_state s = {0};
    (void)why;
    out->count = 0;
    s.kernels = tn_cpu_softmax_find(p->accumulate, level);
    s.convert = tn_cpu_tile_find(p->accumulate, level);
    s.chunks = tn_ceil_div(p->length, TN_SOFTMAX_CHUNK);
    s.stream = wants_streaming(p);
    s.wait = waits_in_y(p) && !s.stream ? WAIT_IN_Y : WAIT_IN_BUFFER;

    const tn_softmax_operand *x = &p->operand[TN_SOFTMAX_X], *y = &p->operand[TN_SOFTMAX_Y];
    const bool rows = x->step == 1 && y->step == 1;
    if (is_single(p, s.chunks) && (rows || contiguous_dim(p) >= 0)) {
        s.way = rows ? WAY_ROWS : WAY_COLUMNS;
        s.grain = tn_max64(1, TASK_ELEMENTS / tn_max64(1, p->length));
        if (s.way == WAY_COLUMNS)
            s.grain = tn_round_up(s.grain, TN_SOFTMAX_LANES);
        offer(p, &s, threads, 0, out);
    } else if (threads > 1 && p->rows < 4 * (int64_t)threads && s.chunks >= 4) {
        offer_split(p, s, threads, out);
    } else {
        offer_lines(p, s, threads, out);
    }
    return TENON_OK;
}

/* ---------------------------------------------------------------- rows and columns */

/* Element offset of the first row of run `index` (all dimensions but work->inner). */
static int64_t run_offset(const softmax_work *w, tn_softmax_role role, int64_t index) {
    int64_t offset = 0;
    for (int32_t d = w->p->rank - 1; d >= 0; --d) {
        if (d == w->inner)
            continue;
        offset += index % w->p->extent[d] * w->p->operand[role].row[d];
        index /= w->p->extent[d];
    }
    return offset;
}

static void store_lse(const tn_softmax_problem *p, void *base, int64_t offset,
                      const tn_softmax_part *part) {
    const double lse = part->sum == 0 ? -INFINITY : part->max + log(part->sum);
    if (p->operand[TN_SOFTMAX_LSE].dtype == TENON_F64)
        ((double *)base)[offset] = lse;
    else
        ((float *)base)[offset] = (float)lse;
}

static void rows_task(void *arg, int64_t index, int worker) {
    const softmax_work *w = arg;
    const tn_softmax_problem *p = w->p;
    const softmax_state *s = w->state;
    const tn_softmax_operand *x = &p->operand[TN_SOFTMAX_X], *y = &p->operand[TN_SOFTMAX_Y],
                             *lse = &p->operand[TN_SOFTMAX_LSE];
    const int64_t size = tn_element_size(p->accumulate), run = index / w->pieces;
    const int64_t first = index % w->pieces * s->grain,
                  end = tn_min64(first + s->grain, p->extent[w->inner]);
    const int64_t x_start = run_offset(w, TN_SOFTMAX_X, run),
                  y_start = run_offset(w, TN_SOFTMAX_Y, run);
    const bool columns = s->way == WAY_COLUMNS, lse_out = lse->dtype != TENON_DTYPE_NONE;
    tn_softmax_rows t = {.length = p->length, .scale = p->scale, .log = p->log};
    tn_softmax_part parts[PARTS];
    t.stream = s->stream && w->addresses[TN_SOFTMAX_X] != w->addresses[TN_SOFTMAX_Y];
    (void)worker;

    t.x_row = columns ? x->step : x->row[w->inner];
    t.y_row = columns ? y->step : y->row[w->inner];
    t.parts = lse_out ? parts : NULL;
    for (int64_t r = first; r < end; r += t.rows) {
        t.rows = lse_out ? tn_min64(end - r, PARTS) : end - r;
        t.x = (const char *)w->addresses[TN_SOFTMAX_X] + (x_start + r * x->row[w->inner]) * size;
        t.y = (char *)w->addresses[TN_SOFTMAX_Y] + (y_start + r * y->row[w->inner]) * size;
        (columns ? s->kernels->columns : s->kernels->rows)(&t);
        for (int64_t i = 0; i < t.rows && lse_out; ++i)
            store_lse(p, w->addresses[TN_SOFTMAX_LSE],
                      run_offset(w, TN_SOFTMAX_LSE, run) + (r + i) * lse->row[w->inner],
                      &t.parts[i]);
    }
}

/* ---------------------------------------------------------------- lines */

typedef struct line {
    tn_softmax_row row;
    double sink;
    int64_t lse;
} line;

static double scalar_at(const void *base, tenon_dtype dtype, int64_t offset,
                        const softmax_state *s) {
    double d = 0;
    float f = 0;
    if (s->kernels->type == TENON_F64) {
        s->convert->load[dtype]((const char *)base + offset * tn_element_size(dtype), 1, 1, &d);
        return d;
    }
    s->convert->load[dtype]((const char *)base + offset * tn_element_size(dtype), 1, 1, &f);
    return (double)f;
}

static line line_of(const softmax_work *w, int64_t index, line_scratch *scratch) {
    const tn_softmax_problem *p = w->p;
    const softmax_state *s = w->state;
    const tn_softmax_operand *o = p->operand;
    int64_t start[TN_SOFTMAX_ROLES] = {0}, position = 0;
    line l = {0};
    tn_softmax_row *r = &l.row;

    for (int32_t d = p->rank - 1; d >= 0; --d) {
        const int64_t i = index % p->extent[d];
        index /= p->extent[d];
        for (int role = 0; role < TN_SOFTMAX_ROLES; ++role)
            start[role] += i * o[role].row[d];
        if (d == p->query_dim)
            position = i + p->offset;
    }

    r->x_size = tn_element_size(o[TN_SOFTMAX_X].dtype);
    r->y_size = tn_element_size(o[TN_SOFTMAX_Y].dtype);
    r->x = (const char *)w->addresses[TN_SOFTMAX_X] + start[TN_SOFTMAX_X] * r->x_size;
    r->y = (char *)w->addresses[TN_SOFTMAX_Y] + start[TN_SOFTMAX_Y] * r->y_size;
    r->x_step = o[TN_SOFTMAX_X].step;
    r->y_step = o[TN_SOFTMAX_Y].step;
    if (o[TN_SOFTMAX_X].dtype != p->accumulate || (r->x_step != 1 && p->length > 1))
        r->x_load = s->convert->load[o[TN_SOFTMAX_X].dtype];
    if (o[TN_SOFTMAX_Y].dtype != p->accumulate || (r->y_step != 1 && p->length > 1))
        r->y_store = s->convert->store[o[TN_SOFTMAX_Y].dtype];
    r->length = p->length;
    r->scale = p->scale;
    r->log = p->log;
    r->plain = is_plain(p);
    r->stream = s->stream && r->x != r->y;
    r->buffer = scratch ? scratch->bytes : NULL; /* NULL: for its sink and lse alone */
    if (s->wait != WAIT_IN_Y) {
        r->waiting = r->buffer;
        r->waiting_step = s->wait == WAIT_ON_STACK ? TN_SOFTMAX_CHUNK : 0;
    }

    tn_score_row *score = &r->score;
    if (present(p, TN_SOFTMAX_BIAS)) {
        const tn_softmax_operand *b = &o[TN_SOFTMAX_BIAS];
        score->bias_size = tn_element_size(b->dtype);
        score->bias =
            (const char *)w->addresses[TN_SOFTMAX_BIAS] + start[TN_SOFTMAX_BIAS] * score->bias_size;
        score->bias_step = b->step;
        score->bias_load =
            b->dtype == p->accumulate && b->step == 1 ? NULL : s->convert->load[b->dtype];
    }
    if (present(p, TN_SOFTMAX_MASK)) {
        score->mask = (const uint8_t *)w->addresses[TN_SOFTMAX_MASK] + start[TN_SOFTMAX_MASK];
        score->mask_step = o[TN_SOFTMAX_MASK].step;
    }
    if (present(p, TN_SOFTMAX_ALIBI))
        score->slope = scalar_at(w->addresses[TN_SOFTMAX_ALIBI], o[TN_SOFTMAX_ALIBI].dtype,
                                 start[TN_SOFTMAX_ALIBI], s);
    score->softcap = p->softcap;
    score->position = position;
    score->lo = p->left == TN_UNLIMITED || p->left >= position
                    ? 0
                    : tn_min64(position - p->left, p->length);
    score->hi = p->right == TN_UNLIMITED || p->right >= p->length - 1 - position
                    ? p->length
                    : tn_max64(0, position + p->right + 1);
    l.sink = present(p, TN_SOFTMAX_SINKS)
                 ? scalar_at(w->addresses[TN_SOFTMAX_SINKS], o[TN_SOFTMAX_SINKS].dtype,
                             start[TN_SOFTMAX_SINKS], s)
                 : -INFINITY;
    l.lse = start[TN_SOFTMAX_LSE];
    return l;
}

static void lines_task(void *arg, int64_t index, int worker) {
    const softmax_work *w = arg;
    const softmax_state *s = w->state;
    line_scratch scratch;
    char *const kept = s->worker_bytes            ? w->workspace + (size_t)worker * s->worker_bytes
                       : s->wait == WAIT_ON_STACK ? scratch.bytes + TN_CPU_STACK -
                                                        (size_t)s->chunks * sizeof(tn_softmax_part)
                                                  : scratch.bytes + buffer_bytes(w->p);
    tn_softmax_part *const parts = (tn_softmax_part *)(void *)kept;
    const int64_t end = tn_min64((index + 1) * s->grain, w->p->rows);

    for (int64_t r = index * s->grain; r < end; ++r) {
        const line l = line_of(w, r, &scratch);
        for (int64_t c = 0; c < s->chunks; ++c)
            parts[c] = s->kernels->reduce(&l.row, c);
        const tn_softmax_part total = s->kernels->join(parts, s->chunks, l.sink);
        for (int64_t c = 0; c < s->chunks; ++c)
            s->kernels->finish(&l.row, c, &parts[c], &total);
        if (present(w->p, TN_SOFTMAX_LSE))
            store_lse(w->p, w->addresses[TN_SOFTMAX_LSE], l.lse, &total);
    }
}

/* ---------------------------------------------------------------- twice */

/* A chunk's part without leaving anything in y: reduce keeps no exponentials of rows whose
 * logarithm is wanted. */
static tn_softmax_part probe(const softmax_state *s, const line *l, int64_t chunk) {
    tn_softmax_row row = l->row;
    row.log = 1;
    return s->kernels->reduce(&row, chunk);
}

/* Joins one more part, as join does when it has them all: the sum so far comes first, unchanged. */
static void join_next(const softmax_state *s, tn_softmax_part *total, const tn_softmax_part *part) {
    const tn_softmax_part both[2] = {*total, *part};
    *total = s->kernels->join(both, 2, -INFINITY);
}

static void finish_again(const softmax_state *s, const line *l, int64_t chunk,
                         const tn_softmax_part *total) {
    tn_softmax_part own = {0};
    if (!l->row.log)
        own = s->kernels->reduce(&l->row, chunk);
    s->kernels->finish(&l->row, chunk, &own, total);
}

static void twice_task(void *arg, int64_t index, int worker) {
    const softmax_work *w = arg;
    const softmax_state *s = w->state;
    const int64_t end = tn_min64((index + 1) * s->grain, w->p->rows);
    line_scratch scratch;
    (void)worker;

    for (int64_t r = index * s->grain; r < end; ++r) {
        const line l = line_of(w, r, &scratch);
        tn_softmax_part total = {-INFINITY, 0};
        for (int64_t c = 0; c < s->chunks; ++c) {
            const tn_softmax_part part = probe(s, &l, c);
            join_next(s, &total, &part);
        }
        total = s->kernels->join(&total, 1, l.sink);
        for (int64_t c = 0; c < s->chunks; ++c)
            finish_again(s, &l, c, &total);
        if (present(w->p, TN_SOFTMAX_LSE))
            store_lse(w->p, w->addresses[TN_SOFTMAX_LSE], l.lse, &total);
    }
}

/* ---------------------------------------------------------------- split */

static void split_reduce(void *arg, int64_t index, int worker) {
    const softmax_work *w = arg;
    const softmax_state *s = w->state;
    const int64_t r = index / w->pieces, first = index % w->pieces * s->grain;
    line_scratch scratch;
    const line l = line_of(w, r, &scratch);
    (void)worker;
    for (int64_t c = first; c < tn_min64(first + s->grain, s->chunks); ++c)
        w->parts[r * s->chunks + c] =
            s->wait == WAIT_IN_Y ? s->kernels->reduce(&l.row, c) : probe(s, &l, c);
}

static void split_join(void *arg, int64_t r, int worker) {
    const softmax_work *w = arg;
    const line l = line_of(w, r, NULL);
    (void)worker;
    w->totals[r] =
        w->state->kernels->join(w->parts + r * w->state->chunks, w->state->chunks, l.sink);
    if (present(w->p, TN_SOFTMAX_LSE))
        store_lse(w->p, w->addresses[TN_SOFTMAX_LSE], l.lse, &w->totals[r]);
}

static void split_finish(void *arg, int64_t index, int worker) {
    const softmax_work *w = arg;
    const softmax_state *s = w->state;
    const int64_t r = index / w->pieces, first = index % w->pieces * s->grain;
    line_scratch scratch;
    const line l = line_of(w, r, &scratch);
    (void)worker;
    for (int64_t c = first; c < tn_min64(first + s->grain, s->chunks); ++c) {
        if (s->wait == WAIT_IN_Y)
            s->kernels->finish(&l.row, c, &w->parts[r * s->chunks + c], &w->totals[r]);
        else
            finish_again(s, &l, c, &w->totals[r]);
    }
}

static void run_split(softmax_work *w, tn_team *team) {
    const tn_softmax_problem *p = w->p;
    tn_softmax_part few[SPLIT_PARTS];
    const bool fits = p->rows * (w->state->chunks + 1) <= SPLIT_PARTS;
    w->parts = fits ? few : (tn_softmax_part *)(void *)w->workspace;
    w->totals = w->parts + p->rows * w->state->chunks;
    w->pieces = tn_ceil_div(w->state->chunks, w->state->grain);
    tn_team_run(team, split_reduce, w, p->rows * w->pieces);
    tn_team_run(team, split_join, w, p->rows);
    tn_team_run(team, split_finish, w, p->rows * w->pieces);
}

static void again_reduce(void *arg, int64_t index, int worker) {
    const softmax_work *w = arg;
    const int64_t first = w->first + index * w->state->grain;
    line_scratch scratch;
    const line l = line_of(w, w->row, &scratch);
    (void)worker;
    for (int64_t c = first; c < tn_min64(first + w->state->grain, w->end); ++c)
        w->parts[c - w->first] = probe(w->state, &l, c);
}

static void again_finish(void *arg, int64_t index, int worker) {
    const softmax_work *w = arg;
    const int64_t first = index * w->state->grain;
    line_scratch scratch;
    const line l = line_of(w, w->row, &scratch);
    (void)worker;
    for (int64_t c = first; c < tn_min64(first + w->state->grain, w->state->chunks); ++c)
        finish_again(w->state, &l, c, w->totals);
}

/* One row after the other, each reduced by all threads in waves of as many chunks as the caller's
 * stack has room for parts. */
static void run_split_twice(softmax_work *w, tn_team *team) {
    const softmax_state *s = w->state;
    tn_softmax_part parts[SPLIT_PARTS], total;
    w->parts = parts;
    w->totals = &total;
    for (w->row = 0; w->row < w->p->rows; ++w->row) {
        const line l = line_of(w, w->row, NULL);
        total = (tn_softmax_part){-INFINITY, 0};
        for (w->first = 0; w->first < s->chunks; w->first = w->end) {
            w->end = tn_min64(w->first + SPLIT_PARTS, s->chunks);
            tn_team_run(team, again_reduce, w, tn_ceil_div(w->end - w->first, s->grain));
            for (int64_t c = 0; c < w->end - w->first; ++c)
                join_next(s, &total, &parts[c]);
        }
        total = s->kernels->join(&total, 1, l.sink);
        tn_team_run(team, again_finish, w, tn_ceil_div(s->chunks, s->grain));
        if (present(w->p, TN_SOFTMAX_LSE))
            store_lse(w->p, w->addresses[TN_SOFTMAX_LSE], l.lse, &total);
    }
}

/* ---------------------------------------------------------------- run */

void tn_cpu_softmax_run(const tn_run *run) {
    const tn_softmax_problem *p = run->problem;
    softmax_state s;
    softmax_work w = {
        .p = p, .state = &s, .addresses = run->addresses, .workspace = run->workspace};

    memcpy(&s, run->choice->state, sizeof s);
    if (p->length == 0)
        s.way = WAY_LINES; /* nothing but lse to write */
    switch (s.way) {
    case WAY_ROWS:
    case WAY_COLUMNS:
        w.inner = s.way == WAY_COLUMNS ? contiguous_dim(p) : longest_dim(p);
        w.runs = p->rows / p->extent[w.inner];
        w.pieces = tn_ceil_div(p->extent[w.inner], s.grain);
        tn_team_run(run->team, rows_task, &w, w.runs * w.pieces);
        break;
    case WAY_LINES:
    case WAY_TWICE:
        tn_team_run(run->team, s.way == WAY_LINES ? lines_task : twice_task, &w,
                    tn_ceil_div(p->rows, s.grain));
        break;
    case WAY_SPLIT:
        run_split(&w, run->team);
        break;
    case WAY_SPLIT_TWICE:
        run_split_twice(&w, run->team);
        break;
    }
}
