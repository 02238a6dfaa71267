/* SPDX-License-Identifier: Apache-2.0 */
/* block_operand.c: see block_operand.h. */
#include "block_operand.h"

#include <math.h>
#include <string.h>

#include "number.h"

/* ---------------------------------------------------------------- what bytes mean */

static double half_at(const unsigned char *b) {
    return number_of_bits(number_format_of(TENON_F16), (uint32_t)b[0] | (uint32_t)b[1] << 8);
}

/* Nibble number i of `count`: the first half are low, the second high. */
static int nibble(const unsigned char *b, int i, int count) {
    return i < count / 2 ? b[i] % 16 : b[i - count / 2] / 16;
}

static int bit(const unsigned char *b, int i) {
    return b[i / 8] >> (i % 8) & 1;
}

/* Six-bit number r of the eight scales, or with r + 8 of the eight minima, in Q4_K's twelve bytes. */
static int six_bits(const unsigned char *b, int r) {
    if (r % 8 < 4)
        return b[r % 8 + (r < 8 ? 0 : 4)] % 64;
    const int low = r < 8 ? b[r % 8 + 4] % 16 : b[r % 8 + 4] / 16,
              high = b[r % 8 - (r < 8 ? 4 : 0)] / 64;
    return low + 16 * high;
}

static double e2m1(int code) {
    static const double value[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return code < 8 ? value[code] : 0 - value[code - 8];
}

static double ue4m3(int code) {
    const int exponent = code / 8 % 16, fraction = code % 8;
    if (code == 0x7f)
        return 0;
    return exponent ? ldexp(1 + fraction / 8.0, exponent - 7) : ldexp(fraction / 8.0, -6);
}

/* w = product − minimum */
typedef struct parts {
    double product, minimum;
} parts;

static parts parts_of(tenon_dtype dtype, const unsigned char *b, int i) {
    static const int iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};
    const int r = i / 32, j = i % 32;
    int q;
    switch (dtype) {
    case TENON_Q8_0:
        return (parts){half_at(b) * (b[2 + i] < 128 ? b[2 + i] : b[2 + i] - 256), 0};
    case TENON_Q4_0:
        return (parts){half_at(b) * (nibble(b + 2, i, 32) - 8), 0};
    case TENON_Q4_1:
        return (parts){half_at(b) * nibble(b + 4, i, 32), -half_at(b + 2)};
    case TENON_Q5_0:
        return (parts){half_at(b) * (nibble(b + 6, i, 32) + 16 * bit(b + 2, i) - 16), 0};
    case TENON_Q5_1:
        return (parts){half_at(b) * (nibble(b + 8, i, 32) + 16 * bit(b + 4, i)), -half_at(b + 2)};
    case TENON_Q4_K:
        q = nibble(b + 16 + r / 2 * 32, r % 2 * 32 + j, 64);
        return (parts){half_at(b) * six_bits(b + 4, r) * q,
                       half_at(b + 2) * six_bits(b + 4, r + 8)};
    case TENON_Q5_K:
        q = nibble(b + 48 + r / 2 * 32, r % 2 * 32 + j, 64) + 16 * bit(b + 16 + j, r);
        return (parts){half_at(b) * six_bits(b + 4, r) * q,
                       half_at(b + 2) * six_bits(b + 4, r + 8)};
    case TENON_Q6_K: {
        const int half = i / 128, scale = b[192 + i / 16];
        q = nibble(b + 64 * half, i % 128, 128) +
            16 * (b[128 + 32 * half + j] >> (2 * (r % 4)) & 3) - 32;
        return (parts){half_at(b + 208) * (scale < 128 ? scale : scale - 256) * q, 0};
    }
    case TENON_IQ4_NL:
        return (parts){half_at(b) * iq4_nl[nibble(b + 2, i, 32)], 0};
    case TENON_MXFP4:
        return (parts){ldexp(e2m1(nibble(b + 1, i, 32)), b[0] - 127), 0};
    case TENON_NVFP4:
        return (parts){ue4m3(b[i / 16]) * e2m1(nibble(b + 4 + i / 16 * 8, i % 16, 16)), 0};
    default:
        ck_abort_msg("no block type: %d", (int)dtype);
    }
}

double block_number(tenon_dtype dtype, const unsigned char *block, int i, double *size) {
    const parts x = parts_of(dtype, block, i);
    if (size)
        *size = fabs(x.product) + fabs(x.minimum);
    return (double)(float)(x.product - x.minimum); /* exact in double, and rounded once */
}

/* ---------------------------------------------------------------- operands */

/* f16 of random sign, in 2^low · [1, 2). */
static void draw_half(rng *r, unsigned char *at, int low) {
    const uint64_t bits = rng_u64(r);
    const uint32_t half = (uint32_t)(bits & 0x83ff) | (uint32_t)(15 + low) << 10;
    at[0] = (unsigned char)half;
    at[1] = (unsigned char)(half >> 8);
}

