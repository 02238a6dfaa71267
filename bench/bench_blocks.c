/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_blocks.c: elements of GGUF's block types one at a time (see bench_blocks.h). The layouts
 * are those of ggml-common.h.
 */
#include "bench_blocks.h"

#include "bench_data.h"

#include <math.h>
#include <string.h>

bool bench_is_block(tenon_dtype dtype) {
    return dtype >= TENON_Q8_0 && dtype <= TENON_NVFP4;
}

/* Finite ones. */
static double half(const uint8_t *p) {
    const int bits = p[0] | p[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double size = exponent ? ldexp(mantissa + 1024, exponent - 25) : ldexp(mantissa, -24);
    return bits & 0x8000 ? -size : size;
}

static int nibble(const uint8_t *qs, int64_t i) {
    return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

static int fifth(const uint8_t *qh, int64_t i) {
    return (qh[i / 8] >> i % 8 & 1) << 4;
}

static double fp4(int code) {
    static const double sizes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return code & 8 ? -sizes[code & 7] : sizes[code];
}

static double k_value(const uint8_t *b, const uint8_t *qh, const uint8_t *qs, int64_t i) {
    const uint8_t *s = b + 4;
    const int64_t r = i / 32, at = i % 32;
    const int scale = r < 4 ? s[r] & 63 : (s[r + 4] & 15) | s[r - 4] >> 6 << 4,
              minimum = r < 4 ? s[r + 4] & 63 : s[r + 4] >> 4 | s[r] >> 6 << 4;
    const int q = (qs[r / 2 * 32 + at] >> r % 2 * 4 & 15) | (qh ? (qh[at] >> r & 1) << 4 : 0);
    return half(b) * scale * q - half(b + 2) * minimum;
}

static double q6_value(const uint8_t *b, int64_t i) {
    const int64_t h = i / 128, quarter = i % 128 / 32, at = i % 32;
    const int low = b[h * 64 + quarter % 2 * 32 + at] >> quarter / 2 * 4 & 15,
              high = b[128 + h * 32 + at] >> 2 * quarter & 3;
    return half(b + 208) * (int8_t)b[192 + i / 16] * ((low | high << 4) - 32);
}

static double value(tenon_dtype dtype, const uint8_t *b, int64_t i) {
    static const int iq4[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                              1,    13,   25,  38,  53,  69,  89,  113};
    switch (dtype) {
    case TENON_Q8_0:
        return half(b) * (int8_t)b[2 + i];
    case TENON_Q4_0:
        return half(b) * (nibble(b + 2, i) - 8);
    case TENON_Q4_1:
        return half(b) * nibble(b + 4, i) + half(b + 2);
    case TENON_Q5_0:
        return half(b) * ((nibble(b + 6, i) | fifth(b + 2, i)) - 16);
    case TENON_Q5_1:
        return half(b) * (nibble(b + 8, i) | fifth(b + 4, i)) + half(b + 2);
    case TENON_Q4_K:
        return k_value(b, NULL, b + 16, i);
    case TENON_Q5_K:
        return k_value(b, b + 16, b + 48, i);
    case TENON_Q6_K:
        return q6_value(b, i);
    case TENON_IQ4_NL:
        return half(b) * iq4[nibble(b + 2, i)];
    case TENON_MXFP4:
        return ldexp(fp4(nibble(b + 1, i)), b[0] - 127);
    default: { /* NVFP4: scales of which bench_blocks_fill writes only normal ones */
        const int64_t run = i / 16, at = i % 16;
        const uint8_t byte = b[4 + 8 * run + at % 8], d = b[run];
        return ldexp((d & 7) + 8, (d >> 3 & 15) - 10) * fp4(at < 8 ? byte & 15 : byte >> 4);
    }
    }
}

void bench_blocks_fill(tenon_dtype dtype, void *data, size_t bytes, uint64_t *random) {
    size_t size = 1;
    (void)tenon_dtype_block(dtype, NULL, &size);
    for (size_t i = 0; i < bytes; ++i)
        ((uint8_t *)data)[i] = (uint8_t)(bench_random(random) >> 56);
    for (uint8_t *b = data; b < (uint8_t *)data + bytes; b += size) {
        /* Binary16 from 2^-7 to 2^-6 (K-blocks, which have scales of their own: 2^-13), then
         * minima of the other sign; the two formats of bytes around 1/8. */
        const uint8_t exponent = dtype >= TENON_Q4_K && dtype <= TENON_Q6_K ? 0x08 : 0x20;
        if (dtype == TENON_MXFP4)
            b[0] = (uint8_t)(124 + b[0] % 2);
        else if (dtype == TENON_NVFP4)
            for (int i = 0; i < 4; ++i)
                b[i] = (uint8_t)(4 << 3 | (b[i] & 7));
        else
            b[dtype == TENON_Q6_K ? 209 : 1] = (uint8_t)(exponent | (b[1] & 3));
        if (dtype == TENON_Q4_1 || dtype == TENON_Q5_1)
            b[3] = (uint8_t)(0xac | (b[3] & 3));
        if (dtype == TENON_Q4_K || dtype == TENON_Q5_K)
            b[3] = (uint8_t)(exponent | (b[3] & 3));
    }
}

double bench_blocks_get(tenon_dtype dtype, const void *data, int64_t index) {
    int64_t elements = 1;
    size_t bytes = 1;
    (void)tenon_dtype_block(dtype, &elements, &bytes);
    return value(dtype, (const uint8_t *)data + (size_t)(index / elements) * bytes,
                 index % elements);
}
