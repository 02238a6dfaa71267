/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The row kernels of softmax and attention by themselves: e^x against libm's in higher precision
 * over the whole range, the same bits at every level, and the same bits for a row whichever kernel
 * computes it.
 */
#include "gemm_tiles.h"

#include "guarded.h"
#include "rng.h"
#include "suite.h"

#include "cpu/kernels/softmax_kernels.h"

#include <math.h>
#include <stdlib.h>

static const tn_softmax_kernels *const families[] = {
#define TN_SOFTMAX_KERNELS(type, level) &tn_softmax_kernels_##type##_##level,
#include "cpu/kernels/softmax_kernels.def"
#undef TN_SOFTMAX_KERNELS
};
enum { FAMILIES = sizeof families / sizeof *families };

static bool runs(const tn_softmax_kernels *k) {
    return k->level <= tn_cpu_level_best();
}

static const tn_softmax_kernels *scalar_of(const tn_softmax_kernels *k) {
    for (int i = 0; i < FAMILIES; i++)
        if (families[i]->type == k->type && families[i]->level == TN_CPU_SCALAR)
            return families[i];
    return NULL;
}

static const tn_gemm_tile *tile_of(const tn_softmax_kernels *k) {
    for (int i = 0; i < TILES; i++)
        if (all_tiles[i]->type == k->type && all_tiles[i]->level == k->level)
            return all_tiles[i];
    return NULL;
}

static size_t real_of(const tn_softmax_kernels *k) {
    return k->type == TENON_F64 ? 8 : 4;
}

static void put(const tn_softmax_kernels *k, void *base, int64_t i, double x) {
    if (k->type == TENON_F64)
        ((double *)base)[i] = x;
    else
        ((float *)base)[i] = (float)x;
}

static double get(const tn_softmax_kernels *k, const void *base, int64_t i) {
    return k->type == TENON_F64 ? ((const double *)base)[i] : (double)((const float *)base)[i];
}

/* ---------------------------------------------------------------- exp */

enum { BLOCK = TN_ATTENTION_BLOCK };

/* Errors in units of the last place, of normal results; what is below the smallest normal number
 * may be off by that number. */
typedef struct error {
    double ulp, at;
} error;

/* exp of x[1 …] through the weights of one block whose maximum is element 0. */
static void measure(const tn_softmax_kernels *k, double *x, int n, error *worst) {
    double line[BLOCK + 16];
    const tn_score_row row = {.hi = n};
    const tn_attention_weights t = {.row = &row, .s = line, .b = n, .clear_b = n};
    const bool single = k->type == TENON_F32;
    x[0] = 0;
    for (int i = 0; i < n; i++)
        put(k, line, i, x[i]);
    k->weights(&t);
    for (int i = 0; i < n; i++) {
        const long double want = expl((long double)x[i]);
        const double got = get(k, line, i), smallest = single ? 0x1p-126 : 0x1p-1022;
        const long double unit = ldexpl(1, ilogbl(want) - (single ? 23 : 52));
        if (want < (long double)smallest) {
            ck_assert_msg(got >= 0 && got <= smallest, "%s: exp(%a) is %a", k->attention_name, x[i],
                          got);
            continue;
        }
        const double off = (double)(fabsl((long double)got - want) / unit);
        if (!(off <= worst->ulp))
            *worst = (error){off, x[i]};
    }
}

START_TEST(exponential) {
    const tn_softmax_kernels *k = families[_i];
    error worst = {0, 0};
    double x[BLOCK];
    int n = 1;
    rng r = rng_start("exponential");
    if (!runs(k))
        return;
    if (k->type == TENON_F32) {
        /* Every 499th number from -0 to beyond the last result that is not 0. */
        for (uint32_t bits = 0x80000000u; bits < 0xc2e00000u; bits += 499) {
            float f;
            memcpy(&f, &bits, 4);
            x[n++] = (double)f;
            if (n == BLOCK) {
                measure(k, x, n, &worst);
                n = 1;
            }
        }
    } else {
        for (int i = 0; i < 2000; i++) {
            for (n = 1; n < BLOCK; n++)
                x[n] = -ldexp(rng_unit(&r), (int)rng_between(&r, -60, 10));
            measure(k, x, BLOCK, &worst);
        }
    }
    printf("%s: exp is off by at most %.3f ulp, at %a\n", k->attention_name, worst.ulp, worst.at);
    ck_assert_msg(worst.ulp <= 1.0, "%s: exp(%a) is off by %.3f ulp", k->attention_name, worst.at,
                  worst.ulp);
}
END_TEST

