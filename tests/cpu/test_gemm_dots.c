/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of gemm_dots.def, every one that runs here: integer sums against plain 64-bit sums, exactly, at the ends of the types'
 * ranges too; bf16 bit for bit against the instruction's description, and within its bound. Buffers end at forbidden pages, so a
 * tail that reads or writes too far faults.
 */
#include "gemm_tiles.h"

#include "guarded.h"
#include "rng.h"
#include "suite.h"

static const tn_gemm_tile *const dots[] = {
#define TN_GEMM_DOT(tag, variant) &tn_gemm_tile_##tag##_##variant,
#include "cpu/kernels/gemm_dots.def"
#undef TN_GEMM_DOT
};
enum { DOTS = sizeof dots / sizeof *dots };

static rng r;

static void setup(void) {
    r = rng_start("gemm dots");
}

/* Random, or all at one end of the range: what saturates or wraps shows there. */
static void fill(void *to, tenon_dtype dtype, int64_t n) {
    static const uint8_t ends[] = {0x80, 0x7f, 0xff, 0x00};
    const int how = (int)rng_below(&r, 4);
    if (dtype == TENON_BF16) {
        for (int64_t i = 0; i < n; i++) /* magnitudes from 2^-8 to 2^8; some subnormal, some zero */
            ((uint16_t *)to)[i] = (uint16_t)((rng_u64(&r) & 0x8000) |
                                             (rng_below(&r, 16) ? 0x3b80 + rng_below(&r, 0x800)
                                                                : rng_below(&r, 0x80)));
        return;
    }
    rng_fill_bytes(&r, to, (size_t)n);
    keep_finite(to, dtype, n);
    for (int64_t i = 0; i < n && dtype >= TENON_S8 && how < 2; i++)
        ((uint8_t *)to)[i] = ends[how == 0 ? i % 2 : rng_below(&r, 4)];
}

static float flushed(float x) {
    return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x;
}

/* Floats by tdpbf16ps, as Intel's SDM has it: of 32 steps the even ones and the odd ones in a chain each, both added, and then to the sum. */
static float chain_of_tiles(float sum, int64_t kc, const double *a, const double *b) {
    sum = flushed(sum);
    for (int64_t p0 = 0; p0 < kc; p0 += 32) {
        float part[2] = {0, 0};
        for (int64_t p = p0; p < kc && p < p0 + 32; p++)
            part[p % 2] = flushed(fmaf(flushed((float)a[p]), flushed((float)b[p]), part[p % 2]));
        sum = flushed(sum + flushed(part[0] + part[1]));
    }
    return sum;
}

/* A sum of a whole call, step by step: integers exactly; floats by vdpbf16ps two steps at a time, the odd one first, as Intel's SDM has it. */
static double chain(const tn_gemm_tile *tile, double start, int64_t kc, const double *a,
                    const double *b) {
    double sum = start;
    float f = (float)start;
    if (tile->type == TENON_S32) {
        for (int64_t p = 0; p < kc; p++)
            sum += a[p] * b[p];
        return sum;
    }
    if (tile->needs & TN_CPU_HAS_AMX_BF16)
        return (double)chain_of_tiles(f, kc, a, b);
    for (int64_t p = 0; p < kc; p += 2) {
        const bool odd = p + 1 < kc;
        f = flushed(fmaf(odd ? flushed((float)a[p + 1]) : 0, odd ? flushed((float)b[p + 1]) : 0,
                         flushed(f)));
        f = flushed(fmaf(flushed((float)a[p]), flushed((float)b[p]), f));
    }
    return (double)f;
}

static double meet_of(const tn_gemm_tile *tile, tn_gemm_meet meet, double old, int64_t kc,
                      const double *a, const double *b) {
    const double sum = chain(tile, meet == TN_GEMM_CHAIN ? old : 0, kc, a, b);
    if (meet != TN_GEMM_ADD)
        return sum;
    return tile->type == TENON_S32 ? old + sum : (double)((float)old + (float)sum);
}

/* Strides of one of three layouts of `count` lines and kc steps. */
static void strides(int layout, int64_t count, int64_t kc, int64_t *along, int64_t *across) {
    *along = layout == 0 ? 1 : layout == 1 ? kc + 3 : 2;
    *across = layout == 0 ? count + 1 : layout == 1 ? 1 : 2 * count + 1;
}

static void begin(const tn_gemm_tile *tile) {
    if (tile->begin)
        tile->begin();
}

static void end(const tn_gemm_tile *tile) {
    if (tile->end)
        tile->end();
}

