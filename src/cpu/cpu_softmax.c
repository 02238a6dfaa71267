/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_softmax.c: which kernel computes which rows of a softmax, and on how many threads.
 *
 * Four ways, chosen by the problem alone, all with the same bits for a row
 * (kernels/softmax_kernels.h): rows     whole rows of plain reals along contiguous elements, up to
 * a chunk long; columns  the same with the rows side by side; lines    everything else, row by row
 * and chunk by chunk: masks, other types, any strides, long rows; split    few long lines: their
 * chunks are shared out over the threads.
 */
#include "cpu/cpu_kernels.h"
#include "cpu/cpu_ops.h"

#include <math.h>

typedef enum softmax_way { WAY_ROWS, WAY_COLUMNS, WAY_LINES, WAY_SPLIT } softmax_way;

typedef struct softmax_state {
    const tn_softmax_kernels *kernels;
    const tn_gemm_tile *convert; /* loads and stores of other types */
    int64_t chunks;              /* of a row */
    int64_t grain;               /* rows, or chunks, of a task */
    size_t worker_bytes;         /* workspace of one worker */
    softmax_way way;
    int32_t threads;
} softmax_state;

_Static_assert(sizeof(softmax_state) <= TN_CHOICE_STATE, "a choice keeps it");

/* Rows whose parts (for lse) wait together. A multiple of the columns of a group. */
#define PARTS 256
/* Elements of a task: some microseconds of work. */
#define TASK_ELEMENTS 32768

