/* SPDX-License-Identifier: Apache-2.0 */
/* snippet.c: see snippet.h. Formats go by search in all their numbers, not by rounding. */
#include "snippet.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void snippet_run(int arch, const char *snippet, const io *in, io *out) {
    static char text[32768];
    snprintf(text, sizeof text,
             ".version 8.7\n.target sm_%d\n.address_size 64\n"
             ".visible .entry snippet(.param .u64 in, .param .u64 out)\n{\n"
             ".reg .b32 %%a<8>, %%d<8>, %%t<16>;\n.reg .b64 %%x<4>, %%y<4>, %%p<4>;\n"
             ".reg .pred %%q<8>;\n.reg .b16 %%h<16>;\n.shared .align 16 .b8 tile[1024];\n"
             "ld.param.u64 %%p0, [in];\nld.param.u64 %%p1, [out];\nmov.u32 %%t0, %%tid.x;\n"
             "mul.wide.u32 %%p2, %%t0, 32;\nadd.u64 %%p0, %%p0, %%p2;\nadd.u64 %%p1, %%p1, %%p2;\n"
             "ld.global.v4.u32 {%%a0,%%a1,%%a2,%%a3}, [%%p0];\n"
             "ld.global.v4.u32 {%%a4,%%a5,%%a6,%%a7}, [%%p0+16];\n"
             "mov.b64 %%x0, {%%a0,%%a1};\nmov.b64 %%x1, {%%a2,%%a3};\nmov.b64 %%x2, {%%a4,%%a5};\n"
             "mov.b64 %%x3, {%%a6,%%a7};\n"
             "mov.u32 %%d0, 0;\nmov.u32 %%d1, 0;\nmov.u32 %%d2, 0;\nmov.u32 %%d3, 0;\n"
             "mov.u32 %%d4, 0;\nmov.u32 %%d5, 0;\nmov.u32 %%d6, 0;\nmov.u32 %%d7, 0;\n"
             "mov.u64 %%y0, 0;\nmov.u64 %%y1, 0;\n"
             "%s\n"
             "st.global.v4.u32 [%%p1], {%%d0,%%d1,%%d2,%%d3};\n"
             "st.global.v4.u32 [%%p1+16], {%%d4,%%d5,%%d6,%%d7};\nret;\n}\n",
             arch, snippet);
    CUfunction f = cuda_function(cuda_ptx(text), "snippet");
    CUdeviceptr di = cuda_upload(in, sizeof *in), dout = cuda_zeros(sizeof *out);
    CU(cuda_run(f, 1, 1, 32, 0, (void *[]){&di, &dout}));
    cuda_download(out, dout, sizeof *out);
    CU(cuMemFree(di));
    CU(cuMemFree(dout));
}

float as_float(uint32_t x) {
    float f;
    memcpy(&f, &x, 4);
    return f;
}
uint32_t of_float(float f) {
    uint32_t x;
    memcpy(&x, &f, 4);
    return x;
}

void snippet_fill(io *in, rng *r) {
    static const uint32_t corners[] = {0,  1,  0xffffffff, 0x80000000, 0x7fffffff,
                                       31, 32, 33,         8,          255};
    for (int l = 0; l < LANES; ++l)
        for (int n = 0; n < WORDS; ++n)
            in->w[l][n] = rng_below(r, 4) == 0 ? corners[rng_below(r, 10)] : (uint32_t)rng_u64(r);
}

const format f16 = {5, 10, 15, true}, bf16 = {8, 7, 127, true}, e4m3 = {4, 3, 7, false},
             e5m2 = {5, 2, 15, true};

double format_number(format f, uint32_t bits) {
    uint32_t e = bits >> f.mantissa & ((1u << f.exponent) - 1), m = bits & ((1u << f.mantissa) - 1);
    double sign = bits >> (f.exponent + f.mantissa) & 1 ? -1 : 1;
    if (e == (1u << f.exponent) - 1 && (f.infinities || m == (1u << f.mantissa) - 1))
        return f.infinities && m == 0 ? sign * INFINITY : NAN;
    return sign * (e ? ldexp(1 + ldexp(m, -f.mantissa), (int)e - f.bias)
                     : ldexp(m, 1 - f.bias - f.mantissa));
}

uint32_t format_nearest(format f, double x, bool finite) {
    uint32_t sign = signbit(x) ? 1u << (f.exponent + f.mantissa) : 0, best = 0;
    double ax = fabs(x), top = 0;
    uint32_t largest = 0;
    if (x != x)
        return UINT32_MAX;
    for (uint32_t b = 0; b < 1u << (f.exponent + f.mantissa); ++b) {
        double v = format_number(f, b);
        if (!isfinite(v))
            continue;
        if (v > top) {
            top = v;
            largest = b;
        }
        double d = fabs(v - ax), e = fabs(format_number(f, best) - ax);
        if (d < e || (d == e && b % 2 == 0))
            best = b;
    }
    /* half a step above the largest is where infinity begins */
    double step = top - format_number(f, largest - 1);
    if (ax >= top + step / 2)
        return sign | (finite ? largest : largest + 1);
    return sign | best;
}
