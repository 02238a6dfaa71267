/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_standin_driver.c: the stand-in's driver functions: memory and its limits, the virtual-memory
 * functions, lazy streams and events, graphs, attributes and launch limits, faults on demand.
 */
#include "cuda_test.h"

#include <string.h>

enum { MIB = 1 << 20, GRANULE = 2 * MIB };

START_TEST(memory) {
    size_t available, total;
    cuda_start(80, 1);
    CU(cuMemGetInfo(&available, &total));
    ck_assert_uint_eq(total, (size_t)1 << 30);
    CUdeviceptr p, q, base;
    size_t bytes;
    CU(cuMemAlloc(&p, 1000));
    CU(cuMemAlloc(&q, 1000));
    ck_assert_uint_eq(p % 256, 0);
    ck_assert_uint_ne(p % 512, 0); /* no more alignment than CUDA promises */
    CU(cuMemGetAddressRange(&base, &bytes, p + 999));
    ck_assert(base == p && bytes == 1000);
    unsigned char back[1000];
    cuda_download(back, p, 1000);
    for (int i = 0; i < 1000; ++i)
        ck_assert_int_eq(back[i], 0xff); /* poison */
    CUdeviceptr big;
    ck_assert_int_eq(cuMemAlloc(&big, (size_t)1 << 30), CUDA_ERROR_OUT_OF_MEMORY);
    ck_assert_int_eq(cuMemAlloc(&big, 0), CUDA_ERROR_INVALID_VALUE);
    CU(cuMemFree(p));
    ck_assert_int_eq(cuMemFree(p), CUDA_ERROR_INVALID_VALUE);
    ck_assert_int_ne(cuMemcpyDtoH(back, p, 8), CUDA_SUCCESS);
    ck_assert_uint_eq(standin_count_of(STANDIN_FREED), 1);
    CU(cuMemFree(q));
    ck_assert_uint_eq(standin_get_live().bytes, 0);
}
END_TEST

START_TEST(virtual_memory) {
    cuda_start(80, 1);
    size_t granule;
    CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}};
    CU(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    ck_assert_uint_eq(granule, GRANULE);
    CUdeviceptr p;
    CUmemGenericAllocationHandle h[2];
    CUmemAccessDesc access = {.location = prop.location,
                              .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CU(cuMemAddressReserve(&p, 8 * GRANULE, 0, 0, 0));
    CU(cuMemCreate(&h[0], GRANULE, &prop, 0));
    CU(cuMemCreate(&h[1], GRANULE, &prop, 0));
    CU(cuMemMap(p, GRANULE, 0, h[0], 0));
    ck_assert_int_eq(cuMemsetD8(p, 1, 16), CUDA_ERROR_INVALID_VALUE); /* no access yet */
    CU(cuMemSetAccess(p, GRANULE, &access, 1));
    CU(cuMemMap(p + GRANULE, GRANULE, 0, h[1], 0)); /* grows in place */
    CU(cuMemSetAccess(p + GRANULE, GRANULE, &access, 1));
    ck_assert_int_eq(cuMemMap(p, GRANULE, 0, h[1], 0), CUDA_ERROR_ALREADY_MAPPED);
    CU(cuMemsetD32(p + GRANULE - 64, 7, 32)); /* across the seam */
    uint32_t back[32];
    cuda_download(back, p + GRANULE - 64, sizeof back);
    for (int i = 0; i < 32; ++i)
        ck_assert_uint_eq(back[i], 7);
    CU(cuMemUnmap(p + GRANULE, GRANULE));
    ck_assert_int_ne(cuMemsetD8(p + GRANULE, 1, 16), CUDA_SUCCESS);
    ck_assert_int_eq(cuMemAddressFree(p, 8 * GRANULE), CUDA_ERROR_INVALID_VALUE); /* still mapped */
    CU(cuMemUnmap(p, GRANULE));
    CU(cuMemRelease(h[0]));
    CU(cuMemRelease(h[1]));
    CU(cuMemAddressFree(p, 8 * GRANULE));
    ck_assert_uint_eq(standin_get_live().bytes, 0);
    standin_reset();
    standin_configure(&(standin_device){.no_vmm = true});
    CU(cuInit(0));
    int value;
    CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0));
    ck_assert_int_eq(value, 0);
    ck_assert_int_eq(cuMemAddressReserve(&p, GRANULE, 0, 0, 0), CUDA_ERROR_NOT_SUPPORTED);
}
END_TEST