typedef struct softmax_work {
    const tn_softmax_problem *p;
    const softmax_state *state;
    void *const *addresses;
    char *workspace;
    tn_softmax_part *parts, *totals; /* split only: rows × chunks, rows */
    int32_t inner;                   /* dimension that rows and columns run over */
    int64_t runs;                    /* rows / its extent */
    int64_t pieces;                  /* tasks of one run, or of one row */
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

static softmax_way choose_way(const tn_softmax_problem *p, int threads, int64_t chunks) {
    const tn_softmax_operand *x = &p->operand[TN_SOFTMAX_X], *y = &p->operand[TN_SOFTMAX_Y];
    if (chunks == 1 && is_plain(p) && is_real(p) && !present(p, TN_SOFTMAX_SINKS) && p->rank > 0) {
        if (x->step == 1 && y->step == 1)
            return WAY_ROWS;
        if (contiguous_dim(p) >= 0)
            return WAY_COLUMNS;
    }
    return threads > 1 && p->rows < 4 * (int64_t)threads && chunks >= 4 ? WAY_SPLIT : WAY_LINES;
}

tenon_status tn_cpu_softmax_plan(const tn_softmax_problem *p, int threads, tn_cpu_level level,
                                 tn_choices *out, tn_message *why) {
    static const char *const names[] = {"softmax-rows", "softmax-columns", "softmax-lines",
                                        "softmax-split"};
    static const char *const reasons[] = {
        "rows are contiguous and at most a chunk long",
        "rows lie side by side and are at most a chunk long",
        "rows have masks, other types or strides, or several chunks",
        "there are few rows and they are long"};
    const size_t real = p->accumulate == TENON_F64 ? sizeof(double) : sizeof(float);
    tn_choice *choice = &out->choice[0];
    softmax_state s = {0};
    (void)why;

    s.kernels = tn_cpu_softmax_find(p->accumulate, level);
    s.convert = tn_cpu_tile_find(p->accumulate, level);
    s.chunks = tn_ceil_div(p->length, TN_SOFTMAX_CHUNK);
    s.threads = threads;
    s.way = choose_way(p, threads, s.chunks);

    size_t shared = 0;
    switch (s.way) {
    case WAY_ROWS:
    case WAY_COLUMNS:
        s.grain = tn_max64(1, TASK_ELEMENTS / tn_max64(1, p->length));
        if (s.way == WAY_COLUMNS)
            s.grain = tn_ceil_div(s.grain, TN_SOFTMAX_LANES) * TN_SOFTMAX_LANES;
        if (present(p, TN_SOFTMAX_LSE))
            s.worker_bytes = PARTS * sizeof(tn_softmax_part);
        break;
    case WAY_LINES:
        s.grain = tn_max64(1, TASK_ELEMENTS / tn_max64(1, p->length));
        s.worker_bytes = tn_round64(TN_SOFTMAX_BUFFER * real) +
                         tn_round64((size_t)s.chunks * sizeof(tn_softmax_part));
        break;
    case WAY_SPLIT:
        s.grain = tn_max64(1, s.chunks / (8 * (int64_t)threads));
        s.worker_bytes = tn_round64(TN_SOFTMAX_BUFFER * real);
        shared = tn_round64((size_t)(p->rows * (s.chunks + 1)) * sizeof(tn_softmax_part));
        break;
    }

    choice->algorithm = names[s.way];
    choice->kernel = s.kernels->softmax_name;
    choice->reason = reasons[s.way];
    choice->workspace = shared + s.worker_bytes * (size_t)threads;
    choice->seconds = (double)p->length * (double)p->rows * 1e-9 / threads;
    memcpy(choice->state, &s, sizeof s);
    out->count = 1;
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

    t.x_row = columns ? x->step : x->row[w->inner];
    t.y_row = columns ? y->step : y->row[w->inner];
    t.parts = lse_out ? (tn_softmax_part *)(void *)(w->workspace + (size_t)worker * s->worker_bytes)
                      : NULL;
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

static line line_of(const softmax_work *w, int64_t index, int worker) {
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
    r->buffer = w->workspace + (size_t)worker * s->worker_bytes;

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
    char *const mine = w->workspace + (size_t)worker * s->worker_bytes;
    tn_softmax_part *parts =
        (tn_softmax_part *)(void *)(mine + s->worker_bytes -
                                    tn_round64((size_t)s->chunks * sizeof *parts));
    const int64_t end = tn_min64((index + 1) * s->grain, w->p->rows);

    for (int64_t r = index * s->grain; r < end; ++r) {
        const line l = line_of(w, r, worker);
        for (int64_t c = 0; c < s->chunks; ++c)
            parts[c] = s->kernels->reduce(&l.row, c);
        const tn_softmax_part total = s->kernels->join(parts, s->chunks, l.sink);
        for (int64_t c = 0; c < s->chunks; ++c)
            s->kernels->finish(&l.row, c, &parts[c], &total);
        if (present(w->p, TN_SOFTMAX_LSE))
            store_lse(w->p, w->addresses[TN_SOFTMAX_LSE], l.lse, &total);
    }
}

/* ---------------------------------------------------------------- split */

static void split_reduce(void *arg, int64_t index, int worker) {
    const softmax_work *w = arg;
    const int64_t r = index / w->pieces, first = index % w->pieces * w->state->grain;
    const line l = line_of(w, r, worker);
    for (int64_t c = first; c < tn_min64(first + w->state->grain, w->state->chunks); ++c)
        w->parts[r * w->state->chunks + c] = w->state->kernels->reduce(&l.row, c);
}

static void split_join(void *arg, int64_t r, int worker) {
    const softmax_work *w = arg;
    const line l = line_of(w, r, worker);
    w->totals[r] =
        w->state->kernels->join(w->parts + r * w->state->chunks, w->state->chunks, l.sink);
    if (present(w->p, TN_SOFTMAX_LSE))
        store_lse(w->p, w->addresses[TN_SOFTMAX_LSE], l.lse, &w->totals[r]);
}

static void split_finish(void *arg, int64_t index, int worker) {
    const softmax_work *w = arg;
    const int64_t r = index / w->pieces, first = index % w->pieces * w->state->grain;
    const line l = line_of(w, r, worker);
    for (int64_t c = first; c < tn_min64(first + w->state->grain, w->state->chunks); ++c)
        w->state->kernels->finish(&l.row, c, &w->parts[r * w->state->chunks + c], &w->totals[r]);
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
        tn_team_run(run->team, lines_task, &w, tn_ceil_div(p->rows, s.grain));
        break;
    case WAY_SPLIT:
        w.parts = (tn_softmax_part *)(void *)(w.workspace + s.worker_bytes * (size_t)s.threads);
        w.totals = w.parts + p->rows * s.chunks;
        w.pieces = tn_ceil_div(s.chunks, s.grain);
        tn_team_run(run->team, split_reduce, &w, p->rows * w.pieces);
        tn_team_run(run->team, split_join, &w, p->rows);
        tn_team_run(run->team, split_finish, &w, p->rows * w.pieces);
        break;
    }
}
