/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kernel of every tile family at every level that runs here, bit for bit against a plain
 * chain of fused multiply-adds; buffers end at forbidden pages, so a tail that reads or writes too
 * far faults.
 */
#include "gemm_tiles.h"

#include "guarded.h"
#include "rng.h"
#include "suite.h"

static rng r;

static void setup(void) {
    r = rng_start("gemm kernels");
}

static void fill(void *to, tenon_dtype dtype, int64_t n) {
    if (dtype == TENON_F32) {
        rng_fill_f32(&r, to, n);
    } else if (dtype == TENON_F64) {
        for (int64_t i = 0; i < n; i++)
            ((double *)to)[i] = 2 * rng_unit(&r) - 1;
    } else if (dtype == TENON_F16 || dtype == TENON_BF16) {
        for (int64_t i = 0; i < n; i++) { /* magnitudes around 1, and subnormal f16 */
            const uint16_t sign = (uint16_t)(rng_u64(&r) & 0x8000),
                           low = (uint16_t)rng_below(&r, 0x200);
            ((uint16_t *)to)[i] =
                (uint16_t)(sign |
                           (rng_below(&r, 8) ? (dtype == TENON_F16 ? 0x3a00 : 0x3f00) + low : low));
        }
    } else {
        rng_fill_bytes(&r, to, (size_t)n * type_bytes(dtype));
        keep_finite(to, dtype, n);
    }
}

START_TEST(table_holds) {
    const tn_gemm_tile *tile = all_tiles[_i], *row = &all_rows[_i];
    ck_assert_int_eq(tile->mr, row->mr);
    ck_assert_int_eq(tile->nr, row->nr);
    ck_assert_int_eq(tile->a_panel, row->a_panel);
    ck_assert_int_eq(tile->b_panel, row->b_panel);
    ck_assert_int_eq(tile->group, row->group);
    ck_assert_int_eq(tile->type, row->type);
}
END_TEST

static void check_tile(const tn_gemm_tile *tile, int rows, int cols, int64_t kc,
                       tn_gemm_meet meet) {
    const size_t size = type_bytes(tile->type);
    const int64_t ldc = cols + 3;
    void *a = guard_alloc((size_t)(kc * tile->mr) * size, size, true),
         *b = guard_alloc((size_t)(kc * tile->nr) * size, size, true);
    void *c = guard_alloc((size_t)((rows - 1) * ldc + cols) * size, size, true);
    void *before = malloc((size_t)(rows * ldc) * size);
    fill(a, tile->type, kc * tile->mr);
    fill(b, tile->type, kc * tile->nr);
    fill(c, tile->type, (rows - 1) * ldc + cols);
    memcpy(before, c, (size_t)((rows - 1) * ldc + cols) * size);

    const tn_gemm_ukr_args t = {a, b, c, kc, tile->nr, ldc, rows, cols, meet};
    tile->ukr(&t);
    for (int i = 0; i < rows; i++) {
        for (int64_t j = 0; j < (i + 1 < rows ? ldc : cols); j++) {
            const double old = element_at(before, tile->type, i * ldc + j),
                         got = element_at(c, tile->type, i * ldc + j);
            double want = meet == TN_GEMM_CHAIN ? old : 0;
            for (int64_t p = 0; p < kc && j < cols; p++)
                want = chain_step(tile, element_at(a, tile->type, p * tile->mr + i),
                                  element_at(b, tile->type, p * tile->nr + j), want);
            if (meet == TN_GEMM_ADD)
                want = add_in(tile, old, want);
            if (j >= cols)
                want = old; /* between the rows nothing is written */
            ck_assert_msg(got == want, "%s %dx%d kc %lld meet %d: [%d,%d] is %a, expected %a",
                          tile->name, rows, cols, (long long)kc, (int)meet, i, (int)j, got, want);
        }
    }
    free(before);
    ck_assert(guard_free_all());
}