/* Work is late: a host that doesn't wait reads poison, a stream that doesn't reads too early. */
START_TEST(streams) {
    bool early = false, late = false;
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        cuda_start(80, seed);
        CUstream a, b;
        CUevent e;
        int zero = 0, got[3] = {0};
        CU(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
        CU(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
        CUdeviceptr p = cuda_upload(&zero, 4);
        CU(cuMemsetD32Async(p, 1, 1, a));
        CU(cuMemcpyDtoHAsync(&got[0], p, 4, b)); /* nothing orders it behind the fill */
        ck_assert_int_eq(got[0], -1);
        CU(cuEventRecord(e, a));
        CU(cuStreamWaitEvent(b, e, 0));
        CU(cuMemcpyDtoHAsync(&got[1], p, 4, b)); /* this one is */
        CUresult asked = cuEventQuery(e);
        ck_assert(asked == CUDA_SUCCESS || asked == CUDA_ERROR_NOT_READY);
        CU(cuStreamSynchronize(b));
        ck_assert_int_eq(got[1], 1);
        early |= got[0] == 0;
        late |= got[0] == 1;
        CU(cuEventSynchronize(e));
        CU(cuMemcpyDtoH(&got[2], p, 4));
        ck_assert_int_eq(got[2], 1);
        CU(cuEventDestroy(e));
        CU(cuStreamDestroy(a));
        CU(cuStreamDestroy(b));
        ck_assert_uint_eq(standin_get_live().streams + standin_get_live().events, 0);
        cuda_expect_clean();
    }
    ck_assert(early && late);
}
END_TEST

/* Pinned memory is read when the stream comes to it, pageable memory at once. */
START_TEST(host_memory) {
    cuda_start(80, 1);
    CUstream s;
    int *pinned, pageable = 5, got[2];
    CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
    CU(cuMemHostAlloc((void **)&pinned, 4, 0));
    *pinned = 5;
    CUdeviceptr p = cuda_zeros(8);
    CU(cuMemcpyHtoDAsync(p, pinned, 4, s));
    CU(cuMemcpyHtoDAsync(p + 4, &pageable, 4, s));
    *pinned = pageable = 6;
    CU(cuStreamSynchronize(s));
    cuda_download(got, p, 8);
    ck_assert_int_eq(got[0], 6);
    ck_assert_int_eq(got[1], 5);
    CU(cuMemFreeHost(pinned));
}
END_TEST

START_TEST(graphs) {
    cuda_start(80, 1);
    CUfunction f = cuda_function(cuda_module("plain"), "total");
    int x[64], n = 64, sum;
    for (int i = 0; i < n; ++i)
        x[i] = i;
    CUdeviceptr dx = cuda_upload(x, sizeof x), out = cuda_zeros(12), most = out + 4, fsum = out + 8,
                other;
    CUstream s;
    CUgraph g;
    CUgraphExec exec;
    CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
    CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CU(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, s, (void *[]){&dx, &n, &out, &most, &fsum}, NULL));
    ck_assert_int_eq(cuMemAlloc(&other, 16), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    ck_assert_int_eq(cuStreamSynchronize(s), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CU(cuStreamEndCapture(s, &g));
    CU(cuGraphInstantiate(&exec, g, 0));
    for (int i = 0; i < 3; ++i)
        CU(cuGraphLaunch(exec, s));
    CU(cuStreamSynchronize(s));
    cuda_download(&sum, out, 4);
    ck_assert_int_eq(sum, 3 * 63 * 64 / 2);
    CU(cuGraphExecDestroy(exec));
    CU(cuGraphDestroy(g));
    cuda_expect_clean();
}
END_TEST

START_TEST(limits) {
    cuda_start(80, 1);
    CUfunction f = cuda_function(cuda_module("gemm_sm80"), "gemm_bf16");
    int value, blocks;
    CU(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, f));
    ck_assert_int_gt(value, 32); /* from the machine code */
    ck_assert_int_le(value, 255);
    CU(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, f));
    ck_assert_int_eq(value, 128);
    CU(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 128, 24576));
    ck_assert_int_ge(blocks, 3);
    CUdeviceptr p = cuda_zeros(64);
    int n = 1;
    int64_t pitch = 16;
    void *arguments[] = {&p, &p, &p, &n, &n, &n, &pitch, &pitch};
    ck_assert_int_eq(cuLaunchKernel(f, 1, 1, 1, 256, 1, 1, 0, NULL, arguments, NULL),
                     CUDA_ERROR_INVALID_VALUE);
    ck_assert_int_eq(cuLaunchKernel(f, 0, 1, 1, 128, 1, 1, 0, NULL, arguments, NULL),
                     CUDA_ERROR_INVALID_VALUE);
    ck_assert_int_eq(cuLaunchKernel(f, 1, 65536, 1, 128, 1, 1, 0, NULL, arguments, NULL),
                     CUDA_ERROR_INVALID_VALUE);
    ck_assert_int_eq(cuLaunchKernel(f, 1, 1, 1, 128, 1, 1, 49153, NULL, arguments, NULL),
                     CUDA_ERROR_INVALID_VALUE);
    CU(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 166912));
    ck_assert_int_eq(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 166913),
                     CUDA_ERROR_INVALID_VALUE);
    CU(cuLaunchKernel(f, 1, 1, 1, 128, 1, 1, 49153, NULL, arguments, NULL));
    CU(cuCtxSynchronize());
    CUmodule m; /* sm_89 code on sm_80 */
    standin_reset();
    cuda_start(75, 1);
    ck_assert_int_eq(cuModuleLoadData(&m, ".version 8.0\n.target sm_80\n.address_size 64\n"),
                     CUDA_ERROR_INVALID_PTX);
    void *address;
    CUdriverProcAddressQueryResult status;
    CU(cuGetProcAddress("cuMemAlloc", &address, 13000, 0, &status));
    ck_assert(address == (void *)cuMemAlloc);
    ck_assert_int_eq(cuGetProcAddress("cuNoSuch", &address, 13000, 0, &status),
                     CUDA_ERROR_NOT_FOUND);
}
END_TEST

