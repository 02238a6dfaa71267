/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every name, layout, transpose and size of GEMM and GEMV, with the alphas, betas and increments that BLAS treats
 * apart: results to the bit, and nothing read or written that should not be.
 */
#include "blas_case.h"
#include "suite.h"

#include <math.h>

typedef struct scalars {
    double alpha, beta;
} scalars;

static const scalars usual[] = {{1, 0}, {-0.75, 0}, {1, 1}, {1.5, -0.5}, {0, 0}, {0, 2.5}, {0, 1}};
enum { USUAL = sizeof usual / sizeof *usual };

static const char letters[] = "NTCntc";

/* All names in turn, so that each meets every kind of case. Fortran's know no rows. */
static face next_face(int *turn, bool rows) {
    face f;
    do
        f = (face)((*turn)++ % FACES);
    while (rows && face_is_fortran(f));
    return f;
}

static void try_gemm(rng *r, face f, const gemm_call *g) {
    blas_case x;
    gemm_case_make(&x, r, g);
    blas_case_call(&x, f);
    const char *bad = blas_case_check(&x);
    ck_assert_msg(
        !bad, "%s gemm, name %d, %s %c%c, %lld %lld %lld, ld %lld %lld %lld, alpha %g, beta %g: %s",
        g->single ? "single" : "double", (int)f, g->rows ? "rows" : "columns", g->transa, g->transb,
        (long long)g->m, (long long)g->n, (long long)g->k, (long long)g->lda, (long long)g->ldb,
        (long long)g->ldc, g->alpha, g->beta, bad);
    ck_assert(blas_case_end(&x));
}

static void try_gemv(rng *r, face f, const gemv_call *g) {
    blas_case x;
    gemv_case_make(&x, r, g);
    blas_case_call(&x, f);
    const char *bad = blas_case_check(&x);
    ck_assert_msg(
        !bad, "%s gemv, name %d, %s %c, %lld %lld, lda %lld, inc %lld %lld, alpha %g, beta %g: %s",
        g->single ? "single" : "double", (int)f, g->rows ? "rows" : "columns", g->trans,
        (long long)g->m, (long long)g->n, (long long)g->lda, (long long)g->incx, (long long)g->incy,
        g->alpha, g->beta, bad);
    ck_assert(blas_case_end(&x));
}

static bool plain(char letter) {
    return letter == 'N' || letter == 'n';
}

static int64_t at_least_1(int64_t x) {
    return x > 1 ? x : 1;
}

/* The least leading dimensions that are allowed, and `more`. */
static void set_lds(gemm_call *g, int64_t more) {
    g->lda = at_least_1(plain(g->transa) == g->rows ? g->k : g->m) + more;
    g->ldb = at_least_1(plain(g->transb) == g->rows ? g->n : g->k) + more;
    g->ldc = at_least_1(g->rows ? g->n : g->m) + more;
}

START_TEST(gemm) {
    static const int64_t shapes[][3] = {{1, 1, 1},   {2, 3, 4},    {4, 4, 4},   {1, 37, 19},
                                        {37, 1, 19}, {5, 7, 0},    {0, 4, 3},   {4, 0, 3},
                                        {17, 33, 8}, {33, 17, 70}, {8, 8, 256}, {9, 10, 257},
                                        {3, 2, 700}, {70, 65, 40}, {6, 16, 1},  {2, 90, 300}};
    rng r = rng_start("gemm");
    int turn = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (int how = 0; how < 4 * 2 * 2 * USUAL; how++) {
            gemm_call g = {.single = how & 1,
                           .rows = how >> 1 & 1,
                           .m = shapes[s][0],
                           .n = shapes[s][1],
                           .k = shapes[s][2]};
            const int transposes = how >> 2 & 3, which = how >> 4;
            g.transa = letters[(transposes & 1) * (1 + turn % 2) + 3 * (turn / 2 % 2)];
            g.transb = letters[(transposes >> 1) * (1 + turn / 4 % 2) + 3 * (turn / 8 % 2)];
            g.alpha = usual[which].alpha;
            g.beta = usual[which].beta;
            set_lds(&g, rng_below(&r, 3));
            try_gemm(&r, next_face(&turn, g.rows), &g);
        }
    }
}
END_TEST

/* What tenon refuses: BLAS has no such rules. */
START_TEST(gemm_not_finite) {
    static const scalars odd[] = {{INFINITY, 0}, {-INFINITY, 1}, {NAN, 0.5},
                                  {1, INFINITY}, {2, NAN},       {0, NAN}};
    rng r = rng_start("gemm_not_finite");
    int turn = 0;
    for (size_t s = 0; s < sizeof odd / sizeof *odd; s++) {
        for (int how = 0; how < 4; how++) {
            gemm_call g = {.single = how & 1,
                           .rows = how >> 1,
                           .transa = 'N',
                           .transb = 'T',
                           .m = 7,
                           .n = 9,
                           .k = 300,
                           .alpha = odd[s].alpha,
                           .beta = odd[s].beta};
            set_lds(&g, 1);
            try_gemm(&r, next_face(&turn, g.rows), &g);
        }
    }
}
END_TEST