START_TEST(microkernels) {
    const tn_gemm_tile *tile = all_tiles[_i];
    const int64_t lengths[] = {1, 2, 7, 64, 257};
    if (!tile_runs(tile))
        return;
    for (int rows = 1; rows <= tile->mr; rows++)
        for (int cols = 1; cols <= tile->nr; cols += cols < 4 || cols >= tile->nr - 2 ? 1 : 3)
            for (int meet = TN_GEMM_STORE; meet <= TN_GEMM_CHAIN; meet++)
                check_tile(tile, rows, cols, lengths[rng_below(&r, 5)], (tn_gemm_meet)meet);
}
END_TEST

/*
 * Tiles that copy while they multiply: of four rows at a time, `length` pieces each, into panels as
 * wide as a piece, in calls of uneven shares, some of which have more pieces than steps. What is
 * fetched lies beyond the source, where nothing may be read.
 */
static void check_copying(const tn_gemm_tile *tile, int rows, int64_t length, int64_t runs) {
    enum { SIDE = 4, STEPS = 8 };
    const size_t size = type_bytes(tile->type);
    const int64_t count = SIDE * runs, row = length * tile->nr + 3, panel = count * tile->nr + 5;
    const int64_t bytes = (int64_t)size, piece = tile->nr * bytes;
    void *from = guard_alloc((size_t)((count - 1) * row + length * tile->nr) * size, size, true),
         *to = guard_alloc((size_t)((length - 1) * panel + count * tile->nr) * size, size, true);
    void *a = guard_alloc((size_t)(STEPS * tile->mr) * size, size, true),
         *b = guard_alloc((size_t)(STEPS * tile->nr) * size, size, true),
         *c = guard_alloc((size_t)(rows * tile->nr) * size, size, true);
    fill(from, tile->type, (count - 1) * row + length * tile->nr);
    fill(a, tile->type, STEPS * tile->mr);
    fill(b, tile->type, STEPS * tile->nr);
    tn_gemm_ahead ahead = {
        .from = from,
        .to = to,
        .left = count * length,
        .side = SIDE,
        .length = length,
        .reach = SIDE * row * bytes,
        .read = {row * bytes, piece - (SIDE - 1) * row * bytes, row * bytes - (length - 1) * piece},
        .write = {piece, panel * bytes - (SIDE - 1) * piece, piece - (length - 1) * panel * bytes},
    };
    while (ahead.left) {
        const int64_t before = ahead.left, share = 1 + rng_below(&r, 2 * STEPS);
        const tn_gemm_ukr_args t = {.a = a,
                                    .b = b,
                                    .c = c,
                                    .kc = STEPS,
                                    .ldb = tile->nr,
                                    .ldc = tile->nr,
                                    .rows = rows,
                                    .cols = tile->nr,
                                    .ahead = &ahead,
                                    .pieces = share < before ? share : before};
        tile->ukr(&t);
        ck_assert_int_eq(ahead.left, before - t.pieces);
        for (int i = 0; i < rows * tile->nr; i++) {
            double want = 0;
            for (int64_t p = 0; p < STEPS; p++)
                want = chain_step(tile, element_at(a, tile->type, p * tile->mr + i / tile->nr),
                                  element_at(b, tile->type, p * tile->nr + i % tile->nr), want);
            ck_assert(element_at(c, tile->type, i) == want);
        }
    }
    for (int64_t p = 0; p < count; p++)
        for (int64_t j = 0; j < length * tile->nr; j++)
            ck_assert_msg(
                element_at(from, tile->type, p * row + j) ==
                    element_at(to, tile->type, j / tile->nr * panel + p * tile->nr + j % tile->nr),
                "%s: %d rows, runs of %lld: [%lld,%lld] is not copied", tile->name, rows,
                (long long)length, (long long)p, (long long)j);
    ck_assert(guard_free_all());
}

START_TEST(copying) {
    const tn_gemm_tile *tile = all_tiles[_i];
    if (!tile_runs(tile))
        return;
    for (int rows = 1; rows <= tile->mr; rows++)
        for (int64_t length = 1; length <= 8; length *= 2)
            check_copying(tile, rows, length, 1 + rng_below(&r, 4));
}
END_TEST

