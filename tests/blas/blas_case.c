/* SPDX-License-Identifier: Apache-2.0 */
/* blas_case.c: see blas_case.h. */
#include "blas_case.h"

#include "bounds.h"
#include "guarded.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK = 256 };

/* An operand as element (i, j) = at[start + i row + j column]. */
typedef struct view {
    const void *at;
    int64_t start, row, column;
} view;

static size_t element(bool single) {
    return single ? sizeof(float) : sizeof(double);
}

static double get(bool single, const void *at, int64_t i) {
    return single ? (double)((const float *)at)[i] : ((const double *)at)[i];
}

static void put(bool single, void *at, int64_t i, double value) {
    if (single)
        ((float *)at)[i] = (float)value;
    else
        ((double *)at)[i] = value;
}

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Elements of a matrix of `lines` lines of `length` elements, the last without what follows it. */
static int64_t matrix_elements(int64_t lines, int64_t length, int64_t ld) {
    return lines > 0 && length > 0 ? (lines - 1) * ld + length : 0;
}

static int64_t vector_elements(int64_t n, int64_t increment) {
    return n > 0 ? 1 + (n - 1) * (increment < 0 ? -increment : increment) : 0;
}

static void *operand(bool single, rng *r, int64_t elements, bool unread) {
    void *memory =
        guard_alloc((size_t)max64(elements, 1) * element(single), element(single), rng_u64(r) & 1);
    for (int64_t i = 0; i < elements; i++)
        put(single, memory, i, unread ? NAN : (double)rng_f32(r));
    return memory;
}

static bool is_plain(char transpose) {
    return transpose == 'N' || transpose == 'n';
}

static void add_c(blas_case *x, rng *r, bool single, int64_t elements, double beta) {
    x->c_elements = elements;
    x->c = operand(single, r, elements, beta == 0);
    x->c_before = guard_alloc((size_t)max64(elements, 1) * element(single), element(single), true);
    memcpy(x->c_before, x->c, (size_t)elements * element(single));
}

void gemm_case_make(blas_case *x, rng *r, const gemm_call *call) {
    gemm_call *g = &x->gemm;
    memset(x, 0, sizeof *x);
    *g = *call;
    /* Lines are rows or columns, whichever is contiguous. */
    const bool a_long = is_plain(g->transa) == g->rows, b_long = is_plain(g->transb) == g->rows;
    const bool unread = g->alpha == 0;
    x->a = operand(g->single, r,
                   matrix_elements(a_long ? g->m : g->k, a_long ? g->k : g->m, g->lda), unread);
    x->b = operand(g->single, r,
                   matrix_elements(b_long ? g->k : g->n, b_long ? g->n : g->k, g->ldb), unread);
    add_c(x, r, g->single, matrix_elements(g->rows ? g->m : g->n, g->rows ? g->n : g->m, g->ldc),
          g->beta);
    g->a = x->a;
    g->b = x->b;
    g->c = x->c;
}

void gemv_case_make(blas_case *x, rng *r, const gemv_call *call) {
    gemv_call *g = &x->gemv;
    memset(x, 0, sizeof *x);
    x->is_gemv = true;
    *g = *call;
    const bool plain = is_plain(g->trans), unread = g->alpha == 0;
    x->a = operand(g->single, r,
                   matrix_elements(g->rows ? g->m : g->n, g->rows ? g->n : g->m, g->lda), unread);
    x->b = operand(g->single, r, vector_elements(plain ? g->n : g->m, g->incx), unread);
    add_c(x, r, g->single, vector_elements(plain ? g->m : g->n, g->incy), g->beta);
    g->a = x->a;
    g->x = x->b;
    g->y = x->c;
}

void blas_case_again(blas_case *x) {
    const bool single = x->is_gemv ? x->gemv.single : x->gemm.single;
    memcpy(x->c, x->c_before, (size_t)x->c_elements * element(single));
}

void blas_case_call(const blas_case *x, face f) {
    if (x->is_gemv)
        face_gemv(f, &x->gemv);
    else
        face_gemm(f, &x->gemm);
}

/* ---- what must come out ---- */

typedef struct work {
    bool single;
    int64_t m, n, k;
    double alpha, beta;
    view a, b, c;
} work;

static int64_t index_of(const view *v, int64_t i, int64_t j) {
    return v->start + i * v->row + j * v->column;
}

static view matrix(const void *at, bool rows, int64_t ld) {
    return rows ? (view){at, 0, ld, 1} : (view){at, 0, 1, ld};
}

/* A vector as a column, its first element the last in memory if the increment is negative. */
static view column(const void *at, int64_t n, int64_t increment) {
    return (view){at, increment < 0 && n > 0 ? (1 - n) * increment : 0, increment, 0};
}

