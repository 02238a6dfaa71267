/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_standin_kernels.c: kernels that nvcc compiled (tests/cuda/kernels) run on the stand-in
 * driver and are compared with plain C, over several seeds; nothing may be found in them.
 */
#include "cuda_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t seeds[] = {1, 2, 3, 77, 123456789};
static const int archs[] = {80, 120, 90, 100, 80}; /* sm_120's own PTX, sm_80's on the others */
enum { SEEDS = sizeof seeds / sizeof *seeds };

static float bf16_value(uint16_t h) {
    uint32_t x = (uint32_t)h << 16;
    float f;
    memcpy(&f, &x, 4);
    return f;
}

static float f16_value(uint16_t h) { /* normal numbers and zeros, all that the tests make */
    int e = h >> 10 & 31;
    float f = e ? ldexpf((float)(1024 + (h & 1023)), e - 25) : ldexpf((float)(h & 1023), -24);
    return h & 0x8000 ? -f : f;
}

static float fp8_value(uint8_t b, bool e4m3) {
    int e = e4m3 ? b >> 3 & 15 : b >> 2 & 31, bits = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15;
    int man = b & ((1 << bits) - 1);
    float f = e ? ldexpf((float)((1 << bits) + man), e - bias - bits)
                : ldexpf((float)man, 1 - bias - bits);
    return b & 0x80 ? -f : f;
}

typedef enum element { BF16, F16, TF32, S8, E4M3, E5M2 } element;

static double value_of(element type, const void *p, int64_t i) {
    switch (type) {
    case BF16:
        return bf16_value(((const uint16_t *)p)[i]);
    case F16:
        return f16_value(((const uint16_t *)p)[i]);
    case TF32:
        return ((const float *)p)[i];
    case S8:
        return ((const int8_t *)p)[i];
    default:
        return fp8_value(((const uint8_t *)p)[i], type == E4M3);
    }
}

/* Numbers that the type holds, of about 1; tf32 ones have their low 13 bits clear. */
static void fill(element type, void *p, int64_t n, rng *r) {
    for (int64_t i = 0; i < n; ++i) {
        uint32_t x;
        float f = rng_f32(r);
        memcpy(&x, &f, 4);
        switch (type) {
        case BF16:
            ((uint16_t *)p)[i] = (uint16_t)(x >> 16);
            break;
        case F16:
            ((uint16_t *)p)[i] = (uint16_t)((rng_u64(r) & 0x83ff) | 0x3800);
            break;
        case TF32:
            x &= 0xffffe000;
            memcpy((uint32_t *)p + i, &x, 4);
            break;
        case S8:
            ((int8_t *)p)[i] = (int8_t)rng_u64(r);
            break;
        case E4M3:
            ((uint8_t *)p)[i] = (uint8_t)((rng_u64(r) & 0x8f) | 0x30);
            break;
        default:
            ((uint8_t *)p)[i] = (uint8_t)((rng_u64(r) & 0x87) | 0x38);
            break;
        }
    }
}

static void check_gemm(CUfunction f, element type, int size, int m, int n, int k, rng *r) {
    int64_t pitch = (k * size + 15) / 16 * 16, per_row = pitch / size;
    char *a = malloc((size_t)(m * pitch)), *b = malloc((size_t)(n * pitch));
    float *c = malloc((size_t)m * (size_t)n * 4);
    fill(type, a, m * per_row, r);
    fill(type, b, n * per_row, r);
    CUdeviceptr da = cuda_upload(a, (size_t)(m * pitch)), db = cuda_upload(b, (size_t)(n * pitch));
    CUdeviceptr dc;
    CU(cuMemAlloc(&dc, (size_t)m * (size_t)n * 4));
    void *arguments[] = {&da, &db, &dc, &m, &n, &k, &pitch, &pitch};
    CU(cuda_run(f, (unsigned)(n + 63) / 64, (unsigned)(m + 63) / 64, 128, 3 * 2 * 64 * 64,
                arguments));
    cuda_download(c, dc, (size_t)m * (size_t)n * 4);
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            double exact = 0, size_sum = 0, got;
            for (int p = 0; p < k; ++p) {
                double t = value_of(type, a, i * per_row + p) * value_of(type, b, j * per_row + p);
                exact += t;
                size_sum += fabs(t);
            }
            got = type == S8 ? ((int32_t *)c)[i * n + j] : c[i * n + j];
            /* a chain of k roundings; integers are exact */
            double bound = type == S8 ? 0 : k * 0x1p-24 * size_sum * 1.01;
            ck_assert_msg(fabs(got - exact) <= bound, "c[%d][%d] = %g, expected %g +- %g", i, j,
                          got, exact, bound);
        }
    CU(cuMemFree(da));
    CU(cuMemFree(db));
    CU(cuMemFree(dc));
    free(a);
    free(b);
    free(c);
}