/* A product of rows x cols where no operand is dense; each ends at a forbidden page. */
static void check_direct(const tn_gemm_tile *tile, int64_t rows, int64_t cols, int64_t k,
                         bool turned, double alpha, double beta) {
    const size_t size = type_bytes(tile->type);
    const int64_t a_row = turned ? 2 : k + 1, a_column = turned ? 2 * rows + 3 : 1;
    const int64_t ldb = cols + 2, ldc = cols + 3, c_count = (rows - 1) * ldc + cols;
    const int64_t a_count = (rows - 1) * a_row + (k - 1) * a_column + 1,
                  b_count = (k - 1) * ldb + cols;
    void *a = guard_alloc((size_t)a_count * size, size, true),
         *b = guard_alloc((size_t)b_count * size, size, true),
         *c = guard_alloc((size_t)c_count * size, size, true),
         *old = malloc((size_t)c_count * size);
    fill(a, tile->type, a_count);
    fill(b, tile->type, b_count);
    fill(c, tile->type, c_count);
    memcpy(old, c, (size_t)c_count * size);
    /* What lies ahead is only fetched: here what is read and, in runs of two lines, what is written. */
    const tn_gemm_lines ahead[2] = {{b, 64, (int32_t)rng_below(&r, 40), 0},
                                    {c, 192, (int32_t)rng_below(&r, 9), 1}};
    const tn_gemm_direct_args t = {a,
                                   b,
                                   c,
                                   rows,
                                   cols,
                                   k,
                                   a_row,
                                   a_column,
                                   ldb,
                                   ldc,
                                   alpha,
                                   beta,
                                   rng_below(&r, 2) ? ahead : NULL};
    tile->direct(&t);
    for (int64_t i = 0; i < c_count; i++) {
        const int64_t row = i / ldc, j = i % ldc;
        const double before = element_at(old, tile->type, i), got = element_at(c, tile->type, i);
        double want = 0;
        for (int64_t p = 0; p < k && j < cols; p++)
            want = chain_step(tile, element_at(a, tile->type, row * a_row + p * a_column),
                              element_at(b, tile->type, p * ldb + j), want);
        want *= alpha; /* a power of two */
        want = j >= cols ? before : beta != 0 ? chain_step(tile, beta, before, want) : want;
        ck_assert_msg(got == want, "%s %lldx%lldx%lld: [%lld,%lld] is %a, expected %a", tile->name,
                      (long long)rows, (long long)cols, (long long)k, (long long)row, (long long)j,
                      got, want);
    }
    free(old);
    ck_assert(guard_free_all());
}

START_TEST(small_products) {
    const tn_gemm_tile *tile = all_tiles[_i];
    const int64_t lengths[] = {1, 2, 7, 33};
    if (!tile->direct || !tile_runs(tile))
        return;
    for (int64_t rows = 1; rows <= 2 * tile->mr + 1; rows++)
        for (int64_t cols = 1; cols <= 2 * tile->nr + 1; cols += rows < tile->mr ? 1 : 3)
            check_direct(tile, rows, cols, lengths[rng_below(&r, 4)], rng_below(&r, 2),
                         rng_below(&r, 2) ? 1 : -0.5, rng_below(&r, 2) ? 0 : 0.75);
}
END_TEST

/* A wrong chain must show: the same numbers in descending order give other bits. */
START_TEST(order_shows) {
    const tn_gemm_tile *tile = all_tiles[_i];
    double up = 0, down = 0;
    int differ = 0;
    for (int trial = 0; trial < 16; trial++) {
        double x[64], y[64];
        for (int p = 0; p < 64; p++) {
            x[p] = (double)rng_f32(&r);
            y[p] = (double)rng_f32(&r) / 3;
        }
        up = down = 0;
        for (int p = 0; p < 64; p++) {
            up = chain_step(tile, x[p], y[p], up);
            down = chain_step(tile, x[63 - p], y[63 - p], down);
        }
        differ += up != down;
    }
    ck_assert_int_gt(differ, 0);
}
END_TEST