void block_draw(rng *r, tenon_dtype dtype, unsigned char *block) {
    size_t bytes = number_size(dtype);
    rng_fill_bytes(r, block, bytes);
    switch (dtype) {
    case TENON_Q8_0:
    case TENON_IQ4_NL:
        draw_half(r, block, -8);
        break;
    case TENON_Q4_0:
    case TENON_Q5_0:
        draw_half(r, block, -4);
        break;
    case TENON_Q4_1:
    case TENON_Q5_1:
        draw_half(r, block, -4);
        draw_half(r, block + 2, -1);
        break;
    case TENON_Q4_K:
    case TENON_Q5_K:
        draw_half(r, block, -10);
        draw_half(r, block + 2, -7);
        break;
    case TENON_Q6_K:
        draw_half(r, block + 208, -12);
        break;
    case TENON_MXFP4:
        block[0] = (unsigned char)rng_between(r, 122, 127);
        break;
    default: /* NVFP4: 2^-5 to 2 */
        for (int i = 0; i < 4; ++i)
            block[i] = (unsigned char)rng_between(r, 16, 64);
        break;
    }
}

/* Elements from the start to element `index` of the logical order. */
static int64_t offset_of(const tenon_tensor *t, int64_t index) {
    int64_t offset = 0;
    for (int32_t d = t->rank - 1; d >= 0; --d) {
        offset += index % t->shape[d] * t->stride[d];
        index /= t->shape[d];
    }
    return offset;
}

void block_exact(world *w, operand *o) {
    const int64_t count = count_of(&o->t);
    const int32_t k_dim = o->t.rank - 2;
    int64_t elements = 1;
    size_t bytes = 0;
    ck_assert_int_eq(tenon_dtype_block(o->t.dtype, &elements, &bytes), TENON_OK);
    o->exact = exact_zeros(w, o->t.rank, o->t.shape);
    o->size = exact_zeros(w, o->t.rank, o->t.shape);
    o->largest = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t p = i / o->t.shape[k_dim + 1] % o->t.shape[k_dim],
                      start = offset_of(&o->t, i) - p % elements;
        double *exact = (double *)o->exact.data + i;
        *exact =
            block_number(o->t.dtype, (unsigned char *)o->t.data + start / elements * (int64_t)bytes,
                         (int)(p % elements), (double *)o->size.data + i);
        if (isfinite(*exact))
            o->largest = fmax(o->largest, fabs(*exact));
    }
}

/* Strides of all dimensions but k, which has 1; in elements. */
static void lay_out(tenon_tensor *t, layout in_memory, int64_t elements) {
    const int32_t k_dim = t->rank - 2, n_dim = t->rank - 1;
    const int64_t k = t->shape[k_dim];
    int64_t stride = k > 0 ? k : elements;
    int32_t order[TENON_MAX_RANK]; /* from the innermost */
    int32_t count = 0;
    order[count++] = n_dim;
    for (int32_t d = k_dim - 1; d >= 0; --d)
        order[count++] = d;
    if (in_memory == STEPPED)
        stride *= 2;
    else if (in_memory == PADDED)
        stride += elements;
    t->stride[k_dim] = 1;
    for (int32_t i = 0; i < count; ++i) {
        const bool inside = in_memory == TRANSPOSED || in_memory == REVERSED;
        const int32_t d = inside ? order[count - 1 - i] : order[i];
        t->stride[d] = in_memory == BACKWARD ? -stride : stride;
        stride *= t->shape[d] > 0 ? t->shape[d] : 1;
    }
}

operand block_input(world *w, tenon_dtype dtype, int32_t rank, const int64_t *shape,
                    layout in_memory) {
    operand o = {.t = tenon_dense(NULL, dtype, rank, shape)};
    int64_t elements = 1, low = 0, high = 0;
    size_t bytes = 0;
    ck_assert_int_eq(tenon_dtype_block(dtype, &elements, &bytes), TENON_OK);
    lay_out(&o.t, in_memory, elements);
    for (int32_t d = 0; d < rank; ++d) {
        const int64_t reach = (shape[d] > 0 ? shape[d] - 1 : 0) * o.t.stride[d];
        *(reach < 0 ? &low : &high) += reach;
    }
    o.bytes = count_of(&o.t) > 0 ? (size_t)((high + 1 - low) / elements) * bytes : 0;
    o.memory = world_guarded(w, o.bytes, bytes % 2 == 0 && dtype != TENON_NVFP4 ? 2 : 1);
    o.t.data = o.memory - low / elements * (int64_t)bytes;
    for (size_t at = 0; at < o.bytes; at += bytes)
        block_draw(&w->random, dtype, o.memory + at);
    block_exact(w, &o);
    return o;
}
