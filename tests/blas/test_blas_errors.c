/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wrong arguments: the handler of the process is told the routine and the number of the parameter, as the
 * reference BLAS counts it, and nothing is written. Compiled twice: with handlers, and without (SILENT), where
 * the call must do nothing at all.
 */
#include "blas_faces.h"
#include "suite.h"

#include <stdio.h>
#include <string.h>

/* What the last handler was told. */
static int told, told_by;
static char told_routine[16];

enum { BY_XERBLA = 1, BY_CBLAS = 2, WIDE = 16 };

#ifndef SILENT
static void tell(int by, int64_t parameter, const char *routine, size_t length) {
    told_by = by;
    told = (int)parameter;
    snprintf(told_routine, sizeof told_routine, "%.*s", (int)length, routine);
}

void xerbla_(const char *routine, const int32_t *parameter, size_t length);
void xerbla_(const char *routine, const int32_t *parameter, size_t length) {
    tell(BY_XERBLA, *parameter, routine, length);
}
void xerbla_64_(const char *routine, const int64_t *parameter, size_t length);
void xerbla_64_(const char *routine, const int64_t *parameter, size_t length) {
    tell(BY_XERBLA | WIDE, *parameter, routine, length);
}
void cblas_xerbla(int32_t parameter, const char *routine, const char *format, ...);
void cblas_xerbla(int32_t parameter, const char *routine, const char *format, ...) {
    (void)format;
    tell(BY_CBLAS, parameter, routine, strlen(routine));
}
void cblas_xerbla64_(int64_t parameter, const char *routine, const char *format, ...);
void cblas_xerbla64_(int64_t parameter, const char *routine, const char *format, ...) {
    (void)format;
    tell(BY_CBLAS | WIDE, parameter, routine, strlen(routine));
}
#endif

/* As the handler of this face should be told; by C's if it is about what Fortran does not have. */
static void expect(face f, bool by_c, int parameter, const char *routine, const char *what) {
#ifdef SILENT
    ck_assert_int_eq(told, 0);
    (void)f;
    (void)by_c;
    (void)parameter;
    (void)routine;
    (void)what;
#else
    const int by = (by_c ? BY_CBLAS : BY_XERBLA) | (face_is_wide(f) ? WIDE : 0);
    ck_assert_msg(told == parameter && told_by == by && strcmp(told_routine, routine) == 0,
                  "%s, name %d: told %d of %s by %d, expected %d of %s by %d", what, (int)f, told,
                  told_routine, told_by, parameter, routine, by);
#endif
    told = told_by = 0;
    told_routine[0] = 0;
}

/* One wrong call of GEMM with operands of the size 3 by 3. */
static void wrong_gemm(face f, gemm_call g, bool by_c, int parameter, const char *what) {
    double a[9] = {1, 2, 3}, b[9] = {4, 5, 6}, c[9] = {7, 8, 9, 7, 8, 9, 7, 8, 9}, before[9];
    memcpy(before, c, sizeof c);
    g.a = a;
    g.b = b;
    g.c = c;
    face_gemm(f, &g);
    char routine[16];
    snprintf(routine, sizeof routine, by_c ? "cblas_%cgemm" : "%cGEMM ",
             by_c ? (g.single ? 's' : 'd') : (g.single ? 'S' : 'D'));
    expect(f, by_c, parameter, routine, what);
    ck_assert_mem_eq(c, before, sizeof c);
}

static void wrong_gemv(face f, gemv_call g, bool by_c, int parameter, const char *what) {
    double a[9] = {1, 2, 3}, x[9] = {4, 5, 6}, y[9] = {7, 8, 9}, before[9];
    memcpy(before, y, sizeof y);
    g.a = a;
    g.x = x;
    g.y = y;
    face_gemv(f, &g);
    char routine[16];
    snprintf(routine, sizeof routine, by_c ? "cblas_%cgemv" : "%cGEMV ",
             by_c ? (g.single ? 's' : 'd') : (g.single ? 'S' : 'D'));
    expect(f, by_c, parameter, routine, what);
    ck_assert_mem_eq(y, before, sizeof y);
}

#define GEMM(...)                                                                                  \
    ((gemm_call){.single = single,                                                                 \
                 .transa = 'N',                                                                    \
                 .transb = 'N',                                                                    \
                 .m = 3,                                                                           \
                 .n = 2,                                                                           \
                 .k = 1,                                                                           \
                 .lda = 3,                                                                         \
                 .ldb = 3,                                                                         \
                 .ldc = 3,                                                                         \
                 .alpha = 1,                                                                       \
                 .beta = 2,                                                                        \
                 __VA_ARGS__})
#define GEMV(...)                                                                                  \
    ((gemv_call){.single = single,                                                                 \
                 .trans = 'N',                                                                     \
                 .m = 3,                                                                           \
                 .n = 2,                                                                           \
                 .lda = 3,                                                                         \
                 .incx = 1,                                                                        \
                 .incy = 1,                                                                        \
                 .alpha = 1,                                                                       \
                 .beta = 2,                                                                        \
                 __VA_ARGS__})
