/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenon_quantize and tenon_dequantize on every device: decoding against the tests' own decoder for any bytes, encoding by its error and, bit for
 * bit, against the reference; layouts, types, NaN. What the bytes of GGUF's own encoders are is compared with the gguf package
 * (tests/python/test_blocks.py).
 */
#include "block_operand.h"

#include <math.h>
#include <string.h>

#include "number.h"

/* Devices without encoders. */
static const char lacking_encoders[] = "opencl cuda";

enum { FIRST = TENON_Q8_0, LAST = TENON_NVFP4 };

static int64_t elements_of(tenon_dtype dtype) {
    int64_t elements = 1;
    ck_assert_int_eq(tenon_dtype_block(dtype, &elements, NULL), TENON_OK);
    return elements;
}

/* (2, rows, n) of blocks along the last dimension: block_input's with the last two exchanged. */
static operand blocks_of(world *w, tenon_dtype dtype, int64_t rows, int64_t n, layout in_memory) {
    const int64_t shape[3] = {2, n, rows};
    operand o = block_input(w, dtype, 3, shape, in_memory);
    o.before = world_alloc(w, o.bytes);
    memcpy(o.before, o.memory, o.bytes);
    return o;
}

static double expected_at(const operand *blocks, int64_t index) {
    const int64_t n = blocks->t.shape[1], rows = blocks->t.shape[2];
    const int64_t member = index / (rows * n), row = index / n % rows, i = index % n;
    return get(&blocks->exact, (member * n + i) * rows + row);
}

/* ---------------------------------------------------------------- decoding */