/* Packs a panel whose source ends at a forbidden page, in one of three layouts. */
static void check_pack(const tn_gemm_tile *tile, tenon_dtype dtype, bool of_b, int layout,
                       int valid, int64_t kc) {
    const int width = of_b ? tile->nr : tile->mr;
    tn_gemm_pack_fn *pack = of_b ? tile->pack_b[dtype] : tile->pack_a[dtype];
    const int64_t along = layout == 0   ? 1
                          : layout == 1 ? kc + 5
                                        : 3,
                  across = layout == 0   ? valid + 2
                           : layout == 1 ? 1
                                         : 3 * valid + 1;
    const int64_t extent = (valid - 1) * along + (kc - 1) * across + 1;
    const size_t size = type_bytes(tile->type);
    void *src = guard_alloc((size_t)extent * type_bytes(dtype), type_bytes(dtype), true);
    void *dst = guard_alloc((size_t)(kc * width + TN_GEMM_SLACK) * size, size, true);
    fill(src, dtype, extent);
    const tn_gemm_pack_args t = {src, dst, along, across, kc, valid};
    pack(&t);
    for (int64_t p = 0; p < kc; p++) {
        for (int i = 0; i < width; i++) {
            const double want = i < valid ? element_at(src, dtype, i * along + p * across) : 0;
            const double got = element_at(dst, tile->type, p * width + i);
            ck_assert_msg(got == want,
                          "%s: packing type %d width %d layout %d valid %d kc %lld: [%d,%d] is %a, "
                          "expected %a",
                          tile->name, (int)dtype, width, layout, valid, (long long)kc, i, (int)p,
                          got, want);
        }
    }
    ck_assert(guard_free_all());
}

START_TEST(packing) {
    const tn_gemm_tile *tile = all_tiles[_i];
    if (!tile_runs(tile))
        return;
    for (int dtype = TENON_F64; dtype < TN_GEMM_DTYPES; dtype++) {
        ck_assert_int_eq(tile->pack_a[dtype] == NULL, tile->pack_b[dtype] == NULL);
        for (int of_b = 0; of_b < 2 && tile->pack_a[dtype]; of_b++)
            for (int layout = 0; layout < 3; layout++)
                for (int valid = 1; valid <= (of_b ? tile->nr : tile->mr); valid++)
                    check_pack(tile, (tenon_dtype)dtype, of_b, layout, valid,
                               1 + rng_below(&r, 40));
    }
}
END_TEST

static void check_gemv(const tn_gemm_tile *tile, tenon_dtype dtype, bool by_rows, int64_t rows,
                       int64_t n, int64_t k, bool chain) {
    enum { BLOCK = 64 };
    const int64_t row = by_rows ? n + 1 : 1, column = by_rows ? 1 : k + 2, a_step = k + 1,
                  y_step = n + 3;
    const int64_t extent = (k - 1) * row + (n - 1) * column + 1, y_extent = (rows - 1) * y_step + n;
    const size_t size = type_bytes(tile->type);
    void *a = guard_alloc((size_t)((rows - 1) * a_step + k) * size, size, true);
    void *b = guard_alloc((size_t)extent * type_bytes(dtype), type_bytes(dtype), true);
    void *y = guard_alloc((size_t)y_extent * size, size, true),
         *scratch = guard_alloc((size_t)(rows * n) * size, size, true);
    void *before = malloc((size_t)y_extent * size);
    fill(a, tile->type, (rows - 1) * a_step + k);
    fill(b, dtype, extent);
    fill(y, tile->type, y_extent);
    memcpy(before, y, (size_t)y_extent * size);
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
                            .chain = chain};
    tile->gemv[dtype](&t);
    for (int64_t e = 0; e < y_extent; e++) {
        const int64_t i = e / y_step, j = e % y_step;
        double want = element_at(before, tile->type, e);
        for (int64_t start = 0; start < k && j < n; start += BLOCK) {
            double sum = start || !chain ? 0 : want;
            for (int64_t p = start; p < k && p < start + BLOCK; p++)
                sum = chain_step(tile, element_at(a, tile->type, i * a_step + p),
                                 element_at(b, dtype, p * row + j * column), sum);
            want = start ? add_in(tile, want, sum) : sum;
        }
        const double got = element_at(y, tile->type, e);
        ck_assert_msg(
            got == want,
            "%s: gemv type %d by_rows %d rows %lld n %lld k %lld: [%lld,%lld] is %a, expected %a",
            tile->name, (int)dtype, by_rows, (long long)rows, (long long)n, (long long)k,
            (long long)i, (long long)j, got, want);
    }
    free(before);
    ck_assert(guard_free_all());
}