START_TEST(exponential_of_special_numbers) {
    const tn_softmax_kernels *k = families[_i];
    double line[BLOCK + 16] = {0};
    const tn_score_row row = {.hi = 5};
    const tn_attention_weights t = {.row = &row, .s = line, .b = 5, .clear_b = 40};
    const double x[5] = {0, -INFINITY, NAN, -1e30, -0.0};
    if (!runs(k))
        return;
    for (int i = 0; i < 5; i++)
        put(k, line, i, x[i]);
    for (int i = 5; i < 60; i++)
        put(k, line, i, NAN); /* not scores */
    const tn_softmax_part part = k->weights(&t);
    ck_assert(get(k, line, 0) == 1 && get(k, line, 1) == 0 && isnan(get(k, line, 2)) &&
              get(k, line, 3) == 0 && get(k, line, 4) == 1);
    ck_assert(part.max == 0 && isnan(part.sum));
    for (int i = 5; i < 40; i++)
        ck_assert(get(k, line, i) == 0);
}
END_TEST

/* ---------------------------------------------------------------- the same bits at every level */

enum { LONGEST = 3 * TN_SOFTMAX_CHUNK };

typedef struct row_data {
    double x[LONGEST + 16], y[LONGEST + 16], bias[LONGEST], buffer[TN_SOFTMAX_BUFFER];
    double waiting[LONGEST + 16];
    uint8_t mask[LONGEST];
    tn_softmax_part parts[4], total;
    tn_softmax_row row;
} row_data;

static void draw(rng *r, const tn_softmax_kernels *k, row_data *t) {
    const int64_t kind = rng_below(r, 8);
    memset(t, 0, sizeof *t);
    t->row.length = rng_below(r, 3) ? rng_between(r, 1, 300) : rng_between(r, 1, LONGEST);
    t->row.scale = rng_below(r, 2) ? 1 : 0.37;
    t->row.log = (int32_t)rng_below(r, 2);
    t->row.score.hi = t->row.length;
    t->row.plain = kind == 0;
    for (int64_t i = 0; i < t->row.length; i++) {
        put(k, t->x, i, (double)rng_f32(r) * 20);
        put(k, t->bias, i, rng_below(r, 9) ? (double)rng_f32(r) : -INFINITY);
        t->mask[i] = rng_below(r, 4) != 0;
    }
    if (rng_below(r, 10) == 0)
        put(k, t->x, rng_below(r, t->row.length), NAN);
    if (kind & 1)
        t->row.score.mask = t->mask;
    if (kind & 2)
        t->row.score.bias = (const char *)t->bias;
    if (kind & 4) {
        t->row.score.lo = rng_below(r, t->row.length);
        t->row.score.hi = rng_between(r, t->row.score.lo, t->row.length);
        t->row.score.slope = 0.125;
        t->row.score.softcap = 15;
        t->row.score.position = rng_below(r, 100);
    }
    t->row.score.mask_step = t->row.score.bias_step = 1;
    t->row.score.bias_size = t->row.x_size = t->row.y_size = (int64_t)real_of(k);
    t->row.x_step = t->row.y_step = 1;
}

/* `y_type`: written in that type instead of reals. Exponentials wait where row.waiting_step says: in
 * y, or beside it. */
static void compute(const tn_softmax_kernels *k, row_data *t, tenon_dtype y_type, double sink) {
    const int64_t chunks = (t->row.length + TN_SOFTMAX_CHUNK - 1) / TN_SOFTMAX_CHUNK;
    t->row.x = (const char *)t->x;
    t->row.y = (char *)t->y;
    t->row.buffer = t->buffer;
    t->row.waiting = t->row.waiting_step ? t->waiting : NULL;
    if (y_type != k->type) {
        t->row.y_store = tile_of(k)->store[y_type];
        t->row.y_size = (int64_t)type_bytes(y_type);
    }
    if (t->row.score.mask)
        t->row.score.mask = t->mask;
    if (t->row.score.bias)
        t->row.score.bias = (const char *)t->bias;
    for (int64_t c = 0; c < chunks; c++)
        t->parts[c] = k->reduce(&t->row, c);
    t->total = k->join(t->parts, chunks, sink);
    for (int64_t c = 0; c < chunks; c++)
        k->finish(&t->row, c, &t->parts[c], &t->total);
}

static bool same(double a, double b) {
    return a == b || (a != a && b != b);
}