START_TEST(gemm) {
    static const struct {
        const char *name;
        element type;
        int size;
    } rows[] = {
        {"gemm_bf16", BF16, 2}, {"gemm_f16", F16, 2}, {"gemm_tf32", TF32, 4}, {"gemm_s8", S8, 1}};
    rng r = rng_start("gemm");
    for (int s = 0; s < SEEDS; ++s) {
        cuda_start(archs[s], seeds[s]);
        CUmodule module = cuda_module("gemm_sm80");
        for (size_t t = 0; t < 4; ++t) {
            CUfunction f = cuda_function(module, rows[t].name);
            check_gemm(f, rows[t].type, rows[t].size, 64, 64, 64, &r);
            check_gemm(f, rows[t].type, rows[t].size, 65, 129, 200, &r);
            check_gemm(f, rows[t].type, rows[t].size, 1, 3, 5, &r);
        }
        cuda_expect_clean();
        standin_counters c = standin_counters_of("gemm_bf16");
        ck_assert_uint_gt(c.mma, 0);
        /* the swizzle keeps every access to shared memory free of conflicts */
        ck_assert_uint_eq(c.shared_wavefronts, c.shared_requests);
    }
}
END_TEST

START_TEST(gemm_fp8) {
    rng r = rng_start("gemm_fp8");
    cuda_start(89, 5);
    CUmodule module = cuda_module("gemm_sm89");
    check_gemm(cuda_function(module, "gemm_e4m3"), E4M3, 1, 70, 66, 150, &r);
    check_gemm(cuda_function(module, "gemm_e5m2"), E5M2, 1, 70, 66, 150, &r);
    check_gemm(cuda_function(module, "gemm_bf16"), BF16, 2, 70, 66, 150, &r);
    cuda_expect_clean();
}
END_TEST

START_TEST(softmax) {
    rng r = rng_start("softmax");
    enum { ROWS = 5, LONGEST = 700 };
    static const int lengths[] = {1, 31, 32, 257, LONGEST};
    for (int s = 0; s < SEEDS; ++s) {
        cuda_start(archs[s], seeds[s]);
        CUfunction f = cuda_function(cuda_module("plain"), "softmax");
        for (int t = 0; t < 5; ++t) {
            int n = lengths[t];
            static float x[ROWS * LONGEST], y[ROWS * LONGEST];
            rng_fill_f32(&r, x, ROWS * n);
            float scale = 7.5f;
            CUdeviceptr dx = cuda_upload(x, ROWS * (size_t)n * 4),
                        dy = cuda_zeros(ROWS * (size_t)n * 4);
            CU(cuda_run(f, ROWS, 1, 128, 0, (void *[]){&dx, &dy, &n, &scale}));
            cuda_download(y, dy, ROWS * (size_t)n * 4);
            for (int row = 0; row < ROWS; ++row) {
                double top = -INFINITY, sum = 0;
                for (int i = 0; i < n; ++i)
                    top = fmax(top, x[row * n + i] * scale);
                for (int i = 0; i < n; ++i)
                    sum += exp((double)(x[row * n + i] * scale) - top);
                for (int i = 0; i < n; ++i) {
                    double p = exp((double)(x[row * n + i] * scale) - top) / sum;
                    /* arguments of exp2 up to 22 with a rounding each, sums in pieces */
                    ck_assert_msg(fabs(y[row * n + i] - p) <= p * 64 * 0x1p-23,
                                  "row %d of %d: %g, not %g", row, n, y[row * n + i], p);
                }
            }
        }
        cuda_expect_clean();
    }
}
END_TEST

START_TEST(total) {
    rng r = rng_start("total");
    enum { N = 3001 };
    static int x[N];
    int64_t exact = 0;
    for (int i = 0; i < N; ++i)
        exact += x[i] = (int)rng_between(&r, -1000, 1000);
    for (int s = 0; s < SEEDS; ++s) {
        cuda_start(archs[s], seeds[s]);
        CUfunction f = cuda_function(cuda_module("plain"), "total");
        CUdeviceptr dx = cuda_upload(x, sizeof x), sum = cuda_zeros(12), most = sum + 4,
                    fsum = sum + 8;
        int n = N, result[3];
        float fresult;
        CU(cuda_run(f, 4, 1, 96, 0, (void *[]){&dx, &n, &sum, &most, &fsum}));
        cuda_download(result, sum, 12);
        memcpy(&fresult, &result[2], 4);
        int best = INT32_MIN;
        for (int t = 0; t < 4 * 96; ++t) {
            int mine = 0;
            for (int i = t; i < N; i += 4 * 96)
                mine += x[i];
            best = mine > best ? mine : best;
        }
        ck_assert_int_eq(result[0], exact);
        ck_assert_int_eq(result[1], best + 1000000);
        ck_assert_float_eq(fresult, (float)exact); /* all partial sums are small integers */
        cuda_expect_clean();
    }
}
END_TEST

