/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subject_cblas.c: OpenBLAS, MKL, BLIS and others through cblas_sgemm (subject.h). CBLAS has no
 * status: a call that returns says that it worked. Threads are set by each library's environment
 * variable, which sweep.py sets, so that nothing but the product is called.
 */
#include "subject.h"

#include <stdint.h>
#include <string.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111 };

static void (*sgemm)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                     int lda, const float *b, int ldb, float beta, float *c, int ldc);

static bool start(void *library, int threads, char *why) {
    (void)threads;
    /* SciPy's wheels of OpenBLAS decorate the names. */
    return look_up(library, "scipy_cblas_sgemm", &sgemm, why) ||
           look_up(library, "cblas_sgemm", &sgemm, why);
}

static bool compute(const task *t, char *why) {
    (void)why;
    const int n = t->size;
    sgemm(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, n, n, n, 1, t->a, n, t->b, n, 0, t->out, n);
    return true;
}

static void version(void *library, char *text) {
    char why[WHY_BYTES];
    const char *(*tell)(void);
    void (*tell_mkl)(char *, int);
    if (look_up(library, "scipy_openblas_get_config", &tell, why) ||
        look_up(library, "openblas_get_config", &tell, why) ||
        look_up(library, "bli_info_get_version_str", &tell, why)) {
        refuse(text, "%s", tell());
    } else if (look_up(library, "MKL_Get_Version_String", &tell_mkl, why)) {
        memset(text, 0, WHY_BYTES);
        tell_mkl(text, WHY_BYTES - 1);
    }
}

const subject subject_cblas = {"cblas", TASK_PRODUCT, start, compute, version};