START_TEST(rows_at_every_level) {
    const tn_softmax_kernels *k = families[_i], *plain = scalar_of(k);
    row_data *mine = malloc(sizeof *mine), *other = malloc(sizeof *other);
    rng r = rng_start("rows at every level");
    ck_assert(mine && other);
    for (int round = 0; round < 300 && runs(k); round++) {
        const tenon_dtype type = rng_below(&r, 3) ? k->type : TENON_F16;
        const double sink = rng_below(&r, 3) ? -INFINITY : 0.5;
        draw(&r, k, mine);
        memcpy(other, mine, sizeof *other);
        /* One way for one level, another for the other. */
        mine->row.stream = type == k->type && rng_below(&r, 2);
        mine->row.waiting_step =
            type != k->type || mine->row.stream || rng_below(&r, 2) ? TN_SOFTMAX_CHUNK : 0;
        other->row.waiting_step = type != k->type ? TN_SOFTMAX_CHUNK : 0;
        compute(k, mine, type, sink);
        compute(plain, other, type, sink);
        ck_assert_msg(same(mine->total.max, other->total.max) &&
                          same(mine->total.sum, other->total.sum),
                      "%s, round %d: sum %a, scalar %a", k->softmax_name, round, mine->total.sum,
                      other->total.sum);
        for (int64_t i = 0; i < mine->row.length; i++)
            ck_assert_msg(same(element_at(mine->y, type, i), element_at(other->y, type, i)),
                          "%s, round %d: element %lld is %a, scalar %a", k->softmax_name, round,
                          (long long)i, element_at(mine->y, type, i),
                          element_at(other->y, type, i));
    }
    free(mine);
    free(other);
}
END_TEST

/* A row of at most one chunk: by lines, by rows, by columns, and in place. */
START_TEST(every_way_through_a_row) {
    enum { ROWS = 21, LENGTH = 300 };
    const tn_softmax_kernels *k = families[_i];
    static double x[ROWS * LENGTH], across[ROWS * LENGTH], y[ROWS * LENGTH], z[ROWS * LENGTH];
    row_data *line = malloc(sizeof *line);
    rng r = rng_start("every way");
    ck_assert(line);
    for (int round = 0; round < 20 && runs(k); round++) {
        const int64_t n = rng_between(&r, 1, LENGTH);
        tn_softmax_part of_rows[ROWS], of_columns[ROWS];
        tn_softmax_rows t = {.x = x,
                             .y = y,
                             .x_row = n,
                             .y_row = n,
                             .length = n,
                             .rows = ROWS,
                             .scale = 0.7,
                             .log = round & 1,
                             .parts = of_rows};
        for (int64_t i = 0; i < ROWS * n; i++) {
            const double value = (double)rng_f32(&r) * 9;
            put(k, x, i, value);
            put(k, across, i % n * ROWS + i / n, value);
        }
        k->rows(&t);
        t.stream = 1;
        t.parts = of_columns;
        t.y = z;
        k->rows(&t);
        for (int64_t i = 0; i < ROWS * n; i++)
            ck_assert_msg(same(get(k, y, i), get(k, z, i)), "%s: streamed, %lld elements",
                          k->softmax_name, (long long)n);
        t.stream = 0;
        t.x = across;
        t.x_row = t.y_row = ROWS;
        t.parts = of_columns;
        k->columns(&t);
        for (int64_t row = 0; row < ROWS; row++) {
            draw(&r, k, line);
            line->row = (tn_softmax_row){.score = {.hi = n},
                                         .x_step = 1,
                                         .y_step = 1,
                                         .length = n,
                                         .scale = 0.7,
                                         .log = round & 1,
                                         .plain = 1};
            line->row.x_size = line->row.y_size = (int64_t)real_of(k);
            for (int64_t j = 0; j < n; j++)
                put(k, line->x, j, get(k, x, row * n + j));
            compute(k, line, k->type, -INFINITY);
            ck_assert(same(of_rows[row].sum, of_columns[row].sum) &&
                      same(of_rows[row].sum, line->total.sum));
            ck_assert(same(of_rows[row].max, of_columns[row].max) &&
                      same(of_rows[row].max, line->total.max));
            for (int64_t j = 0; j < n; j++) {
                const double a = get(k, y, row * n + j), b = get(k, z, j * ROWS + row),
                             c = get(k, line->y, j);
                ck_assert_msg(same(a, b) && same(a, c),
                              "%s: row %lld, element %lld of %lld: rows %a, columns %a, lines %a",
                              k->softmax_name, (long long)row, (long long)j, (long long)n, a, b, c);
            }
        }
        t.x = t.y = x;
        t.x_row = t.y_row = n;
        k->rows(&t);
        for (int64_t i = 0; i < ROWS * n; i++)
            ck_assert(same(get(k, x, i), get(k, y, i)));
    }
    free(line);
}
END_TEST