START_TEST(faults) {
    cuda_start(80, 1);
    CUdeviceptr p;
    standin_arm("cuMemAlloc", 2, CUDA_ERROR_OUT_OF_MEMORY, false);
    CU(cuMemAlloc(&p, 16));
    ck_assert_int_eq(cuMemAlloc(&p, 16), CUDA_ERROR_OUT_OF_MEMORY);
    CU(cuMemAlloc(&p, 16));
    ck_assert_int_eq(standin_disarm(), 1);
    standin_arm(NULL, 1, CUDA_ERROR_UNKNOWN, true);
    ck_assert_int_eq(cuMemAlloc(&p, 16), CUDA_ERROR_UNKNOWN);
    ck_assert_int_eq(cuCtxSynchronize(), CUDA_ERROR_UNKNOWN);
    ck_assert_int_eq(standin_disarm(), 2);
    /* a launch that fails when the stream comes to it: later calls say so, for ever */
    CUfunction f = cuda_function(cuda_module("plain"), "halves");
    CUdeviceptr x = cuda_zeros(256);
    int n = 1;
    standin_arm_launch(1, CUDA_ERROR_ILLEGAL_ADDRESS);
    CU(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, (void *[]){&x, &x, &n}, NULL));
    ck_assert_int_eq(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
    ck_assert_int_eq(cuMemAlloc(&p, 16), CUDA_ERROR_ILLEGAL_ADDRESS);
    CUcontext other; /* the other device's context lives */
    CU(cuDevicePrimaryCtxRetain(&other, 1));
    CU(cuCtxPushCurrent(other));
    CU(cuMemAlloc(&p, 16));
    standin_lose_device(CUDA_ERROR_ECC_UNCORRECTABLE);
    ck_assert_int_eq(cuMemAlloc(&p, 16), CUDA_ERROR_ECC_UNCORRECTABLE);
}
END_TEST

static Suite *driver_suite(void) {
    Suite *s = suite_create("standin_driver");
    TCase *c = tcase_create("driver");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, memory);
    tcase_add_test(c, virtual_memory);
    tcase_add_test(c, streams);
    tcase_add_test(c, host_memory);
    tcase_add_test(c, graphs);
    tcase_add_test(c, limits);
    tcase_add_test(c, faults);
    suite_add_tcase(s, c);
    return s;
}

int main(void) {
    return run_suite(driver_suite());
}