static work work_of(const blas_case *x) {
    if (x->is_gemv) {
        const gemv_call *g = &x->gemv;
        const bool plain = is_plain(g->trans);
        const int64_t m = plain ? g->m : g->n, k = plain ? g->n : g->m;
        /* Without a row or a column nothing is done, not even y scaled. */
        return (work){.single = g->single,
                      .m = k > 0 ? m : 0,
                      .n = 1,
                      .k = k,
                      .alpha = g->alpha,
                      .beta = g->beta,
                      .a = matrix(g->a, g->rows == plain, g->lda),
                      .b = column(g->x, k, g->incx),
                      .c = column(x->c_before, m, g->incy)};
    }
    const gemm_call *g = &x->gemm;
    return (work){.single = g->single,
                  .m = g->m,
                  .n = g->n,
                  .k = g->k,
                  .alpha = g->alpha,
                  .beta = g->beta,
                  .a = matrix(g->a, g->rows == is_plain(g->transa), g->lda),
                  .b = matrix(g->b, g->rows == is_plain(g->transb), g->ldb),
                  .c = matrix(x->c_before, g->rows, g->ldc)};
}

/* One element, to the bit. */
static double exact_bits(const work *w, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t start = 0; start < w->k && w->alpha != 0; start += BLOCK) {
        double part = 0;
        for (int64_t p = start; p < w->k && p < start + BLOCK; p++) {
            const double a = get(w->single, w->a.at, index_of(&w->a, i, p)),
                         b = get(w->single, w->b.at, index_of(&w->b, p, j));
            part = w->single ? (double)fmaf((float)a, (float)b, (float)part) : fma(a, b, part);
        }
        sum = w->single ? (double)((float)sum + (float)part) : sum + part;
    }
    if (w->alpha != 0 && w->k > 0)
        sum = w->single ? (double)((float)w->alpha * (float)sum) : w->alpha * sum;
    if (w->beta == 0)
        return sum;
    const double c = get(w->single, w->c.at, index_of(&w->c, i, j));
    return w->single ? (double)fmaf((float)w->beta, (float)c, (float)sum) : fma(w->beta, c, sum);
}

static bool within_bound(const work *w, int64_t i, int64_t j, double value) {
    const tenon_dtype dtype = w->single ? TENON_F32 : TENON_F64;
    bound_gemm_element e = {.k = w->k, .accumulate = dtype, .c_scale = 1};
    double sum = 0;
    for (int64_t p = w->k - 1; p >= 0 && w->alpha != 0; p--) {
        const double product = get(w->single, w->a.at, index_of(&w->a, i, p)) *
                               get(w->single, w->b.at, index_of(&w->b, p, j));
        sum += product;
        e.products[0] += fabs(product);
    }
    sum *= w->alpha;
    e.products[0] *= fabs(w->alpha);
    if (w->beta != 0) {
        const double addend = w->beta * get(w->single, w->c.at, index_of(&w->c, i, j));
        sum += addend;
        e.addends[0] = fabs(addend);
    }
    return bound_holds(dtype, value, sum, bound_gemm(&e));
}

const char *blas_case_check(const blas_case *x) {
    static char sentence[256];
    const work w = work_of(x);
    const size_t size = element(w.single);
    char *wanted = guard_alloc((size_t)max64(x->c_elements, 1) * size, 8, true);
    const char *bad = NULL;
    memcpy(wanted, x->c_before, (size_t)x->c_elements * size);
    for (int64_t i = 0; i < w.m; i++) {
        for (int64_t j = 0; j < w.n && !bad; j++) {
            const int64_t at = index_of(&w.c, i, j);
            const double value = get(w.single, x->c, at);
            put(w.single, wanted, at, exact_bits(&w, i, j));
            if (isfinite(w.alpha) && isfinite(w.beta) && !within_bound(&w, i, j, value)) {
                snprintf(sentence, sizeof sentence,
                         "element (%lld, %lld) is %.17g, expected about %.17g", (long long)i,
                         (long long)j, value, get(w.single, wanted, at));
                bad = sentence;
            }
        }
    }
    for (int64_t i = 0; i < x->c_elements && !bad; i++) {
        const double value = get(w.single, x->c, i), expected = get(w.single, wanted, i);
        if (value == expected || (isnan(value) && isnan(expected)))
            continue;
        snprintf(sentence, sizeof sentence, "element %lld in memory is %a, expected %a to the bit",
                 (long long)i, value, expected);
        bad = sentence;
    }
    guard_free(wanted);
    return bad;
}

bool blas_case_end(blas_case *x) {
    const bool a = guard_free(x->a), b = guard_free(x->b), c = guard_free(x->c),
               before = guard_free(x->c_before);
    return a && b && c && before;
}