static int wander_in_c(int x) {
    int a = x, steps = 0;
    while (a != 1 && steps < 200) {
        a = a & 1 ? 3 * a + 1 : a / 2;
        if (++steps == 150)
            break;
    }
    int v = 0;
    switch (x % 7) {
    case 0:
        return steps * 3;
    case 1:
        return steps - 11;
    case 2:
        for (int k = 0; k < x % 5; ++k)
            v += k * steps;
        return v;
    case 3:
        return -steps;
    case 4:
        return __builtin_popcount((unsigned)steps) + __builtin_clz((unsigned)a);
    case 5:
        return steps / 7 + steps % 7;
    default:
        return steps << 2;
    }
}

START_TEST(wander) {
    enum { N = 500 };
    static int x[N], y[N];
    for (int i = 0; i < N; ++i)
        x[i] = i + 1;
    for (int s = 0; s < SEEDS; ++s) {
        cuda_start(archs[s], seeds[s]);
        CUfunction f = cuda_function(cuda_module("plain"), "wander");
        CUdeviceptr dx = cuda_upload(x, sizeof x), dy = cuda_zeros(sizeof y);
        int n = N;
        CU(cuda_run(f, 5, 1, 104, 0, (void *[]){&dx, &dy, &n}));
        cuda_download(y, dy, sizeof y);
        for (int i = 0; i < N; ++i)
            ck_assert_int_eq(y[i], wander_in_c(x[i]));
        cuda_expect_clean();
    }
}
END_TEST

START_TEST(others) {
    rng r = rng_start("others");
    cuda_start(80, 9);
    CUmodule m = cuda_module("plain");
    enum { N = 70 };
    double x[N], y[N];
    for (int i = 0; i < N; ++i)
        x[i] = 20 * rng_unit(&r) - 2;
    CUdeviceptr dx = cuda_upload(x, sizeof x), dy = cuda_zeros(sizeof y);
    int n = N;
    CU(cuda_run(cuda_function(m, "doubles"), 3, 1, 32, 0, (void *[]){&dx, &dy, &n}));
    cuda_download(y, dy, sizeof y);
    for (int i = 0; i < N; ++i) { /* nvcc contracts, and divides as IEEE 754 does */
        double t =
            sqrt(fma(x[i], x[i], 1.0)) / (x[i] + 3.0) - floor(x[i]) + fma(x[i], 0.1, 1.0 / 3.0);
        ck_assert_double_eq_tol(y[i], t, 1e-14);
    }

    static uint8_t bytes[1000];
    int bins[16], expected[16] = {0};
    rng_fill_bytes(&r, bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; ++i)
        ++expected[bytes[i] % 16];
    CUdeviceptr db = cuda_upload(bytes, sizeof bytes), dbins = cuda_zeros(sizeof bins);
    n = (int)sizeof bytes;
    CU(cuda_run(cuda_function(m, "histogram"), 1, 1, 96, 0, (void *[]){&db, &n, &dbins}));
    cuda_download(bins, dbins, sizeof bins);
    for (int i = 0; i < 16; ++i)
        ck_assert_int_eq(bins[i], expected[i]);

    uint16_t h[2 * N], g[2 * N];
    for (int i = 0; i < 2 * N; ++i)
        h[i] = (uint16_t)((rng_u64(&r) & 0x83ff) | 0x3800);
    CUdeviceptr dh = cuda_upload(h, sizeof h), dg = cuda_zeros(sizeof g);
    n = N;
    CU(cuda_run(cuda_function(m, "halves"), 1, 1, 96, 0, (void *[]){&dh, &dg, &n}));
    cuda_download(g, dg, sizeof g);
    for (int i = 0; i < 2 * N; ++i) {
        double v = f16_value(h[i]), t = nearbyint(ldexp(v + 0.5, 10));
        double shifted = fabs(v + 0.5) >= 1 ? ldexp(t, -10) : v + 0.5; /* exact below 1 */
        double exact = v * v + shifted;
        ck_assert_double_eq_tol(f16_value(g[i]), exact, fabs(exact) * 0x1p-11 + 1e-7);
    }

    float part[160], sum = 0;
    double total_sum = 0;
    for (int i = 0; i < 160; ++i)
        total_sum += part[i] = rng_f32(&r);
    CUdeviceptr dp = cuda_upload(part, sizeof part), left = cuda_zeros(5 * 4),
                tickets = cuda_zeros(4), ds = cuda_zeros(4);
    CU(cuda_run(cuda_function(m, "last_block"), 5, 1, 32, 0,
                (void *[]){&dp, &left, &tickets, &ds}));
    cuda_download(&sum, ds, 4);
    ck_assert_double_eq_tol(sum, total_sum, 1e-4);
    cuda_expect_clean();
}
END_TEST

static Suite *kernels_suite(void) {
    Suite *s = suite_create("standin_kernels");
    TCase *c = tcase_create("kernels");
    tcase_set_timeout(c, 300);
    tcase_add_test(c, gemm);
    tcase_add_test(c, gemm_fp8);
    tcase_add_test(c, softmax);
    tcase_add_test(c, total);
    tcase_add_test(c, wander);
    tcase_add_test(c, others);
    suite_add_tcase(s, c);
    return s;
}

int main(void) {
    return run_suite(kernels_suite());
}
