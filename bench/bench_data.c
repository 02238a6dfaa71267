/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_data.c: operands (see bench_data.h). Conversions are written out here once more, plainly,
 * because a benchmark that checked tenon's results with tenon's own conversions would not see them
 * fail.
 */
#include "bench_data.h"

#include "bench_blocks.h"

#include "machine.h"
#include "options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define CACHE_LINE 64

int64_t bench_count(const int64_t *extents, int count) {
    int64_t product = 1;
    for (int i = 0; i < count; ++i) {
        if (product > INT64_MAX / extents[i])
            return -1;
        product *= extents[i];
    }
    return product;
}

bool bench_array_make(bench_array *array, tenon_dtype dtype, int64_t count) {
    size_t element = 0;
    int64_t block = 1;
    *array = (bench_array){0};
    if (tenon_dtype_block(dtype, &block, &element) != TENON_OK || count < 0 || count % block != 0 ||
        (uint64_t)count > SIZE_MAX / 2 / element) {
        complain("an operand is too large to be addressed");
        return false;
    }
    const size_t bytes = (size_t)(count / block) * element;
    void *data = NULL;
    if (posix_memalign(&data, CACHE_LINE, bytes ? bytes : 1) != 0) {
        complain("no memory for an operand of %zu bytes", bytes);
        return false;
    }
    *array = (bench_array){.data = data, .dtype = dtype, .count = count, .bytes = bytes};
    return true;
}

void bench_array_free(bench_array *array) {
    free(array->data);
    *array = (bench_array){0};
}

uint64_t bench_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

/* In [-1, 1), with as many bits as a double has. */
static double even_value(uint64_t random) {
    return (double)(random >> 11) * ldexp(1, -52) - 1;
}

/* A float of fewer bits than C's: a sign, the exponent and `mantissa` stored bits. */
typedef struct small_float {
    int bits, mantissa, bias;
    bool finite; /* no infinities: of the largest exponent only the largest mantissa is a NaN */
} small_float;

static const small_float f16 = {16, 10, 15, false}, bf16 = {16, 7, 127, false},
                         e4m3 = {8, 3, 7, true}, e5m2 = {8, 2, 15, false};

/* Such a value, truncated; denormals as 0. */
static unsigned small_bits(const small_float *f, double value) {
    int exponent;
    const double fraction = frexp(fabs(value), &exponent); /* in [1/2, 1), or 0 */
    if (fraction == 0 || exponent - 1 + f->bias < 1)
        return 0;
    const unsigned stored = (unsigned)ldexp(2 * fraction - 1, f->mantissa);
    return (value < 0 ? 1u : 0u) << (f->bits - 1) |
           (unsigned)(exponent - 1 + f->bias) << f->mantissa | stored;
}

void bench_array_fill(bench_array *array, uint64_t seed) {
    uint64_t state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
    if (bench_is_block(array->dtype)) {
        bench_blocks_fill(array->dtype, array->data, array->bytes, &state);
        return;
    }
    for (int64_t i = 0; i < array->count; ++i) {
        const uint64_t random = bench_random(&state);
        const double value = even_value(random);
        switch (array->dtype) {
        case TENON_F64:
            ((double *)array->data)[i] = value;
            break;
        case TENON_F32:
            ((float *)array->data)[i] = (float)value;
            break;
        case TENON_F16:
            ((uint16_t *)array->data)[i] = (uint16_t)small_bits(&f16, value);
            break;
        case TENON_BF16:
            ((uint16_t *)array->data)[i] = (uint16_t)small_bits(&bf16, value);
            break;
        case TENON_F8_E4M3:
            ((uint8_t *)array->data)[i] = (uint8_t)small_bits(&e4m3, value);
            break;
        case TENON_F8_E5M2:
            ((uint8_t *)array->data)[i] = (uint8_t)small_bits(&e5m2, value);
            break;
        default:
            ((uint8_t *)array->data)[i] = (uint8_t)(random >> 56);
            break;
        }
    }
}

void bench_array_poison(bench_array *array) {
    memset(array->data, 0xff, array->bytes);
}

static double small_value(const small_float *f, unsigned bits) {
    const int exponents = 1 << (f->bits - 1 - f->mantissa), mantissas = 1 << f->mantissa;
    const int exponent = (int)(bits >> f->mantissa) & (exponents - 1);
    const int stored = (int)bits & (mantissas - 1);
    const double sign = bits >> (f->bits - 1) ? -1 : 1;
    if (exponent == exponents - 1 && (!f->finite || stored == mantissas - 1))
        return stored ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0)
        return sign * ldexp(stored, 1 - f->bias - f->mantissa);
    return sign * ldexp(stored + mantissas, exponent - f->bias - f->mantissa);
}

double bench_array_get(const bench_array *array, int64_t i) {
    if (bench_is_block(array->dtype))
        return bench_blocks_get(array->dtype, array->data, i);
    switch (array->dtype) {
    case TENON_F64:
        return ((const double *)array->data)[i];
    case TENON_F32:
        return (double)((const float *)array->data)[i];
    case TENON_F16:
        return small_value(&f16, ((const uint16_t *)array->data)[i]);
    case TENON_BF16:
        return small_value(&bf16, ((const uint16_t *)array->data)[i]);
    case TENON_F8_E4M3:
        return small_value(&e4m3, ((const uint8_t *)array->data)[i]);
    case TENON_F8_E5M2:
        return small_value(&e5m2, ((const uint8_t *)array->data)[i]);
    case TENON_S8:
        return ((const int8_t *)array->data)[i];
    case TENON_U8:
        return ((const uint8_t *)array->data)[i];
    case TENON_S32:
        return ((const int32_t *)array->data)[i];
    default:
        return (double)NAN;
    }
}

void bench_array_evict(const bench_array *array) {
#if defined(__SSE2__)
    for (size_t at = 0; at < array->bytes; at += CACHE_LINE)
        _mm_clflush((const char *)array->data + at);
    _mm_mfence();
#else
    /* Without an instruction for it: push the data out by writing twice the caches' size elsewhere.
     */
    (void)array;
    static char *other;
    static size_t bytes;
    if (!other) {
        bytes = 2 * machine_caches_bytes(machine_cores());
        bytes = bytes ? bytes : (size_t)64 << 20;
        other = malloc(bytes);
    }
    for (size_t at = 0; other && at < bytes; at += CACHE_LINE)
        ((volatile char *)other)[at] = (char)(other[at] + 1);
#endif
}

double bench_rounding(tenon_dtype dtype) {
    switch (dtype) {
    case TENON_F64:
        return ldexp(1, -53);
    case TENON_F32:
        return ldexp(1, -24);
    case TENON_F16:
        return ldexp(1, -11);
    case TENON_BF16:
        return ldexp(1, -8);
    case TENON_F8_E4M3:
        return ldexp(1, -4);
    case TENON_F8_E5M2:
        return ldexp(1, -3);
    default:
        return 0;
    }
}