/* Operands packed by the family, with zeros taken away where asked, multiplied by its tile. */
static void check_tile(const tn_gemm_tile *tile, tenon_dtype a_type, tenon_dtype b_type, int rows,
                       int cols, int64_t kc, tn_gemm_meet meet, bool zeros) {
    enum { MOST = 300 };
    const int64_t ldc = cols + 3, filled = (kc + tile->a_group - 1) / tile->a_group * tile->a_group,
                  steps = filled / tile->group;
    const bool sum = tile->type == TENON_S32;
    const int a_layout = (int)rng_below(&r, 3), b_layout = (int)rng_below(&r, 3);
    int64_t a_along, a_across, b_along, b_across;
    strides(a_layout, rows, kc, &a_along, &a_across);
    strides(b_layout, cols, kc, &b_along, &b_across);
    const int64_t a_extent = (rows - 1) * a_along + (kc - 1) * a_across + 1,
                  b_extent = (cols - 1) * b_along + (kc - 1) * b_across + 1,
                  c_extent = (rows - 1) * ldc + cols;
    void *a = guard_alloc((size_t)a_extent * type_bytes(a_type), type_bytes(a_type), true),
         *b = guard_alloc((size_t)b_extent * type_bytes(b_type), type_bytes(b_type), true);
    void *a_panel =
             guard_alloc((size_t)((steps + tile->tail) * tile->mr + TN_GEMM_SLACK) * 4, 4, true),
         *b_panel = guard_alloc((size_t)((steps + tile->tail) * tile->nr) * 4, 4, true);
    uint32_t *c = guard_alloc((size_t)c_extent * 4, 4, true);
    int32_t zero[64] = {0}, b_zero[64] = {0}, *old = malloc((size_t)c_extent * 4);
    static double at[MOST], bt[MOST];

    fill(a, a_type, a_extent);
    fill(b, b_type, b_extent);
    for (int64_t e = 0; e < c_extent; e++) {
        const float f = rng_f32(&r);
        memcpy(&c[e], &f, 4);
        if (sum)
            c[e] = (uint32_t)rng_below(&r, 1 << 20) - (1 << 19);
    }
    memcpy(old, c, (size_t)c_extent * 4);
    const tn_gemm_pack_args pack_a = {a, a_panel, a_along, a_across, kc, rows},
                            pack_b = {b, b_panel, b_along, b_across, kc, cols};
    tile->pack_a[a_type](&pack_a);
    tile->pack_b[b_type](&pack_b);
    if (zeros) {
        for (int i = 0; i < rows; i++)
            zero[i] = (int32_t)rng_below(&r, 256) - (i % 2 ? 128 : 0);
        tile->shift(a_panel, tile->mr, 0, kc, zero);
        for (int j = 0; j < cols; j++)
            b_zero[j] = (int32_t)rng_below(&r, 256) - (j % 2 ? 128 : 0);
        tile->shift(b_panel, tile->nr, 0, kc, b_zero);
    }
    const tn_gemm_ukr_args t = {.a = a_panel,
                                .b = b_panel,
                                .c = c,
                                .kc = kc,
                                .ldb = tile->nr,
                                .ldc = ldc,
                                .rows = rows,
                                .cols = cols,
                                .meet = meet,
                                .b_tail = (char *)b_panel + steps * tile->nr * 4,
                                .settle = true};
    begin(tile);
    tile->ukr(&t);
    end(tile);
    for (int64_t e = 0; e < c_extent; e++) {
        const int64_t i = e / ldc, j = e % ldc;
        const double before = element_at(old, tile->type, e), got = element_at(c, tile->type, e);
        double want = before;
        for (int64_t p = 0; p < kc && j < cols; p++) {
            at[p] = element_at(a, a_type, i * a_along + p * a_across) - zero[i];
            bt[p] = element_at(b, b_type, j * b_along + p * b_across) - b_zero[j];
        }
        if (j < cols) /* between the rows nothing is written */
            want = meet_of(tile, meet, before, kc, at, bt);
        ck_assert_msg(
            got == want, /* no NaN is made here */
            "%s types %d %d layouts %d %d, %dx%d kc %lld meet %d zeros %d: [%d,%d] is %a, "
            "expected %a",
            tile->name, (int)a_type, (int)b_type, a_layout, b_layout, rows, cols, (long long)kc,
            (int)meet, zeros, (int)i, (int)j, got, want);
    }
    free(old);
    ck_assert(guard_free_all());
}