START_TEST(attention_steps_at_every_level) {
    enum { ROWS = 3, WIDTH = 37 };
    const tn_softmax_kernels *k = families[_i], *levels[2] = {k, scalar_of(k)};
    rng r = rng_start("attention steps");
    for (int round = 0; round < 200 && runs(k); round++) {
        double s[2][BLOCK + 16], k_scale[BLOCK], v_scale[BLOCK], o[2][ROWS * WIDTH],
            more[ROWS * WIDTH];
        uint8_t dead[2][BLOCK], mask[BLOCK];
        tn_softmax_part part[2], all[2][ROWS], block[ROWS];
        const int64_t a = rng_below(&r, BLOCK - 1), b = rng_between(&r, a + 1, BLOCK);
        const tn_score_row row = {.mask = round % 2 ? mask : NULL,
                                  .mask_step = 1,
                                  .lo = a,
                                  .hi = b,
                                  .slope = round % 3 ? 0 : 0.25,
                                  .position = 77};
        bool finite[2];
        for (int i = 0; i < BLOCK; i++) {
            put(k, s[0], i, (double)rng_f32(&r) * 30);
            put(k, k_scale, i, 1 + (double)rng_f32(&r) / 2);
            put(k, v_scale, i, 1 + (double)rng_f32(&r) / 2);
            mask[i] = rng_below(&r, 3) != 0;
        }
        memcpy(s[1], s[0], sizeof s[0]);
        for (int i = 0; i < ROWS * WIDTH; i++) {
            put(k, o[0], i, (double)rng_f32(&r));
            put(k, more, i, (double)rng_f32(&r));
        }
        memcpy(o[1], o[0], sizeof o[0]);
        for (int i = 0; i < ROWS; i++) {
            all[0][i] = all[1][i] = (tn_softmax_part){(double)rng_f32(&r), 1 + rng_unit(&r)};
            block[i] = rng_below(&r, 4) ? (tn_softmax_part){(double)rng_f32(&r), 1 + rng_unit(&r)}
                                        : (tn_softmax_part){-INFINITY, 0};
            if (k->type == TENON_F32) {
                all[0][i].sum = all[1][i].sum = (double)(float)all[0][i].sum;
                block[i].sum = (double)(float)block[i].sum;
            }
        }
        for (int l = 0; l < 2; l++) {
            const tn_attention_weights t = {.row = &row,
                                            .s = s[l],
                                            .k_scale = round % 5 ? NULL : k_scale,
                                            .v_scale = round % 7 ? NULL : v_scale,
                                            .dead = dead[l],
                                            .a = a,
                                            .b = b,
                                            .clear_b = BLOCK};
            part[l] = levels[l]->weights(&t);
            levels[l]->merge(ROWS, WIDTH, WIDTH, o[l], all[l], more, block);
            finite[l] = levels[l]->divide(o[l], WIDTH, &all[l][0], round % 2 ? 0.5 : -INFINITY);
        }
        ck_assert(same(part[0].max, part[1].max) && same(part[0].sum, part[1].sum) && finite[0] &&
                  finite[1]);
        ck_assert(memcmp(dead[0], dead[1], sizeof dead[0]) == 0);
        for (int i = 0; i < BLOCK; i++)
            ck_assert_msg(same(get(k, s[0], i), get(k, s[1], i)) &&
                              (dead[0][i] == 0 || get(k, s[0], i) == 0),
                          "%s: weight %d is %a, scalar %a", k->attention_name, i, get(k, s[0], i),
                          get(k, s[1], i));
        for (int i = 0; i < ROWS * WIDTH; i++)
            ck_assert(same(get(k, o[0], i), get(k, o[1], i)));
        for (int i = 0; i < ROWS; i++)
            ck_assert(same(all[0][i].max, all[1][i].max) && same(all[0][i].sum, all[1][i].sum));
    }
}
END_TEST

/* ---------------------------------------------------------------- walks */

enum { WALK_LINES = 24, WALK_KEYS = 64, WALK_WIDTH = 300, WALK_ROWS = 8 };

/* sum + a * b as a chain of the compute type goes on. */
static double chain(const tn_softmax_kernels *k, double a, double b, double sum) {
    return k->type == TENON_F64 ? fma(a, b, sum) : (double)fmaf((float)a, (float)b, (float)sum);
}