START_TEST(vector_times_matrix) {
    const tn_gemm_tile *tile = all_tiles[_i];
    const int64_t lengths[] = {1, 7, 8, 63, 64, 65, 200};
    if (!tile_runs(tile))
        return;
    for (int dtype = TENON_F64; dtype < TN_GEMM_DTYPES; dtype++)
        for (int by_rows = 0; by_rows < 2 && tile->gemv[dtype]; by_rows++)
            for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
                for (int64_t n = 2; n <= 2 * tile->nr + 3; n += n < 6 ? 1 : 5)
                    check_gemv(tile, (tenon_dtype)dtype, by_rows, 1 + rng_below(&r, 9), n,
                               lengths[l], (n + (int64_t)l) % 2);
}
END_TEST

/* Reading is exact; writing gives the nearest value, ties to even, or what the type's rules say. */
static void check_store(const tn_gemm_tile *tile, tenon_dtype dtype, const void *values,
                        int64_t n) {
    const size_t size = type_bytes(dtype);
    unsigned char *out = guard_alloc((size_t)n * size, size, true),
                  *spread = guard_alloc((size_t)(3 * n) * size, size, false);
    tile->store[dtype](values, n, out, 1);
    memset(spread, 0, (size_t)(3 * n) * size);
    tile->store[dtype](values, n, spread, 3);
    for (int64_t i = 0; i < n; i++) {
        const double x = element_at(values, tile->type, i), got = element_at(out, dtype, i);
        ck_assert_msg(memcmp(out + (size_t)i * size, spread + (size_t)(3 * i) * size, size) == 0 ||
                          got != got,
                      "%s: type %d: %a is stored in two ways", tile->name, (int)dtype, x);
        if (dtype >= TENON_S8) {
            const double low = dtype == TENON_U8 ? 0 : dtype == TENON_S8 ? -128 : -2147483648.0;
            const double high = dtype == TENON_U8 ? 255 : dtype == TENON_S8 ? 127 : 2147483647.0;
            ck_assert_msg(got == (x != x ? 0 : rint(fmin(fmax(x, low), high))),
                          "%s: type %d: %a became %a", tile->name, (int)dtype, x, got);
            continue;
        }
        ck_assert_int_eq(x != x, got != got);
        if (x != x)
            continue;
        ck_assert_int_eq(signbit(x) != 0, signbit(got) != 0);
        if (dtype == TENON_F64 || (dtype == TENON_F32)) {
            ck_assert(got == (dtype == TENON_F64 ? x : (double)(float)x));
            continue;
        }
        /* Narrow floats: by the neighbours of what was written, in the type's own order of bits. */
        const bool byte = size == 1;
        const uint32_t bits = byte ? out[i] : (uint32_t)((uint16_t *)(void *)out)[i],
                       sign = byte ? 0x80 : 0x8000;
        const uint32_t magnitude = bits & (sign - 1);
        const uint32_t largest = dtype == TENON_F8_E4M3   ? 0x7e
                                 : dtype == TENON_F8_E5M2 ? 0x7b
                                 : dtype == TENON_F16     ? 0x7bff
                                                          : 0x7f7f;
        uint16_t wide[3];
        uint8_t narrow[3];
        double around[3];
        for (int s = 0; s < 3; s++) {
            narrow[s] = (uint8_t)(magnitude + (uint32_t)s - 1);
            wide[s] = (uint16_t)(magnitude + (uint32_t)s - 1);
            around[s] = element_at(byte ? (void *)narrow : (void *)wide, dtype, s);
        }
        const double ax = fabs(x);
        if (magnitude > largest) { /* infinity: half a step beyond the largest, at least */
            const double top = element_at(&(uint16_t){(uint16_t)largest}, dtype, 0),
                         below = element_at(&(uint16_t){(uint16_t)(largest - 1)}, dtype, 0);
            ck_assert_msg(!byte && ax >= top + (top - below) / 2, "%s: type %d: %a became %a",
                          tile->name, (int)dtype, x, got);
            continue;
        }
        const double down = magnitude ? (around[0] + around[1]) / 2 : 0;
        double up = (around[1] + around[2]) / 2;
        if (magnitude == largest)
            up = byte ? INFINITY : around[1] + (around[1] - around[0]) / 2;
        const bool even = !(magnitude & 1);
        ck_assert_msg((ax > down || (even && ax == down)) && (ax < up || (even && ax == up)),
                      "%s: type %d: %a became %a", tile->name, (int)dtype, x, got);
    }
    ck_assert(guard_free_all());
}