START_TEST(tiles) {
    const tn_gemm_tile *tile = dots[_i];
    static const int64_t lengths[] = {1, 2, 3, 4, 7, 31, 64, 67, 130, 256};
    if (!tile_runs(tile))
        return;
    for (int a = 0; a < TN_GEMM_DTYPES; a++)
        for (int b = 0; b < TN_GEMM_DTYPES; b++)
            for (int rows = 1; rows <= tile->mr && tile->pack_a[a] && tile->pack_b[b]; rows++)
                for (int cols = 1; cols <= tile->nr;
                     cols += cols < 2 || cols >= tile->nr - 1 ? 1 : 5)
                    check_tile(tile, (tenon_dtype)a, (tenon_dtype)b, rows, cols,
                               lengths[rng_below(&r, 10)], (tn_gemm_meet)rng_below(&r, 3),
                               tile->shift && rng_below(&r, 2));
}
END_TEST

/* Zeros of several groups per lane: panels of s16 alone. */
START_TEST(zeros_in_groups) {
    const tn_gemm_tile *tile = dots[_i];
    enum { KC = 37, LINES = 3 };
    int8_t src[LINES * KC];
    int16_t panel[(KC + 1) * 64 + 2 * TN_GEMM_SLACK];
    if (!tile_runs(tile) || !tile->shift || tile->tail)
        return;
    fill(src, TENON_S8, LINES * KC);
    const tn_gemm_pack_args pack = {src, panel, KC, 1, KC, LINES};
    tile->pack_a[TENON_S8](&pack);
    for (int first = 0; first < KC; first += 5) {
        int32_t zero[64] = {0};
        for (int i = 0; i < LINES; i++)
            zero[i] = 100 * i - first;
        tile->shift(panel, tile->mr, first, first + 5 < KC ? first + 5 : KC, zero);
    }
    for (int i = 0; i < tile->mr; i++)
        for (int p = 0; p < KC + 1; p++) {
            const int want = i < LINES && p < KC ? src[i * KC + p] - (100 * i - p / 5 * 5) : 0;
            ck_assert_int_eq(panel[p / 2 * 2 * tile->mr + 2 * i + p % 2], want);
        }
}
END_TEST

static void check_gemv(const tn_gemm_tile *tile, tenon_dtype a_type, tenon_dtype b_type,
                       bool by_rows, int64_t rows, int64_t n, int64_t k) {
    enum { BLOCK = 64, MOST = 300 };
    const int64_t row = by_rows ? n + 1 : 1, column = by_rows ? 1 : k + 3, a_step = (k + 1) / 2 + 1,
                  y_step = n + 3, extent = (k - 1) * row + (n - 1) * column + 1,
                  y_extent = (rows - 1) * y_step + n;
    const bool add = rng_below(&r, 2);
    void *b = guard_alloc((size_t)extent * type_bytes(b_type), type_bytes(b_type), true),
         *scratch = guard_alloc((size_t)(rows * n) * 4, 4, true);
    uint16_t *a = guard_alloc((size_t)(2 * (rows - 1) * a_step + k) * 2, 2, true);
    uint32_t *y = guard_alloc((size_t)y_extent * 4, 4, true), *old = malloc((size_t)y_extent * 4);
    static double at[MOST], bt[MOST];
    uint16_t source[MOST];

    fill(b, b_type, extent);
    for (int64_t e = 0; e < y_extent; e++)
        y[e] = tile->type == TENON_S32 ? (uint32_t)e : 0x3f800000u + (uint32_t)e;
    memcpy(old, y, (size_t)y_extent * 4);
    for (int64_t i = 0; i < rows; i++) {
        fill(source, a_type, k);
        tile->load[a_type](source, 1, k, a + 2 * i * a_step);
    }
    const tn_gemv_args t = {.a = a,
                            .b = b,
                            .y = y,
                            .scratch = scratch,
                            .k = k,
                            .block = BLOCK,
                            .n = n,
                            .row = row,
                            .column = column,
                            .rows = rows,
                            .a_step = a_step,
                            .y_step = y_step,
                            .add = add};
    tile->gemv[b_type](&t);
    for (int64_t e = 0; e < y_extent; e++) {
        const int64_t i = e / y_step, j = e % y_step;
        double want = element_at(old, tile->type, e);
        for (int64_t p0 = 0; p0 < k && j < n; p0 += BLOCK) {
            const int64_t kc = k - p0 < BLOCK ? k - p0 : BLOCK;
            for (int64_t p = 0; p < kc; p++) {
                const int64_t q = 2 * i * a_step + p0 + p;
                at[p] = tile->type == TENON_S32 ? ((int16_t *)a)[q] : element_at(a, TENON_BF16, q);
                bt[p] = element_at(b, b_type, (p0 + p) * row + j * column);
            }
            want = meet_of(tile, add || p0 ? TN_GEMM_ADD : TN_GEMM_STORE, want, kc, at, bt);
        }
        const double got = element_at(y, tile->type, e);
        ck_assert_msg(
            got == want, /* no NaN is made here */
            "%s: gemv types %d %d by_rows %d rows %lld n %lld k %lld add %d: [%lld,%lld] is "
            "%a, expected %a",
            tile->name, (int)a_type, (int)b_type, by_rows, (long long)rows, (long long)n,
            (long long)k, add, (long long)i, (long long)j, got, want);
    }
    free(old);
    ck_assert(guard_free_all());
}