/* Later fields win on purpose. */
#pragma GCC diagnostic ignored "-Woverride-init"

/* Numbers of the Fortran call that is made: by rows A and B, m and n change places, as in the reference CBLAS. */
START_TEST(gemm) {
    for (int which = 0; which < 2 * FACES; which++) {
        const bool single = which & 1;
        const face f = (face)(which / 2);
        const bool fortran = face_is_fortran(f);
        wrong_gemm(f, GEMM(.transa = 'X'), !fortran, fortran ? 1 : 2, "transa");
        wrong_gemm(f, GEMM(.transb = '?'), !fortran, fortran ? 2 : 3, "transb");
        wrong_gemm(f, GEMM(.m = -1), false, 3, "m");
        wrong_gemm(f, GEMM(.n = -1), false, 4, "n");
        wrong_gemm(f, GEMM(.k = -1), false, 5, "k");
        wrong_gemm(f, GEMM(.lda = 2), false, 8, "lda");
        wrong_gemm(f, GEMM(.transa = 'T', .k = 4), false, 8, "lda of a transposed A");
        wrong_gemm(f, GEMM(.ldb = 0), false, 10, "ldb");
        wrong_gemm(f, GEMM(.transb = 'C', .n = 4), false, 10, "ldb of a transposed B");
        wrong_gemm(f, GEMM(.ldc = 2), false, 13, "ldc");
        wrong_gemm(f, GEMM(.m = 0, .n = 0, .k = 0, .ldc = 0), false, 13, "ldc of nothing");
        wrong_gemm(f, GEMM(.m = -1, .n = -1, .lda = 0), false, 3, "the first of several");
        if (fortran)
            continue;
        wrong_gemm(f, GEMM(.rows = true, .m = -1), false, 4, "m, rows");
        wrong_gemm(f, GEMM(.rows = true, .n = -1), false, 3, "n, rows");
        wrong_gemm(f, GEMM(.rows = true, .lda = 0), false, 10, "lda, rows");
        wrong_gemm(f, GEMM(.rows = true, .ldb = 1), false, 8, "ldb, rows");
        wrong_gemm(f, GEMM(.rows = true, .ldc = 1), false, 13, "ldc, rows");
    }
}
END_TEST

START_TEST(gemv) {
    for (int which = 0; which < 2 * FACES; which++) {
        const bool single = which & 1;
        const face f = (face)(which / 2);
        const bool fortran = face_is_fortran(f);
        wrong_gemv(f, GEMV(.trans = 'X'), !fortran, fortran ? 1 : 2, "trans");
        wrong_gemv(f, GEMV(.m = -1), false, 2, "m");
        wrong_gemv(f, GEMV(.n = -1), false, 3, "n");
        wrong_gemv(f, GEMV(.lda = 2), false, 6, "lda");
        wrong_gemv(f, GEMV(.incx = 0), false, 8, "incx");
        wrong_gemv(f, GEMV(.incy = 0), false, 11, "incy");
        wrong_gemv(f, GEMV(.m = 0, .n = 0, .incy = 0), false, 11, "incy of nothing");
        if (fortran)
            continue;
        wrong_gemv(f, GEMV(.rows = true, .m = -1), false, 3, "m, rows");
        wrong_gemv(f, GEMV(.rows = true, .lda = 1), false, 6, "lda, rows");
    }
}
END_TEST

void cblas_dgemm(int, int, int, int32_t, int32_t, int32_t, double, const double *, int32_t,
                 const double *, int32_t, double, double *, int32_t);
void cblas_dgemm64_(int, int, int, int64_t, int64_t, int64_t, double, const double *, int64_t,
                    const double *, int64_t, double, double *, int64_t);
void cblas_sgemv(int, int, int32_t, int32_t, float, const float *, int32_t, const float *, int32_t,
                 float, float *, int32_t);

START_TEST(layout) {
    const double a = 2, b = 3;
    double c = 7;
    cblas_dgemm(-1, 111, 111, 1, 1, 1, 1, &a, 1, &b, 1, 0, &c, 1);
    expect(C_32, true, 1, "cblas_dgemm", "layout");
    cblas_dgemm64_(0, 111, 111, 1, 1, 1, 1, &a, 1, &b, 1, 0, &c, 1);
    expect(C_64, true, 1, "cblas_dgemm", "layout");
    const float u = 2, v = 3;
    float w = 7;
    cblas_sgemv(103, 111, 1, 1, 1, &u, 1, &v, 1, 0, &w, 1);
    expect(C_32, true, 1, "cblas_sgemv", "layout");
    ck_assert(c == 7 && w == 7);
    /* The number of a conjugated matrix that is not transposed: as OpenBLAS has it. */
    cblas_dgemm(101, 114, 111, 1, 1, 1, 1, &a, 1, &b, 1, 0, &c, 1);
    ck_assert(c == 6 && told == 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("blas_errors");
    TCase *test = tcase_create("errors");
    tcase_add_test(test, gemm);
    tcase_add_test(test, gemv);
    tcase_add_test(test, layout);
    suite_add_tcase(suite, test);
    return run_suite(suite);
}