START_TEST(rows_of_every_type) {
    const tn_gemm_tile *tile = all_tiles[_i];
    enum { N = 2003 };
    double wide[N];
    float narrow[N];
    if (!tile_runs(tile))
        return;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++) {
            const uint64_t bits = rng_u64(&r);
            if (i % 3 == 0) { /* any bits */
                memcpy(&wide[i], &bits, 8);
                memcpy(&narrow[i], &bits, 4);
            } else { /* exponents of the narrow types, few fraction bits: ties are common */
                wide[i] =
                    ldexp((double)(int64_t)(bits & 0x3fff) - 0x2000, (int)(bits >> 32 & 31) - 26);
                narrow[i] = (float)wide[i];
            }
        }
        for (int dtype = TENON_F64; dtype < TN_GEMM_DTYPES; dtype++)
            check_store(tile, (tenon_dtype)dtype,
                        tile->type == TENON_F64 ? (void *)wide : (void *)narrow, N);
    }
    for (int dtype = TENON_F16; dtype < TENON_S32; dtype++) { /* all values */
        const int count = type_bytes((tenon_dtype)dtype) == 2 ? 65536 : 256;
        void *all = malloc(65536 * 2), *out = guard_alloc(65536 * 8, 8, true);
        for (int i = 0; i < count; i++) {
            if (count == 256)
                ((uint8_t *)all)[i] = (uint8_t)i;
            else
                ((uint16_t *)all)[i] = (uint16_t)i;
        }
        tile->load[dtype](all, 1, count, out);
        for (int i = 0; i < count; i++) {
            const double want = element_at(all, (tenon_dtype)dtype, i),
                         got = element_at(out, tile->type, i);
            ck_assert_msg(got == want || (got != got && want != want),
                          "%s: type %d: bits %x read as %a, expected %a", tile->name, dtype,
                          (unsigned)i, got, want);
        }
        free(all);
        ck_assert(guard_free(out));
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("gemm kernels");
    TCase *t = tcase_create("tiles");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 200);
    tcase_add_loop_test(t, table_holds, 0, TILES);
    tcase_add_loop_test(t, microkernels, 0, TILES);
    tcase_add_loop_test(t, copying, 0, TILES);
    tcase_add_loop_test(t, small_products, 0, TILES);
    tcase_add_loop_test(t, order_shows, 0, TILES);
    tcase_add_loop_test(t, packing, 0, TILES);
    tcase_add_loop_test(t, vector_times_matrix, 0, TILES);
    tcase_add_loop_test(t, rows_of_every_type, 0, TILES);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    return run_suite(suite());
}