START_TEST(vector_times_matrix) {
    const tn_gemm_tile *tile = dots[_i];
    static const int64_t lengths[] = {1, 2, 7, 8, 9, 63, 64, 65, 131, 200};
    if (!tile_runs(tile))
        return;
    for (int a = 0; a < TN_GEMM_DTYPES; a++)
        for (int b = 0; b < TN_GEMM_DTYPES; b++)
            for (int by_rows = 0; by_rows < 2 && tile->load[a] && tile->gemv[b]; by_rows++)
                for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
                    for (int64_t n = 2; n <= 2 * tile->nr + 3; n += n < 6 ? 1 : 7)
                        check_gemv(tile, (tenon_dtype)a, (tenon_dtype)b, by_rows,
                                   1 + rng_below(&r, 6), n, lengths[l]);
}
END_TEST

/* What the comparisons above must not let pass: saturation of pairs in s16, and the other order of a pair of bf16. */
START_TEST(mistakes_show) {
    const double ends[2] = {255, 255}, low[2] = {-128, -128};
    const tn_gemm_tile *integers = dots[0];
    ck_assert_double_lt(chain(integers, 0, 2, ends, low), -32768); /* vpmaddubsw would give this */
#if defined(__x86_64__)
    int differ = 0;
    for (int trial = 0; trial < 64; trial++) {
        uint16_t x[8], y[8];
        double up[2][8], turned[2][8];
        fill(x, TENON_BF16, 8);
        fill(y, TENON_BF16, 8);
        for (int p = 0; p < 8; p++) {
            up[0][p] = turned[0][p ^ 1] = element_at(x, TENON_BF16, p);
            up[1][p] = turned[1][p ^ 1] = element_at(y, TENON_BF16, p);
        }
        differ += chain(&tn_gemm_tile_bf16_avx512_bf16, 0.1, 8, up[0], up[1]) !=
                  chain(&tn_gemm_tile_bf16_avx512_bf16, 0.1, 8, turned[0], turned[1]);
    }
    ck_assert_int_gt(differ, 0);
#endif
}
END_TEST

/* S * (a * b) rounded once more than exactly, whatever the order of the factors. */
START_TEST(scaled_sums) {
    const tn_gemm_tile *tile = dots[_i];
    enum { N = 101 };
    uint32_t sums[2 * N]; /* as long as any type's */
    float b[N], out[N], swapped[1];
    if (!tile_runs(tile) || !tile->scaled)
        return;
    for (int i = 0; i < N; i++) {
        const float sum = 1000 * rng_f32(&r);
        sums[i] = (uint32_t)rng_u64(&r);
        if (tile->type == TENON_F32)
            memcpy(&sums[i], &sum, sizeof sum);
        b[i] = rng_f32(&r);
    }
    const float a = rng_f32(&r);
    tile->scaled(sums, (double)a, b, N, out);
    for (int i = 0; i < N; i++) {
        const double exact = element_at(sums, tile->type, i) * ((double)a * (double)b[i]);
        ck_assert(out[i] == (float)exact);
        tile->scaled(&sums[i], (double)b[i], &a, 1, swapped);
        ck_assert(swapped[0] == out[i]);
    }
    tile->scaled(sums, (double)a, NULL, N, out);
    ck_assert(out[N - 1] == (float)(element_at(sums, tile->type, N - 1) * (double)a));
    /* In place, as sums of floats are. */
    memcpy(&out[0], &sums[0], sizeof *out);
    tile->scaled(out, (double)a, b, 1, out);
    ck_assert(out[0] == (float)(element_at(sums, tile->type, 0) * ((double)a * (double)b[0])));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("gemm dots");
    TCase *t = tcase_create("dots");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 200);
    tcase_add_loop_test(t, tiles, 0, DOTS);
    tcase_add_loop_test(t, zeros_in_groups, 0, DOTS);
    tcase_add_loop_test(t, vector_times_matrix, 0, DOTS);
    tcase_add_loop_test(t, scaled_sums, 0, DOTS);
    tcase_add_test(t, mistakes_show);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    return run_suite(suite());
}