START_TEST(decoding) {
    static const tenon_dtype to[] = {TENON_F32, TENON_F16, TENON_BF16};
    world w = world_start("decode", device_id[_i]);
    int turn = 0;
    for (int b = FIRST; b <= LAST; ++b)
        for (int in_memory = 0; in_memory < LAYOUTS; ++in_memory)
            for (int t = 0; t < 3; ++t, ++turn) {
                const int64_t n = elements_of((tenon_dtype)b) * (1 + turn % 3), rows = 1 + turn % 5;
                const int64_t shape[3] = {2, rows, n};
                const layout out = (layout)((in_memory + t) % LAYOUTS);
                world_case(&w, "decode %s to %s, layouts %d %d", tenon_dtype_name((tenon_dtype)b),
                           tenon_dtype_name(to[t]), in_memory, (int)out);
                operand x = blocks_of(&w, (tenon_dtype)b, rows, n, (layout)in_memory);
                if (turn % 2) {
                    rng_fill_bytes(&w.random, x.memory, x.bytes);
                    block_exact(&w, &x);
                }
                operand y = output(&w, to[t], 3, shape, out == BACKWARD ? TRANSPOSED : out);
                const tenon_quantize_desc d = {.x = tenon_transposed(x.t), .y = y.t};
                if (!world_answered(&w, tenon_dequantize(w.ctx, &d), NULL))
                    continue;
                expect_untouched(&w, &y, NULL);
                for (int64_t i = 0; i < 2 * rows * n; ++i) {
                    const double value = expected_at(&x, i), found = get(&y.t, i);
                    if (isfinite(value) && isfinite(found) && to[t] == TENON_F32
                            ? value != found
                            : isnan(value) != isnan(found))
                        ck_abort_msg("%s: %s: element %d is %.9g, expected %.9g", w.device, w.what,
                                     (int)i, found, value);
                    if (isfinite(value))
                        expect(&w, &y, i, value, 0);
                }
            }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- encoding */

/*
 * The largest relative error, root of mean squares, of blocks of uniform numbers. A uniform quantiser of the range of b bits leaves
 * 2/√12 · 2^-b of a range of 2, of numbers whose mean square is 1/3: 2^-b. Twice that allows for the codes that a format wastes and for scales
 * that are stored in 6 bits.
 */
static double allowed_error(tenon_dtype dtype) {
    switch (dtype) {
    case TENON_Q8_0:
        return 2 * 0x1p-8;
    case TENON_Q6_K:
        return 2 * 0x1p-6;
    case TENON_Q5_0:
    case TENON_Q5_1:
    case TENON_Q5_K:
        return 2 * 0x1p-5;
    case TENON_MXFP4:
    case TENON_NVFP4: /* steps of a third of the range at its end */
        return 3 * 0x1p-4;
    default:
        return 2 * 0x1p-4;
    }
}

/* Bytes of the reference device for the same numbers. */
static void expect_reference_bytes(world *w, const operand *x, const operand *y) {
    unsigned char *bytes = world_alloc(w, y->bytes);
    memcpy(bytes, y->before, y->bytes);
    tenon_quantize_desc d = {.x = x->t, .y = tenon_transposed(y->t)};
    d.y.data = bytes + ((unsigned char *)y->t.data - y->memory);
    world_reference(w, tenon_quantize(w->reference, &d));
    if (memcmp(bytes, y->memory, y->bytes) != 0)
        ck_abort_msg("%s: %s: other bytes than the reference's", w->device, w->what);
}

START_TEST(encoding) {
    static const tenon_dtype from[] = {TENON_F32, TENON_F16, TENON_BF16};
    world w = world_start("encode", device_id[_i]);
    int turn = 0;
    for (int b = FIRST; b <= LAST; ++b)
        for (int in_memory = 0; in_memory < LAYOUTS; ++in_memory)
            for (int f = 0; f < 3; ++f, ++turn) {
                const int64_t n = elements_of((tenon_dtype)b) * (1 + turn % 2), rows = 1 + turn % 4;
                const int64_t shape[3] = {2, rows, n};
                const layout out = (layout)((in_memory + f) % LAYOUTS);
                world_case(&w, "encode %s to %s, layouts %d %d", tenon_dtype_name(from[f]),
                           tenon_dtype_name((tenon_dtype)b), in_memory, (int)out);
                operand x = input(&w, from[f], 3, shape, (layout)in_memory, 0, (range){-1, 1}),
                        y = blocks_of(&w, (tenon_dtype)b, rows, n, out == BACKWARD ? DENSE : out);
                memset(y.memory, 0xa5, y.bytes);
                memcpy(y.before, y.memory, y.bytes);
                const tenon_quantize_desc d = {.x = x.t, .y = tenon_transposed(y.t)};
                if (!world_answered(&w, tenon_quantize(w.ctx, &d), lacking_encoders))
                    continue;
                block_exact(&w, &y);
                double error = 0, size = 0;
                for (int64_t i = 0; i < 2 * rows * n; ++i) {
                    const double value = get(&x.exact, i), e = expected_at(&y, i) - value;
                    error += e * e;
                    size += value * value;
                }
                if (!(sqrt(error / size) <= allowed_error((tenon_dtype)b)))
                    ck_abort_msg("%s: %s: relative error %.4f, allowed %.4f", w.device, w.what,
                                 sqrt(error / size), allowed_error((tenon_dtype)b));
                expect_reference_bytes(&w, &x, &y);
            }
    world_end(&w);
}
END_TEST

/* What scales can't hold, one element of a block at a time: nothing traps, and what is not finite is found again. */
START_TEST(extremes) {
    static const double value[] = {0, -0.0, 1, 1e-30, 1e-42, 65504, 1e30, 3e38, INFINITY, NAN};
    world w = world_start("encode extremes", device_id[_i]);
    for (int b = FIRST; b <= LAST; ++b)
        for (size_t v = 0; v < sizeof value / sizeof *value; ++v)
            for (int alone = 0; alone < 2; ++alone) {
                const int64_t n = elements_of((tenon_dtype)b), shape[3] = {2, 1, n};
                world_case(&w, "%g%s in %s", value[v], alone ? ", alone," : "",
                           tenon_dtype_name((tenon_dtype)b));
                operand x = input(&w, TENON_F32, 3, shape, DENSE, 0, (range){-1, 1}),
                        y = blocks_of(&w, (tenon_dtype)b, 1, n, DENSE);
                for (int64_t i = 0; i < n; ++i)
                    if (!alone || i == n / 3)
                        set(&x, i, (double)(float)value[v]);
                const tenon_tensor blocks = tenon_transposed(y.t);
                const tenon_quantize_desc d = {.x = x.t, .y = blocks};
                if (!world_answered(&w, tenon_quantize(w.ctx, &d), lacking_encoders))
                    continue;
                expect_reference_bytes(&w, &x, &y);
                int64_t bad = -2;
                const tenon_status status = tenon_blocks_check(w.ctx, &blocks, &bad);
                if (status != (bad < 0 ? TENON_OK : TENON_ERROR_INVALID_ARGUMENT) ||
                    (!isfinite(value[v]) && bad != 0) || (fabs(value[v]) < 1e5 && bad >= 0))
                    ck_abort_msg("%s: %s: block %d is bad", w.device, w.what, (int)bad);
                block_exact(&w, &y);
                for (int64_t i = 0; bad < 0 && i < n; ++i)
                    if (!isfinite(expected_at(&y, i)))
                        ck_abort_msg("%s: %s: element %d", w.device, w.what, (int)i);
            }
    world_end(&w);
}
END_TEST

/* ---------------------------------------------------------------- checking */

/* By the tests' own decoder: blocks are bad if a scale is no number, which NVFP4 and MXFP4 hide from arithmetic. */
static bool is_bad(tenon_dtype dtype, const unsigned char *block) {
    if (dtype == TENON_NVFP4)
        for (int i = 0; i < 4; ++i)
            if (block[i] >= 0x7f)
                return true;
    if (dtype == TENON_MXFP4 && block[0] == 255)
        return true;
    for (int i = 0; i < elements_of(dtype); ++i) {
        double size;
        if (!isfinite(block_number(dtype, block, i, &size)) || !isfinite(size))
            return true;
    }
    return false;
}

START_TEST(checking) {
    world w = world_start("check", device_id[_i]);
    int found = 0, clean = 0;
    for (int b = FIRST; b <= LAST; ++b)
        for (int turn = 0; turn < 60; ++turn) {
            const tenon_dtype dtype = (tenon_dtype)b;
            const int64_t elements = elements_of(dtype), n = elements * 3, rows = 1 + turn % 7;
            world_case(&w, "check %s", tenon_dtype_name(dtype));
            operand x = blocks_of(&w, dtype, rows, n, (layout)(turn % LAYOUTS));
            const size_t bytes = number_size(dtype);
            if (turn % 3)
                rng_fill_bytes(&w.random, x.memory + x.bytes / bytes / 2 * bytes, bytes);
            const tenon_tensor t = tenon_transposed(x.t);
            int64_t expected = -1, bad = -2;
            for (int64_t i = 0; i < 2 * rows * 3 && expected < 0; ++i) {
                const int64_t at = i / (rows * 3) * t.stride[0] + i / 3 % rows * t.stride[1];
                if (is_bad(dtype,
                           (unsigned char *)t.data + (at / elements + i % 3) * (int64_t)bytes))
                    expected = i;
            }
            const tenon_status status = tenon_blocks_check(w.ctx, &t, &bad);
            if (bad != expected || status != (bad < 0 ? TENON_OK : TENON_ERROR_INVALID_ARGUMENT))
                ck_abort_msg("%s: %s: block %d, expected %d", w.device, w.what, (int)bad,
                             (int)expected);
            found += bad >= 0;
            clean += bad < 0;
        }
    printf("%d with bad blocks, %d without\n", found, clean);
    ck_assert(found > 10 && clean > 100);
    world_end(&w);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {decoding, encoding, extremes, checking};
    return conform_main("conformance quantize", tests, sizeof tests / sizeof *tests);
}
