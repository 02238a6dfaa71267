/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_test.c: see cuda_test.h. */
#include "cuda_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cuda_start(int arch, uint64_t seed) {
    CUcontext c;
    standin_reset();
    standin_configure(&(standin_device){.arch = arch, .count = 2});
    standin_seed(seed);
    CU(cuInit(0));
    CU(cuDevicePrimaryCtxRetain(&c, 0));
    CU(cuCtxPushCurrent(c));
}

CUmodule cuda_module(const char *fatbin) {
    char path[1024];
    const char *folder = getenv("TENON_CUDA_KERNELS");
    snprintf(path, sizeof path, "%s/%s.fatbin", folder ? folder : ".", fatbin);
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s can't be opened", path);
    fseek(f, 0, SEEK_END);
    size_t bytes = (size_t)ftell(f);
    rewind(f);
    char *image = malloc(bytes);
    ck_assert_uint_eq(fread(image, 1, bytes, f), bytes);
    fclose(f);
    CUmodule m;
    CU(cuModuleLoadData(&m, image));
    free(image);
    return m;
}

CUmodule cuda_ptx(const char *text) {
    CUmodule m;
    CUresult r = cuModuleLoadData(&m, text);
    if (r != CUDA_SUCCESS)
        cuda_expect_clean();
    CU(r);
    return m;
}

CUfunction cuda_function(CUmodule m, const char *name) {
    CUfunction f;
    CUresult r = cuModuleGetFunction(&f, m, name);
    if (r != CUDA_SUCCESS)
        cuda_expect_clean();
    CU(r);
    return f;
}

CUdeviceptr cuda_upload(const void *from, size_t bytes) {
    CUdeviceptr p;
    CU(cuMemAlloc(&p, bytes));
    CU(cuMemcpyHtoD(p, from, bytes));
    return p;
}

CUdeviceptr cuda_zeros(size_t bytes) {
    CUdeviceptr p;
    CU(cuMemAlloc(&p, bytes));
    CU(cuMemsetD8(p, 0, bytes));
    return p;
}

void cuda_download(void *to, CUdeviceptr from, size_t bytes) {
    CU(cuMemcpyDtoH(to, from, bytes));
}

CUresult cuda_run(CUfunction f, unsigned gx, unsigned gy, unsigned threads, unsigned shared,
                  void **arguments) {
    CU(cuLaunchKernel(f, gx, gy, 1, threads, 1, 1, shared, NULL, arguments, NULL));
    return cuCtxSynchronize();
}

static void list_findings(void) {
    for (size_t n = 0; n < standin_count(); ++n) {
        const standin_finding *x = standin_at(n);
        printf("%s in %s, line %u, %llu times, block %u,%u,%u warp %d lane %d: %s\n",
               standin_kind_name(x->kind), x->kernel, x->line, (unsigned long long)x->times,
               x->block[0], x->block[1], x->block[2], x->warp, x->lane, x->text);
    }
}

void cuda_expect_clean(void) {
    if (standin_count() != 0)
        list_findings();
    ck_assert_uint_eq(standin_count(), 0);
}

void cuda_expect_only(standin_kind kind) {
    size_t n = standin_count_of(kind);
    if (n == 0 || n != standin_count())
        list_findings();
    ck_assert_msg(n > 0, "no finding of kind %s", standin_kind_name(kind));
    ck_assert_uint_eq(n, standin_count());
}