START_TEST(gemv) {
    static const int64_t shapes[][2] = {{1, 1}, {4, 4},    {1, 30},   {30, 1},  {0, 5},
                                        {5, 0}, {17, 300}, {300, 17}, {64, 64}, {3, 1000}};
    static const int64_t increments[] = {1, -1, 2, -3};
    rng r = rng_start("gemv");
    int turn = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (int how = 0; how < 4 * 4 * 2 * 2 * 2 * USUAL; how++) {
            gemv_call g = {
                .single = how & 1, .rows = how >> 1 & 1, .m = shapes[s][0], .n = shapes[s][1]};
            const int which = how >> 7;
            g.trans = letters[(how >> 2 & 1) * (1 + turn % 2) + 3 * (turn / 2 % 2)];
            g.incx = increments[how >> 3 & 3];
            g.incy = increments[how >> 5 & 3];
            g.alpha = usual[which].alpha;
            g.beta = usual[which].beta;
            g.lda = at_least_1(g.rows ? g.n : g.m) + rng_below(&r, 3);
            try_gemv(&r, next_face(&turn, g.rows), &g);
        }
    }
}
END_TEST

/* Operands inside one array, as LAPACK has them: the blocks of a matrix that is factorised in place. */
START_TEST(blocks_of_one_matrix) {
    enum { N = 48, CUT = 16 };
    rng r = rng_start("blocks_of_one_matrix");
    double whole[N * N], before[N * N];
    for (int i = 0; i < N * N; i++)
        before[i] = whole[i] = (double)rng_f32(&r);
    /* A22 = A22 - A21 A12, columns contiguous. */
    const gemm_call g = {.transa = 'N',
                         .transb = 'N',
                         .m = N - CUT,
                         .n = N - CUT,
                         .k = CUT,
                         .lda = N,
                         .ldb = N,
                         .ldc = N,
                         .alpha = -1,
                         .beta = 1,
                         .a = whole + CUT,
                         .b = whole + CUT * N,
                         .c = whole + CUT * N + CUT};
    face_gemm(FORTRAN_32, &g);
    for (int j = 0; j < N; j++) {
        for (int i = 0; i < N; i++) {
            double sum = 0;
            for (int p = 0; p < CUT; p++)
                sum = fma(before[p * N + i], before[j * N + p], sum);
            const bool inside = i >= CUT && j >= CUT;
            const double wanted = inside ? before[j * N + i] - sum : before[j * N + i];
            ck_assert_msg(whole[j * N + i] == wanted, "(%d, %d) is %g, expected %g", i, j,
                          whole[j * N + i], wanted);
        }
    }
}
END_TEST

/* Fortran programs have COMMON blocks. */
START_TEST(unaligned) {
    rng r = rng_start("unaligned");
    static char memory[3][8 * 8 * 8 + 8];
    double a[64], b[64], c[64];
    for (int i = 0; i < 64; i++) {
        a[i] = (double)rng_f32(&r);
        b[i] = (double)rng_f32(&r);
    }
    memcpy(memory[0] + 4, a, sizeof a);
    memcpy(memory[1] + 4, b, sizeof b);
    const gemm_call g = {.transa = 'N',
                         .transb = 'N',
                         .m = 8,
                         .n = 8,
                         .k = 8,
                         .lda = 8,
                         .ldb = 8,
                         .ldc = 8,
                         .alpha = 1,
                         .a = memory[0] + 4,
                         .b = memory[1] + 4,
                         .c = memory[2] + 4};
    gemm_call aligned = g;
    aligned.a = a;
    aligned.b = b;
    aligned.c = c;
    face_gemm(FORTRAN_64, &g);
    face_gemm(FORTRAN_64, &aligned);
    ck_assert_mem_eq(memory[2] + 4, c, sizeof c);
}
END_TEST

/* The check must be able to fail. */
START_TEST(controls) {
    rng r = rng_start("controls");
    gemm_call g = {.single = true,
                   .transa = 'N',
                   .transb = 'N',
                   .m = 5,
                   .n = 6,
                   .k = 7,
                   .alpha = 1,
                   .beta = 1};
    blas_case x;
    set_lds(&g, 1);
    gemm_case_make(&x, &r, &g);
    ck_assert(blas_case_check(&x)); /* not called at all */
    blas_case_call(&x, FORTRAN_32);
    ck_assert(!blas_case_check(&x));
    float *c = x.c;
    c[5] += 1; /* between two columns */
    ck_assert(blas_case_check(&x));
    c[5] -= 1;
    c[0] = nextafterf(c[0], 100); /* one bit */
    ck_assert(blas_case_check(&x));
    blas_case_again(&x);
    x.gemm.transb = 'T';
    x.gemm.ldb = 7;
    blas_case_call(&x, FORTRAN_32);
    x.gemm.transb = 'N';
    ck_assert(blas_case_check(&x));
    ck_assert(blas_case_end(&x));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("blas_values");
    TCase *test = tcase_create("values");
    tcase_set_timeout(test, 120);
    tcase_add_test(test, controls);
    tcase_add_test(test, gemm);
    tcase_add_test(test, gemm_not_finite);
    tcase_add_test(test, gemv);
    tcase_add_test(test, blocks_of_one_matrix);
    tcase_add_test(test, unaligned);
    suite_add_tcase(suite, test);
    return run_suite(suite);
}