/* Both products of a few rows are those chains and nothing else, whatever the shape; lines are read
 * up to their last element and no further (they end at a guard page). */
START_TEST(walks_are_chains) {
    const tn_softmax_kernels *k = families[_i];
    const tn_gemm_tile *tile = tile_of(k);
    static double a[WALK_ROWS * WALK_WIDTH], y[WALK_ROWS * (WALK_WIDTH + 64)], was[sizeof y / 8],
        x[WALK_LINES][WALK_WIDTH];
    rng r = rng_start("walks");
    for (int round = 0; round < 200 && runs(k); round++) {
        const bool values = rng_below(&r, 2);
        const int64_t width = rng_between(&r, 1, rng_below(&r, 2) ? WALK_WIDTH : 40),
                      keys = rng_between(&r, 1, WALK_KEYS), rows = rng_between(&r, 1, WALK_ROWS),
                      steps = values ? keys : width, outputs = values ? width : keys;
        const void *line[2 * WALK_KEYS];
        void *memory[WALK_LINES];
        tenon_dtype type;
        do
            type = (tenon_dtype)rng_below(&r, TN_GEMM_DTYPES);
        while (!k->walk_scores[type]);
        for (int i = 0; i < WALK_LINES; i++) {
            memory[i] = guard_alloc((size_t)width * type_bytes(type), type_bytes(type), true);
            for (int64_t p = 0; p < width; p++)
                put(k, x[i], p, (double)rng_f32(&r) * 4);
            tile->store[type](x[i], width, memory[i], 1);
            tile->load[type](memory[i], 1, width, x[i]);
        }
        tn_attention_walk t = {.line = line,
                               .keys = keys,
                               .ahead = rng_between(&r, 0, WALK_KEYS),
                               .width = width,
                               .a = a,
                               .y = y,
                               .rows = rows,
                               .a_step = steps + rng_below(&r, 3),
                               .y_step = outputs + (values ? 32 : 0),
                               .chain = rng_below(&r, 2)};
        for (int i = 0; i < 2 * WALK_KEYS; i++)
            line[i] = memory[i * 7 % WALK_LINES];
        for (int64_t i = 0; i < rows * t.a_step; i++)
            put(k, a, i, (double)rng_f32(&r));
        for (int64_t i = 0; i < rows * t.y_step; i++)
            put(k, y, i, (double)rng_f32(&r));
        memcpy(was, y, sizeof y);
        (values ? k->walk_values : k->walk_scores)[type](&t);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < outputs; j++) {
                double sum = t.chain ? get(k, was, i * t.y_step + j) : 0;
                for (int64_t s = 0; s < steps; s++)
                    sum = chain(k, get(k, a, i * t.a_step + s),
                                get(k, x[(values ? s : j) * 7 % WALK_LINES], values ? j : s), sum);
                ck_assert_msg(get(k, y, i * t.y_step + j) == sum,
                              "%s, round %d, %s of type %d, %lld keys x %lld: [%lld][%lld] is %a, "
                              "not %a",
                              k->attention_name, round, values ? "values" : "scores", (int)type,
                              (long long)keys, (long long)width, (long long)i, (long long)j,
                              get(k, y, i * t.y_step + j), sum);
            }
        for (int i = 0; i < WALK_LINES; i++)
            ck_assert(guard_free(memory[i]));
    }
}
END_TEST

/* The measure itself: a polynomial cut short must be refused. */
START_TEST(measure_is_sharp) {
    double worst = 0;
    for (double x = -0.34; x < 0; x += 0.01) {
        const double want = exp(x), wrong = 1 + x + x * x / 2 + x * x * x / 6 + x * x * x * x / 24 +
                                            x * x * x * x * x / 120;
        worst = fmax(worst, fabs(wrong - want) / ldexp(1, ilogb(want) - 23));
    }
    ck_assert(worst > 1);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("softmax kernels");
    TCase *t = tcase_create("kernels");
    tcase_set_timeout(t, 200);
    tcase_add_loop_test(t, exponential, 0, FAMILIES);
    tcase_add_loop_test(t, walks_are_chains, 0, FAMILIES);
    tcase_add_loop_test(t, exponential_of_special_numbers, 0, FAMILIES);
    tcase_add_loop_test(t, rows_at_every_level, 0, FAMILIES);
    tcase_add_loop_test(t, every_way_through_a_row, 0, FAMILIES);
    tcase_add_loop_test(t, attention_steps_at_every_level, 0, FAMILIES);
    tcase_add_test(t, measure_is_sharp);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    return run_suite(suite());
}
